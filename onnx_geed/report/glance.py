"""The first section of a page: how often the class stays the same, and how far values are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from onnx_geed.report.cells_figure import Shades, cells_picture
from onnx_geed.report.curves import Curve, curve_picture
from onnx_geed.report.elements import at_elements, element_noun, element_told
from onnx_geed.report.many_results import FEW, SAID, ranking
from onnx_geed.report.picture import framed
from onnx_geed.report.samples import headline
from onnx_geed.report.svg import MOST_SERIES
from onnx_geed.report.words import (
    grade,
    largest_loss,
    overlap_words,
    percent,
    title,
    with_unit,
    worst_and_best,
)
from onnx_geed.results import (
    GroupPart,
    Predictions,
    Reading,
    Record,
    Result,
    far_off,
    is_family,
    is_sampled,
    mean_interval,
    read_record,
)

__all__ = ["glance"]

# If one class has at least this share of the predictions, a stable class says little.
_ONE_CLASS = 0.9


# A table of at most as many rows is shown in full.
_OPEN = 40


def glance(
    results: Sequence[Result], names: Sequence[str], readings: Sequence[Sequence[Reading]]
) -> dict[str, Any]:
    """Return the first section of a page.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.
    readings : sequence of sequences of Reading
        Their records.

    Returns
    -------
    dict
        ``models``, each with its ``name`` and ``sentences``, of more than four results none;
        of more than two also their ``ranking``; ``pictures`` of shares of samples by element, one
        per group; ``rows`` of the table, and whether it is ``open``.
    """
    found = [_scores(r) for r in results]
    few = len(results) <= FEW
    models = [
        {
            "number": i,
            "name": name,
            "sentences": [
                *(_of_places(result) if record is None else _sentences(result, record)),
                *_where(result, own, known=record is not None),
            ],
        }
        for i, (result, name, record, own) in enumerate(
            zip(results, names, found, readings, strict=True) if few else ()
        )
    ]
    ranked = _ranking(results, names, readings, found) if len(results) > SAID else None
    rows = [
        {"model": k, "name": name} | row
        for k, (result, name, own) in enumerate(zip(results, names, readings, strict=True))
        for row in _rows(result, own)
    ]
    # The same measure of all models, one under the other.
    order = {what: i for i, what in enumerate(dict.fromkeys(row["what"] for row in rows))}
    rows.sort(key=lambda row: order[row["what"]])
    return {
        "models": models,
        "ranking": ranked,
        "told": bool(ranked and ranked["rows"]) or any(model["sentences"] for model in models),
        "pictures": _pictures(results, names, found),
        "rows": rows,
        "open": len(rows) <= _OPEN,
    }


def _of_places(result: Result) -> list[str]:
    """Say of dense scores how far classes of moved and unmoved samples overlap, where known."""
    sampled = is_sampled(result["group"])
    told = [overlap_words(record, of_sampled=sampled) for record in result["measurements"]]
    told = list(filter(None, told))
    return [f"{told[-1]} (1 is perfect)."] if told else []


def _scores(result: Result) -> Record | None:
    """Return the record that has predictions; of several, the last layer's."""
    known = [record for record in result["measurements"] if record.get("predictions")]
    return known[-1] if known else None


def _sentences(result: Result, record: Record) -> list[str]:
    """Say how often the class stays, and how often it is correct."""
    group, shares = result["group"], _predictions(record)
    kept = "Same class" if record["output_action"] == "trivial" else "Expected class"
    stay = _moved(group, shares["stay"]["per_element"])
    if stay is None:
        return []
    sentences = [f"{kept} after moving: {_share(stay.mean)}{stay.lowest}."]
    right = shares["right"]
    moved = None if right is None else _moved(group, right["per_element"])
    if right is not None and moved is not None:
        first = "at a random element" if is_sampled(group) else "unmoved"
        unmoved = right["per_element"][group["elements"][0]]
        sentences.append(
            f"Correct: {_share(unmoved)} {first}, {_share(moved.mean)} moved{moved.lowest}."
        )
    common = _most_common(result, record)
    if common >= _ONE_CLASS:
        sentences.append(
            f"But {_share(common)} of {_first_samples(group)} get the same class, so a stable "
            "class says little."
        )
    elif read_record(record).hardly_reacts:
        sentences.append("But the output hardly reacts to the input, so this says little.")
    return sentences


def _first_samples(group: GroupPart) -> str:
    """Return what the samples are called as the first element has them."""
    return "the samples at a random element" if is_sampled(group) else "the unmoved samples"


def _most_common(result: Result, record: Record) -> float:
    """Return the share of the class that most samples get unmoved; 0 where it is not known."""
    known = [m.get("most_common") for m in result["measurements"] if m["layer"] == record["layer"]]
    return next((share for share in known if share is not None), 0.0)


