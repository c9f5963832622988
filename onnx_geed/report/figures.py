"""Pictures of results: SVG by matplotlib, with real text and colours that follow the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import turns_of
from onnx_geed.report.axes import (
    begin_at_perfect,
    furthest,
    goes_beyond,
    head,
    label_layers,
    label_of,
    legend,
    legend_name,
    perfect_lines,
    short_name,
    tall,
    value_text,
)
from onnx_geed.report.elements import element_called
from onnx_geed.report.svg import (
    PAPER,
    SERIES,
    SOFT,
    Mark,
    Picture,
    drawing,
    mark,
    series_of,
)
from onnx_geed.results import GroupPart, Reading
from onnx_geed.text import span
from onnx_geed.whole import whole

__all__ = ["over_depth", "polar_picture", "profile_picture", "some_layers"]

F64 = NDArray[np.float64]


# Layers in one picture of elements or samples.
_LINES = 4


Row = tuple[str, Sequence[Reading | None]]


# Layers of a picture that are pointed at one by one.
_MOST_TIPS = 600


def over_depth(readings: Sequence[Reading]) -> list[Reading]:
    """Take a few layers spread over the depth."""
    at = np.linspace(0, len(readings) - 1, min(_LINES, len(readings))).round().astype(int)
    return [readings[i] for i in dict.fromkeys(at.tolist())]


def some_layers(drawn: int, count: int) -> str:
    """Say that not all layers are drawn; empty where they are."""
    return f"{drawn} of {count} layers, spread over the depth" if drawn < count else ""


def profile_picture(
    rows: Sequence[Row], names: Sequence[str], *, most: float | None = None
) -> Picture:
    """Draw values by layer, input on top, with intervals and the exact subgroup.

    Parameters
    ----------
    rows : sequence of (layer, one Reading or None a result)
        Layers in depth order.
    names : sequence of str
        Names of the results.
    most : float, optional
        Where the axis ends, the same in all pictures of one thing; by default as far as values go.

    Returns
    -------
    str
        SVG.
    """
    readings = [r for _, series in rows for r in series if r]
    has_exact = any(r.exact is not None for r in readings)
    trips = {name for r in readings for name in r.trips} if len(names) == 1 else set()
    if len(names) == 1 and any(r.untrained is not None for r in readings):
        trips.add("untrained")
    entries = len(names) + has_exact + len(trips)
    height = 0.85 + tall(len(rows)) + 0.17 * (1 + (1 + entries) // 2)
    with drawing(5.0, height) as (_, axes, picture):
        several = len(names) > 1
        # Of more layers a pointer cannot tell neighbours apart: every second or third has a tip.
        thinned = -(-len(rows) // _MOST_TIPS)
        for i, name in enumerate(names):
            colour, marker = series_of(i)
            shift = (i - (len(names) - 1) / 2) * 0.5 / max(1, len(names))
            placed = [(y + shift, r) for y, (_, series) in enumerate(rows) if (r := series[i])]
            ys = [y for y, _ in placed]
            kept = [r for _, r in placed]
            pairs = [r.within(r.ci95) if r.ci95 else (r.value, r.value) for r in kept]
            low = [max(0.0, r.value - p[0]) for r, p in zip(kept, pairs, strict=True)]
            high = [max(0.0, p[1] - r.value) for r, p in zip(kept, pairs, strict=True)]
            label = legend_name(name) if several else "all elements"
            axes.plot([r.value for r in kept], ys, color=colour, lw=0.8, alpha=0.5)
            axes.errorbar(
                [r.value for r in kept],
                ys,
                xerr=[low, high],
                fmt=marker,
                ms=3.5,
                lw=1.4,
                color=colour,
                label=label,
            )
            part = [
                (y, r.exact, r.within(r.exact_ci95 or (r.exact, r.exact)))
                for y, r in zip(ys, kept, strict=True)
                if r.exact is not None
            ]
            if part:
                ends = [
                    [max(0.0, v - e[0]) for _, v, e in part],
                    [max(0.0, e[1] - v) for _, v, e in part],
                ]
                axes.errorbar(
                    [v for _, v, _ in part],
                    [y for y, _, _ in part],
                    xerr=ends,
                    fmt="|" if several else "D",
                    ms=6 if several else 3.5,
                    lw=0.8,
                    mfc=PAPER,
                    color=colour,
                    alpha=0.75,
                    label=None if several and i else "exact part",
                )
            marks = [
                Mark(
                    reading.value,
                    y + shift,
                    f"{layer}{f', {name}' if several else ''}: {_tip_text(reading)}",
                    {"model": name, "layer": layer},
                )
                for y, (layer, series) in enumerate(rows)
                if y % thinned == 0 and (reading := series[i])
            ]
            mark(axes, marks)
        if not several:
            _mark_scales(axes, [series[0] for _, series in rows])
        label_layers(axes, [layer for layer, _ in rows])
        perfect_lines(axes, readings)
        axes.set_xlim(*begin_at_perfect(axes.xaxis, readings, most or furthest(readings)))
        axes.grid(axis="x", lw=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel(label_of(readings))
        legend(axes, entries)
    return picture[0]


def _tip_text(reading: Reading) -> str:
    text = value_text(reading, reading.value, reading.ci95)
    if reading.exact is not None:
        text += f", exact part {span(reading.told(reading.exact))}"
    return text


def _mark_scales(axes: Any, readings: Sequence[Reading | None]) -> None:
    """Mark the references: resampling alone, and the same network untrained."""
    rows = [(y, r) for y, r in enumerate(readings) if r]
    for name, marker, colour, values in (
        (
            "input_round_trip",
            "x",
            SERIES[1],
            [(y, r.trips.get("input_round_trip")) for y, r in rows],
        ),
        (
            "output_round_trip",
            "+",
            SERIES[1],
            [(y, r.trips.get("output_round_trip")) for y, r in rows],
        ),
        ("untrained", "*", SERIES[2], [(y, r.untrained) for y, r in rows]),
    ):
        known = [(y, v) for y, v in values if v is not None]
        if known:
            axes.plot(
                [v for _, v in known],
                [y for y, _ in known],
                marker,
                ms=5,
                color=colour,
                ls="",
                label=name.replace("_", " "),
            )


def polar_picture(
    lines: Sequence[tuple[str, Reading]],
    group: GroupPart,
    models: Sequence[str] = (),
    *,
    note: str = "",
) -> Picture:
    """Draw the deviation of each element, at its angle for C_n and D_n.

    Parameters
    ----------
    lines : sequence of (name, Reading)
        What to draw; readings of one measure.
    group : dict
        The ``group`` part of a result; elements that are exact on the input are drawn filled.
    models : sequence of str
        The model of each line, where known.
    note : str
        What stands above it.

    Returns
    -------
    str
        SVG; by element, without angles, for other groups.
    """
    turns = turns_of(group["name"])
    called = [element_called(group, g) for g in range(len(group["elements"]))]
    if turns is None or turns.count < 3:
        return _by_element(lines, called, models, note)
    n = turns.count
    angles = 2 * np.pi * np.arange(n) / n
    filled = np.asarray(group["exact"], dtype=bool)
    hollow = not filled.all()
    height = 3.9 + 0.18 * (len(lines) + turns.mirrored + hollow)
    with drawing(3.9, height, projection="polar") as (fig, axes, picture):
        head(fig, note)
        # Room for the angle at the top, which the layout does not see as a whole.
        fig.get_layout_engine().set(h_pad=0.1)
        top = max(float(reading.per_element.max()) for _, reading in lines)
        for i, (name, reading) in enumerate(lines):
            colour = SERIES[i % 6]
            for start in range(0, len(reading.per_element), n):
                values = reading.per_element[start : start + n]
                solid = filled[start : start + n]
                style, marker = ("-", "o") if start == 0 else ("--", "s")
                around = np.append(angles, 2 * np.pi)
                axes.plot(
                    around,
                    np.append(values, values[0]),
                    style,
                    lw=1.4,
                    color=colour,
                    label=legend_name(name, 40) if start == 0 else None,
                )
                if n <= 36:
                    axes.plot(angles[solid], values[solid], marker, ms=5, color=colour)
                    axes.plot(angles[~solid], values[~solid], marker, ms=5, color=colour, mfc=PAPER)
                mark(axes, _element_marks(i, name, reading, models, called, start, angles))
        readings = [reading for _, reading in lines]
        axes.set_ylim(*begin_at_perfect(axes.yaxis, readings, top))
        if any(map(goes_beyond, readings)):
            ring = np.linspace(0, 2 * np.pi, 181)
            perfect = np.full(len(ring), readings[0].perfect)
            axes.plot(ring, perfect, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.set_rlabel_position(180 / n if n <= 12 else 22.5)
        with whole():
            from matplotlib.ticker import MaxNLocator

        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="y", labelsize=7, labelcolor=SOFT)
        ticks = angles if n <= 12 else np.arange(8) * np.pi / 4
        axes.set_xticks(ticks, [f"{np.degrees(a):g}°" for a in ticks])
        axes.grid(lw=0.6)
        handles, labels = axes.get_legend_handles_labels()
        if turns.mirrored:
            with whole():
                from matplotlib.lines import Line2D

            handles.append(Line2D([], [], color=SOFT, ls="--", marker="s", ms=4))
            labels.append("dashed: rotated by the angle, then mirrored")
        if hollow:
            with whole():
                from matplotlib.lines import Line2D

            handles.append(Line2D([], [], color=SOFT, ls="", marker="o", ms=5, mfc=PAPER))
            labels.append("hollow: resampled; filled: exact")
        fig.legend(handles, labels, loc="outside lower center", ncols=1, handlelength=2.0)
    return picture[0]


def _element_marks(
    line: int,
    name: str,
    reading: Reading,
    models: Sequence[str],
    called: Sequence[str],
    start: int,
    at: Sequence[float] | F64,
) -> list[Mark]:
    """Return marks of the elements from ``start`` on, at these places."""
    own = {"model": models[line]} if models else {}
    values = reading.per_element
    return [
        Mark(
            float(place),
            float(values[g]),
            f"{name}, {called[g]}: {value_text(reading, float(values[g]))}",
            {**own, "layer": reading.layer, "element": g},
        )
        for g, place in enumerate(at, start)
        if g < len(values)
    ]


def _by_element(
    lines: Sequence[tuple[str, Reading]],
    called: Sequence[str],
    models: Sequence[str],
    note: str,
) -> Picture:
    count = len(called)
    shown = np.arange(count) if count <= 48 else np.linspace(0, count - 1, 48).astype(int)
    labels = [short_name(called[g]) for g in shown]
    with drawing(4.6, 0.9 + 0.2 * len(shown) + 0.18 * len(lines)) as (figure, axes, picture):
        head(figure, note)
        for i, (name, reading) in enumerate(lines):
            colour, marker = series_of(i)
            axes.plot(
                reading.per_element[shown],
                np.arange(len(shown)),
                marker,
                ms=5,
                color=colour,
                label=legend_name(name, 40),
            )
            own = {"model": models[i]} if models else {}
            marks = [
                Mark(
                    float(reading.per_element[g]),
                    y,
                    f"{name}, {label}: {value_text(reading, float(reading.per_element[g]))}",
                    {**own, "layer": reading.layer, "element": int(g)},
                )
                for y, (g, label) in enumerate(zip(shown, labels, strict=True))
            ]
            mark(axes, marks)
        readings = [reading for _, reading in lines]
        perfect_lines(axes, readings)
        label_layers(axes, labels)
        most = max(float(reading.per_element.max()) for reading in readings)
        axes.set_xlim(*begin_at_perfect(axes.xaxis, readings, most))
        axes.grid(axis="x", lw=0.5)
        axes.set_xlabel(label_of(readings))
        legend(axes, len(lines))
    return picture[0]
