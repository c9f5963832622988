"""What is padding counts nowhere: not in references, backgrounds and gains either."""

from __future__ import annotations

import json

import models
import numpy as np
import pytest
from onnx import TensorProto
from running import images

import onnx_geed as geed
from onnx_geed.errors import GeedError

T, CLASSES, SIDE = 4, 3, 6
LENGTHS = np.array([3, 1, 4, 2, 4, 2, 1, 3])
REAL = np.arange(T) < LENGTHS[:, None]
VIDEOS = np.random.default_rng(0).normal(size=(8, T, 2, SIDE, SIDE)).astype(np.float32)
OPTIONS = {
    "input_layout": "NTCHW", "layout": {"y": "NTCHW"}, "output_kind": "logits", "samples": 8,
    "norm_samples": 8, "provider": "cpu",
}  # fmt: skip
DENSE = ["softmax-kl@y", "flip-rate@y", "latent-l2@y", "unexplained@y", "channel-cos@y"]


def network(path, length=T):
    """Scores at each pixel of each frame, the frames one by one."""
    rng = np.random.default_rng(1)
    nodes = [
        models.node("Reshape", "x apart", "frames"),
        models.conv("frames", "w", "scores"),
        models.node("Reshape", "scores together", "y"),
    ]
    held = [
        models.integers("apart", [-1, 2, SIDE, SIDE]),
        models.integers("together", [-1, length, CLASSES, SIDE, SIDE]),
        models.weights("w", rng.normal(size=(CLASSES, 2, 3, 3))),
    ]
    shape = ["N", length, CLASSES, SIDE, SIDE]
    inputs = [("x", models.FLOAT, ["N", length, 2, SIDE, SIDE])]
    return models.save(models.build(nodes, held, inputs, [("y", models.FLOAT, shape)]), path)


@pytest.mark.parametrize("support", ["full", "disk"])
def test_references_are_those_of_samples_by_themselves(tmp_path, support):
    asked = {"measures": DENSE[:3], "references": True, "support": support}
    result = geed.measure(
        network(tmp_path / "m.onnx"), VIDEOS, "C8", mask={"x": REAL}, **OPTIONS, **asked
    )
    alone = []
    for index in result["data"]["indices"]:
        length = int(LENGTHS[index])
        path = network(tmp_path / f"{length}.onnx", length)
        own = OPTIONS | {"samples": 1, "norm_samples": 1}
        one = geed.measure(path, VIDEOS[index : index + 1, :length], "C8", **own, **asked)
        alone.append(one["measurements"])
    for k, record in enumerate(result["measurements"]):
        for name in ("input_round_trip", "output_round_trip", "numeric"):
            each = [one[k]["references"][name] for one in alone]
            key = "unnormalised" if record["measure"] == "latent-l2" else "value"
            wanted = np.mean([entry[key] for entry in each])
            assert record["references"][name][key] == pytest.approx(wanted, rel=1e-4, abs=1e-6)
        trip = record["references"]["input_round_trip"]
        assert trip["unnormalised" if trip["value"] is None else "value"] > 1e-3


@pytest.mark.parametrize("group", ["C8", "rotate:-20..20/4", "shift-px:-2..2/4", "SO2~4"])
@pytest.mark.parametrize("background", [None, 1])
def test_what_lies_in_padding_changes_nothing(tmp_path, group, background):
    path, rng = network(tmp_path / "m.onnx"), np.random.default_rng(2)
    labels = rng.integers(0, CLASSES, (8, T, SIDE, SIDE))
    labels[~REAL] = 0
    other, others = VIDEOS.copy(), labels.copy()
    other[~REAL] = rng.normal(size=other[~REAL].shape) * 3
    others[~REAL] = 77  # no class at all
    asked = {"measures": DENSE, "references": group == "C8"}
    if group != "SO2~4":
        asked["background"] = background
    results = []
    for x, y in ((VIDEOS, labels), (other, others)):
        given = asked if group == "SO2~4" else {**asked, "labels": y}
        results.append(geed.measure(path, x, group, mask={"x": REAL}, **OPTIONS, **given))
    a, b = (json.loads(json.dumps(r["measurements"])) for r in results)
    same(a, b)
    told = [[n for n in r["notes"] if "background is" in n] for r in results]
    assert told[0] == told[1]
    assert len(told[0]) == (background is None and group != "SO2~4")
    assert any(r.get("gain") for r in a) == (":" in group)


