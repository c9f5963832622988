"""M₂ from a cache: whole tensors of the samples that it is taken over, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.contents import needs_activations
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_file import chunked, damaged, read_chunk, reading
from onnx_geed.cache.shard_reader import sample_label
from onnx_geed.errors import GeedError
from onnx_geed.measures import Measure, Plan, Spread
from onnx_geed.run import spreads_of
from onnx_geed.text import counted

__all__ = ["read_spreads", "read_whole"]


def read_spreads(
    folder: Path, manifest: Manifest, plan: Plan, count: int
) -> dict[tuple[str, str], Spread]:
    """Read what M₂ is taken over, for the measures that need it.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    plan : Plan
        The measures and their tensors.
    count : int
        Points for M₂, of those there are.

    Returns
    -------
    dict of (str, str) to Spread
        By measure and layer, added up as in a run.

    Raises
    ------
    GeedError
        If the cache keeps no whole tensors of some points, or they are damaged or not finite.
    """
    spreads: dict[tuple[str, str], Spread] = {}
    for measure in plan.measures:
        if not measure.descriptor.spread:
            continue
        key, alone = (measure.name, measure.layer), replace(plan, measures=(measure,))
        for position, tensor in enumerate(_tensors(folder, manifest, alone, measure, count)):
            seen = {measure.layer: tensor.astype(np.float32, copy=False)}
            found = spreads_of(
                replace(alone, norm_samples=None), seen, partial(sample_label, manifest), position
            )
            rows = found[key].rows
            spreads[key] = replace(spreads.get(key, Spread(rows)), rows=rows).summed()
    return spreads


def _tensors(
    folder: Path, manifest: Manifest, plan: Plan, measure: Measure, count: int
) -> Iterator[NDArray[Any]]:
    """Yield the first so many identity tensors (1, ...) of a layer."""
    of_tensor = [i for i, e in enumerate(manifest.entries) if e.tensor == measure.layer]
    i = next(i for i in of_tensor if manifest.entries[i].content != "sums")
    count = min(count, len(manifest.indices))
    for first in store.shards(manifest):
        if first >= count:
            return
        shard = store.read_shard(folder, manifest, first, [i])
        for _, (orbit,) in zip(range(first, count), shard, strict=False):
            yield orbit[:1]
    if count <= manifest.count:
        return
    if not needs_activations(measure, plan.layers[measure.layer]):
        latents = store.read_points(folder, manifest)[measure.layer]
        yield from (row[None] for row in latents[manifest.count : count])
        return
    if i not in manifest.whole:
        raise GeedError(
            f"{measure.name}@{measure.layer}: the cache holds whole tensors of only "
            f"{counted(manifest.count, 'orbit')}, but M needs {counted(count, 'sample')}: write "
            "it again with this "
            f"--measure, or measure with --norm-samples {manifest.count}"
        )
    for position, tensor in enumerate(read_whole(folder, manifest, i), manifest.count):
        if position == count:
            return
        yield tensor


def read_whole(folder: Path, manifest: Manifest, i: int) -> Iterator[NDArray[Any]]:
    """Read whole tensors of the points of M that have no orbit, of a ``whole`` entry, one by one.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    i : int
        The entry's number.

    Yields
    ------
    ndarray, shape (1, ...)
        Of the stored dtype, in the order of the samples.

    Raises
    ------
    GeedError
        If the file is missing or damaged.
    """
    path, entry = folder / store.REFERENCE, manifest.entries[i]
    if not path.is_file():
        raise GeedError(
            f"cache {folder}: {path.name} is missing; run the same onnx-geed cache command again "
            "to make it"
        )
    samples = manifest.indices[manifest.count :]
    with reading(path) as file:
        store.check_samples(file, path, manifest)
        dataset = chunked(
            *(file, f"whole/{i}", path, entry.tensor),
            rows=len(samples),
            inner=entry.shape,
            dtype=entry.dtype,
            tensor=entry.tensor,
        )
        if dataset.chunks[0] != 1:
            raise damaged(path, entry.tensor)
        for row in range(len(samples)):
            yield read_chunk(dataset, row, path, entry.tensor)
