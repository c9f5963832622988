"""How a record reads: its perfect value, what stands in it, and what it means in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reading", "angle", "meaning", "read_record", "span"]

F64 = NDArray[np.float64]

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True, eq=False)
class Reading:
    """A record by the value that ranks it: larger means less equivariant.

    Parameters
    ----------
    measure, layer : str
        What was measured where.
    value : float
        Eq. (4), normalised where that keeps its order.
    unit : str
        What the numbers are.
    perfect : float
        The value of a perfectly equivariant map.
    ci95 : (float, float) or None
        Interval over samples.
    deviations : ndarray of float64, shape (N, n)
        Single deviations on the same scale.
    exact : float or None
        The value over the exact subgroup.
    exact_ci95 : (float, float) or None
        Its interval.
    normalised : bool
        Whether the numbers are those of the record's ``value``.
    trips : mapping of str to float
        The round trips among the record's references, on the same scale.
    untrained : float or None
        The value of the same network untrained, where it is on the same scale: not for
        ``latent-cos``, whose perfect value depends on each network's own M.
    """

    measure: str
    layer: str
    value: float
    unit: str
    perfect: float
    ci95: tuple[float, float] | None
    deviations: F64
    exact: float | None
    exact_ci95: tuple[float, float] | None
    normalised: bool
    trips: Mapping[str, float] = field(default_factory=dict)
    untrained: float | None = None

    @property
    def away(self) -> float:
        """Distance of the value from the perfect one; never negative but for rounding."""
        return self.value - self.perfect

    @property
    def per_sample(self) -> F64:
        """One value a sample."""
        mean: F64 = self.deviations.mean(axis=1)
        return mean

    @property
    def per_element(self) -> F64:
        """One value an element."""
        mean: F64 = self.deviations.mean(axis=0)
        return mean


def read_record(record: Mapping[str, Any]) -> Reading:
    """Read a record of ``measurements``.

    Parameters
    ----------
    record : mapping
        The record.

    Returns
    -------
    Reading
        Of the unnormalised value where M is missing, zero or negative, as gates take it.
    """
    from onnx_geed.intervals import mean_interval
    from onnx_geed.results import ranking_value

    value, what = ranking_value(record)
    m = record["normaliser"]
    divisor = float(m) if what == "value" and m else 1.0
    array = np.asarray(record["deviations"], dtype=np.float64) / divisor
    part = record["exact"]
    measure = record["measure"]
    perfect = {"channel-cos": -1.0, "latent-cos": -1.0 / divisor}.get(measure, 0.0)
    ends, exact, exact_ends = record["ci95"], None, None
    if what == "value":
        exact, exact_ends = (part["value"], part["ci95"]) if part else (None, None)
    else:
        ends = mean_interval(array.mean(axis=1))
        if part:
            exact = part["unnormalised"]
            rows = np.asarray(part["deviations"], dtype=np.float64)
            exact_ends = mean_interval(rows.mean(axis=1))
    return Reading(
        measure=measure,
        layer=record["layer"],
        value=value,
        unit=_unit(measure, what == "value"),
        perfect=perfect,
        ci95=_pair(ends),
        deviations=array,
        exact=exact,
        exact_ci95=_pair(exact_ends),
        normalised=what == "value",
        trips={
            name: float(entry[what])
            for name, entry in (record.get("references") or {}).items()
            if name.endswith("round_trip") and entry.get(what) is not None
        },
        untrained=_untrained(record, what),
    )


def _untrained(record: Mapping[str, Any], what: str) -> float | None:
    entry = (record.get("references") or {}).get("untrained") or {}
    if what == "value" and record["measure"] == "latent-cos":
        return None
    return entry.get(what)


def _pair(ends: Sequence[float] | None) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if ends else None


def _unit(measure: str, normalised: bool) -> str:
    units = {
        "channel-cos": "−cosine",
        "latent-l2": "distance / M" if normalised else "distance",
        "latent-cos": "−cosine / M" if normalised else "−cosine",
        "softmax-kl": "nats",
        "output-l2": "distance",
    }
    return units.get(measure, "deviation")


def meaning(record: Mapping[str, Any], order: int) -> str:
    """Say in words what a record's value means.

    Parameters
    ----------
    record : mapping
        The record.
    order : int
        Order of the group.

    Returns
    -------
    str
        One sentence.
    """
    read = read_record(record)
    if read.measure == "channel-cos":
        return (
            f"A map of the moved input has cosine {span(-read.value)} with the moved map; "
            f"1 would be perfect: {_grade(-read.value)}.{_beside(record, -read.value)}"
        )
    if read.measure == "latent-l2" and read.normalised:
        return (
            f"A sample's orbit spreads {span(read.value)} times as far as different samples are "
            "apart; 0 would be invariant."
        )
    if read.measure == "latent-cos":
        own, m = -float(record["unnormalised"]), record["normaliser"]
        between = f", between different samples {span(m)}" if m is not None else ""
        return f"Within an orbit the mean cosine is {span(own)}{between}; 1 would be invariant."
    if read.measure == "softmax-kl" and record["output_action"] == "trivial":
        most = math.log(order)
        share = read.value / most if most else 0.0
        return (
            f"Predictions move by {span(read.value)} nats, {_percent(share)} of the most there "
            f"can be (ln {order})."
        )
    if read.measure == "softmax-kl":
        return f"Predictions are {span(read.value)} nats from the permuted ones; 0 is perfect."
    return f"f(gx) lies {span(read.value)} from the moved f(x), in units of the tensor."


def _beside(record: Mapping[str, Any], cosine: float) -> str:
    """Say how alike maps of different samples are, where that takes from what a cosine says."""
    other = record.get("between_samples")
    if other is None or -other < 0.5 * cosine:
        return ""
    return f" But maps of different samples have {span(-other)} too."


def _grade(cosine: float) -> str:
    grades = (
        (0.9999, "equivariant within rounding"),
        (0.95, "close to equivariant"),
        (0.8, "mostly moving along"),
        (0.5, "moving along in part"),
        (0.2, "moving along a little"),
    )
    return next((text for least, text in grades if cosine >= least), "hardly moving along")


def _percent(share: float) -> str:
    if not share:
        return "0 %"
    if abs(share) < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def span(value: float) -> str:
    """Write a number for a sentence: three significant figures."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        # Three figures, but never a −1 that is not one.
        text = f"{value:.{digits}f}"
        text = f"{value:.6f}" if abs(value) < 1 <= abs(float(text)) else text
        return text.replace("-", "−")
    mantissa, power = f"{value:.1e}".replace("-", "−").split("e")
    return f"{mantissa}·10{str(int(power.replace('−', '-'))).translate(_RAISED)}"


def angle(group: str, element: str) -> str:
    """Say what an element does: its name with degrees.

    Parameters
    ----------
    group : str
        Name of the group.
    element : str
        Name of the element.

    Returns
    -------
    str
        Such as ``r1 (45°)``; the bare name where nothing more is known.
    """
    import re

    known = re.fullmatch(r"[CD](\d+)", group)
    turn = re.fullmatch(r"(s?)(?:r(\d+))?|e", element)
    if not known or not turn or element == "e":
        return element
    degrees = f"{360 * int(turn[2] or 0) / int(known[1]):g}°"
    if not turn[1]:
        return f"{element} ({degrees})"
    return f"{element} (mirror)" if turn[2] is None else f"{element} ({degrees}, then mirror)"
