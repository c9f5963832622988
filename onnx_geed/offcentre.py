"""Where a graph itself moves a map off the centre of its grid: stride 2 on an even size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.graph import Model, find_input
from onnx_geed.loading import reads
from onnx_geed.shapes import infer_shapes

__all__ = ["Between", "OffCentre", "between", "off_centre"]

_WINDOWS = {"Conv", "FusedConv", "QLinearConv", "MaxPool", "AveragePool", "LpPool"}


@dataclass(frozen=True)
class OffCentre:
    """A node whose windows do not lie symmetrically on its input.

    Parameters
    ----------
    node : str
        Its name, or that of its output.
    op : str
        What it is.
    size : tuple of int
        Height and width of its input.
    stride : tuple of int
        Its strides.
    off : tuple of int
        By how many half pixels the windows' centre lies behind the input's, down and right.
    """

    node: str
    op: str
    size: tuple[int, int]
    stride: tuple[int, int]
    off: tuple[int, int]

    @property
    def label(self) -> str:
        """The node, as a sentence names it."""
        return f"{self.op} {self.node}"

    @property
    def text(self) -> str:
        """What is wrong, without a full stop."""
        size = "×".join(map(str, self.size))
        off = max(map(abs, self.off)) / 2
        if max(self.stride) > 1:
            return (
                f"stride {max(self.stride)} on a {size} map puts {self.label}'s windows {off:g} "
                "pixels off the centre, so that turns and mirrors leave the grid"
            )
        return f"uneven padding moves {self.label}'s {size} map {off:g} pixels off the centre"

    @property
    def advice(self) -> str:
        """What to do."""
        if max(self.stride) > 1:
            return (
                "Choose sizes for which (size + 2·padding − window) is divisible by the stride, "
                "such as odd sizes with 3×3 windows, or pool symmetrically."
            )
        return "Pad both sides alike."


def off_centre(model: Model, group: str, shape: Sequence[int] | None = None) -> list[OffCentre]:
    """Find nodes that no equivariant filter could save.

    Parameters
    ----------
    model : Model
        The model.
    group : str
        Name of the group; only rotations and mirrors see the centre.
    shape : sequence of int, optional
        Shape of the acted-on input, where the file leaves it free.

    Returns
    -------
    list of OffCentre
        In the graph's order; empty where shapes cannot be told.

    Notes
    -----
    Of n windows of length K = d(k − 1) + 1 at stride s, the first begins p pixels in front of an
    input of length H and the last ends (n − 1)s + K − p − H behind it: the two must be equal.
    """
    axes = {"flip-h": [1], "flip-v": [0]}.get(group, [])
    if re.fullmatch(r"[CD]\d+", group):
        axes = [0, 1]
    try:
        shapes = infer_shapes(model.proto, find_input(model).name, shape) if axes else {}
    except GeedError:
        return []
    found = []
    for node in model.proto.graph.node:
        if node.op_type not in _WINDOWS or not node.output:
            continue
        here, there = shapes.get(node.input[0]), shapes.get(node.output[0])
        window = _window(node, shapes)
        if window is None or not here or not there or len(here) != 4 or len(there) != 4:
            continue
        off, strides = [0, 0], [1, 1]
        for axis in range(2):
            size, count = here[2 + axis], there[2 + axis]
            if size is None or count is None:
                break
            length, strides[axis], before = _along(node, window, axis, size, count)
            if axis in axes and count > 1:
                off[axis] = (count - 1) * strides[axis] + length - size - 2 * before
        else:
            if any(off):
                name = node.name or node.output[0]
                size2 = (int(here[2] or 0), int(here[3] or 0))
                found.append(
                    OffCentre(name, node.op_type, size2, (strides[0], strides[1]), (off[0], off[1]))
                )
    return found


def _window(node: onnx.NodeProto, shapes: dict[str, Any]) -> list[int] | None:
    """Return the kernel's height and width."""
    stated = _ints(node, "kernel_shape")
    if stated:
        return stated if len(stated) == 2 else None
    weights = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
    if weights is None or len(weights) != 4 or None in weights[2:]:
        return None
    return [int(n) for n in weights[2:]]


def _along(
    node: onnx.NodeProto, window: Sequence[int], axis: int, size: int, count: int
) -> tuple[int, int, int]:
    """Return length, stride and padding in front, along one axis."""
    stride = (_ints(node, "strides") or [1, 1])[axis]
    length = (window[axis] - 1) * (_ints(node, "dilations") or [1, 1])[axis] + 1
    auto = next((a.s.decode() for a in node.attribute if a.name == "auto_pad"), "NOTSET")
    if auto.startswith("SAME"):
        total = max(0, (count - 1) * stride + length - size)
        return length, stride, total // 2 if auto == "SAME_UPPER" else total - total // 2
    pads = _ints(node, "pads") or [0, 0, 0, 0]
    return length, stride, 0 if auto == "VALID" else pads[axis]


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


@dataclass(frozen=True)
class Between:
    """The nodes on the way from one tensor to another.

    Parameters
    ----------
    names : tuple of str
        Their names, or those of their outputs, in the graph's order.
    text : str
        The same with operators, for a sentence.
    """

    names: tuple[str, ...]
    text: str


def between(model: Model, start: str | None, end: str) -> Between:
    """Find the nodes on the way from one tensor to another.

    Parameters
    ----------
    model : Model
        The model.
    start : str or None
        Where to begin; the model's inputs by default.
    end : str
        Where to end.

    Returns
    -------
    Between
        Empty where there is no way.
    """
    nodes = list(model.proto.graph.node)
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    weights = {t.name for t in model.proto.graph.initializer}
    behind = {start} if start else {i.name for i in model.proto.graph.input} - weights
    follows = []
    for i, node in enumerate(nodes):
        if node.output and start in node.output:
            continue
        if behind & set(reads(node)):
            behind.update(node.output)
            follows.append(i)
    wanted, waiting = set(), [end]
    while waiting:
        index = makers.get(waiting.pop())
        if index is None or index in wanted or (start is not None and start in nodes[index].output):
            continue
        wanted.add(index)
        waiting += reads(nodes[index])
    chosen = [nodes[i] for i in follows if i in wanted]
    names = [node.name or node.output[0] for node in chosen]
    said = [f"{n.op_type} {name}" for n, name in zip(chosen, names, strict=True)]
    text = ", ".join(said[:4]) + (f" and {len(said) - 4} more" if len(said) > 4 else "")
    return Between(tuple(names), text)
