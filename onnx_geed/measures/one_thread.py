"""Products of matrices in one thread: two that wait for busy cores take fifty times as long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnx_geed.whole import whole

__all__ = ["in_one_thread"]


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Have numpy's and scipy's BLAS work in the thread that calls it, and no others.

    OpenBLAS spreads even small products over threads that spin for each other, which a model that
    runs at the same time keeps from the cores. Our own threads do what can be done side by side.
    """
    with whole():
        import scipy.linalg.blas  # noqa: F401 - so that its library is loaded, and limited too
        from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
