"""Jobs on the threads of this machine, their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from onnx_geed.threads import Threads

__all__ = ["cores", "in_order"]

Work = TypeVar("Work")


Result = TypeVar("Result")


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
