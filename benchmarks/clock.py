"""Timing in turn: contenders, rounds, a line through two sample counts, ratios within a round."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contender:
    """A whole job, from nothing to values, for so many orbits."""

    name: str
    run: Callable[[int], Any]


@dataclass(frozen=True)
class Process:
    """What a process took by its starter's clock, and its peak resident memory."""

    seconds: float
    mebibytes: float


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest."""

    middle: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        return Spread(self.middle * factor, self.least * factor, self.most * factor)

    def __str__(self) -> str:
        return f"{_short(self.middle)} ({_short(self.least)} to {_short(self.most)})"


@dataclass(frozen=True)
class Claim:
    """A ratio of two contenders held against a target; the fastest of several is taken below.

    It is of times, or of peaks of ``memory``.
    """

    text: str
    above: str
    below: tuple[str, ...]
    target: float | None
    at_most: bool = True
    memory: bool = False

    @property
    def limit(self) -> str:
        if self.target is None:
            return "none set"
        return f"{'≤' if self.at_most else '≥'} {self.target:g}"

    def judged(self, ratio: Spread) -> str:
        """The target, and whether the median meets it."""
        met = {None: "", True: ": met", False: ": missed"}[self.holds(ratio.middle)]
        return self.limit + met

    def holds(self, ratio: float) -> bool | None:
        if self.target is None:
            return None
        return ratio <= self.target if self.at_most else ratio >= self.target


def _subject(claim: Claim, full: bool) -> str:
    if claim.memory:
        return "peak memory"
    return "whole job" if full else "one orbit"


def _short(value: float) -> str:
    return f"{value:.{max(0, 2 - len(str(int(abs(value)))) + 1)}f}"


@dataclass
class Race:
    """Times of contenders: ``seconds[contender][count]`` holds one entry a round.

    ``mebibytes`` has the same for the peak memory of those that are processes.
    """

    title: str
    counts: tuple[int, ...]
    seconds: dict[str, dict[int, list[float]]]
    claims: tuple[Claim, ...] = ()
    notes: list[str] = field(default_factory=list)
    mebibytes: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def full(self, name: str) -> Spread:
        """Seconds of the whole job at the largest count."""
        return Spread.of(self.seconds[name][self.counts[-1]])

    def peak(self, name: str) -> Spread:
        """MiB of the whole job at the largest count."""
        return Spread.of(self.mebibytes[name][self.counts[-1]])

    def slopes(self, name: str) -> list[float]:
        """Seconds an orbit, round by round: the line through both counts."""
        few, many = self.counts[0], self.counts[-1]
        times = self.seconds[name]
        return [(b - a) / (many - few) for a, b in zip(times[few], times[many], strict=True)]

    def fixed(self, name: str) -> Spread:
        """Seconds before the first orbit, by the same line."""
        few = self.counts[0]
        pairs = zip(self.seconds[name][few], self.slopes(name), strict=True)
        return Spread.of([t - few * s for t, s in pairs])

    def fitted(self) -> bool:
        return len(self.counts) > 1

    def ratio(self, claim: Claim, *, full: bool) -> tuple[Spread, str]:
        """Ratio within each round, to the best by median of those below; and who that was."""

        def times(name: str) -> list[float]:
            if claim.memory:
                return self.mebibytes[name][self.counts[-1]]
            return self.seconds[name][self.counts[-1]] if full else self.slopes(name)

        best = min(claim.below, key=lambda name: statistics.median(times(name)))
        pairs = zip(times(claim.above), times(best), strict=True)
        return Spread.of([a / b for a, b in pairs]), best

    def as_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "title": self.title,
            "counts": list(self.counts),
            "seconds": {k: {str(n): t for n, t in v.items()} for k, v in self.seconds.items()},
            "mebibytes": {k: {str(n): m for n, m in v.items()} for k, v in self.mebibytes.items()},
            "notes": self.notes,
            "claims": [],
        }
        for claim in self.claims:
            for full in (False, True) if self.fitted() else (True,):
                ratio, best = self.ratio(claim, full=full)
                content["claims"].append(
                    {
                        "text": claim.text,
                        "of": _subject(claim, full),
                        "against": best,
                        "median": ratio.middle,
                        "range": [ratio.least, ratio.most],
                        "target": claim.limit,
                        "met": claim.holds(ratio.middle),
                    }
                )
        return content


def race(
    title: str,
    contenders: Sequence[Contender],
    counts: Sequence[int],
    rounds: int,
    claims: Sequence[Claim] = (),
    notes: Sequence[str] = (),
    *,
    warm: int | None = None,
) -> Race:
    """Run all contenders in turn, ``rounds`` times after a warm-up (at the smallest count)."""
    seconds: dict[str, dict[int, list[float]]] = {
        c.name: {n: [] for n in counts} for c in contenders
    }
    peaks: dict[str, dict[int, list[float]]] = {}
    for contender in contenders:
        contender.run(counts[0] if warm is None else warm)
    for k in range(rounds):
        print(f"{title}: round {k + 1} of {rounds}", file=sys.stderr, flush=True)
        for count in counts:
            # Every other round backwards: nobody always follows the same neighbour.
            for contender in contenders if k % 2 == 0 else list(reversed(contenders)):
                gc.collect()
                started = time.perf_counter()
                outcome = contender.run(count)
                took = time.perf_counter() - started
                if isinstance(outcome, Process):
                    took = outcome.seconds
                    mine = peaks.setdefault(contender.name, {n: [] for n in counts})
                    mine[count].append(outcome.mebibytes)
                seconds[contender.name][count].append(took)
    known = {c.name for c in contenders}
    kept = tuple(c for c in claims if c.above in known and set(c.below) <= known)
    return Race(title, tuple(counts), seconds, kept, list(notes), peaks)


def agree(title: str, named: dict[str, dict[str, float]], tolerance: float = 1e-4) -> str:
    """Stop unless all contenders give the same values; say how far apart they are."""
    names = list(named)
    first, worst = named[names[0]], 0.0
    for name in names[1:]:
        if list(named[name]) != list(first):
            raise SystemExit(f"{title}: {names[0]} has {list(first)}, {name} {list(named[name])}")
        for key, value in first.items():
            apart = abs(named[name][key] - value) / max(abs(value), 1e-12)
            worst = max(worst, apart)
            if not apart <= tolerance:
                raise SystemExit(
                    f"{title}: {key} is {value!r} by {names[0]} and {named[name][key]!r} by "
                    f"{name}, apart by {apart:.1e}: nothing was timed"
                )
    return f"values of {' and '.join(names)} agree to {worst:.0e} ({len(first)} compared)"
