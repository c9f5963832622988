"""Prepare, run, join and describe: :func:`measure`, and :func:`measure_groups` for several."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Group, parse_group
from onnx_geed.model import CLASSES, Model, parse_classes
from onnx_geed.results import (
    Record,
    Result,
    check_measured,
    looks,
    precision_notes,
    result,
)
from onnx_geed.run.called import open_model
from onnx_geed.run.conclusion import anew, conclude, evidence_of
from onnx_geed.run.executor import Executor, ExecutorName
from onnx_geed.run.executors import open_executor
from onnx_geed.run.fit_orbits import Notify, with_fits
from onnx_geed.run.fit_scales import fit_inferences, run_scales
from onnx_geed.run.how_far import gain_is_taken, input_distances
from onnx_geed.run.job import orbit_jobs, point_jobs
from onnx_geed.run.kept_points import KeptPoints
from onnx_geed.run.measurements import measurements_of
from onnx_geed.run.options import make_options
from onnx_geed.run.orbit_statistics import OrbitStatistics, beside, gather
from onnx_geed.run.part import check_divisible, measure_part
from onnx_geed.run.prepare import Prepared, check_inputs, prepare_run
from onnx_geed.run.progress import Meter, Progress, begin_run
from onnx_geed.run.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    describe_targets,
    software_versions,
)
from onnx_geed.run.references import round_trips, trip_inferences, untrained
from onnx_geed.run.sequential import Measured, measure_until
from onnx_geed.run.shard import parse_shard
from onnx_geed.run.stretch import Stretch, alone, run_stretch, stretches
from onnx_geed.run.unmoved import unmoving

__all__ = ["measure", "measure_each", "measure_groups"]

# What a cache keeps, and what to do with it.
_NOT_MEASURED = (
    ("layers",),
    "names what onnx_geed.write_cache keeps; name the tensors to measure with their measure, as in "
    "measures=['channel-cos@NAME']",
)


@checked
def measure(
    model: str | Path | Model | Callable[[Any], Any],
    data: str | Path | NDArray[Any],
    group: str | Group | None = None,
    *,
    action: Action | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    limits: Sequence[str] = (),
    shard: str | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> Result:
    """Measure the G-empirical equivariance deviation of an ONNX model.

    Parameters
    ----------
    model : str, Path, Model or callable
        The ONNX file. Or a function that takes a batch (B, ...) of NumPy arrays and returns an
        array (B, ...), a tuple or a dict of arrays by name, also as tensors of other frameworks.
        Its outputs are the layers, in order; the last one is the model's output. It is called by
        one thread at a time.
    data : str, Path or ndarray
        An image folder, ``.npy``, ``.npz``, ``file.h5:/dataset``, idx file, ``module:function``,
        or an array in the model's own layout.
    group : str or Group, optional
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v``, ``shift<a>x<b>``, or one that
        :func:`onnx_geed.parse_group` made; by default that of ``action``.
    action : Action, optional
        How your own group, or a named one in another way, acts on the input: an
        :class:`onnx_geed.IndexAction`, an :class:`onnx_geed.FunctionAction`, or any object with the
        attributes and methods of :class:`onnx_geed.Action`. Its method ``at`` says how hidden maps
        move.
    progress : callable, optional
        Called with the progress of the run.
    notify : callable, optional
        Called with a text about the cost of fitting an output action.
    command : str, optional
        The command to store in the result.
    limits : sequence of str
        Limits that the result will be checked against, ``MEASURE[@LAYER]=LIMIT``. A limit for
        something that is not measured is refused before the run.
    shard : str, optional
        ``i/n``, such as ``2/5``: measure only the second of five parts of D.
        :func:`onnx_geed.merge` joins the parts.
    executor : {"local", "ray"} or Executor
        Where jobs run: on the threads of this process, or on the workers of a Ray cluster. The
        values are the same to the last bit.
    address : str, optional
        Address of the Ray cluster: ``auto``, the default, is the running one, or else a new one on
        this machine; ``local`` is a new one; or ``HOST:PORT``.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        The result, of schema ``onnx-geed/result/1``: each value with its interval, the values by
        element and by sample, and all single deviations.

    Raises
    ------
    GeedError
        If model, data or options are invalid, or the model returns NaN or infinity.
        If the group does not move the input, or is your own group without an action.
        If a function fails, or an option needs a graph.
        If the action is not one of its group, or belongs to another group than ``group``.
        If there is no such shard, or an option does not work with shards.

    Notes
    -----
    Eq. (4) with f̂ of eq. (2); eq. (5) for ``channel-cos``, eq. (6) for the latent measures.

    Examples
    --------
    >>> result = measure("model.onnx", "images/", "C8", samples=50)  # doctest: +SKIP
    >>> result["measurements"][0]["value"]  # doctest: +SKIP
    """
    started = time.perf_counter()
    share = None if shard is None else parse_shard(shard)
    chosen = make_options(options, *_NOT_MEASURED)
    with open_executor(executor, address) as running:
        prepared = prepare_run(model, data, group, chosen, action, executor=running)
        if share is not None:
            check_divisible(prepared, limits)
            told: dict[str, Any] = {"progress": progress, "notify": notify, "command": command}
            return measure_part(prepared, share, started=started, **told)
        return _outcome(prepared, started, progress, notify, command, limits)


@checked
def measure_groups(
    model: str | Path | Model | Callable[[Any], Any],
    data: str | Path | NDArray[Any],
    groups: Sequence[str | Group],
    *,
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    limits: Sequence[str] = (),
    shard: str | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> list[Result]:
    """Measure under several groups or families, with one result each.

    Parameters
    ----------
    model : str, Path, Model or callable
        The ONNX file, which is read once, or a function, as for :func:`measure`.
    data : str, Path or ndarray
        As for :func:`measure`; they are opened once.
    groups : sequence of str or Group
        Groups and families.
    progress : callable, optional
        Called with the progress of each run.
    notify : callable, optional
        Called with a text about the cost of fitting an output action.
    command : str, optional
        The command to store in the results.
    limits : sequence of str
        As for :func:`measure`, for every group.
    shard : str, optional
        As for :func:`measure`: the same part under each group.
    executor, address
        As for :func:`measure`.
    **options
        Fields of :class:`onnx_geed.Options`, for all groups.

    Returns
    -------
    list of dict
        Results, in the order of the groups.

    Raises
    ------
    GeedError
        If there is no group, or one is given twice.
        As for :func:`measure`; if possible, before anything is measured.

    Notes
    -----
    Results are identical to those of separate runs, to the last bit; only ``runtime`` and the time
    differ. The points for M beyond the samples of D are run only once for all groups with the same
    batch size.

    Examples
    --------
    >>> results = measure_groups("model.onnx", "images/", ["C8", "jpeg:90..10/6"])  # doctest: +SKIP
    """
    shared: dict[str, Any] = {"progress": progress, "notify": notify, "command": command}
    shared |= {"executor": executor, "address": address}
    return list(measure_each(model, data, groups, limits=limits, shard=shard, **shared, **options))


def measure_each(
    model: str | Path | Model | Callable[[Any], Any],
    data: str | Path | NDArray[Any],
    groups: Sequence[str | Group],
    *,
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    limits: Sequence[str] = (),
    shard: str | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Yield the results of :func:`measure_groups` as they are there."""
    started = time.perf_counter()
    share = None if shard is None else parse_shard(shard)
    told: dict[str, Any] = {"progress": progress, "notify": notify, "command": command}
    chosen = make_options(options, *_NOT_MEASURED)
    runs, kept = list[Prepared](), KeptPoints()
    with open_executor(executor, address) as running:
        loaded = open_model(model, data, chosen)
        for group in _different(groups):
            run = prepare_run(loaded, data, group, chosen, beside=runs, executor=running)
            check_measured(limits, [(m.name, m.layer) for m in run.task.plan.measures])
            if share is not None:
                check_divisible(run, limits)
            runs.append(run)
        count = len(runs)
        for i in range(count):
            run = runs.pop(0)  # what it holds goes with it
            begin_run(progress, i, count, run.task.plan.group.name)
            if share is None:
                yield _outcome(run, started, progress, notify, command, limits, kept)
            else:
                yield measure_part(run, share, started=started, kept=kept, **told)
            started = time.perf_counter()


