"""The parts of a run, joined into the result of the whole: :func:`merge`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, looking_at, reason_of
from onnx_geed.results import (
    AnyResult,
    DataPart,
    InputDistances,
    PartPart,
    Result,
    RuntimePart,
    check_measured,
    check_result,
    read_result,
    result,
)
from onnx_geed.run.between_samples import neighbours
from onnx_geed.run.conclusion import Evidence, conclude, records_from
from onnx_geed.run.orbit_statistics import OrbitStatistics, join_closed
from onnx_geed.run.part import PART_VERSION
from onnx_geed.run.part_agreement import contradiction, differing, strange_sums
from onnx_geed.run.part_content import array_from, evidence_from
from onnx_geed.run.references import TRIPS, Trips
from onnx_geed.text import counted
from onnx_geed.typed_json import Count, check_json

__all__ = ["merge"]

# What a missing or damaged piece of a part raises on being read.
_DAMAGES = (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError)


@dataclass(frozen=True, eq=False)
class _Read:
    """One part as it was read: what the network, and the untrained one, took in."""

    name: str
    result: Result
    part: PartPart
    evidence: Evidence
    orbits: OrbitStatistics
    points: OrbitStatistics
    untrained: tuple[Evidence, OrbitStatistics, OrbitStatistics] | None
    moved: Any
    apart: Any


@checked
def merge(
    parts: Sequence[str | Path | AnyResult],
    *,
    command: str | None = None,
    limits: Sequence[str] = (),
) -> Result:
    """Join the parts of a run, each measured with another ``shard``, into the whole result.

    Parameters
    ----------
    parts : sequence of str, Path or dict
        Files of all parts, or the results themselves, in any order.
    command : str, optional
        The command to store in the result.
    limits : sequence of str
        Limits that the result will be checked against, ``MEASURE[@LAYER]=LIMIT``. A limit for
        something that was not measured is refused.

    Returns
    -------
    dict
        The result, of schema ``onnx-geed/result/1``: identical to that of :func:`onnx_geed.measure`
        without ``shard``, to the last bit. In ``runtime``, ``inferences`` and ``seconds`` are sums
        over the parts, and ``device`` names all devices.

    Raises
    ------
    GeedError
        If there are no parts, or one is missing or given twice.
        If a file is not a result, not a part, or damaged.
        If two parts belong to different runs; the message names the difference.

    Notes
    -----
    The model and the data are not read.

    Examples
    --------
    >>> merge(["part-1.json", "part-2.json"])["measurements"][0]["value"]  # doctest: +SKIP
    """
    given = [parts] if isinstance(parts, str | Path | Mapping) else list(parts)
    if not given:
        raise GeedError("merge: no part is given; name the files of all parts")
    opened = []
    for i, one in enumerate(given, 1):
        with looking_at(f"merge: part {i}", one):
            opened.append(_opened(i, one))
    opened.sort(key=lambda named: named[1]["part"]["number"])
    _check_all_there(opened)
    _check_one_run(opened)
    # What it takes to read arrays comes after whatever can be told without.
    read = [_read(name, content) for name, content in opened]
    data = _data_of_all(read)
    limits = (limits,) if isinstance(limits, str) else limits
    first = read[0]
    check_measured(limits, [told.key for told in first.evidence.measures])
    try:
        evidence = _joined(read)
        records = records_from(evidence)
        notes = conclude(evidence, records, data, first.part["classes"])
    except _DAMAGES as error:
        raise GeedError(
            f"merge: the parts do not fit together ({reason_of(error)}); measure again"
        ) from None
    outcome = result(
        command=command or f"onnx_geed.merge({len(read)} parts)",
        software=first.result["software"],
        model=first.result["model"],
        data=data,
        group=first.result["group"],
        runtime=_runtime(read),
        seed=first.result["seed"],
        measurements=records,
    )
    on_runs = dict.fromkeys(note for one in read for note in one.part["notes"])
    outcome["notes"] = [*on_runs, *notes]
    return outcome


def _opened(number: int, given: str | Path | AnyResult) -> tuple[str, Result]:
    """Return a part and what to call it; refuse what is none."""
    if isinstance(given, Mapping):
        content, name = cast(Result, given), str(given.get("file") or f"result {number}")
    else:
        content, name = read_result(given), str(given)
    part: Any = content.get("part")
    if part is None:
        raise GeedError(
            f"merge: {name}: is a whole result, not a part of one; give the files that onnx-geed "
            "measure --shard i/n wrote"
        )
    kept = part if isinstance(part, dict) else {}
    version = kept.get("version")
    if isinstance(version, int) and version > PART_VERSION:
        raise GeedError(f"merge: {name}: was written by a newer onnx-geed; upgrade this one")
    check_json(part, PartPart, f"merge: {name}: is damaged", "measure it again", "part")
    if not 1 <= part["number"] <= part["of"]:
        raise GeedError(f"merge: {name}: is damaged: part {part['number']} of {part['of']}")
    if isinstance(given, Mapping):
        check_result(content, f"merge: {name}: is damaged")
    if wrong := contradiction(content):
        raise GeedError(f"merge: {name}: is damaged ({wrong}); measure it again")
    return name, content


def _check_all_there(opened: Sequence[tuple[str, Result]]) -> None:
    """Refuse parts that are missing or doubled."""
    (name, content), *others = opened
    of = content["part"]["of"]
    for other, theirs in others:
        if theirs["part"]["of"] != of:
            raise GeedError(
                f"merge: {name} is one of {counted(of, 'part')}, but {other} is one of "
                f"{theirs['part']['of']}: give the parts of one run"
            )
    by_number: dict[int, str] = {}
    for name, content in opened:
        number = content["part"]["number"]
        if number in by_number:
            both = sorted((by_number[number], name))
            raise GeedError(
                f"merge: {both[0]} and {both[1]} are both part {number} of {of}: give each once"
                if both[0] != both[1]
                else f"merge: {name} is given twice: give each part once"
            )
        by_number[number] = name
    # A file may say that there are more parts than could be counted.
    count = of - len(by_number)
    missing = list(itertools.islice((n for n in range(1, of + 1) if n not in by_number), 10))
    if missing:
        shown = ", ".join(map(str, missing))
        more = f" and {count - 10} more" if count > 10 else ""
        word, verb = ("parts", "are") if count > 1 else ("part", "is")
        raise GeedError(
            f"merge: {word} {shown}{more} of {of} {verb} missing; run onnx-geed measure --shard "
            f"{missing[0]}/{of} with the options of the others, and give its file too"
        )


def _check_one_run(opened: Sequence[tuple[str, Result]]) -> None:
    """Refuse parts of different runs."""
    (name, content), *others = opened
    ours = content["part"]["same"]
    for other, result_ in others:
        theirs = result_["part"]["same"]
        differ = [
            key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)
        ]
        if not differ:
            if told := differing(content, result_):
                raise GeedError(
                    f"merge: {other} and {name} say that they are of one run, but differ in part."
                    f"{told}; one is damaged: measure it again"
                )
            continue
        first = differ[0]
        held = " there, ".join(str(one.get(first, "nothing"))[:60] for one in (ours, theirs))
        cure = "measure all parts of one run with the same command, except for --shard"
        if differ == ["rows of a batch"]:
            cure = (
                "different machines choose different batches: give the same --batch-size to all "
                "parts"
            )
        raise GeedError(
            f"merge: {other} comes from another run than {name}: they differ in "
            f"{', '.join(differ[:4])} ({first}: {held} here); {cure}"
        )


def _read(name: str, content: Result) -> _Read:
    part, records = content["part"], content["measurements"]
    # Fed inputs once had one name for all of their marks, which were those of the last one.
    if 0 < len({*part["marks"]} - {"--masks"}) < len(content["data"].get("inputs", [])):
        raise GeedError(
            f"merge: {name}: an earlier onnx-geed wrote it, and did not mark the samples of all "
            "inputs that the group moves; measure it again"
        )
    try:
        evidence, orbits, points = evidence_from(part["evidence"], records)
        other = part["untrained"]
        whole: Mapping[str, Any] = part["whole"] or {}
        read = _Read(
            *(name, content, part, evidence, orbits, points),
            untrained=None if other is None else evidence_from(other, []),
            moved=array_from(part["moved_inputs"]),
            apart=array_from(whole.get("apart")),
        )
        said = [range(*part["orbits"]), range(*part["points"])]
        if [orbits.orbits, points.pointed] != said:
            raise ValueError("its orbits are not those that it names")
        if any(len(each) != sum(map(len, said)) for each in part["marks"].values()):
            raise ValueError("its samples have not one mark each")
        for each in filter(None, ((evidence, orbits, points), read.untrained)):
            if strange := strange_sums(*each):
                raise ValueError(strange)
    except _DAMAGES as error:
        raise GeedError(
            f"merge: {name}: is damaged ({reason_of(error)}); measure it again"
        ) from None
    return read


def _data_of_all(read: Sequence[_Read]) -> DataPart:
    """Return what the last part tells of all data; refuse parts that were fed others."""
    last = read[-1]
    try:
        whole: Mapping[str, Any] = last.part["whole"] or {}
        data: DataPart = whole["data"]
        labels = data["labels"]
        told = [
            (one.name, what, own, of_all)
            for one in read
            for what, own, of_all in _samples_told(one, whole["marks"], labels)
        ]
    except _DAMAGES:
        raise GeedError(
            f"merge: {last.name}: is damaged: it lacks the description of all data that a last "
            "part has; measure it again"
        ) from None
    for name, what, own, of_all in told:
        if own != of_all:
            raise GeedError(
                f"merge: {name} comes from other data than {last.name}: they differ in their "
                f"{what}; measure all parts on data that do not change"
            )
    return data


def _samples_told(
    one: _Read, marks: Mapping[str, Sequence[str]], labels: Sequence[Any] | None
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a part tells of its samples, and what the last part tells of the same ones."""
    # As many as there are marks, where there are any.
    said = [range(*one.part[where]) for where in ("orbits", "points")] if one.part["marks"] else []
    positions = list(itertools.chain(*said))
    of_all = {name: [each[p] for p in positions] for name, each in marks.items()}
    yield "samples", one.part["marks"], of_all
    if positions:
        own = None if labels is None else [labels[p] for p in positions]
        yield "labels", one.result["data"]["labels"], own


