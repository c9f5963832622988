"""The sums of all layers of some orbits: room for what the loops need, then one call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import map_kernels
from onnx_geed.measures.map_memory import LANES

__all__ = ["sums_of_layers"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# Bytes of a line of the cache.
_LINE = 64


def sums_of_layers(
    layers: NDArray[np.void],
    tables: NDArray[np.int32],
    batch: NDArray[np.void],
    orbits: int,
    elements: int,
    following: int,
    out: F64,
) -> None:
    """Set ``out`` to the sums of :func:`onnx_geed.measures.map_kernels.sums_in_room`."""
    needed = np.empty(3, dtype=np.int64)
    map_kernels.room_of_layers(layers, batch, following, needed)
    pixels, moved, rows = map(_room_for, needed.tolist())
    map_kernels.sums_in_room(
        *(layers, tables, batch, orbits, elements, following),
        *(np.zeros(LANES), pixels, moved, rows, out),
    )


def _room_for(count: int) -> F32:
    """Return room for so many numbers, which begins where a line of the cache does.

    A vector that lies across two lines takes as long as two.
    """
    room = np.empty(count + _LINE // 4, dtype=np.float32)
    begin = -(room.__array_interface__["data"][0] // 4) % (_LINE // 4)
    return room[begin : begin + count]
