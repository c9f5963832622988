"""What the fields of a part of a run say of each other, and of those of the other parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnx_geed.errors import shown
from onnx_geed.results import Result
from onnx_geed.run.conclusion import Evidence
from onnx_geed.run.orbit_statistics import MeasureStatistics, OrbitStatistics

__all__ = ["contradiction", "differing", "strange_sums"]

# What all parts of a run say alike of what was taken in; of statistics each has its own.
_ALIKE: tuple[str, ...] = ("group", "elements", "count", "norm_samples", "pointed", "interval")
_ALIKE += ("seed", "on_untrained", "fits")


def contradiction(result: Result) -> str:
    """Return the first place where a part contradicts itself, in words.

    Parameters
    ----------
    result : dict
        A result with a part, both of the types that the schema has.

    Returns
    -------
    str
        Such as ``samples is 3, and evidence.count 4``; empty where all agrees.
    """
    return next(_contradictions(result), "")


def differing(one: Result, other: Result) -> str:
    """Name what two parts of a run say differently of how it was measured; empty if nothing.

    Parameters
    ----------
    one, other : dict
        Results with a part.
    """
    for network in ("evidence", "untrained"):
        parts: list[Mapping[str, Any]] = [one["part"], other["part"]]
        ours, theirs = (part[network] for part in parts)
        if ours is None or theirs is None:
            if ours is not theirs:
                return network
            continue
        for name in _ALIKE:
            if ours[name] != theirs[name]:
                return f"{network}.{name}"
        if [m["told"] for m in ours["measures"]] != [m["told"] for m in theirs["measures"]]:
            return f"{network}.measures"
    return ""


def _contradictions(result: Result) -> Iterator[str]:
    part: Mapping[str, Any] = result["part"]
    group, same = result["group"], part["same"]
    of_run = {
        "group": (group["name"], "group.name"),
        "elements": (group["elements"], "group.elements"),
        "count": (part["samples"], "samples"),
        "orbits": (part["orbits"], "orbits"),
        "seed": (result["seed"], "seed"),
    }
    for network in ("evidence", "untrained"):
        evidence = part[network]
        if evidence is None:
            continue
        for name, (value, where) in of_run.items():
            if evidence[name] != value:
                yield f"{network}.{name} is not {where}"
        for name, told in (("norm_samples", "--norm-samples"), ("interval", "--interval")):
            if told in same and same[told] != str(evidence[name]):
                yield f"{network}.{name} is {evidence[name]}, and same.{told} {shown(same[told])}"
        if evidence["pointed"] > evidence["norm_samples"]:
            yield f"{network}.pointed is more than norm_samples"
        for i, measure in enumerate(evidence["measures"]):
            yield from _of_measure(f"{network}.measures[{i}].told", measure["told"], evidence)
    run = range(part["samples"])
    first, stop = part["orbits"]
    if not first <= stop <= run.stop:
        yield f"orbits is no stretch of {run.stop} samples"
    start, end = part["points"]
    if start > end or (start < end and not run.stop <= start <= end <= _pointed(part)):
        yield "points is no stretch of those beyond the samples"


def _pointed(part: Mapping[str, Any]) -> int:
    pointed: int = part["evidence"]["pointed"]
    return pointed


def _of_measure(where: str, told: Mapping[str, Any], evidence: Mapping[str, Any]) -> Iterator[str]:
    order = len(told["elements"])
    if not set(told["elements"]) <= set(evidence["elements"]):
        yield f"{where}.elements names some that the group does not"
    for name in ("exact", "half", "without_table", "averaged"):
        positions = told.get(name) or []
        if len(set(positions)) < len(positions) or any(i >= order for i in positions):
            yield f"{where}.{name} is not of {order} elements"
    if told["skipped"] >= max(order, 1):
        yield f"{where}.skipped leaves none of {order} elements"


def strange_sums(evidence: Evidence, orbits: OrbitStatistics, points: OrbitStatistics) -> str:
    """Return the first sum of a part that nothing adds up to, in words.

    Parameters
    ----------
    evidence : Evidence
        Of the part.
    orbits, points : OrbitStatistics
        Of its orbits, and of its points for M beyond D.

    Returns
    -------
    str
        Such as ``latent-l2@latent: a sum of squares is -1``; empty where there is none.
    """
    return next(_strange_sums(evidence, orbits, points), "")


def _strange_sums(
    evidence: Evidence, orbits: OrbitStatistics, points: OrbitStatistics
) -> Iterator[str]:
    for statistics in (orbits, points):
        for (measure, layer), spread in statistics.spreads.items():
            name = f"{measure}@{layer}"
            added = spread.added + len(spread.rows)
            if added != len(statistics.pointed):
                yield f"{name}: {added} of {len(statistics.pointed)} points are summed"
            if not 0 <= spread.total < np.inf:
                yield f"{name}: a sum of squares is {spread.total:g}"
            if (spread.mean is None) != (not spread.added):
                yield f"{name}: a mean is of {spread.added} points"
        for layer, rows in statistics.points.items():
            if len(rows) != len(statistics.pointed):
                yield f"{layer}: {len(rows)} of {len(statistics.pointed)} points are there"
    for key, own in orbits.measures.items():
        yield from (f"{'@'.join(key)}: {fault}" for fault in _of_orbits(own, orbits.orbits))


def _of_orbits(own: MeasureStatistics, orbits: range) -> Iterator[str]:
    if ((own.zero_pairs < 0) | (own.zero_pairs > 1)).any():
        yield "a share is not of 0 to 1"
    if own.channels is not None:
        added = own.channels.added + len(own.channels.rows)
        if added != len(orbits):
            yield f"{added} of {len(orbits)} orbits are summed channel by channel"
        if (own.channels.total is None) != (not own.channels.added):
            yield f"a sum channel by channel is of {own.channels.added} orbits"
    counted = [own.predicted, own.counts]
    if own.places is not None:
        counted += [own.places.overlaps, own.places.right, own.places.shares]
    if any(each is not None and (each < 0).any() for each in counted):
        yield "a count is below 0"
    if any(not pair.square >= 0 for pair in own.pairs.complete.values()):
        yield "a square of a distance is below 0"
