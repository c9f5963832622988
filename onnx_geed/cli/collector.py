"""When the garbage collector works: not while a run's libraries load, which leaves no garbage."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["collecting_later"]


@contextmanager
def collecting_later() -> Iterator[Callable[[], None]]:
    """Leave garbage uncollected until a run begins.

    Half a million objects are made before the first orbit, and stay. Looking through them again
    and again takes as long as reading a model; later they are left out.

    Yields
    ------
    callable
        To be called when the run begins; the end of the context does it too.
    """
    working = gc.isenabled()
    gc.disable()

    def begin() -> None:
        nonlocal working
        if working:
            working = False
            gc.freeze()
            gc.enable()

    try:
        yield begin
    finally:
        begin()
