"""Folders of images as samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.folders import classes_of
from onnx_geed.data.images import decode
from onnx_geed.data.preprocess import Preprocess
from onnx_geed.data.rows import Rows
from onnx_geed.errors import GeedError
from onnx_geed.files import Stamp, stamp
from onnx_geed.text import counted

__all__ = ["check_channels", "reader_of_images"]


def check_channels(preprocess: Preprocess, channels: int | None, layout: str) -> None:
    """Make sure that preprocessing makes the channels that a model takes.

    Raises
    ------
    GeedError
        If it does not.
    """
    one = "C" not in layout
    if preprocess.channels is None or (one and preprocess.channels == "grey"):
        return
    feeds = 1 if preprocess.channels == "grey" else 3
    takes = 1 if one else channels
    if takes not in (None, feeds):
        raise GeedError(
            f"preprocess channels={preprocess.channels} feeds {feeds} "
            f"channel{'s' * (feeds != 1)}, but the model takes {takes}"
            + (f": write channels={'grey' if takes == 1 else 'RGB'}" if takes in (1, 3) else "")
        )


def reader_of_images(
    folder: str,
    names: tuple[str, ...],
    takes: tuple[int | None, ...],
    layout: str,
    preprocess: Preprocess,
    dtype: np.dtype[Any],
    allowed: int,
) -> tuple[Rows, Callable[[int], NDArray[Any]]]:
    """Return a folder's images, and a function that reads one in kept order.

    Raises
    ------
    GeedError
        If the model does not take images of 1 or 3 channels, or takes whole numbers.
    """
    channels = takes[layout.index("C") - 1] if "C" in layout else 1
    if channels not in (None, 1, 3):
        raise GeedError(
            f"--data {folder}: the model takes {counted(channels, 'channel')}, but images have 1 "
            "or 3: give "
            "an array"
        )
    if dtype.kind != "f":
        raise GeedError(
            f"--data {folder}: the model takes {dtype}, but images are read as floats in [0, 1]: "
            f"give an array of {dtype}"
        )
    grey = preprocess.channels == "grey" or (preprocess.channels is None and channels == 1)
    stamps: dict[int, Stamp] = {}

    def read(index: int) -> NDArray[Any]:
        path = Path(folder, names[index])
        stamps.setdefault(index, stamp(path))
        name = f"--data {folder}: {names[index]}"
        x = decode(path, preprocess, grey=grey, name=name, allowed=allowed)
        return x if "C" in layout else x[0]

    rows = Rows(
        (len(names),),
        dtype,
        read,
        labels=classes_of(names),
        files=lambda: list(stamps.values()),
        names=names,
        kind="images",
    )
    return rows, read
