"""Points of the plane, and of space in three projections, as dots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.coloured_cells import strip
from onnx_geed.report.picture import FINE, Picture, fine_path, svg

__all__ = ["dots"]

F64 = NDArray[np.float64]


# Of more points than this, some are drawn: evenly spread over their order.
_MOST = 300


# Side of a projection, and the room of its name below, in pixels.
_SIDE, _LABEL = 64, 13


# Colours, which follow the order of the points.
_COLOURS = 6


# Components to the right and down, with the sign of the second: forward is up, seen from above.
_SEEN = {
    2: ((0, 1, 1, ""),),
    3: ((0, 1, 1, "x→ y↓"), (0, 2, -1, "x→ z↑"), (2, 1, 1, "z→ y↓")),
}


def dots(orbit: F64) -> list[Picture]:
    """Draw points, every member of an orbit and every projection on one scale.

    Parameters
    ----------
    orbit : ndarray, shape (n, P, X)
        The samples; components are right, down and forward. Vectors of other than 2 or 3
        components are coloured cells.
    """
    points, components = orbit.shape[1:]
    if components not in _SEEN:
        return strip(np.moveaxis(orbit, 1, 2))
    low, high = orbit.min(axis=(0, 1)), orbit.max(axis=(0, 1))
    scale = (_SIDE - 6) / (float((high - low).max()) or 1.0)
    middle = (low + high) / 2
    shown = np.linspace(0, points - 1, min(points, _MOST)).round().astype(int)
    # What stands first in the array has the first colour, and so on.
    colour = shown * min(_COLOURS, points) // points
    views = _SEEN[components]
    what = "points" if components == 2 else "points in three projections"
    size = 9 if len(shown) > 100 else 15
    height = _SIDE + (_LABEL if components == 3 else 0)
    width = len(views) * (_SIDE + 4) - 4
    pictures = []
    for sample in orbit:
        content = ""
        for k, (right, down, sign, label) in enumerate(views):
            left = k * (_SIDE + 4)
            at = (sample[shown] - middle) * scale
            place = np.stack([at[:, right], sign * at[:, down]], axis=1) + _SIDE / 2
            place = np.round((place + np.array([left, 0])) * FINE).astype(int)
            content += _panel(left, label)
            for c in range(min(_COLOURS, points)):
                members = place[colour == c].tolist()
                if members:
                    steps = "".join(f"M{x} {y}h0" for x, y in members)
                    style = f'stroke="var(--s{c})" stroke-width="{size}" stroke-linecap="round"'
                    content += fine_path(steps, style)
        pictures.append(Picture(what, width, svg=svg(width, height, content)))
    return pictures


def _panel(left: int, label: str) -> str:
    frame = (
        f'<rect x="{left + 0.5}" y="0.5" width="{_SIDE - 1}" height="{_SIDE - 1}" rx="3" '
        'fill="none" stroke="var(--line)"/>'
    )
    if not label:
        return frame
    return frame + (
        f'<text x="{left + _SIDE / 2:g}" y="{_SIDE + 11}" font-size="11" text-anchor="middle" '
        f'fill="var(--soft)">{label}</text>'
    )
