"""A frame of zeros in front of a max pooling is zeros, whatever the runtime would make of it."""

from __future__ import annotations

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from running import session

import onnx_geed
from onnx_geed.model import expose_tensors, load_model

node, weights, integers = models.node, models.weights, models.integers


def framed(between=(), *, value=0.0):
    """Negative maps, a frame, a pooling: the frame is the maximum of what touches it."""
    last = between[-1].output[0] if between else "frame"
    nodes = [
        node("Sub", "x shift", "low"),
        node("Pad", "low around value", "frame"),
        *between,
        node("MaxPool", last, "pooled", kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", "pooled k", "maps"),
        node("ReduceMean", "maps", "y", axes=[2, 3], keepdims=0),
    ]
    constants = [
        weights("shift", [3.0]),
        integers("around", [0, 0, 1, 1, 0, 0, 1, 1]),
        weights("value", value),
        weights("k", np.random.default_rng(5).normal(size=(4, 3, 1, 1))),
    ]
    inputs = [("x", TensorProto.FLOAT, ("N", 3, 9, 9))]
    return models.build(nodes, constants, inputs, [("y", TensorProto.FLOAT, None)])


def in_a_branch():
    """The same inside the body of an If."""
    inner = framed()
    body = onnx.helper.make_graph(
        list(inner.graph.node), "then", [], [onnx.ValueInfoProto(name="y")]
    )
    other = onnx.helper.make_graph(
        [node("ReduceMean", "x", "zero", axes=[2, 3], keepdims=0)],
        "else",
        [],
        [onnx.ValueInfoProto(name="zero")],
    )
    choice = onnx.helper.make_node("If", ["always"], ["out"], then_branch=body, else_branch=other)
    constants = [*inner.graph.initializer, weights("always", True, np.bool_)]
    inputs = [("x", TensorProto.FLOAT, ("N", 3, 9, 9))]
    return models.build([choice], constants, inputs, [("out", TensorProto.FLOAT, None)])


CASES = {
    "plain": framed(),
    "identity": framed([node("Identity", "frame", "same")]),
    "dropout": framed([node("Dropout", "frame", "same")]),
    "of_a_value": framed(value=-1.0),
    "in_a_branch": in_a_branch(),
}


@pytest.mark.parametrize("name", CASES)
def test_the_runtime_gives_what_the_graph_says(tmp_path, name):
    source = CASES[name]
    x = np.random.default_rng(1).normal(size=(2, 3, 9, 9)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(source).run(None, {"x": x})
    model = load_model(models.save(source, tmp_path / "model.onnx"))
    output = source.graph.output[0].name
    exposed = expose_tensors(model, [output])
    (seen,) = session(exposed).run(None, {"x": x})
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-6)


def test_a_value_does_not_depend_on_which_other_layers_are_measured(tmp_path):
    path = models.save(framed(), tmp_path / "model.onnx")
    x = np.random.default_rng(1).normal(size=(3, 3, 9, 9)).astype(np.float32)
    options = {"samples": 3, "norm_samples": 3, "provider": "cpu"}
    values = []
    for layers in (["channel-cos@pooled"], ["channel-cos@pooled", "channel-cos@frame"]):
        records = onnx_geed.measure(path, x, "C8", measures=layers, **options)["measurements"]
        values.append(next(r["value"] for r in records if r["layer"] == "pooled"))
    assert values[0] == values[1]
