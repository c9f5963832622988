"""G-EED, eq. (2) to (6): the deviations of one orbit, and the normaliser M.

A :class:`Measure` is a deviation bound to a tensor and an output action;
:func:`orbit_deviations` is the inner sum of eq. (4). :mod:`onnx_geed.arrays` takes whole arrays of
orbits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed import kernels
from onnx_geed.actions import Action, GridAction, disk_mask
from onnx_geed.errors import GeedError, check_choice, nearest, shown
from onnx_geed.scores import OutputKind, ProbabilityError, check_logits, log_probabilities
from onnx_geed.vectors import Matrices, Trivial

__all__ = [
    "MEASURES",
    "Measure",
    "centres",
    "channel_deviations",
    "channel_sums_of_orbits",
    "check_divergences",
    "cosines_of_sums",
    "deviations_from",
    "deviations_of_orbits",
    "normaliser",
    "orbit_deviations",
    "ready",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Support = Literal["full", "disk"]

#: Names of the measures, in the order of the report.
MEASURES = ("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "output-l2")


@dataclass(frozen=True)
class Measure:
    """A named deviation m on a named tensor with a named output action φ_Y.

    Parameters
    ----------
    name : str
        One of ``channel-cos``, ``latent-l2``, ``latent-cos``, ``softmax-kl``, ``output-l2``.
    layer : str
        Name of the tensor.
    action : Action
        The output action φ_Y.
    support : {"full", "disk"}
        Pixels that ``channel-cos`` compares.
    kind : {"logits", "probabilities"}, optional
        What ``softmax-kl`` reads. Logits where it is not said, but values that look like something
        else are then refused by :func:`orbit_deviations`.

    Raises
    ------
    GeedError
        If no measure has that name, or there is no such support or kind.
        If the action is none.
        If ``channel-cos`` is given an action that is not one on a grid, or a latent measure one
        that is not trivial, or another measure one on a grid.
        If ``softmax-kl`` is given matrices, which do not keep probabilities.
    """

    name: str
    layer: str
    action: Action
    support: Support = "full"
    kind: OutputKind | None = None
    kernel: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            near = nearest(self.name, MEASURES) if isinstance(self.name, str) else ""
            raise GeedError(
                f"no measure is called {self.name!r}: there are {', '.join(MEASURES)}.{near}"
            )
        check_choice("support", self.support, get_args(Support))
        if self.kind is not None:
            check_choice("kind", self.kind, get_args(OutputKind))
        if not all(hasattr(self.action, part) for part in ("group", "kernel", "apply", "exact")):
            raise GeedError(
                f"{self.name} on {self.layer}: {shown(self.action)} is no action: give one that "
                "onnx_geed.grid_action makes, a Trivial, Permutation or Matrices"
            )
        grid = isinstance(self.action, GridAction)
        wrong = (self.name == "channel-cos") != grid
        wrong |= self.name.startswith("latent") and not isinstance(self.action, Trivial)
        wrong |= self.name == "softmax-kl" and isinstance(self.action, Matrices)
        if wrong:
            raise GeedError(
                f"{self.name} on {self.layer}: does not go with the output action "
                f"{self.action.name!r}: channel-cos takes the input's own action on a grid, latent "
                "measures the trivial one, softmax-kl trivial or permutation, output-l2 any of a "
                "vector"
            )
        object.__setattr__(self, "kernel", self.action.kernel())

    @property
    def reads(self) -> OutputKind:
        """What ``softmax-kl`` reads: ``kind``, or logits where it was not said."""
        return self.kind or "logits"


def orbit_deviations(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) f̂(x)) for the orbit of one sample.

    Parameters
    ----------
    measure : Measure
        What is measured.
    y : ndarray, shape (n, C, H, W) or (n, k)
        f(gx), finite; logits or probabilities for ``softmax-kl``.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G, identity first; all by default.

    Returns
    -------
    deviations : ndarray of float64, shape (n,) or (len(members),)
        One an element; nats for ``softmax-kl``.
    zero_pairs : ndarray of float64, shape as ``deviations``
        Share of cosines taken between two zero vectors.

    Raises
    ------
    GeedError
        If an activation is NaN or infinite, naming element and tensor.
        If the measure's kind was not said and the values look unlike logits.
    ProbabilityError
        If a probability is positive where the reference's is zero.

    Notes
    -----
    Inner summand of eq. (4), with f̂ of eq. (2): the mean over ker(φ_Y), here over those of its
    elements that are ``members``.
    """
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        element = measure.action.group.elements[int(bad[0][0])]
        raise GeedError(
            f"activations hold NaN or infinity: element {element}, tensor {measure.layer!r}"
        )
    # A single score in [0, 1] for each of a few elements tells nothing.
    if measure.name == "softmax-kl" and measure.kind is None and y.shape[-1] > 1:
        check_logits(y, measure.layer)
    found, zeros = deviations_of_orbits(measure, y[None], members)
    return found[0], zeros[0]


