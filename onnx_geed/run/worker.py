"""A worker: runs jobs, of whatever task, with what it has open for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from onnx_geed.run.engine import Engine
from onnx_geed.run.graph_engine import open_graph_engine
from onnx_geed.run.job import Job, Network
from onnx_geed.run.kernel_engine import KernelEngine
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.session import Session

__all__ = ["Worker"]


class Worker:
    """Runs jobs, several at a time, and keeps open what the next one needs too.

    Parameters
    ----------
    sessions : mapping of str to Session, optional
        Sessions that are open already, by the token of a network whose tensors are all exposed.

    Notes
    -----
    What is open is closed when a job of another network or pass comes: those of one come together.
    """

    def __init__(self, sessions: Mapping[str, Session] | None = None) -> None:
        self._sessions = dict(sessions or {})
        self._key: tuple[str, tuple[str, ...]] | None = None
        self._engines: dict[bool, Engine] = {}
        self._lock = threading.Lock()

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

    def opened(self, network: Network) -> Session | None:
        """Return the session that is open for a network, which exposes all its tensors at once."""
        return self._sessions.get(network.token) if network.exposed else None

    def session(self, network: Network, layers: Sequence[str]) -> Session:
        """Return a session that yields these tensors: the one that is open, or a new one."""
        session = self.opened(network)
        return network.open(layers) if session is None else session.only(layers)

    def _engine_for(self, job: Job) -> Engine:
        task, key = job.task, (job.task.network.token, job.layers)
        # Both engines take points for M from the model itself.
        inside = task.engine == "graph" and job.orbits
        with self._lock:
            if self._key != key:
                self._engines.clear()
                self._key = key
            if inside not in self._engines:
                self._engines[inside] = self._open(job, inside=inside)
            return self._engines[inside]

    def _open(self, job: Job, *, inside: bool) -> Engine:
        task = job.task
        if inside:
            checked = self.session(task.network, job.layers) if task.source.check else None
            return open_graph_engine(task, job.layers, checked)
        only_points = task.engine == "graph"
        return KernelEngine(self.session(task.network, job.pooled if only_points else job.layers))
