"""Layouts of what a function returns: maps are known by their grids, which scale as the input's.

No graph tells what its arrays are. Of four axes, two of which are the input's plane in every
stride and the other two not, no doubt is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

__all__ = ["map_layouts_of", "note_on_layouts"]

_PLANES = ("NCHW", "NHWC", "NHW")

# Others, such as a plane that lies on its side, are stated.
_MAPS = ("NCHW", "NHWC")


def map_layouts_of(
    outputs: Mapping[str, NDArray[np.generic]], rows: NDArray[np.generic], layout: str
) -> dict[str, str]:
    """Return the layouts of outputs that are maps beyond doubt.

    Parameters
    ----------
    outputs : mapping of str to ndarray, shape (B, ...)
        What a function returned.
    rows : ndarray, shape (B, ...)
        For which input.
    layout : str
        Its layout.

    Returns
    -------
    dict of str to str
        ``NCHW`` or ``NHWC``, by output. Those of other ranks, of which both or neither fit, and
        whose rows are shares, as an attention's are, are absent.
    """
    if layout not in _PLANES:
        return {}
    plane = _plane(rows.shape, layout)
    found = {}
    for name, array in outputs.items():
        fits = [own for own in _MAPS if array.ndim == 4 and _scales(array, own, plane)]
        if len(fits) == 1 and not _is_attention(array):
            found[name] = fits[0]
    return found


def _plane(shape: tuple[int, ...], layout: str) -> tuple[int, int]:
    return shape[layout.index("H")], shape[layout.index("W")]


def _scales(array: NDArray[np.generic], layout: str, plane: tuple[int, int]) -> bool:
    """Say whether one stride makes a map's grid of the input's, up to its edges."""
    height, width = _plane(array.shape, layout)
    full_height, full_width = plane
    if not (2 <= height <= full_height and 2 <= width <= full_width):
        return False
    if full_height == full_width:
        return height == width
    return any(
        full_height // stride <= height <= -(-full_height // stride)
        and full_width // stride <= width <= -(-full_width // stride)
        for stride in range(1, full_height)
    )


def _is_attention(array: NDArray[np.generic]) -> bool:
    """Say whether the last axis holds shares of a whole: (N, heads, T, T)."""
    real = np.asarray(array, dtype=np.float64)
    return bool(real.min() >= 0 and np.allclose(real.sum(axis=-1), 1, atol=1e-3))


def note_on_layouts(layouts: Mapping[str, str], stated: Iterable[str]) -> list[str]:
    """Return a note on the layouts that were found, but for those that the user states.

    Parameters
    ----------
    layouts : mapping of str to str
        As :func:`map_layouts_of` returns them.
    stated : iterable of str
        Names and patterns of tensors.
    """
    keys = tuple(stated)
    read = [f"{n} {own}" for n, own in layouts.items() if not any(fnmatchcase(n, k) for k in keys)]
    if not read:
        return []
    more = f" and {len(read) - 6} more" if len(read) > 6 else ""
    return [
        f"read as maps, since their grids scale as the input's: {', '.join(read[:6])}{more}; say "
        "otherwise with --layout NAME=LETTERS"
    ]
