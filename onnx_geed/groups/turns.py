"""Rotations that a group of the plane consists of, and how its elements are named in words."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.factors import Factor, MixFactor, Motion, PlaneFactor
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
        Whether to leave the name out.

    Returns
    -------
    str
        Such as ``r1 (45°)``, ``sr1 (45°, then mirror)`` or ``r1*r2 (90°, hue 240°)``, short ``45°``
        ``45° + mirror`` or ``90°, hue 240°``; the bare name where nothing more is known.
    """
    if short:
        move = _moves_of_turns(group).get(element, Motion())
        degrees = _degrees(move)
        if move.mirror:
            return f"{degrees} + mirror" if degrees else "mirror"
        return degrees or _short_words(group).get(element) or element
    words = _words_of_elements(group).get(element)
    return f"{element} ({words})" if words else element


@functools.lru_cache(maxsize=64)
def _moves_of_turns(name: str) -> dict[str, Motion]:
    """Return how each element of C_n or D_n moves the plane, by name; empty for other groups."""
    group = group_named(name)
    if group is None or turns_of(name) is None:
        return {}
    return dict(zip(group.elements, motions(group) or (), strict=True))


@functools.lru_cache(maxsize=64)
def _words_of_elements(name: str) -> dict[str, str]:
    """Return what each element does in words, by name; empty where its name says it."""
    group = group_named(name)
    words = [_words(factor, name) for factor in (group.factors or ())] if group is not None else []
    each = zip(*filter(None, words), strict=True)
    # Of no factor with words, no element has any.
    return dict(zip(group.elements if group else (), map(_joined, each), strict=False))


@functools.lru_cache(maxsize=64)
def _short_words(name: str) -> dict[str, str]:
    """Return what each element does, without its name; empty where two would be called alike."""
    words = {
        e: w.replace(", then mirror", " + mirror") for e, w in _words_of_elements(name).items()
    }
    return words if len(set(words.values())) == len(words) else {}


def _joined(words: tuple[str, ...]) -> str:
    return ", ".join(filter(None, words))


def _words(factor: Factor, group: str) -> list[str]:
    """Return what each element does to axes of one kind; nothing where nothing is to be said."""
    if isinstance(factor, MixFactor) and factor.axes == "C":
        return [_hue(np.array(matrix).reshape(3, 3)) for matrix in factor.matrices]
    if not isinstance(factor, PlaneFactor):
        return []
    turning = turns_of(group) is not None or any(move.degrees for move in factor.motions)
    return [_turn(move) for move in factor.motions] if turning else []


def _turn(move: Motion) -> str:
    return ", then ".join(filter(None, [_degrees(move), "mirror" if move.mirror else ""]))


def _degrees(move: Motion) -> str:
    return f"{float(move.degrees):g}°" if move.degrees else ""


def _hue(matrix: NDArray[np.float64]) -> str:
    """Return by how much colours turn about grey: a third carries red to green."""
    sine = (matrix[1, 0] - matrix[0, 1]) * math.sqrt(3) / 2
    degrees = math.degrees(math.atan2(sine, (np.trace(matrix) - 1) / 2)) % 360
    return f"hue {degrees:.4g}°" if round(degrees, 6) % 360 else ""
