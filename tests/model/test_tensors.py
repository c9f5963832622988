"""Factorisation points, roles, layouts and names of a model's tensors."""

from __future__ import annotations

import json

import light
import models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.model import (
    ROWS_ELSEWHERE,
    find_input,
    find_output,
    list_tensors as tensors,
    load_model,
    resolve,
)
from onnx_geed.model.dataflow import Flow
from onnx_geed.model.tensor_names import patterns_first, stated_layouts

FLOAT = TensorProto.FLOAT
node, weights, integers = models.node, models.weights, models.integers


@pytest.fixture
def listed(tmp_path):
    def read(source, **options):
        model = load_model(models.save(source, tmp_path / "model.onnx"))
        stated = options.get("layouts", {}).get("x")
        name, output = find_input(model, None, stated).name, find_output(model)
        return tensors(model, name, output, **options)

    return read


def model_of(nodes, constants=(), shape=("N", 3, 8, 8), output=None):
    name = output or nodes[-1].output[0]
    return models.build(nodes, list(constants), [("x", FLOAT, shape)], [(name, FLOAT, None)])


def with_role(listing, role):
    return [t.name for t in listing if role in t.roles]


def points(listing):
    return [t.name for t in listing if t.point]


# ------------------------------------------------------------------------------------------------
# Factorisation points
# ------------------------------------------------------------------------------------------------


@st.composite
def random_graphs(draw):
    """Random acyclic graphs: each node reads one or two earlier tensors."""
    nodes = []
    for i in range(draw(st.integers(1, 12))):
        before = ["x", *(n.output[0] for n in nodes)]
        reads = draw(st.lists(st.sampled_from(before[-4:]), min_size=1, max_size=2))
        nodes.append(helper.make_node("Sum", reads, [f"t{i}"]))
    return helper.make_graph(nodes, "g", [], [])


def reaches(graph, without):
    """Whether the last tensor depends on x where one tensor is taken out."""
    depends = {"x"}
    for n in graph.node:
        if depends.intersection(n.input) and n.output[0] != without:
            depends.add(n.output[0])
    return graph.node[-1].output[0] in depends


@settings(max_examples=300, deadline=None)
@given(random_graphs())
def test_one_sweep_finds_exactly_the_tensors_without_which_the_output_is_cut_off(graph):
    names = [n.output[0] for n in graph.node]
    if not reaches(graph, None):
        with pytest.raises(GeedError, match="no data flow"):
            Flow(graph, "x", names[-1])
        return
    cut = [name for name in names if not reaches(graph, name)]
    assert Flow(graph, "x", names[-1]).points == cut


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_residual_network_has_its_block_outputs_for_points(listed, size):
    source = models.random_cnn(3, size, blocks=3)
    known = models.known(source)
    listing = listed(source)
    assert with_role(listing, "channel") == known["hidden"]
    assert points(listing) == [*known["hidden"], "pooled", "latent", "logits"]


def test_edges_that_carry_only_shapes_bypass_nothing(listed):
    source = models.shape_bypass()
    assert with_role(listed(source), "channel") == models.known(source)["hidden"]


def test_a_tensor_that_only_lends_its_dtype_bypasses_nothing(listed):
    nodes = [
        node("Relu", "x", "map"),
        node("CastLike", "one x", "unit"),
        node("Softmax", "map", "next"),
        node("Add", "next unit", "y"),
    ]
    assert points(listed(model_of(nodes, [weights("one", 1.0)]))) == ["map", "y"]


def test_an_activation_in_several_nodes_replaces_what_it_is_computed_from(listed):
    listing = listed(
        model_of(
            [
                node("Conv", "x w", "pre"),
                node("Mul", "pre scale", "scaled"),
                node("Sigmoid", "scaled", "gate"),
                node("Mul", "scaled gate", "silu"),
                node("Conv", "silu v", "last"),
            ],
            [
                weights("w", np.ones((4, 3, 3, 3))),
                weights("scale", np.ones((4, 1, 1))),
                weights("v", np.ones((4, 4, 3, 3))),
            ],
        )
    )
    assert points(listing) == ["silu", "last"]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [(20.0, ["act", "last"]), (np.eye(6), ["pre", "act", "last"])],
    ids=["a number", "another at each place"],
)
def test_an_activation_of_two_pieces_replaces_what_it_is_computed_from(listed, limit, wanted):
    nodes = [
        node("Conv", "x w", "pre"),
        node("Softplus", "pre", "small"),
        node("Greater", "pre limit", "is_large"),
        node("Where", "is_large pre small", "act"),
        node("Conv", "act v", "last"),
    ]
    constants = [weights("w", np.ones((4, 3, 3, 3))), weights("v", np.ones((4, 4, 3, 3)))]
    assert points(listed(model_of(nodes, [*constants, weights("limit", limit)]))) == wanted


