"""Packed chunks of HDF5: what they unpack to is held against what they say, before HDF5 does it.

HDF5 unpacks a chunk to its end, wherever that is; how large it ought to be is compared afterwards.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from onnx_geed.errors import GeedError
from onnx_geed.held import array_bytes, check_held

if TYPE_CHECKING:
    import h5py

__all__ = ["ChunkCheck"]

# The most that deflate packs into a byte.
_RATIO = 1032

# Bytes beside a chunk's values: checksums, and heads of whatever packed them.
_BESIDE = 1 << 16

_DEFLATE = 1


class ChunkCheck:
    """Which chunks of a dataset may be unpacked; each is looked at once.

    Parameters
    ----------
    data : h5py.Dataset
        Open.
    where : str
        What it is called in messages.
    allowed : int
        Bytes that a chunk may take.

    Raises
    ------
    GeedError
        If one takes more by what the dataset says.
    """

    def __init__(self, data: h5py.Dataset, where: str, allowed: int) -> None:
        self._data, self._where, self._allowed = data, where, allowed
        self._seen: set[tuple[int, ...]] = set()
        self._size = array_bytes(data.chunks or (), data.dtype)
        check_held(where, self._size, allowed, "write it in smaller chunks")
        made = data.id.get_create_plist()
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        self._packed = bool(data.chunks) and _DEFLATE in filters
        if filters.count(_DEFLATE) > 1:
            raise GeedError(f"{where}: is packed twice by gzip; write it again")

    def check(self, index: Any) -> None:
        """Look at the chunks that hold some rows.

        Parameters
        ----------
        index : int, slice or ...
            Rows that are to be read.

        Raises
        ------
        GeedError
            If one unpacks to more than it says.
        """
        if not self._packed:
            return
        for place in self._places(index):
            if place not in self._seen:
                self._look(place)
                self._seen.add(place)

    def _places(self, index: Any) -> Iterator[tuple[int, ...]]:
        shape, chunks = self._data.shape, self._data.chunks
        if isinstance(index, slice):
            rows = range(*index.indices(shape[0]))
        else:
            rows = range(shape[0]) if index is ... else range(int(index), int(index) + 1)
        if not rows:
            return
        first = range(rows[0] // chunks[0] * chunks[0], rows[-1] + 1, chunks[0])
        others = (range(0, n, c) for n, c in zip(shape[1:], chunks[1:], strict=True))
        yield from itertools.product(first, *others)

    def _look(self, place: tuple[int, ...]) -> None:
        stored = int(self._data.id.get_chunk_info_by_coord(place).size)
        if stored * _RATIO <= self._allowed:
            return
        most = self._size + self._size // 8 + _BESIDE
        if stored <= most:
            _, raw = self._data.id.read_direct_chunk(place)
            unpacking = zlib.decompressobj()
            with_care, length = raw, 0
            while with_care and length <= most:
                length += len(unpacking.decompress(with_care, _BESIDE))
                with_care = unpacking.unconsumed_tail
            if length <= most:
                return
        raise GeedError(
            f"{self._where}: its chunk at {place} is damaged: {stored} bytes, which unpack to more "
            f"than the {self._size} that it says; write it again"
        )
