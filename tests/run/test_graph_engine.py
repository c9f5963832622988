"""The measurement as one graph: it says what the compiled loops say, in any runtime."""

import itertools
import json
import re
from dataclasses import replace

import models
import naive
import naive_letters
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from running import images

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.run import Options, prepare_run as prepare
from onnx_geed.run.engine import choose_engine
from onnx_geed.run.fuse import fuse_measurement as fuse
from onnx_geed.run.memory import fit_memory
from onnx_geed.run.trial import Trial

FLOAT = onnx.TensorProto.FLOAT
NORMALISED = geed.Preprocess(mean=(0.2, 0.5, 0.7), std=(0.3, 0.2, 0.6))
# What two runs may differ in.
_OWN = ("created", "command", "runtime")


def both(tmp_path, model, data, group, **options):
    """The results of both engines, which must agree in every field."""
    path = models.save(model, tmp_path / "model.onnx")
    options = {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu", **options}
    kernels, graph = (
        geed.measure(path, data, group, engine=engine, **options) for engine in ("kernels", "graph")
    )
    assert (kernels["runtime"]["engine"], graph["runtime"]["engine"]) == ("kernels", "graph")
    agree(kernels, graph)
    return graph


def agree(a, b, where="result", tolerance=1e-5):
    if isinstance(a, dict):
        assert set(a) == set(b), where
        for key in set(a) - set(_OWN):
            agree(a[key], b[key], f"{where}.{key}", tolerance)
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            agree(x, y, f"{where}[{i}]", tolerance)
    elif isinstance(a, float) and isinstance(b, float | int):
        assert b == pytest.approx(a, rel=tolerance, abs=tolerance), where
    else:
        assert a == b, where


def table(group, kind, values):
    return geed.Table(naive.elements(group), kind, values, "given")


def cyclic_rows(order, size, *, through=None):
    """C<order> turning `size` things, through its quotient of order `through` if given."""
    m = through or order
    return [[(c - k % m) % m if c < m else c for c in range(size)] for k in range(order)]


def pointwise(shape, *, scale=1.0, shift=0.0, ending="Flatten"):
    """x · scale + shift as the map `y`; flattened, or pooled, as the output."""
    return models.build(
        [
            models.node("Mul", "x scale", "scaled"),
            models.node("Add", "scaled shift", "y"),
            models.node(ending, "y", "out"),
        ],
        [models.weights("scale", scale), models.weights("shift", shift)],
        [("x", FLOAT, ["N", *shape])],
        [("out", FLOAT, None)],
    )


# the same figures as the compiled loops


@pytest.mark.parametrize("group", ["C4", "C8", "C3", "D4", "flip-h", "shift2x2"])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (6, 10)])
def test_random_networks_measure_the_same(tmp_path, group, size):
    if group == "shift2x2" and size == (9, 9):
        pytest.skip("does not divide")
    both(tmp_path, models.random_cnn(sum(size), size), images((3, *size), 12), group)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_options_of_the_action_measure_the_same(tmp_path, interpolation, support, size):
    options = {"interpolation": interpolation, "support": support}
    both(tmp_path, models.random_cnn(5, size), images((3, *size), 12), "C8", **options)


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("group", ["C8", "shift2x2"])
def test_what_moves_in_is_black_before_mean_and_std(tmp_path, support, group):
    preprocess = geed.Preprocess(mean=(0.2, 0.5, 0.7), std=(0.3, 0.2, 0.6), channels="BGR")
    data = images((3, 8, 8), 12)
    result = both(
        tmp_path, models.random_cnn(1, (8, 8)), data, group, preprocess=preprocess, support=support
    )
    plain = both(tmp_path, models.random_cnn(1, (8, 8)), data, group, support=support)
    assert result["measurements"][0]["value"] != pytest.approx(plain["measurements"][0]["value"])


@pytest.mark.parametrize("batch_size", [8, 20, 64])
def test_batches_do_not_matter(tmp_path, batch_size):
    model, data = models.random_cnn(6, (8, 8)), images((3, 8, 8), 12)
    result = both(tmp_path, model, data, "C8", batch_size=batch_size)
    agree(result, both(tmp_path, model, data, "C8"), tolerance=1e-6)
    assert result["runtime"]["batch_size"] == batch_size


def test_layers_in_several_passes_measure_the_same(tmp_path):
    model, data = models.random_cnn(6, (8, 8), blocks=4), images((3, 8, 8), 12)
    path = models.save(model, tmp_path / "model.onnx")
    for kib in range(400, 40, -4):
        options = Options(engine="graph", provider="cpu", memory=f"{kib}KiB")
        if len(prepare(path, data, "C4", options).passes) > 1:
            break
    else:
        pytest.fail("no budget cuts the layers into passes that hold an orbit")
    both(tmp_path, model, data, "C4", memory=f"{kib}KiB")


def test_dead_channels_and_zero_vectors_are_the_same(tmp_path):
    data = images((3, 6, 6), 12)
    data[:, 1] = 0
    data[0] = 0
    measures = ["channel-cos@y", "latent-cos@out", "latent-l2@out"]
    result = both(tmp_path, pointwise((3, 6, 6)), data, "C4", measures=measures, samples=12)
    records = {r["measure"]: r for r in result["measurements"]}
    # Nothing but a permutation happens, so that the maps agree to the bit.
    assert records["channel-cos"]["value"] == -1
    assert records["channel-cos"]["zero_pairs"] == pytest.approx((11 / 3 + 1) / 12)
    assert records["latent-cos"]["zero_pairs"] == pytest.approx(1 / 12)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e25])
