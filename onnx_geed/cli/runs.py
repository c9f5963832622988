"""Commands that run models on data: measure, benchmark, demo."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from onnx_geed.addresses import address_of, joined, leaf
from onnx_geed.cli.guarded import Guarded, files_read
from onnx_geed.cli.model_options import input_options
from onnx_geed.cli.options import (
    action_options,
    cache_options,
    data_option,
    engine_option,
    executor_options,
    fit_options,
    format_option,
    group_option,
    isolate_options,
    limit_options,
    measures_option,
    model_argument,
    out_option,
    quiet_option,
    run_options,
)
from onnx_geed.cli.outcomes import finish, next_step, show_results, tell_written, write
from onnx_geed.cli.pages import check_drawable, page_option, write_page
from onnx_geed.cli.places import PLACE, Output, is_cache, of_each_group
from onnx_geed.cli.progress import progress_bar
from onnx_geed.cli.terminal import command_line, fail, hushed, show, tell
from onnx_geed.cli.typed_options import refuse_executor, refuse_settled, typed_options
from onnx_geed.errors import GeedError, of_group

if TYPE_CHECKING:
    from onnx_geed.model import Model
    from onnx_geed.results import Result

__all__ = ["benchmark", "demo", "measure"]


@click.command(cls=Guarded)
@model_argument
@data_option("Samples: see above.")
@group_option(several=True)
@measures_option
@out_option("RESULT.json", "Result file.")
@page_option("the result")
@run_options
@engine_option
@executor_options
@click.option(
    "--cache",
    type=Output(folder=True),
    metavar="ACTS.geed",
    help="Also write the activations to a cache.",
)
@cache_options
@click.option(
    "--interval",
    type=click.Choice(["t", "bootstrap"]),
    default="t",
    show_default=True,
    help="Interval over samples: Student t, or BCa bootstrap for skewed measures.",
)
@click.option(
    "--precision",
    type=float,
    metavar="P",
    help="Add samples until each interval is at most ±P of the value's distance from perfect, such "
    "as 0.1; --samples is the upper bound.",
)
@click.option(
    "--references",
    is_flag=True,
    help="Also measure the effect of resampling and rounding alone, for comparison.",
)
@click.option(
    "--untrained",
    is_flag=True,
    help="Also measure the same network with random weights, for comparison.",
)
@click.option(
    "--background",
    metavar="CLASS",
    help="Background class of dense scores (number or name): places of other classes are also "
    "measured separately.",
)
@format_option("table", "json", "csv", explained=True)
@quiet_option
@limit_options
@click.option(
    "--shard",
    metavar="I/N",
    help="Measure only part I of N of the samples (I from 1); onnx-geed merge joins all parts.",
)
@input_options
@action_options
@fit_options
@isolate_options
@click.pass_context
def measure(
    context: click.Context,
    /,
    model: str | Path,
    groups: tuple[str, ...],
    out: str | Path | None,
    page: str | Path | None,
    form: str,
    quiet: bool,
    fail_above: tuple[str, ...],
    junit: str | Path | None,
    **options: Any,
) -> None:
    """Measure a model's G-EED on some data, or from a cache.

    DATA is a folder of images, recordings, volumes, points or .npy (classes as sub-folders, or
    flat), .npy, .npz, file.h5:/dataset, .fasta, an idx file (MNIST's format), or module:function.
    For a model with several inputs: .npz or HDF5 with one array per input, named as the inputs.
    MODEL is an ONNX file, or an activation cache written by onnx-geed cache, which needs neither
    --data nor --group.

    \b
    Examples:
      onnx-geed measure model.onnx --data images/ --group C8 --preprocess imagenet
      onnx-geed measure model.onnx --data digits.npz --group D4 --measure channel-cos@/layer1/*
      onnx-geed measure model.onnx --data x.npy --group flip-h --fail-above softmax-kl=0.05
      onnx-geed measure model.onnx --data images/ --group C8 --report page.html
      onnx-geed measure model.onnx --data images/ --group C8 --precision 0.1
      onnx-geed measure points.onnx --data clouds/ --group SO3~24 --input-layout NPX
      onnx-geed measure gcn.onnx --data x_adj.npz --group S9~20 \\
        --input-layout x=NPC --input-layout adj=NPP
      onnx-geed measure model.onnx --data images/ --group C4 \\
        --output-action "/layer1/*=fit:orthogonal"
      onnx-geed measure model.onnx --data images/ --group C8 --group jpeg:90..10/6 \\
        --out results.json
      onnx-geed measure model.onnx --data images/ --group C8 --shard 2/5 --out part-2.json
      onnx-geed measure acts.geed --measure latent-l2
    """
    from onnx_geed.results import parse_limits

    parse_limits(fail_above)
    if options["shard"] and not out and form != "json":
        raise click.UsageError(
            "--shard: a part must be saved for onnx-geed merge; name its file with --out."
        )
    if options["shard"] and page:
        raise click.UsageError(
            "--report: needs the whole result; give that of onnx-geed merge to onnx-geed report."
        )
    if not any(value.lower().startswith("fit") for value in options["output_action"].values()):
        from onnx_geed.run import FIT_OPTIONS, refuse_idle_fit_options

        typed = typed_options(context)
        refuse_idle_fit_options([name for name in FIT_OPTIONS if name in typed])
    if page:
        check_drawable()
    if len(groups) > 1:
        if junit:
            raise click.UsageError("--junit: works with one --group, but several were given.")
        with _shared(fail_above, quiet) as shared:
            status = _measure_several(context, model, groups, out, page, form, shared, options)
        sys.exit(status)
    options["group"] = groups[0] if groups else None
    if junit and options["shard"]:
        raise click.UsageError("--junit: needs the whole result; give it to onnx-geed merge.")
    if junit and not fail_above:
        raise click.UsageError(
            "--junit: reports limits, and there are none; add --fail-above MEASURE=LIMIT."
        )
    with _shared(fail_above, quiet) as shared:
        if is_cache(model):
            result, loaded = _measure_cache(context, model, shared, options), None
        else:
            result, loaded = _measure_model(model, shared, options)
    note = None if quiet else tell
    status = finish(result, form, loaded, out=out, limits=fail_above, junit=junit, note=note)
    if page:
        status = write_page([result], page, loaded, options, note=note) or status
    elif form == "table" and note is not None and status != 2:
        note(next_step(options["data"], [out], part=bool(options["shard"])))
    sys.exit(status)


@contextmanager
def _shared(limits: Sequence[str], quiet: bool) -> Iterator[dict[str, Any]]:
    """Give what every way of measuring is told besides the user's options."""
    with hushed(quiet), progress_bar("measuring", quiet=quiet) as progress:
        yield {
            "progress": progress,
            "notify": None if quiet else tell,
            "command": command_line(),
            "limits": limits,
        }


def _measure_model(
    model: str | Path, shared: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Result, Model]:
    """Measure a model, and keep its activations where a cache is named."""
    for name in ("data", "group"):
        if options[name] is None:
            raise click.UsageError(f"Missing option '--{name}'.")
    rest = dict(options)
    data, group, cache = (rest.pop(name) for name in ("data", "group", "cache"))
    plain = (rest["mode"], rest["dtype"]) == ("raw", "float32")
    if cache is None and not plain:
        raise click.UsageError("--cache-mode and --cache-dtype need --cache ACTS.geed.")
    from onnx_geed.model import load_model

    loaded = load_model(model)
    if cache is not None:
        from onnx_geed.cache import measure_through_cache

        if rest.pop("shard"):
            raise click.UsageError(
                "--shard: cannot be combined with --cache, which holds a whole run; leave --cache "
                "out."
            )

        through = measure_through_cache(loaded, data, group, cache, **shared, **rest)
        return through, loaded
    del rest["mode"], rest["dtype"]
    from onnx_geed.run import measure as measure_model

    return measure_model(loaded, data, group, **shared, **rest), loaded


def _measure_cache(
    context: click.Context,
    cache: str | Path,
    shared: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Result:
    """Measure from a cache, for which only some options are still open."""
    from onnx_geed.cache import STILL_OPEN, measure_cache

    typed = {name: v for name, v in typed_options(context).items() if name in options}
    if options["group"] is not None:
        typed["group"] = options["group"]
    if "shard" in typed:
        raise click.UsageError(
            f"--shard: {leaf(cache)} is a cache, which is measured as a whole; leave it out"
        )
    if "engine" in typed:
        raise click.UsageError(
            f"--engine: {leaf(cache)} is a cache, which is measured without its model, so there is "
            "no engine to choose; leave it out"
        )
    refuse_executor(typed, cache)
    refuse_settled(context, typed, STILL_OPEN, cache)
    return measure_cache(cache, **shared, **typed)


def _measure_several(
    context: click.Context,
    model: str | Path,
    groups: Sequence[str],
    out: str | Path | None,
    page: str | Path | None,
    form: str,
    shared: Mapping[str, Any],
    options: dict[str, Any],
) -> int:
    """Measure a model under several groups; return the status."""
    from onnx_geed.files import check_writable
    from onnx_geed.model import load_model
    from onnx_geed.results import over_limits
    from onnx_geed.run import measure_each

    plain = (options.pop("mode"), options.pop("dtype")) == ("raw", "float32")
    if options.pop("cache") is not None or not plain:
        raise click.UsageError("--cache: holds the activations of one group; give one --group.")
    if is_cache(model):
        raise click.UsageError(
            f"--group: is fixed by the cache {leaf(model)}; leave it out, or measure the model"
        )
    data = options.pop("data")
    if data is None:
        raise click.UsageError("Missing option '--data'.")
    files = _files_beside(out, groups) if out else [None] * len(groups)
    for path in files:
        if path:
            check_writable(path, inputs=[*files_read(context)])
    results: list[Result] = []
    status, failure = 0, None
    loaded, limits, say = load_model(model), shared["limits"], shared["notify"]
    each = measure_each(loaded, data, groups, **shared, **options)
    try:
        for result, path in zip(each, files, strict=True):
            # What a run has cost is kept before the next begins.
            status = (write(result, path) if path else 0) or status
            results.append(result)
    except GeedError as error:
        if not results:
            raise
        failure = of_group(groups[len(results)], error)
    for note in dict.fromkeys(note for result in results for note in result["notes"]):
        if say:
            say(f"note: {note}")
    status = show_results(results, form, loaded, kept=bool(out or limits)) or status
    excesses = [(r["group"]["name"], text) for r in results for text in over_limits(r, limits)]
    for name, excess in excesses:
        tell(f"over the limit: {name}: {excess}")
    if page:
        status = write_page(results, page, loaded, {**options, "data": data}, note=say) or status
    if failure:
        return fail(failure)
    if form == "table" and say and status != 2 and not page:
        say(next_step(data, files, part=bool(options["shard"])))
    return 1 if excesses else status


def _files_beside(out: str | Path, groups: Sequence[str]) -> list[str | Path]:
    """Return the file of each group's result, beside each other."""
    if not address_of(out) and Path(out).exists() and not Path(out).is_file():
        raise GeedError(
            f"--out {out}: is a folder; name a file; the {len(groups)} results are written "
            "beside it"
        )
    files = of_each_group(out, groups)
    # As file systems see it that do not tell capitals apart.
    names = [leaf(path).lower() for path in files]
    for i, name in enumerate(names):
        if name in names[:i]:
            both = f"{groups[names.index(name)]} and {groups[i]}"
            raise GeedError(
                f"--group: {both} would both be written to {files[i]}; measure one at a time"
            )
    return files


@click.command(cls=Guarded)
@click.argument("suite", type=PLACE, metavar="SUITE.toml")
@out_option("FOLDER", "Folder for results, summary, page and pictures.", required=True, folder=True)
@executor_options
@format_option("table", "json", "csv", explained=True)
@quiet_option
@isolate_options
def benchmark(
    suite: str | Path,
    out: str | Path,
    form: str,
    quiet: bool,
    executor: Literal["local", "ray"],
    address: str | None,
) -> None:
    """Measure all models that a TOML file lists, such as the checkpoints of a training run.

    Writes a result file for each model, data set and group, and mean and interval over seeds as
    summary.json and summary.csv. With onnx-geed[report] installed, it also writes report.html (a
    page to sort, filter and compare all results), pictures, and for families families.html (up
    to 30 results). Run again, the command keeps results that are still up to date. If one run
    fails, the others continue, and the command ends with status 2.

    \b
    Example of a suite; {seed} and {step} stand for numbers, {any} for any word:
      groups = ["C8"]
      measures = ["channel-cos@block*", "latent-l2", "softmax-kl"]
      [options]
      samples = 50
      [[models]]
      name = "CNN"
      path = "runs/cnn{seed}/step{step}.onnx"
      [[data]]
      name = "digits"
      path = "digits.npz"

    \b
    Example:
      onnx-geed benchmark suite.toml -o results/
      onnx-geed benchmark suite.toml -o results/ --executor ray --address 10.0.0.1:6379
    """
    from onnx_geed.confinement import is_repeated
    from onnx_geed.report import suite_csv, suite_table, write_summary
    from onnx_geed.run import benchmark as run_suite, read_suite
    from onnx_geed.text import to_json

    def tell_once(line: str) -> None:
        if not quiet and not is_repeated():
            tell(line)

    loaded = read_suite(suite)
    with hushed(quiet), progress_bar("benchmark", quiet=quiet) as progress:
        shared: dict[str, Any] = {"executor": executor, "address": address}
        summary = run_suite(loaded, out, notify=tell_once, progress=progress, **shared)
    failed = {failure["cell"] for failure in summary["failed"]}
    done = [cell for cell in loaded.cells if str(cell) not in failed]
    cells = [joined(out, "cells", f"{cell.name}.json") for cell in done]
    left_out = write_summary(summary, out, cells, [cell.called for cell in done])
    for note in left_out:
        if not quiet:
            tell(f"note: {note}")
    if form == "json":
        show(to_json(summary), nl=False, kept=True)
    else:
        text = suite_csv(summary) if form == "csv" else suite_table(summary)
        show(text, nl=form == "table", kept=True)
    if not quiet:
        tell(f"written: {joined(out, 'summary.json')}")
        if not any("report.html" in note for note in left_out):
            tell_written(joined(out, "report.html"))
    if failures := summary["failed"]:
        raise GeedError(
            f"{len(failures)} of the suite's runs failed; the first: {failures[0]['cell']}: "
            f"{failures[0]['message']}"
        )


@click.command(cls=Guarded)
@page_option("both results")
@quiet_option
def demo(page: str | Path | None, quiet: bool) -> None:
    """Measure the embedded model under C8, next to the same network untrained.

    \b
    Examples:
      onnx-geed demo
      onnx-geed demo --report page.html
    """
    from onnx_geed.demo import demo_results, demo_text, write_demo_page

    if page:
        check_drawable()
    with hushed(quiet), progress_bar("demo", quiet=quiet) as progress:
        results = demo_results(progress)
        if page:
            write_demo_page(results, page, command_line())
    show(demo_text(*results), kept=bool(page))
    if quiet:
        return
    if page:
        tell_written(page)
    else:
        tell("next: onnx-geed demo --report page.html")
    tell("next: onnx-geed measure MODEL.onnx --data IMAGES/ --group C8")
