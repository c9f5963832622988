"""What holds in the frame of x: labels, targets, classes and places, however samples are moved."""

import json

import models
import naive
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.model import action_key

FLOAT = onnx.TensorProto.FLOAT


def points(tmp_path):
    """Scores of seven points, exactly equivariant, with points and the one of the largest score."""
    weights = models.weights("w", [[1.0], [0.5], [-0.3]])
    nodes = [models.node("MatMul", "x w", "s"), models.node("Flatten", "s", "out")]
    model = models.build(nodes, [weights], [("x", FLOAT, ["N", 7, 3])], [("out", FLOAT, ["N", 7])])
    data = np.random.default_rng(0).normal(size=(12, 7, 3)).astype(np.float32)
    labels = (data @ [1.0, 0.5, -0.3]).argmax(axis=1)
    return models.save(model, tmp_path / "points.onnx"), data, labels


@pytest.mark.parametrize("measure", ["flip-rate", "symmetry-share@out"])
def test_classes_move_as_each_samples_own_elements_say(tmp_path, measure):
    path, data, labels = points(tmp_path)
    options = {"input_layout": "NPX", "layout": {"out": "NP"}, "output_kind": "logits"}
    result = geed.measure(path, data, "S7~5", measures=[measure], labels=labels, **options)
    (record,) = result["measurements"]
    assert record["value"] == pytest.approx(0, abs=1e-12)
    for part in ("stay", "right"):
        assert set(record["predictions"][part]["per_element"].values()) == {1.0}
    # Scores that stay where they are, whatever their points do, are wrong.
    options["layout"] = {"out": "NK"}
    result = geed.measure(path, data, "S7~5", measures=["flip-rate"], labels=labels, **options)
    stay = result["measurements"][0]["predictions"]["stay"]["per_element"]
    assert max(share for name, share in stay.items() if name != "e") < 1


def test_a_target_of_unmoved_samples_is_refused_where_nothing_is_moved_back_to_them(tmp_path):
    weights = models.weights("w", 2 * np.eye(3))
    nodes = [models.node("MatMul", "x w", "out")]
    shape = ["N", 5, 3]
    model = models.build(nodes, [weights], [("x", FLOAT, shape)], [("out", FLOAT, shape)])
    path = models.save(model, tmp_path / "model.onnx")
    data = np.random.default_rng(1).normal(size=(8, 5, 3)).astype(np.float32)
    options = {"measures": ["symmetry-share@out"], "input_layout": "NPX", "target": {"out": data}}
    options["output_kind"] = "embedding"
    moving = {**options, "layout": {"out": "NPX"}}
    (record,) = geed.measure(path, data, "O", **moving)["measurements"]
    assert record["value"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(GeedError, match=r"--target out: .* SO3~24 first moves each sample"):
        geed.measure(path, data, "SO3~24", **moving)
    # What does not move is right for every sample, however it is turned.
    still = {**options, "layout": {"out": "NCK"}}
    assert geed.measure(path, data, "SO3~24", **still)["measurements"][0]["value"] > 0


def test_labels_of_unmoved_samples_are_not_used_where_classes_turn_with_them(tmp_path):
    kernels = np.zeros((4, 1, 9, 9))
    kernels[0, 0, :3], kernels[1, 0, :, :3], kernels[2, 0, -3:], kernels[3, 0, :, -3:] = 1, 1, 1, 1
    nodes = [
        models.node("Conv", "x w", "c"),
        models.node("Flatten", "c", "out"),
    ]
    model = models.build(
        nodes,
        [models.weights("w", kernels / 5)],
        [("x", FLOAT, ["N", 1, 9, 9])],
        [("out", FLOAT, ["N", 4])],
    )
    path = models.save(model, tmp_path / "edges.onnx")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 12)
    bar = np.pad(np.ones((3, 9)), ((0, 6), (0, 0)))
    data = 0.2 * rng.random((12, 1, 9, 9)) + np.stack([np.rot90(bar, k)[None] for k in labels])
    data = data.astype(np.float32)
    turned = [[(c - k) % 4 for c in range(4)] for k in range(4)]

    def measured(group, names, measures=("flip-rate",), **options):
        table = geed.Table(names, "permutation", turned, "given")
        options |= {"output_action": {"out": table}, "output_kind": "logits"}
        return geed.measure(path, data, group, measures=list(measures), **options)

    (record,) = measured("C4", naive.elements("C4"), labels=labels)["measurements"]
    assert record["predictions"]["right"]["value"] == 1
    names = list(geed.parse_group("SO2~4").elements)
    both = ("flip-rate", "softmax-kl")
    told = measured("SO2~4", names, both, labels=labels)
    plain = measured("SO2~4", names, both)
    note = (
        "labels are not used for out: they belong to unmoved samples, its classes are permuted, "
        "and group SO2~4 first moves each sample by an element of its own"
    )
    assert [note in result["notes"] for result in (told, plain)] == [True, False]
    for record, other in zip(told["measurements"], plain["measurements"], strict=True):
        assert record["predictions"]["right"] is None
        assert {k: v for k, v in record.items() if k != "per_class"} == {
            k: v for k, v in other.items() if k != "per_class"
        }
    with pytest.raises(GeedError, match=r"takes labels.*--output-action out permutes classes"):
        measured("SO2~4", names, ("symmetry-share",), labels=labels)
    parts = [
        measured("SO2~4", names, both, labels=labels, shard=f"{k}/2", samples=12) for k in (1, 2)
    ]
    assert geed.merge(parts)["notes"].count(note) == 1


