"""From what a user asked for to what will run: model, samples, action, tensors, engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Group, PlacedAction, Table
from onnx_geed.measures import Plan, check_goes_with_group, parse_request
from onnx_geed.model import (
    Model,
    Tensor,
    check_weights,
    computed_in_half,
    of_a_model,
    with_told,
)
from onnx_geed.run.asked import Asked, ask
from onnx_geed.run.bound import Bound, bind
from onnx_geed.run.engine import choose_engine, without_graph
from onnx_geed.run.executor import Executor, LocalExecutor
from onnx_geed.run.fit_overlap import check_overlap
from onnx_geed.run.fit_requests import (
    FitRequest,
    check_fits_measured,
    check_given_measured,
    fit_samples,
    fits_to_make,
    refuse_fits,
)
from onnx_geed.run.fitting import Fitting
from onnx_geed.run.footprint import Footprint, footprint_of
from onnx_geed.run.job import EngineName, Network, Task, pieces
from onnx_geed.run.labour import check_labour
from onnx_geed.run.memory import Share, fit_memory
from onnx_geed.run.moving import check_tables, tables_of_run
from onnx_geed.run.on_group import components_notes
from onnx_geed.run.on_machine import machine_notes
from onnx_geed.run.options import Options
from onnx_geed.run.runtime import runtime_conflict
from onnx_geed.run.session import NotRowsError, Session, ready_to_open
from onnx_geed.run.setting import Setting, acting_group, set_up
from onnx_geed.run.source import Source
from onnx_geed.run.trial import Opener, Trial, check_of, try_out
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
    acting = acting_group(group, action, options)
    requests = [parse_request(text) for text in options.measures]
    check_goes_with_group((request.measure for request in requests), acting)
    held = sum(tables_of_run(r.task.source.moved, r.task.plan.measures) for r in beside)
    opened = beside[0].task.source if beside else None
    setting = set_up(model, data, acting, options, action, opened, held)
    asked = ask(setting, requests)
    footprint = _footprint(setting, asked.listed, asked.names)
    check_labour(setting.model, setting.acted, asked.listed, options, footprint, setting.source)
    trial, asked = _tried_out(setting, asked, footprint, _opener(beside))
    bound = bind(setting, asked, trial)
    footprint = _footprint_of_tried(setting, asked, bound, footprint)
    plan, fitting, on_fits = _planned(bound)
    engine, share, on_engine = _share(plan, setting.source, trial, options, footprint)
    source, doubt = setting.source, ""
    if trial.unproven and not trial.mixes:
        doubt = f"the graph does not prove that rows of a batch are independent ({trial.unproven})"
    if share.batch > 1:
        parts = pieces(plan.group.order, min(share.batch, plan.group.order))
        checks = [other.task.source.check for other in beside]
        check = check_of(trial, setting.count, options, engine, parts, share.batch, checks)
        source = replace(source, check=check)
        if doubt:
            on_engine.append(f"{doubt}: some rows are run again alone to check it")
    notes = (*setting.notes, *asked.selection.notes, *trial.notes, *_on_machine(setting, trial))
    notes += (*bound.notes, *asked.notes, *on_fits, *_on_axes(bound, plan), *plan.notes)
    plan = replace(plan, notes=(*notes, *on_engine), norm_samples=options.norm_samples)
    network = _network(trial, share)
    return Prepared(
        model=setting.model,
        task=Task(network, source, plan, share.batch, engine),
        count=setting.count,
        passes=share.passes,
        workers=share.workers,
        worker=Worker({network.token: trial.session}),
        options=options,
        tensors=asked.listed,
        kinds=bound.kinds,
        tables=asked.tables,
        footprint=footprint,
        planned=bound.plan,
        fitting=fitting,
        executor=executor or LocalExecutor(),
        doubt=doubt,
    )


def _footprint(setting: Setting, listed: Sequence[Tensor], names: Sequence[str]) -> Footprint:
    """Return what a row takes in the runtime, where these tensors are returned."""
    model, acted, source = setting.model, setting.acted, setting.source
    return footprint_of(model, acted, listed, list(names), setting.options, source, setting.held)


def _footprint_of_tried(
    setting: Setting, asked: Asked, bound: Bound, reckoned: Footprint
) -> Footprint:
    """Return the same once a run has told the shapes of the tensors."""
    told = {name: layer.shape for name, layer in bound.layers.items()}
    acted, listed = setting.acted.name, asked.listed
    of_run = with_told(setting.model, acted, setting.row_shape, listed, told)
    return reckoned if of_run is listed else _footprint(setting, of_run, asked.names)


def _tried_out(
    setting: Setting, asked: Asked, footprint: Footprint, opener: Opener
) -> tuple[Trial, Asked]:
    """Try a model out; tensors that nobody named are left out if their axis 0 is not the batch."""
    model, acted, options = setting.model, setting.acted, setting.options
    while True:
        try:
            given = model, acted, list(asked.names), setting.source, options, footprint, opener
            trial = try_out(*given)
        except NotRowsError as error:
            asked = asked.without(error, options)
        else:
            return replace(trial, half=computed_in_half(model.proto.graph, asked.listed)), asked


def _planned(bound: Bound) -> tuple[Plan, Fitting | None, list[str]]:
    """Bind the measures under the output actions that are known by now.

    Returns
    -------
    plan : Plan
        Where actions are fitted, what their tensors are.
    fitting : Fitting, optional
        What is to be fitted.
    notes : list of str
        On fits that are not made.

    Raises
    ------
    GeedError
        If a measure or a fit does not go with what else is asked, or too much memory is taken.
    """
    setting, asked, options = bound.setting, bound.asked, bound.setting.options
    source, tables, fits = setting.source, asked.tables, asked.fits
    measured = [(r.measure, bound.layers[t.name]) for r, t in asked.selection.requested]
    check_tables(setting.group, source.moved, measured, options, setting.held)
    check_overlap(tables, source, setting.count)
    _refuse_foreign_fits(tables, options, masked=source.mask is not None)
    _refuse_fits_beside(fits, setting, asked)
    fitted_to = fit_samples(len(source.samples), setting.count, options)
    fits, notes = fits_to_make(fits, bound.layers, setting.group, len(fitted_to), options)
    plan = bound.plan(tables)
    check_fits_measured(plan, fits)
    check_given_measured(asked.listed, options, plan)
    return plan, Fitting(plan, fits, fitted_to, options) if fits else None, notes


def _refuse_fits_beside(fits: Mapping[str, FitRequest], setting: Setting, asked: Asked) -> None:
    """Refuse fits under actions of one's own, beside a mask, and of errors."""
    if isinstance(setting.source.action, PlacedAction):
        refuse_fits(fits, "a fit needs a group with a name, such as C4")
    if setting.source.mask is not None:
        refuse_fits(fits, "a fit cannot leave out masked entries; leave --mask out")
    refuse_fits(
        {name: fit for name, fit in fits.items() if name in asked.errors},
        "a share of the error takes no fitted action, since its inverse may not undo it: give an "
        "exact action, or leave symmetry-share out",
    )


def _on_machine(setting: Setting, trial: Trial) -> list[str]:
    """Note on what processor a model runs, and what is wrong with the runtime."""
    notes = []
    if setting.model.function is None:
        notes += machine_notes(trial.session.provider, setting.options.provider)
    if conflict := runtime_conflict():
        notes.append(conflict)
    return notes


def _on_axes(bound: Bound, plan: Plan) -> list[str]:
    """Note as what the axes of vectors are read, and which tensors a mask leaves whole."""
    source = bound.setting.source
    layouts = [moved.layout for moved in source.moved]
    layouts += [layer.layout for layer in plan.layers.values()]
    notes = list(components_notes(bound.setting.options, layouts))
    return notes + ([] if source.mask is None else list(source.mask.unmasked(plan.layers)))


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
