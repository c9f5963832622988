"""The source of model inputs: the samples of D, the group's action on them, and their feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    Exactness,
    Group,
    LayoutAction,
    Lettered,
    PlacedAction,
    check_bases,
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
    Feed,
    Still,
    check_lengths,
    feeds_of,
    notes_on_axes,
    notes_on_preparation,
    refuse_acted_on,
)
from onnx_geed.run.first_row import FirstRow
from onnx_geed.run.mask import Mask, check_taker, make_mask
from onnx_geed.run.moved_input import MovedInput, Opening, chosen_preprocess, with_lengths
from onnx_geed.run.moving import check_input, check_moving
from onnx_geed.run.on_group import as_asked
from onnx_geed.run.options import Options, drawn_notes
from onnx_geed.run.row_check import RowCheck

__all__ = ["Source", "layouts_of_inputs", "make_source", "source_of"]


@dataclass(frozen=True, eq=False)
class Source:
    """Samples and what the group does to them.

    Parameters
    ----------
    main : MovedInput
        The acted-on input, whose samples are D.
    partners : mapping of str to MovedInput
        Other inputs that the group moves along with it.
    feeds : mapping of str to Feed
        The inputs that it does not move.
    check : RowCheck or FirstRow, optional
        Which rows of a batch are compared with the same ones alone: some, where nothing proves that
        they are independent, else the first.
    mask : Mask, optional
        Which entries are padding.
    place_labels : ndarray of int32, shape (available, ...), optional
        The class of each place of the samples.
    """

    main: MovedInput
    partners: Mapping[str, MovedInput] = field(default_factory=dict, repr=False)
    feeds: Mapping[str, Feed] = field(default_factory=dict, repr=False)
    check: RowCheck | FirstRow | None = None
    mask: Mask | None = None
    place_labels: NDArray[np.int32] | None = field(default=None, repr=False)

    @property
    def samples(self) -> Samples:
        """The data of the acted-on input, before the action."""
        return self.main.samples

    @property
    def indices(self) -> tuple[int, ...]:
        """D, in order."""
        return self.main.indices

    @property
    def action(self) -> LayoutAction | PlacedAction:
        """The action on the acted-on input."""
        return self.main.action

    @property
    def layout(self) -> str:
        """The model's layout of the acted-on input."""
        return self.main.layout

    @property
    def disk(self) -> bool:
        """Whether samples are masked to the disk before the action."""
        return self.main.disk

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row of the acted-on input, in the model's own layout."""
        return self.main.row_shape

    @property
    def moved(self) -> tuple[MovedInput, ...]:
        """All inputs that the group moves."""
        return (self.main, *self.partners.values())

    def exact(self) -> tuple[Exactness, ...]:
        """How each element moves the inputs: the worst counts."""
        kinds = list(Exactness)
        each = zip(*(moved.action.exact() for moved in self.moved), strict=True)
        return tuple(max(of_inputs, key=kinds.index) for of_inputs in each)

    def over(self, indices: tuple[int, ...], check: RowCheck | FirstRow | None) -> Source:
        """Return the same with a smaller D, and what is checked on it."""
        partners = {k: replace(moved, indices=indices) for k, moved in self.partners.items()}
        main = replace(self.main, indices=indices)
        return replace(self, main=main, partners=partners, check=check)

    def sample(self, position: int) -> NDArray[Any]:
        """Return the sample at a position of D, as the group acts on it."""
        return self.main.sample(position)

    def label(self, position: int) -> str:
        """Name the sample at a position of D, for messages."""
        index, names = self.indices[position], self.samples.names
        return f"sample {index} ({names[index]})" if names else f"sample {index}"

    def rows(self, positions: Sequence[int], *, orbits: bool = True) -> NDArray[Any]:
        """Return the rows of the acted-on input: orbits, or identities alone, at positions of D.

        Returns
        -------
        ndarray of float32 or whole numbers, shape (len(positions)·n, ...)
            In the model's layout, sample by sample, identity first.
        """
        return self.main.rows(positions, orbits=orbits)

    def fed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Bring samples (rows, ...), already moved, to what the model is fed."""
        return self.main.fed(rows)

    def other_inputs(self, positions: Sequence[int], n: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for ``n`` rows of each sample.

        Those that the group moves have the rows of whole orbits, or of identities for one row.
        """
        moved = {k: m.given(m.rows(positions, orbits=n > 1)) for k, m in self.partners.items()}
        return moved | self._fed_as_they_are(positions, n)

    def trial_inputs(self, count: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for so many rows, all those of the first sample."""
        first = self.other_inputs([0], 1)
        moved = {name: np.repeat(first[name], count, axis=0) for name in self.partners}
        return moved | self._fed_as_they_are([0], count)

    def trip_inputs(self, position: int) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for the rows of :meth:`MovedInput.trip_rows`."""
        moved = {k: m.given(m.trip_rows(position)) for k, m in self.partners.items()}
        return moved | self._fed_as_they_are([position], self.main.trip_count)

    def _fed_as_they_are(self, positions: Sequence[int], n: int) -> dict[str, NDArray[Any]]:
        samples = np.repeat(np.array([self.indices[p] for p in positions], dtype=np.int64), n)
        return {name: feed.batch(samples) for name, feed in self.feeds.items()}

    def part_of(self, feeds: Mapping[str, NDArray[Any]], part: slice) -> dict[str, NDArray[Any]]:
        """Return the values of the other inputs for some of the rows that they are for."""
        return {
            name: value if name in self.feeds and self.feeds[name].rows == "whole" else value[part]
            for name, value in feeds.items()
        }


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
    stated = options.input_layout
    refuse_acted_on(options.feed, acted)
    further = further_inputs(model, acted, stated)
    # An action of one's own moves one input.
    along = () if own is not None else (i.name for i, _ in further if i.name not in options.feed)
    names = [acted.name, *along]
    held = named_inputs(data, names, [i.name for i in inputs(model) if i.name not in names])
    read = {i.name: i.name in held and i.name not in options.feed for i in inputs(model)}
    del read[acted.name]
    try:
        layout = input_layout(model, acted, stated)
    except GeedError:
        # Lengths that the file leaves free are those of the data.
        layout = input_layout(model, with_lengths(acted, data, options.allowed, read), stated)
    key = acted.name if acted.name in held else None
    preprocess, masked = chosen_preprocess(model, options, acted.name), bool(options.mask)
    allowed = options.allowed
    opening = Opening(
        *(data, acted.shape[1:], layout, preprocess, key, acted.dtype, masked, allowed, read)
    )
    labels = place_labels_of(options.labels, allowed)
    samples = (
        opening.samples(options.labels if labels is None else None)
        if beside is None
        else beside.samples
    )
    if labels is not None and len(labels) != len(samples):
        raise GeedError(
            f"--labels: has {' × '.join(map(str, labels.shape))} labels for {len(samples)} "
            "samples: give one per sample, or one per place of each sample"
        )
    indices, count, notes = _drawn(len(samples), options)
    if group.onward is not None:
        how = ", independently of each other" if group.independent else ""
        notes.append(f"the elements of {group.name} are drawn separately for each sample{how}")
    action = _action(opening, samples, group, options, own, others_held)
    main = _moved_input(opening, samples, indices, action, options)
    if beside is not None:
        main = replace(main, intake=beside.main.intake)
    given = [one for one in further if one[0].name in options.feed or read[one[0].name]]
    partners, still = _partners(model, given, data, main, acted, options, read)
    notes += check_moving(main, acted.name, partners)
    notes += _on_values(main)
    backdrop = backdrop_of(main.action.group, main.samples, options)
    if backdrop is not None and isinstance(main.action, LayoutAction):
        named = replace(main.action, group=backdrop.named(main.action.group))
        main = replace(main, action=named, backdrop=backdrop)
    if group.family is not None and group.family.own is not None:
        first = main.samples[indices[0]]
        main = replace(main, members=group.family.own.digest(first, indices[0]))
    if isinstance(main.action, PlacedAction):
        first = np.asarray(main.samples[indices[0]], dtype=np.float32)
        main = replace(main, members=main.action.digest(first))
    moved = {acted.name: main} | partners
    mover = main.action.group.name if own is None else None
    notes += [one.note(name, mover) for name, one in still.items()]
    opened: dict[str, MovedInput | Still] = {**moved, **still}
    notes += notes_on_preparation(opened, options.feed)
    check_lengths(model, opened)
    check_bases(group, [own_input.action for own_input in moved.values()])
    others = {i.name: i for i in inputs(model) if i.name not in opened}
    unused = None if options.labels is not None else samples.unused
    if unused is not None:
        notes.append(f"{unused.name}{unused.place} is not used for labels: {unused.fault}")
    mask, taken = make_mask(model, options.mask, opened, tuple(others), group, options)
    if mask is None and any(one.samples.lengths is not None for one in opened.values()):
        notes.append(
            "samples of different lengths are padded with zeros, which are measured too; --mask "
            "INPUT leaves them out"
        )
    if mask is not None and taken is not None:
        taker = others[next(iter(options.mask))]
        if taker.name in options.feed:
            raise GeedError(
                f"--feed {taker.name}: --mask {taker.name} already sets its values; give one of "
                "the two"
            )
        check_taker(taker, mask)
        marks = Opening(taken, taker.shape[1:], f"N{mask.letter}", None, None, taker.dtype)
        marked = marks.samples()
        action = _action(marks, marked, group, options)
        # Which points are real is asked of all of them, with a disk too.
        whole = replace(options, support="full")
        moved[taker.name] = _moved_input(marks, marked, indices, action, whole)
    fed = {name: value for name, value in options.feed.items() if name not in opened}
    fed |= {name: one.values() for name, one in still.items()}
    rest = [name for name in held if name not in moved | fed]
    fed |= {name: array_named(data, name, allowed, _but(read, name)) for name in rest}
    feeds = feeds_of(model, tuple(moved), acted, len(samples), fed, allowed)
    plain = {k: feed for k, feed in feeds.items() if k not in still}
    notes += notes_on_axes(model, acted, plain, len(samples))
    partners = {name: other for name, other in moved.items() if name != acted.name}
    return Source(main, partners, feeds, mask=mask, place_labels=labels), count, notes


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
        samples, action = opening.samples(), None
        if isinstance(main.action, LayoutAction):  # one's own moves one input
            action = _action(opening, samples, main.action.group, options)
        if isinstance(action, LayoutAction) and action.moved:
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
