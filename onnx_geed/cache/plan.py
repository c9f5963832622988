"""The plan for a cache: what is measured of what it holds, under which output actions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from onnx_geed.cache.acting import acting_group
from onnx_geed.cache.contents import lasting_notes, needs_activations
from onnx_geed.cache.fits import check_unseen, fit_from_cache
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.matrices import read_tables
from onnx_geed.cache.tensors import named_tensors, stored_tensors
from onnx_geed.errors import GeedError
from onnx_geed.groups import Interpolation, Table
from onnx_geed.measures import (
    Layer,
    Plan,
    Request,
    descriptor_of,
    judge_of_fits,
    make_plan,
    parse_request,
    taken_unasked,
)
from onnx_geed.model import parse_classes
from onnx_geed.run import (
    Notify,
    Options,
    Progress,
    Targets,
    check_fits_measured,
    check_given_measured,
    check_tables,
    fits_to_make,
    judged_tables,
    requested_fits,
    stated_tables,
    targeted,
    with_truths,
)

__all__ = ["options_of", "plan_of", "plan_with_fits"]


def options_of(
    manifest: Manifest,
    count: int,
    output_action: Mapping[str, Any],
    fit_samples: int,
    fit_anyway: bool,
    memory: str | int,
) -> Options:
    """Return the options that a cache was written with, as far as fits need them.

    Raises
    ------
    GeedError
        If a value is not of its type or out of its range.
    """
    description = manifest.description
    return Options(
        samples=count,
        seed=description["seed"],
        interpolation=cast(Interpolation, description["group"]["interpolation"]),
        support=description["group"]["support"],
        output_action=output_action,
        fit_samples=fit_samples,
        fit_anyway=fit_anyway,
        memory=memory,
    )


def plan_with_fits(
    folder: Path,
    manifest: Manifest,
    measures: Sequence[str],
    count: int,
    options: Options,
    target: Targets,
    told: tuple[Progress | None, Notify | None],
) -> tuple[Plan, Collection[int], dict[str, Table], list[str]]:
    """Bind the measures to what a cache holds, under output actions that are given or fitted.

    Returns
    -------
    plan : Plan
        The measures.
    wanted : collection of int
        The entries that they need.
    tables : dict of str to Table
        Output actions by tensor, those that were fitted too.
    notes : list of str
        On fits.

    Raises
    ------
    GeedError
        If the cache does not hold what one needs, or a fit does not go with the rest.
    """
    listed = stored_tensors(manifest)
    fits = requested_fits(listed, options)
    tables = read_tables(folder, manifest.description["tables"]) | stated_tables(listed, options)
    check_unseen(tables, manifest, count)
    judged = [*fits, *judged_tables(listed, options, tables)]
    measures = _with_fits(measures, manifest, judged)
    plan, wanted = plan_of(manifest, measures, tables, options, target)
    check_given_measured(listed, options, plan)
    fitted_to = range(count, min(count + options.fit_samples, manifest.count))
    fits, notes = fits_to_make(fits, plan.layers, plan.group, len(fitted_to), options)
    if fits:
        check_fits_measured(plan, fits)
        given = folder, manifest, plan, fits, fitted_to, options
        tables |= fit_from_cache(*given, progress=told[0], notify=told[1])
        plan, wanted = plan_of(manifest, measures, tables, options, target)
    return plan, wanted, tables, notes


def plan_of(
    manifest: Manifest,
    measures: Sequence[str],
    tables: Mapping[str, Table],
    options: Options,
    given: Targets = MappingProxyType({}),
) -> tuple[Plan, list[int]]:
    """Return the plan for a cache, and the numbers of the entries that it reads.

    Raises
    ------
    GeedError
        If the cache does not hold what a measure needs, or a target is not given again.
        If the tables by which maps move take more memory than the budget leaves.
    """
    description, group = manifest.description, manifest.description["group"]
    targets = targeted(stored_tensors(manifest), given)
    selected = _selected_layers(manifest, measures, targets)
    for request, layer in selected:
        lacks = layer.name in description.get("targets", ())
        if lacks and descriptor_of(request.measure).of_error and layer.name not in targets:
            raise GeedError(
                f"{request.measure}@{layer.name}: the cache was written for a target but does not "
                f"store it: give it again with --target {layer.name}=FILE.npy"
            )
    on_layers = ((request.measure, layer) for request, layer in selected)
    check_tables(acting_group(group), (), on_layers, options)
    plan = make_plan(
        acting_group(group),
        selected,
        input_exact=group["exact"],
        # A cache is never of an action of one's own.
        interpolation=cast(Interpolation, group["interpolation"]),
        support=group["support"],
        kinds=description["kinds"],
        tables=tables,
        notes=lasting_notes(description["notes"]),
        targets=targets,
    )
    data = description["data"]
    plan = with_truths(
        plan,
        indices=manifest.indices[: manifest.count],
        available=data["available"],
        labels=data["labels"] and data["labels"][: manifest.count],
        names=parse_classes(description.get("classes")),
        targets=targets,
        tables=tables,
    )
    wanted: list[int] = []
    for measure in plan.measures:
        contents = ["activations"]
        if measure.descriptor.view == "maps":
            contents.append("sums")
        elif not needs_activations(measure, plan.layers[measure.layer]):
            contents.append("points")
        entries = [
            i
            for i, e in enumerate(manifest.entries)
            if e.tensor == measure.layer and e.content in contents
        ]
        if not entries:
            raise GeedError(
                f"{measure.name}@{measure.layer}: the cache keeps only statistics of other "
                "measures for this layer; write it again with this --measure, or with "
                "--cache-mode raw"
            )
        wanted += [i for i in entries if i not in wanted]
    # What a shard keeps for M₂ is read apart, in the order of the samples.
    plan = replace(plan, norm_samples=0)
    return plan.drawn(description["seed"], manifest.indices), wanted


def _selected_layers(
    manifest: Manifest, measures: Sequence[str], targets: Collection[str]
) -> list[tuple[Request, Layer]]:
    """Return measures and layers: those asked for, or else those that the cache was made for."""
    description = manifest.description
    layers = {
        d["name"]: Layer(d["name"], tuple(d["shape"]), d["layout"], tuple(d["roles"]))
        for d in description["layers"]
    }
    tensors = stored_tensors(manifest)
    selected: list[tuple[Request, Layer]] = []
    for request in map(parse_request, measures):
        if request.layer is not None:
            chosen = [layers[t.name] for t in named_tensors(tensors, request)]
        else:
            roles = descriptor_of(request.measure).roles
            chosen = [layer for layer in layers.values() if {*roles} & {*layer.roles}]
            if targets and descriptor_of(request.measure).of_error:
                chosen = [layers[name] for name in targets]
            if not chosen:
                raise GeedError(
                    f"{request.measure}: the cache holds no {' or '.join(roles)}; name one of its "
                    f"layers with --measure {request.measure}@LAYER: {', '.join(list(layers)[:5])}"
                )
        selected += [(request, layer) for layer in chosen]
    if not measures:
        selected = [
            (Request(name, layer), layers[layer]) for name, layer in description["measures"]
        ]
    if not selected:
        selected = [
            (Request(name), layer)
            for name in taken_unasked(acting_group(description["group"]))
            for layer in layers.values()
            if {*descriptor_of(name).roles} & {*layer.roles}
        ]
    return selected


def _with_fits(measures: Sequence[str], manifest: Manifest, fits: Iterable[str]) -> Sequence[str]:
    """Return the measures; where none is asked for, also what fits leave unexplained."""
    judged = [f"{judge_of_fits()}@{name}" for name in fits]
    if measures or not judged:
        return measures
    own = [f"{name}@{layer}" for name, layer in manifest.description["measures"]]
    return tuple(dict.fromkeys([*own, *judged]))
