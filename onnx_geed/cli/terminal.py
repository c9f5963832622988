"""Lines on stdout and stderr, which may be full, closed, or have no reader any more."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from onnx_geed.errors import without_secrets
from onnx_geed.safe_names import json_escaped, one_line, safe_lines

__all__ = [
    "OutputError",
    "command_line",
    "fail",
    "hushed",
    "settle",
    "show",
    "show_as",
    "silence",
    "tell",
]


# Letters of a line on stderr.
_LONGEST = 390


class OutputError(Exception):
    """Text for stdout is lost; the message is one line."""


def show(text: str, *, nl: bool = True, kept: bool = False) -> None:
    """Print on stdout.

    Parameters
    ----------
    text : str
        A line or many.
    nl : bool
        Whether a line end follows.
    kept : bool
        Whether a file keeps it too, so that a closed stdout loses nothing.

    Raises
    ------
    OutputError
        If stdout is full, or closed while nothing is kept.
    """
    if sys.stdout is None:
        if kept:
            return
        raise OutputError("stdout is closed, so the result cannot be printed; keep it open")
    try:
        _echo(safe_lines(text), nl, err=False)
    except BrokenPipeError:
        silence(sys.stdout)  # the reader has what it wanted
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        why = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"stdout: cannot be written ({why})") from None


def show_as(
    form: str, content: Mapping[str, Any], table: Callable[[Any], str], *, kept: bool = False
) -> None:
    """Print on stdout, as JSON or as a table.

    Parameters
    ----------
    form : {"table", "json"}
        The option ``--format``.
    content : mapping
        A result, or a list of what is in a file.
    table : callable
        Makes the table of it.
    kept : bool
        As for :func:`show`.
    """
    as_json = form == "json"
    show(json_escaped(json.dumps(content, indent=1)) if as_json else table(content), kept=kept)


def command_line() -> str:
    """Return the command as a shell would take it, for the record, without keys and tokens."""
    return without_secrets(shlex.join(["onnx-geed", *sys.argv[1:]]))


def tell(text: str) -> None:
    """Print a line on stderr, if anybody hears it."""
    try:
        _echo(safe_lines(one_line(without_secrets(text), _LONGEST)), True, err=True)
    except (OSError, ValueError):
        silence(sys.stderr)


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Leave out what the package tells while it works, but for warnings."""
    logger = logging.getLogger("onnx_geed")
    level = logger.level
    if quiet:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _echo(text: str, nl: bool, *, err: bool) -> None:
    try:
        click.echo(text, nl=nl, err=err)
    except UnicodeEncodeError:  # a terminal of few letters, or a file name of odd bytes
        encoding = (sys.stderr if err else sys.stdout).encoding or "ascii"
        text = text.replace("−", "-")  # a number keeps its sign
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=nl, err=err)


def silence(stream: Any) -> None:
    """Lead a stream that fails to nowhere, where what it still holds can go."""
    try:
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    except (AttributeError, OSError, ValueError):
        pass


def fail(message: str) -> int:
    """Tell an error in one line; return the status that stands for it."""
    tell(f"onnx-geed: {message}")
    return 2


def settle() -> None:
    """Leave nothing in the streams that Python would fail to write at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            silence(stream)
