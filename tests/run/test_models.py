"""The tiny graphs' known answers, run in ONNX Runtime at batch 1 and 5."""

import models
import naive
import numpy as np
import onnx
import pytest
from running import images, orbits, run, session

BATCHES = [1, 5]
PLAIN = {
    "c4_equivariant": models.c4_equivariant,
    "c4_disturbed": models.c4_disturbed,
    "c4_lifting": models.c4_lifting,
    "flip_equivariant": models.flip_equivariant,
    "uneven_stride": models.uneven_stride,
    "c4_invariant": models.c4_invariant,
    "constant": models.constant,
    "cyclic_logits": models.cyclic_logits,
    "sign_logit": models.sign_logit,
    "random_cnn": models.random_cnn,
    "static_batch": models.static_batch,
    "merging_batch": models.merging_batch,
    "nhwc_input": models.nhwc_input,
    "nhwc_hidden": models.nhwc_hidden,
    "two_input": models.two_input,
    "initializer_as_input": models.initializer_as_input,
    "local_function": models.local_function,
    "pooled_output": models.pooled_output,
    "conv_classifier": models.conv_classifier,
    "fp16": models.fp16,
    "qdq_int8": models.qdq_int8,
    "softmax_output": models.softmax_output,
    "log_softmax_output": models.log_softmax_output,
    "sigmoid_output": models.sigmoid_output,
    "tokens": models.tokens,
    "if_body": models.if_body,
    "sequence_output": models.sequence_output,
    "no_batch_axis": models.no_batch_axis,
    "token_ids": models.token_ids,
    "nan_for_dark": models.nan_for_dark,
    "batch_coupled": models.batch_coupled,
    "noisy": models.noisy,
    "shape_bypass": models.shape_bypass,
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_model_is_valid_onnx(name):
    model = PLAIN[name]()
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 17)


# symmetric by construction


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("model", "group", "shape"),
    [
        (models.c4_equivariant(), "C4", (1, 9, 9)),
        (models.c4_equivariant(7, 3, seed=5), "C4", (3, 7, 7)),
        (models.c4_equivariant(), "D4", (1, 9, 9)),
        (models.flip_equivariant(), "flip-h", (3, 6, 7)),
        (models.nhwc_hidden(), "C4", (3, 7, 7)),
        (models.nhwc_hidden(6), "C4", (3, 6, 6)),
    ],
    ids=["c4", "c4-rgb", "c4-is-d4", "flip", "nhwc-odd", "nhwc-even"],
)
def test_symmetric_networks_are_equivariant_under_their_own_group(model, group, shape, batch):
    facts = models.known(model)
    x = images(shape)
    names = [*facts["hidden"], *facts.get("hidden_nhwc", []), facts["latent"], facts["logits"]]
    values = dict(zip(names, orbits(model, group, x, names, batch), strict=True))
    for name in facts.get("hidden_nhwc", []):
        values[name] = np.moveaxis(values[name], -1, 2)
    maps = [naive.channel_cos(values[n], group) for n in names[:-2]]
    distances = naive.latent_l2(values[facts["latent"]], group)
    spread = naive.normaliser(values[facts["latent"]][:, 0], "latent-l2")
    divergence = naive.softmax_kl(values[facts["logits"]], group)
    for m in maps:
        np.testing.assert_allclose(m, -1, atol=1e-6)
    assert distances.max() < 1e-4 * spread
    assert np.abs(divergence).max() < 1e-8
    # The answers are no artefact of dead units.
    assert spread > 1e-3
    assert all(naive.channel_zero_pairs(values[n], group) < 0.7 for n in names[:-2])


@pytest.mark.parametrize("batch", BATCHES)
def test_one_disturbed_weight_is_seen_by_every_measure(batch):
    model, x = models.c4_disturbed(), images((1, 9, 9))
    map1, map2, latent, logits = orbits(model, "C4", x, ["map1", "map2", "latent", "logits"], batch)
    assert naive.channel_cos(map1, "C4")[:, 1:].max() > -0.99999
    assert naive.channel_cos(map2, "C4")[:, 1:].max() > -0.99999
    spread = naive.normaliser(latent[:, 0], "latent-l2")
    assert naive.latent_l2(latent, "C4").mean() > 1e-3 * spread
    assert naive.softmax_kl(logits, "C4").mean() > 1e-7


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [8, 9])
def test_the_lifting_network_needs_its_channel_table(size, batch):
    model, x = models.c4_lifting(size), images((1, size, size))
    facts = models.known(model)
    values = orbits(model, "C4", x, [*facts["hidden"], "latent", "logits"], batch)
    for maps in values[:2]:
        matched = naive.channel_cos(maps, "C4", channels=facts["channels"])
        np.testing.assert_allclose(matched, -1, atol=1e-6)
        assert naive.channel_cos(maps, "C4")[:, 1:].mean() > -0.95
        backwards = np.array(facts["channels"])[[0, 3, 2, 1]]
        assert naive.channel_cos(maps, "C4", channels=backwards)[:, [1, 3]].mean() > -0.95
    spread = naive.normaliser(values[2][:, 0], "latent-l2")
    assert naive.latent_l2(values[2], "C4").max() < 1e-4 * spread
    assert np.abs(naive.softmax_kl(values[3], "C4")).max() < 1e-8
    assert naive.is_representation("C4", naive.table_to_matrices(facts["channels"]))
    # Orientations are learnt apart, so a mirror is no symmetry of it.
    (mirrored,) = orbits(model, "flip-h", x, ["logits"], batch)
    assert naive.softmax_kl(mirrored, "flip-h").mean() > 1e-6


