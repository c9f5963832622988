"""A trial before anything is measured: a few rows, for shapes and how a batch can be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.model import (
    Apart,
    Input,
    Lost,
    Mixed,
    Model,
    constants,
    free_batch_axis,
    rows_apart,
)
from onnx_geed.run.executor import cores
from onnx_geed.run.first_row import FirstRow, unmoved
from onnx_geed.run.footprint import Footprint
from onnx_geed.run.job import EngineName
from onnx_geed.run.joining import Rows, shape_of
from onnx_geed.run.options import Options
from onnx_geed.run.probe import (
    TrialRows,
    check_lengths,
    probe_alone,
    probe_batch,
    probe_pair,
    probe_places,
    run_alone,
    same_row_twice,
    small_names,
    trial_rows,
)
from onnx_geed.run.row_check import RowCheck, spreads
from onnx_geed.run.session import NotRowsError, Session, SettledError, ready_to_open
from onnx_geed.run.source import Source
from onnx_geed.text import counted
from onnx_geed.threads import Threads

__all__ = ["Opener", "Trial", "check_of", "further_rows", "try_out"]

# Of a model, its input, the tensors that are returned and the provider: what opens a session.
Opener = Callable[[Model, str, Sequence[str], str], Callable[[], Session]]

# Rows of the larger of the two batches in which a model is tried out.
_TRIAL_BATCH = 5

# Rows that are held at once where two are run together and alone.
_PAIR = 4


# A number of rows that is not declared is looked for up to here, among so many candidates.
_MOST_FIXED = 256


_MOST_TRIED = 8


_OFTEN = (2, 3, 4, 5, 6, 8, 10, 16, 32)


_REMEDY = "; export it with a free batch axis, or for a batch of 1"


# Bytes of a row that are kept until the first job; where they are more, it is rather run again.
_KEPT_BYTES = 64 << 20

# Samples on which a doubt about what an output is must hold.
_FURTHER = 16
_FURTHER_BYTES = 64 << 20


@dataclass(frozen=True)
class Trial:
    """A model that was tried out on a few rows.

    Parameters
    ----------
    session : Session
        The session in which they were run.
    graph : Model
        The model in it.
    rows : mapping of str to ndarray
        Their activations, by tensor.
    one_by_one : bool
        Whether a row depends on the others of its batch, so that it must be run alone.
    notes : list of str
        Notes for the result.
    unproven : str
        Where rows are run together and the graph does not prove that they are independent: why.
    mixes : bool
        Whether it tells that they are not, and they are run together because the graph engine was
        asked for.
    held : int
        Rows whose memory the runtime keeps: those that it ran at once.
    by_count : bool
        Whether the proof leans on what the graph makes of two other numbers of rows.
    first : ndarray of float32, shape (1, ...), optional
        The model input of the first row, where rows were run alone and no batch was: the first real
        one is to be looked at.
    others : mapping of str to ndarray
        The other inputs of that row.
    unmoved : frozenset of int
        Elements that leave the first sample as it is: where they are alone in a batch, it does not
        tell what is mixed.
    half : frozenset of str
        Tensors on whose way numbers are rounded to half precision.
    """

    session: Session
    graph: Model
    rows: Mapping[str, NDArray[np.float32]]
    one_by_one: bool
    notes: list[str]
    unproven: str = ""
    mixes: bool = False
    held: int = 1
    by_count: bool = False
    first: NDArray[np.float32] | None = None
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    unmoved: frozenset[int] = frozenset()
    half: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Attempt:
    """A model run in batches: its session, what spoke against it, what was run, what is proven.

    Of a proof that needs no batch to be tried, rows were run ``alone``.
    """

    session: Session | None
    reason: str
    rows: Mapping[str, NDArray[np.float32]]
    apart: Apart | Lost | Mixed
    alone: bool = False


def try_out(
    model: Model,
    acted: Input,
    names: Sequence[str],
    source: Source,
    options: Options,
    footprint: Footprint,
    opener: Opener = ready_to_open,
) -> Trial:
    """Run a few rows, alone and in batches, on the model with its batch axis free.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on.
    names : sequence of str
        Tensors to return.
    source : Source
        Whose rows are run.
    options : Options
        The batch, the engine and the provider.
    footprint : Footprint
        How many rows can be run at once.
    opener : callable
        Returns what opens a session, as :func:`onnx_geed.run.session.ready_to_open` does.

    Returns
    -------
    Trial

    Raises
    ------
    NotRowsError
        If axis 0 of a tensor is not the batch.
    GeedError
        If the model fails, or is random.
    """
    with Threads(1) as pool:
        # Loading compiled loops takes as long as opening a session, and goes on beside it.
        loops = pool.submit(source.rows, [0])
        trial = _try_out(model, acted, names, source, options, footprint, opener)
        return replace(trial, unmoved=unmoved(loops.result()))


def _try_out(
    model: Model,
    acted: Input,
    names: Sequence[str],
    source: Source,
    options: Options,
    footprint: Footprint,
    opener: Opener,
) -> Trial:
    rows = trial_rows(source, 1 if footprint.tight else cores())
    fed = _fed_shapes(acted, source)
    # No run has more rows than there are, however many one may have.
    most = source.action.group.order * len(source.indices)
    batch = min(options.batch_size, most) if options.batch_size else _TRIAL_BATCH
    batch = min(batch, footprint.rows)

    def attempt(candidate: Model) -> _Attempt:
        apart: Apart | Lost | Mixed = Lost("")
        try:
            with Threads(1) as pool:
                # Python's part first, or it and the proof would keep each other waiting.
                opening = pool.submit(opener(candidate, acted.name, names, options.provider))
                apart = rows_apart(candidate.proto, names, fed)
            session = opening.result()
            # What the graph engine measures cannot be run one by one: every row is then checked.
            if isinstance(apart, Mixed) and options.engine != "graph":
                return _Attempt(session, apart.reason, {}, apart)
            # Rows are held several times, and of large maps no more than their shapes is asked.
            runner = session.apart(session.outputs)
            alone = False
            if not isinstance(apart, Apart):
                reason, parts = probe_batch(runner, rows, batch)
            # Of what is computed inside the graph no row can be looked at later.
            elif alone := not apart.by_count and _on_cpu(session, options):
                reason, parts = probe_alone(runner, rows)
            else:
                reason, parts = probe_pair(runner, rows)
            found = Rows(session.outputs, session.joined, parts)
            return _Attempt(session, reason, found, apart, alone)
        except SettledError:
            raise
        except GeedError as error:
            return _Attempt(None, str(error), {}, apart)

    graph, best = model, _Attempt(None, "the batch is fixed", {}, Lost(""))
    if footprint.rows < _PAIR:
        best = replace(best, reason="a trial of two rows takes more than --memory")
    elif not isinstance(acted.shape[0], int):
        best = attempt(model)
    free = None
    if best.reason and footprint.rows >= _PAIR:
        # Even a batch that is declared free may be pinned further on.
        freed = free_batch_axis(model, acted.name, input_shape=(1, *source.row_shape))
        other = attempt(freed)
        free = other.session
        if other.session is not None and not other.reason:
            graph, best = freed, other
        elif best.session is None:
            best = replace(best, reason=other.reason)
    if best.reason or best.session is None:
        session = best.session or opener(model, acted.name, names, options.provider)()
        free = free if isinstance(acted.shape[0], int) else session
        return _run_alone(session, free, model, acted, best.reason, rows, fed, footprint)
    unproven = best.apart.reason if isinstance(best.apart, Lost | Mixed) else ""
    mixes = isinstance(best.apart, Mixed)
    # True of the graph engine as well, which runs every row again alone.
    notes = [f"run one by one, since in a batch {unproven}"] if mixes else []
    held = (1 if best.alone else 2) + (not footprint.tight)
    by_count = isinstance(best.apart, Apart) and best.apart.by_count
    given = rows.batch([0]) if best.alone else (None, {})
    return Trial(
        *(best.session, graph, best.rows, False, notes, unproven, mixes, held, by_count), *given
    )


def _on_cpu(session: Session, options: Options) -> bool:
    """Whether a processor runs the model, and compiled loops its measures, whatever they are."""
    return session.provider == "cpu" and options.engine != "graph"


def _run_alone(
    session: Session,
    free: Session | None,
    model: Model,
    acted: Input,
    reason: str,
    rows: TrialRows,
    fed: dict[str, tuple[int | None, ...]],
    footprint: Footprint,
) -> Trial:
    """Return the trial of a model whose rows cannot be run together, or not in any number."""
    session, one_by_one, note, first = _single_rows(
        session, free, model, acted, reason, rows, fed, footprint
    )
    with Threads(rows.threads) as pool:
        apart = session.apart(session.outputs)
        further = range(1, len(rows.inputs))
        others = run_alone(apart, rows, further, pool, only=small_names(first))
    for name in small_names(first):
        first[name] = np.concatenate([first[name], *(row[name] for row in others)])
    whole = Rows(session.outputs, session.joined, first)
    return Trial(session, model, whole, one_by_one, [note])


def _fed_shapes(acted: Input, source: Source) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of all inputs, the batch being free."""
    fed: dict[str, tuple[int | None, ...]] = {acted.name: (None, *source.row_shape)}
    fed |= {name: (None, *moved.row_shape) for name, moved in source.partners.items()}
    for name, feed in source.feeds.items():
        for_all = feed.rows == "whole"
        fed[name] = feed.values.shape if for_all else (None, *feed.values.shape[1:])
    return fed


