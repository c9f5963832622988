"""Files that stand beside the shards of a cache, with what is kept once for all of D."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_file import damaged, manifest_text, read_dataset, reading
from onnx_geed.errors import GeedError

__all__ = ["reading_beside"]


@contextmanager
def reading_beside(path: Path, manifest: Manifest, part: str) -> Iterator[h5py.File]:
    """Open a file beside the shards, which is of the same cache and of D.

    Parameters
    ----------
    path : Path
        The file.
    manifest : Manifest
        The cache's.
    part : str
        What it holds, as a damage is named.

    Raises
    ------
    GeedError
        If it is missing or damaged, or that of another cache.
    """
    if not path.is_file():
        raise GeedError(
            f"cache {path.parent}: {path.name} is missing; run the same onnx-geed cache command "
            "again to make it"
        )
    with reading(path) as file:
        samples = read_dataset(file, "samples", path, "/samples", axes=1, dtype="int64")
        same = np.array_equal(samples, manifest.indices[: manifest.count])
        if not same or manifest_text(file, path) != manifest.to_json():
            raise damaged(path, part)
        yield file
