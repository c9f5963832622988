"""Commands on results: merge, aggregate, compare, report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from onnx_geed.cli.guarded import Guarded
from onnx_geed.cli.options import (
    data_option,
    format_option,
    limit_options,
    out_option,
    results_argument,
)
from onnx_geed.cli.outcomes import finish
from onnx_geed.cli.places import PLACE, Output
from onnx_geed.cli.terminal import command_line, show_as

__all__ = ["aggregate", "compare", "merge", "report"]


@click.command(cls=Guarded)
@click.argument("parts", nargs=-1, required=True, type=PLACE, metavar="PART...")
@out_option("RESULT.json", "Result file.", required=True)
@format_option("table", "json", "csv", explained=True)
@limit_options
def merge(
    parts: tuple[str | Path, ...],
    out: str | Path,
    form: str,
    fail_above: tuple[str, ...],
    junit: str | Path | None,
) -> None:
    """Join the parts of a run, which onnx-geed measure --shard wrote, into the whole result.

    The result is identical to that of onnx-geed measure without --shard. All parts are needed, in
    any order; neither model nor data are read.

    \b
    Example:
      onnx-geed merge part-*.json -o result.json
    """
    from onnx_geed.results import parse_limits
    from onnx_geed.run import merge as join_parts

    parse_limits(fail_above)
    if junit and not fail_above:
        raise click.UsageError(
            "--junit: reports limits, and there are none; add --fail-above MEASURE=LIMIT."
        )
    result = join_parts(parts, command=command_line(), limits=fail_above)
    sys.exit(finish(result, form, None, out=out, limits=fail_above, junit=junit))


@click.command(cls=Guarded)
@results_argument
@out_option("FILE.json", "Result file.")
@format_option("table", "json")
def aggregate(results: tuple[str | Path, ...], out: str | Path | None, form: str) -> None:
    """Show mean and interval over models, such as the ten seeds of the paper.

    \b
    Example:
      onnx-geed aggregate seed*.json
    """
    from onnx_geed.report import aggregate_table
    from onnx_geed.results import aggregate as over_models, read_result

    _write_and_show(
        over_models([read_result(path) for path in results]), out, form, aggregate_table
    )


@click.command(cls=Guarded)
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE)
@out_option("FILE.json", "Result file.")
@format_option("table", "json")
@click.option("--force", is_flag=True, help="Compare results even if they are not comparable.")
def compare(a: str | Path, b: str | Path, out: str | Path | None, form: str, force: bool) -> None:
    """Compare two results sample by sample, with an interval and a verdict for each measure.

    \b
    Example:
      onnx-geed compare trained.json untrained.json
    """
    from onnx_geed.report import compare_table
    from onnx_geed.results import compare as in_pairs, read_result

    comparison = in_pairs(read_result(a), read_result(b), force=force)
    _write_and_show(comparison, out, form, compare_table)


def _write_and_show(
    content: Mapping[str, Any], out: str | Path | None, form: str, table: Callable[[Any], str]
) -> None:
    from onnx_geed.files import write_json

    if out:
        write_json(content, out)
    show_as(form, content, table, kept=bool(out))


@click.command(cls=Guarded)
@results_argument
@out_option("FILE.html", "The page.", required=True)
@data_option("The data that was measured, for thumbnails.")
@click.option(
    "--pictures",
    type=Output(folder=True),
    metavar="FOLDER",
    help="Also keep the pictures, as SVG files.",
)
def report(
    results: tuple[str | Path, ...], out: str | Path, data: str | None, pictures: str | Path | None
) -> None:
    """Draw results as one self-contained HTML page.

    Needs matplotlib and jinja2: pip install 'onnx-geed[report]'.

    \b
    Examples:
      onnx-geed report result.json -o report.html --data images/
      onnx-geed report trained.json untrained.json -o report.html
    """
    from onnx_geed.report import write_report
    from onnx_geed.results import read_result

    contents = [read_result(path) for path in results]
    write_report(contents, out, data=data, pictures=pictures, command=command_line())
