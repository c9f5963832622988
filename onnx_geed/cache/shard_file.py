"""Files of a cache: written whole or not at all, and read with every checksum verified."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import secrets
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.files import replacing
from onnx_geed.ordinary import check_ordinary, open_ordinary
from onnx_geed.whole import whole

if TYPE_CHECKING:
    import h5py

__all__ = [
    "VERSION",
    "chunked",
    "damaged",
    "held",
    "is_sealed",
    "large_chunks",
    "make_dataset",
    "manifest_text",
    "new_file",
    "read_chunk",
    "read_dataset",
    "reading",
    "seal",
    "stated_version",
    "write_chunk",
    "write_samples",
]

#: Format version that is written, and the newest that is read.
VERSION = 1


_FORMAT = "onnx-geed/cache"


# What h5py raises on files that are damaged in one place or another.
_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError)


_SEAL = b"GEEDSEAL"


# Chunks from this size on are not part of the seal: their own checksums are verified on reading.
SEALED_BYTES = 1 << 16


@contextlib.contextmanager
def new_file(
    folder: Path, path: Path, text: str, fingerprints: Mapping[str, str]
) -> Iterator[tuple[h5py.File, Image]]:
    """Make a file that gets its name only when all of it is on the disk.

    Yields
    ------
    file : h5py.File
        Open for writing.
    image : Image
        Where its large chunks are announced.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    with whole():
        import h5py

    # Built in memory and written by Python: HDF5 does not recover from a full disk.
    content = Image()
    with h5py.File(content, "w", libver=("v108", "v110")) as file:
        raw = np.frombuffer(text.encode(), dtype=np.uint8)
        stored = file.create_dataset("manifest", data=raw, chunks=raw.shape, fletcher32=True)
        stored.attrs["tensor"] = ""
        attributes = {"format": _FORMAT, "version": VERSION}
        attributes |= {f"fingerprint.{k}": held(v) for k, v in fingerprints.items()}
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["sha256"] = _attribute_hash(attributes, text)
        yield file, content
        file.flush()
        chunks = large_chunks(file)
    content.close_holes()
    trailer = seal(content.getbuffer().toreadonly(), chunks)
    # Of two who write the same, one being thought dead, neither writes into the other's.
    unfinished = folder / f".unfinished-{secrets.token_hex(4)}-{path.name}"
    try:
        with replacing(path, unfinished) as written:
            content.write_to(written)
            written.write(trailer)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"writing failed ({error.strerror or error})"
        raise GeedError(
            f"cache {folder}: {reason}; finished shards are kept: make room and run the same "
            "command again"
        ) from None


def _newer(path: Path, version: int) -> GeedError:
    return GeedError(
        f"{path}: has format version {version}, but this onnx-geed reads up to {VERSION}; upgrade "
        "onnx-geed"
    )


def held(text: str) -> str:
    """Return a text as HDF5 can hold it, which takes neither NUL nor surrogates: with escapes."""
    odd = "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)
    return json.dumps(text)[1:-1] if odd else text


def _attribute_hash(attributes: dict[str, Any], manifest: str) -> str:
    content = json.dumps({k: str(v) for k, v in attributes.items()}, sort_keys=True)
    return hashlib.sha256(f"{content}\n{manifest}".encode()).hexdigest()


def manifest_text(file: h5py.File, path: Path) -> str:
    """Return a file's manifest, once its format and its own checksums are right."""
    attributes = dict(file.attrs)
    if attributes.get("format") != _FORMAT:
        raise GeedError(f"{path}: not a file of an activation cache")
    version = int(attributes["version"])
    if version > VERSION:
        raise _newer(path, version)
    expected = attributes.pop("sha256", "")
    try:
        stored = read_dataset(file, "manifest", path, "/manifest", axes=1, dtype="uint8")
        text = stored.tobytes().decode()
    except UnicodeDecodeError:
        raise damaged(path, "/manifest") from None
    if _attribute_hash(attributes, text) != expected:
        raise damaged(path, "attributes")
    return text


def write_samples(file: h5py.File, indices: Sequence[int]) -> None:
    """Write ``/samples``: the index in the data of each orbit's sample."""
    rows = np.array(indices, dtype=np.int64)
    if len(rows):
        file.create_dataset("samples", data=rows, chunks=rows.shape, fletcher32=True)
    else:
        file.create_dataset("samples", data=rows)


