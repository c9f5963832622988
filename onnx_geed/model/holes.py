"""Holes in files: bytes that a file says it has and that lie on no disk, which read as zeros."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_hollow"]

# Holes of this share make a file hollow; of more pieces than that nobody asks.
_SHARE, _PIECES = 0.1, 1_000


def is_hollow(path: Path) -> bool:
    """Say whether much of a file is holes: such a file of gigabytes costs nobody anything.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False where the system does not tell.
    """
    if not hasattr(os, "SEEK_HOLE"):
        return False
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return _holes(file.fileno(), size) > _SHARE * size
    except OSError:
        return False


def _holes(file: int, size: int) -> int:
    """Return the bytes of holes, up to the last of the pieces that are looked at."""
    found = at = 0
    for _ in range(_PIECES):
        start = os.lseek(file, at, os.SEEK_HOLE)
        if start >= size:  # the one behind the end
            break
        try:
            at = os.lseek(file, start, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            at = size
        found += at - start
        if at >= size:
            break
    return found
