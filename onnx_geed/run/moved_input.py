"""A model input that the group moves: its samples, the action on them, and the rows they become."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import (
    Intake,
    Preprocess,
    Samples,
    is_folder,
    open_rows,
    open_samples,
    parse_preprocess,
    preprocess_from_json,
    rows_of,
)
from onnx_geed.errors import GeedError, reason_of, shown
from onnx_geed.groups import (
    LayoutAction,
    PlacedAction,
    orbit_of,
    orbits_of,
    parse_layout,
    within_disk,
)
from onnx_geed.held import ALLOWED
from onnx_geed.model import PREPROCESS, Input, Model, stored_input
from onnx_geed.run.backdrop import Backdrop
from onnx_geed.run.options import Options

__all__ = ["MovedInput", "Opening", "chosen_preprocess", "with_lengths"]


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
    name : str, optional
        The input's name, where DATA hold an array for it.
    dtype : str
        What the input takes, as numpy calls it.
    masked : bool
        Whether padding is told by a mask.
    allowed : int
        Bytes that compressed data, one sample, or labels may use in memory.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name.
    """

    data: Any
    input_shape: tuple[int | None, ...]
    layout: str
    preprocess: Preprocess | None
    name: str | None = None
    dtype: str = "float32"
    masked: bool = False
    allowed: int = ALLOWED
    others: Mapping[str, bool] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...] | None:
        """What the samples follow from; none of an array, which no name tells from another."""
        if not isinstance(self.data, str | Path):
            return None
        others = tuple(sorted(self.others.items()))
        rest = (getattr(self, f.name) for f in fields(self) if f.name not in ("data", "others"))
        return str(self.data), others, *rest

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
            name=self.name,
            dtype=self.dtype,
            masked=self.masked,
            allowed=self.allowed,
            others=self.others,
        )


