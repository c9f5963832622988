"""The progress of a run, as a bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from onnx_geed.cli.signals import SignalledError, caught
from onnx_geed.cli.terminal import silence

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["progress_bar"]


class _Listener:
    """Stderr for a bar, which goes on where the terminal has gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Unseen:
    """Progress where nobody looks."""

    def begin(self, unit: str) -> None:
        """Take note of nothing."""

    def __call__(self, done: int, total: int) -> None:
        """End a run whose signal was swallowed by a library."""
        if number := caught():
            raise SignalledError(number)


class _Bar(_Unseen):
    """Progress as a bar with rate and time left, which names what a run counts."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, rate="")

    def begin(self, unit: str) -> None:
        """Start anew, for a run that counts another thing or begins at nought."""
        self._bar.reset(self._task, total=None, description=unit, rate="")

    def __call__(self, done: int, total: int) -> None:
        """Show how far the run is."""
        super().__call__(done, total)
        speed = self._bar.tasks[0].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self._bar.update(self._task, completed=done, total=total, rate=rate)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Show how far a run is on stderr, if that is a terminal.

    Yields
    ------
    callable
        To be told how much is done, of how much; its method ``begin`` is told the unit before.
    """
    if not _is_terminal(sys.stderr):
        yield _Unseen()
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
    console = Console(file=cast(IO[str], _Listener(sys.stderr)))
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # closed
        return False
