"""How a group moves an array on the grid of its last two axes.

Every element that maps a grid onto itself is an exact index permutation; other rotations are
resampled, and are then no exact action: φ(g₂, φ(g₁, x)) differs from φ(g₂g₁, x).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from fractions import Fraction
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, check_choice
from onnx_geed.groups.action import IDENTITY_TOLERANCE, Exactness
from onnx_geed.groups.grid_tables import (
    Interpolation,
    checked_length,
    rotation_table,
    whole_shift,
)
from onnx_geed.groups.group import Group, check_group
from onnx_geed.groups.layout import Layout, parse_layout
from onnx_geed.groups.named import plane_motions

__all__ = ["GridAction", "grid_action", "still_grid"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


@dataclass(frozen=True)
class GridAction:
    """A group acting on the last two axes of an array, optionally permuting channels too.

    Made by :func:`grid_action`. Element g first resamples by base ``base_of[g]`` (0: not at all),
    then gathers by ``permutation[g]``; all rotations that differ by quarter turns share a base on
    a square grid.

    Parameters
    ----------
    group : Group
        The acting group.
    shape : tuple of int
        Height and width.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of the elements that are not exact.
    index : ndarray of int32, shape (B, H·W, T)
        Pixels that output pixel p of base b + 1 reads.
    weight : ndarray of float64, shape (B, H·W, T)
        Their weights; 0 outside the grid.
    base_of : ndarray of int32, shape (n,)
        Base of each element; 0 is the unresampled map.
    permutation : ndarray of int32, shape (n, H·W)
        ``out[p] = base[permutation[g, p]]``.
    channels : ndarray of int64, shape (n, C), optional
        Channel table: channel c of the result is channel ``channels[g, c]``, moved.
    """

    group: Group
    shape: tuple[int, int]
    interpolation: Interpolation
    index: I32 = field(repr=False, compare=False)
    weight: F64 = field(repr=False, compare=False)
    base_of: I32 = field(repr=False, compare=False)
    permutation: I32 = field(repr=False, compare=False)
    channels: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """``grid``, or ``grid+channels`` with a channel table."""
        return "grid" if self.channels is None else "grid+channels"

    @property
    def layout(self) -> Layout:
        """Maps, channels first."""
        return parse_layout("NCHW")

    def exact(self) -> tuple[Exactness, ...]:
        """Per element, an index where it maps the grid onto itself, else resampled."""
        return tuple(Exactness.RESAMPLED if base else Exactness.INDEX for base in self.base_of)

    def at(self, layout: Layout, shape: tuple[int, ...]) -> GridAction | None:
        """Return the group's action on maps of another size, without a channel table.

        ``None`` for what is no map in the order of this layout, or is not divided by a shift.
        """
        if layout != self.layout:
            return None
        try:
            return grid_action(self.group, shape[-2], shape[-1], self.interpolation)
        except GeedError:
            return None

    def kernel_of_action(self, inside: NDArray[np.bool_] | None = None) -> tuple[int, ...]:
        """Elements that move neither pixel nor channel, within 1e-6.

        Parameters
        ----------
        inside : ndarray of bool, shape (H, W), optional
            Where arrays are other than zero; everywhere by default.
        """
        mask = None if inside is None else inside.ravel()
        return tuple(g for g in range(self.group.order) if self._is_identity(g, mask))

    def _is_identity(self, g: int, inside: NDArray[np.bool_] | None = None) -> bool:
        if self.channels is not None and np.any(
            self.channels[g] != np.arange(self.channels.shape[1])
        ):
            return False
        here = np.arange(self.permutation.shape[1], dtype=np.int32)
        rows = self.permutation[g]
        if self.base_of[g] == 0:
            stays = rows == here
            # Zeros that take each other's place are not seen.
            return bool((stays if inside is None else stays | ~(inside | inside[rows])).all())
        height, width = self.shape
        middle = slice(height // 2 * width, (height // 2 + 1) * width)
        # Nearly always the middle row tells already.
        return all(self._resamples_to_itself(g, here[part], inside) for part in (middle, here))

    def _resamples_to_itself(
        self, g: int, pixels: I32, inside: NDArray[np.bool_] | None = None
    ) -> bool:
        """Whether a resampled element leaves some pixels as they are."""
        base, rows = int(self.base_of[g]) - 1, self.permutation[g][pixels]
        index, weight = self.index[base][rows], self.weight[base][rows]
        wanted: F64 = np.ones(len(pixels))
        if inside is not None:
            weight, wanted = weight * inside[index], inside[pixels].astype(np.float64)
        stays = index == pixels[:, None]
        on = np.where(stays, weight, 0.0).sum(axis=1)
        off = np.where(stays, 0.0, np.abs(weight)).sum(axis=1)
        away = np.abs(on - wanted).max()
        return bool(away <= IDENTITY_TOLERANCE and off.max() <= IDENTITY_TOLERANCE)

    @functools.cached_property
    def rows(self) -> tuple[I32, I32, I32, NDArray[np.bool_]]:
        """Rows for the compiled loops: few maps, forwards or backwards, instead of one an element.

        Returns
        -------
        source : ndarray of int32, shape (R,)
            Bases that further rows are gathered from; the bases themselves are the first rows.
        gathered : ndarray of int32, shape (R, H·W)
            By which pixels.
        row_of : ndarray of int32, shape (n,)
            Each element's row.
        backwards : ndarray of bool, shape (n,)
            Whether it reads its row from the end: a half turn is that of any grid.
        """
        area = self.permutation.shape[1]
        here = np.arange(area, dtype=np.int32)
        rows = [(base, here) for base in range(len(self.index) + 1)]
        bases, row_of, backwards = len(rows), [], []
        for base, moved in zip(self.base_of.tolist(), self.permutation, strict=True):
            known = (
                (r, turned)
                for turned, wanted in ((False, moved), (True, moved[::-1]))
                for r, (of, by) in enumerate(rows)
                if of == base and np.array_equal(by, wanted)
            )
            row, turned = next(known, (len(rows), False))
            if row == len(rows):
                rows.append((base, moved))
            row_of.append(row)
            backwards.append(turned)
        added = rows[bases:]
        gathered = np.array([by for _, by in added], dtype=np.int32).reshape(len(added), area)
        source = np.array([of for of, _ in added], dtype=np.int32)
        return source, gathered, np.array(row_of, dtype=np.int32), np.array(backwards)

    def apply(self, g: int, y: F64) -> F64:
        """Move ``y`` (..., [C,] H, W) by element ``g``; returned in float64."""
        flat = np.asarray(y, dtype=np.float64).reshape(*y.shape[:-2], -1)
        if self.channels is not None:
            flat = flat[..., self.channels[g], :]
        if base := int(self.base_of[g]):
            index, weight = self.index[base - 1], self.weight[base - 1]
            flat = sum(weight[:, t] * flat[..., index[:, t]] for t in range(weight.shape[1]))
        return flat[..., self.permutation[g]].reshape(y.shape)


def grid_action(
    group: Group, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> GridAction:
    """Return a group's action on an H×W grid.

    Parameters
    ----------
    group : Group
        A named group.
    height, width : int
        Size of the grid in pixels.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of rotations that do not map the grid onto itself.

    Returns
    -------
    GridAction

    Raises
    ------
    GeedError
        If it is no group, or one whose action on images is not known.
        If height or width is no whole number from 1 on.
        If the interpolation is none of the three.
        If a shift does not divide the grid.

    Notes
    -----
    Choice: the centre is ((H−1)/2, (W−1)/2); a neighbour outside the grid counts as zero; on a
    square grid the rotation by θ ≥ 90° is the quarter turn of the rotation by θ mod 90°.
    """
    check_choice("interpolation", interpolation, get_args(Interpolation))
    height, width = checked_length("height", height), checked_length("width", width)
    action: GridAction = _grid_action(check_group(group), height, width, interpolation)
    return action


@functools.lru_cache(maxsize=64)
def _grid_action(group: Group, height: int, width: int, interpolation: Interpolation) -> GridAction:
    area = height * width
    numbers = np.arange(area, dtype=np.int32).reshape(height, width)
    angles: dict[Fraction, int] = {}
    base_of, permutation = [], []
    for move in plane_motions(group):
        quarters, rest = divmod(move.degrees, 90)
        if height != width and not (rest == 0 and quarters % 2 == 0):
            quarters, rest = 0, move.degrees
        turned = np.rot90(numbers, int(quarters))
        if move.mirror:
            turned = turned[:, ::-1] if move.mirror == "h" else turned[::-1]
        down, right = whole_shift(group, move, height, width)
        turned = np.roll(turned, (down, right), axis=(0, 1))
        base_of.append(angles.setdefault(rest, len(angles) + 1) if rest else 0)
        permutation.append(turned.ravel())
    tables = [rotation_table(height, width, float(a), interpolation) for a in angles]
    taps = {"nearest": 1, "bilinear": 4, "bicubic": 16}[interpolation]
    index = np.array([t[0] for t in tables], dtype=np.int32).reshape(-1, area, taps)
    weight = np.array([t[1] for t in tables], dtype=np.float64).reshape(-1, area, taps)
    return GridAction(
        group,
        (height, width),
        interpolation,
        index,
        weight,
        np.array(base_of, dtype=np.int32),
        np.array(permutation, dtype=np.int32),
    )


def still_grid(group: Group, height: int, width: int) -> GridAction:
    """Return the trivial action of a group on an H×W grid.

    Parameters
    ----------
    group : Group
        Any group, named or one's own.
    height, width : int
        Size of the grid in pixels.

    Returns
    -------
    GridAction
    """
    n, area = group.order, height * width
    return GridAction(
        group,
        (height, width),
        "bilinear",
        np.empty((0, area, 4), dtype=np.int32),
        np.empty((0, area, 4), dtype=np.float64),
        np.zeros(n, dtype=np.int32),
        np.tile(np.arange(area, dtype=np.int32), (n, 1)),
    )
