"""What DATA name: which kind of file it is, and its arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from onnx_geed.copies import read_by_copy
from onnx_geed.data.array_files import is_idx, open_idx, open_npy
from onnx_geed.data.fetched import fetched, rows_told
from onnx_geed.data.folders import one_file
from onnx_geed.data.functions import result_of, rows_of_function
from onnx_geed.data.named_arrays import (
    Asked,
    names_of_hdf5,
    names_of_npz,
    open_hdf5,
    open_npz,
)
from onnx_geed.data.rows import Rows, reading
from onnx_geed.errors import GeedError, nearest
from onnx_geed.held import ALLOWED
from onnx_geed.ordinary import check_ordinary, open_ordinary

__all__ = ["names_in", "open_rows"]

_FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".gz")


_KINDS = (
    "a folder (images, recordings, volumes, points, .npy), .npy, .npz, file.h5:/dataset, .fasta, "
    "an idx file, or module:function"
)


@read_by_copy(fetched, rows_told)
def open_rows(
    text: str,
    *,
    option: str = "--data",
    labels: bool = False,
    name: str | None = None,
    allowed: int = ALLOWED,
    others: Mapping[str, bool] = MappingProxyType({}),
) -> Rows:
    r"""Open an array by what the command line calls it.

    A file of that very name comes first; then ``FILE:KEY``, where FILE is there; then
    ``module:function``. So neither a Windows drive (``C:\x.npy``) nor a colon inside a dataset's
    name is mistaken for a module.

    Parameters
    ----------
    text : str
        File, ``FILE:KEY``, their address, or ``module:function``.
    option : str
        The option that it was given to, for messages.
    labels : bool
        Whether labels are wanted, where a file holds both.
    name : str, optional
        The input of the model that it is for: where there are several arrays and none is named,
        the one of this name is taken.
    allowed : int
        Bytes that may be held of it at once.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name.

    Returns
    -------
    Rows

    Raises
    ------
    GeedError
        If there is nothing of that name.
        If it is of an unknown kind, damaged, or holds pickled objects.
        If it is a pipe, a device or a socket.
        If it holds several arrays and none is named.
        If it is packed, and takes more memory than is allowed.
        If the function cannot be imported, or fails.
    """
    where = f"{option} {text}"
    asked = Asked(where, name=name, labels=labels, allowed=allowed, others=others)
    path, key, call = _located(text)
    if path is not None:
        return _open_file(path, replace(asked, key=key))
    if call is not None:
        return rows_of_function(*call, asked)
    # What stands before a colon is the file, unless that is a Windows drive.
    file = Path(re.sub(r"(?<=..):[^:]*$", "", text))
    if os.path.isdir(file):
        raise GeedError(f"{where}: {file} is a folder, not a file with named arrays")
    check_ordinary(file, where)
    try:
        beside = os.listdir(file.parent)
    except (OSError, ValueError):
        raise GeedError(
            f"{where}: no such file or folder, and its parent folder does not exist either"
        ) from None
    near = nearest(file.name, beside)
    raise GeedError(f"{where}: no such file or folder; give {_KINDS}.{near}")


@read_by_copy(fetched)
def names_in(text: str) -> tuple[str, ...]:
    """Return the names of the arrays that DATA hold; none where they are one, or not there.

    Raises
    ------
    GeedError
        If they are damaged.
        If a function cannot be imported, or fails.
    """
    where = f"--data {text}"
    path, key, call = _located(text)
    if call is not None:
        made, _ = result_of(*call, where)
        return tuple(made) if isinstance(made, Mapping) else ()
    if path is None:
        return ()
    with reading(where):
        with open_ordinary(path, where) as file:
            head = file.read(8)
        if head.startswith(b"PK"):
            return () if key else tuple(names_of_npz(path))
        return tuple(names_of_hdf5(path, key)) if _is_hdf5(path, head) else ()


def _located(text: str) -> tuple[Path | None, str | None, tuple[str, str] | None]:
    """Return a file that is there and the key behind it, or else module and function."""
    if os.path.isfile(text):
        return Path(text), None, None
    for colon in reversed([m.start() for m in re.finditer(":", text)]):
        if os.path.isfile(text[:colon]):
            return Path(text[:colon]), text[colon + 1 :], None
    call = re.fullmatch(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)", text)
    if call and not any(part.lower().endswith(_FILES) for part in call.groups()):
        return None, None, (call[1], call[2])
    return None, None, None


def _is_hdf5(path: Path, head: bytes) -> bool:
    return head == b"\x89HDF\r\n\x1a\n" or path.suffix.lower() in (".h5", ".hdf5", ".hdf")


def _open_file(path: Path, asked: Asked) -> Rows:
    """Open a file by its first bytes, since names lie; by its name where they say nothing."""
    suffix, where, key = path.suffix.lower(), asked.where, asked.key
    with reading(where):
        with open_ordinary(path, where) as file:
            head = file.read(8)
        if not head:
            raise GeedError(f"{where}: the file is empty")
        if head.startswith(b"PK"):
            return open_npz(path, asked)
        if _is_hdf5(path, head):
            return open_hdf5(path, asked)
        if key is not None:
            raise GeedError(f"{where}: {path} has no named parts; leave out ':{key}'")
        if head.startswith(b"\x93NUMPY"):
            return open_npy(path)
        one = one_file(path)
        if not one and (head.startswith(b"\x1f\x8b") or is_idx(head)):
            return open_idx(path, head.startswith(b"\x1f\x8b"), where, asked.allowed)
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        raise GeedError(
            f"{where}: pickled Python objects are refused, since reading them can run any program; "
            "save plain arrays with numpy.save"
        )
    if one:
        raise GeedError(f"{where}: is {one}; give the folder that holds it, {path.parent}")
    if suffix in _FILES:
        raise GeedError(
            f"{where}: its content is not a {suffix} file: damaged, or renamed; write it again"
        )
    raise GeedError(f"{where}: files of this kind cannot be read; give {_KINDS}")
