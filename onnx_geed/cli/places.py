"""Paths and addresses, as options and arguments take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import click

from onnx_geed.addresses import address_of, leaf, sibling
from onnx_geed.errors import shown
from onnx_geed.named_paths import why_no_path
from onnx_geed.safe_names import file_name

__all__ = ["PLACE", "Output", "Page", "is_cache", "of_each_group"]


class _Place(click.Path):
    """A path, or an address as it was typed: as a path it would lose a slash."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return an address as a text, and all else as a path."""
        if value == "":
            self.fail("it is empty; give a path, or leave it out.", param, ctx)
        if why := why_no_path(value):
            self.fail(f"{shown(str(value))!r} is no path: {why}.", param, ctx)
        return address_of(value) or super().convert(value, param, ctx)


class Output(_Place):
    """The place of a file that a command writes, or of a folder that it fills."""

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__(path_type=Path)
        self.folder = folder


class Page(Output):
    """The place of an HTML page, one for all results of a command."""

    def check(self, page: str | Path, parameter: click.Parameter, ctx: click.Context) -> None:
        """Refuse a name that other kinds of files have."""
        if (ending := PurePath(leaf(page)).suffix).lower() not in ("", ".html", ".htm"):
            self.fail(f"{page}: the page is HTML, not {ending}; name it .html.", parameter, ctx)


#: The type of what names a file or folder, here or at an address.
PLACE = _Place(path_type=Path)


def of_each_group(out: str | Path, groups: Sequence[str]) -> list[str | Path]:
    """Return the file of each group's result, beside the one that is named."""
    named = PurePath(leaf(out))
    return [sibling(out, f"{named.stem}.{file_name(g)}{named.suffix}") for g in groups]


def is_cache(place: str | Path) -> bool:
    """Say whether a cache is meant; its library takes as long to load as a large model to read."""
    if not address_of(place) and Path(place).suffix != ".geed" and not Path(place).is_dir():
        return False
    from onnx_geed.cache import is_cache

    return is_cache(place)
