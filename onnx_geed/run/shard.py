"""A shard: the share of a run's jobs that one of several machines takes, and its running.

Jobs are those of the whole run, so that the runtime gets the same rows in every run of the model,
and gives the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx_geed.errors import GeedError, shown
from onnx_geed.measures import Plan
from onnx_geed.run.job import Job, Task, orbit_jobs, point_jobs
from onnx_geed.run.kept_points import KeptPoints
from onnx_geed.run.orbit_statistics import OrbitStatistics, beside, gather, join
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.progress import Meter
from onnx_geed.run.stretch import Stretch, alone, closed, run_stretch, stretches

__all__ = [
    "Shard",
    "ShardJobs",
    "jobs_of",
    "parse_shard",
    "run_shard",
    "shard_inferences",
    "with_points",
]


@dataclass(frozen=True)
class Shard:
    """One of the shares into which a run is divided.

    Parameters
    ----------
    number : int
        Which one, from 1.
    of : int
        How many there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def last(self) -> bool:
        """Whether it is the last one, which has no more orbits than any other."""
        return self.number == self.of

    def of_orbits(self, count: int) -> range:
        """Return its share of jobs with orbits: the first shares have one more, if any."""
        return range(-(-count * (self.number - 1) // self.of), -(-count * self.number // self.of))

    def of_points(self, count: int) -> range:
        """Return its share of jobs with points for M: the last shares have one more, if any."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


def parse_shard(text: str) -> Shard:
    """Read which share of a run is asked for.

    Parameters
    ----------
    text : str
        ``i/n``, such as ``2/5``: the second of five.

    Returns
    -------
    Shard

    Raises
    ------
    GeedError
        If it is not of that form, or there is no such share.
    """
    number, slash, of = text.partition("/") if isinstance(text, str) else ("", "", "")
    if not slash or not all(part.isascii() and part.isdigit() for part in (number, of)):
        raise GeedError(f"--shard {shown(text)}: give i/n, such as 2/5 for the second of five")
    shard = Shard(int(number), int(of))
    if not 1 <= shard.number <= shard.of:
        raise GeedError(
            f"--shard {text}: parts are numbered from 1 to n, as in 1/{max(shard.of, 1)}; add one "
            "if an array job counts from 0"
        )
    return shard


@dataclass(frozen=True)
class ShardJobs:
    """The jobs of one share.

    Parameters
    ----------
    own : tuple of Job
        Orbits.
    beside : tuple of Job
        Jobs of other shares that hold the neighbour of an own sample: only pairs are taken of them.
    points : tuple of Job
        Points for M beyond D.
    """

    own: tuple[Job, ...]
    beside: tuple[Job, ...]
    points: tuple[Job, ...]

    @property
    def orbits(self) -> range:
        """Positions of its orbits."""
        if not self.own:
            return range(0)
        return range(self.own[0].positions.start, self.own[-1].positions.stop)

    def stretches(self, *, apart: bool) -> list[Stretch]:
        """Return its jobs with orbits, as :func:`onnx_geed.run.stretch.stretches` divides them."""
        return stretches(self.own, self.beside, apart=apart)


def jobs_of(shard: Shard, task: Task, layers: Sequence[str], count: int) -> ShardJobs:
    """Return the share of a run's jobs, whose boundaries are those of the whole run.

    Parameters
    ----------
    shard : Shard
        Which share.
    task : Task
        What is run.
    layers : sequence of str
        Tensors of a pass.
    count : int
        Size of D.

    Returns
    -------
    ShardJobs

    Notes
    -----
    A pair of neighbouring samples is taken by the share that holds the first of the two.
    """
    jobs, points = orbit_jobs(task, layers, count), point_jobs(task, layers, count)
    mine = shard.of_orbits(len(jobs))
    own = closed(jobs[mine.start : mine.stop], jobs)
    further = shard.of_points(len(points))
    return ShardJobs(own.jobs, own.beside, tuple(points[further.start : further.stop]))


def shard_inferences(prepared: Prepared, shard: Shard) -> int:
    """Return the model inputs that :func:`run_shard` runs."""
    shares = [jobs_of(shard, prepared.task, layers, prepared.count) for layers in prepared.passes]
    work = [one for jobs in shares for one in jobs.stretches(apart=prepared.executor.apart)]
    return sum(one.inferences for one in work) + sum(
        job.inferences for jobs in shares for job in jobs.points
    )


def run_shard(
    prepared: Prepared, shard: Shard, meter: Meter, kept: KeptPoints | None = None
) -> tuple[OrbitStatistics, OrbitStatistics]:
    """Run a share.

    Parameters
    ----------
    prepared : Prepared
        The whole run.
    shard : Shard
        Which share of it.
    meter : Meter
        Counts model inputs.
    kept : KeptPoints, optional
        Points that were run before.

    Returns
    -------
    orbits : OrbitStatistics
        Of its orbits, all pairs complete, and of those of their identities that are points for M.
    points : OrbitStatistics
        Of its points for M beyond D.

    Raises
    ------
    GeedError
        As :class:`onnx_geed.run.engine.Engine` says.
    """
    plan, kept = prepared.task.plan, kept or KeptPoints()
    orbits, points = [], []
    for layers in prepared.passes:
        jobs = jobs_of(shard, prepared.task, layers, prepared.count)
        known = kept.of(prepared, jobs.points)
        own, others = jobs.stretches(apart=prepared.executor.apart), jobs.points
        others = others if known is None else ()
        run = [*own, *alone(others)]
        parts = prepared.in_order(run_stretch, run)
        counted = meter.counting(parts, [one.inferences for one in run])
        gathered = gather(plan, itertools.islice(counted, len(own)), len(jobs.orbits))
        orbits.append(gathered.with_points_of(prepared.options.norm_samples))
        pointed = kept.keeping(prepared, others, counted)
        points.append(gather(plan, itertools.chain(pointed, known or ()), 0))
    return beside(orbits), beside(points)


def with_points(plan: Plan, orbits: OrbitStatistics, points: OrbitStatistics) -> OrbitStatistics:
    """Return orbits with all the points for M that are at hand, as if these followed each other."""
    start = orbits.pointed.stop
    return join(plan, [orbits, replace(points, pointed=range(start, start + len(points.pointed)))])
