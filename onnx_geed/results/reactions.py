"""Findings about what a network reacts to: the group, the samples, its own training."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx_geed.results.families import is_family
from onnx_geed.results.findings import ROUNDED, Finding, RecordReadings
from onnx_geed.results.kinds_of_data import is_map
from onnx_geed.results.reading import HARDLY, Reading
from onnx_geed.results.schema import Result
from onnx_geed.text import span

__all__ = ["alike_maps", "hardly_reacting", "insensitive_model", "not_learned"]

# What insensitive outputs look like: predictions that stay, latents that do not.
_STAYS, _MOVES, _SAME = 0.01, 0.1, 0.99


# Predictions of different samples nearer than these (nats) hardly tell them apart, or not at all.
_CONSTANT, _DEAD = 0.1, 1e-3


# Cosines between samples of this share of those within an orbit are hardly less.
_LIKE = 0.9


# Cosines from this on look like something; below it nobody would take them for equivariance.
_HIGH = 0.2


# A group that moves predictions by less than these shares of what samples do is a true invariance:
# of predictions that hardly differ, and of those that do not at all.
_RATIO, _DEAD_RATIO = 0.2, 0.01


# A network is no better than untrained where it leaves this share of the untrained one's deviation.
_ALIKE = 0.95


def insensitive_model(result: Result, pairs: RecordReadings) -> Iterator[Finding]:
    """Find predictions that stay because nothing moves them."""
    order = result["group"]["order"]
    reading = next((reading for _, reading in reversed(pairs) if _is_divergence(reading)), None)
    if reading is None or order < 2:
        return
    least = _STAYS * reading.descriptor.worst_value(order, trivial=True)
    kind = "family" if is_family(result["group"]) else "group"
    text = "Predictions look invariant because they hardly react to the input at all."
    advice = "Check the preprocessing; compare with a model known to tell the samples apart."
    other = reading.between
    if other is not None:
        stays = reading.value <= least
        ratio = math.inf if reading.relative is None else reading.relative
        dead = other < _DEAD and ratio >= _DEAD_RATIO
        if stays and (dead or (other < _CONSTANT and ratio >= _RATIO)):
            yield Finding(
                "insensitive",
                "likely",
                text if dead else text.replace(" at all", ""),
                f"Under the {kind} they move by {span(reading.value)} nats, and from sample to "
                f"sample by only {span(other)}.",
                advice,
                (reading.layer,),
            )
        return
    latents = [
        (record, reading)
        for record, reading in reversed(pairs)
        if reading.descriptor.view == "points" and reading.descriptor.normalised
    ]
    latent = next((reading for _, reading in latents if not reading.descriptor.similarity), None)
    cosine = next(
        (r["normaliser"] for r, reading in latents if reading.descriptor.similarity), None
    )
    if (
        latent is not None
        and reading.value <= least
        and latent.normalised
        and latent.value >= _MOVES
        and cosine is not None
        and cosine >= _SAME
    ):
        yield Finding(
            "insensitive",
            "possible",
            "Predictions may look invariant because they hardly react to the input.",
            f"They move by {span(reading.value)} nats while an orbit's latents spread "
            f"{span(latent.value)} times as far as different samples are apart; latents of "
            f"different samples have a mean cosine of {span(cosine)}.",
            advice,
            (reading.layer, latent.layer),
        )


def _is_divergence(reading: Reading) -> bool:
    """Say whether a reading tells how far predictions are apart, in nats, as the thresholds are."""
    return reading.descriptor.view == "scores" and reading.descriptor.unit == "nats"


def alike_maps(pairs: RecordReadings, within: str = "an orbit") -> Iterator[Finding]:
    """Find maps that different samples share as much as the members of an orbit do, or a family."""
    readings, of_maps = [], True
    for record, reading in pairs:
        if (
            not reading.descriptor.cosine_of_maps
            or reading.relative is None
            or -reading.value < _HIGH
        ):
            continue
        ends, other = reading.relative_ci95, reading.told(reading.between or 0.0)
        # Both have to say so: 0.2 against 0 is far from perfect, and yet not the same.
        if (ends[0] if ends else reading.relative) >= HARDLY and other >= _LIKE * -reading.value:
            readings.append(reading)
            of_maps = of_maps and is_map(record["layout"])
    if not readings:
        return
    reading = max(readings, key=lambda r: r.relative or 0.0)
    other = reading.told(reading.between or 0.0)
    yield Finding(
        "alike whatever is shown",
        "caution",
        f"{'Maps' if of_maps else 'Tensors'} are hardly more alike within {within} than between "
        f"different samples, in {len(readings)} layer{'s' * (len(readings) > 1)}.",
        f"In {reading.layer} the cosine is {span(-reading.value)} within {within} and "
        f"{span(other)} between different samples.",
        "Such a cosine does not show equivariance; judge by relative values.",
        tuple(r.layer for r in readings),
    )


def hardly_reacting(pairs: RecordReadings) -> Iterator[Finding]:
    """Find tensors that are all but the same for every sample."""
    readings = [reading for _, reading in pairs if reading.hardly_reacts]
    if not readings:
        return
    reading = readings[-1]
    layers = tuple(dict.fromkeys(r.layer for r in readings))
    yield Finding(
        "hardly reacts",
        "caution",
        f"{reading.layer}{_reacting(len(layers))}, so {'it' if len(layers) == 1 else 'they'} "
        "cannot be judged.",
        f"Two different samples are only "
        f"{span(max(0.0, (reading.between or 0.0) - reading.perfect))} from perfect by "
        f"{reading.measure}, so the moved sample's {span(max(0.0, reading.away))} says little.",
        "Check the preprocessing and the weights.",
        layers,
    )


def _reacting(count: int) -> str:
    if count < 2:
        return " hardly reacts to the input"
    return f" and {count - 1} other tensor{'s' * (count > 2)} hardly react to the input"


def not_learned(result: Result, pairs: RecordReadings) -> Iterator[Finding]:
    """Find values that the same network untrained has too."""
    as_untrained, asked = [], 0
    for record, reading in pairs:
        entry = (record.get("references") or {}).get("untrained")
        if entry is None or reading.untrained is None or reading.away <= ROUNDED:
            continue  # what is perfect cannot come nearer to it
        asked += 1
        # An untrained network reacts to little: what counts is relative to that, where known.
        bare = reading.untrained - reading.perfect
        own, other, how = reading.away, bare, "from perfect"
        relative = entry.get("relative")
        if reading.relative is not None and relative is not None:
            own, other = reading.relative, float(relative)
            how = "from perfect, relative to the difference between samples"
        if own >= _ALIKE * other:
            as_untrained.append((reading, own, other, how))
        if not _is_divergence(reading) or reading.away < _ALIKE * bare:
            continue
        order = max(result["group"]["order"], 2)
        if reading.value <= _STAYS * reading.descriptor.worst_value(order, trivial=True):
            yield Finding(
                "invariant untrained",
                "likely",
                "Predictions look invariant, but those of the same network untrained do as well.",
                f"They are {span(reading.away)} nats from perfect, untrained {span(bare)}.",
                "Compare relative values, which are shares of the difference between samples.",
                (reading.layer,),
            )
    if not as_untrained:
        return
    reading, own, other, how = max(as_untrained, key=lambda entry: entry[1] - entry[2])
    yield Finding(
        "not learned",
        "caution",
        f"{len(as_untrained)} of {asked} values are hardly nearer to perfect than in the same "
        "network untrained.",
        f"{reading.measure}@{reading.layer} is {span(own)} {how}, untrained {span(other)}.",
        "What is equivariant there comes from the architecture and the data, not from training.",
        tuple(dict.fromkeys(r.layer for r, *_ in as_untrained)),
    )
