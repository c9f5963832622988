"""A fit: how an output action that nobody gave was estimated, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Fit", "FitKind"]

FitKind = Literal["permutation", "orthogonal", "linear"]


@dataclass(frozen=True)
class Fit:
    """How an output action was estimated from data.

    Parameters
    ----------
    kind : {"permutation", "orthogonal", "linear"}
        What ρ(g) may be.
    layer : str
        Name of the tensor.
    samples : int
        Number of samples that it was fitted to.
    lambda_ : float, optional
        By how much it was shrunk to the identity, in units of the mean square of a channel;
        ``None`` for permutations, which are not.
    defect : tuple of (float, float), optional
        How far it is from a representation, ‖(ρ(g)ρ(h) − ρ(gh)) A^½‖ / ‖ρ(gh) A^½‖: median and
        largest over pairs of elements other than e; ``None`` where products of the group's elements
        are not all in it.
    indices : tuple of int
        Which samples of the data these are.
    marks : tuple of str
        A digest of each of them, by which they are known in other data.
    fingerprint : str
        SHA-256 of all of them and their preprocessing.
    """

    kind: FitKind
    layer: str
    samples: int
    lambda_: float | None = None
    defect: tuple[float, float] | None = None
    indices: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    fingerprint: str = ""