def test_maps_of_any_scale_measure_the_same(tmp_path, scale):
    # What moves in from outside is 0 before the shift, and so the maps differ in the corners.
    model = pointwise((3, 64, 64), scale=scale, shift=scale / 4)
    result = both(tmp_path, model, images((3, 64, 64), 6), "C8", measures=["channel-cos@y"])
    assert -1 < result["measurements"][0]["value"] < -0.5


def test_large_maps_measure_the_same(tmp_path):
    data = images((3, 225, 225), 2)
    for mean in (0.0, 1000.0):
        model = pointwise((3, 225, 225), shift=mean)
        both(tmp_path, model, data, "C8", measures=["channel-cos@y"])


def test_nearly_equal_large_latents_keep_their_distance(tmp_path):
    """In float32 sums of squares, 1e4 would leave nothing of differences of 1e-2."""
    model = pointwise((3, 6, 6), scale=1e-2, shift=1e4)
    data = images((3, 6, 6), 12)
    measures = ["latent-l2@out", "latent-cos@out", "output-l2@out"]
    result = both(tmp_path, model, data, "C4", measures=measures)
    y = (data * np.float32(1e-2) + np.float32(1e4)).reshape(len(data), 3, 6, 6)
    orbits = naive.orbit("C4", y[result["data"]["indices"][:5]]).reshape(5, 4, -1)
    want = naive.latent_l2(orbits, "C4")
    assert want.max() < 0.1
    np.testing.assert_allclose(result["measurements"][0]["deviations"], want, rtol=1e-6)


def test_channel_tables_measure_the_same(tmp_path):
    model = models.c4_lifting()
    facts = models.known(model)
    actions = {name: table("C4", "channels", facts["channels"]) for name in ("map1", "map2")}
    measures = [f"channel-cos@{name}" for name in actions]
    options = {"measures": measures, "output_action": actions}
    result = both(tmp_path, model, images((1, 9, 9), 12), "C4", **options)
    for record in result["measurements"]:
        np.testing.assert_allclose(record["deviations"], -1, atol=1e-6)


def test_a_table_the_wrong_way_round_is_doubted_by_both(tmp_path):
    model = models.c4_lifting()
    rows = np.array(models.known(model)["channels"])[[0, 3, 2, 1]]
    options = {"output_action": {"map1": table("C4", "channels", rows)}}
    measures = ["channel-cos@map1"]
    data = images((1, 9, 9), 12)
    for batch_size in (4, 16, 64):  # the first five are doubted, in one job or in several
        result = both(
            tmp_path,
            model,
            data,
            "C4",
            measures=measures,
            samples=9,
            batch_size=batch_size,
            **options,
        )
    assert "swapped" in result["measurements"][0]["warnings"][0]


@pytest.mark.parametrize("support", ["full", "disk"])
def test_channel_tables_through_a_quotient_measure_the_same(tmp_path, support):
    rows = cyclic_rows(8, 4, through=4)
    actions = {"block0": table("C8", "channels", rows)}
    options = {"measures": ["channel-cos@block0"], "output_action": actions, "support": support}
    names = models.known(models.random_cnn(3, (9, 9)))["hidden"]
    assert "block0" in names
    both(tmp_path, models.random_cnn(3, (9, 9)), images((3, 9, 9), 12), "C8", **options)


@pytest.mark.parametrize(("group", "support"), [("C12", "full"), ("C12", "disk"), ("C24", "full")])
def test_maps_with_a_kernel_of_the_action_measure_the_same(tmp_path, group, support):
    """Nearest on 2 x 2: small rotations move nothing, f_hat is a mean, the subgroup's is not."""
    options = {"interpolation": "nearest", "support": support, "measures": ["channel-cos@y"]}
    model, data = pointwise((3, 2, 2)), images((3, 2, 2), 12)
    path = models.save(model, tmp_path / "model.onnx")
    prepared = prepare(path, data, group, Options(provider="cpu", **options))
    (measure,) = prepared.task.plan.measures
    assert len(measure.kernel_of_action) > 1
    assert not set(measure.kernel_of_action) <= set(prepared.task.plan.exact_subgroup(measure))
    both(tmp_path, model, data, group, **options)


@pytest.mark.parametrize("through", [None, 4, 2])
def test_permuted_outputs_measure_the_same(tmp_path, through):
    model = models.random_cnn(4, (8, 8), classes=9)
    actions = {"logits": table("C8", "permutation", cyclic_rows(8, 9, through=through))}
    options = {"measures": ["softmax-kl", "output-l2"], "output_action": actions}
    result = both(tmp_path, model, images((3, 8, 8), 12), "C8", **options)
    assert [r["output_action"] for r in result["measurements"]] == ["permutation"] * 2


@pytest.mark.parametrize("through", [1, 2])
def test_outputs_under_matrices_measure_the_same(tmp_path, through):
    """Rotations of the plane by 45° k · through: faithful, and through the quotient C4."""
    angles = through * np.pi / 4 * np.arange(8)
    matrices = np.tile(np.eye(5), (8, 1, 1))
    matrices[:, :2, :2] = np.moveaxis(
        np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]), -1, 0
    )
    options = {
        "measures": ["output-l2"],
        "output_action": {"logits": table("C8", "matrices", matrices)},
    }
    result = both(tmp_path, models.random_cnn(4, (8, 8)), images((3, 8, 8), 12), "C8", **options)
    assert result["measurements"][0]["value"] > 0


