"""A cache described in short, and verified checksum by checksum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

from onnx_geed.arguments import checked
from onnx_geed.cache import store
from onnx_geed.cache.beside import INDEX
from onnx_geed.cache.inputs import has_inputs, read_inputs
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.matrices import has_matrices, read_tables
from onnx_geed.cache.place_labels import has_place_labels, read_place_labels
from onnx_geed.cache.remote import fetched_cache, info_told
from onnx_geed.cache.shard_file import damaged, is_sealed, manifest_text, reading
from onnx_geed.cache.shard_reader import stored_pairs
from onnx_geed.cache.spread import read_whole
from onnx_geed.copies import read_by_copy
from onnx_geed.errors import GeedError
from onnx_geed.hdf5_trial import try_hdf5
from onnx_geed.results import GroupPart, ModelPart
from onnx_geed.run import Meter, Progress, cores, in_order

__all__ = ["CacheInfo", "CachedData", "CachedLayer", "cache_info", "verify_cache"]


class CachedLayer(TypedDict):
    """An entry of a cache; its shape is (orbits, elements, ...), its size in bytes."""

    tensor: str
    content: str
    dtype: str
    shape: list[int]
    bytes: int


class CachedData(TypedDict):
    """The data that a cache is of."""

    source: str
    fingerprint: str


class CacheInfo(TypedDict):
    """A cache in short, as ``onnx-geed cache --info --format json`` prints it."""

    path: str
    complete: bool
    orbits: int
    order: int
    points: int
    shards: int
    missing: list[str]
    bytes: int
    layers: list[CachedLayer]
    fingerprints: dict[str, str]
    model: ModelPart
    data: CachedData
    group: GroupPart


@checked
@read_by_copy(fetched_cache, info_told)
def cache_info(folder: str | Path) -> CacheInfo:
    """Describe a cache.

    Parameters
    ----------
    folder : str or Path
        The cache.

    Returns
    -------
    dict
        ``layers`` (tensor, shape, dtype, content, bytes), ``orbits``, ``shards``, ``missing``
        (names of shards), ``complete``, ``fingerprints``, ``model``, ``data``, ``group``.

    Raises
    ------
    GeedError
        If there is no cache, or its first shard is damaged.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    data = manifest.description["data"]
    missing = [store.shard_path(folder, f).name for f in store.missing_shards(folder, manifest)]
    return {
        "path": str(folder),
        "complete": not missing
        and store.has_points(folder, manifest)
        and has_matrices(folder, manifest.description["tables"])
        and has_place_labels(folder, manifest)
        and has_inputs(folder, manifest),
        "orbits": manifest.count,
        "order": manifest.order,
        "points": len(manifest.indices),
        "shards": len(store.shards(manifest)),
        "missing": missing,
        "bytes": manifest.bytes,
        "layers": [
            {
                "tensor": e.tensor,
                "content": e.content,
                "dtype": e.dtype,
                "shape": [manifest.count, manifest.order, *e.shape],
                "bytes": manifest.orbit_bytes(e) * manifest.count,
            }
            for e in manifest.entries
        ],
        "fingerprints": manifest.fingerprints,
        "model": manifest.description["model"],
        "data": {"source": data["source"], "fingerprint": data["fingerprint"]},
        "group": manifest.description["group"],
    }


@checked
@read_by_copy(fetched_cache, lambda wrong, copy: [copy.told(text) for text in wrong])
def verify_cache(folder: str | Path, *, progress: Progress | None = None) -> list[str]:
    """Read every checksum of a cache.

    Parameters
    ----------
    folder : str or Path
        The cache.
    progress : callable, optional
        Told of shards done, of all.

    Returns
    -------
    list of str
        Faults, each naming shard and layer, or another file; none of a sound and complete cache.

    Raises
    ------
    GeedError
        If there is no cache, or its format is newer.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    everything = range(len(manifest.entries))
    wrong: list[str] = []

    def faults(first: int) -> list[str]:
        messages = []
        # Entry by entry, so that damage in one layer does not hide that in another.
        for i in everything:
            try:
                for _ in store.read_shard(folder, manifest, first, [i]):
                    pass
                stored_pairs(folder, manifest, first, [i])
            except GeedError as error:
                messages.append(str(error))
        return list(dict.fromkeys(messages))

    shards = store.shards(manifest)
    meter = Meter("shards", len(shards), progress)
    for messages in in_order(shards, faults, cores()):
        wrong += messages
        meter.add(1)
    more = len(manifest.indices) > manifest.count
    beside: tuple[Callable[[], object], ...] = (
        *(partial(_read_all, folder, manifest, i) for i in manifest.whole if more),
        lambda: store.read_points(folder, manifest),
        lambda: read_tables(folder, manifest.description["tables"]),
        lambda: read_place_labels(folder, manifest, manifest.count),
        lambda: read_inputs(folder, manifest),
        lambda: _check_index(folder, manifest),
    )
    for read in beside:
        try:
            read()
        except GeedError as error:
            if str(error) not in wrong:
                wrong.append(str(error))
    return wrong


def _check_index(folder: Path, manifest: Manifest) -> None:
    """Refuse an index that is damaged or of another cache; one that is missing is no fault.

    Its seal covers all of it, since the values themselves lie in the shards.
    """
    if not (index := folder / INDEX).exists():
        return
    if not is_sealed(index):
        raise damaged(index, "its structure")
    try_hdf5([index])
    with reading(index) as file:
        own = Manifest.from_json(manifest_text(file, index), str(index))
    # Read first: earlier versions may have spelled it otherwise.
    if own.to_json() != manifest.to_json():
        raise GeedError(
            f"cache {folder}: {INDEX} is of another cache; remove that file and run the same "
            "onnx-geed cache command again to make it again"
        )


def _read_all(folder: Path, manifest: Manifest, i: int) -> None:
    for _ in read_whole(folder, manifest, i):
        pass
