"""Rotations that a group of the plane consists of, and how its elements are named in words."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from onnx_geed.groups.factors import Motion
from onnx_geed.groups.named import group_named, motions
from onnx_geed.groups.plane_groups import cyclic, dihedral

__all__ = ["Turns", "angle", "turns_of"]


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
    group = group_named(name)
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
    group = group_named(name)
    if group is None or turns_of(name) is None:
        return {}
    return dict(zip(group.elements, motions(group) or (), strict=True))
