"""Output actions fitted to a cache and handed back, without a model: :func:`fit_cached_actions`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx_geed.arguments import checked
from onnx_geed.cache.fits import fit_from_cache
from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.measure import complete_manifest
from onnx_geed.cache.plan import options_of, plan_of
from onnx_geed.cache.remote import fetched_cache
from onnx_geed.cache.tensors import stored_tensors
from onnx_geed.copies import read_by_copy
from onnx_geed.errors import GeedError
from onnx_geed.groups import FitKind, Table
from onnx_geed.run import (
    Notify,
    Progress,
    check_closed,
    check_representation,
    check_taken,
    fits_asked,
    fits_to_make,
    requested_fits,
    tell_defects,
)
from onnx_geed.text import counted

__all__ = ["fit_cached_actions"]


@checked
@read_by_copy(fetched_cache)
def fit_cached_actions(
    folder: str | Path,
    layers: Sequence[str],
    *,
    kind: FitKind = "orthogonal",
    representation: bool = False,
    samples: int | None = None,
    fit_samples: int = 50,
    fit_anyway: bool = False,
    memory: str | int = "2GiB",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[Table, ...]:
    """Estimate from a raw cache how a group acts on the channels of layers, without the model.

    Parameters
    ----------
    folder : str or Path
        The cache, with more samples than D.
    layers : sequence of str
        Tensors, nodes, globs or module paths.
    kind, representation
        As for :func:`onnx_geed.fit_actions`.
    samples : int, optional
        Size of D, the first orbits, which the fit does not use; 50 by default.
    fit_samples, fit_anyway, memory
        As in :class:`onnx_geed.Options`.
    progress : callable, optional
        Called after solved layers.
    notify : callable, optional
        Called with a text about the memory of the sums, and about layers that cannot be fitted.

    Returns
    -------
    tuple of Table
        One per layer.

    Raises
    ------
    GeedError
        If the cache is incomplete or damaged, or has no activations of a layer.
        If it has fewer than two samples besides D.
        If a layer has no channels, or is a vector that is too long for the samples.
        If the group is a family.
    """
    check_representation(kind, representation=representation)
    folder = Path(folder)
    manifest = complete_manifest(folder)
    asked = fits_asked(layers, kind)
    count = _size_of_d(manifest, samples)
    options = options_of(
        *(manifest, count, asked["output_action"], fit_samples, fit_anyway, memory)
    )
    requests = requested_fits(stored_tensors(manifest), options)
    plan, _ = plan_of(manifest, asked["measures"], {}, options)
    positions = range(count, min(count + fit_samples, manifest.count))
    made, notes = fits_to_make(requests, plan.layers, plan.group, len(positions), options)
    check_taken(plan.group)
    if representation:
        check_closed(plan.group)
    for note in notes:
        if notify is not None:
            notify(f"note: {note}")
    tables = fit_from_cache(
        *(folder, manifest, plan, made, positions, options),
        progress=progress,
        notify=notify,
        representation=representation,
    )
    fitted = tuple(tables.values())
    if representation:
        tell_defects(fitted, notify)
    return fitted


def _size_of_d(manifest: Manifest, samples: int | None) -> int:
    """Return the size of D, for which a cache has to hold more than that."""
    count = 50 if samples is None else samples
    if not 1 <= count <= manifest.count - 2:
        raise GeedError(
            f"--samples {count}: the fit needs samples outside D, and the cache holds "
            f"{counted(manifest.count, 'orbit')}: give 1 to {manifest.count - 2}, or write the "
            "cache with "
            "more --samples"
        )
    return count
