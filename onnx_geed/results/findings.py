"""Findings that records show by themselves, each with its evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnx_geed.results.kinds_of_data import is_map, moved_letters
from onnx_geed.results.reading import Reading
from onnx_geed.results.records import ILL_CONDITIONED
from onnx_geed.results.schema import ExactPart, Record, Result
from onnx_geed.text import span

__all__ = [
    "KEPT",
    "ROUNDED",
    "Finding",
    "RecordReadings",
    "few_samples",
    "ill_normalised",
    "noticeable",
    "odd_channels",
    "resampled_elements",
    "silent_channels",
]

Weight = Literal["likely", "caution", "possible"]


#: Deviations of less are rounding, which leaves 1e-6, or as good as that.
ROUNDED = 1e-4


#: A cosine within this of 1 counts as kept; where known, a share of what different samples differ
#: by.
KEPT = 0.002


# The exact elements are near perfect where they leave less than this, as a share of what different
# samples differ by.
_NEAR = 0.01


# Nothing is to be explained where less than this share of what different samples differ by is left.
_SHARE_FLOOR = 0.005


# The exact elements do well where they leave less than this share of the whole deviation.
_SHARE = 0.1


# Latents of different samples with a mean cosine above this are nearly parallel.
_PARALLEL = 0.95


# Largest cosine of a channel that does not move as it should.
_ODD = 0.5

# A channel's cosine with itself is 1 within this.
_ITSELF = 1e-6


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


#: Records, each with how it reads.
RecordReadings = Sequence[tuple[Record, Reading]]


def noticeable(reading: Reading) -> bool:
    """Tell whether a value is far enough from perfect to be explained.

    Parameters
    ----------
    reading : Reading
        The reading.

    Returns
    -------
    bool
        False for tensors that hardly react, from which nothing can be told.
    """
    floor = reading.descriptor.floor
    if reading.hardly_reacts or floor is None or reading.away < floor:
        return False
    return reading.relative is None or reading.relative >= _SHARE_FLOOR


def resampled_elements(result: Result, pairs: RecordReadings) -> Iterator[Finding]:
    """Find values to which only resampled elements add; references say why."""
    readings = [
        reading
        for record, reading in pairs
        # Without a table, elements deviate for want of it.
        if reading.exact is not None
        and "without_table" not in record
        and noticeable(reading)
        and reading.exact - reading.perfect <= _SHARE * reading.away
        and reading.share(reading.exact) <= _NEAR
    ]
    if not readings:
        return
    reading = readings[-1]
    layers = tuple(r.layer for r in readings)
    exact = max(0.0, (reading.exact or 0.0) - reading.perfect)
    evidence = (
        f"In {reading.measure}@{reading.layer} the exact elements are {span(exact)} from perfect, "
        f"all elements {span(reading.away)} ({len(readings)} of {len(pairs)} values)"
    )
    told = [r for _, r in pairs if r.exact is not None and noticeable(r)]
    # What holds of a few values is not said of the network.
    where = "" if len(readings) == len(told) else f"In {reading.measure}@{reading.layer} "
    if where and len(readings) > 1:
        where = f"In {len(readings)} of {len(told)} values "
    claim = "only resampled elements deviate"
    if exact > ROUNDED * reading.away and exact > ROUNDED:
        claim = "resampled elements deviate far more than exact ones"
    text = f"{where}{claim}" if where else f"{claim[0].upper()}{claim[1:]}"
    trips = {name: value - reading.perfect for name, value in reading.trips.items()}
    if not trips:
        yield Finding(
            "resampled elements",
            "likely",
            f"{text}: the cause is interpolation, or a network equivariant only under exact "
            "elements.",
            evidence + ".",
            "Measure with --references, which tells the two apart.",
            layers,
        )
        return
    name, away = max(trips.items(), key=lambda item: item[1])
    evidence += f"; the {name.replace('_', ' ')} alone {span(away)}"
    if away >= 0.5 * reading.away:
        # A volume has corners too, and no support that leaves them out.
        moved = moved_letters(result)
        disk = " or --support disk" * ("H" in moved and "D" not in moved)
        more = "as much" if away >= 0.9 * reading.away else "at least half as much"
        yield Finding(
            "interpolation",
            "likely",
            f"Interpolation may explain it: {text[0].lower()}{text[1:]}, and resampling alone "
            f"deviates {more}.",
            evidence + ".",
            f"Judge the network by the exact part; a larger input{disk} reduces the effect.",
            layers,
        )
    elif away <= 0.2 * reading.away:
        yield Finding(
            "quarter turns only",
            "likely",
            f"{text}, and resampling alone does not explain it: the network is equivariant only "
            "under exact elements.",
            evidence + ".",
            "",
            layers,
        )


def odd_channels(pairs: RecordReadings, is_exact: Sequence[bool]) -> Iterator[Finding]:
    """Find a few channels that do not move with the others, where these do as they should."""
    first = None
    for record, reading in pairs:
        part: Record | ExactPart | None = record if all(is_exact) else record["exact"]
        if not reading.descriptor.cosine_of_maps or part is None or not part.get("per_channel"):
            continue
        order = len(part["per_element"])
        cosines = -np.asarray(part["per_channel"])
        # Where f̂ is f, the identity compares a channel with itself.
        alone = abs(next(iter(part["per_element"].values())) + 1) < _ITSELF
        if alone:
            cosines = (order * cosines - 1) / (order - 1)
        if cosines.mean() >= 1 - KEPT:
            continue
        worst, middle = float(cosines.min()), float(np.median(cosines))
        # A channel that is compared with an odd one, by a channel table, is a little odd itself.
        odd = np.flatnonzero(cosines <= min(_ODD, worst + (middle - worst) / 4))
        if 0 < len(odd) <= len(cosines) / 4 and middle >= 1 - KEPT:
            first = reading, odd, cosines, alone
        break  # behind the first that is not as it should be, others follow
    if first is None:
        return
    reading, odd, cosines, alone = first
    one, negative = len(odd) == 1, bool((cosines[odd] <= -_ODD).all())
    names = ", ".join(map(str, odd[:8])) + (", ..." if len(odd) > 8 else "")
    text = f"In {reading.layer}, channel{'s' * (not one)} {names} (counted from 0) "
    if negative:
        text += "has the wrong sign" if one else "have the wrong sign"
    else:
        text += f"do{'es' * one} not move with the other{'s' * (len(cosines) > 2)}"
    yield Finding(
        "odd channels",
        "likely",
        text + ".",
        ("Away from the identity the" if alone else "The")
        + f" cosine is {span(float(cosines[odd].mean()))} there; the "
        f"median of the {len(cosines)} channels is {span(float(np.median(cosines)))}.",
        "Check the sign of the weights that produce it, then its row in the channel table.",
        (reading.layer,),
    )


def silent_channels(pairs: RecordReadings) -> Iterator[Finding]:
    """Find channels that are zero in both maps, and count as perfect."""
    spared = []
    for record, reading in pairs:
        share = record["zero_pairs"]
        if reading.descriptor.cosine_of_maps and 0.05 <= share < 1:
            live = (reading.value + share) / (1 - share)
            if live - reading.value >= 0.02:
                spared.append((reading, share, live, is_map(record["layout"])))
    if not spared:
        return
    reading, share, live, of_map = max(spared, key=lambda f: f[2] - f[0].value)
    things = "maps" if of_map else "channels"
    yield Finding(
        "silent channels",
        "caution",
        f"Dead channels make {len(spared)} layer{'s' * (len(spared) > 1)} look better: two zero "
        f"{things} count as equal.",
        f"In {reading.layer}, {100 * share:.0f} % of the pairs are zero on both sides; without "
        f"them the cosine is {span(-live)}, not {span(-reading.value)}.",
        "",
        tuple(r.layer for r, *_ in spared),
    )


def ill_normalised(pairs: RecordReadings) -> Iterator[Finding]:
    """Find an M that is no good to divide by."""
    for record, reading in pairs:
        m = record["normaliser"]
        if not reading.descriptor.normalised:
            continue
        cosine = reading.descriptor.similarity
        if m is None or record["value"] is None or (cosine and m < ILL_CONDITIONED):
            m_text = "missing" if m is None else f"{m:.3g}"
            yield Finding(
                "M ill-conditioned",
                "caution",
                f"{reading.measure} cannot be normalised well: M is {m_text}.",
                f"Unnormalised, the value is {span(reading.told(reading.value))}"
                + (f", over {record['norm_samples']} points" if record["norm_samples"] else "")
                + ".",
                "Read the relative or the unnormalised value.",
                (reading.layer,),
            )
        elif cosine and m >= _PARALLEL:
            yield Finding(
                "parallel latents",
                "caution",
                "Latents of different samples are nearly parallel: a cosine near 1 says little.",
                f"Their mean cosine is M = {span(m)}"
                + (
                    ""
                    if reading.relative is None
                    else f"; relative to that, the value is {span(reading.relative)}"
                )
                + ".",
                "Read latent-l2 or the relative value.",
                (reading.layer,),
            )


def few_samples(result: Result, pairs: RecordReadings) -> Iterator[Finding]:
    """Find intervals that are wide against what they are about."""
    wide, carried = [], []
    for _, reading in pairs:
        n = len(reading.per_sample)
        if n < 2:
            yield Finding(
                "too few samples",
                "caution",
                "One sample gives no interval.",
                f"{reading.measure}@{reading.layer} was measured on one sample.",
                "Raise --samples.",
                (reading.layer,),
            )
            return
        if reading.ci95 is None or not (noticeable(reading) or reading.descriptor.floor is None):
            continue
        if reading.relative is not None and reading.relative < _SHARE_FLOOR:
            continue
        half = (reading.ci95[1] - reading.ci95[0]) / 2
        if half > 0.5 * reading.away:
            wide.append((half / reading.away, reading))
        away = np.sort(reading.per_sample - reading.perfect)[::-1]
        top = max(1, n // 20)
        if n >= 20 and away[:top].sum() > 0.5 * away.sum():
            carried.append((top, int(np.argmax(reading.per_sample)), reading))
    if wide:
        ratio, reading = max(wide, key=lambda w: w[0])
        n = len(reading.per_sample)
        yield Finding(
            "too few samples",
            "caution",
            f"{n} samples are few for {reading.measure}@{reading.layer}: it is known to "
            f"±{100 * ratio:.0f} % of its distance from perfect.",
            f"About {math.ceil(n * (ratio / 0.2) ** 2 / 10) * 10} samples would bring that to "
            "20 %.",
            "Raise --samples; --interval bootstrap suits skewed values.",
            tuple(dict.fromkeys(r.layer for _, r in wide)),
        )
    elif carried:
        top, worst, reading = carried[0]
        yield Finding(
            "few samples carry it",
            "caution",
            f"{top} of {len(reading.per_sample)} samples account for more than half of "
            f"{reading.measure}@{reading.layer}.",
            f"The worst is sample {result['data']['indices'][worst]}, with "
            f"{span(reading.told(float(reading.per_sample[worst])))} against a median of "
            f"{span(reading.told(float(np.median(reading.per_sample))))}.",
            "Look at those samples.",
            (reading.layer,),
        )
