"""Virtual HDF5 datasets: whether all that they are made of is there.

HDF5 fills the place of what is missing, be it a file, a dataset or rows of it, with zeros, and
zeros look perfectly equivariant. So it does where a process may open no more files.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_geed.data.links import check_beside, check_links
from onnx_geed.errors import GeedError
from onnx_geed.whole import whole

if TYPE_CHECKING:
    import h5py

__all__ = ["check_handles", "files_of"]


# A number in the name of a source, of which there are as many as are found.
_NUMBER = re.compile(r"%b")


# Where HDF5 has the end of an axis that goes as far as there is something.
_ENDLESS = 1 << 62


def files_of(data: h5py.Dataset, where: str) -> set[Path]:
    """Return the files that a dataset lies in, of its sources and their sources too.

    Parameters
    ----------
    data : h5py.Dataset
        Open; virtual, external, or neither.
    where : str
        What it is called in messages.

    Returns
    -------
    set of Path

    Raises
    ------
    GeedError
        If a file or a dataset is missing, or smaller than what is read of it.
        If parts of it are in no source at all.
    """
    return _files(data, where, ())


def check_handles(where: str, path: Path, more: int = 1) -> None:
    """Make sure that so many more files could be opened.

    Raises
    ------
    GeedError
        If they could not.
    """
    opened = []
    try:
        for _ in range(more):
            opened.append(os.open(path, os.O_RDONLY))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise GeedError(
            f"{where}: too many open files, and HDF5 would read zeros for the others: raise the "
            "limit (ulimit -n), or write the dataset into fewer files"
        ) from None
    finally:
        for handle in opened:
            os.close(handle)


def _files(data: h5py.Dataset, where: str, above: tuple[tuple[str, str], ...]) -> set[Path]:
    own = (data.file.filename, data.name)
    if own in above:
        raise GeedError(f"{where}: a virtual dataset, {data.name}, that is made of itself")
    folder = Path(data.file.filename).parent
    found = {Path(data.file.filename)}
    left = data.nbytes
    for name, start, size in data.external or ():
        size = min(size, left)  # the last may take whatever there is
        found.add(_raw(folder, name, start + size, where))
        left -= size
    if not data.is_virtual:
        return found
    counted = 0
    for source in data.virtual_sources():
        for file, name in _named(source, folder, where):
            found |= _source(data, source, file, name, where, (*above, own))
        counted += _points(source.vspace, data.size)
    if counted < data.size:
        raise GeedError(
            f"{where}: {data.size - counted} of the {data.size} values of this virtual dataset "
            "have no source; write it again from all of its files"
        )
    return found


def _raw(folder: Path, name: str, stop: int, where: str) -> Path:
    """Return a file of raw values: HDF5 reads zeros behind its end, and may be sent anywhere."""
    path = folder / name
    what = f"{where}: its values lie in a file {name}"
    if not path.exists():
        raise GeedError(f"{what} that is missing")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GeedError(f"{what} outside its own folder; write them into the dataset itself")
    if (there := path.stat().st_size) < stop:
        raise GeedError(f"{what} of {there} bytes, but {stop} are needed")
    return path


def _named(source: Any, folder: Path, where: str) -> list[tuple[str, str]]:
    """Return file and dataset of a source; of a numbered one, of all numbers up to the last."""
    file, name = source.file_name, source.dset_name
    if not _NUMBER.search(file + name):
        return [(file.replace("%%", "%"), name.replace("%%", "%"))]
    if not _NUMBER.search(file):
        return [(file, name)]  # numbers of datasets in one file, which HDF5 counts to the first gap
    shape = re.escape(os.path.basename(file)).replace("%b", r"(\d+)")
    around = (folder / file).parent
    there = around.iterdir() if around.is_dir() else ()
    numbers = [int(match[1]) for p in there if (match := re.fullmatch(shape, p.name))]
    if not numbers:
        raise GeedError(f"{where}: a virtual dataset whose files {file} are missing")
    return [
        (file.replace("%b", str(n)), name.replace("%b", str(n))) for n in range(max(numbers) + 1)
    ]


def _source(
    data: h5py.Dataset,
    source: Any,
    file: str,
    name: str,
    where: str,
    above: tuple[tuple[str, str], ...],
) -> set[Path]:
    """Return the files of one source, which must hold all that is taken of it."""
    with whole():
        import h5py

    if file == ".":
        return _held(
            data.file, source, name, f"{where}: a virtual dataset whose own file", where, above
        )
    path = Path(data.file.filename).parent / file
    if not path.exists():
        raise GeedError(f"{where}: a virtual dataset whose file {file} is missing")
    check_beside(Path(data.file.filename).parent, file, f"{where}: a virtual dataset whose file is")
    with h5py.File(path, "r") as opened:
        return _held(
            opened, source, name, f"{where}: a virtual dataset whose file {file}", where, above
        )


def _held(
    opened: h5py.File,
    source: Any,
    name: str,
    what: str,
    where: str,
    above: tuple[tuple[str, str], ...],
) -> set[Path]:
    with whole():
        import h5py

    check_links(opened, name, where)
    inner = opened.get(name) if not _NUMBER.search(name) else None
    if _NUMBER.search(name):
        return {Path(opened.filename)}
    if not isinstance(inner, h5py.Dataset):
        raise GeedError(f"{what} has no dataset {name}")
    last = _last(source.src_space)
    shape = inner.shape or ()
    if last is not None and (len(last) != len(shape) or any(map(int.__ge__, last, shape))):
        raise GeedError(
            f"{what} has a dataset {name} of {'×'.join(map(str, shape))} values, but "
            f"{'×'.join(str(at + 1) for at in last)} are needed; is it an older one?"
        )
    return _files(inner, where, above)


def _last(space: Any) -> tuple[int, ...] | None:
    """Return the last index that is taken on each axis; None where all are, however many."""
    try:
        _, last = space.get_select_bounds()
    except (ValueError, RuntimeError):
        return None
    return None if any(at >= _ENDLESS for at in last) else tuple(map(int, last))


def _points(space: Any, everything: int) -> int:
    """Return how many values a source gives; all where that has no end."""
    try:
        count = int(space.get_select_npoints())
    except (ValueError, RuntimeError):
        return everything
    return count if count < _ENDLESS else everything
