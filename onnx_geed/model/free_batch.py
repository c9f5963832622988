"""Free a batch axis that the file fixes.

Before: x (1,3,8,8) → .. → Reshape [1,-1] → ..       cls (1,1,64) ─┐
                                                     t  (1,64,64) ─ Concat axis 1
After:  x (N,3,8,8) → .. → Reshape [-1,192] → ..     cls → Expand [N,1,1] ─┐
                                                     t  (N,64,64) ──────── Concat axis 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_geed.model.batch_axis import Place, batch_axes
from onnx_geed.model.builder import Nodes
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import axis_of, constants, integers_of
from onnx_geed.model.shapes import Shape, infer_shapes

__all__ = ["free_batch_axis"]

_SYMBOL = "onnx_geed_batch"


def free_batch_axis(model: Model, input: str, *, input_shape: Sequence[int] | None = None) -> Model:
    """Return the model with a free batch axis, as far as rewriting can make it so.

    Parameters
    ----------
    model : Model
        A model whose acted-on input has a fixed batch, or whose nodes count on one.
    input : str
        That input.
    input_shape : sequence of int, optional
        Its shape, where the file leaves lengths other than the batch free.

    Returns
    -------
    Model
        Whether its rows are now independent must be tried on data.

    Notes
    -----
    Every Reshape of data gets −1 where the batch axis is, and the other lengths as shape inference
    finds them; a Squeeze gets explicit axes; constants concatenated to data are repeated along the
    batch; a Resize to a given size takes the batch from its input. Bodies of If and Loop stay.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    acted = next(i for i in graph.input if i.name == input)
    batch = acted.type.tensor_type.shape.dim[0].dim_value
    shapes = infer_shapes(proto, input, input_shape)
    stored = {i.name for i in graph.initializer}
    places: dict[str, Place] = {}
    # What other inputs alone make has its own batch axis; where they meet, the acted-on one counts.
    for name in (i.name for i in graph.input if i.name not in stored):
        shape = shapes.get(name, ())
        if name != input and len(shape) > 1 and shape[0] == max(batch, 1):
            places |= batch_axes(graph, name, shapes, max(batch, 1))
    places |= batch_axes(graph, input, shapes, max(batch, 1))
    repair = _Repair(
        shapes=shapes,
        places=places,
        values=constants(graph),
        batch=max(batch, 1),
        opset=model.opset,
    )
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        # What is fed beside the acted-on input comes in as many rows.
        if batch > 0 and info.name not in stored and len(dims) > 1 and dims[0].dim_value == batch:
            dims[0].Clear()
            dims[0].dim_param = _SYMBOL
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        mended = onnx.NodeProto.FromString(node.SerializeToString())
        before = Nodes(model.opset, f"free_batch/{next(iter(node.output), '')}")
        repair.mend(mended, before)
        nodes += [*before.written, mended]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for output in graph.output:
        _free_output(output, repair.places.get(output.name), batch)
    return model.with_proto(proto)


def _free_output(output: onnx.ValueInfoProto, place: Place | None, batch: int) -> None:
    """Take the fixed batch out of a declared shape; its rank stays, which a checker wants."""
    dims = output.type.tensor_type.shape.dim
    if place is None or batch < 1 or not dims:
        return
    leads = place == Place() and dims[0].dim_value == batch
    for dim in dims[:1] if leads else dims:
        dim.Clear()
    if leads:
        dims[0].dim_param = _SYMBOL


