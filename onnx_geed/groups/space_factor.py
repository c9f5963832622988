"""Rotations and reflections of a volume about its centre: turns of the grid, and what is left."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.exactness import Exactness
from onnx_geed.groups.factors import Factor, LineFactor, LineMove, as_rows, empty_tables
from onnx_geed.groups.grid_tables import Interpolation, warp_table
from onnx_geed.groups.moves import Moves
from onnx_geed.groups.rotations import octahedral_rotations

__all__ = ["SpaceFactor"]

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class SpaceFactor(Factor):
    """Rotations and reflections of a volume about its centre.

    Parameters
    ----------
    matrices : tuple of tuples of float
        One orthogonal 3×3 matrix an element, row by row, on (right, down, forward).
    """

    matrices: tuple[tuple[float, ...], ...] = field(repr=False)
    axes: str = "DHW"

    def inverse(self) -> SpaceFactor:
        """Return the same of what undoes each element: the matrices are orthogonal."""
        every = np.array(self.matrices).reshape(-1, 3, 3)
        return replace(self, matrices=as_rows(list(every.transpose(0, 2, 1))))

    def crosses(self, letter: str) -> bool:
        """Whether a matrix maps an axis to another one."""
        own = self.axes[::-1].index(letter)
        return any(abs(matrix[3 * own + own]) != 1.0 for matrix in self.matrices)

    def along(self, letter: str) -> LineFactor | None:
        """Return the reversals of an axis."""
        if self.crosses(letter):
            return None
        own = self.axes[::-1].index(letter)
        moves = (LineMove(reverse=matrix[3 * own + own] < 0) for matrix in self.matrices)
        return LineFactor(tuple(moves), letter)

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on a volume.

        Notes
        -----
        A matrix that maps the grid onto itself is a turn. Of others, those that differ by a turn
        share what is resampled.
        """
        return _space_moves(self.matrices, lengths, interpolation, self.taps(interpolation))

    def resampled(self, lengths: tuple[int, ...]) -> int:
        """Return the number of matrices that no turns make of each other."""
        return len(_shared(self.matrices, lengths)[0])


def _space_moves(
    matrices: tuple[tuple[float, ...], ...],
    lengths: tuple[int, ...],
    interpolation: Interpolation,
    taps: int,
) -> Moves:
    size = int(np.prod(lengths))
    bases, parts = _shared(matrices, lengths)
    permutation = np.empty((len(parts), size), dtype=np.int32)
    for g, (turn, _) in enumerate(parts):
        permutation[g] = _turned(turn, lengths)
    index, weight = empty_tables(len(bases), size, taps)
    for b, base in enumerate(bases):
        index[b], weight[b] = warp_table(lengths, _image_of(base).T, interpolation)
    return Moves(
        *(index, weight, np.array([base for _, base in parts], dtype=np.int32), permutation),
        tuple(Exactness.RESAMPLED if base else Exactness.INDEX for _, base in parts),
    )


@functools.lru_cache(maxsize=64)
def _shared(
    matrices: tuple[tuple[float, ...], ...], lengths: tuple[int, ...]
) -> tuple[list[F64], list[tuple[F64, int]]]:
    """Return what is resampled, and of each matrix the turn of a grid and the base (0: none)."""
    every = np.array(matrices, dtype=np.float64).reshape(-1, 3, 3)
    turns = [t for t in octahedral_rotations(full=True) if _keeps_lengths(t, lengths)]
    bases: list[F64] = []
    parts = []
    for matrix in every:
        # The first turn of which the rest is known already, or the one that leaves the least.
        rests = [turn.T @ matrix for turn in turns]
        known = next(
            (
                (t, b)
                for t, rest in enumerate(rests)
                for b, base in enumerate([np.eye(3), *bases])
                if np.abs(rest - base).max() < 1e-9
            ),
            None,
        )
        if known is None:
            least = int(np.argmax([round(float(np.trace(rest)), 9) for rest in rests]))
            bases.append(rests[least])
            known = least, len(bases)
        parts.append((turns[known[0]], known[1]))
    return bases, parts


def _keeps_lengths(matrix: F64, lengths: tuple[int, ...]) -> bool:
    """Whether a signed permutation of (right, down, forward) maps a grid (D, H, W) onto itself."""
    by_component = np.array(lengths[::-1])
    return bool((np.abs(matrix) @ by_component == by_component).all())


def _image_of(matrix: F64) -> F64:
    """Return a matrix on (right, down, forward) as one on the axes (D, H, W)."""
    return matrix[::-1, ::-1]


def _turned(matrix: F64, lengths: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the entries that a grid's are gathered from under a signed permutation, flat."""
    # Entry p of the new grid comes from M⁻¹p: each old axis runs along one new one, or against it.
    inverse = _image_of(matrix).T
    numbers = np.arange(int(np.prod(lengths)), dtype=np.int32).reshape(lengths)
    along = np.abs(inverse).argmax(axis=1)
    moved = numbers.transpose(np.argsort(along))
    for axis in range(3):
        if inverse[axis, along[axis]] < 0:
            moved = np.flip(moved, int(along[axis]))
    return np.ascontiguousarray(moved).ravel()
