"""Scales that a fitted value is read beside: shuffled predictions, no map, another element's map.

A fit can predict anything in the samples that it saw; on others it is honest only beside these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import (
    Action,
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
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.progress import Meter

__all__ = ["add_fits", "enter_fits", "fit_inferences", "fitted_measures", "scales_of_fits"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


Key = tuple[str, str]


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
    plan: Plan, measures: Sequence[Measure], orbits: Iterable[Mapping[str, F32]]
) -> dict[Key, dict[str, F64]]:
    """Return the deviations of D that fitted values are read beside.

    Parameters
    ----------
    plan : Plan
        The tensors.
    measures : sequence of Measure
        Those with a fitted action.
    orbits : iterable of mapping of str to ndarray of float32, shape (orbits, n, ...)
        All orbits of D, in order.

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

    def close(self) -> dict[str, F64]:
        """Return all scales, the circle of samples closed."""
        if self._before is not None and self._first is not None and self._rows["shuffled"]:
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


def enter_fits(
    measures: Sequence[Measure],
    tables: Mapping[str, Table],
    records: Sequence[Record],
    scales: Mapping[Key, Mapping[str, F64]],
    *,
    interval: str,
    seed: int,
) -> None:
    """Enter in records how their output actions were fitted, and the scales to read them by.

    Parameters
    ----------
    measures : sequence of Measure
        Those with a fitted action.
    tables : mapping of str to Table
        Output actions by tensor.
    records : sequence of dict
        All records; changed in place.
    scales : mapping of (str, str) to mapping of str to ndarray of float64, shape (N, n)
        From :func:`scales_of_fits`.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.
    """
    by_key = {(m.name, m.layer): m for m in measures}
    for record in records:
        measure = by_key.get((record["measure"], record["layer"]))
        if measure is None:
            continue
        fit = tables[measure.layer].fit
        assert fit is not None
        record["fit"] = fit_part(
            fit,
            scales[measure.name, measure.layer],
            divisor=record["normaliser"],
            skipped=int(measure.counted.start),
            usable=record["value"] is not None,
            interval=interval,
            seed=seed,
        )
        record["notes"] += fit_notes(record)


def add_fits(prepared: Prepared, records: Sequence[Record], meter: Meter) -> None:
    """Run D once more for what fitted values are read beside, and enter it in the records.

    Parameters
    ----------
    prepared : Prepared
        What was measured.
    records : sequence of dict
        Its records; changed in place.
    meter : Meter
        Counts model inputs.

    Raises
    ------
    GeedError
        If the model fails.
    """
    task, options = prepared.task, prepared.options
    measures = fitted_measures(task.plan, prepared.tables)
    source = task.source.over(task.source.indices[: prepared.count], None)

    def orbits(layers: Sequence[str]) -> Iterator[Mapping[str, F32]]:
        runner = prepared.worker.session(task.network, layers)
        for arrays in orbits_of(task, source, runner, prepared.workers):
            yield arrays
            meter.add(task.plan.group.order * len(next(iter(arrays.values()))))

    scales: dict[Key, dict[str, F64]] = {}
    for layers in _passes(prepared, measures):
        here = [m for m in measures if m.layer in layers]
        scales |= scales_of_fits(task.plan, here, orbits(layers))
    enter_fits(
        *(measures, prepared.tables, records, scales), interval=options.interval, seed=options.seed
    )


def fit_inferences(prepared: Prepared) -> int:
    """Return the model inputs that :func:`add_fits` runs."""
    plan = prepared.task.plan
    passes = _passes(prepared, fitted_measures(plan, prepared.tables))
    return len(passes) * prepared.count * plan.group.order


def _passes(prepared: Prepared, measures: Sequence[Measure]) -> list[tuple[str, ...]]:
    """Return the passes of a run, as far as output actions were fitted in them."""
    fitted = {m.layer for m in measures}
    passes = [tuple(name for name in layers if name in fitted) for layers in prepared.passes]
    return [names for names in passes if names]
