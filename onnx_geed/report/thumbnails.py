"""Small pictures of samples and of their orbits, as data URIs for a page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import Preprocess, Samples, mark_of, open_samples, preprocess_from_json
from onnx_geed.errors import GeedError
from onnx_geed.groups import disk_mask, grid_action, parse_group
from onnx_geed.results import DataPart, GroupPart, Result

__all__ = ["check_shown", "open_pictures", "orbit_pictures"]

#: Side of a thumbnail in pixels.
SIDE = 64


# Folders are decoded at this size: enough for a thumbnail, and divided by most shifts.
_FOLDER = 144


def open_pictures(data: str | Path, result: Result) -> Samples:
    """Open the data behind a result, to be looked at.

    Parameters
    ----------
    data : str or Path
        DATA, as the result was measured on.
    result : dict
        The result.

    Returns
    -------
    Samples

    Raises
    ------
    GeedError
        If they cannot be read, or are not as many, or not named, as those of the result.
    """
    samples = _open(data, result["data"])
    available, indices = result["data"]["available"], result["data"]["indices"]
    if len(samples) != available:
        raise GeedError(
            f"--data {data}: holds {len(samples)} samples, the result is of {available} from "
            f"{result['data']['source']}; give the same data"
        )
    names = result["data"]["names"]
    if names and samples.names and [samples.names[i] for i in indices] != list(names):
        raise GeedError(
            f"--data {data}: its files are named otherwise than those of the result; give the data "
            f"that was measured, {result['data']['source']}"
        )
    return samples


def check_shown(data: str | Path, result: Result, positions: Sequence[int]) -> bool:
    """Hold samples against the marks that a result keeps of those that were measured.

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
    # Decoded as for the model: thumbnails have another size.
    samples = open_samples(
        data,
        input_shape=measured["shape"],
        input_layout=measured["layout"],
        preprocess=preprocess_from_json(json.dumps(measured["preprocess"]), "the result's data"),
    )
    for position in positions:
        index = measured["indices"][position]
        if mark_of(samples[index]) != marks[position]:
            called = f"sample {index}" + (f" ({names[position]})" if names else "")
            raise GeedError(
                f"--data {data}: {called} is not the one that was measured, its values differ; "
                f"give the data that was measured, {measured['source']}"
            )
    return True


def _open(data: str | Path, measured: DataPart) -> Samples:
    """Open data in the layout of the result, at a size for thumbnails."""
    folder = Path(data).is_dir()
    preprocess = Preprocess(resize=_FOLDER, crop=_FOLDER) if folder else Preprocess()
    first: GeedError | None = None
    for shape, layout in _layouts(measured):
        try:
            samples = open_samples(
                data, input_shape=shape, input_layout=layout, preprocess=preprocess
            )
            samples[0]
        except GeedError as error:
            first = first or error
        else:
            return samples
    assert first is not None
    raise first


def _layouts(measured: DataPart) -> Iterator[tuple[tuple[int | None, ...], str]]:
    """Shape of a sample, free in its plane, and layout; older results leave it to be tried."""
    if "layout" in measured and "shape" in measured:
        letters = measured["layout"].removeprefix("N")
        shape = zip(letters, measured["shape"], strict=False)
        yield tuple(None if letter in "HW" else n for letter, n in shape), measured["layout"]
        return
    for channels in (3, 1, 4):
        yield (channels, None, None), "NCHW"
        yield (None, None, channels), "NHWC"
    yield (None, None), "NHW"


def orbit_pictures(
    samples: Samples, index: int, group: GroupPart, elements: Sequence[int]
) -> list[str]:
    """Return some of a sample's orbit.

    Parameters
    ----------
    samples : Samples
        The data.
    index : int
        The sample.
    group : dict
        The ``group`` of a result.
    elements : sequence of int
        Which elements.

    Returns
    -------
    list of str
        A data URI an element; empty where the sample is no image of 1, 3 or 4 channels, the group
        does not act on its grid, or an action of the user's own moved it.
    """
    interpolation = group["interpolation"]
    if interpolation == "own":
        return []
    x = samples[index]
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[0] not in (1, 3, 4):
        return []
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        x = (x - low) / ((high - low) or 1)
    try:
        height, width = x.shape[1:]
        action = grid_action(parse_group(group["name"]), height, width, interpolation)
    except GeedError:
        return []
    if group["support"] == "disk":
        x = np.where(disk_mask(*action.shape), x, np.float32(0))
    return [_uri(action.apply(g, x.astype(np.float64))) for g in elements]


def _uri(x: NDArray[np.float64]) -> str:
    from PIL import Image

    pixels = np.clip(np.round(x[:3] * 255), 0, 255).astype(np.uint8)
    grey = len(pixels) == 1
    image = Image.fromarray(pixels[0] if grey else np.moveaxis(pixels, 0, -1))
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    if grey:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
