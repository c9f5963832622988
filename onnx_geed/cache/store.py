"""A cache as a folder of shards: names, lock, what is there, what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache.beside import BESIDE, INDEX, shared_manifest
from onnx_geed.cache.manifest import Entry, Manifest
from onnx_geed.cache.shard_file import (
    chunked,
    damaged,
    held,
    make_dataset,
    new_file,
    read_chunk,
    read_dataset,
    reading,
    write_chunk,
    write_samples,
)
from onnx_geed.errors import GeedError
from onnx_geed.whole import whole

if TYPE_CHECKING:
    import h5py

__all__ = [
    "REFERENCE",
    "KeptOrbits",
    "begun_manifest",
    "check_samples",
    "clean",
    "has_points",
    "lock",
    "missing_shards",
    "read_manifest",
    "read_pairs",
    "read_points",
    "read_shard",
    "shard_orbits",
    "shard_path",
    "shards",
    "write_index",
    "write_points",
    "write_shard",
]

#: The file of the points for M that have no orbit.
REFERENCE = "reference.h5"


# Smaller orbits than this share a chunk, up to as much.
_CHUNK_BYTES = 4 << 20


#: Kept of some orbits: one array an entry, and identity-element latents by the entry's number.
KeptOrbits = tuple[Sequence[NDArray[Any]], dict[int, NDArray[np.float32]]]


def shards(manifest: Manifest) -> range:
    """Return the positions of the first orbits of all shards."""
    return range(0, manifest.count, manifest.shard_orbits)


def shard_orbits(manifest: Manifest, first: int) -> range:
    """Return the positions of the orbits of the shard that begins at a position."""
    return range(first, min(first + manifest.shard_orbits, manifest.count))


def shard_path(folder: Path, first: int) -> Path:
    """Return the path of the shard whose first orbit is at a position."""
    return folder / f"shard-{first:08d}.h5"


def missing_shards(folder: Path, manifest: Manifest) -> list[int]:
    """Return the positions of the shards that are not there."""
    return [first for first in shards(manifest) if not shard_path(folder, first).is_file()]


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a cache for writing; the lock goes with the process, however it ends.

    Raises
    ------
    GeedError
        If another process writes to the cache.
        If the folder cannot be written to.
    """
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(folder / ".lock", timeout=0)
        held.acquire()
    except filelock.Timeout:
        raise GeedError(
            f"cache {folder}: another process is writing to it; wait for it, or write elsewhere"
        ) from None
    except OSError as error:
        raise GeedError(
            f"cache {folder}: cannot be written to ({error.strerror or error}); choose a folder "
            "you may write to"
        ) from None
    try:
        yield
    finally:
        held.release()


def clean(folder: Path) -> None:
    """Remove what killed runs left unfinished; call it while holding the lock."""
    for path in folder.glob(".unfinished-*"):
        path.unlink(missing_ok=True)


def write_shard(
    folder: Path,
    manifest: Manifest,
    first: int,
    jobs: Iterable[KeptOrbits],
    pairs: Callable[[], Mapping[str, NDArray[np.float64]]] = dict,
) -> None:
    """Write one shard.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    first : int
        Position of the shard's first orbit.
    jobs : iterable of (arrays, points)
        The orbits in order: one array (orbits, n, ...) an entry, and identity-element latents
        (orbits, k) by the entry's number.
    pairs : callable
        Called when all jobs are through; gives deviations between samples (pairs, n) by the name of
        their dataset, ``between/<i>`` or ``around/<i>``.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    count = len(shard_orbits(manifest, first))
    with _new_cache_file(folder, shard_path(folder, first), manifest) as (file, image):
        write_samples(file, manifest.indices[first : first + count])
        datasets = []
        for i, entry in enumerate(manifest.entries):
            shape = (count, manifest.order, *entry.shape)
            together = manifest.orbit_bytes(entry) * count <= _CHUNK_BYTES
            chunk = shape if together else (1, *shape[1:])
            datasets.append(_entry_dataset(file, f"orbits/{i}", shape, chunk, entry))
        waiting: list[list[NDArray[Any]]] = [[] for _ in datasets]
        latents: dict[int, list[NDArray[np.float32]]] = {}
        done = 0
        for arrays, points in jobs:
            for i, rows in points.items():
                latents.setdefault(i, []).append(rows)
            for dataset, array, buffer in zip(datasets, arrays, waiting, strict=True):
                if dataset.chunks[0] == 1:
                    for k, orbit in enumerate(array):
                        write_chunk(dataset, done + k, orbit, image)
                else:
                    buffer.append(array.astype(dataset.dtype))
            done += len(arrays[0])
        for dataset, buffer in zip(datasets, waiting, strict=True):
            if buffer:
                write_chunk(dataset, 0, np.concatenate(buffer))
        _write_latents(file, manifest, {i: np.concatenate(rows) for i, rows in latents.items()})
        for name, deviations in pairs().items():
            tensor = manifest.entries[int(name.partition("/")[2])].tensor
            entry = Entry(tensor, deviations.shape[1:], "float64", "deviations")
            dataset = _entry_dataset(file, name, deviations.shape, deviations.shape, entry)
            write_chunk(dataset, 0, deviations)


def write_points(
    folder: Path,
    manifest: Manifest,
    parts: Iterable[tuple[dict[int, NDArray[Any]], dict[int, NDArray[Any]]]],
) -> None:
    """Write the identity latents of the points of M that have no orbit, and some whole tensors.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    parts : iterable of (dict, dict) of int to ndarray
        Latents (points, k), and activations (points, ...) of the manifest's ``whole`` entries, by
        the entry's number; in the order of the samples.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    samples = manifest.indices[manifest.count :]
    with _new_cache_file(folder, folder / REFERENCE, manifest) as (file, _):
        write_samples(file, samples)
        datasets = {}
        for i in manifest.whole:
            entry = manifest.entries[i]
            shape, chunk = (len(samples), *entry.shape), (1, *entry.shape)
            datasets[i] = _entry_dataset(file, f"whole/{i}", shape, chunk, entry)
        latents: dict[int, list[NDArray[np.float32]]] = {}
        done = dict.fromkeys(datasets, 0)
        for points, tensors in parts:
            for i, rows in points.items():
                latents.setdefault(i, []).append(rows)
            for i, dataset in datasets.items():
                for tensor in tensors[i]:
                    write_chunk(dataset, done[i], tensor[None])
                    done[i] += 1
        _write_latents(file, manifest, {i: np.concatenate(rows) for i, rows in latents.items()})


