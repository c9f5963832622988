"""Measure from a cache, without the model and without ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.cache import store
from onnx_geed.cache.contents import unmoved_notes_of
from onnx_geed.cache.fits import add_fits_of_cache
from onnx_geed.cache.inputs import read_inputs
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.manifest_content import first_samples
from onnx_geed.cache.place_labels import read_place_labels
from onnx_geed.cache.plan import options_of, plan_with_fits
from onnx_geed.cache.remote import fetched_cache
from onnx_geed.cache.shard_reader import ShardReader
from onnx_geed.cache.spread import read_spreads
from onnx_geed.copies import Copy, read_by_copy
from onnx_geed.errors import GeedError, refuse_unknown
from onnx_geed.measures import Plan
from onnx_geed.model import parse_classes
from onnx_geed.results import (
    Interval,
    Record,
    Result,
    add_class_values,
    add_gain,
    add_predictions,
    check_measured,
    check_precision,
    looks,
    precision_notes,
    result,
)
from onnx_geed.run import (
    Meter,
    Notify,
    OrbitStatistics,
    Progress,
    Targets,
    bind_background,
    copies_notes,
    cores,
    describe_targets,
    drawn_notes,
    gain_is_taken,
    gain_notes,
    gather,
    in_order,
    marks_in_data,
    measure_until,
    measurements_of,
    predictions_of,
    software_versions,
)

__all__ = [
    "STILL_OPEN",
    "complete_manifest",
    "measure_cache",
]

#: Options that are still open when a cache is measured.
STILL_OPEN = (
    *("measures", "samples", "norm_samples", "interval", "precision", "background"),
    *("target", "output_action", "fit_samples", "fit_anyway", "memory"),
)


def _told(outcome: Result, copy: Copy) -> Result:
    """Return a result whose command names the address that was given, in place of its copy."""
    outcome["command"] = copy.told(outcome["command"])
    return outcome


@checked
@read_by_copy(fetched_cache, _told)
def measure_cache(
    folder: str | Path,
    *,
    measures: Sequence[str] = (),
    samples: int | None = None,
    norm_samples: int | None = None,
    interval: Interval = "t",
    precision: float | None = None,
    background: int | str | None = None,
    output_action: Mapping[str, Any] | None = None,
    fit_samples: int = 50,
    fit_anyway: bool = False,
    target: Targets = MappingProxyType({}),
    memory: str | int = "2GiB",
    limits: Sequence[str] = (),
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    **unknown: Any,
) -> Result:
    """Measure from a cache, without the model and without ONNX Runtime.

    Parameters
    ----------
    folder : str or Path
        The cache, or its address.
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; by default those for which the cache was written.
    samples, norm_samples : int, optional
        Numbers up to those in the cache; by default those with which it was written.
    interval : {"t", "bootstrap"}
        Interval over samples.
    precision : float, optional
        Use only as many orbits as needed, as in :class:`onnx_geed.Options`.
    background : int or str, optional
        Background class of scores at places, as in :class:`onnx_geed.Options`.
    output_action : mapping of str to str, Path or Table, optional
        As in :class:`onnx_geed.Options`, instead of those with which the cache was written.
    fit_samples : int
        Number of orbits for fitting actions: the next ones of the cache after D.
    fit_anyway : bool
        As in :class:`onnx_geed.Options`.
    target : mapping of str to str, Path or ndarray
        As in :class:`onnx_geed.Options`; a cache stores labels, but no targets.
    memory : str or int
        Budget for the tables by which maps move, and for fits.
    limits : sequence of str
        Limits that the result will be checked against, ``MEASURE[@LAYER]=LIMIT``. A limit for
        something that is not measured is refused before anything is read.
    progress : callable, optional
        Called with the number of finished orbits and of all.
    notify : callable, optional
        Called with a text about the cost of fitting an output action.
    command : str, optional
        The command to store in the result.

    Returns
    -------
    dict
        The result, of schema ``onnx-geed/result/1``. Its values are those of the live run, bit for
        bit, if activations were stored as float32 or statistics.

    Raises
    ------
    GeedError
        If the cache is incomplete, damaged or has a newer format.
        If it does not contain what a measure needs.
        If there is no such option, or its value has the wrong type or is not one of the choices.
    """
    started = time.perf_counter()
    refuse_unknown(unknown, STILL_OPEN)
    folder = Path(folder)
    manifest = complete_manifest(folder)
    description = manifest.description
    check_precision(precision, samples)
    count = _checked_count("--samples", samples, manifest.count)
    norm = _checked_count("--norm-samples", norm_samples, description["norm_samples"])
    options = options_of(manifest, count, output_action or {}, fit_samples, fit_anyway, memory)
    told = progress, notify
    plan, wanted, tables, on_fits = plan_with_fits(
        folder, manifest, measures, count, options, target, told
    )
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    dense = any(m.places is not None for m in plan.measures)
    labels = read_place_labels(folder, manifest, count) if dense else None
    classes = parse_classes(description.get("classes"))
    plan = bind_background(plan, labels, background, classes)
    points = _points(folder, manifest, plan, norm)
    spreads = read_spreads(folder, manifest, plan, norm)
    stops = [count] if precision is None else looks(count)
    reader = ShardReader(folder, manifest, plan, tuple(wanted), count, tuple(stops), labels)
    meter = Meter("orbits", count, progress)
    shards = [first for first in store.shards(manifest) if first < count]
    parts = _metered(in_order(shards, reader.read, cores()), meter)

    def records(statistics: OrbitStatistics) -> list[Record]:
        return measurements_of(
            plan,
            replace(statistics, points=points, spreads=spreads),
            norm_samples=norm,
            interval=interval,
            seed=description["seed"],
        )

    measured = measure_until(
        plan,
        count,
        precision,
        lambda start, stop: gather(plan, _parts_until(stop, parts), stop - start),
        records,
    )
    parts.close()
    targets = describe_targets(plan, measured.count)
    data = first_samples(description["data"], max(measured.count, norm), targets)
    add_fits_of_cache(folder, manifest, plan, tables, measured.records, measured.count)
    if gain_is_taken(plan) and (of_inputs := read_inputs(folder, manifest)) is not None:
        of_inputs = of_inputs.first(measured.count, norm)
        add_gain(measured.records, of_inputs, plan.group.elements)
        on_fits += gain_notes(of_inputs, min(norm, len(manifest.indices)))
    add_class_values(measured.records, data["labels"], seed=description["seed"])
    marks = marks_in_data(data, slice(measured.count))
    on_fits += unmoved_notes_of(description, plan.group, measured.count)
    on_fits += copies_notes({name: table.fit for name, table in tables.items()}, marks)
    predicted = predictions_of(plan, measured.statistics)
    notes = add_predictions(measured.records, data["labels"], predicted, classes)
    outcome = result(
        command=command or f"onnx_geed.measure_cache({str(folder)!r})",
        software={**description["software"], **software_versions()},
        model=description["model"],
        data=data,
        group=description["group"],
        runtime=description["runtime"]
        | {"seconds": round(time.perf_counter() - started, 3), "inferences": 0},
        seed=description["seed"],
        measurements=measured.records,
    )
    asked = samples if precision is not None or samples is not None else description["samples"]
    notes = [*drawn_notes(data["available"], asked, norm), *plan.notes, *on_fits, *notes]
    # What a plan is found to leave out was kept with the activations, too.
    outcome["notes"] = [*dict.fromkeys(notes), f"measured from the cache {folder.name}"]
    if measured.precision is not None:
        outcome["precision"] = measured.precision
        outcome["notes"] += precision_notes(measured.precision)
    if any(manifest.entries[i].dtype == "float16" for i in wanted):
        outcome["notes"].append("activations were stored as float16")
    return outcome


def _points(
    folder: Path, manifest: Manifest, plan: Plan, norm: int
) -> dict[str, NDArray[np.float64]]:
    """Read the points that M needs, by tensor."""
    pooled = [m.layer for m in plan.measures if m.descriptor.normaliser is not None]
    if not pooled:
        return {}
    stored = store.read_points(folder, manifest).items()
    points = {k: rows[:norm].astype(np.float64) for k, rows in stored if k in plan.layers}
    for layer in pooled:
        if layer not in points:
            raise GeedError(
                f"cache {folder}: holds no points of {layer!r}, which M needs; write it again"
            )
    return points


def _metered(
    shards: Iterable[list[OrbitStatistics]], meter: Meter
) -> Generator[OrbitStatistics, None, None]:
    """Yield the parts of shards, and count their orbits."""
    for shard in shards:
        for part in shard:
            meter.add(len(part.orbits))
            yield part


def _parts_until(stop: int, parts: Iterator[OrbitStatistics]) -> Iterator[OrbitStatistics]:
    """Yield parts up to the one that ends at a position."""
    for part in parts:
        yield part
        if part.orbits.stop == stop:
            return


def _checked_count(option: str, asked: int | None, held: int) -> int:
    if asked is None:
        return held
    least = 0 if option == "--norm-samples" else 1  # without points there is no M, as in a run
    if not least <= asked <= held:
        raise GeedError(f"{option} {asked}: the cache holds {held}; give {least} to {held}")
    return asked


def complete_manifest(folder: Path) -> Manifest:
    """Read what a cache holds, every shard being there.

    Raises
    ------
    GeedError
        If there is no cache, or it is incomplete, damaged or of a newer format.
    """
    manifest = store.read_manifest(folder)
    if missing := store.missing_shards(folder, manifest):
        raise GeedError(
            f"cache {folder}: is incomplete: {len(missing)} of {len(store.shards(manifest))} "
            f"shards are missing, first {store.shard_path(folder, missing[0]).name}; run the same "
            "onnx-geed cache command again"
        )
    return manifest
