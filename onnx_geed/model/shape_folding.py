"""Shape inference node by node: the arithmetic that exporters do on shapes is carried out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_geed.whole import whole

__all__ = ["complete"]

# Shapes, axes and masks are small; weights are not folded.
_SMALL = 1024


_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial")


# Their last input says how large they are, which may be a whole batch.
_FILLED = ("ConstantOfShape", "Expand", "Tile")


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
    all_known = all(
        _is_complete(types.get(name)) for node in graph.node for name in node.output if name
    )
    if all_known and not values:
        return {}
    known = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for stored in graph.initializer:
        types[stored.name] = onnx.helper.make_tensor_type_proto(stored.data_type, stored.dims)
    for node in graph.node:
        _evaluate(model, node, types, known)
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
) -> None:
    """Work out a node's outputs where its inputs have values, or it only asks for a shape."""
    feed = {name: values[name] for name in node.input if name in values}
    if node.op_type == "Shape" and node.input[0] in types:
        lengths = _lengths(types[node.input[0]])
        if lengths is not None:
            stated = {a.name: a.i for a in node.attribute}
            cut = slice(stated.get("start", 0), stated.get("end"))
            values[node.output[0]] = np.array(lengths[cut], dtype=np.int64)
        return
    known = all(name in feed for name in node.input if name)
    if not known or node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM:
        return
    sizes = [_lengths(types[name]) for name in node.output if name in types]
    if any(size is not None and math.prod(size) > _SMALL for size in sizes):
        return
    if node.op_type in _FILLED and math.prod(feed[node.input[-1]].flat) > _SMALL:
        return
    try:
        # Imported here: only models that reckon with shapes need it.
        with whole():
            from onnx.reference import ReferenceEvaluator

        opsets = {o.domain: o.version for o in model.opset_import}
        results = ReferenceEvaluator(node, opsets=opsets).run(None, feed)
    except Exception:  # an operator without a reference: its shape stays open
        return
    for name, result in zip(node.output, results, strict=False):
        if name and isinstance(result, np.ndarray | np.generic) and result.size <= _SMALL:
            values[name] = np.asarray(result)
            element = onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype)
            types[name] = onnx.helper.make_tensor_type_proto(element, values[name].shape)


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
