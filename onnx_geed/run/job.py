"""A job: some orbits of D with all that a worker needs to run them, and no open session.

A job can be pickled: threads of this process, the writer of a cache and processes elsewhere take
the same one. Jobs are numbered by the absolute position of their first orbit and hold whole batches
of whole orbits, so that a run that is taken up again computes what an unbroken one does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Known, Plan
from onnx_geed.model import Model
from onnx_geed.run.between_samples import neighbours
from onnx_geed.run.place_labels import known_places
from onnx_geed.run.session import Session, open_exposed
from onnx_geed.run.source import Source

__all__ = [
    "EngineName",
    "Job",
    "Network",
    "Task",
    "job_orbits",
    "orbit_jobs",
    "pieces",
    "point_jobs",
]

EngineName = Literal["kernels", "graph"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network as it is run.

    Parameters
    ----------
    graph : Model
        The model, its batch axis free where it can be: its content, and the fingerprint and the
        folder of the file that it was read from.
    input : str
        The acted-on input.
    exposed : tuple of str
        Tensors that its session returns, whatever is asked of it, where all are run in one pass:
        which ones are exposed decides what the runtime fuses, and so the last bits.
    provider : {"cuda", "cpu"}
        The device.
    dtype : numpy.dtype
        The precision that it computes in.
    fixed : int
        Rows of every run, where it takes no other number of them; else 0.
    one_by_one : bool
        Whether a row's activations depend on the others of its batch, so that it is run alone.
    """

    graph: Model = field(repr=False)
    input: str
    exposed: tuple[str, ...]
    provider: Literal["cuda", "cpu"]
    dtype: np.dtype[Any]
    fixed: int = 0
    one_by_one: bool = False
    #: Tells this network from all others, in this process and where it was pickled to.
    token: str = field(default_factory=lambda: uuid.uuid4().hex, init=False, repr=False)

    def open(self, layers: Sequence[str]) -> Session:
        """Open a session that returns these tensors."""
        session = open_exposed(self.graph, self.input, self.exposed or layers, self.provider)
        return replace(session, fixed=self.fixed, outputs=tuple(layers))


@dataclass(frozen=True, eq=False)
class Task:
    """The parts that all jobs of a run share.

    Parameters
    ----------
    network : Network
        What is run.
    source : Source
        On what: the samples of D and the points for M, in order, and the input's action.
    plan : Plan
        The measures and their tensors.
    batch : int
        Most rows in one run.
    engine : {"kernels", "graph"}
        Where deviations are computed.
    """

    network: Network
    source: Source
    plan: Plan
    batch: int
    engine: EngineName


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """Some successive orbits of D, or some points for M, to be run on some layers.

    Parameters
    ----------
    task : Task
        The parts that it shares with the others.
    layers : tuple of str
        Tensors of one pass; the measures of others are another pass's.
    positions : range
        Positions in D.
    orbits : bool
        Whether orbits are run; else the samples alone, which are points for M.
    points : bool
        Whether the identity elements are points for M.
    pairs : tuple of (int, int)
        Pairs of samples that are compared, here or with another job.
    """

    task: Task
    layers: tuple[str, ...]
    positions: range
    orbits: bool = True
    points: bool = True
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def inferences(self) -> int:
        """Model inputs that it runs."""
        return len(self.positions) * (self.task.plan.group.order if self.orbits else 1)

    @property
    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of places that is real, of its samples, by masked tensor."""
        source, layers = self.task.source, self.task.plan.layers
        if source.mask is None:
            return {}
        indices = [source.indices[position] for position in self.positions]
        shares = {name: source.mask.share(layers[name], indices) for name in self.layers}
        return {name: share for name, share in shares.items() if share is not None}

    @property
    def known(self) -> dict[str, Known]:
        """What is known of the places of class scores, of its samples, by tensor."""
        source = self.task.source
        indices = [source.indices[position] for position in self.positions]
        labels = source.place_labels
        own = None if labels is None else labels[indices]
        return known_places(self.task.plan, self.layers, own, source.mask, indices)

    @property
    def pooled(self) -> tuple[str, ...]:
        """Those of its layers whose points M is taken over."""
        measures = [m for m in self.task.plan.measures if m.descriptor.pooled]
        return tuple(dict.fromkeys(m.layer for m in measures if m.layer in self.layers))


def job_orbits(order: int, batch: int) -> int:
    """Return the orbits in one job: as many as fill a batch, at least one."""
    return max(1, batch // order)


def pieces(order: int, batch: int) -> list[range]:
    """Divide an orbit into pieces of at most so many elements, the identity's first.

    Elements a quarter or half turn apart show one map, resampled once and gathered in another
    order: where pieces are equally large, those go together.
    """
    if order % batch:
        return [range(order)[start : start + batch] for start in range(0, order, batch)]
    return [range(first, order, order // batch) for first in range(order // batch)]


def orbit_jobs(
    task: Task, layers: Sequence[str], stop: int, start: int = 0, *, points: bool = True
) -> list[Job]:
    """Divide the orbits of D into jobs.

    Parameters
    ----------
    task : Task
        What is run.
    layers : sequence of str
        Tensors of a pass.
    stop : int
        Size of D.
    start : int
        Position of the first orbit; those before it were run already, with all pairs.
    points : bool
        Whether identity elements are points for M.

    Returns
    -------
    list of Job
    """
    size = job_orbits(task.plan.group.order, task.batch)
    beside = any(m.descriptor.beside_others for m in task.plan.measures)
    pairs = neighbours(stop) if beside and not start else []
    jobs = []
    for first in range(start, stop, size):
        positions = range(first, min(first + size, stop))
        touched = tuple(pair for pair in pairs if pair[0] in positions or pair[1] in positions)
        jobs.append(Job(task, tuple(layers), positions, points=points, pairs=touched))
    return jobs


def point_jobs(task: Task, layers: Sequence[str], start: int) -> list[Job]:
    """Divide the points for M beyond D into jobs; there are none where no layer needs M."""
    total, size = len(task.source.indices), task.batch
    starts = range(start, total, size)
    jobs = [
        Job(task, tuple(layers), range(first, min(first + size, total)), orbits=False)
        for first in starts
    ]
    return [job for job in jobs if job.pooled]
