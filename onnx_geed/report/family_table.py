"""A family's curves as text: a line a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_geed.results import (
    Reading,
    Record,
    Result,
    along,
    element_words,
    is_family,
    parameters_of,
    read_record,
)
from onnx_geed.text import columns, number, shorten

__all__ = ["family_lines"]

# More members than this are thinned: the whole curve is in the file.
_MOST = 24


# Measures across, beside the gain and the predictions.
_ACROSS = 5


def family_lines(result: Result) -> list[str]:
    """Return a table of what each member of a family does, in the last layer of each measure.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    list of str
        Empty where the result is of a group.
    """
    group = result["group"]
    if not is_family(group):
        return []
    last = {record["measure"]: record for record in result["measurements"]}
    across: list[tuple[str, Mapping[str, float | None]]] = []
    for record in list(last.values())[:_ACROSS]:
        # In the scale of the value above, which they average to.
        reading = read_record(record) if record["value"] is None else _by_value(record)
        values = [reading.told(value) for value in reading.per_element.tolist()]
        across.append((record["measure"], dict(zip(group["elements"], values, strict=True))))
    across += _beside(list(last.values()))
    numbered = parameters_of(group) is not None
    head = (group.get("parameter") or "parameter") if numbered else "member"
    rows: list[Sequence[str]] = [(head, *(name for name, _ in across))]
    count = group["order"]
    shown = np.linspace(0, count - 1, min(count, _MOST)).round().astype(int)
    for g in along(group)[shown]:
        element = group["elements"][g]
        words = element_words(group, element, short=numbered)
        # Where the sample itself has no number, its name says nothing to who reads a table.
        name = "unmoved" if g == 0 and words == element else shorten(words, 24)
        rows.append((name, *(_cell(values.get(element)) for _, values in across)))
    return ["", *columns(rows, flexible=0, right=range(1, 1 + len(across)))]


def _by_value(record: Record) -> Reading:
    return read_record(record).as_normalised()


def _beside(records: Sequence[Record]) -> list[tuple[str, Mapping[str, float | None]]]:
    """Return the gain, and shares of predictions that stay and are right, by member."""
    found: dict[str, Mapping[str, float | None]] = {}
    for record in records:
        if gain := record.get("gain"):
            found.setdefault("gain", gain["per_element"])
        if predictions := record.get("predictions"):
            found.setdefault("stays", predictions["stay"]["per_element"])
            if right := predictions["right"]:
                found.setdefault("right", right["per_element"])
    return list(found.items())


def _cell(value: float | None) -> str:
    return "" if value is None else number(value)
