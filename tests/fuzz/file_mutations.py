"""Mutations of files of data that know their structure: heads, chunks and members."""

from __future__ import annotations

import ast
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from byte_mutations import damaged, reworded

_DESCRS: tuple[Any, ...] = (
    *("<f4", "<f8", ">f4", "<f2", "|b1", "|i1", "<i8", ">u8", "<c16", "|O", "|S5", "<U3", "|V8"),
    *("<M8[ns]", "<m8[s]", "<M8", "<f16", "<f3", "f", "", "O", "|V0", "|S0", "<U0", 5, None, ()),
    *([("a", "<f4")], [("a", "<f4", (2, 3)), ("b", "|O")], [["a", "<f4"]], "<f4,<i4", "(2,)f4"),
    *("\x1b[2J", "i" * 5000, [("", "|V4")], [("a", "<f4"), ("a", "<f4")], {"names": ["a"]}),
)

_SHAPES: tuple[Any, ...] = (
    *((), (0,), (-1,), (6, -3, 8, 8), (6.0, 3, 8, 8), ("6",), 6, None, [6, 3, 8, 8], (True, 3)),
    *((2**31, 2**31), (2**63,), (10**30,), (1,) * 65, (6, 0, 8, 8), (6, (3,), 8), (2**62, 4, 0)),
)

_HEADS = (
    *("(" * 300, "[" * 20_000, "{}", "", "[]", "1", "{'descr': '<f4'", "\0", "é" * 9, "f'{1}'"),
    *("-" * 3000 + "1", "9" * 5000, "{'shape': 1 + 1j, 'descr': 1}", "a.b()", "{1:2,}", "\x0c"),
    *("'''", "{**{}}", "  x\n y", "{[]: 1}", "{'descr': b'<f4'}"),
)

_CHANGES = (
    "descr",
    "descr",
    "shape",
    "shape",
    "order",
    "values",
    "values",
    "key",
    "text",
    "length",
)
_CHANGES += ("version", "bytes", "as", "as", "reshape")

_ODD = (np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-40, 1e300, 255.0, -1.0, 0.0)


