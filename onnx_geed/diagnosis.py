"""What a result shows, in words, each with its evidence and only where the evidence is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnx_geed.graph import Model
from onnx_geed.offcentre import Between, between, off_centre
from onnx_geed.reading import Reading, angle, read_record, span

__all__ = ["Finding", "diagnose", "diagnosis_line", "model_of"]

Weight = Literal["likely", "caution", "possible"]

# A cosine within this of 1 counts as kept, beyond the second as lost; rounding leaves 1e-6.
_KEPT, _LOST = 0.002, 0.01
# Below these distances from the perfect value there is nothing to explain.
_FLOOR = {"channel-cos": 0.01, "latent-l2": 0.02, "latent-cos": 0.002, "softmax-kl": 1e-3}
# The exact elements do well where they leave less than this share of the whole deviation.
_SHARE = 0.1
# Latents of different samples with a mean cosine above this are nearly parallel.
_PARALLEL = 0.95
# What insensitive outputs look like: predictions that stay, latents that do not.
_STAYS, _MOVES, _SAME = 0.01, 0.1, 0.99
# Predictions of different samples nearer than this (nats) hardly tell them apart.
_CONSTANT = 0.1
# A group that moves predictions by less than this share of what samples do is a true invariance.
_RATIO = 0.01
# Models larger than this are not read again for a line of diagnosis.
_LARGE = 256 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that a result shows.

    Parameters
    ----------
    name : str
        What it is called, such as ``interpolation``.
    weight : {"likely", "caution", "possible"}
        Whether it explains values, warns of reading them, or may add to them.
    text : str
        One sentence.
    evidence : str
        The numbers behind it.
    advice : str
        What to do.
    layers : tuple of str
        Where.
    """

    name: str
    weight: Weight
    text: str
    evidence: str
    advice: str = ""
    layers: tuple[str, ...] = ()


def diagnose(made: Mapping[str, Any], model: Model | None = None) -> tuple[Finding, ...]:
    """Say what a result shows.

    Parameters
    ----------
    made : mapping
        A result.
    model : Model, optional
        Its model, for evidence from the graph.

    Returns
    -------
    tuple of Finding
        The likely ones first; empty where nothing is to be said.
    """
    pairs = [(record, read_record(record)) for record in made["measurements"]]
    found = [
        *_break(made, pairs, model),
        *_some_elements(made, pairs),
        *_resampled(pairs),
        *_insensitive(made, pairs),
        *_silent(pairs),
        *_normaliser(pairs),
        *_few(made, pairs),
    ]
    order = ("likely", "caution", "possible")
    return tuple(sorted(found, key=lambda f: order.index(f.weight)))


def diagnosis_line(made: Mapping[str, Any], model: Model | None = None) -> str:
    """Return the weightiest finding on one line, for a terminal.

    Parameters
    ----------
    made : mapping
        A result.
    model : Model, optional
        Its model.

    Returns
    -------
    str
        Empty where nothing is likely, and nothing warns.
    """
    found = [f for f in diagnose(made, model) if f.weight != "possible"]
    if not found:
        return ""
    more = f" ({len(found) - 1} more: onnx-geed report)" if len(found) > 1 else ""
    return f"diagnosis: {found[0].text}{more}"


def model_of(made: Mapping[str, Any]) -> Model | None:
    """Return the model of a result where it still lies where it was, and is the same.

    Parameters
    ----------
    made : mapping
        A result.

    Returns
    -------
    Model or None
        Models of more than 256 MiB are not read again.
    """
    from pathlib import Path

    from onnx_geed.errors import GeedError
    from onnx_geed.graph import load_model

    path = Path(made["model"]["path"])
    try:
        if not path.is_file() or path.stat().st_size > _LARGE:
            return None
        model = load_model(path)
    except (GeedError, OSError):
        return None
    return model if model.sha256 == made["model"]["sha256"] else None


Pairs = Sequence[tuple[Mapping[str, Any], Reading]]


def _exactly(made: Mapping[str, Any], read: Reading) -> float | None:
    """Distance from perfect over the exact elements alone; none where there are none."""
    if read.exact is not None:
        return read.exact - read.perfect
    return read.away if all(made["group"]["exact"]) else None


