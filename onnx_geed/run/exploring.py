"""Some samples of a result, run through their model again to be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import mark_of, preprocess_from_json, shrunk
from onnx_geed.errors import GeedError, known_names
from onnx_geed.groups import (
    Action,
    LayoutAction,
    PlacedAction,
    Table,
    parse_layout,
    read_tables,
    recorded_group,
)
from onnx_geed.measures import (
    Measure,
    Plan,
    channel_sums_of_orbits,
    deviations_of_sums,
    f_hat,
    judge_of_fits,
    moved_classes,
    operands_of_orbits,
    view,
)
from onnx_geed.model import CLASSES, FLOATS, Model, load_model, parse_classes
from onnx_geed.results import (
    DataPart,
    Exploration,
    ExploredLayer,
    Record,
    Result,
    read_record,
)
from onnx_geed.run.fit_requests import parse_fit
from onnx_geed.run.map_pictures import plane_of, reading_of
from onnx_geed.run.options import make_options
from onnx_geed.run.orbits import activations
from onnx_geed.run.prepare import Prepared, prepare_run
from onnx_geed.run.source import Source

__all__ = ["explore"]

F64 = NDArray[np.float64]


# Layers of which maps are kept, spread over the depth.
_LAYERS = 12


# How far a deviation may be from the one in the result: another device rounds otherwise.
_CLOSE = 2e-3


def explore(
    result: Result,
    model: str | Path | Model,
    data: Any,
    positions: Sequence[int],
    *,
    action: Action | None = None,
    output_action: Mapping[str, Any] | None = None,
) -> Exploration:
    """Run some samples of a result again, and keep what a page shows of them.

    Parameters
    ----------
    result : dict
        The result.
    model : str, Path or Model
        The model that was measured.
    data : str, Path or ndarray
        The data that was measured.
    positions : sequence of int
        Which samples, by their positions in D.
    action : Action, optional
        The action of one's own that moved the samples, where one did.
    output_action : mapping of str to str, Path or Table, optional
        The action tables that were given, by layer, but for those of the model's metadata.

    Returns
    -------
    Exploration
        Of up to 12 layers of feature maps, spread over the depth, the worst one among them, and
        of class scores.

    Raises
    ------
    GeedError
        If the result is of a function.
        If the model is another one than that which was measured.
        If model or data cannot be run as the result says they were.
        If values come out otherwise than the result holds them.

    Notes
    -----
    A result does not keep how everything was asked for, such as tables of output actions. So
    deviations are computed again, and refused where they are not those of the result; layers of
    which no table is known are left out, and a note says so.
    """
    if not result["model"]["sha256"]:
        raise GeedError(
            f"{result['model']['path']}: is a function, which cannot be run again from a result; "
            "measure an ONNX file"
        )
    loaded = model if isinstance(model, Model) else load_model(model)
    if loaded.sha256 != result["model"]["sha256"]:
        raise GeedError(
            f"--model {loaded.called}: is not the model that was measured, "
            f"{result['model']['path']} (SHA-256 {result['model']['sha256'][:16]}…): give that one"
        )
    notes: list[str] = []
    maps, scores = _maps_to_show(result), _scores_to_show(result)
    tables = _tables_of(result, [*maps, *([scores] if scores else ())], output_action or {})
    if reason := _not_told(result, action):
        return Exploration(tuple(positions), notes=(f"No maps are shown: {reason}.",))
    if not maps and scores is None:
        return Exploration(tuple(positions), notes=tuple(notes))
    prepared = _prepared(result, loaded, data, positions, maps, scores, action, tables)
    maps = _moved_as_measured(maps, prepared, notes)
    if not maps and scores is None:
        return Exploration(tuple(positions), notes=tuple(notes))
    names = [record["layer"] for record in (*maps, *([scores] if scores else ()))]
    plan, task = prepared.task.plan, prepared.task
    runner = prepared.worker.session(task.network, list(dict.fromkeys(names)))
    by_layer = {m.layer: m for m in plan.measures if _of_maps(m)}
    by_scores = {m.layer: m for m in plan.measures if m.descriptor.view == "scores"}
    moves = None
    if scores is not None:
        moves = _class_moves(scores, by_scores[scores["layer"]], plan, notes)
    channels = {record["layer"]: _two_channels(record) for record in maps}
    parts: dict[str, list[tuple[NDArray[Any], ...]]] = {record["layer"]: [] for record in maps}
    rows: list[F64] = []
    for position in positions:
        arrays = activations(task.source, runner, [position], task.batch)
        for record in maps:
            name = record["layer"]
            measure = by_layer[name].of(position)
            y = view(plan.layers[name], measure, arrays[name])
            parts[name].append(_one(result, record, measure, y, position, channels[name]))
        if scores is not None:
            name = scores["layer"]
            measure = by_scores[name].of(position)
            logs = operands_of_orbits(measure, view(plan.layers[name], measure, arrays[name]))
            rows.append(np.exp(logs[0]))
    layers = []
    for name, own in parts.items():
        found, expected, cosines = (np.stack(kind) for kind in zip(*own, strict=True))
        reading = reading_of(*_places(by_layer[name].action))
        layers += [ExploredLayer(name, channels[name], found, expected, cosines, reading)]
    return Exploration(
        tuple(positions),
        tuple(layers),
        np.stack(rows) if rows else None,
        tuple(parse_classes(loaded.metadata.get(CLASSES)) or ()),
        tuple(notes),
        moves,
    )


def _class_moves(
    record: Record, measure: Measure, plan: Plan, notes: list[str]
) -> NDArray[np.int64] | None:
    """Return where each element moves each class, or None and a note where that is not known."""
    if measure.action.name == record["output_action"]:
        return moved_classes(measure.action, plan.layers[measure.layer].classes)
    notes.append(
        f"Which class is expected for a moved sample is not shown: how the classes of "
        f"{measure.layer} should move is not stored in the result; give it with --output-action "
        f"{measure.layer}=FILE.npz."
    )
    return None


def _not_told(result: Result, action: Action | None) -> str:
    """Say what a result does not keep that a run would need; empty where it keeps all."""
    group, data = result["group"], result["data"]
    own = group["interpolation"] == "own" and action is None
    if own or group.get("parameter") == "member":
        return (
            "the samples were moved by an action of your own, and a page never runs code that a "
            "result names"
        )
    if "masks" in data or "preprocess" not in data:
        return "the result does not say how its samples were read"
    if any(one["source"] != data["source"] for one in data.get("inputs", ())):
        return "several inputs were read from different files"
    if fed := [*data.get("fed", ())]:
        return f"the model was also fed {known_names(fed)}, of which a result keeps no values"
    if data.get("mask"):
        return "padding was left out by a mask, which a result does not keep"
    return ""


def _output_of(result: Result, model: Model, scores: Record | None) -> dict[str, str]:
    """Return the options that name the output, and what it holds, as the result tells of them."""
    names = [output.name for output in model.proto.graph.output]
    layers = [*([scores["layer"]] if scores else []), *(r["layer"] for r in result["measurements"])]
    output = next((layer for layer in layers if layer in names), None)
    if output is None:  # which one does not matter then
        floats = [o for o in model.proto.graph.output if o.type.tensor_type.elem_type in FLOATS]
        return {"output": floats[0].name} if len(floats) > 1 else {}
    read = (r["reads"] for r in result["measurements"] if r["layer"] == output and "reads" in r)
    kind = next(read, None)
    return {"output": output} | ({} if kind is None else {"output_kind": kind})


def _maps_to_show(result: Result) -> list[Record]:
    """Return the records of maps that are shown, in depth order."""
    known = [
        record
        for record in result["measurements"]
        if read_record(record).descriptor.cosine_of_maps
        and parse_layout(record["layout"]).channels <= 1
    ]
    if len(known) <= _LAYERS:
        return known
    readings = [read_record(record) for record in known]
    worst = max(range(len(known)), key=lambda i: readings[i].share(readings[i].value))
    at = {*np.linspace(0, len(known) - 1, _LAYERS - 1).round().astype(int).tolist(), worst}
    return [known[i] for i in sorted(at)]


def _tables_of(result: Result, maps: Sequence[Record], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of layers that are shown.

    Raises
    ------
    GeedError
        If one is for no layer of the result, cannot be read, or is to be fitted.
    """
    layers = dict.fromkeys(record["layer"] for record in result["measurements"])
    for key in given:
        if not any(fnmatchcase(layer, key) for layer in layers):
            raise GeedError(
                f"--output-action {key}: the result is of {known_names(tuple(layers))}; name one "
                "of these"
            )
    shown = [record["layer"] for record in maps]
    used = {k: v for k, v in given.items() if any(fnmatchcase(layer, k) for layer in shown)}
    for key, value in given.items():
        if parse_fit(key, value) is not None:
            raise GeedError(
                f"--output-action {key}={value}: a page fits nothing; give a file, as onnx-geed "
                "fit writes it, or leave it out"
            )
        # Nothing else would read it, and a wrong file would pass for the one that was meant.
        if key not in used and not isinstance(value, Table):
            read_tables(value)
    return used


