"""Attributes on which a library ends the process are refused as a model is read.

ONNX Runtime and the shape inference of ONNX divide by some of what a node states, count with it in
32 bits, or assert it: of a value that no operator allows they raise no error, they end the process
or work for ever. ``tests/fuzz/every_value.py`` tries them all.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from onnx_geed.errors import GeedError, shown
from onnx_geed.model.nodes import attribute, integers_of, ops
from onnx_geed.model.soundness import bodies

__all__ = ["check_attributes"]


class _Rule(NamedTuple):
    """Whole numbers that attributes may be, at the operators named; at all where none is."""

    attributes: frozenset[str]
    least: int
    most: int
    at: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()


# Tensors of no runtime have more axes.
_AXES = 64

# Kernels hold counts in 32 bits, where 2**32 is 0.
_MOST = (1 << 31) - 1

_WHOLE = (
    _Rule(ops("axis batch_axis time_axis"), -_AXES, _AXES),
    _Rule(ops("batch_dims"), 0, _AXES),
    _Rule(ops("group num_groups offset_group blocksize"), 1, _MOST),
    # RotaryEmbedding counts heads itself where it states 0.
    _Rule(ops("num_heads q_num_heads kv_num_heads"), 1, _MOST, but=ops("RotaryEmbedding")),
    _Rule(ops("num_heads rotary_embedding_dim"), 0, _MOST, at=ops("RotaryEmbedding")),
    # The squares of this many points are listed, on a thread that no lack of memory may reach.
    _Rule(ops("sampling_ratio"), 0, 256),
    # As many gaps are tried at every word, whether or not there are words.
    _Rule(ops("max_skip_count"), 0, 10_000),
)

# Letters, and at most one ellipsis a term: inference reads a fourth dot for ever.
_TERM = r"[A-Za-z]*(?:\.\.\.)?[A-Za-z]*"
_EQUATION = re.compile(rf"{_TERM}(?:,{_TERM})*(?:->{_TERM})?")
_LONGEST_EQUATION = 10_000

# Operators of whoever wrote a model mean by these names what they like.
_KNOWN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def check_attributes(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse nodes with attributes on which a library would end the process.

    Parameters
    ----------
    graph : onnx.GraphProto
        The main graph, its functions inlined; the bodies in it are looked at too.
    path : Path
        The file, for messages.

    Raises
    ------
    GeedError
        If a node has one; its line names node, operator, attribute and value.
    """
    for body in bodies(graph):
        for node in body.node:
            if node.domain not in _KNOWN or not (node.attribute or node.op_type in _BY_OPERATOR):
                continue
            if fault := _fault(node):
                called = shown(f"{node.op_type} {node.name or next(iter(node.output), '')}".strip())
                raise GeedError(
                    f"{path}: its node {called} has {fault}, which may end the process; export it "
                    "again with a value that the operator allows"
                )


def _fault(node: onnx.NodeProto) -> str:
    """Return attribute and value of a node that is not allowed, and what is; empty if all are."""
    op = node.op_type
    for stated in node.attribute:
        if stated.type != onnx.AttributeProto.INT:
            continue
        for rule in _WHOLE:
            bound = stated.name in rule.attributes and op not in rule.but
            bound = bound and (not rule.at or op in rule.at)
            if bound and not rule.least <= stated.i <= rule.most:
                allowed = f"{rule.least} to {rule.most}"
                return f"{stated.name} {stated.i} (allowed: {allowed})"
    return _BY_OPERATOR[op](node) if op in _BY_OPERATOR else ""


def _number(node: onnx.NodeProto, name: str, default: float) -> float:
    value = attribute(node, name, default)
    return float(value) if isinstance(value, int | float) else default


def _fault_of_normal(node: onnx.NodeProto) -> str:
    scale = _number(node, "scale", 1.0)
    return "" if 0 < scale < math.inf else f"scale {scale:g} (allowed: above 0, and finite)"


def _fault_of_uniform(node: onnx.NodeProto) -> str:
    low, high = _number(node, "low", 0.0), _number(node, "high", 1.0)
    if -math.inf < low <= high < math.inf:
        return ""
    return f"low {low:g} and high {high:g} (allowed: low at most high, both finite)"


def _fault_of_phrases(node: onnx.NodeProto) -> str:
    """Of n-grams, ``ngram_counts`` says where those of each length begin in the pool."""
    lists: dict[str, list[Any]] = {
        a.name: list(a.ints or a.strings) for a in node.attribute if a.ints or a.strings
    }
    items = max(len(lists.get(pool, [])) for pool in ("pool_int64s", "pool_strings"))
    begins = [*lists.get("ngram_counts", []), items]
    phrases = sum(
        max(end - begin, 0) // length
        for length, (begin, end) in enumerate(itertools.pairwise(begins), 1)
    )
    found = len(lists.get("ngram_indexes", []))
    return (
        "" if found >= phrases else f"ngram_indexes of {found:,} n-grams and a pool of {phrases:,}"
    )


def _fault_of_parts(node: onnx.NodeProto) -> str:
    made = len(node.output)
    stated = _number(node, "num_outputs", made)
    return "" if stated == made else f"num_outputs {stated:.0f} (allowed: {made}, its outputs)"


def _fault_of_equation(node: onnx.NodeProto) -> str:
    equation = attribute(node, "equation", "")
    text = equation.replace(" ", "") if isinstance(equation, str) else "?"
    if len(text) <= _LONGEST_EQUATION and _EQUATION.fullmatch(text):
        return ""
    return f"equation {shown(text)} (allowed: letters, commas, an arrow, an ellipsis a term)"


def _fault_of_widths(node: onnx.NodeProto) -> str:
    widths = integers_of(node, "inputdimensions") or []
    wrong = next((width for width in widths if not 0 <= width <= _MOST), None)
    return "" if wrong is None else f"inputdimensions {wrong} (allowed: 0 to {_MOST})"


def _fault_of_limit(node: onnx.NodeProto) -> str:
    limit = _number(node, "swiglu_limit", math.inf)
    return "" if limit >= 0 else f"swiglu_limit {limit:g} (allowed: 0 or more)"


_BY_OPERATOR: dict[str, Callable[[onnx.NodeProto], str]] = {
    "Einsum": _fault_of_equation,
    "FeatureVectorizer": _fault_of_widths,
    "MoE": _fault_of_limit,
    "QMoE": _fault_of_limit,
    "RandomNormal": _fault_of_normal,
    "RandomNormalLike": _fault_of_normal,
    "RandomUniform": _fault_of_uniform,
    "RandomUniformLike": _fault_of_uniform,
    "Split": _fault_of_parts,
    "TfIdfVectorizer": _fault_of_phrases,
}
