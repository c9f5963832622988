"""The seal of a cache's file: damage is found before HDF5 is let at it.

HDF5 reads damaged structures of its own without noticing, or for ever. The trailer that is written
here behind a file's HDF5 content holds a hash of everything but the large chunks of activations,
which carry checksums of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

__all__ = ["is_sealed", "large_chunks", "seal", "stated_version"]


_SEAL = b"GEEDSEAL"


# Chunks from this size on are not part of the seal: their own checksums are verified on reading.
SEALED_BYTES = 1 << 16


def large_chunks(file: h5py.File) -> list[tuple[int, int]]:
    """Return offset and size of the chunks that are left to their own checksums."""
    found = []
    for dataset in file.get("orbits", {}).values():
        if dataset.is_virtual:
            continue
        for k in range(dataset.id.get_num_chunks()):
            chunk = dataset.id.get_chunk_info(k)
            if chunk.size >= SEALED_BYTES:
                found.append((int(chunk.byte_offset), int(chunk.size)))
    return sorted(found)


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
    with path.open("rb") as stream:
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
