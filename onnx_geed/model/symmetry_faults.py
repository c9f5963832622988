"""Where a graph breaks a symmetry: windows off the centre, lopsided or zero padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from onnx_geed.errors import GeedError
from onnx_geed.groups import motions_named, turns_of
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import attribute, integers_of
from onnx_geed.model.shapes import Shape, infer_shapes
from onnx_geed.model.signature import find_input

__all__ = ["OffCentre", "off_centre", "zero_padded"]

_WINDOWS = {"Conv", "FusedConv", "QLinearConv", "MaxPool", "AveragePool", "LpPool"}


_PADDED_OPS = {"Conv", "FusedConv", "QLinearConv", "AveragePool", "MaxPool", "LpPool"}


# The axis, of height and width, along which a mirror moves pixels.
_MIRRORED = {"h": 1, "v": 0}


@dataclass(frozen=True)
class OffCentre:
    """A node whose windows do not lie symmetrically on its input.

    Parameters
    ----------
    node : str
        Its name, or that of its output.
    op : str
        Its operator.
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
        """The fault in words, without a full stop."""
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
        """A sentence on how to mend it."""
        if max(self.stride) > 1:
            return (
                "Choose sizes for which (size + 2·padding − window) is divisible by the stride, "
                "such as odd sizes with 3×3 windows, or pool symmetrically."
            )
        return "Pad both sides alike."


def off_centre(model: Model, group: str, shape: Sequence[int] | None = None) -> list[OffCentre]:
    """Find nodes whose windows lie off the centre, which no equivariant filter could save.

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
    axes = {_MIRRORED[move.mirror] for move in motions_named(group) if move.mirror}
    if turns_of(group) is not None:
        axes = {0, 1}
    try:
        shapes = infer_shapes(model.proto, find_input(model).name, shape) if axes else {}
    except GeedError:
        return []
    faults = []
    for node in model.proto.graph.node:
        if node.op_type not in _WINDOWS or not node.output:
            continue
        here, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        window = _window(node, shapes)
        if window is None or not here or not after or len(here) != 4 or len(after) != 4:
            continue
        off, strides = [0, 0], [1, 1]
        for axis in range(2):
            size, count = here[2 + axis], after[2 + axis]
            if size is None or count is None:
                break
            length, strides[axis], before = _along(node, window, axis, size, count)
            if axis in axes and count > 1:
                off[axis] = (count - 1) * strides[axis] + length - size - 2 * before
        else:
            if any(off):
                name = node.name or node.output[0]
                size2 = (int(here[2] or 0), int(here[3] or 0))
                faults.append(
                    OffCentre(name, node.op_type, size2, (strides[0], strides[1]), (off[0], off[1]))
                )
    return faults


def _window(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> list[int] | None:
    """Return the kernel's height and width."""
    stated = integers_of(node, "kernel_shape")
    if stated:
        return stated if len(stated) == 2 else None
    weights = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
    if weights is None or len(weights) != 4 or None in weights[2:]:
        return None
    return [int(n or 0) for n in weights[2:]]


def _along(
    node: onnx.NodeProto, window: Sequence[int], axis: int, size: int, count: int
) -> tuple[int, int, int]:
    """Return length, stride and padding in front, along one axis."""
    stride = (integers_of(node, "strides") or [1, 1])[axis]
    length = (window[axis] - 1) * (integers_of(node, "dilations") or [1, 1])[axis] + 1
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        total = max(0, (count - 1) * stride + length - size)
        return length, stride, total // 2 if auto == "SAME_UPPER" else total - total // 2
    pads = integers_of(node, "pads") or [0, 0, 0, 0]
    return length, stride, 0 if auto == "VALID" else pads[axis]


def zero_padded(model: Model) -> dict[str, str]:
    """Find the nodes that add a border of constant value.

    Parameters
    ----------
    model : Model
        The model.

    Returns
    -------
    dict of str to str
        By the node's name, or that of its output: how a sentence names it. Windows whose
        ``auto_pad`` is SAME count only where they are larger than one pixel.
    """
    values = {t.name: t for t in model.proto.graph.initializer}
    padded = {}
    for node in model.proto.graph.node:
        if node.output and _pads(node, values):
            name = node.name or node.output[0]
            padded[name] = f"{node.op_type} {name}"
    return padded


def _pads(node: onnx.NodeProto, values: dict[str, onnx.TensorProto]) -> bool:
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Pad":
        mode = attributes["mode"].s.decode() if "mode" in attributes else "constant"
        if mode != "constant":
            return False
        if "pads" in attributes:
            return any(n > 0 for n in attributes["pads"].ints)
        stored = values.get(node.input[1]) if len(node.input) > 1 else None
        # Pads that are computed are taken to be some.
        return stored is None or bool((numpy_helper.to_array(stored) > 0).any())
    if node.op_type not in _PADDED_OPS:
        return False
    auto = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
    if auto.startswith("SAME"):
        window = attributes.get("kernel_shape")
        return window is None or any(n > 1 for n in window.ints)
    return auto == "NOTSET" and "pads" in attributes and any(attributes["pads"].ints)
