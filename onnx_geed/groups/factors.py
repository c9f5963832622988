"""Factors of an action: what the elements of a group do to axes of one kind.

A tensor's action is a product of factors, one for each kind of axis that the group moves. Four
primitives make them all: take (a table of indices), turn (a grid onto itself), mix (a matrix on an
axis), warp (a grid resampled about its centre).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups.exactness import Exactness
from onnx_geed.groups.grid_tables import Interpolation, rotation_table
from onnx_geed.groups.moves import Moves, still_moves
from onnx_geed.text import counted

__all__ = [
    "Factor",
    "LineFactor",
    "LineMove",
    "MixFactor",
    "Motion",
    "PlaneFactor",
    "TakeFactor",
    "as_rows",
    "empty_tables",
    "signed_permutation",
]

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How an element moves the plane: it rotates, then mirrors, then shifts it.

    Parameters
    ----------
    degrees : Fraction
        Rotation angle in degrees, counter-clockwise as displayed, 0 ≤ degrees < 360.
    mirror : {"", "h", "v"}
        Left-right or up-down mirror after the rotation.
    shift : tuple of two Fraction
        Shift down and right, in fractions of height and width.
    """

    degrees: Fraction = Fraction(0)
    mirror: str = ""
    shift: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


@dataclass(frozen=True)
class LineMove:
    """How an element moves a line: it reverses, then shifts it.

    Parameters
    ----------
    reverse : bool
        Whether the end comes first.
    shift : Fraction
        Cyclic shift towards the end, in fractions of the length.
    """

    reverse: bool = False
    shift: Fraction = Fraction(0)


class Factor:
    """What the elements of a group do to axes of one kind; the first field has one entry each.

    Attributes
    ----------
    axes : str
        Letters of the axes, in the order in which entries are numbered.
    """

    axes: str

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(getattr(self, _each(self)))

    def of(self, elements: Sequence[int]) -> Self:
        """Return the same for a list of elements, by their numbers here."""
        each = getattr(self, _each(self))
        chosen = {_each(self): tuple(each[g] for g in elements)}
        taken: Self = replace(cast("Any", self), **chosen)
        return taken

    def inverse(self) -> Self:
        """Return the same of what undoes each element."""
        raise NotImplementedError

    def misfit(self, lengths: tuple[int, ...]) -> str:
        """Say why axes of these lengths are not moved, for a message; empty where they are."""
        return ""

    def crosses(self, letter: str) -> bool:
        """Whether an element surely maps one of several axes to another one."""
        return False

    def along(self, letter: str) -> LineFactor | None:
        """Return what is done to one of several axes; ``None`` where that has no move of its own.

        Parameters
        ----------
        letter : str
            The axis, the others being summed up or taken out.
        """
        return None

    def resampled(self, lengths: tuple[int, ...]) -> int:
        """Return of how many bases :meth:`moves` makes tables, for axes of these lengths."""
        return 0

    def taps(self, interpolation: Interpolation) -> int:
        """Return how many entries each entry of a base is made of, at most."""
        along: int = {"nearest": 1, "bilinear": 2, "bicubic": 4}[interpolation]
        return int(along ** len(self.axes))

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on axes of these lengths; ``group`` is for messages."""
        raise NotImplementedError


def _each(factor: Factor) -> str:
    """Return the name of the field that has an entry for each element."""
    return fields(cast("Any", factor))[0].name


@dataclass(frozen=True)
class PlaneFactor(Factor):
    """Motions of a plane.

    Parameters
    ----------
    motions : tuple of Motion
        One an element.
    axes : str
        The plane's two axes as entries are numbered, such as ``HW``.
    swapped : bool
        Whether the second one is that which runs down in the motions' eyes.
    """

    motions: tuple[Motion, ...]
    axes: str = "HW"
    swapped: bool = False

    def inverse(self) -> PlaneFactor:
        """Return the same of what undoes each element."""
        return replace(self, motions=tuple(map(_undone, self.motions)))

    def crosses(self, letter: str) -> bool:
        """Whether an element rotates, by other than half a turn."""
        return any(motion.degrees % 180 for motion in self.motions)

    def along(self, letter: str) -> LineFactor | None:
        """Return the reversals and shifts of rows or columns."""
        if self.crosses(letter):
            return None
        down = letter == self.axes[self.swapped]
        moves = (
            LineMove((m.degrees == 180) != (m.mirror == "hv"[down]), m.shift[not down])
            for m in self.motions
        )
        return LineFactor(tuple(moves), letter)

    def resampled(self, lengths: tuple[int, ...]) -> int:
        """Return the number of angles that are no quarter turns."""
        rests = {_quarters_and_rest(motion, *lengths)[1] for motion in self.motions}
        return len(rests - {Fraction(0)})

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on a plane.

        Raises
        ------
        GeedError
            If a shift is no whole number of pixels.

        Notes
        -----
        Choice: on a square grid the rotation by θ ≥ 90° is the quarter turn of the rotation by θ
        mod 90°.
        """
        height, width = lengths[::-1] if self.swapped else lengths
        taps = self.taps(interpolation)
        moves = _plane_moves(group, self.motions, height, width, interpolation, taps)
        return _transposed(moves, height, width) if self.swapped else moves