def _ranking(
    results: Sequence[Result],
    names: Sequence[str],
    readings: Sequence[Sequence[Reading]],
    found: Sequence[Record | None],
) -> dict[str, Any]:
    says_little = [
        record is not None
        and (_most_common(r, record) >= _ONE_CLASS or read_record(record).hardly_reacts)
        for r, record in zip(results, found, strict=True)
    ]
    shares = [None if record is None else _predictions(record) for record in found]
    return ranking(results, names, readings, shares, says_little)


def _where(result: Result, readings: Sequence[Reading], *, known: bool) -> list[str]:
    """Say where feature maps lose most, and under which element.

    Without maps it is that of another tensor, unless it is known of the predictions.
    """
    maps = [r for r in readings if r.descriptor.cosine_of_maps]
    sentences = []
    if len(maps) > 1:
        lost = largest_loss(maps)
        if lost is None:
            return []
        layouts = [m["layout"] for m in result["measurements"] if m["measure"] == maps[0].measure]
        sentences = [f"{title(maps[0].measure, layouts)}: the largest loss is {lost}."]
    shown = maps[-1] if maps else headline(readings)
    if result["group"]["order"] > 2 and not shown.hardly_reacts and (maps or not known):
        sentences.append(worst_and_best(shown, result["group"]))
    return sentences


def _predictions(record: Record) -> Predictions:
    part = record.get("predictions")
    assert part is not None  # of a record that has them
    return part


class _Moved(NamedTuple):
    """A share over all elements except the identity, and the words for the lowest of them."""

    mean: float
    lowest: str