@pytest.mark.parametrize("mask", [np.ones((6, 1)), np.ones((1, 6)), np.ones((4, 1, 1))])
def test_a_map_that_a_mask_wipes_out_stays_a_point(listed, mask):
    nodes = [
        node("Conv", "x w", "pre"),
        node("Where", "mask pre zero", "kept"),
        node("Conv", "kept v", "last"),
    ]
    constants = [weights("w", np.ones((4, 3, 3, 3))), weights("v", np.ones((4, 4, 3, 3)))]
    constants += [weights("mask", mask, bool), weights("zero", 0.0)]
    assert points(listed(model_of(nodes, constants))) == ["pre", "kept", "last"]


def test_a_constant_that_varies_over_the_grid_is_no_batch_norm(listed):
    nodes = [node("Conv", "x w", "map"), node("Add", "map place", "placed")]
    constants = [weights("w", np.ones((4, 3, 3, 3))), weights("place", np.ones((1, 1, 6, 6)))]
    assert points(listed(model_of(nodes, constants))) == ["map", "placed"]


@pytest.mark.parametrize("batches", [("N", "N"), ("N", "M"), ("N", 1), (1, "N"), (3, 3), (1, 1)])
def test_rows_of_another_input_do_not_vary_over_the_grid(tmp_path, batches):
    """However a file says how many there are."""
    own, other = batches
    nodes = [
        node("Mul", "x e", "scaled"),
        node("Conv", "scaled w", "map"),
        node("Add", "map e", "shifted"),
        node("Relu", "shifted", "act"),
        node("Add", "act plane", "y"),
    ]
    inputs = [
        ("x", FLOAT, [own, 3, 8, 8]),
        ("e", FLOAT, [other, 3, 1, 1]),
        ("plane", FLOAT, [other, 1, 8, 8]),
    ]
    constants = [weights("w", np.ones((3, 3, 1, 1)))]
    path = models.save(
        models.build(nodes, constants, inputs, [("y", FLOAT, None)]), tmp_path / "model.onnx"
    )
    listing = tensors(load_model(path), "x", "y", input_shape=(1, 3, 8, 8))
    # The map is followed by an affine map and an activation; the last sum varies over the plane.
    assert points(listing) == ["scaled", "act", "y"]
    assert with_role(listing, "channel") == ["act", "y"]


def test_points_whose_axis_0_is_not_the_batch_are_not_offered(listed):
    rows = [
        node("Relu", "x", "map"),
        node("Reshape", "map target", "rows"),
        node("Relu", "rows", "act"),
        node("Reshape", "act back", "y"),
    ]
    constants = [integers("target", [-1, 4]), integers("back", [-1, 192])]
    for shape in (("N", 3, 8, 8), (1, 3, 8, 8)):
        assert points(listed(model_of(rows, constants, shape))) == ["map", "y"]


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_batch_moved_from_axis_0_is_noticed_where_both_lengths_are_1(listed, batch):
    nodes = [
        node("Flatten", "x", "flat"),
        node("Unsqueeze", "flat front", "moved"),
        node("Relu", "moved", "act"),
        node("Squeeze", "act front", "y"),
    ]
    listing = listed(model_of(nodes, [integers("front", [0])], (batch, 3, 8, 8)))
    assert points(listing) == ["flat", "y"]


@pytest.mark.parametrize("batch", ["N", 1, 5])
@pytest.mark.parametrize("back", [False, True])
def test_tokens_in_front_of_the_samples_are_told_unless_their_module_turns_them(
    listed, batch, back
):
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("MatMul", "t w", "p"),
        node("Relu", "p", "r"),
        node("MatMul", "r w", "s"),
        node("Transpose", "s", "u", perm=[1, 0, 2]),
        node("ReduceMean", "s" if not back else "u", "z", axes=[int(back)], keepdims=0),
        node("MatMul", "z h", "y"),
    ]
    for inner in nodes[:5] if back else nodes[:4]:
        inner.name = f"/net/{inner.output[0]}"
    constants = [weights("w", np.ones((4, 4))), weights("h", np.ones((4, 3)))]
    listing = listed(model_of(nodes, constants, (batch, 8, 4)), layouts={"x": "NTC"}, kind="logits")
    assert [t.name for t in listing if t.aside == ROWS_ELSEWHERE] == ([] if back else ["r", "s"])
    assert with_role(listing, "channel") == (["u"] if back else [])


def test_rows_stay_rows_where_a_reshape_drops_an_axis_of_length_1(listed):
    nodes = [node("GlobalAveragePool", "x", "a"), node("Reshape", "a one", "b")]
    nodes += [node("Reshape", "b two", "c"), node("Softmax", "c", "y")]
    constants = [integers("one", [1, 1, 3]), integers("two", [1, 3])]
    assert points(listed(model_of(nodes, constants, (1, 3, 8, 8)))) == ["a", "b", "c", "y"]


def test_a_declared_batch_of_ten_is_a_batch(listed):
    listing = listed(models.random_cnn(0, (8, 8), batch=10))
    assert with_role(listing, "channel") == ["stem", "block0", "block1"]
    assert with_role(listing, "latent") == ["latent"]


