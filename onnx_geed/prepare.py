"""From what a user asked for to what will run: model, samples, action, tensors, batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.actions import Interpolation, grid_action
from onnx_geed.data import open_samples
from onnx_geed.eed import Support
from onnx_geed.errors import GeedError, nearest
from onnx_geed.graph import (
    Input,
    Model,
    find_input,
    find_output,
    input_layout,
    inputs,
    load_model,
    output_kind,
)
from onnx_geed.groups import Group, parse_group
from onnx_geed.layouts import check_layout, to_points
from onnx_geed.orbits import Feed, Source
from onnx_geed.plan import (
    DEFAULT_MEASURES,
    ROLES,
    Layer,
    Plan,
    Request,
    make_plan,
    parse_request,
)
from onnx_geed.points import Tensor, resolve, tensors
from onnx_geed.preprocess import Preprocess, parse_preprocess, preprocess_from_json
from onnx_geed.rewrite import expose, free_batch
from onnx_geed.session import Provider, Session, cores, open_session, probe_batch
from onnx_geed.sizes import parse_bytes
from onnx_geed.tables import Table, parse_table, read_table, subgroup_table

__all__ = ["Options", "Prepared", "prepare"]

# Rows of a run: more do not make a processor faster; a card wants more.
_MOST_ROWS = {"cpu": 64, "cuda": 256}
_JOB_BYTES = 16 << 20
# Rows of the larger of the two batches in which a model is tried out.
_TRIAL_BATCH = 5


@dataclass(frozen=True)
class Options:
    """How to measure; every field has a command-line option of the same name.

    Parameters
    ----------
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; empty for the defaults of spec section 4.
    samples : int
        Size of D, eq. (4).
    norm_samples : int
        Points for M, eq. (6).
    seed : int
        Seed of the permutation that picks them.
    provider : {"auto", "cuda", "cpu"}
        Where to run.
    batch_size : int, optional
        Most rows in one run; by default from ``memory``.
    memory : str
        Budget for activations, such as ``2GiB``.
    interval : {"t", "bootstrap"}
        Interval over samples.
    references : bool
        Whether to run the round trips that values are read by, spec section 6.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of rotations.
    support : {"full", "disk"}
        Whether samples are masked, and maps compared, inside a disk.
    output_action : mapping of str to str, Path or Table
        Given output actions by layer.
    input, output, latent : str, optional
        Names of the acted-on input, the output and the latent.
    input_layout : {"NCHW", "NHWC"}, optional
        Layout of the acted-on input.
    output_kind : {"logits", "probabilities", "embedding"}, optional
        What the output is.
    layout : mapping of str to str
        Layouts of hidden tensors by layer.
    feed : mapping of str to str, Path or ndarray
        Values of the other inputs.
    preprocess : str or Preprocess, optional
        Preset, file or ``key=value`` list; by default from the model's metadata.
    labels : str, Path or sequence, optional
        Labels of the samples.
    layers : sequence of str
        Layers that a cache is to keep; without ``measures``, only these.
    """

    measures: Sequence[str] = ()
    samples: int = 50
    norm_samples: int = 200
    seed: int = 0
    provider: Provider = "auto"
    batch_size: int | None = None
    memory: str = "2GiB"
    interval: str = "t"
    references: bool = False
    interpolation: Interpolation = "bilinear"
    support: Support = "full"
    output_action: Mapping[str, str | Path | Table] = field(default_factory=dict)
    input: str | None = None
    input_layout: str | None = None
    output: str | None = None
    output_kind: str | None = None
    latent: str | None = None
    layout: Mapping[str, str] = field(default_factory=dict)
    feed: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    preprocess: str | Preprocess | None = None
    labels: str | Path | Sequence[int | str] | None = None
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise GeedError(f"--samples {self.samples}: measure at least one sample")
        if self.norm_samples < 0 or self.seed < 0:
            raise GeedError("--norm-samples and --seed must not be negative")
        if self.batch_size is not None and self.batch_size < 1:
            raise GeedError(f"--batch-size {self.batch_size}: a batch has at least one row")
        for layout in self.layout.values():
            check_layout(layout)
        parse_bytes(self.memory)


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

    def open(self, layers: Sequence[str]) -> Session:
        """Return a session that yields these tensors."""
        if len(self.passes) == 1:
            return replace(self.session, outputs=tuple(layers))
        return _open(self.graph, self.session.input, layers, self.session.provider)


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
    """
    acting = parse_group(group) if isinstance(group, str) else group
    requests = [parse_request(text) for text in options.measures]
    read = model if isinstance(model, Model) else load_model(model)
    acted = find_input(read, options.input)
    output = find_output(read, options.output)
    source, count, notes = _source(read, acted, data, acting, options)
    listed = _tensors(read, acted, output, source, options)
    kept = [tensor for key in options.layers for tensor in resolve(listed, key)]
    wanted, said = ([], []) if kept and not requests else _select(requests, listed)
    notes += said
    chosen = [tensor for _, tensor in wanted] + kept
    names = list(dict.fromkeys([tensor.name for tensor in chosen] + [output]))
    trial = _try_out(read, acted, names, source, options)
    notes += trial.notes
    kinds, said = _kinds(read, output, listed, trial.rows, options)
    notes += said
    tables, said = _tables(read, listed, acting, options)
    notes += said
    layers = {
        t.name: Layer(t.name, trial.rows[t.name].shape[1:], _layout(t, trial.rows), t.roles)
        for t in chosen
    }
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
    passes, batch, workers = _fit(plan, source, trial, options)
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
    )


