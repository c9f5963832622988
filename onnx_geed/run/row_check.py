"""Rows of real jobs, run again alone where no proof says that a batch keeps them apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.run.joining import Rows
from onnx_geed.run.row_change import dependent, most_change, relative_change, spread
from onnx_geed.run.session import Runner

__all__ = ["Beside", "FirstRunCheck", "RowCheck", "nothing_beside", "spreads"]

F32 = NDArray[np.float32]

#: Makes the rows of other inputs that the group moves.
Beside = Callable[[], Sequence[NDArray[Any]]]


def nothing_beside() -> Sequence[NDArray[Any]]:
    """Return no rows: those of a network with one moved input."""
    return ()


# Jobs that are checked besides the first, the last, those at powers of two and the extreme ones.
_DRAWN = 4


@dataclass(eq=False)
class _Extremes:
    """The largest and smallest rows so far."""

    high: NDArray[np.float64] | None = None
    low: NDArray[np.float64] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def exceeded(self, sizes: NDArray[np.float64]) -> bool:
        """Take in a job's rows; say whether one is more extreme than all before."""
        high, low = sizes.max(axis=1), sizes.min(axis=1)
        with self.lock:
            if self.high is None or self.low is None:
                self.high, self.low = high, low
                return True
            extreme = bool((high > self.high).any() or (low < self.low).any())
            self.high, self.low = np.maximum(high, self.high), np.minimum(low, self.low)
        return extreme


@dataclass(eq=False)
class _Sizes:
    """The numbers of rows that were run together and looked at so far."""

    seen: set[int] = field(default_factory=lambda: {1})
    lock: threading.Lock = field(default_factory=threading.Lock)

    def grown(self, sizes: set[int]) -> bool:
        """Take in numbers of rows; say whether one is new."""
        with self.lock:
            new = not sizes <= self.seen
            self.seen |= sizes
        return new


