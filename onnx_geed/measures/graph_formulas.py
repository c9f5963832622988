"""Eq. (2) to (6) as ONNX nodes: the deviations of some orbits from their activations.

float32 in, float64 from there on, as in the compiled loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnx_geed.groups import (
    Action,
    GridAction,
    Matrices,
    Permutation,
    Trivial,
    disk_mask,
    parse_layout,
)
from onnx_geed.measures.graph_actions import moved_maps
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.plan import Layer
from onnx_geed.model import Nodes

__all__ = [
    "Deviations",
    "activations",
    "deviation_nodes",
    "identity_points",
    "point_size",
    "predicted",
    "value_range",
]

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


# Below every square of a float32 that is not zero, and every probability that counts. Comparing
# with it, and not with zero for equality, lets NaN pass on as NaN.
_NOTHING = 1e-300


@dataclass(frozen=True)
class Deviations:
    """Tensors that a measure leaves behind, shape (N, n') each.

    Parameters
    ----------
    values : str
        m(f(gx), φ_Y(g) f̂(x)), float64.
    energy : str
        Sum of squares of what was read: not finite where the model gave NaN or infinity.
    zero_pairs : str or None
        Share of cosines between two zero vectors, for the cosines.
    cosines : str or None
        Cosine of each channel and element, shape (N, n', C), for ``channel-cos``.
    """

    values: str
    energy: str
    zero_pairs: str | None = None
    cosines: str | None = None


def activations(nodes: Nodes, tensor: str, layer: Layer, order: int, *, maps: bool) -> str:
    """Bring a tensor to what measures take.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    tensor : str
        The model's tensor, shape (N·n, ...).
    layer : Layer
        Its shape and layout.
    order : int
        n.
    maps : bool
        Whether maps are wanted, or points.

    Returns
    -------
    str
        Tensor of float32, shape (N, n, C, H·W) or (N, n, k).
    """
    shape = layer.shape
    x = nodes.cast(tensor, _FLOAT, "float32")
    layout = parse_layout(layer.layout)
    if layout.grid:
        height, width = layout.grid
        if layout.extra:
            kept = nodes.constant("patches", np.arange(layout.extra, shape[0], dtype=np.int32))
            x = nodes.gather(x, kept, 1, "tokens")
        x = nodes.add("Transpose", [x], "channels_first", perm=[0, 2, 1])
        shape = (shape[1], height, width)
    elif len(shape) == 3 and layout.is_map and layer.layout != "NCHW":
        axes = layout.planes_last
        x = nodes.add("Transpose", [x], "channels_first", perm=[0, *(a + 1 for a in axes)])
        shape = (shape[axes[0]], shape[axes[1]], shape[axes[2]])
    if len(shape) < 3:
        return nodes.reshape(x, [-1, order, *(shape or (1,))], "orbits")
    area = shape[1] * shape[2]
    if not maps and area == 1:
        return nodes.reshape(x, [-1, order, shape[0]], "orbits")
    x = nodes.reshape(x, [-1, order, shape[0], area], "orbits")
    if maps:
        return x
    summed = nodes.total(nodes.cast(x, _DOUBLE, "float64"), 3, "summed")
    pooled = nodes.add("Div", [summed, nodes.number(area)], "averaged")
    return nodes.cast(pooled, _FLOAT, "pooled")


def point_size(layer: Layer) -> int:
    """Return k of the points (N, k) that a tensor is brought to."""
    if len(layer.shape) < 2:
        return (*layer.shape, 1)[0]
    layout = parse_layout(layer.layout)
    return layer.shape[layout.planes_last[0] if layout.is_map else 0]


def identity_points(nodes: Nodes, points: str) -> str:
    """Return the identity's rows (N, k) of points (N, n, k)."""
    return nodes.gather(points, nodes.constant("first", np.int64(0)), 1, "identity")


def deviation_nodes(
    nodes: Nodes, measure: Measure, y: str, layer: Layer, members: Sequence[int] | None = None
) -> Deviations:
    """Measure activations.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    measure : Measure
        What is measured.
    y : str
        What :func:`activations` returned.
    layer : Layer
        Its shape and layout.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G; all by default.

    Returns
    -------
    Deviations

    Notes
    -----
    Inner summand of eq. (4), with f̂ of eq. (2) over ker(φ_Y), or those of it that are members.
    """
    order = measure.action.group.order
    chosen = list(range(order)) if members is None else list(members)
    kernel = [g for g in measure.kernel_of_action if g in set(chosen)]
    picked = y
    if len(chosen) < order:
        table = nodes.constant("members", np.array(chosen, dtype=np.int32))
        picked = nodes.gather(y, table, 1, "of_members")
    if measure.name == "channel-cos":
        return _maps(nodes, measure, y, picked, layer, kernel, chosen)
    kernel = [chosen.index(g) for g in kernel]
    if measure.name == "softmax-kl":
        return _divergences(nodes, measure, picked, point_size(layer), kernel, chosen)
    return _vectors(nodes, measure, picked, kernel, chosen)


def _maps(
    nodes: Nodes,
    measure: Measure,
    y: str,
    picked: str,
    layer: Layer,
    kernel: Sequence[int],
    chosen: Sequence[int],
) -> Deviations:
    """Eq. (5)."""
    action = measure.action
    assert isinstance(action, GridAction)
    area = action.shape[0] * action.shape[1]
    tokens = parse_layout(layer.layout).grid is not None
    channels = layer.shape[1] if tokens else int(np.prod(layer.shape)) // area
    pixels = None
    if measure.support == "disk":
        pixels = np.flatnonzero(disk_mask(*action.shape)).astype(np.int32)
        picked = nodes.gather(picked, nodes.constant("disk", pixels), 3, "inside_disk")
    reference = _mean(nodes, y, kernel, action.group.order)
    expected = moved_maps(nodes, reference, action, channels, chosen, pixels)
    u = nodes.cast(picked, _DOUBLE, "f_gx/float64")
    v = nodes.cast(expected, _DOUBLE, "g_fx/float64")
    cosines, both, squares = _cosines(nodes, u, v, 3)
    mean = nodes.total(cosines, 2, "summed_cosines")
    divisor = nodes.number(channels)
    mean = nodes.add("Div", [mean, divisor], "mean_cosine")
    zeros = nodes.add("Div", [nodes.total(both, 2, "dead"), divisor], "zero_pairs")
    if pixels is not None:  # outside the disk nothing is compared, but NaN is refused there too
        everywhere = nodes.cast(y, _DOUBLE, "everywhere")
        squares = nodes.add("Mul", [everywhere, everywhere], "everywhere/squares")
        squares = nodes.total(squares, 3, "everywhere/sum")
    energy = nodes.total(squares, 2, "energy")
    return Deviations(nodes.add("Neg", [mean], "deviation"), energy, zeros, cosines)


def by_channel(nodes: Nodes, cosines: str, members: Sequence[int]) -> str:
    """Mean over some elements of cosines (N, n, C), as (N, C)."""
    table = nodes.constant("members", np.array(members, dtype=np.int32))
    picked = nodes.gather(cosines, table, 1, "of_members")
    return nodes.add("Div", [nodes.total(picked, 1, "summed"), nodes.number(len(members))], "mean")


def _mean(nodes: Nodes, y: str, kernel: Sequence[int], order: int) -> str:
    """f̂ of eq. (2), in float32: the mean over some elements, or the one element's own."""
    if len(kernel) == 1:
        return nodes.gather(y, nodes.constant("kernel", np.int64(kernel[0])), 1, "f_hat")
    averaged = _average(nodes, nodes.cast(y, _DOUBLE, "float64"), kernel, order)
    return nodes.cast(averaged, _FLOAT, "f_hat")


def _average(nodes: Nodes, y: str, kernel: Sequence[int], order: int, *, keep: bool = False) -> str:
    """Mean over elements of a float64 tensor (N, n, ...)."""
    if len(kernel) < order:
        table = nodes.constant("kernel", np.array(kernel, dtype=np.int32))
        y = nodes.gather(y, table, 1, "of_kernel")
    summed = nodes.total(y, 1, "summed_kernel", keep=keep)
    return nodes.add("Div", [summed, nodes.number(len(kernel))], "f_hat/float64")


def _cosines(nodes: Nodes, u: str, v: str, axis: int) -> tuple[str, str, str]:
    """Cosines over an axis, where both are zero (as 0 or 1), and Σ u².

    Choice: the cosine of two zero vectors is 1, of one zero vector and another 0.
    """
    sums = {}
    for name, a, b in (("uv", u, v), ("uu", u, u), ("vv", v, v)):
        sums[name] = nodes.total(nodes.add("Mul", [a, b], f"{name}/products"), axis, name)
    nothing, one = nodes.number(_NOTHING), nodes.number(1)
    no_u = nodes.add("Less", [sums["uu"], nothing], "u_is_zero")
    no_v = nodes.add("Less", [sums["vv"], nothing], "v_is_zero")
    both = nodes.cast(nodes.add("And", [no_u, no_v], "both_zero"), _DOUBLE, "both_zero/float64")
    either = nodes.add("Or", [no_u, no_v], "either_zero")
    squares = nodes.add("Mul", [sums["uu"], sums["vv"]], "squares")
    # One root of the product: for equal vectors it is exact, so that their cosine is exactly 1.
    length = nodes.add("Sqrt", [nodes.add("Where", [either, one, squares], "safe")], "lengths")
    ratio = nodes.add("Div", [sums["uv"], length], "ratio")
    least = nodes.add("Max", [ratio, nodes.number(-1)], "at_least")
    clipped = nodes.add("Min", [least, one], "clipped")
    return nodes.add("Where", [either, both, clipped], "cosine"), both, sums["uu"]


def _vectors(
    nodes: Nodes, measure: Measure, y: str, kernel: Sequence[int], chosen: Sequence[int]
) -> Deviations:
    """Eq. (6) without M, and ‖·‖₂ under any action on vectors."""
    points = nodes.cast(y, _DOUBLE, "float64")
    trivial = isinstance(measure.action, Trivial)
    centre = _average(nodes, points, kernel, len(chosen), keep=trivial)
    reference = _expected(nodes, measure.action, centre, chosen)
    if measure.name == "latent-cos":
        cosines, both, energy = _cosines(nodes, points, reference, 2)
        return Deviations(nodes.add("Neg", [cosines], "deviation"), energy, both)
    squares = nodes.add("Mul", [points, points], "squares")
    energy = nodes.total(squares, 2, "energy")
    apart = nodes.add("Sub", [points, reference], "apart")
    summed = nodes.total(nodes.add("Mul", [apart, apart], "apart/squares"), 2, "apart/sum")
    return Deviations(nodes.add("Sqrt", [summed], "deviation"), energy)


def _expected(nodes: Nodes, action: Action, centre: str, chosen: Sequence[int]) -> str:
    """φ_Y(g) f̂(x) as (N, n', k), or (N, 1, k) where it is the same for all g."""
    if isinstance(action, Permutation):
        table = nodes.constant("permutation", action.table[list(chosen)].astype(np.int32))
        return nodes.gather(centre, table, 1, "expected")
    if isinstance(action, Matrices):
        k = action.matrices.shape[1]
        # Column g·k + i holds row i of g's matrix.
        stacked = action.matrices[list(chosen)].reshape(-1, k).T
        table = nodes.constant("matrices", np.ascontiguousarray(stacked))
        product = nodes.add("MatMul", [centre, table], "products")
        return nodes.reshape(product, [-1, len(chosen), k], "expected")
    return centre


def _divergences(
    nodes: Nodes,
    measure: Measure,
    y: str,
    size: int,
    kernel: Sequence[int],
    chosen: Sequence[int],
) -> Deviations:
    """KL(f(gx) ‖ φ_Y(g) f̂(x)) in nats."""
    points = nodes.cast(y, _DOUBLE, "float64")
    energy = nodes.total(nodes.add("Mul", [points, points], "squares"), 2, "energy")
    logs = _log_probabilities(nodes, points, measure, size)
    # log f̂, eq. (2), by log-sum-exp; a class of probability zero on the whole kernel stays −inf.
    of_kernel = logs
    if len(kernel) < len(chosen):
        table = nodes.constant("kernel", np.array(kernel, dtype=np.int32))
        of_kernel = nodes.gather(logs, table, 1, "of_kernel")
    lowest = nodes.constant("lowest", np.float64(np.finfo(np.float64).min))
    top = nodes.top(of_kernel, 1, "f_hat/top", keep=True)
    top = nodes.add("Max", [top, lowest], "f_hat/finite_top")
    shifted = nodes.add("Sub", [of_kernel, top], "f_hat/shifted")
    summed = nodes.total(nodes.add("Exp", [shifted], "f_hat/exp"), 1, "f_hat/sum", keep=True)
    centre = nodes.add("Add", [nodes.add("Log", [summed], "f_hat/log"), top], "f_hat/unscaled")
    scale = nodes.constant("log_kernel", np.log(np.float64(len(kernel))))
    reference = nodes.add("Sub", [centre, scale], "f_hat")
    if isinstance(measure.action, Permutation):
        flat = nodes.gather(reference, nodes.constant("only", np.int64(0)), 1, "f_hat/flat")
        reference = _expected(nodes, measure.action, flat, chosen)
    p = nodes.add("Exp", [logs], "probabilities")
    terms = nodes.add("Mul", [p, nodes.add("Sub", [logs, reference], "log_ratio")], "terms")
    # 0·log 0 = 0
    nothing = nodes.add("Less", [p, nodes.number(_NOTHING)], "is_zero")
    kept = nodes.add("Where", [nothing, nodes.number(0), terms], "terms/kept")
    # Rounding alone can make the divergence of equal distributions negative.
    values = nodes.add("Max", [nodes.total(kept, 2, "summed"), nodes.number(0)], "deviation")
    return Deviations(values, energy)


def _log_probabilities(nodes: Nodes, points: str, measure: Measure, size: int) -> str:
    """Log-probabilities of logits or probabilities (N, n', k) in float64."""
    if measure.kind == "probabilities":
        if size == 1:
            other = nodes.add("Sub", [nodes.number(1), points], "other_class")
            points = nodes.add("Concat", [other, points], "two_classes", axis=2)
        return nodes.add("Log", [nodes.add("Max", [points, nodes.number(0)], "from_0")], "logs")
    if size == 1:
        other = nodes.add("Mul", [points, nodes.number(0)], "other_class")
        points = nodes.add("Concat", [other, points], "two_classes", axis=2)
    top = nodes.top(points, 2, "top", keep=True)
    shifted = nodes.add("Sub", [points, top], "shifted")
    summed = nodes.total(nodes.add("Exp", [shifted], "exp"), 2, "sum", keep=True)
    return nodes.add("Sub", [shifted, nodes.add("Log", [summed], "log_sum")], "logs")


def predicted(nodes: Nodes, y: str, kind: str, size: int) -> str:
    """Return the class (N, n) that each of class scores (N, n, k) is for, in float64."""
    if size == 1:  # one score tells two classes apart, as :func:`predicted_classes` has it
        one = nodes.constant("one", np.float32(1))
        other = nodes.add("Sub", [one if kind == "probabilities" else y, y], "other")
        y = nodes.add("Concat", [other, y], "both", axis=2)
    return nodes.cast(nodes.add("ArgMax", [y], "largest", axis=2, keepdims=0), _DOUBLE, "float64")


def value_range(nodes: Nodes, y: str) -> str:
    """Return the lowest and the highest entry (N, 2) of points (N, n, k), in float64."""
    points = nodes.cast(y, _DOUBLE, "float64")
    highest = nodes.top(nodes.top(points, 2, "highest_each"), 1, "highest", keep=True)
    turned = nodes.add("Neg", [points], "turned")
    lowest = nodes.top(nodes.top(turned, 2, "lowest_each"), 1, "lowest_turned", keep=True)
    lowest = nodes.add("Neg", [lowest], "lowest")
    return nodes.add("Concat", [lowest, highest], "range", axis=1)
