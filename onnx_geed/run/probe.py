"""A probe of whether rows of a batch change each other: the same rows alone and together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.run.joining import in_parts
from onnx_geed.run.row_change import change_text, relative_change, spread
from onnx_geed.run.session import NotRowsError, Runner, Session, SettledError
from onnx_geed.run.source import Source
from onnx_geed.text import counted
from onnx_geed.threads import Threads

__all__ = [
    "TrialRows",
    "check_lengths",
    "probe_alone",
    "probe_batch",
    "probe_pair",
    "probe_places",
    "run_alone",
    "same_row_twice",
    "small_names",
    "trial_rows",
]

F32 = NDArray[np.float32]


# A tensor with more entries a row is no vector.
_LARGEST_VECTOR = 1 << 16


@dataclass(frozen=True, eq=False)
class TrialRows:
    """Two or three different inputs.

    Parameters
    ----------
    inputs : ndarray of float32, shape (R, ...)
        Model inputs: the first two are run in a batch as well as alone.
    feeds : callable
        Gives the other inputs of some of these rows, by their numbers.
    threads : int
        Runs side by side.
    """

    inputs: F32
    feeds: Callable[[NDArray[np.int64]], Mapping[str, NDArray[Any]]]
    threads: int

    def batch(self, picks: Iterable[int]) -> tuple[F32, Mapping[str, NDArray[Any]]]:
        """Return a batch of some of these rows, by their numbers, and their other inputs."""
        numbers = np.array([*picks], dtype=np.int64)
        return self.inputs[numbers], self.feeds(numbers)

    @property
    def pair(self) -> range:
        """Numbers of the rows that are run in a batch of two."""
        return range(len(self.inputs))[:2]


def trial_rows(source: Source, threads: int) -> TrialRows:
    """Return the rows of a trial: the first samples as they are, or one that is moved.

    Each has its own other inputs: what a model makes of two samples that were mixed tells nothing
    of any sample, and rows that have one input in common hide what is mixed through it.
    """
    count = min(3, len(source.indices))
    if count == 1:
        orbit = source.other_inputs([0], source.action.group.order)
        some = np.arange(min(3, source.action.group.order))
        inputs, others = source.rows([0])[some], source.part_of(orbit, some)
    else:
        inputs = source.rows(range(count), orbits=False)
        others = source.other_inputs(range(count), 1)
    return TrialRows(inputs, partial(source.part_of, others), threads)


def probe_alone(runner: Runner, rows: TrialRows) -> tuple[str, dict[str, F32]]:
    """Run two rows alone: a proof that rows are independent is held against data later.

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
        Activations by tensor; of maps, those of the first row alone.
    """
    with Threads(min(2, rows.threads)) as pool:
        first, *others = run_alone(runner, rows, rows.pair, pool)
    if reason := _misshapen(first, {}, 1):
        return reason, {}
    for name in small_names(first):
        first[name] = np.concatenate([first[name], *(row[name] for row in others)])
    return "", first


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
    with Threads(min(2, rows.threads)) as pool:
        batch = pool.submit(runner.run, *rows.batch(rows.pair))
        alone = run_alone(runner, rows, [0, *range(2, len(rows.inputs))], pool)
        first, together = alone[0], batch.result()
    if reason := _misshapen(first, together, 2):
        return reason, {}
    for name, array in together.items():
        # Nearly always they are equal to the last bit, which is seen at once.
        if not np.array_equal(array[:1], first[name]):
            change = relative_change(array[:1], first[name], spread(array))
            if change > 1e-3:
                return f"{name!r} {change_text(change)}", {}
    for name in small_names(together):
        together[name] = np.concatenate([together[name], *(row[name] for row in alone[1:])])
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
    count = len(rows.inputs)
    picks = [np.arange(size) % count for size in sorted({2, batch} - {1}, reverse=True)]
    with Threads(rows.threads) as pool:
        # The longest first: all are single-threaded runs.
        runs = [pool.submit(runner.run, *rows.batch(pick)) for pick in picks]
        alone = run_alone(runner, rows, range(count), pool)
    for pick, run in reversed(list(zip(picks, runs, strict=True))):
        try:
            together = run.result()
        except SettledError:
            raise
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
    count = len(rows.inputs)
    alone = [session.run(*rows.batch([i])) for i in range(count)]
    for shift in range(count):
        pick = (np.arange(session.fixed) + shift) % count
        together = session.run(*rows.batch(pick))
        for name, array in together.items():
            change = relative_change(array, np.concatenate([alone[i][name] for i in pick]))
            if change > 1e-3:
                return f"{name!r} {change_text(change)}"
    return ""


def same_row_twice(
    session: Session, rows: TrialRows
) -> tuple[list[dict[str, F32]], GeedError | None]:
    """Run one row alone, twice; also return what is wrong with that."""
    apart = session.apart(session.outputs)
    try:
        alone = [apart.run(*rows.batch([0])) for _ in range(2)]
        if away := _misfits(alone[0], 1):
            raise NotRowsError(away, _samples(1))
    except SettledError:
        raise
    except NotRowsError as error:
        return [], _of_wholes(session, error)
    except GeedError as error:
        return [], error
    return alone, None


def check_lengths(session: Session, rows: TrialRows, count: int) -> None:
    """Make sure that no tensor has as many rows with so many and with one, if the model runs so.

    Raises
    ------
    NotRowsError
        If one has.
    """
    away = _without_rows(session, rows, count)
    alone = away and _without_rows(session, rows, 1)
    found = away if alone is None else {name: alone[name] for name in away or () if name in alone}
    if found:
        told = count if alone is None else 1
        raise _of_wholes(session, NotRowsError(found, _samples(told)))


def _without_rows(
    session: Session, rows: TrialRows, count: int
) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of tensors that have another number of rows, if the model takes that."""
    try:
        arrays = session.apart(session.outputs).run(*rows.batch([0] * count))
    except SettledError:
        raise
    except GeedError:
        return None
    return _misfits(arrays, count)


def _misfits(arrays: Mapping[str, F32], count: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays whose first length is another."""
    return {name: a.shape for name, a in arrays.items() if a.shape[:1] != (count,)}


def _samples(count: int) -> str:
    return "one sample" if count == 1 else counted(count, "sample")


def _of_wholes(session: Session, error: NotRowsError) -> NotRowsError:
    """Name in an error the tensors that are asked for in place of their parts."""
    parts = {name: in_parts([name], session.joined) for name in session.outputs}
    shapes = {
        name: error.shapes[part]
        for name, own in parts.items()
        for part in own
        if part in error.shapes
    }
    return NotRowsError(shapes, error.rows)


def run_alone(
    runner: Runner,
    rows: TrialRows,
    picks: Iterable[int],
    pool: Executor,
    only: Sequence[str] | None = None,
) -> list[dict[str, NDArray[np.float32]]]:
    """Run some rows one by one, side by side; return the arrays of each, all or some."""

    def run(i: int) -> dict[str, NDArray[np.float32]]:
        arrays = runner.run(*rows.batch([i]))
        return arrays if only is None else {name: arrays[name] for name in only}

    return list(pool.map(run, picks))


def small_names(arrays: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Return the tensors that are no larger than vectors, which a trial keeps of every row."""
    return [name for name, array in arrays.items() if array[0].size <= _LARGEST_VECTOR]