def _write_latents(
    file: h5py.File, manifest: Manifest, points: dict[int, NDArray[np.float32]]
) -> None:
    for i, rows in points.items():
        entry = Entry(manifest.entries[i].tensor, rows.shape[1:], "float32", "points")
        write_chunk(_entry_dataset(file, f"reference/{i}", rows.shape, rows.shape, entry), 0, rows)


def _entry_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], entry: Entry
) -> h5py.Dataset:
    return make_dataset(
        file, name, shape, chunk, entry.dtype, tensor=entry.tensor, content=entry.content
    )


def _new_cache_file(
    folder: Path, path: Path, manifest: Manifest
) -> contextlib.AbstractContextManager[Any]:
    return new_file(folder, path, manifest.to_json(), manifest.fingerprints)


def write_index(folder: Path, manifest: Manifest) -> None:
    """Write ``cache.h5``: one virtual dataset a layer over all shards.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    with whole():
        import h5py

    with _new_cache_file(folder, folder / INDEX, manifest) as (file, _):
        write_samples(file, manifest.indices[: manifest.count])
        for i, entry in enumerate(manifest.entries):
            shape = (manifest.count, manifest.order, *entry.shape)
            layout = h5py.VirtualLayout(shape, dtype=entry.dtype)
            for first in shards(manifest):
                stop = min(first + manifest.shard_orbits, manifest.count)
                layout[first:stop] = h5py.VirtualSource(
                    shard_path(folder, first).name, f"orbits/{i}", (stop - first, *shape[1:])
                )
            dataset = file.create_virtual_dataset(f"orbits/{i}", layout, fillvalue=np.nan)
            dataset.attrs["tensor"] = held(entry.tensor)
            dataset.attrs["content"] = entry.content
        for i, size in manifest.points.items():
            layout = h5py.VirtualLayout((len(manifest.indices), size), dtype=np.float32)
            start = 0
            for path in _point_files(folder, manifest):
                stop = start + len(_wanted_samples(path, manifest))
                layout[start:stop] = h5py.VirtualSource(
                    path.name, f"reference/{i}", (stop - start, size)
                )
                start = stop
            dataset = file.create_virtual_dataset(f"reference/{i}", layout, fillvalue=np.nan)
            dataset.attrs["tensor"] = held(manifest.entries[i].tensor)


def read_manifest(folder: str | Path) -> Manifest:
    """Read what a cache holds, from the first of its shards.

    Parameters
    ----------
    folder : str or Path
        The cache.

    Returns
    -------
    Manifest

    Raises
    ------
    GeedError
        If there is no cache, or none of its shards is finished.
        If it is of a newer format.
        If the shard is damaged, or two shards do not belong together.
    """
    folder = Path(folder)
    if folder.is_file():
        raise GeedError(f"cache {folder}: is a file; a cache is a folder, commonly NAME.geed")
    if not folder.is_dir():
        raise GeedError(f"cache {folder}: no such folder; onnx-geed cache MODEL ... -o {folder}")
    paths = [*sorted(folder.glob("shard-*.h5")), *folder.glob(REFERENCE)]
    if not paths or paths[0].name == REFERENCE:
        raise GeedError(f"cache {folder}: holds no finished shard; run the command that writes it")
    return shared_manifest(paths)


def begun_manifest(folder: Path) -> Manifest | None:
    """Return what all files say that a run would keep of a folder; ``None`` where it has none.

    Raises
    ------
    GeedError
        If a file is damaged or newer, or two do not belong together.
    """
    paths = [p for name in ("shard-*.h5", REFERENCE, *BESIDE) for p in sorted(folder.glob(name))]
    return shared_manifest(paths) if paths else None


def read_shard(
    folder: Path, manifest: Manifest, first: int, wanted: Sequence[int]
) -> Iterator[list[NDArray[Any]]]:
    """Read a shard orbit by orbit, every checksum verified.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    first : int
        Position of the shard's first orbit.
    wanted : sequence of int
        Numbers of the entries to read.

    Yields
    ------
    list of ndarray, shape (n, ...)
        One array a wanted entry, of the stored dtype; read-only.

    Raises
    ------
    GeedError
        If the shard is missing or damaged, naming shard and layer.
    """
    path = shard_path(folder, first)
    if not path.is_file():
        raise GeedError(
            f"cache {folder}: {path.name} is missing; run the same onnx-geed cache command again "
            "to make it"
        )
    count = len(shard_orbits(manifest, first))
    with reading(path) as file:
        check_samples(file, path, manifest)
        datasets = []
        for i in wanted:
            entry = manifest.entries[i]
            dataset = chunked(
                *(file, f"orbits/{i}", path, entry.tensor),
                rows=count,
                inner=(manifest.order, *entry.shape),
                dtype=entry.dtype,
                tensor=entry.tensor,
            )
            datasets.append(dataset)
        chunks: dict[int, NDArray[Any]] = {}
        for k in range(count):
            row = []
            for i, dataset in zip(wanted, datasets, strict=True):
                tensor = manifest.entries[i].tensor
                if dataset.chunks[0] == 1:
                    row.append(read_chunk(dataset, k, path, tensor)[0])
                else:
                    if i not in chunks:
                        chunks[i] = read_chunk(dataset, 0, path, tensor)
                    row.append(chunks[i][k])
            yield row


def read_pairs(
    folder: Path, manifest: Manifest, first: int, wanted: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """Read a shard's deviations between samples (pairs, n), those that are there.

    ``wanted`` has the number of pairs by the name of their dataset, as :func:`write_shard` takes
    them; earlier versions wrote none.
    """
    path = shard_path(folder, first)
    stored = {}
    with reading(path) as file:
        for name, pairs in wanted.items():
            if name not in file:
                continue
            tensor = manifest.entries[int(name.partition("/")[2])].tensor
            shape = (pairs, manifest.order)
            stored[name] = _read_at_once(file, name, path, tensor, shape, "float64")
    return stored


def read_points(folder: Path, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Read the identity latents of the points of M, by tensor.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.

    Returns
    -------
    dict of str to ndarray of float32, shape (points, k)
        In the order of the samples.

    Raises
    ------
    GeedError
        If some are missing or damaged.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for path in _point_files(folder, manifest):
        if not path.is_file():
            raise GeedError(
                f"cache {folder}: {path.name} is missing; run the same onnx-geed cache command "
                "again to make it"
            )
        with reading(path) as file:
            check_samples(file, path, manifest)
            rows = len(_wanted_samples(path, manifest))
            for i, size in manifest.points.items():
                tensor = manifest.entries[i].tensor
                own = _read_at_once(file, f"reference/{i}", path, tensor, (rows, size), "float32")
                parts.setdefault(tensor, []).append(own)
    return {tensor: np.concatenate(rows) for tensor, rows in parts.items()}


def _read_at_once(
    file: h5py.File, name: str, path: Path, tensor: str, shape: tuple[int, ...], dtype: str
) -> NDArray[Any]:
    """Read a dataset of one chunk."""
    dataset = chunked(
        *(file, name, path, tensor), rows=shape[0], inner=shape[1:], dtype=dtype, tensor=tensor
    )
    if dataset.chunks != shape:
        raise damaged(path, tensor)
    return read_chunk(dataset, 0, path, tensor)


def has_points(folder: Path, manifest: Manifest) -> bool:
    """Say whether the points of M that have no orbit are there."""
    return len(manifest.indices) == manifest.count or (folder / REFERENCE).is_file()


def _point_files(folder: Path, manifest: Manifest) -> list[Path]:
    files = [shard_path(folder, first) for first in shards(manifest)]
    return files + [folder / REFERENCE] * (len(manifest.indices) > manifest.count)


def _wanted_samples(path: Path, manifest: Manifest) -> tuple[int, ...]:
    """Return the samples that a file must hold, by its name."""
    if path.name == REFERENCE:
        return manifest.indices[manifest.count :]
    first = int(path.stem.removeprefix("shard-"))
    return manifest.indices[first : min(first + manifest.shard_orbits, manifest.count)]


def check_samples(file: h5py.File, path: Path, manifest: Manifest) -> None:
    """Refuse a file that holds other samples than its name says.

    Raises
    ------
    GeedError
        If it does.
    """
    stored = read_dataset(file, "samples", path, "/samples", axes=1, dtype="int64")
    if not np.array_equal(stored, _wanted_samples(path, manifest)):
        raise damaged(path, "/samples")
