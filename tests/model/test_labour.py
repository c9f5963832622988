"""How long nodes compute, against what the runtime is seen to take; and what is refused for it."""

import itertools
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import hostile_models
import models
import numpy as np
import onnx
import pytest
from hostile_models import FLOAT, INT64, floats, graph_of, ints, net, node
from onnx import TensorProto, helper, numpy_helper

import onnx_geed
from onnx_geed import GeedError, measure, overrun
from onnx_geed.confinement import Confined, Protections
from onnx_geed.model import expose_tensors, load_model
from onnx_geed.model.labour import seconds_of
from onnx_geed.model.shapes import infer
from onnx_geed.run import labour

F = np.float32


def ones(name, *shape):
    return numpy_helper.from_array(np.ones(shape, F), name)


LONG = {"hidden_size": 64}
LSTM = [ones("w", 1, 256, 32), ones("r", 1, 256, 64)]

#: Nodes from x to y, weights, the shape of x, and how many times a second may be mistaken for.
CASES = {
    "conv": (
        [node("Conv", "x w", "y", pads=[1] * 4)],
        [ones("w", 64, 64, 3, 3)],
        (1, 64, 192, 192),
    ),
    "wide conv": (
        [node("Conv", "x w", "y", pads=[50] * 4)],
        [ones("w", 1, 3, 101, 101)],
        (1, 3, 128, 128),
    ),
    "transposed": (
        [node("ConvTranspose", "x w", "y", pads=[15] * 4)],
        [ones("w", 3, 3, 31, 31)],
        (1, 3, 128, 128),
    ),
    "product": ([node("MatMul", "x w", "y")], [ones("w", 2048, 1024)], (1024, 2048)),
    "gemm": ([node("Gemm", "x w", "y", transA=1)], [ones("w", 2048, 1024)], (2048, 1024)),
    "einsum": (
        [node("Einsum", "x w w", "y", equation="ij,kj,lj->ikl")],
        [ones("w", 160, 160)],
        (160, 160),
    ),
    "largest of windows": (
        [node("MaxPool", "x", "y", kernel_shape=[63, 63], pads=[31] * 4)],
        [],
        (1, 3, 192, 192),
    ),
    "means of windows": (
        [node("AveragePool", "x", "y", kernel_shape=[63, 63], pads=[31] * 4)],
        [],
        (1, 3, 128, 128),
    ),
    "norms of windows": (
        [node("LpPool", "x", "y", kernel_shape=[31, 31], pads=[15] * 4)],
        [],
        (1, 3, 96, 96),
    ),
    "lstm": ([node("LSTM", "x w r", "y", **LONG)], LSTM, (8000, 2, 32)),
    "top": (
        [helper.make_node("TopK", ["x", "k"], ["y", "i"])],
        [ints("k", [1_000_000])],
        (1_000_000,),
    ),
    "unique": ([node("Unique", "x", "y")], [], (100_000,)),
    "cubic": (
        [helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic")],
        [floats("s", [1, 1, 4, 4])],
        (1, 8, 128, 128),
    ),
}


def model_of(nodes, weights, shape):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    made.ir_version = 10
    return made


def reckoned(nodes, weights, shape):
    types = infer(model_of(nodes, weights, shape), "x", shape, 1)
    return sum(seconds_of(n, types) for n in nodes)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_runtime_computes_about_as_long_as_is_reckoned_with(case):
    import onnxruntime as ort

    nodes, weights, shape = CASES[case]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model_of(nodes, weights, shape).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    x = np.random.default_rng(0).random(shape, dtype=F)
    seen = math.inf
    for _ in range(5):  # what other programs take is not the node's
        start = time.perf_counter()
        session.run(None, {"x": x})
        seen = min(seen, time.perf_counter() - start)
    assert seen / 12 < reckoned(nodes, weights, shape) < 12 * seen


def test_products_are_counted_by_multiplications():
    small, large = (
        reckoned([node("MatMul", "x w", "y")], [ones("w", n, n)], (n, n)) for n in (64, 640)
    )
    assert 500 < large / small < 1000
    assert reckoned(*CASES["conv"]) == pytest.approx(0.02e-9 * 64 * 64 * 9 * 192**2, rel=0.5)


def test_a_node_that_is_none_takes_no_time():
    for op in ("Conv", "MatMul", "Einsum", "LSTM", "Attention", "NonMaxSuppression", "Det", "LRN"):
        assert seconds_of(node(op, "x", "y"), {}) < 1e-8
    assert seconds_of(node("LRN", "x", "y", size="much"), {"x": ("float32", (1, 3))}) < 1e-7


def test_suppression_holds_each_box_against_those_that_are_kept():
    boxes = node("NonMaxSuppression", "b s most", "y")
    types = {"b": ("float32", (1, 9000, 4)), "s": ("float32", (1, 80, 9000))}
    few, many, unknown = (
        seconds_of(boxes, types, v) for v in ({"most": [3]}, {"most": [10**9]}, {})
    )
    assert unknown < few < 0.01 < 5 < many


def tiled(*nodes, side=2048, weights=(), end="e_out"):
    """Nodes from t, x tiled to a large image, to e; its mean is added to x."""
    last = [node("ReduceMean", "e", "e_mean", keepdims=0), node("Add", "x e_mean", "e_out")]
    tile = [node("Tile", "x e_times", "t"), *nodes, *last]
    return net(tile, [ints("e_times", [1, 1, side // 8, side // 8]), *weights], end=end)


def pooled(op, kernel=401):
    return node(op, "t", "e", kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, name="/the/node")


#: Models of a few nodes that compute for minutes, or years, in little memory.
LABORIOUS = {
    "largest of windows": lambda: tiled(pooled("MaxPool")),
    "means of windows": lambda: tiled(pooled("AveragePool")),
    "windows outside": lambda: net(
        [
            node(
                "AveragePool",
                "x",
                "e",
                kernel_shape=[10**9 + 1, 1],
                pads=[5 * 10**8, 0] * 2,
                name="/the/node",
            )
        ],
        end="e",
    ),
    "convolution": lambda: tiled(
        node("ConstantOfShape", "e_n", "e_w"),
        node("Conv", "t e_w", "e", pads=[250] * 4, name="/the/node"),
        weights=[ints("e_n", [3, 3, 501, 501])],
        side=512,
    ),
    "product": lambda: tiled(node("MatMul", "t t", "e", name="/the/node"), side=5120),
    "einsum": lambda: tiled(
        node("Reshape", "t e_s", "t1"),
        node("Einsum", "t1 t1 t1", "e", equation="ia,ja,ka->", name="/the/node"),
        weights=[ints("e_s", [-1, 64])],
    ),
    "attention": lambda: _attention(),
    "recurrence": lambda: tiled(
        node("Reshape", "t e_s", "t1"),
        node("LSTM", "t1 e_w e_r", "e", hidden_size=32, name="/the/node"),
        weights=[ints("e_s", [-1, 1, 16]), ones("e_w", 1, 128, 16), ones("e_r", 1, 128, 32)],
        side=6144,
    ),
    "suppression": lambda: net(
        [
            node("RandomUniform", "", "e_b", shape=[1, 200_000, 4]),
            node("RandomUniform", "", "e_c", shape=[1, 1, 200_000]),
            node("NonMaxSuppression", "e_b e_c e_most", "e_k", name="/the/node"),
            node("Cast", "e_k", "e_f", to=FLOAT),
            node("ReduceMean", "e_f", "e_mean", keepdims=0),
            node("Add", "x e_mean", "e"),
        ],
        [ints("e_most", [10**6])],
        end="e",
    ),
}


def _attention():
    model = tiled(
        node("Reshape", "t e_s", "t1"),
        node("MultiHeadAttention", "t1 t1 t1", "e", num_heads=1, domain="com.microsoft"),
        weights=[ints("e_s", [-1, 16384, 256])],
        side=4096,
    )
    attention = next(n for n in model.graph.node if n.domain)
    attention.name = "/the/node"
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


IMAGES = np.random.default_rng(0).random((4, 3, 8, 8), dtype=F) + F(0.5)
FEW = {"samples": 3, "norm_samples": 3, "provider": "cpu"}


@pytest.mark.parametrize("name", LABORIOUS)
def test_a_model_that_computes_without_end_is_refused_by_its_node(name, tmp_path):
    models.save(LABORIOUS[name](), tmp_path / "m.onnx")
    start = time.monotonic()
    with pytest.raises(GeedError) as refused:
        measure(tmp_path / "m.onnx", IMAGES, "C4", memory="16GiB", **FEW)
    assert "of it in node /the/node (" in str(refused.value)
    assert "--time-per-sample SECONDS, or --isolate" in str(refused.value)
    assert len(str(refused.value)) < 380
    assert time.monotonic() - start < 10


def test_a_confined_process_and_a_card_may_take_longer(tmp_path, monkeypatch):
    models.save(LABORIOUS["largest of windows"](), tmp_path / "m.onnx")

    def refused(**options):
        with pytest.raises(GeedError) as error:
            measure(tmp_path / "m.onnx", IMAGES, "C4", memory="300MiB", **FEW | options)
        return str(error.value)

    assert "of one core" in refused()
    monkeypatch.setattr(labour, "_DRIVER", Path(__file__))
    monkeypatch.setattr(labour, "_CARD", 1e9)
    assert "of one core" in refused()
    none = Protections(memory_bytes=None, time_seconds=0.0, network=False, writes=False)
    monkeypatch.setattr(labour, "confined", lambda: Confined(none))
    monkeypatch.setattr(labour, "expect", lambda *_: pytest.skip("it would run"))
    with pytest.raises(pytest.skip.Exception):
        refused()


@pytest.mark.parametrize(("weights", "allowed"), [(10, 2.5), (20_000, 12), (10**8, 120)])
def test_what_a_model_may_take_grows_with_its_weights(weights, allowed):
    """Of every known network a weight is used at no more places than a large image has."""
    graph = helper.make_graph([], "g", [], [], [TensorProto(name="w", dims=[weights])])
    assert labour._weights(graph) == weights
    assert labour._allowed(weights, 192, 1) == pytest.approx(allowed)
    assert labour._allowed(weights, 192, 100) == pytest.approx(
        max(2.5, 60_000 * min(weights, 2e5) / 1e6)
    )


def filtered(side, channels, *sizes):
    """Filters of these sizes, one behind the other, each over all channels of a large image."""
    names = ["x", *(f"c{i}" for i in range(1, len(sizes))), "y"]
    nodes = [
        node("Conv", f"{a} w{size}", b, pads=[size // 2] * 4)
        for a, b, size in zip(names, names[1:], sizes, strict=False)
    ]
    weights = [ones(f"w{size}", channels, channels, size, size) for size in sizes]
    return nodes, weights, (1, channels, side, side)


def small_u_net(axes, side, channels, levels):
    """Two convolutions of 3 at each level down and up again; each down has half the places."""
    nodes, weights, now, count = [], [], "x", 3
    sizes = [channels << i for i in range(levels)]
    for i, size in enumerate([*sizes, *sizes[-2::-1]]):
        for j in range(2):
            name = f"l{i}_{j}"
            weights.append(ones(f"w{name}", size, count, *[3] * axes))
            nodes.append(node("Conv", f"{now} w{name}", name, pads=[1] * 2 * axes))
            now, count = name, size
        if i < levels - 1:
            nodes.append(node("MaxPool", now, f"d{i}", kernel_shape=[2] * axes, strides=[2] * axes))
            now = f"d{i}"
        elif i < 2 * levels - 2:
            weights.append(ones(f"u{i}", count, count // 2, *[2] * axes))
            nodes.append(node("ConvTranspose", f"{now} u{i}", f"t{i}", strides=[2] * axes))
            now, count = f"t{i}", count // 2
    nodes.append(node("Relu", now, "y"))
    return nodes, weights, (1, 3, *[side] * axes)


@pytest.mark.parametrize(
    "build",
    [
        lambda: filtered(8000, 1, 5),
        lambda: filtered(8000, 3, 5),
        lambda: filtered(4096, 3, 3, 3, 5, 5, 7, 7, 9),
        lambda: filtered(2048, 1, 31, 31),
        lambda: small_u_net(2, 2048, 8, 4),
        lambda: small_u_net(2, 2048, 32, 4),
        lambda: small_u_net(3, 128, 8, 4),
        lambda: small_u_net(3, 128, 16, 4),
    ],
)
def test_filters_and_small_networks_may_run_on_large_samples(build):
    nodes, weights, shape = build()
    count = sum(math.prod(w.dims) for w in weights)
    allowed = labour._allowed(count, math.prod(shape), 1)
    # A rate may be mistaken.
    assert 1.5 * reckoned(nodes, weights, shape) < allowed


def test_what_a_sample_may_take_is_an_option(tmp_path):
    windows = tiled(pooled("MaxPool", 65), side=1024)
    models.save(windows, tmp_path / "m.onnx")
    with pytest.raises(GeedError, match=r"; 2\.5 s are allowed for so few weights and values: "):
        measure(tmp_path / "m.onnx", IMAGES, "C4", **FEW)
    with pytest.raises(GeedError, match=r"; 1 s are allowed: use smaller samples, --time-per-s"):
        measure(tmp_path / "m.onnx", IMAGES, "C4", time_per_sample=1, **FEW)
    small = tiled(pooled("MaxPool", 33), side=128)
    models.save(small, tmp_path / "m.onnx")
    assert measure(tmp_path / "m.onnx", IMAGES, "C4", time_per_sample=50, **FEW)
    with pytest.raises(GeedError, match=r"0\.001 s are allowed: "):
        measure(tmp_path / "m.onnx", IMAGES, "C4", time_per_sample=0.001, **FEW)
    for wrong in (0, -1, math.nan, math.inf, "1 s"):
        with pytest.raises(GeedError, match=r"^--time-per-sample "):
            measure(tmp_path / "m.onnx", IMAGES, "C4", time_per_sample=wrong, **FEW)


def test_real_networks_are_far_from_it():
    # A vision transformer of 24 blocks of 1,024 channels on 1,024 by 1,024 pixels.
    places, width = 64 * 64, 1024
    weights = 24 * 12 * width**2
    products = places * weights + 24 * 2 * places**2 * width
    assert 0.02e-9 * products < labour._MOST / 2 < labour._A_WEIGHT * weights
    # A network for super-resolution on 1,024 by 1,024: 32 layers of 64 channels.
    weights = 32 * 64 * 64 * 9
    assert 0.02e-9 * weights * 1024**2 < labour._MOST / 3 < labour._A_WEIGHT * weights / 5
    for path in (Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"):
        proto = load_model(path).proto
        info = next(
            i for i in proto.graph.input if i.name not in {t.name for t in proto.graph.initializer}
        )
        types = infer(proto, info.name, None, 1)
        # Their weights are made by nodes, so that they may take what any model may.
        assert 0.01 < sum(seconds_of(n, types) for n in proto.graph.node) < labour._ANY


# ------------------------------------------------------------------------------------------------
# What no shape tells
# ------------------------------------------------------------------------------------------------


def sized_by_data(factor, *nodes):
    """Nodes from d, as long as the largest pixel says, to e."""
    first = [
        node("ReduceMax", "x", "e_top", keepdims=0),
        node("Mul", "e_top e_by", "e_long"),
        node("Cast", "e_long", "e_whole", to=INT64),
        node("Reshape", "e_whole e_one", "e_n"),
    ]
    last = [node("ReduceMean", "e", "e_mean", keepdims=0), node("Add", "x e_mean", "e_out")]
    weights = [floats("e_by", factor), ints("e_one", [1])]
    return net([*first, *nodes, *last], weights, end="e_out")


def in_a_branch(side):
    body = graph_of(
        [
            node("Tile", "x e_n", "e_t"),
            node("Exp", "e_t", "e_u"),
            node("ReduceMean", "e_u", "e_m", keepdims=0),
            node("Add", "x e_m", "e_b"),
        ],
        [],
        [("e_b", FLOAT, ["N", 3, 8, 8])],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    chosen = node("If", "yes", "e", then_branch=body, else_branch=body)
    return net([chosen], [yes, ints("e_n", [1, 1, side // 8, side // 8])], end="e")


@pytest.mark.parametrize(
    "model",
    [
        sized_by_data(5e8, node("ConstantOfShape", "e_n", "e")),
        in_a_branch(12_000),
    ],
    ids=["by data", "in a branch"],
)
def test_a_run_that_takes_more_memory_than_shapes_tell_ends_the_command(model, tmp_path):
    models.save(model, tmp_path / "m.onnx")
    ended = command(tmp_path)
    assert ended.returncode == 2
    assert "needs over 1.2 GiB of memory, more than its shapes say" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "r.json").exists()


def test_a_run_that_takes_more_time_than_shapes_tell_ends_the_command(tmp_path):
    pool = node("MaxPool", "e_img", "e", kernel_shape=[1001, 1001], pads=[500] * 4)
    shape = node("Concat", "e_one e_one e_n e_n", "e_s", axis=0)
    model = sized_by_data(4000, shape, node("ConstantOfShape", "e_s", "e_img"), pool)
    models.save(model, tmp_path / "m.onnx")
    ended = command(tmp_path, "import onnx_geed.overrun as o; o._SECONDS = 2.0")
    assert ended.returncode == 2
    assert "a run of the model has not ended after 2 s of work" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def command(folder, first="pass"):
    """Measure in a process of its own, so that it may end."""
    np.save(folder / "x.npy", IMAGES)
    line = "measure m.onnx --data x.npy --group C4 --samples 3 --norm-samples 3 --provider cpu"
    code = f"import sys; {first}; from onnx_geed.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *line.split(), "-q", "--out", "r.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(onnx_geed.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_program_of_ones_own_is_not_watched():
    with overrun.watched(3):
        assert not overrun._RUNS


def test_what_was_reckoned_with_may_be_taken_several_times_over():
    try:
        overrun.expect(10.0, 1 << 30, 2 << 30)
        run = [(0.0, 0.0, 1 << 30, 2)]
        assert not overrun._fault(run, 3 << 30, 100.0, 100.0)
        assert "of memory" in overrun._fault(run, 4 << 30, 100.0, 100.0)
        assert "after 200 s of work" in overrun._fault(run, 1 << 30, 201.0, 201.0)
        # A process that was stopped, or that others left no core, has not computed.
        assert not overrun._fault(run, 1 << 30, 9000.0, 199.0)
        overrun.expect(0.0, 0, 8 << 30)
        assert not overrun._fault(run, 8 << 30, 40.0, 80.0)
        assert "after 45 s of work" in overrun._fault(run, 8 << 30, 46.0, 46.0)
        # Opening holds weights, and takes time that no shape tells.
        opened = [(0.0, 0.0, 1 << 30, 0)]
        assert not overrun._fault(opened, 16 << 30, 9000.0, 24.0)
        assert "not opened the model after 25 s" in overrun._fault(opened, 1 << 30, 26.0, 26.0)
        # What runs beside it is watched all the same.
        assert "after 45 s of work" in overrun._fault(
            [(50.0, 50.0, 1 << 30, 0), *run], 2 << 30, 60.0, 60.0
        )
    finally:
        overrun.expect(0.0, 0, 0)


# ------------------------------------------------------------------------------------------------
# Divisions that have no result
# ------------------------------------------------------------------------------------------------

INTS = {"int32": np.int32, "int64": np.int64}
DIVIDED = """
import sys, numpy as np, onnxruntime as ort
s = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
d = np.dtype(sys.argv[2])
least = np.iinfo(d).min
a = np.array([least, 7, -7, least, 9, -9], d)
b = np.array([-1, -1, -1, 2, 4, 4], d)
print(*s.run(None, {"a": a, "b": b})[0])
"""


def divided(op, dtype, how, opset=17):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = {
        "inputs": [node(op, "a b", "y")],
        "shapes": [node("Sub", "b a", "c"), node("Add", "c a", "d"), node(op, "a d", "y")],
        "unknown": [
            node("SequenceConstruct", "a b", "s"),
            node("SequenceAt", "s zero", "c"),
            node("SequenceAt", "s one", "d"),
            node(op, "c d", "y"),
        ],
    }[how]
    infos = [helper.make_tensor_value_info(n, kind, ["k"]) for n in "ab"]
    out = helper.make_tensor_value_info("y", kind, ["k"])
    graph = helper.make_graph(nodes, "g", infos, [out], [ints("zero", 0), ints("one", 1)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 10
    return made


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("how", ["inputs", "shapes", "unknown"])
def test_a_computed_divisor_of_minus_one_ends_no_process(op, dtype, how, tmp_path):
    model = divided(op, dtype, how)
    models.save(model, tmp_path / "m.onnx")
    exposed = expose_tensors(load_model(tmp_path / "m.onnx"), ["y"])
    (tmp_path / "e.onnx").write_bytes(exposed.SerializeToString())
    run = subprocess.run(
        [sys.executable, "-c", DIVIDED, tmp_path / "e.onnx", dtype],
        capture_output=True,
        text=True,
        check=True,
    )
    least = int(np.iinfo(dtype).min)
    wanted = [least, -7, 7, least // 2, 2, -2] if op == "Div" else [0, 0, 0, 0, 1, 3]
    assert [int(word) for word in run.stdout.split()] == wanted


def test_divisions_of_floats_and_by_constants_stay_as_they_are(tmp_path):
    for build in (
        lambda: net([node("Div", "x x", "e")], end="e"),
        lambda: hostile_models.division(("Div", 8, [2, -3])),
        lambda: hostile_models.division(("Mod", 8, [2, -3])),
    ):
        models.save(build(), tmp_path / "m.onnx")
        exposed = expose_tensors(load_model(tmp_path / "m.onnx"), ["y"])
        assert not any("onnx_geed" in name for n in exposed.graph.node for name in n.output)


def test_a_division_in_an_opset_without_the_means_is_refused(tmp_path):
    models.save(divided("Div", "int64", "inputs", opset=8), tmp_path / "m.onnx")
    with pytest.raises(GeedError, match=r"node y \(Div\) divides whole numbers by computed ones"):
        expose_tensors(load_model(tmp_path / "m.onnx"), ["y"])


FRAMED = """
import sys, numpy as np, onnxruntime as ort
s = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x = np.arange(16, dtype=np.float32).reshape(1, 16, 1)
print(s.run(None, {"x": x, "n": np.array(int(sys.argv[2]), np.int64)})[0].shape)
"""


@pytest.mark.parametrize(("length", "shape"), [(0, "(1, 16, 1, 2)"), (4, "(1, 13, 3, 2)")])
def test_a_computed_length_of_frames_of_0_ends_no_process(length, shape, tmp_path):
    stft = helper.make_node("STFT", ["x", "one", "", "n"], ["y"])
    infos = [
        helper.make_tensor_value_info("x", FLOAT, [1, 16, 1]),
        helper.make_tensor_value_info("n", INT64, []),
    ]
    out = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph([stft], "g", infos, [out], [ints("one", 1)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 10
    models.save(made, tmp_path / "m.onnx")
    exposed = expose_tensors(load_model(tmp_path / "m.onnx"), ["y"])
    (tmp_path / "e.onnx").write_bytes(exposed.SerializeToString())
    run = subprocess.run(
        [sys.executable, "-c", FRAMED, tmp_path / "e.onnx", str(length)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == shape


def test_a_model_that_the_runtime_does_not_open_ends_the_command(tmp_path):
    names = ["x", *(f"n{i}" for i in range(1500))]
    nodes = []
    for a, b in itertools.pairwise(names):
        nodes += [node("Relu", a, f"{b}r"), node("Tanh", a, f"{b}t")]
        nodes.append(node("Add", f"{b}r {b}t", b))
    models.save(hostile_models.net(nodes, end=names[-1]), tmp_path / "m.onnx")
    ended = command(tmp_path, "import onnx_geed.overrun as o; o._OPENING = o._LOOK = 0.001")
    assert ended.returncode == 2
    assert "ONNX Runtime has not opened the model after 0 s of work" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
