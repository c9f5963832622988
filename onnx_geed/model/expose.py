"""Make hidden tensors outputs.

Before: x → Conv → a → Relu → b → Gemm → y        outputs y
After:  x → Conv → a → Relu → b                    outputs b
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from onnx_geed.model.divisions import guard_divisions
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import reads, subgraphs
from onnx_geed.model.single_values import guard_single_values

__all__ = ["expose_tensors"]


def expose_tensors(model: Model, names: Sequence[str]) -> onnx.ModelProto:
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
        Nodes and weights that no output needs are left out; inputs stay.
    """
    source = model.proto.graph
    wanted = set(names)
    alive = []
    for node in reversed(source.node):
        if wanted.intersection(node.output):
            alive.append(node)
            wanted.update(reads(node))
    # Piece by piece, since a copy of the whole would copy what is left out.
    proto = onnx.ModelProto()
    for field, value in model.proto.ListFields():
        if field.name != "graph":
            _assign(proto, field.name, value)
    graph = proto.graph
    graph.name = source.name
    graph.node.extend(reversed(alive))
    graph.initializer.extend(i for i in source.initializer if i.name in wanted)
    dropped = {i.name for i in source.initializer} - wanted
    graph.sparse_initializer.extend(s for s in source.sparse_initializer if s.values.name in wanted)
    graph.input.extend(i for i in source.input if i.name not in dropped)
    # A name is enough: the runtime infers type and shape, and would hold a stale shape against us.
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    _hold_frames(graph)
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    guard_divisions(graph, max(versions, default=0))
    guard_single_values(graph, max(versions, default=0))
    return proto


def _hold_frames(graph: onnx.GraphProto) -> None:
    """Keep the runtime from joining a frame of zeros with the max pooling behind it.

    ONNX Runtime (since 1.17) makes the frame the pooling's own, which is -inf: where all
    else in a window is negative, the maximum is no zero any more. A Concat of one stands between.
    """
    makers = {name: node for node in graph.node for name in node.output}
    for index, node in reversed(list(enumerate(graph.node))):
        for body in subgraphs(node):
            _hold_frames(body)
        if node.op_type == "MaxPool" and _is_framed(node, makers):
            held = f"onnx_geed/held/{node.output[0]}"
            graph.node.insert(
                index, onnx.helper.make_node("Concat", node.input[:1], [held], axis=0)
            )
            graph.node[index + 1].input[0] = held


def _is_framed(pool: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a Pad lies in front of a pooling, which the runtime sees through what it drops."""
    maker = makers.get(pool.input[0])
    while maker is not None and maker.op_type in ("Identity", "Dropout"):
        maker = makers.get(maker.input[0])
    return maker is not None and maker.op_type == "Pad"


def _assign(proto: onnx.ModelProto, name: str, value: object) -> None:
    if isinstance(value, (int, str, bytes)):
        setattr(proto, name, value)
    elif hasattr(value, "extend") or isinstance(value, Sequence):
        getattr(proto, name).extend(value)
    else:
        getattr(proto, name).CopyFrom(value)
