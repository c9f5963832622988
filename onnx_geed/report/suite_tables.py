"""A suite's summary as text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_geed.measures import Descriptor, Scale, descriptor_of, perfect_words, told, told_ends
from onnx_geed.report.family_overview import overview_lines
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    SuiteRow,
    SuiteSummary,
    perfect_notes,
    suite_family_values,
)
from onnx_geed.safe_names import csv_cell, line_of
from onnx_geed.text import columns, interval, marked, noted, number, wrapped

__all__ = ["suite_csv", "suite_table"]

# Fields as they stand.
_PLAIN = ("model", "step", "data", "group", "measure", "layer", "output_action", "samples")


# Intervals, two columns each.
_ENDS = (
    "ci95_over_models",
    "ci95_over_samples",
    "unnormalised_ci95_over_models",
    "relative_ci95_over_models",
    "relative_ci95_over_samples",
    "exact_ci95_over_models",
)


def suite_table(summary: SuiteSummary) -> str:
    """Return a suite's summary as text, 100 columns wide at most but for long numbers.

    Parameters
    ----------
    summary : dict
        From :func:`onnx_geed.benchmark`.

    Returns
    -------
    str
        One table per data set, group and measure, with a line per model, step and layer. Then each
        warning once, and the failed runs.
    """
    lines = [summary["title"]]
    notes: dict[str, int] = {}
    parts: dict[tuple[str, str, str], list[SuiteRow]] = {}
    for row in summary["rows"]:
        parts.setdefault((row["measure"], row["data"], row["group"]), []).append(row)
    for (measure, data, group), rows in parts.items():
        lines += ["", f"{measure} ({perfect_words(descriptor_of(measure))})   {data}   {group}"]
        lines += columns(_cells(rows, notes), flexible=0, right=(1, 3, 5, 6, 8))
    for data, rows in _by_data(summary["rows"]).items():
        if own := overview_lines(suite_family_values(rows)):
            lines += ["", f"{own[0]}   {data}", *own[1:]]
    if any(row["relative_mean"] is not None for row in summary["rows"]):
        lines += ["", *wrapped(f"relative: {WHAT_IS_RELATIVE}")]
    for note in perfect_notes(row["measure"] for row in summary["rows"]):
        lines += ["", *wrapped(note)]
    lines += [""] if notes else []
    lines += noted(notes)
    for failure in summary["failed"]:
        lines += wrapped(f"failed: {failure['cell']}: {failure['message']}")
    return "\n".join(map(line_of, lines))


def _by_data(rows: Sequence[SuiteRow]) -> dict[str, list[SuiteRow]]:
    by_data: dict[str, list[SuiteRow]] = {}
    for row in rows:
        by_data.setdefault(row["data"], []).append(row)
    return by_data


def _cells(rows: Sequence[SuiteRow], notes: dict[str, int]) -> list[Sequence[str]]:
    several = len({r["layer"] for r in rows}) > 1
    # Latents and outputs have different names in different models, which means nothing.
    single = all(
        len({r["layer"] for r in rows if r["model"] == model}) == 1
        for model in {r["model"] for r in rows}
    )
    # The two intervals are named apart: once, in the head, where all are of one kind.
    measure = descriptor_of(rows[0]["measure"])
    own = [
        _over(measure, "value", row["ci95_over_models"], row["ci95_over_samples"]) for row in rows
    ]
    relative = [
        _over(
            *(measure, "relative"),
            *(row["relative_ci95_over_models"], row["relative_ci95_over_samples"]),
        )
        for row in rows
    ]
    ends, relative_ends = _interval_column(own), _interval_column(relative)
    head = ("model", "step", "layer", "mean", ends[0], "unnormalised", "relative")
    cells: list[Sequence[str]] = [(*head, relative_ends[0], "n", "")]
    for i, row in enumerate(rows):
        cells.append(
            (
                row["model"],
                "" if row["step"] is None else str(row["step"]),
                row["layer"] if several and not single else "",
                _told(measure, row["mean"]) or number(None),
                ends[1 + i],
                _told(measure, row["unnormalised_mean"], "unnormalised"),
                _told(measure, row["relative_mean"], "relative"),
                "" if row["relative_mean"] is None else relative_ends[1 + i],
                str(row["models"]),
                marked(notes, row["warnings"]),
            )
        )
    return cells


def _told(measure: Descriptor, value: float | None, scale: Scale = "value") -> str:
    return "" if value is None else number(told(measure, value, scale))


def _over(
    measure: Descriptor,
    scale: Scale,
    over_models: list[float] | None,
    over_samples: list[float] | None,
) -> tuple[str, tuple[float, float] | None]:
    """Return an interval, and what it is over; samples where there is one model."""
    if over_models:
        return "models", told_ends(measure, over_models, scale)
    return ("samples", told_ends(measure, over_samples, scale)) if over_samples else ("", None)


def _interval_column(found: Sequence[tuple[str, tuple[float, float] | None]]) -> list[str]:
    """Return the cells of a column of intervals, below its head."""
    kinds = {kind for kind, _ in found if kind}
    if len(kinds) == 1:
        return [f"95 % {kinds.pop()}", *(interval(ends) for _, ends in found)]
    return ["95 %", *(f"{interval(ends)} {kind}".rstrip() for kind, ends in found)]


def suite_csv(summary: SuiteSummary) -> str:
    """Return a line a row, numbers in full.

    Parameters
    ----------
    summary : dict
        From :func:`onnx_geed.benchmark`.

    Returns
    -------
    str
        With a header line; ``seeds``, ``values``, ``normalisers``, ``unnormalised``, ``relative``
        and warnings are separated by semicolons.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    lists = ("seeds", "values", "normalisers", "unnormalised", "relative", "warnings")
    means = ("models", "mean", "unnormalised_mean", "relative_mean", "exact_mean")
    beside = ("right_mean", "right_unmoved_mean", "gain_mean")
    late = ("gain_ci95_over_models", "right_ci95_over_models", "right_ci95_over_samples")
    far = ("far_off_mean", "far_off_ci95_over_models", "far_off_ci95_over_samples")
    ends = [f"{name}_{end}" for name in _ENDS for end in ("low", "high")]
    later = [f"{name}_{end}" for name in (*late, *far[1:]) for end in ("low", "high")]
    writer.writerow((*_PLAIN, *means, *ends, *lists, *beside, *later, far[0], "stay_mean"))
    for row in summary["rows"]:
        fields: Mapping[str, Any] = row
        pairs = [fields[name] or (None, None) for name in _ENDS]
        cells = (
            *(fields[name] for name in (*_PLAIN, *means)),
            *(end for pair in pairs for end in pair),
            *(";".join("" if v is None else str(v) for v in fields[name]) for name in lists),
            *(fields.get(name) for name in beside),
            *(end for name in (*late, *far[1:]) for end in fields.get(name) or (None, None)),
            fields.get(far[0]),
            fields.get("stay_mean"),
        )
        writer.writerow(map(csv_cell, cells))
    return stream.getvalue()
