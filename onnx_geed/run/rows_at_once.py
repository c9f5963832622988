"""How many rows a processor runs best at once, from the graph alone.

What the nodes make of a few rows stays in its caches; of more, each node fetches from memory what
the one before has put there. But weights of which a row needs each number once, as those behind a
latent, are fetched for every run: of these many rows take as long as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from onnx_geed.model import Model, Tensor, reads

__all__ = ["rows_at_once"]

# Bytes of activations, and of weights, that one run should have. Choice: on two cores with 32 MiB
# of cache between them, ten networks were fastest with 16 to 32 MiB of activations.
_HELD = 24 << 20

_PRODUCTS = (
    *("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul"),
)

# What reads its weights once for every step of a sequence, or whose bodies may.
_STEPS = ("GRU", "LSTM", "RNN", "If", "Loop", "Scan", "SequenceMap")


def rows_at_once(model: Model, listed: Sequence[Tensor], row: int) -> int:
    """Return the rows of a run that is about the fastest, by row.

    Parameters
    ----------
    model : Model
        The model.
    listed : sequence of Tensor
        Its tensors, at the real sizes of samples.
    row : int
        Most bytes that are held at once while one row is run.

    Returns
    -------
    int
        At least 1; 0 where the graph does not tell.
    """
    again = _read_again(model.proto.graph, {tensor.name: tensor for tensor in listed})
    if again is None or not row:
        return 0
    return max(1, _HELD // row, math.ceil(again / _HELD))


def _read_again(graph: onnx.GraphProto, tensors: Mapping[str, Tensor]) -> float | None:
    """Return the bytes of weights, those of a product divided by the places where it is taken."""
    # In float32, as a processor multiplies most of them.
    sizes = {t.name: (len(t.dims), 4 * math.prod(t.dims)) for t in graph.initializer}
    moving = {info.name for info in graph.input} - sizes.keys()
    total = 0.0
    for node in graph.node:
        if node.op_type in _STEPS or node.domain not in ("", "ai.onnx"):
            return None
        if not moving.intersection(reads(node)):
            made = ((name, tensors.get(name)) for name in node.output)
            sizes |= {name: (len(t.shape or ()), t.held) for name, t in made if t is not None}
            continue
        moving.update(node.output)
        weights = [sizes[name][1] for name in node.input if sizes.get(name, (0, 0))[0] > 1]
        if node.op_type in _PRODUCTS and weights:
            places = _places(node, tensors.get(node.output[0]))
            if not places:
                return None
            total += sum(weights) / places
    return total


def _places(node: onnx.NodeProto, made: Tensor | None) -> int:
    """Return at how many places of a row a product is taken; 0 where shapes do not tell."""
    shape = () if made is None or made.shape is None else made.shape
    if len(shape) < 2:
        return 0
    axis = 1 if "Conv" in node.op_type else len(shape) - 1
    rest = [length or 1 for i, length in enumerate(shape) if i not in (0, axis)]
    return math.prod(rest)
