"""Numbers, sizes, columns and JSON as text."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_geed.errors import GeedError, shown, without_secrets
from onnx_geed.safe_names import json_escaped, one_line, plain

__all__ = [
    "LEAST_WIDTH",
    "columns",
    "counted",
    "format_bytes",
    "head_lines",
    "interval",
    "json_pieces",
    "line_width",
    "marked",
    "noted",
    "number",
    "parse_bytes",
    "path_end",
    "shorten",
    "span",
    "to_json",
    "wrapped",
]

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


# Letters of a line in a pipe or a file, and the most and the least of one in a terminal.
_WIDTH, _NARROW = 100, 60


# What is never cut: a part of a number is another number. Marks of notes are in brackets, too.
_NUMBER = re.compile(r"[\[±]? ?[-−]?\d+(\.\d+)?(e[-+]\d+)?(?![\w./-])")


# A head of a column of numbers keeps this much, so that it can be read.
_HEAD = 12


# Letters of a cell of a table that is as wide as its names.
_LONGEST = 200


# Letters of a text that is written piece by piece.
_PIECE = 1 << 16


# Lists of numbers that are written in one call.
_TOGETHER = 1000


# Letters of a note under a table.
_NOTE = 2000


# The flexible column keeps this much; the others are numbers and rarely too wide.
LEAST_WIDTH = 8


def to_json(result: Mapping[str, Any]) -> str:
    """Return a result, aggregate or comparison as JSON.

    Parameters
    ----------
    result : mapping of str to object
        Numbers, strings, arrays, paths, and lists and mappings of these.

    Returns
    -------
    str
        Lists of plain values on one line, so that a row of deviations is one; ends in a newline.
        Every float and name reads back as it was; what nobody would see is escaped. Addresses are
        without keys and tokens.

    Raises
    ------
    GeedError
        If it holds NaN or infinity, naming the measure and layer.
    """
    return "".join(json_pieces(result))


def json_pieces(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of :func:`to_json` piece by piece: of many samples it is a large one.

    Raises
    ------
    GeedError
        As :func:`to_json`, when it comes to that.
    """
    # No address goes over the end of a text in quotes, and so of a piece.
    some, letters = list[str](), 0
    try:
        for piece in itertools.chain(_json_parts(result, "the result", ""), ("\n",)):
            some.append(piece)
            letters += len(piece)
            if letters >= _PIECE:
                yield json_escaped(without_secrets("".join(some)))
                some, letters = [], 0
    except RecursionError:
        raise GeedError("the result: holds lists in lists without end") from None
    yield json_escaped(without_secrets("".join(some)))


def _json_parts(value: Any, where: str, pad: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        if "measure" in value and "layer" in value:
            where = f"{value['measure']}@{value['layer']}"
        for i, (k, v) in enumerate(value.items()):
            yield (",\n" if i else "{\n") + f"{pad} {_WRITING.encode(str(k))}: "
            yield from _json_parts(v, f"{where}, {k}", pad + " ")
        yield f"\n{pad}}}"
    elif isinstance(value, list | tuple) and _nested(value):
        for start in range(0, len(value), _TOGETHER):
            some = value[start : start + _TOGETHER]
            yield f"{',' if start else '['}\n{pad} "
            if lines := _lines_of_numbers(some, f",\n{pad} "):
                yield lines
                continue
            for i, v in enumerate(some):
                yield f",\n{pad} " if i else ""
                yield from _json_parts(v, f"{where}, {start + i}", pad + " ")
        yield f"\n{pad}]"
    else:
        yield _json_line(value, where)


def _lines_of_numbers(rows: Sequence[Any], between: str) -> str:
    """Return lists of plain values, written in one call; nothing where they are anything else."""
    if not {list, tuple}.issuperset(map(type, rows)):
        return ""
    try:
        text = _WRITING.encode(rows)
    except (ValueError, TypeError, RecursionError):
        return ""  # told with its place, one by one
    # Texts have quotes and mappings braces; a list within a row has brackets of its own.
    found = (text.count("["), text.count("], ["))
    if '"' in text or "{" in text or found != (len(rows) + 1, len(rows) - 1):
        return ""
    return text[1:-1].replace("], [", f"]{between}[")


def _json_line(value: Any, where: str) -> str:
    try:
        return _WRITING.encode(value)
    except ValueError:
        raise GeedError(
            f"{where}: is NaN or infinite, which no result file may hold; look for NaN or very "
            "large numbers in the model's outputs"
        ) from None
    except TypeError as error:
        raise GeedError(f"{where}: {error}; give numbers, texts, lists and mappings") from None


def _nested(values: Sequence[Any]) -> bool:
    """Say whether a list holds lists or mappings; long ones are of plain numbers nearly always."""
    if _PLAIN.issuperset(map(type, values)):
        return False
    return any(isinstance(v, (list, tuple, Mapping)) for v in values)


def _as_plain_value(value: object) -> Any:
    import numpy as np

    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a result")


_PLAIN = frozenset((float, int, str, bool, type(None)))


_WRITING = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_as_plain_value)


