"""Parts of a record of class scores at places: mIoU, and the measure over the foreground alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.results.intervals import IntervalKind, mean_interval
from onnx_geed.results.schema import Foreground, LabelOverlap, Overlap

__all__ = ["foreground_part", "overlap_part"]

F64 = NDArray[np.float64]


I64 = NDArray[np.int64]


def overlap_part(counts: I64, right: I64 | None, elements: Sequence[str]) -> Overlap:
    """Return ``miou``: the overlap of the classes of f(gx), moved back, with those of f(x).

    Parameters
    ----------
    counts : ndarray of int64, shape (3, n, classes)
        By element and class: places that both have, that the one has and that the other has.
    right : ndarray of int64, shape (3, n, classes), optional
        The same with labels in place of f(x).
    elements : sequence of str
        Names of the n elements, the identity first.

    Returns
    -------
    dict

    Notes
    -----
    Choice: counts are summed over samples before they are divided. The mean over classes leaves out
    those that occur in neither map under an element; the mean over elements leaves out the
    identity, of f(x) with itself.
    """
    part: Overlap = {
        "value": None,
        "per_element": {},
        "per_class": {},
        "labels": None,
    }
    part["value"], part["per_element"], part["per_class"] = _over_elements(counts, elements)
    if right is not None:
        value, per_element, per_class = _over_elements(right, elements)
        unmoved = _unions(right[:, :1])
        part["labels"] = LabelOverlap(
            value=value,
            unmoved=_mean(unmoved),
            per_element=per_element,
            per_class=per_class,
            per_class_unmoved=_by_class(unmoved),
            labelled=float(right[2, 0].sum() / counts[2, 0].sum()),
        )
    return part


def _over_elements(
    counts: I64, elements: Sequence[str]
) -> tuple[float | None, dict[str, float | None], dict[str, float]]:
    """Return the mean over the elements but the identity, means of each of them, and by class."""
    ratios = _unions(counts[:, 1:])
    means = [_mean(row) for row in ratios]
    known = [mean for mean in means if mean is not None]
    value = float(np.mean(known)) if known else None
    return value, dict(zip(elements[1:], means, strict=True)), _by_class(ratios)


def _unions(counts: I64) -> F64:
    """Return intersection over union (n, classes) of counts (3, n, classes); NaN without union."""
    both, one, other = counts
    union = one + other - both
    ratios = np.full(union.shape, np.nan)
    np.divide(both, union, out=ratios, where=union > 0)
    return ratios


def _mean(ratios: F64) -> float | None:
    """Return the mean of ratios that there are."""
    there = ratios[~np.isnan(ratios)]
    return float(there.mean()) if len(there) else None


def _by_class(ratios: F64) -> dict[str, float]:
    """Return the mean over elements of every class that occurs, by its number."""
    means = {str(c): _mean(column) for c, column in enumerate(ratios.T)}
    return {c: mean for c, mean in means.items() if mean is not None}


def foreground_part(
    means: F64,
    shares: I64,
    elements: Sequence[str],
    *,
    skipped: int,
    background: int,
    labelled: bool,
    interval: str,
    seed: int,
) -> Foreground:
    """Return ``foreground``: the measure over the places that are no background.

    Parameters
    ----------
    means : ndarray of float64, shape (N, n)
        Means over these places; NaN where there are none.
    shares : ndarray of int64, shape (N, 2)
        How many places of x these are, of how many.
    elements : sequence of str
        Names of the n elements.
    skipped : int
        How many of the first elements are left out of means, as of the record.
    background : int
        The class that is background.
    labelled : bool
        Whether labels say where it is, or f(x).
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict

    Notes
    -----
    Choice: a sample's places are averaged first, then elements and samples. A sample with no
    foreground under an element that counts, since it has none or g turned all of it out of the
    grid, is left out, so that ``per_element`` averages to ``value``.
    """
    counted = means[:, skipped:]
    some = np.ascontiguousarray(counted[~np.isnan(counted).any(axis=1)])
    rows = some.mean(axis=1)
    ends = mean_interval(rows, cast(IntervalKind, interval), seed=seed) if len(some) else None
    columns = some.mean(axis=0).tolist() if len(some) else [None] * counted.shape[1]
    total = int(shares[:, 1].sum())
    return {
        "value": float(rows.mean()) if len(some) else None,
        "ci95": list(ends) if ends else None,
        "per_element": dict(zip(elements[skipped:], columns, strict=True)),
        "samples": len(some),
        "share": float(shares[:, 0].sum() / total) if total else 0.0,
        "background": background,
        "by": "labels" if labelled else "prediction",
    }
