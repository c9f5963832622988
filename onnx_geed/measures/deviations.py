"""G-EED, eq. (2) to (4): the deviations of one orbit under a measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Matrices, disk_mask
from onnx_geed.measures import kernels
from onnx_geed.measures.channel_cosines import cosines_of_sums, mean_map, orbit_sums
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.scores import ProbabilityError, check_logits, log_probabilities

__all__ = [
    "centres",
    "channel_sums_of_orbits",
    "check_divergences",
    "deviations_from",
    "deviations_of_orbits",
    "orbit_deviations",
    "pair_deviations",
    "ready",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


def orbit_deviations(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) f̂(x)) for the orbit of one sample.

    Parameters
    ----------
    measure : Measure
        What is measured.
    y : ndarray, shape (n, C, H, W) or (n, k)
        f(gx), finite; logits or probabilities for ``softmax-kl``.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G, identity first; all by default.

    Returns
    -------
    deviations : ndarray of float64, shape (n,) or (len(members),)
        One an element; nats for ``softmax-kl``.
    zero_pairs : ndarray of float64, shape as ``deviations``
        Share of cosines taken between two zero vectors.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming element and tensor.
        If the measure's kind was not said and the values look unlike logits.
    ProbabilityError
        If a probability is positive where the reference's is zero.

    Notes
    -----
    Inner summand of eq. (4), with f̂ of eq. (2): the mean over ker(φ_Y), here over those of its
    elements that are ``members``.
    """
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        element = measure.action.group.elements[int(bad[0][0])]
        raise GeedError(
            f"activations hold NaN or infinity: element {element}, tensor {measure.layer!r}"
        )
    # A single score in [0, 1] for each of a few elements tells nothing.
    if measure.name == "softmax-kl" and measure.kind is None and y.shape[-1] > 1:
        check_logits(y, measure.layer)
    found, zeros = deviations_of_orbits(measure, y[None], members)
    return found[0], zeros[0]


