"""Parts of a run: results over some of its orbits, which ``onnx-geed merge`` joins."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from onnx_geed.results.origin import DataPart
from onnx_geed.typed_json import Count, Length

__all__ = ["PartPart", "part_words"]

# Where a stretch of samples begins, and where it ends.
_Stretch = Annotated[list[Count], Length(2, 2)]


class _Array(TypedDict):
    """An array: little-endian bytes in C order."""

    dtype: Literal["<f8", "<f4", "<i8"]
    shape: list[Count]
    base64: str


class _OfMeasure(TypedDict):
    measure: str
    layer: str


class _Told(_OfMeasure):
    """What a record says of a measure, known before an orbit is run."""

    layout: str
    output_action: str
    elements: list[str]
    target: bool
    exact: list[Count] | None
    half: list[Count]
    skipped: Count
    half_correction: float
    exact_channels: bool
    table: bool
    trials: bool
    background: int | None
    notes: list[str]
    on_independence: str
    without_table: list[Count]
    averaged: NotRequired[list[Count]]
    reads: NotRequired[str]
    digest: NotRequired[str]
    no_labels: NotRequired[str]


class _Channels(TypedDict):
    rows: _Array
    total: _Array | None
    added: Count


class _Places(TypedDict):
    overlaps: _Array
    right: _Array | None
    foreground: _Array | None
    shares: _Array | None


class _Pair(TypedDict):
    of: _Stretch
    square: float
    deviations: _Array


class _Statistics(TypedDict):
    """A measure's statistics; deviations where no record holds them."""

    zero_pairs: _Array
    inverse: _Array | None
    predicted: _Array | None
    counts: _Array | None
    errors: _Array | None
    half: _Array | None
    deviations: NotRequired[_Array]
    exact_deviations: NotRequired[_Array | None]
    channels: _Channels | None
    places: _Places | None
    pairs: list[_Pair]


class _Measure(TypedDict):
    told: _Told
    statistics: _Statistics | None


class _Spread(_OfMeasure):
    rows: _Array
    mean: _Array | None
    total: float
    added: Count


class _Points(TypedDict):
    positions: _Stretch
    latents: dict[str, _Array]
    tensors: list[_Spread]


class _Trips(_OfMeasure):
    input_round_trip: _Array
    output_round_trip: _Array
    numeric: _Array


class _Fit(TypedDict):
    kind: Literal["permutation", "orthogonal", "linear"]
    layer: str
    samples: Count
    lambda_: float | None
    defect: Annotated[list[float], Length(2, 2)] | None
    indices: list[Count]
    marks: list[str]
    fingerprint: str
    inputs: NotRequired[list[str]]
    wholes: NotRequired[list[str]]


class _FitScales(_OfMeasure):
    skipped: Count
    scales: dict[str, _Array]


class _Evidence(TypedDict):
    """What was taken in of a share, but for what its records hold."""

    group: str
    elements: list[str]
    count: Count
    norm_samples: Count
    pointed: Count
    interval: Literal["t", "bootstrap"]
    seed: int
    idle: list[Count]
    on_untrained: list[str]
    orbits: _Stretch
    measures: list[_Measure]
    points: Annotated[list[_Points], Length(2, 2)]
    moved_classes: dict[str, _Array]
    trips: list[_Trips]
    fits: dict[str, _Fit]
    fit_scales: list[_FitScales]


class _Whole(TypedDict):
    """What is told of all the data of the run."""

    data: DataPart
    marks: dict[str, list[str]]
    apart: _Array | None


class PartPart(TypedDict):
    """A share of a run, and what its merging with the others needs besides its records."""

    version: int
    number: Count
    of: Count
    samples: Count
    orbits: _Stretch
    points: _Stretch
    same: dict[str, str]
    notes: list[str]
    classes: list[str] | None
    marks: dict[str, list[str]]
    evidence: _Evidence
    untrained: _Evidence | None
    moved_inputs: _Array | None
    whole: _Whole | None


def part_words(part: PartPart) -> str:
    """Say that a result is a part, and of what.

    Parameters
    ----------
    part : dict
        The ``part`` of a result.

    Returns
    -------
    str
    """
    orbits, points = (stop - first for first, stop in (part["orbits"], part["points"]))
    head = f"part {part['number']} of {part['of']}"
    further = f" and {points} further points for M" if points else ""
    if not orbits:
        return f"{head}, with no samples of D{further}: onnx-geed merge joins it with the others"
    return (
        f"{head}, with {orbits} of the {part['samples']} samples of D{further}: its values are "
        "not the final ones, which onnx-geed merge computes from all parts"
    )
