"""A probe of whether rows of a batch change each other: the same rows alone and together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.run.executor import cores
from onnx_geed.run.row_change import change_text, relative_change, spread
from onnx_geed.run.session import Runner, Session
from onnx_geed.run.source import Source

__all__ = ["TrialRows", "probe_batch", "probe_pair", "probe_places", "run_alone"]

F32 = NDArray[np.float32]


# A tensor with more entries a row is no vector.
_LARGEST_VECTOR = 1 << 16


class TrialRows:
    """Three different inputs, of two samples at the most; those that are moved are made late.

    Parameters
    ----------
    together : ndarray of float32, shape (2, ...)
        Two that are run in a batch: two samples as they are, where there are two.
    make_further : callable
        Makes the others, (R, ...): moving a sample takes compiled loops, whose loading takes as
        long as opening a session.
    feeds : callable
        Gives the other inputs for a number of rows.
    """

    def __init__(
        self,
        together: F32,
        make_further: Callable[[], F32],
        feeds: Callable[[int], Mapping[str, NDArray[Any]]],
    ) -> None:
        self.together, self.feeds, self._make_further = together, feeds, make_further

    @staticmethod
    def of(source: Source) -> TrialRows:
        """Return those of a source."""

        def feeds(count: int) -> Mapping[str, NDArray[Any]]:
            return source.other_inputs([0], count)

        if len(source.indices) > 1:
            return TrialRows(
                source.rows([0, 1], orbits=False), lambda: source.rows([0])[1:2], feeds
            )
        orbit = source.rows([0])
        return TrialRows(orbit[:2], lambda: orbit[2:3], feeds)

    @functools.cached_property
    def further(self) -> F32:
        """Rows that are run alone."""
        return self._make_further()

    @functools.cached_property
    def all(self) -> F32:
        """All rows."""
        return np.concatenate([self.together, self.further])


def probe_pair(runner: Runner, rows: TrialRows) -> tuple[str, dict[str, F32]]:
    """Hold a proof that rows are independent against one of them, run alone and with another.

    Parameters
    ----------
    runner : Runner
        The opened model.
    rows : TrialRows
        Some different inputs.

    Returns
    -------
    reason : str
        Empty where all is well; else what goes wrong, naming the tensor.
    arrays : dict of str to ndarray of float32, shape (rows, ...)
        Activations by tensor: of all rows, but of maps those of the batch alone.
    """
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(runner.run, rows.together, rows.feeds(len(rows.together)))
        alone = pool.submit(runner.run, rows.together[:1], rows.feeds(1))
        further = rows.further
        first, together = alone.result(), batch.result()
    if reason := _misshapen(first, together, len(rows.together)):
        return reason, {}
    for name, array in together.items():
        # Nearly always they are equal to the last bit, which is seen at once.
        if not np.array_equal(array[:1], first[name]):
            change = relative_change(array[:1], first[name], spread(array))
            if change > 1e-3:
                return f"{name!r} {change_text(change)}", {}
    small = [name for name, array in together.items() if array[0].size <= _LARGEST_VECTOR]
    for i in range(len(further) if small else 0):
        row = runner.only(small).run(further[i : i + 1], rows.feeds(1))
        together |= {name: np.concatenate([together[name], row[name]]) for name in small}
    return "", together


def probe_batch(runner: Runner, rows: TrialRows, batch: int) -> tuple[str, dict[str, F32]]:
    """Test that a row's activations do not depend on the batch that it is in.

    Parameters
    ----------
    runner : Runner
        The opened model.
    rows : TrialRows
        Some different inputs.
    batch : int
        A batch size to try besides 2.

    Returns
    -------
    reason : str
        Empty where all is well; else what goes wrong, naming the tensor.
    arrays : dict of str to ndarray of float32, shape (rows, ...)
        Activations by tensor, each row run alone.

    Notes
    -----
    A row may change by 1e-3 of the spread between rows: kernels for other batch sizes add up in
    another order, while rows that are merged or normalised together change by about the spread.
    """
    inputs = rows.all
    picks = [np.arange(size) % len(inputs) for size in sorted({2, batch} - {1}, reverse=True)]
    with ThreadPoolExecutor(cores()) as pool:
        # The longest first: all are single-threaded runs.
        runs = [pool.submit(runner.run, inputs[pick], rows.feeds(len(pick))) for pick in picks]
        alone = run_alone(runner, inputs, rows.feeds, pool)
    for pick, run in reversed(list(zip(picks, runs, strict=True))):
        try:
            together = run.result()
        except GeedError as error:
            return str(error), {}
        if reason := _misshapen(alone[0], together, len(pick)):
            return reason, {}
        for name, array in together.items():
            expected = np.concatenate([alone[i][name] for i in pick])
            change = relative_change(array, expected)
            if change > 1e-3:
                return f"{name!r} {change_text(change)}", {}
    return "", {name: np.concatenate([row[name] for row in alone]) for name in alone[0]}


def _misshapen(alone: Mapping[str, F32], together: Mapping[str, F32], size: int) -> str:
    """Say which tensor has not as many rows as the batch, alone or together with others."""
    for name, array in alone.items():
        if array.shape[:1] != (1,):
            return f"axis 0 of {name!r} is not the batch: {array.shape} for one row"
    for name, array in together.items():
        if array.shape != (size, *alone[name].shape[1:]):
            return f"{name!r} has shape {array.shape} for a batch of {size}"
    return ""


def probe_places(session: Session, rows: TrialRows) -> str:
    """Test that a row gives the same at every place of a batch of fixed size.

    Parameters
    ----------
    session : Session
        The opened model, its ``fixed`` number of rows set.
    rows : TrialRows
        Some different inputs.

    Returns
    -------
    str
        Empty where all is well; else what goes wrong, naming the tensor.
    """
    inputs, feeds = rows.all, rows.feeds
    alone = [session.run(inputs[i : i + 1], feeds(1)) for i in range(len(inputs))]
    for shift in range(len(inputs)):
        pick = (np.arange(session.fixed) + shift) % len(inputs)
        together = session.run(inputs[pick], feeds(session.fixed))
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
