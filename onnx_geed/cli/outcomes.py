"""What is done with a result once it is there: kept, told, shown and held against limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_geed.cli.terminal import OutputError, fail, show, tell
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.model import Model
    from onnx_geed.results import Result

__all__ = ["finish", "show_results", "write"]


def finish(
    result: Result,
    form: str,
    model: Model | None,
    *,
    out: str | Path | None,
    limits: Sequence[str],
    junit: str | Path | None,
) -> int:
    """Keep a result, tell its notes, show it and hold it against limits; return the status."""
    from onnx_geed.results import over_limits

    # What a run has cost is kept before anything is made of it.
    status = write(result, out) if out else 0
    for note in result["notes"]:
        tell(f"note: {note}")
    excesses = over_limits(result, limits)
    if junit:
        status = _write_junit(result, limits, junit) or status
    status = _show_result(result, form, model, kept=bool(out or limits)) or status
    for excess in excesses:
        tell(f"over the limit: {excess}")
    return 1 if excesses else status


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
        return fail(f"{error}; the result is kept in {spare}")
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
