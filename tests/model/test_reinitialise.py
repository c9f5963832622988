"""The same network untrained: what counts as a weight, what is drawn, what it measures."""

import json
import math
from importlib.resources import files
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import running
from click.testing import CliRunner
from models import FLOAT, build, conv, integers, node, weights
from onnx import TensorProto, helper, numpy_helper

from onnx_geed import GeedError, load_model, measure
from onnx_geed.cli import cli
from onnx_geed.model import redraw
from onnx_geed.results import diagnose

DEMO = Path(str(files("onnx_geed.demo")))
RNG = np.random.default_rng(0)


@pytest.fixture
def read(tmp_path):
    def load(proto, name="net"):
        return load_model(models.save(proto, tmp_path / f"{name}.onnx"))

    return load


def values(model):
    """Constants by name, wherever they are stored."""
    redrawn = {i.name: numpy_helper.to_array(i) for i in model.proto.graph.initializer}
    for n in model.proto.graph.node:
        result = [numpy_helper.to_array(a.t) for a in n.attribute if a.name == "value"]
        redrawn |= dict(zip(n.output, result, strict=False))
    return redrawn


def many(dtype=np.float32):
    """Every kind of constant there is a rule for."""
    draw = RNG.standard_normal
    return build(
        [
            node("Mul", "x mean", "scaled"),
            conv("scaled", "w1", "c1"),
            node("BatchNormalization", "c1 gamma beta running_mean running_var", "n1"),
            node("PRelu", "n1 slope", "a1"),
            node("ConvTranspose", "a1 w2 b2", "c2"),
            node("Reshape", "c2 shape", "rows"),
            node("Transpose", "w3", "w3t", perm=[1, 0]),
            node("MatMul", "rows w3t", "m3"),
            node("Add", "m3 b3", "s3"),
            node("LayerNormalization", "s3 scale shift", "n3"),
            node("Mul", "n3 layer_scale", "l3"),
            node("Mul", "l3 single", "k3"),
            node("Add", "k3 table", "t3"),
            node("Gemm", "t3 w4 b4", "y", transB=1),
        ],
        [
            weights("mean", draw((1, 3, 1, 1))),
            weights("w1", draw((4, 3, 3, 3))),
            weights("gamma", draw(4)),
            weights("beta", draw(4)),
            weights("running_mean", draw(4)),
            weights("running_var", draw(4) ** 2),
            weights("slope", draw((4, 1, 1))),
            weights("w2", draw((4, 2, 1, 1))),
            weights("b2", draw(2)),
            integers("shape", [-1, 32]),
            weights("w3", draw((6, 32))),
            weights("b3", draw(6)),
            weights("scale", draw(6)),
            weights("shift", draw(6)),
            weights("layer_scale", draw(6)),
            weights("single", 3.0),
            weights("table", draw((2, 3)).reshape(1, 6) * np.ones((2, 6))),
            weights("w4", draw((5, 6))),
            weights("b4", draw(5)),
        ],
        [("x", FLOAT, ["N", 3, 4, 4])],
        [("y", FLOAT, ["N", 5])],
    )


def test_every_constant_is_told_by_what_reads_it(read):
    redrawn = redraw(read(many()))
    assert redrawn.drawn == ("w1", "w2", "w3", "w4")
    zero = ("beta", "running_mean", "b2", "b3", "shift", "b4")
    one = ("gamma", "running_var", "scale", "layer_scale")
    assert set(redrawn.reset) == {*zero, *one, "slope"}
    assert set(redrawn.kept) == {"mean", "table"}
    old, new = values(read(many())), values(redrawn.model)
    for name in (*zero, *one, "slope"):
        expected = 0.25 if name == "slope" else float(name in one)
        np.testing.assert_array_equal(new[name], np.full(old[name].shape, expected))
    for name in ("shape", "single"):
        np.testing.assert_array_equal(new[name], old[name])


def test_kept_constants_are_bit_for_bit_what_they_were(read):
    model = read(many())
    new = values(redraw(model).model)
    for name in ("mean", "table", "shape", "single"):
        np.testing.assert_array_equal(new[name], values(model)[name])


