"""The kernel engine: activations on the host, reduced by compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import parse_layout
from onnx_geed.measures import (
    Measure,
    Plan,
    ProbabilityError,
    channel_sums_of_orbits,
    deviations_of_orbits,
    deviations_of_sums,
    inverse_of,
    orbit_deviations,
    predicted_classes,
    view,
)
from onnx_geed.run.between_samples import Pairs

__all__ = ["DOUBTED", "Reduced", "check_orbits", "points_of", "reduce_orbits"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


#: So many of the first orbits are also measured with the inverse of a given table.
DOUBTED = 5


@dataclass(frozen=True)
class Reduced:
    """What a job of orbits leaves behind.

    Parameters
    ----------
    deviations, zero_pairs : list of ndarray, shape (orbits, n)
        One a measure.
    exact : list of ndarray, shape (orbits, subgroup), or None
        The same under the exact subgroup.
    inverse : list of ndarray, shape (orbits, n), or None
        Deviations under the inverse table, where one was tried.
    points : mapping of str to ndarray, shape (orbits, k)
        Identity-element latents of the tensors that need M.
    predicted : mapping of str to ndarray of int64, shape (orbits, n)
        Predicted classes, by tensor of a ``softmax-kl``.
    channels : mapping of str to ndarray, shape (orbits, 2, C)
        −cos of each channel, mean over the elements and over the exact ones, by tensor of a
        ``channel-cos``.
    between : mapping of (str, str) to dict of (int, int) to Pair
        What :class:`onnx_geed.between.Between` found, by measure and layer.
    """

    deviations: list[F64]
    zero_pairs: list[F64]
    exact: list[F64 | None]
    inverse: list[F64 | None]
    points: dict[str, F64]
    predicted: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    channels: dict[str, F64] = field(default_factory=dict)
    between: Pairs = field(default_factory=dict)


def reduce_orbits(
    plan: Plan,
    arrays: Mapping[str, F32],
    label: Callable[[int], str],
    *,
    first: int,
    sums: Mapping[str, F64] | None = None,
) -> Reduced:
    """Reduce the activations of some orbits.

    Parameters
    ----------
    plan : Plan
        What is measured.
    arrays : mapping of str to ndarray of float32, shape (orbits, n, ...)
        Activations by tensor; tensors of the plan that are absent are another pass's.
    label : callable
        Names the sample at a position of D, for messages.
    first : int
        Position of the first orbit.
    sums : mapping of str to ndarray of float64, shape (orbits, n, C, 3), optional
        The sums of eq. (5) by tensor, where they take the place of activations.

    Returns
    -------
    Reduced
        One entry for every measure whose tensor is present, in the plan's order.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming sample, element and tensor.
        If a probability is positive where the reference's is zero, naming the sample.
    """
    reduced = Reduced([], [], [], [], {})
    for measure in plan.measures:
        if measure.name == "channel-cos" and measure.layer in (sums or {}):
            # A cache keeps sums only where the subgroup has the same f̂, eq. (2).
            members = plan.exact_subgroup(measure)
            found = deviations_of_sums(measure, (sums or {})[measure.layer], members or ())
            reduced.channels[measure.layer] = found[2]
            exact = None if members is None else np.take(found[0], members, axis=1)
            _take(reduced, found[0], found[1], exact, None)
            continue
        if measure.layer not in arrays:
            continue
        y = view(plan.layers[measure.layer], measure.descriptor, arrays[measure.layer])
        if measure.name == "softmax-kl":
            reduced.predicted[measure.layer] = predicted_classes(y, measure.reads)
        _take(reduced, *_from_orbits(plan, measure, y, label, first, reduced.channels))
    reduced.points.update(points_of(plan, {k: a[:, 0] for k, a in arrays.items()}, label, first))
    return reduced


def _from_orbits(
    plan: Plan,
    measure: Measure,
    y: F32,
    label: Callable[[int], str],
    first: int,
    channels: dict[str, F64],
) -> tuple[F64, F64, F64 | None, F64 | None]:
    """Deviations of some orbits, shares of zero pairs, and both under subgroup and inverse."""
    if measure.name != "channel-cos" or measure.support == "disk":
        # Outside the disk nothing is compared, and so NaN would not show in the sums.
        check_orbits(plan, measure.layer, y, label, first)
    members = plan.exact_subgroup(measure)
    other = inverse_of(measure) if first < DOUBTED else None
    try:
        if measure.name == "channel-cos":
            sums = channel_sums_of_orbits(measure, y)
            found, zeros, channels[measure.layer] = deviations_of_sums(measure, sums, members or ())
        else:
            found, zeros = deviations_of_orbits(measure, y)
        if not np.isfinite(found).all():
            # Whole maps are read only once, so that theirs shows in the sums alone.
            check_orbits(plan, measure.layer, y, label, first)
        exact = None if members is None else _subset(measure, y, found, members)
        turned = deviations_of_orbits(other, y[: DOUBTED - first])[0] if other else None
    except ProbabilityError:
        for k, orbit in enumerate(y):
            try:
                orbit_deviations(measure, orbit)
            except ProbabilityError as error:
                raise GeedError(f"{label(first + k)}: {error}") from None
        raise
    return found, zeros, exact, turned


def _take(
    reduced: Reduced, deviations: F64, zeros: F64, exact: F64 | None, inverse: F64 | None
) -> None:
    reduced.deviations.append(deviations)
    reduced.zero_pairs.append(zeros)
    reduced.exact.append(exact)
    reduced.inverse.append(inverse)


def _subset(measure: Measure, y: F32, whole: F64, members: tuple[int, ...]) -> F64:
    """Deviations under a subgroup, which has an f̂ of its own."""
    if set(measure.kernel_of_action) <= set(members):
        # The same elements are averaged, eq. (2), so nothing needs to be computed again.
        return np.take(whole, members, axis=1)
    return deviations_of_orbits(measure, y, members)[0]


def points_of(
    plan: Plan, identities: Mapping[str, F32], label: Callable[[int], str], first: int
) -> dict[str, F64]:
    """Latents (N, k) of identity elements, for the tensors that need M.

    Raises
    ------
    GeedError
        If a latent is NaN or infinite, naming sample and tensor.
    """
    wanted = {m.layer for m in plan.measures if m.name.startswith("latent")}
    points = {}
    for name in wanted & set(identities):
        rows = parse_layout(plan.layers[name].layout).to_points(identities[name], axes=1)[0]
        points[name] = np.asarray(rows, dtype=np.float64)
        check_orbits(plan, name, points[name][:, None], label, first)
    return points


def check_orbits(
    plan: Plan, name: str, y: NDArray[Any], label: Callable[[int], str], first: int
) -> None:
    """Name the first activation (N, elements, ...) that is not finite."""
    finite = np.isfinite(y)
    if finite.all():
        return
    k, g = np.argwhere(~finite)[0][:2]
    raise GeedError(
        f"the model gave NaN or infinity: {label(first + int(k))}, element "
        f"{plan.group.elements[g]}, tensor {name!r}; check the preprocessing, or leave that sample "
        "or tensor out"
    )
