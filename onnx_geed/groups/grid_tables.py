"""Index tables of grid elements: which entry of the old array each of the new one takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown

__all__ = [
    "Interpolation",
    "check_grid",
    "lands_on_entries",
    "rotation_table",
    "warp_table",
]

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]

Interpolation = Literal["bilinear", "nearest", "bicubic"]


# Pixels of a grid; tables of more take gigabytes.
_MOST_PIXELS = 1 << 26


# Entries of a table that are worked out together.
_PART = 1 << 18


def check_grid(height: int, width: int) -> tuple[int, int]:
    """Return height and width of a grid in pixels.

    Raises
    ------
    GeedError
        If one is below 1, or there are over 2²⁶ pixels.
    """
    for name, value in (("height", height), ("width", width)):
        if not 1 <= value <= _MOST_PIXELS:
            raise GeedError(
                f"{name} {shown(value)}: give a number of pixels from 1 to {_MOST_PIXELS}"
            )
    if height * width > _MOST_PIXELS:
        raise GeedError(
            f"height and width {height}×{width}: give at most {_MOST_PIXELS} pixels in all"
        )
    return height, width


def rotation_table(
    height: int, width: int, degrees: float, interpolation: Interpolation
) -> tuple[I32, F64]:
    """Return the pixels, and their weights, from which each output pixel of a rotation is read.

    Parameters
    ----------
    height, width : int
        Size of the grid in pixels.
    degrees : float
        Angle, counter-clockwise as displayed.
    interpolation : {"bilinear", "nearest", "bicubic"}
        How many pixels are read: 4, 1 or 16.

    Returns
    -------
    index : ndarray of int32, shape (H·W, T)
        Pixels, numbered row by row; 0 where one lies outside.
    weight : ndarray of float64, shape (H·W, T)
        Their weights; 0 outside the grid.
    """
    cos, sin = _cos_sin(degrees)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    offsets, weigh = _reach(interpolation)
    taps = len(offsets) ** 2
    index = np.empty((height * width, taps), dtype=np.int32)
    weight = np.empty((height * width, taps))
    for part in _parts(height * width):
        dy, dx = np.divmod(np.arange(part.start, part.stop), width)
        dy, dx = dy - cy, dx - cx
        x = cx + dx * cos - dy * sin
        y = cy + dx * sin + dy * cos
        if interpolation == "nearest":
            x, y = _nearest(x), _nearest(y)
        x0, y0 = np.floor(x), np.floor(y)
        for t, (i, j) in enumerate(itertools.product(offsets, repeat=2)):
            row, column = y0 + i, x0 + j
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index[part, t] = np.where(inside, row * width + column, 0)
            weight[part, t] = np.where(inside, weigh(y - row) * weigh(x - column), 0.0)
    return index, weight


def warp_table(
    lengths: tuple[int, ...],
    inverse: F64,
    interpolation: Interpolation,
    shift: F64 | float = 0.0,
) -> tuple[I32, F64]:
    """Return the entries, and their weights, from which each entry of a warped grid is read.

    Parameters
    ----------
    lengths : tuple of int
        Size of the grid along each of its d axes.
    inverse : ndarray of float64, shape (d, d)
        A matrix on places relative to the centre: what comes to p was at ``inverse @ (p - shift)``.
    interpolation : {"bilinear", "nearest", "bicubic"}
        How many entries are read: 2, 1 or 4 along each axis.
    shift : ndarray of float64, shape (d,)
        By how many entries the grid is shifted after that.

    Returns
    -------
    index : ndarray of int32, shape (entries, T)
        Entries, the last axis running fastest; 0 where one lies outside.
    weight : ndarray of float64, shape (entries, T)
        Their weights; 0 outside the grid.
    """
    offsets, weigh = _reach(interpolation)
    size, taps = math.prod(lengths), len(offsets) ** len(lengths)
    index = np.empty((size, taps), dtype=np.int32)
    weight = np.empty((size, taps))
    sides = np.array(lengths)[:, None]
    for part in _parts(size):
        source = _sources(lengths, inverse, shift, part)
        if interpolation == "nearest":
            source = _nearest(source)
        source = _snapped(source, lengths)
        first = np.floor(source)
        for t, steps in enumerate(itertools.product(offsets, repeat=len(lengths))):
            place = first + np.array(steps)[:, None]
            inside = ((place >= 0) & (place < sides)).all(axis=0)
            entry = np.ravel_multi_index(tuple(place.astype(np.int64)), lengths, mode="clip")
            index[part, t] = np.where(inside, entry, 0)
            weight[part, t] = np.where(inside, np.prod(weigh(source - place), axis=0), 0.0)
    return index, weight


def _reach(interpolation: Interpolation) -> tuple[tuple[int, ...], Callable[[F64], F64]]:
    """Return which neighbours along an axis are read, from the one below on, and their weights."""
    if interpolation == "nearest":
        return (0,), _at_zero
    return ((0, 1), _hat) if interpolation == "bilinear" else ((-1, 0, 1, 2), _cubic)


def _nearest(source: F64) -> F64:
    """Round places up from ties, which nine digits tell whatever the last bit."""
    nearest: F64 = np.floor(np.round(source, 9) + 0.5)
    return nearest


def _parts(size: int) -> Iterator[slice]:
    """Yield the parts of a table that are worked out at once: all of it would take a lot more."""
    for start in range(0, size, _PART):
        yield slice(start, min(start + _PART, size))


def lands_on_entries(lengths: tuple[int, ...], inverse: F64, shift: F64 | float = 0.0) -> bool:
    """Whether each entry of a warped grid comes from one place of the grid, or from outside.

    Parameters
    ----------
    lengths, inverse, shift
        As :func:`warp_table` takes them.
    """
    sources = (_sources(lengths, inverse, shift, part) for part in _parts(math.prod(lengths)))
    placed = (_snapped(source, lengths) for source in sources)
    return all(bool((source == np.round(source)).all()) for source in placed)


def _sources(lengths: tuple[int, ...], inverse: F64, shift: F64 | float, part: slice) -> F64:
    """Return from where each entry of a part comes, (d, entries)."""
    centre = (np.array(lengths, dtype=np.float64) - 1) / 2
    places = np.stack(np.unravel_index(np.arange(part.start, part.stop), lengths))
    moved = np.broadcast_to(shift, len(lengths))[:, None]
    source: F64 = inverse @ (places - centre[:, None] - moved) + centre[:, None]
    return source


def _snapped(source: F64, lengths: tuple[int, ...]) -> F64:
    """Return places of which one next to a whole number is one: sums leave some last bits."""
    near = np.round(source)
    return np.where(np.abs(source - near) < 1e-12 * max(lengths), near, source)


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact at multiples of 90°."""
    exact = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}
    return exact.get(degrees) or (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def _at_zero(t: F64) -> F64:
    weight: F64 = (t == 0).astype(np.float64)
    return weight


def _hat(t: F64) -> F64:
    return np.maximum(0.0, 1.0 - np.abs(t))


def _cubic(t: F64, a: float = -0.75) -> F64:
    """Keys' cubic convolution; a = −0.75 is what PyTorch and ONNX GridSample take."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    weight: F64 = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
    return weight
