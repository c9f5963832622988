"""What people read of the elements of a group and the members of a family: their names and noun."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.groups import turns_of
from onnx_geed.results import (
    GroupPart,
    Reading,
    element_words,
    is_family,
    is_sampled,
    parameters_of,
)

__all__ = [
    "at_elements",
    "averaged_told",
    "element_called",
    "element_noun",
    "element_told",
    "worst_noun",
]


# So many elements of a mean have their names in a sentence.
_NAMED = 4


def element_called(group: GroupPart, g: int) -> str:
    """Return what the page calls an element: short, and the identity by what it does.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    g : int
        Which element.

    Returns
    -------
    str
        Such as ``90°``; ``unmoved`` for an identity. The first element of a sampled group moves
        each sample by a rotation of its own, from which the others go on.
    """
    if g == 0:
        return "random start" if is_sampled(group) else "unmoved"
    return element_words(group, group["elements"][g], short=True)


def element_told(group: GroupPart, g: int) -> str:
    """Return what a sentence calls an element, where no axis or column says what its number is.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    g : int
        Which element.

    Returns
    -------
    str
        Such as ``90°``, ``−15°`` or ``quality 10``.
    """
    called = element_called(group, g)
    bare = g and _is_numbered(group) and not group.get("unit")
    return f"{group.get('parameter', 'parameter')} {called}" if bare else called


def at_elements(group: GroupPart, elements: Sequence[int]) -> str:
    """Name up to two elements; of more, say how many they are, of those but the identity.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    elements : sequence of int
        Which elements.

    Returns
    -------
    str
        Such as ``45° and 315°``, ``quality 10``, ``the unmoved sample`` or ``5 of 7 angles``.
    """
    if len(elements) <= 2:
        return " and ".join(
            element_told(group, g) if g or is_sampled(group) else "the unmoved sample"
            for g in elements
        )
    if 0 in elements:
        return f"{len(elements)} of {group['order']} elements"
    return f"{len(elements)} of {group['order'] - 1} {worst_noun(group)}s"


def averaged_told(group: GroupPart, reading: Reading) -> str:
    """Name the elements over which f̂ is a mean, where these are some and not all.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    reading : Reading
        A reading of its records.

    Returns
    -------
    str
        Such as ``unmoved, hue 120° and hue 240°`` or ``8 elements``; empty where f̂ is f, or the
        mean over all.
    """
    if len(reading.averaged) > _NAMED:
        return f"{len(reading.averaged)} elements"
    at = [group["elements"].index(element) for element in reading.averaged]
    called = [element_called(group, g) for g in at]
    return " and ".join(part for part in (", ".join(called[:-1]), *called[-1:]) if part)


def element_noun(group: GroupPart) -> str:
    """Return the noun for an element on an axis or over a column: what a family goes over.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    str
        Such as ``angle``, ``quality``, ``element`` or ``member``.
    """
    return group.get("parameter", "parameter") if _is_numbered(group) else worst_noun(group)


def _is_numbered(group: GroupPart) -> bool:
    return is_family(group) and parameters_of(group) is not None


def worst_noun(group: GroupPart) -> str:
    """Return the noun for an element in "the worst element": an angle, if all are rotations."""
    turns = turns_of(group["name"])
    if (turns is not None and not turns.mirrored) or group.get("parameter") == "angle":
        return "angle"
    return "member" if is_family(group) else "element"
