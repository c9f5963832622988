"""A part of a run: one share of it, measured, as a result that others join into the whole."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from onnx_geed.data import Intake, preprocess_to_json
from onnx_geed.errors import GeedError
from onnx_geed.groups import Table
from onnx_geed.model import CLASSES, parse_classes
from onnx_geed.ordinary import digest_of
from onnx_geed.results import PartPart, Record, Result, part_words, result
from onnx_geed.run.conclusion import anew, conclude, evidence_of, records_from
from onnx_geed.run.fit_orbits import Notify, with_fits
from onnx_geed.run.fit_scales import fit_inferences, run_scales
from onnx_geed.run.how_far import apart, gain_is_taken, moved_by
from onnx_geed.run.kept_points import KeptPoints
from onnx_geed.run.measured_as import measured_as
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.options import Options
from onnx_geed.run.part_content import array_to, evidence_to
from onnx_geed.run.prepare import Prepared, check_inputs
from onnx_geed.run.progress import Meter, Progress
from onnx_geed.run.provenance import (
    describe_data,
    describe_group,
    describe_model,
    describe_runtime,
    describe_targets,
    software_versions,
)
from onnx_geed.run.references import round_trips, untrained
from onnx_geed.run.shard import Shard, jobs_of, run_shard, shard_inferences, with_points
from onnx_geed.run.source import Source
from onnx_geed.run.unmoved import unmoving

__all__ = ["PART_VERSION", "check_divisible", "measure_part"]

#: Of what a part carries.
PART_VERSION = 1

# Software whose versions decide the last bits.
_COMPUTING = ("onnx-geed", "onnxruntime", "onnxruntime-gpu", "numpy", "numba")

# Options that say where and how fast, or whose outcome is told by itself.
_ELSEWHERE = ("memory", "time_per_sample", "provider", "batch_size", "engine", "precision")


def check_divisible(prepared: Prepared, limits: Sequence[str]) -> None:
    """Refuse to divide what only a whole run can do.

    Parameters
    ----------
    prepared : Prepared
        The whole run.
    limits : sequence of str
        Limits that a result was to be held against.

    Raises
    ------
    GeedError
        If a function is measured.
        If samples are added until a precision is reached.
        If there are limits.
    """
    if prepared.model.function is not None:
        raise GeedError(
            "--shard: parts are matched by the fingerprint of their model, but "
            f"{prepared.model.called} is a function; leave it out, or export the model"
        )
    if prepared.options.precision is not None:
        raise GeedError(
            "--precision: adds samples depending on earlier ones, which a part does not see; "
            "leave --shard out, or give --samples N"
        )
    if limits:
        raise GeedError(
            f"--fail-above {limits[0]}: a part's values are not the final ones; give it to "
            "onnx-geed merge"
        )


def measure_part(
    prepared: Prepared,
    shard: Shard,
    *,
    started: float,
    progress: Progress | None = None,
    notify: Notify | None = None,
    command: str | None = None,
    kept: KeptPoints | None = None,
) -> Result:
    """Measure one share of a run.

    Parameters
    ----------
    prepared : Prepared
        The whole run.
    shard : Shard
        Which share.
    started : float
        When the run began, by :func:`time.perf_counter`.
    progress : callable, optional
        Called with the progress of the run.
    notify : callable, optional
        Called with a text about the cost of fitting an output action.
    command : str, optional
        The command to store in the result.
    kept : KeptPoints, optional
        Points for M that were run before.

    Returns
    -------
    dict
        A result of schema ``onnx-geed/result/1`` over its own orbits and points for M, and
        ``part``, which holds what :func:`onnx_geed.merge` needs besides.

    Raises
    ------
    GeedError
        As :func:`onnx_geed.measure`.
    """
    prepared = with_fits(prepared, progress, notify)
    task, chosen = prepared.task, prepared.options
    plan, source = task.plan, task.source
    share = jobs_of(shard, task, prepared.passes[0], prepared.count)
    own = share.orbits
    each = len(prepared.passes) * len(own) * (plan.group.order + 2)
    planned = shard_inferences(prepared, shard) * (1 + chosen.untrained)
    planned += each * chosen.references
    planned += fit_inferences(prepared, own)
    meter = Meter("inferences", planned, progress)
    orbits, points = run_shard(prepared, shard, meter, kept)
    evidence = evidence_of(
        prepared,
        with_points(plan, orbits, points),
        idle=unmoving(source, own.stop, start=own.start),
        trips=round_trips(prepared, own, meter) if chosen.references and own else {},
        inputs=None,
        fit_scales=run_scales(prepared, own, meter) if own else {},
    )
    inferences = prepared.fitted
    of_other: dict[str, Any] | None = None
    if chosen.untrained:
        other, on_other = untrained(prepared)
        other = with_fits(other, progress, notify)
        inferences += other.fitted
        others = run_shard(other, shard, meter)
        nested = anew(evidence, other, with_points(plan, *others))
        of_other = evidence_to(nested, *others, [])
        evidence = replace(
            evidence, untrained=nested if own else None, on_untrained=tuple(on_other)
        )
    positions = [*own, *points.pointed]
    described = describe_data(_only(source, positions), describe_targets(plan, prepared.count))
    names = parse_classes(prepared.model.metadata.get(CLASSES))
    records: list[Record] = records_from(evidence) if own else []
    notes = conclude(evidence, records, described, names)
    content: dict[str, Any] = {
        "version": PART_VERSION,
        "number": shard.number,
        "of": shard.of,
        "samples": prepared.count,
        "orbits": [own.start, own.stop],
        "points": [points.pointed.start, points.pointed.stop],
        "same": _same(prepared),
        "notes": list(plan.notes),
        "classes": None if names is None else list(names),
        "marks": _marks(source, positions),
        "evidence": evidence_to(evidence, orbits, points, records),
        "untrained": of_other,
        "moved_inputs": array_to(moved_by(source, own)) if gain_is_taken(plan) else None,
        "whole": _whole(prepared) if shard.last else None,
    }
    check_inputs(prepared)
    outcome = result(
        command=command or f"onnx_geed.measure(group={plan.group.name!r}, shard={str(shard)!r})",
        software=software_versions(),
        model=describe_model(prepared.model),
        data=described,
        group=describe_group(task),
        runtime=describe_runtime(
            task,
            time.perf_counter() - started,
            inferences + meter.done,
            prepared.executor.workforce(prepared.workers),
        ),
        seed=chosen.seed,
        measurements=records,
    )
    part = cast(PartPart, content)
    outcome["part"] = part
    outcome["notes"] = [part_words(part), *plan.notes, *notes]
    return cast(Result, json.loads(json.dumps(outcome)))


def _only(source: Source, positions: Sequence[int]) -> Source:
    """Return the source of some samples alone, held against those that were fed."""
    some = source.over(tuple(source.indices[position] for position in positions), None)

    def held(own: MovedInput, whole: MovedInput) -> MovedInput:
        intake = whole.intake or Intake(whole.samples, whole.indices)
        return replace(own, intake=intake.only(positions))

    partners = {name: held(own, source.partners[name]) for name, own in some.partners.items()}
    return replace(some, main=held(some.main, source.main), partners=partners)


def _marks(source: Source, positions: Sequence[int]) -> dict[str, list[str]]:
    """Return a digest of each sample at some positions, by the input that the group moves.

    What stands in front of other backgrounds has one too.
    """
    marks = {}
    # Of the main one the name depends on the kind of file that its samples are in.
    for name, moved in {"": source.main, **source.partners}.items():
        own = (moved.intake or Intake(moved.samples, moved.indices)).only(positions)
        own.fingerprint()  # which reads what was not fed
        marks[name] = own.marks()
    if (backdrop := source.main.backdrop) is not None:
        each = (backdrop.masks_fingerprint([source.indices[position]]) for position in positions)
        marks["--masks"] = list(each)
    return marks


def _whole(prepared: Prepared) -> dict[str, Any]:
    """Return what is told of all the data of the run, which the last share reads."""
    source, plan = prepared.task.source, prepared.task.plan
    gain = gain_is_taken(plan)
    return {
        "data": describe_data(source, describe_targets(plan, prepared.count)),
        "marks": _marks(source, range(len(source.indices))),
        "apart": array_to(apart(source, prepared.options.norm_samples)) if gain else None,
    }


def _same(prepared: Prepared) -> dict[str, str]:
    """Return all that parts of one run have in common, by the names that a refusal tells."""
    task, plan, chosen = prepared.task, prepared.task.plan, prepared.options
    source, versions = task.source, software_versions()
    told = [one.told() for one in measured_as(plan)]
    feeds = {name: (feed.rows, feed.values) for name, feed in source.feeds.items()}
    fixed = {
        "model": prepared.model.sha256,
        "samples": f"{prepared.count} of {len(source.samples)}",
        "points for M": str(len(source.indices)),
        "seed": str(chosen.seed),
        "group": plan.group.name,
        "rows of a batch": str(task.batch),
        "engine": task.engine,
        "provider": task.network.provider,
        "precision of the model": str(task.network.dtype),
        "measures": ", ".join(f"{m.name}@{m.layer}" for m in plan.measures),
        "samples drawn": _digest(source.indices),
        "input": json.dumps([source.layout, list(source.row_shape)]),
        "preprocessing": preprocess_to_json(source.samples.preprocess),
        "what the group does to the first sample": _digest(source.rows([0])),
        **{
            f"what it does to that of {name}": _digest(partner.rows([0], orbits=True))
            for name, partner in source.partners.items()
        },
        "how the group is described": _digest(describe_group(task)),
        "how measures are taken": _digest(told),
        "passes": _digest(prepared.passes),
        "other inputs": _digest(feeds),
        "labels or targets": _digest(plan.truths),
        "labels of places": _digest(source.place_labels),
        "output actions": _digest(prepared.tables),
    }
    options = {
        f"--{field.name.replace('_', '-')}": _told(getattr(chosen, field.name))
        for field in fields(Options)
        if field.name not in _ELSEWHERE and field.name not in ("seed", "samples")
    }
    software = {name: versions[name] for name in _COMPUTING if name in versions}
    return {**fixed, **options, **software}


def _told(value: Any) -> str:
    """Return an option's value as a text: itself where it is short, else its digest."""
    content = _content(value)
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return text if len(text) <= 80 else hashlib.sha256(text.encode()).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_content(value), sort_keys=True).encode()).hexdigest()[:16]


def _content(value: Any) -> Any:
    """Return what a value comes to as JSON; a file stands for what is in it."""
    if isinstance(value, np.ndarray):
        # Of objects, such as labels, the bytes would be addresses.
        if value.dtype == object:
            return _content(value.tolist())
        held = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return [str(value.dtype), list(value.shape), held]
    if isinstance(value, Table):
        # Of a fit also which samples it has seen.
        fit = None if value.fit is None else value.fit.told()
        return [list(value.elements), value.kind, _content(value.values), fit, value.partial]
    if isinstance(value, Mapping):
        return {str(key): _content(value[key]) for key in value}
    if isinstance(value, str | Path):
        if Path(value).is_file():
            return digest_of(value)
        return str(value)
    if isinstance(value, Sequence):
        return [_content(one) for one in value]
    return value if isinstance(value, int | float | bool | None) else repr(value)
