"""How far a row changes with the batch that it is in, beside how far rows are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError

__all__ = ["change_text", "dependent", "most_change", "relative_change", "spread"]


def change_text(change: float) -> str:
    """Say by how much a tensor changes with its batch."""
    much = f"{change:.1e} of" if change < 10 else "far more than"
    return f"changes with its batch by {much} its spread"


def most_change(*, half: bool) -> float:
    """Return by how much of their spread rows of a tensor may change with their batch.

    Kernels for other batch sizes add up in another order; where numbers are rounded to half
    precision on the way, that shows more.
    """
    return 2e-2 if half else 1e-3


def dependent(row: str, name: str, change: float, cure: str) -> GeedError:
    """Say that a row of a tensor changes with its batch, and what to do."""
    return GeedError(
        f"{row}: tensor {name!r} {change_text(change)}, so rows of a batch are not independent; "
        f"{cure}"
    )


def relative_change(
    array: NDArray[np.float32], expected: NDArray[np.float32], known_spread: float = 0.0
) -> float:
    """Return by how much rows differ from what is expected, measured by the rows' spread.

    Parameters
    ----------
    array, expected : ndarray of float32, shape (R, ...)
        Rows of a tensor.
    known_spread : float
        The spread of the tensor as far as it is known from other rows.

    Returns
    -------
    float
        The largest difference, divided by the largest one between two expected rows.
    """
    known = np.isfinite(expected)  # NaN and infinity are named later, with their sample
    with np.errstate(invalid="ignore"):  # of infinities, which are left out
        apart = np.abs(np.where(known, array - expected, 0)).max(initial=0.0)
    finite = np.where(known, expected, 0)
    known_spread = max(known_spread, spread(expected))
    # Rows that hardly differ are compared on their own scale.
    scale = max(known_spread, 1e-3 * float(np.abs(finite).max(initial=0.0)), 1e-30)
    return float(apart) / scale


def spread(rows: NDArray[np.float32]) -> float:
    """Return the largest distance of an entry from that of the first row."""
    finite = np.where(np.isfinite(rows), rows, np.float32(0))
    return float(np.abs(finite - finite[:1]).max(initial=0.0))
