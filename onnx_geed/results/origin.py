"""Types of the parts of a result file that say what was measured, and who measured it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from onnx_geed.confinement import Protections
from onnx_geed.typed_json import Count, Length, Within

__all__ = [
    "DataPart",
    "GroupPart",
    "InputPart",
    "MasksPart",
    "ModelPart",
    "RuntimePart",
    "WholesPart",
    "same_model",
]


class ModelPart(TypedDict):
    """The model that was measured; of a function its name, an empty SHA-256 and its kind."""

    path: str
    sha256: str
    opset: int
    producer: str
    kind: NotRequired[Literal["callable"]]


def same_model(a: ModelPart, b: ModelPart) -> bool:
    """Tell whether two results are of one model, which is known by its fingerprint alone."""
    return bool(a["sha256"]) and a["sha256"] == b["sha256"]


class InputPart(TypedDict):
    """An input that the group moves; its name is empty where DATA are one array, without names.

    The first one has no ``marks`` and no ``preprocess``, since those of the samples are its.
    """

    name: str
    source: str
    layout: str
    shape: list[Count]
    dtype: str
    fingerprint: NotRequired[str]
    marks: NotRequired[list[str]]
    preprocess: NotRequired[dict[str, Any]]


class WholesPart(TypedDict):
    """Digests of samples with all of their inputs, and the names of these."""

    inputs: list[str]
    marks: list[str]


class DataPart(TypedDict):
    """The samples that were measured; ``inputs`` where they are more than one float input.

    ``fed`` are digests of what other inputs were fed, ``targets`` of what is right, by tensor, and
    ``mask`` is one of what is no padding. ``fed_marks`` are digests sample by sample, or one where
    all samples were fed the same. ``wholes`` are digests of samples with all of their inputs,
    where these are several.
    """

    source: str
    fingerprint: str
    available: Count
    indices: list[Count]
    names: list[str] | None
    labels: list[int | str] | None
    marks: NotRequired[list[str]]
    preprocess: NotRequired[dict[str, Any]]
    layout: NotRequired[str]
    shape: NotRequired[list[Count]]
    inputs: NotRequired[list[InputPart]]
    fed: NotRequired[dict[str, str]]
    fed_marks: NotRequired[dict[str, list[str]]]
    wholes: NotRequired[WholesPart]
    targets: NotRequired[dict[str, str]]
    mask: NotRequired[str | None]
    masks: NotRequired[MasksPart]


class MasksPart(TypedDict):
    """What stood in front of other backgrounds."""

    source: str
    fingerprint: str
    marks: NotRequired[list[str]]


class GroupPart(TypedDict):
    """The group, and how it moves the input."""

    name: str
    kind: NotRequired[Literal["group", "sampled", "family"]]
    order: Annotated[int, Within(1)]
    elements: list[str]
    exact: list[bool]
    parameters: NotRequired[list[float | None]]
    parameter: NotRequired[str]
    unit: NotRequired[str]
    clip: NotRequired[bool]
    backgrounds: NotRequired[str]
    members: NotRequired[str]
    action: NotRequired[str]
    interpolation: Literal["bilinear", "nearest", "bicubic", "own"]
    support: Literal["full", "disk"]
    components: NotRequired[Literal["right-down", "right-up", "down-right"]]
    step: NotRequired[float]
    grid: NotRequired[Annotated[list[Count], Length(0, 2)]]


class RuntimePart(TypedDict, total=False):
    """The device, the engine and the batches of a run, its seconds and its inferences."""

    provider: str
    device: str
    precision: str
    engine: str
    optimisation: str
    batch_size: int
    seconds: float
    inferences: int
    executor: Literal["local", "ray"]
    nodes: Count
    workers: Count
    isolated: Protections
