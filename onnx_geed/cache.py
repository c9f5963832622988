"""Activation caches: a folder of HDF5 shards, each some whole orbits.

The format is documented in ``docs/cache-format.md``. A shard is written under a temporary name,
flushed to disk and renamed, so that one which bears its name is complete; shards are the unit of
resuming. ``cache.h5`` serves other tools and is never read here: through its virtual datasets a
missing shard reads as fill values.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "VERSION",
    "Entry",
    "Manifest",
    "clean",
    "has_points",
    "is_cache",
    "lock",
    "missing_shards",
    "read_manifest",
    "read_points",
    "read_shard",
    "shard_path",
    "shards",
    "write_index",
    "write_points",
    "write_shard",
]

#: Format version that is written, and the newest that is read.
VERSION = 1

_FORMAT = "onnx-geed/cache"
_REFERENCE = "reference.h5"
_SEAL = b"GEEDSEAL"
# Chunks from this size on are not part of the seal: their own checksums are verified on reading.
_SEALED_BYTES = 1 << 16
# Smaller orbits than this share a chunk, up to as much.
_CHUNK_BYTES = 4 << 20
# What h5py raises on files that are damaged in one place or another.
_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError)


#: Orbits of a job: one array an entry, and identity-element latents by the entry's number.
Job = tuple[Sequence[NDArray[Any]], dict[int, NDArray[np.float32]]]


@dataclass(frozen=True)
class Entry:
    """One layer of a cache.

    Parameters
    ----------
    tensor : str
        Its ONNX name.
    shape : tuple of int
        Shape of one element's values.
    dtype : str
        ``float32``, ``float16``, or ``float64`` for sums.
    content : {"activations", "sums"}
        Activations as the model gave them, or the three sums of eq. (5) a channel.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    content: str


@dataclass(frozen=True)
class Manifest:
    """What a cache holds and what it was made from.

    Parameters
    ----------
    fingerprints : dict of str to str
        Whatever must agree for a run to be taken up again, by name.
    entries : tuple of Entry
        The layers, in the order of their datasets.
    order : int
        |G|.
    indices : tuple of int
        Samples of D, then the further points for M.
    count : int
        How many of these are orbits.
    shard_orbits : int
        Orbits in a shard.
    points : dict of int to int
        Length of the identity latents that are kept, by the entry's number.
    description : dict
        What measuring needs besides: plan, names, labels, provenance. JSON.
    """

    fingerprints: dict[str, str]
    entries: tuple[Entry, ...]
    order: int
    indices: tuple[int, ...]
    count: int
    shard_orbits: int
    points: dict[int, int]
    description: dict[str, Any] = field(repr=False)

    def to_json(self) -> str:
        """The manifest as every file of the cache carries it."""
        content = {
            "fingerprints": self.fingerprints,
            "entries": [[e.tensor, list(e.shape), e.dtype, e.content] for e in self.entries],
            "order": self.order,
            "indices": list(self.indices),
            "count": self.count,
            "shard_orbits": self.shard_orbits,
            "points": [[i, size] for i, size in self.points.items()],
            "description": self.description,
        }
        return json.dumps(content, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text)
        entries = tuple(Entry(t, tuple(s), d, c) for t, s, d, c in content["entries"])
        return Manifest(
            content["fingerprints"],
            entries,
            content["order"],
            tuple(content["indices"]),
            content["count"],
            content["shard_orbits"],
            dict(content["points"]),
            content["description"],
        )

    @property
    def bytes(self) -> int:
        """Size of all orbits, without HDF5's own structures."""
        return sum(self.orbit_bytes(entry) for entry in self.entries) * self.count

    def orbit_bytes(self, entry: Entry) -> int:
        """Size of one orbit of a layer."""
        size = int(np.prod(entry.shape, dtype=np.int64)) * np.dtype(entry.dtype).itemsize
        return self.order * size


def is_cache(path: str | Path) -> bool:
    """Whether a path is meant as an activation cache: a folder of shards, or named ``.geed``."""
    path = Path(path)
    return path.suffix == ".geed" or (path.is_dir() and any(path.glob("shard-*.h5")))


