"""How data flow through a graph, and its factorisation points.

A factorisation point is a tensor through which every data path from the acted-on input to the
chosen output passes: enough for f = f₂ ∘ f₁ (section 3 of the paper).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from onnx_geed.errors import GeedError
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import ARITHMETIC, POINTWISE, data_reads, ops, reads
from onnx_geed.model.shapes import Shape, Types

__all__ = ["Between", "Flow", "between", "drop_pointwise", "vary_along_one_axis"]

# Of which activations are made that have several pieces.
_PIECEWISE = ops("Where Greater GreaterOrEqual Less LessOrEqual Equal And Or Xor Not")


class Flow:
    """How data flow from the acted-on inputs to the output.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted.
    input, output : str
        The acted-on input and the chosen output.
    beside : sequence of str
        Inputs that are moved together with the acted-on one: a point is behind these too.

    Raises
    ------
    GeedError
        If there is no data path from the input to the output.
    """

    def __init__(
        self, graph: onnx.GraphProto, input: str, output: str, beside: Sequence[str] = ()
    ) -> None:
        self.starts = tuple(dict.fromkeys((input, *beside)))
        self.tainted = set(self.starts)
        for node in graph.node:
            if self.tainted.intersection(data_reads(node)):
                self.tainted.update(name for name in node.output if name)
        stored = {tensor.name for tensor in graph.initializer}
        #: What is worked out from the other inputs alone: a row a sample, or one for all.
        self.fed = {i.name for i in graph.input} - stored - self.tainted
        for node in graph.node if self.fed else ():
            if self.fed.intersection(data_reads(node)):
                self.fed.update(name for name in node.output if name not in self.tainted)
        if output not in self.tainted:
            raise GeedError(
                f"no data flow from input {input!r} to output {output!r}; name another with "
                "--input or --output"
            )
        self._same = _repeated_quantisations(graph)
        wanted = {output}
        self.nodes: list[onnx.NodeProto] = []
        for node in reversed(graph.node):
            if wanted.intersection(node.output) and self.tainted.intersection(node.output):
                self.nodes.append(node)
                wanted.update(n for n in self._distinct(data_reads(node)) if n in self.tainted)
        self.nodes.reverse()
        self.live = wanted & self.tainted
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.input, self.output = input, output
        self.points = self._points()

    def inputs(self, node: onnx.NodeProto) -> list[str]:
        """Return the data that a node reads, once each."""
        return [n for n in self._distinct(data_reads(node)) if n in self.live]

    def _distinct(self, names: Iterable[str]) -> list[str]:
        """Return names once each, those of equal quantisations as one."""
        return list(dict.fromkeys(self._same.get(name, name) for name in names))

    def _points(self) -> list[str]:
        # In topological order every node is before or after a true point, so a tensor is one
        # exactly if, when it has just been made, nothing else is still waiting to be read.
        left = dict.fromkeys(self.live, 0)
        for node in self.nodes:
            for name in self.inputs(node):
                left[name] += 1
        left[self.output] += 1
        waiting = {name for name in self.starts if name in self.live}
        points = []
        for node in self.nodes:
            for name in self.inputs(node):
                left[name] -= 1
                if left[name] == 0:
                    waiting.discard(name)
            outputs = [n for n in node.output if n in self.live]
            waiting.update(n for n in outputs if left[n])
            if outputs and waiting == {outputs[0]}:
                points.append(outputs[0])
        return points

    def between(self, point: str) -> list[onnx.NodeProto]:
        """Return the nodes on the paths from a point to the output."""
        reached = {point}
        for node in self.nodes:
            if reached.intersection(self.inputs(node)):
                reached.update(node.output)
        wanted, nodes = {self.output}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output) and reached.intersection(self.inputs(node)):
                nodes.append(node)
                wanted.update(n for n in self.inputs(node) if n != point)
        return nodes[::-1]

    def passes_all(self, point: str, gates: Sequence[onnx.NodeProto]) -> bool:
        """Whether every path from the point to the output meets one of some nodes."""
        reached = {point}
        for node in self.nodes:
            if any(node is gate for gate in gates) or not reached.intersection(self.inputs(node)):
                continue
            # The scale that dynamic quantisation measures goes round the product it belongs to.
            dynamic = node.op_type == "DynamicQuantizeLinear"
            reached.update(node.output[:1] if dynamic else node.output)
        return self.output not in reached


def _repeated_quantisations(graph: onnx.GraphProto) -> dict[str, str]:
    """Map outputs of equal (de)quantisations to the first: some tools write one for each reader."""
    first: dict[tuple[str, ...], str] = {}
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            key = (node.op_type, *(same.get(name, name) for name in node.input))
            kept = first.setdefault(key, node.output[0])
            if kept != node.output[0]:
                same[node.output[0]] = kept
    # An output keeps its own name, since it is asked for by that.
    for info in graph.output:
        same.pop(info.name, None)
    return same


def drop_pointwise(points: Sequence[str], flow: Flow, types: Types) -> set[str]:
    """Drop a point for the next where only pointwise nodes lie between the two.

    Parameters
    ----------
    points : sequence of str
        In topological order.
    flow : Flow
        Where they come from.
    types : dict
        Shapes, by which constants that vary over the grid are told from those that do not.

    Returns
    -------
    set of str
        The points kept.

    Notes
    -----
    An activation or batch norm may be spelt out in several nodes, ``x * Sigmoid(x)`` say, or
    ``Where(x > 20, x, Softplus(x))``.
    """
    kept = set(points)
    for before, after in itertools.pairwise(points):
        seen, stack, pointwise = {before}, [after], True
        while stack and pointwise:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            node = flow.makers.get(name)
            pointwise = node is not None and _is_pointwise(node, flow, types)
            stack += flow.inputs(node) if node is not None else []
        if pointwise:
            kept.discard(before)
    return kept


def _is_pointwise(node: onnx.NodeProto, flow: Flow, types: Types) -> bool:
    if node.op_type in POINTWISE:
        return True
    if node.op_type not in ARITHMETIC | _PIECEWISE:
        return False
    constants = [name for name in node.input if name and name not in flow.tainted]
    if node.op_type == "Where" and node.input[0] in constants:  # a mask, which wipes places out
        return False
    return vary_along_one_axis(node, constants, flow, types)


def vary_along_one_axis(
    node: onnx.NodeProto, names: Iterable[str], flow: Flow, types: Types
) -> bool:
    """Whether each of some operands varies along one axis at most, as far as is known.

    Parameters
    ----------
    node : onnx.NodeProto
        An operator that broadcasts.
    names : iterable of str
        Those of its inputs that are no data.
    flow : Flow
        Which of them are fed: their rows lie along the batch, however many a file says there are.
    types : dict
        Shapes.
    """

    def shape_of(name: str) -> Shape | None:
        return types.get(name, ("?", None))[1]

    rank = max((len(shape_of(name) or ()) for name in node.input), default=0)
    for name in names:
        shape = shape_of(name) or ()
        if name in flow.fed and len(shape) == rank:
            shape = shape[1:]
        if sum(length != 1 for length in shape) > 1:
            return False
    return True


@dataclass(frozen=True)
class Between:
    """The nodes on the way from one tensor to another.

    Parameters
    ----------
    names : tuple of str
        Their names, or those of their outputs, in the graph's order.
    text : str
        The same with operators, for a sentence.
    """

    names: tuple[str, ...]
    text: str


def between(model: Model, start: str | None, end: str) -> Between:
    """Find the nodes on the way from one tensor to another.

    Parameters
    ----------
    model : Model
        The model.
    start : str or None
        Where to begin; the model's inputs by default.
    end : str
        Where to end.

    Returns
    -------
    Between
        Empty where there is no way.
    """
    nodes = list(model.proto.graph.node)
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    weights = {t.name for t in model.proto.graph.initializer}
    behind = {start} if start else {i.name for i in model.proto.graph.input} - weights
    follows = []
    for i, node in enumerate(nodes):
        if node.output and start in node.output:
            continue
        if behind & set(reads(node)):
            behind.update(node.output)
            follows.append(i)
    wanted, waiting = set(), [end]
    while waiting:
        index = makers.get(waiting.pop())
        if index is None or index in wanted or (start is not None and start in nodes[index].output):
            continue
        wanted.add(index)
        waiting += reads(nodes[index])
    chosen = [nodes[i] for i in follows if i in wanted]
    names = [node.name or node.output[0] for node in chosen]
    labels = [f"{n.op_type} {name}" for n, name in zip(chosen, names, strict=True)]
    text = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
    return Between(tuple(names), text)
