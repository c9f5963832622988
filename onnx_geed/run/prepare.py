"""From what a user asked for to what will run: model, samples, action, tensors, engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import (
    Action,
    Group,
    PlacedAction,
    Table,
    parse_group,
    parse_layout,
    parse_table,
    read_table,
    subgroup_table,
)
from onnx_geed.measures import (
    CATALOGUE,
    Layer,
    Request,
    descriptor_of,
    make_plan,
    parse_request,
    unknown_layout,
)
from onnx_geed.model import (
    MEASUREMENT,
    Input,
    Model,
    Tensor,
    action_key,
    actions_in_metadata,
    check_weights,
    find_input,
    find_output,
    list_as_stated,
    load_model,
    resolve,
)
from onnx_geed.run.engine import choose_engine, without_graph
from onnx_geed.run.job import EngineName, Network, Task
from onnx_geed.run.memory import Share, fit
from onnx_geed.run.options import Options
from onnx_geed.run.row_check import RowCheck, spreads
from onnx_geed.run.session import runtime_conflict
from onnx_geed.run.source import Source, make_source
from onnx_geed.run.trial import Trial, further_rows, output_kinds, try_out
from onnx_geed.run.worker import Worker

__all__ = ["Prepared", "check_inputs", "prepare_run"]


@dataclass(frozen=True)
class Prepared:
    """A run that was worked out, and the worker that holds the session it was tried out in.

    Parameters
    ----------
    model : Model
        The model as it was read.
    task : Task
        What all jobs share: the network as it is run, samples, plan, batch and engine.
    count : int
        Size of D: the first so many of the source's samples.
    passes : tuple of tuple of str
        Tensors exposed together.
    workers : int
        Jobs side by side.
    worker : Worker
        Runs jobs in this process.
    options : Options
        As the user chose them.
    tensors : tuple of Tensor
        The model's tensors.
    kinds : mapping of str to str
        As what outputs they are read.
    tables : mapping of str to Table
        Output actions that were given.
    """

    model: Model
    task: Task
    count: int
    passes: tuple[tuple[str, ...], ...]
    workers: int
    worker: Worker
    options: Options
    tensors: tuple[Tensor, ...]
    kinds: Mapping[str, str]
    tables: Mapping[str, Table]

    def first(self, count: int) -> Prepared:
        """Return the same with only the first so many orbits, and the points that M needs."""
        source = self.task.source
        indices = source.indices[: max(count, self.options.norm_samples)]
        check = source.check and replace(source.check, count=count)
        source = replace(source, indices=indices, check=check)
        return replace(self, task=replace(self.task, source=source), count=count)


def prepare_run(
    model: str | Path | Model,
    data: Any,
    group: str | Group | None,
    options: Options,
    action: Action | None = None,
) -> Prepared:
    """Work out what will run.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : str or Group
        The acting group.
    options : Options
        How to measure.
    action : Action, optional
        How the group acts on the input, where that is not a named group's own way.

    Returns
    -------
    Prepared

    Raises
    ------
    GeedError
        If the model, the data or the options cannot be used, saying what to do.
        If the group does not move the input.
    """
    acting = _acting_group(group, action)
    requests = [parse_request(text) for text in options.measures]
    read = model if isinstance(model, Model) else load_model(model)
    if MEASUREMENT in read.metadata:
        raise GeedError(
            f"{read.path}: is a measurement, made by onnx-geed compile: run it in any ONNX "
            "runtime, or give the model that it measures"
        )
    acted = find_input(read, options.input)
    output = find_output(read, options.output)
    source, count, notes = make_source(read, acted, data, acting, options, action)
    listed = _tensors(read, acted, output, source, options)
    kept = [tensor for key in options.layers for tensor in resolve(listed, key)]
    wanted, said = ([], []) if kept and not requests else _select(requests, listed)
    notes += said
    chosen = [tensor for _, tensor in wanted] + kept
    names = list(dict.fromkeys([tensor.name for tensor in chosen] + [output]))
    trial = try_out(read, acted, names, source, options)
    notes += trial.notes
    if options.provider == "auto":
        notes.append(f"--provider auto took {trial.session.provider}")
    if conflict := runtime_conflict():
        notes.append(conflict)
    kinds, said = output_kinds(
        read,
        output,
        listed,
        trial.rows,
        options,
        lambda name: further_rows(trial, name, source),
        {
            tensor.name
            for request, tensor in wanted
            if descriptor_of(request.measure).view == "scores"
        },
    )
    notes += said
    tables, said = _tables(read, listed, acting, options)
    notes += said
    layers = {
        t.name: Layer(t.name, trial.rows[t.name].shape[1:], _layout(t, trial.rows), t.roles)
        for t in chosen
    }
    by_name = {
        t.name
        for key in (*options.layers, *filter(None, [options.latent]))
        for t in resolve(listed, key)
    }
    for name in by_name & set(layers):
        if layers[name].layout == "?":
            raise GeedError(unknown_layout(layers[name]))
    plan = make_plan(
        acting,
        [(request, layers[t.name]) for request, t in wanted],
        input_exact=[bool(kind) for kind in source.action.exact()],
        interpolation=options.interpolation,
        support=options.support,
        kinds=kinds,
        tables=tables,
        own=source.action if isinstance(source.action, PlacedAction) else None,
        notes=notes,
        kept=[layers[t.name] for t in kept],
    )
    engine, said = choose_engine(trial, options, source.action, plan.measures)
    share = fit(plan, source, trial, options, graph=engine == "graph")
    if engine == "graph" and share.batch < acting.order:
        limit = f"--batch-size {options.batch_size}"
        if options.batch_size is None:
            limit = f"--memory {options.memory}"
        reason = f"{limit} holds {share.batch} rows, fewer than the {acting.order} of an orbit"
        engine, said = without_graph(options, reason)
        share = fit(plan, source, trial, options, graph=False)
    if trial.unproven and share.batch > 1:
        source = replace(source, check=_row_check(trial, count, options, engine))
        if not trial.mixes:
            said = [
                *said,
                "the graph does not prove that rows of a batch are independent "
                f"({trial.unproven}): some are run again alone to see",
            ]
    plan = replace(plan, notes=(*plan.notes, *said))
    network = _network(trial, share)
    return Prepared(
        model=read,
        task=Task(network, source, plan, share.batch, engine),
        count=count,
        passes=share.passes,
        workers=share.workers,
        worker=Worker({network.token: trial.session}),
        options=options,
        tensors=listed,
        kinds=kinds,
        tables=tables,
    )


def _network(trial: Trial, share: Share) -> Network:
    """Return the network as it was tried out, to be run in so many passes."""
    session = trial.session
    return Network(
        graph=trial.graph,
        input=session.input,
        exposed=session.outputs if len(share.passes) == 1 else (),
        provider=session.provider,
        dtype=session.dtype,
        fixed=session.fixed,
        one_by_one=trial.one_by_one,
    )


def _acting_group(group: str | Group | None, action: Action | None) -> Group:
    """Return the group that acts: the one that is named, or that of an action of one's own."""
    if action is None:
        if group is None:
            raise GeedError("no group acts: name one such as C8, or give an action")
        return group if isinstance(group, Group) else parse_group(group)
    own = getattr(action, "group", None)
    if not isinstance(own, Group):
        raise GeedError(f"an action has the group that acts as its group, found {shown(own)}")
    if group is not None and own != (group if isinstance(group, Group) else parse_group(group)):
        raise GeedError(
            f"group {group if isinstance(group, str) else group.name} is not the action's, "
            f"{own.name}: leave the group out, or give one action of it"
        )
    return own


