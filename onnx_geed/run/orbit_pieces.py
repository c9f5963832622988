"""Orbits run and reduced piece by piece: several at once, one, or some elements of one.

Of feature maps the sums of eq. (5) stay, and the identity's map until the orbit is done, so that
large ones need not lie in memory together; tensors that are no maps are kept whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import MapSums, Measure, Plan, needs_sums_alone
from onnx_geed.model import Joined
from onnx_geed.run.between_samples import (
    Centres,
    Key,
    Pair,
    Pairs,
    Side,
    pairs_of_sums,
    without_base,
)
from onnx_geed.run.job import Job, job_orbits, pieces
from onnx_geed.run.map_terms import Terms, terms_of
from onnx_geed.run.orbit_reduction import DOUBTED, check_orbits, reduce_orbits
from onnx_geed.run.orbit_statistics import MeasureStatistics, OrbitStatistics
from onnx_geed.run.orbits import check_rows, run_rows
from onnx_geed.run.session import Runner, Session
from onnx_geed.threads import with_idle

__all__ = ["Pieces", "left_bytes"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# f̂ of one sample, (1, C, H·W) a measure.
Centre = list[NDArray[Any]]


class Pieces:
    """Runs orbits piece by piece; what loops need for a piece is worked out once.

    Parameters
    ----------
    runner : Runner
        Returns the tensors of a pass.
    centres : Centres
        f̂ of the samples before, and where those of their own go.
    """

    def __init__(self, runner: Runner, centres: Centres) -> None:
        self._runner, self._centres = runner, centres
        self._kept: dict[tuple[Key, ...], Terms] = {}
        self._lock = threading.Lock()

    def run(self, job: Job) -> OrbitStatistics:
        """Run and reduce a job's orbits.

        Raises
        ------
        GeedError
            If a sample cannot be read, or the model fails on it or gives NaN or infinity.
            If rows of a batch depend on each other.
        """
        plan, first = job.task.plan, job.positions.start
        # Of a sample that is compared with several elsewhere, the whole is kept for each of them.
        several = len(_elsewhere(job)) > 1
        measures = [] if several else _streamed(plan, job.layers, first)
        terms = self._terms(job, measures)
        neighbours = _Neighbours(job, terms, self._centres, self._centre_of)
        parts = [self._taken(some, terms, neighbours) for some in _batches(job)]
        sums = terms.together(
            [_joined(of_term) for of_term in zip(*(own.values for own, _ in parts), strict=True)]
        )
        names = parts[0][1].arrays
        statistics = reduce_orbits(
            plan,
            {name: _joined([whole.arrays[name] for _, whole in parts]) for name in names},
            job.task.source.label,
            first=first,
            sums={m.layer: s for m, s in zip(measures, sums, strict=True)},
            pairs=job.pairs,
            shares=job.shares,
            known=job.known,
        )
        return replace(statistics, measures=neighbours.entered(statistics.measures))

    def keys(self, job: Job) -> list[Key]:
        """Return the keys of parts of layers, whose f̂ is handed on from sample to sample."""
        terms = self._terms(job, _streamed(job.task.plan, job.layers, job.positions.start))
        return [term.key for term in terms.all if term.tensor != term.measure.layer]

    def _terms(self, job: Job, measures: Sequence[Measure]) -> Terms:
        """Return the maps that measures of sums alone are taken from."""
        plan = job.task.plan
        key = tuple((m.name, m.layer) for m in measures)
        with self._lock:
            kept = self._kept.get(key)
            # Measures of one name may be bound to another action meanwhile, such as a fitted one.
            if kept is None or any(
                a is not b for a, b in zip(kept.measures, measures, strict=True)
            ):
                # Padding is cleared in whole layers.
                joined: Mapping[str, Joined] = {}
                if job.task.source.mask is None and isinstance(self._runner, Session):
                    joined = self._runner.joined
                kept = terms_of(plan, measures, joined, _let_go(plan, measures))
                self._kept[key] = kept
            return kept

    def _taken(self, job: Job, terms: Terms, neighbours: _Neighbours) -> tuple[_Sums, _Whole]:
        """Run orbits of one batch, or one of several; return what stays of them.

        Pieces are run side by side where other threads have nothing to do.
        """
        plan, n = job.task.plan, job.task.plan.group.order
        streamed = _let_go(plan, terms.measures)
        own, whole = _Sums(n), _Whole(n)
        # The identity's maps, f̂ of the sample before, and how many samples follow each other.
        known: Future[tuple[list[F32], Centre, int]] = Future()
        putting = threading.Lock()
        rows, feeds = _moved(job)

        def first(maps: list[F32], part: range) -> tuple[list[F32], Centre, int]:
            references = [y[:, 0] for y in maps]
            if len(part) < n:
                # What goes with the piece is let go; the identity's maps stay.
                references = [reference.copy() for reference in references]
            neighbours.leave(references)
            return references, *neighbours.compared()

        def take(part: range) -> None:
            try:
                arrays = self._arrays(job, terms, rows, feeds, part)
                maps = terms.maps(arrays)
                if not part.start:
                    known.set_result(first(maps, part))
            except BaseException as error:
                if not (part.start or known.done()):
                    known.set_exception(error)  # nobody is to wait for it
                raise
            references, before, following = known.result()
            tables = terms.tables(part)
            sums_of_own, between = tables.of_both(maps, references, before, following)
            for term, y, sums in zip(terms.all, maps, sums_of_own, strict=True):
                # Outside the disk nothing is compared, and so NaN would not show in the sums.
                if term.measure.support == "disk" or not np.isfinite(sums).all():
                    label, position = job.task.source.label, job.positions.start
                    check_orbits(plan, term.layer.name, y, label, position, elements=part)
            kept = (name for name in job.layers if name not in streamed)
            with putting:
                own.put(part, sums_of_own)
                neighbours.enter(tables, part, maps, references, between)
                whole.put(part, {name: arrays[name] for name in kept if name in arrays})

        with_idle(take, _parts(job))
        return own, whole

    def _arrays(
        self, job: Job, terms: Terms, rows: F32, feeds: Mapping[str, NDArray[Any]], elements: range
    ) -> dict[str, F32]:
        """Run some elements of a job's orbits; return activations (orbits, elements, ...)."""
        task, positions, runner = job.task, job.positions, self._runner
        if terms.apart and isinstance(runner, Session):
            runner = runner.apart(list(terms.apart))
        part = slice(None) if len(elements) == task.plan.group.order else _slice(elements)
        some, fed = np.ascontiguousarray(rows[part]), task.source.part_of(feeds, part)
        arrays = run_rows(task.source, runner, some, fed, task.batch)
        terms.check(task.plan, arrays)
        check_rows(
            *(task.source, runner, some, fed, arrays, task.batch, positions),
            elements=elements,
        )
        shape = len(positions), len(elements)
        arrays = {name: a.reshape(*shape, *a.shape[1:]) for name, a in arrays.items()}
        if task.source.mask is not None:
            indices = [task.source.indices[p] for p in positions]
            arrays = task.source.mask.clear(task.plan.layers, arrays, indices, elements)
        return arrays

    def _centre_of(self, job: Job, position: int, terms: Terms) -> Centre | None:
        """Return f̂ of another sample: as its own job leaves it, or run again as that would.

        ``None`` where neither is cheap: the pair is completed where statistics are joined.
        """
        taken = self._centres.take(position, [term.key for term in terms.all])
        if taken is not None or not comes_in_pieces(job):
            return taken
        other = replace(job, positions=range(position, position + 1))
        rows, feeds = _moved(other)
        arrays = self._arrays(other, terms, rows, feeds, _parts(other)[0])
        return [without_base(y[:, 0]) for y in terms.maps(arrays)]


