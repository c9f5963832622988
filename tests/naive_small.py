"""The slow twin of ``sensitivity``: small motions by scipy.ndimage, pairs by loops.

Written from the definition, without the package. A motion is (what, by how much): ``("turn",
radians)`` counter-clockwise as displayed, ``("zoom", factor)``, ``("down", share)`` and ``("right",
share)`` of height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

Motion = tuple[str, float]
Network = Callable[[np.ndarray], np.ndarray]


def corner(height: int, width: int) -> float:
    """How far the corner's pixel is from the centre."""
    return math.sqrt(((height - 1) / 2) ** 2 + ((width - 1) / 2) ** 2)


def pairs(kind: str, step: float, height: int, width: int) -> list[tuple[Motion, Motion, Motion]]:
    """Of each pair g₊, g₋ and g₊g₋⁻¹."""
    share = step / corner(height, width)
    if kind == "rotation":
        return [(("turn", share), ("turn", -share), ("turn", 2 * share))]
    if kind == "zoom":
        across = (1 + share) / (1 - share)
        return [(("zoom", 1 + share), ("zoom", 1 - share), ("zoom", across))]
    sides = (("right", step / width), ("down", step / height))
    return [((way, part), (way, -part), (way, 2 * part)) for way, part in sides]


def moved(motion: Motion, array: ArrayLike, order: int = 1) -> np.ndarray:
    """Planes (..., H, W), resampled about their centre; what comes in from outside is zero."""
    what, amount = motion
    array = np.asarray(array, dtype=np.float64)
    height, width = array.shape[-2:]
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    inverse, shift = np.eye(2), np.zeros(2)
    if what == "turn":
        # Rows run downwards: where (down, right) was before it was turned.
        cos, sin = math.cos(amount), math.sin(amount)
        inverse = np.array([[cos, sin], [-sin, cos]])
    elif what == "zoom":
        inverse = np.eye(2) / amount
    else:
        shift = np.array([amount * height, 0.0] if what == "down" else [0.0, amount * width])
    offset = centre - inverse @ (centre + shift)
    out = np.empty_like(array)
    for at in np.ndindex(array.shape[:-2]):
        out[at] = ndimage.affine_transform(
            array[at], inverse, offset, order=order, mode="grid-constant"
        )
    return out


def deviations(
    network: Network, samples: np.ndarray, kind: str, step: float, *, order: int = 1
) -> Iterator[list[float]]:
    """Of each sample one m a pair, not divided by M; maps of one sample are (C, H, W)."""
    height, width = samples.shape[-2:]
    for x in samples:
        row = []
        for forwards, backwards, across in pairs(kind, step, height, width):
            there = network(moved(forwards, x, order).astype(np.float32))
            here = network(moved(backwards, x, order).astype(np.float32))
            told = moved(across, here, order) if here.ndim > 1 else here
            both = zip(there.ravel().tolist(), told.ravel().tolist(), strict=True)
            squares = [(a - b) ** 2 for a, b in both]
            row.append(math.sqrt(math.fsum(squares)) / (2 * step))
        yield row


def root_mean_square_distance(tensors: ArrayLike) -> float:
    """M: over unordered pairs of distinct samples."""
    flat = [np.asarray(t, dtype=np.float64).ravel() for t in np.asarray(tensors)]
    squares = [math.fsum((a - b) ** 2) for i, a in enumerate(flat) for b in flat[:i]]
    return math.sqrt(math.fsum(squares) / len(squares))
