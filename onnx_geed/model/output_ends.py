"""The last nodes in front of an output: whether its numbers are made of probabilities."""

from __future__ import annotations

from collections.abc import Callable

from onnx_geed.model.io import Model
from onnx_geed.model.nodes import ops, reads
from onnx_geed.model.spellings import CONV, DENSE, RESHAPES

__all__ = ["last_operator", "plain_ends", "rescaled_end"]

# These leave class scores the numbers that they are.
_THROUGH = RESHAPES | ops("QuantizeLinear DequantizeLinear")


# Through these a number is neither bounded nor turned into a probability.
_LINEAR = _THROUGH | ops(
    "Add Sub Mul Div Neg Sum Mean Relu LeakyRelu PRelu Concat Slice Split Gather Pad Transpose "
    "Expand Tile ReduceMean ReduceSum ReduceMax ReduceMin GlobalAveragePool AveragePool "
    "GlobalMaxPool MaxPool BatchNormalization Resize Upsample Max TopK CumSum GatherElements "
    "GatherND Scatter ScatterElements ScatterND SplitToSequence SequenceAt SequenceConstruct "
    "ConcatFromSequence Where"
)


_AFFINE = (
    {name for name in DENSE if not name.startswith("Linear")}
    | CONV
    | ops("ConvTranspose Einsum LayerNormalization InstanceNormalization LSTM GRU RNN")
)


# Operators that rescale numbers in [0, 1] or their logarithms on the way to the output.
_RESCALED = _THROUGH | ops("Mul Div Add Sub Neg Pow Sqrt Log Exp Clip Abs")


def last_operator(model: Model, output: str) -> str:
    """Return the operator that makes the numbers of a tensor.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        Any tensor of its main graph.

    Returns
    -------
    str
        Its name; operators behind it that only reshape or quantise are passed. Empty of an input.
    """
    makers = {name: node for node in model.proto.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _THROUGH:
        node = makers.get(node.input[0])
    return "" if node is None else str(node.op_type)


def plain_ends(model: Model) -> Callable[[str], bool]:
    """Return what tells whether values are, by the graph, neither bounded nor probabilities.

    Parameters
    ----------
    model : Model
        The model, whose graph is looked through once.

    Returns
    -------
    callable
        For a tensor of the main graph: true where dense layers or convolutions make it and only
        linear nodes and ReLU follow.
    """
    fixed = _fixed(model)
    makers = {name: node for node in model.proto.graph.node for name in node.output}

    def plain(output: str) -> bool:
        stack, seen = [output], set[str]()
        while stack:
            name = stack.pop()
            node = makers.get(name)
            if name in seen or name in fixed or node is None or node.op_type in _AFFINE:
                continue
            seen.add(name)
            read = node.input[1:] if node.op_type == "Where" else node.input
            data = [other for other in read if other and other not in fixed]
            product = node.op_type in ("Mul", "Div") and len(data) > 1
            if node.op_type not in _LINEAR or product:
                return False
            stack += data
        return True

    return plain


def rescaled_end(model: Model, output: str) -> str:
    """Return the Softmax or Sigmoid of which a tensor is made by scaling, or an empty string.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        Any tensor of its main graph.

    Returns
    -------
    str
        The operator's name.
    """
    fixed = _fixed(model)
    makers = {name: node for node in model.proto.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _RESCALED:
        data = [name for name in node.input if name and name not in fixed]
        if len(data) != 1:
            return ""
        node = makers.get(data[0])
    ends = ("Softmax", "Sigmoid", "HardSigmoid")
    return node.op_type if node is not None and node.op_type in ends else ""


def _fixed(model: Model) -> set[str]:
    """Return the tensors that depend on no input."""
    graph = model.proto.graph
    moving = {i.name for i in graph.input} - {i.name for i in graph.initializer}
    fixed = {i.name for i in graph.initializer}
    for node in graph.node:
        if moving.intersection(reads(node)):
            moving.update(node.output)
        else:
            fixed.update(node.output)
    return fixed