def same(a, b):
    """The same JSON but for rounding."""
    if isinstance(a, dict):
        assert set(a) == set(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    else:
        assert a == b


def test_lines_of_another_length_are_said_to_be_measured_whole(tmp_path):
    w = models.weights("w", np.random.default_rng(3).normal(size=(4, 2, 3)))
    nodes = [
        models.node("Conv", "x w", "c", strides=[2], pads=[1, 1]),
        models.node("Conv", "x w", "d", pads=[1, 1]),
        models.node("ReduceMean", "c", "y", axes=[2], keepdims=0),
    ]
    inputs = [("x", models.FLOAT, ["N", 2, 8])]
    outputs = [("y", models.FLOAT, ["N", 4]), ("d", models.FLOAT, ["N", 4, 8])]
    path = models.save(models.build(nodes, [w], inputs, outputs), tmp_path / "m.onnx")
    x = np.random.default_rng(4).normal(size=(6, 2, 8)).astype(np.float32)
    real = np.arange(8) < np.array([3, 8, 5, 2, 8, 4])[:, None]

    def notes(*measures):
        result = geed.measure(
            *(path, x, "reverse"),
            measures=measures,
            input_layout="NCT",
            output="y",
            mask={"x": real},
            samples=6,
            norm_samples=6,
            provider="cpu",
        )
        return [note for note in result["notes"] if note.startswith("--mask")]

    (said,) = notes("unexplained@c", "unexplained@d")
    assert "is of 8 entries along T, and c of 4: what is padding there is not known" in said
    assert notes("unexplained@d") == []


def test_axes_that_are_not_known_are_no_trivial_action(tmp_path):
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(5, 3, 3, 3))
    kernel = kernel + kernel[..., ::-1]  # mirror-symmetric
    nodes = [
        models.conv("x", "w", "c"),
        models.node("Reshape", "c flat", "cr"),
        models.node("Relu", "cr", "r"),
        models.node("ReduceMean", "r", "f", axes=[2], keepdims=0),
    ]
    held = [models.weights("w", kernel), models.integers("flat", [0, 5, 16])]
    inputs = [("x", models.FLOAT, ["N", 3, 4, 4])]
    path = models.save(
        models.build(nodes, held, inputs, [("f", models.FLOAT, ["N", 5])]), tmp_path / "m.onnx"
    )
    data = images((3, 4, 4), 9)
    few = {"samples": 6, "norm_samples": 9, "provider": "cpu", "input_layout": "NCHW"}
    (known,) = geed.measure(path, data, "flip-h", measures=["unexplained@c"], **few)["measurements"]
    assert known["value"] < 1e-10
    for name in ("unexplained", "output-l2", "sensitivity"):
        group = "flip-h" if name != "sensitivity" else "small-shift~1"
        for layer in ("cr", "r"):
            with pytest.raises(GeedError, match=rf"^{name}@{layer}: the axes of \(N, 5, 16\) are"):
                geed.measure(path, data, group, measures=[f"{name}@{layer}"], **few)
    # What moves no places needs no axes; nor do axes that are stated to stay.
    for group in ("hue3", "brightness:-60..60/3"):
        geed.measure(path, data, group, measures=["unexplained@r"], **few)
    stays = geed.measure(
        path, data, "flip-h", measures=["unexplained@r"], layout={"r": "NCK"}, **few
    )
    assert stays["measurements"][0]["output_action"] == "trivial"
    assert stays["measurements"][0]["value"] > 0.1


