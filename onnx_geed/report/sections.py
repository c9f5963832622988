"""The pictures of a page by measure, each with its caption and alternative text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from onnx_geed.groups import angle, turns_of
from onnx_geed.measures import descriptor_of
from onnx_geed.report.figures import heat_picture, polar_picture, profile_picture, samples_picture
from onnx_geed.report.words import title
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    Reading,
    Result,
    on_one_scale,
)
from onnx_geed.text import span

__all__ = ["sections"]

# Layers, and results, in one picture of elements.
_LINES, _RESULTS = 4, 6


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
        pictures += _polar_pictures(results, by_result, names)
        pictures += _sample_pictures(by_result, names)
        for picture in pictures:
            picture["caption"] += scale
        records = [m for r in results for m in r["measurements"] if m["measure"] == measure]
        layouts = [record["layout"] for record in records]
        shown.append({"title": title(measure, layouts), "measure": measure, "pictures": pictures})
    return shown


def _at_one_scale(by_result: list[list[Reading]]) -> tuple[list[list[Reading]], str]:
    """Bring the readings of several results to one scale, and say which where it is another."""
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
            " Each model is drawn in the units of its own vectors, which do not compare.",
        )
    return together, ""


def _picture(subject: str, svg: str, caption: str, alt: str, kind: str = "wide") -> dict[str, str]:
    return {"svg": Markup(svg), "caption": caption, "alt": alt, "kind": kind, "subject": subject}


def _profile_pictures(
    by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    kept = [(n, rs) for n, rs in zip(names, by_result, strict=True) if rs]
    caption = (
        "Value by layer, the input's end on top; bars are 95\u00a0% intervals over samples. To the "
        "left is better."
    )
    exact = any(r.exact is not None for rs in by_result for r in rs)
    layers = [[r.layer for r in rs] for _, rs in kept]
    same = all(names == layers[0] for names in layers)
    groups = [kept] if same else [[one] for one in kept]
    pictures = []
    for together in groups:
        rows = [
            (layer, [rs[i] for _, rs in together])
            for i, layer in enumerate(r.layer for r in together[0][1])
        ]
        mark = "Ticks" if len(together) > 1 else "Diamonds"
        legend = f" {mark}: over the exact elements alone." if exact else ""
        if len(together) == 1 and any(r.trips for r in together[0][1]):
            legend += " Crosses: what resampling alone does, a scale and no lower bound."
        if len(together) == 1 and any(r.untrained is not None for r in together[0][1]):
            legend += " Stars: the same network untrained."
        title = f"{together[0][0]}: " if len(groups) > 1 else ""
        alt = f"{title}profile of {together[0][1][0].measure} over {len(rows)} layers. " + " ".join(
            f"{n}: {span(rs[0].value)} in {rs[0].layer}, {span(rs[-1].value)} in {rs[-1].layer}."
            for n, rs in together
        )
        svg = profile_picture(rows, [n for n, _ in together])
        pictures.append(_picture("profile", svg, title + caption + legend, alt))
    return pictures


def _heat_pictures(
    results: Sequence[Result], by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    pictures = []
    for result, name, readings in zip(results, names, by_result, strict=True):
        if len(readings) < 2:
            continue
        group = result["group"]
        svg = heat_picture(
            readings, [angle(group["name"], e, short=True) for e in group["elements"]]
        )
        worst = max(readings, key=lambda r: r.per_element.max())
        element = group["elements"][int(worst.per_element.argmax())]
        pictures.append(
            _picture(
                "heat",
                svg,
                f"{name}: layers against elements; darker is less equivariant.",
                f"{name}: heat map of {readings[0].measure} by layer and element; the darkest "
                f"cell is {worst.layer} under {angle(group['name'], element)}, "
                f"{span(float(worst.per_element.max()))}.",
            )
        )
    return pictures


def _polar_pictures(
    results: Sequence[Result], by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    """Deviation by element, one picture for each group in the results."""
    pictures = []
    for group in dict.fromkeys(r["group"]["name"] for r in results):
        chosen = [
            (r, n, rs)
            for r, n, rs in zip(results, names, by_result, strict=True)
            if r["group"]["name"] == group and rs
        ]
        if not chosen:
            continue
        result = chosen[0][0]
        if result["group"]["order"] < 2:
            continue
        if len(chosen) == 1:
            name, readings = chosen[0][1:]
            lines = [(r.layer, r) for r in _over_depth(readings)]
        else:
            name = group
            lines = [(f"{n}: {rs[-1].layer}", rs[-1]) for _, n, rs in chosen][:_RESULTS]
        round_ = turns_of(group) is not None
        caption = f"{name}: deviation by element"
        if round_ and result["group"]["order"] > 2:
            caption = f"{name}: deviation by angle; the centre is perfect, the identity at 0°"
            if not all(result["group"]["exact"]):
                caption += "; filled: exact on the pixel grid, hollow: resampled"
        elements = result["group"]["elements"]
        alt = f"Deviation by element under {group}. " + " ".join(
            f"{label}: largest at {angle(group, elements[int(r.per_element.argmax())])}, "
            f"{span(float(r.per_element.max()))}; smallest at "
            f"{angle(group, elements[int(r.per_element.argmin())])}, "
            f"{span(float(r.per_element.min()))}."
            for label, r in lines
        )
        svg = polar_picture(lines, group, result["group"]["exact"])
        pictures.append(_picture("angles", svg, caption + ".", alt, "round" if round_ else "wide"))
    return pictures


def _over_depth(readings: Sequence[Reading]) -> list[Reading]:
    """Take a few layers spread over the depth."""
    at = np.linspace(0, len(readings) - 1, min(_LINES, len(readings))).round().astype(int)
    return [readings[i] for i in dict.fromkeys(at.tolist())]


def _sample_pictures(
    by_result: Sequence[Sequence[Reading]], names: Sequence[str]
) -> list[dict[str, str]]:
    kept = [(n, rs) for n, rs in zip(names, by_result, strict=True) if rs]
    if len(kept) == 1:
        lines = [(r.layer, r) for r in _over_depth(kept[0][1])]
    else:
        lines = [(n if len(rs) == 1 else f"{n}: {rs[-1].layer}", rs[-1]) for n, rs in kept]
    if len(lines[0][1].per_sample) < 2:
        return []
    alt = "Distribution over samples. " + " ".join(
        f"{label}: median {span(float(np.median(r.per_sample)))}, from "
        f"{span(float(r.per_sample.min()))} to {span(float(r.per_sample.max()))} over "
        f"{len(r.per_sample)} samples."
        for label, r in lines
    )
    caption = "Over samples: the tick is the median, the thick bar the middle half."
    return [_picture("samples", samples_picture(lines), caption, alt)]
