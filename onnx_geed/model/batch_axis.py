"""Which axis carries the batch: the leading one, until a Transpose or Reshape moves it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from onnx_geed.model.nodes import (
    ARITHMETIC,
    attribute,
    axis_of,
    constants,
    data_reads,
    integers_of,
    ops,
    stated_axes,
)
from onnx_geed.model.shapes import Shape, Types
from onnx_geed.model.spellings import DENSE

__all__ = ["Place", "axes_of_rows", "batch_axes"]

_REDUCE = ops(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp ArgMax ArgMin"
)

# Broadcasting, matrix products and recurrent layers count axes from the end. Others, known or not,
# make axes behind the batch, as an STFT its frames and bins.
_FROM_THE_END = (
    ARITHMETIC
    | DENSE
    | ops(
        "Sum Mean Where Mod PRelu And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Expand "
        "BitShift BitwiseAnd BitwiseOr BitwiseXor BiasGelu QLinearAdd QLinearMul Einsum LSTM GRU "
        "RNN DynamicQuantizeLSTM"
    )
)


@dataclass(frozen=True)
class Place:
    """Where the batch is.

    Parameters
    ----------
    axis : int
        The axis.
    trailing : bool
        Whether it is the inner factor of that axis, as in (T·N, D), not the outer one.
    """

    axis: int = 0
    trailing: bool = False


def batch_axes(
    graph: onnx.GraphProto, input: str, shapes: Mapping[str, Shape], batch: int
) -> dict[str, Place]:
    """Follow the batch through a graph.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    input : str
        The acted-on input, whose axis 0 is the batch.
    shapes : mapping of str to tuple
        The shapes that are known, for that batch.
    batch : int
        The batch that they are known for.

    Returns
    -------
    dict of str to Place
        For every tensor that depends on the input's values. A guess where shapes are unknown or an
        operator is not modelled: what is built on it must be tried on data.
    """
    places = {input: Place()}
    values = constants(graph)
    for node in graph.node:
        data = [name for name in data_reads(node) if name in places]
        if data:
            before = places[data[0]]
            for name in filter(None, node.output):
                old, new = shapes.get(data[0]), shapes.get(name)
                if node.op_type in ("Reshape", "Flatten"):
                    places[name] = _reshaped(old, before, new, batch)
                else:
                    axis = _axis_after(node, data[0], before.axis, old, new, shapes, values)
                    places[name] = Place(axis, before.trailing)
    return places


def axes_of_rows(graph: onnx.GraphProto, input: str, one: Types, three: Types) -> dict[str, int]:
    """Say along which axis of each tensor the batch lies, as far as inference can tell.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    input : str
        The acted-on input.
    one, three : dict
        Dtypes and shapes for batches of 1 and 3; both for the same where the file fixes it.

    Returns
    -------
    dict of str to int
        0 also where nothing speaks against it; absent where it is no whole axis, or none is known.
    """
    rows, more = (dict(t)[input][1] or (1,) for t in (one, three))
    fixed = rows[0] == more[0]  # lengths alone do not tell
    places = {}
    if fixed:
        shapes = {name: shape for name, (_, shape) in one.items() if shape is not None}
        places = batch_axes(graph, input, shapes, rows[0] or 1)
    axes = {}
    for name in (name for node in graph.node for name in node.output):
        a, b = one.get(name, ("?", None))[1], three.get(name, ("?", None))[1]
        place = places.get(name, Place())
        lengths = [(a, rows[0]), (b, more[0])]
        if place == Place() and all(s is None or (s and s[0] in (n, None)) for s, n in lengths):
            axes[name] = 0
        elif a and b and len(a) == len(b) and not place.trailing:
            pairs = list(zip(a, b, strict=True))
            along = [i for i, pair in enumerate(pairs) if pair == (rows[0], more[0])]
            along = [i for i in along if i == place.axis] if fixed else along
            if len(along) == 1 and along[0] > 0:
                axes[name] = along[0]
    return axes


def _axis_after(
    node: onnx.NodeProto,
    name: str,
    axis: int,
    old: Shape | None,
    new: Shape | None,
    shapes: Mapping[str, Shape],
    values: Mapping[str, list[int]],
) -> int:
    if node.op_type == "Transpose":
        perm = integers_of(node, "perm") or (list(range(len(old)))[::-1] if old else [0])
        return perm.index(axis) if axis in perm else 0
    if node.op_type == "Einsum" and (moved := _einsum_axis(node, name, axis)) is not None:
        return moved
    if node.op_type == "Gather" and name != node.input[0]:  # rows of a table, by number
        return axis + axis_of(node, 0, len(shapes.get(node.input[0], ())))
    if node.op_type == "Gather" and axis_of(node, 0, len(old or ())) < axis:
        index = shapes.get(node.input[1])
        return axis - 1 + (1 if index is None else len(index))
    reduces = node.op_type in _REDUCE and integers_of(node, "keepdims") == [0]
    if node.op_type == "Squeeze" or reduces:
        named = stated_axes(node, values)
        if named is None:  # every axis of length 1 that is not the batch
            named = [i for i, length in enumerate(old or ()) if length == 1 and i != axis]
        gone = [i % len(old) if old else i for i in named]
        return axis - sum(i < axis for i in gone)
    if node.op_type == "Unsqueeze":
        rank = len(new) if new else axis + 2
        fresh = {i % rank for i in stated_axes(node, values) or ()}
        kept = [i for i in range(rank) if i not in fresh]
        return kept[axis] if axis < len(kept) else 0
    if node.op_type not in _FROM_THE_END or new is None or old is None:
        return axis if new is None or axis < len(new) else 0
    moved = axis + len(new) - len(old)
    return moved if 0 <= moved < len(new) else 0


def _einsum_axis(node: onnx.NodeProto, name: str, axis: int) -> int | None:
    """Return where an axis of an operand is in the result, if its letter is there."""
    left, arrow, right = attribute(node, "equation", "").replace(" ", "").partition("->")
    if not arrow and "." not in left:
        right = "".join(sorted(c for c in {*left} - {","} if left.count(c) == 1))
    term = left.split(",")[list(node.input).index(name)]
    letter = term[axis] if "." not in left and axis < len(term) else "."
    return right.index(letter) if "." not in right and letter in right else None


def _reshaped(old: Shape | None, before: Place, new: Shape | None, batch: int) -> Place:
    """Return where the batch is after a Reshape, which keeps what lies ahead of it."""
    if not old or not new or None in new or before.axis >= len(old):
        return Place()
    lengths = [length or 0 for length in old[: before.axis + 1]]
    ahead = math.prod(lengths) // batch if before.trailing else math.prod(lengths[:-1])
    heads = [math.prod(length or 0 for length in new[:j]) for j in range(len(new))]
    outer = [j for j in range(len(new)) if heads[j] == ahead and not (new[j] or 1) % batch]
    inner = [j - 1 for j in range(1, len(new)) if heads[j] == ahead * batch]
    inner = [j for j in inner if not (new[j] or 1) % batch]
    alone = [j for j in outer if new[j] == batch]
    if alone:
        return Place(alone[0])
    if outer and inner:
        # With batch 1 sizes do not tell (L·N, D) from (L, N·D). Dense layers are fed by the first,
        # and attention splits heads off behind the second, (L, N·heads, d).
        split = len(new) - outer[0] > 1 and new[outer[0] :] != old[before.axis + 1 :]
        return Place(outer[0]) if split else Place(inner[0], trailing=True)
    if inner and not outer:
        return Place(inner[0], trailing=True)
    return Place(outer[0] if outer else 0)
