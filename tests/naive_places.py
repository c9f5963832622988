"""The slow twin of what is counted at places: overlaps of classes, and means over the foreground.

Place by place in plain loops, without the package; ``naive_letters`` moves the scores. Scores are
``(N, |G|, ...)`` with a letter each for the axes after these two, the classes along C; of a place
that f(gx) does not show, since it was turned out of the grid, nothing is counted.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import naive
import naive_letters as letters_twin
import numpy as np
from numpy.typing import ArrayLike

Place = tuple[int, ...]


def maps(
    group: str, letters: str, orbit: ArrayLike, interpolation: str = "bilinear"
) -> list[dict[Place, np.ndarray]]:
    """Of each element, the scores of f(gx) at the places of x that it shows."""
    axis, found = letters.index("C"), []
    for name, values in zip(letters_twin.elements(group), np.asarray(orbit, float), strict=True):
        back = letters_twin.inverse(group, name)
        shown = letters_twin.act(group, back, letters, np.ones_like(values), interpolation)
        moved = letters_twin.act(group, back, letters, values, interpolation)
        moved, shown = (np.moveaxis(a, axis, -1) for a in (moved, shown))
        every = itertools.product(*map(range, moved.shape[:-1]))
        found.append({at: moved[at] for at in every if shown[at][0] > 1 - 1e-9})
    return found


def largest(scores: Sequence[float], table: Sequence[int] | None = None) -> int:
    """The first of the largest; a single logit tells two classes apart."""
    two = [0.0, scores[0]] if len(scores) == 1 else list(scores)
    best = max(range(len(two)), key=lambda c: (two[c], -c))
    return best if table is None else table[best]


Labels = Sequence[ArrayLike] | None


def _label(labels: Labels, k: int, at: Place) -> int | None:
    if labels is None:
        return None
    label = int(np.asarray(labels[k])[at])
    return None if label < 0 or label == 255 else label


def _pairs(
    scores: ArrayLike, group: str, letters: str, g: int, labels: Labels, tables: object
) -> Iterator[tuple[int, int]]:
    """The class of f(gx), and that of f(x) or the label, of every place of every sample."""
    rows = [None] * 999 if tables is None else tables
    for k, orbit in enumerate(np.asarray(scores)):
        found = maps(group, letters, orbit)
        for at, here in found[g].items():
            other = largest(found[0][at], rows[0]) if labels is None else _label(labels, k, at)
            if other is not None:
                yield largest(here, rows[g]), other


def ious(
    scores: ArrayLike,
    group: str,
    letters: str,
    g: int,
    labels: Labels = None,
    tables: object = None,
) -> dict[int, float]:
    """Intersection over union of every class that occurs, over all samples."""
    both, either = Counter(), Counter()
    for one, other in _pairs(scores, group, letters, g, labels, tables):
        both.update([one] if one == other else [])
        either.update({one, other})
    return {c: both[c] / either[c] for c in either}


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def miou(
    scores: ArrayLike, group: str, letters: str, labels: Labels = None, tables: object = None
) -> float:
    """The mean over classes that occur, then over g other than e."""
    each = range(1, len(letters_twin.elements(group)))
    of = [ious(scores, group, letters, g, labels, tables) for g in each]
    return mean([mean(list(found.values())) for found in of])


def kl(u: Sequence[float], v: Sequence[float]) -> float:
    both = [np.array([0.0, *s]) if len(s) == 1 else np.asarray(s, float) for s in (u, v)]
    return naive.kl(*(naive.log_softmax(s) for s in both))


def flip(u: Sequence[float], v: Sequence[float]) -> float:
    return float(largest(u) != largest(v))


def foreground(
    scores: ArrayLike,
    group: str,
    letters: str,
    background: int,
    m: Callable[..., float],
    labels: Labels = None,
) -> list[list[float]]:
    """The mean of m over the places that are no background, by sample and element."""
    out = []
    for k, orbit in enumerate(np.asarray(scores)):
        found, row = maps(group, letters, orbit), []
        for of_g in found:
            values = []
            for at, here in of_g.items():
                own = largest(found[0][at]) if labels is None else _label(labels, k, at)
                if own is not None and own != background:
                    values.append(m(here, found[0][at]))
            row.append(mean(values) if values else math.nan)
        out.append(row)
    return out
