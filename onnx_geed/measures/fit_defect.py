"""How far fitted maps are from a representation, and a representation near them."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Group
from onnx_geed.measures.fit_solving import polar
from onnx_geed.measures.one_thread import in_one_thread
from onnx_geed.whole import whole

__all__ = ["as_representation", "defect_bytes", "defect_of_matrices", "defect_of_permutations"]

F64 = NDArray[np.float64]


# Numbers of one array of products at most: 16 MiB.
_NUMBERS = 1 << 21


# The mean over a group is taken again this often at most: near a representation it doubles the
# number of digits each time.
_ROUNDS = 50


# Side of a matrix up to which its eigenvectors are taken: some seconds, and some 100 MiB.
_MOST_SIDE = 2048


# Eigenvalues that differ by less are one, and products of elements are elements.
_SAME = 1e-9


def defect_of_matrices(matrices: F64, gram: F64, table: NDArray[np.int64]) -> tuple[float, float]:
    """Return how far matrices are from a representation, as the data see it.

    Parameters
    ----------
    matrices : ndarray of float64, shape (n, C, C)
        ρ(g).
    gram : ndarray of float64, shape (C, C)
        A = Σ Z_e Z_eᵀ.
    table : ndarray of int64, shape (n, n)
        The group's multiplication table.

    Returns
    -------
    median, largest : float
        Of ‖(ρ(g)ρ(h) − ρ(gh)) A^½‖ / ‖ρ(gh) A^½‖ over g, h ≠ e; 0 / 0 is 0.
    """
    n, channels = matrices.shape[:2]
    root = _root(gram)
    away, whole = np.zeros((n, n)), np.zeros(n)
    step = max(1, _NUMBERS // (n * channels))
    for start in range(0, root.shape[1], step):
        part = root[:, start : start + step]
        # ρ(h) A^½ of all elements side by side.
        moved = np.concatenate([rho @ part for rho in matrices], axis=1)
        by_element = moved.reshape(channels, n, -1)
        whole += np.einsum("ihj,ihj->h", by_element, by_element)
        for g in range(1, n):
            product = (matrices[g] @ moved).reshape(by_element.shape)
            for h in range(1, n):
                away[g, h] += np.square(product[:, h] - by_element[:, table[g, h]]).sum()
    return _summary(away, whole[table])


def defect_bytes(order: int, channels: int) -> int:
    """Return how many bytes the products of :func:`defect_of_matrices` hold at most."""
    return 3 * 8 * min(max(_NUMBERS, order * channels), order * channels * channels)


def _root(gram: F64) -> F64:
    """Return a matrix (C, r) of the rank of A, whose product with its transpose is A."""
    with whole():
        from scipy.linalg.lapack import dpstrf

    factor, order, rank, _ = dpstrf(gram, lower=1)
    root = np.zeros((len(gram), rank))
    root[order - 1] = np.tril(factor)[:, :rank]
    return root


def defect_of_permutations(
    rows: NDArray[np.int64], gram: F64, table: NDArray[np.int64]
) -> tuple[float, float]:
    """Return how far permutations are from an action.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, C)
        Channels to gather: ``out[c] = in[rows[g, c]]``.
    gram, table : ndarray
        As :func:`defect_of_matrices` takes them.

    Returns
    -------
    median, largest : float
        As :func:`defect_of_matrices` of their matrices; exactly 0 where each of them composes.
    """
    n, square = len(rows), np.diag(gram)
    away = np.zeros((n, n))
    for g in range(1, n):
        for h in range(1, n):
            # Gathered by h first, then by g.
            a, b = rows[h][rows[g]], rows[table[g, h]]
            a, b = a[a != b], b[a != b]
            away[g, h] = max(0.0, (square[a] + square[b] - 2 * gram[a, b]).sum())
    return _summary(away, np.full((n, n), square.sum()))


def _summary(away: F64, whole: F64) -> tuple[float, float]:
    """Return the median and the largest root of a ratio of squares over pairs without e."""
    away, whole = away[1:, 1:].ravel(), whole[1:, 1:].ravel()
    if not len(away):
        return 0.0, 0.0
    shares = np.sqrt(np.divide(away, whole, out=np.zeros_like(away), where=away > 0))
    return float(np.median(shares)), float(shares.max())


@in_one_thread()
def as_representation(group: Group, matrices: F64, gram: F64) -> tuple[F64, tuple[float, float]]:
    """Return a representation near fitted orthogonal matrices.

    Parameters
    ----------
    group : Group
        The acting group.
    matrices : ndarray of float64, shape (n, C, C)
        ρ(g), orthogonal.
    gram : ndarray of float64, shape (C, C)
        A, in which the defect is measured.

    Returns
    -------
    matrices : ndarray of float64, shape (n, C, C)
        Of a cyclic group a true representation: the eigenangles of a generator snapped to the n-th
        roots of unity, and its powers. Of others, means over the group repeated for as long as the
        defect falls; where that ends at none, a representation that overlaps with the fit.
    defect : tuple of (float, float)
        What is left of it, median and largest: more than rounding only where there are too many
        channels for the last step.

    Raises
    ------
    GeedError
        If products of the group's elements are no elements.
    """
    if not group.is_closed:
        raise GeedError(
            f"group {group.name} holds only some elements of a larger group, so a fit cannot be "
            "made a representation: leave --fit-representation out, or take a complete group"
        )
    powers = _powers(group)
    if powers is not None:
        matrices = _of_roots(matrices[powers[1 % group.order]], powers)
        return matrices, defect_of_matrices(matrices, gram, group.table)
    start, defect = matrices, defect_of_matrices(matrices, gram, group.table)
    for _ in range(_ROUNDS):
        nearer = _mean_over_group(matrices, group.table)
        left = defect_of_matrices(nearer, gram, group.table)
        if not left[1] < defect[1]:
            break
        matrices, defect = nearer, left
    if _compose(matrices, group.table):
        return matrices, defect
    overlapping = _overlapping(start, group.table)
    if overlapping is None:
        return matrices, defect
    return overlapping, defect_of_matrices(overlapping, gram, group.table)


def _compose(matrices: F64, table: NDArray[np.int64]) -> bool:
    """Whether products of matrices are those of their elements, also where data see nothing."""
    pairs = zip(matrices, table, strict=True)
    return all(np.abs(rho @ matrices - matrices[row]).max() <= _SAME for rho, row in pairs)


def _powers(group: Group) -> list[int] | None:
    """Return the powers of the first element that generates a group, from e on."""
    for g in range(min(1, group.order - 1), group.order):
        powers = [0]
        while (further := int(group.table[powers[-1], g])) != 0:
            powers.append(further)
        if len(powers) == group.order:
            return powers
    return None


def _of_roots(generator: F64, powers: list[int]) -> F64:
    """Return the powers of the matrix near an orthogonal one whose n-th power is the identity."""
    with whole():
        from scipy.linalg import schur

    n = len(powers)
    blocks, basis = schur(generator, output="real")
    turns = _turns(blocks, n)
    matrices = np.empty((n, *generator.shape))
    for power, g in enumerate(powers):
        turned = basis.copy()
        for columns, k in turns:
            angle = 2 * np.pi * (k * power % n) / n
            cos, sin = np.cos(angle), np.sin(angle)
            if len(columns) == 1:
                turned[:, columns] *= np.round(cos)
            else:
                turned[:, columns] = basis[:, columns] @ np.array([[cos, -sin], [sin, cos]])
        np.matmul(turned, basis.T, out=matrices[g])
    matrices[0] = np.eye(len(generator))
    return matrices


def _turns(blocks: F64, n: int) -> list[tuple[list[int], int]]:
    """Return columns of a Schur form, one or two together, with by how many n-th they turn."""
    turns: list[tuple[list[int], int]] = []
    odd: list[int] = []
    i = 0
    while i < len(blocks):
        if i + 1 < len(blocks) and blocks[i + 1, i] != 0:
            a, b, c, d = blocks[i : i + 2, i : i + 2].ravel()
            turns.append(([i, i + 1], round(np.arctan2(c - b, a + d) / (2 * np.pi) * n)))
            i += 2
            continue
        if blocks[i, i] > 0:
            turns.append(([i], 0))
        elif n % 2 == 0:
            turns.append(([i], n // 2))
        else:
            odd.append(i)
        i += 1
    # −1 is no root of an odd order: two of them turn by the nearest angle, one alone stays.
    while len(odd) > 1:
        turns.append(([odd.pop(0), odd.pop(0)], n // 2))
    return turns + [([i], 0) for i in odd]


def _mean_over_group(matrices: F64, table: NDArray[np.int64]) -> F64:
    """Return the polar factors of the means over h of ρ(gh) ρ(h)ᵀ."""
    nearer = np.array([polar(mean) for mean in _means(matrices, table)])
    nearer[0] = np.eye(matrices.shape[1])
    return nearer


def _means(matrices: F64, table: NDArray[np.int64]) -> F64:
    """Return the means over h of ρ(gh) ρ(h)ᵀ."""
    means = np.empty_like(matrices)
    for g, row in enumerate(table):
        total = sum(matrices[gh] @ rho.T for gh, rho in zip(row, matrices, strict=True))
        means[g] = total / len(table)
    return means


def _overlapping(matrices: F64, table: NDArray[np.int64]) -> F64 | None:
    """Return a representation that overlaps with some matrices; ``None`` if too large.

    Notes
    -----
    Vx(g) = ρ(g)x / √n embeds the channels in the functions on the group, where h acts on each by
    λ(h)F(g) = F(gh). Were ρ a representation, V's range would be invariant under that. So its
    projection is averaged over the group, and of the eigenspaces of the mean, which are invariant,
    those with the largest eigenvalues are taken, C dimensions together. λ on these is a
    representation, and the polar factor of V's projection onto them brings it to the channels.
    """
    channels = matrices.shape[1]
    parts = _isotypic(table)
    if parts is None or max(part.shape[1] for part in parts) * channels > _MOST_SIDE:
        return None
    means = _means(matrices, table)
    spaces = [
        (value, part, vectors)
        for part in parts
        for value, vectors in _invariant(part, means, table)
    ]
    chosen: list[F64] = []
    left = channels
    for _, part, vectors in sorted(spaces, key=lambda space: -space[0]):
        if vectors.shape[1] <= left:
            by_kind = vectors.reshape(part.shape[1], channels, -1)
            chosen.append(np.tensordot(part, by_kind, axes=(1, 0)))
            left -= vectors.shape[1]
    basis = np.concatenate(chosen, axis=2)
    by_channel = polar(np.einsum("gca,gcj->aj", matrices, basis, optimize=True))
    flat = basis.reshape(-1, channels)
    made = np.empty_like(matrices)
    for h, moved in enumerate(table.T):
        made[h] = by_channel @ (flat.T @ basis[moved].reshape(flat.shape)) @ by_channel.T
    made[0] = np.eye(channels)
    return made


def _isotypic(table: NDArray[np.int64]) -> list[F64] | None:
    """Return bases (n, m) of the functions on a group, one for each kind of irreducible ones.

    They are the eigenspaces of the convolution with a function of classes, drawn so that no two
    kinds have the same eigenvalue; ``None`` for a group that is too large.
    """
    if len(table) > _MOST_SIDE:
        return None
    inverse = table.argmin(axis=1)
    drawn = np.random.default_rng(0).normal(size=len(table))
    of_class = drawn[table[table, inverse[:, None]]].mean(axis=0)
    values, vectors = np.linalg.eigh((of_class + of_class[inverse])[table[inverse]])
    return np.split(vectors, _steps(values), axis=1)


def _invariant(part: F64, means: F64, table: NDArray[np.int64]) -> list[tuple[float, F64]]:
    """Return eigenvalues of the mean projection on a part, and what they are of, side by side.

    The largest ones, up to the number of channels. The mean is Σ_g L(g) ⊗ M(g) / n, with L(g)F(h) =
    F(g⁻¹h), and M the means of ``_means``.
    """
    kinds, channels = part.shape[1], means.shape[1]
    shifted = np.array([part[row].T @ part for row in table]) / len(table)
    mean = np.tensordot(shifted, means, axes=(0, 0)).transpose(0, 2, 1, 3)
    mean = mean.reshape(kinds * channels, -1)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    # Where a part has one dimension, each vector of it is invariant by itself.
    cuts = np.arange(1, len(values)) if kinds == 1 else _steps(values)
    bounds = itertools.pairwise([0, *cuts, len(values)])
    return [
        (float(values[start:end].mean()), vectors[:, start:end].copy())
        for start, end in bounds
        if len(values) - start <= channels
    ]


def _steps(values: F64) -> NDArray[np.int64]:
    """Return where sorted eigenvalues differ from those before."""
    return np.flatnonzero(np.diff(values) > _SAME) + 1
