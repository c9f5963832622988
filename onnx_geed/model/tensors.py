"""The tensors of a model that can be measured, with their roles."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from onnx_geed.errors import GeedError, nearest, refuse_unknown
from onnx_geed.groups import check_layout, parse_layout
from onnx_geed.model.batch_axis import Place, batch_axes
from onnx_geed.model.dataflow import Flow, drop_pointwise
from onnx_geed.model.heads import find_head
from onnx_geed.model.io import Model, load_model
from onnx_geed.model.layout_inference import find_layouts, is_map
from onnx_geed.model.metadata import derived_modules, stated_modules
from onnx_geed.model.nodes import FLOATS, constants, subgraphs
from onnx_geed.model.shapes import Shape, Types, infer, infer_shapes
from onnx_geed.model.signature import (
    StatedKind,
    find_input,
    find_output,
    input_layout,
    inputs,
    output_kind,
)
from onnx_geed.typed import check_value

__all__ = ["Tensor", "list_layers", "list_tensors", "resolve", "stated_layouts"]

_BYTES = {"float16": 2, "float64": 8}


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
        With the batch axis; ``None`` where free or unknown.
    node : str
        The node that makes it.
    op : str
        That node's operator.
    module : str
        The framework's module path; several are separated by commas; empty where unknown.
    point : bool
        Whether it is a factorisation point that is offered.
    layout : str
        ``NCHW``, ``NHWC`` or these letters in another order, ``NTD:..``, ``NTD``, ``NK``, ``?``.
    roles : tuple of str
        Those of ``channel``, ``latent``, ``output`` that it has by default.
    refused : str
        Why it cannot be measured; empty where it can.
    stated : tuple of str
        The module paths that the model's metadata give it.
    scores : bool
        Of the chosen output: whether it is class scores, or may be, as far as the graph tells.
    doubt : str
        Of the chosen output: why the model has no default latent; empty where it has one.
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
        Shape of the input with batch 1, where the file leaves lengths free.
    latent : str, optional
        The latent, where it is not to be looked for.
    layouts : mapping of str to str, optional
        Layouts of tensors by name, over those of the metadata; the input's may be among them.
    kind : str, optional
        What the user says that the output is: ``logits``, ``probabilities`` or ``embedding``.

    Returns
    -------
    tuple of Tensor
        Tensors that cannot be measured, constants too, carry the reason.

    Raises
    ------
    GeedError
        If no data path leads from the input to the output.
        If the output, or the latent that the metadata name, is none that can be measured.
        If the output's kind is stated as none of the three.
    """
    graph = model.proto.graph
    flow = Flow(graph, input, output)
    types = infer(model.proto, input, input_shape, 1)
    # A second batch tells a batch axis from one that happens to have length 1.
    second = infer(model.proto, input, input_shape, 3)
    given = _given_layouts(model, input) | dict(layouts or {})
    layout, folded = find_layouts(graph, flow, types, given)
    refused = _refusals(graph, flow, types)
    if reason := refused.get(output):
        raise GeedError(f"output {output!r} {reason}; name another with --output")
    along_batch = _along_batch(model, input, types, second)
    offered = [p for p in flow.points if p in along_batch]
    kept = drop_pointwise(offered, flow, types)
    found = find_head(flow, offered, types, constants(graph), output_kind(model, output, kind))
    head = latent or _stated_latent(model, refused) or found.latent
    # Who names a latent says that a classifier follows it.
    scores = found.scores or head not in (None, output)
    doubt = "" if head else found.doubt

    def roles(name: str) -> tuple[str, ...]:
        is_point = name in kept or (name in given and name in offered)
        spatial = is_map(types.get(name, ("?", None))[1], layout.get(name, "?"))
        spatial = spatial and (name not in folded or name in given)
        tokens = given.get(name, "").startswith("NTD:")
        return (
            *(["channel"] if is_point and not refused.get(name) and (spatial or tokens) else []),
            *(["latent"] if name == head else []),
            *(["output"] if name == output else []),
        )

    stated, derived = stated_modules(model), derived_modules(graph)
    listed = []
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            dtype, shape = types.get(name, ("?", None))
            modules = dict.fromkeys((*stated.get(name, ()), *filter(None, [derived.get(name)])))
            listed.append(
                Tensor(
                    name,
                    dtype,
                    _public_shape(shape, second.get(name, ("?", None))[1]),
                    node.name or f"{node.op_type}_{index}",
                    node.op_type,
                    ",".join(modules),
                    name in kept and not refused.get(name),
                    layout.get(name, "?"),
                    roles(name),
                    refused.get(name, ""),
                    stated.get(name, ()),
                    name == output and scores,
                    doubt if name == output else "",
                )
            )
        listed += _inside(node)
    return (*listed, *_outside(graph, types))


