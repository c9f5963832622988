"""How the command line behaves: errors in one line, signals, progress."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from onnx_geed.errors import GeedError

__all__ = ["OneLine", "progress_bar"]


class OneLine(click.Group):
    """A group whose errors are one line on stderr and exit status 2."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command and exit with its status."""
        kwargs["standalone_mode"] = False
        _end_cleanly_on_sigterm()
        _show_messages()
        try:
            status = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            message = " ".join(error.format_message().split())
            command = getattr(getattr(error, "ctx", None), "command_path", "onnx-geed")
            _fail(f"{message} (see {command} --help)")
        except GeedError as error:
            _fail(str(error))
        except (KeyboardInterrupt, click.Abort):
            click.echo("onnx-geed: interrupted", err=True)
            sys.exit(130)
        except _TerminatedError:
            click.echo("onnx-geed: terminated", err=True)
            sys.exit(143)
        except BrokenPipeError:
            raise  # click ends quietly when the reader has gone
        except OSError as error:
            _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        except MemoryError:
            _fail("out of memory: take a smaller --batch-size or --memory, or fewer layers")
        sys.exit(status if isinstance(status, int) else 0)


class _TerminatedError(BaseException):
    """SIGTERM came: wind up as for Ctrl-C, orbits in flight are finished."""


def _end_cleanly_on_sigterm() -> None:
    def stop(*_: Any) -> NoReturn:
        raise _TerminatedError

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


class _Lines(logging.Handler):
    """What the package says while it works, a line on stderr each."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"onnx-geed: {record.getMessage()}", err=True)


def _show_messages() -> None:
    logger = logging.getLogger("onnx_geed")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
        logger.setLevel(logging.INFO)


def _fail(message: str) -> NoReturn:
    click.echo(f"onnx-geed: {' '.join(message.split())}", err=True)
    sys.exit(2)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Show rate and time left on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("inferences", total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield update
