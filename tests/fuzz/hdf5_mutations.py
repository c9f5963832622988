"""Mutations of HDF5 files that know their structure: objects, types, shapes, links and filters."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from byte_mutations import damaged
from hdf5_bytes import restructured

from onnx_geed.cache import shard_file

#: A file that external links and virtual datasets name, beside the one that is changed.
BESIDE = "beside.h5"

_NAMES = ("x", "y", "orbits", "samples", "manifest", "orbits/0", "reference/0", "between/0", "a b")
_NAMES += ("x_lengths", "labels", "\x1b[2J", "\u202e", "n" * 2000, "..", "0", "-1")

_TEXTS = ("", "x", "e", "onnx-geed/cache", "\x1b[2J", "a\nb", "9" * 5000, "é", "activations")

_DTYPES: tuple[Any, ...] = (
    *("<f4", "<f8", ">f4", "<f2", "i1", "<i8", ">u8", "?", "<c16", "S5", "V8"),
    h5py.string_dtype(),
    h5py.string_dtype("ascii", 7),
    h5py.vlen_dtype(np.float32),
    h5py.ref_dtype,
    h5py.enum_dtype({"A": 0, "B": 7}, "i4"),
    np.dtype([("a", "<f4"), ("b", "<i8", (2,))]),
    np.dtype(("<f4", (3,))),
)

_FILTERS: tuple[dict[str, Any], ...] = (
    *({"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}),
    *({"scaleoffset": 3}, {"compression": "gzip", "shuffle": True, "fletcher32": True}),
)


_CHANGES = ("value", "value", "dtype", "dtype", "shape", "shape", "chunks", "filter", "external")
_CHANGES += ("virtual", "virtual", "direct", "fill", "resize", "other")


def changed(content: bytes, dice: random.Random) -> bytes:
    """Return an HDF5 file of which a few objects are changed."""
    seed = dice.random()
    return _by_another(lambda: _changed(content, random.Random(seed))) or content


def _changed(content: bytes, dice: random.Random) -> bytes:
    made = io.BytesIO(content)
    with np.errstate(all="ignore"), h5py.File(made, "r+") as file:
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            # What HDF5 does not write, nobody can give.
            with contextlib.suppress(Exception):
                _change(file, dice)
    return made.getvalue()


def _by_another(make: Callable[[], bytes]) -> bytes:
    """Return what another process makes; nothing where HDF5 ends it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException), open(writing, "wb") as pipe:
            signal.alarm(10)
            pipe.write(make())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        made = pipe.read()
    _, status = os.waitpid(child, 0)
    return b"" if status else made


def sealed(content: bytes) -> bytes:
    """Return the content of a file of a cache with a seal, as the package makes them."""
    return content + shard_file.seal(memoryview(content), [])


def unsealed(content: bytes) -> bytes:
    """Return a file of a cache without its seal."""
    length = int.from_bytes(content[-16:-8], "little")
    return content[: -48 - length]


def shard(content: bytes, dice: random.Random) -> bytes:
    """Return a file of a cache that is changed, nine times of ten with a seal that is right."""
    bare = unsealed(content)
    what = dice.random()
    if what < 0.05:
        return damaged(content, dice)
    if what < 0.3:
        return sealed(dice.choice((damaged, restructured, restructured))(bare, dice))
    made = odd = changed(bare, dice)
    if what < 0.5:
        made = _by_another(lambda: _with_sum(odd)) or odd
    return made + content[len(bare) :] if what > 0.95 else sealed(made)


def _with_sum(content: bytes) -> bytes:
    """Return a file of a cache whose attributes have the sum that the package makes of them."""
    made = io.BytesIO(content)
    with contextlib.suppress(Exception), h5py.File(made, "r+") as file:
        attributes = {k: v for k, v in file.attrs.items() if k != "sha256"}
        text = file["manifest"][()].tobytes().decode()
        file.attrs["sha256"] = shard_file._attribute_hash(attributes, text)
    return made.getvalue()


def _objects(file: h5py.File) -> list[str]:
    names = ["/"]
    file.visit(names.append)
    # Names of links too, of which a visit tells none.
    return names + [n for n in file if n not in names]


def _change(file: h5py.File, dice: random.Random) -> None:
    names = _objects(file)
    name = dice.choice(names)
    one = file.get(name)
    what = dice.random()
    if what < 0.3:
        held = [n for n in names if file.get(n) is not None and len(file[n].attrs)]
        _change_attribute(file[dice.choice(held or ["/"])], dice)
    elif isinstance(one, h5py.Dataset) and what < 0.85:
        _change_dataset(file, name, dice)
    elif name != "/" and what < 0.92:
        _change_link(file, name, names, dice)
    else:
        new = dice.choice(_NAMES)
        dice.choice(
            (
                lambda: file.create_group(new),
                lambda: file.create_dataset(new, data=_values((2, 3), dice)),
                lambda: file.create_dataset(new, data=h5py.Empty("f4")),
            )
        )()


def _change_attribute(one: Any, dice: random.Random) -> None:
    name = dice.choice([*one.attrs, *one.attrs, "tensor", "content", "version", "format"])
    value = dice.choice(
        (
            *(dice.choice(_TEXTS), dice.choice(_TEXTS).encode(), dice.choice(_NAMES)),
            *(0, 1, 2, -1, 1.5, np.nan, 2**63, 10**9, True, h5py.Empty("i4")),
            *(np.arange(3), np.zeros((2, 2)), np.array(["a", "b"], dtype="S1"), np.void(b"\0a")),
            *(_values((dice.choice((0, 1, 5)),), dice), np.int8(1), np.uint64(2**64 - 1)),
        )
    )
    if dice.random() < 0.2:
        del one.attrs[name]
    else:
        one.attrs[name] = value


