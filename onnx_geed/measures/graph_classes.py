"""Predicted classes as ONNX nodes: of vectors, at places, moved back, and counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_geed.groups import Permutation, tables_of
from onnx_geed.measures.layer import Layer
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.scores import moved_classes
from onnx_geed.model import Nodes

__all__ = [
    "class_count_nodes",
    "class_nodes",
    "place_class_nodes",
    "predicted_class_nodes",
]

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def class_nodes(
    nodes: Nodes,
    scores: str,
    kind: str,
    length: int,
    table: NDArray[np.int64] | None = None,
    places: int = 1,
) -> str:
    """Return the class of x (N, n', 1, P) that scores (N, n', k, P) of f(gx) in float64 are for.

    By a table (n', k) they are moved back before they are compared, as :func:`classes_of_x` does.
    """
    if length == 1:
        one = nodes.number(1)
        other = nodes.add("Sub", [one if kind == "probabilities" else scores, scores], "other")
        scores = nodes.add("Concat", [other, scores], "both", axis=2)
    if table is not None:
        count, length = table.shape
        back = np.argsort(table, axis=1) + np.arange(count)[:, None] * length
        where = nodes.constant("table/back", back.ravel().astype(np.int32))
        rows = nodes.reshape(scores, [-1, count * length, places], "table/rows")
        ordered = nodes.gather(rows, where, 1, "table/ordered")
        scores = nodes.reshape(ordered, [-1, count, length, places], "table/of_x")
    return nodes.add("ArgMax", [scores], "class", axis=2, keepdims=1)


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
    compared = measure.places.inside.shape[1]
    classes = class_nodes(nodes, scores, measure.reads, layer.channels, table, compared)
    shape = [-1, measure.action.group.order, compared]
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


def predicted_class_nodes(nodes: Nodes, measure: Measure, y: str, layer: Layer) -> str:
    """Return the class (N, n) that each of class scores (N, n, k) is for, in float64.

    Where φ_Y permutes the classes, that to which it moves the class of x.
    """
    n, length = measure.action.group.order, layer.point_length
    table = measure.action.table if isinstance(measure.action, Permutation) else None
    scores = nodes.reshape(nodes.cast(y, _DOUBLE, "scores"), [-1, n, length, 1], "by_place")
    classes = class_nodes(nodes, scores, measure.reads, length, table)
    if table is not None:
        moved = moved_classes(measure.action, layer.classes)
        starts = nodes.constant("moved/starts", np.arange(n)[:, None, None] * layer.classes)
        entries = nodes.add("Add", [classes, starts], "moved/entries")
        classes = nodes.gather(nodes.constant("moved", moved.ravel()), entries, 0, "class/moved")
    return nodes.cast(nodes.reshape(classes, [-1, n], "flat"), _DOUBLE, "float64")
