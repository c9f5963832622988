"""Pictures of results: SVG by matplotlib, with real text and colours that follow the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import turns_of
from onnx_geed.report.svg import FONT, INK, MARKERS, PAPER, SERIES, SOFT, TIP, Picture, drawing
from onnx_geed.results import Reading
from onnx_geed.text import span
from onnx_geed.whole import whole

__all__ = [
    "heat_picture",
    "label_layers",
    "legend",
    "legend_name",
    "over_depth",
    "polar_picture",
    "profile_picture",
    "samples_picture",
    "short_name",
]

F64 = NDArray[np.float64]


# More samples than this are drawn as a shape, not one dot each.
_MOST_DOTS = 250


# Layers in one picture of elements or samples.
_LINES = 4


Row = tuple[str, Sequence[Reading | None]]


def short_name(name: str, width: int = 26) -> str:
    """Shorten a name for a legend or an axis."""
    from onnx_geed.text import shorten

    return shorten(name, width)


def legend_name(name: str, width: int = 26) -> str:
    """Shorten a name for a legend, which matplotlib leaves those out of that begin with ``_``."""
    return f" {short}" if (short := short_name(name, width)).startswith("_") else short


def _distinct_names(names: Sequence[str], width: int = 24) -> list[str]:
    """Shorten names, without what they all begin and end with where they are long."""
    if len(set(names)) > 1 and max(map(len, names)) > width:
        start = _common_start(names)
        end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
        # Whole words only: cut behind a separator, and in front of one.
        start = start[: 1 + max(start.rfind(c) for c in "/._:")]
        end = end[min((i for i in map(end.find, "/._:") if i >= 0), default=len(end)) :]
        names = [name[len(start) : len(name) - len(end)] or name for name in names]
    return [short_name(name, width) for name in names]


def _common_start(names: Sequence[str]) -> str:
    """Return what all names begin with: the first and the last in order differ first."""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[: min(len(first), len(last)) if same is None else same]


def over_depth(readings: Sequence[Reading]) -> list[Reading]:
    """Take a few layers spread over the depth."""
    at = np.linspace(0, len(readings) - 1, min(_LINES, len(readings))).round().astype(int)
    return [readings[i] for i in dict.fromkeys(at.tolist())]


def legend(axes: Any, count: int, **options: Any) -> None:
    """Put a legend over the axes where there is more than one entry."""
    if count > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=2 if count > 3 else count,
            borderaxespad=0.2,
            handlelength=1.4,
            columnspacing=1.0,
            **options,
        )


def profile_picture(rows: Sequence[Row], names: Sequence[str]) -> Picture:
    """Draw values by layer, input on top, with intervals and the exact subgroup.

    Parameters
    ----------
    rows : sequence of (layer, one Reading or None a result)
        Layers in depth order.
    names : sequence of str
        Names of the results.

    Returns
    -------
    str
        SVG.
    """
    step = 0.155 if len(rows) > 24 else 0.21
    readings = [r for _, series in rows for r in series if r]
    has_exact = any(r.exact is not None for r in readings)
    trips = {name for r in readings for name in r.trips} if len(names) == 1 else set()
    if len(names) == 1 and any(r.untrained is not None for r in readings):
        trips.add("untrained")
    height = 0.85 + step * len(rows) + 0.34 * bool(trips)
    height += 0.17 * (1 if len(names) <= 3 else len(names))
    height += 0.1 * has_exact
    with drawing(5.0, height) as (_, axes, picture):
        several = len(names) > 1
        for i, name in enumerate(names):
            colour, marker = SERIES[i % 6], MARKERS[i % 6]
            shift = (i - (len(names) - 1) / 2) * 0.5 / max(1, len(names))
            placed = [(y + shift, r) for y, (_, series) in enumerate(rows) if (r := series[i])]
            ys = [y for y, _ in placed]
            kept = [r for _, r in placed]
            low = [max(0.0, r.value - r.ci95[0]) if r.ci95 else 0.0 for r in kept]
            high = [max(0.0, r.ci95[1] - r.value) if r.ci95 else 0.0 for r in kept]
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
                (y, r.exact, r.exact_ci95 or (r.exact, r.exact))
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
                    label=None if several else "exact elements",
                )
            for y, (layer, series) in enumerate(rows):
                if reading := series[i]:
                    tip = f"{TIP}{layer}{f', {name}' if several else ''}: {_tip_text(reading)}"
                    # Larger than what is seen, so that a pointer finds it.
                    axes.plot([reading.value], [y + shift], "s", ms=9, alpha=0, gid=tip)
        if not several:
            _mark_scales(axes, [series[0] for _, series in rows])
        label_layers(axes, [layer for layer, _ in rows])
        perfect = min(r.perfect for r in readings)
        axes.axvline(perfect, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.grid(axis="x", lw=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{readings[0].unit}; dashed: perfect, {perfect:.4g}")
        legend(axes, len(names) if several else 1 + has_exact + len(trips))
    return picture[0]


def _tip_text(reading: Reading) -> str:
    text = span(reading.value)
    if reading.ci95:
        text += f" ({span(reading.ci95[0])} to {span(reading.ci95[1])})"
    return text + (f", exact elements {span(reading.exact)}" if reading.exact is not None else "")


def _mark_scales(axes: Any, readings: Sequence[Reading | None]) -> None:
    """Mark what resampling alone does, and the same network untrained."""
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


def label_layers(axes: Any, layers: Sequence[str]) -> None:
    """Name layers down the left side, the first on top."""
    axes.set_yticks(range(len(layers)), _distinct_names(layers))
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=7 if len(layers) > 24 else FONT)


def polar_picture(
    lines: Sequence[tuple[str, Reading]], group: str, exact: Sequence[bool]
) -> Picture:
    """Draw the deviation of each element, at its angle for C_n and D_n.

    Parameters
    ----------
    lines : sequence of (name, Reading)
        What to draw; readings of one measure.
    group : str
        Name of the group.
    exact : sequence of bool
        Per element, whether it is exact on the input; exact ones are drawn filled.

    Returns
    -------
    str
        SVG; by element, without angles, for other groups.
    """
    turns = turns_of(group)
    if turns is None or turns.count < 3:
        return _by_element(lines, group, exact)
    n = turns.count
    angles = 2 * np.pi * np.arange(n) / n
    filled = np.asarray(exact, dtype=bool)
    perfect = min(reading.perfect for _, reading in lines)
    height = 3.9 + 0.18 * (len(lines) + turns.mirrored)
    with drawing(3.9, height, projection="polar") as (fig, axes, picture):
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
        room = (top - perfect) or max(abs(top), 1.0) * 0.1
        axes.set_ylim(perfect - 0.12 * room, perfect + 1.08 * room)
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
            labels.append("dashed: rotate by the angle, then mirror")
        if len(handles) > 1:
            fig.legend(handles, labels, loc="outside lower center", ncols=1, handlelength=2.0)
    return picture[0]


def _by_element(lines: Sequence[tuple[str, Reading]], group: str, exact: Sequence[bool]) -> Picture:
    count = len(exact)
    shown = np.arange(count) if count <= 48 else np.linspace(0, count - 1, 48).astype(int)
    from onnx_geed.groups import parse_group

    elements = parse_group(group).elements if _is_named(group) else ()
    labels = [elements[g] if elements else str(g) for g in shown]
    with drawing(4.6, 0.9 + 0.2 * len(shown) + 0.18 * len(lines)) as (_, axes, picture):
        for i, (name, reading) in enumerate(lines):
            axes.plot(
                reading.per_element[shown],
                np.arange(len(shown)),
                MARKERS[i % 6],
                ms=5,
                color=SERIES[i % 6],
                label=legend_name(name, 40),
            )
        axes.axvline(min(r.perfect for _, r in lines), color=SOFT, lw=1, ls=(0, (4, 3)))
        label_layers(axes, labels)
        axes.grid(axis="x", lw=0.5)
        axes.set_xlabel(f"{lines[0][1].unit}; dashed: perfect")
        legend(axes, len(lines))
    return picture[0]


def _is_named(group: str) -> bool:
    from onnx_geed.groups import parse_group

    try:
        parse_group(group)
    except GeedError:
        return False
    return True


def heat_picture(
    readings: Sequence[Reading], elements: Sequence[str], order: Sequence[int] | NDArray[np.int64]
) -> str:
    """Draw layers against elements, darker where less equivariant.

    Parameters
    ----------
    readings : sequence of Reading
        One a layer, of one measure, in depth order.
    elements : sequence of str
        What to call the elements.
    order : sequence of int
        In which order they stand from left to right.

    Returns
    -------
    str
        SVG with the cells as one small raster.
    """
    array = np.stack([reading.per_element[order] for reading in readings])
    elements = [elements[g] for g in order]
    step = 0.155 if len(readings) > 24 else 0.21
    with drawing(5.0, 0.95 + step * len(readings)) as (figure, axes, picture):
        perfect = readings[0].perfect
        image = axes.imshow(
            array,
            aspect="auto",
            cmap="viridis_r",
            interpolation="none",
            vmin=perfect,
            vmax=max(float(array.max()), perfect + 1e-6),
        )
        label_layers(axes, [reading.layer for reading in readings])
        axes.set_ylim(len(readings) - 0.5, -0.5)
        n = len(elements)
        at = np.arange(n) if n <= 16 else np.linspace(0, n - 1, 9).astype(int)
        axes.set_xticks(at, [short_name(elements[g], 16) for g in at], rotation=0 if n <= 8 else 90)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(readings[0].unit)
    return picture[0]


def samples_picture(lines: Sequence[tuple[str, Reading]]) -> Picture:
    """Draw the distribution over samples: a dot each, or a shape for many.

    Parameters
    ----------
    lines : sequence of (name, Reading)
        Readings of one measure.

    Returns
    -------
    str
        SVG; a bar marks the median, a thick line the middle half.
    """
    with drawing(4.6, 0.75 + 0.55 * len(lines)) as (_, axes, picture):
        perfect = min(reading.perfect for _, reading in lines)
        axes.axvline(perfect, color=SOFT, lw=1, ls=(0, (4, 3)))
        for i, (_, reading) in enumerate(lines):
            values, colour = reading.per_sample, SERIES[i % 6]
            height = _heights(values)
            if len(values) <= _MOST_DOTS:
                axes.plot(values, i - height, "o", ms=3, color=colour, alpha=0.55, mew=0)
            else:
                edges = np.linspace(values.min(), values.max(), 61)
                count = np.histogram(values, edges)[0]
                top = i - 0.62 * count / max(1, count.max())
                axes.fill_between(edges[:-1], top, i, step="post", color=colour, alpha=0.45, lw=0)
            low, middle, high = np.percentile(values, [25, 50, 75])
            axes.plot([low, high], [i + 0.17] * 2, color=colour, lw=3.5, solid_capstyle="butt")
            axes.plot([middle], [i + 0.17], "|", ms=10, mew=2, color=INK)
        axes.set_yticks(range(len(lines)), _distinct_names([name for name, _ in lines], 22))
        axes.set_ylim(len(lines) - 0.5, -0.85)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", lw=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{lines[0][1].unit}; dashed: perfect, {perfect:.4g}")
    return picture[0]


def _heights(values: F64) -> F64:
    """Pile dots that would hide one another."""
    width = float(np.ptp(values)) / 45 or 1.0
    cell = np.floor((values - values.min()) / width).astype(int)
    heights = np.zeros(len(values))
    taken: dict[int, int] = {}
    for k in np.argsort(values, kind="stable"):
        heights[k] = taken.get(int(cell[k]), 0)
        taken[int(cell[k])] = int(heights[k]) + 1
    most = max(taken.values())
    return heights * min(0.09, 0.7 / max(1, most))
