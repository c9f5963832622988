"""Only as many samples as needed: when to look at the intervals, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from onnx_geed.errors import GeedError
from onnx_geed.measures import descriptor_of
from onnx_geed.results.intervals import effective_number, mean_interval
from onnx_geed.results.records import ROUNDING
from onnx_geed.results.schema import PrecisionPart, Record

__all__ = [
    "FEWEST",
    "check_precision",
    "ended",
    "judge_precision",
    "looks",
    "precision_notes",
    "reaches",
]

#: Samples below which no interval ends a run.
FEWEST = 20


# Samples grow by half between two looks.
_GROWTH = 1.5


# What else a share of the error waits for.
_UNTIL = f", or a few samples have most of the error, which has to count for {FEWEST} equal ones"


def check_precision(precision: float | None, samples: int | None) -> None:
    """Refuse a precision that cannot be meant.

    Parameters
    ----------
    precision : float, optional
        Half-width as a share of the distance from perfect equivariance.
    samples : int, optional
        The most samples, where that was said.

    Raises
    ------
    GeedError
        If the precision is not in (0, 1], or the samples are fewer than may end a run.
    """
    if precision is None:
        return
    if not 0 < precision <= 1:  # NaN too
        raise GeedError(
            f"--precision {precision:g}: must be a share of the distance from perfect "
            "equivariance, above 0 and up to 1; 0.1 asks for ± 10 %"
        )
    if samples is not None and samples < FEWEST:
        raise GeedError(
            f"--samples {samples}: with --precision this is the upper limit, and a run needs at "
            f"least {FEWEST}; give {FEWEST} or more, or leave out one of the two"
        )


def looks(most: int) -> list[int]:
    """Return the numbers of samples after which intervals are looked at.

    Parameters
    ----------
    most : int
        All samples there are, or as many as may be taken.

    Returns
    -------
    list of int
        Rising; the last is ``most``.

    Notes
    -----
    Choice: 20, and half as many again each time (30, 45, 68, ...). The numbers depend on nothing
    else, so that a run ends at the same one whatever the batch size, the number of passes or the
    machine; and few looks cost less coverage than a look after every sample.
    """
    numbers, n = [], FEWEST
    while n < most:
        numbers.append(n)
        n = math.ceil(n * _GROWTH)
    return [*numbers, most]


def reaches(record: Record, precision: float) -> bool | None:
    """Say whether a record's interval is narrow enough.

    Parameters
    ----------
    record : dict
        An entry of ``measurements``.
    precision : float
        The share that was asked for.

    Returns
    -------
    bool or None
        ``None`` where there is no value at all, since M is missing or 0.

    Notes
    -----
    Half the width of ``ci95`` is at most max(p·|value − v0|, 1e-6), where v0 is the value of
    perfect equivariance, such as −1 for ``channel-cos`` and −1/M for ``latent-cos``.

    Choice: a rate of flips has no interval of no width here. Student t has none where all samples
    flip alike, commonly none of them; then Wilson's over the samples is judged in its place, since
    none of 20 is no proof that none ever flips. A share of the error needs errors that count for 20
    samples of one size too, (Σ error)² / Σ error²: samples on which the model is sure and right
    tell nothing of it.
    """
    value, ends = record["value"], record["ci95"]
    if value is None:
        return None
    if ends is None:
        return False
    if "errors" in record and effective_number(record["errors"]) < FEWEST:
        return False
    descriptor = descriptor_of(record["measure"])
    if descriptor.view == "classes" and ends[0] == ends[1]:
        ends = list(mean_interval(record["per_sample"], "wilson") or ends)
    perfect = descriptor.perfect_value(record["normaliser"])
    allowed = max(precision * abs(value - perfect), ROUNDING)
    return bool((ends[1] - ends[0]) / 2 <= allowed)


def judge_precision(records: Sequence[Record], precision: float) -> PrecisionPart:
    """Return the ``precision`` part of a result.

    Parameters
    ----------
    records : sequence of dict
        Entries of ``measurements``.
    precision : float
        The share that was asked for.

    Returns
    -------
    dict
        ``asked``; ``samples`` that were taken; ``reached``, whether every interval there is was
        narrow enough at 20 samples or more; ``undecided``, the values whose interval was not; and
        ``without_value``, those that have none, for which no sample is added.

    Notes
    -----
    All intervals have to be narrow enough after the same number of samples. The interval of the
    exact elements alone is not asked for.

    The stopping is sequential: a run is likelier to end where chance has made the samples look
    alike, so that an interval covers less than its nominal 95 %. Simulated for p from 0.1 to 0.5,
    against fresh samples as many, that costs up to 0.5 points of coverage for normal samples, 1.5
    for exponential ones, 3.5 for lognormal ones with σ = 1 and 11 with σ = 2, where Student t
    covers but 76 to 87 % anyway. A look after every sample would cost up to twice that. Choice:
    the interval stays the nominal one. A stricter rule for stopping (the 99 % interval, or two
    looks in a row) was tried: it takes half as many samples again or more and wins a point, as a
    smaller p does too.
    """
    narrow = {f"{r['measure']}@{r['layer']}": reaches(r, precision) for r in records}
    samples = int(records[0]["samples"]) if records else 0
    values = [ok for ok in narrow.values() if ok is not None]
    return {
        "asked": precision,
        "samples": samples,
        "reached": bool(values) and all(values) and samples >= FEWEST,
        "undecided": [name for name, ok in narrow.items() if ok is False],
        "without_value": [name for name, ok in narrow.items() if ok is None],
    }


def ended(part: PrecisionPart) -> bool:
    """Say whether no further sample is asked for."""
    return not part["undecided"] and part["samples"] >= FEWEST


def precision_notes(part: PrecisionPart) -> list[str]:
    """Say in words how a run ended.

    Parameters
    ----------
    part : dict
        From :func:`judge_precision`.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    asked, n = part["asked"], part["samples"]
    notes = []
    if part["reached"]:
        notes.append(
            f"--precision {asked:g} is reached after {n} samples; because the intervals decided "
            "when to stop, they cover slightly less than their nominal 95 % (up to 1 point less "
            "for normal samples, more for skewed ones)"
        )
    elif part["undecided"]:
        notes.append(
            f"--precision {asked:g} is not reached: after {n} samples, the interval of "
            f"{_names_text(part['undecided'])} is still wider"
            + _UNTIL
            * any(descriptor_of(r.split("@")[0]).of_error for r in part["undecided"])
        )
    elif n < FEWEST:
        notes.append(
            f"--precision {asked:g} is not reached: it needs at least {FEWEST} samples, and only "
            f"{n} were available"
        )
    if part["without_value"]:
        notes.append(
            f"--precision {asked:g} added no samples for {_names_text(part['without_value'])}: M "
            "is missing or 0, so there is no value"
        )
    return notes


def _names_text(names: Iterable[str]) -> str:
    first, *rest = names
    if len(rest) > 2:
        return f"{first}, {rest[0]} and {len(rest) - 1} more"
    return " and ".join([", ".join([first, *rest[:-1]]), rest[-1]]) if rest else first
