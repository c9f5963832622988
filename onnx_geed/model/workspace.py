"""What the runtime takes while a node runs, beside its inputs and outputs: from shapes alone.

Only operators that take much have a rule, as ONNX Runtime's CPU kernels were measured to; a slow
test measures them again. What values decide, such as how large the regions are that a model is to
look at, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx

from onnx_geed.model.nodes import attribute, axis_of, integer_of
from onnx_geed.model.shapes import Types

__all__ = ["workspace"]

# Lengths of a tensor's axes, free ones being 1.
Lengths = Sequence[int]

# Of all inputs of a node, or of all outputs.
Shapes = Sequence[Lengths]

_Rule = Callable[[onnx.NodeProto, Shapes, Shapes], int]

# Bytes of what a point of a region is read from.
_SAMPLED = 48


def workspace(node: onnx.NodeProto, types: Types) -> int:
    """Return the bytes that a node takes while it runs, beside its inputs and outputs.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    types : dict
        Dtype and shape by tensor; free lengths count as 1.

    Returns
    -------
    int
        0 where it is in proportion to them, or not known.
    """
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    inputs, outputs = (
        [_lengths(types, name) for name in names] for names in (node.input, node.output)
    )
    try:
        return max(0, rule(node, inputs, outputs))
    except (AttributeError, LookupError, TypeError, ValueError):  # a node that is none
        return 0


def _lengths(types: Types, name: str) -> Lengths:
    shape = types.get(name, ("?", None))[1] or ()
    return [1 if length is None else max(0, length) for length in shape]


def _convolution(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Patches of the input side by side: by pieces, but for more than three axes."""
    kernel, made = inputs[1], outputs[0]
    if len(kernel) < 6:
        return 0
    return 4 * math.prod(kernel[1:]) * math.prod(made[2:])


def _whole_convolution(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Patches of bytes, or addresses into the input where each channel has its own filter."""
    kernel, made = inputs[3 if node.op_type == "QLinearConv" else 1], outputs[0]
    each = math.prod(kernel[1:]) if kernel[1] > 1 else 8 * math.prod(kernel[2:])
    return each * math.prod(made[2:])


def _spreading(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """What every place of the input adds, before it is summed."""
    given, kernel = inputs[:2]
    return 4 * math.prod(kernel[1:]) * math.prod(given[2:])


def _across_channels(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Squares with as many channels around as are summed over, and the sums."""
    _, channels, *places = inputs[0]
    padded = channels + integer_of(node, "size", 1) - 1
    return 4 * padded * math.prod(places) + 4 * math.prod(inputs[0])


def _recurrent(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """All gates at all times."""
    given, recurrence = inputs[0], inputs[2]
    directions, gates, hidden = recurrence
    kept = 2 * hidden if node.op_type == "RNN" else gates
    return 4 * directions * math.prod(given[:2]) * kept


def _beside_the_last(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Input and output with the axis last."""
    rank = len(inputs[0])
    last = axis_of(node, -1, rank) == rank - 1
    return 0 if last else 8 * math.prod(inputs[0])


def _smoothed(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """One axis resized, the other not yet."""
    if not integer_of(node, "antialias", 0):
        return 0
    given, made = inputs[0], outputs[0]
    return 4 * math.prod(given[1:-1] or given[:-1]) * made[-1]


def _regions(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Where the points of one region are read."""
    places = integer_of(node, "output_height", 1) * integer_of(node, "output_width", 1)
    return _SAMPLED * places * integer_of(node, "sampling_ratio", 0) ** 2


def _contraction(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """What is made of the first operands, until the last has been joined; and a copy of it."""
    equation = attribute(node, "equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        right = "".join(letter for letter in left if left.count(letter) == 1)
    terms = left.split(",")
    sizes = {
        letter: length
        for term, given in zip(terms, inputs, strict=True)
        for letter, length in zip(term, given, strict=True)
    }
    most, seen = 0, set(terms[0])
    for i, term in enumerate(terms[1:], 2):
        seen |= set(term)
        seen &= set(right).union(*terms[i:])
        most = max(most, math.prod(sizes[letter] for letter in seen))
    return 8 * most


def _attention(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Every place's weight for every other, of all heads, before and after the softmax."""
    query, key = inputs[0], inputs[0] if node.domain else inputs[1]
    heads = query[1] if len(query) == 4 else 0
    heads = heads or integer_of(node, "num_heads", integer_of(node, "q_num_heads", 1))
    return 8 * query[0] * heads * query[-2] * key[-2]


_RULES: dict[str, _Rule] = {
    "Attention": _attention,
    "Conv": _convolution,
    "ConvInteger": _whole_convolution,
    "ConvTranspose": _spreading,
    "DeformConv": lambda node, inputs, outputs: (
        12 * math.prod(inputs[1][1:]) * math.prod(outputs[0][2:])
    ),
    "Einsum": _contraction,
    "FusedConv": _convolution,
    "GRU": _recurrent,
    "GroupNormalization": lambda node, inputs, outputs: 12 * math.prod(inputs[0]),
    "LRN": _across_channels,
    "LSTM": _recurrent,
    "LogSoftmax": _beside_the_last,
    "Max": lambda node, inputs, outputs: 4 * math.prod(outputs[0]) * (len(inputs) > 2),
    "Min": lambda node, inputs, outputs: 4 * math.prod(outputs[0]) * (len(inputs) > 2),
    "QLinearConv": _whole_convolution,
    "RNN": _recurrent,
    "Resize": _smoothed,
    "RoiAlign": _regions,
    "Softmax": _beside_the_last,
    "Unique": lambda node, inputs, outputs: 128 * math.prod(inputs[0]),
    "Where": lambda node, inputs, outputs: 8 * math.prod(outputs[0]),
}