@pytest.mark.parametrize(
    "build", [models.softmax_output, models.log_softmax_output, models.sigmoid_output]
)
def test_other_endings_measure_the_same(tmp_path, build):
    both(tmp_path, build(), images((3, 8, 8), 12), "C8", measures=["softmax-kl"])


def test_one_logit_is_two_classes(tmp_path):
    swap = table("C2", "permutation", models.known(models.sign_logit())["permutation"])
    options = {
        "measures": ["softmax-kl"],
        "output_kind": "logits",
        "output_action": {"logit": swap},
    }
    result = both(tmp_path, models.sign_logit(), images((1, 5, 5), 12), "C2", **options)
    np.testing.assert_allclose(result["measurements"][0]["deviations"], 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e30])
def test_logits_of_any_size_measure_the_same(tmp_path, scale):
    model = pointwise((3, 5, 5), scale=scale)
    options = {"measures": ["softmax-kl@out"], "output_kind": "logits"}
    result = both(tmp_path, model, images((3, 5, 5), 12), "C4", **options)
    assert np.min(result["measurements"][0]["deviations"]) >= 0


@pytest.mark.parametrize("build", [models.pooled_output, models.conv_classifier])
def test_pooled_latents_measure_the_same(tmp_path, build):
    measures = ["latent-l2", "latent-cos"]
    both(tmp_path, build(2), images((3, 8, 8), 12), "C8", measures=measures)


def test_a_map_as_latent_is_pooled_the_same(tmp_path):
    model, data = models.random_cnn(2, (9, 9)), images((3, 9, 9), 12)
    measures = ["latent-l2@block0", "latent-cos@block0", "channel-cos@block0"]
    result = both(tmp_path, model, data, "C8", measures=measures)
    assert "average-pooled" in result["measurements"][1]["notes"][0]


def test_channels_last_measure_the_same(tmp_path):
    data = images((3, 8, 8), 12)
    last = np.ascontiguousarray(np.moveaxis(data, 1, -1))
    both(tmp_path, models.nhwc_input(2), last, "C8", preprocess=NORMALISED)
    measures = ["channel-cos@last", "channel-cos@map", "latent-l2@last"]
    options = {"measures": measures, "layout": {"last": "NHWC"}}
    both(tmp_path, models.nhwc_hidden(8), data, "C8", **options)


@pytest.mark.parametrize("support", ["full", "disk"])
def test_tokens_measure_the_same(tmp_path, support):
    model = models.tokens()
    layouts = models.known(model)["hidden_tokens"]
    assert any("+" in text for text in layouts.values())
    measures = [f"channel-cos@{name}" for name in layouts]
    options = {"measures": measures, "layout": layouts, "support": support}
    both(tmp_path, model, images((3, 8, 8), 12), "C8", **options)


@pytest.mark.parametrize("rows", [12, 1])
def test_other_inputs_are_repeated_for_every_element(tmp_path, rows):
    extra = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    options = {"measures": ["softmax-kl"], "feed": {"extra": extra}}
    both(tmp_path, models.two_input(2), images((3, 8, 8), 12), "C4", **options)


def test_a_fixed_batch_is_freed_for_the_graph_too(tmp_path):
    both(tmp_path, models.static_batch(2), images((3, 8, 8), 12), "C8")


def test_weights_as_inputs_and_unsorted_nodes_are_the_same(tmp_path):
    for build in (models.initializer_as_input, models.unsorted, models.local_function):
        both(tmp_path, build(), images((3, 8, 8), 12), "C4")


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (models.uneven_stride, (3, 8, 8)),
        (models.cyclic_logits, (1, 5, 5)),
        (models.constant, (1, 5, 5)),
        (models.merging_batch, (1, 6, 6)),
        (models.flip_equivariant, (3, 6, 7)),
        (models.qdq_int8, (3, 8, 8)),
        (models.shape_bypass, None),
        (models.if_body, None),
    ],
)
def test_models_with_known_answers_measure_the_same(tmp_path, build, shape):
    model = build()
    if shape is None:
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    both(tmp_path, model, images(shape, 12), "C8")


@pytest.mark.parametrize("shape", [(6, 6), (2, 3, 6, 6)])
def test_images_without_channels_and_volumes_measure_the_same(tmp_path, shape):
    measures = ["output-l2@out"]
    options = {"preprocess": geed.Preprocess(mean=(0.3,), std=(0.2,)) if len(shape) == 2 else None}
    options["input_layout"] = "NHW" if len(shape) == 2 else "NCDHW"
    both(tmp_path, pointwise(shape), images(shape, 12), "C8", measures=measures, **options)


@pytest.mark.parametrize("memory", ["2GiB", "300KiB"])
def test_stopping_at_a_precision_does_not_depend_on_the_engine(tmp_path, memory):
    model, data = models.random_cnn(2, (8, 8), blocks=4), images((3, 8, 8), 40)
    options = {"samples": 40, "norm_samples": 15, "precision": 0.01, "memory": memory}
    result = both(tmp_path, model, data, "C4", **options)
    assert result["precision"]["samples"] > 10
    assert {r["samples"] for r in result["measurements"]} == {result["precision"]["samples"]}


def test_the_untrained_twin_does_not_depend_on_the_engine(tmp_path):
    model, data = models.random_cnn(2, (8, 8)), images((3, 8, 8), 12)
    result = both(tmp_path, model, data, "C4", untrained=True)
    record = result["measurements"][0]
    twin = record["references"]["untrained"]
    assert twin["value"] != pytest.approx(record["value"], rel=1e-3)


