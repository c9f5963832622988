"""Results of thousands of values, thinned to those that a page can show."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from onnx_geed.results import Record, Result, ranking_value

__all__ = ["thinned"]

# Values on a page, over all its results, and of each at least.
_MOST, _LEAST = 6000, 500


def thinned(results: Sequence[Result], kept: Collection[str] = ()) -> list[Result]:
    """Return results with as many values as a page can show, and a note where that is not all.

    Parameters
    ----------
    results : sequence of dict
        Results.
    kept : collection of str
        Layers of which all values stay.

    Returns
    -------
    list of dict
        Of each measure the first and the last layer, the best and the worst, and others spread
        over the depth, in the order that they had.
    """
    most = max(_MOST // max(len(results), 1), _LEAST)
    return [_thinned(result, most, kept) for result in results]


def _thinned(result: Result, most: int, kept: Collection[str]) -> Result:
    records = result["measurements"]
    if len(records) <= most:
        return result
    by_measure: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        by_measure.setdefault(record["measure"], []).append(i)
    chosen = {i for i, record in enumerate(records) if record["layer"] in kept}
    for positions in by_measure.values():
        chosen |= _of_measure(records, positions, most // len(by_measure))
    thin = result.copy()
    thin["measurements"] = [records[i] for i in sorted(chosen)]
    note = (
        f"This page shows {len(chosen):,} of {len(records):,} values, spread over the depth, the "
        "best and the worst of each measure among them; the result file has all."
    )
    thin["notes"] = [note, *result.get("notes", ())]
    return thin


def _of_measure(records: Sequence[Record], positions: Sequence[int], most: int) -> set[int]:
    """Return which records of one measure stay."""
    values = [ranking_value(records[i])[0] for i in positions]
    ends = {positions[int(np.argmin(values))], positions[int(np.argmax(values))]}
    spread = np.linspace(0, len(positions) - 1, min(len(positions), max(most - len(ends), 2)))
    return ends | {positions[int(i)] for i in spread.round()}
