"""Operators that take tensors apart and put them together, and those that networks are made of."""

from __future__ import annotations

import math

import onnx

from onnx_geed.model.nodes import attribute, integer_of
from onnx_geed.model.row_rules import broadcast, combined, leading, same
from onnx_geed.model.row_state import (
    Apart,
    Located,
    Rule,
    State,
    Still,
    Tracker,
    has_input,
    integers,
    lost,
    mixed,
    on_what,
    others_still,
    states_of_outputs,
)

__all__ = ["RULES"]


def _concat(tracker: Tracker, node: onnx.NodeProto) -> State:
    names = node.input[2::3] if node.op_type == "QLinearConcat" else node.input
    if not all(tracker.still(n) for n in node.input if n not in names):
        scales = [n for n in node.input if n not in names]
        return lost(node, f"its scale depends on {on_what(tracker, *scales)}")
    shape = tracker.shape(node.output[0])
    if shape is None:
        return lost(node, "its shape is not known")
    axis = integer_of(node, "axis", 1) % len(shape)
    places = []
    for name in names:
        place = tracker.place(name)
        if place is None:
            return lost(node, f"the batch is not one axis of {name!r}")
        places.append(place)
    if len(set(places)) != 1:
        return lost(node, "the batch is not the same axis of its inputs")
    place = places[0]
    if place.axis != axis:
        return tracker.at(node.output[0], place, node)
    if place.outer == 1:  # whole batches behind each other
        outer = Located(axis, len(places), place.inner)
        return tracker.at(node.output[0], outer, node)
    return lost(node, "rows are put behind each other")


