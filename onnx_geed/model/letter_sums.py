"""How letters pass through nodes that sum up: reductions, windows, products."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.model.axis_parts import Axes, Axis
from onnx_geed.model.letter_reading import LetterRule, Made, Reading
from onnx_geed.model.lettered_axes import (
    Operand,
    broadcast,
    cut,
    fixed,
    is_fixed,
    kind,
    lost,
    mixed,
    nonlinear,
    one_axis,
    shrunk,
    slid,
)
from onnx_geed.model.nodes import attribute, integer_of, integers_of, stated_axes
from onnx_geed.model.shapes import Shape

__all__ = ["RULES"]


def _reduced(r: Reading) -> Axes | None:
    axes = r.axes(0)
    if axes is None:
        return None
    if r.node.op_type in ("ArgMax", "ArgMin"):
        over: list[int] | None = [integer_of(r.node, "axis", 0)]
    else:
        over = stated_axes(r.node, r.integers)
        if over is None and not integer_of(r.node, "noop_with_empty_axes", 0):
            over = list(range(len(axes)))
    if not over:
        return None
    if r.node.op_type not in ("ReduceMean", "ReduceSum"):
        axes = nonlinear(axes)
    gone = {axis % len(axes) for axis in over}
    if integer_of(r.node, "keepdims", 1):
        return tuple(shrunk(axis) if i in gone else axis for i, axis in enumerate(axes))
    return tuple(axis for i, axis in enumerate(axes) if i not in gone)


def _pooled_whole(r: Reading) -> Axes | None:
    axes = r.axes(0)
    if axes is None:
        return None
    if "Average" not in r.node.op_type:
        axes = nonlinear(axes)
    return (*axes[:2], *map(shrunk, axes[2:]))


def _pooled(r: Reading) -> Axes | None:
    axes, windows = r.axes(0), integers_of(r.node, "kernel_shape")
    if axes is None or windows is None or len(windows) != len(axes) - 2:
        return None
    if "Average" not in r.node.op_type:
        axes = nonlinear(axes)
    return (*axes[:2], *_slid_over(r, axes, windows))


def _slid_over(r: Reading, axes: Axes, windows: Sequence[int | None]) -> list[Axis]:
    """Axes along which a window is moved; one of a single place leaves them as they are."""
    strides = integers_of(r.node, "strides") or [1] * len(windows)
    pads = integers_of(r.node, "pads") or [0] * 2 * len(windows)
    result = []
    for i, window in enumerate(windows):
        alone = window == strides[i] == 1 and not any(pads[i :: len(windows)])
        result.append(axes[2 + i] if alone else slid(axes[2 + i], r.size(2 + i)))
    return result


def _convolved(r: Reading) -> Axes | None:
    axes, kernel = r.axes(0), 3 if r.node.op_type == "QLinearConv" else 1
    weights = r.shape(kernel)
    if axes is None or weights is None or r.is_data(kernel) or len(weights) != len(axes):
        return None
    windows = integers_of(r.node, "kernel_shape") or weights[2:]
    # Whatever was stacked there, frames say, a filter's number is a channel.
    return (axes[0], fixed(r.size(1)), *_slid_over(r, axes, windows))


def _folded(r: Reading) -> Axes | None:
    """Axes after DepthToSpace and SpaceToDepth."""
    axes = r.axes(0)
    if axes is None or not is_fixed(axes[1]):
        return None
    return (axes[0], fixed(r.size(1)), *(cut(axes[i], r.size(i)) for i in range(2, len(axes))))


def _recurrent(r: Reading) -> Made:
    axes = r.axes(0)
    if axes is None or len(axes) != 3 or any(map(r.is_data, (1, 2))):
        return None
    size = integer_of(r.node, "hidden_size", 0) or None
    directions = 2 if attribute(r.node, "direction", "forward") == "bidirectional" else 1
    ways, features = fixed(directions), mixed(axes[2], size)
    batch_first = integer_of(r.node, "layout", 0)
    along: Axes = (axes[0], axes[1], ways, features)
    last: Axes = (axes[0], ways, features)
    if not batch_first:
        along, last = (axes[0], ways, axes[1], features), (ways, axes[1], features)
    made: list[Axes | None] = [along, last, last]
    return made[: len(r.node.output)]


def _multiplied(r: Reading) -> Axes | None:
    second = 3 if r.node.op_type.startswith("QLinear") else 1
    one, two = r.operand(0), r.operand(second)
    if one is None and two is not None and len(two) == 2 and _is_rows(r.shape(0), r.batch):
        # Whatever a sample's vector is, a dense layer of all of it makes features.
        turned = r.is_data(second) or integer_of(r.node, "transA", 0)
        return None if turned else (one_axis("N", r.batch), fixed(r.size(1)))
    if one is None or two is None or not one or not two:
        return None
    swaps = [integer_of(r.node, key, 0) for key in ("transA", "transB")]
    if r.node.op_type in ("Gemm", "FusedGemm") and r.is_data(2):
        return None
    if swaps[0]:
        one = (*one[:-2], one[-1], one[-2])
    if swaps[1]:
        two = (*two[:-2], two[-1], two[-2])
    return _product(one, two, r.is_data(0), r.is_data(second))


def _is_rows(shape: Shape | None, batch: int | None) -> bool:
    """Whether a shape is that of a vector a sample."""
    return shape is not None and len(shape) == 2 and batch is not None and shape[0] == batch


def _product(one: Operand, two: Operand, left: bool, right: bool) -> Axes | None:
    vectors = len(one) == 1, len(two) == 1
    one = (*_single(left), *one) if vectors[0] else one
    two = (*two, *_single(right)) if vectors[1] else two
    ahead = broadcast([one[:-2], two[:-2]])
    if left and right and _shared_vectors(one[:-2], two[:-2]):
        ahead = nonlinear(ahead)
    rows, columns = one[-2], two[-1]
    summed = [axis for axis in (one[-1], two[-2]) if isinstance(axis, tuple)]
    if not isinstance(rows, tuple):
        rest = [*ahead, columns]
        rows = mixed(summed[0], rows, whole=_only_samples(rest))
    elif not isinstance(columns, tuple):
        columns = mixed(summed[0], columns, whole=_only_samples([*ahead, rows]))
    middle = ([] if vectors[0] else [rows]) + ([] if vectors[1] else [columns])
    return (*ahead, *(axis for axis in middle if isinstance(axis, tuple)))


def _single(data: bool) -> Operand:
    return ((),) if data else (1,)


def _shared_vectors(one: Operand, two: Operand) -> bool:
    pairs = zip(reversed(one), reversed(two), strict=False)
    return any(
        isinstance(a, tuple) and isinstance(b, tuple) and kind(a) == kind(b) == "X"
        for a, b in pairs
    )


def _only_samples(axes: Sequence[Axis | int | None]) -> bool:
    """Whether axes are the samples' and single entries: what is left of a sample is one thing."""
    return all(isinstance(axis, tuple) and kind(axis) in ("N", "") for axis in axes)


