"""How long nodes compute, before any is run: from shapes alone.

What each operator does is counted, and a second is what one core of a usual processor does of it.
The rates are those of ONNX Runtime's CPU kernels, measured; another machine may be a few times
slower or faster, a hostile node is a million times too large. What values decide is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx

from onnx_geed.model.nodes import attribute, integer_of, integers_of
from onnx_geed.model.shapes import Types

__all__ = ["seconds_of"]

# Lengths of a tensor's axes, free ones being 1; of all inputs of a node, or of all outputs.
Lengths = Sequence[int]
Shapes = Sequence[Lengths]

_Rule = Callable[[onnx.NodeProto, Shapes, Shapes], float]

# Nanoseconds of a multiplication in a product of matrices, of floats and of whole numbers.
_PRODUCT, _WHOLE_PRODUCT = 0.02, 0.4

# Of a value that is copied for such a product, or added to others behind it.
_PATCH = 0.5

# Of a value that is read or written by any other operator.
_VALUE = 0.5


def seconds_of(
    node: onnx.NodeProto, types: Types, values: Mapping[str, Sequence[int]] | None = None
) -> float:
    """Return the seconds that a node computes.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    types : dict
        Dtype and shape by tensor; free lengths count as 1.
    values : mapping of str to sequence of int, optional
        Short constants by name.

    Returns
    -------
    float
        On one core, bodies not counted.
    """
    inputs, outputs = (
        [_lengths(types, name) for name in names] for names in (node.input, node.output)
    )
    # Of a constant, such as a table, a node need not read all.
    read = [n for name, n in zip(node.input, inputs, strict=True) if not _is_constant(types, name)]
    plain = _VALUE * sum(math.prod(shape) for shape in (*read, *outputs))
    rule = _RULES.get(node.op_type)
    more = 0.0
    try:
        if node.op_type == "NonMaxSuppression":
            more = _suppressing(inputs, (values or {}).get([*node.input, "", "", ""][2]))
        elif rule is not None:
            more = rule(node, inputs, outputs)
            if _is_whole(types, node) and rule is _matrices:
                more *= _WHOLE_PRODUCT / _PRODUCT
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        pass  # a node that is none
    return max(0.0, plain + more) * 1e-9


def _is_constant(types: Types, name: str) -> bool:
    return types.get(name, ("?", None))[0] == "constant"


def _is_whole(types: Types, node: onnx.NodeProto) -> bool:
    kinds = {types.get(name, ("?", None))[0] for name in (*node.input[:2], *node.output[:1])}
    return node.op_type == "MatMul" and any(kind.startswith(("int", "uint")) for kind in kinds)


def _lengths(types: Types, name: str) -> Lengths:
    shape = types.get(name, ("?", None))[1] or ()
    return [1 if length is None else max(0, length) for length in shape]


def _convolution(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    """Patches of the input side by side, and their products with the filters."""
    kernel = inputs[3 if node.op_type == "QLinearConv" else 1]
    made, patch = outputs[0], math.prod(kernel[1:])
    patches = made[0] * math.prod(made[2:]) * patch * integer_of(node, "group", 1)
    return _PRODUCT * math.prod(made) * patch + _PATCH * patches


def _spreading(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    given, patch = inputs[0], math.prod(inputs[1][1:])
    patches = given[0] * math.prod(given[2:]) * patch * integer_of(node, "group", 1)
    return _PRODUCT * math.prod(given) * patch + _PATCH * patches


def _matrices(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    left = inputs[0]
    turned = len(left) > 1 and integer_of(node, "transA", 0)
    return _PRODUCT * math.prod(outputs[0]) * left[-2 if turned else -1]


def _contraction(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    """Operands are joined one after the other; what no later one has is summed over."""
    left, arrow, right = attribute(node, "equation").replace(" ", "").partition("->")
    if not arrow:
        right = "".join(letter for letter in left if left.count(letter) == 1)
    terms = left.replace("...", "").split(",")
    sizes: dict[str, int] = {}
    for term, given in zip(terms, inputs, strict=True):
        sizes |= dict(zip(term, given[len(given) - len(term) :], strict=True))
    batch = max(math.prod(g[: len(g) - len(t)]) for t, g in zip(terms, inputs, strict=True))
    total, seen = 0, set(terms[0])
    for i, term in enumerate(terms[1:], 2):
        seen |= set(term)
        total += math.prod(sizes[letter] for letter in seen)
        seen &= set(right).union(*terms[i:])
    return _PRODUCT * batch * total


def _attention(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    """Every place's product with every other, twice, and the softmax between."""
    whole = node.op_type == "Attention" and node.domain == "com.microsoft"
    query, key = inputs[0], inputs[0] if whole else inputs[1]
    heads = query[1] if len(query) == 4 else 0
    heads = heads or integer_of(node, "num_heads", integer_of(node, "q_num_heads", 1))
    weights = query[0] * query[-2] * key[-2]
    width = math.prod(query) // max(1, query[0] * query[-2])
    made = math.prod(inputs[1]) * math.prod(query[:-1]) if whole else 0
    return _PRODUCT * (2 * weights * width + made) + _VALUE * heads * weights


