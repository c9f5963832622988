"""Lines on stdout and stderr, which may be full, closed, or have no reader any more."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from onnx_geed.errors import without_secrets

__all__ = ["OutputError", "command_line", "fail", "settle", "show", "show_as", "silence", "tell"]


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
        raise OutputError("stdout is closed: what was to be printed is lost; keep it open")
    try:
        _echo(text, nl, err=False)
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
    show(json.dumps(content, indent=1) if form == "json" else table(content), kept=kept)


def command_line() -> str:
    """Return the command as a shell would take it, for the record, without keys and tokens."""
    return without_secrets(shlex.join(["onnx-geed", *sys.argv[1:]]))


def tell(text: str) -> None:
    """Print a line on stderr, if anybody hears it."""
    try:
        _echo(_short(without_secrets(text)), True, err=True)
    except (OSError, ValueError):
        silence(sys.stderr)


def _short(text: str) -> str:
    """Return a line that no name can stretch, break or make do anything."""
    safe = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 3]}..."


def _echo(text: str, nl: bool, *, err: bool) -> None:
    try:
        click.echo(text, nl=nl, err=err)
    except UnicodeEncodeError:  # a terminal of few letters, or a file name of odd bytes
        encoding = (sys.stderr if err else sys.stdout).encoding or "ascii"
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
    tell(f"onnx-geed: {' '.join(message.split())}")
    return 2


def settle() -> None:
    """Leave nothing in the streams that Python would fail to write at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            silence(stream)
