"""Parts of a run: results over some of its orbits, which ``onnx-geed merge`` joins."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["PartPart", "part_words"]


class PartPart(TypedDict):
    """A share of a run, and what its merging with the others needs besides its records."""

    version: int
    number: int
    of: int
    samples: int
    orbits: list[int]
    points: list[int]
    same: dict[str, str]
    notes: list[str]
    classes: list[str] | None
    marks: dict[str, list[str]]
    evidence: dict[str, Any]
    untrained: dict[str, Any] | None
    moved_inputs: dict[str, Any] | None
    whole: dict[str, Any] | None


def part_words(part: PartPart) -> str:
    """Say that a result is a part, and of what.

    Parameters
    ----------
    part : dict
        The ``part`` of a result.

    Returns
    -------
    str
    """
    orbits, points = (stop - first for first, stop in (part["orbits"], part["points"]))
    head = f"part {part['number']} of {part['of']}"
    further = f" and {points} further points for M" if points else ""
    if not orbits:
        return f"{head}, of no samples of D{further}: onnx-geed merge joins it with the others"
    return (
        f"{head}, of {orbits} of the {part['samples']} samples of D{further}: its values are not "
        "those of the whole, which onnx-geed merge makes of all parts"
    )
