"""The measurement itself, written as an ONNX file that any runtime can run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_geed.addresses import leaf
from onnx_geed.arguments import checked
from onnx_geed.data import Preprocess, preprocess_to_json
from onnx_geed.errors import GeedError
from onnx_geed.groups import Group, parse_group
from onnx_geed.held import allowed_by, array_bytes, check_held
from onnx_geed.measures import (
    Plan,
    check_changed_as_nodes,
    check_written_as_nodes,
    descriptor_of,
    parse_request,
)
from onnx_geed.model import (
    MEASUREMENT,
    Input,
    Model,
    check_weights,
    find_input,
    further_inputs,
    load_model,
    write_model,
)
from onnx_geed.results import GroupPart, ModelPart
from onnx_geed.run.fit_requests import parse_fit, refuse_fits
from onnx_geed.run.fuse import Fused, check_graph_can_measure, check_graph_can_move
from onnx_geed.run.graph_engine import check_job, open_fused
from onnx_geed.run.job import Task
from onnx_geed.run.memory import graph_bytes
from onnx_geed.run.moved_input import chosen_preprocess
from onnx_geed.run.options import Options, make_options
from onnx_geed.run.prepare import prepare_run
from onnx_geed.run.provenance import describe_group, describe_model, software_versions
from onnx_geed.run.written_measures import Output

__all__ = [
    "SCHEMA",
    "CompiledInput",
    "CompiledMeasurement",
    "CompiledOutput",
    "compile_measurement",
]

SCHEMA = "onnx-geed/measurement/1"


# A model is tried out on two samples, on the processor, as measuring it does before a run.
_TRIED_OUT: dict[str, Any] = {
    "samples": 2,
    "norm_samples": 0,
    "precision": None,
    "provider": "cpu",
    "engine": "kernels",
    "batch_size": None,
}


# Options of a whole run, which the file has no part in, and what to do with them.
_OF_A_RUN = (
    (
        *("labels", "background", "target", "layers", "references", "untrained"),
        *("fit_samples", "fit_anyway"),
    ),
    "has no effect on a compiled measurement, which takes samples and returns deviations; give it "
    "to onnx-geed measure",
)


# What deviations are in, by the unit of the measure.
_UNITS = {
    "−cosine": "cosine",
    "distance": "units of the tensor",
    "distance per pixel": "units of the tensor per pixel",
    "squared distance": "squared units of the tensor",
}


_MEAN = "larger is less equivariant; the G-EED of eq. (4) is the mean over samples and elements"
_MEAN_OF_OTHERS = f"{_MEAN}, without the identity, which is compared with itself"


class CompiledInput(TypedDict):
    """An input of a compiled measurement: samples (N, ...), not yet moved by the group."""

    name: str
    shape: list[str | int]
    meaning: str
    preprocess: dict[str, Any]


class CompiledOutput(TypedDict):
    """An output of a compiled measurement: one part of one measure on one tensor."""

    name: str
    part: str
    measure: str
    layer: str
    output_action: str
    shape: list[str | int]
    dtype: str
    axes: str
    elements: list[str]
    unit: str
    meaning: str


class CompiledMeasurement(TypedDict):
    """The description that a compiled measurement carries, ``onnx-geed/measurement/1``."""

    schema: str
    software: dict[str, str | None]
    model: ModelPart
    group: GroupPart
    input: CompiledInput
    others: list[CompiledInput]
    outputs: list[CompiledOutput]
    notes: list[str]


@checked
def compile_measurement(
    model: str | Path | Model,
    group: str | Group,
    out: str | Path,
    *,
    data: Any = None,
    **options: Any,
) -> CompiledMeasurement:
    """Write a measurement as an ONNX file that takes samples and returns deviations.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file to measure.
    group : str or Group
        The acting group.
    out : str or Path
        The file to write; the model's external data are copied next to it.
    data : str, Path or ndarray, optional
        Samples to test the model with; noise by default.
    **options
        Fields of :class:`onnx_geed.Options`; those about how to run are ignored.

    Returns
    -------
    dict
        The file's description of itself, schema ``onnx-geed/measurement/1``: its input, and every
        output with measure, layer, elements, unit and meaning.

    Raises
    ------
    GeedError
        If model or options are invalid, or the measurement is impossible in one graph.
        If one orbit takes more memory than the budget; the file is tested with one.
        If the file cannot be written, or does not pass the checker.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    # Options that say how to run are a measurement's: the file is only tried out.
    chosen = replace(make_options(options, *_OF_A_RUN), **_TRIED_OUT)
    for request in map(parse_request, chosen.measures):
        if descriptor_of(request.measure).of_error:
            raise GeedError(
                f"compile {loaded.called}: {request.measure} needs labels or a target, but a "
                "graph is fed only samples; use onnx-geed measure"
            )
    asked = {layer: parse_fit(layer, value) for layer, value in chosen.output_action.items()}
    refuse_fits(
        {layer: request for layer, request in asked.items() if request is not None},
        "fit it first with onnx-geed fit, and give the file",
    )
    acting = group if isinstance(group, Group) else parse_group(group)
    try:
        check_changed_as_nodes(acting)
    except GeedError as error:
        raise GeedError(f"compile {loaded.called}: {error}") from None
    acted = find_input(loaded, chosen.input, chosen.input_layout)
    preprocess = chosen_preprocess(loaded, chosen, acted.name) or Preprocess()
    if data is None:
        # Noise is made in the size that the model takes.
        sized = replace(chosen, preprocess=replace(preprocess, resize=None, crop=None))
        prepared = prepare_run(loaded, _noise(loaded, acted, chosen), group, sized)
    else:
        prepared = prepare_run(loaded, data, group, chosen)
    task = prepared.task
    if task.network.one_by_one or task.network.fixed:
        starts = ("run one by one", "the model takes")
        reason = next((n for n in task.plan.notes if n.startswith(starts)), starts[0])
        raise GeedError(
            f"compile {loaded.called}: {reason}; one graph holds whole orbits, so export the model "
            "with a free batch axis (onnx-geed measure runs it as it is)"
        )
    try:
        check_written_as_nodes(task.plan.measures)
    except GeedError as error:
        raise GeedError(f"compile {loaded.called}: {error}; name others with --measure") from None
    try:
        check_graph_can_measure(task.source)
        check_graph_can_move(task.source)
    except GeedError as error:
        raise GeedError(f"compile {loaded.called}: {error}") from None
    notes = _of_the_file(task.plan.notes, prepared.doubt)
    task = replace(task, plan=replace(task.plan, notes=notes))
    own = prepared.footprint
    # Measures are written each for itself, as for a processor.
    whole = replace(own, row=own.row + graph_bytes(task.plan, task.source, "cpu"))
    whole.check(task.plan.group.order)
    layers = tuple(task.plan.layers)
    check_job(task.source, prepared.worker.session(task.network, layers), [0], task.batch)
    del prepared  # and its session: a model's weights are not held twice
    fused, session = open_fused(task, layers, doubt=False)
    rows = task.source.rows([0], orbits=False)
    others = task.source.other_inputs([0], 1)
    session.run_as_given(rows, {fused.feeds[k]: v for k, v in others.items() if k in fused.feeds})
    del session
    further = [other.name for other, _ in further_inputs(loaded, acted, chosen.input_layout)]
    beside = {name: chosen_preprocess(loaded, chosen, acted.name, name) for name in further}
    described = _describe(loaded, task, fused, acted.name, {acted.name: preprocess} | beside)
    _write_descriptions(fused.proto, fused, described)
    check_weights(loaded)
    write_model(fused.proto, loaded.path, out, check=True)
    return described


