"""Options and arguments that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from onnx_geed.cli.guarded import ISOLATE
from onnx_geed.cli.places import PLACE, Output
from onnx_geed.measures import CATALOGUE

__all__ = [
    "action_options",
    "cache_options",
    "data_option",
    "engine_option",
    "executor_options",
    "fit_options",
    "format_option",
    "group_option",
    "in_order",
    "isolate_options",
    "limit_options",
    "measures_option",
    "model_argument",
    "moving_options",
    "out_option",
    "output_action_option",
    "pairs",
    "quiet_option",
    "results_argument",
    "run_options",
    "time_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def in_order(*options: Decorator[Any]) -> Decorator[Any]:
    """Make one decorator of several options, which the help lists in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def pairs(_: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Turn NAME=VALUE options into a dict."""
    pairs = {}
    for value in values:
        name, equals, rest = value.rpartition("=")
        if there := re.search(r"=(?=[A-Za-z][A-Za-z0-9+-]+://)", value):  # whose query may have =
            name, rest = value[: there.start()], value[there.end() :]
        if not equals or not name or not rest:
            raise click.BadParameter(f"{value!r} does not have the form {parameter.metavar}")
        if name in pairs:
            raise click.BadParameter(f"{value!r}: {name} is given twice; give it once")
        pairs[name] = rest
    return pairs


model_argument = click.argument("model", type=PLACE)


results_argument = click.argument("results", nargs=-1, required=True, type=PLACE)


def data_option(purpose: str) -> Decorator[Any]:
    """Return the option ``--data``, whose help says what a command takes the samples for."""
    return click.option("--data", metavar="DATA", help=purpose)


def group_option(*, required: bool = False, several: bool = False) -> Decorator[Any]:
    """Return the option ``--group``; with several of them, ``groups``."""
    return click.option(
        "--group",
        "groups" if several else "group",
        required=required,
        multiple=several,
        metavar="GROUP",
        help="Images: C<n> (rotations, such as C8), D<n> (with mirrors), flip-h, flip-v, "
        "shift<a>x<b>; colours: hue<n>; volumes: C<n>-x|-y|-z, O, Oh; lines: reverse, shift<n>; "
        "DNA: revcomp; sets: S<n>, S<n>~k; sampled: SO2~n, O2~n, SO3~n, O3~n; products: G*H; "
        "for sensitivity: small-rotation, small-shift, small-zoom, each ~PIXELS; families: "
        "rotate, zoom, shift-px, brightness, contrast, blur, noise, jpeg:LO..HI/N, "
        "background:FOLDER/N, imagenet-c:NAME, or module:function."
        + (" Repeatable: one result per group." if several else ""),
    )


def out_option(
    metavar: str, purpose: str, *, required: bool = False, folder: bool = False
) -> Decorator[Any]:
    """Return the option ``--out``, or ``-o``."""
    return click.option(
        "-o",
        "--out",
        required=required,
        type=Output(folder=folder),
        metavar=metavar,
        help=purpose,
    )


def format_option(*forms: str, explained: bool = False) -> Decorator[Any]:
    """Return the option ``--format``, of which the first form is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=explained,
        help="Format of what is printed." if explained else None,
    )


quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="No progress, notes or hints on stderr; errors are still shown.",
)


measures_option = click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME[@LAYER]",
    help=f"{', '.join(CATALOGUE)}; repeatable. Default: all that make sense.",
)


engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "kernels", "graph"]),
    default="auto",
    show_default=True,
    help="Where deviations are computed. kernels: compiled loops on the CPU; graph: inside the "
    "model, so that activations stay on the device; auto: graph on CUDA, else kernels.",
)


output_action_option = click.option(
    "--output-action",
    metavar="LAYER=FILE|fit:KIND",
    multiple=True,
    callback=pairs,
    help="How the group acts on a tensor: an .npz file with the arrays elements and one of "
    "channels, permutation, matrices, channel_matrices (onnx-geed fit writes such files). In "
    "measure also fit:permutation, fit:orthogonal or fit:linear, to estimate the action from "
    "data.",
)


# Options that say what output actions are fitted to.
fit_options = in_order(
    click.option(
        "--fit-samples",
        type=int,
        default=50,
        show_default=True,
        metavar="N",
        help="How many samples to fit output actions to; they are drawn after the measured ones.",
    ),
    click.option(
        "--fit-anyway",
        is_flag=True,
        help="Fit even where vectors are too long or samples too few for a reliable fit.",
    ),
)


memory_option = click.option(
    "--memory",
    default="2GiB",
    show_default=True,
    metavar="SIZE",
    help="Memory for activations, weights, and for what moves samples.",
)


