"""From activations to records: reduce orbits under a plan, collect, hand over to the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.actions import Action
from onnx_geed.between import Pairs, neighbours
from onnx_geed.classes import predicted_classes
from onnx_geed.eed import (
    Measure,
    channel_deviations,
    channel_sums_of_orbits,
    deviations_of_orbits,
    normaliser,
    orbit_deviations,
)
from onnx_geed.errors import GeedError
from onnx_geed.layouts import to_points
from onnx_geed.plan import Plan, inverse_of, view
from onnx_geed.results import measurement
from onnx_geed.scores import ProbabilityError

__all__ = ["DOUBTED", "Reduced", "Tally", "check_orbits", "points_of", "reduce_orbits"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: So many of the first orbits are also measured with the inverse of a given table.
DOUBTED = 5
# A given table is doubted where its inverse leaves less than half of the deviation, and the
# difference is more than this (cosine, nats or units of the output).
_MARKEDLY = 0.05


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
            found = channel_deviations((sums or {})[measure.layer], members or ())
            reduced.channels[measure.layer] = found[2]
            exact = None if members is None else np.take(found[0], members, axis=1)
            _take(reduced, found[0], found[1], exact, None)
            continue
        if measure.layer not in arrays:
            continue
        y = view(plan.layers[measure.layer], measure.name, arrays[measure.layer])
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
            found, zeros, channels[measure.layer] = channel_deviations(sums, members or ())
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
    if set(measure.kernel) <= set(members):
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
        rows = to_points(identities[name], plan.layers[name].layout, axes=1)[0]
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


@dataclass
class Tally:
    """Deviations of all orbits, in order, until they become records.

    Parameters
    ----------
    plan : Plan
        What is measured.
    """

    plan: Plan
    _parts: dict[str, list[Reduced]] = field(default_factory=dict)
    _points: dict[str, list[F64]] = field(default_factory=dict)
    _predicted: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    _channels: dict[str, tuple[F64, int]] = field(default_factory=dict)
    _between: Pairs = field(default_factory=dict)

    def add(self, reduced: Reduced, layers: Sequence[str]) -> None:
        """Take in the next job's orbits, of the measures on these layers."""
        self._parts.setdefault("\n".join(sorted(layers)), []).append(reduced)
        self.add_points(reduced.points)
        for name, rows in reduced.predicted.items():
            self._predicted.setdefault(name, []).append(rows)
        for key, pairs in reduced.between.items():
            self._between.setdefault(key, {}).update(pairs)
        for name, means in reduced.channels.items():
            total, count = self._channels.get(name, (np.zeros(means.shape[1:]), 0))
            # Orbit by orbit, so that the sum does not depend on how many a job has.
            for row in means:
                total = total + row
            self._channels[name] = total, count + len(means)

    def add_points(self, points: Mapping[str, F64]) -> None:
        """Take in the next points of M."""
        for name, rows in points.items():
            self._points.setdefault(name, []).append(rows)

    def replace_points(self, name: str, rows: F64) -> None:
        """Take all points of M of a tensor from elsewhere."""
        self._points[name] = [rows]

    def predicted(self) -> dict[str, tuple[NDArray[np.int64], Action, int]]:
        """Predicted classes (N, n), φ_Y and the number of classes, by tensor of a softmax-kl."""
        found = {}
        for measure in self.plan.measures:
            if measure.name == "softmax-kl" and measure.layer in self._predicted:
                rows = np.concatenate(self._predicted[measure.layer])
                found[measure.layer] = (rows, measure.action, _outputs(self.plan, measure))
        return found

    def records(self, *, norm_samples: int, interval: str, seed: int) -> list[dict[str, Any]]:
        """Return the records of spec section 6, one a measure, in the plan's order."""
        columns: dict[tuple[str, str], list[list[F64 | None]]] = {}
        for key, parts in self._parts.items():
            names = set(key.split("\n"))
            measures = [m for m in self.plan.measures if m.layer in names]
            for i, measure in enumerate(measures):
                columns[measure.name, measure.layer] = [
                    [p.deviations[i] for p in parts],
                    [p.zero_pairs[i] for p in parts],
                    [p.exact[i] for p in parts],
                    [p.inverse[i] for p in parts],
                ]
        return [
            self._record(m, columns[m.name, m.layer], norm_samples, interval, seed)
            for m in self.plan.measures
        ]

    def _record(
        self,
        measure: Measure,
        columns: list[list[F64 | None]],
        norm_samples: int,
        interval: str,
        seed: int,
    ) -> dict[str, Any]:
        deviations, zeros, exact, inverse = map(_joined, columns)
        assert deviations is not None
        assert zeros is not None
        layer = self.plan.layers[measure.layer]
        needs = measure.name.startswith("latent")
        m, used, norm = None, None, None
        if needs:
            points = np.concatenate(self._points[measure.layer])[:norm_samples]
            m, used = normaliser(measure.name, points), len(points)
            if used:
                norm = float(np.sqrt(np.square(points).sum(axis=1)).mean())
        members = self.plan.exact_subgroup(measure)
        warnings = []
        if inverse is not None and _better(inverse, deviations[: len(inverse)], measure):
            warnings.append(
                f"the inverse of the given table scores markedly better "
                f"({inverse.mean():.4g} against {deviations[: len(inverse)].mean():.4g} on "
                f"{len(inverse)} samples): are its rows for g and its inverse swapped?"
            )
        if zeros.mean() == 1:
            warnings.append("every vector that was compared is zero: the value says nothing")
        layout, notes = _described(measure, layer.layout, layer.shape)
        wanted = neighbours(len(deviations))
        there = self._between.get((measure.name, measure.layer), {})
        pairs = [there[pair] for pair in wanted if pair in there]
        if len(pairs) < len(wanted):
            pairs = []
            notes.append("no between_samples: the cache was written without them")
        record = measurement(
            measure=measure.name,
            layer=measure.layer,
            layout=layout,
            output_action=measure.action.name,
            deviations=deviations,
            elements=self.plan.group.elements,
            normaliser=m,
            norm_samples=used,
            needs_normaliser=needs,
            zero_pairs=float(zeros.mean()),
            per_channel=self._per_channel(measure, members),
            interval=interval,
            seed=seed,
            exact=None if members is None or exact is None else (members, exact),
            between=np.stack([p.deviations for p in pairs]) if pairs else None,
            reference_norm=float(np.sqrt(np.mean([p.square for p in pairs]))) if pairs else 1.0,
            latent_norm=norm,
            warnings=warnings,
        )
        record["notes"] = notes
        return record

    def _per_channel(
        self, measure: Measure, members: Sequence[int] | None
    ) -> tuple[F64, F64 | None] | None:
        """Channel by channel, over all elements and over the exact ones."""
        if measure.name != "channel-cos":
            return None
        total, count = self._channels[measure.layer]
        whole, exact = total / count
        # With an f̂ of its own, eq. (2), the subgroup has other cosines.
        return whole, exact if members and set(measure.kernel) <= set(members) else None


