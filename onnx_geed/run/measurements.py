"""The measurements of a result, one record a measure, from statistics of orbits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import known_names
from onnx_geed.measures import PlaceCounts, Plan, normaliser, told as as_told
from onnx_geed.results import (
    BetweenSamples,
    Normaliser,
    OrbitDeviations,
    Predicted,
    Record,
    foreground_part,
    make_record,
    overlap_part,
)
from onnx_geed.run.between_samples import neighbours
from onnx_geed.run.measured_as import MeasuredAs, measured_as
from onnx_geed.run.orbit_statistics import MeasureStatistics, OrbitStatistics
from onnx_geed.run.truths import why_no_labels

__all__ = ["measurements_of", "predictions_of", "records_of"]

F64 = NDArray[np.float64]


# A given table is doubted where its inverse leaves less than half of the deviation, and the
# difference is more than this (cosine, nats or units of the output).
_MARKEDLY = 0.05


def measurements_of(
    plan: Plan, statistics: OrbitStatistics, *, norm_samples: int, interval: str, seed: int
) -> list[Record]:
    """Return the records of spec section 6, one a measure, in the plan's order.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    statistics : OrbitStatistics
        Of all orbits of D and all points for M.
    norm_samples : int
        Points for M, of those there are.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    list of dict
        Entries of a result's ``measurements``.

    Raises
    ------
    GeedError
        If a deviation or M is not finite.
    """
    return records_of(
        measured_as(plan), statistics, norm_samples=norm_samples, interval=interval, seed=seed
    )


def records_of(
    measures: Sequence[MeasuredAs],
    statistics: OrbitStatistics,
    *,
    norm_samples: int,
    interval: str,
    seed: int,
    count: int | None = None,
) -> list[Record]:
    """Return the records of measures that are described, one each.

    Parameters
    ----------
    measures : sequence of MeasuredAs
        What records say of them.
    statistics : OrbitStatistics
        Of some orbits of D, and of points for M.
    norm_samples, interval, seed
        As :func:`measurements_of` takes them.
    count : int, optional
        Size of D, where not all its orbits are there.

    Returns
    -------
    list of dict
        Entries of a result's ``measurements``.

    Raises
    ------
    GeedError
        If a deviation or M is not finite.
    """
    records = []
    for told in measures:
        entry = statistics.measures[told.key]
        own = range(len(entry.deviations)) if count is None else statistics.orbits
        pairs = [pair for pair in neighbours(count or len(own)) if pair[0] in own]
        wanted = pairs if told.descriptor.beside_others else []
        divisor = _divisor(told, statistics, norm_samples)
        records.append(_record(told, entry, divisor, wanted, interval, seed))
    return records


def _divisor(told: MeasuredAs, statistics: OrbitStatistics, norm_samples: int) -> Normaliser | None:
    """Return M, or what M₂ comes to, for a measure that is divided by it."""
    descriptor = told.descriptor
    if descriptor.spread:
        spread = statistics.spreads.get(told.key)
        if spread is None:
            return Normaliser(None, 0)
        square = spread.mean_square()
        m = None if square is None else descriptor.divisor_of(square)
        return Normaliser(m, spread.summed().added, spread.norm())
    if not descriptor.pooled:
        return None
    points = statistics.points[told.layer][:norm_samples]
    norm = float(np.sqrt(np.square(points).sum(axis=1)).mean()) if len(points) else None
    return Normaliser(normaliser(told.measure, points), len(points), norm)


def predictions_of(plan: Plan, statistics: OrbitStatistics) -> dict[str, Predicted]:
    """Return predicted classes and how the group moves them, by tensor of scores."""
    by_layer = {}
    for measure in plan.measures:
        entry = statistics.measures.get((measure.name, measure.layer))
        if entry is not None and entry.predicted is not None:
            # A single score tells two classes apart.
            count = plan.layers[measure.layer].classes
            by_layer[measure.layer] = Predicted.under(
                entry.predicted, measure.action, count, why_no_labels(plan, measure)
            )
    return by_layer


def _record(
    told: MeasuredAs,
    statistics: MeasureStatistics,
    divisor: Normaliser | None,
    wanted: Sequence[tuple[int, int]],
    interval: str,
    seed: int,
) -> Record:
    deviations = statistics.deviations * told.correction
    zeros = statistics.zero_pairs[:, told.skipped :]
    notes, warnings = list(told.notes), _warnings(told, statistics, deviations)
    if zeros.mean() == 1:
        warnings.append("every vector that was compared is zero: the value says nothing")
    between, missing = _between_samples(statistics, wanted)
    notes += missing
    if told.on_independence:
        notes.append(told.on_independence)
    over_all, over_exact = _channel_values(statistics)
    errors = statistics.errors
    record = make_record(
        OrbitDeviations(
            *(deviations, told.elements, float(zeros.mean()), over_all),
            skipped=told.skipped,
            errors=None if errors is None else errors[:, 0],
        ),
        measure=told.measure,
        layer=told.layer,
        layout=told.layout,
        output_action=told.output_action,
        exact=_exact_part(told, statistics, over_exact),
        half=_half(told, statistics),
        normaliser=divisor,
        between=between,
        interval=interval,
        seed=seed,
        warnings=warnings,
        trials=told.trials,
    )
    if statistics.counts is not None:
        counts = statistics.counts.sum(axis=0)
        record["most_common"] = float(counts.max() / counts.sum())
        whose = "samples at a random element" if told.starts_anywhere else "unmoved samples"
        notes.append(
            f"the most common class is {int(counts.argmax())} (counted from 0), predicted for "
            f"{100 * record['most_common']:.3g} % of the {whose}: a network that predicts "
            "one class flips nothing"
        )
    if statistics.places is not None:
        notes += _add_place_parts(record, statistics.places, told, interval, seed)
    if told.without_table:
        record["without_table"] = [told.elements[g] for g in told.without_table]
    if told.reads:
        record["reads"] = told.reads
    if told.digest:
        record["table"] = told.digest
    if told.averaged:
        record["averaged"] = [told.elements[g] for g in told.averaged]
    record["notes"] = notes
    return record


def _warnings(told: MeasuredAs, statistics: MeasureStatistics, deviations: F64) -> list[str]:
    """Say where tables seem to be another way round, or are missing."""
    warnings, inverse = [], statistics.inverse
    if inverse is not None and _inverse_fits_better(
        inverse, deviations[: len(inverse)], told.descriptor.perfect
    ):
        means = (inverse.mean(), deviations[: len(inverse)].mean())
        first, second = (as_told(told.descriptor, float(mean)) for mean in means)
        both = f"({first:.4g} against {second:.4g} on {len(inverse)} samples)"
        warnings.append(
            f"the inverse of the given table scores markedly better {both}: are its rows for g and "
            "its inverse swapped?"
            if told.table
            else f"vectors read as (right, up) score markedly better {both}: if that is what their "
            "components are, say --components right-up"
        )
    if told.without_table:
        warnings.append(_without_table([told.elements[g] for g in told.without_table], told))
    return warnings


def _between_samples(
    statistics: MeasureStatistics, wanted: Sequence[tuple[int, int]]
) -> tuple[BetweenSamples | None, list[str]]:
    """Return how far apart samples are, if all pairs that are wanted are there; a note if not."""
    complete = statistics.pairs.complete
    pairs = [complete[where] for where in wanted if where in complete]
    if len(pairs) < len(wanted):
        return None, [
            "no between_samples: the cache was written without them, or padding leaves two samples "
            "without a place in common"
        ]
    if not pairs:
        return None, []
    norm = float(np.sqrt(np.mean([p.square for p in pairs])))
    return BetweenSamples(np.stack([p.deviations for p in pairs]), norm), []


def _exact_part(
    told: MeasuredAs, statistics: MeasureStatistics, per_channel: F64 | None
) -> OrbitDeviations | None:
    """Return the deviations over the exact elements alone."""
    if told.exact is None or statistics.exact is None:
        return None
    return OrbitDeviations(
        *(statistics.exact, [told.elements[g] for g in told.exact]),
        per_channel=per_channel if told.exact_channels else None,
        skipped=told.skipped_of(told.exact),
        errors=None if statistics.errors is None else statistics.errors[:, 1],
    )


def _half(told: MeasuredAs, statistics: MeasureStatistics) -> OrbitDeviations | None:
    """Return the deviations over half of the elements of a sampled group."""
    if statistics.half is None:
        return None
    return OrbitDeviations(
        statistics.half * told.half_correction,
        [told.elements[g] for g in told.half],
        skipped=told.skipped_of(told.half),
        errors=None if statistics.errors is None else statistics.errors[:, 2],
    )


def _without_table(without: Sequence[str], told: MeasuredAs) -> str:
    """Say for which elements there is no table, and what the value holds of them."""
    few = [*without[:8], f"{len(without) - 8} more"] if len(without) > 9 else without
    read = "; read the exact part, whose elements all have a table" if told.exact else ""
    return (
        f"no table for {known_names(few)}: under these, the channels are compared unmoved, and "
        f"this enters the value{read}"
    )


def _add_place_parts(
    record: Record, counts: PlaceCounts, told: MeasuredAs, interval: str, seed: int
) -> list[str]:
    """Enter what was counted at places into a record; return notes on it."""
    elements, notes = told.elements, list[str]()
    record["miou"] = overlap_part(counts.overlaps, counts.right, elements)
    labels = record["miou"]["labels"]
    if labels is not None and labels["labelled"] < 1:
        left = 100 * (1 - labels["labelled"])
        notes.append(f"{left:.3g} % of places have no label (negative or 255), and are left out")
    if counts.foreground is None or counts.shares is None or told.background is None:
        return notes
    record["foreground"] = part = foreground_part(
        *(counts.foreground, counts.shares, elements),
        skipped=told.skipped,
        background=told.background,
        labelled=counts.right is not None,
        interval=interval,
        seed=seed,
    )
    if without := len(counts.foreground) - part["samples"]:
        notes.append(
            f"foreground: {without} of {len(counts.foreground)} samples have only places of class "
            f"{told.background} (under some element) and are left out of its mean"
        )
    return notes


def _channel_values(statistics: MeasureStatistics) -> tuple[F64 | None, F64 | None]:
    """Return values channel by channel, over all elements and over the exact ones."""
    if statistics.channels is None:
        return None, None
    over_all, over_exact = statistics.channels.mean()
    return over_all, over_exact


def _inverse_fits_better(inverse: F64, deviations: F64, perfect: float) -> bool:
    """Say whether the inverse table leaves markedly smaller deviations, both (orbits, n)."""
    away, turned = deviations.mean() - perfect, inverse.mean() - perfect
    return bool(turned < 0.5 * away and away - turned > _MARKEDLY)
