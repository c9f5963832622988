"""A probe of whether rows of a batch change each other: the same rows alone and together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.run.executor import cores
from onnx_geed.run.session import Runner, Session

__all__ = ["change_text", "probe_batch", "probe_places", "relative_change", "run_alone"]


def probe_batch(
    runner: Runner,
    rows: NDArray[np.float32],
    batch: int,
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
) -> str:
    """Test that a row's activations do not depend on the batch that it is in.

    Parameters
    ----------
    runner : Runner
        The opened model.
    rows : ndarray of float32, shape (R, ...)
        Some different inputs, R ≥ 2.
    batch : int
        A batch size to try besides 2.
    feeds : callable
        Gives the other inputs for a number of rows.

    Returns
    -------
    str
        Empty where all is well; else what goes wrong, naming the tensor.

    Notes
    -----
    A row may change by 1e-3 of the spread between rows: kernels for other batch sizes add up in
    another order, while rows that are merged or normalised together change by about the spread.
    """
    picks = [np.arange(size) % len(rows) for size in sorted({2, batch} - {1}, reverse=True)]
    with ThreadPoolExecutor(cores()) as pool:
        # The longest first: all are single-threaded runs.
        runs = [pool.submit(runner.run, rows[pick], feeds(len(pick))) for pick in picks]
        alone = run_alone(runner, rows, feeds, pool)
    for name, array in alone[0].items():
        if array.shape[:1] != (1,):
            return f"axis 0 of {name!r} is not the batch: {array.shape} for one row"
    for pick, run in reversed(list(zip(picks, runs, strict=True))):
        size = len(pick)
        try:
            together = run.result()
        except GeedError as error:
            return str(error)
        for name, array in together.items():
            if array.shape != (size, *alone[0][name].shape[1:]):
                return f"{name!r} has shape {array.shape} for a batch of {size}"
            expected = np.concatenate([alone[i][name] for i in pick])
            change = relative_change(array, expected)
            if change > 1e-3:
                return f"{name!r} {change_text(change)}"
    return ""


def change_text(change: float) -> str:
    """Say by how much a tensor changes with its batch."""
    much = f"{change:.1e} of" if change < 10 else "far more than"
    return f"changes by {much} its spread with the batch it is in"


def probe_places(
    session: Session,
    rows: NDArray[np.float32],
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
) -> str:
    """Test that a row gives the same at every place of a batch of fixed size.

    Parameters
    ----------
    session : Session
        The opened model, its ``fixed`` number of rows set.
    rows : ndarray of float32, shape (R, ...)
        Some different inputs.
    feeds : callable
        Gives the other inputs for a number of rows.

    Returns
    -------
    str
        Empty where all is well; else what goes wrong, naming the tensor.
    """
    alone = [session.run(rows[i : i + 1], feeds(1)) for i in range(len(rows))]
    for shift in range(len(rows)):
        pick = (np.arange(session.fixed) + shift) % len(rows)
        together = session.run(rows[pick], feeds(session.fixed))
        for name, array in together.items():
            change = relative_change(array, np.concatenate([alone[i][name] for i in pick]))
            if change > 1e-3:
                return f"{name!r} {change_text(change)}"
    return ""


def run_alone(
    runner: Runner,
    rows: NDArray[np.float32],
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
    pool: Executor,
) -> list[dict[str, NDArray[np.float32]]]:
    """Run rows one by one, side by side; return the arrays of each."""
    return list(pool.map(lambda i: runner.run(rows[i : i + 1], feeds(1)), range(len(rows))))


def relative_change(
    array: NDArray[np.float32], expected: NDArray[np.float32], spread: float = 0.0
) -> float:
    """Return by how much rows differ from what is expected, measured by the rows' spread.

    Parameters
    ----------
    array, expected : ndarray of float32, shape (R, ...)
        Rows of a tensor.
    spread : float
        The spread of the tensor as far as it is known from other rows.

    Returns
    -------
    float
        The largest difference, divided by the largest one between two expected rows.
    """
    known = np.isfinite(expected)  # NaN and infinity are named later, with their sample
    with np.errstate(invalid="ignore"):  # of infinities, which are left out
        apart = np.abs(np.where(known, array - expected, 0)).max(initial=0.0)
    finite = np.where(known, expected, 0)
    spread = max(spread, float(np.abs(finite - finite[:1]).max(initial=0.0)))
    # Rows that hardly differ are compared on their own scale.
    scale = max(spread, 1e-3 * float(np.abs(finite).max(initial=0.0)), 1e-30)
    return float(apart) / scale
