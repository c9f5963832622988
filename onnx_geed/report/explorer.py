"""The explorer of a page: single samples, their class by element, and maps of two channels."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.report.elements import (
    averaged_told,
    element_called,
    element_noun,
    element_told,
    worst_noun,
)
from onnx_geed.report.render import json_in_page
from onnx_geed.report.samples import check_measured, headline
from onnx_geed.report.svg import load_matplotlib
from onnx_geed.report.thumbnails import check_shown, open_pictures, orbit_pictures
from onnx_geed.report.words import samples_called
from onnx_geed.results import (
    Exploration,
    ExploredLayer,
    GroupPart,
    Reading,
    Result,
    along,
    is_family,
    is_sampled,
    read_record,
)
from onnx_geed.safe_names import plain
from onnx_geed.text import shorten, span

__all__ = ["explorer", "samples_to_show"]

F32 = NDArray[np.float32]


# Of up to 16 elements all are shown; of more, 12 evenly along the orbit.
_ALL, _SOME = 16, 12


# Shades of a map: half a byte a pixel.
_SHADES = 16


# Maps are shrunk to the largest of these sides whose pictures fit into so many letters.
_SIDES, _LETTERS = (32, 24, 16, 12, 8), 2_600_000


# Colours of the scale of cosines.
_STEPS = 32


# Places that a strip has at most.
_LONGEST = 256


# Classes shown for each element.
_TOP = 3


def samples_to_show(result: Result, count: int) -> tuple[int, ...]:
    """Choose samples of D to look at, from the most to the least affected.

    Parameters
    ----------
    result : dict
        The result.
    count : int
        How many.

    Returns
    -------
    tuple of int
        Positions in D, the largest deviation first: a third of them have the largest deviations, a
        sixth the smallest, the others lie evenly between.

    Raises
    ------
    GeedError
        If nothing was measured.
    """
    check_measured([result])
    values = headline([read_record(m) for m in result["measurements"]]).per_sample
    order = np.argsort(-values, kind="stable")
    if count >= len(order):
        return tuple(map(int, order))
    top, end = -(-count // 3), count // 6
    between = np.linspace(top, len(order) - end - 1, count - top - end).round().astype(int)
    at = [*range(top), *between.tolist(), *range(len(order) - end, len(order))]
    return tuple(int(order[i]) for i in at)


def explorer(
    results: Sequence[Result],
    names: Sequence[str],
    readings: Sequence[Sequence[Reading]],
    explorations: Sequence[Exploration | None],
    data: str | Path | None,
) -> dict[str, Any]:
    """Return what the page's script shows, as JSON for a script element, and its notes.

    Parameters
    ----------
    results : sequence of dict
        Results.
    names : sequence of str
        What to call them.
    readings : sequence of sequences of Reading
        Their records.
    explorations : sequence of Exploration or None
        For each result, its samples that were run again; empty if none were.
    data : str or Path, optional
        The data that was measured, for pictures of samples.

    Returns
    -------
    dict
        ``json``, empty if there is nothing to explore, and ``notes``.
    """
    models, notes, pictures = [], list[str](), dict[str, list[dict[str, Any]]]()
    found = list(explorations) or [None] * len(results)
    if not any(found):
        return {"json": "", "notes": []}
    side = _side([one for one in found if one is not None], results)
    for result, name, own, one in zip(results, names, readings, found, strict=True):
        if one is None:
            continue
        notes += [f"{name}: {note}" if len(results) > 1 else note for note in one.notes]
        models.append(_model(result, name, own, one, side))
        of = models[-1]
        notes += _add_pictures(result, of, data, pictures)
    notes += _on_others([n for n, one in zip(names, found, strict=True) if one is None])
    content = {"models": models, "pictures": pictures, "scale": _scale(readings)}
    return {"json": json_in_page(content), "notes": list(dict.fromkeys(notes))}


def _scale(readings: Sequence[Sequence[Reading]]) -> dict[str, Any]:
    """Return the colours of cosines of maps, those of the pictures of layers by element."""
    maps = [r for own in readings for r in own if r.descriptor.cosine_of_maps]
    if not maps:
        return {}
    drawn = load_matplotlib().colormaps["viridis_r"](np.linspace(0, 1, _STEPS), bytes=True)
    most = max(max(float(r.per_element.max()) for r in maps), maps[0].perfect + 1e-6)
    return {
        "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in drawn.tolist()],
        "perfect": maps[0].told(maps[0].perfect),
        "worst": maps[0].told(most),
    }


def _beside(reading: Reading, group: GroupPart) -> str:
    """Say with which map f(gx) is compared."""
    if reading.output_action != "trivial":
        if of := averaged_told(group, reading):
            return f"g f̂(x): moved mean of the maps for {of}"
        return "g f(x): moved map of the sample"
    if is_family(group):
        return "f(x): map of the unmoved sample"
    return "mean of the maps over all elements"


def _asked(maps: Sequence[Reading], group: GroupPart) -> dict[str, str]:
    """Say what is asked of the layers, and what the two maps of a channel are."""
    moved = [reading for reading in maps if reading.output_action != "trivial"]
    of = next((told for reading in moved if (told := averaged_told(group, reading))), "")
    if of:
        start = "random start" if is_sampled(group) else "unmoved sample"
        return {
            "title": "How equivariant is each layer? Cosine between f(gx) and g f̂(x)",
            "hint": "f(gx): move the sample, then run the network. g f̂(x): mean of the maps for "
            f"{of}, which should be the same map, then moved. In an equivariant layer both are the "
            f"same. The {start} is compared with this mean too.",
        }
    if moved:
        return {
            "title": "How equivariant is each layer? Cosine between f(gx) and g f(x)",
            "hint": "f(gx): move the sample, then run the network. g f(x): run the network, then "
            "move its map. In an equivariant layer both are the same.",
        }
    other = "f(x)" if is_family(group) else "its mean over all elements"
    return {
        "title": f"How invariant is each layer? Cosine between f(gx) and {other}",
        "hint": "f(gx): change the sample, then run the network. In an invariant layer this is "
        f"the same as {other}.",
    }


def _left_out(readings: Sequence[Reading], one: Exploration) -> str:
    """Say how many layers of maps are not shown, and how to see one of them."""
    count = sum(r.descriptor.cosine_of_maps for r in readings)
    if len(one.layers) >= count:
        return ""
    return (
        f"{len(one.layers)} of {count} layers are shown, the worst one among them. To see others, "
        "measure them alone: --measure channel-cos@LAYER."
    )


def _on_others(names: Sequence[str]) -> list[str]:
    """Say which results were not run again."""
    if not names:
        return []
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if len(names) == 1:
        return [f"{told}: give its model file with --model to see its maps."]
    return [f"{told}: give their model files with --model to see their maps."]


def _model(
    result: Result, name: str, readings: Sequence[Reading], one: Exploration, side: int
) -> dict[str, Any]:
    """Return what is shown of a model, except its inputs, which models may share."""
    group = result["group"]
    shown = _elements(result)
    called, first = samples_called(result), headline(readings)
    maps = {r.layer: r for r in readings if r.descriptor.cosine_of_maps}
    depth = [maps[layer.layer].share(maps[layer.layer].value) for layer in one.layers]
    return {
        "model": plain(name),
        "of": f"{result['data']['fingerprint']} {group['name']} {group['support']}",
        "elements": shown,
        "names": [plain(element_called(group, g)) for g in shown],
        "told": [plain(element_told(group, g)) for g in shown],
        "noun": element_noun(group).capitalize(),
        "by": f"{first.measure} in {shorten(first.layer, 60)}",
        "unit": first.told_unit,
        "classes": [plain(c) for c in one.classes],
        "left": _left_out(readings, one),
        "over": f"samples and {worst_noun(group)}s",
        **_asked([maps[layer.layer] for layer in one.layers], group),
        "worst": max(range(len(one.layers)), key=lambda i: depth[i], default=0),
        "layers": [
            {
                "layer": plain(layer.layer),
                "channels": list(layer.channels),
                "size": _shown_size(layer),
                "reading": plain(layer.reading),
                "beside": _beside(maps[layer.layer], group),
            }
            for layer in one.layers
        ],
        "samples": [
            {
                "at": position,
                "index": result["data"]["indices"][position],
                "name": plain(called[position]),
                "value": span(first.told(float(first.per_sample[position]))),
                "worst": _worst_of(first.deviations[position]),
                "top": [] if one.probabilities is None else _top(one.probabilities[k][shown]),
                "expected": _expected(one, k, shown),
                "maps": [_sprite(layer, k, shown, side) for layer in one.layers],
                "cosines": [np.round(layer.cosines[k][shown], 3).tolist() for layer in one.layers],
                "told": [
                    [span(r.told(float(v))) for v in r.deviations[position][shown]]
                    for layer in one.layers
                    for r in [maps[layer.layer]]
                ],
            }
            for k, position in enumerate(one.positions)
        ],
    }


def _worst_of(deviations: NDArray[np.float64]) -> int:
    """Return the worst element, which is shown first; never the identity, which moves nothing."""
    return 1 + int(deviations[1:].argmax()) if len(deviations) > 1 else 0


def _elements(result: Result) -> list[int]:
    """Return the elements that are shown, in the order of the axis that they lie on."""
    order = [int(g) for g in along(result["group"])]
    if len(order) <= _ALL:
        return order
    at = np.linspace(0, len(order), _SOME, endpoint=False).astype(int)
    return [g for i, g in enumerate(order) if i in set(at.tolist()) or g == 0]


def _top(probabilities: NDArray[np.float64]) -> list[list[list[float]]]:
    """Return the likeliest classes of each element with their probabilities."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    return [
        [[int(c), round(float(row[c]), 4)] for c in best]
        for row, best in zip(probabilities, order, strict=True)
    ]