def test_references_do_not_depend_on_the_engine(tmp_path):
    model, data = models.random_cnn(2, (8, 8)), images((3, 8, 8), 12)
    result = both(tmp_path, model, data, "C8", references=True)
    assert result["measurements"][0]["references"]["input_round_trip"]["value"] > -1


@pytest.mark.parametrize("opset", [8, 9, 11, 12, 13, 18, 20, 21])
def test_models_of_any_opset_measure_the_same(tmp_path, opset):
    model = models.random_cnn(2, (8, 8))
    model.ir_version = 10 if opset > 12 else 4
    model.opset_import[0].version = opset  # its operators have not changed since 7
    both(tmp_path, model, images((3, 8, 8), 12), "C8")


def test_half_precision_is_measured_as_far_as_it_goes(tmp_path):
    path = models.save(models.fp16(2), tmp_path / "half.onnx")
    options = {"samples": 5, "norm_samples": 9, "provider": "cpu", "measures": ["latent-l2"]}
    data = images((3, 8, 8), 12)
    kernels, graph = (
        geed.measure(path, data, "C4", engine=engine, **options) for engine in ("kernels", "graph")
    )
    a, b = (result["measurements"][0]["deviations"] for result in (kernels, graph))
    np.testing.assert_allclose(a, b, rtol=0.05, atol=2e-3)
    assert any("half precision" in note for note in graph["notes"])


def half_within(at):
    """``random_cnn`` with float32 input and output, of which one tensor is rounded to float16."""
    model = models.random_cnn(2, (8, 8))
    place = next(i for i, node in enumerate(model.graph.node) if at in node.output) + 1
    for later in model.graph.node:
        later.input[:] = [f"{at}_again" if name == at else name for name in later.input]
    casts = [
        models.node("Cast", at, f"{at}_half", to=onnx.TensorProto.FLOAT16),
        models.node("Cast", f"{at}_half", f"{at}_again", to=onnx.TensorProto.FLOAT),
    ]
    for cast in reversed(casts):
        model.graph.node.insert(place, cast)
    return model


def test_half_precision_within_a_model_is_said_for_the_tensors_behind_it(tmp_path):
    path = models.save(half_within("block1"), tmp_path / "half.onnx")
    options = {"samples": 5, "norm_samples": 9, "provider": "cpu", "engine": "graph"}
    for layer, said in (("block0", False), ("block1", False), ("logits", True)):
        result = geed.measure(
            path, images((3, 8, 8), 12), "C4", measures=[f"output-l2@{layer}"], **options
        )
        assert any("half precision" in note for note in result["notes"]) is said
    # Their rows may change with the batch by what rounding to half precision makes of it.
    prepared = prepare(path, images((3, 8, 8), 12), "C4", Options(provider="cpu"))
    half = prepared.task.source.check.half
    assert "logits" in half
    assert not half & {"x", "block0", "block1"}


def test_weights_that_are_only_stored_in_half_precision_round_nothing(tmp_path):
    model = models.random_cnn(2, (8, 8))
    casts = []
    for tensor in model.graph.initializer:
        stored = onnx.numpy_helper.to_array(tensor)
        if stored.dtype == np.float32:
            casts.append(
                models.node("Cast", f"{tensor.name}_half", tensor.name, to=onnx.TensorProto.FLOAT)
            )
            tensor.CopyFrom(models.weights(f"{tensor.name}_half", stored, np.float16))
    for cast in casts:
        model.graph.node.insert(0, cast)
    path = models.save(model, tmp_path / "stored.onnx")
    prepared = prepare(path, images((3, 8, 8), 12), "C4", Options(provider="cpu"))
    assert casts
    assert not prepared.task.source.check.half


# what goes wrong is named


def test_a_sample_that_is_not_a_number_is_named_alike(tmp_path):
    model = models.nan_for_dark()
    path = models.save(model, tmp_path / "model.onnx")
    data = images((1, 6, 6), 12) * 0.5 + 0.5
    data[7] *= 0.01
    messages = []
    for engine in ("kernels", "graph"):
        with pytest.raises(geed.GeedError, match="NaN or infinity") as caught:
            geed.measure(path, data, "C4", samples=12, batch_size=4, provider="cpu", engine=engine)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "sample 7, element e" in messages[0]


def test_an_infinite_divergence_is_named_alike(tmp_path):
    """Pixels that sum to one as probabilities, with a zero in one place."""
    data = np.full((12, 1, 2, 2), 0.25, np.float32)
    data[:, 0] = [[0.5, 0.25], [0.25, 0.0]]
    model = pointwise((1, 2, 2))
    path = models.save(model, tmp_path / "model.onnx")
    actions = {"out": table("C2", "permutation", [[0, 1, 2, 3], [1, 0, 3, 2]])}
    messages = []
    for engine in ("kernels", "graph"):
        with pytest.raises(geed.GeedError, match="infinite") as caught:
            geed.measure(
                path,
                data,
                "C2",
                measures=["softmax-kl"],
                output_kind="probabilities",
                output_action=actions,
                provider="cpu",
                engine=engine,
            )
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "element r1" in messages[0]


