"""Dense layers and L2 norms, however an exporter or a user spelt them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import onnx

from onnx_geed.model.dataflow import Flow
from onnx_geed.model.nodes import attribute, integer_of, integers_of, ops, stated_axes
from onnx_geed.model.shapes import Shape, Types

__all__ = ["CONV", "DENSE", "RESHAPES", "Spellings", "is_l2", "main_output"]

#: Operators that are a dense layer where one operand is data.
DENSE = ops(
    "Gemm MatMul MatMulInteger QLinearMatMul QGemm FusedMatMul FusedGemm DynamicQuantizeMatMul "
    "MatMulIntegerToFloat MatMulNBits GemmFastGelu LinearClassifier LinearRegressor"
)


#: Convolutions, which are one at every place where their kernel has length 1.
CONV = ops("Conv ConvInteger QLinearConv FusedConv")


# What turns differences into distances, entry by entry.
_MAGNITUDES = ops("Abs Mul Pow Sqrt")


_SUMS = ops("ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare")


#: The same values in another shape or dtype.
RESHAPES = ops("Identity Cast Reshape Flatten Squeeze Unsqueeze Dropout")


_SAME = ops("Identity Cast Dropout QuantizeLinear DequantizeLinear")


_SOFT = ops("Softmax LogSoftmax Sigmoid QLinearSoftmax QLinearSigmoid")


_ENLARGING = ops("Resize Upsample DepthToSpace ConvTranspose MaxUnpool")


_ACTIVATIONS = ops(
    "Relu LeakyRelu PRelu Elu Selu Celu Gelu FastGelu QuickGelu BiasGelu HardSwish Swish Mish "
    "Softplus ThresholdedRelu Clip"
)


class Spellings:
    """The spellings of dense layers, norms and expected values, seen in how data flow.

    Parameters
    ----------
    flow : Flow
        How data flow.
    types : dict
        Dtypes and shapes.
    values : mapping of str to list of int
        Short integer constants, from :func:`onnx_geed.model.nodes.constants`.
    """

    def __init__(self, flow: Flow, types: Types, values: Mapping[str, list[int]]) -> None:
        self.flow, self.types, self.values = flow, types, values
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in flow.nodes:
            for name in flow.inputs(node):
                self.readers.setdefault(name, []).append(node)

    def is_affine(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a dense layer, in any spelling, or one at every place of a map."""
        if node.op_type == "Einsum":
            return self._is_affine_einsum(node) and not self._reads_softmax(node)
        if node.op_type in ("Mul", "QLinearMul"):
            return self._is_summed_product(node) and not self._reads_softmax(node)
        if node.op_type == "Sub":
            return self._is_distance(node) and not self._reads_softmax(node)
        if node.op_type == "ConvTranspose":
            shape = self._shape(node.input[1])
            places = shape is not None and all(length == 1 for length in shape[2:])
            return places and set(integers_of(node, "strides") or [1]) == {1}
        if node.op_type not in DENSE | CONV:
            return False
        second = 3 if node.op_type.startswith("QLinear") or node.op_type == "QGemm" else 1
        operands = [node.input[0], *node.input[second : second + 1]]
        data = [name for name in operands if name in self.flow.tainted]
        if len(data) != 1 or node.op_type in DENSE:
            return len(data) == 1
        kernel = integers_of(node, "kernel_shape")
        if kernel is None:
            shape = self._shape(operands[-1])
            kernel = [length or 0 for length in shape[2:]] if shape else [0]
        if all(length == 1 for length in kernel) or self._covers_the_map(node, kernel):
            return True
        return self.dense_output() and self._makes_the_output(node)

    def dense_output(self) -> bool:
        """Whether the output has a number, or some, for every place of the acted-on input."""
        given, made = self._shape(self.flow.input), self._shape(self.flow.output)
        if given is None or made is None or len(given) != len(made) or len(given) not in (4, 5):
            return False
        # Channels first or last.
        grids = [(given[2:], made[2:]), (given[1:-1], made[1:-1])]
        return any(a == b and all(n is not None and n > 1 for n in a) for a, b in grids)

    def map_output(self) -> bool:
        """Whether the output is made place by place: an image, or what is told of its parts.

        Its grid is the input's, once or some times as large, or all data are enlarged to it.
        """
        if self.dense_output():
            return True
        given, made = self._shape(self.flow.input), self._shape(self.flow.output)
        # Channels first or last; of a grid with a single place, or one row, nothing is told.
        grids = [made[2:], made[1:-1]] if made is not None and len(made) in (4, 5) else []
        grids = [grid for grid in grids if all(n is not None and n > 1 for n in grid)]
        if not grids:
            return False
        if given is not None and any(_is_scaled(part, grids) for part in (given[2:], given[1:-1])):
            return True
        # A map that is enlarged beside others, such as a mask, is a part of a trunk.
        enlarging = [node for node in self.flow.nodes if self._enlarges_to(node, grids)]
        return bool(enlarging) and self.flow.passes_all(self.flow.input, enlarging)

    def _enlarges_to(self, node: onnx.NodeProto, grids: Sequence[Shape]) -> bool:
        """Whether a node makes one of some grids of one with fewer places, but more than one."""
        if node.op_type not in _ENLARGING:
            return False
        before, after = self._shape(node.input[0]), self._shape(node.output[0])
        if before is None or after is None or len(before) != len(after):
            return False
        several = any(n != 1 for n in before[2:])
        return several and before[2:] != after[2:] and after[2:] in grids

    def _makes_the_output(self, node: onnx.NodeProto) -> bool:
        """Whether the last convolution of a dense output, of any kernel, and no hidden one."""
        if set(integers_of(node, "strides") or [1]) != {1} or attribute(node, "activation"):
            return False
        behind = self.flow.between(node.output[0])
        return not any(n.op_type in _ACTIVATIONS | DENSE | CONV for n in behind)

    def _covers_the_map(self, node: onnx.NodeProto, kernel: Sequence[int]) -> bool:
        """Whether a convolution is a dense layer of the whole map, and not a hidden one."""
        places = self._shape(node.input[0])
        if places is None or len(places) != 2 + len(kernel) or integer_of(node, "group", 1) != 1:
            return False
        pads = integers_of(node, "pads") or [0]
        wide = integers_of(node, "dilations") or [1] * len(kernel)
        lengths = [(k - 1) * d + 1 for k, d in zip(kernel, wide, strict=True)]
        same = attribute(node, "auto_pad", "").startswith("SAME")
        if any(pads) or same or lengths != list(places[2:]):
            return False
        behind = self.flow.between(node.output[0])
        fused = attribute(node, "activation") is not None
        return not fused and not any(n.op_type in _ACTIVATIONS for n in behind)

    def _is_affine_einsum(self, node: onnx.NodeProto) -> bool:
        """Whether one operand is data, and an axis of it is summed over with a constant's."""
        equation = attribute(node, "equation", "")
        left, arrow, right = equation.replace(" ", "").replace("...", "").partition("->")
        terms = left.split(",")
        data = [i for i, name in enumerate(node.input) if name in self.flow.tainted]
        if len(data) != 1 or len(terms) != len(node.input):
            return False
        if not arrow:
            joined = "".join(terms)
            right = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
        own = set(terms[data[0]])
        constant = set("".join(t for i, t in enumerate(terms) if i != data[0]))
        summed = (own & constant) - set(right)
        fresh = (constant - own) & set(right)  # the classes
        return bool(summed and (fresh or len(own - summed) <= 1 == len(summed)))

    def _is_summed_product(self, node: onnx.NodeProto) -> bool:
        """Whether a product with a constant is summed over the features: a dense layer, spelt out.

        A constant that varies only along what is summed over weighs places, layers or bins.
        """
        operands = [node.input[0], node.input[1 if node.op_type == "Mul" else 3]]
        axes = self._axes_of(
            operands, self._reader_behind(node, _SAME, ("ReduceSum", "ReduceMean"))
        )
        if axes is None or not axes.both & axes.summed:
            return False
        return bool(axes.fresh - axes.summed) or (axes.vector and len(axes.both) == 1)

    def _is_distance(self, node: onnx.NodeProto) -> bool:
        """Whether distances to constant vectors are taken: the nearest prototype's classifier."""
        operands = list(node.input[:2])
        axes = self._axes_of(operands, self._reader_behind(node, _SAME | _MAGNITUDES, _SUMS))
        return axes is not None and bool(axes.both & axes.summed and axes.fresh - axes.summed)

    def _reader_behind(
        self, node: onnx.NodeProto, through: Collection[str], wanted: Collection[str]
    ) -> onnx.NodeProto | None:
        """Return the only node that reads what one makes, behind some, if it is of some kind."""
        while True:
            readers = self.readers.get(main_output(node), [])
            if len(readers) != 1 or readers[0].op_type not in {*through, *wanted}:
                return None
            node = readers[0]
            if node.op_type in wanted:
                return node

    def _axes_of(self, operands: Sequence[str], reduction: onnx.NodeProto | None) -> _Axes | None:
        """Return the axes of data and a constant that are worked out together, then reduced."""
        data = [name for name in operands if name in self.flow.tainted]
        if len(data) != 1 or reduction is None:
            return None
        constant = next(name for name in operands if name not in self.flow.tainted)
        own, weights = self._shape(self._unexpanded(data[0])), self._shape(constant)
        axes = stated_axes(reduction, self.values)
        if own is None or weights is None or not axes:
            return None
        lengths = list(zip_longest(reversed(own), reversed(weights), fillvalue=1))[::-1]
        return _Axes(
            summed={axis % len(lengths) for axis in axes},
            both={i for i, (a, b) in enumerate(lengths) if b not in (1, None) and a == b},
            fresh={i for i, (a, b) in enumerate(lengths) if b not in (1, None) and a == 1},
            vector=sum(length != 1 for length in own[1:]) == 1,
        )

    def _unexpanded(self, name: str) -> str:
        node = self.flow.makers.get(name)
        while node is not None and node.op_type in _SAME | {"Expand"}:
            name = node.input[0]
            node = self.flow.makers.get(name)
        return name

    def _reads_softmax(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes an expected value, and so stands behind the classifier."""
        maker = self.flow.makers.get(self.flow.inputs(node)[0])
        while maker is not None and maker.op_type in RESHAPES | _SAME | {"Transpose", "Expand"}:
            maker = self.flow.makers.get(maker.input[0])
        return maker is not None and maker.op_type in _SOFT

    def _shape(self, name: str) -> Shape | None:
        return self.types.get(name, ("?", None))[1]

    def unit_norm(self) -> bool:
        """Whether the output is something divided by its own L2 norm."""
        node = self.flow.makers.get(self.flow.output)
        while node is not None and node.op_type in RESHAPES:
            node = self.flow.makers.get(node.input[0])
        if node is None:
            return False
        if node.op_type in ("LpNormalization", "Normalizer"):
            return is_l2(node)
        if node.op_type not in ("Div", "Mul") or len(self.flow.inputs(node)) != 2:
            return False
        one, two = node.input[:2]
        inverse = node.op_type == "Mul"
        if self._is_norm_of(two, one, inverse):
            return True
        return inverse and self._is_norm_of(one, two, inverse)

    def _is_norm_of(self, name: str, vector: str, inverse: bool) -> bool:
        """Whether a tensor is the L2 norm of another, or one over it."""
        rooted, inverted = False, False
        through = ops("Expand Clip Identity Cast Unsqueeze Squeeze Reshape Add Max Tile")
        while (node := self.flow.makers.get(name)) is not None:
            data = self.flow.inputs(node)
            if node.op_type == "ReduceL2":
                return data == [vector] and inverted == inverse
            if node.op_type == "ReduceSumSquare":
                return data == [vector] and rooted and inverted == inverse
            if node.op_type == "ReduceSum":
                square = self.flow.makers.get(data[0]) if len(data) == 1 else None
                squared = square is not None and square.op_type in ("Mul", "Pow")
                if not squared or square is None or self.flow.inputs(square) != [vector]:
                    return False
                twice = square.op_type == "Pow" or list(square.input) == [vector, vector]
                return twice and rooted and inverted == inverse
            if node.op_type in ("Sqrt", "Pow"):
                rooted = True
                # x ** -0.5 and x ** 0.5 are told apart by whether the root divides.
                inverted = inverted or (node.op_type == "Pow" and inverse)
            elif node.op_type in ("Reciprocal", "Div"):
                inverted = True
            elif node.op_type not in through:
                return False
            if len(data) != 1:
                return False
            name = data[0]
        return False


@dataclass(frozen=True)
class _Axes:
    """Axes of data and a constant that are worked out together.

    Parameters
    ----------
    summed : set of int
        Those that are summed over afterwards.
    both, fresh : set of int
        Those that both have, and those that the constant alone has: the classes.
    vector : bool
        Whether a sample's data are a vector.
    """

    summed: set[int]
    both: set[int]
    fresh: set[int]
    vector: bool


def _is_scaled(given: Shape, grids: Sequence[Shape]) -> bool:
    """Whether one of some grids has the input's number of places, along each axis the same times.

    Of a trunk's many channels and rows, read as a grid, that is hardly so.
    """
    for grid in grids:
        (few, many), *others = pairs = [(n or 0, m or 0) for n, m in zip_longest(given, grid)]
        if all(1 < n <= m for n, m in pairs) and all(m * few == many * n for n, m in others):
            return True
    return False


def main_output(node: onnx.NodeProto) -> str:
    """Return the first output that a node has."""
    return next(str(name) for name in node.output if name)


def is_l2(node: onnx.NodeProto) -> bool:
    """Whether a node that normalises vectors does so by their L2 norm."""
    if node.op_type == "LpNormalization":
        return (integers_of(node, "p") or [2]) == [2]
    return bool(attribute(node, "norm") == "L2")
