"""Write a cache of a run's activations, or finish one that was broken off."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.info import cache_info
from onnx_geed.cache.manifest import Entry, Manifest
from onnx_geed.cache.shard_file import VERSION
from onnx_geed.errors import GeedError, check_choice
from onnx_geed.groups import parse_layout, table_to_json
from onnx_geed.measures import Layer, Measure, Plan, channel_sums_of_orbits, view
from onnx_geed.results import check_measured
from onnx_geed.run import (
    Between,
    Pairs,
    Prepared,
    activations,
    around,
    check_inputs,
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    identities,
    in_order,
    job_orbits,
    make_options,
    neighbours,
    prepare_run,
    software_versions,
    unmoved_notes,
    unmoving,
)
from onnx_geed.text import format_bytes

__all__ = ["write_cache"]

Mode = Literal["raw", "stats"]


Dtype = Literal["float32", "float16"]


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
    dtype: Dtype = "float32",
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    limits: Sequence[str] = (),
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
    limits : sequence of str
        As :func:`onnx_geed.measure` takes them, for a cache that is measured next.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        What ``onnx-geed cache --info`` tells.

    Raises
    ------
    GeedError
        If model, data or options cannot be used, or the group does not move the input.
        If there is no such mode or dtype, or an option asks for what a cache cannot keep.
        If the cache there was made from something else, naming what differs.
        If another process writes to it, or the disk is full or too small.
    """
    folder = Path(folder)
    say = notify or (lambda _: None)
    check_choice("--cache-mode", mode, get_args(Mode))
    check_choice("--cache-dtype", dtype, get_args(Dtype))
    chosen = make_options(options)
    for name in ("references", "untrained"):
        if getattr(chosen, name):
            raise GeedError(
                f"--{name}: runs the model again, and a cache keeps nothing of that; leave it out"
            )
    prepared = prepare_run(model, data, group, dataclasses.replace(chosen, engine="kernels"))
    check_measured(limits, [(m.name, m.layer) for m in prepared.plan.measures])
    manifest = _manifest(prepared, mode, dtype)
    if folder.exists() and not folder.is_dir():
        raise GeedError(f"cache {folder}: is a file; name a folder, such as {folder.stem}.geed")
    with store.lock(folder):
        manifest = _resumed(folder, manifest)
        store.clean(folder)
        missing = store.missing_shards(folder, manifest)
        _announce(folder, manifest, missing, say)
        _check_room(folder, manifest, missing)
        _fill(prepared, manifest, folder, mode, missing, progress)
        if not store.has_points(folder, manifest):
            store.write_points(folder, manifest, _extra_points(prepared, manifest))
        check_inputs(prepared)
        store.write_index(folder, manifest)
        _check_complete(folder, manifest)
    return cache_info(folder)


def _check_complete(folder: Path, manifest: Manifest) -> None:
    """Make sure that what was written is there, before it is said to be."""
    gone = [store.shard_path(folder, f).name for f in store.missing_shards(folder, manifest)]
    if gone or not store.has_points(folder, manifest):
        what = f"{len(gone)} shards" if len(gone) > 1 else (gone or ["the points of M"])[0]
        raise GeedError(
            f"cache {folder}: {what} disappeared while it was written; run the same command again "
            "to make what is missing"
        )


def _manifest(prepared: Prepared, mode: Mode, dtype: str) -> Manifest:
    """What the cache will hold, with every fingerprint of spec section 7."""
    plan, options = prepared.plan, prepared.options
    if options.precision is not None:
        raise GeedError(
            "--precision: a cache keeps as many orbits as it was asked to; write it with --samples "
            "N, then measure the cache with --precision"
        )
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
            shape = view(layer, m.descriptor, np.zeros((1, 1, *layer.shape), np.float32)).shape[2:]
            entry = Entry(m.layer, shape, "float32", "points")
            if m.name == "channel-cos":
                entry = _sums_entry(plan, m, shape[0]) or Entry(
                    m.layer, layer.shape, "float32", "activations"
                )
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
        "format": str(VERSION),
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
    idle = unmoving(source, prepared.count)
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
        "classes": prepared.model.metadata.get("onnx_geed.classes"),
        "notes": [*plan.notes, *unmoved_notes(plan.group, idle, prepared.count)],
        "norm_samples": options.norm_samples,
        "samples": options.wanted,
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


def _sums_entry(plan: Plan, measure: Measure, channels: int) -> Entry | None:
    """The sums of eq. (5), unless the exact subgroup has an f̂ of its own and needs the maps."""
    members = plan.exact_subgroup(measure)
    if members is not None and not set(measure.kernel_of_action) <= set(members):
        return None
    return Entry(measure.layer, (channels, 3), "float64", "sums")


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