def test_values_that_are_no_probabilities_are_named_alike(tmp_path):
    data = np.full((12, 1, 1, 3), 0.2, np.float32)
    data[9] = 1.5
    model = models.sigmoid_output()
    # One Sigmoid is taken at its word; here it is a plain scale.
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.CopyFrom(helper.make_node("Identity", node.input, node.output))
    path = models.save(model, tmp_path / "model.onnx")
    messages = []
    for engine in ("kernels", "graph"):
        with pytest.raises(geed.GeedError, match="not probabilities") as caught:
            geed.measure(
                path,
                images((3, 8, 8), 12) * 50,
                "C4",
                measures=["softmax-kl"],
                output_kind="probabilities",
                provider="cpu",
                engine=engine,
            )
        messages.append(str(caught.value))
    assert messages[0].split("values")[0] == messages[1].split("values")[0]


def test_a_model_run_one_by_one_has_no_graph(tmp_path):
    path = models.save(models.batch_coupled(), tmp_path / "model.onnx")
    data = images((1, 6, 6), 12)
    with pytest.raises(geed.GeedError, match="--engine graph: the model runs one sample at a time"):
        geed.measure(path, data, "C4", provider="cpu", engine="graph")
    with pytest.raises(geed.GeedError, match="free batch axis"):
        geed.compile_measurement(path, "C4", tmp_path / "measured.onnx", data=data)
    assert not (tmp_path / "measured.onnx").exists()


def test_a_batch_smaller_than_an_orbit_has_no_graph(tmp_path):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    for limit, told in (
        ({"batch_size": 3}, "--batch-size 3"),
        ({"memory": "30KB"}, "--memory 30KB"),
    ):
        with pytest.raises(
            geed.GeedError, match=f"{told} allows . rows?, fewer than the 4 of an orb"
        ):
            geed.measure(path, images((3, 8, 8), 4), "C4", provider="cpu", engine="graph", **limit)


def test_the_processor_takes_the_kernels_by_itself(tmp_path):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    result = geed.measure(path, images((3, 8, 8), 4), "C4", provider="cpu")
    assert result["runtime"]["engine"] == "kernels"


def test_a_cache_is_filled_the_same_whatever_the_engine(tmp_path):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    options = {"samples": 4, "norm_samples": 6, "provider": "cpu"}
    write_cache(path, images((3, 8, 8), 6), "C4", tmp_path / "a.geed", engine="graph", **options)
    offline = measure_cache(tmp_path / "a.geed")
    live = geed.measure(path, images((3, 8, 8), 6), "C4", engine="kernels", **options)
    assert offline["measurements"] == live["measurements"]
    assert offline["runtime"]["engine"] == "kernels"


# the compiled file, in a bare runtime


def compiled(tmp_path, model, group, **options):
    """A compiled measurement: what it says of itself, and a plain session on it."""
    path = models.save(model, tmp_path / "model.onnx")
    out = tmp_path / "measured.onnx"
    result = geed.compile_measurement(path, group, out, **options)
    onnx.checker.check_model(str(out), full_check=True)
    stored = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert json.loads(stored["onnx_geed.measurement"]) == result
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == [o["name"] for o in result["outputs"]]
    return result, session


def run(session, x, **feeds):
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"samples": x, **feeds}), strict=True))


def test_an_equivariant_model_scores_minus_one_and_a_disturbed_one_more(tmp_path):
    x = images((1, 9, 9), 7)
    _, session = compiled(tmp_path, models.c4_equivariant(9), "C4")
    got = run(session, x)
    for layer in ("map1", "map2"):
        np.testing.assert_allclose(got[f"deviation/channel-cos/{layer}"], -1, atol=1e-6)
    np.testing.assert_allclose(got["deviation/latent-l2/latent"], 0, atol=1e-5)
    np.testing.assert_allclose(got["deviation/softmax-kl/logits"], 0, atol=1e-6)
    _, session = compiled(tmp_path, models.c4_disturbed(9), "C4")
    worse = run(session, x)
    assert worse["deviation/channel-cos/map1"].mean() > -0.999
    assert worse["deviation/channel-cos/map2"].mean() > -0.999
    assert worse["deviation/latent-l2/latent"].mean() > 1e-2
    assert worse["deviation/softmax-kl/logits"].mean() > 1e-5


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("group", ["C8", "shift2x2"])
def test_a_compiled_file_says_what_measure_says(tmp_path, group, support):
    model, data = models.random_cnn(3, (8, 8)), images((3, 8, 8), 12)
    result, session = compiled(tmp_path, model, group, preprocess=NORMALISED, support=support)
    options = {"preprocess": NORMALISED, "support": support, "samples": 12, "provider": "cpu"}
    of_all = geed.measure(tmp_path / "model.onnx", data, group, **options)
    chosen = data[of_all["data"]["indices"]]
    mean, std = (np.array(v)[:, None, None] for v in (NORMALISED.mean, NORMALISED.std))
    taken = ((chosen - mean) / std).astype(np.float32)
    got = run(session, taken)
    deviations = [o for o in result["outputs"] if o["part"] == "deviation"]
    assert len(deviations) == len(of_all["measurements"])
    for entry, record in zip(deviations, of_all["measurements"], strict=True):
        assert entry["name"] == f"deviation/{record['measure']}/{record['layer']}"
        assert entry["elements"] == of_all["group"]["elements"]
        np.testing.assert_allclose(got[entry["name"]], record["deviations"], rtol=1e-5, atol=1e-5)
    m = naive.normaliser(got["latent/latent"], "latent-l2")
    record = next(r for r in of_all["measurements"] if r["measure"] == "latent-l2")
    value = got["deviation/latent-l2/latent"].mean() / m
    assert value == pytest.approx(record["value"], rel=1e-5)
    alone = [run(session, taken[i : i + 1]) for i in range(12)]
    for name, array in got.items():
        parts = np.concatenate([a[name] for a in alone])
        np.testing.assert_allclose(parts, array, rtol=1e-5, atol=1e-6)


