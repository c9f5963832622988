"""Files as they were when they were opened, to tell whether they are still the same at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stamp", "stamp"]


@dataclass(frozen=True)
class Stamp:
    """A file as it was at some moment.

    Parameters
    ----------
    path : str
        The file.
    size : int
        Its bytes; -1 where there was no such file.
    modified : int
        Nanoseconds of its last change.
    inode : tuple of (int, int)
        Device and number: another file under the same name has another one.
    """

    path: str
    size: int
    modified: int
    inode: tuple[int, int]

    def change(self) -> str:
        """Say how the file differs from what it was; nothing where it does not."""
        now = stamp(self.path)
        if now == self:
            return ""
        if now.size < 0:
            return f"{self.path} is gone"
        if now.size != self.size:
            return f"{self.path} had {self.size} bytes and has {now.size}"
        if now.inode != self.inode:
            return f"{self.path} is another file"
        return f"{self.path} was written to"


def stamp(path: str | Path) -> Stamp:
    """Return a file as it is now."""
    try:
        state = os.stat(path)
    except OSError:
        return Stamp(os.fspath(path), -1, 0, (0, 0))
    return Stamp(os.fspath(path), state.st_size, state.st_mtime_ns, (state.st_dev, state.st_ino))
