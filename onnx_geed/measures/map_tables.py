"""The sums behind eq. (5) of many layers: tables worked out once, and one call a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, LayoutAction, PlacedAction, still_action
from onnx_geed.measures.catalogue import Support
from onnx_geed.measures.map_memory import lanes_of
from onnx_geed.measures.measure import Measure
from onnx_geed.whole import whole

__all__ = ["MapSums", "map_sums"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


@dataclass(frozen=True)
class MapSums:
    """What the sums of some measures of maps need of actions and supports, for compiled loops.

    Made by :func:`map_sums`.

    Parameters
    ----------
    actions : tuple of LayoutAction or PlacedAction
        φ_Y of each layer.
    supports : tuple of {"full", "disk"}
        Pixels of each that are compared.
    elements : tuple of int
        Elements of the group, in the order of the maps.
    layers : ndarray of LAYER, shape (layers,)
        Where each layer's tables begin.
    tables : ndarray of int32, shape (entries,)
        All small tables, of rows, elements and runs.
    held : tuple of ndarray
        Pixels and weights as the actions have them: the loops read them where they lie.
    """

    actions: tuple[LayoutAction | PlacedAction, ...]
    supports: tuple[Support, ...]
    elements: tuple[int, ...]
    layers: NDArray[np.void] = field(repr=False, compare=False)
    tables: I32 = field(repr=False, compare=False)
    held: tuple[NDArray[Any], ...] = field(repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # Addresses are those of this process.
        return of_actions, (list(zip(self.actions, self.supports, strict=True)), self.elements)

    def of(self, maps: Sequence[F32], references: Sequence[F32]) -> list[F64]:
        """Return the sums of each layer's maps against its moved references.

        Parameters
        ----------
        maps : sequence of ndarray of float32, shape (N, elements, rows, F)
            f(gx) of each layer, F entries for each channel, or for each of its fixed parts.
        references : sequence of ndarray of float32, shape (N, rows, F)
            f̂(x) of each layer, which the action moves: of the same samples or of others. Those
            of several orbits may lie apart, as the maps of the identity do.

        Returns
        -------
        list of ndarray of float64, shape (N, elements, C, 3)
            Σ u·v, Σ u² and Σ v² of each channel.

        Raises
        ------
        GeedError
            If an array's shape is another one.
        """
        return self.of_both(maps, references)[0]

    def of_both(
        self,
        maps: Sequence[F32],
        references: Sequence[F32],
        before: Sequence[F32] = (),
        following: int = 0,
    ) -> tuple[list[F64], list[F64]]:
        """Return the sums of :meth:`of`, and those against references of the samples before.

        The maps are read from memory once for both.

        Parameters
        ----------
        maps, references : sequence of ndarray of float32
            As in :meth:`of`.
        before : sequence of ndarray of float32, shape (1, rows, F)
            f̂ of the sample before the first one; none where that is not compared.
        following : int
            So many of the samples behind the first are compared, each with the one before it.

        Returns
        -------
        own : list of ndarray of float64, shape (N, elements, C, 3)
            Σ u·v, Σ u² and Σ v² of each channel.
        between : list of ndarray of float64, shape (N, elements, C, 3)
            The same, v being of the sample before; zero where there is none.

        Raises
        ------
        GeedError
            If an array's shape is another one.
        """
        # Loaded late, like every loop.
        with whole():
            from onnx_geed.measures.layer_sums import sums_of_layers
            from onnx_geed.measures.map_kernels import BATCH

        held, batch, parts = [], [], list[tuple[int, int, tuple[int, ...], int]]()
        orbits, elements, out = len(maps[0]) if maps else 0, len(self.elements), 0
        earlier: Sequence[F32 | None] = before or [None] * len(maps)
        areas = self.layers["area"].tolist()
        twice = bool(before or following)
        layers = zip(self.actions, areas, maps, references, earlier, strict=True)
        for action, area, u, v, w in layers:
            channels = _rows_of(action) or u.shape[2]
            size, begin = channels * area, out
            if u.shape[:3] != (orbits, elements, channels) or u.size != orbits * elements * size:
                raise GeedError(_misfit("maps", (orbits, elements, channels, area), u.shape))
            if v.shape[:2] != (orbits, channels) or v.size != orbits * size:
                raise GeedError(_misfit("references", (orbits, channels, area), v.shape))
            if w is not None and (w.shape[:2] != (1, channels) or w.size != size):
                raise GeedError(_misfit("a reference before", (1, channels, area), w.shape))
            if u.dtype != np.float32 or not u.flags.c_contiguous:
                u = np.ascontiguousarray(u, dtype=np.float32)
            of_element = size if isinstance(action, PlacedAction) else 0
            v, w = self._readable(action, v), None if w is None else self._readable(action, w)
            # The arrays themselves are held until the loops are done with their memory.
            held.append((u, v, w))
            addresses = _address(u), _address(v), 0 if w is None else _address(w)
            filled = 3 * orbits * elements * channels
            out += filled
            between = out if twice else -1
            out += filled if twice else 0
            strides = v.strides[0] // 4, of_element
            batch.append((*addresses, channels, *strides, begin, between))
            parts.append((begin, between, (orbits, elements, channels, 3), action.fixed))
        sums = np.zeros(out)
        if out:
            layers_of = np.array(batch, dtype=BATCH)
            sums_of_layers(self.layers, self.tables, layers_of, orbits, elements, following, sums)

        def found(start: int, shape: tuple[int, ...], fixed: int) -> F64:
            return _of_channels(sums[start : start + math.prod(shape)].reshape(shape), fixed)

        return (
            [found(begin, shape, fixed) for begin, _, shape, fixed in parts],
            [found(between, shape, fixed) for _, between, shape, fixed in parts if twice],
        )

    def _readable(self, action: LayoutAction | PlacedAction, references: F32) -> F32:
        """Return references as the loops read them, moved where they cannot do that."""
        if isinstance(action, PlacedAction):
            return self._moved(action, references)
        plain = references.dtype == np.float32 and references[:1].flags.c_contiguous
        if plain and _ahead(references):
            return references
        return np.ascontiguousarray(references, dtype=np.float32)

    def _moved(self, action: PlacedAction, references: F32) -> F32:
        """Return references moved by an action of one's own, (N, elements, C, H·W)."""
        flat = references.reshape(-1, *action.shape)
        moved = [action.apply(g, flat).reshape(references.shape) for g in self.elements]
        return np.ascontiguousarray(np.stack(moved, axis=1), dtype=np.float32)


