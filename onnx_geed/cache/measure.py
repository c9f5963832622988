"""Measure from a cache, with neither model nor ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
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
    PrecisionPart,
    Record,
    Result,
    add_class_values,
    add_predictions,
    check_measured,
    check_precision,
    ended,
    looks,
    precision_notes,
    result,
    verdict,
)
from onnx_geed.run import (
    Between,
    Pair,
    Pairs,
    Reduced,
    Tally,
    around,
    check_option,
    cores,
    in_order,
    neighbours,
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
    progress: Callable[[int, int], None] | None = None,
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
    tally = Tally(plan)
    names = tuple(plan.layers)

    kept = {manifest.entries[i].tensor for i in wanted if manifest.entries[i].content == "sums"}
    others = [m for m in plan.measures if m.name != "channel-cos" or m.layer not in kept]
    between = Between(replace(plan, measures=tuple(others)), neighbours(count))

    def work(first: int) -> list[Reduced]:
        try:
            return orbits(first)
        except BaseException as error:
            between.fail(first, min(first + manifest.shard_orbits, count), error)
            raise

    def orbits(first: int) -> list[Reduced]:
        reduced, begun = [], []
        for k, arrays in enumerate(store.read_shard(folder, manifest, first, wanted)):
            if first + k >= count:
                break
            named, sums = _named(manifest, wanted, arrays)
            label = partial(_label, manifest)
            reduced.append(reduce_orbits(plan, named, label, first=first + k, sums=sums))
            finish = between.begin(named, first + k)
            # The first waits for another shard's last orbit, and so until this one's are through.
            begun.append(finish if k == 0 else _kept(finish()))
        stored = _stored_pairs(folder, manifest, first, wanted)
        return [
            replace(one, between={**finish(), **stored} if k == 0 else finish())
            for k, (one, finish) in enumerate(zip(reduced, begun, strict=True))
        ]

    points: dict[str, NDArray[np.float64]] = {}
    if any(m.name.startswith("latent") for m in plan.measures):
        read = store.read_points(folder, manifest).items()
        points = {k: rows[:norm].astype(np.float64) for k, rows in read if k in plan.layers}

    def records() -> list[Record]:
        for name, rows in points.items():
            tally.replace_points(name, rows)
        return tally.records(norm_samples=norm, interval=interval, seed=description["seed"])

    stops = [count] if precision is None else looks(count)
    made_of: list[Record] = []
    found: PrecisionPart | None = None
    done = 0
    for reduced in _flat(in_order([f for f in store.shards(manifest) if f < count], work, cores())):
        tally.add(reduced, names)
        done += 1
        if progress:
            progress(done, count)
        if done not in stops:
            continue
        made_of = records()
        if precision is not None:
            found = verdict(made_of, precision)
            if ended(found):
                break
    data = _data_part(description["data"], max(done, norm))
    classes = parse_classes(description.get("classes"))
    add_class_values(made_of, data["labels"], seed=description["seed"])
    said = add_predictions(made_of, data["labels"], tally.predicted(), classes)
    made = result(
        command=command or f"onnx_geed.measure_cache({str(folder)!r})",
        software={**description["software"], **software_versions()},
        model=description["model"],
        data=data,
        group=description["group"],
        runtime=description["runtime"]
        | {"seconds": round(time.perf_counter() - started, 3), "inferences": 0},
        seed=description["seed"],
        measurements=made_of,
    )
    made["notes"] = [*plan.notes, *said, f"measured from the cache {folder.name}"]
    if found is not None:
        made["precision"] = found
        made["notes"] += precision_notes(found)
    half = sorted(
        {manifest.entries[i].tensor for i in wanted if manifest.entries[i].dtype == "float16"}
    )
    if half:
        made["notes"].append("activations were stored as float16")
    return made


def _flat(parts: Iterable[list[Reduced]]) -> Iterator[Reduced]:
    for part in parts:
        yield from part


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
        contents = ("activations", "sums" if measure.name == "channel-cos" else "points")
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


def _kept(pairs: Pairs) -> Callable[[], Pairs]:
    return lambda: pairs


def _stored_pairs(folder: Path, manifest: Manifest, first: int, wanted: Sequence[int]) -> Pairs:
    """Deviations between samples that a shard keeps beside its sums."""
    stop = min(first + manifest.shard_orbits, manifest.count)
    here: dict[str, list[tuple[int, int]]] = {
        "between": [pair for pair in neighbours(manifest.count) if first <= pair[1] < stop],
        "around": [pair for pair in around(manifest.count) if first <= pair[0] < stop],
    }
    here["between"] = [pair for pair in here["between"] if pair[1]]
    tensors = {i: manifest.entries[i].tensor for i in wanted}
    sums = [i for i in wanted if manifest.entries[i].content == "sums"]
    asked = {f"{k}/{i}": len(pairs) for k, pairs in here.items() for i in sums if pairs}
    found: Pairs = {}
    for name, rows in (store.read_pairs(folder, manifest, first, asked) if asked else {}).items():
        kind, _, i = name.partition("/")
        into = found.setdefault(("channel-cos", tensors[int(i)]), {})
        into |= {pair: Pair(row) for pair, row in zip(here[kind], rows, strict=True)}
    return found
