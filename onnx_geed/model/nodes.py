"""Nodes: the tensors they read, their attributes and axes, and operators of one kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import numpy_helper

__all__ = [
    "ARITHMETIC",
    "POINTWISE",
    "attribute",
    "axis_of",
    "constants",
    "data_reads",
    "integer_of",
    "integers_of",
    "ops",
    "reads",
    "stated_axes",
    "subgraphs",
]

# No constant that is read as a shape or as axes is longer.
_LONGEST = 64


def ops(names: str) -> frozenset[str]:
    """Return a set of operators from their names."""
    return frozenset(names.split())


POINTWISE = ops(
    "Relu LeakyRelu PRelu Elu Selu Celu Gelu FastGelu QuickGelu BiasGelu Sigmoid HardSigmoid "
    "HardSwish Swish Mish Tanh Softplus Softsign ThresholdedRelu Clip Erf Exp Log Sqrt Abs Neg "
    "BatchNormalization Dropout Identity Cast QuantizeLinear DequantizeLinear QLinearSigmoid "
    "QLinearLeakyRelu"
)


ARITHMETIC = ops("Add Sub Mul Div Pow Min Max")


SHAPE_ONLY = ops("Shape Size EyeLike RandomNormalLike RandomUniformLike")


#: Dtypes of the tensors that can be measured; numpy has no bfloat16 for what the runtime returns.
FLOATS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
}


# Operators of ONNX itself that have bodies; every node is asked for them many times.
_BODIED = ("If", "Loop", "Scan", "SequenceMap")


def constants(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Return the short integer constants of a graph, flattened: shapes, axes, indices."""
    values_of = {}
    nodes = [node for node in graph.node if node.op_type == "Constant"]
    stored = [(node.output[0], attribute(node, "value")) for node in nodes]
    stored = [(name, tensor) for name, tensor in stored if tensor is not None]
    for name, tensor in [*((i.name, i) for i in graph.initializer), *stored]:
        integer = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
        inside = tensor.data_location != onnx.TensorProto.EXTERNAL
        if integer and inside and math.prod(tensor.dims) <= _LONGEST:
            values_of[name] = [int(v) for v in numpy_helper.to_array(tensor).flat]
    for node in nodes:
        for key in ("value_int", "value_ints"):
            if (values := integers_of(node, key)) is not None:
                values_of[node.output[0]] = values
    return values_of


def axis_of(node: onnx.NodeProto, default: int, rank: int) -> int:
    """Return a node's ``axis``, counted from the front."""
    axis = (integers_of(node, "axis") or [default])[0]
    return axis + rank if axis < 0 else axis


def stated_axes(node: onnx.NodeProto, values: Mapping[str, list[int]]) -> list[int] | None:
    """Return a node's axes, from its attribute or, in newer opsets, its second input."""
    if len(node.input) > 1 and node.input[1]:
        return values.get(node.input[1], [])
    return integers_of(node, "axes")


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute: a number, a list, a tensor, a graph, or text as str."""
    for stated in node.attribute:
        if stated.name == name:
            value = onnx.helper.get_attribute_value(stated)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def integers_of(node: onnx.NodeProto, name: str) -> list[int] | None:
    """Return an integer attribute as a list, or ``None`` where a node has none of the name."""
    value = attribute(node, name)
    if value is None:
        return None
    return [int(value)] if isinstance(value, int) else [int(i) for i in value]


def integer_of(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the value of an attribute that is one integer."""
    return int(attribute(node, name, default))


def data_reads(node: onnx.NodeProto) -> list[str]:
    """Return the tensors whose values a node reads; of others it takes the shape or dtype alone."""
    if node.op_type in SHAPE_ONLY:
        return []
    if node.op_type == "CastLike":
        return list(node.input[:1])
    return reads(node)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of a node such as If or Loop."""
    if node.op_type not in _BODIED and node.domain in ("", "ai.onnx"):
        return []
    bodies = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            bodies.append(attribute.g)
        bodies.extend(attribute.graphs)
    return bodies


def reads(node: onnx.NodeProto) -> list[str]:
    """Return the tensors that a node reads, captures of its bodies included."""
    names = [name for name in node.input if name]
    for inner in subgraphs(node):
        own = {i.name for i in inner.input} | {i.name for i in inner.initializer}
        own |= {name for n in inner.node for name in n.output}
        for n in inner.node:
            names += [name for name in reads(n) if name not in own]
        names += [o.name for o in inner.output if o.name not in own]
    return names
