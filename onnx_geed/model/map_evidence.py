"""What speaks against a map: the axes of tensors that are lost sight of where maps are followed.

An operator that is only applied to maps tells that it reads one, and so a layout is guessed where
nothing else is known. But what it reads may be made of a map in ways that keep no grid: products of
its columns with its columns, of channels with channels, the largest values in their order. Letter
by letter, as :mod:`onnx_geed.model.letter_rules` follows them, such axes are no map's.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from onnx_geed.model.axis_parts import Axes, Axis, length, letter, reshaped
from onnx_geed.model.dataflow import Flow
from onnx_geed.model.letter_reading import Reading
from onnx_geed.model.letter_rules import axes_after
from onnx_geed.model.lettered_axes import fixed, sized
from onnx_geed.model.nodes import attribute, axis_of, data_reads
from onnx_geed.model.shapes import Shape, Types

__all__ = ["Evidence"]


class Evidence:
    """The axes of tensors that are not known as maps, letter by letter.

    Parameters
    ----------
    flow : Flow
        How data flow.
    types : dict
        Dtypes and shapes.
    integers : mapping of str to list of int
        Short integer constants.
    batch : int or None
        Length of N.
    """

    def __init__(
        self, flow: Flow, types: Types, integers: Mapping[str, list[int]], batch: int | None
    ) -> None:
        self._tainted, self._integers, self._batch = flow.tainted, integers, batch
        self._shapes: dict[str, Shape] = {n: s for n, (_, s) in types.items() if s is not None}
        self._axes: dict[str, Axes] = {}

    def take(self, node: onnx.NodeProto, known: Mapping[str, Axes]) -> None:
        """Follow the axes of what a node reads to what it makes.

        Parameters
        ----------
        node : onnx.NodeProto
            The node.
        known : mapping of str to Axes
            Axes that are known otherwise; they come first.
        """
        reads = [name for name in data_reads(node) if name in self._tainted]
        data = {name: known.get(name, self._axes.get(name)) for name in reads}
        if all(axes is None for axes in data.values()):
            return
        reading = Reading(_spelt_out(node, data), data, self._shapes, self._integers, self._batch)
        for name, axes in zip(node.output, self._after(reading), strict=False):
            fitted = sized(axes, self._shapes.get(name)) if axes is not None else None
            if fitted is not None:
                self._axes[name] = fitted

    def _after(self, reading: Reading) -> Sequence[Axes | None]:
        axes, shape, op = reading.axes(0), reading.made(), reading.node.op_type
        if axes is None or shape is None or op not in ("Reshape", "TopK"):
            return axes_after(reading)
        if op == "Reshape":
            # What a dense layer puts out may be a map; what is folded from several axes that stay
            # in place is none.
            vector = len(axes) == 2 and len(axes[1]) == 1 and _name(axes[1]) == "C"
            return [None if vector and len(shape) > 2 else reshaped(axes, shape, self._batch)]
        # Places in a ranking stay, whatever is ranked.
        along = axis_of(reading.node, -1, len(axes))
        return [(*axes[:along], fixed(shape[along]), *axes[along + 1 :])] * 2

    def speaks_against(self, name: str, layout: str) -> bool:
        """Whether a tensor has surely another layout: an axis of another letter.

        Parameters
        ----------
        name : str
            The tensor.
        layout : str
            What it is taken for.
        """
        axes = self._axes.get(name)
        if axes is None or len(axes) != len(layout):
            return False
        names = (None if length(axis) == 1 else _name(axis) for axis in axes)
        return any(own not in (None, x) for own, x in zip(names, layout, strict=True))

    def is_sure(self, name: str) -> bool:
        """Whether it is known what each axis of a tensor is."""
        return name in self._axes and None not in map(_name, self._axes[name])

    def are_at_odds(self, node: onnx.NodeProto, known: Mapping[str, Axes]) -> bool:
        """Whether what a node works out entry by entry lies along two axes at once.

        Parameters
        ----------
        node : onnx.NodeProto
            An operator that broadcasts, or puts tensors side by side.
        known : mapping of str to Axes
            Axes that are known otherwise; they come first.
        """
        found = [known.get(name, self._axes.get(name)) for name in dict.fromkeys(node.input)]
        operands = [axes for axes in found if axes is not None]
        rank = max(map(len, operands), default=0)
        beside = axis_of(node, 0, rank) if node.op_type == "Concat" else None
        for place in range(rank) if len(operands) > 1 else ():
            here = [axes[place - rank] for axes in operands if len(axes) >= rank - place]
            names = {_name(axis) for axis in here if length(axis) != 1} - {None}
            if len(names & set("HW") if place == beside else names) > 1:
                return True
        return False


@functools.lru_cache(maxsize=1 << 12)  # of a deep network most tensors have the same
def _name(axis: Axis) -> str | None:
    """Return what an axis is: a letter, or those that it joins; ``None`` where it is not known."""
    if not {part.letter for part in axis} <= set("NCHW"):
        return None
    forth = tuple(replace(part, step=abs(part.step)) for part in axis)
    own = letter(forth)
    return own if own in "NCHW" else " ".join(part.letter for part in axis)


def _spelt_out(node: onnx.NodeProto, data: Mapping[str, Axes | None]) -> onnx.NodeProto:
    """Return an Einsum with a letter for each axis that its ``...`` stands for."""
    equation = attribute(node, "equation", "")
    if node.op_type != "Einsum" or "..." not in equation:
        return node
    text = equation.replace(" ", "")
    terms, arrow, _ = text.partition("->")
    ranks = [len(data.get(name) or ()) for name in node.input]
    pairs = zip(terms.split(","), ranks, strict=False)
    hidden = {rank - len(term) + len("...") for term, rank in pairs if "..." in term}
    if not arrow or len(hidden) != 1 or min(hidden) < 0:
        return node
    fresh = [x for x in string.ascii_letters if x not in text][: hidden.pop()]
    text = text.replace("...", "".join(fresh))
    full = onnx.NodeProto()
    full.CopyFrom(node)
    del full.attribute[:]
    full.attribute.append(onnx.helper.make_attribute("equation", text))
    return full