def _source(
    model: Model, acted: Input, data: Any, group: Group, options: Options
) -> tuple[Source, int, list[str]]:
    """Samples of D, drawn as spec section 2 says, with the input's action."""
    layout = input_layout(model, acted, options.input_layout)
    preprocess = options.preprocess
    if preprocess is None and "onnx_geed.preprocess" in model.metadata:
        preprocess = preprocess_from_json(model.metadata["onnx_geed.preprocess"])
    elif isinstance(preprocess, str):
        preprocess = parse_preprocess(preprocess)
    samples = open_samples(
        data,
        input_shape=acted.shape[1:],
        input_layout=layout,
        preprocess=preprocess,
        labels=options.labels,
    )
    available, notes = len(samples), []
    drawn = np.random.default_rng(options.seed).permutation(available)
    indices = tuple(int(i) for i in drawn[: max(options.samples, options.norm_samples)])
    if available < options.samples:
        notes.append(f"of the {options.samples} samples asked for, {available} are available")
    if available < options.norm_samples:
        notes.append(f"of the {options.norm_samples} points for M, {available} are available")
    action = grid_action(group, *samples.shape[-2:], options.interpolation)
    feeds = _feeds(model, acted, available, options)
    disk = options.support == "disk"
    count = min(options.samples, available)
    return Source(samples, indices, action, layout, disk, feeds), count, notes


def _feeds(model: Model, acted: Input, available: int, options: Options) -> dict[str, Feed]:
    """Values of the inputs that the group does not act on."""
    others = {i.name: i for i in inputs(model) if i.name != acted.name}
    for name in options.feed:
        if name not in others:
            raise GeedError(
                f"--feed {name}: the model has no other input of that name; it has "
                f"{', '.join(others) or 'none'}.{nearest(name, others)}"
            )
    missing = [name for name in others if name not in options.feed]
    if missing:
        raise GeedError(
            f"the model also takes {', '.join(missing)}: give each a value with --feed NAME=FILE "
            "(.npy: one row a sample, or one value for all)"
        )
    feeds = {}
    for name, given in options.feed.items():
        other, values = others[name], _array(name, given)
        values = values.astype(np.dtype(other.dtype), copy=False)
        rank = len(other.shape)
        free = rank > 0 and (not isinstance(other.shape[0], int) or acted.shape[0] == 1)
        if free and values.ndim == rank and len(values) == available and available > 1:
            rows = "samples"
        elif free and values.ndim == rank - 1:
            values, rows = values[None], "one"
        elif free and values.ndim == rank and len(values) == 1:
            rows = "one"
        elif values.ndim == rank:
            rows = "whole"
        else:
            raise GeedError(
                f"--feed {name}: the input is {other.shape}, the file holds {values.shape} for "
                f"{available} samples; give one row a sample, or one value for all"
            )
        feeds[name] = Feed(values, rows)
    return feeds


