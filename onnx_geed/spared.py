"""What is read must not be written: whether a file would replace it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_read"]

# Kinds of files that are written, and that nobody reads a folder for.
_UNREAD = frozenset((".json", ".html", ".xml", ".csv", ".svg", ".npz", ".onnx"))


def is_read(path: Path, source: str) -> bool:
    """Say whether a file is what is read: itself, a part ``FILE:KEY`` of it, or in a folder."""
    family = source.partition(":")[2].rpartition("/")[0]  # background:FOLDER/8
    names = [source] if os.path.exists(source) else [source.rpartition(":")[0], family]
    for name in filter(None, names):
        if os.path.isfile(name) and os.path.samefile(path, name):
            return True
        above = Path(os.path.realpath(path)).parents
        if Path(os.path.realpath(name)) in above and path.suffix.lower() not in _UNREAD:
            return True
    return False
