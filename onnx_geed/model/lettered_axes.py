"""Axes with a letter each: which of them two tensors share, and how a layout spells them.

Unlike :mod:`onnx_geed.model.map_layouts`, where all but a plane stays in place, every letter counts
here, and nothing is guessed: an axis that is not surely one of the letters is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.groups import parse_layout
from onnx_geed.model.axis_parts import Axes, Axis, Part, length
from onnx_geed.model.shapes import Shape

__all__ = [
    "ALIKE",
    "FIXED",
    "FOLDED",
    "LINES",
    "LOST",
    "MADE",
    "Operand",
    "broadcast",
    "cut",
    "fixed",
    "folded",
    "is_fixed",
    "kind",
    "lettered",
    "lost",
    "mixed",
    "nonlinear",
    "of_one_place",
    "one_axis",
    "rejoined",
    "reversed_axis",
    "shrunk",
    "sized",
    "slid",
    "spelt",
]

#: Kinds of axes beside the letters of layouts: entries that no group moves.
FIXED = "C"

#: Made of the components of vectors, and vectors no more: a dense layer makes features of them.
MADE = "x"

#: The same entry over and over.
ALIKE = "*"

#: Of no kind that is known.
LOST = "?"

#: Cut out of features: features, or places of what a decoder makes of them. Of no letter, until
#: all that was cut out lies end to end again, as the heads of attention do.
FOLDED = "c"

#: Of data the axes, of a constant the lengths.
Operand = tuple[Axis | int | None, ...]


#: Axes whose entries lie side by side: a window, a crop or a stride leaves them what they are.
LINES = "TDHW"

# Axes whose entries are places; a dense layer over them mixes places.
_PLACES = LINES + "P"


def one_axis(letter: str, size: int | None) -> Axis:
    """Return an axis of one letter."""
    return (Part(letter, size, 1, size),)


def fixed(size: int | None) -> Axis:
    """Return an axis whose entries no group moves."""
    return () if size == 1 else one_axis(FIXED, size)


def lost(size: int | None) -> Axis:
    """Return an axis of which nothing is known."""
    return () if size == 1 else one_axis(LOST, size)


def lettered(text: str, shape: Shape | None) -> Axes:
    """Return the axes of a layout.

    Parameters
    ----------
    text : str
        One letter an axis.
    shape : tuple of int or None, or None
        Lengths, as far as they are known.
    """
    lengths = shape if shape is not None and len(shape) == len(text) else [None] * len(text)
    pairs = zip(text, lengths, strict=True)
    return tuple(one_axis(FIXED if letter == "K" else letter, n) for letter, n in pairs)


def kind(axis: Axis) -> str:
    """Return the letter of an axis, or another kind; empty for a single entry of no letter.

    Notes
    -----
    The patches of a line are a coarse line; the places inside a patch have no letter.
    """
    if not axis:
        return ""
    if all(part.letter == FIXED for part in axis):
        return FIXED
    if len(axis) > 1:
        return LOST
    (part,) = axis
    if part.letter == FOLDED:
        return FOLDED
    if part.size is None or part.axis_length is None:
        return part.letter
    coarse = part.letter in LINES or part.step == 1
    whole = part.size * part.step == part.axis_length
    return part.letter if coarse and whole else LOST


def is_fixed(axis: Axis) -> bool:
    """Whether no group moves an axis' entries."""
    return kind(axis) in (FIXED, ALIKE, "")


def _is_single(axis: Axis) -> bool:
    """Whether an axis has one entry, the samples' aside."""
    return kind(axis) != "N" and length(axis) == 1


def _together(one: Axis, two: Axis) -> Axis:
    """Return the axis of what is worked out entry by entry from two tensors."""
    if one == two or _is_single(two) or (kind(two) == ALIKE and kind(one) != ""):
        return one
    if _is_single(one) or kind(one) == ALIKE:
        return two
    kinds = {kind(one), kind(two)}
    size = length(one) if length(one) is not None else length(two)
    if len(kinds) == 1 and kinds != {LOST}:
        return one
    if kinds == {FIXED, FOLDED}:
        return one if kind(one) == FOLDED else two
    return one_axis(MADE, size) if kinds <= {MADE, "X", FIXED} else lost(size)


def broadcast(operands: Sequence[Operand]) -> Axes:
    """Return the axes of what is worked out entry by entry from several tensors.

    Parameters
    ----------
    operands : sequence of Operand
        Of data their axes, of constants their shape.

    Notes
    -----
    Where a constant is longer than the data, its entries are numbered, and no group moves them.
    """
    rank = max(map(len, operands), default=0)
    result: list[Axis] = [()] * rank
    constants: list[int | None] = [1] * rank
    for operand in operands:
        for back in range(1, len(operand) + 1):
            axis = operand[-back]
            if isinstance(axis, tuple):
                result[-back] = _together(result[-back], axis)
            elif axis != 1:
                constants[-back] = axis
    pairs = zip(result, constants, strict=True)
    return tuple(
        fixed(n) if n != 1 and (_is_single(axis) or kind(axis) == ALIKE) else axis
        for axis, n in pairs
    )


def sized(axes: Axes, shape: Shape | None) -> Axes | None:
    """Return axes with the lengths of a shape; what does not fit them is lost.

    ``None`` where there are not as many.
    """
    if shape is None:
        return axes
    if len(shape) != len(axes):
        return None
    result = []
    for axis, size in zip(axes, shape, strict=True):
        here = length(axis)
        if size is None or here == size:
            result.append(axis)
        elif here is None:
            result.append(one_axis(kind(axis), size))
        else:
            result.append(lost(size))
    return tuple(result)


