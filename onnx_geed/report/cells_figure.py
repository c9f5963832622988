"""Pictures of cells: layers against elements, and models against elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.report.axes import begin_at_perfect, label_layers, short_name, tall, value_text
from onnx_geed.report.elements import element_called
from onnx_geed.report.svg import drawing, note_of_image
from onnx_geed.results import GroupPart, Reading

__all__ = ["heat_picture", "shares_picture"]

F64 = NDArray[np.float64]


# Inches that a letter of an axis takes.
_LETTER = 0.075


def heat_picture(
    readings: Sequence[Reading],
    elements: Sequence[str],
    order: Sequence[int] | NDArray[np.int64],
    *,
    model: str = "",
    most: float | None = None,
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
    elements = [elements[g] for g in order]
    with drawing(5.0, 0.95 + tall(len(readings))) as (figure, axes, picture):
        perfect = readings[0].perfect
        image = axes.imshow(
            array,
            aspect="auto",
            cmap="viridis_r",
            interpolation="none",
            vmin=perfect,
            vmax=max(float(array.max()) if most is None else most, perfect + 1e-6),
        )
        note = {
            "model": model,
            "rows": [reading.layer for reading in readings],
            "columns": elements,
            "elements": [int(g) for g in order],
            "values": [
                [value_text(r, float(v)) for v in row]
                for r, row in zip(readings, array, strict=True)
            ],
        }
        note_of_image(image, note)
        _label_cells(axes, [reading.layer for reading in readings], elements)
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
        begin_at_perfect(bar.ax.yaxis, readings[:1], perfect)
        bar.ax.invert_yaxis()
        bar.set_label(f"{readings[0].told_unit}; top: perfect")
    return picture[0]


def shares_picture(
    table: Sequence[tuple[str, F64]], group: GroupPart, order: NDArray[np.int64]
) -> str:
    """Draw shares by model and element as cells, darker where they are smaller.

    Parameters
    ----------
    table : sequence of (str, ndarray of float64, shape (n,))
        What each row is called, and its shares from 0 to 1.
    group : dict
        The ``group`` part of their results.
    order : ndarray of int64
        In which order elements stand from left to right.

    Returns
    -------
    str
        SVG with the cells as one small raster.
    """
    called = [element_called(group, int(g)) for g in order]
    array = np.stack([100 * values[order] for _, values in table])
    with drawing(5.0, 0.95 + tall(len(table))) as (figure, axes, picture):
        image = axes.imshow(
            array, aspect="auto", cmap="viridis", interpolation="none", vmin=0, vmax=100
        )
        note = {
            "rows": [name for name, _ in table],
            "columns": called,
            "elements": [int(g) for g in order],
            "values": [[f"{v:.1f} %" for v in row] for row in array],
        }
        note_of_image(image, note)
        _label_cells(axes, [name for name, _ in table], called)
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("% same class; top: perfect")
    return picture[0]


def _label_cells(axes: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name the rows and the columns of an image of cells."""
    label_layers(axes, rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    n = len(columns)
    at = np.arange(n) if n <= 16 else np.linspace(0, n - 1, 9).astype(int)
    names = [short_name(columns[g], 16) for g in at]
    # Inches from one name to the next, beside the names of rows and the bar of colours.
    named = max(len(label.get_text()) for label in axes.get_yticklabels())
    room = (axes.figure.get_figwidth() - _LETTER * named - 0.9) / len(names)
    pairs = pairwise(map(len, names))
    long = n > 8 or any(_LETTER * (1 + (a + b) / 2) > room for a, b in pairs)
    axes.set_xticks(at, names, rotation=90 if long else 0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
