"""An action of one's own on tensors of a known shape: checked, and brought to their axes."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, check_choice, shown
from onnx_geed.groups.action import Action, action_at
from onnx_geed.groups.by_letters import LayoutAction, layout_action, still_action
from onnx_geed.groups.exactness import COMPOSITION_TOLERANCE, Exactness
from onnx_geed.groups.grid_tables import Interpolation
from onnx_geed.groups.group import Group, check_group, generators
from onnx_geed.groups.layout import Layout, axes_called, parse_layout
from onnx_geed.groups.moving import array_to_move
from onnx_geed.groups.named import group_named
from onnx_geed.groups.own_action import (
    IndexAction,
    kernel_on_noise,
    noise,
    own_exactness,
    own_layout,
)
from onnx_geed.groups.support import disk_mask
from onnx_geed.groups.vectors import Permutation

__all__ = ["PlacedAction", "acts_as_named", "on_hidden", "permutation_of", "place", "tables_of"]

# Of groups up to this order every pair is composed, of larger ones each with the generators.
_ALL_PAIRS = 24


_PARTS = ("group", "layout", "name", "exact", "kernel_of_action", "apply")


@dataclass(frozen=True)
class PlacedAction:
    """An action of one's own on tensors of a known shape, checked whenever it acts.

    Made by :func:`place`. Arrays are (..., *shape), in the order in which samples are kept.

    Parameters
    ----------
    action : Action
        As it was written.
    layout : Layout
        The order in which samples are kept: channels, other axes, the plane.
    shape : tuple of int
        Shape of one sample in that order.
    """

    action: Action
    layout: Layout
    shape: tuple[int, ...]

    @property
    def group(self) -> Group:
        """The acting group."""
        return self.action.group

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.action.name

    def exact(self) -> tuple[Exactness, ...]:
        """How each element acts, as the action says."""
        return own_exactness(self.name, self.action.exact(), self.group.order)

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements that leave noise as it is, within 1e-6."""
        return self._kernel

    @functools.cached_property
    def _kernel(self) -> tuple[int, ...]:
        return kernel_on_noise(self, self.shape)

    def apply(self, g: int, y: NDArray[Any]) -> NDArray[Any]:
        """Move ``y`` (..., *shape) by element ``g``.

        Raises
        ------
        GeedError
            If the action fails, or changes shape or dtype, or gives NaN or infinity.
        """
        y = array_to_move(self, g, y, self.shape)
        order, back = self._order
        # A copy, so that a function may well change what it gets.
        x = np.array(y.reshape(-1, *self.shape).transpose(order), order="C")
        element = f"action {self.name!r}: element {self.group.elements[g]}"
        shape, dtype = x.shape, x.dtype
        try:
            moved = self.action.apply(g, x)
        except GeedError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's function raises
            kind = type(error).__name__
            raise GeedError(f"{element} fails on an array of {shape}: {kind}: {error}") from error
        if isinstance(self.action, LayoutAction) and isinstance(moved, np.ndarray):
            moved = moved.astype(dtype, copy=False)
        if not isinstance(moved, np.ndarray) or (moved.shape, moved.dtype) != (shape, dtype):
            is_array = isinstance(moved, np.ndarray)
            result = f"{moved.dtype} {moved.shape}" if is_array else shown(moved)
            raise GeedError(
                f"{element} must keep shape and dtype: {dtype} {shape} came back as {result}"
            )
        if not np.isfinite(moved).all():
            raise GeedError(f"{element} gives NaN or infinity")
        return np.ascontiguousarray(moved.transpose(back)).reshape(y.shape)

    def digest(self, x: NDArray[Any]) -> str:
        """Return a SHA-256 of what all elements make of a sample, by which they are known again.

        Raises
        ------
        GeedError
            If :meth:`apply` refuses one.
        """
        content = hashlib.sha256()
        for g, name in enumerate(self.group.elements):
            moved = self.apply(g, x)
            content.update(f"{name} {moved.shape}".encode() + moved.astype("<f4").tobytes())
        return content.hexdigest()

    @property
    def rows(self) -> int:
        """Channels of a sample, each of which is compared by itself."""
        return math.prod(self.shape[: self.layout.channels])

    @property
    def fixed(self) -> int:
        """Entries of a channel that are rows of their own: it is not known that any could be."""
        return 1

    def stacked(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring arrays (..., *shape) to (..., channels, entries)."""
        return array.reshape(*array.shape[: array.ndim - len(self.shape)], self.rows, -1)

    def inside(self, support: str) -> NDArray[np.bool_] | None:
        """Return the entries that a support leaves in a comparison; ``None`` for all."""
        check_choice("support", support, ("full", "disk"))
        kept = self.layout.kept
        if support != "disk" or kept[self.layout.channels :] != "HW":
            return None
        return disk_mask(*self.shape[-2:]).ravel()

    def at(self, layout: Layout, shape: tuple[int, ...]) -> Action | None:
        """Return the action on tensors of another layout or size, if it says how it acts there.

        Raises
        ------
        GeedError
            If it is no action there.
        """
        other = action_at(self.action, layout, shape)
        placed = None if other is None else place(other, layout, shape)
        return (_as_tables(placed) or placed) if isinstance(placed, PlacedAction) else placed

    @functools.cached_property
    def _order(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes that bring samples to the action's layout, and those that bring them back."""
        kept, own = self.layout.letters, own_layout(self.name, self.action.layout).letters
        return axes_called(own, kept), axes_called(kept, own)


def place(action: Action, layout: Layout, shape: Sequence[int]) -> LayoutAction | PlacedAction:
    """Bring an action to tensors of a known layout and shape, and check that it is one.

    Parameters
    ----------
    action : Action
        One's own, or one that :func:`grid_action` made.
    layout : Layout
        What the axes of the tensors are, as they are stored.
    shape : sequence of int
        Shape of one sample as samples are kept: channels, other axes, the plane.

    Returns
    -------
    LayoutAction or PlacedAction
        On arrays as samples are kept.

    Raises
    ------
    GeedError
        If it lacks a part of an action, or its layout is of other axes.
        If it changes shapes or dtypes, or the identity does not leave a tensor as it is.
        If exact elements do not compose as the group's table says.

    Notes
    -----
    Checked on seeded noise in [0, 1): φ(g₂, φ(g₁, x)) = φ(g₂g₁, x) to the last bit for elements
    that are an index, within 1e-5 for matrices, not at all for resampled ones.
    """
    missing = [part for part in _PARTS if not hasattr(action, part)]
    if missing:
        raise GeedError(
            f"action {shown(action)}: has no {', '.join(missing)}; an action has "
            f"{', '.join(_PARTS)} (see onnx_geed.Action), or make one with "
            "onnx_geed.FunctionAction or onnx_geed.IndexAction"
        )
    for part in ("exact", "kernel_of_action", "apply"):
        if not callable(getattr(action, part)):
            raise GeedError(
                f"action {action.name!r}: {part} is a method of an action, found "
                f"{shown(getattr(action, part))}"
            )
    check_group(action.group)
    own = own_layout(action.name, action.layout)
    kept = "N" + "".join(layout.letters[1 + axis] for axis in layout.planes_last)
    if sorted(own.letters) != sorted(kept):
        raise GeedError(
            f"action {action.name!r}: acts on layout {own}, the tensor is {layout}: give the "
            "action a layout of the same letters"
        )
    if isinstance(action, LayoutAction) and not action.moves_channels:
        lengths = tuple(shape[len(shape) - len(action.lengths) :])
        if action.lengths != lengths:
            here, there = ("×".join(map(str, sides)) for sides in (action.lengths, lengths))
            raise GeedError(
                f"action {action.name!r}: is for grids of {here}, the tensor's is {there}"
            )
        return action
    placed = PlacedAction(action, parse_layout(kept), tuple(shape))
    _check_composition(placed)
    return placed


def _as_tables(action: PlacedAction) -> LayoutAction | None:
    """Return an action as tables of pixels and channels, which compiled loops take, if it is one.

    Asked by moving numbered entries: all planes must be gathered by the same pixels.
    """
    if len(action.shape) != 3 or any(kind is not Exactness.INDEX for kind in action.exact()):
        return None
    channels, height, width = action.shape
    numbered = np.arange(channels * height * width, dtype=np.float64).reshape(action.shape)
    elements = range(action.group.order)
    sources = np.array([action.apply(g, numbered).reshape(channels, -1) for g in elements])
    planes, pixels = np.divmod(sources.astype(np.int64), height * width)
    if (planes != planes[..., :1]).any() or (pixels != pixels[:, :1]).any():
        return None
    still = planes[..., 0] == np.arange(channels)
    unmoved = still_action(action.group, action.layout, action.shape)
    moves = replace(unmoved.moves, permutation=np.ascontiguousarray(pixels[:, 0], dtype=np.int32))
    tables = replace(
        unmoved, moved="HW", moves=moves, channels=None if still.all() else planes[..., 0]
    )
    # A function may look at the values, and then numbers tell nothing.
    x = cast("NDArray[Any]", noise(action.shape))
    same = (np.array_equal(tables.apply(g, x), action.apply(g, x)) for g in elements)
    return tables if all(same) else None


def acts_as_named(action: Action, interpolation: Interpolation) -> bool:
    """Whether an action does what the group of its name does: names of elements do not tell.

    Parameters
    ----------
    action : Action
        On a tensor of the input's shape, as :func:`place` returns it.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling by the named group.

    Returns
    -------
    bool
        True of a named group's own. Of one's own it is tried on seeded noise, within 1e-5.
    """
    if not isinstance(action, PlacedAction):
        return True
    named = group_named(action.group.name)
    if named is None or named != action.group:
        return False
    try:
        layout, shape = action.layout, action.shape
        theirs = layout_action(named, layout, shape, interpolation, of_input=True)
    except GeedError:  # which moves no such tensor
        return False
    x = cast("NDArray[Any]", noise(shape))
    return all(
        _apart(action.apply(g, x), theirs.apply(g, x)) <= COMPOSITION_TOLERANCE
        for g in range(named.order)
    )


def on_hidden(
    own: PlacedAction, layout: Layout, shape: tuple[int, ...]
) -> LayoutAction | PlacedAction:
    """Return an action of one's own on hidden tensors, where it says how it acts on them.

    Parameters
    ----------
    own : PlacedAction
        On the input.
    layout : Layout
        That of the tensor.
    shape : tuple of int
        Of one sample in kept order.

    Raises
    ------
    GeedError
        If it does not say.
    """
    # A table moves its own axes alone, and so leaves vectors along others in place.
    moved = own.action.axes if isinstance(own.action, IndexAction) else layout.kept
    if len(layout.kept) == 1 and not {*moved} & {*layout.kept}:
        return still_action(own.group, layout, shape)
    action = own.at(parse_layout(f"N{layout.kept}"), shape)
    if isinstance(action, LayoutAction | PlacedAction):
        return action
    raise GeedError(
        f"the action {own.name!r} does not say how maps of {' × '.join(map(str, shape))} move: "
        "give it a method at(layout, shape) that returns one for them, or leave this measure out"
    )


def tables_of(action: Action) -> LayoutAction:
    """Return an action on a grid as the tables that nodes of a graph gather by.

    Raises
    ------
    GeedError
        If it is one's own, which only its function carries out.
    """
    if isinstance(action, LayoutAction):
        return action
    raise GeedError(f"the action {action.name!r} is a function of your own, not nodes of a graph")


def permutation_of(action: LayoutAction | PlacedAction) -> Permutation:
    """Return how an action moves the entries of a vector that are classes: they change places.

    Parameters
    ----------
    action : LayoutAction or PlacedAction
        On tensors of which one axis has several entries.

    Raises
    ------
    GeedError
        If it does more than to permute the entries, so that none of them stands for a class.
    """
    several = "".join(a for a, n in zip(action.layout.kept, _lengths(action), strict=True) if n > 1)
    refusal = GeedError(
        f"classes change places at most, but {action.group.name} mixes entries along {several} of "
        f"{action.layout}"
    )
    if isinstance(action, LayoutAction):
        if "X" in action.moved or action.moves.base_of.any():
            raise refusal
        return Permutation.of_entries(action)
    size, elements = math.prod(action.shape), range(action.group.order)
    numbered = np.arange(size, dtype=np.float64).reshape(action.shape)
    table = np.array([action.apply(g, numbered).ravel() for g in elements])
    # A function may look at the values, and then numbers tell nothing.
    x = cast("NDArray[Any]", noise(action.shape)).ravel()
    seen = [action.apply(g, x.reshape(action.shape)).ravel() for g in elements]
    if (np.sort(table, axis=1) != numbered.ravel()).any():
        raise refusal
    rows = table.astype(np.int64)
    if not np.array_equal(x[rows], seen):
        raise refusal
    return Permutation(action.group, rows)


def _lengths(action: LayoutAction | PlacedAction) -> tuple[int, ...]:
    return action.lengths if isinstance(action, LayoutAction) else action.shape


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one - other).max(initial=0.0))


