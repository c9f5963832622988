"""How much more latents move under a family than the inputs did, each by its own scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import descriptor_of
from onnx_geed.results.schema import Record

__all__ = ["InputDistances", "add_gain", "has_gain"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InputDistances:
    """How far inputs are moved, and how far they are apart, before mean and std.

    Parameters
    ----------
    moved : ndarray of float64, shape (N, n)
        ‖gx − x‖₂ of the samples of D.
    between : ndarray of float64, shape (P, P)
        ‖x − x'‖₂ of the points for M.
    """

    moved: F64
    between: F64

    def first(self, samples: int, points: int) -> InputDistances:
        """Return those of fewer samples, and of fewer points."""
        return InputDistances(self.moved[:samples], self.between[:points, :points])


def add_gain(
    records: Sequence[Record], inputs: InputDistances, elements: Sequence[str], skipped: int = 1
) -> None:
    """Enter ``gain`` into the records of distances of latents.

    Parameters
    ----------
    records : sequence of dict
        Entries of ``measurements``; changed in place.
    inputs : InputDistances
        Of the inputs.
    elements : sequence of str
        Names of the elements.
    skipped : int
        How many of the first are left out of means: the identity.

    Notes
    -----
    (mean d / M) / (mean ‖gx − x‖ / M of the inputs), spec section 11: above 1 where the latent
    moves more than the pixels did. ``None`` where a scale is missing, or nothing moves.
    """
    rows, columns = np.triu_indices(len(inputs.between), 1)
    m = float(inputs.between[rows, columns].mean()) if len(rows) else 0.0
    moved = inputs.moved[:, skipped:]
    of_all, each = float(moved.mean()), moved.mean(axis=0).tolist()
    for record in records:
        if not has_gain(record):
            continue
        usable = record["value"] is not None
        own = record["per_element"] if usable else {}
        record["gain"] = {
            "value": _ratio(record["value"], of_all, m),
            "per_element": {
                name: _ratio(own.get(name), distance, m)
                for name, distance in zip(elements[skipped:], each, strict=True)
            },
        }


def has_gain(record: Record) -> bool:
    """Say whether a record is of a distance of latents, which a family's gain is taken of."""
    descriptor = descriptor_of(record["measure"])
    return bool(descriptor.normaliser) and descriptor.perfect == 0


def _ratio(value: float | None, distance: float, m: float) -> float | None:
    """Return how much more a value is than a distance of inputs by their M."""
    return None if value is None or not (m > 0 and distance > 0) else value / (distance / m)