def _undone(move: Motion) -> Motion:
    """Return what undoes a motion: a rotation and a mirror undo themselves."""
    down, right = move.shift
    if move.mirror:
        assert not any(move.shift), "no group mirrors and shifts"
        return move
    assert not (move.degrees and any(move.shift)), "no group rotates and shifts"
    return replace(move, degrees=-move.degrees % 360, shift=(-down % 1, -right % 1))


def _quarters_and_rest(move: Motion, height: int, width: int) -> tuple[int, Fraction]:
    """Return the quarter turns of a rotation that are exact, and the angle that is left."""
    quarters, rest = divmod(move.degrees, 90)
    if height != width and not (rest == 0 and quarters % 2 == 0):
        return 0, move.degrees
    return int(quarters), rest


def _plane_moves(
    group: str,
    motions: tuple[Motion, ...],
    height: int,
    width: int,
    interpolation: Interpolation,
    taps: int,
) -> Moves:
    area = height * width
    numbers = np.arange(area, dtype=np.int32).reshape(height, width)
    angles: dict[Fraction, int] = {}
    base_of, permutation = [], np.empty((len(motions), area), dtype=np.int32)
    for g, move in enumerate(motions):
        quarters, rest = _quarters_and_rest(move, height, width)
        turned = np.rot90(numbers, quarters)
        if move.mirror:
            turned = turned[:, ::-1] if move.mirror == "h" else turned[::-1]
        down, right = _whole_shift(group, move, height, width)
        turned = np.roll(turned, (down, right), axis=(0, 1))
        base_of.append(angles.setdefault(rest, len(angles) + 1) if rest else 0)
        permutation[g] = turned.ravel()
    index, weight = empty_tables(len(angles), area, taps)
    for b, angle in enumerate(angles):
        index[b], weight[b] = rotation_table(height, width, float(angle), interpolation)
    return Moves(
        *(index, weight, np.array(base_of, dtype=np.int32), permutation),
        tuple(Exactness.RESAMPLED if base else Exactness.INDEX for base in base_of),
    )


def _whole_shift(group: str, move: Motion, height: int, width: int) -> tuple[int, int]:
    down, right = move.shift[0] * height, move.shift[1] * width
    if down.denominator != 1 or right.denominator != 1:
        raise GeedError(
            f"group {group} does not divide a grid of {height}×{width}: take a shift group "
            "whose numbers divide height and width"
        )
    return int(down), int(right)


def _transposed(moves: Moves, height: int, width: int) -> Moves:
    """Return the tables of a plane whose entries are numbered column by column."""
    order = np.arange(height * width, dtype=np.int32).reshape(height, width).T.ravel()
    place = np.argsort(order).astype(np.int32)
    return Moves(
        place[moves.index[:, order]],
        moves.weight[:, order],
        moves.base_of,
        place[moves.permutation[:, order]],
        moves.exact,
    )


def empty_tables(bases: int, size: int, taps: int) -> tuple[NDArray[np.int32], F64]:
    """Return tables of entries and of weights to be filled, (bases, entries, taps)."""
    return np.empty((bases, size, taps), dtype=np.int32), np.empty((bases, size, taps))


@dataclass(frozen=True)
class LineFactor(Factor):
    """Reversals and cyclic shifts of a line.

    Parameters
    ----------
    line : tuple of LineMove
        One an element.
    """

    line: tuple[LineMove, ...]
    axes: str = "T"

    @property
    def moves_any(self) -> bool:
        """Whether an element moves an entry of a line that is long enough."""
        return any(move != LineMove() for move in self.line)

    def inverse(self) -> LineFactor:
        """Return the same of what undoes each element; a reversal and a shift undo themselves."""
        undone = (m if m.reverse else replace(m, shift=-m.shift % 1) for m in self.line)
        return replace(self, line=tuple(undone))

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on a line.

        Raises
        ------
        GeedError
            If a shift is no whole number of places.
        """
        (length,) = lengths
        rows = []
        for move in self.line:
            places = move.shift * length
            if places.denominator != 1:
                raise GeedError(
                    f"group {group} does not divide a line of {length}: take a shift group whose "
                    "number divides its length"
                )
            row = np.arange(length, dtype=np.int32)
            rows.append(np.roll(row[::-1] if move.reverse else row, int(places)))
        return _gathered(np.array(rows, dtype=np.int32))


@dataclass(frozen=True)
class TakeFactor(Factor):
    """Permutations of an axis: ``out[i] = in[table[g, i]]``.

    Parameters
    ----------
    table : tuple of tuples of int
        One row per element.
    axes : str
        The axis' letter.
    """

    table: tuple[tuple[int, ...], ...] = field(repr=False)
    axes: str = "P"

    def inverse(self) -> TakeFactor:
        """Return the same of what undoes each element."""
        return replace(self, table=tuple(tuple(np.argsort(row).tolist()) for row in self.table))

    def misfit(self, lengths: tuple[int, ...]) -> str:
        """Say so where an axis has not as many entries as are permuted."""
        here = len(self.table[0])
        if lengths[0] == here:
            return ""
        return f"{self.axes} has {counted(lengths[0], 'entry', 'entries')}, but {here} are permuted"

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on an axis of the right length."""
        return _gathered(np.array(self.table, dtype=np.int32))


