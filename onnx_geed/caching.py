"""Write a cache of a run's activations, and measure from it without the model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed import cache as store
from onnx_geed.cache import Entry, Manifest
from onnx_geed.eed import channel_sums_of_orbit
from onnx_geed.errors import GeedError
from onnx_geed.groups import parse_group
from onnx_geed.layouts import to_points
from onnx_geed.orbits import activations, identities, in_order, job_orbits
from onnx_geed.plan import (
    DEFAULT_MEASURES,
    ROLES,
    Layer,
    Plan,
    Request,
    make_plan,
    parse_request,
    view,
)
from onnx_geed.points import Tensor, resolve
from onnx_geed.prepare import Options, Prepared, prepare
from onnx_geed.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    software_versions,
)
from onnx_geed.results import result
from onnx_geed.session import cores
from onnx_geed.tables import parse_table, table_to_json
from onnx_geed.tally import Tally, reduce_orbits

__all__ = ["cache_info", "info_table", "measure_cache", "verify_cache", "write_cache"]

Mode = Literal["raw", "stats"]

# A shard holds up to this much and so many orbits: what a killed run loses.
_SHARD_BYTES = 16 << 20
_SHARD_ORBITS = 8


def write_cache(
    model: Any,
    data: Any,
    group: Any,
    folder: str | Path,
    *,
    mode: Mode = "raw",
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the activations of orbits to a cache, or finish one that was broken off.

    Parameters
    ----------
    model, data, group
        As :func:`onnx_geed.measure` takes them.
    folder : str or Path
        The cache, a folder ``NAME.geed``.
    mode : {"raw", "stats"}
        Whole activations, or only what the chosen measures need.
    dtype : {"float32", "float16"}
        How raw activations are stored.
    progress : callable, optional
        Told of orbits done, of all.
    notify : callable, optional
        Told what was there and what is left.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        As :func:`cache_info` gives.

    Raises
    ------
    GeedError
        If model, data or options cannot be used.
        If the cache there was made from something else, naming what differs.
        If another process writes to it, or the disk is full or too small.
    """
    folder = Path(folder)
    say = notify or (lambda _: None)
    prepared = prepare(model, data, group, Options(**options))
    manifest = _manifest(prepared, mode, dtype)
    if folder.exists() and not folder.is_dir():
        raise GeedError(f"cache {folder}: is a file; name a folder, such as {folder.stem}.geed")
    with store.lock(folder):
        _check_same(folder, manifest)
        store.clean(folder)
        missing = store.missing_shards(folder, manifest)
        _announce(folder, manifest, missing, say)
        _check_room(folder, manifest, missing)
        _fill(prepared, manifest, folder, mode, missing, progress)
        if not store.has_points(folder, manifest):
            store.write_points(folder, manifest, _extra_points(prepared, manifest))
        store.write_index(folder, manifest)
    return cache_info(folder)