def test_a_single_data_path_through_an_if_is_a_point_and_its_bodies_are_not_offered(listed):
    listing = listed(models.if_body())
    assert "chosen" in with_role(listing, "channel")
    with pytest.raises(GeedError, match="'then_map' is inside the body of a If"):
        resolve(listing, "then_map")


def test_empty_names_of_optional_outputs_are_skipped(listed):
    nodes = [helper.make_node("MaxPool", ["x"], ["map", ""], kernel_shape=[2, 2])]
    assert [t.name for t in listed(model_of(nodes)) if not t.refused] == ["map"]


def test_no_data_path_is_said(tmp_path):
    source = model_of(
        [
            node("Shape", "x", "shape"),
            node("ConstantOfShape", "shape", "zeros"),
            node("Relu", "zeros", "y"),
        ]
    )
    model = load_model(models.save(source, tmp_path / "model.onnx"))
    with pytest.raises(GeedError, match="no data flow from input 'x' to output 'y'"):
        tensors(model, "x", "y")


# ------------------------------------------------------------------------------------------------
# Classic graphs
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classics():
    result = {}
    for name in light.NAMES:
        model = load_model(light.path(name))
        result[name] = tensors(model, find_input(model).name, find_output(model))
    return result


def test_resnet50_has_its_stem_max_pool_and_16_blocks(classics):
    maps = [t for t in classics["resnet50"] if "channel" in t.roles]
    assert [t.op for t in maps] == ["Relu", "MaxPool", *["Relu"] * 16]
    activated = [t for t in maps if t.op == "Relu"]
    assert len(activated) == 17
    assert 25e6 < sum(4 * np.prod(t.shape) for t in activated) < 26e6


def test_densenet_121_has_a_point_for_each_concatenation(classics):
    maps = [t for t in classics["densenet121"] if "channel" in t.roles]
    # Stem and pool; 58 layers, where 4 are replaced by their activation; 3 transitions of two.
    assert len(maps) == 2 + 58 + 3 * 2


@pytest.mark.parametrize("name", light.NAMES)
def test_no_classic_offers_a_grid_of_one_pixel_as_a_map(classics, name):
    for t in classics[name]:
        if "channel" in t.roles:
            assert len(t.shape) == 4
            assert min(t.shape[2:]) >= 2
            assert t.layout == "NCHW"
        if t.op == "GlobalAveragePool":
            assert "channel" not in t.roles


@pytest.mark.parametrize(
    ("name", "op", "shape"),
    [
        ("bvlc_alexnet", "Dropout", (1, 4096)),
        ("densenet121", "GlobalAveragePool", (1, 1024, 1, 1)),
        ("inception_v1", "Reshape", (1, 1024)),
        ("inception_v2", "Reshape", (1, 1024)),
        ("resnet50", "Reshape", (1, 2048)),
        ("shufflenet", "Reshape", (1, 544)),
        ("squeezenet", "Dropout", (1, 512, 13, 13)),
        ("vgg19", "Dropout", (1, 4096)),
        ("zfnet512", "Relu", (1, 1024)),
    ],
)
def test_the_latent_of_a_classic_is_what_its_classifier_reads(classics, name, op, shape):
    (latent,) = [t for t in classics[name] if "latent" in t.roles]
    assert (latent.op, latent.shape) == (op, shape)


@pytest.mark.parametrize("name", ["densenet121", "squeezenet"])
def test_class_scores_of_rank_4_are_the_output(classics, name):
    (output,) = [t for t in classics[name] if "output" in t.roles]
    assert output.shape == (1, 1000, 1, 1)


# ------------------------------------------------------------------------------------------------
# The latent
# ------------------------------------------------------------------------------------------------

HEAD = (weights("h", np.ones((3, 5))), weights("g", np.ones((3, 5))), weights("half", [0.5]))
NORM = tuple(weights(name, np.ones(3)) for name in ("s", "b", "m", "v"))


def latent_of(listing):
    (name,) = with_role(listing, "latent")
    return name


def test_two_averaged_heads_read_the_same_latent(listed):
    nodes = [
        node("ReduceMean", "x", "features", axes=[2, 3], keepdims=0),
        node("BatchNormalization", "features s b m v", "one"),
        node("Gemm", "one h", "scores1"),
        node("BatchNormalization", "features s b m v", "two"),
        node("Gemm", "two g", "scores2"),
        node("Add", "scores1 scores2", "both"),
        node("Mul", "both half", "logits"),
    ]
    assert latent_of(listed(model_of(nodes, [*HEAD, *NORM]))) == "features"


def test_batch_norm_directly_in_front_counts_with_the_classifier(listed):
    nodes = [
        node("ReduceMean", "x", "features", axes=[2, 3], keepdims=0),
        node("BatchNormalization", "features s b m v", "normed"),
        node("MatMul", "normed h", "logits"),
    ]
    assert latent_of(listed(model_of(nodes, [*HEAD, *NORM]))) == "features"


