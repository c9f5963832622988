"""From what a user asked for to what will run: model, samples, action, tensors, batches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.actions import grid_action
from onnx_geed.choosing import Chosen, choose_engine, graph_bytes, without_graph
from onnx_geed.data import open_samples
from onnx_geed.errors import GeedError
from onnx_geed.feeds import other_inputs
from onnx_geed.fused import MEASUREMENT
from onnx_geed.graph import (
    Input,
    Model,
    find_input,
    find_output,
    input_layout,
    load_model,
)
from onnx_geed.groups import Group, parse_group
from onnx_geed.intake import Intake
from onnx_geed.layouts import MAP_LAYOUTS, layout_rank
from onnx_geed.loading import check_weights
from onnx_geed.options import Options
from onnx_geed.orbits import Source
from onnx_geed.plan import (
    DEFAULT_MEASURES,
    ROLES,
    Layer,
    Plan,
    Request,
    make_plan,
    parse_request,
    unknown_layout,
)
from onnx_geed.points import Tensor, resolve, stated_layouts, tensors
from onnx_geed.preprocess import Preprocess, parse_preprocess, preprocess_from_json
from onnx_geed.rowcheck import RowCheck, spreads
from onnx_geed.session import Session, cores, runtime_conflict
from onnx_geed.sizes import parse_bytes
from onnx_geed.sources import open_rows, rows_of
from onnx_geed.tables import Table, parse_table, read_table, subgroup_table
from onnx_geed.trial import Trial, further_rows, output_kinds, reopen, try_out
from onnx_geed.unmoved import check_moves

__all__ = ["Prepared", "check_inputs", "chosen_preprocess", "data_fingerprint", "prepare"]

# Rows of a run: more do not make a processor faster; a card wants more.
_MOST_ROWS = {"cpu": 64, "cuda": 256}
_JOB_BYTES = 16 << 20


@dataclass(frozen=True)
class Prepared:
    """What will run.

    Parameters
    ----------
    model : Model
        The model as it was read.
    source : Source
        Samples of D and the points for M, in order, and the input's action.
    count : int
        Orbits: the first so many of the source's samples.
    plan : Plan
        What is measured.
    passes : tuple of tuple of str
        Tensors exposed together; several passes where all at once exceed the budget.
    batch : int
        Rows in one run.
    workers : int
        Runs side by side.
    session : Session
        The session in which the model was tried out, for a single pass.
    graph : Model
        The model as it is run, for further passes.
    options : Options
        As given.
    tensors : tuple of Tensor
        The model's tensors.
    kinds : mapping of str to str
        What the tensors are as outputs.
    tables : mapping of str to Table
        Given output actions.
    engine : {"kernels", "graph"}
        Where deviations are computed.
    one_by_one : bool
        Whether a row's activations depend on the others of its batch, so that it is run alone.
    """

    model: Model
    source: Source
    count: int
    plan: Plan
    passes: tuple[tuple[str, ...], ...]
    batch: int
    workers: int
    session: Session
    graph: Model
    options: Options
    tensors: tuple[Tensor, ...]
    kinds: Mapping[str, str]
    tables: Mapping[str, Table]
    engine: Chosen
    one_by_one: bool

    def first(self, count: int) -> Prepared:
        """Return the same with only the first so many orbits, and the points that M needs."""
        indices = self.source.indices[: max(count, self.options.norm_samples)]
        check = self.source.check and replace(self.source.check, count=count)
        return replace(self, source=replace(self.source, indices=indices, check=check), count=count)

    def open(self, layers: Sequence[str]) -> Session:
        """Return a session that yields these tensors."""
        if len(self.passes) == 1:
            return replace(self.session, outputs=tuple(layers))
        return reopen(self.session, self.graph, layers)


def prepare(model: str | Path | Model, data: Any, group: str | Group, options: Options) -> Prepared:
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

    Returns
    -------
    Prepared

    Raises
    ------
    GeedError
        If the model, the data or the options cannot be used, saying what to do.
        If the group does not move the input.
    """
    acting = group if isinstance(group, Group) else parse_group(group)
    requests = [parse_request(text) for text in options.measures]
    read = model if isinstance(model, Model) else load_model(model)
    if MEASUREMENT in read.metadata:
        raise GeedError(
            f"{read.path}: is a measurement, made by onnx-geed compile: run it in any ONNX "
            "runtime, or give the model that it measures"
        )
    acted = find_input(read, options.input)
    output = find_output(read, options.output)
    source, count, notes = _source(read, acted, data, acting, options)
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
        {tensor.name for request, tensor in wanted if request.measure == "softmax-kl"},
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
        input_exact=source.action.exact(),
        interpolation=options.interpolation,
        support=options.support,
        kinds=kinds,
        tables=tables,
        notes=notes,
        kept=[layers[t.name] for t in kept],
    )
    engine, said = choose_engine(trial, options)
    passes, batch, workers = _fit(plan, source, trial, options, graph=engine == "graph")
    if engine == "graph" and batch < acting.order:
        limit = f"--batch-size {options.batch_size}"
        if options.batch_size is None:
            limit = f"--memory {options.memory}"
        reason = f"{limit} holds {batch} rows, fewer than the {acting.order} of an orbit"
        engine, said = without_graph(options, reason)
        passes, batch, workers = _fit(plan, source, trial, options, graph=False)
    if trial.unproven and batch > 1:
        source = replace(source, check=_row_check(trial, count, options, engine))
        if not trial.mixes:
            said = [
                *said,
                "the graph does not prove that rows of a batch are independent "
                f"({trial.unproven}): some are run again alone to see",
            ]
    plan = replace(plan, notes=(*plan.notes, *said))
    return Prepared(
        model=read,
        source=source,
        count=count,
        plan=plan,
        passes=passes,
        batch=batch,
        workers=workers,
        session=trial.session,
        graph=trial.graph,
        options=options,
        tensors=listed,
        kinds=kinds,
        tables=tables,
        engine=engine,
        one_by_one=trial.one_by_one,
    )


