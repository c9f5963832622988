"""What a page says of many results: a table of the best and the worst, and names in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnx_geed.report.words import percent, title, with_unit
from onnx_geed.results import Predictions, Reading, Result, far_off, is_family
from onnx_geed.text import shorten

__all__ = ["FEW", "SAID", "in_natural_order", "ranking"]

#: More results than this are folded, each under its name.
FEW = 4

#: As many results are told in sentences; more are ranked.
SAID = 2


# Letters of a name in a sentence or a cell.
_NAME = 60

# More groups than this are ranked together: rows for each would be a wall again.
_GROUPS = 4


class _Ranked(NamedTuple):
    """What is ranked: smaller is better, and each result's number as the page tells it."""

    what: str
    badness: Mapping[int, float]
    told: Mapping[int, str]


def in_natural_order(names: Sequence[str]) -> list[int]:
    """Return an order in which names that differ only in their numbers are sorted by these.

    Parameters
    ----------
    names : sequence of str
        The names.

    Returns
    -------
    list of int
        Positions. Such names share the places that they have; all others keep theirs.
    """
    alike: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        alike.setdefault(re.sub(r"\d+", "0", name), []).append(i)
    order = list(range(len(names)))
    for places in alike.values():
        found = sorted(places, key=lambda i: [int(n) for n in re.findall(r"\d+", names[i])])
        for place, i in zip(places, found, strict=True):
            order[place] = i
    return order


def ranking(
    results: Sequence[Result],
    names: Sequence[str],
    readings: Sequence[Sequence[Reading]],
    predictions: Sequence[Predictions | None],
    says_little: Sequence[bool],
) -> dict[str, Any]:
    """Return a row a measure: the best result, the worst, and the range of the others.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.
    readings : sequence of sequences of Reading
        Their records.
    predictions : sequence of dict or None
        The shares of their predictions.
    says_little : sequence of bool
        Whether that a result's class is stable says little.

    Returns
    -------
    dict
        ``rows`` of the table, those of up to four groups within their group; ``said``, two
        sentences on the first measure in which they differ; ``notes`` on what is not ranked.
    """
    pools: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        pools.setdefault(result["group"]["name"], []).append(i)
    if len(pools) > _GROUPS:
        pools = {"": list(range(len(results)))}
    rows = []
    for group, pool in pools.items():
        within = group if len(pools) > 1 else ""
        ranked = [
            *_of_predictions(results, predictions, pool, says_little),
            *_of_measures(results, readings, pool),
        ]
        called = names if not within else [n.removesuffix(f", {group}") for n in names]
        rows += [{"group": within} | _row(r, called, pool) for r in ranked if r.badness]
    # The same measure under all groups, one under the other.
    order = {what: i for i, what in enumerate(dict.fromkeys(row["what"] for row in rows))}
    rows.sort(key=lambda row: order[row["what"]])
    little = [name for name, so in zip(names, says_little, strict=True) if so]
    notes = []
    if little:
        notes.append(
            f"A stable class says little of {_listed(little, len(names))}: nearly all samples get "
            "the same class, or the output hardly reacts to the input."
        )
    return {"rows": rows, "said": _said(rows), "notes": notes}


def _said(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Say which are the least and the most affected, by the first measure in which they differ."""
    # Where all are alike, nothing is least or most.
    telling = [row for row in rows if row["worst"]]
    if not telling:
        return []
    what = telling[0]["what"]
    own = [row for row in telling if row["what"] == what]
    sentences = []
    for word, end in (("Least", "best"), ("Most", "worst")):
        ends = [
            f"{row[f'{end}_of']}{row['group'] and ' under '}{row['group']} ({row[end]})"
            for row in own
        ]
        sentences.append(f"{word} affected, by {what[0].lower()}{what[1:]}: {', '.join(ends)}.")
    return sentences


def _of_predictions(
    results: Sequence[Result],
    predictions: Sequence[Predictions | None],
    pool: Sequence[int],
    says_little: Sequence[bool],
) -> list[_Ranked]:
    """Rank by shares of samples; a stable class that says little is no rank."""
    found = []
    for what, key in (("Same class after moving", "stay"), ("Correct class after moving", "right")):
        shares = {}
        for i in pool:
            if key == "stay" and says_little[i]:
                continue
            part = predictions[i]
            share = None if part is None else part["stay" if key == "stay" else "right"]
            moved = (
                []
                if share is None
                else [
                    v
                    for e, v in share["per_element"].items()
                    if e != results[i]["group"]["elements"][0]
                ]
            )
            if moved:
                shares[i] = float(np.mean(moved))
        told = {i: f"{100 * v:.1f} %" for i, v in shares.items()}
        found.append(_Ranked(what, {i: -v for i, v in shares.items()}, told))
    return found


def _of_measures(
    results: Sequence[Result], readings: Sequence[Sequence[Reading]], pool: Sequence[int]
) -> list[_Ranked]:
    """Rank the last layer of each measure by how far off it is, else by its value."""
    found = []
    for measure in dict.fromkeys(r.measure for i in pool for r in readings[i]):
        last = {
            i: own[-1] for i in pool if (own := [r for r in readings[i] if r.measure == measure])
        }
        layouts = [
            m["layout"] for i in pool for m in results[i]["measurements"] if m["measure"] == measure
        ]
        what = title(measure, layouts)
        far = {
            i: far_off(r, r.value, of_family=is_family(results[i]["group"]))
            for i, r in last.items()
            if r.relative is not None
        }
        if far:
            told = {i: f"{percent(v)} off".replace("-", "−") for i, v in far.items()}
            found.append(_Ranked(what, far, told))
            continue
        same = {i: r for i, r in last.items() if not r.hardly_reacts}
        if len({r.told_unit for r in same.values()}) == 1:
            told = {i: with_unit(r, r.value) for i, r in same.items()}
            found.append(_Ranked(what, {i: r.value for i, r in same.items()}, told))
    return found


def _row(ranked: _Ranked, names: Sequence[str], pool: Sequence[int]) -> dict[str, str]:
    """Return the cells of a row; where all are told alike, they are the best, and none is worst."""
    what, badness, told = ranked
    order = sorted(badness, key=lambda i: badness[i])
    ends = [told[order[0]], told[order[-1]]]
    others = [names[i] for i in pool if i not in badness]
    row = {
        "what": what,
        "best": ends[0],
        "worst": "",
        "worst_of": "",
        "between": "",
        "count": "",
        "unknown": f"Not ranked: {_listed(others, len(pool))}." if others else "",
    }
    if ends[0] == ends[1]:
        of = _listed([names[i] for i in order], len(pool))
        if len(order) == len(pool) > 1:
            of = "both" if len(pool) == 2 else f"all {len(pool)}"
        return row | {"best_of": of}
    tied = [_listed([names[i] for i in order if told[i] == end], len(order)) for end in ends]
    row |= {"best_of": tied[0], "worst": ends[1], "worst_of": tied[1]}
    between = [told[i] for i in order if told[i] not in ends]
    if between:
        row["between"] = " to ".join(dict.fromkeys((between[0], between[-1])))
        row["count"] = f"{len(between)} result{'s' * (len(between) > 1)}"
    return row


def _listed(names: Sequence[str], count: int) -> str:
    """Name up to two; of more, say how many of all they are."""
    if len(names) > 2:
        return f"{len(names)} of {count}"
    return " and ".join(shorten(name, _NAME) for name in names)
