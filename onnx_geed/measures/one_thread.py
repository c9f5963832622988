"""Products of matrices in one thread: two that wait for busy cores take fifty times as long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnx_geed.whole import whole

__all__ = ["in_one_thread"]

# The limit holds for the whole process: the first thread that asks for it sets it, and the last one
# takes it away. If each put back what it had found, they could leave the limit for ever, or lift it
# while others multiply, whose last bits depend on it.
_LOCK = threading.Lock()


_INSIDE: list[int] = []


_LIMITS: list[Any] = []


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Have numpy's and scipy's BLAS work in the thread that calls it, and no others.

    OpenBLAS spreads even small products over threads that spin for each other, which a model that
    runs at the same time keeps from the cores. Our own threads do what can be done side by side.
    """
    with whole(), _LOCK:
        import scipy.linalg.blas  # noqa: F401 - so that its library is loaded, and limited too
        from threadpoolctl import threadpool_limits

        if not _INSIDE:
            _LIMITS.append(threadpool_limits(limits=1, user_api="blas"))
        _INSIDE.append(threading.get_ident())
    try:
        yield
    finally:
        with whole(), _LOCK:
            _INSIDE.pop()
            if not _INSIDE:
                _LIMITS.pop().restore_original_limits()
