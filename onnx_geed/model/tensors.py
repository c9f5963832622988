"""The tensors of a model that can be measured, with their roles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, nearest
from onnx_geed.model.batch_axis import axes_of_rows
from onnx_geed.model.chosen_input import (
    layouts_in_file,
)
from onnx_geed.model.chosen_output import (
    output_kind,
    stored_output,
)
from onnx_geed.model.dataflow import Flow, drop_pointwise
from onnx_geed.model.heads import find_head
from onnx_geed.model.io import Model
from onnx_geed.model.labour import seconds_of
from onnx_geed.model.layout_inference import find_layouts, has_places
from onnx_geed.model.metadata import (
    LATENT,
    derived_modules,
    stated_modules,
)
from onnx_geed.model.nodes import FLOATS, constants, data_reads, integer_of, ops, subgraphs
from onnx_geed.model.restated import module_outputs, origins, standing, unsure_maps
from onnx_geed.model.shapes import Shape, Types, infer
from onnx_geed.model.workspace import workspace

__all__ = [
    "Inferred",
    "Tensor",
    "computed_in_half",
    "infer_tensors",
    "list_tensors",
    "tensors_from",
    "with_told",
]


# Their maps have one place, whether or not the graph tells their shape.
_ONE_PLACE = ops("GlobalAveragePool GlobalMaxPool GlobalLpPool")

_HALF = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        ``float32``, ``float16``, ``float64``, another dtype, or ``?``.
    shape : tuple of int or None, or None
        Shape with the batch axis; ``None`` for a free or unknown length, or for an unknown shape.
    node : str
        The node that computes it.
    op : str
        That node's operator.
    module : str
        The framework's module path, several separated by commas; empty if unknown.
    point : bool
        Whether it is listed as a factorisation point.
    layout : str
        One letter per axis, such as ``NCHW``, ``NPC`` or ``NK``; ``NTD:..``, ``NTD``; ``?`` for an
        unknown letter.
    roles : tuple of str
        Its default roles: ``channel``, ``latent``, ``output``.
    refused : str
        Why it cannot be measured; empty if it can.
    stated : tuple of str
        Its module paths in the model's metadata.
    scores : bool
        For the chosen output: whether it has, or may have, class scores according to the graph.
    doubt : str
        For the chosen output: why the model has no default latent; empty if it has one.
    held : int
        Bytes that it takes in memory for a batch of one, or for the file's fixed one; free lengths
        count as 1, and an unknown shape as nothing.
    beside : int
        Bytes that its node takes while it runs, beside its inputs and outputs, likewise.
    seconds : float
        How long its node computes on one core, likewise; of a node's first output.
    aside : str
        Why a factorisation point that may hold maps has no role: ``NO_LAYOUT`` or
        ``ROWS_ELSEWHERE``; else empty.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    node: str
    op: str
    module: str = ""
    point: bool = False
    layout: str = "?"
    roles: tuple[str, ...] = ()
    refused: str = ""
    stated: tuple[str, ...] = ()
    scores: bool = False
    doubt: str = ""
    held: int = 0
    beside: int = 0
    seconds: float = 0.0
    aside: str = ""


@checked
def list_tensors(
    model: Model,
    input: str,
    output: str,
    *,
    input_shape: Sequence[int] | None = None,
    latent: str | None = None,
    layouts: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> tuple[Tensor, ...]:
    """List a model's tensors in topological order.

    Parameters
    ----------
    model : Model
        The model.
    input, output : str
        The acted-on input and the chosen output.
    input_shape : sequence of int, optional
        Shape of the input with batch 1, if the file leaves lengths free.
    latent : str, optional
        The latent, if it is not to be searched.
    layouts : mapping of str to str, optional
        Layouts of tensors by name, also of the input; they override the metadata.
    kind : str, optional
        Kind of the output as the user states it: ``logits``, ``probabilities`` or ``embedding``.

    Returns
    -------
    tuple of Tensor
        All tensors. Those that cannot be measured, also constants, have the reason.

    Raises
    ------
    GeedError
        If there is no data path from the input to the output.
        If the output, or the latent named in the metadata, cannot be measured.
        If the stated kind of the output is unknown.
    """
    inferred = infer_tensors(model, input, output, input_shape)
    return tensors_from(model, inferred, latent=latent, layouts=layouts or {}, kind=kind)


@dataclass(frozen=True)
class Inferred:
    """Facts of a graph that no option changes: data flow, and types at batches of 1 and 3.

    The second batch tells a batch axis from one that happens to have length 1.
    """

    flow: Flow
    one: Types
    three: Types


def infer_tensors(
    model: Model,
    input: str,
    output: str,
    input_shape: Sequence[int] | None,
    beside: Sequence[str] = (),
) -> Inferred:
    """Infer the facts that :func:`tensors_from` works from.

    Parameters
    ----------
    model : Model
        The model.
    input, output : str
        The acted-on input and the chosen output.
    input_shape : sequence of int or None
        Shape of the input with batch 1, if the file leaves lengths free.
    beside : sequence of str
        Inputs that are moved together with it.

    Raises
    ------
    GeedError
        If there is no data path from the input to the output.
    """
    one, three = (infer(model.proto, input, input_shape, batch) for batch in (1, 3))
    return Inferred(Flow(model.proto.graph, input, output, beside), one, three)


def tensors_from(
    model: Model,
    inferred: Inferred,
    *,
    latent: str | None,
    layouts: Mapping[str, str],
    kind: str | None,
) -> tuple[Tensor, ...]:
    """List a model's tensors from what was inferred, as :func:`list_tensors` does."""
    graph, flow, types, second = model.proto.graph, inferred.flow, inferred.one, inferred.three
    input, output = flow.input, flow.output
    stated_layouts = layouts_in_file(model, input) | dict(layouts)
    free = types.get(input, ("?", None))[1] != second.get(input, ("?", None))[1]
    more = second if free else None
    layout, folded, still = find_layouts(graph, flow, types, stated_layouts, more)
    refused = _refusals(graph, flow, types)
    if reason := refused.get(output):
        raise GeedError(f"output {output!r} {reason}; name another with --output")
    rows = axes_of_rows(graph, input, types, second)
    offered = [p for p in flow.points if rows.get(p) == 0]
    # A map is not dropped for its quantised values, which nobody can measure.
    kept = drop_pointwise([p for p in offered if not refused.get(p)], flow, types)
    pooled = {name for name, text in layout.items() if _has_places_and_channels(text)}
    kind_of_output = output_kind(model, output, kind)
    short = constants(graph)
    classifier = find_head(flow, offered, types, short, kind_of_output, pooled)
    head = latent or _stated_latent(model, refused, flow) or classifier.latent
    # Who names a latent says that a classifier follows it.
    scores = classifier.scores or head not in (None, output)
    doubt = "" if head else classifier.doubt

    stated, derived = stated_modules(model), derived_modules(graph)
    spatial = [
        name
        for name in offered
        if not refused.get(name)
        and flow.makers[name].op_type not in _ONE_PLACE
        and has_places(types.get(name, ("?", None))[1], layout.get(name, "?"))
    ]
    found = origins(graph, flow, types)
    fine = [name for node in graph.node for name in node.output if name and name not in refused]
    given_out = module_outputs(fine, derived)
    outputs = {*given_out.values(), *stated}
    maps = standing(
        [name for name in spatial if name in kept and name not in folded], found, input, outputs
    )
    # A converter states the layout of all tensors that hold what a module gives out: one stands.
    for name in (name for name in spatial if name in stated_layouts):
        held = {found[other] for other in maps if other in stated_layouts}
        if name in layouts or found[name] not in held:
            maps.add(name)

    # Of these as well one stands for all, and none where a map that is measured holds the same.
    no_maps = still | {output}
    unsure = unsure_maps(
        flow, types, rows, kept, refused, layout, no_maps, head, derived, given_out
    )
    shown = {found[name] for name in maps}
    unsure = {p: why for p, why in unsure.items() if found[p] not in shown}
    aside = {p: unsure[p] for p in standing([*unsure], found, input, outputs)}

    def roles(name: str) -> tuple[str, ...]:
        return (
            *(["channel"] if name in maps else []),
            *(["latent"] if name == head else []),
            *(["output"] if name == output else []),
        )

    listed = []
    for index, node in enumerate(graph.node):
        first = next(filter(None, node.output), "")
        for name in filter(None, node.output):
            dtype, shape = types.get(name, ("?", None))
            # What a converter has not stated, it did not find: node names would guess it.
            modules = stated.get(name, ()) if stated else filter(None, [derived.get(name)])
            listed.append(
                Tensor(
                    name,
                    dtype,
                    _public_shape(shape, second.get(name, ("?", None))[1]),
                    node.name or f"{node.op_type}_{index}",
                    node.op_type,
                    ",".join(modules),
                    name in kept,
                    layout.get(name, "?"),
                    roles(name),
                    refused.get(name, ""),
                    stated.get(name, ()),
                    name == output and scores,
                    doubt if name == output else "",
                    _held(dtype, shape),
                    workspace(node, types),
                    seconds_of(node, types, short) if name == first else 0.0,
                    aside.get(name, ""),
                )
            )
        listed += _tensors_in_bodies(node)
    return (*listed, *_inputs_and_constants(graph, types))


