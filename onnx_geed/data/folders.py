"""Folders of one file a sample: of which kind they are, and what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.audio import frames_of, recordings
from onnx_geed.data.images import SUFFIXES
from onnx_geed.data.paths import files_in, is_kind, kinds_held
from onnx_geed.data.point_files import point_sets, points_of
from onnx_geed.data.ragged import ragged_axes
from onnx_geed.data.rows import Beside, Rows, reading
from onnx_geed.data.volumes import volumes
from onnx_geed.errors import GeedError, known_names, shown
from onnx_geed.files import Stamp, stamp
from onnx_geed.groups import LETTERS, parse_layout
from onnx_geed.held import ALLOWED, ArrayHead, array_head, check_held
from onnx_geed.ordinary import open_ordinary
from onnx_geed.text import counted

__all__ = ["KINDS", "FileKind", "classes_of", "kind_of_folder", "one_file", "open_folder"]

#: Takes a path and its name for messages; returns a sample, stored as the layout says.
Read = Callable[[Path, str], NDArray[Any]]


@dataclass(frozen=True)
class FileKind:
    """A kind of file of which each holds one sample.

    Parameters
    ----------
    kind : str
        As the samples say of themselves, in ``kind``.
    what : str
        What such files are called, for messages.
    suffixes : tuple of str
        How their names end, in lower case.
    layouts : tuple of str
        Layouts of the inputs that they are for, any order of axes; none: all.
    reader : callable, optional
        Takes the layout and the bytes that may be held of a file, returns what reads one file.
        Images have their own: they are brought to channels and size when they are decoded.
    length : callable, optional
        Takes path, layout, a name for messages and the bytes that may be held; returns how long
        the sample is.
    """

    kind: str
    what: str
    suffixes: tuple[str, ...]
    layouts: tuple[str, ...] = ()
    reader: Callable[[str, int], Read] | None = None
    length: Callable[[Path, str, str, int], int] | None = None

    def fits(self, layout: str) -> bool:
        """Whether such files are for inputs of a layout."""
        orders = {"".join(sorted(one)) for one in self.layouts}
        return not orders or "".join(sorted(parse_layout(layout).letters)) in orders


def _arrays(layout: str, allowed: int) -> Read:
    def read(path: Path, where: str) -> NDArray[Any]:
        with reading(where), open_ordinary(path, where) as file:
            check_held(where, _head(file).size, allowed, "give smaller samples, or raise --memory")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))

    return read


def _head(file: BinaryIO) -> ArrayHead:
    head = array_head(file)
    if head.start + head.size > (size := os.fstat(file.fileno()).st_size):
        raise ValueError(f"it has {size} of {head.start + head.size} bytes: cut off")
    return head


def _array_length(path: Path, layout: str, where: str, _: int) -> int:
    with reading(where), open_ordinary(path, where) as file:
        shape = _head(file).shape
    axis = ragged_axes(layout)[0]
    if axis >= len(shape):
        raise GeedError(
            f"{where}: an array of {counted(len(shape), 'axis', 'axes')}, but one sample of "
            f"{layout} has "
            f"{len(layout) - 1}; write it in the model's own layout without N"
        )
    return int(shape[axis])


KINDS: tuple[FileKind, ...] = (
    FileKind("images", "images", SUFFIXES, ("NCHW", "NHW")),
    FileKind(
        "audio",
        "recordings",
        (".wav", ".flac"),
        ("NCT", "NT"),
        recordings,
        lambda path, _, where, allowed: frames_of(path, where, allowed),
    ),
    FileKind("volumes", "volumes", (".nii", ".nii.gz"), ("NCDHW", "NDHW"), volumes),
    FileKind(
        "points",
        "points",
        (".xyz", ".ply"),
        ("NPX", "NPC"),
        point_sets,
        lambda path, _, where, allowed: points_of(path, where, allowed),
    ),
    FileKind("array", "arrays", (".npy",), (), _arrays, _array_length),
)


def kind_of_folder(folder: str, layout: str) -> tuple[FileKind, tuple[str, ...]]:
    """Say what a folder holds for an input, and list it.

    Parameters
    ----------
    folder : str
        The folder.
    layout : str
        Layout of the model's input.

    Returns
    -------
    kind : FileKind
        Its files' kind.
    names : tuple of str
        Their relative POSIX paths, in bytewise order.

    Raises
    ------
    GeedError
        If it holds no samples for such an input, or those of two kinds.
    """
    where, names = f"--data {folder}", files_in(Path(folder))
    held = {k.kind: [n for n in names if is_kind(n, k.suffixes)] for k in KINDS}
    there = [kind for kind in KINDS if held[kind.kind]]
    fit = [kind for kind in there if kind.fits(layout)]
    if fit and fit[0].kind == "images":
        fit = fit[:1]  # whatever else lies beside images
    if len(fit) > 1:
        counts = known_names([f"{k.what} ({len(held[k.kind])})" for k in fit])
        raise GeedError(f"{where}: holds {counts}: which are samples? Give a folder of one kind")
    if fit:
        return fit[0], tuple(held[fit[0].kind])
    if there:
        what = there[0]
        raise GeedError(f"{where}: {_unfit(what, layout)}; give an array ({', '.join(layout)})")
    kinds = [kind for kind in KINDS if kind.fits(layout)]
    wanted = "; ".join(f"{kind.what}: {', '.join(kind.suffixes)}" for kind in kinds)
    raise GeedError(f"{where}: no {kinds[0].what} in the folder ({wanted}); {kinds_held(names)}")


def _unfit(kind: FileKind, layout: str) -> str:
    """Say why files of a kind are not for an input."""
    known = {"D": "depth", "T": "frames"}
    more = [letter for letter in layout if letter not in "".join(kind.layouts)]
    if kind.kind == "images" and more:
        return f"images have no {known.get(more[0], LETTERS[more[0]])}"
    takes = known_names(kind.layouts)
    return (
        f"{kind.what} ({', '.join(kind.suffixes)}) are for inputs {takes}, but this one is {layout}"
    )


def one_file(path: Path) -> str:
    """Say what a file holds that is one sample, such as ``one image``; nothing for others."""
    for kind in KINDS:
        if kind.reader is not _arrays and is_kind(path.name, kind.suffixes):
            return f"one {kind.what.removesuffix('s')}" if kind.what != "points" else "one sample"
    return ""


def classes_of(names: tuple[str, ...]) -> Beside | None:
    """Return the topmost folder of each path, or None where all lie in no folder."""
    loose = [name for name in names if "/" not in name]
    if len(loose) == len(names):
        return None
    if loose:
        more = f" and {counted(len(loose) - 1, 'other')}" if len(loose) > 1 else ""
        lies = "lie" if more else "lies"
        return Beside(
            "the name of sub-folders",
            fault=f"{shown(loose[0])}{more} {lies} in none of them; give a folder without such",
            place="",
        )
    return Beside("sub-folders", tuple(name.split("/")[0] for name in names))


def open_folder(
    folder: str,
    kind: FileKind,
    names: tuple[str, ...],
    layout: str,
    *,
    masked: bool,
    allowed: int = ALLOWED,
) -> Rows:
    """Open a folder of files that are no images.

    Parameters
    ----------
    folder : str
        The folder.
    kind : FileKind
        Kind of its files.
    names : tuple of str
        Their relative POSIX paths.
    layout : str
        Layout of the model's input.
    masked : bool
        Whether recordings and other lines may differ in length; points always may.
    allowed : int
        Bytes that may be held of one file.

    Returns
    -------
    Rows
        Samples as they are stored in the layout, with ``lengths`` where they may differ.

    Raises
    ------
    GeedError
        If the first file cannot be read, or for lengths, another.
    """
    stamps: dict[int, Stamp] = {}
    where = [f"--data {folder}: {name}" for name in names]
    assert kind.reader is not None
    one = kind.reader(layout, allowed)

    def read(index: int) -> NDArray[Any]:
        path = Path(folder, names[index])
        stamps.setdefault(index, stamp(path))
        return one(path, where[index])

    first = read(0)
    lengths = None
    length = kind.length
    if length is not None and ragged_axes(layout) and ("P" in layout or masked):
        paths = [Path(folder, name) for name in names]
        lengths = np.array(
            [length(p, layout, w, allowed) for p, w in zip(paths, where, strict=True)]
        )
    return Rows(
        (len(names), *first.shape),
        first.dtype,
        read,
        labels=classes_of(names),
        files=lambda: list(stamps.values()),
        lengths=lengths,
        names=names,
        kind=kind.kind,
    )
