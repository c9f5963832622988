"""Compiled loops of the measures: float32 in, float64 accumulated, one fixed order.

What a loop needs room for it is given: none asks for memory itself, or it could not be kept on the
disk as machine code alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import compiled

__all__ = [
    "add_to_spread",
    "channel_means",
    "cosines",
    "cosines_of_sums",
    "differences",
    "distances",
    "divergences",
    "mean_cosine",
    "mean_distance",
    "softmax_logs",
    "squared_distances",
]

# Sums of squares below it have lost digits.
_FEWEST = 1e-280


F64 = NDArray[np.float64]


@compiled("contract")
def channel_means(
    values: F64,
    sums: F64,
    members: NDArray[np.bool_],
    similarity: bool,
    of_elements: F64,
    zero_pairs: F64,
    of_channels: F64,
) -> None:
    """Means of values (N, G, C): (N, G) over channels, and (N, 2, C) over G and over members.

    Of a similarity the means are of minus the values, and ``zero_pairs`` (N, G) becomes the share
    of channels whose Σ u² and Σ v², of ``sums`` (N, G, C, 3), are zero.
    """
    orbits, elements, channels = values.shape
    count = 0
    for g in range(elements):
        count += members[g]
    count = max(1, count)
    sign = -1.0 if similarity else 1.0
    of_channels[:] = 0.0
    for o in range(orbits):
        for g in range(elements):
            total, zeros = 0.0, 0
            for c in range(channels):
                total += values[o, g, c]
                zeros += sums[o, g, c, 1] == 0.0 and sums[o, g, c, 2] == 0.0
            for c in range(channels):
                of_channels[o, 0, c] += values[o, g, c]
            if members[g]:
                for c in range(channels):
                    of_channels[o, 1, c] += values[o, g, c]
            of_elements[o, g] = sign * (total / channels)
            zero_pairs[o, g] = zeros / channels if similarity else 0.0
        for c in range(channels):
            of_channels[o, 0, c] = sign * (of_channels[o, 0, c] / elements)
            of_channels[o, 1, c] = sign * (of_channels[o, 1, c] / count)


@compiled("contract")
def _cosine(ab: float, aa: float, bb: float) -> float:
    """Cosine from Σ a·b, Σ a², Σ b², in [−1, 1]; NaN where one of the two is not finite.

    Choice: of two zero vectors it is 1, of one zero vector and another 0.
    """
    # First of all, or one that is not finite beside zeros would count as 0.
    if not math.isfinite(aa + bb):
        return math.nan
    if aa == 0.0 and bb == 0.0:
        return 1.0
    if aa == 0.0 or bb == 0.0:
        return 0.0
    # One root of the product: for equal vectors it is exact, so that their cosine is exactly 1.
    cosine = ab / math.sqrt(aa * bb)
    return min(1.0, max(-1.0, cosine))


@compiled("contract")
def cosines_of_sums(sums: F64, out: F64) -> None:
    """Set ``out[i]`` to the cosine from Σ u·v, Σ u², Σ v² of ``sums[i]``, as :func:`_cosine`."""
    for i in range(sums.shape[0]):
        ab, aa, bb = sums[i, 0], sums[i, 1], sums[i, 2]
        # Chosen between, not branched, which would keep the loop from being made of vectors.
        neither, either = (aa == 0.0) & (bb == 0.0), (aa == 0.0) | (bb == 0.0)
        cosine = ab / math.sqrt(1.0 if either else aa * bb)
        cosine = cosine if cosine > -1.0 else -1.0
        cosine = cosine if cosine < 1.0 else 1.0
        cosine = 0.0 if either else cosine
        cosine = 1.0 if neither else cosine
        out[i] = cosine if abs(aa + bb) < math.inf else math.nan


@compiled("contract")
def _power_of_two(a: F64) -> float:
    """Return the power of two that brings the largest entry near 1.

    Multiplied by it, no entry loses a digit, and the squares of any float64 are in range.
    """
    top = 0.0
    for i in range(a.shape[0]):
        top = max(top, abs(a[i]))
    if top == 0.0 or not top < math.inf:
        return 1.0
    # The bits of a float64: eleven of its exponent before 52 of its digits.
    exponent = np.int64((np.float64(top).view(np.int64) >> 52) - 1022)
    bits = (1023 - max(np.int64(-1000), min(np.int64(1000), exponent))) << 52
    return float(np.int64(bits).view(np.float64))


@compiled("contract")
def cosines(points: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = cos(points[i], references[i])."""
    for i in range(points.shape[0]):
        p = _power_of_two(points[i])
        q = _power_of_two(references[i])
        ab = 0.0
        aa = 0.0
        bb = 0.0
        for c in range(points.shape[1]):
            u = points[i, c] * p
            v = references[i, c] * q
            ab += u * v
            aa += u * u
            bb += v * v
        out[i] = _cosine(ab, aa, bb)