time_option = click.option(
    "--time-per-sample",
    type=float,
    metavar="SECONDS",
    help="Time that a model may need per sample, on one core, by its shapes.  [default: 2.5, "
    "more for many weights and large samples]",
)


# Options that say how to run.
run_options = in_order(
    click.option(
        "--samples",
        type=int,
        metavar="N",
        help="How many samples to measure (D of eq. (4)).  [default: 50; with --precision up to "
        "all]",
    ),
    click.option(
        "--norm-samples",
        default=200,
        show_default=True,
        metavar="N",
        help="How many samples the normaliser M is computed from, eq. (6).",
    ),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        metavar="S",
        help="Random seed for choosing samples.",
    ),
    click.option(
        "--provider",
        type=click.Choice(["auto", "cuda", "cpu"]),
        default="auto",
        show_default=True,
        help="Where the model runs; auto uses CUDA if it works.",
    ),
    click.option("--batch-size", type=int, metavar="N", help="Largest batch for the model."),
    memory_option,
    time_option,
)


# Options that say where jobs run.
executor_options = in_order(
    click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where the work runs: threads of this process, or workers of a Ray cluster; results "
        "are identical.",
    ),
    click.option(
        "--address",
        metavar="auto|local|HOST:PORT",
        help="Which Ray cluster. auto (the default): a running one, else a new one on this "
        "machine; local: a new one; or the address of a cluster.",
    ),
)


class _Seconds(click.FloatRange):
    """A number of seconds, up to a year; a range alone lets NaN pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


def _keep_aside(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option where the command itself does not see it."""
    name = parameter.name or ""
    kept = context.meta.setdefault(ISOLATE, {})
    kept[name] = value
    if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        kept.setdefault("typed", []).append(parameter.opts[0])


# Options that say what a model may do to this machine.
isolate_options = in_order(
    click.option(
        "--isolate",
        is_flag=True,
        expose_value=False,
        callback=_keep_aside,
        help="For models that you do not trust: run in a separate process, with limits, without "
        "network, and with write access only to the output.",
    ),
    click.option(
        "--time-limit",
        type=_Seconds(min=0, min_open=True, max=31_536_000),
        default=3600.0,
        show_default=True,
        metavar="SECONDS",
        expose_value=False,
        callback=_keep_aside,
        help="With --isolate: time limit in seconds; in a suite, for each run.",
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        expose_value=False,
        callback=_keep_aside,
        help="Memory limit of the process, such as 4GiB; beyond it, the command ends with a "
        "one-line error.  [default: the machine's]",
    ),
)


# Options that say how the group moves inputs, and hidden tensors by their letters.
moving_options = in_order(
    click.option(
        "--interpolation",
        type=click.Choice(["bilinear", "nearest", "bicubic"]),
        default="bilinear",
        show_default=True,
        help="How to resample under rotations that do not map the grid onto itself.",
    ),
    click.option(
        "--support",
        type=click.Choice(["full", "disk"]),
        default="full",
        show_default=True,
        help="disk: mask samples to the inscribed disk, and compare channel-cos and class scores "
        "at places inside that of their grid; other measures take whole maps.",
    ),
    click.option(
        "--clip",
        is_flag=True,
        help="For families such as brightness: clip changed images and round them to 8 bits.",
    ),
    click.option(
        "--masks",
        metavar="FILE|FOLDER",
        help="Foreground masks for background:FOLDER/N: an array (N, H, W) of 1 and 0, or a folder "
        "of black and white images, one per sample.",
    ),
    click.option(
        "--components",
        type=click.Choice(["right-down", "right-up", "down-right"]),
        default="right-down",
        show_default=True,
        help="Directions of the components of vectors (X); a third one points forward.",
    ),
)


# Options that say how the group acts.
action_options = in_order(moving_options, output_action_option)


# Options that say what a cache keeps.
cache_options = in_order(
    click.option(
        "--cache-mode",
        "mode",
        type=click.Choice(["raw", "stats"]),
        default="raw",
        show_default=True,
        help="Keep whole activations, or only what the chosen measures need.",
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


limit_options = in_order(
    click.option(
        "--fail-above",
        multiple=True,
        metavar="MEASURE[@LAYER]=LIMIT",
        help="Exit with status 1 if a value exceeds the limit; repeatable. For cosines give minus "
        "the least cosine: channel-cos=-0.9.",
    ),
    click.option(
        "--junit",
        type=Output(),
        metavar="FILE.xml",
        help="Write the outcome of --fail-above as JUnit XML.",
    ),
)
