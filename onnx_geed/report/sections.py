"""The pictures of a page by measure, each with its caption and alternative text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import turns_of
from onnx_geed.measures import descriptor_of
from onnx_geed.report.axes import furthest, goes_beyond
from onnx_geed.report.cells_figure import Shades, cells_picture, heat_picture, shades_of
from onnx_geed.report.curves import Curve, curve_of, curve_picture, difference_curve
from onnx_geed.report.elements import averaged_told, element_called, element_noun, element_told
from onnx_geed.report.figures import over_depth, polar_picture, profile_picture, some_layers
from onnx_geed.report.picture import framed
from onnx_geed.report.samples_figure import MOST_DOTS, samples_picture
from onnx_geed.report.svg import MOST_SERIES
from onnx_geed.report.words import samples_called, title
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    GroupPart,
    Reading,
    Result,
    along,
    is_family,
    is_sampled,
    on_one_scale,
    records_of,
    same_samples,
)
from onnx_geed.text import counted, span

__all__ = ["sections"]

_GAIN = "how far the latent moves compared with the pixels, each relative to different samples."


def sections(
    results: Sequence[Result], names: Sequence[str], readings: Sequence[Sequence[Reading]]
) -> list[dict[str, Any]]:
    """Return one section a measure, with its pictures.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.
    readings : sequence of sequences of Reading
        Their records.

    Returns
    -------
    list of dict
        ``title``, ``measure`` and ``pictures``, each of which has ``svg``, ``caption``, ``alt``,
        ``kind`` (wide or round) and ``subject``.
    """
    measures = dict.fromkeys(r.measure for own in readings for r in own)
    shown = []
    for measure in measures:
        by_result, scale = _at_one_scale(
            [[r for r in rs if r.measure == measure] for rs in readings]
        )
        pictures = []
        if max(map(len, by_result)) > 1:
            pictures += _profile_pictures(by_result, names)
            if descriptor_of(measure).view == "maps":
                pictures += _heat_pictures(results, by_result, names)
        pictures += _element_pictures(results, by_result, names)
        pictures += _sample_pictures(results, by_result, names)
        for picture in pictures:
            picture["caption"] += scale
        records = [m for r in results for m in r["measurements"] if m["measure"] == measure]
        layouts = [record["layout"] for record in records]
        shown.append({"title": title(measure, layouts), "measure": measure, "pictures": pictures})
    return shown


def _at_one_scale(by_result: list[list[Reading]]) -> tuple[list[list[Reading]], str]:
    """Bring the readings of several results to one scale, and name it if it is not their own."""
    if sum(map(bool, by_result)) < 2:
        return by_result, ""
    flat = [r for readings in by_result for r in readings]
    moved, scale = on_one_scale(flat)
    left = iter(moved)
    together = [[next(left) for _ in readings] for readings in by_result]
    if scale == "relative":
        return together, f" Relative to different samples: {WHAT_IS_RELATIVE}."
    if moved[0].in_tensor_units:
        return (
            together,
            " Each model is drawn in the units of its own vectors, so models cannot be compared.",
        )
    return together, ""


def _profile_pictures(
    by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    drawn = [(n, rs) for n, rs in zip(names, by_result, strict=True) if rs]
    kept = drawn[:MOST_SERIES]
    caption = (
        "Value by layer, from input (top) to output (bottom), with 95\u00a0% intervals over "
        f"samples. Left is better.{_some_of(drawn)}"
    )
    exact = any(r.exact is not None for rs in by_result for r in rs)
    layers = [[r.layer for r in rs] for _, rs in kept]
    same = all(names == layers[0] for names in layers)
    groups = [kept] if same else [[one] for one in kept]
    pictures = []
    most = furthest([r for _, rs in kept for r in rs])
    for together in groups:
        rows = [
            (layer, [rs[i] for _, rs in together])
            for i, layer in enumerate(r.layer for r in together[0][1])
        ]
        mark = "Ticks" if len(together) > 1 else "Diamonds"
        legend = f" {mark}: exact part." if exact else ""
        if len(together) == 1 and any(r.trips for r in together[0][1]):
            legend += " Crosses: resampling alone, a reference and no lower bound."
        if len(together) == 1 and any(r.untrained is not None for r in together[0][1]):
            legend += " Stars: the same network untrained."
        title = f"{together[0][0]}: " if len(groups) > 1 else ""
        alt = f"{title}{together[0][1][0].measure} over {counted(len(rows), 'layer')}. " + " ".join(
            f"{n}: {_told(rs[0])} in {rs[0].layer}, {_told(rs[-1])} in {rs[-1].layer}."
            for n, rs in together
        )
        # One scale for all pictures of the measure.
        svg = profile_picture(rows, [n for n, _ in together], most=most)
        pictures.append(framed("profile", svg, title + caption + legend, alt))
    return pictures


def _some_of(drawn: Sequence[Any]) -> str:
    """Say that not all results are drawn, because their lines would look alike."""
    if len(drawn) <= MOST_SERIES:
        return ""
    return (
        f" Only the first {MOST_SERIES} of {counted(len(drawn), 'result')} are drawn; the tables "
        "show all."
    )


def _told(reading: Reading) -> str:
    return span(reading.told(reading.value))


def _heat_pictures(
    results: Sequence[Result], by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    pictures = []
    most = max(float(r.per_element.max()) for rs in by_result for r in rs)
    several = [of for of in zip(results, names, by_result, strict=True) if len(of[2]) > 1]
    for result, name, readings in several[:MOST_SERIES]:
        group = result["group"]
        called = [element_called(group, g) for g in range(len(group["elements"]))]
        svg = heat_picture(readings, called, along(group), model=name, most=most)
        worst = max(readings, key=lambda r: r.per_element.max())
        element = int(worst.per_element.argmax())
        pictures.append(
            framed(
                "heat",
                svg,
                f"{name}: value by layer and {element_noun(group)}. Darker is less equivariant."
                f"{_some_of(several)}",
                f"{name}: heat map of {readings[0].measure} by layer and "
                f"{element_noun(group)}. The worst cell is {worst.layer} under "
                f"{element_told(group, element)}, "
                f"{span(worst.told(float(worst.per_element.max())))}.",
            )
        )
    return pictures


def _element_pictures(
    results: Sequence[Result],
    by_result: Sequence[Sequence[Reading]],
    names: Sequence[str],
) -> list[dict[str, str]]:
    """Deviation by element, one picture for each group in the results, more for a family."""
    pictures = []
    groups = [(r["group"]["name"], tuple(r["group"]["elements"])) for r in results]
    # Of more models than there are colours none has one, under whichever group.
    models = {(r["model"]["path"], r["model"]["sha256"]) for r in results}
    for group, members in dict.fromkeys(groups):
        chosen = [
            (r, n, rs)
            for r, n, rs, of in zip(results, names, by_result, groups, strict=True)
            if of == (group, members) and rs
        ]
        if not chosen:
            continue
        result = chosen[0][0]
        if result["group"]["order"] < 2:
            continue
        own = result["group"]
        if len(chosen) == 1:
            name, readings = chosen[0][1:]
            lines = [(r.layer, r) for r in over_depth(readings)]
            of = [name] * len(lines)
            part = some_layers(len(lines), len(readings))
        else:
            name, part = group, ""
            lines = [(f"{_within(n, group)}: {rs[-1].layer}", rs[-1]) for _, n, rs in chosen]
            of = [n for _, n, _ in chosen]
        measured = [(r, _within(n, group)) for r, n, _ in chosen]
        if len(chosen) > 1 and max(len(chosen), len(models)) > MOST_SERIES:
            most = max(float(r.per_element.max()) for rs in by_result for r in rs)
            pictures += _cell_pictures(own, lines, measured, of, most)
            continue
        if is_family(own):
            pictures += _curve_pictures(own, name, lines, measured, of)
            continue
        round_ = turns_of(group) is not None
        away = _away_from_perfect(lines, own, "angles" if round_ else "elements")
        rest = f"{away}{f' {part}.' if part else ''}"
        caption = f"{name}: value by element"
        if round_ and result["group"]["order"] > 2:
            perfect = "The dashed circle" if any(goes_beyond(r) for _, r in lines) else "The centre"
            caption = f"{name}: value by angle. {perfect} is perfect; 0° is the unmoved sample"
            if not all(result["group"]["exact"]):
                caption += ". At hollow points the image is resampled"
        alt = f"Value by element under {group}. " + " ".join(
            f"{label}: worst at "
            f"{element_told(own, int(r.per_element.argmax()))}, "
            f"{span(r.told(float(r.per_element.max())))}; best at "
            f"{element_told(own, int(r.per_element.argmin()))}, "
            f"{span(r.told(float(r.per_element.min())))}."
            for label, r in lines
        )
        svg = polar_picture(lines, own, of)
        pictures.append(
            framed("angles", svg, f"{caption}.{rest}", alt, "round" if round_ else "wide")
        )
    return pictures


def _within(name: str, group: str) -> str:
    """Leave the group out of a result's name, in a picture that is of this group alone."""
    return name.removesuffix(f", {group}")


