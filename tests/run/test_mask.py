"""Ragged sets: padding is left out of every measure, as if each set were measured by itself."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_geed as geed
from onnx_geed.run import compile_measurement

P = 7
LENGTHS = np.array([3, 7, 2, 5, 7, 4])
REAL = np.arange(P) < LENGTHS[:, None]
# Points in the plane, padded with what must not be seen.
POINTS = np.where(REAL[..., None], np.random.default_rng(0).standard_normal((6, P, 2)), 9.0)
POINTS = POINTS.astype(np.float32)
LAYERS = ("features", "shifted", "scores")
OPTIONS = {
    "measures": [
        *("channel-cos@features", "output-l2@features", "latent-l2@shifted", "latent-cos@shifted"),
        *("softmax-kl@scores", "flip-rate@scores", "unexplained@features"),
    ],
    "input_layout": {"x": "NPX"}, "layout": dict.fromkeys(LAYERS, "NPC"), "latent": "shifted",
    "output": "scores", "output_kind": "logits", "samples": 6, "norm_samples": 6, "provider": "cpu",
}  # fmt: skip


def network(path, *, length=P, placed=False, masked=True):
    """Features and scores of points; if placed, they depend on the place in the set."""
    rng = np.random.default_rng(2)
    w, v = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4), (4, 2)))
    place = rng.standard_normal((1, P, 1)).astype(np.float32)[:, :length]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "place"], ["at"]),
        helper.make_node("Tanh", ["at"], ["features"]),
        helper.make_node("Add", ["features", "half"], ["shifted"]),
        helper.make_node("MatMul", ["shifted", "v"], ["scores"]),
    ]
    stored = {
        "w": w,
        "v": v,
        "half": np.float32(0.5),
        "place": place if placed else np.ones_like(place),
    }
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", length, 2])]
    if masked:
        nodes += [
            helper.make_node("Unsqueeze", ["m", "two"], ["wide"]),
            helper.make_node("Mul", ["scores", "wide"], ["kept"]),
        ]
        stored["two"] = np.array([2])
        inputs.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, ["N", length]))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 2])
        for name in ("scores", *(["kept"] if masked else []))
    ]
    constants = [numpy_helper.from_array(np.asarray(a), k) for k, a in stored.items()]
    graph = helper.make_graph(nodes, "sets", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def records(result):
    return {m["measure"]: m for m in result["measurements"]}


def test_each_set_deviates_as_by_itself(tmp_path):
    # C5 turns vectors and leaves points in their places, so that a set can be measured alone.
    path = network(tmp_path / "m.onnx")
    result = geed.measure(path, {"x": POINTS}, "C5", mask={"m": REAL}, **OPTIONS)
    padded = records(geed.measure(path, POINTS, "C5", feed={"m": REAL.astype("f")}, **OPTIONS))
    masked = records(result)
    for row, index in enumerate(result["data"]["indices"]):
        length = int(LENGTHS[index])
        alone = network(tmp_path / "one.onnx", length=length, masked=False)
        own = OPTIONS | {"samples": 1, "norm_samples": 1, "input_layout": "NPX"}
        one = records(geed.measure(alone, POINTS[index : index + 1, :length], "C5", **own))
        for name in ("channel-cos", "output-l2", "latent-l2", "latent-cos", "softmax-kl"):
            got, want = masked[name]["deviations"][row], one[name]["deviations"][0]
            np.testing.assert_allclose(got, want, atol=2e-6, err_msg=f"{name} of sample {index}")
        got, want = masked["flip-rate"]["deviations"][row], one["flip-rate"]["deviations"][0]
        np.testing.assert_allclose(got, want, atol=1e-12)
    for name, record in masked.items():
        # What is padded counts, where no mask is given.
        assert record["value"] != pytest.approx(padded[name]["value"], rel=1e-3), name
    assert masked["flip-rate"]["most_common"] == pytest.approx(share_of_the_most_common(path))


def share_of_the_most_common(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    scores = session.run(["scores"], {"x": POINTS, "m": REAL.astype(np.float32)})[0]
    counts = np.bincount(scores.argmax(-1)[REAL], minlength=2)
    return counts.max() / counts.sum()


def test_latents_for_m_are_means_over_what_is_real(tmp_path):
    path = network(tmp_path / "m.onnx")
    few = OPTIONS | {"samples": 2, "norm_samples": 6, "measures": ["latent-l2@shifted"]}
    (record,) = geed.measure(path, POINTS, "C5", mask={"m": REAL}, **few)["measurements"]
    w = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)
    latents = [np.tanh(x[:n] @ w).mean(0) + 0.5 for x, n in zip(POINTS, LENGTHS, strict=True)]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(latents) for b in latents[:i]]
    assert record["normaliser"] == pytest.approx(np.mean(apart), rel=1e-5)


@pytest.mark.parametrize(
    "mask", [{"m": REAL}, {"m": LENGTHS}, {"m": ""}], ids=["marks", "lengths", "of the data"]
)
def test_padding_moves_along_and_a_set_function_is_equivariant(tmp_path, mask):
    data = {"x": POINTS}
    if isinstance(mask["m"], str):
        data = {"x": POINTS[REAL], "x_lengths": LENGTHS}
    still, placed = (
        records(geed.measure(path, data, "S7~12", mask=mask, **OPTIONS))
        for path in (network(tmp_path / f"{p}.onnx", placed=p) for p in (False, True))
    )
    for name, record in still.items():
        assert record["relative"] == pytest.approx(0, abs=1e-6), name
        assert placed[name]["relative"] > 0.01, name


def test_a_mask_of_an_input_itself_is_not_fed(tmp_path):
    path = network(tmp_path / "m.onnx", masked=False)
    by_marks = geed.measure(path, POINTS, "C5", mask={"x": REAL}, **OPTIONS)
    assert (
        records(by_marks)["output-l2"]["value"]
        < records(geed.measure(path, POINTS, "C5", **OPTIONS))["output-l2"]["value"]
    )


def test_sets_of_different_lengths_without_a_mask_are_told(tmp_path):
    path = network(tmp_path / "m.onnx", masked=False)
    data = {"x": POINTS[REAL], "x_lengths": LENGTHS}
    result = geed.measure(path, data, "C5", **OPTIONS)
    assert any("padded with zeros, which are measured too" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        ({"n": REAL}, {}, "--mask n: no input has that name; the model has x, m"),
        ({"m": REAL, "x": REAL}, {}, "--mask: give one, not 2"),
        ({"m": ""}, {}, "the samples of x are all of one length; give --mask m=FILE"),
        ({"m": REAL[:, :4]}, {}, "--mask m.*6×7"),
        ({"m": np.full((6, P), 0.5)}, {}, "--mask m: holds 0.5"),
        ({"m": np.zeros((6, P))}, {}, "--mask m: sample 0 has no real entry"),
        ({"m": REAL}, {"engine": "graph"}, "--engine graph: --mask"),
        ({"m": REAL}, {"feed": {"m": np.zeros((6, P))}}, "--feed m: --mask m already sets"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, mask, options, message):
    with pytest.raises(geed.GeedError, match=message) as caught:
        geed.measure(network(tmp_path / "m.onnx"), POINTS, "C5", mask=mask, **OPTIONS | options)
    assert "\n" not in str(caught.value)


def test_caches_and_compiled_measurements_refuse_masks(tmp_path):
    path = network(tmp_path / "m.onnx")
    with pytest.raises(geed.GeedError, match="--mask: a cache keeps no mask"):
        geed.write_cache(path, POINTS, "C5", tmp_path / "a.geed", mask={"m": REAL}, **OPTIONS)
    with pytest.raises(geed.GeedError, match="--mask"):
        compile_measurement(path, "C5", tmp_path / "c", data=POINTS, mask={"m": REAL}, **OPTIONS)


PLACES, FEATURES = (np.random.default_rng(s).random((14, 3)).astype(np.float32) for s in (5, 6))
MANY = np.array([3, 5, 4, 2])
TWO = {"input": "pos", "input_layout": {"pos": "NPX", "atoms": "NPC"}, "provider": "cpu"}


def two_sets(path, names=("P", "P")):
    """The product of two sums over points, of tanh; padding adds nothing. Lengths are free."""
    w = np.random.default_rng(7).standard_normal((3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["pos", "w"], ["turned"]),
        helper.make_node("Tanh", ["turned"], ["h"]),
        helper.make_node("Tanh", ["atoms"], ["k"]),
        helper.make_node("ReduceSum", ["h", "one"], ["of_h"], keepdims=0),
        helper.make_node("ReduceSum", ["k", "one"], ["of_k"], keepdims=0),
        helper.make_node("Mul", ["of_h", "of_k"], ["out"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 3])
        for name, length in zip(("pos", "atoms"), names, strict=True)
    ]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])
    held = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "sets", inputs, [output], held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path, w


def stored(path, lengths, others):
    np.savez(path, pos=PLACES, pos_lengths=lengths, atoms=FEATURES, atoms_lengths=others)
    return path


@pytest.mark.parametrize("mask", [{"pos": ""}, {"atoms": ""}, {}])
@pytest.mark.parametrize("group", ["C3-z", "S5~4"])
def test_a_set_beside_the_input_is_padded_whether_or_not_it_moves(tmp_path, group, mask):
    path, w = two_sets(tmp_path / "m.onnx")
    data = stored(tmp_path / "d.npz", MANY, MANY)
    (record,) = geed.measure(
        *(path, data, group), measures=["unexplained@out"], mask=mask, **TWO
    )["measurements"]  # fmt: skip
    cut = np.cumsum(MANY)[:-1]
    parts = zip(np.split(PLACES @ w, cut), np.split(FEATURES, cut), strict=True)
    out = np.array([np.tanh(h).sum(axis=0) * np.tanh(k).sum(axis=0) for h, k in parts])
    wanted = ((out - out.mean(axis=0)) ** 2).sum() / 3
    assert record["normaliser"] == pytest.approx(wanted, rel=1e-5)
    assert (record["value"] < 1e-9) == (group == "S5~4")


@pytest.mark.parametrize("group", ["O", "S5~4"])
def test_sets_of_one_axis_are_as_long_in_each_sample(tmp_path, group):
    data = stored(tmp_path / "d.npz", MANY, MANY[[1, 0, 2, 3]])
    path, _ = two_sets(tmp_path / "m.onnx")
    with pytest.raises(geed.GeedError, match=r"sample 0 has 3 along P in pos, but 5 in atoms: giv"):
        geed.measure(path, data, group, measures=["output-l2"], **TWO)
    # What the model calls two axes, or by no common name, are two sets.
    for names in (("P", "Q"), (None, None), (5, None), (5, 5)):
        path, _ = two_sets(tmp_path / "two.onnx", names)
        geed.measure(path, data, "O", measures=["output-l2"], **TWO)


def test_a_mask_of_points_that_stay_goes_with_a_disk(tmp_path):
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("ReduceSum", ["pos", "one"], ["s"], keepdims=0),
        helper.make_node("Cast", ["real"], ["each"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["each", "one"], ["count"], keepdims=1),
        helper.make_node("Div", ["s", "count"], ["mean"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["seen"]),
        helper.make_node("Add", ["mean", "seen"], ["out"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4]),
        helper.make_tensor_value_info("pos", TensorProto.FLOAT, ["N", "P", 3]),
        helper.make_tensor_value_info("real", TensorProto.BOOL, ["N", "P"]),
    ]
    weights = rng.normal(size=(48, 3)).astype(np.float32)
    held = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "one")]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", inputs, [output], held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    x = rng.random((4, 3, 4, 4)).astype(np.float32)
    data = {"x": x, "pos": PLACES, "pos_lengths": MANY}
    (record,) = geed.measure(
        *(tmp_path / "m.onnx", data, "flip-h"),
        measures=["unexplained@out"],
        input="x",
        input_layout={"x": "NCHW", "pos": "NPC"},
        mask={"real": ""},
        support="disk",
        provider="cpu",
    )["measurements"]
    # The points' means are of what is real, whatever the image does.
    centre = np.arange(4) - 1.5
    disk = centre[:, None] ** 2 + centre**2 <= 4
    means = np.array([one.mean(axis=0) for one in np.split(PLACES, np.cumsum(MANY)[:-1])])
    out = means + (x * disk).reshape(4, -1) @ weights
    wanted = ((out - out.mean(axis=0)) ** 2).sum() / 3
    assert record["normaliser"] == pytest.approx(wanted, rel=1e-5)
