"""Masks: which entries of padded samples are real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.ragged import whole
from onnx_geed.data.rows import held_whole, shape_text
from onnx_geed.data.sources import open_rows
from onnx_geed.errors import GeedError, shown
from onnx_geed.held import ALLOWED
from onnx_geed.text import counted

__all__ = ["mask_of", "read_mask"]


def mask_of(lengths: Sequence[int], length: int) -> NDArray[np.bool_]:
    """Return which entries of padded samples are real.

    Parameters
    ----------
    lengths : sequence of int
        Real entries of each sample, which come first.
    length : int
        Entries with padding.

    Returns
    -------
    ndarray of bool, shape (len(lengths), length)
    """
    real: NDArray[np.bool_] = np.arange(length) < np.asarray(lengths)[:, None]
    return real


def read_mask(
    source: str | Path | NDArray[Any],
    count: int,
    length: int,
    *,
    option: str = "--mask",
    allowed: int = ALLOWED,
) -> NDArray[np.bool_]:
    """Read which entries of padded samples are real.

    Parameters
    ----------
    source : str, Path or ndarray
        An array, or a file of one as ``--data`` takes it: of shape (N, P), true or 1 where an entry
        is real; or of shape (N,), how many entries are, which then come first.
    count : int
        Number of samples, N.
    length : int
        Entries of a sample with padding, P.
    option : str
        The option with the input's name, for messages, such as ``--mask pos``.
    allowed : int
        Bytes that it may take.

    Returns
    -------
    ndarray of bool, shape (N, P)

    Raises
    ------
    GeedError
        If there is no such file, or it cannot be read.
        If it has another shape.
        If it holds other numbers than 0 and 1, or lengths that are not from 1 to P.
        If a sample has no real entry.
    """
    named = isinstance(source, str | Path)
    where = f"{option}={source}" if named else option
    if named:
        rows = open_rows(str(source), option=f"{option} file", allowed=allowed)
        values = held_whole(rows, where, allowed)
    else:
        values = np.asarray(source)
    if values.shape == (count,):
        lengths = whole(values)
        asked = f"{where}: lengths are whole numbers from 1 to {length}, the length with padding"
        if lengths is None:
            raise GeedError(f"{asked}; found {values.dtype} values")
        wrong = np.flatnonzero((lengths < 1) | (lengths > length))
        if wrong.size:
            raise GeedError(f"{asked}; found {lengths[wrong[0]]} for sample {wrong[0]}")
        return mask_of(lengths.tolist(), length)
    if values.shape != (count, length):
        raise GeedError(
            f"{where}: {shape_text(values.shape)} for {counted(count, 'sample')} with "
            f"{counted(length, 'entry', 'entries')}; give "
            f"{shape_text((count, length))} of 0 and 1 (1 is real), or {counted(count, 'length')}"
        )
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        odd = values[~np.isin(values, (0, 1))].flat[0] if values.dtype.kind in "iuf" else ""
        raise GeedError(
            f"{where}: holds {shown(str(odd)) if odd != '' else values.dtype}; write 1 where an "
            "entry is real and 0 where it is padding"
        )
    mask: NDArray[np.bool_] = values.astype(bool)
    if not mask.any(axis=1).all():
        empty = int(np.flatnonzero(~mask.any(axis=1))[0])
        raise GeedError(f"{where}: sample {empty} has no real entry; leave it out of both files")
    return mask