def with_told(
    model: Model,
    input: str,
    input_shape: Sequence[int],
    listed: Sequence[Tensor],
    told: Mapping[str, Sequence[int]],
) -> Sequence[Tensor]:
    """Return tensors with what they hold, where only a run tells the shapes of some.

    Parameters
    ----------
    model : Model
        The model.
    input : str
        The acted-on input.
    input_shape : sequence of int
        Its shape with batch 1.
    listed : sequence of Tensor
        The tensors, as :func:`list_tensors` returns them.
    told : mapping of str to sequence of int
        What a run told: shapes of a row, without the batch axis.

    Returns
    -------
    sequence of Tensor
        The same ones where inference had told as much.
    """
    unknown = {t for t in listed if None in (t.shape or (None, None))[1:]}
    asked = [t for t in listed if t in unknown and t.name in told]
    if not asked:
        return listed
    graph = model.proto.graph
    kinds = {spelling: kind for kind, spelling in FLOATS.items()}
    info = next(i for i in graph.input if i.name == input)
    batch = max(1, next((d.dim_value for d in info.type.tensor_type.shape.dim), 1))
    shapes = {t.name: (batch, *told[t.name]) for t in asked}
    infos = [
        onnx.helper.make_tensor_value_info(t.name, kinds.get(t.dtype, kinds["float32"]), shape)
        for t, shape in zip(asked, shapes.values(), strict=True)
    ]
    types = infer(model.proto, input, input_shape, batch, infos)
    types |= {t.name: (t.dtype, shapes[t.name]) for t in asked}
    makers = {name: node for node in graph.node for name in node.output if name}

    def with_its_bytes(tensor: Tensor) -> Tensor:
        if tensor.name not in makers:
            return tensor
        dtype, shape = types.get(tensor.name, ("?", None))
        held = max(tensor.held, _held(dtype, shape))
        beside = max(tensor.beside, workspace(makers[tensor.name], types))
        public = (None, *shape[1:]) if shape and tensor in unknown else tensor.shape
        return replace(tensor, shape=public, held=held, beside=beside)

    return tuple(with_its_bytes(tensor) for tensor in listed)