def mixed(axis: Axis, size: int | None, *, whole: bool = False) -> Axis:
    """Return what a dense layer makes of an axis: features, unless it mixes places.

    Parameters
    ----------
    axis : Axis
        The axis that is summed over.
    size : int or None
        Length of what is made.
    whole : bool
        Whether it is all of a sample.
    """
    inner = all(part.letter not in _PLACES or _is_inner(part) for part in axis)
    known = all(part.letter not in (LOST, FOLDED, "N") for part in axis)
    return fixed(size) if whole or (inner and known) else lost(size)


def _is_inner(part: Part) -> bool:
    """Whether a part numbers places inside a patch."""
    if part.letter == "P" or part.size is None or part.axis_length is None:
        return False
    return 0 < part.size * part.step < part.axis_length


def shrunk(axis: Axis) -> Axis:
    """Return an axis that is summed up and kept with length 1."""
    return one_axis(kind(axis), 1) if kind(axis) in _PLACES and kind(axis) else ()


def cut(axis: Axis, size: int | None) -> Axis:
    """Return an axis of which some neighbouring entries are left, or more are put around them."""
    if size is not None and length(axis) == size:
        return axis
    if _is_reversed(axis):
        return reversed_axis(cut(reversed_axis(axis), size))
    if is_fixed(axis):
        return fixed(size)
    if kind(axis) and kind(axis) in LINES:
        return one_axis(kind(axis), size)
    return one_axis(MADE, size) if kind(axis) == MADE else lost(size)


def slid(axis: Axis, size: int | None) -> Axis:
    """Return an axis along which a window of several entries has been moved."""
    if _is_reversed(axis):
        return reversed_axis(slid(reversed_axis(axis), size))
    here = kind(axis)
    if here == "P" and length(axis) == size and size is not None:
        return axis  # the window that is centred on a point is that point's
    if here and here in LINES + FIXED + ALIKE:
        return cut(axis, size)
    return fixed(size) if here == "" or (size == 1 and here != "N") else lost(size)


def folded(axis: Axis) -> Axis:
    """Return an axis that was cut out of features, or of several."""
    return tuple(Part(FOLDED, p.size, p.step, p.axis_length) for p in axis)


def rejoined(axis: Axis) -> Axis:
    """Return features where all that was cut out of them lies in its place again."""
    size = inner = length(axis)
    cuts = [part for part in axis if part.letter == FOLDED]
    if not size or not inner or not cuts or any(p.letter not in (FIXED, FOLDED) for p in axis):
        return axis
    for part in axis:
        inner //= part.size or 1
        if part in cuts and (part.step, part.axis_length) != (inner, size):
            return axis
    return fixed(size)


def of_one_place(axes: Axes, i: int) -> Axes:
    """Return axes where one entry is left of what was cut out of features.

    Notes
    -----
    Of features cut in two, keys and values say, one piece is as much as a slice of them.
    """
    (gone,) = axes[i]
    rest = (*axes[:i], (), *axes[i + 1 :])
    if gone.size is None or gone.size * gone.step != gone.axis_length:
        return rest
    rest = tuple(
        tuple(
            Part(FOLDED, p.size, p.step, gone.step)
            if p.letter == FOLDED and p.axis_length == gone.axis_length
            else p
            for p in axis
        )
        for axis in rest
    )
    # Tokens in front of the samples are attention's, and no decoder's.
    first = next((kind(axis) for k, axis in enumerate(rest) if k != i), "N")
    return rest if first == "N" else tuple(map(rejoined, rest))


def reversed_axis(axis: Axis) -> Axis:
    """Return an axis turned round: of no letter, until it is turned again."""
    if is_fixed(axis):
        return axis
    return tuple(Part(p.letter, p.size, -p.step, p.axis_length) for p in axis)


def _is_reversed(axis: Axis) -> bool:
    """Whether an axis is a line that was turned round."""
    return bool(axis) and axis[0].step < 0 and kind(reversed_axis(axis)) in tuple(LINES)


def nonlinear(axes: Axes) -> Axes:
    """Return axes after a step that is not linear, after which vectors are vectors no more."""
    return tuple(
        tuple(Part(MADE if p.letter == "X" else p.letter, p.size, p.step, p.axis_length) for p in a)
        for a in axes
    )


def spelt(axes: Axes) -> str | None:
    """Return the layout of axes.

    Returns
    -------
    str or None
        ``None`` where an axis has no letter, or two have one that stands once.

    Notes
    -----
    Of two axes that stay in place the last is C, the other K. A vector of several things together,
    a flattened map say, is NK: no group moves its entries.
    """
    kinds = [kind(axis) for axis in axes]
    if kinds[:1] != ["N"] or "N" in kinds[1:]:
        return None
    if len(axes) == 2 and (is_fixed(axes[1]) or len(axes[1]) > 1):
        return "NK"
    names = ["C", "K"]
    stays = [i for i, axis in enumerate(axes) if is_fixed(axis)]
    # What has entries comes first for a name, and the last axis before others.
    for i in sorted(stays, key=lambda i: (kinds[i] == "", -i)):
        if not names:
            return None
        kinds[i] = names.pop(0)
    text = "".join(kinds)
    fits = all(text.count(x) <= (2 if x == "P" else 1) for x in text)
    if set(text) & {LOST, FOLDED, MADE, ALIKE} or not fits:
        return None
    # What is kept first is taken for the features, and what stays in place beside them averaged.
    return text if "K" not in text or parse_layout(text).kept.startswith("C") else None
