"""A worker: runs jobs, of whatever task, with what it has open for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx_geed.run.engine import Engine
from onnx_geed.run.graph_engine import open_graph_engine
from onnx_geed.run.job import Job, Network
from onnx_geed.run.kernel_engine import KernelEngine
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.session import Session

__all__ = ["Worker"]

# Token of a network, and its tensors.
_Key = tuple[str, tuple[str, ...]]


@dataclass
class _Open:
    """The parts that are open for some tensors of a network."""

    session: Session | None = None
    kernels: KernelEngine | None = None
    graph: Engine | None = None
    points: KernelEngine | None = None


class Worker:
    """Runs jobs, several at a time, and keeps open what the next one needs too.

    Parameters
    ----------
    sessions : mapping of str to Session, optional
        Sessions that are open already, by the token of a network whose tensors are all exposed.
    kept : int
        Networks, or passes of one, for which things are kept open: those of one run come together,
        and so one is enough but where several runs take turns.
    """

    def __init__(self, sessions: Mapping[str, Session] | None = None, kept: int = 1) -> None:
        self._sessions, self._kept = dict(sessions or {}), kept
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        self._lock = threading.RLock()

    def run(self, job: Job) -> OrbitStatistics:
        """Run a job.

        Parameters
        ----------
        job : Job
            The job, from this process or another.

        Returns
        -------
        OrbitStatistics

        Raises
        ------
        GeedError
            If the model cannot be opened here.
            If a sample cannot be read, or the model fails on it or gives NaN or infinity.
            If rows of a batch depend on each other.
        """
        return self._engine_for(job).run(job)

    def open(self, job: Job) -> None:
        """Open what a job needs, as :meth:`run` does before it runs it."""
        self._engine_for(job)

    def opened(self, network: Network) -> Session | None:
        """Return the session that is open for a network, which exposes all its tensors at once."""
        return self._sessions.get(network.token) if network.exposed else None

    def session(self, network: Network, layers: Sequence[str]) -> Session:
        """Return a session that yields these tensors: the one that is open, or a new one."""
        session = self.opened(network)
        if session is not None:
            return session.only(layers)
        with self._lock:
            held = self._held(network, layers)
            if held.session is None:
                held.session = network.open(layers)
            return held.session

    def kernels(self, network: Network, layers: Sequence[str]) -> KernelEngine:
        """Return the engine of kernels that is open for these tensors, or a new one."""
        with self._lock:
            held = self._held(network, layers)
            if held.kernels is None:
                held.kernels = KernelEngine(self.session(network, layers))
            return held.kernels

    def _engine_for(self, job: Job) -> Engine:
        task = job.task
        if task.engine == "kernels":
            return self.kernels(task.network, job.layers)
        with self._lock:
            held = self._held(task.network, job.layers)
            # Points for M are taken from the model itself.
            if not job.orbits:
                if held.points is None:
                    held.points = KernelEngine(self._aside(task.network, job.pooled))
                return held.points
            if held.graph is None:
                check = task.source.check is not None
                checked = self.session(task.network, job.layers) if check else None
                held.graph = open_graph_engine(task, job.layers, checked)
            return held.graph

    def _aside(self, network: Network, layers: Sequence[str]) -> Session:
        """Return a session for some tensors of a pass, which goes with what is open for it."""
        session = self.opened(network)
        return network.open(layers) if session is None else session.only(layers)

    def _held(self, network: Network, layers: Sequence[str]) -> _Open:
        """Return what is open for some tensors; close what was used least lately for it."""
        key = network.token, tuple(layers)
        if key not in self._open:
            while len(self._open) >= self._kept:
                self._open.popitem(last=False)
            self._open[key] = _Open()
        self._open.move_to_end(key)
        return self._open[key]
