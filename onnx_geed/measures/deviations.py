"""G-EED, eq. (2) to (4): the deviations of one orbit under a measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, LayoutAction, Matrices, Permutation, PlacedAction
from onnx_geed.measures.feature_maps import (
    deviations_of_sums,
    mean_map,
    sums_of_maps,
    sums_of_pairs,
)
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.opposites import opposite_deviations, opposites
from onnx_geed.measures.scores import (
    ProbabilityError,
    check_logits,
    check_scores,
    classes_of_x,
    log_means,
    log_probabilities,
)

__all__ = [
    "channel_sums_of_orbits",
    "check_divergences",
    "class_counts",
    "deviations_from_references",
    "deviations_of_orbits",
    "f_hat",
    "measured_at_places",
    "operands_of_orbits",
    "orbit_deviations",
    "pair_deviations",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I64 = NDArray[np.int64]


@checked
def orbit_deviations(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) f̂(x)) for the orbit of one sample.

    Parameters
    ----------
    measure : Measure
        m, the tensor and φ_Y.
    y : ndarray, shape (n, rows, F) or (n, k)
        f(gx), finite, as ``view`` brings it; logits or probabilities for a measure of class
        scores.
    members : sequence of int, optional
        Elements of a subgroup to use instead of G, identity first; all by default.

    Returns
    -------
    deviations : ndarray of float64, shape (n,) or (len(members),)
        One per element, in the measure's unit.
    zero_pairs : ndarray of float64, shape as ``deviations``
        Share of cosines between two zero vectors.

    Raises
    ------
    GeedError
        If ``y`` is of another shape, or ``members`` are no indices of elements.
        If an activation is NaN or infinite; the message names element and tensor.
        If the measure states no kind and the values do not look like logits.
    ProbabilityError
        If a probability is positive and that of the reference is zero.

    Notes
    -----
    The inner summand of eq. (4), with f̂ of eq. (2): the mean over the elements of ker(φ_Y) that
    are in ``members``.
    """
    order = measure.action.group.order
    if y.ndim < 2 or len(y) != order or 0 in y.shape:
        raise GeedError(f"y is an array ({order}, rows, F) or ({order}, k), found {y.shape}")
    if members is not None:
        measure.action.group.check_elements("members", members)
        if not members:
            raise GeedError("members is empty; name the identity, 0, at least")
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        element = measure.action.group.elements[int(bad[0][0])]
        raise GeedError(
            f"activations hold NaN or infinity: element {element}, tensor {measure.layer!r}"
        )
    # A single score in [0, 1] for each of a few elements tells nothing.
    if measure.descriptor.of_classes and measure.kind is None:
        scores = y if measure.places is None else measure.places.back(0, y)
        if scores.shape[-1] > 1:
            check_logits(scores, measure.name, measure.layer)
    deviations, zero_pairs = deviations_of_orbits(measure, y[None], members)
    return deviations[0], zero_pairs[0]