def _einsum(r: Reading) -> Axes | None:
    equation = attribute(r.node, "equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    operands = [r.operand(i) for i in range(len(r.node.input))]
    names = terms.split(",")
    if not arrow or "." in equation or None in operands or len(names) != len(operands):
        return None
    own: dict[str, Axis] = {}
    sizes: dict[str, int | None] = {}
    spoilt: set[str] = set()
    for term, operand in zip(names, operands, strict=True):
        if operand is None or len(term) != len(operand) or len(set(term)) != len(term):
            return None
        for x, axis in zip(term, operand, strict=True):
            if not isinstance(axis, tuple):
                sizes[x] = axis
            elif x in own:
                if kind(own[x]) == kind(axis) == "X":
                    spoilt.add(x)
                (own[x],) = broadcast([(own[x],), (axis,)])
            else:
                own[x] = axis
    gone = [axis for x, axis in own.items() if x not in result]
    whole = _only_samples([own[x] for x in result if x in own])
    made: list[Axis] = []
    for x in result:
        if x in own:
            made.append(*nonlinear((own[x],)) if x in spoilt else (own[x],))
            continue
        fresh = [mixed(axis, sizes.get(x), whole=whole) for axis in gone]
        surely = all(map(is_fixed, fresh))
        made.append(fixed(sizes.get(x)) if surely else lost(sizes.get(x)))
    return tuple(made)


def _attended(r: Reading) -> Axes | None:
    """Axes after attention in one node: queries, with features that were weighed."""
    axes = r.axes(0)
    if axes is None or len(axes) < 3:
        return None
    return (*axes[:-1], mixed(axes[-1], r.size(len(axes) - 1)))


RULES: list[tuple[LetterRule, str]] = [
    (_reduced, "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare"),
    (_reduced, "ReduceProd ReduceLogSum ReduceLogSumExp ArgMax ArgMin"),
    (_pooled_whole, "GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    (_pooled, "MaxPool AveragePool LpPool"),
    (_convolved, "Conv ConvTranspose ConvInteger QLinearConv FusedConv"),
    (_folded, "DepthToSpace SpaceToDepth"),
    (_recurrent, "LSTM GRU RNN"),
    (_multiplied, "MatMul Gemm MatMulInteger QLinearMatMul FusedMatMul FusedGemm"),
    (_einsum, "Einsum"),
    (_attended, "Attention MultiHeadAttention"),
]
