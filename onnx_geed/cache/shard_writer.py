"""The writer of shards: it runs and writes them, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.contents import kept_of, paired_measures
from onnx_geed.cache.manifest import Manifest
from onnx_geed.run import (
    Job,
    KernelEngine,
    Pairs,
    Side,
    Task,
    Worker,
    around,
    check_orbits,
    job_orbits,
    join_pairs,
    neighbours,
    pairs_within,
)

__all__ = ["ShardWriter"]

# The sides of one pair of samples, by layer.
_Sides = dict[str, Side]


class ShardWriter:
    """Runs and writes shards, several at a time, each on a thread.

    A pair of neighbouring samples may lie in two shards, and is written with the later one. So a
    shard hands its side of such a pair to the other as soon as it has it. Pickled it is a function
    that does the same with one shard, and runs again what others would have handed over.
    """

    def __init__(
        self, task: Task, manifest: Manifest, folder: Path, missing: frozenset[int]
    ) -> None:
        self._task, self._manifest, self._folder = task, manifest, folder
        self._missing = missing
        kept = {e.tensor for e in manifest.entries if e.content == "sums"}
        paired = paired_measures((m.name, m.layer) for m in task.plan.measures)
        self._summed = [
            m for m in task.plan.measures if m.layer in kept and paired.get(m.layer) == m.name
        ]
        # Pairs beyond those of D close the circle of any D that is cut to fewer samples.
        pairs = {*neighbours(manifest.count), *around(manifest.count)} if self._summed else set()
        self._wanted = sorted(pairs)
        self._lock = threading.Lock()
        self._handed: dict[tuple[int, int], Future[_Sides]] = {
            pair: Future() for pair in self._wanted
        }

    def __reduce__(self) -> tuple[type[partial[int]], tuple[object, ...]]:
        return partial, (_write_alone, self._task, self._manifest, self._folder.absolute())

    def __call__(self, worker: Worker, first: int) -> int:
        """Run a shard's orbits with a worker, write it, and return its position."""
        engine = worker.kernels(self._task.network, tuple(self._task.plan.layers))
        positions = store.shard_orbits(self._manifest, first)
        pairs = {m.layer: Pairs() for m in self._summed}
        try:
            store.write_shard(
                self._folder,
                self._manifest,
                first,
                self._run(engine, positions, pairs),
                lambda: self._complete(engine, positions, pairs),
            )
        except BaseException as error:
            # Those who wait for a side that will not come fail too.
            for pair, handed in self._handed.items():
                if min(pair) in positions and not handed.done():
                    handed.set_exception(error)
            raise
        return first

    def _run(
        self, engine: KernelEngine, positions: range, pairs: dict[str, Pairs]
    ) -> Iterator[store.KeptOrbits]:
        """Yield what a shard keeps of each of its jobs, and join their pairs into a mapping."""
        for job in self._jobs(positions):
            arrays = self._activations(engine, job)
            within = self._pairs(arrays, job)
            self._hand_over(within, positions)
            for m in self._summed:
                pairs[m.layer] = join_pairs(m, [pairs[m.layer], within[m.layer]])
            yield kept_of(self._task.plan, self._manifest, arrays, job.positions.start)

    def _jobs(self, positions: range) -> list[Job]:
        layers = tuple(self._task.plan.layers)
        size = job_orbits(self._manifest.order, self._task.batch)
        return [
            Job(self._task, layers, range(start, min(start + size, positions.stop)))
            for start in positions[::size]
        ]

    def _activations(self, engine: KernelEngine, job: Job) -> dict[str, NDArray[np.float32]]:
        """Run a job's orbits; what a cache keeps is finite."""
        arrays, source = engine.activations(job), self._task.source
        for name, array in arrays.items():
            check_orbits(self._task.plan, name, array, source.label, job.positions.start)
        return arrays

    def _pairs(self, arrays: Mapping[str, NDArray[np.float32]], job: Job) -> dict[str, Pairs]:
        """Return the pairs of a job, by layer of which only sums are kept."""
        first, layers = job.positions.start, self._task.plan.layers
        return {
            m.layer: pairs_within(m, layers[m.layer], arrays[m.layer], first, self._wanted)
            for m in self._summed
        }

    def _hand_over(self, pairs: Mapping[str, Pairs], positions: range) -> None:
        """Hand over the sides of a job that shards behind its own wait for."""
        sides: dict[tuple[int, int], _Sides] = {}
        for layer, within in pairs.items():
            for where, side in within.open.items():
                later = max(where) // self._manifest.shard_orbits * self._manifest.shard_orbits
                if min(where) in positions and later > positions.start and later in self._missing:
                    sides.setdefault(where, {})[layer] = side
        for where, by_layer in sides.items():
            if not self._handed[where].done():
                self._handed[where].set_result(by_layer)

    def _complete(
        self, engine: KernelEngine, positions: range, pairs: Mapping[str, Pairs]
    ) -> dict[str, NDArray[np.float64]]:
        """Return a shard's deviations between samples, by dataset, in the order of the pairs."""
        awaited = {where for within in pairs.values() for where in within.open}
        awaited = {w for w in awaited if max(w) in positions and min(w) not in positions}
        earlier = {where: self._taken(engine, where) for where in sorted(awaited)}
        rows: dict[str, dict[tuple[int, int], NDArray[np.float64]]] = {}
        numbers = {e.tensor: i for i, e in enumerate(self._manifest.entries) if e.content == "sums"}
        for m in self._summed:
            sides = Pairs(open={where: by_layer[m.layer] for where, by_layer in earlier.items()})
            for (p, q), pair in join_pairs(m, [pairs[m.layer], sides]).complete.items():
                name = f"{'around' if q == 0 else 'between'}/{numbers[m.layer]}"
                rows.setdefault(name, {})[p, q] = pair.deviations
        return {
            name: np.stack([rows[name][k] for k in sorted(rows[name])]) for name in sorted(rows)
        }

    def _taken(self, engine: KernelEngine, where: tuple[int, int]) -> _Sides:
        """Take what an earlier shard hands over; run its job again where it is written already."""
        position = min(where)
        first = position // self._manifest.shard_orbits * self._manifest.shard_orbits
        with self._lock:
            if first not in self._missing and not self._handed[where].done():
                # The very job that was run, so that its activations are the same to the last bit.
                positions = store.shard_orbits(self._manifest, first)
                (job,) = (job for job in self._jobs(positions) if position in job.positions)
                self._hand_over(self._pairs(self._activations(engine, job), job), positions)
        sides = self._handed[where].result()
        with self._lock:
            self._handed[where] = Future()  # which keeps nothing in memory
        return sides


def _write_alone(task: Task, manifest: Manifest, folder: Path, worker: Worker, first: int) -> int:
    """Run and write a shard in a process where no others are written at the same time."""
    return ShardWriter(task, manifest, folder, frozenset([first]))(worker, first)