def _away_from_perfect(
    lines: Sequence[tuple[str, Reading]], group: GroupPart, noun: str, each: str = "point"
) -> str:
    """Say why the unmoved sample is not perfect, where f̂ is a mean."""
    first = lines[0][1]
    if all(np.isclose(r.per_element[0], r.perfect, rtol=0, atol=1e-9) for _, r in lines):
        return ""
    own = averaged_told(group, first)
    mean = f"the moved mean for {own}" if own else f"the mean over all {noun}"
    start = "the random start" if is_sampled(group) else "the unmoved sample"
    return (
        f" Each {each} is compared with {mean}, so {start} is not {first.told(first.perfect):.4g}."
    )


def _curve_pictures(
    group: GroupPart,
    name: str,
    lines: Sequence[tuple[str, Reading]],
    measured: Sequence[tuple[Result, str]],
    models: Sequence[str],
) -> list[dict[str, str]]:
    """Values over a family's parameter, then differences between models, and gain."""
    first = lines[0][1]
    perfect = first.perfect
    over = f"{name}: by {group.get('parameter') or 'member'}"
    pictures = [
        framed(
            "curve",
            curve_picture(
                [curve_of(label, r, n) for (label, r), n in zip(lines, models, strict=True)],
                group,
                first.told_unit,
                (perfect, f"{first.told(perfect):.4g} is perfect"),
                of=first,
            ),
            f"{over}, with 95\u00a0% intervals over samples. Closer to the dashed line is better.",
            f"Value over the members of {group['name']}. "
            + " ".join(f"{label}: {_ends(group, r.per_element, r)}." for label, r in lines),
        )
    ]
    if curves := _differences(lines, measured):
        svg = curve_picture(curves, group, _difference_label(first), (0.0, "no difference"))
        caption = (
            f"{over}: differences between models, paired over the same samples, with 95\u00a0% "
        )
        caption += f"intervals. Below 0, {measured[0][1]} is better."
        pictures.append(framed("differences", svg, caption, _differences_told(group, curves)))
    if gains := _gains(group, first.measure, measured):
        svg = curve_picture(gains, group, "gain", (1.0, "as far as the pixels"))
        pictures.append(framed("gain", svg, f"{over}: {_GAIN}", _gains_told(group, gains)))
    return pictures


