"""The data behind a result, opened to be looked at, and pictures of orbits in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import (
    Preprocess,
    Samples,
    is_folder,
    mark_of,
    open_samples,
    preprocess_from_json,
    shrunk,
)
from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Group,
    Layout,
    layout_action,
    parse_layout,
    recorded_group,
    with_components,
    within_disk,
)
from onnx_geed.report.drawings import drawing_of
from onnx_geed.report.picture import Picture
from onnx_geed.results import DataPart, InputPart, Result
from onnx_geed.text import counted

__all__ = ["ShownInput", "check_shown", "open_pictures", "orbit_pictures"]

# Folders are decoded at this size: enough for a thumbnail, and divided by most shifts.
_FOLDER = 144


@dataclass(frozen=True)
class ShownInput:
    """An input that the group moved, with the data to be looked at.

    Parameters
    ----------
    name : str
        The input's name; empty where it is the only one.
    layout : str
        Its layout.
    samples : Samples
        Its data; images of a folder at another size than the model takes.
    """

    name: str
    layout: str
    samples: Samples


def open_pictures(data: str | Path, result: Result) -> tuple[ShownInput, ...]:
    """Open the data behind a result, to be looked at.

    Parameters
    ----------
    data : str or Path
        DATA, as the result was measured on.
    result : dict
        The result.

    Returns
    -------
    tuple of ShownInput
        The inputs that the group moved, the acted-on one first; without those of other files.

    Raises
    ------
    GeedError
        If they cannot be read, or are not as many, or not named, as those of the result.
    """
    own = result["data"]["source"]
    inputs = [one for one in _inputs_of(result["data"]) if one is None or one["source"] == own]
    named = _named(result)
    # A blur or a noise is of pixels: it is seen at the size at which it was made.
    as_taken = named is not None and named.changes_values
    shown = tuple(
        _as_taken(data, result, one)
        if as_taken and one is not None and "preprocess" in result["data"]
        else _open(data, one, _others(result))
        for one in inputs
    )
    for one in shown:
        _check_same(data, result, one.samples)
    return shown


def _inputs_of(measured: DataPart) -> tuple[InputPart | None, ...]:
    """Return the inputs that the group moved; ``None`` for one of which nothing is known."""
    if inputs := measured.get("inputs"):
        return tuple(inputs)
    if "layout" not in measured or "shape" not in measured:
        return (None,)
    layout, shape = measured["layout"], measured["shape"]
    one: InputPart = {
        "name": "",
        "source": measured["source"],
        "layout": layout,
        "shape": shape,
        "dtype": "float32",
    }
    return (one,)


def _check_same(data: str | Path, result: Result, samples: Samples) -> None:
    """Refuse data with another number of samples or other names."""
    available, indices = result["data"]["available"], result["data"]["indices"]
    if len(samples) != available:
        raise GeedError(
            f"--data {data}: has {counted(len(samples), 'sample')}, but the result was measured on "
            f"{available} from {result['data']['source']}; give the same data"
        )
    names = result["data"]["names"]
    if names and samples.names and [samples.names[i] for i in indices] != list(names):
        raise GeedError(
            f"--data {data}: its files have other names than those of the result; give the data "
            f"that was measured, {result['data']['source']}"
        )


def check_shown(data: str | Path, result: Result, positions: Sequence[int]) -> bool:
    """Compare samples with the checksums that a result holds of those that were measured.

    Parameters
    ----------
    data : str or Path
        DATA, as the result was measured on.
    result : dict
        The result.
    positions : sequence of int
        Which of its samples are shown.

    Returns
    -------
    bool
        Whether they could be checked: results of earlier versions keep no marks.

    Raises
    ------
    GeedError
        If the data cannot be read as they were for the model.
        If a sample is another one than that which was measured.
    """
    measured = result["data"]
    marks, names = measured.get("marks"), measured["names"]
    if not marks:
        return False
    own = _inputs_of(measured)[0]
    assert own is not None  # what keeps marks keeps its layout
    # Decoded as for the model: thumbnails have another size.
    samples = _as_taken(data, result, own).samples
    for position in positions:
        index = measured["indices"][position]
        if mark_of(samples[index]) != marks[position]:
            called = f"sample {index}" + (f" ({names[position]})" if names else "")
            raise GeedError(
                f"--data {data}: {called} is not the one that was measured, its values differ; "
                f"give the data that was measured, {measured['source']}"
            )
    return True


def _as_taken(data: str | Path, result: Result, one: InputPart) -> ShownInput:
    """Open data as the model takes them, before mean and standard deviation."""
    preprocess = json.dumps(result["data"]["preprocess"])
    samples = open_samples(
        data,
        input_shape=one["shape"],
        input_layout=one["layout"],
        preprocess=preprocess_from_json(preprocess, "the result's data"),
        name=one["name"] or None,
        dtype=one["dtype"],
        masked=True,
        others=_others(result),
    )
    return ShownInput(one["name"], one["layout"], samples)


def _named(result: Result) -> Group | None:
    """Return the group, unless it is one of the user's own: drawing never runs their functions."""
    group = result["group"]
    own = group["interpolation"] == "own" or group.get("parameter") == "member"
    return None if own else recorded_group(group["name"])


def _others(result: Result) -> dict[str, bool]:
    """Return the model's other inputs; whether they were fed from the same data is not known."""
    return dict.fromkeys(result["data"].get("fed", {}), False)


