"""What a layer does when its input is moved, by fits: it moves along, mixes along, or neither."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import FitKind
from onnx_geed.measures import Descriptor, descriptor_of, told, told_ends
from onnx_geed.results.comparability import Key, same_samples, same_setting
from onnx_geed.results.findings import Finding
from onnx_geed.results.intervals import decisive_kind, gap_interval, side_of_zero
from onnx_geed.results.origin import same_model
from onnx_geed.results.reading import HARDLY
from onnx_geed.results.schema import FitPart, Record, Result
from onnx_geed.text import span

__all__ = [
    "HONEST",
    "MOTION",
    "LayerMotion",
    "Motion",
    "Prediction",
    "fits_together",
    "fitted_motion",
    "layer_motions",
    "motion_sentence",
]

F64 = NDArray[np.float64]

Motion = Literal[
    "moves along",
    "channels are permuted",
    "mixes along",
    "hardly moves along",
    "does not move along",
    "cannot be told",
]


#: The name of the finding.
MOTION = "motion of channels"


#: What has to stand beside any fitted value.
HONEST = (
    "Judge a fitted value only against its shuffled null, and on samples that the fit did not see."
)


# From the stiffest to the one that can do most.
_KINDS: tuple[FitKind, ...] = get_args(FitKind)


_MOTIONS: dict[str, Motion] = {
    "identity": "moves along",
    "permutation": "channels are permuted",
    "orthogonal": "mixes along",
    "linear": "mixes along",
}


_ANY = {
    "permutation": "permutation",
    "orthogonal": "orthogonal map",
    "linear": "linear map",
}


# A freer map is news where it takes off at least this share of what a blind prediction leaves.
_NEWS = 0.05


@dataclass(frozen=True, eq=False)
class Prediction:
    """One way to tell f(gx) from f(x), and how far off it is on the samples that were measured.

    Parameters
    ----------
    kind : str
        ``identity``, which moves positions alone, or what the channels were fitted by.
    per_sample : ndarray of float64, shape (N,)
        One value a sample, in the unit of the record's ``value``.
    ci95 : (float, float) or None
        Interval of their mean.
    shuffled : ndarray of float64, shape (N,), or None
        The same with the next sample's prediction. Of ``identity``, that of the stiffest fit.
    fit : dict or None
        The record's ``fit``.
    """

    kind: str
    per_sample: F64
    ci95: tuple[float, float] | None
    shuffled: F64 | None
    fit: FitPart | None = None

    @property
    def value(self) -> float:
        """Mean over samples."""
        return float(self.per_sample.mean())

    @property
    def null(self) -> float | None:
        """Mean of what the next sample's prediction leaves."""
        return None if self.shuffled is None else float(self.shuffled.mean())