def _row_check(trial: Trial, count: int, options: Options, engine: EngineName) -> RowCheck:
    cure = "run them one by one with --batch-size 1"
    if engine == "graph":
        cure += " --engine kernels"
    return RowCheck(spreads(trial.rows), count, options.seed, trial.mixes, cure)


def check_inputs(prepared: Prepared) -> None:
    """Make sure, at the end of a run, that data and weights are still those that it began with.

    Raises
    ------
    GeedError
        If a sample is another one now, or the weights are.
    """
    if prepared.task.source.intake is not None:
        prepared.task.source.intake.check()
    check_weights(prepared.model)


def _tensors(
    model: Model, acted: Input, output: str, source: Source, options: Options
) -> tuple[Tensor, ...]:
    return list_as_stated(
        model,
        acted.name,
        output,
        input_shape=source.rows([0], orbits=False).shape,
        input_layout=source.layout,
        latent=options.latent,
        layout=options.layout,
        kind=options.output_kind,
    )


def _select(
    requests: Sequence[Request], listed: Sequence[Tensor]
) -> tuple[list[tuple[Request, Tensor]], list[str]]:
    """Tensors of every request; the defaults of spec section 4 where none was made."""
    chosen: list[tuple[Request, Tensor]] = []
    missing: dict[str, list[str]] = {}
    for request in requests or [Request(d.name) for d in CATALOGUE.values() if d.default]:
        if request.layer is not None:
            found = list(resolve(listed, request.layer))
        else:
            found = [t for t in listed if descriptor_of(request.measure).role in t.roles]
            if not found and requests:
                raise GeedError(_no_default(request.measure, listed))
            if not found:
                missing.setdefault(descriptor_of(request.measure).role, []).append(request.measure)
        chosen += [(request, tensor) for tensor in found]
    reasons = [_no_default(", ".join(left), listed) for left in missing.values()]
    if not chosen:
        raise GeedError(f"nothing to measure: {'; '.join(reasons)}")
    return chosen, [f"left out: {reason}" for reason in reasons]