def test_scores_whose_axes_are_not_known_are_told_how_to_state_them(tmp_path):
    w = np.random.default_rng(6).normal(size=(192, 20)) * 0.1
    nodes = [
        models.node("Flatten", "x", "f"),
        models.node("MatMul", "f w", "z"),
        models.node("Reshape", "z apart", "y"),
    ]
    held = [models.weights("w", w), models.integers("apart", [-1, 5, 4])]
    inputs = [("x", models.FLOAT, ["N", 3, 8, 8])]
    path = models.save(
        models.build(nodes, held, inputs, [("y", models.FLOAT, ["N", 5, 4])]), tmp_path / "m.onnx"
    )
    few = {"samples": 6, "norm_samples": 6, "provider": "cpu", "output_kind": "logits"}
    with pytest.raises(GeedError, match=r"softmax-kl@y: class scores lie along C.*--layout.*y=NPC"):
        geed.measure(path, images((3, 8, 8), 8), "C4", measures=["softmax-kl"], **few)
    geed.measure(
        path, images((3, 8, 8), 8), "C4", measures=["softmax-kl"], layout={"y": "NPC"}, **few
    )


@pytest.mark.parametrize("shape", [["N", 5, 1], ["N", 1, 5]])
def test_a_mask_that_an_input_does_not_take_as_it_is_is_said(tmp_path, shape):
    nodes = [models.node("ReduceSum", "x last", "s", keepdims=1), models.node("Add", "s m", "y")]
    inputs = [("x", models.FLOAT, ["N", 5, 3]), ("m", models.FLOAT, shape)]
    outputs = [("y", models.FLOAT, ["N", 5, None])]
    path = models.save(
        models.build(nodes, [models.integers("last", [2])], inputs, outputs), tmp_path / "m.onnx"
    )
    x = np.random.default_rng(7).normal(size=(6, 5, 3)).astype(np.float32)
    with pytest.raises(GeedError, match=r"^--mask m: is fed as \(N, 5\), but the input takes \(N,"):
        geed.measure(
            *(path, x, "S5~4"),
            measures=["unexplained@y"],
            input_layout={"x": "NPX"},
            mask={"m": np.arange(5) < np.array([1, 5, 3, 2, 4, 5])[:, None]},
            samples=6,
            norm_samples=6,
            provider="cpu",
        )


def test_numbers_that_float32_does_not_hold_are_called_so(tmp_path):
    nodes = [models.node("Flatten", "x", "f"), models.node("Mul", "f large", "y")]
    held = [models.weights("large", 1e60, np.float64)]
    inputs = [("x", TensorProto.DOUBLE, ["N", 3, 4, 6])]
    path = models.save(
        models.build(nodes, held, inputs, [("y", TensorProto.DOUBLE, ["N", 72])]),
        tmp_path / "m.onnx",
    )
    data = images((3, 4, 6), 8)
    with pytest.raises(
        GeedError, match=r"^tensor 'y': holds numbers of up to .*e\+\d\d, more than"
    ):
        geed.measure(path, data, "flip-h", measures=["output-l2"], samples=4, provider="cpu")


def test_labels_of_places_are_none_of_samples(tmp_path):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    asked = {"measures": ["symmetry-share"], "samples": 4, "provider": "cpu"}
    with pytest.raises(
        GeedError, match=r"^--labels: has a label for each place, or a row for each"
    ):
        geed.measure(path, images((3, 8, 8), 8), "C4", labels=np.eye(5)[np.arange(8) % 5], **asked)


