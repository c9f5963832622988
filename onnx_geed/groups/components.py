"""In which order, and with which signs, vectors hold their components."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.factors import Factor, MixFactor, as_rows
from onnx_geed.groups.group import Behind, Components, Group

__all__ = ["with_components"]

# From (right, down) to the components of each spelling.
_FROM_RIGHT_DOWN: dict[str, list[list[float]]] = {
    "right-down": [[1, 0], [0, 1]],
    "right-up": [[1, 0], [0, -1]],
    "down-right": [[0, 1], [1, 0]],
}


def with_components(group: Group, components: Components) -> Group:
    """Return a named group that turns vectors whose components are in another order.

    Parameters
    ----------
    group : Group
        A group; one's own, of which no action is known, comes back as it is.
    components : {"right-down", "right-up", "down-right"}
        What the components along X are.

    Returns
    -------
    Group
        Equal to the first, with other matrices on X.
    """
    if components == "right-down" or group.factors is None:
        return group
    turned = copy.copy(group)
    object.__setattr__(turned, "components", components)
    object.__setattr__(turned, "factors", _rewritten(group.factors, components))
    for name in ("behind", "onward"):
        if (drawn := getattr(group, name)) is not None:
            object.__setattr__(turned, name, _Rewritten(drawn, components))
    return turned


@dataclass(frozen=True)
class _Rewritten:
    """The factors that a sampled group moves a sample by, in other components."""

    drawn: Behind
    components: Components

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        return _rewritten(self.drawn(seed, sample), self.components)


def _rewritten(factors: tuple[Factor, ...], components: Components) -> tuple[Factor, ...]:
    return tuple(
        _mixing(factor, components)
        if isinstance(factor, MixFactor) and factor.axes == "X"
        else factor
        for factor in factors
    )


def _mixing(factor: MixFactor, components: Components) -> MixFactor:
    change: NDArray[np.float64] = np.eye(factor.size)
    change[:2, :2] = _FROM_RIGHT_DOWN[components]
    matrices = np.array(factor.matrices).reshape(-1, factor.size, factor.size)
    return replace(factor, matrices=as_rows(list(change @ matrices @ change.T)))
