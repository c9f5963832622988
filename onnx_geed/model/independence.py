"""Proof from a graph that the rows of a batch do not mix: one rule an operator.

What no rule says is not proven, which is no harm: rows of real jobs are then run again alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from onnx_geed.model import row_parts, row_rules
from onnx_geed.model.nodes import SHAPE_ONLY, integer_of, ops, reads, subgraphs
from onnx_geed.model.row_rules import REDUCE, reduced_axes
from onnx_geed.model.row_state import (
    Apart,
    Counted,
    Located,
    Lost,
    Mixed,
    Rule,
    State,
    Still,
    Tracker,
)

__all__ = ["rows_apart"]

_RANDOM = ("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli")


_DYNAMIC = ops("DynamicQuantizeLinear DynamicQuantizeMatMul DynamicQuantizeLSTM")


_RULES: dict[tuple[str, str], Rule] = {
    (domain, op): rule
    for domain, names, rule in [*row_rules.RULES, *row_parts.RULES]
    for op in names.split()
}


def rows_apart(
    proto: onnx.ModelProto,
    names: Sequence[str],
    fed: Mapping[str, tuple[int | None, ...]],
    *,
    rows: int | None = None,
) -> Apart | Lost | Mixed:
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
    Apart, Lost or Mixed
        ``Apart`` is a proof; ``Mixed`` is known to mix; ``Lost`` says what was not understood.

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
            after = _after(tracker, node)
            states = after if isinstance(after, list) else [after] * len(node.output)
            tracker.states.update(zip(node.output, states, strict=True))
            tracker.states.pop("", None)
        return _verdict(tracker, names)
    except Exception as error:  # a malformed node: no proof, and the runtime says what it is
        return Lost(f"the graph is not understood ({error or type(error).__name__})")


def _verdict(tracker: Tracker, names: Sequence[str]) -> Apart | Lost | Mixed:
    states = [tracker.state(name) for name in names]
    for kind in (Mixed, Lost):
        for state in states:
            if isinstance(state, kind):
                return state
    for name in names:
        place = tracker.place(name)
        if place != Located(0, 1, 1):
            elsewhere = name if place is not None and place.axis else ""
            return Lost(f"axis 0 of {name!r} is not known to be the batch", elsewhere)
    return Apart(1, tracker.by_count)


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
    if node.op_type in REDUCE and data and reduced_axes(tracker, node) == "all":
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
    return bool(integer_of(node, "training_mode", 0)) or len([n for n in node.output if n]) > 1


def _endless(tracker: Tracker, node: onnx.NodeProto) -> bool:
    """Whether how often a Loop is run depends on data."""
    depends = [n for n in reads(node) if isinstance(tracker.state(n), Apart | Lost)]
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
