"""The source of model inputs: the samples of D, the group's action on them, and their feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import Samples
from onnx_geed.groups import Exactness, LayoutAction, PlacedAction
from onnx_geed.run.feeds import Feed
from onnx_geed.run.first_row import FirstRow
from onnx_geed.run.mask import Mask
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.row_check import RowCheck

__all__ = ["Source"]


@dataclass(frozen=True, eq=False)
class Source:
    """Samples and what the group does to them.

    Parameters
    ----------
    main : MovedInput
        The acted-on input, whose samples are D.
    partners : mapping of str to MovedInput
        Other inputs that the group moves along with it.
    feeds : mapping of str to Feed
        The inputs that it does not move.
    check : RowCheck or FirstRow, optional
        Which rows of a batch are compared with the same ones alone: some, where nothing proves that
        they are independent, else the first.
    mask : Mask, optional
        Which entries are padding.
    place_labels : ndarray of int32, shape (available, ...), optional
        The class of each place of the samples.
    name : str
        Name of the acted-on input.
    """

    main: MovedInput
    partners: Mapping[str, MovedInput] = field(default_factory=dict, repr=False)
    feeds: Mapping[str, Feed] = field(default_factory=dict, repr=False)
    check: RowCheck | FirstRow | None = None
    mask: Mask | None = None
    place_labels: NDArray[np.int32] | None = field(default=None, repr=False)
    name: str = ""

    @property
    def samples(self) -> Samples:
        """The data of the acted-on input, before the action."""
        return self.main.samples

    @property
    def indices(self) -> tuple[int, ...]:
        """D, in order."""
        return self.main.indices

    @property
    def action(self) -> LayoutAction | PlacedAction:
        """The action on the acted-on input."""
        return self.main.action

    @property
    def layout(self) -> str:
        """The model's layout of the acted-on input."""
        return self.main.layout

    @property
    def disk(self) -> bool:
        """Whether samples are masked to the disk before the action."""
        return self.main.disk

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row of the acted-on input, in the model's own layout."""
        return self.main.row_shape

    @property
    def moved(self) -> tuple[MovedInput, ...]:
        """All inputs that the group moves."""
        return (self.main, *self.partners.values())

    def exact(self) -> tuple[Exactness, ...]:
        """How each element moves the inputs: the worst counts."""
        kinds = list(Exactness)
        each = zip(*(moved.action.exact() for moved in self.moved), strict=True)
        return tuple(max(of_inputs, key=kinds.index) for of_inputs in each)

    def over(self, indices: tuple[int, ...], check: RowCheck | FirstRow | None) -> Source:
        """Return the same with a smaller D, and what is checked on it."""
        partners = {k: replace(moved, indices=indices) for k, moved in self.partners.items()}
        main = replace(self.main, indices=indices)
        return replace(self, main=main, partners=partners, check=check)

    def sample(self, position: int) -> NDArray[Any]:
        """Return the sample at a position of D, as the group acts on it."""
        return self.main.sample(position)

    def label(self, position: int) -> str:
        """Name the sample at a position of D, for messages."""
        index, names = self.indices[position], self.samples.names
        return f"sample {index} ({names[index]})" if names else f"sample {index}"

    def rows(self, positions: Sequence[int], *, orbits: bool = True) -> NDArray[Any]:
        """Return the rows of the acted-on input: orbits, or identities alone, at positions of D.

        Returns
        -------
        ndarray of float32 or whole numbers, shape (len(positions)·n, ...)
            In the model's layout, sample by sample, identity first.
        """
        return self.main.rows(positions, orbits=orbits)

    def fed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Bring samples (rows, ...), already moved, to what the model is fed."""
        return self.main.fed(rows)

    def other_inputs(self, positions: Sequence[int], n: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for ``n`` rows of each sample.

        Those that the group moves have the rows of whole orbits, or of identities for one row.
        """
        moved = {k: m.given(m.rows(positions, orbits=n > 1)) for k, m in self.partners.items()}
        return moved | self._fed_as_they_are(positions, n)

    def trip_inputs(self, position: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for the rows of :meth:`MovedInput.trip_rows`."""
        moved = {k: m.given(m.trip_rows(position)) for k, m in self.partners.items()}
        return moved | self._fed_as_they_are([position], self.main.trip_count)

    def _fed_as_they_are(self, positions: Sequence[int], n: int) -> dict[str, NDArray[Any]]:
        samples = np.repeat(np.array([self.indices[p] for p in positions], dtype=np.int64), n)
        return {name: feed.batch(samples) for name, feed in self.feeds.items()}

    def part_of(
        self, feeds: Mapping[str, NDArray[Any]], part: slice | NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for some of the rows that they are for."""
        return {
            name: value if name in self.feeds and self.feeds[name].rows == "whole" else value[part]
            for name, value in feeds.items()
        }
