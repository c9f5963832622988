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
        One sample, its axes in the action's order; whole numbers if entries only change places, or
        bytes if what comes in from outside is 0.
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
        If whole numbers would be interpolated, or token ids filled up.
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
    if out.dtype != np.float32:
        _fill_whole(action, x, out)
        return out
    orbits_of(action, x[None], out[None])
    return out


def _fill_whole(action: LayoutAction, x: NDArray[Any], out: NDArray[Any]) -> None:
    """Set ``out`` to the orbit of a sample of whole numbers, each of which stays what it is.

    Bytes are pictures, and black comes in from outside; of other whole numbers 0 has a meaning.
    """
    moves, meaningless = action.moves, "which is meaningless for whole numbers such as token ids"
    remedy = "take a group that only permutes them"
    flat = action.stacked(x)
    for g, taken in enumerate(moves.permutation):
        if not moves.base_of[g]:
            out[g] = action.unstacked(flat[..., taken])
            continue
        if moves.gathered is None:
            of_bytes = out.dtype == np.uint8
            if of_bytes:
                meaningless = "which bytes do not hold"
            if of_bytes and action.interpolation != "nearest" and action.channel_matrices is None:
                remedy = "take --interpolation nearest, or a group that only permutes them"
            raise GeedError(
                f"group {action.group.name} computes weighted sums of entries, {meaningless}: "
                f"{remedy}"
            )
        source = moves.gathered[moves.base_of[g]][taken]
        outside = source < 0
        if outside.any() and out.dtype != np.uint8:
            raise GeedError(
                f"group {action.group.name} moves entries out of the grid and zeros into it, "
                f"{meaningless}: {remedy}"
            )
        out[g] = action.unstacked(np.where(outside, flat.dtype.type(0), flat[..., source]))


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
