"""The commands, each in the file of what it works on: models, data, caches, results."""

from __future__ import annotations

import click

from onnx_geed.cli.caches import cache
from onnx_geed.cli.fits import fit
from onnx_geed.cli.models import annotate, compile_model, converters, layers
from onnx_geed.cli.one_line import OneLine
from onnx_geed.cli.results import aggregate, compare, merge, report
from onnx_geed.cli.runs import benchmark, demo, measure

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


for command in (
    *(layers, annotate, compile_model, converters),
    *(measure, fit, benchmark, demo),
    cache,
    *(merge, aggregate, compare, report),
):
    cli.add_command(command)
