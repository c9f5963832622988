"""What a file says that it takes in memory, held against what is allowed, before it is read.

What is read in slices, such as an ``.npy`` file, may be of any size. What must be held at once, be
it packed, a text or one sample, is counted first: by what its head says, and where heads can lie,
by reading no further than is allowed.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnx_geed.errors import GeedError, reason_of, shown
from onnx_geed.ordinary import open_ordinary
from onnx_geed.text import format_bytes, parse_bytes

__all__ = [
    "ALLOWED",
    "ArrayHead",
    "Member",
    "allowed_by",
    "array_bytes",
    "array_head",
    "array_names",
    "check_held",
    "members_of",
    "read_held",
    "read_text",
]

#: Bytes that may be held of one file at once, where no budget allows more.
ALLOWED = 1 << 30

# Of a text, beside its letters: a line and what is made of it, as Python's objects.
_LINE = 250

_ENDS = (b"\n", b"\r", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e")

_PIECE = 1 << 20

# Of the head of an ``.npy`` file: numpy itself takes no longer one for safe.
_HEAD = 10_100

_GZIP = b"\x1f\x8b"

# Others are unpacked at once, whatever is asked for.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def allowed_by(memory: str | int) -> int:
    """Return how many bytes may be held of one file under a budget, ``--memory``."""
    return max(ALLOWED, parse_bytes(memory) // 2)


def check_held(where: str, size: int, allowed: int, cure: str = "use less of it") -> None:
    """Refuse what takes more memory than is allowed.

    Parameters
    ----------
    where : str
        The option and its value, for messages.
    size : int
        Bytes that it takes at once.
    allowed : int
        Bytes that it may take.
    cure : str
        What to do about it.

    Raises
    ------
    GeedError
        If it takes more.
    """
    if size > allowed:
        raise GeedError(
            f"{where}: needs {_told(size)} of memory at once, but at most {format_bytes(allowed)} "
            f"are allowed: {cure}"
        )


def _told(size: int) -> str:
    return format_bytes(size) if size < 1 << 60 else "over a billion GiB"


def array_bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return the bytes of an array, however large."""
    return math.prod(map(int, shape)) * dtype.itemsize


@dataclass(frozen=True)
class ArrayHead:
    """What an ``.npy`` file says of its array.

    Parameters
    ----------
    shape : tuple of int
        From 0.
    order : {"C", "F"}
        Which axis runs fastest: the last or the first.
    dtype : numpy dtype
        Of its values.
    start : int
        Where they begin.
    """

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]
    start: int

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return array_bytes(self.shape, self.dtype)


def array_head(stream: Any) -> ArrayHead:
    """Read the head of an ``.npy`` file.

    Parameters
    ----------
    stream : binary file
        At its start; it stays somewhere behind the head.

    Returns
    -------
    ArrayHead

    Raises
    ------
    ValueError
        If it is no such file, or holds objects.
    """
    file = io.BytesIO(stream.read(_HEAD))
    version = np.lib.format.read_magic(file)
    read: Any = np.lib.format.read_array_header_1_0
    if version != (1, 0):  # the later ones differ in the letters of fields' names alone
        read = np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except Exception as error:  # of Python's own readers, whatever they like
        raise ValueError(reason_of(error)) from None
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded: pickle")
    # True, which Python takes for a number, is no length to NumPy.
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > 64:
        raise ValueError(f"an array of the shape {shape}")
    return ArrayHead(shape, "F" if fortran else "C", dtype, file.tell())


@dataclass(frozen=True)
class Member:
    """An array in an ``.npz`` file.

    Parameters
    ----------
    head : ArrayHead
        Where the member is not packed, it starts where the values begin in the file.
    packed : bool
        Whether it is.
    """

    head: ArrayHead
    packed: bool


def members_of(file: BinaryIO, names: Sequence[str] | None = None) -> dict[str, Member]:
    """Return arrays of an ``.npz`` file, by their names, as their heads describe them.

    Parameters
    ----------
    file : binary file
        The archive.
    names : sequence of str
        Names of arrays in it; of all by default.

    Returns
    -------
    dict of str to Member

    Raises
    ------
    ValueError
        If one is no array, shorter than it says, or packed as numpy packs none.
        If a name stands for two members.
    """
    found = {}
    with zipfile.ZipFile(file) as archive:
        there = array_names(archive)
        for name in there if names is None else names:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type not in _PACKINGS:
                raise ValueError(f"{name} is packed in a way that numpy does not write")
            with archive.open(info) as member:
                head = array_head(member)
            if head.start + head.size > info.file_size:
                raise ValueError(
                    f"{name} says it has {head.size} bytes, of {info.file_size - head.start}"
                )
            packed = info.compress_type != zipfile.ZIP_STORED
            if not packed:
                file.seek(info.header_offset + 26)
                name_length, more = (int.from_bytes(file.read(2), "little") for _ in range(2))
                start = info.header_offset + 30 + name_length + more + head.start
                head = ArrayHead(head.shape, head.order, head.dtype, start)
            found[name] = Member(head, packed)
    file.seek(0)
    return found


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays in a zip file, as numpy calls them.

    Raises
    ------
    ValueError
        If a name stands for two members, of which numpy would read one.
    """
    members: dict[str, str] = {}
    for member in archive.namelist():
        for name in dict.fromkeys((member, member.removesuffix(".npy"))):
            if name in members:
                both = "two members" if members[name] == member else "members with and without .npy"
                raise ValueError(f"it holds {both} called {shown(name)}: one would hide the other")
            members[name] = member
    return [m.removesuffix(".npy") for m in archive.namelist() if m.endswith(".npy")]


def read_held(
    path: str | Path, where: str, allowed: int, *, unpack: bool = False, cure: str = ""
) -> bytearray:
    """Read a file as a whole.

    Parameters
    ----------
    path : str or Path
        The file.
    where : str
        What messages call it.
    allowed : int
        Bytes that it may have.
    unpack : bool
        Whether a file that is packed by gzip is unpacked.
    cure : str
        What to do where it has more.

    Returns
    -------
    bytearray

    Raises
    ------
    GeedError
        If it is no file, or has more.
    OSError, EOFError, zlib.error
        If it cannot be read, or unpacked.
    """
    cure = cure or "is it the right file?"
    with open_ordinary(path, where) as file:
        check_held(where, os.fstat(file.fileno()).st_size, allowed, cure)
        packed = unpack and file.read(2) == _GZIP
        file.seek(0)
        source: Any = gzip.GzipFile(fileobj=file) if packed else file
        content = bytearray()
        while piece := source.read(_PIECE):
            content += piece
            if len(content) > allowed:
                # How many there are to come, nobody knows.
                check_held(where, len(content), allowed, f"and there is more to unpack: {cure}")
    return content


def read_text(path: str | Path, where: str, allowed: int = ALLOWED) -> str:
    """Read a text in UTF-8, of which lines are made.

    Parameters
    ----------
    path : str or Path
        The file.
    where : str
        What messages call it.
    allowed : int
        Bytes that the text and its lines may take.

    Returns
    -------
    str

    Raises
    ------
    GeedError
        If it is no file, or takes more.
    OSError, UnicodeDecodeError
        If it cannot be read.
    """
    content = read_held(path, where, allowed // 4)
    lines = sum(map(content.count, _ENDS))
    check_held(where, 4 * len(content) + _LINE * lines, allowed, f"it has {lines:,} lines")
    return content.decode("utf-8-sig")
