"""The command line: a command parses, makes one call, prints."""

from __future__ import annotations

import importlib.util
import json
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_geed.cli.options import (
    action_options,
    cache_options,
    engine_option,
    input_options,
    measures_option,
    named_options,
    output_action_option,
    run_options,
)
from onnx_geed.cli.terminal import OneLine, OutputError, fail, progress_bar, show, tell
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.results import Result

__all__ = ["cli"]


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-geed", message="%(version)s")
def cli() -> None:
    """Measure how invariant or equivariant a neural network is, from its ONNX file and some data.

    The measure is G-empirical equivariance deviation (G-EED; Kvinge et al. 2022). Larger values
    mean less equivariant.

    \b
    Example:
      onnx-geed demo
      onnx-geed measure model.onnx --data images/ --group C8
    """


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@input_options
def layers(model: Path, form: str, **given: Any) -> None:
    """List a model's tensors with shape, size and role.

    \b
    Example:
      onnx-geed layers resnet50.onnx
    """
    from onnx_geed.model import list_layers
    from onnx_geed.report import layer_table

    listed = list_layers(
        model,
        **{k: given[k] for k in ("input", "output", "latent", "layout")},
        layout_of_input=given["input_layout"],
        kind=given["output_kind"],
    )
    show(json.dumps(listed, indent=1) if form == "json" else layer_table(listed))


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="Samples: see below.")
@click.option("--group", metavar="GROUP", help="C<n>, D<n>, flip-h, flip-v or shift<a>x<b>.")
@measures_option
@click.option("--out", type=click.Path(path_type=Path), metavar="RESULT.json", help="Result file.")
@run_options
@engine_option
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="ACTS.geed", help="Also keep activations."
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
    help="Add samples until half of each interval is at most P of the value's distance from "
    "perfect; --samples bounds them.",
)
@click.option(
    "--references",
    is_flag=True,
    help="Also run what resampling alone does, as a scale to read values by.",
)
@click.option(
    "--untrained",
    is_flag=True,
    help="Also measure the same network with its weights drawn anew, as a scale too.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="What stdout carries.",
)
@click.option(
    "--fail-above",
    multiple=True,
    metavar="MEASURE[@LAYER]=LIMIT",
    help="Exit with status 1 if a value exceeds the limit; repeatable.",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE.xml",
    help="Write the outcome of --fail-above as JUnit XML.",
)
@input_options
@action_options
@click.pass_context
def measure(
    context: click.Context,
    /,
    model: Path,
    out: Path | None,
    form: str,
    fail_above: tuple[str, ...],
    junit: Path | None,
    **options: Any,
) -> None:
    """Measure a model's G-EED on some data, or from a cache.

    DATA is an image folder (classes as sub-folders, or flat), .npy, .npz, file.h5:/dataset, an idx
    file (MNIST's format), or module:function. MODEL is an ONNX file, or an activation cache that
    onnx-geed cache wrote, which needs neither --data nor --group.

    \b
    Examples:
      onnx-geed measure model.onnx --data images/ --group C8 --preprocess imagenet
      onnx-geed measure model.onnx --data digits.npz --group D4 --measure channel-cos@/layer1/*
      onnx-geed measure model.onnx --data x.npy --group flip-h --fail-above softmax-kl=0.05
      onnx-geed measure model.onnx --data images/ --group C8 --precision 0.1
      onnx-geed measure acts.geed --measure latent-l2
    """
    from onnx_geed.cache import is_cache
    from onnx_geed.files import check_writable, write_json
    from onnx_geed.results import over_limits, parse_limits

    parse_limits(fail_above)
    if junit and not fail_above:
        raise click.UsageError("--junit: has nothing to tell without --fail-above MEASURE=LIMIT.")
    if out:
        check_writable(out, inputs=[model, options["data"]])
    if junit:
        check_writable(junit, option="--junit", inputs=[model, options["data"], out])
    offline = is_cache(model)
    if not offline:
        for name in ("data", "group"):
            if options[name] is None:
                raise click.UsageError(f"Missing option '--{name}'.")
    with progress_bar() as progress:
        if offline:
            made = _measure_cache(context, model, progress, fail_above, options)
        else:
            made = _measure_model(model, progress, fail_above, options)
    # What a run has cost is kept before anything is made of it.
    lost = 0
    if out:
        try:
            write_json(made, out)
        except GeedError as error:
            lost = fail(f"{error}{_rescued(made)}")
    _notes(made)
    violations = over_limits(made, fail_above)
    try:
        if junit:
            from onnx_geed.results import write_junit

            write_junit(made, fail_above, junit)
    except GeedError as error:
        lost = fail(str(error))
    try:
        _print(made, form, kept=bool(out or fail_above))
    except OutputError as error:
        lost = fail(str(error))
    sys.exit(_gate(violations) or lost)