def _different(groups: Sequence[str | Group]) -> list[Group]:
    """Return the groups that are named; refuse one that is there twice."""
    named = [groups] if isinstance(groups, str | Group) else groups
    acting = [group if isinstance(group, Group) else parse_group(group) for group in named]
    if not acting:
        raise GeedError("no group is given: name one such as C8")
    names = [group.name for group in acting]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise GeedError(f"group {twice[0]}: is given twice; give it once")
    return acting


def _outcome(
    prepared: Prepared,
    started: float,
    progress: Progress | None,
    notify: Notify | None,
    command: str | None,
    limits: Sequence[str],
    points: KeptPoints | None = None,
) -> Result:
    """Run what was worked out, and describe it."""
    limits = (limits,) if isinstance(limits, str) else limits
    prepared = with_fits(prepared, progress, notify)
    plan, chosen = prepared.task.plan, prepared.options
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    looked = looks(prepared.count)[0] if chosen.precision is not None else prepared.count
    idle = unmoving(prepared.task.source, looked)
    planned = _planned_inferences(prepared, looked, points) + _scale_inferences(prepared)
    meter = Meter("inferences", planned, progress)
    measured = _measure(prepared, meter, points)
    prepared = prepared.first(measured.count)
    source = prepared.task.source
    meter.expect(_scale_inferences(prepared))
    if idle:
        idle = unmoving(source, prepared.count, start=looked, among=idle)
    records = measured.records
    described = describe_data(source, describe_targets(plan, prepared.count))
    trips = round_trips(prepared, range(prepared.count), meter) if chosen.references else {}
    fit_scales = run_scales(prepared, range(prepared.count), meter)
    gain = gain_is_taken(plan)
    inputs = input_distances(source, prepared.count, chosen.norm_samples) if gain else None
    evidence = evidence_of(
        *(prepared, measured.statistics),
        idle=idle,
        trips=trips,
        inputs=inputs,
        fit_scales=fit_scales,
    )
    inferences = prepared.fitted
    if chosen.untrained:
        other, kept = untrained(prepared)
        other = with_fits(other, progress, notify)
        of_other = anew(evidence, other, _run(other, meter))
        evidence = replace(evidence, untrained=of_other, on_untrained=tuple(kept))
        inferences += other.fitted
    on_precision = [] if measured.precision is None else precision_notes(measured.precision)
    names = parse_classes(prepared.model.metadata.get(CLASSES))
    notes = conclude(evidence, records, described, names, on_precision)
    check_inputs(prepared)
    inferences += meter.done
    outcome = result(
        command=command or f"onnx_geed.measure(group={plan.group.name!r})",
        software=software_versions(),
        model=describe_model(prepared.model),
        data=described,
        group=describe_group(prepared.task),
        runtime=describe_runtime(
            prepared.task,
            time.perf_counter() - started,
            inferences,
            prepared.executor.workforce(prepared.workers),
        ),
        seed=chosen.seed,
        measurements=records,
    )
    outcome["notes"] = [*plan.notes, *notes]
    if measured.precision is not None:
        outcome["precision"] = measured.precision
    return outcome


