"""Which of two models is more invariant or more equivariant: one sentence per measure."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.report.words import far_off, percent, title
from onnx_geed.results import (
    ComparisonEntry,
    Reading,
    Result,
    is_family,
    no_conclusion,
    read_record,
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
    """Return one verdict per measure, on the last layer that both models have.

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
    for measure, entry in {entry["measure"]: entry for entry in entries}.items():
        if entry["output_action_a"] != entry["output_action_b"]:
            continue
        records = [[m for m in r["measurements"] if m["measure"] == measure] for r in results]
        same = [m for own in records for m in own if m["layer"] == entry["layer"]]
        first, second = same if len(same) == 2 else (records[0][-1], records[1][-1])
        name = title(measure, [m["layout"] for own in records for m in own])
        pair = read_record(first), read_record(second)
        text = _text(entry, names, pair, of_family=is_family(results[0]["group"]))
        shown.append({"what": f"{name} ({entry['layer']})", "text": text})
    return shown


def _text(
    entry: ComparisonEntry,
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
    ends, difference = entry["verdict_ci95"], entry["difference"]
    if ends is None:
        return f"no paired interval, so no conclusion{off}."
    if ends[0] <= 0 <= ends[1] or abs(difference) <= _ROUNDING:
        return f"no clear difference{off}."
    better = names[difference > 0]
    kind = "invariant" if pair[0].output_action == "trivial" else "equivariant"
    if entry["compared"] == "value" and shares[0] is not None and shares[1] is not None:
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