def _of_the_file(notes: Sequence[str], doubt: str) -> tuple[str, ...]:
    """Return the notes of a run as they are for a file, which runs no row again."""
    if not doubt:
        return tuple(notes)
    unchecked = (
        f"{doubt}: some rows of one orbit were run again alone when the file was made, and it "
        "checks none itself: give it one sample at a time, unless you know that rows are "
        "independent"
    )
    return (*(note for note in notes if not note.startswith(doubt)), unchecked)


def _noise(model: Model, acted: Input, options: Options) -> NDArray[np.float32]:
    """Two samples of noise in the model's own layout."""
    partners = [other.name for other, _ in further_inputs(model, acted, options.input_layout)]
    if partners or not acted.dtype.startswith("float"):
        what = "takes whole numbers" if not partners else f"is moved with {', '.join(partners)}"
        raise GeedError(
            f"the input {acted.name!r} {what}, so the model cannot be tested on noise: give "
            "--data of the kind that will be measured"
        )
    lengths = [length for length in acted.shape[1:] if length is not None]
    if len(lengths) != len(acted.shape) - 1:
        raise GeedError(
            f"the input {acted.name!r} has free lengths besides its batch: give --data of the "
            "shape that will be measured"
        )
    shape, kind = (2, *lengths), np.dtype(np.float32)
    check_held(
        f"compile {model.called}: noise for the input {acted.name!r}",
        array_bytes(shape, kind),
        allowed_by(options.memory),
        "give --data of the size that will be measured, or a larger --memory",
    )
    return np.random.default_rng(options.seed).random(shape, kind)