def _split(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    if shape is None or place is None or not others_still(tracker, node):
        return lost(node, "the batch is not one axis, or its lengths are not known")
    if integer_of(node, "axis", 0) % len(shape) != place.axis:
        return states_of_outputs(tracker, node, place)
    # Whole batches that were put behind each other come apart again.
    states: list[State] = []
    for name in node.output:
        part = (tracker.shape(name) or (0,) * len(shape))[place.axis]
        outer = part // (tracker.count * place.inner)
        states.append(tracker.at(name, Located(place.axis, outer, place.inner), node))
    return states


def _some_taken(node: onnx.NodeProto, place: Located) -> State:
    if (place.outer, place.inner) == (1, 1):
        return mixed(node, "takes some of the rows")
    return lost(node, "takes some of an axis that holds the rows")


def _gather(tracker: Tracker, node: onnx.NodeProto) -> State:
    data, index = node.input[:2]
    shape, picked = tracker.shape(data), tracker.shape(index)
    if shape is None or picked is None:
        return lost(node, "a shape is not known")
    axis = integer_of(node, "axis", 0) % len(shape)
    if tracker.still(data):
        place = tracker.place(index)
        if place is None:
            return lost(node, "the batch is not one axis")
        return tracker.at(
            node.output[0], Located(axis + place.axis, place.outer, place.inner), node
        )
    place = tracker.place(data)
    if not tracker.still(index):
        return lost(node, f"which entries it takes depends on {on_what(tracker, index)}")
    if place is None:
        return lost(node, "the batch is not one axis")
    if place.axis == axis:
        return _some_taken(node, place)
    moved = place.axis if place.axis < axis else place.axis - 1 + len(picked)
    return tracker.at(node.output[0], Located(moved, place.outer, place.inner), node)


def _gather_elements(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    shape = tracker.shape(node.input[0])
    places = {tracker.place(name) for name in node.input}
    place = places.pop()
    if shape is None or place is None or places:
        return lost(node, "the batch is not the same axis of its inputs")
    if integer_of(node, "axis", 0) % len(shape) == place.axis:
        return lost(node, "takes rows by what is in them")
    return states_of_outputs(tracker, node, place)


def _gather_nd(tracker: Tracker, node: onnx.NodeProto) -> State:
    places = {tracker.place(name) for name in node.input}
    place = places.pop()
    if place is None or places or place.axis >= integer_of(node, "batch_dims", 0):
        return lost(node, "which rows it takes is not known")
    return tracker.at(node.output[0], place, node)


def _slice(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None:
        return lost(node, "the batch is not one axis, or its shape is not known")
    starts, steps = integers(tracker, node, "starts", 1), integers(tracker, node, "steps", 4)
    axes = integers(tracker, node, "axes", 3)
    if (
        starts is None
        or (has_input(node, 4) and steps is None)
        or (has_input(node, 3) and axes is None)
    ):
        return lost(node, "where it starts depends on the number of rows")
    axes = [axis % len(shape) for axis in axes or range(len(starts))]
    if has_input(node, 2) and not tracker.still(node.input[2]) and axes != [place.axis]:
        return lost(node, "where it ends depends on the number of rows")
    if place.axis in axes:
        if out[place.axis] != shape[place.axis]:
            return _some_taken(node, place)
        if steps is not None and steps[axes.index(place.axis)] < 0:
            return mixed(node, "turns the order of the rows round")
    return tracker.at(node.output[0], place, node)


def _pad(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    pads = integers(tracker, node, "pads", 1)
    if pads is None:
        pads = integers(tracker, node, "paddings", 1)
    if shape is None or place is None or pads is None:
        return lost(node, "the batch is not one axis, or its widths are not known")
    axes = integers(tracker, node, "axes", 3)
    if axes is None:
        if has_input(node, 3):
            return lost(node, "its axes are not known")
        axes = list(range(len(shape)))
    if has_input(node, 2) and not tracker.still(node.input[2]):
        return lost(node, f"its value depends on {on_what(tracker, node.input[2])}")
    half = len(pads) // 2
    for k, axis in enumerate(axes):
        if axis % len(shape) == place.axis and (pads[k] or pads[k + half]):
            return lost(node, "rows are added or taken away")
    return tracker.at(node.output[0], place, node)


def _tile(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None or len(shape) != len(out):
        return lost(node, "the batch is not one axis, or its shape is not known")
    times = out[place.axis] // shape[place.axis]
    return tracker.at(node.output[0], Located(place.axis, place.outer * times, place.inner), node)


def _expand(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None:
        return lost(node, "the batch is not one axis, or its shape is not known")
    moved = Located(place.axis + len(out) - len(shape), place.outer, place.inner)
    return tracker.at(node.output[0], moved, node)


def _resize(tracker: Tracker, node: onnx.NodeProto) -> State:
    place = tracker.place(node.input[0])
    # The last input says how large the output is, in which the batch may be counted.
    if place is None:
        return lost(node, "the batch is not one axis")
    if not all(tracker.still(n) for n in node.input[1:-1] if n):
        return lost(node, f"its size depends on {on_what(tracker, *node.input[1:-1])}")
    if isinstance(tracker.state(node.input[-1]), Apart) and len(node.input) > 1:
        return lost(node, "its size depends on the data")
    if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return lost(node, "it cuts out")
    return tracker.at(node.output[0], place, node)


def _one_hot(tracker: Tracker, node: onnx.NodeProto) -> State:
    place, out = tracker.place(node.input[0]), tracker.shape(node.output[0])
    if place is None or out is None or not others_still(tracker, node):
        return lost(node, "the batch is not one axis")
    axis = integer_of(node, "axis", -1) % len(out)
    moved = place.axis + (1 if axis <= place.axis else 0)
    return tracker.at(node.output[0], Located(moved, place.outer, place.inner), node)


def _all_leading(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    """Work on each entry of axis 0 of several inputs apart, as GridSample and attention do."""
    for name in filter(None, node.input):
        shape = tracker.shape(name)
        if isinstance(tracker.state(name), Apart):
            if tracker.place(name) != Located(0, 1, 1):
                return lost(node, f"axis 0 of {name!r} is not the batch")
        elif not tracker.still(name) or shape is None:
            return lost(node, f"{name!r} is not understood")
        elif tracker.count in shape[:1]:
            return lost(node, f"{name!r} has a value of its own for every row")
    return states_of_outputs(tracker, node, Located(0, 1, 1))


def _recurrent(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    if integer_of(node, "layout", 0):
        return lost(node, "the batch leads")
    expected = {0: 1, 4: 0, 5: 1, 6: 1}
    first = tracker.place(node.input[0])
    if first is None:
        return lost(node, "the batch is not one axis")
    for position, name in enumerate(node.input):
        if not name or tracker.still(name):
            continue
        place, axis = tracker.place(name), expected.get(position)
        if position == 0 and place is not None and place.axis == 0:
            return mixed(node, "runs through the rows as a sequence")
        if position and name in tracker.even and place and place.axis == axis:
            continue  # the same for all, however the axis is made of rows
        if axis is None or place != Located(axis, first.outer, first.inner):
            return lost(node, f"axis {axis} of {name!r} is not the batch")
    for position in (4, 5, 6):
        if has_input(node, position) and tracker.still(node.input[position]):
            return lost(node, f"{node.input[position]!r} is the same for all rows")
    return [
        tracker.at(name, Located(2 if k == 0 else 1, first.outer, first.inner), node)
        if name
        else Still()
        for k, name in enumerate(node.output)
    ]


def _quantised(*data: int) -> Rule:
    """Treat a quantised operator, whose other inputs are scales, as its plain twin."""

    def rule(tracker: Tracker, node: onnx.NodeProto) -> State:
        names = [node.input[i] for i in data]
        rest = [n for i, n in enumerate(node.input) if i not in data and n]
        if not all(tracker.still(n) for n in rest):
            return lost(node, f"its scale depends on {on_what(tracker, *rest)}")
        return combined(tracker, node, names)

    return rule


def _quantise(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Scale by one number, or by one for every entry of an axis that is not the batch."""
    if not others_still(tracker, node):
        return lost(node, f"its scale depends on {on_what(tracker, *node.input[1:])}")
    scale, shape = tracker.shape(node.input[1]), tracker.shape(node.input[0])
    if scale is not None and math.prod(scale) == 1:
        return same(tracker, node)
    place = tracker.place(node.input[0])
    if scale is None or shape is None or place is None or len(scale) != 1:
        return lost(node, "its scales are not understood")
    if integer_of(node, "axis", 1) % len(shape) == place.axis:
        return lost(node, "it has a scale for every row")
    return same(tracker, node)


#: By domain and names of operators.
RULES: list[tuple[str, str, Rule]] = [
    ("", "Concat", _concat),
    ("", "Split", _split),
    ("", "Gather", _gather),
    ("", "GatherElements", _gather_elements),
    ("", "GatherND", _gather_nd),
    ("", "Slice", _slice),
    ("", "Pad", _pad),
    ("", "Tile", _tile),
    ("", "Expand", _expand),
    ("", "Resize Upsample", _resize),
    ("", "OneHot", _one_hot),
    ("", "GridSample Attention RotaryEmbedding", _all_leading),
    ("", "LSTM GRU RNN", _recurrent),
    ("", "QuantizeLinear DequantizeLinear", _quantise),
    ("com.microsoft", "QuantizeLinear DequantizeLinear", _quantise),
    ("com.microsoft", "Gelu QuickGelu", same),
    ("com.microsoft", "BiasGelu FastGelu", broadcast),
    ("com.microsoft", "QLinearAdd QLinearMul", _quantised(0, 3)),
    ("com.microsoft", "QLinearSigmoid QLinearLeakyRelu", _quantised(0)),
    ("com.microsoft", "QLinearConcat", _concat),
    (
        "com.microsoft",
        "FusedConv QLinearAveragePool QLinearGlobalAveragePool NhwcMaxPool",
        leading,
    ),
    ("com.microsoft", "Attention MultiHeadAttention GroupQueryAttention", _all_leading),
    ("ai.onnx.ml", "Binarizer LabelEncoder", same),
    (
        "ai.onnx.ml",
        "LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsembleClassifier "
        "TreeEnsembleRegressor TreeEnsemble Normalizer Scaler Imputer",
        leading,
    ),
]
