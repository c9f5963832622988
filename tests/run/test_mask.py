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


# two sets of points, each padded by itself to five
# ------------------------------------------------------------------------------------------------

OTHERS = np.array([2, 4, 3, 5])


def padded(rows, lengths, most):
    """Rows that lie one behind the other as (samples, most, 3), zeros behind each sample's own."""
    parts = np.split(rows, np.cumsum(lengths)[:-1])
    return np.stack([np.pad(part, ((0, most - len(part)), (0, 0))) for part in parts])


def spread(y):
    return ((y - y.mean(axis=0)) ** 2).sum() / (len(y) - 1)


def weighed(path, names, marked):
    """The sum of one set beside the mean of exp over what is marked of the other."""
    nodes = [
        helper.make_node("ReduceSum", ["pos", "one"], ["of_pos"], keepdims=0),
        helper.make_node("Exp", ["atoms"], ["e"]),
        helper.make_node("Unsqueeze", ["m", "two"], ["wide"]),
        helper.make_node("Mul", ["e", "wide"], ["real"]),
        helper.make_node("ReduceSum", ["real", "one"], ["of_real"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["of_real", "count"], ["mean"]),
        helper.make_node("Concat", ["of_pos", "mean"], ["out"], axis=1),
    ]
    sides = {"pos": [names[0], 3], "atoms": [names[1], 3], "m": [marked]}
    inputs = [
        helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *rest])
        for k, rest in sides.items()
    ]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 6])
    held = [numpy_helper.from_array(np.array([i]), k) for i, k in ((1, "one"), (2, "two"))]
    graph = helper.make_graph(nodes, "sets", inputs, [output], held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("acted", ["pos", "atoms"])
@pytest.mark.parametrize(
    ("names", "marked", "most"),
    [(("P", "Q"), "Q", (5, 5)), ((5, "Q"), "Q", (5, 5)), ((6, 5), 5, (6, 5))],
)
def test_a_mask_that_the_model_takes_is_of_the_input_whose_axis_it_shares(
    tmp_path, acted, names, marked, most
):
    path = weighed(tmp_path / "m.onnx", names, marked)
    lengths = MANY + (most[0] == 6) * np.array([0, 1, 0, -1])
    places = np.random.default_rng(8).random((lengths.sum(), 3)).astype(np.float32)
    data = {"pos": places, "pos_lengths": lengths, "atoms": FEATURES, "atoms_lengths": OTHERS}
    np.savez(tmp_path / "d.npz", **data)
    (record,) = geed.measure(
        *(path, tmp_path / "d.npz", "S5~6"),
        measures=["unexplained@out"],
        mask={"m": ""},
        **TWO | {"input": acted, "input_layout": {"pos": "NPC", "atoms": "NPC"}},
        layout={"out": "NK"},
    )["measurements"]
    real = np.arange(5) < OTHERS[:, None]
    e = np.exp(padded(FEATURES, OTHERS, 5)) * real[..., None]
    mean = e.sum(axis=1) / OTHERS[:, None]
    out = np.concatenate([padded(places, lengths, most[0]).sum(axis=1), mean], axis=1)
    assert record["normaliser"] == pytest.approx(spread(out), rel=1e-5)


def test_a_mask_that_may_be_of_two_inputs_is_refused(tmp_path):
    path = weighed(tmp_path / "m.onnx", ("P", "Q"), "R")
    data = {"pos": PLACES, "pos_lengths": MANY, "atoms": FEATURES, "atoms_lengths": OTHERS}
    np.savez(tmp_path / "d.npz", **data)
    asked = TWO | {"mask": {"m": ""}, "measures": ["unexplained@out"]}
    with pytest.raises(
        geed.GeedError, match="--mask m: may be of pos or atoms, whose padding diff"
    ):
        geed.measure(path, tmp_path / "d.npz", "S5~6", **asked)
    # Of the same lengths they are padded alike, whichever it is of.
    np.savez(tmp_path / "d.npz", **data | {"atoms_lengths": MANY})
    geed.measure(path, tmp_path / "d.npz", "S5~6", **asked)


def branches(path, names, outputs):
    """What each set becomes by itself, and both together, whose axis no name tells."""
    nodes = [
        helper.make_node("Exp", ["pos"], ["h"]),
        helper.make_node("Exp", ["atoms"], ["k"]),
        helper.make_node("Mul", ["h", "k"], ["both"]),
        helper.make_node("ReduceMax", ["both"], ["out"], axes=[1], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 3])
        for name, length in zip(("pos", "atoms"), names, strict=True)
    ]
    listed = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])]
    listed += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 3])
        for name, length in outputs.items()
    ]
    graph = helper.make_graph(nodes, "sets", inputs, listed)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("acted", ["pos", "atoms"])
