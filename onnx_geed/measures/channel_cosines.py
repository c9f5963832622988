"""Channelwise cosine, eq. (5): three sums a channel, and the cosine from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action, GridAction, PlacedAction, disk_mask, still_grid
from onnx_geed.measures import kernels
from onnx_geed.measures.catalogue import Support

__all__ = ["channel_deviations", "cosines_of_sums", "mean_map", "orbit_sums"]

F64 = NDArray[np.float64]


F32 = NDArray[np.float32]


def orbit_sums(orbits: F32, references: F32, action: Action, support: Support) -> F64:
    """The sums of eq. (5) of some orbits (N, n, C, H·W) and references (N, C, H·W)."""
    if isinstance(action, PlacedAction):
        return _sums_of_own(orbits, references, action, support)
    if not isinstance(action, GridAction):
        raise TypeError(f"channelwise cosines of {action!r}, which acts on no grid")
    n, channels = orbits.shape[1:3]
    here = np.tile(np.arange(channels, dtype=np.int32), (n, 1))
    # The table says where a channel comes from; the loop over sources asks where it goes.
    target = here if action.channels is None else np.argsort(action.channels).astype(np.int32)
    pixels = np.arange(action.shape[0] * action.shape[1], dtype=np.int32)
    if support == "disk":
        pixels = pixels[disk_mask(*action.shape).ravel()]
    out = np.empty((len(orbits), n, channels, 3))
    kernels.channel_sums(
        orbits,
        references,
        target,
        action.index,
        action.weight,
        *action.rows,
        pixels,
        out,
    )
    return out


def _sums_of_own(orbits: F32, references: F32, action: PlacedAction, support: Support) -> F64:
    """The same under an action of one's own: references are moved before the compiled loop."""
    still = still_grid(action.group, *action.shape[-2:])
    out = np.empty((*orbits.shape[:3], 3))
    alone = replace(still, base_of=still.base_of[:1], permutation=still.permutation[:1])
    for g in range(orbits.shape[1]):
        moved = action.apply(g, references.reshape(-1, *action.shape)).reshape(references.shape)
        one = np.ascontiguousarray(orbits[:, g : g + 1])
        out[:, g : g + 1] = orbit_sums(one, moved, alone, support)
    return out


def mean_map(maps: F32) -> F32:
    """The f̂ of eq. (2)."""
    mean: F32 = maps.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def channel_deviations(sums: F64, members: Sequence[int] = ()) -> tuple[F64, F64, F64]:
    """Return eq. (5)'s m from its three sums, whole and by channel.

    Parameters
    ----------
    sums : ndarray of float64, shape (N, n, C, 3)
        As :func:`channel_sums_of_orbits` returns them.
    members : sequence of int
        Elements of a subgroup.

    Returns
    -------
    deviations : ndarray of float64, shape (N, n)
        −(1/C) Σ_c cos, in [−1, 1].
    zero_pairs : ndarray of float64, shape (N, n)
        Share of channels that are zero in both maps.
    by_channel : ndarray of float64, shape (N, 2, C)
        −cos of each channel, mean over all elements, and over the members.

    Notes
    -----
    Choice: the cosine of two zero vectors is 1, of one zero vector and another 0.
    """
    orbits, n, channels = sums.shape[:3]
    cosines, zeros = np.empty((orbits, n)), np.empty((orbits, n))
    by_channel = np.empty((orbits, 2, channels))
    inside = np.zeros(n, dtype=np.bool_)
    inside[list(members)] = True
    kernels.mean_cosines(np.ascontiguousarray(sums), inside, cosines, zeros, by_channel)
    return -cosines, zeros, -by_channel


def cosines_of_sums(sums: F64) -> tuple[F64, F64]:
    """Return what :func:`channel_deviations` does of any shape (..., C, 3), not by channel."""
    found, zeros, _ = channel_deviations(sums.reshape(1, -1, *sums.shape[-2:]))
    return found.reshape(sums.shape[:-2]), zeros.reshape(sums.shape[:-2])
