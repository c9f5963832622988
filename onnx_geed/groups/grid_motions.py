"""Which axes a named group moves, and how: what explains where a network breaks a symmetry."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from onnx_geed.groups.factors import LineFactor, PlaneFactor
from onnx_geed.groups.named import group_named
from onnx_geed.groups.space_factor import SpaceFactor

__all__ = ["MovedAxes", "moved_axes"]


@dataclass(frozen=True)
class MovedAxes:
    """Letters of the axes that a group moves.

    Parameters
    ----------
    letters : str
        All of them.
    turned : str
        Those of grids that it turns or zooms about their centre, mirrors or reverses.
    shifted : str
        Those of grids that it shifts around.
    """

    letters: str = ""
    turned: str = ""
    shifted: str = ""


@functools.lru_cache(maxsize=64)
def moved_axes(name: str) -> MovedAxes:
    """Return which axes a group moves, by the name that a result keeps.

    None where no named group has that name.

    Parameters
    ----------
    name : str
        Name of a group.

    Returns
    -------
    MovedAxes
    """
    group = group_named(name)
    if group is not None and group.small is not None:
        return MovedAxes("HW", turned="" if group.small.kind == "shift" else "HW")
    if group is not None and group.family is not None:
        family = group.family
        turned = "HW" if family.geometric and not family.by_pixels else ""
        return MovedAxes("HW" if family.geometric else "", turned=turned)
    letters = ""
    about: set[str] = set()
    shifted: set[str] = set()
    for factor in (group.factors or ()) if group is not None else ():
        letters += factor.axes
        if isinstance(factor, SpaceFactor):
            about.update(factor.axes)
        if isinstance(factor, LineFactor):
            about.update("T" if any(move.reverse for move in factor.line) else "")
            shifted.update("T" if any(move.shift for move in factor.line) else "")
        if isinstance(factor, PlaneFactor):
            down, right = tuple(factor.axes[::-1] if factor.swapped else factor.axes)
            for move in factor.motions:
                about.update(down + right if move.degrees else "")
                about.update({"h": right, "v": down}.get(move.mirror, ""))
                shifted.update(down if move.shift[0] else "", right if move.shift[1] else "")
    order = "".join(dict.fromkeys(letters))
    return MovedAxes(
        order,
        "".join(letter for letter in order if letter in about),
        "".join(letter for letter in order if letter in shifted),
    )
