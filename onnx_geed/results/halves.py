"""The value over every second element, and whether it is another than that over all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Descriptor, told
from onnx_geed.results.intervals import (
    effective_number,
    gap_interval,
    linearised,
    side_of_zero,
)
from onnx_geed.results.schema import HalfPart, Statistics

__all__ = ["half_part"]

F64 = NDArray[np.float64]


def half_part(
    descriptor: Descriptor, elements: Sequence[str], whole: Statistics, half: Statistics
) -> tuple[HalfPart, list[str]]:
    """Return the value over every second element, and a doubt where it is another.

    Parameters
    ----------
    descriptor : Descriptor
        Of the measure.
    elements : sequence of str
        Names of every second element.
    whole, half : dict
        Statistics over all elements and over these.

    Returns
    -------
    part : dict
        The ``half`` of a record.
    doubts : list of str
        One where the difference of both is apart from 0, and the half's value outside the interval
        of the whole.
    """
    part: HalfPart = {
        "elements": list(elements),
        "value": half["value"],
        "ci95": half["ci95"],
        "unnormalised": half["unnormalised"],
        "difference": None,
        "difference_ci95": None,
    }
    if whole["value"] is None or half["value"] is None:
        return part, []
    apart = _spread(whole) - _spread(half) if whole["ci95"] and half["ci95"] else np.zeros(0)
    part["difference"] = difference = whole["value"] - half["value"]
    errors = [s["errors"] for s in (whole, half) if "errors" in s]
    counts_for = min(map(effective_number, errors), default=None)
    ends = gap_interval(apart, shares=descriptor.view == "classes", effective=counts_for)
    own = whole["ci95"]
    part["difference_ci95"] = list(ends) if ends else None
    if not side_of_zero(ends) or ends is None or own is None or own[0] <= half["value"] <= own[1]:
        return part, []
    return part, [
        f"over every second element the value is {told(descriptor, half['value']):.4g}, which is "
        f"{abs(difference):.2g} ± {(ends[1] - ends[0]) / 2:.1g} away: too few elements represent "
        "the group; use more"
    ]


def _spread(statistics: Statistics) -> F64:
    """Return values that average to the value, and vary over samples as it does."""
    per_sample = np.array(statistics["per_sample"])
    if "errors" not in statistics:
        return per_sample
    errors = np.array(statistics["errors"])
    return linearised(per_sample * errors.mean(), errors)
