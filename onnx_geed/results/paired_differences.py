"""The difference of two models on the same samples, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Scale, descriptor_of, gap_within, told, told_gap
from onnx_geed.results.comparability import action_name
from onnx_geed.results.intervals import (
    decisive_kind,
    effective_number,
    gap_interval,
    mean_interval,
    side_of_zero,
)
from onnx_geed.results.reading import Reading, on_one_scale, read_record
from onnx_geed.results.records import ROUNDING
from onnx_geed.results.schema import ComparisonEntry, Record
from onnx_geed.text import counted, span

__all__ = ["no_conclusion", "paired"]

F64 = NDArray[np.float64]


Ends = tuple[float, float] | None


# Relative values apart by more than this are worth a word where they tell the other model better.
_APART = 0.05


def paired(
    a: Record, b: Record, seed: int, *, apart: str = "", maps: bool = False
) -> ComparisonEntry:
    """Return the paired difference of two records.

    Parameters
    ----------
    a, b : dict
        Entries of ``measurements`` of the same measure.
    seed : int
        Seed of the bootstrap.
    apart : str
        Why their samples are not the same; empty where they are.
    maps : bool
        Whether they are two maps that predict the same tensor of the same model.

    Returns
    -------
    dict
        An entry of ``measurements`` of :func:`onnx_geed.compare`.
    """
    own = read_record(a), read_record(b)
    (x, y), scale = _own_units(own) if maps else on_one_scale(own)
    left, right = x.influence, y.influence
    apart = apart or "different samples" * (len(left) != len(right))
    gaps = None if apart else left - right
    number = _effective(x, y)
    t = None if gaps is None else mean_interval(gaps, effective=number)
    resampled = None
    if gaps is not None:
        resampled = mean_interval(gaps, "bootstrap", seed=seed, effective=number)
    shares = x.descriptor.view == "classes"
    used = "t"
    if gaps is not None and number is None:
        used = decisive_kind(gaps, shares=shares)
    ends = t if used == "t" else resampled
    if gaps is not None and used == "score":
        ends = gap_interval(gaps, shares=True)
    difference = float(left.mean() - right.mean())
    rounding = ROUNDING * _size(x, y)
    return {
        "measure": a["measure"],
        "layer": a["layer"] if a["layer"] == b["layer"] else f"{a['layer']} | {b['layer']}",
        "output_action_a": action_name(a),
        "output_action_b": action_name(b),
        "compared": scale,
        "a": float(left.mean()),
        "b": float(right.mean()),
        "value_a": a["value"],
        "value_b": b["value"],
        "relative_a": own[0].relative,
        "relative_b": own[1].relative,
        "normaliser_a": a["normaliser"],
        "normaliser_b": b["normaliser"],
        "difference": difference,
        "ci95": list(t) if t else None,
        "ci95_bootstrap": list(resampled) if resampled else None,
        "interval": used,
        "verdict_ci95": list(ends) if ends else None,
        "share_a_lower": None if gaps is None else float(_a_lower(x, y, gaps, rounding).mean()),
        "samples": None if gaps is None else len(gaps),
        "verdict": (not maps and no_conclusion(own, "AB"))
        or _verdict(a, b, scale, difference, gaps, apart, ends, rounding, maps),
        "warnings": _doubts_of_maps(a, b)
        if maps
        else _doubts(own, scale, difference, ends, rounding),
    }


def no_conclusion(readings: Sequence[Reading], names: Sequence[str]) -> str:
    """Say why no model is the better one, whatever their difference.

    Parameters
    ----------
    readings : sequence of Reading
        One a model.
    names : sequence of str
        What to call them.

    Returns
    -------
    str
        Empty where each of them reacts to the input: what gives one tensor for every sample gives
        it for every element too, which shows no invariance.
    """
    still = _still(readings, names)
    does = "hardly reacts" if len(still) == 1 else "hardly react"
    return f"no conclusion: {' and '.join(still)} {does} to the input" if still else ""


def _still(readings: Sequence[Reading], names: Sequence[str]) -> list[str]:
    return [name for name, one in zip(names, readings, strict=True) if one.hardly_reacts]


def _own_units(own: tuple[Reading, Reading]) -> tuple[list[Reading], Scale]:
    """Leave values of one tensor as they are: they share its units, and M."""
    if all(r.normalised for r in own):
        return list(own), "value"
    return [r.as_unnormalised() for r in own], "unnormalised"


def _effective(x: Reading, y: Reading) -> float | None:
    """Return for how many samples shares of the error count: a few may have nearly all of it."""
    errors = [r.errors for r in (x, y) if r.errors is not None]
    return min(map(effective_number, errors), default=None)


def _a_lower(x: Reading, y: Reading, gaps: F64, rounding: float) -> NDArray[np.bool_]:
    """Say on which samples A is better."""
    lower: NDArray[np.bool_] = gaps < -rounding
    if x.errors is None or y.errors is None:
        return lower
    # A share of the error by the sample's own share, since gaps move with the errors of all others:
    # tₐ / eₐ < t_b / e_b without the division, as a sample without any error has no share.
    margin = rounding * (x.errors + y.errors + np.abs(x.per_sample) + np.abs(y.per_sample))
    lower = x.per_sample * y.errors - y.per_sample * x.errors < -margin
    return lower


def _doubts_of_maps(a: Record, b: Record) -> list[str]:
    """Say where two predictions of one tensor are not held against it in the same way."""
    doubts = []
    actions = [(letter, r, r["output_action"] == "trivial") for letter, r in (("A", a), ("B", b))]
    still = [letter for letter, _, trivial in actions if trivial]
    # Classes have no mean: f(x) itself is the reference, as under any other action.
    if len(still) == 1 and not descriptor_of(a["measure"]).of_classes:
        fitted = next((letter for letter, r, _ in actions if r.get("fit")), None)
        cure = f"; {fitted}'s identity predicts that no channel moves" if fitted else ""
        doubts.append(
            f"{still[0]} is compared with the mean over its orbit, which includes f(gx) itself; "
            f"the other is compared with a prediction from f(x) alone{cure}"
        )
    counts = [len(r["per_element"]) for r in (a, b)]
    if counts[0] != counts[1]:
        doubts.append(f"A is a mean over {counted(counts[0], 'element')}, B over {counts[1]}")
    return doubts


def _size(x: Reading, y: Reading) -> float:
    """Return the scale of what is compared, of which rounding is a share."""
    if not (x.in_tensor_units or y.in_tensor_units):
        return 1.0  # cosines, nats, shares of M or of what samples differ by
    sizes = [float(np.abs(r.per_sample).max()) for r in (x, y)]
    sizes += [abs(s) for r in (x, y) for s in (r.between, r.normaliser) if s is not None]
    return max(sizes)


def _doubts(
    own: tuple[Reading, Reading], scale: Scale, difference: float, ends: Ends, rounding: float
) -> list[str]:
    descriptor = own[0].descriptor
    if scale == "unnormalised":
        if descriptor.perfect_over_m:
            doubt = (
                f"{_unrelated(own)}, so unnormalised values are compared, whose perfect value is "
            )
            doubt += f"{told(descriptor, descriptor.perfect, scale):g}"
        else:
            doubt = "M is negative, 0 or missing, so unnormalised values are compared"
            doubt += ", each in the units of its own latent space"
        return [doubt]
    if scale == "value" and descriptor.own_scale:
        return [
            f"{_unrelated(own)}, so values are compared in the units of each model's own outputs"
        ]
    first, second = (reading.relative for reading in own)
    if scale != "value" or first is None or second is None:
        return []
    seen = side_of_zero(ends) != 0 and abs(difference) > rounding
    if seen and (first - second) * difference < 0 and abs(first - second) > _APART:
        return [
            "relative to the difference between samples, the order is reversed: "
            f"{span(first)} for A, {span(second)} for B"
        ]
    return []


def _unrelated(own: tuple[Reading, Reading]) -> str:
    """Say why there is no value relative to different samples."""
    named = list(zip("AB", own, strict=True))
    if still := _still(own, "AB"):
        one = len(still) == 1
        return f"{' and '.join(still)} hardly react{'s' * one} to {'its' if one else 'their'} input"
    lacking = [letter for letter, reading in named if reading.relative is None]
    have = "has" if len(lacking) == 1 else "have"
    return f"{' and '.join(lacking)} {have} no value relative to the difference between samples"


def _verdict(
    a: Record,
    b: Record,
    scale: Scale,
    difference: float,
    gaps: F64 | None,
    unpaired: str,
    ends: Ends,
    rounding: float,
    maps: bool,
) -> str:
    """Return the only words that are said of a comparison, wherever it is shown."""
    unit = " of the difference between samples" if scale == "relative" else ""
    measure = descriptor_of(a["measure"])
    size = f"A − B = {_signed(told(measure, difference, scale))}{unit}"
    if gaps is None:
        return f"{unpaired}, so there is no paired interval ({size})"
    if ends is None:
        few = "one sample is too few"
        if len(gaps) > 1:
            few = "no conclusion: one sample has all of the error, which is too little"
        return f"{few} for an interval ({size})"
    if not gaps.any():
        return "A and B are the same on every sample"
    apart = side_of_zero(ends) != 0
    level = apart and abs(difference) <= rounding
    if np.abs(gaps).max() <= rounding:
        return "A and B are the same on every sample, within rounding"
    if level:
        return "A and B are the same within rounding"
    if not apart:
        low, high = told_gap(measure, ends, scale) or ends
        return f"no clear difference ({size}, 95 % interval {_signed(low)} to {_signed(high)})"
    low, high = sorted(map(abs, gap_within(measure, ends, scale)))
    by = f"by {abs(difference):.3g}{unit} (95 % interval {low:.3g} to {high:.3g})"
    named = [("A", a), ("B", b)] if difference < 0 else [("B", b), ("A", a)]
    if maps:
        axes = a["layout"] != b["layout"]
        first, second = (
            f"{letter}'s map ({action_name(r)}{axes * (' on ' + r['layout'])})"
            for letter, r in named
        )
        return f"{first} predicts better than {second} {by}"
    trivial = a["output_action"] == b["output_action"] == "trivial"
    better, other = (letter for letter, _ in named)
    return f"{better} is more {'in' if trivial else 'equi'}variant than {other} {by}"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else ''}{abs(value):.3g}"
