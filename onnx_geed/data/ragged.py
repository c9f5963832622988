"""Samples of different lengths: cut out of one array, and padded with zeros to one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.rows import Rows, shape_text
from onnx_geed.errors import GeedError
from onnx_geed.groups import LETTERS, parse_layout
from onnx_geed.text import counted

__all__ = ["padded", "ragged_axes", "split", "whole"]


def ragged_axes(layout: str) -> tuple[int, ...]:
    """Return the axes of one sample, as it is stored, along which samples may differ in length.

    Those of P; where there is none, that of T. They have the same length.
    """
    letters = parse_layout(layout).letters[1:]
    letter = "P" if "P" in letters else "T"
    return tuple(axis for axis, other in enumerate(letters) if other == letter)


def split(rows: Rows, layout: str, where: str) -> Rows:
    """Cut samples out of the array in which they lie one behind the other.

    Parameters
    ----------
    rows : Rows
        Of shape (Σ n, ...) with ``lengths`` n: all samples along the ragged axis, the other axes
        in the order of the layout. Where the layout has PP, (Σ n², ...): each adjacency row by row.
    layout : str
        Layout of the model's input.
    where : str
        The option and its value, for messages.

    Returns
    -------
    Rows
        Samples as they are stored in the layout, each as long as it is.

    Raises
    ------
    GeedError
        If the layout has no axis that can be ragged.
        If lengths are no whole numbers, one a sample, or do not add up to the array.
    """
    axes = ragged_axes(layout)
    if not axes:
        raise GeedError(
            f"{where}: its samples differ in length, and {layout} has no axis P or T along which "
            "they could; give one array, samples first"
        )
    lengths = whole(rows.lengths)
    if lengths is None or lengths.min(initial=0) < 0 or not len(lengths):
        raise GeedError(f"{where}: lengths are whole numbers from 0, one per sample (shape (N,))")
    sizes = lengths ** len(axes)
    ends = np.cumsum(sizes)
    total = rows.shape[0] if rows.shape else 0
    if ends[-1] != total:
        what = "their squares add" if len(axes) > 1 else "they add"
        raise GeedError(
            f"{where}: an array of {shape_text(rows.shape)} with lengths of "
            f"{counted(len(lengths), 'sample')}:"
            f" {what} up to {ends[-1]}, the array holds {total}; write both again"
        )

    def read(index: int) -> NDArray[Any]:
        start = int(ends[index] - sizes[index])
        flat = rows.read(slice(start, int(ends[index])))
        square = flat.reshape(*(int(lengths[index]),) * len(axes), *flat.shape[1:])
        return np.moveaxis(square, range(len(axes)), axes)

    longest = int(lengths.max())
    shape: list[int] = list(rows.shape[1:])
    for axis in axes:
        shape.insert(axis, longest)
    return replace(rows, shape=(len(lengths), *shape), read=read, lengths=lengths)


def whole(values: Any) -> NDArray[np.int64] | None:
    """Return values as whole numbers, int64 of shape (N,), or None where they are none."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        return None
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array))).all():
        return None
    return array.astype(np.int64)


def padded(rows: Rows, layout: str, input_shape: Sequence[int | None], where: str) -> Rows:
    """Pad samples with zeros to the model's length, or to the longest where that is free.

    Parameters
    ----------
    rows : Rows
        Samples as they are stored in the layout, and their ``lengths``.
    layout : str
        Layout of the model's input.
    input_shape : sequence of int or None
        The model's input without its batch axis.
    where : str
        The option and its value, for messages.

    Returns
    -------
    Rows
        Without ``lengths`` where nothing had to be padded.

    Raises
    ------
    GeedError
        If a sample is longer than the model's input.
        If one is empty.
        If one is not as long as it was when it was opened.
    """
    axes, lengths = ragged_axes(layout), np.asarray(rows.lengths)
    longest = int(lengths.max())
    fixed = next((n for axis in axes if (n := input_shape[axis]) is not None), None)
    length = longest if fixed is None else int(fixed)
    letter = parse_layout(layout).letters[1 + axes[0]]
    called = f"{letter}, {LETTERS[letter]}"
    if longest > length:
        name = rows.called(int(lengths.argmax()))
        raise GeedError(
            f"{where}: {name} has {longest} along {called}, but the model takes {length}; leave "
            "it out or shorten it"
        )
    if lengths.min() == 0:
        raise GeedError(
            f"{where}: {rows.called(int(lengths.argmin()))} has length 0 along {called}: "
            "leave it out"
        )
    inner = list(rows.shape[1:])
    for axis in axes:
        inner[axis] = length

    def read(index: int) -> NDArray[Any]:
        x = rows.read(index)
        if x.ndim != len(inner) or any(x.shape[axis] != lengths[index] for axis in axes):
            raise GeedError(
                f"{where}: {rows.called(index)} has {shape_text(x.shape)}, but {lengths[index]} "
                f"along {letter} were expected; give all samples the same axes"
            )
        wide = np.zeros([length if k in axes else n for k, n in enumerate(x.shape)], x.dtype)
        wide[tuple(slice(n) for n in x.shape)] = x
        return wide

    full = bool((lengths == length).all())
    return replace(rows, shape=(rows.count, *inner), read=read, lengths=None if full else lengths)
