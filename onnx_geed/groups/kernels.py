"""Compiled loops that move samples by every element of a group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import compiled

__all__ = ["fill_orbits", "resample"]

F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


F32 = NDArray[np.float32]


@compiled("contract")
def resample(planes: F32, c: int, index: I32, weight: F64, b: int, rows: F32, r: int) -> None:
    """Set ``rows[r, p] = Σ_t weight[b, p, t] planes[c, index[b, p, t]]``.

    Whole arrays are passed, since taking a row of one costs as much as a small map.
    """
    if index.shape[2] == 4:  # bilinear; written out, it takes half the time
        for p in range(index.shape[1]):
            rows[r, p] = (
                weight[b, p, 0] * planes[c, index[b, p, 0]]
                + weight[b, p, 1] * planes[c, index[b, p, 1]]
                + weight[b, p, 2] * planes[c, index[b, p, 2]]
                + weight[b, p, 3] * planes[c, index[b, p, 3]]
            )
        return
    for p in range(index.shape[1]):
        total = 0.0
        for t in range(index.shape[2]):
            total += weight[b, p, t] * planes[c, index[b, p, t]]
        rows[r, p] = total


def fill_orbits(x: F32, index: I32, weight: F64, base_of: I32, permutation: I32, out: F32) -> None:
    """Fill ``out`` (N, G, C, P) with the orbits of ``x`` (N, C, P)."""
    bases = np.empty((len(index) + 1, x.shape[2]), dtype=np.float32)
    _fill_orbits(x, index, weight, base_of, permutation, bases, out)


@compiled("contract")
def _fill_orbits(
    x: F32, index: I32, weight: F64, base_of: I32, permutation: I32, bases: F32, out: F32
) -> None:
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for p in range(x.shape[2]):
                bases[0, p] = x[n, c, p]
            for b in range(index.shape[0]):
                resample(x[n], c, index, weight, b, bases, b + 1)
            for g in range(base_of.shape[0]):
                source = bases[base_of[g]]
                for p in range(permutation.shape[1]):
                    out[n, g, c, p] = source[np.uint32(permutation[g, p])]