def deviations_of_orbits(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) f̂(x)) for the orbits of several samples, which are not checked.

    Parameters
    ----------
    measure : Measure
        m, the tensor and φ_Y.
    y : ndarray, shape (N, n, C, H, W) or (N, n, k)
        f(gx), finite.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G.

    Returns
    -------
    deviations, zero_pairs : ndarray of float64, shape (N, n) or (N, len(members))
        Bit for bit as orbit by orbit.

    Raises
    ------
    ProbabilityError
        If a probability is positive and that of the reference is zero.
    """
    chosen = range(y.shape[1]) if members is None else members
    averaged = [g for g in measure.averaged if g in set(chosen)]
    orbits = operands_of_orbits(measure, y)
    references = f_hat(measure, orbits, averaged)
    return deviations_from_references(measure, orbits, references, members)


def operands_of_orbits(measure: Measure, y: NDArray[Any]) -> NDArray[Any]:
    """Return f(gx) as m compares it.

    Parameters
    ----------
    measure : Measure
        m, the tensor and φ_Y.
    y : ndarray, shape (N, n, C, H, W) or (N, n, k)
        f(gx), finite.

    Returns
    -------
    ndarray
        Maps (N, n, rows, F) in float32; points (N, n, k), whole tensors laid end to end, or
        log-probabilities in float64. Of scores at places, moved back to those of x,
        log-probabilities (N, n, P, k); of classes (N, n, P, 1).

    Raises
    ------
    ProbabilityError
        If a probability is outside [0, 1].
    """
    view = measure.descriptor.view
    if view == "maps":
        return np.ascontiguousarray(y, dtype=np.float32).reshape(*y.shape[:3], -1)
    if view == "whole":
        return np.ascontiguousarray(y, dtype=np.float64).reshape(*y.shape[:2], -1)
    if view == "classes":
        return _classes_moved_back(measure, y)
    if measure.places is not None:
        return _logs_moved_back(measure, y)
    if view == "scores":
        return log_probabilities(y, measure.reads)
    return np.ascontiguousarray(y, dtype=np.float64)


def _logs_moved_back(measure: Measure, y: NDArray[Any]) -> F64:
    """Return log-probabilities (N, n, P, k) of scores (N, n, rows, F), at the places of x."""
    places = measure.places
    assert places is not None
    check_scores(y, measure.reads)
    moved: F64 | None = None
    for g in range(y.shape[1]):
        logs = log_probabilities(places.back(g, y[:, g]), measure.reads, check=False)
        if moved is None:  # filled in, as a list that is stacked takes twice as much
            moved = np.empty((len(logs), y.shape[1], *logs.shape[1:]))
        classes = places.back_of_classes(g)
        moved[:, g] = logs if classes is None else logs[..., np.argsort(classes)]
    assert moved is not None
    return moved


def _classes_moved_back(measure: Measure, y: NDArray[Any]) -> F64:
    """Return predicted classes (N, n, P, 1) of scores, as those of x that they stand for."""
    places, action = measure.places, measure.action
    check_scores(y, measure.reads)
    moved = []
    for g in range(y.shape[1]):
        scores = y[:, g, None] if places is None else places.back(g, y[:, g])
        table = action.table[g] if isinstance(action, Permutation) else None
        table = table if places is None else places.back_of_classes(g)
        moved.append(classes_of_x(scores, measure.reads, table))
    return np.stack(moved, axis=1)[..., None].astype(np.float64)


def f_hat(
    measure: Measure, orbits: NDArray[Any], elements: Sequence[int] | None = None
) -> NDArray[Any]:
    """Return f̂(x) of some orbits, eq. (2), which φ_Y(g) moves to where f(gx) is expected.

    Parameters
    ----------
    measure : Measure
        m, the tensor and φ_Y.
    orbits : ndarray
        As :func:`operands_of_orbits` returns them.
    elements : sequence of int, optional
        Elements to average over; ker(φ_Y) by default.

    Returns
    -------
    ndarray
        Maps (N, C, H·W) in float32; points (N, k) in float64; log f̂ of log-probabilities; the
        classes of x itself, as classes have no mean; of small motions (N, n, k), each element's
        opposite.
    """
    if measure.descriptor.opposed:
        return opposites(measure, orbits)
    averaged = list(measure.averaged if elements is None else elements)
    view = measure.descriptor.view
    if view == "maps":
        if len(averaged) == 1:
            return np.ascontiguousarray(orbits[:, averaged[0]])
        return np.stack([mean_map(orbit[averaged]) for orbit in orbits])
    rows = _taken(orbits, averaged)
    return log_means(rows) if view == "scores" else rows.mean(axis=1)


def deviations_from_references(
    measure: Measure,
    orbits: NDArray[Any],
    references: NDArray[Any],
    members: Sequence[int] | None = None,
    *,
    check: bool = True,
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) r) of some orbits and references r.

    Parameters
    ----------
    measure : Measure
        m, the tensor and φ_Y.
    orbits : ndarray, shape (N, n, ...)
        As :func:`operands_of_orbits` returns them.
    references : ndarray, shape (N, ...)
        As :func:`f_hat` returns them: of the same samples, eq. (4), or of others.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G.
    check : bool
        Whether an infinite divergence is refused, or returned.

    Returns
    -------
    deviations, zero_pairs : ndarray of float64, shape (N, n) or (N, len(members))

    Raises
    ------
    ProbabilityError
        If a probability is positive and that of the reference is zero.
    """
    chosen = list(range(orbits.shape[1]) if members is None else members)
    descriptor = measure.descriptor
    if descriptor.opposed:
        deviations = opposite_deviations(measure, orbits, references)
        return deviations, np.zeros(deviations.shape)
    if descriptor.view == "maps":
        sums = sums_of_maps(orbits, references, measure.action, measure.support)
        sums = sums if members is None else np.take(sums, chosen, axis=1)
        return deviations_of_sums(measure, sums)[:2]
    if orbits.ndim == 4:
        deviations = _deviations_at_places(measure, orbits, references, chosen)
        if descriptor.view == "scores" and check:
            check_divergences(measure, deviations, chosen)
        return deviations, np.zeros(deviations.shape)
    points = _taken(orbits, chosen)
    expected = _moved(measure.action, references, chosen)
    # Functions of pairs go row by row: all orbits at once are so many more rows.
    size = points.shape[2]
    rows = _deviations_of_rows(measure, points.reshape(-1, size), expected.reshape(-1, size))
    deviations, zeros = rows.reshape(points.shape[:2]), np.zeros(points.shape[:2])
    if descriptor.view == "scores" and check:
        check_divergences(measure, deviations, chosen)
    if descriptor.similarity:
        either = points.any(axis=2) | expected.any(axis=2)
        zeros = np.logical_not(either).astype(np.float64)
    return deviations, zeros


