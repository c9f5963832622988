"""Sums over samples from which an output action is fitted: C² numbers an element, never maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Exactness, FitKind, LayoutAction, Trivial
from onnx_geed.measures.catalogue import Support
from onnx_geed.measures.fit_defect import defect_of_matrices, defect_of_permutations
from onnx_geed.measures.fit_solving import (
    Sums,
    best_lambda,
    linear_maps,
    orthogonal_maps,
    permutations_of,
)

__all__ = ["FOLDS", "LARGEST", "FitSums", "fit_bytes"]

F64 = NDArray[np.float64]


#: Parts of the samples of which each is held out once, to choose λ.
FOLDS = 5


#: Channels up to which permutations are fitted.
LARGEST = 2048


# Channels up to which λ is chosen over all folds and elements; above, 2 folds and one element.
_WHOLE = 512


# Products of matrices are this long at least, where the samples suffice: shorter ones spend their
# time on reading and writing the sums.
_LENGTH = 256


# Samples that are kept back for one product at most.
_MOST = 64


class FitSums:
    """Sums over samples, added one after another, and the action that fits them best.

    Parameters
    ----------
    action : LayoutAction or Trivial
        π, how the places move; without a channel table.
    channels : int
        C.
    kind : {"permutation", "orthogonal", "linear"}
        What ρ(g) may be.
    samples : int
        How many fit samples there will be.
    support : {"full", "disk"}
        Places of a plane that count.

    Raises
    ------
    GeedError
        If a permutation of more than 2,048 channels is asked for.

    Notes
    -----
    With Z_g = π(g)⁻¹ f(gx) as C × places: A = Σ Z_e Z_eᵀ and E(g) = Σ Z_g Z_eᵀ, of permutations of
    maps Σ cos(Z_g[c], Z_e[p]). An element that is resampled has no inverse on a grid: there
    Z_g = f(gx), and Z_e = π(g) f(x) with an A of its own.
    """

    def __init__(
        self,
        action: LayoutAction | Trivial,
        channels: int,
        kind: FitKind,
        samples: int,
        support: Support = "full",
    ) -> None:
        if kind == "permutation" and channels > LARGEST:
            raise GeedError(
                f"a permutation of {channels} channels takes too long to fit: at most {LARGEST}; "
                "fit 'orthogonal' or 'linear', or another layer"
            )
        self.action, self.channels, self.kind, self.samples = action, channels, kind, samples
        self._places = _Places(action, support)
        self._by_cosine = kind == "permutation" and self._places.size > 1
        order = action.group.order
        bins = [1 if kind == "permutation" else _bins(g, channels, samples) for g in range(order)]
        self._values: F64 = np.zeros((order, channels, channels))
        # E(g), and A for e, by fold; the first fold's lie where the fitted matrices will.
        self._sums = [
            [self._values[g], *(np.zeros_like(self._values[g]) for _ in range(b - 1))]
            for g, b in enumerate(bins)
        ]
        # A of elements that are resampled, by what they make of f(x), and their traces.
        self._own: dict[Any, list[F64]] = {}
        self._traces = [np.zeros(b) for b in bins]
        if kind == "linear":
            for g, b in enumerate(bins):
                key = self._places.key(g)
                have = self._own.setdefault(key, []) if key is not None else []
                if key is not None and len(have) < b:
                    have += [np.zeros((channels, channels)) for _ in range(b - len(have))]
        self._waiting: list[NDArray[Any]] = []
        self._seen = 0
        size = max(1, self._places.size)
        self._block = min(_MOST, -(-_LENGTH // size))

    def add(self, first: int, y: NDArray[np.float32]) -> None:
        """Add samples, which follow on those that were added.

        Parameters
        ----------
        first : int
            Number of the first of them among the fit samples.
        y : ndarray of float32, shape (N, n, rows, F) or (N, n, k)
            f(gx): rows of entries that move together, as ``LayoutAction.stacked`` gives them, or
            vectors.

        Raises
        ------
        ValueError
            If they do not follow on those added before.
        """
        if first != self._seen:
            raise ValueError(f"sample {self._seen} of a fit is next, found {first}")
        y = y.reshape(*y.shape[:2], self.channels, self._places.fixed, -1)
        for sample in y:
            self._waiting.append(sample)
            self._seen += 1
            if self._seen % self._block == 0:
                self._flush()
        # What is kept back must not hang on an array that the caller may write to.
        self._waiting = [np.array(sample) for sample in self._waiting]

    def _flush(self) -> None:
        if not self._waiting:
            return
        y, start = np.stack(self._waiting), self._seen - len(self._waiting)
        self._waiting = []
        position = np.arange(start, self._seen)
        unmoved = self._flat(y[:, 0])
        done: set[Any] = set()
        for g in range(self.action.group.order):
            key = self._places.key(g)
            z = self._flat(self._places.target(g, y[:, g]))
            x = unmoved if key is None else self._flat(self._places.source(g, y[:, 0]))
            bins = len(self._sums[g])
            for b in range(bins):
                here = position % bins == b
                if not here.any():
                    continue
                left, right = (a if bins == 1 else a[here] for a in (z, x))
                self._traces[g][b] += np.square(right).sum()
                if g and self._by_cosine:
                    left, right = _unit(left), _unit(right)
                _add_product(self._sums[g][b], left, right)
            if key in self._own and key not in done:
                done.add(key)
                own = self._own[key]
                for b, total in enumerate(own):
                    here = position % len(own) == b
                    if here.any():
                        _add_product(total, x[here], x[here])

    def _flat(self, maps: NDArray[Any]) -> F64:
        """Return maps (N, C, fixed, F) as (N, C, places), those that count."""
        if self._places.inside is not None:
            maps = maps[..., self._places.inside]
        return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1), dtype=np.float64)

    def solve(
        self, progress: Callable[[int, int], None] | None = None
    ) -> tuple[NDArray[Any], float | None, tuple[float, float] | None]:
        """Return the fitted action; the sums are used up.

        Parameters
        ----------
        progress : callable, optional
            Told how many of how many steps are done.

        Returns
        -------
        values : ndarray of int64, shape (n, C), or of float64, shape (n, C, C)
            Channels to gather, ``out[c] = in[values[g, c]]``, or matrices ρ(g).
        lambda_ : float or None
            By how much they were shrunk to the identity; ``None`` of permutations.
        defect : tuple of (float, float) or None
            How far they are from a representation, median and largest; ``None`` where products of
            elements are no elements.
        """
        self._flush()
        group = self.action.group
        inverse = [
            group.inverse(g) if group.is_closed and self._places.key(g) is None else None
            for g in range(group.order)
        ]
        keys = [self._places.key(g) for g in range(group.order)]
        sums = Sums(self._values, self._sums, self._own, keys, self._traces, inverse)
        if self.kind == "permutation":
            values: NDArray[Any] = permutations_of(sums, self._by_cosine)
            table = group.table if group.is_closed else None
            defect = None if table is None else defect_of_permutations(values, sums.gram, table)
            return values, None, defect
        lambda_ = best_lambda(sums, self.kind, progress)
        (orthogonal_maps if self.kind == "orthogonal" else linear_maps)(sums, lambda_)
        gram = self._values[0].copy()
        self._values[0] = np.eye(self.channels)
        defect = defect_of_matrices(self._values, gram, group.table) if group.is_closed else None
        return self._values, lambda_, defect


def _bins(g: int, channels: int, samples: int) -> int:
    """Return in how many folds the sums of an element are kept."""
    if channels <= _WHOLE:
        return max(1, min(FOLDS, samples))
    return max(1, min(2, samples)) if g < 2 else 1


def fit_bytes(order: int, channels: int, kind: FitKind, samples: int) -> int:
    """Return how many bytes the sums of a fit and its solving hold at most.

    Parameters
    ----------
    order : int
        n, elements of the group.
    channels : int
        C.
    kind : {"permutation", "orthogonal", "linear"}
        What is fitted.
    samples : int
        Number of fit samples.
    """
    if kind == "permutation":
        matrices = order + 2
    else:
        bins = [_bins(g, channels, samples) for g in range(order)]
        # Elements that are resampled share what they are held against, by quarter turns.
        own = sum(bins[1:2]) * -(-order // 4) if kind == "linear" else 0
        matrices = sum(bins) + own + 4
    return 8 * channels * channels * matrices


class _Places:
    """What an action does to the places of a channel, and which of them count."""

    def __init__(self, action: LayoutAction | Trivial, support: Support) -> None:
        self._moves = None if isinstance(action, Trivial) else action.moves
        self._group, self._exact = action.group, action.exact()
        self.fixed = 1 if isinstance(action, Trivial) else action.fixed
        self.inside = None if isinstance(action, Trivial) else action.inside(support)
        entries = 1 if self._moves is None else self._moves.size
        if self.inside is not None:
            entries = int(self.inside.sum())
        #: Places of a channel that count.
        self.size = self.fixed * entries

    def key(self, g: int) -> Any:
        """Return what tells what an element makes of f(x); ``None`` where f(gx) is moved back."""
        if self._moves is None or not int(self._moves.base_of[g]):
            return None
        if self._exact[g] is not Exactness.RESAMPLED and self._group.is_closed:
            return None
        read = self._moves.permutation[g]
        if self.inside is not None:
            read = read[self.inside]
        return int(self._moves.base_of[g]), np.sort(read).tobytes()

    def target(self, g: int, maps: NDArray[Any]) -> NDArray[Any]:
        """Return Z_g of maps f(gx) (N, C, fixed, F): moved back, or as they are."""
        if self._moves is None or self.key(g) is not None:
            return maps
        if int(self._moves.base_of[g]):
            return self._moves.apply(self._group.inverse(g), maps.astype(np.float64))
        back = np.argsort(self._moves.permutation[g])
        if np.array_equal(back, np.arange(len(back))):
            return maps
        return maps[..., back]

    def source(self, g: int, maps: NDArray[Any]) -> NDArray[Any]:
        """Return what ρ(g) takes in place of f(x), where the element is resampled."""
        assert self._moves is not None
        return self._moves.apply(g, maps.astype(np.float64))


def _unit(maps: F64) -> F64:
    """Return channels (N, C, places) of norm 1, with a place more where they are zero."""
    norm = np.sqrt(np.square(maps).sum(axis=-1, keepdims=True))
    zero = norm == 0
    return np.concatenate([maps / np.where(zero, 1, norm), zero], axis=-1)


def _add_product(total: F64, left: F64, right: F64) -> None:
    """Add Σ left rightᵀ of (N, C, places) to a matrix (C, C)."""
    from scipy.linalg.blas import dgemm

    # As (C, N · places); the transpose is in the order that the routine adds to in place.
    flat = [a.transpose(1, 0, 2).reshape(a.shape[1], -1).T for a in (right, left)]
    dgemm(1.0, flat[0], flat[1], beta=1.0, c=total.T, trans_a=1, overwrite_c=1)
