"""Forecast of a long suite: what is about to run, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from onnx_geed.run.suite_file import Cell

__all__ = ["Forecast"]

# From so many runs on a suite is long. Seconds from one line to the next.
_LONG, _EVERY = 100, 60.0


class Forecast:
    """Says what a long suite is about to do, and from time to time how long it will take.

    Parameters
    ----------
    cells : sequence of Cell
        Its runs; of a short suite nothing is said.
    folder : str or Path
        Where their results go.
    say : callable
        Told a line.
    clock : callable
        Seconds of a clock.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        folder: str | Path,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._done, self._say, self._clock = len(cells), 0, say, clock
        self._started = self._told = clock()
        if self._count < _LONG:
            return
        models = len({cell.path for cell in cells})
        data = len({cell.data for cell in cells})
        groups = len({cell.group for cell in cells})
        each = ", ".join(
            f"{count:,} {noun}{'s' * (count > 1)}"
            for count, noun in ((models, "model file"), (data, "data set"), (groups, "group"))
        )
        say(
            f"note: {self._count:,} runs ({each}); each result is written to {folder}, so that the "
            "same command goes on where it was stopped"
        )

    def add(self) -> None:
        """Count a run that is done."""
        self._done += 1
        now = self._clock()
        if self._count < _LONG or now - self._told < _EVERY or self._done == self._count:
            return
        self._told = now
        left = (now - self._started) / self._done * (self._count - self._done)
        about = f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"
        self._say(f"note: {self._done:,} of {self._count:,} runs are done, about {about} left")