def span(value: float) -> str:
    """Return a number for a sentence: three significant figures, such as ``0.123``."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        # Three figures, but never a −1 that is not one.
        text = f"{value:.{digits}f}"
        text = f"{value:.6f}" if abs(value) < 1 <= abs(float(text)) else text
        return text.replace("-", "−")
    mantissa, power = f"{value:.1e}".replace("-", "−").split("e")
    return f"{mantissa}·10{str(int(power.replace('−', '-'))).translate(_RAISED)}"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun, such as ``1 sample`` or ``2 samples``.

    Parameters
    ----------
    count : int
        How many.
    noun, nouns : str
        What one of them is called, and what several; by default that with an s.
    """
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"


def format_bytes(count: float) -> str:
    """Return a size such as ``5.5 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``2GiB``, ``500MB`` or a number of bytes.

    Raises
    ------
    GeedError
        If it is not a positive size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", str(text).strip(), re.IGNORECASE)
    power = " KMGT".index(match[2].upper() or " ") if match else 0
    size = float(match[1]) * (1024 if match[3] else 1000) ** power if match else 0.0
    if not 1 <= size < math.inf:
        raise GeedError(
            f"{shown(text)!r} is not a size of memory: write, for example, 2GiB, 500MB or "
            "1073741824"
        )
    return int(size)


def number(value: float | None) -> str:
    """Return a number for people, in about nine characters, without an exponent where that can be.

    Its minus is one, as on pages and in pictures; that of an exponent stays as programs read it.
    """
    if value is None:
        return "-"
    size = abs(value)
    if value < 0:
        return f"−{number(size)}"
    value = size  # a zero has no sign
    if size == 0 or 0.1 <= size < 10:
        return f"{value:.4f}"
    if 10 <= size < 1e5:
        return f"{value:.2f}"
    if 1e-3 <= size < 0.1:
        return f"{value:.5f}"
    return f"{value:.2e}"


def interval(ends: Sequence[float] | None) -> str:
    """Return the two ends of an interval in brackets, or a dash where there is none."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "-"


