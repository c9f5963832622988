"""The choice of an executor, which is open for as long as a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from onnx_geed.errors import GeedError, check_choice
from onnx_geed.run.executor import Executor, ExecutorName, LocalExecutor

__all__ = ["open_executor"]


@contextmanager
def open_executor(
    executor: ExecutorName | Executor = "local", address: str | None = None
) -> Iterator[Executor]:
    """Open an executor, and close it at the end; one that is open already stays so.

    Parameters
    ----------
    executor : {"local", "ray"} or Executor
        Which.
    address : str, optional
        Of a Ray cluster: ``auto`` (by default) for the one that runs, or else a new one on this
        machine, ``local`` for a new one, or ``HOST:PORT``.

    Yields
    ------
    Executor

    Raises
    ------
    GeedError
        If there is no such executor, or an address is given for one that has none.
        If Ray is not installed, or nothing answers at the address.
    """
    if not isinstance(executor, str) and hasattr(executor, "in_order"):
        yield executor
        return
    check_choice("--executor", executor, get_args(ExecutorName))
    if executor == "local":
        if address is not None:
            raise GeedError(
                f"--address {address}: works only with --executor ray; add it, or leave --address "
                "out"
            )
        yield LocalExecutor()
        return
    from onnx_geed.run.ray_executor import RayExecutor

    remote = RayExecutor(address)
    try:
        yield remote
    finally:
        remote.close()
