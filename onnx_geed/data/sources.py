"""Arrays in files and from functions, read sample by sample where the format allows it."""

from __future__ import annotations

import gzip
import importlib
import math
import os
import re
import struct
import sys
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.images import SUFFIXES
from onnx_geed.errors import GeedError, nearest
from onnx_geed.files import Stamp, stamp

__all__ = ["Rows", "open_rows", "rows_of", "shape_text"]

_ARRAYS = ("x", "images", "data", "samples", "inputs")


_LABELS = ("y", "labels", "label", "targets")


_FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".gz")


_KINDS = "an image folder, .npy, .npz, file.h5:/dataset, an idx file, or module:function"


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


# Of an array in Fortran's order, read at once.
_BLOCK = 16 << 20


_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, OverflowError, MemoryError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


@dataclass(frozen=True, eq=False)
class Rows:
    """An array whose samples are read when they are asked for.

    Parameters
    ----------
    shape : tuple of int
        Of the whole array.
    dtype : numpy dtype
        Of its values.
    read : callable
        Takes an index, or ``...`` for all.
    labels : array_like, optional
        The array beside it that has a name for labels, one for each sample.
    files : callable
        Returns the files that samples are read from, as they were when they were opened.
    close : callable
        Lets go of them; no sample can be read after that.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Any], NDArray[Any]]
    labels: Any = None
    files: Callable[[], Sequence[Stamp]] = tuple
    close: Callable[[], None] = lambda: None


def rows_of(array: Any, labels: Any = None) -> Rows:
    """Return the rows of an array in memory.

    Parameters
    ----------
    array : array_like, shape (N, ...)
        Samples first.
    labels : array_like, shape (N,), optional
        One for each sample.

    Returns
    -------
    Rows
    """
    values = np.asarray(array)
    return Rows(values.shape, values.dtype, values.__getitem__, labels)


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape as messages show it, such as ``3×224×224``."""
    return "×".join("?" if d is None else str(d) for d in shape) or "a single number"


def open_rows(text: str, *, option: str = "--data", labels: bool = False) -> Rows:
    r"""Open an array by what the command line calls it.

    A file of that very name comes first; then ``FILE:KEY``, where FILE is there; then
    ``module:function``. So neither a Windows drive (``C:\x.npy``) nor a colon inside a dataset's
    name is mistaken for a module.

    Parameters
    ----------
    text : str
        File, ``FILE:KEY`` or ``module:function``.
    option : str
        The option that it was given to, for messages.
    labels : bool
        Whether labels are wanted, where a file holds both.

    Returns
    -------
    Rows

    Raises
    ------
    GeedError
        If there is nothing of that name.
        If it is of an unknown kind, damaged, or holds pickled objects.
        If it holds several arrays and none is named.
        If the function cannot be imported, or fails.
    """
    where = f"{option} {text}"
    if os.path.isfile(text):
        return _open_file(Path(text), None, where, labels)
    for colon in reversed([m.start() for m in re.finditer(":", text)]):
        if os.path.isfile(text[:colon]):
            return _open_file(Path(text[:colon]), text[colon + 1 :], where, labels)
    call = re.fullmatch(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)", text)
    if call and not any(part.lower().endswith(_FILES) for part in call.groups()):
        return _rows_of_function(call[1], call[2], where)
    # What stands before a colon is the file, unless that is a Windows drive.
    file = Path(re.sub(r"(?<=..):[^:]*$", "", text))
    if os.path.isdir(file):
        raise GeedError(f"{where}: {file} is a folder, not a file with named arrays")
    try:
        beside = os.listdir(file.parent)
    except (OSError, ValueError):
        raise GeedError(
            f"{where}: no such file or folder, nor is there a folder around it"
        ) from None
    near = nearest(file.name, beside)
    raise GeedError(f"{where}: no such file or folder; give {_KINDS}.{near}")


def _open_file(path: Path, key: str | None, where: str, labels: bool) -> Rows:
    """Open a file by its first bytes, since names lie; by its name where they say nothing."""
    suffix = path.suffix.lower()
    with _reading(where):
        with path.open("rb") as file:
            head = file.read(8)
        if not head:
            raise GeedError(f"{where}: the file is empty")
        if head.startswith(b"PK"):
            return _npz(path, key, where, labels)
        if head == b"\x89HDF\r\n\x1a\n" or suffix in (".h5", ".hdf5", ".hdf"):
            return _hdf5(path, key, where, labels)
        if key is not None:
            raise GeedError(f"{where}: {path} has no named parts; leave out ':{key}'")
        if head.startswith(b"\x93NUMPY"):
            return _npy(path)
        if head.startswith(b"\x1f\x8b") or _is_idx(head):
            return _idx(path, head.startswith(b"\x1f\x8b"), where)
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        raise GeedError(
            f"{where}: pickled Python objects are refused, since reading them can run any program; "
            "save plain arrays with numpy.save"
        )
    if suffix in SUFFIXES:
        raise GeedError(f"{where}: is one image; give the folder that holds it, {path.parent}")
    if suffix in _FILES:
        raise GeedError(f"{where}: not a {suffix} file inside: damaged, or renamed; write it anew")
    raise GeedError(f"{where}: not a kind of file that is read here: {_KINDS}")


