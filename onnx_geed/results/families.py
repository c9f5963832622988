"""Families: named transformations that form no group, as a result tells of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import angle, recorded_group
from onnx_geed.results.origin import GroupPart

__all__ = [
    "along",
    "element_words",
    "family_range",
    "is_family",
    "is_sampled",
    "order_words",
    "parameter_words",
    "parameters_of",
]

F64 = NDArray[np.float64]


def is_family(group: GroupPart) -> bool:
    """Say whether a result is of a family, whose values are held against f(x) itself.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    bool
    """
    return group.get("kind") == "family"


def is_sampled(group: GroupPart) -> bool:
    """Say whether a result's first element is not the unmoved sample.

    Each sample is first moved by a random element of its own, from which the others go on.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    bool
        False for a group of one's own.
    """
    try:
        return recorded_group(group["name"]).behind is not None
    except GeedError:  # one's own group
        return False


def parameters_of(group: GroupPart) -> F64 | None:
    """Return where the elements of a family stand on the axis of its parameter.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    ndarray of float64, shape (n,), or None
        In the family's unit; NaN for an element without a number, such as an identity of JPEG
        quality. None where fewer than two members have one, or nothing is known of them.
    """
    known = group.get("parameters") or []
    values = np.array([np.nan if v is None else float(v) for v in known])
    if len(values) != len(group["elements"]) or np.isfinite(values[1:]).sum() < 2:
        return None
    return values


def along(group: GroupPart) -> NDArray[np.int64]:
    """Return the elements of a family in the order of its axis, as the range was asked for.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    ndarray of int64, shape (n,)
        The identity in its place among the members where it has a number, else first.
    """
    values = parameters_of(group)
    if values is None or not np.isfinite(values).all():
        return np.arange(len(group["elements"]))
    down = values[-1] < values[1]
    return np.argsort(-values if down else values, kind="stable")


def parameter_words(group: GroupPart, value: float) -> str:
    """Return a value of a family's parameter with its unit, such as ``−15°``, ``0.8`` or ``2 px``.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    value : float
        The value.

    Returns
    -------
    str
    """
    unit = group.get("unit") or ""
    text = f"{value:.4g}".replace("-", "−")
    return f"{text}{unit}" if unit in ("", "°", "%") or unit[0] == "/" else f"{text} {unit}"


def family_range(group: GroupPart) -> str:
    """Return what a family goes over, such as ``angle −15° to 15°``; empty where it has no number.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.

    Returns
    -------
    str
    """
    values = parameters_of(group)
    if values is None:
        return ""
    of_members = values[1:][np.isfinite(values[1:])]
    low, high = (parameter_words(group, float(v)) for v in (of_members[0], of_members[-1]))
    return f"{group.get('parameter', 'parameter')} {low} to {high}"


def order_words(group: GroupPart) -> str:
    """Say how many elements there are: ``8 elements``, ``1 member and the identity``."""
    if is_family(group):
        return f"{(n := group['order'] - 1)} member{'s' * (n != 1)} and the identity"
    return f"{group['order']} element{'s' * (group['order'] != 1)}"


def element_words(group: GroupPart, element: str, *, short: bool = False) -> str:
    """Say what an element does: its name, with its angle or the parameter of a family.

    Parameters
    ----------
    group : dict
        The ``group`` part of a result.
    element : str
        Name of the element.
    short : bool
        Whether to leave the name out where something else tells as much.

    Returns
    -------
    str
        Such as ``r1 (45°)``, ``rotate-15 (angle −15°)``, short ``45°`` or ``−15°``.
    """
    if not is_family(group):
        return angle(group["name"], element, short=short)
    values = group.get("parameters") or []
    at = group["elements"].index(element)
    value = values[at] if at < len(values) else None
    if value is None:
        return element
    words = parameter_words(group, value)
    return words if short else f"{element} ({group.get('parameter', 'parameter')} {words})"
