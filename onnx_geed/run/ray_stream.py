"""Streams of jobs, one a run, that share the workers of a cluster, and whose turn it is."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx_geed.run.ray_worker import Outcome

__all__ = ["Flight", "Stream", "whose_turn"]

# A job that takes longer than that many seconds is not sent to a worker before it is free.
_LONG = 1.0


# Jobs that may be ahead of the oldest one, for each worker.
_AHEAD = 4


# Seconds of workers by which a stream may be ahead of others, so that sessions are not opened for
# every job.
_TURN = 5.0


@dataclass(eq=False)
class Stream:
    """The jobs of a run, on their way to workers, and what they gave, on its way back.

    Parameters
    ----------
    shared : tuple of (str, ObjectRef)
        What the worker's method is given with every job.
    jobs : iterator
        The jobs, in order.
    packed : callable
        Brings a job to bytes.
    most : int
        Workers on one node that may run them.
    """

    shared: tuple[tuple[str, Any], ...]
    jobs: Iterator[Any]
    packed: Callable[[Any], bytes]
    most: int = sys.maxsize
    #: In order, for whoever takes them: outcomes, then None; or an error.
    ready: queue.SimpleQueue[Outcome | Exception | None] = field(default_factory=queue.SimpleQueue)
    done: dict[int, Outcome | Exception] = field(default_factory=dict)
    again: list[Flight] = field(default_factory=list)
    sent: int = 0
    given: int = 0
    taken: int = 0
    flying: int = 0
    ended: bool = False
    #: The next one of the jobs.
    upcoming: Any = None
    #: Of one of its latest jobs, and of all of them.
    seconds: float | None = None
    spent: float = 0.0
    #: Workers in a row that died while they opened what its jobs need.
    openings: int = 0

    @property
    def is_short(self) -> bool:
        """Whether its jobs are so short that a worker is to have the next one at hand."""
        return self.seconds is not None and self.seconds < _LONG

    def has_job(self, workers: int, *, second: bool = False) -> bool:
        """Whether a job may be sent: what came too early waits here, and is to be little.

        Parameters
        ----------
        workers : int
            Those that there are.
        second : bool
            Whether it is for a worker that has one: a job that has lost its worker runs alone, so
            that it is known which one is to blame for the next death.
        """
        return (bool(self.again) and not second) or self._has_new(workers)

    def _has_new(self, workers: int) -> bool:
        return not self.ended and self.sent - self.taken < _AHEAD * max(1, workers)

    @property
    def owed(self) -> float:
        """Seconds of workers that it had, and is to have for what was sent."""
        return self.spent + self.flying * (1.0 if self.seconds is None else self.seconds)

    def __post_init__(self) -> None:
        self._look_ahead()
        self.hand_over()

    def next(self, workers: int, *, fresh: bool = False, second: bool = False) -> Flight:
        """Return the next job to be sent.

        Parameters
        ----------
        workers, second
            As :meth:`has_job` takes them.
        fresh : bool
            Whether the worker has yet to show that it stays: rather than one that has lost its
            worker it gets another job.
        """
        if self.again and not second and not (fresh and self._has_new(workers)):
            if fresh:
                self.again.sort(key=lambda flight: (flight.deaths, flight.number))
            else:
                self.again.sort(key=lambda flight: flight.number)
            return self.again.pop(0)
        job = self.upcoming
        flight = Flight(self, self.sent, self.packed(job), _named(job))
        self.sent += 1
        self._look_ahead()
        return flight

    def _look_ahead(self) -> None:
        self.upcoming = next(self.jobs, None)
        self.ended |= self.upcoming is None

    def put(self, number: int, outcome: Outcome | Exception) -> None:
        """Take what a job gave; after one that failed, no more are sent."""
        if isinstance(outcome, Outcome):
            self.spent += outcome.seconds
            before = outcome.seconds if self.seconds is None else self.seconds
            self.seconds = 0.5 * (before + outcome.seconds)
        if isinstance(outcome, Exception) or outcome.error is not None:
            self.ended = True
            self.again = [flight for flight in self.again if flight.number < number]
        self.done[number] = outcome
        self.hand_over()

    def hand_over(self) -> None:
        """Hand over what is there, in order."""
        while self.given in self.done:
            self.ready.put(self.done.pop(self.given))
            self.given += 1
        if self.ended and self.given == self.sent:
            self.ready.put(None)


@dataclass(eq=False)
class Flight:
    """A job that was sent."""

    stream: Stream
    number: int
    content: bytes
    name: str
    deaths: int = 0
    #: How often it was sent: only the last time counts.
    tries: int = 0
    #: Whether all that it needs was open when it was last sent, or is since.
    begun: bool = False


def whose_turn(streams: Sequence[Stream], own: Stream | None) -> Stream:
    """Return the stream that a worker that is free takes a job of.

    Parameters
    ----------
    streams : sequence of Stream
        Those that have one.
    own : Stream, optional
        The one that it had its last job of.

    Returns
    -------
    Stream
        The one that had the least time of workers, or its own while that is not far ahead.
    """
    least = min(streams, key=lambda stream: stream.owed)
    if own is not None and own in streams and own.owed <= least.owed + _TURN:
        return own
    return least


def _named(job: Any) -> str:
    """Name a job for a message."""
    positions = getattr(job, "positions", None)
    if not positions:
        return f"the job at sample {job}" if isinstance(job, int) else "a job"
    return f"the job of samples {positions[0]} to {positions[-1]}"
