"""Operators that only place numbers give what ONNX's reference gives, to the type."""

import models
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnx_geed.model.shape_folding import placed

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


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_an_axis_may_be_an_attribute_as_before_opset_13(axis):
    (own,) = placed(models.node("Unsqueeze", "x", "y", axes=[axis]), {"x": GRID})
    np.testing.assert_array_equal(own, np.expand_dims(GRID, axis))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Unsqueeze", [GRID], {"axes": [0, 1]}),
        ("Unsqueeze", [GRID, np.array([0, 1])], {}),
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
