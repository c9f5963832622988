"""The parts of a tensor's axes: letters, and the factors into which a Reshape cuts them.

A Reshape joins axes and cuts them again, as (N, C, H, W) → (N, C, H·W) → (N, C, H, W) does, or the
windows of a transformer. Lengths alone do not tell a grid from its transpose; the parts of each
axis do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx_geed.model.shapes import Shape

__all__ = [
    "Axes",
    "Axis",
    "Part",
    "convolved",
    "from_letters",
    "is_swapped",
    "length",
    "letter",
    "letters",
    "reduced",
    "reshaped",
    "tokens_layout",
    "vector_layout",
    "with_lengths",
]


@dataclass(frozen=True)
class Part:
    """An axis of the input or of a map, or a factor of one.

    Parameters
    ----------
    letter : str
        ``N``, ``H`` or ``W``; ``C`` for all that stays in place; ``?`` for what is lost.
    size : int or None
        Its length.
    step : int
        How far apart, along that axis, two neighbours of this part are.
    axis_length : int or None
        Length of the axis of which it is a factor.
    """

    letter: str
    size: int | None
    step: int = 1
    axis_length: int | None = None


Axis = tuple[Part, ...]


Axes = tuple[Axis, ...]


def from_letters(text: str, shape: Shape | None) -> Axes:
    """Return axes of which each is one part.

    Parameters
    ----------
    text : str
        One letter an axis; all but N, H and W stay in place.
    shape : tuple of int or None, or None
        Lengths, as far as they are known.

    Returns
    -------
    tuple of tuple of Part
    """
    lengths = shape if shape is not None and len(shape) == len(text) else [None] * len(text)
    pairs = zip(text, lengths, strict=True)
    return tuple((Part(x if x in "NHW?" else "C", n, 1, n),) for x, n in pairs)


@functools.lru_cache(maxsize=1 << 12)  # of a deep network most tensors have the same
def letters(axes: Axes | None) -> str | None:
    """Return one letter an axis, where the axes are those of a map.

    Parameters
    ----------
    axes : tuple of tuple of Part or None
        The parts of each axis.

    Returns
    -------
    str or None
        Of N, H and W, once each, and C; ``None`` where an axis is of another kind.

    Notes
    -----
    A coarse grid, of which the places inside a patch have become channels, is a grid; so is a fine
    one, into which channels were unfolded. Both must have come about along H and W alike.
    """
    if axes is None:
        return None
    text = "".join(letter(axis) for axis in axes)
    if sorted(text.replace("C", "")) != ["H", "N", "W"]:
        return None
    down, right = (axes[text.index(x)] for x in "HW")
    alike = (down[0].step > 1, len(down) > 1) == (right[0].step > 1, len(right) > 1)
    # What lies inside the steps of a grid that is not coarse would be half of an axis.
    channels = [part for x, axis in zip(text, axes, strict=True) if x == "C" for part in axis]
    inside = any(part.letter != "C" for part in channels)
    return text if alike and (down[0].step > 1 or not inside) else None


def letter(axis: Axis) -> str:
    """Return the letter of an axis; ``?`` where it is of no one kind."""
    made_of = {part.letter for part in axis}
    if made_of <= {"C"}:
        return "C"
    first = axis[0]
    if made_of == {"N"}:
        return "N" if len(axis) == 1 and first.size == first.axis_length else "?"
    if _is_outermost(first) and made_of <= {first.letter, "C"}:
        return first.letter
    return "C" if made_of <= {"C", "H", "W"} and not any(map(_is_outermost, axis)) else "?"


def _is_outermost(part: Part) -> bool:
    if part.letter not in "HW":
        return False
    return (
        part.size is None or part.axis_length is None or part.size * part.step == part.axis_length
    )


def is_swapped(axes: Axes | None) -> bool:
    """Whether W lies in front of H in a map."""
    text = letters(axes)
    return text is not None and text.index("W") < text.index("H")


def tokens_layout(axes: Axes | None, beside: tuple[int, Axis, int] | None) -> str:
    """Spell the layout of three axes.

    Parameters
    ----------
    axes : tuple of tuple of Part or None
        The parts of each axis.
    beside : tuple of (int, Axis, int) or None
        Where other tokens stand beside a grid's: the axis, the grid's parts, place of its first.

    Returns
    -------
    str
        ``NTD:<H>x<W>+<others>`` where tokens are a grid row by row, others in front of them; else
        ``NTD``.
    """
    if axes is None or len(axes) != 3:
        return "NTD"
    axis, parts, ahead = beside or (1, axes[1], 0)
    if axis != 1 or letters((axes[0], *((part,) for part in parts), axes[2])) != "NHWC":
        return "NTD"
    height, width = (part.size or 0 for part in parts)
    if ahead + height * width != length(axes[1]):  # others stand behind them
        return "NTD"
    return f"NTD:{height}x{width}" + (f"+{ahead}" if ahead else "")


def vector_layout(axes: Axes | None) -> str:
    """Spell the layout of a vector a sample: ``NH`` or ``NW`` of rows or columns, else ``NK``.

    Parameters
    ----------
    axes : tuple of tuple of Part or None
        The parts of each axis.
    """
    if axes is None or len(axes) != 2 or len(axes[1]) != 1 or length(axes[1]) == 1:
        return "NK"
    own = letter(axes[1])
    return f"N{own}" if own in ("H", "W") else "NK"


def length(axis: Axis) -> int | None:
    """Return the length of an axis; ``None`` where a part's is unknown."""
    sizes = [part.size for part in axis]
    return math.prod(size or 0 for size in sizes) if None not in sizes else None


