"""Values class by class, where samples have labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_geed.results.intervals import mean_interval, ratio_interval
from onnx_geed.results.schema import ClassValue, Record

__all__ = ["add_class_values"]


def add_class_values(
    records: Sequence[Record], labels: Sequence[int | str] | None, *, seed: int
) -> None:
    """Enter ``per_class`` into records.

    Parameters
    ----------
    records : sequence of dict
        Entries of ``measurements``; changed in place.
    labels : sequence of int or str, optional
        One a sample.
    seed : int
        Seed of a bootstrap.
    """
    for record in records:
        record["per_class"] = None
        if labels is not None:
            record["per_class"] = _by_class(record, labels[: record["samples"]], seed)


def _by_class(record: Record, labels: Sequence[int | str], seed: int) -> dict[str, ClassValue]:
    values = np.array(record["per_sample"], dtype=np.float64)
    errors = record.get("errors")
    own = np.array([str(label) for label in labels])
    kind = record["interval"]
    entries: dict[str, ClassValue] = {}
    for label in sorted(set(labels), key=_order):
        mine = values[own == str(label)]
        value, ends = float(mine.mean()), mean_interval(mine, kind, seed=seed)
        if errors is not None:
            # Of the error of these samples, of which a class that is never wrong has none.
            part = np.array(errors)[own == str(label)] / (record["normaliser"] or 1.0)
            if not part.any():
                continue
            value = float(mine.mean() / part.mean())
            ends = ratio_interval(mine, part, kind, seed=seed)
        entries[str(label)] = {
            "value": value,
            "ci95": list(ends) if ends else None,
            "samples": len(mine),
        }
    return entries


def _order(label: int | str) -> tuple[int, str]:
    """Numbers by size, before names."""
    text = str(label)
    return (int(text), "") if text.isascii() and text.isdigit() else (1 << 62, text)
