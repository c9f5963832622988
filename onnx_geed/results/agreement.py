"""What the fields of a result say of each other, checked where a file is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from onnx_geed.measures import descriptor_of
from onnx_geed.results.schema import Result
from onnx_geed.text import counted

__all__ = ["disagreement"]

Fields = Mapping[str, Any]


# Means are of the same numbers; another order of adding moves them by less.
_ROUNDING = 1e-6


# M that is smaller than this share of what it divides takes values out of what can be squared.
_LARGEST = 1e150


def disagreement(result: Result) -> str:
    """Return the first place where a result contradicts itself, in words.

    Parameters
    ----------
    result : dict
        Of the types that the schema has.

    Returns
    -------
    str
        Such as ``measurements[3].per_sample has 4 entries, and samples is 5``; empty where all
        agrees.
    """
    return next(_disagreements(result), "")


def _disagreements(result: Result) -> Iterator[str]:
    group, data = cast(Fields, result["group"]), cast(Fields, result["data"])
    elements = group["elements"]
    if len(set(elements)) < len(elements):
        yield "group.elements names one twice"
    for name in ("elements", "exact", "parameters"):
        yield from _unequal(f"group.{name}", group.get(name), "group.order", group["order"])
    for name in ("names", "labels", "marks"):
        yield from _unequal(f"data.{name}", data.get(name), "data.indices", len(data["indices"]))
    if len({(r["measure"], r["layer"]) for r in result["measurements"]}) < len(
        result["measurements"]
    ):
        yield "measurements names a measure and layer twice"
    for i, record in enumerate(result["measurements"]):
        where = f"measurements[{i}]"
        if record["samples"] > len(data["indices"]):
            yield (
                f"{where}.samples is {record['samples']}, and data.indices has "
                f"{counted(len(data['indices']), 'entry', 'entries')}"
            )
        yield from _of_record(where, cast(Fields, record), elements)


def _of_record(where: str, record: Fields, elements: Sequence[str]) -> Iterator[str]:
    yield from _of_statistics(where, record, elements)
    for part in ("exact", "half"):
        if (own := record.get(part)) is not None and not set(own["elements"]) <= set(elements):
            yield f"{where}.{part}.elements names some that group.elements does not"
    if (exact := record["exact"]) is not None:
        yield from _of_statistics(f"{where}.exact", exact, exact["elements"])
        if exact["samples"] != record["samples"]:
            yield f"{where}.exact.samples is {exact['samples']}, and samples {record['samples']}"
    for name in ("predictions", "miou", "gain", "foreground"):
        for step, part in _parts_of(name, record.get(name)):
            least = len(elements) if name == "predictions" else 0
            if len(part) < least or not _ends_with(elements, [*part]):
                yield f"{where}.{step}.per_element does not name the elements in their order"
    if record.get("relative") is not None:
        yield from _of_relative(where, record)
    of_fit = (record.get("fit") or {}).get("per_sample", {})
    for name, values in of_fit.items():
        yield from _unequal(f"{where}.fit.per_sample.{name}", values, "samples", record["samples"])


def _of_relative(where: str, record: Fields) -> Iterator[str]:
    """Compare with what different samples are, which deviations are divided by."""
    between = record.get("between_samples")
    if between is None and record.get("references"):
        between = record["references"].get("between_samples", {}).get("value")
    if between is None:
        yield f"{where}.relative is {record['relative']:g}, and between_samples is missing"
        return
    apart = abs(between - descriptor_of(record["measure"]).perfect)
    largest = max((abs(x) for row in record["deviations"] for x in row), default=0.0)
    if not apart or not largest / apart < _LARGEST:
        yield (
            f"{where}.relative is {record['relative']:g}, and between_samples, {between:g}, is "
            "perfect to rounding"
        )


def _parts_of(step: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield what within a part of a record has one value an element."""
    if isinstance(part, dict):
        if "per_element" in part:
            yield step, part["per_element"]
        for name, inner in part.items():
            yield from _parts_of(f"{step}.{name}", inner)


def _of_statistics(where: str, part: Fields, elements: Sequence[str]) -> Iterator[str]:
    samples, order, counted = part["samples"], len(elements), [*part["per_element"]]
    if not samples:
        yield f"{where}.samples is 0"
    for name in ("per_sample", "deviations", "errors"):
        yield from _unequal(f"{where}.{name}", part.get(name), "samples", samples)
    for i, row in enumerate(part["deviations"]):
        yield from _unequal(f"{where}.deviations[{i}]", row, "elements", order)
    if not counted or not _ends_with(elements, counted):
        yield f"{where}.per_element does not name the elements in their order"
    name = "unnormalised" if part["value"] is None else "value"
    if part[name] is None:
        yield f"{where} has neither value nor unnormalised"
        return
    m, ends = part["normaliser"], part["ci95"]
    if m is not None and part["unnormalised"] is None:
        yield f"{where}.unnormalised is null, and normaliser is not"
    if part["value"] is None and ends is not None:
        yield f"{where}.ci95 is of a value that is null"
    if ends is not None and ends[0] > ends[1]:
        yield f"{where}.ci95 ends before it begins"
    if part["value"] is not None and part["unnormalised"] is not None and not m:
        yield f"{where}.value is divided by normaliser, which is {m}"
    if part["value"] is not None and m:
        largest = max((abs(x) for row in part["deviations"] for x in row), default=0.0)
        if not largest / abs(m) < _LARGEST:
            yield f"{where}.normaliser {m:g} is too small to divide deviations by"
    # What cancels in one mean may be large in the other: shares of the error have signs.
    scale = max(map(abs, (*part["per_sample"], *part["per_element"].values())), default=0.0)
    for values, what in (
        (part["per_sample"], "per_sample"),
        ([*part["per_element"].values()], "per_element"),
    ):
        mean = math.fsum(values) / len(values)
        if not np.isclose(mean, part[name], rtol=_ROUNDING, atol=_ROUNDING * scale):
            yield f"{where}.{name} is {part[name]:g}, and the mean of {what} {mean:g}"


def _ends_with(elements: Sequence[str], names: Sequence[str]) -> bool:
    """Say whether names are the last of the elements; those of the first may be left out."""
    return list(names) == list(elements[len(elements) - len(names) :])


def _unequal(where: str, values: Sequence[Any] | None, other: str, count: int) -> Iterator[str]:
    if values is not None and len(values) != count:
        yield f"{where} has {len(values)} entries, and {other} is {count}"