def _check_composition(action: PlacedAction) -> None:
    group, kinds, x = action.group, action.exact(), cast("NDArray[Any]", noise(action.shape))
    moved = [action.apply(g, x) for g in range(group.order)]

    def allowed(*elements: int) -> float:
        index = all(kinds[g] is Exactness.INDEX for g in elements)
        return 0.0 if index else COMPOSITION_TOLERANCE

    away = _apart(moved[0], x)
    if away > allowed(0):
        raise GeedError(
            f"action {action.name!r}: its identity {group.elements[0]} changes a tensor, by up to "
            f"{away:.3g}; element 0 must leave everything unchanged"
        )
    some = range(group.order) if group.order <= _ALL_PAIRS else generators(group.table)
    for g2 in range(group.order):
        for g1 in range(group.order):
            product = int(group.table[g2, g1])
            chosen = g1 in some or g2 in some
            if not chosen or not (kinds[g1] and kinds[g2] and kinds[product]):
                continue
            away = _apart(action.apply(g2, moved[g1]), moved[product])
            if away > allowed(g1, g2, product):
                a, b, c = (group.elements[g] for g in (g2, g1, product))
                raise GeedError(
                    f"action {action.name!r}: is not an action of {group.name}: φ({a}, φ({b}, x)) "
                    f"is not φ({c}, x), they differ by up to {away:.3g}; make it compose as the "
                    "group's table says, or say that these elements are resampled"
                )
