"""Files that end: pipes, devices and sockets are told from them before they can block a process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import select
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

from onnx_geed.errors import GeedError

__all__ = ["check_ordinary", "check_sink", "digest_of", "open_ordinary", "open_pipe", "open_sink"]

# Seconds until somebody must have opened the other end of a pipe.
_PATIENCE = 5.0

_NOT_WAITING = getattr(os, "O_NONBLOCK", 0)


def check_ordinary(path: str | Path, where: object = None) -> None:
    """Make sure that what is to be read is a file, if it is there at all.

    Parameters
    ----------
    path : str or Path
        The place, for a library that opens it by its name.
    where : object, optional
        What messages call it; the path by default.

    Raises
    ------
    GeedError
        If it is a pipe, a device, a socket or a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # which opening it says in words
        return
    _check(mode, where or path)


def open_ordinary(path: str | Path, where: object = None) -> BinaryIO:
    """Open a file for reading, and never wait for one.

    Parameters
    ----------
    path : str or Path
        The file.
    where : object, optional
        What messages call it; the path by default.

    Returns
    -------
    BinaryIO

    Raises
    ------
    GeedError
        If it is a pipe, a device, a socket or a folder.
    OSError
        If there is none, or it cannot be opened.
    """
    check_ordinary(path, where)  # devices are not even opened
    file = io.BufferedReader(_Ready(path, "rb", opener=_opener))
    try:
        _check(os.fstat(file.fileno()).st_mode, where or path)
    except GeedError:
        file.close()
        raise
    return file


def digest_of(path: str | Path) -> str:
    """Return the digest of a file, of which no more is held than a piece: ``sha256:...``."""
    digest = hashlib.sha256()
    with open_ordinary(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def open_pipe(path: str | Path) -> BinaryIO:
    """Open a pipe for reading, once somebody has written to it.

    Raises
    ------
    GeedError
        If nobody does.
    OSError
        If it cannot be opened.
    """
    file = io.BufferedReader(io.FileIO(path, "rb", opener=_opener))
    ready, _, _ = select.select([file], [], [], _PATIENCE)
    if not ready:
        file.close()
        raise GeedError(f"{path}: is a pipe that nobody writes to; give a file")
    os.set_blocking(file.fileno(), True)
    return file


def check_sink(path: Path) -> None:
    """Make sure that what is there can be written to, if it is no file.

    Raises
    ------
    OSError
        If it is a disk or a socket.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
            raise OSError(f"it is {_called(mode)}")


def open_sink(path: Path) -> BinaryIO:
    """Open what is no file for writing: a pipe, once somebody reads it, or a device.

    Raises
    ------
    OSError
        If nobody reads it, or it is a disk or a socket.
    """
    check_sink(path)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            file = io.BufferedWriter(io.FileIO(path, "wb", opener=_opener))
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError("it is a pipe that nobody reads from") from None
        time.sleep(0.02)
    os.set_blocking(file.fileno(), True)
    return file


class _Ready(io.FileIO):
    """A file that has its content now; of what has none yet, such as a log, reading fails."""

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer."""
        return cast(int, _there(super().readinto(buffer)))

    def readall(self) -> bytes:
        """Return all that is left."""
        return cast(bytes, _there(super().readall()))


def _there(read: object) -> object:
    if read is None:
        raise BlockingIOError(errno.EAGAIN, "it has nothing to read yet")
    return read


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | _NOT_WAITING)


def _check(mode: int, where: object) -> None:
    if not stat.S_ISREG(mode):
        raise GeedError(f"{where}: is {_called(mode)}; give a file")


def _called(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
