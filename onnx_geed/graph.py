"""An ONNX file: what goes in, what comes out, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from onnx_geed.errors import GeedError, nearest

__all__ = [
    "Input",
    "Model",
    "external_files",
    "find_input",
    "find_output",
    "input_layout",
    "inputs",
    "load_model",
    "output_kind",
    "subgraphs",
]

#: Dtypes of the tensors that can be measured.
FLOATS = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}


@dataclass(frozen=True, eq=False)
class Model:
    """A model as it was read.

    Parameters
    ----------
    path : Path
        The file.
    proto : onnx.ModelProto
        Its content: external data not loaded, local functions inlined, nodes sorted.
    sha256 : str
        Of the file and its external data.
    opset : int
        Version of the default operator set.
    producer : str
        What wrote it.
    metadata : dict of str to str
        Its ``metadata_props``.
    """

    path: Path
    proto: onnx.ModelProto = field(repr=False)
    sha256: str
    opset: int
    producer: str
    metadata: dict[str, str] = field(repr=False)

    def with_proto(self, proto: onnx.ModelProto) -> Model:
        """Return the same model with a rewritten graph."""
        return replace(self, proto=proto)


@dataclass(frozen=True)
class Input:
    """An input of a model.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        numpy's name of its dtype.
    shape : tuple of int or None
        With the batch axis; ``None`` where a length is free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def load_model(path: str | Path) -> Model:
    """Read an ONNX file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Model

    Raises
    ------
    GeedError
        If there is no such file.
        If it is not an ONNX model, or is cut off.
        If its external data are missing, or lie where ONNX Runtime will not read them.
    """
    path = Path(path)
    if path.is_dir():
        raise GeedError(f"{path}: is a folder, not an ONNX file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.onnx")))
        raise GeedError(f"{path}: no such file.{near}") from None
    except OSError as error:
        raise GeedError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        proto = onnx.ModelProto.FromString(content)
    except Exception:  # protobuf's error class depends on its implementation
        raise GeedError(
            f"{path}: not an ONNX model, or cut off; export it again or copy it completely"
        ) from None
    if not proto.ir_version or not proto.graph.node or not proto.opset_import:
        raise GeedError(f"{path}: not an ONNX model (it holds no graph)")
    digest = hashlib.sha256(content)
    for extra in external_files(proto, path):
        with extra.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    if proto.functions:
        proto = _inlined(proto, path)
    _sort(proto.graph)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    metadata = {p.key: p.value for p in proto.metadata_props}
    return Model(path, proto, digest.hexdigest(), opset, producer, metadata)


def _inlined(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner raises bare RuntimeErrors and its own
        raise GeedError(f"{path}: its local functions cannot be inlined ({error})") from None


def external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """Files of external data, each checked to be where ONNX Runtime reads."""
    found: dict[str, Path] = {}
    for tensor in _stored(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if location in found:
            continue
        file = path.parent / location
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise GeedError(
                f"{path}: its weights lie outside its folder ({location}), where ONNX Runtime "
                "refuses to read; put both in one folder and save the model again"
            )
        if not file.is_file():
            raise GeedError(f"{path}: its weights {location!r} are missing; put them beside it")
        if file.is_symlink():
            raise GeedError(
                f"{path}: its weights {location!r} are a symbolic link, which ONNX Runtime refuses; "
                "put the file itself there"
            )
        found[location] = file
    return [found[key] for key in sorted(found)]


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from _stored(inner)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of a node such as If or Loop."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def _sort(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, stably: some converters write them in another order."""
    known = {i.name for i in graph.input} | {i.name for i in graph.initializer} | {""}
    known |= {s.values.name for s in graph.sparse_initializer}
    made = {name for node in graph.node for name in node.output}
    waiting, ordered = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if all(name in known or name not in made for name in reads(node)):
                ordered.append(node)
                known.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise GeedError("the model's graph has a cycle")
        waiting = later
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in ordered]
    if [n.output[:] for n in copies] != [n.output[:] for n in graph.node]:
        del graph.node[:]
        graph.node.extend(copies)


def reads(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads, captures of its bodies included."""
    names = [name for name in node.input if name]
    for inner in subgraphs(node):
        own = {i.name for i in inner.input} | {i.name for i in inner.initializer}
        own |= {name for n in inner.node for name in n.output}
        for n in inner.node:
            names += [name for name in reads(n) if name not in own]
        names += [o.name for o in inner.output if o.name not in own]
    return names


def inputs(model: Model) -> tuple[Input, ...]:
    """Return a model's inputs, those with an initializer left out."""
    fixed = {i.name for i in model.proto.graph.initializer}
    return tuple(_input(i) for i in model.proto.graph.input if i.name not in fixed)


def _input(info: onnx.ValueInfoProto) -> Input:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return Input(info.name, str(kind).removesuffix("_type"), ())
    tensor = info.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "unknown"
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    return Input(info.name, dtype, shape)


def find_input(model: Model, name: str | None = None) -> Input:
    """Return the acted-on input.

    Parameters
    ----------
    model : Model
        The model.
    name : str, optional
        Its name; by default from the metadata, else the only float input of rank 3 to 5.

    Returns
    -------
    Input

    Raises
    ------
    GeedError
        If there is no such input, or none that a group of the plane acts on.
        If several would do.
    """
    every = {i.name: i for i in inputs(model)}
    wanted = name or model.metadata.get("onnx_geed.input")
    if wanted is not None:
        if wanted not in every:
            raise GeedError(
                f"--input {wanted}: the model has no such input; it has {', '.join(every)}."
                f"{nearest(wanted, every)}"
            )
        found = every[wanted]
        if not found.dtype.startswith("float") or not 3 <= len(found.shape) <= 5:
            raise GeedError(
                f"--input {wanted}: is {found.dtype} {_text(found.shape)}; a group acts on the last "
                "two axes of a float input of rank 3 to 5"
            )
        return found
    fit = [i for i in every.values() if i.dtype.startswith("float") and 3 <= len(i.shape) <= 5]
    if not fit:
        listed = ", ".join(f"{i.name} {i.dtype} {_text(i.shape)}" for i in every.values())
        raise GeedError(
            f"no input is one that a group acts on: {listed or 'the model has none'}; rotations, "
            "mirrors and shifts need a float input (N, C, H, W), (N, H, W, C) or (N, H, W)"
        )
    if len(fit) > 1:
        raise GeedError(
            f"several inputs could be acted on ({', '.join(i.name for i in fit)}): name one with "
            "--input NAME, and give the others with --feed NAME=FILE"
        )
    return fit[0]


def _text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if d is None else str(d) for d in shape)})"


