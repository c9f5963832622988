"""Matrices that mix the channels of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixed", "permutes"]

F64 = NDArray[np.float64]


def permutes(matrix: F64) -> bool:
    """Whether a matrix only changes the places and the signs of channels, to the last bit."""
    entries = matrix != 0
    once = all((np.count_nonzero(entries, axis=axis) == 1).all() for axis in (0, 1))
    return once and bool((np.abs(matrix[entries]) == 1).all())


def mixed(matrix: F64, rows: NDArray[Any]) -> F64:
    """Mix the channels of arrays (..., rows, F), of which each has the same number of rows."""
    length = len(matrix)
    of_channel = rows.reshape(-1, length, rows.shape[-2] // length * rows.shape[-1])
    made = np.empty(of_channel.shape)
    # One product an array: over all of them, sums might be taken in another order.
    for channels, out in zip(of_channel, made, strict=True):
        np.matmul(matrix, np.ascontiguousarray(channels, dtype=np.float64), out=out)
    return made.reshape(rows.shape)
