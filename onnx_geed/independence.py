"""Proof from a graph that the rows of a batch do not mix: one rule an operator.

What no rule says is not proven, which is no harm: rows of real jobs are then run again alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from onnx_geed.flow import SHAPE_ONLY, ops
from onnx_geed.loading import reads, subgraphs
from onnx_geed.rowstate import Counted, Located, Lost, Mixed, Rows, State, Still, Tracker

__all__ = ["Lost", "Mixed", "Rows", "rows_apart"]

_RANDOM = ("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli")
Rule = Callable[[Tracker, onnx.NodeProto], "State | list[State]"]


def rows_apart(
    proto: onnx.ModelProto,
    names: Sequence[str],
    fed: Mapping[str, tuple[int | None, ...]],
    *,
    rows: int | None = None,
) -> Rows | Lost | Mixed:
    """Tell from the graph whether a row of some tensors depends on its own input alone.

    Parameters
    ----------
    proto : onnx.ModelProto
        A model, its nodes sorted.
    names : sequence of str
        Tensors of the main graph, whose axis 0 should be the batch.
    fed : mapping of str to tuple of int or None
        Shapes of all inputs; ``None`` as the first length where there is one row a sample.
    rows : int, optional
        The number of rows, where the model takes no other.

    Returns
    -------
    Rows, Lost or Mixed
        ``Rows`` is a proof; ``Mixed`` is known to mix; ``Lost`` says what was not understood.

    Notes
    -----
    Choice: a constant that differs from row to row, or the number of rows among the data, is
    ``Lost`` and not ``Mixed``: a value then depends on its place, not on its neighbours.
    """
    try:
        tracker = Tracker(proto, fed, rows)
        wanted, alive = set(names), []
        for node in reversed(tracker.nodes):
            if wanted.intersection(node.output):
                alive.append(node)
                wanted.update(reads(node))
        for node in reversed(alive):
            made = _after(tracker, node)
            states = made if isinstance(made, list) else [made] * len(node.output)
            tracker.states.update(zip(node.output, states, strict=True))
            tracker.states.pop("", None)
        return _verdict(tracker, names)
    except Exception as error:  # a malformed node: no proof, and the runtime says what it is
        return Lost(f"the graph is not understood ({error or type(error).__name__})")


def _verdict(tracker: Tracker, names: Sequence[str]) -> Rows | Lost | Mixed:
    found = [tracker.state(name) for name in names]
    for kind in (Mixed, Lost):
        for state in found:
            if isinstance(state, kind):
                return state
    for name in names:
        if tracker.place(name) != Located(0, 1, 1):
            return Lost(f"axis 0 of {name!r} is not known to be the batch")
    return Rows(1)


def _after(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    """Return the state of a node's outputs."""
    states = [tracker.state(name) for name in reads(node)]
    standard = node.domain in ("", "ai.onnx")
    named = f"{node.op_type} {node.output[0]!r}"
    if standard and node.op_type.startswith(_RANDOM):
        return Lost(f"{named} is random")
    if standard and node.op_type in SHAPE_ONLY:
        return Still() if isinstance(states[0], Still) else Counted()
    mixed = next((state for state in states if isinstance(state, Mixed)), None)
    if mixed:
        return mixed
    if all(tracker.still(name) for name in reads(node)):
        return Still()
    if all(isinstance(state, Still | Counted) for state in states):
        return _filled(tracker, node)
    if reason := _taken_together(tracker, node):
        return Mixed(reason)
    lost = next((state for state in states if isinstance(state, Lost)), None)
    if lost:
        return lost
    rule = _RULES.get((node.domain if not standard else "", node.op_type))
    return rule(tracker, node) if rule else Lost(f"{named} is not understood")