def test_labels_are_not_used_beside_an_action_that_the_model_stores(tmp_path):
    path = tmp_path / "cyclic.onnx"
    model = models.cyclic_logits(5)
    elements, rows = naive.elements("C4"), [[(c - k) % 4 for c in range(4)] for k in range(4)]
    stored = {"elements": elements, "permutation": rows, "group": "C4"}
    carried = {action_key("logits"): json.dumps(stored)}
    models.save(models.with_metadata(model, carried), path)
    rng = np.random.default_rng(0)
    for label in range(4):
        folder = tmp_path / "data" / f"{label}"
        folder.mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 256, (5, 5), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    options = {"output_kind": "logits", "samples": 6, "norm_samples": 6}
    result = geed.measure(path, tmp_path / "data", "SO2~4", measures=["softmax-kl"], **options)
    assert result["data"]["labels"] is not None
    assert any(note.startswith("labels are not used for logits") for note in result["notes"])
    with pytest.raises(GeedError, match=rf"but metadata {action_key('logits')} permutes classes"):
        geed.measure(path, tmp_path / "data", "SO2~4", measures=["symmetry-share"], **options)


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_the_most_common_class_is_that_of_places_that_are_compared(tmp_path, engine):
    stored = [models.weights("w", [[[[-1.0]]], [[[1.0]]]]), models.weights("b", [0.5, -0.5])]
    nodes = [models.node("Conv", "x w b", "out")]
    shape = ["N", 1, 5, 9]
    model = models.build(nodes, stored, [("x", FLOAT, shape)], [("out", FLOAT, ["N", 2, 5, 9])])
    path = models.save(model, tmp_path / "dense.onnx")
    options = {"measures": ["flip-rate"], "layout": {"out": "NCHW"}, "output_kind": "logits"}
    options |= {"samples": 3, "background": 0, "engine": engine, "provider": "cpu"}
    data = np.ones((3, 1, 5, 9), np.float32)
    (record,) = geed.measure(path, data, "flip-h", support="disk", **options)["measurements"]
    # Outside the disk x is 0, and so of class 0: most of it, which nothing compares.
    assert naive.disk_mask(5, 9).mean() < 0.5
    assert record["most_common"] == 1
    assert any("class is 1" in note for note in record["notes"])
    data[:, :, :, :2] = 0
    (record,) = geed.measure(path, data, "flip-h", **options)["measurements"]
    assert record["most_common"] == pytest.approx(7 / 9)


def padded_lines():
    """Lines of 3 to 8 places, of two classes that `reverse` exchanges, and what is real."""
    kernels = np.zeros((3, 1, 3))
    kernels[0, 0], kernels[1, 0], kernels[2, 0] = [-1, 0, 1], [1, 0, -1], [0, 0.3, 0]
    model = models.build(
        [models.node("Conv", "x w", "out", pads=[1, 1])],
        [models.weights("w", kernels)],
        [("x", FLOAT, ["N", 1, 8])],
        [("out", FLOAT, ["N", 3, 8])],
    )
    real = np.arange(8) < np.arange(3, 9)[:, None]
    data = (np.random.default_rng(0).random((6, 1, 8)) + 0.1) * real[:, None]
    return model, data.astype(np.float32), real