def deviations_of_orbits(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return what :func:`orbit_deviations` returns, for several orbits at once.

    Parameters
    ----------
    measure : Measure
        What is measured.
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
        If a probability is positive where the reference's is zero.
    """
    chosen = list(range(y.shape[1]) if members is None else members)
    kernel = [g for g in measure.kernel_of_action if g in set(chosen)]
    orbits = ready(measure, y)
    return deviations_from(measure, orbits, centres(measure, orbits, kernel), members)


def ready(measure: Measure, y: NDArray[Any]) -> NDArray[Any]:
    """Bring f(gx), of shape (N, n, C, H, W) or (N, n, k), to what deviations are computed from.

    Returns
    -------
    ndarray
        Maps (N, n, C, H·W) in float32; points (N, n, k) or log-probabilities in float64.

    Raises
    ------
    ProbabilityError
        If a probability is outside [0, 1].
    """
    if measure.name == "channel-cos":
        maps: F32 = np.ascontiguousarray(y, dtype=np.float32).reshape(*y.shape[:3], -1)
        return maps
    if measure.name == "softmax-kl":
        return log_probabilities(y, measure.reads)
    return np.ascontiguousarray(y, dtype=np.float64)


def centres(
    measure: Measure, orbits: NDArray[Any], kernel: Sequence[int] | None = None
) -> NDArray[Any]:
    """Return f̂(x) of some orbits, eq. (2).

    Parameters
    ----------
    measure : Measure
        What is measured.
    orbits : ndarray
        As :func:`ready` returns them.
    kernel : sequence of int, optional
        Elements to average over; ker(φ_Y) by default.

    Returns
    -------
    ndarray
        Maps (N, C, H·W) in float32; points (N, k) in float64; log f̂ of log-probabilities.
    """
    inner = list(measure.kernel_of_action if kernel is None else kernel)
    if measure.name == "channel-cos":
        if len(inner) == 1:
            return np.ascontiguousarray(orbits[:, inner[0]])
        return np.stack([mean_map(orbit[inner]) for orbit in orbits])
    # Taken, not indexed: an index may give another order in memory, and so of summation.
    taken = np.take(orbits, inner, axis=1)
    if measure.name != "softmax-kl":
        mean: F64 = taken.mean(axis=1)
        return mean
    # By log-sum-exp; a class of probability zero on the whole kernel stays −inf.
    top = np.maximum(taken.max(axis=1), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        sums = np.exp(taken - top[:, None]).sum(axis=1)
        logs: F64 = np.log(sums) + top - np.log(len(inner))
    return logs


def deviations_from(
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
        What is measured.
    orbits : ndarray, shape (N, n, ...)
        As :func:`ready` returns them.
    references : ndarray, shape (N, ...)
        As :func:`centres` returns them: of the same samples, eq. (4), or of others.
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
        If a probability is positive where the reference's is zero.
    """
    chosen = list(range(orbits.shape[1]) if members is None else members)
    if measure.name == "channel-cos":
        sums = orbit_sums(orbits, references, measure.action, measure.support)
        return cosines_of_sums(sums if members is None else np.take(sums, chosen, axis=1))
    points = np.take(orbits, chosen, axis=1)
    expected = _moved(measure.action, references, chosen)
    # These kernels go row by row: all orbits at once are so many more rows.
    rows, size = len(points) * len(chosen), points.shape[2]
    out, zeros = np.empty(rows), np.zeros(points.shape[:2])
    pairs = points.reshape(rows, size), expected.reshape(rows, size)
    if measure.name == "softmax-kl":
        kernels.divergences(*pairs, out)
        if check:
            check_divergences(measure, out.reshape(zeros.shape), chosen)
    elif measure.name == "latent-cos":
        kernels.cosine_deviations(*pairs, out)
        either = points.any(axis=2) | expected.any(axis=2)
        zeros = np.logical_not(either).astype(np.float64)
    else:
        kernels.euclidean_deviations(*pairs, out)
    return out.reshape(zeros.shape), zeros


def _moved(action: Action, centres: F64, chosen: Sequence[int]) -> F64:
    """φ_Y(g) f̂(x) of each sample for the chosen elements, (N, elements, k)."""
    if isinstance(action, Matrices):
        # One vector at a time: a product over all of them might add up in another order.
        return np.stack([np.stack([action.apply(g, c) for g in chosen]) for c in centres])
    return np.stack([action.apply(g, centres) for g in chosen], axis=1)


def channel_sums_of_orbits(measure: Measure, y: NDArray[Any]) -> F64:
    """Return the three sums behind eq. (5) for some orbits.

    Parameters
    ----------
    measure : Measure
        A ``channel-cos`` measure.
    y : ndarray of float32, shape (N, n, C, H, W)
        f(gx).

    Returns
    -------
    ndarray of float64, shape (N, n, C, 3)
        Σ u·v, Σ u², Σ v² of each channel.
    """
    orbits = ready(measure, y)
    return orbit_sums(orbits, centres(measure, orbits), measure.action, measure.support)


def check_divergences(measure: Measure, values: F64, chosen: Sequence[int]) -> None:
    """Refuse infinite divergences (..., n'), naming the first such element.

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
        Which m.
    a, b : ndarray, shape (k, C, H, W) or (k, n)
        Pairs, in order; logits or probabilities for ``softmax-kl``.

    Returns
    -------
    ndarray of float64, shape (k,)
        Unnormalised.
    """
    if measure.name == "channel-cos":
        u, v = a.astype(np.float64), b.astype(np.float64)
        if measure.support == "disk":
            inside = disk_mask(*u.shape[-2:])
            u, v = u * inside, v * inside
        sums = np.stack([(u * v).sum((-2, -1)), (u * u).sum((-2, -1)), (v * v).sum((-2, -1))], -1)
        return cosines_of_sums(sums)[0]
    out = np.empty(len(a))
    if measure.name == "softmax-kl":
        logs = [np.ascontiguousarray(log_probabilities(y, measure.reads)) for y in (a, b)]
        kernels.divergences(*logs, out)
        return out
    points = [np.ascontiguousarray(y, dtype=np.float64) for y in (a, b)]
    if measure.name == "latent-cos":
        kernels.cosine_deviations(*points, out)
    else:
        kernels.euclidean_deviations(*points, out)
    return out
