"""Dtypes and shapes of tensors, as far as ONNX shape inference can tell; it never stops a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_geed.model.nodes import FLOATS, attribute, ops, subgraphs
from onnx_geed.model.shape_folding import complete, is_complete

__all__ = ["Fed", "Shape", "Types", "infer", "infer_fed", "infer_shapes"]

#: ``None`` for a length that is free or unknown.
Shape = tuple[int | None, ...]


#: Dtype and shape by tensor; ``None`` for an unknown rank.
Types = dict[str, tuple[str, Shape | None]]


# Lengths that inference may keep, of all tensors together; exporters write some thousands.
_MOST_PROPAGATED = 1 << 20

# Axes of the tensor whose shape is asked for.
_MOST_AXES = 64

# Operators whose outputs inference works out of the values that it keeps, beside Shape and Concat.
_PROPAGATING = ops(
    "Add Cast CastLike Ceil Expand Gather Identity Max Min Mul Neg Reshape Slice Squeeze Sub "
    "Transpose Unsqueeze Where"
)

# Operators that make what is as long as a value says.
_FROM_VALUES = ops(
    "BlackmanWindow ConstantOfShape Expand EyeLike HammingWindow HannWindow OneHot Pad Range "
    "Resize Tile Upsample"
)

# Ends the names of tensors that nothing reads.
_APART = "/apart"

# Weights are only looked at for their shape: larger ones are not copied.
_SMALL = 1024


_PLACEHOLDERS = ("none", "null", "nan", "unk", "unknown", "dynamic", "any", "-1", "0")


# Operators of ONNX Runtime's own domain, by the standard one that has the same output shape.
_LIKE = {
    "FusedConv": "Conv",
    "FusedMatMul": "MatMul",
    "FusedGemm": "Gemm",
    "QGemm": "Gemm",
    "QLinearAdd": "Add",
    "QLinearAveragePool": "AveragePool",
    "QLinearConcat": "Concat",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "Identity",
    "QLinearMul": "Mul",
    "QLinearSigmoid": "Identity",
    "QLinearSoftmax": "Identity",
    "QuantizeLinear": "QuantizeLinear",
    "DequantizeLinear": "DequantizeLinear",
    "BiasGelu": "Identity",
    "FastGelu": "Identity",
    "QuickGelu": "Identity",
    "Gelu": "Identity",
    "SkipLayerNormalization": "Identity",
}


def infer(
    proto: onnx.ModelProto,
    input: str,
    input_shape: Sequence[int] | None,
    batch: int,
    told: Sequence[onnx.ValueInfoProto] = (),
) -> Types:
    """Infer dtype and shape of every tensor.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    input : str
        The acted-on input.
    input_shape : sequence of int or None
        Its shape, where the file leaves lengths free; the batch axis is not looked at.
    batch : int
        Its batch, where the file leaves that free.
    told : sequence of onnx.ValueInfoProto
        Tensors that a run told of, from which others follow.

    Returns
    -------
    dict
        Tensors that inference says nothing of are absent, or as the file declares them.
    """
    sizes = _free_sizes(proto.graph, input, input_shape, batch)
    light = _without_weights(proto, sizes)
    light.graph.value_info.extend(told)
    inferred, _ = _inferred(light)
    types: Types = {}
    declared = [_with_sizes(info, sizes) for info in proto.graph.value_info]
    graph = inferred.graph
    for info in [*declared, *graph.value_info, *graph.output, *graph.input]:
        dtype, shape = _type(info)
        stated, before = types.get(info.name, ("?", None))
        types[info.name] = (stated if dtype == "?" else dtype, _merged(shape, before))
    for weights in (*proto.graph.initializer, *light.graph.initializer):
        types[weights.name] = ("constant", tuple(weights.dims))
    return types


def _inferred(
    light: onnx.ModelProto, *, values: bool = False
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Return a model with the shapes that can be inferred, and what :func:`complete` works out.

    Notes
    -----
    ONNX keeps every value of what is made of lengths, and of vectors: a shape that is joined with
    itself forty times, and a vector of ten thousand million zeros, fill any memory. What is
    reckoned with is therefore inferred without first.
    """
    try:
        plain = onnx.shape_inference.infer_shapes(light)
        if is_complete(plain):
            return plain, complete(plain, values=True) if values else {}
        few = _propagated(light.graph, {}) <= _MOST_PROPAGATED and _few(_shapes(plain))
        short = _short(light, plain) if few else False
        if short is None:  # only the nodes' own arithmetic tells
            known = complete(plain, values=values)
            short = _few(_shapes(plain))
            if is_complete(plain):
                return plain, known
        inferred = plain
        if short:
            inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # inference is a help, and may stop at what it does not know
        inferred = onnx.ModelProto()
        inferred.CopyFrom(light)
    return inferred, complete(inferred, values=values)


