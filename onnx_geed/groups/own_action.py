"""Actions of one's own, written as a function or as a table of indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups.action import Action
from onnx_geed.groups.exactness import IDENTITY_TOLERANCE, Exactness
from onnx_geed.groups.group import Group, check_group
from onnx_geed.groups.layout import Layout, axes_called, parse_layout
from onnx_geed.groups.moving import array_to_move
from onnx_geed.typed import as_array, check_value

__all__ = [
    "FunctionAction",
    "IndexAction",
    "kernel_on_noise",
    "noise",
    "own_exactness",
    "own_layout",
]

F32 = NDArray[np.float32]

Move = Callable[[int, NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class FunctionAction:
    """An action defined by a function.

    Parameters
    ----------
    group : Group
        The acting group, a named one or your own.
    move : callable
        ``move(g, x)`` returns ``x`` moved by the element with index g: an array of the same shape
        and dtype. ``x`` contains some samples; its axes are those of the layout, samples first.
    layout : str or Layout
        One letter per axis: those of the model's input, in any order, N first.
    exactness : str, Exactness or sequence of them
        How the elements act, one value for all or one per element: ``index`` (entries change
        places), ``matrix`` or ``resampled``.
    name : str
        Its name in reports.
    any_size : bool
        Whether ``move`` also moves tensors of other sizes. Then it says how hidden maps of the same
        layout move, for ``channel-cos``.

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
        check_value("name", self.name, str)
        check_value("any_size", self.any_size, bool)
        if not callable(self.move):
            raise GeedError(
                f"action {self.name!r}: move is a function of (g, x), found {shown(self.move)}"
            )
        object.__setattr__(self, "layout", own_layout(self.name, self.layout))
        object.__setattr__(self, "exactness", own_exactness(self.name, self.exactness, n))

    def exact(self) -> tuple[Exactness, ...]:
        """How each element acts, as the user says."""
        return tuple(self.exactness)

    def kernel_of_action(self) -> tuple[int, ...]:
        """Elements that leave noise unchanged, on tensors of a known shape.

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
        return kernel_on_noise(self, self.shape)

    def apply(self, g: int, y: NDArray[Any]) -> NDArray[Any]:
        """Apply the function to ``y``."""
        return self.move(g, array_to_move(self, g, y))

    def at(self, layout: Layout, shape: tuple[int, ...]) -> FunctionAction | None:
        """Return the same action for tensors of another size, if it allows any size.

        Their axes may stand in another order; the function gets them in its own.
        """
        theirs, own = layout.letters[1:], self.layout.letters[1:]
        if sorted(theirs) != sorted(own) or not self.any_size:
            return None
        sized = replace(self)
        object.__setattr__(sized, "shape", tuple(shape[axis] for axis in axes_called(own, theirs)))
        return sized


@dataclass(frozen=True)
class IndexAction:
    """An action that permutes entries along some axes: ``out[i] = in[table[g, i]]``.

    Parameters
    ----------
    group : Group
        The acting group, a named one or your own.
    axes : str
        Letters of the axes, such as ``C`` for a permutation of channels, or ``HW`` for one of
        pixels, numbered row by row. Of a letter that stands twice (``PP``) both axes move.
    table : ndarray of int64, shape (n, k)
        One row per element, each a permutation of 0..k−1; k is the product of the axes' lengths.
    layout : str or Layout
        One letter per axis: those of the model's input, in any order, N first.
    name : str
        Its name in reports.

    Raises
    ------
    GeedError
        If the layout has no such axes, or one of several stands twice.
        If the table does not have one row per element, each a permutation.

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
        check_value("name", self.name, str)
        layout = own_layout(self.name, self.layout)
        known = isinstance(self.axes, str) and {*self.axes} <= {*layout.letters[1:]}
        if not known or not self.axes or len({*self.axes}) < len(self.axes):
            raise GeedError(
                f"action {self.name!r}: axes {shown(self.axes)!r} are not in layout {layout}: "
                f"choose from {layout.letters[1:]}, each once"
            )
        if len(self.axes) > 1 and _repeated(self.axes, layout.letters):
            raise GeedError(
                f"action {self.name!r}: axes {self.axes} are numbered together, and "
                f"{_repeated(self.axes, layout.letters)} stands twice in layout {layout}: write "
                "it as a FunctionAction"
            )
        table = as_array(f"action {self.name!r}: table", self.table)
        if table.ndim != 2 or len(table) != n or table.dtype.kind not in "iu":
            raise GeedError(
                f"action {self.name!r}: a table for {self.group.name} must hold whole numbers of "
                f"shape ({n}, k), one row per element; found {table.dtype} {table.shape}"
            )
        if (np.sort(table, axis=1) != np.arange(table.shape[1])).any():
            raise GeedError(
                f"action {self.name!r}: every row of the table must hold each of 0 to "
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
            If their lengths do not fit the table.
        """
        y = array_to_move(self, g, y)
        if y.ndim < len(self.layout.letters) - 1:
            raise GeedError(
                f"action {self.name!r}: y has the axes of {self.layout}, found {y.shape}"
            )
        letters, ahead = self.layout.letters[1:], y.ndim - len(self.layout.letters) + 1
        if len(self.axes) > 1:
            return self._gathered(g, y, [ahead + letters.index(letter) for letter in self.axes])
        for axis, letter in enumerate(letters):
            if letter == self.axes:
                y = self._gathered(g, y, [ahead + axis])
        return y

    def _gathered(self, g: int, y: NDArray[Any], along: Sequence[int]) -> NDArray[Any]:
        """Gather along some axes, numbered together."""
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
        """Return the same action for hidden maps on the same grid, whose channels stay."""
        letters = layout.letters[1:]
        if "C" in self.axes or not {*self.axes} <= {*letters}:
            return None
        lengths = [n for letter, n in zip(letters, shape, strict=True) if letter in self.axes]
        if len(self.axes) == 1:  # each axis of the letter by itself
            fits = set(lengths) == {self.table.shape[1]}
        else:
            together = int(np.prod(lengths)) == self.table.shape[1]
            fits = together and not _repeated(self.axes, letters)
        return replace(self, layout=layout) if fits else None


def _repeated(axes: str, letters: str) -> str:
    """Return the letters of some axes that stand twice in a layout."""
    return "".join(letter for letter in axes if letters.count(letter) > 1)


def own_layout(name: str, layout: object) -> Layout:
    """Return the layout that an action of one's own has, from a text or a :class:`Layout`.

    Parameters
    ----------
    name : str
        The action's, for the message.
    layout : object
        As the user wrote it.

    Returns
    -------
    Layout

    Raises
    ------
    GeedError
        If it is neither, or no layout.
    """
    if isinstance(layout, Layout | str):
        return parse_layout(str(layout))
    raise GeedError(
        f"action {name!r}: its layout is a text such as NCHW, one letter an axis; found "
        f"{shown(layout)}"
    )


def own_exactness(name: str, words: object, n: int) -> tuple[Exactness, ...]:
    """Return how each element of an action of one's own acts.

    Parameters
    ----------
    name : str
        The action's, for the message.
    words : str, Exactness or sequence of them
        One for all elements, or one each.
    n : int
        Order of the group.

    Returns
    -------
    tuple of Exactness
        One an element.

    Raises
    ------
    GeedError
        If a word is none of index, matrix and resampled, or there are not n of them.
    """
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


def noise(shape: tuple[int, ...]) -> F32:
    """Return one sample of seeded noise in [0, 1), (1, *shape), on which actions are tried."""
    return np.random.default_rng(0).random((1, *shape), dtype=np.float32)


def kernel_on_noise(action: Action, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ker(φ) as noise shows it: the elements that leave it as it is, within 1e-6.

    Parameters
    ----------
    action : Action
        One's own.
    shape : tuple of int
        Shape of one sample, the axes in the order that the action takes.

    Returns
    -------
    tuple of int
        Indices of the elements.
    """
    x = cast("NDArray[Any]", noise(shape))
    moved = (action.apply(g, x.copy()) for g in range(action.group.order))
    changes = (float(np.abs(y - x).max(initial=0.0)) for y in moved)
    return tuple(g for g, change in enumerate(changes) if change <= IDENTITY_TOLERANCE)
