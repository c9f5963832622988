"""Groups that do not move what they act on, under which any model scores as equivariant."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.errors import GeedError
from onnx_geed.groups.by_letters import LayoutAction
from onnx_geed.groups.factors import MixFactor, TakeFactor
from onnx_geed.groups.group import Group
from onnx_geed.groups.named import factors_of, motions
from onnx_geed.groups.placed_action import PlacedAction
from onnx_geed.groups.support import disk_mask

__all__ = ["check_bases", "check_moves"]


def check_moves(
    action: LayoutAction | PlacedAction,
    *,
    disk: bool = False,
    beside: Sequence[LayoutAction] = (),
) -> None:
    """Refuse a group that does not move what it acts on, as any model would then be equivariant.

    Parameters
    ----------
    action : LayoutAction or PlacedAction
        The input's action.
    disk : bool
        Whether samples are masked to the disk before it.
    beside : sequence of LayoutAction
        Those of other inputs, which each element may move in its stead.

    Raises
    ------
    GeedError
        If the identity is the group's only element.
        If another element that moves the grid onto itself leaves every sample as it is.
        If the group rotates a grid that is one pixel high or wide.
        If a family changes the values of images, and the input holds none.

    Notes
    -----
    Choice: on a line of pixels, a rotation by other than 180° keeps one or two of them and turns
    the rest out, so that it is no rotation of anything. A small rotation that ``nearest`` rounds
    away on a small grid is measured, and named in a note of the run.
    """
    group = action.group
    if group.order == 1:
        raise GeedError(
            f"group {group.name} holds only the identity, which moves nothing: take one with more "
            "elements, such as C4 or flip-h"
        )
    if isinstance(action, PlacedAction):
        _check_own_moves(action)
        return
    if group.changes_values:
        _check_changes(action)
        return
    every = [own for own in (action, *beside) if own.moved]
    if not every:
        raise GeedError(
            f"group {group.name} does not move this input: it moves {_what_moves(group)}, but the "
            f"input has {_lengths(action)}; take another group, or say what the axes are with "
            "--input-layout"
        )
    action, *others = every
    idle = _exact_at_rest(action, _at_rest(every, disk=disk))
    and_on = "".join(f" and {_lengths(own)}" for own in others)
    if action.moved != "HW":
        _check_idle(action, idle, f"{_lengths(action)}{and_on}")
        return
    height, width = action.shape
    plane = f"a grid of {height}×{width} (height × width)"
    hidden = disk and bool(idle) and len(_at_rest(every)) == 1
    within = " inside its disk (--support disk)" if hidden else ""
    _check_idle(action, idle, f"{plane}{within}{and_on}", _instead(height, width, hidden))
    turned = [g for g, move in enumerate(motions(group) or ()) if move.degrees % 180]
    if group.family is not None and group.family.name == "rotate":
        turned = list(range(1, group.order))
    if turned and min(height, width) == 1:
        raise GeedError(
            f"group {group.name} does not move this input: {plane} has no room for a rotation such "
            f"as {group.elements[turned[0]]}, which would keep a pixel or two of it; "
            f"{_instead(height, width, False)}"
        )


def _at_rest(actions: Sequence[LayoutAction], *, disk: bool = False) -> tuple[int, ...]:
    """Return the elements that move none of some inputs, masked to the disk or not."""
    still = tuple(range(actions[0].group.order))
    for own in actions:
        if len(still) > 1:  # else the identity, which moves none
            inside = disk_mask(*own.shape) if disk and own.moved == "HW" else None
            kernel = own.kernel_of_action(inside)
            still = tuple(g for g in still if g in kernel)
    return still


def check_bases(group: Group, actions: Sequence[LayoutAction | PlacedAction]) -> None:
    """Refuse to reverse a strand whose bases no layout names, as they would not be complemented.

    Parameters
    ----------
    group : Group
        The acting group.
    actions : sequence of LayoutAction or PlacedAction
        Those of all inputs that it moves.

    Raises
    ------
    GeedError
        If the group complements bases, and no input has an axis of them.
    """
    by_letters = [action for action in actions if isinstance(action, LayoutAction)]
    if len(by_letters) < len(actions) or any("B" in action.moved for action in by_letters):
        return
    if any(factor.axes == "B" for factor in factors_of(group)):
        raise GeedError(
            f"group {group.name} reverses T and complements B (A, C, G, T) together, but the "
            f"input has {_lengths(by_letters[0])}: name the axis of bases with --input-layout, "
            "such as NTB or NBT (token ids have none), or take a group that acts only on T, such "
            "as reverse"
        )


def _lengths(action: LayoutAction) -> str:
    """Say what the axes of an input are, such as ``P 20, X 3``."""
    pairs = zip(action.layout.kept, action.lengths, strict=True)
    return ", ".join(f"{letter} {length}" for letter, length in pairs)


def _check_idle(
    action: LayoutAction,
    idle: Sequence[str],
    where: str,
    cure: str = "take a group that does",
) -> None:
    """Refuse an action some of whose elements, by name, leave every sample as it is."""
    if not idle:
        return
    more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
    one = len(idle) == 1 and action.group.order == 2
    raise GeedError(
        f"group {action.group.name} does not move this input: on {where} "
        f"{'its element ' if one else ''}{', '.join(idle[:3])}{more} "
        f"{'leaves' if len(idle) == 1 else 'leave'} every sample unchanged, which would score as "
        f"invariance; {cure}"
    )


def _exact_at_rest(action: LayoutAction | PlacedAction, fixed: Sequence[int]) -> list[str]:
    """Name the elements of a kernel of the action, but the identity, that act exactly."""
    exact = action.exact()
    return [action.group.elements[g] for g in fixed if g and exact[g]]


def _check_own_moves(action: PlacedAction) -> None:
    idle = _exact_at_rest(action, action.kernel_of_action())
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise GeedError(
            f"action {action.name!r} does not move this input: {', '.join(idle[:3])}{more} "
            f"{'leaves' if len(idle) == 1 else 'leave'} every sample unchanged, which would score "
            "as invariance; take a group without such elements"
        )


def _check_changes(action: LayoutAction) -> None:
    """Refuse a family that changes the values of images, where the input holds none."""
    group, letters = action.group, action.layout.kept
    assert group.family is not None
    if group.family.own is not None:
        return
    channels = 1 if letters == "HW" else action.lengths[0]
    if letters not in ("HW", "CHW") or channels not in (1, 3):
        raise GeedError(
            f"group {group.name} changes images, which are grey or RGB, but the input has "
            f"{_lengths(action)}; take another group, or say what the axes are with --input-layout"
        )


def _instead(height: int, width: int, disk: bool) -> str:
    """Say which groups move every sample on a grid."""
    if disk:
        return "use --support full, or another group"
    if height == width == 1:
        return "samples of one pixel cannot be moved, so give data with a grid"
    if height == 1:
        return "take one that moves only along the width: flip-h or shift1x<b>"
    if width == 1:
        return "take one that moves only along the height: flip-v or shift<a>x1"
    return "take a group that does"


def _what_moves(group: Group) -> str:
    """Say which axes a group moves, for a message."""
    if group.small is not None or (group.family is not None and group.family.geometric):
        return "HW"
    sizes = {
        factor.axes: f" of {len(factor.table[0])}"
        if isinstance(factor, TakeFactor)
        else f" of {factor.size}"
        if isinstance(factor, MixFactor)
        else ""
        for factor in factors_of(group)
    }
    return ", ".join(f"{axes}{size}" for axes, size in sizes.items())
