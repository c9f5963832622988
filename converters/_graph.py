"""What a converter has to know of an ONNX graph: its latent, its names, which tensor is which."""

from __future__ import annotations

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
    """What is kept of an array in order to recognise it: its shape, and values at fixed places."""

    shape: tuple[int, ...]
    values: Any
    largest: float


def fingerprint(array: Any) -> Print | None:
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
    return Print(tuple(array.shape), values, float(np.abs(values).max(initial=0.0)))


def every_node(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the bodies inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from every_node(inner)


def names(graph: Any) -> set[str]:
    """Return all names of tensors."""
    found = {i.name for i in (*graph.input, *graph.output, *graph.initializer)}
    for node in every_node(graph):
        found.update((*node.input, *node.output))
    return found


def rename(graph: Any, old: str, new: str) -> bool:
    """Give a tensor another name, unless that is taken; say whether it bears it now."""
    if old == new:
        return True
    if new in names(graph):
        return False
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.name == old:
            info.name = new
    for node in every_node(graph):
        for names_ in (node.input, node.output):
            for i, name in enumerate(names_):
                if name == old:
                    names_[i] = new
    return True


def find_latent(graph: Any, input: str, output: str) -> str | None:
    """Return the tensor that the last affine nodes read, batch norm in front of them included.

    Without a classifier it is the output; None where the model is nothing but a classifier.
    """
    made = {name: node for node in graph.node for name in node.output}
    order = {name: i for i, node in enumerate(graph.node) for name in node.output}
    data = _reached(graph, input)
    passed = {output: False}
    while True:
        if len(passed) == 1 and all(passed.values()):
            (name,) = passed
            node = made.get(name)
            if node is None:
                return None
            return node.input[0] if node.op_type == "BatchNormalization" else name
        # The latest that still has to be gone through; then those that may meet further up.
        open_ = [n for n in passed if not passed[n]] or list(passed)
        name = max(open_, key=lambda n: order.get(n, -1))
        node = made.get(name)
        if node is None:
            return output
        read = list(dict.fromkeys(i for i in node.input if i in data))
        affine = _is_affine(node, data, graph)
        norm = node.op_type == "BatchNormalization" or (
            node.op_type in _ARITHMETIC and len(read) == 1
        )
        if not (norm if passed[name] else affine or node.op_type in _BEHIND):
            return output
        state = passed.pop(name) or affine
        for source in read:
            passed[source] = passed.get(source, True) and state


def _reached(graph: Any, input: str) -> set[str]:
    """Return the tensors that depend on the values of the input, not just on its shape."""
    data = {input}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and data.intersection(node.input):
            data.update(node.output)
    return data


def _is_affine(node: Any, data: set[str], graph: Any) -> bool:
    if len([i for i in node.input[:2] if i in data]) != 1:
        return False
    if node.op_type in ("Gemm", "MatMul"):
        return True
    if node.op_type != "Conv":
        return False
    weight = next((i for i in graph.initializer if i.name == node.input[1]), None)
    return weight is not None and all(d == 1 for d in weight.dims[2:])


def match(
    open_session: Any, graph: Any, feeds: dict[str, Any], wanted: dict[str, Print]
) -> dict[str, list[str]]:
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
    dict of str to list of str
        Tensors by module path, the first of several equal ones in front; without those that are not in the file, as batch norm that was
        folded into a convolution leaves no tensor of the convolution alone.
    """
    import numpy as np

    shapes = {w.shape for w in wanted.values()}
    by_shape: dict[tuple[int, ...], list[tuple[str, Print]]] = {}
    # Constants tell nothing, and outputs of If and Loop may be sequences.
    skipped = ("Constant", "Shape", "If", "Loop", "Scan", "SequenceConstruct", "SplitToSequence")
    outputs = [o for n in graph.node if n.op_type not in skipped for o in n.output if o]
    for chunk in _chunks(outputs):
        for name, array in zip(
            chunk, open_session(list(chunk)).run(list(chunk), feeds), strict=True
        ):
            if np.shape(array) in shapes and (found := fingerprint(array)):
                by_shape.setdefault(found.shape, []).append((name, found))
    matched = {}
    for path, print_ in wanted.items():
        near = [
            (float(np.abs(p.values - print_.values).max()), name)
            for name, p in by_shape.get(print_.shape, ())
        ]
        best = min((d for d, _ in near), default=np.inf)
        if best <= 1e-4 * print_.largest:
            # The first of several equal ones: what follows only passes it on.
            limit = max(2 * best, 1e-6 * print_.largest)
            matched[path] = [name for d, name in near if d <= limit]
    return matched


def _chunks(items: list[str], size: int = 48) -> Iterable[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
