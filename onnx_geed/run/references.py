"""Scales to read a value by: what resampling alone does, a repeat, an untrained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Action,
    Exactness,
    LayoutAction,
    PlacedAction,
    Trivial,
    composes,
    still_action,
)
from onnx_geed.measures import (
    Measure,
    error_gaps,
    errors_of_orbits,
    log_probabilities,
    orbit_deviations,
    pair_deviations,
    view,
)
from onnx_geed.model import Model, redraw
from onnx_geed.results import Record, Reference, mean_interval
from onnx_geed.run.between_samples import over_real
from onnx_geed.run.job import Task
from onnx_geed.run.orbits import check_rows, run_rows
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.progress import Meter
from onnx_geed.run.worker import Worker

__all__ = [
    "TRIPS",
    "Trips",
    "add_untrained",
    "enter_trips",
    "round_trips",
    "trip_inferences",
    "untrained",
]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# Measure and layer.
Key = tuple[str, str]


#: The fields of :class:`Trips`.
TRIPS = ("input_round_trip", "output_round_trip", "numeric")


# Fields of the untrained network's record that stay.
_KEPT = (
    *("value", "ci95", "unnormalised", "samples", "normaliser"),
    *("between_samples", "relative"),
)


# Samples over which layers are levelled.
_LEVELLED_OVER = 8


@dataclass(frozen=True)
class Trips:
    """Deviations of one measure after round trips.

    Parameters
    ----------
    input_round_trip, output_round_trip : float or ndarray of float64, shape (samples,)
        Of one sample the mean over elements, or one value a sample.
    numeric : float or ndarray of float64, shape (samples,)
        Of the sample at another place of its batch.
    """

    input_round_trip: float | F64
    output_round_trip: float | F64
    numeric: float | F64


def trip_inferences(prepared: Prepared) -> int:
    """Return the model inputs that the references take, with the one that is run again alone."""
    return len(prepared.passes) * prepared.count * (prepared.task.source.main.trip_count + 1)


def round_trips(prepared: Prepared, positions: Sequence[int], meter: Meter) -> dict[Key, Trips]:
    """Run the round trips of some samples of D.

    Parameters
    ----------
    prepared : Prepared
        What is measured.
    positions : sequence of int
        Positions of the samples.
    meter : Meter
        Counts model inputs.

    Returns
    -------
    dict of (str, str) to Trips
        By measure and layer.

    Raises
    ------
    GeedError
        If the model fails, or gives NaN or infinity.

    Notes
    -----
    Spec section 6. ``input_round_trip``: eq. (4) of y_g = f(φ(g⁻¹)φ(g)x) under the trivial action
    with its own f̂. ``output_round_trip``: m(φ_Y(g⁻¹)φ_Y(g)f(x), f(x)). ``numeric``: m of f(x) at
    the last place of a batch against f(x) at the first.
    """
    task = prepared.task
    by_measure: dict[Key, list[Trips]] = {}
    for layers in prepared.passes:
        measures = [m for m in task.plan.measures if m.layer in layers]
        samples = prepared.in_order(partial(_sample_trips, task, layers), positions)
        each = [task.source.main.trip_count + 1] * len(positions)
        for sample in meter.counting(samples, each):
            for measure, one in zip(measures, sample, strict=True):
                by_measure.setdefault((measure.name, measure.layer), []).append(one)
    return {
        key: Trips(*(np.array([getattr(part, name) for part in parts]) for name in TRIPS))
        for key, parts in by_measure.items()
    }


def enter_trips(records: Sequence[Record], trips: Mapping[Key, Trips]) -> None:
    """Fill the records' ``references`` with round trips, each divided by the value's own M.

    Parameters
    ----------
    records : sequence of dict
        Records of the same samples; changed in place.
    trips : mapping of (str, str) to Trips
        By measure and layer.
    """
    for record in records:
        own = trips[record["measure"], record["layer"]]
        record["references"] = _reference_entries(record, own)


def _reference_entries(record: Record, trips: Trips) -> dict[str, Reference]:
    """Return the references of a record, divided by its M."""
    m = record["normaliser"]
    usable = record["value"] is not None
    divisor = float(m) if m is not None and usable else 1.0
    entries: dict[str, Reference] = {}
    for name in TRIPS:
        raw = np.asarray(getattr(trips, name), dtype=np.float64)
        ends = mean_interval(raw / divisor)
        entries[name] = {
            "value": float((raw / divisor).mean()) if usable else None,
            "ci95": list(ends) if ends and usable else None,
            "unnormalised": float(raw.mean()) if record["unnormalised"] is not None else None,
            "samples": len(raw),
        }
    return entries


def _sample_trips(task: Task, layers: Sequence[str], worker: Worker, position: int) -> list[Trips]:
    """Run one sample's round trips and reduce them under every measure of a pass."""
    source, runner = task.source, worker.session(task.network, layers)
    measures = [m for m in task.plan.measures if m.layer in layers]
    n = source.action.group.order
    # The identity stands at both ends, so that one run tells what its place does.
    rows, feeds = source.main.trip_rows(position), source.trip_inputs(position)
    arrays = run_rows(source, runner, rows, feeds, task.batch)
    check_rows(source, runner, rows, feeds, arrays, task.batch, [position])
    shares: dict[str, NDArray[np.float64] | None] = dict.fromkeys(arrays)
    if source.mask is not None:
        # Every round trip ends where it began, and so does its padding.
        indices, stay = [source.indices[position]], [0] * len(rows)
        trips = {name: array[None] for name, array in arrays.items()}
        arrays = source.mask.clear(task.plan.layers, trips, indices, stay)
        arrays = {name: array[0] for name, array in arrays.items()}
        shares = {k: source.mask.share(task.plan.layers[k], indices) for k in arrays}
    reduced = []
    for measure in measures:
        layer = task.plan.layers[measure.layer]
        if not np.isfinite(arrays[measure.layer]).all():
            raise GeedError(
                f"the model gave NaN or infinity: {source.label(position)}, a round trip of the "
                f"references, tensor {measure.layer!r}; check the preprocessing"
            )
        share = shares[measure.layer]
        y = over_real(measure, view(layer, measure, arrays[measure.layer][None]), share)[0]
        still = _under_trivial(measure)
        if measure.descriptor.of_error:
            truth = task.plan.truths[measure.layer][position : position + 1]
            reduced.append(_error_trips(measure.of(position), still, y, n, truth))
            continue
        trip = orbit_deviations(still, np.ascontiguousarray(_trips_of(y, n)))[0]
        back = trip[still.counted].mean()
        again = pair_deviations(measure, y[-1:], y[:1])[0]
        output = _output_trip(measure.of(position), y[0])
        # Means over places: padding has added nothing to them.
        real = 1.0 if share is None or measure.places is None else float(share[0])
        reduced.append(Trips(float(back / real), output / real, float(again / real)))
    return reduced


