"""DNA: its letters, or the composition along a long sequence."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.picture import FINE, Picture, fine_path, svg

__all__ = ["bases"]

F64 = NDArray[np.float64]


# Bases with their colours, in the order of the axis.
_BASES = {"A": "--s2", "C": "--s0", "G": "--s4", "T": "--s1"}


# Letters of a line and of a sequence that is written out, and of how many pixels.
_LINE, _LONGEST, _LETTER = 16, 64, 9


# Width and height of the strip of a long sequence, and its parts.
_WIDTH, _HEIGHT, _PARTS = 144, 36, 48


def bases(orbit: F64) -> list[Picture]:
    """Draw sequences of bases: letters of short ones, shares of A, C, G and T along long ones.

    Parameters
    ----------
    orbit : ndarray, shape (n, T, 4)
        The samples: one-hot, or shares of bases; the largest is written, ``N`` where all are zero.
    """
    if orbit.shape[1] > _LONGEST:
        return [_strip(sample) for sample in orbit]
    return [_letters(sample) for sample in orbit]


def _letters(sample: F64) -> Picture:
    names = [*_BASES, "N"]
    known = (sample != 0).any(axis=1)
    text = "".join(names[k] for k in np.where(known, sample.argmax(axis=1), 4).tolist())
    lines = [text[k : k + _LINE] for k in range(0, len(text), _LINE)]
    width, height = _LETTER * min(_LINE, len(text)) + 2, 17 * len(lines)
    content = ""
    for k, line in enumerate(lines):
        spans = "".join(
            f'<tspan fill="var({_BASES.get(base, "--soft")})">{"".join(run)}</tspan>'
            for base, run in itertools.groupby(line)
        )
        # Letters of one width, whatever the font: the line is as long as it is said to be.
        content += (
            f'<text x="1" y="{17 * k + 13}" font-size="14" font-weight="600" '
            f'font-family="ui-monospace, monospace" textLength="{_LETTER * len(line)}">{spans}'
            "</text>"
        )
    return Picture(f"bases {text}", width, svg=svg(width, height, content))


def _strip(sample: F64) -> Picture:
    parts = min(_PARTS, len(sample))
    edges = (np.arange(parts + 1) * len(sample)) // parts
    size = np.abs(sample).sum(axis=1, keepdims=True)
    shares = np.divide(np.abs(sample), size, out=np.zeros_like(sample), where=size > 0)
    mean = np.add.reduceat(shares, edges[:-1], axis=0) / np.diff(edges)[:, None]
    across = np.round(np.linspace(0, _WIDTH, parts + 1) * FINE).astype(int)
    # A stands at the bottom, T on top.
    top = np.concatenate([np.zeros((parts, 1)), mean.cumsum(axis=1)], axis=1)
    ends = np.round((1 - top) * _HEIGHT * FINE).astype(int)
    content = ""
    for b, colour in enumerate(_BASES.values()):
        steps = "".join(
            f"M{across[k]} {ends[k, b]}H{across[k + 1]}V{ends[k, b + 1]}H{across[k]}Z"
            for k in range(parts)
            if ends[k, b] != ends[k, b + 1]
        )
        content += fine_path(steps, f'fill="var({colour})"')
    what = f"shares of A, C, G and T along {len(sample)} bases"
    return Picture(what, _WIDTH, svg=svg(_WIDTH, _HEIGHT, content))
