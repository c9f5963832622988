"""Mutations of the structures that HDF5 lays out itself: heads, chunk indices, heaps, attributes.

What changes an object through HDF5 leaves these well-formed. Newer ones end with a checksum, which
is made right again most of the time: whoever changes a file to mean harm does that too.
"""

from __future__ import annotations

import functools
import random

_SIGNS = (b"\x89HDF", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB")
_SIGNS += (b"FHIB", b"FSHD", b"FSSE", b"BTHD", b"BTIN", b"BTLF", b"FAHD", b"FADB", b"EAHD", b"EAIB")
_SIGNS += (b"EADB", b"EASB", b"SMTB", b"SMLI")

# Heads of version 1 have no sign: a version, 0, the number of messages, and of links to it.
_OLD_HEADS = tuple(b"\1\0" + bytes([n, 0, 1, 0, 0, 0]) for n in range(1, 20))

_LARGEST, _FIELDS = 700, 160

_MASK = 0xFFFFFFFF


def _rotated(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & _MASK


def checksum(content: bytes) -> int:
    """Return the sum that HDF5 makes of its structures: Bob Jenkins's lookup3."""
    a = b = c = (0xDEADBEEF + len(content)) & _MASK
    at = 0
    while len(content) - at > 12:
        more = (int.from_bytes(content[at + i : at + i + 4], "little") for i in (0, 4, 8))
        a, b, c = ((old + new) & _MASK for old, new in zip((a, b, c), more, strict=True))
        for k in (4, 6, 8, 16, 19, 4):
            a = (a - c & _MASK) ^ _rotated(c, k)
            a, b, c = b, c + b & _MASK, a
        at += 12
    if at == len(content):
        return c
    rest = content[at:].ljust(12, b"\0")
    more = (int.from_bytes(rest[i : i + 4], "little") for i in (0, 4, 8))
    a, b, c = ((old + new) & _MASK for old, new in zip((a, b, c), more, strict=True))
    for k in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, (c ^ b) - _rotated(b, k) & _MASK, a
    return b


@functools.lru_cache(maxsize=64)
def structures(content: bytes) -> tuple[tuple[int, int], ...]:
    """Return where structures begin, and where the checksum of each lies; 0 where it has none."""
    found = []
    for sign in (*_SIGNS, *_OLD_HEADS):
        at = content.find(sign)
        while at >= 0:
            found.append((at, _end(content, at) if len(sign) == 4 else 0))
            at = content.find(sign, at + 1)
    return tuple(sorted(found))


def _end(content: bytes, start: int) -> int:
    for end in range(start + 8, min(start + _LARGEST, len(content) - 4)):
        if int.from_bytes(content[end : end + 4], "little") == checksum(content[start:end]):
            return end
    return 0


def restructured(content: bytes, dice: random.Random) -> bytes:
    """Return an HDF5 file of which numbers within its structures are odd."""
    altered = bytearray(content)
    places = structures(content)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        start, end = dice.choice(places)
        at = start + dice.randrange(4, (end - start) if end else _FIELDS)
        size = dice.choice((1, 1, 2, 4, 8))
        if at + size > len(altered):
            continue
        there = int.from_bytes(altered[at : at + size], "little")
        number = dice.choice(
            (
                *(0, 1, 2, 3, 255, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1, 1 << 40),
                *(
                    there + 1,
                    there - 1,
                    there * 2,
                    there ^ 1 << dice.randrange(8 * size),
                    there + 8,
                ),
                *(dice.choice(places)[0], len(content), len(content) - 1, start, 8 * start),
                *(dice.randrange(256), dice.randrange(1 << 16)),
            )
        )
        altered[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        if end and dice.random() < 0.9:
            altered[end : end + 4] = checksum(bytes(altered[start:end])).to_bytes(4, "little")
    return bytes(altered)
