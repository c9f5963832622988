"""How far one sample is from the next: the scale that every value is read by, without inference.

Jobs run side by side, and a pair of neighbouring samples may lie in two of them. So a job hands the
f̂ of its last orbit to the next one: never an orbit, but where the last sample of a small D meets
the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import (
    Measure,
    Plan,
    deviations_from_references,
    f_hat,
    operands_of_orbits,
    view,
)

__all__ = ["MOST_PAIRS", "Between", "Pair", "Pairs", "around", "neighbours"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


#: So many samples of D are compared with the next one.
MOST_PAIRS = 16


@dataclass(frozen=True)
class Pair:
    """One sample's orbit against the reference of another.

    Parameters
    ----------
    deviations : ndarray of float64, shape (n,)
        m(f(gx'), φ_Y(g) f̂(x)), infinite where a class is possible for x' alone.
    square : float
        ‖f̂(x)‖₂² of points; 0 for what has a scale of its own.
    """

    deviations: F64
    square: float = 0.0


# Measure and layer.
_Key = tuple[str, str]


#: By measure and layer, and by the positions of x and x' in D.
Pairs = dict[_Key, dict[tuple[int, int], Pair]]


# Activations of some orbits: what a measure's deviation is computed from, and f̂.
_Held = dict[_Key, tuple[NDArray[Any], NDArray[Any]]]


def neighbours(count: int) -> list[tuple[int, int]]:
    """Return the pairs (p, p') of positions that are compared in a D of so many samples.

    Notes
    -----
    Each of the first 16 with the next one, the last with the first; none for one sample.
    """
    if count < 2:
        return []
    return [(p, (p + 1) % count) for p in range(min(MOST_PAIRS, count))]


def around(count: int) -> list[tuple[int, int]]:
    """Return the pairs that close the circle of fewer samples than there are."""
    return [(p, 0) for p in range(1, min(MOST_PAIRS, count))]


class Between:
    """The pairs of one pass over D.

    Parameters
    ----------
    plan : Plan
        What is measured.
    pairs : collection of (int, int)
        Which pairs, (p, p + 1) and (p, 0); by default those of D.
    rerun : callable, optional
        Gives the activations of the job in which a position lies, and the position of its first
        orbit, where that job is not going to come by itself; else ``None``.

    Notes
    -----
    A pair's number depends on the activations of its two orbits alone, so that it is the same
    however orbits are spread over jobs.
    """

    def __init__(
        self,
        plan: Plan,
        pairs: Collection[tuple[int, int]],
        rerun: Callable[[int], tuple[Mapping[str, F32], int] | None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._measures = {(m.name, m.layer): m for m in plan.measures}
        self._pairs = frozenset(pairs)
        self._rerun = rerun
        self._most = max((max(pair) for pair in pairs), default=-1)
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, int], Future[dict[_Key, NDArray[Any]]]] = {}
        self._left = sum(q == 0 for _, q in self._pairs)

    def awaits(self, first: int) -> bool:
        """Say whether a job with this first orbit is needed for a pair."""
        return first <= self._most

    def begin(self, arrays: Mapping[str, F32], first: int) -> Callable[[], Pairs]:
        """Take in a job's orbits, and hand on what others wait for.

        Parameters
        ----------
        arrays : mapping of str to ndarray of float32, shape (orbits, n, ...)
            Activations by tensor, finite; tensors of the plan that are absent are left out.
        first : int
            Position of the first orbit.

        Returns
        -------
        callable
            Waits for the jobs before this one, and returns the pairs whose later sample is in it.
            They have to be on their way.
        """
        if not self.awaits(first):
            return dict
        count = len(next(iter(arrays.values()))) if arrays else 0
        held = self._held(arrays, first)
        self._publish(held, first, first + count)
        made: Pairs = {key: {} for key in held}
        last = min(first + count - 1, self._most)
        inner = [p for p in range(first, last) if (p, p + 1) in self._pairs]
        circle = [p for p in range(first, last + 1) if (p, 0) in self._pairs]
        for key, (orbits, means) in held.items():
            measure, found = self._measures[key], made[key]
            if inner:
                few = slice(inner[0] - first, inner[-1] + 1 - first)
                later = orbits[few.start + 1 : few.stop + 1]
                for p, pair in zip(inner, _pairs(measure, later, means[few]), strict=True):
                    found[p, p + 1] = pair
            if first == 0:
                for p in circle:
                    found[p, 0] = _pairs(measure, orbits[:1], means[p : p + 1])[0]
        before = (first - 1, first) in self._pairs
        circle = [] if first == 0 else circle
        # Of the job, only what is still needed is kept.
        heads = {key: _own(orbits[:1]) for key, (orbits, _) in held.items()} if before else {}
        tails = {
            key: {p: _own(means[p - first : p - first + 1]) for p in circle}
            for key, (_, means) in held.items()
        }

        def finish() -> Pairs:
            if before:
                earlier = self._take("centre", first - 1)
                for key, orbit in heads.items():
                    pair = _pairs(self._measures[key], orbit, earlier[key])[0]
                    made[key][first - 1, first] = pair
            for p in circle:
                start = self._take("orbit", 0)
                for key, means in tails.items():
                    made[key][p, 0] = _pairs(self._measures[key], start[key], means[p])[0]
                self._done_with_start()
            return made

        return finish

    def fail(self, first: int, stop: int, error: BaseException) -> None:
        """Tell those who wait for orbits from ``first`` to before ``stop`` that none will come."""
        for key in self._handed(first, stop):
            slot = self._slot(key)
            if not slot.done():
                slot.set_exception(error)

    def _held(self, arrays: Mapping[str, F32], first: int) -> _Held:
        held: _Held = {}
        for measure in self._plan.measures:
            if measure.layer in arrays:
                few = arrays[measure.layer][: self._most + 1 - first]
                y = view(self._plan.layers[measure.layer], measure.descriptor, few)
                orbits = operands_of_orbits(measure, y)
                held[measure.name, measure.layer] = orbits, f_hat(measure, orbits)
        return held

    def _handed(self, first: int, stop: int) -> list[tuple[str, int]]:
        """Name what a job hands to others."""
        keys = []
        if (stop - 1, stop) in self._pairs:
            keys.append(("centre", stop - 1))
        if first == 0 and any(q == 0 and p >= stop for p, q in self._pairs):
            keys.append(("orbit", 0))
        return keys

    def _publish(self, held: _Held, first: int, stop: int) -> None:
        for name, position in self._handed(first, stop):
            what = {
                key: _own(orbits[:1] if name == "orbit" else means[-1:])
                for key, (orbits, means) in held.items()
            }
            slot = self._slot((name, position))
            if not slot.done():
                slot.set_result(what)

    def _slot(self, key: tuple[str, int]) -> Future[dict[_Key, NDArray[Any]]]:
        with self._lock:
            return self._slots.setdefault(key, Future())

    def _take(self, what: str, position: int) -> dict[_Key, NDArray[Any]]:
        with self._lock:
            asked_before = (what, position) in self._slots
            slot = self._slots.setdefault((what, position), Future())
        if not asked_before:
            try:
                self._again(position)
            except BaseException as error:
                slot.set_exception(error)
        found = slot.result()
        if what == "centre":
            with self._lock:
                del self._slots[what, position]
        return found

    def _again(self, position: int) -> None:
        """Hand on what a job that is not to come would have handed on."""
        if (again := self._rerun(position)) is not None:
            arrays, first = again
            stop = first + len(next(iter(arrays.values())))
            self._publish(self._held(arrays, first), first, stop)

    def _done_with_start(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._slots.pop(("orbit", 0), None)


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that keeps no larger one in memory."""
    base = array.base
    return array.copy() if isinstance(base, np.ndarray) and base.nbytes > array.nbytes else array


def _pairs(measure: Measure, orbits: NDArray[Any], means: NDArray[Any]) -> list[Pair]:
    deviations, _ = deviations_from_references(measure, orbits, means, check=False)
    squares = np.zeros(len(means))
    if measure.name.endswith("-l2"):
        squares = np.square(means).sum(axis=1)
    return [Pair(row, float(s)) for row, s in zip(deviations, squares, strict=True)]
