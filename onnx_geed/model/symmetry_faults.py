"""Where a graph breaks a symmetry: windows off the centre, lopsided or zero padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from onnx_geed.errors import GeedError
from onnx_geed.groups import moved_axes
from onnx_geed.model.chosen_input import (
    find_input,
)
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import attribute, integers_of
from onnx_geed.model.shapes import Shape, infer_shapes

__all__ = ["OffCentre", "off_centre", "zero_padded"]

_WINDOWS = {"Conv", "FusedConv", "QLinearConv", "MaxPool", "AveragePool", "LpPool"}


_PADDED_OPS = {"Conv", "FusedConv", "QLinearConv", "AveragePool", "MaxPool", "LpPool"}


# By the number of a window's axes: their letters, and how a map and its places are called.
_GRIDS = {1: "T", 2: "HW", 3: "DHW"}
_CALLED = {1: ("line", "places"), 2: ("map", "pixels"), 3: ("volume", "voxels")}


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
        Lengths of its input's axes: height and width, or those of a line or a volume.
    stride : tuple of int
        Its strides.
    off : tuple of int
        By how many half pixels the windows' centre lies behind the input's along each, such as
        down and right.
    """

    node: str
    op: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    off: tuple[int, ...]

    @property
    def label(self) -> str:
        """The node, as a sentence names it."""
        return f"{self.op} {self.node}"

    @property
    def text(self) -> str:
        """The fault in words, without a full stop."""
        size = "×".join(map(str, self.size))
        off = max(map(abs, self.off)) / 2
        grid, places = _CALLED[len(self.size)]
        of_size = f"line of {size}" if grid == "line" else f"{size} {grid}"
        if max(self.stride) > 1:
            leave = "a reversed line leaves" if grid == "line" else "turns and mirrors leave"
            return (
                f"stride {max(self.stride)} on a {of_size} puts {self.label}'s windows {off:g} "
                f"{places} off the centre, so that {leave} the grid"
            )
        return f"uneven padding moves {self.label}'s {of_size} {off:g} {places} off the centre"

    @property
    def advice(self) -> str:
        """A sentence on how to mend it."""
        sides = "×".join("3" * len(self.size))
        window = f"{sides} windows" if len(self.size) > 1 else "windows of 3"
        if max(self.stride) > 1:
            return (
                "Choose sizes for which (size + 2·padding − window) is divisible by the stride, "
                f"such as odd sizes with {window}, or pool symmetrically."
            )
        return "Pad both sides alike."


def off_centre(model: Model, group: str, shape: Sequence[int] | None = None) -> list[OffCentre]:
    """Find nodes whose windows lie off the centre, which no equivariant filter could save.

    Parameters
    ----------
    model : Model
        The model.
    group : str
        Name of the group; only what turns, mirrors or reverses sees the centre.
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
    turned = moved_axes(group).turned
    try:
        shapes = infer_shapes(model.proto, find_input(model).name, shape) if turned else {}
    except GeedError:
        return []
    faults = []
    for node in model.proto.graph.node:
        if node.op_type not in _WINDOWS or not node.output:
            continue
        here, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        window = _window(node, shapes)
        if window is None or not here or not after:
            continue
        if not len(here) == len(after) == len(window) + 2:
            continue
        off, strides, sizes = [], [], []
        for axis, letter in enumerate(_GRIDS[len(window)]):
            size, count = here[2 + axis], after[2 + axis]
            if size is None or count is None:
                break
            length, stride, before = _along(node, window, axis, size, count)
            seen = letter in turned and count > 1
            off.append((count - 1) * stride + length - size - 2 * before if seen else 0)
            strides.append(stride)
            sizes.append(size)
        else:
            if any(off):
                name = node.name or node.output[0]
                faults.append(
                    OffCentre(name, node.op_type, tuple(sizes), tuple(strides), tuple(off))
                )
    return faults


def _window(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> list[int] | None:
    """Return the kernel's lengths, such as height and width."""
    stated = integers_of(node, "kernel_shape")
    if stated:
        return stated if len(stated) in _GRIDS else None
    weights = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
    if weights is None or len(weights) - 2 not in _GRIDS or None in weights[2:]:
        return None
    return [int(n or 0) for n in weights[2:]]


def _along(
    node: onnx.NodeProto, window: Sequence[int], axis: int, size: int, count: int
) -> tuple[int, int, int]:
    """Return length, stride and padding in front, along one axis."""
    ones = [1] * len(window)
    stride = (integers_of(node, "strides") or ones)[axis]
    length = (window[axis] - 1) * (integers_of(node, "dilations") or ones)[axis] + 1
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        total = max(0, (count - 1) * stride + length - size)
        return length, stride, total // 2 if auto == "SAME_UPPER" else total - total // 2
    pads = integers_of(node, "pads") or [0] * (2 * len(window))
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