def _deviations_at_places(
    measure: Measure, orbits: F64, references: F64, chosen: Sequence[int]
) -> F64:
    """Return means over places (N, elements) of what was moved back, (N, n, P, k)."""
    values = _values_at_places(measure, orbits, references, chosen)
    # A vector of scores is one place, which every element keeps.
    return values[..., 0] if measure.places is None else measure.places.mean(values, chosen)


def _values_at_places(measure: Measure, orbits: F64, references: F64, chosen: Sequence[int]) -> F64:
    """Return m place by place (N, elements, P) of what was moved back, (N, n, P, k)."""
    values = np.empty((len(orbits), len(chosen), orbits.shape[2]))
    for orbit, reference, out in zip(orbits, references, values, strict=True):
        for row, g in zip(out, chosen, strict=True):
            measure.descriptor.pairs(orbit[g], reference, row)
    return values


def measured_at_places(measure: Measure, y: NDArray[Any]) -> tuple[F64, F64, I64]:
    """Return what a measure of class scores sees at each place of some orbits.

    Parameters
    ----------
    measure : Measure
        One of class scores at places.
    y : ndarray, shape (N, n, rows, F)
        f(gx), finite.

    Returns
    -------
    deviations : ndarray of float64, shape (N, n)
        Bit for bit as :func:`deviations_of_orbits` returns them.
    values : ndarray of float64, shape (N, n, P)
        m place by place, of which these are means over the places that are compared.
    classes : ndarray of int64, shape (N, n, P)
        Predicted classes, moved back to x.

    Raises
    ------
    ProbabilityError
        If a probability is positive and that of the reference is zero.
    """
    assert measure.places is not None
    chosen = range(y.shape[1])
    orbits = operands_of_orbits(measure, y)
    values = _values_at_places(measure, orbits, f_hat(measure, orbits), chosen)
    deviations = measure.places.mean(values, chosen)
    if measure.descriptor.view == "scores":
        check_divergences(measure, deviations, chosen)
        orbits = _classes_moved_back(measure, y)
    return deviations, values, orbits[..., 0].astype(np.int64)


def _taken(orbits: F64, elements: Sequence[int]) -> F64:
    """Return the vectors of some elements, (N, elements, k), in one piece of memory."""
    if list(elements) == list(range(orbits.shape[1])):
        return np.ascontiguousarray(orbits)
    # Taken, not indexed: an index may give another order in memory, and so of summation.
    taken: F64 = np.take(orbits, elements, axis=1)
    return taken