def _describe(
    model: Model, task: Task, fused: Fused, acted: str, prepared: Mapping[str, Preprocess | None]
) -> CompiledMeasurement:
    """Return the file's description of itself."""
    moved, feeds = {acted: task.source.main, **task.source.partners}, task.source.feeds
    taken = {acted: fused.input, **fused.feeds}
    shapes = {name: feed.values.shape[1:] for name, feed in feeds.items() if feed.rows != "whole"}
    shapes |= {name: one.row_shape for name, one in moved.items()}
    of_inputs: list[CompiledInput] = [
        {
            "name": called,
            "shape": ["N", *shapes[name]] if name in shapes else [*feeds[name].values.shape],
            "meaning": _meaning_of(
                task, moves=name in moved, rows=name in shapes, read=name in prepared
            ),
            "preprocess": json.loads(preprocess_to_json(prepared.get(name) or Preprocess())),
        }
        for name, called in taken.items()
    ]
    return {
        "schema": SCHEMA,
        "software": {"onnx-geed": software_versions().get("onnx-geed")},
        "model": describe_model(model),
        "group": describe_group(task),
        "input": of_inputs[0],
        "others": of_inputs[1:],
        "outputs": [_output(output, task.plan) for output in fused.outputs],
        "notes": list(task.plan.notes),
    }


def _meaning_of(task: Task, *, moves: bool, rows: bool, read: bool) -> str:
    """Return what an input is fed; it is prepared where it is read by its layout."""
    what = "samples" if rows else "one value for all samples,"
    done = " (scaled, mean and std applied)" if read else ""
    free = "; N is free" if rows else ""
    if not moves:
        return f"{what} as the model takes them{done}, which the group does not move{free}"
    return f"{what} as the model takes them{done}, not yet moved by the group{free}. " + (
        "Members change pixels as values in [0, 1]: scale, mean and std are undone for "
        "them, and done again"
        if task.plan.group.changes_values
        else "What moves in from outside is what preprocessing makes of black"
    )


def _output(output: Output, plan: Plan) -> CompiledOutput:
    """Return the description of one output."""
    measure = output.measure
    formula, unit = (
        measure.descriptor.formula,
        _UNITS.get(measure.descriptor.unit, measure.descriptor.unit),
    )
    mean, mean_of_exact = (
        _MEAN_OF_OTHERS if measure.counted_of(members).start else _MEAN
        for members in (range(plan.group.order), plan.exact_subgroup(measure) or ())
    )
    meanings = {
        "deviation": (f"{formula}; {mean}", unit),
        "exact": (
            f"{formula}; over the exact subgroup alone, with its own mean; {mean_of_exact}",
            unit,
        ),
        "zeros": ("share of the cosines that were taken between two zero vectors", "share, 0 to 1"),
        "energy": (
            "sum of squares of the tensor under each element: not finite where the model gave NaN "
            "or infinity, and the deviation says nothing",
            "squared units of the tensor",
        ),
        "latent": (
            "the tensor of the sample itself, from which M, the normaliser of the latent measures, "
            "is computed: the mean distance (or cosine) over pairs of different samples",
            "units of the tensor",
        ),
        "identity": (
            f"the whole tensor of the sample itself, from which M of {measure.name} is computed: "
            "the sum of the squared distances of the tensors of N different samples from their "
            "mean, over N - 1" + "; of that twice, the root" * (measure.descriptor.power == 1),
            "units of the tensor",
        ),
        "range": ("lowest and highest probability that the model gave over the orbit", "share"),
    }
    meaning, unit = meanings[output.part]
    axes = "samples by elements of the group, in order" if output.elements else "samples by entries"
    return {
        "name": output.name,
        "part": output.part,
        "measure": measure.name,
        "layer": measure.layer,
        "output_action": measure.action.name,
        "shape": list(output.shape),
        "dtype": "float32" if output.part in ("latent", "identity") else "float64",
        "axes": axes,
        "elements": list(output.elements),
        "unit": unit,
        "meaning": meaning,
    }


def _write_descriptions(
    proto: onnx.ModelProto, fused: Fused, described: CompiledMeasurement
) -> None:
    group, model = described["group"], described["model"]
    proto.producer_name = "onnx-geed"
    proto.producer_version = described["software"]["onnx-geed"] or ""
    proto.doc_string = (
        f"G-empirical equivariance deviation (Kvinge et al. 2022) of {leaf(model['path'])} "
        f"under {group['name']}: feed {fused.input!r} samples as the model takes them, not yet "
        f"moved; each output 'deviation/MEASURE/LAYER' is samples by the {group['order']} elements "
        f"{', '.join(group['elements'])}. Metadata onnx_geed.measurement says it all as JSON."
    )
    meanings = {i["name"]: i["meaning"] for i in [described["input"], *described["others"]]}
    for info in proto.graph.input:
        if info.name in meanings:
            info.doc_string = meanings[info.name]
    for info, entry in zip(proto.graph.output, described["outputs"], strict=True):
        subject = f"tensor {entry['layer']!r}"
        if entry["part"] not in ("latent", "range"):
            subject = f"{entry['measure']} of {subject}, output action {entry['output_action']}"
        info.doc_string = (
            f"{subject}: {entry['meaning']}. Axes: {entry['axes']}"
            + (f" ({', '.join(entry['elements'])})" if entry["elements"] else "")
            + f". Unit: {entry['unit']}."
        )
    proto.metadata_props.add(key=MEASUREMENT, value=json.dumps(described))
