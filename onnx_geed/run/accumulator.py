"""Deviations of all orbits, in order, until they become records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action, parse_layout
from onnx_geed.measures import Measure, Plan, normaliser, view
from onnx_geed.results import (
    BetweenSamples,
    Normaliser,
    OrbitDeviations,
    Record,
    measurement,
)
from onnx_geed.run.between_samples import Pairs, neighbours
from onnx_geed.run.kernel_engine import Reduced

__all__ = ["Tally"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# A given table is doubted where its inverse leaves less than half of the deviation, and the
# difference is more than this (cosine, nats or units of the output).
_MARKEDLY = 0.05


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

    def records(self, *, norm_samples: int, interval: str, seed: int) -> list[Record]:
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
    ) -> Record:
        deviations, zeros, exact, inverse = map(_joined, columns)
        assert deviations is not None
        assert zeros is not None
        layer = self.plan.layers[measure.layer]
        divisor = None
        if measure.name.startswith("latent"):
            points = np.concatenate(self._points[measure.layer])[:norm_samples]
            norm = float(np.sqrt(np.square(points).sum(axis=1)).mean()) if len(points) else None
            divisor = Normaliser(normaliser(measure.name, points), len(points), norm)
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
        elements = self.plan.group.elements
        of_all, of_exact = self._per_channel(measure, members)
        record = measurement(
            OrbitDeviations(deviations, elements, float(zeros.mean()), of_all),
            measure=measure.name,
            layer=measure.layer,
            layout=layout,
            output_action=measure.action.name,
            exact=None
            if members is None or exact is None
            else OrbitDeviations(exact, [elements[g] for g in members], per_channel=of_exact),
            normaliser=divisor,
            between=BetweenSamples(
                np.stack([p.deviations for p in pairs]),
                float(np.sqrt(np.mean([p.square for p in pairs]))),
            )
            if pairs
            else None,
            interval=interval,
            seed=seed,
            warnings=warnings,
        )
        record["notes"] = notes
        return record

    def _per_channel(
        self, measure: Measure, members: Sequence[int] | None
    ) -> tuple[F64 | None, F64 | None]:
        """Channel by channel, over all elements and over the exact ones."""
        if measure.name != "channel-cos":
            return None, None
        total, count = self._channels[measure.layer]
        whole, exact = total / count
        # With an f̂ of its own, eq. (2), the subgroup has other cosines.
        return whole, exact if members and set(measure.kernel_of_action) <= set(members) else None


def _outputs(plan: Plan, measure: Measure) -> int:
    """Number of classes of a tensor; a single score tells two apart."""
    layer = plan.layers[measure.layer]
    blank = np.zeros((1, 1, *layer.shape), dtype=np.float32)
    return max(2, int(view(layer, measure.descriptor, blank).shape[-1]))


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
    if len(shape) == 3 and parse_layout(layout).to_points(np.zeros((1, *shape), np.float32), 1)[1]:
        notes.append("average-pooled over its grid by onnx-geed")
    if measure.name == "softmax-kl":
        logits = measure.reads == "logits"
        notes.append(
            "softmax applied by onnx-geed to logits" if logits else "probabilities as given"
        )
    return ("NK" if len(shape) == 1 else layout), notes
