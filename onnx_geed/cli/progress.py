"""The progress of a run, as a bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from onnx_geed.cli.collector import collecting_later
from onnx_geed.cli.signals import SignalledError, caught
from onnx_geed.cli.terminal import silence
from onnx_geed.text import shorten

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
    """Progress where nobody looks.

    Parameters
    ----------
    begun : callable
        To be told once a run begins.
    """

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun = begun

    def begin(self, unit: str) -> None:
        """Pass on that a run begins."""
        self._begun()

    def run(self, position: int, count: int, name: str) -> None:
        """Take note of nothing."""

    def __call__(self, done: int, total: int) -> None:
        """End a run whose signal was swallowed by a library."""
        if number := caught():
            raise SignalledError(number)


class _Told(_Unseen):
    """How far a command is: over all its runs, of which it may have several.

    Parameters
    ----------
    begun : callable
        To be told once a run begins.
    stage : str
        What the command does, such as ``measuring``.
    """

    def __init__(self, begun: Callable[[], None], stage: str) -> None:
        super().__init__(begun)
        self._stage, self._unit = stage, ""
        self._position, self._count, self._name = 0, 1, ""
        self._share = 0.0  # of the run at work
        # Seconds of runs that counted anything, and how many runs these make.
        self._spent, self._since, self._counted = 0.0, time.monotonic(), 0.0

    def begin(self, unit: str) -> None:
        """Start anew, for a run that counts another thing or begins at nought."""
        super().begin(unit)
        self._settle()
        self._unit, self._share = unit, 0.0
        self._show(self._name or self._stage, "")

    def run(self, position: int, count: int, name: str) -> None:
        """Go on to one of several runs, counted from 0."""
        self._settle()
        self._position, self._count, self._name, self._share = position, count, name, 0.0
        self._show(name, "")

    def _settle(self) -> None:
        now = time.monotonic()
        if self._share:  # what was kept from an earlier time took none
            self._spent += now - self._since
            self._counted += self._share
        self._since = now

    def __call__(self, done: int, total: int) -> None:
        """Show how far the run is; when all is counted, that it is not over yet."""
        super().__call__(done, total)
        self._share = done / total if total else 1.0
        stage = self._name or self._stage
        if self._share >= 1 and self._position + 1 == self._count:
            self._show(f"{stage}: summing up", "", busy=True)
        else:
            self._show(stage, f"{done:,}/{total:,} {self._unit}".strip())

    def left(self) -> float | None:
        """Return the seconds that are left, as far as those that were spent tell."""
        if not self._share:
            return None
        spent = self._spent + time.monotonic() - self._since
        counted = self._counted + self._share
        return spent / counted * (self._count - self._position - self._share)

    def _show(self, stage: str, counts: str, *, busy: bool = False) -> None:
        raise NotImplementedError


class _Bar(_Told):
    """Progress as one bar with its stage, unit, rate and time left."""

    def __init__(
        self, begun: Callable[[], None], bar: Progress, stage: str, *, narrow: bool
    ) -> None:
        super().__init__(begun, stage)
        self._bar, self._narrow, self._furthest = bar, narrow, 0.0
        self._task = bar.add_task(f"{stage}: reading", total=None, counts="", left="")

    def _show(self, stage: str, counts: str, *, busy: bool = False) -> None:
        several = self._count > 1
        # A run that first fits, then measures, counts from nought twice; the bar does not go back.
        self._furthest = (
            max(self._furthest, self._position + self._share) if several else (self._share)
        )
        head = f"{self._position + 1}/{self._count} {stage}" if several else stage
        head = head.rpartition(": ")[2] if busy and self._narrow else head
        seconds = None if busy else self.left()
        self._bar.update(
            self._task,
            description=shorten(head, 16 if self._narrow else 40),
            completed=self._furthest,
            total=None if busy or not (counts or several) else self._count,
            counts="" if self._narrow else counts,
            left="" if seconds is None else _clock(seconds),
        )


class _Lines(_Told):
    """Progress as a line now and then, for a terminal that draws nothing anew."""

    def __init__(self, begun: Callable[[], None], stream: Any, stage: str) -> None:
        super().__init__(begun, stage)
        self._stream, self._last = stream, time.monotonic()

    def _show(self, stage: str, counts: str, *, busy: bool = False) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_APART or not (counts or busy):
            return
        self._last, seconds = now, self.left()
        head = f"{self._position + 1}/{self._count} {stage}" if self._count > 1 else stage
        left = "" if busy or seconds is None else f", {_clock(seconds)} left"
        self._stream.write(f"{head}{': ' * bool(counts)}{counts}{left}\n")
        self._stream.flush()


# Seconds between lines where no bar can be drawn.
_SECONDS_APART = 20


# Columns below which a bar has room for its stage and the time left alone.
_NARROW = 70


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@contextmanager
def progress_bar(stage: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show how far a command is on stderr, if that is a terminal.

    Parameters
    ----------
    stage : str
        What it does, such as ``measuring``.
    quiet : bool
        Whether to show nothing all the same.

    Yields
    ------
    callable
        To be told how much is done, of how much; its method ``begin`` is told the unit before, and
        ``run`` which of several runs comes.
    """
    with collecting_later() as begun:
        if quiet or not _is_terminal(sys.stderr):
            yield _Unseen(begun)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=cast(IO[str], _Listener(sys.stderr)))
        if console.is_dumb_terminal:
            yield _Lines(begun, console.file, stage)
            return
        narrow = console.width < _NARROW
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10 if narrow else 30),
            TextColumn("{task.fields[counts]}", markup=False),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield _Bar(begun, bar, stage, narrow=narrow)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # closed
        return False
