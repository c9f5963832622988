"""The JSON of a manifest: its types, and what its fields say of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from onnx_geed.errors import GeedError
from onnx_geed.json_text import parse_json
from onnx_geed.measures import CATALOGUE
from onnx_geed.results import DataPart, GroupPart, InputPart, MasksPart, ModelPart, RuntimePart
from onnx_geed.typed_json import Count, Within, check_json

__all__ = [
    "Content",
    "Description",
    "StoredLayer",
    "StoredTensor",
    "first_samples",
    "manifest_content",
]

# What to do about a cache whose manifest is none.
_AGAIN = "write the cache again"

Positive = Annotated[int, Within(1)]


#: Activations as the model gave them; vectors that a measure reads of them; sums of eq. (5); and,
#: of a dataset beside the entries, deviations between samples.
Content = Literal["activations", "points", "sums", "deviations"]


class StoredLayer(TypedDict):
    """A tensor that is kept, as :class:`onnx_geed.measures.Layer` has it."""

    name: str
    shape: list[Positive]
    layout: str
    roles: list[str]


class StoredTensor(TypedDict):
    """A tensor as the model listed it, :class:`onnx_geed.model.Tensor`."""

    name: str
    dtype: str
    shape: list[int | None] | None
    node: str
    op: str
    module: NotRequired[str]
    point: NotRequired[bool]
    layout: NotRequired[str]
    roles: NotRequired[list[str]]
    refused: NotRequired[str]
    stated: NotRequired[list[str]]
    scores: NotRequired[bool]
    doubt: NotRequired[str]


class Description(TypedDict):
    """All that measuring needs besides the arrays: plan, names, labels and provenance."""

    mode: str
    model: ModelPart
    data: DataPart
    group: GroupPart
    runtime: RuntimePart
    software: dict[str, str]
    kinds: dict[str, str]
    tables: dict[str, str]
    measures: list[tuple[str, str]]
    layers: list[StoredLayer]
    tensors: list[StoredTensor]
    classes: NotRequired[str | None]
    targets: NotRequired[list[str]]
    notes: list[str]
    # How many of the first samples of D each element leaves as they are.
    unmoved: NotRequired[list[Count]]
    norm_samples: Count
    samples: Count | None
    seed: Count


class ManifestContent(TypedDict):
    """A manifest as every file of a cache carries it."""

    fingerprints: dict[str, str]
    entries: list[tuple[str, list[Positive], Literal["float32", "float16", "float64"], Content]]
    order: Positive
    indices: list[Count]
    count: Positive
    shard_orbits: Positive
    points: list[tuple[Count, Positive]]
    description: Description
    whole: NotRequired[list[Count]]


def first_samples(data: DataPart, count: int, targets: Mapping[str, str]) -> DataPart:
    """Return the ``data`` part of a result over the first samples of a cache, and its targets."""
    part: DataPart = {**data, "indices": data["indices"][:count]}
    part["names"] = data["names"][:count] if data["names"] else None
    part["labels"] = data["labels"][:count] if data["labels"] else None
    if "marks" in data:  # of caches since results can be held against their data
        part["marks"] = data["marks"][:count]
    if "inputs" in data:
        part["inputs"] = [_first_of(one, count) for one in data["inputs"]]
    if "fed_marks" in data:
        part["fed_marks"] = {name: own[:count] for name, own in data["fed_marks"].items()}
    if "wholes" in data:
        part["wholes"] = {**data["wholes"], "marks": data["wholes"]["marks"][:count]}
    if "masks" in data and "marks" in data["masks"]:
        part["masks"] = _first_masks(data["masks"], count)
    if targets:
        part["targets"] = dict(targets)
    return part


def _first_of(one: InputPart, count: int) -> InputPart:
    return {**one, "marks": one["marks"][:count]} if "marks" in one else one


def _first_masks(masks: MasksPart, count: int) -> MasksPart:
    """Return what a run on the first samples says of its masks."""
    marks = masks["marks"][:count]
    return {
        "source": masks["source"],
        "fingerprint": hashlib.sha256("".join(marks).encode()).hexdigest(),
        "marks": marks,
    }


def manifest_content(text: str, source: str) -> ManifestContent:
    """Read a manifest.

    Parameters
    ----------
    text : str
        Its JSON.
    source : str
        The file that carries it, for messages.

    Returns
    -------
    dict

    Raises
    ------
    GeedError
        If it is not JSON, lacks a field, or a field is not of its type.
        If two fields contradict each other.
    """
    content: ManifestContent = parse_json(text, f"{source}, manifest")
    check_json(content, ManifestContent, f"{source}, manifest", _AGAIN)
    if wrong := next(_disagreements(content), ""):
        raise GeedError(f"{source}, manifest: {wrong}; {_AGAIN}")
    return content


def _disagreements(content: ManifestContent) -> Iterator[str]:
    described = content["description"]
    group, data, samples = described["group"], described["data"], len(content["indices"])
    if content["count"] > samples:
        yield f"count is {content['count']}, and indices has {samples} entries"
    if data["indices"] != content["indices"]:
        yield "indices is not description.data.indices"
    if group["order"] != content["order"]:
        yield f"order is {content['order']}, and that of description.group {group['order']}"
    for name, listed in (("elements", group["elements"]), ("exact", group["exact"])):
        yield from _unequal(f"description.group.{name}", listed, "order", content["order"])
    unmoved = described.get("unmoved")
    yield from _unequal("description.unmoved", unmoved, "order", content["order"])
    for name in ("names", "labels", "marks"):
        own: Any = data.get(name)
        yield from _unequal(f"description.data.{name}", own, "indices", samples)
    for i, one in enumerate(data.get("inputs", [])):
        where = f"description.data.inputs[{i}].marks"
        yield from _unequal(where, one.get("marks"), "indices", samples)
    for name, listed_marks in data.get("fed_marks", {}).items():
        if len(listed_marks) != 1:
            where = f"description.data.fed_marks[{name!r}]"
            yield from _unequal(where, listed_marks, "indices", samples)
    wholes = data["wholes"]["marks"] if "wholes" in data else None
    yield from _unequal("description.data.wholes.marks", wholes, "indices", samples)
    marks = data["masks"].get("marks") if "masks" in data else None
    yield from _unequal("description.data.masks.marks", marks, "indices", samples)
    layers = {layer["name"]: layer for layer in described["layers"]}
    tensors = [tensor["name"] for tensor in described["tensors"]]
    for what, names in (
        ("layers", [layer["name"] for layer in described["layers"]]),
        ("tensors", tensors),
        ("group.elements", group["elements"]),
    ):
        if len(set(names)) < len(names):
            yield f"description.{what} names one twice"
    for where, name, known in (
        *((f"entries[{i}]", entry[0], layers) for i, entry in enumerate(content["entries"])),
        *((f"description.layers[{i}]", n, tensors) for i, n in enumerate(layers)),
        *(
            (f"description.measures[{i}]", m[1], layers)
            for i, m in enumerate(described["measures"])
        ),
        *(
            (f"description.targets[{i}]", n, layers)
            for i, n in enumerate(described.get("targets", []))
        ),
    ):
        if name not in known:
            yield f"{where} names {name!r}, which is none of its tensors"
    for i, (measure, _) in enumerate(described["measures"]):
        if measure not in CATALOGUE:
            yield f"description.measures[{i}] is of {measure!r}, which this version does not know"
    for i, entry in enumerate(content["entries"]):
        if entry[3] == "activations" and entry[1] != layers[entry[0]]["shape"]:
            yield f"entries[{i}] has another shape than its layer"
    numbers = [i for i, _ in content["points"]], content.get("whole", [])
    for what, listed_numbers in zip(("points", "whole"), numbers, strict=True):
        if len(set(listed_numbers)) < len(listed_numbers):
            yield f"{what} names an entry twice"
        if max(listed_numbers, default=0) >= max(len(content["entries"]), 1):
            yield f"{what} names an entry that is not there"


def _unequal(where: str, values: Sequence[Any] | None, other: str, count: int) -> Iterator[str]:
    if values is not None and len(values) != count:
        yield f"{where} has {len(values)} entries, and {other} {count}"
