"""Opening the source of a run: samples by name, the action on them, masks and feeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import (
    Intake,
    Samples,
    array_named,
    check_counts,
    named_inputs,
    place_labels_of,
)
from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Action,
    Group,
    LayoutAction,
    Lettered,
    PlacedAction,
    check_bases,
    is_moved,
    layout_action,
    parse_group,
    parse_layout,
    place,
)
from onnx_geed.model import (
    Input,
    Model,
    find_input,
    further_inputs,
    input_layout,
    inputs,
)
from onnx_geed.run.backdrop import backdrop_of
from onnx_geed.run.feeds import (
    Still,
    check_lengths,
    feeds_of,
    notes_on_axes,
    notes_on_preparation,
    refuse_acted_on,
)
from onnx_geed.run.mask import Mask, check_taker, make_mask
from onnx_geed.run.moved_input import MovedInput, Opening, chosen_preprocess, with_lengths
from onnx_geed.run.moving import check_input, check_moving
from onnx_geed.run.on_group import as_asked
from onnx_geed.run.options import Options, drawn_notes
from onnx_geed.run.source import Source

__all__ = ["layouts_of_inputs", "make_source", "source_of"]


def source_of(model: Model, data: Any, group: str | Group, options: Options) -> Source:
    """Return what a model would be fed, without running it.

    Parameters
    ----------
    model : Model
        The model.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : str or Group
        The acting group.
    options : Options
        How to measure.

    Returns
    -------
    Source

    Raises
    ------
    GeedError
        If the data cannot be used.
    """
    acting = as_asked(group if isinstance(group, Group) else parse_group(group), options)
    return make_source(
        model, find_input(model, options.input, options.input_layout), data, acting, options
    )[0]


def make_source(
    model: Model,
    acted: Input,
    data: Any,
    group: Group,
    options: Options,
    own: Action | None = None,
    beside: Source | None = None,
    others_held: int = 0,
) -> tuple[Source, int, list[str]]:
    """Draw the samples of D as spec section 2 says, and place the action on them.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : Group
        The acting group.
    options : Options
        How to measure.
    own : Action, optional
        An action of one's own in place of the group's.
    beside : Source, optional
        The same data under another group: they are not opened again, and checked to be the same.
    others_held : int
        Bytes of the tables of other groups, which are measured in the same run.

    Returns
    -------
    source : Source
        Samples of D and the points for M.
    count : int
        Size of D.
    notes : list of str
        Where fewer are available than were asked for, and where elements are drawn.

    Raises
    ------
    GeedError
        If the data cannot be used, or the group does not move them.
    """
    refuse_acted_on(options.feed, acted)
    further = further_inputs(model, acted, options.input_layout)
    held, read = _named_arrays(model, data, acted, further, options, own)
    opening = _opening(model, data, acted, options, read, named=acted.name in held)
    samples, place_labels = _samples(opening, options, beside)
    indices, count, notes = _drawn(len(samples), options)
    notes += _on_draws(group)
    action = _action(opening, samples, group, options, own, others_held)
    main = _moved_input(opening, samples, indices, action, options)
    if beside is not None:
        main = replace(main, intake=beside.main.intake)
    given = [one for one in further if one[0].name in options.feed or read[one[0].name]]
    partners, still = _partners(model, given, data, main, acted, options, read)
    notes += check_moving(main, acted.name, partners)
    notes += _on_values(main)
    main = _with_members(_with_backdrop(main, options))
    moved = {acted.name: main} | partners
    mover = main.action.group.name if own is None else None
    notes += [one.note(name, mover) for name, one in still.items()]
    opened: dict[str, MovedInput | Still] = {**moved, **still}
    notes += notes_on_preparation(opened, options.feed)
    check_lengths(model, opened)
    check_bases(group, [own_input.action for own_input in moved.values()])
    notes += _on_labels(samples, options)
    others = {i.name: i for i in inputs(model) if i.name not in opened}
    mask, marks = make_mask(model, options.mask, opened, tuple(others), group, options)
    notes += _on_padding(opened, mask)
    if mask is not None and marks is not None:
        taker = others[next(iter(options.mask))]
        moved[taker.name] = _moved_marks(taker, mask, marks, group, indices, options)
    fed = {name: value for name, value in options.feed.items() if name not in opened}
    fed |= {name: one.values() for name, one in still.items()}
    rest = [name for name in held if name not in moved | fed]
    fed |= {name: array_named(data, name, options.allowed, _but(read, name)) for name in rest}
    feeds = feeds_of(model, tuple(moved), acted, len(samples), fed, options.allowed)
    plain = {k: feed for k, feed in feeds.items() if k not in still}
    notes += notes_on_axes(model, acted, plain, len(samples))
    partners = {name: other for name, other in moved.items() if name != acted.name}
    source = Source(*(main, partners, feeds), mask=mask, place_labels=place_labels, name=acted.name)
    return source, count, notes


def _named_arrays(
    model: Model,
    data: Any,
    acted: Input,
    further: Sequence[tuple[Input, str]],
    options: Options,
    own: Action | None,
) -> tuple[Collection[str], dict[str, bool]]:
    """Look for arrays with the names of inputs.

    Returns
    -------
    held : collection of str
        Inputs for which the data have an array.
    read : dict of str to bool
        Of all inputs but the acted-on one, whether it is read from the array of its name.
    """
    # An action of one's own moves one input.
    along = () if own is not None else (i.name for i, _ in further if i.name not in options.feed)
    names = [acted.name, *along]
    held = named_inputs(data, names, [i.name for i in inputs(model) if i.name not in names])
    read = {i.name: i.name in held and i.name not in options.feed for i in inputs(model)}
    del read[acted.name]
    return held, read


def _opening(
    model: Model,
    data: Any,
    acted: Input,
    options: Options,
    read: Mapping[str, bool],
    *,
    named: bool,
) -> Opening:
    """Return how the samples of the acted-on input are opened."""
    stated = options.input_layout
    try:
        layout = input_layout(model, acted, stated)
    except GeedError:
        # Lengths that the file leaves free are those of the data.
        layout = input_layout(model, with_lengths(acted, data, options.allowed, read), stated)
    return Opening(
        data,
        acted.shape[1:],
        layout,
        chosen_preprocess(model, options, acted.name),
        acted.name if named else None,
        acted.dtype,
        masked=bool(options.mask),
        allowed=options.allowed,
        others=read,
    )


def _samples(
    opening: Opening, options: Options, beside: Source | None
) -> tuple[Samples, NDArray[np.int32] | None]:
    """Open the samples, with their labels or those of their places."""
    of_places = place_labels_of(options.labels, options.allowed)
    if beside is not None:
        samples = beside.samples
    else:
        samples = opening.samples(options.labels if of_places is None else None)
    if of_places is not None and len(of_places) != len(samples):
        raise GeedError(
            f"--labels: has {' × '.join(map(str, of_places.shape))} labels for {len(samples)} "
            "samples: give one per sample, or one per place of each sample"
        )
    return samples, of_places


def _with_backdrop(main: MovedInput, options: Options) -> MovedInput:
    """Return the acted-on input with the scenes that a family puts behind its samples."""
    backdrop = backdrop_of(main.action.group, main.samples, options)
    if backdrop is None or not isinstance(main.action, LayoutAction):
        return main
    named = replace(main.action, group=backdrop.named(main.action.group))
    return replace(main, action=named, backdrop=backdrop)


def _with_members(main: MovedInput) -> MovedInput:
    """Return the acted-on input with a fingerprint of what an action of one's own does to it."""
    group, index = main.action.group, main.indices[0]
    if group.family is not None and group.family.own is not None:
        main = replace(main, members=group.family.own.digest(main.samples[index], index))
    if isinstance(main.action, PlacedAction):
        first = np.asarray(main.samples[index], dtype=np.float32)
        main = replace(main, members=main.action.digest(first))
    return main


