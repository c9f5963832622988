"""M of eq. (6): the mean distance or cosine between different samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, known_names
from onnx_geed.measures import kernels
from onnx_geed.measures.catalogue import CATALOGUE, descriptor_of
from onnx_geed.measures.spread import Spread

__all__ = ["mean_distance", "normaliser"]

F64 = NDArray[np.float64]


@checked
def normaliser(measure: str, points: ArrayLike) -> float | None:
    """Return M of eq. (6), M₂ of ``unexplained``, or √(2 M₂) of ``sensitivity``.

    Parameters
    ----------
    measure : {"latent-l2", "latent-cos", "unexplained", "sensitivity"}
        The measure with this normaliser.
    points : array_like, shape (n, k)
        Identity-element latents of distinct samples, or whole outputs.

    Returns
    -------
    float or None
        Mean distance, mean cosine, half the mean squared distance or the root mean square distance
        over unordered pairs of distinct points; ``None`` for fewer than two points.

    Raises
    ------
    GeedError
        If the measure has no normaliser.
        If the points are not an array (n, k).
        If a point is NaN or infinite.
    """
    descriptor = descriptor_of(measure)
    mean_over_pairs = descriptor.normaliser
    if not descriptor.normalised:
        having = known_names([d.name for d in CATALOGUE.values() if d.normalised])
        raise GeedError(f"{measure} has no normaliser; {having} have one")
    rows = np.ascontiguousarray(points, dtype=np.float64)
    if rows.ndim != 2:
        raise GeedError(f"points are an array (n, k), found {rows.shape}")
    if len(rows) < 2:
        return None
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise GeedError(f"{measure}: point {int(bad[0][0])} holds NaN or infinity, so it has no M")
    if mean_over_pairs is not None:
        return float(mean_over_pairs(rows))
    mean_square = Spread(rows).mean_square()
    return None if mean_square is None else descriptor.divisor_of(mean_square)


def mean_distance(points: F64) -> float:
    """Return the mean distance over unordered pairs of rows, also of rows near float64's range.

    Parameters
    ----------
    points : ndarray of float64, shape (n, k)
        At least two, finite.

    Returns
    -------
    float
    """
    mean = float(kernels.mean_distance(points))
    if math.isfinite(mean):
        return mean
    # Squares were out of range. A power of two changes no digit.
    scale = 2.0 ** -math.frexp(np.abs(points).max())[1]
    return float(kernels.mean_distance(points * scale)) / scale
