"""The diagnosis of a result: all its findings, those from its model's graph included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import angle, moved_axes
from onnx_geed.measures import descriptor_of
from onnx_geed.model import Between, Model, between, load_model, off_centre, zero_padded
from onnx_geed.results.comparability import (
    Key,
    action_name,
    differences,
    records_of,
    truth_differences,
)
from onnx_geed.results.families import is_family
from onnx_geed.results.findings import (
    KEPT,
    Finding,
    RecordReadings,
    few_samples,
    ill_normalised,
    noticeable,
    odd_channels,
    resampled_elements,
    silent_channels,
)
from onnx_geed.results.kinds_of_data import moved_letters
from onnx_geed.results.motions import fitted_motion
from onnx_geed.results.origin import same_model
from onnx_geed.results.reactions import alike_maps, hardly_reacting, insensitive_model, not_learned
from onnx_geed.results.reading import Reading, read_record
from onnx_geed.results.result_file import is_result, of_results
from onnx_geed.results.schema import AnyResult, Result
from onnx_geed.text import span

__all__ = ["diagnose", "diagnose_corners", "diagnosis_line", "model_of"]

# A cosine that is farther from 1 counts as lost; where known, a share of what different samples
# differ by.
_LOST = 0.01


# Above this share of what different samples differ by, equivariance counts as lost altogether.
_MUCH = 0.2


# What brings the input into another order or scale, and computes nothing of it.
_PLUMBING = frozenset(
    [
        "Add",
        "Cast",
        "Div",
        "Identity",
        "Mul",
        "Reshape",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    ]
)


# Models larger than this are not read again for a line of diagnosis.
_LARGE = 256 << 20


@of_results
def diagnose(result: AnyResult, model: Model | None = None) -> tuple[Finding, ...]:
    """Explain what a result shows.

    Parameters
    ----------
    result : dict
        A result.
    model : Model, optional
        The model; its graph is then examined too.

    Returns
    -------
    tuple of Finding
        The most likely first; empty if there are none.

    Raises
    ------
    GeedError
        If it is no result, or the model is none that was loaded.
    """
    if not is_result(result):
        raise GeedError(
            f"diagnose: takes one result, found {shown(result)}; read a file with onnx_geed.load"
        )
    if not isinstance(model, Model | None):
        raise GeedError(
            f"diagnose: model is what onnx_geed.load_model returns, found {shown(model)}"
        )
    result = cast(Result, result)
    pairs = _without_input(result, model)
    findings = [
        *fitted_motion(result),
        # A family has no products, so that no element says what another has to do.
        *(() if is_family(result["group"]) else _of_group(result, pairs, model)),
        *insensitive_model(result, pairs),
        *hardly_reacting(pairs),
        *alike_maps(pairs, "a family" if is_family(result["group"]) else "an orbit"),
        *not_learned(result, pairs),
        *silent_channels(pairs),
        *ill_normalised(pairs),
        *few_samples(result, pairs),
    ]
    order = ("likely", "caution", "possible")
    return tuple(sorted(findings, key=lambda f: order.index(f.weight)))


def _of_group(result: Result, pairs: RecordReadings, model: Model | None) -> Iterator[Finding]:
    """Find what only elements of a group show, which exact ones and their products are among."""
    broken = list(_first_break(result, pairs, model))
    # What a stride off the centre does to a channel depends on the channel.
    if not _strided(broken):
        yield from odd_channels(pairs, result["group"]["exact"])
    yield from broken
    yield from _kept_elements(result, pairs)
    yield from resampled_elements(result, pairs)


def _strided(findings: Sequence[Finding]) -> bool:
    return any(finding.name == "off-centre stride" for finding in findings)


def diagnose_corners(result: Result, other: Result) -> tuple[Finding, ...]:
    """Say what the corners of the square add, from one result with them and one without.

    Parameters
    ----------
    result : dict
        A result with ``support`` full.
    other : dict
        Another, with ``support`` disk.

    Returns
    -------
    tuple of Finding
        Empty where the results differ in anything else, such as what another input was fed, or the
        corners add little.
    """
    if not _same_but_for_corners(result, other):
        return ()
    inside = records_of(other)
    less = []
    for key, record in records_of(result).items():
        if key not in inside or not _same_quantity(result, other, key):
            continue
        reading, within = read_record(record), read_record(inside[key])
        if reading.normalised != within.normalised:
            continue
        if noticeable(reading) and within.away <= 0.7 * reading.away:
            less.append((1 - within.away / reading.away, reading, within))
    if not less:
        return ()
    share, reading, within = max(less, key=lambda entry: entry[0])
    return (
        Finding(
            "square corners",
            "likely",
            f"The corners of the square account for {100 * share:.0f} % of "
            f"{reading.measure}@{reading.layer}.",
            f"It is {span(reading.away)} from perfect on the full square, {span(within.away)} "
            f"with --support disk ({len(less)} of {len(result['measurements'])} values differ that "
            "much).",
            "Rotation moves black corners in; --support disk leaves them out.",
            tuple(r.layer for _, r, _ in less),
        ),
    )


def _same_but_for_corners(result: Result, other: Result) -> bool:
    """Tell whether a result with corners and one without differ in nothing else."""
    if (result["group"]["support"], other["group"]["support"]) != ("full", "disk"):
        return False
    if not same_model(result["model"], other["model"]):
        return False
    group = result["group"] | {"support": "disk"}
    # What only one of them measured has no part in it.
    shared = [key for key in records_of(result) if key in records_of(other)]
    ours, theirs = (
        {**one, "group": acting, "measurements": [records_of(one)[key] for key in shared]}
        for one, acting in ((result, group), (other, other["group"]))
    )
    pairs = [(key, key) for key in shared]
    return group == other["group"] and not differences(
        cast(Result, ours), cast(Result, theirs), pairs
    )


def _same_quantity(result: Result, other: Result, key: Key) -> bool:
    """Tell whether two results hold the same against the same prediction, or what is right."""
    ours, theirs = records_of(result)[key], records_of(other)[key]
    if action_name(ours) != action_name(theirs):
        return False
    # Labels are of shares of the error alone.
    return not (
        descriptor_of(ours["measure"]).of_error and truth_differences(result, other, [(key, key)])
    )


def diagnosis_line(result: Result, model: Model | None = None) -> str:
    """Return the weightiest finding on one line, for a terminal.

    Parameters
    ----------
    result : dict
        A result.
    model : Model, optional
        Its model.

    Returns
    -------
    str
        Empty where nothing is likely, and nothing warns.
    """
    findings = [f for f in diagnose(result, model) if f.weight != "possible"]
    if not findings:
        return ""
    more = f" ({len(findings) - 1} more in onnx-geed report)" if len(findings) > 1 else ""
    return f"diagnosis: {findings[0].text}{more}"


def model_of(result: Result) -> Model | None:
    """Return the model of a result where it still lies where it was, and is the same.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    Model or None
        Models of more than 256 MiB are not read again.
    """
    path = Path(result["model"]["path"])
    try:
        if not path.is_file() or path.stat().st_size > _LARGE:
            return None
        model = load_model(path)
    except (GeedError, OSError):
        return None
    return model if model.sha256 == result["model"]["sha256"] else None


def _exact_share(result: Result, reading: Reading) -> float | None:
    """Return the share of perfect that the exact elements alone lack; none where there are none."""
    if reading.hardly_reacts:
        return None
    if reading.exact is not None:
        return reading.share(reading.exact)
    return reading.share(reading.value) if all(result["group"]["exact"]) else None


def _first_break(result: Result, pairs: RecordReadings, model: Model | None) -> Iterator[Finding]:
    """Find the first layer where exact elements stop moving the maps along."""
    maps = [
        (reading, lacks)
        for _, reading in pairs
        if reading.descriptor.cosine_of_maps
        and (lacks := _exact_share(result, reading)) is not None
    ]
    if not maps or max(lacks for _, lacks in maps) < _LOST:
        return
    group = result["group"]["name"]
    first = next(i for i, (_, lacks) in enumerate(maps) if lacks > KEPT)
    before, (reading, lacks) = maps[:first], maps[first]
    # Of the grids that are turned and shifted, a network of points has none.
    grid = set(moved_letters(result)) & set("DHWT")
    path: Between | None = None
    if model is not None:
        path = between(model, before[-1][0].layer if before else None, reading.layer)
    shifted = grid & set(moved_axes(group).shifted)
    padded = _padded_nodes(model, path) if shifted else []
    if padded:
        # A border takes little at first; without it a convolution moves along with every shift.
        more = f" and {len(padded) - 1} more" if len(padded) > 1 else ""
        worst = max(maps[first:], key=lambda pair: pair[1])[0]
        yield Finding(
            "zero padding",
            "likely",
            f"Padding breaks exact shifts from {padded[0]} on: maps wrap around, but the "
            "padding does not.",
            f"{padded[0]}{more} before {reading.layer} pad{'s' * (not more)} with a constant; the "
            f"cosine is {_cosine(reading)} there"
            + (f" and {_cosine(worst)} in {worst.layer}." if worst is not reading else "."),
            "Circular padding keeps shifts exact; places far from the border lose less.",
            (reading.layer,),
        )
        return
    if lacks < _LOST:
        return  # it fades away: no layer is to blame
    faults = off_centre(model, group) if model is not None and grid else []
    here = [f for f in faults if path and f.node in path.names]
    if not before:
        if here:
            yield Finding(
                "off-centre stride",
                "possible",
                f"{here[0].text[0].upper()}{here[0].text[1:]} before {reading.layer}, the first "
                "layer measured.",
                f"There the exact elements reach cosine {_cosine(reading)}.",
                here[0].advice,
                (reading.layer,),
            )
        return
    kept = before[-1][0]
    evidence = (
        f"Over the exact elements the cosine is {_cosine(kept)} in {kept.layer} and "
        f"{_cosine(reading)} in {reading.layer}"
    )
    if path and path.names:
        evidence += f"; between them: {path.text}"
    # Where most is kept, it is the exactness that is lost.
    text = "Equivariance is lost" if lacks > _MUCH else "Exact equivariance ends"
    if here:
        yield Finding(
            "off-centre stride",
            "likely",
            f"{text} in {here[0].label}: {here[0].text}.",
            evidence + ".",
            here[0].advice,
            (reading.layer,),
        )
        return
    yield Finding(
        "first break",
        "likely",
        f"{text} between {kept.layer} and {reading.layer}.",
        evidence + ".",
        f"Check the weights{' and the padding' * bool(grid)} between them.",
        (reading.layer,),
    )


def _cosine(reading: Reading) -> str:
    """Return the cosine over the exact elements alone."""
    return span(-(reading.value if reading.exact is None else reading.exact))


def _without_input(result: Result, model: Model | None) -> RecordReadings:
    """Read the records, but for the input in another order or scale: it moves with any network."""
    pairs = [(record, read_record(record)) for record in result["measurements"]]
    if model is None:
        return pairs
    maps = (reading.layer for _, reading in pairs if reading.descriptor.view == "maps")
    itself = set(itertools.takewhile(lambda layer: _is_input(model, layer), maps))
    return [
        (record, reading)
        for record, reading in pairs
        if reading.descriptor.view != "maps" or reading.layer not in itself
    ]


def _is_input(model: Model, layer: str) -> bool:
    """Say whether a tensor is the input itself: transposed, reshaped, scaled."""
    names = set(between(model, None, layer).names)
    nodes = [n for n in model.proto.graph.node if (n.name or n.output[0]) in names]
    return all(n.op_type in _PLUMBING for n in nodes)


def _padded_nodes(model: Model | None, path: Between | None) -> list[str]:
    if model is None or path is None:
        return []
    return [text for name, text in zero_padded(model).items() if name in path.names]


def _kept_elements(result: Result, pairs: RecordReadings) -> Iterator[Finding]:
    """Find exact elements that are kept while others are lost, under a faithful action."""
    group, elements = result["group"]["name"], result["group"]["elements"]
    exact = [g for g, is_exact in enumerate(result["group"]["exact"]) if is_exact and g]
    partial = []
    for _, reading in pairs:
        if not reading.descriptor.cosine_of_maps or reading.hardly_reacts:
            continue
        lacks = [reading.share(float(value)) for value in reading.per_element]
        kept = [g for g in exact if lacks[g] <= KEPT]
        lost = [g for g in exact if lacks[g] >= _LOST]
        if kept and lost and len(kept) + len(lost) == len(exact):
            partial.append((reading, kept, lost))
    if not partial:
        return
    reading, kept, lost = partial[0]
    layers = tuple(r.layer for r, *_ in partial)

    def named(members: Sequence[int]) -> str:
        names = [angle(group, elements[g], short=True) for g in members[:4]]
        return ", ".join(names) + (f" and {len(members) - 4} more" if len(members) > 4 else "")

    yield Finding(
        "some elements",
        "likely",
        f"{reading.layer} is equivariant under {named(kept)}, but not under {named(lost)}.",
        f"In {reading.layer} the cosine is {span(-float(reading.per_element[kept].max()))} or "
        f"more under the first, and {span(-float(reading.per_element[lost].mean()))} on average "
        f"under the others; {len(layers)} layer{'s keep' if len(layers) > 1 else ' keeps'} only "
        "some elements.",
        "The network has the smaller symmetry; measure it under that group.",
        layers,
    )