def _batches(job: Job) -> Iterator[Job]:
    """Divide a job of several batches, which has no pairs of samples, into these."""
    size = (
        len(job.positions) if job.pairs else job_orbits(job.task.plan.group.order, job.task.batch)
    )
    for start in range(0, len(job.positions), size):
        yield replace(job, positions=job.positions[start : start + size])


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _moved(job: Job) -> tuple[F32, Mapping[str, NDArray[Any]]]:
    """Return the model inputs of a job's orbits, and the other inputs."""
    source, positions = job.task.source, job.positions
    return source.rows(positions), source.other_inputs(positions, job.task.plan.group.order)


def comes_in_pieces(job: Job) -> bool:
    """Say whether a job is one orbit of several batches."""
    return job.task.batch < job.task.plan.group.order


def _parts(job: Job) -> list[range]:
    """Return the elements of each run of a job's orbits, the identity's first."""
    order = job.task.plan.group.order
    return pieces(order, job.task.batch) if comes_in_pieces(job) else [range(order)]


def _slice(elements: range) -> slice:
    """Return what picks some elements from an orbit."""
    return slice(elements.start, elements.stop, elements.step)


class _Neighbours:
    """The pairs of a job's samples, for measures of which sums alone are kept.

    Parameters
    ----------
    job : Job
        The job.
    terms : Terms
        The maps that its measures are taken from.
    centres : Centres
        f̂ of other samples, and where that of the last one here goes.
    centre_of : callable
        Gives f̂ of another sample for a job, its position and the terms, if it is to be had.
    """

    def __init__(
        self,
        job: Job,
        terms: Terms,
        centres: Centres,
        centre_of: Callable[[Job, int, Terms], Centre | None],
    ) -> None:
        first, last, measures = job.positions.start, job.positions[-1], terms.measures
        self._keys = [(m.name, m.layer) for m in measures]
        self._job, self._centre_of = job, centre_of
        self._terms, self._centres, self._first, self._last = terms, centres, first, last
        self._pairs = set(job.pairs) if measures else set()
        elsewhere = _elsewhere(job) if measures else []
        #: The position of a sample elsewhere, which the first one here is compared with; else −1.
        self._before = elsewhere[0] if elsewhere else -1
        # Those that follow each other within the job are the first ones.
        inside = [p for p in range(first, last) if (p, p + 1) in self._pairs]
        self._inner = inside[-1] + 1 if inside else 0
        self._in_pieces = comes_in_pieces(job)
        self._centre: Centre | None = None
        self._between = _Sums(job.task.plan.group.order)
        self._complete: list[dict[tuple[int, int], Pair]] = [{} for _ in measures]
        self._open: list[dict[tuple[int, int], Side]] = [{} for _ in measures]

    def leave(self, references: Sequence[F32]) -> None:
        """Leave f̂ of the last sample for those that are compared with it elsewhere."""
        awaiting = [w for w in self._pairs if w[0] == self._last and w[1] != self._first]
        if not awaiting:
            return
        centre = [without_base(reference[-1:]) for reference in references]
        keys = (term.key for term in self._terms.all)
        self._centres.give(self._last, dict(zip(keys, centre, strict=True)))
        # A sample that comes in pieces finds f̂ of another here, or runs it again; the first ones
        # are kept whole where a given table is in doubt.
        for where in (w for w in awaiting if not self._in_pieces or w[1] == 0):
            for sides, own in zip(self._open, self._terms.together(centre), strict=True):
                sides[where] = Side(centre=own)

    def compared(self) -> tuple[Centre, int]:
        """Return f̂ of the sample before, and how many samples follow each other.

        f̂ is empty where no sample before the first one here is compared, or is to be had.
        """
        if self._before >= 0:
            # f̂ of the sample before is mostly there, or comes with a piece that is being run; f̂ of
            # the last one here was left before, so that nobody waits in a circle.
            self._centre = self._centre_of(self._job, self._before, self._terms)
        return self._centre or [], max(0, self._inner - self._first)

    def enter(
        self,
        tables: MapSums,
        part: range,
        maps: Sequence[F32],
        references: Sequence[F32],
        between: Sequence[F64],
    ) -> None:
        """Enter the sums of a piece's maps against f̂ of the samples before."""
        first, last, inner = self._first, self._last, self._inner
        if inner:
            later, earlier = range(first + 1, inner + 1), range(first, inner)
            here = slice(1, inner + 1 - first)
            self._complete_all(later, earlier, [sums[here] for sums in between], references)
        if (last, first) in self._pairs and first < last:
            sums = tables.of([y[:1] for y in maps], [y[-1:] for y in references])
            self._complete_all(range(first, first + 1), range(last, last + 1), sums, references)
        if self._before < 0:
            return
        where = self._before, self._first
        if self._centre is None:
            orbits = self._terms.together([y[:1] for y in maps])
            for sides, orbit in zip(self._open, orbits, strict=True):
                sides[where] = Side(orbit=without_base(orbit))
            return
        self._between.put(part, [sums[:1] for sums in between])
        if self._between.complete:
            self._complete_at([where], self._between.values, self._centre)

    def _complete_all(
        self, later: range, earlier: range, sums: Sequence[F64], references: Sequence[F32]
    ) -> None:
        """Complete pairs of samples, at some positions, that are both in the job."""
        there = slice(earlier.start - self._first, earlier.stop - self._first)
        centres = [reference[there] for reference in references]
        self._complete_at(list(zip(earlier, later, strict=True)), sums, centres)

    def _complete_at(
        self,
        where: Sequence[tuple[int, int]],
        sums: Sequence[F64],
        centres: Sequence[NDArray[Any]],
    ) -> None:
        """Complete some pairs, by the sums and f̂ of each term."""
        of_measures = zip(
            self._complete,
            self._terms.measures,
            self._terms.together(sums),
            self._terms.of_measures,
            strict=True,
        )
        for complete, measure, own, terms in of_measures:
            # Of f̂ in parts nothing is asked: the scale of such a measure is its own.
            pairs = pairs_of_sums(measure, own, centres[terms[0]])
            complete |= dict(zip(where, pairs, strict=True))

    def entered(self, entries: Mapping[Key, MeasureStatistics]) -> dict[Key, MeasureStatistics]:
        """Return statistics with the pairs."""
        entered = dict(entries)
        for key, complete, sides in zip(self._keys, self._complete, self._open, strict=True):
            entered[key] = replace(entered[key], pairs=Pairs(complete, sides))
        return entered


