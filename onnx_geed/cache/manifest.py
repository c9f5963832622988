"""The manifest of a cache: its layers, and what they were made from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict, cast

import numpy as np

from onnx_geed.errors import without_secrets
from onnx_geed.results import DataPart, GroupPart, ModelPart, RuntimePart

__all__ = ["Content", "Description", "Entry", "Manifest"]

#: Activations as the model gave them; vectors that a measure reads of them; sums of eq. (5); and,
#: of a dataset beside the entries, deviations between samples.
Content = Literal["activations", "points", "sums", "deviations"]


class Description(TypedDict):
    """All that measuring needs besides the arrays: plan, names, labels and provenance."""

    mode: str
    model: ModelPart
    data: DataPart
    group: GroupPart
    runtime: RuntimePart
    software: dict[str, str]
    kinds: dict[str, str]
    tables: dict[str, str]
    measures: list[tuple[str, str]]
    layers: list[dict[str, Any]]
    tensors: list[dict[str, Any]]
    classes: NotRequired[str | None]
    targets: NotRequired[list[str]]
    notes: list[str]
    norm_samples: int
    samples: int | None
    seed: int


@dataclass(frozen=True)
class Entry:
    """One layer of a cache.

    Parameters
    ----------
    tensor : str
        Its ONNX name.
    shape : tuple of int
        Shape of one element's values.
    dtype : str
        ``float32``, ``float16``, or ``float64`` for sums.
    content : {"activations", "points", "sums"}
        Activations as the model gave them, the vectors that a measure reads of them, or the three
        sums of eq. (5) a channel.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    content: Content


@dataclass(frozen=True)
class Manifest:
    """The layers of a cache, and what they were made from.

    Parameters
    ----------
    fingerprints : dict of str to str
        Whatever must agree for a run to be taken up again, by name.
    entries : tuple of Entry
        The layers, in the order of their datasets.
    order : int
        |G|.
    indices : tuple of int
        Samples of D, then the further points for M.
    count : int
        How many of these are orbits.
    shard_orbits : int
        Orbits in a shard.
    points : dict of int to int
        Length of the identity latents that are kept, by the entry's number.
    description : Description
        All that measuring needs besides. JSON.
    whole : tuple of int
        Entries of which whole tensors are kept of the points for M that have no orbit.
    """

    fingerprints: dict[str, str]
    entries: tuple[Entry, ...]
    order: int
    indices: tuple[int, ...]
    count: int
    shard_orbits: int
    points: dict[int, int]
    description: Description = field(repr=False)
    whole: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return the manifest as every file of the cache carries it: without keys and tokens."""
        content = {
            "fingerprints": self.fingerprints,
            "entries": [[e.tensor, list(e.shape), e.dtype, e.content] for e in self.entries],
            "order": self.order,
            "indices": list(self.indices),
            "count": self.count,
            "shard_orbits": self.shard_orbits,
            "points": [[i, size] for i, size in self.points.items()],
            "description": self.description,
        }
        if self.whole:  # else the file is as it was before there were any
            content["whole"] = list(self.whole)
        return without_secrets(json.dumps(content, sort_keys=True))

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text)
        entries = tuple(Entry(t, tuple(s), d, c) for t, s, d, c in content["entries"])
        return Manifest(
            content["fingerprints"],
            entries,
            content["order"],
            tuple(content["indices"]),
            content["count"],
            content["shard_orbits"],
            dict(content["points"]),
            cast(Description, content["description"]),
            tuple(content.get("whole", ())),
        )

    @property
    def bytes(self) -> int:
        """The size of all orbits, without HDF5's own structures."""
        return sum(self.orbit_bytes(entry) for entry in self.entries) * self.count

    def orbit_bytes(self, entry: Entry) -> int:
        """Return the size of one orbit of a layer."""
        size = int(np.prod(entry.shape, dtype=np.int64)) * np.dtype(entry.dtype).itemsize
        return self.order * size