def _given_layouts(model: Model, input: str) -> dict[str, str]:
    prefix = "onnx_geed.layout."
    metadata = model.metadata.items()
    given = {key.removeprefix(prefix): text for key, text in metadata if key.startswith(prefix)}
    if text := model.metadata.get("onnx_geed.input_layout"):
        given[input] = text
    return given


def _refusals(graph: onnx.GraphProto, flow: Flow, types: Types) -> dict[str, str]:
    """Return why tensors of the main graph cannot be measured, by name."""
    found = {}
    for node in graph.node:
        for name in node.output:
            dtype = types.get(name, ("?", None))[0]
            if node.op_type == "Constant":
                found[name] = "is a constant"
            elif dtype in ("sequence", "map", "optional"):
                found[name] = f"is a {dtype}, not a tensor"
            elif dtype not in (*FLOATS.values(), "?"):
                hint = " (the DequantizeLinear output behind it is)" if "int8" in dtype else ""
                found[name] = f"holds {dtype}, which is not measured{hint}"
            elif name not in flow.tainted:
                found[name] = f"does not depend on the values of input {flow.input!r}"
    return found


def _stated_latent(model: Model, refused: Mapping[str, str]) -> str | None:
    name = model.metadata.get("onnx_geed.latent")
    if name is None:
        return None
    made = {output for node in model.proto.graph.node for output in node.output}
    if name not in made or name in refused:
        reason = refused.get(name) or f"is not in the model.{nearest(name, made)}"
        raise GeedError(f"metadata onnx_geed.latent: {name!r} {reason}; --latent NAME overrides it")
    return name


def _along_batch(model: Model, input: str, one: Types, three: Types) -> set[str]:
    """Return the tensors whose axis 0 is the batch, as far as inference can tell."""
    graph = model.proto.graph
    rows, more = (dict(t)[input][1] or (1,) for t in (one, three))
    places = {}
    if rows[0] == more[0]:  # the file fixes the batch, so that lengths alone do not tell
        shapes = infer_shapes(model.proto, input)
        places = batch_axes(graph, input, shapes, rows[0] or 1)
    found = set()
    for node in graph.node:
        for name in node.output:
            a, b = one.get(name, ("?", None))[1], three.get(name, ("?", None))[1]
            lengths = [(a, rows[0]), (b, more[0])]
            fits = all(s is None or (s and s[0] in (n, None)) for s, n in lengths)
            if fits and places.get(name, Place()) == Place():
                found.add(name)
    return found


def _public_shape(one: Shape | None, three: Shape | None) -> Shape | None:
    if one is None or three is None or len(three) != len(one):
        return one
    return tuple(a if a == b else None for a, b in zip(one, three, strict=True))


def _inside(node: onnx.NodeProto) -> list[Tensor]:
    found = []
    for body in subgraphs(node):
        for inner in body.node:
            reason = f"lies inside the body of a {node.op_type}, where nothing can be reached"
            made = filter(None, inner.output)
            found += [Tensor(o, "?", None, inner.name, inner.op_type, refused=reason) for o in made]
            found += _inside(inner)
    return found


def _outside(graph: onnx.GraphProto, types: Types) -> list[Tensor]:
    fixed = [i.name for i in graph.initializer]
    fed = [i.name for i in graph.input if i.name not in set(fixed)]
    pairs = [(name, "is a constant") for name in fixed]
    pairs += [(name, "is an input of the model") for name in fed]
    return [
        Tensor(name, *types.get(name, ("?", None)), "", "", refused=reason)
        for name, reason in pairs
    ]


def resolve(listed: Sequence[Tensor], pattern: str) -> tuple[Tensor, ...]:
    """Find tensors by tensor name, node name, module path or glob.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`tensors`.
    pattern : str
        What the user wrote.

    Returns
    -------
    tuple of Tensor
        One tensor for a name; for a module path the tensor that the metadata give it, else its
        last; for a glob all that match, or of these the default layers where there are any.

    Raises
    ------
    GeedError
        If nothing matches, with near names.
        If what is named cannot be measured, with the reason.
    """
    fine = [t for t in listed if not t.refused]
    if found := [t for t in fine if t.name == pattern] or [t for t in fine if t.node == pattern]:
        return (found[0],)
    if found := [t for t in fine if pattern in t.stated]:
        return (found[-1],)
    inside = [t for t in fine if any(_within(m, pattern) for m in t.module.split(","))]
    if inside:
        return (inside[-1],)
    if set(pattern) & set("*?["):
        tests: list[Callable[[Tensor], bool]] = [
            lambda t: fnmatch.fnmatchcase(t.name, pattern),
            lambda t: any(fnmatch.fnmatchcase(m, pattern) for m in (t.node, *t.module.split(","))),
        ]
        for test in tests:
            if matched := [t for t in fine if test(t)]:
                return _preferred(matched)
    for tensor in listed:
        if pattern in (tensor.name, tensor.node or None):
            raise GeedError(f"layer {pattern!r} {tensor.refused}; name another tensor")
    names = [t.name for t in fine] + [m for t in fine for m in t.module.split(",") if m]
    raise GeedError(
        f"no layer is called {pattern!r}.{nearest(pattern, names)} onnx-geed layers lists them all"
    )


