"""Sets, vectors, adjacencies and token ids: tables of coloured cells, few ids as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.picture import Picture, png, svg
from onnx_geed.text import counted

__all__ = ["adjacency", "cells", "strip", "tokens"]

F64 = NDArray[np.float64]


# Width of a picture in pixels.
_WIDTH = 144


# Ids that are written as numbers at most.
_WRITTEN = 32


def cells(orbit: F64, what: str, most: tuple[int, int], side: tuple[int, int]) -> list[Picture]:
    """Return tables of numbers as coloured cells, on one scale: the lighter the larger.

    Parameters
    ----------
    orbit : ndarray, shape (n, rows, columns)
        The tables.
    what : str
        What they are.
    most : tuple of int
        Rows and columns at most; more are averaged in equal parts.
    side : tuple of int
        Height and width in pixels that a picture may have.
    """
    from onnx_geed.report.svg import load_matplotlib

    mpl = load_matplotlib()
    orbit = _averaged(_averaged(orbit, 1, most[0]), 2, most[1])
    low, high = float(orbit.min()), float(orbit.max())
    colours = mpl.colormaps["viridis"]((orbit - low) / ((high - low) or 1.0), bytes=True)
    rows, columns = orbit.shape[1:]
    # At least 12 pixels high and 24 wide, however few there are.
    down = max(-(-12 // rows), min(8, side[0] // rows))
    right = max(-(-24 // columns), min(8, side[1] // columns))
    pixels = np.repeat(np.repeat(colours[..., :3], down, axis=1), right, axis=2)
    return [Picture(what, columns * right, src=png(np.ascontiguousarray(p))) for p in pixels]


def _averaged(orbit: F64, axis: int, most: int) -> F64:
    """Return at most so many entries along an axis: means of parts as equal as can be."""
    length = orbit.shape[axis]
    if length <= most:
        return orbit
    edges = (np.arange(most + 1) * length) // most
    sums = np.add.reduceat(orbit, edges[:-1], axis=axis)
    mean: F64 = sums / np.expand_dims(np.diff(edges), [k for k in range(orbit.ndim) if k != axis])
    return mean


def adjacency(orbit: F64) -> list[Picture]:
    """Draw matrices between points; where an edge has features, the size of these.

    Parameters
    ----------
    orbit : ndarray, shape (n, P, P) or (n, C, P, P)
        The samples.
    """
    points = orbit.shape[-1]
    table = orbit if orbit.ndim == 3 else np.sqrt((orbit**2).sum(axis=1))
    return cells(table, f"matrix between {counted(points, 'point')}", (64, 64), (80, 80))


def strip(orbit: F64) -> list[Picture]:
    """Draw sets and vectors: a row each channel, a column each member.

    Parameters
    ----------
    orbit : ndarray, shape (n, C, P) or (n, P)
        The samples.
    """
    table = orbit if orbit.ndim == 3 else orbit[:, None]
    rows, columns = table.shape[1:]
    what = f"{columns} entries" if rows == 1 else f"{columns} members with {rows} features"
    return cells(table, what, (32, _WIDTH), (72, _WIDTH))


def tokens(orbit: F64) -> list[Picture]:
    """Draw ids: numbers in coloured cells, cells alone where there are many.

    Parameters
    ----------
    orbit : ndarray, shape (n, T)
        The samples, whole numbers.
    """
    count = orbit.shape[1]
    if count <= _WRITTEN:
        return [_written(sample) for sample in orbit.astype(np.int64)]
    # Ids are names, not sizes: equal steps from one to the next that occurs, and no means of them.
    ranks = np.unique(orbit, return_inverse=True)[1].reshape(orbit.shape).astype(np.float64)
    shown = np.linspace(0, count - 1, min(count, _WIDTH)).round().astype(int)
    return cells(ranks[:, None, shown], f"{count} ids", (1, _WIDTH), (14, _WIDTH))


def _written(ids: NDArray[np.int64]) -> Picture:
    texts = [str(number) for number in ids.tolist()]
    wide = max(map(len, texts)) * 7 + 6
    per_line = max(1, _WIDTH // wide)
    width, height = min(len(texts), per_line) * wide, 19 * -(-len(texts) // per_line)
    content = ""
    for k, text in enumerate(texts):
        line, column = divmod(k, per_line)
        x, y = column * wide, line * 19
        content += (
            f'<rect x="{x + 0.5}" y="{y + 0.5}" width="{wide - 2}" height="17" rx="2" '
            f'fill="var(--s{int(ids[k]) % 6})" fill-opacity="0.2" stroke="var(--line)"/>'
            f'<text x="{x + wide / 2 - 0.5:g}" y="{y + 13}" font-size="11" text-anchor="middle" '
            f'fill="var(--ink)">{text}</text>'
        )
    return Picture(f"ids {' '.join(texts)}", width, svg=svg(width, height, content))
