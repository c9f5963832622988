"""Eq. (2) to (4) as ONNX nodes: from a model's tensors to f̂, moved, and to deviations.

float32 in, float64 from there on, as in the compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Action,
    LayoutAction,
    Matrices,
    Permutation,
    Trivial,
    parse_layout,
    tables_of,
)
from onnx_geed.measures.graph_actions import moved_back, moved_rows
from onnx_geed.measures.graph_classes import class_nodes
from onnx_geed.measures.graph_formulas import PairNodes, sum_of_squares
from onnx_geed.measures.layer import Layer
from onnx_geed.measures.measure import Measure
from onnx_geed.model import Nodes

__all__ = [
    "DeviationNodes",
    "activation_nodes",
    "channel_mean_nodes",
    "check_written_as_nodes",
    "deviation_nodes",
    "identity_nodes",
    "value_range_nodes",
]

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


@dataclass(frozen=True)
class DeviationNodes:
    """Tensors that a measure leaves behind, shape (N, n') each.

    Parameters
    ----------
    values : str
        m(f(gx), φ_Y(g) f̂(x)), float64.
    energy : str
        Sum of squares of the activations: not finite where the model gave NaN or infinity.
    zero_pairs : str or None
        Share of pairs of zero vectors, for a similarity.
    channels : str or None
        The values of each channel, shape (N, n', C), for a measure of feature maps.
    at_places, scores : str or None
        m place by place, shape (N, n', P), and the scores that it is of, moved back, shape
        (N, n', classes, P), for a measure of class scores.
    """

    values: str
    energy: str
    zero_pairs: str | None = None
    channels: str | None = None
    at_places: str | None = None
    scores: str | None = None


def activation_nodes(nodes: Nodes, tensor: str, layer: Layer, order: int, measure: Measure) -> str:
    """Bring a tensor to what a measure sees, by orbits.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    tensor : str
        The model's tensor, shape (N·n, ...).
    layer : Layer
        Its shape and layout.
    order : int
        n.
    measure : Measure
        What is measured.

    Returns
    -------
    str
        Tensor of float32, shape (N, n, rows, F), (N, n, k).
    """
    shape = layer.shape
    x = nodes.cast(tensor, _FLOAT, "float32")
    layout, form = parse_layout(layer.layout), measure.descriptor.view
    action = None
    if form == "maps" or isinstance(measure.action, LayoutAction):
        action = tables_of(measure.action)
    if form == "whole" and action is None:
        return nodes.reshape(x, [-1, order, int(np.prod(shape))], "orbits")
    if layout.grid:
        height, width = layout.grid
        if layout.extra:
            kept = nodes.constant("patches", np.arange(layout.extra, shape[0], dtype=np.int32))
            x = nodes.gather(x, kept, 1, "tokens")
        x = nodes.add("Transpose", [x], "channels_first", perm=[0, 2, 1])
        shape = (shape[1], height, width)
    elif len(shape) > 1 and len(shape) == layout.rank - 1:
        axes = layout.planes_last
        if action is not None and action.axes != tuple(range(-len(action.axes), 0)):
            # Moved axes last, as loops have them.
            moved = [len(axes) + axis for axis in action.axes]
            axes = tuple(axes[i] for i in [*(set(range(len(axes))) - {*moved}), *moved])
        if axes != tuple(range(len(axes))):
            x = nodes.add("Transpose", [x], "channels_first", perm=[0, *(a + 1 for a in axes)])
            shape = tuple(shape[axis] for axis in axes)
    if action is not None:
        size = action.moves.size
        return nodes.reshape(x, [-1, order, int(np.prod(shape)) // size, size], "orbits")
    if len(shape) < 2:
        return nodes.reshape(x, [-1, order, *(shape or (1,))], "orbits")
    area = int(np.prod(shape[1:]))
    if area == 1:
        return nodes.reshape(x, [-1, order, shape[0]], "orbits")
    x = nodes.reshape(x, [-1, order, shape[0], area], "orbits")
    summed = nodes.total(nodes.cast(x, _DOUBLE, "float64"), 3, "summed")
    pooled = nodes.add("Div", [summed, nodes.number(area)], "averaged")
    return nodes.cast(pooled, _FLOAT, "pooled")


def identity_nodes(nodes: Nodes, points: str) -> str:
    """Return the identity's rows (N, k) of points (N, n, k)."""
    return nodes.gather(points, nodes.constant("first", np.int64(0)), 1, "identity")


def check_written_as_nodes(measures: Iterable[Measure]) -> None:
    """Refuse measures whose descriptor has no formula in nodes.

    Parameters
    ----------
    measures : iterable of Measure
        Those that a graph is to compute.

    Raises
    ------
    GeedError
        If there is one, naming it.
    """
    for measure in measures:
        _formula_of(measure)


def _formula_of(measure: Measure) -> Callable[..., PairNodes]:
    """Return the function that writes m of pairs as nodes, if the measure has one."""
    if measure.descriptor.nodes is None:
        raise GeedError(
            f"{measure.name} on {measure.layer}: is computed only by the compiled kernels, not by "
            "nodes of a graph"
        )
    return measure.descriptor.nodes


def deviation_nodes(
    nodes: Nodes, measure: Measure, y: str, layer: Layer, members: Sequence[int] | None = None
) -> DeviationNodes:
    """Write the deviations of some orbits from their activations.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    measure : Measure
        m, the tensor and φ_Y; its descriptor has ``nodes``.
    y : str
        As :func:`activation_nodes` returned it: maps, or points.
    layer : Layer
        Its shape and layout.
    members : sequence of int, optional
        Elements of a subgroup that takes the place of G; all by default.

    Returns
    -------
    DeviationNodes

    Notes
    -----
    Inner summand of eq. (4), with f̂ of eq. (2) over ker(φ_Y), or those of it that are members.
    """
    if measure.descriptor.opposed:
        return _opposite_deviations(nodes, measure, y, layer)
    order = measure.action.group.order
    chosen = list(range(order)) if members is None else list(members)
    averaged = [g for g in measure.averaged if g in set(chosen)]
    picked = y
    if len(chosen) < order:
        table = nodes.constant("members", np.array(chosen, dtype=np.int32))
        picked = nodes.gather(y, table, 1, "of_members")
    if measure.descriptor.view == "maps":
        return _deviations_of_maps(nodes, measure, y, picked, layer, averaged, chosen)
    averaged = [chosen.index(g) for g in averaged]
    if measure.places is not None or measure.descriptor.view == "classes":
        return _deviations_at_places(nodes, measure, picked, layer, averaged, chosen)
    return _deviations_of_vectors(nodes, measure, picked, layer, averaged, chosen)


def _deviations_of_maps(
    nodes: Nodes,
    measure: Measure,
    y: str,
    picked: str,
    layer: Layer,
    averaged: Sequence[int],
    chosen: Sequence[int],
) -> DeviationNodes:
    """Write eq. (5) of maps."""
    action, channels = tables_of(measure.action), layer.channels
    rows = channels * action.fixed
    inside, pixels = action.inside(measure.support), None
    if inside is not None:
        pixels = np.flatnonzero(inside).astype(np.int32)
        picked = nodes.gather(picked, nodes.constant("disk", pixels), 3, "inside_disk")
    reference = _mean_map(nodes, y, averaged, action.group.order)
    expected = moved_rows(nodes, reference, action, rows, chosen, pixels)
    u = nodes.cast(picked, _DOUBLE, "f_gx/float64")
    v = nodes.cast(expected, _DOUBLE, "g_fx/float64")
    if action.fixed > 1:  # a channel's rows are compared together
        size = action.fixed * (action.moves.size if pixels is None else len(pixels))
        u = nodes.reshape(u, [-1, len(chosen), channels, size], "f_gx/channels")
        v = nodes.reshape(v, [-1, len(chosen), channels, size], "g_fx/channels")
    pairs = _formula_of(measure)(nodes, u, v, 3)
    divisor = nodes.number(channels)
    total = nodes.total(pairs.values, 2, "summed_channels")
    values = _signed(nodes, measure, nodes.add("Div", [total, divisor], "mean_of_channels"))
    zeros = None
    if pairs.zero_pairs:
        dead = nodes.total(pairs.zero_pairs, 2, "dead")
        zeros = nodes.add("Div", [dead, divisor], "zero_pairs")
    squares = pairs.squares
    if pixels is not None:  # outside the disk nothing is compared, but NaN is refused there too
        squares = sum_of_squares(nodes, nodes.cast(y, _DOUBLE, "everywhere"), 3, "everywhere")
    elif squares is None:
        squares = sum_of_squares(nodes, u, 3, "f_gx")
    energy = nodes.total(squares, 2, "energy")
    return DeviationNodes(values, energy, zeros, pairs.values)


def _deviations_of_vectors(
    nodes: Nodes,
    measure: Measure,
    y: str,
    layer: Layer,
    averaged: Sequence[int],
    chosen: Sequence[int],
) -> DeviationNodes:
    """Write eq. (4) of points and class scores, so eq. (6) without M."""
    action, energy = measure.action, None
    if measure.descriptor.view == "whole" and isinstance(action, LayoutAction):
        size = int(np.prod(layer.kept_shape))
        y = nodes.reshape(y, [-1, len(chosen), size], "laid_end_to_end")
    points = nodes.cast(y, _DOUBLE, "float64")
    trivial = isinstance(action, Trivial)
    if measure.descriptor.view == "scores":
        energy = sum_of_squares(nodes, points, 2, "energy")
        points = _log_probabilities(nodes, points, measure, layer.point_length)
        reference = _log_means(nodes, points, averaged, len(chosen))
        if not trivial:
            only = nodes.constant("only", np.int64(0))
            reference = nodes.gather(reference, only, 1, "f_hat/flat")
    else:
        reference = _average(nodes, points, averaged, len(chosen), keep=trivial)
    expected = _expected(nodes, action, reference, chosen)
    pairs = _formula_of(measure)(nodes, points, expected, 2)
    energy = energy or pairs.squares or sum_of_squares(nodes, points, 2, "energy")
    return DeviationNodes(_signed(nodes, measure, pairs.values), energy, pairs.zero_pairs)


def _opposite_deviations(nodes: Nodes, measure: Measure, y: str, layer: Layer) -> DeviationNodes:
    """Write ‖f(g₊x) − φ_Y(g₊g₋⁻¹) f(g₋x)‖ / (2·step) of each pair, for both its elements."""
    action, small, size = measure.across, measure.action.group.small, int(np.prod(layer.shape))
    assert small is not None
    if isinstance(action, LayoutAction):
        size = int(np.prod(layer.kept_shape))
    precise = nodes.cast(y, _DOUBLE, "float64")
    whole = nodes.reshape(precise, [-1, measure.action.group.order, size], "laid_end_to_end")
    first = nodes.gather(whole, nodes.constant("identity", np.array([0])), 1, "itself")
    told, place = [first], [0]
    for forwards, backwards in small.pairs:
        scope = nodes.within(str(forwards))
        opposite = scope.constant("opposite", np.int64(backwards))
        expected = scope.gather(precise, opposite, 1, "of_opposite")
        if isinstance(action, LayoutAction):
            count = size // action.moves.size
            expected = moved_rows(scope, expected, action, count, [forwards], None, np.float64)
        told.append(scope.reshape(expected, [-1, 1, size], "told"))
        place += [len(told) - 1] * 2
    held = nodes.constant("held", np.array([0, *(ends[0] for ends in small.pairs)]))
    expected = nodes.add("Concat", told, "expected", axis=1)
    pairs = _formula_of(measure)(nodes, nodes.gather(whole, held, 1, "f_gx"), expected, 2)
    by_pixel = nodes.add("Div", [pairs.values, nodes.number(2 * float(small.step))], "by_pixel")
    values = nodes.gather(by_pixel, nodes.constant("pairs", np.array(place)), 1, "of_pairs")
    return DeviationNodes(values, sum_of_squares(nodes, whole, 2, "energy"))


def _deviations_at_places(
    nodes: Nodes,
    measure: Measure,
    y: str,
    layer: Layer,
    averaged: Sequence[int],
    chosen: Sequence[int],
) -> DeviationNodes:
    """Write eq. (4) of class scores, moved back to the places of x, or of their classes."""
    places, count = measure.places, len(chosen)
    scores = nodes.cast(y, _DOUBLE, "float64")
    if places is None:
        length, compared = layer.point_length, 1
        energy = sum_of_squares(nodes, scores, 2, "energy")
        table = measure.action.table if isinstance(measure.action, Permutation) else None
    else:
        action = tables_of(measure.action)
        length, compared, table = layer.channels, places.inside.shape[1], action.channels
        squares = sum_of_squares(nodes, scores, 3, "energy/rows")
        energy = nodes.total(squares, 2, "energy")
        assert places.moves is not None
        scores = moved_back(nodes, scores, places.moves, chosen, length * action.fixed)
    scores = nodes.reshape(scores, [-1, count, length, compared], "by_place")
    if measure.descriptor.view == "classes":
        of_x = None if table is None else table[list(chosen)]
        points = class_nodes(nodes, scores, measure.reads, length, of_x, compared)
        points = nodes.cast(points, _DOUBLE, "classes/float64")
        only = nodes.constant("itself", np.array(averaged, dtype=np.int64))
        reference = nodes.gather(points, only, 1, "of_itself")
    else:
        points = _log_probabilities(nodes, scores, measure, length)
        if table is not None:
            back = np.argsort(table[list(chosen)], axis=1) + np.arange(count)[:, None] * length
            where = nodes.constant("classes_back", back.ravel().astype(np.int32))
            rows = nodes.reshape(points, [-1, count * length, compared], "logs/rows")
            ordered = nodes.gather(rows, where, 1, "logs/ordered")
            points = nodes.reshape(ordered, [-1, count, length, compared], "logs/back")
        reference = _log_means(nodes, points, averaged, count)
    values = _formula_of(measure)(nodes, points, reference, 2).values
    mean = _mean_of_places(nodes, values, measure, chosen)
    return DeviationNodes(mean, energy, at_places=values, scores=scores)


def _mean_of_places(nodes: Nodes, values: str, measure: Measure, chosen: Sequence[int]) -> str:
    """Write the mean over the places that are compared (N, n') of values (N, n', P)."""
    if measure.places is None:
        return nodes.total(values, 2, "of_place")
    inside = measure.places.inside[list(chosen)]
    if not inside.all():
        compared = nodes.constant("inside", inside)
        values = nodes.add("Where", [compared, values, nodes.number(0)], "compared")
    counts = nodes.constant("places", inside.sum(axis=1).astype(np.float64))
    return nodes.add("Div", [nodes.total(values, 2, "summed_places"), counts], "mean_of_places")


def _signed(nodes: Nodes, measure: Measure, values: str) -> str:
    """Write deviations from a formula's values: a similarity enters with a minus sign."""
    return nodes.add("Neg", [values], "deviation") if measure.descriptor.similarity else values


def channel_mean_nodes(nodes: Nodes, channels: str, members: Sequence[int]) -> str:
    """Return the mean over some elements (N, C) of the values of each channel (N, n, C)."""
    table = nodes.constant("members", np.array(members, dtype=np.int32))
    picked = nodes.gather(channels, table, 1, "of_members")
    return nodes.add("Div", [nodes.total(picked, 1, "summed"), nodes.number(len(members))], "mean")


def _mean_map(nodes: Nodes, y: str, averaged: Sequence[int], order: int) -> str:
    """Write f̂ of eq. (2), in float32: the mean over some elements, or the one element's own."""
    if len(averaged) == 1:
        return nodes.gather(y, nodes.constant("kernel", np.int64(averaged[0])), 1, "f_hat")
    mean = _average(nodes, nodes.cast(y, _DOUBLE, "float64"), averaged, order)
    return nodes.cast(mean, _FLOAT, "f_hat")


def _average(
    nodes: Nodes, y: str, averaged: Sequence[int], order: int, *, keep: bool = False
) -> str:
    """Write the mean over some elements of a float64 tensor (N, n, ...)."""
    y = _of_kernel(nodes, y, averaged, order)
    summed = nodes.total(y, 1, "summed_kernel", keep=keep)
    return nodes.add("Div", [summed, nodes.number(len(averaged))], "f_hat/float64")


def _of_kernel(nodes: Nodes, y: str, averaged: Sequence[int], order: int) -> str:
    if len(averaged) == order:
        return y
    table = nodes.constant("kernel", np.array(averaged, dtype=np.int32))
    return nodes.gather(y, table, 1, "of_kernel")


def _log_means(nodes: Nodes, logs: str, averaged: Sequence[int], order: int) -> str:
    """Write log f̂ of eq. (2), by log-sum-exp; a class of probability zero throughout stays −inf."""
    logs = _of_kernel(nodes, logs, averaged, order)
    lowest = nodes.constant("lowest", np.float64(np.finfo(np.float64).min))
    top = nodes.top(logs, 1, "f_hat/top", keep=True)
    top = nodes.add("Max", [top, lowest], "f_hat/finite_top")
    shifted = nodes.add("Sub", [logs, top], "f_hat/shifted")
    summed = nodes.total(nodes.add("Exp", [shifted], "f_hat/exp"), 1, "f_hat/sum", keep=True)
    total = nodes.add("Add", [nodes.add("Log", [summed], "f_hat/log"), top], "f_hat/unscaled")
    scale = nodes.constant("log_kernel", np.log(np.float64(len(averaged))))
    return nodes.add("Sub", [total, scale], "f_hat")


def _expected(nodes: Nodes, action: Action, reference: str, chosen: Sequence[int]) -> str:
    """Write φ_Y(g) f̂(x) as (N, n', k), or (N, 1, k) where it is the same for all g."""
    if isinstance(action, LayoutAction):
        count = action.rows
        rows = nodes.reshape(reference, [-1, count, action.moves.size], "f_hat/rows")
        moved = moved_rows(nodes, rows, action, count, chosen, None, np.float64)
        return nodes.reshape(moved, [-1, len(chosen), count * action.moves.size], "expected/flat")
    if isinstance(action, Permutation):
        table = nodes.constant("permutation", action.table[list(chosen)].astype(np.int32))
        return nodes.gather(reference, table, 1, "expected")
    if isinstance(action, Matrices):
        k = action.matrices.shape[1]
        # Column g·k + i holds row i of g's matrix.
        stacked = action.matrices[list(chosen)].reshape(-1, k).T
        table = nodes.constant("matrices", np.ascontiguousarray(stacked))
        product = nodes.add("MatMul", [reference, table], "products")
        return nodes.reshape(product, [-1, len(chosen), k], "expected")
    return reference


def _log_probabilities(nodes: Nodes, points: str, measure: Measure, length: int) -> str:
    """Write log-probabilities of logits or probabilities (N, n', k) in float64."""
    if measure.reads == "probabilities":
        if length == 1:
            other = nodes.add("Sub", [nodes.number(1), points], "other_class")
            points = nodes.add("Concat", [other, points], "two_classes", axis=2)
        return nodes.add("Log", [nodes.add("Max", [points, nodes.number(0)], "from_0")], "logs")
    if length == 1:
        other = nodes.add("Mul", [points, nodes.number(0)], "other_class")
        points = nodes.add("Concat", [other, points], "two_classes", axis=2)
    top = nodes.top(points, 2, "top", keep=True)
    shifted = nodes.add("Sub", [points, top], "shifted")
    summed = nodes.total(nodes.add("Exp", [shifted], "exp"), 2, "sum", keep=True)
    return nodes.add("Sub", [shifted, nodes.add("Log", [summed], "log_sum")], "logs")


def value_range_nodes(nodes: Nodes, y: str) -> str:
    """Return the lowest and the highest entry (N, 2) of points (N, n, k), in float64."""
    points = nodes.cast(y, _DOUBLE, "float64")
    highest = nodes.top(nodes.top(points, 2, "highest_each"), 1, "highest", keep=True)
    turned = nodes.add("Neg", [points], "turned")
    lowest = nodes.top(nodes.top(turned, 2, "lowest_each"), 1, "lowest_turned", keep=True)
    lowest = nodes.add("Neg", [lowest], "lowest")
    return nodes.add("Concat", [lowest, highest], "range", axis=1)
