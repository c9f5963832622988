"""Results as text of at most 100 columns."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_geed.measures import Descriptor, descriptor_of
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    Record,
    compared,
    perfect_notes,
    ranking_value,
    read_record,
)
from onnx_geed.text import (
    LEAST_WIDTH,
    WIDTH,
    columns,
    format_bytes,
    interval,
    number,
    plain,
    shorten,
    wrapped,
)

__all__ = [
    "aggregate_table",
    "compare_table",
    "info_table",
    "layer_table",
    "suite_csv",
    "suite_table",
    "table",
]

_PLAIN = ("model", "step", "data", "group", "measure", "layer", "output_action", "samples")


_ENDS = (
    "ci95_over_models",
    "ci95_over_samples",
    "unnormalised_ci95_over_models",
    "relative_ci95_over_models",
    "relative_ci95_over_samples",
    "exact_ci95_over_models",
)


def table(made: Mapping[str, Any]) -> str:
    """Return a result as text.

    Parameters
    ----------
    made : mapping
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
    for record in made["measurements"]:
        marks = [notes.setdefault(text, len(notes) + 1) for text in _notes(record)]
        part, bootstrap = record["exact"], record["interval"] == "bootstrap"
        exact = number(part["value"]) if part else ""
        if part and part["ci95"] and not bootstrap:
            exact += f" {_spread(part, bootstrap)}"
        rows.append(
            (
                record["measure"],
                record["layer"],
                number(record["value"]),
                _spread(record, bootstrap),
                exact,
                number(record["normaliser"]) if record["normaliser"] is not None else "",
                str(record["samples"]),
                f"[{','.join(map(str, marks))}]" if marks else "",
            )
        )
    lines = [*_head(made), *columns(rows, flexible=1, right=(2, 5, 6))]
    lines += [line for text, i in notes.items() for line in wrapped(f"[{i}] {text}")]
    return "\n".join(
        [*lines, *_references(made), *_predictions(made), *_ranges(made), *_precision(made)]
    )


def _references(made: Mapping[str, Any]) -> list[str]:
    """Return a second table of scales, where they were asked for."""
    kinds = {
        "input_round_trip": "input trip",
        "output_round_trip": "output trip",
        "numeric": "numeric",
        "untrained": "untrained",
    }
    rows: list[Sequence[str]] = [("references", "layer", "value", *kinds.values())]
    unscaled: list[str] = []
    for record in made["measurements"]:
        entries = record.get("references")
        if not entries:
            continue
        read = read_record(record)
        what = "value" if read.normalised else "unnormalised"
        cells = [number(entries[kind][what]) if kind in entries else "" for kind in kinds]
        rows.append((read.measure, read.layer, number(read.value), *cells))
        if not read.normalised:
            unscaled.append(read.measure)
    if len(rows) == 1:
        return []
    lines = ["", *columns(rows, flexible=1, right=(2, 3, 4, 5, 6))]
    if unscaled:
        lines += wrapped(f"references of {', '.join(dict.fromkeys(unscaled))} are unnormalised")
    return lines


def _predictions(made: Mapping[str, Any]) -> list[str]:
    """Say how often predictions stay, and are right."""
    lines = []
    several = sum(1 for record in made["measurements"] if record.get("predictions"))
    for record in made["measurements"]:
        found = record.get("predictions")
        if not found:
            continue
        stay, right = found["stay"], found["right"]
        # What the identity adds is known: its own prediction stays.
        moved = [
            v for name, v in stay["per_element"].items() if name != made["group"]["elements"][0]
        ]
        if not moved:
            continue
        where = f" of {record['layer']}" if several > 1 else ""
        stays = "stay" if record["output_action"] == "trivial" else "move along"
        text = f"predictions{where} {stays} in {_percent(sum(moved) / len(moved))} of moved samples"
        text += f" (least {_percent(min(moved))})"
        if right:
            upright, *turned = right["per_element"].values()
            text += f"; right {_percent(upright)} unmoved, {_percent(sum(turned) / len(turned))} "
            text += f"moved (least {_percent(min(turned))})"
        lines += wrapped(text)
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _precision(made: Mapping[str, Any]) -> list[str]:
    """Say how many samples the precision that was asked for took."""
    found = made.get("precision")
    if not found:
        return []
    text = f"precision: {found['asked']:g}"
    if found["reached"]:
        return [f"{text} reached after {found['samples']} samples"]
    left = found["undecided"]
    what = f" by {len(left)} of {len(made['measurements'])} values" if left else ""
    return [f"{text} not reached{what} after {found['samples']} samples"]