def _address(array: F32) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _ahead(references: F32) -> bool:
    """Whether each orbit's references lie a whole number of entries behind the one before."""
    return references.strides[0] >= 0 and references.strides[0] % 4 == 0


def _rows_of(action: LayoutAction | PlacedAction) -> int | None:
    """Return how many rows an action is for, if that many and no others."""
    if isinstance(action, PlacedAction):
        return action.rows
    return None if action.channels is None else action.channels.shape[1] * action.fixed


def _of_channels(sums: F64, fixed: int) -> F64:
    """Return the sums of channels from those of their rows, of which each has ``fixed``."""
    if fixed == 1:
        return sums
    whole: F64 = sums.reshape(*sums.shape[:2], -1, fixed, 3).sum(axis=3)
    return whole


def _misfit(name: str, expected: tuple[object, ...], shape: tuple[int, ...]) -> str:
    wanted = ", ".join(map(str, expected))
    return f"{name} of another shape than the tables are for: ({wanted}) and {shape}"


def map_sums(measures: Sequence[Measure], elements: Sequence[int] | None = None) -> MapSums:
    """Work out what the sums of some measures of maps need.

    Parameters
    ----------
    measures : sequence of Measure
        One a layer, of feature maps, under one group.
    elements : sequence of int, optional
        Elements of the group whose maps there are, in their order; all by default.

    Returns
    -------
    MapSums
        It resamples no more than these elements need.
    """
    return of_actions([(m.action, m.support) for m in measures], elements)


