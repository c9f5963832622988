"""The contents of a cache: which entries it has of a run, and what each keeps of activations."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.manifest import Entry, Manifest
from onnx_geed.cache.manifest_content import Description, StoredLayer, StoredTensor
from onnx_geed.cache.matrices import texts_of
from onnx_geed.cache.place_labels import LABELLED
from onnx_geed.cache.shard_file import VERSION
from onnx_geed.errors import GeedError, without_secrets
from onnx_geed.groups import Group, parse_layout
from onnx_geed.measures import (
    Layer,
    Measure,
    Plan,
    by_sample,
    channel_sums_of_orbits,
    descriptor_of,
    view,
)
from onnx_geed.model import CLASSES
from onnx_geed.run import (
    Prepared,
    Source,
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    first_moved,
    job_orbits,
    refuse_fits,
    software_versions,
    unmoved_notes,
    unmoved_of_fewer,
    without_machine_notes,
)

__all__ = [
    "Dtype",
    "Mode",
    "contents_of",
    "kept_latents",
    "kept_of",
    "labels_of_d",
    "lasting_notes",
    "needs_activations",
    "paired_measures",
    "rounded",
    "unmoved_notes_of",
]

Mode = Literal["raw", "stats"]


Dtype = Literal["float32", "float16"]


# A shard holds up to this much and so many orbits: what a killed run loses.
_SHARD_BYTES = 16 << 20


_SHARD_ORBITS = 8


# Of many small orbits it holds more, until there are about so many shards, each of few bytes.
_SHARDS, _SMALL_SHARD_BYTES = 128, 4 << 20


# Notes on how many samples are measured, and on a background that nobody stated: both are open
# until a cache is measured, where they are told anew. Earlier versions kept them.
_TOLD_ANEW = re.compile(
    r"only \d+ of the \d+ samples? (asked for|wanted for M) exist"
    r"|background is class \d+.*, the most common label .*; change with --background"
    r"|.* of D unchanged: .*",
    re.DOTALL,
)


def contents_of(prepared: Prepared, mode: Mode, dtype: str) -> Manifest:
    """Work out what a cache of a run holds, with every fingerprint of spec section 7.

    Parameters
    ----------
    prepared : Prepared
        The run.
    mode : {"raw", "stats"}
        Full activations, or only the statistics that the chosen measures need.
    dtype : {"float32", "float16"}
        How raw activations are stored.

    Returns
    -------
    Manifest

    Raises
    ------
    GeedError
        If the run takes several passes, or ends where a precision is reached.
        If the mode does not go with the dtype, or there is no measure that it could serve.
    """
    _refuse_what_no_cache_serves(prepared)
    plan, source = prepared.task.plan, prepared.task.source
    entries = _entries(prepared, mode, dtype)
    description = _description(prepared, mode)
    n, size = plan.group.order, job_orbits(plan.group.order, prepared.task.batch)
    per_orbit = sum(n * int(np.prod(e.shape)) * np.dtype(e.dtype).itemsize for e in entries)
    return Manifest(
        _fingerprints(prepared, entries, dtype, description) | fingerprints_of(description),
        tuple(entries),
        n,
        source.indices,
        prepared.count,
        max(size, _orbits_of_a_shard(prepared.count, per_orbit) // size * size),
        _point_sizes(plan, entries),
        description,
        _whole_entries(plan, entries),
    )


def _refuse_what_no_cache_serves(prepared: Prepared) -> None:
    """Refuse runs that end early, with a mask, with fits, or in several passes."""
    if prepared.options.precision is not None:
        raise GeedError(
            "--precision: a cache holds a fixed number of orbits; write it with --samples N, then "
            "measure the cache with --precision"
        )
    if prepared.task.source.mask is not None:
        raise GeedError("--mask: a cache keeps no mask; leave --cache out, and measure the model")
    if prepared.fitting is not None:
        refuse_fits(
            prepared.fitting.requests,
            "fits are made when a cache is measured: write the cache with enough --samples for D "
            "and the fit, then give this option to onnx-geed measure ACTS.geed with --samples",
        )
    if len(prepared.passes) > 1:
        raise GeedError(
            "the layers' activations exceed --memory in one pass: give a larger --memory, or fewer "
            "layers"
        )


def _entries(prepared: Prepared, mode: Mode, dtype: str) -> list[Entry]:
    """Return what is kept of each tensor."""
    plan = prepared.task.plan
    if mode == "raw":
        return [Entry(x.name, x.shape, dtype, "activations") for x in plan.layers.values()]
    if dtype != "float32":
        raise GeedError("--cache-dtype float16 is for raw activations; statistics are kept in full")
    if not plan.measures:
        raise GeedError("--cache-mode stats keeps what measures need: give --measure, not --layer")
    fitted = {name for name, table in prepared.tables.items() if table.fit is not None}
    each = (_entry(plan, m, fitted=m.layer in fitted) for m in plan.measures)
    entries = list(dict.fromkeys(each))
    # Points are read from activations where these are kept anyway.
    held = {e.tensor for e in entries if e.content == "activations"}
    return [e for e in entries if e.content != "points" or e.tensor not in held]


def _entry(plan: Plan, measure: Measure, *, fitted: bool) -> Entry:
    """Return the least that serves a measure."""
    layer = plan.layers[measure.layer]
    whole = Entry(measure.layer, layer.shape, "float32", "activations")
    # What a fitted value is read beside takes activations.
    if fitted:
        return whole
    if measure.descriptor.view == "maps":
        return _sums_entry(plan, measure, layer.channels) or whole
    if needs_activations(measure, layer):
        return whole
    return Entry(measure.layer, (layer.point_length,), "float32", "points")


def _fingerprints(
    prepared: Prepared, entries: Sequence[Entry], dtype: str, description: Description
) -> dict[str, str]:
    """Return the fingerprints of what was run, and how (spec section 7)."""
    task, options = prepared.task, prepared.options
    plan, source = task.plan, task.source
    versions = description["software"]
    acted = {
        "interpolation": options.interpolation,
        "support": options.support,
        **({} if options.components == "right-down" else {"components": options.components}),
        **({"clip": True} if options.clip else {}),
        "input": task.network.input,
        "layout": source.layout,
        "tables": description["tables"],
    }
    fingerprints = {
        "format": str(VERSION),
        "model": prepared.model.sha256,
        "data": _data_hash(source),
        "samples": json.dumps([prepared.count, len(source.indices)]),
        "seed": str(options.seed),
        "group": without_secrets(plan.group.name)
        + (", other elements a sample" if plan.group.onward else ""),
        "action options": json.dumps(acted, sort_keys=True),
        "layers": json.dumps([[e.tensor, e.content, list(e.shape)] for e in entries]),
        "measures": json.dumps([[m.name, m.layer] for m in plan.measures]),
        "dtype": dtype,
        "provider": task.network.provider,
        "batch size": str(task.batch),
        "onnxruntime": versions.get("onnxruntime-gpu") or versions.get("onnxruntime", ""),
        "onnx-geed": versions.get("onnx-geed", ""),
    }
    if (labels := labels_of_d(prepared)) is not None:
        content = f"{labels.shape}".encode() + labels.astype("<i4").tobytes()
        fingerprints[LABELLED] = hashlib.sha256(content).hexdigest()
    if (backdrop := source.main.backdrop) is not None:
        fingerprints["backgrounds"] = backdrop.digest
        fingerprints["masks"] = backdrop.masks_fingerprint(source.indices)
    if source.main.members:
        fingerprints["members"] = source.main.members
    return fingerprints


def _description(prepared: Prepared, mode: Mode) -> Description:
    """Return what a measurement of the cache must know of the run."""
    task, plan, options = prepared.task, prepared.task.plan, prepared.options
    firsts = first_moved(task.source, prepared.count)
    return {
        "mode": mode,
        "model": describe_model(prepared.model),
        "data": describe_data(task.source),
        "group": describe_group(task),
        "runtime": describe_runtime(task),
        "software": software_versions(),
        "kinds": dict(prepared.kinds),
        "tables": texts_of(prepared.tables),
        "measures": [(m.name, m.layer) for m in plan.measures],
        "layers": [cast(StoredLayer, dataclasses.asdict(x)) for x in plan.layers.values()],
        "tensors": [
            cast(StoredTensor, dataclasses.asdict(t))
            for t in prepared.tensors
            if t.name in plan.layers
        ],
        "classes": prepared.model.metadata.get(CLASSES),
        "targets": [m.layer for m in plan.measures if m.target],
        "notes": lasting_notes(without_machine_notes(plan.notes)),
        "unmoved": [firsts.get(g, prepared.count) for g in range(plan.group.order)],
        "norm_samples": options.norm_samples,
        "samples": options.wanted,
        "seed": options.seed,
    }


def fingerprints_of(description: Description) -> dict[str, str]:
    """Return the fingerprints that the description of a cache settles, also that of an older one.

    Parameters
    ----------
    description : dict
        The cache's.

    Returns
    -------
    dict of str to str
        ``layouts`` and ``output kinds``, and ``labels`` where samples have some.
    """
    layouts = {layer["name"]: layer["layout"] for layer in description["layers"]}
    told = {
        "layouts": json.dumps(layouts, sort_keys=True),
        "output kinds": json.dumps(description["kinds"], sort_keys=True),
    }
    if (labels := description["data"]["labels"]) is not None:
        told["labels"] = hashlib.sha256(json.dumps(labels).encode()).hexdigest()
    return told


def lasting_notes(notes: Iterable[str]) -> list[str]:
    """Return the notes of a run that hold however a cache of it is measured.

    Parameters
    ----------
    notes : iterable of str
        Of the run that writes the cache, or as one keeps them, also an older one.

    Returns
    -------
    list of str
        Without those on how many samples are measured, and on the background.
    """
    return [note for note in notes if _TOLD_ANEW.fullmatch(note) is None]


def unmoved_notes_of(description: Description, group: Group, count: int) -> list[str]:
    """Say which elements leave the first samples of a cache as they are, if any do.

    Parameters
    ----------
    description : dict
        The cache's. That of an older one tells only of elements that change none of its samples.
    group : Group
        The acting group.
    count : int
        How many samples are measured.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    if (unmoved := description.get("unmoved")) is None:
        return unmoved_of_fewer(description["notes"], count)
    idle = [g for g, samples in enumerate(unmoved) if g and samples >= count]
    return unmoved_notes(group.name, group.elements, idle, count)


