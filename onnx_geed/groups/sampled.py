"""Sampled groups: a finite group's elements, behind an element of the larger one for each sample.

So an infinite group is covered evenly around each sample, and evenly on average over samples, while
elements multiply as those of the finite group do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from onnx_geed.groups.factors import Factor, MixFactor, Motion, PlaneFactor, SpaceFactor, as_rows
from onnx_geed.groups.rotations import haar_rotation, plane_matrix

__all__ = ["HaarBehind", "TurnsBehind"]


@dataclass(frozen=True)
class TurnsBehind:
    """Motions of the plane behind a rotation of each sample's own, as one rotation each.

    Parameters
    ----------
    motions : tuple of Motion
        Those of the finite group.
    """

    motions: tuple[Motion, ...] = field(repr=False)

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample; angles are drawn from [0°, 360°)."""
        offset = Fraction(np.random.default_rng((seed, sample)).random() * 360)
        # The sample turns by the offset, then by the element's own angle, then is mirrored.
        moved = tuple(replace(m, degrees=(m.degrees + offset) % 360) for m in self.motions)
        matrices = as_rows([plane_matrix(m.degrees, m.mirror) for m in moved])
        return PlaneFactor(moved), MixFactor(matrices, 2)


@dataclass(frozen=True)
class HaarBehind:
    """Matrices on space behind a rotation of each sample's own, Haar distributed.

    Parameters
    ----------
    matrices : tuple of tuples of float
        Those of the finite group, row by row.
    """

    matrices: tuple[tuple[float, ...], ...] = field(repr=False)

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        """Return the factors of a sample."""
        own = haar_rotation(np.random.default_rng((seed, sample)))
        every = np.array(self.matrices).reshape(-1, 3, 3) @ own
        rows = as_rows(list(every))
        return SpaceFactor(rows), MixFactor(rows, 3)