def _no_default(measure: str, listed: Sequence[Tensor]) -> str:
    """Say of a measure, or several of one role, that no tensor has the role."""
    role = descriptor_of(measure.partition(",")[0]).role
    if role == "channel":
        return (
            f"{measure}: no factorisation point holds feature maps; name a tensor with "
            f"--measure {measure}@LAYER, with --layout LAYER=NTD:<H>x<W> if it holds tokens"
        )
    doubt = next((f": {t.doubt}" for t in listed if t.doubt and role == "latent"), "")
    return f"{measure}: no {role} was found{doubt}; name it with --{role} NAME"


def _layout(tensor: Tensor, rows: Mapping[str, NDArray[np.float32]]) -> str:
    """Layout of a tensor as it came; ``?`` where the graph does not tell that of a map."""
    shape = rows[tensor.name].shape
    layout = None if tensor.layout == "?" else parse_layout(tensor.layout)
    if len(shape) == 4:
        if layout is not None and layout.is_map:
            return tensor.layout
        # Whatever the layout, one place is one place.
        return "NCHW" if shape[2:] == (1, 1) else "?"
    if layout is not None and layout.grid and layout.rank == len(shape):
        return tensor.layout
    return "NK"


def _tables(
    model: Model, listed: Sequence[Tensor], group: Group, options: Options
) -> tuple[dict[str, Table], list[str]]:
    """Given output actions by tensor: from the model's metadata, overridden by the user's."""
    tables, notes = {}, []
    for name, text in actions_in_metadata(model).items():
        said = f"metadata {action_key(name)}"
        table = subgroup_table(parse_table(text, said), group)
        if table is None:
            notes.append(f"{said} is for another group than {group.name}: not used")
        else:
            tables[name] = table
    for layer, given in options.output_action.items():
        table = given if isinstance(given, Table) else read_table(given)
        for tensor in resolve(listed, layer):
            tables[tensor.name] = table
    return tables, notes
