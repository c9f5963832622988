"""The command line: a command parses, makes one call, prints."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from onnx_geed.errors import GeedError

__all__ = ["cli"]

Command = TypeVar("Command", bound=Callable[..., Any])


class _OneLine(click.Group):
    """A group whose errors are one line on stderr and exit status 2."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        kwargs["standalone_mode"] = False
        _end_cleanly_on_sigterm()
        try:
            status = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            message = " ".join(error.format_message().split())
            command = getattr(getattr(error, "ctx", None), "command_path", "onnx-geed")
            _fail(f"{message} (see {command} --help)")
        except GeedError as error:
            _fail(str(error))
        except (KeyboardInterrupt, click.Abort):
            click.echo("onnx-geed: interrupted", err=True)
            sys.exit(130)
        except _TerminatedError:
            click.echo("onnx-geed: terminated", err=True)
            sys.exit(143)
        except MemoryError:
            _fail("out of memory: take a smaller --batch-size or --memory, or fewer layers")
        sys.exit(status if isinstance(status, int) else 0)


class _TerminatedError(BaseException):
    """SIGTERM came: wind up as for Ctrl-C, orbits in flight are finished."""


def _end_cleanly_on_sigterm() -> None:
    def stop(*_: Any) -> NoReturn:
        raise _TerminatedError

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _fail(message: str) -> NoReturn:
    click.echo(f"onnx-geed: {' '.join(message.split())}", err=True)
    sys.exit(2)


@click.group(cls=_OneLine, context_settings={"help_option_names": ["-h", "--help"]})
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


