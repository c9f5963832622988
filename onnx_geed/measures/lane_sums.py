"""Sums of products over a stretch of pixels: in sixteen lanes, and fetched ahead.

What a pass of a network has given comes from memory, and a processor that is not told so fetches it
too late: where it is read beside rows that are moved, half the time was waiting. So each step asks
for numbers some kilobytes ahead, which a loop that the compiler makes of vectors cannot do.

The order of each sum is written down here, and is the same on every processor and whatever else is
summed beside: of equal maps the three sums are equal, and their cosine is exactly 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import instructed_by
from onnx_geed.measures.map_memory import LANES

__all__ = ["products", "products_with_two"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


def products(u: F32, at: int, v: F32, first: int, count: int, step: int) -> tuple[float, ...]:
    """Return Σ u·v, Σ u² and Σ v² of ``count`` numbers.

    u is read from ``at`` on, and v from ``first``, forwards where ``step`` is 1 and backwards where
    it is −1. Sixteen sums grow side by side, the last eight on their own; what is left is added
    number by number.
    """
    sixteens, eights = count // (2 * LANES) * (2 * LANES), count // LANES * LANES
    grown = np.zeros((3, 2 * LANES))
    for p in [*range(0, sixteens, 2 * LANES), *range(sixteens, eights, LANES)]:
        a, b = _taken(u, at, v, first, step, p, 2 * LANES if p < sixteens else LANES)
        grown[:, : len(a)] += (a * b, a * a, b * b)
    while grown.shape[1] > 1:
        half = grown.shape[1] // 2
        grown = grown[:, :half] + grown[:, half:]
    sums = grown[:, 0]
    for p in range(eights, count):
        a, b = _taken(u, at, v, first, step, p, 1)
        sums += np.concatenate([a * b, a * a, b * b])
    return tuple(sums.tolist())


def products_with_two(
    u: F32, at: int, v: F32, first: int, w: F32, second: int, count: int, step: int
) -> tuple[float, ...]:
    """Return Σ u·v, Σ u², Σ v², Σ u·w and Σ w², each as :func:`products` gives it.

    Numbers u are read from memory once.
    """
    other = products(u, at, w, second, count, step)
    return (*products(u, at, v, first, count, step), other[0], other[2])


def _taken(u: F32, at: int, v: F32, first: int, step: int, p: int, count: int) -> tuple[F64, F64]:
    """Return ``count`` numbers u and v from the p-th on."""
    places = first + step * np.arange(p, p + count)
    return u[at + p : at + p + count].astype(np.float64), v[places].astype(np.float64)


instructed_by("onnx_geed.measures.lane_sum_instructions")