def _rescued(made: Result) -> str:
    """Keep a result that has no other place in the folder for temporary files; say where."""
    import tempfile

    from onnx_geed.files import write_json

    path = Path(tempfile.gettempdir(), f"onnx-geed-{secrets.token_hex(4)}.json")
    try:
        write_json(made, path)
    except (GeedError, OSError):
        return ""
    return f"; the result is kept in {path}"


def _measure_model(
    model: Path, progress: Any, limits: Sequence[str], options: dict[str, Any]
) -> Result:
    from onnx_geed.run import measure as measure_model

    data, group, cache = options.pop("data"), options.pop("group"), options.pop("cache")
    mode, dtype = options.pop("mode"), options.pop("dtype")
    if cache is None:
        if mode != "raw" or dtype != "float32":
            raise click.UsageError("--cache-mode and --cache-dtype go with --cache ACTS.geed.")
        return measure_model(
            model,
            data,
            group,
            progress=progress,
            command=_command(),
            limits=limits,
            **options,
        )
    from onnx_geed.cache import measure_through_cache

    return measure_through_cache(
        model,
        data,
        group,
        cache,
        mode=mode,
        dtype=dtype,
        progress=progress,
        notify=_say,
        command=_command(),
        limits=limits,
        **options,
    )


def _measure_cache(
    context: click.Context,
    cache: Path,
    progress: Any,
    limits: Sequence[str],
    options: dict[str, Any],
) -> Result:
    from onnx_geed.cache import measure_cache

    usable = (
        *("measures", "samples", "norm_samples", "interval", "precision"),
        *("out", "form", "fail_above"),
    )
    given = [
        name
        for name in options
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if "engine" in given:
        raise click.UsageError(
            f"--engine: {cache.name} is a cache, which is measured without its model, so there is "
            "no engine to choose; leave it out"
        )
    if fixed := [name for name in given if name not in usable]:
        raise click.UsageError(
            f"--{fixed[0].replace('_', '-')}: was settled when the cache {cache.name} was written; "
            "leave it out, or measure the model"
        )
    chosen = {k: options[k] for k in ("samples", "norm_samples") if k in given}
    return measure_cache(
        cache,
        measures=options["measures"],
        interval=options["interval"],
        precision=options["precision"],
        limits=limits,
        progress=progress,
        command=_command(),
        **chosen,
    )


@cli.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="Samples, as onnx-geed measure takes them.")
@click.option("--group", metavar="GROUP", help="C<n>, D<n>, flip-h, flip-v or shift<a>x<b>.")
@click.option(
    "--layer", "layers", multiple=True, metavar="LAYER", help="A layer to keep; repeatable."
)
@measures_option
@click.option(
    "-o",
    "--output-cache",
    "folder",
    type=click.Path(path_type=Path),
    metavar="ACTS.geed",
    help="Where to write.",
)
@click.option(
    "--info", type=click.Path(path_type=Path), metavar="ACTS.geed", help="Describe a cache."
)
@click.option(
    "--verify", type=click.Path(path_type=Path), metavar="ACTS.geed", help="Read every checksum."
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@cache_options
@run_options
@input_options
@action_options
def cache(
    model: Path | None,
    data: str | None,
    group: str | None,
    folder: Path | None,
    info: Path | None,
    verify: Path | None,
    form: str,
    **options: Any,
) -> None:
    """Write a model's activations to a cache, to be measured later without the model.

    A run that was broken off goes on where it stopped when the same command is given again.

    \b
    Examples:
      onnx-geed cache model.onnx --data images/ --group C8 -o acts.geed
      onnx-geed cache model.onnx --data images/ --group C8 --cache-mode stats -o acts.geed
      onnx-geed cache --info acts.geed
      onnx-geed cache --verify acts.geed
    """
    from onnx_geed.cache import cache_info, verify_cache, write_cache

    if info or verify:
        if model:
            raise click.UsageError("--info and --verify take a cache, and no model.")
        if verify:
            with progress_bar() as progress:
                wrong = verify_cache(verify, progress=progress)
            for line in wrong:
                tell(f"onnx-geed: {line}")
            if wrong:
                sys.exit(2)
        _print_info(cache_info(info or verify or Path()), form, verified=bool(verify))
        return
    for name, value in (("MODEL", model), ("--data", data), ("--group", group), ("-o", folder)):
        if value is None:
            raise click.UsageError(f"Missing {name}.")
    with progress_bar() as progress:
        made = write_cache(
            model, data, group, folder or Path(), progress=progress, notify=_say, **options
        )
    _print_info(made, form, kept=True)


def _print_info(
    made: dict[str, Any], form: str, *, verified: bool = False, kept: bool = False
) -> None:
    from onnx_geed.report import info_table

    text = json.dumps(made, indent=1) if form == "json" else info_table(made, verified)
    show(text, kept=kept)


def _say(text: str) -> None:
    tell(text)


@cli.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Result file.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def aggregate(results: tuple[Path, ...], out: Path | None, form: str) -> None:
    """Mean and interval over models, such as the paper's ten seeds.

    \b
    Example:
      onnx-geed aggregate seed*.json
    """
    from onnx_geed.files import check_writable, write_json
    from onnx_geed.report import aggregate_table
    from onnx_geed.results import (
        aggregate as aggregate_results,
        read_result,
    )

    if out:
        check_writable(out, inputs=results)
    made = aggregate_results([read_result(path) for path in results])
    if out:
        write_json(made, out)
    text = json.dumps(made, indent=1) if form == "json" else aggregate_table(made)
    show(text, kept=bool(out))


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Result file.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.option("--force", is_flag=True, help="Compare what is not comparable all the same.")
def compare(a: Path, b: Path, out: Path | None, form: str, force: bool) -> None:
    """Compare two results, paired over the same samples.

    \b
    Example:
      onnx-geed compare trained.json untrained.json
    """
    from onnx_geed.files import check_writable, write_json
    from onnx_geed.report import compare_table
    from onnx_geed.results import (
        compare as compare_results,
        read_result,
    )

    if out:
        check_writable(out, inputs=[a, b])
    made = compare_results(read_result(a), read_result(b), force=force)
    if out:
        write_json(made, out)
    text = json.dumps(made, indent=1) if form == "json" else compare_table(made)
    show(text, kept=bool(out))


@cli.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page.",
)
@click.option("--data", metavar="DATA", help="The data that was measured, for thumbnails.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Also keep the pictures, as SVG files.",
)
def report(results: tuple[Path, ...], out: Path, data: str | None, pictures: Path | None) -> None:
    """Draw results as one self-contained HTML page.

    Needs matplotlib and jinja2: pip install 'onnx-geed[report]'.

    \b
    Examples:
      onnx-geed report result.json -o report.html --data images/
      onnx-geed report trained.json untrained.json -o report.html
    """
    from onnx_geed.files import check_writable
    from onnx_geed.report import write_report
    from onnx_geed.results import read_result

    check_writable(out, option="-o", inputs=[*results, data])
    made = [read_result(path) for path in results]
    write_report(made, out, data=data, pictures=pictures, command=_command())