def _open(data: str | Path, measured: InputPart | None, others: Mapping[str, bool]) -> ShownInput:
    """Open data in the layout of the result, images at a size for thumbnails."""
    first: GeedError | None = None
    for one in _tried(measured):
        # Free in its plane: images are shown at a size of their own.
        letters = zip(one["layout"].removeprefix("N"), one["shape"], strict=False)
        shape = tuple(None if letter in "HW" else n for letter, n in letters)
        plain = is_folder(data) and set("HW") <= set(one["layout"]) <= set("NCHW")
        preprocess = Preprocess(resize=_FOLDER, crop=_FOLDER) if plain else Preprocess()
        try:
            samples = open_samples(
                data,
                input_shape=shape,
                input_layout=one["layout"],
                preprocess=preprocess,
                name=one["name"] or None,
                dtype=one["dtype"],
                masked=True,
                others=others,
            )
            samples[0]
        except GeedError as error:
            first = first or error
        else:
            return ShownInput(one["name"], one["layout"], samples)
    assert first is not None
    raise first


def _tried(measured: InputPart | None) -> Iterator[InputPart]:
    """Yield the input as the result knows it; older results leave it to be tried."""
    if measured is not None:
        yield measured
        return
    tried: list[tuple[str, list[int]]] = []
    for channels in (3, 1, 4):
        tried += [("NCHW", [channels, 0, 0]), ("NHWC", [0, 0, channels])]
    for layout, shape in [*tried, ("NHW", [0, 0])]:
        yield {"name": "", "source": "", "layout": layout, "shape": shape, "dtype": "float32"}


def orbit_pictures(
    shown: Sequence[ShownInput], result: Result, index: int, elements: Sequence[int]
) -> tuple[list[list[Picture]], list[str]]:
    """Return pictures of some of a sample's orbit.

    Parameters
    ----------
    shown : sequence of ShownInput
        The inputs that the group moved.
    result : dict
        The result.
    index : int
        The sample.
    elements : sequence of int
        Which elements.

    Returns
    -------
    pictures : list of lists of Picture
        One list per element, with a picture of each input that has one.
    notes : list of str
        How to read the pictures, and which inputs have none, and why.
    """
    data = result["data"]
    by_input = []
    notes = [
        f"No pictures of {other['name']}: it was read from {other['source']}."
        for other in data.get("inputs", ())
        if other["source"] != data["source"]
    ]
    for one in shown:
        try:
            drawing = drawing_of(parse_layout(one.layout), one.samples.dtype)
            orbit = _orbit(one, result, index, elements, bright=drawing.bright)
            by_input.append(drawing.draw(orbit))
        except GeedError as error:
            of = f" of {one.name}" if one.name else ""
            notes.append(f"No pictures{of}: {error}.")
        else:
            notes += [drawing.reading] if drawing.reading else []
    return [list(pictures) for pictures in zip(*by_input, strict=True)], notes


def _orbit(
    shown: ShownInput, result: Result, index: int, elements: Sequence[int], *, bright: bool
) -> NDArray[np.float64]:
    """Return members of a sample's orbit, as the group moved them, vectors right and down.

    Raises
    ------
    GeedError
        If an action of the user's own moved them, or the group does not move this size.
        If a family puts samples before other images.
    """
    group = result["group"]
    interpolation = group["interpolation"]
    if interpolation == "own":
        raise GeedError("they were moved by a custom action")
    named = _named(result)
    if named is None:
        raise GeedError(f"{group['name']} is made by a function of your own, which no page runs")
    x: NDArray[Any] = shown.samples[index]
    if named.changes_values:
        return _changed(x, named, result, index)[list(elements)]
    if bright:
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            x = (x - low) / ((high - low) or 1)
    layout = parse_layout(shown.layout)
    components = group.get("components", "right-down")
    action = layout_action(
        with_components(named, components), layout, x.shape, interpolation, of_input=True
    )
    if group["support"] == "disk":
        x = within_disk(x)
    action = action.behind(result["seed"], index)
    wide = x.astype(np.float64)
    orbit = np.stack([_small(action.apply(g, wide), layout) for g in elements])
    if "X" not in layout.kept or components == "right-down":
        return orbit
    vectors = np.moveaxis(orbit, 1 + layout.kept.index("X"), 0)  # a view, which is drawn as it is
    if components == "right-up":
        vectors[1] *= -1
    else:
        vectors[:2] = vectors[1::-1].copy()
    return orbit


def _small(moved: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Shrink large planes, of which an orbit need not lie in memory together."""
    return shrunk(moved) if layout.kept.endswith("HW") else moved


def _changed(x: NDArray[Any], named: Group, result: Result, index: int) -> NDArray[np.float64]:
    """Return a sample as members of a family that changes values show it, as it was measured.

    Raises
    ------
    GeedError
        If the family puts samples before other images.
    """
    family, group = named.family, result["group"]
    assert family is not None  # of what changes values
    if "backgrounds" in group:
        raise GeedError(
            f"{group['name']} puts samples before other images, and a page reads neither these "
            "nor the masks"
        )
    if "preprocess" not in result["data"]:
        raise GeedError("the result does not say how its samples were read")
    if group["support"] == "disk":
        x = within_disk(x)
    orbit = family.orbit(x, result["seed"], index).astype(np.float64)
    low, high = float(x.min()), float(x.max())
    # Values that are no brightness are brought to it, all members alike.
    return (orbit - low) / ((high - low) or 1) if low < 0 or high > 1 else orbit
