"""Large weights left where they lie in an ONNX file.

Before: graph { initializer { name: "w"  raw_data: 100 MB } }
After:  graph { initializer { name: "w"  external_data: this file, offset, length } }

A model is then read in no time, is copied and changed as one of a few kilobytes, and the runtime
maps its weights from the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.model.holes import is_hollow
from onnx_geed.ordinary import open_ordinary, open_pipe

__all__ = ["model_bytes", "with_weights"]

# Smaller ones are read: they may be shapes and axes, and cost nothing.
_LARGE = 1 << 16

# Heads and contents of nodes, weights, inputs and outputs.
_MOST_PARTS = 1_000_000

# No ONNX file is longer, and a pipe may have no end.
_MOST = 1 << 31

# Bytes of what is read, which lies in memory as often as the model is changed.
_MOST_READ = 512 << 20

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_TENSOR = onnx.TensorProto.DESCRIPTOR.fields_by_name
_DATA_TYPE, _RAW_DATA = _TENSOR["data_type"].number, _TENSOR["raw_data"].number

# Types whose numbers are written the same way there as in raw_data, one after the other.
_AS_RAW = {
    _TENSOR["float_data"].number: (onnx.TensorProto.FLOAT, onnx.TensorProto.COMPLEX64),
    _TENSOR["double_data"].number: (onnx.TensorProto.DOUBLE, onnx.TensorProto.COMPLEX128),
}

# Protobuf's kinds of fields: a varint, eight bytes, so many bytes as it says, four bytes.
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


class _StrangeError(Exception):
    """A file is not made as a model is."""


def model_bytes(path: Path) -> tuple[bytes, bool]:
    """Return the content of an ONNX file, its large weights as external data that lie in it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    content : bytes
        The file's own bytes where it is none that this can be done with, or no model at all.
    in_place : bool
        Whether weights were left.

    Raises
    ------
    OSError
        If it cannot be read.
    GeedError
        If its graph has too many parts, or too much of it would have to be read.
    """
    plain = path.is_file()
    with open_ordinary(path) if plain else open_pipe(path) as file:
        if plain and _lies_in_its_folder(path):
            try:
                reader = _Reader(file, path.name)
                return reader.model(), reader.left > 0
            except _StrangeError:
                file.seek(0)
        # What really lies on a disk is read, be it a link out of its folder; what the system makes
        # up as it is read, as in /proc, says that it has no bytes.
        on_disk = plain and path.stat().st_size > 0 and not is_hollow(path)
        most = _MOST if on_disk else _MOST_READ
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_much(path.name, most)
    return content, False


def _too_much(name: str, most: int) -> GeedError:
    return GeedError(
        f"{name}: more than {most >> 20} MiB of it would have to be read: save the model "
        "again, with onnx.save, so that its weights are raw data or lie in a file beside it"
    )


def with_weights(proto: onnx.ModelProto, path: Path) -> Iterator[bytes]:
    """Yield the bytes of a model with its weights that lie in the file itself, piece by piece.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model; its weights are taken from it.
    path : Path
        The file that it was made from.

    Raises
    ------
    GeedError
        If there are more than an ONNX file holds.
    """
    weights = [(tensor, _place_in(tensor, path)) for tensor in proto.graph.initializer]
    if not any(length for _, (_, length) in weights):
        yield proto.SerializeToString()
        return
    heads: list[bytes] = []
    for tensor, (_, length) in weights:
        head = b""
        if length:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            head = _head(_RAW_DATA, length)
        own = tensor.SerializeToString() + head
        heads.append(_head(_INITIALIZER, len(own) + length) + own)
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    size = len(graph) + sum(map(len, heads)) + sum(length for _, (_, length) in weights)
    rest = proto.SerializeToString()
    if len(rest) + size >= _MOST:
        raise GeedError(
            f"{path}: with what is added, the file would be larger than 2 GiB, which no ONNX file "
            "can be; export the model again with its weights as external data"
        )
    yield rest + _head(_GRAPH, size) + graph
    with path.open("rb") as file:
        for head, (_, (offset, length)) in zip(heads, weights, strict=True):
            yield head
            file.seek(offset)
            while length and (piece := file.read(min(length, 1 << 22))):
                length -= len(piece)
                yield piece


def _place_in(tensor: onnx.TensorProto, path: Path) -> tuple[int, int]:
    """Return offset and length of a weight that lies in the model's own file, else 0 and 0."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place.get("location") == path.name:
            return int(place["offset"]), int(place["length"])
    return 0, 0