def shards(manifest: Manifest) -> range:
    """Positions of the first orbits of all shards."""
    return range(0, manifest.count, manifest.shard_orbits)


def shard_path(folder: Path, first: int) -> Path:
    """Path of the shard whose first orbit is at a position."""
    return folder / f"shard-{first:08d}.h5"


def missing_shards(folder: Path, manifest: Manifest) -> list[int]:
    """Positions of the shards that are not there."""
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


def write_shard(folder: Path, manifest: Manifest, first: int, jobs: Iterable[Job]) -> None:
    """Write one shard.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        What it holds.
    first : int
        Position of the shard's first orbit.
    jobs : iterable of (arrays, points)
        The orbits in order: one array (orbits, n, ...) an entry, and identity-element latents
        (orbits, k) by the entry's number.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    count = min(manifest.shard_orbits, manifest.count - first)
    with _new_file(folder, shard_path(folder, first), manifest) as file:
        _samples(file, manifest.indices[first : first + count])
        datasets = []
        for i, entry in enumerate(manifest.entries):
            shape = (count, manifest.order, *entry.shape)
            together = manifest.orbit_bytes(entry) * count <= _CHUNK_BYTES
            chunk = shape if together else (1, *shape[1:])
            datasets.append(_dataset(file, f"orbits/{i}", shape, chunk, entry))
        waiting: list[list[NDArray[Any]]] = [[] for _ in datasets]
        latents: dict[int, list[NDArray[np.float32]]] = {}
        done = 0
        for arrays, points in jobs:
            for i, rows in points.items():
                latents.setdefault(i, []).append(rows)
            for dataset, array, buffer in zip(datasets, arrays, waiting, strict=True):
                if dataset.chunks[0] == 1:
                    for k, orbit in enumerate(array):
                        _write_chunk(dataset, done + k, orbit)
                else:
                    buffer.append(array.astype(dataset.dtype))
            done += len(arrays[0])
        for dataset, buffer in zip(datasets, waiting, strict=True):
            if buffer:
                _write_chunk(dataset, 0, np.concatenate(buffer))
        _write_latents(file, manifest, {i: np.concatenate(rows) for i, rows in latents.items()})


def write_points(folder: Path, manifest: Manifest, points: dict[int, NDArray[Any]]) -> None:
    """Write the identity latents of the points of M that have no orbit.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        What it holds.
    points : dict of int to ndarray of float32, shape (points, k)
        By the entry's number; in the order of the samples.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    with _new_file(folder, folder / _REFERENCE, manifest) as file:
        _samples(file, manifest.indices[manifest.count :])
        _write_latents(file, manifest, points)


def _write_latents(
    file: h5py.File, manifest: Manifest, points: dict[int, NDArray[np.float32]]
) -> None:
    for i, rows in points.items():
        entry = Entry(manifest.entries[i].tensor, rows.shape[1:], "float32", "points")
        _write_chunk(_dataset(file, f"reference/{i}", rows.shape, rows.shape, entry), 0, rows)


