"""Curves over the parameter of a family: what each member does, with intervals over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.measures import gap_within
from onnx_geed.report.axes import (
    begin_at_perfect,
    head,
    legend,
    legend_name,
    short_name,
    value_text,
)
from onnx_geed.report.elements import element_called, element_told
from onnx_geed.report.svg import PAPER, SOFT, Mark, Picture, drawing, mark, series_of
from onnx_geed.results import (
    GroupPart,
    Reading,
    gap_interval,
    mean_interval,
    parameter_words,
    parameters_of,
)
from onnx_geed.text import span

__all__ = ["Curve", "curve_of", "curve_picture", "difference_curve"]

F64 = NDArray[np.float64]


# More values, or elements, than this are not each named on the axis.
_MOST_TICKS, _MOST_NAMES = 11, 16


# A label of more letters takes two lines.
_LABEL = 44


@dataclass(frozen=True, eq=False)
class Curve:
    """A quantity by element of a family.

    Parameters
    ----------
    name : str
        Of whom.
    values : ndarray of float64, shape (n,)
        By element, the identity first; NaN where there is none.
    ends : ndarray of float64, shape (n, 2), optional
        Intervals over samples.
    series : int, optional
        Which colour and mark it has; by its place among the others where none is given.
    style : str
        How its line is drawn, as matplotlib has it.
    told : callable
        A value as a pointer is told it.
    opposite : bool
        Whether what is told falls where values grow, as cosines do.
    at : mapping of str to str
        Of which ``model`` and ``layer`` it is, where that is known.
    """

    name: str
    values: F64
    ends: F64 | None = None
    series: int | None = None
    style: str = "-"
    told: Callable[[float], str] = span
    opposite: bool = False
    at: Mapping[str, str] = field(default_factory=dict)

    def words(self, element: int) -> str:
        """Return what a pointer is told of an element: its value, with its interval."""
        if not np.isfinite(value := float(self.values[element])):
            return "no value"
        if self.ends is None:
            return self.told(value)
        low, high = sorted(map(float, self.ends[element]), reverse=self.opposite)
        return f"{self.told(value)} ({self.told(low)} to {self.told(high)})"


def curve_of(name: str, reading: Reading, model: str = "") -> Curve:
    """Return a record's values by element, with intervals over samples.

    Parameters
    ----------
    name : str
        What to call it.
    reading : Reading
        The record's.
    model : str
        Of which model it is, where that is known.

    Returns
    -------
    Curve
        Wilson's intervals where each sample is 0 or 1, else Student t. The unmoved sample that is
        compared with itself is 0 for certain.
    """
    columns = reading.deviations.T
    trials = reading.descriptor.view == "classes" and bool(np.isin(columns, (0.0, 1.0)).all())
    ends = [
        mean_interval(column, "wilson" if trials and g >= reading.skipped else "t")
        for g, column in enumerate(columns)
    ]
    known = [
        reading.within(pair or (value, value))
        for pair, value in zip(ends, reading.per_element, strict=True)
    ]
    at = {"layer": reading.layer} | ({"model": model} if model else {})
    told = partial(value_text, reading)
    return Curve(
        name,
        reading.per_element,
        np.array(known),
        told=told,
        opposite=reading.similarity,
        at=at,
    )


def difference_curve(name: str, a: Reading, b: Reading) -> Curve:
    """Return the paired difference of two models by element.

    Parameters
    ----------
    name : str
        What to call it.
    a, b : Reading
        Of the same samples, on one scale.

    Returns
    -------
    Curve
        Student t's intervals; Tango's where shares of flips differ alike in all samples, but for
        the unmoved sample that is compared with itself.
    """
    gaps = a.deviations - b.deviations
    shares = a.descriptor.view == "classes"
    ends = [
        gap_interval(column, shares=shares and g >= a.skipped) for g, column in enumerate(gaps.T)
    ]
    mean = gaps.mean(axis=0)
    known = [
        gap_within(a.descriptor, pair or (value, value), a.scale)
        for pair, value in zip(ends, mean, strict=True)
    ]
    return Curve(name, mean, np.array(known))


def curve_picture(
    curves: Sequence[Curve],
    group: GroupPart,
    label: str,
    level: tuple[float, str] | None = None,
    *,
    limits: tuple[float, float] | None = None,
    of: Reading | None = None,
    note: str = "",
) -> Picture:
    """Draw quantities over the elements of a group, or the parameter of a family.

    Parameters
    ----------
    curves : sequence of Curve
        Quantities of one scale.
    group : dict
        The ``group`` part of a result of the family.
    label : str
        The quantity.
    level : (float, str), optional
        A value that gets a dashed line, and what it means.
    limits : (float, float), optional
        The ends of the axis of values; by default those of the values.
    of : Reading, optional
        The reading whose values they are, so that the axis begins at perfect.
    note : str
        What stands above it.

    Returns
    -------
    str
        SVG. The axis has the order of the family's members, and is logarithmic if they are spaced
        by equal ratios. A vertical line is the identity. Members without numbers are drawn side by
        side.
    """
    at = parameters_of(group)
    with drawing(5.0, 3.0 + 0.17 * (len(curves) if len(curves) > 3 else 1)) as (
        figure,
        axes,
        picture,
    ):
        head(figure, note)
        places = np.arange(len(group["elements"]), dtype=float) if at is None else at
        if level is not None:
            axes.axhline(level[0], color=SOFT, lw=1, ls=(0, (4, 3)))
        if np.isfinite(places[0]):
            axes.axvline(places[0], color=SOFT, lw=1, ls=(0, (1, 2)))
        for i, curve in enumerate(curves):
            _draw(axes, curve, i if curve.series is None else curve.series, places, group)
        if at is None:
            # Angles are a scale, of which every second one is enough where they stand close.
            most = (
                _MOST_TICKS if element_called(group, len(places) - 1).endswith("°") else _MOST_NAMES
            )
            shown = range(0, len(places), 1 + (len(places) - 1) // most)
            names = [short_name(element_called(group, g), 16) for g in shown]
            long = max(map(len, names)) * len(names) > 60
            axes.set_xticks([places[g] for g in shown], names, rotation=30 if long else 0)
        else:
            _parameter_axis(axes, at, group)
        axes.grid(axis="y", lw=0.5)
        axes.set_axisbelow(True)
        line = "" if level is None else f"dashed line: {level[1]}"
        long = len(label) + len(line) > _LABEL
        axes.set_ylabel(label + (line and (";\n" if long else "; ") + line))
        if of is not None:
            tops = [c.values if c.ends is None else c.ends[:, 1] for c in curves]
            axes.set_ylim(*begin_at_perfect(axes.yaxis, [of], float(np.nanmax(np.stack(tops)))))
        if limits is not None:
            axes.set_ylim(*limits)
        legend(axes, len(curves))
    return picture[0]


def _draw(axes: Any, curve: Curve, series: int, places: F64, group: GroupPart) -> None:
    colour, marker = series_of(series)
    there = np.flatnonzero(np.isfinite(places))
    order = there[np.argsort(places[there], kind="stable")]
    x, y = places[order], curve.values[order]
    if curve.ends is not None:
        low, high = curve.ends[order].T
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(
        x,
        y,
        color=colour,
        lw=1.4,
        ls=curve.style,
        marker=marker,
        ms=4,
        mec=PAPER,
        mew=0.4,
        label=legend_name(curve.name, 40),
    )
    marks = []
    for k in order[np.isfinite(y)]:
        tip = f"{curve.name}, {element_told(group, int(k))}: {curve.words(int(k))}"
        at = {**curve.at, "element": int(k)}
        marks.append(Mark(float(places[k]), float(curve.values[k]), tip, at))
    mark(axes, marks)


def _parameter_axis(axes: Any, at: F64, group: GroupPart) -> None:
    known = at[np.isfinite(at)]
    members = at[1:][np.isfinite(at[1:])]
    if _by_ratio(np.sort(known)):
        axes.set_xscale("log")
        axes.minorticks_off()
    ticks = np.unique(known)
    if len(ticks) > _MOST_TICKS:
        ticks = ticks[np.linspace(0, len(ticks) - 1, 7).round().astype(int)]
    axes.set_xticks(ticks, [parameter_words({**group, "unit": ""}, float(v)) for v in ticks])
    if members[-1] < members[0]:
        axes.invert_xaxis()
    unit = short_name(group.get("unit") or "")
    axes.set_xlabel(
        short_name(group.get("parameter", "parameter"))
        + (f" ({unit})" if unit else "")
        + ("; dotted line: unmoved" if np.isfinite(at[0]) else "")
    )


def _by_ratio(values: F64) -> bool:
    """Tell whether values in order grow by equal ratios, and not by equal steps."""
    if len(values) < 3 or values[0] <= 0:
        return False
    ratios, steps = values[1:] / values[:-1], np.diff(values)
    return bool(np.ptp(ratios) < 0.02 * ratios.mean() and np.ptp(steps) > 0.05 * steps.mean())