def deviations_of_orbits(
    measure: Measure, y: NDArray[Any], members: Sequence[int] | None = None
) -> tuple[F64, F64]:
    """Return what :func:`orbit_deviations` returns, for several orbits at once.

    Parameters
    ----------
    measure : Measure
        What is measured.
    y : ndarray, shape (N, n, C, H, W) or (N, n, k)
        f(gx), finite.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G.

    Returns
    -------
    deviations, zero_pairs : ndarray of float64, shape (N, n) or (N, len(members))
        Bit for bit as orbit by orbit.

    Raises
    ------
    ProbabilityError
        If a probability is positive where the reference's is zero.
    """
    chosen = list(range(y.shape[1]) if members is None else members)
    kernel = [g for g in measure.kernel if g in set(chosen)]
    orbits = ready(measure, y)
    return deviations_from(measure, orbits, centres(measure, orbits, kernel), members)


def ready(measure: Measure, y: NDArray[Any]) -> NDArray[Any]:
    """Bring f(gx), of shape (N, n, C, H, W) or (N, n, k), to what deviations are computed from.

    Returns
    -------
    ndarray
        Maps (N, n, C, H·W) in float32; points (N, n, k) or log-probabilities in float64.

    Raises
    ------
    ProbabilityError
        If a probability is outside [0, 1].
    """
    if measure.name == "channel-cos":
        maps: F32 = np.ascontiguousarray(y, dtype=np.float32).reshape(*y.shape[:3], -1)
        return maps
    if measure.name == "softmax-kl":
        return log_probabilities(y, measure.reads)
    return np.ascontiguousarray(y, dtype=np.float64)


