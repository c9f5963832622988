"""Which factors of a group move which axes of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.errors import GeedError
from onnx_geed.groups.factors import Factor

__all__ = ["PlacedFactor", "axes_of", "placed_factors"]

#: A factor with the numbers and the lengths of the axes that it moves.
PlacedFactor = tuple[Factor, tuple[int, ...], tuple[int, ...]]


def placed_factors(
    factors: Sequence[Factor],
    kept: str,
    lengths: tuple[int, ...],
    *,
    of_input: bool,
    moved: str | None = None,
) -> tuple[PlacedFactor, ...]:
    """Return the factors that move axes of a sample, once for each axis or set of axes.

    Where a hidden tensor has some of a factor's axes, each of these moves by itself. Of an action
    that was placed before, with other elements, it is known which letters are ``moved``.

    Raises
    ------
    GeedError
        If a factor does not fit the axes, or maps those that are left to others.
    """
    placed: list[PlacedFactor] = []
    for factor in factors:
        # Colour has no given action on hidden tensors.
        if factor.axes == "C" and not of_input:
            continue
        settled = moved is not None and len({*factor.axes} & {*moved}) in (0, len(factor.axes))
        if not (of_input or settled) and (left := _left_of(factor, kept, lengths)):
            placed += left
            continue
        for numbers in axes_of(factor.axes, kept):
            own = tuple(lengths[axis] for axis in numbers)
            if len(own) == 1 and own[0] == 1 and not of_input:
                continue  # what was pooled to one entry stays
            if not (misfit := factor.misfit(own)):
                placed.append((factor, numbers, own))
            elif factor.axes in "XB":  # of points and colours, there may be others in a model
                raise GeedError(f"{misfit}: give data, a layout or a group that fits")
    # Channels and components first, the grid last, so that a plane's pixels lie side by side.
    order = "CXBPTDHW"
    return tuple(sorted(placed, key=lambda entry: (order.index(entry[0].axes[0]), entry[1])))


def _left_of(factor: Factor, kept: str, lengths: tuple[int, ...]) -> list[PlacedFactor]:
    """Return how each axis moves where some of a factor's axes are gone; none where all are there.

    Axes of length 1 were summed up: they are as good as gone where others are mapped to them.
    """
    there = [letter for letter in factor.axes if letter in kept]
    longer = [letter for letter in there if lengths[kept.index(letter)] > 1]
    gone = "".join(letter for letter in factor.axes if letter not in longer)
    if not gone or not longer:
        return []
    every = len(there) == len(factor.axes)
    lines = [factor.along(letter) for letter in longer]
    if None in lines if not every else any(map(factor.crosses, longer)):
        raise GeedError(
            f"only {''.join(longer)} is left of {factor.axes}, and not every element is known to "
            "map it to itself: take a group whose elements do, or another tensor"
        )
    if every:
        return []
    pairs = [(line, kept.index(line.axes)) for line in lines if line is not None]
    return [(line, (axis,), (lengths[axis],)) for line, axis in pairs if line.moves_any]


def axes_of(letters: str, kept: str) -> list[tuple[int, ...]]:
    """Return the numbers of the axes with some letters: all together, or each of a letter."""
    if len(letters) == 1:
        return [(axis,) for axis, letter in enumerate(kept) if letter == letters]
    if not {*letters} <= {*kept}:
        return []
    return [tuple(kept.index(letter) for letter in letters)]