def _row_check(trial: Trial, count: int, options: Options, engine: Chosen) -> RowCheck:
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
    if prepared.source.intake is not None:
        prepared.source.intake.check()
    check_weights(prepared.model)


def data_fingerprint(
    model: Model, data: Any, group: str | Group, options: Options
) -> tuple[str, list[int]]:
    """Name what a model would be fed, without running it.

    Parameters
    ----------
    model : Model
        The model.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : str or Group
        The acting group.
    options : Options
        How to measure.

    Returns
    -------
    fingerprint : str
        As a result's ``data.fingerprint``.
    indices : list of int
        As its ``data.indices``.

    Raises
    ------
    GeedError
        If the data cannot be used.
    """
    acting = group if isinstance(group, Group) else parse_group(group)
    source, _, _ = _source(model, find_input(model, options.input), data, acting, options)
    return source.samples.fingerprint(source.indices), list(source.indices)


def _source(
    model: Model, acted: Input, data: Any, group: Group, options: Options
) -> tuple[Source, int, list[str]]:
    """Samples of D, drawn as spec section 2 says, with the input's action."""
    try:
        layout = input_layout(model, acted, options.input_layout)
    except GeedError:
        # Lengths that the file leaves free are those of the data.
        layout = input_layout(model, _with_lengths(acted, data), options.input_layout)
    samples = open_samples(
        data,
        input_shape=acted.shape[1:],
        input_layout=layout,
        preprocess=chosen_preprocess(model, options),
        labels=options.labels,
    )
    available, notes = len(samples), []
    drawn = np.random.default_rng(options.seed).permutation(available)
    wanted = available if options.wanted is None else options.wanted
    indices = tuple(int(i) for i in drawn[: max(wanted, options.norm_samples)])
    if available < wanted:
        notes.append(f"of the {wanted} samples asked for, {available} are available")
    if available < options.norm_samples:
        notes.append(f"of the {options.norm_samples} points for M, {available} are available")
    height, width = samples.shape[-2:]
    action = grid_action(group, height, width, options.interpolation)
    disk = options.support == "disk"
    check_moves(action, disk=disk)
    feeds = other_inputs(model, acted, available, options)
    count = min(wanted, available)
    intake = Intake(samples, indices)
    return Source(samples, indices, action, layout, disk, feeds, intake=intake), count, notes


def _with_lengths(acted: Input, data: Any) -> Input:
    """Return the input with the lengths that arrays have where the file leaves them free."""
    if None not in acted.shape[1:] or (isinstance(data, (str, Path)) and os.path.isdir(data)):
        return acted
    rows = open_rows(str(data)) if isinstance(data, (str, Path)) else rows_of(data)
    if len(rows.shape) != len(acted.shape):
        return acted
    pairs = zip(acted.shape[1:], rows.shape[1:], strict=True)
    lengths = [n if declared is None else declared for declared, n in pairs]
    rows.close()
    return replace(acted, shape=(acted.shape[0], *lengths))


def chosen_preprocess(model: Model, options: Options) -> Preprocess | None:
    """Preprocessing as the user gave it, or else as the model's metadata state it."""
    given = options.preprocess
    if given is None and "onnx_geed.preprocess" in model.metadata:
        return preprocess_from_json(model.metadata["onnx_geed.preprocess"])
    return parse_preprocess(str(given)) if isinstance(given, str | Path) else given


