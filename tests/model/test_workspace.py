"""What a node takes while it runs, against what the runtime is seen to take."""

import subprocess
import sys
from pathlib import Path

import hostile_models
import models
import numpy as np
import onnx
import pytest
from hostile_models import floats, ints, node
from onnx import TensorProto, helper

from onnx_geed import GeedError, measure
from onnx_geed.model.shapes import infer
from onnx_geed.model.workspace import workspace
from onnx_geed.run.compile import compile_measurement

MIB = 1 << 20


def bytes_of(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def ones(name, *shape):
    return floats(name, np.ones(shape))


def quantised(inner, *weights):
    """A quantised node between x and y."""
    own = [bytes_of("s", np.float32(1)), bytes_of("z", np.uint8(0))]
    first = node("QuantizeLinear", "x s z", "q")
    last = node("DequantizeLinear", "r s z", "y") if inner.op_type == "QLinearConv" else None
    return [first, inner, last or node("Cast", "r", "y", to=1)], [*own, *weights]


W4 = ones("w", 4, 3, 3, 3, 3, 3)
QW, DW = (bytes_of("w", np.ones(shape, np.uint8)) for shape in ((8, 3, 21, 21), (4, 1, 21, 21)))
LSTM = [ones("w", 1, 1024, 16), ones("r", 1, 1024, 256)]
GRU = [ones("w", 2, 768, 16), ones("r", 2, 768, 256)]
RNN = [ones("w", 1, 256, 16), ones("r", 1, 256, 256)]
SQUARE = [ones("a", 64, 64), ones("b", 64, 64)]
ROI = [floats("r", [[0, 0, 60, 60]]), ints("b", [0])]
SMOOTH = {"mode": "linear", "antialias": 1}

#: Nodes from x to y, weights, and the shape of x; the node that works is the only one, or second.
CASES = {
    "conv of four axes": ([node("Conv", "x w", "y", pads=[1] * 8)], [W4], (1, 3, 20, 20, 20, 20)),
    "conv": ([node("Conv", "x w", "y", pads=[15] * 4)], [ones("w", 8, 3, 31, 31)], (1, 3, 99, 99)),
    "transposed": (
        [node("ConvTranspose", "x w", "y", pads=[15] * 4)],
        [ones("w", 4, 2, 31, 31)],
        (1, 4, 150, 150),
    ),
    "transposed volume": (
        [node("ConvTranspose", "x w", "y", pads=[3] * 6)],
        [ones("w", 3, 4, 7, 7, 7)],
        (1, 3, 24, 24, 24),
    ),
    "conv of an image of one channel": (
        [node("Conv", "x w", "y", pads=[2] * 4)],
        [ones("w", 1, 1, 5, 5)],
        (1, 1, 1200, 1200),
    ),
    "conv of few channels": (
        [node("Conv", "x w", "y", pads=[1] * 4)],
        [ones("w", 20, 20, 3, 3)],
        (1, 20, 700, 700),
    ),
    "conv of each channel": (
        [node("Conv", "x w", "y", pads=[1] * 4, group=8)],
        [ones("w", 8, 1, 3, 3)],
        (1, 8, 900, 900),
    ),
    "mean and variance": ([node("MeanVarianceNormalization", "x", "y")], [], (1, 16, 600, 600)),
    "transform": ([node("DFT", "x", "y", axis=1)], [], (1, 1_000_003, 2)),
    "turned": ([node("Einsum", "x", "y", equation="ijk->kji")], [], (200, 300, 200)),
    "places": ([node("NonZero", "x", "p"), node("Cast", "p", "y", to=1)], [], (5_000_000,)),
    "cubic": (
        [helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic")],
        [floats("s", [1, 1, 2, 4])],
        (1, 1, 800, 800),
    ),
    "lrn": ([node("LRN", "x", "y", size=50001)], [], (1, 3, 32, 32)),
    "lstm": ([node("LSTM", "x w r", "y", hidden_size=256)], LSTM, (8000, 2, 16)),
    "lstm there and back": (
        [node("LSTM", "x w r", "y", hidden_size=16, direction="bidirectional")],
        [ones("w", 2, 64, 256), ones("r", 2, 64, 16)],
        (200_000, 1, 256),
    ),
    "lstm of many rows": (
        [node("LSTM", "x w r", "y", hidden_size=8, direction="reverse")],
        [ones("w", 1, 32, 16), ones("r", 1, 32, 8)],
        (2, 500_000, 16),
    ),
    "gru of many rows": (
        [node("GRU", "x w r", "y", hidden_size=8, direction="bidirectional")],
        [ones("w", 2, 24, 16), ones("r", 2, 24, 8)],
        (2, 400_000, 16),
    ),
    "gru": (
        [
            helper.make_node(
                "GRU", ["x", "w", "r"], ["", "y"], hidden_size=256, direction="bidirectional"
            )
        ],
        GRU,
        (12000, 1, 16),
    ),
    "rnn": (
        [helper.make_node("RNN", ["x", "w", "r"], ["", "y"], hidden_size=256)],
        RNN,
        (40000, 1, 16),
    ),
    "softmax": ([node("Softmax", "x", "y", axis=1)], [], (1, 16, 512, 1024)),
    "softmax of the last": ([node("Softmax", "x", "y", axis=-1)], [], (1, 16, 512, 1024)),
    "resize": (
        [helper.make_node("Resize", ["x", "", "", "n"], ["y"], **SMOOTH)],
        [ints("n", [1, 3, 2, 9000])],
        (1, 3, 1024, 64),
    ),
    "resize of a matrix": (
        [helper.make_node("Resize", ["x", "", "", "n"], ["y"], **SMOOTH)],
        [ints("n", [2, 30000])],
        (1024, 64),
    ),
    "einsum": ([node("Einsum", "x a b", "y", equation="ij,kl,jk->il")], SQUARE, (64, 64)),
    "einsum that is small": ([node("Einsum", "x a b", "y", equation="ij,jk,kl")], SQUARE, (64, 64)),
    "regions": (
        [node("RoiAlign", "x r b", "y", output_height=64, output_width=64, sampling_ratio=20)],
        ROI,
        (1, 3, 64, 64),
    ),
    "where": (
        [node("Where", "c x a", "y")],
        [bytes_of("c", np.ones((1024, 1024), bool)), ones("a", 16, 1, 1)],
        (1, 16, 1024, 1024),
    ),
    "unique": ([node("Unique", "x", "y")], [], (1_000_000,)),
    "quantised": (
        *quantised(node("QLinearConv", "q s z w s z s z", "r", pads=[10] * 4), QW),
        (1, 3, 256, 256),
    ),
    "quantised by channels": (
        *quantised(node("QLinearConv", "q s z w s z s z", "r", pads=[10] * 4, group=4), DW),
        (1, 4, 256, 256),
    ),
    "of integers": (
        *quantised(node("ConvInteger", "q w", "r", pads=[10] * 4), QW),
        (1, 3, 256, 256),
    ),
}

# Where nothing else is known of a node: the most that it may take unasked, and what makes little.
SLACK = 24 * MIB


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


def told(case):
    nodes, weights, shape = CASES[case]
    types = infer(model_of(nodes, weights, shape), "x", shape, 1)
    return max(workspace(n, types) for n in nodes)


SEEN = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads, options.enable_cpu_mem_arena = 1, False
options.enable_mem_pattern = False
ort.set_default_logger_severity(4)
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).random(session.get_inputs()[0].shape, dtype=np.float32)
def status(key):
    return next(int(t.split()[1]) for t in open("/proc/self/status") if t.startswith(key)) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
(y,) = session.run(None, {"x": x})
print(status("VmHWM") - before - y.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("case", CASES)
def test_the_runtime_takes_what_is_reckoned_with(case, tmp_path):
    models.save(model_of(*CASES[case]), tmp_path / "m.onnx")
    run = subprocess.run(
        [sys.executable, "-c", SEEN, tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        check=True,
    )
    seen, reckoned = int(run.stdout), told(case)
    assert reckoned > SLACK or case in ("conv", "softmax of the last", "einsum that is small")
    assert reckoned - SLACK < 1.15 * seen + SLACK / 4
    assert seen < 1.15 * reckoned + SLACK


def test_a_node_that_is_none_takes_nothing():
    assert not workspace(node("Conv", "x", "y"), {})
    assert not workspace(node("LRN", "x", "y", size="much"), {"x": ("float32", (1, 3, 8, 8))})
    assert not workspace(node("Einsum", "x", "y"), {})
    assert not workspace(node("Where", "x", ""), {})
    assert not workspace(node("LRN", "x", "y", size=-(2**62)), {"x": ("float32", (1, 3, 8, 8))})


def spread(kernel):
    """A transposed convolution whose output is as small as its input."""
    return hostile_models.net(
        [node("ConvTranspose", "x k", "z", pads=[kernel // 2] * 4, name="/wide/up")],
        [ones("k", 3, 3, kernel, kernel)],
        end="z",
    )


def summed(size):
    return hostile_models.net([node("LRN", "x", "z", size=size, name="/wide/norm")], end="z")


@pytest.mark.parametrize(
    ("make", "size", "named"),
    [(summed, 2**24, "/wide/norm (LRN)"), (spread, 1023, "/wide/up (ConvTranspose)")],
)
def test_a_node_that_takes_more_than_the_budget_is_refused_by_name(make, size, named, tmp_path):
    models.save(make(size), tmp_path / "m.onnx")
    images = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    budget = {"samples": 3, "norm_samples": 3, "provider": "cpu", "memory": "512MiB"}
    words = f"the largest being what node {named} works in; --memory allows 512.0 MiB"
    with pytest.raises(GeedError) as refused:
        measure(tmp_path / "m.onnx", images, "C4", **budget)
    assert words in str(refused.value)


def tiled(bytes_of_one):
    """A model that holds a tensor of so many bytes, and no other."""
    times = [1, 1, 1, bytes_of_one // (4 * 3 * 8 * 8)]
    nodes = [node("Tile", "x n", "g"), node("ReduceMean", "g", "r", axes=[2, 3])]
    return hostile_models.net([*nodes, node("Add", "x r", "z")], [ints("n", times)], end="z")


@pytest.mark.parametrize(
    ("memory", "allowed", "enough"),
    [("2GiB", "1.5 GiB", "2.3GiB"), ("4GiB", "3.5 GiB", "4.7GiB"), ("1GiB", "1.0 GiB", "1.2GiB")],
)
def test_of_the_memory_a_share_is_kept_for_what_the_process_holds_beside(
    memory, allowed, enough, tmp_path
):
    size = float(allowed.split()[0]) * 2**30
    models.save(tiled(int(size * 1.05)), tmp_path / "m.onnx")
    images = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    with pytest.raises(GeedError, match=rf"tensor g .*allows {allowed}( of them)?: raise") as e:
        measure(tmp_path / "m.onnx", images, "C4", samples=3, provider="cpu", memory=memory)
    assert f": raise it to {enough}, or use smaller samples" in str(e.value)


def filled(count):
    """A model that adds large constants, worked out as it is opened, one after the other."""
    nodes = [node("Tile", "x times", "t0")]
    weights = [ints("times", [1, 1, 64, 64]), ints("shape", [1, 3, 512, 512])]
    for i in range(count):
        weights.append(floats(f"v{i}", [i]))
        nodes.append(node("Expand", f"v{i} shape", f"c{i}"))
        nodes.append(node("Add", f"t{i} c{i}", f"t{i + 1}"))
    last = [node("ReduceMean", f"t{count}", "all", keepdims=0), node("Add", "x all", "z")]
    return hostile_models.net([*nodes, *last], weights, end="z")


def test_what_is_made_of_constants_is_held_all_the_time(tmp_path):
    images = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    options = {"samples": 3, "norm_samples": 3, "provider": "cpu", "memory": "500MiB"}
    models.save(filled(60), tmp_path / "m.onnx")
    with pytest.raises(GeedError, match=r"the activations of one row take 36\d\.. MiB") as refused:
        measure(tmp_path / "m.onnx", images, "C4", **options | {"memory": "256MiB"})
    assert "--memory allows 256.0 MiB" in str(refused.value)
    assert measure(tmp_path / "m.onnx", images, "C4", measures=["output-l2"], **options)


def test_compile_counts_the_rows_of_an_orbit(tmp_path):
    # One row takes 100 MiB, four and what the graph computes more than a GiB.
    wide = hostile_models.net(
        [
            node("Tile", "x n", "g"),
            node("ReduceMean", "g", "r", axes=[2, 3]),
            node("Add", "x r", "z"),
        ],
        [ints("n", [1, 1, 300, 450])],
        end="z",
    )
    models.save(wide, tmp_path / "m.onnx")
    with pytest.raises(
        GeedError, match=r"the activations of the 8 rows of a run take .* tensor g "
    ):
        compile_measurement(tmp_path / "m.onnx", "C8", tmp_path / "out.onnx", memory="600MiB")
    assert not (tmp_path / "out.onnx").exists()
    compile_measurement(tmp_path / "m.onnx", "C8", tmp_path / "out.onnx")
