"""Which factors of a group move which axes of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.errors import GeedError
from onnx_geed.groups.factors import Factor

__all__ = ["PlacedFactor", "axes_of", "placed_factors"]

#: A factor with the numbers and the lengths of the axes that it moves.
PlacedFactor = tuple[Factor, tuple[int, ...], tuple[int, ...]]


def placed_factors(
    factors: Sequence[Factor], kept: str, lengths: tuple[int, ...], *, of_input: bool
) -> tuple[PlacedFactor, ...]:
    """Return the factors that move axes of a sample, once for each axis or set of axes."""
    placed: list[PlacedFactor] = []
    for factor in factors:
        # Colour has no given action on hidden tensors.
        if factor.axes == "C" and not of_input:
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


def axes_of(letters: str, kept: str) -> list[tuple[int, ...]]:
    """Return the numbers of the axes with some letters: all together, or each of a letter."""
    if len(letters) == 1:
        return [(axis,) for axis, letter in enumerate(kept) if letter == letters]
    if not {*letters} <= {*kept}:
        return []
    return [tuple(kept.index(letter) for letter in letters)]
