"""Vector fields of the plane: an arrow in each of some places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.report.picture import FINE, Picture, fine_path, svg

__all__ = ["field_arrows", "field_arrows_in_space"]

F64 = NDArray[np.float64]


# Arrows along the longer side at most, and its pixels.
_MOST, _SIDE = 10, 112


def field_arrows_in_space(orbit: F64) -> list[Picture]:
    """Draw the middle slice of vector fields in space, with the components that lie in it.

    Parameters
    ----------
    orbit : ndarray, shape (n, 3, D, H, W)
        The samples.

    Raises
    ------
    GeedError
        If vectors have not 3 components.
    """
    if orbit.shape[1] != 3:
        raise GeedError(f"fields in space are drawn with 3 components, not {orbit.shape[1]}")
    middle = orbit[:, :2, orbit.shape[2] // 2]
    return field_arrows(middle, "field in the middle slice")


def field_arrows(orbit: F64, what: str = "vector field") -> list[Picture]:
    """Draw vector fields as arrows, every member of an orbit on one scale.

    Parameters
    ----------
    orbit : ndarray, shape (n, 2, H, W)
        The samples; components are right and down.
    what : str
        What they are.

    Raises
    ------
    GeedError
        If vectors have not 2 components.
    """
    if orbit.shape[1] != 2:
        raise GeedError(f"fields in the plane are drawn with 2 components, not {orbit.shape[1]}")
    height, width = orbit.shape[2:]
    cell = _SIDE / max(height, width)
    rows, columns = (_places(n) for n in (height, width))
    some = orbit[:, :, rows[:, None], columns]
    room = _SIDE / min(_MOST, max(height, width))
    longest = float(np.hypot(some[:, 0], some[:, 1]).max()) or 1.0
    y, x = np.meshgrid((rows + 0.5) * cell, (columns + 0.5) * cell, indexing="ij")
    size = max(1, round(width * cell)), max(1, round(height * cell))
    pictures = []
    for right, down in some:
        steps = "".join(
            _arrow(*values)
            for values in zip(
                x.ravel().tolist(),
                y.ravel().tolist(),
                (right.ravel() / longest * room).tolist(),
                (down.ravel() / longest * room).tolist(),
                strict=True,
            )
        )
        style = 'fill="none" stroke="var(--s0)" stroke-width="4" stroke-linecap="round"'
        pictures.append(Picture(what, size[0], svg=svg(*size, fine_path(steps, style))))
    return pictures


def _places(length: int) -> NDArray[np.int64]:
    """Return some places along a side, the same from both ends."""
    if length <= _MOST:
        return np.arange(length)
    first = np.floor((np.arange((_MOST + 1) // 2) + 0.5) * length / _MOST).astype(np.int64)
    return np.unique(np.concatenate([first, length - 1 - first]))


def _arrow(x: float, y: float, right: float, down: float) -> str:
    """Return an arrow whose middle lies at a place; a dot where it has hardly a length."""
    size = float(np.hypot(right, down))
    if size < 1.0:
        return f"M{round(x * FINE)} {round(y * FINE)}h0"
    tip = np.array([x + right / 2, y + down / 2])
    back = np.array([right, down]) / size * min(3.0, size / 2)
    side = np.array([-back[1], back[0]]) * 0.7
    ends = [tip - (right, down), tip, tip - back + side, tip, tip - back - side]
    points = [np.round(end * FINE).astype(int).tolist() for end in ends]
    a, b, c, _, d = (f"{px} {py}" for px, py in points)
    return f"M{a}L{b}M{c}L{b}L{d}"