def _moved(group: GroupPart, shares: dict[str, float]) -> _Moved | None:
    """Return a share over moved samples; None if the group has no other element."""
    moved = {g: shares[e] for g, e in enumerate(group["elements"]) if g and e in shares}
    if not moved:
        return None
    mean, least = float(np.mean(list(moved.values()))), _share(min(moved.values()))
    lowest = [g for g, share in moved.items() if _share(share) == least]
    if len(lowest) == len(moved):
        return _Moved(mean, "")
    return _Moved(mean, f" (lowest {least}, at {at_elements(group, lowest)})")


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rows(result: Result, readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return a result's rows of the table: the last layer of each measure, and the worst map."""
    rows = []
    records = result["measurements"]
    for measure in dict.fromkeys(r.measure for r in readings):
        own = [(m, r) for m, r in zip(records, readings, strict=True) if r.measure == measure]
        what = title(measure, [record["layout"] for record, _ in own])
        chosen = [(*own[-1], "last of several layers" if len(own) > 1 else "")]
        worst = max(own, key=lambda pair: pair[1].share(pair[1].value))
        if own[0][1].descriptor.cosine_of_maps and worst is not own[-1]:
            chosen.insert(0, (*worst, "worst layer"))
        rows += [
            {"what": what, "which": which} | _row(record, reading, result["group"])
            for record, reading, which in chosen
        ]
    return rows


def _row(record: Record, reading: Reading, group: GroupPart) -> dict[str, Any]:
    """Return the cells of a row: how far off the value is, and what that means."""
    family = is_family(group)
    share, ends = reading.relative, reading.relative_ci95
    # The share that the grade goes by: of predictions it may be that of the most of an orbit.
    if share is not None:
        share = far_off(reading, reading.value, of_family=family)
    if ends is not None and reading.ci95 is not None:
        low, high = (
            far_off(reading, end, of_family=family) for end in reading.within(reading.ci95)
        )
        ends = (low, high)
    verdict = grade(reading, of_family=family)
    if record.get("fit"):
        verdict = "see the section on fits below"
    return {
        "layer": reading.layer,
        "measure": reading.measure,
        "far": "—" if share is None else percent(share),
        "ends": ""
        if ends is None
        else " to ".join(dict.fromkeys(map(percent, ends))).replace("-", "−"),
        "bar": 0 if share is None else round(100 * min(max(share, 0.0), 1.0)),
        "reason": "" if share is not None else _reason(record, reading),
        "verdict": verdict.capitalize() or "—",
        "value": with_unit(reading, reading.value),
        "warnings": record["warnings"],
    }


def _reason(record: Record, reading: Reading) -> str:
    """Say why it is unknown how far off a value is."""
    if reading.hardly_reacts:
        return "different samples give nearly the same values"
    if record.get("fit"):
        return "compare it with its shuffled null"
    if reading.descriptor.of_error:
        return "a share of the error has no such scale"
    if len(reading.per_sample) < 2:
        return "there is no second sample to compare with"
    return "the result does not hold the deviation of different samples"


def _pictures(
    results: Sequence[Result], names: Sequence[str], found: Sequence[Record | None]
) -> list[dict[str, str]]:
    """Draw shares of samples by element, one picture for each group in the results."""
    groups = [(r["group"]["name"], tuple(r["group"]["elements"])) for r in results]
    several, pictures = len(set(groups)) > 1, []
    shown = [i for i, r in enumerate(found) if r is not None and len(groups[i][1]) > 1]
    numbers = {i: i for i in shown}
    # Of so many results that they have no colours of their own, a model has one in all pictures.
    if len(results) > MOST_SERIES:
        models = [
            (r["model"]["path"], r["model"]["sha256"]) if several else i
            for i, r in enumerate(results)
        ]
        order = list(dict.fromkeys(models[i] for i in shown))
        numbers = {i: order.index(models[i]) for i in shown}
    # Nor do two lines of a picture share one, such as those of one model on two data sets.
    apart = len({(numbers[i], groups[i]) for i in shown}) == len(shown)
    lines = apart and max(numbers.values(), default=0) < MOST_SERIES
    for of in dict.fromkeys(groups[i] for i in shown):
        known = [
            _Drawn(numbers[i], names[i], names[i].removesuffix(f", {of[0]}" * several), record)
            for i in shown
            if (record := found[i]) is not None and groups[i] == of
        ]
        group = next(r["group"] for r, own in zip(results, groups, strict=True) if own == of)
        pictures.append(_picture(group, known, several=several, lines=lines))
    return pictures


class _Drawn(NamedTuple):
    """A result in a picture: the number of its colour, its name, and its name beside a group's."""

    number: int
    name: str
    called: str
    record: Record


def _picture(
    group: GroupPart, known: Sequence[_Drawn], *, several: bool, lines: bool
) -> dict[str, str]:
    of = f"{group['name']}: share" if several else "Share"
    curves = _curves(group, known)
    alt = f"Shares of samples by element under {group['name']}. " + " ".join(
        f"{c.name}: {_ends(group, c)}." for c in curves
    )
    shown = [
        replace(c, values=100 * c.values, ends=None if c.ends is None else 100 * c.ends)
        for c in curves
    ]
    if not lines:
        kept = [c for c in shown if c.style == "-"]
        rows = [replace(c, name=one.called) for c, one in zip(kept, known, strict=True)]
        ends = ("no sample", "perfect")
        scale = Shades(0.0, 100.0, "% of samples", ends, colours="viridis", falling=False)
        caption = f"{of} of samples whose class is {_kept(known, group)}, by model and "
        caption += f"{element_noun(group)}; 100\u00a0% is perfect."
        return framed("predictions", cells_picture(rows, group, scale), caption, alt)
    caption = f"{of} of samples whose class is {_kept(known, group)}"
    right = any(c.style != "-" for c in curves)
    caption += " (solid) and whose class is correct (dotted)" if right else ""
    level = (100.0, "perfect")
    svg = curve_picture(shown, group, "% of samples", level, limits=(-2.0, 102.0))
    caption += "; bands are 95\u00a0% intervals over samples."
    return framed("predictions", svg, caption, alt)


def _kept(known: Sequence[_Drawn], group: GroupPart) -> str:
    """Say which class a moved sample should have."""
    permuted = {one.record["output_action"] != "trivial" for one in known}
    before = "at the random start" if is_sampled(group) else "before moving"
    same = f"the same as {before}" if False in permuted else ""
    return " or ".join(filter(None, (same, "the expected one" if True in permuted else "")))


def _values(group: GroupPart, share: str, record: Record) -> np.ndarray[Any, Any]:
    part = _predictions(record)["stay" if share == "stay" else "right"]
    assert part is not None
    return np.array([part["per_element"].get(e, np.nan) for e in group["elements"]])


def _curves(group: GroupPart, known: Sequence[_Drawn]) -> list[Curve]:
    """Return the curves: solid the share of the same class, dotted that of the correct class."""
    curves = []
    for i, name, called, record in known:
        part = _predictions(record)
        of = f"{called}: " if len(known) > 1 else ""
        kept = "same class" if record["output_action"] == "trivial" else "expected class"
        shares = [(kept, "stay")] + [("correct class", "right")] * (part["right"] is not None)
        for what, share in shares:
            values = _values(group, share, record)
            ends = np.array([_share_ends(v, part["samples"]) for v in values])
            style = ":" if share == "right" else "-"
            curves.append(Curve(of + what, values, ends, i, style, _told, at={"model": name}))
    return curves


def _told(percentage: float) -> str:
    return _share(percentage / 100)


def _share_ends(share: float, samples: int) -> tuple[float, float]:
    """Return Wilson's interval of a share of samples."""
    if not np.isfinite(share):
        return (np.nan, np.nan)
    hits = np.arange(samples) < round(share * samples)
    return mean_interval(hits, "wilson") or (share, share)


def _ends(group: GroupPart, curve: Curve) -> str:
    """Say where a share is smallest and largest among all elements except the identity."""
    low, high = 1 + int(np.nanargmin(curve.values[1:])), 1 + int(np.nanargmax(curve.values[1:]))
    names = [element_told(group, k) for k in (low, high)]
    shares = [_share(float(curve.values[k])) for k in (low, high)]
    return f"lowest {shares[0]} at {names[0]}; highest {shares[1]} at {names[1]}"
