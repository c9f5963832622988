"""Machine code of a compiled loop, taken out of what the compiler wrote, and put into memory again.

An object file of the compiler's (ELF, x86-64) is made into an image: the loop and what it calls,
the constants that they read, and a list of the places where an address has to be written. Then
nothing of the compiler is needed to run it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Image", "image_of", "put_into_memory"]


class Image(NamedTuple):
    """What is put into memory, and what its places mean once that is known to begin somewhere.

    Parameters
    ----------
    code : bytes
        Instructions and constants.
    begin : int
        Where the loop begins in it, in bytes.
    own : list of (int, int)
        Places of addresses of its own, each with what it is from the beginning on, in bytes.
    foreign : list of (int, str, int)
        Places of addresses of functions of the C library, each with its name and what is added.
    """

    code: bytes
    begin: int
    own: list[tuple[int, int]]
    foreign: list[tuple[int, str, int]]


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    start: int
    size: int
    of: int
    align: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: int
    value: int
    size: int


# Kinds of sections, and what a section says of itself.
_SYMBOLS, _EMPTY, _RELOCATIONS = 2, 8, 4
_CHANGED, _LOADED = 1, 2

# A symbol of no section, and one that is only room.
_ELSEWHERE, _ROOM = 0, 0xFFF2

# A place that takes an address of eight bytes. Code that is written for any place in memory has no
# other; whatever else there is, the compiler has to put it in place itself.
_ADDRESS = 1

# What stands for no memory.
_FAILED = ctypes.c_void_p(-1).value


_HEADER = b"\x7fELF\x02\x01\x01"
_OBJECT, _X86_64 = 1, 62


def image_of(
    written: bytes, loop: str, wrappers: tuple[str, ...], never: tuple[str, ...]
) -> Image | None:
    """Return the image of a loop.

    Parameters
    ----------
    written : bytes
        An object file.
    loop : str
        Name of the loop's symbol.
    wrappers : tuple of str
        Functions that are there for Python's calls, and are left out.
    never : tuple of str
        Functions that are named in the code and never called.

    Returns
    -------
    Image or None
        None where the file is for another machine, or the loop needs anything that is neither in
        the file nor in the C library, or changes what it finds there.
    """
    if not written.startswith(_HEADER) or struct.unpack_from("<HH", written, 16) != (
        _OBJECT,
        _X86_64,
    ):
        return None
    sections = _sections(written)
    if any(s.size and s.flags & _LOADED and s.flags & _CHANGED for s in sections):
        return None  # what a loop remembers would be lost
    symbols = _symbols(written, sections)
    places, code = _laid_out(written, sections)
    rooms: dict[str, int] = {}
    left_out = [s for s in symbols if s.name in wrappers and s.section in places]
    for symbol in left_out:
        start = places[symbol.section] + symbol.value
        code[start : start + symbol.size] = bytes(symbol.size)

    def address(symbol: _Symbol) -> int | None:
        if symbol.section == _ROOM:
            if symbol.name not in rooms:
                rooms[symbol.name] = len(code)
                code.extend(bytes(-(-symbol.size // 16) * 16))
            return rooms[symbol.name]
        return places[symbol.section] + symbol.value if symbol.section in places else None

    own, foreign = [], []
    for section, offset, kind, number, added in _relocations(written, sections):
        if section not in places or any(
            s.section == section and s.value <= offset < s.value + s.size for s in left_out
        ):
            continue
        symbol, place = symbols[number], places[section] + offset
        if kind != _ADDRESS:
            return None
        if symbol.name in never and symbol.section == _ELSEWHERE:
            continue
        if symbol.section == _ELSEWHERE:
            if _found(symbol.name) is None:
                return None
            foreign.append((place, symbol.name, added))
        elif (at := address(symbol)) is not None:
            own.append((place, at + added))
        else:
            return None
    begins = [address(s) for s in symbols if s.name == loop and s.section in places]
    return Image(bytes(code), begins[0], own, foreign) if begins and begins[0] is not None else None


def _sections(written: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", written, 40)
    size, count, names = struct.unpack_from("<HHH", written, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", written, table + size * n) for n in range(count)]
    text = rows[names][4]
    return [
        _Section(_text_at(written, text + r[0]), r[1], r[2], r[4], r[5], r[7], max(1, r[8]))
        for r in rows
    ]


def _text_at(written: bytes, start: int) -> str:
    return written[start : written.index(b"\0", start)].decode()


def _symbols(written: bytes, sections: list[_Section]) -> list[_Symbol]:
    (table,) = struct.unpack_from("<Q", written, 40)
    (size,) = struct.unpack_from("<H", written, 58)
    for n, section in enumerate(sections):
        if section.kind == _SYMBOLS:
            (link,) = struct.unpack_from("<I", written, table + size * n + 40)
            text = sections[link].start
            rows = struct.iter_unpack(
                "<IBBHQQ", written[section.start : section.start + section.size]
            )
            return [_Symbol(_text_at(written, text + r[0]), r[3], r[4], r[5]) for r in rows]
    return []


def _laid_out(written: bytes, sections: list[_Section]) -> tuple[dict[int, int], bytearray]:
    """Return where each section begins that a loop may need, and all of them behind each other."""
    places, code = {}, bytearray()
    for n, section in enumerate(sections):
        # Nothing is thrown through a loop, so how to unwind it is not needed.
        if section.flags & _LOADED and section.size and section.name != ".eh_frame":
            code.extend(bytes(-len(code) % max(64, section.align)))
            places[n] = len(code)
            empty = section.kind == _EMPTY
            stop = section.start + section.size
            code.extend(bytes(section.size) if empty else written[section.start : stop])
    code.extend(bytes(-len(code) % 64))
    return places, code


def _relocations(
    written: bytes, sections: list[_Section]
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield section, offset, kind, number of the symbol, and what is added, of each place."""
    for section in sections:
        if section.kind == _RELOCATIONS:
            stretch = written[section.start : section.start + section.size]
            for offset, what, added in struct.iter_unpack("<QQq", stretch):
                yield section.of, offset, what & 0xFFFFFFFF, what >> 32, added


