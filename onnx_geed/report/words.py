"""The meaning of records in words: sentences and grades."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.groups import parse_group, turns_of
from onnx_geed.measures import descriptor_of
from onnx_geed.results import (
    HARDLY,
    ROUNDED,
    GroupPart,
    Reading,
    Record,
    Result,
    element_words,
    is_family,
    is_map,
    mean_interval,
    read_record,
)
from onnx_geed.text import interval, number, span

__all__ = [
    "foreground_words",
    "grade",
    "is_sampled",
    "meaning",
    "overlap_words",
    "percent",
    "samples_called",
    "summary",
    "title",
    "worst_noun",
]

# Exact elements that deviate by so much of the whole show that interpolation is not the cause.
_OWN = 0.6


# No element stands out whose deviation differs by less, as a share of what samples differ by.
_DIFFER = 0.02


# Up to which share of the way to different samples a tensor is said to do what.
_GRADES = (
    (ROUNDED, "equivariant within rounding", "invariant within rounding"),
    (0.05, "close to equivariant", "close to invariant"),
    (0.2, "mostly moving along", "mostly invariant"),
    (0.5, "moving along in part", "invariant in part"),
    (HARDLY, "moving along a little", "a little invariant"),
    (math.inf, "hardly moving along", "hardly invariant"),
)


def summary(result: Result, readings: Sequence[Reading]) -> list[str]:
    """Return sentences, every number and direction of which is read from the result."""
    group, family = result["group"], is_family(result["group"])
    sentences = []
    maps = [r for r in readings if r.descriptor.cosine_of_maps]
    if len(maps) > 1:
        layouts = [m["layout"] for m in result["measurements"] if m["measure"] == maps[0].measure]
        input = result["data"].get("layout", "NCHW")
        moved = "image" if is_map(input) and not {*"DTX"} & {*input} else "input"
        does = "changing" if family else "moving"
        name = title(maps[0].measure, layouts)
        sentences.append(_depth(maps, f"{name}: {does} the {moved}", family=family))
    for record, r in zip(result["measurements"], readings, strict=True):
        if not r.descriptor.cosine_of_maps or len(maps) == 1:
            name = title(r.measure, [record["layout"]])
            sentences.append(
                f"{name} ({r.layer}): {meaning(record, group['order'], of_family=family)}"
            )
    tripped = [r for r in (maps or readings) if r.trips]
    if tripped and not all(result["group"]["exact"]):
        sentences.append(_resampling(tripped[-1]))
    ranked = maps[-1] if maps else readings[-1]
    if group["order"] > 2 and not np.allclose(ranked.per_element, ranked.perfect, atol=ROUNDED):
        sentences.append(_elements(ranked, group))
    return sentences


def _resampling(reading: Reading) -> str:
    """Say how much of a value resampling alone could bring about."""
    name, value = max(reading.trips.items(), key=lambda item: item[1])
    away, unit = value - reading.perfect, reading.unit
    text = (
        f"Resampling alone ({name.replace('_', ' ')}) gives {span(value)} {unit} in {reading.layer}"
    )
    if reading.similarity:
        text = f"Resampling alone ({name.replace('_', ' ')}) leaves cosine {span(-value)} in "
        text += reading.layer
    if reading.away < 1e-6:
        return text + "."
    if reading.exact is not None and reading.exact - reading.perfect >= _OWN * reading.away:
        own = span(reading.told(reading.exact))
        return (
            f"{text}; but the exact elements, which are not resampled, have {own}: most of the "
            "deviation is the network's own."
        )
    if away < 0.3 * reading.away:
        return text + ", so interpolation explains little of the deviation."
    return text + ", so interpolation may explain much of the deviation."


def title(measure: str, layouts: Sequence[str]) -> str:
    """Return what a measure is of: maps where its tensors are maps.

    Parameters
    ----------
    measure : str
        The measure.
    layouts : sequence of str
        Those of its tensors.

    Returns
    -------
    str
    """
    descriptor = descriptor_of(measure)
    if descriptor.cosine_of_maps and not all(map(is_map, layouts)):
        return "Hidden tensors"
    return descriptor.title


def _depth(maps: Sequence[Reading], moving: str, *, family: bool) -> str:
    first, last = maps[0], maps[-1]
    worst = max(maps, key=lambda r: r.value)
    stay = all(r.output_action == "trivial" for r in maps)
    does = "leaves them as they are, with" if stay else "moves them along with"
    text = (
        f"{moving} {does} cosine {span(-first.value)} in "
        f"{first.layer} and {span(-last.value)} in {last.layer}"
    )
    if worst is not first and worst is not last:
        text += f"; least in {worst.layer}, {span(-worst.value)}"
    text += ". 1 would be perfect"
    # Maps of different samples are alike to a degree, which depends on the kind of layer.
    related = all(r.relative is not None for r in maps)
    steps = [(b.share(b.value) - a.share(a.value), a, b) for a, b in itertools.pairwise(maps)]
    rise, before, after = max(steps, key=lambda s: s[0])
    if before is not after and rise > 0.02:
        text += f". The largest loss lies between {before.layer} and {after.layer} ("
        text += (
            f"{span(rise)} of what different samples differ by)" if related else f"{span(rise)})"
        )
    return f"{text}. {_grades_at_both_ends(maps, family=family)}."


def _grades_at_both_ends(maps: Sequence[Reading], *, family: bool) -> str:
    """Say in the words of grades how the first and the last map move along."""
    first, last = (grade(reading, of_family=family) for reading in (maps[0], maps[-1]))
    if first == last:
        return f"Both ends are {first}"
    return f"The first is {first}, the last {last}"


def _elements(reading: Reading, group: GroupPart) -> str:
    elements, noun = group["elements"], "member" if is_family(group) else "element"
    values = reading.per_element[1:]
    worst, best = int(values.argmax()) + 1, int(values.argmin()) + 1
    ends = [span(reading.told(float(v))) for v in (values.max(), values.min())]
    gaps = reading.deviations[:, worst] - reading.deviations[:, best]
    sure = mean_interval(gaps)
    spread = reading.share(float(values.max())) - reading.share(float(values.min()))
    if spread < _DIFFER or sure is None or sure[0] <= 0:
        between = f"({reading.told_unit} {ends[0]} to {ends[1]})"
        return f"In {reading.layer}, no {noun} but the identity stands out {between}."
    return (
        f"In {reading.layer}, {element_words(group, elements[worst])} is the hardest {noun} and "
        f"{element_words(group, elements[best])} the easiest ({reading.told_unit} {ends[0]} and "
        f"{ends[1]})."
    )


def worst_noun(group: GroupPart) -> str:
    """Return what one of the elements is called where the worst of them is told."""
    turns = turns_of(group["name"])
    if (turns is not None and not turns.mirrored) or group.get("parameter") == "angle":
        return "angle"
    return "member" if is_family(group) else "element"


def grade(reading: Reading, *, of_family: bool = False) -> str:
    """Return the word for how equivariant a tensor is; the only place that has such words.

    Parameters
    ----------
    reading : Reading
        The reading.
    of_family : bool
        Whether f(gx) was held against f(x) itself, of which no divergence has a bound.

    Returns
    -------
    str
        By ``relative``; where that is not known by the cosine of maps, else empty. Divergence from
        an orbit's mean is bounded, by ln abs(G), that of another sample is not: what has such a
        bound is graded by the larger of both shares.
    """
    if reading.hardly_reacts:
        return "hardly reacting to the input, so that nothing can be told"
    if reading.relative is None and not reading.descriptor.cosine_of_maps:
        return ""
    share = reading.share(reading.value)
    order, trivial = reading.deviations.shape[1], reading.output_action == "trivial"
    bounded = trivial and not of_family and order > 1
    if reading.descriptor.worst_invariance is not None and bounded:
        share = max(share, reading.value / reading.descriptor.worst_invariance(order))
    return next(words[trivial] for most, *words in _GRADES if share <= most)


_FITTED = {
    "permutation": "permutation of channels",
    "orthogonal": "rotation of channels",
    "linear": "linear map of channels",
}


def meaning(record: Record, order: int, *, of_family: bool = False) -> str:
    """Say in words what a record's value means.

    Parameters
    ----------
    record : dict
        The record.
    order : int
        Order of the group.
    of_family : bool
        Whether it is none, but a family.

    Returns
    -------
    str
        One sentence.
    """
    reading = read_record(record)
    fit = record.get("fit")
    # What a fitted value is worth, its own section says, beside its shuffled null.
    word = "" if fit else grade(reading, of_family=of_family)
    noun = "map" if is_map(record["layout"]) else "tensor"
    common = record.get("most_common")
    beside = "" if common is None else f"; the most common class has {percent(common)} of them"
    of_places = "".join(
        f"; {text}" for text in (foreground_words(record), overlap_words(record)) if text
    )
    how = f"f(x) moved by a fitted {_FITTED[fit['kind']]}" if fit else ""
    sentence = _sentence(reading, order, noun, how, of_family=of_family)
    value = f"{sentence}{_gain(record)}{beside}"
    return f"{value}{f': {word}' if word else ''}{of_places}."


def foreground_words(record: Record) -> str:
    """Say what a measure is over the places that are no background, where that is known."""
    part = record.get("foreground")
    if part is None:
        return ""
    whose = "by labels, " if part["by"] == "labels" else ""
    others = (
        f"without class {part['background']} ({whose}{percent(part['share'])} of places are left)"
    )
    if part["value"] is None:
        return f"{others} no sample has any"
    few = f" in the {part['samples']} samples that have any" * (part["samples"] < record["samples"])
    half = "" if part["ci95"] is None else f" ({interval(part['ci95'])})"
    return f"{others} {number(part['value'])}{half}{few}"


def overlap_words(record: Record) -> str:
    """Say how much the classes of moved samples overlap with those of unmoved ones, and labels."""
    part = record.get("miou")
    if part is None or part["value"] is None:
        return ""
    text = f"mIoU of moved with unmoved {number(part['value'])}"
    labels = part["labels"]
    if labels is None or labels["value"] is None or labels["unmoved"] is None:
        return text
    unmoved, moved = number(labels["unmoved"]), number(labels["value"])
    return f"{text}, with labels {unmoved} unmoved and {moved} moved"


def _gain(record: Record) -> str:
    """Say how much more a latent moves than the pixels did, where that is known."""
    part = record.get("gain")
    if not part or part["value"] is None:
        return ""
    return f"; it moves {span(part['value'])} times as far as the pixels did, by the same scale"


def _sentence(reading: Reading, order: int, noun: str, how: str, *, of_family: bool) -> str:
    scale = [] if reading.between is None else [f"another sample in its place {_between(reading)}"]
    if reading.descriptor.of_error and reading.normaliser:
        scale.append(f"mean error {span(reading.normaliser)}")
    beside = f"({', '.join([*scale, f'perfect {reading.told(reading.perfect):g}'])})"
    trivial = reading.output_action == "trivial"
    target = "f(x) itself" if of_family else "the mean of its orbit"
    target = how or (target if trivial else "the moved f(x)")
    value, measure = span(reading.told(reading.value)), reading.descriptor
    if measure.normalised and not measure.perfect_over_m and not reading.normalised:
        template = ""  # tells of what M divides
    else:
        template = measure.sentence if trivial else measure.sentence_moved or measure.sentence
        template = (trivial and of_family and measure.sentence_of_family) or template
    if template:
        most = measure.worst_value(order, trivial=trivial and not of_family)
        share = percent(reading.value / most if most else 0.0)
        text = template.format(value=value, target=target, share=share, order=order, noun=noun)
        return f"{text} {beside}"
    if reading.in_tensor_units:
        return f"f(gx) lies {value} from {target}, in units of the tensor {beside}"
    return f"f(gx) deviates by {value} {reading.unit} from {target} {beside}"


def _between(reading: Reading) -> str:
    return span(reading.told(reading.between or 0.0))


def percent(share: float) -> str:
    """Return a share in per cent, finer where it is small."""
    if not share:
        return "0 %"
    if abs(share) < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def samples_called(result: Result) -> list[str]:
    """Return what the samples of D are called, in order: their files, or their positions.

    Parameters
    ----------
    result : dict
        The result.

    Returns
    -------
    list of str
        With labels, where there are any.
    """
    data = result["data"]
    names, labels = data["names"], data.get("labels")
    called = [names[k] if names else f"sample {i}" for k, i in enumerate(data["indices"])]
    return (
        called if not labels else [f"{n}, label {x}" for n, x in zip(called, labels, strict=False)]
    )


def is_sampled(group: str) -> bool:
    """Say whether a group moves each sample by an element of its own first.

    Parameters
    ----------
    group : str
        Its name.

    Returns
    -------
    bool
        False for a group of one's own.
    """
    try:
        return parse_group(group).behind is not None
    except GeedError:  # one's own group
        return False
