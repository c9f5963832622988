"""Functions and values in a module of the user's own: ``module:name``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnx_geed.errors import GeedError, nearest

__all__ = ["USED", "importable", "imported"]


# The user's modules that were imported in this process.
USED: list[str] = []


def imported(module: str, name: str, where: str) -> Any:
    """Return what stands in a user's module, by its name there.

    Raises
    ------
    GeedError
        If the module has no such name.
    """
    USED.append(module)
    part: Any = importlib.import_module(module)
    for step in name.split("."):
        if not hasattr(part, step):
            raise GeedError(f"{where}: no {step!r} in {module}.{nearest(step, _public(part))}")
        part = getattr(part, step)
    return part


def _public(part: Any) -> list[str]:
    """Return the names of a module or an object that somebody gave it."""
    return [name for name in dir(part) if not name.startswith("__")]


@contextmanager
def importable(folder: str | None = None) -> Iterator[None]:
    """Find modules in a folder first, the current one by default, as Python does if started there.

    Not only while the user's module is imported: its functions may import others beside it.
    """
    folder = os.getcwd() if folder is None else folder
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # which the user's function may have changed
            sys.path.remove(folder)