def test_weights_keep_shape_and_dtype_and_stay_within_the_bound_of_their_fan_in(read):
    model = read(many())
    new = values(redraw(model).model)
    fan_in = {"w1": 27, "w2": 2, "w3": 32, "w4": 6}
    for name, fan in fan_in.items():
        assert new[name].shape == values(model)[name].shape
        assert new[name].dtype == np.float32
        assert np.abs(new[name]).max() <= 1 / np.sqrt(fan)
        assert np.abs(new[name]).max() > 0.7 / np.sqrt(fan)


def test_a_large_weight_is_uniform(read):
    proto = build(
        [node("Flatten", "x", "flat"), node("Gemm", "flat w", "y")],
        [weights("w", np.zeros((400, 100)))],
        [("x", FLOAT, ["N", 1, 20, 20])],
        [("y", FLOAT, ["N", 100])],
    )
    w = values(redraw(read(proto)).model)["w"] * 20
    assert w.mean() == pytest.approx(0, abs=0.01)
    assert w.std() == pytest.approx(1 / np.sqrt(3), abs=0.01)
    assert np.quantile(w, 0.25) == pytest.approx(-0.5, abs=0.02)


def test_a_seed_repeats_and_another_differs_and_the_model_is_left_alone(read):
    model = read(models.random_cnn(3))
    before = model.proto.SerializeToString()
    one, same, other = (values(redraw(model, seed).model) for seed in (1, 1, 2))
    assert model.proto.SerializeToString() == before
    for name in redraw(model).drawn:
        np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])
        assert not np.array_equal(one[name], values(model)[name])


def shared():
    return build(
        [
            conv("x", "w", "c1"),
            node("Relu", "c1", "a1"),
            conv("a1", "w", "c2"),
            node("GlobalAveragePool", "c2", "pooled"),
            node("Flatten", "pooled", "latent"),
            node("Gemm", "latent head", "y"),
        ],
        [weights("w", RNG.standard_normal((3, 3, 3, 3))), weights("head", np.ones((3, 2)))],
        [("x", FLOAT, ["N", 3, 6, 6])],
        [("y", FLOAT, ["N", 2])],
    )


def spreads_on(x):
    def run(model, names):
        return running.session(running.exposed(model.proto, names)).run(None, {"x": x})

    return run


def test_a_shared_weight_stays_shared_and_is_levelled_where_it_is_used_first(read):
    x = running.images((3, 6, 6), 8)
    redrawn = redraw(read(shared())).levelled(spreads_on(x))
    assert [i.name for i in redrawn.model.proto.graph.initializer] == ["w", "head"]
    first, second = running.run(redrawn.model.proto, x, ["c1", "c2"])
    assert first.std() == pytest.approx(1, rel=1e-4)
    assert abs(second.std() - 1) > 0.01


def test_every_layer_is_levelled_to_a_deviation_of_one(read):
    proto = models.random_cnn(0, (12, 12), blocks=3)
    x = running.images((3, 12, 12), 8)
    redrawn = redraw(read(proto)).levelled(spreads_on(x))
    outputs = [n.output[0] for n in redrawn.model.proto.graph.node if n.op_type in ("Conv", "Gemm")]
    assert len(outputs) > 6
    for y in running.run(redrawn.model.proto, x, outputs):
        assert y.std() == pytest.approx(1, rel=1e-3)
    plain = running.run(redraw(read(proto)).model.proto, x, outputs)
    assert max(abs(y.std() - 1) for y in plain) > 0.5


def test_a_deep_network_without_normalisation_lives(read):
    deep = 30
    names = ["x", *(f"a{k}" for k in range(deep))]
    nodes = []
    for k in range(deep):
        nodes += [conv(names[k], f"w{k}", f"c{k}"), node("Relu", f"c{k}", f"a{k}")]
    nodes += [node("GlobalAveragePool", names[-1], "p"), node("Flatten", "p", "latent")]
    proto = build(
        [*nodes, node("Gemm", "latent head", "y")],
        [weights(f"w{k}", np.zeros((8, 8 if k else 1, 3, 3))) for k in range(deep)]
        + [weights("head", np.zeros((8, 3)))],
        [("x", FLOAT, ["N", 1, 8, 8])],
        [("y", FLOAT, ["N", 3])],
    )
    x = running.images((1, 8, 8), 8)
    drawn = redraw(read(proto))
    (dead,) = running.run(drawn.model.proto, x, ["c29"])
    (alive,) = running.run(drawn.levelled(spreads_on(x)).model.proto, x, ["c29"])
    assert dead.std() < 1e-8
    assert alive.std() == pytest.approx(1, rel=1e-3)


