"""Lines, such as sound: a waveform a channel, the envelope of one that is long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.coloured_cells import cells
from onnx_geed.report.picture import FINE, Picture, fine_path, svg
from onnx_geed.text import counted

__all__ = ["waveforms"]

F64 = NDArray[np.float64]


# Width in pixels; heights of a channel, of few and of more; still more are coloured cells.
_WIDTH, _FEW, _HEIGHT, _MORE, _LOW = 144, 4, 36, 12, 16


def waveforms(orbit: F64) -> list[Picture]:
    """Draw lines, a row for each channel, every member of an orbit on one scale.

    Parameters
    ----------
    orbit : ndarray, shape (n, C, T) or (n, T)
        The samples.

    Notes
    -----
    A line of more than two places a pixel is drawn as the band between the smallest and the largest
    value in each pixel's width.
    """
    orbit = orbit[:, None] if orbit.ndim == 2 else orbit
    channels, length = orbit.shape[1:]
    if channels > _MORE:
        what = f"{counted(channels, 'channel')} along a line of {length}"
        return cells(orbit, what, (32, _WIDTH), (72, _WIDTH))
    what = "waveform" if channels == 1 else f"waveforms of {channels} channels"
    row = _HEIGHT if channels <= _FEW else _LOW
    low, high = orbit.min(axis=(0, 2)), orbit.max(axis=(0, 2))
    pictures = []
    for sample in orbit:
        content = ""
        for c, line in enumerate(sample):
            top, scale = c * row + 2, (row - 4) / ((high[c] - low[c]) or 1.0)
            if low[c] <= 0 <= high[c]:
                zero = round((top + high[c] * scale) * FINE)
                style = 'fill="none" stroke="var(--line)" stroke-width="4"'
                content += fine_path(f"M0 {zero}H{_WIDTH * FINE}", style)
            content += _line(top + (high[c] - line) * scale, f"var(--s{c % 6})")
        pictures.append(Picture(what, _WIDTH, svg=svg(_WIDTH, channels * row, content)))
    return pictures


def _line(heights: F64, colour: str) -> str:
    """Return a line, or the band of one that is long, from its heights in pixels."""
    length = len(heights)
    if length <= 2 * _WIDTH:
        across = np.linspace(1, _WIDTH - 1, length) if length > 1 else np.array([_WIDTH / 2])
        steps = _steps(across, heights) + ("" if length > 1 else "h0")
        style = f'fill="none" stroke="{colour}" stroke-width="5" stroke-linecap="round"'
        return fine_path(steps, style)
    edges = (np.arange(_WIDTH) * length) // _WIDTH
    upper, lower = np.minimum.reduceat(heights, edges), np.maximum.reduceat(heights, edges)
    across = np.arange(_WIDTH) + 0.5
    around = np.concatenate([across, across[::-1]]), np.concatenate([upper, lower[::-1]])
    return fine_path(f"{_steps(*around)}Z", f'fill="{colour}" stroke="{colour}" stroke-width="3"')


def _steps(across: F64, heights: F64) -> str:
    points = np.round(np.stack([across, heights], axis=1) * FINE).astype(int)
    return "M" + "L".join(f"{x} {y}" for x, y in points.tolist())