def _pairs(_: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Turn NAME=VALUE options into a dict."""
    pairs = {}
    for value in values:
        name, equals, rest = value.rpartition("=")
        if not equals or not name or not rest:
            raise click.BadParameter(f"{value!r} is not of the form {parameter.metavar}")
        pairs[name] = rest
    return pairs


def _input_options(command: Command) -> Command:
    """Options that say what the model takes and gives, and what it is fed."""
    for option in (
        click.option("--labels", metavar="FILE", help="Labels of the samples (.npy, idx)."),
        click.option(
            "--feed",
            metavar="NAME=FILE",
            multiple=True,
            callback=_pairs,
            help="Value of another input (.npy): a row a sample, or one for all.",
        ),
        _named_options,
    ):
        command = option(command)
    return command


def _named_options(command: Command) -> Command:
    """Options that name what is in the model, and that its metadata can hold."""
    for option in reversed(
        (
            click.option("--input", metavar="NAME", help="The acted-on input."),
            click.option(
                "--input-layout", type=click.Choice(["NCHW", "NHWC"]), help="Layout of the input."
            ),
            click.option(
                "--preprocess",
                metavar="PRESET|FILE|KEY=VALUE...",
                help="Resize, crop, scale, mean/std: imagenet, minus1to1, unit, bytes, caffe; a "
                "JSON file; or such as 'resize=256 crop=224 mean=0.5 std=0.5'. "
                "Default: the model's metadata.",
            ),
            click.option("--output", metavar="NAME", help="The output to measure."),
            click.option(
                "--output-kind",
                type=click.Choice(["logits", "probabilities", "embedding"]),
                help="What the output is, where the graph does not say.",
            ),
            click.option("--latent", metavar="LAYER", help="The latent tensor."),
            click.option(
                "--layout",
                metavar="LAYER=LAYOUT",
                multiple=True,
                callback=_pairs,
                help="Layout of a hidden tensor: NCHW, NHWC, NTD:14x14+1.",
            ),
        )
    ):
        command = option(command)
    return command


def _run_options(command: Command) -> Command:
    """Options that say how to run."""
    for option in reversed(
        (
            click.option(
                "--samples", default=50, show_default=True, metavar="N", help="Size of D, eq. (4)."
            ),
            click.option(
                "--norm-samples",
                default=200,
                show_default=True,
                metavar="N",
                help="Points for the normaliser M, eq. (6).",
            ),
            click.option(
                "--seed", default=0, show_default=True, metavar="S", help="Picks the samples."
            ),
            click.option(
                "--provider",
                type=click.Choice(["auto", "cuda", "cpu"]),
                default="auto",
                show_default=True,
                help="Where to run; auto takes CUDA where it works.",
            ),
            click.option("--batch-size", type=int, metavar="N", help="Most rows in one run."),
            click.option(
                "--memory",
                default="2GiB",
                show_default=True,
                metavar="SIZE",
                help="Budget for activations.",
            ),
        )
    ):
        command = option(command)
    return command


_output_action = click.option(
    "--output-action",
    metavar="LAYER=FILE",
    multiple=True,
    callback=_pairs,
    help="How the group acts on a tensor (.npz: elements and one of channels, permutation, "
    "matrices).",
)


def _action_options(command: Command) -> Command:
    """Options that say how the group acts."""
    for option in reversed(
        (
            click.option(
                "--interpolation",
                type=click.Choice(["bilinear", "nearest", "bicubic"]),
                default="bilinear",
                show_default=True,
                help="Resampling of rotations that do not map the grid onto itself.",
            ),
            click.option(
                "--support",
                type=click.Choice(["full", "disk"]),
                default="full",
                show_default=True,
                help="disk: mask the samples, and compare maps, inside the inscribed disk.",
            ),
            _output_action,
        )
    ):
        command = option(command)
    return command


def _cache_options(command: Command) -> Command:
    """Options that say what a cache keeps."""
    for option in reversed(
        (
            click.option(
                "--cache-mode",
                "mode",
                type=click.Choice(["raw", "stats"]),
                default="raw",
                show_default=True,
                help="Whole activations, or only what the chosen measures need.",
            ),
            click.option(
                "--cache-dtype",
                "dtype",
                type=click.Choice(["float32", "float16"]),
                default="float32",
                show_default=True,
                help="How raw activations are stored.",
            ),
        )
    ):
        command = option(command)
    return command


_measures = click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME[@LAYER]",
    help="channel-cos, latent-l2, latent-cos, softmax-kl, output-l2; repeatable. Default: all "
    "that make sense.",
)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@_input_options
def layers(model: Path, form: str, **given: Any) -> None:
    """List a model's tensors with shape, size and role.

    \b
    Example:
      onnx-geed layers resnet50.onnx
    """
    from onnx_geed.listing import layer_table, list_layers

    listed = list_layers(
        model,
        **{k: given[k] for k in ("input", "output", "latent", "layout")},
        layout_of_input=given["input_layout"],
        kind=given["output_kind"],
    )
    click.echo(json.dumps(listed, indent=1) if form == "json" else layer_table(listed))


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="Samples: see below.")
@click.option("--group", metavar="GROUP", help="C<n>, D<n>, flip-h, flip-v or shift<a>x<b>.")
@_measures
@click.option("--out", type=click.Path(path_type=Path), metavar="RESULT.json", help="Result file.")
@_run_options
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="ACTS.geed", help="Also keep activations."
)
@_cache_options
@click.option(
    "--interval",
    type=click.Choice(["t", "bootstrap"]),
    default="t",
    show_default=True,
    help="Interval over samples: Student t, or BCa bootstrap for skewed measures.",
)
@click.option(
    "--references",
    is_flag=True,
    help="Also run what resampling alone does, as a scale to read values by.",
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
@_input_options
@_action_options
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
      onnx-geed measure acts.geed --measure latent-l2
    """
    from onnx_geed.cache import is_cache
    from onnx_geed.comparison import check_limits, over_limits
    from onnx_geed.results import check_writable, write_json

    check_limits(fail_above)
    if junit and not fail_above:
        raise click.UsageError("--junit: has nothing to tell without --fail-above MEASURE=LIMIT.")
    if out:
        check_writable(out)
    if junit:
        check_writable(junit, option="--junit")
    offline = is_cache(model)
    if not offline:
        for name in ("data", "group"):
            if options[name] is None:
                raise click.UsageError(f"Missing option '--{name}'.")
    with _progress() as progress:
        if offline:
            made = _measure_cache(context, model, progress, options)
        else:
            made = _measure_model(model, progress, options)
    _notes(made)
    violations = over_limits(made, fail_above)
    if out:
        write_json(made, out)
    if junit:
        from onnx_geed.testing import write_junit

        write_junit(made, fail_above, junit)
    _print(made, form)
    sys.exit(_gate(violations))


def _measure_model(model: Path, progress: Any, options: dict[str, Any]) -> dict[str, Any]:
    from onnx_geed import pipeline

    data, group, cache = options.pop("data"), options.pop("group"), options.pop("cache")
    mode, dtype = options.pop("mode"), options.pop("dtype")
    if cache is None:
        return pipeline.measure(
            model, data, group, progress=progress, command=_command(), **options
        )
    from onnx_geed.caching import write_cache
    from onnx_geed.offline import measure_cache

    interval = options.pop("interval")
    if options.pop("references"):
        raise click.UsageError("--references: run the model again; leave --cache out.")
    write_cache(
        model, data, group, cache, mode=mode, dtype=dtype, progress=progress, notify=_say, **options
    )
    return measure_cache(cache, measures=options["measures"], interval=interval, command=_command())


def _measure_cache(
    context: click.Context, cache: Path, progress: Any, options: dict[str, Any]
) -> dict[str, Any]:
    from onnx_geed.offline import measure_cache

    usable = ("measures", "samples", "norm_samples", "interval", "out", "form", "fail_above")
    given = [
        name
        for name in options
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
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
@_measures
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
@_cache_options
@_run_options
@_input_options
@_action_options
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
    from onnx_geed.caching import write_cache
    from onnx_geed.inspection import cache_info, verify_cache

    if info or verify:
        if model:
            raise click.UsageError("--info and --verify take a cache, and no model.")
        if verify:
            with _progress() as progress:
                wrong = verify_cache(verify, progress=progress)
            for line in wrong:
                click.echo(f"onnx-geed: {line}", err=True)
            if wrong:
                sys.exit(2)
        _print_info(cache_info(info or verify or Path()), form, verified=bool(verify))
        return
    for name, value in (("MODEL", model), ("--data", data), ("--group", group), ("-o", folder)):
        if value is None:
            raise click.UsageError(f"Missing {name}.")
    with _progress() as progress:
        made = write_cache(
            model, data, group, folder or Path(), progress=progress, notify=_say, **options
        )
    _print_info(made, form)


def _print_info(made: dict[str, Any], form: str, *, verified: bool = False) -> None:
    from onnx_geed.inspection import info_table

    click.echo(json.dumps(made, indent=1) if form == "json" else info_table(made, verified))


def _say(text: str) -> None:
    click.echo(text, err=True)


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
    from onnx_geed import comparison
    from onnx_geed.results import check_writable, read_result, write_json

    if out:
        check_writable(out)
    made = comparison.aggregate([read_result(path) for path in results])
    if out:
        write_json(made, out)
    click.echo(json.dumps(made, indent=1) if form == "json" else comparison.aggregate_table(made))


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
    from onnx_geed import comparison
    from onnx_geed.results import check_writable, read_result, write_json

    if out:
        check_writable(out)
    made = comparison.compare(read_result(a), read_result(b), force=force)
    if out:
        write_json(made, out)
    click.echo(json.dumps(made, indent=1) if form == "json" else comparison.compare_table(made))


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
    from onnx_geed.page import write_report
    from onnx_geed.results import check_writable, read_result

    check_writable(out, option="-o")
    made = [read_result(path) for path in results]
    write_report(made, out, data=data, pictures=pictures, command=_command())


@cli.command()
def demo() -> None:
    """Measure the embedded model under C8, next to the same network untrained.

    \b
    Example:
      onnx-geed demo
    """
    from onnx_geed.demo import run_demo

    with _progress() as progress:
        text = run_demo(progress)
    click.echo(text)


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
@_named_options
@_output_action
def annotate(model: Path, out: Path, **given: Any) -> None:
    """Write preprocessing, latent, layouts and action tables into a model's metadata.

    \b
    Example:
      onnx-geed annotate model.onnx --preprocess imagenet --latent /Flatten_output_0 -o known.onnx
    """
    from onnx_geed.annotate import annotate as write

    for key, value in sorted(write(model, out, **given).items()):
        click.echo(f"{key} = {value if len(value) <= 90 else value[:87] + '...'}")


@cli.command()
def converters() -> None:
    """Print the folder of the converter scripts.

    \b
    Example:
      python "$(onnx-geed converters)/from_torch.py" --help
    """
    import importlib.util

    found = importlib.util.find_spec("onnx_geed.converters")
    if found is None or not found.submodule_search_locations:
        raise GeedError("the converter scripts are not installed: reinstall onnx-geed")
    click.echo(next(iter(found.submodule_search_locations)))


def _command() -> str:
    return shlex.join(["onnx-geed", *sys.argv[1:]])


def _notes(made: dict[str, Any]) -> None:
    for note in made.get("notes", ()):
        click.echo(f"note: {note}", err=True)


def _print(made: dict[str, Any], form: str) -> None:
    from onnx_geed import results
    from onnx_geed.table import table, wrapped

    if form == "json":
        click.echo(results.to_json(made), nl=False)
    elif form == "csv":
        click.echo(results.to_csv(made), nl=False)
    else:
        from onnx_geed.diagnosis import diagnosis_line, model_of

        click.echo(table(made))
        if line := diagnosis_line(made, model_of(made)):
            click.echo("\n".join(wrapped(line)))


def _gate(violations: Sequence[Any]) -> int:
    for violation in violations:
        click.echo(f"over the limit: {violation}", err=True)
    return 1 if violations else 0


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show rate and time left on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("inferences", total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield update


if __name__ == "__main__":
    cli(prog_name="onnx-geed")
