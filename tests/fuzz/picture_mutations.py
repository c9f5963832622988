"""Mutations of images and recordings that know their structure: segments, directories, chunks."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping

from byte_mutations import damaged

_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 16, 17, 32, 200, 255, 256, 1000, 32767, 65535, 1 << 20, 1 << 24)
_NUMBERS += ((1 << 31) - 1, 1 << 31, (1 << 32) - 1)

# Of TIFF: size, bits, compression, meaning, strips, samples, planes, tiles, tables, of JPEG too.
_TAGS = (256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 282, 284, 292, 296, 317, 320)
_TAGS += (322, 323, 324, 325, 330, 338, 339, 347, 512, 513, 529, 530, 532, 34377, 34665, 700, 37724)


def _put(altered: bytearray, at: int, size: int, order: str, dice: random.Random) -> None:
    number = dice.choice(_NUMBERS) % (1 << 8 * size)
    altered[at : at + size] = number.to_bytes(size, "little" if order == "<" else "big")


def tiff(content: bytes, dice: random.Random) -> bytes:
    """Return a TIFF of which an entry of the directory is odd."""
    order = "<" if content[:2] == b"II" else ">"
    altered = bytearray(content)
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    if dice.random() < 0.15:
        return damaged(content, dice)
    for _ in range(dice.choice((1, 1, 2))):
        at, what = start + 2 + 12 * dice.randrange(count), dice.random()
        if what < 0.2:
            altered[at : at + 2] = struct.pack(f"{order}H", dice.choice(_TAGS))
        elif what < 0.35:
            _put(altered, at + 2, 2, order, dice)
        elif what < 0.55:
            _put(altered, at + 4, 4, order, dice)
        elif what < 0.9:
            _put(altered, at + 8, dice.choice((2, 4)), order, dice)
        elif what < 0.95:
            _put(altered, start, 2, order, dice)
        else:  # a directory that follows itself
            place = start + 2 + 12 * count
            altered[place : place + 4] = struct.pack(f"{order}I", dice.choice((start, 4, 0, 9)))
    return bytes(altered)


def jpeg(content: bytes, dice: random.Random) -> bytes:
    """Return a JPEG of which a segment is odd, gone, or there twice."""
    parts, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        size = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        parts.append(bytearray(content[at : at + size]))
        at += size
    rest = content[at:]
    for _ in range(dice.choice((1, 1, 2))):
        i, what = dice.randrange(len(parts)), dice.random()
        frames = [p for p in parts if 0xC0 <= p[1] <= 0xC2] or parts
        if what < 0.35:
            frame = dice.choice(frames)
            _put(frame, 4 + dice.randrange(max(1, len(frame) - 4)), dice.choice((1, 2)), ">", dice)
        elif what < 0.5:
            _put(parts[i], 2, 2, ">", dice)
        elif what < 0.65:
            parts[i][4:] = damaged(bytes(parts[i][4:]), dice)
        elif what < 0.75:
            parts[i][1] = dice.choice((0xC0, 0xC1, 0xC2, 0xC9, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE))
        elif what < 0.85:
            parts.insert(i, bytearray(dice.choice(parts)))
        elif what < 0.9 and len(parts) > 1:
            del parts[i]
        else:
            rest = damaged(rest, dice)
    return content[:2] + b"".join(map(bytes, parts)) + rest


def chunked(content: bytes, dice: random.Random) -> bytes:
    """Return a RIFF file, such as a WebP, of which a chunk is odd, gone, or there twice."""
    parts, at = [], 12
    while at + 8 <= len(content):
        size = 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        parts.append(bytearray(content[at : at + size + size % 2]))
        at += size + size % 2
    for _ in range(dice.choice((1, 1, 2))):
        i, what = dice.randrange(len(parts)), dice.random()
        if what < 0.2:
            _put(parts[i], 4, 4, "<", dice)
        elif what < 0.55:
            _put(parts[i], 8 + dice.randrange(12), dice.choice((1, 2, 3, 4)), "<", dice)
        elif what < 0.7:
            parts[i][8:] = damaged(bytes(parts[i][8:]), dice)
        elif what < 0.8:
            kinds = (
                b"VP8 ",
                b"VP8L",
                b"VP8X",
                b"ALPH",
                b"ANIM",
                b"ANMF",
                b"ICCP",
                b"EXIF",
                b"data",
            )
            parts[i][:4] = dice.choice(kinds)
        elif what < 0.9:
            parts.insert(i, bytearray(dice.choice(parts)))
        else:
            extended = struct.pack("<IBBBB", 10, dice.randrange(256), 0, 0, 0)
            parts.insert(0, bytearray(b"VP8X" + extended + dice.randbytes(6)))
    body = b"".join(map(bytes, parts))
    said = len(body) + 4 if dice.random() < 0.9 else dice.choice(_NUMBERS)
    return content[:4] + struct.pack("<I", said % (1 << 32)) + content[8:12] + body


def _headed(size: int, order: str) -> Callable[[bytes, random.Random], bytes]:
    """Numbers in so many bytes of a head, of either length."""

    def mutated(content: bytes, dice: random.Random) -> bytes:
        if dice.random() < 0.2:
            return damaged(content, dice)
        altered = bytearray(content)
        for _ in range(dice.choice((1, 1, 2))):
            _put(altered, 2 + dice.randrange(size), dice.choice((1, 2, 4)), order, dice)
        return bytes(altered)

    return mutated


#: By the end of a name.
BY_SUFFIX: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    ".tif": tiff,
    ".tiff": tiff,
    ".jpg": jpeg,
    ".webp": chunked,
    ".gif": _headed(40, "<"),
    ".bmp": _headed(54, "<"),
    ".flac": _headed(60, ">"),
}
