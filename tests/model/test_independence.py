"""Whether rows of a batch mix: the proof from the graph, the check on real jobs, fixed batches."""

from __future__ import annotations

import json
import pickle

import models
import numpy as np
import onnx
import pytest
from onnx import helper, parser

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.model import Apart, Lost, Mixed, rows_apart
from onnx_geed.run import row_check as rowcheck

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
    return (
        f"{name} = Constant <value = int64[{len(values)}] {{{', '.join(map(str, values))}}}> ()\n"
    )


MIXING = {
    "largest of all": FLAT + "m = ReduceMax <keepdims = 0> (x)\ny = Div (f, m)",
    "largest, clipped": FLAT + "m = ReduceMax <keepdims = 0> (x)\nk = Max (m, one)\ny = Div (f, k)",
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
    "a sum over rows, by Einsum": FLAT + 's = Einsum <equation = "ik->k"> (f)\ny = Sub (f, s)',
    "dynamic quantisation": FLAT
    + "q, s, z = DynamicQuantizeLinear (f)\ny = DequantizeLinear (q, s, z)",
    "training": FLAT + "h = Conv <pads = [1, 1, 1, 1]> (x, w)\n"
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
    "an If": FLAT + "m = ReduceMax <keepdims = 0> (x)\nb = Greater (m, limit)\n"
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
    "m = ReduceMean <axes = [0, 2, 3], keepdims = 0> (t)\ny = Mul (m, m)" + "",
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
    assert isinstance(verdict(body, **options), Apart), verdict(body, **options)


UNPROVEN = {
    "an operator of one's own": "u = tests.Own (x)\ny = Flatten (u)",
    "the number of rows": FLAT + "n = Shape <end = 1> (x)\nk = Cast <to = 1> (n)\ny = Div (f, k)",
    "a constant for every row": (FLAT + "h = MatMul (f, fc)\ny = Add (h, c)", {"rows": 4}),
    "noise": FLAT + "n = RandomNormalLike (f)\ny = Add (f, n)",
    "a branch for many rows": FLAT
    + "n = Shape <end = 1> (x)\n"
    + ints("l", 5)
    + "b0 = Greater (n, l)\nb = Squeeze (b0)\n"
    "y = If (b) <then_branch = a () => (float[M, K] p) { p = Div (f, three) }, "
    "else_branch = b () => (float[M, K] q) { q = Identity (f) }>",
    "at most five rows": FLAT
    + "n = Shape <end = 1> (x)\n"
    + ints("l", 5)
    + "k = Min (n, l)\nc0 = Cast <to = 1> (k)\ny = Div (f, c0)",
    "places in the batch": FLAT + "n = Shape <end = 1> (x)\nz = Constant <value = int64 {0}> ()\n"
    "o = Constant <value = int64 {1}> ()\nk = Squeeze (n)\nr = Range (z, k, o)\n"
    "i = Cast <to = 1> (r)\n" + ints("l", 1) + "j = Unsqueeze (i, l)\ny = Add (f, j)",
}


@pytest.mark.parametrize("body", UNPROVEN.values(), ids=UNPROVEN)
def test_what_is_not_understood_is_not_proven(body):
    body, options = body if isinstance(body, tuple) else (body, {})
    assert isinstance(verdict(body, **options), Lost), verdict(body, **options)


# ------------------------------------------------------------------------------------------------
# Whole measurements
# ------------------------------------------------------------------------------------------------

TAIL = "g0 = MatMul (n, fc)\n"
GLOBAL = (
    FLAT + "m = ReduceMax <keepdims = 0> (x)\nb = Greater (m, limit)\nt = Div (f, three)\n"
    "n = Where (b, t, f)\ny = MatMul (n, fc)"
)
CLAMPED = (
    FLAT + "m = ReduceMax <keepdims = 0> (x)\nk = Max (m, one)\nn = Div (f, k)\ny = MatMul (n, fc)"
)


def in_a_loop():
    """The same as GLOBAL inside a Loop of one turn, which no rule looks into.

    Known: a row is divided by three if any row of its batch exceeds 1.5.
    """
    model = graph(FLAT + "y = MatMul (f, fc)")
    body = parser.parse_graph(
        "turn (int64 i, bool go, float[M, K] now) => (bool on, float[M, K] next) {\n"
        "on = Identity (go)\nm = ReduceMax <keepdims = 0> (now)\nb = Greater (m, limit)\n"
        "t = Div (now, three)\nnext = Where (b, t, now)\n}"
    )
    loop = helper.make_node("Loop", ["turns", "yes", "f"], ["n"], body=body)
    model.graph.node.insert(1, loop)
    model.graph.node[-1].input[0] = "n"
    model.graph.initializer.extend(
        [
            models.weights("turns", 1, np.int64),
            models.weights("yes", True, np.bool_),
            models.weights("limit", 1.5),
            models.weights("three", 3.0),
        ]
    )
    return model


def data(count=24, bright=(), seed=0):
    """Images in [0, 1), of which some have one pixel of 2."""
    images = np.random.default_rng(seed).random((count, *SIZE)).astype(np.float32)
    for i in bright:
        images[i, 0, 1, 2] = 2
    return images


def drawn(count, seed=0):
    """Positions of D by sample."""
    return np.argsort(np.random.default_rng(seed).permutation(count))


def measured(tmp_path, model, images, group="C4", **options):
    path = tmp_path / "model.onnx"
    if not path.exists():
        models.save(model, path)
    options = {"samples": 20, "norm_samples": 22, "measures": ["output-l2@y"], **options}
    return geed.measure(path, images, group, provider="cpu", **options)


def values(result):
    return np.array([m["deviations"] for m in result["measurements"]])


@pytest.mark.parametrize("body", [GLOBAL, CLAMPED, MIXING["an If"]])
def test_rows_that_mix_are_measured_as_they_are_alone(tmp_path, body):
    images = data(bright=(5, 11))
    result = measured(tmp_path, graph(body), images)
    alone = measured(tmp_path, None, images, batch_size=1)
    np.testing.assert_array_equal(values(result), values(alone))
    assert result["runtime"]["batch_size"] == 1
    assert any(n.startswith("run one by one, since in a batch ") for n in result["notes"])


def test_a_model_that_is_another_for_many_rows_is_measured_as_of_one(tmp_path):
    images = data()
    result = measured(tmp_path, graph(UNPROVEN["a branch for many rows"]), images, batch_size=16)
    alone = measured(tmp_path, None, images, batch_size=1)
    np.testing.assert_array_equal(values(result), values(alone))


@pytest.mark.parametrize("rows", [4, 16])
def test_a_proof_that_leans_on_the_number_of_rows_is_tried_in_the_first_run(tmp_path, rows):
    body = UNPROVEN["a branch for many rows"].replace("Greater", "Equal")
    model = graph(body.replace("{5}", f"{{{rows}}}"))
    assert rows_apart(model, ["y"], {"x": (None, *SIZE)}) == Apart(1, by_count=True)
    with pytest.raises(GeedError, match="rows of a batch are not independent; run them one by"):
        measured(tmp_path, model, data(), batch_size=rows)
    other = measured(tmp_path, None, data(), batch_size=rows + 4)
    alone = measured(tmp_path, None, data(), batch_size=1)
    np.testing.assert_allclose(values(other), values(alone), rtol=1e-5)
    assert not any("independent" in note for note in other["notes"])


def another_for(rows):
    """A graph that mixes rows of batches of just that many."""
    body = UNPROVEN["a branch for many rows"].replace("Greater", "Equal")
    return graph(body.replace("{5}", f"{{{rows}}}"))


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize(
    ("group", "batch", "rows"),
    [("C4", 32, 16), ("C4", 64, 16), ("C8", 16, 16), ("C8", 40, 32), ("C4", 12, 8)],
)
def test_a_proof_that_leans_on_the_number_of_rows_is_tried_for_each(
    tmp_path, engine, group, batch, rows
):
    """20 orbits in such batches: the last one has fewer rows, and is run as another model."""
    images = data()
    images[3] += 5
    options = {"samples": 20, "norm_samples": 0, "batch_size": batch, "engine": engine}
    order = int(group[1:])
    runs = {min(batch // order * order, 20 * order - at) for at in range(0, 20 * order, batch)}
    model = another_for(rows)
    if rows in runs:
        with pytest.raises(GeedError, match=r"sample \d+.* rows of a batch are not independent"):
            measured(tmp_path, model, images, group, **options)
    else:
        result = measured(tmp_path, model, images, group, **options)
        options |= {"batch_size": 1, "engine": "kernels"}
        alone = measured(tmp_path, None, images, group, **options)
        np.testing.assert_allclose(values(result), values(alone), rtol=1e-4)


def test_pieces_of_an_orbit_are_tried_for_each_number_of_rows(tmp_path):
    """Eight elements in runs of five and three."""
    options = {"samples": 6, "norm_samples": 0, "batch_size": 5}
    with pytest.raises(GeedError, match="rows of a batch are not independent"):
        measured(tmp_path, another_for(3), data(), "C8", **options)


def test_each_number_of_rows_is_tried_once():
    check = rowcheck.RowCheck({}, 100, 0, once=True, most=8)
    rows = np.zeros((20, 2), np.float32)
    wanted = [check.wants([p], 100, rows[:n]) for p, n in enumerate((8, 8, 16, 4, 8, 4, 12, 1, 20))]
    assert wanted == [True, False, False, True, False, False, False, False, False]
    again = pickle.loads(pickle.dumps(check))
    assert again.most == 8
    assert again.wants([7], 100, rows[:8])


def test_a_compiled_file_says_that_it_runs_no_row_again(tmp_path):
    path = models.save(in_a_loop(), tmp_path / "model.onnx")
    for batch in (None, 1):
        out = tmp_path / f"{batch}.onnx"
        described = geed.compile_measurement(
            path, "C4", out, measures=["output-l2@y"], batch_size=batch
        )
        (note,) = [n for n in described["notes"] if "independent" in n]
        assert "Loop 'n' is not understood" in note
        assert "when the file was made" in note
        assert "give it one sample at a time" in note
        assert not any("to check it" in n for n in described["notes"])
    proven = models.save(graph(FLAT + "y = MatMul (f, fc)"), tmp_path / "proven.onnx")
    described = geed.compile_measurement(
        proven, "C4", tmp_path / "p.onnx", measures=["output-l2@y"]
    )
    assert not any("independent" in n for n in described["notes"])


def test_a_proof_without_the_number_of_rows_is_not_tried(tmp_path):
    assert verdict(FLAT + "y = MatMul (f, fc)") == Apart(1)


def test_what_is_proven_is_run_in_batches_without_a_word(tmp_path):
    result = measured(tmp_path, graph(FLAT + "y = MatMul (f, fc)"), data())
    assert result["runtime"]["batch_size"] > 1
    assert not any("rows" in note for note in result["notes"])


def test_a_proof_that_is_wrong_is_seen_in_the_first_run(tmp_path, monkeypatch):
    from onnx_geed.run import trial

    model, images = graph(GLOBAL), data(bright=(5, 11))
    monkeypatch.setattr(trial, "rows_apart", lambda *a, **k: Apart(1))
    with pytest.raises(GeedError, match="rows of a batch are not independent; run them one by"):
        measured(tmp_path, model, images)
    alone = measured(tmp_path, None, images, batch_size=1)
    assert np.isfinite(values(alone)).all()


def test_an_unproven_model_whose_trial_shows_it_is_run_one_by_one(tmp_path):
    images = data()
    images[np.random.default_rng(0).permutation(24)[2], 0, 1, 2] = 2
    options = {"measures": ["latent-l2@y"]}
    result = measured(tmp_path, in_a_loop(), images, **options)
    assert any(n.startswith("run one by one, since in a batch ") for n in result["notes"])
    alone = measured(tmp_path, None, images, batch_size=1, **options)
    np.testing.assert_array_equal(values(result), values(alone))


@pytest.mark.parametrize("place", [3, 7, 13, 19, 21])
def test_an_unproven_model_is_stopped_with_the_sample(tmp_path, place):
    """Wherever the extreme sample stands: in D, or among the further points of M."""
    images = data()
    images[np.random.default_rng(0).permutation(24)[place], 0, 1, 2] = 2
    options = {"measures": ["latent-l2@y"], "batch_size": 12}
    with pytest.raises(GeedError, match=r"sample \d+.*changes with its batch by .*--batch-size 1"):
        measured(tmp_path, in_a_loop(), images, **options)
    options["batch_size"] = 1
    right = measured(tmp_path, None, images, **options)
    twin = tmp_path / "twin"
    twin.mkdir()
    known = measured(twin, graph(GLOBAL), images, **options)
    np.testing.assert_allclose(values(right), values(known), rtol=1e-6)


def test_an_unproven_model_that_keeps_rows_apart_is_measured_and_said_so(tmp_path):
    result = measured(tmp_path, in_a_loop(), data())
    assert result["runtime"]["batch_size"] > 1
    (note,) = [n for n in result["notes"] if "independent" in n]
    assert "Loop 'n' is not understood" in note
    plain = tmp_path / "plain"
    plain.mkdir()
    known = measured(plain, graph(GLOBAL), data())
    np.testing.assert_allclose(values(result), values(known), rtol=1e-4)


def test_every_way_to_run_a_model_checks_it(tmp_path):
    images = data(bright=(3,))
    path = models.save(in_a_loop(), tmp_path / "model.onnx")
    told = r"sample \d+.* not independent; run them one by one with --batch-size 1"
    options = {"provider": "cpu", "samples": 24, "measures": ["output-l2@y"]}
    with pytest.raises(GeedError, match=told + " --engine kernels"):
        geed.measure(path, images, "C4", engine="graph", **options)
    with pytest.raises(GeedError, match=told):
        geed.write_cache(path, images, "C4", tmp_path / "cache.geed", **options)
    with pytest.raises(GeedError, match=told):
        geed.measure(path, images, "C4", precision=0.001, **options)


def test_the_graph_engine_runs_every_row_again_where_they_are_known_to_mix(tmp_path):
    result = measured(tmp_path, graph(GLOBAL), data(), engine="graph")
    kernels = measured(tmp_path, None, data())
    np.testing.assert_allclose(values(result), values(kernels), rtol=1e-5)
    with pytest.raises(GeedError, match="--engine kernels"):
        measured(tmp_path, None, data(bright=(7,)), engine="graph")


def test_the_most_extreme_rows_are_always_checked():
    check = rowcheck.RowCheck({}, 1000, 0)
    rows = np.full((4, 2), 0.5, np.float32)
    assert check.wants([0], 1000, rows)
    quiet = [p for p in range(100, 400) if not check.wants([p], 1000, rows)]
    assert len(quiet) > 290
    rows[2, 0] = 0.6
    assert check.wants([quiet[0]], 1000, rows)
    assert not check.wants([quiet[0]], 1000, rows)
    assert check.wants([999], 1000, rows)


def test_rows_that_are_extreme_in_another_moved_input_are_checked_too():
    check = rowcheck.RowCheck({}, 1000, 0)
    rows, beside = np.full((16, 2), 0.5, np.float32), np.full((16, 3), 0.5, np.float32)
    assert check.wants([0], 1000, rows, lambda: [beside])
    every = range(100, 400)
    quiet = next(p for p in every if not check.wants([p], 1000, rows, lambda: [beside]))
    beside[[5, 9], 0] = 0.6, -0.2
    assert check.wants([quiet], 1000, rows, lambda: [beside])
    again = []

    def run(i):
        again.append(i)
        return {"y": rows[i : i + 1]}

    check.compare(None, rows, {"y": rows}, run, str, {}, [beside])
    assert {5, 9} <= {*again}


# a batch of a fixed size

PLACED = FLAT + "h = MatMul (f, fc)\ny = Add (h, c)"
CUT = ints("z", 0) + ints("four", 4) + FLAT + "k = Slice (f, z, four, z)\ny = MatMul (k, fc)"


def test_constants_that_differ_from_row_to_row_are_read_in_the_first(tmp_path):
    images = data(9)
    result = measured(tmp_path, graph(PLACED, batch=4), images, samples=6)
    weights = {
        t.name: onnx.numpy_helper.to_array(t) for t in graph(PLACED, batch=4).graph.initializer
    }
    plain = tmp_path / "plain"
    plain.mkdir()
    free = graph(PLACED)
    for tensor in free.graph.initializer:
        if tensor.name == "c":
            tensor.CopyFrom(models.weights("c", weights["c"][:1]))
    known = measured(plain, free, images, samples=6)
    np.testing.assert_allclose(values(result), values(known), rtol=1e-5)
    assert result["runtime"]["batch_size"] == 1
    (note,) = [n for n in result["notes"] if "copied into all rows" in n]
    assert "takes exactly 4 rows" in note
    assert "'c' has a value of its own for every row" in note


def test_rows_along_another_axis_are_told_from_rows_that_are_not_found():
    turned = FLAT + "m = MatMul (f, fc)\ny = Transpose (m)"
    for rows in (None, 4):  # (4, 4), of which lengths do not tell
        assert verdict(turned, rows=rows, batch=rows or "N").elsewhere == "y"
    unknown = FLAT + "y = tests.Own (f)"
    assert not verdict(unknown).elsewhere


def test_a_pinned_batch_whose_rows_lie_along_another_axis_is_refused(tmp_path, monkeypatch):
    """Also where the model cannot be opened with its batch free, and lengths are all there is."""
    from onnx_geed.run import trial

    monkeypatch.setattr(trial, "free_batch_axis", lambda model, *a, **k: model)
    model = graph(FLAT + "m = MatMul (f, fc)\ny = Transpose (m)", batch=4)
    with pytest.raises(GeedError, match=r"'y' has shape \(4, 4\) .* axis 0 is not the batch"):
        measured(tmp_path, model, data(9), samples=6)


def test_a_fixed_batch_that_keeps_rows_apart_is_filled_up(tmp_path):
    images = data(9)
    result = measured(tmp_path, graph(CUT, batch=4), images, samples=6)
    plain = tmp_path / "plain"
    plain.mkdir()
    known = measured(plain, graph(FLAT + "y = MatMul (f, fc)"), images, samples=6)
    np.testing.assert_allclose(values(result), values(known), rtol=1e-5)
    assert result["runtime"]["batch_size"] == 4
    assert any("takes exactly 4 rows" in n and "filled up" in n for n in result["notes"])


def test_a_fixed_batch_that_is_not_declared_is_found(tmp_path):
    images = data(9)
    result = measured(tmp_path, graph(PLACED), images, samples=6)
    declared = tmp_path / "declared"
    declared.mkdir()
    known = measured(declared, graph(PLACED, batch=4), images, samples=6)
    np.testing.assert_array_equal(values(result), values(known))


def test_a_fixed_batch_has_no_graph_and_a_cache(tmp_path):
    images = data(9)
    path = models.save(graph(PLACED, batch=4), tmp_path / "model.onnx")
    with pytest.raises(GeedError, match="--engine graph"):
        measured(tmp_path, None, images, samples=6, engine="graph")
    with pytest.raises(GeedError, match=r"4 rows.* free batch axis"):
        geed.compile_measurement(path, "C4", tmp_path / "c.onnx", data=images)
    options = {"samples": 6, "norm_samples": 9, "measures": ["latent-l2@y"], "provider": "cpu"}
    live = geed.measure(path, images, "C4", references=True, untrained=True, **options)
    geed.write_cache(path, images, "C4", tmp_path / "c.geed", **options)
    cached = geed.measure_cache(tmp_path / "c.geed")
    a, b = (result["measurements"][0]["value"] for result in (live, cached))
    assert a == b
    assert json.dumps(live)


def test_other_inputs_of_a_fixed_batch_are_filled_up_too(tmp_path):
    text = HEAD.format(opset=17) + (
        "g (float[4, 3, 6, 6] x, float[4, 4] e) => (float[4, 4] y) {\n"
        + FLAT
        + "h = MatMul (f, fc)\nk = Add (h, c)\ny = Mul (k, e)\n}"
    )
    model = parser.parse_model(text)
    stored = {t.name: t for t in graph(PLACED).graph.initializer}
    model.graph.initializer.extend([stored["fc"], stored["c"]])
    images, each = data(6), np.random.default_rng(1).random((6, 4)).astype(np.float32)
    result = measured(tmp_path, model, images, samples=6, feed={"e": each})
    c, fc = (onnx.numpy_helper.to_array(stored[n]) for n in ("c", "fc"))
    wanted = []
    for i in result["data"]["indices"][:6]:
        turns = [np.rot90(images[i], k, axes=(1, 2)) for k in range(4)]
        y = np.stack([(t.reshape(1, -1) @ fc + c[:1])[0] * each[i] for t in turns])
        wanted.append(y)
    alone = measured(tmp_path, None, images, samples=6, feed={"e": each}, batch_size=1)
    np.testing.assert_array_equal(values(result), values(alone))
    spread = np.array([np.linalg.norm(y - y.mean(axis=0), axis=1) for y in wanted])
    np.testing.assert_allclose(values(result)[0], spread, rtol=1e-4)


def test_a_tensor_of_no_values_is_refused_by_its_name(tmp_path):
    body = ints("a", 0) + ints("l", 3) + "z = Slice (x, a, a, l)\ny = Flatten (x)"
    model = graph(body, outputs="float[M, K] y, float[M, 3, 6, 0] z")
    options = {"output": "z", "layout": {"z": "NCHW"}, "samples": 2, "norm_samples": 2}
    for more in (
        {"measures": ["output-l2@z"]},
        {"measures": ["unexplained@z"], "output_action": {"z": "fit:linear"}},
    ):
        with pytest.raises(GeedError, match="z holds no values, its shape is"):
            measured(tmp_path, model, data(), **options, **more)


def test_an_index_that_is_made_of_the_number_of_rows_is_not_said_to_depend_on_data():
    """A flattened batch read by row · length + place, as newer exporters write a strided view."""
    index = (
        ints("first", 0)
        + "s = Shape (x)\nn = Gather (s, first)\nc = Squeeze (n)\n"
        + "zero = Constant <value = int64 {0}> ()\nstep = Constant <value = int64 {1}> ()\n"
        + "long = Constant <value = int64 {108}> ()\n"
        + ints("last", 1)
        + "r = Range (zero, c, step)\nrow = Mul (r, long)\ncolumn = Unsqueeze (row, last)\n"
    )
    places = f"place = Constant <value = int64[1,108] {{{', '.join(map(str, range(108)))}}}> ()\n"
    flat = ints("all", -1) + "v = Reshape (x, all)\n"
    found = verdict(index + places + flat + "i = Add (column, place)\ny = Gather (v, i)")
    assert found == Lost("Gather 'y': which entries it takes depends on the number of rows")
    chosen = "i = ArgMax <axis = 1, keepdims = 0> (f)\ny = Gather <axis = 1> (f, i)"
    assert verdict(FLAT + chosen) == Lost("Gather 'y': which entries it takes depends on the data")
