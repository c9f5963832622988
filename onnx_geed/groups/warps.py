"""Resampled motions of a plane: it is turned and zoomed about its centre, and shifted.

What comes in from outside is zero, as for a camera. So these are no motions of a finite group, of
which some other plane would have to be moved in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups.exactness import Exactness
from onnx_geed.groups.factors import Factor, empty_tables
from onnx_geed.groups.grid_tables import Interpolation, lands_on_entries, warp_table
from onnx_geed.groups.moves import Moves

__all__ = ["Warp", "WarpFactor"]

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Warp:
    """How an element moves the plane: it turns and zooms it about the centre, then shifts it.

    Parameters
    ----------
    degrees : float
        Rotation angle in degrees, counter-clockwise as displayed.
    zoom : float
        By which lengths grow; above 1, what is shown is larger.
    shift : tuple of two Fraction
        Shift down and right, in fractions of height and width. Nothing goes round.
    """

    degrees: float = 0.0
    zoom: float = 1.0
    shift: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))

    @property
    def inverse(self) -> F64:
        """The matrix on (down, right) that tells where, about the centre, a place came from."""
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle) / self.zoom, math.sin(angle) / self.zoom
        return np.array([[cos, sin], [-sin, cos]])


@dataclass(frozen=True)
class WarpFactor(Factor):
    """Resampled motions of a plane.

    Parameters
    ----------
    warps : tuple of Warp
        One an element.
    axes : str
        The plane's two axes, down and right.
    """

    warps: tuple[Warp, ...]
    axes: str = "HW"

    @property
    def _bases(self) -> list[Warp]:
        return list(dict.fromkeys(warp for warp in self.warps if warp != Warp()))

    def crosses(self, letter: str) -> bool:
        """Whether an element rotates, by other than half a turn."""
        return any(warp.degrees % 180 for warp in self.warps)

    def resampled(self, lengths: tuple[int, ...]) -> int:
        """Return the number of motions but the one that leaves all in place."""
        return len(self._bases)

    def moves(self, group: str, lengths: tuple[int, ...], interpolation: Interpolation) -> Moves:
        """Return the tables on a plane.

        Notes
        -----
        An element whose every entry comes from one place, such as a shift by whole pixels, is exact
        by index: what stays inside stays to the last bit. Others are resampled.
        """
        size = int(np.prod(lengths))
        bases = self._bases
        index, weight = empty_tables(len(bases), size, self.taps(interpolation))
        exact = [Exactness.INDEX]
        for b, warp in enumerate(bases):
            shift = np.array([float(s * n) for s, n in zip(warp.shift, lengths, strict=True)])
            index[b], weight[b] = warp_table(lengths, warp.inverse, interpolation, shift)
            on_entries = lands_on_entries(lengths, warp.inverse, shift)
            exact.append(Exactness.INDEX if on_entries else Exactness.RESAMPLED)
        base_of = [bases.index(warp) + 1 if warp in bases else 0 for warp in self.warps]
        return Moves(
            index,
            weight,
            np.array(base_of, dtype=np.int32),
            np.tile(np.arange(size, dtype=np.int32), (len(base_of), 1)),
            tuple(exact[base] for base in base_of),
        )
