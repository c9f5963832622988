"""A suite's summary → one page: models in order, and curves over training, to be sorted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onnx_geed.measures import Scale, descriptor_of, within
from onnx_geed.report.render import json_in_page, render
from onnx_geed.results import SuiteRow, SuiteSummary
from onnx_geed.safe_names import html_text

__all__ = ["suite_page"]

# Names of a row's entries, as the page's script knows them.
_FIELDS = (
    *("model", "step", "data", "group", "measure", "layer", "far", "farEnds", "value", "ends"),
    *("over", "models", "samples", "warnings", "right", "unmoved", "stay"),
)


# Failures that are listed at once; more are folded.
_OPEN = 5


def suite_page(summary: SuiteSummary) -> str:
    """Return one self-contained HTML page of a suite.

    Parameters
    ----------
    summary : dict
        From :func:`onnx_geed.benchmark`.

    Returns
    -------
    str
        HTML with its style and script inside. The script draws tables and pictures of the rows
        that a reader chooses, so that a page of thousands of values is as short as one of ten.
    """
    rows = summary["rows"]
    groups = list(dict.fromkeys(r["group"] for r in rows))
    warnings = _warnings(rows)
    content = {
        "title": summary["title"] or "Suite",
        "under": " · ".join(groups[:4]) + (f" and {len(groups) - 4} more" * (len(groups) > 4)),
        "counts": _counts(rows),
        "failed": summary["failed"],
        "open": len(summary["failed"]) <= _OPEN,
        "warnings": warnings,
        "rows": bool(rows),
        "json": json_in_page(_table(rows, [w["text"] for w in warnings])),
    }
    return render("suite", content)


def _counts(rows: Sequence[SuiteRow]) -> str:
    """Count models, steps, data sets, groups, measures and values."""
    counted = [
        _counted((r["model"] for r in rows), "model"),
        _counted((r["step"] for r in rows if r["step"] is not None), "training step"),
        _counted((r["data"] for r in rows), "data set"),
        _counted((r["group"] for r in rows), "group"),
        _counted((r["measure"] for r in rows), "measure"),
        f"{len(rows)} value{'s' * (len(rows) != 1)}",
    ]
    return ", ".join(filter(None, counted))


def _counted(names: Iterable[Any], noun: str) -> str:
    count = len(set(names))
    return f"{count} {noun}{'s' * (count != 1)}" if count else ""


def _warnings(rows: Sequence[SuiteRow]) -> list[dict[str, Any]]:
    """Return every warning once, with its number of values."""
    found: dict[str, int] = {}
    for row in rows:
        for warning in row["warnings"]:
            found[warning] = found.get(warning, 0) + 1
    return [{"text": text, "count": f"{n} value{'s' * (n != 1)}"} for text, n in found.items()]


def _table(rows: Sequence[SuiteRow], warnings: Sequence[str]) -> dict[str, Any]:
    """Return rows whose names are numbers in lists, so that a long name is there once."""
    names: dict[str, list[str]] = {
        "model": list(dict.fromkeys(r["model"] for r in rows)),
        "data": list(dict.fromkeys(r["data"] for r in rows)),
        "group": list(dict.fromkeys(r["group"] for r in rows)),
        "measure": list(dict.fromkeys(r["measure"] for r in rows)),
        "layer": list(dict.fromkeys(r["layer"] for r in rows)),
    }
    at = {kind: {name: i for i, name in enumerate(own)} for kind, own in names.items()}
    of_warning = {text: i for i, text in enumerate(warnings)}
    shown = {kind: [html_text(name) for name in own] for kind, own in names.items()}
    return {
        "fields": _FIELDS,
        "names": shown,
        "measures": [_measure(name) for name in names["measure"]],
        "warnings": [html_text(text) for text in warnings],
        "rows": [
            [
                at["model"][row["model"]],
                row["step"],
                *(at[kind][row[kind]] for kind in ("data", "group", "measure", "layer")),
                *_numbers(row),
                row["models"],
                row["samples"],
                [of_warning[w] for w in row["warnings"]],
                _short(row.get("right_mean")),
                _short(row.get("right_unmoved_mean")),
                _short(_kept(row)),
            ]
            for row in rows
        ],
    }


def _measure(name: str) -> dict[str, Any]:
    """Return what the script says of a measure."""
    known = descriptor_of(name)
    # Of latent-cos, whose normalised value is perfect at another number for each model, the
    # unnormalised is shown.
    unit = known.value_unit(normalised=known.normalised and not known.perfect_over_m)
    return {
        "title": known.title,
        "unit": "cosine" if known.similarity else unit,
        "cosine": known.similarity,
        "perfect": known.perfect,
    }


def _numbers(row: SuiteRow) -> list[Any]:
    """Return how far off it is and the interval, the value and its own, and what they are over."""
    value = row["mean"]
    if "far_off_mean" in row:
        far = row["far_off_mean"]
        far_ends = row["far_off_ci95_over_models"] or row["far_off_ci95_over_samples"]
    else:  # of an earlier version
        far = row["relative_mean"]
        far_ends = row["relative_ci95_over_models"] or row["relative_ci95_over_samples"]
    ends = row["ci95_over_models"] or row["ci95_over_samples"]
    over_models = row["ci95_over_models"] or row["relative_ci95_over_models"]
    known = descriptor_of(row["measure"])
    scale: Scale = "value"
    if known.perfect_over_m:
        scale = "unnormalised"
        value, ends = row["unnormalised_mean"], row["unnormalised_ci95_over_models"]
    return [
        _short(far),
        _ends(within(known, far_ends, "relative") if far_ends else None),
        _short(value),
        _ends(within(known, ends, scale) if ends else None),
        "models" if over_models else "samples",
    ]


def _kept(row: SuiteRow) -> float | None:
    """Return the share of moved samples that keep their class; of earlier versions by flips."""
    flips = row["mean"] if descriptor_of(row["measure"]).view == "classes" else None
    return row.get("stay_mean", None if flips is None else 1 - flips)


def _ends(pair: Sequence[float] | None) -> list[float | None] | None:
    return [_short(end) for end in pair] if pair else None


def _short(value: float | None) -> float | None:
    """Return a number of six figures, twice what is shown."""
    return None if value is None else float(f"{value:.6g}")
