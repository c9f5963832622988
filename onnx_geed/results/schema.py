"""Types of the JSON files: a result with its records, an aggregate, a comparison.

``docs/formats/results.md`` tells their fields; what earlier versions did not write may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from onnx_geed.groups import FitKind
from onnx_geed.measures import Scale
from onnx_geed.results.intervals import IntervalKind
from onnx_geed.results.origin import DataPart, GroupPart, ModelPart, RuntimePart
from onnx_geed.results.parts import PartPart
from onnx_geed.typed_json import Count, Ends, Fraction

__all__ = [
    "Aggregate",
    "AggregateEntry",
    "AggregateFit",
    "AnyResult",
    "ClassValue",
    "ComparedModel",
    "Comparison",
    "ComparisonEntry",
    "ExactPart",
    "FitDefect",
    "FitIntervals",
    "FitPart",
    "FitSamples",
    "Foreground",
    "Gain",
    "HalfPart",
    "LabelOverlap",
    "OverModels",
    "Overlap",
    "PrecisionPart",
    "Predictions",
    "Record",
    "Reference",
    "Result",
    "Scale",
    "Share",
    "Statistics",
    "SuiteSettings",
]


class Statistics(TypedDict):
    """Eq. (4) over some elements, with its interval and its parts."""

    value: float | None
    ci95: Ends | None
    interval: IntervalKind
    stderr: float | None
    samples: Count
    normaliser: float | None
    unnormalised: float | None
    per_element: dict[str, float]
    per_sample: list[float]
    deviations: list[list[float]]
    errors: NotRequired[list[float]]


class ExactPart(Statistics):
    """The same over the exact elements alone."""

    elements: list[str]
    per_channel: NotRequired[list[float] | None]


class HalfPart(TypedDict):
    """The value over every second element of a sampled group, and how far the whole one is."""

    elements: list[str]
    value: float | None
    ci95: Ends | None
    unnormalised: float | None
    difference: float | None
    difference_ci95: Ends | None


class Reference(TypedDict):
    """A scale to read a value by; the last four are of the untrained network only."""

    value: float | None
    ci95: Ends | None
    unnormalised: float | None
    samples: Count
    normaliser: NotRequired[float | None]
    between_samples: NotRequired[float | None]
    relative: NotRequired[float | None]
    seed: NotRequired[int]


class ClassValue(TypedDict):
    """The value over the samples of one label."""

    value: float
    ci95: Ends | None
    samples: Count


class MovedShare(TypedDict):
    """Share of moved samples for which something holds, those at the first element left out."""

    value: float
    ci95: Ends | None


class Share(TypedDict):
    """Share of samples for which something holds."""

    value: Fraction
    per_element: dict[str, Fraction]
    moved: NotRequired[MovedShare | None]


class Predictions(TypedDict):
    """Shares of predictions that stay as they should, and that are right."""

    stay: Share
    right: Share | None
    samples: Count


class LabelOverlap(TypedDict):
    """Intersection over union of predicted classes with labels, over the places that have one."""

    value: float | None
    unmoved: float | None
    per_element: dict[str, float | None]
    per_class: dict[str, float]
    per_class_unmoved: dict[str, float]
    labelled: float


class Overlap(TypedDict):
    """Mean intersection over union of the classes of f(gx), moved back, with those of f(x)."""

    value: float | None
    per_element: dict[str, float | None]
    per_class: dict[str, float]
    labels: LabelOverlap | None


class Foreground(TypedDict):
    """The measure over the places that are no background; of samples that have some."""

    value: float | None
    ci95: Ends | None
    per_element: dict[str, float | None]
    samples: Count
    share: float
    background: int
    by: Literal["labels", "prediction"]


class FitIntervals(TypedDict):
    """The intervals of what stands beside a fitted value."""

    shuffled: Ends | None
    identity: Ends | None
    other_element: Ends | None


class FitSamples(TypedDict):
    """The same, one value a sample of D."""

    shuffled: list[float] | None
    identity: list[float] | None
    other_element: list[float] | None


class FitDefect(TypedDict):
    """How far a fit is from a representation, over pairs of elements."""

    median: float
    worst: float


#: How an output action was fitted, and its scales. ``lambda`` is a word of Python's own.
FitPart = TypedDict(
    "FitPart",
    {
        "kind": FitKind,
        "lambda": float | None,
        "samples": Count,
        "shuffled": float | None,
        "identity": float | None,
        "other_element": float | None,
        "ci95": FitIntervals,
        "per_sample": FitSamples,
        "defect": FitDefect | None,
    },
)


class Gain(TypedDict):
    """How much more a latent moves than the input did, each by what different samples differ by."""

    value: float | None
    per_element: dict[str, float | None]


class Record(Statistics):
    """An entry of a result's ``measurements``: one measure on one tensor."""

    measure: str
    layer: str
    layout: str
    output_action: str
    between_samples: NotRequired[float | None]
    relative: NotRequired[float | None]
    norm_samples: Count | None
    zero_pairs: Fraction
    per_channel: NotRequired[list[float] | None]
    exact: ExactPart | None
    half: NotRequired[HalfPart | None]
    references: NotRequired[dict[str, Reference] | None]
    without_table: NotRequired[list[str]]
    averaged: NotRequired[list[str]]
    reads: NotRequired[str]
    table: NotRequired[str]
    per_class: NotRequired[dict[str, ClassValue] | None]
    predictions: NotRequired[Predictions | None]
    most_common: NotRequired[Fraction]
    miou: NotRequired[Overlap]
    foreground: NotRequired[Foreground]
    fit: NotRequired[FitPart | None]
    gain: NotRequired[Gain | None]
    warnings: list[str]
    notes: NotRequired[list[str]]


