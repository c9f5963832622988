"""Groups that move one axis: shifts and reversals of lines, permutations of points, hues."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.factors import Factor, LineFactor, LineMove, MixFactor, TakeFactor, as_rows
from onnx_geed.groups.group import Group, with_factors
from onnx_geed.groups.plane_groups import cyclic_table, rotation_names

__all__ = [
    "hue",
    "line_shift",
    "reverse",
    "reverse_complement",
    "symmetric",
]


def _line(name: str, elements: Sequence[str], moves: Sequence[LineMove], *more: Factor) -> Group:
    """Return a cyclic group of moves of a line."""
    group = Group(name, tuple(elements), cyclic_table(len(moves)))
    return with_factors(group, LineFactor(tuple(moves)), *more)


def line_shift(n: int) -> Group:
    """Return the cyclic shifts of a line by n-ths of its length."""
    elements = ("e", *(f"t{k}" for k in range(1, n)))
    return _line(f"shift{n}", elements, [LineMove(shift=Fraction(k, n)) for k in range(n)])


def reverse() -> Group:
    """Return the group of order 2 that reverses a line."""
    return _line("reverse", ("e", "reverse"), [LineMove(), LineMove(reverse=True)])


def reverse_complement() -> Group:
    """Return the group of order 2 that reverses a strand of DNA and swaps A-T and C-G."""
    moves, swap = [LineMove(), LineMove(reverse=True)], ((0, 1, 2, 3), (3, 2, 1, 0))
    return _line("revcomp", ("e", "revcomp"), moves, TakeFactor(swap, "B"))


def symmetric(n: int) -> Group:
    """Return all permutations of n points, named by the points that they take."""
    rows = list(itertools.permutations(range(n)))
    every = np.array(rows)
    digits = n ** np.arange(n)
    place = np.zeros(n**n, dtype=np.int64)
    place[every @ digits] = np.arange(len(rows))
    # Gathering by b, then by a, is gathering by b's entries at a's.
    table = np.stack([place[every[:, a] @ digits] for a in every])
    names = ("e", *("".join(str(i + 1) for i in row) for row in rows[1:]))
    return with_factors(Group(f"S{n}", names, table), TakeFactor(tuple(rows)))


def hue(n: int) -> Group:
    """Return the rotations of RGB about its grey axis; one of 120° carries red to green."""
    grey = [_hue_matrix(2 * math.pi * k / n) for k in range(n)]
    group = Group(f"hue{n}", rotation_names(n), cyclic_table(n))
    return with_factors(group, MixFactor(as_rows(grey), 3, "C"))


def _hue_matrix(angle: float) -> NDArray[np.float64]:
    # Rodrigues' formula about (1, 1, 1) / √3.
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    grey = np.full((3, 3), 1 / 3)
    turned: NDArray[np.float64] = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    turned += grey
    return turned