def _moved(action: Action, references: F64, chosen: Sequence[int]) -> F64:
    """Return φ_Y(g) r of each reference for the chosen elements, (N, elements, k)."""
    if isinstance(action, LayoutAction):
        rows = references.reshape(len(references), -1, action.moves.size)
        moved = [action.apply_to_rows(g, rows).reshape(references.shape) for g in chosen]
        return np.ascontiguousarray(np.stack(moved, axis=1))
    if isinstance(action, Matrices):
        # One vector at a time: a product over all of them might add up in another order.
        return np.stack([np.stack([action.apply(g, r) for g in chosen]) for r in references])
    shape = action.shape if isinstance(action, PlacedAction) else references.shape[1:]
    placed = references.reshape(len(references), *shape)
    moved = [action.apply(g, placed).reshape(references.shape) for g in chosen]
    return np.stack(moved, axis=1)


def _deviations_of_rows(measure: Measure, points: F64, references: F64) -> F64:
    """Return m of rows (rows, k), in one piece of memory."""
    out = np.empty(len(points))
    measure.descriptor.pairs(points, references, out)
    return np.negative(out) if measure.descriptor.similarity else out


def channel_sums_of_orbits(measure: Measure, y: NDArray[Any]) -> F64:
    """Return the three sums behind eq. (5) for some orbits.

    Parameters
    ----------
    measure : Measure
        One of feature maps.
    y : ndarray of float32, shape (N, n, C, H, W)
        f(gx).

    Returns
    -------
    ndarray of float64, shape (N, n, C, 3)
        Σ u·v, Σ u², Σ v² of each channel.
    """
    orbits = operands_of_orbits(measure, y)
    return sums_of_maps(orbits, f_hat(measure, orbits), measure.action, measure.support)


def class_counts(measure: Measure, y: NDArray[Any], classes: int) -> I64:
    """Return how often each class is predicted for x itself, over its places that are compared.

    Parameters
    ----------
    measure : Measure
        One of classes.
    y : ndarray, shape (N, n, rows, F) or (N, n, k)
        f(gx).
    classes : int
        How many there are.

    Returns
    -------
    ndarray of int64, shape (N, classes)
    """
    own = _classes_moved_back(measure, y[:, :1])[:, 0, :, 0].astype(np.int64)
    if measure.places is not None:
        own = own[:, measure.places.inside[0]]
    return np.stack([np.bincount(row, minlength=classes) for row in own])


def check_divergences(measure: Measure, values: F64, chosen: Sequence[int]) -> None:
    """Refuse infinite divergences, naming the first element that has one.

    Parameters
    ----------
    measure : Measure
        One of class scores.
    values : ndarray of float64, shape (..., elements)
        Its deviations.
    chosen : sequence of int
        The elements that they are of.

    Raises
    ------
    ProbabilityError
        If one is not finite.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    element = measure.action.group.elements[chosen[int(np.argwhere(~finite)[0][-1])]]
    raise ProbabilityError(
        f"{measure.layer}: under element {element} a class has a positive probability where the "
        "reference's is zero, so the divergence is infinite; measure the logits instead "
        "(--output, --output-kind logits)"
    )


def pair_deviations(measure: Measure, a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Return m(a, b) of pairs, without an action.

    Parameters
    ----------
    measure : Measure
        The measure whose m is taken.
    a, b : ndarray, shape (k, rows, F) or (k, n)
        Pairs, in order; logits or probabilities for a measure of class scores.

    Returns
    -------
    ndarray of float64, shape (k,)
        Unnormalised.
    """
    if measure.descriptor.view == "maps":
        action = measure.action
        assert isinstance(action, LayoutAction | PlacedAction)
        sums = sums_of_pairs(a, b, action, measure.support)
        deviations, _, _ = deviations_of_sums(measure, sums[None])
        of_pairs: F64 = deviations[0]
        return of_pairs
    if measure.descriptor.of_classes:
        return _score_pairs(measure, a, b)
    u, v = (operands_of_orbits(measure, y[:, None])[:, 0] for y in (a, b))
    return _deviations_of_rows(measure, u, v)


def _score_pairs(measure: Measure, a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Return m of pairs of class scores, each the orbit of the identity alone."""
    u, v = (operands_of_orbits(measure, y[:, None]) for y in (a, b))
    return deviations_from_references(measure, u, v[:, 0], [0], check=False)[0][:, 0]