def _break(made: Mapping[str, Any], pairs: Pairs, model: Model | None) -> Iterator[Finding]:
    """Find the first layer where exact elements stop moving the maps along."""
    maps = [
        (read, away)
        for _, read in pairs
        if read.measure == "channel-cos" and (away := _exactly(made, read)) is not None
    ]
    if not maps or max(away for _, away in maps) < _LOST:
        return
    group = made["group"]["name"]
    first = next(i for i, (_, away) in enumerate(maps) if away > _KEPT)
    before, (read, away) = maps[:first], maps[first]
    if away < _LOST:
        return  # it fades away: no layer is to blame
    path: Between | None = None
    if model is not None:
        path = between(model, before[-1][0].layer if before else None, read.layer)
    faults = off_centre(model, group) if model is not None else []
    here = [f for f in faults if path and f.node in path.names]
    if not before:
        if here and away >= _LOST:
            yield Finding(
                "off-centre stride",
                "possible",
                f"{here[0].text[0].upper()}{here[0].text[1:]} before {read.layer}, the first layer "
                "measured.",
                f"There the exact elements reach cosine {span(1 - away)}.",
                here[0].advice,
                (read.layer,),
            )
        return
    kept = before[-1][0].layer
    evidence = (
        f"Over the exact elements the cosine is {span(1 - before[-1][1])} in {kept} and "
        f"{span(1 - away)} in {read.layer}"
    )
    if path and path.names:
        evidence += f"; between them: {path.text}"
    if here:
        yield Finding(
            "off-centre stride",
            "likely",
            f"Equivariance is lost in {here[0].label}: {here[0].text}.",
            evidence + ".",
            here[0].advice,
            (read.layer,),
        )
        return
    yield Finding(
        "first break",
        "likely",
        f"Equivariance is lost between {kept} and {read.layer}.",
        evidence + ".",
        "Look at the weights and the padding of what lies between them.",
        (read.layer,),
    )


def _some_elements(made: Mapping[str, Any], pairs: Pairs) -> Iterator[Finding]:
    """Find exact elements that are kept while others are lost, under a faithful action."""
    group, elements = made["group"]["name"], made["group"]["elements"]
    exact = [g for g, is_exact in enumerate(made["group"]["exact"]) if is_exact and g]
    found = []
    for _, read in pairs:
        if read.measure != "channel-cos":
            continue
        away = read.per_element - read.perfect
        kept = [g for g in exact if away[g] <= _KEPT]
        lost = [g for g in exact if away[g] >= _LOST]
        if kept and lost and len(kept) + len(lost) == len(exact):
            found.append((read, kept, lost, float(away[lost].mean())))
    if not found:
        return
    read, kept, lost, away_lost = found[0]
    layers = tuple(r.layer for r, *_ in found)

    def said(members: Sequence[int]) -> str:
        names = [angle(group, elements[g]) for g in members[:4]]
        return ", ".join(names) + (f" and {len(members) - 4} more" if len(members) > 4 else "")

    yield Finding(
        "some elements",
        "likely",
        f"{read.layer} keeps {said(kept)}, but not {said(lost)}.",
        f"Cosine {span(1 - float((read.per_element[kept] - read.perfect).max()))} or more against "
        f"{span(1 - away_lost)}, in {len(layers)} layer{'s' * (len(layers) > 1)}.",
        "The network has the smaller symmetry; measure it under that group.",
        layers,
    )


def _resampled(pairs: Pairs) -> Iterator[Finding]:
    """Find values to which only resampled elements add; references say why."""
    found = [
        read
        for _, read in pairs
        if read.exact is not None
        and read.away >= _FLOOR.get(read.measure, math.inf)
        and read.exact - read.perfect <= min(_SHARE * read.away, _LOST)
    ]
    if not found:
        return
    read = found[-1]
    layers = tuple(r.layer for r in found)
    evidence = (
        f"In {read.measure}@{read.layer} the exact elements are "
        f"{span(max(0.0, (read.exact or 0.0) - read.perfect))} from perfect, all elements "
        f"{span(read.away)} ({len(found)} of {len(pairs)} values)"
    )
    trips = {name: value - read.perfect for name, value in read.trips.items()}
    if not trips:
        yield Finding(
            "resampled elements",
            "likely",
            "Only resampled rotations deviate: interpolation, or a network that knows quarter "
            "turns only.",
            evidence + ".",
            "--references tells the two apart.",
            layers,
        )
        return
    name, away = max(trips.items(), key=lambda item: item[1])
    evidence += f"; the {name.replace('_', ' ')} alone {span(away)}"
    if away >= 0.5 * read.away:
        yield Finding(
            "interpolation",
            "likely",
            "Interpolation dominates: only resampled rotations deviate, and resampling alone "
            "deviates as much.",
            evidence + ".",
            "Judge the network by the exact part; a larger input or --support disk softens it.",
            layers,
        )
    elif away <= 0.2 * read.away:
        yield Finding(
            "quarter turns only",
            "likely",
            "The network keeps the exact elements only: resampling does not explain the rest.",
            evidence + ".",
            "",
            layers,
        )


