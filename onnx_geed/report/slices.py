"""Volumes by their middle slices, and films by three of their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.picture import Picture, grey_or_colour, png, svg

__all__ = ["frames", "middle_slices"]

F64 = NDArray[np.float64]


# Side of a slice, and the room of its name below, in pixels.
_SIDE, _LABEL = 56, 13


def middle_slices(orbit: F64) -> list[Picture]:
    """Draw the three slices through the middle of volumes.

    Parameters
    ----------
    orbit : ndarray, shape (n, C, D, H, W) or (n, D, H, W)
        The samples in [0, 1]; three channels are colours, else the first is drawn.
    """
    orbit = orbit[:, None] if orbit.ndim == 4 else orbit
    channels, depth, height, width = orbit.shape[1:]
    pictures = []
    for sample in orbit:
        slices = [
            (sample[:, depth // 2], "H×W"),
            (sample[:, :, height // 2], "D×W"),
            (sample[:, :, :, width // 2], "D×H"),
        ]
        pictures.append(_side_by_side(slices, "middle slices" + _of_channels(channels)))
    return pictures


def frames(orbit: F64) -> list[Picture]:
    """Draw the first, the middle and the last frame of films.

    Parameters
    ----------
    orbit : ndarray, shape (n, C, T, H, W) or (n, T, H, W)
        The samples in [0, 1]; three channels are colours, else the first is drawn.
    """
    orbit = orbit[:, None] if orbit.ndim == 4 else orbit
    channels, count = orbit.shape[1:3]
    at = dict.fromkeys((0, count // 2, count - 1))
    what = "frames" + _of_channels(channels)
    return [_side_by_side([(sample[:, t], f"{t + 1}") for t in at], what) for sample in orbit]


def _of_channels(channels: int) -> str:
    return "" if channels in (1, 3) else f", the first of {channels} channels"


def _side_by_side(planes: Sequence[tuple[F64, str]], what: str) -> Picture:
    content, left, bottom = "", 0, 0
    for plane, label in planes:
        shown = plane if len(plane) == 3 else plane[:1]
        # A page need not hold more pixels than it shows.
        step = max(1, -(-max(shown.shape[1:]) // 64))
        pixels = grey_or_colour(shown[:, ::step, ::step])
        scale = _SIDE / max(plane.shape[1:])
        height, width = (max(1, round(n * scale)) for n in plane.shape[1:])
        content += (
            f'<image x="{left}" y="0" width="{width}" height="{height}" '
            f'preserveAspectRatio="none" href="{png(np.ascontiguousarray(pixels))}"/>'
            f'<text x="{left + width / 2:g}" y="{height + 11}" font-size="11" '
            f'text-anchor="middle" fill="var(--soft)">{label}</text>'
        )
        left, bottom = left + max(width, 24) + 4, max(bottom, height)
    return Picture(what, left - 4, svg=svg(left - 4, bottom + _LABEL, content))
