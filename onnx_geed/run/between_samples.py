"""How far one sample is from the next: the scale that every value is read by, from orbits at hand.

A pair of neighbouring samples may lie in two jobs. So a job's value carries, of each such pair, the
side that it has: f̂ of the earlier sample, or the orbit of the later one. Where two values are
joined, their sides meet; jobs of one process hand f̂ on before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import (
    Layer,
    Measure,
    by_sample,
    deviations_from_references,
    deviations_of_sums,
    f_hat,
    operands_of_orbits,
    view,
)

__all__ = [
    "MOST_PAIRS",
    "Centres",
    "Pair",
    "Pairs",
    "Side",
    "around",
    "join_pairs",
    "neighbours",
    "pairs_of_sums",
    "pairs_of_views",
    "pairs_within",
    "without_base",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# Places that are no padding.
Real = NDArray[np.bool_]


#: So many samples of D are compared with the next one.
MOST_PAIRS = 16


# Measure and layer.
Key = tuple[str, str]


# Positions in D of x, whose f̂ is the reference, and of x', whose orbit is held against it.
_Where = tuple[int, int]


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


@dataclass(frozen=True)
class Side:
    """One sample's share in a pair: its f̂ as the reference, or its orbit.

    Parameters
    ----------
    centre : ndarray, shape (1, ...), optional
        f̂(x), as :func:`onnx_geed.measures.f_hat` returns it.
    orbit : ndarray, shape (1, n, ...), optional
        f(gx'), as :func:`onnx_geed.measures.operands_of_orbits` returns it.
    real : ndarray of bool, shape (P,), optional
        Of scores at places, those of this sample that are no padding; all by default.
    """

    centre: NDArray[Any] | None = None
    orbit: NDArray[Any] | None = None
    real: Real | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs of one measure on some orbits.

    Parameters
    ----------
    complete : mapping of (int, int) to Pair
        By the positions of x and x' in D.
    open : mapping of (int, int) to Side
        Pairs of which one sample lies elsewhere.
    """

    complete: Mapping[_Where, Pair] = field(default_factory=dict)
    open: Mapping[_Where, Side] = field(default_factory=dict)


def neighbours(count: int) -> list[_Where]:
    """Return the pairs (p, p') of positions that are compared in a D of so many samples.

    Notes
    -----
    Each of the first 16 with the next one, the last with the first; none for one sample.
    """
    if count < 2:
        return []
    return [(p, (p + 1) % count) for p in range(min(MOST_PAIRS, count))]


def around(count: int) -> list[_Where]:
    """Return the pairs that close the circle of fewer samples than there are."""
    return [(p, 0) for p in range(1, min(MOST_PAIRS, count))]


def over_real(measure: Measure, y: F32, share: F64 | None) -> F32:
    """Return what a measure sees of masked orbits: of points, means over what is no padding.

    Parameters
    ----------
    measure : Measure
        What is measured.
    y : ndarray of float32, shape (N, n, ...)
        As :func:`onnx_geed.measures.view` returns it, padding being zero.
    share : ndarray of float64, shape (N,), optional
        Share of places that is real.
    """
    if share is None or measure.descriptor.view != "points":
        return y
    return (y / share.reshape(-1, *(1 for _ in y.shape[1:]))).astype(np.float32)


def pairs_within(
    measure: Measure,
    layer: Layer,
    y: F32,
    first: int,
    wanted: Collection[_Where],
    share: F64 | None = None,
) -> Pairs:
    """Take the pairs whose samples are among some orbits, and the sides of those that half are.

    Parameters
    ----------
    measure : Measure
        What is measured.
    layer : Layer
        Its tensor.
    y : ndarray of float32, shape (orbits, n, ...)
        The tensor's activations, finite.
    first : int
        Position of the first orbit.
    wanted : collection of (int, int)
        Pairs (p, p + 1) and (p, 0).
    share : ndarray of float64, shape (orbits,), optional
        Share of places that is no padding, which is zero.

    Returns
    -------
    Pairs

    Notes
    -----
    A pair's number depends on the activations of its two orbits alone, so that it is the same
    however orbits are spread over jobs. Where elements differ from sample to sample, those of x'
    move f̂(x).
    """
    here = range(first, first + len(y))
    stop = max((p + 1 - first for pair in wanted for p in pair if p in here), default=0)
    if not stop:
        return Pairs()
    return pairs_of_views(measure, view(layer, measure, y[:stop]), first, wanted, share)


def pairs_of_views(
    measure: Measure,
    y: F32,
    first: int,
    wanted: Collection[_Where],
    share: F64 | None = None,
    real: Real | None = None,
) -> Pairs:
    """Take pairs as :func:`pairs_within`, of orbits as :func:`onnx_geed.measures.view` has them.

    Of scores at places those are compared that are ``real``, (orbits, P), in both samples. Two that
    have none in common are no pair.
    """
    here = range(first, first + len(y))
    touched = sorted(pair for pair in wanted if pair[0] in here or pair[1] in here)
    if not touched:
        return Pairs()
    last = max(p for pair in touched for p in pair if p in here)
    stop = last + 1 - first
    few = over_real(measure, y[:stop], None if share is None else share[:stop])
    orbits, means = _operands(measure, few, first)
    complete: dict[_Where, Pair] = {}
    sides: dict[_Where, Side] = {}
    row = [p for p, q in touched if p in here and q in here and q == p + 1]
    if row and measure.drawn is None:
        # Those that follow each other are taken at once.
        some = slice(row[0] - first, row[-1] + 1 - first)
        later = orbits[some.start + 1 : some.stop + 1]
        both = None if real is None else real[some] & real[some.start + 1 : some.stop + 1]
        for p, pair in zip(row, _pair_deviations(measure, later, means[some], both), strict=True):
            if pair is not None:
                complete[p, p + 1] = pair
    for p, q in touched:
        if (p, q) in complete or (measure.drawn is None and p in row and q == p + 1):
            continue
        centre = means[p - first : p - first + 1] if p in here else None
        orbit = orbits[q - first : q - first + 1] if q in here else None
        marks = [real[k - first] for k in (p, q) if k in here] if real is not None else []
        if centre is not None and orbit is not None:
            both = (marks[0] & marks[1])[None] if marks else None
            (pair,) = _pair_deviations(measure.of(q), orbit, centre, both)
            if pair is not None:
                complete[p, q] = pair
        else:
            left, right = (None if y is None else without_base(y) for y in (centre, orbit))
            sides[p, q] = Side(left, right, marks[0] if marks else None)
    return Pairs(complete, sides)


def _operands(measure: Measure, y: F32, first: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return f(gx) of some orbits as m compares it, and f̂(x)."""
    both = []
    for own, _, rows in by_sample(measure, y, first):
        orbits = operands_of_orbits(own, rows)
        both.append((orbits, f_hat(own, orbits)))
    if len(both) == 1:
        return both[0]
    orbits, means = (np.concatenate(parts) for parts in zip(*both, strict=True))
    return orbits, means


def join_pairs(measure: Measure | None, parts: Sequence[Pairs]) -> Pairs:
    """Bring the pairs of several stretches of orbits together, and complete those that meet.

    Parameters
    ----------
    measure : Measure, optional
        What is measured; needed where open pairs meet.
    parts : sequence of Pairs
        Of different orbits, in any order.

    Returns
    -------
    Pairs
    """
    complete: dict[_Where, Pair] = {}
    sides: dict[_Where, Side] = {}
    for part in parts:
        complete |= part.complete
        for where, side in part.open.items():
            other = sides.pop(where, None)
            if other is None:
                sides[where] = side
                continue
            centre = side.centre if other.centre is None else other.centre
            orbit = side.orbit if other.orbit is None else other.orbit
            if centre is None or orbit is None:
                raise ValueError(f"two parts bring the same side of the pair {where}")
            if measure is None:
                raise ValueError(f"the pair {where} is open")
            own, both = measure.of(where[1]), None
            if side.real is not None and other.real is not None:
                both = (side.real & other.real)[None]
            (pair,) = _pair_deviations(own, orbit, centre, both)
            if pair is not None:
                complete[where] = pair
    # What one process could complete by itself, it did: the other side is of no use then.
    return Pairs(complete, {where: s for where, s in sides.items() if where not in complete})


def pairs_of_sums(measure: Measure, sums: F64, centres: F32) -> list[Pair]:
    """Return pairs of a measure of maps from sums (N, n, C, 3) against f̂(x), (N, C, ...)."""
    deviations, _, _ = deviations_of_sums(measure, sums)
    return [_pair(measure, row, centre) for row, centre in zip(deviations, centres, strict=True)]


class Centres:
    """f̂ of samples, left by the job of one for that of the next, in one process.

    A job waits for what another has begun to compute, and for nothing else.

    Parameters
    ----------
    position : int
        The last sample of the jobs before, if any.
    known : mapping of (str, str) to ndarray
        What these left of it, as :meth:`left` returns it.
    """

    def __init__(
        self, position: int = -1, known: Mapping[Key, NDArray[Any]] = MappingProxyType({})
    ) -> None:
        self._coming: dict[tuple[int, Key], Future[NDArray[Any] | None]] = {}
        with self.promised(position, known):
            self.give(position, known)

    def left(self, position: int) -> dict[Key, NDArray[Any]]:
        """Return f̂ of a sample whose job is done, by measure and layer, as far as none took it."""
        coming = {key: future for (at, key), future in self._coming.items() if at == position}
        results = {key: future.result() for key, future in coming.items() if future.done()}
        return {key: centre for key, centre in results.items() if centre is not None}

    @contextmanager
    def promised(self, position: int, keys: Iterable[Key]) -> Iterator[None]:
        """Let others wait for a sample's f̂ while it is computed; they fail if that fails."""
        futures: dict[tuple[int, Key], Future[NDArray[Any] | None]]
        futures = {(position, key): Future() for key in keys}
        self._coming.update(futures)
        try:
            yield
        except BaseException as error:
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)
            raise
        for future in futures.values():
            # What was promised and did not come is waited for by nobody.
            if not future.done():
                future.set_result(None)

    def give(self, position: int, centres: Mapping[Key, NDArray[Any]]) -> None:
        """Leave a sample's f̂, by measure and layer, for whoever takes it; nothing if none will."""
        for key, centre in centres.items():
            future = self._coming.get((position, key))
            if future is not None and not future.done():
                future.set_result(centre)

    def take(self, position: int, keys: Sequence[Key]) -> list[NDArray[Any]] | None:
        """Take a sample's f̂, which is left here once; ``None`` where no job here computes it."""
        coming = [self._coming.get((position, key)) for key in keys]
        present = [future for future in coming if future is not None]
        if len(present) < len(coming):
            return None
        results = [future.result() for future in present]
        for key in keys:
            del self._coming[position, key]
        centres = [centre for centre in results if centre is not None]
        return centres if len(centres) == len(results) else None


def without_base(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that keeps no larger one in memory."""
    base = array.base
    return array.copy() if isinstance(base, np.ndarray) and base.nbytes > array.nbytes else array


def _pair_deviations(
    measure: Measure, orbits: NDArray[Any], means: NDArray[Any], both: Real | None
) -> list[Pair | None]:
    """Return pairs, of scores over the places (N, P) that are real in both; none without one."""
    factors = np.ones(orbits.shape[:2])
    if both is not None and measure.places is not None:
        # Equal there, what is padding in either adds nothing; the mean is over the other places.
        orbits = np.where(both[:, None, :, None], orbits, 0)
        means = np.where(both[..., None], means, 0)
        inside = measure.places.inside
        common = (inside & both[:, None]).sum(axis=2)
        factors = inside.sum(axis=1) / np.maximum(common, 1) * np.where(common, 1, np.nan)
    deviations, _ = deviations_from_references(measure, orbits, means, check=False)
    deviations = deviations * factors
    return [
        None if np.isnan(factor).any() else _pair(measure, row, mean)
        for row, mean, factor in zip(deviations, means, factors, strict=True)
    ]


def _pair(measure: Measure, deviations: F64, mean: NDArray[Any]) -> Pair:
    square = 0.0
    if measure.descriptor.in_tensor_units:
        square = float(np.square(mean, dtype=np.float64).reshape(1, -1).sum(axis=1)[0])
    return Pair(deviations, square)