def _lies_in_its_folder(path: Path) -> bool:
    """Say whether the runtime would read it there: it follows no link out of a model's folder."""
    try:
        path.name.encode()
    except UnicodeEncodeError:  # bytes that protobuf takes for no text
        return False
    return path.resolve().parent == path.parent.resolve()


class _Reader:
    """Reads an ONNX file front to back, skipping its large weights.

    Parameters
    ----------
    file : binary file
        The file, at its start.
    name : str
        What it is called in its folder.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._size = os.fstat(file.fileno()).st_size
        #: Weights that were left so far.
        self.left = 0
        self._taken = 0

    def model(self) -> bytes:
        """Return the model."""
        parts = []
        while self._file.tell() < self._size:
            head, number, length = self._field(self._size)
            if number == _GRAPH and length is not None:
                content = self._graph(self._file.tell() + length)
                parts += [_head(_GRAPH, len(content)), content]
            else:
                parts += [head, self._read(length or 0)]
        return b"".join(parts)

    def _graph(self, end: int) -> bytes:
        parts: list[bytes] = []
        while self._file.tell() < end:
            if len(parts) > _MOST_PARTS:
                raise GeedError(
                    f"{self._name}: its graph has more than {_MOST_PARTS // 2:,} parts, which no "
                    "network has; export it again"
                )
            head, number, length = self._field(end)
            if number == _INITIALIZER and length is not None and length >= _LARGE:
                content = self._tensor(self._file.tell() + length)
                parts += [_head(_INITIALIZER, len(content)), content]
            else:
                parts += [head, self._read(length or 0)]
        return b"".join(parts)

    def _tensor(self, end: int) -> bytes:
        parts: list[bytes] = []
        kind, lists = 0, list[int]()
        while self._file.tell() < end:
            if len(parts) > 2 * _MOST_PARTS:
                raise GeedError(
                    f"{self._name}: a tensor has more than {_MOST_PARTS:,} parts, such as texts; "
                    "export it again"
                )
            head, number, length = self._field(end)
            if number == _DATA_TYPE and length is None:
                kind = head[-1]
            if number in _AS_RAW:
                lists.append(number)
            if number in (_RAW_DATA, *_AS_RAW) and length is not None and length >= _LARGE:
                place = {"location": self._name, "offset": self._file.tell(), "length": length}
                # Where a message comes twice, or in parts, its fields are joined when it is read.
                rest = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
                for key, value in place.items():
                    rest.external_data.add(key=key, value=str(value))
                parts.append(rest.SerializeToString())
                self.left += 1
                self._file.seek(length, os.SEEK_CUR)
            else:
                parts += [head, self._read(length or 0)]
        # In several pieces, or of another type, they are not the same bytes.
        if lists and (len(lists) > 1 or kind not in _AS_RAW[lists[0]]):
            raise _StrangeError
        return b"".join(parts)

    def _field(self, end: int) -> tuple[bytes, int, int | None]:
        """Return a field's head as it is, its number, and how many bytes follow.

        ``None`` stands for bytes that have no length of their own: they are part of the head.
        """
        key, head = self._varint()
        number, kind = key >> 3, key & 7
        if not number:  # of no message, but of a hole in a disk
            raise GeedError(
                f"{self._name}: not an ONNX model, or cut off; export it again or copy it "
                "completely"
            )
        length = None
        if kind == _BYTES:
            length, more = self._varint()
            head += more
            if self._file.tell() + length > end:
                raise _StrangeError
        elif kind == _VARINT:
            head += self._varint()[1]
        elif kind in (_EIGHT, _FOUR):
            head += self._read(8 if kind == _EIGHT else 4)
        else:
            raise _StrangeError
        if self._file.tell() > end:
            raise _StrangeError
        return head, number, length

    def _varint(self) -> tuple[int, bytes]:
        value, taken = 0, b""
        while True:
            byte = self._read(1)
            value |= (byte[0] & 0x7F) << 7 * len(taken)
            taken += byte
            if byte[0] < 0x80:
                return value, taken
            if len(taken) == 10:
                raise _StrangeError

    def _read(self, length: int) -> bytes:
        self._taken += length
        if self._taken > _MOST_READ:
            raise _too_much(self._name, _MOST_READ)
        content = self._file.read(length)
        if len(content) < length:
            raise _StrangeError
        return content


def _head(field: int, length: int) -> bytes:
    """Return what protobuf writes before the bytes of a message or string."""
    head = bytearray()
    for number in (field << 3 | _BYTES, length):
        while number > 0x7F:
            head.append(number & 0x7F | 0x80)
            number >>= 7
        head.append(number)
    return bytes(head)
