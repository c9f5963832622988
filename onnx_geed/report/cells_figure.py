"""Pictures of cells: layers, or many results, against elements, in one scale of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.axes import label_layers, short_name, tall, tell_cosines, value_text
from onnx_geed.report.curves import Curve
from onnx_geed.report.elements import element_called, element_noun, element_told
from onnx_geed.report.svg import Picture, drawing, note_of_image
from onnx_geed.results import GroupPart, Reading, along

__all__ = ["Shades", "cells_picture", "draw_cells", "draw_shades", "heat_picture", "shades_of"]

F64 = NDArray[np.float64]


# Inches that a letter of an axis takes.
_LETTER = 0.075


@dataclass(frozen=True)
class Shades:
    """What the colours of cells mean.

    Parameters
    ----------
    low, high : float
        The values at its ends.
    label : str
        The quantity.
    ends : (str, str)
        What the ends mean, in words.
    colours : str
        As matplotlib has them, from the low end to the high one.
    falling : bool
        Whether the low end is at the top, where the better values are.
    cosines : bool
        Whether they are written as cosines, which have the other sign.
    """

    low: float
    high: float
    label: str
    ends: tuple[str, str] = ("", "")
    colours: str = "viridis_r"
    falling: bool = True
    cosines: bool = False


def shades_of(readings: Sequence[Reading], most: float) -> Shades:
    """Return the scale of readings of one measure: dark is far from perfect.

    Parameters
    ----------
    readings : sequence of Reading
        What is drawn.
    most : float
        The darkest value.

    Returns
    -------
    Shades
    """
    perfect, of = min(r.perfect for r in readings), readings[0]
    high, ends = max(most, perfect + 1e-6), ("perfect", "worst")
    return Shades(perfect, high, of.told_unit, ends, cosines=of.similarity)


def heat_picture(
    readings: Sequence[Reading],
    elements: Sequence[str],
    order: Sequence[int] | NDArray[np.int64],
    *,
    model: str = "",
    most: float | None = None,
) -> Picture:
    """Draw layers against elements, darker where less equivariant.

    Parameters
    ----------
    readings : sequence of Reading
        One a layer, of one measure, in depth order.
    elements : sequence of str
        What to call the elements.
    order : sequence of int
        In which order they stand from left to right.
    model : str
        Of which model they are.
    most : float, optional
        The darkest value, the same in all pictures of one measure; by default the largest.

    Returns
    -------
    str
        SVG with the cells as one small raster.
    """
    array = np.stack([reading.per_element[order] for reading in readings])
    perfect, columns = readings[0].perfect, [elements[g] for g in order]
    top = max(float(array.max()) if most is None else most, perfect + 1e-6)
    label = f"{readings[0].told_unit}; top: perfect"
    note = {
        "model": model,
        "rows": [reading.layer for reading in readings],
        "columns": columns,
        "elements": [int(g) for g in order],
        "values": [
            [value_text(r, float(v)) for v in row] for r, row in zip(readings, array, strict=True)
        ],
    }
    return _drawn(array, note, columns, Shades(perfect, top, label, cosines=readings[0].similarity))


def cells_picture(curves: Sequence[Curve], group: GroupPart, scale: Shades) -> Picture:
    """Draw quantities over the elements of a group as rows of cells, in one scale of colours.

    Parameters
    ----------
    curves : sequence of Curve
        More than there are colours for lines.
    group : dict
        The ``group`` part of their results.
    scale : Shades
        What the colours mean.

    Returns
    -------
    str
        SVG with the cells as one small raster; elements without any value are left out.
    """
    values = np.stack([curve.values for curve in curves])
    order = [int(g) for g in along(group) if np.isfinite(values[:, g]).any()]
    note = {
        "rows": [curve.name for curve in curves],
        "models": [curve.at.get("model", curve.name) for curve in curves],
        "layers": [curve.at.get("layer") for curve in curves],
        "columns": [element_told(group, g) for g in order],
        "elements": order,
        "values": [[curve.words(g) for g in order] for curve in curves],
    }
    called = [element_called(group, g) for g in order]
    return _drawn(values[:, order], note, called, scale, element_noun(group))


def _drawn(
    array: F64, note: Mapping[str, Any], columns: Sequence[str], scale: Shades, across: str = ""
) -> Picture:
    # Names of columns may stand upright, below rows that keep their height.
    below = 0.2 + _LETTER * min(16, max(map(len, columns))) if across else 0.0
    with drawing(5.0, 0.95 + below + tall(len(array))) as (_, axes, picture):
        image = draw_cells(axes, array, note["rows"], columns, scale)
        note_of_image(image, note)
        axes.set_xlabel(across)
        draw_shades(image, [axes], scale)
    return picture[0]


def draw_cells(
    axes: Any, array: F64, rows: Sequence[str], columns: Sequence[str], scale: Shades
) -> Any:
    """Draw named cells, and return the image that they are.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to.
    array : ndarray of float64, shape (rows, columns)
        Their values; where one is NaN, nothing is drawn.
    rows, columns : sequence of str
        Their names.
    scale : Shades
        What the colours mean.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    image = axes.imshow(
        array,
        aspect="auto",
        cmap=scale.colours,
        interpolation="none",
        vmin=scale.low,
        vmax=scale.high,
    )
    _label_cells(axes, rows, columns)
    return image


def draw_shades(image: Any, axes: Sequence[Any], scale: Shades) -> None:
    """Put the bar of colours beside axes, with what its ends mean.

    Parameters
    ----------
    image : matplotlib.image.AxesImage
        From :func:`draw_cells`.
    axes : sequence of matplotlib.axes.Axes
        All that have this scale.
    scale : Shades
        What the colours mean.
    """
    bar = image.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    if scale.cosines:
        tell_cosines(bar.ax.yaxis, scale.high - scale.low)
    if scale.falling:
        bar.ax.invert_yaxis()
    bar.set_label(scale.label)
    top, bottom = scale.ends if scale.falling else scale.ends[::-1]
    bar.ax.set_title(top, loc="left", fontsize="medium", pad=7)
    bar.ax.set_xlabel(bottom, loc="left", labelpad=7)


def _label_cells(axes: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name the rows and the columns of an image of cells."""
    label_layers(axes, rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    n = len(columns)
    at = np.arange(n) if n <= 16 else np.linspace(0, n - 1, 9).astype(int)
    names = [short_name(columns[g], 16) for g in at]
    # Inches from one name to the next, beside the names of rows and the bar of colours.
    named = max(len(label.get_text()) for label in axes.get_yticklabels())
    width = axes.figure.get_figwidth() / axes.get_gridspec().ncols
    room = (width - _LETTER * named - 0.9) / len(names)
    pairs = pairwise(map(len, names))
    long = n > 8 or any(_LETTER * (1 + (a + b) / 2) > room for a, b in pairs)
    axes.set_xticks(at, names, rotation=90 if long else 0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
