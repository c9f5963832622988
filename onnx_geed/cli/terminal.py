"""How the command line behaves: errors in one line, signals, progress."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn, cast

import click

from onnx_geed.cli.signals import SignalledError, caught, install, line_of
from onnx_geed.errors import GeedError

__all__ = ["OneLine", "OutputError", "fail", "progress_bar", "show", "tell"]


class OutputError(Exception):
    """What was to be printed on stdout is lost; the message is one line."""


class OneLine(click.Group):
    """A group whose errors are one line on stderr and exit status 2.

    A reader that has gone, as in ``onnx-geed layers net.onnx | head -1``, is no error: the status
    is that of the run. A stdout that is full, or was closed while nothing else keeps the result, is
    one. Where stderr is full or closed, a run goes on without it. A signal ends with 128 + its
    number.
    """

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command and exit with its status."""
        kwargs["standalone_mode"] = False
        restore = install()
        _show_messages()
        try:
            status = self._status(*args, **kwargs)
            sys.exit(status if isinstance(status, int) else 0)
        finally:
            _settle()
            restore()

    def _status(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            show(error.format_message(), kept=True)
            return 0
        except click.ClickException as error:
            message = " ".join(error.format_message().split())
            command = getattr(getattr(error, "ctx", None), "command_path", "onnx-geed")
            return fail(f"{message} (see {command} --help)")
        except (GeedError, OutputError) as error:
            return fail(str(error))
        except (KeyboardInterrupt, click.Abort):
            return _signalled(signal.SIGINT)
        except SignalledError as error:
            return _signalled(error.number)
        except BrokenPipeError:
            return 0  # the reader of a help text has gone
        except OSError as error:
            if number := caught():
                return _signalled(number)
            reason = f"{error.strerror or error}"
            return fail(reason + (f": {error.filename}" if error.filename else ""))
        except MemoryError:
            return fail("out of memory: take a smaller --batch-size or --memory, or fewer layers")
        except Exception as error:
            # A library may have made another error of a signal.
            if number := caught():
                return _signalled(number)
            if os.environ.get("ONNX_GEED_TRACEBACK"):
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}, line {last.lineno}"
            return fail(
                f"internal error, {type(error).__name__}: {error} ({where}); this is a "
                "fault of onnx-geed, please report it (with "
                "ONNX_GEED_TRACEBACK=1 it tells more)"
            )

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line."""
        with _reader_gone():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        with _reader_gone():
            return super().invoke(ctx)


@contextmanager
def _reader_gone() -> Iterator[None]:
    """Take a broken pipe from click, which would make the status 1 of it."""
    try:
        yield
    except BrokenPipeError:
        _silence(sys.stdout)
        raise click.exceptions.Exit(0) from None


def show(text: str, *, nl: bool = True, kept: bool = False) -> None:
    """Print on stdout.

    Parameters
    ----------
    text : str
        What.
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
        _silence(sys.stdout)  # the reader has what it wanted
    except (OSError, ValueError) as error:
        _silence(sys.stdout)
        why = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"stdout: cannot be written ({why})") from None


def tell(text: str) -> None:
    """Print a line on stderr, if anybody hears it."""
    try:
        _echo(text, True, err=True)
    except (OSError, ValueError):
        _silence(sys.stderr)


def _echo(text: str, nl: bool, *, err: bool) -> None:
    try:
        click.echo(text, nl=nl, err=err)
    except UnicodeEncodeError:  # a terminal of few letters, or a file name of odd bytes
        encoding = (sys.stderr if err else sys.stdout).encoding or "ascii"
        click.echo(text.encode(encoding, "replace").decode(encoding), nl=nl, err=err)


def _silence(stream: Any) -> None:
    """Lead a stream that fails to nowhere, where what it still holds can go."""
    try:
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    except (AttributeError, OSError, ValueError):
        pass


def _settle() -> None:
    """Leave nothing in the streams that Python would fail to write at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _silence(stream)


class _Lines(logging.Handler):
    """What the package says while it works, a line on stderr each."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(f"onnx-geed: {record.getMessage()}")


def _show_messages() -> None:
    logger = logging.getLogger("onnx_geed")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
        logger.setLevel(logging.INFO)


def fail(message: str) -> int:
    """Tell an error in one line; return the status that stands for it."""
    tell(f"onnx-geed: {' '.join(message.split())}")
    return 2


def _signalled(number: int) -> int:
    tell(line_of(number))
    return 128 + number


class _Listener:
    """Stderr for a bar, which goes on where the terminal has gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            _silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            _silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _heed(done: int, total: int) -> None:
    """End a run whose signal was swallowed by a library."""
    if number := caught():
        raise SignalledError(number)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Show rate and time left on stderr, if that is a terminal."""
    if not _is_terminal(sys.stderr):
        yield _heed
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(file=cast(IO[str], _Listener(sys.stderr))), transient=True
    ) as bar:
        task = bar.add_task("inferences", total=None, rate="")

        def update(done: int, total: int) -> None:
            _heed(done, total)
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield update


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # closed
        return False
