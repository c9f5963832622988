"""Intervals of means: Student t and bootstrap."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Interval", "mean_interval", "standard_error"]

Interval = Literal["t", "bootstrap"]

_RESAMPLES = 9999


def standard_error(values: ArrayLike) -> float | None:
    """Return the standard error of the mean, s/√n; ``None`` for fewer than two values."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return None
    return float(x.std(ddof=1) / math.sqrt(len(x)))


def mean_interval(
    values: ArrayLike, kind: Interval = "t", *, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Return an interval of a mean.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        The values.
    kind : {"t", "bootstrap"}
        Student t, or BCa bootstrap with 9,999 resamples.
    seed : int
        Seed of the resampling.
    level : float
        Nominal coverage.

    Returns
    -------
    (float, float) or None
        Not clipped to any range; ``None`` for fewer than two values.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return None
    mean, error = float(x.mean()), standard_error(x)
    assert error is not None
    if error == 0.0 or np.ptp(x) == 0.0:
        return (mean, mean)
    if kind == "t":
        from scipy.special import stdtrit

        half = float(stdtrit(len(x) - 1, 0.5 + level / 2)) * error
        return (mean - half, mean + half)
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        # Where BCa degenerates it says so and gives NaN; the percentile interval then stands in.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            found = bootstrap(
                (x,),
                np.mean,
                n_resamples=_RESAMPLES,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
                batch=max(1, 10_000_000 // len(x)),
            ).confidence_interval
            if np.isfinite([found.low, found.high]).all():
                break
    return (float(found.low), float(found.high))