def write_index(folder: Path, manifest: Manifest) -> None:
    """Write ``cache.h5``: one virtual dataset a layer over all shards.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    import h5py

    with _new_file(folder, folder / "cache.h5", manifest) as file:
        _samples(file, manifest.indices[: manifest.count])
        for i, entry in enumerate(manifest.entries):
            shape = (manifest.count, manifest.order, *entry.shape)
            layout = h5py.VirtualLayout(shape, dtype=entry.dtype)
            for first in shards(manifest):
                stop = min(first + manifest.shard_orbits, manifest.count)
                layout[first:stop] = h5py.VirtualSource(
                    shard_path(folder, first).name, f"orbits/{i}", (stop - first, *shape[1:])
                )
            made = file.create_virtual_dataset(f"orbits/{i}", layout, fillvalue=np.nan)
            made.attrs["tensor"] = entry.tensor
            made.attrs["content"] = entry.content
        for i, size in manifest.points.items():
            layout = h5py.VirtualLayout((len(manifest.indices), size), dtype=np.float32)
            start = 0
            for path in _point_files(folder, manifest):
                stop = start + len(_wanted_samples(path, manifest))
                layout[start:stop] = h5py.VirtualSource(
                    path.name, f"reference/{i}", (stop - start, size)
                )
                start = stop
            made = file.create_virtual_dataset(f"reference/{i}", layout, fillvalue=np.nan)
            made.attrs["tensor"] = manifest.entries[i].tensor


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
    if not folder.is_dir():
        raise GeedError(f"cache {folder}: no such folder; onnx-geed cache MODEL ... -o {folder}")
    found = sorted(folder.glob("shard-*.h5"))
    if not found:
        raise GeedError(
            f"cache {folder}: holds no finished shard; run the same onnx-geed cache command again"
        )
    manifest, text = None, ""
    for path in [*found, *folder.glob(_REFERENCE)]:
        with _reading(path) as file:
            here = _check_file(file, path)
        if manifest is None:
            manifest, text = Manifest.from_json(here), here
        elif here != text:
            theirs = Manifest.from_json(here).fingerprints
            differ = [k for k, v in manifest.fingerprints.items() if theirs.get(k) != v]
            raise GeedError(
                f"cache {folder}: {path.name} does not belong to {found[0].name}: they differ in "
                f"{', '.join(differ) or 'their description'}; remove the one that is wrong"
            )
    assert manifest is not None
    return manifest


def read_shard(
    folder: Path, manifest: Manifest, first: int, wanted: Sequence[int]
) -> Iterator[list[NDArray[Any]]]:
    """Read a shard orbit by orbit, every checksum verified.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        What it holds.
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
    count = min(manifest.shard_orbits, manifest.count - first)
    with _reading(path) as file:
        _read_samples(file, path, manifest)
        datasets = []
        for i in wanted:
            entry = manifest.entries[i]
            dataset = file[f"orbits/{i}"]
            right = (
                dataset.attrs["tensor"] == entry.tensor
                and dataset.shape == (count, manifest.order, *entry.shape)
                and dataset.dtype == np.dtype(entry.dtype)
            )
            if not right:
                raise _damaged(path, entry.tensor)
            datasets.append(dataset)
        whole: dict[int, NDArray[Any]] = {}
        for k in range(count):
            row = []
            for i, dataset in zip(wanted, datasets, strict=True):
                tensor = manifest.entries[i].tensor
                if dataset.chunks[0] == 1:
                    row.append(_read_chunk(dataset, k, path, tensor)[0])
                else:
                    if i not in whole:
                        whole[i] = _read_chunk(dataset, 0, path, tensor)
                    row.append(whole[i][k])
            yield row


