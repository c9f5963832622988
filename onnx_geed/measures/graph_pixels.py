"""What a family does to the values of an image, as ONNX nodes before a model.

Brightness and contrast are sums and products; a blur is two products with matrices, one a side.
What is drawn by sample, written to a file or a function of somebody's is none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_geed.data import Preprocess
from onnx_geed.errors import GeedError
from onnx_geed.groups import Group, blur_matrix, disk_mask, luma_weights
from onnx_geed.model import Nodes

__all__ = ["changed_nodes", "check_changed_as_nodes"]


def check_changed_as_nodes(group: Group) -> None:
    """Refuse a family that changes values as no nodes do.

    Parameters
    ----------
    group : Group
        The acting group.

    Raises
    ------
    GeedError
        If it is one, saying which can be had.
    """
    family = group.family
    if family is None or family.geometric or family.name in _WRITERS:
        return
    *most, last = _WRITERS
    raise GeedError(
        f"group {group.name} changes images in a way that a graph cannot: of families, rotate, "
        f"zoom, shift-px, {', '.join(most)} and {last} can be nodes; take one of these, or "
        "onnx-geed measure, whose --engine graph takes them all"
    )


def changed_nodes(
    nodes: Nodes,
    samples: str,
    group: Group,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    *,
    disk: bool,
) -> str:
    """Show samples as each member of a family does that changes values.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    samples : str
        Tensor of float32, shape (N, C, H, W) or (N, H, W), as a model takes it: after mean and std.
    group : Group
        The family.
    preprocess : Preprocess
        What makes this of pixels, and is undone for them and done again.
    shape : tuple of int
        Lengths of the axes of a sample.
    disk : bool
        Whether to mask the samples to the disk first.

    Returns
    -------
    str
        Tensor of float32, shape (N, n, C, H, W): the samples themselves first.

    Raises
    ------
    GeedError
        If the family has no nodes.

    Notes
    -----
    ::

        samples ┬ Mul → Add (pixels, float64) → member → Cast → clip → scale, mean, std ┐
                └───────────────────────────────────────────────────────────────────────┴ Concat

    Members are rounded to float32 and finished as :meth:`onnx_geed.data.Preprocess.finish` does it.
    Choice: channels stay in the model's order meanwhile, and those of luma in it.
    """
    check_changed_as_nodes(group)
    family = group.family
    assert family is not None
    sides = (shape[0] if len(shape) == 3 else 1, *shape[-2:])
    images = nodes.reshape(samples, [-1, 1, *sides], "images")
    black = preprocess.finish(np.zeros((sides[0], 1, 1), np.float32), 0)
    if disk:
        inside = nodes.constant("disk", disk_mask(*sides[1:]))
        images = nodes.add("Where", [inside, images, nodes.constant("black", black)], "masked")
    pixels = _pixels(nodes, images, preprocess)
    values = np.array([v for v in family.values[1:] if v is not None])
    members = _WRITERS[family.name](nodes, pixels, values, sides, preprocess.channels == "BGR")
    members = nodes.cast(members, TensorProto.FLOAT, "members")
    if family.clip:
        members = _clipped(nodes, members)
    members = _finished(nodes, members, preprocess)
    return nodes.add("Concat", [images, members], "orbit", axis=1)


def _column(values: tuple[float, ...], dtype: type[np.floating]) -> NDArray[np.floating]:
    """Return numbers of all channels, or of each, as float32 holds them."""
    return np.array(values, dtype=np.float32).astype(dtype).reshape(-1, 1, 1)


def _pixels(nodes: Nodes, images: str, preprocess: Preprocess) -> str:
    """Undo scale, mean and std, in float64."""
    pixels = nodes.cast(images, TensorProto.DOUBLE, "float64")
    for name, op, values in (
        ("std", "Mul", preprocess.std),
        ("mean", "Add", preprocess.mean),
        ("scale", "Div", (preprocess.scale,) if preprocess.scale != 1 else ()),
    ):
        if values:
            by = nodes.constant(f"undone/{name}", _column(values, np.float64))
            pixels = nodes.add(op, [pixels, by], f"without_{name}")
    return pixels


def _finished(nodes: Nodes, members: str, preprocess: Preprocess) -> str:
    """Do scale, mean and std again, in float32 as they were done."""
    for name, op, values in (
        ("scale", "Mul", (preprocess.scale,) if preprocess.scale != 1 else ()),
        ("mean", "Sub", preprocess.mean),
        ("std", "Div", preprocess.std),
    ):
        if values:
            by = nodes.constant(name, _column(values, np.float32))
            members = nodes.add(op, [members, by], f"with_{name}")
    return members


def _clipped(nodes: Nodes, members: str) -> str:
    """Clip to [0, 1], and round to 255ths, halves to the even one."""
    whole, nothing, one = (
        nodes.constant(name, np.float32(value))
        for name, value in (("levels", 255), ("least", 0), ("most", 1))
    )
    least = nodes.add("Max", [members, nothing], "from_0")
    levels = nodes.add("Mul", [nodes.add("Min", [least, one], "to_1"), whole], "of_255")
    return nodes.add("Div", [nodes.rounded(levels, "rounded"), whole], "clipped")


def _brightness(
    nodes: Nodes, pixels: str, values: NDArray[np.float64], sides: tuple[int, ...], bgr: bool
) -> str:
    added = (values / 255).astype(np.float32).astype(np.float64).reshape(-1, 1, 1, 1)
    return nodes.add("Add", [pixels, nodes.constant("added", added)], "brighter")


def _contrast(
    nodes: Nodes, pixels: str, values: NDArray[np.float64], sides: tuple[int, ...], bgr: bool
) -> str:
    factors = values.reshape(-1, 1, 1, 1)
    channels, area = sides[0], sides[1] * sides[2]
    weights = luma_weights(channels)[:: -1 if bgr else 1]
    flat = nodes.reshape(pixels, [-1, channels, area], "flat")
    sums = nodes.add(
        "Mul", [nodes.total(flat, 2, "sums"), nodes.constant("luma", weights / area)], "luma_sums"
    )
    grey = nodes.reshape(nodes.total(sums, 1, "greys"), [-1, 1, 1, 1, 1], "grey")
    scaled = nodes.add("Mul", [pixels, nodes.constant("factors", factors)], "scaled")
    rest = nodes.add("Mul", [grey, nodes.constant("of_grey", 1 - factors)], "rest")
    return nodes.add("Add", [scaled, rest], "contrasted")


def _blur(
    nodes: Nodes, pixels: str, values: NDArray[np.float64], sides: tuple[int, ...], bgr: bool
) -> str:
    """Write B_H x B_Wᵀ: the matrices hold the loops' own kernel and mirrors."""
    down, across = (
        np.stack([blur_matrix(float(sigma), side) for sigma in values])[:, None]
        for side in sides[1:]
    )
    columns = nodes.add("MatMul", [nodes.constant("down", down), pixels], "blurred_down")
    rows = nodes.constant("across", np.ascontiguousarray(across.swapaxes(2, 3)))
    return nodes.add("MatMul", [columns, rows], "blurred")


_WRITERS: Mapping[str, Callable[[Nodes, str, NDArray[np.float64], tuple[int, ...], bool], str]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "blur": _blur,
}
