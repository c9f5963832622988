"""Weights are held against the memory before they are read."""

from __future__ import annotations

import sys
from pathlib import Path

import models
import numpy as np
import pytest
from onnx import TensorProto, helper
from running import images

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.model import load_model
from onnx_geed.run.footprint import Footprint
from onnx_geed.run.options import make_options
from onnx_geed.run.room import room_in
from onnx_geed.run.weights import check_weights_fit, held_weights

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

from bounded import Bounded

MIB = 1 << 20

GEMM = 2800 * MIB


@pytest.fixture(scope="module")
def bounded():
    with Bounded() as server:
        yield server


def large(folder, sizes):
    """A network behind whose latent lie weights of so many bytes, in a file that is a hole."""
    source = models.random_cnn(0, (8, 8))
    graph, start = source.graph, 0
    last = graph.output[0].name
    for i, size in enumerate(sizes):
        tensor = graph.initializer.add(name=f"big{i}", data_type=TensorProto.FLOAT)
        width = next(iter(graph.output)).type.tensor_type.shape.dim[1].dim_value
        tensor.dims[:] = [width, size // 4 // width]
        tensor.data_location = TensorProto.EXTERNAL
        length = 4 * width * tensor.dims[1]
        for key, value in {"location": "hole.bin", "offset": start, "length": length}.items():
            tensor.external_data.add(key=key, value=str(value))
        start += length
        graph.node.append(helper.make_node("MatMul", [last, tensor.name], [f"wide{i}"]))
        mean = helper.make_node("ReduceMean", [f"wide{i}"], [f"mean{i}"], axes=[1], keepdims=1)
        graph.node.extend([mean, helper.make_node("Add", [last, f"mean{i}"], [f"sum{i}"])])
        last = f"sum{i}"
    graph.output[0].name = last
    with (folder / "hole.bin").open("wb") as file:
        file.truncate(start)
    np.save(folder / "x.npy", images((3, 8, 8), 4))
    return models.save(source, folder / "model.onnx")


FEW = "--samples 2 --norm-samples 2 --provider cpu"


@pytest.mark.parametrize(
    "line",
    [
        f"measure model.onnx --data x.npy --group C4 {FEW} --out r.json",
        f"cache model.onnx --data x.npy --group C4 {FEW} -o a.geed",
        f"fit model.onnx --data x.npy --group C4 --layer latent --fit-anyway {FEW} -o f.npz",
        "compile model.onnx --group C4 -o c.onnx",
    ],
)
def test_weights_that_no_memory_holds_are_refused_unread(bounded, tmp_path, line):
    large(tmp_path, [GEMM])
    ended = bounded.run(line.split(), tmp_path)
    assert ended.status == 2
    assert not ended.fault(line.split())
    assert "its weights take 5.5 GiB while the model is opened, the largest being big0" in ended.err
    assert "raise it to 6.7GiB" in ended.err
    assert ended.peak < 300 * MIB
    assert ended.seconds < 5


@pytest.mark.parametrize("line", ["layers model.onnx", "annotate model.onnx --input x -o n.onnx"])
def test_what_runs_no_model_reads_no_weights(bounded, tmp_path, line):
    large(tmp_path, [GEMM])
    ended = bounded.run(line.split(), tmp_path)
    assert ended.status == 0
    assert ended.peak < 300 * MIB
    assert ended.seconds < 5


def test_python_refuses_them_in_the_same_line(tmp_path):
    path = large(tmp_path, [GEMM])
    for model in (path, load_model(path)):
        with pytest.raises(GeedError, match=r"its weights take 5\.5 GiB.*raise it to 6\.7GiB"):
            geed.measure(model, images((3, 8, 8), 4), "C4", provider="cpu")


def test_a_weight_counts_once_and_the_largest_once_more(tmp_path):
    model = load_model(large(tmp_path, [300 * MIB, 200 * MIB]))
    others = sum(4 * np.prod(t.dims) * 4 for t in model.proto.graph.initializer if t.raw_data)
    held = held_weights(model, make_options({}))
    assert held == pytest.approx(500 * MIB + others, abs=1000)
    check_weights_fit(model, make_options({"memory": "830MiB"}))
    with pytest.raises(GeedError, match=r"raise it to 9\d\d\.\dMiB, or use a smaller model"):
        check_weights_fit(model, make_options({"memory": "790MiB"}))
    with pytest.raises(GeedError, match="with those that"):
        check_weights_fit(model, make_options({"memory": "830MiB", "untrained": True}))


def test_weights_that_lie_on_a_disk_count_beside_the_memory(tmp_path):
    path = large(tmp_path, [300 * MIB])
    with (tmp_path / "hole.bin").open("r+b") as file:
        for _ in range(0, 300 * MIB, MIB):
            file.write(b"\1" * MIB)
    model = load_model(path)
    assert held_weights(model, make_options({})) == 0
    check_weights_fit(model, make_options({"memory": "256MiB", "untrained": True}))
    with (tmp_path / "hole.bin").open("r+b") as file:
        file.truncate(200 * MIB)
        file.truncate(300 * MIB)
    with pytest.raises(GeedError, match="its weights take"):
        check_weights_fit(load_model(path), make_options({"memory": "256MiB"}))


def test_filters_count_in_blocks_too(tmp_path):
    plain = load_model(large(tmp_path, [300 * MIB]))
    check_weights_fit(plain, make_options({"memory": "700MiB"}))
    node = next(n for n in plain.proto.graph.node if "big0" in n.input)
    node.op_type = "Conv"
    with pytest.raises(GeedError, match=r"its weights take 1\.2 GiB"):
        check_weights_fit(plain, make_options({"memory": "700MiB"}))


def test_weights_leave_less_room_for_rows():
    room = room_in("1GiB")
    assert Footprint(100 * MIB, room, "tensor a").rows == 10
    assert Footprint(100 * MIB, room, "tensor a", 900 * MIB).rows == 1
    told = r"one row take 1000\.0 MiB with the model's weights, the largest being tensor a; --mem"
    with pytest.raises(GeedError, match=told):
        Footprint(100 * MIB, room_in("990MiB"), "tensor a", 900 * MIB).check()


def test_weights_that_an_older_file_lists_as_inputs_are_of_no_row(tmp_path):
    model = models.random_cnn(0, (8, 8))
    graph, (logits,) = model.graph, [o.name for o in model.graph.output]
    width = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    stored = [
        helper.make_tensor("shape", TensorProto.INT64, [2], [width, 12 * MIB // 4 // width]),
        *graph.initializer,
    ]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    # Before version 4 of the format every weight is an input too; from then on, what may be fed.
    graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer
    )
    graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["big"]),
            helper.make_node("MatMul", [logits, "big"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Add", [logits, "mean"], ["sum"]),
        ]
    )
    graph.output[0].name = "sum"
    rows = {}
    for version in (3, 8):
        model.ir_version = version
        path = models.save(model, tmp_path / "old.onnx")
        result = geed.measure(
            path,
            images((3, 8, 8), 4),
            "C8",
            measures=["output-l2@sum"],
            memory="320MiB",
            provider="cpu",
        )
        rows[version] = result["runtime"]["batch_size"]
    assert rows[8] < rows[3]
