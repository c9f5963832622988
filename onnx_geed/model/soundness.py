"""A model is held against limits before anything works on it: no file may cost what none is worth.

Whatever is built on a graph walks over its nodes, inlines its functions and reads its names. Here
each of these is counted first, in time that grows with the file and no faster.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, shown
from onnx_geed.model.nodes import attribute, integers_of, subgraphs
from onnx_geed.model.stored_tensors import (
    UnsoundError,
    check_axes,
    check_sparse,
    check_tensor,
    check_texts,
    stored,
    stored_sparse,
)

__all__ = [
    "bodies",
    "check_nodes",
    "check_sound",
    "has_loops",
    "refusing_unsound",
]

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Nodes of a model, its functions being inlined and bodies counted in: several times the most that
# any known network has.
_MOST_NODES = 50_000

# Tensors that nodes read and make, and attributes that they state, all together and one alone.
_MOST_ENDS, _MOST_ENDS_OF_ONE = 1_000_000, 10_000

# Texts that one is joined of.
_MOST_TEXTS = 10_000

# Texts of tensors and attributes, and their bytes, all together: vocabularies have fewer words.
_MOST_WORDS, _MOST_TEXT = 1_000_000, 64 << 20

# Functions that call functions, one in the other: the inliner recurses.
_MOST_DEEP = 100

# Characters of what the checker says.
_LONGEST_REASON = 200

# What is raised of values that nobody foresaw.
_UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def refusing_unsound(path: str | Path) -> Iterator[None]:
    """Tell a malformed model from a fault of this package: the ONNX checker knows.

    Parameters
    ----------
    path : str or Path
        The model that is worked on inside.

    Raises
    ------
    GeedError
        If an error that nobody foresaw is raised, and the checker refuses the model.
    """
    try:
        yield
    except _UNFORESEEN:
        if reason := _checker_says(path):
            raise GeedError(
                f"{shown(str(path))}: is not a valid ONNX model ({reason}); export it again"
            ) from None
        raise


def of_a_model(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorate a function whose first argument is a model, or its path: see above."""

    @functools.wraps(function)
    def told_apart(*given: Given.args, **named: Given.kwargs) -> Result:
        model: Any = given[0] if given else named["model"]
        with refusing_unsound(getattr(model, "path", model)):
            return function(*given, **named)

    return told_apart


