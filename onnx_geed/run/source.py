"""The source of model inputs: the samples of D, the group's action on them, and their feeds."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import (
    Intake,
    Preprocess,
    Samples,
    open_rows,
    open_samples,
    parse_preprocess,
    preprocess_from_json,
    rows_of,
)
from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import (
    Action,
    GridAction,
    Group,
    PlacedAction,
    check_moves,
    disk_mask,
    grid_action,
    orbit,
    parse_group,
    parse_layout,
    place,
)
from onnx_geed.model import PREPROCESS, Input, Model, find_input, input_layout
from onnx_geed.run.feeds import Feed, feeds_of
from onnx_geed.run.options import Options
from onnx_geed.run.row_check import RowCheck

__all__ = ["Opening", "Source", "chosen_preprocess", "make_source", "source_of"]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Opening:
    """DATA and how they are opened, so that another process can open them too.

    Parameters
    ----------
    data : str, Path or ndarray
        DATA, in any of its spellings.
    input_shape : tuple of int or None
        The model's input without its batch axis.
    layout : str
        Its layout.
    preprocess : Preprocess, optional
        Preprocessing.
    """

    data: Any
    input_shape: tuple[int | None, ...]
    layout: str
    preprocess: Preprocess | None

    def samples(self, labels: Any = None) -> Samples:
        """Open the data.

        Raises
        ------
        GeedError
            If there are none, or they do not fit the model.
        """
        return open_samples(
            self.data,
            input_shape=self.input_shape,
            input_layout=self.layout,
            preprocess=self.preprocess,
            labels=labels,
        )


@dataclass(frozen=True, eq=False)
class Source:
    """Samples and what the group does to them.

    It is pickled as the way to open it: a path or ``module:function``, which is opened where it is
    unpickled, or the array itself.

    Parameters
    ----------
    opening : Opening
        How the samples are opened.
    samples : Samples
        The data, before the action.
    indices : tuple of int
        D, in order.
    action : GridAction or PlacedAction
        The input's action.
    layout : str
        The model's input layout.
    disk : bool
        Whether samples are masked to the disk before the action.
    feeds : mapping of str to Feed
        The other inputs.
    check : RowCheck, optional
        Which rows are run again alone, where nothing proves that those of a batch are independent.
    intake : Intake, optional
        Told of every sample that is read.
    """

    opening: Opening = field(repr=False)
    samples: Samples = field(repr=False)
    indices: tuple[int, ...]
    action: GridAction | PlacedAction
    layout: str
    disk: bool = False
    feeds: Mapping[str, Feed] = field(default_factory=dict, repr=False)
    check: RowCheck | None = None
    intake: Intake | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if isinstance(self.action, PlacedAction):
            _check_pickles(self.action)
        if not isinstance(self.opening.data, str | Path | np.ndarray):
            raise GeedError(
                f"--data: {shown(type(self.opening.data).__name__)} cannot be sent to another "
                "process; give a path, module:function or a numpy array"
            )
        parts = (self.opening, self.indices, self.action, self.layout, self.disk)
        return _reopened, (*parts, self.feeds, self.check)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one model input, in the model's own layout."""
        shape, order = self.samples.shape, parse_layout(self.layout).planes_last
        return tuple(shape[order.index(axis)] for axis in range(len(order)))

    def sample(self, position: int) -> F32:
        """Return the sample at a position of D, as the group acts on it."""
        x = self.samples[self.indices[position]]
        if self.intake is not None:
            self.intake.take(position, x)
        return np.where(disk_mask(*self.samples.shape[-2:]), x, np.float32(0)) if self.disk else x

    def label(self, position: int) -> str:
        """Name the sample at a position of D, for messages."""
        index, names = self.indices[position], self.samples.names
        return f"sample {index} ({names[index]})" if names else f"sample {index}"

    def rows(self, positions: Sequence[int], *, orbits: bool = True) -> F32:
        """Return the model inputs of the orbits (or the identities alone) at some positions of D.

        Returns
        -------
        ndarray of float32, shape (len(positions)·n, ...)
            In the model's layout, sample by sample, identity first.
        """
        first = self.sample(positions[0])
        n = self.action.group.order if orbits else 1
        out = np.empty((len(positions), n, *first.shape), dtype=np.float32)
        for k, position in enumerate(positions):
            x = first if k == 0 else self.sample(position)
            if orbits:
                orbit(self.action, x, out[k])
            else:
                out[k, 0] = x
        return self.fed(out.reshape(-1, *first.shape))

    def fed(self, rows: F32) -> F32:
        """Bring samples (rows, ...), already moved, to what the model is fed."""
        finished = self.samples.finish(rows)
        order = parse_layout(self.layout).planes_last
        back = (order.index(axis) + 1 for axis in range(len(order)))
        return np.ascontiguousarray(finished.transpose(0, *back))

    def other_inputs(self, positions: Sequence[int], n: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for ``n`` rows of each sample."""
        samples = np.repeat(np.array([self.indices[p] for p in positions], dtype=np.int64), n)
        return {name: feed.batch(samples) for name, feed in self.feeds.items()}

    def part_of(self, feeds: Mapping[str, NDArray[Any]], part: slice) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for some of the rows that they are for."""
        return {
            name: value if self.feeds[name].rows == "whole" else value[part]
            for name, value in feeds.items()
        }


def _check_pickles(action: PlacedAction) -> None:
    """Refuse an action of one's own that no other process can be sent."""
    try:
        pickle.dumps(action)
    except Exception as error:  # whatever a class of one's own raises
        raise GeedError(
            f"action: cannot be sent to another process ({error}); make it of tables, or of a "
            "function that stands in a module"
        ) from None


def _reopened(
    opening: Opening,
    indices: tuple[int, ...],
    action: GridAction,
    layout: str,
    disk: bool,
    feeds: Mapping[str, Feed],
    check: RowCheck | None,
) -> Source:
    """Open a source that was pickled."""
    samples = opening.samples()
    intake = Intake(samples, indices)
    return Source(opening, samples, indices, action, layout, disk, feeds, check, intake)


def source_of(model: Model, data: Any, group: str | Group, options: Options) -> Source:
    """Return what a model would be fed, without running it.

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
    Source

    Raises
    ------
    GeedError
        If the data cannot be used.
    """
    acting = group if isinstance(group, Group) else parse_group(group)
    return make_source(model, find_input(model, options.input), data, acting, options)[0]


def make_source(
    model: Model,
    acted: Input,
    data: Any,
    group: Group,
    options: Options,
    own: Action | None = None,
) -> tuple[Source, int, list[str]]:
    """Draw the samples of D as spec section 2 says, and place the action on them.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : Group
        The acting group.
    options : Options
        How to measure.
    own : Action, optional
        An action of one's own in place of the group's.

    Returns
    -------
    source : Source
        Samples of D and the points for M.
    count : int
        Size of D.
    notes : list of str
        Where fewer are available than were asked for.

    Raises
    ------
    GeedError
        If the data cannot be used, or the group does not move them.
    """
    try:
        layout = input_layout(model, acted, options.input_layout)
    except GeedError:
        # Lengths that the file leaves free are those of the data.
        layout = input_layout(model, _with_lengths(acted, data), options.input_layout)
    opening = Opening(data, acted.shape[1:], layout, chosen_preprocess(model, options))
    samples = opening.samples(options.labels)
    available, notes = len(samples), []
    drawn = np.random.default_rng(options.seed).permutation(available)
    wanted = available if options.wanted is None else options.wanted
    indices = tuple(int(i) for i in drawn[: max(wanted, options.norm_samples)])
    if available < wanted:
        notes.append(f"of the {wanted} samples asked for, {available} are available")
    if available < options.norm_samples:
        notes.append(f"of the {options.norm_samples} points for M, {available} are available")
    height, width = samples.shape[-2:]
    action: GridAction | PlacedAction = (
        grid_action(group, height, width, options.interpolation)
        if own is None
        else place(own, parse_layout(layout), samples.shape)
    )
    disk = options.support == "disk"
    check_moves(action, disk=disk)
    feeds = feeds_of(model, acted, available, options)
    count = min(wanted, available)
    intake = Intake(samples, indices)
    source = Source(opening, samples, indices, action, layout, disk, feeds, intake=intake)
    return source, count, notes


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
    """Return the preprocessing that the user gave, or else the model's metadata."""
    chosen = options.preprocess
    if chosen is None and PREPROCESS in model.metadata:
        return preprocess_from_json(model.metadata[PREPROCESS])
    return parse_preprocess(str(chosen)) if isinstance(chosen, str | Path) else chosen
