"""Eight channels side by side: what compiled loops do with one vector instead of eight numbers.

Of eight planes (8, P) the interleaved form has the eight channels of a pixel next to each other,
(P, 8). There a tap of an interpolation is one load, and so is a pixel that is moved. Each function
here is written in plain Python, which says what it means; compiled loops get vector instructions in
its place, on any processor, with the same rounding.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import instructed_by
from onnx_geed.measures.map_memory import LANES

__all__ = [
    "add_tap",
    "blend",
    "doubles_at",
    "fetch",
    "floats_at",
    "gather",
    "round_lanes",
    "transpose",
    "whole_numbers_at",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


def floats_at(address: int, size: int) -> F32:
    """Return the flat array of ``size`` numbers at an address, which the caller answers for."""
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(int(address)))


def doubles_at(address: int, size: int) -> F64:
    """Return a flat array as :func:`floats_at`, of float64."""
    return np.ctypeslib.as_array((ctypes.c_double * size).from_address(int(address)))


def whole_numbers_at(address: int, size: int) -> I32:
    """Return a flat array as :func:`floats_at`, of int32."""
    return np.ctypeslib.as_array((ctypes.c_int32 * size).from_address(int(address)))


def fetch(numbers: F32, at: int) -> None:
    """Do nothing; compiled, ask the processor for what lies ``at``, which it will read later.

    It may lie behind all that there is.
    """


def blend(out: F32, at: int, pixels: F32, index: I32, weights: F64, i: int) -> None:
    """Set ``out[at:]`` to the sum of four pixels' lanes, each times its weight.

    Pixels and weights are those from entry i of ``index`` and ``weights`` on.
    """
    h, j, m, n = (LANES * int(pixel) for pixel in index[i : i + 4])
    w, x, y, z = weights[i : i + 4]
    for k in range(LANES):
        out[at + k] = w * pixels[h + k] + x * pixels[j + k] + y * pixels[m + k] + z * pixels[n + k]


def add_tap(total: F64, pixels: F32, h: int, w: float) -> None:
    """Add the lanes at ``h``, times ``w``, to ``total`` (8,)."""
    for k in range(LANES):
        total[k] += w * pixels[h + k]


def round_lanes(out: F32, at: int, total: F64) -> None:
    """Set ``out[at:]`` to ``total`` (8,), and that to zero."""
    for k in range(LANES):
        out[at + k] = total[k]
        total[k] = 0.0


def transpose(
    out: F32,
    at: int,
    stride: int,
    source: F32,
    a: int,
    b: int,
    c: int,
    d: int,
    e: int,
    f: int,
    g: int,
    h: int,
) -> None:
    """Set ``out[at + k * stride + i]`` to entry k of the i-th of eight stretches of ``source``."""
    for i, start in enumerate((a, b, c, d, e, f, g, h)):
        for k in range(LANES):
            out[at + k * stride + i] = source[start + k]


def gather(out: F32, at: int, stride: int, source: F32, pixels: I32, q: int) -> None:
    """Set ``out[at + k * stride + i]`` to lane k of pixel ``pixels[q + i]`` of ``source``."""
    for i, pixel in enumerate(pixels[q : q + LANES]):
        for k in range(LANES):
            out[at + k * stride + i] = source[LANES * int(pixel) + k]


instructed_by("onnx_geed.measures.lane_instructions")
