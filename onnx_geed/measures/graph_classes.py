"""Predicted classes as ONNX nodes: of vectors, at places, moved back, and counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_geed.groups import tables_of
from onnx_geed.measures.layer import Layer
from onnx_geed.measures.measure import Measure
from onnx_geed.model import Nodes

__all__ = [
    "class_count_nodes",
    "class_nodes",
    "moved_back_class_nodes",
    "place_class_nodes",
    "predicted_class_nodes",
]

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def class_nodes(nodes: Nodes, scores: str, kind: str, length: int) -> str:
    """Return the class (N, n', 1, P) that scores (N, n', k, P) in float64 are for."""
    if length == 1:
        one = nodes.number(1)
        other = nodes.add("Sub", [one if kind == "probabilities" else scores, scores], "other")
        scores = nodes.add("Concat", [other, scores], "both", axis=2)
    return nodes.add("ArgMax", [scores], "class", axis=2, keepdims=1)


def moved_back_class_nodes(nodes: Nodes, classes: str, table: NDArray[np.int64]) -> str:
    """Return the class of x that each of classes (N, n', 1, P) stands for, by a table (n', k)."""
    count, length = table.shape
    starts = nodes.constant("table/starts", np.arange(count)[:, None, None] * length)
    entries = nodes.add("Add", [classes, starts], "table/entries")
    flat = nodes.constant("table", table.ravel().astype(np.int64))
    return nodes.gather(flat, entries, 0, "class/back")


def place_class_nodes(nodes: Nodes, measure: Measure, scores: str, layer: Layer) -> str:
    """Return the predicted classes (N, n, P) at the places of x, in float32.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    measure : Measure
        One of class scores at places.
    scores : str
        As :func:`deviation_nodes` left them, moved back, for all elements.
    layer : Layer
        Its shape and layout.
    """
    assert measure.places is not None
    table = tables_of(measure.action).channels
    classes = class_nodes(nodes, scores, measure.reads, layer.channels)
    if table is not None:
        classes = moved_back_class_nodes(nodes, classes, table)
    shape = [-1, measure.action.group.order, measure.places.inside.shape[1]]
    return nodes.cast(nodes.reshape(classes, shape, "by_place"), _FLOAT, "float32")


def class_count_nodes(nodes: Nodes, measure: Measure, y: str, layer: Layer) -> str:
    """Return how often each class is predicted for x itself (N, classes), in float64.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    measure : Measure
        One of classes.
    y : str
        As :func:`activation_nodes` returned it.
    layer : Layer
        Its shape and layout.
    """
    length = layer.point_length if measure.places is None else layer.channels
    places = 1 if measure.places is None else measure.places.inside.shape[1]
    own = nodes.gather(y, nodes.constant("first", np.array([0], dtype=np.int64)), 1, "own")
    own = nodes.cast(own, _DOUBLE, "own/float64")
    own = nodes.reshape(own, [-1, 1, length, places], "own/by_place")
    if measure.places is not None and not measure.places.inside[0].all():
        inside = nodes.constant("compared", np.flatnonzero(measure.places.inside[0]))
        own = nodes.gather(own, inside, 3, "own/compared")
    classes = class_nodes(nodes, own, measure.reads, length)
    each = nodes.constant("each", np.arange(layer.classes)[:, None])
    hits = nodes.cast(nodes.add("Equal", [classes, each], "hits"), _DOUBLE, "hits/float64")
    return nodes.reshape(nodes.total(hits, 3, "counts"), [-1, layer.classes], "counts/flat")


def predicted_class_nodes(nodes: Nodes, y: str, kind: str, length: int) -> str:
    """Return the class (N, n) that each of class scores (N, n, k) is for, in float64."""
    if length == 1:  # one score tells two classes apart, as :func:`predicted_classes` has it
        one = nodes.constant("one", np.float32(1))
        other = nodes.add("Sub", [one if kind == "probabilities" else y, y], "other")
        y = nodes.add("Concat", [other, y], "both", axis=2)
    return nodes.cast(nodes.add("ArgMax", [y], "largest", axis=2, keepdims=0), _DOUBLE, "float64")
