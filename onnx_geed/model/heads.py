"""Where a model's classifier begins: the latent that it reads, or why it is not known.

The last affine nodes through which all data pass are the classifier. What stands between them and
the output decides whether that is believed: operators that leave scores what they are, an L2 norm
(then it is an embedding), or something that may hide the true classifier (then it is asked for).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnx_geed.model.dataflow import Flow
from onnx_geed.model.nodes import ARITHMETIC, FLOATS, POINTWISE, ops, subgraphs
from onnx_geed.model.shapes import Types
from onnx_geed.model.spellings import CONV, DENSE, RESHAPES, Spellings, is_l2, main_output

__all__ = ["Head", "find_head"]

# Operators that may stand between the classifier's affine nodes and the output.
_HEAD = (
    POINTWISE
    | ARITHMETIC
    | ops(
        "Softmax LogSoftmax Reshape Flatten Squeeze Unsqueeze Transpose GlobalAveragePool Concat "
        "GlobalMaxPool AveragePool ReduceMean ReduceSum ReduceMax Sum Mean Resize Upsample "
        "QLinearAdd QLinearGlobalAveragePool QLinearSoftmax DynamicQuantizeLinear"
    )
)


# Operators that may stand there too, where all paths end in affine nodes side by side.
_LATE = ops(
    "Slice Split Gather GatherElements GatherND Pad Where Expand Tile Scatter ScatterElements "
    "ScatterND Equal Greater Less GreaterOrEqual LessOrEqual Not And Or Xor Reciprocal Sign Floor "
    "Ceil Round Sin Cos Sinh Cosh Tan Atan Asinh ReduceMin ReduceProd ReduceLogSum CastLike "
    "ReduceLogSumExp ReduceSumSquare Hardmax SplitToSequence SequenceAt SequenceConstruct "
    "ConcatFromSequence QLinearConcat QLinearMul QLinearLeakyRelu QLinearSigmoid IsNaN IsInf"
)


# These end a trunk of maps or tokens; of a vector they leave class scores what they are.
_NORMS = ops(
    "LayerNormalization RMSNormalization SimplifiedLayerNormalization InstanceNormalization "
    "GroupNormalization MeanVarianceNormalization"
)


# No classifier is looked for through these: they are what trunks are made of.
_TRUNK = (
    DENSE
    | CONV
    | _NORMS
    | ops(
        "ConvTranspose DeformConv Einsum LSTM GRU RNN Attention MaxPool MaxRoiPool RoiAlign LRN "
        "GridSample LpPool MaxUnpool DepthToSpace SpaceToDepth DFT STFT CausalConvWithState "
        "LinearAttention"
    )
)


# Classifiers that are no dense layer: what they read may be the pixels themselves.
_OTHERS = ops(
    "SVMClassifier SVMRegressor TreeEnsembleClassifier TreeEnsembleRegressor TreeEnsemble"
)


_QUANTISED = ops("QuantizeLinear DequantizeLinear")


_STANDARD = ("", "ai.onnx", "ai.onnx.ml")


_RUNTIME = ("com.microsoft", "com.ms.internal.nhwc", "com.microsoft.nchwc")


@dataclass(frozen=True)
class Head:
    """The end of a model: its latent, and whether class scores follow.

    Parameters
    ----------
    latent : str or None
        The latent: what the classifier reads, or the output where there is none.
    scores : bool
        Whether the output is class scores, or may be.
    doubt : str
        Why there is no latent to be measured without being named; empty where there is one.
    """

    latent: str | None
    scores: bool
    doubt: str = ""


def find_head(
    flow: Flow,
    points: Sequence[str],
    types: Types,
    values: Mapping[str, list[int]],
    kind: str | None = None,
    pooled: Collection[str] = (),
) -> Head:
    """Find the last point before the last affine nodes.

    Parameters
    ----------
    flow : Flow
        How data flow.
    points : sequence of str
        Points whose axis 0 is the batch, in topological order.
    types : dict
        Dtypes and shapes.
    values : mapping of str to list of int
        Short integer constants, from :func:`onnx_geed.model.nodes.constants`.
    kind : {"logits", "probabilities", "embedding"}, optional
        Kind of the output, where that is stated or plain.
    pooled : collection of str
        Tensors that are averaged over their places, since their layout has channels.

    Returns
    -------
    Head
        With the output as the latent where there is no classifier.
    """
    if kind == "embedding":
        return _checked(flow.output, flow, points, types, pooled, scores=False)
    scores = kind is not None
    search = _Search(flow, points, types, values, pooled)
    if search.affine:
        if not search.before(search.affine[-1]):
            return search.guess() if search.goes_round() and not scores else search.without()
        latent = search.walk()
        if latent is not None and (scores or not search.unit_norm):
            return _checked(latent, flow, points, types, pooled)
    return search.scores() if scores else search.guess()


def _checked(
    name: str,
    flow: Flow,
    points: Sequence[str],
    types: Types,
    pooled: Collection[str],
    scores: bool = True,
) -> Head:
    """Take a tensor for the latent if it is a vector or a map, or holds the values of one.

    Of a tensor of integers, what was dequantised from it is taken.
    """
    held: str | None = name
    while held is not None:
        real = _as_numbers(held, flow, types)
        if real is not None and (held in pooled or _vector_or_map(real, types)):
            if held == name or held in points:
                return Head(real, scores)
            break
        held = _reshaped_from(held, flow, types)
    dtype, shape = types.get(name, ("?", None))
    axes = f"({', '.join(['N', *(str(n or '?') for n in (shape or ())[1:])])})"
    which = f"the output {name!r} is" if name == flow.output else f"its layer reads {name!r},"
    fault = "neither (N, k) nor (N, C, H, W)"
    if not _is_measured(name, types):
        fault = "a type that is not measured"
    return Head(None, scores, f"{which} {'' if dtype == '?' else dtype + ' '}{axes}: {fault}")


def _as_numbers(name: str, flow: Flow, types: Types) -> str | None:
    """Return a tensor, or where it holds integers its dequantised values; ``None`` without any."""
    if _is_measured(name, types):
        return name
    readers = (n for n in flow.nodes if n.op_type == "DequantizeLinear" and name in n.input[:1])
    made = (node.output[0] for node in readers)
    return next((real for real in made if _is_measured(real, types)), None)


def _is_measured(name: str, types: Types) -> bool:
    return types.get(name, ("?", None))[0] in ("?", *FLOATS.values())


def _reshaped_from(name: str, flow: Flow, types: Types) -> str | None:
    """Return the tensor that holds the same values, unless it is a map, which would be pooled."""
    node = flow.makers.get(name)
    if node is None or node.op_type not in RESHAPES | _QUANTISED | {"Expand"}:
        return None
    before = node.input[0]
    shape = types.get(before, ("?", None))[1]
    moved = node.op_type not in _QUANTISED
    grid = moved and (shape is None or (len(shape) == 4 and shape[2:] != (1, 1)))
    return None if grid or before not in flow.makers else before


def _vector_or_map(name: str, types: Types) -> bool:
    shape = types.get(name, ("?", None))[1]
    return shape is None or len(shape) in (1, 2, 4)


class _Search:
    """One model's end, walked back from the output."""

    def __init__(
        self,
        flow: Flow,
        points: Sequence[str],
        types: Types,
        values: Mapping[str, list[int]],
        pooled: Collection[str],
    ) -> None:
        self.flow, self.points, self.types, self.pooled = flow, points, types, pooled
        self.order = {name: i for i, node in enumerate(flow.nodes) for name in node.output}
        spelt = Spellings(flow, types, values)
        self.affine = [node for node in flow.nodes if spelt.is_affine(node)]
        self.unit_norm, self.dense = spelt.unit_norm(), spelt.map_output()

    def before(self, node: onnx.NodeProto) -> list[str]:
        """Return the points before a node."""
        return [p for p in self.points if self.order[p] < self.order[main_output(node)]]

    def _checked(self, name: str, *, scores: bool = True) -> Head:
        return _checked(name, self.flow, self.points, self.types, self.pooled, scores)

    # --------------------------------------------------------------------------------------------
    # The plain case
    # --------------------------------------------------------------------------------------------

    def goes_round(self) -> bool:
        """Whether a dense output is made of the input itself too, as by a network for noise."""
        return self.dense and not self.flow.passes_all(self.flow.input, self.affine[-1:])

    def walk(self) -> str | None:
        """Return the last point from which only affine nodes and plain ones lead to the output."""
        # Heads side by side (LeViT averages two) all read from the same point.
        candidates = self.before(self.affine[-1])
        while candidates:
            region = self.flow.between(candidates[-1])
            heads = [n for n in region if _is_in(n, self.affine)]
            if not _HEAD.issuperset(n.op_type for n in region if not _is_in(n, heads)):
                return None
            if heads and self.flow.passes_all(candidates[-1], heads):
                return self._before_batch_norm(candidates)
            candidates.pop()  # data go round every affine node, as in a residual block
        return None

    def _before_batch_norm(self, candidates: list[str]) -> str:
        """Batch norm directly in front counts with the classifier."""
        while len(candidates) > 1:
            maker = self.flow.makers.get(candidates[-1])
            norm = maker is not None and maker.op_type == "BatchNormalization"
            if maker is None or not norm or candidates[-2] not in self.flow.inputs(maker):
                break
            candidates.pop()
        return candidates[-1]

    # --------------------------------------------------------------------------------------------
    # Other ends
    # --------------------------------------------------------------------------------------------

    def scores(self) -> Head:
        """Find the tensor that the classifier reads, the output being class scores."""
        for passive in (False, True):  # what holds no weights cannot be the classifier
            heads, stops = self._front(passive)
            if heads and not stops and self._side_by_side(heads):
                return self._latent_of(heads, passive)
        hiding = [node for node in stops if node is not None and _may_hide(node)]
        return Head(None, True, _hidden(hiding) if hiding else _unclassified(stops))

    def guess(self) -> Head:
        """Tell a feature extractor from a classifier where nothing is stated."""
        if self.unit_norm:
            return self._checked(self.flow.output, scores=False)
        heads, stops = self._front(passive=False)
        if heads and not stops and self._side_by_side(heads):
            return self._latent_of(heads, passive=False)
        hiding = [node for node in stops if node is not None and _may_hide(node)]
        if hiding:
            return Head(None, True, _hidden(hiding))
        behind = [node for node in stops if node is not None and not _is_trunk(node)]
        heads, stops = self._front(passive=True)
        if behind and heads and not stops and self._side_by_side(heads):
            return Head(None, True, _hidden(behind))
        if self.dense:
            # An image made of an image, such as one without its noise, is no vector to be pooled.
            return Head(None, False, _dense(self.flow.output))
        # A trunk that ends in pooling, or whose data go round its affine nodes.
        return self._checked(self.flow.output, scores=False)

    def _front(self, passive: bool) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto | None]]:
        """Walk back from the output to affine nodes, and to nodes that are not walked through.

        ``None`` stands for the input itself.
        """
        seen: set[str] = set()
        heads: list[onnx.NodeProto] = []
        stops: list[onnx.NodeProto | None] = []
        stack = [self.flow.output]
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            node = self.flow.makers.get(name)
            if node is None:
                stops.append(None)
            elif node.op_type == "DynamicQuantizeLinear" and name != node.output[0]:
                continue  # its scale goes round the product that it belongs to
            elif _is_in(node, self.affine):
                if not _is_in(node, heads):
                    heads.append(node)
            elif self._is_plain(node) or (passive and not _is_trunk(node) and not _may_hide(node)):
                stack += self.flow.inputs(node)
            else:
                stops.append(node)
        return heads, stops

    def _side_by_side(self, heads: Sequence[onnx.NodeProto]) -> bool:
        """Whether no affine node reads what another made, as those of residual blocks do."""
        for head in heads:
            reached = set(head.output)
            for node in self.flow.nodes:
                if reached.intersection(self.flow.inputs(node)):
                    if _is_in(node, heads):
                        return False
                    reached.update(node.output)
        return True

    def _latent_of(self, heads: Sequence[onnx.NodeProto], passive: bool) -> Head:
        first = min(heads, key=lambda node: self.order[main_output(node)])
        candidates = self.before(first)
        if not candidates:
            return self.without(heads)
        region = [n for n in self.flow.between(candidates[-1]) if not _is_in(n, self.affine)]
        plain = all(
            self._is_plain(n) or (passive and not _is_trunk(n) and not _may_hide(n)) for n in region
        )
        read = dict.fromkeys(n for head in heads for n in self.flow.inputs(head))
        if plain and self.flow.passes_all(candidates[-1], heads):
            result = self._checked(self._before_batch_norm(candidates))
            if result.latent is not None or len(read) < 2:
                return result
        return self.without(heads)

    def without(self, heads: Sequence[onnx.NodeProto] = ()) -> Head:
        """Say why what affine nodes read, those in front of the output by default, is no point."""
        heads = heads or self._front(passive=False)[0] or self.affine[-1:]
        (name, *more) = read = dict.fromkeys(n for head in heads for n in self.flow.inputs(head))
        if more:
            return _several(read)
        beside = [s for s in self.flow.starts if not self.flow.passes_all(s, heads)]
        why = ", but not all data pass through it"
        if beside:
            why = f", but input {beside[0]!r} goes round it"
        elif name in self.flow.starts:
            return Head(None, True, "the whole model is a classifier that reads the input directly")
        elif name in self.flow.points and name not in self.points:
            why = ", whose axis 0 is not the batch"
        return Head(None, True, f"the last affine layer reads {name!r}{why}")

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Whether class scores stay class scores through a node."""
        if node.op_type in _NORMS:
            return self._is_vector(self.flow.inputs(node))
        if node.op_type == "If":
            inner = [n for body in subgraphs(node) for n in body.node]
            return all(n.op_type in _HEAD | _LATE | {"Constant", "If"} for n in inner) and all(
                self._is_plain(n) for n in inner if n.op_type == "If"
            )
        if node.op_type == "Normalizer":
            return not is_l2(node)
        return node.op_type in _HEAD | _LATE

    def _is_vector(self, names: Iterable[str]) -> bool:
        shapes = [self.types.get(name, ("?", None))[1] for name in names]
        return all(s is None or sum(n != 1 for n in s[1:]) <= 1 for s in shapes)


def _is_in(node: onnx.NodeProto, nodes: Iterable[onnx.NodeProto]) -> bool:
    return any(node is other for other in nodes)


def _is_trunk(node: onnx.NodeProto) -> bool:
    return node.op_type in _TRUNK or node.domain in _RUNTIME


def _may_hide(node: onnx.NodeProto) -> bool:
    """Whether a node may hold a classifier that cannot be seen."""
    known = node.domain in _STANDARD or node.domain in _RUNTIME
    return bool(subgraphs(node)) or not known or node.op_type in _OTHERS


def _several(names: Iterable[str]) -> Head:
    """Say that heads read different tensors, so that none is the latent."""
    listed = list(map(repr, names))
    text = " and ".join([*listed[:4], *(["more"] if len(listed) > 4 else [])])
    reason = (
        f"the class scores come from several layers, which read {text}; none of them reads "
        "everything"
    )
    return Head(None, True, reason)


def _dense(output: str) -> str:
    return f"the output {output!r} has values for every place of a map, which are no latent"


def _unclassified(stops: Sequence[onnx.NodeProto | None]) -> str:
    """Say where the walk back from the output stopped, before any affine node."""
    made = (f"{node.op_type} {main_output(node)!r}" if node else "the input" for node in stops)
    listed = list(dict.fromkeys(made))
    if not listed:
        return "the last affine layers read one another, so that none of them reads everything"
    text = " and ".join([*listed[:3], *(["more"] if len(listed) > 3 else [])])
    return f"from {text} to the output no affine layer is passed, and so no classifier"


def _hidden(nodes: Sequence[onnx.NodeProto]) -> str:
    listed = ", ".join(dict.fromkeys(node.op_type for node in nodes))
    return f"the nodes before the output ({listed}) may be a classifier or follow one"
