"""Prepare, run, join and describe in one call: :func:`measure`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnx_geed.groups import Action, Group
from onnx_geed.model import CLASSES, Model, parse_classes
from onnx_geed.results import (
    Record,
    Result,
    add_class_values,
    add_gain,
    add_predictions,
    check_measured,
    looks,
    precision_notes,
    result,
)
from onnx_geed.run.executor import in_order
from onnx_geed.run.fit_orbits import Notify, with_fits
from onnx_geed.run.fit_overlap import copies_notes
from onnx_geed.run.fit_scales import add_fits, fit_inferences
from onnx_geed.run.how_far import gain_is_taken, gain_notes, input_distances
from onnx_geed.run.job import Job, orbit_jobs, point_jobs
from onnx_geed.run.measurements import measurements_of, predictions_of
from onnx_geed.run.options import make_options
from onnx_geed.run.orbit_statistics import OrbitStatistics, beside, gather
from onnx_geed.run.prepare import Prepared, check_inputs, prepare_run
from onnx_geed.run.progress import Meter, Progress
from onnx_geed.run.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    software_versions,
)
from onnx_geed.run.references import add_references, add_untrained, trip_inferences, untrained
from onnx_geed.run.sequential import Measured, measure_until
from onnx_geed.run.unmoved import unmoved_notes, unmoving

__all__ = ["measure"]


def measure(
    model: str | Path | Model,
    data: str | Path | NDArray[Any],
    group: str | Group | None = None,
    *,
    action: Action | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    limits: Sequence[str] = (),
    **options: Any,
) -> Result:
    """Measure the G-empirical equivariance deviation of an ONNX model.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        An image folder, ``.npy``, ``.npz``, ``file.h5:/dataset``, idx file, ``module:function``,
        or an array in the model's own layout.
    group : str or Group, optional
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v``, ``shift<a>x<b>``, or one that
        :func:`onnx_geed.parse_group` made; by default that of ``action``.
    action : Action, optional
        How a group of one's own, or a named one in another way, acts on the input: an
        :class:`onnx_geed.IndexAction`, an :class:`onnx_geed.FunctionAction`, or any object with
        the parts of :class:`onnx_geed.Action`. Hidden maps move as its method ``at`` says.
    progress : callable, optional
        Told how far the run is.
    notify : callable, optional
        Told in words what fitting an output action will take.
    command : str, optional
        What the result file says was run.
    limits : sequence of str
        Limits that the result is going to be held against, ``MEASURE[@LAYER]=LIMIT``; those that
        name nothing that is measured are refused before the run.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        The result of schema ``onnx-geed/result/1``: every value with its interval, per-element,
        per-sample and single deviations.

    Raises
    ------
    GeedError
        If model, data or options cannot be used, or the model gives NaN or infinity.
        If the group does not move the input, or is one of your own without an action.
        If the action is none of its group, or of another one than ``group``.

    Notes
    -----
    Eq. (4) with f̂ of eq. (2); eq. (5) for ``channel-cos``, eq. (6) for the latent measures.

    Examples
    --------
    >>> result = measure("model.onnx", "images/", "C8", samples=50)  # doctest: +SKIP
    >>> result["measurements"][0]["value"]  # doctest: +SKIP
    """
    started = time.perf_counter()
    limits = (limits,) if isinstance(limits, str) else limits
    prepared = prepare_run(model, data, group, make_options(options), action)
    prepared = with_fits(prepared, progress, notify)
    plan, chosen = prepared.task.plan, prepared.options
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    looked = looks(prepared.count)[0] if chosen.precision is not None else prepared.count
    idle = unmoving(prepared.task.source, looked)
    planned = _planned_inferences(prepared, looked) + _scale_inferences(prepared)
    meter = Meter("inferences", planned, progress)
    measured = _measure(prepared, meter)
    prepared = prepared.first(measured.count)
    meter.expect(_scale_inferences(prepared))
    if idle:
        idle = unmoving(prepared.task.source, prepared.count, start=looked, among=idle)
    records, described = measured.records, describe_data(prepared.task.source)
    if chosen.references:
        add_references(prepared, records, meter)
    add_fits(prepared, records, meter)
    on_gain: list[str] = []
    if gain_is_taken(plan):
        of_inputs = input_distances(prepared.task.source, prepared.count, chosen.norm_samples)
        add_gain(records, of_inputs, plan.group.elements)
        points = min(chosen.norm_samples, len(prepared.task.source.indices))
        on_gain = gain_notes(of_inputs, points)
    notes = on_gain + unmoved_notes(plan.group, idle, prepared.count)
    notes += copies_notes(prepared.tables, described["marks"][: prepared.count])
    notes += [] if measured.precision is None else precision_notes(measured.precision)
    names = parse_classes(prepared.model.metadata.get(CLASSES))
    predicted = predictions_of(plan, measured.statistics)
    add_class_values(records, described["labels"], seed=chosen.seed)
    notes += add_predictions(records, described["labels"], predicted, names)
    inferences = prepared.fitted
    if chosen.untrained:
        other, kept = untrained(prepared)
        other = with_fits(other, progress, notify)
        notes += kept
        add_untrained(records, _records(other, _run(other, meter)), chosen.seed)
        inferences += other.fitted
    check_inputs(prepared)
    inferences += meter.done
    outcome = result(
        command=command or f"onnx_geed.measure(group={plan.group.name!r})",
        software=software_versions(),
        model=describe_model(prepared.model),
        data=described,
        group=describe_group(prepared.task),
        runtime=describe_runtime(prepared.task, time.perf_counter() - started, inferences),
        seed=chosen.seed,
        measurements=records,
    )
    outcome["notes"] = [*plan.notes, *notes]
    if measured.precision is not None:
        outcome["precision"] = measured.precision
    return outcome


def _measure(prepared: Prepared, meter: Meter) -> Measured:
    """Run D, or as much of it as the precision takes."""
    return measure_until(
        prepared.task.plan,
        prepared.count,
        prepared.options.precision,
        lambda start, stop: _run(prepared.first(stop), meter, start),
        lambda statistics: _records(prepared, statistics),
    )


def _records(prepared: Prepared, statistics: OrbitStatistics) -> list[Record]:
    chosen = prepared.options
    return measurements_of(
        prepared.task.plan,
        statistics,
        norm_samples=chosen.norm_samples,
        interval=chosen.interval,
        seed=chosen.seed,
    )


def _run(prepared: Prepared, meter: Meter, start: int = 0) -> OrbitStatistics:
    """Run all passes over the orbits from some position on."""
    passes = []
    for layers in prepared.passes:
        jobs = _pass_jobs(prepared, layers, start)
        parts = in_order(jobs, prepared.worker.run, prepared.workers)
        counted = meter.counting(parts, [job.inferences for job in jobs])
        passes.append(gather(prepared.task.plan, counted))
    return beside(passes)


def _pass_jobs(prepared: Prepared, layers: Sequence[str], start: int = 0) -> list[Job]:
    """Return the jobs of a pass. M is taken once, over the points that the first orbits need."""
    jobs = orbit_jobs(prepared.task, layers, prepared.count, start, points=not start)
    return jobs if start else jobs + point_jobs(prepared.task, layers, prepared.count)


def _planned_inferences(prepared: Prepared, first: int) -> int:
    """Return the model inputs that a run of D takes, whose points for M go with so many orbits."""
    orbits = prepared.count * prepared.task.plan.group.order
    task = prepared.first(first).task
    points = [point_jobs(task, layers, first) for layers in prepared.passes]
    return sum(orbits + sum(job.inferences for job in jobs) for jobs in points)


def _scale_inferences(prepared: Prepared) -> int:
    """Return the model inputs that the scales take, by which values are read."""
    chosen = prepared.options
    references = trip_inferences(prepared) if chosen.references else 0
    return (
        references
        + fit_inferences(prepared)
        + (_planned_inferences(prepared, prepared.count) if chosen.untrained else 0)
    )
