"""The catalogue of measures: a descriptor for each.

A new measure is one entry of :data:`CATALOGUE` and one function of pairs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from onnx_geed.errors import GeedError, nearest, shown

__all__ = [
    "CATALOGUE",
    "Descriptor",
    "Role",
    "Support",
    "View",
    "descriptor_of",
    "judge_of_fits",
]

Role = Literal["channel", "latent", "output"]
Support = Literal["full", "disk"]
View = Literal["maps", "points", "whole", "scores", "classes"]


@dataclass(frozen=True)
class Descriptor:
    """All that differs from measure to measure: its meaning, and the functions that compute it.

    Parameters
    ----------
    name : str
        As it is asked for, and as records carry it.
    role : {"channel", "latent", "output"}
        The tensors it takes where none is named: feature maps, the latent, the output.
    view : {"maps", "points", "whole", "scores", "classes"}
        The form in which it sees a tensor: maps, a vector each channel; points, vectors to which
        what lies on a grid is averaged; whole, all entries; class scores, which are brought to
        log-probabilities at each place; or the classes that these are for. So f̂ of eq. (2) is a
        mean of maps or vectors, or the logarithm of mean probabilities; classes have no mean, and
        those of x itself take its place.
    actions : {"letters", "trivial", "permutations", "any"}
        The output actions φ_Y it takes: by the letters of a layout; trivial alone; trivial or
        permutation; any.
    perfect : float
        The value of a tensor that is perfectly equivariant or invariant; larger is worse.
    worst : float
        The largest value, ``inf`` where there is none. Both before normalising, but of a share of
        the error, which is what it is after.
    unit : str
        Of deviations, and of values that are not normalised; ``distance`` is in the units of the
        tensor itself, any other means the same for every tensor.
    title, label : str
        A heading; a few words for an axis or a legend.
    formula : str
        m in words, the perfect value at the end, for files that carry the measurement itself.
    pairs : callable
        Computes m of many pairs, or the similarity that m is minus, in float64.
        Of points, and of scores as log-probabilities, ``pairs(points, references, out)`` writes
        one value for each of the rows (rows, k). Of maps ``pairs(sums, out)`` writes one for each
        pair of channels, which Σ u·v, Σ u² and Σ v² stand for in (rows, 3); the mean over channels
        is taken of these.
    nodes : callable, optional
        The same as ONNX nodes, ``nodes(nodes, u, v, axis)`` of tensors whose vectors lie along an
        axis, as in ``measures/graph_formulas.py``. A measure without is taken by the kernels alone.
    normaliser : callable, optional
        Computes M of eq. (6) from points (n, k) in float64, by which values are divided.
    spread : bool
        Whether values are divided by M₂ instead, the mean square by which whole tensors of
        different samples are away from their mean; tensors are seen one after another. A distance
        is divided by √(2 M₂), the root mean square distance between two of them.
    of_error : bool
        Whether it is a share of the error: f(gx) is moved back, held against its mean over all of
        G, and values are divided by the mean error, of labels or of a target. ``view``, ``actions``
        and ``pairs`` are those of class scores and labels.
    opposed : bool
        Whether f(gx) is held against that of the opposite small motion, and not against f̂(x): such
        a measure is taken under small motions, and no other is.
    skips_identity : bool
        Whether the identity, where it is held against itself alone and so scores perfect whatever
        the model, is left out of means.
    judges_fits : bool
        Whether fitted actions are judged by it, and so it is taken where one is asked for.
    default : bool
        Whether it is taken where no measure is asked for.
    similarity : bool
        Whether it is minus a similarity from −1 to 1, a cosine; pairs of zeros are counted.
    worst_invariance : callable of int to float, optional
        The largest value under the trivial action by the order of the group, where that is less
        than ``worst``.
    floor : float, optional
        Below this distance from the perfect value there is nothing to explain; in the unit of
        values. None where that depends on the tensor, or is not known.
    sentence, sentence_moved : str
        The meaning of a value in words, under the trivial action and under another one, with
        ``{value}`` (a cosine for a similarity), ``{target}`` (the operand that f(gx) is held
        against), ``{share}`` (of the largest value), ``{order}``, ``{noun}`` (map or tensor),
        ``{moved}`` (what the group does to class scores) and ``{first}`` (the sample as the first
        element has it).
        Without them the sentence is made of the unit; without the second, the first serves both.
    sentence_of_family : str
        The meaning where the action is trivial and f(gx) is held against f(x) itself, as under a
        family; without it ``sentence`` serves.
    """

    name: str
    role: Role
    view: View
    actions: Literal["letters", "trivial", "permutations", "any"]
    perfect: float
    worst: float
    unit: str
    title: str
    label: str
    formula: str
    pairs: Callable[..., None]
    nodes: Callable[..., Any] | None = None
    normaliser: Callable[[Any], float] | None = None
    spread: bool = False
    of_error: bool = False
    opposed: bool = False
    skips_identity: bool = False
    judges_fits: bool = False
    default: bool = True
    similarity: bool = False
    worst_invariance: Callable[[int], float] | None = None
    floor: float | None = None
    sentence: str = ""
    sentence_moved: str = ""
    sentence_of_family: str = ""

    @property
    def in_tensor_units(self) -> bool:
        """Whether deviations grow with the tensor, so that those of two models do not compare."""
        return self.power > 0

    @property
    def power(self) -> int:
        """By which power deviations grow with the tensor: 0 where they do not."""
        powers = {"distance": 1, "distance per pixel": 1, "squared distance": 2}
        return powers.get(self.unit, 0)

    @property
    def of_classes(self) -> bool:
        """Whether it takes class scores."""
        return self.view in ("scores", "classes")

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles of the tensors that it takes where none is named: one, or each of them."""
        return get_args(Role) if self.opposed else (self.role,)

    @property
    def perfect_over_m(self) -> bool:
        """Whether normalising moves the perfect value, to another number for each model."""
        return self.normalised and self.perfect != 0

    @property
    def own_scale(self) -> bool:
        """Whether values mean something for one model only."""
        return self.perfect_over_m or (self.in_tensor_units and not self.normalised)

    @property
    def cosine_of_maps(self) -> bool:
        """Whether values are cosines between maps, which move along with the input."""
        return self.view == "maps" and self.similarity

    def perfect_value(self, normaliser: float | None) -> float:
        """Return the perfect value of a record's ``value``, which M may have divided."""
        return self.perfect / normaliser if self.perfect_over_m and normaliser else self.perfect

    def worst_value(self, order: int, *, trivial: bool) -> float:
        """Return the largest value under a group of so many elements, before normalising."""
        if trivial and self.worst_invariance is not None:
            return self.worst_invariance(order)
        return self.worst

    @property
    def normalised(self) -> bool:
        """Whether values are divided by M, eq. (6), by M₂, or by the mean error."""
        return self.pooled or self.of_error

    @property
    def pooled(self) -> bool:
        """Whether points of many samples are needed for M or M₂."""
        return self.normaliser is not None or self.spread

    @property
    def beside_others(self) -> bool:
        """Whether a sample is also held against the next one: not where M or the error is that.

        Choice: of small motions such a number would depend on the step, and M does not.
        """
        return not (self.of_error or self.opposed)

    def divisor_of(self, mean_square: float) -> float:
        """Return what values are divided by, of M₂, where ``spread``.

        Choice: √(2 M₂) for distances is a little more than their mean, M of ``latent-l2``, which
        tensors that are seen one after another do not tell.
        """
        return mean_square if self.power == 2 else math.sqrt(2 * mean_square)

    def value_unit(self, *, normalised: bool) -> str:
        """Return the unit of values, which of a distance changes with M."""
        if normalised and self.of_error:
            return "share of the error"
        by_m = normalised and self.normalised and not self.similarity
        return f"{self.unit} / M" if by_m else self.unit

    def against_target(self) -> Descriptor:
        """Return the same share of a squared error, of any tensor that has a target."""
        pairs = _later("kernels", "squared_distances")
        return replace(self, view="whole", actions="any", pairs=pairs)


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that is loaded on its first call: reading this file loads no compiler."""

    def call(*arguments: Any) -> Any:
        home = importlib.import_module(f".{module}", __package__)
        return getattr(home, name)(*arguments)

    return call


#: The measures by name, in the order of the report.
CATALOGUE: dict[str, Descriptor] = {
    descriptor.name: descriptor
    for descriptor in (
        Descriptor(
            name="channel-cos",
            role="channel",
            view="maps",
            actions="letters",
            perfect=-1.0,
            worst=1.0,
            unit="−cosine",
            title="Feature maps",
            label="channelwise EED",
            formula=(
                "m = -(mean over channels of the cosine between the channel of f(gx) and the same "
                "channel of the moved map of x): -1 where the tensor is equivariant, at most 1"
            ),
            pairs=_later("kernels", "cosines_of_sums"),
            nodes=_later("graph_formulas", "cosine_nodes"),
            similarity=True,
            floor=0.01,
            sentence="The {noun} of the moved input has cosine {value} with {target}",
            sentence_moved="The {noun} of the moved input has cosine {value} with the moved {noun}",
        ),
        Descriptor(
            name="latent-l2",
            role="latent",
            view="points",
            actions="trivial",
            perfect=0.0,
            worst=float("inf"),
            unit="distance",
            title="Latent vector, distance",
            label="latent EED, distance",
            formula=(
                "m = distance between f(gx) and the mean over the orbit: 0 where the tensor is "
                "invariant; not yet divided by M, the mean distance between the latents of "
                "different samples"
            ),
            pairs=_later("kernels", "distances"),
            nodes=_later("graph_formulas", "distance_nodes"),
            normaliser=_later("normalisation", "mean_distance"),
            floor=0.02,
            sentence=(
                "A sample's orbit spreads {value} times as far as different samples are apart"
            ),
            sentence_of_family=(
                "The distance of f(gx) from f(x) is {value} times the distance between different "
                "samples"
            ),
        ),
        Descriptor(
            name="latent-cos",
            role="latent",
            view="points",
            actions="trivial",
            perfect=-1.0,
            worst=1.0,
            unit="−cosine",
            title="Latent vector, cosine",
            label="latent EED, cosine",
            formula=(
                "m = -cosine between f(gx) and the mean over the orbit: -1 where the tensor is "
                "invariant, at most 1; not yet divided by M, the mean cosine between the latents "
                "of different samples"
            ),
            pairs=_later("kernels", "cosines"),
            nodes=_later("graph_formulas", "cosine_nodes"),
            normaliser=_later("kernels", "mean_cosine"),
            similarity=True,
            floor=0.002,
            sentence="The latent f(gx) has cosine {value} with {target}",
        ),
        Descriptor(
            name="softmax-kl",
            role="output",
            view="scores",
            actions="permutations",
            perfect=0.0,
            worst=float("inf"),
            unit="nats",
            title="Predictions",
            label="softmax EED (nats)",
            formula=(
                "m = Kullback-Leibler divergence of the probabilities of gx from those expected "
                "from x: 0 where they agree"
            ),
            pairs=_later("kernels", "divergences"),
            nodes=_later("graph_formulas", "divergence_nodes"),
            worst_invariance=math.log,
            floor=1e-3,
            sentence="Predictions change by {value} nats",
            sentence_moved=("Predictions differ by {value} nats from those of {first}, {moved}"),
            sentence_of_family="Predictions change by {value} nats from those of x itself",
        ),
        Descriptor(
            name="output-l2",
            role="output",
            view="whole",
            actions="any",
            perfect=0.0,
            worst=float("inf"),
            unit="distance",
            title="Output vector",
            label="output EED, distance",
            formula=(
                "m = distance between f(gx) and what is expected from f(x): 0 where they agree"
            ),
            pairs=_later("kernels", "distances"),
            nodes=_later("graph_formulas", "distance_nodes"),
            default=False,
        ),
        Descriptor(
            name="unexplained",
            role="output",
            view="whole",
            actions="any",
            perfect=0.0,
            worst=float("inf"),
            unit="squared distance",
            title="Unexplained share",
            label="unexplained share",
            formula=(
                "m = squared distance between f(gx) and what is expected from f(x): 0 where "
                "they agree; not yet divided by M, the mean squared distance of the tensors of "
                "different samples from their mean, so that predicting that mean gives 1"
            ),
            pairs=_later("kernels", "squared_distances"),
            nodes=_later("graph_formulas", "square_nodes"),
            spread=True,
            skips_identity=True,
            judges_fits=True,
            default=False,
            floor=1e-3,
            sentence=(
                "A share of {value} of the variance between samples is not explained by {target}; "
                "the mean tensor has 1"
            ),
        ),
        Descriptor(
            name="flip-rate",
            role="output",
            view="classes",
            actions="permutations",
            perfect=0.0,
            worst=1.0,
            unit="share",
            title="Flipped predictions",
            label="flipped predictions, share",
            formula=(
                "m = 1 where f(gx) predicts another class than expected from f(x), else 0, mean "
                "over places: 0 if no prediction flips, 1 if all do"
            ),
            pairs=_later("kernels", "differences"),
            nodes=_later("graph_formulas", "difference_nodes"),
            skips_identity=True,
            default=False,
            floor=1e-3,
            sentence="{share} of predictions flip to another class",
            sentence_moved=(
                "{share} of predictions are another class than that of {first}, {moved}"
            ),
        ),
        Descriptor(
            name="sensitivity",
            role="output",
            view="whole",
            actions="any",
            perfect=0.0,
            worst=float("inf"),
            unit="distance per pixel",
            title="Sensitivity to small motions",
            label="sensitivity, by pixel",
            formula=(
                "m = distance between the tensor of a sample moved one way and that of the sample "
                "moved the other way, after moving both tensors to the same place, divided by the "
                "pixels between the two samples, twice the step: 0 where the tensor is invariant "
                "or equivariant; not yet divided by M, the root mean square distance between the "
                "tensors of different samples"
            ),
            pairs=_later("kernels", "distances"),
            nodes=_later("graph_formulas", "distance_nodes"),
            spread=True,
            opposed=True,
            skips_identity=True,
            default=False,
            floor=1e-3,
            sentence=(
                "Per pixel that the corner moves, the tensor deviates by {value} of the distance "
                "between different samples"
            ),
        ),
        Descriptor(
            name="symmetry-share",
            role="output",
            view="scores",
            actions="permutations",
            perfect=0.0,
            worst=1.0,
            unit="error",
            title="Share of the error",
            label="share of the error",
            formula=(
                "m = error of f(gx), moved back, minus the error of its mean over the group; not "
                "yet divided by the mean error: 0 if no part of the error comes from the group, 1 "
                "if all of it does"
            ),
            pairs=_later("scores", "log_ratios"),
            of_error=True,
            default=False,
            floor=0.01,
            sentence="{share} of the error would vanish if f(gx) were the same for every element",
            sentence_moved="{share} of the error would vanish if f were exactly equivariant",
        ),
    )
}


def judge_of_fits() -> str:
    """Return the name of the measure by which fitted actions are judged."""
    return next(d.name for d in CATALOGUE.values() if d.judges_fits)


def descriptor_of(name: object) -> Descriptor:
    """Return the descriptor of a measure.

    Raises
    ------
    GeedError
        If no measure has that name.
    """
    if isinstance(name, str) and name in CATALOGUE:
        return CATALOGUE[name]
    said, near = shown(name), ""
    if isinstance(name, str):
        said, near = repr(said), nearest(name, CATALOGUE)
    raise GeedError(f"no measure is called {said}; choose from {', '.join(CATALOGUE)}.{near}")