def _single_rows(
    session: Session,
    free: Session | None,
    model: Model,
    acted: Input,
    reason: str,
    rows: TrialRows,
    fed: dict[str, tuple[int | None, ...]],
    footprint: Footprint,
) -> tuple[Session, bool, str, dict[str, NDArray[np.float32]]]:
    """Find out how to run a model whose rows cannot be run together in any number.

    Parameters
    ----------
    session : Session
        With the model as it is.
    free : Session, optional
        With its batch free, where it could be opened so.
    model, acted, reason, rows, fed, footprint
        As in :func:`_try_out`; why rows cannot be run together.

    Returns
    -------
    session : Session
        With the number of rows that it takes, where that is not one.
    one_by_one : bool
        Whether only one row of a run may be read.
    note : str
        A note on what is done.
    first : dict of str to ndarray
        The first row's activations, of parts apart.

    Notes
    -----
    Alone, a row depends on nothing else; what still differs then is randomness. Choice: in a model
    that takes exactly B rows, a row that is alone fills all of them, and the first is read, so that
    a value depends neither on its neighbours nor on its place. B samples share a run only where
    the graph proves that they do not mix and a probe agrees.

    A tensor whose first axis is of time or of classes has as many entries there as a batch of just
    that size. So it is looked whether the model runs with one row more, and whether that axis is
    longer then; and what the graph tells of where the batch is counts as well.
    """
    alone, failed = same_row_twice(session, rows)
    for count in _likely_row_counts(model, acted) if failed else ():
        if isinstance(acted.shape[0], int):
            footprint.check(count)
        elif count > footprint.rows:
            continue
        fixed = replace(session, fixed=count)
        alone, still = same_row_twice(fixed, rows)
        if not still:
            told = rows_apart(model.proto, session.outputs, fed, rows=count)
            if free is not None and not isinstance(told, Apart):
                check_lengths(free, rows, count + 1)
            session, failed = fixed, None
            break
        if isinstance(still, NotRowsError) and not isinstance(failed, NotRowsError):
            failed = still
    if failed:
        raise failed if isinstance(failed, NotRowsError) else GeedError(f"{failed}{_REMEDY}")
    once, again = alone
    for name, array in once.items():
        # Nearly always they are equal to the last bit, which takes less memory to see.
        if not np.array_equal(array, again[name]) and not np.allclose(
            array, again[name], rtol=1e-3, atol=1e-6, equal_nan=True
        ):
            raise GeedError(
                f"the model is random: {name!r} differs between two runs on the same input; "
                "export it in evaluation mode, without dropout or noise"
            )
    if not session.fixed:
        return session, True, f"run one by one, since in a batch {reason}", once
    takes = f"the model takes exactly {counted(session.fixed, 'row')}"
    takes_rows = f"the {counted(session.fixed, 'row')} that the model takes"
    apart = rows_apart(model.proto, session.outputs, fed, rows=session.fixed)
    if isinstance(apart, Apart):
        reason = probe_places(session.apart(session.outputs), rows)
        if not reason:
            note = f"{takes}: smaller batches are filled up with copies of one row"
            return session, False, note, once
    else:
        reason = apart.reason
    if isinstance(apart, Lost) and apart.elsewhere:
        shape = shape_of(apart.elsewhere, Rows(session.outputs, session.joined, once))
        raise NotRowsError({apart.elsewhere: (session.fixed, *shape[1:])}, takes_rows)
    note = (
        f"run one by one, since {takes}, and they may not be independent ({reason}): every sample "
        "is copied into all rows, and the first row is read"
    )
    return session, True, note, once


