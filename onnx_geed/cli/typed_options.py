"""Options as they were typed, which for a cache are settled but for some."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from onnx_geed.addresses import leaf

__all__ = ["as_typed", "refuse_executor", "refuse_settled", "typed_options"]


def typed_options(context: click.Context, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the options that stand on the command line."""
    return {
        name: value
        for name, value in context.params.items()
        if name not in without
        and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }


def as_typed(context: click.Context, name: str) -> str:
    """Return an option as it is typed, by the name of its parameter; an argument in capitals."""
    for parameter in context.command.params:
        if parameter.name == name:
            return name.upper() if isinstance(parameter, click.Argument) else parameter.opts[-1]
    return f"--{name.replace('_', '-')}"


def refuse_executor(typed: Collection[str], cache: str | Path) -> None:
    """Refuse to have workers read a cache.

    Raises
    ------
    click.UsageError
        If it is asked for.
    """
    for name in ("executor", "address"):
        if name in typed:
            raise click.UsageError(
                f"--{name}: {leaf(cache)} is a cache, which is read on this machine; leave it out, "
                "or name the model"
            )


def refuse_settled(
    context: click.Context, typed: Collection[str], still_open: Collection[str], cache: str | Path
) -> None:
    """Refuse options that were settled when a cache was written.

    Raises
    ------
    click.UsageError
        If there is one.
    """
    if settled := [name for name in typed if name not in still_open]:
        raise click.UsageError(
            f"{as_typed(context, settled[0])}: is fixed by the cache {leaf(cache)}; leave it out, "
            "or measure the model"
        )
