"""Measures of feature maps, eq. (5): three sums a channel, and deviations from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action, LayoutAction, PlacedAction
from onnx_geed.measures import kernels
from onnx_geed.measures.catalogue import Support
from onnx_geed.measures.map_tables import of_actions
from onnx_geed.measures.measure import Measure

__all__ = [
    "deviations_of_sums",
    "mean_map",
    "needs_sums_alone",
    "sums_of_maps",
    "sums_of_pairs",
]

F64 = NDArray[np.float64]


F32 = NDArray[np.float32]


def sums_of_maps(orbits: F32, references: F32, action: Action, support: Support) -> F64:
    """Return the sums of eq. (5) of orbits against moved references.

    Parameters
    ----------
    orbits : ndarray of float32, shape (N, n, rows, F)
        f(gx).
    references : ndarray of float32, shape (N, rows, F)
        f̂(x), which the action moves.
    action : LayoutAction or PlacedAction
        φ_Y.
    support : {"full", "disk"}
        Pixels to compare.

    Returns
    -------
    ndarray of float64, shape (N, n, C, 3)
        Σ u·v, Σ u² and Σ v² of each channel.
    """
    return of_actions([(action, support)]).of([orbits], [references])[0]


def sums_of_pairs(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    action: LayoutAction | PlacedAction,
    support: Support,
) -> F64:
    """Return the sums of eq. (5) of maps (k, rows, F) against others, unmoved: (k, C, 3)."""
    u, v = (y.astype(np.float64).reshape(*y.shape[:2], -1) for y in (a, b))
    inside = action.inside(support)
    if inside is not None:
        u, v = u * inside, v * inside
    sums = np.stack([(u * v).sum(-1), (u * u).sum(-1), (v * v).sum(-1)], -1)
    if action.fixed == 1:
        return sums
    of_channels: F64 = sums.reshape(len(sums), -1, action.fixed, 3).sum(axis=2)
    return of_channels


def needs_sums_alone(measure: Measure) -> bool:
    """Say whether the three sums of each channel are all that a measure needs of its maps.

    They are where f̂ is the map of the identity, and one table moves the maps of all samples.
    """
    maps = measure.descriptor.view == "maps" and measure.kernel_of_action == (0,)
    return maps and measure.drawn is None


def mean_map(maps: F32) -> F32:
    """Return f̂ of eq. (2): the mean of maps (elements, C, H·W), kept in float32."""
    mean: F32 = maps.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def deviations_of_sums(
    measure: Measure, sums: F64, members: Sequence[int] = ()
) -> tuple[F64, F64, F64]:
    """Return m of a measure of maps from the three sums of each channel, whole and by channel.

    Parameters
    ----------
    measure : Measure
        One of feature maps.
    sums : ndarray of float64, shape (N, n, C, 3)
        As :func:`channel_sums_of_orbits` returns them.
    members : sequence of int
        Elements of a subgroup.

    Returns
    -------
    deviations : ndarray of float64, shape (N, n)
        m, the mean over channels; for ``channel-cos`` −(1/C) Σ_c cos, in [−1, 1].
    zero_pairs : ndarray of float64, shape (N, n)
        Share of channels that are zero in both maps.
    by_channel : ndarray of float64, shape (N, 2, C)
        m of each channel, mean over the elements that count, and over the members.
    """
    orbits, n, channels = sums.shape[:3]
    values, means = np.empty((orbits, n, channels)), np.empty((orbits, n))
    zeros, by_channel = np.empty((orbits, n)), np.empty((orbits, 2, channels))
    inside = np.zeros(n, dtype=np.bool_)
    # Of elements that do not all count there is no exact subgroup.
    some = measure.counted.start > 0
    inside[list(range(n)[measure.counted] if some else members)] = True
    descriptor, sums = measure.descriptor, np.ascontiguousarray(sums)
    descriptor.pairs(sums.reshape(-1, 3), values.reshape(-1))
    kernels.channel_means(values, sums, inside, descriptor.similarity, means, zeros, by_channel)
    if some:
        by_channel[:, 0] = by_channel[:, 1]
    return means, zeros, by_channel
