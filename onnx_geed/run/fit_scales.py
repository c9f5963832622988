"""Scales that a fitted value is read beside: shuffled predictions, no map, another element's map.

A fit can predict anything in the samples that it saw; on others it is honest only beside these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import (
    Action,
    Fit,
    LayoutAction,
    Matrices,
    Permutation,
    Table,
    Trivial,
)
from onnx_geed.measures import (
    Measure,
    Plan,
    deviations_from_references,
    f_hat,
    operands_of_orbits,
    view,
)
from onnx_geed.results import Record, fit_notes, fit_part
from onnx_geed.run.fit_orbits import orbits_of
from onnx_geed.run.fit_requests import takes_table
from onnx_geed.run.job import Task, job_orbits
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.progress import Meter
from onnx_geed.run.worker import Worker

__all__ = [
    "FitScales",
    "enter_fits",
    "fit_inferences",
    "fitted_measures",
    "run_scales",
    "scales_of_fits",
    "with_fits_of",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


Key = tuple[str, str]


# Jobs that go together to a worker that shares no memory with others: one more is run for them.
_JOBS = 8


def fitted_measures(plan: Plan, tables: Mapping[str, Table]) -> list[Measure]:
    """Return the measures whose output action was fitted."""
    return [
        measure
        for measure in plan.measures
        if measure.layer in tables
        and tables[measure.layer].fit is not None
        and takes_table(measure.action)
    ]


def scales_of_fits(
    plan: Plan,
    measures: Sequence[Measure],
    orbits: Iterable[Mapping[str, F32]],
    after: Mapping[str, F32] | None = None,
) -> dict[Key, dict[str, F64]]:
    """Return the deviations of D that fitted values are read beside.

    Parameters
    ----------
    plan : Plan
        The tensors.
    measures : sequence of Measure
        Those with a fitted action.
    orbits : iterable of mapping of str to ndarray of float32, shape (orbits, n, ...)
        All orbits of D, in order, or some that follow each other.
    after : mapping of str to ndarray of float32, shape (1, n, ...), optional
        The orbit of D that comes after these, the first one after the last; by default they are
        all of D.

    Returns
    -------
    dict of (str, str) to dict of str to ndarray of float64, shape (N, n)
        By measure and layer, ``shuffled``: m(f(gx), ρ(g)π(g) f̂(x')), each sample beside the
        prediction of the next one, the last beside that of the first; ``identity``:
        m(f(gx), π(g) f̂(x)), no channel moved; ``other_element``: m(f(gx), ρ(h)π(g) f̂(x)), h the
        element after g, e left out; absent where there are fewer than two other elements.
        ``shuffled`` is absent for a single sample.
    """
    scales = {(m.name, m.layer): _Scales(m) for m in measures}
    for arrays in orbits:
        for measure in measures:
            seen = view(plan.layers[measure.layer], measure, arrays[measure.layer])
            for orbit in seen:
                scales[measure.name, measure.layer].add(orbit[None])
    if after is not None:
        for measure in measures:
            seen = view(plan.layers[measure.layer], measure, after[measure.layer])
            scales[measure.name, measure.layer].follow(seen)
    return {key: scale.close() for key, scale in scales.items()}


class _Scales:
    """The scales of one measure, filled orbit by orbit; of the one before, the orbit is kept."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._others = {"identity": replace(measure, action=_without_map(measure.action))}
        if (turned := _with_next_element(measure.action)) is not None:
            self._others["other_element"] = replace(measure, action=turned)
        self._rows: dict[str, list[F64]] = {name: [] for name in ("shuffled", *self._others)}
        self._before: NDArray[Any] | None = None
        self._first: NDArray[Any] | None = None
        self._followed = False

    def add(self, y: F32) -> None:
        """Take in one orbit (1, n, ...)."""
        measure = self._measure
        orbit = operands_of_orbits(measure, y)
        prediction = f_hat(measure, orbit)
        for name, other in self._others.items():
            seen = operands_of_orbits(other, y)
            own = f_hat(other, seen, measure.averaged)
            self._rows[name].append(_deviations(other, seen, own))
        if self._before is None:
            self._first = prediction.copy()
        else:
            self._rows["shuffled"].append(_deviations(measure, self._before, prediction))
        self._before = orbit

    def follow(self, y: F32) -> None:
        """Hold the last orbit against the prediction of the one after it, (1, n, ...)."""
        orbit = operands_of_orbits(self._measure, y)
        prediction = f_hat(self._measure, orbit)
        assert self._before is not None
        self._rows["shuffled"].append(_deviations(self._measure, self._before, prediction))
        self._followed = True

    def close(self) -> dict[str, F64]:
        """Return all scales, the circle of samples closed."""
        circle = not self._followed and self._rows["shuffled"]
        if circle and self._before is not None and self._first is not None:
            self._rows["shuffled"].append(_deviations(self._measure, self._before, self._first))
        return {name: np.concatenate(rows) for name, rows in self._rows.items() if rows}


def _deviations(measure: Measure, orbit: NDArray[Any], reference: NDArray[Any]) -> F64:
    return deviations_from_references(measure, orbit, reference, check=False)[0]


def _without_map(action: Action) -> Action:
    """Return an action that moves places alone."""
    if isinstance(action, LayoutAction):
        return replace(action, channels=None, channel_matrices=None)
    return Trivial(action.group)


def _with_next_element(action: Action) -> Action | None:
    """Return an action in which the map of each element is that of the next one, but for e."""
    rows = np.array([0, *range(2, action.group.order), 1])
    if action.group.order < 3:
        return None
    if isinstance(action, LayoutAction):
        tables = {
            part: getattr(action, part)[rows]
            for part in ("channels", "channel_matrices")
            if getattr(action, part) is not None
        }
        return replace(action, **tables)
    if isinstance(action, Permutation):
        return Permutation(action.group, action.table[rows])
    assert isinstance(action, Matrices)
    return Matrices(action.group, action.matrices[rows])


@dataclass(frozen=True, eq=False)
class FitScales:
    """How a measure's output action was fitted, and what its value is read beside.

    Parameters
    ----------
    fit : Fit
        What it was fitted to, and how.
    scales : mapping of str to ndarray of float64, shape (N, n)
        From :func:`scales_of_fits`.
    skipped : int
        How many of the first elements are left out of means.
    """

    fit: Fit
    scales: Mapping[str, F64]
    skipped: int = 0


def with_fits_of(
    measures: Sequence[Measure],
    tables: Mapping[str, Table],
    scales: Mapping[Key, Mapping[str, F64]],
) -> dict[Key, FitScales]:
    """Bring the scales of measures together with how their output actions were fitted.

    Parameters
    ----------
    measures : sequence of Measure
        Those with a fitted action.
    tables : mapping of str to Table
        Output actions by tensor.
    scales : mapping of (str, str) to mapping of str to ndarray of float64, shape (N, n)
        From :func:`scales_of_fits`.

    Returns
    -------
    dict of (str, str) to FitScales
        By measure and layer.
    """
    fits = {}
    for measure in measures:
        fit, key = tables[measure.layer].fit, (measure.name, measure.layer)
        assert fit is not None
        fits[key] = FitScales(fit, scales[key], int(measure.counted.start))
    return fits


def enter_fits(fits: Mapping[Key, FitScales], records: Sequence[Record], *, seed: int) -> None:
    """Enter in records how their output actions were fitted, and the scales to read them by.

    Parameters
    ----------
    fits : mapping of (str, str) to FitScales
        By measure and layer, of those that were fitted.
    records : sequence of dict
        All records; changed in place.
    seed : int
        Seed of the bootstrap.
    """
    for record in records:
        own = fits.get((record["measure"], record["layer"]))
        if own is None:
            continue
        record["fit"] = fit_part(
            own.fit,
            own.scales,
            divisor=record["normaliser"],
            skipped=own.skipped,
            usable=record["value"] is not None,
            interval=record["interval"],
            seed=seed,
        )
        record["notes"] += fit_notes(record)


def run_scales(prepared: Prepared, positions: range, meter: Meter) -> dict[Key, FitScales]:
    """Run orbits of D once more for what fitted values are read beside.

    Parameters
    ----------
    prepared : Prepared
        What is measured.
    positions : range
        Positions of the orbits, some whole jobs; at least one.
    meter : Meter
        Counts model inputs.

    Returns
    -------
    dict of (str, str) to FitScales
        By measure and layer, of those that were fitted.

    Raises
    ------
    GeedError
        If the model fails.
    """
    task, order = prepared.task, prepared.task.plan.group.order
    measures = fitted_measures(task.plan, prepared.tables)
    stretches = _stretches(prepared, positions)
    scales: dict[Key, dict[str, F64]] = {}
    for layers in _passes(prepared, measures):
        here = [(m.name, m.layer) for m in measures if m.layer in layers]
        run = partial(_scales_at, task, prepared.count, layers, here)
        if prepared.executor.apart:
            each = [order * (len(own) + len(after)) for own, after in stretches]
            parts = list(meter.counting(prepared.in_order(run, stretches), each))
        else:
            ran = partial(run, workers=prepared.workers, told=meter.add)
            parts = [ran(prepared.worker, stretch) for stretch in stretches]
        for key in here:
            names = parts[0][key]
            scales[key] = {k: np.concatenate([part[key][k] for part in parts]) for k in names}
    return with_fits_of(measures, prepared.tables, scales)


def _scales_at(
    task: Task,
    count: int,
    layers: Sequence[str],
    keys: Sequence[Key],
    worker: Worker,
    stretch: tuple[range, range],
    workers: int = 1,
    told: Callable[[int], object] = lambda inputs: None,
) -> dict[Key, dict[str, F64]]:
    """Run the orbits of a stretch of D, and of the job after it, for the scales of some measures.

    Parameters
    ----------
    task, count, layers, keys
        What is run, the size of D, and which measures on which layers of a pass.
    worker : Worker
        Runs it.
    stretch : tuple of range
        Positions of the stretch, and of the job after it.
    workers : int
        Jobs side by side.
    told : callable
        Told of the model inputs that were run.
    """
    source = task.source.over(task.source.indices[:count], None)
    measures = [m for m in task.plan.measures if (m.name, m.layer) in keys]

    def orbits(some: range) -> Iterator[Mapping[str, F32]]:
        runner = worker.session(task.network, layers)
        for arrays in orbits_of(task, source, runner, workers, some):
            yield arrays
            told(task.plan.group.order * len(next(iter(arrays.values()))))

    own, beside = stretch
    after = None
    for arrays in orbits(beside):
        after = {name: array[:1] for name, array in arrays.items()}
    return scales_of_fits(task.plan, measures, orbits(own), after)


def _stretches(prepared: Prepared, positions: range) -> list[tuple[range, range]]:
    """Divide positions among workers that share no memory; each with the job after them."""
    size = len(positions)
    if prepared.executor.apart:
        size = _JOBS * job_orbits(prepared.task.plan.group.order, prepared.task.batch)
    own = [positions[k : k + size] for k in range(0, len(positions), max(1, size))]
    return [(some, _job_after(prepared, some)) for some in own]


def _job_after(prepared: Prepared, positions: range) -> range:
    """Return the job that comes after some, the first after the last; none where they are all."""
    task, count = prepared.task, prepared.count
    if len(positions) in (0, count):
        return range(0)
    size = job_orbits(task.plan.group.order, task.batch)
    start = positions.stop % count
    return range(start, min(start + size, count))


def fit_inferences(prepared: Prepared, positions: range) -> int:
    """Return the model inputs that :func:`run_scales` runs."""
    plan = prepared.task.plan
    passes = _passes(prepared, fitted_measures(plan, prepared.tables))
    orbits = sum(len(own) + len(after) for own, after in _stretches(prepared, positions))
    return len(passes) * orbits * plan.group.order


def _passes(prepared: Prepared, measures: Sequence[Measure]) -> list[tuple[str, ...]]:
    """Return the passes of a run, as far as output actions were fitted in them."""
    fitted = {m.layer for m in measures}
    passes = [tuple(name for name in layers if name in fitted) for layers in prepared.passes]
    return [names for names in passes if names]