def test_half_precision_and_constant_nodes_are_drawn_too(read):
    redrawn = redraw(read(models.fp16()))
    assert {values(redrawn.model)[n].dtype for n in redrawn.drawn} == {np.dtype(np.float16)}
    proto = models.random_cnn(0)
    stored = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    result = [onnx.helper.make_node("Constant", [], [i.name], value=i) for i in stored]
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*result, *nodes])
    inside = redraw(read(proto, "nodes"))
    assert set(inside.drawn) == set(redraw(read(models.random_cnn(0), "plain")).drawn)


@pytest.mark.parametrize(
    ("name", "told"), [("qdq_int8", "quantised"), ("token_ids", "untrained export")]
)
def test_what_cannot_be_drawn_anew_is_refused(read, name, told):
    with pytest.raises(GeedError, match=told):
        redraw(read(getattr(models, name)()))


def body_of(nodes, result, constants=(), inputs=()):
    infos = [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in inputs]
    outputs = [helper.make_tensor_value_info(n, kind, None) for n, kind in result]
    return helper.make_graph(nodes, "body", infos, outputs, constants)


def branching(*inner):
    """An If around a product with a weight, ``inner``, and an If inside that does the same."""
    deep = helper.make_node("If", ["true"], ["deep"])
    for key, name in (("then_branch", "w_then"), ("else_branch", "w_else")):
        product = node("MatMul", f"p {name}", name + "_product")
        body = body_of([product], [(product.output[0], FLOAT)], [weights(name, np.ones((4, 4)))])
        deep.attribute.append(helper.make_attribute(key, body))
    nodes = [*inner, node("MatMul", "a w_outer", "p"), deep]
    yes = body_of(nodes, [("deep", FLOAT)], [weights("w_outer", np.ones((4, 4)))])
    no = body_of([node("Identity", "a", "same")], [("same", FLOAT)])
    return helper.make_node("If", ["true"], ["b"], then_branch=yes, else_branch=no)


def looping():
    nodes = [node("MatMul", "now w_loop", "b_next"), node("Identity", "go", "go_on")]
    inputs = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("now", FLOAT, None)]
    result = [("go_on", TensorProto.BOOL), ("b_next", FLOAT)]
    body = body_of(nodes, result, [weights("w_loop", np.ones((4, 4)))], inputs)
    return helper.make_node("Loop", ["three", "true", "a"], ["b"], body=body)


def scanning():
    nodes = [node("MatMul", "row w_scan", "out")]
    body = body_of(
        nodes, [("out", FLOAT)], [weights("w_scan", np.ones((4, 4)))], [("row", FLOAT, None)]
    )
    return helper.make_node("Scan", ["a"], ["b"], body=body, num_scan_inputs=1)


def sparse_constant():
    tensor = helper.make_sparse_tensor(
        weights("w_sparse", np.ones(3)), integers("places", [0, 5, 10]), [4, 4]
    )
    return helper.make_node("Constant", [], ["w_sparse"], sparse_value=tensor)


def bfloat16():
    return helper.make_tensor("w_brief", TensorProto.BFLOAT16, [4, 4], np.ones(16))


# Nodes from a to b, both (N, 4), their constants, and which of those are kept.
OUT_OF_REACH = {
    "if": ([branching()], [], ("w_outer", "w_then", "w_else")),
    "loop": ([looping()], [], ("w_loop",)),
    "scan": ([scanning()], [], ("w_scan",)),
    "sparse": ([sparse_constant(), node("MatMul", "a w_sparse", "b")], [], ("w_sparse",)),
    "list": (
        [
            helper.make_node("Constant", [], ["numbers"], value_floats=[1.0, 2.0, 3.0, 4.0]),
            node("Mul", "a numbers", "b"),
        ],
        [],
        ("numbers",),
    ),
    "bfloat16": (
        [node("Cast", "w_brief", "w_cast", to=FLOAT), node("MatMul", "a w_cast", "b")],
        [bfloat16()],
        ("w_brief",),
    ),
}


