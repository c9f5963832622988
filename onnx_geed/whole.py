"""Steps that must not be cut: by Ctrl-C, by a fork from another thread, or by the process's end.

A library that is half imported stays so: Python finds its modules but not their names in each
other, and every later call fails. And a process that is forked while another thread imports,
compiles or opens a session keeps that thread's locks, which nobody will ever give back: what needs
them waits for ever.

And a process that ends cuts off threads that are daemons where they come back from a library to
Python. Out of C++ that cannot be done: the process would end by ``std::terminate``. So it lets them
come back first, and begin nothing more.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from onnx_geed.errors import GeedError

__all__ = ["awaited", "let_come_back", "whole"]

# Steps that each thread is inside, by its number; a thread changes its own alone.
_INSIDE: dict[int, int] = {}


# Threads that were inside one when this process was forked from another of them.
_CUT: list[int] = []


# Threads inside a call that the end of the process waits for, and whether it ends.
_AWAITED: set[int] = set()


_ENDING = threading.Event()


# Seconds that it waits: longer than any loop is compiled, or any run of a batch should be.
_LONGEST = 60.0


@contextlib.contextmanager
def awaited() -> Iterator[None]:
    """Call a library that another thread must come back from before the process ends.

    Once it ends, threads beside the main one stay where they begin such a call or come back from
    it: what fails then, such as an import, fails for that.
    """
    me = threading.get_ident()
    if me in _AWAITED:
        yield
        return
    _AWAITED.add(me)
    try:
        _stay_at_the_end(me)
        yield
    finally:
        _stay_at_the_end(me)
        _AWAITED.discard(me)


def _stay_at_the_end(me: int) -> None:
    if _ENDING.is_set() and threading.current_thread() is not threading.main_thread():
        _AWAITED.discard(me)
        threading.Event().wait()  # for ever, which is not long


@atexit.register
def let_come_back() -> None:
    """Wait for threads that are inside a library; those that are no daemons have ended already."""
    _ENDING.set()
    until = time.monotonic() + _LONGEST
    with contextlib.suppress(KeyboardInterrupt):
        while _AWAITED - {threading.get_ident()} and time.monotonic() < until:
            time.sleep(0.002)
    # What is loaded meanwhile registers what it has to do at the end too late: Python drops it.
    # HDF5 would then call h5py as the very last, when there is no Python any more.
    if (conversions := sys.modules.get("h5py._conv")) is not None:
        with contextlib.suppress(Exception):
            conversions.unregister_converters()


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Run a step from its beginning to its end; steps may be nested.

    Ctrl-C is told when the step is done, where it raises ``KeyboardInterrupt`` and no handler of
    the user's own is set.

    Raises
    ------
    GeedError
        If this process was forked while another thread was inside such a step.
    """
    if _CUT:
        raise GeedError(
            "this process was forked while another thread was loading a library, compiling or "
            "opening a model, and has kept its locks: start processes by spawn or forkserver "
            "(multiprocessing.get_context), or fork before threads measure"
        )
    me = threading.get_ident()
    with awaited(), _interrupted_afterwards():
        _INSIDE[me] = _INSIDE.get(me, 0) + 1
        try:
            yield
        finally:
            _INSIDE[me] -= 1
            if not _INSIDE[me]:
                del _INSIDE[me]


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Keep a Ctrl-C for the end; only the main thread hears of it."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    came: list[int] = []
    try:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    except ValueError:  # an interpreter beside the main one
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


def _forked() -> None:
    _CUT.extend(_INSIDE.keys() - {threading.get_ident()})
    for thread in _CUT:
        _INSIDE.pop(thread, None)
    _AWAITED.intersection_update({threading.get_ident()})  # others are not in this process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
