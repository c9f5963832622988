"""The normaliser M of the latent measures, eq. (6)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from onnx_geed.errors import GeedError
from onnx_geed.measures import kernels

__all__ = ["normaliser"]


def normaliser(measure: str, points: ArrayLike) -> float | None:
    """Return M of eq. (6).

    Parameters
    ----------
    measure : {"latent-l2", "latent-cos"}
        Which mean to take.
    points : array_like, shape (n, k)
        Identity-element latents of distinct samples.

    Returns
    -------
    float or None
        Mean distance or mean cosine over unordered pairs of distinct points; ``None`` for fewer
        than two points.

    Raises
    ------
    GeedError
        If the measure has no normaliser.
        If a point is NaN or infinite.
    """
    if measure not in ("latent-l2", "latent-cos"):
        raise GeedError(f"{measure} has no normaliser; latent-l2 and latent-cos have one")
    rows = np.ascontiguousarray(points, dtype=np.float64)
    if len(rows) < 2:
        return None
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise GeedError(f"{measure}: point {int(bad[0][0])} holds NaN or infinity, so it has no M")
    if measure == "latent-cos":
        return float(kernels.pairwise_cosine(rows))
    mean = float(kernels.pairwise_euclidean(rows))
    if math.isfinite(mean):
        return mean
    # Squares were out of range. A power of two changes no digit.
    scale = 2.0 ** -math.frexp(np.abs(rows).max())[1]
    return float(kernels.pairwise_euclidean(rows * scale)) / scale
