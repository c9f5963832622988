"""Which of two models is more invariant or more equivariant: one sentence per measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_geed.measures import descriptor_of
from onnx_geed.report.words import percent, title
from onnx_geed.results import (
    ComparisonEntry,
    Reading,
    Record,
    Result,
    action_name,
    far_off,
    is_family,
    mean_interval,
    no_conclusion,
    read_record,
    side_of_zero,
)
from onnx_geed.text import span

__all__ = ["verdicts"]


# Orders by value and by relative value are called different if the relative ones differ by more.
_APART = 0.05


# Smaller differences are rounding.
_ROUNDING = 1e-6


def verdicts(
    results: Sequence[Result], names: Sequence[str], entries: Sequence[ComparisonEntry]
) -> list[dict[str, str]]:
    """Return one verdict per measure, on the last layer of both models.

    Parameters
    ----------
    results : sequence of dict
        Two results.
    names : sequence of str
        What to call them.
    entries : sequence of dict
        ``measurements`` of :func:`onnx_geed.compare` of the two.

    Returns
    -------
    list of dict
        ``what`` was measured, and ``text``, which names the better model or says why there is none.
        Two predictions of one model have no verdict here.
    """
    shown = []
    compared = {entry["measure"]: entry for entry in entries}
    of_maps = [m for m in dict.fromkeys(map(_measure, results[0]["measurements"])) if _of_maps(m)]
    for measure in dict.fromkeys([*of_maps, *compared]):
        records = [[m for m in r["measurements"] if m["measure"] == measure] for r in results]
        if not all(records):
            continue
        ends = records[0][-1], records[1][-1]
        last = read_record(ends[0]), read_record(ends[1])
        name = title(measure, [m["layout"] for own in records for m in own])
        entry = compared.get(measure)
        # What networks of two designs call by one name need not be the same place in both.
        if _of_maps(measure) and entries and last[0].layer != last[1].layer:
            if action_name(ends[0]) != action_name(ends[1]):
                continue
            layer, pair, gap = f"{last[0].layer} | {last[1].layer}", last, _gap_of_last(last)
        elif entry is None or entry["output_action_a"] != entry["output_action_b"]:
            continue
        else:
            same = [m for own in records for m in own if m["layer"] == entry["layer"]]
            layer, pair = entry["layer"], last
            if len(same) == 2:
                pair = read_record(same[0]), read_record(same[1])
            gap = _Gap(entry["difference"], entry["verdict_ci95"], entry["compared"] == "value")
        text = _text(gap, names, pair, of_family=is_family(results[0]["group"]))
        shown.append({"what": f"{name} ({layer})", "text": text})
    return shown


class _Gap(NamedTuple):
    """A difference A - B with its paired interval; ``of_values`` or of relative ones."""

    difference: float
    ends: Sequence[float] | None
    of_values: bool


def _measure(record: Record) -> str:
    return record["measure"]


def _of_maps(measure: str) -> bool:
    return descriptor_of(measure).cosine_of_maps


def _gap_of_last(pair: tuple[Reading, Reading]) -> _Gap:
    """Pair the samples of two last layers, as far off as each is."""
    if (pair[0].relative is None) != (pair[1].relative is None):
        return _Gap(0.0, None, of_values=False)
    shares = [np.array([r.share(float(v)) for v in r.per_sample]) for r in pair]
    gaps = shares[0] - shares[1]
    return _Gap(float(gaps.mean()), mean_interval(gaps), of_values=False)


def _text(
    gap: _Gap,
    names: Sequence[str],
    pair: tuple[Reading, Reading],
    *,
    of_family: bool,
) -> str:
    if reason := no_conclusion(pair, names):
        return f"{reason}."
    shares = [r.relative for r in pair]
    known = [
        percent(far_off(r, r.value, of_family=of_family)) for r in pair if r.relative is not None
    ]
    off = f" ({known[0]} and {known[1]} off)" if len(known) == 2 else ""
    difference, ends, of_values = gap
    if len(pair[0].per_sample) < 2:
        return "one sample is too few for a conclusion."
    if ends is None:
        return f"no paired interval, so no conclusion{off}."
    if not side_of_zero(ends) or abs(difference) <= _ROUNDING:
        return f"no clear difference{off}."
    better = names[difference > 0]
    kind = "invariant" if pair[0].output_action == "trivial" else "equivariant"
    if of_values and shares[0] is not None and shares[1] is not None:
        apart = shares[0] - shares[1]
        if apart * difference < 0 and abs(apart) > _APART:
            told = [span(r.told(r.value)) for r in (pair if difference < 0 else pair[::-1])]
            known = [percent(shares[0]), percent(shares[1])]
            off = " against ".join(f"{share} off" for share in known[:: 1 if apart < 0 else -1])
            return (
                f"the order depends on the scale. By {pair[0].told_unit}, {better} is more {kind} "
                f"({told[0]} against {told[1]}); relative to different samples, {names[apart > 0]} "
                f"is ({off})."
            )
    if difference > 0:
        known.reverse()
    against = f": {known[0]} off against {known[1]}" if off else ""
    return f"{better} is more {kind}{against}."
