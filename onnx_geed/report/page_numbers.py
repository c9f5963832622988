"""Numbers in the tables of pages: those of terminals, with a longer dash where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed import text

__all__ = ["interval", "number"]


def number(value: float | None) -> str:
    """Return a number in about nine characters, or a dash where there is none."""
    return "—" if value is None else text.number(value)


def interval(ends: Sequence[float] | None) -> str:
    """Return the two ends of an interval in brackets, or a dash where there is none."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "—"
