"""Orbits run and reduced piece by piece, where their activations together would take much memory.

Of feature maps the sums of eq. (5) stay, and the identity's map until the orbit is done; tensors
that are no maps are kept whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import MapSums, Measure, Plan, map_sums, view
from onnx_geed.run.between_samples import Centres, Pairs, Side, pair_of_sums
from onnx_geed.run.job import Job
from onnx_geed.run.orbit_reduction import DOUBTED, check_orbits, check_shapes, reduce_orbits
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.orbits import check_rows, run_rows
from onnx_geed.run.session import Runner

__all__ = ["Pieces", "comes_in_pieces"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


def comes_in_pieces(job: Job) -> bool:
    """Say whether a job is one orbit of several batches, whose maps no later sample asks for."""
    first, task = job.positions.start, job.task
    circle = any(q == first and p > first for p, q in job.pairs)
    return task.batch < task.plan.group.order and not circle


class Pieces:
    """Runs orbits piece by piece; what loops need for a piece is worked out once.

    Parameters
    ----------
    runner : Runner
        Returns the tensors of a pass.
    centres : Centres
        f̂ of the samples before, and where those of their own go.
    """

    def __init__(self, runner: Runner, centres: Centres) -> None:
        self._runner, self._centres = runner, centres
        self._tables: dict[tuple[object, ...], MapSums] = {}
        self._lock = threading.Lock()

    def run(self, job: Job) -> OrbitStatistics:
        """Run and reduce a job of one orbit.

        Raises
        ------
        GeedError
            If a sample cannot be read, or the model fails on it or gives NaN or infinity.
            If rows of a batch depend on each other.
        """
        plan, position = job.task.plan, job.positions.start
        measures = _streamed(plan, job.layers, position)
        keys, streamed = [(m.name, m.layer) for m in measures], {m.layer for m in measures}
        compared = (position - 1, position) in job.pairs
        own, between = _Sums(plan.group.order), _Sums(plan.group.order)
        whole = _Whole(plan.group.order)
        references: list[F32] = []
        before: list[F32] = []
        waiting: list[tuple[MapSums, range, list[F32]]] = []
        for part, arrays in self._arrays(job, position):
            maps = [_maps(plan, m, arrays) for m in measures]
            if not part.start:
                references = [_centre(y) for y in maps]
                self._centres.give(position, dict(zip(keys, references, strict=True)))
            tables = self._tables_for(plan, measures, part)
            own.put(part, tables.of(maps, references))
            for measure, y, sums in zip(measures, maps, own.latest, strict=True):
                # Outside the disk nothing is compared, and so NaN would not show in the sums.
                if measure.support == "disk" or not np.isfinite(sums).all():
                    check_orbits(
                        *(plan, measure.layer, y, job.task.source.label, position), elements=part
                    )
            whole.put(part, {k: a for k, a in arrays.items() if k not in streamed})
            if not compared or not measures:
                continue
            # The sample before is mostly further on; until it is, these maps wait.
            waiting.append((tables, part, maps))
            if not before and self._centres.has(position - 1, keys):
                before = self._centres_of(job, position - 1, measures)
            if before:
                _put_all(between, waiting, before)
        if waiting:
            before = self._centres_of(job, position - 1, measures)
            _put_all(between, waiting, before)
        sums_of = {m.layer: s for m, s in zip(measures, own.values, strict=True)}
        statistics = reduce_orbits(
            *(plan, whole.arrays, job.task.source.label),
            first=position,
            sums=sums_of,
            pairs=job.pairs,
        )
        entries = dict(statistics.measures)
        for i, (key, measure) in enumerate(zip(keys, measures, strict=True)):
            pairs = Pairs(open={w: Side(references[i]) for w in job.pairs if w == (position, 0)})
            if compared:
                pair = pair_of_sums(measure, between.values[i], before[i])
                pairs = replace(pairs, complete={(position - 1, position): pair})
            entries[key] = replace(entries[key], pairs=pairs)
        return replace(statistics, measures=entries)

    def _arrays(self, job: Job, position: int) -> Iterator[tuple[range, dict[str, F32]]]:
        """Yield elements and their activations (elements, ...) by tensor, piece by piece."""
        task, n = job.task, job.task.plan.group.order
        rows, feeds = task.source.rows([position]), task.source.other_inputs([position], n)
        for start in range(0, n, task.batch):
            part = slice(start, min(start + task.batch, n))
            fed = task.source.part_of(feeds, part)
            arrays = run_rows(task.source, self._runner, rows[part], fed, task.batch)
            check_shapes(task.plan, arrays, axes=1)
            check_rows(
                *(task.source, self._runner, rows[part], fed, arrays, task.batch, [position]),
                elements=range(n)[part],
            )
            yield range(n)[part], arrays

    def _tables_for(self, plan: Plan, measures: Sequence[Measure], part: range) -> MapSums:
        key = (part.start, part.stop, *((m.name, m.layer) for m in measures))
        with self._lock:
            if key not in self._tables:
                self._tables[key] = map_sums(measures, part)
            return self._tables[key]

    def _centres_of(self, job: Job, position: int, measures: Sequence[Measure]) -> list[F32]:
        """Return f̂ of another sample: as its own job leaves it, or run again as that would."""
        keys = [(m.name, m.layer) for m in measures]
        if (taken := self._centres.take(position, keys)) is not None:
            return taken
        _, arrays = next(self._arrays(job, position))
        return [_centre(_maps(job.task.plan, m, arrays)) for m in measures]


class _Sums:
    """Sums of eq. (5) of an orbit (1, n, C, 3), filled in piece by piece, one array a measure."""

    def __init__(self, order: int) -> None:
        self.values: list[F64] = []
        self.latest: list[F64] = []
        self._order = order

    def put(self, part: range, sums: list[F64]) -> None:
        """Fill in the sums of some elements (1, elements, C, 3)."""
        if not self.values:
            self.values = [np.empty((1, self._order, *s.shape[2:])) for s in sums]
        for value, s in zip(self.values, sums, strict=True):
            value[:, part.start : part.stop] = s
        self.latest = sums


class _Whole:
    """Activations of an orbit (1, n, ...) by tensor, filled in piece by piece."""

    def __init__(self, order: int) -> None:
        self.arrays: dict[str, F32] = {}
        self._order = order

    def put(self, part: range, arrays: Mapping[str, F32]) -> None:
        """Fill in the activations of some elements (elements, ...)."""
        for name, array in arrays.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((1, self._order, *array.shape[1:]), dtype=np.float32)
            self.arrays[name][0, part.start : part.stop] = array


def _put_all(
    sums: _Sums, waiting: list[tuple[MapSums, range, list[F32]]], references: list[F32]
) -> None:
    """Compare all maps that wait with their references, and let them go."""
    while waiting:
        tables, part, maps = waiting.pop(0)
        sums.put(part, tables.of(maps, references))


def _maps(plan: Plan, measure: Measure, arrays: Mapping[str, F32]) -> F32:
    """Return what a measure of maps sees of some elements: (1, elements, C, H, W)."""
    return view(plan.layers[measure.layer], measure.descriptor, arrays[measure.layer][None])


def _centre(maps: F32) -> F32:
    """Return f̂ of an orbit (1, C, H·W), the identity's map, in memory of its own."""
    return np.array(maps[:, 0]).reshape(1, maps.shape[2], -1)


def _streamed(plan: Plan, layers: Sequence[str], position: int) -> list[Measure]:
    """Return the measures of maps that no more than their sums are needed for, one a layer."""
    by_layer: dict[str, list[Measure]] = {}
    for measure in plan.measures:
        by_layer.setdefault(measure.layer, []).append(measure)
    return [
        of_layer[0]
        for layer, of_layer in by_layer.items()
        if layer in layers and len(of_layer) == 1 and _needs_sums_alone(of_layer[0], position)
    ]


def _needs_sums_alone(measure: Measure, position: int) -> bool:
    maps = measure.descriptor.view == "maps" and measure.kernel_of_action == (0,)
    return maps and (position >= DOUBTED or measure.with_inverse_table() is None)