def _cell_pictures(
    group: GroupPart,
    lines: Sequence[tuple[str, Reading]],
    measured: Sequence[tuple[Result, str]],
    models: Sequence[str],
    most: float,
) -> list[dict[str, str]]:
    """The same of more results than there are colours for lines: each is a row of cells."""
    first, name = lines[0][1], measured[0][1]
    same, noun = len({r.layer for _, r in lines}) == 1, element_noun(group)
    over = f"{group['name']}, by model and {noun}"
    values = [
        curve_of(called if same else label, r, n)
        for (label, r), (_, called), n in zip(lines, measured, models, strict=True)
    ]
    scale = shades_of([r for _, r in lines], most)
    caption = f"{over}{f', in {first.layer}' if same else ''}. Darker is further from perfect."
    caption += _away_from_perfect(lines, group, f"{noun}s", "cell")
    pictures = [framed("cells", cells_picture(values, group, scale), caption, _worst(group, lines))]
    if not is_family(group):
        return pictures
    if curves := _differences(lines, measured):
        far = max(float(np.nanmax(np.abs(c.values))) for c in curves) or 1.0
        ends = ("better", "worse")
        scale = Shades(-far, far, _difference_label(first), ends, colours="coolwarm")
        svg = cells_picture(curves, group, scale)
        caption = (
            f"{over}: differences, paired over the same samples. Where blue, {name} is better."
        )
        pictures.append(framed("differences", svg, caption, _differences_told(group, curves)))
    if gains := _gains(group, first.measure, measured):
        far = max(1.0, *(float(np.nanmax(c.values)) for c in gains))
        ends = ("least", "most")
        scale = Shades(0.0, far, "gain; 1: as far as the pixels", ends)
        svg = cells_picture(gains, group, scale)
        pictures.append(framed("gain", svg, f"{over}: {_GAIN}", _gains_told(group, gains)))
    return pictures


def _worst(group: GroupPart, lines: Sequence[tuple[str, Reading]]) -> str:
    """Say of many results which cell is the worst, and which rows are on average."""
    cell, reading = max(lines, key=lambda line: line[1].per_element.max())
    g = int(reading.per_element.argmax())
    means = sorted(lines, key=lambda line: line[1].value)
    best, worst = (f"{label}, {_told(r)}" for label, r in (means[0], means[-1]))
    return (
        f"Value of {counted(len(lines), 'result')} by {element_noun(group)} under {group['name']}. "
        f"The worst cell is {cell} at {element_told(group, g)}, "
        f"{span(reading.told(float(reading.per_element[g])))}. On average the best is {best}; the "
        f"worst is {worst}."
    )


