"""One thread for products of matrices: OpenBLAS spreads even small ones, and waits for its threads.

Where a model or others keep the cores busy, that was seen to take fifty times as long as one thread
does. What can be done side by side is, by threads of our own.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

__all__ = ["in_one_thread"]


@dataclass
class _Libraries:
    """What sets the threads of each library and how many it had; how many blocks are under way."""

    threads: list[tuple[Callable[[int], object], int]]
    blocks: int = 0
    lock: Lock = field(default_factory=Lock)


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Have the OpenBLAS of numpy's and scipy's wheels work in the thread that calls it.

    Other libraries of matrices are left as they are. Blocks may lie in each other or overlap in
    time: the last one that ends gives the threads back.
    """
    libraries = _libraries()
    with libraries.lock:
        libraries.blocks += 1
        for setter, _ in libraries.threads:
            setter(1)
    try:
        yield
    finally:
        with libraries.lock:
            libraries.blocks -= 1
            for setter, before in libraries.threads if not libraries.blocks else ():
                setter(before)


@functools.cache
def _libraries() -> _Libraries:
    """Find the libraries once: their threads are those of the whole process."""
    import scipy.linalg.blas  # noqa: F401 - so that its library is loaded

    site, found = Path(np.__file__).parent.parent, []
    for folder in ("numpy.libs", "scipy.libs", "numpy/.dylibs", "scipy/.dylibs"):
        for path in sorted((site / folder).glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:  # not one for this machine
                continue
            for start in ("openblas", "scipy_openblas"):
                for end in ("", "64_"):
                    setter = getattr(library, f"{start}_set_num_threads{end}", None)
                    getter = getattr(library, f"{start}_get_num_threads{end}", None)
                    if setter is not None and getter is not None:
                        found.append((setter, int(getter())))
    return _Libraries(found)