def _head(made: Mapping[str, Any]) -> list[str]:
    group = made["group"]
    exact = sum(group["exact"])
    what = f"{group['name']} ({group['order']} elements"
    what += ")" if exact == group["order"] else f", {exact} exact; {group['interpolation']})"
    if group["support"] != "full":
        what += f", support {group['support']}"
    names = f"{made['model']['path']}   {what}   {made['data']['source']}"
    if len(plain(names)) <= WIDTH:
        return [plain(names)]
    room = max(LEAST_WIDTH, (WIDTH - len(what) - 6) // 2)
    model, data = shorten(made["model"]["path"], room), shorten(made["data"]["source"], room)
    return wrapped(f"{model}   {what}   {data}")


def _notes(record: Mapping[str, Any]) -> list[str]:
    notes = list(record["warnings"])
    value, name = ranking_value(record)
    if name == "unnormalised":
        notes.append(f"unnormalised value of {record['measure']}: {number(value)}")
    return notes


def _spread(record: Mapping[str, Any], bootstrap: bool) -> str:
    """Half the interval where it is symmetric, else both ends."""
    ends = record["ci95"]
    if ends is None:
        return "-"
    return interval(ends) if bootstrap else f"± {number((ends[1] - ends[0]) / 2)}"


def _ranges(made: Mapping[str, Any]) -> list[str]:
    """Say what the best and the worst value of each measure would be."""
    found = []
    for measure in dict.fromkeys(m["measure"] for m in made["measurements"]):
        actions = {m["output_action"] for m in made["measurements"] if m["measure"] == measure}
        found.append(_range(descriptor_of(measure), made["group"]["order"], actions == {"trivial"}))
    return wrapped(f"range: {'; '.join(found)}") if found else []


def _range(measure: Descriptor, order: int, trivial: bool) -> str:
    kind = "invariant" if trivial else "equivariant"
    worst = measure.worst_value(order, trivial=trivial)
    text = f"{measure.name} {measure.perfect:g}"
    if measure.perfect_over_m:
        return f"{text}/M ({kind}) up, its unnormalised value {measure.perfect:g} ({kind}) up"
    if measure.normalised or not math.isfinite(worst):
        return f"{text} ({kind}) up"
    return (
        f"{text} ({kind}) to {worst:g}"
        if worst == int(worst)
        else f"{text} ({kind}) to {worst:.3f}"
    )


def aggregate_table(made: Record) -> str:
    """Return an aggregate as text of at most 100 columns."""
    rows: list[Sequence[str]] = [
        (
            *("measure", "layer", "mean", "95 % (models)", "unnormalised", "relative"),
            *("95 % (models)", "models", ""),
        )
    ]
    notes = list(made["warnings"])
    for m in made["measurements"]:
        fresh = [f"{m['measure']}@{m['layer']}: {text}" for text in m["warnings"]]
        marks = ",".join(str(len(notes) + i) for i in range(1, len(fresh) + 1))
        notes += fresh
        plain, related = m["unnormalised_mean"], m["relative_mean"]
        rows.append(
            (
                m["measure"],
                m["layer"],
                number(m["mean"]),
                interval(m["ci95_over_models"]),
                "" if plain is None else number(plain),
                "" if related is None else number(related),
                "" if related is None else interval(m["relative_ci95_over_models"]),
                str(m["models"]),
                f"[{marks}]" if marks else "",
            )
        )
    head = f"{len(made['models'])} models   {made['group']['name']}   "
    head += shorten(made["data"]["source"], 70)
    said = [line for i, note in enumerate(notes, 1) for line in wrapped(f"[{i}] {note}")]
    if any(m["relative_mean"] is not None for m in made["measurements"]):
        said += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    said += [line for note in perfect_notes(made["measurements"]) for line in wrapped(note)]
    return "\n".join((head, *columns(rows, flexible=1, right=(2, 4, 5, 7)), *said))


def compare_table(made: Record) -> str:
    """Return a comparison as text of at most 100 columns."""
    rows: list[Sequence[str]] = [("measure", "layer", "A", "B", "A - B", "95 % paired", "A lower")]
    said = []
    for m in made["measurements"]:
        share = m["share_a_lower"]
        rows.append(
            (
                compared(m),
                m["layer"],
                number(m["a"]),
                number(m["b"]),
                number(m["difference"]),
                interval(m["verdict_ci95"]),
                "-" if share is None else f"{100 * share:.0f} %",
            )
        )
        notes = "".join(f" ({w})" for w in m["warnings"])
        said += wrapped(f"{m['measure']}@{m['layer']}: {m['verdict']}{notes}")
    head = [f"{x.upper()}  {shorten(made[x]['file'] or made[x]['path'], 97)}" for x in "ab"]
    for what in made["differ_in"]:
        head += wrapped(f"compared although they differ in {what}")
    if any(m["compared"] == "relative" for m in made["measurements"]):
        said += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    return "\n".join((*head, *columns(rows, flexible=1, right=(2, 3, 4, 6)), "", *said))


def info_table(made: dict[str, Any], verified: bool = False) -> str:
    """Return a cache's description as text.

    Parameters
    ----------
    made : dict
        From :func:`cache_info`.
    verified : bool
        Whether every checksum was read.

    Returns
    -------
    str
    """
    state = "complete" if made["complete"] else f"not complete, {len(made['missing'])} missing"
    checked = ", every checksum is right" if verified else ""
    rows: list[Sequence[str]] = [("layer", "content", "dtype", "shape", "size")]
    for layer in made["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        rows.append(
            (layer["tensor"], layer["content"], layer["dtype"], shape, format_bytes(layer["bytes"]))
        )
    prints = [("fingerprint", "", ""), *((k, v, "") for k, v in made["fingerprints"].items())]
    return "\n".join(
        (
            f"{made['path']}   {made['orbits']} orbits of {made['order']}, {made['shards']} shards,"
            f" {format_bytes(made['bytes'])}: {state}{checked}",
            f"model {made['model']['path']}   data {made['data']['source']}   "
            f"{made['group']['name']}",
            "",
            *columns(rows, flexible=0, right=(4,)),
            "",
            *columns(prints, flexible=1),
        )
    )


def layer_table(listed: dict[str, Any]) -> str:
    """Return the listing as a table for a terminal.

    Parameters
    ----------
    listed : dict
        From :func:`list_layers`.

    Returns
    -------
    str
    """
    model = listed["model"]
    lines = [f"{model['path']}   opset {model['opset']}   {model['producer']}".rstrip()]
    for entry in listed["inputs"]:
        acted = entry["name"] == listed["input"]["name"]
        what = f"acted on, {listed['input']['layout'] or 'layout unknown: --input-layout'}"
        lines.append(
            f"input   {entry['name']} {_shape(entry['shape'])} {entry['dtype']}"
            + (f"   {what}" if acted else "   --feed")
        )
    output = listed["output"]
    lines.append(f"output  {output['name']}   {output['kind'] or 'kind: decided on data'}")
    if listed["no_latent"]:
        lines.append(f"latent  none: {listed['no_latent']}; name it with --latent NAME")
    for key, value in sorted(listed["metadata"].items()):
        lines.append(f"{key} = {value if len(value) <= 70 else value[:67] + '...'}")
    rows = [("role", "shape", "bytes", "tensor", "module or node")]
    for t in listed["tensors"]:
        role = ",".join(r for r in t["roles"] if r != "input") or ("point" if t["point"] else "")
        size = "?" if t["bytes"] is None else f"{t['bytes']:,}"
        rows.append((role, _shape(t["shape"]), size, t["name"], t["module"] or t["node"]))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines.append("")
    for role, shape, size, name, node in rows:
        lines.append(
            f"{role:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  "
            f"{name:<{widths[3]}}  {node}".rstrip()
        )
    lines.append("")
    lines.append(
        "channel, latent, output: what is measured by default. point: another factorisation point."
    )
    lines.append(
        "Any tensor listed can be named: --measure NAME@TENSOR. Bytes: one sample, float32."
    )
    return "\n".join(lines)


def _shape(shape: Any) -> str:
    if shape is None:
        return "(?)"
    return (
        "("
        + ",".join("N" if i == 0 and d is None else str(d or "?") for i, d in enumerate(shape))
        + ")"
    )


def suite_table(made: Mapping[str, Any]) -> str:
    """Return a suite's summary as text of at most 100 columns.

    Parameters
    ----------
    made : mapping
        What :func:`onnx_geed.benchmark` returns.

    Returns
    -------
    str
        One table a data set, group and measure: a line a model, step and layer. Then warnings, each
        once, and what failed.
    """
    lines = [made["title"]]
    notes: dict[str, int] = {}
    parts: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in made["rows"]:
        parts.setdefault((row["measure"], row["data"], row["group"]), []).append(row)
    for (measure, data, group), rows in parts.items():
        lines += ["", f"{measure}   {data}   {group}"]
        lines += columns(_cells(rows, notes), flexible=0, right=(1, 3, 5, 6, 8))
    if any(row["relative_mean"] is not None for row in made["rows"]):
        lines += ["", *wrapped(f"relative: {WHAT_IS_RELATIVE}")]
    for note in perfect_notes(made["rows"]):
        lines += ["", *wrapped(note)]
    lines += [""] if notes else []
    lines += [line for text, i in notes.items() for line in wrapped(f"[{i}] {text}")]
    for failure in made["failed"]:
        lines += wrapped(f"failed: {failure['cell']}: {failure['message']}")
    return "\n".join(lines)


def _cells(rows: Sequence[Mapping[str, Any]], notes: dict[str, int]) -> list[Sequence[str]]:
    several = len({r["layer"] for r in rows}) > 1
    # Latents and outputs bear other names in other models, which tells nothing.
    single = all(
        len({r["layer"] for r in rows if r["model"] == model}) == 1
        for model in {r["model"] for r in rows}
    )
    head = ("model", "step", "layer", "mean", "95 %", "unnormalised", "relative", "95 %", "n", "")
    cells: list[Sequence[str]] = [head]
    for row in rows:
        marks = [str(notes.setdefault(w, len(notes) + 1)) for w in row["warnings"]]
        cells.append(
            (
                row["model"],
                "" if row["step"] is None else str(row["step"]),
                row["layer"] if several and not single else "",
                number(row["mean"]),
                _ends(row),
                "" if row["unnormalised_mean"] is None else number(row["unnormalised_mean"]),
                "" if row["relative_mean"] is None else number(row["relative_mean"]),
                "" if row["relative_mean"] is None else _ends(row, "relative_"),
                str(len(row["values"])),
                f"[{','.join(marks)}]" if marks else "",
            )
        )
    return cells


def _ends(row: Mapping[str, Any], of: str = "") -> str:
    """Name the two intervals apart."""
    for over in ("models", "samples"):
        if row[f"{of}ci95_over_{over}"]:
            return f"{interval(row[f'{of}ci95_over_{over}'])} {over}"
    return "-"


def suite_csv(made: Mapping[str, Any]) -> str:
    """Return a line a row, numbers in full.

    Parameters
    ----------
    made : mapping
        What :func:`onnx_geed.benchmark` returns.

    Returns
    -------
    str
        With a header line; ``seeds``, ``values``, ``normalisers``, ``unnormalised``, ``relative``
        and warnings are separated by semicolons.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    lists = ("seeds", "values", "normalisers", "unnormalised", "relative", "warnings")
    means = ("models", "mean", "unnormalised_mean", "relative_mean", "exact_mean")
    ends = [f"{name}_{end}" for name in _ENDS for end in ("low", "high")]
    writer.writerow((*_PLAIN, *means, *ends, *lists))
    for row in made["rows"]:
        pairs = [row[name] or (None, None) for name in _ENDS]
        writer.writerow(
            (
                *(row[name] for name in (*_PLAIN, *means)),
                *(end for pair in pairs for end in pair),
                *(";".join("" if v is None else str(v) for v in row[name]) for name in lists),
            )
        )
    return stream.getvalue()
