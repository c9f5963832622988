"""Shape inference node by node: the arithmetic that exporters do on shapes is carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_geed.model.nodes import ops
from onnx_geed.whole import whole

__all__ = ["complete", "is_complete", "placed"]

# Shapes, axes and masks are small; weights are not folded.
_SMALL = 1024


# Operators whose time and memory grow with what they read and make, and no faster: no bodies, which
# may loop, no texts, which may double or be matched for ever, no windows, no random numbers.
_FOLDED = ops(
    "Abs Add And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike "
    "Ceil Clip Compress Concat Constant ConstantOfShape Cos CumSum DepthToSpace DequantizeLinear "
    "Div Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm Greater "
    "GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log MatMul Max Mean Min Mod Mul Neg "
    "NonZero Not OneHot Or Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Round ScatterElements ScatterND "
    "Sigmoid Sign Sin Size Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile "
    "TopK Transpose Trilu Unique Unsqueeze Where Xor"
)


# What these make is no larger than what they read; of others the size must be known before.
_SHRINKING = ops("Compress NonZero Unique")


# Nodes of one graph that are worked out, several times the most that exporters write.
_MOST_FOLDED = 10_000


def complete(model: onnx.ModelProto, *, values: bool = False) -> dict[str, NDArray[Any]]:
    """Add to ``value_info`` the shapes that inference over the whole graph has left open.

    Parameters
    ----------
    model : onnx.ModelProto
        With its ``value_info`` from :func:`onnx.shape_inference.infer_shapes`; changed in place.
    values : bool
        Whether to work out small tensors even where no shape is open.

    Returns
    -------
    dict of str to ndarray
        The small tensors that were worked out: constants, and what is made of lengths.

    Notes
    -----
    Inference follows Shape, Gather and Concat, but not every operator with which an exporter works
    out the target of a Reshape; where input lengths are known, these nodes have one value each.
    """
    graph = model.graph
    infos = {i.name: i for i in (*graph.input, *graph.output, *graph.value_info)}
    types = {name: info.type for name, info in infos.items()}
    if not values and is_complete(model):
        return {}
    known = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for stored in graph.initializer:
        types[stored.name] = onnx.helper.make_tensor_type_proto(stored.data_type, stored.dims)
    left = _MOST_FOLDED
    for node in graph.node:
        if left:
            left -= _evaluate(model, node, types, known)
        if all(_is_complete(types.get(name)) for name in node.output if name):
            continue
        for name, inferred in _inferred(model, node, types, known).items():
            if not _is_complete(types.get(name)):
                types[name] = inferred
                if name in infos:
                    infos[name].type.CopyFrom(inferred)
                else:
                    infos[name] = graph.value_info.add(name=name, type=inferred)
    return known


def is_complete(model: onnx.ModelProto) -> bool:
    """Whether the shapes of all that nodes make are known, to the last length."""
    infos = (*model.graph.output, *model.graph.value_info)
    known = {info.name for info in infos if _is_complete(info.type)}
    return all(name in known for node in model.graph.node for name in node.output if name)


def _is_complete(kind: onnx.TypeProto | None) -> bool:
    return kind is not None and _lengths(kind) is not None


def _lengths(kind: onnx.TypeProto) -> list[int] | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return [d.dim_value for d in dims] if all(d.HasField("dim_value") for d in dims) else None


def _evaluate(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    types: dict[str, onnx.TypeProto],
    values: dict[str, NDArray[Any]],
) -> bool:
    """Work out a node's outputs where its inputs have values, or it only asks for a shape.

    Returns
    -------
    bool
        Whether an operator was run for that.
    """
    feed = {name: values[name] for name in node.input if name in values}
    if node.op_type == "Shape" and node.input and node.output and node.input[0] in types:
        lengths = _lengths(types[node.input[0]])
        if lengths is not None:
            stated = {a.name: a.i for a in node.attribute}
            cut = slice(stated.get("start", 0), stated.get("end"))
            values[node.output[0]] = np.array(lengths[cut], dtype=np.int64)
        return False
    known = all(name in feed for name in node.input if name)
    if not known or node.domain not in ("", "ai.onnx") or node.op_type not in _FOLDED:
        return False
    if any(value.dtype.kind not in "biuf" for value in feed.values()):
        return False
    key = _key(model, node, feed)
    results = _FOUND.get(key) if key else None
    if results is None:
        if not _stays_small(model, node, types, values):
            return False
        try:
            results = _results(model, node, feed)
        except Exception:  # an operator without a reference: its shape stays open
            return True
        if key:
            _keep(key, results)
    for name, result in zip(node.output, results, strict=False):
        if name and isinstance(result, np.ndarray | np.generic) and result.size <= _SMALL:
            values[name] = np.asarray(result)
            element = onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype)
            types[name] = onnx.helper.make_tensor_type_proto(element, values[name].shape)
    return True


# What nodes gave: a graph is gone through for several batches, and most of its nodes give the same
# each time. One that is described in many bytes is no arithmetic on shapes. There is no lock, which
# a fork could leave taken: two threads at once work out the same.
_FOUND: dict[tuple[Any, ...], list[Any]] = {}
_MOST_FOUND, _LONGEST_KEY, _LARGEST_FOUND = 1 << 14, 512, 64


def _key(
    model: onnx.ModelProto, node: onnx.NodeProto, feed: Mapping[str, NDArray[Any]]
) -> tuple[Any, ...] | None:
    """Return what decides a node's outputs; ``None`` where that is long."""
    if node.ByteSize() > _LONGEST_KEY or sum(v.nbytes for v in feed.values()) > _LONGEST_KEY:
        return None
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    given = ((name, v.dtype.str, v.shape, v.tobytes()) for name, v in feed.items())
    return opset, node.SerializeToString(), *given


