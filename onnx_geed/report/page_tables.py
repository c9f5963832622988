"""The tables of a page: all values, predictions and classes, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from onnx_geed.errors import GeedError
from onnx_geed.measures import Scale, descriptor_of, told, told_ends, told_gap
from onnx_geed.report.elements import element_called, element_noun
from onnx_geed.report.page_numbers import interval, number
from onnx_geed.report.words import meaning
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    ClassValue,
    GroupPart,
    Record,
    Result,
    compare,
    compared,
    is_family,
    is_sampled,
    read_record,
)

__all__ = ["OPEN", "class_tables", "comparisons", "value_row"]

#: Rows of a table that is open from the start.
OPEN = 14


_INTERVALS = {"t": "Student t", "bootstrap": "BCa bootstrap", "score": "Tango's score"}


def value_row(record: Record, group: GroupPart) -> dict[str, Any]:
    """Return the cells of a record: numbers as text, empty where a number is unknown.

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
    scale: Literal["value", "unnormalised"] = "value" if reading.normalised else "unnormalised"
    # Between samples has a column of its own, of results that are older too.
    references = {
        name: reference[scale]
        for name, reference in (record.get("references") or {}).items()
        if name != "between_samples"
    }

    def cell(value: float | None) -> str:
        return number(None if value is None else reading.told(value))

    divided = None if reading.normalised else record["value"]
    return {
        "measure": record["measure"],
        "layer": record["layer"],
        "value": cell(reading.value),
        "ci": interval(reading.told_ends(reading.ci95)),
        # This table shows it before the division by M; what M makes of it stands beside.
        "undivided": not reading.normalised,
        "divided": "" if divided is None else number(told(reading.descriptor, divided)),
        "cosine": reading.similarity,
        "exact": cell(reading.exact) if part else "",
        "exact_ci": interval(reading.told_ends(reading.exact_ci95)) if part else "",
        "half": cell(half[scale]) if (half := record.get("half")) else "",
        "m": number(record["normaliser"]) if record["normaliser"] is not None else "",
        "n": record["samples"],
        "between": "" if reading.between is None else cell(reading.between),
        "relative": "" if reading.relative is None else number(reading.relative),
        "relative_ci": interval(told_ends(reading.descriptor, reading.relative_ci95, "relative"))
        if reading.relative_ci95
        else "",
        "meaning": meaning(
            record, group["order"], of_family=is_family(group), of_sampled=is_sampled(group)
        ),
        "warnings": record["warnings"],
        "references": {name: cell(value) for name, value in references.items()},
    }


def class_tables(result: Result) -> dict[str, Any]:
    """Return a result's predictions by element, and its values by class.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    dict
        ``predictions``, a table by element for each layer of class scores; ``heads`` and ``rows``
        of values by class, for the last layer of each measure. Empty if the result has none.
    """
    group = result["group"]
    predictions: list[dict[str, Any]] = []
    for record in result["measurements"]:
        entry = record.get("predictions")
        if not entry or any(table["layer"] == record["layer"] for table in predictions):
            continue  # of several measures of the same scores, the first
        shares = [share["per_element"] for share in (entry["stay"], entry["right"]) if share]
        predictions.append(
            {
                "layer": record["layer"],
                "noun": element_noun(group),
                "permuted": record["output_action"] != "trivial",
                "sampled": is_sampled(group),
                "right": bool(entry["right"]),
                "rows": [
                    [element_called(group, g), *(f"{100 * share[e]:.1f} %" for share in shares)]
                    for g, e in enumerate(group["elements"])
                ],
            }
        )
    known = {r["measure"]: r for r in result["measurements"]}
    last = {
        measure: (record["layer"], values)
        for measure, record in known.items()
        if (values := record.get("per_class") or {})
    }
    labels = list(next(iter(last.values()))[1]) if last else []
    rows = []
    for label in labels:
        cells = [
            _of_class(values.get(label), known[measure]) for measure, (_, values) in last.items()
        ]
        rows.append(
            {
                "label": label,
                "n": next(v[label]["samples"] for _, v in last.values() if label in v),
                "cells": cells,
            }
        )
    heads = [
        (f"{measure}, as a cosine" if descriptor_of(measure).similarity else measure, layer)
        for measure, (layer, _) in last.items()
    ]
    return {"predictions": predictions, "heads": heads, "rows": rows, "open": len(rows) <= OPEN}


def _of_class(part: ClassValue | None, record: Record) -> tuple[str, str]:
    """Return the value over the samples of a class and its interval, as the page shows them."""
    if part is None:
        return "", ""
    measure, m = descriptor_of(record["measure"]), record["normaliser"]
    value, ends = part["value"], part["ci95"]
    scale: Scale = "value"
    if measure.perfect_over_m and m:
        value, scale = value * m, "unnormalised"
        low, high = sorted(m * end for end in ends) if ends else (0.0, 0.0)
        ends = [low, high] if ends else None
    return number(told(measure, value, scale)), interval(told_ends(measure, ends, scale))


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
        One per further result: ``rows``, and ``entries`` as :func:`onnx_geed.compare` returns them;
        or why it was ``refused``. Several families, or a family and a group, are not compared:
        they ask different questions.
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
        entry["entries"] = rows
        for m in rows:
            measure, scale = descriptor_of(m["measure"]), m["compared"]
            a, b, difference = (
                None if v is None else told(measure, v, scale)
                for v in (m["a"], m["b"], m["difference"])
            )
            entry["rows"].append(
                {
                    "measure": compared(m),
                    "layer": m["layer"],
                    "a": number(a),
                    "b": number(b),
                    "difference": number(difference),
                    "ci": interval(told_gap(measure, m["verdict_ci95"], scale)),
                    "cosine": measure.similarity and scale != "relative",
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