def test_a_1x1_convolution_before_the_pooling_is_a_classifier(listed):
    source = models.conv_classifier()
    assert latent_of(listed(source)) == models.known(source)["latent"]


def test_the_output_is_the_latent_of_a_feature_extractor(listed):
    listing = listed(models.pooled_output())
    assert with_role(listing, "latent") == with_role(listing, "output") == ["features"]


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
def test_class_scores_without_a_classifier_in_sight_are_no_latent(listed, end):
    nodes = [node("GlobalAveragePool", "x", "pooled"), node(end, "pooled", "scores", axis=1)]
    listing = listed(model_of(nodes))
    assert with_role(listing, "output") == ["scores"]
    assert with_role(listing, "latent") == []


def test_a_linear_model_of_scikit_learn_is_a_classifier(listed):
    nodes = [
        node("ReduceMean", "x", "features", axes=[2, 3], keepdims=0),
        node("LinearRegressor", "features", "scores", domain="ai.onnx.ml", coefficients=[1.0] * 9),
    ]
    assert latent_of(listed(model_of(nodes))) == "features"


def test_a_dense_layer_that_a_shortcut_goes_round_is_no_classifier(listed):
    nodes = [
        node("Conv", "x w", "map"),
        node("ReduceMean", "map", "features", axes=[2, 3], keepdims=0),
        node("Gemm", "features square", "branch"),
        node("Add", "features branch", "embedding"),
    ]
    constants = [weights("w", np.ones((4, 3, 3, 3))), weights("square", np.ones((4, 4)))]
    assert latent_of(listed(model_of(nodes, constants))) == "embedding"


def test_a_product_of_data_with_data_is_no_classifier(listed):
    nodes = [node("MatMul", "x x", "square"), node("GlobalAveragePool", "square", "features")]
    assert latent_of(listed(model_of(nodes))) == "features"


def test_dynamic_quantisation_does_not_hide_the_classifier(listed):
    nodes = [
        node("ReduceMean", "x", "features", axes=[2, 3], keepdims=0),
        node("DynamicQuantizeLinear", "features", "q step zero"),
        node("MatMulInteger", "q hq zero", "product"),
        node("Cast", "product", "cast", to=FLOAT),
        node("Mul", "step half", "scale"),
        node("Mul", "cast scale", "logits"),
    ]
    constants = [weights("hq", np.ones((3, 5)), np.uint8), weights("half", 0.5)]
    assert latent_of(listed(model_of(nodes, constants))) == "features"


def test_tokens_are_no_latent(listed):
    nodes = [node("Reshape", "x target", "tokens"), node("MatMul", "tokens h", "scores")]
    constants = [integers("target", [0, -1, 3]), HEAD[0]]
    assert with_role(listed(model_of(nodes, constants)), "latent") == []


def test_the_latent_may_be_named_by_the_user_or_the_metadata(listed):
    source = models.random_cnn()
    stated = models.with_metadata(source, {"onnx_geed.latent": "pooled"})
    assert latent_of(listed(source, latent="block1")) == "block1"
    assert latent_of(listed(stated)) == "pooled"
    assert latent_of(listed(stated, latent="block1")) == "block1"
    wrong = models.with_metadata(source, {"onnx_geed.latent": "poled"})
    with pytest.raises(GeedError, match="Did you mean 'pooled'"):
        listed(wrong)


# ------------------------------------------------------------------------------------------------
# Dtypes and shapes
# ------------------------------------------------------------------------------------------------


def test_half_precision_is_offered(listed):
    listing = {t.name: t for t in listed(models.fp16())}
    assert listing["stem"].dtype == "float16"
    assert listing["stem"].roles == ("channel",)


def test_of_a_quantised_model_the_dequantised_tensors_are_offered(listed):
    listing = listed(models.qdq_int8())
    assert "block0_dq" in with_role(listing, "channel")
    assert "block0" not in points(listing)
    with pytest.raises(GeedError, match=r"'block0_q' holds uint8.*DequantizeLinear"):
        resolve(listing, "block0_q")


def test_a_quantisation_written_once_for_each_reader_is_still_a_point(listed):
    nodes = [node("Conv", "x w", "map")]
    for i in (1, 2):
        nodes.append(node("QuantizeLinear", "map step zero", f"q{i}"))
        nodes.append(node("DequantizeLinear", f"q{i} step zero", f"dq{i}"))
    nodes.append(node("Conv", "dq1 v", "branch"))
    nodes.append(node("Add", "branch dq2", "joined"))
    nodes.append(node("MaxPool", "joined", "pooled", kernel_shape=[2, 2]))
    constants = [
        weights("w", np.ones((4, 3, 1, 1))),
        weights("v", np.ones((4, 4, 1, 1))),
        weights("step", 0.1),
        weights("zero", 3, np.uint8),
    ]
    assert points(listed(model_of(nodes, constants))) == ["dq1", "joined", "pooled"]