def test_flip_symmetry_is_not_up_down_symmetry():
    model, x = models.flip_equivariant(), images((3, 6, 7))
    maps, logits = orbits(model, "flip-v", x, ["map1", "logits"], None)
    assert naive.channel_cos(maps, "flip-v")[:, 1].mean() > -0.999
    assert naive.softmax_kl(logits, "flip-v").mean() > 1e-6


@pytest.mark.parametrize("batch", BATCHES)
def test_an_uneven_stride_leaves_a_map_without_exact_quarter_turns(batch):
    (maps,) = orbits(models.uneven_stride(), "C8", images((3, 8, 8)), ["map"], batch)
    assert maps.shape == (5, 8, 4, 8, 4)
    assert naive.exact_subgroup("C8", (8, 8), (8, 4)) == ["e", "r4"]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [5, 6])
def test_the_invariant_model_is_invariant_without_a_map(size, batch):
    model, x = models.c4_invariant(size), images((1, size, size)) - 0.5
    latent, logits = orbits(model, "C4", x, ["latent", "logits"], batch)
    assert naive.latent_l2(latent, "C4").max() < 1e-5
    np.testing.assert_allclose(naive.latent_cos(latent, "C4"), -1, atol=1e-6)
    assert np.abs(naive.softmax_kl(logits, "C4")).max() < 1e-8
    assert naive.normaliser(latent[:, 0], "latent-l2") > 0.01
    # Half of C8 is not in it.
    assert naive.latent_l2(*orbits(model, "C8", x, ["latent"], batch), "C8").max() > 1e-3


@pytest.mark.parametrize("group", ["C8", "D4", "flip-v", "shift5x1"])
def test_the_constant_model_deviates_by_exactly_nothing(group):
    model, x = models.constant(), images((1, 5, 5))
    latent, logits = orbits(model, group, x, ["latent", "logits"], 5)
    np.testing.assert_array_equal(latent[0, 0], [1, 2])
    np.testing.assert_array_equal(logits[0, 0], [3, -1, 0])
    assert naive.latent_l2(latent, group).max() == 0
    assert naive.output_l2(logits, group).max() == 0
    np.testing.assert_allclose(naive.softmax_kl(logits, group), 0, atol=1e-15)
    assert naive.normaliser(latent[:, 0], "latent-l2") == 0
    assert naive.normaliser(latent[:, 0], "latent-cos") == pytest.approx(1)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", [5, 6])
def test_cyclic_logits_need_their_permutation(size, batch):
    model, x = models.cyclic_logits(size), images((1, size, size))
    table = models.known(model)["permutation"]
    (logits,) = orbits(model, "C4", x, ["logits"], batch)
    assert naive.output_l2(logits, "C4", permutation=table).max() < 1e-5
    assert np.abs(naive.softmax_kl(logits, "C4", permutation=table)).max() < 1e-5
    assert naive.output_l2(logits, "C4").mean() > 0.1
    assert naive.softmax_kl(logits, "C4").mean() > 0.1
    np.testing.assert_allclose(logits[:, 1], np.roll(logits[:, 0], 1, axis=-1), atol=1e-5)


def test_one_logit_that_changes_sign_swaps_its_two_classes():
    model, x = models.sign_logit(), images((1, 5, 5))
    (logits,) = orbits(model, "C2", x, ["logit"], 5)
    swap = models.known(model)["permutation"]
    assert np.abs(naive.softmax_kl(logits, "C2", permutation=swap)).max() < 1e-5
    assert naive.softmax_kl(logits, "C2").mean() > 0.01