def _gathered(rows: NDArray[np.int32]) -> Moves:
    """Return moves that only gather."""
    still = still_moves(len(rows), rows.shape[1])
    return Moves(still.index, still.weight, still.base_of, rows, still.exact)


@dataclass(frozen=True)
class MixFactor(Factor):
    """Matrices on an axis: components of vectors that turn along, or colours.

    Parameters
    ----------
    matrices : tuple of tuples of float
        One k×k matrix an element, row by row: ``out = matrix @ in``.
    size : int
        k.
    axes : str
        The axis' letter.
    """

    matrices: tuple[tuple[float, ...], ...] = field(repr=False)
    size: int
    axes: str = "X"

    def inverse(self) -> MixFactor:
        """Return the same of what undoes each element: the matrices are orthogonal."""
        return replace(self, matrices=as_rows(list(self._every.transpose(0, 2, 1))))

    def resampled(self, lengths: tuple[int, ...]) -> int:
        """Return the number of matrices that do more than to permute."""
        return len(self._mixing)

    def taps(self, interpolation: Interpolation) -> int:
        """Return the entries of a row; of a signed permutation one, so that it touches no other."""
        single = all(signed_permutation(matrix) is not None for matrix in self._mixing)
        return 1 if single else self.size

    @property
    def _every(self) -> F64:
        return np.array(self.matrices, dtype=np.float64).reshape(-1, self.size, self.size)

    @property
    def _mixing(self) -> list[F64]:
        """Matrices that change values, be it their signs alone."""
        return [m for m in self._every if signed_permutation(m) is None or (m < 0).any()]

    def misfit(self, lengths: tuple[int, ...]) -> str:
        """Say so where an axis has not as many entries as the matrices."""
        if lengths[0] == self.size:
            return ""
        return (
            f"{self.axes} has {counted(lengths[0], 'entry', 'entries')}, but vectors of "
            f"{self.size} are turned"
        )

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on an axis of k entries."""
        k, bases = self.size, 0
        base_of, rows, exact = [], [], []
        for matrix in self._every:
            place = signed_permutation(matrix)
            exact.append(Exactness.MATRIX if place is None else Exactness.INDEX)
            if place is not None and (matrix >= 0).all():
                base_of.append(0)
                rows.append(place)
                continue
            bases += 1
            base_of.append(bases)
            rows.append(np.arange(k))
        taps = self.taps(interpolation)
        index = np.zeros((bases, k, taps), dtype=np.int32)
        weight = np.zeros(index.shape)
        for b, matrix in enumerate(self._mixing):
            place = signed_permutation(matrix)
            if place is not None:
                index[b, :, 0], weight[b, :, 0] = place, matrix[np.arange(k), place]
            else:
                index[b], weight[b] = np.arange(k), matrix
        return Moves(
            index,
            weight,
            np.array(base_of, dtype=np.int32),
            np.array(rows, dtype=np.int32),
            tuple(exact),
        )


def signed_permutation(matrix: F64) -> NDArray[np.int64] | None:
    """Return which entry each row of a signed permutation takes; ``None`` for other matrices."""
    size = np.abs(matrix)
    place: NDArray[np.int64] = size.argmax(axis=1)
    unit = np.zeros_like(size)
    unit[np.arange(len(matrix)), place] = 1.0
    is_one = np.array_equal(size, unit) and len(set(place.tolist())) == len(matrix)
    return place if is_one else None


def as_rows(matrices: Sequence[F64]) -> tuple[tuple[float, ...], ...]:
    """Return matrices as factors keep them, entries next to −1, 0 and 1 being these."""
    rounded = []
    for matrix in matrices:
        near = np.round(matrix)
        exact = np.where(np.abs(matrix - near) < 1e-12, near, matrix) + 0.0
        rounded.append(tuple(float(entry) for entry in exact.ravel()))
    return tuple(rounded)
