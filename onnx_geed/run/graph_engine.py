"""The graph engine: a measurement as a model is run, and its outputs are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.measures import (
    Known,
    Measure,
    Plan,
    ProbabilityError,
    Spread,
    check_divergences,
    check_probabilities,
    count_places,
)
from onnx_geed.model import has_loops
from onnx_geed.run.between_samples import pairs_within
from onnx_geed.run.fuse import Fused, fuse_measurement, takes_orbits
from onnx_geed.run.job import Job, Task
from onnx_geed.run.memory import stacked_together
from onnx_geed.run.orbit_reduction import DOUBTED, check_orbits, pointed_of, sums_statistics
from onnx_geed.run.orbit_statistics import ChannelValues, MeasureStatistics, OrbitStatistics
from onnx_geed.run.orbits import compare_rows, run_rows
from onnx_geed.run.session import Runner, Session, open_session
from onnx_geed.run.source import Source

__all__ = ["GraphEngine", "check_job", "open_fused", "open_graph_engine", "reduce_outputs"]


@dataclass(frozen=True)
class GraphEngine:
    """The measurement as nodes behind the model, in one graph.

    Parameters
    ----------
    fused : Fused
        The measurement.
    session : Session
        Runs it.
    checked : Runner, optional
        Returns the model's own tensors, where rows are run again alone.
    """

    fused: Fused
    session: Session
    checked: Runner | None = None

    def run(self, job: Job) -> OrbitStatistics:
        """Run a job and reduce it, as :class:`onnx_geed.run.engine.Engine` says."""
        task, fused, positions = job.task, self.fused, job.positions
        source, n = task.source, task.plan.group.order
        if self.checked is not None:
            # The measurement yields no activations that could be compared.
            check_job(source, self.checked, positions, task.batch)
        rows = source.rows(positions, orbits=fused.orbits)
        others = source.other_inputs(positions, n if fused.orbits else 1)
        feeds = {fused.feeds[name]: value for name, value in others.items() if name in fused.feeds}
        session = self.session
        if job.pairs:
            # Only for the pairs between samples do activations leave the device.
            session = session.only((*session.outputs, *fused.activations))
        arrays = session.run_as_given(rows, feeds)
        exposed = {
            name: np.asarray(arrays.pop(name), np.float32)
            for name in fused.activations
            if name in arrays
        }
        exposed = {k: a.reshape(len(positions), n, *a.shape[1:]) for k, a in exposed.items()}
        # Copied: what the runtime returns lies in its arena, and would keep all of that alive.
        copies = {name: array.copy() for name, array in arrays.items()}
        statistics = reduce_outputs(
            *(task.plan, fused, job.layers, copies, source.label, positions, exposed, job.pairs),
            known=job.known,
        )
        return statistics if job.points else statistics.without_points()


def open_graph_engine(
    task: Task, layers: Sequence[str], checked: Runner | None = None
) -> GraphEngine:
    """Open the engine for the layers of a pass.

    Parameters
    ----------
    task : Task
        What is run.
    layers : sequence of str
        Tensors of the pass.
    checked : Runner, optional
        Returns the model's own tensors, where rows are run again alone.

    Returns
    -------
    GraphEngine

    Raises
    ------
    GeedError
        If the measurement cannot be built, or the runtime cannot load it.
    """
    orbits = takes_orbits(task.source)
    stacked = stacked_together(task.plan, task.network.provider)
    fused, session = open_fused(
        task, layers, doubt=True, exposed=True, orbits=orbits, stacked=stacked
    )
    return GraphEngine(fused, session, checked)


def open_fused(
    task: Task,
    layers: Sequence[str],
    *,
    doubt: bool,
    exposed: bool = False,
    orbits: bool = False,
    stacked: int | None = None,
) -> tuple[Fused, Session]:
    """Build the measurement on some layers, and open it on the provider that was tried out.

    Parameters
    ----------
    task : Task
        The measures and their tensors.
    layers : sequence of str
        On which tensors.
    doubt : bool
        Whether to measure with the inverse of a given table too.
    exposed : bool
        Whether the tensors themselves can be asked for too, as pairs between samples need them.
    orbits : bool
        Whether its inputs are whole orbits, made outside of it.
    stacked : int, optional
        Most bytes of one sample's maps that are summed together; by default measures of maps
        yield deviations, and no sums.

    Returns
    -------
    Fused
    Session

    Raises
    ------
    GeedError
        If it cannot be built, or the runtime cannot load it.
    """
    network = task.network
    fused = fuse_measurement(
        network.graph,
        task.source,
        task.plan,
        layers,
        network.input,
        doubt=doubt,
        exposed=exposed,
        orbits=orbits,
        stacked=stacked,
    )
    session = open_session(
        fused.proto.SerializeToString(),
        network.graph.path.parent,
        input=fused.input,
        outputs=fused.yielded,
        provider=network.provider,
        loops=has_loops(fused.proto.graph),
    )
    return fused, session


def check_job(source: Source, runner: Runner, positions: Sequence[int], batch: int) -> None:
    """Run the orbits at some positions only to check them, if they are to be checked.

    Parameters
    ----------
    source : Source
        What to run.
    runner : Runner
        On what.
    positions : sequence of int
        Positions of the orbits.
    batch : int
        Most rows in one run.

    Raises
    ------
    GeedError
        If a row depends on the others of its batch, naming its sample and element.
    """
    if source.check is None:
        return
    rows = source.rows(positions)

    @cache
    def feeds() -> Mapping[str, NDArray[Any]]:
        return source.other_inputs(positions, source.action.group.order)

    def beside() -> list[NDArray[Any]]:
        return [feeds()[name] for name in source.partners]

    if source.check.wants(positions, len(source.indices), rows, beside):
        arrays = run_rows(source, runner, rows, feeds(), batch)
        compare_rows(source, runner, rows, feeds(), arrays, positions)


def reduce_outputs(
    plan: Plan,
    fused: Fused,
    layers: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    label: Callable[[int], str],
    positions: range,
    exposed: Mapping[str, NDArray[np.float32]],
    pairs: Sequence[tuple[int, int]],
    known: Mapping[str, Known],
) -> OrbitStatistics:
    """Turn the outputs of a measurement into statistics, as the compiled loops make them.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    fused : Fused
        The measurement.
    layers : sequence of str
        The tensors of this pass.
    arrays : mapping of str to ndarray
        Its outputs by name, for some orbits.
    label : callable
        Names the sample at a position of D, for messages.
    positions : range
        Positions of the orbits.
    exposed : mapping of str to ndarray of float32, shape (orbits, n, ...)
        Activations by tensor, where there are pairs.
    pairs : sequence of (int, int)
        Pairs of samples that are compared.
    known : mapping of str to Known
        What is known of the places of class scores, by tensor.

    Returns
    -------
    OrbitStatistics

    Raises
    ------
    GeedError
        If an activation was NaN or infinite, naming sample, element and tensor.
        If a probability is positive where the reference's is zero, naming the sample.
    """
    first = positions.start
    parts = {(o.measure.name, o.measure.layer, o.part): arrays[o.name] for o in fused.outputs}
    sums = _sums_of_stacks(fused, arrays)
    measures: dict[tuple[str, str], MeasureStatistics] = {}
    for measure in plan.measures:
        if measure.layer not in layers:
            continue
        key = measure.name, measure.layer
        own = {part: array for (*of, part), array in parts.items() if tuple(of) == key}
        of_maps = sums.get(key)
        check_orbits(plan, measure.layer, of_maps[1] if of_maps else own["energy"], label, first)
        if of_maps:
            statistics = sums_statistics(plan, measure, of_maps[0])
        else:
            statistics = _statistics_from_outputs(plan, measure, own, label, first)
        if "classes" in own:
            classes = own["classes"].astype(np.int64)
            count, of_places = plan.layers[measure.layer].classes, known.get(measure.layer)
            counted = count_places(measure, own.get("at places"), classes, count, of_places)
            statistics = replace(statistics, places=counted)
        if measure.layer in exposed:
            layer = plan.layers[measure.layer]
            between = pairs_within(measure, layer, exposed[measure.layer], first, pairs)
            statistics = replace(statistics, pairs=between)
        measures[key] = statistics
    points = {
        o.measure.layer: pointed_of(plan, arrays[o.name], first).astype(np.float64)
        for o in fused.outputs
        if o.part == "latent"
    }
    spreads = {}
    for output in fused.outputs:
        if output.part == "identity" and len(rows := pointed_of(plan, arrays[output.name], first)):
            spreads[output.measure.name, output.measure.layer] = Spread(rows)
    pointed = pointed_of(plan, positions, first) if points or spreads else range(0)
    return OrbitStatistics(positions, measures, pointed, points, spreads)


def _sums_of_stacks(
    fused: Fused, arrays: Mapping[str, NDArray[Any]]
) -> dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the sums of eq. (5) (N, n, C, 3), and Σ u² over all pixels, by measure and layer."""
    found = {}
    for sums in fused.stacks:
        three = [arrays[name] for name in (sums.products, sums.squares, sums.expected)]
        for measure, here in sums.stack.parts:
            of_measure = np.stack([array[:, :, here] for array in three], axis=-1)
            key = measure.name, measure.layer
            found[key] = of_measure, arrays[sums.energy][:, :, here]
    return found