def _tensors(
    model: Model, acted: Input, output: str, source: Source, options: Options
) -> tuple[Tensor, ...]:
    shape = source.rows([0], orbits=False).shape
    stated, kind = {acted.name: source.layout}, options.output_kind
    listed = tensors(model, acted.name, output, input_shape=shape, layouts=stated, kind=kind)
    latent = resolve(listed, options.latent)[0].name if options.latent else None
    layouts = stated_layouts(listed, options.layout)
    if not latent and not layouts:
        return listed
    layouts = stated | layouts
    return tensors(
        model, acted.name, output, input_shape=shape, latent=latent, layouts=layouts, kind=kind
    )


def _select(
    requests: Sequence[Request], listed: Sequence[Tensor]
) -> tuple[list[tuple[Request, Tensor]], list[str]]:
    """Tensors of every request; the defaults of spec section 4 where none was made."""
    chosen: list[tuple[Request, Tensor]] = []
    missing: dict[str, list[str]] = {}
    for request in requests or [Request(name) for name in DEFAULT_MEASURES]:
        if request.layer is not None:
            found = list(resolve(listed, request.layer))
        else:
            found = [t for t in listed if ROLES[request.measure] in t.roles]
            if not found and requests:
                raise GeedError(_no_default(request.measure, listed))
            if not found:
                missing.setdefault(ROLES[request.measure], []).append(request.measure)
        chosen += [(request, tensor) for tensor in found]
    reasons = [_no_default(", ".join(left), listed) for left in missing.values()]
    if not chosen:
        raise GeedError(f"nothing to measure: {'; '.join(reasons)}")
    return chosen, [f"left out: {reason}" for reason in reasons]


def _no_default(measure: str, listed: Sequence[Tensor]) -> str:
    """Say of a measure, or several of one role, that no tensor has the role."""
    role = ROLES[measure.partition(",")[0]]
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
    stated = tensor.layout in MAP_LAYOUTS or tensor.layout.startswith("NTD:")
    if len(shape) == 4:
        # Whatever the layout, one place is one place.
        if tensor.layout not in MAP_LAYOUTS and shape[2:] == (1, 1):
            return "NCHW"
        return tensor.layout if tensor.layout in MAP_LAYOUTS else "?"
    if stated and layout_rank(tensor.layout) == len(shape):
        return tensor.layout
    return "NK"


def _tables(
    model: Model, listed: Sequence[Tensor], group: Group, options: Options
) -> tuple[dict[str, Table], list[str]]:
    """Given output actions by tensor: from the model's metadata, overridden by the user's."""
    tables, notes = {}, []
    prefix = "onnx_geed.action."
    for key, text in model.metadata.items():
        if key.startswith(prefix):
            table = subgroup_table(parse_table(text, f"metadata {key}"), group)
            if table is None:
                notes.append(f"metadata {key} is for another group than {group.name}: not used")
            else:
                tables[key.removeprefix(prefix)] = table
    for layer, given in options.output_action.items():
        table = given if isinstance(given, Table) else read_table(given)
        for tensor in resolve(listed, layer):
            tables[tensor.name] = table
    return tables, notes


def _fit(
    plan: Plan, source: Source, trial: Trial, options: Options, *, graph: bool
) -> tuple[tuple[tuple[str, ...], ...], int, int]:
    """Passes, rows of a batch and workers that keep to the memory budget."""
    budget = parse_bytes(options.memory)
    n = plan.group.order
    own = 4 * int(np.prod(source.samples.shape))
    if graph:
        own += graph_bytes(plan, source)
    cuda = trial.session.provider == "cuda"
    workers = 2 if cuda else cores()
    total = sum(layer.bytes for layer in plan.layers.values())
    # An orbit's outputs lie in memory whole; a worker of the runtime needs about as much again.
    while workers > 1 and 2 * n * (own + total) * workers > budget:
        workers -= 1
    passes: list[list[str]] = [[]]
    filled = 0
    for name, layer in plan.layers.items():
        if passes[-1] and 2 * n * (own + filled + layer.bytes) > budget:
            passes.append([])
            filled = 0
        passes[-1].append(name)
        filled += layer.bytes
    row = own + max(sum(plan.layers[name].bytes for name in names) for names in passes)
    # More rows than one orbit only pay while their activations are small.
    most = min(_MOST_ROWS["cuda" if cuda else "cpu"], max(n, _JOB_BYTES // row))
    batch = options.batch_size or max(1, min(most, budget // (2 * row * workers)))
    if options.batch_size is None and batch > n:
        batch -= batch % n
    if trial.session.fixed:
        batch = min(batch, trial.session.fixed)
    return tuple(map(tuple, passes)), 1 if trial.one_by_one else batch, workers