@pytest.mark.parametrize(("shape", "layout"), [([1, 4], "NPC"), ([4, 1], "NCP")])
def test_the_advice_on_scores_of_one_place_can_be_followed(tmp_path, shape, layout):
    w = np.random.default_rng(8).normal(size=(192, 4)) * 0.1
    nodes = [
        models.node("Flatten", "x", "f"),
        models.node("MatMul", "f w", "z"),
        models.node("Reshape", "z apart", "y"),
    ]
    held = [models.weights("w", w), models.integers("apart", [-1, *shape])]
    inputs = [("x", models.FLOAT, ["N", 3, 8, 8])]
    outputs = [("y", models.FLOAT, ["N", *shape]), ("z", models.FLOAT, ["N", 4])]
    path = models.save(models.build(nodes, held, inputs, outputs), tmp_path / "m.onnx")
    data, few = images((3, 8, 8), 8), {"samples": 6, "norm_samples": 6, "provider": "cpu"}
    asked = {"measures": ["softmax-kl", "flip-rate"], "output_kind": "logits", **few}
    with pytest.raises(GeedError, match=f"--layout, such as y={layout}; its shape is"):
        geed.measure(path, data, "C4", output="y", **asked)
    stated = geed.measure(path, data, "C4", output="y", layout={"y": layout}, **asked)
    plain = geed.measure(path, data, "C4", output="z", **asked)
    for one, other in zip(stated["measurements"], plain["measurements"], strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-6)


@pytest.mark.parametrize("measure", ["softmax-kl", "flip-rate"])
def test_round_trips_of_probabilities_leave_padding_out(tmp_path, measure):
    rng = np.random.default_rng(1)
    nodes = [models.node("MatMul", "x w", "z"), models.node("Softmax", "z", "p", axis=2)]
    net = models.build(
        nodes,
        [models.weights("w", rng.normal(size=(3, 4)))],
        [("x", models.FLOAT, ["N", 6, 3])],
        [("p", models.FLOAT, ["N", 6, 4])],
    )
    path = models.save(net, tmp_path / "net.onnx")
    x, lengths = rng.normal(size=(5, 6, 3)).astype(np.float32), np.array([6, 2, 4, 1, 5])
    for i, length in enumerate(lengths):
        x[i, length:] = 0
    options = {"input_layout": "NTC", "layout": {"p": "NTC"}, "measures": [f"{measure}@p"]}
    options |= {"mask": {"x": lengths}, "references": True, "provider": "cpu"}
    (record,) = geed.measure(path, x, "reverse", **options)["measurements"]
    assert record["references"]["output_round_trip"]["value"] == 0


def test_a_gain_leaves_out_padding_of_the_masked_input_alone(tmp_path):
    """The latent is the other input's pixels, so that it moves as far as these: a gain of 1."""
    nodes = [
        models.node("Flatten", "x", "still"),
        models.node("Flatten", "z", "flat"),
        models.node("Concat", "still flat", "latent", axis=1),
        models.node("MatMul", "latent w", "y"),
    ]
    size = T * 2 * SIDE * SIDE
    held = [models.weights("w", np.random.default_rng(4).normal(size=(2 * size, CLASSES)))]
    shape = ["N", T, 2, SIDE, SIDE]
    inputs = [(name, models.FLOAT, shape) for name in "xz"]
    source = models.build(nodes, held, inputs, [("y", models.FLOAT, ["N", CLASSES])])
    # Black frames stay black; what the other input holds, its own lengths say.
    own = LENGTHS[::-1]
    rows = np.random.default_rng(5).normal(size=(own.sum(), 2, SIDE, SIDE)).astype(np.float32)
    data = {"x": np.zeros((LENGTHS.sum(), 2, SIDE, SIDE), np.float32), "x_lengths": LENGTHS}
    np.savez(tmp_path / "d.npz", **data, z=rows, z_lengths=own)
    (record,) = geed.measure(
        *(models.save(source, tmp_path / "m.onnx"), tmp_path / "d.npz", "shift-px:-2..2/5"),
        measures=["latent-l2@latent"],
        mask={"x": ""},
        **OPTIONS | {"layout": {"latent": "NK"}, "input_layout": dict.fromkeys("xz", "NTCHW")},
        input="x",
    )["measurements"]
    assert record["gain"]["value"] == pytest.approx(1, rel=1e-4)
