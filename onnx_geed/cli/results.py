"""Commands on results: merge, aggregate, compare, report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_geed.cli.guarded import Guarded
from onnx_geed.cli.options import (
    data_option,
    format_option,
    limit_options,
    out_option,
    pairs,
    quiet_option,
    results_argument,
)
from onnx_geed.cli.outcomes import finish, next_step, tell_written
from onnx_geed.cli.places import PLACE, Output, Page
from onnx_geed.cli.terminal import command_line, hushed, show_as, tell
from onnx_geed.cli.typed_options import typed_options
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.results import Exploration, Result

__all__ = ["aggregate", "compare", "merge", "report"]


@click.command(cls=Guarded)
@click.argument("parts", nargs=-1, required=True, type=PLACE, metavar="PART...")
@out_option("RESULT.json", "Result file.", required=True)
@format_option("table", "json", "csv", explained=True)
@limit_options
@quiet_option
def merge(
    parts: tuple[str | Path, ...],
    out: str | Path,
    form: str,
    fail_above: tuple[str, ...],
    junit: str | Path | None,
    quiet: bool,
) -> None:
    """Join the parts of a run, which onnx-geed measure --shard wrote, into the whole result.

    The result is identical to that of onnx-geed measure without --shard. All parts are needed, in
    any order; the model and the data are not needed.

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
    note = None if quiet else tell
    status = finish(result, form, None, out=out, limits=fail_above, junit=junit, note=note)
    if form == "table" and status != 2 and not quiet:
        tell(next_step(None, [out]))
    sys.exit(status)


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
@click.option("-o", "--out", required=True, type=Page(), metavar="FILE.html", help="The page.")
@data_option("The data that was measured, for thumbnails.")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=PLACE,
    metavar="MODEL.onnx",
    help="The model that was measured, to run some samples again and show their maps. Repeatable.",
)
@click.option(
    "--output-action",
    metavar="LAYER=FILE",
    multiple=True,
    callback=pairs,
    help="With --model: the table by which a layer's channels moved, as measure was given it. "
    "Repeatable.",
)
@click.option(
    "--samples-shown",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="With --model: how many samples the page shows, from the most to the least affected.",
)
@click.option(
    "--pictures",
    type=Output(folder=True),
    metavar="FOLDER",
    help="Also keep the pictures, as SVG files.",
)
@quiet_option
@click.pass_context
def report(
    context: click.Context,
    /,
    results: tuple[str | Path, ...],
    out: str | Path,
    data: str | None,
    models: tuple[str | Path, ...],
    samples_shown: int,
    output_action: dict[str, str],
    pictures: str | Path | None,
    quiet: bool,
) -> None:
    """Draw results, or a suite that was run, as one self-contained HTML page.

    RESULTS are files that onnx-geed measure wrote, or the folder of onnx-geed benchmark alone.
    Needs matplotlib and jinja2: pip install 'onnx-geed[report]'.

    \b
    Examples:
      onnx-geed report result.json -o report.html --data images/
      onnx-geed report trained.json untrained.json -o report.html
      onnx-geed report result.json -o report.html --data images/ --model model.onnx
      onnx-geed report results/ -o leaderboard.html
    """
    from onnx_geed.report import write_report, write_suite_report
    from onnx_geed.results import is_suite, read_result, read_summary

    if models and data is None:
        raise click.UsageError("--model: needs the samples; give them with --data.")
    if not models and "samples_shown" in typed_options(context):
        raise click.UsageError("--samples-shown: has no effect without --model MODEL.onnx.")
    if not models and output_action:
        raise click.UsageError("--output-action: has no effect without --model MODEL.onnx.")
    if suite := next((place for place in results if is_suite(place)), None):
        if len(results) > 1:
            raise click.UsageError(
                f"{suite}: a suite's folder has its own page; give only this folder, or results "
                "of its cells/."
            )
        if data is not None:
            raise click.UsageError(
                "--data: a suite's page shows no samples; leave it out, or give results of its "
                "cells/."
            )
        write_suite_report(read_summary(suite), out, pictures=pictures)
        if not quiet:
            tell_written(out, pictures)
        return
    contents = [read_result(path) for path in results]
    shown: list[Exploration | None] = []
    with hushed(quiet):
        if models:
            shown = _explored(contents, models, data, samples_shown, output_action)
        write_report(
            contents,
            out,
            data=data,
            pictures=pictures,
            explorations=shown,
            command=command_line(),
        )
    if not quiet:
        tell_written(out, pictures)


def _explored(
    results: Sequence[Result],
    models: Sequence[str | Path],
    data: Any,
    count: int,
    tables: Mapping[str, str],
) -> list[Exploration | None]:
    """Run samples of each result again whose model is among those that were given."""
    from onnx_geed.model import load_model
    from onnx_geed.report import samples_to_show
    from onnx_geed.run import explore

    loaded = [load_model(model) for model in models]
    measured = {result["model"]["sha256"] for result in results}
    for model in loaded:
        if model.sha256 not in measured:
            paths = ", ".join(dict.fromkeys(r["model"]["path"] for r in results))
            cure = "give the model that was measured"
            if not any(measured):
                cure = "functions cannot be run again; leave --model out"
            raise GeedError(
                f"--model {model.called}: none of the results is of this model; they are of "
                f"{paths}; {cure}"
            )
    by_sha = {model.sha256: model for model in loaded}
    layers = [{record["layer"] for record in result["measurements"]} for result in results]
    run = [result["model"]["sha256"] in by_sha for result in results]

    def is_for(key: str, number: int) -> bool:
        return any(fnmatchcase(name, key) for name in layers[number])

    for key in tables:
        of = [number for number in range(len(results)) if is_for(key, number)]
        if of and not any(run[number] for number in of):
            raise GeedError(
                f"--output-action {key}: has no effect, since the model that has this layer is not "
                f"given; add --model {results[of[0]]['model']['path']}, or leave it out"
            )

    def own_tables(number: int) -> dict[str, str]:
        """Leave out what is for the layers of another result."""
        others = [i for i in range(len(results)) if i != number]
        return {
            key: file
            for key, file in tables.items()
            if is_for(key, number) or not any(is_for(key, other) for other in others)
        }

    return [
        explore(result, own, data, samples_to_show(result, count), output_action=own_tables(i))
        if (own := by_sha.get(result["model"]["sha256"]))
        else None
        for i, result in enumerate(results)
    ]