def _expected(one: Exploration, k: int, shown: Sequence[int]) -> list[int] | None:
    """Return the class expected of each element: that of the sample itself, moved."""
    if one.probabilities is None or one.moves is None:
        return None
    moved: list[int] = one.moves[shown, int(one.probabilities[k][0].argmax())].tolist()
    return moved


def _side(explorations: Sequence[Exploration], results: Sequence[Result]) -> int:
    """Choose the side of maps, so that a page stays small whatever was asked for."""
    for side in _SIDES:
        letters = 0.0
        for one in explorations:
            for layer in one.layers:
                height, width = _fitted(layer.found.shape[-2], layer.found.shape[-1], side)
                cells = len(one.positions) * min(layer.found.shape[1], _ALL) * 2
                letters += cells * layer.found.shape[2] * height * width * 4 / 3 / 2
        if letters <= _LETTERS:
            return side
    return _SIDES[-1]


def _sprite(layer: ExploredLayer, k: int, shown: Sequence[int], side: int) -> str:
    """Return the maps of a sample as one PNG: elements across; down, each channel's two maps."""
    from PIL import Image

    rows = []
    for c in range(len(layer.channels)):
        pair = np.stack([layer.found[k][shown][:, c], layer.expected[k][shown][:, c]])
        pair = _smaller(pair, side)
        low, high = float(pair.min()), float(pair.max())
        shades = (pair - low) * ((_SHADES - 1) / ((high - low) or 1.0))
        # (2, n, h, w) to two rows of n maps.
        rows += [np.concatenate(list(row), axis=1) for row in shades.round().astype(np.uint8)]
    image = Image.fromarray(np.concatenate(rows, axis=0), "P")
    colours = load_matplotlib().colormaps["viridis"](np.linspace(0, 1, _SHADES))[:, :3]
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, bits=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _smaller(maps: F32, side: int) -> F32:
    """Shrink maps (..., H, W) to at most ``side`` places a side, by means over boxes."""
    from PIL import Image

    height, width = maps.shape[-2:]
    size = _fitted(height, width, side)[::-1]
    if size == (width, height):
        return maps
    flat = maps.reshape(-1, height, width)
    small = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in flat]
    return np.stack(small).reshape(*maps.shape[:-2], size[1], size[0])