def _values(shape: tuple[int, ...], dice: random.Random) -> Any:
    numbers = np.random.default_rng(dice.randrange(1 << 30)).random(shape)
    return numbers.astype(dice.choice(("<f4", "<f4", "<f8", "<i8", "u1", "<f2", "?")))


def _change_dataset(file: h5py.File, name: str, dice: random.Random) -> None:
    old = file[name]
    attributes, values, shape, dtype = dict(old.attrs), old[()], old.shape or (), old.dtype
    chunked = old.chunks
    what = dice.choice(_CHANGES)
    if what == "direct" and old.chunks:
        size = int(np.prod(old.chunks)) * dtype.itemsize
        raw = dice.randbytes(max(0, size + dice.choice((0, 4, 4, -1, 100))))
        old.id.write_direct_chunk((0,) * len(shape), raw, dice.choice((0, 0, 1, 255)))
        return
    if what == "value" and shape and dtype.kind in "iuf" and values.size:
        at = tuple(dice.randrange(n) for n in shape)
        odd = (np.nan, np.inf, -1, 0, 1e38, 255) if dtype.kind == "f" else (0, 1, 127, 99)
        values[at] = np.asarray(dice.choice(odd)).astype(dtype)
        old[...] = values
        return
    del file[name]
    if what == "dtype":
        dtype = dice.choice(_DTYPES)
        made = file.create_dataset(name, shape, dtype, chunks=chunked)
        with contextlib.suppress(Exception):
            made[...] = values
    elif what == "shape":
        other = _other_shape(shape, dice)
        chunks = dice.choice((None, tuple(max(n, 1) for n in other), True)) if other else None
        made = file.create_dataset(name, other, dtype, chunks=chunks)
        with contextlib.suppress(Exception):
            made[...] = np.resize(values, other)
    elif what == "external":
        beside = dice.choice((BESIDE, "missing.bin", "model.onnx", "/dev/null", "../x", ""))
        made = file.create_dataset(
            name, shape, dtype, external=[(beside, dice.choice((0, 8, 10**6)), h5py.h5f.UNLIMITED)]
        )
    elif what == "virtual":
        made = file.create_virtual_dataset(
            name,
            _layout_of(file, name, shape, dtype, dice),
            fillvalue=dice.choice((0, 1)),
        )
    elif what == "chunks":
        other = tuple(dice.choice((1, max(1, n), max(1, n // 2), n + 3)) for n in shape)
        grown = tuple(None for _ in shape)
        made = file.create_dataset(name, data=values, chunks=other, maxshape=grown)
    elif what == "filter":
        made = file.create_dataset(
            name, data=values, chunks=chunked or True, **dice.choice(_FILTERS)
        )
    elif what == "fill":
        made = file.create_dataset(name, shape, dtype, chunks=chunked, fillvalue=1)
    elif what == "resize":
        made = file.create_dataset(name, data=values, chunks=True, maxshape=(None,) * len(shape))
        made.resize(tuple(dice.choice((n, n + 1, max(n - 1, 0), 1000)) for n in shape))
    else:
        made = file.create_dataset(name, data=dice.choice((h5py.Empty("f4"), 5, "text", values)))
    if dice.random() < 0.9:
        for key, value in attributes.items():
            made.attrs[key] = value


def _other_shape(shape: tuple[int, ...], dice: random.Random) -> tuple[int, ...]:
    at = dice.randrange(len(shape) + 1)
    return dice.choice(
        (
            *((), (0,), (1,), shape[::-1], shape[1:], (1, *shape), (*shape, 1)),
            tuple(n + (i == at) for i, n in enumerate(shape)),
            tuple(n - (i == at and n > 0) for i, n in enumerate(shape)),
            tuple(0 if i == at else n for i, n in enumerate(shape)),
            (*shape, *([1] * (31 - len(shape)))),
        )
    )


def _layout_of(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, dice: random.Random
) -> h5py.VirtualLayout:
    """Return a virtual dataset's layout: of others, of itself, of what is missing or of part."""
    layout = h5py.VirtualLayout(shape, dtype)
    source = dice.choice((".", BESIDE, "missing.h5", "x%b.h5", "model.onnx", "beside%%.h5"))
    inner = dice.choice((name, "x", "y", "missing", "x%b", "/"))
    taken = h5py.VirtualSource(
        source, inner, dice.choice((shape, shape, _other_shape(shape, dice)))
    )
    rows = max(1, (shape or (1,))[0] - dice.choice((0, 0, 1)))
    layout[:rows] = taken[:rows]
    return layout


def _change_link(file: h5py.File, name: str, names: list[str], dice: random.Random) -> None:
    what, other = dice.random(), dice.choice(names)
    if what < 0.15:
        file.move(name, dice.choice(_NAMES))
        return
    if what < 0.3:
        file.copy(name, dice.choice(_NAMES))
        return
    del file[name]
    if what < 0.45:
        return
    file[name] = dice.choice(
        (
            *(h5py.SoftLink("/" + other), h5py.SoftLink(name), h5py.SoftLink("/missing")),
            *(h5py.ExternalLink(BESIDE, "/x"), h5py.ExternalLink("missing.h5", "/x")),
            *(h5py.ExternalLink("mutated.h5", name), h5py.ExternalLink("/dev/null", "/")),
            *(file, file.get(other, file), np.dtype("f4")),
        )
    )
