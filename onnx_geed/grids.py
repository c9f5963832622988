"""Where the grid of each feature map is: channels first or last, followed from node to node."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnx_geed.axes import constants, stated_axes
from onnx_geed.flow import ARITHMETIC, POINTWISE, Flow, data_reads, ops
from onnx_geed.shapes import Shape, Types

__all__ = ["find_layouts", "is_map"]

# Operators that ONNX defines on (N, C, H, W): what they read and what they make is a map.
_SPATIAL = ops(
    "Conv ConvTranspose ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool "
    "GlobalAveragePool GlobalMaxPool GlobalLpPool QLinearAveragePool QLinearGlobalAveragePool LRN "
    "InstanceNormalization GroupNormalization DepthToSpace SpaceToDepth GridSample"
)
_SAME_AXES = ops(
    "Concat Pad Slice Split Where LayerNormalization GroupNormalization RMSNormalization Sum Mean "
    "Resize Upsample Softmax LogSoftmax Expand CumSum ScatterND QLinearAdd QLinearMul QLinearConcat"
)
_DENSE = ops("MatMul MatMulInteger QLinearMatMul")
_REDUCE = ops("ReduceMean ReduceMax ReduceSum")
_MOVES = {
    ("NCHW", (0, 2, 3, 1)): "NHWC",
    ("NHWC", (0, 3, 1, 2)): "NCHW",
}
_MAP_AXES: dict[tuple[int, ...], str] = {(2, 3): "NCHW", (1, 2): "NHWC"}


def is_map(shape: Shape | None, layout: str) -> bool:
    """Whether a tensor of this shape and layout has a grid of at least 2×2; free lengths may."""
    if shape is None or len(shape) != 4 or layout not in ("NCHW", "NHWC"):
        return False
    grid = shape[2:] if layout == "NCHW" else shape[1:3]
    return all(length is None or length >= 2 for length in grid)


def find_layouts(
    graph: onnx.GraphProto, flow: Flow, types: Types, given: Mapping[str, str]
) -> dict[str, str]:
    """Follow the layout from the input and from operators only applied to maps, to and fro.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    flow : Flow
        How data flow in it.
    types : dict
        Dtypes and shapes.
    given : mapping of str to str
        Layouts stated by the user or in the metadata.

    Returns
    -------
    dict
        ``NCHW`` or ``NHWC`` where that is sure, ``NK`` for rank 2, ``NTD`` for rank 3; what is
        given, as it is given. Attention's (N, heads, T, d) and other tensors are absent.
    """
    known = {name: text for name, text in given.items() if text in ("NCHW", "NHWC")}
    shape = types.get(flow.input, ("?", None))[1]
    if flow.input not in known and shape is not None and len(shape) == 4:
        last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
        known[flow.input] = "NHWC" if last else "NCHW"
    integers = constants(graph)
    before = -1
    while len(known) > before:
        before = len(known)
        for node in graph.node:
            found = _layout_after(node, known, types, integers)
            for name in node.output:
                if found and name in flow.tainted and _rank(name, types) in (4, 5, None):
                    known.setdefault(name, found)
        for node in reversed(flow.nodes):
            for name, text in _layouts_read(node, known, types, integers):
                if name in flow.tainted and _rank(name, types) in (4, 5, None):
                    known.setdefault(name, text)
    # Channels that are split in two, as by field and orientation, were only passed through.
    result = {name: text for name, text in known.items() if _rank(name, types) != 5}
    for name in flow.tainted - set(known):
        rank = _rank(name, types)
        if rank in (2, 3):
            result[name] = "NK" if rank == 2 else "NTD"
    return result | dict(given)


def _rank(name: str, types: Types) -> int | None:
    shape = types.get(name, ("?", None))[1]
    return None if shape is None else len(shape)


def _layout_after(
    node: onnx.NodeProto,
    known: Mapping[str, str],
    types: Types,
    integers: Mapping[str, list[int]],
) -> str | None:
    if node.op_type in _SPATIAL and _rank(node.output[0], types) != 5:
        return "NCHW"
    data = [known[name] for name in data_reads(node) if name in known]
    if not data:
        return None
    if node.op_type == "Transpose":
        perm = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
        return data[0] if perm == (0, 1, 2, 3) else _MOVES.get((data[0], perm))
    if node.op_type in POINTWISE | ARITHMETIC | _SAME_AXES:
        return data[0] if len(set(data)) == 1 else None
    if node.op_type == "Reshape":
        return "NCHW" if data[0] == "NCHW" and _keeps_grid(node, types) else None
    if node.op_type in _REDUCE and _rank(node.output[0], types) == 4:
        if _rank(node.input[0], types) == 5:
            over = [axis % 5 for axis in stated_axes(node, integers) or ()]
            return data[0] if over and max(over) < 3 else None
        return data[0]
    if node.op_type in _DENSE and data[0] == "NHWC" and _rank(node.input[1], types) == 2:
        return "NHWC"  # a dense layer over channels
    return None


def _keeps_grid(node: onnx.NodeProto, types: Types) -> bool:
    """Whether a Reshape leaves the last two axes as they are."""
    before, after = (types.get(n, ("?", None))[1] for n in (node.input[0], node.output[0]))
    if before is None or after is None or min(len(before), len(after)) < 4:
        return False
    return None not in before[-2:] and before[-2:] == after[-2:]


def _layouts_read(
    node: onnx.NodeProto,
    known: Mapping[str, str],
    types: Types,
    integers: Mapping[str, list[int]],
) -> list[tuple[str, str]]:
    """What a node says of the layouts of the tensors it reads."""
    if not node.input:
        return []
    if node.op_type in _SPATIAL or node.op_type in ("Resize", "Upsample"):
        return [(node.input[0], "NCHW")] if _rank(node.input[0], types) != 5 else []
    if node.op_type in _REDUCE and _rank(node.input[0], types) == 4:
        axes = sorted(axis % 4 for axis in stated_axes(node, integers) or ())
        over = _MAP_AXES.get(tuple(axes))
        return [(node.input[0], over)] if over is not None else []
    made = known.get(node.output[0])
    if made is None:
        return []
    if node.op_type == "Transpose":
        perm = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
        return [
            (node.input[0], was) for (was, move), to in _MOVES.items() if (move, to) == (perm, made)
        ]
    if node.op_type == "Reshape":
        return [(node.input[0], made)] if made == "NCHW" and _keeps_grid(node, types) else []
    if node.op_type in POINTWISE | ARITHMETIC | _SAME_AXES:
        # A tensor of another rank, a bias say, is broadcast and has no layout of its own.
        return [(name, made) for name in data_reads(node) if _rank(name, types) in (4, 5)]
    if node.op_type in _DENSE and made == "NHWC" and _rank(node.input[1], types) == 2:
        return [(node.input[0], made)]
    return []