def input_layout(model: Model, input: Input, given: str | None = None) -> str:
    """Return the layout of the acted-on input.

    Parameters
    ----------
    model : Model
        The model.
    input : Input
        Its acted-on input.
    given : str, optional
        What the user says; else the metadata, else the shape decides.

    Returns
    -------
    str
        ``NCHW``, ``NHWC``, ``NHW`` for rank 3, ``NCDHW`` for rank 5.

    Raises
    ------
    GeedError
        If neither or both layouts fit the shape.
    """
    rank = len(input.shape)
    if rank == 3:
        return "NHW"
    if rank == 5:
        return "NCDHW"
    stated = given or model.metadata.get("onnx_geed.input_layout")
    if stated:
        if stated not in ("NCHW", "NHWC"):
            raise GeedError(f"metadata onnx_geed.input_layout is {stated!r}: NCHW or NHWC")
        return stated
    first, last = input.shape[1] in (1, 3, 4), input.shape[3] in (1, 3, 4)
    if first != last:
        return "NCHW" if first else "NHWC"
    raise GeedError(
        f"the layout of input {input.name!r} {_text(input.shape)} cannot be told from its shape: "
        "say --input-layout NCHW or NHWC"
    )


def find_output(model: Model, name: str | None = None) -> str:
    """Return the chosen output.

    Parameters
    ----------
    model : Model
        The model.
    name : str, optional
        Its name; by default from the metadata, else the only output.

    Returns
    -------
    str

    Raises
    ------
    GeedError
        If there is no such output, or several and none was named.
        If it is a sequence or map, not a tensor.
    """
    every = {o.name: o for o in model.proto.graph.output}
    wanted = name or model.metadata.get("onnx_geed.output")
    if wanted is not None and wanted not in every:
        made = {o for n in model.proto.graph.node for o in n.output if o}
        if wanted in made:
            return wanted
        raise GeedError(
            f"--output {wanted}: the model has no such output; it has {', '.join(every)}."
            f"{nearest(wanted, every)}"
        )
    if wanted is None:
        tensors = [n for n, o in every.items() if o.type.WhichOneof("value") in ("tensor_type", None)]
        if len(tensors) > 1:
            raise GeedError(
                f"the model has several outputs ({', '.join(tensors)}): name one with --output NAME"
            )
        wanted = tensors[0] if tensors else next(iter(every))
    kind = every[wanted].type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        raise GeedError(
            f"output {wanted!r} is a {str(kind).removesuffix('_type')}, not a tensor: export the "
            "model with plain arrays (ZipMap off), or name another with --output"
        )
    return wanted


def output_kind(model: Model, output: str, given: str | None = None) -> str | None:
    """Return what the output is, as far as it is declared.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        Its chosen output.
    given : str, optional
        What the user says; else the metadata, else the graph's end decides.

    Returns
    -------
    str or None
        ``logits``, ``probabilities``, ``embedding``, or ``None`` where only data can tell.

    Raises
    ------
    GeedError
        If the metadata hold something else.
    """
    stated = given or model.metadata.get("onnx_geed.output_kind")
    if stated:
        if stated not in ("logits", "probabilities", "embedding"):
            raise GeedError(
                f"metadata onnx_geed.output_kind is {stated!r}: logits, probabilities or embedding"
            )
        return stated
    makers = {name: node for node in model.proto.graph.node for name in node.output}
    through = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout",
               "QuantizeLinear", "DequantizeLinear"}
    node = makers.get(output)
    while node is not None and node.op_type in through:
        node = makers.get(node.input[0])
    if node is None:
        return None
    return {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logits"}.get(
        node.op_type
    )


def metadata_json(model: Model, key: str) -> Any:
    """Return a metadata value that is JSON, or ``None`` where there is none.

    Raises
    ------
    GeedError
        If it is not JSON.
    """
    text = model.metadata.get(key)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise GeedError(f"metadata {key} is not JSON ({error})") from None
