"""How letters pass through a node: one rule an operator; what no rule says is not known."""

from __future__ import annotations

import math

from onnx_geed.model import letter_parts, letter_sums
from onnx_geed.model.axis_parts import Axes, Axis, Part, length, reshaped
from onnx_geed.model.letter_reading import LetterRule, Made, Reading
from onnx_geed.model.lettered_axes import (
    ALIKE,
    FIXED,
    LOST,
    broadcast,
    folded,
    is_fixed,
    kind,
    lost,
    nonlinear,
    one_axis,
    rejoined,
)
from onnx_geed.model.nodes import axis_of, integers_of, ops, stated_axes
from onnx_geed.model.shapes import Shape

__all__ = ["axes_after"]

# Stands for a length that is free, where there is one; no length of a model is divisible by it.
_FREE = 1000003


def axes_after(reading: Reading) -> list[Axes | None]:
    """Return the axes of a node's outputs, as they follow from those of what it reads."""
    rule = _RULES.get(reading.node.op_type)
    result = None if rule is None else rule(reading)
    if result is None:
        return [None] * len(reading.node.output)
    if isinstance(result, list):
        return result
    return [result] * len(reading.node.output)


# ------------------------------------------------------------------------------------------------
# Entry by entry
# ------------------------------------------------------------------------------------------------


def _linear(r: Reading) -> Axes | None:
    return r.axes(0)


def _pointwise(r: Reading) -> Axes | None:
    axes = r.axes(0)
    return None if axes is None else nonlinear(axes)


def _arithmetic(r: Reading) -> Axes | None:
    operands = [r.operand(i) for i in range(len(r.node.input))]
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands):
        return None
    axes = broadcast(known)
    vectors = [i for i, axis in enumerate(axes) if kind(axis) == "X"]
    keeps = all(_keeps_vectors(r, i - len(axes)) for i in vectors)
    return axes if keeps else nonlinear(axes)


def _keeps_vectors(r: Reading, axis: int) -> bool:
    """Whether the components along an axis are those of sums or multiples of vectors."""

    def has_it(i: int) -> bool:
        own = r.axes(i)
        return bool(own and len(own) >= -axis and kind(own[axis]) == "X")

    vectors = [has_it(i) for i in range(len(r.node.input))]
    op = r.node.op_type
    if op in ("Add", "Sub", "Sum", "Mean"):
        return all(v or not r.is_data(i) for i, v in enumerate(vectors))
    if op == "Mul":
        return sum(vectors) == 1
    if op == "Div":
        return vectors == [True, False]
    if op == "Where":
        return not vectors[0] and all(v or not r.is_data(1 + i) for i, v in enumerate(vectors[1:]))
    return False


def _quantised(r: Reading) -> Made:
    axes = r.axes(0)
    # The scale and the zero of all that was quantised together are single numbers.
    return None if axes is None else [axes, (), ()]


# ------------------------------------------------------------------------------------------------
# The same entries in another order or shape
# ------------------------------------------------------------------------------------------------


def _transposed(r: Reading) -> Axes | None:
    axes = r.axes(0)
    if axes is None:
        return None
    perm = integers_of(r.node, "perm") or list(reversed(range(len(axes))))
    return tuple(axes[i] for i in perm) if len(perm) == len(axes) else None


def _unsqueezed(r: Reading) -> Axes | None:
    axes, over = r.axes(0), stated_axes(r.node, r.integers)
    if axes is None or not over:
        return None
    rank, rest = len(axes) + len(over), list(axes)
    fresh = {axis % rank for axis in over}
    return tuple(() if i in fresh else rest.pop(0) for i in range(rank))


def _squeezed(r: Reading) -> Axes | None:
    axes, over = r.axes(0), stated_axes(r.node, r.integers)
    if axes is None or over == []:
        return None
    if over is None:
        if any(length(axis) is None for axis in axes):
            return None
        over = [i for i, axis in enumerate(axes) if length(axis) == 1]
    gone = {axis % len(axes) for axis in over}
    return tuple(axis for i, axis in enumerate(axes) if i not in gone)


def _flattened(r: Reading) -> Axes | None:
    axes = r.axes(0)
    if axes is None:
        return None
    at = axis_of(r.node, 1, len(axes))
    sides = axes[:at], axes[at:]
    return tuple(_laid_end_to_end(side) for side in sides)


def _laid_end_to_end(axes: Axes) -> Axis:
    longer = [axis for axis in axes if length(axis) != 1] or list(axes[:1])
    return tuple(part for axis in longer for part in axis)


def _reshaped(r: Reading) -> Axes | None:
    axes, shape = r.axes(0), r.made()
    if axes is None or shape is None:
        return None
    if all(is_fixed(axis) or kind(axis) == "N" for axis in axes):
        return _of_vectors(axes, shape, r.batch)
    after = _laid_out(axes, shape, r.batch)
    if after is None or sum(map(bool, after)) >= sum(map(bool, axes)):
        return after
    return tuple(map(rejoined, after))


