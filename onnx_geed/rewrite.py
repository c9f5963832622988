"""Graph rewriting: outputs exposed, batch axis made free. Each is a function of a model alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_geed.graph import Model, reads
from onnx_geed.points import inferred_shapes, tainted_by

__all__ = ["expose", "free_batch"]


def expose(model: Model, names: Sequence[str]) -> onnx.ModelProto:
    """Return the model with exactly these tensors as outputs.

    Parameters
    ----------
    model : Model
        The model.
    names : sequence of str
        Tensors of its main graph; repeats are dropped.

    Returns
    -------
    onnx.ModelProto
        Not valid for :func:`onnx.checker.check_model`, which wants types that the runtime infers.

    Notes
    -----
    ::

        Before: x → Conv → a → Relu → b → Gemm → y        outputs y
        After:  x → Conv → a → Relu → b                    outputs b
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    wanted = set(names)
    alive = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            alive.append(onnx.NodeProto.FromString(node.SerializeToString()))
            wanted.update(reads(node))
    del graph.node[:]
    graph.node.extend(reversed(alive))
    del graph.output[:]
    # A name is enough: the runtime infers type and shape, and would hold a stale shape against us.
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    del graph.value_info[:]
    return proto


def free_batch(model: Model, input: str) -> Model:
    """Return the model with a free batch axis, as far as rewriting can make it so.

    Parameters
    ----------
    model : Model
        A model whose acted-on input has a fixed batch.
    input : str
        That input.

    Returns
    -------
    Model
        Whether its rows are now independent must be tried on data.

    Notes
    -----
    ::

        Before: x (1,3,8,8) → .. → Reshape [1,-1] → ..       cls (1,1,64) ─┐
                                                              t  (1,64,64) ─ Concat axis 1
        After:  x (N,3,8,8) → .. → Reshape [-1,192] → ..     cls → Expand [N,1,1] ─┐
                                                              t  (N,64,64) ──────── Concat axis 1

    Every Reshape of data gets −1 as its leading length and the others as shape inference finds
    them; a Squeeze gets explicit axes; constants concatenated to data are repeated along the batch;
    a Resize to a given size takes the batch from its input.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    shapes = inferred_shapes(model.proto, input)
    tainted = tainted_by(proto.graph, input)
    fixed = next(i for i in proto.graph.input if i.name == input)
    batch = fixed.type.tensor_type.shape.dim[0].dim_value
    for info in proto.graph.input:
        dims = info.type.tensor_type.shape.dim
        if len(dims) > 1 and dims[0].dim_value == batch:
            dims[0].Clear()
            dims[0].dim_param = "N"
    opset = model.opset
    nodes: list[onnx.NodeProto] = []
    for node in list(proto.graph.node):
        data = [name for name in node.input if name in tainted]
        if data:
            nodes += _repaired(node, data, shapes, batch, opset)
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    return model.with_proto(proto)


def _repaired(
    node: onnx.NodeProto,
    data: Sequence[str],
    shapes: dict[str, tuple[int, ...]],
    batch: int,
    opset: int,
) -> list[onnx.NodeProto]:
    """Change a node in place; return the nodes that must come before it."""
    if not node.output:
        return []
    made = shapes.get(node.output[0])
    tag = f"free_batch/{node.output[0]}"
    if node.op_type == "Reshape" and node.input[0] in data and made:
        _drop(node, "allowzero")
        return _set_vector(node, 1, "shape", [-1, *made[1:]], tag, as_input=opset >= 5)
    if node.op_type == "Squeeze" and node.input[0] in data:
        before = shapes.get(node.input[0])
        explicit = len(node.input) > 1 or any(a.name == "axes" for a in node.attribute)
        if before and not explicit:
            axes = [i for i, length in enumerate(before) if length == 1 and i > 0]
            return _set_vector(node, 1, "axes", axes, tag, as_input=opset >= 13)
    if node.op_type == "Concat" and len(data) < len(node.input):
        return _repeat_constants(node, data, shapes, batch, tag)
    if node.op_type == "Resize" and len(node.input) == 4 and node.input[3] and made:
        return _resize_to(node, made, tag)
    return []


def _repeat_constants(
    node: onnx.NodeProto,
    data: Sequence[str],
    shapes: dict[str, tuple[int, ...]],
    batch: int,
    tag: str,
) -> list[onnx.NodeProto]:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    rank = len(shapes.get(data[0], ()))
    if batch != 1 or not rank or axis % rank == 0:
        return []
    before = [*_batch_of(data[0], tag)]
    ones = numpy_helper.from_array(np.ones(rank - 1, dtype=np.int64))
    before.append(helper.make_node("Constant", [], [f"{tag}/ones"], value=ones))
    target = f"{tag}/repeat"
    before.append(
        helper.make_node("Concat", [f"{tag}/batch", f"{tag}/ones"], [target], axis=0)
    )
    repeated = False
    for i, name in enumerate(node.input):
        if name not in data and shapes.get(name, (0,))[0] == 1:
            before.append(helper.make_node("Expand", [name, target], [f"{tag}/repeated{i}"]))
            node.input[i] = f"{tag}/repeated{i}"
            repeated = True
    return before if repeated else []


def _resize_to(node: onnx.NodeProto, made: tuple[int, ...], tag: str) -> list[onnx.NodeProto]:
    rest = numpy_helper.from_array(np.array(made[1:], dtype=np.int64))
    before = [
        *_batch_of(node.input[0], tag),
        helper.make_node("Constant", [], [f"{tag}/rest"], value=rest),
        helper.make_node("Concat", [f"{tag}/batch", f"{tag}/rest"], [f"{tag}/sizes"], axis=0),
    ]
    node.input[3] = f"{tag}/sizes"
    return before


def _batch_of(tensor: str, tag: str) -> Iterable[onnx.NodeProto]:
    """Nodes that give the length of a tensor's axis 0 as ``<tag>/batch``, in any opset."""
    zero = numpy_helper.from_array(np.zeros(1, dtype=np.int64))
    return (
        helper.make_node("Shape", [tensor], [f"{tag}/shape"]),
        helper.make_node("Constant", [], [f"{tag}/zero"], value=zero),
        helper.make_node("Gather", [f"{tag}/shape", f"{tag}/zero"], [f"{tag}/batch"], axis=0),
    )


def _set_vector(
    node: onnx.NodeProto, position: int, name: str, values: list[int], tag: str, *, as_input: bool
) -> list[onnx.NodeProto]:
    """Give a node a list of integers, as an input or, in older opsets, as an attribute."""
    if not as_input:
        _drop(node, name)
        node.attribute.append(helper.make_attribute(name, values))
        return []
    stored = numpy_helper.from_array(np.array(values, dtype=np.int64))
    while len(node.input) <= position:
        node.input.append("")
    node.input[position] = f"{tag}/{name}"
    return [helper.make_node("Constant", [], [f"{tag}/{name}"], value=stored)]


def _drop(node: onnx.NodeProto, attribute: str) -> None:
    kept = [a for a in node.attribute if a.name != attribute]
    del node.attribute[:]
    node.attribute.extend(kept)