def centres(
    measure: Measure, orbits: NDArray[Any], kernel: Sequence[int] | None = None
) -> NDArray[Any]:
    """Return f̂(x) of some orbits, eq. (2).

    Parameters
    ----------
    measure : Measure
        What is measured.
    orbits : ndarray
        As :func:`ready` returns them.
    kernel : sequence of int, optional
        Elements to average over; ker(φ_Y) by default.

    Returns
    -------
    ndarray
        Maps (N, C, H·W) in float32; points (N, k) in float64; log f̂ of log-probabilities.
    """
    inner = list(measure.kernel if kernel is None else kernel)
    if measure.name == "channel-cos":
        if len(inner) == 1:
            return np.ascontiguousarray(orbits[:, inner[0]])
        return np.stack([_mean(orbit[inner]) for orbit in orbits])
    # Taken, not indexed: an index may give another order in memory, and so of summation.
    taken = np.take(orbits, inner, axis=1)
    if measure.name != "softmax-kl":
        mean: F64 = taken.mean(axis=1)
        return mean
    # By log-sum-exp; a class of probability zero on the whole kernel stays −inf.
    top = np.maximum(taken.max(axis=1), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        sums = np.exp(taken - top[:, None]).sum(axis=1)
        logs: F64 = np.log(sums) + top - np.log(len(inner))
    return logs


def deviations_from(
    measure: Measure,
    orbits: NDArray[Any],
    references: NDArray[Any],
    members: Sequence[int] | None = None,
    *,
    check: bool = True,
) -> tuple[F64, F64]:
    """Return m(f(gx), φ_Y(g) r) of some orbits and references r.

    Parameters
    ----------
    measure : Measure
        What is measured.
    orbits : ndarray, shape (N, n, ...)
        As :func:`ready` returns them.
    references : ndarray, shape (N, ...)
        As :func:`centres` returns them: of the same samples, eq. (4), or of others.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G.
    check : bool
        Whether an infinite divergence is refused, or returned.

    Returns
    -------
    deviations, zero_pairs : ndarray of float64, shape (N, n) or (N, len(members))

    Raises
    ------
    ProbabilityError
        If a probability is positive where the reference's is zero.
    """
    chosen = list(range(orbits.shape[1]) if members is None else members)
    if measure.name == "channel-cos":
        assert isinstance(measure.action, GridAction)
        sums = _sums(orbits, references, measure.action, measure.support)
        return cosines_of_sums(sums if members is None else np.take(sums, chosen, axis=1))
    points = np.take(orbits, chosen, axis=1)
    expected = _moved(measure.action, references, chosen)
    # These kernels go row by row: all orbits at once are so many more rows.
    rows, size = len(points) * len(chosen), points.shape[2]
    out, zeros = np.empty(rows), np.zeros(points.shape[:2])
    pairs = points.reshape(rows, size), expected.reshape(rows, size)
    if measure.name == "softmax-kl":
        kernels.divergences(*pairs, out)
        if check:
            check_divergences(measure, out.reshape(zeros.shape), chosen)
    elif measure.name == "latent-cos":
        kernels.cosine_deviations(*pairs, out)
        either = points.any(axis=2) | expected.any(axis=2)
        zeros = np.logical_not(either).astype(np.float64)
    else:
        kernels.euclidean_deviations(*pairs, out)
    return out.reshape(zeros.shape), zeros


def _moved(action: Action, centres: F64, chosen: Sequence[int]) -> F64:
    """φ_Y(g) f̂(x) of each sample for the chosen elements, (N, elements, k)."""
    if isinstance(action, Matrices):
        # One vector at a time: a product over all of them might add up in another order.
        return np.stack([np.stack([action.apply(g, c) for g in chosen]) for c in centres])
    return np.stack([action.apply(g, centres) for g in chosen], axis=1)


def _sums(orbits: F32, references: F32, action: GridAction, support: Support) -> F64:
    """The sums of eq. (5) of some orbits (N, n, C, H·W) and references (N, C, H·W)."""
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


def _mean(maps: F32) -> F32:
    """The f̂ of eq. (2)."""
    mean: F32 = maps.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def channel_sums_of_orbits(measure: Measure, y: NDArray[Any]) -> F64:
    """Return the three sums behind eq. (5) for some orbits.

    Parameters
    ----------
    measure : Measure
        A ``channel-cos`` measure.
    y : ndarray of float32, shape (N, n, C, H, W)
        f(gx).

    Returns
    -------
    ndarray of float64, shape (N, n, C, 3)
        Σ u·v, Σ u², Σ v² of each channel.
    """
    assert isinstance(measure.action, GridAction)
    orbits = ready(measure, y)
    return _sums(orbits, centres(measure, orbits), measure.action, measure.support)


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


def check_divergences(measure: Measure, values: F64, chosen: Sequence[int]) -> None:
    """Refuse infinite divergences (..., n'), naming the first such element.

    Raises
    ------
    ProbabilityError
        If one is not finite.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    element = measure.action.group.elements[chosen[int(np.argwhere(~finite)[0][-1])]]
    raise ProbabilityError(
        f"{measure.layer}: under element {element} a class has a positive probability where the "
        "reference's is zero, so the divergence is infinite; measure the logits instead "
        "(--output, --output-kind logits)"
    )


def normaliser(measure: str, points: ArrayLike) -> float | None:
    """Return M of eq. (6).

    Parameters
    ----------
    measure : {"latent-l2", "latent-cos"}
        Which mean to take.
    points : array_like, shape (n, k)
        Identity-element latents of distinct samples.

    Returns
    -------
    float or None
        Mean distance or mean cosine over unordered pairs of distinct points; ``None`` for fewer
        than two points.

    Raises
    ------
    GeedError
        If the measure has no normaliser.
        If a point is NaN or infinite.
    """
    if measure not in ("latent-l2", "latent-cos"):
        raise GeedError(f"{measure} has no normaliser; latent-l2 and latent-cos have one")
    rows = np.ascontiguousarray(points, dtype=np.float64)
    if len(rows) < 2:
        return None
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise GeedError(f"{measure}: point {int(bad[0][0])} holds NaN or infinity, so it has no M")
    if measure == "latent-cos":
        return float(kernels.pairwise_cosine(rows))
    mean = float(kernels.pairwise_euclidean(rows))
    if math.isfinite(mean):
        return mean
    # Squares were out of range. A power of two changes no digit.
    scale = 2.0 ** -math.frexp(np.abs(rows).max())[1]
    return float(kernels.pairwise_euclidean(rows * scale)) / scale