def _moved_as_measured(
    maps: Sequence[Record], prepared: Prepared, notes: list[str]
) -> list[Record]:
    """Return the records whose tensors are moved again as they were measured."""
    actions = {m.layer: m.action.name for m in prepared.task.plan.measures if _of_maps(m)}
    known = [record for record in maps if actions[record["layer"]] == record["output_action"]]
    others = [record["layer"] for record in maps if record not in known]
    if others:
        notes.append(
            f"No maps of {', '.join(others[:3])}{' and others' * (len(others) > 3)}: how their "
            "channels should move is not stored in the result; give it with --output-action "
            f"{others[0]}=FILE.npz."
        )
    return known


def _of_maps(measure: Measure) -> bool:
    return measure.descriptor.cosine_of_maps


def _scores_to_show(result: Result) -> Record | None:
    """Return the record of class scores, where these are vectors under the trivial action."""
    for record in reversed(result["measurements"]):
        layout = parse_layout(record["layout"])
        if record.get("predictions") and layout.grid is None:
            return record
    return None


def _prepared(
    result: Result,
    model: Model,
    data: Any,
    positions: Sequence[int],
    maps: Sequence[Record],
    scores: Record | None,
    action: Action | None,
    tables: Mapping[str, Any],
) -> Prepared:
    """Work out the run again from what the result says of it."""
    part, group = result["data"], result["group"]
    inputs = part.get("inputs", ())
    measures = [f"{record['measure']}@{record['layer']}" for record in maps]
    measures += [f"softmax-kl@{scores['layer']}"] if scores else []
    # A fitted table is taken by its judge alone, which the result holds where it was given.
    measures += [
        f"{record['measure']}@{record['layer']}"
        for record in result["measurements"]
        if record["measure"] == judge_of_fits()
        and any(fnmatchcase(record["layer"], key) for key in tables)
    ]
    layouts = {record["layer"]: record["layout"] for record in maps}
    options: dict[str, Any] = {
        "measures": measures,
        "samples": result["measurements"][0]["samples"],
        "norm_samples": len(part["indices"]),
        "seed": result.get("seed", 0),
        "interpolation": group["interpolation"],
        "support": group["support"],
        "components": group.get("components", "right-down"),
        "clip": group.get("clip", False),
        "preprocess": preprocess_from_json(json.dumps(part.get("preprocess")), "the result's data"),
        "layout": layouts,
        "engine": "kernels",
        "output_action": dict(tables),
        **_output_of(result, model, scores),
    }
    if action is not None:
        del options["interpolation"]
    if inputs and inputs[0]["name"]:
        options["input"] = inputs[0]["name"]
        options["input_layout"] = {one["name"]: one["layout"] for one in inputs}
    elif "layout" in part:
        options["input_layout"] = part["layout"]
    acting = recorded_group(group["name"]) if action is None else None
    prepared = prepare_run(model, data, acting, make_options(options), action)
    if list(prepared.task.source.indices) != list(part["indices"]):
        raise GeedError(
            f"--data {prepared.task.source.samples.source}: the samples are not those of the "
            f"result, {part['source']}; give the data that was measured"
        )
    _check_marks(prepared.task.source, part, positions)
    return prepared