@pytest.mark.parametrize("masked", ["pos", "atoms"])
@pytest.mark.parametrize(
    ("names", "outputs", "known"),
    [
        (("P", "Q"), {"h": "P", "k": "Q"}, None),
        ((None, None), {}, None),
        (("P", "Q"), {"both": "P"}, "pos"),
        (("P", "Q"), {"both": "Q"}, "atoms"),
    ],
)
def test_a_mask_leaves_tensors_of_another_set_as_they_are(
    tmp_path, acted, masked, names, outputs, known
):
    path = branches(tmp_path / "m.onnx", names, outputs)
    lengths = {"pos": MANY, "atoms": OTHERS}
    data = {"pos": PLACES, "pos_lengths": MANY, "atoms": FEATURES, "atoms_lengths": OTHERS}
    np.savez(tmp_path / "d.npz", **data)
    result = geed.measure(
        *(path, tmp_path / "d.npz", "S5~6"),
        measures=["unexplained@h", "unexplained@k", "unexplained@both"],
        mask={masked: ""},
        layout=dict.fromkeys(("h", "k", "both"), "NPC") | {"out": "NK"},
        **TWO | {"input": acted, "input_layout": {"pos": "NPC", "atoms": "NPC"}},
        output="out",
    )
    found = {record["layer"]: record["normaliser"] for record in result["measurements"]}
    h, k = np.exp(padded(PLACES, MANY, 5)), np.exp(padded(FEATURES, OTHERS, 5))
    real = {name: (np.arange(5) < own[:, None])[..., None] for name, own in lengths.items()}
    of = {"h": "pos", "k": "atoms", "both": known}
    for name, y in {"h": h, "k": k, "both": h * k}.items():
        wanted = spread(y * real[masked] if of[name] == masked else y)
        assert found[name] == pytest.approx(wanted, rel=1e-5), name
    (note,) = [note for note in result["notes"] if "is not known, and is measured too" in note]
    other = {"pos": "atoms", "atoms": "pos"}[masked]
    apart = [name for name in ("h", "k", "both") if of[name] != masked]
    said = apart[0] if len(apart) == 1 else f"{apart[0]} and 1 other"
    assert note.startswith(f"--mask: {said} may be of the set of {other}, whose lengths are others")


