"""Files that stand beside the shards of a cache, with what is kept once for all of D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_file import damaged, manifest_text, read_dataset, reading
from onnx_geed.errors import GeedError
from onnx_geed.hdf5_trial import try_hdf5

__all__ = ["BESIDE", "INDEX", "INPUTS", "PLACE_LABELS", "reading_beside", "shared_manifest"]

#: The file of how far a family moves the inputs, and that of the labels of places.
INPUTS, PLACE_LABELS = "inputs.h5", "labels.h5"

#: The file of virtual datasets over all shards, for other tools.
INDEX = "cache.h5"

#: The files beside the shards that say of which cache they are.
BESIDE = (INPUTS, PLACE_LABELS)


def shared_manifest(paths: Sequence[Path]) -> Manifest:
    """Return the manifest that all of some files carry, which stand in one folder.

    Raises
    ------
    GeedError
        If one is damaged or newer, or two do not belong together.
    """
    try_hdf5(paths)
    with reading(paths[0]) as file:
        text = manifest_text(file, paths[0])
    manifest = Manifest.from_json(text, str(paths[0]))
    for path in paths[1:]:
        with reading(path) as file:
            here = manifest_text(file, path)
        if here != text:
            theirs = Manifest.from_json(here, str(path)).fingerprints
            differ = [k for k, v in manifest.fingerprints.items() if theirs.get(k) != v]
            raise GeedError(
                f"cache {path.parent}: {path.name} does not belong to {paths[0].name}: they differ "
                f"in {', '.join(differ) or 'their description'}; remove the one that is wrong"
            )
    return manifest


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
