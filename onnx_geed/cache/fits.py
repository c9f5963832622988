"""Output actions fitted to orbits of a cache that are none of D."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.shard_reader import sample_label
from onnx_geed.errors import GeedError
from onnx_geed.groups import Table
from onnx_geed.measures import Plan
from onnx_geed.results import Record
from onnx_geed.run import (
    FitRequest,
    Fitting,
    Notify,
    Options,
    Progress,
    SampleMarks,
    enter_fits,
    fit_tables,
    fitted_measures,
    marks_in_data,
    refuse_overlap,
    scales_of_fits,
    with_fits_of,
    with_samples,
)

__all__ = ["add_fits_of_cache", "check_unseen", "fit_from_cache", "marks_of"]

F32 = NDArray[np.float32]


def fit_from_cache(
    folder: Path,
    manifest: Manifest,
    plan: Plan,
    requests: Mapping[str, FitRequest],
    positions: range,
    options: Options,
    *,
    progress: Progress | None,
    notify: Notify | None,
    representation: bool = False,
) -> dict[str, Table]:
    """Fit output actions to orbits of a cache.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    plan : Plan
        The measures and their tensors.
    requests : mapping of str to FitRequest
        What is fitted, by tensor.
    positions : range
        Positions of the orbits, which follow on those of D.
    options : Options
        Memory, support, and how hidden tensors are moved.
    progress : callable, optional
        Called after solved layers.
    notify : callable, optional
        Told what the sums will take.
    representation : bool
        Whether orthogonal fits are made to compose.

    Returns
    -------
    dict of str to Table

    Raises
    ------
    GeedError
        If the cache holds no activations of a tensor, or is damaged.
    """
    indices = tuple(manifest.indices[p] for p in positions)
    fitting = Fitting(plan, requests, indices, options, representation)

    def orbits(names: Sequence[str]) -> Iterator[dict[str, F32]]:
        return _orbits(folder, manifest, names, positions)

    def label(position: int) -> str:
        return sample_label(manifest, positions[position])

    tables = fit_tables(fitting, orbits, label, progress, notify)
    return with_samples(tables, marks_of(manifest, positions))


def check_unseen(tables: Mapping[str, Table], manifest: Manifest, count: int) -> None:
    """Refuse fitted actions that have seen a sample of D.

    Raises
    ------
    GeedError
        If there is one.
    """
    if any(table.fit for table in tables.values()):
        held = manifest.indices[: manifest.count]
        every = marks_of(manifest, range(manifest.count))
        marks_at = {index: every.only(position) for position, index in enumerate(held)}.get
        marks = marks_of(manifest, range(count))
        label = partial(sample_label, manifest)
        refuse_overlap(tables, held[:count], marks, marks_at, label)


def add_fits_of_cache(
    folder: Path,
    manifest: Manifest,
    plan: Plan,
    tables: Mapping[str, Table],
    records: Sequence[Record],
    count: int,
) -> None:
    """Read D once more for what fitted values are read beside, and enter it in the records.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    plan : Plan
        The measures and their tensors.
    tables : mapping of str to Table
        Output actions by tensor.
    records : sequence of dict
        Changed in place.
    count : int
        Size of D.

    Raises
    ------
    GeedError
        If the cache holds no activations of a tensor, or is damaged.
    """
    measures = fitted_measures(plan, tables)
    if not measures:
        return
    names = list(dict.fromkeys(measure.layer for measure in measures))
    scales = scales_of_fits(plan, measures, _orbits(folder, manifest, names, range(count)))
    seed = manifest.description["seed"]
    enter_fits(with_fits_of(measures, tables, scales), records, seed=seed)


def marks_of(manifest: Manifest, positions: range) -> SampleMarks:
    """Return the digests of some samples."""
    data = manifest.description["data"]
    if "marks" not in data:
        raise GeedError(
            "--output-action: an earlier version wrote this cache and did not mark its samples, "
            "so an overlap of D with the samples of a fit cannot be checked; write it again"
        )
    return marks_in_data(data, slice(positions.start, positions.stop))


def _orbits(
    folder: Path, manifest: Manifest, names: Sequence[str], positions: range
) -> Iterator[dict[str, F32]]:
    """Yield activations (1, n, ...) of some orbits, by tensor, in order."""
    entries = {}
    for name in names:
        whole = [
            i
            for i, entry in enumerate(manifest.entries)
            if entry.tensor == name and entry.content == "activations"
        ]
        if not whole:
            raise GeedError(
                f"--output-action {name}: a fit needs activations, but the cache holds only "
                f"statistics: write it with --cache-mode raw, or with --measure unexplained@{name}"
            )
        entries[name] = whole[0]
    for first in store.shards(manifest):
        stop = min(first + manifest.shard_orbits, manifest.count)
        if stop <= positions.start or first >= positions.stop:
            continue
        shard = store.read_shard(folder, manifest, first, list(entries.values()))
        for position, arrays in enumerate(shard, first):
            if position >= positions.stop:
                break
            if position >= positions.start:
                yield {
                    name: array[None].astype(np.float32, copy=False)
                    for name, array in zip(entries, arrays, strict=True)
                }