def _trips_of(y: NDArray[Any], n: int) -> NDArray[Any]:
    """Return the n trips of rows that begin and end with x, which may itself be the first one."""
    backwards = y[::-1]
    return backwards[:n] if len(y) == n + 1 else backwards[1:-1]


def _error_trips(
    measure: Measure, still: Measure, y: NDArray[Any], n: int, truth: NDArray[Any]
) -> Trips:
    """Reduce one sample's round trips under a share of the error."""
    back, _ = errors_of_orbits(still, np.ascontiguousarray(_trips_of(y, n))[None], truth)
    again = error_gaps(measure, y[-1:], y[:1], truth)
    # What permutes classes is undone to the last bit.
    output = _output_trip(measure, y[0]) if measure.target else 0.0
    return Trips(float(back.mean()), output, float(again[0]))


def _under_trivial(measure: Measure) -> Measure:
    """Return the measure under the trivial action."""
    action = measure.action
    if isinstance(action, LayoutAction):
        # The same entries are compared, each with itself.
        return replace(measure, action=action.kept_still())
    if isinstance(action, PlacedAction):
        still = still_action(action.group, action.layout, action.shape)
        return replace(measure, action=still)
    return replace(measure, action=Trivial(action.group))


def _output_trip(measure: Measure, y: NDArray[Any]) -> float:
    """Return the mean of m(φ_Y(g⁻¹)φ_Y(g)y, y) over g."""
    action, group = measure.action, measure.action.group
    if measure.places is not None:
        return _scores_trip(measure, y)
    if measure.descriptor.of_classes:
        y = np.exp(log_probabilities(y, measure.reads))
        measure = replace(measure, kind="probabilities")
    values, still = np.empty(group.order), None
    exact = action.exact()
    for g in range(group.order):
        # What a fit does, its inverse need not undo.
        if exact[g] and still is not None and composes(action):
            values[g] = still
            continue
        # Some elements of a larger group may come without their inverses; e is its own.
        back = group.inverse(g) if group.is_closed else 0
        moved = _moved(action, back, _moved(action, g, y.astype(np.float64)))
        values[g] = pair_deviations(measure, moved[None], y[None])[0]
        if exact[g]:
            still = values[g]
    return float(values[measure.counted].mean())