@dataclass(frozen=True, eq=False)
class _Repair:
    """The facts on a graph by which its nodes are mended; shapes are those of the fixed batch."""

    shapes: Mapping[str, Shape]
    places: Mapping[str, Place]
    values: Mapping[str, list[int]]
    batch: int
    opset: int

    def mend(self, node: onnx.NodeProto, before: Nodes) -> None:
        """Change a node in place, and write the nodes that must come before it."""
        mends: dict[str, Callable[[onnx.NodeProto, Nodes], None]] = {
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Concat": self._concat,
            "Expand": self._expand,
            "Resize": self._resize,
        }
        known = node.domain in ("", "ai.onnx") and node.op_type in mends
        if known and any(name in self.places for name in node.input):
            mends[node.op_type](node, before)

    def _reshape(self, node: onnx.NodeProto, before: Nodes) -> None:
        if node.input[0] not in self.places:
            return
        lengths = self._inferred_shape(node) or self._stated_shape(node)
        if lengths is None:
            return
        # Under allowzero a 0 would be a length; here none is meant.
        _drop(node, "allowzero")
        _set_integers(node, 1, "shape", lengths, before, as_input=self.opset >= 5)

    def _inferred_shape(self, node: onnx.NodeProto) -> list[int] | None:
        """−1 for the batch, the others as they are."""
        shape, axis = self.shapes.get(node.output[0], ()), self.places[node.output[0]].axis
        pinned = [-1 if i == axis else length for i, length in enumerate(shape)]
        lengths = [length for length in pinned if length is not None]
        return lengths if lengths and len(lengths) == len(pinned) else None

    def _stated_shape(self, node: onnx.NodeProto) -> list[int] | None:
        """Where inference is lost: the stated shape, if it begins with the fixed batch."""
        in_attribute = integers_of(node, "shape")
        stated = self.values.get(node.input[1]) if len(node.input) > 1 else in_attribute
        if not stated or stated[0] != self.batch or 0 in stated:
            return None
        rest = stated[1:]
        return [0 if -1 in rest else -1, *rest]

    def _squeeze(self, node: onnx.NodeProto, before: Nodes) -> None:
        shape = self.shapes.get(node.input[0])
        stated = len(node.input) > 1 or integers_of(node, "axes") is not None
        if shape is None or stated:
            return
        batch = self.places[node.input[0]].axis
        gone = [i for i, length in enumerate(shape) if length == 1 and i != batch]
        _set_integers(node, 1, "axes", gone, before, as_input=self.opset >= 13)

    def _concat(self, node: onnx.NodeProto, before: Nodes) -> None:
        data = next(name for name in node.input if name in self.places)
        axis, rank = self.places[data].axis, len(self.shapes.get(data, ()))
        if self.batch != 1 or not rank or axis_of(node, 1, rank) == axis:
            return
        # Tile takes the same vector where Expand is not there yet; Expand also leaves alone what
        # has the right length already, so that an unknown one does no harm.
        op = "Expand" if self.opset >= 8 else "Tile"
        lengths = [self.shapes.get(name, (None,) * rank)[axis] for name in node.input]
        constant = [
            i
            for i, (name, length) in enumerate(zip(node.input, lengths, strict=True))
            if name not in self.places and (length == 1 or (length is None and op == "Expand"))
        ]
        if not constant:
            return
        repeat = _shape_around(before, data, axis, [1] * axis, [1] * (rank - axis - 1), "repeat")
        for i in constant:
            node.input[i] = before.add(op, [node.input[i], repeat], f"repeated{i}")

    def _expand(self, node: onnx.NodeProto, before: Nodes) -> None:
        stated = self.values.get(node.input[1])
        if node.input[0] not in self.places or stated is None or self.batch == 1:
            return
        axis = self.places[node.output[0]].axis
        if axis >= len(stated) or stated[axis] != self.batch:
            return
        stated = [*stated[:axis], 1, *stated[axis + 1 :]]
        _set_integers(node, 1, "shape", stated, before, as_input=True)

    def _resize(self, node: onnx.NodeProto, before: Nodes) -> None:
        grid = [length for length in self.shapes.get(node.output[0], ())[1:] if length is not None]
        sized = len(node.input) > 3 and node.input[3] and len(grid) > 1
        if not sized or integers_of(node, "axes") is not None:
            return
        if len(grid) == len(self.shapes[node.output[0]]) - 1:
            node.input[3] = _shape_around(before, node.input[0], 0, [], grid, "sizes")


def _shape_around(
    nodes: Nodes, tensor: str, axis: int, before: list[int], after: list[int], name: str
) -> str:
    """Write a shape with the length of a tensor's axis in it, in any opset."""
    own = nodes.within(name)
    shape = own.add("Shape", [tensor], "shape")
    batch = own.add("Gather", [shape, own.inline("axis", _int64([axis]))], "batch")
    parts = [batch]
    if before:
        parts.insert(0, own.inline("before", _int64(before)))
    if after:
        parts.append(own.inline("after", _int64(after)))
    return nodes.add("Concat", parts, name, axis=0)


def _int64(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _set_integers(
    node: onnx.NodeProto,
    position: int,
    name: str,
    values: list[int],
    before: Nodes,
    *,
    as_input: bool,
) -> None:
    """Give a node a list of integers, as an input or, in older opsets, as an attribute."""
    if not as_input:
        _drop(node, name)
        node.attribute.append(helper.make_attribute(name, values))
        return
    while len(node.input) <= position:
        node.input.append("")
    node.input[position] = before.inline(name, _int64(values))


def _drop(node: onnx.NodeProto, attribute: str) -> None:
    kept = [a for a in node.attribute if a.name != attribute]
    del node.attribute[:]
    node.attribute.extend(kept)
