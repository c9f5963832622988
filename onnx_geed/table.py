"""Results as tables of at most 100 columns for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_geed.reading import read_record
from onnx_geed.results import ranking_value

__all__ = ["columns", "interval", "number", "plain", "shorten", "table", "wrapped"]

WIDTH = 100

# The flexible column keeps this much; the others are numbers and rarely too wide.
_LEAST = 8


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
    room = max(_LEAST, (WIDTH - len(what) - 6) // 2)
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
        if measure == "channel-cos":
            found.append("channel-cos -1 (equivariant) to 1")
        elif measure == "latent-cos":
            found.append("latent-cos -1/M (invariant) up, its unnormalised value -1 (invariant) up")
        elif measure == "softmax-kl" and actions == {"trivial"}:
            found.append(f"softmax-kl 0 (invariant) to {math.log(made['group']['order']):.3f}")
        else:
            found.append(f"{measure} 0 ({'in' if actions == {'trivial'} else 'equi'}variant) up")
    return wrapped(f"range: {'; '.join(found)}") if found else []


def number(value: float | None) -> str:
    """Return a number in about nine characters, without an exponent where that can be."""
    if value is None:
        return "-"
    size = abs(value)
    if size == 0 or 0.1 <= size < 10:
        return f"{value:.4f}"
    if 10 <= size < 1e5:
        return f"{value:.2f}"
    if 1e-3 <= size < 0.1:
        return f"{value:.5f}"
    return f"{value:.2e}"


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval in brackets."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "-"


def columns(
    rows: Sequence[Sequence[str]], *, flexible: int, right: Sequence[int] = ()
) -> list[str]:
    """Align rows in columns, shortening one of them so that the whole fits 100 columns.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells; the first row is the head. Columns empty below their head are left out.
    flexible : int
        The column that gives way, in the middle of its texts.
    right : sequence of int
        Columns aligned to the right.

    Returns
    -------
    list of str
        Lines.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(cells[0])) if any(row[i] for row in cells[1:]) or i == flexible]
    widths = {i: max(len(row[i]) for row in cells) for i in kept}
    others = sum(w for i, w in widths.items() if i != flexible) + 2 * (len(kept) - 1)
    widths[flexible] = min(widths[flexible], max(_LEAST, WIDTH - others))
    while sum(widths.values()) + 2 * (len(kept) - 1) > WIDTH:  # intervals of 1e-300, many notes
        widths[max(widths, key=lambda i: widths[i])] -= 1
    short = _told_apart([row[flexible] for row in cells], widths[flexible])
    lines = []
    for row in cells:
        fitted = {i: short[row[i]] if i == flexible else shorten(row[i], widths[i]) for i in kept}
        aligned = [
            text.rjust(widths[i]) if i in right else text.ljust(widths[i])
            for i, text in fitted.items()
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle; more of its end is kept, where names of layers differ."""
    text = plain(text)
    if len(text) <= width:
        return text
    left = (width - 1) // 3
    return text[:left] + "…" + text[len(text) - (width - 1 - left) :]


def _told_apart(texts: Sequence[str], width: int) -> dict[str, str]:
    """Shorten texts; those that would look the same are cut to where they differ."""
    short = {text: shorten(text, width) for text in texts}
    lead = dict.fromkeys(short, "")
    pending = [list(short)]
    while pending:
        seen: dict[str, list[str]] = {}
        for text in pending.pop():
            seen.setdefault(short[text], []).append(text)
        for alike in seen.values():
            if len(alike) == 1 or len(lead[alike[0]]) > width // 2:
                continue
            letters = zip(*alike, strict=False)
            shared = next((i for i, c in enumerate(letters) if len(set(c)) > 1), len(min(alike)))
            # What told it apart so far, a few characters that are shared, the first difference.
            start = max(0, shared - width // 8)
            for text in alike:
                head = lead[text] + "…" * (start > 0)
                long = head + text[start:]
                short[text] = long if len(long) <= width else long[: width - 1] + "…"
                lead[text] = head + text[start : shared + 1]
            pending.append(alike)
    return short


def plain(text: str) -> str:
    """Return a text that fits one line: what a terminal would act on becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)


def wrapped(text: str) -> list[str]:
    """Break a note into lines of at most 100 columns."""
    return textwrap.wrap(plain(text), WIDTH, subsequent_indent="    ")
