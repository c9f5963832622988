"""Whether a group moves what it acts on: where it does not, any model scores as equivariant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_geed.actions import IDENTITY_TOLERANCE, GridAction, disk_mask, orbit
from onnx_geed.errors import GeedError
from onnx_geed.groups import Group, motions
from onnx_geed.orbits import Source

__all__ = ["check_moves", "unmoved_notes", "unmoving"]


def check_moves(action: GridAction, *, disk: bool = False) -> None:
    """Refuse a group that does not move what it acts on, as any model would then be equivariant.

    Parameters
    ----------
    action : GridAction
        The input's action.
    disk : bool
        Whether samples are masked to the disk before it.

    Raises
    ------
    GeedError
        If the identity is the group's only element.
        If another element that moves the grid onto itself leaves every sample as it is.
        If the group rotates a grid that is one pixel high or wide.

    Notes
    -----
    Choice: on a line of pixels, a rotation by other than 180° keeps one or two of them and turns
    the rest out, so that it is no rotation of anything. A small rotation that ``nearest`` rounds
    away on a small grid is measured, and named by :func:`unmoved_notes`.
    """
    group, (height, width) = action.group, action.shape
    if group.order == 1:
        raise GeedError(
            f"group {group.name} holds the identity alone, which moves nothing: take one with more "
            "elements, such as C4 or flip-h"
        )
    fixed = action.kernel_inside(disk_mask(height, width)) if disk else action.kernel()
    exact = action.exact()
    idle = [group.elements[g] for g in fixed if g and exact[g]]
    grid = f"a grid of {height}×{width} (height × width)"
    if idle:
        inside = " inside its disk (--support disk)" if disk and len(action.kernel()) == 1 else ""
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        one = len(idle) == 1 and group.order == 2
        raise GeedError(
            f"group {group.name} does not move this input: on {grid}{inside} "
            f"{'its element ' if one else ''}{', '.join(idle[:3])}{more} "
            f"{'leaves' if len(idle) == 1 else 'leave'} every sample as it is, which would score "
            f"as invariance; {_instead(height, width, inside != '')}"
        )
    turned = [g for g, move in enumerate(motions(group) or ()) if move.degrees % 180]
    if turned and min(height, width) == 1:
        raise GeedError(
            f"group {group.name} does not move this input: {grid} has no room for a rotation such "
            f"as {group.elements[turned[0]]}, which would keep a pixel or two of it; "
            f"{_instead(height, width, False)}"
        )


def _instead(height: int, width: int, disk: bool) -> str:
    """Say which groups move every sample on a grid."""
    if disk:
        return "take --support full, or another group"
    if height == width == 1:
        return "samples of one pixel cannot be moved, so give data with a grid"
    if height == 1:
        return "take one that moves along the width alone: flip-h or shift1x<b>"
    if width == 1:
        return "take one that moves along the height alone: flip-v or shift<a>x1"
    return "take a group that does"


def unmoving(
    source: Source, stop: int, *, start: int = 0, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Elements, but the identity, that leave each of some samples as it is.

    Parameters
    ----------
    source : Source
        The samples and the input's action.
    stop : int
        Position after the last sample.
    start : int
        Position of the first.
    among : sequence of int, optional
        Elements that are asked for; all by default.

    Returns
    -------
    tuple of int
        Indices; a sample counts as left as it is where no value changes by more than 1e-6 of the
        sample's largest.

    Raises
    ------
    GeedError
        If a sample cannot be read.

    Notes
    -----
    Reads no more samples than it takes to see each element change one: the first, for most data.
    """
    left = list(range(1, source.action.group.order) if among is None else among)
    for position in range(start, stop):
        if not left:
            break
        x = source.sample(position)
        moved = orbit(source.action, x)
        allowed = IDENTITY_TOLERANCE * float(np.abs(x).max())
        left = [g for g in left if float(np.abs(moved[g] - x).max()) <= allowed]
    return tuple(left)


def unmoved_notes(group: Group, idle: Sequence[int], count: int) -> list[str]:
    """Say which elements leave every sample of D as it is, if any do.

    Parameters
    ----------
    group : Group
        The acting group.
    idle : sequence of int
        Those elements, as :func:`unmoving` finds them.
    count : int
        Size of D.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    if not idle:
        return []
    every = "the only sample" if count == 1 else f"each of the {count} samples"
    if len(idle) == group.order - 1:
        return [
            f"group {group.name} leaves {every} of D as it is: the values say nothing of the "
            "model; give samples that it changes, or take another group"
        ]
    named = ", ".join(group.elements[g] for g in idle[:6])
    more = f" and {len(idle) - 6} more" if len(idle) > 6 else ""
    verb = "leave" if len(idle) > 1 else "leaves"
    return [
        f"{named}{more} of {group.name} {verb} {every} of D as it is: any model is perfect under "
        "such an element, and the values are so much closer to perfect"
    ]
