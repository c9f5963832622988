"""The meaning of records in words: sentences and grades."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_geed.measures import descriptor_of, told_ends
from onnx_geed.report.elements import at_elements, worst_noun
from onnx_geed.results import (
    HARDLY,
    ROUNDED,
    GroupPart,
    Reading,
    Record,
    Result,
    far_off,
    gap_interval,
    is_family,
    is_map,
    is_sampled,
    most_of_orbit,
    read_record,
    side_of_zero,
)
from onnx_geed.text import counted, interval, number, span

__all__ = [
    "SHARE",
    "foreground_words",
    "grade",
    "largest_loss",
    "meaning",
    "number_of",
    "overlap_words",
    "percent",
    "samples_called",
    "summary",
    "title",
    "with_unit",
    "worst_and_best",
]

# If the exact elements have at least this share of the deviation, interpolation is not the cause.
_OWN = 0.6


#: The unit of a measure that is a share of samples or places; people say per cent.
SHARE = "share"

# Elements are alike whose deviations differ by less, as a share of that of different samples.
_DIFFER = 0.02


# The word for a tensor, by its distance from perfect as a share of that of different samples.
_GRADES = (
    (ROUNDED, "equivariant up to rounding", "invariant up to rounding"),
    (0.05, "close to equivariant", "close to invariant"),
    (0.2, "mostly equivariant", "mostly invariant"),
    (0.5, "partly equivariant", "partly invariant"),
    (HARDLY, "slightly equivariant", "slightly invariant"),
    (math.inf, "hardly equivariant", "hardly invariant"),
)


def summary(result: Result, readings: Sequence[Reading]) -> list[str]:
    """Return sentences on a result; all their numbers and directions are read from it."""
    group, family = result["group"], is_family(result["group"])
    sampled = is_sampled(group)
    sentences = []
    maps = [r for r in readings if r.descriptor.cosine_of_maps]
    if len(maps) > 1:
        layouts = [m["layout"] for m in result["measurements"] if m["measure"] == maps[0].measure]
        input = result["data"].get("layout", "NCHW")
        moved = "image" if is_map(input) and not {*"DTX"} & {*input} else "input"
        noun = "map" if all(map(is_map, layouts)) else "tensor"
        subject = f"{title(maps[0].measure, layouts)}: the {noun} of the moved {moved}"
        sentences.append(_depth(maps, subject, noun, family=family))
    for record, r in zip(result["measurements"], readings, strict=True):
        if not r.descriptor.cosine_of_maps or len(maps) == 1:
            name = title(r.measure, [record["layout"]])
            sentences.append(
                f"{name} ({r.layer}{_pooled(record)}): "
                f"{meaning(record, group['order'], of_family=family, of_sampled=sampled)}"
            )
    tripped = [r for r in (maps or readings) if r.trips]
    if tripped and not all(result["group"]["exact"]):
        sentences.append(_resampling(tripped[-1]))
    ranked = maps[-1] if maps else readings[-1]
    if group["order"] > 2 and not np.allclose(ranked.per_element, ranked.perfect, atol=ROUNDED):
        sentences.append(worst_and_best(ranked, group))
    return sentences


def _pooled(record: Record) -> str:
    """Say of a map that it was made a vector."""
    notes = (n.removesuffix(" by onnx-geed") for n in record.get("notes", ()))
    return next((f", {note}" for note in notes if note.startswith("average-pooled")), "")


def _resampling(reading: Reading) -> str:
    """Say how much of a value resampling alone can explain."""
    name, value = max(reading.trips.items(), key=lambda item: item[1])
    away, unit = value - reading.perfect, reading.unit
    given = f"cosine {span(-value)}" if reading.similarity else f"{span(value)} {unit}"
    text = f"Resampling alone ({name.replace('_', ' ')}) gives {given} in {reading.layer}"
    if reading.away < 1e-6:
        return text + "."
    if reading.exact is not None and reading.exact - reading.perfect >= _OWN * reading.away:
        own = span(reading.told(reading.exact))
        return (
            f"{text}. But the exact elements, which need no resampling, have {own}: most of the "
            "deviation comes from the network itself."
        )
    if away < 0.3 * reading.away:
        return text + ", so interpolation explains little of the deviation."
    return text + ", so interpolation may explain much of the deviation."


def title(measure: str, layouts: Sequence[str]) -> str:
    """Return the title of a measure, which depends on whether its tensors are maps.

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


