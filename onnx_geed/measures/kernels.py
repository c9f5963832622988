"""Compiled loops of the measures: float32 in, float64 accumulated, one fixed order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import resample
from onnx_geed.jit import compiled

__all__ = [
    "channel_means",
    "channel_sums",
    "cosines",
    "cosines_of_sums",
    "distances",
    "divergences",
    "mean_cosine",
    "mean_distance",
    "softmax_logs",
]

# These sums the compiler may split into lanes, once and for all when it compiles; the three of them
# alike, so that equal maps have equal sums and a cosine of exactly 1.
_summing = compiled("contract", "reassoc")


# Sums of squares below it have lost digits.
_FEWEST = 1e-280


F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


I64 = NDArray[np.int64]


@compiled("contract")
def _resample_four(planes: F32, s: int, index: I32, weight: F64, rows: F32) -> None:
    """Bilinear: set ``rows[k, b + 1, p] = Σ_t weight[b, p, t] planes[s + k, index[b, p, t]]``.

    Four planes together, since reading a pixel's taps and weights takes as long as using them.
    """
    for b in range(index.shape[0]):
        for p in range(index.shape[1]):
            # Unsigned, for a signed index is asked each time whether it counts from the end.
            h, i = np.uint32(index[b, p, 0]), np.uint32(index[b, p, 1])
            j, m = np.uint32(index[b, p, 2]), np.uint32(index[b, p, 3])
            w, x, y, z = weight[b, p, 0], weight[b, p, 1], weight[b, p, 2], weight[b, p, 3]
            for k in range(4):
                rows[k, b + 1, p] = (
                    w * planes[s + k, h]
                    + x * planes[s + k, i]
                    + y * planes[s + k, j]
                    + z * planes[s + k, m]
                )


@compiled("contract")
def _gather_four(rows: F32, source: int, gathered: I32, i: int, r: int) -> None:
    """Set ``rows[k, r, p] = rows[k, source, gathered[i, p]]``."""
    for p in range(gathered.shape[1]):
        q = np.uint32(gathered[i, p])
        rows[0, r, p] = rows[0, source, q]
        rows[1, r, p] = rows[1, source, q]
        rows[2, r, p] = rows[2, source, q]
        rows[3, r, p] = rows[3, source, q]


@compiled("contract")
def _rows_of_four(
    planes: F32, s: int, index: I32, weight: F64, source: I32, gathered: I32, rows: F32
) -> None:
    """Set ``rows[k]`` to all rows of plane s + k."""
    for k in range(4):
        for p in range(planes.shape[1]):
            rows[k, 0, p] = planes[s + k, p]
    if index.shape[2] == 4:
        _resample_four(planes, s, index, weight, rows)
    else:
        for b in range(index.shape[0]):
            for k in range(4):
                resample(planes, s + k, index, weight, b, rows[k], b + 1)
    for i in range(source.shape[0]):
        _gather_four(rows, source[i], gathered, i, index.shape[0] + 1 + i)


@_summing
def _sums_of_some(
    maps: F32,
    s: int,
    count: int,
    target: I32,
    rows: F32,
    row_of: I32,
    backwards: NDArray[np.bool_],
    runs: I64,
    out: F64,
) -> None:
    """Set ``out[g, c]`` to Σ u·v, Σ u², Σ v² of ``maps[g, c]`` and its row, for some channels.

    Over the pixels from ``runs[i, 0]`` to before ``runs[i, 1]``. A row read from its end is its
    half turn.
    """
    last = maps.shape[2] - 1
    for k in range(count):
        for g in range(maps.shape[0]):
            c, r = target[g, s + k], row_of[g]
            ab = 0.0
            aa = 0.0
            bb = 0.0
            for i in range(runs.shape[0]):
                if backwards[g]:
                    for p in range(runs[i, 0], runs[i, 1]):
                        # Signed, it would not be made of vectors and take five times as long.
                        u = np.float64(maps[g, c, np.uint64(p)])
                        v = np.float64(rows[k, r, np.uint64(last - p)])
                        ab += u * v
                        aa += u * u
                        bb += v * v
                else:
                    for p in range(runs[i, 0], runs[i, 1]):
                        u = np.float64(maps[g, c, np.uint64(p)])
                        v = np.float64(rows[k, r, np.uint64(p)])
                        ab += u * v
                        aa += u * u
                        bb += v * v
            out[g, c, 0] = ab
            out[g, c, 1] = aa
            out[g, c, 2] = bb


@compiled("contract")
def _runs(pixels: I32) -> I64:
    """Return the first pixel of each run of neighbours, and the one behind its last, (runs, 2)."""
    runs = np.empty((pixels.shape[0], 2), dtype=np.int64)
    count = 0
    for i in range(pixels.shape[0]):
        if i == 0 or pixels[i] != pixels[i - 1] + 1:
            runs[count, 0] = pixels[i]
            count += 1
        runs[count - 1, 1] = pixels[i] + 1
    return runs[:count]


@compiled("contract")
def channel_sums(
    activations: F32,
    references: F32,
    target: I32,
    index: I32,
    weight: F64,
    source: I32,
    gathered: I32,
    row_of: I32,
    backwards: NDArray[np.bool_],
    pixels: I32,
    out: F64,
) -> None:
    """Sums behind eq. (5) for some orbits.

    ``out[o, g, c]`` becomes Σ u·v, Σ u², Σ v² over ``pixels``, where u is channel c of f(gx),
    ``activations`` (N, G, C, P), and v channel c of φ_Y(g) f̂(x), of ``references`` (N, C, P).
    ``target[g, s]`` is the channel to which g carries channel s. Rows are the map itself, its
    resamplings, and what is gathered from these: row B + 1 + i is row ``source[i]`` by
    ``gathered[i]``. Element g compares with row ``row_of[g]``, forwards or backwards.
    """
    orbits, channels, area = references.shape
    rows = np.empty((4, index.shape[0] + 1 + source.shape[0], area), dtype=np.float32)
    last = np.zeros((4, area), dtype=np.float32)
    runs = _runs(pixels)
    for o in range(orbits):
        reference, maps, sums = references[o], activations[o], out[o]
        for s in range(0, channels, 4):
            count = min(4, channels - s)
            if count == 4:
                _rows_of_four(reference, s, index, weight, source, gathered, rows)
            else:
                last[:count] = reference[s:]
                _rows_of_four(last, 0, index, weight, source, gathered, rows)
            _sums_of_some(maps, s, count, target, rows, row_of, backwards, runs, sums)


@compiled("contract")
def channel_means(
    values: F64, members: NDArray[np.bool_], of_elements: F64, of_channels: F64
) -> None:
    """Means of values (N, G, C): (N, G) over channels, and (N, 2, C) over G and over members."""
    orbits, elements, channels = values.shape
    count = max(1, members.sum())
    of_channels[:] = 0.0
    for o in range(orbits):
        for g in range(elements):
            total = 0.0
            for c in range(channels):
                value = values[o, g, c]
                total += value
                of_channels[o, 0, c] += value
                if members[g]:
                    of_channels[o, 1, c] += value
            of_elements[o, g] = total / channels
        for c in range(channels):
            of_channels[o, 0, c] /= elements
            of_channels[o, 1, c] /= count


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
    """Set ``out[i]`` to the cosine from Σ u·v, Σ u², Σ v² of ``sums[i]``."""
    for i in range(sums.shape[0]):
        out[i] = _cosine(sums[i, 0], sums[i, 1], sums[i, 2])


@compiled("contract")
def _power_of_two(a: F64) -> float:
    """Return the power of two that brings the largest entry near 1.

    Multiplied by it, no entry loses a digit, and the squares of any float64 are in range.
    """
    top = 0.0
    for i in range(a.shape[0]):
        top = max(top, abs(a[i]))
    exponent = math.frexp(top)[1]
    return math.ldexp(1.0, -max(-1000, min(1000, exponent)))


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


@compiled("contract")
def distances(points: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = ‖points[i] − references[i]‖₂."""
    for i in range(points.shape[0]):
        apart = points[i] - references[i]
        square = _sum_of_squares(apart, 1.0)
        if square < _FEWEST or square == math.inf:
            p = _power_of_two(apart)
            out[i] = math.sqrt(_sum_of_squares(apart, p)) / p
        else:
            out[i] = math.sqrt(square)


@compiled("contract")
def mean_distance(points: F64) -> float:
    """Mean distance over unordered pairs of rows; M of eq. (6)."""
    n, size = points.shape
    columns = points.T.copy()
    squares = np.empty(n)
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


@compiled("contract")
def mean_cosine(points: F64) -> float:
    """Mean cosine over unordered pairs of rows; M of eq. (6)."""
    n, size = points.shape
    columns = np.empty((size, n))
    squares = np.zeros(n)
    for i in range(n):
        p = _power_of_two(points[i])
        for c in range(size):
            u = points[i, c] * p
            columns[c, i] = u
            squares[i] += u * u
    products = np.empty(n)
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
        top = logits[i].max()
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