def columns(
    rows: Sequence[Sequence[str]], *, flexible: int | None, right: Sequence[int] = ()
) -> list[str]:
    """Align rows in columns, shortening names so that lines fit, where that is enough.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells; the first row is the head. Columns empty below their head are left out.
    flexible : int or None
        The column that gives way first, in the middle of its texts; with ``None``, nothing is
        shortened.
    right : sequence of int
        Columns aligned to the right.

    Returns
    -------
    list of str
        Lines. Numbers and intervals are whole, however long a line gets by them.
    """
    most = line_width()
    cells = [[plain(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(cells[0])) if any(row[i] for row in cells[1:]) or i == flexible]
    widths = {i: min(_LONGEST, max(len(row[i]) for row in cells)) for i in kept}
    if flexible is not None:
        others = sum(w for i, w in widths.items() if i != flexible) + 2 * (len(kept) - 1)
        widths[flexible] = min(widths[flexible], max(LEAST_WIDTH, most - others))
        least = {i: _least_width([row[i] for row in cells], i == flexible) for i in kept}
        while sum(widths.values()) + 2 * (len(kept) - 1) > most:
            giving = [i for i in kept if widths[i] > least[i]]
            if not giving:
                break  # intervals of 1e-300, many notes
            widths[max(giving, key=lambda i: widths[i])] -= 1
    short = {i: _told_apart([row[i] for row in cells], widths[i]) for i in kept}
    lines = []
    for row in cells:
        fitted = {i: short[i][row[i]] for i in kept}
        aligned = [
            text.rjust(widths[i]) if i in right else text.ljust(widths[i])
            for i, text in fitted.items()
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines


def _least_width(column: Sequence[str], named: bool) -> int:
    """Return the letters below which a column is not cut: numbers and intervals are whole."""
    head, *body = column
    if named or not any(map(_NUMBER.match, body)):
        return LEAST_WIDTH
    return max(min(_HEAD, len(head)), *map(len, body))


def line_width() -> int:
    """Return the letters of a line: the terminal's, from 60 to 100; 100 where there is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return _WIDTH
    return max(_NARROW, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle; more of its end is kept, where names of layers differ."""
    text = plain(text)
    if len(text) <= width:
        return text
    left = (width - 1) // 3
    return text[:left] + "…" + text[len(text) - (width - 1 - left) :]


def path_end(path: str, width: int) -> str:
    """Return a path whole where it fits, else its end, which tells it apart, from a slash on."""
    path = plain(path)
    if len(path) <= width:
        return path
    tail = path[len(path) - (width - 1) :]
    slash = tail.find("/")
    # Of a single long name no slash is left, or only one that ends it.
    return "…" + (tail[slash:] if 0 <= slash < len(tail) - 1 else tail)


def head_lines(*parts: tuple[str, str]) -> list[str]:
    """Return the lines over a table: names in one line where they fit, else a line each.

    Parameters
    ----------
    parts : tuple of (str, str)
        What it is, such as ``model``, and its name or path.
    """
    line = "   ".join(plain(text) for _, text in parts)
    if len(line) <= line_width():
        return [line]
    room = max(len(kind) for kind, _ in parts) + 2
    return [f"{kind:{room}}{path_end(text, line_width() - room)}" for kind, text in parts]


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
            # The letters that told it apart so far, a few shared ones, the first difference.
            start = max(0, shared - width // 8)
            for text in alike:
                head = lead[text] + "…" * (start > 0)
                long = head + text[start:]
                short[text] = long if len(long) <= width else long[: width - 1] + "…"
                lead[text] = head + text[start : shared + 1]
            pending.append(alike)
    return short


def marked(notes: dict[str, int], texts: Iterable[str]) -> str:
    """Number texts among the notes under a table, and return their marks, such as ``[1,3]``.

    Parameters
    ----------
    notes : dict of str to int
        The notes so far with their numbers; new ones are added.
    texts : iterable of str
        The notes on one row.

    Returns
    -------
    str
        Empty where there is nothing to note.
    """
    numbers = [notes.setdefault(text, len(notes) + 1) for text in texts]
    return f"[{','.join(map(str, numbers))}]" if numbers else ""


def noted(notes: Mapping[str, int]) -> list[str]:
    """Return the lines of the notes under a table."""
    return [line for text, i in notes.items() for line in wrapped(f"[{i}] {text}")]


def wrapped(text: str) -> list[str]:
    """Break a note into lines that fit."""
    return textwrap.wrap(one_line(text, _NOTE), line_width(), subsequent_indent="    ")
