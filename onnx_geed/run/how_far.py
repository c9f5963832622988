"""How far a family moves the inputs, as pixels before mean and std: the other half of a gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import parse_layout
from onnx_geed.measures import Plan
from onnx_geed.results import InputDistances
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.source import Source
from onnx_geed.text import counted

__all__ = ["apart", "gain_is_taken", "gain_notes", "input_distances", "moved_by"]
__all__ += ["SeenInputs"]

F64 = NDArray[np.float64]

# Inputs of the points for M are held together, up to so many bytes of them.
_HELD = 1 << 29

# Entries that are added up at once: their order does not depend on how many samples there are.
_AT_ONCE = 1 << 14

# Points that are multiplied with each other at once: what a product adds up in which order depends
# on the shapes, and so the distance of two points does not depend on how many others there are.
_TILE = 64


def gain_is_taken(plan: Plan) -> bool:
    """Say whether how far inputs move is asked for: by distances of latents under a family."""
    wanted = (m.descriptor.normaliser and m.descriptor.perfect == 0 for m in plan.measures)
    return plan.group.family is not None and any(wanted)


def input_distances(source: Source, count: int, norm_samples: int) -> InputDistances:
    """Return how far the inputs of D are moved, and how far those of the points for M are apart.

    Parameters
    ----------
    source : Source
        The samples.
    count : int
        Size of D.
    norm_samples : int
        Points for M, of those there are; fewer where their inputs exceed 512 MiB.

    Returns
    -------
    InputDistances

    Raises
    ------
    GeedError
        If a sample cannot be read.

    Notes
    -----
    Each orbit is made once more, sample by sample, so that the figures do not depend on how orbits
    were spread over jobs, nor on the engine.
    """
    return InputDistances(moved_by(source, range(count)), apart(source, norm_samples))


def moved_by(source: Source, positions: Sequence[int]) -> F64:
    """Return how far the inputs at some positions of D are moved, ‖gx − x‖₂, (N, n)."""
    moved = [_moved(source, position) for position in positions]
    return np.stack(moved) if moved else np.zeros((0, source.action.group.order))


def apart(source: Source, norm_samples: int) -> F64:
    """Return how far the inputs of the points for M are apart, (P, P), of as many as are held."""
    size = sum(int(np.prod(own.samples.shape)) for own in source.moved)
    points = min(_most_points(norm_samples, size), len(source.indices))
    return _between(lambda i: _input(source, i), points)


@dataclass(frozen=True, eq=False)
class SeenInputs:
    """Of samples that come by: how far they were moved, and the first ones as the points for M.

    Parameters
    ----------
    moved : ndarray of float64, shape (N, n)
        ‖gx − x‖₂ of all samples.
    points : ndarray of float32, shape (P, k)
        Inputs of the first ones, before mean and std.
    """

    moved: F64
    points: NDArray[np.float32]

    @classmethod
    def of(cls, source: Source, positions: Sequence[int], norm_samples: int) -> SeenInputs:
        """Return those of some samples, of which the first ``norm_samples`` of all are kept."""
        size = sum(int(np.prod(own.samples.shape)) for own in source.moved)
        most = _most_points(norm_samples, size)
        kept = [_input(source, p) for p in positions if p < most]
        points = np.stack(kept) if kept else np.zeros((0, size), np.float32)
        return cls(moved_by(source, positions), points)

    def plus(self, later: SeenInputs, norm_samples: int) -> SeenInputs:
        """Return those of both, as if samples of the other had come after these."""
        points = np.concatenate([self.points, later.points])
        most = _most_points(norm_samples, points.shape[1])
        return SeenInputs(np.concatenate([self.moved, later.moved]), points[:most])

    def distances(self) -> InputDistances:
        """Return how far inputs are moved and apart."""
        return InputDistances(self.moved, _between(lambda i: self.points[i], len(self.points)))


def _most_points(norm_samples: int, size: int) -> int:
    return min(norm_samples, max(2, _HELD // (4 * size)))


def gain_notes(inputs: InputDistances, points: int) -> list[str]:
    """Say where the inputs of fewer samples are held against each other than there are points.

    Parameters
    ----------
    inputs : InputDistances
        How far inputs are apart.
    points : int
        Points for M.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    held = len(inputs.between)
    if held >= points:
        return []
    return [
        f"gain: distances between inputs are taken over {held} of the {counted(points, 'point')} "
        "for M, "
        f"since at most {_HELD >> 20} MiB of inputs are kept"
    ]


def _real(source: Source, own: MovedInput, array: NDArray[Any], position: int) -> NDArray[Any]:
    """Return a sample, or its orbit, without what is padding."""
    if source.mask is None:
        return array
    name, kept = own.opening.name or "", parse_layout(own.layout).kept
    return source.mask.clear_input(name, kept, array, source.indices[position])


def _input(source: Source, position: int) -> NDArray[np.float32]:
    parts = [_real(source, own, own.identity(position), position).ravel() for own in source.moved]
    return np.concatenate(parts).astype(np.float32, copy=False)


def _moved(source: Source, position: int) -> F64:
    """Return ‖gx − x‖ of a sample, (n,)."""
    squares = np.zeros(source.action.group.order)
    for own in source.moved:
        orbit = _real(source, own, own.orbit(position), position).astype(np.float64)
        away = (orbit - orbit[0]).reshape(len(orbit), -1)
        squares += np.square(away).sum(axis=1)
    return np.sqrt(squares)


def _between(read: Callable[[int], NDArray[np.float32]], points: int) -> F64:
    """Return the distances of points, (P, P), from sums of products."""
    if points < 2:
        return np.zeros((points, points))
    rows = np.stack([read(position) for position in range(points)])
    padded = -(-points // _TILE) * _TILE
    products = np.zeros((padded, padded))
    for start in range(0, rows.shape[1], _AT_ONCE):
        columns = min(_AT_ONCE, rows.shape[1] - start)
        part = np.zeros((padded, columns))
        part[:points] = rows[:, start : start + columns]
        # About one of them, so that near samples keep their digits.
        part[:points] -= part[0].copy()
        for i in range(0, padded, _TILE):
            for j in range(i, padded, _TILE):
                products[i : i + _TILE, j : j + _TILE] += (
                    part[i : i + _TILE] @ part[j : j + _TILE].T
                )
    products = np.triu(products)[:points, :points]
    products += np.triu(products, 1).T
    own = products.diagonal()
    return np.sqrt(np.maximum(own[:, None] + own - 2 * products, 0))