@dataclass(frozen=True, eq=False)
class MovedInput:
    """An input that the group moves.

    It is pickled as the way to open it: a path or ``module:function``, which is opened where it is
    unpickled, or the array itself.

    Parameters
    ----------
    opening : Opening
        How the samples are opened.
    samples : Samples
        The data, before the action.
    indices : tuple of int
        D, in order; positions are those in it.
    action : LayoutAction or PlacedAction
        The group's action on them.
    seed : int
        Seed of what a sampled group draws for each sample.
    disk : bool
        Whether samples are masked to the disk before the action.
    intake : Intake, optional
        Told of every sample that is read.
    backdrop : Backdrop, optional
        What a family of backgrounds puts samples before.
    members : str
        A digest of what a family, or an action, of one's own makes of the first sample.
    """

    opening: Opening = field(repr=False)
    samples: Samples = field(repr=False)
    indices: tuple[int, ...]
    action: LayoutAction | PlacedAction
    seed: int = 0
    disk: bool = False
    intake: Intake | None = field(default=None, repr=False)
    backdrop: Backdrop | None = field(default=None, repr=False)
    members: str = ""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if isinstance(self.action, PlacedAction):
            _check_pickles(self.action)
        if not isinstance(self.opening.data, str | Path | np.ndarray | Mapping):
            raise GeedError(
                f"--data: {shown(type(self.opening.data).__name__)} cannot be sent to another "
                "process; give a path, module:function or a numpy array"
            )
        sent = (self.opening, self.indices, self.action, self.seed, self.disk, self.backdrop)
        return _reopened, sent

    @property
    def layout(self) -> str:
        """The model's layout of this input."""
        return self.opening.layout

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one model input, in the model's own layout."""
        return parse_layout(self.layout).stored(self.samples.shape)

    def sample(self, position: int) -> NDArray[Any]:
        """Return the sample at a position of D, as the group acts on it."""
        x = self.samples[self.indices[position]]
        if self.intake is not None:
            self.intake.take(position, x)
        return within_disk(x) if self.disk else x

    def orbit(self, position: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the orbit of the sample at a position of D; of a sampled group its own elements.

        What changes values, and moves nothing, acts here: on pixels, before mean and std.

        Parameters
        ----------
        position : int
            Which sample.
        out : ndarray, shape (n, ...), optional
            Array to write into, of the sample's dtype.

        Returns
        -------
        ndarray, shape (n, ...)
        """
        action, x = self.action, self.sample(position)
        family = action.group.family
        if family is not None and not family.geometric:
            index = self.indices[position]
            if self.backdrop is None:
                changed = family.orbit(x, self.seed, index)
            else:
                changed = family.finished(self.backdrop.orbit(x, index, disk=self.disk))
            if out is None:
                return changed
            out[...] = changed
            return out
        if isinstance(action, LayoutAction):
            action = action.behind(self.seed, self.indices[position])
        if out is None:
            out = np.empty((action.group.order, *x.shape), dtype=x.dtype)
        return orbit_of(action, x, out)

    def identity(self, position: int) -> NDArray[Any]:
        """Return the first element of an orbit: the sample itself, but of a sampled group."""
        if self.action.group.behind is None:
            return self.sample(position)
        first: NDArray[Any] = self.orbit(position)[0]
        return first

    def rows(self, positions: Sequence[int], *, orbits: bool) -> NDArray[Any]:
        """Return the model inputs of the orbits, or the identities alone, at positions of D.

        Returns
        -------
        ndarray of float32 or whole numbers, shape (len(positions)·n, ...)
            In the model's layout, sample by sample, identity first.
        """
        shape, dtype = self.samples.shape, self.samples.dtype
        n = self.action.group.order if orbits else 1
        out = np.empty((len(positions), n, *shape), dtype=dtype)
        action = self.action
        if len(positions) > 1 and orbits and isinstance(action, LayoutAction) and self._all_alike:
            orbits_of(action, np.stack([self.sample(p) for p in positions]), out)
            return self.fed(out.reshape(-1, *shape))
        for k, position in enumerate(positions):
            if orbits:
                self.orbit(position, out[k])
            else:
                out[k, 0] = self.identity(position)
        return self.fed(out.reshape(-1, *shape))

    @property
    def _all_alike(self) -> bool:
        """Whether all samples are real numbers, moved by the same elements."""
        group = self.action.group
        drawn = group.behind or group.onward
        moved = group.family is None or group.family.geometric
        return drawn is None and moved and self.samples.dtype == np.float32

    def trip_rows(self, position: int) -> NDArray[Any]:
        """Return the model inputs of x, φ(g⁻¹)φ(g)x for every g but e from the last, and x.

        Of a group that first moves each sample, its first element too.
        """
        x = self.sample(position)
        trips = self.round_trips(x, self.indices[position])
        trips = trips[::-1] if self.trip_count > len(trips) + 1 else trips[:0:-1]
        return self.fed(np.concatenate([x[None], trips, x[None]]))

    @property
    def trip_count(self) -> int:
        """Rows of :meth:`trip_rows`."""
        group = self.action.group
        return group.order + (1 if group.behind is None else 2)

    def round_trips(self, x: NDArray[Any], sample: int) -> NDArray[Any]:
        """Return φ(g⁻¹)φ(g)x for every g.

        Parameters
        ----------
        x : ndarray, shape (..., H, W) and so on
            A sample.
        sample : int
            Its number: of a sampled group it has elements of its own.

        Returns
        -------
        ndarray of the sample's dtype, shape (n, ..., H, W)
            ``x`` itself where g is exact.

        Raises
        ------
        GeedError
            If g is resampled, and its inverse is no element.
        """
        action, exact = self.action, self.action.exact()
        out = np.repeat(x[None], action.group.order, axis=0)
        if isinstance(action, LayoutAction) and action.group.behind and action.group.is_closed:
            there, back = (act(self.seed, sample) for act in (action.behind, action.undoing))
            for g, moved in enumerate(orbit_of(there, x)):
                out[g] = back.apply(g, moved.astype(np.float64))
            return out
        if all(exact):
            return out
        for g, moved in enumerate(orbit_of(action, x)):
            if not exact[g]:
                out[g] = action.apply(action.group.inverse(g), moved.astype(np.float64))
        return out

    def given(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows in the dtype that the model takes."""
        return rows.astype(self.opening.dtype, copy=False)

    def fed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Bring samples (rows, ...), already moved, to what the model is fed."""
        finished = self.samples.finish(rows)
        order = parse_layout(self.layout).planes_last
        back = (order.index(axis) + 1 for axis in range(len(order)))
        return np.ascontiguousarray(finished.transpose(0, *back))


def _check_pickles(action: PlacedAction) -> None:
    """Refuse an action of one's own that no other process can be sent."""
    try:
        pickle.dumps(action)
    except Exception as error:  # whatever a class of one's own raises
        raise GeedError(
            f"action: cannot be sent to another process ({reason_of(error)}); build it from "
            "tables, or from a function defined in a module"
        ) from None


def _reopened(
    opening: Opening,
    indices: tuple[int, ...],
    action: LayoutAction | PlacedAction,
    seed: int,
    disk: bool,
    backdrop: Backdrop | None,
) -> MovedInput:
    """Open an input that was pickled."""
    samples = opening.samples()
    intake = Intake(samples, indices)
    return MovedInput(opening, samples, indices, action, seed, disk, intake, backdrop)


def with_lengths(acted: Input, data: Any, allowed: int, others: Mapping[str, bool]) -> Input:
    """Return an input with the lengths that arrays have where the model's file leaves them free.

    Parameters
    ----------
    acted : Input
        The input.
    data : str, Path, ndarray or mapping of str to ndarray
        DATA.
    allowed : int
        Bytes that may be held of it at once.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name.

    Returns
    -------
    Input

    Raises
    ------
    GeedError
        If the data cannot be read.
    """
    if None not in acted.shape[1:] or is_folder(data):
        return acted
    named = data.get(acted.name, ()) if isinstance(data, Mapping) else data
    path = isinstance(data, str | Path)
    rows = (
        open_rows(str(data), name=acted.name, allowed=allowed, others=others)
        if path
        else rows_of(named)
    )
    shape, ragged = rows.shape, rows.lengths is not None
    rows.close()
    if ragged or len(shape) != len(acted.shape):
        return acted
    pairs = zip(acted.shape[1:], shape[1:], strict=True)
    lengths = [n if declared is None else declared for declared, n in pairs]
    return replace(acted, shape=(acted.shape[0], *lengths))


def chosen_preprocess(
    model: Model, options: Options, acted: str, name: str | None = None
) -> Preprocess | None:
    """Return the preprocessing of an input, by default of the acted-on one.

    The user's is for the acted-on input; the metadata's for the one that it is stored for.
    """
    name = acted if name is None else name
    chosen = options.preprocess if name == acted else None
    if chosen is None and PREPROCESS in model.metadata and stored_input(model, acted) == name:
        return preprocess_from_json(model.metadata[PREPROCESS])
    return parse_preprocess(str(chosen)) if isinstance(chosen, str | Path) else chosen
