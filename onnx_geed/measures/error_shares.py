"""Shares of the error: by how much f(gx), moved back, errs more than its mean over the group.

Of class scores and labels the error is a cross-entropy, CE(p_g, y) = −ln p_g[y], of a tensor and
its target a squared distance. Either error of the mean over G is at most the mean error (both are
convex), and what it is less by is the share of not being invariant or equivariant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures.deviations import deviations_from_references, f_hat
from onnx_geed.measures.inverses import move_back
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.scores import ProbabilityError, log_probabilities, moved_classes

__all__ = ["error_gaps", "errors_of_orbits"]

F64 = NDArray[np.float64]


def errors_of_orbits(
    measure: Measure, y: NDArray[Any], truth: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return what the group adds to the error, and the error, of the orbits of several samples.

    Parameters
    ----------
    measure : Measure
        A share of the error.
    y : ndarray, shape (N, n, k) or (N, n, rows, F)
        f(gx), finite, as ``view`` brings it.
    truth : ndarray, shape (N,) of int64 or (N, rows·F) of float64
        The classes that the labels are for, or targets.
    members : sequence of int, optional
        Elements of a subgroup to use instead of G, identity first; all by default.

    Returns
    -------
    deviations : ndarray of float64, shape (N, n) or (N, len(members))
        CE(p_g, y) − CE(p̄, y) in nats, or ‖z_g − z̄‖². A single one may be negative for classes, the
        mean over elements is not.
    errors : ndarray of float64, shape (N, n) or (N, len(members))
        CE(p_g, y), or ‖z_g − y‖².

    Raises
    ------
    ProbabilityError
        If a probability is outside [0, 1], or 0 for the true class.
    """
    chosen = list(range(y.shape[1]) if members is None else members)
    orbits = _moved_back(measure, y, truth)
    errors = _errors(measure, orbits, truth, chosen)
    if not np.isfinite(errors).all() and not measure.target:
        sample, at = np.argwhere(~np.isfinite(errors))[0]
        raise ProbabilityError(
            f"{measure.layer}: under element {measure.action.group.elements[chosen[at]]} the true "
            f"class, {truth[sample]} (counted from 0), has the probability 0, so the error is "
            "infinite; measure the logits instead (--output, --output-kind logits)"
        )
    means = f_hat(measure, orbits, chosen)
    return deviations_from_references(measure, orbits, means, members, check=False)[0], errors


def error_gaps(measure: Measure, a: NDArray[Any], b: NDArray[Any], truth: NDArray[Any]) -> F64:
    """Return by how much the errors of pairs of tensors of the same samples differ.

    Parameters
    ----------
    measure : Measure
        A share of the error.
    a, b : ndarray, shape (N, k) or (N, rows, F)
        Pairs, in order, not moved.
    truth : ndarray
        As :func:`errors_of_orbits` takes it.

    Returns
    -------
    ndarray of float64, shape (N,)
        |CE(a, y) − CE(b, y)|, or ‖a − b‖².
    """
    u, v = (_moved_back(measure, y[:, None], truth) for y in (a, b))
    gaps = deviations_from_references(measure, u, v[:, 0], [0], check=False)[0]
    return np.abs(gaps[:, 0])


def _moved_back(measure: Measure, y: NDArray[Any], truth: NDArray[Any]) -> F64:
    """Return ln p_g[y] as (N, n, 1, 1), or z_g as (N, n, 1, entries)."""
    if not measure.target:
        logs = log_probabilities(y, measure.reads)
        moved = moved_classes(measure.action, logs.shape[-1])[: y.shape[1], truth].T
        return np.take_along_axis(logs, moved[..., None], axis=-1)[..., None]
    values = np.ascontiguousarray(y, dtype=np.float64)
    back = [move_back(measure.action, g, values[:, g]) for g in range(y.shape[1])]
    return np.ascontiguousarray(np.stack(back, axis=1)).reshape(*y.shape[:2], 1, -1)


def _errors(measure: Measure, orbits: F64, truth: NDArray[Any], chosen: Sequence[int]) -> F64:
    """Return the errors (N, elements) of what was moved back."""
    right = truth if measure.target else np.zeros((len(truth), 1))  # the logarithm of certainty
    rows = np.take(orbits, chosen, axis=1)[:, :, 0]
    errors = np.empty(rows.shape[:2])
    for orbit, own, out in zip(rows, right, errors, strict=True):
        expected = np.ascontiguousarray(np.broadcast_to(own, orbit.shape))
        measure.descriptor.pairs(np.ascontiguousarray(orbit), expected, out)
    return errors
