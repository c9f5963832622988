"""What is done with a result once it is there: kept, told, shown and held against limits."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_geed.addresses import address_of
from onnx_geed.cli.terminal import OutputError, fail, show, tell
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.model import Model
    from onnx_geed.results import Result

__all__ = ["finish", "next_step", "show_results", "tell_written", "write"]


def finish(
    result: Result,
    form: str,
    model: Model | None,
    *,
    out: str | Path | None,
    limits: Sequence[str],
    junit: str | Path | None,
    note: Callable[[str], None] | None = tell,
) -> int:
    """Keep a result, tell its notes, show it and hold it against limits; return the status.

    Without ``note``, notes are left to the result.
    """
    from onnx_geed.results import over_limits

    # What a run has cost is kept before anything is made of it.
    status = write(result, out) if out else 0
    if note:
        for text in result["notes"]:
            note(f"note: {text}")
    excesses = over_limits(result, limits)
    if junit:
        status = _write_junit(result, limits, junit) or status
    status = _show_result(result, form, model, kept=bool(out or limits)) or status
    for excess in excesses:
        tell(f"over the limit: {excess}")
    return 1 if excesses else status


def next_step(data: str | None, files: Sequence[str | Path | None], *, part: bool = False) -> str:
    """Say which command comes next after a run, with the names that were given."""
    if part:
        return "next: onnx-geed merge PART... -o result.json, when all parts are written"
    kept = [shlex.quote(str(path)) for path in files if path]
    page = f"onnx-geed report {' '.join(kept) or 'result.json'} -o report.html"
    page += f" --data {shlex.quote(data)}" if data else ""
    return f"next: {page}" if kept else f"next: keep the result with -o result.json, then {page}"


def tell_written(page: str | Path, *others: str | Path | None) -> None:
    """Say where a page was written, with whatever else there is, and that it is to be opened."""
    for path in filter(None, others):
        tell(f"written: {path}")
    tell(f"written: {page}" if address_of(page) else f"next: open {page} in a browser")


def write(result: Result, out: str | Path) -> int:
    """Write a result, or else to the folder for temporary files; return the status."""
    import secrets
    import tempfile

    from onnx_geed.files import write_json

    try:
        write_json(result, out)
    except GeedError as error:
        spare = Path(tempfile.gettempdir(), f"onnx-geed-{secrets.token_hex(4)}.json")
        try:
            write_json(result, spare)
        except (GeedError, OSError):
            return fail(str(error))
        return fail(f"{error}; the result was saved to {spare}")
    return 0


def _write_junit(result: Result, limits: Sequence[str], path: str | Path) -> int:
    from onnx_geed.results import write_junit

    try:
        write_junit(result, limits, path)
    except GeedError as error:
        return fail(str(error))
    return 0


def _show_result(result: Result, form: str, model: Model | None, *, kept: bool) -> int:
    from onnx_geed.report import table
    from onnx_geed.results import diagnosis_line, model_of, to_csv
    from onnx_geed.text import to_json, wrapped

    try:
        if form == "json":
            show(to_json(result), nl=False, kept=kept)
        elif form == "csv":
            show(to_csv(result), nl=False, kept=kept)
        else:
            show(table(result), kept=kept)
            if line := diagnosis_line(result, model or model_of(result)):
                show("\n".join(wrapped(line)), kept=kept)
    except OutputError as error:
        return fail(str(error))
    return 0


def show_results(results: Sequence[Result], form: str, model: Model, *, kept: bool) -> int:
    """Show results of several groups: a JSON list, one CSV, or tables one after the other."""
    from onnx_geed.results import to_csv
    from onnx_geed.text import to_json

    try:
        if form == "json":
            show(f"[{','.join(map(to_json, results))}]", kept=kept)
        elif form == "csv":
            show(to_csv(*results), nl=False, kept=kept)
        else:
            status = 0
            for i, result in enumerate(results):
                if i:
                    show("", kept=kept)
                status = _show_result(result, form, model, kept=kept) or status
            return status
    except OutputError as error:
        return fail(str(error))
    return 0