def read_points(folder: Path, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Read the identity latents of the points of M, by tensor.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        What it holds.

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
        with _reading(path) as file:
            _read_samples(file, path, manifest)
            rows = len(_wanted_samples(path, manifest))
            for i, size in manifest.points.items():
                tensor = manifest.entries[i].tensor
                dataset = file[f"reference/{i}"]
                shape = (rows, size)
                right = dataset.shape == dataset.chunks == shape and dataset.dtype == np.float32
                if not right or dataset.attrs["tensor"] != tensor:
                    raise _damaged(path, tensor)
                parts.setdefault(tensor, []).append(_read_chunk(dataset, 0, path, tensor))
    return {tensor: np.concatenate(rows) for tensor, rows in parts.items()}


def has_points(folder: Path, manifest: Manifest) -> bool:
    """Whether the points of M that have no orbit are there."""
    return len(manifest.indices) == manifest.count or (folder / _REFERENCE).is_file()


def _point_files(folder: Path, manifest: Manifest) -> list[Path]:
    files = [shard_path(folder, first) for first in shards(manifest)]
    return files + [folder / _REFERENCE] * (len(manifest.indices) > manifest.count)


def _wanted_samples(path: Path, manifest: Manifest) -> tuple[int, ...]:
    """Samples that a file must hold, by its name."""
    if path.name == _REFERENCE:
        return manifest.indices[manifest.count :]
    first = int(path.stem.removeprefix("shard-"))
    return manifest.indices[first : min(first + manifest.shard_orbits, manifest.count)]


def _read_samples(file: h5py.File, path: Path, manifest: Manifest) -> None:
    stored = _read_dataset(file, "samples", path, "/samples")
    if not np.array_equal(stored, _wanted_samples(path, manifest)):
        raise _damaged(path, "/samples")


@contextlib.contextmanager
def _new_file(folder: Path, path: Path, manifest: Manifest) -> Iterator[h5py.File]:
    """A new file, which gets its name only when all of it is on the disk."""
    import h5py

    # Built in memory and written by Python: HDF5 does not recover from a full disk.
    content = io.BytesIO()
    with h5py.File(content, "w", libver=("v108", "v110")) as file:
        text = manifest.to_json()
        raw = np.frombuffer(text.encode(), dtype=np.uint8)
        stored = file.create_dataset("manifest", data=raw, chunks=raw.shape, fletcher32=True)
        stored.attrs["tensor"] = ""
        attributes = {"format": _FORMAT, "version": VERSION}
        attributes |= {f"fingerprint.{k}": v for k, v in manifest.fingerprints.items()}
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["sha256"] = _attribute_hash(attributes, text)
        yield file
        file.flush()
        chunks = _large_chunks(file)
    content.seek(0, io.SEEK_END)
    content.write(_seal(content.getbuffer().toreadonly(), chunks))
    unfinished = folder / f".unfinished-{path.name}"
    try:
        with unfinished.open("wb") as written:
            written.write(content.getbuffer())
            written.flush()
            os.fsync(written.fileno())
        unfinished.replace(path)
        _sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"writing failed ({error.strerror or error})"
        raise GeedError(
            f"cache {folder}: {what}; finished shards are kept: make room and run the same command "
            "again"
        ) from None


def _large_chunks(file: h5py.File) -> list[tuple[int, int]]:
    """Offset and size of the chunks that are left to their own checksums."""
    found = []
    for dataset in file.get("orbits", {}).values():
        if dataset.is_virtual:
            continue
        for k in range(dataset.id.get_num_chunks()):
            chunk = dataset.id.get_chunk_info(k)
            if chunk.size >= _SEALED_BYTES:
                found.append((int(chunk.byte_offset), int(chunk.size)))
    return sorted(found)


def _seal(content: memoryview, chunks: Sequence[tuple[int, int]]) -> bytes:
    """Trailer with the hash of everything but the large chunks.

    HDF5 reads damaged structures of its own without noticing, or for ever; so they are looked at
    before HDF5 is let at them.
    """
    listed = json.dumps(chunks).encode()
    digest = hashlib.sha256(listed)
    start = 0
    for offset, size in [*chunks, (len(content), 0)]:
        digest.update(content[start:offset])
        start = offset + size
    return listed + digest.digest() + struct.pack("<Q", len(listed)) + _SEAL


def _check_seal(path: Path) -> None:
    with path.open("rb") as stream:
        end = stream.seek(0, io.SEEK_END)
        tail = 40 + len(_SEAL)
        if end > tail:
            stream.seek(end - tail)
            digest, length = stream.read(32), struct.unpack("<Q", stream.read(8))[0]
            if stream.read() == _SEAL and length <= min(end - tail, 1 << 24):
                stream.seek(end - tail - length)
                listed = stream.read(length)
                if _hash_around(stream, listed, end - tail - length) == digest:
                    return
    if (version := _stated_version(path)) > VERSION:
        raise _newer(path, version)
    raise _damaged(path, "its structure")


def _hash_around(stream: io.BufferedReader, listed: bytes, end: int) -> bytes:
    digest = hashlib.sha256(listed)
    try:
        chunks = [(int(offset), int(size)) for offset, size in json.loads(listed)]
    except (ValueError, TypeError):
        return b""
    start = 0
    for offset, size in [*chunks, (end, 0)]:
        if offset < start:
            return b""
        stream.seek(start)
        digest.update(stream.read(offset - start))
        start = offset + size
    return digest.digest()


def _stated_version(path: Path) -> int:
    """Format version of a file whose seal is not ours; 0 where it cannot be read.

    Read by another process, since HDF5 may not come back from a damaged file.
    """
    code = "import h5py, sys; print(int(h5py.File(sys.argv[1], 'r').attrs['version']))"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, timeout=10, check=True
        )
        return int(asked.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return 0


def _newer(path: Path, version: int) -> GeedError:
    return GeedError(
        f"{path}: of format version {version}, this onnx-geed reads up to {VERSION}; upgrade "
        "onnx-geed"
    )


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there, and renames are durable by themselves
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _attribute_hash(attributes: dict[str, Any], manifest: str) -> str:
    content = json.dumps({k: str(v) for k, v in attributes.items()}, sort_keys=True)
    return hashlib.sha256(f"{content}\n{manifest}".encode()).hexdigest()


def _check_file(file: h5py.File, path: Path) -> str:
    """Return a file's manifest, once its format and its own checksums are right."""
    attributes = dict(file.attrs)
    if attributes.get("format") != _FORMAT:
        raise GeedError(f"{path}: not a file of an activation cache")
    version = int(attributes["version"])
    if version > VERSION:
        raise _newer(path, version)
    expected = attributes.pop("sha256", "")
    text = _read_dataset(file, "manifest", path, "/manifest").tobytes().decode()
    if _attribute_hash(attributes, text) != expected:
        raise _damaged(path, "attributes")
    return text


def _samples(file: h5py.File, indices: Sequence[int]) -> None:
    rows = np.array(indices, dtype=np.int64)
    if len(rows):
        file.create_dataset("samples", data=rows, chunks=rows.shape, fletcher32=True)
    else:
        file.create_dataset("samples", data=rows)


def _dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], entry: Entry
) -> h5py.Dataset:
    if np.prod(chunk, dtype=np.int64) * np.dtype(entry.dtype).itemsize >= 1 << 32:
        raise GeedError(
            f"an orbit of {entry.tensor!r} exceeds 4 GiB, the most that HDF5 takes in one chunk: "
            "use --cache-mode stats, or leave that layer out"
        )
    dataset = file.create_dataset(name, shape, entry.dtype, chunks=chunk, fletcher32=True)
    dataset.attrs["tensor"] = entry.tensor
    dataset.attrs["content"] = entry.content
    return dataset