def make_dataset(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    *,
    tensor: str,
    content: str,
) -> h5py.Dataset:
    """Make a checksummed dataset.

    Raises
    ------
    GeedError
        If a chunk would exceed what HDF5 takes.
    """
    if np.prod(chunk, dtype=np.int64) * np.dtype(dtype).itemsize >= 1 << 32:
        raise GeedError(
            f"an orbit of {tensor!r} exceeds 4 GiB, HDF5's limit for one chunk: use --cache-mode "
            "stats, or leave that layer out"
        )
    dataset = file.create_dataset(name, shape, dtype, chunks=chunk, fletcher32=True)
    dataset.attrs["tensor"] = held(tensor)
    dataset.attrs["content"] = content
    return dataset


class Image(io.BytesIO):
    """A file in memory that leaves large chunks where they are until it is written to the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._large: list[tuple[int, list[memoryview]]] = []
        self._coming: tuple[int, list[memoryview]] | None = None

    def expect(self, pieces: list[memoryview]) -> None:
        """Say that the next write of just their size stands for these pieces."""
        self._coming = (sum(p.nbytes for p in pieces), pieces)

    def write(self, data: Any) -> int:
        """Take in what HDF5 writes; of an expected chunk only its place."""
        size = memoryview(data).nbytes
        if self._coming is None or size != self._coming[0]:
            return super().write(data)
        self._large.append((self.tell(), self._coming[1]))
        self._coming = None
        self.seek(size, io.SEEK_CUR)
        return size

    def close_holes(self) -> None:
        """Make the image as long as the file, if a chunk is its last part."""
        end = max((at + sum(p.nbytes for p in pieces) for at, pieces in self._large), default=0)
        if self.seek(0, io.SEEK_END) < end:
            self.seek(end - 1)
            super().write(b"\0")

    def write_to(self, file: BinaryIO) -> None:
        """Write everything in its place."""
        rest, start = self.getbuffer(), 0
        for offset, pieces in sorted(self._large, key=lambda item: item[0]):
            file.write(rest[start:offset])
            for piece in pieces:
                file.write(piece)
            start = offset + sum(p.nbytes for p in pieces)
        file.write(rest[start:])


def write_chunk(
    dataset: h5py.Dataset, row: int, array: NDArray[Any], image: Image | None = None
) -> None:
    """Write one chunk with a checksum of our own: HDF5 would compute it under its global lock."""
    from onnx_geed.cache.checksum import fletcher32

    values = np.ascontiguousarray(array, dtype=dataset.dtype)
    check = int(fletcher32(values.reshape(-1).view(np.uint16)))
    raw = np.empty(values.nbytes + 4, dtype=np.uint8)
    if image is not None and raw.nbytes >= SEALED_BYTES:
        # HDF5 is shown memory of the right size, which nobody reads.
        trailer = memoryview(check.to_bytes(4, "little"))
        image.expect([values.reshape(-1).view(np.uint8).data, trailer])
    else:
        raw[:-4] = values.reshape(-1).view(np.uint8)
        raw[-4:] = np.frombuffer(check.to_bytes(4, "little"), dtype=np.uint8)
    with _lock():
        dataset.id.write_direct_chunk((row,) + (0,) * (len(dataset.shape) - 1), raw.data)


@functools.cache
def _lock() -> Any:
    """Return the lock under which h5py calls HDF5; up to 3.15 it moves direct chunks without."""
    with whole():
        from h5py._objects import phil

    return phil


def read_chunk(dataset: h5py.Dataset, row: int, path: Path, layer: str) -> NDArray[Any]:
    """Read one chunk and verify its checksum.

    Raises
    ------
    GeedError
        If it is damaged, naming file and layer.
    """
    from onnx_geed.cache.checksum import fletcher32

    try:
        with _lock():
            mask, raw = dataset.id.read_direct_chunk((row,) + (0,) * (len(dataset.shape) - 1))
    except _DAMAGE:
        raise damaged(path, layer) from None
    size = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    if mask != 0 or len(raw) != size + 4:
        raise damaged(path, layer)
    words = np.frombuffer(raw, dtype=np.uint16, count=size // 2)
    if int(fletcher32(words)) != int.from_bytes(raw[-4:], "little"):
        raise damaged(path, layer)
    return np.frombuffer(raw, dtype=dataset.dtype, count=size // dataset.dtype.itemsize).reshape(
        dataset.chunks
    )


def chunked(
    file: h5py.File,
    name: str,
    path: Path,
    layer: str,
    *,
    rows: int,
    inner: tuple[int, ...] | None,
    dtype: str,
    tensor: str,
) -> h5py.Dataset:
    """Return a dataset as :func:`make_dataset` made it: of one chunk, or of one a row.

    Parameters
    ----------
    file : h5py.File
        Open.
    name : str
        Its name.
    path : Path
        The file, for messages.
    layer : str
        What the dataset holds, for messages.
    rows : int
        Its length.
    inner : tuple of int, optional
        Its other axes; any by default.
    dtype : str
        Its type.
    tensor : str
        The tensor that it is of.

    Raises
    ------
    GeedError
        If it is not there, or another.
    """
    dataset = _own(file, name, path, layer, dtype)
    inner = dataset.shape[1:] if inner is None else inner
    shape = (rows, *inner)
    right = dataset.shape == shape and dataset.chunks in (shape, (1, *inner))
    if not right or dataset.attrs.get("tensor") != held(tensor):
        raise damaged(path, layer)
    return dataset


def read_dataset(
    file: h5py.File, name: str, path: Path, layer: str, *, axes: int, dtype: str
) -> NDArray[Any]:
    """Read a small dataset of some axes through HDF5, which verifies its checksum."""
    try:
        dataset = _own(file, name, path, layer, dtype)
        # What nobody has written is no zero, and what is packed may unpack to anything.
        if len(dataset.shape) != axes or dataset.id.get_storage_size() < dataset.nbytes:
            raise damaged(path, layer)
        values: NDArray[Any] = dataset[()]
    except _DAMAGE:
        raise damaged(path, layer) from None
    return values


def _own(file: h5py.File, name: str, path: Path, layer: str, dtype: str) -> h5py.Dataset:
    """Return a dataset whose values lie in this very file."""
    with whole():
        import h5py

    found = file.get(name)
    if (
        not isinstance(found, h5py.Dataset)
        or found.file != file
        or found.is_virtual
        or found.external
        or not found.shape
        or found.dtype != np.dtype(dtype)
    ):
        raise damaged(path, layer)
    return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading, once its seal is found whole.

    Raises
    ------
    GeedError
        If it is damaged, or of a newer format.
    """
    with whole():
        import h5py

    check_ordinary(path)
    try:
        if not is_sealed(path):
            if (version := stated_version(path)) > VERSION:
                raise _newer(path, version)
            raise damaged(path, "its structure")
        with h5py.File(path, "r") as file:
            yield file
    except GeedError:
        raise
    except _DAMAGE:
        raise damaged(path, "its structure") from None


