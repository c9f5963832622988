"""Labels of places in a cache: those of D, in a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache.beside import PLACE_LABELS, reading_beside
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_file import (
    chunked,
    damaged,
    make_dataset,
    new_file,
    read_chunk,
    write_chunk,
    write_samples,
)

__all__ = ["LABELLED", "has_place_labels", "read_place_labels", "write_place_labels"]

#: The fingerprint of these labels, which a cache has that keeps some.
LABELLED = "labels of places"


_NAME = "labels"


def has_place_labels(folder: Path, manifest: Manifest) -> bool:
    """Say whether the labels of places are there, if there are to be any."""
    return LABELLED not in manifest.fingerprints or (folder / PLACE_LABELS).is_file()


def write_place_labels(folder: Path, manifest: Manifest, labels: NDArray[np.int32]) -> None:
    """Write the labels (N, ...) of the places of D.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    path = folder / PLACE_LABELS
    with new_file(folder, path, manifest.to_json(), manifest.fingerprints) as (file, _):
        write_samples(file, manifest.indices[: manifest.count])
        chunk = (1, *labels.shape[1:])
        dataset = make_dataset(file, _NAME, labels.shape, chunk, "int32", tensor="", content=_NAME)
        for row, own in enumerate(labels):
            write_chunk(dataset, row, own)


def read_place_labels(folder: Path, manifest: Manifest, count: int) -> NDArray[np.int32] | None:
    """Read the labels of the places of the first samples; ``None`` where a cache keeps none.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    count : int
        How many samples.

    Returns
    -------
    ndarray of int32, shape (count, ...), or None

    Raises
    ------
    GeedError
        If they are missing or damaged, or those of another cache.
    """
    if LABELLED not in manifest.fingerprints:
        return None
    path = folder / PLACE_LABELS
    with reading_beside(path, manifest, "/labels") as file:
        dataset = chunked(
            *(file, _NAME, path, "/labels"),
            rows=manifest.count,
            inner=None,
            dtype="int32",
            tensor="",
        )
        if dataset.chunks[0] != 1:
            raise damaged(path, "/labels")
        rows = [read_chunk(dataset, row, path, "/labels") for row in range(count)]
    return np.concatenate(rows)