def _resumed(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest that the cache goes on with: the one that is there, if any."""
    if not any(folder.glob("shard-*.h5")):
        return manifest
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
    return there


def _announce(
    folder: Path, manifest: Manifest, missing: Sequence[int], say: Callable[[str], None]
) -> None:
    everything = len(store.shards(manifest))
    left = sum(min(manifest.shard_orbits, manifest.count - first) for first in missing)
    size = format_bytes(manifest.bytes)
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
            f"cache {folder}: needs {format_bytes(need)} more, the disk has {format_bytes(free)} "
            "free: use --cache-mode stats, --cache-dtype float16, fewer layers or samples, or "
            "another disk"
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
    sums = _sums_plan(prepared.plan, manifest)
    there = set(store.shards(manifest)) - set(missing)

    def run(start: int) -> dict[str, NDArray[np.float32]]:
        first = start // manifest.shard_orbits * manifest.shard_orbits
        stop = min(start + size, first + manifest.shard_orbits, manifest.count)
        positions = range(start, stop)
        arrays = activations(prepared.source, session, positions, prepared.batch)
        named = dict(zip(session.outputs, arrays, strict=True))
        _check_finite(prepared, named, start)
        return named

    def rerun(position: int) -> tuple[dict[str, NDArray[np.float32]], int] | None:
        first = position // manifest.shard_orbits * manifest.shard_orbits
        if first not in there:
            return None
        # The very job that was run, so that its activations are the same to the last bit.
        start = first + (position - first) // size * size
        named = run(start)
        return {name: named[name] for name in sums.layers}, start

    # Pairs beyond those of D close the circle of any D that is cut to fewer samples.
    pairs = sorted({*neighbours(manifest.count), *around(manifest.count)} if sums.measures else {})
    between = Between(sums, pairs, rerun)
    done = manifest.count - sum(
        min(manifest.shard_orbits, manifest.count - first) for first in missing
    )

    def jobs(first: int, found: list[Callable[[], Pairs]]) -> Iterator[store.Job]:
        stop = min(first + manifest.shard_orbits, manifest.count)
        for start in range(first, stop, size):
            named = run(start)
            finish = between.begin({name: named[name] for name in sums.layers}, start)
            # The first waits for another shard's last orbit, and so until this one's are through.
            found.append(finish if start == first else _kept(finish()))
            yield _stored(prepared.plan, manifest, named)

    def work(first: int) -> int:
        found: list[Callable[[], Pairs]] = []
        try:
            store.write_shard(
                folder, manifest, first, jobs(first, found), lambda: _pairs(manifest, found)
            )
        except BaseException as error:
            between.fail(first, min(first + manifest.shard_orbits, manifest.count), error)
            raise
        return min(manifest.shard_orbits, manifest.count - first)

    for orbits in in_order(missing, work, prepared.workers):
        done += orbits
        if progress:
            progress(done, manifest.count)


def _sums_plan(plan: Plan, manifest: Manifest) -> Plan:
    """The measures of which only sums are kept."""
    kept = {e.tensor for e in manifest.entries if e.content == "sums"}
    measures = [m for m in plan.measures if m.name == "channel-cos" and m.layer in kept]
    layers = {name: plan.layers[name] for name in kept}
    return dataclasses.replace(plan, measures=tuple(measures), layers=layers)


def _kept(pairs: Pairs) -> Callable[[], Pairs]:
    return lambda: pairs


def _pairs(
    manifest: Manifest, found: Sequence[Callable[[], Pairs]]
) -> dict[str, NDArray[np.float64]]:
    """A shard's deviations between samples, in the order of the pairs."""
    rows: dict[str, dict[tuple[int, int], NDArray[np.float64]]] = {}
    numbers = {e.tensor: i for i, e in enumerate(manifest.entries) if e.content == "sums"}
    for part in found:
        for (_, layer), pairs in part().items():
            for (p, q), pair in pairs.items():
                name = f"{'around' if q == 0 else 'between'}/{numbers[layer]}"
                rows.setdefault(name, {})[p, q] = pair.deviations
    return {name: np.stack([rows[name][k] for k in sorted(rows[name])]) for name in sorted(rows)}


def _check_finite(prepared: Prepared, named: dict[str, NDArray[np.float32]], first: int) -> None:
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
            maps = view(layer, measure.descriptor, y)
            arrays.append(channel_sums_of_orbits(measure, maps))
            continue
        if entry.content == "points":
            y = parse_layout(layer.layout).to_points(y, axes=2)[0]
        y = _rounded(y, entry)
        arrays.append(y)
        if (latents := _points(y[:, 0], layer)) is not None:
            points[i] = latents
    return arrays, points


def _rounded(y: NDArray[Any], entry: Entry) -> NDArray[Any]:
    """Activations as they are stored."""
    if entry.dtype != "float16":
        return y
    with np.errstate(over="ignore"):
        half = y.astype(np.float16)
    if not np.isfinite(half).all():
        raise GeedError(f"tensor {entry.tensor!r} exceeds float16's range of 65504: store float32")
    return half


def _points(identity: NDArray[Any], layer: Layer) -> NDArray[np.float32] | None:
    try:
        identity = identity.astype(np.float32, copy=False)
        rows = parse_layout(layer.layout).to_points(identity, axes=1)[0]
    except GeedError:
        return None  # tokens have no single point
    return np.ascontiguousarray(rows, dtype=np.float32)


def _extra_points(prepared: Prepared, manifest: Manifest) -> dict[int, NDArray[np.float32]]:
    """Identity latents of the samples that M needs beyond D."""
    session = prepared.open(prepared.passes[0])
    first = manifest.count
    parts: dict[int, list[NDArray[np.float32]]] = {}
    for arrays in identities(
        prepared.source, session, manifest.count, batch=prepared.batch, workers=prepared.workers
    ):
        named = dict(zip(session.outputs, arrays, strict=True))
        _check_finite(prepared, {name: a[:, None] for name, a in named.items()}, first)
        first += len(arrays[0])
        for i, entry in enumerate(manifest.entries):
            if entry.content == "sums":
                continue
            y = _rounded(named[entry.tensor], entry)
            if (rows := _points(y, prepared.plan.layers[entry.tensor])) is not None:
                parts.setdefault(i, []).append(rows)
    return {i: np.concatenate(rows) for i, rows in parts.items()}
