"""The slow twin of fitted actions (spec section 10), by dense least squares and plain loops.

Without the package. Maps come as ``z`` and ``x``, lists over elements of arrays (N, C, places):
what stands for f(gx) and f(x), moved to the same places; vectors have one place. Element 0 is e.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import naive_letters
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Fitted = Callable[[list[int], float, int], Floats]

LAMBDAS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


def side_by_side(maps: Floats, samples: Sequence[int]) -> Floats:
    """Maps (N, C, places) of some samples as one matrix (C, samples · places)."""
    columns = [maps[i][:, p] for i in samples for p in range(maps.shape[2])]
    return np.stack(columns, axis=1) if columns else np.zeros((maps.shape[1], 0))


def mean_square(maps: Floats, samples: Sequence[int]) -> float:
    """tr(A)/C."""
    return float(sum((maps[i] ** 2).sum() for i in samples)) / maps.shape[1]


def linear(z: Floats, x: Floats, samples: Sequence[int], lambda_: float) -> Floats:
    """argmin Σ ‖z − ρx‖² + λ' ‖ρ − I‖², λ' = λ tr(A)/C, by least squares with rows stacked."""
    channels, shrink = z.shape[1], np.sqrt(lambda_ * mean_square(x, samples))
    if shrink == 0:
        return np.eye(channels)
    rows = np.concatenate([side_by_side(x, samples).T, shrink * np.eye(channels)])
    wanted = np.concatenate([side_by_side(z, samples).T, shrink * np.eye(channels)])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0].T


def cross(z: Floats, x: Floats, samples: Sequence[int]) -> Floats:
    """E = Σ z xᵀ."""
    total = np.zeros((z.shape[1], z.shape[1]))
    for i in samples:
        for p in range(z.shape[2]):
            total += np.outer(z[i][:, p], x[i][:, p])
    return total


def polar(matrix: Floats) -> Floats:
    """M (MᵀM)^−½, by eigenvalues."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return matrix @ vectors @ np.diag(values**-0.5) @ vectors.T


def symmetric(
    z: list[Floats], x: list[Floats], g: int, inverse: int | None, samples: Sequence[int]
) -> Floats:
    """S(g) = ½ (E(g) + E(g⁻¹)ᵀ); E(g) where the inverse tells nothing."""
    if inverse is None:
        return cross(z[g], x[g], samples)
    return (cross(z[g], x[g], samples) + cross(z[inverse], x[inverse], samples).T) / 2


def orthogonal(
    z: list[Floats],
    x: list[Floats],
    g: int,
    inverse: int | None,
    samples: Sequence[int],
    lambda_: float,
) -> Floats:
    shrink = lambda_ * mean_square(x[g], samples)
    if shrink == 0:
        return np.eye(z[g].shape[1])
    return polar(symmetric(z, x, g, inverse, samples) + shrink * np.eye(z[g].shape[1]))


def fit(
    kind: str,
    z: list[Floats],
    x: list[Floats],
    inverse: Sequence[int | None],
    lambda_: float,
    samples: Sequence[int],
) -> list[Floats]:
    """ρ of all elements, from some samples."""
    channels = z[0].shape[1]
    maps = [np.eye(channels)]
    for g in range(1, len(z)):
        if kind == "linear":
            maps.append(linear(z[g], x[g], samples, lambda_))
        else:
            maps.append(orthogonal(z, x, g, inverse[g], samples, lambda_))
    return maps