def _check_marks(source: Source, part: DataPart, positions: Sequence[int]) -> None:
    """Refuse samples that are not those of the result, where it keeps marks of them."""
    marks = part.get("marks")
    for position in positions if marks else ():
        assert marks is not None
        if mark_of(source.samples[source.indices[position]]) != marks[position]:
            raise GeedError(
                f"--data {source.samples.source}: {source.label(position)} is not the one that was "
                f"measured, its values differ; give the data that was measured, {part['source']}"
            )


def _two_channels(record: Record) -> tuple[int, ...]:
    """Return the channel that moves along least, and the median one."""
    values = np.asarray(record.get("per_channel") or [0.0], dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    return tuple(dict.fromkeys((int(order[0]), int(order[len(order) // 2]))))


def _one(
    result: Result,
    record: Record,
    measure: Measure,
    y: NDArray[Any],
    position: int,
    channels: tuple[int, ...],
) -> tuple[NDArray[Any], ...]:
    """Return f(gx) and g f(x) of two channels of a sample, and their cosines.

    Raises
    ------
    GeedError
        If the deviations are not those of the result.
    """
    sums = channel_sums_of_orbits(measure, y)
    again, before = deviations_of_sums(measure, sums)[0][0], record["deviations"][position]
    # Channels are chosen by values of the result, which may be of more than there are.
    beyond = max(channels) >= sums.shape[2]
    if beyond or np.abs(again - np.asarray(before)).max() > _CLOSE:
        raise GeedError(
            f"--model {result['model']['path']}: gives other values in {record['layer']} than the "
            "result holds; it was measured with options that a result does not store; leave "
            "--model out"
        )
    action, chosen = measure.action, list(channels)
    orbits = operands_of_orbits(measure, y)
    assert isinstance(action, LayoutAction | PlacedAction)  # of maps there are no others
    reference = _unstacked(action, f_hat(measure, orbits)[0].astype(np.float64))
    _, letters = _places(action)

    def picture(maps: NDArray[Any]) -> NDArray[np.float32]:
        maps = maps if action.layout.channels else maps[None]
        return shrunk(plane_of(maps[chosen], letters)).astype(np.float32)

    # One by one, since large maps are shrunk.
    expected = np.stack([picture(action.apply(g, reference)) for g in range(orbits.shape[1])])
    found = np.stack([picture(maps) for maps in _unstacked(action, orbits[0])])
    picked = np.moveaxis(sums[0][:, chosen], -1, 0)
    both = np.sqrt(picked[1] * picked[2])
    silent = (picked[1] == 0) & (picked[2] == 0)
    cosines = np.where(silent, 1.0, picked[0] / np.where(both > 0, both, 1.0))
    return found, expected, cosines


def _places(action: Action) -> tuple[tuple[int, ...], str]:
    """Return the lengths of the axes that are no channels, and their letters, in kept order."""
    assert isinstance(action, LayoutAction | PlacedAction)
    lengths = action.lengths if isinstance(action, LayoutAction) else action.shape
    first = action.layout.channels
    return tuple(lengths[first:]), action.layout.kept[first:]


def _unstacked(action: LayoutAction | PlacedAction, flat: NDArray[Any]) -> NDArray[Any]:
    """Bring arrays (..., rows, F) back to (..., axes in kept order)."""
    if isinstance(action, LayoutAction):
        return action.unstacked(flat)
    return flat.reshape(*flat.shape[:-2], *action.shape)
