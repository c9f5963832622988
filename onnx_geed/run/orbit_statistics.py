"""Statistics of orbits: one value by measure and layer, joined in the order of the orbits.

Every engine makes such a value of a job, a cache is read into it, and records are made of it.
Joining is a function of values: the figures are the same to the last bit however the orbits were
spread over jobs, threads, processes or machines.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Measure, PlaceCounts, Plan, Spread, join_place_counts
from onnx_geed.run.between_samples import Pairs, join_pairs

__all__ = [
    "ChannelValues",
    "MeasureStatistics",
    "OrbitStatistics",
    "beside",
    "gather",
    "join",
    "join_closed",
    "join_measure",
]

F64 = NDArray[np.float64]


I64 = NDArray[np.int64]


Array = TypeVar("Array", F64, I64, NDArray[Any])


# So many values wait to be joined: few copies are made of what is joined already, and little waits.
_TOGETHER = 64


# What has a row for each orbit.
_BY_ORBIT = ("deviations", "zero_pairs", "exact", "predicted", "counts", "errors", "half")


# Rows of all orbits, by measure and layer, and which of these they are.
_Rows = dict[tuple[tuple[str, str], str], NDArray[Any]]


@dataclass(frozen=True)
class ChannelValues:
    """Values channel by channel, orbit by orbit, added up where they begin with the first orbit.

    Parameters
    ----------
    rows : ndarray of float64, shape (orbits, 2, C)
        −cos of each channel, mean over all elements and over the exact ones, of the orbits that
        are not yet added up.
    total : ndarray of float64, shape (2, C), optional
        Sum over the first orbits of D.
    added : int
        How many these are.

    Notes
    -----
    Sums are taken orbit by orbit from the first, so that they do not depend on how many orbits a
    job has; and only so, since sums of parts would round otherwise.
    """

    rows: F64
    total: F64 | None = None
    added: int = 0

    def summed(self) -> ChannelValues:
        """Add the rows to the total; they have to follow on what was added, or be the first."""
        total = np.zeros(self.rows.shape[1:]) if self.total is None else self.total
        for row in self.rows:
            total = total + row
        return ChannelValues(self.rows[:0], total, self.added + len(self.rows))

    def mean(self) -> F64:
        """Return the mean over orbits (2, C), of all elements and of the exact ones."""
        summed = self.summed()
        assert summed.total is not None
        return summed.total / summed.added


@dataclass(frozen=True)
class MeasureStatistics:
    """One measure on one layer, over some orbits.

    Parameters
    ----------
    deviations : ndarray of float64, shape (orbits, n)
        m(f(gx), φ_Y(g) f̂(x)), eq. (4).
    zero_pairs : ndarray of float64, shape (orbits, n)
        Share of cosines between two zero vectors.
    exact : ndarray of float64, shape (orbits, subgroup), optional
        Deviations under the exact subgroup, with its own f̂.
    inverse : ndarray of float64, shape (orbits, n), optional
        Deviations of the first orbits of D under the inverse of a given table.
    predicted : ndarray of int64, shape (orbits, n), optional
        Predicted classes.
    channels : ChannelValues, optional
        Values channel by channel.
    pairs : Pairs
        Deviations between samples.
    counts : ndarray of int64, shape (orbits, classes), optional
        How often each class is predicted for x itself, over its places.
    places : PlaceCounts, optional
        What is counted at the places of class scores.
    errors : ndarray of float64, shape (orbits, 3), optional
        Mean error over all elements, over the exact ones and over every second one of a sampled
        group, which shares of it are of.
    half : ndarray of float64, shape (orbits, n/2), optional
        Deviations under every second element of a sampled group, with its own f̂.
    """

    deviations: F64
    zero_pairs: F64
    exact: F64 | None = None
    inverse: F64 | None = None
    predicted: I64 | None = None
    channels: ChannelValues | None = None
    pairs: Pairs = field(default_factory=Pairs)
    counts: I64 | None = None
    places: PlaceCounts | None = None
    errors: F64 | None = None
    half: F64 | None = None


@dataclass(frozen=True)
class OrbitStatistics:
    """Statistics of some orbits, and some points for M.

    Parameters
    ----------
    orbits : range
        Positions of the orbits in D.
    measures : mapping of (str, str) to MeasureStatistics
        By measure and layer.
    pointed : range
        Positions of the points.
    points : mapping of str to ndarray of float64, shape (points, k)
        Latents of identity elements, by layer.
    spreads : mapping of (str, str) to Spread
        Whole tensors of identity elements, for M₂, by measure and layer.
    """

    orbits: range = range(0)
    measures: Mapping[tuple[str, str], MeasureStatistics] = field(default_factory=dict)
    pointed: range = range(0)
    points: Mapping[str, F64] = field(default_factory=dict)
    spreads: Mapping[tuple[str, str], Spread] = field(default_factory=dict)

    def without_points(self) -> OrbitStatistics:
        """Return the same where M was taken before."""
        return replace(self, pointed=range(0), points={}, spreads={})

    def with_points_of(self, norm_samples: int) -> OrbitStatistics:
        """Keep of latents those alone that M is taken over: of the first so many samples."""
        start = self.pointed.start
        pointed = range(start, max(start, min(self.pointed.stop, norm_samples)))
        points = {layer: rows[: len(pointed)] for layer, rows in self.points.items()}
        return replace(self, pointed=pointed, points=points)


def join(plan: Plan, parts: Sequence[OrbitStatistics]) -> OrbitStatistics:
    """Join the statistics of successive stretches of orbits.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    parts : sequence of OrbitStatistics
        In the order of their orbits; of each, the first begins where the one before ended.

    Returns
    -------
    OrbitStatistics

    Raises
    ------
    ValueError
        If orbits or points are missing between two parts, or are in both.

    Notes
    -----
    It does not matter which are joined first: (a + b) + c is a + (b + c), to the last bit.
    """
    return _joined({(m.name, m.layer): m for m in plan.measures}, parts)


def join_closed(
    keys: Iterable[tuple[str, str]], parts: Sequence[OrbitStatistics]
) -> OrbitStatistics:
    """Join the statistics of successive stretches, of which no pair of samples is left open.

    Parameters
    ----------
    keys : iterable of (str, str)
        Measures and layers.
    parts : sequence of OrbitStatistics
        As :func:`join` takes them.

    Returns
    -------
    OrbitStatistics
        As :func:`join` returns it, which knows the measures.

    Raises
    ------
    ValueError
        As :func:`join`, and if a pair is open.
    """
    return _joined(dict.fromkeys(keys), parts)


def _joined(
    measures: Mapping[tuple[str, str], Measure | None], parts: Sequence[OrbitStatistics]
) -> OrbitStatistics:
    orbits = _joined_stretches([part.orbits for part in parts])
    with_orbits = [part for part in parts if part.orbits]
    joined = {}
    for key, measure in measures.items():
        entries = [part.measures[key] for part in with_orbits if key in part.measures]
        if entries and len(entries) < len(with_orbits):
            raise ValueError(f"some orbits lack {'@'.join(key)}")
        if entries:
            joined[key] = join_measure(measure, entries, from_first=orbits.start == 0)
    rows: dict[str, list[F64]] = {}
    for part in parts:
        for layer, latents in part.points.items():
            rows.setdefault(layer, []).append(latents)
    points = {layer: _concatenated(latents) for layer, latents in rows.items()}
    pointed = _joined_stretches([part.pointed for part in parts])
    spreads = _joined_spreads(parts, from_first=pointed.start == 0)
    return OrbitStatistics(orbits, joined, pointed, points, spreads)


def _joined_spreads(
    parts: Sequence[OrbitStatistics], *, from_first: bool
) -> dict[tuple[str, str], Spread]:
    """Join tensors of successive samples, and add them up where they begin with the first."""
    by_key: dict[tuple[str, str], list[Spread]] = {}
    for part in parts:
        for key, spread in part.spreads.items():
            by_key.setdefault(key, []).append(spread)
    joined = {}
    for key, spreads in by_key.items():
        begun, *others = spreads
        if not from_first:
            joined[key] = replace(begun, rows=_concatenated([s.rows for s in spreads]))
            continue
        begun = begun.summed()
        for other in others:
            begun = replace(begun, rows=other.rows).summed()
        joined[key] = begun
    return joined


def gather(plan: Plan, parts: Iterable[OrbitStatistics], orbits: int) -> OrbitStatistics:
    """Join values as they come, in the order of their orbits.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    parts : iterable of OrbitStatistics
        As :func:`join` takes them.
    orbits : int
        How many orbits they are of, at most.

    Returns
    -------
    OrbitStatistics

    Notes
    -----
    What has a row for each orbit is written where it stays: arrays that grow would be copied again
    and again, and leave holes in memory.
    """
    joined, waiting, rows = OrbitStatistics(), list[OrbitStatistics](), _Rows()
    for part in parts:
        waiting.append(part)
        # Sides of pairs, and tensors for M₂, are large beside all else, and go where they meet.
        large = bool(part.spreads) or any(s.pairs.open for s in part.measures.values())
        if large or len(waiting) == _TOGETHER:
            joined, waiting = _put_by(join(plan, [joined, *waiting]), rows, orbits), []
    joined = _put_by(join(plan, [joined, *waiting]), rows, orbits)
    entries = {}
    for key, entry in joined.measures.items():
        present = [name for name in _BY_ORBIT if (key, name) in rows]
        whole: dict[str, Any] = {
            name: _first_of(rows[key, name], len(joined.orbits)) for name in present
        }
        entries[key] = replace(entry, **whole)
    return replace(joined, measures=entries)


def _put_by(joined: OrbitStatistics, rows: _Rows, orbits: int) -> OrbitStatistics:
    """Write the latest rows of orbits to where all are, and return the rest."""
    entries, stop = {}, len(joined.orbits)
    for key, entry in joined.measures.items():
        empty: dict[str, Any] = {}
        for name in _BY_ORBIT:
            latest = getattr(entry, name)
            if latest is None:
                continue
            if (key, name) not in rows:
                rows[key, name] = np.zeros((orbits, *latest.shape[1:]), latest.dtype)
            # Pages that nothing is written to take no memory: most zero pairs are none.
            if np.ascontiguousarray(latest).view(np.uint8).any():
                rows[key, name][stop - len(latest) : stop] = latest
            empty[name] = np.empty((0, *latest.shape[1:]), latest.dtype)
        entries[key] = replace(entry, **empty)
    return replace(joined, measures=entries)


def _first_of(rows: NDArray[Any], count: int) -> NDArray[Any]:
    return rows if len(rows) == count else rows[:count].copy()


def beside(parts: Iterable[OrbitStatistics]) -> OrbitStatistics:
    """Bring together the statistics of several passes: the same orbits, other layers.

    Parameters
    ----------
    parts : iterable of OrbitStatistics
        One a pass.

    Returns
    -------
    OrbitStatistics
    """
    together = OrbitStatistics()
    for part in parts:
        together = replace(
            together,
            orbits=part.orbits or together.orbits,
            measures={**together.measures, **part.measures},
            pointed=part.pointed or together.pointed,
            points={**together.points, **part.points},
            spreads={**together.spreads, **part.spreads},
        )
    return together


def _joined_stretches(stretches: Sequence[range]) -> range:
    """Return all positions of stretches that follow each other."""
    present = [stretch for stretch in stretches if stretch]
    for before, after in itertools.pairwise(present):
        if before.stop != after.start:
            raise ValueError(
                f"what begins at {after.start} does not follow on what ends at {before.stop}"
            )
    return range(present[0].start, present[-1].stop) if present else range(0)


def join_measure(
    measure: Measure | None, parts: Sequence[MeasureStatistics], *, from_first: bool
) -> MeasureStatistics:
    """Join the statistics of one measure over successive stretches of orbits.

    Parameters
    ----------
    measure : Measure, optional
        The measure; needed where pairs of samples are open.
    parts : sequence of MeasureStatistics
        In order.
    from_first : bool
        Whether they begin with the first orbit of D, so that sums over orbits are taken.

    Returns
    -------
    MeasureStatistics
    """
    channels = None
    if kept := [part.channels for part in parts if part.channels is not None]:
        channels = replace(kept[0], rows=np.concatenate([values.rows for values in kept]))
        channels = channels.summed() if from_first else channels
    return MeasureStatistics(
        _concatenated([part.deviations for part in parts]),
        _concatenated([part.zero_pairs for part in parts]),
        _concatenated_present([part.exact for part in parts]),
        _concatenated_present([part.inverse for part in parts]),
        _concatenated_present([part.predicted for part in parts]),
        channels,
        join_pairs(measure, [part.pairs for part in parts]),
        _concatenated_present([part.counts for part in parts]),
        join_place_counts([part.places for part in parts if part.places is not None]),
        _concatenated_present([part.errors for part in parts]),
        _concatenated_present([part.half for part in parts]),
    )


def _concatenated(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _concatenated_present(parts: Sequence[Array | None]) -> Array | None:
    present = [part for part in parts if part is not None]
    return _concatenated(present) if present else None
