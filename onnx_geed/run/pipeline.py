"""Prepare, run, collect and describe in one call: :func:`measure`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Group
from onnx_geed.model import Model, parse_classes
from onnx_geed.results import (
    PrecisionPart,
    Record,
    Result,
    add_class_values,
    add_predictions,
    check_measured,
    ended,
    looks,
    precision_notes,
    result,
    verdict,
)
from onnx_geed.run.accumulator import Tally
from onnx_geed.run.between_samples import Between, neighbours
from onnx_geed.run.graph_engine import Opened, open_fused, stream_fused
from onnx_geed.run.job import Prepared
from onnx_geed.run.kernel_engine import Reduced, points_of, reduce_orbits
from onnx_geed.run.options import make_options
from onnx_geed.run.orbits import identities, job_orbits, stream
from onnx_geed.run.prepare import check_inputs, prepare_run
from onnx_geed.run.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    software_versions,
)
from onnx_geed.run.session import Session
from onnx_geed.run.unmoved import unmoved_notes, unmoving

__all__ = ["Progress", "measure"]

#: Told how many model inputs have been run, of how many.
Progress = Callable[[int, int], None]


def measure(
    model: str | Path | Model,
    data: str | Path | NDArray[Any],
    group: str | Group,
    *,
    progress: Progress | None = None,
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
    group : str or Group
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v``, ``shift<a>x<b>``, or one that
        :func:`onnx_geed.parse_group` made.
    progress : callable, optional
        Told how far the run is.
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
        If the group does not move the input, or is one of your own.

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
    prepared = prepare_run(model, data, group, make_options(options))
    check_measured(limits, [(m.name, m.layer) for m in prepared.plan.measures])
    chosen = prepared.options
    looked = looks(prepared.count)[0] if chosen.precision is not None else prepared.count
    idle = unmoving(prepared.source, looked)
    prepared, tally, found, inferences = _measured(prepared, progress)
    if idle:
        idle = unmoving(prepared.source, prepared.count, start=looked, among=idle)
    records, described = _records(prepared, tally), describe_data(prepared)
    if chosen.references:
        from onnx_geed.run.references import add_references

        inferences += add_references(prepared, records, progress)
    notes = unmoved_notes(prepared.plan.group, idle, prepared.count)
    notes += [] if found is None else precision_notes(found)
    names = parse_classes(prepared.model.metadata.get("onnx_geed.classes"))
    add_class_values(records, described["labels"], seed=chosen.seed)
    notes += add_predictions(records, described["labels"], tally.predicted(), names)
    if chosen.untrained:
        from onnx_geed.run.references import add_untrained, untrained

        other, said = untrained(prepared)
        notes += said
        again, meter = Tally(prepared.plan), _Meter(_inputs(prepared), progress)
        _run(other, again, meter, {})
        add_untrained(records, _records(other, again), chosen.seed)
        inferences += meter.done
    check_inputs(prepared)
    made = result(
        command=command or f"onnx_geed.measure(group={prepared.plan.group.name!r})",
        software=software_versions(),
        model=describe_model(prepared.model),
        data=described,
        group=describe_group(prepared),
        runtime=describe_runtime(prepared, time.perf_counter() - started, inferences),
        seed=chosen.seed,
        measurements=records,
    )
    made["notes"] = [*prepared.plan.notes, *notes]
    if found is not None:
        made["precision"] = found
    return made


def _measured(
    prepared: Prepared, progress: Progress | None
) -> tuple[Prepared, Tally, PrecisionPart | None, int]:
    """Run D, or as much of it as the precision takes; also return the number of inferences."""
    tally, precision = Tally(prepared.plan), prepared.options.precision
    meter = _Meter(_inputs(prepared), progress)
    opened: dict[tuple[str, ...], Opened] = {}
    if precision is None:
        _run(prepared, tally, meter, opened)
        return prepared, tally, None, meter.done
    start = 0
    for count in looks(prepared.count):
        part = prepared.first(count)
        _run(part, tally, meter, opened, start)
        found = verdict(_records(prepared, tally), precision)
        if ended(found):
            break
        start = count
    return part, tally, found, meter.done


def _records(prepared: Prepared, tally: Tally) -> list[Record]:
    chosen = prepared.options
    return tally.records(
        norm_samples=chosen.norm_samples, interval=chosen.interval, seed=chosen.seed
    )


def _inputs(prepared: Prepared) -> int:
    """Model inputs that a whole run takes."""
    latents = {m.layer for m in prepared.plan.measures if m.name.startswith("latent")}
    at_first = prepared.count
    if prepared.options.precision is not None:
        at_first = looks(prepared.count)[0]
    extra = max(0, min(len(prepared.source.indices), prepared.options.norm_samples) - at_first)
    orbits = prepared.count * prepared.plan.group.order
    return sum(orbits + (extra if latents & set(names) else 0) for names in prepared.passes)


@dataclass
class _Meter:
    """How many model inputs were run, of how many."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, inputs: int) -> None:
        self.done += inputs
        if self.progress:
            self.progress(self.done, self.total)