def _fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the size of a map on the page; what is a few places high may be longer than a side."""
    low = min(height, side)
    return low, min(width, max(side, min(_LONGEST, side * side // low)))


def _shown_size(layer: ExploredLayer) -> list[int]:
    """Return height and width as they are drawn: a strip is an eighth as high as it is long."""
    height, width = layer.found.shape[-2:]
    return [max(height, -(-width // 8)), width]


def _add_pictures(
    result: Result,
    of: dict[str, Any],
    data: str | Path | None,
    pictures: dict[str, list[dict[str, Any]]],
) -> list[str]:
    """Draw the moved inputs of samples that have no pictures yet; return notes."""
    if data is None:
        return []
    try:
        shown = open_pictures(data, result)
        check_shown(data, result, [sample["at"] for sample in of["samples"]])
        notes: list[str] = []
        for sample in of["samples"]:
            key = f"{of['of']} {sample['index']}"
            if key not in pictures:
                drawn, told = orbit_pictures(shown, result, sample["index"], of["elements"])
                notes += told
                pictures[key] = [
                    {
                        "images": [p.src for p in one if p.src],
                        "drawings": [p.svg for p in one if not p.src],
                    }
                    for one in drawn
                ]
    except GeedError as error:
        return [f"No pictures of the samples: {error}."]
    return notes
