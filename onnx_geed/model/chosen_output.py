"""The chosen output of a model, and the kind of numbers that it holds."""

from __future__ import annotations

from typing import Literal

import onnx

from onnx_geed.errors import GeedError, nearest
from onnx_geed.model.io import Model
from onnx_geed.model.metadata import OUTPUT, OUTPUT_KIND
from onnx_geed.model.nodes import FLOATS
from onnx_geed.model.output_ends import last_operator

__all__ = ["StatedKind", "find_output", "output_kind", "stored_kind", "stored_output"]

StatedKind = Literal["logits", "probabilities", "embedding"]

# What the last operator of a graph tells.
_KINDS = {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logits"}


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
    known = not dtype or dtype in FLOATS
    return "" if known else f"{onnx.TensorProto.DataType.Name(dtype).lower()}"


def stored_output(model: Model, chosen: str) -> str:
    """Return the output to which a file's settings of an output belong: its kind and latent.

    It is the one that the metadata name, else the one that is taken where nothing is said; of
    several it is the one that is chosen now. Of a hidden tensor no file says anything.
    """
    if OUTPUT in model.metadata:
        return model.metadata[OUTPUT]
    try:
        return find_output(model)
    except GeedError:
        return chosen if chosen in {o.name for o in model.proto.graph.output} else ""


def stored_kind(model: Model, output: str) -> str | None:
    """Return the kind that the metadata give an output, if they speak of this one."""
    its_own = output == stored_output(model, output)
    return model.metadata.get(OUTPUT_KIND) if its_own else None


def output_kind(model: Model, output: str, stated_by_user: str | None = None) -> str | None:
    """Return the kind of numbers that the output holds, as far as it is declared.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        Its chosen output.
    stated_by_user : str, optional
        The kind as the user states it; else the metadata, if they speak of this output, else the
        graph's end decides.

    Returns
    -------
    str or None
        ``logits``, ``probabilities``, ``embedding``, or ``None`` where only data can tell.

    Raises
    ------
    GeedError
        If a stated kind is none of these.
    """
    if stated := stated_by_user or stored_kind(model, output):
        if stated not in ("logits", "probabilities", "embedding"):
            raise GeedError(
                f"the output kind is stated as {stated!r}; choose from logits, probabilities "
                "or embedding"
            )
        return stated
    return _KINDS.get(last_operator(model, output))