def test_bfloat16_is_refused_since_numpy_has_none(listed):
    nodes = [node("Cast", "x", "b", to=TensorProto.BFLOAT16), node("Cast", "b", "y", to=FLOAT)]
    with pytest.raises(GeedError, match="bfloat16"):
        resolve(listed(model_of(nodes)), "b")


def test_an_integer_output_is_refused(tmp_path):
    source = model_of([node("ArgMax", "x", "label", axis=1)], output="label")
    source.graph.output[0].type.tensor_type.elem_type = 0
    model = load_model(models.save(source, tmp_path / "model.onnx"))
    with pytest.raises(GeedError, match="'label' holds int64"):
        tensors(model, "x", "label")


def test_a_free_batch_is_shown_as_free_and_a_fixed_one_as_fixed(listed):
    free = {t.name: t.shape for t in listed(models.random_cnn(0, (8, 8)))}
    fixed = {t.name: t.shape for t in listed(models.static_batch(0, (8, 8)))}
    assert free["block1"] == (None, 6, 4, 4)
    assert fixed["block1"] == (1, 6, 4, 4)


BEHIND = {
    "STFT": ([node("STFT", "x step window", "y")], (16, 1)),
    "OneHot": ([node("ArgMax", "x", "i", axis=2), node("OneHot", "i six onoff", "y")], (4, 5)),
    "Gather": ([node("Gather", "x patches", "y", axis=2)], (4, 5)),
    "Einsum": ([node("Einsum", "x table", "y", equation="nab,bcd->nacd")], (4, 5)),
    "Einsum without an arrow": ([node("Einsum", "x table", "y", equation="abz,zcd")], (4, 5)),
}


@pytest.mark.parametrize("operator", BEHIND)
def test_a_batch_of_1_leads_behind_operators_that_make_axes(listed, operator):
    """The batch was taken to have moved back by as many axes as there are new ones."""
    nodes, shape = BEHIND[operator]
    nodes = [*nodes, node("Exp", "y", "behind"), node("ReduceSum", "behind all", "z", keepdims=0)]
    held = [
        weights("step", 4, np.int64),
        weights("window", np.ones(8)),
        weights("six", 6, np.int64),
        weights("onoff", [0, 1]),
        weights("patches", [[0, 1], [1, 2]], np.int64),
        weights("table", np.ones((5, 2, 3))),
        weights("all", [-1, -2], np.int64),
    ]
    read = {name for n in nodes for name in n.input}
    held = [tensor for tensor in held if tensor.name in read]
    points = {}
    for batch in ("N", 1):
        source = models.build(nodes, held, [("x", 1, [batch, *shape])], [("z", 1, None)])
        points[batch] = [t.name for t in listed(source) if t.point]
    assert points[1] == points["N"]
    assert "z" in points[1]
    assert {"y", "behind"} & {*points[1]}


def test_maps_of_unknown_size_are_maps_until_the_input_tells(listed):
    source = models.random_cnn(0, ("H", "W"))
    maps = {t.name: t.shape for t in listed(source) if "channel" in t.roles}
    assert list(maps) == ["stem", "block0", "block1"]
    assert maps["block1"][2:] == (None, None)
    told = {t.name: t for t in listed(source, input_shape=(1, 3, 9, 7))}
    assert told["block1"].shape == (None, 6, 5, 4)
    # One pixel is no map.
    tiny = listed(source, input_shape=(1, 3, 2, 2))
    assert with_role(tiny, "channel") == ["stem", "block0"]


def test_arithmetic_on_shapes_is_carried_out(listed):
    # As exporters write x.flatten(2) of a model with free axes: products of slices of a Shape.
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape two four", "grid"),
        node("ReduceProd", "grid", "pixels", keepdims=1),
        node("Slice", "shape zero two", "front"),
        node("Concat", "front pixels", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("Transpose", "flat", "tokens", perm=[0, 2, 1]),
    ]
    constants = [integers(name, [i]) for name, i in (("zero", 0), ("two", 2), ("four", 4))]
    source = model_of(nodes, constants, ("N", 3, "H", "W"))
    listing = {t.name: t.shape for t in listed(source, input_shape=(1, 3, 5, 6))}
    assert listing["tokens"] == (None, 30, 3)


def test_shapes_are_inferred_through_constants_that_old_files_list_as_inputs(listed):
    source = models.static_batch(0, (8, 8))
    source.graph.input.append(helper.make_tensor_value_info("flat_shape", TensorProto.INT64, [2]))
    assert {t.name: t.shape for t in listed(source)}["latent"] == (1, 6)


def test_a_length_that_only_the_file_knows_is_taken_from_it(listed):
    nodes = [
        node("NonZero", "mask", "nonzero"),
        node("Squeeze", "nonzero zero", "picked"),
        node("Gather", "x picked", "some", axis=2),
    ]
    mask = np.arange(2000) < 5  # too long to be carried out beforehand
    source = model_of(nodes, [integers("zero", [0]), weights("mask", mask)])
    assert {t.name: t.shape for t in listed(source)}["some"] == (None, 3, None, 8)
    source.graph.value_info.append(helper.make_tensor_value_info("some", FLOAT, ["N", 3, 5, 8]))
    assert {t.name: t.shape for t in listed(source)}["some"] == (None, 3, 5, 8)