def _joined(read: Sequence[_Read]) -> Evidence:
    """Join what parts took in; those that have no orbits say nothing of them."""
    told = read[0].evidence
    statistics = _joined_statistics(told, [(one.orbits, one.points) for one in read])
    each = [one.evidence for one in read if one.orbits.orbits]
    inputs = None
    if read[-1].apart is not None:
        inputs = InputDistances(np.concatenate([one.moved for one in read]), read[-1].apart)
    untrained = None
    others = [one.untrained for one in read if one.untrained is not None]
    if others:
        joined = _joined_statistics(others[0][0], [other[1:] for other in others])
        untrained = replace(others[0][0], statistics=joined)
    predicted = {
        layer: replace(own, classes=np.concatenate([one.predicted[layer].classes for one in each]))
        for layer, own in each[0].predicted.items()
    }
    trips = {
        key: Trips(*(np.concatenate([getattr(e.trips[key], name) for e in each]) for name in TRIPS))
        for key in each[0].trips
    }
    fit_scales = {
        key: replace(
            own,
            scales={
                name: np.concatenate([one.fit_scales[key].scales[name] for one in each])
                for name in own.scales
            },
        )
        for key, own in each[0].fit_scales.items()
    }
    return replace(
        told,
        statistics=statistics,
        predicted=predicted,
        idle=tuple(g for g in each[0].idle if all(g in one.idle for one in each)),
        trips=trips,
        fit_scales=fit_scales,
        inputs=inputs,
        untrained=untrained,
    )


