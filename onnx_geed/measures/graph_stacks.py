"""The sums behind eq. (5) as ONNX nodes: maps that move alike lie in one stack, summed together.

On a card each node costs some microseconds, however little it does: tens of nodes for every map
took longer than the model. Cosines and their means are left to the loops that take such sums.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import TensorProto

from onnx_geed.groups import parse_layout, tables_of
from onnx_geed.measures.feature_maps import needs_sums_alone
from onnx_geed.measures.graph_actions import moved_rows
from onnx_geed.measures.graph_deviations import activation_nodes
from onnx_geed.measures.graph_formulas import sum_of_squares
from onnx_geed.measures.layer import Layer
from onnx_geed.measures.measure import Measure
from onnx_geed.model import Nodes

__all__ = ["MapStack", "StackSums", "stack_bytes", "stack_sum_nodes", "stacks_of"]

# Bytes of one sample's maps. Choice: small ones go together up to here, which takes little memory.
_SMALL = 1 << 18


@dataclass(frozen=True)
class MapStack:
    """Measures of maps that move alike, one a layer: the channels of one behind those of another.

    Parameters
    ----------
    measures : tuple of Measure
        At least one, in the order of their channels.
    layers : tuple of Layer
        Their tensors.
    """

    measures: tuple[Measure, ...]
    layers: tuple[Layer, ...]

    @property
    def bytes(self) -> int:
        """Size of one sample's maps in float32."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def channels(self) -> int:
        """Number of channels of all layers."""
        return sum(layer.channels for layer in self.layers)

    @functools.cached_property
    def parts(self) -> tuple[tuple[Measure, slice], ...]:
        """Each measure with its channels among those of the stack."""
        ends = list(itertools.accumulate((layer.channels for layer in self.layers), initial=0))
        return tuple(zip(self.measures, map(slice, ends, ends[1:]), strict=True))


@dataclass(frozen=True)
class StackSums:
    """Tensors that a stack leaves behind, float64, shape (N, n, C) each, C the stack's channels.

    Parameters
    ----------
    stack : MapStack
        The measures that they are for.
    products, squares, expected : str
        Σ u·v, Σ u² and Σ v² over the compared pixels, u of f(gx) and v of φ_Y(g) f̂(x).
    energy : str
        Σ u² over all pixels, ``squares`` again where all are compared: not finite where the model
        gave NaN or infinity.
    """

    stack: MapStack = field(repr=False)
    products: str
    squares: str
    expected: str
    energy: str

    @property
    def names(self) -> tuple[str, ...]:
        """Each of them once."""
        return tuple(dict.fromkeys((self.products, self.squares, self.expected, self.energy)))


def stack_bytes(layers: Mapping[str, Layer]) -> int:
    """Return the most bytes of one sample's maps in a stack of some of these layers.

    Choice: as many as the largest layer has, so that several together take no more memory than it.
    """
    sizes = [layer.bytes for layer in layers.values()]
    return max([*sizes, min(_SMALL, sum(sizes))])


def stacks_of(
    measures: Iterable[Measure], layers: Mapping[str, Layer], largest: int
) -> list[MapStack]:
    """Divide the measures that sums alone are needed for into stacks.

    Parameters
    ----------
    measures : iterable of Measure
        Of any kind.
    layers : mapping of str to Layer
        Their tensors, by name.
    largest : int
        Most bytes of one sample's maps in a stack of several, as :func:`stack_bytes` returns it; 0
        for each map by itself.

    Returns
    -------
    list of MapStack
        Each such measure is in one; measures of other kinds, and those whose φ_Y moves channels,
        are in none.
    """
    stacks: list[MapStack] = []
    growing: dict[tuple[object, ...], int] = {}
    for measure in measures:
        if not _stacks(measure):
            continue
        layer = layers[measure.layer]
        alone, key = MapStack((measure,), (layer,)), _alike(measure, layer)
        at = growing.get(key) if key else None
        if at is not None and stacks[at].bytes + layer.bytes <= largest:
            stacks[at] = _joined(stacks[at], alone)
            continue
        if key:
            growing[key] = len(stacks)
        stacks.append(alone)
    return stacks


