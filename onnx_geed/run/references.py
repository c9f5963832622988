"""Scales to read a value by: what resampling alone does, a repeat, an untrained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import GridAction, Trivial, orbit
from onnx_geed.measures import Measure, log_probabilities, orbit_deviations, pair_deviations, view
from onnx_geed.model import Model, redraw
from onnx_geed.results import Record, Reference, mean_interval
from onnx_geed.run.executor import in_order
from onnx_geed.run.job import Prepared
from onnx_geed.run.orbits import check_rows, run_rows
from onnx_geed.run.session import Session
from onnx_geed.run.source import Source
from onnx_geed.run.trial import reopen

__all__ = ["References", "add_references", "add_untrained", "round_trips", "untrained"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


# What of a record stays.
_KEPT = (
    *("value", "ci95", "unnormalised", "samples", "normaliser"),
    *("between_samples", "relative"),
)


# Samples over which layers are levelled.
_LEVELLED_OVER = 8


@dataclass
class References:
    """Deviations of one measure, sample by sample.

    Parameters
    ----------
    input_round_trip, output_round_trip : list of float
        Means over elements.
    numeric : list of float
        One a sample.
    """

    input_round_trip: list[float] = field(default_factory=list)
    output_round_trip: list[float] = field(default_factory=list)
    numeric: list[float] = field(default_factory=list)


def add_references(
    prepared: Prepared,
    records: Sequence[Record],
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Run the round trips of every sample, and fill the records' ``references``.

    Parameters
    ----------
    prepared : Prepared
        What was measured.
    records : sequence of dict
        Its records, in the plan's order; changed in place.
    progress : callable, optional
        Told how far the run is.

    Returns
    -------
    int
        Model inputs that were run: two more than the group's order a sample and pass at the most.

    Raises
    ------
    GeedError
        If the model fails, or gives NaN or infinity.

    Notes
    -----
    Spec section 6. ``input_round_trip``: eq. (4) of y_g = f(φ(g⁻¹)φ(g)x) under the trivial action
    with its own f̂. ``output_round_trip``: m(φ_Y(g⁻¹)φ_Y(g)f(x), f(x)). ``numeric``: m of f(x) at
    the last place of a batch against f(x) at the first. Each is divided by the value's own M.
    """
    measures, n = prepared.plan.measures, prepared.plan.group.order
    gathered = [References() for _ in measures]
    passes = len(prepared.passes)
    done, total = 0, passes * prepared.count * (n + 2)
    for names in prepared.passes:
        session = prepared.open(names)
        mine = [(m, into) for m, into in zip(measures, gathered, strict=True) if m.layer in names]

        def work(
            position: int, session: Session = session, mine: Any = mine
        ) -> list[tuple[float, float, float]]:
            return _of_sample(prepared, session, [m for m, _ in mine], position)

        for found in in_order(range(prepared.count), work, prepared.workers):
            for (_, into), (there, back, again) in zip(mine, found, strict=True):
                into.input_round_trip.append(there)
                into.output_round_trip.append(back)
                into.numeric.append(again)
            done += n + 2
            if progress:
                progress(done, total)
    for record, into in zip(records, gathered, strict=True):
        record["references"] = _entries(record, into)
    return total


def _entries(record: Record, found: References) -> dict[str, Reference]:
    """Return the references of a record, divided by its M."""
    m = record["normaliser"]
    entries: dict[str, Reference] = {}
    for name in ("input_round_trip", "output_round_trip", "numeric"):
        raw = np.asarray(getattr(found, name), dtype=np.float64)
        divisor = float(m) if m is not None and record["value"] is not None else 1.0
        ends = mean_interval(raw / divisor)
        usable = record["value"] is not None
        entries[name] = {
            "value": float((raw / divisor).mean()) if usable else None,
            "ci95": list(ends) if ends and usable else None,
            "unnormalised": float(raw.mean()) if record["unnormalised"] is not None else None,
            "samples": len(raw),
        }
    return entries


