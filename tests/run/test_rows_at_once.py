"""Rows of a run: few of large activations, many where weights serve one place alone."""

import models
import numpy as np
import pytest
from onnx import TensorProto, helper

import onnx_geed as geed
from onnx_geed.model import list_tensors, load_model
from onnx_geed.run.rows_at_once import rows_at_once

MIB = 1 << 20


def large_maps(channels=16):
    """A convolution whose map takes 4 MiB a row, and a latent."""
    filters = np.random.default_rng(0).normal(size=(channels, 1, 3, 3))
    nodes = [
        models.conv("x", "w", "a"),
        models.node("Relu", "a", "b"),
        models.node("GlobalAveragePool", "b", "p"),
        models.node("Flatten", "p", "latent"),
    ]
    return models.build(
        nodes,
        [models.weights("w", filters)],
        [("x", models.FLOAT, ["N", 1, 256, 256])],
        [("latent", models.FLOAT, ["N", channels])],
    )


def wide(width=2560):
    """Behind the pooled map, products with 100 MiB of weights, each read once a row."""
    proto = large_maps()
    shape = models.weights("first", np.zeros((16, width)))
    square = helper.make_tensor("second", TensorProto.FLOAT, [0], [])
    square.dims[:] = [width, width * 4]
    square.raw_data = bytes(16 * width * width)
    proto.graph.initializer.extend([shape, square])
    proto.graph.node.append(models.node("MatMul", "latent first", "c"))
    proto.graph.node.append(models.node("MatMul", "c second", "y"))
    proto.graph.output[0].name = "y"
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = width * 4
    return proto


def best(proto, folder, row):
    path = models.save(proto, folder / "m.onnx")
    model = load_model(path)
    return rows_at_once(model, list_tensors(model, "x", proto.graph.output[0].name), row)


def test_runs_of_large_activations_have_few_rows(tmp_path):
    assert best(large_maps(), tmp_path, 8 * MIB) == 3
    assert best(large_maps(), tmp_path, 100 * MIB) == 1
    assert best(large_maps(), tmp_path, 1000) == 24 * MIB // 1000


def test_weights_of_single_places_ask_for_many(tmp_path):
    # 100 MiB and a bit, 24 of which a row may read.
    assert best(wide(), tmp_path, 100 * MIB) == 5
    assert best(wide(), tmp_path, MIB) == 24


@pytest.mark.parametrize(
    "change",
    [
        lambda node: setattr(node, "domain", "com.example"),
        lambda node: setattr(node, "op_type", "LSTM"),
    ],
)
def test_where_the_graph_does_not_tell_nothing_is_said(tmp_path, change):
    proto = large_maps()
    path = models.save(proto, tmp_path / "m.onnx")
    model = load_model(path)
    listed = list_tensors(model, "x", "latent")
    assert rows_at_once(model, listed, 0) == 0
    change(model.proto.graph.node[1])
    assert rows_at_once(model, listed, 8 * MIB) == 0


@pytest.mark.parametrize(("group", "rows"), [("C8", 2), ("C3", 3), ("D3", 3), ("C2", 2)])
def test_a_run_is_an_even_part_of_an_orbit(tmp_path, group, rows):
    path = models.save(large_maps(), tmp_path / "m.onnx")
    x = np.random.default_rng(1).normal(size=(3, 1, 256, 256)).astype(np.float32)
    few = geed.measure(path, x, group, measures=["latent-l2"], provider="cpu")
    assert few["runtime"]["batch_size"] == rows
    whole = geed.measure(path, x, group, measures=["latent-l2"], provider="cpu", batch_size=64)
    assert few["measurements"][0]["value"] == whole["measurements"][0]["value"]


def test_maps_are_compared_in_pieces_as_large_as_memory_lets_them_be(tmp_path):
    path = models.save(large_maps(), tmp_path / "m.onnx")
    x = np.random.default_rng(1).normal(size=(2, 1, 256, 256)).astype(np.float32)
    maps = geed.measure(path, x, "C8", measures=["channel-cos"], provider="cpu")
    assert maps["runtime"]["batch_size"] == 8


def test_weights_that_serve_many_places_of_a_row_ask_for_none(tmp_path):
    square = helper.make_tensor("w", TensorProto.FLOAT, [0], [])
    square.dims[:] = [2560, 2560 * 4]
    square.raw_data = bytes(16 * 2560 * 2560)
    for places, rows in ((1, 5), (4, 2), (200, 1)):
        proto = models.build(
            [models.node("MatMul", "x w", "y")],
            [square],
            [("x", models.FLOAT, ["N", places, 2560])],
            [("y", models.FLOAT, ["N", places, 2560 * 4])],
        )
        assert best(proto, tmp_path, 100 * MIB) == rows