def around(nodes, constants, width):
    """A dense layer to 4 numbers and one from there, around nodes from a to b."""
    held = [weights("w", RNG.standard_normal((width, 4))), weights("true", True, bool)]
    held += [weights("v", RNG.standard_normal((4, 3))), weights("three", 3, np.int64), *constants]
    read = {name for n in nodes for name in n.input} | {"w", "v", "true"}
    return build(
        [
            node("Flatten", "x", "f"),
            node("MatMul", "f w", "a"),
            *nodes,
            node("MatMul", "b v", "y"),
        ],
        [tensor for tensor in held if tensor.name in read],
        [("x", FLOAT, ["N", 1, math.isqrt(width), math.isqrt(width)])],
        [("y", FLOAT, ["N", 3])],
    )


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_weights_out_of_reach_are_kept_and_named_and_refused_where_they_are_most(
    tmp_path, read, name
):
    nodes, constants, kept = OUT_OF_REACH[name]
    redrawn = redraw(read(around(nodes, constants, 64)))
    assert redrawn.drawn == ("w", "v")
    assert set(redrawn.kept) == set(kept)
    path = models.save(around(nodes, constants, 64), tmp_path / "m.onnx")
    few = {"samples": 3, "norm_samples": 3, "latent": "a", "measures": ["latent-l2"]}
    x = running.images((1, 8, 8), 3)
    (note,) = [n for n in measure(path, x, "C4", untrained=True, **few)["notes"] if "kept" in n]
    assert all(constant in note for constant in kept)
    if len(kept) > 1:
        with pytest.raises(GeedError, match=f"3 constants cannot.*{kept[0]}.*untrained export"):
            redraw(read(around(nodes, constants, 4), "most"))


SMALL = [weights("w8", np.ones((4, 4)), np.int8), weights("step", np.float32(0.1))]
SPELT = [node("Cast", "w8", "whole", to=FLOAT), node("Mul", "whole step", "w_float")]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("DequantizeLinear", "w8 step", "w_float"), node("MatMul", "a w_float", "b")],
        [*SPELT, node("MatMul", "a w_float", "b")],
        [*SPELT, branching(node("MatMul", "a w_float", "unused"))],
        [branching(*SPELT, node("MatMul", "a w_float", "unused"))],
    ],
)
def test_integer_weights_are_refused_however_they_become_floats(read, nodes):
    proto = around(nodes, [], 64)
    proto.graph.initializer.extend(SMALL)
    with pytest.raises(GeedError, match=r"quantised \((DequantizeLinear|MatMul of w8)\)"):
        redraw(read(proto))


def test_integers_that_hide_or_shape_float_weights_are_no_weights(read):
    """The masks of MADE and PixelCNN, and shapes that a file keeps in small integers."""
    floats, mask = weights("wf", RNG.normal(size=(4, 4))), weights("m8", np.eye(4), np.uint8)
    masked = [
        node("Cast", "m8", "m", to=FLOAT),
        node("Mul", "wf m", "wm"),
        node("MatMul", "a wm", "b"),
    ]
    assert "wf" in redraw(read(around(masked, [floats, mask], 64))).kept
    flat, shape = weights("wf", RNG.normal(size=16)), weights("s8", np.array([4, 4]), np.uint8)
    shaped = [
        node("Cast", "s8", "s", to=TensorProto.INT64),
        node("Reshape", "wf s", "wr"),
        node("MatMul", "a wr", "b"),
    ]
    redraw(read(around(shaped, [flat, shape], 64)))
    # A scale for each channel makes weights of integers all the same.
    scale = weights("scale", RNG.random(4))
    scaled = [
        node("Cast", "w8", "whole", to=FLOAT),
        node("Mul", "whole scale", "ws"),
        node("MatMul", "a ws", "b"),
    ]
    with pytest.raises(GeedError, match="quantised"):
        redraw(read(around(scaled, [SMALL[0], scale], 64)))


