"""Write a cache of a run's activations, or finish one that was broken off."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.cache import store
from onnx_geed.cache.beside import BESIDE, INDEX
from onnx_geed.cache.contents import (
    Dtype,
    Mode,
    contents_of,
    fingerprints_of,
    kept_latents,
    labels_of_d,
    rounded,
)
from onnx_geed.cache.info import CacheInfo, cache_info
from onnx_geed.cache.inputs import has_inputs, write_inputs
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.matrices import MATRICES, has_matrices, matrices_bytes, write_matrices
from onnx_geed.cache.place_labels import has_place_labels, write_place_labels
from onnx_geed.cache.remote import written_there
from onnx_geed.cache.shard_writer import ShardWriter
from onnx_geed.errors import GeedError
from onnx_geed.results import check_measured
from onnx_geed.run import (
    Executor,
    ExecutorName,
    Meter,
    Options,
    Prepared,
    Progress,
    Task,
    Worker,
    check_inputs,
    check_orbits,
    identities,
    input_distances,
    make_options,
    open_executor,
    prepare_run,
)
from onnx_geed.text import counted, format_bytes

__all__ = ["write_cache", "write_chosen"]

# Seconds until a shard that another machine wrote is seen here.
_SEEN_WITHIN = 20.0


# Identity latents of some samples, and whole tensors, by the entry.
_Points = tuple[dict[int, NDArray[np.float32]], dict[int, NDArray[Any]]]


# Options of measuring, by which a cache is no other one.
_OF_MEASURING = (
    ("interval", "background", "fit_samples", "fit_anyway"),
    "is given where the cache is measured",
)


@checked
def write_cache(
    model: str | Path | Any,
    data: str | Path | Any,
    group: Any,
    folder: str | Path,
    *,
    mode: Mode = "raw",
    dtype: Dtype = "float32",
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    limits: Sequence[str] = (),
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> CacheInfo:
    """Write the activations of orbits to a cache, or resume an interrupted one.

    Parameters
    ----------
    model, data, group
        As for :func:`onnx_geed.measure`.
    folder : str or Path
        The cache, a folder ``NAME.geed``, or its address.
    mode : {"raw", "stats"}
        Full activations, or only the statistics that the chosen measures need.
    dtype : {"float32", "float16"}
        How raw activations are stored.
    progress : callable, optional
        Called with the number of finished orbits and of all.
    notify : callable, optional
        Called with a text about existing and missing shards.
    limits : sequence of str
        As for :func:`onnx_geed.measure`, if the cache will be measured next.
    executor, address
        As for :func:`onnx_geed.measure`; shards are the same to the last bit.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        The description that ``onnx-geed cache --info`` prints.

    Raises
    ------
    GeedError
        If model, data or options are invalid, or the group does not move the input.
        If there is no such mode or dtype, or an option does not work with a cache.
        If the existing cache belongs to something else; the message names the difference.
        If another process is writing to it, or the disk is full or too small.
    """
    return write_chosen(
        model,
        data,
        group,
        folder,
        chosen=make_options(options, *_OF_MEASURING),
        mode=mode,
        dtype=dtype,
        progress=progress,
        notify=notify,
        limits=limits,
        executor=executor,
        address=address,
    )


@written_there
def write_chosen(
    model: str | Path | Any,
    data: str | Path | Any,
    group: Any,
    folder: str | Path,
    *,
    chosen: Options,
    mode: Mode,
    dtype: Dtype,
    progress: Progress | None,
    notify: Callable[[str], None] | None,
    limits: Sequence[str],
    executor: ExecutorName | Executor,
    address: str | None,
) -> CacheInfo:
    """Write a cache as :func:`write_cache` does.

    Parameters
    ----------
    model, data, group, folder, mode, dtype, progress, notify, limits, executor, address
        As there.
    chosen : Options
        Also those with which the cache will be measured, to be checked before it is written.

    Returns
    -------
    dict
        As there.

    Raises
    ------
    GeedError
        As there.
    """
    folder = Path(folder)
    say = notify or (lambda _: None)
    for name in ("references", "untrained"):
        if getattr(chosen, name):
            raise GeedError(
                f"--{name}: needs further runs of the model, which a cache does not store; "
                "leave it out"
            )
    chosen = dataclasses.replace(chosen, engine="kernels")
    with open_executor(executor, address) as running:
        prepared = prepare_run(model, data, group, chosen, executor=running)
        if prepared.model.function is not None:
            raise GeedError(
                f"cache: needs the fingerprint of a model file, but {prepared.model.called} is a "
                "function: measure it without a cache, or export the model"
            )
        _write(prepared, folder, mode, dtype, Meter("orbits", 0, progress), say, limits)
    return cache_info(folder)


def _write(
    prepared: Prepared,
    folder: Path,
    mode: Mode,
    dtype: Dtype,
    meter: Meter,
    say: Callable[[str], None],
    limits: Sequence[str],
) -> None:
    """Write what is not there yet of a run that was worked out."""
    plan = prepared.task.plan
    check_measured(limits, [(m.name, m.layer) for m in plan.measures])
    manifest = contents_of(prepared, mode, dtype)
    if folder.exists() and not folder.is_dir():
        raise GeedError(f"cache {folder}: is a file; name a folder, such as {folder.stem}.geed")
    if others := _other_files(folder):
        raise GeedError(
            f"cache {folder}: the folder holds other files ({others[0]}) and no cache; name a new "
            f"folder, such as {folder / 'acts.geed'}"
        )
    with store.lock(folder):
        manifest = _manifest_to_resume(folder, manifest)
        store.clean(folder)
        missing = store.missing_shards(folder, manifest)
        _announce(folder, manifest, missing, say)
        _check_room(folder, manifest, missing)
        write_matrices(folder, prepared.tables, manifest.description["tables"])
        _fill(prepared, manifest, folder, missing, meter)
        if not store.has_points(folder, manifest):
            store.write_points(folder, manifest, _extra_points(prepared, manifest))
        labels = labels_of_d(prepared)
        if labels is not None and not has_place_labels(folder, manifest):
            write_place_labels(folder, manifest, labels)
        if not has_inputs(folder, manifest):
            source, norm = prepared.task.source, prepared.options.norm_samples
            write_inputs(folder, manifest, input_distances(source, prepared.count, norm))
        check_inputs(prepared)
        store.clean(folder)  # what workers that died left
        store.write_index(folder, manifest)
        _check_complete(folder, manifest)


def _other_files(folder: Path) -> list[str]:
    """Return what a folder holds that is no part of a cache, where there is no part of one.

    A folder that has a cache's name is taken whatever lies there, such as a scheduler's log.
    """
    if folder.suffix == ".geed" or not folder.is_dir() or any(folder.glob("shard-*.h5")):
        return []
    own = {INDEX, store.REFERENCE, MATRICES, *BESIDE, "lost+found"}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return [] if own & {*names} else names


def _check_complete(folder: Path, manifest: Manifest) -> None:
    """Make sure that what was written is there, before it is said to be."""
    gone = [store.shard_path(folder, f).name for f in store.missing_shards(folder, manifest)]
    if not has_matrices(folder, manifest.description["tables"]):
        gone.append(MATRICES)
    gone += [] if has_inputs(folder, manifest) else ["how far inputs are moved"]
    if gone or not store.has_points(folder, manifest):
        lost = f"{len(gone)} shards" if len(gone) > 1 else (gone or ["the points of M"])[0]
        raise GeedError(
            f"cache {folder}: {lost} disappeared while it was written; run the same command again "
            "to write what is missing"
        )


def _manifest_to_resume(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest that the cache goes on with: the one that is there, if any."""
    begun = store.begun_manifest(folder)
    if begun is None:
        return manifest
    there = begun.fingerprints | fingerprints_of(begun.description)
    differ = [
        name
        for name in {**there, **manifest.fingerprints}
        if there.get(name) != manifest.fingerprints.get(name)
    ]
    if differ:
        first = differ[0]
        a, b = (str(each.get(first, "nothing")) for each in (there, manifest.fingerprints))
        raise GeedError(
            f"cache {folder}: differs from this run in {', '.join(differ)} ({first}: {a[:60]} in "
            f"the cache, {b[:60]} now): repeat the command that wrote it, write to another folder, "
            "or remove this one"
        )
    return begun


