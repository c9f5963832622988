"""Activations of orbits reduced by compiled loops: one value by measure and layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
    orbit_deviations,
    predicted_classes,
    view,
)
from onnx_geed.run.between_samples import pairs_within
from onnx_geed.run.orbit_statistics import ChannelValues, MeasureStatistics, OrbitStatistics

__all__ = ["DOUBTED", "check_orbits", "check_shapes", "latents_of", "reduce_orbits"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


#: So many of the first orbits are also measured with the inverse of a given table.
DOUBTED = 5


def check_shapes(plan: Plan, arrays: Mapping[str, F32], *, axes: int) -> None:
    """Refuse arrays of another shape than when the model was tried out: kernels trust in it.

    Parameters
    ----------
    plan : Plan
        The tensors.
    arrays : mapping of str to ndarray of float32
        Activations by tensor.
    axes : int
        How many axes come before those of one activation.

    Raises
    ------
    GeedError
        If there is one.
    """
    for name, array in arrays.items():
        expected = plan.layers[name].shape
        if array.shape[axes:] != expected:
            raise GeedError(
                f"tensor {name!r} has the shape {array.shape[axes:]} for one sample, and had "
                f"{expected} before: its shape depends on the sample, so name another tensor"
            )


def reduce_orbits(
    plan: Plan,
    arrays: Mapping[str, F32],
    label: Callable[[int], str],
    *,
    first: int,
    sums: Mapping[str, F64] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> OrbitStatistics:
    """Reduce the activations of some orbits.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    arrays : mapping of str to ndarray of float32, shape (orbits, n, ...)
        Activations by tensor; tensors of the plan that are absent are another pass's.
    label : callable
        Names the sample at a position of D, for messages.
    first : int
        Position of the first orbit.
    sums : mapping of str to ndarray of float64, shape (orbits, n, C, 3), optional
        The sums of eq. (5) by tensor, where they take the place of activations.
    pairs : sequence of (int, int)
        Pairs of samples that are compared; of sums there are none.

    Returns
    -------
    OrbitStatistics
        An entry for every measure whose tensor is present, and the identity latents of those that
        need M.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming sample, element and tensor.
        If a probability is positive where the reference's is zero, naming the sample.
    """
    sums = sums or {}
    measures: dict[tuple[str, str], MeasureStatistics] = {}
    for measure in plan.measures:
        key = measure.name, measure.layer
        if measure.descriptor.view == "maps" and measure.layer in sums:
            measures[key] = _sums_statistics(plan, measure, sums[measure.layer])
        elif measure.layer in arrays:
            layer = plan.layers[measure.layer]
            y = view(layer, measure, arrays[measure.layer])
            statistics = _orbits_statistics(plan, measure, y, label, first)
            between = pairs_within(measure, layer, arrays[measure.layer], first, pairs)
            measures[key] = replace(statistics, pairs=between)
    present: list[NDArray[Any]] = [*sums.values(), *arrays.values()]
    positions = range(first, first + len(present[0]))
    latents = latents_of(plan, {k: a[:, 0] for k, a in arrays.items()}, label, first)
    return OrbitStatistics(positions, measures, positions if latents else range(0), latents)


def _sums_statistics(plan: Plan, measure: Measure, sums: F64) -> MeasureStatistics:
    """Reduce sums of eq. (5), which are kept only where the subgroup has the same f̂, eq. (2)."""
    members = plan.exact_subgroup(measure)
    deviations, zeros, by_channel = deviations_of_sums(measure, sums, members or ())
    exact = None if members is None else np.take(deviations, members, axis=1)
    return MeasureStatistics(deviations, zeros, exact, channels=ChannelValues(by_channel))


def _orbits_statistics(
    plan: Plan, measure: Measure, y: F32, label: Callable[[int], str], first: int
) -> MeasureStatistics:
    """Reduce what a measure sees of some orbits."""
    maps = measure.descriptor.view == "maps"
    if not maps or measure.support == "disk":
        # Outside the disk nothing is compared, and so NaN would not show in the sums.
        check_orbits(plan, measure.layer, y, label, first)
    scores = measure.descriptor.view == "scores"
    predicted = predicted_classes(y, measure.reads) if scores else None
    members = plan.exact_subgroup(measure)
    other = measure.other_reading() if first < DOUBTED else None
    channels = None
    try:
        if maps:
            sums = channel_sums_of_orbits(measure, y)
            deviations, zeros, by_channel = deviations_of_sums(measure, sums, members or ())
            channels = ChannelValues(by_channel)
        else:
            deviations, zeros = deviations_of_orbits(measure, y)
        if not np.isfinite(deviations).all():
            # Whole maps are read only once, so that theirs shows in the sums alone.
            check_orbits(plan, measure.layer, y, label, first)
        exact = None if members is None else _subgroup_deviations(measure, y, deviations, members)
        inverse = deviations_of_orbits(other, y[: DOUBTED - first])[0] if other else None
    except ProbabilityError:
        for k, orbit in enumerate(y):
            try:
                orbit_deviations(measure, orbit)
            except ProbabilityError as error:
                raise GeedError(f"{label(first + k)}: {error}") from None
        raise
    return MeasureStatistics(deviations, zeros, exact, inverse, predicted, channels)


def _subgroup_deviations(
    measure: Measure, y: F32, deviations: F64, members: tuple[int, ...]
) -> F64:
    """Return deviations under a subgroup, which has an f̂ of its own."""
    if set(measure.kernel_of_action) <= set(members):
        # The same elements are averaged, eq. (2), so nothing needs to be computed again.
        return np.take(deviations, members, axis=1)
    return deviations_of_orbits(measure, y, members)[0]


def latents_of(
    plan: Plan, identities: Mapping[str, F32], label: Callable[[int], str], first: int
) -> dict[str, F64]:
    """Return the latents (N, k) of identity elements, for the tensors that need M.

    Raises
    ------
    GeedError
        If a latent is NaN or infinite, naming sample and tensor.
    """
    wanted = {m.layer for m in plan.measures if m.descriptor.normalised}
    latents = {}
    for name in wanted & set(identities):
        rows = parse_layout(plan.layers[name].layout).to_points(identities[name], axes=1)[0]
        latents[name] = np.asarray(rows, dtype=np.float64)
        check_orbits(plan, name, latents[name][:, None], label, first)
    return latents


def check_orbits(
    plan: Plan,
    name: str,
    y: NDArray[Any],
    label: Callable[[int], str],
    first: int,
    elements: Sequence[int] | None = None,
) -> None:
    """Name the first activation (N, elements, ...) that is not finite; all elements by default.

    Raises
    ------
    GeedError
        If there is one, naming sample, element and tensor.
    """
    finite = np.isfinite(y)
    if finite.all():
        return
    k, g = np.argwhere(~finite)[0][:2]
    g = g if elements is None else elements[int(g)]
    raise GeedError(
        f"the model gave NaN or infinity: {label(first + int(k))}, element "
        f"{plan.group.elements[g]}, tensor {name!r}; check the preprocessing, or leave that sample "
        "or tensor out"
    )
