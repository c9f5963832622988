"""The measurements of a result, one record a measure, from statistics of orbits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action, parse_layout
from onnx_geed.measures import Measure, Plan, normaliser
from onnx_geed.results import (
    BetweenSamples,
    Normaliser,
    OrbitDeviations,
    Record,
    make_record,
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
        points = None
        if measure.descriptor.normalised:
            points = statistics.points[measure.layer][:norm_samples]
        entry = statistics.measures[measure.name, measure.layer]
        records.append(_record(plan, measure, entry, points, interval, seed))
    return records


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
    return max(2, plan.layers[measure.layer].point_length)


def _record(
    plan: Plan,
    measure: Measure,
    statistics: MeasureStatistics,
    points: F64 | None,
    interval: str,
    seed: int,
) -> Record:
    deviations, zeros = statistics.deviations, statistics.zero_pairs
    divisor = None
    if points is not None:
        norm = float(np.sqrt(np.square(points).sum(axis=1)).mean()) if len(points) else None
        divisor = Normaliser(normaliser(measure.name, points), len(points), norm)
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
    if zeros.mean() == 1:
        warnings.append("every vector that was compared is zero: the value says nothing")
    layer = plan.layers[measure.layer]
    layout, notes = _layout_and_notes(measure, layer.layout, layer.shape)
    wanted = neighbours(len(deviations))
    complete = statistics.pairs.complete
    pairs = [complete[where] for where in wanted if where in complete]
    if len(pairs) < len(wanted):
        pairs = []
        notes.append("no between_samples: the cache was written without them")
    over_all, over_exact = _channel_values(measure, statistics, members)
    exact, between = None, None
    if members is not None and statistics.exact is not None:
        names = [plan.group.elements[g] for g in members]
        exact = OrbitDeviations(statistics.exact, names, per_channel=over_exact)
    if pairs:
        norm = float(np.sqrt(np.mean([p.square for p in pairs])))
        between = BetweenSamples(np.stack([p.deviations for p in pairs]), norm)
    record = make_record(
        OrbitDeviations(deviations, plan.group.elements, float(zeros.mean()), over_all),
        measure=measure.name,
        layer=measure.layer,
        layout=layout,
        output_action=measure.action.name,
        exact=exact,
        normaliser=divisor,
        between=between,
        interval=interval,
        seed=seed,
        warnings=warnings,
    )
    record["notes"] = notes
    return record


def _channel_values(
    measure: Measure, statistics: MeasureStatistics, members: Sequence[int] | None
) -> tuple[F64 | None, F64 | None]:
    """Return values channel by channel, over all elements and over the exact ones."""
    if statistics.channels is None:
        return None, None
    over_all, over_exact = statistics.channels.mean()
    # With an f̂ of its own, eq. (2), the subgroup has other cosines.
    return over_all, over_exact if members and set(measure.kernel_of_action) <= set(
        members
    ) else None


def _inverse_fits_better(inverse: F64, deviations: F64, measure: Measure) -> bool:
    """Say whether the inverse table leaves markedly smaller deviations, both (orbits, n)."""
    perfect = measure.descriptor.perfect
    away, turned = deviations.mean() - perfect, inverse.mean() - perfect
    return bool(turned < 0.5 * away and away - turned > _MARKEDLY)


def _layout_and_notes(
    measure: Measure, layout: str, shape: tuple[int, ...]
) -> tuple[str, list[str]]:
    """Return the layout of a record, and notes on what was done to its tensor beforehand."""
    if measure.descriptor.view in ("maps", "whole"):
        return layout, []
    notes = []
    blank = np.broadcast_to(np.float32(0), (1, *shape))
    if len(shape) > 1 and parse_layout(layout).to_points(blank, 1)[1]:
        places = "its grid" if {"H", "W"} <= {*layout} else "its other axes"
        notes.append(f"average-pooled over {places} by onnx-geed")
    if measure.descriptor.view == "scores":
        logits = measure.reads == "logits"
        notes.append(
            "softmax applied by onnx-geed to logits" if logits else "probabilities as given"
        )
    return ("NK" if len(shape) == 1 else layout), notes