def _array(name: str, given: str | Path | NDArray[Any]) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    try:
        loaded = np.load(given, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GeedError(f"--feed {name}={given}: not a readable .npy file ({error})") from None
    if not isinstance(loaded, np.ndarray):
        raise GeedError(f"--feed {name}={given}: holds several arrays; give an .npy file")
    return loaded


def _tensors(
    model: Model, acted: Input, output: str, source: Source, options: Options
) -> tuple[Tensor, ...]:
    shape = source.rows([0], orbits=False).shape
    listed = tensors(model, acted.name, output, input_shape=shape)
    latent = resolve(listed, options.latent)[0].name if options.latent else None
    layouts = {t.name: text for key, text in options.layout.items() for t in resolve(listed, key)}
    if not latent and not layouts:
        return listed
    return tensors(model, acted.name, output, input_shape=shape, latent=latent, layouts=layouts)


def _select(
    requests: Sequence[Request], listed: Sequence[Tensor]
) -> tuple[list[tuple[Request, Tensor]], list[str]]:
    """Tensors of every request; the defaults of spec section 4 where none was made."""
    chosen: list[tuple[Request, Tensor]] = []
    notes = []
    for request in requests or [Request(name) for name in DEFAULT_MEASURES]:
        if request.layer is not None:
            found = list(resolve(listed, request.layer))
        else:
            found = [t for t in listed if ROLES[request.measure] in t.roles]
            if not found and requests:
                raise GeedError(_no_default(request.measure))
            if not found:
                notes.append(f"left out: {_no_default(request.measure)}")
        chosen += [(request, tensor) for tensor in found]
    if not chosen:
        raise GeedError(f"nothing to measure: {'; '.join(notes)}")
    return chosen, notes


def _no_default(measure: str) -> str:
    role = ROLES[measure]
    if role == "channel":
        return (
            f"{measure}: no factorisation point holds feature maps; name a tensor with "
            f"--measure {measure}@LAYER, with --layout LAYER=NTD:<H>x<W> if it holds tokens"
        )
    return f"{measure}: no {role} was found; name it with --{role} NAME"


@dataclass(frozen=True)
class _Trial:
    """What came out of running a few rows."""

    session: Session
    graph: Model
    rows: dict[str, NDArray[np.float32]]
    one_by_one: bool
    notes: list[str]


def _try_out(
    model: Model, acted: Input, names: Sequence[str], source: Source, options: Options
) -> _Trial:
    """Run a few rows, alone and in batches, on the model with its batch axis free."""
    rows, feeds = _trial_rows(source)
    fixed = isinstance(acted.shape[0], int)
    graph, notes, reason = model, [], ""
    if fixed:
        graph = free_batch(model, acted.name)
    try:
        session = _open(graph, acted.name, names, options.provider)
        reason = probe_batch(session, rows, options.batch_size or _TRIAL_BATCH, feeds)
    except GeedError as error:
        if not fixed:
            raise
        reason = str(error)
    if reason and fixed:
        graph = model
        session = _open(graph, acted.name, names, options.provider)
    if reason:
        # Alone, a row depends on nothing else; what still differs then is randomness.
        alone = [session.run(rows[:1], feeds(1)) for _ in range(2)]
        for name, a, b in zip(names, *alone, strict=True):
            if a.shape[:1] != (1,):
                raise GeedError(
                    f"tensor {name!r} has shape {a.shape} for one sample: its axis 0 is not the "
                    "batch; name another tensor (onnx-geed layers lists them)"
                )
            if not np.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True):
                raise GeedError(
                    f"the model is random: {name!r} differs between two runs on the same input; "
                    "export it in evaluation mode, without dropout or noise"
                )
        notes.append(f"run one by one, since in a batch {reason}")
    arrays = [session.run(rows[i : i + 1], feeds(1)) for i in range(len(rows))]
    kept = {name: np.concatenate([a[k] for a in arrays]) for k, name in enumerate(names)}
    return _Trial(session, graph, kept, bool(reason), notes)


