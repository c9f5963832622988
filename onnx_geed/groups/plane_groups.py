"""Groups of the plane: rotations, mirrors and shifts, which vectors in it turn along with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import check_choice
from onnx_geed.groups.factors import Factor, MixFactor, Motion, PlaneFactor, as_rows
from onnx_geed.groups.group import (
    MOST_ELEMENTS,
    Group,
    check_size,
    product_table,
    sampled,
    with_factors,
)
from onnx_geed.groups.rotations import plane_matrix
from onnx_geed.groups.sampled import TurnsBehind

__all__ = [
    "cyclic",
    "cyclic_table",
    "dihedral",
    "flip",
    "rotation_names",
    "shift",
    "turn",
    "turns_sampled",
]


def _group_of_motions(
    name: str, elements: Sequence[str], table: NDArray[Any], moves: Sequence[Motion]
) -> Group:
    """Return a group whose elements are motions of the plane, which vectors in it turn along.

    A shift leaves vectors as they are, however many components they have.
    """
    factors: list[Factor] = [PlaneFactor(tuple(moves))]
    if any(m.degrees or m.mirror for m in moves):
        factors.append(MixFactor(as_rows([plane_matrix(m.degrees, m.mirror) for m in moves]), 2))
    return with_factors(Group(name, tuple(elements), table), *factors)


def turn(k: int, n: int) -> Fraction:
    """Return k n-ths of a whole turn in degrees."""
    return Fraction(360 * k, n)


@checked
def cyclic(n: int) -> Group:
    """Return the cyclic group of order n, ``e, r1, .., r<n-1>``.

    Raises
    ------
    GeedError
        If n is not a whole number from 1 to 4096.
    """
    check_size("n", n)
    moves = [Motion(turn(i, n)) for i in range(n)]
    return _group_of_motions(f"C{n}", rotation_names(n), cyclic_table(n), moves)


def cyclic_table(n: int) -> NDArray[np.int64]:
    """Return the multiplication table of the cyclic group of order n."""
    k = np.arange(n)
    table: NDArray[np.int64] = (k[:, None] + k) % n
    return table


@checked
def dihedral(n: int) -> Group:
    """Return the dihedral group of order 2n: ``e, r1, ..`` then ``s, sr1, ..``.

    Raises
    ------
    GeedError
        If n is not a whole number from 1 to 2048.

    Notes
    -----
    Element sr<k> is s·r^k, "rotate, then mirror"; r·s = s·r⁻¹.
    """
    check_size("n", n, MOST_ELEMENTS // 2)
    mirrored, k = np.divmod(np.arange(2 * n), n)
    # (s^a r^i)(s^b r^j) = s^(a+b) r^((-1)^b i + j)
    sign = np.where(mirrored == 1, -1, 1)
    flips = (mirrored[:, None] + mirrored) % 2
    turns = (sign[None, :] * k[:, None] + k) % n
    names = (*rotation_names(n), "s", *(f"sr{i}" for i in range(1, n)))
    moves = [Motion(turn(i, n), mirror) for mirror in ("", "h") for i in range(n)]
    return _group_of_motions(f"D{n}", names, flips * n + turns, moves)


def rotation_names(n: int) -> tuple[str, ...]:
    """Return the names of n rotations: ``e, r1, ..``."""
    return ("e", *(f"r{k}" for k in range(1, n)))


def flip(axis: str) -> Group:
    """Return the group of order 2 of a mirror: ``h`` left-right, ``v`` up-down."""
    axis = check_choice("the axis of a mirror", axis, ("h", "v"))
    moves = [Motion(), Motion(mirror=axis)]
    return _group_of_motions(f"flip-{axis}", ("e", "flip"), np.array([[0, 1], [1, 0]]), moves)


def shift(a: int, b: int) -> Group:
    """Return Z_a × Z_b with elements ``e, t0,1, .., t<a-1>,<b-1>``, row-major."""
    names = ("e", *(f"t{i},{j}" for i in range(a) for j in range(b) if i or j))
    moves = [Motion(shift=(Fraction(i, a), Fraction(j, b))) for i in range(a) for j in range(b)]
    return _group_of_motions(f"shift{a}x{b}", names, product_table(cyclic(a), cyclic(b)), moves)


def turns_sampled(n: int, *, mirrored: bool) -> Group:
    """Return C_n or D_n behind an angle of each sample's own."""
    whole = dihedral(n) if mirrored else cyclic(n)
    name = f"O2~{2 * n}" if mirrored else f"SO2~{n}"
    group = with_factors(Group(name, whole.elements, whole.table), *(whole.factors or ()))
    # Every second angle: evenly spread where their number is even.
    half = range(0, group.order, 2)
    return sampled(
        group,
        behind=TurnsBehind(whole.motions or ()),
        half=half if whole.is_subgroup(half) else (),
    )
