"""Files of one array: ``.npy`` and idx."""

from __future__ import annotations

import gzip
import io
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
from onnx_geed.held import ArrayHead, array_bytes, array_head, check_held
from onnx_geed.ordinary import open_ordinary

__all__ = ["PACKED", "is_idx", "open_idx", "open_npy", "rows_in_file"]

#: What to do about an array that is packed, and too large to be held.
PACKED = (
    "write it uncompressed as an .npy or HDF5 file, which is read in slices, or raise --memory "
    "(half of it is for files)"
)

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


# Of an array in Fortran's order, read at once.
_BLOCK = 16 << 20

# Of an array of so few bytes, whose samples have so few, all are read at once: to ask the system
# for each would give the interpreter to another thread, and wait for it.
_HELD, _ROW = 32 << 20, 64 << 10


def open_npy(path: Path) -> Rows:
    """Open an ``.npy`` file, whose samples are read one by one."""
    opened = stamp(path)
    with open_ordinary(path) as file:
        head = array_head(file)
    if head.start + head.size > opened.size:
        raise ValueError(f"it has {opened.size} of {head.start + head.size} bytes: cut off")
    return rows_in_file(path, head, opened)


def rows_in_file(path: Path, head: ArrayHead, opened: Stamp) -> Rows:
    """Return the rows of an array that lies in a file as it is.

    They are read and not mapped: where a mapped file is cut short, the process is killed.
    """
    shape, dtype, start = head.shape, head.dtype, head.start
    # In one order as in the other, an array with one long axis lies the same.
    order = "C" if sum(length != 1 for length in shape) < 2 else head.order
    inner = math.prod(shape[1:])
    small = inner * dtype.itemsize <= _ROW and head.size <= _HELD
    file = _SharedFile(path, (start, head.size) if small else None)

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
    """A file that is opened once, and read from several threads.

    Parameters
    ----------
    path : Path
        The file.
    held : (int, int), optional
        Where a part of it begins, and its bytes: held from the first value on that is asked for.
        Without, nothing is.
    """

    def __init__(self, path: Path, held: tuple[int, int] | None) -> None:
        buffered: Any = open_ordinary(path)
        self._file: io.RawIOBase = buffered.detach()
        self._lock = threading.Lock()
        self._part = held
        self._bytes: NDArray[np.uint8] | None = None
        weakref.finalize(self, self._file.close)

    def values(self, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
        """Return values from a place in the file on."""
        if self._part is None:
            return self._read(dtype, start, count)
        begin, size = self._part
        if self._bytes is None:  # threads that come at once read the same
            self._bytes = self._read(np.dtype(np.uint8), begin, size)
        at = start - begin
        return self._bytes[at : at + count * dtype.itemsize].view(dtype).copy()

    def _read(self, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
        values = np.empty(count, dtype)
        left = values.view(np.uint8).data if values.nbytes else memoryview(b"")
        with self._lock:
            self._file.seek(start)
            while left:
                got = self._file.readinto(left) or 0
                if not got:
                    raise EOFError("it ends too early")
                left = left[got:]
        return values


def is_idx(head: bytes) -> bool:
    """Whether a file that begins so is an idx file."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and head[3] > 0


def open_idx(path: Path, packed: bool, where: str, allowed: int) -> Rows:
    """Open an idx file: two zeros, a type, a rank, big-endian sizes, values."""
    opened = stamp(path)
    with open_ordinary(path) as file:
        source: Any = gzip.GzipFile(fileobj=file) if packed else file
        head = source.read(4)
        if not is_idx(head):
            source.read(1 << 16)  # what is damaged says so
            raise GeedError(f"{where}: a gzip file, but no idx file in it; unpack it first")
        dtype, start = np.dtype(_IDX_TYPES[head[2]]), 4 + 4 * head[3]
        shape = struct.unpack(f">{head[3]}I", source.read(4 * head[3]))
        needed = array_bytes(shape, dtype)
        if not packed:
            _check_idx(where, shape, start + needed, opened.size)
            return rows_in_file(path, ArrayHead(shape, "C", dtype, start), opened)
        check_held(where, needed, allowed, PACKED)
        content = bytearray(needed)
        left = memoryview(content)
        while left and (got := source.readinto(left)):
            left = left[got:]
        # What is behind the end is not looked at further: of that there may be any amount.
        _check_idx(where, shape, start + needed, start + needed - len(left) + len(source.read(1)))
    return rows_of(np.frombuffer(content, dtype).reshape(shape))


def _check_idx(where: str, shape: tuple[int, ...], needed: int, size: int) -> None:
    if size != needed:
        raise GeedError(
            f"{where}: an idx file of {shape_text(shape)} has {needed} bytes, this one {size}: "
            f"{'cut off' if size < needed else 'damaged'}; fetch it again"
        )
