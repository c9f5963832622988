"""One picture of a result, as a figure of matplotlib to look at and to change."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from onnx_geed.errors import GeedError, known_names, nearest, shown
from onnx_geed.report.curves import curve_of, curve_picture
from onnx_geed.report.figures import over_depth, polar_picture, profile_picture, some_layers
from onnx_geed.report.samples_figure import samples_picture
from onnx_geed.report.svg import Picture, in_the_light
from onnx_geed.results import Reading, Result, is_family, read_record

__all__ = ["PlotKind", "draw_result"]

PlotKind = Literal["profile", "angles", "samples"]


def draw_result(result: Result, kind: PlotKind, measure: str | None = None) -> Any:
    """Draw one measure of a result.

    Parameters
    ----------
    result : dict
        A result.
    kind : {"profile", "angles", "samples"}
        Values by layer; deviations by element, at their angles or over a family's parameter; or
        the distribution over samples. Of the last two, of four layers spread over the depth, which
        a note above says if there are more.
    measure : str, optional
        Which one; by default the one that was taken on most layers, the first of these.

    Returns
    -------
    matplotlib.figure.Figure
        In the colours of the page.

    Raises
    ------
    GeedError
        If the result does not have the measure.
        If matplotlib is not installed.
    """
    return in_the_light(_picture(result, kind, _readings(result, measure)))


def _readings(result: Result, measure: str | None) -> list[Reading]:
    """Return the readings of one measure, in depth order."""
    layers = Counter(record["measure"] for record in result["measurements"])
    if not layers:
        raise GeedError("plot: the result has no measurements")
    chosen = layers.most_common(1)[0][0] if measure is None else measure
    if chosen not in layers:
        raise GeedError(
            f"plot: the result has no measure {shown(chosen)!r}; it has "
            f"{known_names(tuple(layers))}.{nearest(str(chosen), layers)}"
        )
    return [read_record(r) for r in result["measurements"] if r["measure"] == chosen]


def _picture(result: Result, kind: PlotKind, readings: list[Reading]) -> Picture:
    if kind == "profile":
        return profile_picture([(r.layer, [r]) for r in readings], [result["model"]["path"]])
    lines, group = [(r.layer, r) for r in over_depth(readings)], result["group"]
    note = some_layers(len(lines), len(readings))
    if kind == "samples":
        return samples_picture(lines, note=note)
    if is_family(group):
        first = readings[0]
        level = first.perfect, f"{first.told(first.perfect):.4g} is perfect"
        curves = [curve_of(*line) for line in lines]
        return curve_picture(curves, group, first.told_unit, level, of=first, note=note)
    return polar_picture(lines, group, note=note)
