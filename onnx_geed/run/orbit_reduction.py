"""Activations of orbits reduced by compiled loops: one value by measure and layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Permutation, parse_layout
from onnx_geed.measures import (
    Known,
    Measure,
    Plan,
    ProbabilityError,
    Spread,
    by_sample,
    channel_sums_of_orbits,
    class_counts,
    classes_of_x,
    count_places,
    deviations_of_orbits,
    deviations_of_sums,
    errors_of_orbits,
    measured_at_places,
    moved_classes,
    orbit_deviations,
    predicted_classes,
    view,
)
from onnx_geed.run.between_samples import over_real, pairs_of_views
from onnx_geed.run.orbit_statistics import (
    ChannelValues,
    MeasureStatistics,
    OrbitStatistics,
    join_measure,
)

__all__ = [
    "DOUBTED",
    "check_orbits",
    "check_shapes",
    "latents_of",
    "pointed_of",
    "reduce_orbits",
    "spreads_of",
    "sums_statistics",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


Successive = TypeVar("Successive", NDArray[Any], range)


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
    shares: Mapping[str, F64] = MappingProxyType({}),
    known: Mapping[str, Known] = MappingProxyType({}),
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
    shares : mapping of str to ndarray of float64, shape (orbits,)
        Share of places that is no padding, which is zero, by masked tensor.
    known : mapping of str to Known
        What is known of the places of class scores, by tensor.

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
    points: dict[str, F32] = {}

    def seen(measure: Measure) -> F32:
        layer, array = plan.layers[measure.layer], arrays[measure.layer]
        if measure.descriptor.view != "points":
            return view(layer, measure, array)
        # Means over the places of a map are taken once for all that sees them.
        if layer.name not in points:
            points[layer.name] = view(layer, measure, array)
        return points[layer.name]

    for measure in plan.measures:
        key = measure.name, measure.layer
        if measure.descriptor.view == "maps" and measure.layer in sums:
            measures[key] = sums_statistics(plan, measure, sums[measure.layer])
        elif measure.layer in arrays:
            share, viewed = shares.get(measure.layer), seen(measure)
            y = over_real(measure, viewed, share)
            statistics = _view_statistics(plan, measure, y, label, first, known.get(measure.layer))
            if measure.descriptor.of_error:
                measures[key] = statistics
                continue
            real = None
            if share is not None and measure.places is not None:
                statistics = _over_real_places(statistics, share)
                real = known[measure.layer].real
            between = pairs_of_views(measure, viewed, first, pairs, share, real)
            measures[key] = replace(statistics, pairs=between)
    present: list[NDArray[Any]] = [*sums.values(), *arrays.values()]
    positions = range(first, first + len(present[0]))
    own = {k: a[:, 0] for k, a in arrays.items()}
    latents = latents_of(
        *(plan, own, label, first, shares), {name: rows[:, 0] for name, rows in points.items()}
    )
    spreads = spreads_of(plan, own, label, first)
    pointed = pointed_of(plan, positions, first) if latents or spreads else range(0)
    return OrbitStatistics(positions, measures, pointed, latents, spreads)


def _view_statistics(
    plan: Plan,
    measure: Measure,
    y: F32,
    label: Callable[[int], str],
    first: int,
    known: Known | None,
) -> MeasureStatistics:
    """Reduce what a measure sees of some orbits: one by one where it is another for each."""
    parts = []
    for _, position, rows in by_sample(measure, y, first):
        if measure.descriptor.of_error:
            parts.append(_error_statistics(plan, measure, rows, label, position))
            continue
        here = slice(position - first, position - first + len(rows))
        own = known and known.of(here)
        parts.append(_orbits_statistics(plan, measure, rows, label, position, own))
    return parts[0] if len(parts) == 1 else join_measure(measure, parts, from_first=False)


def _over_real_places(statistics: MeasureStatistics, share: F64) -> MeasureStatistics:
    """Return means over real places, of those over all, padding having added nothing."""
    exact, inverse, counts = statistics.exact, statistics.inverse, statistics.counts
    half = statistics.half
    if counts is not None:
        # Of padding, which is zero, the first class is the largest.
        counts = counts.copy()
        counts[:, 0] -= np.round(counts.sum(axis=1) * (1 - share)).astype(counts.dtype)
    return replace(
        statistics,
        deviations=statistics.deviations / share[:, None],
        exact=None if exact is None else exact / share[:, None],
        inverse=None if inverse is None else inverse / share[: len(inverse), None],
        counts=counts,
        half=None if half is None else half / share[:, None],
    )


def sums_statistics(plan: Plan, measure: Measure, sums: F64) -> MeasureStatistics:
    """Reduce the sums of eq. (5) of a measure that needs no more than them.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    measure : Measure
        One of maps, as :func:`onnx_geed.measures.needs_sums_alone` says: so the subgroup has the
        same f̂, eq. (2).
    sums : ndarray of float64, shape (orbits, n, C, 3)
        Σ u·v, Σ u² and Σ v².

    Returns
    -------
    MeasureStatistics
        Without pairs between samples.
    """
    members = plan.exact_subgroup(measure)
    deviations, zeros, by_channel = deviations_of_sums(measure, sums, members or ())
    exact, half = (
        np.take(deviations, some, axis=1) if some else None for some in (members, plan.group.half)
    )
    return MeasureStatistics(
        deviations, zeros, exact, channels=ChannelValues(by_channel), half=half
    )


def _orbits_statistics(
    plan: Plan,
    measure: Measure,
    y: F32,
    label: Callable[[int], str],
    first: int,
    known: Known | None,
) -> MeasureStatistics:
    """Reduce what a measure sees of some orbits."""
    maps = measure.descriptor.view == "maps"
    if not maps or measure.support == "disk":
        # Outside the disk nothing is compared, and so NaN would not show in the sums.
        check_orbits(plan, measure.layer, y, label, first)
    predicted = counts = places = None
    classes = plan.layers[measure.layer].classes if measure.descriptor.of_classes else 0
    if measure.descriptor.of_classes and measure.places is None:
        predicted = _predicted(plan, measure, y, first)
    members = plan.exact_subgroup(measure)
    other = measure.other_reading() if first < DOUBTED else None
    measure, other = measure.of(first), other and other.of(first)
    channels = None
    try:
        if measure.descriptor.view == "classes":
            counts = class_counts(measure, y, classes)
        if maps:
            sums = channel_sums_of_orbits(measure, y)
            deviations, zeros, by_channel = deviations_of_sums(measure, sums, members or ())
            channels = ChannelValues(by_channel)
        elif measure.places is not None:
            deviations, values, moved_back = measured_at_places(measure, y)
            if known is not None and known.real is not None:
                # Of padding a table may move the class that argmax names.
                values = np.where(known.real[:, None], values, 0.0)
                deviations = measure.places.mean(values, range(y.shape[1]))
            zeros = np.zeros(deviations.shape)
            places = count_places(measure, values, moved_back, classes, known)
        else:
            deviations, zeros = deviations_of_orbits(measure, y)
        if not np.isfinite(deviations).all():
            # Whole maps are read only once, so that theirs shows in the sums alone.
            check_orbits(plan, measure.layer, y, label, first)
        exact, half = (
            _subgroup_deviations(measure, y, deviations, some) if some else None
            for some in (members, plan.group.half)
        )
        inverse = deviations_of_orbits(other, y[: DOUBTED - first])[0] if other else None
    except ProbabilityError:
        for k, orbit in enumerate(y):
            try:
                orbit_deviations(measure, orbit)
            except ProbabilityError as error:
                raise GeedError(f"{label(first + k)}: {error}") from None
        raise
    return MeasureStatistics(
        *(deviations, zeros, exact, inverse, predicted, channels),
        counts=counts,
        places=places,
        half=half,
    )


def _predicted(plan: Plan, measure: Measure, y: F32, first: int) -> NDArray[np.int64]:
    """Return predicted classes (N, n), moved as one table says for all samples.

    Where each sample has elements of its own, those move its classes.
    """
    own = measure.of(first).action
    if not isinstance(own, Permutation):
        return predicted_classes(y, measure.reads)
    rows = [classes_of_x(y[:, g], measure.reads, own.table[g]) for g in range(y.shape[1])]
    moved = moved_classes(measure.action, plan.layers[measure.layer].classes)
    return np.stack([moved[g][classes] for g, classes in enumerate(rows)], axis=1)


def _error_statistics(
    plan: Plan, measure: Measure, y: F32, label: Callable[[int], str], first: int
) -> MeasureStatistics:
    """Reduce what a share of the error sees of some orbits; it has no pairs of samples."""
    check_orbits(plan, measure.layer, y, label, first)
    truth = plan.truths[measure.layer][first : first + len(y)]
    members = plan.exact_subgroup(measure)
    other = measure.other_reading() if first < DOUBTED else None
    predicted = None if measure.target else _predicted(plan, measure, y, first)
    measure, other = measure.of(first), other and other.of(first)
    few = slice(max(0, DOUBTED - first))
    try:
        deviations, errors = errors_of_orbits(measure, y, truth)
    except ProbabilityError:
        for k in range(len(y)):
            try:
                errors_of_orbits(measure, y[k : k + 1], truth[k : k + 1])
            except ProbabilityError as error:
                raise GeedError(f"{label(first + k)}: {error}") from None
        raise
    (exact, of_exact), (half, of_half) = (
        errors_of_orbits(measure, y, truth, some) if some else (None, errors)
        for some in (members, plan.group.half)
    )
    return MeasureStatistics(
        deviations,
        np.zeros(deviations.shape),
        exact,
        errors_of_orbits(other, y[few], truth[few])[0] if other else None,
        predicted,
        errors=np.stack([part.mean(axis=1) for part in (errors, of_exact, of_half)], axis=1),
        half=half,
    )


def _subgroup_deviations(
    measure: Measure, y: F32, deviations: F64, members: tuple[int, ...]
) -> F64:
    """Return deviations under a subgroup, which has an f̂ of its own."""
    if set(measure.averaged) <= set(members):
        # The same elements are averaged, eq. (2), so nothing needs to be computed again.
        return np.take(deviations, members, axis=1)
    return deviations_of_orbits(measure, y, members)[0]


def latents_of(
    plan: Plan,
    identities: Mapping[str, F32],
    label: Callable[[int], str],
    first: int,
    shares: Mapping[str, F64] = MappingProxyType({}),
    points: Mapping[str, F32] = MappingProxyType({}),
) -> dict[str, F64]:
    """Return the latents (N, k) of identity elements, for the tensors that need M.

    There are none beyond the points that M is taken over. ``points`` are those that were brought to
    this form already.

    Raises
    ------
    GeedError
        If a latent is NaN or infinite, naming sample and tensor.
    """
    wanted = {m.layer for m in plan.measures if m.descriptor.normaliser is not None}
    latents = {}
    for name in wanted & set(identities):
        if name in points:
            rows = pointed_of(plan, points[name], first)
        else:
            tensors = pointed_of(plan, identities[name], first)
            rows = parse_layout(plan.layers[name].layout).to_points(tensors, axes=1)[0]
        if name in shares:
            rows = (rows / shares[name][: len(rows), None]).astype(np.float32)
        latents[name] = np.asarray(rows, dtype=np.float64)
        check_orbits(plan, name, latents[name][:, None], label, first)
    return latents


def spreads_of(
    plan: Plan, identities: Mapping[str, F32], label: Callable[[int], str], first: int
) -> dict[tuple[str, str], Spread]:
    """Return whole tensors of identity elements, as measures that need M₂ see them.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors, and how many points M₂ is taken over.
    identities : mapping of str to ndarray of float32, shape (N, ...)
        Activations by tensor.
    label : callable
        Names the sample at a position of D, for messages.
    first : int
        Position of the first sample.

    Returns
    -------
    dict of (str, str) to Spread
        By measure and layer; nothing beyond the points of M₂.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming sample and tensor.
    """
    spreads = {}
    for measure in plan.measures:
        if not measure.descriptor.spread or measure.layer not in identities:
            continue
        tensors = pointed_of(plan, identities[measure.layer], first)
        if len(tensors):
            check_orbits(plan, measure.layer, tensors[:, None], label, first)
            seen = view(plan.layers[measure.layer], measure, tensors[:, None])
            spreads[measure.name, measure.layer] = Spread(seen.reshape(len(seen), -1).copy())
    return spreads


def pointed_of(plan: Plan, successive: Successive, first: int) -> Successive:
    """Return those of successive samples that are points of M."""
    wanted = plan.norm_samples
    return successive if wanted is None else successive[: max(0, wanted - first)]


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
