"""Groups of small motions, and families: as they are named, and on the grid of an input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from onnx_geed.errors import GeedError
from onnx_geed.groups.components import with_components
from onnx_geed.groups.families import Family
from onnx_geed.groups.group import Group, some_of, with_factors
from onnx_geed.groups.small_motions import SmallKind, SmallMotions

__all__ = [
    "before_backgrounds",
    "clipping",
    "family_group",
    "from_side_to_side",
    "on_grid",
    "small_group",
    "undoing",
]


def small_group(kind: SmallKind, step: Fraction) -> Group:
    """Return the small motions of a kind; what they do is known once they are :func:`on_grid`.

    Raises
    ------
    GeedError
        If the step is none.
    """
    small = SmallMotions(kind, step)
    if step <= 0:
        raise GeedError(f"group {small.name}: a step must be above 0 pixels, such as 1 or 0.5")
    return _moved_by(some_of(small.name, small.elements), small)


def family_group(name: str, family: Family) -> Group:
    """Return the members of a family, the identity first, as elements of which no product is known.

    Parameters
    ----------
    name : str
        As the user writes it, such as ``zoom:0.8..1.25/9``.
    family : Family
        The family.
    """
    return _of_family(some_of(name, family.elements), family)


def clipping(group: Group) -> Group:
    """Return a family whose changed images are clipped and rounded to 8 bits.

    Raises
    ------
    GeedError
        If the group is no family, or one that moves places.
    """
    if group.family is None or not group.changes_values:
        raise GeedError(
            f"--clip: is for families that change values, such as brightness, and {group.name} is "
            "not one; leave it out"
        )
    return _of_family(group, replace(group.family, clip=True))


def before_backgrounds(group: Group, files: Sequence[str]) -> Group:
    """Return a family of backgrounds with its members named by the files that were drawn.

    Parameters
    ----------
    group : Group
        Such as ``background:FOLDER/8``.
    files : sequence of str
        Their names; what is not ASCII is written as an escape.
    """
    assert group.family is not None
    names = tuple(name.encode("ascii", "backslashreplace").decode() for name in files)
    changed = _of_family(group, replace(group.family, files=names))
    assert changed.family is not None
    object.__setattr__(changed, "elements", changed.family.elements)
    return changed


def undoing(group: Group) -> Group:
    """Return a geometric family whose elements are what undoes those of another."""
    assert group.family is not None
    return _of_family(group, group.family.undoing())


def on_grid(
    group: Group, letters: str, lengths: tuple[int, ...], *, of_input: bool = True
) -> Group:
    """Return small motions, or a family, on the grid of an input; any other group as it is.

    Parameters
    ----------
    group : Group
        The acting group.
    letters : str
        Letters of the input's axes.
    lengths : tuple of int
        Their lengths.
    of_input : bool
        Whether they are those of the input, and not of a hidden tensor.

    Returns
    -------
    Group
        As it is also where it has a grid already, and where the input has none.

    Raises
    ------
    GeedError
        If the grid is too small for the step, or for a shift.
        If a hidden tensor is to be moved by a step that is not yet known.
    """
    small, family = group.small, group.family
    known = small or (family if family is not None and family.by_pixels else None)
    if known is None or known.grid is not None or not {"H", "W"} <= {*letters}:
        return group
    if not of_input:
        raise GeedError(
            f"group {group.name}: its step is given in pixels of the input: make the input's "
            "action first, with onnx_geed.grid_action"
        )
    height, width = (lengths[letters.index(letter)] for letter in "HW")
    if small is not None:
        return _moved_by(copy.copy(group), small.on(height, width))
    assert family is not None
    return _of_family(group, family.on(height, width, group.name))


def from_side_to_side(group: Group) -> Group:
    """Return a group of small motions whose elements are g₊g₋⁻¹ and g₋g₊⁻¹, in place of g₊ and g₋.

    Parameters
    ----------
    group : Group
        Small motions of a grid.
    """
    assert group.small is not None
    return _moved_by(copy.copy(group), group.small.across())


def _of_family(group: Group, family: Family) -> Group:
    """Enter a family into a copy of a group, and return it."""
    changed, components = copy.copy(group), group.components
    object.__setattr__(changed, "family", family)
    object.__setattr__(changed, "components", "right-down")
    return with_components(with_factors(changed, *family.factors), components)


def _moved_by(group: Group, small: SmallMotions) -> Group:
    """Enter small motions into a new group, and return it."""
    object.__setattr__(group, "small", small)
    components = group.components
    object.__setattr__(group, "components", "right-down")
    return with_components(with_factors(group, *small.factors), components)