def npy(values: Any, dice: random.Random) -> bytes:
    """Return an array as ``.npy``, of which the head or the values are odd."""
    values = np.asarray(values)
    head: dict[Any, Any] = {
        "descr": values.dtype.str,
        "fortran_order": False,
        "shape": values.shape,
    }
    version, text = (1, 0), None
    raw = values.tobytes()
    for _ in range(dice.choice((1, 1, 2))):
        what = dice.choice(_CHANGES)
        if what == "descr":
            head["descr"] = dice.choice(_DESCRS)
        elif what == "shape":
            head["shape"] = dice.choice(_SHAPES)
        elif what == "reshape":
            shape = [*values.shape]
            dice.shuffle(shape)
            count = dice.choice((0, 1, 2, len(shape)))
            head["shape"] = tuple(shape[:count])
        elif what == "order":
            head["fortran_order"] = dice.choice((True, True, 1, "x", None))
        elif what == "as":
            other = odd_values(values, dice)
            raw = other.tobytes()
            head |= {"descr": _descr(other.dtype), "shape": other.shape}
        elif what == "values":
            raw = dice.choice((raw[:-1], raw[: len(raw) // 2], raw + b"\0" * 64, b"", raw * 2))
        elif what == "key":
            key = dice.choice([*head, "more", b"descr", 1])
            if key in head and dice.random() < 0.5:
                del head[key]
            else:
                head[key] = dice.choice((None, 1, "x", (), {}))
        elif what == "text":
            text = dice.choice(_HEADS)
        elif what == "version":
            version = dice.choice(((2, 0), (3, 0), (0, 0), (9, 9), (1, 1)))
    said = (repr(head) if text is None else text).encode("latin-1", "replace")
    said += b" " * (-(len(said) + 11) % 64) + b"\n"
    size = len(said)
    if dice.random() < 0.05:
        size = dice.choice((0, 1, size - 1, size + 64, 0xFFFF))
    packed = struct.pack("<I" if version >= (2, 0) else "<H", min(size, 0xFFFF))
    content = b"\x93NUMPY" + bytes(version) + packed + said + raw
    return damaged(content, dice) if dice.random() < 0.1 else content


def _descr(dtype: np.dtype[Any]) -> Any:
    return ast.literal_eval(repr(np.lib.format.dtype_to_descr(dtype)))


def odd_values(values: Any, dice: random.Random) -> Any:
    """Return an array with other numbers, of another type or of another shape."""
    values = np.asarray(values)
    if not values.ndim:
        values = values.reshape(1)
    what = dice.random()
    if what < 0.3 and values.size and values.dtype.kind == "f":
        other = values.copy()
        for _ in range(dice.choice((1, 1, values.size))):
            with np.errstate(all="ignore"):
                other.flat[dice.randrange(values.size)] = dice.choice(_ODD)
        return other
    if what < 0.4:
        return np.full_like(values, dice.choice((0, 1)))
    if what < 0.65:
        dtype = dice.choice(("f8", "f2", "i8", "u1", "?", "c8", "S3", "U4", ">f4", "M8[s]", "u8"))
        with np.errstate(all="ignore"):
            try:
                return values.astype(dtype)
            except (TypeError, ValueError):
                return values
    if what < 0.75 and values.size and values.dtype.kind in "iu":
        other = values.astype("i8")
        other.flat[dice.randrange(values.size)] = dice.choice((-1, 0, 99, 2**31, 2**62, -(2**63)))
        return other
    return dice.choice(
        (
            *(values[:0], values[:1], values[None], values[..., None], values.T, values.ravel()),
            *(values[..., :1], np.float64(0.5), np.array("x"), np.repeat(values, 2, axis=0)),
            *(values[..., :0], np.array([""] * len(values)), np.asfortranarray(values)),
        )
    )


def npz(arrays: Mapping[str, Any], dice: random.Random, texts: tuple[str, ...] = ()) -> bytes:
    """Return arrays as ``.npz``, of which one or the archive is odd."""
    members: dict[str, bytes] = {}
    for name, values in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    what, name = dice.random(), dice.choice([*arrays])
    if what < 0.35:
        members[f"{name}.npy"] = npy(arrays[name], dice)
    elif what < 0.6:
        buffer = io.BytesIO()
        other = odd_values(arrays[name], dice)
        if texts and dice.random() < 0.4:
            other = np.array(dice.choice((*texts, "", "\x1b[2J", "a\nb", "é" * 400, "x")))
        np.save(buffer, other, allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    elif what < 0.7:
        del members[f"{name}.npy"]
    elif what < 0.8:
        new = dice.choice(("a", "../x", "/x", "x/", "\x1b[2J", "\u202e", "n" * 3000, "x_lengths"))
        new = dice.choice((new, new, f"0/{name}", f"1/{name}", "y", "labels", "matrices", ""))
        members[f"{new}.npy"] = members[f"{name}.npy"]
        if dice.random() < 0.5:
            del members[f"{name}.npy"]
    elif what < 0.85:
        members[dice.choice(("x.txt", "x.npy/", "b.npz", f"{name}"))] = b"something"
    method = dice.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content, method)
    content = buffer.getvalue()
    if what >= 0.85:
        content = _with_zip_field(content, dice) if what < 0.95 else damaged(content, dice)
    return content


def _with_zip_field(content: bytes, dice: random.Random) -> bytes:
    """Return a zip file of which a number in the head of a member, or in the directory, is odd."""
    altered = bytearray(content)
    heads = [(b"PK\3\4", ("H4", "H6", "H8", "I14", "I18", "I22", "H26", "H28"))]
    heads += [(b"PK\1\2", ("H8", "H10", "I16", "I20", "I24", "H28", "H30", "H32", "I42"))]
    heads += [(b"PK\5\6", ("H4", "H8", "H10", "I12", "I16", "H20"))]
    mark, fields = dice.choice(heads)
    places = [i for i in range(len(content)) if content.startswith(mark, i)]
    field = dice.choice(fields)
    at = dice.choice(places) + int(field[1:])
    number = dice.choice((0, 1, 2, 8, 9, 12, 14, 99, 0x800, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF))
    size = 2 if field[0] == "H" else 4
    altered[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(altered)


def idx(values: Any, dice: random.Random, *, packed: bool = False) -> bytes:
    """Return an array of bytes as idx, of which the head or the packing is odd."""
    head = bytearray(b"\0\0\x08" + bytes([values.ndim]))
    sizes = [*values.shape]
    what, raw = dice.random(), values.astype("u1").tobytes()
    if what < 0.2:
        head[2] = dice.choice((0, 8, 9, 11, 12, 13, 14, 255))
    elif what < 0.4:
        head[3] = dice.choice((0, 1, 2, 3, 4, 5, 33, 65, 255))
    elif what < 0.6:
        sizes[dice.randrange(len(sizes))] = dice.choice((0, 1, 5, 7, 2**31, 2**32 - 1, 60_000))
    elif what < 0.7:
        raw = dice.choice((raw[:-1], raw + b"\0", b"", raw * 2))
    content = bytes(head) + struct.pack(f">{len(sizes)}I", *sizes) + raw
    if what > 0.9:
        content = damaged(content, dice)
    if not packed:
        return content
    made = gzip.compress(content, mtime=0)
    return dice.choice(
        (
            *(made, made, made, damaged(made, dice), damaged(made, dice), made[:-4], made + made),
            *(made + b"\0" * 9, made + b"junk", gzip.compress(made, mtime=0), made[:12]),
            *(made[:-4] + b"\xff\xff\xff\xff", gzip.compress(b"", mtime=0), made[:10]),
        )
    )


def png(content: bytes, dice: random.Random) -> bytes:
    """Return a PNG of which a chunk is changed, with a sum that is right most of the time."""
    if dice.random() < 0.15:
        return damaged(content, dice)
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    for _ in range(dice.choice((1, 1, 2))):
        what, i = dice.random(), dice.randrange(len(chunks))
        if what < 0.3 and len(chunks[0][1]) == 13:
            head = bytearray(chunks[0][1])
            field = dice.randrange(7)
            if field < 2:
                size = dice.choice((0, 1, 2, 9, 200, 2**31 - 1, 2**32 - 1))
                head[4 * field : 4 * field + 4] = size.to_bytes(4, "big")
            else:
                head[6 + field] = dice.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            chunks[0][1] = bytes(head)
        elif what < 0.45:
            chunks[i][1] = damaged(chunks[i][1], dice)
        elif what < 0.55:
            del chunks[i]
        elif what < 0.65:
            chunks.insert(i, list(dice.choice(chunks)))
        else:
            chunks.insert(min(i, 1) or 1, list(_odd_chunk(dice)))
        if not chunks:
            break
    made = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        check = zlib.crc32(kind + body) ^ (dice.random() < 0.05)
        made += len(body).to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")
    return made


def _odd_chunk(dice: random.Random) -> tuple[bytes, bytes]:
    text = zlib.compress(b"a" * dice.choice((5, 10**6)))
    orientation = dice.choice((0, 1, 3, 6, 8, 9, 65535))
    tiff = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + struct.pack("<HHI", orientation, 0, 0)
    return dice.choice(
        (
            *((b"PLTE", b"\1\2\3" * dice.choice((1, 256, 257))), (b"PLTE", b"\1"), (b"tRNS", b"")),
            *((b"tRNS", b"\0\1\0\1\0\1"), (b"tRNS", b"\0" * 300), (b"zTXt", b"k\0\0" + text)),
            *(
                (b"iTXt", b"k\0\1\0\0\0" + text),
                (b"tEXt", b"k\0\x1b[2J"),
                (b"iCCP", b"p\0\0" + text),
            ),
            *(
                (b"eXIf", tiff),
                (b"eXIf", damaged(tiff, dice)),
                (b"eXIf", b""),
                (b"gAMA", b"\0" * 4),
            ),
            *((b"acTL", b"\xff" * 8), (b"fcTL", b"\0" * 26), (b"fdAT", b""), (b"pHYs", b"\0")),
            *(
                (b"cHRM", b"\0" * 32),
                (b"sRGB", b""),
                (b"IEND", b""),
                (b"IDAT", b""),
                (b"\0\0\0\0", b""),
            ),
        )
    )


def riff(content: bytes, dice: random.Random) -> bytes:
    """Return a WAV file of which a number of the head, or a chunk, is odd."""
    what = dice.random()
    if what < 0.3:
        return damaged(content, dice)
    altered = bytearray(content)
    at, size = dice.choice(
        ((4, 4), (16, 4), (20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2), (40, 4))
    )
    number = dice.choice((0, 1, 2, 3, 4, 8, 16, 17, 24, 64, 1024, 0xFFFE, 0xFFFF, 2**31, 2**32 - 1))
    altered[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    if what < 0.5:
        more = dice.choice(
            (b"LIST\4\0\0\0INFO", b"fact\0\0\0\0", b"junk\xff\xff\xff\xff", b"data\0\0\0\0")
        )
        altered[36:36] = more
    return bytes(altered)


def nifti(content: bytes, head: np.dtype[Any], dice: random.Random, *, packed: bool) -> bytes:
    """Return a NIfTI file of which a field of the head is odd."""
    altered = bytearray(content)
    if dice.random() < 0.15:
        altered = bytearray(damaged(content, dice))
    else:
        for _ in range(dice.choice((1, 1, 2))):
            assert head.names
            names = [*head.names, *("dim", "datatype", "bitpix", "vox_offset", "scl_slope") * 4]
            kind, at = head.fields[dice.choice(names)][:2]  # type: ignore[index]
            base = kind.base
            at += base.itemsize * dice.randrange(int(np.prod(kind.shape or (1,))))
            with np.errstate(all="ignore"):
                if base.kind == "f":
                    number = np.array(dice.choice(_ODD)).astype(base).tobytes()
                elif base.kind in "iu":
                    of = (0, 1, 2, 3, 4, 5, 8, 16, 32, 64, 128, 256, 1024, 2304, -1, 32767, -32768)
                    number = np.array(dice.choice(of)).astype(base).tobytes()
                else:
                    number = dice.randbytes(base.itemsize)
            altered[at : at + len(number)] = number
    if not packed:
        return bytes(altered)
    made = gzip.compress(bytes(altered), mtime=0)
    return dice.choice((made, made, made, made[:-6], damaged(made, dice), bytes(altered)))


def ply(content: bytes, dice: random.Random) -> bytes:
    """Return a PLY file of which the head, or the rest, is odd."""
    head, mark, rest = content.partition(b"end_header\n")
    what = dice.random()
    if what < 0.75:
        more = (
            b"property list uchar int i\n",
            b"element face 3\n",
            b"comment \x1b[2J\n",
            b"obj_info\n",
        )
        if what < 0.2:
            lines = head.splitlines(keepends=True)
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(more))
            head = b"".join(lines)
        else:
            head = reworded(head, dice)
        return head + mark + rest
    return head + mark + (reworded if b"ascii" in head else damaged)(rest, dice)


#: Mutations by the end of a name, of files of which the content alone is needed.
BY_SUFFIX: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    ".png": png,
    ".wav": riff,
    ".ply": ply,
    ".xyz": reworded,
    ".fasta": reworded,
    ".txt": reworded,
    ".pgm": reworded,
}
