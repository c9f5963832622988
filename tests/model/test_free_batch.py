"""Exposed tensors are the model's own; a freed batch leaves every row as it is alone."""

from __future__ import annotations

import importlib.util
import warnings

import light
import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from running import images, run, session

from onnx_geed.model import (
    expose_tensors as expose,
    find_input,
    find_output,
    free_batch_axis as free_batch,
    list_tensors as tensors,
    load_model,
)
from onnx_geed.model.weights_in_place import with_weights

FLOAT = TensorProto.FLOAT
node, weights, integers = models.node, models.weights, models.integers
BATCHES = (1, 2, 5)


@pytest.fixture
def read(tmp_path):
    return lambda source: load_model(models.save(source, tmp_path / "model.onnx"))


def in_batches(proto, name, x, size):
    """All outputs for samples x, in batches of a size."""
    live = session(proto)
    parts = [live.run(None, {name: x[at : at + size]}) for at in range(0, len(x), size)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def assert_rows_stay(model, names, x):
    """In batches every row is, to float accuracy, what the model as it is makes of it alone."""
    name = find_input(model).name
    alone = in_batches(expose(model, names), name, x, 1)
    freed = expose(free_batch(model, name), names)
    for size in BATCHES:
        for tensor, a, b in zip(names, alone, in_batches(freed, name, x, size), strict=True):
            spread = np.ptp(a, axis=0).max()
            assert spread > 0, tensor
            assert b.shape == a.shape, tensor
            assert np.abs(a - b).max() < 1e-4 * spread, (tensor, size)


def fixed(nodes, constants=(), shape=(1, 3, 4, 4), opset=17, ir_version=10):
    name = nodes[-1].output[0]
    proto = models.build(nodes, list(constants), [("x", FLOAT, shape)], [(name, FLOAT, None)])
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", opset))
    proto.ir_version = ir_version
    return proto


# ------------------------------------------------------------------------------------------------
# Exposing
# ------------------------------------------------------------------------------------------------


def test_exposed_tensors_come_in_the_order_asked_for_and_once(read):
    source, x = models.random_cnn(0, (8, 8)), images((3, 8, 8))
    proto = expose(read(source), ["latent", "stem", "latent"])
    assert [o.name for o in proto.graph.output] == ["latent", "stem"]
    for got, expected in zip(
        session(proto).run(None, {"x": x}), run(source, x, ["latent", "stem"]), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_what_no_exposed_tensor_needs_is_left_out(read):
    model = read(models.random_cnn(0, (8, 8)))
    before = model.proto.SerializeToString()
    proto = expose(model, ["stem"])
    assert [n.op_type for n in proto.graph.node] == ["Conv", "Relu"]
    assert [i.name for i in proto.graph.initializer] == ["stem_pre_w", "stem_pre_b"]
    assert model.proto.SerializeToString() == before


def test_all_that_is_not_the_graph_is_kept(read):
    source = models.with_metadata(models.random_cnn(), {"key": "value"})
    proto = expose(read(source), ["logits"])
    for field in ("ir_version", "opset_import", "producer_name", "metadata_props"):
        assert getattr(proto, field) == getattr(source, field)


def test_weights_listed_as_inputs_go_where_they_are_not_needed(read):
    proto = expose(read(models.initializer_as_input()), ["stem"])
    assert {i.name for i in proto.graph.input} == {"x", *(i.name for i in proto.graph.initializer)}
    assert session(proto).run(None, {"x": images((3, 8, 8))})[0].shape == (5, 4, 8, 8)


def test_bodies_keep_what_they_capture(read):
    source, x = models.if_body(), images((1, 6, 6))
    (got,) = session(expose(read(source), ["chosen"])).run(None, {"x": x})
    np.testing.assert_allclose(got, run(source, x, ["chosen"])[0], rtol=1e-5, atol=1e-6)


def test_every_tensor_that_is_offered_can_be_exposed(read):
    for build in (
        models.tokens,
        models.nhwc_hidden,
        models.qdq_int8,
        models.fp16,
        models.local_function,
        models.unsorted,
        models.shape_bypass,
    ):
        model = read(build())
        acted = find_input(model)
        names = [t.name for t in tensors(model, "x", find_output(model)) if not t.refused]
        x = images([length or 1 for length in acted.shape[1:]]).astype(acted.dtype)
        got = session(expose(model, names)).run(None, {"x": x})
        assert all(isinstance(array, np.ndarray) for array in got)


# ------------------------------------------------------------------------------------------------
# Freeing the batch
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", light.SMALL)
def test_classic_graphs_run_in_batches(read, name):
    model = read(light.refilled(name))
    whole = b"".join(with_weights(model.proto, model.path))  # to be run from memory
    model.proto.ParseFromString(whole)
    acted = find_input(model)
    listed = tensors(model, acted.name, find_output(model))
    # Not the softmax of random logits, which is one class's alone.
    names = [t.name for t in listed if t.point and "channel" not in t.roles and t.op != "Softmax"]
    names += [t.name for t in listed if "channel" in t.roles][-2:]
    rng = np.random.default_rng(1)
    assert_rows_stay(model, names, rng.standard_normal((5, 3, 224, 224), dtype=np.float32))


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_reshape_to_one_row_is_repaired(read, size):
    model = read(models.static_batch(0, size))
    assert_rows_stay(model, ["stem", "block1", "latent", "logits"], images((3, *size)))


def test_a_reshape_that_merges_rows_in_silence_is_repaired(read):
    model = read(models.merging_batch())
    assert_rows_stay(model, ["map", "latent", "logits"], images((1, 6, 6)))


def test_freeing_leaves_the_model_itself_as_it_was(read):
    model = read(models.static_batch())
    before = model.proto.SerializeToString()
    free = free_batch(model, "x")
    assert model.proto.SerializeToString() == before
    assert (free.path, free.sha256) == (model.path, model.sha256)
    onnx.checker.check_model(free.proto, full_check=True)


def test_a_squeeze_without_axes_keeps_the_batch(read):
    nodes = [node("GlobalAveragePool", "x", "pooled"), node("Squeeze", "pooled", "y")]
    nodes.append(node("Reshape", "y back", "z"))
    for opset in (11, 17):
        model = read(fixed(nodes, [integers("back", [1, 3])], opset=opset))
        assert_rows_stay(model, ["z"], images((3, 4, 4)))


def test_allowzero_goes_with_the_shape_that_meant_it(read):
    nodes = [node("Reshape", "x flat", "y", allowzero=1)]
    assert_rows_stay(read(fixed(nodes, [integers("flat", [1, -1])])), ["y"], images((3, 4, 4)))


def test_reshape_by_attribute_of_the_first_opsets_is_repaired(read):
    proto = fixed([node("Reshape", "x", "y", shape=[1, -1])], opset=4, ir_version=3)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [1, 48]))
    (entry,) = free_batch(read(proto), "x").proto.graph.node
    assert list(entry.attribute[0].ints) == [0, -1]  # 0: as long as it comes in
    assert list(entry.input) == ["x"]


