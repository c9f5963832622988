"""Files of one array: ``.npy`` and idx."""

from __future__ import annotations

import gzip
import math
import struct
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.rows import Rows, reading, rows_of, shape_text
from onnx_geed.errors import GeedError
from onnx_geed.files import Stamp, stamp

__all__ = ["is_idx", "open_idx", "open_npy"]

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


# Of an array in Fortran's order, read at once.
_BLOCK = 16 << 20


def open_npy(path: Path) -> Rows:
    """Open an ``.npy`` file, whose samples are read one by one."""
    opened = stamp(path)
    mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    order = "C" if mapped.flags.c_contiguous else "F"
    return _rows_of_file(path, mapped.dtype, mapped.offset, mapped.shape, opened, order)


def _rows_of_file(
    path: Path,
    dtype: np.dtype[Any],
    start: int,
    shape: tuple[int, ...],
    opened: Stamp,
    order: str = "C",
) -> Rows:
    """Return the rows of an array that lies in a file as it is.

    They are read and not mapped: where a mapped file is cut short, the process is killed.
    """
    file = _SharedFile(path)
    inner = math.prod(shape[1:])

    def read(index: Any) -> NDArray[Any]:
        with reading(f"--data {path}", "the file has changed since it was opened"):
            if not shape or index is ...:
                values = file.values(dtype, start, math.prod(shape))
                return values.reshape(shape) if order == "C" else values.reshape(shape, order="F")
            if order == "C":
                at = start + index * inner * dtype.itemsize
                return file.values(dtype, at, inner).reshape(shape[1:])
            # One sample's values lie apart by the number of samples.
            out = np.empty(inner, dtype)
            step = max(1, _BLOCK // (shape[0] * dtype.itemsize))
            for k in range(0, inner, step):
                count = min(step, inner - k)
                at = start + k * shape[0] * dtype.itemsize
                block = file.values(dtype, at, count * shape[0])
                out[k : k + count] = block.reshape(count, shape[0])[:, index]
            return np.ascontiguousarray(out.reshape(shape[1:], order="F"))

    return Rows(shape, dtype, read, files=lambda: [opened])


class _SharedFile:
    """A file that is opened once, and read from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def values(self, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
        """Return values from a place in the file on."""
        values = np.empty(count, dtype)
        left = values.view(np.uint8).data if values.nbytes else memoryview(b"")
        with self._lock:
            self._file.seek(start)
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise EOFError("it ends too early")
                left = left[got:]
        return values


def is_idx(head: bytes) -> bool:
    """Whether a file that begins so is an idx file."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and head[3] > 0


def open_idx(path: Path, packed: bool, where: str) -> Rows:
    """Open an idx file: two zeros, a type, a rank, big-endian sizes, values."""
    opened = stamp(path)
    content = gzip.decompress(path.read_bytes()) if packed else b""
    if packed:
        head = content[: 4 + 4 * 255]
    else:
        with path.open("rb") as file:
            head = file.read(4 + 4 * 255)
    if not is_idx(head):
        raise GeedError(f"{where}: a gzip file, but no idx file in it; unpack it first")
    dtype, start = np.dtype(_IDX_TYPES[head[2]]), 4 + 4 * head[3]
    shape = struct.unpack_from(f">{head[3]}I", head, 4)
    size = len(content) if packed else path.stat().st_size
    needed = start + math.prod(shape) * dtype.itemsize
    if size != needed:
        raise GeedError(
            f"{where}: an idx file of {shape_text(shape)} has {needed} bytes, this one {size}: "
            f"{'cut off' if size < needed else 'damaged'}; fetch it anew"
        )
    if packed:
        return rows_of(np.frombuffer(content, dtype, offset=start).reshape(shape))
    return _rows_of_file(path, dtype, start, shape, opened)