def _manifest(prepared: Prepared, mode: Mode, dtype: str) -> Manifest:
    """What the cache will hold, with every fingerprint of spec section 7."""
    plan, options = prepared.plan, prepared.options
    if len(prepared.passes) > 1:
        raise GeedError(
            "the layers' activations exceed --memory in one pass: give a larger --memory, or fewer "
            "layers"
        )
    entries: list[Entry] = []
    if mode == "raw":
        entries = [Entry(x.name, x.shape, dtype, "activations") for x in plan.layers.values()]
    elif dtype != "float32":
        raise GeedError("--cache-dtype float16 is for raw activations; statistics are kept in full")
    elif not plan.measures:
        raise GeedError("--cache-mode stats keeps what measures need: give --measure, not --layer")
    else:
        for m in plan.measures:
            layer = plan.layers[m.layer]
            shape = view(layer, m.name, np.zeros((1, 1, *layer.shape), np.float32)).shape[2:]
            entry = Entry(m.layer, shape, "float32", "points")
            if m.name == "channel-cos":
                entry = Entry(m.layer, (shape[0], 3), "float64", "sums")
            if entry not in entries:
                entries.append(entry)
    n, size = plan.group.order, job_orbits(plan.group.order, prepared.batch)
    source = prepared.source
    per_orbit = sum(n * int(np.prod(e.shape)) * np.dtype(e.dtype).itemsize for e in entries)
    orbits = max(size, min(_SHARD_ORBITS, _SHARD_BYTES // max(per_orbit, 1)) // size * size)
    versions = software_versions()
    runtime = versions.get("onnxruntime-gpu") or versions.get("onnxruntime", "")
    acted = {
        "interpolation": options.interpolation,
        "support": options.support,
        "input": prepared.session.input,
        "layout": source.layout,
        "tables": {name: table_to_json(t) for name, t in sorted(prepared.tables.items())},
    }
    fingerprints = {
        "format": str(store.VERSION),
        "model": prepared.model.sha256,
        "data": _data_hash(prepared),
        "samples": json.dumps([prepared.count, len(source.indices)]),
        "seed": str(options.seed),
        "group": plan.group.name,
        "action options": json.dumps(acted, sort_keys=True),
        "layers": json.dumps([[e.tensor, e.content, list(e.shape)] for e in entries]),
        "measures": json.dumps([[m.name, m.layer] for m in plan.measures]),
        "dtype": dtype,
        "provider": describe_runtime(prepared)["provider"],
        "batch size": str(prepared.batch),
        "onnxruntime": runtime,
        "onnx-geed": versions.get("onnx-geed", ""),
    }
    description = {
        "mode": mode,
        "model": describe_model(prepared.model),
        "data": describe_data(prepared),
        "group": describe_group(prepared),
        "runtime": describe_runtime(prepared),
        "software": versions,
        "kinds": prepared.kinds,
        "tables": acted["tables"],
        "measures": [[m.name, m.layer] for m in plan.measures],
        "layers": [dataclasses.asdict(layer) for layer in plan.layers.values()],
        "tensors": [dataclasses.asdict(t) for t in prepared.tensors if t.name in plan.layers],
        "notes": list(plan.notes),
        "norm_samples": options.norm_samples,
        "samples": options.samples,
        "seed": options.seed,
    }
    return Manifest(
        fingerprints,
        tuple(entries),
        n,
        source.indices,
        prepared.count,
        orbits,
        _point_sizes(plan, entries),
        description,
    )


def _point_sizes(plan: Plan, entries: Sequence[Entry]) -> dict[int, int]:
    """Length of the identity latents of every entry that has some."""
    sizes = {}
    for i, entry in enumerate(entries):
        if entry.content != "sums":
            blank = np.zeros((1, *entry.shape), dtype=np.float32)
            if (rows := _points(blank, plan.layers[entry.tensor])) is not None:
                sizes[i] = rows.shape[1]
    return sizes


def _data_hash(prepared: Prepared) -> str:
    """Fingerprint of everything that was fed, the other inputs too."""
    import hashlib

    digest = hashlib.sha256(describe_data(prepared)["fingerprint"].encode())
    for name, feed in sorted(prepared.source.feeds.items()):
        digest.update(f"{name} {feed.rows} {feed.values.dtype} {feed.values.shape}".encode())
        digest.update(np.ascontiguousarray(feed.values).tobytes())
    return digest.hexdigest()


def _check_same(folder: Path, manifest: Manifest) -> None:
    if not any(folder.glob("shard-*.h5")):
        return
    there = store.read_manifest(folder)
    differ = [
        name
        for name in {**there.fingerprints, **manifest.fingerprints}
        if there.fingerprints.get(name) != manifest.fingerprints.get(name)
    ]
    if differ:
        first = differ[0]
        a, b = (str(m.fingerprints.get(first, "nothing")) for m in (there, manifest))
        shown = f" ({first}: {a[:60]} there, {b[:60]} now)"
        raise GeedError(
            f"cache {folder}: was made with another {', '.join(differ)}{shown}: repeat the command "
            "that made it, write to another folder, or remove this one"
        )


def _announce(
    folder: Path, manifest: Manifest, missing: Sequence[int], say: Callable[[str], None]
) -> None:
    everything = len(store.shards(manifest))
    left = sum(min(manifest.shard_orbits, manifest.count - first) for first in missing)
    size = _size(manifest.bytes)
    if len(missing) == everything:
        say(f"cache {folder}: {manifest.count} orbits, {size} in {everything} shards")
    elif missing:
        say(
            f"cache {folder}: {everything - len(missing)} of {everything} shards are there, "
            f"{left} of {manifest.count} orbits are left"
        )
    else:
        say(f"cache {folder}: all {everything} shards are there ({size})")


def _check_room(folder: Path, manifest: Manifest, missing: Sequence[int]) -> None:
    """Refuse a run that cannot fit, before it starts."""
    orbit = sum(manifest.orbit_bytes(entry) for entry in manifest.entries)
    left = sum(min(manifest.shard_orbits, manifest.count - first) for first in missing)
    per_file = 64 << 10  # HDF5's own structures and the manifest, generously
    need = orbit * left + (len(missing) + 2) * per_file
    free = shutil.disk_usage(folder).free
    if missing and need > free:
        raise GeedError(
            f"cache {folder}: needs {_size(need)} more, the disk has {_size(free)} free: use "
            "--cache-mode stats, --cache-dtype float16, fewer layers or samples, or another disk"
        )


def _fill(
    prepared: Prepared,
    manifest: Manifest,
    folder: Path,
    mode: Mode,
    missing: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> None:
    session = prepared.open(prepared.passes[0])
    size = job_orbits(manifest.order, prepared.batch)
    done = manifest.count - sum(
        min(manifest.shard_orbits, manifest.count - first) for first in missing
    )

    def jobs(first: int) -> Iterator[store.Job]:
        stop = min(first + manifest.shard_orbits, manifest.count)
        for start in range(first, stop, size):
            positions = range(start, min(start + size, stop))
            arrays = activations(prepared.source, session, positions, prepared.batch)
            named = dict(zip(session.outputs, arrays, strict=True))
            _check_finite(prepared, named, start)
            yield _stored(prepared.plan, manifest, named)

    def work(first: int) -> int:
        store.write_shard(folder, manifest, first, jobs(first))
        return min(manifest.shard_orbits, manifest.count - first)

    for orbits in in_order(missing, work, prepared.workers):
        done += orbits
        if progress:
            progress(done, manifest.count)


def _check_finite(
    prepared: Prepared, named: dict[str, NDArray[np.float32]], first: int
) -> None:
    for name, array in named.items():
        finite = np.isfinite(array)
        if not finite.all():
            k, g = np.argwhere(~finite)[0][:2]
            raise GeedError(
                f"the model gave NaN or infinity: {prepared.source.label(first + int(k))}, element "
                f"{prepared.plan.group.elements[g]}, tensor {name!r}; check the preprocessing, or "
                "leave that sample or tensor out"
            )


def _stored(plan: Plan, manifest: Manifest, named: dict[str, NDArray[np.float32]]) -> store.Job:
    """What the entries keep of some orbits, and the identity latents beside them."""
    arrays: list[NDArray[Any]] = []
    points: dict[int, NDArray[np.float32]] = {}
    for i, entry in enumerate(manifest.entries):
        y, layer = named[entry.tensor], plan.layers[entry.tensor]
        if entry.content == "sums":
            measure = next(
                m for m in plan.measures if m.name == "channel-cos" and m.layer == entry.tensor
            )
            maps = view(layer, "channel-cos", y)
            arrays.append(np.stack([channel_sums_of_orbit(measure, orbit) for orbit in maps]))
            continue
        if entry.content == "points":
            y = to_points(y, layer.layout, axes=2)[0]
        elif entry.dtype == "float16":
            with np.errstate(over="ignore"):
                y = y.astype(np.float16)
            if not np.isfinite(y).all():
                raise GeedError(
                    f"tensor {entry.tensor!r} exceeds float16's range of 65504: store float32"
                )
        arrays.append(y)
        if (latents := _points(y[:, 0], layer)) is not None:
            points[i] = latents
    return arrays, points


def _points(identity: NDArray[Any], layer: Layer) -> NDArray[np.float32] | None:
    try:
        rows = to_points(identity.astype(np.float32, copy=False), layer.layout, axes=1)[0]
    except GeedError:
        return None  # tokens have no single point
    return np.ascontiguousarray(rows, dtype=np.float32)


def _extra_points(prepared: Prepared, manifest: Manifest) -> dict[int, NDArray[np.float32]]:
    """Identity latents of the samples that M needs beyond D."""
    session = prepared.open(prepared.passes[0])
    parts: dict[int, list[NDArray[np.float32]]] = {}
    for arrays in identities(
        prepared.source, session, manifest.count, batch=prepared.batch, workers=prepared.workers
    ):
        named = dict(zip(session.outputs, arrays, strict=True))
        for i, entry in enumerate(manifest.entries):
            if entry.content == "sums":
                continue
            y = named[entry.tensor].astype(np.dtype(entry.dtype))
            if (rows := _points(y, prepared.plan.layers[entry.tensor])) is not None:
                parts.setdefault(i, []).append(rows)
    return {i: np.concatenate(rows) for i, rows in parts.items()}


def measure_cache(
    folder: str | Path,
    *,
    measures: Sequence[str] = (),
    samples: int | None = None,
    norm_samples: int | None = None,
    interval: str = "t",
    progress: Callable[[int, int], None] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
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
    """
    started = time.perf_counter()
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    description = manifest.description
    count = _at_most("--samples", samples, manifest.count)
    norm = _at_most("--norm-samples", norm_samples, description["norm_samples"])
    if missing := store.missing_shards(folder, manifest):
        raise GeedError(
            f"cache {folder}: is not complete, {len(missing)} of {len(store.shards(manifest))} "
            f"shards are missing, the first {store.shard_path(folder, missing[0]).name}; run the "
            "same onnx-geed cache command again"
        )
    plan, wanted = _plan(manifest, measures)
    tally = Tally(plan)
    names = tuple(plan.layers)

    def work(first: int) -> list[Any]:
        reduced = []
        for k, arrays in enumerate(store.read_shard(folder, manifest, first, wanted)):
            if first + k >= count:
                break
            reduced.append(_reduce(plan, manifest, wanted, arrays, first + k))
        return reduced

    done = 0
    for parts in in_order([f for f in store.shards(manifest) if f < count], work, cores()):
        for reduced in parts:
            tally.add(reduced, names)
        done += len(parts)
        if progress:
            progress(done, count)
    if any(m.name.startswith("latent") for m in plan.measures):
        for name, rows in store.read_points(folder, manifest).items():
            if name in plan.layers:
                tally.replace_points(name, rows[:norm].astype(np.float64))
    made = result(
        command=command or f"onnx_geed.measure_cache({str(folder)!r})",
        software={**description["software"], **software_versions()},
        model=description["model"],
        data=_data_part(description["data"], max(count, norm)),
        group=description["group"],
        runtime={
            **description["runtime"],
            "seconds": round(time.perf_counter() - started, 3),
            "inferences": 0,
        },
        seed=description["seed"],
        measurements=tally.records(
            norm_samples=norm, interval=interval, seed=description["seed"]
        ),
    )
    made["notes"] = [*plan.notes, f"measured from the cache {folder.name}"]
    half = sorted({manifest.entries[i].tensor for i in wanted
                   if manifest.entries[i].dtype == "float16"})
    if half:
        made["notes"].append("activations were stored as float16")
    return made


def _at_most(option: str, given: int | None, there: int) -> int:
    if given is None:
        return there
    if not 1 <= given <= there:
        raise GeedError(f"{option} {given}: the cache holds {there}; ask for 1 to {there}")
    return given


def _data_part(data: dict[str, Any], count: int) -> dict[str, Any]:
    cut = {key: data[key][:count] if data[key] else None for key in ("names", "labels")}
    return {**data, **cut, "indices": data["indices"][:count]}


def _plan(manifest: Manifest, measures: Sequence[str]) -> tuple[Plan, list[int]]:
    """The plan for a cache, and the entries that it reads."""
    description = manifest.description
    layers = {
        d["name"]: Layer(d["name"], tuple(d["shape"]), d["layout"], tuple(d["roles"]))
        for d in description["layers"]
    }
    tensors = [
        Tensor(**{k: tuple(v) if isinstance(v, list) else v for k, v in d.items()})
        for d in description["tensors"]
    ]
    selected: list[tuple[Request, Layer]] = []
    for request in map(parse_request, measures):
        if request.layer is not None:
            found = [layers[t.name] for t in resolve(tensors, request.layer)]
        else:
            found = [x for x in layers.values() if ROLES[request.measure] in x.roles]
        if not found:
            raise GeedError(
                f"{request.measure}: the cache holds no {ROLES[request.measure]}; name one of its "
                f"layers with --measure {request.measure}@LAYER: {', '.join(list(layers)[:5])}"
            )
        selected += [(request, layer) for layer in found]
    if not measures:
        selected = [(Request(name, layer), layers[layer]) for name, layer in
                    description["measures"]]
    if not selected:
        selected = [
            (Request(name), layer)
            for name in DEFAULT_MEASURES
            for layer in layers.values()
            if ROLES[name] in layer.roles
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


def _reduce(
    plan: Plan, manifest: Manifest, wanted: Sequence[int], arrays: list[NDArray[Any]], at: int
) -> Any:
    named: dict[str, NDArray[np.float32]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for i, array in zip(wanted, arrays, strict=True):
        entry = manifest.entries[i]
        if entry.content == "sums":
            sums[entry.tensor] = array[None]
        else:
            named[entry.tensor] = array[None].astype(np.float32, copy=False)

    def label(position: int) -> str:
        names = manifest.description["data"]["names"]
        index = manifest.indices[position]
        return f"sample {index} ({names[position]})" if names else f"sample {index}"

    return reduce_orbits(plan, named, label, first=at, sums=sums)


def cache_info(folder: str | Path) -> dict[str, Any]:
    """Describe a cache.

    Parameters
    ----------
    folder : str or Path
        The cache.

    Returns
    -------
    dict
        ``layers`` (tensor, shape, dtype, content, bytes), ``orbits``, ``shards``, ``missing``
        (names of shards), ``complete``, ``fingerprints``, ``model``, ``data``, ``group``.

    Raises
    ------
    GeedError
        If there is no cache, or its first shard is damaged.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    missing = [store.shard_path(folder, f).name for f in store.missing_shards(folder, manifest)]
    return {
        "path": str(folder),
        "complete": not missing and store.has_points(folder, manifest),
        "orbits": manifest.count,
        "order": manifest.order,
        "points": len(manifest.indices),
        "shards": len(store.shards(manifest)),
        "missing": missing,
        "bytes": manifest.bytes,
        "layers": [
            {
                "tensor": e.tensor,
                "content": e.content,
                "dtype": e.dtype,
                "shape": [manifest.count, manifest.order, *e.shape],
                "bytes": manifest.orbit_bytes(e) * manifest.count,
            }
            for e in manifest.entries
        ],
        "fingerprints": manifest.fingerprints,
        "model": manifest.description["model"],
        "data": {k: manifest.description["data"][k] for k in ("source", "fingerprint")},
        "group": manifest.description["group"],
    }


def verify_cache(
    folder: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Read every checksum of a cache.

    Parameters
    ----------
    folder : str or Path
        The cache.
    progress : callable, optional
        Told of shards done, of all.

    Returns
    -------
    list of str
        What is wrong, each naming shard and layer; empty for a sound and complete cache.

    Raises
    ------
    GeedError
        If there is no cache, or its format is newer.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    everything = range(len(manifest.entries))
    wrong: list[str] = []

    def work(first: int) -> list[str]:
        found = []
        # Entry by entry, so that damage in one layer does not hide that in another.
        for i in everything:
            try:
                for _ in store.read_shard(folder, manifest, first, [i]):
                    pass
            except GeedError as error:
                found.append(str(error))
        return list(dict.fromkeys(found))

    for done, found in enumerate(in_order(store.shards(manifest), work, cores()), start=1):
        wrong += found
        if progress:
            progress(done, len(store.shards(manifest)))
    try:
        store.read_points(folder, manifest)
    except GeedError as error:
        if str(error) not in wrong:
            wrong.append(str(error))
    return wrong


def info_table(made: dict[str, Any], verified: bool = False) -> str:
    """Return a cache's description as text.

    Parameters
    ----------
    made : dict
        From :func:`cache_info`.
    verified : bool
        Whether every checksum was read.

    Returns
    -------
    str
    """
    from onnx_geed.table import columns

    state = "complete" if made["complete"] else f"not complete, {len(made['missing'])} missing"
    checked = ", every checksum is right" if verified else ""
    rows: list[Sequence[str]] = [("layer", "content", "dtype", "shape", "size")]
    for layer in made["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        rows.append(
            (layer["tensor"], layer["content"], layer["dtype"], shape, _size(layer["bytes"]))
        )
    prints = [("fingerprint", "", ""), *((k, v, "") for k, v in made["fingerprints"].items())]
    return "\n".join(
        (
            f"{made['path']}   {made['orbits']} orbits of {made['order']} in {made['shards']} shards, "
            f"{_size(made['bytes'])}: {state}{checked}",
            f"model {made['model']['path']}   data {made['data']['source']}   "
            f"{made['group']['name']}",
            "",
            *columns(rows, flexible=0, right=(4,)),
            "",
            *columns(prints, flexible=1),
        )
    )


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
