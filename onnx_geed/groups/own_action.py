"""Actions of one's own: written as tables or functions, checked, and brought to a tensor's axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups.action import IDENTITY_TOLERANCE, Action, Exactness, action_at
from onnx_geed.groups.grid import GridAction, still_grid
from onnx_geed.groups.group import Group, check_group, generators
from onnx_geed.groups.layout import Layout, parse_layout

__all__ = ["FunctionAction", "IndexAction", "PlacedAction", "place", "tables_of"]

F32 = NDArray[np.float32]

Move = Callable[[int, NDArray[Any]], NDArray[Any]]


# Elements given by matrices must compose within this, entries being in [0, 1].
_COMPOSITION_TOLERANCE = 1e-5


# Of groups up to this order every pair is composed, of larger ones each with the generators.
_ALL_PAIRS = 24


_PARTS = ("group", "layout", "name", "exact", "kernel_of_action", "apply")


@dataclass(frozen=True)
class FunctionAction:
    """An action that a function carries out.

    Parameters
    ----------
    group : Group
        The acting group, a named one or one's own.
    move : callable
        ``move(g, x)`` returns ``x`` moved by the element of index g: an array of the same shape
        and dtype. ``x`` holds some samples, one axis a letter of the layout, samples first.
    layout : str or Layout
        One letter an axis; those of the model's input, in any order, N first.
    exactness : str, Exactness or sequence of them
        How the elements act, all alike or each: ``index`` (entries change places), ``matrix`` or
        ``resampled``.
    name : str
        What reports call it.
    any_size : bool
        Whether ``move`` moves tensors of other lengths too, so that it says how hidden maps of the
        same layout move, for ``channel-cos``.

    Examples
    --------
    >>> quarter_turns = FunctionAction(
    ...     parse_group("C4"), lambda g, x: np.rot90(x, g, axes=(-2, -1)), any_size=True
    ... )
    >>> measure("model.onnx", "images/", action=quarter_turns)  # doctest: +SKIP
    """

    group: Group
    move: Move = field(repr=False)
    layout: Layout = field(default_factory=lambda: parse_layout("NCHW"))
    exactness: Sequence[Exactness] = (Exactness.INDEX,)
    name: str = "function"
    any_size: bool = False
    shape: tuple[int, ...] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        n = check_group(self.group).order
        if not callable(self.move):
            raise GeedError(
                f"action {self.name!r}: move is a function of (g, x), found {shown(self.move)}"
            )
        object.__setattr__(self, "layout", _layout(self.name, self.layout))
        object.__setattr__(self, "exactness", _exactness(self.name, self.exactness, n))

    def exact(self) -> tuple[Exactness, ...]:
        """How each element acts, as it was said."""
        return tuple(self.exactness)

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements that leave noise as it is, on tensors of a known shape.

        Raises
        ------
        GeedError
            If no shape is known; :meth:`at` gives one.
        """
        if self.shape is None:
            raise GeedError(
                f"action {self.name!r}: which elements act as the identity depends on the tensor; "
                "ask at(layout, shape) first"
            )
        return _idle(self, self.shape)

    def apply(self, g: int, y: NDArray[Any]) -> NDArray[Any]:
        """Return what the function makes of ``y``."""
        return self.move(g, y)

    def at(self, layout: Layout, shape: tuple[int, ...]) -> FunctionAction | None:
        """Return the same for tensors of another size, if it is for any."""
        if layout != self.layout or not self.any_size:
            return None
        sized = replace(self)
        object.__setattr__(sized, "shape", shape)
        return sized