def _likely_row_counts(model: Model, acted: Input) -> list[int]:
    """Return numbers of rows that the model may take: as declared, or as its constants tell."""
    declared = acted.shape[0]
    if isinstance(declared, int):
        return [declared] if declared > 1 else []
    leads = {tensor.dims[0] for tensor in model.proto.graph.initializer if len(tensor.dims) > 1}
    leads |= {values[0] for values in constants(model.proto.graph).values() if len(values) > 1}
    likely = sorted(n for n in leads if 1 < n <= _MOST_FIXED)[:_MOST_TRIED]
    return list(dict.fromkeys([*likely, *_OFTEN]))


def check_of(
    trial: Trial,
    count: int,
    options: Options,
    engine: EngineName,
    parts: Sequence[range],
    batch: int,
    beside: Sequence[RowCheck | FirstRow | None] = (),
) -> RowCheck | FirstRow | None:
    """Return what is looked at in real jobs of several rows, so that the trial need not.

    Parameters
    ----------
    trial : Trial
        What is proven, and what was tried.
    count : int
        Size of D.
    options : Options
        The seed.
    engine : {"kernels", "graph"}
        Where deviations are computed.
    parts : sequence of range
        The elements of an orbit that are run together.
    batch : int
        Most rows in one run.
    beside : sequence of RowCheck, FirstRow or None
        What is looked at in other runs: of the same network, a row is looked at once.
    """
    cure = "run them one by one with --batch-size 1" + " --engine kernels" * (engine == "graph")
    if trial.first is not None and all(
        len(trial.unmoved.intersection(part)) in (0, len(part)) for part in parts
    ):
        # Not the first sample's, then.
        return RowCheck({}, count, options.seed, cure=cure, half=trial.half)
    if trial.first is not None:
        for other in beside:
            if isinstance(other, FirstRow) and other.runtime is trial.session.runtime:
                return other
        if sum(array.nbytes for array in _parts(trial.rows).values()) <= _KEPT_BYTES:
            first = trial.first, trial.others, trial.rows
            return FirstRow(*first, trial.session.runtime, cure, trial.half)
        return RowCheck({}, count, options.seed, cure=cure, once=True, half=trial.half)
    if not (trial.unproven or trial.by_count):
        return None
    of = spreads(trial.rows), count, options.seed, trial.mixes, cure
    if trial.unproven:
        return RowCheck(*of, half=trial.half)
    return RowCheck(*of, once=True, half=trial.half, most=batch)


def _parts(rows: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
    """Return rows as they lie in memory."""
    return rows.given if isinstance(rows, Rows) else rows


def further_rows(trial: Trial, name: str, source: Source) -> NDArray[np.float32]:
    """Run the first samples of D alone, for what three rows of a tensor cannot tell.

    Of large maps a few are enough: they have many places each.
    """
    rows: list[NDArray[np.float32]] = []
    for position in range(min(_FURTHER, len(source.indices))):
        row = source.rows([position], orbits=False)
        rows.append(trial.session.run(row, source.other_inputs([position], 1))[name])
        if sum(array.nbytes for array in rows) >= _FURTHER_BYTES:
            break
    return np.concatenate(rows) if len(rows) > 1 else rows[0]
