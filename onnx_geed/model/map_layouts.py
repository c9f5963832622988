"""Where the plane of each feature map is, in whichever order: followed from node to node.

All axes but a plane's stay in place here, and operators that are only applied to maps tell where
channels are. Inputs of other kinds are followed letter by letter, in
:mod:`onnx_geed.model.layout_inference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from onnx_geed.groups import MAP_LAYOUTS
from onnx_geed.model.axis_parts import (
    Axes,
    Axis,
    convolved,
    from_letters,
    is_swapped,
    length,
    letter,
    letters,
    reduced,
    reshaped,
    tokens_layout,
    vector_layout,
    with_lengths,
)
from onnx_geed.model.dataflow import Flow
from onnx_geed.model.map_evidence import Evidence
from onnx_geed.model.nodes import (
    ARITHMETIC,
    POINTWISE,
    attribute,
    axis_of,
    constants,
    data_reads,
    integers_of,
    ops,
    stated_axes,
)
from onnx_geed.model.shapes import Shape, Types

__all__ = ["map_layouts"]

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


_REDUCE = ops(
    "ReduceMean ReduceMax ReduceSum ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceProd "
    "ReduceLogSum ReduceLogSumExp"
)


# Reductions over these axes are taken for pooling over a grid.
_POOLING = ops("ReduceMean ReduceMax ReduceSum")


_MAP_AXES: dict[tuple[int, ...], str] = {(2, 3): "NCHW", (1, 2): "NHWC"}


# Moves between channels first and last; other orders of four axes turn a map over, or are no maps'.
_USUAL = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))


_INPUT_AXES = frozenset("NCDTHW")


def map_layouts(
    graph: onnx.GraphProto, flow: Flow, types: Types, stated: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """Follow the layout from the input and from operators only applied to maps, to and fro.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    flow : Flow
        How data flow in it.
    types : dict
        Dtypes and shapes.
    stated : mapping of str to str
        Layouts stated by the user or in the metadata.

    Returns
    -------
    layouts : dict
        ``NCHW`` or these letters in another order where that is sure, ``NK`` for rank 2, or ``NH``
        and ``NW`` where only that side is left, ``NTD`` for rank 3, with its grid where that is
        sure: ``NTD:14x14+1``. Attention's (N, heads, T, d) and other tensors are absent.
    folded : set of str
        Maps made by a Reshape, of which nothing but what was reshaped tells that they are maps:
        they hold the values of others, can be named, and are no defaults. So are NH and NW.

    Notes
    -----
    An operator on maps tells where the channels are, not which of the other two axes is H: that
    comes from the input. Where a map was turned over and then lost sight of, nothing is guessed.
    """
    layouts = _MapLayouts(graph, flow, types, stated)
    layouts.follow()
    folded = layouts.folded
    if folded:
        without = _MapLayouts(graph, flow, types, stated, fold=False)
        without.follow()
        folded -= set(without.known)
    result: dict[str, str] = {}
    for name, axes in layouts.known.items():
        text = letters(axes)
        # Channels that are split in two, as by field and orientation, were only passed through.
        if text in MAP_LAYOUTS and _rank(name, types) in (4, None):
            result[name] = text
    # Of an image, three axes are tokens; of an input of three axes nobody knows what they are.
    of_image = flow.input in stated or _rank(flow.input, types) not in (2, 3)
    for name in flow.tainted - set(result):
        rank, own = _rank(name, types), layouts.known.get(name)
        if rank == 2:
            result[name] = vector_layout(own)
            if result[name] != "NK":
                folded.add(name)
        elif rank == 3 and of_image:
            result[name] = tokens_layout(own, layouts.beside.get(name))
    return result, folded


class _MapLayouts:
    """The axes of tensors, as far as they are known by now."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        flow: Flow,
        types: Types,
        stated: Mapping[str, str],
        *,
        fold: bool = True,
    ) -> None:
        self.fold = fold
        self.graph, self.flow, self.types = graph, flow, types
        self.integers = constants(graph)
        self.known: dict[str, Axes] = {}
        # Behind a map that was turned over and lost sight of; behind a move of an unknown tensor.
        self.doubtful: set[str] = set()
        self.turned: set[str] = set()
        # A grid's tokens that others, a class token say, stand beside: axis, its parts, place of
        # the first.
        self.beside: dict[str, tuple[int, Axis, int]] = {}
        # Maps that a Slice has reversed along one of their sides.
        self.mirrored: set[str] = set()
        # Made by a Reshape, of which nothing else tells that it is a map.
        self.folded: set[str] = set()
        shape = self._shape(flow.input)
        self.batch = shape[0] if shape else None
        self.evidence = Evidence(flow, types, self.integers, self.batch)
        for name, text in stated.items():
            own = self._shape(name)
            fits = own is None or len(own) == len(text)
            if set(text) <= _INPUT_AXES and fits and (name == flow.input or text in MAP_LAYOUTS):
                self.known[name] = from_letters(text, own)
        if flow.input not in self.known and shape is not None and len(shape) == 4:
            last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
            self.known[flow.input] = from_letters("NHWC" if last else "NCHW", shape)

    def _shape(self, name: str) -> Shape | None:
        return self.types.get(name, ("?", None))[1]

    def follow(self) -> None:
        """Go to and fro until nothing more is found."""
        before = -1
        while len(self.known) > before:
            before = len(self.known)
            self.forward()
            self.backward()

    def forward(self) -> None:
        """Go from what nodes read to what they make."""
        for node in self.graph.node:
            data = [name for name in data_reads(node) if name in self.flow.tainted]
            lost = any(
                is_swapped(self.known[n]) if n in self.known else n in self.doubtful for n in data
            )
            for name in filter(None, node.output):
                if name in self.known or name not in self.flow.tainted:
                    continue
                at_odds = self._is_at_odds(node)
                axes = None if at_odds else self._after(node, data, name)
                if axes is None and node.op_type in _SPATIAL and not lost:
                    axes = self._guessed(node, name)
                if axes is not None:
                    axes = self._with_tokens(node, data, name, axes)
                    self.known[name] = self._turned_back(node, data, name, axes)
                    continue
                if self.fold:
                    self.evidence.take(node, self.known)
                if lost or at_odds or self._contradicts(node, data, name):
                    self.doubtful.add(name)
                if self._is_turned(node, data):
                    self.turned.add(name)

    def _guessed(self, node: onnx.NodeProto, output: str) -> Axes | None:
        """Axes of what an operator on maps makes of a tensor of which nothing is known."""
        source = node.input[0]
        if source in self.turned or source in self.known or self._rank(output) == 5:
            return None
        if self.evidence.speaks_against(source, "NCHW"):
            return None
        return from_letters("NCHW", self._shape(output))

    def _is_at_odds(self, node: onnx.NodeProto) -> bool:
        entrywise = node.op_type in POINTWISE | ARITHMETIC | _SAME_AXES
        return entrywise and self.evidence.are_at_odds(node, self.known)

    def _contradicts(self, node: onnx.NodeProto, data: list[str], output: str) -> bool:
        """Whether what is known contradicts itself, as for a map that is added to its transpose."""
        if node.op_type in _SPATIAL:
            source = node.input[0]
            no_map = self.evidence.speaks_against(source, "NCHW")
            return source in self.known or (no_map and not self.evidence.is_sure(output))
        views = {letters(self.known[n]) for n in data if n in self.known} - {None}
        return node.op_type in POINTWISE | ARITHMETIC | _SAME_AXES and len(views) > 1

    def _is_turned(self, node: onnx.NodeProto, data: list[str]) -> bool:
        """Whether axes that nobody knows are in an order that is not a usual map's."""
        if node.op_type == "Transpose":
            perm = _perm(node, self._rank(node.input[0]))
            return len(perm) == 4 and perm not in _USUAL
        through = POINTWISE | ARITHMETIC | _SPATIAL | ops("Resize Upsample Pad Concat")
        return node.op_type in through and any(name in self.turned for name in data)

    def _rank(self, name: str) -> int | None:
        return _rank(name, self.types)

    def _after(self, node: onnx.NodeProto, data: list[str], output: str) -> Axes | None:
        """Axes of what a node makes, as they follow from those of what it reads."""
        operands = [name for name in data if name in self.known]
        if not operands:
            return None
        axes, shape = self.known[operands[0]], self._shape(output)
        op = node.op_type
        if op == "Concat" and (tokens := self._tokens(node)):
            return with_lengths(self.known[tokens], shape)
        if op in _SPATIAL:
            return convolved(axes, shape) if operands[0] == node.input[0] else None
        if op == "Transpose":
            perm = _perm(node, len(axes))
            return tuple(axes[i] for i in perm) if len(perm) == len(axes) else None
        if op in POINTWISE | ARITHMETIC | _SAME_AXES:
            return self._together(operands, shape)
        if op in ("Reshape", "Flatten"):
            return self._reshaped(node, axes, shape)
        if op in ("Squeeze", "Unsqueeze") or op in _REDUCE:
            return self._fewer(node, axes, shape)
        if op in _DENSE and operands[0] == node.input[0] and self._rank(node.input[1]) == 2:
            if letter(axes[-1]) != "C":
                return None
            size = shape[-1] if shape else None
            return (*axes[:-1], *from_letters("C", (size,)))  # a dense layer over channels
        if op == "Gather" and operands[0] == node.input[0]:
            return self._picked(node, axes, shape)
        if op == "Einsum" and len(data) == 1:
            return self._summed(node, operands, shape)
        return None

    def _tokens(self, node: onnx.NodeProto) -> str | None:
        """The one operand of a Concat that holds a grid's tokens, others being put beside them."""
        axis = axis_of(node, 0, 3)
        holders = [
            name
            for name in node.input
            if len(self.known.get(name, ())) == 3 and _is_grid(self.known[name][axis])
        ]
        return holders[0] if len(holders) == 1 and len(node.input) > 1 else None

    def _with_tokens(self, node: onnx.NodeProto, data: list[str], output: str, axes: Axes) -> Axes:
        """Axes of what a node makes, a grid's tokens known again where others are cut off."""
        if node.op_type == "Concat" and (tokens := self._tokens(node)):
            axis, at = axis_of(node, 0, 3), list(node.input).index(tokens)
            parts = self.known[tokens][axis]
            ahead = self._total(node.input[:at], axis)
            behind, both = self._total(node.input[at + 1 :], axis), length(axes[axis])
            if ahead is None and behind is not None and both is not None:
                ahead = both - behind - (length(parts) or 0)
            if ahead is not None:
                self.beside[output] = (axis, parts, ahead)
            return axes
        source = next((n for n in data if n in self.beside), None)
        if source is None or len(axes) != len(self.known[source]):
            return axes
        axis, parts, place = self.beside[source]
        if length(axes[axis]) == length(self.known[source][axis]):
            if node.op_type in POINTWISE | ARITHMETIC | _SAME_AXES | _DENSE:
                self.beside[output] = self.beside[source]
        elif node.op_type == "Slice" and length(axes[axis]) == length(parts):
            starts = self.integers.get(node.input[1], []) if len(node.input) > 1 else []
            if starts == [place]:
                return (*axes[:axis], parts, *axes[axis + 1 :])
        return axes

    def _turned_back(self, node: onnx.NodeProto, data: list[str], output: str, axes: Axes) -> Axes:
        """Axes of what a node makes: a transpose and a mirror are a rotation, which swaps nothing.

        Rotations of a rotated map are those of the map, so that it is compared as it is stored.
        """
        source = next((name for name in data if name in self.known), None)
        mirrored = (source in self.mirrored) != self._reverses(node, axes)
        text = letters(axes)
        if mirrored and text and is_swapped(axes):
            return from_letters(text.translate(str.maketrans("HW", "WH")), tuple(_lengths(axes)))
        if mirrored:
            self.mirrored.add(output)
        return axes

    def _reverses(self, node: onnx.NodeProto, axes: Axes) -> bool:
        """Whether a node is a Slice that reverses a map along one of its sides."""
        if node.op_type != "Slice" or len(node.input) < 5:
            return False
        along, steps = (self.integers.get(node.input[i], []) for i in (3, 4))
        pairs = zip(along, steps, strict=False)
        turned = [a for a, step in pairs if step < 0 and letter(axes[a % len(axes)]) in ("H", "W")]
        return len(turned) == 1

    def _total(self, names: Sequence[str], axis: int) -> int | None:
        """Lengths along an axis of rank-3 tensors, summed up; ``None`` where one is unknown."""
        shapes = [self._shape(name) for name in names]
        lengths = [shape[axis] if shape and len(shape) == 3 else None for shape in shapes]
        return None if None in lengths else sum(n or 0 for n in lengths)

    def _together(self, operands: list[str], shape: Shape | None) -> Axes | None:
        """Axes of what is worked out place by place from tensors of the same axes."""
        rank = None if shape is None else len(shape)
        alike = [n for n in operands if rank is None or len(self.known[n]) == rank]
        # Gates (N, C, 1, 1) and the like are spread out over the others.
        full = [n for n in alike if shape is not None and _lengths(self.known[n]) == list(shape)]
        views = {letters(self.known[n]) or self.known[n] for n in full or alike}
        return with_lengths(self.known[(full or alike)[0]], shape) if len(views) == 1 else None

    def _reshaped(self, node: onnx.NodeProto, axes: Axes, shape: Shape | None) -> Axes | None:
        if shape is None:
            return None
        text = letters(axes)
        split = reshaped(axes, shape, self.batch) if self.fold else None
        kept = text is not None and self._keeps_grid(node, text)
        if split is not None and not kept:
            self.folded.add(node.output[0])
        if split is not None or text is None or not kept:
            return split
        return from_letters("N" + "C" * (len(shape) - 3) + text[-2:], shape)

    def _keeps_grid(self, node: onnx.NodeProto, text: str) -> bool:
        """Whether a Reshape leaves the last two axes as they are, and those are the grid."""
        before, after = self._shape(node.input[0]), self._shape(node.output[0])
        if before is None or after is None or min(len(before), len(after)) < 4:
            return False
        same = None not in before[-2:] and before[-2:] == after[-2:]
        return same and text[0] == "N" and set(text[-2:]) == {"H", "W"}

    def _fewer(self, node: onnx.NodeProto, axes: Axes, shape: Shape | None) -> Axes | None:
        """Axes after some of length one are taken out or put in, or some are summed up."""
        over = stated_axes(node, self.integers)
        if node.op_type == "Unsqueeze":
            if not over:
                return None
            rank = len(axes) + len(over)
            fresh, rest = {axis % rank for axis in over}, list(axes)
            return tuple(() if i in fresh else rest.pop(0) for i in range(rank))
        if node.op_type == "Squeeze":
            if over is None:
                over = [i for i, axis in enumerate(axes) if length(axis) == 1]
            return reduced(axes, over, keep=False) if over else None
        keep = attribute(node, "keepdims", 1) != 0
        if over:
            return reduced(axes, over, keep=keep)
        # Over which axes is not known, but there are as many.
        return with_lengths(axes, shape) if keep and shape is not None else None

    def _picked(self, node: onnx.NodeProto, axes: Axes, shape: Shape | None) -> Axes | None:
        """Axes after one place, or some channels, are picked along an axis."""
        axis, index = axis_of(node, 0, len(axes)), self._shape(node.input[1])
        if index is None or axis >= len(axes) or (index and letter(axes[axis]) != "C"):
            return None
        fresh = from_letters("C" * len(index), index)
        return with_lengths((*axes[:axis], *fresh, *axes[axis + 1 :]), shape)

    def _summed(
        self, node: onnx.NodeProto, operands: list[str], shape: Shape | None
    ) -> Axes | None:
        """Axes of a product with one tensor of data: its own where they are kept."""
        equation = attribute(node, "equation", "")
        terms, arrow, result = equation.replace(" ", "").partition("->")
        if not arrow or "." in equation or len(operands) != 1:
            return None
        own = terms.split(",")[list(node.input).index(operands[0])]
        axes = self.known[operands[0]]
        if len(own) != len(axes) or len(set(own)) != len(own):
            return None
        kept = dict(zip(own, axes, strict=True))
        lengths = shape if shape is not None and len(shape) == len(result) else [None] * len(result)
        pairs = zip(result, lengths, strict=True)
        return tuple(kept[x] if x in kept else from_letters("C", (n,))[0] for x, n in pairs)

    def backward(self) -> None:
        """Go from what nodes make to what they read."""
        for node in reversed(self.flow.nodes):
            for name, text in self._before(node):
                fits = name in self.flow.tainted and self._rank(name) in (4, 5, None)
                if fits and name not in self.known and not self.evidence.speaks_against(name, text):
                    shape = self._shape(name)
                    if shape is None or len(shape) == len(text):
                        self.known[name] = from_letters(text, shape)

    def _before(self, node: onnx.NodeProto) -> list[tuple[str, str]]:
        """Say what a node tells of the layouts of the tensors it reads."""
        if not node.input:
            return []
        first, op = node.input[0], node.op_type
        layout = letters(self.known.get(node.output[0]))
        no_guess = first in self.doubtful or first in self.turned
        if op in _SPATIAL or op in ("Resize", "Upsample"):
            if self._rank(first) == 5 or (no_guess and layout is None):
                return []
            return [(first, layout or "NCHW")]
        if op in _POOLING and self._rank(first) == 4:
            axes = sorted(axis % 4 for axis in stated_axes(node, self.integers) or ())
            over = _MAP_AXES.get(tuple(axes))
            return [(first, over)] if over is not None and not no_guess else []
        if layout is None:
            return []
        if op == "Transpose":
            perm = _perm(node, len(layout))
            if len(perm) != len(layout):
                return []
            text = "".join(layout[perm.index(i)] for i in range(len(perm)))
            # What is known by a guess alone is not turned over by it.
            over_turned = (text.index("H") < text.index("W")) != (
                layout.index("H") < layout.index("W")
            )
            return [] if over_turned else [(first, text)]
        if op == "Reshape":
            shape = self._shape(first)
            if shape is None or not self._keeps_grid(node, layout):
                return []
            return [(first, "N" + "C" * (len(shape) - 3) + layout[-2:])]
        if op in POINTWISE | ARITHMETIC | _SAME_AXES:
            # A tensor of another rank, a bias say, is broadcast and has no layout of its own.
            return [(name, layout) for name in data_reads(node) if self._rank(name) in (4, 5)]
        if op in _DENSE and layout[-1] == "C" and self._rank(node.input[1]) == 2:
            return [(first, layout)]
        return []


def _rank(name: str, types: Types) -> int | None:
    shape = types.get(name, ("?", None))[1]
    return None if shape is None else len(shape)


def _perm(node: onnx.NodeProto, rank: int | None) -> tuple[int, ...]:
    """Return the order of a Transpose, which is the reverse one where it states none."""
    stated = tuple(integers_of(node, "perm") or ())
    return stated or tuple(reversed(range(rank or 0)))


def _is_grid(axis: Axis) -> bool:
    """Whether an axis joins a grid's rows and columns."""
    return {"H", "W"} <= {part.letter for part in axis}


def _lengths(axes: Axes) -> list[int | None]:
    return [length(axis) for axis in axes]
