"""From what a run took in to its records: one way for a whole run and for parts that are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnx_geed.groups import Fit
from onnx_geed.results import (
    DataPart,
    InputDistances,
    Predicted,
    Record,
    add_class_values,
    add_gain,
    add_predictions,
)
from onnx_geed.run.fit_overlap import copies_notes, marks_in_data
from onnx_geed.run.fit_scales import FitScales, enter_fits
from onnx_geed.run.how_far import gain_notes
from onnx_geed.run.measured_as import MeasuredAs, measured_as
from onnx_geed.run.measurements import predictions_of, records_of
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.prepare import Prepared
from onnx_geed.run.references import Trips, add_untrained, enter_trips
from onnx_geed.run.unmoved import unmoved_notes

__all__ = ["Evidence", "anew", "conclude", "evidence_of", "records_from"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the records of a run follow from, besides the data's labels.

    Parameters
    ----------
    measures : tuple of MeasuredAs
        What records say of the measures.
    group : str
        Name of the acting group.
    elements : tuple of str
        Names of its elements.
    statistics : OrbitStatistics
        Of the orbits, and of the points for M.
    count : int
        Size of D, of which these orbits may be a part.
    norm_samples : int
        Points for M that were asked for.
    pointed : int
        Points for M that there are.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the run.
    predicted : mapping of str to Predicted
        By tensor of class scores.
    idle : tuple of int
        Elements that leave each of the samples as it is.
    trips : mapping of (str, str) to Trips
        Round trips, where references were asked for.
    inputs : InputDistances, optional
        How far inputs are moved and apart, where a gain is taken.
    fits : mapping of str to Fit
        How output actions were fitted, by tensor.
    fit_scales : mapping of (str, str) to FitScales
        What values under them are read beside.
    untrained : Evidence, optional
        The same of the untrained network.
    on_untrained : tuple of str
        Notes on what that kept of the trained one.
    """

    measures: tuple[MeasuredAs, ...]
    group: str
    elements: tuple[str, ...]
    statistics: OrbitStatistics
    count: int
    norm_samples: int
    pointed: int
    interval: str
    seed: int
    predicted: Mapping[str, Predicted] = field(default_factory=dict)
    idle: tuple[int, ...] = ()
    trips: Mapping[tuple[str, str], Trips] = field(default_factory=dict)
    inputs: InputDistances | None = None
    fits: Mapping[str, Fit] = field(default_factory=dict)
    fit_scales: Mapping[tuple[str, str], FitScales] = field(default_factory=dict)
    untrained: Evidence | None = None
    on_untrained: tuple[str, ...] = ()


def records_from(evidence: Evidence) -> list[Record]:
    """Return the records of what a run took in, nothing being entered yet to read them by."""
    return records_of(
        evidence.measures,
        evidence.statistics,
        norm_samples=evidence.norm_samples,
        interval=evidence.interval,
        seed=evidence.seed,
        count=evidence.count,
    )


def conclude(
    evidence: Evidence,
    records: Sequence[Record],
    data: DataPart,
    classes: Sequence[str] | None,
    on_precision: Sequence[str] = (),
) -> list[str]:
    """Enter all that values are read by into records, and say what is to be known of the run.

    Parameters
    ----------
    evidence : Evidence
        What the run took in.
    records : sequence of dict
        Its records; changed in place.
    data : dict
        The samples, as a result tells them: those of the orbits come first.
    classes : sequence of str, optional
        The model's classes, in the order of its outputs.
    on_precision : sequence of str
        Notes on the precision that was reached, to be told among the others.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    notes: list[str] = []
    labels = data["labels"]
    enter_fits(evidence.fit_scales, records, seed=evidence.seed)
    if evidence.trips:
        enter_trips(records, evidence.trips)
    if evidence.inputs is not None:
        add_gain(records, evidence.inputs, evidence.elements)
        notes += gain_notes(evidence.inputs, evidence.pointed)
    if records:
        count = records[0]["samples"]
        notes += unmoved_notes(evidence.group, evidence.elements, evidence.idle, count)
        notes += copies_notes(evidence.fits, marks_in_data(data, slice(count)))
    notes += on_precision
    add_class_values(records, labels, seed=evidence.seed)
    notes += add_predictions(records, labels, evidence.predicted, classes)
    if evidence.untrained is not None:
        add_untrained(records, records_from(evidence.untrained), evidence.seed)
        notes += evidence.on_untrained
    return notes


def evidence_of(
    prepared: Prepared,
    statistics: OrbitStatistics,
    *,
    idle: tuple[int, ...],
    trips: Mapping[tuple[str, str], Trips],
    inputs: InputDistances | None,
    fit_scales: Mapping[tuple[str, str], FitScales],
) -> Evidence:
    """Return what a run took in, under the names that its records need.

    Parameters
    ----------
    prepared : Prepared
        The run.
    statistics, idle, trips, inputs, fit_scales
        As :class:`Evidence` has them.

    Returns
    -------
    Evidence
        Without the untrained network.
    """
    plan, chosen = prepared.task.plan, prepared.options
    return Evidence(
        *(measured_as(plan), plan.group.name, tuple(plan.group.elements)),
        *(statistics, prepared.count, chosen.norm_samples),
        pointed=min(chosen.norm_samples, len(prepared.task.source.indices)),
        interval=chosen.interval,
        seed=chosen.seed,
        predicted=predictions_of(plan, statistics),
        idle=idle,
        trips=trips,
        inputs=inputs,
        fits={name: table.fit for name, table in prepared.tables.items() if table.fit is not None},
        fit_scales=fit_scales,
    )


def anew(evidence: Evidence, other: Prepared, statistics: OrbitStatistics) -> Evidence:
    """Return the evidence of the untrained network, which ran as the trained one did."""
    return replace(evidence, measures=measured_as(other.task.plan), statistics=statistics)