def damaged(path: Path, layer: str) -> GeedError:
    """Return the error for a damaged file."""
    return GeedError(
        f"cache {path.parent}: {path.name} is damaged in {layer!r}; remove that file and run the "
        "same onnx-geed cache command again to make it again"
    )


def large_chunks(file: h5py.File) -> list[tuple[int, int]]:
    """Return offset and size of the chunks that are left to their own checksums."""
    chunks = []
    for dataset in file.get("orbits", {}).values():
        if dataset.is_virtual:
            continue
        for k in range(dataset.id.get_num_chunks()):
            chunk = dataset.id.get_chunk_info(k)
            if chunk.size >= SEALED_BYTES:
                chunks.append((int(chunk.byte_offset), int(chunk.size)))
    return sorted(chunks)


def seal(content: memoryview, chunks: Sequence[tuple[int, int]]) -> bytes:
    """Return the trailer for a file's HDF5 content."""
    listed = json.dumps(chunks).encode()
    digest = hashlib.sha256(listed)
    start = 0
    for offset, size in [*chunks, (len(content), 0)]:
        digest.update(content[start:offset])
        start = offset + size
    return listed + digest.digest() + struct.pack("<Q", len(listed)) + _SEAL


def is_sealed(path: Path) -> bool:
    """Return whether a file bears a seal and its structure is as it was sealed."""
    with open_ordinary(path) as stream:
        end = stream.seek(0, io.SEEK_END)
        tail = 40 + len(_SEAL)
        if end <= tail:
            return False
        stream.seek(end - tail)
        digest, length = stream.read(32), struct.unpack("<Q", stream.read(8))[0]
        if stream.read() != _SEAL or length > min(end - tail, 1 << 24):
            return False
        stream.seek(end - tail - length)
        listed = stream.read(length)
        return _hash_around(stream, listed, end - tail - length) == digest


def _hash_around(stream: BinaryIO, listed: bytes, end: int) -> bytes:
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


def stated_version(path: Path) -> int:
    """Return the format version of a file whose seal is not ours; 0 where it cannot be read.

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