def _measure(prepared: Prepared, meter: Meter, kept: KeptPoints | None) -> Measured:
    """Run D, or as much of it as the precision takes."""
    return measure_until(
        prepared.task.plan,
        prepared.count,
        prepared.options.precision,
        lambda start, stop: _run(prepared.first(stop), meter, start, kept),
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


def _run(
    prepared: Prepared, meter: Meter, start: int = 0, kept: KeptPoints | None = None
) -> OrbitStatistics:
    """Run all passes over the orbits from some position on.

    M is taken once, over the points that the first orbits need.
    """
    task, count = prepared.task, prepared.count
    kept, passes = kept or KeptPoints(), []
    for layers in prepared.passes:
        own = _stretches(prepared, layers, start)
        points = [] if start else point_jobs(task, layers, count)
        known = kept.of(prepared, points)
        points = points if known is None else []
        run = [*own, *alone(points)]
        parts = prepared.in_order(run_stretch, run)
        counted = meter.counting(parts, [one.inferences for one in run])
        orbits = itertools.islice(counted, len(own))
        pointed = kept.keeping(prepared, points, counted)
        parts = itertools.chain(orbits, pointed, known or ())
        passes.append(gather(task.plan, parts, count - start))
    return beside(passes)


def _stretches(prepared: Prepared, layers: Sequence[str], start: int = 0) -> list[Stretch]:
    """Return the jobs of the orbits from some position on, as they go to workers."""
    jobs = orbit_jobs(prepared.task, layers, prepared.count, start, points=not start)
    return stretches(jobs, apart=prepared.executor.apart, workers=prepared.workers)


def _planned_inferences(prepared: Prepared, first: int, kept: KeptPoints | None = None) -> int:
    """Return the model inputs that a run of D takes, whose points for M go with so many orbits."""
    run = prepared.first(first)
    points = [point_jobs(run.task, layers, first) for layers in prepared.passes]
    if kept is not None:
        points = [jobs if kept.of(run, jobs) is None else [] for jobs in points]
    later = (prepared.count - first) * prepared.task.plan.group.order
    orbits = [_stretches(run, layers) for layers in prepared.passes]
    return sum(
        later + sum(one.inferences for one in (*own, *alone(jobs)))
        for own, jobs in zip(orbits, points, strict=True)
    )


def _scale_inferences(prepared: Prepared) -> int:
    """Return the model inputs that the scales take, by which values are read."""
    chosen = prepared.options
    references = trip_inferences(prepared) if chosen.references else 0
    return (
        references
        + fit_inferences(prepared, range(prepared.count))
        + (_planned_inferences(prepared, prepared.count) if chosen.untrained else 0)
    )