def _depth(maps: Sequence[Reading], subject: str, noun: str, *, family: bool) -> str:
    """Say how equivariant the maps are from the first to the last, and where that is lost."""
    first, last = maps[0], maps[-1]
    worst = max(maps, key=lambda r: r.value)
    target = f"the moved {noun}"
    if all(r.output_action == "trivial" for r in maps):
        target = f"the {noun} of the unmoved sample" if family else "the mean over the orbit"
    elif averaged := maps[-1].averaged:
        target = f"the moved mean {noun} of the {_in_place(averaged)}"
    text = (
        f"{subject} has cosine {span(-first.value)} with {target} in {first.layer} and "
        f"{span(-last.value)} in {last.layer} (1 is perfect)"
    )
    if worst is not first and worst is not last:
        text += f"; the lowest is {span(-worst.value)} in {worst.layer}"
    lost = largest_loss(maps)
    if lost is not None:
        text += f". The largest loss is {lost}"
    grades = [grade(reading, of_family=family) for reading in (first, last)]
    if grades[0] == grades[1]:
        return f"{text}. Both layers are {grades[0]}."
    return f"{text}. {first.layer} is {grades[0]}, {last.layer} is {grades[1]}."


def largest_loss(maps: Sequence[Reading]) -> str | None:
    """Say between which two layers, or the input and the first, the deviation grows most.

    Parameters
    ----------
    maps : sequence of Reading
        Maps in the order of the network. The input itself is perfect.

    Returns
    -------
    str or None
        None where it grows by less than 2 % of the deviation of different samples; or, where some
        layer's is not known, by a cosine of less than 0.02.
    """
    # Maps of different samples have a cosine that depends on the layer, and of some is not known.
    relative = all(r.relative is not None for r in maps)
    shares = [0.0, *(r.share(r.value) if relative else r.value - r.perfect for r in maps)]
    names = ["the input", *(r.layer for r in maps)]
    k = max(range(len(maps)), key=lambda i: shares[i + 1] - shares[i])
    before, after = shares[k], shares[k + 1]
    if after - before <= _DIFFER:
        return None
    if relative:
        size = f"from {percent(before)} to {percent(after)} off"
    else:
        size = f"cosine {span(1 - before)} to {span(1 - after)}"
    return f"between {names[k]} and {names[k + 1]} ({size})"


def worst_and_best(reading: Reading, group: GroupPart) -> str:
    """Say under which elements a tensor is least and most equivariant.

    Parameters
    ----------
    reading : Reading
        The reading.
    group : dict
        The ``group`` part of its result, of at least three elements.

    Returns
    -------
    str
        One sentence; it says so where the elements do not differ clearly, and where one sample
        cannot tell.
    """
    noun = worst_noun(group)
    # Where f̂ is a mean, the unmoved sample may be as far from it as any other.
    begin = int(np.isclose(reading.per_element[0], reading.perfect, rtol=0, atol=1e-9))
    values = reading.per_element[begin:]
    worst, best = int(values.argmax()) + begin, int(values.argmin()) + begin
    ends = [number_of(reading, float(v)) for v in (values.max(), values.min())]
    before, after = _unit_around(reading)
    gaps = reading.deviations[:, worst] - reading.deviations[:, best]
    sure = gap_interval(gaps, shares=reading.descriptor.view == "classes")
    spread = reading.share(float(values.max())) - reading.share(float(values.min()))
    alike = spread < _DIFFER
    if alike or (sure is not None and side_of_zero(sure) <= 0):
        said = f"no {noun} is clearly worse than another over these samples"
        if alike:
            first = "random start" if is_sampled(group) else "unmoved input"
            said = f"all {noun}s are about equal" + f", the {first} aside" * begin
        span_of = " to ".join(dict.fromkeys(ends if reading.similarity else ends[::-1]))
        return f"In {reading.layer}, {said} ({before}{span_of}{after})."
    told = [number_of(reading, float(v)) for v in values]
    where = [at_elements(group, [g for g, v in enumerate(told, begin) if v == end]) for end in ends]
    return (
        f"In {reading.layer}, the worst is {before}{ends[0]}{after} at {where[0]}, the best "
        f"{ends[1]} at {where[1]}{' (of one sample)' if sure is None else ''}."
    )