def test_a_table_of_small_integers_is_kept_and_named(read):
    gather = [node("Gather", "w8 three", "row"), node("Cast", "row", "r", to=FLOAT)]
    proto = around([*gather, node("Add", "a r", "b")], SMALL[:1], 64)
    assert redraw(read(proto)).kept == ("w8",)


def test_the_reference_is_what_measuring_the_redrawn_network_gives(tmp_path, read):
    from onnx_geed.run import Options, prepare_run as prepare
    from onnx_geed.run.references import untrained

    net = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    x = running.images((3, 8, 8), 12)
    options = {"samples": 6, "norm_samples": 10, "seed": 3}
    result = measure(net, x, "C4", untrained=True, **options)
    other, notes = untrained(prepare(net, x, "C4", Options(**options)))
    assert notes == []
    onnx.save(other.task.network.graph.proto, tmp_path / "again.onnx")
    again = measure(tmp_path / "again.onnx", x, "C4", **options)
    plain = measure(net, x, "C4", **options)
    pairs = zip(result["measurements"], again["measurements"], plain["measurements"], strict=True)
    for ours, theirs, without in pairs:
        entry = ours["references"]["untrained"]
        assert entry["seed"] == 3
        assert entry["samples"] == 6
        for key in ("value", "ci95", "unnormalised", "normaliser"):
            if theirs[key] is not None:
                np.testing.assert_allclose(entry[key], theirs[key], rtol=1e-5, atol=1e-7)
        assert entry["value"] != ours["value"]
        assert ours | {"references": None} == without
    split = measure(net, x, "C4", untrained=True, memory="12kB", batch_size=4, **options)
    for ours, theirs in zip(split["measurements"], result["measurements"], strict=True):
        a, b = (r["references"]["untrained"]["value"] for r in (ours, theirs))
        assert a == pytest.approx(b, rel=1e-4)


def test_trained_symmetry_is_lost(tmp_path):
    net = models.save(models.c4_equivariant(9), tmp_path / "m.onnx")
    result = measure(net, running.images((1, 9, 9), 6), "C4", untrained=True)
    for record in result["measurements"]:
        m = record["normaliser"] or 1.0
        entry = record["references"]["untrained"]
        perfect = {"channel-cos": -1.0, "latent-cos": -1.0}.get(record["measure"], 0.0)
        scale = m if record["measure"] == "latent-cos" else 1.0
        own = entry["normaliser"] if record["measure"] == "latent-cos" else 1.0
        assert record["value"] * scale == pytest.approx(perfect, abs=1e-5)
        assert entry["value"] * own > perfect + 1e-5
    assert all(f.name != "not learned" for f in diagnose(result))


def test_a_network_no_better_than_untrained_is_told(tmp_path):
    # The demo's untrained network, against another draw of it.
    result = measure(
        DEMO / "digits_cnn_untrained.onnx", DEMO / "digits.npz", "C4", samples=10, untrained=True
    )
    names = {f.name for f in diagnose(result)}
    assert "not learned" in names
    assert "invariant untrained" not in names or result["measurements"][-1]["value"] < 0.02


def test_the_command_line_shows_it(tmp_path):
    net = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", running.images((3, 8, 8), 6))
    words = ["measure", str(net), "--data", str(tmp_path / "x.npy"), "--group", "C4"]
    out = tmp_path / "r.json"
    got = CliRunner().invoke(cli, [*words, "--untrained", "--out", str(out)])
    assert got.exit_code == 0, got.stderr
    head = next(line for line in got.stdout.splitlines() if line.startswith("references"))
    assert head.split() == ["references", "layer", "value", "untrained"]
    result = json.loads(out.read_text())
    assert all(set(m["references"]) == {"untrained"} for m in result["measurements"])
    refused = CliRunner().invoke(cli, [*words, "--untrained", "--cache", str(tmp_path / "a.geed")])
    assert refused.exit_code == 2
    assert "--untrained" in refused.stderr
    models.save(models.qdq_int8(), tmp_path / "q.onnx")
    words[1] = str(tmp_path / "q.onnx")
    refused = CliRunner().invoke(cli, [*words, "--untrained"])
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "quantised" in refused.stderr
