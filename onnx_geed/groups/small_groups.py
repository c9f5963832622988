"""Groups of small motions: as they are named, on the grid of an input, and from side to side."""

from __future__ import annotations

import copy
from fractions import Fraction

from onnx_geed.errors import GeedError
from onnx_geed.groups.components import with_components
from onnx_geed.groups.group import Group, some_of, with_factors
from onnx_geed.groups.small_motions import SmallKind, SmallMotions

__all__ = ["from_side_to_side", "on_grid", "small_group"]


def small_group(kind: SmallKind, step: Fraction) -> Group:
    """Return the small motions of a kind; what they do is known once they are :func:`on_grid`.

    Raises
    ------
    GeedError
        If the step is none.
    """
    small = SmallMotions(kind, step)
    if step <= 0:
        raise GeedError(f"group {small.name}: a step is more than 0 pixels, such as 1 or 0.5")
    return _moved_by(some_of(small.name, small.elements), small)


def on_grid(
    group: Group, letters: str, lengths: tuple[int, ...], *, of_input: bool = True
) -> Group:
    """Return a group whose small motions are those of an input; any other as it is.

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
        If the grid is too small for the step.
        If a hidden tensor is to be moved by a step that is not yet known.
    """
    small = group.small
    if small is None or small.grid is not None or not {"H", "W"} <= {*letters}:
        return group
    if not of_input:
        raise GeedError(
            f"group {group.name}: a step is some pixels of the input, which then moves other grids "
            "by as much: place it on the input first, with onnx_geed.grid_action"
        )
    height, width = (lengths[letters.index(letter)] for letter in "HW")
    return _moved_by(copy.copy(group), small.on(height, width))


def from_side_to_side(group: Group) -> Group:
    """Return a group of small motions whose elements are g₊g₋⁻¹ and g₋g₊⁻¹, in place of g₊ and g₋.

    Parameters
    ----------
    group : Group
        Small motions of a grid.
    """
    assert group.small is not None
    return _moved_by(copy.copy(group), group.small.across())


def _moved_by(group: Group, small: SmallMotions) -> Group:
    """Enter small motions into a new group, and return it."""
    object.__setattr__(group, "small", small)
    components = group.components
    object.__setattr__(group, "components", "right-down")
    return with_components(with_factors(group, *small.factors), components)
