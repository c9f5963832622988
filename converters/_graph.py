"""An ONNX graph as a converter has to know it: its latent, its names, which tensor is which."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# What may stand between a classifier's affine nodes and the output.
_BEHIND = frozenset(
    "Softmax LogSoftmax Sigmoid Identity Cast Dropout Reshape Flatten Squeeze Unsqueeze Add Sub Mul "
    "Div Sum Mean ReduceMean GlobalAveragePool AveragePool Transpose".split()
)
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))
_SAMPLED = 4096


@dataclass(frozen=True)
class Print:
    """A print of an array, to recognise it by: its shape, and values at fixed places.

    `moved` is the same array with its channels moved from the end to the front, for an exporter
    may leave out a transposition.
    """

    shape: tuple[int, ...]
    values: Any
    largest: float
    moved: Print | None = None

    @property
    def finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return math.isfinite(self.largest)


@dataclass(frozen=True)
class Match:
    """The tensors that hold an array, the first in front; `moved` where its channels are."""

    tensors: list[str]
    moved: bool


def fingerprint(array: Any, moved: bool = False) -> Print | None:
    """Return the fingerprint of a float array; None for others."""
    import numpy as np

    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating) or not array.size:
        return None
    flat = array.reshape(-1)
    places = np.arange(flat.size)
    if flat.size > _SAMPLED:
        places = np.random.default_rng(flat.size).integers(0, flat.size, _SAMPLED)
    values = flat[places].astype(np.float64)
    other = fingerprint(array.transpose(0, 3, 1, 2)) if moved and array.ndim == 4 else None
    return Print(tuple(array.shape), values, float(np.abs(values).max(initial=0.0)), other)


def every_node(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the bodies inside it."""
    for node in graph.node:
        yield node
        yield from every_node_within(node)


def names(graph: Any) -> set[str]:
    """Return all names of tensors."""
    names = {i.name for i in (*graph.input, *graph.output, *graph.initializer)}
    for node in every_node(graph):
        names.update((*node.input, *node.output))
    return names


