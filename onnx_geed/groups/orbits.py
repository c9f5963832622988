"""The orbit of a sample: the sample moved by every element of a group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups.grid import GridAction
from onnx_geed.groups.placed_action import PlacedAction

__all__ = ["orbit"]

F32 = NDArray[np.float32]


# The end of messages about an action that is none on a grid.
_MAKE = "make one with onnx_geed.grid_action(group, height, width)"


def orbit(action: GridAction | PlacedAction, x: F32, out: F32 | None = None) -> F32:
    """Return the orbit Gx of a sample, identity first.

    Parameters
    ----------
    action : GridAction or PlacedAction
        The input's action.
    x : ndarray of float32, shape (..., H, W)
        One sample, channels before the grid.
    out : ndarray of float32, shape (n, ..., H, W), optional
        Array to write into; a new one by default.

    Returns
    -------
    ndarray of float32, shape (n, ..., H, W)

    Raises
    ------
    GeedError
        If ``action`` is no action on a grid.
        If the sample is no array of numbers, or its grid is not the action's.
        If ``out`` has not the orbit's shape and dtype, or is not contiguous.
    """
    from onnx_geed.groups.kernels import fill_orbit

    if not isinstance(action, GridAction | PlacedAction):
        raise GeedError(f"an orbit needs an action on a grid, found {shown(action)}: {_MAKE}")
    try:
        x = np.asarray(x)
    except ValueError:
        raise GeedError("a sample is one array (..., H, W), found rows of other lengths") from None
    if x.dtype.kind not in "fiub":
        raise GeedError(f"a sample is an array of numbers, found {x.dtype}")
    if x.shape[-len(action.shape) :] != action.shape:
        raise GeedError(f"the action is for grids of {action.shape}, the sample is {x.shape}")
    wanted = (action.group.order, *x.shape)
    if out is None:
        out = np.empty(wanted, dtype=np.float32)
    elif out.shape != wanted or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise GeedError(
            f"out is a contiguous float32 array of {wanted}, found {out.dtype} {out.shape}"
        )
    if isinstance(action, PlacedAction):
        sample = np.asarray(x, dtype=np.float32)
        for g in range(action.group.order):
            out[g] = action.apply(g, sample)
        return out
    area = action.shape[0] * action.shape[1]
    flat = np.ascontiguousarray(x, dtype=np.float32).reshape(-1, area)
    target = out.reshape(action.group.order, -1, area)
    fill_orbit(flat, action.index, action.weight, action.base_of, action.permutation, target)
    return out
