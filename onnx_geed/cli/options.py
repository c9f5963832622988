"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

__all__ = [
    "action_options",
    "cache_options",
    "engine_option",
    "input_options",
    "measures_option",
    "named_options",
    "output_action_option",
    "run_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])


def _pairs(_: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Turn NAME=VALUE options into a dict."""
    pairs = {}
    for value in values:
        name, equals, rest = value.rpartition("=")
        if not equals or not name or not rest:
            raise click.BadParameter(f"{value!r} is not of the form {parameter.metavar}")
        pairs[name] = rest
    return pairs


measures_option = click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME[@LAYER]",
    help="channel-cos, latent-l2, latent-cos, softmax-kl, output-l2; repeatable. Default: all "
    "that make sense.",
)


engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "kernels", "graph"]),
    default="auto",
    show_default=True,
    help="Where deviations are computed: by compiled loops on the processor, or by nodes in the "
    "model's own graph, so that activations stay on the device; auto takes the graph on CUDA.",
)


output_action_option = click.option(
    "--output-action",
    metavar="LAYER=FILE",
    multiple=True,
    callback=_pairs,
    help="How the group acts on a tensor (.npz: elements and one of channels, permutation, "
    "matrices).",
)


def input_options(command: Command) -> Command:
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
        named_options,
    ):
        command = option(command)
    return command


def named_options(command: Command) -> Command:
    """Options that name what is in the model, and that its metadata can hold."""
    for option in reversed(
        (
            click.option("--input", metavar="NAME", help="The acted-on input."),
            click.option(
                "--input-layout",
                metavar="LETTERS",
                help="Layout of the input, one letter an axis: NCHW, NHWC, NHW; volumes NCDHW, "
                "NDHWC; video NCTHW, NTHWC; or another order.",
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
                help="Layout of a hidden tensor: NCHW, NHWC, NCWH and so on, NTD:14x14+1.",
            ),
        )
    ):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Options that say how to run."""
    for option in reversed(
        (
            click.option(
                "--samples",
                type=int,
                metavar="N",
                help="Size of D, eq. (4).  [default: 50; with --precision the most to take, all]",
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


def action_options(command: Command) -> Command:
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
            output_action_option,
        )
    ):
        command = option(command)
    return command


def cache_options(command: Command) -> Command:
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