def conditioned(path, lengths):
    """One set with the sum over the other beside each point, its attention to it, and a decoder.

    ``far`` follows from the first through an equation of which no rule is known.
    """
    w = np.random.default_rng(9).standard_normal((3, 15)).astype(np.float32)
    nodes = [
        helper.make_node("Exp", ["pos"], ["h"]),
        helper.make_node("Tanh", ["atoms"], ["k"]),
        helper.make_node("ReduceSum", ["k", "one"], ["of_k"], keepdims=1),
        helper.make_node("Add", ["h", "of_k"], ["mix"]),
        helper.make_node("Einsum", ["mix"], ["far"], equation="...c->...c"),
        helper.make_node("Transpose", ["k"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["h", "keys"], ["scores"]),
        helper.make_node("MatMul", ["scores", "k"], ["heard"]),
        helper.make_node("ReduceSum", ["mix", "one"], ["out"], keepdims=0),
        helper.make_node("MatMul", ["out", "w"], ["wide"]),
        helper.make_node("Reshape", ["wide", "places"], ["made"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 3])
        for name, length in zip(("pos", "atoms"), lengths, strict=True)
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])]
    held = {"w": w, "one": np.array([1]), "places": np.array([-1, 5, 3])}
    constants = [numpy_helper.from_array(value, k) for k, value in held.items()]
    graph = helper.make_graph(nodes, "sets", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path, w


@pytest.mark.parametrize("masked", ["pos", "atoms"])
@pytest.mark.parametrize("lengths", [("P", "Q"), (None, None), (5, 5), (5, "Q")])
def test_the_sum_over_another_set_lends_no_axis_to_what_it_is_added_to(tmp_path, lengths, masked):
    path, w = conditioned(tmp_path / "m.onnx", lengths)
    data = {"pos": PLACES, "pos_lengths": MANY, "atoms": FEATURES, "atoms_lengths": OTHERS}
    np.savez(tmp_path / "d.npz", **data)
    names = ("mix", "far", "heard", "made")
    result = geed.measure(
        *(path, tmp_path / "d.npz", "S5~6"),
        measures=[f"unexplained@{name}" for name in names],
        mask={masked: ""},
        layout=dict.fromkeys(names, "NPC") | {"out": "NK"},
        **TWO | {"input": "pos", "input_layout": {"pos": "NPC", "atoms": "NPC"}},
        output="out",
    )
    found = {record["layer"]: record["normaliser"] for record in result["measurements"]}
    h, k = np.exp(padded(PLACES, MANY, 5)), np.tanh(padded(FEATURES, OTHERS, 5))
    mix = h + k.sum(axis=1, keepdims=True)
    real = (np.arange(5) < MANY[:, None])[..., None] if masked == "pos" else True
    wanted = {"mix": mix * real, "far": mix * real, "heard": h @ k.swapaxes(1, 2) @ k * real}
    # What is made of both sets' sums may be either.
    wanted["made"] = (mix.sum(axis=1) @ w).reshape(4, 5, 3)
    for name, y in wanted.items():
        assert found[name] == pytest.approx(spread(y), rel=1e-4), name
    (note,) = [note for note in result["notes"] if "is not known, and is measured too" in note]
    said = "made" if masked == "pos" else "mix and 3 others"
    assert note.startswith(f"--mask: {said} may be of the set of ")


def through_equations(path, declared, left):
    """One set times a sum of the other, over points or features, by equations without a rule."""
    equations = {"of_k": f"...pc->...{left}", "far": f"...pc,...{left}->...pc"}
    nodes = [
        helper.make_node("Exp", ["pos"], ["h"]),
        helper.make_node("Tanh", ["atoms"], ["k"]),
        helper.make_node("Einsum", ["k"], ["of_k"], equation=equations["of_k"]),
        helper.make_node("Einsum", ["h", "of_k"], ["far"], equation=equations["far"]),
        helper.make_node("ReduceSum", ["far", "one"], ["out"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length, 3])
        for name, length in (("pos", "P"), ("atoms", "Q"))
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *rest])
        for name, rest in ({"out": [3]} | declared).items()
    ]
    held = [numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "sets", inputs, outputs, held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("declared", "left", "known"),
    [
        ({}, "c", False),
        ({"of_k": [3]}, "c", True),  # no set is three long
        ({"of_k": [5]}, "p", False),
        ({"far": ["P", 3]}, "c", True),
        ({"far": [5, 3]}, "c", False),
        ({"of_k": [3], "far": [5, 3]}, "c", True),
    ],
)
def test_what_the_file_declares_of_axes_counts_where_no_rule_tells(tmp_path, declared, left, known):
    path = through_equations(tmp_path / "m.onnx", declared, left)
    data = {"pos": PLACES, "pos_lengths": MANY, "atoms": FEATURES, "atoms_lengths": OTHERS}
    np.savez(tmp_path / "d.npz", **data)
    result = geed.measure(
        *(path, tmp_path / "d.npz", "S5~6"),
        measures=["unexplained@far"],
        mask={"pos": ""},
        layout={"far": "NPC", "out": "NK"},
        **TWO | {"input": "pos", "input_layout": {"pos": "NPC", "atoms": "NPC"}},
        output="out",
    )
    (record,) = result["measurements"]
    h, k = np.exp(padded(PLACES, MANY, 5)), np.tanh(padded(FEATURES, OTHERS, 5))
    real = (np.arange(5) < MANY[:, None])[..., None] if known else True
    wanted = h * k.sum(axis=1 if left == "c" else 2, keepdims=True) * real
    assert record["normaliser"] == pytest.approx(spread(wanted), rel=1e-5)
    notes = [note for note in result["notes"] if "is not known, and is measured too" in note]
    assert len(notes) == (not known)
