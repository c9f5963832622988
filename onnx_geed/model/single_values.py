"""Inputs of which the runtime takes the first value are made to have one.

ONNX Runtime does not ask whether there is one, and reads what is not there: a number of rounds of
a loop, a position in a sequence. A constant is looked at when a model is read. Where it is
computed, a reshape to a scalar stands in front, which the runtime refuses in words if there is no
value.

Before: SequenceAt(s, i) → y
After:  Reshape(i, []) → j;  SequenceAt(s, j) → y
"""

from __future__ import annotations

import onnx
from onnx import TensorProto

from onnx_geed.model.nodes import subgraphs

__all__ = ["guard_single_values"]

_PLACES = {"Loop": 0, "SequenceAt": 1, "SequenceErase": 1, "SequenceInsert": 2}

# Reshape has read its shape from an input since then.
_RESHAPE = 5

_PREFIX = "onnx_geed/single"


def guard_single_values(graph: onnx.GraphProto, opset: int) -> None:
    """Put a reshape before each computed input that must be one value, in bodies too.

    Parameters
    ----------
    graph : onnx.GraphProto
        Sorted; it is changed.
    opset : int
        Version of the default operator set; before 5 a reshape reads no shape, and nothing is
        changed.
    """
    if opset >= _RESHAPE and _has_places(graph):
        _guard(graph, frozenset())


def _has_places(graph: onnx.GraphProto) -> bool:
    return any(
        node.op_type in _PLACES or any(map(_has_places, subgraphs(node))) for node in graph.node
    )


def _guard(graph: onnx.GraphProto, known: frozenset[str]) -> None:
    """``known`` holds the names of constants."""
    known |= {tensor.name for tensor in graph.initializer} - {i.name for i in graph.input}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for body in subgraphs(node):
            _guard(body, known)
        if node.op_type == "Constant":
            known |= {*node.output}
        nodes += _single(node, known)
    if len(nodes) > len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _single(node: onnx.NodeProto, known: frozenset[str]) -> list[onnx.NodeProto]:
    place = _PLACES.get(node.op_type, len(node.input))
    if node.domain not in ("", "ai.onnx") or place >= len(node.input):
        return [node]
    name = node.input[place]
    if not name or name in known:
        return [node]
    called = next(filter(None, node.output), node.name)
    own = f"{_PREFIX}/{called}"
    shape = onnx.helper.make_tensor("value", TensorProto.INT64, [0], [])
    changed = onnx.NodeProto.FromString(node.SerializeToString())
    changed.input[place] = own
    return [
        onnx.helper.make_node("Constant", [], [f"{own}/shape"], value=shape),
        onnx.helper.make_node("Reshape", [name, f"{own}/shape"], [own]),
        changed,
    ]
