"""Class scores at places: moved back to where x has them, and compared place by place.

Probabilities lie along the classes at each place, such as a pixel; the other axes move as their
letters say. f(gx) is moved back by g⁻¹ and held against f̂(x), so that nothing of f̂(x) is
resampled, and a place that g turns out of the grid is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Exactness, LayoutAction, Moves, PlacedAction, undoing
from onnx_geed.measures.catalogue import Support

__all__ = ["Places", "places_of"]

F64 = NDArray[np.float64]


# The weights of a place that lies inside a grid sum to 1 within this.
_INSIDE = 1e-6


@dataclass(frozen=True, eq=False)
class Places:
    """The places of a tensor of class scores, and how scores come back to those of x.

    Parameters
    ----------
    action : LayoutAction or PlacedAction
        φ_Y.
    inside : ndarray of bool, shape (n, P)
        Places that are compared under each element.
    supported : ndarray of bool, shape (P,)
        Places that are compared unless an element leaves them out: those of a disk, or all.
    moves : Moves, optional
        What g⁻¹ does for each element g; none where a function of the user's own does it.
    """

    action: LayoutAction | PlacedAction
    inside: NDArray[np.bool_]
    supported: NDArray[np.bool_]
    moves: Moves | None

    @property
    def most_left_out(self) -> int:
        """The most places of the support that an element leaves out."""
        return int((self.supported & ~self.inside).sum(axis=1).max())

    def back(self, g: int, rows: NDArray[Any]) -> F64:
        """Move scores back by the inverse of an element, the order of classes as it is.

        Parameters
        ----------
        g : int
            The element.
        rows : ndarray, shape (N, rows, F)
            Scores as a model gives them.

        Returns
        -------
        ndarray of float64, shape (N, P, classes)
        """
        scores = np.asarray(rows, dtype=np.float64)
        if self.moves is not None:
            scores = self.moves.apply(g, scores)
        else:
            assert isinstance(self.action, PlacedAction)
            shape = len(rows), *self.action.shape
            scores = self.action.apply(self.action.group.inverse(g), scores.reshape(shape))
        by_class = scores.reshape(len(rows), -1, self.inside.shape[1])
        return np.ascontiguousarray(by_class.transpose(0, 2, 1))

    def back_of_classes(self, g: int) -> NDArray[np.int64] | None:
        """Return the class of x that each class of f(gx) stands for; ``None`` for itself."""
        table = self.action.channels if isinstance(self.action, LayoutAction) else None
        return None if table is None else table[g]

    def mean(self, values: F64, elements: Sequence[int]) -> F64:
        """Return means over places (..., elements) of values (..., elements, P)."""
        means = np.empty(values.shape[:-1])
        for j, g in enumerate(elements):
            # Taken, not indexed: an index may give another order in memory, and so of summation.
            compared = np.take(values[..., j, :], np.flatnonzero(self.inside[g]), axis=-1)
            means[..., j] = compared.mean(axis=-1)
        return means


def places_of(action: LayoutAction | PlacedAction, support: Support) -> Places:
    """Return the places of a tensor of class scores.

    Parameters
    ----------
    action : LayoutAction or PlacedAction
        φ_Y, which moves places, and classes by a table.
    support : {"full", "disk"}
        Places of a plane that are compared.

    Returns
    -------
    Places

    Raises
    ------
    GeedError
        If the action mixes entries other than by resampling a grid.
        If an element is resampled, and its inverse is no element or is not known as a table.
        If no place stays inside the grid under an element.
    """
    group, here = action.group, action.inside(support)
    if isinstance(action, PlacedAction):
        if Exactness.RESAMPLED in action.exact() or not group.is_closed:
            raise GeedError(
                f"the action {action.name!r} is a function of your own, so the places that it "
                "moves out of the grid are not known"
            )
        size = int(np.prod(action.shape[action.layout.channels :]))
        supported = np.ones(size, dtype=np.bool_) if here is None else here
        return Places(action, np.tile(supported, (group.order, 1)), supported, None)
    if mixed := {*action.moved} & {*"CKXB"}:
        raise GeedError(
            f"class scores lie at places, but group {group.name} mixes the axis "
            f"{', '.join(sorted(mixed))} of {action.layout}: state another layout"
        )
    moves = _backwards(action)
    sums = [np.ones(moves.size), *moves.weight.sum(axis=2)]
    inside = np.stack(
        [
            np.abs(sums[base][by] - 1) <= _INSIDE
            for base, by in zip(moves.base_of, moves.permutation, strict=True)
        ]
    )
    supported = np.ones(inside.shape[1], dtype=np.bool_) if here is None else here
    inside &= supported
    if len(out := np.flatnonzero(~inside.any(axis=1))):
        raise GeedError(
            f"no place of {' × '.join(map(str, action.shape))} stays inside the grid under the "
            f"element {group.elements[int(out[0])]}"
        )
    fixed = action.fixed
    return Places(action, np.tile(inside, (1, fixed)), np.tile(supported, fixed), moves)


def _backwards(action: LayoutAction) -> Moves:
    """Return what g⁻¹ does for each element g."""
    group, moves = action.group, action.moves
    if group.family is not None and action.moved:
        return action.moves_of(undoing(group))
    base_of, permutation = np.zeros_like(moves.base_of), np.empty_like(moves.permutation)
    for g in range(group.order):
        if not moves.base_of[g]:
            permutation[g] = np.argsort(moves.permutation[g])
        elif group.is_closed:
            inverse = group.inverse(g)
            base_of[g], permutation[g] = moves.base_of[inverse], moves.permutation[inverse]
        else:
            raise GeedError(
                f"scores are moved back by the inverse of {group.elements[g]}, which resamples "
                f"and is not an element of {group.name}: take a group that has it"
            )
    return replace(moves, base_of=base_of, permutation=permutation)