def of_actions(
    moved: Sequence[tuple[Action, Support]], elements: Sequence[int] | None = None
) -> MapSums:
    """Work out what the sums under some actions, over some pixels, need, as :func:`map_sums`."""
    with whole():
        from onnx_geed.measures.map_kernels import LAYER

    actions = []
    for action, _ in moved:
        if not isinstance(action, LayoutAction | PlacedAction):
            raise TypeError(f"maps are moved by an action on a grid, not by {action!r}")
        actions.append(action)
    everything = range(actions[0].group.order) if actions else ()
    chosen = tuple(everything if elements is None else elements)
    tables, held = _Flat(), list[NDArray[Any]]()
    layers = np.zeros(len(actions), dtype=LAYER)
    known: dict[tuple[object, ...], int] = {}
    for n, (action, (_, support)) in enumerate(zip(actions, moved, strict=True)):
        # An action of one's own moves the maps itself, and they are compared as they are.
        grid = (
            still_action(action.group, action.layout, action.shape)
            if isinstance(action, PlacedAction)
            else action
        )
        key = (id(grid.moves), support if grid.inside(support) is not None else "full")
        if key in known:
            layers[n] = layers[known[key]]
        else:
            held += _write_pixels(layers[n], grid, support, chosen, tables)
            known[key] = n
        # The table says where a channel comes from; the loop over sources asks where it goes.
        table = grid.rows_of_channels()
        target = None if table is None else np.argsort(table[list(chosen)])
        layers[n]["target"] = -1 if target is None else tables.add(target)
    supports = tuple(support for _, support in moved)
    return MapSums(tuple(actions), supports, chosen, layers, tables.array(), tuple(held))


class _Flat:
    """Arrays of whole numbers that become one, one behind the other."""

    def __init__(self) -> None:
        self._arrays: list[I32] = [np.empty(0, dtype=np.int32)]
        self._size = 0

    def add(self, array: NDArray[Any]) -> int:
        """Add an array and return where it begins."""
        begin = self._size
        self._arrays.append(array.ravel().astype(np.int32))
        self._size += array.size
        return begin

    def array(self) -> I32:
        """Return all of them."""
        return np.concatenate(self._arrays)


def _write_pixels(
    layer: NDArray[np.void],
    grid: LayoutAction,
    support: Support,
    elements: Sequence[int],
    tables: _Flat,
) -> list[NDArray[Any]]:
    """Write down what a layer's loops need of a grid; return the arrays that they read."""
    moves = grid.moves
    source, gathered, row_of, backwards = moves.rows
    area, bases = moves.size, len(moves.index)
    chosen = list(elements)
    # A row of all elements: the base it shows, and by which pixels it is gathered.
    origin = [
        *((base, -1) for base in range(bases + 1)),
        *((base, i) for i, base in enumerate(source.tolist())),
    ]
    rows = sorted(set(row_of[chosen].tolist()) - {0})
    resampled = sorted({origin[r][0] for r in rows} - {0})
    of_rows = [
        (resampled.index(base) + 1 if base else 0, by) for base, by in (origin[r] for r in rows)
    ]
    inside = grid.inside(support)
    runs = np.array([[0, area]]) if inside is None else _runs(np.flatnonzero(inside))
    held: list[NDArray[Any]] = [
        np.ascontiguousarray(moves.index, dtype=np.int32),
        np.ascontiguousarray(moves.weight, dtype=np.float64),
        np.ascontiguousarray(gathered, dtype=np.int32),
    ]
    for name, array in zip(("index", "weight", "gathered"), held, strict=True):
        layer[name] = array.__array_interface__["data"][0]
    layer["area"], layer["taps"] = area, moves.index.shape[2]
    layer["bases"] = len(resampled)
    layer["base"] = tables.add(np.array([base - 1 for base in resampled], dtype=np.int32))
    layer["rows"], layer["row"] = len(rows), tables.add(np.array(of_rows, dtype=np.int32))
    places = [rows.index(r) + 1 if r else 0 for r in row_of[chosen].tolist()]
    layer["row_of"] = tables.add(np.array(places, dtype=np.int32))
    layer["backwards"] = tables.add(backwards[chosen])
    layer["runs"], layer["run"] = len(runs), tables.add(runs)
    layer["lanes"] = lanes_of(area, len(rows), len(resampled))
    return held


def _runs(pixels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the first pixel of each run of neighbours, and the one behind its last, (runs, 2)."""
    ends = np.flatnonzero(np.diff(pixels) != 1)
    first = np.concatenate([pixels[:1], pixels[ends + 1]])
    last = np.concatenate([pixels[ends], pixels[-1:]])
    return np.stack([first, last + 1], axis=1)
