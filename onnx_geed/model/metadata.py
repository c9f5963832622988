"""A model's metadata: our keys and their values, classes, module paths."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import ops

__all__ = [
    "CLASSES",
    "INPUT",
    "INPUT_LAYOUT",
    "LATENT",
    "MEASUREMENT",
    "MODULES",
    "OUTPUT",
    "OUTPUT_KIND",
    "PREFIX",
    "PREPROCESS",
    "action_key",
    "actions_in_metadata",
    "derived_modules",
    "layout_key",
    "layouts_in_metadata",
    "metadata_json",
    "own_metadata",
    "parse_classes",
    "stated_modules",
]

#: What the keys of our own metadata begin with.
PREFIX = "onnx_geed."

#: The acted-on input, and its layout.
INPUT, INPUT_LAYOUT = f"{PREFIX}input", f"{PREFIX}input_layout"

#: The output, and what it is.
OUTPUT, OUTPUT_KIND = f"{PREFIX}output", f"{PREFIX}output_kind"

#: The tensor in front of the classifier.
LATENT = f"{PREFIX}latent"

#: Preprocessing, names of classes, tensors by module path: JSON.
PREPROCESS, CLASSES, MODULES = f"{PREFIX}preprocess", f"{PREFIX}classes", f"{PREFIX}modules"

#: The key under which a compiled measurement describes itself.
MEASUREMENT = f"{PREFIX}measurement"

# No framework nests modules so deep that their path is longer.
_LONGEST = 4096

# What the older exporter folds batch norms into, and what then ends the path.
_FOLDED_INTO, _FOLDED = ops("Conv ConvTranspose"), "+norm"

# These are followed by the name of a tensor.
_LAYOUT, _ACTION = f"{PREFIX}layout.", f"{PREFIX}action."


def layout_key(tensor: str) -> str:
    """Return the key under which the layout of a tensor is kept."""
    return _LAYOUT + tensor


def action_key(tensor: str) -> str:
    """Return the key under which the output action of a tensor is kept."""
    return _ACTION + tensor


def own_metadata(model: Model) -> dict[str, str]:
    """Return the metadata that are for onnx-geed."""
    return {key: text for key, text in model.metadata.items() if key.startswith(PREFIX)}


def layouts_in_metadata(model: Model) -> dict[str, str]:
    """Return layouts by tensor, as the metadata state them."""
    return _by_tensor(model, _LAYOUT)


def actions_in_metadata(model: Model) -> dict[str, str]:
    """Return output actions by tensor, as the JSON that the metadata keep."""
    return _by_tensor(model, _ACTION)


def _by_tensor(model: Model, prefix: str) -> dict[str, str]:
    metadata = model.metadata.items()
    return {key.removeprefix(prefix): text for key, text in metadata if key.startswith(prefix)}


def parse_classes(text: str | None) -> tuple[str, ...] | None:
    """Read the names of a model's classes, in the order of its outputs.

    Parameters
    ----------
    text : str or None
        The metadata ``onnx_geed.classes``: a JSON list.

    Returns
    -------
    tuple of str or None

    Raises
    ------
    GeedError
        If it is not a list of distinct names.
    """
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(n, (str, int, float)) for n in names):
        raise GeedError(
            "metadata onnx_geed.classes: is not a JSON list of names; write one for each output, "
            "in order"
        )
    plain = (int(n) if isinstance(n, float) and n.is_integer() else n for n in names)
    classes = tuple(map(str, plain))
    if len(set(classes)) < len(classes):
        raise GeedError("metadata onnx_geed.classes: a name occurs twice; make the names distinct")
    return classes


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
    except (ValueError, RecursionError) as error:
        raise GeedError(f"metadata {key} is not JSON ({error}); write it again") from None


def stated_modules(model: Model) -> dict[str, tuple[str, ...]]:
    """Return module paths by tensor, as the metadata ``onnx_geed.modules`` state them.

    Raises
    ------
    GeedError
        If they are not a JSON object of module paths and tensors.
    """
    stated = metadata_json(model, MODULES)
    if stated is None:
        return {}
    if not isinstance(stated, Mapping) or not all(isinstance(v, str) for v in stated.values()):
        raise GeedError("metadata onnx_geed.modules is not a JSON object {module path: tensor}")
    paths: dict[str, list[str]] = {}
    for path, name in stated.items():
        paths.setdefault(name, []).append(path)
    return {name: tuple(found) for name, found in paths.items()}


def derived_modules(graph: onnx.GraphProto) -> dict[str, str]:
    """Return a module path by tensor, in the two ways in which PyTorch's exporters keep them.

    Where the older exporter has folded a batch norm into a convolution, the path of what comes out
    ends with ``+norm``: it lies inside the modules around the convolution, but is not what the
    convolution gives out, and nothing tells the batch norm's own path.
    """
    paths: dict[str, str] = {}
    for node in graph.node:
        key = "pkg.torch.onnx.name_scopes"
        scopes = next((p.value for p in node.metadata_props if p.key == key), None)
        path = _from_scopes(scopes) if scopes else _from_node_name(node.name)
        if path and not scopes and _has_folded_norm(node):
            path += _FOLDED
        if path:
            paths.update((name, path) for name in node.output if name)
    return paths


def _has_folded_norm(node: onnx.NodeProto) -> bool:
    """Whether weights and bias are made by the older exporter: a module's own keep their names.

    Those that a model computes itself look the same.
    """
    made = f"onnx::{node.op_type}_"
    return (
        node.op_type in _FOLDED_INTO
        and len(node.input) > 2
        and all(name.startswith(made) for name in node.input[1:3])
    )


def _from_scopes(text: str) -> str:
    """Return the innermost module of the newer exporter; the last scope is the node itself."""
    if len(text) > _LONGEST:
        return ""
    try:
        scopes = [str(s) for s in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return ""
    return next((s for s in reversed(scopes[:-1]) if s), "")


def _from_node_name(name: str) -> str:
    """Return the module in a name of the older exporter, ``/layer1/layer1.0/conv1/Conv``."""
    if not name.startswith("/") or len(name) > _LONGEST:
        return ""
    inside, _slash, own = name[1:].rpartition("/")
    if not inside or not own or "\n" in inside:
        return ""
    path = ""
    for part in inside.split("/"):
        # A child of a container repeats the container's own name: layer1/layer1.0.
        last = path.rpartition(".")[2]
        if path and part.startswith(last + "."):
            path = path.removesuffix(last) + part
        else:
            path = f"{path}.{part}" if path else part
    return path
