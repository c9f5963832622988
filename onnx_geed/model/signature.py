"""A model's signature: the acted-on input and its layout, the output and its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx

from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import check_input_layout, usual_layouts
from onnx_geed.model.io import Model
from onnx_geed.model.metadata import INPUT, INPUT_LAYOUT, OUTPUT, OUTPUT_KIND
from onnx_geed.model.nodes import FLOATS

__all__ = ["Input", "find_input", "find_output", "input_layout", "inputs", "output_kind"]

# Operators at the end of a graph that leave class scores the numbers that they are.
_THROUGH = frozenset(
    ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
) | {"QuantizeLinear", "DequantizeLinear"}


StatedKind = Literal["logits", "probabilities", "embedding"]


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
        With the batch axis; ``None`` where a length is free; empty where the file states none.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


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
    wanted = name or model.metadata.get(INPUT)
    if wanted is not None:
        if wanted not in every:
            raise GeedError(
                f"--input {wanted}: the model has no such input; it has {', '.join(every)}."
                f"{nearest(wanted, every)}"
            )
        stated = every[wanted]
        if not _acted_on(stated):
            raise GeedError(
                f"--input {wanted}: is {stated.dtype} {_text(stated.shape)}; a group acts on the "
                "grid of a float input (N, C, H, W), (N, H, W, C) or (N, H, W): name such a one"
            )
        return _with_batch(stated)
    fit = [i for i in every.values() if _acted_on(i)]
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
    return _with_batch(fit[0])


def _acted_on(input: Input) -> bool:
    return input.dtype.startswith("float") and 3 <= len(input.shape) <= 5


def _with_batch(input: Input) -> Input:
    # Three or four rows of one-channel images are unheard of; one colour image is not.
    if len(input.shape) == 3 and input.shape[0] in (3, 4):
        raise GeedError(
            f"input {input.name!r} {_text(input.shape)} has no batch axis; export the model for "
            f"(N, {_text(input.shape)[1:]}"
        )
    return input


def _text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if d is None else str(d) for d in shape)})" if shape else "(?)"


def input_layout(model: Model, input: Input, stated_by_user: str | None = None) -> str:
    """Return the layout of the acted-on input.

    Parameters
    ----------
    model : Model
        The model.
    input : Input
        Its acted-on input.
    stated_by_user : str, optional
        The layout as the user states it; else the metadata, else the shape decides.

    Returns
    -------
    str
        One letter an axis, as :func:`onnx_geed.groups.check_input_layout` takes it: ``NHW`` for
        rank 3, ``NCHW`` or ``NHWC`` for rank 4, ``NCDHW`` or ``NDHWC`` for rank 5, or what is
        stated.

    Raises
    ------
    GeedError
        If neither or both layouts fit the shape.
        If a stated layout is none, or has not one letter for each axis.

    Notes
    -----
    Choice: an axis of length 1, 3 or 4 is the channels, if it comes first or last, not both.
    """
    rank = len(input.shape)
    called = f"{input.name!r} {_text(input.shape)}"
    stated = model.metadata.get(INPUT_LAYOUT)
    if stated_by_user:
        return check_input_layout(stated_by_user, rank, "--input-layout", called)
    if stated:
        return check_input_layout(stated, rank, f"metadata {INPUT_LAYOUT}", called)
    if rank == 3:
        return "NHW"
    channels_first, channels_last = usual_layouts(rank)[:2]
    first, last = input.shape[1] in (1, 3, 4), input.shape[-1] in (1, 3, 4)
    if first != last:
        return channels_first if first else channels_last
    more = " (T for the frames of a video)" if rank == 5 else ""
    raise GeedError(
        f"the layout of input {called} cannot be told from its shape: say --input-layout "
        f"{channels_first} or {channels_last}{more}"
    )


def find_output(model: Model, name: str | None = None) -> str:
    """Return the chosen output.

    Parameters
    ----------
    model : Model
        The model.
    name : str, optional
        Its name, or that of any hidden tensor; by default from the metadata, else the only output
        that holds floating-point numbers.

    Returns
    -------
    str

    Raises
    ------
    GeedError
        If there is no such output, or several and none was named.
        If it is a sequence, a map or integers.
    """
    every = {o.name: o for o in model.proto.graph.output}
    wanted = name or model.metadata.get(OUTPUT)
    if wanted is None:
        floats = [o.name for o in every.values() if not _not_measurable(o)]
        if len(floats) > 1:
            raise GeedError(
                f"the model has several outputs ({', '.join(floats)}): name one with --output NAME"
            )
        wanted = floats[0] if floats else next(iter(every), "")
    elif wanted not in every:
        if any(wanted in node.output for node in model.proto.graph.node):
            return wanted
        raise GeedError(
            f"--output {wanted}: the model has no such output; it has {', '.join(every)}."
            f"{nearest(wanted, every)}"
        )
    if reason := _not_measurable(every[wanted]) if wanted else "missing":
        raise GeedError(
            f"output {wanted!r} is {reason}, not a floating-point tensor: export the model with "
            "plain arrays (scikit-learn: ZipMap off), or name another tensor with --output"
        )
    return wanted


def _not_measurable(output: onnx.ValueInfoProto) -> str:
    """Return the type of an output that is no float tensor, by its declaration; else nothing."""
    kind = output.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        return f"a {kind.removesuffix('_type')}"
    dtype = output.type.tensor_type.elem_type
    if not dtype or dtype in FLOATS:
        return ""
    return f"{onnx.TensorProto.DataType.Name(dtype).lower()}"


def output_kind(model: Model, output: str, stated_by_user: str | None = None) -> str | None:
    """Return the kind of numbers that the output holds, as far as it is declared.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        Its chosen output.
    stated_by_user : str, optional
        The kind as the user states it; else the metadata, else the graph's end decides.

    Returns
    -------
    str or None
        ``logits``, ``probabilities``, ``embedding``, or ``None`` where only data can tell.

    Raises
    ------
    GeedError
        If a stated kind is none of these.
    """
    # The metadata speak of the model's own output, not of a hidden tensor chosen in its place.
    named = {o.name for o in model.proto.graph.output} | {model.metadata.get(OUTPUT)}
    stated = stated_by_user or (output in named and model.metadata.get(OUTPUT_KIND))
    if stated:
        if stated not in ("logits", "probabilities", "embedding"):
            raise GeedError(
                f"the output kind is stated as {stated!r}; say logits, probabilities or embedding"
            )
        return stated
    makers = {name: node for node in model.proto.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _THROUGH:
        node = makers.get(node.input[0])
    if node is None:
        return None
    return {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logits"}.get(
        node.op_type
    )
