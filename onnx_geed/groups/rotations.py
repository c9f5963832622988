"""Orthogonal matrices of the plane and of space, and the finite groups that some of them make."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "haar_rotation",
    "icosahedral_rotations",
    "octahedral_rotations",
    "plane_matrix",
    "rotation_about",
]

F64 = NDArray[np.float64]


def plane_matrix(degrees: Fraction, mirror: str = "") -> F64:
    """Return a motion of the plane as a matrix on vectors (right, down).

    Parameters
    ----------
    degrees : Fraction
        Rotation, counter-clockwise as displayed: 90° carry right to up.
    mirror : {"", "h", "v"}
        Left-right or up-down mirror after it.

    Returns
    -------
    ndarray of float64, shape (2, 2)
    """
    cos, sin = _cos_sin(degrees)
    turned = np.array([[cos, sin], [-sin, cos]])
    if mirror:
        turned[0 if mirror == "h" else 1] *= -1
    return turned


def _cos_sin(degrees: Fraction) -> tuple[float, float]:
    quarters, rest = divmod(degrees, 90)
    # Exact at quarter turns, and the same numbers up to sign a quarter turn on.
    angle = math.radians(float(rest))
    cos, sin = (math.cos(angle), math.sin(angle)) if rest else (1.0, 0.0)
    for _ in range(int(quarters) % 4):
        cos, sin = -sin, cos
    return cos, sin


def rotation_about(axis: str, degrees: Fraction) -> F64:
    """Return a rotation of space on vectors (right, down, forward).

    Parameters
    ----------
    axis : {"x", "y", "z"}
        Right, down or forward. About z it is the plane's, as seen along z; x, y, z go in a circle.
    degrees : Fraction
        The angle.

    Returns
    -------
    ndarray of float64, shape (3, 3)
    """
    first = "xyz".index(axis) + 1
    places = [first % 3, (first + 1) % 3]
    matrix = np.eye(3)
    matrix[np.ix_(places, places)] = plane_matrix(degrees)
    return matrix


def octahedral_rotations(*, full: bool = False) -> list[F64]:
    """Return the 24 rotations of the cube, or with reflections its 48 symmetries.

    The identity comes first.
    """
    every = []
    for places in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), places] = signs
            every.append(matrix)
    return [m for m in every if full or np.linalg.det(m) > 0]


def icosahedral_rotations() -> list[F64]:
    """Return the 60 rotations of the icosahedron whose axes of order 2 are x, y and z.

    The identity comes first; all others are products of three of them.
    """
    golden = (1 + math.sqrt(5)) / 2
    fifth = 0.5 * np.array(
        [[1, -golden, golden - 1], [golden, golden - 1, -1], [golden - 1, 1, golden]]
    )
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = [np.eye(3)]
    for matrix in found:
        for generator in (turn, np.diag([1.0, -1.0, -1.0]), fifth):
            product = generator @ matrix
            if all(np.abs(product - other).max() > 1e-6 for other in found):
                found.append(product)
    return found


def haar_rotation(draw: np.random.Generator) -> F64:
    """Return a rotation of space, all being equally likely: that of a random unit quaternion."""
    w, x, y, z = (q := draw.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
