"""How far a run is, as a bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from onnx_geed.cli.signals import SignalledError, caught
from onnx_geed.cli.terminal import silence

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


class _Bar:
    """A bar on a terminal, told what is counted and how far a run is."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def begin(self, unit: str) -> None:
        """Name what is counted, in the plural."""
        self._bar.update(self._task, description=unit)

    def __call__(self, done: int, total: int) -> None:
        _heed(done, total)
        speed = self._bar.tasks[0].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self._bar.update(self._task, completed=done, total=total, rate=rate)


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
        yield _Bar(bar, bar.add_task("", total=None, rate=""))


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # closed
        return False
