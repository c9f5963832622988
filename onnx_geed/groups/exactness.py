"""How exactly an element acts, and within what actions count as equal."""

from __future__ import annotations

import enum

__all__ = ["COMPOSITION_TOLERANCE", "IDENTITY_TOLERANCE", "Exactness"]

#: Two actions of an element count as equal within this (spec: the kernel of the action).
IDENTITY_TOLERANCE = 1e-6


#: Matrices compose within this: φ(g₂)φ(g₁) = φ(g₂g₁), entries being of the size of 1.
COMPOSITION_TOLERANCE = 1e-5


class Exactness(enum.Enum):
    """How an element acts; true where that is an action to the last bit or to rounding."""

    #: Entries change places: φ(g₂, φ(g₁, x)) = φ(g₂g₁, x) to the last bit. Of a shift that moves
    #: zeros in, that holds for what has stayed inside.
    INDEX = "index"
    #: Entries are multiplied by a matrix: it holds to rounding, within 1e-5.
    MATRIX = "matrix"
    #: A grid is resampled: it does not hold.
    RESAMPLED = "resampled"

    def __bool__(self) -> bool:
        return self is not Exactness.RESAMPLED