def _found(name: str) -> int | None:
    """Return the address of a function of the C library; None where it has none of this name."""
    if name.startswith(("Py", "_Py", "NRT", "numba")):
        return None  # the interpreter and numba may be in this process, and not in another
    function = getattr(_libraries(), name, None)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


@functools.cache
def _libraries() -> ctypes.CDLL:
    """Return the C library, and the others of this process."""
    found = ctypes.CDLL(None)
    place, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    found.mmap.restype = place
    found.mmap.argtypes = place, size, number, number, number, ctypes.c_long
    found.mprotect.argtypes = place, size, number
    found.munmap.argtypes = place, size
    return found


def put_into_memory(image: Image) -> int | None:
    """Put an image into memory, for as long as the process lasts, and return the loop's address.

    Returns
    -------
    int or None
        None where this system does not let a process run what it has written, or its C library
        has not what the loop calls.
    """
    where = [found for _, name, _ in image.foreign if (found := _found(name)) is not None]
    if len(where) < len(image.foreign):
        return None
    # Other systems have no such names. What is run is never given back: a thread may still be in it
    # when the interpreter takes itself apart.
    private, written = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
    start = _libraries().mmap(None, len(image.code), written, private, -1, 0)
    if start == _FAILED:
        return None
    code = bytearray(image.code)
    for place, at in image.own:
        struct.pack_into("<Q", code, place, start + at)
    for (place, _, added), at in zip(image.foreign, where, strict=True):
        struct.pack_into("<Q", code, place, at + added)
    ctypes.memmove(start, bytes(code), len(code))
    if _libraries().mprotect(start, len(code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        _libraries().munmap(start, len(code))
        return None
    return int(start) + image.begin
