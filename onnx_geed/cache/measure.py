"""Measure from a cache, with neither model nor ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.contents import paired_measures
from onnx_geed.cache.manifest import Manifest
from onnx_geed.errors import GeedError, refuse_unknown
from onnx_geed.groups import parse_group, parse_table
from onnx_geed.measures import (
    CATALOGUE,
    Layer,
    Plan,
    Request,
    descriptor_of,
    make_plan,
    parse_request,
)
from onnx_geed.model import Tensor, parse_classes, resolve
from onnx_geed.results import (
    DataPart,
    Record,
    Result,
    add_class_values,
    add_predictions,
    check_measured,
    check_precision,
    looks,
    precision_notes,
    result,
)
from onnx_geed.run import (
    Meter,
    OrbitStatistics,
    Pair,
    Pairs,
    Progress,
    around,
    check_option,
    cores,
    gather,
    in_order,
    join,
    measure_until,
    measurements_of,
    neighbours,
    predictions_of,
    reduce_orbits,
    software_versions,
)

__all__ = ["measure_cache"]


def measure_cache(
    folder: str | Path,
    *,
    measures: Sequence[str] = (),
    samples: int | None = None,
    norm_samples: int | None = None,
    interval: str = "t",
    precision: float | None = None,
    limits: Sequence[str] = (),
    progress: Progress | None = None,
    command: str | None = None,
    **unknown: Any,
) -> Result:
    """Measure from a cache, with neither model nor ONNX Runtime.

    Parameters
    ----------
    folder : str or Path
        The cache.
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; by default those that the cache was made for.
    samples, norm_samples : int, optional
        Fewer than the cache holds; by default what it was made with.
    interval : {"t", "bootstrap"}
        Interval over samples.
    precision : float, optional
        Take only as many of the orbits as :class:`onnx_geed.Options` says.
    limits : sequence of str
        Limits that the result is going to be held against, ``MEASURE[@LAYER]=LIMIT``; those that
        name nothing that is measured are refused before anything is read.
    progress : callable, optional
        Told of orbits done, of all.
    command : str, optional
        What the result file says was run.

    Returns
    -------
    dict
        The result of schema ``onnx-geed/result/1``; its figures are those of the live run bit for
        bit, if activations were stored as float32 or statistics.

    Raises
    ------
    GeedError
        If the cache is incomplete, damaged or of a newer format.
        If it does not hold what a measure needs.
        If there is no such option, or its value is not of its type or none of its choices.
    """
    started = time.perf_counter()
    refuse_unknown(unknown, ("measures", "samples", "norm_samples", "interval", "precision"))
    measures = check_option("measures", measures)
    samples = check_option("samples", samples)
    if norm_samples is not None:
        norm_samples = check_option("norm_samples", norm_samples)
    interval = check_option("interval", interval)
    precision = check_option("precision", precision)
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    description = manifest.description
    check_precision(precision, samples)
    count = _at_most("--samples", samples, manifest.count)
    norm = _at_most("--norm-samples", norm_samples, description["norm_samples"])
    if missing := store.missing_shards(folder, manifest):
        raise GeedError(
            f"cache {folder}: is not complete, {len(missing)} of {len(store.shards(manifest))} "
            f"shards are missing, the first {store.shard_path(folder, missing[0]).name}; run the "
            "same onnx-geed cache command again"
        )
    plan, wanted = _plan(manifest, measures)
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    points: dict[str, NDArray[np.float64]] = {}
    if any(m.descriptor.normalised for m in plan.measures):
        stored = store.read_points(folder, manifest).items()
        points = {k: rows[:norm].astype(np.float64) for k, rows in stored if k in plan.layers}
    stops = [count] if precision is None else looks(count)
    reader = _Reader(folder, manifest, plan, tuple(wanted), count, tuple(stops))
    meter = Meter("orbits", count, progress)
    shards = [first for first in store.shards(manifest) if first < count]
    parts = _metered(in_order(shards, reader.read, cores()), meter)

    def records(statistics: OrbitStatistics) -> list[Record]:
        whole = replace(statistics, points=points)
        return measurements_of(
            plan, whole, norm_samples=norm, interval=interval, seed=description["seed"]
        )

    measured = measure_until(
        plan, count, precision, lambda start, stop: gather(plan, _until(stop, parts)), records
    )
    parts.close()
    data = _data_part(description["data"], max(measured.count, norm))
    classes = parse_classes(description.get("classes"))
    predicted = predictions_of(plan, measured.statistics)
    add_class_values(measured.records, data["labels"], seed=description["seed"])
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
    outcome["notes"] = [*plan.notes, *notes, f"measured from the cache {folder.name}"]
    if measured.precision is not None:
        outcome["precision"] = measured.precision
        outcome["notes"] += precision_notes(measured.precision)
    if any(manifest.entries[i].dtype == "float16" for i in wanted):
        outcome["notes"].append("activations were stored as float16")
    return outcome


@dataclass(frozen=True)
class _Reader:
    """Reads shards, and reduces their orbits as those of a run are reduced."""

    folder: Path
    manifest: Manifest
    plan: Plan
    wanted: tuple[int, ...]
    count: int
    stops: tuple[int, ...]

    def read(self, first: int) -> list[OrbitStatistics]:
        """Reduce a shard, in parts that end where a run may end."""
        pairs = neighbours(self.count)
        label = partial(_label, self.manifest)
        parts: list[OrbitStatistics] = []
        whole = OrbitStatistics()
        shard = store.read_shard(self.folder, self.manifest, first, self.wanted)
        for position, arrays in enumerate(shard, first):
            if position == self.count:
                break
            named, sums = _named(self.manifest, self.wanted, arrays)
            one = reduce_orbits(self.plan, named, label, first=position, sums=sums, pairs=pairs)
            if position == first:
                stored = _stored_pairs(self.folder, self.manifest, first, self.wanted)
                paired = paired_measures(self.manifest.description["measures"])
                one = _with_pairs(one, stored, paired)
            # One by one, since an orbit is as large as it is until its pairs are taken.
            whole = join(self.plan, [whole, one])
            if position + 1 in self.stops:
                parts.append(whole)
                whole = OrbitStatistics()
        return [*parts, whole] if whole.orbits else parts


def _metered(
    shards: Iterable[list[OrbitStatistics]], meter: Meter
) -> Generator[OrbitStatistics, None, None]:
    """Yield the parts of shards, and count their orbits."""
    for shard in shards:
        for part in shard:
            meter.add(len(part.orbits))
            yield part


def _until(stop: int, parts: Iterator[OrbitStatistics]) -> Iterator[OrbitStatistics]:
    """Yield parts up to the one that ends at a position."""
    for part in parts:
        yield part
        if part.orbits.stop == stop:
            return


def _with_pairs(
    statistics: OrbitStatistics,
    stored: Mapping[str, Mapping[tuple[int, int], Pair]],
    paired: Mapping[str, str],
) -> OrbitStatistics:
    """Return the same with pairs that were stored beside sums, for the measure of each layer."""
    measures = dict(statistics.measures)
    for (name, layer), entry in statistics.measures.items():
        if paired.get(layer) == name and layer in stored:
            measures[name, layer] = replace(entry, pairs=Pairs(stored[layer]))
    return replace(statistics, measures=measures)


def _at_most(option: str, given: int | None, there: int) -> int:
    if given is None:
        return there
    if not 1 <= given <= there:
        raise GeedError(f"{option} {given}: the cache holds {there}; ask for 1 to {there}")
    return given


def _data_part(data: dict[str, Any], count: int) -> DataPart:
    cut = {key: data[key][:count] if data[key] else None for key in ("names", "labels")}
    if "marks" in data:  # of caches since results can be held against their data
        cut["marks"] = data["marks"][:count]
    return cast(DataPart, {**data, **cut, "indices": data["indices"][:count]})


def _plan(manifest: Manifest, measures: Sequence[str]) -> tuple[Plan, list[int]]:
    """The plan for a cache, and the entries that it reads."""
    description = manifest.description
    layers = {
        d["name"]: Layer(d["name"], tuple(d["shape"]), d["layout"], tuple(d["roles"]))
        for d in description["layers"]
    }
    tensors = [_tensor(stored) for stored in description["tensors"]]
    selected: list[tuple[Request, Layer]] = []
    for request in map(parse_request, measures):
        if request.layer is not None:
            found = [layers[t.name] for t in resolve(tensors, request.layer)]
        else:
            role = descriptor_of(request.measure).role
            found = [x for x in layers.values() if role in x.roles]
            if not found:
                raise GeedError(
                    f"{request.measure}: the cache holds no {role}; name one of its "
                    f"layers with --measure {request.measure}@LAYER: {', '.join(list(layers)[:5])}"
                )
        selected += [(request, layer) for layer in found]
    if not measures:
        selected = [
            (Request(name, layer), layers[layer]) for name, layer in description["measures"]
        ]
    if not selected:
        selected = [
            (Request(descriptor.name), layer)
            for descriptor in CATALOGUE.values()
            for layer in layers.values()
            if descriptor.default and descriptor.role in layer.roles
        ]
    group = description["group"]
    plan = make_plan(
        parse_group(group["name"]),
        selected,
        input_exact=group["exact"],
        interpolation=group["interpolation"],
        support=group["support"],
        kinds=description["kinds"],
        tables={k: parse_table(t, f"cache, {k}") for k, t in description["tables"].items()},
        notes=description["notes"],
    )
    wanted = []
    for measure in plan.measures:
        contents = ("activations", "sums" if measure.descriptor.view == "maps" else "points")
        found_at = [
            i
            for i, e in enumerate(manifest.entries)
            if e.tensor == measure.layer and e.content in contents
        ]
        if not found_at:
            raise GeedError(
                f"{measure.name}@{measure.layer}: the cache keeps only statistics of other "
                "measures for this layer; cache it with this --measure, or raw"
            )
        wanted += [i for i in found_at if i not in wanted]
    return plan, wanted


def _tensor(stored: dict[str, Any]) -> Tensor:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Tensor(**fields)


def _named(
    manifest: Manifest, wanted: Sequence[int], arrays: list[NDArray[Any]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float64]]]:
    """Activations and sums of one orbit, by tensor."""
    named: dict[str, NDArray[np.float32]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for i, array in zip(wanted, arrays, strict=True):
        entry = manifest.entries[i]
        if entry.content == "sums":
            sums[entry.tensor] = array[None]
        else:
            named[entry.tensor] = array[None].astype(np.float32, copy=False)
    return named, sums


def _label(manifest: Manifest, position: int) -> str:
    names = manifest.description["data"]["names"]
    index = manifest.indices[position]
    return f"sample {index} ({names[position]})" if names else f"sample {index}"


def _stored_pairs(
    folder: Path, manifest: Manifest, first: int, wanted: Sequence[int]
) -> dict[str, dict[tuple[int, int], Pair]]:
    """Return the deviations between samples that a shard keeps beside its sums, by layer."""
    stop = min(first + manifest.shard_orbits, manifest.count)
    here: dict[str, list[tuple[int, int]]] = {
        "between": [pair for pair in neighbours(manifest.count) if first <= pair[1] < stop],
        "around": [pair for pair in around(manifest.count) if first <= pair[0] < stop],
    }
    here["between"] = [pair for pair in here["between"] if pair[1]]
    sums = [i for i in wanted if manifest.entries[i].content == "sums"]
    asked = {f"{k}/{i}": len(pairs) for k, pairs in here.items() for i in sums if pairs}
    by_layer: dict[str, dict[tuple[int, int], Pair]] = {}
    for name, rows in (store.read_pairs(folder, manifest, first, asked) if asked else {}).items():
        kind, _, i = name.partition("/")
        pairs = by_layer.setdefault(manifest.entries[int(i)].tensor, {})
        pairs |= {where: Pair(row) for where, row in zip(here[kind], rows, strict=True)}
    return by_layer
