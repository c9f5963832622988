"""Fitting: orbits of the fit samples pass by, sums of them stay, and output actions are solved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import Intake
from onnx_geed.groups import Fit, LayoutAction, Table, TableKind, parse_layout
from onnx_geed.measures import FitSums, Plan, fit_bytes
from onnx_geed.run.executor import in_order
from onnx_geed.run.fit_requests import FitRequest, fit_action
from onnx_geed.run.job import Task, job_orbits
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.options import Options
from onnx_geed.run.orbit_reduction import check_orbits, check_shapes
from onnx_geed.run.orbits import activations
from onnx_geed.run.progress import Meter, Progress
from onnx_geed.run.session import Runner
from onnx_geed.run.source import Source
from onnx_geed.run.worker import Worker
from onnx_geed.text import format_bytes, parse_bytes

__all__ = ["Fitting", "Notify", "fit_from_model", "fit_tables", "orbits_of", "with_samples"]

F32 = NDArray[np.float32]


# Told in words of what is about to take long.
Notify = Callable[[str], None]


# Activations of some successive orbits, (orbits, n, ...) by tensor.
Orbits = Mapping[str, F32]


@dataclass(frozen=True)
class Fitting:
    """Output actions that are to be fitted, and to what.

    Parameters
    ----------
    plan : Plan
        The tensors and the group.
    requests : mapping of str to FitRequest
        What is fitted, by tensor.
    indices : tuple of int
        The fit samples.
    options : Options
        Memory, support, and how hidden tensors are moved.
    """

    plan: Plan
    requests: Mapping[str, FitRequest]
    indices: tuple[int, ...]
    options: Options

    @property
    def inferences(self) -> int:
        """Model inputs of all passes over the fit samples."""
        return len(self.passes) * len(self.indices) * self.plan.group.order

    def bytes_of(self, name: str) -> int:
        """Bytes that sums of one layer, and solving it, take."""
        _, channels = self.action(name)
        kind, order = self.requests[name].kind, self.plan.group.order
        return fit_bytes(order, channels, kind, len(self.indices))

    def action(self, name: str) -> tuple[Any, int]:
        """How the places of a layer move, and how many channels it has."""
        layer, request = self.plan.layers[name], self.requests[name]
        return fit_action(layer, self.plan.group, self.options, request.asked)

    @cached_property
    def passes(self) -> tuple[tuple[str, ...], ...]:
        """Layers whose sums, and whose orbits, fit into memory together."""
        budget, order = parse_bytes(self.options.memory), self.plan.group.order
        passes: list[list[str]] = [[]]
        filled = 0
        for name in self.requests:
            needed = self.bytes_of(name) + 2 * order * self.plan.layers[name].bytes
            if passes[-1] and filled + needed > budget:
                passes.append([])
                filled = 0
            passes[-1].append(name)
            filled += needed
        return tuple(map(tuple, passes))

    def memory_line(self) -> str:
        """Say what is fitted, and what that takes."""
        held = max(sum(map(self.bytes_of, names)) for names in self.passes)
        layers = f"{len(self.requests)} layer{'s' * (len(self.requests) > 1)}"
        passes = f" in {len(self.passes)} passes" if len(self.passes) > 1 else ""
        return (
            f"fitting {layers} to {len(self.indices)} samples{passes}: the sums take "
            f"{format_bytes(held)}"
        )


def fit_from_model(
    fitting: Fitting,
    task: Task,
    *,
    worker: Worker,
    workers: int,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, Table]:
    """Run the fit samples' orbits through a model, and fit output actions to them.

    Parameters
    ----------
    fitting : Fitting
        What is fitted, and to what.
    task : Task
        The network and the data.
    worker : Worker
        Has the sessions.
    workers : int
        Runs side by side.
    progress : callable, optional
        Told of inferences, and then of layers that are solved.
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
    source, order = _over(task.source, fitting.indices), task.plan.group.order
    meter = Meter("inferences to fit", fitting.inferences, progress)

    def orbits(names: Sequence[str]) -> Iterator[Orbits]:
        runner = worker.session(task.network, names)
        for arrays in orbits_of(task, source, runner, workers):
            yield arrays
            meter.add(order * len(next(iter(arrays.values()))))

    tables = fit_tables(fitting, orbits, source.label, progress, notify)
    intake = source.main.intake
    assert intake is not None
    fingerprint = intake.fingerprint(len(fitting.indices))
    for moved in source.moved:
        if moved.intake is not None:
            moved.intake.check()
    return with_samples(tables, intake.marks(), fingerprint)


def _over(source: Source, indices: tuple[int, ...]) -> Source:
    """Return a source of other samples, which are marked as they are read."""

    def of_input(moved: MovedInput) -> MovedInput:
        return replace(moved, indices=indices, intake=Intake(moved.samples, indices))

    partners = {name: of_input(moved) for name, moved in source.partners.items()}
    # Rows that are not proven to be independent are checked on those of D.
    return replace(source, main=of_input(source.main), partners=partners, check=None)


def orbits_of(task: Task, source: Source, runner: Runner, workers: int) -> Iterator[Orbits]:
    """Yield the orbits of all samples of a source, some at a time, in order.

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

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it.
    """
    count, size = len(source.indices), job_orbits(task.plan.group.order, task.batch)
    stretches = [range(start, min(start + size, count)) for start in range(0, count, size)]

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
        Told of maps that are solved.
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
    return FitSums(action, channels, kind, samples, fitting.options.support)


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
    values, strength, defect = sums.solve(progress)
    on_places = isinstance(fitting.action(name)[0], LayoutAction)
    if request.kind == "permutation":
        kind: TableKind = "channels" if on_places else "permutation"
    else:
        kind = "channel_matrices" if on_places else "matrices"
    fit = Fit(request.kind, name, len(fitting.indices), strength, defect, fitting.indices)
    return Table(group.elements, kind, values, request.asked, fit)


def with_samples(
    tables: Mapping[str, Table], marks: Sequence[str], fingerprint: str
) -> dict[str, Table]:
    """Return fitted actions that know the samples that they were fitted to."""
    entered = {}
    for name, table in tables.items():
        assert table.fit is not None
        fit = replace(table.fit, marks=tuple(marks), fingerprint=fingerprint)
        entered[name] = replace(table, fit=fit)
    return entered