def _moved_marks(
    taker: Input,
    mask: Mask,
    marks: NDArray[np.bool_],
    group: Group,
    indices: tuple[int, ...],
    options: Options,
) -> MovedInput:
    """Return the input that takes the mask itself: it moves as what it marks."""
    if taker.name in options.feed:
        raise GeedError(
            f"--feed {taker.name}: --mask {taker.name} already sets its values; give one of the two"
        )
    check_taker(taker, mask)
    opening = Opening(marks, taker.shape[1:], f"N{mask.letter}", None, None, taker.dtype)
    samples = opening.samples()
    action = _action(opening, samples, group, options)
    # Which points are real is asked of all of them, with a disk too.
    return _moved_input(opening, samples, indices, action, replace(options, support="full"))


def _on_draws(group: Group) -> list[str]:
    """Note where elements differ from sample to sample."""
    if group.onward is None:
        return []
    how = ", independently of each other" if group.independent else ""
    return [f"the elements of {group.name} are drawn separately for each sample{how}"]


def _on_labels(samples: Samples, options: Options) -> list[str]:
    """Note where a file beside the samples could not be read as their labels."""
    unused = None if options.labels is not None else samples.unused
    if unused is None:
        return []
    return [f"{unused.name}{unused.place} is not used for labels: {unused.fault}"]