def _announce(
    folder: Path, manifest: Manifest, missing: Sequence[int], say: Callable[[str], None]
) -> None:
    everything = len(store.shards(manifest))
    shards = f"{everything} shard{'s' * (everything != 1)}"
    left = sum(min(manifest.shard_orbits, manifest.count - first) for first in missing)
    size = format_bytes(manifest.bytes)
    if len(missing) == everything:
        say(f"note: cache {folder}: writing {counted(manifest.count, 'orbit')}, {size} in {shards}")
    elif missing:
        say(
            f"note: cache {folder}: {everything - len(missing)} of {shards} exist, {left} of "
            f"{counted(manifest.count, 'orbit')} to go"
        )
    else:
        say(f"note: cache {folder}: complete, {shards} ({size})")


def _check_room(folder: Path, manifest: Manifest, missing: Sequence[int]) -> None:
    """Refuse a run that cannot fit, before it starts."""
    orbit = sum(manifest.orbit_bytes(entry) for entry in manifest.entries)
    left = sum(min(manifest.shard_orbits, manifest.count - first) for first in missing)
    per_file = 64 << 10  # HDF5's own structures and the manifest, generously
    need = orbit * left + (len(missing) + 2) * per_file
    if not (folder / MATRICES).is_file():
        need += matrices_bytes(manifest.description["tables"])
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
    missing: Sequence[int],
    meter: Meter,
) -> None:
    """Run the orbits of the shards that are missing, and write them."""
    writer = ShardWriter(prepared.task, manifest, folder, frozenset(missing))
    orbits = {first: len(store.shard_orbits(manifest, first)) for first in missing}
    meter.total = manifest.count
    meter.done = manifest.count - sum(orbits.values())
    for first in prepared.in_order(writer, missing):
        _check_seen(store.shard_path(folder, first))
        meter.add(orbits[first])