def _write_chunk(dataset: h5py.Dataset, row: int, array: NDArray[Any]) -> None:
    """Write one chunk with a checksum of our own: HDF5 would compute it under its global lock."""
    from onnx_geed.kernels import fletcher32

    values = np.ascontiguousarray(array, dtype=dataset.dtype)
    check = int(fletcher32(values.reshape(-1).view(np.uint16)))
    raw = np.empty(values.nbytes + 4, dtype=np.uint8)
    raw[:-4] = values.reshape(-1).view(np.uint8)
    raw[-4:] = np.frombuffer(check.to_bytes(4, "little"), dtype=np.uint8)
    dataset.id.write_direct_chunk((row,) + (0,) * (len(dataset.shape) - 1), raw.data)


def _read_chunk(dataset: h5py.Dataset, row: int, path: Path, layer: str) -> NDArray[Any]:
    from onnx_geed.kernels import fletcher32

    try:
        mask, raw = dataset.id.read_direct_chunk((row,) + (0,) * (len(dataset.shape) - 1))
    except _DAMAGE:
        raise _damaged(path, layer) from None
    size = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    if mask != 0 or len(raw) != size + 4:
        raise _damaged(path, layer)
    words = np.frombuffer(raw, dtype=np.uint16, count=size // 2)
    if int(fletcher32(words)) != int.from_bytes(raw[-4:], "little"):
        raise _damaged(path, layer)
    return np.frombuffer(raw, dtype=dataset.dtype, count=size // dataset.dtype.itemsize).reshape(
        dataset.chunks
    )


def _read_dataset(file: h5py.File, name: str, path: Path, layer: str) -> NDArray[Any]:
    """Read a small dataset through HDF5, which verifies its checksum."""
    try:
        values: NDArray[Any] = file[name][()]
    except _DAMAGE:
        raise _damaged(path, layer) from None
    return values


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    import h5py

    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            yield file
    except GeedError:
        raise
    except _DAMAGE:
        raise _damaged(path, "its structure") from None


def _damaged(path: Path, layer: str) -> GeedError:
    return GeedError(
        f"cache {path.parent}: {path.name} is damaged in {layer!r}; remove that file and run the "
        "same onnx-geed cache command again to make it anew"
    )
