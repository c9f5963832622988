"""Intervals of means: Student t, bootstrap, and Wilson's of a share."""

from __future__ import annotations

import functools
import math
import statistics
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.whole import whole

__all__ = [
    "INTERVALS",
    "Interval",
    "IntervalKind",
    "decisive_kind",
    "linearised",
    "mean_interval",
    "ratio_interval",
    "share_interval",
    "standard_error",
]

Interval = Literal["t", "bootstrap"]


#: The intervals that records have: Wilson's is that of samples which are 0 or 1, unasked.
IntervalKind = Literal["t", "bootstrap", "wilson"]


#: Names of the intervals that one can ask for.
INTERVALS: tuple[str, ...] = get_args(Interval)


_LEVEL = 0.95


_RESAMPLES = 9999


# More than Newton's method takes for any quantile that is asked for.
_STEPS = 50


# A bootstrap interval never reaches beyond the values it is made of: too narrow for fewer pairs.
_LEAST_PAIRS = 10


# The most numbers that one batch of resamples holds at a time (8 bytes each).
_BATCH = 2_000_000


_QUIET = threading.Lock()


def standard_error(values: ArrayLike) -> float | None:
    """Return the standard error of the mean, s/√n.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        The values.

    Returns
    -------
    float or None
        ``None`` for fewer than two values; 0 exactly where all are the same.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return None
    if np.ptp(x) == 0.0:  # a rounded mean would leave a spread of 1e-17
        return 0.0
    return float(x.std(ddof=1) / math.sqrt(len(x)))


def decisive_kind(pairs: int) -> Literal["t", "bootstrap"]:
    """Return the kind of interval that decides whether paired differences are apart from 0.

    Parameters
    ----------
    pairs : int
        How many there are.

    Returns
    -------
    {"t", "bootstrap"}
        The bootstrap, which bears skewed differences, where there are enough of them.
    """
    return "t" if pairs < _LEAST_PAIRS else "bootstrap"


def mean_interval(
    values: ArrayLike, kind: IntervalKind = "t", *, seed: int = 0, level: float = _LEVEL
) -> tuple[float, float] | None:
    """Return an interval of a mean.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        The values; for two models on the same samples, the paired differences.
    kind : {"t", "bootstrap", "wilson"}
        Student t, or BCa bootstrap with 9,999 resamples for skewed values; Wilson's score interval
        of a share for values that are 0 or 1.
    seed : int
        Seed of the resampling.
    level : float
        Nominal coverage.

    Returns
    -------
    (float, float) or None
        ``None`` for fewer than two values; of no width where all are the same, but for Wilson's.

    Notes
    -----
    Choice: not clipped to any range. On skewed values both cover less than they say, Student t
    more so; where the acceleration of BCa is undefined the percentile interval stands in.
    """
    x = np.asarray(values, dtype=np.float64)
    error = standard_error(x)
    if error is None:
        return None
    mean = float(x.mean())
    if kind == "wilson":
        return _wilson(mean, len(x), level)
    if error == 0.0:
        return (mean, mean)
    if kind == "t":
        half = _within(len(x) - 1, level) * error
        return (mean - half, mean + half)
    return _bootstrap((x,), np.mean, seed, level)


def linearised(tops: ArrayLike, bottoms: ArrayLike) -> NDArray[np.float64]:
    """Return values that average to a ratio of sums, and vary over samples as it does.

    Parameters
    ----------
    tops, bottoms : array_like of float, shape (n,)
        Numerators and denominators, of which these are not all 0.

    Returns
    -------
    ndarray of float64, shape (n,)
        R + (top − R · bottom) / mean bottom, R = Σ top / Σ bottom: the delta method.
    """
    above, below = np.asarray(tops, dtype=np.float64), np.asarray(bottoms, dtype=np.float64)
    mean = below.mean()
    ratio = above.mean() / mean
    values: NDArray[np.float64] = ratio + (above - ratio * below) / mean
    return values


def ratio_interval(
    tops: ArrayLike, bottoms: ArrayLike, kind: IntervalKind = "t", *, seed: int = 0
) -> tuple[float, float] | None:
    """Return an interval of a ratio of sums, whose denominator is of the same samples.

    Parameters
    ----------
    tops, bottoms : array_like of float, shape (n,)
        As :func:`linearised` takes them.
    kind : {"t", "bootstrap"}
        Student t of the linearised values, or BCa with samples drawn with both.
    seed : int
        Seed of the resampling.

    Returns
    -------
    (float, float) or None
        As :func:`mean_interval` returns it.
    """
    values = linearised(tops, bottoms)
    if kind != "bootstrap" or not standard_error(values):
        return mean_interval(values, kind)
    both = tuple(np.asarray(part, dtype=np.float64) for part in (tops, bottoms))
    return _bootstrap(both, _ratio, seed, _LEVEL)


def share_interval(hits: ArrayLike) -> tuple[float, float] | None:
    """Return an interval of a share over samples of which each has several draws.

    Parameters
    ----------
    hits : array_like of bool, shape (N, n)
        Whether something holds, of n elements of each of N samples.

    Returns
    -------
    (float, float) or None
        Within 0 and 1; ``None`` for fewer than two samples.

    Notes
    -----
    Wilson's score interval (Korn and Graubard's effective number in place of n, as for surveys in
    clusters). Student t of shares near 1 would reach beyond 1, and have no width at 1. The draws of
    a sample are not independent, so that they count for as many as give the variance v over
    samples of the samples' shares: p (1 - p) N / v. That is N where all draws of each sample agree,
    with n = 1 too, and v cannot be larger; it is taken to be at most N n. Where p is 0 or 1, v
    tells nothing, and N counts.
    """
    table = np.asarray(hits, dtype=np.float64)
    count, draws = table.shape
    if count < 2:
        return None
    share = float(table.mean())
    alone, spread = share * (1 - share), float(table.mean(axis=1).var())
    number = float(count)
    if alone > 0:
        number = min(count * max(1.0, alone / spread), count * draws) if spread else count * draws
    return _wilson(share, number, _LEVEL)


def _ratio(tops: Any, bottoms: Any, axis: int = -1) -> Any:
    """Return a ratio of sums; 0 where there is no error at all."""
    above, below = (np.asarray(part.sum(axis=axis)) for part in (tops, bottoms))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _wilson(share: float, n: float, level: float) -> tuple[float, float]:
    """Return Wilson's score interval, which tells none of n from a share of 0."""
    z = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    # At both ends it touches the share itself, 0 or 1, but for rounding.
    return (max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


@functools.cache
def _within(freedom: int, level: float) -> float:
    """Return t so that a Student t variable lies in (-t, t) at some probability.

    Notes
    -----
    Newton's method on equations 26.7.3 and 26.7.4 of Abramowitz and Stegun, Handbook of
    Mathematical Functions: for θ = atan(t/√ν), sums of powers of cos θ. SciPy's ``stdtrit`` gives
    the same to 1e-12; its import takes as long as a run of a small network.
    """
    # Ratios of neighbouring terms, but for cos²θ: 1/2, 3/4, ... or 2/3, 4/5, ...
    k = np.arange(1, freedom // 2)
    ratios = 2 * k / (2 * k + 1) if freedom % 2 else (2 * k - 1) / (2 * k)
    gamma = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = 2 * math.exp(gamma) / math.sqrt(freedom * math.pi)
    t = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    # From below, and nearer with every step.
    for _ in range(_STEPS):
        theta = math.atan(t / math.sqrt(freedom))
        cosine = math.cos(theta)
        inside = math.sin(theta) * (1 + np.cumprod(ratios * cosine**2).sum())
        if freedom % 2:
            inside = 2 / math.pi * (theta + (inside * cosine if freedom > 1 else 0))
        density = scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (level - inside) / density
        t += step
        if abs(step) <= 1e-14 * t:
            break
    return float(t)


def _bootstrap(
    data: tuple[NDArray[np.float64], ...], statistic: Callable[..., Any], seed: int, level: float
) -> tuple[float, float]:
    with whole():
        from scipy.stats import bootstrap

    low = high = math.nan
    # Filters of warnings are the whole process's: two threads would leave each other's.
    with whole(), _QUIET, warnings.catch_warnings():
        # Where BCa degenerates it warns and gives NaN, which is looked for instead.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            ends = bootstrap(
                data,
                statistic,
                n_resamples=_RESAMPLES,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
                batch=max(1, _BATCH // len(data[0])),
                paired=len(data) > 1,
            ).confidence_interval
            low, high = float(ends.low), float(ends.high)
            if math.isfinite(low) and math.isfinite(high):
                break
    return (low, high)