def _run(
    prepared: Prepared,
    tally: Tally,
    meter: _Meter,
    opened: dict[tuple[str, ...], Opened],
    start: int = 0,
) -> None:
    """Run all passes over the orbits from some position on into a tally."""
    n = prepared.plan.group.order
    latents = [m.layer for m in prepared.plan.measures if m.name.startswith("latent")]
    size = job_orbits(n, prepared.batch)
    for names in prepared.passes:
        session = prepared.open(names) if prepared.engine == "kernels" else None
        for first, reduced in _reduced(prepared, names, session, start, opened):
            # M is taken once, over the points that the first orbits were followed by.
            tally.add(replace(reduced, points={}) if start else reduced, names)
            meter.add(n * (min(first + size, prepared.count) - first))
        pooled = tuple(dict.fromkeys(name for name in latents if name in names))
        if pooled and not start and len(prepared.source.indices) > prepared.count:
            _points(prepared, session or prepared.open(pooled), pooled, tally, meter)


def _reduced(
    prepared: Prepared,
    names: tuple[str, ...],
    session: Session | None,
    start: int,
    opened: dict[tuple[str, ...], Opened],
) -> Iterator[tuple[int, Reduced]]:
    """Run one pass's jobs: on a session that returns activations, or else inside the graph."""
    if session is None:
        found = opened.get(names) or open_fused(prepared, names, doubt=True, exposed=True)
        if len(prepared.passes) == 1:
            opened[names] = found
        return stream_fused(prepared, names, found, start=start)
    # In a later part of D there are no pairs left to take.
    between = Between(prepared.plan, [] if start else neighbours(prepared.count))
    return stream(
        prepared.source,
        session,
        _reducer(prepared, session, between),
        batch=prepared.batch,
        workers=prepared.workers,
        count=prepared.count,
        start=start,
        failed=between.fail,
    )


def _reducer(
    prepared: Prepared, session: Session, between: Between
) -> Callable[[int, list[NDArray[np.float32]]], Reduced]:
    """Return the function that reduces a job's activations."""

    def reduce(first: int, arrays: list[NDArray[np.float32]]) -> Reduced:
        named = dict(zip(session.outputs, arrays, strict=True))
        reduced = reduce_orbits(prepared.plan, named, prepared.source.label, first=first)
        return replace(reduced, between=between.begin(named, first)())

    return reduce


def _points(
    prepared: Prepared,
    session: Session,
    layers: tuple[str, ...],
    tally: Tally,
    meter: _Meter,
) -> None:
    """Identity latents of the samples that M needs beyond D."""
    bare = replace(session, outputs=layers)
    first = prepared.count
    for arrays in identities(
        prepared.source, bare, first, batch=prepared.batch, workers=prepared.workers
    ):
        named = dict(zip(layers, arrays, strict=True))
        tally.add_points(points_of(prepared.plan, named, prepared.source.label, first))
        first += len(arrays[0])
        meter.add(len(arrays[0]))
