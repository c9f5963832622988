"""The layers of a model and the contents of a cache, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_geed.groups import LETTERS
from onnx_geed.safe_names import line_of
from onnx_geed.text import columns, counted, format_bytes, head_lines

__all__ = ["info_table", "layer_table"]


def layer_table(listing: Mapping[str, Any]) -> str:
    """Return what can be measured in a model as a table for a terminal.

    Parameters
    ----------
    listing : dict
        From :func:`onnx_geed.model.list_layers`.

    Returns
    -------
    str
        As wide as the names of tensors, so that they can be copied.
    """
    model, acted, output = listing["model"], listing["input"], listing["output"]
    lines = [f"{model['path']}   opset {model['opset']}   {model['producer']}".rstrip()]
    for entry in listing["inputs"]:
        use = f"   {entry['layout']}" if entry["layout"] else "   --feed"
        if entry["name"] == acted["name"]:
            use = f"   acted on, {acted['layout'] or 'layout unknown: --input-layout'}"
        lines.append(f"input   {entry['name']} {_shape(entry['shape'])} {entry['dtype']}{use}")
    lines.append(f"output  {output['name']}   {output['kind'] or 'kind decided from the data'}")
    if listing["no_latent"]:
        lines.append(f"latent  none: {listing['no_latent']}; name it with --latent NAME")
    for key, value in sorted(listing["metadata"].items()):
        lines.append(f"{key} = {value if len(value) <= 70 else value[:67] + '...'}")
    rows = [("role", "layout", "shape", "bytes", "tensor", "module or node")]
    for tensor in listing["tensors"]:
        role = ",".join(tensor["roles"]) or ("point" if tensor["point"] else "")
        size = "?" if tensor["bytes"] is None else f"{tensor['bytes']:,}"
        where = tensor["module"] or tensor["node"]
        rows.append((role, tensor["layout"], _shape(tensor["shape"]), size, tensor["name"], where))
    return "\n".join(
        (
            *map(line_of, lines),
            "",
            *columns(rows, flexible=None, right=(3,)),
            "",
            *_legend(listing),
            "Measured by default: channel, latent, output. point: another factorisation point.",
            "Any tensor listed can be measured: --measure NAME@TENSOR. bytes: per float32 sample.",
        )
    )


def _legend(listing: Mapping[str, Any]) -> list[str]:
    """Explain the letters of layouts that images do not have."""
    layouts = [entry["layout"] for entry in (*listing["inputs"], *listing["tensors"])]
    tokens = [text for text in layouts if text and text.startswith("NTD")]
    used = {letter for text in layouts if text and text not in tokens for letter in text}
    strange = [x for x in LETTERS if x in used and x not in "NCHWK"]
    lines = [f"{x}: {LETTERS[x]}" for x in strange]
    legend = [f"Letters: {'; '.join(lines)}."] if lines else []
    return [*legend, *(["NTD: tokens with D features each."] if tokens else [])]


def _shape(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "(?)"
    lengths = ["N" if i == 0 and d is None else str(d or "?") for i, d in enumerate(shape)]
    return f"({','.join(lengths)})"


def info_table(info: Mapping[str, Any], verified: bool = False) -> str:
    """Return a cache's description as text.

    Parameters
    ----------
    info : dict
        From :func:`onnx_geed.cache.cache_info`.
    verified : bool
        Whether every checksum was read.

    Returns
    -------
    str
    """
    gone = f"{counted(len(info['missing']), 'shard')} missing"
    gone = gone if info["missing"] else "a file beside the shards is missing"
    state = "complete" if info["complete"] else f"incomplete, {gone}"
    checked = ", all checksums are right" if verified else ""
    rows: list[Sequence[str]] = [("layer", "content", "dtype", "shape", "size")]
    for layer in info["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        rows.append(
            (layer["tensor"], layer["content"], layer["dtype"], shape, format_bytes(layer["bytes"]))
        )
    prints = [("fingerprint", "", ""), *((k, v, "") for k, v in info["fingerprints"].items())]
    return "\n".join(
        line_of(line)
        for line in (
            *head_lines(
                ("cache", info["path"]),
                (
                    "holds",
                    f"{counted(info['orbits'], 'orbit')} of {info['order']}, "
                    f"{counted(info['shards'], 'shard')}, "
                    f"{format_bytes(info['bytes'])}: {state}{checked}",
                ),
            ),
            *head_lines(
                ("model", info["model"]["path"]),
                ("group", info["group"]["name"]),
                ("data", info["data"]["source"]),
            ),
            "",
            *columns(rows, flexible=0, right=(4,)),
            "",
            *columns(prints, flexible=1),
        )
    )
