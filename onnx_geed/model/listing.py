"""A model's tensors as a user asks for them, with what is stated of the latent and of layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from onnx_geed.errors import GeedError, refuse_unknown
from onnx_geed.model.chosen_input import (
    Input,
    StatedLayouts,
    find_input,
    further_inputs,
    input_layout,
    inputs,
)
from onnx_geed.model.chosen_output import (
    StatedKind,
    find_output,
    output_kind,
)
from onnx_geed.model.io import Model, load_model
from onnx_geed.model.metadata import own_metadata
from onnx_geed.model.soundness import of_a_model
from onnx_geed.model.tensor_names import resolve, stated_layouts
from onnx_geed.model.tensors import Tensor, infer_tensors, tensors_from
from onnx_geed.typed import check_value

__all__ = ["ListedTensor", "Listing", "layouts_as_stated", "list_as_stated", "list_layers"]


class ListedModel(TypedDict):
    """The file of a listing: path, version of the default operators, and who wrote it."""

    path: str
    opset: int
    producer: str


class ListedInput(TypedDict):
    """An input of the model; lengths are ``None`` where they are free, as a layout unknown is."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: str | None


class ActedOnInput(TypedDict):
    """The input that the group acts on; no layout where it is neither stated nor plain."""

    name: str
    layout: str | None


class ChosenOutput(TypedDict):
    """The output; no kind where only data can tell."""

    name: str
    kind: str | None


class ListedTensor(TypedDict):
    """A tensor that can be measured.

    ``shape`` has ``None`` where a length is free, and is ``None`` where it is unknown; ``bytes``
    are those of one sample in float32; ``point`` says whether it is a factorisation point.
    """

    name: str
    shape: list[int | None] | None
    bytes: int | None
    roles: list[str]
    point: bool
    layout: str
    node: str
    module: str


class Listing(TypedDict):
    """A model as ``onnx-geed layers`` shows it; ``no_latent`` says why none was found, if so."""

    model: ListedModel
    inputs: list[ListedInput]
    input: ActedOnInput
    output: ChosenOutput
    no_latent: str | None
    metadata: dict[str, str]
    tensors: list[ListedTensor]


def list_as_stated(
    model: Model,
    input: str,
    output: str,
    *,
    input_shape: Sequence[int] | None = None,
    input_layout: str | Mapping[str, str] | None = None,
    moved: Collection[str] | None = None,
    latent: str | None = None,
    layout: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> tuple[Tensor, ...]:
    """List a model's tensors, the latent and layouts being stated as a user writes them.

    Parameters
    ----------
    model : Model
        The model.
    input, output : str
        The acted-on input and the chosen output.
    input_shape : sequence of int, optional
        Shape of the input with batch 1, if the file leaves lengths free.
    input_layout : str or mapping of str to str, optional
        Layout of the input, over that of the metadata; or those of several inputs, by name.
    moved : collection of str, optional
        Of these inputs the ones that are moved, all by default: a factorisation point is behind
        every one of them.
    latent : str, optional
        The latent, by a name as :func:`resolve` takes it.
    layout : mapping of str to str, optional
        Layouts by names or patterns as :func:`resolve` takes them.
    kind : str, optional
        Kind of the output as the user states it.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    GeedError
        As :func:`list_tensors`, :func:`resolve` and :func:`stated_layouts` do.
    """
    of_input = {input: input_layout} if isinstance(input_layout, str) else dict(input_layout or {})
    beside = [n for n in of_input if n != input and (moved is None or n in moved)]
    inferred = infer_tensors(model, input, output, input_shape, beside)
    listed = tensors_from(model, inferred, latent=None, layouts=of_input, kind=kind)
    name = resolve(listed, latent)[0].name if latent else None
    layouts = stated_layouts(listed, layout or {})
    if name or layouts:
        listed = tensors_from(model, inferred, latent=name, layouts=of_input | layouts, kind=kind)
    return listed


def layouts_as_stated(model: Model, acted: Input, layouts: StatedLayouts) -> dict[str, str]:
    """Return the layouts of all inputs that have one, by name, without any data.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The acted-on input.
    layouts : str or mapping of str to str, optional
        Layouts as the user states them.

    Raises
    ------
    GeedError
        If a layout that the user states does not fit.
    """
    try:
        own = {acted.name: input_layout(model, acted, layouts)}
    except GeedError:
        if layouts:
            raise
        own = {}  # listing needs no layout; measuring asks for it
    return own | {other.name: text for other, text in further_inputs(model, acted, layouts)}


def list_layers(
    path: str | Path,
    *,
    input: str | None = None,
    layout_of_input: StatedLayouts = None,
    output: str | None = None,
    kind: StatedKind | None = None,
    latent: str | None = None,
    layout: Mapping[str, str] | None = None,
    **unknown: Any,
) -> Listing:
    """List the tensors of a model that can be measured.

    Parameters
    ----------
    path : str or Path
        The ONNX file.
    input, layout_of_input, output, kind, latent, layout
        As the options of ``onnx-geed layers``.

    Returns
    -------
    Listing
        A dictionary as JSON takes it.

    Raises
    ------
    GeedError
        If the file is not a model, or a name is not in it.
        If an option is unknown, or its value is not of its type or none of its choices.
    """
    refuse_unknown(unknown, ("input", "layout_of_input", "output", "kind", "latent", "layout"))
    input = check_value("--input", input, str | None)
    output = check_value("--output", output, str | None)
    latent = check_value("--latent", latent, str | None)
    kind = check_value("--output-kind", kind, StatedKind | None)
    layout_of_input = check_value("--input-layout", layout_of_input, str | Mapping[str, str] | None)
    layout = check_value("--layout", layout or {}, Mapping[str, str])
    return _listed(load_model(path), input, layout_of_input, output, kind, latent, layout)


@of_a_model
def _listed(
    model: Model,
    input: str | None,
    layout_of_input: StatedLayouts,
    output: str | None,
    kind: StatedKind | None,
    latent: str | None,
    layout: Mapping[str, str],
) -> Listing:
    """List the tensors of a model that was read."""
    acted = find_input(model, input, layout_of_input)
    named = find_output(model, output)
    layouts = layouts_as_stated(model, acted, layout_of_input)
    listed = list_as_stated(
        model,
        acted.name,
        named,
        input_layout=layouts,
        latent=latent,
        layout=layout,
        kind=kind,
    )
    doubt = next((t.doubt for t in listed if t.doubt), None)
    return {
        "model": {"path": str(model.path), "opset": model.opset, "producer": model.producer},
        "inputs": [
            {"name": i.name, "shape": i.shape, "dtype": i.dtype, "layout": layouts.get(i.name)}
            for i in inputs(model)
        ],
        "input": {"name": acted.name, "layout": layouts.get(acted.name)},
        "output": {"name": named, "kind": output_kind(model, named, kind)},
        "no_latent": doubt,
        "metadata": own_metadata(model),
        "tensors": [
            {
                "name": t.name,
                "shape": list(t.shape) if t.shape is not None else None,
                "bytes": _bytes(t.shape),
                "roles": list(t.roles),
                "point": t.point,
                "layout": t.layout,
                "node": t.node,
                "module": t.module,
            }
            for t in listed
            if not t.refused
        ],
    }


def _bytes(shape: tuple[int | None, ...] | None) -> int | None:
    if shape is None or None in shape[1:]:
        return None
    size = 4
    for length in shape[1:]:
        size *= length or 0
    return size
