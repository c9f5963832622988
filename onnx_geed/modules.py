"""Module paths of the framework that a model was exported from."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.loading import Model, metadata_json

__all__ = ["derived_modules", "stated_modules"]


def stated_modules(model: Model) -> dict[str, tuple[str, ...]]:
    """Return module paths by tensor, as the metadata ``onnx_geed.modules`` state them.

    Raises
    ------
    GeedError
        If they are not a JSON object of module paths and tensors.
    """
    stated = metadata_json(model, "onnx_geed.modules")
    if stated is None:
        return {}
    if not isinstance(stated, Mapping) or not all(isinstance(v, str) for v in stated.values()):
        raise GeedError("metadata onnx_geed.modules is no JSON object {module path: tensor}")
    found: dict[str, tuple[str, ...]] = {}
    for path, name in stated.items():
        found[name] = (*found.get(name, ()), path)
    return found


def derived_modules(graph: onnx.GraphProto) -> dict[str, str]:
    """Return a module path by tensor, in the two ways in which PyTorch's exporters keep them."""
    found: dict[str, str] = {}
    for node in graph.node:
        key = "pkg.torch.onnx.name_scopes"
        scopes = next((p.value for p in node.metadata_props if p.key == key), None)
        path = _from_scopes(scopes) if scopes else _from_node_name(node.name)
        if path:
            found.update((name, path) for name in node.output if name)
    return found


def _from_scopes(text: str) -> str:
    """Return the innermost module of the newer exporter; the last scope is the node itself."""
    try:
        scopes = [str(s) for s in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return ""
    return next((s for s in reversed(scopes[:-1]) if s), "")


def _from_node_name(name: str) -> str:
    """Return the module in a name of the older exporter, ``/layer1/layer1.0/conv1/Conv``."""
    match = re.fullmatch(r"/(.+)/[^/]+", name)
    if not match:
        return ""
    path = ""
    for part in match[1].split("/"):
        # A child of a container repeats the container's own name: layer1/layer1.0.
        last = path.rpartition(".")[2]
        if path and part.startswith(last + "."):
            path = path.removesuffix(last) + part
        else:
            path = f"{path}.{part}" if path else part
    return path
