"""The part of a grid that is compared: all of it, or the disk inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.groups.grid_tables import check_grid

__all__ = ["disk_mask", "within_disk"]


@checked
def disk_mask(height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels inside the disk dx² + dy² ≤ (min(H, W)/2)².

    Parameters
    ----------
    height, width : int
        Size of the grid in pixels.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    GeedError
        If one is not a whole number from 1 on, or there are over 2²⁶ pixels.
    """
    check_grid(height, width)
    dy = np.arange(height)[:, None] - (height - 1) / 2
    dx = np.arange(width)[None, :] - (width - 1) / 2
    mask: NDArray[np.bool_] = dx * dx + dy * dy <= (min(height, width) / 2) ** 2
    return mask


def within_disk(x: NDArray[Any]) -> NDArray[Any]:
    """Return planes with zero outside the disk, in their own dtype.

    Parameters
    ----------
    x : ndarray, shape (..., H, W)
        The planes.

    Returns
    -------
    ndarray
    """
    # A zero of another dtype would make floats of whole numbers.
    return np.where(disk_mask(*x.shape[-2:]), x, x.dtype.type(0))