class PrecisionPart(TypedDict):
    """The precision that was asked for, and the samples that it took."""

    asked: float
    samples: Count
    reached: bool
    undecided: list[str]
    without_value: list[str]


class SuiteSettings(TypedDict):
    """The measures and options by which a suite ran a cell; a file is named by its SHA-256."""

    measures: list[str]
    options: dict[str, Any]


class Result(TypedDict):
    """A measurement, ``onnx-geed/result/1``; ``file`` is where it was read from."""

    schema: str
    created: str
    command: str
    software: dict[str, str]
    model: ModelPart
    data: DataPart
    group: GroupPart
    runtime: RuntimePart
    seed: int
    measurements: list[Record]
    notes: NotRequired[list[str]]
    precision: NotRequired[PrecisionPart]
    suite: NotRequired[SuiteSettings]
    part: NotRequired[PartPart]
    file: NotRequired[str]


#: A result as users have it: the dict of this schema, or one that shows itself.
AnyResult = Result | Mapping[str, Any]


class ComparedModel(ModelPart):
    """A model among several, and the file of its result."""

    file: str | None


class OverModels(TypedDict):
    """Several models' values of one thing."""

    values: list[float | None]
    mean: float | None
    ci95_over_models: Ends | None


class AggregateFit(TypedDict):
    """What fitted values of several models are to be read beside."""

    kind: FitKind
    shuffled: OverModels
    identity: OverModels
    other_element: OverModels
    defect: OverModels


class AggregateEntry(TypedDict):
    """One measure on one tensor over several models."""

    measure: str
    layer: str
    output_action: str
    samples: int
    models: int
    values: list[float | None]
    mean: float | None
    ci95_over_models: Ends | None
    stderr_over_models: float | None
    unnormalised: list[float | None]
    unnormalised_mean: float | None
    unnormalised_ci95_over_models: Ends | None
    relative: list[float | None]
    relative_mean: float | None
    relative_ci95_over_models: Ends | None
    fit: AggregateFit | None
    warnings: list[str]


class Aggregate(TypedDict):
    """Several models, ``onnx-geed/aggregate/1``."""

    schema: str
    models: list[ComparedModel]
    group: GroupPart
    data: dict[str, Any]
    measurements: list[AggregateEntry]
    warnings: list[str]


class ComparisonEntry(TypedDict):
    """The paired difference of two models under one measure."""

    measure: str
    layer: str
    output_action_a: str
    output_action_b: str
    compared: Scale
    a: float
    b: float
    value_a: float | None
    value_b: float | None
    relative_a: float | None
    relative_b: float | None
    normaliser_a: float | None
    normaliser_b: float | None
    difference: float
    ci95: Ends | None
    ci95_bootstrap: Ends | None
    interval: str
    verdict_ci95: Ends | None
    share_a_lower: float | None
    samples: int | None
    verdict: str
    warnings: list[str]


class Comparison(TypedDict):
    """Two models, ``onnx-geed/compare/1``."""

    schema: str
    a: ComparedModel
    b: ComparedModel
    differ_in: list[str]
    measurements: list[ComparisonEntry]
