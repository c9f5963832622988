"""From sums over samples to the permutations, rotations or linear maps that fit them best."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import FitKind
from onnx_geed.threads import Threads
from onnx_geed.whole import whole

__all__ = [
    "LAMBDAS",
    "WHOLE",
    "Sums",
    "fitted_lambda",
    "fitted_linear",
    "fitted_orthogonal",
    "fitted_permutations",
    "polar",
]

F64 = NDArray[np.float64]


#: λ: shrinkage to the identity that is tried, in units of the mean square of a channel.
LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


#: Channels up to which λ is chosen over all folds and elements, several side by side; above, over
#: two folds of one element, one after another.
WHOLE = 512


# Losses that differ by less than this share of all squares are equal, and the least λ is taken.
_EQUAL = 1e-12


# The diagonal's bonus: where permutations fit equally well, a channel stays in place.
_BONUS = 1e-9


# Rows at a time of a product of which only a sum is wanted.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over samples, from which an action is fitted.

    Parameters
    ----------
    values : ndarray of float64, shape (n, C, C)
        Where the fitted matrices will lie; holds the first fold's sums before.
    folds : list of list of ndarray of float64, shape (C, C)
        E(g) of each element by fold, A in place of E(e); S(g) where g⁻¹ tells of the same map, and
        none for the larger of the two.
    inverse : tuple of (int or None)
        g⁻¹, where the sums of both are one.
    keys : tuple
        Key of an element's own A; ``None`` where it is that of e.
    own : dict of list of ndarray of float64, shape (C, C)
        A of elements that are resampled, by key and fold; of linear maps alone.
    traces : list of ndarray of float64, shape (folds,)
        tr(A) of each element, by fold.
    """

    values: F64
    folds: list[list[F64]]
    inverse: tuple[int | None, ...]
    keys: tuple[Any, ...]
    own: dict[Any, list[F64]]
    traces: list[F64]

    @property
    def fitted(self) -> list[int]:
        """Elements that are fitted from sums of their own."""
        return [g for g, folds in enumerate(self.folds) if g and folds]

    @property
    def unit(self) -> F64:
        """tr(A)/C of each element: what λ is in units of."""
        of_channel: F64 = np.array([t.sum() for t in self.traces]) / self.values.shape[1]
        return of_channel

    def gram(self, g: int) -> list[F64]:
        """Return A of an element by fold."""
        return self.folds[0] if self.keys[g] is None else self.own[self.keys[g]]

    def add_up(self) -> None:
        """Put the sums over all folds in the place of the first one's."""
        for folds in (*self.folds, *self.own.values()):
            while len(folds) > 1:
                folds[0] += folds.pop()


def fitted_permutations(sums: Sums, bonus_unit: float, step: Callable[[], None]) -> NDArray[Any]:
    """Return the permutations that gain most.

    Parameters
    ----------
    sums : Sums
        Of an element, what channel c gains from each channel p of x.
    bonus_unit : float
        In units of which the diagonal has a bonus of 1e-9.
    step : callable
        Called after each element.

    Returns
    -------
    ndarray of int64, shape (n, C)
        Channels to gather: ``out[c] = in[values[g, c]]``.

    Notes
    -----
    Of g = g⁻¹ the sums are symmetric, so that each cycle gains as much backwards, and the last bit
    would choose. Choice: cycles of even length are split into pairs, which gain the same, and of an
    odd one's two directions the lexicographically first is taken. It stays, since no involution
    gains as much. Of cycles that gain the same by chance, or by channels that are the same, the
    last bit still chooses; of the latter, no prediction depends on it.
    """
    with whole():
        from scipy.optimize import linear_sum_assignment

    n, channels = sums.values.shape[:2]
    rows = np.tile(np.arange(channels), (n, 1))
    for g in sums.fitted:
        gain = sums.values[g]
        gain[np.diag_indices(channels)] += _BONUS * bonus_unit
        rows[g] = linear_sum_assignment(gain, maximize=True)[1]
        inverse = sums.inverse[g]
        if inverse == g:
            rows[g] = _of_order_two(rows[g])
        elif inverse is not None:
            rows[inverse] = np.argsort(rows[g])
        step()
    return rows


