"""Constants on which a library ends the process are refused as a model is read.

ONNX Runtime takes the first value of some inputs without asking whether there is one, and divides
by others. Of inputs that are computed nothing is known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx

from onnx_geed.errors import GeedError, shown
from onnx_geed.model.nodes import attribute, integers_of, ops, subgraphs

__all__ = ["check_constants"]

# Of the inputs of a node, the places where a value must be; and where it must not be 0.
_Places = Callable[[int], bool]

_NOT_EMPTY: dict[str, _Places] = {
    "AttnLSTM": lambda i: True,
    "Loop": lambda i: i < 2,
    "OneHot": lambda i: i == 1,
    "QLinearConcat": lambda i: i % 3 != 2,
    "QLinearSoftmax": lambda i: i > 0,
    "QLinearWhere": lambda i: i not in (0, 1, 4),
    "SequenceAt": lambda i: i == 1,
    "SequenceErase": lambda i: i == 1,
    "SequenceInsert": lambda i: i == 2,
    "STFT": lambda i: i == 2,
}

_NOT_ZERO: dict[str, _Places] = {
    "STFT": lambda i: i in (1, 3),
    "SplitToSequence": lambda i: i == 1,
}

# The axes of inputs whose shape is taken for granted.
_AXES = {("AttnLSTM", 0): 3, ("STFT", 2): 1}

_MADE = ops("Constant ConstantOfShape Identity")

_KNOWN = ("", "ai.onnx", "com.microsoft")


def check_constants(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse nodes with constant inputs on which a library would end the process.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted, its functions inlined; the bodies in it are looked at too.
    path : Path
        The file, for messages.

    Raises
    ------
    GeedError
        If a node has one; its line names node, operator and input.
    """
    if fault := _fault(graph, {}):
        raise GeedError(
            f"{path}: its node {fault}, which may end the process; export it again with a value "
            "that the operator allows"
        )


def _fault(graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto]) -> str:
    known = dict(outer) | {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        op = node.op_type
        if node.domain in _KNOWN:
            if op in _MADE and node.output and (value := _value(node, known)) is not None:
                known[node.output[0]] = value
            for i, name in enumerate(node.input):
                if name in known and (why := _why(op, i, known[name])):
                    called = shown(f"{op} {node.name or next(iter(node.output), '')}".strip())
                    return f"{called} has a constant input {shown(name)} {why}"
        for body in subgraphs(node):
            if fault := _fault(body, known):
                return fault
    return ""


def _why(op: str, place: int, value: onnx.TensorProto) -> str:
    if op in _NOT_EMPTY and _NOT_EMPTY[op](place) and not math.prod(value.dims):
        return "without a value"
    if (axes := len(value.dims)) != _AXES.get((op, place), axes):
        return f"of {axes} axes, not {_AXES[op, place]}"
    if op in _NOT_ZERO and _NOT_ZERO[op](place) and _has_zero(value):
        return "of 0"
    return ""


def _value(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """Return what a node makes, where it is known; of what is filled, one value."""
    if node.op_type == "Identity":
        return known.get(node.input[0]) if node.input else None
    for key in ("value_int", "value_ints"):
        if (values := integers_of(node, key)) is not None:
            kind = onnx.TensorProto.INT64
            return onnx.TensorProto(data_type=kind, dims=[len(values)], int64_data=values)
    value = attribute(node, "value")
    if not isinstance(value, onnx.TensorProto):
        value = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, dims=[1], float_data=[0.0])
    if node.op_type == "ConstantOfShape":
        lengths = known.get(node.input[0]) if node.input else None
        if lengths is not None and _has_zero(lengths):
            return onnx.TensorProto(data_type=value.data_type, dims=[0])
    return value if attribute(node, "value") is not None or node.op_type != "Constant" else None


def _has_zero(value: onnx.TensorProto) -> bool:
    """Say whether one of some whole numbers is 0, as far as they lie in the file."""
    wholes = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    if value.data_type not in wholes or value.data_location == onnx.TensorProto.EXTERNAL:
        return False
    return bool((onnx.numpy_helper.to_array(value) == 0).any())
