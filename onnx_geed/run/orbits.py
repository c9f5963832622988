"""Some samples of D, or their whole orbits, run through a model: activations by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.run.session import Runner
from onnx_geed.run.source import Source

__all__ = ["activations", "check_rows", "compare_rows", "identities", "run_rows"]

F32 = NDArray[np.float32]


def activations(
    source: Source, runner: Runner, positions: Sequence[int], batch: int
) -> dict[str, F32]:
    """Run the orbits at some positions of D.

    Parameters
    ----------
    source : Source
        What is run.
    runner : Runner
        On what.
    positions : sequence of int
        Positions of the orbits.
    batch : int
        Most rows in one run.

    Returns
    -------
    dict of str to ndarray of float32, shape (orbits, n, ...)
        By tensor.

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
    arrays = run_rows(source, runner, rows, feeds, batch)
    check_rows(source, runner, rows, feeds, arrays, batch, positions)
    return {name: a.reshape(len(positions), n, *a.shape[1:]) for name, a in arrays.items()}


def identities(
    source: Source, runner: Runner, positions: Sequence[int], batch: int
) -> dict[str, F32]:
    """Run the samples at some positions of D as they are, without the rest of their orbits.

    Parameters
    ----------
    source : Source
        What is run.
    runner : Runner
        On what.
    positions : sequence of int
        Positions of the samples.
    batch : int
        Most rows in one run.

    Returns
    -------
    dict of str to ndarray of float32, shape (samples, ...)
        By tensor.

    Raises
    ------
    GeedError
        As :func:`activations`.
    """
    rows, feeds = source.rows(positions, orbits=False), source.other_inputs(positions, 1)
    arrays = run_rows(source, runner, rows, feeds, batch)
    check_rows(source, runner, rows, feeds, arrays, batch, positions)
    return arrays


def run_rows(
    source: Source, runner: Runner, rows: F32, feeds: Mapping[str, NDArray[Any]], batch: int
) -> dict[str, F32]:
    """Run model inputs, in pieces where they are more than one batch.

    Parameters
    ----------
    source : Source
        Whose rows they are.
    runner : Runner
        On what.
    rows : ndarray of float32
        Model inputs.
    feeds : mapping of str to ndarray
        The other inputs.
    batch : int
        Most rows in one run.

    Returns
    -------
    dict of str to ndarray of float32, shape (rows, ...)
        By tensor.

    Raises
    ------
    GeedError
        If the model fails, or axis 0 of a tensor is not the batch.
    """
    if len(rows) <= batch:
        arrays = runner.run(rows, feeds)
    else:
        arrays = _in_pieces(source, runner, rows, feeds, batch)
    for name, array in arrays.items():
        if array.shape[:1] != (len(rows),):
            raise GeedError(
                f"tensor {name!r} has shape {array.shape} for a batch of {len(rows)}: its axis 0 "
                "is not the batch, so its rows cannot be separated; name another tensor"
            )
    return arrays


def check_rows(
    source: Source,
    runner: Runner,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    arrays: Mapping[str, F32],
    batch: int,
    positions: Sequence[int],
    elements: Sequence[int] | None = None,
) -> None:
    """Run some rows of a job again alone, where its source wants that.

    Parameters
    ----------
    source : Source
        Whose rows they are.
    runner : Runner
        On what they were run.
    rows : ndarray of float32, shape (rows, ...)
        Model inputs.
    feeds : mapping of str to ndarray
        The other inputs.
    arrays : mapping of str to ndarray of float32, shape (rows, ...)
        Their activations, by tensor.
    batch : int
        Most rows in one run.
    positions : sequence of int
        Positions in D of the samples that they are of, equally many rows of each.
    elements : sequence of int, optional
        Elements whose rows there are of each sample; by default all, or the identity alone.

    Raises
    ------
    GeedError
        If a row depends on the others of its batch, naming its sample and element.
    """
    check, together = source.check, min(batch, len(rows)) > 1

    def beside() -> list[NDArray[Any]]:
        return [feeds[name] for name in source.partners]

    if check and together and check.wants(positions, len(source.indices), rows, beside):
        compare_rows(source, runner, rows, feeds, arrays, positions, elements)


def compare_rows(
    source: Source,
    runner: Runner,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    arrays: Mapping[str, F32],
    positions: Sequence[int],
    elements: Sequence[int] | None = None,
) -> None:
    """Run some rows of a job again alone, as :func:`check_rows` does, whatever its source wants."""
    per, group = len(rows) // len(positions), source.action.group
    if elements is None and per == group.order:
        elements = range(per)

    def others(i: int) -> dict[str, NDArray[Any]]:
        return source.part_of(feeds, slice(i, i + 1))

    def alone(i: int) -> dict[str, F32]:
        return runner.run(rows[i : i + 1], others(i))

    def label(i: int) -> str:
        sample = source.label(positions[i // per])
        return f"{sample}, element {group.elements[elements[i % per]]}" if elements else sample

    if source.check:
        beside = [feeds[name] for name in source.partners]
        source.check.compare(runner, rows, arrays, alone, label, others(0), beside)


def _in_pieces(
    source: Source,
    runner: Runner,
    rows: F32,
    feeds: Mapping[str, NDArray[Any]],
    batch: int,
) -> dict[str, F32]:
    """Run more rows than one batch holds, straight into arrays for all of them."""
    filled: dict[str, F32] = {}
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        for name, array in runner.run(rows[part], source.part_of(feeds, part)).items():
            if name not in filled:
                filled[name] = np.empty((len(rows), *array.shape[1:]), dtype=np.float32)
            if array.shape != filled[name][part].shape:
                raise GeedError(
                    f"tensor {name!r} has shape {array.shape} for a batch of {len(rows[part])}: "
                    "its axis 0 is not the batch; name another tensor"
                )
            filled[name][part] = array
    return filled