def _keep(key: tuple[Any, ...], results: list[Any]) -> None:
    if all(np.size(result) <= _LARGEST_FOUND for result in results):
        for result in results:
            if isinstance(result, np.ndarray):
                result.flags.writeable = False  # others read it too
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.clear()
        _FOUND[key] = results


def _results(
    model: onnx.ModelProto, node: onnx.NodeProto, feed: Mapping[str, NDArray[Any]]
) -> list[Any]:
    """Return what a node makes of values."""
    results: Any = placed(node, feed)
    if results is None:
        # Imported here: only models that reckon with shapes need it.
        with whole():
            from onnx.reference import ReferenceEvaluator

        opsets = {o.domain: o.version for o in model.opset_import}
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(node, opsets=opsets).run(None, dict(feed))
    return list(results)


def placed(node: onnx.NodeProto, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]] | None:
    """Work out what only fills a shape, or puts numbers beside each other.

    Files that keep no weights have hundreds of these, and most that reckon with shapes no others;
    the reference of ONNX takes as long to load for them as reading a model, and as long for each
    as inferring its shape.

    Returns
    -------
    list of ndarray or None
        What ONNX's reference gives; ``None`` of another operator, or another form of one of these.
    """
    stated = {a.name: a for a in node.attribute}
    given = [feed[name] for name in node.input if name in feed]
    if len(given) < len(node.input) or len(node.output) != 1:
        return None
    match node.op_type, given, list(stated):
        case "ConstantOfShape", [shape], ["value"] if shape.ndim == 1:
            return [np.full(tuple(shape), numpy_helper.to_array(stated["value"].t).reshape(()))]
        case "ConstantOfShape", [shape], [] if shape.ndim == 1:
            return [np.zeros(tuple(shape), dtype=np.float32)]
        case "Unsqueeze", [x], ["axes"]:
            return [np.expand_dims(x, tuple(stated["axes"].ints))]
        case "Unsqueeze", [x, axes], [] if axes.ndim <= 1:
            return [np.expand_dims(x, tuple(axes.reshape(-1).tolist()))]
        case "Concat", [_, *_], ["axis"]:
            return [np.concatenate(given, axis=stated["axis"].i)]
    return None


def _stays_small(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    types: dict[str, onnx.TypeProto],
    values: dict[str, NDArray[Any]],
) -> bool:
    """Whether what a node makes is known to be small, before it is made."""
    if node.op_type in _SHRINKING:
        return True
    made = [name for name in node.output if name]
    if any(name not in types or _lengths(types[name]) is None for name in made):
        types = types | _inferred(model, node, types, values)
    sizes = [_lengths(types[name]) if name in types else None for name in made]
    return all(size is not None and 0 <= math.prod(size) <= _SMALL for size in sizes)


def _inferred(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    types: dict[str, onnx.TypeProto],
    values: dict[str, NDArray[Any]],
) -> dict[str, onnx.TypeProto]:
    version = next((o.version for o in model.opset_import if o.domain == node.domain), 1)
    try:
        return onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, node.domain),
            node,
            {name: types[name] for name in node.input if name},
            {n: numpy_helper.from_array(values[n]) for n in node.input if n in values},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except Exception:  # inference is a help, and stops at what it does not know
        return {}
