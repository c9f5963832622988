"""Tensors that a model stores: all of them, wherever they lie, and whether they are as they say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import onnx

from onnx_geed.errors import shown

__all__ = [
    "UnsoundError",
    "check_axes",
    "check_sparse",
    "check_tensor",
    "check_texts",
    "stored",
    "stored_bytes",
    "stored_sparse",
]

# numpy's arrays have no more axes, and the runtime's kernels far fewer.
_MOST_AXES = 64

# Elements of a tensor: no more bytes can be addressed.
_MOST_ELEMENTS = 1 << 60


class UnsoundError(Exception):
    """What is wrong with a model, without its file."""

    cure = "export it again"


def stored(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield what a model stores: weights, and constants of its nodes, bodies and functions."""
    for one in _everything(model):
        if isinstance(one, onnx.TensorProto):
            yield one
        else:
            yield one.values
            yield one.indices


def stored_sparse(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    """Yield the sparse tensors that a model stores."""
    return (one for one in _everything(model) if isinstance(one, onnx.SparseTensorProto))


def _everything(
    model: onnx.ModelProto,
) -> Iterator[onnx.TensorProto | onnx.SparseTensorProto]:
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [*model.functions, model.graph]
    while waiting:
        graph = waiting.pop()
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            yield from graph.sparse_initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                if attribute.HasField("sparse_tensor"):
                    yield attribute.sparse_tensor
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                yield from attribute.tensors
                yield from attribute.sparse_tensors
                waiting += attribute.graphs


def check_texts(texts: Iterable[str | bytes], what: str) -> None:
    """Refuse bytes that are no text, which protobuf hands over as they are."""
    for text in texts:
        if isinstance(text, bytes):
            raise UnsoundError(f"{what} bytes that are not UTF-8: {shown(text)}")


def check_axes(count: int, name: str) -> None:
    """Refuse a tensor of more axes than anything takes."""
    if count > _MOST_AXES:
        raise UnsoundError(
            f"tensor {shown(name)} has {count:,} axes; at most {_MOST_AXES} are accepted"
        )


def _check_lengths(dims: Sequence[int], name: str) -> int:
    """Return the number of a stored tensor's elements."""
    check_texts([name], "a tensor is called")
    check_axes(len(dims), name)
    if any(length < 0 for length in dims):
        raise UnsoundError(f"tensor {shown(name)} has a negative length: {shown(list(dims))}")
    elements = math.prod(dims)
    if elements > _MOST_ELEMENTS:
        raise UnsoundError(f"tensor {shown(name)} is too large: {shown(list(dims))}")
    return elements


# Where elements lie that are not in raw_data; of complex numbers there are two.
_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.COMPLEX64: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.COMPLEX128: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.UINT32: "uint64_data",
    onnx.TensorProto.STRING: "string_data",
}
_PAIRS = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)

# Bits of an element, of the types that are packed in bytes.
_BITS: dict[int, int] = {
    getattr(onnx.TensorProto, name): bits
    for names, bits in (("INT4 UINT4 FLOAT4E2M1", 4), ("INT2 UINT2", 2))
    for name in names.split()
    if hasattr(onnx.TensorProto, name)
}


def stored_bytes(tensor: onnx.TensorProto) -> int | None:
    """Return the bytes that a tensor's data take as they are stored; ``None`` for texts."""
    kind = tensor.data_type
    if kind in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return None
    bits = _BITS.get(kind) or 8 * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    return -(-int(math.prod(tensor.dims)) * bits // 8)


def check_sparse(sparse: onnx.SparseTensorProto) -> None:
    """Refuse a sparse tensor whose lengths are negative, too many or too large."""
    _check_lengths(sparse.dims, sparse.values.name)


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Refuse a stored tensor that has no such lengths or type, or whose data do not fill it."""
    elements, kind = _check_lengths(tensor.dims, tensor.name), tensor.data_type
    if kind not in onnx.TensorProto.DataType.values():
        raise UnsoundError(
            f"tensor {shown(tensor.name)} is of type {kind}, which ONNX does not have"
        )
    if tensor.HasField("segment"):
        raise UnsoundError(f"tensor {shown(tensor.name)} is stored in segments")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or not kind:
        return
    if tensor.HasField("raw_data"):
        wanted, found, unit = stored_bytes(tensor), len(tensor.raw_data), "bytes"
    else:
        per_byte = 8 // _BITS[kind] if kind in _BITS else 1
        wanted = -(-elements * (2 if kind in _PAIRS else 1) // per_byte)
        found, unit = len(getattr(tensor, _FIELDS.get(kind, "int32_data"))), "values"
    if found != wanted:
        raise UnsoundError(
            f"tensor {shown(tensor.name)} of shape {shown(list(tensor.dims))} holds {found:,} "
            f"{unit}, not {wanted or 0:,}"
        )
    for text in tensor.string_data:
        if not _is_text(text):
            raise UnsoundError(
                f"tensor {shown(tensor.name)} holds bytes that are not UTF-8: {shown(text)}"
            )


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
