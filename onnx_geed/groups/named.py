"""The named groups, and how each of their elements moves the plane."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, check_choice, shown
from onnx_geed.groups.group import Group, Motion, product_table

__all__ = [
    "MAX_ORDER",
    "Turns",
    "angle",
    "cyclic",
    "dihedral",
    "flip",
    "motions",
    "motions_named",
    "parse_group",
    "plane_motions",
    "shift",
    "turns_of",
]

#: Largest order :func:`parse_group` builds: every sample is run once per element.
MAX_ORDER = 1024


def motions(group: Group) -> tuple[Motion, ...] | None:
    """Return how each element of a group moves the plane, or ``None`` where that is not known.

    It is known for the named groups, also where one was written out with the same elements and
    table. A group with another table is another group, whatever its name.
    """
    if group.motions is not None:
        return group.motions
    named = _group_named(group.name)
    return named.motions if named is not None and named == group else None


def plane_motions(group: Group) -> tuple[Motion, ...]:
    """Return how each element of a group moves the plane.

    Raises
    ------
    GeedError
        If the group is not one of the named ones, so that no action on images is known.
    """
    moves = motions(group)
    if moves is not None:
        return moves
    named = _group_named(group.name)
    if named is None:
        raise GeedError(
            f"group {group.name}: how a group of your own moves an image is not known, only its "
            "elements and table: take C<n>, D<n>, flip-h, flip-v or shift<a>x<b>, say it with "
            "onnx_geed.measure(action=...), or move the samples yourself and give the activations "
            "to onnx_geed.latent_l2, latent_cos, softmax_kl or output_l2"
        )
    differ = "other elements" if named.elements != group.elements else "another table"
    raise GeedError(
        f"group {group.name}: has {differ} than onnx-geed's group of that name, so how it moves an "
        f"image is not known: take onnx_geed.parse_group({group.name!r})"
    )


def motions_named(name: str) -> tuple[Motion, ...]:
    """Return how the elements of a group move the plane, by the name that a result keeps.

    Empty where no named group has that name.
    """
    group = _group_named(name)
    return () if group is None else plane_motions(group)


@functools.lru_cache(maxsize=64)
def _group_named(name: str) -> Group | None:
    try:
        return parse_group(name)
    except GeedError:
        return None


def _group_of_motions(
    name: str, elements: Sequence[str], table: NDArray[Any], moves: Sequence[Motion]
) -> Group:
    """Return a group whose elements are motions of the plane."""
    group = Group(name, tuple(elements), table)
    object.__setattr__(group, "motions", tuple(moves))
    return group


def _turn(k: int, n: int) -> Fraction:
    return Fraction(360 * k, n)


def _order_of(value: object, number: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise GeedError(f"{number}: is a whole number from 1 on, found {shown(value)}")
    return int(value)


def cyclic(n: int) -> Group:
    """Return the cyclic group of order n, ``e, r1, .., r<n-1>``."""
    n = _order_of(n, "the order of a cyclic group")
    k = np.arange(n)
    moves = [Motion(_turn(i, n)) for i in range(n)]
    return _group_of_motions(f"C{n}", _rotations(n), (k[:, None] + k) % n, moves)


def dihedral(n: int) -> Group:
    """Return the dihedral group of order 2n: ``e, r1, ..`` then ``s, sr1, ..``.

    Notes
    -----
    Element sr<k> is s·r^k, "rotate, then mirror"; r·s = s·r⁻¹.
    """
    n = _order_of(n, "the rotations of a dihedral group")
    mirrored, k = np.divmod(np.arange(2 * n), n)
    # (s^a r^i)(s^b r^j) = s^(a+b) r^((-1)^b i + j)
    sign = np.where(mirrored == 1, -1, 1)
    flips = (mirrored[:, None] + mirrored) % 2
    turns = (sign[None, :] * k[:, None] + k) % n
    names = (*_rotations(n), "s", *(f"sr{i}" for i in range(1, n)))
    moves = [Motion(_turn(i, n), mirror) for mirror in ("", "h") for i in range(n)]
    return _group_of_motions(f"D{n}", names, flips * n + turns, moves)


def _rotations(n: int) -> tuple[str, ...]:
    return ("e", *(f"r{k}" for k in range(1, n)))


def flip(axis: str) -> Group:
    """Return the group of order 2 of a mirror: ``h`` left-right, ``v`` up-down."""
    axis = check_choice("the axis of a mirror", axis, ("h", "v"))
    moves = [Motion(), Motion(mirror=axis)]
    return _group_of_motions(f"flip-{axis}", ("e", "flip"), np.array([[0, 1], [1, 0]]), moves)


def shift(a: int, b: int) -> Group:
    """Return Z_a × Z_b with elements ``e, t0,1, .., t<a-1>,<b-1>``, row-major."""
    a, b = _order_of(a, "the shifts down"), _order_of(b, "the shifts right")
    names = ("e", *(f"t{i},{j}" for i in range(a) for j in range(b) if i or j))
    moves = [Motion(shift=(Fraction(i, a), Fraction(j, b))) for i in range(a) for j in range(b)]
    return _group_of_motions(f"shift{a}x{b}", names, product_table(cyclic(a), cyclic(b)), moves)


def parse_group(name: str) -> Group:
    """Return the group that a name stands for.

    Parameters
    ----------
    name : str
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v`` or ``shift<a>x<b>``.

    Returns
    -------
    Group

    Raises
    ------
    GeedError
        If the name is none of these, or no text.
        If the order would exceed ``MAX_ORDER``, 1024.
    """
    if not isinstance(name, str):
        raise GeedError(
            f"a group is a name such as C8, or a Group; found {shown(name)}: write C<n>, D<n>, "
            "flip-h, flip-v or shift<a>x<b>"
        )
    if match := re.fullmatch(r"([CDcd])([1-9]\d{0,5})", name):
        n, twice = int(match[2]), match[1] in "Dd"
        _check_order(name, 2 * n if twice else n)
        return dihedral(n) if twice else cyclic(n)
    if match := re.fullmatch(r"flip-([hv])", name):
        return flip(match[1])
    if match := re.fullmatch(r"shift([1-9]\d{0,5})x([1-9]\d{0,5})", name):
        a, b = int(match[1]), int(match[2])
        _check_order(name, a * b)
        return shift(a, b)
    raise GeedError(
        f"no group is called {name!r}: write C<n> (rotations, such as C8), D<n> (rotations and "
        "mirrors), flip-h, flip-v or shift<a>x<b> (such as shift4x4)"
    )


def _check_order(name: str, order: int) -> None:
    if order > MAX_ORDER:
        raise GeedError(
            f"group {name} has {order} elements and every sample is run once for each: take a "
            f"group of at most {MAX_ORDER} elements"
        )


@dataclass(frozen=True)
class Turns:
    """The rotations that a group consists of.

    Parameters
    ----------
    count : int
        n of the rotations by 360°·k/n, in order.
    mirrored : bool
        Whether the same follow once more, each with a mirror after it.
    """

    count: int
    mirrored: bool


@functools.lru_cache(maxsize=64)
def turns_of(name: str) -> Turns | None:
    """Return the rotations of C_n and D_n, by the group's name; ``None`` for other groups.

    Parameters
    ----------
    name : str
        Name of a group, as a result keeps it.

    Returns
    -------
    Turns or None
    """
    group = _group_named(name)
    if group is None:
        return None
    if group == cyclic(group.order):
        return Turns(group.order, mirrored=False)
    half, odd = divmod(group.order, 2)
    if not odd and group == dihedral(half):
        return Turns(half, mirrored=True)
    return None


def angle(group: str, element: str, *, short: bool = False) -> str:
    """Say what an element does: its name with degrees.

    Parameters
    ----------
    group : str
        Name of the group, as a result keeps it.
    element : str
        Name of the element.
    short : bool
        Whether to leave the name out, and to say ``s`` for the mirror after a rotation.

    Returns
    -------
    str
        Such as ``r1 (45°)`` or ``sr1 (45°, then mirror)``, short ``45°`` or ``s 45°``; the bare
        name where nothing more is known.
    """
    move = _moves_of_turns(group).get(element)
    if move is None or move == Motion():
        return element
    degrees = f"{float(move.degrees):g}°" if move.degrees or not move.mirror else ""
    if short:
        return f"s {degrees}" if move.mirror else degrees
    words = ", then ".join(filter(None, [degrees, "mirror" if move.mirror else ""]))
    return f"{element} ({words})"


@functools.lru_cache(maxsize=64)
def _moves_of_turns(name: str) -> dict[str, Motion]:
    """Return how each element of C_n or D_n moves the plane, by name; empty for other groups."""
    group = _group_named(name)
    if group is None or turns_of(name) is None:
        return {}
    return dict(zip(group.elements, plane_motions(group), strict=True))