def test_padding_flips_no_class_that_a_table_moves(tmp_path):
    model, data, real = padded_lines()
    path = models.save(model, tmp_path / "lines.onnx")
    options = {"input_layout": "NCT", "layout": {"out": "NCT"}, "output_kind": "logits"}
    options |= {"measures": ["flip-rate", "softmax-kl"], "mask": {"x": real}}
    table = geed.Table(["e", "reverse"], "channels", [[0, 1, 2], [1, 0, 2]], "given")
    found = geed.measure(path, data, "reverse", output_action={"out": table}, **options)
    for record in found["measurements"]:
        assert record["value"] == pytest.approx(0, abs=1e-12)
        assert record["per_sample"] == pytest.approx([0] * 6, abs=1e-12)
    # Without the table classes are exchanged at every real place but those of class 2.
    plain = geed.measure(path, data, "reverse", **options)
    values = {record["measure"]: record for record in plain["measurements"]}
    assert 0 < values["flip-rate"]["value"] <= 1
    assert max(values["flip-rate"]["per_sample"]) <= 1


def test_two_padded_samples_are_compared_where_both_are_real(tmp_path):
    """One may be real where the other is padded: the rate of two such samples was above 1."""
    model, data, real = padded_lines()
    path = models.save(model, tmp_path / "lines.onnx")
    options = {"input_layout": "NCT", "layout": {"out": "NCT"}, "output_kind": "logits"}
    options |= {"measures": ["flip-rate", "softmax-kl"], "mask": {"x": real}}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    orbits = [
        session.run(["out"], {"x": np.stack([x, x[:, ::-1]])})[0].astype(np.float64) for x in data
    ]
    back = np.stack([[own, turned[:, ::-1]] for own, turned in orbits])
    divergences = []
    for batch_size in (2, 4, 12):  # pairs lie in several jobs, or in one
        found = geed.measure(path, data, "reverse", batch_size=batch_size, **options)
        indices = found["data"]["indices"]
        flips = []
        for x, other in zip(indices, [*indices[1:], indices[0]], strict=True):
            both = real[x] & real[other]
            # The identity does not count, as in the value.
            of_x, of_other = back[x, 0].argmax(axis=0), back[other, 1].argmax(axis=0)
            flips.append((of_x != of_other)[both].mean())
        values = {record["measure"]: record for record in found["measurements"]}
        assert values["flip-rate"]["between_samples"] == pytest.approx(np.mean(flips), abs=1e-9)
        divergences.append(values["softmax-kl"]["between_samples"])
    assert divergences == pytest.approx(divergences[:1] * 3)
    assert divergences[0] > 0
    # Two samples without a place in common are no pair.
    apart = np.zeros_like(real)
    apart[::2, :4], apart[1::2, 4:] = True, True
    options["mask"] = {"x": apart}
    for record in geed.measure(path, data, "reverse", **options)["measurements"]:
        assert record["between_samples"] is record["relative"] is None
        assert any(note.startswith("no between_samples: ") for note in record["notes"])


def test_a_fit_of_a_file_leaves_no_padding_out(tmp_path):
    model, data, real = padded_lines()
    path = models.save(model, tmp_path / "lines.onnx")
    options = {"input_layout": "NCT", "layout": {"out": "NCT"}, "output_kind": "logits"}
    rng = np.random.default_rng(1)
    further = rng.random((24, 1, 8)).astype(np.float32)
    fits = geed.fit_actions(
        *(path, further, "reverse", ["out"]),
        kind="permutation",
        samples=4,
        fit_samples=16,
        **options,
    )
    geed.write_fits(tmp_path / "fit.npz", fits)
    given = {"output_action": {"out": str(tmp_path / "fit.npz")}, "measures": ["softmax-kl"]}
    assert geed.measure(path, data, "reverse", **given, **options)["measurements"]
    with pytest.raises(GeedError, match=r"out: a fit cannot leave out masked entries"):
        geed.measure(path, data, "reverse", mask={"x": real}, **given, **options)
