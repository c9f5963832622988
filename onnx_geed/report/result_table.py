"""A result as text: its values, references, predictions, ranges and precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_geed.measures import MINUS, Descriptor, descriptor_of, told, told_ends
from onnx_geed.report.elements import worst_noun
from onnx_geed.report.family_table import family_lines
from onnx_geed.report.words import foreground_words, overlap_words
from onnx_geed.results import (
    GroupPart,
    Reading,
    Record,
    Reference,
    Result,
    Statistics,
    is_family,
    is_sampled,
    order_words,
    part_words,
    ranking_value,
    read_record,
)
from onnx_geed.text import columns, head_lines, interval, marked, noted, number, wrapped

__all__ = ["table"]


def table(result: Result) -> str:
    """Return a result as text.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    str
        At most 100 columns wide: one line a measurement, then warnings as numbered notes, then the
        range of each measure.
    """
    rows: list[Sequence[str]] = [
        ("measure", "layer", "value", "95 % (samples)", "exact part", "M", "n", "")
    ]
    notes: dict[str, int] = {}
    for record in result["measurements"]:
        part, bootstrap = record["exact"], record["interval"] != "t"
        exact = _told(record, part["value"]) if part else ""
        if part and part["ci95"] and part["interval"] == "t":
            exact += f" {_spread(record, part, False)}"
        rows.append(
            (
                record["measure"],
                record["layer"],
                _told(record, record["value"]),
                _spread(record, record, bootstrap),
                exact,
                number(record["normaliser"]) if record["normaliser"] is not None else "",
                str(record["samples"]),
                marked(notes, _notes(record)),
            )
        )
    return "\n".join(
        (
            *_head(result),
            *(wrapped(part_words(result["part"])) if "part" in result else ()),
            *columns(rows, flexible=1, right=(2, 5, 6)),
            *noted(notes),
            *family_lines(result),
            *_references(result),
            *_fits(result),
            *_predictions(result),
            *_places(result),
            *_ranges(result),
            *_precision(result),
        )
    )


def _references(result: Result) -> list[str]:
    """Return a second table with references, if the result has any."""
    kinds = {
        "input_round_trip": "input trip",
        "output_round_trip": "output trip",
        "numeric": "numeric",
        "untrained": "untrained",
    }
    rows: list[Sequence[str]] = [("references", "layer", "value", *kinds.values())]
    unscaled: list[str] = []
    for record in result["measurements"]:
        references = record.get("references")
        if not references:
            continue
        reading = read_record(record)
        values = [
            _on_scale(references[kind], reading) if kind in references else "" for kind in kinds
        ]
        rows.append((reading.measure, reading.layer, number(reading.told(reading.value)), *values))
        if not reading.normalised:
            unscaled.append(reading.measure)
    if len(rows) == 1:
        return []
    lines = ["", *columns(rows, flexible=1, right=(2, 3, 4, 5, 6))]
    if unscaled:
        lines += wrapped(f"references of {', '.join(dict.fromkeys(unscaled))} are unnormalised")
    return lines


def _fits(result: Result) -> list[str]:
    """Return a table of the values that fitted ones must be compared with."""
    rows: list[Sequence[str]] = [
        (
            *("fits", "layer", "kind", "value", "shuffled", "identity", "other g"),
            *("defect", "worst", "lambda", "n fit"),
        )
    ]
    for record in result["measurements"]:
        fit = record.get("fit")
        if not fit:
            continue
        defect = fit["defect"]
        rows.append(
            (
                record["measure"],
                record["layer"],
                fit["kind"],
                _told(record, record["value"]),
                _told(record, fit["shuffled"]),
                _told(record, fit["identity"]),
                "" if fit["other_element"] is None else _told(record, fit["other_element"]),
                number(defect["median"]) if defect else "",
                number(defect["worst"]) if defect else "",
                "" if fit["lambda"] is None else f"{fit['lambda']:g}",
                str(fit["samples"]),
            )
        )
    if len(rows) == 1:
        return []
    return [
        "",
        *columns(rows, flexible=1, right=(3, 4, 5, 6, 7, 8, 9, 10)),
        *wrapped(
            "shuffled: with the prediction for the next sample; a fit that is not better found "
            "nothing. identity: no channel is moved. other g: with the map of another element. "
            "defect: distance from a representation, median and worst over pairs of elements. "
            "lambda: how strongly the fit was shrunk to the identity"
        ),
    ]


def _on_scale(reference: Reference, reading: Reading) -> str:
    value = reference["value" if reading.normalised else "unnormalised"]
    return number(None if value is None else reading.told(value))


def _predictions(result: Result) -> list[str]:
    """Say how often predictions stay the same, are correct, and are of the most common class."""
    lines = []
    told: dict[str, Record] = {}
    sampled = is_sampled(result["group"])
    for record in result["measurements"]:
        if (common := record.get("most_common")) is not None:
            where = f"{record['measure']}@{record['layer']}"
            lines += wrapped(
                f"{where}: the most common class has {_percent(common)} of the "
                + ("predictions at a random element" if sampled else "unmoved predictions")
            )
        if record.get("predictions"):
            told.setdefault(record["layer"], record)
    for record in told.values():
        predictions = record.get("predictions")
        if not predictions:
            continue
        stay, right = predictions["stay"], predictions["right"]
        # Under the identity the class stays the same by definition.
        moved = [
            v for name, v in stay["per_element"].items() if name != result["group"]["elements"][0]
        ]
        if not moved:
            continue
        where = f" of {record['layer']}" if len(told) > 1 else ""
        what = "same class" if record["output_action"] == "trivial" else "expected class"
        worst = worst_noun(result["group"])
        text = f"{what} after moving{where}: {_percent(sum(moved) / len(moved))}"
        text += f" (worst {worst} {_percent(min(moved))})"
        if right:
            upright, *turned = right["per_element"].values()
            first = "at a random element" if sampled else "unmoved"
            text += (
                f"; correct: {_percent(upright)} {first}, {_percent(sum(turned) / len(turned))} "
            )
            text += f"moved (worst {worst} {_percent(min(turned))})"
        lines += wrapped(text)
    return lines


def _places(result: Result) -> list[str]:
    """Describe class scores at places: values over the foreground, and overlaps of classes."""
    lines, overlaps = [], dict[str, str]()
    for record in result["measurements"]:
        if text := foreground_words(record):
            lines += wrapped(f"{record['measure']}@{record['layer']}: {text}")
        if text := overlap_words(record, of_sampled=is_sampled(result["group"])):
            overlaps.setdefault(record["layer"], text)
    for layer, text in overlaps.items():
        lines += wrapped(f"{layer}: {text}")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _precision(result: Result) -> list[str]:
    """Say how many samples were needed for the requested precision."""
    precision = result.get("precision")
    if not precision:
        return []
    text = f"precision: {precision['asked']:g}"
    if precision["reached"]:
        return [f"{text} reached after {precision['samples']} samples"]
    left = precision["undecided"]
    where = f" by {len(left)} of {len(result['measurements'])} values" if left else ""
    return [f"{text} not reached{where} after {precision['samples']} samples"]


def _head(result: Result) -> list[str]:
    group = result["group"]
    exact = sum(group["exact"])
    acts = f"{group['name']} ({order_words(group)}"
    if is_family(group):
        acts += ")"
    else:
        acts += ")" if exact == group["order"] else f", {exact} exact; {group['interpolation']})"
    if group["support"] != "full":
        acts += f", support {group['support']}"
    model, data = result["model"]["path"], result["data"]["source"]
    return head_lines(("model", model), ("group", acts), ("data", data))


def _notes(record: Record) -> list[str]:
    notes = list(record["warnings"])
    value, scale = ranking_value(record)
    if scale == "unnormalised":
        notes.append(f"unnormalised value of {record['measure']}: {_told(record, value)}")
    return notes


def _told(record: Record, value: float | None) -> str:
    """Return a value as people read it: cosines with their own sign."""
    return number(None if value is None else told(descriptor_of(record["measure"]), value))


def _spread(record: Record, part: Statistics, bootstrap: bool) -> str:
    """Half the interval where it is symmetric, else both ends."""
    ends = part["ci95"]
    if ends is None:
        return "-"
    if bootstrap:
        return interval(told_ends(descriptor_of(record["measure"]), ends))
    return f"± {number((ends[1] - ends[0]) / 2)}"


def _ranges(result: Result) -> list[str]:
    """Give the perfect and the worst possible value of each measure, and which way is better."""
    actions: dict[str, set[str]] = {}
    for record in result["measurements"]:
        actions.setdefault(record["measure"], set()).add(record["output_action"])
    ranges = [
        _range(descriptor_of(measure), result["group"], taken == {"trivial"})
        for measure, taken in actions.items()
    ]
    if any(descriptor_of(measure).similarity for measure in actions):
        ranges.append(MINUS)
    return wrapped(f"range: {'; '.join(ranges)}") if ranges else []


def _range(measure: Descriptor, group: GroupPart, trivial: bool) -> str:
    kind = "invariant" if trivial else "equivariant"
    limit = measure.worst_value(group["order"], trivial=trivial and not is_family(group))
    perfect, worst = told(measure, measure.perfect), told(measure, limit)
    text, beyond = f"{measure.name} {perfect:g}", "less" if measure.similarity else "more"
    if measure.perfect_over_m:
        return f"{text}/M ({kind}) or {beyond}, unnormalised {perfect:g} ({kind}) or {beyond}"
    if measure.pooled or not math.isfinite(worst):
        return f"{text} ({kind}) or {beyond}"
    ending = f"{worst:g}" if worst == int(worst) else f"{worst:.3f}"
    return f"{text} ({kind}) to {ending.replace('-', '−')}"
