"""A result as a small table of HTML, as notebooks show it."""

from __future__ import annotations

import html

from onnx_geed.measures import descriptor_of, perfect_words, told, told_ends
from onnx_geed.results import Record, Result, far_off, is_family, order_words, read_record
from onnx_geed.safe_names import html_text
from onnx_geed.text import interval, number, shorten

__all__ = ["html_table"]

# Rows, and letters of a layer's name.
_ROWS, _LAYER = 40, 48


def html_table(result: Result) -> str:
    """Return a result as a table with one row per measurement.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    str
        HTML without scripts or styles; all names are escaped. The table of a result of many
        measurements is cut, with a note.
    """
    group, records = result["group"], result["measurements"]
    head = f"{shorten(result['model']['path'], 60)} under {group['name']} ({order_words(group)})"
    head += f", {shorten(result['data']['source'], 40)}"
    names = ("measure", "layer", "value", "95 %", "perfect", "how far off", "samples", "")
    lines = [
        "<table>",
        f"<caption>{_text(head)}</caption>",
        f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in names)}</tr></thead>",
        "<tbody>",
        *(_row(record, of_family=is_family(group)) for record in records[:_ROWS]),
        "</tbody>",
        "</table>",
    ]
    if len(records) > _ROWS:
        rest = f"and {len(records) - _ROWS} more values: see .to_dataframe()"
        lines.append(f"<p>{_text(rest)}</p>")
    note = (
        "how far off: 0 % is perfect, 100 % is as far off as different samples are from each "
        "other; cosines have a minus sign in the fields of the result, as in its file"
    )
    return "\n".join([*lines, f"<p><small>{_text(note)}</small></p>"])


def _row(record: Record, *, of_family: bool) -> str:
    reading, measure, value = read_record(record), descriptor_of(record["measure"]), record["value"]
    far = None if reading.relative is None else far_off(reading, reading.value, of_family=of_family)
    cells = (
        record["measure"],
        shorten(record["layer"], _LAYER),
        number(None if value is None else told(measure, value)),
        interval(told_ends(measure, record["ci95"])),
        perfect_words(measure).replace(" is perfect", ""),
        "-" if far is None else f"{100 * far:.3g} %",
        str(record["samples"]),
    )
    doubts = html.escape("; ".join(html_text(text) for text in record["warnings"]))
    mark = f'<td title="{doubts}">⚠</td>' if doubts else "<td></td>"
    return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}{mark}</tr>"


def _text(value: str) -> str:
    return html.escape(str(html_text(value)))