@dataclass(frozen=True, eq=False)
class LayerMotion:
    """What one layer does, by one measure.

    Parameters
    ----------
    measure, layer : str
        What was measured where.
    predictions : tuple of Prediction
        The identity's first, then the fits', from the stiffest to the one that can do most.
    motion : str
        What the layer does.
    best : Prediction
        The last one that is better than those before it by the paired interval.
    blind : float or None
        What a prediction leaves that knows nothing of the sample: the next one's, or where that is
        less the mean tensor. None where there is no such prediction.
    mean_tensor : float or None
        What the mean tensor leaves, where the measure has that as its unit.
    """

    measure: str
    layer: str
    predictions: tuple[Prediction, ...]
    motion: Motion
    best: Prediction
    blind: float | None
    mean_tensor: float | None

    @property
    def descriptor(self) -> Descriptor:
        """The measure's descriptor."""
        return descriptor_of(self.measure)

    def told(self, value: float) -> float:
        """Return a value as sentences tell it: the cosine of a negative one."""
        return told(self.descriptor, value)

    def told_ends(self, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return an interval as sentences tell it, within the measure's range."""
        return told_ends(self.descriptor, ends)

    @property
    def null(self) -> float | None:
        """The largest of the shuffled nulls: the scale of the layer."""
        return max((p.null for p in self.predictions if p.null is not None), default=None)

    @property
    def freest(self) -> Prediction:
        """The prediction that could do most."""
        return self.predictions[-1]


def fits_together(results: Sequence[Result]) -> list[list[Result]]:
    """Group results whose fits predict the same f(gx).

    Parameters
    ----------
    results : sequence of dict
        Results.

    Returns
    -------
    list of list of dict
        Those with fits; of one model, group and the same samples, fed and normalised alike, with
        one fit of a kind a layer each. Of two fits of a kind each has a list of its own.
    """
    parts: list[tuple[list[Result], set[tuple[Key, str]]]] = []
    for result in results:
        kinds: set[tuple[Key, str]] = {
            ((record["measure"], record["layer"]), fit["kind"])
            for record in result["measurements"]
            if (fit := record.get("fit"))
        }
        if not kinds:
            continue
        for own, known in parts:
            if not known & kinds and all(_same_orbits(other, result) for other in own):
                own.append(result)
                known |= kinds
                break
        else:
            parts.append(([result], kinds))
    return [own for own, _ in parts]


def _same_orbits(a: Result, b: Result) -> bool:
    """Tell whether two results are of one model, one group, and the same f(gx), measured alike."""
    count = min(r["samples"] for result in (a, b) for r in result["measurements"])
    return (
        same_model(a["model"], b["model"])
        and a["group"] == b["group"]
        and same_samples(a, b, count)
        and same_setting(a, b)
    )


def layer_motions(results: Sequence[Result]) -> tuple[LayerMotion, ...]:
    """Say what each fitted layer does.

    Parameters
    ----------
    results : sequence of dict
        Of one model, group and the same samples; of one kind of fit a layer each.

    Returns
    -------
    tuple of LayerMotion
        By measure, the one that fits are judged by first; layers in the order of the results.

    Notes
    -----
    Choice: a prediction is taken for better than a stiffer one, or than its own shuffled one, where
    the 95 % interval of the paired differences says so; and for news beside the stiffer one where
    it takes off 0.05 of what a blind prediction leaves. A layer hardly moves along whose best
    prediction leaves more than 0.8 of what one leaves that knows nothing of the sample: the
    shuffled one, or the mean tensor, which leaves 1 of unexplained shares.
    """
    fitted: dict[Key, dict[str, tuple[Record, int]]] = {}
    for result in results:
        for record in result["measurements"]:
            if fit := record.get("fit"):
                kinds = fitted.setdefault((record["measure"], record["layer"]), {})
                kinds.setdefault(fit["kind"], (record, result.get("seed", 0)))
    motions = [_motion(key, kinds) for key, kinds in fitted.items()]
    return tuple(sorted(motions, key=lambda m: not m.descriptor.judges_fits))


def _motion(key: Key, kinds: dict[str, tuple[Record, int]]) -> LayerMotion:
    chosen = [kinds[kind] for kind in _KINDS if kind in kinds]
    # As many samples as all have: D is the first of one permutation.
    count = min(record["samples"] for record, _ in chosen)
    seed = chosen[0][1]
    fits = [_of_fit(record, count) for record, _ in chosen]
    identity = _of_identity(chosen[0][0], count)
    predictions = (*([identity] if identity else []), *fits)
    descriptor = descriptor_of(key[0])
    shares = descriptor.view == "classes"
    usable = all(record["value"] is not None for record, _ in chosen)
    mean = 1.0 if descriptor.spread and usable else None
    best = predictions[0]
    for fit in fits:
        better = _sees(fit, shares, seed)
        better = better and _below(fit.per_sample - best.per_sample, shares, seed)
        scale = _blind(fit, mean)
        if better and scale is not None:
            gain = (best.value - fit.value) / (scale - descriptor.perfect)
            best = fit if gain >= _NEWS else best
    blind = _blind(best, mean)
    return LayerMotion(
        measure=key[0],
        layer=key[1],
        predictions=predictions,
        motion=_word(best, predictions, descriptor, blind, seed),
        best=best,
        blind=blind,
        mean_tensor=mean,
    )


def _blind(prediction: Prediction, mean: float | None) -> float | None:
    """Return what is left by the shuffled prediction, or by the mean tensor where that is less."""
    if prediction.null is None:
        return None
    return prediction.null if mean is None else min(prediction.null, mean)


def _of_fit(record: Record, count: int) -> Prediction:
    fit, ends = record.get("fit"), record["ci95"]
    assert fit is not None
    shuffled = fit["per_sample"]["shuffled"]
    return Prediction(
        kind=fit["kind"],
        per_sample=np.asarray(record["per_sample"][:count], dtype=np.float64),
        ci95=(ends[0], ends[1]) if ends else None,
        shuffled=None if shuffled is None else np.asarray(shuffled[:count], dtype=np.float64),
        fit=fit,
    )


def _of_identity(record: Record, count: int) -> Prediction | None:
    """Return the prediction that leaves channels where they are, by the stiffest fit's record."""
    of_fit = _of_fit(record, count)
    assert of_fit.fit is not None
    values, ends = of_fit.fit["per_sample"]["identity"], of_fit.fit["ci95"]["identity"]
    if values is None:
        return None
    return dataclasses.replace(
        of_fit,
        kind="identity",
        per_sample=np.asarray(values[:count], dtype=np.float64),
        ci95=(ends[0], ends[1]) if ends else None,
        fit=None,
    )


def _below(gaps: F64, shares: bool, seed: int) -> bool:
    """Say whether the mean of paired differences is below 0 by its interval."""
    kind = decisive_kind(gaps, shares=shares)
    return side_of_zero(gap_interval(gaps, kind, shares=shares, seed=seed)) < 0


def _sees(prediction: Prediction, shares: bool, seed: int) -> bool:
    """Say whether a prediction knows something of the sample it is for."""
    if prediction.shuffled is None:
        return False
    return _below(prediction.per_sample - prediction.shuffled, shares, seed)


def _word(
    best: Prediction,
    predictions: Sequence[Prediction],
    descriptor: Descriptor,
    blind: float | None,
    seed: int,
) -> Motion:
    if blind is None or len(best.per_sample) < 2:
        return "cannot be told"
    shares = descriptor.view == "classes"
    if not _sees(best, shares, seed):
        # Another one sees something, and yet is not better than this one by the interval.
        others = any(_sees(p, shares, seed) for p in predictions)
        return "cannot be told" if others else "does not move along"
    if best.value - descriptor.perfect > HARDLY * (blind - descriptor.perfect):
        return "hardly moves along"
    return _MOTIONS[best.kind]


def motion_sentence(motions: Sequence[LayerMotion]) -> str:
    """Say in one sentence what layers do, by one measure.

    Parameters
    ----------
    motions : sequence of LayerMotion
        Of one measure, at least one.

    Returns
    -------
    str
        Such as ``conv1 moves along; conv2 and conv3 mix along (orthogonal).``
    """
    parts = []
    for motion in get_args(Motion):
        layers = [m for m in motions if m.motion == motion]
        parts += [_part(motion, layers)] if layers else []
    return f"{'; '.join(parts)}."


def _part(motion: Motion, layers: Sequence[LayerMotion]) -> str:
    names, one = _named([m.layer for m in layers]), len(layers) == 1
    best = " and ".join(k for k in _KINDS if k in {m.best.kind for m in layers})
    free = {m.freest.kind for m in layers}
    freest = _ANY[next(k for k in reversed(_KINDS) if k in free)]
    samples = min(m.freest.fit["samples"] for m in layers if m.freest.fit)
    tried = f"{freest} of channels fitted to {samples} samples"
    return {
        "moves along": f"{names} move{'s' * one} along, each channel in its place",
        "channels are permuted": f"{names} move{'s' * one} along with channels permuted",
        "mixes along": f"{names} mix{'es' * one} along: {best} maps of channels predict best",
        "hardly moves along": f"{names} hardly move{'s' * one} along, by any {tried}",
        "does not move along": f"{names} do{'es' * one} not move along by any {tried}",
        "cannot be told": f"{names} cannot be judged from these samples",
    }[motion]


def _named(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def fitted_motion(result: Result) -> Iterator[Finding]:
    """Find what fitted layers do, by the first measure that tells it."""
    motions = layer_motions([result])
    if not motions:
        return
    shown = [m for m in motions if m.measure == motions[0].measure]
    unsure = all(m.motion == "cannot be told" for m in shown)
    yield Finding(
        MOTION,
        "caution" if unsure else "likely",
        motion_sentence(shown),
        f"By {shown[0].measure}: " + "; ".join(map(_evidence, shown[:4])) + ".",
        HONEST,
        tuple(m.layer for m in shown),
    )


def _evidence(m: LayerMotion) -> str:
    values = ", ".join(f"{p.kind} {span(m.told(p.value))}" for p in m.predictions)
    null = "" if m.null is None else f", shuffled {span(m.told(m.null))}"
    return f"{m.layer} {values}{null}"