def test_a_compiled_file_names_axes_units_and_elements(tmp_path):
    result, session = compiled(tmp_path, models.random_cnn(3, (8, 8)), "C4")
    (entry,) = [o for o in result["outputs"] if o["name"] == "deviation/softmax-kl/logits"]
    assert entry["unit"] == "nats"
    assert "without the identity" not in entry["meaning"]
    assert entry["elements"] == ["e", "r1", "r2", "r3"]
    assert entry["shape"] == ["N", 4]
    stored = onnx.load(tmp_path / "measured.onnx")
    docs = {o.name: o.doc_string for o in stored.graph.output}
    assert "nats" in docs["deviation/softmax-kl/logits"]
    assert "e, r1, r2, r3" in docs["deviation/channel-cos/block0"]
    assert "not yet moved" in stored.doc_string
    assert session.get_inputs()[0].shape == ["N", 3, 8, 8]
    scopes = {n.name.split("/")[1] for n in stored.graph.node if n.name.startswith("geed/")}
    assert {"input", "maps", "points", "channel-cos", "latent-l2", "softmax-kl"} <= scopes


def test_not_a_number_goes_through_a_compiled_file(tmp_path):
    _, session = compiled(tmp_path, models.random_cnn(3, (8, 8)), "C4")
    x = images((3, 8, 8), 3)
    x[1, 0, 0, 0] = np.nan
    for name, array in run(session, x).items():
        if name.startswith(("deviation/", "energy/")):
            bad = ~np.isfinite(array).all(axis=1)
            assert bad.tolist() == [False, True, False], name


def test_a_compiled_model_with_other_inputs_takes_them_by_sample(tmp_path):
    extra = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    result, session = compiled(tmp_path, models.two_input(2), "C4", feed={"extra": extra})
    got = run(session, images((3, 8, 8), 2), **{"samples/extra": extra})
    assert got["deviation/softmax-kl/logits"].shape == (2, 4)
    assert result["input"]["name"] == "samples"


def test_external_weights_go_beside_the_compiled_file(tmp_path):
    (tmp_path / "in").mkdir()
    path = models.save_external(tmp_path / "in")
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "measured.onnx"
    geed.compile_measurement(path, "C4", out)
    onnx.checker.check_model(str(out))
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape[1:]
    assert np.isfinite(run(session, images(shape, 2))["deviation/softmax-kl/logits"]).all()


def test_a_measurement_is_not_measured_again(tmp_path):
    compiled(tmp_path, models.random_cnn(3, (8, 8)), "C4")
    path = tmp_path / "measured.onnx"
    with pytest.raises(geed.GeedError, match="is a measurement"):
        geed.compile_measurement(path, "C4", tmp_path / "twice.onnx", output="latent/latent")
    with pytest.raises(geed.GeedError, match="is a measurement"):
        geed.measure(path, images((3, 8, 8), 4), "C4", output="latent/latent")


def test_only_the_layers_of_a_pass_are_in_its_graph(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "model.onnx")
    prepared = prepare(path, images((3, 8, 8), 4), "C4", Options(provider="cpu"))
    task = prepared.task
    fused = fuse(task.network.graph, task.source, task.plan, ("block0",), "x")
    assert {o.measure.layer for o in fused.outputs} == {"block0"}
    assert all(node.op_type != "Gemm" for node in fused.proto.graph.node)


def test_auto_takes_the_kernels_where_there_is_no_graph_and_says_why(tmp_path):
    """As on CUDA, which this machine need not have."""
    path = models.save(models.batch_coupled(), tmp_path / "model.onnx")
    data = images((1, 6, 6), 4)
    prepared = prepare(path, data, "C4", Options(provider="cpu"))
    network = prepared.task.network
    session = prepared.worker.session(network, ("y",))
    trial = Trial(replace(session, provider="cuda"), network.graph, {}, network.one_by_one, [])
    source = prepared.task.source
    engine, notes = choose_engine(trial, Options(), source)
    assert engine == "kernels"
    assert notes == ["--engine auto uses kernels: the model runs one sample at a time"]
    assert choose_engine(replace(trial, one_by_one=False), Options(), source) == ("graph", [])
    named = models.random_cnn(0, (8, 8))
    named.graph.node[-1].input[0] = named.graph.node[-2].output[0] = "geed/latent"
    graph = geed.load_model(models.save(named, tmp_path / "named.onnx"))
    engine, (note,) = choose_engine(
        replace(trial, graph=graph, one_by_one=False), Options(), source
    )
    assert engine == "kernels"
    assert "geed/latent" in note


def test_a_card_runs_as_many_orbits_at_once_as_memory_holds(tmp_path):
    path = models.save(pointwise((3, 200, 200)), tmp_path / "model.onnx")
    batches = {}
    for memory in ("2GiB", "8GiB"):
        options = Options(provider="cpu", memory=memory)
        prepared = prepare(path, images((3, 200, 200), 4), "C4", options)
        task = prepared.task
        session = prepared.worker.session(task.network, ("y",))
        for provider in ("cpu", "cuda"):
            trial = Trial(replace(session, provider=provider), task.network.graph, {}, False, [])
            for graph in (True, False):
                share = fit_memory(
                    *(task.plan, task.source, trial, options, prepared.footprint), graph=graph
                )
                batches[provider, graph, memory] = share.batch
    # A row is the sample and its map, 480 kB each, and eight times that for nodes of a graph.
    assert batches["cuda", True, "8GiB"] == (1 << 30) // 4_800_000 // 4 * 4
    assert 60 < batches["cuda", True, "2GiB"] < 120
    # Elsewhere there are 16 MiB in a run, or one orbit.
    assert batches["cuda", False, "8GiB"] == (16 << 20) // 960_000 // 4 * 4
    assert batches["cpu", True, "8GiB"] == 4


