"""Passes, batches and workers that keep to a memory budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_geed.groups import tables_of
from onnx_geed.measures import Plan, stack_bytes
from onnx_geed.run.executor import cores
from onnx_geed.run.footprint import Footprint
from onnx_geed.run.moving import held_by_loops, held_by_orbits, tables_of_run
from onnx_geed.run.options import Options
from onnx_geed.run.session import Provider
from onnx_geed.run.source import Source
from onnx_geed.run.trial import Trial
from onnx_geed.text import counted, parse_bytes

__all__ = ["Share", "fit_memory", "graph_bytes", "stacked_together"]

# Rows of a run: more do not make a processor faster; a card wants more.
_MOST_ROWS = {"cpu": 64, "cuda": 256}


# Activations of one run: of large maps it holds a piece of an orbit, of small ones many orbits.
_PIECE_BYTES = 96 << 20


_JOB_BYTES = 16 << 20


# The same on a card, where it takes as long to start the nodes of a graph for one orbit as for
# many. Its memory is not known here: two such runs fit on a small one.
_CARD_BYTES = 1 << 30


@dataclass(frozen=True)
class Share:
    """How a run is divided so that it keeps to its memory.

    Parameters
    ----------
    passes : tuple of tuple of str
        Tensors exposed together; several passes where all at once exceed the budget.
    batch : int
        Most rows in one run.
    workers : int
        Runs side by side.
    """

    passes: tuple[tuple[str, ...], ...]
    batch: int
    workers: int


def _even(rows: int, order: int) -> int:
    """Return the most rows, of so many, that are whole orbits or an even part of one."""
    if rows >= order:
        return rows - rows % order
    return max(size for size in range(1, rows + 1) if order % size == 0)


def stacked_together(plan: Plan, provider: Provider) -> int:
    """Return the most bytes of one sample's maps that the nodes of a graph take at once.

    On a card those of many layers, since it takes as long to start a node for one layer as for
    many. A processor's caches hold no more than one: there each is taken by itself.
    """
    return stack_bytes(plan.layers) if provider == "cuda" else 0


def graph_bytes(plan: Plan, source: Source, provider: Provider) -> int:
    """Return the bytes that the nodes of the largest layers hold beside activations, for a row.

    Both maps and their products in float64, and what one resampling reads.
    """
    bases, _, taps = map(int, tables_of(source.action).moves.index.shape)
    largest = max((layer.bytes for layer in plan.layers.values()), default=0)
    together = max(largest, stacked_together(plan, provider))
    return together * (8 + -(-2 * bases * taps // plan.group.order))


def fit_memory(
    plan: Plan,
    source: Source,
    trial: Trial,
    options: Options,
    footprint: Footprint,
    *,
    graph: bool,
) -> Share:
    """Divide a run so that it keeps to the memory budget.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    source : Source
        The samples and the input's action.
    trial : Trial
        How the model can be run.
    options : Options
        The budget, and the batch where it was given.
    footprint : Footprint
        What a row takes in the runtime, hidden tensors included.
    graph : bool
        Whether deviations are computed inside the graph.

    Returns
    -------
    Share

    Raises
    ------
    GeedError
        If the budget does not hold one orbit, or one at a time.
    """
    budget, backdrop = parse_bytes(options.memory), source.main.backdrop
    if backdrop is not None:
        budget -= backdrop.images.nbytes
    n = plan.group.order
    own = 4 * sum(int(np.prod(moved.samples.shape)) for moved in source.moved)
    if graph:
        own += graph_bytes(plan, source, trial.session.provider)
    cuda = trial.session.provider == "cuda"
    workers = 2 if cuda else cores()
    total = sum(layer.bytes for layer in plan.layers.values())
    passes: list[list[str]] = [[]]
    filled = 0
    for name, layer in plan.layers.items():
        if passes[-1] and 2 * n * (own + filled + layer.bytes) > budget:
            passes.append([])
            filled = 0
        passes[-1].append(name)
        filled += layer.bytes
    outputs = max(sum(plan.layers[name].bytes for name in names) for names in passes)
    # Inputs and maps that move alike share tables.
    every = tables_of_run(source.moved, plan.measures)
    if plan.group.small is not None:
        every *= 2  # what takes an element to its opposite has tables too
    tables = every - tables_of_run(source.moved, ())
    # Of a worker beside its orbits and its rows in the runtime: its outputs and f̂, and its loops.
    least = 2 * outputs
    if not graph:
        least += held_by_loops(plan.measures, max(1, min(n, _PIECE_BYTES // (own + total))))
        whole, left = held_by_orbits(plan, references=options.references)
        least, tables = least + whole, tables + left
        footprint.room.check(
            footprint.fixed + footprint.moving + tables + least + trial.held * footprint.row,
            f"an orbit of {counted(n, 'element')}, what moves it and what the model makes of one "
            "take {}",
            "use smaller samples or a group of fewer elements",
        )
    room = footprint.left - tables
    drawn = plan.group.behind is not None or plan.group.onward is not None
    of_another = 2 * n * own + (every if drawn else 0)
    # An orbit's outputs lie in memory whole; a worker of the runtime needs about as much again.
    while workers > 1 and (
        2 * n * (own + total) * workers > budget
        or max(trial.held, workers) * footprint.row + least * workers + of_another * (workers - 1)
        > room
    ):
        workers -= 1
    # A run of a fixed number of rows has never fewer.
    workers = max(1, min(workers, footprint.rows // max(1, trial.session.fixed)))
    row = own + outputs
    together = _CARD_BYTES if cuda and graph else _JOB_BYTES
    most = min(_MOST_ROWS["cuda" if cuda else "cpu"], max(n, together // row))
    if graph:
        most = max(most, n)  # which takes whole orbits
    if not cuda and not graph:
        fitting = most if n * row <= _PIECE_BYTES else max(1, _PIECE_BYTES // row)
        # Each piece of an orbit resamples maps again, so these are compared in pieces as large as
        # memory lets them be.
        if footprint.best and not any(m.descriptor.view == "maps" for m in plan.measures):
            fitting = min(fitting, footprint.best)
        most = _even(fitting, n)
    batch = options.batch_size or max(1, min(most, budget // (2 * row * workers)))
    # What is given counts as long as memory holds it.
    batch = min(batch, max(1, min(footprint.rows, footprint.left // (2 * row)) // workers))
    if options.batch_size is None and batch > n:
        batch -= batch % n
    if trial.session.fixed:
        batch = min(batch, trial.session.fixed)
    return Share(tuple(map(tuple, passes)), 1 if trial.one_by_one else batch, workers)