@dataclass(frozen=True)
class IndexAction:
    """An action that gathers along some axes: ``out[i] = in[table[g, i]]``.

    Parameters
    ----------
    group : Group
        The acting group, a named one or one's own.
    axes : str
        Letters of the axes, such as ``C`` for a permutation of channels, or ``HW`` for one of
        pixels, numbered row by row.
    table : ndarray of int64, shape (n, k)
        One row an element, each a permutation of 0..k−1; k is the product of the axes' lengths.
    layout : str or Layout
        One letter an axis; those of the model's input, in any order, N first.
    name : str
        What reports call it.

    Raises
    ------
    GeedError
        If the layout has no such axes.
        If the table is not one row an element, each a permutation.

    Examples
    --------
    >>> swap = IndexAction(parse_group("flip-h"), "C", [[0, 1, 2], [2, 1, 0]])
    >>> measure("model.onnx", "images/", action=swap)  # doctest: +SKIP
    """

    group: Group
    axes: str
    table: NDArray[np.int64] = field(repr=False, compare=False)
    layout: Layout = field(default_factory=lambda: parse_layout("NCHW"))
    name: str = "index"

    def __post_init__(self) -> None:
        n = check_group(self.group).order
        layout = _layout(self.name, self.layout)
        if not self.axes or not {*self.axes} <= {*layout.letters[1:]}:
            raise GeedError(
                f"action {self.name!r}: axes {self.axes!r} are none of layout {layout}: name some "
                f"of {layout.letters[1:]}"
            )
        try:
            table = np.asarray(self.table)
        except ValueError:
            raise GeedError(f"action {self.name!r}: rows of the table differ in length") from None
        if table.ndim != 2 or len(table) != n or table.dtype.kind not in "iu":
            raise GeedError(
                f"action {self.name!r}: a table for {self.group.name} is of whole numbers ({n}, k),"
                f" one row an element; found {table.dtype} {table.shape}"
            )
        if (np.sort(table, axis=1) != np.arange(table.shape[1])).any():
            raise GeedError(
                f"action {self.name!r}: every row of the table holds each of 0 to "
                f"{table.shape[1] - 1} once"
            )
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "table", table.astype(np.int64))

    def exact(self) -> tuple[Exactness, ...]:
        """Every element is an index."""
        return (Exactness.INDEX,) * self.group.order

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements whose row leaves every entry in place."""
        here = np.arange(self.table.shape[1])
        return tuple(int(g) for g in np.flatnonzero((self.table == here).all(axis=1)))

    def apply(self, g: int, y: NDArray[Any]) -> NDArray[Any]:
        """Gather along the axes.

        Raises
        ------
        GeedError
            If their lengths are not those that the table is for.
        """
        first = y.ndim - len(self.layout.letters) + 1
        along = [first + self.layout.letters[1:].index(letter) for letter in self.axes]
        ends = list(range(y.ndim - len(along), y.ndim))
        moved = np.moveaxis(y, along, ends)
        lengths = moved.shape[ends[0] :]
        if int(np.prod(lengths)) != self.table.shape[1]:
            raise GeedError(
                f"action {self.name!r}: its table has {self.table.shape[1]} entries, axes "
                f"{self.axes} are {' × '.join(map(str, lengths))}"
            )
        flat = moved.reshape(*moved.shape[: ends[0]], -1)
        gathered = flat[..., self.table[g]].reshape(moved.shape)
        return np.moveaxis(gathered, ends, along)

    def at(self, layout: Layout, shape: tuple[int, ...]) -> IndexAction | None:
        """Return the same for hidden maps on the very grid; of their channels it says nothing."""
        letters = layout.letters[1:]
        if "C" in self.axes or not {*self.axes} <= {*letters}:
            return None
        lengths = [shape[letters.index(letter)] for letter in self.axes]
        if int(np.prod(lengths)) != self.table.shape[1]:
            return None
        return replace(self, layout=layout)


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
        """What reports call it."""
        return self.action.name

    def exact(self) -> tuple[Exactness, ...]:
        """How each element acts, as the action says."""
        return _exactness(self.name, self.action.exact(), self.group.order)

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements that leave noise as it is, within 1e-6."""
        return self._idle

    @functools.cached_property
    def _idle(self) -> tuple[int, ...]:
        return _idle(self, self.shape)

    def apply(self, g: int, y: NDArray[Any]) -> NDArray[Any]:
        """Move ``y`` (..., *shape) by element ``g``.

        Raises
        ------
        GeedError
            If the action fails, or changes shape or dtype, or gives NaN or infinity.
        """
        order, back = self._order
        # A copy, so that a function may well change what it gets.
        x = np.array(y.reshape(-1, *self.shape).transpose(order), order="C")
        element = f"action {self.name!r}: element {self.group.elements[g]}"
        shape, dtype = x.shape, x.dtype
        try:
            moved = self.action.apply(g, x)
        except GeedError:
            raise
        except Exception as error:  # whatever a user's function raises
            kind = type(error).__name__
            raise GeedError(f"{element} fails on an array of {shape}: {kind}: {error}") from error
        if isinstance(self.action, GridAction) and isinstance(moved, np.ndarray):
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
        kept, own = self.layout.letters, _layout(self.name, self.action.layout).letters
        return tuple(map(kept.index, own)), tuple(map(own.index, kept))


