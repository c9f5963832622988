"""The first row of a run, in its batch and alone: a proof of independence, held against data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.run.joining import Rows
from onnx_geed.run.row_change import dependent, most_change, relative_change, spread
from onnx_geed.run.row_check import Beside, RowCheck, nothing_beside
from onnx_geed.run.session import Runner, Session

__all__ = ["FirstRow", "unmoved"]

F32 = NDArray[np.float32]


@dataclass(eq=False)
class FirstRow:
    """Compares the first row of the first job with the same row of the trial, once a tensor.

    The trial ran it alone, so nothing is run again. Its activations are let go then; what is
    exposed in a later pass is run alone once more.

    Parameters
    ----------
    row : ndarray of float32, shape (1, ...)
        The model input.
    others : mapping of str to ndarray
        The other inputs of that row.
    tried : mapping of str to ndarray of float32, or None
        Activations of some rows that were run alone, by tensor, this one being the first. ``None``
        once some were compared.
    runtime : object
        What ran it: another network's row is another one.
    cure : str
        What to do where they differ.
    half : frozenset of str
        Tensors on whose way numbers are rounded to half precision.
    """

    row: F32
    others: Mapping[str, NDArray[Any]]
    tried: Mapping[str, F32] | None
    runtime: object
    cure: str
    half: frozenset[str] = frozenset()
    _seen: set[str] = field(default_factory=set, init=False, repr=False)

    def __reduce__(self) -> tuple[type[RowCheck], tuple[object, ...]]:
        # Elsewhere, to run a row again is less than to send its activations there.
        return RowCheck, ({}, 1, 0, False, self.cure, True, self.half)

    def over(self, count: int) -> FirstRow:
        """Return what checks so many orbits of D: the same."""
        return self

    def wants(
        self, positions: Sequence[int], total: int, rows: F32, beside: Beside = nothing_beside
    ) -> bool:
        """Say whether a job is to be checked, as :meth:`RowCheck.wants` does."""
        return 0 in positions

    def compare(
        self,
        runner: Runner,
        rows: F32,
        arrays: Mapping[str, F32],
        run: Callable[[int], Mapping[str, F32]],
        label: Callable[[int], str],
        others: Mapping[str, NDArray[Any]],
        beside: Sequence[NDArray[Any]] = (),
    ) -> None:
        """Compare a job's first row with the same one alone, as :meth:`RowCheck.compare` does.

        Rows that are all the same would hide whether they are mixed: such a job is passed over.

        Raises
        ------
        GeedError
            If it differs by more than a thousandth of the spread between rows (a fiftieth where
            numbers are rounded to half precision), naming its sample.
        """
        if self._seen.issuperset(arrays) or len(unmoved(rows)) == len(rows):
            return
        tried, self.tried = self.tried, None
        same = isinstance(runner, Session) and runner.runtime is self.runtime
        # A job may begin with another sample, or in the midst of an orbit.
        if tried is None or not same or not self._is_row(rows[:1], others):
            tried = run(0)
        for name, together in arrays.items():
            if name in self._seen:
                continue
            parts = tried.given if isinstance(tried, Rows) else tried
            alone = parts[name] if name in parts else tried[name]
            # Nearly always they are equal to the last bit, which is seen at once.
            if np.array_equal(together[:1], alone[:1]):
                continue
            # How far rows are apart, the rows of the job tell; of maps the trial kept this one.
            known = max(spread(alone), spread(together))
            change = relative_change(together[:1], alone[:1], known)
            if change > most_change(half=name in self.half):
                raise dependent(label(0), name, change, self.cure)
        self._seen.update(arrays)

    def _is_row(self, row: F32, others: Mapping[str, NDArray[Any]]) -> bool:
        """Whether this is the row of the trial, in all of its inputs.

        An element may leave a sample as it is in one input, and move it in another.
        """
        return np.array_equal(row, self.row) and all(
            np.array_equal(value, self.others[name]) for name, value in others.items()
        )


def unmoved(rows: F32) -> frozenset[int]:
    """Return which rows are the same as the first."""
    return frozenset(i for i, row in enumerate(rows) if np.array_equal(row, rows[0]))
