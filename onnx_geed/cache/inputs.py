"""How far a family moves the inputs, in a file of its own: what a gain takes beside activations."""

from __future__ import annotations

from pathlib import Path

from onnx_geed.cache.beside import INPUTS, reading_beside
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_file import (
    damaged,
    new_file,
    read_dataset,
    write_samples,
)
from onnx_geed.results import InputDistances

__all__ = ["has_inputs", "read_inputs", "write_inputs"]


def has_inputs(folder: Path, manifest: Manifest) -> bool:
    """Say whether how far inputs move is there, if it is to be."""
    return not _kept(manifest) or (folder / INPUTS).is_file()


def _kept(manifest: Manifest) -> bool:
    return manifest.description["group"].get("kind") == "family"


def write_inputs(folder: Path, manifest: Manifest, inputs: InputDistances) -> None:
    """Write how far the inputs of D are moved, and those of the points for M are apart.

    Raises
    ------
    GeedError
        If the disk is full or fails.
    """
    path = folder / INPUTS
    with new_file(folder, path, manifest.to_json(), manifest.fingerprints) as (file, _):
        write_samples(file, manifest.indices[: manifest.count])
        for name, array in (("moved", inputs.moved), ("between", inputs.between)):
            chunks = array.shape if array.size else None
            file.create_dataset(name, data=array, chunks=chunks, fletcher32=chunks is not None)


def read_inputs(folder: Path, manifest: Manifest) -> InputDistances | None:
    """Read what :func:`write_inputs` wrote; ``None`` of a cache that is of no family.

    Raises
    ------
    GeedError
        If it is missing or damaged, or that of another cache.
    """
    if not _kept(manifest):
        return None
    path = folder / INPUTS
    with reading_beside(path, manifest, "/moved") as file:
        moved, between = (
            read_dataset(file, n, path, f"/{n}", axes=2, dtype="float64")
            for n in ("moved", "between")
        )
    if moved.shape != (manifest.count, manifest.order):
        raise damaged(path, "/moved")
    return InputDistances(moved, between)
