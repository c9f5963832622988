"""A model's tensors as ``onnx-geed layers`` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.graph import (
    find_input,
    find_output,
    input_layout,
    inputs,
    load_model,
    output_kind,
)
from onnx_geed.options import check_option, refuse_unknown
from onnx_geed.points import resolve, stated_layouts, tensors

__all__ = ["layer_table", "list_layers"]

_BYTES = {"float16": 2, "float64": 8}


def list_layers(
    path: str | Path,
    *,
    input: str | None = None,
    layout_of_input: str | None = None,
    output: str | None = None,
    kind: str | None = None,
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
    input, output = check_option("input", input), check_option("output", output)
    latent, kind = check_option("latent", latent), check_option("output_kind", kind)
    layout_of_input = check_option("input_layout", layout_of_input)
    layout = check_option("layout", layout or {})
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
    listed = tensors(model, acted.name, named, layouts=own, kind=kind)
    chosen = resolve(listed, latent)[0].name if latent else None
    layouts = stated_layouts(listed, layout)
    if chosen or layouts:
        listed = tensors(model, acted.name, named, latent=chosen, layouts=own | layouts, kind=kind)
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


def layer_table(listed: dict[str, Any]) -> str:
    """Return the listing as a table for a terminal.

    Parameters
    ----------
    listed : dict
        From :func:`list_layers`.

    Returns
    -------
    str
    """
    model = listed["model"]
    lines = [f"{model['path']}   opset {model['opset']}   {model['producer']}".rstrip()]
    for entry in listed["inputs"]:
        acted = entry["name"] == listed["input"]["name"]
        what = f"acted on, {listed['input']['layout'] or 'layout unknown: --input-layout'}"
        lines.append(
            f"input   {entry['name']} {_shape(entry['shape'])} {entry['dtype']}"
            + (f"   {what}" if acted else "   --feed")
        )
    output = listed["output"]
    lines.append(f"output  {output['name']}   {output['kind'] or 'kind: decided on data'}")
    if listed["no_latent"]:
        lines.append(f"latent  none: {listed['no_latent']}; name it with --latent NAME")
    for key, value in sorted(listed["metadata"].items()):
        lines.append(f"{key} = {value if len(value) <= 70 else value[:67] + '...'}")
    rows = [("role", "shape", "bytes", "tensor", "module or node")]
    for t in listed["tensors"]:
        role = ",".join(r for r in t["roles"] if r != "input") or ("point" if t["point"] else "")
        size = "?" if t["bytes"] is None else f"{t['bytes']:,}"
        rows.append((role, _shape(t["shape"]), size, t["name"], t["module"] or t["node"]))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines.append("")
    for role, shape, size, name, node in rows:
        lines.append(
            f"{role:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  "
            f"{name:<{widths[3]}}  {node}".rstrip()
        )
    lines.append("")
    lines.append(
        "channel, latent, output: what is measured by default. point: another factorisation point."
    )
    lines.append(
        "Any tensor listed can be named: --measure NAME@TENSOR. Bytes: one sample, float32."
    )
    return "\n".join(lines)


def _shape(shape: Any) -> str:
    if shape is None:
        return "(?)"
    return (
        "("
        + ",".join("N" if i == 0 and d is None else str(d or "?") for i, d in enumerate(shape))
        + ")"
    )
