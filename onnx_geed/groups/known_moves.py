"""Tables of moves, made once: small ones are kept, large ones live as long as who holds them."""

from __future__ import annotations

import functools
from weakref import WeakValueDictionary

from onnx_geed.groups.factors import Factor
from onnx_geed.groups.grid_tables import Interpolation
from onnx_geed.groups.moves import Moves, product_of_moves

__all__ = ["Placed", "known_moves"]

#: Factors, each with the lengths of the axes that it moves.
Placed = tuple[tuple[Factor, tuple[int, ...]], ...]

# Bytes of the largest tables that are kept when nobody holds them.
_SMALL = 4 << 20

_held: WeakValueDictionary[tuple[str, Placed, Interpolation], Moves] = WeakValueDictionary()


def known_moves(group: str, placed: Placed, interpolation: Interpolation) -> Moves:
    """Return what a group's factors do to some axes laid end to end; ``group`` is for messages."""
    key = group, placed, interpolation
    moves = _held.get(key)
    if moves is None:
        made = [factor.moves(group, own, interpolation) for factor, own in placed]
        # One that another thread made meanwhile is taken.
        moves = _held.setdefault(key, product_of_moves(made))
    if moves.bytes <= _SMALL:
        _keep(key)
    return moves


@functools.lru_cache(maxsize=64)
def _keep(key: tuple[str, Placed, Interpolation]) -> Moves:
    """Keep tables for those who ask for them again."""
    return _held[key]
