"""Divisions of whole numbers are run so that they cannot end the process.

The smallest whole number divided by -1 has no quotient, and a processor that is asked for it ends
the process; by 0 the runtime refuses by itself. What a constant is, is looked at when a model is
read. Where a divisor is computed, 1 stands for every -1, and the quotient is negated:

A short-time Fourier transform divides by the length of its frames, for which the larger of it and
1 stands.

Before: Div(a, b) → y
After:  Equal(b, -1) → m;  Where(m, 1, b) → c;  Div(a, c) → q;  Neg(a) → n;  Where(m, n, q) → y
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto

from onnx_geed.errors import GeedError, shown
from onnx_geed.model.nodes import attribute, integer_of, ops, subgraphs

__all__ = ["guard_divisions"]

# Operators by what they make, where that is not what their first input holds.
_COUNTS = ops("ArgMax ArgMin NonMaxSuppression NonZero Shape Size")
_TRUTHS = ops("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor")
_LIKE_SECOND = ops("CastLike Where")
_FLOATS = ops("ConstantOfShape DequantizeLinear RandomNormal RandomUniform")
_WHOLE = ops("ConvInteger MatMulInteger Multinomial")

# What a processor divides as it is; shorter numbers are divided as these.
_DIVIDED = (TensorProto.INT32, TensorProto.INT64)

# Where has been there since 9, CastLike since 15.
_WHERE, _LIKE = 9, 15

_PREFIX = "onnx_geed/division"


def guard_divisions(graph: onnx.GraphProto, opset: int) -> None:
    """Rewrite the divisions of a graph, and of the bodies in it, that could end the process.

    Parameters
    ----------
    graph : onnx.GraphProto
        Sorted; it is changed.
    opset : int
        Version of the default operator set.

    Raises
    ------
    GeedError
        If that version has no operator for it.
    """
    if _has_divisions(graph):
        _guard(graph, opset, {}, frozenset())


def _has_divisions(graph: onnx.GraphProto) -> bool:
    return any(
        node.op_type in ("Div", "Mod", "STFT") or any(map(_has_divisions, subgraphs(node)))
        for node in graph.node
    )


def _guard(
    graph: onnx.GraphProto, opset: int, outer: Mapping[str, int], known: frozenset[str]
) -> None:
    """``outer`` holds types of tensors around a body, ``known`` the names of constants."""
    kinds = dict(outer)
    kinds |= {i.name: i.type.tensor_type.elem_type for i in graph.input}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    known |= {tensor.name for tensor in graph.initializer} - {i.name for i in graph.input}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for body in subgraphs(node):
            _guard(body, opset, kinds, known)
        if node.op_type == "Constant":
            known |= {*node.output}
        kind = _kind(node, kinds)
        kinds |= dict.fromkeys(node.output[1:], TensorProto.INT64)
        kinds |= dict.fromkeys(node.output[:1], kind)
        if _has_frames(node, known):
            nodes += _framed(node)
        else:
            nodes += _safe(node, kinds, opset) if _may_end(node, kinds, known) else [node]
    if len(nodes) > len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _kind(node: onnx.NodeProto, kinds: Mapping[str, int]) -> int:
    """Return the type of what a node makes first, 0 where it is not known."""
    op = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return 0
    for key in ("to", "dtype", "output_dtype"):
        if stated := integer_of(node, key, 0):
            return stated
    if op == "Constant":
        whole = any(a.name in ("value_int", "value_ints") for a in node.attribute)
        value = attribute(node, "value")
        return value.data_type if value is not None else TensorProto.INT64 * whole
    if op == "ConstantOfShape" and (value := attribute(node, "value")) is not None:
        return int(value.data_type)
    fixed = {_COUNTS: TensorProto.INT64, _TRUTHS: TensorProto.BOOL, _FLOATS: TensorProto.FLOAT}
    for names, kind in (*fixed.items(), (_WHOLE, TensorProto.INT32)):
        if op in names:
            return kind
    if subgraphs(node) or op.startswith(("Sequence", "Optional", "Label", "String")):
        return 0
    at = 1 if op in _LIKE_SECOND else 2 if op == "OneHot" else 0
    return kinds.get(node.input[at], 0) if len(node.input) > at else 0


def _may_end(node: onnx.NodeProto, kinds: Mapping[str, int], known: frozenset[str]) -> bool:
    if node.domain not in ("", "ai.onnx") or len(node.input) != 2 or node.input[1] in known:
        return False
    if node.op_type != "Div" and (node.op_type != "Mod" or integer_of(node, "fmod", 0)):
        return False
    there = [kind for name in node.input if (kind := kinds.get(name, 0))]
    return not there or there[0] in _DIVIDED


def _has_frames(node: onnx.NodeProto, known: frozenset[str]) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type != "STFT":
        return False
    return len(node.input) > 3 and bool(node.input[3]) and node.input[3] not in known


def _framed(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    length, own = node.input[3], f"{_PREFIX}/{node.output[0]}"
    one = onnx.helper.make_tensor("value", TensorProto.INT64, [], [1])
    changed = onnx.NodeProto.FromString(node.SerializeToString())
    changed.input[3] = f"{own}/length"
    return [
        _node("Constant", [], f"{own}/one/whole", value=one),
        _node("CastLike", [f"{own}/one/whole", length], f"{own}/one"),
        _node("Max", [length, f"{own}/one"], f"{own}/length"),
        changed,
    ]


def _safe(node: onnx.NodeProto, kinds: Mapping[str, int], opset: int) -> list[onnx.NodeProto]:
    kind = next((kinds[name] for name in node.input if kinds.get(name)), 0)
    if opset < (_WHERE if kind else _LIKE):
        if not kind:
            return [node]  # of floats, as nearly all are
        raise GeedError(
            f"node {shown(node.name or node.output[0])} ({node.op_type}) divides whole numbers by "
            f"computed ones, which may end the process: export the model with opset {_WHERE} or "
            "later"
        )
    divided, by = node.input
    own = f"{_PREFIX}/{node.output[0]}"
    nodes = []
    for name, value in (("minus", -1), ("one", 1)):
        if kind:
            tensor = onnx.helper.make_tensor("value", kind, [], [value])
            nodes.append(_node("Constant", [], f"{own}/{name}", value=tensor))
        else:
            tensor = onnx.helper.make_tensor("value", TensorProto.INT64, [], [value])
            nodes.append(_node("Constant", [], f"{own}/{name}/whole", value=tensor))
            nodes.append(_node("CastLike", [f"{own}/{name}/whole", by], f"{own}/{name}"))
    nodes.append(_node("Equal", [by, f"{own}/minus"], f"{own}/is"))
    nodes.append(_node("Where", [f"{own}/is", f"{own}/one", by], f"{own}/by"))
    changed = onnx.NodeProto.FromString(node.SerializeToString())
    changed.input[1] = f"{own}/by"
    if node.op_type == "Mod":  # a remainder by 1 is that by -1
        return [*nodes, changed]
    changed.output[0] = f"{own}/quotient"
    nodes.append(_node("Neg", [divided], f"{own}/negated"))
    last = _node("Where", [f"{own}/is", f"{own}/negated", f"{own}/quotient"], node.output[0])
    return [*nodes, changed, last]


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op, inputs, [output], **attributes)