def _elsewhere(job: Job) -> list[int]:
    """Return the positions of samples elsewhere with which the first one of a job is compared."""
    first = job.positions.start
    return [p for p, q in job.pairs if q == first and p not in job.positions]


class _Sums:
    """Sums of eq. (5) of orbits (N, n, C, 3), filled in piece by piece, one array a measure."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.values: list[F64] = []
        self._filled = 0

    @property
    def complete(self) -> bool:
        """Whether all elements are filled in."""
        return self._filled == self.order

    def put(self, part: range, sums: list[F64]) -> None:
        """Fill in the sums of some elements (N, elements, C, 3)."""
        self._filled += len(part)
        if len(part) == self.order:
            self.values = sums
            return
        if not self.values:
            self.values = [np.empty((len(s), self.order, *s.shape[2:])) for s in sums]
        for value, s in zip(self.values, sums, strict=True):
            value[:, _slice(part)] = s


class _Whole:
    """Activations of orbits (N, n, ...) by tensor, filled in piece by piece."""

    def __init__(self, order: int) -> None:
        self.arrays: dict[str, F32] = {}
        self._order = order

    def put(self, part: range, arrays: dict[str, F32]) -> None:
        """Fill in the activations of some elements (N, elements, ...)."""
        if len(part) == self._order:
            self.arrays = arrays
            return
        for name, array in arrays.items():
            if name not in self.arrays:
                shape = (len(array), self._order, *array.shape[2:])
                self.arrays[name] = np.empty(shape, dtype=np.float32)
            self.arrays[name][:, _slice(part)] = array


def _streamed(plan: Plan, layers: Sequence[str], position: int) -> list[Measure]:
    """Return the measures of maps that no more than their sums are needed for, one a layer."""
    return [m for m in plan.measures if m.layer in layers and _needs_sums_alone(m, position)]


def _let_go(plan: Plan, streamed: Sequence[Measure]) -> set[str]:
    """Return the layers that nothing else measures, whose activations go with their piece."""
    taken = {id(measure) for measure in streamed}
    others = {measure.layer for measure in plan.measures if id(measure) not in taken}
    return {measure.layer for measure in streamed} - others


def left_bytes(job: Job) -> int:
    """Return the bytes that an orbit of a job leaves: its sums, and tensors that are kept whole."""
    plan, layers = job.task.plan, job.task.plan.layers
    streamed = _streamed(plan, job.layers, job.positions.start)
    gone = _let_go(plan, streamed)
    whole = sum(layers[name].bytes for name in job.layers if name not in gone)
    sums = sum(24 * layers[m.layer].channels for m in streamed)
    return plan.group.order * (whole + sums)


def _needs_sums_alone(measure: Measure, position: int) -> bool:
    doubted = position < DOUBTED and measure.other_reading() is not None
    return needs_sums_alone(measure) and not doubted
