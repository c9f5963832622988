"""Links in HDF5 files: where they lead is looked at before HDF5 goes there.

HDF5 opens whatever a link names, wherever it lies, and waits for ever where that is a pipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_geed.errors import GeedError, shown
from onnx_geed.ordinary import check_ordinary
from onnx_geed.whole import whole

__all__ = ["check_beside", "check_links"]

# Links that lead to links.
_MOST = 20


def check_links(group: Any, path: str, where: str) -> None:
    """Make sure that a path in an HDF5 file leads to files beside it alone.

    Parameters
    ----------
    group : h5py.Group
        From where it leads; nothing of it is read.
    path : str
        Names with ``/`` between.
    where : str
        What the data are called in messages.

    Raises
    ------
    GeedError
        If a link on the way leads to a file elsewhere, to none that is an ordinary file, or on and
        on.
    """
    _follow(group, path, where, _MOST)


def check_beside(folder: Path, name: str, what: str) -> None:
    """Refuse a file that another one names, where it lies elsewhere or is no ordinary file.

    HDF5 looks for it beside that file, under its name as it is, and under its last part.
    """
    for path in {folder / name, Path(name), folder / Path(name).name}:
        if not path.exists():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise GeedError(
                f"{what} {shown(name)} outside its own folder; put it there, or give that file"
            )
        check_ordinary(path, f"{what} {shown(name)}")


def _follow(group: Any, path: str, where: str, left: int) -> None:
    with whole():
        import h5py

    if left < 0:
        raise GeedError(f"{where}: over {_MOST} links one behind the other; write it anew")
    if path.startswith("/"):
        group = group.file
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for i, part in enumerate(parts):
        try:
            link = group.get(part, getlink=True)
        except (KeyError, RuntimeError, ValueError):
            return  # there is none, which is told where it is read
        except TypeError:
            raise GeedError(f"{where}: {shown(part)} is a link of an unknown kind") from None
        rest = "/".join(parts[i + 1 :])
        if isinstance(link, h5py.SoftLink):
            _follow(group, f"{link.path}/{rest}", where, left - 1)
            return
        if isinstance(link, h5py.ExternalLink):
            folder = Path(group.file.filename).parent
            check_beside(folder, link.filename, f"{where}: a link leads to")
            if (folder / link.filename).is_file():
                with h5py.File(folder / link.filename, "r") as other:
                    _follow(other, f"/{link.path}/{rest}", where, left - 1)
            return
        group = group.get(part) if link is not None else None
        if not isinstance(group, h5py.Group):
            return
