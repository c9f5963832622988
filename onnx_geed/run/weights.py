"""What a model's weights take in memory, known from their shapes before any is read.

Weights that lie on a disk are their owner's, who has a machine for them: they count beside the
budget. Those of a file that is mostly holes take nobody's disk, and count towards it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from onnx_geed.errors import shown
from onnx_geed.model import Model, is_hollow, stored, stored_bytes
from onnx_geed.run.options import Options
from onnx_geed.run.room import room_in

__all__ = ["check_weights_fit", "held_weights"]

# How often the runtime has a weight as it opens a model, beside the one that it keeps: it is mapped
# from its file, and what the processor reads is made of it, of filters through a copy in blocks.
_BESIDE, _FILTER = 1, 3

_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv")

# A weight that the model itself holds is also in the model as it was read, as it is written for the
# runtime, and as that reads it.
_READ = 3

# Measured inside a graph, a model is opened a second time.
_GRAPHS = 2

# New weights lie in the model, in the one whose layers are levelled, and in what these are run as.
_UNTRAINED = 6


def check_weights_fit(model: Model, options: Options) -> None:
    """Refuse a model whose weights in holes take more memory than there is, before they are read.

    Parameters
    ----------
    model : Model
        The model.
    options : Options
        The memory, and what is to be done.

    Raises
    ------
    GeedError
        If they do.
    """
    if not _in_holes(model):
        return
    graph = model.proto.graph
    filters = {name for node in graph.node if node.op_type in _CONVOLUTIONS for name in node.input}
    largest, most, why = None, 0, ""
    for tensor, size in _weights(model.proto):
        beside = size * (_FILTER if tensor.name in filters else _BESIDE)
        if beside > most:
            largest, most = tensor, beside
    if largest is None:
        return
    if options.untrained:
        why = " with those that --untrained draws"
    room_in(options.memory).check(
        held_weights(model, options) + most,
        f"{model.called}: its weights take {{}}{why} while the model is opened, the largest being "
        f"{shown(largest.name)} {shown(list(largest.dims))}",
        "use a smaller model",
    )


def held_weights(model: Model, options: Options) -> int:
    """Return the bytes that weights take of the budget while a model is run: real ones none.

    Parameters
    ----------
    model : Model
        The model.
    options : Options
        What is to be done.
    """
    if not _in_holes(model):
        return 0
    external = onnx.TensorProto.EXTERNAL
    stored_once = sum(
        size * (1 if tensor.data_location == external else 1 + _READ)
        for tensor, size in _weights(model.proto)
    )
    times = _GRAPHS if options.engine == "graph" else 1
    return stored_once * (times + (_UNTRAINED if options.untrained else 0))


def _in_holes(model: Model) -> bool:
    """Say whether weights lie in a file that is mostly holes."""
    return any(is_hollow(Path(file.path)) for file in model.weights)


def _weights(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, int]]:
    for tensor in stored(proto):
        yield tensor, stored_bytes(tensor) or 0
