"""Pictures of maps of any layout: what of a tensor's axes lies on a plane to be looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["plane_of", "reading_of"]

# What lies along one axis, and what a slice is across.
_ALONG = {"T": "places of the line", "P": "points", "X": "components", "B": "bases"}
_ACROSS = {"D": "depth", "T": "line", "P": "points", "B": "bases"}


def plane_of(maps: NDArray[np.floating], letters: str) -> NDArray[np.floating]:
    """Bring maps (..., axes) to pictures (..., h, w).

    Parameters
    ----------
    maps : ndarray
        Maps whose last axes have these letters.
    letters : str
        In kept order, without the channels': ``HW``, ``DHW``, ``T``, ``PX`` and so on.

    Returns
    -------
    ndarray
        Planes as they are, the middle slice of volumes, a strip one place high of what has one
        axis; of vectors their lengths.
    """
    axes = letters
    if "X" in axes and axes != "X":
        at = axes.index("X") - len(axes)
        maps, axes = np.sqrt(np.square(maps).sum(axis=at)), axes.replace("X", "", 1)
    while len(axes) > 2:
        maps = np.take(maps, maps.shape[-len(axes)] // 2, axis=-len(axes))
        axes = axes[1:]
    return maps[..., None, :] if len(axes) == 1 else maps


def reading_of(shape: tuple[int, ...], letters: str) -> str:
    """Say how :func:`plane_of` is read; empty of planes as they are.

    Parameters
    ----------
    shape : tuple of int
        Lengths of the axes.
    letters : str
        Their letters.
    """
    axes = list(zip(letters, shape, strict=True))
    told = []
    if "X" in letters and letters != "X":
        told.append("lengths of vectors")
        axes.remove(next(axis for axis in axes if axis[0] == "X"))
    while len(axes) > 2:
        letter, length = axes.pop(0)
        told.append(f"the middle one of {length} slices across the {_ACROSS.get(letter, letter)}")
    if len(axes) == 1:
        letter, length = axes[0]
        told.append(f"{length} {_ALONG.get(letter, 'places')} from left to right")
    elif [letter for letter, _ in axes] == ["B", "T"]:
        told.append("the bases A, C, G, T from top to bottom")
    return f"Shown: {', '.join(told)}." if told else ""