def _checker_says(path: str | Path) -> str:
    """Return why the checker refuses a model; empty where it does not, or cannot read it."""
    # A function is a model too, and no file.
    if not isinstance(path, str | os.PathLike):
        return ""
    try:
        if not Path(path).is_file():
            return ""
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # the checker's classes, and those of shape inference
        return _cut(" ".join(str(error).split()) or type(error).__name__)
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def check_sound(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model that would take time or memory out of all proportion, or is no text.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model as the file holds it.
    path : Path
        The file, for messages.

    Raises
    ------
    GeedError
        If it has too many nodes, or a node has too many inputs, outputs or attributes.
        If its functions call themselves, or come to too many nodes.
        If a name, or a text in a tensor, is not UTF-8.
        If texts of tensors and attributes are too many or too long.
        If a tensor's lengths are negative, too many or too large, or its data do not fill them.
    """
    try:
        _check(proto)
    except UnsoundError as error:
        raise GeedError(f"{path}: {error}; {error.cure}") from None


class _TooLongError(UnsoundError):
    cure = "export its loops as Loop, or cut a part out of it by onnx.utils.extract_model"


def _check(proto: onnx.ModelProto) -> None:
    texts: list[str | bytes] = [proto.producer_name, proto.producer_version, proto.domain]
    texts += [text for entry in proto.metadata_props for text in (entry.key, entry.value)]
    check_texts(texts, "its metadata hold")
    graphs = list(bodies(proto.graph))
    if any(a.ref_attr_name for graph in graphs for node in graph.node for a in node.attribute):
        raise UnsoundError("a node outside its functions refers to an attribute of a function")
    everything = [*graphs, *(f for own in proto.functions for f in _function_bodies(own))]
    _check_nodes(everything)
    _check_functions(proto)
    _check_amount_of_text(everything, proto)
    for graph in graphs:
        _check_infos([*graph.input, *graph.output, *graph.value_info])
    for sparse in stored_sparse(proto):
        check_sparse(sparse)
    for tensor in stored(proto):
        check_tensor(tensor)


def bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Return a graph and the bodies of its nodes, and of theirs."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            if node.attribute:
                waiting += subgraphs(node)


def check_nodes(graph: onnx.GraphProto, opset: int, path: Path) -> None:
    """Refuse nodes that lack what their operator must have, and texts that grow to any length.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, sorted, its functions inlined.
    opset : int
        Version of the default operator set.
    path : Path
        The file, for messages.

    Raises
    ------
    GeedError
        If a node has no output, or fewer inputs than its operator.
        If a text is joined of too many: the runtime joins them as it opens a model.
        If whole numbers are divided by a constant where the processor cannot.
    """
    joined: dict[str, int] = {}
    least: dict[str, int] = {}
    for node in graph.node:
        op, domain = node.op_type, node.domain
        if op not in least and domain in ("", "ai.onnx"):
            least[op] = _least_inputs(op, opset)
        few = domain in ("", "ai.onnx") and len(node.input) < least[op]
        if few or not node.output:
            lacks = f"{len(node.input)} inputs of {least[op]}" if few else "no output"
            called = shown(f"{op} {node.name or next(iter(node.output), '')}".strip())
            raise GeedError(f"{path}: its node {called} has {lacks}; export it again")
        counts = [joined.get(name, 1) for name in node.input]
        count = sum(counts) if op == "StringConcat" else max(counts, default=1)
        if count > _MOST_TEXTS:
            raise GeedError(
                f"{path}: it joins a text of more than {_MOST_TEXTS:,} texts; export it again"
            )
        if count > 1:
            joined |= dict.fromkeys(node.output, count)
    _check_divisions(graph, {}, path)


# What is known of a tensor's values: all of them, or the one that fills it.
_Known = onnx.TensorProto | list[int]

_WHOLE = frozenset(
    onnx.TensorProto.DataType.Value(f"{sign}INT{bits}")
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
)


def _check_divisions(graph: onnx.GraphProto, outer: Mapping[str, _Known], path: Path) -> None:
    """Refuse divisions of whole numbers that have no result: a processor ends the process.

    These are by 0, and of the smallest number by -1, whose quotient is one more than the largest.
    Of divisors that are computed nothing is known here.
    """
    known = dict(outer) | {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.output and (value := _known_value(node, known)) is not None:
            known[node.output[0]] = value
        if node.op_type in ("Div", "Mod") and len(node.input) > 1:
            divided, by = (_whole_numbers(known.get(name)) for name in node.input[:2])
            if by is not None and (fault := _fault_of_division(divided, by)):
                called = shown(f"{node.op_type} {node.name or next(iter(node.output), '')}")
                raise GeedError(
                    f"{path}: its node {called} divides {fault}, which has no result and may end "
                    "the process; export it again without"
                )
        for body in subgraphs(node):
            _check_divisions(body, known, path)


def _known_value(node: onnx.NodeProto, known: Mapping[str, _Known]) -> _Known | None:
    if node.op_type == "Identity" and node.input:
        return known.get(node.input[0])
    if node.op_type not in ("Constant", "ConstantOfShape"):
        return None
    for key in ("value_int", "value_ints"):
        if (values := integers_of(node, key)) is not None:
            return values
    value = attribute(node, "value")
    return value if isinstance(value, onnx.TensorProto) else None


def _whole_numbers(known: _Known | None) -> NDArray[Any] | None:
    """Return known whole numbers; ``None`` for others, and for large ones of another file."""
    if not isinstance(known, onnx.TensorProto):
        return None if known is None else np.array(known, np.int64)
    if known.data_location == onnx.TensorProto.EXTERNAL or known.data_type not in _WHOLE:
        return None
    return onnx.numpy_helper.to_array(known)


def _fault_of_division(divided: NDArray[Any] | None, by: NDArray[Any]) -> str:
    if (by == 0).any():
        return "whole numbers by 0"
    # Shorter numbers are divided as longer ones, which hold the quotient.
    if by.dtype not in (np.int32, np.int64) or not (by == -1).any():
        return ""
    least = np.iinfo(by.dtype).min
    if divided is None:
        return f"by -1 what may be {least}"
    return f"{least} by -1" if (divided == least).any() else ""


def _least_inputs(op: str, opset: int) -> int:
    """Return how many inputs an operator has at least, 0 where that is not known."""
    try:
        return int(onnx.defs.get_schema(op, opset).min_input)
    except (onnx.defs.SchemaError, OverflowError, TypeError, ValueError):
        return 0


def has_loops(graph: onnx.GraphProto) -> bool:
    """Whether a graph, or a body in it, has nodes that run a body again and again."""
    return any(node.op_type in ("Loop", "Scan") for body in bodies(graph) for node in body.node)


def _function_bodies(
    function: onnx.FunctionProto,
) -> Iterator[onnx.FunctionProto | onnx.GraphProto]:
    yield function
    for node in function.node:
        for body in subgraphs(node):
            yield from bodies(body)


def _check_nodes(graphs: Sequence[onnx.FunctionProto | onnx.GraphProto]) -> None:
    _check_count(sum(map(_size, graphs)))
    ends = 0
    for graph in graphs:
        for node in graph.node:
            own = len(node.input) + len(node.output) + len(node.attribute)
            ends += own
            if own > _MOST_ENDS_OF_ONE or ends > _MOST_ENDS:
                most = _MOST_ENDS_OF_ONE if own > _MOST_ENDS_OF_ONE else _MOST_ENDS
                raise UnsoundError(
                    f"its {shown(node.op_type)} nodes have more than {most:,} inputs, outputs and "
                    "attributes"
                )
            texts = (node.name, node.op_type, node.domain, *node.input, *node.output)
            check_texts(texts, "a node has")
            check_texts([a.name for a in node.attribute], "an attribute is called")


def _size(graph: onnx.FunctionProto | onnx.GraphProto) -> int:
    return 1 + len(graph.node)  # a body without nodes is walked to, too


def _check_count(nodes: int) -> None:
    if nodes > _MOST_NODES:
        raise _TooLongError(f"it has {nodes:,} nodes; at most {_MOST_NODES:,} are accepted")


def _check_amount_of_text(
    graphs: Sequence[onnx.FunctionProto | onnx.GraphProto], proto: onnx.ModelProto
) -> None:
    attributes = [a for graph in graphs for node in graph.node for a in node.attribute]
    count = 0
    size = sum(len(a.s) for a in attributes)
    for texts in (*(a.strings for a in attributes), *(t.string_data for t in stored(proto))):
        count += len(texts)
        if count > _MOST_WORDS:
            raise UnsoundError(f"its tensors hold over {_MOST_WORDS:,} texts")
        size += sum(map(len, texts))
    if size > _MOST_TEXT:
        raise UnsoundError(f"its tensors hold texts of over {_MOST_TEXT >> 20} MiB")


# What calls a function by: its domain, its name, and which of several of that name.
_Key = tuple[str, str, str]


def _check_functions(proto: onnx.ModelProto) -> None:
    """Count the nodes that there are once functions are inlined."""
    if not proto.functions:
        return
    own = {(f.domain, f.name, f.overload): f for f in proto.functions}
    # Known sizes; a function that is being counted has none yet.
    sizes: dict[_Key, int | None] = {}
    for start in own:
        waiting = [start]
        while waiting:
            key = waiting[-1]
            called = [
                _called(node)
                for body in _function_bodies(own[key])
                for node in body.node
                if _called(node) in own
            ]
            unknown = next((other for other in called if sizes.get(other) is None), None)
            if sizes.get(key) is not None:
                waiting.pop()
            elif unknown is None:
                plain = sum(map(_size, _function_bodies(own[key])))
                sizes[key] = plain + sum(sizes[other] or 0 for other in called)
                waiting.pop()
            elif unknown in sizes:
                raise UnsoundError(f"its function {shown(unknown[1])} calls itself")
            else:
                sizes[key] = sizes[unknown] = None
                waiting.append(unknown)
            if len(waiting) > _MOST_DEEP:
                raise UnsoundError("its functions call each other too deep")
    nodes = 0
    for graph in bodies(proto.graph):
        nodes += _size(graph)
        nodes += sum(sizes.get(_called(node)) or 0 for node in graph.node)
    _check_count(nodes)


def _called(node: onnx.NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _check_infos(infos: Sequence[onnx.ValueInfoProto]) -> None:
    known = onnx.TensorProto.DataType.values()
    for info in infos:
        check_texts([info.name], "a tensor is called")
        if not info.type.HasField("tensor_type"):
            continue
        kind = info.type.tensor_type
        if kind.elem_type not in known:
            raise UnsoundError(
                f"tensor {shown(info.name)} is of type {kind.elem_type}, which ONNX does not have"
            )
        check_axes(len(kind.shape.dim), info.name)
        check_texts([dim.dim_param for dim in kind.shape.dim], f"{shown(info.name)}'s axes have")
