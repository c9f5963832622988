"""Operators that only place numbers give what ONNX's reference gives, to the type."""

import models
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_geed.model import shape_folding
from onnx_geed.model.shape_folding import placed
from onnx_geed.model.shapes import infer_fed

ROW, GRID = np.arange(4, dtype=np.int64), np.arange(6, dtype=np.float32).reshape(2, 3)
SEVEN = helper.make_tensor("seven", TensorProto.INT32, [1], [7])
HALF = helper.make_tensor("half", TensorProto.FLOAT16, [1], [0.5])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("ConstantOfShape", [np.array([2, 3])], {}),
        ("ConstantOfShape", [np.array([4])], {"value": SEVEN}),
        ("ConstantOfShape", [np.array([4, 0])], {"value": HALF}),
        ("ConstantOfShape", [np.zeros(0, dtype=np.int64)], {"value": SEVEN}),
        ("Unsqueeze", [GRID, np.array([1])], {}),
        ("Unsqueeze", [np.int64(3), np.array(0)], {}),
        ("Unsqueeze", [GRID, np.array([0, 1])], {}),
        ("Unsqueeze", [GRID, np.array([-1, 0, 2])], {}),
        ("Unsqueeze", [ROW, np.array([2, 1])], {}),
        ("Concat", [ROW, ROW[:1]], {"axis": 0}),
        ("Concat", [GRID, GRID[:, 1:], GRID], {"axis": -1}),
    ],
)
def test_what_is_placed_is_what_the_reference_gives(op, inputs, attributes):
    feed = {f"x{i}": np.asarray(value) for i, value in enumerate(inputs)}
    node = models.node(op, " ".join(feed), "y", **attributes)
    (own,) = placed(node, feed)
    (expected,) = ReferenceEvaluator(node, opsets={"": 13}).run(None, feed)
    assert own.dtype == expected.dtype
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("axes", [[0], [1], [-1], [1, 2], [-1, 0], [2, 3]])
def test_axes_may_be_an_attribute_as_before_opset_13(axes):
    node = models.node("Unsqueeze", "x", "y", axes=axes)
    (own,) = placed(node, {"x": GRID})
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, [2, 3]), value("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    (expected,) = ReferenceEvaluator(model).run(None, {"x": GRID})
    np.testing.assert_array_equal(own, expected)


def test_an_axis_that_is_named_twice_is_refused():
    with pytest.raises(ValueError, match="repeated axis"):
        placed(models.node("Unsqueeze", "x", "y", axes=[1, 1]), {"x": GRID})


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Unsqueeze", [GRID, np.array([[0, 1]])], {}),
        ("Concat", [ROW, ROW], {}),
        ("Add", [ROW, ROW], {}),
        ("ConstantOfShape", [np.array(2)], {}),
    ],
)
def test_other_forms_are_left_to_the_reference(op, inputs, attributes):
    feed = {f"x{i}": value for i, value in enumerate(inputs)}
    assert placed(models.node(op, " ".join(feed), "y", **attributes), feed) is None


def test_what_lacks_an_input_is_not_worked_out():
    node = models.node("Concat", "x x1", "y", axis=0)
    assert placed(node, {"x": ROW}) is None
    assert placed(helper.make_node("Concat", ["x", ""], ["y"], axis=0), {"x": ROW}) is None


def test_what_was_worked_out_for_one_batch_is_not_taken_for_another():
    nodes = [
        models.node("Shape", "x", "lengths"),
        models.node("Gather", "lengths first", "rows"),
        models.node("Constant", "", "two", value_ints=[2]),
        models.node("Mul", "rows two", "twice"),
        models.node("Concat", "twice rest", "target", axis=0),
        models.node("Reshape", "x target", "y"),
    ]
    stored = [
        numpy_helper.from_array(np.array([0]), "first"),
        numpy_helper.from_array(np.array([-1]), "rest"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    for batch in (2, 5, 2, 3):
        fed = infer_fed(proto, {"x": (batch, 6)})
        np.testing.assert_array_equal(fed.values["target"], [2 * batch, -1])
        assert fed.shapes["y"] == (2 * batch, 3)
    # The same name, another operator.
    nodes[3].op_type = "Add"
    proto.graph.node[3].op_type = "Add"
    np.testing.assert_array_equal(infer_fed(proto, {"x": (5, 6)}).values["twice"], [7])


def test_what_was_worked_out_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(shape_folding, "_MOST_FOUND", 4)
    monkeypatch.setattr(shape_folding, "_FOUND", {})
    for i in range(9):
        node = models.node("Constant", "", "y", value_ints=[i])
        graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")])
        known = shape_folding.complete(helper.make_model(graph), values=True)
        np.testing.assert_array_equal(known["y"], [i])
        assert len(shape_folding._FOUND) <= 4
    assert shape_folding._FOUND