def _orbits_of_a_shard(count: int, per_orbit: int) -> int:
    """Return how many orbits lie in a shard, for some orbits of so many bytes each.

    A killed run loses what is in a shard that is not finished: few bytes, and of many orbits a
    small part. One file for every few small orbits would be thousands of files, each of them
    with the manifest of all orbits in it.
    """
    few = min(_SHARD_ORBITS, _SHARD_BYTES // max(per_orbit, 1))
    return max(few, min(count // _SHARDS, _SMALL_SHARD_BYTES // max(per_orbit, 1)))


def labels_of_d(prepared: Prepared) -> NDArray[np.int32] | None:
    """Return the labels (N, ...) of the places of D, if there are any."""
    source = prepared.task.source
    labels = source.place_labels
    return None if labels is None else labels[list(source.indices[: prepared.count])]


def _sums_entry(plan: Plan, measure: Measure, channels: int) -> Entry | None:
    """Return an entry of sums of eq. (5), unless some elements with their own f̂ need maps."""
    for members in (plan.exact_subgroup(measure), plan.group.half):
        if members and not set(measure.kernel_of_action) <= set(members):
            return None
    return Entry(measure.layer, (channels, 3), "float64", "sums")


def _point_sizes(plan: Plan, entries: Sequence[Entry]) -> dict[int, int]:
    """Return the length of the identity latents of every entry that has some."""
    sizes = {}
    for i, entry in enumerate(entries):
        if entry.content != "sums":
            blank = np.zeros((1, *entry.shape), dtype=np.float32)
            if (rows := kept_latents(blank, plan.layers[entry.tensor])) is not None:
                sizes[i] = rows.shape[1]
    return sizes


def needs_activations(measure: Measure, layer: Layer) -> bool:
    """Say whether a measure needs all of a tensor, and not the points that it is brought to."""
    whole = measure.descriptor.view == "whole" and len(layer.shape) > 1
    return whole or measure.places is not None


def _whole_entries(plan: Plan, entries: Sequence[Entry]) -> tuple[int, ...]:
    """Return the entries of which M₂ needs whole tensors of the points that have no orbit."""
    spread = {
        m.layer
        for m in plan.measures
        if m.descriptor.spread and needs_activations(m, plan.layers[m.layer])
    }
    return tuple(
        i for i, e in enumerate(entries) if e.content == "activations" and e.tensor in spread
    )


def _data_hash(source: Source) -> str:
    """Return the fingerprint of everything that is fed, the other inputs too."""
    digest = hashlib.sha256(describe_data(source)["fingerprint"].encode())
    for name, moved in sorted(source.partners.items()):
        own = moved.samples.fingerprint(source.indices)
        digest.update(f"{name} {moved.layout} {own}".encode())
    for name, feed in sorted(source.feeds.items()):
        digest.update(f"{name} {feed.rows} {feed.values.dtype} {feed.values.shape}".encode())
        digest.update(np.ascontiguousarray(feed.values).tobytes())
    return digest.hexdigest()


def paired_measures(listed: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the measure whose deviations between samples stand beside a tensor's sums, by tensor.

    Parameters
    ----------
    listed : iterable of (str, str)
        Measures and tensors in the order in which a cache was asked for them.

    Returns
    -------
    dict of str to str
        The first measure of maps; for another one the activations would be needed.
    """
    paired: dict[str, str] = {}
    for name, layer in listed:
        if descriptor_of(name).view == "maps":
            paired.setdefault(layer, name)
    return paired


def kept_of(
    plan: Plan, manifest: Manifest, activations: Mapping[str, NDArray[np.float32]], first: int
) -> store.KeptOrbits:
    """Return what the entries keep of some orbits, and the identity latents beside them.

    Parameters
    ----------
    plan : Plan
        What will be measured.
    manifest : Manifest
        The entries.
    activations : mapping of str to ndarray of float32, shape (orbits, n, ...)
        By tensor, finite.
    first : int
        Position of the first orbit.

    Returns
    -------
    arrays : list of ndarray, shape (orbits, n, ...)
        One an entry.
    points : dict of int to ndarray of float32, shape (orbits, k)
        By the entry's number.

    Raises
    ------
    GeedError
        If an activation is out of the range of what is stored.
    """
    arrays: list[NDArray[Any]] = []
    points: dict[int, NDArray[np.float32]] = {}
    for i, entry in enumerate(manifest.entries):
        y, layer = activations[entry.tensor], plan.layers[entry.tensor]
        if entry.content == "sums":
            measure = next(
                m for m in plan.measures if m.descriptor.view == "maps" and m.layer == entry.tensor
            )
            each = by_sample(measure, view(layer, measure, y), first)
            sums = [channel_sums_of_orbits(own, maps) for own, _, maps in each]
            arrays.append(sums[0] if len(sums) == 1 else np.concatenate(sums))
            continue
        if entry.content == "points":
            y = parse_layout(layer.layout).to_points(y, axes=2)[0]
        y = rounded(y, entry)
        arrays.append(y)
        if (latents := kept_latents(y[:, 0], layer)) is not None:
            points[i] = latents
    return arrays, points


def rounded(y: NDArray[Any], entry: Entry) -> NDArray[Any]:
    """Return activations as an entry stores them.

    Raises
    ------
    GeedError
        If one is out of float16's range.
    """
    if entry.dtype != "float16":
        return y
    with np.errstate(over="ignore"):
        half = y.astype(np.float16)
    if not np.isfinite(half).all():
        raise GeedError(f"tensor {entry.tensor!r} exceeds float16's range of 65504: store float32")
    return half


def kept_latents(identity: NDArray[Any], layer: Layer) -> NDArray[np.float32] | None:
    """Return identity latents (N, k) of activations (N, ...); None where a tensor has no vector."""
    try:
        identity = identity.astype(np.float32, copy=False)
        rows = parse_layout(layer.layout).to_points(identity, axes=1)[0]
    except GeedError:
        return None  # tokens have no single point
    return np.ascontiguousarray(rows, dtype=np.float32)
