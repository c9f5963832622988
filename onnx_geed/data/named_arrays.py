"""Several arrays by name, from ``.npz``, HDF5 or a mapping: which is meant, what lies beside it."""

from __future__ import annotations

import math
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.array_files import PACKED, rows_in_file
from onnx_geed.data.chunks import ChunkCheck
from onnx_geed.data.links import check_links
from onnx_geed.data.ragged import whole as whole_numbers
from onnx_geed.data.rows import Beside, Rows, reading, rows_of, shape_text
from onnx_geed.data.virtual import check_handles, files_of
from onnx_geed.errors import GeedError, nearest, reason_of
from onnx_geed.files import stamp
from onnx_geed.hdf5_trial import try_hdf5
from onnx_geed.held import ALLOWED, array_bytes, array_names, check_held, members_of
from onnx_geed.ordinary import check_ordinary, open_ordinary
from onnx_geed.text import counted
from onnx_geed.whole import whole

__all__ = [
    "Asked",
    "names_of_hdf5",
    "names_of_npz",
    "open_hdf5",
    "open_mapping",
    "open_npz",
]

_ARRAYS = ("x", "images", "data", "samples", "inputs")


_LABELS = ("y", "labels", "label", "targets")


# Groups in groups of HDF5: each is found by its path from the top.
_DEEPEST = 100


# Beside an array of this name, how long each of its samples is.
_LENGTHS = "_lengths"


@dataclass(frozen=True)
class Asked:
    """Which of several arrays is meant.

    Parameters
    ----------
    where : str
        The option and its value, for messages.
    key : str, optional
        The array that the user names, or a group of HDF5 in which it is.
    name : str, optional
        The model's input: an array of that name comes before others.
    labels : bool
        Whether labels are wanted, where both are there.
    allowed : int
        Bytes that may be held of the file at once.
    others : mapping of str to bool
        The model's other inputs, and of each whether its array of that name is read from these
        data. Such an array is neither labels nor what says how long samples are.
    """

    where: str
    key: str | None = None
    name: str | None = None
    labels: bool = False
    allowed: int = ALLOWED
    others: Mapping[str, bool] = field(default_factory=dict)


def open_npz(path: Path, asked: Asked) -> Rows:
    """Open an ``.npz`` file: its array is read as a whole, or in slices where it is not packed.

    Raises
    ------
    GeedError
        If it holds no arrays, or not the one that is meant.
        If the array is packed, and takes more memory than is allowed.
    """
    opened = stamp(path)
    names = names_of_npz(path)
    if not names:
        raise GeedError(
            f"{asked.where}: a zip file without arrays in it; numpy.savez writes such files"
        )
    chosen = _choose(names, asked, path.name, f"{path}:")
    with open_ordinary(path) as file, np.load(file, allow_pickle=False) as archive:
        array = members_of(file, [chosen])[chosen]
        if array.head.size > asked.allowed and not array.packed:
            rows = rows_in_file(path, array.head, opened)
        else:
            check_held(asked.where, array.head.size, asked.allowed, PACKED)
            rows = rows_of(archive[chosen])

        def beside(name: str, count: int | None) -> Any:
            head = members_of(file, [name])[name].head
            _check_one_each(head.shape, count)
            check_held(asked.where, head.size, asked.allowed)
            return archive[name]

        return _with_beside(rows, chosen, names, beside, asked.others)


def names_of_npz(path: Path) -> list[str]:
    """Return the names of the arrays in an ``.npz`` file."""
    with open_ordinary(path) as opened, zipfile.ZipFile(opened) as file:
        return array_names(file)


def open_mapping(arrays: Mapping[str, Any], asked: Asked, where: str) -> Rows:
    """Return the rows of one of several arrays in memory; ``where`` is what holds them."""
    names = [str(name) for name in arrays]
    chosen = _choose(names, asked, where, "")
    rows = rows_of(arrays[chosen])
    return _with_beside(rows, chosen, names, lambda name, _: arrays[name], asked.others)


def open_hdf5(path: Path, asked: Asked) -> Rows:
    """Open a dataset of an HDF5 file, whose samples are read one by one.

    Raises
    ------
    GeedError
        If it holds no arrays, or not the one that is meant.
        If parts of it that lie in other files or datasets are missing.
    """
    with whole():
        import h5py

    where, key, opened = asked.where, asked.key, [stamp(path)]
    check_ordinary(path, where)
    try_hdf5([path])
    file = h5py.File(path, "r")
    names = _datasets(file)
    # A link is no item of its own, but may be named.
    check_links(file, key or "", where)
    named = file.get(key) if key else None
    if isinstance(named, h5py.Dataset):
        chosen, data = "/" + str(key).strip("/"), named
    else:
        group = isinstance(named, h5py.Group)
        inside = f"/{key.strip('/')}/" if group and key else "/"
        inside = inside.replace("//", "/")
        within = [n for n in names if n.startswith(inside)]
        wanted = None if not key or group else f"/{key.strip('/')}"
        called = None if asked.name is None else inside + asked.name.strip("/")
        there = replace(asked, key=wanted, name=called)
        chosen = _choose(within or names, there, path.name, f"{path}:")
        data = file[chosen]
    folder = chosen.rpartition("/")[0] if isinstance(named, h5py.Dataset) else inside.rstrip("/")
    others = {f"{folder}/{name.strip('/')}": read for name, read in asked.others.items()}
    chunks = ChunkCheck(data, where, asked.allowed)
    parts = files_of(data, where)
    if len(parts) > 1:
        check_handles(where, path, len(parts))
    opened += [stamp(part) for part in sorted(parts - {path})]
    length = _length(data.file)

    def read(index: Any) -> NDArray[Any]:
        with reading(where):
            chunks.check(index)
            values = np.asarray(data[index])
            if len(parts) > 1:
                check_handles(where, path)
        if _length(data.file) < length:
            # HDF5 reads what lies behind the end of a file as zeros.
            raise GeedError(
                f"{where}: was cut short while it was read; measure data that do not change"
            )
        return values

    def close() -> None:
        # Opened anew while it is open, HDF5 would show what it has kept of it, and not the file.
        for one in {data.file, file}:
            one.close()

    rows = Rows(data.shape or (), data.dtype, read, files=lambda: opened, close=close)

    def beside(name: str, count: int | None) -> Any:
        one = file[name]
        _check_one_each(one.shape or (), count)
        check_held(where, array_bytes(one.shape or (), one.dtype), asked.allowed)
        ChunkCheck(one, where, asked.allowed).check(...)
        return one[()]

    return _with_beside(rows, chosen, names, beside, others)


