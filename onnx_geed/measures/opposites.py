"""What a tensor does between the two ends of a small motion: f(g₊x) against f(g₋x), moved along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Group, LayoutAction, SmallMotions
from onnx_geed.measures.catalogue import CATALOGUE, descriptor_of
from onnx_geed.measures.measure import Measure

__all__ = ["check_goes_with_group", "opposite_deviations", "opposites", "taken_unasked"]

F64 = NDArray[np.float64]


def taken_unasked(group: Group) -> list[str]:
    """Return the measures that are taken under a group where none is asked for."""
    if group.small is not None:
        return [d.name for d in CATALOGUE.values() if d.opposed]
    family = group.family is not None
    return [d.name for d in CATALOGUE.values() if d.default and not (family and d.of_error)]


def check_goes_with_group(measures: Iterable[str], group: Group) -> None:
    """Refuse measures of a group under small motions, the other way round, and under a family.

    Parameters
    ----------
    measures : iterable of str
        Their names.
    group : Group
        The acting group.

    Raises
    ------
    GeedError
        If one is asked for that the group does not go with, saying what goes with what.
    """
    small, family = group.small is not None, group.family is not None
    kind = "family" if family else "group"
    for name in measures:
        if family and descriptor_of(name).of_error:
            raise GeedError(
                f"{name}: needs a mean over a group's elements, and {group.name} is a family, "
                "whose range is arbitrary: take flip-rate, or a group"
            )
        if descriptor_of(name).opposed and not small:
            raise GeedError(
                f"{name}: works with small motions, but {group.name} is a {kind}: take --group "
                "small-rotation, small-shift or small-zoom, or another measure"
            )
        if small and not descriptor_of(name).opposed:
            raise GeedError(
                f"{name}: works with a group such as C4, but {group.name} holds small motions, "
                f"which only {' and '.join(taken_unasked(group))} can measure: take another "
                "group, or that measure"
            )


def opposites(measure: Measure, orbits: F64) -> F64:
    """Return what each element is held against before it is moved: its opposite's tensor.

    Parameters
    ----------
    measure : Measure
        One of small motions.
    orbits : ndarray of float64, shape (N, n, k)
        Whole tensors laid end to end.

    Returns
    -------
    ndarray of float64, shape (N, n, k)
        f(g₋x) in the place of g₊, and f(g₊x) in that of g₋.
    """
    order = list(range(orbits.shape[1]))
    for forwards, backwards in _small(measure).pairs:
        order[forwards], order[backwards] = backwards, forwards
    return np.take(orbits, order, axis=1)


def opposite_deviations(measure: Measure, orbits: F64, references: F64) -> F64:
    """Return ‖f(g₊x) − φ_Y(g₊g₋⁻¹) f(g₋x)‖ / (2·step) of each pair.

    Parameters
    ----------
    measure : Measure
        One of small motions.
    orbits : ndarray of float64, shape (N, n, k)
        f(gx), tensors laid end to end.
    references : ndarray of float64, shape (N, n, k)
        As :func:`opposites` returns them.

    Returns
    -------
    ndarray of float64, shape (N, n)
        By pixel. Both elements of a pair have the pair's; the identity has 0.
    """
    small = _small(measure)
    values = np.zeros(orbits.shape[:2])
    for forwards, backwards in small.pairs:
        values[:, forwards] = _distances(measure, orbits, references, forwards)
        values[:, backwards] = values[:, forwards]
    return values / (2 * float(small.step))


def _distances(measure: Measure, orbits: F64, references: F64, g: int) -> F64:
    across, told = measure.across, np.take(references, g, axis=1)
    if isinstance(across, LayoutAction):
        rows: NDArray[Any] = told.reshape(len(told), -1, across.moves.size)
        told = np.ascontiguousarray(across.apply_to_rows(g, rows).reshape(told.shape))
    out = np.empty(len(orbits))
    measure.descriptor.pairs(np.take(orbits, g, axis=1), told, out)
    return out


def _small(measure: Measure) -> SmallMotions:
    small = measure.action.group.small
    assert small is not None  # no other group goes with such a measure
    return small
