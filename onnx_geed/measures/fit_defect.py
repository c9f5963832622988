"""How far fitted maps are from a representation, and the representation nearest to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Group

__all__ = ["as_representation", "defect_of_matrices", "defect_of_permutations"]

F64 = NDArray[np.float64]


def defect_of_matrices(matrices: F64, gram: F64, table: NDArray[np.int64]) -> tuple[float, float]:
    """Return ‖(ρ(g)ρ(h) − ρ(gh)) A^½‖ / ‖ρ(gh) A^½‖, median and largest over g, h ≠ e."""
    n = len(matrices)
    shares = []
    for g in range(1, n):
        for h in range(1, n):
            product = matrices[table[g, h]]
            away = matrices[g] @ matrices[h] - product
            shares.append(_share(((away @ gram) * away).sum(), ((product @ gram) * product).sum()))
    return _summary(shares)


def defect_of_permutations(
    rows: NDArray[np.int64], gram: F64, table: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the defect of permutations, as :func:`defect_of_matrices` of their matrices."""
    n, square = len(rows), np.diag(gram)
    shares = []
    for g in range(1, n):
        for h in range(1, n):
            a, b = rows[h][rows[g]], rows[table[g, h]]
            away = (square[a] + square[b] - 2 * gram[a, b])[a != b].sum()
            shares.append(_share(away, square.sum()))
    return _summary(shares)


def _share(away: float, whole: float) -> float:
    if away <= 0:
        return 0.0
    return float(np.sqrt(away / whole)) if whole > 0 else float("inf")


def _summary(shares: list[float]) -> tuple[float, float]:
    return (float(np.median(shares)), max(shares)) if shares else (0.0, 0.0)


def as_representation(group: Group, matrices: F64, gram: F64) -> tuple[F64, float]:
    """Return a representation near fitted orthogonal matrices, and the defect that is left."""
    return matrices, defect_of_matrices(matrices, gram, group.table)[1]
