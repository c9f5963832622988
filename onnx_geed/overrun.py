"""A run of a model that takes time or memory out of all proportion ends a command's process.

Of most models both are reckoned before anything runs. Where sizes depend on values, or lie in the
body of a loop or a branch, nobody knows them before; and a node that computes cannot be stopped
but with its process. So a command has a thread that looks at what runs. A program that imports the
package has none: its process is its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx_geed.confinement import confined
from onnx_geed.text import format_bytes

__all__ = ["end_by", "expect", "is_command", "opening", "watched"]

# Seconds between two looks.
_LOOK = 0.02

# Seconds that any run may take, and how many times as long as reckoned.
_SECONDS, _TIMES = 45.0, 10.0

# Seconds that the runtime may take to open a model; with the number of nodes they grow faster than
# its square.
_OPENING = 25.0

# Bytes that any run may hold, and how many times as many as reckoned; but only so many more than
# there is room for, so that the process keeps to its memory.
_BYTES, _HELD = 1280 << 20, 1.5
_LESS, _MORE = 256 << 20, 192 << 20


@dataclass
class _Watch:
    """What is watched, and against what.

    Parameters
    ----------
    end : callable or None
        Ends the process with a line; None where nothing is watched.
    seconds : float
        What a row is reckoned to take.
    bytes : int
        What it is reckoned to hold.
    room : int
        What may be held.
    process : int
        The one that has a thread which looks: a fork has none.
    seen : (float, int)
        When it last looked, and the bytes that the process held then.
    """

    end: Callable[[str], object] | None = None
    seconds: float = 0.0
    bytes: int = 0
    room: int = 0
    process: int = 0
    seen: tuple[float, int] = (0.0, 0)


_WATCH = _Watch()

# What runs: when it began, what the process had computed and held then, and its rows (none where a
# model is opened), by thread.
_RUNS: dict[int, tuple[float, float, int, int]] = {}

_BEGUN = threading.Event()


def end_by(end: Callable[[str], object] | None) -> None:
    """Have runs watched from now on, or no more; one that overruns is ended by this, in a line."""
    _WATCH.end = end


def is_command() -> bool:
    """Say whether the process is a command's."""
    return _WATCH.end is not None


def expect(seconds: float, held: int, room: int) -> None:
    """Say what a row of the model that is run from now on is reckoned to take.

    Parameters
    ----------
    seconds : float
        Of one core.
    held : int
        Bytes of its activations.
    room : int
        Bytes that a run may hold.
    """
    _WATCH.seconds, _WATCH.bytes, _WATCH.room = seconds, held, room


@contextlib.contextmanager
def watched(rows: int) -> Iterator[None]:
    """Run a model on so many rows, watched where the process is a command's."""
    with _watched(rows):
        yield


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Open a model, watched where the process is a command's."""
    with _watched(0):
        yield


@contextlib.contextmanager
def _watched(rows: int) -> Iterator[None]:
    if _WATCH.end is None:
        yield
        return
    me = threading.get_ident()
    if _WATCH.process != os.getpid():
        _WATCH.process = os.getpid()
        _RUNS.clear()
        threading.Thread(target=_look, daemon=True).start()
    now, (looked, held) = time.monotonic(), _WATCH.seen
    # To ask the system gives the interpreter away, and small samples' runs would wait for it.
    held = held if now - looked < 2 * _LOOK else _held()
    _RUNS[me] = (now, time.process_time(), held, rows)
    _BEGUN.set()
    try:
        yield
    finally:
        _RUNS.pop(me, None)


def _held() -> int:
    """Return the bytes that this process holds, 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _look() -> None:
    while True:
        if not _RUNS:
            _BEGUN.clear()
            if not _RUNS:
                _BEGUN.wait()
        time.sleep(_LOOK)
        runs = list(_RUNS.values())
        if not runs or _WATCH.end is None:
            continue
        now, held = time.monotonic(), _held()
        _WATCH.seen = now, held
        if fault := _fault(runs, held, now, time.process_time()):
            _WATCH.end(fault)


def _fault(runs: list[tuple[float, float, int, int]], held: int, now: float, worked: float) -> str:
    for opened in (run for run in runs if not run[3]):
        if min(now - opened[0], worked - opened[1]) > _OPENING and confined() is None:
            return (
                f"ONNX Runtime has not opened the model after {_OPENING:.0f} s of work: use one of "
                "fewer nodes, or --isolate, where --time-limit decides"
            )
    if not (runs := [run for run in runs if run[3]]):
        return ""
    began, before, held_before = (min(run[i] for run in runs) for i in range(3))
    rows = sum(run[3] for run in runs)
    reckoned = int(_HELD * _WATCH.bytes * rows) + _LESS
    most = max(_BYTES, _WATCH.room - _LESS, min(reckoned, _WATCH.room + _MORE))
    if held - held_before > most:
        return (
            f"a run of the model needs over {format_bytes(most)} of memory, more than its shapes "
            "say: allow more with --memory, or use a model whose sizes do not depend on values"
        )
    longest = max(_SECONDS, _TIMES * _WATCH.seconds * rows)
    # A process that was stopped, or waits for others on a busy machine, computes nothing meanwhile.
    if min(now - began, worked - before) > longest and confined() is None:
        return (
            f"a run of the model has not ended after {longest:.0f} s of work; by its shapes it "
            f"takes {_WATCH.seconds * rows:.2g} s: use smaller samples, or --isolate, where "
            "--time-limit decides"
        )
    return ""
