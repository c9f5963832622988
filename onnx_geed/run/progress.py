"""The progress of a whole run: one meter that knows its unit and its total."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Meter", "Progress", "begin_run"]

Part = TypeVar("Part")


#: Told how many units are done, of how many. One that has a method ``begin`` is told the unit
#: first, such as ``"inferences"``; one that has a method ``run``, which of several runs comes.
Progress = Callable[[int, int], None]


def begin_run(progress: Progress | None, position: int, count: int, name: str) -> None:
    """Tell which of several runs comes, counted from 0, where there are several."""
    run = getattr(progress, "run", None)
    if run is not None and count > 1:
        run(position, count, name)


@dataclass
class Meter:
    """Count of what a run has done.

    Parameters
    ----------
    unit : str
        What is counted, in the plural: ``inferences`` or ``orbits``.
    total : int
        How many there will be, as far as is known.
    progress : callable, optional
        Told of every step.
    done : int
        How many there were.
    """

    unit: str
    total: int
    progress: Progress | None = None
    done: int = 0

    def __post_init__(self) -> None:
        begin = getattr(self.progress, "begin", None)
        if begin is not None:
            begin(self.unit)

    def add(self, units: int) -> None:
        """Count some units, and tell."""
        self.done += units
        if self.progress:
            self.progress(self.done, self.total)

    def counting(self, parts: Iterable[Part], units: Iterable[int]) -> Iterator[Part]:
        """Pass parts on, and count the units of each once it was taken in."""
        for part, count in zip(parts, units, strict=True):
            yield part
            self.add(count)

    def expect(self, units: int) -> None:
        """Say how many units are still to come, where that is better known now."""
        self.total = self.done + units
