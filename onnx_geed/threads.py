"""Threads for work of one's own, which a program that ends does not take away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, thread as _pools
from typing import Any

__all__ = ["Threads"]


class Threads(ThreadPoolExecutor):
    """Threads that do work side by side, or the calling thread where there are to be no more.

    Once the main thread of a program has ended, Python waits for other threads of it, and gives
    them no pools: a thread that measures then does alone what is left.
    """

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Have a call done by a thread; return what it will give."""
        try:
            return super().submit(function, *arguments, **named)
        except RuntimeError:
            # A pool's own threads close it at the end; what it says then is that it was closed.
            if not getattr(_pools, "_shutdown", False):
                raise
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except Exception as error:
            done.set_exception(error)
        return done
