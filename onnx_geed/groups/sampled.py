"""Sampled groups: by which elements of a group, infinite or huge, each sample is moved.

Evenly spread where a finite group covers the larger one: its elements, behind an element of the
larger one for each sample, multiply as those of the finite group do. Otherwise they are drawn
independently, for each sample anew, and nothing is known of their products.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups.factors import (
    Factor,
    MixFactor,
    Motion,
    PlaneFactor,
    TakeFactor,
    as_rows,
)
from onnx_geed.groups.group import Group, sampled, some_of, with_factors
from onnx_geed.groups.rotations import haar_rotation, plane_matrix
from onnx_geed.groups.space_factor import SpaceFactor

__all__ = ["HaarBehind", "TurnsBehind", "haar_elements", "some_permutations"]

# What is drawn for a sample is asked for by each input and each measure: the last ones are kept.
_KEPT = 8


@dataclass(frozen=True)
class TurnsBehind:
    """Motions of the plane behind a rotation of each sample's own, as one rotation each.

    Parameters
    ----------
    motions : tuple of Motion
        Those of the finite group.
    """

    motions: tuple[Motion, ...] = field(repr=False)

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample; angles are drawn from [0°, 360°)."""
        offset = Fraction(np.random.default_rng((seed, sample)).random() * 360)
        # The sample turns by the offset, then by the element's own angle, then is mirrored.
        moved = tuple(replace(m, degrees=(m.degrees + offset) % 360) for m in self.motions)
        matrices = as_rows([plane_matrix(m.degrees, m.mirror) for m in moved])
        return PlaneFactor(moved), MixFactor(matrices, 2)


@dataclass(frozen=True)
class HaarBehind:
    """Matrices on space behind a rotation of each sample's own, Haar distributed.

    Parameters
    ----------
    matrices : tuple of tuples of float
        Those of the finite group, row by row.
    """

    matrices: tuple[tuple[float, ...], ...] = field(repr=False)

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample."""
        own = haar_rotation(np.random.default_rng((seed, sample)))
        every = np.array(self.matrices).reshape(-1, 3, 3) @ own
        rows = as_rows(list(every))
        return SpaceFactor(rows), MixFactor(rows, 3)


def haar_elements(name: str, k: int, *, reflected: bool) -> Group:
    """Return k rotations of space, drawn independently for each sample.

    Parameters
    ----------
    name : str
        The group's name.
    k : int
        How many.
    reflected : bool
        Whether each is a reflection too, or is not, with equal probability.

    Raises
    ------
    GeedError
        If there are fewer than two.
    """
    if k < 2:
        raise GeedError(
            f"group {name}: one element cannot be compared with anything; take a group such "
            f"as {name[:-1]}24"
        )
    onward = _HaarElements(k, reflected, from_first=True)
    group = some_of(name, ("e", *(f"g{i}" for i in range(1, k))))
    return sampled(
        with_factors(group, *onward(0, 0)),
        behind=_HaarElements(k, reflected, from_first=False),
        onward=onward,
        independent=True,
        half=range(0, k, 2),
    )


@dataclass(frozen=True)
class _HaarElements:
    """Independent elements of SO(3) or O(3), as they are or as from the first one on.

    Parameters
    ----------
    k : int
        How many.
    reflected : bool
        Whether they are of O(3).
    from_first : bool
        Whether the first one is undone before each.
    """

    k: int
    reflected: bool
    from_first: bool

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample."""
        every = _haar_matrices(self.k, self.reflected, seed, sample)
        if self.from_first:
            every = every @ every[0].T
        rows = as_rows(list(every))
        return SpaceFactor(rows), MixFactor(rows, 3)


@functools.lru_cache(maxsize=_KEPT)
def _haar_matrices(k: int, reflected: bool, seed: int, sample: int) -> NDArray[np.float64]:
    draw = np.random.default_rng((seed, sample))
    every = np.stack([haar_rotation(draw) for _ in range(k)])
    return every * draw.choice([-1.0, 1.0], size=(k, 1, 1)) if reflected else every


def some_permutations(n: int, k: int) -> Group:
    """Return k permutations of n points, all different, the identity first; others a sample.

    Raises
    ------
    GeedError
        If n points have fewer.
    """
    name = f"S{n}~{k}"
    if n < 13 and k > math.factorial(n):
        raise GeedError(f"group {name}: {n} points have only {math.factorial(n)} permutations")
    onward = _Permutations(n, k)
    group = some_of(name, ("e", *(f"p{i}" for i in range(1, k))))
    return sampled(with_factors(group, *onward(0, 0)), onward=onward)


@dataclass(frozen=True)
class _Permutations:
    """The identity and other permutations of n points, k in all."""

    n: int
    k: int

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample."""
        return (TakeFactor(_some_rows(self.n, self.k, seed, sample)),)


@functools.lru_cache(maxsize=_KEPT)
def _some_rows(n: int, k: int, seed: int, sample: int) -> tuple[tuple[int, ...], ...]:
    draw, rows = np.random.default_rng((seed, sample)), {tuple(range(n)): None}
    while len(rows) < k:
        rows[tuple(draw.permutation(n).tolist())] = None
    return tuple(rows)
