"""Fitting: orbits of the fit samples pass by, sums of them stay, and output actions are solved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import Intake
from onnx_geed.errors import without_secrets
from onnx_geed.groups import Fit, LayoutAction, Table, TableKind, parse_layout
from onnx_geed.measures import FitSums
from onnx_geed.run.executor import in_order
from onnx_geed.run.fit_overlap import SampleMarks, marks_in_source
from onnx_geed.run.fitting import Fitting
from onnx_geed.run.job import Task, job_orbits
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.orbit_reduction import check_orbits, check_shapes
from onnx_geed.run.orbits import activations
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.progress import Meter, Progress
from onnx_geed.run.session import Runner
from onnx_geed.run.source import Source
from onnx_geed.run.worker import Worker

__all__ = ["Notify", "fit_from_model", "fit_tables", "orbits_of", "with_fits", "with_samples"]

F32 = NDArray[np.float32]


# Told in words of what is about to take long.
Notify = Callable[[str], None]


# Activations of some successive orbits, (orbits, n, ...) by tensor.
Orbits = Mapping[str, F32]


def with_fits(
    prepared: Prepared, progress: Progress | None = None, notify: Notify | None = None
) -> Prepared:
    """Fit the output actions that a run asks for, so that it measures under them.

    Parameters
    ----------
    prepared : Prepared
        What was worked out.
    progress : callable, optional
        Called after inferences, then after solved layers.
    notify : callable, optional
        Told what the sums will take.

    Returns
    -------
    Prepared
        The same where nothing is to be fitted.

    Raises
    ------
    GeedError
        If the model fails, or gives NaN or infinity.
    """
    if prepared.fitting is None:
        return prepared
    fitted = fit_from_model(prepared, prepared.fitting, progress, notify)
    tables = {**prepared.tables, **fitted}
    again = prepared.planned(tables)
    plan = replace(
        prepared.task.plan,
        measures=again.measures,
        notes=tuple(dict.fromkeys([*prepared.task.plan.notes, *again.notes])),
    )
    task = replace(prepared.task, plan=plan)
    inferences = _inferences(prepared, prepared.fitting)
    return replace(
        prepared,
        task=task,
        tables=tables,
        fitting=None,
        fitted_by=prepared.fitting,
        fitted=prepared.fitted + inferences,
    )


def fit_from_model(
    prepared: Prepared,
    fitting: Fitting,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, Table]:
    """Run the fit samples' orbits through a model, and fit output actions to them.

    Parameters
    ----------
    prepared : Prepared
        The network and the data.
    fitting : Fitting
        What is fitted, and to what.
    progress : callable, optional
        Called after inferences, then after solved layers.
    notify : callable, optional
        Told what the sums will take.

    Returns
    -------
    dict of str to Table
        By tensor.

    Raises
    ------
    GeedError
        If the model fails, or gives NaN or infinity.
        If a sample is another one at the end.
    """
    source = _over(prepared.task.source, fitting.indices)
    task, order = replace(prepared.task, source=source), prepared.task.plan.group.order
    meter = Meter("inferences to fit", _inferences(prepared, fitting), progress)
    every = range(len(fitting.indices))

    def orbits(names: Sequence[str]) -> Iterator[Orbits]:
        runner = prepared.worker.session(task.network, names)
        for arrays in orbits_of(task, source, runner, prepared.workers, every):
            yield arrays
            meter.add(order * len(next(iter(arrays.values()))))

    if prepared.executor.apart:
        if notify is not None:
            notify(f"{fitting.memory_line()}, a worker a layer")
        fits = [(names, name) for names in fitting.passes for name in names]
        run, most = partial(_fit_one, task, fitting), min(prepared.workers, fitting.side_by_side)
        each = prepared.executor.in_order(task, prepared.worker, run, fits, most)
        counted = meter.counting(each, [order * len(every)] * len(fits))
        tables = {name: table for (_, name), table in zip(fits, counted, strict=True)}
    else:
        tables = fit_tables(fitting, orbits, source.label, progress, notify)
    for moved in source.moved:
        if moved.intake is not None:
            moved.intake.check()
    return with_samples(tables, marks_in_source(source))


def _inferences(prepared: Prepared, fitting: Fitting) -> int:
    """Return the model inputs that a fit runs: workers apart run them for a layer each."""
    passes = len(fitting.requests) if prepared.executor.apart else len(fitting.passes)
    return passes * len(fitting.indices) * fitting.plan.group.order


def _fit_one(
    task: Task, fitting: Fitting, worker: Worker, asked: tuple[Sequence[str], str]
) -> Table:
    """Fit the output action of one layer of a pass, from the first sample to the last.

    Sums of halves of the samples would round otherwise than that of all, and are, for deep layers,
    larger than the activations: so a layer is what is divided.
    """
    names, name = asked
    runner = worker.session(task.network, names).only((name,))

    def orbits(names: Sequence[str]) -> Iterator[Orbits]:
        return orbits_of(task, task.source, runner, 1, range(len(fitting.indices)))

    alone = replace(fitting, requests={name: fitting.requests[name]})
    return fit_tables(alone, orbits, task.source.label)[name]


def _over(source: Source, indices: tuple[int, ...]) -> Source:
    """Return a source of other samples, which are marked as they are read."""

    def of_input(moved: MovedInput) -> MovedInput:
        return replace(moved, indices=indices, intake=Intake(moved.samples, indices))

    partners = {name: of_input(moved) for name, moved in source.partners.items()}
    # Rows that are not proven to be independent are checked on those of D.
    return replace(source, main=of_input(source.main), partners=partners, check=None)


def orbits_of(
    task: Task, source: Source, runner: Runner, workers: int, positions: range
) -> Iterator[Orbits]:
    """Yield the orbits of samples of a source, a job at a time, in order.

    Parameters
    ----------
    task : Task
        The plan and the batch.
    source : Source
        The samples.
    runner : Runner
        Returns the tensors.
    workers : int
        Runs side by side.
    positions : range
        Positions of the samples, the first of which begins a job.

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it.
    """
    size = job_orbits(task.plan.group.order, task.batch)
    stretches = [positions[k : k + size] for k in range(0, len(positions), size)]

    def run(positions: range) -> Orbits:
        arrays = activations(source, runner, positions, task.batch)
        check_shapes(task.plan, arrays, axes=2)
        return arrays

    yield from in_order(stretches, run, workers)


def fit_tables(
    fitting: Fitting,
    orbits: Callable[[Sequence[str]], Iterable[Orbits]],
    label: Callable[[int], str],
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, Table]:
    """Fit output actions to orbits that pass by, as many layers at a time as memory holds.

    Parameters
    ----------
    fitting : Fitting
        What is fitted, and to what.
    orbits : callable
        Gives the orbits of the fit samples, in order, for some tensors.
    label : callable
        Names the sample at a position among the fit samples, for messages.
    progress : callable, optional
        Called after solved layers.
    notify : callable, optional
        Told what the sums will take.

    Returns
    -------
    dict of str to Table
        By tensor; what they were fitted to, :func:`with_samples` enters.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming sample, element and tensor.
    """
    if notify is not None:
        notify(fitting.memory_line())
    tables: dict[str, Table] = {}
    for names in fitting.passes:
        sums = {name: _sums(fitting, name) for name in names}
        first = 0
        for arrays in orbits(names):
            for name in names:
                check_orbits(fitting.plan, name, arrays[name], label, first)
                sums[name].add(first, _stacked(fitting, name, arrays[name]))
            first += len(arrays[names[0]])
        for name in names:
            tables[name] = _solved(fitting, name, sums.pop(name), progress)
    return tables


def _sums(fitting: Fitting, name: str) -> FitSums:
    action, channels = fitting.action(name)
    kind, samples = fitting.requests[name].kind, len(fitting.indices)
    # Over whole grids, also where maps are compared inside a disk: what judges fits is whole.
    return FitSums(action, channels, kind, samples)


def _stacked(fitting: Fitting, name: str, array: F32) -> F32:
    """Bring activations (N, n, ...) to rows of places (N, n, rows, F), or vectors (N, n, k)."""
    action, _ = fitting.action(name)
    layer = fitting.plan.layers[name]
    layout = parse_layout(layer.layout)
    if isinstance(action, LayoutAction):
        return action.stacked(layout.to_kept(array, name))
    return layout.to_points(array, axes=2)[0]


def _solved(fitting: Fitting, name: str, sums: FitSums, progress: Progress | None) -> Table:
    """Solve the sums of one layer."""
    group, request = fitting.plan.group, fitting.requests[name]
    Meter("maps solved", group.order - 1, progress)
    values, strength, defect = sums.solve(progress, representation=fitting.representation)
    on_places = isinstance(fitting.action(name)[0], LayoutAction)
    if request.kind == "permutation":
        kind: TableKind = "channels" if on_places else "permutation"
    else:
        kind = "channel_matrices" if on_places else "matrices"
    fit = Fit(request.kind, name, len(fitting.indices), strength, defect, fitting.indices)
    name = without_secrets(group.name)
    return Table(group.elements, kind, values, request.asked, fit, group=name)


def with_samples(tables: Mapping[str, Table], marks: SampleMarks) -> dict[str, Table]:
    """Return fitted actions that know the samples that they were fitted to, by their digests."""
    acted = tuple(marks.acted)
    fingerprint = hashlib.sha256("".join(acted).encode()).hexdigest()
    entered = {}
    for name, table in tables.items():
        assert table.fit is not None
        fit = replace(table.fit, marks=acted, fingerprint=fingerprint)
        fit = replace(fit, inputs=marks.inputs, wholes=tuple(marks.wholes))
        entered[name] = replace(table, fit=fit)
    return entered
