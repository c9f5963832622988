"""Which concatenations are brought out in parts: those that share one."""

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_geed.model import Joined, joined_tensors


def node(op, reads, makes, **attributes):
    return helper.make_node(op, reads.split(), makes.split(), **attributes)


def model(*nodes):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])
    w = helper.make_tensor("w", TensorProto.FLOAT, [1, 4, 8, 8], [0.0] * 256)
    outputs = [onnx.ValueInfoProto(name=nodes[-1].output[0])]
    return helper.make_model(helper.make_graph(list(nodes), "g", [x], outputs, [w]))


def join(reads, makes, axis=1):
    return node("Concat", reads, makes, axis=axis)


START = [node("Relu", "x", "a"), node("Neg", "x", "b"), node("Abs", "x", "c")]


def test_a_dense_block_is_brought_out_channel_by_channel():
    proto = model(*START, join("a b", "ab"), join("ab c", "abc"))
    found = joined_tensors(proto, ["ab", "abc"])
    assert found == {"ab": Joined(("a", "b"), 1), "abc": Joined(("a", "b", "c"), 1)}
    # What is not wanted is a part like any other.
    assert joined_tensors(proto, ["abc"]) == {}
    assert joined_tensors(proto, ["abc", "ab"]) == found
    assert joined_tensors(proto, ["c", "abc"]) == {"abc": Joined(("ab", "c"), 1)}


def test_a_skip_that_is_measured_is_not_brought_out_twice():
    proto = model(*START, join("a b", "ab"), join("a c", "ac"))
    assert joined_tensors(proto, ["a", "ab"]) == {"ab": Joined(("a", "b"), 1)}
    both = joined_tensors(proto, ["ab", "ac"])
    assert both == {"ab": Joined(("a", "b"), 1), "ac": Joined(("a", "c"), 1)}
    assert joined_tensors(proto, ["ab", "c"]) == {}


@pytest.mark.parametrize(
    "made",
    [
        [join("a b", "ab", 0), join("a c", "ac", 0)],  # the batch
        [join("a b", "ab", -3), join("a c", "ac", -3)],  # which may be the batch
        [join("a x", "ab"), join("a x", "ac")],  # an input
        [join("a w", "ab"), join("a w", "ac")],  # a weight
        [node("Add", "a b", "ab"), node("Add", "a c", "ac")],
        [
            helper.make_node("Concat", ["a", "b"], ["ab"], domain="own", axis=1),
            helper.make_node("Concat", ["a", "c"], ["ac"], domain="own", axis=1),
        ],
    ],
)
def test_all_else_is_brought_out_as_it_is(made):
    assert joined_tensors(model(*START, *made), ["a", "ab", "ac"]) == {}


def test_one_inside_another_along_another_axis_is_brought_out_whole():
    proto = model(*START, join("a b", "ab"), join("ab ab", "wide", 2))
    assert joined_tensors(proto, ["a", "ab", "wide"]) == {"ab": Joined(("a", "b"), 1)}


def test_a_tensor_may_be_a_part_twice():
    proto = model(*START, join("a a", "aa"), join("aa b", "aab"))
    found = joined_tensors(proto, ["aa", "aab"])
    assert found["aab"] == Joined(("a", "a", "b"), 1)