def _taken_together(tracker: Tracker, node: onnx.NodeProto) -> str:
    """Say what makes one number of all data, wherever the rows are."""
    named = f"{node.op_type} {node.output[0]!r}"
    data = not tracker.still(node.input[0]) if node.input and node.input[0] else False
    if node.op_type in _REDUCE and data and _reduced_axes(tracker, node) == "all":
        return f"{named} is taken over all rows"
    if node.op_type in _DYNAMIC and data:
        return f"{named} takes its scale from all rows"
    if node.op_type == "BatchNormalization" and data and _trains(node):
        return f"{named} normalises over the rows, as in training"
    if node.op_type == "If" and data and not isinstance(tracker.state(node.input[0]), Counted):
        return f"one choice of {named} is made for all rows"
    if node.op_type == "Loop" and _endless(tracker, node):
        return f"the end of {named} depends on all rows"
    return ""


def _trains(node: onnx.NodeProto) -> bool:
    return bool(_int(node, "training_mode", 0)) or len([n for n in node.output if n]) > 1


def _endless(tracker: Tracker, node: onnx.NodeProto) -> bool:
    """Whether how often a Loop is run depends on data."""
    depends = [n for n in reads(node) if isinstance(tracker.state(n), Rows | Lost)]
    if any(name in depends for name in node.input[:2]):
        return True
    (body,) = subgraphs(node)
    reached = set(depends)
    carried = zip(body.input[2:], node.input[2:], strict=True)
    reached.update(inner.name for inner, outer in carried if outer in depends)
    for _ in range(len(body.input)):  # what one turn leaves the next one reads
        for inner in body.node:
            if reached.intersection(reads(inner)) and inner.op_type not in SHAPE_ONLY:
                reached.update(inner.output)
        kept = zip(body.input[2:], body.output[1:], strict=False)
        reached.update(a.name for a, b in kept if b.name in reached)
    return body.output[0].name in reached


