"""HDF5 files are looked through by a child first: the library ends the process on some damages.

Whoever imports the package into a program of their own has threads that a child would not have, so
this is done by commands alone; a confined one has a parent already that tells how it ended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onnx_geed.confinement import confined
from onnx_geed.errors import GeedError
from onnx_geed.overrun import is_command
from onnx_geed.whole import whole

__all__ = ["try_hdf5"]

# Seconds of looking, and until a child that has not come to an end by then is ended.
_LOOKING, _PATIENCE = 2.0, 10.0

# Bytes that the child may hold besides what it was forked with, and seconds of a processor.
_HELD, _WORK = 768 << 20, 3

_FATAL = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT", "SIGILL")
    if hasattr(signal, name)
)

# Bytes of a chunk that is read.
_LARGEST = 64 << 20

# What was looked through by this process, and has not changed.
_TRIED: set[object] = set()


def try_hdf5(paths: Iterable[Path]) -> None:
    """Have a child look through HDF5 files, once each.

    Parameters
    ----------
    paths : iterable of Path
        The files.

    Raises
    ------
    GeedError
        If the child was ended by the library.
    """
    if sys.platform != "linux" or not is_command() or confined() is not None:
        return
    marks = {path: _mark(path) for path in paths if path.is_file()}
    fresh = [path for path, mark in marks.items() if mark not in _TRIED]
    if not fresh:
        return
    _TRIED.update(marks.values())
    with whole():
        import h5py  # noqa: F401  (which the child then has, and this process needs too)
    at, telling = os.pipe()
    try:
        child = os.fork()
    except OSError:  # no process more is to be had
        os.close(telling)
        os.close(at)
        return
    if not child:
        with contextlib.suppress(BaseException):
            _look_through(fresh, telling)
        os._exit(0)
    os.close(telling)
    status = _ended(child)
    with open(at, "rb") as told:
        count = len(told.read())
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _FATAL and count:
        raise GeedError(
            f"{fresh[count - 1]}: is damaged, so that HDF5 ends the process that reads it; write "
            "it again"
        )


def _mark(path: Path) -> object:
    state = path.stat()
    return str(path), state.st_mtime_ns, state.st_size


def _ended(child: int) -> int:
    """Return how a child ended, by itself or after a while."""
    until, pause = time.monotonic() + _PATIENCE, 0.0005
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _data_held() -> int:
    """Return the bytes of this process that its limit on data counts."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _look_through(paths: Iterable[Path], telling: int) -> None:
    """Read names, attributes, layouts and first entries, and tell of nothing."""
    import resource

    # What unpacks to gigabytes ends the child, which proves nothing: its reader counts that.
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, _HELD + _data_held()),
        (resource.RLIMIT_CPU, _WORK),
    ):
        allowed = resource.getrlimit(kind)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(kind, (most, most))
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    with whole():
        import h5py

    until = time.monotonic() + _LOOKING

    def look(name: str, item: Any) -> bool | None:
        with contextlib.suppress(Exception):
            dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            with contextlib.suppress(Exception):
                if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > _LARGEST:
                    return None
                if item.shape:
                    item[(0,) * len(item.shape)]
        return True if time.monotonic() > until else None

    for path in paths:
        if time.monotonic() > until:
            return
        os.write(telling, b".")
        with contextlib.suppress(Exception), h5py.File(path, "r") as file:
            look("/", file)
            file.visititems(look)
