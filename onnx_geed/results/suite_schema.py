"""Types of a suite's summary, as :func:`onnx_geed.benchmark` tells what its fields mean."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from onnx_geed.results.schema import AggregateFit
from onnx_geed.typed_json import Ends

__all__ = ["SuiteFailure", "SuiteRow", "SuiteSummary"]


class SuiteRow(TypedDict):
    """One measure on one tensor of a suite's model, over its seeds."""

    model: str
    step: int | None
    data: str
    group: str
    measure: str
    layer: str
    output_action: str
    samples: int
    seeds: list[int | None]
    models: int
    values: list[float | None]
    mean: float | None
    ci95_over_models: Ends | None
    ci95_over_samples: Ends | None
    normalisers: list[float | None]
    unnormalised: list[float | None]
    unnormalised_mean: float | None
    unnormalised_ci95_over_models: Ends | None
    relative: list[float | None]
    relative_mean: float | None
    relative_ci95_over_models: Ends | None
    relative_ci95_over_samples: Ends | None
    far_off_mean: NotRequired[float | None]
    far_off_ci95_over_models: NotRequired[Ends | None]
    far_off_ci95_over_samples: NotRequired[Ends | None]
    exact_mean: float | None
    exact_ci95_over_models: Ends | None
    fit: AggregateFit | None
    kind: NotRequired[str]
    gain_mean: NotRequired[float | None]
    gain_ci95_over_models: NotRequired[Ends | None]
    stay_mean: NotRequired[float | None]
    right_mean: NotRequired[float | None]
    right_ci95_over_models: NotRequired[Ends | None]
    right_ci95_over_samples: NotRequired[Ends | None]
    right_unmoved_mean: NotRequired[float | None]
    warnings: list[str]


class SuiteFailure(TypedDict):
    """A cell of a suite that failed, and why."""

    cell: str
    message: str


class SuiteSummary(TypedDict):
    """A suite, ``onnx-geed/suite/1``."""

    schema: str
    title: str
    failed: list[SuiteFailure]
    rows: list[SuiteRow]
