"""How loops are compiled and kept on disk, and what the user is told of it.

Compiling takes seconds, once: numba keeps the machine code in ``NUMBA_CACHE_DIR``, else beside the
source, else in the user's own cache folder. Where none of these can be written it would refuse to
compile at all; here it compiles in every process, and says so. Messages go to the logger
``onnx_geed``, which the command line prints on stderr.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event

__all__ = ["LOGGER", "compiled"]

LOGGER = logging.getLogger("onnx_geed")


# The modules whose compiling is announced.
_HOME = __name__.rpartition(".")[0] + "."


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: compile on the first call, or take machine code from the disk.

    Parameters
    ----------
    *fastmath : str
        LLVM's flags for arithmetic that may be done in another way than it is written.

    Returns
    -------
    callable
        The decorator; what it returns releases the interpreter's lock.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options: dict[str, Any] = {
            "nogil": True,
            "fastmath": set(fastmath),
            "error_model": "numpy",
        }
        try:
            kernel: Callable[..., Any] = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder is writable
            kernel = numba.njit(**options)(function)
        return kernel

    return decorate


def _message(cache: str | None) -> tuple[int, str]:
    """Return the level and text of the message when something has to be compiled."""
    asked = str(getattr(numba.config, "CACHE_DIR", ""))
    if cache is None:
        where = f"NUMBA_CACHE_DIR={asked}" if asked else "the package's folder and your own cache"
        return logging.WARNING, (
            f"{where} cannot be written: the kernels are compiled again in every run, which takes "
            "some seconds; set NUMBA_CACHE_DIR to a folder that can"
        )
    if asked and Path(asked).resolve() not in Path(cache).resolve().parents:
        return logging.WARNING, (
            f"NUMBA_CACHE_DIR={asked} cannot be written: compiled kernels are kept in {cache}"
        )
    return logging.INFO, (
        f"compiling kernels, once after installation or an update (some seconds), into {cache}"
    )


class _Announcer(event.Listener):
    """Say it once, when the first of the package's functions is really compiled."""

    def __init__(self) -> None:
        self._announced = threading.Lock()

    def on_start(self, event: Any) -> None:
        """Tell the user: numba calls this where no machine code on disk fits."""
        dispatcher = event.data["dispatcher"]
        if dispatcher.py_func.__module__.startswith(_HOME) and self._announced.acquire(
            blocking=False
        ):
            LOGGER.log(*_message(dispatcher.stats.cache_path))

    def on_end(self, event: Any) -> None:
        """Do nothing, which numba asks a listener for."""


event.register("numba:compile", _Announcer())  # type: ignore[no-untyped-call]
