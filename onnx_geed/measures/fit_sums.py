"""Sums over samples from which an output action is fitted: C² numbers an element, never maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Exactness, FitKind, LayoutAction, Trivial
from onnx_geed.measures.catalogue import Support
from onnx_geed.measures.fit_defect import (
    as_representation,
    defect_bytes,
    defect_of_matrices,
    defect_of_permutations,
)
from onnx_geed.measures.fit_solving import (
    WHOLE,
    Sums,
    fitted_lambda,
    fitted_linear,
    fitted_orthogonal,
    fitted_permutations,
)
from onnx_geed.measures.one_thread import in_one_thread
from onnx_geed.whole import whole

__all__ = ["FOLDS", "MOST_PERMUTED", "FitSums", "fit_bytes", "fit_seconds"]

F64 = NDArray[np.float64]


#: Parts of the samples of which each is held out once, to choose λ.
FOLDS = 5


#: Channels up to which permutations are fitted.
MOST_PERMUTED = 2048

# Seconds of one core for each C³ and fold, all penalties tried: of small matrices and of large,
# on which libraries are quicker (measured at 256 and 2048 channels).
_CUBIC_WHOLE, _CUBIC = 1e-8, 1.5e-9


# Samples are multiplied together until products are this long: shorter ones spend their time on
# reading and writing the sums.
_LENGTH = 256


# Samples that wait for one product at most.
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
        The kind of ρ(g).
    samples : int
        How many fit samples there will be.
    support : {"full", "disk"}
        Places of a plane that count.

    Attributes
    ----------
    gram : ndarray of float64, shape (C, C)
        A, once the action is solved for.

    Raises
    ------
    GeedError
        If a permutation of more than 2,048 channels is asked for.
        If there are fewer than two samples, and λ is to be chosen.

    Notes
    -----
    With Z_g = π(g)⁻¹ f(gx) as C × places: A = Σ Z_e Z_eᵀ and E(g) = Σ Z_g Z_eᵀ; for permutations of
    maps Σ cos(Z_g[c], Z_e[p]). Where a fit of g⁻¹ is one of g, S(g) = ½ (E(g) + E(g⁻¹)ᵀ) is kept of
    both. What an element resamples cannot be moved back: there Z_g = f(gx) and Z_e = π(g) f(x),
    with an A of its own.

    Samples enter in blocks of which the first is always that of sample 0, so that the bits of the
    sums do not depend on how many are added at a time.
    """

    def __init__(
        self,
        action: LayoutAction | Trivial,
        channels: int,
        kind: FitKind,
        samples: int,
        support: Support = "full",
    ) -> None:
        if kind == "permutation" and channels > MOST_PERMUTED:
            raise GeedError(
                f"a permutation can be fitted to at most {MOST_PERMUTED} channels, found "
                f"{channels}: fit orthogonal or linear, or take another layer"
            )
        if kind != "permutation" and samples < 2:
            raise GeedError(
                "a fit of matrices needs at least two samples, since each is predicted from "
                f"others; found {samples}"
            )
        self._group, self._channels, self._kind = action.group, channels, kind
        self._places = _Places(action, support)
        self._by_cosine = kind == "permutation" and self._places.size > 1
        order = action.group.order
        keys = tuple(self._places.key(g) for g in range(order))
        joined = kind != "linear" and not self._by_cosine and action.group.is_closed
        inverse = tuple(
            action.group.inverse(g) if joined and key is None else None
            for g, key in enumerate(keys)
        )
        # Not touched, an element's matrix takes no memory.
        values: F64 = np.zeros((order, channels, channels))
        folds: list[list[F64]] = []
        own: dict[Any, list[F64]] = {}
        for g, key in enumerate(keys):
            bins = _folds(g, channels, kind, samples)
            other = inverse[g]
            here = [] if other is not None and other < g else [values[g]]
            folds.append(here + [np.zeros_like(values[g]) for _ in range(bins * len(here) - 1)])
            if kind == "linear" and key is not None:
                have = own.setdefault(key, [])
                have += [np.zeros_like(values[g]) for _ in range(bins - len(have))]
        traces = [np.zeros(_folds(g, channels, kind, samples)) for g in range(order)]
        self._sums = Sums(values, folds, inverse, keys, own, traces)
        self.gram: F64 = values[0]
        self._waiting: list[NDArray[np.float32]] = []
        self._seen = 0
        self._block = max(1, min(_MOST, -(-_LENGTH // max(1, self._places.size))))

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
        places = self._places.fixed, self._places.entries
        y = y.reshape(*y.shape[:2], self._channels, *places)
        start = 0
        while start < len(y):
            taken = y[start : start + self._block - self._seen % self._block]
            self._waiting.append(taken)
            start += len(taken)
            self._seen += len(taken)
            if self._seen % self._block == 0:
                self._add_waiting()
        # The caller may write to its array again.
        self._waiting[-1:] = [part.copy() for part in self._waiting[-1:]]

    @in_one_thread()
    def _add_waiting(self) -> None:
        """Add a block, or what there is of the last one."""
        if not self._waiting:
            return
        y = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        position = np.arange(self._seen - len(y), self._seen)
        unmoved = self._places.flat(y[:, 0])
        known: set[Any] = set()
        for g, key in enumerate(self._sums.keys):
            x = unmoved if key is None else self._places.flat(self._places.source(g, y[:, 0]))
            z = unmoved if g == 0 else self._places.flat(self._places.target(g, y[:, g]))
            self._add_element(g, z, x, position)
            if key in self._sums.own and key not in known:
                known.add(key)
                _add_products(self._sums.own[key], x, x, position)

    def _add_element(self, g: int, z: F64, x: F64, position: NDArray[np.intp]) -> None:
        """Add what an element gives, z and x (N, C, places)."""
        sums, inverse = self._sums, self._sums.inverse[g]
        np.add.at(sums.traces[g], position % len(sums.traces[g]), np.square(x).sum(axis=(1, 2)))
        if g == 0 or inverse is None:
            if g and self._by_cosine:
                z, x = _unit(z), _unit(x)
            _add_products(sums.folds[g], z, x, position)
        elif inverse >= g:
            _add_products(sums.folds[g], z, x, position, 0.5)
        else:
            _add_products(sums.folds[inverse], x, z, position, 0.5)

    @in_one_thread()
    def solve(
        self, progress: Callable[[int, int], None] | None = None, *, representation: bool = False
    ) -> tuple[NDArray[Any], float | None, tuple[float, float] | None]:
        """Return the fitted action; the sums are used up, A apart.

        Parameters
        ----------
        progress : callable, optional
            Told how many of how many steps are done.
        representation : bool
            Whether orthogonal matrices are made to compose as the group's elements do.

        Returns
        -------
        values : ndarray of int64, shape (n, C), or of float64, shape (n, C, C)
            Channels to gather, ``out[c] = in[values[g, c]]``, or matrices ρ(g).
        lambda_ : float or None
            By how much they were shrunk to the identity; ``None`` of permutations.
        defect : tuple of (float, float) or None
            How far they are from a representation, median and largest; ``None`` where products of
            elements are no elements.

        Raises
        ------
        GeedError
            If activations were NaN or infinite.
            If a representation is asked for, and the group is a part of a larger one.
        """
        self._add_waiting()
        sums = self._sums
        if not all(np.isfinite(fold.sum()) for folds in sums.folds for fold in folds):
            raise GeedError("activations of fit samples hold NaN or infinity")
        # Of an element that is its own inverse, half of E was added: S is that and its transpose.
        for g, inverse in enumerate(sums.inverse):
            for fold in sums.folds[g] if g and inverse == g else []:
                fold += fold.T
        table = self._group.table if self._group.is_closed else None
        step = self._steps(progress)
        if self._kind == "permutation":
            self.gram = sums.values[0]
            unit = 1.0 if self._by_cosine else float(sums.unit[0])
            rows = fitted_permutations(sums, unit, step)
            defect = None if table is None else defect_of_permutations(rows, self.gram, table)
            return rows, None, defect
        lambda_ = fitted_lambda(sums, self._kind, step)
        sums.add_up()
        (fitted_orthogonal if self._kind == "orthogonal" else fitted_linear)(sums, lambda_, step)
        sums.own.clear()
        self.gram = sums.values[0].copy()
        sums.values[0] = np.eye(self._channels)
        if representation:
            matrices, left = as_representation(self._group, sums.values, self.gram)
            return matrices, lambda_, left
        defect = None if table is None else defect_of_matrices(sums.values, self.gram, table)
        return sums.values, lambda_, defect

    def _steps(self, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
        """Return what counts the steps of solving: each fold of λ, and each element."""
        folds = [len(self._sums.folds[g]) for g in self._sums.fitted]
        tried = len(self._sums.folds[0]) if self._kind != "permutation" else 0
        total, done = sum(f for f in folds if f == tried) + len(folds), 0

        def step() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        return step


def _folds(g: int, channels: int, kind: FitKind, samples: int) -> int:
    """Return in how many folds an element's sums are kept."""
    if kind == "permutation":
        return 1
    if channels <= WHOLE:
        return min(FOLDS, samples)
    return 2 if g < 2 else 1


def fit_bytes(order: int, channels: int, kind: FitKind, samples: int) -> int:
    """Return how many bytes the sums of a fit, and solving for it, hold at most.

    Samples on their way into the sums are not counted.

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

    Returns
    -------
    int
    """
    folds = [_folds(g, channels, kind, samples) for g in range(order)]
    # Of a grid, elements that differ by a quarter turn are held against the same.
    own = max(folds) + -(-order // 4) - 1 if kind == "linear" else 0
    work = {"permutation": 3, "orthogonal": 6, "linear": 3}[kind]
    if kind != "permutation" and channels <= WHOLE:  # folds of elements side by side
        work *= min(os.cpu_count() or 1, sum(folds))
    matrix = 8 * channels * channels
    solving = matrix * (sum(folds) + own + work)
    if kind == "permutation":
        return solving
    return max(solving, matrix * (order + 4) + defect_bytes(order, channels))


def fit_seconds(order: int, channels: int, kind: FitKind, samples: int) -> float:
    """Return about how long solving for a fit takes, in seconds of one core.

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

    Returns
    -------
    float
        Of decompositions and solutions, which grow with C³; sums and assignments are left out.
    """
    if kind == "permutation":
        return 0.0
    folds = sum(_folds(g, channels, kind, samples) for g in range(order))
    return (_CUBIC_WHOLE if channels <= WHOLE else _CUBIC) * channels**3 * folds


class _Places:
    """What an action does to the places of a channel, and which of them count."""

    def __init__(self, action: LayoutAction | Trivial, support: Support) -> None:
        self._moves = None if isinstance(action, Trivial) else action.moves
        self._inside = None if isinstance(action, Trivial) else action.inside(support)
        self._group, self._exact = action.group, action.exact()
        #: Rows of a channel, and their entries.
        self.fixed = 1 if isinstance(action, Trivial) else action.fixed
        self.entries = 1 if self._moves is None else self._moves.size
        #: Places of a channel that count.
        counted = self.entries if self._inside is None else int(self._inside.sum())
        self.size = self.fixed * counted

    def key(self, g: int) -> Any:
        """Return what tells which entries of f(x) an element resamples; ``None`` where exact."""
        base = 0 if self._moves is None else int(self._moves.base_of[g])
        exact = self._exact[g] is not Exactness.RESAMPLED and self._group.is_closed
        if self._moves is None or not base or exact:
            return None
        read = self._moves.permutation[g]
        return base, np.sort(read if self._inside is None else read[self._inside]).tobytes()

    def target(self, g: int, maps: NDArray[Any]) -> NDArray[Any]:
        """Return Z_g of maps f(gx) (N, C, fixed, F): moved back where that is exact."""
        if self._moves is None or self.key(g) is not None:
            return maps
        if self._moves.base_of[g]:
            return self._moves.apply(self._group.inverse(g), maps.astype(np.float64))
        return maps[..., np.argsort(self._moves.permutation[g])]

    def source(self, g: int, maps: NDArray[Any]) -> NDArray[Any]:
        """Return Z_e of maps f(x) for an element that is resampled."""
        assert self._moves is not None
        return self._moves.apply(g, maps.astype(np.float64))

    def flat(self, maps: NDArray[Any]) -> F64:
        """Return maps (N, C, fixed, F) as (N, C, places), those that count."""
        if self._inside is not None:
            maps = maps[..., self._inside]
        return maps.reshape(*maps.shape[:2], -1).astype(np.float64)


def _unit(maps: F64) -> F64:
    """Return channels (N, C, places) of norm 1; zero ones in a place that others do not have."""
    norm = np.sqrt(np.square(maps).sum(axis=-1, keepdims=True))
    zero = norm == 0
    return np.concatenate([maps / np.where(zero, 1, norm), zero], axis=-1)


def _add_products(
    folds: list[F64], left: F64, right: F64, position: NDArray[np.intp], weight: float = 1.0
) -> None:
    """Add weight · Σ left rightᵀ of (N, C, places) to the matrix (C, C) of each sample's fold."""
    with whole():
        from scipy.linalg.blas import dgemm

    for k, total in enumerate(folds):
        here = slice(None) if len(folds) == 1 else position % len(folds) == k
        # The routine adds in place to arrays with columns first: to the transpose.
        a, b = (y[here].transpose(1, 0, 2).reshape(y.shape[1], -1).T for y in (right, left))
        if a.size:
            dgemm(weight, a, b, beta=1.0, c=total.T, trans_a=1, overwrite_c=1)
