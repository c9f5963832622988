"""The command that fits output actions to data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_geed.cli.guarded import Guarded
from onnx_geed.cli.model_options import fed_options
from onnx_geed.cli.options import (
    data_option,
    executor_options,
    fit_options,
    group_option,
    isolate_options,
    model_argument,
    moving_options,
    out_option,
    quiet_option,
    run_options,
)
from onnx_geed.cli.places import is_cache
from onnx_geed.cli.progress import progress_bar
from onnx_geed.cli.terminal import hushed, show, tell
from onnx_geed.cli.typed_options import refuse_executor, refuse_settled, typed_options

if TYPE_CHECKING:
    from onnx_geed.groups import Table

__all__ = ["fit"]


@click.command(cls=Guarded)
@model_argument
@data_option("Samples, as onnx-geed measure takes them.")
@group_option()
@click.option(
    "--layer", "layers", multiple=True, metavar="LAYER", help="A layer to fit; repeatable."
)
@click.option(
    "--kind",
    type=click.Choice(["permutation", "orthogonal", "linear"]),
    default="orthogonal",
    show_default=True,
    help="What the group may do to channels: permute, rotate or mix them in any way.",
)
@out_option("ACTIONS.npz", "File for the fitted actions.", required=True)
@fit_options
@click.option(
    "--fit-representation",
    "representation",
    is_flag=True,
    help="Make orthogonal fits a true representation of the group near the fit; if there are too "
    "many channels for that, a note says so, with the defect that is left.",
)
@run_options
@executor_options
@fed_options
@moving_options
@quiet_option
@isolate_options
@click.pass_context
def fit(
    context: click.Context,
    /,
    model: str | Path,
    data: str | None,
    group: str | None,
    out: str | Path,
    quiet: bool,
    **options: Any,
) -> None:
    """Estimate from data how a group acts on the channels of hidden layers.

    The fit uses the samples that follow the measured ones (--samples), so that onnx-geed measure
    with the same --samples and --seed accepts the file: --output-action LAYER=ACTIONS.npz. MODEL
    may also be an activation cache.

    \b
    Examples:
      onnx-geed fit model.onnx --data images/ --group C4 --layer /layer1/Relu_output_0 -o a.npz
      onnx-geed fit model.onnx --data images/ --group flip-h --layer "/layer?/*" --kind linear \\
        --fit-samples 200 -o actions.npz
      onnx-geed measure model.onnx --data images/ --group C4 \\
        --measure unexplained@/layer1/Relu_output_0 \\
        --output-action /layer1/Relu_output_0=a.npz
      onnx-geed fit model.onnx --data images/ --group C4 --layer "*" --executor ray -o a.npz
    """
    from onnx_geed.groups import write_fits
    from onnx_geed.run import fit_actions

    if Path(out).suffix != ".npz":
        raise click.UsageError(f"-o {out}: must end in .npz, the format that is written.")
    with hushed(quiet), progress_bar("fitting", quiet=quiet) as progress:
        shared: dict[str, Any] = {"progress": progress, "notify": None if quiet else tell}
        if is_cache(model):
            tables = _fit_cache(context, model, shared)
        else:
            for name, value in (("--data", data), ("--group", group)):
                if value is None:
                    raise click.UsageError(f"Missing option '{name}'.")
            tables = fit_actions(model, data or "", group or "", **shared, **options)
    write_fits(out, tables)
    show("\n".join(_lines(tables)), kept=True)


def _fit_cache(
    context: click.Context, cache: str | Path, shared: Mapping[str, Any]
) -> tuple[Table, ...]:
    """Fit to a cache, for which only some options are still open."""
    from onnx_geed.cache import fit_cached_actions

    typed = typed_options(context, without=("model", "out", "quiet"))
    still_open = (
        *("layers", "kind", "representation"),
        *("samples", "fit_samples", "fit_anyway", "memory"),
    )
    refuse_executor(typed, cache)
    refuse_settled(context, typed, still_open, cache)
    layers = typed.pop("layers", ())
    return fit_cached_actions(cache, layers, **shared, **typed)


def _lines(tables: Sequence[Table]) -> list[str]:
    """Say of each layer what was fitted, and how far it is from a representation."""
    from onnx_geed.text import columns

    rows = [("layer", "kind", "channels", "samples", "lambda", "defect (median, worst)")]
    for table in tables:
        fitted = table.fit
        assert fitted is not None
        strength = "-" if fitted.lambda_ is None else f"{fitted.lambda_:g}"
        defect = "-" if fitted.defect is None else ", ".join(f"{d:.3g}" for d in fitted.defect)
        sizes = str(table.values.shape[1]), str(fitted.samples)
        rows.append((fitted.layer, fitted.kind, *sizes, strength, defect))
    return columns(rows, flexible=0, right=(2, 3, 4))
