"""The orbit of a sample: the sample moved by every element of a group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups.by_letters import LayoutAction
from onnx_geed.groups.placed_action import PlacedAction

__all__ = ["orbit", "orbit_of", "orbits_of"]


@checked
def orbit(
    action: LayoutAction | PlacedAction, x: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the orbit Gx of a sample, identity first.

    Parameters
    ----------
    action : LayoutAction or PlacedAction
        The input's action.
    x : ndarray of float32, shape (..., H, W)
        One sample, its axes in the action's order; whole numbers if entries only change places.
    out : ndarray, shape (n, ..., H, W), optional
        Array for the result, of float32 or of the whole numbers' dtype; a new one by default.

    Returns
    -------
    ndarray, shape (n, ..., H, W)

    Raises
    ------
    GeedError
        If ``action`` is not an action on a grid.
        If the sample is not an array of numbers, or its shape does not fit the action.
        If whole numbers would be interpolated.
        If ``out`` does not have the orbit's shape and dtype, or is not contiguous.
    """
    return orbit_of(action, x, out)


def orbit_of(
    action: LayoutAction | PlacedAction, x: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return an orbit as :func:`orbit` does, whose types are not looked at: a run makes many."""
    lengths = action.shape if isinstance(action, PlacedAction) else action.lengths
    if x.shape[x.ndim - len(lengths) :] != lengths:
        what = "grids" if len(lengths) == 2 else "samples"
        raise GeedError(f"the action is for {what} of {lengths}, the sample is {x.shape}")
    wanted = (action.group.order, *x.shape)
    whole = out is not None and out.dtype.kind in "iub"
    if out is None:
        out = np.empty(wanted, dtype=np.float32)
    elif (
        out.shape != wanted or not (whole or out.dtype == np.float32) or not out.flags.c_contiguous
    ):
        raise GeedError(
            f"out is a contiguous float32 array of {wanted}, found {out.dtype} {out.shape}"
        )
    if isinstance(action, PlacedAction):
        sample = np.asarray(x, dtype=np.float32)
        for g in range(action.group.order):
            out[g] = action.apply(g, sample)
        return out
    moves = action.moves
    if whole:
        if moves.base_of.any():
            raise GeedError(
                f"group {action.group.name} computes weighted sums of entries, which is "
                "meaningless for whole numbers such as token ids: take a group that only permutes "
                "them"
            )
        flat = action.stacked(x)
        for g, taken in enumerate(moves.permutation):
            out[g] = action.unstacked(flat[..., taken])
        return out
    orbits_of(action, x[None], out[None])
    return out


def orbits_of(action: LayoutAction, x: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Set ``out`` (N, n, ..., H, W), which is contiguous, to the orbits of samples (N, ..., H, W).

    Nothing is looked at: many small samples are moved in one call.
    """
    from onnx_geed.groups.kernels import fill_orbits

    moves = action.moves
    stacked = np.ascontiguousarray(action.stacked(x), dtype=np.float32)
    flat = stacked.reshape(len(x), -1, moves.size)
    # Where the moved axes are the last ones, the loop writes into its place.
    in_place = action.axes == tuple(range(-len(action.axes), 0))
    shape = *out.shape[:2], *stacked.shape[1:]
    target = out if in_place else np.empty(shape, dtype=np.float32)
    rows = target.reshape(*out.shape[:2], *flat.shape[1:])
    fill_orbits(flat, moves.index, moves.weight, moves.base_of, moves.permutation, rows)
    if not in_place:
        out[:] = action.unstacked(target)
