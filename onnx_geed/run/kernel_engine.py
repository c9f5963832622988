"""The kernel engine: activations on the host, reduced by compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Measure
from onnx_geed.run.between_samples import Centres, Pairs, Side, join_pairs
from onnx_geed.run.job import Job
from onnx_geed.run.orbit_pieces import Pieces
from onnx_geed.run.orbit_reduction import check_shapes, latents_of, spreads_of
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.orbits import activations, identities
from onnx_geed.run.session import Runner

__all__ = ["KernelEngine", "run_points"]

F32 = NDArray[np.float32]


class KernelEngine:
    """Activations on the host, reduced by compiled loops.

    Parameters
    ----------
    runner : Runner
        Returns the tensors of a pass.
    centres : Centres, optional
        f̂ of samples that were run before, and where those of its own go.
    """

    def __init__(self, runner: Runner, centres: Centres | None = None) -> None:
        self._runner, self._centres = runner, centres or Centres()
        self._pieces = Pieces(runner, self._centres)

    def run(self, job: Job) -> OrbitStatistics:
        """Run a job and reduce it, as :class:`onnx_geed.run.engine.Engine` says."""
        if not job.orbits:
            return run_points(job, self._runner.only(job.pooled))
        last = job.positions[-1]
        measures = [m for m in job.task.plan.measures if m.layer in job.layers]
        follows = (last, last + 1) in job.pairs
        keys = [(m.name, m.layer) for m in measures] + self._pieces.keys(job) if follows else []
        with self._centres.promised(last, keys):
            statistics = self._pieces.run(job)
            statistics = self._with_neighbours(job, measures, statistics)
        return statistics if job.points else statistics.without_points()

    def activations(self, job: Job) -> dict[str, F32]:
        """Run a job's orbits; return the activations (orbits, n, ...) by tensor."""
        task = job.task
        arrays = activations(task.source, self._runner, job.positions, task.batch)
        check_shapes(task.plan, arrays, axes=2)
        return arrays

    def _with_neighbours(
        self, job: Job, measures: Sequence[Measure], statistics: OrbitStatistics
    ) -> OrbitStatistics:
        """Complete the pair with the sample before, where a job here has it, or begins to."""
        first, last = job.positions.start, job.positions[-1]
        entries = dict(statistics.measures)
        for m in measures:
            side = entries[m.name, m.layer].pairs.open.get((last, last + 1))
            if side is not None and side.centre is not None:
                self._centres.give(last, {(m.name, m.layer): side.centre})
        where = first - 1, first
        earlier = replace(job, positions=range(first - 1, first)).known if first else {}
        for m in measures:
            key = m.name, m.layer
            pairs = entries[key].pairs
            centre = self._centres.take(first - 1, [key]) if where in pairs.open else None
            if centre is not None:
                marks = earlier[m.layer].real if m.layer in earlier else None
                real = None if marks is None else marks[0]
                other = Pairs(open={where: Side(centre=centre[0], real=real)})
                entries[key] = replace(entries[key], pairs=join_pairs(m, [pairs, other]))
        return replace(statistics, measures=entries)


def run_points(job: Job, runner: Runner) -> OrbitStatistics:
    """Run a job that holds points for M alone.

    Parameters
    ----------
    job : Job
        The job.
    runner : Runner
        Returns the tensors that need M.

    Returns
    -------
    OrbitStatistics
        Without orbits.

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it or gives NaN or infinity.
    """
    task, first = job.task, job.positions.start
    arrays = identities(task.source, runner, job.positions, task.batch)
    check_shapes(task.plan, arrays, axes=1)
    if task.source.mask is not None:
        indices = [task.source.indices[position] for position in job.positions]
        orbits = {name: array[:, None] for name, array in arrays.items()}
        cleared = task.source.mask.clear(task.plan.layers, orbits, indices, [0])
        arrays = {name: array[:, 0] for name, array in cleared.items()}
    label = task.source.label
    return OrbitStatistics(
        pointed=job.positions,
        points=latents_of(task.plan, arrays, label, first, job.shares),
        spreads=spreads_of(task.plan, arrays, label, first),
    )
