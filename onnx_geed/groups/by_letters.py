"""How a group moves tensors of a layout: its letters say which factors act on which axes.

Every element that maps the axes onto themselves is an exact index permutation, signs included; a
matrix is exact to rounding; what is resampled is no exact action: φ(g₂, φ(g₁, x)) differs from
φ(g₂g₁, x).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, check_choice, shown
from onnx_geed.groups.action import rows_known
from onnx_geed.groups.exactness import IDENTITY_TOLERANCE, Exactness
from onnx_geed.groups.grid_tables import Interpolation, check_grid
from onnx_geed.groups.group import Behind, Group
from onnx_geed.groups.known_moves import known_moves
from onnx_geed.groups.layout import Layout, parse_layout
from onnx_geed.groups.mixing import mixed, permutes
from onnx_geed.groups.moves import Moves, product_of_moves, still_moves
from onnx_geed.groups.moving import array_to_move
from onnx_geed.groups.named import factors_of
from onnx_geed.groups.placing import PlacedFactor, axes_of, placed_factors
from onnx_geed.groups.small_groups import on_grid
from onnx_geed.groups.support import disk_mask
from onnx_geed.text import counted
from onnx_geed.typed import as_array

__all__ = [
    "LayoutAction",
    "grid_action",
    "layout_action",
    "still_action",
]

F64 = NDArray[np.float64]


# What an action is called by the axes that it moves.
_KINDS = {
    "C": "colours",
    "X": "components",
    "B": "bases",
    "P": "points",
    "T": "line",
    "D": "grid",
    "H": "grid",
    "W": "grid",
}


@dataclass(frozen=True)
class LayoutAction:
    """A group acting on tensors of a layout, optionally permuting channels too.

    Made by ``layout_action`` or :func:`grid_action`.

    Parameters
    ----------
    group : Group
        The acting group.
    layout : Layout
        What the axes of the tensors are.
    lengths : tuple of int
        Lengths of one sample's axes in kept order; of :func:`grid_action`, of the plane alone.
    axes : tuple of int
        Numbers of the axes that ``moves`` is of, counted from the last of ``lengths`` (−1), in the
        order of its entries.
    moved : str
        Their letters; empty for the trivial action, which leaves them in place.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of the elements that are not exact.
    moves : Moves
        What each element does to these axes, laid end to end.
    channels : ndarray of int64, shape (n, C), optional
        Channel table: channel c of the result is channel ``channels[g, c]``, moved.
    channel_matrices : ndarray of float64, shape (n, C, C), optional
        In place of a channel table: channel c of the result is the sum over c' of
        ``channel_matrices[g, c, c']`` times channel c', moved.
    composes : bool
        Whether the elements compose as in the group's table; those of a fit may not.
    without_row : tuple of int
        Elements without a row in the table; they leave the channels in place.
    """

    group: Group
    layout: Layout
    lengths: tuple[int, ...]
    axes: tuple[int, ...]
    moved: str
    interpolation: Interpolation
    moves: Moves = field(repr=False, compare=False)
    channels: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    channel_matrices: F64 | None = field(default=None, repr=False, compare=False)
    composes: bool = True
    without_row: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that move, such as height and width."""
        return tuple(self.lengths[axis] for axis in self.axes)

    @property
    def name(self) -> str:
        """``grid``, ``points``, ``components+grid`` and so on, and what channels do by a table.

        ``channels`` where they change places, ``mixed channels`` where matrices mix them; with how
        many elements have a row of the table, where not all have one.
        """
        kinds = list(dict.fromkeys(_KINDS[letter] for letter in self.moved))
        if self.channels is not None:
            kinds.append("channels")
        if self.channel_matrices is not None:
            kinds.append("mixed channels")
        return "+".join(kinds or ["trivial"]) + rows_known(self.group, self.without_row)

    @property
    def moves_channels(self) -> bool:
        """Whether a table or matrices move channels too."""
        return self.channels is not None or self.channel_matrices is not None

    def exact(self) -> tuple[Exactness, ...]:
        """Per element: an index, a matrix, or resampled."""
        return self._exact

    @functools.cached_property
    def _exact(self) -> tuple[Exactness, ...]:
        if self.channel_matrices is None:
            return self.moves.exact
        return tuple(
            Exactness.MATRIX if kind is Exactness.INDEX and not permutes(matrix) else kind
            for kind, matrix in zip(self.moves.exact, self.channel_matrices, strict=True)
        )

    def at(self, layout: Layout, shape: tuple[int, ...]) -> LayoutAction | None:
        """Return the group's action on tensors of another size, without a channel table.

        ``None`` for a layout of other axes, and for what a shift does not divide.
        """
        if layout != self.layout:
            return None
        try:
            return layout_action(self.group, layout, shape, self.interpolation)
        except GeedError:
            return None

    def kernel_of_action(self, inside: NDArray[np.bool_] | None = None) -> tuple[int, ...]:
        """Elements that move neither an entry nor a channel, within 1e-6.

        Parameters
        ----------
        inside : ndarray of bool, shape (H, W), optional
            Where arrays are other than zero; everywhere by default.
        """
        mask = None if inside is None else as_array("inside", inside).ravel()
        if mask is not None and (mask.dtype != bool or mask.size != self.moves.size):
            raise GeedError(f"inside is true or false at {self.shape}, found {shown(inside)}")
        return tuple(g for g in range(self.group.order) if self._is_identity(g, mask))

    def _is_identity(self, g: int, inside: NDArray[np.bool_] | None) -> bool:
        if self.channels is not None and np.any(
            self.channels[g] != np.arange(self.channels.shape[1])
        ):
            return False
        if not self.moves.is_identity(g, inside):
            return False
        if self.channel_matrices is None:
            return True
        away = self.channel_matrices[g] - np.eye(self.channel_matrices.shape[1])
        return bool(np.abs(away, out=away).max(initial=0.0) <= IDENTITY_TOLERANCE)

    def stacked(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring arrays (..., axes in kept order) to (..., rows, F), the moved axes laid end to end.

        Parameters
        ----------
        array : ndarray
            Any number of axes before; a view where that is possible.
        """
        rank, ahead = len(self.lengths), array.ndim - len(self.lengths)
        moved = [rank + axis for axis in self.axes]
        rest = [axis for axis in range(rank) if axis not in moved]
        if [*rest, *moved] != list(range(rank)):
            order = (*range(ahead), *(ahead + axis for axis in (*rest, *moved)))
            array = array.transpose(order)
        if self._is_bare:  # what stands before the plane are rows
            return array.reshape(*array.shape[:ahead], self.moves.size)
        rows = math.prod(self.lengths[axis] for axis in rest)
        return array.reshape(*array.shape[:ahead], rows, self.moves.size)

    @property
    def _is_bare(self) -> bool:
        """Whether the lengths are those of a plane alone, whatever stands before it."""
        return len(self.lengths) < len(self.layout.kept)

    def unstacked(self, flat: NDArray[Any]) -> NDArray[Any]:
        """Bring arrays (..., rows, F) back to (..., axes in kept order)."""
        rank = len(self.lengths)
        moved = [rank + axis for axis in self.axes]
        rest = [axis for axis in range(rank) if axis not in moved]
        ahead = flat.shape[: flat.ndim - (1 if self._is_bare else 2)]
        array = flat.reshape(*ahead, *(self.lengths[axis] for axis in (*rest, *moved)))
        if [*rest, *moved] == list(range(rank)):
            return array
        back = np.argsort([*rest, *moved])
        return array.transpose(*range(len(ahead)), *(len(ahead) + int(axis) for axis in back))

    @property
    def fixed(self) -> int:
        """Entries of a channel that are rows of their own, since their axes stay in place."""
        rank = len(self.lengths)
        letters = self.layout.kept[-rank:] if rank else ""
        rest = [axis for axis in range(-rank, 0) if axis not in self.axes]
        return math.prod(self.lengths[axis] for axis in rest if letters[axis] not in "CK")

    @property
    def rows(self) -> int:
        """Number of rows, where the lengths of all axes are known."""
        return math.prod(self.lengths) // self.moves.size

    def rows_of_channels(self) -> NDArray[np.int64] | None:
        """Return the channel table as one of rows, (n, rows); ``None`` without a table."""
        if self.channels is None:
            return None
        rows = self.channels[:, :, None] * self.fixed + np.arange(self.fixed)
        return rows.reshape(len(rows), -1)

    def apply(self, g: int, y: F64) -> F64:
        """Move ``y`` (..., axes in kept order) by element ``g``; returned in float64."""
        y = array_to_move(self, g, y, self.lengths).astype(np.float64, copy=False)
        moved: F64 = self.unstacked(self.apply_to_rows(g, self.stacked(y)))
        return moved

    def apply_to_rows(self, g: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Move arrays (..., rows, F), as :meth:`stacked` returns them, by element ``g``."""
        if self.channels is not None:
            # A table's channels are the first of the rows, each with what else stays in place.
            shape = rows.shape
            of_channel = rows.reshape(*shape[:-2], self.channels.shape[1], -1, shape[-1])
            rows = of_channel[..., self.channels[g], :, :].reshape(shape)
        if self.channel_matrices is not None:
            rows = mixed(self.channel_matrices[g], rows)
        return self.moves.apply(g, rows)

    def kept_still(self) -> LayoutAction:
        """Return the trivial action on the same rows and entries."""
        moves = _still(self.group.order, self.moves.size)
        plain = replace(self, channels=None, channel_matrices=None, composes=True, without_row=())
        return replace(plain, moves=moves, moved="")

    def behind(self, seed: int, sample: int) -> LayoutAction:
        """Return how a sample is moved: of a sampled group, by elements of its own."""
        return self._drawn(self.group.behind or self.group.onward, seed, sample, True)

    def onward(self, seed: int, sample: int) -> LayoutAction:
        """Return how the first entry of a sample's orbit is moved to the others."""
        return self._drawn(self.group.onward, seed, sample, False)

    def undoing(self, seed: int, sample: int) -> LayoutAction:
        """Return what brings each element of a sample's orbit back to the sample."""
        return self._drawn(self.group.behind, seed, sample, True, undone=True)

    def _drawn(
        self,
        drawn: Behind | None,
        seed: int,
        sample: int,
        of_input: bool,
        *,
        undone: bool = False,
    ) -> LayoutAction:
        if drawn is None or not self.moved:
            return self
        factors = drawn(seed, sample)
        if undone:
            factors = tuple(factor.inverse() for factor in factors)
        kept, lengths = self.layout.kept, self.lengths
        placed = placed_factors(factors, kept, lengths, of_input=of_input, moved=self.moved)
        # Not kept in mind: another sample has other elements.
        each = [f.moves(self.group.name, n, self.interpolation) for f, _, n in placed]
        return replace(self, moves=product_of_moves(each))

    def moves_of(self, group: Group) -> Moves:
        """Return what the elements of another group do to the same axes."""
        if self._is_bare:
            height, width = self.lengths
            return grid_action(group, height, width, self.interpolation).moves
        return layout_action(group, self.layout, self.lengths, self.interpolation).moves

    def inside(self, support: str) -> NDArray[np.bool_] | None:
        """Return the entries (F,) that a support leaves in a comparison; ``None`` for all."""
        check_choice("support", support, ("full", "disk"))
        letters = [self.layout.kept[axis] for axis in self.axes]
        if support != "disk" or not {"H", "W"} <= {*letters}:
            return None
        lengths = dict(zip(letters, self.shape, strict=True))
        mask = disk_mask(lengths["H"], lengths["W"])
        sides = [n if letter in "HW" else 1 for letter, n in zip(letters, self.shape, strict=True)]
        return np.broadcast_to(mask.reshape(sides), self.shape).ravel()


@checked
def grid_action(
    group: Group, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> LayoutAction:
    """Return a group's action on an H×W grid, the last two axes of any array.

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
    LayoutAction

    Raises
    ------
    GeedError
        If it is not a group, or its action on images is unknown.
        If height or width is not a whole number from 1 on, or the grid has over 2²⁶ pixels.
        If the interpolation is unknown.
        If a shift does not divide the grid, or a small motion is too large for it.
        If the group does not move a plane.

    Notes
    -----
    Choice: the centre is ((H−1)/2, (W−1)/2); a neighbour outside the grid counts as zero; on a
    square grid the rotation by θ ≥ 90° is the quarter turn of the rotation by θ mod 90°.
    """
    lengths = check_grid(height, width)
    group = on_grid(group, "HW", lengths)
    # A grid of one row is meant as one: nothing of it was summed up.
    placed = placed_factors(factors_of(group), "HW", lengths, of_input=False, moved="HW")
    if not placed:
        raise GeedError(f"group {group.name} moves no plane: take a group such as C4 or flip-h")
    moves = _moves_on(group, placed, interpolation)
    return LayoutAction(group, parse_layout("NCHW"), lengths, (-2, -1), "HW", interpolation, moves)


@checked
def layout_action(
    group: Group,
    layout: Layout,
    lengths: Sequence[int],
    interpolation: Interpolation = "bilinear",
    *,
    of_input: bool = False,
) -> LayoutAction:
    """Return a group's action on tensors of a layout.

    Parameters
    ----------
    group : Group
        A named group.
    layout : Layout
        What the axes are; those that the group knows move, the others stay in place.
    lengths : sequence of int
        Lengths of one sample's axes in kept order, as ``layout.kept`` has their letters.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of grids that an element does not map onto themselves.
    of_input : bool
        Whether the tensors are a model's input, whose three channels are colours.

    Returns
    -------
    LayoutAction
        The trivial action where no axis moves.

    Raises
    ------
    GeedError
        If the group's action is not known.
        If a shift does not divide an axis, or a small motion is large on the input.
        If vectors have not as many components as the group turns, or bases are not four.

    Notes
    -----
    The product of one factor a kind of axis; the worst factor says how exact an element is.
    """
    kept, shape = layout.kept, tuple(lengths)
    group = on_grid(group, kept, shape, of_input=of_input)
    placed = placed_factors(factors_of(group), kept, shape, of_input=of_input)
    points = [shape[axis] for (axis,) in axes_of("P", kept)]
    moved_points = sum(factor.axes == "P" for factor, _, _ in placed)
    if of_input and 0 < moved_points < len(points):
        raise GeedError(
            f"layout {layout}: its two axes P have {points[0]} and "
            f"{counted(points[1], 'entry', 'entries')}, but "
            f"{group.name} permutes only one of them: give the other one another letter, such as "
            "X or C, if it holds no points"
        )
    if not placed:
        return still_action(group, layout, shape, interpolation)
    axes = tuple(axis - len(kept) for _, numbers, _ in placed for axis in numbers)
    moves = _moves_on(group, placed, interpolation)
    moved = "".join(kept[axis] for axis in axes)
    return LayoutAction(group, layout, shape, axes, moved, interpolation, moves)


def still_action(
    group: Group,
    layout: Layout,
    lengths: Sequence[int],
    interpolation: Interpolation = "bilinear",
) -> LayoutAction:
    """Return the trivial action of a group on tensors of a layout.

    Parameters
    ----------
    group : Group
        Any group, named or one's own.
    layout : Layout
        What the axes are.
    lengths : sequence of int
        Lengths of one sample's axes in kept order.
    interpolation : {"bilinear", "nearest", "bicubic"}
        As the run has it, for reports.

    Returns
    -------
    LayoutAction
        Its moved axes are all but the channels, which stay in place.
    """
    shape, first = tuple(lengths), layout.channels
    axes = tuple(range(first - len(shape), 0))
    moves = _still(group.order, math.prod(shape[first:]))
    return LayoutAction(group, layout, shape, axes, "", interpolation, moves)


@functools.lru_cache(maxsize=64)
def _still(order: int, size: int) -> Moves:
    return still_moves(order, size)


def _moves_on(
    group: Group, placed: tuple[PlacedFactor, ...], interpolation: Interpolation
) -> Moves:
    """Return what a group does to some axes laid end to end, worked out once for all tensors."""
    return known_moves(group.name, tuple((f, own) for f, _, own in placed), interpolation)
