"""Tables of moves: which entries, with which weights, each entry of a moved array is made of."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.exactness import IDENTITY_TOLERANCE, Exactness

__all__ = ["Moves", "product_of_moves", "still_moves"]

F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


# Entries of an array that are resampled together.
_PART = 1 << 18


@dataclass(frozen=True, eq=False)
class Moves:
    """What each element of a group does to some axes, laid end to end as F entries.

    Element g first takes base ``base_of[g]``, a weighted sum of a few entries each (0: the array as
    it is), then gathers by ``permutation[g]``. Elements that differ by an exact move share a base.

    Parameters
    ----------
    index : ndarray of int32, shape (B, F, T)
        Entries that entry p of base b + 1 is made of.
    weight : ndarray of float64, shape (B, F, T)
        Their weights; 0 outside a grid.
    base_of : ndarray of int32, shape (n,)
        Base of each element; 0 is the array as it is.
    permutation : ndarray of int32, shape (n, F)
        ``out[p] = base[permutation[g, p]]``.
    exact : tuple of Exactness
        How each element acts.
    """

    index: I32 = field(repr=False)
    weight: F64 = field(repr=False)
    base_of: I32 = field(repr=False)
    permutation: I32 = field(repr=False)
    exact: tuple[Exactness, ...]

    @property
    def size(self) -> int:
        """F, the number of entries."""
        return int(self.permutation.shape[1])

    @property
    def bytes(self) -> int:
        """What the tables take in memory, those of :attr:`rows` aside."""
        return self.index.nbytes + self.weight.nbytes + self.permutation.nbytes

    def apply(self, g: int, flat: NDArray[Any]) -> NDArray[Any]:
        """Move ``flat`` (..., F) by element ``g``."""
        taken, base = self.permutation[g], int(self.base_of[g])
        if not base:
            return flat[..., taken]
        index, weight = self.index[base - 1], self.weight[base - 1]
        moved = np.empty(flat.shape, dtype=np.result_type(flat, weight))
        # In parts, since products and their sum take several times what they come to.
        for start in range(0, self.size, _PART):
            entries = taken[start : start + _PART]
            moved[..., start : start + _PART] = sum(
                weight[entries, t] * flat[..., index[entries, t]] for t in range(weight.shape[1])
            )
        return moved

    def is_identity(self, g: int, inside: NDArray[np.bool_] | None = None) -> bool:
        """Whether element ``g`` leaves every array as it is, within 1e-6.

        Parameters
        ----------
        g : int
            The element.
        inside : ndarray of bool, shape (F,), optional
            Where arrays are other than zero; everywhere by default.
        """
        here = np.arange(self.size, dtype=np.int32)
        rows = self.permutation[g]
        if self.base_of[g] == 0:
            stays = rows == here
            # Zeros that take each other's place are not seen.
            return bool((stays if inside is None else stays | ~(inside | inside[rows])).all())
        # Nearly always a few entries of the middle tell already.
        middle = slice(self.size // 2, self.size // 2 + math.isqrt(self.size))
        return all(self._stays(g, here[part], inside) for part in (middle, here))

    def _stays(self, g: int, entries: I32, inside: NDArray[np.bool_] | None) -> bool:
        """Whether a weighted element leaves some entries as they are."""
        base, rows = int(self.base_of[g]) - 1, self.permutation[g][entries]
        index, weight = self.index[base][rows], self.weight[base][rows]
        wanted: F64 = np.ones(len(entries))
        if inside is not None:
            weight, wanted = weight * inside[index], inside[entries].astype(np.float64)
        stays = index == entries[:, None]
        on = np.where(stays, weight, 0.0).sum(axis=1)
        off = np.where(stays, 0.0, np.abs(weight)).sum(axis=1)
        away = np.abs(on - wanted).max(initial=0.0)
        return bool(away <= IDENTITY_TOLERANCE and off.max(initial=0.0) <= IDENTITY_TOLERANCE)

    @functools.cached_property
    def gathered(self) -> I32 | None:
        """Which entry each entry of a base is, (B + 1, F); −1 where it comes from outside.

        ``None`` where one is a sum of several, or a part of one.
        """
        here = np.arange(self.size, dtype=np.int32)
        taken = self.weight == 1
        if ((self.weight != 0) & ~taken).any() or (taken.sum(axis=2) > 1).any():
            return None
        entries = np.take_along_axis(self.index, taken.argmax(axis=2)[..., None], axis=2)[..., 0]
        bases = np.where(taken.any(axis=2), entries, np.int32(-1))
        return np.concatenate([here[None], bases.astype(np.int32)])

    @functools.cached_property
    def rows(self) -> tuple[I32, I32, I32, NDArray[np.bool_]]:
        """Rows for the compiled loops: few arrays, forwards or backwards, not one an element.

        Returns
        -------
        source : ndarray of int32, shape (R,)
            Bases that further rows are gathered from; the bases themselves are the first rows.
        gathered : ndarray of int32, shape (R, F)
            By which entries.
        row_of : ndarray of int32, shape (n,)
            Each element's row.
        backwards : ndarray of bool, shape (n,)
            Whether it reads its row from the end: a half turn is that of any grid.
        """
        here = np.arange(self.size, dtype=np.int32)
        rows = [(base, here) for base in range(len(self.index) + 1)]
        # By digests, as hundreds of elements would take long to compare in pairs.
        known = {(base, _digest(here)): base for base, _ in rows}
        bases, row_of, backwards = len(rows), [], []
        for base, moved in zip(self.base_of.tolist(), self.permutation, strict=True):
            row, turned = known.get((base, _digest(moved))), False
            if row is None:
                row, turned = known.get((base, _digest(moved[::-1]))), True
            if row is None:
                row, turned = len(rows), False
                known[base, _digest(moved)] = row
                rows.append((base, moved))
            row_of.append(row)
            backwards.append(turned)
        added = rows[bases:]
        gathered = np.array([by for _, by in added], dtype=np.int32).reshape(len(added), self.size)
        source = np.array([of for of, _ in added], dtype=np.int32)
        return source, gathered, np.array(row_of, dtype=np.int32), np.array(backwards)


def _digest(permutation: I32) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(permutation).data, digest_size=16).digest()


def still_moves(order: int, size: int) -> Moves:
    """Return the moves of a group of so many elements that leaves ``size`` entries in place."""
    return Moves(
        np.empty((0, size, 1), dtype=np.int32),
        np.empty((0, size, 1), dtype=np.float64),
        np.zeros(order, dtype=np.int32),
        np.tile(np.arange(size, dtype=np.int32), (order, 1)),
        (Exactness.INDEX,) * order,
    )


def product_of_moves(parts: Sequence[Moves]) -> Moves:
    """Return what elements do to several axes at once: the product of what they do to each.

    Parameters
    ----------
    parts : sequence of Moves
        One for each run of axes, in the order of the axes.

    Returns
    -------
    Moves
        On the axes laid end to end, the last one running fastest.
    """
    return functools.reduce(_product, parts)


def _product(one: Moves, other: Moves) -> Moves:
    """Return the product of two, as a tensor product of weights and of permutations."""
    pairs = list(zip(one.base_of.tolist(), other.base_of.tolist(), strict=True))
    distinct = list(dict.fromkeys(pair for pair in pairs if pair != (0, 0)))
    tables = [_outer(_taps(one, a), _taps(other, b), other.size) for a, b in distinct]
    size, taps = one.size * other.size, max((t[0].shape[1] for t in tables), default=1)
    index = np.zeros((len(tables), size, taps), dtype=np.int32)
    weight = np.zeros((len(tables), size, taps), dtype=np.float64)
    for k, (entries, weights) in enumerate(tables):
        index[k, :, : entries.shape[1]], weight[k, :, : entries.shape[1]] = entries, weights
    permutation = one.permutation[:, :, None] * other.size + other.permutation[:, None, :]
    order = list(Exactness)
    return Moves(
        index,
        weight,
        np.array([distinct.index(p) + 1 if p in distinct else 0 for p in pairs], dtype=np.int32),
        np.ascontiguousarray(permutation.reshape(len(pairs), size), dtype=np.int32),
        tuple(max(both, key=order.index) for both in zip(one.exact, other.exact, strict=True)),
    )


def _taps(moves: Moves, base: int) -> tuple[I32, F64]:
    """Return the entries and weights (F, T) of a base; those of base 0 are the entries alone."""
    if base:
        return moves.index[base - 1], moves.weight[base - 1]
    here = np.arange(moves.size, dtype=np.int32)
    return here[:, None], np.ones((moves.size, 1))


def _outer(one: tuple[I32, F64], other: tuple[I32, F64], size: int) -> tuple[I32, F64]:
    index = one[0][:, None, :, None] * size + other[0][None, :, None, :]
    weight = one[1][:, None, :, None] * other[1][None, :, None, :]
    rows, taps = index.shape[0] * index.shape[1], index.shape[2] * index.shape[3]
    return index.reshape(rows, taps), weight.reshape(rows, taps)
