"""What is held in memory to move samples and maps: tables, and the rows that loops compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Group,
    Layout,
    LayoutAction,
    Lettered,
    PlacedAction,
    check_moves,
    parse_layout,
    table_bytes,
)
from onnx_geed.measures import Layer, Measure, Plan, descriptor_of, loop_bytes
from onnx_geed.run.feeds import Still
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.options import Options
from onnx_geed.run.room import room_in
from onnx_geed.text import counted

__all__ = [
    "check_input",
    "check_moving",
    "check_tables",
    "held_by_loops",
    "held_by_orbits",
    "moving_bytes",
    "tables_of_run",
]


# One is run while the next is made, and that before is looked up once more, for a pair of samples.
# They are of float32, or of whole numbers no larger.
_ORBITS, _NUMBER = 3, 4

# Of scores that are moved back: an element's in float64, as they are, moved, in order.
_ELEMENT = 6


def check_input(group: Group, moved: Lettered, options: Options, others_held: int = 0) -> None:
    """Refuse an input whose tables and orbits memory does not hold, before they are made.

    Parameters
    ----------
    group : Group
        The acting group.
    moved : Lettered
        The input.
    options : Options
        The budget, and the interpolation.
    others_held : int
        Bytes of the tables of other groups, which are measured in the same run.

    Raises
    ------
    GeedError
        If they take more than the budget leaves.
        If the group does not act on the input.
    """
    orbits = _ORBITS * group.order * _bytes(moved.lengths)
    _check(group, [moved], orbits, options, others_held)


def check_moving(main: MovedInput, name: str, partners: Mapping[str, MovedInput]) -> list[str]:
    """Refuse a group some of whose elements move no input.

    Parameters
    ----------
    main : MovedInput
        The acted-on input.
    name : str
        Its name.
    partners : mapping of str to MovedInput
        Other inputs that the group moves, by name.

    Returns
    -------
    list of str
        A note where it moves others alone.

    Raises
    ------
    GeedError
        If there are such elements.
    """
    action = main.action
    # How far a family moves samples, and a result's gain, are those of the acted-on input.
    along = () if action.group.family is not None else partners.values()
    others = [own.action for own in along if isinstance(own.action, LayoutAction)]
    check_moves(action, disk=main.disk, beside=others)
    if not others or not isinstance(action, LayoutAction) or action.moved:
        return []
    return [Still(main.opening, main.samples).note(name, action.group.name)]


def check_tables(
    group: Group,
    moved: Sequence[MovedInput],
    measured: Iterable[tuple[str, Layer]],
    options: Options,
    others_held: int = 0,
) -> None:
    """Refuse what moves inputs and layers by their letters, before it is made.

    Parameters
    ----------
    group : Group
        The acting group.
    moved : sequence of MovedInput
        The inputs that it moves; none where activations are at hand.
    measured : iterable of (str, Layer)
        Names of measures, and the layers that they are on.
    options : Options
        The budget, and the interpolation.
    others_held : int
        Bytes of the tables of other groups, which are measured in the same run.

    Raises
    ------
    GeedError
        If they take more than the budget leaves.
    """
    if any(isinstance(own.action, PlacedAction) for own in moved):
        return  # what an action of one's own holds is its own
    tensors = [Lettered(parse_layout(own.layout), own.samples.shape, True) for own in moved]
    for name, layer in measured:
        if descriptor_of(name).actions == "trivial" or len(layer.shape) < 2:
            continue
        # A layer that does not move like this is told of where it is bound.
        with suppress(GeedError):
            tensor = Lettered(parse_layout(layer.layout), layer.kept_shape)
            table_bytes(group, [tensor], options.interpolation)
            tensors.append(tensor)
    orbits = _ORBITS * group.order * sum(_bytes(own.samples.shape) for own in moved)
    if tensors:
        _check(group, tensors, orbits, options, others_held)


def _check(
    group: Group, tensors: Sequence[Lettered], orbits: int, options: Options, others_held: int
) -> None:
    shape = "×".join(map(str, tensors[0].lengths))
    told = f"the tables by which {group.name} moves tensors, such as of {shape}"
    if orbits:
        told = f"an orbit of {counted(group.order, 'element')} under {group.name}, of samples of "
        told += f"{shape}, and the tables that make it"
    if others_held:
        told += " and those of the other groups"
    room_in(options.memory).check(
        orbits + table_bytes(group, tensors, options.interpolation) + others_held,
        f"{told}, take {{}}",
        "use smaller samples or a group of fewer elements",
    )


def _bytes(shape: Sequence[int]) -> int:
    return _NUMBER * math.prod(shape)


def moving_bytes(moved: Sequence[MovedInput]) -> int:
    """Return the bytes of the orbits that are held at once, and of the tables that make them."""
    orbits = [own.action.group.order * _bytes(own.samples.shape) for own in moved]
    return tables_of_run(moved, ()) + _ORBITS * sum(orbits)


def tables_of_run(moved: Sequence[MovedInput], measures: Iterable[Measure]) -> int:
    """Return about the bytes of the tables by which inputs and measured tensors move."""
    first = moved[0].action
    if not isinstance(first, LayoutAction):  # one's own: what acts by tables of it has them by now
        own = (m.action.moves for m in measures if isinstance(m.action, LayoutAction))
        return sum({id(tables): tables.bytes for tables in own}.values())
    actions = [*((own.action, True) for own in moved), *((m.action, False) for m in measures)]
    tensors = [
        Lettered(_layout_of(action), action.lengths, of_input)
        for action, of_input in actions
        if isinstance(action, LayoutAction)
    ]
    return table_bytes(first.group, tensors, first.interpolation)


def held_by_orbits(plan: Plan, *, references: bool) -> tuple[int, int]:
    """Return the bytes of orbits that lie in memory whole, since no sums are all that is needed.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    references : bool
        Whether maps are compared with round trips too.

    Returns
    -------
    of_worker : int
        Activations as the model gave them, and as the measure that works on most of them has them.
    of_all : int
        What the first sample and the last leave to be compared with others.
    """
    n, size = plan.group.order, {name: layer.bytes for name, layer in plan.layers.items()}
    whole = [m for m in plan.measures if references or not _streams(m)]
    kept = n * sum(size[name] for name in {m.layer for m in whole})
    each = [_operands_bytes(m, plan.layers[m.layer], n) for m in whole]
    beside = [_beside_bytes(m, own, size[m.layer]) for m, own in zip(whole, each, strict=True)]
    # The last sample's stay until those of the first are there, or the other way round.
    return kept + sum(each) + max(beside, default=0), sum(each)


def _operands_bytes(measure: Measure, layer: Layer, n: int) -> int:
    """Return the bytes of an orbit as a measure compares it; of vectors next to none."""
    view = measure.descriptor.view
    if view == "points":
        return 0
    times = 1.0 if view == "maps" else 2.0  # float64
    return int(n * times * layer.bytes / (layer.classes if view == "classes" else 1))


def _beside_bytes(measure: Measure, operands: int, size: int) -> int:
    """Return the bytes that are worked in beside them."""
    if measure.descriptor.view == "whole":
        return operands  # differences
    if measure.descriptor.view == "scores" and len(measure.averaged) > 1:
        return 2 * operands  # probabilities, of which the mean is f̂
    return _ELEMENT * size


def _streams(measure: Measure) -> bool:
    """Whether the sums of maps are all that a measure needs of them."""
    return measure.descriptor.view == "maps" and measure.drawn is None


def _layout_of(action: LayoutAction) -> Layout:
    """Return the letters of an action's lengths, be they those of a plane alone."""
    kept, rank = action.layout.kept, len(action.lengths)
    return action.layout if rank == len(kept) else parse_layout(f"N{kept[-rank:]}")


def held_by_loops(measures: Iterable[Measure], elements: int) -> int:
    """Return the bytes that a worker holds to compare the maps of so many elements."""
    maps = [m.action for m in measures if m.descriptor.view == "maps"]
    each = (loop_bytes(action, elements) for action in maps if isinstance(action, LayoutAction))
    return max(each, default=0)