def _check_seen(shard: Path) -> None:
    """Make sure that a shard is seen here, whoever wrote it; a shared disk may need a moment."""
    end = time.monotonic() + _SEEN_WITHIN
    while not shard.is_file():
        if time.monotonic() > end:
            raise GeedError(
                f"cache {shard.parent}: {shard.name} was written but is missing here: give a "
                "folder that this machine and all nodes of the cluster share"
            )
        time.sleep(0.1)


def _extra_points(prepared: Prepared, manifest: Manifest) -> Iterator[_Points]:
    """Yield what M needs of samples beyond D."""
    starts = range(manifest.count, len(manifest.indices), prepared.task.batch)
    return prepared.in_order(partial(_points_of, prepared.task, manifest), starts)


def _points_of(task: Task, manifest: Manifest, worker: Worker, first: int) -> _Points:
    """Run some samples; return identity latents, and whole tensors, by the entry."""
    runner = worker.session(task.network, tuple(task.plan.layers))
    positions = range(first, min(first + task.batch, len(manifest.indices)))
    arrays = identities(task.source, runner, positions, task.batch)
    latents = {}
    for name, array in arrays.items():
        check_orbits(task.plan, name, array[:, None], task.source.label, first)
    for i, entry in enumerate(manifest.entries):
        if entry.content != "sums":
            y = rounded(arrays[entry.tensor], entry)
            if (rows := kept_latents(y, task.plan.layers[entry.tensor])) is not None:
                latents[i] = rows
    entries = manifest.entries
    return latents, {i: rounded(arrays[entries[i].tensor], entries[i]) for i in manifest.whole}
