"""What a cache holds, and whether it is whole and sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx_geed.cache import store
from onnx_geed.errors import GeedError
from onnx_geed.run import cores, in_order

__all__ = ["cache_info", "verify_cache"]


def cache_info(folder: str | Path) -> dict[str, Any]:
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
    missing = [store.shard_path(folder, f).name for f in store.missing_shards(folder, manifest)]
    return {
        "path": str(folder),
        "complete": not missing and store.has_points(folder, manifest),
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
        "data": {k: manifest.description["data"][k] for k in ("source", "fingerprint")},
        "group": manifest.description["group"],
    }


def verify_cache(
    folder: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> list[str]:
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
        What is wrong, each naming shard and layer; empty for a sound and complete cache.

    Raises
    ------
    GeedError
        If there is no cache, or its format is newer.
    """
    folder = Path(folder)
    manifest = store.read_manifest(folder)
    everything = range(len(manifest.entries))
    wrong: list[str] = []

    def work(first: int) -> list[str]:
        found = []
        # Entry by entry, so that damage in one layer does not hide that in another.
        for i in everything:
            try:
                for _ in store.read_shard(folder, manifest, first, [i]):
                    pass
            except GeedError as error:
                found.append(str(error))
        return list(dict.fromkeys(found))

    for done, found in enumerate(in_order(store.shards(manifest), work, cores()), start=1):
        wrong += found
        if progress:
            progress(done, len(store.shards(manifest)))
    try:
        store.read_points(folder, manifest)
    except GeedError as error:
        if str(error) not in wrong:
            wrong.append(str(error))
    return wrong