def _short(light: onnx.ModelProto, plain: onnx.ModelProto) -> bool | None:
    """Whether vectors that are as long as a value says are short; ``None`` where it is not told."""
    shapes = _shapes(plain)
    names = {
        node.output[0]
        for node in light.graph.node
        if node.op_type in _FROM_VALUES
        and node.output
        and shapes.get(node.output[0], (None,)) == (None,)
    }
    if not names:
        return True
    # Where nothing reads them, their lengths can be found out, and nothing is kept of them.
    apart = onnx.ModelProto()
    apart.CopyFrom(light)
    for node in apart.graph.node:
        if node.output and node.output[0] in names:
            node.output[0] += _APART
    shapes = _shapes(onnx.shape_inference.infer_shapes(apart, data_prop=True))
    lengths = {name: shapes.get(name + _APART, (None,)) for name in names}
    return None if any(None in shape for shape in lengths.values()) else _few(lengths)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    infos = (*model.graph.value_info, *model.graph.output, *model.graph.input)
    return {i.name: shape for i in infos if (shape := _type(i)[1]) is not None}


def _few(shapes: Mapping[str, Shape]) -> bool:
    vectors = [abs(shape[0] or 0) for shape in shapes.values() if len(shape) == 1]
    return sum(vectors) <= _MOST_PROPAGATED