def test_inference_that_stops_takes_what_the_file_declares(listed, monkeypatch):
    def stop(*_args, **_options):
        raise RuntimeError("inference failed")

    source = models.random_cnn(0, (8, 8))
    source.graph.value_info.append(helper.make_tensor_value_info("stem", FLOAT, ["N", 4, 8, 8]))
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", stop)
    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", stop)
    listing = {t.name: t for t in listed(source)}
    assert listing["stem"].shape == (None, 4, 8, 8)
    assert listing["stem"].roles == ("channel",)
    assert listing["block1"].shape is None


def test_an_operator_without_inference_stops_nothing(listed):
    listing = listed(models.unknown_operator())
    assert next(t for t in listing if t.op == "Mystery").shape is None


def test_operators_of_the_runtime_itself_are_followed(listed):
    # What ONNX Runtime writes as its optimised model.
    nodes = [
        helper.make_node("FusedConv", ["x", "w"], ["map"], domain="com.microsoft"),
        helper.make_node("QuickGelu", ["map"], ["act"], domain="com.microsoft"),
        node("MaxPool", "act", "pooled", kernel_shape=[2, 2]),
    ]
    source = models.build(
        nodes,
        [weights("w", np.ones((4, 3, 3, 3)))],
        [("x", FLOAT, ["N", 3, 8, 8])],
        [("pooled", FLOAT, None)],
        domains=["com.microsoft"],
    )
    listing = {t.name: t for t in listed(source)}
    assert listing["act"].shape == (None, 4, 6, 6)
    assert with_role(listing.values(), "channel") == ["act", "pooled"]


# ------------------------------------------------------------------------------------------------
# Layouts
# ------------------------------------------------------------------------------------------------


def test_a_hidden_map_behind_a_transpose_is_channels_last(listed):
    source = models.nhwc_hidden()
    layouts = {t.name: t.layout for t in listed(source)}
    assert layouts["map"] == "NCHW"
    assert {layouts[name] for name in models.known(source)["hidden_nhwc"]} == {"NHWC"}


def test_convolutions_behind_a_channels_last_input_are_channels_first(listed):
    source = models.nhwc_input()
    listing = {t.name: t for t in listed(source)}
    for name in models.known(source)["hidden"]:
        assert listing[name].layout == "NCHW"
        assert listing[name].roles == ("channel",)


def test_a_stated_layout_is_followed_downstream(listed):
    nodes = [node("Relu", "x", "act"), node("Transpose", "act", "y", perm=[0, 3, 1, 2])]
    source = model_of(nodes, shape=("N", 8, 8, 8))
    layouts = {t.name: t.layout for t in listed(source, layouts={"x": "NHWC"})}
    assert layouts == {"act": "NHWC", "y": "NCHW", "x": "?"}


def test_a_layout_is_followed_back_from_what_reads_the_map(listed):
    # Tokens are folded to a map of which only the convolution behind a transpose tells the layout.
    nodes = [
        node("Reshape", "x grid", "folded"),
        node("MatMul", "folded w", "mixed"),
        node("Add", "mixed b", "shifted"),
        node("Transpose", "shifted", "planar", perm=[0, 3, 1, 2]),
        node("Conv", "planar k", "y"),
    ]
    constants = [
        integers("grid", [0, 4, 4, 6]),
        weights("w", np.ones((6, 8))),
        weights("b", np.ones(8)),
        weights("k", np.ones((5, 8, 1, 1))),
    ]
    listing = listed(model_of(nodes, constants, ("N", 16, 6)))
    layouts = {t.name: t.layout for t in listing}
    assert {layouts[name] for name in ("folded", "mixed", "shifted")} == {"NHWC"}
    assert layouts["planar"] == "NCHW"
    # The fold holds the input's own values, and moves with any network.
    assert with_role(listing, "channel") == ["shifted", "y"]


def test_channels_that_are_split_by_orientation_stay_maps(listed):
    # As escnn writes the batch norm and the pooling of regular fields.
    nodes = [
        node("Conv", "x k", "pre"),
        node("Reshape", "pre split", "fields"),
        node("Mul", "fields scale", "scaled"),
        node("Reshape", "scaled joined", "joint"),
        node("Relu", "joint", "act"),
        node("Reshape", "act split", "apart"),
        node("ReduceMax", "apart", "pooled", axes=[2], keepdims=0),
        node("ReduceMean", "pooled", "y", axes=[2, 3], keepdims=0),
    ]
    constants = [
        weights("k", np.ones((8, 3, 1, 1))),
        weights("scale", np.ones((1, 2, 1, 1, 1))),
        integers("split", [0, 2, 4, 8, 8]),
        integers("joined", [0, 8, 8, 8]),
    ]
    listing = listed(model_of(nodes, constants))
    layouts = {t.name: t.layout for t in listing}
    assert {layouts[name] for name in ("pre", "joint", "act", "pooled")} == {"NCHW"}
    assert layouts["fields"] == layouts["apart"] == "?"
    assert set(with_role(listing, "channel")) >= {"act", "pooled"}


