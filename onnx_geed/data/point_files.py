"""Points: text files of columns, and PLY files by plyfile."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, reason_of
from onnx_geed.extras import package
from onnx_geed.groups import parse_layout
from onnx_geed.held import read_held, read_text
from onnx_geed.ordinary import open_ordinary
from onnx_geed.text import counted

__all__ = ["point_sets", "points_of", "read_points"]

# Of a number of points that a file can hold.
_DIGITS = 18


def point_sets(layout: str, allowed: int) -> Callable[[Path, str], NDArray[np.float32]]:
    """Return what reads points for inputs of a layout, as :func:`read_points` does."""
    return lambda path, where: read_points(path, layout, where, allowed)


def read_points(path: Path, layout: str, where: str, allowed: int) -> NDArray[np.float32]:
    """Read points.

    Parameters
    ----------
    path : Path
        An ``.xyz`` or ``.ply`` file.
    layout : str
        ``NPX`` or ``NXP``: the first three columns, x, y, z, of each point. ``NPC`` or ``NCP``: all
        columns.
    where : str
        Its name in messages.
    allowed : int
        Bytes that may be held of it.

    Returns
    -------
    ndarray of float32
        Stored as the layout says.

    Raises
    ------
    GeedError
        If plyfile is not installed, for ``.ply``.
        If it cannot be read, or holds no points.
        If it takes more memory than is allowed.
    """
    read = _ply if path.suffix.lower() == ".ply" else _xyz
    table = read(path, where, allowed)
    letters = parse_layout(layout).letters[1:]
    if "X" in letters:
        table = table[:, :3]
    return np.ascontiguousarray(table if letters[0] == "P" else table.T)


def points_of(path: Path, where: str, allowed: int) -> int:
    """Return how many points a file holds.

    Raises
    ------
    GeedError
        If it cannot be read, or holds no points.
        If it takes more memory than is allowed.
    """
    if path.suffix.lower() != ".ply":
        return len(_xyz(path, where, allowed))
    try:
        with open_ordinary(path, where) as file:
            head = file.read(1 << 16).split(b"end_header")[0]
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unread(where, reason_of(error)) from None
    counts = _counts(head, size, where)
    if not head.startswith(b"ply") or b"vertex" not in counts:
        return len(_ply(path, where, allowed))
    return counts[b"vertex"]


def _counts(head: bytes, size: int, where: str) -> dict[bytes, int]:
    """Return how many there are of each element that the head of a PLY file names."""
    counts: dict[bytes, int] = {}
    for name, digits in re.findall(rb"^element\s+(\S+)\s+(\d+)\s*$", head, re.M):
        what = "points" if name == b"vertex" else "elements"
        # Less than a byte each: so many are not even to be made room for.
        if len(digits) > _DIGITS or int(digits) > size:
            count = (
                digits.decode()
                if len(digits) <= _DIGITS
                else f"a number of {len(digits)} digits of"
            )
            raise _unread(where, f"{count} {what} in {size} bytes: it was cut off")
        counts.setdefault(name, int(digits))
    return counts


def _unread(where: str, reason: str) -> GeedError:
    return GeedError(f"{where}: cannot be read as points ({reason}); repair or remove it")


def _xyz(path: Path, where: str, allowed: int) -> NDArray[np.float32]:
    """Read columns of numbers, separated by spaces or commas; what follows ``#`` is left out.

    Chemistry writes the number of atoms and a remark above, and an element's symbol in front of
    each line: these are left out too.
    """
    try:
        text = read_text(path, where, allowed)
    except (OSError, UnicodeDecodeError) as error:
        raise _unread(where, reason_of(error)) from None
    lines = text.splitlines()
    head = lines[0].strip() if lines else ""
    if re.fullmatch(rf"\d{{1,{_DIGITS}}}", head):
        lines = _counted(int(head), lines[1:], where)
    plain = (line.split("#")[0].replace(",", " ") for line in lines)
    rows = [line for line in plain if line.strip()]
    if not rows:
        raise _unread(where, "it holds no points")
    try:
        table = np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise _unread(where, reason_of(error)) from None
    with np.errstate(over="ignore"):  # infinity is told with the sample's name
        return table.astype(np.float32)


def _counted(count: int, lines: list[str], where: str) -> list[str]:
    """Return so many lines of points, with or without a remark above, without their symbols."""
    for start in (0, 1):
        rows = [line for line in lines[start:] if line.strip()]
        if len(rows) == count:
            return [re.sub(r"^\s*[A-Za-z]+\s+", "", row) for row in rows]
    raise _unread(where, f"its first line says {counted(count, 'point')}, and {len(rows)} follow")


def _ply(path: Path, where: str, allowed: int) -> NDArray[np.float32]:
    """Read x, y and z of a PLY file's vertices, then their other numbers in the file's order."""
    plyfile = package("plyfile", "points", where)
    try:
        # Not mapped: where a mapped file is cut short, the process is killed.
        content = read_held(path, where, allowed // 4)
        _counts(bytes(content[: content.find(b"end_header")]), len(content), where)
        vertex: Any = plyfile.PlyData.read(io.BytesIO(content), mmap=False)["vertex"].data
    except GeedError:
        raise
    except Exception as error:  # whatever the decoder raises on damaged files
        raise _unread(where, reason_of(error)) from None
    names = [name for name in vertex.dtype.names or () if vertex.dtype[name].kind in "iuf"]
    if not {"x", "y", "z"} <= set(names):
        raise _unread(where, f"its vertices have {', '.join(names) or 'nothing'}, not x, y and z")
    if not len(vertex):
        raise _unread(where, "it holds no points")
    order = ["x", "y", "z", *(name for name in names if name not in ("x", "y", "z"))]
    with np.errstate(over="ignore"):
        return np.stack([vertex[name].astype(np.float32) for name in order], axis=1)