def _stacks(measure: Measure) -> bool:
    if not needs_sums_alone(measure) or measure.other_reading() is not None:
        return False
    action = tables_of(measure.action)
    return action.channels is None and action.channel_matrices is None


def _alike(measure: Measure, layer: Layer) -> tuple[object, ...]:
    """Return what layers of one stack have in common; nothing where one lies alone."""
    axis, action = _channel_axis(layer), tables_of(measure.action)
    if axis is None:
        return ()
    others = layer.shape[: axis - 1] + layer.shape[axis:]
    return (measure.name, layer.layout, others, id(action.moves), action.fixed, measure.support)


def _channel_axis(layer: Layer) -> int | None:
    """Return the axis of a tensor (N, ...) that its channels lie on, if there is just one."""
    layout, rank = parse_layout(layer.layout), len(layer.shape) + 1
    if layout.grid is not None:
        return rank - 1
    if layout.rank != rank or layout.channels != 1:
        return None
    return layout.letters.index(layout.kept[0])


def _joined(stack: MapStack, other: MapStack) -> MapStack:
    return MapStack(stack.measures + other.measures, stack.layers + other.layers)


def stack_sum_nodes(nodes: Nodes, stack: MapStack, order: int) -> StackSums:
    """Write the sums of a stack.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    stack : MapStack
        The measures and their tensors, shape (N·n, ...) each.
    order : int
        n.

    Returns
    -------
    StackSums

    Notes
    -----
    ::

        maps → Concat ┬ f(gx) ── pixels ─ u ┬ Mul u·v → ReduceSum
                      └ f̂(x) → action ─── v ┼ Mul u·u → ReduceSum
                                            └ Mul v·v → ReduceSum
        of a disk: f(gx), all pixels → Mul → ReduceSum (energy)
    """
    measure, layer = stack.measures[0], stack.layers[0]
    tensor = layer.name
    if len(stack.layers) > 1:
        axis = _channel_axis(layer)
        assert axis is not None
        singles = [
            nodes.cast(one.name, TensorProto.FLOAT, f"float32/{k}")
            for k, one in enumerate(stack.layers)
        ]
        tensor = nodes.add("Concat", singles, "stacked", axis=axis)
        shape = list(layer.shape)
        shape[axis - 1] = sum(one.shape[axis - 1] for one in stack.layers)
        layer = replace(layer, shape=tuple(shape))
    y = activation_nodes(nodes.within("maps"), tensor, layer, order, measure)
    action = tables_of(measure.action)
    inside, pixels, picked = action.inside(measure.support), None, y
    if inside is not None:
        pixels = np.flatnonzero(inside).astype(np.int32)
        picked = nodes.gather(y, nodes.constant("disk", pixels), 3, "inside_disk")
    reference = nodes.gather(y, nodes.constant("identity", np.int64(0)), 1, "f_hat")
    rows = stack.channels * action.fixed
    expected = moved_rows(nodes, reference, action, rows, range(order), pixels)
    u = nodes.cast(picked, TensorProto.DOUBLE, "f_gx/float64")
    v = nodes.cast(expected, TensorProto.DOUBLE, "g_fx/float64")
    if action.fixed > 1:  # a channel's rows are compared together
        size = action.fixed * (action.moves.size if pixels is None else len(pixels))
        u = nodes.reshape(u, [-1, order, stack.channels, size], "f_gx/channels")
        v = nodes.reshape(v, [-1, order, stack.channels, size], "g_fx/channels")
    both = nodes.total(nodes.add("Mul", [u, v], "both/products"), 3, "both/sum")
    squares = sum_of_squares(nodes, u, 3, "f_gx")
    energy = squares
    if pixels is not None:  # outside the disk nothing is compared, but NaN is refused there too
        whole = nodes.cast(y, TensorProto.DOUBLE, "everywhere")
        if action.fixed > 1:
            size = action.fixed * action.moves.size
            whole = nodes.reshape(whole, [-1, order, stack.channels, size], "everywhere/channels")
        energy = sum_of_squares(nodes, whole, 3, "everywhere")
    return StackSums(stack, both, squares, sum_of_squares(nodes, v, 3, "g_fx"), energy)