def _propagated(graph: onnx.GraphProto, outer: Mapping[str, int]) -> int:
    """Return how many lengths inference would keep at most, bodies included."""
    counts = dict(outer) | {i.name: math.prod(i.dims) for i in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Shape":
            count = _MOST_AXES
        elif node.op_type == "Concat":
            count = sum(counts.get(name, 0) for name in node.input)
        elif node.op_type in _PROPAGATING:
            count = max((counts.get(name, 0) for name in node.input), default=0)
        else:
            count = 0
        counts |= dict.fromkeys(node.output, count)
        total += count + sum(_propagated(body, counts) for body in subgraphs(node))
    return total


def infer_shapes(
    proto: onnx.ModelProto, input: str, input_shape: Sequence[int] | None = None
) -> dict[str, Shape]:
    """Return the shapes of known rank, for the batch that the file states, or 1."""
    types = infer(proto, input, input_shape, 1)
    return {name: shape for name, (_, shape) in types.items() if shape is not None}


@dataclass(frozen=True)
class _Sizes:
    """Lengths that a file leaves free.

    Parameters
    ----------
    input : str
        The acted-on input.
    lengths : tuple of int or None
        Its shape, axis by axis, whatever its symbols.
    symbols : dict
        What symbols stand for elsewhere; ``None`` for those that stand for several lengths.
    batch : str
        The symbol of its axis 0, which stands for the batch where it leads another shape.
    """

    input: str
    lengths: tuple[int | None, ...]
    symbols: dict[str, int | None]
    batch: str

    def of(self, name: str, axis: int, symbol: str) -> int | None:
        """Return a free length of a tensor; ``None`` where it is not known."""
        if name == self.input and axis < len(self.lengths):
            return self.lengths[axis]
        if axis == 0 and symbol and symbol == self.batch:
            return self.lengths[0]
        return self.symbols.get(symbol)


@dataclass(frozen=True)
class Fed:
    """The facts on a graph that is fed inputs of known shapes.

    Parameters
    ----------
    nodes : tuple of onnx.NodeProto
        Its nodes, sorted, without constants; an If whose condition is known is replaced by the
        branch that is run.
    shapes : dict of str to tuple
        Shapes of known rank.
    values : dict of str to ndarray
        Small constants, and what is worked out from lengths.
    taken : dict of str to bool
        The branch that was taken, by the first output of an If.
    """

    nodes: tuple[onnx.NodeProto, ...]
    shapes: dict[str, Shape]
    values: dict[str, NDArray[Any]]
    taken: dict[str, bool]


def infer_fed(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> Fed:
    """Infer the shapes of every tensor, and small values, for inputs of these shapes.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    shapes : mapping of str to sequence of int
        Shapes of its inputs.

    Returns
    -------
    Fed
    """
    light = _without_weights(proto, _Sizes("", (), {}, ""))
    for info in light.graph.input:
        if info.name in shapes:
            dims = info.type.tensor_type.shape
            del dims.dim[:]
            for length in shapes[info.name]:
                dims.dim.add(dim_value=length)
    del light.graph.value_info[:]
    taken: dict[str, bool] = {}
    while True:
        inferred, values = _inferred(light, values=True)
        if not _take_branches(light, values, taken):
            break
    graph = inferred.graph
    shapes_of = {
        info.name: shape
        for info in (*graph.value_info, *graph.output, *graph.input)
        if (shape := _type(info)[1]) is not None
    }
    shapes_of |= {name: value.shape for name, value in values.items()}
    # Inference read nodes of other domains as standard ones of the same output shape.
    strange = {n.output[0]: n for n in proto.graph.node if n.domain not in ("", "ai.onnx")}
    nodes = tuple(strange.get(node.output[0], node) for node in light.graph.node)
    return Fed(nodes, shapes_of, values, taken)


def _take_branches(
    light: onnx.ModelProto, values: Mapping[str, NDArray[Any]], taken: dict[str, bool]
) -> bool:
    """Put the branch in place of every If whose condition is known; whether there was one."""
    graph, nodes, taken_any = light.graph, [], False
    for node in graph.node:
        condition = values.get(node.input[0]) if node.op_type == "If" else None
        if condition is None:
            nodes.append(node)
            continue
        taken_any, truth = True, bool(np.asarray(condition).item())
        taken[node.output[0]] = truth
        wanted = "then_branch" if truth else "else_branch"
        body = attribute(node, wanted)
        for tensor in body.initializer:
            _add_weights(graph, tensor.name, tensor)
        nodes += body.node
        nodes += [
            onnx.helper.make_node("Identity", [inner.name], [outer])
            for inner, outer in zip(body.output, node.output, strict=True)
            if outer
        ]
    if taken_any:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
        _lift_constants(graph)
    return taken_any


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make stored values of a branch's Constant nodes."""
    kept = []
    for node in graph.node:
        value = attribute(node, "value")
        if node.op_type == "Constant" and value is not None:
            _add_weights(graph, node.output[0], value)
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def _free_sizes(
    graph: onnx.GraphProto, input: str, input_shape: Sequence[int] | None, batch: int
) -> _Sizes:
    """Return the free lengths, those of the input axis by axis.

    Notes
    -----
    A symbol need not be one: some tools write the same '?' or 'None' for every free length. So one
    that stands for lengths that differ, or for the batch and something else, stands for nothing.
    """
    info = next((i for i in graph.input if i.name == input), onnx.ValueInfoProto())
    dims = info.type.tensor_type.shape.dim
    known = input_shape if input_shape is not None and len(input_shape) == len(dims) else None
    lengths: list[int | None] = []
    meant: dict[str, set[tuple[int | None, bool]]] = {}
    for axis, dim in enumerate(dims):
        size = batch if axis == 0 else None if known is None else int(known[axis])
        lengths.append(dim.dim_value if dim.dim_value > 0 else size)
        if dim.dim_value <= 0 and dim.dim_param and not _is_placeholder(dim.dim_param):
            meant.setdefault(dim.dim_param, set()).add((size, axis == 0))
    symbols = {x: next(iter(m))[0] if len(m) == 1 else None for x, m in meant.items()}
    first = dims[0].dim_param if dims else ""
    return _Sizes(input, tuple(lengths), symbols, first)


def _is_placeholder(symbol: str) -> bool:
    """Whether a symbol is what tools write where they have none."""
    return not symbol.strip("?*-_ .") or symbol.casefold() in _PLACEHOLDERS


def _with_sizes(info: onnx.ValueInfoProto, sizes: _Sizes) -> onnx.ValueInfoProto:
    sized = onnx.ValueInfoProto()
    sized.CopyFrom(info)
    if sized.type.HasField("tensor_type"):
        for axis, dim in enumerate(sized.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                size = sizes.of(info.name, axis, dim.dim_param)
                if size is not None:
                    dim.dim_value = size
                elif dim.HasField("dim_value") or sizes.symbols.get(dim.dim_param, 0) is None:
                    dim.Clear()  # some exporters write 0 or -1 for a free length
                elif _is_placeholder(dim.dim_param):
                    dim.Clear()  # equal ones are not equal lengths
    return sized


def _without_weights(proto: onnx.ModelProto, sizes: _Sizes) -> onnx.ModelProto:
    """Copy a model for inference: weights become inputs, stale shapes are left out."""
    light = onnx.ModelProto()
    light.ir_version = max(proto.ir_version, 8)
    light.opset_import.extend(proto.opset_import)
    graph = light.graph
    graph.name = "inference"
    # In old files initializers are inputs too, whose values inference would not dare to use.
    stored = {i.name for i in proto.graph.initializer}
    graph.input.extend(_with_sizes(i, sizes) for i in proto.graph.input if i.name not in stored)
    for tensor in proto.graph.initializer:
        _add_weights(graph, tensor.name, tensor)
    strange: set[str] = set()
    for node in proto.graph.node:
        value = attribute(node, "value")
        if node.op_type == "Constant" and value is not None:
            _add_weights(graph, node.output[0], value)
            continue
        copied = graph.node.add()
        copied.CopyFrom(node)
        if node.domain not in ("", "ai.onnx"):
            strange.update(node.output)
            _translate(copied)
    # What no rule says may be declared in the file; what a rule says may be declared for another
    # batch, which would stop inference.
    graph.value_info.extend(
        _with_sizes(i, sizes) for i in proto.graph.value_info if i.name in strange
    )
    for info in proto.graph.output:
        made_output = graph.output.add()
        made_output.CopyFrom(info)
        if info.type.HasField("tensor_type"):
            made_output.type.tensor_type.ClearField("shape")
    return light


def _add_weights(graph: onnx.GraphProto, name: str, tensor: onnx.TensorProto) -> None:
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if external or math.prod(tensor.dims) > _SMALL:
        graph.input.append(
            onnx.helper.make_tensor_value_info(name, tensor.data_type, tuple(tensor.dims))
        )
    else:
        kept = graph.initializer.add()
        kept.CopyFrom(tensor)
        kept.name = name


def _translate(node: onnx.NodeProto) -> None:
    """Turn a node of the runtime's own domain into a standard one of the same output shape."""
    like = _LIKE.get(node.op_type)
    if not like:
        return
    if like == "Concat":
        operands = list(node.input[2::3])
    elif node.op_type in ("QGemm", "QLinearAdd", "QLinearMul"):
        operands = [node.input[0], node.input[3]]
    else:
        one = ("Identity", "AveragePool", "GlobalAveragePool")
        operands = list(node.input[: 1 if like in one else 2 if like in ("Conv", "MatMul") else 3])
    kept = [a for a in node.attribute if like != "MatMul" and not a.name.startswith("activation")]
    node.op_type, node.domain = like, ""
    del node.input[:]
    node.input.extend(operands)
    del node.output[1:]
    del node.attribute[:]
    if like != "Identity":
        node.attribute.extend(kept)


def _merged(inferred: Shape | None, declared: Shape | None) -> Shape | None:
    if inferred is None or declared is None or len(inferred) != len(declared):
        return declared if inferred is None else inferred
    # What the file declares for the batch may be a leftover of its export.
    pairs = enumerate(zip(inferred, declared, strict=True))
    return tuple(b if a is None and axis else a for axis, (a, b) in pairs)


def _type(info: onnx.ValueInfoProto) -> tuple[str, Shape | None]:
    if not info.type.HasField("tensor_type"):
        kind = info.type.WhichOneof("value")
        return (str(kind).removesuffix("_type") if kind else "?"), None
    tensor = info.type.tensor_type
    dtype = FLOATS.get(tensor.elem_type) or onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return ("?" if dtype == "undefined" else dtype), shape
