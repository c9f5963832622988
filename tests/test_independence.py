"""Whether rows of a batch mix: the proof from the graph, the check on real jobs, fixed batches."""

from __future__ import annotations

import json

import models
import numpy as np
import onnx
import pytest
from onnx import helper, parser

import onnx_geed as geed
from onnx_geed import GeedError, rowcheck
from onnx_geed.independence import Lost, Mixed, Rows, rows_apart

SIZE = (3, 6, 6)
HEAD = '<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1, "tests" : 1]>\n'


def graph(body, *, opset=17, batch="N", outputs="float[M, K] y"):
    """A graph of x (N, 3, 6, 6), with some weights under short names."""
    text = HEAD.format(opset=opset) + f"g (float[{batch}, 3, 6, 6] x) => ({outputs}) {{\n{body}\n}}"
    model = parser.parse_model(text)
    rng = np.random.default_rng(5)
    stored = {
        "w": rng.normal(size=(4, 3, 3, 3)),
        "fc": rng.normal(size=(108, 4)),
        "square": rng.normal(size=(108, 108)),
        "c": rng.normal(size=(4, 4)),
        "one": 1.0,
        "three": 3.0,
        "limit": 1.5,
        "ones4": np.ones(4),
        "ones3": np.ones(3),
    }
    used = {name for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                used |= {name for inner in attribute.g.node for name in inner.input}
    model.graph.initializer.extend(
        models.weights(name, values) for name, values in stored.items() if name in used
    )
    return model


def verdict(body, names=("y",), **options):
    rows = options.pop("rows", None)
    return rows_apart(graph(body, **options), list(names), {"x": (None, *SIZE)}, rows=rows)


FLAT = "f = Flatten (x)\n"
I64 = "<value = int64[{n}] {{{v}}}> ()\n"


def ints(name, *values):
    return f"{name} = Constant <value = int64[{len(values)}] {{{', '.join(map(str, values))}}}> ()\n"


MIXING = {
    "largest of all": FLAT + "m = ReduceMax <keepdims = 0> (x)\ny = Div (f, m)",
    "largest, clipped": FLAT
    + "m = ReduceMax <keepdims = 0> (x)\nk = Max (m, one)\ny = Div (f, k)",
    "a scalar condition": FLAT
    + "m = ReduceMax <keepdims = 0> (x)\nb = Greater (m, limit)\nt = Div (f, three)\n"
    "y = Where (b, t, f)",
    "mean over rows": FLAT + "m = ReduceMean <axes = [0], keepdims = 1> (f)\ny = Sub (f, m)",
    "mean over rows, counted from the end": FLAT
    + "m = ReduceMean <axes = [-2], keepdims = 1> (f)\ny = Sub (f, m)",
    "largest of the flattened": FLAT
    + ints("s", -1)
    + "v = Reshape (x, s)\nm = ReduceMax <axes = [0], keepdims = 0> (v)\ny = Div (f, m)",
    "pooled over the flattened": FLAT
    + ints("s", 1, 1, -1)
    + "v = Reshape (x, s)\nm = GlobalMaxPool (v)\n"
    + ints("t", 1, 1)
    + "k = Reshape (m, t)\ny = Div (f, k)",
    "softmax over rows": FLAT + "y = Softmax <axis = 0> (f)",
    "rows turned round": FLAT
    + ints("a", -1)
    + ints("e", -10000)
    + ints("z", 0)
    + "y = Slice (f, a, e, z, a)",
    "rows rolled": FLAT
    + ints("a", -1)
    + ints("e", 10000)
    + ints("z", 0)
    + "p = Slice (f, a, e, z)\nq = Slice (f, z, a, z)\ny = Concat <axis = 0> (p, q)",
    "rows sorted": FLAT + ints("k", 1) + "y, i = TopK <axis = 0> (f, k)",
    "rows added up": FLAT + "z = Constant <value = int64 {0}> ()\ny = CumSum (f, z)",
    "distances": FLAT
    + ints("z", 0)
    + ints("o", 1)
    + "p = Unsqueeze (f, z)\nq = Unsqueeze (f, o)\nd = Sub (p, q)\nr = Abs (d)\n"
    "y = ReduceSum <keepdims = 0> (r, o)",
    "products of rows": FLAT + "t = Transpose <perm = [1, 0]> (f)\ny = MatMul (f, t)",
    "products of rows, by Gemm": FLAT + "y = Gemm <transB = 1> (f, f)",
    "products of rows, by Einsum": FLAT + 'y = Einsum <equation = "ik,jk->ij"> (f, f)',
    "a sum over rows, by Einsum": FLAT
    + 's = Einsum <equation = "ik->k"> (f)\ny = Sub (f, s)',
    "dynamic quantisation": FLAT
    + "q, s, z = DynamicQuantizeLinear (f)\ny = DequantizeLinear (q, s, z)",
    "training": FLAT
    + "h = Conv <pads = [1, 1, 1, 1]> (x, w)\n"
    "b, p, q = BatchNormalization <training_mode = 1> (h, ones4, ones4, ones4, ones4)\n"
    "y = Flatten (b)",
    "attention over rows": ints("s", 0, 3, 36)
    + "t = Reshape (x, s)\nq = Transpose <perm = [1, 0, 2]> (t)\n"
    "k = Transpose <perm = [1, 2, 0]> (t)\nw0 = MatMul (q, k)\na = Softmax <axis = -1> (w0)\n"
    "v = MatMul (a, q)\nb = Transpose <perm = [1, 0, 2]> (v)\ny = Flatten (b)",
    "the first row": FLAT + ints("z", 0) + "r = Gather <axis = 0> (f, z)\ny = Sub (f, r)",
    "a recurrence over rows": ints("s", 0, 3, 36)
    + "t = Reshape (x, s)\n"
    + "W = Constant <value_floats = [0.1]> ()\nws = Constant <value = int64[3] {1, 4, 36}> ()\n"
    + "Wx = Expand (W, ws)\nrs = Constant <value = int64[3] {1, 4, 4}> ()\nRx = Expand (W, rs)\n"
    + "h = RNN <hidden_size = 4> (t, Wx, Rx)\ny = Flatten (h)",
    "an If": FLAT
    + "m = ReduceMax <keepdims = 0> (x)\nb = Greater (m, limit)\n"
    "y = If (b) <then_branch = a () => (float[M, K] p) { p = Div (f, three) }, "
    "else_branch = b () => (float[M, K] q) { q = Identity (f) }>",
    "after what is not understood": "u = tests.Own (x)\nm = ReduceMax <keepdims = 0> (u)\n"
    + FLAT
    + "y = Div (f, m)",
}


@pytest.mark.parametrize("body", MIXING.values(), ids=MIXING)
def test_what_takes_rows_together_is_known(body):
    assert isinstance(verdict(body), Mixed), verdict(body)


APART = {
    "a convolution": "h = Conv <pads = [1, 1, 1, 1]> (x, w)\nr = Relu (h)\n"
    "p = GlobalAveragePool (r)\ny = Flatten (p)",
    "a dense layer": FLAT + "y = MatMul (f, fc)",
    "softmax of old": (FLAT + "y = Softmax (f)", {"opset": 11}),
    "largest of each row": FLAT
    + "m = ReduceMax <axes = [1, 2, 3], keepdims = 1> (x)\nd = Div (x, m)\ny = Flatten (d)",
    "a length, read from the shape": FLAT
    + "n = Shape <start = 1> (x)\nk = ReduceProd <keepdims = 0> (n)\nl = Cast <to = 1> (k)\n"
    "y = Div (f, l)",
    "a shape, worked out": "n = Shape <end = 1> (x)\n"
    + ints("r", -1)
    + "s = Concat <axis = 0> (n, r)\ny = Reshape (x, s)",
    "windows in the batch": ints("s", -1, 3, 2, 3, 2, 3)
    + "a = Reshape (x, s)\nb = Transpose <perm = [0, 2, 4, 1, 3, 5]> (a)\n"
    + ints("t", -1, 27)
    + "c0 = Reshape (b, t)\nd = Softmax <axis = -1> (c0)\n"
    + ints("u", -1, 2, 2, 3, 3, 3)
    + "e = Reshape (d, u)\nh = Transpose <perm = [0, 3, 1, 4, 2, 5]> (e)\n"
    + ints("v", -1, 108)
    + "y = Reshape (h, v)",
    "attention in each row": ints("s", 0, 3, 36)
    + "q = Reshape (x, s)\nk = Transpose <perm = [0, 2, 1]> (q)\nw0 = MatMul (q, k)\n"
    "a = Softmax <axis = -1> (w0)\nv = MatMul (a, q)\ny = Flatten (v)",
    "batch second": "t = Transpose <perm = [1, 0, 2, 3]> (x)\n"
    "m = ReduceMean <axes = [0, 2, 3], keepdims = 0> (t)\ny = Mul (m, m)"
    + "",
    "both ways at once": "r = Concat <axis = 0> (x, x)\nf = Flatten (r)\ng0 = MatMul (f, fc)\n"
    "p, q = Split <axis = 0> (g0)\ny = Add (p, q)",
    "a branch that is always run": FLAT
    + "n = Shape <start = 1, end = 2> (x)\n"
    + ints("z", 3)
    + "b = Equal (n, z)\n"
    "y = If (b) <then_branch = a () => (float[M, K] p) { p = Div (f, three) }, "
    "else_branch = b () => (float[M, K] q) { q = Softmax <axis = 0> (f) }>",
    "training that is not read": FLAT
    + "m = ReduceMax <keepdims = 0> (x)\nd = Div (f, m)\ny = MatMul (f, fc)",
    "a size, read from the shape": ints("z", 0)
    + "n = Shape <end = 2> (x)\n"
    + ints("g0", 12, 12)
    + 's = Concat <axis = 0> (n, g0)\nr = Resize <mode = "linear"> (x, , , s)\ny = Flatten (r)',
}


@pytest.mark.parametrize("body", APART.values(), ids=APART)
def test_rows_that_are_kept_apart_are_proven(body):
    body, options = body if isinstance(body, tuple) else (body, {})
    assert isinstance(verdict(body, **options), Rows), verdict(body, **options)


UNPROVEN = {
    "an operator of one's own": "u = tests.Own (x)\ny = Flatten (u)",
    "the number of rows": FLAT
    + "n = Shape <end = 1> (x)\nk = Cast <to = 1> (n)\ny = Div (f, k)",
    "a constant for every row": (FLAT + "h = MatMul (f, fc)\ny = Add (h, c)", {"rows": 4}),
    "noise": FLAT + "n = RandomNormalLike (f)\ny = Add (f, n)",
    "places in the batch": FLAT
    + "n = Shape <end = 1> (x)\nz = Constant <value = int64 {0}> ()\n"
    "o = Constant <value = int64 {1}> ()\nk = Squeeze (n)\nr = Range (z, k, o)\n"
    "i = Cast <to = 1> (r)\n" + ints("l", 1) + "j = Unsqueeze (i, l)\ny = Add (f, j)",
}


@pytest.mark.parametrize("body", UNPROVEN.values(), ids=UNPROVEN)
def test_what_is_not_understood_is_not_proven(body):
    body, options = body if isinstance(body, tuple) else (body, {})
    assert isinstance(verdict(body, **options), Lost), verdict(body, **options)
