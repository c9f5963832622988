"""What an action is asked to move, looked at before it is moved: an element, and an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.typed import as_array, check_value

if TYPE_CHECKING:
    from onnx_geed.groups.action import Action

__all__ = ["array_to_move"]


def array_to_move(
    action: Action, g: int, y: NDArray[Any], lengths: tuple[int, ...] = ()
) -> NDArray[Any]:
    """Return an array that an element can move.

    Parameters
    ----------
    action : Action
        The action.
    g : int
        The element.
    y : ndarray
        The array, or rows of numbers.
    lengths : tuple of int
        Lengths of its last axes, as far as they are known.

    Raises
    ------
    GeedError
        If there is no such element.
        If it is no array of real numbers, or its last axes have other lengths.
    """
    if not isinstance(g, int | np.integer):
        check_value("g", g, int)
    if not 0 <= g < action.group.order:
        raise GeedError(
            f"g is an element of {action.group.name}, 0 to {action.group.order - 1}, "
            f"found {shown(g)}"
        )
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "fiub":
        y = as_array("y", y)
    if lengths and y.shape[-len(lengths) :] != lengths:
        axes = " × ".join(map(str, lengths))
        raise GeedError(f"y ends with the axes that {action.name} moves, {axes}; found {y.shape}")
    return y
