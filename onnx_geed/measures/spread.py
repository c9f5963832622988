"""M₂: by how much tensors of different samples vary, taken as they pass by, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import kernels

__all__ = ["Spread"]

F64 = NDArray[np.float64]


# Numbers that are converted together, and added in one call.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Spread:
    """Tensors of different samples, and their mean and squares as far as they are added up.

    Parameters
    ----------
    rows : ndarray, shape (points, entries)
        Tensors laid end to end that are not yet added.
    mean : ndarray of float64, shape (entries,), optional
        Mean of those that are.
    total : float
        Σ ‖f − mean f‖² of these.
    added : int
        How many these are.

    Notes
    -----
    They are added one after another, from the first sample on, so that M₂ does not depend on how
    many samples a job has, and no more than the mean stays in memory.
    """

    rows: NDArray[Any]
    mean: F64 | None = None
    total: float = 0.0
    added: int = 0

    def summed(self) -> Spread:
        """Add the rows; they have to follow on what was added, or be the first."""
        if not len(self.rows):
            return self
        mean = np.zeros(self.rows.shape[1]) if self.mean is None else self.mean.copy()
        grown = self.total
        step = max(1, _AT_ONCE // max(1, len(mean)))
        for start in range(0, len(self.rows), step):
            points = np.asarray(self.rows[start : start + step], dtype=np.float64)
            grown = kernels.add_to_spread(points, mean, self.added + start, grown)
        return Spread(self.rows[:0].copy(), mean, grown, self.added + len(self.rows))

    def plus(self, other: Spread) -> Spread:
        """Return the sums over the tensors of both, the same to rounding in either order."""
        a, b = self.summed(), other.summed()
        if a.mean is None or b.mean is None:
            return b if a.mean is None else a
        count, apart = a.added + b.added, b.mean - a.mean
        total = a.total + b.total + float(apart @ apart) * a.added * b.added / count
        return Spread(a.rows, a.mean + apart * (b.added / count), total, count)

    def mean_square(self) -> float | None:
        """Return M₂ = Σ ‖f − mean f‖² / (N − 1); ``None`` of fewer than two tensors."""
        summed = self.summed()
        return summed.total / (summed.added - 1) if summed.added > 1 else None

    def norm(self) -> float | None:
        """Return the root mean square of ‖f‖, which tells M₂ from rounding."""
        summed = self.summed()
        if summed.mean is None:
            return None
        square = float(np.square(summed.mean).sum()) + summed.total / summed.added
        return float(np.sqrt(square))
