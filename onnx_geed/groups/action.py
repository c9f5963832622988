"""The action of a group on arrays, φ of eq. (1): what it must have."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.exactness import Exactness
from onnx_geed.groups.group import Group
from onnx_geed.groups.layout import Layout

__all__ = ["Action", "action_at", "composes", "rows_known", "without_row"]

F64 = NDArray[np.float64]


class Action(Protocol):
    """An action of a group on arrays: a group and a layout of axis letters.

    Give one to :func:`onnx_geed.measure` as ``action=``.

    Notes
    -----
    An action that also works for tensors of other sizes has a method ``at(layout, shape)``. It
    returns the action on tensors of that layout and of shape ``(N, *shape)``, or ``None`` if there
    is none.
    """

    @property
    def group(self) -> Group:
        """The acting group."""

    @property
    def layout(self) -> Layout:
        """One letter for each axis of the arrays on which it acts."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def exact(self) -> tuple[Exactness, ...]:
        """How each element acts: by index, by matrix, or by resampling."""

    def kernel_of_action(self) -> tuple[int, ...]:
        """Indices of ker(φ_Y), the elements that act as the identity."""

    def apply(self, g: int, y: F64) -> F64:
        """Move ``y``, whose last axes are those of the layout without N, by element ``g``."""


def composes(action: Action) -> bool:
    """Whether the elements act as the group's table says; what was fitted to data need not."""
    return bool(getattr(action, "composes", True))


def without_row(action: Action) -> tuple[int, ...]:
    """Return the elements of which no table says what they do, under a partial one."""
    return getattr(action, "without_row", ())


def rows_known(group: Group, without: tuple[int, ...]) -> str:
    """Return how many elements have a row of a partial table, to stand behind an action's name."""
    return f" ({group.order - len(without)} of {group.order} elements)" if without else ""


def action_at(action: Action, layout: Layout, shape: tuple[int, ...]) -> Action | None:
    """Return an action for tensors of another layout or size, if it can act on them.

    Parameters
    ----------
    action : Action
        The action.
    layout : Layout
        What the tensor's axes are.
    shape : tuple of int
        Lengths of the axes without N.

    Returns
    -------
    Action or None
        What its method ``at(layout, shape)`` returns; ``None`` where it has no such method.
    """
    at = getattr(action, "at", None)
    return None if at is None else at(layout, shape)
