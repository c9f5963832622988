"""What the axes of each tensor are: letters, followed from the inputs through the graph."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import onnx

from onnx_geed.groups import MAP_LAYOUTS, parse_layout
from onnx_geed.model.axis_parts import Axes, Axis, length
from onnx_geed.model.dataflow import Flow
from onnx_geed.model.io import Model
from onnx_geed.model.letter_parts import taken_after
from onnx_geed.model.letter_reading import Places, Reading
from onnx_geed.model.letter_rules import axes_after
from onnx_geed.model.lettered_axes import (
    FOLDED,
    LOST,
    is_fixed,
    kind,
    lettered,
    lost,
    one_axis,
    sized,
    spelt,
)
from onnx_geed.model.map_layouts import map_layouts
from onnx_geed.model.nodes import constants, data_reads
from onnx_geed.model.shapes import Shape, Types, infer_fed

__all__ = ["find_layouts", "has_places", "kinds_apart", "may_hold_places"]

# Of inputs of these letters the maps are found as images' are.
_IMAGE = frozenset("NCHW")

# Letters of axes that hold features, and not places or components.
_FEATURES = "NCK"


def has_places(shape: Shape | None, layout: str) -> bool:
    """Whether a tensor has two places or more to be compared; a map at least 2×2.

    Free lengths may, and so may a map of which no length is known before it is run; tokens of no
    grid, ``NTD``, do not.
    """
    if shape is None:
        return layout in MAP_LAYOUTS
    if layout.startswith("NTD:"):
        return len(shape) == 3 and min(parse_layout(layout).grid or (0,)) >= 2
    if len(shape) != len(layout) or layout == "NTD":
        return False
    lengths = [n for n, x in zip(shape, layout, strict=True) if x not in _FEATURES]
    if layout in MAP_LAYOUTS:
        return all(n is None or n >= 2 for n in lengths)
    return bool(lengths) and (None in lengths or math.prod(n or 0 for n in lengths) >= 2)


def may_hold_places(shape: Shape | None, rows: int) -> bool:
    """Whether a tensor of unknown letters is of the shape of maps, sets or tokens.

    Parameters
    ----------
    shape : tuple of int or None, or None
        Its shape.
    rows : int
        Which axis is the batch.
    """
    if shape is None or not (len(shape) == 3 or (len(shape) == 4 and rows == 0)):
        return False
    lengths = [n for i, n in enumerate(shape) if i != rows]
    # Of three axes the middle one is a map's, whether its channels stand in front or behind.
    return sum(n != 1 for n in lengths) > 1 and (len(shape) == 3 or lengths[1] != 1)


def find_layouts(
    graph: onnx.GraphProto,
    flow: Flow,
    types: Types,
    stated: Mapping[str, str],
    more: Types | None = None,
) -> tuple[dict[str, str], set[str], set[str]]:
    """Find the layouts of tensors, as far as they are sure.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    flow : Flow
        How data flow in it.
    types : dict
        Dtypes and shapes.
    stated : mapping of str to str
        Layouts stated by the user or in the metadata, of inputs and of hidden tensors.
    more : dict, optional
        Dtypes and shapes for a larger batch, where that is free: it is told from axes of length 1.

    Returns
    -------
    layouts : dict
        By tensor; those of which it is not sure are absent.
    folded : set of str
        Tensors of which nothing but a Reshape tells that they are maps: they can be named, and are
        no defaults.
    still : set of str
        Tensors of which no group moves any entry, whether or not there is a layout for them.

    Notes
    -----
    Of images, operators on maps say where channels are; see :mod:`onnx_geed.model.map_layouts`. All
    other letters come from the inputs alone, through the rules of
    :mod:`onnx_geed.model.letter_rules`, and nothing is guessed.
    """
    of_inputs = [stated[name] for name in flow.starts if name in stated]
    still: set[str] = set()
    if all(set(text) <= _IMAGE and len(text) > 2 for text in of_inputs):
        layouts, folded = map_layouts(graph, flow, types, stated)
        if any(len(text) == 3 for text in of_inputs):  # a plane without channels is no token
            followed, still = _followed(graph, flow, more or types, stated)
            layouts |= {n: t for n, t in followed.items() if layouts.get(n) == "NTD"}
    else:
        layouts, still = _followed(graph, flow, more or types, stated)
        folded = set()
    return layouts | dict(stated), folded, still


def _followed(
    graph: onnx.GraphProto, flow: Flow, types: Types, stated: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """Follow letters from the inputs, node by node; say also what stays in place."""
    shapes = {name: shape for name, (_, shape) in types.items() if shape is not None}
    batch = next((shapes[name][0] for name in flow.starts if shapes.get(name)), None)
    known = _all_axes(graph, flow.tainted, shapes, _stated_axes(stated, shapes), stated, batch)
    texts = {name: spelt(axes) for name, axes in known.items()}
    still = {n for n, axes in known.items() if all(is_fixed(a) or kind(a) == "N" for a in axes)}
    return {name: text for name, text in texts.items() if text}, still


def kinds_apart(
    model: Model,
    layouts: Mapping[str, str],
    lengths: Mapping[str, Sequence[int]],
    others: Collection[str],
    letter: str,
) -> dict[str, tuple[str, ...]]:
    """Tell the axes of one set from those of others with the same letter.

    Parameters
    ----------
    model : Model
        The model.
    layouts : mapping of str to str
        Layouts of inputs.
    lengths : mapping of str to sequence of int
        Lengths of one sample of each.
    others : collection of str
        Those of the other sets.
    letter : str
        The letter.

    Returns
    -------
    dict of str to tuple of str
        Of all that is worked out from these inputs, the letter or kind of each axis: this letter
        only where it is surely of the one set, empty for a single entry, and
        :data:`~onnx_geed.model.lettered_axes.LOST` where it may be of another. No kinds where
        nothing is known.
    """
    graph = model.proto.graph
    batches = {i.name: i.type.tensor_type.shape.dim[:1] for i in graph.input}
    # A free batch of 3 is told from axes of length 1.
    batch = next((dim.dim_value for name in layouts for dim in batches[name]), 0) or 3
    shapes: dict[str, Shape] = {i.name: tuple(i.dims) for i in graph.initializer}
    shapes |= infer_fed(model.proto, {k: (batch, *own) for k, own in lengths.items()}).shapes
    start = _stated_axes(layouts, shapes)
    for name in others:
        axes = start.get(name, ())
        start[name] = tuple(lost(length(a)) if kind(a) == letter else a for a in axes)
    reached = set(layouts)
    for node in graph.node:
        if not reached.isdisjoint(data_reads(node)):
            reached.update(name for name in node.output if name)
    known = _all_axes(graph, reached, shapes, start, layouts, batch)

    def told(axis: Axis) -> str:
        own = kind(axis)
        return "" if own != "N" and length(axis) == 1 else LOST if own == FOLDED else own

    return {name: tuple(map(told, known.get(name, ()))) for name in reached}


def _stated_axes(stated: Mapping[str, str], shapes: Mapping[str, Shape]) -> dict[str, Axes]:
    known = {}
    for name, text in stated.items():
        layout = parse_layout(text)
        if layout.grid is None and len(shapes.get(name, text)) == len(text):
            known[name] = lettered(text, shapes.get(name))
    return known


def _all_axes(
    graph: onnx.GraphProto,
    reached: set[str],
    shapes: Mapping[str, Shape],
    known: dict[str, Axes],
    stated: Collection[str],
    batch: int | None,
) -> dict[str, Axes]:
    """Return the axes of all tensors where they are known, from those of inputs."""
    integers = constants(graph)
    taken: dict[str, int] = {}
    places = Places()
    for node in graph.node:
        if reached.isdisjoint(node.output):
            continue
        data = {n: known.get(n) for n in data_reads(node) if n in reached or n in known}
        reading = Reading(node, data, shapes, integers, batch, taken, places)
        after = axes_after(reading)
        for name, come_from in zip(node.output, taken_after(reading, after), strict=True):
            if come_from and name not in stated:
                taken[name] = come_from
        for name, axes in zip(node.output, after, strict=False):
            if axes is None or name in known:
                continue
            fitted = sized(axes, shapes.get(name))
            if fitted is not None:
                known[name] = _with_samples(fitted, batch)
    return known


def _with_samples(axes: Axes, batch: int | None) -> Axes:
    """Return axes with N in front, where a Reshape of the one sample has lost sight of it."""
    lost = batch == 1 and axes[:1] == ((),)
    if not lost or any(part.letter == "N" for axis in axes for part in axis):
        return axes
    return (one_axis("N", 1), *axes[1:])
