"""What an action of a group on arrays is: φ of eq. (1)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.group import Group

__all__ = ["Action"]

F64 = NDArray[np.float64]


#: Two actions of an element count as equal within this (spec: the kernel of the action).
IDENTITY_TOLERANCE = 1e-6


class Action(Protocol):
    """An action of a group on arrays: what φ_Y of eq. (1) needs to be."""

    @property
    def group(self) -> Group:
        """The acting group."""

    @property
    def name(self) -> str:
        """How the report calls the action."""

    def exact(self) -> tuple[bool, ...]:
        """Per element, whether it acts without resampling."""

    def kernel_of_action(self) -> tuple[int, ...]:
        """Indices of ker(φ_Y), the elements that act as the identity."""

    def apply(self, g: int, y: F64) -> F64:
        """Move the last axes of ``y`` by element ``g``."""
