"""Concatenations that need not be brought out: their parts are, some of them for several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from onnx_geed.model.nodes import attribute

__all__ = ["Joined", "joined_tensors"]


@dataclass(frozen=True)
class Joined:
    """A tensor that is others, side by side.

    Parameters
    ----------
    parts : tuple of str
        Tensors that nodes of the main graph make, in order.
    axis : int
        Where they are put together, at least 1: axis 0 is the batch.
    """

    parts: tuple[str, ...]
    axis: int


def joined_tensors(proto: onnx.ModelProto, names: Sequence[str]) -> dict[str, Joined]:
    """Return those of some tensors that are best brought out in parts.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    names : sequence of str
        Tensors that are wanted together.

    Returns
    -------
    dict of str to Joined
        Concatenations of which a part is wanted itself, or by another of them. The parts are none
        of these.

    Notes
    -----
    In a dense block each tensor is the one before and a few channels more, so that the same
    channels would be brought out again and again.
    """
    makers = {name for node in proto.graph.node for name in node.output if name}
    wanted, found = set(names), dict[str, Joined]()
    # As nodes are sorted, what lies inside another comes first.
    for node in proto.graph.node:
        if node.op_type != "Concat" or node.domain not in ("", "ai.onnx"):
            continue
        axis = attribute(node, "axis", 0)
        inner = [found.get(part) for part in node.input]
        if (
            wanted.intersection(node.output)
            and axis >= 1
            and all(part in makers for part in node.input)
            and all(one is None or one.axis == axis for one in inner)
        ):
            parts = [
                name
                for part, one in zip(node.input, inner, strict=True)
                for name in ((part,) if one is None else one.parts)
            ]
            found[node.output[0]] = Joined(tuple(parts), axis)
    uses = Counter(part for one in found.values() for part in set(one.parts))
    uses.update(wanted - found.keys())
    return {name: one for name, one in found.items() if any(uses[part] > 1 for part in one.parts)}