def computed_in_half(graph: onnx.GraphProto, listed: Sequence[Tensor]) -> frozenset[str]:
    """Return the tensors on whose way from the inputs numbers are rounded to half precision.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    listed : sequence of Tensor
        Its tensors.

    Returns
    -------
    frozenset of str
        Weights that are only stored in half precision round nothing on the way.
    """
    of_half = {tensor.name for tensor in listed if tensor.dtype in _HALF.values()}
    moved = {i.name for i in graph.input} - {i.name for i in graph.initializer}
    rounded: set[str] = set()
    for node in graph.node:
        read = moved.intersection(data_reads(node))
        if read:
            moved.update(node.output)
            if read & rounded or of_half.intersection(node.output) or _casts_to_half(node):
                rounded.update(node.output)
    return frozenset(rounded)


def _casts_to_half(node: onnx.NodeProto) -> bool:
    """Whether the bodies of a node, whose types are not listed, round to half precision."""
    return any(
        (inner.op_type == "Cast" and integer_of(inner, "to", 0) in _HALF) or _casts_to_half(inner)
        for body in subgraphs(node)
        for inner in body.node
    )


def _held(dtype: str, shape: Shape | None) -> int:
    """Return the bytes of a tensor in memory."""
    if shape is None:
        return 0
    try:
        # A CPU computes half precision in float32.
        size = 4 if dtype == "float16" else np.dtype(dtype).itemsize
    except TypeError:  # a type that numpy has not, or none that is known
        size = 4 if dtype == "?" else 1
    return size * math.prod(1 if length is None else max(0, length) for length in shape)


