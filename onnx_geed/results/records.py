"""The record of one measure on one tensor: eq. (4) with its interval, its parts and its doubts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError, nearest, one_of, shown
from onnx_geed.measures import Descriptor, beyond_rounding, descriptor_of
from onnx_geed.results.halves import half_part
from onnx_geed.results.intervals import (
    INTERVALS,
    IntervalKind,
    effective_number,
    linearised,
    mean_interval,
    ratio_interval,
    standard_error,
)
from onnx_geed.results.schema import Record, Statistics

__all__ = [
    "ILL_CONDITIONED",
    "ROUNDING",
    "BetweenSamples",
    "Normaliser",
    "OrbitDeviations",
    "make_record",
    "mean_of",
]

F64 = NDArray[np.float64]


#: Below this, a mean cosine is too near zero to divide by.
ILL_CONDITIONED = 0.05


#: Less than this share of a measure's scale is rounding, spec section 2.
ROUNDING = 1e-6


# Latents of different samples that are nearer than this share of their norm are near rounding.
_SAME = 1e-4


# Errors that count for fewer samples, and for less than half of those there are, are worth a word.
_FEW_ERRORS = 10


# Beyond this, squares and sums overflow.
_LARGEST = 1e150


@dataclass(frozen=True, eq=False)
class OrbitDeviations:
    """Deviations of all orbits over some elements, unnormalised.

    Parameters
    ----------
    values : array_like of float64, shape (N, n)
        m(f(gx), φ_Y(g) f̂(x)).
    elements : sequence of str
        Names of the n elements.
    zero_pairs : float
        Share of cosines between two zero vectors.
    per_channel : array_like of float64, shape (C,), optional
        −cos of each channel, mean over samples and elements.
    skipped : int
        How many of the first elements are left out of means: the identity, where it is held
        against itself alone.
    errors : array_like of float64, shape (N,), optional
        Each sample's mean error over the elements, for a share of it.
    """

    values: ArrayLike
    elements: Sequence[str]
    zero_pairs: float = 0.0
    per_channel: ArrayLike | None = None
    skipped: int = 0
    errors: ArrayLike | None = None


@dataclass(frozen=True)
class Normaliser:
    """M of eq. (6).

    Parameters
    ----------
    value : float or None
        M; None where there are fewer than two points.
    points : int or None
        How many points it was taken over.
    norm : float, optional
        Their mean norm, which tells M from rounding.
    """

    value: float | None = None
    points: int | None = None
    norm: float | None = None


@dataclass(frozen=True, eq=False)
class BetweenSamples:
    """The measure between distinct samples, unnormalised.

    Parameters
    ----------
    deviations : array_like of float64, shape (K, n)
        m(f(gx'), φ_Y(g) f̂(x)) of pairs of distinct samples.
    norm : float
        Root mean square of ‖f̂(x)‖₂ over these pairs, which tells a distance from rounding.
    """

    deviations: ArrayLike
    norm: float = 1.0


def make_record(
    orbits: OrbitDeviations,
    *,
    measure: str,
    layer: str,
    layout: str,
    output_action: str,
    exact: OrbitDeviations | None = None,
    half: OrbitDeviations | None = None,
    normaliser: Normaliser | None = None,
    between: BetweenSamples | None = None,
    interval: str = "t",
    seed: int = 0,
    warnings: Iterable[str] = (),
    trials: bool = False,
) -> Record:
    """Return one entry of ``measurements``, spec section 6.

    Parameters
    ----------
    orbits : OrbitDeviations
        Of all elements.
    measure, layer, layout, output_action : str
        What was measured where.
    exact : OrbitDeviations, optional
        Of the exact subgroup, with its own f̂.
    half : OrbitDeviations, optional
        Of every second element of a sampled group, with its own f̂.
    normaliser : Normaliser, optional
        M, for a measure that is divided by it.
    between : BetweenSamples, optional
        The measure between distinct samples.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.
    warnings : iterable of str
        Doubts that are known already.
    trials : bool
        Whether a deviation is 0 or 1. Where each sample has one that counts, in the whole or a
        part, Wilson's interval takes the place of Student t.

    Returns
    -------
    dict
        Python's own floats only.

    Raises
    ------
    GeedError
        If there are no samples.
        If a deviation, M or the share of zero pairs is not finite, or a pair of samples gives NaN.
        If there is no such interval, or no such measure.

    Notes
    -----
    Eq. (4): ``value`` is the mean of ``per_sample``, and ``per_element`` averages to it; both are
    divided by M where there is one. An identity that is left out of means stands in ``deviations``
    alone. Choice: the interval holds M fixed and is not clipped. Where M
    is missing or 0, ``value``, ``ci95`` and ``stderr`` are ``None``, and ``per_sample`` and
    ``per_element`` belong to ``unnormalised``.

    ``between_samples`` is the mean of ``between``, in the scale of ``value`` (of ``unnormalised``
    where M moves the perfect value), and ``relative`` = (value − perfect) / (between_samples −
    perfect). Choice: ``relative`` is ``None`` where the divisor is below 1e-6: of the vectors' norm
    for distances, of 1 for cosines, nats and what was divided by M.

    A share of the error is divided by the mean of ``errors`` in place of M. These are of the same
    samples, so that the interval is of a ratio of sums, as :func:`ratio_interval` returns it; over
    the exact subgroup they are others. Choice: there is no ``between_samples``.

    ``half`` is held against the value sample by sample. Choice: a doubt where the two are further
    apart than both that difference's interval and the value's own explain.
    """
    descriptor, name = descriptor_of(measure), f"{measure}@{layer}"
    if interval not in INTERVALS:
        near = nearest(interval, INTERVALS) if isinstance(interval, str) else ""
        raise GeedError(
            f"no interval is called {shown(interval)!r}; choose {one_of(INTERVALS)}.{near}"
        )
    deviations = _finite(name, orbits)
    if normaliser is not None and normaliser.value is not None:
        _check_finite(name, "M", normaliser.value)
    _check_finite(name, "the share of zero pairs", orbits.zero_pairs)
    # M means nothing to measures that are not divided by it.
    by_m = (normaliser or Normaliser()) if descriptor.normalised else None
    if orbits.errors is not None:
        by_m = Normaliser(float(np.asarray(orbits.errors, dtype=np.float64).mean()))
        _check_finite(name, "the mean error", by_m.value or 0.0)
    divisor = _Divisor.of(by_m, deviations)
    kind = cast(IntervalKind, interval)
    counted = slice(orbits.skipped, None)
    statistics = _statistics(deviations, orbits, divisor, kind, seed, trials)
    between_samples, relative, hardly = _relative(
        name, descriptor, statistics, between, divisor, counted
    )
    doubts = [] if by_m is None else _doubts(descriptor, by_m, divisor.usable)
    if orbits.errors is not None and divisor.usable:
        doubts += _few_errors(orbits.errors, kind)
    of_half = None
    if half is not None:
        own = _statistics(_finite(name, half), half, divisor, kind, seed, trials)
        of_half, few = half_part(descriptor, half.elements, statistics, own)
        doubts += few if beyond_rounding(descriptor, statistics, own, between) else []
    record = {
        "measure": measure,
        "layer": layer,
        "layout": layout,
        "output_action": output_action,
        **statistics,
        "between_samples": between_samples,
        "relative": relative,
        "norm_samples": by_m.points if by_m else None,
        "zero_pairs": float(orbits.zero_pairs),
        "per_channel": _floats(orbits.per_channel),
        "exact": None
        if exact is None
        else {
            "elements": list(exact.elements),
            **_statistics(_finite(name, exact), exact, divisor, kind, seed, trials),
            "per_channel": _floats(exact.per_channel),
        },
        "half": of_half,
        "references": None,
        "warnings": [*warnings, *doubts, *hardly],
    }
    return cast(Record, record)


def _finite(name: str, orbits: OrbitDeviations) -> F64:
    # In one layout, so that equal deviations have equal means, whatever they were gathered from.
    array = np.ascontiguousarray(orbits.values, dtype=np.float64)
    elements = orbits.elements
    if array.ndim != 2 or array.shape[1] != len(elements) or len(array) == 0:
        raise GeedError(
            f"{name}: deviations are (samples, {len(elements)} elements) of at least one sample, "
            f"found the shape {array.shape}"
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        sample, element = (int(i) for i in bad[0])
        raise GeedError(
            f"{name}: the deviation of sample {sample} under {elements[element]} is NaN or "
            "infinite; look at the model's outputs there"
        )
    return array


def _check_finite(name: str, quantity: str, value: float) -> None:
    if not math.isfinite(value):
        raise GeedError(f"{name}: {quantity} is NaN or infinite; look at the model's outputs")


@dataclass(frozen=True)
class _Divisor:
    """The divisor of values: M where it can be, else 1.

    Parameters
    ----------
    m : float or None
        M, if the measure has one.
    by_m : bool
        Whether the measure is divided by M at all.
    usable : bool
        Whether there is a value: no M is needed, or values over M stay within floats.
    """

    m: float | None
    by_m: bool
    usable: bool

    @classmethod
    def of(cls, normaliser: Normaliser | None, deviations: F64) -> _Divisor:
        if normaliser is None:
            return cls(None, by_m=False, usable=True)
        # Python's own float, also where numpy's was given.
        m = None if normaliser.value is None else float(normaliser.value)
        if not m:
            return cls(m, by_m=True, usable=False)
        with np.errstate(over="ignore"):
            return cls(m, by_m=True, usable=bool(np.abs(deviations / m).max() < _LARGEST))

    @property
    def value(self) -> float:
        return self.m if self.usable and self.m is not None else 1.0


def _relative(
    name: str,
    descriptor: Descriptor,
    statistics: Statistics,
    between: BetweenSamples | None,
    divisor: _Divisor,
    counted: slice,
) -> tuple[float | None, float | None, list[str]]:
    """Return ``between_samples``, ``relative``, and a doubt where the tensor hardly reacts."""
    if between is None:
        return None, None, []
    pairs = np.ascontiguousarray(between.deviations, dtype=np.float64)
    infinite = np.isinf(pairs).any()
    # A class that one sample rules out and another does not is infinitely unlikely.
    if np.isnan(pairs).any() or (infinite and not descriptor.of_classes):
        raise GeedError(
            f"{name}: a pair of samples gives NaN or infinity; look at the model's outputs"
        )
    if infinite:
        doubt = "no between_samples: a class has probability 0 for one sample and not for another"
        return None, None, [doubt]
    scale = 1.0 if descriptor.perfect_over_m else divisor.value
    # The mean over g first, as value has it, so that equal orbits and pairs give equal numbers.
    unnormalised = float(pairs[:, counted].mean(axis=1).mean())
    other, perfect = unnormalised / scale, descriptor.perfect
    plain = descriptor.perfect_over_m or statistics["value"] is None
    value = statistics["unnormalised" if plain else "value"]
    assert value is not None
    share = ROUNDING * between.norm  # of vectors; squared distances are rounded by its square
    rounding = share**descriptor.power if descriptor.in_tensor_units else ROUNDING
    apart = other - perfect
    if unnormalised - perfect <= rounding or (scale != 1.0 and apart <= ROUNDING):
        doubt = (
            "the tensor hardly reacts to the input (different samples differ by only "
            f"{unnormalised - perfect:.3g}), so the value says little"
        )
        return other, None, [doubt]
    return other, (value - perfect) / apart, []


def _few_errors(errors: ArrayLike, interval: IntervalKind) -> list[str]:
    """Say so where a few samples have nearly all of the error."""
    number, n = effective_number(errors), len(np.asarray(errors))
    few = number < _FEW_ERRORS and (number <= 1 or 2 * number < n)
    if n < 2 or not few:
        return []
    # Resamples hold no other errors than these few.
    found = "too narrow" if interval == "bootstrap" else "wide"
    return [
        f"the errors of {n} samples count for {number:.1f} equal ones, since few samples have most "
        f"of the error: the interval is {'missing' if number <= 1 else found}; take more samples"
    ]


def _doubts(descriptor: Descriptor, normaliser: Normaliser, usable: bool) -> list[str]:
    m, norm = normaliser.value, normaliser.norm
    if descriptor.of_error:
        none = f"the mean error is {m or 0:.3g}, so no share of it can be computed"
        return [] if usable else [none]
    if m is None:
        return [
            f"M needs two points, {normaliser.points or 0} given: only the unnormalised value "
            "is available; raise --norm-samples or give more data"
        ]
    if not usable:
        return [f"M is {m:.3g}: only the unnormalised value is available"]
    doubts = []
    if m < 0:
        doubts.append(
            f"M = {m:.3g} is negative: the order of normalised values is reversed; gates and "
            "comparisons use the unnormalised value"
        )
    if descriptor.similarity and abs(m) < ILL_CONDITIONED:
        doubts.append(f"M = {m:.3g} is near zero: the normalised value is ill-conditioned")
    near = descriptor.in_tensor_units and norm is not None
    if near and norm is not None and m < (_SAME * norm) ** descriptor.power:
        what = "tensor" if descriptor.spread else "latent"
        doubts.append(
            f"M = {m:.3g} is close to rounding error for {what}s of norm {norm:.3g}: different "
            f"samples have nearly the same {what}, so the normalised value is ill-conditioned"
        )
    # Unit vectors that are δ apart have a cosine of 1 − δ²/2.
    if descriptor.similarity and 1 - m < _SAME**2 / 2:
        doubts.append(
            f"M is within {1 - m:.1g} of 1: different samples have nearly the same latent, so the "
            "distance of the value from perfect is close to rounding error"
        )
    return doubts


def _floats(values: ArrayLike | None) -> list[float] | None:
    return None if values is None else [float(v) for v in np.asarray(values)]


def _statistics(
    deviations: F64,
    orbits: OrbitDeviations,
    divisor: _Divisor,
    interval: IntervalKind,
    seed: int,
    trials: bool,
) -> Statistics:
    """Return eq. (4), its interval and its parts, divided by M where there is one."""
    counted, elements = deviations[:, orbits.skipped :], orbits.elements[orbits.skipped :]
    # Each part by its own elements: an exact subgroup may have one that counts, the group more.
    if trials and interval == "t" and counted.shape[1] == 1:
        interval = "wilson"
    means, errors = counted.mean(axis=1), None
    if orbits.errors is not None:
        # Over another set of elements the mean error is another.
        errors = np.ascontiguousarray(orbits.errors, dtype=np.float64)
        divisor = _Divisor.of(Normaliser(float(errors.mean())), deviations)
    per_sample = means / divisor.value
    value, ends = mean_of(per_sample, interval, seed) if divisor.usable else (None, None)
    spread = per_sample
    if errors is not None and divisor.usable:
        spread = linearised(means, errors)
        pair = ratio_interval(means, errors, interval, seed=seed)
        ends = list(pair) if pair else None
        if not standard_error(spread) and ends:
            ends = [float(per_sample.mean())] * 2
    per_element = (counted.mean(axis=0) / divisor.value).tolist()
    statistics: Statistics = {
        "value": value,
        "ci95": ends,
        "interval": interval,
        "stderr": None if ends is None else standard_error(spread),
        "samples": len(deviations),
        "normaliser": divisor.m,
        "unnormalised": float(means.mean()) if divisor.by_m else None,
        "per_element": dict(zip(elements, per_element, strict=True)),
        "per_sample": per_sample.tolist(),
        "deviations": deviations.tolist(),
    }
    return statistics if errors is None else {**statistics, "errors": errors.tolist()}


def mean_of(per_sample: F64, interval: IntervalKind, seed: int) -> tuple[float, list[float] | None]:
    """Return the mean of one value a sample, and its interval."""
    ends = mean_interval(per_sample, interval, seed=seed)
    return float(per_sample.mean()), list(ends) if ends else None
