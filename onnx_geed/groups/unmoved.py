"""Groups that do not move what they act on, under which any model scores as equivariant."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.errors import GeedError
from onnx_geed.groups.grid import GridAction
from onnx_geed.groups.named import motions
from onnx_geed.groups.placed_action import PlacedAction
from onnx_geed.groups.support import disk_mask

__all__ = ["check_moves"]


def check_moves(action: GridAction | PlacedAction, *, disk: bool = False) -> None:
    """Refuse a group that does not move what it acts on, as any model would then be equivariant.

    Parameters
    ----------
    action : GridAction or PlacedAction
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
    away on a small grid is measured, and named in a note of the run.
    """
    group, (height, width) = action.group, action.shape[-2:]
    if group.order == 1:
        raise GeedError(
            f"group {group.name} holds the identity alone, which moves nothing: take one with more "
            "elements, such as C4 or flip-h"
        )
    if isinstance(action, PlacedAction):
        _check_own_moves(action)
        return
    fixed = action.kernel_of_action(disk_mask(height, width) if disk else None)
    idle = _exact_at_rest(action, fixed)
    grid = f"a grid of {height}×{width} (height × width)"
    if idle:
        hidden = disk and len(action.kernel_of_action()) == 1
        inside = " inside its disk (--support disk)" if hidden else ""
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        one = len(idle) == 1 and group.order == 2
        raise GeedError(
            f"group {group.name} does not move this input: on {grid}{inside} "
            f"{'its element ' if one else ''}{', '.join(idle[:3])}{more} "
            f"{'leaves' if len(idle) == 1 else 'leave'} every sample as it is, which would score "
            f"as invariance; {_instead(height, width, hidden)}"
        )
    turned = [g for g, move in enumerate(motions(group) or ()) if move.degrees % 180]
    if turned and min(height, width) == 1:
        raise GeedError(
            f"group {group.name} does not move this input: {grid} has no room for a rotation such "
            f"as {group.elements[turned[0]]}, which would keep a pixel or two of it; "
            f"{_instead(height, width, False)}"
        )


def _exact_at_rest(action: GridAction | PlacedAction, fixed: Sequence[int]) -> list[str]:
    """Name the elements of a kernel of the action, but the identity, that act exactly."""
    exact = action.exact()
    return [action.group.elements[g] for g in fixed if g and exact[g]]


def _check_own_moves(action: PlacedAction) -> None:
    idle = _exact_at_rest(action, action.kernel_of_action())
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise GeedError(
            f"action {action.name!r} does not move this input: {', '.join(idle[:3])}{more} "
            f"{'leaves' if len(idle) == 1 else 'leave'} every sample as it is, which would score "
            "as invariance; take a group without such elements"
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
