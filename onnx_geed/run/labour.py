"""A model that would compute out of all proportion is refused before it is run.

No known network takes a minute of a processor for one sample, and a small one takes much less:
what its weights are used for, at every place of a large image, is what it computes. Filters of few
weights compute so much of each value that they are given. A user allows what else a model takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import onnx

from onnx_geed.confinement import confined
from onnx_geed.errors import GeedError, shown
from onnx_geed.model import Input, Model, Tensor
from onnx_geed.overrun import expect
from onnx_geed.run.footprint import Footprint
from onnx_geed.run.options import Options
from onnx_geed.run.source import Source

__all__ = ["check_labour"]

# Seconds of one core for a row, which is 6e12 multiplications; and what any model may take.
_MOST, _ANY = 120.0, 2.5

# Of a weight: it is multiplied at each of 3e7 places, such as of an image of 5,000 by 6,000.
_A_WEIGHT = 6e-4

# Of a value of the sample: 1e5 multiplications, or a window of 60 by 60 that is copied.
_A_VALUE = 2e-6

# Bytes of a weight at most.
_BYTES = 8

_UNITS = (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60))

# A card does so much more; its driver says so.
_CARD, _DRIVER = 100.0, Path("/dev/nvidiactl")


def check_labour(
    model: Model,
    acted: Input,
    listed: Sequence[Tensor],
    options: Options,
    footprint: Footprint,
    source: Source,
) -> None:
    """Refuse a model that takes too long for one row.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on, by which the batch of a fixed one is known.
    listed : sequence of Tensor
        Its tensors, at the real sizes of samples.
    options : Options
        Where it runs, and how long it may.
    footprint : Footprint
        What a row takes of memory.
    source : Source
        The samples.

    Raises
    ------
    GeedError
        If it does, and nothing else ends it.
    """
    taken = sum(tensor.seconds for tensor in listed)
    weights = _weights(model.proto.graph)
    # Weights that are mapped are read by the first run.
    expect(taken, footprint.row, footprint.left + _BYTES * weights)
    asked = options.time_per_sample
    if model.function is not None or (confined() is not None and asked is None):
        return  # it is no model, or the first process ends it
    batch = acted.shape[0] if acted.shape and isinstance(acted.shape[0], int) else 1
    rows = max(1, batch)
    values = sum(math.prod(moved.row_shape) for moved in source.moved)
    allowed = _allowed(weights, values, rows) if asked is None else asked * rows
    if options.provider != "cpu" and _DRIVER.exists():
        allowed *= _CARD
    if taken <= allowed:
        return
    most = max(listed, key=lambda tensor: tensor.seconds)
    why = " for so few weights and values" if asked is None else ""
    raise GeedError(
        f"one sample takes about {_told(taken / rows)} of one core, "
        f"{_told(most.seconds / rows)} of it in node {shown(most.node)} ({shown(most.op)}); "
        f"{_told(allowed / rows)} are allowed{why}: use smaller samples, --time-per-sample "
        "SECONDS, or --isolate on the command line, where --time-limit decides"
    )


def _allowed(weights: int, values: int, rows: int) -> float:
    """Return the seconds that so many rows may take where nobody says."""
    return max(_ANY, rows * min(_MOST, max(_A_WEIGHT * weights, _A_VALUE * values)))


def _weights(graph: onnx.GraphProto) -> int:
    stored = sum(int(math.prod(tensor.dims)) for tensor in graph.initializer)
    return stored + sum(
        int(math.prod(stated.t.dims))
        for node in graph.node
        if node.op_type == "Constant"
        for stated in node.attribute
    )


def _told(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds < 1e12 else "over 10,000 years"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