@pytest.mark.parametrize(
    ("axes", "wanted"), [([1, 2], "NHWC"), ([2, 3], "NCHW"), ([-1, -2], "NCHW")]
)
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum"])  # axes as attribute, as an input
def test_a_reduction_over_the_grid_tells_the_layout(listed, op, axes, wanted):
    if op == "ReduceMean":
        last = node(op, "act", "y", axes=axes, keepdims=0)
    else:
        last = node(op, "act axes", "y", keepdims=0)
    nodes = [
        node("Reshape", "x grid", "folded"),
        node("Mul", "folded folded", "act"),
        last,
    ]
    constants = [integers("grid", [0, 4, 4, 4]), integers("axes", axes)]
    listing = listed(model_of(nodes, constants, ("N", 16, 4)))
    assert {t.name: t.layout for t in listing}["act"] == wanted


def test_attention_is_no_map(listed):
    # (N, T, D) → (N, heads, T, d), whose last axes are no grid.
    nodes = [
        node("Reshape", "x split", "cut"),
        node("Transpose", "cut", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "cut", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "q k", "products"),
        node("Softmax", "products", "attention", axis=-1),
        node("ReduceMean", "attention", "y", axes=[3], keepdims=0),
    ]
    listing = listed(model_of(nodes, [integers("split", [0, 0, 2, 8])], ("N", 9, 16)))
    by_name = {t.name: t for t in listing}
    assert by_name["attention"].shape == (None, 2, 9, 9)
    assert by_name["attention"].point
    assert with_role(listing, "channel") == []


def test_tokens_with_a_stated_layout_are_maps(listed):
    source = models.tokens()
    layouts = models.known(source)["hidden_tokens"]
    unasked = listed(source)
    # What was embedded are the patches in another order.
    assert with_role(unasked, "channel") == ["patches", "mixed"]
    assert {t.name: t.layout for t in unasked if t.name in layouts} == layouts
    entries = {f"onnx_geed.layout.{name}": text for name, text in layouts.items()}
    listing = listed(models.with_metadata(source, entries))
    assert with_role(listing, "channel") == ["patches", *layouts]
    assert {t.name: t.layout for t in listing}["mixed"] == layouts["mixed"]


# ------------------------------------------------------------------------------------------------
# Names
# ------------------------------------------------------------------------------------------------


def test_a_layer_is_found_by_tensor_node_and_glob(listed):
    source = models.random_cnn()
    source.graph.node[0].name = "first"
    listing = listed(source)
    assert [t.name for t in resolve(listing, "block0_a")] == ["block0_a"]
    assert [t.name for t in resolve(listing, "first")] == ["stem_pre"]
    assert [t.name for t in resolve(listing, "block?")] == ["block0", "block1"]