@cli.command()
@click.argument("suite", type=click.Path(path_type=Path), metavar="SUITE.toml")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where results, summary and pictures go.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="What stdout carries.",
)
def benchmark(suite: Path, out: Path, form: str) -> None:
    """Measure many models, such as the checkpoints of trainings, as a TOML file lists them.

    A result file for each model file, data set and group, kept when the command is given again;
    then mean and interval over seeds, as summary.json, summary.csv and pictures (with matplotlib).
    Ends with status 2 if a run failed, after the others are done.

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
    """
    from onnx_geed.files import write_text
    from onnx_geed.report import suite_csv, suite_table
    from onnx_geed.run import benchmark as run
    from onnx_geed.text import to_json

    with progress_bar() as progress:
        made = run(suite, out, notify=_say, progress=progress)
    write_text(out / "summary.csv", suite_csv(made), option="-o")
    if importlib.util.find_spec("matplotlib") is None:
        _say("note: no pictures, for want of matplotlib: pip install 'onnx-geed[report]'")
    else:
        from onnx_geed.report import draw_suite

        draw_suite(made, out)
    if form == "json":
        show(to_json(made), nl=False, kept=True)
    else:
        text = suite_csv(made) if form == "csv" else suite_table(made)
        show(text, nl=form == "table", kept=True)
    if made["failed"]:
        count = len(made["failed"])
        raise GeedError(
            f"{count} of the suite's runs failed, first: {made['failed'][0]['cell']}: "
            f"{made['failed'][0]['message']}"
        )


