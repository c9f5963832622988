"""How a group acts on vectors: trivially, by permutations, by matrices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups.by_letters import LayoutAction
from onnx_geed.groups.exactness import IDENTITY_TOLERANCE, Exactness
from onnx_geed.groups.group import Group
from onnx_geed.groups.layout import Layout, parse_layout
from onnx_geed.groups.moving import array_to_move

__all__ = ["Matrices", "Permutation", "Trivial"]

F64 = NDArray[np.float64]


@checked
@dataclass(frozen=True)
class Trivial:
    """The trivial action, gy = y: equivariance under it is invariance.

    Parameters
    ----------
    group : Group
        The acting group.

    Raises
    ------
    GeedError
        If it is no group.
    """

    group: Group
    name: str = "trivial"

    @property
    def layout(self) -> Layout:
        """Vectors."""
        return parse_layout("NK")

    def exact(self) -> tuple[Exactness, ...]:
        """No element moves anything."""
        return (Exactness.INDEX,) * self.group.order

    def kernel_of_action(self) -> tuple[int, ...]:
        """All elements."""
        return tuple(range(self.group.order))

    def apply(self, g: int, y: F64) -> F64:
        """Return ``y`` itself."""
        return array_to_move(self, g, y)


@checked
@dataclass(frozen=True)
class Permutation:
    """A permutation of the entries of a vector: ``out[c] = in[table[g, c]]``.

    Parameters
    ----------
    group : Group
        The acting group.
    table : ndarray of int64, shape (n, k)
        One row per element.
    composes : bool
        Whether the elements compose as in the group's table; those of a fit may not.
    without_row : tuple of int
        Elements without a row in the table; they leave the vector unchanged.
    letters : LayoutAction, optional
        The action on the axis, such as points, to which these entries belong.

    Raises
    ------
    GeedError
        If the table does not have one row per element, each a permutation of 0..k−1.
    """

    group: Group
    table: NDArray[np.int64] = field(repr=False, compare=False)
    name: str = "permutation"
    composes: bool = True
    without_row: tuple[int, ...] = ()
    letters: LayoutAction | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        n, table = self.group.order, self.table
        if table.ndim != 2 or len(table) != n or table.dtype.kind not in "iu":
            raise GeedError(
                f"a permutation for {self.group.name} must be a table of whole numbers of shape "
                f"({n}, k), one row per element; found {table.dtype} {table.shape}"
            )
        if (np.sort(table, axis=1) != np.arange(table.shape[1])).any():
            raise GeedError(
                f"a permutation for {self.group.name}: every row must hold each of 0 to "
                f"{table.shape[1] - 1} once"
            )

    @property
    def layout(self) -> Layout:
        """Vectors."""
        return parse_layout("NK")

    def exact(self) -> tuple[Exactness, ...]:
        """Every element is an index."""
        return (Exactness.INDEX,) * self.group.order

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements whose row leaves every entry in place."""
        here = np.arange(self.table.shape[1])
        return tuple(int(g) for g in np.flatnonzero((self.table == here).all(axis=1)))

    @classmethod
    def of_entries(cls, letters: LayoutAction) -> Permutation:
        """Return the permutation of the entries of an axis, which nothing resamples."""
        return cls(letters.group, letters.moves.permutation.astype(np.int64), letters=letters)

    def onward(self, seed: int, sample: int) -> Permutation:
        """Return how the first entry of a sample's orbit is moved to the others."""
        if self.letters is None:
            return self
        return Permutation.of_entries(self.letters.onward(seed, sample))

    def apply(self, g: int, y: F64) -> F64:
        """Gather the last axis of ``y``."""
        return array_to_move(self, g, y, self.table.shape[1:])[..., self.table[g]]


@checked
@dataclass(frozen=True)
class Matrices:
    """A representation given by matrices: ``out = matrices[g] @ in``.

    Parameters
    ----------
    group : Group
        The acting group.
    matrices : ndarray of float64, shape (n, k, k)
        One matrix per element.
    composes : bool
        Whether the elements compose as in the group's table; those of a fit may not.
    without_row : tuple of int
        Elements without a row in the table; they leave the vector unchanged.

    Raises
    ------
    GeedError
        If there is not one square matrix of finite numbers per element.
    """

    group: Group
    matrices: F64 = field(repr=False, compare=False)
    name: str = "matrices"
    composes: bool = True
    without_row: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n, array = self.group.order, self.matrices
        square = array.ndim == 3 and len(array) == n and array.shape[1] == array.shape[2]
        if not square or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise GeedError(
                f"matrices for {self.group.name} must be finite numbers of shape ({n}, k, k), one "
                f"matrix per element; found {array.dtype} {array.shape}"
            )

    @property
    def layout(self) -> Layout:
        """Vectors."""
        return parse_layout("NK")

    def exact(self) -> tuple[Exactness, ...]:
        """Every element is a matrix."""
        return (Exactness.MATRIX,) * self.group.order

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements whose matrix is the identity within 1e-6."""
        away = np.abs(self.matrices - np.eye(self.matrices.shape[1])).max(axis=(1, 2))
        return tuple(int(g) for g in np.flatnonzero(away <= IDENTITY_TOLERANCE))

    def apply(self, g: int, y: F64) -> F64:
        """Multiply the last axis of ``y``."""
        y = array_to_move(self, g, y, self.matrices.shape[2:])
        moved: F64 = np.einsum("ij,...j->...i", self.matrices[g], y)
        return moved
