"""How letters pass through nodes that take some of the entries, or put several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.model.axis_parts import Axes, Axis, length
from onnx_geed.model.letter_reading import LetterRule, Made, Reading
from onnx_geed.model.lettered_axes import (
    ALIKE,
    FIXED,
    LINES,
    LOST,
    MADE,
    Operand,
    broadcast,
    cut,
    fixed,
    is_fixed,
    kind,
    lost,
    nonlinear,
    one_axis,
    reversed_axis,
)
from onnx_geed.model.nodes import axis_of, integer_of

__all__ = ["RULES"]


def _sliced(r: Reading) -> Axes | None:
    axes = r.axes(0)
    starts, ends, over = (r.stated(i, k) for i, k in ((1, "starts"), (2, "ends"), (3, "axes")))
    steps = r.integers.get(r.name(4)) if r.name(4) else [1] * len(starts or ())
    if axes is None or not starts or not ends or not steps:
        return None
    over = list(range(len(starts))) if over is None else over
    if not len(starts) == len(ends) == len(steps) == len(over):
        return None
    result = list(axes)
    for start, end, step, i in zip(starts, ends, steps, over, strict=True):
        axis, size = result[i], r.size(i)
        whole = size == length(axis) if size is not None else start == 0 and end >= 1 << 31
        if step == -1 and size is not None and whole:
            result[i] = reversed_axis(axis)
        elif step < 0:
            result[i] = fixed(size) if is_fixed(axis) else lost(size)
        elif not whole or step > 1:
            result[i] = cut(axis, size)
    return tuple(result)


def _split(r: Reading) -> Made:
    axes = r.axes(0)
    if axes is None:
        return None
    i = axis_of(r.node, 0, len(axes))
    return [
        (*axes[:i], cut(axes[i], r.size(i, output)), *axes[i + 1 :])
        for output in range(len(r.node.output))
    ]


def _resized(r: Reading) -> Axes | None:
    """Axes after entries are put around them, left out or put between them."""
    axes, shape = r.axes(0), r.made()
    if axes is None or shape is None or len(shape) != len(axes):
        return None
    return tuple(
        lost(n) if kind(axis) == "N" and length(axis) != n else cut(axis, n)
        for axis, n in zip(axes, shape, strict=True)
    )


def _joined(r: Reading) -> Axes | None:
    shape = r.made()
    operands = [r.operand(i) for i in range(len(r.node.input)) if r.name(i)]
    known = [operand for operand in operands if operand is not None]
    ranks = {len(operand) for operand in known}
    if len(known) < len(operands) or len(ranks) != 1:
        return None
    rank = ranks.pop()
    i = axis_of(r.node, 0, rank)
    beside = broadcast([(*o[:i], *_nothing(o, i), *o[i + 1 :]) for o in known])
    along = [own if isinstance(own := operand[i], tuple) else fixed(own) for operand in known]
    size = shape[i] if shape is not None and len(shape) == rank else None
    if size is None and all(length(axis) is not None for axis in along):
        size = sum(length(axis) or 0 for axis in along)
    return (*beside[:i], _end_to_end(along, size), *beside[i + 1 :])


def _nothing(operand: Operand, i: int) -> Operand:
    """Return an axis of length 1, as axes or as a shape have it."""
    return ((),) if isinstance(operand[i], tuple) else (1,)


def _end_to_end(along: Sequence[Axis], size: int | None) -> Axis:
    """Return the axis of pieces put one behind the other."""
    if len(along) == 1:
        return along[0]
    if all(map(is_fixed, along)):
        return fixed(size)
    kinds = set(map(kind, along))
    if kinds <= {"X", "B", MADE, FIXED, ALIKE, ""}:
        return one_axis(MADE, size)
    lengths = [length(axis) for axis in along]
    if None in lengths:
        return lost(size)
    # A line with as much put before it as behind it is a line; what is put there, its own ends say.
    widest = max(range(len(along)), key=lambda i: lengths[i] or 0)
    letter = kind(along[widest])
    even = sum(n or 0 for n in lengths[:widest]) == sum(n or 0 for n in lengths[widest + 1 :])
    same = all(is_fixed(a) or {p.letter for p in a} == {letter} for a in along)
    return one_axis(letter, size) if letter in tuple(LINES) and even and same else lost(size)


def _picked(r: Reading) -> Axes | None:
    """Axes after Gather: of constant places, or of constant rows by numbers that are data."""
    axes, index = r.axes(0), r.operand(1)
    if index is None:
        return None
    if not r.is_data(0):
        table = r.shape(0)
        numbers = r.axes(1)
        if table is None or numbers is None:
            return None
        i = axis_of(r.node, 0, len(table))
        return (*map(fixed, table[:i]), *nonlinear(numbers), *map(fixed, table[i + 1 :]))
    if axes is None or r.is_data(1):
        return None
    i = axis_of(r.node, 0, len(axes))
    return (*axes[:i], *_chosen(axes[i], index, r.integers.get(r.name(1))), *axes[i + 1 :])


def _chosen(axis: Axis, index: Operand, places: list[int] | None) -> Axes:
    """Return the axes of entries picked along one: none for a single entry."""
    sizes = [n for n in index if not isinstance(n, tuple)]
    if is_fixed(axis):
        return tuple(fixed(n) for n in sizes)
    if len(sizes) != 1:
        return tuple(one_axis(LOST, n) for n in sizes)
    here = length(axis)
    if not here or not places:
        return (lost(sizes[0]),)
    rows = [place % here for place in places]
    if rows == list(range(here))[::-1]:
        return (reversed_axis(axis),)
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return (cut(axis, sizes[0]),)
    # A ring, as much of its end in front as of its beginning behind.
    around = len(rows) - here
    ring = [(i - around // 2) % here for i in range(len(rows))]
    if around > 0 and around % 2 == 0 and rows == ring and kind(axis) in tuple(LINES):
        return (cut(axis, sizes[0]),)
    return (lost(sizes[0]),)


def _picked_by_entry(r: Reading) -> Axes | None:
    """Axes after GatherElements: those of both, along one axis those of the places."""
    axes, index = r.axes(0), r.operand(1)
    if axes is None or index is None or len(index) != len(axes):
        return None
    i = axis_of(r.node, 0, len(axes))
    own = index[i]
    along = own if isinstance(own, tuple) else fixed(own) if is_fixed(axes[i]) else lost(own)
    beside = broadcast([(*o[:i], *_nothing(o, i), *o[i + 1 :]) for o in (nonlinear(axes), index)])
    return (*beside[:i], along, *beside[i + 1 :])


def _picked_by_place(r: Reading) -> Axes | None:
    """Axes after GatherND of neighbours: (N, P, C) by places (N, P, k, 1) is (N, P, k, C)."""
    axes, index = r.axes(0), r.axes(1)
    ahead = integer_of(r.node, "batch_dims", 0)
    deep = length(index[-1]) if index else None
    if axes is None or not index or deep is None or ahead == 0 or len(index) <= ahead:
        return None
    shared = broadcast([axes[:ahead], index[:ahead]])
    return (*shared, *index[ahead:-1], *axes[ahead + deep :])


def _largest(r: Reading) -> Axes | None:
    """Axes after TopK: the places in a ranking move with nothing."""
    axes = r.axes(0)
    if axes is None:
        return None
    i = axis_of(r.node, -1, len(axes))
    size = r.size(i)
    ranks = fixed(size) if kind(axes[i]) in tuple("TPDHWB") or is_fixed(axes[i]) else lost(size)
    axes = nonlinear(axes)
    return (*axes[:i], ranks, *axes[i + 1 :])


def _one_hot(r: Reading) -> Axes | None:
    axes = r.axes(0)
    if axes is None:
        return None
    i = axis_of(r.node, -1, len(axes) + 1)
    return (*axes[:i], fixed(r.size(i)), *axes[i:])


RULES: list[tuple[LetterRule, str]] = [
    (_sliced, "Slice"),
    (_split, "Split"),
    (_resized, "Pad Resize Upsample"),
    (_joined, "Concat"),
    (_picked, "Gather"),
    (_picked_by_entry, "GatherElements"),
    (_picked_by_place, "GatherND"),
    (_largest, "TopK"),
    (_one_hot, "OneHot"),
]