def grade(reading: Reading, *, of_family: bool = False) -> str:
    """Return the word for how equivariant a tensor is; the only place that has such words.

    Parameters
    ----------
    reading : Reading
        The reading.
    of_family : bool
        Whether f(gx) was compared with f(x) itself, from which a divergence has no bound.

    Returns
    -------
    str
        By ``relative``; where that is unknown, by the cosine of maps; else empty. The divergence
        from an orbit's mean is at most ln abs(G), but the divergence from another sample has no
        bound. So a measure with such a bound is graded by the larger of both shares.
    """
    if reading.hardly_reacts:
        return "hardly reacts to the input, so no conclusion is possible"
    if reading.relative is None and not reading.descriptor.cosine_of_maps:
        return ""
    trivial = reading.output_action == "trivial"
    share = far_off(reading, reading.value, of_family=of_family)
    return next(words[trivial] for most, *words in _GRADES if share <= most)


_FITTED = {
    "permutation": "permutation of channels",
    "orthogonal": "rotation of channels",
    "linear": "linear map of channels",
}


def meaning(
    record: Record, order: int, *, of_family: bool = False, of_sampled: bool = False
) -> str:
    """Say what a record's value means.

    Parameters
    ----------
    record : dict
        The record.
    order : int
        Order of the group.
    of_family : bool
        Whether it is a family instead.
    of_sampled : bool
        Whether the group first moves each sample by a random element of its own.

    Returns
    -------
    str
        One sentence.
    """
    reading = read_record(record)
    fit = record.get("fit")
    # A fitted value is judged in its own section, next to its shuffled null.
    word = "" if fit else grade(reading, of_family=of_family)
    noun = "map" if is_map(record["layout"]) else "tensor"
    common = record.get("most_common")
    beside = ""
    if common is not None:
        beside = f"; the most common class has {percent(common)} of the predictions"
    overlap = overlap_words(record, of_sampled=of_sampled)
    of_places = "".join(f"; {text}" for text in (foreground_words(record), overlap) if text)
    how = f"f(x) moved by a fitted {_FITTED[fit['kind']]}" if fit else ""
    first = "the sample at a random element" if of_sampled else "the unmoved sample"
    sentence = _sentence(reading, order, noun, how, first, of_family=of_family)
    value = f"{sentence}{_gain(record)}{beside}"
    return f"{value}{f': {word}' if word else ''}{of_places}."


def foreground_words(record: Record) -> str:
    """Say what the value is over the foreground (all places but the background), where known."""
    part = record.get("foreground")
    if part is None:
        return ""
    whose = "by labels, " if part["by"] == "labels" else ""
    others = f"without class {part['background']} ({whose}{percent(part['share'])} of places left)"
    if part["value"] is None:
        return f"{others}: no sample has other classes"
    few = f", over the {counted(part['samples'], 'sample')} with other classes"
    few *= part["samples"] < record["samples"]
    half = (
        ""
        if part["ci95"] is None
        else f" {interval(told_ends(descriptor_of(record['measure']), part['ci95']))}"
    )
    return f"{others}: {number(part['value'])}{half}{few}"


