"""Executors: where jobs are run. One runs them on the threads of this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from onnx_geed.errors import GeedError
from onnx_geed.threads import Threads

if TYPE_CHECKING:
    from onnx_geed.run.job import Task
    from onnx_geed.run.worker import Worker

__all__ = [
    "Executor",
    "ExecutorName",
    "LocalExecutor",
    "NoWorkersError",
    "Workforce",
    "cores",
    "in_order",
]

ExecutorName = Literal["local", "ray"]

Work = TypeVar("Work")


Result = TypeVar("Result")


class NoWorkersError(GeedError):
    """Nothing is left that could run a job, of this run or of another."""


@dataclass(frozen=True)
class Workforce:
    """Who ran the jobs.

    Parameters
    ----------
    executor : {"local", "ray"}
        The executor.
    nodes : int
        Machines.
    workers : int
        Jobs side by side on all of them.
    """

    executor: ExecutorName
    nodes: int
    workers: int


class Executor(Protocol):
    """Runs jobs of any task, of several runs at once where they are asked for on several threads.

    What jobs are run side by side, where and how often does not change a result: results come in
    the order of the jobs, each once.
    """

    @property
    def runs(self) -> int:
        """Runs that are best under way at a time, where there are several."""

    @property
    def apart(self) -> bool:
        """Whether workers share no memory, so that what one leaves behind is not the next one's."""

    def in_order(
        self,
        task: Task,
        worker: Worker,
        run: Callable[[Worker, Work], Result],
        jobs: Iterable[Work],
        workers: int,
    ) -> Iterator[Result]:
        """Run jobs; yield their results in order, holding no more than a few.

        Parameters
        ----------
        task : Task
            What they are of. It is sent once to wherever they run.
        worker : Worker
            Runs those that are run in this process.
        run : callable
            Runs one with a worker, which may be in another process: a function of a module, or a
            value that can be pickled.
        jobs : iterable
            The jobs, in order; small when the task is left out of them.
        workers : int
            Jobs that one machine's memory allows side by side.

        Yields
        ------
        result
            Of one job.

        Raises
        ------
        GeedError
            If a job fails.
        NoWorkersError
            If no worker is left to run it.
        """

    def workforce(self, workers: int) -> Workforce:
        """Say who ran jobs of which one machine's memory allows so many side by side."""

    def close(self) -> None:
        """End what runs, and let go of what is held; nothing more is run then."""


class LocalExecutor:
    """Runs jobs on the threads of this process."""

    #: Each run takes all processors.
    runs = 1
    apart = False

    def in_order(
        self,
        task: Task,
        worker: Worker,
        run: Callable[[Worker, Work], Result],
        jobs: Iterable[Work],
        workers: int,
    ) -> Iterator[Result]:
        """Run jobs as :meth:`Executor.in_order` says."""
        return in_order(jobs, partial(run, worker), workers)

    def workforce(self, workers: int) -> Workforce:
        """Return the threads of this machine."""
        return Workforce("local", 1, workers)

    def close(self) -> None:
        """Do nothing: threads end with their jobs."""


def in_order(jobs: Iterable[Work], run: Callable[[Work], Result], workers: int) -> Iterator[Result]:
    """Run jobs on threads; yield their results in order, holding no more than a few.

    Parameters
    ----------
    jobs : iterable
        The jobs, in order.
    run : callable
        Runs one, on a worker's thread.
    workers : int
        Number of threads.

    Yields
    ------
    result
        Of one job.
    """
    pool = Threads(workers)
    flying: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            flying.append(pool.submit(run, job))
            if len(flying) > workers:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        # On an error or Ctrl-C: nothing new starts, and what runs is waited for.
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
