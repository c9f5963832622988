"""Groups of space: rotations about an axis, symmetries of the cube, and sampled rotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.factors import (
    Factor,
    MixFactor,
    Motion,
    PlaneFactor,
    as_rows,
)
from onnx_geed.groups.group import Group, sampled, with_factors
from onnx_geed.groups.plane_groups import rotation_names, turn
from onnx_geed.groups.rotations import octahedral_rotations, rotation_about
from onnx_geed.groups.sampled import HaarBehind
from onnx_geed.groups.space_factor import SpaceFactor

__all__ = ["about", "octahedral", "space_sampled"]


def _group_of_matrices(
    name: str, elements: Sequence[str], matrices: Sequence[NDArray[np.float64]], *factors: Factor
) -> Group:
    """Return a group of matrices on (right, down, forward), which volumes turn along with."""
    rows = as_rows(matrices)
    factors = factors or (SpaceFactor(rows),)
    group = Group(name, tuple(elements), _products(matrices))
    return with_factors(group, *factors, MixFactor(rows, 3))


def _products(matrices: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Return the multiplication table of a list of matrices."""
    every = np.stack([m.ravel() for m in matrices])
    table = np.empty((len(every),) * 2, dtype=np.int64)
    for a, matrix in enumerate(matrices):
        products = (matrix @ np.stack(matrices)).reshape(len(every), -1)
        away = np.abs(products[:, None] - every).max(axis=2)
        table[a] = away.argmin(axis=1)
    return table


# About an axis of space, what turns like the plane does about the one that points away: the axis
# that is its columns comes first, then its rows.
_PLANES = {"x": ("DH", False), "y": ("DW", True), "z": ("HW", False)}


def about(n: int, axis: str) -> Group:
    """Return the rotations by 360°·k/n about an axis of space: x right, y down, z forward.

    Those about z turn every slice as C<n> does; x, y and z follow each other in a circle.
    """
    plane, swapped = _PLANES[axis]
    moves = tuple(Motion(turn(k, n)) for k in range(n))
    matrices = [rotation_about(axis, move.degrees) for move in moves]
    return _group_of_matrices(
        f"C{n}-{axis}", rotation_names(n), matrices, PlaneFactor(moves, plane, swapped)
    )


def octahedral(*, full: bool) -> Group:
    """Return the rotations of the cube, or all its symmetries, named by where axes go."""
    matrices = octahedral_rotations(full=full)
    names = ("e", *map(_signed_name, matrices[1:]))
    return _group_of_matrices("Oh" if full else "O", names, matrices)


def _signed_name(matrix: NDArray[np.float64]) -> str:
    """Name a signed permutation by what stands right, down and forward after it: ``y-xz``."""
    place = np.abs(matrix).argmax(axis=1)
    signs = ["-" if matrix[i, p] < 0 else "" for i, p in enumerate(place)]
    return "".join(sign + "xyz"[p] for sign, p in zip(signs, place, strict=True))


def space_sampled(name: str, matrices: Sequence[NDArray[np.float64]]) -> Group:
    """Return rotations of space behind a rotation of each sample's own."""
    names = ("e", *(f"g{k}" for k in range(1, len(matrices))))
    group = _group_of_matrices(name, names, matrices)
    return sampled(group, behind=HaarBehind(as_rows(matrices)))
