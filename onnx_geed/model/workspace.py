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

# Channels of a block, on the processors that have the longest vectors.
_BLOCK = 16


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
    """Images whose channels lie in blocks, of which the last is filled up.

    Patches of the input side by side are made by pieces, but for more than three axes.
    """
    given, kernel, made = inputs[0], inputs[1], outputs[0]
    if len(kernel) >= 6:
        return 4 * math.prod(kernel[1:]) * math.prod(made[2:])
    if len(kernel) != 4:
        return 0
    group = integer_of(node, "group", 1)
    each = 1 < group == given[1] == made[1]
    if group > 1 and not (each and group >= _BLOCK // 2) and kernel[1] % _BLOCK:
        return 0
    after = 4 * made[0] * _blocked(made[1]) * math.prod(made[2:])
    before = 4 * given[0] * _blocked(given[1]) * math.prod(given[2:])
    if not each and given[1] < _BLOCK:
        return after
    return max(after, before + after - 4 * math.prod(made))


def _blocked(channels: int) -> int:
    return -(-channels // _BLOCK) * _BLOCK


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
    """All gates at all times; of one that goes back, what it reads and makes once more."""
    given, recurrence = inputs[0], inputs[2]
    directions, gates, hidden = recurrence
    if node.op_type == "DynamicQuantizeLSTM":
        hidden, gates = gates, hidden
    steps = math.prod(given[:2])
    rows = given[0 if integer_of(node, "layout", 0) else 1]
    makes_all = any(node.output[:1])
    if node.op_type == "RNN":
        return 4 * steps * hidden * (1 if makes_all else 1 + directions)
    goes_back = attribute(node, "direction", "forward") != "forward"
    again = goes_back * (math.prod(given) + makes_all * steps * hidden)
    states = (3 if node.op_type == "GRU" else 5) * rows * hidden
    return int(4 * (directions * (steps * gates + states) + again))


def _beside_the_last(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Input and output with the axis last."""
    rank = len(inputs[0])
    last = axis_of(node, -1, rank) == rank - 1
    return 0 if last else 8 * math.prod(inputs[0])


def _resized(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Tables of all lengths; one axis resized, the other not yet; or a table of all lines."""
    given, made = inputs[0], outputs[0]
    tables = 32 * sum(made)
    if not integer_of(node, "antialias", 0):
        is_cubic = attribute(node, "mode", "nearest") == "cubic"
        return tables + (48 * given[-2] * made[-1] if is_cubic else 0)
    return tables + 4 * math.prod(given[1:-1] or given[:-1]) * made[-1]


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
    if len(terms) == 1:
        return 4 * math.prod(inputs[0])
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


def _transform(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Of a length that is no power of two, five lists of complex numbers twice as long."""
    length = max(*inputs[0][:-1], *outputs[0][:-1])
    return 40 * (1 << (2 * length - 1).bit_length())


def _largest(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """The places of as many as are looked for."""
    made = outputs[0]
    return 8 * made[axis_of(node, -1, len(made))]


def _of_the_input(each: int) -> _Rule:
    return lambda node, inputs, outputs: each * math.prod(inputs[0])


def _of_several(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    return 4 * math.prod(outputs[0]) * (len(inputs) > 2)


def _attention(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> int:
    """Every place's weight for every other, of all heads, before and after the softmax."""
    query, key = inputs[0], inputs[0] if node.domain else inputs[1]
    heads = query[1] if len(query) == 4 else 0
    heads = heads or integer_of(node, "num_heads", integer_of(node, "q_num_heads", 1))
    return 8 * query[0] * heads * query[-2] * key[-2]


# Of CDist, Compress, Inverse and NonZero nobody knows what they make, so that it is in here too.
_RULES: dict[str, _Rule] = {
    "Attention": _attention,
    "CDist": lambda node, inputs, outputs: 4 * inputs[0][0] * inputs[1][0],
    "Compress": _of_the_input(4),
    "Conv": _convolution,
    "ConvInteger": _whole_convolution,
    "ConvTranspose": _spreading,
    "DFT": _transform,
    "DeformConv": lambda node, inputs, outputs: (
        12 * math.prod(inputs[1][1:]) * math.prod(outputs[0][2:])
    ),
    "Det": _of_the_input(8),
    "DynamicQuantizeLSTM": _recurrent,
    "Einsum": _contraction,
    "FusedConv": _convolution,
    "GRU": _recurrent,
    "GatherND": lambda node, inputs, outputs: 8 * math.prod(inputs[1][:-1]),
    "GroupNormalization": _of_the_input(12),
    "HardSwish": _of_the_input(4),
    "Hardmax": _beside_the_last,
    "Inverse": _of_the_input(12),
    "LRN": _across_channels,
    "LSTM": _recurrent,
    "LogSoftmax": _beside_the_last,
    "Max": _of_several,
    "Mean": _of_several,
    "MeanVarianceNormalization": _of_the_input(12),
    "Min": _of_several,
    "Mish": _of_the_input(4),
    "NonZero": lambda node, inputs, outputs: 16 * len(inputs[0]) * math.prod(inputs[0]),
    "QLinearConv": _whole_convolution,
    "RNN": _recurrent,
    "Resize": _resized,
    "RoiAlign": _regions,
    "ScatterElements": lambda node, inputs, outputs: 8 * math.prod(inputs[1]),
    "ScatterND": lambda node, inputs, outputs: 8 * math.prod(inputs[1][:-1]),
    "Softmax": _beside_the_last,
    "Sum": _of_several,
    "TopK": _largest,
    "Unique": _of_the_input(160),
    "Where": lambda node, inputs, outputs: 8 * math.prod(outputs[0]),
}