@contextmanager
def _reading(where: str, cure: str = "") -> Iterator[None]:
    """Turn every error of reading into one line."""
    try:
        yield
    except _BROKEN as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        if "pickle" in reason.lower() or "objects in dtype" in reason:
            cure = "it holds pickled Python objects, which are refused; save plain numbers"
        elif "filter" in reason.lower():
            cure = "its compression needs a plugin: the package hdf5plugin has many"
        raise GeedError(f"{where}: cannot be read ({reason}); {cure or 'write it anew'}") from None


def _npy(path: Path) -> Rows:
    opened = stamp(path)
    mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    order = "C" if mapped.flags.c_contiguous else "F"
    return _rows_of_file(path, mapped.dtype, mapped.offset, mapped.shape, opened, order)


def _rows_of_file(
    path: Path,
    dtype: np.dtype[Any],
    start: int,
    shape: tuple[int, ...],
    opened: Stamp,
    order: str = "C",
) -> Rows:
    """Return the rows of an array that lies in a file as it is.

    They are read and not mapped: where a mapped file is cut short, the process is killed.
    """
    file = _SharedFile(path)
    inner = math.prod(shape[1:])

    def read(index: Any) -> NDArray[Any]:
        with _reading(f"--data {path}", "the file has changed since it was opened"):
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
    """A file that is opened once, and read from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def values(self, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
        """Return values from a place in the file on."""
        values = np.empty(count, dtype)
        left = values.view(np.uint8).data if values.nbytes else memoryview(b"")
        with self._lock:
            self._file.seek(start)
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise EOFError("it ends too early")
                left = left[got:]
        return values


def _npz(path: Path, key: str | None, where: str, labels: bool) -> Rows:
    with zipfile.ZipFile(path) as file:
        names = [n.removesuffix(".npy") for n in file.namelist() if n.endswith(".npy")]
    if not names:
        raise GeedError(f"{where}: a zip file without arrays in it; numpy.savez writes such files")
    with np.load(path, allow_pickle=False) as archive:
        chosen = _choose(names, key, where, path, labels)
        values = archive[chosen]
        beside = None
        for name in _beside(chosen, names):
            with np.errstate(all="ignore"):
                try:
                    beside = archive[name]
                except _BROKEN:  # not wanted by name: the samples stand without it
                    continue
            break
    return rows_of(values, beside)


def _hdf5(path: Path, key: str | None, where: str, labels: bool) -> Rows:
    import h5py

    opened = [stamp(path)]
    file = h5py.File(path, "r")
    names: list[str] = []
    file.visititems(lambda n, o: names.append(f"/{n}") if isinstance(o, h5py.Dataset) else None)
    # A link is no item of its own, but may be named.
    named = file.get(key) if key else None
    if isinstance(named, h5py.Dataset):
        chosen, data = "/" + str(key).strip("/"), named
    else:
        inside = f"/{key.strip('/')}/" if isinstance(named, h5py.Group) and key else "/"
        within = [n for n in names if n.startswith(inside.replace("//", "/"))]
        wanted = None if not key or isinstance(named, h5py.Group) else f"/{key.strip('/')}"
        chosen = _choose(within or names, wanted, where, path, labels)
        data = file[chosen]
    parts = {Path(data.file.filename), *(path.parent / name for name, _, _ in data.external or ())}
    if data.is_virtual:
        # HDF5 fills the place of a missing file with zeros, and zeros look perfectly equivariant.
        for part in {source.file_name for source in data.virtual_sources()}:
            if part == ".":
                continue
            if "%" in part:
                parts |= set(path.parent.glob(re.sub(r"%\w", "*", part)))
            elif not (path.parent / part).exists():
                raise GeedError(f"{where}: a virtual dataset whose file {part} is missing")
            else:
                parts.add(path.parent / part)
    opened += [stamp(part) for part in sorted(parts - {path})]
    length = _length(data.file)

    def read(index: Any) -> NDArray[Any]:
        with _reading(where):
            values = np.asarray(data[index])
        if _length(data.file) < length:
            # HDF5 reads what lies behind the end of a file as zeros.
            raise GeedError(
                f"{where}: was cut short while it was read; measure data that stay as they are"
            )
        return values

    shape = data.shape or ()
    beside = [file[n] for n in _beside(chosen, names)]
    fits = [d[()] for d in beside if shape and d.shape and d.size == d.shape[0] == shape[0]]

    def close() -> None:
        # Opened anew while it is open, HDF5 would show what it has kept of it, and not the file.
        for one in {data.file, file}:
            one.close()

    return Rows(shape, data.dtype, read, fits[0] if fits else None, lambda: opened, close)


def _length(file: Any) -> int:
    """Bytes of an open HDF5 file, under whatever name it lies by now; 0 where that is not told."""
    try:
        return os.fstat(file.id.get_vfd_handle()).st_size
    except (AttributeError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError):
        return 0


def _choose(names: Sequence[str], key: str | None, where: str, path: Path, labels: bool) -> str:
    """Return the name of the array that is meant: its key, or the only one that it can be."""
    if key in names:
        return str(key)
    held = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if key:
        raise GeedError(
            f"{where}: no array {key!r}; {path.name} holds {held or 'none'}.{nearest(key, names)}"
        )
    if not names:
        raise GeedError(f"{where}: holds no arrays")
    wanted, other = (_LABELS, _ARRAYS) if labels else (_ARRAYS, _LABELS)
    for fit in (
        names,
        [n for n in names if _leaf(n) in wanted],
        [n for n in names if _leaf(n) not in other],
    ):
        if len(fit) == 1:
            return fit[0]
    raise GeedError(f"{where}: which array? It holds {held}: name one, as in {path}:{names[0]}")


def _leaf(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _beside(chosen: str, names: Sequence[str]) -> list[str]:
    """Return names under which an array's labels lie: y beside x, y_test beside x_test."""
    folder, slash, leaf = chosen.rpartition("/")
    start = next((a for a in _ARRAYS if leaf.lower().startswith(a)), leaf)
    places = [f"{folder}{slash}{label}{leaf[len(start) :]}" for label in _LABELS]
    return [p for p in places if p in names and p != chosen]