@pytest.mark.parametrize("opset", [7, 9, 13, 17])
def test_constants_concatenated_to_data_are_repeated(read, opset):
    nodes = [
        node("Reshape", "x target", "columns"),
        node("Transpose", "columns", "tokens", perm=[0, 2, 1]),
        node("Concat", "class_token tokens", "with_class", axis=1),
        node("Relu", "with_class", "y"),
    ]
    constants = [integers("target", [1, 3, 16]), weights("class_token", np.ones((1, 1, 3)))]
    model = read(fixed(nodes, constants, opset=opset))
    assert_rows_stay(model, ["with_class", "y"], images((3, 4, 4)))


def test_constants_padded_along_channels_are_repeated(read):
    nodes = [node("Concat", "x zeros", "y", axis=1)]
    model = read(fixed(nodes, [weights("zeros", np.zeros((1, 2, 4, 4)))]))
    assert_rows_stay(model, ["y"], images((3, 4, 4)))


def test_a_resize_to_a_given_size_takes_the_batch_as_it_comes(read):
    nodes = [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest")]
    model = read(fixed(nodes, [integers("sizes", [1, 3, 8, 8])]))
    assert_rows_stay(model, ["y"], images((3, 4, 4)))


def test_a_declared_batch_of_ten_is_freed_too(read):
    nodes = [
        node("Reshape", "x flat", "rows"),
        node("Relu", "rows", "act"),
        node("Reshape", "act back", "y"),
    ]
    constants = [integers("flat", [160, 3]), integers("back", [10, 48])]
    free = free_batch(read(fixed(nodes, constants, (10, 3, 4, 4))), "x")
    x = images((3, 4, 4))
    for size in (1, 5, 10):
        (got,) = in_batches(expose(free, ["y"]), "x", x, size)
        np.testing.assert_array_equal(got, x.reshape(5, 48))


def test_an_expansion_to_a_declared_batch_follows_the_rows(read):
    nodes = [node("GlobalAveragePool", "x", "pooled"), node("Expand", "pooled target", "y")]
    model = read(fixed(nodes, [integers("target", [10, 3, 2, 2])], (10, 3, 4, 4)))
    x = images((3, 4, 4))
    (got,) = in_batches(expose(free_batch(model, "x"), ["y"]), "x", x, 2)
    expected = np.broadcast_to(x.mean((2, 3), keepdims=True), (5, 3, 2, 2))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_batch_that_is_not_in_front_is_followed(read):
    # (L, N, E) attention: heads are split off behind the batch, then rows flattened before it.
    nodes = [
        node("Reshape", "x columns", "c"),
        node("Transpose", "c", "t", perm=[2, 0, 1]),  # (16, N, 6)
        node("Reshape", "t heads", "h"),  # (16, N·2, 3)
        node("Transpose", "h", "q", perm=[1, 0, 2]),  # (N·2, 16, 3)
        node("Transpose", "h", "k", perm=[1, 2, 0]),
        node("MatMul", "q k", "products"),
        node("Softmax", "products", "attention", axis=-1),
        node("MatMul", "attention q", "mixed"),
        node("Transpose", "mixed", "back", perm=[1, 0, 2]),
        node("Reshape", "back rows", "r"),  # (16·N, 6)
        node("Gemm", "r w", "dense"),
        node("Reshape", "dense again", "a"),  # (16, N, 6)
        node("Transpose", "a", "y", perm=[1, 0, 2]),
    ]
    constants = [
        integers("columns", [1, 6, 16]),
        integers("heads", [16, 2, 3]),
        integers("rows", [16, 6]),
        integers("again", [16, 1, 6]),
        weights("w", np.random.default_rng(0).normal(size=(6, 6))),
    ]
    model = read(fixed(nodes, constants, (1, 6, 4, 4)))
    assert_rows_stay(model, ["q", "attention", "y"], images((6, 4, 4)))


def test_picking_from_in_front_of_the_batch_moves_it(read):
    nodes = [
        node("Reshape", "x columns", "c"),
        node("Transpose", "c", "t", perm=[1, 2, 0]),  # (3, 16, N)
        helper.make_node("Constant", [], ["second"], value=integers("", 1)),
        node("Gather", "t second", "one", axis=0),  # (16, N)
        node("Reshape", "one same", "same_again"),
        node("Transpose", "same_again", "y", perm=[1, 0]),
    ]
    constants = [integers("columns", [1, 3, 16]), integers("same", [16, 1])]
    assert_rows_stay(read(fixed(nodes, constants)), ["y"], images((3, 4, 4)))


@pytest.mark.parametrize("allowzero", [0, 1])
def test_where_shapes_are_unknown_the_stated_one_is_relaxed(read, allowzero):
    # Behind NonZero nothing can be inferred; a stated [1, -1] still can be read.
    nodes = [
        node("NonZero", "mask", "nonzero"),
        node("Squeeze", "nonzero zero", "picked"),
        node("Gather", "x picked", "some", axis=2),
        node("Reshape", "some flat", "y", allowzero=allowzero),
    ]
    mask = np.arange(2000) < 2  # too long to be carried out beforehand
    constants = [integers("flat", [1, -1]), integers("zero", [0]), weights("mask", mask)]
    assert_rows_stay(read(fixed(nodes, constants)), ["y"], images((3, 4, 4)))


def test_inputs_fed_beside_the_image_are_freed_with_it_and_weights_are_not(read):
    source = models.two_input()
    for info in source.graph.input:
        info.type.tensor_type.shape.dim[0].dim_value = 1
    source.graph.input.append(helper.make_tensor_value_info("table", FLOAT, [1, 9]))
    source.graph.initializer.append(weights("table", np.ones((1, 9))))
    free = {
        i.name: i.type.tensor_type.shape.dim[0]
        for i in free_batch(read(source), "x").proto.graph.input
    }
    assert free["x"].dim_param == free["extra"].dim_param != ""
    assert free["table"].dim_value == 1


def test_a_free_batch_stays_free(read):
    x = images((3, 8, 8))
    for source in (models.random_cnn(0, (8, 8)), models.tokens(8), models.nhwc_hidden(8)):
        free = free_batch(read(source), "x")
        (got,) = in_batches(expose(free, ["logits"]), "x", x, 5)
        np.testing.assert_allclose(got, run(source, x, ["logits"])[0], rtol=1e-5, atol=1e-5)


def test_large_external_weights_stay_where_they_are(tmp_path):
    source = models.static_batch()
    big = np.ones((600, 5), dtype=np.float32)
    source.graph.initializer.append(weights("big", big))
    source.graph.node.append(node("Mul", "logits big_mean", "scaled"))
    source.graph.node.insert(0, node("ReduceMean", "big", "big_mean", axes=[0], keepdims=0))
    model = load_model(models.save_external(tmp_path, source))
    proto = expose(free_batch(model, "x"), ["scaled"])
    stored = {i.name: i for i in proto.graph.initializer}
    assert stored["big"].data_location == TensorProto.EXTERNAL
    assert not stored["big"].raw_data


# ------------------------------------------------------------------------------------------------
# What PyTorch writes
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Small networks as either of PyTorch's exporters writes them for a batch of 1."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("torch")
    layers = torch.nn

    class Block(layers.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = layers.Conv2d(4, 4, 3, padding=1)
            self.bn1 = layers.BatchNorm2d(4)
            self.conv2 = layers.Conv2d(4, 4, 3, padding=1)
            self.relu = layers.ReLU()

        def forward(self, x):
            return self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))) + x)

    class Cnn(layers.Module):
        def __init__(self):
            super().__init__()
            self.stem = layers.Sequential(layers.Conv2d(3, 4, 3), layers.SiLU())
            self.layer1 = layers.Sequential(Block(), Block())
            self.fc = layers.Linear(4, 5)

        def forward(self, x):
            return self.fc(self.layer1(self.stem(x)).mean((2, 3)))

    class ViT(layers.Module):
        def __init__(self):
            super().__init__()
            self.patch = layers.Conv2d(3, 8, 4, 4)
            self.cls = layers.Parameter(torch.ones(1, 1, 8))
            self.norm = layers.LayerNorm(8)
            self.attention = layers.MultiheadAttention(8, 2, batch_first=True)
            self.head = layers.Linear(8, 5)

        def forward(self, x):
            tokens = self.patch(x)
            tokens = tokens.reshape(len(x), tokens.shape[1], -1).permute(0, 2, 1)
            tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1)
            normed = self.norm(tokens)
            tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
            return self.head(tokens[:, 0])

    def export(name, newer):
        path = folder / f"{name}_{newer}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            network = {"cnn": Cnn, "vit": ViT}[name]().eval()
            options = {"external_data": False, "verbose": False} if newer else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    network, (torch.ones(1, 3, 12, 12),), path, dynamo=newer, **options
                )
        return load_model(path)

    return export


needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


@needs_torch
@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_what_pytorch_exports_for_one_image_runs_in_batches(exported, name, newer):
    model = exported(name, newer)
    listed = tensors(model, find_input(model).name, find_output(model))
    assert_rows_stay(model, [t.name for t in listed if t.point], images((3, 12, 12)))


@needs_torch
@pytest.mark.parametrize("newer", [False, True])
def test_layers_of_pytorch_are_found_by_module_path(exported, newer):
    from onnx_geed.model import resolve

    model = exported("cnn", newer)
    listed = tensors(model, find_input(model).name, find_output(model))
    maps = [t.name for t in listed if "channel" in t.roles]
    paths = ("stem", "layer1.0", "layer1.1")
    assert [resolve(listed, path)[0].name for path in paths] == maps
    assert resolve(listed, "layer1")[0].name == maps[-1]
    assert resolve(listed, "fc")[0].roles == ("output",)
