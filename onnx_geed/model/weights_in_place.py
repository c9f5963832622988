"""Large weights left where they lie in an ONNX file.

Before: graph { initializer { name: "w"  raw_data: 100 MB } }
After:  graph { initializer { name: "w"  external_data: this file, offset, length } }

A model is then read in no time, is copied and changed as one of a few kilobytes, and the runtime
maps its weights from the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.ordinary import open_ordinary, open_pipe

__all__ = ["bring_in", "model_bytes"]

# Smaller ones are read: they may be shapes and axes, and cost nothing.
_LARGE = 1 << 16

# Heads and contents of nodes, weights, inputs and outputs.
_MOST_PARTS = 1_000_000

# No ONNX file is longer, and a pipe may have no end.
_MOST = 1 << 31

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number

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
        If its graph has too many parts.
    """
    plain = path.is_file()
    with open_ordinary(path) if plain else open_pipe(path) as file:
        if plain and _lies_in_its_folder(path):
            try:
                reader = _Reader(file, path.name)
                return reader.model(), reader.left > 0
            except _StrangeError:
                file.seek(0)
        return file.read(_MOST), False


def bring_in(proto: onnx.ModelProto, path: Path) -> None:
    """Give a model its weights that lie in the file itself, for a file of its own.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model, which is changed.
    path : Path
        The file that it was made from.
    """
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place.get("location") != path.name:
            continue
        with path.open("rb") as file:
            file.seek(int(place["offset"]))
            tensor.raw_data = file.read(int(place["length"]))
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")


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
        while self._file.tell() < end:
            if len(parts) > 2 * _MOST_PARTS:
                raise GeedError(
                    f"{self._name}: a tensor has more than {_MOST_PARTS:,} parts, such as texts; "
                    "export it again"
                )
            head, number, length = self._field(end)
            if number == _RAW_DATA and length is not None and length >= _LARGE:
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
