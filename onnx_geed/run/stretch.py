"""A stretch: successive jobs that one worker runs, which closes the pairs of samples they begin.

What a pair takes of either sample is as large as an orbit's activations, and never leaves a worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx_geed.measures import Plan
from onnx_geed.run.between_samples import join_pairs
from onnx_geed.run.job import Job
from onnx_geed.run.orbit_pieces import left_bytes
from onnx_geed.run.orbit_statistics import OrbitStatistics, join
from onnx_geed.run.worker import Worker

__all__ = ["Stretch", "alone", "closed", "run_stretch", "stretches"]

# Batches of one job, and jobs of a worker, at the least: what is done once a job is little then.
_BATCHES = 8
_SHARES = 4
# Bytes that the orbits of such a job leave.
_HELD_BYTES = 8 << 20

# Jobs with pairs that go together: one more is run for each so many.
_TOGETHER = 4


@dataclass(frozen=True, eq=False)
class Stretch:
    """Successive jobs of a run.

    Parameters
    ----------
    jobs : tuple of Job
        At least one.
    beside : tuple of Job
        Jobs that another one runs too: only pairs are taken of them.
    """

    jobs: tuple[Job, ...]
    beside: tuple[Job, ...] = ()

    @property
    def positions(self) -> range:
        """Positions in D."""
        return range(self.jobs[0].positions.start, self.jobs[-1].positions.stop)

    @property
    def inferences(self) -> int:
        """Model inputs that it runs."""
        return sum(job.inferences for job in (*self.jobs, *self.beside))


def alone(jobs: Sequence[Job]) -> list[Stretch]:
    """Return stretches of one job each."""
    return [Stretch((job,)) for job in jobs]


def closed(jobs: Sequence[Job], every: Sequence[Job]) -> Stretch:
    """Return a stretch that has no pair of samples left open.

    Parameters
    ----------
    jobs : sequence of Job
        Successive jobs with orbits; at least one.
    every : sequence of Job
        All jobs that may hold the other sample of a pair.

    Returns
    -------
    Stretch

    Notes
    -----
    A pair is taken where the first of its two samples is.
    """
    held = {position for job in jobs for position in job.positions}
    own = [replace(job, pairs=tuple(pair for pair in job.pairs if pair[0] in held)) for job in jobs]
    crossing = {pair for job in own for pair in job.pairs if pair[1] not in held}
    beside = []
    for job in every:
        if touched := sorted(pair for pair in crossing if pair[1] in job.positions):
            beside.append(replace(job, pairs=tuple(touched), points=False))
    return Stretch(tuple(own), tuple(beside))


def stretches(
    jobs: Sequence[Job],
    beside: Sequence[Job] = (),
    *,
    apart: bool = False,
    workers: int | None = None,
) -> list[Stretch]:
    """Divide successive jobs with orbits among workers.

    Parameters
    ----------
    jobs : sequence of Job
        The jobs.
    beside : sequence of Job
        Jobs of others that hold the second sample of a pair which the last one begins.
    apart : bool
        Whether workers share no memory, so that each closes its pairs by itself; else one leaves
        the next what it needs.
    workers : int, optional
        How many share the jobs, where one job may hold several batches.

    Returns
    -------
    list of Stretch
        In order.
    """
    if not apart:
        single = alone(jobs if workers is None else _larger(jobs, workers))
        return [*single[:-1], *(replace(last, beside=tuple(beside)) for last in single[-1:])]
    paired = [job for job in jobs if job.pairs]  # the first ones
    parts = max(1, len(paired) // _TOGETHER)
    bounds = [len(paired) * i // parts for i in range(parts + 1)]
    together = [paired[start:stop] for start, stop in itertools.pairwise(bounds)]
    every = *jobs, *beside
    return [closed(few, every) for few in together if few] + alone(jobs[len(paired) :])


def _larger(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Make jobs of several batches of those without pairs, where they are small and many."""
    paired = [job for job in jobs if job.pairs]  # the first ones
    others = list(jobs[len(paired) :])
    if not others or others[0].task.engine != "kernels":
        return list(jobs)
    most = _HELD_BYTES // max(1, len(others[0].positions) * left_bytes(others[0]))
    size = max(1, min(_BATCHES, most, len(others) // (_SHARES * workers)))
    groups = [others[start : start + size] for start in range(0, len(others), size)]
    return [*paired, *(replace(some[0], positions=_all(some)) for some in groups)]


def _all(jobs: Sequence[Job]) -> range:
    return range(jobs[0].positions.start, jobs[-1].positions.stop)


def run_stretch(worker: Worker, stretch: Stretch) -> OrbitStatistics:
    """Run a stretch.

    Parameters
    ----------
    worker : Worker
        Runs its jobs.
    stretch : Stretch
        The jobs, from this process or another.

    Returns
    -------
    OrbitStatistics
        Of its own jobs.

    Raises
    ------
    GeedError
        As :meth:`onnx_geed.run.worker.Worker.run`.
    """
    first, *others = stretch.jobs
    plan, own = first.task.plan, worker.run(first)
    for job in others:
        own = join(plan, [own, worker.run(job)])
    for job in stretch.beside:
        own = _with_pairs(plan, own, worker.run(job))
    return own


def _with_pairs(plan: Plan, own: OrbitStatistics, other: OrbitStatistics) -> OrbitStatistics:
    """Complete the pairs of which another's orbits hold the second sample."""
    entries = dict(own.measures)
    for measure in plan.measures:
        key = measure.name, measure.layer
        if key in entries:
            pairs = [entries[key].pairs, other.measures[key].pairs]
            entries[key] = replace(entries[key], pairs=join_pairs(measure, pairs))
    return replace(own, measures=entries)
