"""From sums over samples to the permutation, rotation or linear map that fits them best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import FitKind

__all__ = [
    "LAMBDAS",
    "Sums",
    "best_lambda",
    "linear_maps",
    "orthogonal_maps",
    "permutations_of",
    "polar",
]

F64 = NDArray[np.float64]


#: Shrinkage to the identity that is tried, in units of the mean square of a channel.
LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


# Losses that differ by less than this share of the whole count as equal: then more is shrunk.
_EQUAL = 1e-12


# The diagonal's bonus, which decides between permutations that fit equally well.
_BONUS = 1e-9


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over samples, all in float64.

    Parameters
    ----------
    values : ndarray, shape (n, C, C)
        Where the fitted matrices will lie; holds the first fold's sums until then.
    of : list of list of ndarray, shape (C, C)
        Of each element E(g) by fold, A in place of E(e); the first is ``values[g]``.
    own : dict of list of ndarray
        A of elements that are resampled, by key and fold; of linear maps alone.
    keys : list
        The key of each element; ``None`` where A is that of e.
    traces : list of ndarray, shape (folds,)
        tr(A) of each element, by fold.
    inverse : list of (int or None)
        g⁻¹, where E(g) and E(g⁻¹) tell of the same map.
    """

    values: F64
    of: list[list[F64]]
    own: dict[Any, list[F64]]
    keys: list[Any]
    traces: list[NDArray[np.float64]]
    inverse: list[int | None]

    @property
    def gram(self) -> F64:
        """A."""
        return self.values[0]

    def gram_of(self, g: int) -> list[F64]:
        """A of an element, by fold."""
        return self.of[0] if self.keys[g] is None else self.own[self.keys[g]]

    def symmetric(self, g: int, sums: Callable[[int], F64]) -> F64:
        """Return S(g) as a new array."""
        inverse = self.inverse[g]
        if inverse is None:
            return sums(g).copy()
        return (sums(g) + sums(inverse).T) / 2

    def add_up(self) -> None:
        """Put the sums over all folds in the place of the first one's."""
        for folds in (*self.of, *self.own.values()):
            while len(folds) > 1:
                folds[0] += folds.pop(1)


def permutations_of(sums: Sums, by_cosine: bool) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    n, channels = sums.values.shape[:2]
    table = np.tile(np.arange(channels), (n, 1))
    scale = 1.0 if by_cosine else np.trace(sums.gram) / channels
    for g in range(1, n):
        gain = sums.values[g].copy() if by_cosine else sums.symmetric(g, lambda h: sums.values[h])
        gain[np.diag_indices(channels)] += _BONUS * scale
        table[g] = linear_sum_assignment(gain, maximize=True)[1]
    return table


def polar(matrix: F64) -> F64:
    """Return the orthogonal matrix nearest to one."""
    u, _, v = np.linalg.svd(matrix)
    nearest: F64 = u @ v
    return nearest


def _ridge(cross: F64, gram: F64, shrink: float) -> F64:
    from scipy.linalg import cho_factor, cho_solve

    eye = shrink * np.eye(len(gram))
    factor = cho_factor(gram + eye, lower=True)
    return cho_solve(factor, (cross + eye).T).T


def best_lambda(
    sums: Sums, kind: FitKind, progress: Callable[[int, int], None] | None = None
) -> float:
    channels = sums.values.shape[1]
    elements = [g for g in range(1, len(sums.of)) if len(sums.of[g]) > 1]
    losses = np.zeros(len(LAMBDAS))
    whole = 0.0
    folds = len(sums.of[0])
    done, steps = 0, max(1, folds * len(elements))
    for g in elements:
        for fold in range(folds):

            def kept(h: int) -> F64:
                return sum(s for f, s in enumerate(sums.of[h]) if f != fold)

            gram = sums.gram_of(g) if kind == "linear" else []
            trace = sum(t for f, t in enumerate(sums.traces[g]) if f != fold)
            for k, lambda_ in enumerate(LAMBDAS):
                shrink = lambda_ * trace / channels
                if not trace:
                    rho = np.eye(channels)
                elif kind == "orthogonal":
                    rho = polar(sums.symmetric(g, kept) + shrink * np.eye(channels))
                else:
                    rho = _ridge(kept(g), sum(a for f, a in enumerate(gram) if f != fold), shrink)
                losses[k] -= 2 * (rho * sums.of[g][fold]).sum()
                if kind == "linear":
                    losses[k] += ((rho @ gram[fold]) * rho).sum()
            whole += sums.traces[g][fold]
            done += 1
            if progress:
                progress(done, steps)
    close = losses <= losses.min() + _EQUAL * whole
    return LAMBDAS[int(np.flatnonzero(close)[-1])]


def orthogonal_maps(sums: Sums, lambda_: float) -> None:
    """Put the fitted matrices in the place of the sums, A as it is."""
    n, channels = sums.values.shape[:2]
    sums.add_up()
    done = set()
    for g in range(1, n):
        if g in done:
            continue
        trace = sums.traces[g].sum()
        inverse = sums.inverse[g]
        rho = np.eye(channels)
        if trace:
            rho = polar(
                sums.symmetric(g, lambda h: sums.values[h])
                + lambda_ * trace / channels * np.eye(channels)
            )
        sums.values[g] = rho
        if inverse is not None:
            sums.values[inverse] = rho.T
            done.add(inverse)


def linear_maps(sums: Sums, lambda_: float) -> None:
    """Put the fitted matrices in the place of the sums, A as it is."""
    n, channels = sums.values.shape[:2]
    sums.add_up()
    for g in range(1, n):
        trace = sums.traces[g].sum()
        if trace:
            shrink = lambda_ * trace / channels
            sums.values[g] = _ridge(sums.values[g], sums.gram_of(g)[0], shrink)
        else:
            sums.values[g] = np.eye(channels)
