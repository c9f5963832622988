"""What is counted at the places of class scores: which classes overlap, and what is foreground.

f(gx) has been moved back to the places of x, so that classes are held against each other, and
against labels, place by place. Counts are whole numbers: their sums do not depend on an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures.measure import Measure

__all__ = ["Known", "PlaceCounts", "at_places", "count_places", "join_place_counts"]

F64 = NDArray[np.float64]


I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the places of some samples besides their scores.

    Parameters
    ----------
    labels : ndarray of int64, shape (N, P), optional
        The class of each place; negative where it has none.
    real : ndarray of bool, shape (N, P), optional
        False for padding.
    """

    labels: I64 | None = None
    real: NDArray[np.bool_] | None = None

    def of(self, some: slice) -> Known:
        """Return what is known of some of the samples."""
        labels, real = self.labels, self.real
        return Known(None if labels is None else labels[some], None if real is None else real[some])


@dataclass(frozen=True, eq=False)
class PlaceCounts:
    """Counts over the places of some orbits.

    Parameters
    ----------
    overlaps : ndarray of int64, shape (3, n, classes)
        Of every element and class: places that f(gx), moved back, and f(x) have both, that f(gx)
        has, and that f(x) has. Over all orbits, and the places that are compared.
    right : ndarray of int64, shape (3, n, classes), optional
        The same with labels in place of f(x), over the places that have one.
    foreground : ndarray of float64, shape (orbits, n), optional
        Mean of m over the places that are no background; NaN where there are none.
    shares : ndarray of int64, shape (orbits, 2), optional
        Places of x that are no background, and those that may be either.
    """

    overlaps: I64
    right: I64 | None = None
    foreground: F64 | None = None
    shares: I64 | None = None


def at_places(measure: Measure, kept: NDArray[np.float32]) -> F64:
    """Return what lies beside class scores of x, in the order of their places.

    Parameters
    ----------
    measure : Measure
        One of class scores at places.
    kept : ndarray of float32, shape (N, classes, ...)
        In kept order, the same for all classes.

    Returns
    -------
    ndarray of float64, shape (N, P)
    """
    places = measure.places
    assert places is not None
    return places.back(0, places.action.stacked(kept[:, None])[:, 0])[..., 0]


def count_places(
    measure: Measure, values: F64 | None, predicted: I64, classes: int, known: Known | None = None
) -> PlaceCounts:
    """Count over the places of some orbits.

    Parameters
    ----------
    measure : Measure
        One of class scores at places.
    values : ndarray of float64, shape (N, n, P), optional
        m place by place; needed where the measure has a background.
    predicted : ndarray of int64, shape (N, n, P)
        Classes of f(gx), moved back to x.
    classes : int
        How many there are.
    known : Known, optional
        Labels and padding.

    Returns
    -------
    PlaceCounts

    Notes
    -----
    Choice: a place is background where its label is, if it has one; where samples have labels, a
    place without one is neither background nor foreground. Without labels it is background where
    f(x) is for that class, whatever f(gx) is for.
    """
    assert measure.places is not None
    inside, known = measure.places.inside, known or Known()
    orbits, order, places = predicted.shape
    real = np.ones((orbits, places), dtype=np.bool_) if known.real is None else known.real
    own, labels = predicted[:, 0], known.labels
    labelled = real if labels is None else real & (labels >= 0)
    overlaps = np.zeros((3, order, classes), dtype=np.int64)
    right = None if labels is None else np.zeros_like(overlaps)
    for g in range(order):
        here = real & inside[g]
        overlaps[:, g] = _overlaps(predicted[:, g], own, here, classes)
        if right is not None and labels is not None:
            right[:, g] = _overlaps(predicted[:, g], labels, labelled & inside[g], classes)
    if measure.background is None:
        return PlaceCounts(overlaps, right)
    assert values is not None
    front = labelled & ((own if labels is None else labels) != measure.background)
    foreground = np.full((orbits, order), np.nan)
    for mean, orbit, chosen in zip(foreground, values, front, strict=True):
        for g in range(order):
            # Orbit by orbit, in one order of summation.
            if len(few := orbit[g][chosen & inside[g]]):
                mean[g] = few.mean()
    both = (front & inside[0], labelled & inside[0])
    shares = np.stack([chosen.sum(axis=1) for chosen in both], axis=1).astype(np.int64)
    return PlaceCounts(overlaps, right, foreground, shares)


def _overlaps(a: I64, b: I64, here: NDArray[np.bool_], classes: int) -> I64:
    """Return how many places two maps of classes have both, the first has and the second has."""
    a, b = a[here], b[here]
    return np.stack([np.bincount(of, minlength=classes) for of in (a[a == b], a, b)])


def join_place_counts(parts: Sequence[PlaceCounts]) -> PlaceCounts | None:
    """Bring the counts of several stretches of orbits together; none of none."""
    if not parts:
        return None
    right = [part.right for part in parts if part.right is not None]
    foreground = [part.foreground for part in parts if part.foreground is not None]
    shares = [part.shares for part in parts if part.shares is not None]
    return PlaceCounts(
        np.sum([part.overlaps for part in parts], axis=0),
        np.sum(right, axis=0) if right else None,
        np.concatenate(foreground) if foreground else None,
        np.concatenate(shares) if shares else None,
    )