def _of_order_two(row: NDArray[Any]) -> NDArray[Any]:
    """Return the same for both directions of a cycle, and for both halves of its steps.

    Others that gain as much, as of channels that are the same, stay apart.
    """
    chosen = row.copy()
    left = set(np.flatnonzero(row[row] != np.arange(len(row))).tolist())
    while left:
        cycle = [min(left)]
        while (after := int(row[cycle[-1]])) != cycle[0]:
            cycle.append(after)
        left.difference_update(cycle)
        if cycle[-1] < cycle[1]:  # the same cycle backwards
            cycle[1:] = cycle[:0:-1]
        if len(cycle) % 2:
            chosen[cycle] = [*cycle[1:], cycle[0]]
        else:
            firsts, seconds = cycle[::2], cycle[1::2]
            chosen[firsts], chosen[seconds] = seconds, firsts
    return chosen


def fitted_lambda(sums: Sums, kind: FitKind, step: Callable[[], None]) -> float:
    """Return the λ under which maps fitted to the other folds predict a fold's samples best.

    Parameters
    ----------
    sums : Sums
        Whose elements with more than one fold are tried.
    kind : {"orthogonal", "linear"}
        What is fitted.
    step : callable
        Called after each fold of an element.

    Returns
    -------
    float
        Of ``LAMBDAS``, that of the least Σ ‖Z_g − ρ(g) Z_e‖² over held-out samples and elements;
        the least of several that are equal, as where all activations are zero.
    """
    folds = len(sums.folds[0])
    tasks = [(g, k) for g in sums.fitted if len(sums.folds[g]) == folds for k in range(folds)]
    one = functools.partial(_losses, sums, kind)
    total = np.zeros(len(LAMBDAS))
    for losses in _side_by_side(one, tasks, sums.values.shape[1]):
        total += losses
        step()
    whole = sum(sums.traces[g][k] for g, k in tasks)
    equal = total <= total.min() + _EQUAL * whole
    return LAMBDAS[int(np.flatnonzero(equal)[0])]


def _side_by_side(
    work: Callable[[tuple[int, int]], F64], tasks: Sequence[tuple[int, int]], channels: int
) -> Iterable[F64]:
    """Yield results in order; one task after another where each holds large matrices."""
    if channels > WHOLE:
        yield from map(work, tasks)
        return
    with Threads(max(1, min(len(tasks), os.cpu_count() or 1))) as pool:
        yield from pool.map(work, tasks)


def _losses(sums: Sums, kind: FitKind, task: tuple[int, int]) -> F64:
    """Return Σ ‖Z_g − ρ Z_e‖² of a fold for each λ, up to what is the same for all."""
    g, fold = task
    channels = sums.values.shape[1]
    cross, held = _rest(sums.folds[g], fold), sums.folds[g][fold]
    trace = float(np.delete(sums.traces[g], fold).sum())
    shrinks = [lambda_ * trace / channels for lambda_ in LAMBDAS]
    if not trace:  # the identity is all that is known, under any λ
        return np.zeros(len(LAMBDAS))
    if kind == "linear":
        gram, gram_held = _rest(sums.gram(g), fold), sums.gram(g)[fold]
        maps = (_ridge(_factor(gram, shrink), cross.copy(), shrink) for shrink in shrinks)
        return np.array([_squares(rho, gram_held) - 2 * np.vdot(rho, held) for rho in maps])
    inverse = sums.inverse[g]
    if inverse == g:
        # Symmetric: λ moves the eigenvalues, of which the polar factor keeps the signs.
        values, vectors = np.linalg.eigh(cross)
        gains = np.einsum("ij,ij->j", vectors, held @ vectors)
        return np.array([-2 * (_signs(values + s) * gains).sum() for s in shrinks])
    # g⁻¹ is held against its own samples at once: Σ ρ·E(g) + ρᵀ·E(g⁻¹) = 2 Σ ρ·S(g).
    count = 2 if inverse is None else 4
    return np.array([-count * np.vdot(polar(_shifted(cross, s)), held) for s in shrinks])


def _signs(values: F64) -> F64:
    return np.where(values < 0, -1.0, 1.0)