def _of_vectors(axes: Axes, shape: Shape, batch: int | None) -> Axes | None:
    """Axes after a Reshape of features: what a decoder makes of them may be lines or planes."""
    # Numbered, lest neighbours be joined: of several vectors each is cut for itself.
    numbered = tuple(
        tuple(
            Part(f"{FIXED}{i}", p.size, p.step, p.axis_length) if p.letter == FIXED else p
            for p in axis
        )
        for i, axis in enumerate(axes)
    )
    after = _laid_out(numbered, shape, batch)
    if after is None:  # cut across two of them
        after = _laid_out(axes, shape, batch)
        lone = [axis for axis in after or () if axis and kind(axis) == FIXED]
        return after and tuple(lost(length(a)) if a in lone and lone[1:] else a for a in after)
    whole = {part for axis in numbered for part in axis}
    cuts = [
        axis
        for axis in after
        if axis and all(p.letter[0] == FIXED for p in axis) and not whole.issuperset(axis)
    ]
    plain = {axis: tuple(_plain(part) for part in axis) for axis in after}
    return tuple(folded(a) if a in cuts and cuts[1:] else plain[a] for a in after)


def _plain(part: Part) -> Part:
    """Return a part of features without their number."""
    letter = FIXED if part.letter[0] == FIXED else part.letter
    return Part(letter, part.size, part.step, part.axis_length)


def _laid_out(axes: Axes, shape: Shape, batch: int | None) -> Axes | None:
    # One free length on both sides is the same one.
    free = [part for axis in axes for part in axis if part.size is None]
    if len(free) != 1 or shape.count(None) != 1:
        return reshaped(axes, shape, batch)
    full = tuple(tuple(_with_free(part) for part in axis) for axis in axes)
    known = math.prod(length(axis) or 0 for axis in full)
    rest = math.prod(n for n in shape if n is not None)
    if not rest or known % rest:
        return None
    after = reshaped(full, tuple(known // rest if n is None else n for n in shape), batch)
    return after and tuple(tuple(_without_free(part) for part in axis) for axis in after)


def _with_free(part: Part) -> Part:
    return part if part.size is not None else Part(part.letter, _FREE, 1, _FREE)


def _without_free(part: Part) -> Part:
    """Return a part whose free length is free again."""
    if (part.size or 0) % _FREE:
        return part
    return Part(part.letter if part.size == _FREE else LOST, None)


def _expanded(r: Reading) -> Axes | None:
    axes, shape = r.axes(0), r.made()
    if axes is None or shape is None:
        return None
    padded = ((),) * (len(shape) - len(axes)) + axes
    if len(padded) != len(shape):
        return None
    result: list[Axis] = []
    for axis, size in zip(padded, shape, strict=True):
        if length(axis) == size or kind(axis) == "N":
            result.append(axis)
        elif length(axis) == 1:
            result.append(one_axis(kind(axis) or ALIKE, size))
        else:
            result.append(lost(size))
    return tuple(result)


def _tiled(r: Reading) -> Axes | None:
    # What is laid out several times is no axis that it was, unless it has one entry.
    axes = _expanded(r)
    repeats = r.integers.get(r.name(1))
    if axes is None or repeats is None or len(repeats) != len(axes):
        return None
    if any(n != 1 and kind(axis) == "N" for n, axis in zip(repeats, axes, strict=True)):
        return None
    return axes


_OWN: list[tuple[LetterRule, str]] = [
    (_linear, "Identity Cast CastLike Dropout Neg BatchNormalization QuantizeLinear"),
    (_linear, "DequantizeLinear Trilu"),
    (_pointwise, "Relu LeakyRelu Elu Selu Celu Gelu FastGelu QuickGelu BiasGelu Sigmoid Swish"),
    (_pointwise, "Mish HardSigmoid HardSwish Tanh Softplus Softsign ThresholdedRelu Clip Erf Exp"),
    (_pointwise, "Log Sqrt Abs Reciprocal Sign Floor Ceil Round Sin Cos Tan Sinh Cosh Asin Acos"),
    (_pointwise, "Atan Asinh Acosh Atanh Not IsNaN IsInf Shrink Softmax LogSoftmax Hardmax"),
    (_pointwise, "LayerNormalization RMSNormalization SimplifiedLayerNormalization LRN"),
    (_pointwise, "InstanceNormalization GroupNormalization MeanVarianceNormalization"),
    (_pointwise, "CumSum LpNormalization QLinearSigmoid QLinearLeakyRelu QLinearSoftmax"),
    (_arithmetic, "Add Sub Mul Div Pow Min Max Sum Mean Mod Where PRelu And Or Xor Equal Greater"),
    (_arithmetic, "Less GreaterOrEqual LessOrEqual"),
    (_quantised, "DynamicQuantizeLinear"),
    (_transposed, "Transpose"),
    (_unsqueezed, "Unsqueeze"),
    (_squeezed, "Squeeze"),
    (_flattened, "Flatten"),
    (_reshaped, "Reshape"),
    (_expanded, "Expand"),
    (_tiled, "Tile"),
]


_RULES: dict[str, LetterRule] = {
    op: rule
    for rule, names in [*_OWN, *letter_parts.RULES, *letter_sums.RULES]
    for op in ops(names)
}