def test_a_graph_takes_an_orbit_of_more_elements_than_a_run_has_rows(tmp_path):
    result = both(tmp_path, pointwise((1, 5, 5)), images((1, 5, 5), 9), "C70", samples=2)
    assert result["runtime"]["batch_size"] == 70


def test_vectors_in_other_components_are_noticed_by_both_engines(tmp_path):
    # A gradient (right, up), measured as (right, down): what would fit stands beside what is said.
    kernel = np.zeros((2, 1, 3, 3), np.float32)
    kernel[0, 0, 1, 0], kernel[0, 0, 1, 2] = -0.5, 0.5
    kernel[1, 0, 0, 1], kernel[1, 0, 2, 1] = 0.5, -0.5
    node = onnx.helper.make_node("Conv", ["x", "k"], ["y"], pads=[1, 1, 1, 1])
    x, y = (
        onnx.helper.make_tensor_value_info(name, FLOAT, ["N", channels, 6, 6])
        for name, channels in (("x", 1), ("y", 2))
    )
    graph = onnx.helper.make_graph(
        [node], "up", [x], [y], [onnx.numpy_helper.from_array(kernel, "k")]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    options = {"layout": {"y": "NXHW"}, "output_kind": "embedding", "measures": ["output-l2"]}
    for engine in ("kernels", "graph"):
        given, told = (
            geed.measure(tmp_path / "m.onnx", images((1, 6, 6), 6), "C4", engine=engine, **o)
            for o in (options, options | {"components": "right-up"})
        )
        (record,), (right,) = given["measurements"], told["measurements"]
        assert any("say --components right-up" in w for w in record["warnings"]), engine
        assert record["value"] > 1
        assert right["value"] == 0
        assert not right["warnings"]


def test_whole_numbers_beside_the_input_change_places_as_they_are(tmp_path):
    # No float holds ids above 2^24 that lie next to each other.
    far, points = 1 << 40, 5
    nodes = [
        onnx.helper.make_node("Sub", ["ids", "far"], ["near"]),
        onnx.helper.make_node("Cast", ["near"], ["number"], to=FLOAT),
        onnx.helper.make_node("Unsqueeze", ["number", "last"], ["column"]),
        onnx.helper.make_node("Add", ["x", "column"], ["y"]),
    ]
    inputs = [
        onnx.helper.make_tensor_value_info("x", FLOAT, ["N", points, 2]),
        onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", points]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(far), "far"),
        onnx.numpy_helper.from_array(np.array([2]), "last"),
    ]
    output = onnx.helper.make_tensor_value_info("y", FLOAT, ["N", points, 2])
    graph = onnx.helper.make_graph(nodes, "ids", inputs, [output], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    draw = np.random.default_rng(0)
    x = draw.random((6, points, 2), dtype=np.float32)
    data = {"x": x, "ids": far + draw.integers(0, 9, (6, points))}
    options = {"layout": {"y": "NPC"}, "output_kind": "embedding", "measures": ["output-l2"]}
    for engine in ("kernels", "graph"):
        for letters, perfect in (({"x": "NPC", "ids": "NP"}, True), ({"x": "NPC"}, False)):
            # A graph takes none that is sampled.
            group, batch = ("S5~8", None) if engine == "kernels" else ("S5", 240)
            own = options | {"engine": engine, "input_layout": letters, "batch_size": batch}
            result = geed.measure(tmp_path / "m.onnx", data, group, **own)
            (record,) = result["measurements"]
            assert (record["value"] < 1e-6) == perfect, (engine, letters)
            # Were the ids rounded, those of a set would all be alike, and so in any order.
            assert record["between_samples"] > 5


def two_moved(shape, letters, hidden="joined"):
    """A dense layer on two inputs of the same axes, x and z, and its weights."""
    w = np.random.default_rng(4).normal(size=(2 * int(np.prod(shape)), 3)).astype(np.float32)
    nodes = [
        models.node("Flatten", "x", "flat_x"),
        models.node("Flatten", "z", "flat_z"),
        models.node("Concat", "flat_x flat_z", hidden, axis=1),
        models.node("Gemm", f"{hidden} w", "out"),
    ]
    inputs = [(name, FLOAT, ["N", *shape]) for name in "xz"]
    model = models.build(nodes, [models.weights("w", w)], inputs, [("out", FLOAT, ["N", 3])])
    return model, w, {"input": "x", "input_layout": dict.fromkeys("xz", letters)}


@pytest.mark.parametrize(
    ("group", "shape", "letters"),
    [("O", (4, 3), "NPX"), ("C8", (1, 6, 6), "NCHW"), ("shift-px:-1,1", (1, 6, 6), "NCHW")],
)
def test_two_inputs_that_are_weighed_measure_the_same(tmp_path, group, shape, letters):
    model, _, options = two_moved(shape, letters, "samples/z")
    data = dict(zip("xz", (images(shape, 9, seed) for seed in (1, 2)), strict=True))
    result = both(tmp_path, model, data, group, measures=["output-l2"], **options)
    assert result["measurements"][0]["value"] > 0.1


def test_two_inputs_of_points_that_turn_together_are_those_of_numpy(tmp_path):
    model, w, options = two_moved((4, 3), "NPX")
    data = {name: images((4, 3), 9, seed) for name, seed in (("x", 1), ("z", 2))}
    result = both(tmp_path, model, data, "O", measures=["output-l2"], **options)
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    every = [np.eye(3)[list(p)] * s for p in itertools.permutations(range(3)) for s in signs]
    turns = [t for t in every if np.linalg.det(t) > 0]
    wanted = []
    for i in result["data"]["indices"][:5]:
        moved = [np.concatenate([(data[k][i] @ t.T).ravel() for k in "xz"]) @ w for t in turns]
        wanted.append(np.linalg.norm(moved - np.mean(moved, axis=0), axis=1).mean())
    assert result["measurements"][0]["value"] == pytest.approx(np.mean(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("group", "preprocess"),
    [
        *((group, None) for group in ("hue4", "hue3", "C4*hue3", "brightness:-60..60/3", "C8")),
        ("brightness:-60..60/3", "mean=0.5 std=0.25"),
        ("C8", "mean=0.5 std=0.25"),
    ],
)
def test_a_compiled_file_masks_samples_to_the_disk_under_any_group(tmp_path, group, preprocess):
    measures = ["latent-l2", "channel-cos@stem"]
    options = {"support": "disk", "measures": measures, "preprocess": preprocess}
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    data = np.random.default_rng(3).random((6, 3, 8, 8)).astype(np.float32)
    result = geed.measure(path, data, group, samples=6, norm_samples=6, provider="cpu", **options)
    geed.compile_measurement(path, group, tmp_path / "c.onnx", **options)
    session = ort.InferenceSession(str(tmp_path / "c.onnx"))
    drawn = data[result["data"]["indices"]]
    if preprocess:
        drawn = (drawn - 0.5) / 0.25
    found = run(session, drawn.astype(np.float32))
    for record in result["measurements"]:
        own = found[f"deviation/{record['measure']}/{record['layer']}"]
        np.testing.assert_allclose(own, record["deviations"], rtol=2e-4, atol=2e-5)
    whole = geed.measure(
        *(path, data, group), samples=6, norm_samples=6, provider="cpu",
        measures=["latent-l2"], preprocess=preprocess,
    )  # fmt: skip
    latent = next(r for r in result["measurements"] if r["measure"] == "latent-l2")
    assert abs(latent["unnormalised"] - whole["measurements"][0]["unnormalised"]) > 1e-4


# Preprocessing, and whether hue by fifths or by halves of a turn may come behind it as before.
COLOURED = [
    ({}, True, True),
    ({"scale": 255.0}, True, True),
    ({"mean": 0.5, "std": 0.5}, True, True),
    ({"channels": "BGR"}, False, True),
    ({"channels": "BGR", "mean": 0.5, "std": 0.5}, False, True),
    # White stays white, but colours do not turn alike.
    ({"mean": (0.2, 0.5, 0.7), "std": (0.8, 0.5, 0.3)}, False, False),
    ({"mean": (0.2, 0.5, 0.7)}, False, False),
    ({"std": (0.8, 0.5, 0.3)}, False, False),
]


@pytest.mark.parametrize(("stated", "fifths", "halves"), COLOURED)
@pytest.mark.parametrize("group", ["hue5", "hue2", "C8*hue5"])
def test_colours_turn_before_mean_std_and_channel_order(tmp_path, group, stated, fifths, halves):
    model, data = models.random_cnn(3, (8, 8)), images((3, 8, 8), 12)
    options = {"preprocess": geed.Preprocess(**stated), "measures": ["output-l2", "channel-cos"]}
    result = both(tmp_path, model, data, group, **options)
    path = tmp_path / "model.onnx"
    if not (halves if group == "hue2" else fifths):
        with pytest.raises(geed.GeedError, match=f"group {re.escape(group)} mixes colours before"):
            geed.compile_measurement(path, group, tmp_path / "c.onnx", **options)
    else:
        geed.compile_measurement(path, group, tmp_path / "c.onnx", **options)
        session = ort.InferenceSession(str(tmp_path / "c.onnx"))
        found = run(session, preprocessed(data[result["data"]["indices"][:5]], stated))
        for record in result["measurements"]:
            own = found[f"deviation/{record['measure']}/{record['layer']}"]
            np.testing.assert_allclose(own, record["deviations"], rtol=1e-4, atol=1e-5)
    if "*" in group:
        return
    # By hand: colours turned in float64, then preprocessed.
    chosen = data[result["data"]["indices"][:5]].astype(np.float64)
    record = next(r for r in result["measurements"] if r["measure"] == "output-l2")
    plain = ort.InferenceSession(str(path))
    n = int(group[3:])
    turned = [np.einsum("ij,njhw->nihw", naive_letters.hue_matrix(n, k), chosen) for k in range(n)]
    y = np.stack(
        [plain.run([record["layer"]], {"x": preprocessed(x, stated)})[0] for x in turned], axis=1
    )
    wanted = np.linalg.norm(y - y.mean(axis=1, keepdims=True), axis=2)
    np.testing.assert_allclose(record["deviations"], wanted, rtol=1e-4, atol=1e-5)


def preprocessed(x, stated):
    """Images as a model takes them: channel order, then scale, mean and std."""
    x = (x[:, ::-1] if "channels" in stated else x) * stated.get("scale", 1.0)
    mean, std = stated.get("mean", 0.0), stated.get("std", 1.0)
    return ((x - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))).astype(np.float32)