@dataclass(eq=False)
class RowCheck:
    """Chooses jobs whose rows are run again alone; it remembers the most extreme rows so far.

    Parameters
    ----------
    spreads : mapping of str to float
        By tensor, how far apart rows were when the model was tried out; where that is not known,
        the rows of a job tell.
    count : int
        Orbits of D.
    seed : int
        By which positions and rows are drawn.
    every : bool
        Whether all rows of all jobs are run again alone.
    cure : str
        What to do where they differ.
    once : bool
        Whether one row of the first job is enough: a proof says the rest.
    half : frozenset of str
        Tensors on whose way numbers are rounded to half precision.
    most : int
        Where that proof leans on what the graph makes of how many rows there are: how many are run
        at once at most. Then one row of the first run of every number of rows is looked at.

    Notes
    -----
    Checked are the first and the last job, those at doubling distances from the first, a few that
    are drawn, and every job that holds a more extreme row than all that were run before it; so the
    job with the largest and the one with the smallest row of the whole run are always among them.
    Of a job, its largest and smallest rows are run again alone, and one that is drawn.
    """

    spreads: Mapping[str, float]
    count: int
    seed: int
    every: bool = False
    cure: str = "run them one by one with --batch-size 1"
    once: bool = False
    half: frozenset[str] = frozenset()
    most: int = 0
    _extremes: _Extremes = field(default_factory=_Extremes, init=False, repr=False)
    _sizes: _Sizes = field(default_factory=_Sizes, init=False, repr=False)

    def __reduce__(self) -> tuple[type[RowCheck], tuple[object, ...]]:
        # The most extreme rows so far, and the numbers of them, are those of one process.
        given = self.spreads, self.count, self.seed, self.every, self.cure, self.once
        return RowCheck, (*given, self.half, self.most)

    def over(self, count: int) -> RowCheck:
        """Return what checks so many orbits of D."""
        return replace(self, count=count)

    def wants(
        self, positions: Sequence[int], total: int, rows: F32, beside: Beside = nothing_beside
    ) -> bool:
        """Say whether a job is to be checked.

        Parameters
        ----------
        positions : sequence of int
            Positions of its samples.
        total : int
            Samples in all, the points for M too.
        rows : ndarray of float32, shape (R, ...)
            Its model inputs.
        beside : callable
            Makes those of other inputs that the group moves, ndarrays of shape (R, ...). It is
            called only if they decide, since orbits of them may have to be made for it.
        """
        if self.most:
            return self._sizes.grown({len(run) for run in self._runs(len(rows))})
        if self.once:
            return 0 in positions
        chosen = {2**k - 1 for k in range(total.bit_length() + 1)}
        chosen |= {self.count - 1, self.count, total - 1}
        rng = np.random.default_rng([self.seed, total])
        chosen |= {int(i) for i in rng.integers(0, total, size=_DRAWN)}
        return (
            self.every
            or self._extremes.exceeded(_row_sizes([rows, *beside()]))
            or not chosen.isdisjoint(positions)
        )

    def compare(
        self,
        runner: Runner,
        rows: F32,
        arrays: Mapping[str, F32],
        run: Callable[[int], Mapping[str, F32]],
        label: Callable[[int], str],
        others: Mapping[str, NDArray[Any]],
        beside: Sequence[NDArray[Any]] = (),
    ) -> None:
        """Run some rows of a job again alone.

        Parameters
        ----------
        runner : Runner
            Whose tensors they are.
        rows : ndarray of float32, shape (R, ...)
            Model inputs that were run together.
        arrays : mapping of str to ndarray of float32, shape (R, ...)
            Their activations, by tensor.
        run : callable
            Runs one of the rows alone.
        label : callable
            Names the sample of a row.
        others : mapping of str to ndarray
            The other inputs of the first of these rows.
        beside : sequence of ndarray, shape (R, ...) each
            All rows of those that the group moves.

        Raises
        ------
        GeedError
            If a row differs by more than a thousandth of the spread between rows (a fiftieth where
            numbers are rounded to half precision), naming its sample.
        """
        sizes = _row_sizes([rows, *beside])
        rng = np.random.default_rng([self.seed, len(rows)])
        drawn = int(rng.integers(len(rows)))
        extreme = (*sizes.argmax(axis=1), *sizes.argmin(axis=1))
        picks = [drawn] if self.once else sorted({int(i) for i in (*extreme, drawn)})
        if self.most:
            picks = [int(rng.integers(run.start, run.stop)) for run in self._runs(len(rows))]
        if self.every:
            picks = list(range(len(rows)))
        alone = [run(i) for i in picks]
        for name, together in arrays.items():
            limit = most_change(half=name in self.half)
            expected = np.concatenate([row[name] for row in alone])
            for j, i in enumerate(picks):
                # The row that differs is named, by the scale of all of them.
                swapped = expected.copy()
                swapped[j] = together[i]
                known = self.spreads.get(name) or spread(together)
                change = relative_change(swapped, expected, known)
                if change > limit:
                    raise dependent(label(i), name, change, self.cure)

    def _runs(self, count: int) -> list[range]:
        """Return which of so many rows are run together: of equal runs the first one."""
        whole, rest = divmod(count, self.most)
        full = [range(self.most)] if whole else []
        return [*full, *([range(count - rest, count)] if rest else [])]


@dataclass(eq=False)
class FirstRunCheck(RowCheck):
    """Looks at the first run alone: the model may be another one in the next call.

    Rows that are all the same would hide whether they are mixed: such a run is passed over.
    """

    _looked: bool = field(default=False, init=False, repr=False)

    def wants(
        self, positions: Sequence[int], total: int, rows: F32, beside: Beside = nothing_beside
    ) -> bool:
        """Say whether a run is the first that can tell, as :meth:`RowCheck.wants` does."""
        if self._looked or all(np.array_equal(row, rows[0]) for row in rows[1:]):
            return False
        with self._extremes.lock:
            first, self._looked = not self._looked, True
        return first


def _row_sizes(inputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the largest magnitude and the mean of every row, (2·inputs, R)."""
    sizes = []
    for rows in inputs:
        flat = rows.reshape(len(rows), -1)
        sizes += [np.abs(flat).max(axis=1), flat.mean(axis=1, dtype=np.float64)]
    return np.stack(sizes)


def spreads(rows: Mapping[str, F32]) -> dict[str, float]:
    """Return how far apart the rows of some tensors are.

    Parameters
    ----------
    rows : mapping of str to ndarray of float32, shape (R, ...)
        By tensor; parts of which some are put together are told of too.

    Returns
    -------
    dict of str to float
        The largest distance of an entry from that of the first row, in units of the tensor.
    """
    parts = rows.given if isinstance(rows, Rows) else {}
    return {name: spread(array) for each in (parts, rows) for name, array in each.items()}