def _recurrent(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    steps = math.prod(inputs[0][:2])
    return 5 * _PRODUCT * steps * (math.prod(inputs[1]) + math.prod(inputs[2]))


def _window(each: float) -> _Rule:
    """A value of the output reads a window, which may lie outside the input."""

    def rule(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
        return each * math.prod(outputs[0]) * math.prod(integers_of(node, "kernel_shape") or [])

    return rule


def _summed_around(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    return 0.25 * math.prod(inputs[0]) * integer_of(node, "size", 1)


def _regions(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    """Points of a region that are read; of one whose points are not stated, those of the input."""
    points = integer_of(node, "sampling_ratio", 0) ** 2
    if not points:
        places = integer_of(node, "output_height", 1) * integer_of(node, "output_width", 1)
        points = -(-math.prod(inputs[0][2:]) // max(1, places))
    return 2 * math.prod(outputs[0]) * points


def _largest_of_regions(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    return 0.6 * math.prod(inputs[0][1:]) * inputs[1][0]


def _cubed(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    return 0.07 * math.prod(inputs[0]) * inputs[0][-1]


def _distances(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    return _PRODUCT * math.prod(inputs[0]) * inputs[1][0]


def _resized(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    return (150.0 if attribute(node, "mode") == "cubic" else 5.0) * math.prod(outputs[0])


def _transform(node: onnx.NodeProto, inputs: Shapes, outputs: Shapes) -> float:
    made = math.prod(outputs[0])
    return 100.0 * made * math.log2(max(2, *outputs[0]))


def _each_read(each: float) -> _Rule:
    return lambda node, inputs, outputs: each * math.prod(inputs[0])


def _each_made(each: float) -> _Rule:
    return lambda node, inputs, outputs: each * math.prod(outputs[0])


def _suppressing(inputs: Shapes, most: Sequence[int] | None) -> float:
    """Every box is held against those that were kept, in each class."""
    batch, classes, boxes = inputs[1]
    kept = min(boxes, max(0, most[0])) if most else 0
    return 1.0 * batch * classes * boxes * kept


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        ("Conv", "ConvInteger", "DeformConv", "FusedConv", "NhwcConv", "QLinearConv"), _convolution
    ),
    **dict.fromkeys(
        (
            *("FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits"),
            *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"),
        ),
        _matrices,
    ),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention"), _attention),
    **dict.fromkeys(("DynamicQuantizeLSTM", "GRU", "LSTM", "RNN"), _recurrent),
    **dict.fromkeys(("AveragePool", "QLinearAveragePool"), _window(2.5)),
    **dict.fromkeys(("MaxPool", "NhwcMaxPool"), _window(0.5)),
    **dict.fromkeys(("Det", "Inverse"), _cubed),
    **dict.fromkeys(("DFT", "STFT", "Irfft", "Rfft"), _transform),
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    "CDist": _distances,
    "Col2Im": _each_read(14.0),
    "ConvTranspose": _spreading,
    "Einsum": _contraction,
    "GridSample": _each_made(40.0),
    "LRN": _summed_around,
    "LpPool": _window(8.0),
    "MaxRoiPool": _largest_of_regions,
    "NonZero": _each_read(17.0),
    "RoiAlign": _regions,
    "TopK": _each_read(150.0),
    "Transpose": _each_read(5.0),
    "Unique": _each_read(1500.0),
}
