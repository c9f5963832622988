"""What every command does before its own work: spare what it reads, and isolate what is asked to.

An option that names an output has the type ``places.Output``; whatever else names a file is read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from onnx_geed.addresses import address_of
from onnx_geed.cli.isolation import Bounds, isolate
from onnx_geed.cli.memory_limit import limit_memory
from onnx_geed.cli.places import Output, Page, of_each_group
from onnx_geed.confinement import out_of_reach
from onnx_geed.errors import GeedError
from onnx_geed.files import check_writable
from onnx_geed.spared import spare_caches

__all__ = ["ISOLATE", "Guarded", "files_read"]

#: Where a context keeps ``--isolate``, and the limits that hold with it or alone.
ISOLATE = "isolate"


# Commands that write a model, with its weights beside it.
_COPIES_WEIGHTS = frozenset(("annotate", "compile"))


class Guarded(click.Command):
    """A command that never replaces what it reads, and can be isolated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what was typed; what names something has one name, and is named once.

        Of numbers, sizes and choices the last one counts, as everywhere.

        Raises
        ------
        click.UsageError
            If such an option is typed twice, or is empty.
        """
        rest = super().parse_args(ctx, list(args))
        if ctx.resilient_parsing:  # a shell asks how a line might go on
            return rest
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.params:
            if not isinstance(parameter, click.Option) or parameter.multiple:
                continue
            names = isinstance(parameter.type, click.types.StringParamType | click.Path)
            names &= parameter.metavar != "SIZE"
            if names and order.count(parameter) > 1:
                raise click.UsageError(f"{parameter.opts[-1]}: is given twice; give it once.")
            if names and ctx.params.get(parameter.name or "") == "":
                raise click.UsageError(
                    f"{parameter.opts[-1]}: is empty; give a value, or leave it out."
                )
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, here or in a child."""
        files = dict(_outputs(self, ctx, folder=False))
        made = dict(_outputs(self, ctx, folder=True))
        folders = [*made.values()]
        read = list(files_read(ctx))
        asked: Mapping[str, Any] = ctx.meta.get(ISOLATE, {})
        if asked.get("isolate"):
            _check_can_hold(ctx, [*read, *files.values(), *folders])
        _refuse_twice(files)
        for option, path in files.items():
            others = [other for name, other in files.items() if name < option]
            check_writable(path, option=option, inputs=[*read, *others])
        for parameter, path in _named(self, ctx, folder=False):
            if isinstance(parameter.type, Page):
                parameter.type.check(path, parameter, ctx)
        for option, path in made.items():
            if not address_of(path):
                # A cache may be written on; files of other kinds are no part of one.
                whole = "cache" in option
                spare_caches(Path(path) if whole else Path(path, "any"), option)
        if asked.get("isolate"):
            model = ctx.params.get("model")
            isolate(
                Bounds(
                    str(model or ctx.params.get("suite") or ctx.info_name),
                    asked["time_limit"],
                    asked["memory_limit"],
                    [Path(path) for path in _asked(self, ctx)],
                    [Path(path) for path in folders],
                    model if ctx.info_name in _COPIES_WEIGHTS else None,
                )
            )
        elif "--time-limit" in asked.get("typed", ()):
            raise click.UsageError("--time-limit: works only with --isolate; give both.")
        elif asked.get("memory_limit") is not None:
            _check_is_one_process(ctx, "--memory-limit")
            limit_memory(asked["memory_limit"])
        for option, path in files.items():
            check_writable(path, option=option, inputs=_weights(path, ctx.params.get("model")))
        return super().invoke(ctx)


def _refuse_twice(files: Mapping[str, str | Path]) -> None:
    """Refuse two outputs of one name, of which the last would be all that is left."""
    options: dict[str, str] = {}
    for option, path in files.items():
        # Of what is no file of its own, such as a terminal, several may be written.
        if os.path.exists(path) and not os.path.isfile(path):
            continue
        place = address_of(path) or os.path.realpath(path)
        if place in options:
            raise GeedError(
                f"{option} {path}: is the file that {options[place]} names; name another one"
            )
        options[place] = option


def _asked(command: click.Command, ctx: click.Context) -> list[str | Path]:
    """Return the files that a command is to write: a result of each group, where it has several."""
    groups = ctx.params.get("groups") or ()
    asked: list[str | Path] = []
    for parameter, path in _named(command, ctx, folder=False):
        several = len(groups) > 1 and not isinstance(parameter.type, Page)
        asked += of_each_group(path, groups) if several else [path]
    return asked


def _check_can_hold(ctx: click.Context, places: Sequence[str | Path]) -> None:
    """Refuse to isolate what needs the network."""
    for place in places:
        if address := address_of(place):
            raise out_of_reach(address)
    _check_is_one_process(ctx, "--isolate")


def _check_is_one_process(ctx: click.Context, option: str) -> None:
    if ctx.params.get("executor") == "ray":
        raise GeedError(
            f"{option}: limits only this process, not the workers of a cluster; leave out "
            "--executor ray"
        )


def _outputs(
    command: click.Command, ctx: click.Context, *, folder: bool
) -> Iterator[tuple[str, str | Path]]:
    """Yield options that name outputs, as they are typed, and the paths that they have."""
    for parameter, path in _named(command, ctx, folder=folder):
        yield parameter.opts[0 if parameter.required else -1], path


def _named(
    command: click.Command, ctx: click.Context, *, folder: bool
) -> Iterator[tuple[click.Parameter, str | Path]]:
    """Yield the parameters that name outputs, and the paths that they have."""
    for parameter in command.params:
        if isinstance(parameter.type, Output) and parameter.type.folder is folder:
            path = ctx.params.get(parameter.name or "")
            if path is not None:
                yield parameter, path


def files_read(ctx: click.Context) -> Iterator[str]:
    """Yield what a command is given that may name a file that it reads."""
    for parameter in ctx.command.params:
        if not isinstance(parameter.type, Output):
            yield from _texts(ctx.params.get(parameter.name or ""))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _texts([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _weights(out: str | Path, model: Any) -> list[str | Path]:
    """Return the files of a model's weights, where one of them could be what is written."""
    if not isinstance(model, Path) or not isinstance(out, Path):
        return []
    if not (out.is_file() and model.is_file()):
        return []
    if Path(os.path.realpath(model)).parent not in Path(os.path.realpath(out)).parents:
        return []
    from onnx_geed.model import load_model

    with contextlib.suppress(GeedError):  # which the command tells of
        return [stamp.path for stamp in load_model(model).weights]
    return []
