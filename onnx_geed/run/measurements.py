"""The measurements of a result, one record a measure, from statistics of orbits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action, Exactness, parse_layout
from onnx_geed.measures import Measure, PlaceCounts, Plan, normaliser
from onnx_geed.results import (
    BetweenSamples,
    Normaliser,
    OrbitDeviations,
    Record,
    foreground_part,
    make_record,
    overlap_part,
)
from onnx_geed.run.between_samples import neighbours
from onnx_geed.run.orbit_statistics import MeasureStatistics, OrbitStatistics

__all__ = ["measurements_of", "predictions_of"]

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
    records = []
    for measure in plan.measures:
        divisor = _divisor(measure, statistics, norm_samples)
        entry = statistics.measures[measure.name, measure.layer]
        records.append(_record(plan, measure, entry, divisor, interval, seed))
    return records


def _divisor(measure: Measure, statistics: OrbitStatistics, norm_samples: int) -> Normaliser | None:
    """Return M, or what M₂ comes to, for a measure that is divided by it."""
    if measure.descriptor.spread:
        spread = statistics.spreads.get((measure.name, measure.layer))
        if spread is None:
            return Normaliser(None, 0)
        square = spread.mean_square()
        m = None if square is None else measure.descriptor.divisor_of(square)
        return Normaliser(m, spread.summed().added, spread.norm())
    if not measure.descriptor.pooled:
        return None
    points = statistics.points[measure.layer][:norm_samples]
    norm = float(np.sqrt(np.square(points).sum(axis=1)).mean()) if len(points) else None
    return Normaliser(normaliser(measure.name, points), len(points), norm)


def predictions_of(
    plan: Plan, statistics: OrbitStatistics
) -> dict[str, tuple[NDArray[np.int64], Action, int]]:
    """Return predicted classes (N, n), φ_Y and the number of classes, by tensor of scores."""
    by_layer = {}
    for measure in plan.measures:
        entry = statistics.measures.get((measure.name, measure.layer))
        if entry is not None and entry.predicted is not None:
            by_layer[measure.layer] = (entry.predicted, measure.action, _class_count(plan, measure))
    return by_layer


def _class_count(plan: Plan, measure: Measure) -> int:
    """Return the number of classes of a tensor; a single score tells two apart."""
    return plan.layers[measure.layer].classes


def _record(
    plan: Plan,
    measure: Measure,
    statistics: MeasureStatistics,
    divisor: Normaliser | None,
    interval: str,
    seed: int,
) -> Record:
    n, group = plan.group.order, plan.group
    correction = measure.correction(n)
    deviations, zeros = statistics.deviations * correction, statistics.zero_pairs
    members = plan.exact_subgroup(measure)
    warnings = []
    inverse = statistics.inverse
    if inverse is not None and _inverse_fits_better(inverse, deviations[: len(inverse)], measure):
        both = (
            f"({inverse.mean():.4g} against {deviations[: len(inverse)].mean():.4g} on "
            f"{len(inverse)} samples)"
        )
        warnings.append(
            f"the inverse of the given table scores markedly better {both}: are its rows for g and "
            "its inverse swapped?"
            if measure.with_inverse_table() is not None
            else f"vectors read as (right, up) score markedly better {both}: if that is what their "
            "components are, say --components right-up"
        )
    zeros = zeros[:, measure.counted]
    if zeros.mean() == 1:
        warnings.append("every vector that was compared is zero: the value says nothing")
    layer = plan.layers[measure.layer]
    layout, notes = _layout_and_notes(measure, layer.layout, layer.shape)
    wanted = neighbours(len(deviations)) if measure.descriptor.beside_others else []
    complete = statistics.pairs.complete
    pairs = [complete[where] for where in wanted if where in complete]
    if len(pairs) < len(wanted):
        pairs = []
        notes.append("no between_samples: the cache was written without them")
    over_all, over_exact = _channel_values(measure, statistics, members)
    exact, half, between, errors = None, None, None, statistics.errors
    if members is not None and statistics.exact is not None:
        names = [plan.group.elements[g] for g in members]
        exact = OrbitDeviations(
            *(statistics.exact, names),
            per_channel=over_exact,
            skipped=_skipped(measure),
            errors=None if errors is None else errors[:, 1],
        )
    if statistics.half is not None:
        half = OrbitDeviations(
            statistics.half * measure.correction(len(group.half)),
            [group.elements[g] for g in group.half],
            skipped=_skipped(measure),
            errors=None if errors is None else errors[:, 2],
        )
    if group.independent and measure.averaged != (0,):
        notes.append(_independence(measure, n, correction))
    if pairs:
        norm = float(np.sqrt(np.mean([p.square for p in pairs])))
        between = BetweenSamples(np.stack([p.deviations for p in pairs]), norm)
    record = make_record(
        OrbitDeviations(
            *(deviations, plan.group.elements, float(zeros.mean()), over_all, _skipped(measure)),
            errors=None if errors is None else errors[:, 0],
        ),
        measure=measure.name,
        layer=measure.layer,
        layout=layout,
        output_action=measure.action.name,
        exact=exact,
        half=half,
        normaliser=divisor,
        between=between,
        interval=interval,
        seed=seed,
        warnings=warnings,
        trials=measure.descriptor.view == "classes" and measure.places is None,
    )
    if statistics.counts is not None:
        counts = statistics.counts.sum(axis=0)
        record["most_common"] = float(counts.max() / counts.sum())
        notes.append(
            f"the most common class is {int(counts.argmax())} (counted from 0), predicted for "
            f"{100 * record['most_common']:.3g} % of what is not moved: what predicts one class "
            "flips nothing"
        )
    if statistics.places is not None:
        notes += _add_place_parts(record, statistics.places, measure, interval, seed)
    record["notes"] = notes
    return record


def _add_place_parts(
    record: Record, counts: PlaceCounts, measure: Measure, interval: str, seed: int
) -> list[str]:
    """Enter what was counted at places into a record; return notes on it."""
    elements, notes = measure.action.group.elements, list[str]()
    record["miou"] = overlap_part(counts.overlaps, counts.right, elements)
    labels = record["miou"]["labels"]
    if labels is not None and labels["labelled"] < 1:
        left = 100 * (1 - labels["labelled"])
        notes.append(f"{left:.3g} % of places have no label (negative or 255), and are left out")
    if counts.foreground is None or counts.shares is None or measure.background is None:
        return notes
    record["foreground"] = part = foreground_part(
        *(counts.foreground, counts.shares, elements),
        skipped=_skipped(measure),
        background=measure.background,
        labelled=counts.right is not None,
        interval=interval,
        seed=seed,
    )
    if without := len(counts.foreground) - part["samples"]:
        notes.append(
            f"foreground: {without} of {len(counts.foreground)} samples have no places but those "
            f"of class {measure.background} (under some element), and are left out of its mean"
        )
    return notes


def _independence(measure: Measure, n: int, correction: float) -> str:
    """Say what was done about a mean over independent elements, which lies too near to them."""
    if correction == 1:
        return (
            f"not corrected for the mean being of {n} independent elements, to which it is nearer "
            "than that of all: the value is too near to perfect"
        )
    what = "squared distances" if measure.target or measure.descriptor.power == 2 else "distances"
    root = "" if what.startswith("squared") else "√"
    return (
        f"{what} are multiplied by {root}(n/(n−1)) = {correction:.4g}: the mean of {n} independent "
        "elements is nearer to them than that of all"
    )


def _skipped(measure: Measure) -> int:
    """Return how many of the first elements are left out of means."""
    return int(measure.counted.start)


def _channel_values(
    measure: Measure, statistics: MeasureStatistics, members: Sequence[int] | None
) -> tuple[F64 | None, F64 | None]:
    """Return values channel by channel, over all elements and over the exact ones."""
    if statistics.channels is None:
        return None, None
    over_all, over_exact = statistics.channels.mean()
    # With an f̂ of its own, eq. (2), the subgroup has other cosines.
    return over_all, over_exact if members and set(measure.averaged) <= set(members) else None


def _inverse_fits_better(inverse: F64, deviations: F64, measure: Measure) -> bool:
    """Say whether the inverse table leaves markedly smaller deviations, both (orbits, n)."""
    perfect = measure.descriptor.perfect
    away, turned = deviations.mean() - perfect, inverse.mean() - perfect
    return bool(turned < 0.5 * away and away - turned > _MARKEDLY)


def _layout_and_notes(
    measure: Measure, layout: str, shape: tuple[int, ...]
) -> tuple[str, list[str]]:
    """Return the layout of a record, and notes on what was done to its tensor beforehand."""
    if measure.target:
        return layout, _error_notes(measure)
    if measure.descriptor.view in ("maps", "whole"):
        return layout, []
    if measure.places is not None:
        places = measure.places.inside.shape[1]
        notes = [f"mean over {places} places, f(gx) moved back to those of x", _read_as(measure)]
        if left := int((~measure.places.inside).any(axis=0).sum()):
            notes.append(f"left out where they come from outside the grid: up to {left} places")
        return layout, notes
    notes = []
    blank = np.broadcast_to(np.float32(0), (1, *shape))
    if len(shape) > 1 and parse_layout(layout).to_points(blank, 1)[1]:
        places = "its grid" if {"H", "W"} <= {*layout} else "its other axes"
        notes.append(f"average-pooled over {places} by onnx-geed")
    if measure.descriptor.of_classes:
        notes.append(_read_as(measure))
    if measure.descriptor.of_error:
        notes.append("cross-entropy of the labels")
    return ("NK" if len(shape) == 1 else layout), notes


def _error_notes(measure: Measure) -> list[str]:
    """Say how a tensor that has a target was moved back, where that is not plain."""
    notes = ["squared error of f(gx), moved back, against its target"]
    if resampled := sum(kind is Exactness.RESAMPLED for kind in measure.action.exact()):
        notes.append(
            f"moved back by the inverse elements of {resampled} elements that resample, which do "
            "not undo them exactly"
        )
    return notes


def _read_as(measure: Measure) -> str:
    """Say as what class scores are read."""
    if measure.descriptor.view == "classes":
        return "the class of the largest score"
    if measure.reads == "logits":
        return "softmax applied by onnx-geed to logits"
    return "probabilities as given"