def _of_sample(
    prepared: Prepared, session: Session, measures: Sequence[Measure], position: int
) -> list[tuple[float, float, float]]:
    """Run one sample's round trips and reduce them under every measure."""
    source = prepared.source
    n = source.action.group.order
    x = source.sample(position)
    trips = round_trips(source, x)
    # The identity stands at both ends, so that one run tells what its place does.
    rows = source.fed(np.concatenate([x[None], trips[:0:-1], x[None]]))
    feeds = source.other_inputs([position], n + 1)
    arrays = run_rows(source, session, rows, feeds, prepared.batch)
    check_rows(source, session, rows, feeds, arrays, prepared.batch, [position])
    named = dict(zip(session.outputs, arrays, strict=True))
    found = []
    for measure in measures:
        layer = prepared.plan.layers[measure.layer]
        if not np.isfinite(named[measure.layer]).all():
            raise GeedError(
                f"the model gave NaN or infinity: {source.label(position)}, a round trip of the "
                f"references, tensor {measure.layer!r}; check the preprocessing"
            )
        y = view(layer, measure.descriptor, named[measure.layer][None])[0]
        there = orbit_deviations(_still(measure), np.ascontiguousarray(y[::-1][:n]))[0].mean()
        again = pair_deviations(measure, y[n:], y[:1])[0]
        found.append((float(there), _output_trip(measure, y[0]), float(again)))
    return found


def round_trips(source: Source, x: F32) -> F32:
    """Return φ(g⁻¹)φ(g)x for every g.

    Parameters
    ----------
    source : Source
        Whose action.
    x : ndarray of float32, shape (..., H, W)
        A sample.

    Returns
    -------
    ndarray of float32, shape (n, ..., H, W)
        ``x`` itself where g is exact.
    """
    group, action = source.action.group, source.action
    there, exact = orbit(action, x), action.exact()
    out = np.empty_like(there)
    for g, moved in enumerate(there):
        back = group.inverse(g)
        out[g] = x if exact[g] and exact[back] else action.apply(back, moved.astype(np.float64))
    return out


def _still(measure: Measure) -> Measure:
    """Return the measure under the trivial action."""
    action = measure.action
    if not isinstance(action, GridAction):
        return replace(measure, action=Trivial(action.group))
    order, area = action.permutation.shape
    return replace(
        measure,
        action=replace(
            action,
            base_of=np.zeros(order, dtype=np.int32),
            permutation=np.tile(np.arange(area, dtype=np.int32), (order, 1)),
            channels=None,
        ),
    )


def _output_trip(measure: Measure, y: NDArray[Any]) -> float:
    """Return the mean of m(φ_Y(g⁻¹)φ_Y(g)y, y) over g."""
    action, group = measure.action, measure.action.group
    if measure.name == "softmax-kl":
        y = np.exp(log_probabilities(y, measure.reads))
        measure = replace(measure, kind="probabilities")
    values, still = np.empty(group.order), None
    exact = action.exact()
    for g in range(group.order):
        back = group.inverse(g)
        if exact[g] and exact[back] and still is not None:
            values[g] = still
            continue
        moved = action.apply(back, action.apply(g, y.astype(np.float64)))
        values[g] = pair_deviations(measure, moved[None], y[None])[0]
        if exact[g] and exact[back]:
            still = values[g]
    return float(values.mean())


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
        What was kept of the trained network.

    Raises
    ------
    GeedError
        If :func:`onnx_geed.redraw.redraw` refuses, or the network cannot be run.

    Notes
    -----
    Choice: weights as :func:`onnx_geed.redraw.redraw` says, from the seed of the run; then every
    linear layer is levelled over the identity of the first 8 samples of D, the classifier too.
    """
    source = prepared.source

    def spreads(model: Model, names: Sequence[str]) -> list[NDArray[np.float32]]:
        session = reopen(prepared.session, model, names)

        def run(count: int) -> list[NDArray[np.float32]]:
            rows = source.rows(range(count), orbits=False)
            return session.run(rows, source.other_inputs(range(count), 1))

        try:
            most = session.fixed or _LEVELLED_OVER
            return run(min(_LEVELLED_OVER, len(source.indices), most))
        except GeedError:
            return run(1)  # a model may take no more than one row

    found = redraw(prepared.graph, prepared.options.seed).levelled(spreads)
    notes = []
    if found.kept:
        more = f" and {len(found.kept) - 3} more" if len(found.kept) > 3 else ""
        notes.append(
            f"--untrained kept {', '.join(found.kept[:3])}{more}: constants that belong to no "
            "layer that is known as one with weights"
        )
    layers = list(prepared.plan.layers)
    session = prepared.session
    if len(prepared.passes) == 1:
        session = reopen(session, found.model, layers)
    return replace(prepared, graph=found.model, session=session), notes


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