def _statistics_from_outputs(
    plan: Plan,
    measure: Measure,
    parts: Mapping[str, NDArray[Any]],
    label: Callable[[int], str],
    first: int,
) -> MeasureStatistics:
    """Read the outputs that belong to one measure, by their part."""
    values = parts["deviation"]
    if measure.descriptor.of_classes:
        for k, row in enumerate(values):
            try:
                if "range" in parts:
                    check_probabilities(*parts["range"][k])
                if measure.descriptor.view == "scores":
                    check_divergences(measure, row, range(len(row)))
            except ProbabilityError as error:
                raise GeedError(f"{label(first + k)}: {error}") from None
    members = plan.exact_subgroup(measure)
    exact = parts.get("exact", values[:, list(members)]) if members else None
    left = max(0, DOUBTED - first)
    channels = None
    if "channels" in parts:
        both = parts["channels"], parts.get("exact channels", parts["channels"])
        channels = ChannelValues(-np.stack(both, axis=1))
    return MeasureStatistics(
        values,
        parts.get("zeros", np.zeros_like(values)),
        exact,
        parts["inverse"][:left] if left and "inverse" in parts else None,
        parts["class"].astype(np.int64) if "class" in parts else None,
        channels,
        counts=parts["counts"].astype(np.int64) if "counts" in parts else None,
    )
