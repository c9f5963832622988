"""However a command ends, it ends with one line on stderr and a status that means something."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from onnx_geed.cli.memory_limit import limit_of_this_process
from onnx_geed.cli.signals import SignalledError, caught, end_at_once, install, line_of
from onnx_geed.cli.terminal import OutputError, fail, settle, show, silence, tell
from onnx_geed.errors import OUT_OF_MEMORY, GeedError
from onnx_geed.overrun import end_by
from onnx_geed.text import format_bytes
from onnx_geed.wording import on_command_line

__all__ = ["OneLine"]


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
        _hush_hdf5()
        end_by(lambda fault: end_at_once(f"onnx-geed: {fault}", 2))
        shown, warnings.showwarning = warnings.showwarning, _warned
        # What a library logs of a damaged file stands in the line that refuses it.
        logged, logging.lastResort = logging.lastResort, logging.NullHandler()
        try:
            with on_command_line():
                status = self._status(*args, **kwargs)
            sys.exit(status if isinstance(status, int) else 0)
        finally:
            end_by(None)
            settle()
            restore()
            warnings.showwarning = shown
            logging.lastResort = logged

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
            return fail(f"{error}{_of_the_limit(str(error))}")
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
            return fail(f"{OUT_OF_MEMORY}{_of_the_limit(OUT_OF_MEMORY)}")
        except Exception as error:
            # A library may have made another error of a signal.
            if number := caught():
                return _signalled(number)
            if os.environ.get("ONNX_GEED_TRACEBACK"):
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}, line {last.lineno}"
            return fail(
                f"internal error, {type(error).__name__}: {error} ({where}); this is a bug in "
                "onnx-geed, please report it (ONNX_GEED_TRACEBACK=1 shows more)"
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
        silence(sys.stdout)
        raise click.exceptions.Exit(0) from None


def _signalled(number: int) -> int:
    tell(line_of(number))
    return 128 + number


def _of_the_limit(message: str) -> str:
    """Add the limit on memory to a message that may come of it."""
    memory = limit_of_this_process()
    if memory is None or not any(w in message for w in ("out of memory", "alloc", "MemoryError")):
        return ""
    return f" (the limit of this process is {format_bytes(memory)}; raise --memory-limit)"


def _warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Tell what a library warns of as a note, and not as two lines with a path of this machine."""
    tell(f"note: {category.__name__}: {' '.join(str(message).split())}")


class _Lines(logging.Handler):
    """The package's messages while it works, a line on stderr each."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(f"onnx-geed: {record.getMessage()}")


def _hush_hdf5() -> None:
    """Show no traceback where HDF5 cannot close what a damaged file holds, which was told."""
    plain = sys.unraisablehook
    if getattr(plain, "hushes_hdf5", False):
        return

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if "h5py." not in str(unraisable.object):
            plain(unraisable)

    hook.hushes_hdf5 = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def _show_messages() -> None:
    logger = logging.getLogger("onnx_geed")
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
        logger.setLevel(logging.INFO)
        # A large image is allowed or refused by what it takes, in one line; Pillow says it in two.
        warnings.filterwarnings("ignore", "Image size .* exceeds limit", RuntimeWarning)