def rename(graph: Any, mapping: dict[str, str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Give tensors other names; those that bear one already make way, nodes too.

    The names that are reserved are left to nobody else. Returns all that was renamed.
    """
    taken, wanted = names(graph), {*mapping.values(), *reserved}
    stay = {old for old, new in mapping.items() if old == new}
    mapping = {old: new for old, new in mapping.items() if old != new}
    for name in sorted((wanted & taken) - mapping.keys() - stay):
        other = f"{name}_"
        while other in taken | wanted:
            other += "_"
        mapping[name] = other
        taken.add(other)
    infos = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for info in infos:
        info.name = mapping.get(info.name, info.name)
    for node in every_node(graph):
        if node.name in wanted:
            node.name = f"{node.name}_node"
        for list_ in (node.input, node.output):
            for i, name in enumerate(list_):
                if name in mapping:
                    list_[i] = mapping[name]
    return mapping


def keep_outputs(graph: Any, kept: list[str]) -> None:
    """Leave only these outputs, and what makes them."""
    outputs = [o for o in graph.output if o.name in kept]
    needed = set(kept)
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
            for inner in every_node_within(node):
                needed.update(inner.input)
    stored = [i for i in graph.initializer if i.name in needed]
    for field, items in (("node", nodes[::-1]), ("output", outputs), ("initializer", stored)):
        items = [type(i).FromString(i.SerializeToString()) for i in items]
        del getattr(graph, field)[:]
        getattr(graph, field).extend(items)


def float_output(graph: Any) -> float:
    """Let an output of half or double precision be float32; what computes it stays as it is.

    Returns the step at which it was rounded, relative to values; 0 if that is finer than float32's.
    """
    from onnx import TensorProto, helper

    steps = {TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7, TensorProto.DOUBLE: 0.0}
    if len(graph.output) != 1:
        return 0.0
    (output,) = graph.output
    made = output.type.tensor_type
    if made.elem_type not in steps:
        return 0.0
    step = steps[made.elem_type]
    computed, taken = f"{output.name}_computed", names(graph)
    while computed in taken:
        computed += "_"
    for node in every_node(graph):
        for list_ in (node.input, node.output):
            for i, name in enumerate(list_):
                if name == output.name:
                    list_[i] = computed
    graph.node.append(helper.make_node("Cast", [computed], [output.name], to=TensorProto.FLOAT))
    made.elem_type = TensorProto.FLOAT
    return step


def every_node_within(node: Any) -> Iterator[Any]:
    """Yield the nodes of the bodies inside a node."""
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from every_node(inner)


def find_latent(proto: Any, inputs: Iterable[str], output: str) -> str | None:
    """Return the vector or map that the last affine nodes read, before batch norm in front of them.

    Only where there can be no two opinions, for what is written goes before onnx-geed's own search,
    which knows many more ends, and what is no classifier. Everything else is None, and left to it.
    """
    graph = proto.graph
    makers = {name: node for node in graph.node for name in node.output}
    order = {name: i for i, node in enumerate(graph.node) for name in node.output}
    data, flat = _reached(graph, inputs), _matrices(proto)
    passed = {output: False}
    while True:
        if len(passed) == 1 and all(passed.values()):
            (name,) = passed
            node = makers.get(name)
            if node is None:
                return None
            return node.input[0] if node.op_type == "BatchNormalization" else name
        # The latest that still has to be gone through; then those that may meet further up.
        open_ = [n for n in passed if not passed[n]] or list(passed)
        name = max(open_, key=lambda n: order.get(n, -1))
        node = makers.get(name)
        if node is None:
            return None
        read = list(dict.fromkeys(i for i in node.input if i in data))
        affine = _is_affine(node, data, flat, graph)
        norm = node.op_type == "BatchNormalization" or (
            node.op_type in _ARITHMETIC and len(read) == 1
        )
        if not (norm if passed[name] else affine or node.op_type in _BEHIND):
            return None
        state = passed.pop(name) or affine
        for source in read:
            passed[source] = passed.get(source, True) and state


def _reached(graph: Any, inputs: Iterable[str]) -> set[str]:
    """Return the tensors that depend on the values of inputs, not just on their shapes."""
    data = {*inputs}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and data.intersection(node.input):
            data.update(node.output)
    return data


def _matrices(proto: Any) -> set[str]:
    """Return the tensors that are known to have two axes."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except Exception:  # over 2 GB, or an operator that is none of ONNX's
        graph = proto.graph
    return {i.name for i in graph.value_info if len(i.type.tensor_type.shape.dim) == 2}


def _is_affine(node: Any, data: set[str], flat: set[str], graph: Any) -> bool:
    """Whether a node is a dense layer of vectors, or of every place of a plane."""
    if node.op_type not in ("Gemm", "MatMul", "Conv"):
        return False
    if node.input[0] not in data or node.input[1] in data:
        return False
    if node.op_type == "MatMul":
        return node.input[0] in flat
    if node.op_type == "Gemm":
        return not any(a.name == "transA" and a.i for a in node.attribute)
    weight = next((i for i in graph.initializer if i.name == node.input[1]), None)
    return weight is not None and list(weight.dims[2:]) == [1, 1]


def match(
    open_session: Any, graph: Any, feeds: dict[str, Any], wanted: dict[str, Print]
) -> dict[str, Match]:
    """Find the tensors that hold what modules put out.

    Parameters
    ----------
    open_session : callable
        Takes names of tensors, returns a session that puts them out.
    graph : GraphProto
        The main graph.
    feeds : dict
        What the modules were fed.
    wanted : dict of str to Print
        By module path.

    Returns
    -------
    dict of str to Match
        By module path; without those that are not in the file, as batch norm that was
        folded into a convolution leaves no tensor of the convolution alone.
    """
    import numpy as np

    forms = {path: [p, *([p.moved] if p.moved else [])] for path, p in wanted.items()}
    shapes = {form.shape for each in forms.values() for form in each}
    by_shape: dict[tuple[int, ...], list[tuple[str, Print]]] = {}
    # Constants tell nothing, and outputs of If and Loop may be sequences.
    skipped = ("Constant", "Shape", "If", "Loop", "Scan", "SequenceConstruct", "SplitToSequence")
    outputs = [o for n in graph.node if n.op_type not in skipped for o in n.output if o]
    for chunk in _chunks(outputs):
        for name, array in zip(
            chunk, open_session(list(chunk)).run(list(chunk), feeds), strict=True
        ):
            if np.shape(array) in shapes and (value_print := fingerprint(array)):
                by_shape.setdefault(value_print.shape, []).append((name, value_print))
    matched: dict[str, Match] = {}
    for path, each in forms.items():
        for form in each:
            near = [
                (float(np.abs(p.values - form.values).max()), name)
                for name, p in by_shape.get(form.shape, ())
            ]
            best = min((d for d, _ in near), default=np.inf)
            if best <= 1e-4 * form.largest and path not in matched:
                limit = max(2 * best, 1e-6 * form.largest)
                equal = [name for d, name in near if d <= limit]
                matched[path] = Match(equal, form is not each[0])
    return matched


def _chunks(items: list[str], size: int = 48) -> Iterable[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