def test_a_glob_prefers_the_default_layers(listed):
    listing = listed(models.random_cnn())
    assert [t.name for t in resolve(listing, "block*")] == ["block0", "block1"]
    assert {t.name for t in resolve(listing, "*_pre")} == {
        "stem_pre",
        "block0_a_pre",
        "block1_a_pre",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_counts_over_a_glob_wherever_it_is_written(listed, order):
    source = models.random_cnn()
    source.graph.node[0].name = "first"
    listing = listed(source)
    given = [("stem*", "NCHW"), ("block*", "NCHW"), ("block1", "NHWC"), ("first", "NHWC")]
    layouts = stated_layouts(listing, dict(given[::order]))
    assert layouts["block1"] == layouts["stem_pre"] == "NHWC"
    assert layouts["block0"] == layouts["stem"] == "NCHW"
    ordered = patterns_first(listing, dict(given[::order]))
    assert [key for key, _ in ordered if "*" in key] == [k for k, _ in given[::order] if "*" in k]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("blok1", "Did you mean 'block1'"),
        ("head", "'head' is a constant"),
        ("x", "'x' is an input"),
        ("nothing*", "no layer is called"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(listed, name, reason):
    with pytest.raises(GeedError, match=reason):
        resolve(listed(models.random_cnn()), name)


def test_what_does_not_depend_on_the_input_is_refused(listed):
    nodes = [node("Exp", "w", "fixed"), node("Mul", "x fixed", "y")]
    listing = listed(model_of(nodes, [weights("w", np.ones((3, 1, 1)))]))
    with pytest.raises(GeedError, match="does not depend on the values of input 'x'"):
        resolve(listing, "fixed")


def test_module_paths_are_read_from_names_of_the_older_exporter(listed):
    source = models.random_cnn()
    names = {
        "stem": "/stem/act/Relu",
        "block0_a": "/layer1/layer1.0/relu/Relu",
        "block0": "/layer1/layer1.0/relu_1/Relu",
        "block1": "/layer1/layer1.1/relu/Relu",
    }
    for entry in source.graph.node:
        entry.name = names.get(entry.output[0], entry.name)
    listing = listed(source)
    assert {t.name: t.module for t in listing}["block0_a"] == "layer1.0.relu"
    assert [t.name for t in resolve(listing, "layer1.0")] == ["block0"]
    assert [t.name for t in resolve(listing, "layer1")] == ["block1"]
    assert [t.name for t in resolve(listing, "layer1.*.relu")] == ["block1"]


def test_module_paths_are_read_from_scopes_of_the_newer_exporter(listed):
    source = models.random_cnn()
    for entry in source.graph.node:
        if entry.output[0] == "block0":
            scopes = "['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_2']"
            entry.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    listing = listed(source)
    assert [t.name for t in resolve(listing, "layer1.0.relu")] == ["block0"]


def test_module_paths_of_the_metadata_come_before_derived_ones(listed):
    source = models.random_cnn()
    for entry in source.graph.node:
        if entry.output[0] == "block0":
            entry.name = "/stage/relu/Relu"
    stated = {"onnx_geed.modules": json.dumps({"stage": "block0_sum"})}
    listing = listed(models.with_metadata(source, stated))
    assert [t.name for t in resolve(listing, "stage")] == ["block0_sum"]
    # The converter looked for it by its values, and left it out.
    with pytest.raises(GeedError, match="no layer is called"):
        resolve(listing, "stage.relu")


def test_a_convolution_with_a_batch_norm_folded_in_does_not_answer_for_itself(listed):
    names = {
        "own": ("/a/Conv", "a.weight", "a.bias"),
        "normed": ("/f/f.0/Conv", "onnx::Conv_26", "onnx::Conv_27"),
        # A weight that is computed is no module's own either, but its bias is: weight norm.
        "scaled": ("/g/Conv", "onnx::Conv_30", "g.bias"),
    }
    nodes, stored, read = [], [], "x"
    for out, (called, weight, bias) in names.items():
        nodes.append(node("Conv", f"{read} {weight} {bias}", out))
        nodes[-1].name = called
        stored += [weights(weight, np.ones((3, 3, 1, 1))), weights(bias, np.ones(3))]
        read = out
    nodes.append(node("Relu", read, "y"))
    listing = listed(model_of(nodes, stored))
    found = {t.name: t.module for t in listing if t.name in names}
    assert found == {"own": "a", "normed": "f.0+norm", "scaled": "g"}
    assert [t.name for t in resolve(listing, "f")] == ["normed"]
    assert [t.name for t in resolve(listing, "g")] == ["scaled"]
    with pytest.raises(GeedError, match=r"no layer is called 'f\.0'"):
        resolve(listing, "f.0")


def test_metadata_that_are_no_module_paths_are_refused(listed):
    wrong = models.with_metadata(models.random_cnn(), {"onnx_geed.modules": "[1]"})
    with pytest.raises(GeedError, match=r"onnx_geed\.modules"):
        listed(wrong)


def after_a_loop():
    """A convolution, a Loop that doubles its maps three times, another convolution."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Add", ["before", "before"], ["twice"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("before", FLOAT, None),
        ],
        [value("go", TensorProto.BOOL, []), value("twice", FLOAT, None)],
    )
    nodes = [
        models.conv("x", "w", "map"),
        node("Loop", "turns going map", "looped", body=body),
        models.conv("looped", "v", "inner"),
        node("Relu", "inner", "act"),
        node("GlobalAveragePool", "act", "pooled"),
        node("Flatten", "pooled", "latent"),
        node("MatMul", "latent fc", "y"),
    ]
    rng = np.random.default_rng(4)
    constants = [
        weights("w", rng.normal(size=(4, 3, 3, 3))),
        weights("v", rng.normal(size=(4, 4, 3, 3))),
        weights("fc", rng.normal(size=(4, 5))),
        weights("turns", 3, np.int64),
        weights("going", True, np.bool_),
    ]
    return model_of(nodes, constants)


def test_maps_of_unknown_shapes_are_default_layers(listed):
    listing = listed(after_a_loop())
    assert {t.name: t.shape for t in listing}["act"] is None
    assert with_role(listing, "channel") == ["map", "looped", "act"]


def test_maps_behind_a_loop_are_measured_by_default(tmp_path):
    """Doubled three times, maps are the same times 8, and their cosines are the same."""
    path = models.save(after_a_loop(), tmp_path / "model.onnx")
    data = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    result = geed.measure(path, data, "C4", measures=["channel-cos"])
    of_layer = {record["layer"]: record for record in result["measurements"]}
    assert list(of_layer) == ["map", "looped", "act"]
    np.testing.assert_allclose(
        of_layer["looped"]["deviations"], of_layer["map"]["deviations"], atol=1e-6
    )
    named = geed.measure(path, data, "C4", measures=["channel-cos@act"])
    assert named["measurements"][0]["deviations"] == of_layer["act"]["deviations"]
    assert not any("1×1" in note for note in result["notes"])
