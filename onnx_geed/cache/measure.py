"""Measure from a cache, without the model and without ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.cache import store
from onnx_geed.cache.acting import acting_group
from onnx_geed.cache.contents import lasting_notes, needs_activations, unmoved_notes_of
from onnx_geed.cache.fits import add_fits_of_cache, check_unseen, fit_from_cache
from onnx_geed.cache.inputs import read_inputs
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.manifest_content import first_samples
from onnx_geed.cache.matrices import read_tables
from onnx_geed.cache.place_labels import read_place_labels
from onnx_geed.cache.remote import fetched_cache
from onnx_geed.cache.shard_reader import ShardReader
from onnx_geed.cache.spread import read_spreads
from onnx_geed.cache.tensors import named_tensors, stored_tensors
from onnx_geed.copies import Copy, read_by_copy
from onnx_geed.errors import GeedError, refuse_unknown
from onnx_geed.groups import Interpolation, Table
from onnx_geed.measures import (
    Layer,
    Plan,
    Request,
    descriptor_of,
    judge_of_fits,
    make_plan,
    parse_request,
    taken_unasked,
)
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
    Options,
    OrbitStatistics,
    Progress,
    Targets,
    bind_background,
    check_fits_measured,
    check_given_measured,
    check_tables,
    copies_notes,
    cores,
    describe_targets,
    drawn_notes,
    fits_to_make,
    gain_is_taken,
    gain_notes,
    gather,
    in_order,
    judged_tables,
    measure_until,
    measurements_of,
    predictions_of,
    requested_fits,
    software_versions,
    stated_tables,
    targeted,
    with_truths,
)

__all__ = [
    "STILL_OPEN",
    "complete_manifest",
    "measure_cache",
    "options_of",
    "plan_of",
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
    listed = stored_tensors(manifest)
    fits = requested_fits(listed, options)
    tables = read_tables(folder, description["tables"]) | stated_tables(listed, options)
    check_unseen(tables, manifest, count)
    judged = [*fits, *judged_tables(listed, options, tables)]
    measures = _with_fits(measures, manifest, judged)
    plan, wanted = plan_of(manifest, measures, tables, options, target)
    check_given_measured(listed, options, plan)
    fitted_to = range(count, min(count + fit_samples, manifest.count))
    fits, on_fits = fits_to_make(fits, plan.layers, plan.group, len(fitted_to), options)
    if fits:
        check_fits_measured(plan, fits)
        tables |= fit_from_cache(
            *(folder, manifest, plan, fits, fitted_to, options), progress=progress, notify=notify
        )
        plan, wanted = plan_of(manifest, measures, tables, options, target)
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    dense = any(m.places is not None for m in plan.measures)
    labels = read_place_labels(folder, manifest, count) if dense else None
    classes = parse_classes(description.get("classes"))
    plan = bind_background(plan, labels, background, classes)
    points: dict[str, NDArray[np.float64]] = {}
    if any(m.descriptor.normaliser is not None for m in plan.measures):
        stored = store.read_points(folder, manifest).items()
        points = {k: rows[:norm].astype(np.float64) for k, rows in stored if k in plan.layers}
    for m in plan.measures:
        if m.descriptor.normaliser is not None and m.layer not in points:
            raise GeedError(
                f"cache {folder}: holds no points of {m.layer!r}, which M needs; write it again"
            )
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
    predicted = predictions_of(plan, measured.statistics)
    if gain_is_taken(plan) and (of_inputs := read_inputs(folder, manifest)) is not None:
        of_inputs = of_inputs.first(measured.count, norm)
        add_gain(measured.records, of_inputs, plan.group.elements)
        on_fits += gain_notes(of_inputs, min(norm, len(manifest.indices)))
    add_class_values(measured.records, data["labels"], seed=description["seed"])
    on_fits += unmoved_notes_of(description, plan.group, measured.count)
    marks = data.get("marks", [])[: measured.count]
    on_fits += copies_notes({name: table.fit for name, table in tables.items()}, marks)
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


def _with_fits(measures: Sequence[str], manifest: Manifest, fits: Iterable[str]) -> Sequence[str]:
    """Return the measures; where none is asked for, also what fits leave unexplained."""
    judged = [f"{judge_of_fits()}@{name}" for name in fits]
    if measures or not judged:
        return measures
    own = [f"{name}@{layer}" for name, layer in manifest.description["measures"]]
    return tuple(dict.fromkeys([*own, *judged]))


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


def options_of(
    manifest: Manifest,
    count: int,
    output_action: Mapping[str, Any],
    fit_samples: int,
    fit_anyway: bool,
    memory: str | int,
) -> Options:
    """Return the options that a cache was written with, as far as fits need them.

    Raises
    ------
    GeedError
        If a value is not of its type or out of its range.
    """
    description = manifest.description
    return Options(
        samples=count,
        seed=description["seed"],
        interpolation=cast(Interpolation, description["group"]["interpolation"]),
        support=description["group"]["support"],
        output_action=output_action,
        fit_samples=fit_samples,
        fit_anyway=fit_anyway,
        memory=memory,
    )


def plan_of(
    manifest: Manifest,
    measures: Sequence[str],
    tables: Mapping[str, Table],
    options: Options,
    given: Targets = MappingProxyType({}),
) -> tuple[Plan, list[int]]:
    """Return the plan for a cache, and the numbers of the entries that it reads.

    Raises
    ------
    GeedError
        If the cache does not hold what a measure needs, or a target is not given again.
        If the tables by which maps move take more memory than the budget leaves.
    """
    description, group = manifest.description, manifest.description["group"]
    targets = targeted(stored_tensors(manifest), given)
    selected = _selected_layers(manifest, measures, targets)
    for request, layer in selected:
        lacks = layer.name in description.get("targets", ())
        if lacks and descriptor_of(request.measure).of_error and layer.name not in targets:
            raise GeedError(
                f"{request.measure}@{layer.name}: the cache was written for a target but does not "
                f"store it: give it again with --target {layer.name}=FILE.npy"
            )
    on_layers = ((request.measure, layer) for request, layer in selected)
    check_tables(acting_group(group), (), on_layers, options)
    plan = make_plan(
        acting_group(group),
        selected,
        input_exact=group["exact"],
        # A cache is never of an action of one's own.
        interpolation=cast(Interpolation, group["interpolation"]),
        support=group["support"],
        kinds=description["kinds"],
        tables=tables,
        notes=lasting_notes(description["notes"]),
        targets=targets,
    )
    data = description["data"]
    plan = with_truths(
        plan,
        indices=manifest.indices[: manifest.count],
        available=data["available"],
        labels=data["labels"] and data["labels"][: manifest.count],
        names=parse_classes(description.get("classes")),
        targets=targets,
    )
    wanted: list[int] = []
    for measure in plan.measures:
        contents = ["activations"]
        if measure.descriptor.view == "maps":
            contents.append("sums")
        elif not needs_activations(measure, plan.layers[measure.layer]):
            contents.append("points")
        entries = [
            i
            for i, e in enumerate(manifest.entries)
            if e.tensor == measure.layer and e.content in contents
        ]
        if not entries:
            raise GeedError(
                f"{measure.name}@{measure.layer}: the cache keeps only statistics of other "
                "measures for this layer; write it again with this --measure, or with "
                "--cache-mode raw"
            )
        wanted += [i for i in entries if i not in wanted]
    # What a shard keeps for M₂ is read apart, in the order of the samples.
    plan = replace(plan, norm_samples=0)
    return plan.drawn(description["seed"], manifest.indices), wanted


def _selected_layers(
    manifest: Manifest, measures: Sequence[str], targets: Collection[str]
) -> list[tuple[Request, Layer]]:
    """Return measures and layers: those asked for, or else those that the cache was made for."""
    description = manifest.description
    layers = {
        d["name"]: Layer(d["name"], tuple(d["shape"]), d["layout"], tuple(d["roles"]))
        for d in description["layers"]
    }
    tensors = stored_tensors(manifest)
    selected: list[tuple[Request, Layer]] = []
    for request in map(parse_request, measures):
        if request.layer is not None:
            chosen = [layers[t.name] for t in named_tensors(tensors, request)]
        else:
            roles = descriptor_of(request.measure).roles
            chosen = [layer for layer in layers.values() if {*roles} & {*layer.roles}]
            if targets and descriptor_of(request.measure).of_error:
                chosen = [layers[name] for name in targets]
            if not chosen:
                raise GeedError(
                    f"{request.measure}: the cache holds no {' or '.join(roles)}; name one of its "
                    f"layers with --measure {request.measure}@LAYER: {', '.join(list(layers)[:5])}"
                )
        selected += [(request, layer) for layer in chosen]
    if not measures:
        selected = [
            (Request(name, layer), layers[layer]) for name, layer in description["measures"]
        ]
    if not selected:
        selected = [
            (Request(name), layer)
            for name in taken_unasked(acting_group(description["group"]))
            for layer in layers.values()
            if {*descriptor_of(name).roles} & {*layer.roles}
        ]
    return selected
