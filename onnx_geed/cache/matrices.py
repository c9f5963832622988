"""Given output actions of a cache: index tables in its manifest, matrices in a file beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.files import replacing
from onnx_geed.groups import Table, table_content, table_of
from onnx_geed.held import ALLOWED, check_held, members_of
from onnx_geed.json_text import parse_json
from onnx_geed.ordinary import check_ordinary, open_ordinary
from onnx_geed.typed_json import Count, Length, check_json

__all__ = [
    "MATRICES",
    "has_matrices",
    "matrices_bytes",
    "read_tables",
    "texts_of",
    "write_matrices",
]

#: The file of the matrices, an archive with an array a digest: a manifest stands in every shard.
MATRICES = "matrices.npz"


F64 = NDArray[np.float64]


# What to do about a manifest whose tables are none.
_AGAIN = "write the cache again"


class Kept(TypedDict):
    """What a manifest keeps of matrices that stand in the file."""

    shape: Annotated[list[Count], Length(3, 3)]
    sha256: str


def texts_of(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return tables as a manifest keeps them, by tensor: as JSON, of matrices shape and digest."""
    texts = {}
    for name, table in sorted(tables.items()):
        content = table_content(table)
        kept = _kept(table.values) if table.holds_matrices else table.values.tolist()
        texts[name] = json.dumps(content | {table.kind: kept})
    return texts


def write_matrices(folder: Path, tables: Mapping[str, Table], texts: Mapping[str, str]) -> None:
    """Write the matrices of some tables, unless they stand there whole.

    Parameters
    ----------
    folder : Path
        The cache.
    tables : mapping of str to Table
        By tensor.
    texts : mapping of str to str
        As :func:`texts_of` returns them.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    if has_matrices(folder, texts):
        return
    arrays = {kept["sha256"]: tables[name].values for name, kept in _named(texts).items()}
    try:
        with replacing(folder / MATRICES, folder / f".unfinished-{MATRICES}") as file:
            np.savez(file, **arrays)  # NumPy 2.0 would keep other options as arrays
    except OSError as error:
        raise GeedError(
            f"cache {folder}: writing {MATRICES} failed ({error.strerror or error}); make room and "
            "run the same command again"
        ) from None


def has_matrices(folder: Path, texts: Mapping[str, str]) -> bool:
    """Say whether the matrices that a manifest names are all there and whole."""
    try:
        read_tables(folder, texts)
    except GeedError:
        return False
    return True


def matrices_bytes(texts: Mapping[str, str]) -> int:
    """Return the size of the matrices that a manifest names."""
    return sum(8 * int(np.prod(kept["shape"])) for kept in _named(texts).values())


def read_tables(folder: Path, texts: Mapping[str, str]) -> dict[str, Table]:
    """Read the tables of a cache.

    Parameters
    ----------
    folder : Path
        The cache.
    texts : mapping of str to str
        As its manifest keeps them, by tensor; earlier versions kept matrices there too.

    Returns
    -------
    dict of str to Table

    Raises
    ------
    GeedError
        If matrices are missing or damaged.
    """
    named = _named(texts)
    arrays = _read(folder, {kept["sha256"]: kept["shape"] for kept in named.values()})
    tables = {}
    for name, content in _contents(texts).items():
        if name in named:
            content[_kind(content)] = arrays[named[name]["sha256"]]
        tables[name] = table_of(content, f"cache, {name}")
    return tables


def _kind(content: Mapping[str, Any]) -> str:
    return "channel_matrices" if "channel_matrices" in content else "matrices"


def _contents(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    contents: dict[str, dict[str, Any]] = {}
    for name, text in texts.items():
        source = f"cache, table of {shown(name)}"
        contents[name] = parse_json(text, source)
        check_json(contents[name], dict[str, Any], source, _AGAIN)
    return contents


def _named(texts: Mapping[str, str]) -> dict[str, Kept]:
    """Return shape and digest of each tensor's matrices that are kept in the file."""
    kept = {name: content.get(_kind(content)) for name, content in _contents(texts).items()}
    named = {name: entry for name, entry in kept.items() if isinstance(entry, dict)}
    for name, entry in named.items():
        check_json(entry, Kept, f"cache, table of {shown(name)}", _AGAIN)
    return cast(dict[str, Kept], named)


def _kept(values: F64) -> dict[str, Any]:
    array = np.ascontiguousarray(values, dtype="<f8")
    return {"shape": list(array.shape), "sha256": hashlib.sha256(array.data).hexdigest()}


def _read(folder: Path, shapes: Mapping[str, list[int]]) -> dict[str, F64]:
    """Return arrays by their digest, each of them verified."""
    path, again = folder / MATRICES, "run the same onnx-geed cache command again to make it"
    if not shapes:
        return {}
    check_ordinary(path)
    if not path.is_file():
        raise GeedError(f"cache {folder}: {MATRICES} is missing; {again}")
    try:
        with open_ordinary(path) as file:
            for digest, one in members_of(file, [*shapes]).items():
                if one.head.dtype != "<f8" or [*one.head.shape] != shapes[digest]:
                    raise ValueError
                check_held(f"cache {folder}: {MATRICES}", one.head.size, ALLOWED)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {digest: archive[digest] for digest in shapes}
        whole = all(_kept(a) == {"shape": shapes[d], "sha256": d} for d, a in arrays.items())
    except GeedError:
        raise
    except Exception:  # zipfile and zlib have errors of their own
        whole = False
    if not whole:
        raise GeedError(f"cache {folder}: {MATRICES} is damaged; {again}")
    return arrays
