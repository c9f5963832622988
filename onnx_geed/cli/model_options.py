"""Options that name what is in a model, and what it is fed."""

from __future__ import annotations

from collections.abc import Sequence

import click

from onnx_geed.cli.options import in_order, pairs

__all__ = ["fed_options", "input_options", "metadata_options", "tensor_options"]


def _masks(_: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Turn NAME=FILE or NAME options into a dict; a name alone has an empty text."""
    masks = {}
    for value in values:
        name, equals, file = value.partition("=")
        if not name or (equals and not file):
            raise click.BadParameter(f"{value!r} does not have the form {parameter.metavar}")
        if name in masks:
            raise click.BadParameter(f"{value!r}: {name} is given twice; give it once")
        masks[name] = file
    return masks


def _layouts(
    _: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> str | dict[str, str] | None:
    """Turn layouts of inputs into one text, or a dict by name; the acted-on one needs no name."""
    named = {}
    for value in values:
        name, _equals, letters = value.rpartition("=")
        if not letters or name in named:
            fault = f"{name or 'the input'} is given twice" if letters else "names no letters"
            raise click.BadParameter(f"{value!r}: {fault}; write {parameter.metavar}")
        named[name] = letters
    return named.get("") if {*named} <= {""} else named


_acted_on_options = in_order(
    click.option("--input", metavar="NAME", help="The input that the group acts on."),
    click.option(
        "--input-layout",
        metavar="[INPUT=]LETTERS",
        multiple=True,
        callback=_layouts,
        help="Layout of an input, one letter per axis: NCHW, NCDHW (volume), NCT (line), NPX "
        "(points), NPP (adjacency), NTB (DNA). Repeatable, for inputs that move together.",
    ),
)


_preprocess_option = click.option(
    "--preprocess",
    metavar="PRESET|FILE|KEY=VALUE...",
    help="Resize, crop, scale, mean/std: imagenet, minus1to1, unit, bytes, caffe; a JSON "
    "file; or pairs such as 'resize=256 crop=224 mean=0.5 std=0.5'. Default: the model's "
    "metadata.",
)


_output_options = in_order(
    click.option("--output", metavar="NAME", help="The output to measure. Default: the only one."),
    click.option(
        "--output-kind",
        type=click.Choice(["logits", "probabilities", "embedding"]),
        help="What the output holds. Default: from the metadata or the graph, checked on data.",
    ),
    click.option(
        "--latent",
        metavar="LAYER",
        help="The latent tensor (the vector in front of the classifier). "
        "Default: from the metadata, else found in the graph.",
    ),
    click.option(
        "--layout",
        metavar="LAYER=LAYOUT",
        multiple=True,
        callback=pairs,
        help="Layout of a hidden tensor or output, which determines how it moves: NCHW, NHWC, NXHW "
        "(a field), NPC, NP, NX; tokens NTD:14x14+1.",
    ),
)


# Options that name what is in the model.
tensor_options = in_order(_acted_on_options, _output_options)


# Options that the model's metadata can hold.
metadata_options = in_order(_acted_on_options, _preprocess_option, _output_options)


# Options that say what the model takes and gives, and what it is fed.
fed_options = in_order(
    metadata_options,
    click.option(
        "--feed",
        metavar="NAME=FILE",
        multiple=True,
        callback=pairs,
        help="Value of another input (.npy): one row per sample, or one for all.",
    ),
    click.option(
        "--mask",
        metavar="INPUT[=FILE]",
        multiple=True,
        callback=_masks,
        help="Which entries of padded sets are real (.npy: samples by entries, or lengths); INPUT "
        "is the padded input, or one that takes the mask. Without FILE: lengths from the data.",
    ),
)


# The same, and what is right for the samples.
input_options = in_order(
    fed_options,
    click.option(
        "--labels",
        metavar="FILE",
        help="Labels of the samples (.npy, idx): one per sample, or one per place of dense scores.",
    ),
    click.option(
        "--target",
        metavar="LAYER=FILE",
        multiple=True,
        callback=pairs,
        help="Target values of a tensor (.npy: one row per sample), for symmetry-share.",
    ),
)