def _filled(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Return the state of what is made from constants and the number of rows."""
    shape = tracker.shape(node.output[0])
    same = node.op_type in ("Expand", "Tile") and tracker.still(node.input[0])
    if not (same or node.op_type == "ConstantOfShape") or shape is None:
        return Counted()
    if tracker.still(node.input[-1]):
        return Still()
    axes = [i for i, length in enumerate(shape) if length % tracker.count == 0]
    if len(axes) != 1:
        return Counted()
    before = tracker.shape(node.input[0]) or ()
    aligned = axes[0] + len(before) - len(shape)
    length = before[aligned] if same and aligned >= 0 else 1
    if length != 1 and node.op_type == "Expand":
        return Counted()
    if length == 1:
        tracker.even.add(node.output[0])
    # Every row is the whole of what is repeated.
    outer = shape[axes[0]] // (tracker.count * length)
    return tracker.at(node.output[0], Located(axes[0], outer, length), node)


# ------------------------------------------------------------------------------------------------
# Attributes
# ------------------------------------------------------------------------------------------------


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return None if found is None else onnx.helper.get_attribute_value(found)


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    found = _attribute(node, name)
    return default if found is None else int(found)


def _ints(tracker: Tracker, node: onnx.NodeProto, name: str, position: int) -> list[int] | None:
    """Return integers that are an attribute or, in newer opsets, an input; none where unknown."""
    stated = _attribute(node, name)
    if stated is not None:
        return [int(i) for i in stated]
    if len(node.input) > position and node.input[position]:
        value = tracker.value(node.input[position])
        return None if value is None else [int(i) for i in value.flat]
    return None


def _given(node: onnx.NodeProto, position: int) -> bool:
    return len(node.input) > position and bool(node.input[position])


def _lost(node: onnx.NodeProto, why: str) -> Lost:
    return Lost(f"{node.op_type} {node.output[0]!r}: {why}")


def _mixed(node: onnx.NodeProto, why: str) -> Mixed:
    return Mixed(f"{node.op_type} {node.output[0]!r} {why}")


def _each(tracker: Tracker, node: onnx.NodeProto, place: Located) -> list[State]:
    return [tracker.at(n, place, node) if n else Still() for n in node.output]


# ------------------------------------------------------------------------------------------------
# Rules: entry by entry, and reshaping
# ------------------------------------------------------------------------------------------------


def _same(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Keep flat positions: reshapes, and functions of one entry."""
    first, *others = (tracker.state(name) for name in node.input)
    if any(isinstance(state, Rows) for state in others) and node.op_type != "CastLike":
        return _lost(node, "more than one input depends on the data")
    return first


def _dropout(tracker: Tracker, node: onnx.NodeProto) -> State:
    value = tracker.value(node.input[2]) if _given(node, 2) else None
    if _given(node, 2) and (value is None or bool(value.any())):
        return _lost(node, "drops at random")
    return _same(tracker, node)


def _broadcast(tracker: Tracker, node: onnx.NodeProto) -> State:
    return _combined(tracker, node, [name for name in node.input if name])


def _combined(tracker: Tracker, node: onnx.NodeProto, names: Sequence[str]) -> State:
    """Combine entries by numpy's broadcasting."""
    rows = [n for n in names if isinstance(tracker.state(n), Rows)]
    others = [n for n in names if n not in rows]
    shapes = {n: tracker.shape(n) for n in dict.fromkeys(names)}
    for name in others:
        if not tracker.still(name):
            return _lost(node, "the number of rows is among its values")
        if shapes[name] is None:
            return _lost(node, f"the shape of {name!r} is not known")
    out = tracker.shape(node.output[0])
    strides = {tracker.state(n) for n in rows}
    plain = all(math.prod(shapes[n] or ()) == 1 for n in others)
    alike = len(rows) == 1 or (shapes[rows[0]] and len({shapes[n] for n in rows}) == 1)
    if len(strides) == 1 and plain and alike:
        return tracker.state(rows[0])
    if out is None:
        return _lost(node, "its shape is not known")
    places = set()
    for name in rows:
        place, shape = tracker.place(name), shapes[name]
        if place is None or shape is None:
            return _lost(node, "the batch is not one axis")
        places.add(Located(place.axis + len(out) - len(shape), place.outer, place.inner))
    if len({place.axis for place in places}) > 1:
        return _mixed(node, "holds every row against every other")
    if len(places) > 1:
        return _lost(node, "the batch is not the same axis of its inputs")
    (place,) = places
    for name in others:
        shape = shapes[name] or ()
        axis = place.axis + len(shape) - len(out)
        if axis >= 0 and shape[axis] != 1:
            return _lost(node, f"{name!r} holds something else for every row")
    return tracker.at(node.output[0], place, node)


def _transpose(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    if shape is None or place is None:
        return _lost(node, "the batch is not one axis")
    perm = _attribute(node, "perm") or list(range(len(shape)))[::-1]
    moved = Located(list(perm).index(place.axis), place.outer, place.inner)
    return tracker.at(node.output[0], moved, node)


# ------------------------------------------------------------------------------------------------
# Rules: along axes
# ------------------------------------------------------------------------------------------------


def _reduced_axes(tracker: Tracker, node: onnx.NodeProto) -> list[int] | str | None:
    """Return the axes that are reduced: ``"all"``, or none where they are not known."""
    if node.op_type in ("ArgMax", "ArgMin"):
        return [_int(node, "axis", 0)]
    axes = _ints(tracker, node, "axes", 1)
    if axes is None and _given(node, 1):
        return None
    return axes or ([] if _int(node, "noop_with_empty_axes", 0) else "all")


def _reduce(tracker: Tracker, node: onnx.NodeProto) -> State:
    axes, shape = _reduced_axes(tracker, node), tracker.shape(node.input[0])
    place = tracker.place(node.input[0])
    if not isinstance(axes, list) or shape is None or place is None:
        return _lost(node, "the batch is not one axis, or the axes are not known")
    gone = {axis % len(shape) for axis in axes}
    if place.axis in gone:
        return _mixed(node, "is taken over the rows")
    kept = _int(node, "keepdims", 1)
    axis = place.axis - (0 if kept else sum(i < place.axis for i in gone))
    return tracker.at(node.output[0], Located(axis, place.outer, place.inner), node)


def _some_taken(node: onnx.NodeProto, place: Located) -> State:
    if (place.outer, place.inner) == (1, 1):
        return _mixed(node, "takes some of the rows")
    return _lost(node, "takes some of an axis that holds the rows")


def _along(default: int, what: str) -> Rule:
    """Mix entries along one axis, given by ``axis``."""

    def rule(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
        shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
        if shape is None or place is None:
            return _lost(node, "the batch is not one axis")
        if _int(node, "axis", default) % len(shape) == place.axis:
            return _mixed(node, what)
        if not _others_still(tracker, node):
            return _lost(node, "more than one input depends on the data")
        return _each(tracker, node, place)

    return rule


def _others_still(tracker: Tracker, node: onnx.NodeProto) -> bool:
    return all(tracker.still(name) for name in node.input[1:] if name)


def _softmax(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    if tracker.opset >= 13:
        return _along(-1, "is taken over the rows")(tracker, node)
    return _from_axis(1, "is taken over the rows")(tracker, node)


def _from_axis(default: int, what: str) -> Rule:
    """Mix entries along some axis and all behind it."""

    def rule(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
        shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
        if shape is None or place is None:
            return _lost(node, "the batch is not one axis")
        if place.axis >= _int(node, "axis", default) % len(shape):
            return _mixed(node, what)
        if not _others_still(tracker, node):
            return _lost(node, "more than one input depends on the data")
        return _each(tracker, node, place)

    return rule


def _leading(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    """Work on every entry of axis 0 apart, as convolutions and pooling do."""
    place = tracker.place(node.input[0])
    if not _others_still(tracker, node):
        return _lost(node, "more than one input depends on the data")
    if place is None or place.axis:
        if place and place.axis > 1 and node.op_type.startswith("Global"):
            return _mixed(node, "is taken over the rows")
        return _lost(node, "the batch does not lead")
    made = _each(tracker, node, place)
    if node.op_type == "MaxPool" and len(made) > 1:
        made[1] = _lost(node, "its indices count through all rows")
    return made


def _batch_norm(tracker: Tracker, node: onnx.NodeProto) -> State:
    place = tracker.place(node.input[0])
    if not _others_still(tracker, node):
        return _lost(node, "more than one input depends on the data")
    if place is None or place.axis == 1:
        return _lost(node, "the batch is not one axis besides the channels")
    return _same(tracker, node)


def _mean_variance(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    axes = _attribute(node, "axes") or [0, 2, 3]
    if place is None or shape is None:
        return _lost(node, "the batch is not one axis")
    if place.axis in {axis % len(shape) for axis in axes}:
        return _mixed(node, "normalises over the rows")
    return _each(tracker, node, place)


def _cum_sum(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    axis = tracker.value(node.input[1])
    if place is None or shape is None or axis is None:
        return _lost(node, "the batch is not one axis, or the axis is not known")
    if int(axis.item()) % len(shape) == place.axis:
        return _mixed(node, "adds the rows up")
    return _each(tracker, node, place)


def _trilu(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    place, shape = tracker.place(node.input[0]), tracker.shape(node.input[0])
    if place is None or shape is None or place.axis >= len(shape) - 2:
        return _lost(node, "what it keeps depends on a row's place")
    return _each(tracker, node, place)


# ------------------------------------------------------------------------------------------------
# Rules: products
# ------------------------------------------------------------------------------------------------


def _gemm(tracker: Tracker, node: onnx.NodeProto) -> State:
    a, b = node.input[:2]
    turned = (_int(node, "transA", 0), _int(node, "transB", 0))
    found: list[Located] = []
    for k, name in enumerate((a, b)):
        if tracker.still(name):
            continue
        place = tracker.place(name)
        if place is None:
            return _lost(node, "the batch is not one axis")
        summed = 1 - k if not turned[k] else k
        if place.axis == summed:
            return _mixed(node, "adds over the rows")
        found.append(Located(k, place.outer, place.inner))
    if len(found) > 1:
        return _mixed(node, "holds every row against every other")
    if not found:
        return _lost(node, "the batch is in what is added only")
    (place,), out = found, tracker.shape(node.output[0])
    if _given(node, 2) and out is not None:
        added, shape = tracker.state(node.input[2]), tracker.shape(node.input[2])
        if shape is None:
            return _lost(node, "a shape is not known")
        axis = place.axis + len(shape) - 2
        if isinstance(added, Rows):
            other = tracker.place(node.input[2])
            if other != Located(axis, place.outer, place.inner):
                return _lost(node, "what is added has the batch elsewhere")
        elif not tracker.still(node.input[2]) or (axis >= 0 and shape[axis] != 1):
            return _lost(node, f"{node.input[2]!r} holds something else for every row")
    return tracker.at(node.output[0], place, node)


def _product(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Multiply matrices, the leading axes broadcast."""
    if any(_int(node, name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB")):
        return _lost(node, "its operands are transposed")
    a, b = _operands(node)
    others = [n for n in node.input if n and n not in (a, b)]
    out = tracker.shape(node.output[0])
    if out is None or not all(tracker.still(n) for n in others):
        return _lost(node, "its shape is not known, or its scale depends on the data")
    places = set()
    for k, name in enumerate((a, b)):
        if tracker.still(name):
            continue
        place, shape = tracker.place(name), tracker.shape(name)
        if place is None or shape is None or len(shape) < 2:
            return _lost(node, "the batch is not one axis")
        behind = place.axis - len(shape)
        if behind == (-1, -2)[k]:
            return _mixed(node, "adds over the rows")
        if behind == (-2, -1)[k]:  # the rows are rows of the first, or columns of the second
            axis = len(out) - (1 if k or _flat(tracker, b) else 2)
            places.add(Located(axis, place.outer, place.inner))
        else:
            lost = sum(_flat(tracker, n) for n in (a, b))
            places.add(Located(len(out) + behind + lost, place.outer, place.inner))
    for name in (a, b):  # weights of its own for every row
        shape = tracker.shape(name)
        if not tracker.still(name) or shape is None:
            continue
        for place in places:
            axis = place.axis - len(out) + len(shape)
            if place.axis < len(out) - 2 and axis >= 0 and shape[axis] != 1:
                return _lost(node, f"{name!r} holds something else for every row")
    if len({place.axis for place in places}) > 1:
        return _mixed(node, "holds every row against every other")
    if len(places) != 1:
        return _lost(node, "the batch is not the same axis of its inputs")
    (place,) = places
    return tracker.at(node.output[0], place, node)


def _flat(tracker: Tracker, name: str) -> bool:
    shape = tracker.shape(name)
    return shape is not None and len(shape) == 1


def _operands(node: onnx.NodeProto) -> tuple[str, str]:
    second = 3 if node.op_type == "QLinearMatMul" else 1
    return node.input[0], node.input[second]


def _einsum(tracker: Tracker, node: onnx.NodeProto) -> State:
    equation = bytes(_attribute(node, "equation")).decode().replace(" ", "")
    if "." in equation:
        return _lost(node, "its equation has an ellipsis")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation:
        joined = "".join(terms)
        right = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    letters = set()
    if any(len(set(term)) < len(term) for term in terms):
        return _lost(node, "takes a diagonal")
    for term, name in zip(terms, node.input, strict=True):
        if tracker.still(name):
            continue
        place = tracker.place(name)
        if place is None:
            return _lost(node, "the batch is not one axis")
        letters.add((term[place.axis], place.outer, place.inner))
    if len({letter for letter, _, _ in letters}) > 1:
        return _mixed(node, "holds every row against every other")
    if len(letters) != 1:
        return _lost(node, "the batch is not the same axis of its inputs")
    ((letter, outer, inner),) = letters
    for term, name in zip(terms, node.input, strict=True):
        shape = tracker.shape(name)
        own = tracker.still(name) and letter in term
        if own and (shape is None or shape[term.index(letter)] != 1):
            return _lost(node, f"{name!r} holds something else for every row")
    if letter not in right:
        return _mixed(node, "adds over the rows")
    return tracker.at(node.output[0], Located(right.index(letter), outer, inner), node)


# ------------------------------------------------------------------------------------------------
# Rules: taking apart and putting together
# ------------------------------------------------------------------------------------------------


def _concat(tracker: Tracker, node: onnx.NodeProto) -> State:
    names = node.input[2::3] if node.op_type == "QLinearConcat" else node.input
    if not all(tracker.still(n) for n in node.input if n not in names):
        return _lost(node, "its scale depends on the data")
    shape = tracker.shape(node.output[0])
    if shape is None:
        return _lost(node, "its shape is not known")
    axis = _int(node, "axis", 1) % len(shape)
    places = []
    for name in names:
        place = tracker.place(name)
        if place is None:
            return _lost(node, f"the batch is not one axis of {name!r}")
        places.append(place)
    if len(set(places)) != 1:
        return _lost(node, "the batch is not the same axis of its inputs")
    place = places[0]
    if place.axis != axis:
        return tracker.at(node.output[0], place, node)
    if place.outer == 1:  # whole batches behind each other
        outer = Located(axis, len(places), place.inner)
        return tracker.at(node.output[0], outer, node)
    return _lost(node, "rows are put behind each other")


def _split(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    if shape is None or place is None or not _others_still(tracker, node):
        return _lost(node, "the batch is not one axis, or its lengths are not known")
    if _int(node, "axis", 0) % len(shape) != place.axis:
        return _each(tracker, node, place)
    # Whole batches that were put behind each other come apart again.
    made: list[State] = []
    for name in node.output:
        part = (tracker.shape(name) or (0,) * len(shape))[place.axis]
        outer = part // (tracker.count * place.inner)
        made.append(tracker.at(name, Located(place.axis, outer, place.inner), node))
    return made


def _gather(tracker: Tracker, node: onnx.NodeProto) -> State:
    data, index = node.input[:2]
    shape, picked = tracker.shape(data), tracker.shape(index)
    if shape is None or picked is None:
        return _lost(node, "a shape is not known")
    axis = _int(node, "axis", 0) % len(shape)
    if tracker.still(data):
        place = tracker.place(index)
        if place is None:
            return _lost(node, "the batch is not one axis")
        return tracker.at(
            node.output[0], Located(axis + place.axis, place.outer, place.inner), node
        )
    place = tracker.place(data)
    if not tracker.still(index) or place is None:
        return _lost(node, "which entries it takes depends on the data")
    if place.axis == axis:
        return _some_taken(node, place)
    moved = place.axis if place.axis < axis else place.axis - 1 + len(picked)
    return tracker.at(node.output[0], Located(moved, place.outer, place.inner), node)


def _gather_elements(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    shape = tracker.shape(node.input[0])
    places = {tracker.place(name) for name in node.input}
    place = places.pop()
    if shape is None or place is None or places:
        return _lost(node, "the batch is not the same axis of its inputs")
    if _int(node, "axis", 0) % len(shape) == place.axis:
        return _lost(node, "takes rows by what is in them")
    return _each(tracker, node, place)


def _gather_nd(tracker: Tracker, node: onnx.NodeProto) -> State:
    places = {tracker.place(name) for name in node.input}
    place = places.pop()
    if place is None or places or place.axis >= _int(node, "batch_dims", 0):
        return _lost(node, "which rows it takes is not known")
    return tracker.at(node.output[0], place, node)


def _slice(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None:
        return _lost(node, "the batch is not one axis, or its shape is not known")
    starts, steps = _ints(tracker, node, "starts", 1), _ints(tracker, node, "steps", 4)
    axes = _ints(tracker, node, "axes", 3)
    if starts is None or (_given(node, 4) and steps is None) or (_given(node, 3) and axes is None):
        return _lost(node, "where it starts depends on the number of rows")
    axes = [axis % len(shape) for axis in axes or range(len(starts))]
    if _given(node, 2) and not tracker.still(node.input[2]) and axes != [place.axis]:
        return _lost(node, "where it ends depends on the number of rows")
    if place.axis in axes:
        if out[place.axis] != shape[place.axis]:
            return _some_taken(node, place)
        if steps is not None and steps[axes.index(place.axis)] < 0:
            return _mixed(node, "turns the order of the rows round")
    return tracker.at(node.output[0], place, node)


def _pad(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    pads = _ints(tracker, node, "pads", 1)
    if pads is None:
        pads = _ints(tracker, node, "paddings", 1)
    if shape is None or place is None or pads is None:
        return _lost(node, "the batch is not one axis, or its widths are not known")
    axes = _ints(tracker, node, "axes", 3)
    if axes is None:
        if _given(node, 3):
            return _lost(node, "its axes are not known")
        axes = list(range(len(shape)))
    if _given(node, 2) and not tracker.still(node.input[2]):
        return _lost(node, "its value depends on the data")
    half = len(pads) // 2
    for k, axis in enumerate(axes):
        if axis % len(shape) == place.axis and (pads[k] or pads[k + half]):
            return _lost(node, "rows are added or taken away")
    return tracker.at(node.output[0], place, node)


def _tile(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None or len(shape) != len(out):
        return _lost(node, "the batch is not one axis, or its shape is not known")
    times = out[place.axis] // shape[place.axis]
    return tracker.at(node.output[0], Located(place.axis, place.outer * times, place.inner), node)


def _expand(tracker: Tracker, node: onnx.NodeProto) -> State:
    shape, place = tracker.shape(node.input[0]), tracker.place(node.input[0])
    out = tracker.shape(node.output[0])
    if shape is None or place is None or out is None:
        return _lost(node, "the batch is not one axis, or its shape is not known")
    moved = Located(place.axis + len(out) - len(shape), place.outer, place.inner)
    return tracker.at(node.output[0], moved, node)


def _resize(tracker: Tracker, node: onnx.NodeProto) -> State:
    place = tracker.place(node.input[0])
    # The last input says how large the output is, in which the batch may be counted.
    if place is None or not all(tracker.still(n) for n in node.input[1:-1] if n):
        return _lost(node, "the batch is not one axis, or its size depends on the data")
    if isinstance(tracker.state(node.input[-1]), Rows) and len(node.input) > 1:
        return _lost(node, "its size depends on the data")
    if _attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize":
        return _lost(node, "it cuts out")
    return tracker.at(node.output[0], place, node)


def _one_hot(tracker: Tracker, node: onnx.NodeProto) -> State:
    place, out = tracker.place(node.input[0]), tracker.shape(node.output[0])
    if place is None or out is None or not _others_still(tracker, node):
        return _lost(node, "the batch is not one axis")
    axis = _int(node, "axis", -1) % len(out)
    moved = place.axis + (1 if axis <= place.axis else 0)
    return tracker.at(node.output[0], Located(moved, place.outer, place.inner), node)


# ------------------------------------------------------------------------------------------------
# Rules: networks' own
# ------------------------------------------------------------------------------------------------


def _all_leading(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    """Work on each entry of axis 0 of several inputs apart, as GridSample and attention do."""
    for name in filter(None, node.input):
        shape = tracker.shape(name)
        if isinstance(tracker.state(name), Rows):
            if tracker.place(name) != Located(0, 1, 1):
                return _lost(node, f"axis 0 of {name!r} is not the batch")
        elif not tracker.still(name) or shape is None:
            return _lost(node, f"{name!r} is not understood")
        elif tracker.count in shape[:1]:
            return _lost(node, f"{name!r} holds something else for every row")
    return _each(tracker, node, Located(0, 1, 1))


def _recurrent(tracker: Tracker, node: onnx.NodeProto) -> State | list[State]:
    if _int(node, "layout", 0):
        return _lost(node, "the batch leads")
    expected = {0: 1, 4: 0, 5: 1, 6: 1}
    first = tracker.place(node.input[0])
    if first is None:
        return _lost(node, "the batch is not one axis")
    for position, name in enumerate(node.input):
        if not name or tracker.still(name):
            continue
        place, axis = tracker.place(name), expected.get(position)
        if position == 0 and place is not None and place.axis == 0:
            return _mixed(node, "runs through the rows as a sequence")
        if position and name in tracker.even and place and place.axis == axis:
            continue  # the same for all, however the axis is made of rows
        if axis is None or place != Located(axis, first.outer, first.inner):
            return _lost(node, f"axis {axis} of {name!r} is not the batch")
    for position in (4, 5, 6):
        if _given(node, position) and tracker.still(node.input[position]):
            return _lost(node, f"{node.input[position]!r} is the same for all rows")
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
            return _lost(node, "its scale depends on the data")
        return _combined(tracker, node, names)

    return rule


def _quantise(tracker: Tracker, node: onnx.NodeProto) -> State:
    """Scale by one number, or by one for every entry of an axis that is not the batch."""
    if not _others_still(tracker, node):
        return _lost(node, "its scale depends on the data")
    scale, shape = tracker.shape(node.input[1]), tracker.shape(node.input[0])
    if scale is not None and math.prod(scale) == 1:
        return _same(tracker, node)
    place = tracker.place(node.input[0])
    if scale is None or shape is None or place is None or len(scale) != 1:
        return _lost(node, "its scales are not understood")
    if _int(node, "axis", 1) % len(shape) == place.axis:
        return _lost(node, "it has a scale for every row")
    return _same(tracker, node)


_REDUCE = ops(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp"
)
_DYNAMIC = ops("DynamicQuantizeLinear DynamicQuantizeMatMul DynamicQuantizeLSTM")
_MANY: list[tuple[str, str, Rule]] = [
    (
        "",
        "Reshape Flatten Squeeze Unsqueeze Identity Cast CastLike Relu Sigmoid HardSigmoid "
        "HardSwish Tanh Erf Exp Log Sqrt Abs Neg Elu Selu Celu Gelu LeakyRelu ThresholdedRelu "
        "Softplus Softsign Mish Swish Shrink Sign Floor Ceil Round Reciprocal Sin Cos Tan Asin "
        "Acos Atan Sinh Cosh Asinh Acosh Atanh Not IsNaN IsInf BitwiseNot",
        _same,
    ),
    (
        "",
        "Add Sub Mul Div Pow Min Max Sum Mean Mod And Or Xor Equal Greater GreaterOrEqual Less "
        "LessOrEqual Where PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor Clip",
        _broadcast,
    ),
    ("", " ".join(_REDUCE) + " ArgMax ArgMin", _reduce),
    ("", "Transpose", _transpose),
    ("", "Dropout", _dropout),
    ("", "Softmax LogSoftmax Hardmax", _softmax),
    ("", "TopK", _along(-1, "sorts the rows")),
    ("", "LpNormalization", _along(-1, "normalises over the rows")),
    ("", "LayerNormalization RMSNormalization", _from_axis(-1, "normalises over the rows")),
    ("", "MeanVarianceNormalization", _mean_variance),
    ("", "BatchNormalization", _batch_norm),
    ("", "CumSum", _cum_sum),
    ("", "Trilu", _trilu),
    (
        "",
        "Conv ConvTranspose ConvInteger QLinearConv AveragePool MaxPool LpPool GlobalAveragePool "
        "GlobalMaxPool GlobalLpPool InstanceNormalization GroupNormalization LRN DepthToSpace "
        "SpaceToDepth",
        _leading,
    ),
    ("", "Gemm", _gemm),
    ("", "MatMul MatMulInteger QLinearMatMul", _product),
    ("", "Einsum", _einsum),
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
    ("com.microsoft", "Gelu QuickGelu", _same),
    ("com.microsoft", "BiasGelu FastGelu", _broadcast),
    ("com.microsoft", "QLinearAdd QLinearMul", _quantised(0, 3)),
    ("com.microsoft", "QLinearSigmoid QLinearLeakyRelu", _quantised(0)),
    (
        "com.microsoft",
        "FusedConv QLinearAveragePool QLinearGlobalAveragePool NhwcMaxPool",
        _leading,
    ),
    ("com.microsoft", "QLinearConcat", _concat),
    ("com.microsoft", "FusedMatMul", _product),
    ("com.microsoft", "FusedGemm", _gemm),
    ("com.microsoft", "Attention MultiHeadAttention GroupQueryAttention", _all_leading),
    ("ai.onnx.ml", "Binarizer LabelEncoder", _same),
    (
        "ai.onnx.ml",
        "LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsembleClassifier "
        "TreeEnsembleRegressor TreeEnsemble Normalizer Scaler Imputer",
        _leading,
    ),
]
_RULES: dict[tuple[str, str], Rule] = {
    (domain, op): rule for domain, names, rule in _MANY for op in names.split()
}
