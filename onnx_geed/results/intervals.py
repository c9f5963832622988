"""Intervals of means: Student t and bootstrap."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["INTERVALS", "Interval", "mean_interval", "standard_error"]

Interval = Literal["t", "bootstrap"]


#: Names of the intervals.
INTERVALS: tuple[str, ...] = get_args(Interval)


_RESAMPLES = 9999


# The most numbers that one batch of resamples holds at a time (8 bytes each).
_BATCH = 2_000_000


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


def mean_interval(
    values: ArrayLike, kind: Interval = "t", *, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Return an interval of a mean.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        The values; for two models on the same samples, the paired differences.
    kind : {"t", "bootstrap"}
        Student t, or BCa bootstrap with 9,999 resamples for skewed values.
    seed : int
        Seed of the resampling.
    level : float
        Nominal coverage.

    Returns
    -------
    (float, float) or None
        ``None`` for fewer than two values; of no width where all are the same.

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
    if error == 0.0:
        return (mean, mean)
    if kind == "t":
        # Not scipy.stats.t, whose import takes a second.
        from scipy.special import stdtrit

        half = float(stdtrit(len(x) - 1, 0.5 + level / 2)) * error
        return (mean - half, mean + half)
    return _bootstrap(x, seed, level)


def _bootstrap(x: NDArray[np.float64], seed: int, level: float) -> tuple[float, float]:
    from scipy.stats import bootstrap

    low = high = math.nan
    with warnings.catch_warnings():
        # Where BCa degenerates it warns and gives NaN, which is looked for instead.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            ends = bootstrap(
                (x,),
                np.mean,
                n_resamples=_RESAMPLES,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
                batch=max(1, _BATCH // len(x)),
            ).confidence_interval
            low, high = float(ends.low), float(ends.high)
            if math.isfinite(low) and math.isfinite(high):
                break
    return (low, high)