@cli.command()
def demo() -> None:
    """Measure the embedded model under C8, next to the same network untrained.

    \b
    Example:
      onnx-geed demo
    """
    from onnx_geed.demo import run_demo

    with progress_bar() as progress:
        text = run_demo(progress)
    show(text)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.onnx",
    help="Where the annotated model goes.",
)
@named_options
@output_action_option
@click.option(
    "--classes", metavar="FILE.txt", help="Names of the classes, one a line, in the outputs' order."
)
def annotate(model: Path, out: Path, **given: Any) -> None:
    """Write preprocessing, latent, layouts and action tables into a model's metadata.

    \b
    Example:
      onnx-geed annotate model.onnx --preprocess imagenet --latent /Flatten_output_0 -o known.onnx
    """
    from onnx_geed.files import check_writable
    from onnx_geed.model import annotate_model as write

    check_writable(out, option="-o")
    for key, value in sorted(write(model, out, **given).items()):
        show(f"{key} = {value if len(value) <= 90 else value[:87] + '...'}", kept=True)


@cli.command(name="compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--group",
    required=True,
    metavar="GROUP",
    help="C<n>, D<n>, flip-h, flip-v or shift<a>x<b>.",
)
@measures_option
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MEASURED.onnx",
    help="Where the measurement goes.",
)
@click.option("--data", metavar="DATA", help="Samples to try the model out on, instead of noise.")
@input_options
@action_options
def compile_command(model: Path, group: str, out: Path, **options: Any) -> None:
    """Write a measurement as an ONNX file: samples in, deviations out.

    The file holds the group's action, the model and the measures, and runs in any ONNX runtime. It
    takes samples as the model takes them; its outputs deviation/MEASURE/LAYER are (samples,
    elements), and G-EED is their mean.

    \b
    Example:
      onnx-geed compile model.onnx --group C8 --preprocess imagenet -o measured.onnx
    """
    from onnx_geed.files import check_writable
    from onnx_geed.run import compile_measurement

    check_writable(out, option="-o", inputs=[model, options["data"]])
    made = compile_measurement(model, group, out, **options)
    _notes(made)
    for entry in [{"unit": "input", **made["input"]}, *made["outputs"]]:
        shape = ", ".join(map(str, entry["shape"]))
        show(f"{entry['name']}  ({shape})  {entry['unit']}", kept=True)


@cli.command()
def converters() -> None:
    """Print the folder of the converter scripts.

    \b
    Example:
      python "$(onnx-geed converters)/from_torch.py" --help
    """
    found = importlib.util.find_spec("onnx_geed.converters")
    if found is None or not found.submodule_search_locations:
        raise GeedError("the converter scripts are not installed: reinstall onnx-geed")
    show(next(iter(found.submodule_search_locations)))


def _command() -> str:
    return shlex.join(["onnx-geed", *sys.argv[1:]])


def _notes(made: Mapping[str, Any]) -> None:
    for note in made.get("notes", ()):
        tell(f"note: {note}")


def _print(made: Result, form: str, *, kept: bool) -> None:
    from onnx_geed.report import table
    from onnx_geed.results import to_csv
    from onnx_geed.text import to_json, wrapped

    if form == "json":
        show(to_json(made), nl=False, kept=kept)
    elif form == "csv":
        show(to_csv(made), nl=False, kept=kept)
    else:
        from onnx_geed.results import diagnosis_line, model_of

        show(table(made), kept=kept)
        if line := diagnosis_line(made, model_of(made)):
            show("\n".join(wrapped(line)), kept=kept)


def _gate(violations: Sequence[Any]) -> int:
    for violation in violations:
        tell(f"over the limit: {violation}")
    return 1 if violations else 0


if __name__ == "__main__":
    cli(prog_name="onnx-geed")