def _outputs(plan: Plan, measure: Measure) -> int:
    """Number of classes of a tensor; a single score tells two apart."""
    layer = plan.layers[measure.layer]
    blank = np.zeros((1, 1, *layer.shape), dtype=np.float32)
    return max(2, int(view(layer, measure.name, blank).shape[-1]))


def _joined(parts: list[F64 | None]) -> F64 | None:
    present = [p for p in parts if p is not None]
    return np.concatenate(present) if present else None


def _better(inverse: F64, given: F64, measure: Measure) -> bool:
    perfect = -1.0 if measure.name == "channel-cos" else 0.0
    away, turned = given.mean() - perfect, inverse.mean() - perfect
    return bool(turned < 0.5 * away and away - turned > _MARKEDLY)


def _described(measure: Measure, layout: str, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    """Layout of the record, and what was done to the tensor before it was measured."""
    if measure.name == "channel-cos":
        return layout, []
    notes = []
    if len(shape) == 3 and to_points(np.zeros((1, *shape), np.float32), layout, 1)[1]:
        notes.append("average-pooled over its grid by onnx-geed")
    if measure.name == "softmax-kl":
        logits = measure.reads == "logits"
        notes.append(
            "softmax applied by onnx-geed to logits" if logits else "probabilities as given"
        )
    return ("NK" if len(shape) == 1 else layout), notes
