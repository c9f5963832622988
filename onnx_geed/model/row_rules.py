"""Operators that keep rows apart, or not: entry by entry, along axes, and products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from onnx_geed.model.nodes import attribute, integer_of, ops
from onnx_geed.model.row_state import (
    Apart,
    Located,
    Rule,
    State,
    Tracker,
    has_input,
    integers,
    lost,
    lost_beside,
    mixed,
    on_what,
    others_still,
    states_of_outputs,
)

__all__ = ["REDUCE", "RULES", "broadcast", "combined", "leading", "reduced_axes", "same"]


def same(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Keep flat positions: reshapes, and functions of one entry."""
    first, *others = (tracker.state(name) for name in node.input)
    if any(isinstance(state, Apart) for state in others) and node.op_type != "CastLike":
        return lost(node, "more than one input depends on the data")
    return first


def _dropout(tracker: Tracker, node: onnx.NodeProto) -> State:
    value = tracker.value(node.input[2]) if has_input(node, 2) else None
    if has_input(node, 2) and (value is None or bool(value.any())):
        return lost(node, "drops at random")
    return same(tracker, node)


def broadcast(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Combine all inputs by numpy's broadcasting."""
    return combined(tracker, node, [name for name in node.input if name])


def combined(tracker: Tracker, node: onnx.NodeProto, names: Sequence[str]) -> State:
    """Combine entries by numpy's broadcasting."""
    rows = [n for n in names if isinstance(tracker.state(n), Apart)]
    others = [n for n in names if n not in rows]
    shapes = {n: tracker.shape(n) for n in dict.fromkeys(names)}
    for name in others:
        if not tracker.still(name):
            return lost(node, "the number of rows is among its values")
        if shapes[name] is None:
            return lost(node, f"the shape of {name!r} is not known")
    out = tracker.shape(node.output[0])
    strides = {tracker.state(n) for n in rows}
    plain = all(math.prod(shapes[n] or ()) == 1 for n in others)
    alike = len(rows) == 1 or (shapes[rows[0]] and len({shapes[n] for n in rows}) == 1)
    if len(strides) == 1 and plain and alike:
        return tracker.state(rows[0])
    if out is None:
        return lost(node, "its shape is not known")
    places = set()
    for name in rows:
        place, shape = tracker.place(name), shapes[name]
        if place is None or shape is None:
            return lost(node, "the batch is not one axis")
        places.add(Located(place.axis + len(out) - len(shape), place.outer, place.inner))
    if len({place.axis for place in places}) > 1:
        return mixed(node, "holds every row against every other")
    if len(places) > 1:
        return lost(node, "the batch is not the same axis of its inputs")
    (place,) = places
    for name in others:
        shape = shapes[name] or ()
        axis = place.axis + len(shape) - len(out)
        if axis >= 0 and shape[axis] != 1:
            return lost(node, f"{name!r} has a value of its own for every row")
    return tracker.at(node.output[0], place, node)


def _transpose(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    if shape is None or place is None:
        return lost(node, "the batch is not one axis")
    perm = attribute(node, "perm") or list(range(len(shape)))[::-1]
    moved = Located(list(perm).index(place.axis), place.outer, place.inner)
    return tracker.at(node.output[0], moved, node)


def reduced_axes(tracker: Tracker, node: onnx.NodeProto) -> list[int] | str | None:
    """Return the axes that are reduced: ``"all"``, or none where they are not known."""
    if node.op_type in ("ArgMax", "ArgMin"):
        return [integer_of(node, "axis", 0)]
    axes = integers(tracker, node, "axes", 1)
    if axes is None and has_input(node, 1):
        return None
    return axes or ([] if integer_of(node, "noop_with_empty_axes", 0) else "all")


def _reduce(tracker: Tracker, node: onnx.NodeProto) -> State:
    axes, shape = reduced_axes(tracker, node), tracker.shape(node.input[0])
    place = tracker.place(node.input[0])
    if not isinstance(axes, list) or shape is None or place is None:
        return lost(node, "the batch is not one axis, or the axes are not known")
    gone = {axis % len(shape) for axis in axes}
    if place.axis in gone:
        return mixed(node, "is taken over the rows")
    kept = integer_of(node, "keepdims", 1)
    axis = place.axis - (0 if kept else sum(i < place.axis for i in gone))
    return tracker.at(node.output[0], Located(axis, place.outer, place.inner), node)


def _along(default: int, reason: str) -> Rule:
    """Mix entries along one axis, has_input by ``axis``."""

    def rule(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
        shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
        if shape is None or place is None:
            return lost(node, "the batch is not one axis")
        if integer_of(node, "axis", default) % len(shape) == place.axis:
            return mixed(node, reason)
        if not others_still(tracker, node):
            return lost_beside(tracker, node)
        return states_of_outputs(tracker, node, place)

    return rule


def _softmax(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    if tracker.opset >= 13:
        return _along(-1, "is taken over the rows")(tracker, node)
    return _from_axis(1, "is taken over the rows")(tracker, node)


def _from_axis(default: int, reason: str) -> Rule:
    """Mix entries along some axis and all behind it."""

    def rule(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
        shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
        if shape is None or place is None:
            return lost(node, "the batch is not one axis")
        if place.axis >= integer_of(node, "axis", default) % len(shape):
            return mixed(node, reason)
        if not others_still(tracker, node):
            return lost_beside(tracker, node)
        return states_of_outputs(tracker, node, place)

    return rule


def leading(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    """Work on every entry of axis 0 apart, as convolutions and pooling do."""
    place = tracker.place(node.input[0])
    if not others_still(tracker, node):
        return lost_beside(tracker, node)
    if place is None or place.axis:
        if place and place.axis > 1 and node.op_type.startswith("Global"):
            return mixed(node, "is taken over the rows")
        return lost(node, "the batch does not lead")
    states = states_of_outputs(tracker, node, place)
    if node.op_type == "MaxPool" and len(states) > 1:
        states[1] = lost(node, "its indices count through all rows")
    return states


def _batch_norm(tracker: Tracker, node: onnx.NodeProto) -> State:
    place = tracker.place(node.input[0])
    if not others_still(tracker, node):
        return lost_beside(tracker, node)
    if place is None or place.axis == 1:
        return lost(node, "the batch is not one axis besides the channels")
    return same(tracker, node)


def _mean_variance(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    axes = attribute(node, "axes") or [0, 2, 3]
    if place is None or shape is None:
        return lost(node, "the batch is not one axis")
    if place.axis in {axis % len(shape) for axis in axes}:
        return mixed(node, "normalises over the rows")
    return states_of_outputs(tracker, node, place)


def _cum_sum(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    axis = tracker.value(node.input[1])
    if place is None or shape is None or axis is None:
        return lost(node, "the batch is not one axis, or the axis is not known")
    if int(axis.item()) % len(shape) == place.axis:
        return mixed(node, "adds the rows up")
    return states_of_outputs(tracker, node, place)


def _trilu(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    if place is None or shape is None or place.axis >= len(shape) - 2:
        return lost(node, "what it keeps depends on a row's place")
    return states_of_outputs(tracker, node, place)


def _gemm(tracker: Tracker, node: onnx.NodeProto) -> State:
    a, b = node.input[:2]
    turned = (integer_of(node, "transA", 0), integer_of(node, "transB", 0))
    places: list[Located] = []
    for k, name in enumerate((a, b)):
        if tracker.still(name):
            continue
        place = tracker.place(name)
        if place is None:
            return lost(node, "the batch is not one axis")
        summed = 1 - k if not turned[k] else k
        if place.axis == summed:
            return mixed(node, "adds over the rows")
        places.append(Located(k, place.outer, place.inner))
    if len(places) > 1:
        return mixed(node, "holds every row against every other")
    if not places:
        return lost(node, "the batch is in what is added only")
    (place,), out = places, tracker.shape(node.output[0])
    if has_input(node, 2) and out is not None:
        added, shape = tracker.state(node.input[2]), tracker.shape(node.input[2])
        if shape is None:
            return lost(node, "a shape is not known")
        axis = place.axis + len(shape) - 2
        if isinstance(added, Apart):
            other = tracker.place(node.input[2])
            if other != Located(axis, place.outer, place.inner):
                return lost(node, "what is added has the batch elsewhere")
        elif not tracker.still(node.input[2]) or (axis >= 0 and shape[axis] != 1):
            return lost(node, f"{node.input[2]!r} has a value of its own for every row")
    return tracker.at(node.output[0], place, node)


def _product(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Multiply matrices, the leading axes broadcast."""
    if any(
        integer_of(node, name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB")
    ):
        return lost(node, "its operands are transposed")
    a, b = _operands(node)
    others = [n for n in node.input if n and n not in (a, b)]
    out = tracker.shape(node.output[0])
    if out is None:
        return lost(node, "its shape is not known")
    if not all(tracker.still(n) for n in others):
        return lost(node, f"its scale depends on {on_what(tracker, *others)}")
    places = set()
    for k, name in enumerate((a, b)):
        if tracker.still(name):
            continue
        place, shape = tracker.place(name), tracker.shape(name)
        if place is None or shape is None or len(shape) < 2:
            return lost(node, "the batch is not one axis")
        behind = place.axis - len(shape)
        if behind == (-1, -2)[k]:
            return mixed(node, "adds over the rows")
        if behind == (-2, -1)[k]:  # the rows are rows of the first, or columns of the second
            axis = len(out) - (1 if k or _flat(tracker, b) else 2)
            places.add(Located(axis, place.outer, place.inner))
        else:
            gone = sum(_flat(tracker, n) for n in (a, b))
            places.add(Located(len(out) + behind + gone, place.outer, place.inner))
    for name in (a, b):  # weights of its own for every row
        shape = tracker.shape(name)
        if not tracker.still(name) or shape is None:
            continue
        for place in places:
            axis = place.axis - len(out) + len(shape)
            if place.axis < len(out) - 2 and axis >= 0 and shape[axis] != 1:
                return lost(node, f"{name!r} has a value of its own for every row")
    if len({place.axis for place in places}) > 1:
        return mixed(node, "holds every row against every other")
    if len(places) != 1:
        return lost(node, "the batch is not the same axis of its inputs")
    (place,) = places
    return tracker.at(node.output[0], place, node)


def _flat(tracker: Tracker, name: str) -> bool:
    shape = tracker.shape(name)
    return shape is not None and len(shape) == 1


def _operands(node: onnx.NodeProto) -> tuple[str, str]:
    second = 3 if node.op_type == "QLinearMatMul" else 1
    return node.input[0], node.input[second]


def _einsum(tracker: Tracker, node: onnx.NodeProto) -> State:
    equation = attribute(node, "equation", "").replace(" ", "")
    if "." in equation:
        return lost(node, "its equation has an ellipsis")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation:
        joined = "".join(terms)
        right = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    letters = set()
    if any(len(set(term)) < len(term) for term in terms):
        return lost(node, "takes a diagonal")
    for term, name in zip(terms, node.input, strict=True):
        if tracker.still(name):
            continue
        place = tracker.place(name)
        if place is None:
            return lost(node, "the batch is not one axis")
        letters.add((term[place.axis], place.outer, place.inner))
    if len({letter for letter, _, _ in letters}) > 1:
        return mixed(node, "holds every row against every other")
    if len(letters) != 1:
        return lost(node, "the batch is not the same axis of its inputs")
    ((letter, outer, inner),) = letters
    for term, name in zip(terms, node.input, strict=True):
        shape = tracker.shape(name)
        own = tracker.still(name) and letter in term
        if own and (shape is None or shape[term.index(letter)] != 1):
            return lost(node, f"{name!r} has a value of its own for every row")
    if letter not in right:
        return mixed(node, "adds over the rows")
    return tracker.at(node.output[0], Located(right.index(letter), outer, inner), node)


REDUCE = ops(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp"
)


#: By domain and names of operators.
RULES: list[tuple[str, str, Rule]] = [
    (
        "",
        "Reshape Flatten Squeeze Unsqueeze Identity Cast CastLike Relu Sigmoid HardSigmoid "
        "HardSwish Tanh Erf Exp Log Sqrt Abs Neg Elu Selu Celu Gelu LeakyRelu ThresholdedRelu "
        "Softplus Softsign Mish Swish Shrink Sign Floor Ceil Round Reciprocal Sin Cos Tan Asin "
        "Acos Atan Sinh Cosh Asinh Acosh Atanh Not IsNaN IsInf BitwiseNot",
        same,
    ),
    (
        "",
        "Add Sub Mul Div Pow Min Max Sum Mean Mod And Or Xor Equal Greater GreaterOrEqual Less "
        "LessOrEqual Where PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor Clip",
        broadcast,
    ),
    ("", " ".join(REDUCE) + " ArgMax ArgMin", _reduce),
    ("", "Transpose", _transpose),
    ("", "Dropout", _dropout),
    ("", "Softmax LogSoftmax Hardmax", _softmax),
    ("", "TopK", _along(-1, "sorts the rows")),
    ("", "LpNormalization", _along(-1, "normalises over the rows")),
    ("", "LayerNormalization RMSNormalization", _from_axis(-1, "normalises over the rows")),
    ("", "MeanVarianceNormalization", _mean_variance),
    ("", "BatchNormalization", _batch_norm),
    ("", "CumSum", _cum_sum),
    ("", "Trilu", _trilu),
    (
        "",
        "Conv ConvTranspose ConvInteger QLinearConv AveragePool MaxPool LpPool GlobalAveragePool "
        "GlobalMaxPool GlobalLpPool InstanceNormalization GroupNormalization LRN DepthToSpace "
        "SpaceToDepth",
        leading,
    ),
    ("", "Gemm", _gemm),
    ("", "MatMul MatMulInteger QLinearMatMul", _product),
    ("", "Einsum", _einsum),
    ("com.microsoft", "FusedMatMul", _product),
    ("com.microsoft", "FusedGemm", _gemm),
]
