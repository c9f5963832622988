"""The reader of shards: it reads and reduces them, several at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.cache import store
from onnx_geed.cache.contents import paired_measures
from onnx_geed.cache.manifest import Manifest
from onnx_geed.measures import Plan
from onnx_geed.run import (
    OrbitStatistics,
    Pair,
    Pairs,
    around,
    join,
    known_places,
    neighbours,
    reduce_orbits,
)

__all__ = ["ShardReader", "sample_label", "stored_pairs"]


@dataclass(frozen=True)
class ShardReader:
    """Reads shards, and reduces their orbits as those of a run are reduced.

    Parameters
    ----------
    folder : Path
        The cache.
    manifest : Manifest
        Its contents.
    plan : Plan
        The measures and their tensors.
    wanted : tuple of int
        Numbers of the entries that are read.
    count : int
        Size of D: the first so many orbits.
    stops : tuple of int
        After how many orbits measuring may end.
    labels : ndarray of int32, shape (count, ...), optional
        Labels of the places of D.
    """

    folder: Path
    manifest: Manifest
    plan: Plan
    wanted: tuple[int, ...]
    count: int
    stops: tuple[int, ...]
    labels: NDArray[np.int32] | None = None

    def read(self, first: int) -> list[OrbitStatistics]:
        """Reduce a shard, in parts that end where measuring may end.

        Parameters
        ----------
        first : int
            Position of the shard's first orbit.

        Returns
        -------
        list of OrbitStatistics
            In order.

        Raises
        ------
        GeedError
            If the shard is missing or damaged, or holds what is not finite.
        """
        beside = any(m.descriptor.beside_others for m in self.plan.measures)
        pairs = neighbours(self.count) if beside else []
        label = partial(sample_label, self.manifest)
        parts: list[OrbitStatistics] = []
        part = OrbitStatistics()
        shard = store.read_shard(self.folder, self.manifest, first, self.wanted)
        for position, arrays in enumerate(shard, first):
            if position == self.count:
                break
            named, sums = _by_tensor(self.manifest, self.wanted, arrays)
            known = known_places(self.plan, [*named], self._labels_of(position), None, [])
            orbit = reduce_orbits(
                *(self.plan, named, label), first=position, sums=sums, pairs=pairs, known=known
            )
            if position == first:
                stored = stored_pairs(self.folder, self.manifest, first, self.wanted)
                paired = paired_measures(self.manifest.description["measures"])
                orbit = _with_pairs(orbit, stored, paired)
            # One by one, since an orbit is as large as it is until its pairs are taken.
            part = join(self.plan, [part, orbit])
            if position + 1 in self.stops:
                parts.append(part)
                part = OrbitStatistics()
        return [*parts, part] if part.orbits else parts

    def _labels_of(self, position: int) -> NDArray[np.int32] | None:
        return None if self.labels is None else self.labels[position : position + 1]


def _with_pairs(
    statistics: OrbitStatistics,
    stored: Mapping[str, Mapping[tuple[int, int], Pair]],
    paired: Mapping[str, str],
) -> OrbitStatistics:
    """Return the same with pairs that were stored beside sums, for the measure of each layer."""
    measures = dict(statistics.measures)
    for (name, layer), entry in statistics.measures.items():
        if paired.get(layer) == name and layer in stored:
            measures[name, layer] = replace(entry, pairs=Pairs(stored[layer]))
    return replace(statistics, measures=measures)


def _by_tensor(
    manifest: Manifest, wanted: Sequence[int], arrays: list[NDArray[Any]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float64]]]:
    """Return the activations and the sums of one orbit, by tensor."""
    named: dict[str, NDArray[np.float32]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for i, array in zip(wanted, arrays, strict=True):
        entry = manifest.entries[i]
        if entry.content == "sums":
            sums[entry.tensor] = array[None]
        else:
            named[entry.tensor] = array[None].astype(np.float32, copy=False)
    return named, sums


def sample_label(manifest: Manifest, position: int) -> str:
    """Name the sample at a position of D or among the points for M, for messages."""
    names = manifest.description["data"]["names"]
    index = manifest.indices[position]
    return f"sample {index} ({names[position]})" if names else f"sample {index}"


def stored_pairs(
    folder: Path, manifest: Manifest, first: int, wanted: Sequence[int]
) -> dict[str, dict[tuple[int, int], Pair]]:
    """Return the deviations between samples that a shard keeps beside its sums, by layer.

    Raises
    ------
    GeedError
        If they are damaged.
    """
    stop = min(first + manifest.shard_orbits, manifest.count)
    here: dict[str, list[tuple[int, int]]] = {
        "between": [pair for pair in neighbours(manifest.count) if first <= pair[1] < stop],
        "around": [pair for pair in around(manifest.count) if first <= pair[0] < stop],
    }
    here["between"] = [pair for pair in here["between"] if pair[1]]
    sums = [i for i in wanted if manifest.entries[i].content == "sums"]
    asked = {f"{k}/{i}": len(pairs) for k, pairs in here.items() for i in sums if pairs}
    by_layer: dict[str, dict[tuple[int, int], Pair]] = {}
    for name, rows in (store.read_pairs(folder, manifest, first, asked) if asked else {}).items():
        kind, _, i = name.partition("/")
        pairs = by_layer.setdefault(manifest.entries[int(i)].tensor, {})
        pairs |= {where: Pair(row) for where, row in zip(here[kind], rows, strict=True)}
    return by_layer