def names_of_hdf5(path: Path, key: str | None) -> list[str]:
    """Return the paths of the datasets in an HDF5 file, as seen from a group of it."""
    with whole():
        import h5py

    check_ordinary(path)
    try_hdf5([path])
    with h5py.File(path, "r") as file:
        check_links(file, key or "", str(path))
        named = file.get(key) if key else file
        return [n[1:] for n in _datasets(named)] if isinstance(named, h5py.Group) else []


def _datasets(group: Any) -> list[str]:
    with whole():
        import h5py

    names: list[str] = []

    def note(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(f"/{name}")
        return True if name.count("/") > _DEEPEST else None

    if group.visititems(note):
        raise ValueError(f"its groups are nested more than {_DEEPEST} deep")
    return names


def _length(file: Any) -> int:
    """Bytes of an open HDF5 file, under whatever name it lies by now; 0 where that is not told."""
    try:
        return os.fstat(file.id.get_vfd_handle()).st_size
    except (AttributeError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError):
        return 0


def _choose(names: Sequence[str], asked: Asked, holder: str, prefix: str) -> str:
    """Return the name of the array that is meant: its key, or the only one that it can be."""
    where, key = asked.where, asked.key
    if key in names:
        return str(key)
    held = _listed(names)
    if key:
        raise GeedError(
            f"{where}: no array {key!r}; {holder} holds {held or 'none'}.{nearest(key, names)}"
        )
    if not names:
        raise GeedError(f"{where}: holds no arrays")
    small = Counter(name.lower() for name in names)
    if asked.name in names and not asked.labels and small[str(asked.name).lower()] == 1:
        return str(asked.name)
    # What says how long samples are is none itself.
    lengths = {f"{name}{_LENGTHS}" for name in names}
    arrays = [name for name in names if name not in lengths]
    wanted, other = (_LABELS, _ARRAYS) if asked.labels else (_ARRAYS, _LABELS)
    for fit in (
        arrays,
        [n for n in arrays if _leaf(n) in wanted],
        [n for n in arrays if _leaf(n) not in other],
    ):
        if len(fit) == 1:
            return fit[0]
    called = f", the model's input is {asked.name}" if asked.name else ""
    near = nearest(asked.name, names) if asked.name else ""
    raise GeedError(
        f"{where}: which array? It holds {held}{called}: name one, as in {prefix}{names[0]}.{near}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _leaf(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _with_beside(
    rows: Rows,
    chosen: str,
    names: Sequence[str],
    read: Callable[[str, int | None], Any],
    others: Mapping[str, bool],
) -> Rows:
    """Add the labels and lengths that lie beside an array.

    ``read`` takes a name and how many values are wanted, if that is known. Labels are not asked for
    by name: the samples stand without what cannot be read of them.
    """
    if (name := f"{chosen}{_LENGTHS}") in names:
        lengths = read(name, None)
        if name not in others or _tell_samples(lengths, rows):
            rows = replace(rows, lengths=lengths)
    unread = None
    for name in _beside(chosen, [n for n in names if not others.get(n)]):
        try:
            with np.errstate(all="ignore"):
                return replace(rows, labels=Beside(name, read(name, rows.count)))
        except Exception as error:
            unread = unread or Beside(name, fault=_fault_of(error))
    return replace(rows, labels=unread)


def _tell_samples(lengths: Any, rows: Rows) -> bool:
    """Whether lengths, which an input takes too, are those of samples one behind the other.

    Where there is one for each row, these are the samples, and padded: as models of speech have
    them.
    """
    each, total = whole_numbers(lengths), rows.shape[0] if rows.shape else 0
    if each is None or len(each) in (1, total):
        return False
    return total in (each.sum(), (each**2).sum())


class _NotOneEach(Exception):
    """An array that is no list of labels, and why."""


def _check_one_each(shape: Sequence[int], count: int | None) -> None:
    if count is not None and not (shape and math.prod(shape) == shape[0] == count):
        raise _NotOneEach(f"{shape_text(shape)} labels for {counted(count, 'sample')}")


def _fault_of(error: Exception) -> str:
    if isinstance(error, _NotOneEach):
        return str(error)
    return f"cannot be read ({reason_of(error)})"


def _beside(chosen: str, names: Sequence[str]) -> list[str]:
    """Return names under which an array's labels lie: y beside x, y_test beside x_test."""
    folder, slash, leaf = chosen.rpartition("/")
    start = next((a for a in _ARRAYS if leaf.lower().startswith(a)), leaf)
    rest = leaf[len(start) :]
    places = [f"{folder}{slash}{label}{rest}" for label in _LABELS]
    if rest[:1].isalpha():  # xtrain has ytrain, but xyz is a name of its own
        places += [f"{folder}{slash}{label}" for label in _LABELS]
    return [p for p in places if p in names and p != chosen]
