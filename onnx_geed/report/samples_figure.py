"""The picture of samples: how far each one is from perfect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.axes import (
    begin_at_perfect,
    distinct_names,
    head,
    label_layers,
    label_of,
    perfect_lines,
    tall,
    value_text,
)
from onnx_geed.report.svg import INK, MOST_SERIES, SERIES, Mark, Picture, drawing, mark
from onnx_geed.results import Reading

__all__ = ["MOST_DOTS", "samples_picture"]

F64 = NDArray[np.float64]


#: Up to as many samples are drawn as one dot each, more as a shape.
MOST_DOTS = 250


def samples_picture(
    lines: Sequence[tuple[str, Reading]],
    models: Sequence[str] = (),
    called: Sequence[Sequence[str]] = (),
    *,
    note: str = "",
) -> Picture:
    """Draw the distribution over samples: one dot per sample, or a shape for many samples.

    Parameters
    ----------
    lines : sequence of (name, Reading)
        Readings of one measure.
    models : sequence of str
        The model of each line, where known.
    called : sequence of sequence of str
        The names of the samples of each line.
    note : str
        What stands above it.

    Returns
    -------
    str
        SVG; a tick marks the median, a thick bar the middle half. More lines than there are colours
        have one, and are drawn from end to end.
    """
    many = len(lines) > MOST_SERIES
    width, height = (5.0, tall(len(lines))) if many else (4.6, 0.55 * len(lines))
    with drawing(width, 0.75 + height) as (figure, axes, picture):
        head(figure, note)
        readings = [reading for _, reading in lines]
        perfect_lines(axes, readings)
        for i, (name, reading) in enumerate(lines):
            own = {**({"model": models[i]} if models else {}), "layer": reading.layer}
            names = called[i] if called else [f"sample {k}" for k in range(len(reading.per_sample))]
            if many:
                _range(axes, i, name, reading, names, own)
            else:
                _samples(axes, i, reading, names, own)
        if many:
            label_layers(axes, [name for name, _ in lines])
        else:
            axes.set_yticks(range(len(lines)), distinct_names([name for name, _ in lines], 22))
            axes.set_ylim(len(lines) - 0.5, -0.85)
            axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", lw=0.5)
        axes.set_axisbelow(True)
        most = max(float(reading.per_sample.max()) for reading in readings)
        axes.set_xlim(*begin_at_perfect(axes.xaxis, readings, most))
        axes.set_xlabel(label_of(readings))
    return picture[0]


def _samples(
    axes: Any, i: int, reading: Reading, names: Sequence[str], own: Mapping[str, str]
) -> None:
    """Draw a line's samples, with their middle half and median below."""
    values, colour = reading.per_sample, SERIES[i % MOST_SERIES]
    height = _heights(values)
    if len(values) <= MOST_DOTS:
        axes.plot(values, i - height, "o", ms=3, color=colour, alpha=0.55, mew=0)
        marks = [
            Mark(
                float(v),
                float(i - up),
                f"{names[k]}: {value_text(reading, float(v))}",
                {**own, "sample": k},
            )
            for k, (v, up) in enumerate(zip(values, height, strict=True))
        ]
        mark(axes, marks)
    else:
        edges = np.linspace(values.min(), values.max(), 61)
        count = np.histogram(values, edges)[0]
        top = i - 0.62 * count / max(1, count.max())
        axes.fill_between(edges[:-1], top, i, step="post", color=colour, alpha=0.45, lw=0)
    low, middle, high = np.percentile(values, [25, 50, 75])
    axes.plot([low, high], [i + 0.17] * 2, color=colour, lw=3.5, solid_capstyle="butt")
    axes.plot([middle], [i + 0.17], "|", ms=10, mew=2, color=INK)


def _range(
    axes: Any, i: int, name: str, reading: Reading, names: Sequence[str], own: Mapping[str, str]
) -> None:
    """Draw a line from the best to the worst sample, with the middle half and the median on it."""
    values = reading.per_sample
    low, middle, high = np.percentile(values, [25, 50, 75])
    axes.plot([values.min(), values.max()], [i, i], color=SERIES[0], lw=0.9, alpha=0.6)
    axes.plot([low, high], [i, i], color=SERIES[0], lw=3.5, solid_capstyle="butt")
    axes.plot([middle], [i], "|", ms=7, mew=1.6, color=INK)
    marks = [
        Mark(
            float(values[k]),
            i,
            f"{name}, {which}, {names[k]}: {value_text(reading, float(values[k]))}",
            {**own, "sample": k},
        )
        for which, k in (("best", int(values.argmin())), ("worst", int(values.argmax())))
    ]
    told = f"{name}, median: {value_text(reading, float(middle))}"
    mark(axes, [marks[0], Mark(float(middle), i, told, own), marks[1]])


def _heights(values: F64) -> F64:
    """Stack dots that would hide one another."""
    width = float(np.ptp(values)) / 45 or 1.0
    cell = np.floor((values - values.min()) / width).astype(int)
    heights = np.zeros(len(values))
    taken: dict[int, int] = {}
    for k in np.argsort(values, kind="stable"):
        heights[k] = taken.get(int(cell[k]), 0)
        taken[int(cell[k])] = int(heights[k]) + 1
    most = max(taken.values())
    return heights * min(0.09, 0.7 / max(1, most))