def _scores_trip(measure: Measure, y: NDArray[Any]) -> float:
    """Return the mean over g of m of scores at places, moved along and so back again."""
    action = measure.action
    moved = np.stack([_moved(action, g, y.astype(np.float64)) for g in range(action.group.order)])
    if measure.reads == "probabilities":
        assert measure.places is not None
        classes = y.size // measure.places.inside.shape[1]
        for g, exactness in enumerate(action.exact()):
            if exactness is Exactness.RESAMPLED:
                # Where nothing comes from, no class counts more, as where zeros are among logits.
                moved[g] += (1 - _moved(action, g, np.ones(y.shape))) / max(classes, 2)
        np.clip(moved, 0, 1, out=moved)  # bicubic weights overshoot
        if classes > 1:
            by_class = moved.reshape(len(moved), classes, -1)
            total = by_class.sum(axis=1, keepdims=True)
            by_class /= np.where(total > 0, total, 1)  # padding has no probabilities
    return float(orbit_deviations(measure, moved)[0][measure.counted].mean())


def _moved(action: Action, g: int, y: F64) -> F64:
    """Move one activation, in the form in which a measure sees it, by an element."""
    if isinstance(action, LayoutAction):
        rows: F64 = action.apply_to_rows(g, y)
        return rows
    shape = action.shape if isinstance(action, PlacedAction) else y.shape
    return action.apply(g, y.reshape(shape)).reshape(y.shape)


def untrained(prepared: Prepared) -> tuple[Prepared, list[str]]:
    """Return the same measurement of the same network untrained.

    Parameters
    ----------
    prepared : Prepared
        What was measured.

    Returns
    -------
    other : Prepared
        To be run like it: same samples, plan and passes.
    notes : list of str
        Notes on what was kept of the trained network.

    Raises
    ------
    GeedError
        If :func:`onnx_geed.model.redraw` refuses, or the network cannot be run.

    Notes
    -----
    Choice: weights as :func:`onnx_geed.model.redraw` says, from the seed of the run; then every
    linear layer is levelled over the identity of the first 8 samples of D, the classifier too.
    """
    source, network = prepared.task.source, prepared.task.network

    def spreads(model: Model, names: Sequence[str]) -> list[NDArray[np.float32]]:
        session = replace(network, graph=model, exposed=()).open(names)

        def run(count: int) -> list[NDArray[np.float32]]:
            rows = source.rows(range(count), orbits=False)
            arrays = session.run(rows, source.other_inputs(range(count), 1))
            return [arrays[name] for name in names]

        try:
            most = session.fixed or _LEVELLED_OVER
            return run(min(_LEVELLED_OVER, len(source.indices), most))
        except GeedError:
            return run(1)  # a model may take no more than one row

    redrawn = redraw(network.graph, prepared.options.seed).levelled(spreads)
    notes = []
    if redrawn.kept:
        more = f" and {len(redrawn.kept) - 3} more" if len(redrawn.kept) > 3 else ""
        notes.append(
            f"--untrained kept {', '.join(redrawn.kept[:3])}{more}: not plain floats of a "
            "known layer in the main graph"
        )
    exposed = tuple(prepared.task.plan.layers) if len(prepared.passes) == 1 else ()
    other = replace(network, graph=redrawn.model, exposed=exposed)
    # Actions that were fitted are fitted anew: what the trained network does says nothing here.
    again = prepared.fitted_by
    task = replace(prepared.task, network=other)
    return replace(prepared, task=task, fitting=again, fitted=0), notes


def add_untrained(records: Sequence[Record], others: Sequence[Record], seed: int) -> None:
    """Enter the untrained network's values among the records' references.

    Parameters
    ----------
    records : sequence of dict
        The network's records; changed in place.
    others : sequence of mapping
        Those of the untrained one, in the same order.
    seed : int
        Seed of its weights.
    """
    for record, other in zip(records, others, strict=True):
        entry = cast(Reference, {key: other.get(key) for key in _KEPT} | {"seed": seed})
        record["references"] = (record["references"] or {}) | {"untrained": entry}
