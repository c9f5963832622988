"""What a page shows of single samples: maps of some channels, and class scores, by element."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exploration", "ExploredLayer"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExploredLayer:
    """Two channels of a layer, as they are and as they should be.

    Parameters
    ----------
    layer : str
        The tensor.
    channels : tuple of int
        The channel with the smallest mean cosine over D, and the median one.
    found : ndarray of float32, shape (samples, n, channels, h, w)
        Pictures of f(gx): planes, the middle slice of volumes, strips of lines and points; shrunk
        to 2¹⁸ places where they have more.
    expected : ndarray of float32, shape (samples, n, channels, h, w)
        Those of φ_Y(g) f̂(x).
    cosines : ndarray of float64, shape (samples, n, channels)
        Of the two, over all places.
    reading : str
        How the pictures are read; empty of planes as they are.
    """

    layer: str
    channels: tuple[int, ...]
    found: F32
    expected: F32
    cosines: F64
    reading: str = ""


@dataclass(frozen=True, eq=False)
class Exploration:
    """Some samples of D, run again to be looked at.

    Parameters
    ----------
    positions : tuple of int
        The samples, by their positions in D.
    layers : tuple of ExploredLayer
        Maps, in depth order.
    probabilities : ndarray of float64, shape (samples, n, classes), optional
        Of classes.
    classes : tuple of str
        What the model's metadata call the classes; empty where they do not.
    notes : tuple of str
        What could not be shown, and why.
    moves : ndarray of int64, shape (n, classes), optional
        The class to which each element moves each class; None where that is not known.
    """

    positions: tuple[int, ...]
    layers: tuple[ExploredLayer, ...] = ()
    probabilities: F64 | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    moves: I64 | None = None