def place(action: Action, layout: Layout, shape: Sequence[int]) -> GridAction | PlacedAction:
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
    GridAction or PlacedAction
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
    check_group(action.group)
    own = _layout(action.name, action.layout)
    kept = "N" + "".join(layout.letters[1 + axis] for axis in layout.planes_last)
    if sorted(own.letters) != sorted(kept):
        raise GeedError(
            f"action {action.name!r}: acts on layout {own}, the tensor is {layout}: give the "
            "action a layout of the same letters"
        )
    if isinstance(action, GridAction) and action.channels is None:
        if action.shape != tuple(shape[-2:]):
            height, width = shape[-2:]
            raise GeedError(
                f"action {action.name!r}: is for grids of {action.shape[0]}×{action.shape[1]}, the "
                f"tensor's is {height}×{width}"
            )
        return action
    placed = PlacedAction(action, parse_layout(kept), tuple(shape))
    _check_composition(placed)
    return placed


def _as_tables(action: PlacedAction) -> GridAction | None:
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
    tables = replace(
        still_grid(action.group, height, width),
        permutation=np.ascontiguousarray(pixels[:, 0], dtype=np.int32),
        channels=None if still.all() else planes[..., 0],
    )
    # A function may look at the values, and then numbers tell nothing.
    x = cast("NDArray[Any]", _noise(action.shape))
    same = (np.array_equal(tables.apply(g, x), action.apply(g, x)) for g in elements)
    return tables if all(same) else None


def tables_of(action: GridAction | PlacedAction) -> GridAction:
    """Return an action whose tables a graph can be made of.

    Raises
    ------
    GeedError
        If it is one's own, which only its functions carry out.
    """
    if isinstance(action, GridAction):
        return action
    raise GeedError(f"the action {action.name!r} is a function of your own, not nodes of a graph")


def _layout(name: str, layout: object) -> Layout:
    if isinstance(layout, Layout | str):
        return parse_layout(str(layout))
    raise GeedError(
        f"action {name!r}: its layout is a text such as NCHW, one letter an axis; found "
        f"{shown(layout)}"
    )


def _exactness(name: str, words: object, n: int) -> tuple[Exactness, ...]:
    """Return how each element acts, from one word for all or one each."""
    if isinstance(words, str | Exactness):
        words = (words,)
    entries = list(words) if isinstance(words, Sequence | np.ndarray) else []
    if len(entries) == 1:
        entries *= n
    try:
        kinds = tuple(Exactness(entry) for entry in entries)
    except ValueError:
        kinds = ()
    if len(kinds) != n:
        raise GeedError(
            f"action {name!r}: of each of the {n} elements it says index, matrix or resampled; "
            f"found {shown(words)}"
        )
    return kinds


def _noise(shape: tuple[int, ...]) -> F32:
    return np.random.default_rng(0).random((1, *shape), dtype=np.float32)


def _idle(action: Action, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements that leave noise of a shape as it is, within 1e-6."""
    x = cast("NDArray[Any]", _noise(shape))
    moved = (_apart(action.apply(g, x.copy()), x) for g in range(action.group.order))
    return tuple(g for g, change in enumerate(moved) if change <= IDENTITY_TOLERANCE)


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one - other).max(initial=0.0))


def _check_composition(action: PlacedAction) -> None:
    group, kinds, x = action.group, action.exact(), cast("NDArray[Any]", _noise(action.shape))
    moved = [action.apply(g, x) for g in range(group.order)]

    def allowed(*elements: int) -> float:
        index = all(kinds[g] is Exactness.INDEX for g in elements)
        return 0.0 if index else _COMPOSITION_TOLERANCE

    away = _apart(moved[0], x)
    if away > allowed(0):
        raise GeedError(
            f"action {action.name!r}: its identity {group.elements[0]} changes a tensor, by up to "
            f"{away:.3g}; element 0 leaves everything as it is"
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
                    f"action {action.name!r}: is none of {group.name}: φ({a}, φ({b}, x)) is not "
                    f"φ({c}, x), they differ by up to {away:.3g}; make it compose as the group's "
                    "table says, or say that these elements are resampled"
                )