def with_lengths(axes: Axes, shape: Shape | None) -> Axes | None:
    """Return the axes of a tensor whose axes are the same, but for some lengths.

    Parameters
    ----------
    axes : tuple of tuple of Part
        The parts of each axis before.
    shape : tuple of int or None, or None
        The lengths that they have now.

    Returns
    -------
    tuple of tuple of Part or None
        ``None`` where there are not as many.
    """
    text = letters(axes)
    if shape is None:
        return from_letters(text, None) if text else None
    if len(shape) != len(axes):
        return None
    result = []
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if size is not None and length(axis) == size:
            result.append(axis)
        else:
            here = text[i] if text else "C" if letter(axis) == "C" else "?"
            result += from_letters(here, (size,))
    return tuple(result)


def reshaped(axes: Axes, shape: Shape, batch: int | None) -> Axes | None:
    """Return the axes after a Reshape.

    Parameters
    ----------
    axes : tuple of tuple of Part
        The axes before.
    shape : tuple of int or None
        Lengths after it.
    batch : int or None
        Length of N: where it is 1, N is where axis 0 has length 1.

    Returns
    -------
    tuple of tuple of Part or None
        ``None`` where lengths are unknown or do not fit.
    """
    parts = [part for axis in axes for part in axis]
    if any(part.size is None for part in parts) or None in shape:
        return None
    left = _joined(part for part in parts if part.size != 1)
    result: list[Axis] = []
    for size in shape:
        axis, need = [], size or 0
        while need != 1:
            part = left.pop(0) if left else None
            if part is None or not part.size or not need:
                return None
            if need % part.size == 0:
                axis.append(part)
                need //= part.size
            elif part.size % need == 0:
                inner = part.size // need
                axis.append(Part(part.letter, need, part.step * inner, part.axis_length))
                left.insert(0, Part(part.letter, inner, part.step, part.axis_length))
                need = 1
            else:
                return None
        result.append(tuple(axis))
    if left:
        return None
    if batch == 1 and result and not result[0]:
        result[0] = (Part("N", 1, 1, 1),)
    return tuple(result)


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Join neighbours that are factors of one axis, and channels with channels."""
    parts_left: list[Part] = []
    for part in parts:
        last = parts_left[-1] if parts_left else None
        if last is not None and last.letter == part.letter and last.size and part.size:
            size = last.size * part.size
            if part.letter == "C":
                parts_left[-1] = Part("C", size, 1, size)
                continue
            if last.axis_length == part.axis_length and last.step == part.size * part.step:
                parts_left[-1] = Part(part.letter, size, part.step, part.axis_length)
                continue
        parts_left.append(part)
    return parts_left


def reduced(axes: Axes, over: Sequence[int], *, keep: bool) -> Axes:
    """Return the axes after some are summed up."""
    gone = {axis % len(axes) for axis in over}
    if keep:
        one = {x: from_letters(x, (1,))[0] for x in "NCHW?"}
        return tuple(one[letter(a)] if i in gone else a for i, a in enumerate(axes))
    return tuple(axis for i, axis in enumerate(axes) if i not in gone)


def convolved(axes: Axes, shape: Shape | None) -> Axes | None:
    """Return the axes of what an operator on (N, C, ...) makes, whichever way the grid lies.

    Parameters
    ----------
    axes : tuple of tuple of Part
        The parts of each axis before.
    shape : tuple of int or None, or None
        Lengths after it.

    Returns
    -------
    tuple of tuple of Part or None
        ``None`` where axis 1 holds no channels, or there are not as many axes.
    """
    if len(axes) < 3 or letter(axes[1]) != "C" or (shape is not None and len(shape) != len(axes)):
        return None
    sizes = shape or [None] * len(axes)
    result = [axes[0], *from_letters("C", (sizes[1],))]
    for axis, size in zip(axes[2:], sizes[2:], strict=True):
        if size is not None and length(axis) == size:
            result.append(axis)
        else:
            result += from_letters(letter(axis), (size,))
    return tuple(result)
