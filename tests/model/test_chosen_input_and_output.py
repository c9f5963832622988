"""Which input is acted on, which output is measured, and how they lie."""

from __future__ import annotations

import models
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_geed.errors import GeedError
from onnx_geed.model import find_input, find_output, input_layout, inputs, load_model, output_kind

FLOAT = TensorProto.FLOAT


@pytest.fixture
def read(tmp_path):
    return lambda source: load_model(models.save(source, tmp_path / "model.onnx"))


def through(ins, outs=(("y", FLOAT, None),), op="Relu"):
    """A model of one node per output, which reads the first input."""
    nodes = [helper.make_node(op, [ins[0][0]], [name]) for name, _, _ in outs]
    return models.build(nodes, [], ins, list(outs))


def image(*shape, name="x"):
    return (name, FLOAT, list(shape))


def test_weights_that_are_listed_as_inputs_are_none(read):
    assert [i.name for i in inputs(read(models.initializer_as_input()))] == ["x"]


def test_free_and_fixed_lengths_are_told_apart(read):
    (acted,) = inputs(read(through([image("N", 3, "H", 8)])))
    assert (acted.dtype, acted.shape) == ("float32", (None, 3, None, 8))


def test_the_only_image_among_the_inputs_is_acted_on(read):
    assert find_input(read(models.two_input())).name == "x"


def test_half_precision_images_are_images(read):
    assert find_input(read(models.fp16())).dtype == "float16"


def test_the_input_may_be_named_by_the_user_or_the_metadata(read):
    two = through([image("N", 3, 4, 4, name="a"), image("N", 3, 4, 4, name="b")])
    with pytest.raises(GeedError, match="--input NAME"):
        find_input(read(two))
    assert find_input(read(two), "b").name == "b"
    model = read(models.with_metadata(two, {"onnx_geed.input": "b"}))
    assert find_input(model).name == "b"
    assert find_input(model, "a").name == "a"


def test_a_near_name_is_suggested_for_an_unknown_input(read):
    with pytest.raises(GeedError, match="'image'"):
        find_input(read(through([image("N", 3, 4, 4, name="image")])), "imgae")


def test_token_ids_are_refused_with_what_was_found(read):
    with pytest.raises(GeedError, match="int64"):
        find_input(read(models.token_ids()))


def test_an_input_that_no_action_fits_is_refused_by_name_too(read):
    with pytest.raises(GeedError, match=r"extra: is float32 \(\?, 2\)"):
        find_input(read(models.two_input()), "extra")


def test_a_model_without_batch_axis_is_refused(read):
    with pytest.raises(GeedError, match="no batch axis"):
        find_input(read(models.no_batch_axis()))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("N", 3, 8, 8), "NCHW"),
        (("N", 1, "H", "W"), "NCHW"),
        (("N", 8, 8, 4), "NHWC"),
        (("N", "H", "W", 3), "NHWC"),
        (("N", 1, 4, 8, 8), "NCDHW"),
    ],
)
def test_the_layout_is_told_from_the_shape(read, shape, layout):
    model = read(through([image(*shape)]))
    assert input_layout(model, find_input(model)) == layout


@pytest.mark.parametrize("shape", [("N", 3, 8, 3), ("N", 8, 8, 8), ("N", "C", "H", "W")])
def test_an_ambiguous_layout_is_asked_for(read, shape):
    source = through([image(*shape)])
    model = read(source)
    with pytest.raises(GeedError, match="--input-layout"):
        input_layout(model, find_input(model))
    assert input_layout(model, find_input(model), "NHWC") == "NHWC"
    model = read(models.with_metadata(source, {"onnx_geed.input_layout": "NHWC"}))
    assert input_layout(model, find_input(model)) == "NHWC"
    assert input_layout(model, find_input(model), "NCHW") == "NCHW"
    model = read(models.with_metadata(source, {"onnx_geed.input_layout": "HWCN"}))
    with pytest.raises(GeedError, match="'HWCN'"):
        input_layout(model, find_input(model))


