"""Measures on activations at hand: arrays (N, |G|, ...), without a model.

One function a measure, named as the measure is. All take floating point and finite values alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Group, LayoutAction, Permutation, Trivial
from onnx_geed.measures.catalogue import Support
from onnx_geed.measures.deviations import channel_sums_of_orbits, deviations_of_orbits
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.opposites import check_goes_with_group
from onnx_geed.measures.scores import OutputKind, check_logits
from onnx_geed.text import counted
from onnx_geed.threads import Threads

__all__ = [
    "channel_cos",
    "channel_sums",
    "flip_rate",
    "latent_cos",
    "latent_l2",
    "output_l2",
    "sensitivity",
    "softmax_kl",
    "unexplained",
]

F64 = NDArray[np.float64]


@checked
def channel_sums(activations: ArrayLike, action: LayoutAction, *, support: Support = "full") -> F64:
    """Return the three sums of eq. (5), from which every value per channel follows.

    Parameters
    ----------
    activations : array_like of float32, shape (N, n, C, H, W)
        f(gx).
    action : LayoutAction
        The input's action on the H×W grid.
    support : {"full", "disk"}
        Pixels to compare.

    Returns
    -------
    ndarray of float64, shape (N, n, C, 3)
        Σ u·v, Σ u², Σ v² with u a channel of f(gx) and v the same channel of φ_Y(g) f̂(x).

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
        If the action does not fit the grid or the number of channels.
    """
    measure, maps = _of_maps(activations, action, support)
    return _by_orbit(maps, lambda y: channel_sums_of_orbits(measure, y))


def _of_maps(
    activations: ArrayLike, action: LayoutAction, support: Support
) -> tuple[Measure, NDArray[Any]]:
    maps = _checked(activations, action.group, rank=5)
    if maps.shape[3:] != action.lengths[-2:] or action.moves.size != maps[0, 0, 0].size:
        raise GeedError(f"the action is for a grid of {action.shape}, found {maps.shape[3:]}")
    if action.channel_matrices is not None:
        raise GeedError(
            "matrices mix channels, which a cosine by channel does not see: take unexplained"
        )
    if action.channels is not None and action.channels.shape[1] != maps.shape[2]:
        raise GeedError(
            f"the channel table is for {counted(action.channels.shape[1], 'channel')}, found "
            f"{maps.shape[2]}"
        )
    return Measure("channel-cos", "activations", action, support), maps


@checked
def channel_cos(activations: ArrayLike, action: LayoutAction, *, support: Support = "full") -> F64:
    """Return deviations by the cosine per channel, eq. (5).

    Parameters
    ----------
    activations : array_like of float32, shape (N, n, C, H, W)
        f(gx).
    action : LayoutAction
        The input's action on the H×W grid, from :func:`onnx_geed.grid_action`; with a channel
        table, the paper's matched channels.
    support : {"full", "disk"}
        Pixels to compare.

    Returns
    -------
    ndarray of float64, shape (N, n)
        In [−1, 1]; −1 where every channel of f(gx) is a positive multiple of that of gf(x).

    Raises
    ------
    GeedError
        As for :func:`channel_sums`.
    """
    measure, maps = _of_maps(activations, action, support)
    return _by_orbit(maps, lambda y: deviations_of_orbits(measure, y)[0])


@checked
def latent_l2(activations: ArrayLike, group: Group) -> F64:
    """Return unnormalised deviations of latent L2, eq. (6).

    Parameters
    ----------
    activations : array_like, shape (N, n, k)
        f₁(gx).
    group : Group
        The acting group, of order n.

    Returns
    -------
    ndarray of float64, shape (N, n)
        ‖f₁(gx) − f̂₁(x)‖₂ ≥ 0; divide by :func:`normaliser` for eq. (6).

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
    """
    return _of_vectors("latent-l2", activations, group)


@checked
def latent_cos(activations: ArrayLike, group: Group) -> F64:
    """Return unnormalised deviations of latent cosine, eq. (6).

    Parameters
    ----------
    activations : array_like, shape (N, n, k)
        f₁(gx).
    group : Group
        The acting group, of order n.

    Returns
    -------
    ndarray of float64, shape (N, n)
        −cos(f₁(gx), f̂₁(x)) in [−1, 1]; divide by :func:`normaliser` for eq. (6).

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
    """
    return _of_vectors("latent-cos", activations, group)


@checked
def softmax_kl(
    activations: ArrayLike,
    action: Group | Trivial | Permutation,
    *,
    kind: OutputKind | None = None,
) -> F64:
    """Return deviations of the softmax output: KL(f(gx) ‖ φ_Y(g) f̂(x)).

    Parameters
    ----------
    activations : array_like, shape (N, n, classes)
        Logits or probabilities; one class is the two-class case.
    action : Group, Trivial or Permutation
        For a group, its trivial action is used.
    kind : {"logits", "probabilities"}, optional
        Kind of the scores; a softmax is applied to logits. The default is logits, and values that
        look like something else are then refused.

    Returns
    -------
    ndarray of float64, shape (N, n)
        Nats, ≥ 0; the mean over elements is at most ln n under the trivial action.

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
        If ``kind`` is not given, and every row is in [0, 1] and sums to 1 (or to 100), a single
        column is in [0, 1], or every row has negative logarithms of probabilities.
        If there is no such kind.
        If a probability is positive and that of the reference is zero.
    """
    return _of_vectors("softmax-kl", activations, action, kind)


@checked
def output_l2(activations: ArrayLike, action: Group | Action) -> F64:
    """Return deviations ‖f(gx) − φ_Y(g) f̂(x)‖₂ of a vector output, eq. (4).

    Parameters
    ----------
    activations : array_like, shape (N, n, k)
        f(gx).
    action : Group, Trivial, Permutation or Matrices
        For a group, its trivial action is used.

    Returns
    -------
    ndarray of float64, shape (N, n)
        ≥ 0, in units of the output.

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
    """
    return _of_vectors("output-l2", activations, action)


@checked
def flip_rate(
    activations: ArrayLike,
    action: Group | Trivial | Permutation,
    *,
    kind: OutputKind | None = None,
) -> F64:
    """Return whether the class of f(gx) differs from the class of f(x), moved by φ_Y(g).

    Parameters
    ----------
    activations : array_like, shape (N, n, classes)
        Logits or probabilities; one class is the two-class case.
    action : Group, Trivial or Permutation
        For a group, its trivial action is used.
    kind : {"logits", "probabilities"}, optional
        As for :func:`softmax_kl`.

    Returns
    -------
    ndarray of float64, shape (N, n)
        0 or 1; always 0 for the identity. Leave it out of means: ``[:, 1:].mean()``.

    Raises
    ------
    GeedError
        As for :func:`softmax_kl`.
    """
    return _of_vectors("flip-rate", activations, action, kind)


@checked
def unexplained(activations: ArrayLike, action: Group | Action) -> F64:
    """Return unnormalised deviations ‖f(gx) − φ_Y(g) f̂(x)‖₂² of a vector output.

    Parameters
    ----------
    activations : array_like, shape (N, n, k)
        f(gx).
    action : Group, Trivial, Permutation or Matrices
        For a group, its trivial action is used.

    Returns
    -------
    ndarray of float64, shape (N, n)
        ≥ 0; divide by :func:`normaliser` of ``"unexplained"`` for the unexplained share. If
        ker(φ_Y) is only the identity, leave it out of means: ``[:, 1:].mean()``.

    Raises
    ------
    GeedError
        If the array does not have that shape, or is not finite.
    """
    return _of_vectors("unexplained", activations, action)


@checked
def sensitivity(activations: ArrayLike, action: Group | LayoutAction) -> F64:
    """Return unnormalised ‖f(g₊x) − φ_Y(g₊g₋⁻¹) f(g₋x)‖ / (2·step) under small motions.

    Parameters
    ----------
    activations : array_like, shape (N, n, k) or (N, n, C, H, W)
        f(gx), with g₊ and g₋ next to each other, the identity first.
    action : Group or LayoutAction
        Small motions such as ``small-rotation``, for vectors, which should stay the same. For maps
        the action on their grid: :func:`onnx_geed.grid_action` with the group that acts on the
        input.

    Returns
    -------
    ndarray of float64, shape (N, n)
        ≥ 0, per pixel, the same for both elements of a pair; 0 for the identity. Leave it out of
        means: ``[:, 1:].mean()``. Divide by :func:`normaliser` of ``"sensitivity"``.

    Raises
    ------
    GeedError
        If the group has no small motions.
        If the array does not have that shape, or is not finite.
        If the action does not fit the grid.
    """
    group = action.group if isinstance(action, LayoutAction) else action
    check_goes_with_group(["sensitivity"], group)
    if not isinstance(action, LayoutAction):
        return _of_vectors("sensitivity", activations, group)
    measure = Measure("sensitivity", "activations", action)
    maps = _checked(activations, group, rank=5)
    if maps.shape[-2:] != action.shape:
        raise GeedError(f"the action is for a grid of {action.shape}, found {maps.shape[-2:]}")
    return _by_orbit(maps, lambda y: deviations_of_orbits(measure, y)[0])


def _of_vectors(
    name: str, activations: ArrayLike, action: Group | Action, kind: OutputKind | None = None
) -> F64:
    bound = Trivial(action) if isinstance(action, Group) else action
    measure = Measure(name, "activations", bound, kind=kind)
    points = _checked(activations, bound.group, rank=3)
    if measure.descriptor.of_classes and kind is None:
        check_logits(points, name, "the array")
    return measure.correction(bound.group.order) * _by_orbit(
        points, lambda y: deviations_of_orbits(measure, y)[0]
    )


def _checked(activations: ArrayLike, group: Group, rank: int) -> NDArray[Any]:
    array = np.asarray(activations)
    if array.ndim != rank or array.shape[1] != group.order or 0 in array.shape:
        form = "(N, |G|, C, H, W)" if rank == 5 else "(N, |G|, k)"
        raise GeedError(
            f"activations must be {form} with |G| = {group.order} for {group.name}, found "
            f"{array.shape}"
        )
    if array.dtype.kind != "f":
        raise GeedError(f"activations must be floating point, found {array.dtype}")
    if not np.isfinite(array).all():
        sample, element = np.argwhere(~np.isfinite(array))[0][:2]
        raise GeedError(
            f"activations hold NaN or infinity: sample {sample}, element {group.elements[element]}"
        )
    return array


def _by_orbit(array: NDArray[Any], reduce: Callable[[NDArray[Any]], F64]) -> F64:
    """Reduce every orbit, on all cores; the result does not depend on their number."""
    with Threads(min(len(array), os.cpu_count() or 1)) as pool:
        return np.concatenate(list(pool.map(lambda i: reduce(array[i : i + 1]), range(len(array)))))
