"""What is read must not be written: whether a file would replace it, or be read with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from onnx_geed.errors import GeedError

__all__ = ["spare", "spare_caches"]

# Kinds of files that are written, and that nobody reads a folder for.
_UNREAD = frozenset((".json", ".html", ".xml", ".csv", ".svg", ".npz", ".onnx"))

# What makes a folder a cache: shards, and a name or the file that is written last.
_CACHE, _SHARDS = "cache.h5", "shard-*.h5"


def spare(path: Path, option: str, inputs: Sequence[str | Path | None] = ()) -> None:
    """Make sure that a file that is going to be written is none that is read, nor read with it.

    Parameters
    ----------
    path : Path
        The file, there already or not.
    option : str
        The option that named it, for the message.
    inputs : sequence of str, Path or None
        What is read: files, ``FILE:KEY``, and folders of samples.

    Raises
    ------
    GeedError
        If it is one of the inputs, or in a folder that is read.
        If it lies in a cache.
    """
    for source in inputs:
        if source is not None and _is_read(path, str(source)):
            there = path.is_file()
            raise GeedError(
                f"{option} {path}: would {'overwrite' if there else 'add a file to'} {source}, "
                f"which is read; name {'another file' if there else 'a file elsewhere'}"
            )
    spare_caches(path, option)


def spare_caches(path: Path, option: str) -> None:
    """Make sure that what is going to be written does not lie in a cache, which it would damage.

    Raises
    ------
    GeedError
        If it does.
    """
    for folder in Path(os.path.realpath(path)).parents:
        named = folder.suffix == ".geed" and folder.is_dir()
        if (named or (folder / _CACHE).is_file()) and any(folder.glob(_SHARDS)):
            raise GeedError(
                f"{option} {path}: lies in the cache {folder.name or folder}, which holds "
                "activations only; name a place elsewhere"
            )


def _is_read(path: Path, source: str) -> bool:
    """Say whether a file is what is read: itself, a part ``FILE:KEY`` of it, or in a folder."""
    family = source.partition(":")[2].rpartition("/")[0]  # background:FOLDER/8
    names = [source] if os.path.exists(source) else [source.rpartition(":")[0], family]
    above = Path(os.path.realpath(path)).parents
    for name in filter(None, names):
        if os.path.isfile(name) and path.is_file() and os.path.samefile(path, name):
            return True
        # What is no folder, such as FILE:KEY where nothing is, is above nothing.
        if Path(os.path.realpath(name)) in above and path.suffix.lower() not in _UNREAD:
            return True
    return False