def _differences(
    lines: Sequence[tuple[str, Reading]], measured: Sequence[tuple[Result, str]]
) -> list[Curve]:
    """The first result minus each further one, where both are of the same samples."""
    (first, name), *others = measured
    own = lines[0][1]
    return [
        difference_curve(f"{name} − {other}", own, reading)
        for (result, other), (_, reading) in zip(others, lines[1:], strict=False)
        if len(own.deviations) == len(reading.deviations)
        and same_samples(first, result, len(own.deviations))
    ]


def _difference_label(of: Reading) -> str:
    # The difference of cosines themselves has the other sign.
    return "difference of 1 − cosine" if of.similarity else f"difference, {of.unit}"


def _differences_told(group: GroupPart, curves: Sequence[Curve]) -> str:
    return "Paired differences. " + " ".join(f"{c.name}: {_ends(group, c.values)}." for c in curves)


def _gains(group: GroupPart, measure: str, measured: Sequence[tuple[Result, str]]) -> list[Curve]:
    """How far latents move compared with the pixels, in the last layer."""
    last = [
        ([record for key, record in records_of(result).items() if key[0] == measure][-1], n)
        for result, n in measured
    ]
    return [
        Curve(n, np.array([_or_nan(part["per_element"].get(e)) for e in group["elements"]]))
        for record, n in last
        if (part := record.get("gain"))
    ]


def _gains_told(group: GroupPart, gains: Sequence[Curve]) -> str:
    return f"Gain over the members of {group['name']}. " + " ".join(
        f"{c.name}: {_ends(group, c.values)}." for c in gains if np.isfinite(c.values).any()
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _ends(group: GroupPart, values: NDArray[np.float64], of: Reading | None = None) -> str:
    """Say where a curve is highest and lowest among all elements except the identity."""
    high, low = 1 + int(np.nanargmax(values[1:])), 1 + int(np.nanargmin(values[1:]))
    names = [element_told(group, k) for k in (high, low)]
    ends = [float(values[k]) for k in (high, low)]
    words = ("largest", "smallest")
    if of is not None:
        words, ends = ("worst", "best"), [of.told(v) for v in ends]
    return f"{words[0]} at {names[0]}, {span(ends[0])}; {words[1]} at {names[1]}, {span(ends[1])}"


def _sample_pictures(
    results: Sequence[Result], by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    kept = [(r, n, rs) for r, n, rs in zip(results, names, by_result, strict=True) if rs]
    part = ""
    if len(kept) == 1:
        result, name, readings = kept[0]
        lines = [(r.layer, r, name, result) for r in over_depth(readings)]
        part = f" {told}." if (told := some_layers(len(lines), len(readings))) else ""
    else:
        lines = [
            (n if len(rs) == 1 else f"{n}: {rs[-1].layer}", rs[-1], n, result)
            for result, n, rs in kept
        ]
    if len(lines[0][1].per_sample) < 2:
        return []
    alt = "Distribution over samples. "
    if len(kept) > MOST_SERIES:
        medians = sorted((float(np.median(r.per_sample)), label, r) for label, r, _, _ in lines)
        low, high = (f"{span(r.told(v))} in {label}" for v, label, r in (medians[0], medians[-1]))
        alt += f"Medians of {counted(len(lines), 'result')} are from {low} to {high}."
        shape = "Each line is a result, from its best to its worst sample"
    else:
        alt += " ".join(
            f"{label}: median {span(r.told(float(np.median(r.per_sample))))}, best "
            f"{span(r.told(float(r.per_sample.min())))}, worst "
            f"{span(r.told(float(r.per_sample.max())))} of "
            f"{counted(len(r.per_sample), 'sample')}."
            for label, r, _, _ in lines
        )
        dots = all(len(r.per_sample) <= MOST_DOTS for _, r, _, _ in lines)
        shape = "The shape shows how many samples have each value"
        shape = "Each dot is one sample" if dots else shape
    caption = f"{shape}; the tick is the median, the thick bar the middle half."
    svg = samples_picture(
        [(label, r) for label, r, _, _ in lines],
        [n for _, _, n, _ in lines],
        [samples_called(result) for _, _, _, result in lines],
    )
    return [framed("samples", svg, f"{caption} Left is better.{part}", alt)]
