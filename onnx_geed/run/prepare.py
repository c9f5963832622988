"""From what a user asked for to what will run: model, samples, action, tensors, engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import Action, Group, PlacedAction, Table, parse_group
from onnx_geed.measures import Plan, check_goes_with_group, descriptor_of, make_plan, parse_request
from onnx_geed.model import (
    CLASSES,
    MEASUREMENT,
    Model,
    Tensor,
    check_weights,
    computed_in_half,
    find_input,
    find_output,
    list_as_stated,
    of_a_model,
    parse_classes,
    with_told,
)
from onnx_geed.run.called import OF_A_FUNCTION, open_model, with_outputs
from onnx_geed.run.engine import choose_engine, without_graph
from onnx_geed.run.executor import Executor, LocalExecutor
from onnx_geed.run.fit_overlap import check_overlap
from onnx_geed.run.fit_requests import (
    check_fits_measured,
    check_given_measured,
    fit_samples,
    fits_to_make,
    judged_tables,
    refuse_fits,
    requested_fits,
)
from onnx_geed.run.fitting import Fitting
from onnx_geed.run.footprint import Footprint, footprint_of
from onnx_geed.run.job import EngineName, Network, Task, pieces
from onnx_geed.run.labour import check_labour
from onnx_geed.run.memory import Share, fit_memory
from onnx_geed.run.moving import check_tables, tables_of_run
from onnx_geed.run.on_group import (
    as_asked,
    check_family,
    check_small,
    components_notes,
    group_notes,
)
from onnx_geed.run.on_machine import machine_notes
from onnx_geed.run.options import Options
from onnx_geed.run.output_kinds import find_output_kinds
from onnx_geed.run.place_labels import bind_background
from onnx_geed.run.runtime import runtime_conflict
from onnx_geed.run.selection import (
    Selection,
    given_tables,
    layers_of,
    select_tensors,
    without_rows,
)
from onnx_geed.run.session import NotRowsError, Session, ready_to_open
from onnx_geed.run.source import Source, layouts_of_inputs, make_source
from onnx_geed.run.trial import Opener, Trial, check_of, further_rows, try_out
from onnx_geed.run.truths import targeted, with_truths
from onnx_geed.run.worker import Worker
from onnx_geed.text import counted

__all__ = ["Prepared", "check_inputs", "prepare_run"]

Work = TypeVar("Work")


Outcome = TypeVar("Outcome")


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
        Output actions that were given, or fitted.
    footprint : Footprint
        What a row takes in the runtime.
    planned : callable
        Binds the measures anew, under such actions.
    fitting : Fitting, optional
        What is to be fitted before anything is measured.
    fitted_by : Fitting, optional
        What was.
    fitted : int
        Model inputs that were run for it.
    executor : Executor
        Runs the jobs.
    doubt : str
        That rows are not proven to be independent, and why.
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
    footprint: Footprint
    planned: Callable[[Mapping[str, Table]], Plan]
    fitting: Fitting | None = None
    fitted_by: Fitting | None = None
    fitted: int = 0
    executor: Executor = field(default_factory=LocalExecutor, repr=False)
    doubt: str = ""

    def in_order(
        self, run: Callable[[Worker, Work], Outcome], jobs: Iterable[Work]
    ) -> Iterator[Outcome]:
        """Run jobs of the task where the executor runs them; yield their results in order."""
        return self.executor.in_order(self.task, self.worker, run, jobs, self.workers)

    def first(self, count: int) -> Prepared:
        """Return the same with only the first so many orbits, and the points that M needs."""
        source = self.task.source
        indices = source.indices[: max(count, self.options.norm_samples)]
        check = source.check and source.check.over(count)
        source = source.over(indices, check)
        return replace(self, task=replace(self.task, source=source), count=count)


@of_a_model
def prepare_run(
    model: str | Path | Model | Callable[[Any], Any],
    data: Any,
    group: str | Group | None,
    options: Options,
    action: Action | None = None,
    beside: Sequence[Prepared] = (),
    executor: Executor | None = None,
) -> Prepared:
    """Work out what will run.

    Parameters
    ----------
    model : str, Path, Model or callable
        The ONNX file, or a function of arrays in its place.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : str or Group
        The acting group.
    options : Options
        How to measure.
    action : Action, optional
        How the group acts on the input, where that is not a named group's own way.
    beside : sequence of Prepared
        Runs of the same model and data with the same options, under other groups: what is the same
        is taken from them.
    executor : Executor, optional
        Runs the jobs; by default threads of this process.

    Returns
    -------
    Prepared

    Raises
    ------
    GeedError
        If the model, the data or the options cannot be used, saying what to do.
        If the group does not move the input.
        If the activations of one row take more memory than the budget.
    """
    acting = as_asked(_acting_group(group, action), options)
    if acting.small is not None:
        check_small(acting, action, options)
    if acting.family is not None:
        check_family(acting, action, options)
    requests = [parse_request(text) for text in options.measures]
    check_goes_with_group((request.measure for request in requests), acting)
    loaded = open_model(model, data, options)
    if MEASUREMENT in loaded.metadata:
        raise GeedError(
            f"{loaded.called}: is a measurement, made by onnx-geed compile: run it in any ONNX "
            "runtime, or give the model that it measures"
        )
    acted = find_input(loaded, options.input, options.input_layout)
    others = sum(tables_of_run(r.task.source.moved, r.task.plan.measures) for r in beside)
    opened = beside[0].task.source if beside else None
    source, count, notes = make_source(loaded, acted, data, acting, options, action, opened, others)
    if loaded.function is not None:
        rows = source.rows([0], orbits=False)
        loaded, on_layouts = with_outputs(loaded, rows, source.layout, options.layout)
        notes += [OF_A_FUNCTION, *on_layouts]
    output = find_output(loaded, options.output)
    acting = source.action.group  # small motions are known on the input's grid alone
    if options.references:
        _check_trips(source)
    notes += group_notes(acting, options)
    listed = list_as_stated(
        loaded,
        acted.name,
        output,
        input_shape=(1, *source.row_shape),
        input_layout=layouts_of_inputs(loaded, acted, source, options),
        moved=[acted.name, *source.partners],
        latent=options.latent,
        layout=options.layout,
        kind=options.output_kind,
    )
    targets, fits = targeted(listed, options.target), requested_fits(listed, options)
    tables, on_tables = given_tables(loaded, listed, source.action, options)
    judged = [*fits, *judged_tables(listed, options, tables)]
    selection = select_tensors(requests, listed, options, acting, judged, targets)
    names = list(dict.fromkeys([*(tensor.name for tensor in selection.tensors), output]))
    footprint = footprint_of(loaded, acted, listed, names, options, source, others)
    check_labour(loaded, acted, listed, options, footprint, source)

    def tried(names: Sequence[str]) -> Trial:
        return try_out(loaded, acted, names, source, options, footprint, _opener(beside))

    trial, selection = _tried_out(tried, names, selection, listed, options)
    trial = replace(trial, half=computed_in_half(loaded.proto.graph, listed))
    notes += [*selection.notes, *trial.notes]
    if loaded.function is None:
        notes += machine_notes(trial.session.provider, options.provider)
    if conflict := runtime_conflict():
        notes.append(conflict)
    layers = layers_of(selection, listed, trial.rows, options)
    told = {name: layer.shape for name, layer in layers.items()}
    if (held := with_told(loaded, acted.name, (1, *source.row_shape), listed, told)) is not listed:
        footprint = footprint_of(loaded, acted, held, names, options, source, others)
    scores = {
        tensor.name
        for request, tensor in selection.requested
        if descriptor_of(request.measure).of_classes
        and not (descriptor_of(request.measure).of_error and tensor.name in targets)
    }
    kinds, on_kinds = find_output_kinds(
        loaded,
        output,
        listed,
        trial.rows,
        options,
        lambda name: further_rows(trial, name, source),
        scores,
        layers,
    )
    labels, classes = source.place_labels, parse_classes(loaded.metadata.get(CLASSES))
    of_d = None if labels is None else labels[list(source.indices[:count])]

    def planned(tables: Mapping[str, Table]) -> Plan:
        """Bind the measures, under the output actions that are known by now."""
        plan = make_plan(
            acting,
            [(request, layers[tensor.name]) for request, tensor in selection.requested],
            input_exact=[bool(kind) for kind in source.exact()],
            interpolation=options.interpolation,
            support=options.support,
            kinds=kinds,
            tables=tables,
            own=source.action if isinstance(source.action, PlacedAction) else None,
            kept=[layers[tensor.name] for tensor in selection.kept],
            targets=targets,
        )
        own, drawn = source.samples.labels, source.indices[:count]
        plan = with_truths(
            plan,
            indices=drawn,
            available=len(source.samples),
            labels=None if own is None else [own[i] for i in drawn],
            names=classes,
            targets=targets,
            mask=source.mask,
            allowed=options.allowed,
            placed=source.place_labels is not None,
        )
        plan = bind_background(plan, of_d, options.background, classes, source.mask, drawn)
        return plan.drawn(options.seed, source.indices)

    measured = ((request.measure, layers[tensor.name]) for request, tensor in selection.requested)
    check_tables(acting, source.moved, measured, options, others)
    check_overlap(tables, source, count)
    _refuse_foreign_fits(tables, options, masked=source.mask is not None)
    if isinstance(source.action, PlacedAction):
        refuse_fits(fits, "a fit needs a group with a name, such as C4")
    if source.mask is not None:
        refuse_fits(fits, "a fit cannot leave out masked entries; leave --mask out")
    errors = {t.name for r, t in selection.requested if descriptor_of(r.measure).of_error}
    refuse_fits(
        {name: fit for name, fit in fits.items() if name in errors},
        "a share of the error takes no fitted action, since its inverse may not undo it: give an "
        "exact action, or leave symmetry-share out",
    )
    fitted_to = fit_samples(len(source.samples), count, options)
    fits, on_fits = fits_to_make(fits, layers, acting, len(fitted_to), options)
    plan = planned(tables)
    check_fits_measured(plan, fits)
    check_given_measured(listed, options, plan)
    layouts = [moved.layout for moved in source.moved]
    layouts += [layer.layout for layer in plan.layers.values()]
    on_axes = components_notes(options, layouts)
    on_axes += [] if source.mask is None else source.mask.unmasked(plan.layers)
    plan = replace(plan, notes=(*notes, *on_kinds, *on_tables, *on_fits, *on_axes, *plan.notes))
    doubt = ""
    if trial.unproven and not trial.mixes:
        doubt = f"the graph does not prove that rows of a batch are independent ({trial.unproven})"
    engine, share, on_engine = _share(plan, source, trial, options, footprint)
    if share.batch > 1:
        parts = pieces(acting.order, min(share.batch, acting.order))
        checks = [other.task.source.check for other in beside]
        source = replace(
            source, check=check_of(trial, count, options, engine, parts, share.batch, checks)
        )
        if doubt:
            on_engine.append(f"{doubt}: some rows are run again alone to check it")
    plan = replace(plan, notes=(*plan.notes, *on_engine), norm_samples=options.norm_samples)
    network = _network(trial, share)
    return Prepared(
        model=loaded,
        task=Task(network, source, plan, share.batch, engine),
        count=count,
        passes=share.passes,
        workers=share.workers,
        worker=Worker({network.token: trial.session}),
        options=options,
        tensors=listed,
        kinds=kinds,
        tables=tables,
        footprint=footprint,
        planned=planned,
        fitting=Fitting(plan, fits, fitted_to, options) if fits else None,
        executor=executor or LocalExecutor(),
        doubt=doubt,
    )


def _tried_out(
    trial: Callable[[Sequence[str]], Trial],
    names: Sequence[str],
    selection: Selection,
    listed: Sequence[Tensor],
    options: Options,
) -> tuple[Trial, Selection]:
    """Try a model out; tensors that nobody named are left out if their axis 0 is not the batch."""
    while True:
        try:
            return trial(names), selection
        except NotRowsError as error:
            selection = without_rows(selection, error, listed, options)
            names = [name for name in names if name not in error.shapes]


def _opener(beside: Sequence[Prepared]) -> Opener:
    """Return what opens sessions: those of other runs serve again where they are the same."""

    def ready(
        graph: Model, input: str, names: Sequence[str], provider: str
    ) -> Callable[[], Session]:
        for other in beside:
            network = other.task.network
            asked = (input, tuple(names)) == (network.input, network.exposed)
            if asked and graph.proto == network.graph.proto:
                return lambda: replace(other.worker.session(network, names), fixed=0)
        return ready_to_open(graph, input, names, provider)

    return ready


def _refuse_foreign_fits(tables: Mapping[str, Table], options: Options, *, masked: bool) -> None:
    """Refuse an untrained network under a map that was fitted to the trained one, and masks."""
    seen = [name for name, table in tables.items() if table.fit is not None]
    if masked and seen:
        raise GeedError(f"{seen[0]}: a fit cannot leave out masked entries; leave --mask out")
    if options.untrained and seen:
        raise GeedError(
            f"--untrained: the action of {seen[0]} was fitted to the trained network and does not "
            f"apply to the untrained one: give --output-action {seen[0]}=fit:KIND, which fits it "
            "to both, or leave --untrained out"
        )


def _share(
    plan: Plan, source: Source, trial: Trial, options: Options, footprint: Footprint
) -> tuple[EngineName, Share, list[str]]:
    """Choose the engine and divide the run: a graph holds no less than one orbit."""
    n = plan.group.order
    engine, notes = choose_engine(trial, options, source, plan.measures)
    share = fit_memory(plan, source, trial, options, footprint, graph=engine == "graph")
    if engine == "graph" and share.batch < n:
        limit = f"--batch-size {options.batch_size}"
        if options.batch_size is None:
            limit = f"--memory {options.memory}"
        reason = f"{limit} allows {counted(share.batch, 'row')}, fewer than the {n} of an orbit"
        engine, notes = without_graph(options, reason)
        share = fit_memory(plan, source, trial, options, footprint, graph=False)
    rows = min(options.batch_size or 0, n * len(source.indices))
    free = not (trial.one_by_one or trial.session.fixed)
    if free and share.batch < rows:
        notes = [
            *notes,
            f"--batch-size {options.batch_size}: batches have {share.batch} rows, since --memory "
            f"{options.memory} allows no more",
        ]
    return engine, share, notes


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
            raise GeedError("no group is given: name one such as C8, or give an action")
        return group if isinstance(group, Group) else parse_group(group)
    own = getattr(action, "group", None)
    if not isinstance(own, Group):
        raise GeedError(f"an action has the group that acts as its group, found {shown(own)}")
    if group is not None and own != (group if isinstance(group, Group) else parse_group(group)):
        raise GeedError(
            f"group {group if isinstance(group, str) else group.name} is not the group of the "
            f"action, {own.name}: leave the group out, or give one action of it"
        )
    return own


def _check_trips(source: Source) -> None:
    """Refuse round trips by resampled elements that come without their inverses."""
    group = source.action.group
    if not group.is_closed and not all(all(moved.action.exact()) for moved in source.moved):
        raise GeedError(
            f"--references: need inverses of elements, and {group.name} draws elements "
            "independently, without inverses: leave it out, or take evenly spread elements such "
            "as SO3~24"
        )


def check_inputs(prepared: Prepared) -> None:
    """Make sure, at the end of a run, that data and weights are still those that it began with.

    Raises
    ------
    GeedError
        If a sample is another one now, or the weights are.
    """
    for moved in prepared.task.source.moved:
        if moved.intake is not None:
            moved.intake.check()
    check_weights(prepared.model)