def _has_places_and_channels(layout: str) -> bool:
    """Whether a tensor of this layout is averaged over its places to a vector."""
    return len(layout) > 2 and "C" in layout


def _refusals(graph: onnx.GraphProto, flow: Flow, types: Types) -> dict[str, str]:
    """Return why tensors of the main graph cannot be measured, by name."""
    reasons = {}
    dequantised: set[str] = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            dequantised.update(node.input[:1])
    for node in graph.node:
        for name in node.output:
            dtype = types.get(name, ("?", None))[0]
            if node.op_type == "Constant":
                reasons[name] = "is a constant"
            elif dtype in ("sequence", "map", "optional"):
                reasons[name] = f"is {'an' if dtype == 'optional' else 'a'} {dtype}, not a tensor"
            elif dtype not in (*FLOATS.values(), "?"):
                hint = " (the DequantizeLinear output behind it is)" if name in dequantised else ""
                reasons[name] = f"holds {dtype}, which is not measured{hint}"
            elif name not in flow.tainted:
                reasons[name] = f"does not depend on the values of input {flow.input!r}"
    return reasons


def _stated_latent(model: Model, refused: Mapping[str, str], flow: Flow) -> str | None:
    name = model.metadata.get(LATENT)
    if name is None:
        return None
    outputs = {output for node in model.proto.graph.node for output in node.output}
    elsewhere = name in outputs and name not in flow.live
    # Of several outputs, of which none is stored, no one is what it was stored for.
    if elsewhere and flow.output != stored_output(model, ""):
        return None  # it is that of an output which this one has nothing to do with
    if name not in outputs or name in refused:
        reason = refused.get(name) or f"is not in the model.{nearest(name, outputs)}"
        raise GeedError(f"metadata {LATENT}: {name!r} {reason}; --latent NAME overrides it")
    return name


def _public_shape(one: Shape | None, three: Shape | None) -> Shape | None:
    if one is None or three is None or len(three) != len(one):
        return one
    return tuple(a if a == b else None for a, b in zip(one, three, strict=True))


def _tensors_in_bodies(node: onnx.NodeProto) -> list[Tensor]:
    tensors = []
    for body in subgraphs(node):
        for inner in body.node:
            reason = f"is inside the body of a {node.op_type}, which cannot be reached"
            outputs = filter(None, inner.output)
            tensors += [
                Tensor(o, "?", None, inner.name, inner.op_type, refused=reason) for o in outputs
            ]
            tensors += _tensors_in_bodies(inner)
    return tensors


def _inputs_and_constants(graph: onnx.GraphProto, types: Types) -> list[Tensor]:
    fixed = [i.name for i in graph.initializer]
    fed = [i.name for i in graph.input if i.name not in set(fixed)]
    pairs = [(name, "is a constant") for name in fixed]
    pairs += [(name, "is an input of the model") for name in fed]
    return [
        Tensor(name, *types.get(name, ("?", None)), "", "", refused=reason)
        for name, reason in pairs
    ]