def _trial_rows(source: Source) -> tuple[NDArray[np.float32], Callable[[int], dict[str, Any]]]:
    """Three different inputs, made from two samples at the most."""
    rows = source.rows([0])[: 2 if len(source.indices) > 1 else 3]
    if len(source.indices) > 1:
        rows = np.concatenate([rows, source.rows([1], orbits=False)])

    def feeds(count: int) -> dict[str, Any]:
        return source.other_inputs([0], count)

    return rows, feeds


def _open(graph: Model, input: str, names: Sequence[str], provider: Provider | str) -> Session:
    return open_session(
        expose(graph, names),
        graph.path.parent,
        input=input,
        outputs=names,
        provider=cast(Provider, provider),
    )


def _layout(tensor: Tensor, rows: Mapping[str, NDArray[np.float32]]) -> str:
    rank = rows[tensor.name].ndim
    if rank == 4:
        return tensor.layout if tensor.layout in ("NCHW", "NHWC") else "NCHW"
    if rank == 3 and tensor.layout.startswith("NTD:"):
        return tensor.layout
    return "NK"


def _kinds(
    model: Model,
    output: str,
    listed: Sequence[Tensor],
    rows: Mapping[str, NDArray[np.float32]],
    options: Options,
) -> tuple[dict[str, str], list[str]]:
    """What each tensor is as an output: declared, checked on data, and stated."""
    kinds, notes = {}, []
    for name, array in rows.items():
        try:
            points = to_points(array, "NCHW", axes=1)[0]
        except GeedError:
            continue
        kinds[name] = "probabilities" if _looks_like_probabilities(points) else "logits"
        if name != output:
            continue
        declared = output_kind(model, output, options.output_kind)
        if declared is None:
            classifier = any("latent" in t.roles and t.name != output for t in listed)
            if kinds[name] == "logits" and not classifier:
                kinds[name] = "embedding"
            notes.append(
                f"output {name!r} is taken to be {kinds[name]}; --output-kind says otherwise"
            )
        elif declared == "probabilities" and kinds[name] != "probabilities":
            if options.output_kind:
                raise GeedError(
                    f"--output-kind probabilities: rows of {name!r} are not in [0, 1] with sum 1; "
                    "use logits or embedding"
                )
            kinds[name] = "embedding"
            notes.append(
                f"output {name!r} is declared as probabilities, but its rows do not sum to 1: "
                "softmax-kl is left out"
            )
        else:
            if declared == "logits" and kinds[name] == "probabilities" and not options.output_kind:
                notes.append(
                    f"output {name!r} is declared as logits, but its rows look like probabilities;"
                    " --output-kind probabilities says so"
                )
            kinds[name] = declared
    return kinds, notes


def _looks_like_probabilities(points: NDArray[np.float32]) -> bool:
    inside = bool(((points >= 0) & (points <= 1)).all())
    if points.shape[-1] == 1:
        return inside
    return inside and bool(np.allclose(points.sum(axis=-1, dtype=np.float64), 1, atol=1e-3))


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
    plan: Plan, source: Source, trial: _Trial, options: Options
) -> tuple[tuple[tuple[str, ...], ...], int, int]:
    """Passes, rows of a batch and workers that keep to the memory budget."""
    budget = parse_bytes(options.memory)
    n = plan.group.order
    own = 4 * int(np.prod(source.samples.shape))
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
    return tuple(map(tuple, passes)), 1 if trial.one_by_one else batch, workers