def overlap_words(record: Record, *, of_sampled: bool = False) -> str:
    """Say how far the classes of moved samples overlap with those of unmoved ones and labels.

    No sample is unmoved where the group first moves each by a random element of its own.
    """
    part = record.get("miou")
    if part is None or part["value"] is None:
        return ""
    first = "at a random element" if of_sampled else "unmoved"
    both = "samples at a random element and moved on" if of_sampled else "moved and unmoved samples"
    text = f"mIoU of {both} {number(part['value'])}"
    labels = part["labels"]
    if labels is None or labels["value"] is None or labels["unmoved"] is None:
        return text
    unmoved, moved = number(labels["unmoved"]), number(labels["value"])
    return f"{text}; with the labels {unmoved} {first}, {moved} moved"


def _gain(record: Record) -> str:
    """Say how far a latent moves compared with the pixels, where that is known."""
    part = record.get("gain")
    if not part or part["value"] is None:
        return ""
    gain = f"{span(part['value'])} times as far as the pixels"
    return f"; it moves {gain}, each relative to different samples"


def _sentence(
    reading: Reading, order: int, noun: str, how: str, first: str, *, of_family: bool
) -> str:
    most = None if of_family else most_of_orbit(reading)
    if most is not None:
        scale = [f"at most ln {reading.deviations.shape[1]} = {span(most)}"]
    else:
        scale = [] if reading.between is None else [f"different samples {_between(reading)}"]
    if reading.descriptor.of_error and reading.normaliser:
        scale.append(f"mean error {span(reading.normaliser)}")
    beside = f"({', '.join([*scale, f'perfect {reading.told(reading.perfect):g}'])})"
    trivial = reading.output_action == "trivial"
    target = "f(x) itself" if of_family else "the mean over the orbit"
    if reading.averaged:
        target = f"the moved mean over the {_in_place(reading.averaged)}"
    elif not trivial:
        target = "the moved f(x)"
    target = how or target
    value, measure = span(reading.told(reading.value)), reading.descriptor
    if measure.normalised and not measure.perfect_over_m and not reading.normalised:
        template = ""  # tells of what M divides
    else:
        told = trivial or (reading.averaged and "{target}" in measure.sentence)
        template = measure.sentence if told else measure.sentence_moved or measure.sentence
        template = (trivial and of_family and measure.sentence_of_family) or template
    if template:
        largest = measure.worst_value(order, trivial=trivial and not of_family)
        share = percent(reading.value / largest if largest else 0.0)
        moved = "permuted" if reading.output_action.startswith("permutation") else "moved along"
        words = {"value": value, "target": target, "share": share, "noun": noun, "moved": moved}
        words["first"] = first
        return f"{template.format(order=order, **words)} {beside}"
    if reading.in_tensor_units:
        return f"The distance of f(gx) from {target} is {value}, in units of the tensor {beside}"
    return f"f(gx) deviates from {target} by {value} {reading.unit} {beside}"


def _in_place(averaged: Sequence[str]) -> str:
    return f"{len(averaged)} elements that should not change it"


def _between(reading: Reading) -> str:
    return number_of(reading, reading.between or 0.0)


def number_of(reading: Reading, value: float) -> str:
    """Return a value as its unit wants it, without that: shares in per cent."""
    return percent(value) if reading.told_unit == SHARE else span(reading.told(value))


def _unit_around(reading: Reading) -> tuple[str, str]:
    """Return what stands before the numbers of a measure, and behind them."""
    if reading.told_unit == SHARE:
        return "", ""
    return (f"{reading.told_unit} ", "") if reading.similarity else ("", f" {reading.told_unit}")


def with_unit(reading: Reading, value: float) -> str:
    """Return a value with its unit, as a reader says it."""
    before, after = _unit_around(reading)
    return f"{before}{number_of(reading, value)}{after}"


def percent(share: float) -> str:
    """Return a share in per cent, with more digits if it is small."""
    if not share:
        return "0 %"
    if abs(share) < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.{1 if share < 0.1 else 0}f} %"


def samples_called(result: Result) -> list[str]:
    """Return the names of the samples of D, in order: their files, or their positions.

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