def _joined_statistics(
    evidence: Evidence, parts: Sequence[tuple[OrbitStatistics, OrbitStatistics]]
) -> OrbitStatistics:
    """Join orbits, and then the points for M that come after them."""
    keys = [told.key for told in evidence.measures]
    statistics = join_closed(keys, [*(orbits for orbits, _ in parts), *(p for _, p in parts)])
    if statistics.orbits != range(evidence.count):
        stretch = _stretch(statistics.orbits)
        raise ValueError(f"they have {stretch} of {counted(evidence.count, 'orbit')}")
    held = {layer: len(rows) for layer, rows in statistics.points.items()}
    held |= {"@".join(key): spread.added for key, spread in statistics.spreads.items()}
    for name, count in held.items():
        if count != evidence.pointed:
            raise ValueError(
                f"they have {count} of {counted(evidence.pointed, 'point')} for M of {name}"
            )
    for told in evidence.measures:
        pairs = neighbours(evidence.count) if told.descriptor.beside_others else []
        own = statistics.measures[told.key]
        # Of scores at places, samples that have no real place in common are no pair.
        if not (own.pairs.complete.keys() >= {*pairs} or own.places is not None):
            raise ValueError(f"pairs of samples of {told.measure}@{told.layer} are missing")
        if own.channels is not None and own.channels.added != evidence.count:
            raise ValueError(f"channels of {told.layer} are not of all orbits")
    return statistics


def _stretch(samples: range) -> str:
    return f"samples {samples[0]} to {samples[-1]}" if samples else "no samples"


class _Ran(TypedDict):
    """What a part says of its run, of which other results may be silent."""

    device: str
    seconds: float
    inferences: Count


def _runtime(read: Sequence[_Read]) -> RuntimePart:
    """Return the runtime of all parts together."""
    each = [one.result["runtime"] for one in read]
    for one, ran in zip(read, each, strict=True):
        check_json(ran, _Ran, f"merge: {one.name}: is damaged", "measure it again", "runtime")
    together = each[0].copy()
    together["device"] = "; ".join(dict.fromkeys(one["device"] for one in each))
    together["seconds"] = round(sum(one["seconds"] for one in each), 3)
    together["inferences"] = sum(one["inferences"] for one in each)
    return together