def test_the_only_output_is_taken_and_of_several_one_is_named(read):
    assert find_output(read(models.constant())) == "logits"
    several = read(through([image("N", 3, 4, 4)], [("a", FLOAT, None), ("b", FLOAT, None)]))
    with pytest.raises(GeedError, match=r"several outputs \(a, b\)"):
        find_output(several)
    assert find_output(several, "b") == "b"
    with pytest.raises(GeedError, match="no such output"):
        find_output(several, "c")


def test_the_output_may_be_stated_in_the_metadata_or_be_a_hidden_tensor(read):
    several = through([image("N", 3, 4, 4)], [("a", FLOAT, None), ("b", FLOAT, None)])
    assert find_output(read(models.with_metadata(several, {"onnx_geed.output": "b"}))) == "b"
    assert find_output(read(models.random_cnn()), "latent") == "latent"


def test_class_labels_beside_scores_are_not_the_output(read):
    nodes = [
        helper.make_node("Relu", ["x"], ["scores"]),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1),
    ]
    outs = [("label", TensorProto.INT64, None), ("scores", FLOAT, None)]
    model = read(models.build(nodes, [], [image("N", 3, 4, 4)], outs))
    assert find_output(model) == "scores"
    with pytest.raises(GeedError, match="'label' is int64"):
        find_output(model, "label")


def test_sequences_are_refused_with_the_cure(read):
    with pytest.raises(GeedError, match="is a sequence"):
        find_output(read(models.sequence_output()))


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (models.random_cnn, None),
        (models.softmax_output, "probabilities"),
        (models.sigmoid_output, "probabilities"),
        (models.log_softmax_output, "logits"),
    ],
)
def test_the_kind_of_output_is_read_from_the_end_of_the_graph(read, build, kind):
    model = read(build())
    output = find_output(model)
    assert output_kind(model, output) == kind
    assert output_kind(model, output, "embedding") == "embedding"


def test_a_reshape_after_softmax_hides_nothing(read):
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"], axis=1),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    source = models.build(nodes, [], [image("N", 5, 1, 1)], [("y", FLOAT, None)])
    assert output_kind(read(source), "y") == "probabilities"


def test_a_stated_kind_counts_unless_it_is_none(read):
    stated = models.with_metadata(models.random_cnn(), {"onnx_geed.output_kind": "embedding"})
    assert output_kind(read(stated), "logits") == "embedding"
    wrong = models.with_metadata(models.random_cnn(), {"onnx_geed.output_kind": "scores"})
    with pytest.raises(GeedError, match="'scores'"):
        output_kind(read(wrong), "logits")


def of_bytes(shape, dtype=TensorProto.UINT8):
    """A model that scales images of bytes itself."""
    x = helper.make_tensor_value_info("pixels", dtype, ["N", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shape])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f", "s"], ["y"]),
    ]
    scale = numpy_helper.from_array(np.array(255, np.float32), "s")
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], [scale]))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 8, 8), "NCHW"), ((8, 8, 3), "NHWC"), ((1, "H", "W"), "NCHW"), ((4, 9, 5), "NCHW")],
)
def test_images_of_bytes_are_known_by_their_shape(read, shape, layout):
    model = read(of_bytes(shape))
    for name in (None, "pixels"):
        found = find_input(model, name)
        assert (found.name, found.dtype) == ("pixels", "uint8")
        assert input_layout(model, found) == layout


@pytest.mark.parametrize(
    ("shape", "dtype", "option"),
    [
        ((3, 8, 8), TensorProto.INT32, "--input-layout pixels=NCHW"),
        ((8, 8, 1), TensorProto.INT64, "--input-layout pixels=NHWC"),
        ((5, 8, 8), TensorProto.UINT8, "--input-layout pixels=NCHW or pixels=NHWC"),
        ((3, 8, 3), TensorProto.UINT8, "--input-layout pixels=NCHW or pixels=NHWC"),
        ((3, 4, 8, 8), TensorProto.UINT8, "--input-layout pixels=NCDHW"),
        ((8,), TensorProto.INT64, "--input-layout pixels=LETTERS, NT"),
    ],
)
@pytest.mark.parametrize("name", [None, "pixels"])
def test_whole_numbers_are_refused_with_their_option(read, shape, dtype, option, name):
    model = read(of_bytes(shape, dtype))
    with pytest.raises(GeedError) as error:
        find_input(model, name)
    assert option in str(error.value)