def _is_idx(head: bytes) -> bool:
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and head[3] > 0


def _idx(path: Path, packed: bool, where: str) -> Rows:
    """Open an idx file: two zeros, a type, a rank, big-endian sizes, values."""
    opened = stamp(path)
    content = gzip.decompress(path.read_bytes()) if packed else b""
    if packed:
        head = content[: 4 + 4 * 255]
    else:
        with path.open("rb") as file:
            head = file.read(4 + 4 * 255)
    if not _is_idx(head):
        raise GeedError(f"{where}: a gzip file, but no idx file in it; unpack it first")
    dtype, start = np.dtype(_IDX_TYPES[head[2]]), 4 + 4 * head[3]
    shape = struct.unpack_from(f">{head[3]}I", head, 4)
    size = len(content) if packed else path.stat().st_size
    needed = start + math.prod(shape) * dtype.itemsize
    if size != needed:
        raise GeedError(
            f"{where}: an idx file of {shape_text(shape)} has {needed} bytes, this one {size}: "
            f"{'cut off' if size < needed else 'damaged'}; fetch it anew"
        )
    if packed:
        return rows_of(np.frombuffer(content, dtype, offset=start).reshape(shape))
    return _rows_of_file(path, dtype, start, shape, opened)


def _rows_of_function(module: str, function: str, where: str) -> Rows:
    """Call a function that makes samples, or samples and labels."""
    try:
        with _importable(os.getcwd()):
            result = _imported(module, function, where)()
        array, labels = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        rows = rows_of(array, labels)
    except GeedError:
        raise
    except ModuleNotFoundError as error:
        raise GeedError(
            f"{where}: no such file, and as module:function it cannot be imported ({error})"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's program raises
        reason = (str(error).strip().splitlines() or [""])[0]
        raise GeedError(
            f"{where}: it raised {type(error).__name__}: {reason}; it takes no arguments and "
            "returns an array, or an array and labels"
        ) from None
    if rows.dtype.kind == "O":
        kind = type(array).__name__
        raise GeedError(f"{where}: returned {kind}, not an array of numbers")
    return replace(rows, labels=labels)


def _imported(module: str, function: str, where: str) -> Callable[[], Any]:
    """Return a user's function."""
    part: Any = importlib.import_module(module)
    for name in function.split("."):
        if not hasattr(part, name):
            raise GeedError(f"{where}: no {name!r} in {module}.{nearest(name, dir(part))}")
        part = getattr(part, name)
    if not callable(part):
        raise GeedError(f"{where}: {function} is no function; write one that returns the array")
    call: Callable[[], Any] = part
    return call


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Find modules in a folder first, as Python does where it is started there.

    Not only while the user's module is imported: its function may import others beside it.
    """
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # which the user's function may have changed
            sys.path.remove(folder)