def _insensitive(made: Mapping[str, Any], pairs: Pairs) -> Iterator[Finding]:
    """Find predictions that stay because nothing moves them."""
    by_measure = {read.measure: (record, read) for record, read in pairs}
    if "softmax-kl" not in by_measure or made["group"]["order"] < 2:
        return
    record, read = by_measure["softmax-kl"]
    text = "Predictions look invariant because they hardly react to the input at all."
    advice = "Check the preprocessing; compare with a model known to tell the samples apart."
    other = ((record.get("references") or {}).get("between_samples") or {}).get("value")
    if other is not None:
        stays = read.value <= _STAYS * math.log(made["group"]["order"])
        if stays and other < _CONSTANT and read.value >= _RATIO * other:
            yield Finding(
                "insensitive",
                "likely",
                text,
                f"Under the group they move by {span(read.value)} nats, and from sample to sample "
                f"by only {span(other)}.",
                advice,
                (read.layer,),
            )
        return
    if "latent-l2" not in by_measure or "latent-cos" not in by_measure:
        return
    latent, cosine = by_measure["latent-l2"][1], by_measure["latent-cos"][0]["normaliser"]
    if (
        read.value <= _STAYS * math.log(made["group"]["order"])
        and latent.normalised
        and latent.value >= _MOVES
        and cosine is not None
        and cosine >= _SAME
    ):
        yield Finding(
            "insensitive",
            "likely",
            text,
            f"They move by {span(read.value)} nats while an orbit's latents spread "
            f"{span(latent.value)} times as far as different samples are apart; latents of "
            f"different samples have a mean cosine of {span(cosine)}.",
            advice,
            (read.layer, latent.layer),
        )


def _silent(pairs: Pairs) -> Iterator[Finding]:
    """Find channels that are zero in both maps, and count as perfect."""
    found = []
    for record, read in pairs:
        share = record["zero_pairs"]
        if read.measure == "channel-cos" and 0.05 <= share < 1:
            live = (read.value + share) / (1 - share)
            if live - read.value >= 0.02:
                found.append((read, share, live))
    if not found:
        return
    read, share, live = max(found, key=lambda f: f[2] - f[0].value)
    yield Finding(
        "silent channels",
        "caution",
        f"Silent channels flatter {len(found)} layer{'s' * (len(found) > 1)}: two zero maps count "
        "as alike.",
        f"In {read.layer}, {100 * share:.0f} % of the pairs are zero on both sides; the others "
        f"alone have cosine {span(-live)}, not {span(-read.value)}.",
        "",
        tuple(r.layer for r, *_ in found),
    )


def _normaliser(pairs: Pairs) -> Iterator[Finding]:
    """Find an M that is no good to divide by."""
    for record, read in pairs:
        m = record["normaliser"]
        if not read.measure.startswith("latent"):
            continue
        if record["value"] is None or (read.measure == "latent-cos" and m < 0.05):
            what = "missing" if m is None else f"{m:.3g}"
            yield Finding(
                "M ill-conditioned",
                "caution",
                f"{read.measure} cannot be normalised well: M is {what}.",
                f"Unnormalised, the value is {span(float(record['unnormalised']))}"
                + (f", over {record['norm_samples']} points" if record["norm_samples"] else "")
                + ".",
                "Read the unnormalised value.",
                (read.layer,),
            )
        elif read.measure == "latent-cos" and m >= _PARALLEL:
            yield Finding(
                "parallel latents",
                "caution",
                "Latents of different samples are nearly parallel, so latent-cos tells little.",
                f"Their mean cosine is M = {span(m)}.",
                "Read latent-l2 instead.",
                (read.layer,),
            )


def _few(made: Mapping[str, Any], pairs: Pairs) -> Iterator[Finding]:
    """Find intervals that are wide against what they are about."""
    wide, carried = [], []
    for _, read in pairs:
        n = len(read.per_sample)
        if n < 2:
            yield Finding(
                "too few samples",
                "caution",
                "One sample gives no interval.",
                f"{read.measure}@{read.layer} was measured on it alone.",
                "Raise --samples.",
                (read.layer,),
            )
            return
        if read.ci95 is None or read.away < _FLOOR.get(read.measure, 0.0):
            continue
        half = (read.ci95[1] - read.ci95[0]) / 2
        if half > 0.5 * read.away:
            wide.append((half / read.away, half, read))
        away = np.sort(read.per_sample - read.perfect)[::-1]
        top = max(1, n // 20)
        if n >= 20 and away[:top].sum() > 0.5 * away.sum():
            carried.append((top, int(np.argmax(read.per_sample)), read))
    if wide:
        ratio, half, read = max(wide, key=lambda w: w[0])
        n = len(read.per_sample)
        yield Finding(
            "too few samples",
            "caution",
            f"{n} samples are few for {read.measure}@{read.layer}: ±{span(half)} on "
            f"{span(read.away)}.",
            f"That is {100 * ratio:.0f} % of the distance from perfect; about "
            f"{math.ceil(n * (ratio / 0.2) ** 2 / 10) * 10} samples would bring it to 20 %.",
            "Raise --samples; --interval bootstrap suits skewed values.",
            tuple(dict.fromkeys(r.layer for *_, r in wide)),
        )
    elif carried:
        top, worst, read = carried[0]
        yield Finding(
            "few samples carry it",
            "caution",
            f"{top} of {len(read.per_sample)} samples carry more than half of "
            f"{read.measure}@{read.layer}.",
            f"The worst is sample {made['data']['indices'][worst]}, with "
            f"{span(float(read.per_sample[worst]))} against a median of "
            f"{span(float(np.median(read.per_sample)))}.",
            "Look at those samples.",
            (read.layer,),
        )
