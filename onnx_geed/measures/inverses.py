"""Tensors moved back: φ_Y(g)⁻¹ f(gx), to be held against what is right for x itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, LayoutAction, Permutation, PlacedAction, Trivial

__all__ = ["check_inverses", "move_back"]

F64 = NDArray[np.float64]


def check_inverses(action: Action, tensor: str) -> None:
    """Refuse an action of which what moves back is not known.

    Parameters
    ----------
    action : Action
        φ_Y.
    tensor : str
        What it acts on, for the message.

    Raises
    ------
    GeedError
        If an element neither permutes entries nor has its inverse in the group.
    """
    group = action.group
    if group.is_closed or isinstance(action, Trivial):
        return
    odd = next((g for g in range(group.order) if _gathers_back(action, g) is None), None)
    if odd is not None:
        raise GeedError(
            f"{tensor} is moved back by the inverse of {group.elements[odd]}, which is not an "
            f"element of {group.name}: take a group that has it"
        )


def move_back(action: Action, g: int, rows: F64) -> F64:
    """Move tensors back by an element.

    Parameters
    ----------
    action : Action
        φ_Y, which :func:`check_inverses` lets pass.
    g : int
        The element.
    rows : ndarray of float64, shape (N, rows, F) or (N, k)
        f(gx) of some samples, as ``view`` brings whole tensors.

    Returns
    -------
    ndarray of float64
        Of the same shape. What permutes entries is undone; anything else is moved by the inverse
        element, which undoes matrices to rounding, and resampling not at all exactly.
    """
    if isinstance(action, Trivial):
        return rows
    if (undo := _gathers_back(action, g)) is not None:
        flat = rows.reshape(len(rows), -1)
        return np.take(flat, undo, axis=1).reshape(rows.shape)
    back = action.group.inverse(g)
    if isinstance(action, LayoutAction):
        moved: F64 = action.apply_to_rows(back, rows)
        return moved
    if isinstance(action, PlacedAction):
        return action.apply(back, rows.reshape(len(rows), *action.shape)).reshape(rows.shape)
    # One vector at a time: a product over all of them might add up in another order.
    return np.stack([action.apply(back, row) for row in rows])


def _gathers_back(action: Action, g: int) -> NDArray[np.int64] | None:
    """Return which entry each one comes back from, of what only permutes them."""
    if isinstance(action, Permutation):
        return np.argsort(action.table[g])
    if isinstance(action, LayoutAction) and not (
        action.moves.base_of[g] or action.channel_matrices is not None
    ):
        here = np.arange(action.rows * action.moves.size).reshape(action.rows, -1)
        return np.argsort(action.apply_to_rows(g, here).ravel())
    return None
