"""How a group acts on vectors: trivially, by permutations, by matrices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnx_geed.actions import IDENTITY_TOLERANCE
from onnx_geed.groups import Group

__all__ = ["Matrices", "Permutation", "Trivial"]

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Trivial:
    """The trivial action, gy = y: equivariance under it is invariance."""

    group: Group
    name: str = "trivial"

    def exact(self) -> tuple[bool, ...]:
        """All elements."""
        return (True,) * self.group.order

    def kernel(self) -> tuple[int, ...]:
        """All elements."""
        return tuple(range(self.group.order))

    def apply(self, g: int, y: F64) -> F64:
        """Return ``y`` itself."""
        return y


@dataclass(frozen=True)
class Permutation:
    """A permutation of the entries of a vector: ``out[c] = in[table[g, c]]``.

    Parameters
    ----------
    group : Group
        The acting group.
    table : ndarray of int64, shape (n, k)
        One row an element.
    """

    group: Group
    table: NDArray[np.int64] = field(repr=False, compare=False)
    name: str = "permutation"

    def exact(self) -> tuple[bool, ...]:
        """All elements."""
        return (True,) * self.group.order

    def kernel(self) -> tuple[int, ...]:
        """Elements whose row leaves every entry in place."""
        here = np.arange(self.table.shape[1])
        return tuple(int(g) for g in np.flatnonzero((self.table == here).all(axis=1)))

    def apply(self, g: int, y: F64) -> F64:
        """Gather the last axis of ``y``."""
        return y[..., self.table[g]]


@dataclass(frozen=True)
class Matrices:
    """A representation given by matrices: ``out = matrices[g] @ in``.

    Parameters
    ----------
    group : Group
        The acting group.
    matrices : ndarray of float64, shape (n, k, k)
        One matrix an element.
    """

    group: Group
    matrices: F64 = field(repr=False, compare=False)
    name: str = "matrices"

    def exact(self) -> tuple[bool, ...]:
        """All elements."""
        return (True,) * self.group.order

    def kernel(self) -> tuple[int, ...]:
        """Elements whose matrix is the identity within 1e-6."""
        away = np.abs(self.matrices - np.eye(self.matrices.shape[1])).max(axis=(1, 2))
        return tuple(int(g) for g in np.flatnonzero(away <= IDENTITY_TOLERANCE))

    def apply(self, g: int, y: F64) -> F64:
        """Multiply the last axis of ``y``."""
        moved: F64 = np.einsum("ij,...j->...i", self.matrices[g], y)
        return moved
