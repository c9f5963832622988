"""What the tables of moves take in memory, before any is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from onnx_geed.groups.factors import Factor
from onnx_geed.groups.grid_tables import Interpolation
from onnx_geed.groups.group import Group
from onnx_geed.groups.layout import Layout
from onnx_geed.groups.named import factors_of
from onnx_geed.groups.placing import placed_factors
from onnx_geed.groups.small_groups import on_grid

__all__ = ["Lettered", "table_bytes"]

# Of a tap: its entry and its weight. Of an entry of an element: where it comes from.
_TAP, _ENTRY = 12, 4

# Of samples that are moved by elements of their own, one and the next.
_DRAWN = 2


class Lettered(NamedTuple):
    """A tensor that moves by its letters.

    Parameters
    ----------
    layout : Layout
        What its axes are.
    lengths : tuple of int
        Lengths of one sample's axes in kept order.
    of_input : bool
        Whether it is the model's input.
    """

    layout: Layout
    lengths: tuple[int, ...]
    of_input: bool = False


def table_bytes(group: Group, tensors: Iterable[Lettered], interpolation: Interpolation) -> int:
    """Return the bytes of the tables by which a group moves some tensors.

    Parameters
    ----------
    group : Group
        A named group.
    tensors : iterable of Lettered
        The tensors; those that move alike share their tables.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of grids that an element does not map onto themselves.

    Returns
    -------
    int
        Nearly all that they take, and seldom more than twice of it.

    Raises
    ------
    GeedError
        If the group does not act on a tensor.
    """
    each, still = set(), set()
    drawn = [0, 0]  # of the largest hidden tensor, one being moved at a time; of the inputs
    for layout, lengths, of_input in tensors:
        own = on_grid(group, layout.kept, lengths, of_input=of_input)
        placed = _on_axes(factors_of(own), layout, lengths, of_input=of_input)
        if placed:
            each.add(placed)
        else:
            still.add(math.prod(lengths[layout.channels :]))
        draw = own.onward if own.behind is None or not of_input else own.behind
        if placed and draw is not None:
            of_sample = _on_axes(draw(0, 0), layout, lengths, of_input=of_input)
            size = _DRAWN * _bytes_of(group.order, of_sample, interpolation)
            drawn[of_input] = drawn[1] + size if of_input else max(drawn[0], size)
    moved = sum(_bytes_of(group.order, placed, interpolation) for placed in each)
    return moved + sum(drawn) + group.order * _ENTRY * sum(still)


def is_moved(group: Group, tensor: Lettered) -> bool:
    """Say whether a group moves an axis of a tensor.

    Raises
    ------
    GeedError
        If the group does not act on the tensor.
    """
    layout, lengths, of_input = tensor
    own = on_grid(group, layout.kept, lengths, of_input=of_input)
    return bool(_on_axes(factors_of(own), layout, lengths, of_input=of_input))


def _on_axes(
    factors: Sequence[Factor], layout: Layout, lengths: tuple[int, ...], *, of_input: bool
) -> tuple[tuple[Factor, tuple[int, ...]], ...]:
    """Return factors with the lengths of the axes that they move."""
    placed = placed_factors(factors, layout.kept, lengths, of_input=of_input)
    return tuple((factor, own) for factor, _, own in placed)


def _bytes_of(
    order: int,
    placed: Sequence[tuple[Factor, tuple[int, ...]]],
    interpolation: Interpolation,
) -> int:
    """Return the bytes of a product of factors, as its bases multiply, and their entries."""
    size = math.prod(math.prod(own) for _, own in placed)
    bases = [factor.resampled(own) for factor, own in placed]
    taps = [
        factor.taps(interpolation) if number else 1
        for (factor, _), number in zip(placed, bases, strict=True)
    ]
    most = math.prod(number + 1 for number in bases) - 1
    return size * (min(order, most) * math.prod(taps) * _TAP + order * _ENTRY)
