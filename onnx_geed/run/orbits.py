"""The stream: samples, moved by a group and run through a model, orbit by orbit.

A *job* is the unit of work: some whole orbits, numbered from the first, whose rows make whole
batches. Its boundaries follow the absolute number of the orbit, so that a run that is taken up
again computes what an unbroken one does. Jobs run side by side, one single-threaded run a core, and
come back in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.run.executor import Result, in_order
from onnx_geed.run.session import Session
from onnx_geed.run.source import Source

__all__ = [
    "activations",
    "check_rows",
    "compare_rows",
    "identities",
    "job_orbits",
    "run_rows",
    "stream",
]

F32 = NDArray[np.float32]


def job_orbits(order: int, batch: int) -> int:
    """Orbits in one job: as many as fill a batch, at least one."""
    return max(1, batch // order)


def stream(
    source: Source,
    session: Session,
    reduce: Callable[[int, list[F32]], Result],
    *,
    batch: int,
    workers: int,
    count: int | None = None,
    start: int = 0,
    failed: Callable[[int, int, BaseException], None] = lambda *_: None,
) -> Iterator[tuple[int, Result]]:
    """Run orbits and reduce their activations, several jobs at a time.

    Parameters
    ----------
    source : Source
        What to run.
    session : Session
        On what.
    reduce : callable
        Takes the position of a job's first orbit and one array (orbits, n, ...) a tensor; called
        on a worker's thread.
    batch : int
        Most rows in one run.
    workers : int
        Jobs in flight.
    count : int, optional
        Orbits in all; all of the source's by default.
    start : int
        Position of the first orbit; those before it were run already.
    failed : callable
        Told the first position of a job that failed, the one behind its last, and the error; called
        on a worker's thread.

    Yields
    ------
    first : int
        Position of the job's first orbit.
    result
        What ``reduce`` returned, in the order of the jobs.

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it.
    """
    total = len(source.indices) if count is None else count
    size = job_orbits(source.action.group.order, batch)

    def work(first: int) -> tuple[int, Result]:
        positions = range(first, min(first + size, total))
        try:
            return first, reduce(first, activations(source, session, positions, batch))
        except BaseException as error:
            failed(first, positions.stop, error)
            raise

    yield from in_order(range(start, total, size), work, workers)


def activations(
    source: Source, session: Session, positions: Sequence[int], batch: int
) -> list[F32]:
    """Run the orbits at some positions of D.

    Parameters
    ----------
    source : Source
        What to run.
    session : Session
        On what.
    positions : sequence of int
        Positions of the orbits.
    batch : int
        Most rows in one run.

    Returns
    -------
    list of ndarray of float32, shape (orbits, n, ...)
        One array a tensor.

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it.
        If axis 0 of a tensor is not the batch.
        If a row depends on the others of its batch.
    """
    n = source.action.group.order
    rows = source.rows(positions)
    feeds = source.other_inputs(positions, n)
    arrays = run_rows(source, session, rows, feeds, batch)
    check_rows(source, session, rows, feeds, arrays, batch, positions)
    return [a.reshape(len(positions), n, *a.shape[1:]) for a in arrays]


def run_rows(
    source: Source, session: Session, rows: F32, feeds: Mapping[str, NDArray[Any]], batch: int
) -> list[F32]:
    """Run model inputs, in pieces where they are more than one batch.

    Parameters
    ----------
    source : Source
        Whose rows they are.
    session : Session
        On what.
    rows : ndarray of float32
        Model inputs.
    feeds : mapping of str to ndarray
        The other inputs.
    batch : int
        Most rows in one run.

    Returns
    -------
    list of ndarray of float32, shape (rows, ...)
        One array a tensor.

    Raises
    ------
    GeedError
        If the model fails, or axis 0 of a tensor is not the batch.
    """
    if len(rows) <= batch:
        arrays = session.run(rows, feeds)
    else:
        arrays = _in_pieces(source, session, rows, feeds, batch)
    for name, array in zip(session.outputs, arrays, strict=True):
        if array.shape[:1] != (len(rows),):
            raise GeedError(
                f"tensor {name!r} has shape {array.shape} for a batch of {len(rows)}: its axis 0 "
                "is not the batch, so its rows cannot be told apart; name another tensor"
            )
    return arrays


def check_rows(
    source: Source,
    session: Session,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    arrays: Sequence[F32],
    batch: int,
    positions: Sequence[int],
) -> None:
    """Run some rows of a job again alone, where its source wants that.

    Parameters
    ----------
    source : Source
        Whose rows they are.
    session : Session
        On what they were run.
    rows : ndarray of float32, shape (rows, ...)
        Model inputs.
    feeds : mapping of str to ndarray
        The other inputs.
    arrays : sequence of ndarray of float32, shape (rows, ...)
        What came out, one array a tensor.
    batch : int
        Most rows in one run.
    positions : sequence of int
        Positions in D of the samples that they are of, equally many rows of each.

    Raises
    ------
    GeedError
        If a row depends on the others of its batch, naming its sample and element.
    """
    check, together = source.check, min(batch, len(rows)) > 1
    if check and together and check.wants(positions, len(source.indices), rows):
        compare_rows(source, session, rows, feeds, arrays, positions)


def compare_rows(
    source: Source,
    session: Session,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    arrays: Sequence[F32],
    positions: Sequence[int],
) -> None:
    """Run some rows of a job again alone, as :func:`check_rows` does, whatever its source wants."""
    per, group = len(rows) // len(positions), source.action.group

    def alone(i: int) -> list[F32]:
        return session.run(rows[i : i + 1], source.part_of(feeds, slice(i, i + 1)))

    def label(i: int) -> str:
        sample = source.label(positions[i // per])
        return f"{sample}, element {group.elements[i % per]}" if per == group.order else sample

    if source.check:
        source.check.compare(session, rows, arrays, alone, label)


def _in_pieces(
    source: Source,
    session: Session,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    batch: int,
) -> list[F32]:
    """Run more rows than one batch holds, straight into arrays for all of them."""
    whole: list[F32] = []
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        arrays = session.run(rows[part], source.part_of(feeds, part))
        if not whole:
            whole = [np.empty((len(rows), *a.shape[1:]), dtype=np.float32) for a in arrays]
        for name, out, array in zip(session.outputs, whole, arrays, strict=True):
            if array.shape != out[part].shape:
                raise GeedError(
                    f"tensor {name!r} has shape {array.shape} for a batch of {len(rows[part])}: "
                    "its axis 0 is not the batch; name another tensor"
                )
            out[part] = array
    return whole


def identities(
    source: Source, session: Session, first: int, *, batch: int, workers: int
) -> Iterator[list[F32]]:
    """Run the identity elements alone, for the points of M beyond the orbits.

    Parameters
    ----------
    source : Source
        What to run.
    session : Session
        On what.
    first : int
        Position of the first sample.
    batch : int
        Rows in one run.
    workers : int
        Runs in flight.

    Yields
    ------
    list of ndarray of float32, shape (rows, ...)
        One array a tensor, in order.
    """

    def work(start: int) -> list[F32]:
        positions = range(start, min(start + batch, len(source.indices)))
        rows, feeds = source.rows(positions, orbits=False), source.other_inputs(positions, 1)
        arrays = run_rows(source, session, rows, feeds, batch)
        check_rows(source, session, rows, feeds, arrays, batch, positions)
        return arrays

    yield from in_order(range(first, len(source.indices), batch), work, workers)
