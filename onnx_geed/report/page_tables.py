"""The tables of a page: all values, predictions and classes, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.report.words import meaning
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    GroupPart,
    Record,
    Result,
    compare,
    compared,
    element_words,
    is_family,
    read_record,
)
from onnx_geed.text import interval, number

__all__ = ["OPEN", "class_tables", "comparisons", "value_row"]

#: Rows of a table that is open from the start.
OPEN = 14


_INTERVALS = {"t": "Student t", "bootstrap": "BCa bootstrap", "wilson": "Wilson"}


def value_row(record: Record, group: GroupPart) -> dict[str, Any]:
    """Return the cells of a record: numbers as text, empty where there are none.

    Parameters
    ----------
    record : dict
        The record.
    group : dict
        The ``group`` part of its result.

    Returns
    -------
    dict
    """
    reading, part = read_record(record), record["exact"]
    # Between samples has a column of its own, of results that are older too.
    references = {
        name: reference["value" if reading.normalised else "unnormalised"]
        for name, reference in (record.get("references") or {}).items()
        if name != "between_samples"
    }
    return {
        "measure": record["measure"],
        "layer": record["layer"],
        "value": number(record["value"]),
        "ci": interval(record["ci95"]),
        "unnormalised": "" if reading.normalised else number(record["unnormalised"]),
        "exact": number(reading.exact) if part else "",
        "exact_ci": interval(reading.exact_ci95) if part else "",
        "half": number(half["value"]) if (half := record.get("half")) else "",
        "m": number(record["normaliser"]) if record["normaliser"] is not None else "",
        "n": record["samples"],
        "between": "" if reading.between is None else number(reading.between),
        "relative": "" if reading.relative is None else number(reading.relative),
        "relative_ci": interval(reading.relative_ci95) if reading.relative_ci95 else "",
        "meaning": meaning(record, group["order"], of_family=is_family(group)),
        "warnings": record["warnings"],
        "references": {name: number(value) for name, value in references.items()},
    }


def class_tables(result: Result) -> dict[str, Any]:
    """Return what a result says of predictions by element, and of values by class.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    dict
        ``predictions``, a table by element for each layer of class scores; ``heads`` and ``rows``
        of values by class, for the last layer of each measure. Empty where nothing is known.
    """
    group = result["group"]
    predictions: list[dict[str, Any]] = []
    for record in result["measurements"]:
        entry = record.get("predictions")
        if not entry or any(table["layer"] == record["layer"] for table in predictions):
            continue  # several measures take the same scores
        shares = [share["per_element"] for share in (entry["stay"], entry["right"]) if share]
        predictions.append(
            {
                "layer": record["layer"],
                "noun": "member" if is_family(group) else "element",
                "right": bool(entry["right"]),
                "rows": [
                    [element_words(group, e), *(f"{100 * share[e]:.1f} %" for share in shares)]
                    for e in group["elements"]
                ],
            }
        )
    last = {r["measure"]: (r["layer"], r.get("per_class") or {}) for r in result["measurements"]}
    last = {measure: (layer, values) for measure, (layer, values) in last.items() if values}
    labels = list(next(iter(last.values()))[1]) if last else []
    rows = []
    for label in labels:
        cells = [values.get(label) for _, values in last.values()]
        rows.append(
            {
                "label": label,
                "n": next(c["samples"] for c in cells if c),
                "cells": [
                    (number(c["value"]), interval(c["ci95"])) if c else ("", "") for c in cells
                ],
            }
        )
    heads = [(measure, layer) for measure, (layer, _) in last.items()]
    return {"predictions": predictions, "heads": heads, "rows": rows, "open": len(rows) <= OPEN}


def comparisons(results: Sequence[Result], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the paired differences of every further result from the first of its group.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.

    Returns
    -------
    list of dict
        One a further result: ``rows``, or why it was ``refused``. Of several families, or of a
        family and a group, nothing is said: they ask different questions.
    """
    shown = []
    firsts: dict[str, int] = {}
    for i, (other, name) in enumerate(zip(results, names, strict=True)):
        first = firsts.setdefault(other["group"]["name"], i)
        if first == i:
            first = 0
            if i == 0 or is_family(results[0]["group"]) or is_family(other["group"]):
                continue
        entry: dict[str, Any] = {"a": names[first], "b": name, "rows": [], "refused": ""}
        try:
            rows = compare(results[first], other)["measurements"]
        except GeedError as error:
            entry["refused"] = str(error).removeprefix("compare: ")
            rows = []
        for m in rows:
            entry["rows"].append(
                {
                    "measure": compared(m),
                    "layer": m["layer"],
                    "a": number(m["a"]),
                    "b": number(m["b"]),
                    "difference": number(m["difference"]),
                    "ci": interval(m["verdict_ci95"]),
                    "verdict": m["verdict"],
                    "warnings": m["warnings"],
                }
            )
        entry["intervals"] = " or ".join(
            _INTERVALS[kind] for kind in dict.fromkeys(m["interval"] for m in rows)
        )
        entry["relative"] = (
            WHAT_IS_RELATIVE if any(m["compared"] == "relative" for m in rows) else ""
        )
        entry["open"] = len(entry["rows"]) <= OPEN
        shown.append(entry)
    return shown
