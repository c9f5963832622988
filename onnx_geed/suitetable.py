"""A suite's summary as a table for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_geed.comparison import LATENT_COS, WHAT_IS_RELATIVE
from onnx_geed.table import columns, interval, number, wrapped

__all__ = ["suite_csv", "suite_table"]

_PLAIN = ("model", "step", "data", "group", "measure", "layer", "output_action", "samples")
_ENDS = (
    "ci95_over_models",
    "ci95_over_samples",
    "unnormalised_ci95_over_models",
    "relative_ci95_over_models",
    "relative_ci95_over_samples",
    "exact_ci95_over_models",
)


def suite_table(made: Mapping[str, Any]) -> str:
    """Return a suite's summary as text of at most 100 columns.

    Parameters
    ----------
    made : mapping
        What :func:`onnx_geed.suite.benchmark` returns.

    Returns
    -------
    str
        One table a data set, group and measure: a line a model, step and layer. Then warnings, each
        once, and what failed.
    """
    lines = [made["title"]]
    notes: dict[str, int] = {}
    parts: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in made["rows"]:
        parts.setdefault((row["measure"], row["data"], row["group"]), []).append(row)
    for (measure, data, group), rows in parts.items():
        lines += ["", f"{measure}   {data}   {group}"]
        lines += columns(_cells(rows, notes), flexible=0, right=(1, 3, 5, 6, 8))
    if any(row["relative_mean"] is not None for row in made["rows"]):
        lines += ["", *wrapped(f"relative: {WHAT_IS_RELATIVE}")]
    if "latent-cos" in {row["measure"] for row in made["rows"]}:
        lines += ["", *wrapped(LATENT_COS)]
    lines += [""] if notes else []
    lines += [line for text, i in notes.items() for line in wrapped(f"[{i}] {text}")]
    for failure in made["failed"]:
        lines += wrapped(f"failed: {failure['cell']}: {failure['message']}")
    return "\n".join(lines)


def _cells(rows: Sequence[Mapping[str, Any]], notes: dict[str, int]) -> list[Sequence[str]]:
    several = len({r["layer"] for r in rows}) > 1
    # Latents and outputs bear other names in other models, which tells nothing.
    single = all(
        len({r["layer"] for r in rows if r["model"] == model}) == 1
        for model in {r["model"] for r in rows}
    )
    head = ("model", "step", "layer", "mean", "95 %", "unnormalised", "relative", "95 %", "n", "")
    cells: list[Sequence[str]] = [head]
    for row in rows:
        marks = [str(notes.setdefault(w, len(notes) + 1)) for w in row["warnings"]]
        cells.append(
            (
                row["model"],
                "" if row["step"] is None else str(row["step"]),
                row["layer"] if several and not single else "",
                number(row["mean"]),
                _ends(row),
                "" if row["unnormalised_mean"] is None else number(row["unnormalised_mean"]),
                "" if row["relative_mean"] is None else number(row["relative_mean"]),
                "" if row["relative_mean"] is None else _ends(row, "relative_"),
                str(len(row["values"])),
                f"[{','.join(marks)}]" if marks else "",
            )
        )
    return cells


def _ends(row: Mapping[str, Any], of: str = "") -> str:
    """Name the two intervals apart."""
    for over in ("models", "samples"):
        if row[f"{of}ci95_over_{over}"]:
            return f"{interval(row[f'{of}ci95_over_{over}'])} {over}"
    return "-"


def suite_csv(made: Mapping[str, Any]) -> str:
    """Return a line a row, numbers in full.

    Parameters
    ----------
    made : mapping
        What :func:`onnx_geed.suite.benchmark` returns.

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
    ends = [f"{name}_{end}" for name in _ENDS for end in ("low", "high")]
    writer.writerow((*_PLAIN, *means, *ends, *lists))
    for row in made["rows"]:
        pairs = [row[name] or (None, None) for name in _ENDS]
        writer.writerow(
            (
                *(row[name] for name in (*_PLAIN, *means)),
                *(end for pair in pairs for end in pair),
                *(";".join("" if v is None else str(v) for v in row[name]) for name in lists),
            )
        )
    return stream.getvalue()
