"""A result as a table of at most 100 columns for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["columns", "shorten", "table"]

WIDTH = 100


def table(made: Mapping[str, Any]) -> str:
    """Return a result as text.

    Parameters
    ----------
    made : mapping
        A result.

    Returns
    -------
    str
        At most 100 columns wide; warnings stand below as numbered notes.
    """
    group = made["group"]
    exact = sum(group["exact"])
    head = f"{made['model']['path']}   {group['name']} ({group['order']} elements"
    head += ")" if exact == group["order"] else f", {exact} exact; {group['interpolation']})"
    head += f"   {made['data']['source']}"
    rows: list[Sequence[str]] = [
        ("measure", "layer", "value", "95 % interval", "exact part", "M", "n", "")
    ]
    notes: list[str] = []
    for record in made["measurements"]:
        marks = []
        for text in record["warnings"]:
            if text not in notes:
                notes.append(text)
            marks.append(f"[{notes.index(text) + 1}]")
        part = record["exact"]
        rows.append(
            (
                record["measure"],
                record["layer"],
                number(record["value"]),
                interval(record["ci95"]),
                number(part["value"]) if part else "",
                number(record["normaliser"]) if record["normaliser"] is not None else "",
                str(record["samples"]),
                " ".join(marks),
            )
        )
    lines = [shorten(head, WIDTH), *columns(rows, flexible=1, right=(2, 4, 5, 6))]
    lines += [line for i, text in enumerate(notes, 1) for line in wrapped(f"[{i}] {text}")]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Four significant figures, never in exponents where that can be avoided."""
    if value is None:
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 4 if abs(value) < 10 else 2
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def interval(ends: Sequence[float] | None) -> str:
    """An interval in brackets."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "-"


def columns(
    rows: Sequence[Sequence[str]], *, flexible: int, right: Sequence[int] = ()
) -> list[str]:
    """Align rows in columns, shortening one of them so that the whole fits 100 columns.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells; the first row is the head.
    flexible : int
        The column that gives way.
    right : sequence of int
        Columns aligned to the right.

    Returns
    -------
    list of str
        Lines.
    """
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:]) or i == flexible]
    widths = {i: max(len(row[i]) for row in rows) for i in kept}
    others = sum(w for i, w in widths.items() if i != flexible) + 2 * (len(kept) - 1)
    widths[flexible] = max(8, min(widths[flexible], WIDTH - others))
    lines = []
    for row in rows:
        cells = [
            (shorten(row[i], widths[i]).rjust(widths[i]))
            if i in right
            else shorten(row[i], widths[i]).ljust(widths[i])
            for i in kept
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle, where names differ least."""
    if len(text) <= width:
        return text
    left = (width - 1) // 3
    return text[:left] + "…" + text[len(text) - (width - 1 - left) :]


def wrapped(text: str) -> list[str]:
    """Break a note into lines of at most 100 columns."""
    import textwrap

    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")
