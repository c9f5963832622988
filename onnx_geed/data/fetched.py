"""Data at addresses, read by their copies on this disk."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_geed.addresses import address_of, close_names, kind_of, opened
from onnx_geed.copies import Copy, copy_file, copy_folder
from onnx_geed.data.paths import is_kind, kinds_held
from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    from onnx_geed.data.rows import Rows

__all__ = ["fetched", "is_folder", "rows_told"]


def fetched(address: str) -> Copy:
    """Fetch data: a file, ``FILE:KEY`` or the samples of a folder.

    Parameters
    ----------
    address : str
        Where they are.

    Returns
    -------
    Copy

    Raises
    ------
    GeedError
        If there is nothing, with close names, or it cannot be fetched.
        If a folder holds no files that are samples.
    """
    system, path = opened(address)
    kind = kind_of(address, system, path)
    if kind == "folder":
        return _folder(address)
    if kind == "file":
        return copy_file(address)
    for colon in reversed([m.start() for m in re.finditer(":", address)]):
        file, key = address[:colon], address[colon:]
        # Neither the colon of the scheme nor that of a port.
        if file.count("/") < 3 or not address_of(file):
            break
        there, place = opened(file)
        if kind_of(file, there, place) == "file":
            return replace(copy_file(file), key=key)
    near = close_names(system, re.sub(r":/?[^/:]*$", "", path))
    raise GeedError(f"{address}: there is no such object, file or folder.{near}")


def _folder(address: str) -> Copy:
    from onnx_geed.data.folders import KINDS

    suffixes = [suffix for kind in KINDS for suffix in kind.suffixes]
    copy, names = copy_folder(address, lambda name: is_kind(name, suffixes))
    if names and not any(is_kind(name, suffixes) for name in names):
        raise GeedError(
            f"{address}: no samples in the folder (files of samples end in "
            f"{', '.join(suffixes)}); {kinds_held(names)}"
        )
    return copy


def is_folder(source: object) -> bool:
    """Say whether data are a folder, on this disk or at an address.

    Raises
    ------
    GeedError
        If an address cannot be asked.
    """
    if (address := address_of(source)) is not None:
        system, path = opened(address)
        return kind_of(address, system, path) == "folder"
    return isinstance(source, (str, Path)) and os.path.isdir(source)


def rows_told(rows: Rows, copy: Copy) -> Rows:
    """Return rows that tell their errors by the address that was given."""
    read: Any = copy.reader(rows.read)
    return replace(rows, read=read)
