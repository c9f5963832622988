"""Pictures of a suite: curves over training, or values by data set or model, with intervals."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnx_geed.addresses import joined
from onnx_geed.files import make_folder, write_text
from onnx_geed.measures import Descriptor, Scale, descriptor_of, told, within
from onnx_geed.report.axes import fitting_across, legend_name, tall, tell_cosines
from onnx_geed.report.cells_figure import Shades, draw_cells, draw_shades
from onnx_geed.report.family_overview import families_picture
from onnx_geed.report.page import check_installed, report
from onnx_geed.report.suite_page import suite_page
from onnx_geed.report.suite_tables import suite_csv
from onnx_geed.report.svg import (
    MARKERS,
    MOST_SERIES,
    PAPER,
    SERIES,
    Picture,
    drawing,
    panels_across,
    series_of,
    themed,
)
from onnx_geed.results import SuiteRow, SuiteSummary, read_result, suite_family_values
from onnx_geed.safe_names import file_name
from onnx_geed.text import shorten

__all__ = ["draw_suite", "suite_picture", "write_suite_report", "write_summary"]

#: The means of a row that can be drawn.
Field = Literal["mean", "unnormalised_mean", "relative_mean"]


_SCALES: dict[Field, Scale] = {
    "mean": "value",
    "unnormalised_mean": "unnormalised",
    "relative_mean": "relative",
}


#: Where a row stands across a picture.
Axis = Literal["step", "data", "layer", "model"]


_FIELDS: dict[Field, str] = {
    "mean": "",
    "unnormalised_mean": ", unnormalised",
    "relative_mean": ", relative to different samples",
}


# Results on one page; nobody would read more.
_MOST_RESULTS = 30

# Families below each other in one picture.
_MOST_FAMILIES = 60

# Pictures that a suite is given unasked, as many as are drawn in half a minute.
_MOST_PICTURES = 300


def write_summary(
    summary: SuiteSummary,
    folder: str | Path,
    cells: Sequence[str | Path] = (),
    called: Sequence[str] = (),
) -> list[str]:
    """Write a suite's summary as ``summary.csv`` and, with the extra, ``report.html`` and pictures.

    If one of several groups is a family, there is also a page of families, ``families.html``, of
    up to 30 results.

    Parameters
    ----------
    summary : dict
        Of schema ``onnx-geed/suite/1``, from :func:`onnx_geed.benchmark`.
    folder : str or Path
        Where to. Files of the same names are overwritten.
    cells : sequence of str or Path
        Files of its results.
    called : sequence of str
        What the suite calls the model of each.

    Returns
    -------
    list of str
        Notes if the pictures and the page, or the page of families, are left out, or some of very
        many pictures.

    Raises
    ------
    GeedError
        If a file cannot be written.
    """
    write_text(joined(folder, "summary.csv"), suite_csv(summary), option="-o")
    for name in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(name) is None:
            cure = "pip install 'onnx-geed[report]'"
            return [f"no report.html and no pictures, because {name} is not installed: {cure}"]
    write_text(joined(folder, "report.html"), suite_page(summary), option="-o")
    draw_suite(summary, folder, most=_MOST_PICTURES)
    left_out = []
    if (count := len(_pictures(summary["rows"]))) > _MOST_PICTURES:
        left_out = [
            f"the first {_MOST_PICTURES} of {count:,} pictures are drawn; onnx-geed report "
            f"{folder} -o page.html --pictures FOLDER draws all"
        ]
    if not cells or not suite_family_values(summary["rows"]):
        return left_out
    if len(cells) > _MOST_RESULTS:
        return [
            *left_out,
            f"no families.html: a page holds at most {_MOST_RESULTS} results, this suite has "
            f"{len(cells)}; give onnx-geed report the files of cells/ that you want to see",
        ]
    text = report([read_result(cell) for cell in cells], called=called)
    write_text(joined(folder, "families.html"), text, option="-o")
    return left_out


def write_suite_report(
    summary: SuiteSummary, path: str | Path, *, pictures: str | Path | None = None
) -> None:
    """Write the page of a suite.

    Parameters
    ----------
    summary : dict
        Of schema ``onnx-geed/suite/1``.
    path : str or Path
        The HTML file.
    pictures : str or Path, optional
        A folder that the pictures of :func:`draw_suite` are written to.

    Raises
    ------
    GeedError
        If a file cannot be written.
        If matplotlib or jinja2 are not installed.
    """
    check_installed()
    write_text(path, suite_page(summary), option="page")
    if pictures is not None:
        make_folder(pictures, option="--pictures")
        draw_suite(summary, pictures)


def draw_suite(
    summary: SuiteSummary, folder: str | Path, *, most: int | None = None
) -> list[str | Path]:
    """Draw a suite's summary, a picture a measure and group, as SVG files.

    Parameters
    ----------
    summary : dict
        From :func:`onnx_geed.benchmark`.
    folder : str or Path
        Where to. Pictures of the same names are overwritten.
    most : int, optional
        How many measures and groups are drawn; all by default.

    Returns
    -------
    list of str or Path
        ``<group>.<measure>.svg``, and ``<group>.<measure>.unnormalised.svg`` of what is divided by
        M. Over training, there is one a data set, with its name. Where M moves the perfect value
        (``latent-cos``, perfect at −1/M, another number for each model), the picture is relative
        to different samples, if the summary holds that, and ``<group>.<measure>.normalised.svg``
        has a perfect line a model. Where groups are several, and one a family,
        ``families.svg`` has them side by side, where they are at most 60.

    Raises
    ------
    GeedError
        If matplotlib is missing.
        If a picture cannot be written.
    """
    written: list[str | Path] = []
    for name, rows, field in _pictures(summary["rows"])[:most]:
        path = joined(folder, f"{name}.svg")
        write_text(path, themed(suite_picture(rows, field)) + "\n", option="-o")
        written.append(path)
    data = list(dict.fromkeys(r["data"] for r in summary["rows"]))
    for name in data[:most]:
        values = suite_family_values([r for r in summary["rows"] if r["data"] == name])
        if values and len({value.family for value in values}) <= _MOST_FAMILIES:
            of = f"{file_name(name)}." if len(data) > 1 else ""
            path = joined(folder, f"{of}families.svg")
            write_text(path, themed(families_picture(values)) + "\n", option="-o")
            written.append(path)
    return written


def _pictures(rows: Sequence[SuiteRow]) -> list[tuple[str, list[SuiteRow], Field]]:
    """Return name, rows and field of every picture."""
    parts: dict[tuple[str, ...], list[SuiteRow]] = {}
    trained = len({r["step"] for r in rows}) > 1
    for row in rows:
        over = (row["data"],) if trained else ()
        parts.setdefault((*over, row["group"], row["measure"]), []).append(row)
    pictures: list[tuple[str, list[SuiteRow], Field]] = []
    for key, part in parts.items():
        name = ".".join(map(file_name, key))
        kinds: list[tuple[str, Field]] = [(name, "mean")]
        if descriptor_of(part[0]["measure"]).perfect_over_m:
            kinds = [(name, "relative_mean"), (f"{name}.normalised", "mean")]
        pictures += [
            (kind, part, field)
            for kind, field in kinds
            if any(r.get(field) is not None for r in part)
        ]
        if any(r["unnormalised_mean"] is not None for r in part):
            pictures.append((f"{name}.unnormalised", part, "unnormalised_mean"))
    return pictures


def suite_picture(rows: Sequence[SuiteRow], field: Field = "mean") -> Picture:
    """Draw rows of one measure and group.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of a summary.
    field : {"mean", "unnormalised_mean", "relative_mean"}
        What is drawn.

    Returns
    -------
    str
        SVG: a panel a layer where models have several. Across: steps where there are several, else
        data sets, else layers, else models. More models than there are colours are rows of cells,
        or, where they stand across, have one colour.
    """
    rows = [r for r in rows if r.get(field) is not None]
    models = list(dict.fromkeys(r["model"] for r in rows))
    layers = _layers(rows)
    axis = _axis(rows, layers)
    panels: list[str | None] = [*layers] if layers and axis != "layer" else [None]
    wide = panels_across(len(panels))
    lines = -(-len(panels) // wide)
    cells = len(models) > MOST_SERIES and axis != "model"
    shades = _shades(rows, field)
    high = 1.1 + tall(len(models)) if cells else 2.5
    with drawing(max(3.6 * wide, 4.6), high * lines + 0.5) as (figure, only, picture):
        only.remove()
        for i, layer in enumerate(panels):
            axes = figure.add_subplot(lines, wide, i + 1)
            axes.set_facecolor("none")
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            part = [r for r in rows if layer is None or r["layer"] == layer]
            if cells:
                image = _cells(axes, part, models, axis, field, shades)
                if i % wide:
                    axes.set_yticks([])
            else:
                _panel(axes, part, models, axis, field)
            if layer is not None:
                axes.set_title(shorten(layer, 30), fontsize="medium", loc="left")
            if i % wide == 0 and not cells:
                axes.set_ylabel(_label(descriptor_of(rows[0]["measure"]), field))
        if cells:
            draw_shades(image, figure.axes, shades)
        elif len(models) > 1 and axis != "model":
            handles, labels = figure.axes[0].get_legend_handles_labels()
            across = min(3, fitting_across(labels, figure.get_figwidth()))
            more = -(-len(labels) // across) - -(-len(labels) // 3)
            figure.set_figheight(figure.get_figheight() + 0.17 * more)
            figure.legend(handles, labels, loc="outside upper left", ncols=across, handlelength=1.4)
    return picture[0]


def _label(measure: Descriptor, field: Field) -> str:
    """Return the label of an axis, with the perfect value, which is below all others."""
    scale = _SCALES[field]
    label = f"{measure.label}, as cosine" if _cosines(measure, field) else measure.label
    perfect = told(measure, measure.perfect, scale) if scale != "relative" else 0.0
    if measure.perfect_over_m and field == "mean":
        return f"{label} / M\n(dotted line: {perfect:g}/M is perfect)"
    return f"{label}{_FIELDS[field]}\n({perfect:g} is perfect, down is better)"


def _cosines(measure: Descriptor, field: Field) -> bool:
    return measure.similarity and _SCALES[field] != "relative"


def _layers(rows: Sequence[SuiteRow]) -> list[str]:
    """Return layers, in the order of depth; none where each model has a single one."""
    by_model = {r["model"]: {x["layer"] for x in rows if x["model"] == r["model"]} for r in rows}
    if all(len(layers) == 1 for layers in by_model.values()):
        return []
    return list(dict.fromkeys(r["layer"] for r in rows))


def _axis(rows: Sequence[SuiteRow], layers: Sequence[str]) -> Axis:
    if len({r["step"] for r in rows}) > 1:
        return "step"
    if len({r["data"] for r in rows}) > 1:
        return "data"
    return "layer" if layers else "model"


def _panel(
    axes: Any, rows: Sequence[SuiteRow], models: Sequence[str], axis: Axis, field: Field
) -> None:
    places = list(dict.fromkeys(r[axis] for r in rows if r[axis] is not None))
    for i, model in enumerate(models):
        # So many stand across, where each has its name.
        colour, marker = series_of(i) if len(models) <= MOST_SERIES else (SERIES[0], MARKERS[0])
        own = [r for r in rows if r["model"] == model]
        # A model with no steps beside others that have some, such as one pretrained: a level.
        if axis == "step" and own and all(r["step"] is None for r in own):
            axes.axhline(
                _value(own[0], field), color=colour, ls="--", lw=1.2, label=legend_name(model, 24)
            )
            if (perfect := _perfect(own[0], field)) is not None:
                axes.axhline(perfect, color=colour, ls=":", lw=1.0)
            continue
        if axis == "step":
            own = sorted((r for r in own if r["step"] is not None), key=_step)
            at = [float(_step(r)) for r in own]
        else:
            shift = 0.0 if axis == "model" else (i - (len(models) - 1) / 2) * 0.6 / len(models)
            at = [places.index(r[axis]) + shift for r in own]
        values = [_value(r, field) for r in own]
        ends = [_ends(r, field) for r in own]
        low = [max(0.0, v - e[0]) for v, e in zip(values, ends, strict=True)]
        high = [max(0.0, e[1] - v) for v, e in zip(values, ends, strict=True)]
        style = {"color": colour, "label": legend_name(model, 24)}
        _perfects(axes, at, [_perfect(r, field) for r in own], axis, colour)
        if axis == "step":
            axes.plot(at, values, marker=marker, ms=3, lw=1.3, mec=PAPER, mew=0.4, **style)
            bottom, top = [e[0] for e in ends], [e[1] for e in ends]
            axes.fill_between(at, bottom, top, color=colour, alpha=0.18, lw=0)
        else:
            axes.errorbar(at, values, yerr=[low, high], fmt=marker, ms=4, lw=1.4, **style)
    if rows and _cosines(descriptor_of(rows[0]["measure"]), field):
        low, high = axes.get_ylim()
        tell_cosines(axes.yaxis, abs(high - low) or 1.0)
    axes.grid(axis="y", lw=0.6)
    if axis == "step":
        axes.set_xlabel("iteration")
    else:
        turn = sum(len(str(p)) for p in places) > 34
        axes.set_xticks(range(len(places)), [shorten(str(p), 22) for p in places])
        axes.tick_params(axis="x", rotation=30 if turn else 0)


def _shades(rows: Sequence[SuiteRow], field: Field) -> Shades:
    """Return the scale of all panels: dark is far from perfect."""
    measure, values = descriptor_of(rows[0]["measure"]), [_value(r, field) for r in rows]
    own = [p for r in rows if (p := _perfect(r, field)) is not None]
    perfect = 0.0 if field == "relative_mean" else measure.perfect
    low, ends = (min(own), ("best", "worst")) if own else (perfect, ("perfect", "worst"))
    cosines = _cosines(measure, field)
    label = f"{measure.label}, as cosine" if cosines else f"{measure.label}{_FIELDS[field]}"
    return Shades(low, max(*values, low + 1e-6), label, ends, cosines=cosines)


def _cells(
    axes: Any,
    rows: Sequence[SuiteRow],
    models: Sequence[str],
    axis: Axis,
    field: Field,
    shades: Shades,
) -> Any:
    """Draw models down, and steps, data sets or layers across."""
    places = list(dict.fromkeys(r[axis] for r in rows if r[axis] is not None))
    if axis == "step":
        places.sort(key=lambda step: step or 0)
        axes.set_xlabel("iteration")
    array = np.full((len(models), len(places)), np.nan)
    for row in rows:
        # A model without steps beside others that have some is a level.
        across = slice(None) if row[axis] is None else places.index(row[axis])
        array[models.index(row["model"]), across] = _value(row, field)
    return draw_cells(axes, array, models, [str(place) for place in places], shades)


def _value(row: SuiteRow, field: Field) -> float:
    value = row[field]
    assert value is not None  # of rows without, nothing is drawn
    return value


def _step(row: SuiteRow) -> int:
    return row["step"] or 0


def _perfect(row: SuiteRow, field: Field) -> float | None:
    """Return the value that is perfect for this model, where that differs by model."""
    measure = descriptor_of(row["measure"])
    if not measure.perfect_over_m or field != "mean":
        return None
    values = [measure.perfect_value(m) for m in row["normalisers"] if m]
    return sum(values) / len(values) if values else None


def _perfects(
    axes: Any, at: Sequence[float], values: Sequence[float | None], axis: Axis, colour: str
) -> None:
    """Draw what is perfect for one model: a line over steps, else a short one at each value."""
    known = [(x, v) for x, v in zip(at, values, strict=True) if v is not None]
    if axis == "step":
        axes.plot([x for x, _ in known], [v for _, v in known], color=colour, ls=":", lw=1.0)
        return
    for x, value in known:
        axes.plot([x - 0.2, x + 0.2], [value, value], color=colour, ls=":", lw=1.0)


def _ends(row: SuiteRow, field: Field) -> Sequence[float]:
    """Return the interval over models, or that over samples of a single one, or none."""
    over_samples = None
    if field == "mean":
        over_models, over_samples = row["ci95_over_models"], row["ci95_over_samples"]
    elif field == "relative_mean":
        over_models = row["relative_ci95_over_models"]
        over_samples = row["relative_ci95_over_samples"]
    else:
        over_models = row["unnormalised_ci95_over_models"]
    value = _value(row, field)
    ends = over_models or over_samples or (value, value)
    return within(descriptor_of(row["measure"]), ends, _SCALES[field])