@compiled("contract")
def _sum_of_squares(a: F64, factor: float) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        u = a[i] * factor
        total += u * u
    return total


def distances(points: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = ‖points[i] − references[i]‖₂."""
    _distances(points, references, np.empty(points.shape[1]), out)


@compiled("contract")
def _distances(points: F64, references: F64, apart: F64, out: F64) -> None:
    for i in range(points.shape[0]):
        for c in range(points.shape[1]):
            apart[c] = points[i, c] - references[i, c]
        square = _sum_of_squares(apart, 1.0)
        if square < _FEWEST or square == math.inf:
            p = _power_of_two(apart)
            out[i] = math.sqrt(_sum_of_squares(apart, p)) / p
        else:
            out[i] = math.sqrt(square)


def squared_distances(points: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = ‖points[i] − references[i]‖₂²."""
    _squared_distances(points, references, np.empty(points.shape[1]), out)


@compiled("contract")
def _squared_distances(points: F64, references: F64, apart: F64, out: F64) -> None:
    for i in range(points.shape[0]):
        for c in range(points.shape[1]):
            apart[c] = points[i, c] - references[i, c]
        out[i] = _sum_of_squares(apart, 1.0)


@compiled("contract")
def differences(classes: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` to 1 where ``classes[i]`` differs from ``references[i]``, else to 0."""
    for i in range(classes.shape[0]):
        apart = 0.0
        for c in range(classes.shape[1]):
            if classes[i, c] != references[i, c]:
                apart = 1.0
        out[i] = apart


@compiled("contract")
def add_to_spread(points: F64, mean: F64, added: int, total: float) -> float:
    """Bring ``mean`` of so many points up to date with further ones; Welford's sum of squares.

    Returns what Σ ‖f − mean f‖² grows to from ``total``: the same, whatever comes in one call.
    """
    for i in range(points.shape[0]):
        share, grown = 1.0 / (added + i + 1), 0.0
        for c in range(points.shape[1]):
            before = points[i, c] - mean[c]
            mean[c] += before * share
            grown += before * (points[i, c] - mean[c])
        total += grown
    return total


def mean_distance(points: F64) -> float:
    """Mean distance over unordered pairs of rows; M of eq. (6)."""
    columns = np.ascontiguousarray(points.T)
    return float(_mean_distance(points, columns, np.empty(len(points))))


@compiled("contract")
def _mean_distance(points: F64, columns: F64, squares: F64) -> float:
    n, size = points.shape
    total = 0.0
    for i in range(n):
        # All distances to a point grow side by side, each in the order of its own coordinates.
        squares[:i] = 0.0
        for c in range(size):
            u = points[i, c]
            for j in range(i):
                squares[j] += (u - columns[c, j]) * (u - columns[c, j])
        for j in range(i):
            total += math.sqrt(squares[j])
    return float(total / (n * (n - 1) // 2))


def mean_cosine(points: F64) -> float:
    """Mean cosine over unordered pairs of rows; M of eq. (6)."""
    n, size = points.shape
    return float(_mean_cosine(points, np.empty((size, n)), np.zeros(n), np.empty(n)))


@compiled("contract")
def _mean_cosine(points: F64, columns: F64, squares: F64, products: F64) -> float:
    n, size = points.shape
    for i in range(n):
        p = _power_of_two(points[i])
        for c in range(size):
            u = points[i, c] * p
            columns[c, i] = u
            squares[i] += u * u
    total = 0.0
    for i in range(n):
        products[:i] = 0.0
        for c in range(size):
            u = columns[c, i]
            for j in range(i):
                products[j] += u * columns[c, j]
        for j in range(i):
            total += _cosine(products[j], squares[i], squares[j])
    return float(total / (n * (n - 1) // 2))


@compiled("contract")
def softmax_logs(logits: F64, out: F64) -> None:
    """Set ``out`` to log softmax of each row, through log-sum-exp."""
    for i in range(logits.shape[0]):
        top = logits[i, 0]
        for c in range(1, logits.shape[1]):
            top = max(top, logits[i, c])
        total = 0.0
        for c in range(logits.shape[1]):
            total += math.exp(logits[i, c] - top)
        shift = top + math.log(total)
        for c in range(logits.shape[1]):
            out[i, c] = logits[i, c] - shift


@compiled("contract")
def divergences(logs: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = KL(p_i ‖ q_i) in nats, from log-probabilities; 0·log 0 = 0.

    Infinite where some p > 0 stands against q = 0.
    """
    for i in range(logs.shape[0]):
        total = 0.0
        for c in range(logs.shape[1]):
            p = math.exp(logs[i, c])
            if p != 0.0:  # NaN stays NaN
                total += p * (logs[i, c] - references[i, c])
        # Rounding alone can make the divergence of equal distributions negative.
        out[i] = 0.0 if total < 0.0 else total
