"""Threads for work of one's own, which a program that ends does not take away."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, thread as _pools
from typing import Any, Generic, TypeVar

__all__ = ["Threads", "with_idle"]

Item = TypeVar("Item")


# The pool that a thread is of.
_OF_THREAD = threading.local()


class Threads(ThreadPoolExecutor):
    """Threads that do work side by side, or the calling thread where there are to be no more.

    Once the main thread of a program has ended, Python waits for other threads of it, and gives
    them no pools: a thread that measures then does alone what is left.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, initializer=_begin, initargs=(weakref.ref(self),))
        self._idle, self._lock, self._closed = count, threading.Lock(), False
        self._open: list[_Items[Any]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Have a call done by a thread; return what it will give."""
        try:
            given = super().submit(function, *arguments, **named)
        except RuntimeError:
            # A pool's own threads close it at the end; what it says then is that it was closed.
            if not getattr(_pools, "_shutdown", False):
                raise
        else:
            with self._lock:
                self._idle -= 1  # below zero where calls wait for a thread
            given.add_done_callback(lambda _: self._done())
            return given
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except Exception as error:
            done.set_exception(error)
        return done

    def _done(self) -> None:
        with self._lock:
            self._idle += 1
            shared = list(self._open)
        for items in shared:
            self._help(items, len(items.left))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; end the threads, and what waits for one where that is asked for."""
        # Calls that are cancelled are done with, while the pool holds what submitting waits for.
        self._closed = True
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _help(self, items: _Items[Any], count: int) -> None:
        """Have at most so many threads take part, of those that have nothing to do."""
        for _ in range(0 if self._closed else min(self._idle, count)):
            try:
                self.submit(items.take)
            except RuntimeError:  # the pool was closed meanwhile
                return

    def share(self, items: _Items[Any]) -> None:
        """Take items on this thread, and on others as soon as they have nothing to do."""
        with self._lock:
            self._open.append(items)
        self._help(items, len(items.left) - 1)
        try:
            items.take()
        finally:
            with self._lock:
                self._open.remove(items)


def _begin(pool: weakref.ref[Threads]) -> None:
    _OF_THREAD.pool = pool


class _Items(Generic[Item]):
    """What is to be done with each of some items, which are left, and how many are being done."""

    def __init__(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        self._function, self.left = function, deque(enumerate(items))
        self._begun, self._changed = 0, threading.Condition()
        self._errors: dict[int, BaseException] = {}

    def take(self) -> None:
        """Do what is left, one by one; others may take from it too."""
        while True:
            with self._changed:
                if not self.left:
                    return
                number, item = self.left.popleft()
                self._begun += 1
            try:
                self._function(item)
            except BaseException as error:
                with self._changed:
                    self._errors[number] = error
                    self.left.clear()  # nothing more is begun
            with self._changed:
                self._begun -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Wait for those that are being done elsewhere; raise what the first of all failed with.

        All before it have begun and are done too, so it is the same one whoever was faster.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._begun)
        errors, self._errors = self._errors, {}
        try:
            if errors:
                raise errors[min(errors)]
        finally:
            del errors  # else the error would hold the frames that hold it


def with_idle(function: Callable[[Item], Any], items: Iterable[Item]) -> None:
    """Call a function for each item, here and on threads of the same pool that have nothing to do.

    Parameters
    ----------
    function : callable
        Called with one item; with several at once where this thread is one of a pool's.
    items : iterable
        The items. They are begun in order; of several that fail, the first one's error is raised.
    """
    shared = _Items(function, items)
    pool: Threads | None = getattr(_OF_THREAD, "pool", lambda: None)()
    if pool is None:
        shared.take()
    else:
        pool.share(shared)
    shared.end()