# random networks in several dresses


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (12, 11)])
@pytest.mark.parametrize("batch", BATCHES)
def test_random_networks_have_the_tensors_they_claim(size, batch):
    model, x = models.random_cnn(3, size), images((3, *size))
    facts = models.known(model)
    names = [*facts["hidden"], *facts["inside"], "pooled", "latent", "logits"]
    whole = dict(zip(names, run(model, x, names), strict=True))
    parts = dict(zip(names, run(model, x, names, batch), strict=True))
    for name in names:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-4)
        assert whole[name].shape[0] == 5
    assert whole["stem"].shape[2:] == size
    assert whole["block1"].shape[2:] == tuple((s + 1) // 2 for s in size)
    np.testing.assert_allclose(whole["pooled"][..., 0, 0], whole["latent"])
    head = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    by_hand = whole["latent"] @ head["head"] + head["bias"]
    np.testing.assert_allclose(whole["logits"], by_hand, atol=1e-4)


def test_random_networks_follow_their_seed():
    assert models.random_cnn(1) == models.random_cnn(1)
    assert models.random_cnn(1) != models.random_cnn(2)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_dresses_of_the_random_network_agree_with_it(size):
    x = images((3, *size))
    names = ["stem", "block0", "block1", "latent", "logits"]
    plain = run(models.random_cnn(0, size), x, names)
    for got, want in zip(run(models.static_batch(0, size), x, names, 1), plain, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    last = np.moveaxis(x, 1, -1).copy()
    for got, want in zip(run(models.nhwc_input(0, size), last, names), plain, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    still = np.zeros((5, 2), np.float32)
    two = models.two_input(0, size)
    np.testing.assert_allclose(run(two, x, ["logits"], extra=still)[0], plain[-1], atol=1e-5)
    moved = run(two, x, ["logits"], extra=still + 1)[0]
    assert np.abs(moved - plain[-1]).max() > 0.1
    (features,) = run(models.pooled_output(0, size), x, ["features"])
    np.testing.assert_allclose(features[..., 0, 0], plain[3], atol=1e-5)


def test_models_of_unusual_form_agree_with_the_plain_one():
    x = images((3, 8, 8))
    (plain,) = run(models.random_cnn(0, (8, 8)), x, ["logits"])
    for other in (models.initializer_as_input(), models.local_function()):
        np.testing.assert_allclose(run(other, x, ["logits"])[0], plain, atol=1e-5)


def test_nodes_out_of_order_are_out_of_order():
    model = models.unsorted()
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    assert model.graph.node[0].output[0] == "logits"


def test_a_declared_batch_of_one_refuses_five_or_merges_them():
    x = images((3, 8, 8))
    relaxed = models.static_batch()
    for value in (*relaxed.graph.input, *relaxed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(Exception, match=r"(?i)gemm|dimension|shape"):
        session(relaxed).run(None, {"x": x})
    merging = models.merging_batch()
    one_by_one = run(merging, images((1, 6, 6)), ["logits"], 1)[0]
    for value in (*merging.graph.input, *merging.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    merged = session(merging).run(None, {"x": images((1, 6, 6))})[0]
    assert merged.shape == (1, 3)
    np.testing.assert_allclose(merged[0], one_by_one.mean(axis=0), atol=1e-5)


def test_a_pooled_convolution_is_an_affine_classifier_of_the_pooled_map():
    model, x = models.conv_classifier(), images((3, 8, 8))
    last, logits = run(model, x, ["block1", "logits"])
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weight, bias = tensors["class_maps_w"][..., 0, 0], tensors["class_maps_b"]
    by_hand = last.mean(axis=(2, 3)) @ weight.T + bias
    np.testing.assert_allclose(logits[..., 0, 0], by_hand, atol=1e-5)


# precisions


def test_half_precision_agrees_within_half_precision():
    x = images((3, 8, 8))
    (plain,) = run(models.random_cnn(0, (8, 8)), x, ["logits"])
    for batch in BATCHES:
        stem, half = run(models.fp16(), x.astype(np.float16), ["stem", "logits"], batch)
        assert stem.dtype == half.dtype == np.float16
        np.testing.assert_allclose(half.astype(np.float32), plain, atol=0.02)


def test_the_quantised_model_agrees_within_its_steps():
    model, x = models.qdq_int8(), images((3, 8, 8))
    (plain,) = run(models.random_cnn(0, (8, 8)), x, ["logits"])
    for batch in BATCHES:
        integer, real, logits = run(model, x, ["stem_q", "stem_dq", "logits"], batch)
        assert (integer.dtype, real.dtype) == (np.uint8, np.float32)
        assert np.abs(logits - plain).max() < 0.3 * np.abs(plain).max()
        assert np.abs(logits - plain).max() > 0
        np.testing.assert_allclose(real, (integer.astype(np.float32) - 30) * 0.04, atol=1e-6)


# endings and bodies


def test_softmax_and_sigmoid_endings_say_the_same_as_their_logits():
    x = images((3, 8, 8))
    for model, name in [
        (models.softmax_output(), "probabilities"),
        (models.log_softmax_output(), "log_probabilities"),
        (models.sigmoid_output(), "probability"),
    ]:
        logits, ending = orbits(model, "C8", x, ["logits", name], 5)
        kind = "logits" if name.startswith("log") else "probabilities"
        got = naive.softmax_kl(ending, "C8", kind=kind)
        np.testing.assert_allclose(got, naive.softmax_kl(logits, "C8"), atol=1e-6)
        assert got.mean() > 1e-4
    assert ending.shape[-1] == 1


@pytest.mark.parametrize("batch", BATCHES)
def test_tokens_are_patches_row_major_behind_a_class_token(batch):
    model, x = models.tokens(), images((3, 8, 8))
    names = ["patches", "embedded", "with_class", "mixed", "latent", "logits"]
    patches, embedded, with_class, mixed, latent, logits = run(model, x, names, batch)
    assert patches.shape == (5, 6, 4, 4)
    assert logits.shape == (5, 4)
    rows = embedded.reshape(5, 4, 4, 6)
    np.testing.assert_array_equal(np.moveaxis(rows, -1, 1), patches)
    np.testing.assert_array_equal(with_class[:, 1:], embedded)
    assert np.ptp(with_class[:, 0], axis=0).max() == 0
    np.testing.assert_array_equal(mixed[:, 0], latent)
    assert np.abs(mixed[:, 1:] - embedded).max() > 0.1


def test_tensors_of_a_branch_cannot_be_exposed():
    model, x = models.if_body(), images((1, 6, 6))
    pre, chosen = run(model, x, ["pre", "chosen"])
    np.testing.assert_array_equal(chosen, np.maximum(pre, 0))
    np.testing.assert_array_equal(run(model, -x - 1, ["chosen"])[0].min(), 0)
    with pytest.raises(Exception, match="does not exist"):
        run(model, x, ["then_map"])


def test_a_sequence_comes_back_as_a_list():
    x = images((3, 8, 8))
    (rows,) = session(models.sequence_output()).run(None, {"x": x})
    assert isinstance(rows, list)
    assert len(rows) == 5


def test_an_unknown_operator_is_refused_by_the_runtime():
    with pytest.raises(Exception, match=r"(?i)nowhere|mystery"):
        session(models.unknown_operator())


def test_a_model_without_a_batch_axis_takes_one_sample():
    (logits,) = session(models.no_batch_axis()).run(None, {"x": images((3, 6, 6))[0]})
    assert logits.shape == (4,)


def test_token_ids_are_integers():
    live = session(models.token_ids())
    assert live.get_inputs()[0].type == "tensor(int64)"
    (logits,) = live.run(None, {"ids": np.zeros((5, 7), np.int64)})
    assert logits.shape == (5, 3)


@pytest.mark.parametrize("batch", BATCHES)
def test_only_dark_samples_are_not_a_number(batch):
    x = images((1, 6, 6))
    x[[1, 3]] *= 0.1
    maps, latent, logits = run(models.nan_for_dark(), x, ["map", "latent", "logits"], batch)
    dark = [False, True, False, True, False]
    np.testing.assert_array_equal(np.isnan(logits).all(axis=1), dark)
    np.testing.assert_array_equal(np.isnan(latent).any(axis=1), dark)
    np.testing.assert_array_equal(maps[:, 0], x[:, 0])
    assert np.isfinite(maps).all()


def test_a_coupled_sample_is_another_in_company():
    model, x = models.batch_coupled(), images((1, 6, 6))
    alone, company = run(model, x, ["logits"], 1)[0], run(model, x, ["logits"], 5)[0]
    np.testing.assert_allclose(alone, np.tile([1, 2, 3], (5, 1)), atol=1e-5)
    assert np.abs(company - alone).max() > 0.01


def test_noise_differs_between_runs():
    x = images((1, 6, 6))
    live = session(models.noisy())
    first, second = (live.run(None, {"x": x})[0] for _ in range(2))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("batch", BATCHES)
def test_a_shape_edge_changes_nothing(batch):
    model, x = models.shape_bypass(), images((1, 6, 6))
    map2, latent = run(model, x, ["map2", "latent"], batch)
    np.testing.assert_array_equal(map2.reshape(5, -1), latent)


def test_external_weights_load_from_beside_the_file(tmp_path):
    x = images((3, 8, 8))
    path = models.save_external(tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size > 1000
    (got,) = session(str(path)).run(None, {"x": x})
    (want,) = session(str(models.save(models.random_cnn(0, (8, 8)), tmp_path / "one.onnx"))).run(
        None, {"x": x}
    )
    np.testing.assert_array_equal(got, want)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(Exception, match=r"weights\.bin"):
        session(str(path))


def test_facts_and_entries_travel_in_the_metadata():
    model = models.with_metadata(models.c4_lifting(), {"onnx_geed.latent": "latent"})
    keys = {entry.key for entry in model.metadata_props}
    assert keys == {"test.known", "onnx_geed.latent"}
    assert models.known(model)["hidden"] == ["map1", "map2"]
