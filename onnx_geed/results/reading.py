"""The reading of a record: its numbers on one scale, and its perfect value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import Descriptor, Scale, descriptor_of, told, told_ends, within
from onnx_geed.results.intervals import linearised, mean_interval
from onnx_geed.results.records import ROUNDING
from onnx_geed.results.schema import Record, Statistics

__all__ = [
    "HARDLY",
    "RELATIVE",
    "Reading",
    "far_off",
    "most_of_orbit",
    "on_one_scale",
    "ranking_value",
    "read_record",
]

F64 = NDArray[np.float64]


#: The unit of a value told relative to different samples.
RELATIVE = "relative to different samples"


#: From this share of the way to another sample on, nothing is kept worth the name.
HARDLY = 0.8


@dataclass(frozen=True, eq=False)
class Reading:
    """A record on the scale that judges it: larger means less equivariant.

    Parameters
    ----------
    measure, layer : str
        What was measured where.
    output_action : str
        How the group moves the tensor; ``trivial`` asks for invariance.
    value : float
        Eq. (4): the record's ``value``, but unnormalised where there is none, and where the
        normalised value is perfect at another number for each model (−1/M of ``latent-cos``).
    unit : str
        What the numbers are.
    perfect : float
        The value of a perfectly equivariant map: the same number for every model.
    ci95 : (float, float) or None
        Interval over samples.
    per_sample : ndarray of float64, shape (N,)
        One value a sample.
    deviations : ndarray of float64, shape (N, n)
        Single deviations on the same scale.
    exact : float or None
        The value over the exact subgroup.
    exact_ci95 : (float, float) or None
        Its interval.
    normalised : bool
        Whether the numbers are those of the record's ``value``.
    normaliser : float or None
        The record's M.
    trips : mapping of str to float
        The round trips among the record's references, on the same scale.
    untrained : float or None
        The value of the same network untrained, on the same scale.
    between : float or None
        The value that another sample in place of f(gx) has, on the same scale.
    relative : float or None
        (value − perfect) / (between − perfect): 0 is perfect, 1 no closer than different samples
        are. None where ``between`` is not known, or the tensor hardly reacts.
    errors : ndarray of float64, shape (N,), optional
        Of a share of the error, each sample's error as a multiple of the mean.
    averaged : tuple of str
        Names of the elements over which f̂ is a mean, where these are some and not all.
    skipped : int
        Elements at the beginning that are compared with themselves and do not count.
    """

    measure: str
    layer: str
    output_action: str
    value: float
    unit: str
    perfect: float
    ci95: tuple[float, float] | None
    per_sample: F64
    deviations: F64
    exact: float | None
    exact_ci95: tuple[float, float] | None
    normalised: bool
    normaliser: float | None = None
    trips: Mapping[str, float] = field(default_factory=dict)
    untrained: float | None = None
    between: float | None = None
    relative: float | None = None
    errors: F64 | None = None
    averaged: tuple[str, ...] = ()
    skipped: int = 0

    @property
    def descriptor(self) -> Descriptor:
        """The measure's descriptor."""
        return descriptor_of(self.measure)

    @property
    def away(self) -> float:
        """Distance of the value from the perfect one; never negative but for rounding."""
        return self.value - self.perfect

    @property
    def per_element(self) -> F64:
        """One value an element."""
        mean: F64 = self.deviations.mean(axis=0)
        return mean

    @property
    def influence(self) -> F64:
        """Values (N,) that average to ``value`` and vary over samples as it does.

        Of a share of the error ``per_sample`` does not: what it is divided by is of the same
        samples. The jackknife's values do.
        """
        if self.errors is None:
            return self.per_sample
        return linearised(self.per_sample, self.errors)

    @property
    def relative_ci95(self) -> tuple[float, float] | None:
        """The interval of ``relative`` over samples, ``between`` held fixed as M is."""
        if self.relative is None or self.ci95 is None:
            return None
        return (self.share(self.ci95[0]), self.share(self.ci95[1]))

    @property
    def hardly_reacts(self) -> bool:
        """Whether other samples give the same tensor, so that nothing can be told from it."""
        return self.between is not None and self.relative is None

    @property
    def similarity(self) -> bool:
        """Whether the numbers are negative cosines, which sentences tell as cosines."""
        return self.descriptor.similarity and self.unit == self.descriptor.unit

    @property
    def told_unit(self) -> str:
        """What the numbers are as :meth:`told` tells them."""
        return "cosine" if self.similarity else self.unit

    @property
    def in_tensor_units(self) -> bool:
        """Whether the numbers are in the units of this model's own tensor."""
        return self.descriptor.in_tensor_units and self.unit == self.descriptor.unit

    def share(self, value: float) -> float:
        """Return how far a value is from perfect, as a share of what different samples are.

        Parameters
        ----------
        value : float
            On this reading's scale.

        Returns
        -------
        float
            Where ``relative`` is not known, the bare distance from perfect: then it is a share for
            cosines (of the way to a cosine of 0) and normalised distances (of M) only.
        """
        if self.relative is None or self.between is None:
            return value - self.perfect
        return (value - self.perfect) / (self.between - self.perfect)

    @property
    def scale(self) -> Scale:
        """Which of a record's scales the numbers are on."""
        if self.unit == RELATIVE:
            return "relative"
        return "value" if self.normalised else "unnormalised"

    def told(self, value: float) -> float:
        """Return a value as people read it: the cosine of a negative one."""
        return told(self.descriptor, value, self.scale)

    def told_ends(self, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return an interval as people read it: of cosines, and within the measure's range."""
        return told_ends(self.descriptor, ends, self.scale)

    def within(self, ends: tuple[float, float]) -> tuple[float, float]:
        """Return an interval without what lies outside the measure's range."""
        return within(self.descriptor, ends, self.scale)

    def as_relative(self) -> Reading:
        """Return it relative to different samples: 0 perfect, 1 no closer than they are.

        Raises
        ------
        ValueError
            If ``relative`` is not known.
        """
        if self.relative is None or self.between is None:
            raise ValueError(f"{self.measure}@{self.layer} has no relative value")
        factor = 1 / (self.between - self.perfect)
        moved = self._moved(self.perfect, factor, RELATIVE)
        return replace(moved, value=self.relative, between=1.0, perfect=0.0)

    def as_unnormalised(self) -> Reading:
        """Return it without M."""
        if not self.normalised or self.normaliser is None:
            return self
        return self._moved(0.0, self.normaliser, self.descriptor.unit)

    def as_normalised(self) -> Reading:
        """Return it divided by M, which is positive: the scale of a record's ``value``."""
        if self.normalised or self.normaliser is None:
            return self
        divided = self._moved(0.0, 1 / self.normaliser, f"{self.unit} / M")
        perfect = self.descriptor.perfect_value(self.normaliser)
        return replace(divided, normalised=True, perfect=perfect)

    def _moved(self, origin: float, factor: float, unit: str) -> Reading:
        """Return it with (x − origin) · factor for every x; the factor is positive."""

        def at(x: float | None) -> float | None:
            return None if x is None else (x - origin) * factor

        def ends(pair: tuple[float, float] | None) -> tuple[float, float] | None:
            if pair is None:
                return None
            return (pair[0] - origin) * factor, (pair[1] - origin) * factor

        return replace(
            self,
            value=(self.value - origin) * factor,
            unit=unit,
            ci95=ends(self.ci95),
            per_sample=(self.per_sample - origin) * factor,
            deviations=(self.deviations - origin) * factor,
            exact=at(self.exact),
            exact_ci95=ends(self.exact_ci95),
            normalised=False,
            trips={name: (x - origin) * factor for name, x in self.trips.items()},
            untrained=at(self.untrained),
            between=at(self.between),
            errors=None,
        )


def on_one_scale(readings: Sequence[Reading]) -> tuple[list[Reading], Scale]:
    """Bring readings of several models to a scale on which they may be compared.

    Parameters
    ----------
    readings : sequence of Reading
        Of one measure, one a model or more.

    Returns
    -------
    readings : list of Reading
        The same where their values compare as they are.
    scale : {"value", "relative", "unnormalised"}
        ``relative`` of measures whose values mean something for one model only, ``latent-cos``
        and ``output-l2``, and where an M is missing or 0; where not all readings have it,
        ``unnormalised``, and ``value`` for ``output-l2``.
    """
    usable = all(r.normalised for r in readings)
    if usable and not readings[0].descriptor.own_scale:
        return list(readings), "value"
    if all(r.relative is not None for r in readings):
        return [r.as_relative() for r in readings], "relative"
    if usable:
        return list(readings), "value"
    return [r.as_unnormalised() for r in readings], "unnormalised"


def far_off(reading: Reading, value: float, *, of_family: bool = False) -> float:
    """Return how far off a value is: the one share that grades, tables and verdicts tell.

    Parameters
    ----------
    reading : Reading
        The reading.
    value : float
        On its scale: its value, or an end of its interval.
    of_family : bool
        Whether f(gx) was compared with f(x) itself.

    Returns
    -------
    float
        Of what different samples are; of what an orbit can be at most, where that is less.
    """
    most = None if of_family else most_of_orbit(reading)
    return reading.share(value) if most is None else (value - reading.perfect) / most


def most_of_orbit(reading: Reading) -> float | None:
    """Return the most of a divergence from an orbit's mean, unless different samples are less."""
    worst, order = reading.descriptor.worst_invariance, reading.deviations.shape[1]
    if worst is None or order < 2 or reading.output_action != "trivial":
        return None
    most = float(worst(order))
    return most if reading.between is None or reading.between > most else None


def read_record(record: Record) -> Reading:
    """Read a record of ``measurements``.

    Parameters
    ----------
    record : dict
        The record.

    Returns
    -------
    Reading
        Of the unnormalised value where M is missing, zero or negative, as gates take it, and
        where M moves the perfect value.
    """
    descriptor, m = descriptor_of(record["measure"]), record["normaliser"]
    plain = ranking_value(record)[1] == "unnormalised" or descriptor.perfect_over_m
    part = record["exact"]
    scale: Literal["unnormalised", "value"] = "unnormalised" if plain else "value"
    deviations = np.asarray(record["deviations"], dtype=np.float64)
    array = deviations if plain or not m else deviations / float(m)
    perfect = descriptor.perfect
    value = _number(record[scale])
    references = record.get("references") or {}
    between, relative = _between(record, value, descriptor)
    errors = record.get("errors")
    return Reading(
        measure=descriptor.name,
        layer=record["layer"],
        output_action=record["output_action"],
        value=value,
        unit=descriptor.value_unit(normalised=not plain),
        perfect=perfect,
        ci95=_ends(record, plain),
        per_sample=_counted(record, array).mean(axis=1)
        if plain
        else np.asarray(record["per_sample"], np.float64),
        deviations=array,
        exact=part[scale] if part else None,
        exact_ci95=_ends(part, plain) if part else None,
        normalised=not plain,
        normaliser=m,
        trips={
            name: _number(references[name][scale])
            for name in ("input_round_trip", "output_round_trip")
            if name in references and references[name][scale] is not None
        },
        untrained=references["untrained"][scale] if "untrained" in references else None,
        between=between,
        relative=relative,
        errors=None if plain or errors is None else np.asarray(errors, np.float64) / float(m or 1),
        averaged=tuple(record.get("averaged", ())),
        skipped=deviations.shape[1] - len(record["per_element"]),
    )


def ranking_value(record: Record) -> tuple[float, Literal["value", "unnormalised"]]:
    """Return the value by which a record is held against a limit, and its name.

    Parameters
    ----------
    record : dict
        An entry of ``measurements``.

    Returns
    -------
    value : float
        Larger means less equivariant.
    name : {"value", "unnormalised"}
        The unnormalised value where M is missing, zero or negative.
    """
    m = record["normaliser"]
    if record["value"] is None or (m is not None and m < 0):
        assert record["unnormalised"] is not None  # where there is no value, M was to divide it
        return float(record["unnormalised"]), "unnormalised"
    return float(record["value"]), "value"


def _counted(part: Statistics, deviations: F64) -> F64:
    """Return the deviations of the elements that values are means over, which it has by name."""
    return deviations[:, deviations.shape[1] - len(part["per_element"]) :]


def _number(value: float | None) -> float:
    assert value is not None  # of a scale on which there is a value
    return float(value)


def _between(
    record: Record, value: float, descriptor: Descriptor
) -> tuple[float | None, float | None]:
    """Return ``between_samples`` and ``relative``; older results know them by references only."""
    other, relative = record.get("between_samples"), record.get("relative")
    if other is None:
        references = record.get("references") or {}
        other = references["between_samples"]["value"] if "between_samples" in references else None
    if other is None:
        return None, None
    apart = float(other) - descriptor.perfect
    # Whether a distance is rounding depends on the size of the vectors, which the record knew.
    if relative is None and apart > ROUNDING and not descriptor.in_tensor_units:
        relative = (value - descriptor.perfect) / apart
    return float(other), None if relative is None else float(relative)


def _ends(part: Statistics, plain: bool) -> tuple[float, float] | None:
    """Return an interval on a reading's scale: M is held fixed, so that it scales with M."""
    ends, m = part["ci95"], part["normaliser"]
    if plain and ends and m:
        low, high = sorted(float(x) * float(m) for x in ends)
        return (low, high)
    if plain:
        deviations = np.asarray(part["deviations"], dtype=np.float64)
        means = _counted(part, deviations).mean(axis=1)
        return mean_interval(means, part["interval"])
    return (float(ends[0]), float(ends[1])) if ends else None