def _on_padding(opened: Mapping[str, MovedInput | Still], mask: Mask | None) -> list[str]:
    """Note where padding is measured."""
    if mask is not None or all(one.samples.lengths is None for one in opened.values()):
        return []
    return [
        "samples of different lengths are padded with zeros, which are measured too; --mask "
        "INPUT leaves them out"
    ]


def _on_values(main: MovedInput) -> list[str]:
    """Note where a family that changes pixels in [0, 1] meets other values.

    Raises
    ------
    GeedError
        If it meets whole numbers.
    """
    family = main.action.group.family
    if family is None or family.geometric:
        return []
    name, dtype = main.action.group.name, main.samples.dtype
    if dtype.kind != "f":
        raise GeedError(
            f"group {name} changes values in [0, 1], and the model takes whole numbers ({dtype}): "
            "take a group that only moves them"
        )
    first = main.samples[main.indices[0]]
    low, high = float(first.min()), float(first.max())
    if family.own is not None or (low >= -1e-3 and high <= 1 + 1e-3):
        return []
    return [
        f"group {name} changes pixels as values in [0, 1], before mean and std, and the first "
        f"sample has {low:.3g} to {high:.3g}: give pixels, and mean and std with --preprocess"
    ]


def _drawn(available: int, options: Options) -> tuple[tuple[int, ...], int, list[str]]:
    """Draw D and the points for M; return the size of D, and notes where there are fewer."""
    drawn = np.random.default_rng(options.seed).permutation(available)
    wanted = available if options.wanted is None else options.wanted
    indices = tuple(int(i) for i in drawn[: max(wanted, options.norm_samples)])
    notes = drawn_notes(available, wanted, options.norm_samples)
    return indices, min(wanted, available), notes


def _partners(
    model: Model,
    further: Sequence[tuple[Input, str]],
    data: Any,
    main: MovedInput,
    acted: Input,
    options: Options,
    read: Mapping[str, bool],
) -> tuple[dict[str, MovedInput], dict[str, Still]]:
    """Return the other inputs whose layout is known: those that the group moves too, and others."""
    partners: dict[str, MovedInput] = {}
    still: dict[str, Still] = {}
    for other, letters in further:
        name = other.name
        own, key = (options.feed[name], None) if name in options.feed else (data, name)
        prepared = chosen_preprocess(model, options, acted.name, name)
        masked, allowed = bool(options.mask), options.allowed
        opening = Opening(
            *(own, other.shape[1:], letters, prepared, key, other.dtype, masked, allowed),
            others=_but(read, name),
        )
        samples, group = opening.samples(), main.action.group
        tensor = Lettered(parse_layout(letters), samples.shape, True)
        # One's own moves one input.
        if isinstance(main.action, LayoutAction) and is_moved(group, tensor):
            action = _action(opening, samples, group, options)
            partners[name] = _moved_input(opening, samples, main.indices, action, options)
        else:
            still[name] = Still(opening, samples)
        if name in partners or len(samples) > 1:  # else one value for all
            check_counts({acted.name: main.samples, name: samples})
    return partners, still


def _but(read: Mapping[str, bool], name: str) -> dict[str, bool]:
    return {other: own for other, own in read.items() if other != name}


def layouts_of_inputs(
    model: Model, acted: Input, source: Source, options: Options
) -> dict[str, str]:
    """Return the layouts of all inputs that have one, by name."""
    further = further_inputs(model, acted, options.input_layout)
    return {acted.name: source.layout} | {other.name: letters for other, letters in further}


def _action(
    opening: Opening,
    samples: Samples,
    group: Group,
    options: Options,
    own: Action | None = None,
    others_held: int = 0,
) -> LayoutAction | PlacedAction:
    """Place the group's action, or one of the user's own, on the samples of an input."""
    layout = parse_layout(opening.layout)
    if own is not None:
        return place(own, layout, samples.shape)
    check_input(group, Lettered(layout, samples.shape, True), options, others_held)
    return layout_action(group, layout, samples.shape, options.interpolation, of_input=True)


def _moved_input(
    opening: Opening,
    samples: Samples,
    indices: tuple[int, ...],
    action: LayoutAction | PlacedAction,
    options: Options,
) -> MovedInput:
    """Return an input that an action moves, masked to the disk if that is asked for."""
    layout = parse_layout(opening.layout)
    disk = options.support == "disk"
    if disk and (not layout.kept.endswith("HW") or "D" in getattr(action, "moved", "HW")):
        raise GeedError(
            f"--support disk: is for groups that move a plane, but the input is {layout}: "
            "leave it out"
        )
    intake = Intake(samples, indices)
    return MovedInput(opening, samples, indices, action, options.seed, disk, intake)
