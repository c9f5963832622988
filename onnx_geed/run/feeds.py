"""The feeds: values of the inputs that the group does not act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.addresses import address_of
from onnx_geed.copies import copy_file
from onnx_geed.data import Preprocess, Samples, array_by_layout, ragged_axes
from onnx_geed.errors import GeedError, nearest, reason_of
from onnx_geed.groups import parse_layout
from onnx_geed.held import ALLOWED, array_head, check_held
from onnx_geed.model import PREPROCESS, Input, Model, inputs, stored_input
from onnx_geed.ordinary import open_ordinary
from onnx_geed.run.moved_input import MovedInput, Opening
from onnx_geed.text import counted

__all__ = [
    "Feed",
    "Still",
    "check_lengths",
    "feeds_of",
    "notes_on_axes",
    "notes_on_preparation",
    "refuse_acted_on",
]

Rows = Literal["samples", "one", "whole"]

# Samples that are looked at for how large their values are.
_LOOKED_AT = 16

# Kinds of numpy types that a runtime takes as numbers, and those that none could be read from.
_NUMBERS, _NO_NUMBERS = "biufc", "OSUMm"

_IF_SCALED = "give float32 values in [0, 1] if the model takes those"


@dataclass(frozen=True)
class Feed:
    """The value of an input that the group does not act on.

    Parameters
    ----------
    values : ndarray
        One row a sample, one row for all, or the whole value.
    rows : {"samples", "one", "whole"}
        Which of these.
    given : numpy dtype, optional
        In which type they were given.
    """

    values: NDArray[Any] = field(repr=False)
    rows: Rows
    given: np.dtype[Any] | None = None

    def batch(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows for a batch that is made of these samples, int64 of shape (R,).

        Of one sample they are a view of its row, however many there are: an orbit may be run in
        pieces, and a runtime copies no more than the piece that it is given.
        """
        if self.rows == "whole":
            return self.values
        if self.rows == "samples" and (samples != samples[0]).any():
            return self.values[samples]
        row = self.values[0 if self.rows == "one" else samples[0]]
        return np.broadcast_to(row, (len(samples), *row.shape))

    @property
    def row_bytes(self) -> int:
        """Bytes of the value of one sample, where samples have rows of their own in a batch."""
        return 0 if self.rows == "whole" else self.values[0].nbytes

    def rows_of(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return what is fed with some samples: one row where it is the same for all of them."""
        if self.rows != "samples":
            return self.values
        rows = self.values[list(indices)]
        return rows[:1] if (rows == rows[:1]).all() else rows


@dataclass(frozen=True, eq=False)
class Still:
    """An input that is read by its layout, and that the group does not move.

    Parameters
    ----------
    opening : Opening
        How its samples are opened.
    samples : Samples
        They themselves.
    """

    opening: Opening
    samples: Samples = field(repr=False)

    @property
    def layout(self) -> str:
        """The model's layout of this input."""
        return self.opening.layout

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one model input, in the model's own layout."""
        return parse_layout(self.layout).stored(self.samples.shape)

    def note(self, name: str, group: str | None) -> str:
        """Return a note that it does not move, under a named group or an action of one's own."""
        why = f"{group} moves none of its axes" if group else "the given action moves another input"
        shape = " × ".join(map(str, self.row_shape))
        return f"input {name} ({self.layout}, {shape}) is fed unmoved: {why}"

    def values(self) -> NDArray[Any]:
        """Return its rows, of all samples."""
        own = self.opening
        return array_by_layout(
            *(own.data, self.samples, own.layout, own.name, own.allowed, own.others)
        )


def check_lengths(model: Model, opened: Mapping[str, MovedInput | Still]) -> None:
    """Make sure that inputs of one axis of points, or of one line, are as long in each sample.

    Parameters
    ----------
    model : Model
        The model.
    opened : mapping of str to MovedInput or Still
        The inputs that are read by their layout, by name.

    Raises
    ------
    GeedError
        If they are not.
    """
    seen: list[tuple[str, str, str, tuple[int, ...]]] = []
    dims = {i.name: i.type.tensor_type.shape.dim for i in model.proto.graph.input}
    for name, own in opened.items():
        lengths = own.samples.lengths
        if lengths is None:
            continue
        axis = 1 + ragged_axes(own.layout)[0]
        letter = parse_layout(own.layout).letters[axis]
        symbol = dims[name][axis].dim_param if dims[name] else ""
        for other, its_letter, its_symbol, its_lengths in seen:
            # Of one name they are one axis; else there may be two, such as two clouds of points.
            one = symbol and symbol == its_symbol and letter == its_letter
            same = lengths == its_lengths or len(lengths) != len(its_lengths)
            if not one or same:
                continue
            pairs = enumerate(zip(its_lengths, lengths, strict=True))
            index, (its, here) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
            raise GeedError(
                f"--data {own.samples.source}: sample {index} has {its} along {letter} in {other}, "
                f"but {here} in {name}: give both the same lengths ({other}_lengths and "
                f"{name}_lengths)"
            )
        seen.append((name, letter, symbol, lengths))


def refuse_acted_on(given: Collection[str], acted: Input) -> None:
    """Refuse to feed the input that the group acts on, whose samples are the data.

    Raises
    ------
    GeedError
        If a value is given for it.
    """
    if acted.name in given:
        raise GeedError(
            f"--feed {acted.name}: is the input that the group acts on, whose samples are --data; "
            "leave it out, or name another one with --input"
        )


def feeds_of(
    model: Model,
    moved: Collection[str],
    acted: Input,
    available: int,
    given: Mapping[str, str | Path | NDArray[Any]],
    allowed: int = ALLOWED,
) -> dict[str, Feed]:
    """Return the values of the inputs that the group does not act on, by name.

    Parameters
    ----------
    model : Model
        The model.
    moved : collection of str
        Names of the inputs that it moves.
    acted : Input
        The main one of them.
    available : int
        Number of samples.
    given : mapping of str to str, Path or ndarray
        The values, or files of them.
    allowed : int
        Bytes that one may take.

    Returns
    -------
    dict of str to Feed

    Raises
    ------
    GeedError
        If there is no such input, one has no value, or a value does not fit.
        If one takes more memory than is allowed.
    """
    others = {i.name: i for i in inputs(model) if i.name not in moved}
    for name in given:
        if name not in others:
            raise GeedError(
                f"--feed {name}: no other input has that name; the model has "
                f"{', '.join(others) or 'none'}.{nearest(name, others)}"
            )
    for other in others.values():
        _check_takes_numbers(other)
    missing = [name for name in others if name not in given]
    if missing:
        raise GeedError(
            f"the model also takes {', '.join(missing)}: give each a value with --feed NAME=FILE "
            "(.npy: one row per sample, or one value for all)"
        )
    feeds = {}
    rows: Rows
    for name, value in given.items():
        other = others[name]
        kind, values = _as_taken(other, value, allowed)
        rank, along = len(other.shape), _batch_axis(model, name, acted.name)
        free = rank > 0 and along in (None, 0)
        free = free and (
            not isinstance(other.shape[0], int)
            or acted.shape[0] == 1
            or acted.shape[0] == other.shape[0]
        )
        if free and values.ndim == rank and len(values) == available and available > 1:
            rows = "samples"
        elif free and values.ndim == rank - 1:
            values, rows = values[None], "one"
        elif free and values.ndim == rank and len(values) == 1:
            rows = "one"
        elif values.ndim == rank and not (free and along == 0):
            rows = "whole"
            _refuse_rows_elsewhere(name, values, along)
        else:
            raise GeedError(
                f"--feed {name}: the input is {other.shape}, but the file holds {values.shape} "
                f"for {counted(available, 'sample')}; give one row per sample, or one value for all"
            )
        feeds[name] = Feed(values, rows, kind)
    return feeds


def notes_on_axes(
    model: Model, acted: Input, feeds: Mapping[str, Feed], available: int
) -> list[str]:
    """Return notes on what may be pictures or rows of samples, and is fed as it is.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on.
    feeds : mapping of str to Feed
        The inputs that are read without a layout, by name.
    available : int
        Number of samples.
    """
    takes = {i.name: np.dtype(i.dtype) for i in inputs(model)}
    notes = [
        f"input {name}: bytes are fed as 0 to 255, since its axes are not stated; --input-layout "
        f"{name}=LETTERS scales pictures by 1/255, and lets a group that moves such axes move them"
        for name, feed in feeds.items()
        if feed.given == np.uint8 and feed.values.ndim > 3 and takes[name].kind == "f"
    ]
    notes += [
        f"input {name}: bytes are fed as 0 to 255; {_IF_SCALED}"
        for name, feed in feeds.items()
        if feed.given == np.uint8 and feed.values.ndim <= 3 and takes[name].kind == "f"
        if feed.values.size and feed.values.max() > 1
    ]
    if PREPROCESS in model.metadata and (name := stored_input(model, acted.name)) in feeds:
        notes.append(
            f"input {name}: the model's preprocessing is not applied to it, since its axes are not "
            f"stated; --input-layout {name}=LETTERS applies it"
        )
    for name, feed in feeds.items():
        if feed.rows == "whole" and (axis := _like_samples(feed.values, available)):
            notes.append(
                f"input {name}: all of its value is fed with every sample, though axis {axis} has "
                f"{available} entries, as there are samples; a value of each sample's own needs "
                "the samples along axis 0"
            )
    return notes


def _like_samples(values: NDArray[Any], available: int) -> int:
    """Return an axis but the first along which there are as many values as samples; else 0."""
    for axis in range(1, values.ndim):
        if values.shape[axis] == available > 1:
            first = np.take(values, [0], axis=axis)
            if not np.array_equal(np.broadcast_to(first, values.shape), values, equal_nan=True):
                return axis
    return 0


def notes_on_preparation(
    opened: Mapping[str, MovedInput | Still], fed: Collection[str]
) -> list[str]:
    """Return notes on how inputs are prepared that are read by their layout.

    Values of one's own are preprocessed as the data of that input are; bytes that are no pictures
    are not scaled.

    Parameters
    ----------
    opened : mapping of str to MovedInput or Still
        The inputs that are read by their layout, by name.
    fed : collection of str
        Names of the inputs that a user gives values of.
    """
    notes = [
        f"input {name}: --feed {name} is preprocessed as the model's file says of this input, as "
        "its data would be: give values from before that"
        for name in fed
        if name in opened and opened[name].samples.preprocess != Preprocess()
    ]
    return notes + [
        f"input {name} ({own.layout}): bytes are fed as 0 to 255, since only inputs with a plane "
        f"(H and W) are scaled by 1/255; {_IF_SCALED}"
        for name, own in opened.items()
        if own.samples.unscaled and own.samples.preprocess.scale == 1 and _beyond_one(own)
    ]


def _beyond_one(own: MovedInput | Still) -> bool:
    """Whether some of the first samples hold more than 0 and 1, which are one-hot or a mask."""
    first = range(len(own.samples)) if isinstance(own, Still) else own.indices
    return any(own.samples[index].max() > 1 for index in first[:_LOOKED_AT])


def _batch_axis(model: Model, name: str, acted: str) -> int | None:
    """Return which axis of an input the file calls as the first one of the acted-on input.

    ``None`` where no axis of it has that name, or the first one has none.
    """
    axes = {i.name: i.type.tensor_type.shape.dim for i in model.proto.graph.input}
    batch = axes[acted][0].dim_param if axes[acted] else ""
    called = [dim.dim_param for dim in axes[name]]
    return called.index(batch) if batch and batch in called else None


def _refuse_rows_elsewhere(name: str, values: NDArray[Any], along: int | None) -> None:
    """Refuse a value for each sample along an axis that is not the first: one is fed for all."""
    if along is None or values.shape[along] < 2:
        return
    if (values == values.take([0], axis=along)).all():
        return
    raise GeedError(
        f"--feed {name}: the samples lie along axis {along}, and the file holds "
        f"{values.shape[along]} that differ, {values.shape}; give the value of one sample, which "
        "is fed for all, or export the model with the samples on axis 0 and give one row per sample"
    )


def _as_taken(
    other: Input, value: str | Path | NDArray[Any], allowed: int
) -> tuple[np.dtype[Any], NDArray[Any]]:
    """Return the type of what is given for an input, and its values in the input's own type."""
    takes, given = np.dtype(other.dtype), _loaded_array(other.name, value, allowed)
    try:
        if given.dtype.kind in _NO_NUMBERS and given.dtype != object:
            raise ValueError
        return given.dtype, given.astype(takes, copy=False)
    except (ValueError, TypeError, OverflowError):
        raise GeedError(
            f"--feed {other.name}: the input takes {takes} values, but the array holds "
            f"{given.dtype} values that are not numbers; give an array of numbers"
        ) from None


def _check_takes_numbers(other: Input) -> None:
    """Refuse an input of texts, sequences or maps, which no array of numbers is a value of."""
    try:
        kind = np.dtype(other.dtype).kind
    except TypeError:  # that of a sequence or a map
        kind = "O"
    if kind in _NO_NUMBERS:
        takes = "texts" if other.dtype == "object" else f"{other.dtype} values"
        raise GeedError(
            f"input {other.name} takes {takes}, and --feed gives arrays of numbers alone; export "
            "the model without this input, or with one that takes numbers"
        )


def _loaded_array(name: str, value: str | Path | NDArray[Any], allowed: int) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if (address := address_of(value)) is not None:
        copy = copy_file(address)
        with copy.telling():
            return _loaded_array(name, copy.path, allowed)
    where = f"--feed {name}={value}"
    try:
        with open_ordinary(value, where) as file:
            if file.read(2) != b"PK":
                file.seek(0)
                check_held(where, array_head(file).size, allowed)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GeedError(f"{where}: not a readable .npy file ({reason_of(error)})") from None
    if not isinstance(loaded, np.ndarray):
        raise GeedError(f"{where}: holds several arrays; give an .npy file")
    if loaded.dtype.kind not in _NUMBERS:
        raise GeedError(f"{where}: holds {loaded.dtype} values, not numbers")
    return loaded
