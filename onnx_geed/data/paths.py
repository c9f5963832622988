"""The files in a folder and the folders in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from onnx_geed.errors import GeedError

__all__ = ["files_in", "is_kind", "kinds_held"]

# A folder may be met by several links; links to each other's folders are met without end.
_MOST_TIMES = 20

# No data set has more.
_MOST_FILES = 20_000_000


def files_in(folder: Path, option: str = "--data") -> tuple[str, ...]:
    """List the files in a folder and the folders in it, links to folders among them.

    Parameters
    ----------
    folder : Path
        Where to look. Hidden files and folders are left out: they are other programs' notes.
    option : str
        What it was given to, for messages.

    Returns
    -------
    tuple of str
        Relative POSIX paths in bytewise order.

    Raises
    ------
    GeedError
        If a folder cannot be read, or links lead to one again and again.
        If there are more files than any data set has.
    """

    def fail(error: OSError) -> None:
        raise GeedError(f"{option} {folder}: {error.filename} cannot be read ({error.strerror})")

    # Links may lead back up: no folder is entered again below itself.
    above = {str(folder): frozenset([os.path.realpath(folder)])}
    times: Counter[str] = Counter()
    names: list[str] = []
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        for name in folders.copy():
            path = os.path.join(root, name)
            real = os.path.realpath(path)
            if name.startswith(".") or real in above[root]:
                folders.remove(name)
            else:
                times[real] += 1
                if times[real] > _MOST_TIMES:
                    raise GeedError(
                        f"{option} {folder}: links lead over {_MOST_TIMES} times to {real}; give a "
                        "folder in which each sample lies once"
                    )
                above[path] = above[root] | {real}
        shown = (name for name in files if not name.startswith("."))
        names += (Path(root, name).relative_to(folder).as_posix() for name in shown)
        if len(names) > _MOST_FILES:
            raise GeedError(
                f"{option} {folder}: holds over {_MOST_FILES:,} files; give the folder of the "
                "samples"
            )
    return tuple(sorted(names, key=os.fsencode))


def is_kind(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends in one of these, written in lower case."""
    return name.lower().endswith(tuple(suffixes))


def kinds_held(names: Sequence[str]) -> str:
    """Say of what kinds files are, for messages: ``it holds .csv, .txt``."""
    kinds = {os.path.splitext(name)[1].lower() or name for name in names}
    return f"it holds {', '.join(sorted(kinds)[:5])}" if kinds else "it is empty"
