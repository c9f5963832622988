"""Tensors that hold what another holds: of them one stands for all, and of the input's none.

Beside maps these are points of a map's shape of which nobody can tell that they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx

from onnx_geed.model.dataflow import Flow, drop_pointwise, vary_along_one_axis
from onnx_geed.model.layout_inference import may_hold_places
from onnx_geed.model.nodes import data_reads, ops
from onnx_geed.model.shapes import Shape, Types

__all__ = [
    "NO_LAYOUT",
    "ROWS_ELSEWHERE",
    "module_outputs",
    "origins",
    "standing",
    "unsure_maps",
]

#: The letters of its axes are not known.
NO_LAYOUT = "no layout"

#: Its axis 0 is not the batch.
ROWS_ELSEWHERE = "rows elsewhere"

# The same values in another shape, order or dtype, some of them, or others put beside them.
_PLUMBING = ops(
    "Transpose Reshape Flatten Squeeze Unsqueeze Identity Cast CastLike Dropout Slice Pad Expand "
    "Tile Concat Split Gather GatherND ScatterND ScatterElements"
)

# An input in another scale, as networks begin.
_SCALING = ops("Neg Mul Add Sub Div BatchNormalization QuantizeLinear DequantizeLinear")


def origins(graph: onnx.GraphProto, flow: Flow, types: Types) -> dict[str, str]:
    """Find for each tensor the one whose values it holds.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    flow : Flow
        How data flow in it.
    types : dict
        Shapes, by which a scale is told from a constant that varies over the grid.

    Returns
    -------
    dict of str to str
        By tensor: the one that was computed, which is itself, or the acted-on input.
    """
    found = dict.fromkeys(flow.starts, flow.input)
    for node in graph.node:
        data = [name for name in data_reads(node) if name in flow.tainted]
        sources = {found.get(name, name) for name in data}
        source = sources.pop() if len(sources) == 1 else None
        kept = node.op_type in _PLUMBING
        kept |= source == flow.input and _is_scale(node, data, flow, types)
        for name in filter(None, node.output):
            found[name] = source if kept and source is not None else name
    return found


def _is_scale(node: onnx.NodeProto, data: Sequence[str], flow: Flow, types: Types) -> bool:
    """Whether a node is an affine map of data, with constants that vary over one axis at most."""
    # A square and a difference of two inputs are no affine map of one; nor is a constant over it.
    if node.op_type not in _SCALING or len(data) != 1:
        return False
    if node.op_type == "Div" and node.input[0] != data[0]:
        return False
    others = [name for name in node.input if name != data[0]]
    return vary_along_one_axis(node, others, flow, types)


def module_outputs(ordered: Sequence[str], derived: Mapping[str, str]) -> dict[str, str]:
    """Return the tensor that each module gives out.

    Parameters
    ----------
    ordered : sequence of str
        Tensors that can be measured, in topological order.
    derived : mapping of str to str
        The innermost module that makes each, as exporters keep it: the last is its output.

    Returns
    -------
    dict of str to str
        By module.
    """
    last = {}
    for name in ordered:
        parts = derived.get(name, "").split(".")
        for depth in range(1, len(parts) + 1):
            last[".".join(parts[:depth])] = name
    last.pop("", None)
    return last


def standing(
    maps: Sequence[str], found: Mapping[str, str], input: str, modules: Collection[str]
) -> set[str]:
    """Choose of tensors that hold the same values the one that stands for all.

    Parameters
    ----------
    maps : sequence of str
        Tensors to choose from, in topological order.
    found : mapping of str to str
        From :func:`origins`.
    input : str
        The acted-on input: whatever holds its values moves with any network, and none stands.
    modules : collection of str
        From :func:`module_outputs`.

    Returns
    -------
    set of str
        Of each origin's tensors the first that a module gives out, else the first.
    """
    of_each: dict[str, list[str]] = {}
    for name in maps:
        of_each.setdefault(found[name], []).append(name)
    of_each.pop(input, None)
    return {next((n for n in names if n in modules), names[0]) for names in of_each.values()}


def unsure_maps(
    flow: Flow,
    types: Types,
    rows: Mapping[str, int],
    kept: Collection[str],
    refused: Mapping[str, str],
    layout: Mapping[str, str],
    still: Collection[str],
    head: str | None,
    derived: Mapping[str, str],
    given_out: Mapping[str, str],
) -> dict[str, str]:
    """Find points that have the shape of a map, and are none that can be measured as it is.

    Parameters
    ----------
    flow : Flow
        How data flow in the graph.
    types : dict
        Shapes.
    rows : mapping of str to int
        Along which axis of each tensor the batch lies.
    kept : collection of str
        Points whose axis 0 it is, but for those dropped for what follows.
    refused : mapping of str to str
        Tensors that cannot be measured.
    layout : mapping of str to str
        Layouts that are known.
    still : collection of str
        Tensors of which no group moves any entry.
    head : str, optional
        The latent.
    derived, given_out : mapping of str to str
        As :func:`module_outputs` takes and returns them.

    Returns
    -------
    dict of str to str
        By point, in topological order: ``NO_LAYOUT`` or ``ROWS_ELSEWHERE``.
    """
    # Behind the latent there are scores and no maps.
    points = flow.points[: flow.points.index(head)] if head in flow.points else flow.points
    # A module that gives out the batch in front may do otherwise inside.
    elsewhere = [
        p
        for p in points
        if rows.get(p)
        and not refused.get(p)
        and (not given_out or _leads_not(given_out.get(derived.get(p, ""), ""), types, rows))
    ]
    why = dict.fromkeys(drop_pointwise(elsewhere, flow, types), ROWS_ELSEWHERE)
    why |= {p: NO_LAYOUT for p in points if p in kept and layout.get(p, "?") == "?"}
    return {
        p: why[p]
        for p in points
        if p in why and p not in still and may_hold_places(_shape(p, types), rows[p])
    }


def _leads_not(name: str, types: Types, rows: Mapping[str, int]) -> bool:
    """Whether the batch lies along a later axis, and could not as well be the first."""
    axis, shape = rows.get(name, 0), _shape(name, types)
    return axis > 0 and not (shape is not None and shape[0] == shape[axis] == 1)


def _shape(name: str, types: Types) -> Shape | None:
    return types.get(name, ("?", None))[1]