def _rest(folds: Sequence[F64], fold: int) -> F64:
    """Return the sums over all folds but one."""
    return functools.reduce(np.add, [f for k, f in enumerate(folds) if k != fold])


def _shifted(matrix: F64, shrink: float) -> F64:
    shifted = matrix.copy()
    shifted[np.diag_indices(len(matrix))] += shrink
    return shifted


def fitted_orthogonal(sums: Sums, lambda_: float, step: Callable[[], None]) -> None:
    """Put the polar factors of S(g) + λ tr(A)/C · I in the place of the sums, A as it is.

    Parameters
    ----------
    sums : Sums
        Added up.
    lambda_ : float
        λ.
    step : callable
        Called after each element.
    """
    units = sums.unit
    for g in sums.fitted:
        rho, inverse = sums.values[g], sums.inverse[g]
        _diagonal(rho)[:] += lambda_ * units[g]
        if not units[g]:
            rho[:] = np.eye(len(rho))
        elif inverse == g:
            values, vectors = np.linalg.eigh(rho)
            np.matmul(vectors * _signs(values), vectors.T, out=rho)
        else:
            rho[:] = polar(rho)
        if inverse is not None and inverse != g:
            sums.values[inverse] = rho.T
        step()


def fitted_linear(sums: Sums, lambda_: float, step: Callable[[], None]) -> None:
    """Put (E(g) + λI')(A + λI')⁻¹, I' = tr(A)/C · I, in the place of the sums, A as it is.

    Parameters
    ----------
    sums : Sums
        Added up.
    lambda_ : float
        λ.
    step : callable
        Called after each element.
    """
    units = sums.unit
    # Elements with the same A one after another, so that one factor of it is held.
    for key in dict.fromkeys(sums.keys[g] for g in sums.fitted):
        factor: F64 | None = None
        for g in (g for g in sums.fitted if sums.keys[g] == key):
            shrink = lambda_ * units[g]
            if not units[g]:
                sums.values[g] = np.eye(len(sums.values[g]))
            else:
                factor = _factor(sums.gram(g)[0], shrink) if factor is None else factor
                _ridge(factor, sums.values[g], shrink)
            step()


def polar(matrix: F64) -> F64:
    """Return the orthogonal matrix nearest to a square one, which is written over."""
    with whole():
        from scipy.linalg.lapack import dgesdd, dgesdd_lwork

    if len(matrix) <= WHOLE:
        u, _, v = np.linalg.svd(matrix)  # lets other threads run
        small: F64 = u @ v
        return small
    # As numpy's, with half the memory. It takes columns first, so that it sees the transpose.
    length, _ = dgesdd_lwork(*matrix.shape)
    u, _, v, failed = dgesdd(matrix.T, lwork=int(length), overwrite_a=1)
    if failed:
        raise GeedError("a fit's sums hold NaN or infinity, or have no singular values")
    nearest: F64 = v.T @ u.T
    return nearest


def _factor(gram: F64, shrink: float) -> F64:
    """Return the Cholesky factor of A + shrink · I."""
    with whole():
        from scipy.linalg.lapack import dpotrf

    factor, failed = dpotrf(_shifted(gram, shrink).T, lower=1, overwrite_a=1)
    if failed:
        raise GeedError("a fit's sums hold NaN or infinity")
    of_gram: F64 = factor
    return of_gram


def _ridge(factor: F64, cross: F64, shrink: float) -> F64:
    """Return (E + shrink · I)(A + shrink · I)⁻¹, written over E."""
    with whole():
        from scipy.linalg.lapack import dpotrs

    _diagonal(cross)[:] += shrink
    # As A is symmetric, the transpose of what is wanted solves A X = Eᵀ.
    dpotrs(factor, cross.T, lower=1, overwrite_b=1)
    return cross


def _diagonal(matrix: F64) -> F64:
    """Return the diagonal, to be written to."""
    return matrix.reshape(-1)[:: len(matrix) + 1]


def _squares(rho: F64, gram: F64) -> float:
    """Return tr(ρ A ρᵀ) = Σ ‖ρ Z‖²."""
    parts = (rho[i : i + _ROWS] for i in range(0, len(rho), _ROWS))
    return float(sum(np.vdot(part @ gram, part) for part in parts))
