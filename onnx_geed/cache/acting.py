"""The group that a cache was written for, known again by what its result says of it."""

from __future__ import annotations

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Group,
    before_backgrounds,
    family_group,
    on_grid,
    own_members,
    recorded_group,
    with_components,
)
from onnx_geed.results import GroupPart

__all__ = ["acting_group"]


def acting_group(part: GroupPart) -> Group:
    """Return the group that a cache was written for, which is never one's own.

    Parameters
    ----------
    part : dict
        What its result says of it.

    Returns
    -------
    Group

    Raises
    ------
    GeedError
        If its elements were the same for all samples then, and are others for each by now.
        If the group of this name has other elements.
    """
    group = _named(part)
    if list(group.elements) != part["elements"]:
        raise GeedError(
            f"the cache was written for {part['name']} with other elements than this group has: "
            "write it again"
        )
    return group


def _named(part: GroupPart) -> Group:
    if part.get("kind") == "family" and part.get("parameter") == "member":
        # No program of the user's is run for the names of its members.
        return family_group(part["name"], own_members(part["name"], part["elements"][1:]))
    group = with_components(recorded_group(part["name"]), part.get("components", "right-down"))
    if group.onward is not None and "kind" not in part:
        raise GeedError(
            f"the cache was written when {group.name} moved all samples by the same elements, but "
            "each sample now has elements of its own: write it again"
        )
    if "backgrounds" in part:  # nor are their images read
        group = before_backgrounds(group, part["elements"][1:])
    return on_grid(group, "HW", tuple(part["grid"])) if "grid" in part else group
