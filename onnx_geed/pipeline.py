"""The rooms above in one call: :func:`measure`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.comparison import check_limits, limited
from onnx_geed.graph import Model
from onnx_geed.groups import Group
from onnx_geed.options import Options
from onnx_geed.orbits import identities, job_orbits, stream
from onnx_geed.prepare import Prepared, prepare
from onnx_geed.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    software_versions,
)
from onnx_geed.results import result
from onnx_geed.session import Session
from onnx_geed.tally import Reduced, Tally, points_of, reduce_orbits

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
) -> dict[str, Any]:
    """Measure the G-empirical equivariance deviation of an ONNX model.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        An image folder, ``.npy``, ``.npz``, ``file.h5:/dataset``, idx file, ``module:function``,
        or an array in the model's own layout.
    group : str or Group
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v``, ``shift<a>x<b>``, or a group of your own.
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

    Notes
    -----
    Eq. (4) with f̂ of eq. (2); eq. (5) for ``channel-cos``, eq. (6) for the latent measures.

    Examples
    --------
    >>> result = measure("model.onnx", "images/", "C8", samples=50)  # doctest: +SKIP
    >>> result["measurements"][0]["value"]  # doctest: +SKIP
    """
    started = time.perf_counter()
    prepared = prepare(model, data, group, Options(**options))
    for name, layer, _ in check_limits(limits):
        limited(
            [{"measure": m.name, "layer": m.layer} for m in prepared.plan.measures], name, layer
        )
    tally = Tally(prepared.plan)
    inferences = _run(prepared, tally, progress)
    chosen = prepared.options
    records = tally.records(
        norm_samples=chosen.norm_samples, interval=chosen.interval, seed=chosen.seed
    )
    if chosen.references:
        from onnx_geed.references import add_references

        inferences += add_references(prepared, records, progress)
    made = result(
        command=command or f"onnx_geed.measure(group={prepared.plan.group.name!r})",
        software=software_versions(),
        model=describe_model(prepared.model),
        data=describe_data(prepared),
        group=describe_group(prepared),
        runtime=describe_runtime(prepared, time.perf_counter() - started, inferences),
        seed=chosen.seed,
        measurements=records,
    )
    made["notes"] = list(prepared.plan.notes)
    return made


def _run(prepared: Prepared, tally: Tally, progress: Progress | None = None) -> int:
    """Run all passes into a tally; return the number of model inputs that were run."""
    n, extra = prepared.plan.group.order, len(prepared.source.indices) - prepared.count
    latents = [m.layer for m in prepared.plan.measures if m.name.startswith("latent")]
    total = sum(
        prepared.count * n + (extra if set(names) & set(latents) else 0)
        for names in prepared.passes
    )
    done = 0
    for names in prepared.passes:
        session = prepared.open(names)
        size = job_orbits(n, prepared.batch)
        for first, reduced in stream(
            prepared.source,
            session,
            _reducer(prepared, session),
            batch=prepared.batch,
            workers=prepared.workers,
            count=prepared.count,
        ):
            tally.add(reduced, names)
            done += n * (min(first + size, prepared.count) - first)
            if progress:
                progress(done, total)
        pooled = tuple(dict.fromkeys(name for name in latents if name in names))
        if pooled and extra:
            done = _points(prepared, session, pooled, tally, done, total, progress)
    return done


def _reducer(
    prepared: Prepared, session: Session
) -> Callable[[int, list[NDArray[np.float32]]], Reduced]:
    """Return the function that reduces a job's activations."""

    def reduce(first: int, arrays: list[NDArray[np.float32]]) -> Reduced:
        named = dict(zip(session.outputs, arrays, strict=True))
        return reduce_orbits(prepared.plan, named, prepared.source.label, first=first)

    return reduce


def _points(
    prepared: Prepared,
    session: Session,
    layers: tuple[str, ...],
    tally: Tally,
    done: int,
    total: int,
    progress: Progress | None,
) -> int:
    """Identity latents of the samples that M needs beyond D."""
    bare = Session(session.runtime, session.input, session.dtype, layers, session.provider)
    first = prepared.count
    for arrays in identities(
        prepared.source, bare, first, batch=prepared.batch, workers=prepared.workers
    ):
        named = dict(zip(layers, arrays, strict=True))
        tally.add_points(points_of(prepared.plan, named, prepared.source.label, first))
        first += len(arrays[0])
        done += len(arrays[0])
        if progress:
            progress(done, total)
    return done