def best_lambda(
    kind: str,
    z: list[Floats],
    x: list[Floats],
    inverse: Sequence[int | None],
    folds: int = 5,
    elements: Sequence[int] | None = None,
) -> tuple[float, list[float]]:
    """λ by refitting on the samples that are kept, and the losses of all."""
    count = len(z[0])
    folds = min(folds, count)
    losses = []
    for lambda_ in LAMBDAS:
        loss = 0.0
        for fold in range(folds):
            kept = [i for i in range(count) if i % folds != fold]
            held = [i for i in range(count) if i % folds == fold]
            maps = fit(kind, z, x, inverse, lambda_, kept)
            for g in elements or range(1, len(z)):
                for i in held:
                    loss += float(((z[g][i] - maps[g] @ x[g][i]) ** 2).sum())
        losses.append(loss)
    # The polar factor of a symmetric matrix is the same for a stretch of λ: then the least of them.
    equal = [loss <= min(losses) * (1 + 1e-11) for loss in losses]
    return LAMBDAS[equal.index(True)], losses


def cosine(u: Floats, v: Floats) -> float:
    a, b = np.sqrt((u**2).sum()), np.sqrt((v**2).sum())
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    return float((u * v).sum() / (a * b))


def gains(
    z: list[Floats], x: list[Floats], g: int, inverse: int | None, *, of_maps: bool
) -> Floats:
    """What channel c of the result gains if it is channel p of the other."""
    samples, channels = range(len(z[0])), z[0].shape[1]
    if not of_maps:
        total = symmetric(z, x, g, inverse, samples)
        return total + 1e-9 * mean_square(x[0], samples) * np.eye(channels)
    total = np.zeros((channels, channels))
    for c, p in itertools.product(range(channels), repeat=2):
        for i in samples:
            total[c, p] += cosine(z[g][i, c], x[g][i, p])
    return total + 1e-9 * np.eye(channels)


def assignment(gain: Floats) -> list[int]:
    """The best of all permutations."""
    channels = len(gain)
    return max(
        (list(p) for p in itertools.permutations(range(channels))),
        key=lambda p: sum(gain[c, p[c]] for c in range(channels)),
    )


def permutation_matrix(row: Sequence[int]) -> Floats:
    """The matrix that gathers: (M y)[c] = y[row[c]]."""
    matrix = np.zeros((len(row), len(row)))
    for c, source in enumerate(row):
        matrix[c, source] = 1
    return matrix


def defect(maps: Sequence[Floats], gram: Floats, table: Any) -> tuple[float, float]:
    """‖(ρ(g)ρ(h) − ρ(gh)) A^½‖ / ‖ρ(gh) A^½‖: median and largest."""
    values, vectors = np.linalg.eigh(gram)
    root = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    shares = []
    for g, h in itertools.product(range(1, len(maps)), repeat=2):
        product = maps[table[g][h]]
        away = np.linalg.norm((maps[g] @ maps[h] - product) @ root)
        whole = np.linalg.norm(product @ root)
        shares.append(float(away / whole) if away else 0.0)
    return float(np.median(shares)), max(shares)


def compared(
    group: str, letters: str, y: Floats
) -> tuple[list[Floats], list[Floats], list[int | None]]:
    """What is fitted to what: maps ``z``, ``x`` of each element, and its inverse where that counts.

    ``y`` (N, |G|, ...) has the axes of ``letters`` after samples and elements, the channels first.
    """
    names = naive_letters.elements(group)
    z, x, inverses = [], [], []
    for g, name in enumerate(names):
        exact = naive_letters.is_exact(group, name, letters, y.shape[2:])
        back = naive_letters.inverse(group, name)
        left, right = [], []
        for orbit in y:
            if exact:
                left.append(naive_letters.act(group, back, letters, orbit[g]))
                right.append(np.array(orbit[0], dtype=np.float64))
            else:
                left.append(np.array(orbit[g], dtype=np.float64))
                right.append(naive_letters.act(group, name, letters, orbit[0]))
        z.append(np.array(left).reshape(len(y), y.shape[2], -1))
        x.append(np.array(right).reshape(len(y), y.shape[2], -1))
        inverses.append(names.index(back) if exact else None)
    return z, x, inverses


def table(group: str) -> list[list[int]]:
    names = naive_letters.elements(group)
    return [[names.index(naive_letters.multiply(group, a, b)) for b in names] for a in names]
