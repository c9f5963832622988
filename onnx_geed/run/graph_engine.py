"""The graph engine: a measurement as a model is run, and what it yields is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.measures import ProbabilityError, check_divergences, check_probabilities
from onnx_geed.run.between_samples import Between, neighbours
from onnx_geed.run.executor import in_order
from onnx_geed.run.fuse import Fused, fuse_measurement
from onnx_geed.run.job import Prepared
from onnx_geed.run.kernel_engine import DOUBTED, Reduced, check_orbits
from onnx_geed.run.orbits import compare_rows, job_orbits, run_rows
from onnx_geed.run.session import Session, open_session
from onnx_geed.run.source import Source

__all__ = ["Opened", "check_job", "open_fused", "reduce_outputs", "stream_fused"]

F64 = NDArray[np.float64]


#: A measurement, and the session that runs it.
Opened = tuple[Fused, Session]


def open_fused(
    prepared: Prepared, layers: Sequence[str], *, doubt: bool, exposed: bool = False
) -> Opened:
    """Build the measurement on some layers, and open it on the provider that was tried out.

    Parameters
    ----------
    prepared : Prepared
        What is measured.
    layers : sequence of str
        On which tensors.
    doubt : bool
        Whether to measure with the inverse of a given table too.
    exposed : bool
        Whether the tensors themselves can be asked for too, as pairs between samples need them.

    Returns
    -------
    Fused
    Session

    Raises
    ------
    GeedError
        If it cannot be built, or the runtime cannot load it.
    """
    fused = fuse_measurement(
        prepared.graph,
        prepared.source,
        prepared.plan,
        layers,
        prepared.session.input,
        doubt=doubt,
        exposed=exposed,
    )
    session = open_session(
        fused.proto,
        prepared.graph.path.parent,
        input=fused.input,
        outputs=[output.name for output in fused.outputs],
        provider=prepared.session.provider,
    )
    return fused, session


def stream_fused(
    prepared: Prepared, layers: Sequence[str], opened: Opened, *, start: int = 0
) -> Iterator[tuple[int, Reduced]]:
    """Run the orbits through the measurement, several jobs at a time.

    Parameters
    ----------
    prepared : Prepared
        What will run.
    layers : sequence of str
        The tensors of this pass.
    opened : tuple of (Fused, Session)
        Their measurement.
    start : int
        Position of the first orbit; those before it were run already.

    Yields
    ------
    first : int
        Position of the job's first orbit.
    reduced : Reduced
        What the job left behind.

    Raises
    ------
    GeedError
        If a sample cannot be read, or the model fails on it or gives NaN or infinity.
        If rows of a batch depend on each other, where nothing proves that they do not.
    """
    fused, session = opened
    # The measurement yields no activations that could be compared.
    plain = prepared.open(layers) if prepared.source.check else None
    source, total = prepared.source, prepared.count
    n = source.action.group.order
    size = job_orbits(n, prepared.batch)
    # In a later part of D there are no pairs left to take.
    between = Between(prepared.plan, [] if start else neighbours(total))
    exposing = replace(session, outputs=(*session.outputs, *fused.activations))

    def run(positions: range) -> Reduced:
        if plain:
            check_job(source, plain, positions, prepared.batch)
        rows = source.rows(positions, orbits=False)
        others = source.other_inputs(positions, 1)
        feeds = {fused.feeds[name]: value for name, value in others.items() if name in fused.feeds}
        # Only for the pairs between samples do activations leave the device.
        chosen = exposing if between.awaits(positions.start) else session
        arrays = chosen.run_as_given(rows, feeds)
        # Copied: what the runtime returns lies in its arena, and would keep all of that alive.
        count = len(session.outputs)
        copies = [array.copy() for array in arrays[:count]]
        named = dict(zip(session.outputs, copies, strict=True))
        reduced = reduce_outputs(prepared, fused, layers, named, positions.start)
        given = {
            name: np.asarray(array, np.float32).reshape(len(positions), n, *array.shape[1:])
            for name, array in zip(fused.activations, arrays[count:], strict=False)
        }
        return replace(reduced, between=between.begin(given, positions.start)())

    def work(first: int) -> tuple[int, Reduced]:
        positions = range(first, min(first + size, total))
        try:
            return first, run(positions)
        except BaseException as error:
            between.fail(first, positions.stop, error)
            raise

    yield from in_order(range(start, total, size), work, prepared.workers)


def check_job(source: Source, session: Session, positions: Sequence[int], batch: int) -> None:
    """Run the orbits at some positions only to check them, if they are to be checked.

    Parameters
    ----------
    source : Source
        What to run.
    session : Session
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
    if source.check.wants(positions, len(source.indices), rows):
        feeds = source.other_inputs(positions, source.action.group.order)
        arrays = run_rows(source, session, rows, feeds, batch)
        compare_rows(source, session, rows, feeds, arrays, positions)


def reduce_outputs(
    prepared: Prepared,
    fused: Fused,
    layers: Sequence[str],
    arrays: dict[str, NDArray[Any]],
    first: int,
) -> Reduced:
    """Turn what a measurement yields into what the compiled loops leave behind.

    Parameters
    ----------
    prepared : Prepared
        What runs.
    fused : Fused
        The measurement.
    layers : sequence of str
        The tensors of this pass.
    arrays : dict of str to ndarray
        Its outputs by name, for some orbits.
    first : int
        Position of the first of them.

    Returns
    -------
    Reduced

    Raises
    ------
    GeedError
        If an activation was NaN or infinite, naming sample, element and tensor.
        If a probability is positive where the reference's is zero, naming the sample.
    """
    plan, label = prepared.plan, prepared.source.label
    parts = {(o.measure.name, o.measure.layer, o.part): arrays[o.name] for o in fused.outputs}
    points = {o.measure.layer: arrays[o.name] for o in fused.outputs if o.part == "latent"}
    reduced = Reduced([], [], [], [], {})
    for measure in plan.measures:
        if measure.layer not in layers:
            continue
        key = (measure.name, measure.layer)
        values: F64 = parts[*key, "deviation"]
        check_orbits(plan, measure.layer, parts[*key, "energy"], label, first)
        if measure.name == "softmax-kl":
            for k, row in enumerate(values):
                try:
                    if (*key, "range") in parts:
                        check_probabilities(*parts[*key, "range"][k])
                    check_divergences(measure, row, range(len(row)))
                except ProbabilityError as error:
                    raise GeedError(f"{label(first + k)}: {error}") from None
        members = plan.exact_subgroup(measure)
        exact = None
        if members:
            exact = parts.get((*key, "exact"), values[:, list(members)])
        inverse = parts.get((*key, "inverse"))
        if (*key, "class") in parts:
            reduced.predicted[measure.layer] = parts[*key, "class"].astype(np.int64)
        if (*key, "channels") in parts:
            whole = parts[*key, "channels"]
            exact_part = parts.get((*key, "exact channels"), whole)
            reduced.channels[measure.layer] = -np.stack([whole, exact_part], axis=1)
        left = max(0, DOUBTED - first)
        reduced.deviations.append(values)
        reduced.zero_pairs.append(parts.get((*key, "zeros"), np.zeros_like(values)))
        reduced.exact.append(exact)
        reduced.inverse.append(None if inverse is None or not left else inverse[:left])
    reduced.points.update({name: rows.astype(np.float64) for name, rows in points.items()})
    return reduced
