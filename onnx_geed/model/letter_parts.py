"""How letters pass through nodes that take some of the entries, or put several side by side.

A step that was taken singly has lost its axis, and so has the mean of a segment. Which places of
which axis a tensor comes from is kept beside its axes: where several such are put side by side,
they are that axis again, or of no known kind, but no features.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Collection, Sequence
from fractions import Fraction

from onnx_geed.model.axis_parts import Axes, Axis, length
from onnx_geed.model.letter_reading import NOWHERE, LetterRule, Made, Place, Places, Reading
from onnx_geed.model.lettered_axes import (
    ALIKE,
    FIXED,
    FOLDED,
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
    of_one_place,
    one_axis,
    reversed_axis,
)
from onnx_geed.model.nodes import axis_of, integer_of

__all__ = ["RULES", "taken_after"]

# Of a line that was made of another by taking a few steps away: which steps are left.
_CROP = "crop of "
_CROPS = frozenset(_CROP + letter for letter in LINES)


def _slices(r: Reading) -> list[tuple[int, int, int, int]] | None:
    """Return start, end, step and axis of each slice."""
    starts, ends, over = (r.stated(i, k) for i, k in ((1, "starts"), (2, "ends"), (3, "axes")))
    steps = r.integers.get(r.name(4)) if r.name(4) else [1] * len(starts or ())
    if not starts or not ends or not steps:
        return None
    over = list(range(len(starts))) if over is None else over
    if not len(starts) == len(ends) == len(steps) == len(over):
        return None
    return list(zip(starts, ends, steps, over, strict=True))


def _sliced(r: Reading) -> Axes | None:
    axes, slices = r.axes(0), _slices(r)
    if axes is None or slices is None:
        return None
    result = list(axes)
    for start, end, step, i in slices:
        axis, size = result[i], r.size(i)
        if kind(axis) == FOLDED and size == 1:
            result = list(of_one_place(tuple(result), i))
            continue
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
        of_one_place(axes, i)
        if kind(axes[i]) == FOLDED and r.size(i, output) == 1
        else (*axes[:i], cut(axes[i], r.size(i, output)), *axes[i + 1 :])
        for output in range(len(r.node.output))
    ]


def _resized(r: Reading) -> Axes | None:
    """Axes after entries are put around them, left out or put between them."""
    axes, shape = r.axes(0), r.made()
    if axes is None or shape is None or len(shape) != len(axes):
        return None
    # One place of many with nothing around it is no feature among others.
    placed = r.node.op_type == "Pad" and r.places(0) & ~r.known.of_letters(_CROPS)
    return tuple(
        lost(n)
        if length(axis) != n and (kind(axis) == "N" or (placed and not kind(axis)))
        else cut(axis, n)
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
    taken = [r.places(k) for k in range(len(r.node.input)) if r.name(k)]
    kinds = [{kind(a) for a in o if isinstance(a, tuple) and length(a) != 1} for o in known]
    return (*beside[:i], _end_to_end(along, size, r.known, taken, kinds), *beside[i + 1 :])


def _nothing(operand: Operand, i: int) -> Operand:
    """Return an axis of length 1, as axes or as a shape have it."""
    return ((),) if isinstance(operand[i], tuple) else (1,)


def _end_to_end(
    along: Sequence[Axis],
    size: int | None,
    places: Places,
    taken: Sequence[int],
    there: Sequence[Collection[str]],
) -> Axis:
    """Return the axis of pieces put one behind the other.

    Parameters
    ----------
    along : sequence of Axis
        The axis of each piece.
    size : int or None
        The length of all.
    places : Places
        The places of axes.
    taken : sequence of int
        From which of them each comes.
    there : sequence of collection of str
        Kinds of the axes that each has.
    """
    if len(along) == 1:
        return along[0]
    if all(map(is_fixed, along)):
        apart = _apart(places, taken, there)
        return _of_places(along, size, places, taken, apart) if apart else fixed(size)
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
    if letter not in tuple(LINES) or not same:
        return lost(size)
    rows, n = _one_behind_the_other(places, taken, letter)
    whole = size == n and rows == list(range(size or 0)) and len(along) > 1
    return one_axis(letter, size) if even or whole else lost(size)


def _apart(places: Places, taken: Sequence[int], there: Sequence[Collection[str]]) -> list[str]:
    """Return the axes of which tensors hold different places."""
    result = []
    for letter in places.letters(functools.reduce(operator.or_, taken)):
        if letter in _CROPS:
            continue
        mine = [some & places.of_letters(letter) for some in taken]
        own = set(mine) - {NOWHERE}
        if len(own) < 2:
            continue
        of_all = places.listed(functools.reduce(operator.or_, own))
        kept = all(letter in kinds for some, kinds in zip(mine, there, strict=True) if some)
        # Every second place and the ones between, side by side, are channels of a coarse line.
        strides = kept and all(_is_stride(rows, n) for _, rows, n in of_all)
        crops = {some & places.of_letters([_CROP + letter]) for some in taken}
        one_part = letter in tuple(LINES) and len(crops) == 1 and _are_one_part(of_all)
        if not (strides or one_part):
            result.append(letter)
    return result


def _are_one_part(places: Sequence[Place]) -> bool:
    """Whether places are of lines of several lengths, and of one part of all.

    The last steps of several layers that grow shorter are no steps of one line, unless one line
    was made of another by taking steps away from it.
    """
    lengths = [n for *_, n in places]
    if not all(lengths) or len(set(lengths)) < len(lengths):
        return False
    starts, stops = [], []
    for _, rows, n in places:
        ends = (rows[0], rows[-1]) if isinstance(rows, range) else rows
        starts.append(Fraction(min(ends), n))
        stops.append(Fraction(max(ends) + 1, n))
    return max(starts) < min(stops)


def _is_stride(rows: range | tuple[int, ...], n: int | None) -> bool:
    """Whether places are every second one, or every third, from end to end."""
    if not isinstance(rows, range) or n is None or rows.step < 2:
        return False
    return rows.start < rows.step and n <= rows.start + len(rows) * rows.step


def _of_places(
    along: Sequence[Axis],
    size: int | None,
    places: Places,
    taken: Sequence[int],
    apart: Sequence[str],
) -> Axis:
    """Return the axis of tensors side by side that hold different places of some axes."""
    letter, count = apart[0] if len(apart) == 1 else LOST, len(along)
    rows, n = _one_behind_the_other(places, taken, letter)
    inner = {length(axis) for axis in along}
    per = inner.pop() if len(inner) == 1 else None
    if per is None:
        return (*one_axis(LOST, size), *one_axis(FIXED, 1))
    if letter in ("X", "B"):
        outer = one_axis(MADE, count)
    elif n == count and rows == list(range(count)):
        outer = one_axis(letter, count)
    elif n == count and rows == list(range(count))[::-1]:
        outer = reversed_axis(one_axis(letter, count))
    else:
        outer = one_axis(LOST, count)
    # A vector of several things stays one.
    return outer if per == 1 and letter != LOST else (*outer, *one_axis(FIXED, per))


def _one_behind_the_other(
    places: Places, taken: Sequence[int], letter: str
) -> tuple[list[int], int | None]:
    """Return the places of an axis that tensors hold, one after the other, and its length.

    No places where one of them holds none, or several apart, besides those that all hold.
    """
    asked = places.of_letters(letter) & ~functools.reduce(operator.and_, taken)
    own = [some & asked for some in taken]
    if any(some.bit_count() != 1 for some in own):
        return [], None
    each = [place for some in own for place in places.listed(some)]
    lengths = {n for *_, n in each}
    return (
        ([row for _, rows, _ in each for row in rows], lengths.pop())
        if len(lengths) == 1
        else ([], None)
    )


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
    if kind(axes[i]) == FOLDED and math.prod(n or 0 for n in _sizes(index)) == 1:
        axes = of_one_place(axes, i)
    return (*axes[:i], *_chosen(axes[i], index, r.integers.get(r.name(1))), *axes[i + 1 :])


def _sizes(index: Operand) -> list[int | None]:
    """Return the lengths of a constant."""
    return [n for n in index if not isinstance(n, tuple)]


def _chosen(axis: Axis, index: Operand, places: list[int] | None) -> Axes:
    """Return the axes of entries picked along one: none for a single entry."""
    sizes = _sizes(index)
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


# ------------------------------------------------------------------------------------------------
# Places
# ------------------------------------------------------------------------------------------------


def taken_after(r: Reading, made: Sequence[Axes | None]) -> list[int]:
    """Return from which places of longer axes a node's outputs come.

    Parameters
    ----------
    r : Reading
        The node.
    made : sequence of Axes or None
        Axes of its outputs.
    """
    operands = [r.taken[name] for name in r.data if name in r.taken]
    before = functools.reduce(operator.or_, operands, NOWHERE)
    axes, op, outputs = r.axes(0), r.node.op_type, len(r.node.output)
    if op == "Concat" and before and made[0] is not None:
        kept = [r.places(k) for k in range(len(r.node.input)) if r.name(k)]
        along = made[0][axis_of(r.node, 0, len(made[0]))]
        whole = {part.letter for part in along} - {LOST, FOLDED}
        shared = functools.reduce(operator.and_, kept)
        return [before & (shared | ~r.known.of_letters(whole))] * outputs
    if axes is None or op not in ("Slice", "Split", "Gather"):
        return [before] * outputs
    if op == "Slice":
        for start, end, step, i in _slices(r) or ():
            here = length(axes[i])
            if here is not None and step:
                rows = range(*slice(start, end, step).indices(here))
                before |= _places(r.known, axes[i], rows)
        return [before] * outputs
    i = axis_of(r.node, 0, len(axes))
    if op == "Gather":
        index = r.integers.get(r.name(1)) if not r.is_data(1) else None
        here = length(axes[i])
        places = tuple(n % here if here else n for n in index or ())
        return [before | _places(r.known, axes[i], places)] * outputs
    result, at = [], 0
    for k in range(outputs):
        size = r.size(i, k)
        if size is None:
            return [before] * outputs
        result.append(before | _places(r.known, axes[i], range(at, at + size)))
        at += size
    return result


def _places(known: Places, axis: Axis, rows: range | tuple[int, ...]) -> int:
    """Return the places of an axis that are left, where they are few.

    A crop that leaves more than half of an axis is none of its parts, since no two are apart; it is
    kept apart from them.
    """
    here = length(axis)
    different = len(rows) if isinstance(rows, range) else len(set(rows))
    few = 2 * different <= here if here is not None else len(rows) == 1
    if not rows or is_fixed(axis) or kind(axis) in ("N", MADE):
        return NOWHERE
    if not few:
        crop = here is not None and different < here and isinstance(rows, range)
        own = _CROP + kind(axis)
        return known.bit((own, rows, here)) if crop and own in _CROPS else NOWHERE
    letter = LOST if kind(axis) == FOLDED else kind(axis)
    return known.bit((letter, rows if len(rows) > 1 else tuple(rows), here))


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
