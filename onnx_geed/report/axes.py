"""Axes of pictures: names along them, the value that they begin at, and legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from onnx_geed.report.svg import FONT, SOFT
from onnx_geed.results import Reading
from onnx_geed.text import shorten, span

__all__ = [
    "begin_at_perfect",
    "distinct_names",
    "fitting_across",
    "furthest",
    "goes_beyond",
    "head",
    "label_layers",
    "label_of",
    "legend",
    "legend_name",
    "perfect_lines",
    "short_name",
    "tall",
    "tell_cosines",
    "value_text",
]

# Layers one below the other that are each named; of more every second one is, or third.
_MOST_ROWS = 64


# Inches that the numbers and the label of an axis take at most.
_AXIS = 0.6


def short_name(name: str, width: int = 26) -> str:
    """Shorten a name for an axis."""
    return shorten(name, width)


def legend_name(name: str, width: int = 26) -> str:
    """Shorten a name for a legend, which matplotlib leaves those out of that begin with ``_``."""
    return f" {short}" if (short := shorten(name, width)).startswith("_") else short


def distinct_names(names: Sequence[str], width: int = 24) -> list[str]:
    """Shorten names, without what they all begin and end with where they are long."""
    if len(set(names)) > 1 and max(map(len, names)) > width:
        start = _common_start(names)
        end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
        # Whole words only: cut behind a separator, and in front of one.
        start = start[: 1 + max(start.rfind(c) for c in "/._:")]
        end = end[min((i for i in map(end.find, "/._:") if i >= 0), default=len(end)) :]
        # What all end with goes first, and what they begin with only where they are still too long.
        ended = [name[: len(name) - len(end)] or name for name in names]
        if max(map(len, ended)) <= width:
            return ended
        names = [name[len(start) : len(name) - len(end)] or name for name in names]
    return [short_name(name, width) for name in names]


def _common_start(names: Sequence[str]) -> str:
    """Return what all names begin with: the first and the last in order differ first."""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[: min(len(first), len(last)) if same is None else same]


def fitting_across(labels: Sequence[str], inches: float) -> int:
    """Return how many entries of a legend fit beside each other, at least one."""
    # A letter is at most so wide; before it stands a line.
    widest = max(map(len, labels), default=0) * 0.62 * FONT / 72 + 0.4
    return max(1, int(inches / widest))


def legend(axes: Any, count: int, **options: Any) -> None:
    """Put a legend over the axes where there is more than one entry, as wide as the picture."""
    if count > 1:
        figure, (_, labels) = axes.figure, axes.get_legend_handles_labels()
        fitting = fitting_across(labels, figure.get_figwidth() - _AXIS)
        across = min(2 if count > 3 else count, fitting)
        more = -(-count // across) - -(-count // (2 if count > 3 else count))
        figure.set_figheight(figure.get_figheight() + 0.17 * more)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=across,
            borderaxespad=0.2,
            handlelength=1.4,
            columnspacing=1.0,
            **options,
        )


def head(figure: Any, note: str) -> None:
    """Write a note above a picture, if there is one."""
    if note:
        figure.suptitle(note, fontsize=FONT, color=SOFT)


def label_layers(axes: Any, layers: Sequence[str]) -> None:
    """Name layers down the left side, the first on top."""
    shown = range(len(layers))
    if len(layers) > _MOST_ROWS:
        shown = range(0, len(layers), -(-len(layers) // _MOST_ROWS))
    axes.set_yticks(shown, distinct_names([layers[i] for i in shown]))
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=7 if len(layers) > 24 else FONT)


def furthest(readings: Sequence[Reading]) -> float:
    """Return the largest of all values, of their intervals, and of what stands beside them."""
    known: list[float] = []
    for r in readings:
        known += [r.value, *r.trips.values()]
        known += [end for pair in (r.ci95, r.exact_ci95) if pair for end in r.within(pair)]
        known += [v for v in (r.exact, r.untrained) if v is not None]
    return max(known)


def tell_cosines(axis: Any, room: float) -> None:
    """Write the ticks of an axis of negative cosines as sentences tell them.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The axis.
    room : float
        Its length, for as many places as tell ticks apart.
    """
    places = max(6, 1 - math.floor(math.log10(room)))
    axis.set_major_formatter(partial(_as_cosine, places=min(places, 12)))


def goes_beyond(reading: Reading) -> bool:
    """Tell whether an element is beyond the perfect value, as of shares of the error."""
    if not reading.descriptor.of_error:
        return False
    return bool(np.nanmin(reading.per_element) < reading.perfect)


def begin_at_perfect(axis: Any, readings: Sequence[Reading], most: float) -> tuple[float, float]:
    """Let an axis begin at the perfect value, and write cosines as sentences tell them.

    It begins before that where an element is beyond: shares of the error may be negative.
    """
    perfect = min(r.perfect for r in readings)
    least = perfect
    if any(map(goes_beyond, readings)):
        least = min(float(np.nanmin(r.per_element)) for r in readings)
    room = max(most - least, 1e-9 + 1e-6 * abs(least))
    if readings[0].similarity:
        tell_cosines(axis, room)
    return least - 0.015 * room, least + 1.04 * room


def _as_cosine(value: float, _: int | None = None, *, places: int = 6) -> str:
    # No closure, so that a figure can be pickled.
    text = f"{0.0 - round(value, 12):.{places}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def tall(rows: int) -> float:
    """Return the height of so many rows, in inches, which is bounded for thousands of layers."""
    return (0.155 if rows > 24 else 0.21) * min(rows, _MOST_ROWS)


def perfect_lines(axes: Any, readings: Sequence[Reading]) -> None:
    """Draw the perfect value, one line for each that the models have."""
    for perfect in sorted({r.perfect for r in readings}):
        axes.axvline(perfect, color=SOFT, lw=1, ls=(0, (4, 3)))


def label_of(readings: Sequence[Reading]) -> str:
    """Return the label of an axis of values: their unit, and which value is perfect."""
    first = readings[0]
    perfect = ", ".join(f"{p:.4g}" for p in sorted({r.told(r.perfect) for r in readings}))
    return f"{first.told_unit}; dashed line: {perfect} is perfect"


def value_text(reading: Reading, value: float, ends: tuple[float, float] | None = None) -> str:
    """Return a value as the page's sentences write it, such as a cosine, with its interval."""
    text = span(reading.told(value))
    if told := reading.told_ends(ends):
        low, high = told
        text += f" ({span(low)} to {span(high)})"
    return text
