"""Pages that commands write of the results that they have just measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onnx_geed.cli.outcomes import tell_written
from onnx_geed.cli.places import Page
from onnx_geed.cli.terminal import command_line, fail
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.model import Model
    from onnx_geed.results import Exploration, Result

__all__ = ["check_drawable", "page_option", "write_page"]

Command = TypeVar("Command", bound=Callable[..., Any])

# How many samples of a result can be looked at: as many as report shows.
_SHOWN = 24


def page_option(subject: str) -> Callable[[Command], Command]:
    """Return the option ``--report``."""
    return click.option(
        "--report",
        "page",
        type=Page(),
        metavar="FILE.html",
        help=f"Also write {subject} as an interactive HTML page (needs onnx-geed[report]).",
    )


def check_drawable() -> None:
    """Refuse a page that could not be drawn, before anything is measured."""
    from onnx_geed.report import check_installed

    check_installed()


def write_page(
    results: Sequence[Result],
    page: str | Path,
    model: Model | None,
    options: Mapping[str, Any],
    *,
    note: Callable[[str], None] | None,
) -> int:
    """Write the page of results that a command has measured; return the status.

    Parameters
    ----------
    results : sequence of dict
        The results.
    page : str or Path
        The HTML file.
    model : Model or None
        What was measured, to look at single samples; None: a cache, on which no page shows any.
    options : mapping
        The options of ``measure``.
    note : callable or None
        Told what is missing on the page, and where it lies.
    """
    from onnx_geed.report import write_report

    explorations = [_exploration(result, model, options) for result in results] if model else []
    try:
        write_report(
            results,
            page,
            data=options["data"] if model else None,
            explorations=explorations,
            command=command_line(),
        )
    except GeedError as error:
        return fail(str(error))
    if note:
        tell_written(page)
    return 0


def _exploration(result: Result, model: Model, options: Mapping[str, Any]) -> Exploration:
    """Run some samples again; where that cannot be, the page says why it does not show them."""
    from onnx_geed.report import samples_to_show
    from onnx_geed.results import Exploration
    from onnx_geed.run import explore

    positions = samples_to_show(result, _SHOWN)
    layers = {record["layer"] for record in result["measurements"]}
    tables = {
        key: file
        for key, file in options["output_action"].items()
        if not file.lower().startswith("fit") and any(fnmatchcase(name, key) for name in layers)
    }
    try:
        return explore(result, model, options["data"], positions, output_action=tables)
    except GeedError as error:
        return Exploration(tuple(positions), notes=(f"No maps are shown: {error}.",))
