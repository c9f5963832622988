"""The most and least affected samples of a page, with thumbnails of their orbits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from onnx_geed.errors import GeedError
from onnx_geed.measures import CATALOGUE
from onnx_geed.report.elements import (
    averaged_told,
    element_called,
    element_told,
    worst_noun,
)
from onnx_geed.report.picture import Picture
from onnx_geed.report.thumbnails import ShownInput, check_shown, open_pictures, orbit_pictures
from onnx_geed.report.words import SHARE, number_of
from onnx_geed.results import GroupPart, Reading, Result, is_family, is_sampled

__all__ = ["check_measured", "headline", "most_and_least_affected"]

# Samples are ranked by a measure of the first of these roles that the result has.
_HEADLINE = ("output", "latent", "channel")


# How many samples are shown as most and as least affected, and how many elements of a long orbit.
_ENDS, _THUMBNAILS = 3, 8


def most_and_least_affected(
    results: Sequence[Result],
    names: Sequence[str],
    readings: Sequence[Sequence[Reading]],
    data: str | Path | None,
) -> list[dict[str, Any]]:
    """Return the samples of every result with the largest and the smallest deviations.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.
    readings : sequence of sequences of Reading
        Their records.
    data : str or Path, optional
        The data that was measured, for pictures of the samples. Results of other data get no
        pictures, but a note.

    Returns
    -------
    list of dict
        One per result: ``name``, ``measure``, ``layer``, ``unit``, ``note`` and ``ends``.

    Raises
    ------
    GeedError
        If no result is of these data.
    """
    entries, refused = [], []
    for result, name, own in zip(results, names, readings, strict=True):
        try:
            entries.append(_samples(result, name, own, data))
        except GeedError as error:
            refused.append(error)
            entries.append(_samples(result, name, own, None) | {"note": f"No pictures: {error}."})
    if len(refused) == len(results):
        raise refused[0]
    return entries


def _samples(
    result: Result, name: str, readings: Sequence[Reading], data: str | Path | None
) -> dict[str, Any]:
    """Return the most and the least affected samples, by the measure nearest to the output.

    Raises
    ------
    GeedError
        If the data are not the measured ones.
    """
    chosen = headline(readings)
    values = chosen.per_sample
    order = np.argsort(-values, kind="stable")
    ends = min(_ENDS, len(order) // 2)
    shown = [("most", int(k)) for k in order[:ends]]
    shown += [("least", int(k)) for k in order[::-1][:ends]]
    pictures: tuple[ShownInput, ...] = ()
    notes: list[str] = []
    if data is not None:
        pictures = open_pictures(data, result)
        if not check_shown(data, result, [position for _, position in shown]):
            notes.append(
                "The result holds no checksums of its samples, so nobody checked that these "
                "pictures show the measured samples."
            )
    rows = [{"end": end} | _sample(result, chosen, position, pictures) for end, position in shown]
    notes += [note for row in rows for note in row["notes"]]
    return {
        "name": name,
        "measure": chosen.measure,
        "layer": chosen.layer,
        "unit": "per cent" if chosen.told_unit == SHARE else chosen.told_unit,
        "note": " ".join(dict.fromkeys(notes)),
        "ends": [(e, [r for r in rows if r["end"] == e]) for e in ("most", "least")]
        if rows
        else [],
    }


def check_measured(results: Sequence[Result]) -> None:
    """Refuse results in which nothing was measured: nothing can be shown of them."""
    if not results or any(not result["measurements"] for result in results):
        raise GeedError("report: give result files that hold at least one measurement")


def headline(readings: Sequence[Reading]) -> Reading:
    """Choose the reading that ranks samples: nearest to the output, on a known scale.

    What hardly reacts to the input ranks samples by rounding, and is the last choice.
    """

    def rank(reading: Reading) -> tuple[bool, float, int]:
        measure = reading.descriptor
        # A distance without a scale says least, but says more about the output than maps do.
        unscaled = measure.in_tensor_units and not measure.normalised
        nearest = _HEADLINE.index(measure.role) + 1.5 * unscaled
        return reading.hardly_reacts, nearest, list(CATALOGUE).index(measure.name)

    return min(reversed(readings), key=rank)


def _mean(group: GroupPart, reading: Reading) -> str:
    own = averaged_told(group, reading)
    return f"mean for {own}" if own else "mean over the orbit"


def _worst(group: GroupPart, reading: Reading, worst: int) -> str:
    """Name the element at which a sample is worst."""
    if worst or is_family(group) or is_sampled(group):
        return element_told(group, worst)
    # Invariance is measured from the mean of an orbit; the sample itself may be far from it.
    return f"the unmoved sample, which is farthest from the {_mean(group, reading)}"


def _sample(
    result: Result, reading: Reading, position: int, pictures: Sequence[ShownInput]
) -> dict[str, Any]:
    """Return a sample, with pictures of its orbit."""
    group, data = result["group"], result["data"]
    labels, names = data.get("labels"), data["names"]
    index = data["indices"][position]
    label = labels[position] if labels else None
    row = reading.deviations[position]
    called = names[position] if names else f"sample {index}"
    worst = int(row.argmax())
    entry: dict[str, Any] = {
        "name": called + (f", label {label}" if label is not None else ""),
        "value": number_of(reading, float(reading.per_sample[position])),
        "worst": "" if row[worst] == row.min() else _worst(group, reading, worst),
        "worst_value": number_of(reading, float(row[worst])),
        "noun": worst_noun(group),
        "position": position,
        "thumbnails": [],
        "notes": [],
    }
    if pictures:
        count = group["order"]
        at = np.linspace(0, count, min(count, _THUMBNAILS), endpoint=False).astype(int).tolist()
        if count <= 2 * _THUMBNAILS:
            at = list(range(count))
        images, entry["notes"] = orbit_pictures(pictures, result, index, at)
        entry["thumbnails"] = [
            {
                "pictures": [_shown(picture, under) for picture in drawn],
                "width": max(picture.width for picture in drawn),
                "element": element_called(group, g),
                "number": g,
                "tip": f"{called}, {element_told(group, g)}: {number_of(reading, float(row[g]))}",
                "value": number_of(reading, float(row[g])),
                "worst": g == worst,
            }
            for g, drawn in zip(at, images, strict=False)
            for under in [f"{called}, {element_told(group, g)}"]
        ]
    return entry


def _shown(picture: Picture, under: str) -> dict[str, Any]:
    """Return a picture for the template; its SVG holds only numbers and our own words.

    As markup it is not shortened, as long names are.
    """
    return {
        "src": Markup(picture.src),
        "svg": Markup(picture.svg),
        "alt": under + (f": {picture.what}" if picture.what else ""),
        "width": picture.width,
    }