def stated_layouts(listed: Sequence[Tensor], stated: Mapping[str, str]) -> dict[str, str]:
    """Return the layouts that a user states, by tensor.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`tensors`.
    stated : mapping of str to str
        Layouts by what :func:`resolve` takes.

    Returns
    -------
    dict of str to str
        Of several tensors that a glob names, those with as many axes as the layout has.

    Raises
    ------
    GeedError
        If something is no layout.
        If nothing matches, or what is named cannot be measured.
        If no tensor that is named has as many axes.
    """
    layouts: dict[str, str] = {}
    for key, text in stated.items():
        rank = parse_layout(check_layout(text)).rank
        found = resolve(listed, key)
        fits = [t for t in found if t.shape is None or len(t.shape) == rank]
        if not fits:
            axes = len(found[0].shape or ())
            raise GeedError(
                f"--layout {key}={text}: is for {rank} axes, tensor {found[0].name!r} has {axes}"
                + ("; tokens are stated as NTD:<H>x<W>" if axes == 3 else "")
            )
        layouts |= {t.name: text for t in fits}
    return layouts


def _within(module: str, path: str) -> bool:
    return module == path or module.startswith(path + ".")


def _preferred(matched: list[Tensor]) -> tuple[Tensor, ...]:
    measured = [t for t in matched if t.roles]
    points = [t for t in matched if t.point]
    return tuple(measured or points or matched)


def list_layers(
    path: str | Path,
    *,
    input: str | None = None,
    layout_of_input: str | None = None,
    output: str | None = None,
    kind: StatedKind | None = None,
    latent: str | None = None,
    layout: Mapping[str, str] | None = None,
    **unknown: Any,
) -> dict[str, Any]:
    """List what can be measured in a model.

    Parameters
    ----------
    path : str or Path
        The ONNX file.
    input, layout_of_input, output, kind, latent, layout
        As the options of ``onnx-geed layers``.

    Returns
    -------
    dict
        ``model``, ``inputs``, ``input``, ``output``, ``no_latent`` (why none was found, else
        ``None``), ``metadata`` and ``tensors``; a tensor has
        ``name``, ``shape`` (``None`` where it is free or unknown), ``bytes`` per sample in
        float32, ``roles``, ``point`` (whether it is a factorisation point), ``layout``, ``node``,
        ``module``.

    Raises
    ------
    GeedError
        If the file is not a model, or a name is not in it.
        If there is no such option, or its value is not of its type or none of its choices.
    """
    refuse_unknown(unknown, ("input", "layout_of_input", "output", "kind", "latent", "layout"))
    input, output = (
        check_value("--input", input, str | None),
        check_value("--output", output, str | None),
    )
    latent, kind = (
        check_value("--latent", latent, str | None),
        check_value("--output-kind", kind, StatedKind | None),
    )
    layout_of_input = check_value("--input-layout", layout_of_input, str | None)
    layout = check_value("--layout", layout or {}, Mapping[str, str])
    model = load_model(path)
    acted = find_input(model, input)
    named = find_output(model, output)
    try:
        stored: str | None = input_layout(model, acted, layout_of_input)
    except GeedError:
        if layout_of_input:
            raise
        stored = None  # listing needs no layout; measuring asks for it
    own = {acted.name: stored} if stored and (layout_of_input or len(acted.shape) > 3) else {}
    listed = list_tensors(model, acted.name, named, layouts=own, kind=kind)
    chosen = resolve(listed, latent)[0].name if latent else None
    layouts = stated_layouts(listed, layout)
    if chosen or layouts:
        listed = list_tensors(
            model, acted.name, named, latent=chosen, layouts=own | layouts, kind=kind
        )
    doubt = next((t.doubt for t in listed if t.doubt), None)
    return {
        "model": {"path": str(path), "opset": model.opset, "producer": model.producer},
        "inputs": [{"name": i.name, "shape": i.shape, "dtype": i.dtype} for i in inputs(model)],
        "input": {"name": acted.name, "layout": stored},
        "output": {"name": named, "kind": output_kind(model, named, kind)},
        "no_latent": doubt,
        "metadata": {k: v for k, v in model.metadata.items() if k.startswith("onnx_geed.")},
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
