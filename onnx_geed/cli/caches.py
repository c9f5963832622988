"""The command on caches: write, describe, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from onnx_geed.cli.guarded import Guarded
from onnx_geed.cli.model_options import input_options
from onnx_geed.cli.options import (
    action_options,
    cache_options,
    data_option,
    executor_options,
    format_option,
    group_option,
    isolate_options,
    measures_option,
    quiet_option,
    run_options,
)
from onnx_geed.cli.places import PLACE, Output
from onnx_geed.cli.progress import progress_bar
from onnx_geed.cli.terminal import hushed, show_as, tell
from onnx_geed.cli.typed_options import as_typed, typed_options

__all__ = ["cache"]


@click.command(cls=Guarded)
@click.argument("model", required=False, type=PLACE)
@data_option("Samples, as onnx-geed measure takes them.")
@group_option()
@click.option(
    "--layer", "layers", multiple=True, metavar="LAYER", help="A layer to store; repeatable."
)
@measures_option
@click.option(
    "-o",
    "--output-cache",
    "folder",
    type=Output(folder=True),
    metavar="ACTS.geed",
    help="The cache to write.",
)
@click.option("--info", type=PLACE, metavar="ACTS.geed", help="Describe a cache.")
@click.option(
    "--verify",
    type=PLACE,
    metavar="ACTS.geed",
    help="Check a cache for damage, by its checksums.",
)
@format_option("table", "json")
@quiet_option
@cache_options
@run_options
@executor_options
@input_options
@action_options
@isolate_options
@click.pass_context
def cache(
    context: click.Context,
    /,
    model: str | Path | None,
    data: str | None,
    group: str | None,
    folder: str | Path | None,
    info: str | Path | None,
    verify: str | Path | None,
    form: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Write a model's activations to a cache, to be measured later without the model.

    An interrupted run resumes when the same command is given again.

    \b
    Examples:
      onnx-geed cache model.onnx --data images/ --group C8 -o acts.geed
      onnx-geed cache model.onnx --data images/ --group C8 --cache-mode stats -o acts.geed
      onnx-geed cache --info acts.geed
      onnx-geed cache --verify acts.geed
    """
    from onnx_geed.cache import cache_info, write_cache
    from onnx_geed.report import info_table

    described, asked = info or verify, "--info" if info else "--verify"
    if described:
        if info and verify:
            raise click.UsageError("--info and --verify: give one of the two.")
        for name in typed_options(context, without=("info", "verify", "form", "quiet")):
            option = as_typed(context, name)
            raise click.UsageError(f"{option} is for writing a cache: leave it or {asked} out.")
        if verify:
            _verify(verify, quiet)
        show_as(form, cache_info(described), lambda content: info_table(content, bool(verify)))
        return
    for name, value in (("MODEL", model), ("--data", data), ("--group", group), ("-o", folder)):
        if value is None:
            raise click.UsageError(f"Missing {name}.")
    with hushed(quiet), progress_bar("caching", quiet=quiet) as progress:
        shared: dict[str, Any] = {"progress": progress, "notify": None if quiet else tell}
        content = write_cache(model, data, group, folder or Path(), **shared, **options)
    show_as(form, content, info_table, kept=True)


def _verify(cache: str | Path, quiet: bool) -> None:
    """Tell of every damaged part, and end with status 2 where there is one."""
    from onnx_geed.cache import verify_cache

    with progress_bar("verifying", quiet=quiet) as progress:
        damages = verify_cache(cache, progress=progress)
    for damage in damages:
        tell(f"onnx-geed: {damage}")
    if damages:
        sys.exit(2)
