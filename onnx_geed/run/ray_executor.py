"""The executor that runs jobs on the workers of a Ray cluster."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from onnx_geed.errors import GeedError
from onnx_geed.run.executor import NoWorkersError, Workforce, cores
from onnx_geed.run.job import Task
from onnx_geed.run.ray_cluster import Cluster, connect
from onnx_geed.run.ray_pool import Pool
from onnx_geed.run.ray_stream import Stream
from onnx_geed.run.ray_worker import packed, sealed
from onnx_geed.run.worker import Worker

__all__ = ["RayExecutor"]

Work = TypeVar("Work")


Result = TypeVar("Result")

# Tasks that are kept in the cluster's store for the next jobs of theirs.
_TASKS = 4


class RayExecutor:
    """Runs jobs on the workers of a Ray cluster: a process a processor, each with one thread.

    Parameters
    ----------
    address : str, optional
        As :func:`onnx_geed.run.executors.open_executor` takes it.

    Raises
    ------
    GeedError
        If Ray is not installed, or no cluster answers at the address.
    """

    #: While some are prepared here, the jobs of others run.
    runs = 4
    apart = True

    def __init__(self, address: str | None = None) -> None:
        self._cluster: Cluster = connect(address)
        self._pool: Pool | None = None
        self._share = 0.0
        self._tasks: OrderedDict[int, tuple[Task, str, Any]] = OrderedDict()
        self._numbers = itertools.count()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="onnx-geed-reader")
        self._lock, self._closed = threading.Lock(), False
        if not self._cluster.ray.cluster_resources().get("GPU"):
            self._pool_with(0.0)  # whose workers start while the first run is prepared

    def in_order(
        self,
        task: Task,
        worker: Worker,
        run: Callable[[Worker, Work], Result],
        jobs: Iterable[Work],
        workers: int,
    ) -> Iterator[Result]:
        """Run jobs as :meth:`onnx_geed.run.executor.Executor.in_order` says."""
        ray = self._cluster.ray
        cuda = task.network.provider == "cuda"
        pool = self._pool_with(1 / workers if cuda else 0.0)
        name, at = self._sent(task)
        run_at = ray.put(packed(run, task))
        shared = ((name, at), (f"run {next(self._numbers)}", run_at))
        # Fewer than the processors are those that a machine's memory has room for.
        most = sys.maxsize if cuda or workers >= cores() else workers
        stream = Stream(shared, iter(jobs), lambda job: packed(job, task), most)
        for outcome in pool.run(stream):
            if outcome.error is not None:
                raise outcome.error
            for moved, marks in zip(task.source.moved, outcome.marks, strict=True):
                if moved.intake is not None:
                    moved.intake.note(marks)
            intake = task.source.main.intake
            if intake is not None and outcome.marks[0]:
                # Of what cannot be read here the fingerprint tells at the end.
                self._reader.submit(intake.read_along, sorted(outcome.marks[0]))
            yield outcome.value

    def workforce(self, workers: int) -> Workforce:
        """Return the nodes, and the most workers that there were at a time."""
        pool = self._pool
        return Workforce("ray", pool.nodes, pool.workers) if pool else Workforce("ray", 0, 0)

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._reader.shutdown(cancel_futures=True)
            self._tasks.clear()
            if self._pool is not None:
                self._pool.close()
            self._cluster.leave()

    def _pool_with(self, share: float) -> Pool:
        """Return the pool whose workers take such a share of a GPU; one there is serves all."""
        with self._lock:
            if self._closed:
                raise NoWorkersError("--executor ray: was closed")
            if self._pool is None:
                self._share = share
                self._pool = Pool(self._cluster, share)
            elif share > self._share:
                raise GeedError(
                    "--executor ray: some runs of this suite are on CUDA, and the first was not: "
                    "give --provider cpu or cuda for all"
                )
            return self._pool

    def _sent(self, task: Task) -> tuple[str, Any]:
        """Return the name and the place of a task in the cluster's store, where it goes once."""
        with self._lock:
            if id(task) not in self._tasks:
                while len(self._tasks) >= _TASKS:
                    self._tasks.popitem(last=False)
                at = self._cluster.ray.put(sealed(task))
                self._tasks[id(task)] = task, f"task {next(self._numbers)}", at
            self._tasks.move_to_end(id(task))
            _, name, at = self._tasks[id(task)]
            return name, at
