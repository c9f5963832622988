"""What comes with the samples: results tell of it, and are held against each other by it."""

from __future__ import annotations

import json

import h5py
import letter_models
import models
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto

import onnx_geed as geed
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.report.thumbnails import open_pictures
from onnx_geed.results import compare
from onnx_geed.run import explore

IMAGES = np.random.default_rng(0).random((24, 3, 8, 8)).astype(np.float32)
OPTIONS = {"samples": 6, "norm_samples": 10, "provider": "cpu"}
SHARE = ["symmetry-share@logits"]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def labels_of(seed):
    return np.random.default_rng(seed).integers(0, 3, len(IMAGES))


def differ_in(a, b):
    """What a comparison says that two results differ in; each of them is refused without force."""
    found = compare(a, b, force=True)["differ_in"]
    if found:
        with pytest.raises(GeedError, match="differ in"):
            compare(a, b)
    else:
        compare(a, b)
    return found


def test_other_feeds_are_no_comparison(tmp_path):
    path = models.save(models.two_input(2), tmp_path / "m.onnx")
    extra = np.random.default_rng(1).random((24, 2)).astype(np.float32)

    def fed(values):
        asked = {"measures": ["softmax-kl"], "feed": {"extra": values}, **OPTIONS}
        return geed.measure(path, IMAGES, "C4", **asked)

    first = fed(extra)
    assert set(first["data"]["fed"]) == {"extra"}
    assert differ_in(first, fed(extra.copy())) == []
    assert differ_in(first, fed(extra + 1)) == ["what input extra was fed (--feed)"]
    # Rows of samples that nobody measured are no difference.
    idle = [i for i in range(24) if i not in first["data"]["indices"]]
    extra[idle] += 1
    assert differ_in(first, fed(extra)) == []


def test_inputs_that_moved_in_one_result_alone_are_no_comparison(tmp_path):
    """The commonest slip with graphs: the adjacency is forgotten, and stays as it is."""
    path, _ = two_images(tmp_path / "m.onnx")
    floats = {name: array.astype(np.float32) for name, array in PIXELS.items()}
    asked = {"measures": ["output-l2@out"], **OPTIONS, "samples": 6, "norm_samples": 6}

    def measured(data, *names, **options):
        layouts = dict.fromkeys(names, "NCHW")
        return geed.measure(path, data, "C4", input_layout=layouts, **asked, **options)

    both = measured(floats, "x", "z")
    one = measured({"x": floats["x"]}, "x", feed={"z": floats["z"]})
    assert both["data"]["inputs"][1]["name"] == "z"
    assert differ_in(both, one) == ["number of inputs that are moved (2, 1)"]
    assert differ_in(both, measured(floats, "x", "z")) == []
    with pytest.raises(GeedError, match="number of inputs that are moved"):
        geed.aggregate([both, one])
    # One each: of a model, it must be the same one.
    other = one | {"data": one["data"] | {"fed": {"x": "ab"}}}
    assert differ_in(one, other) == ["inputs that stay unmoved (z, x)"]
    other = other | {"model": one["model"] | {"sha256": "cd"}}
    assert differ_in(one, other) == []
    # Another model has an input less, or leaves one as it is.
    assert differ_in(both, other) == ["number of inputs that are moved (2, 1)"]
    less = {key: value for key, value in other["data"].items() if key != "fed"}
    assert differ_in(both, other | {"data": less}) == []
    # An earlier version's result does not say what was fed.
    earlier = {key: value for key, value in less.items() if key != "mask"}
    assert differ_in(one, one | {"data": earlier}) == []


def test_other_axes_of_the_input_are_no_comparison(tmp_path):
    """Vectors that turn with the grid, and values that stay what they are."""
    fields = IMAGES[:, :2]

    def measured(seed, layout):
        net = models.save(models.random_cnn(seed, (8, 8), channels=2), tmp_path / f"{seed}.onnx")
        asked = {"measures": ["output-l2@logits"], "input_layout": layout, **OPTIONS}
        return geed.measure(net, fields, "C4", **asked)

    turned, still = measured(0, "NXHW"), measured(0, "NCHW")
    refused = ["layout of the input (NXHW, NCHW)"]
    assert turned["measurements"][0]["value"] != still["measurements"][0]["value"]
    assert differ_in(turned, still) == refused
    assert differ_in(measured(1, "NXHW"), turned) == []
    assert differ_in(measured(0, "NCWH"), still) == [
        "what the models were fed (preprocessing, or files that have changed)"
    ]


def test_of_pictures_another_models_order_of_axes_is_its_own(net):
    result = geed.measure(net, IMAGES, "C4", measures=["output-l2@logits"], **OPTIONS)
    pictures = {"names": [f"{i}.png" for i in range(len(result["data"]["indices"]))]}

    def read_as(layout, sha):
        model = result["model"] | {"sha256": sha}
        return result | {"model": model, "data": result["data"] | pictures | {"layout": layout}}

    first = read_as("NCHW", "ab")
    assert differ_in(first, read_as("NHWC", "cd")) == []
    assert differ_in(first, read_as("NHWC", "ab")) == ["layout of the input (NCHW, NHWC)"]
    assert differ_in(first, read_as("NXHW", "cd")) == ["layout of the input (NCHW, NXHW)"]


def test_two_readings_of_a_tensors_axes_are_two_maps_of_it(net):
    def measured(layout):
        asked = {"measures": ["channel-cos@stem"], "layout": {"stem": layout}, **OPTIONS}
        return geed.measure(net, IMAGES, "flip-h", **asked)

    a, b = measured("NCHW"), measured("NCWH")
    verdict = compare(a, b)["measurements"][0]["verdict"]
    assert "map (grid on NCHW)" in verdict
    assert "map (grid on NCWH)" in verdict
    with pytest.raises(GeedError, match=r"differ in layout \(NCHW, NCWH\)"):
        geed.aggregate([a, b])


def test_other_targets_are_no_comparison(net):
    target = np.random.default_rng(2).random((24, 5))

    def against(values):
        return geed.measure(net, IMAGES, "C4", measures=SHARE, target={"logits": values}, **OPTIONS)

    first = against(target)
    assert set(first["data"]["targets"]) == {"logits"}
    assert differ_in(first, against(target.copy())) == []
    assert differ_in(first, against(target + 1)) == ["target of logits"]


def test_other_labels_are_no_comparison_of_errors_and_one_of_anything_else(net):
    def labelled(labels, measure=SHARE[0]):
        return geed.measure(net, IMAGES, "C4", measures=[measure], labels=labels, **OPTIONS)

    first = labelled(labels_of(1))
    assert differ_in(first, labelled(labels_of(1))) == []
    assert differ_in(first, labelled(labels_of(2))) == ["labels"]
    named = labelled(np.array(["0", "1", "2"])[labels_of(1)])
    assert differ_in(first, named) == []  # spelled otherwise: nothing can be said
    kl = [labelled(labels_of(seed), "softmax-kl") for seed in (1, 2)]
    assert differ_in(*kl) == []
    # The labels of points for M are no part of the error.
    beyond = labels_of(1)
    beyond[first["data"]["indices"][6:]] = 2
    assert differ_in(first, labelled(beyond)) == []


def test_parts_and_caches_tell_the_same_of_targets(net, tmp_path):
    target = np.random.default_rng(2).random((24, 5))
    asked = {"measures": SHARE, "target": {"logits": target}, **OPTIONS}
    live = geed.measure(net, IMAGES, "C4", **asked)
    parts = [geed.measure(net, IMAGES, "C4", shard=f"{i}/2", **asked) for i in (1, 2)]
    assert geed.merge(parts)["data"] == live["data"]
    geed.write_cache(net, IMAGES, "C4", tmp_path / "c.geed", **asked)
    cached = geed.measure_cache(tmp_path / "c.geed", measures=SHARE, target={"logits": target})
    assert cached["data"] == live["data"]
    fewer = geed.measure_cache(
        tmp_path / "c.geed", measures=SHARE, target={"logits": target}, samples=4
    )
    assert fewer["data"]["targets"] != live["data"]["targets"]


def test_a_cache_measured_on_fewer_samples_is_of_the_same_data(net, tmp_path):
    asked = {"measures": ["latent-l2", "channel-cos"], "provider": "cpu"}
    geed.write_cache(net, IMAGES, "C4", tmp_path / "c.geed", samples=9, norm_samples=9, **asked)
    fewer = geed.measure_cache(tmp_path / "c.geed", samples=5, norm_samples=5)
    live = geed.measure(net, IMAGES, "C4", samples=5, norm_samples=5, **asked)
    assert fewer["data"]["fingerprint"] != live["data"]["fingerprint"]
    assert differ_in(fewer, live) == []
    changed = IMAGES.copy()
    changed[live["data"]["indices"][3]] *= 0.5
    other = geed.measure(net, changed, "C4", samples=5, norm_samples=5, **asked)
    assert differ_in(fewer, other) == [
        "what the models were fed (preprocessing, or files that have changed)"
    ]
    brighter = geed.measure(
        net, IMAGES, "C4", samples=5, norm_samples=5, preprocess="mean=0.5", **asked
    )
    assert len(differ_in(fewer, brighter)) == 1


def test_another_mask_is_no_comparison(tmp_path):
    points = np.random.default_rng(3).random((6, 5, 2)).astype(np.float32)
    path = tmp_path / "m.onnx"
    w = models.weights("w", np.random.default_rng(4).normal(size=(2, 4)))
    nodes = [models.node("MatMul", "x w", "h"), models.node("Relu", "h", "y")]
    models.save(models.build(nodes, [w], [("x", 1, ["N", 5, 2])], [("y", 1, ["N", 5, 4])]), path)
    layouts = {"input_layout": "NPX", "layout": {"y": "NPC"}, "measures": ["output-l2@y"]}

    def masked(lengths):
        real = np.arange(5) < np.array(lengths)[:, None]
        asked = {**layouts, "samples": 6, "norm_samples": 6, "provider": "cpu"}
        return geed.measure(path, points, "C3", mask={"x": real}, **asked)

    first = masked([5, 4, 3, 5, 5, 2])
    assert differ_in(first, masked([5, 4, 3, 5, 5, 2])) == []
    assert differ_in(first, masked([5, 4, 3, 5, 5, 3])) == ["what is padding (--mask)"]


def test_two_tables_of_one_tensor_are_two_maps(tmp_path):
    source = models.c4_lifting(9)
    path = models.save(source, tmp_path / "m.onnx")
    images = np.random.default_rng(6).random((12, 1, 9, 9)).astype(np.float32)
    right = np.array(models.known(source)["channels"])
    tables = {"right": right, "still": np.tile(np.arange(right.shape[1]), (4, 1))}
    results = {}
    for name, table in tables.items():
        np.savez(tmp_path / f"{name}.npz", elements=["e", "r1", "r2", "r3"], channels=table)
        results[name] = geed.measure(
            *(path, images, "C4"),
            measures=["unexplained@map1"],
            output_action={"map1": tmp_path / f"{name}.npz"},
            **OPTIONS,
        )
    (first,) = results["right"]["measurements"]
    (other,) = results["still"]["measurements"]
    assert first["output_action"] == other["output_action"] == "grid+channels"
    assert first["table"] != other["table"]
    (entry,) = compare(results["right"], results["still"])["measurements"]
    assert "A's map (grid+channels) predicts better than B's map" in entry["verdict"]
    (plain,) = geed.measure(path, images, "C4", measures=["unexplained@map1"], **OPTIONS)[
        "measurements"
    ]
    assert "table" not in plain


def test_other_components_of_vectors_are_no_comparison(tmp_path):
    rng = np.random.default_rng(7)
    fields = rng.random((12, 2, 6, 6)).astype(np.float32)
    nodes = [models.conv("x", "w", "c"), models.node("Relu", "c", "out")]
    w = models.weights("w", rng.normal(size=(2, 2, 3, 3)))
    shape = ["N", 2, 6, 6]
    path = models.save(
        models.build(nodes, [w], [("x", 1, shape)], [("out", 1, shape)]), tmp_path / "m.onnx"
    )

    def measured(components):
        return geed.measure(
            *(path, fields, "C4"),
            measures=["unexplained@out"],
            input_layout="NXHW",
            layout={"out": "NXHW"},
            components=components,
            **OPTIONS,
        )

    a, b = measured("right-down"), measured("right-up")
    assert differ_in(a, measured("right-down")) == []
    assert differ_in(a, b) == ["components (right-down, right-up)"]


def test_scores_of_one_model_that_are_read_in_two_ways_are_no_comparison(tmp_path):
    path = models.save(models.softmax_output(), tmp_path / "m.onnx")
    shape = next(i.shape for i in geed.model.inputs(geed.model.load_model(path)))
    data = np.random.default_rng(8).random((12, *shape[1:])).astype(np.float32)

    def read_as(kind):
        asked = {"measures": ["softmax-kl"], "output_kind": kind, **OPTIONS}
        return geed.measure(path, data, "C4", **asked)

    a, b = read_as("probabilities"), read_as("logits")
    assert a["measurements"][0]["reads"] == "probabilities"
    assert differ_in(a, b) == ["what class scores are read as (probabilities, logits)"]
    another = {**b, "model": {**b["model"], "sha256": "0" * 64}}
    assert differ_in(a, another) == []  # two models may well end in different ways


def test_a_report_blames_data_that_are_not_those_measured(net):
    result = geed.measure(net, IMAGES, "C4", **OPTIONS)
    changed = IMAGES.copy()
    changed[result["data"]["indices"][1]] += 0.25
    with pytest.raises(GeedError, match=r"^--data array: sample \d+ is not the one that was meas"):
        explore(result, net, changed, [0, 1])
    explore(result, net, changed, [0, 2])


BESIDE = [
    (labels_of(1)[:23], "23 labels for 24 samples"),
    (np.eye(3)[labels_of(1)], "24×3 labels for 24 samples"),
    (np.random.default_rng(1).random(24), "float64 values are not classes"),
]


@pytest.mark.parametrize("kind", ["npz", "hdf5", "mapping"])
@pytest.mark.parametrize(("beside", "fault"), BESIDE)
def test_what_looks_like_labels_and_is_not_used_is_said(net, tmp_path, kind, beside, fault):
    name, data = "y", {"x": IMAGES, "y": beside}
    if kind == "npz":
        np.savez(tmp_path / "d.npz", **data)
        data = tmp_path / "d.npz"
    elif kind == "hdf5":
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["x"], file["y"] = IMAGES, beside
        name, data = "/y", f"{tmp_path}/d.h5:/x"
    result = geed.measure(net, data, "C4", measures=["softmax-kl"], **OPTIONS)
    said = [note for note in result["notes"] if "is not used for labels" in note]
    assert len(said) == 1
    assert said[0].startswith(f"{name} beside the samples is not used for labels: {fault}")
    assert result["data"]["labels"] is None
    stated = geed.measure(net, data, "C4", measures=["softmax-kl"], labels=labels_of(1), **OPTIONS)
    assert not any("is not used" in note for note in stated["notes"])


def test_labels_that_fit_and_inputs_of_their_name_are_not_spoken_of(net, tmp_path):
    np.savez(tmp_path / "d.npz", x=IMAGES, y=labels_of(1))
    result = geed.measure(net, tmp_path / "d.npz", "C4", measures=["softmax-kl"], **OPTIONS)
    assert result["data"]["labels"]
    assert not any("is not used" in note for note in result["notes"])


def test_layers_takes_no_option_that_it_does_not_use(net):
    for option in ("--feed=a=b.npy", "--mask=a", "--labels=a.npy", "--target=a=b.npy"):
        outcome = CliRunner().invoke(cli, ["layers", str(net), option])
        assert outcome.exit_code == 2
        assert "No such option" in outcome.stderr
    outcome = CliRunner().invoke(cli, ["layers", str(net), "--preprocess", "imagenet"])
    assert outcome.exit_code == 2
    kept = ["--input", "x", "--input-layout", "NCHW", "--output", "logits", "--output-kind"]
    listed = CliRunner().invoke(cli, ["layers", str(net), *kept, "embedding", "--format", "json"])
    assert json.loads(listed.stdout)["output"] == {"name": "logits", "kind": "embedding"}


def test_a_cache_is_described_or_checked_and_neither_beside_writing(net, tmp_path):
    cache = str(tmp_path / "c.geed")
    geed.write_cache(net, IMAGES, "C4", cache, **OPTIONS)

    def says(*arguments):
        outcome = CliRunner().invoke(cli, ["cache", *arguments])
        return outcome.exit_code, outcome.stderr

    assert "give one of the two" in says("--info", cache, "--verify", cache)[1]
    output = ["--output-cache", str(tmp_path / "d.geed")]
    for more in (["--data", "d.npy"], ["--group", "C4"], ["--samples", "3"], output):
        status, said = says("--info", cache, *more)
        assert status == 2
        assert f"{more[0]} is for writing a cache: leave it or --info out" in said
    assert "MODEL is for writing a cache" in says("--verify", cache, str(net))[1]
    assert says("--info", cache)[0] == says("--verify", cache)[0] == 0


def test_a_cache_of_more_samples_hides_no_other_feeds_labels_or_masks(tmp_path, net):
    path = models.save(models.two_input(2), tmp_path / "m.onnx")
    rng = np.random.default_rng(9)
    first, other = (rng.random((24, 2)).astype(np.float32) for _ in range(2))
    asked = {"measures": ["latent-l2"], "norm_samples": 2, "provider": "cpu"}
    cache = tmp_path / "c.geed"
    geed.write_cache(path, IMAGES, "C4", cache, samples=9, feed={"extra": first}, **asked)
    fewer = geed.measure_cache(cache, samples=5)
    live = geed.measure(path, IMAGES, "C4", samples=5, feed={"extra": other}, **asked)
    assert differ_in(fewer, live) == ["what input extra was fed (--feed)"]
    again = first.copy()
    again[live["data"]["indices"][4:]] = again[live["data"]["indices"][0]]
    geed.write_cache(path, IMAGES, "C4", tmp_path / "e.geed", feed={"extra": again}, **asked)
    live = geed.measure(path, IMAGES, "C4", samples=5, feed={"extra": first}, **asked)
    assert differ_in(fewer, live) == []
    # One row for all samples is the same row for fewer.
    cache, row = tmp_path / "r.geed", first[:1]
    geed.write_cache(path, IMAGES, "C4", cache, samples=9, feed={"extra": row}, **asked)
    fewer = geed.measure_cache(cache, samples=5)
    live = geed.measure(path, IMAGES, "C4", samples=5, feed={"extra": row}, **asked)
    assert differ_in(fewer, live) == []
    live = geed.measure(path, IMAGES, "C4", samples=5, feed={"extra": row + 1}, **asked)
    assert differ_in(fewer, live) == ["what input extra was fed (--feed)"]
    share = {"measures": SHARE, "norm_samples": 2, "provider": "cpu"}
    cache = tmp_path / "d.geed"
    geed.write_cache(net, IMAGES, "C4", cache, samples=9, labels=labels_of(1), **share)
    fewer = geed.measure_cache(cache, samples=5)
    same = geed.measure(net, IMAGES, "C4", samples=5, labels=labels_of(1), **share)
    assert differ_in(fewer, same) == []
    live = geed.measure(net, IMAGES, "C4", samples=5, labels=labels_of(2), **share)
    assert differ_in(fewer, live) == ["labels"]


def test_a_cache_of_several_inputs_measured_on_fewer_samples_is_of_the_same_data(tmp_path):
    path = models.save(letter_models.graph_network(5, 2), tmp_path / "m.onnx")
    rng = np.random.default_rng(2)
    data = {"x": rng.random((12, 5, 2)), "adj": rng.random((12, 5, 5))}
    data = {name: array.astype(np.float32) for name, array in data.items()}
    asked = {"measures": ["output-l2"], "provider": "cpu", "output_kind": "embedding"}
    asked |= {"input_layout": {"x": "NPC", "adj": "NPP"}}

    def stored(arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    cache = tmp_path / "c.geed"
    geed.write_cache(path, stored(data), "S5~4", cache, samples=9, norm_samples=9, **asked)
    fewer = geed.measure_cache(cache, samples=5, norm_samples=5)
    asked |= {"samples": 5, "norm_samples": 5}
    live = geed.measure(path, stored(data), "S5~4", **asked)
    assert differ_in(fewer, live) == []
    for name in data:
        changed = {**data, name: data[name].copy()}
        changed[name][live["data"]["indices"][4]] *= 0.5
        assert len(differ_in(fewer, geed.measure(path, stored(changed), "S5~4", **asked))) == 1
        # Samples that were not measured are no difference.
        changed = {**data, name: data[name].copy()}
        left = sorted({*range(12)} - {*live["data"]["indices"]})
        changed[name][left] *= 0.5
        assert differ_in(fewer, geed.measure(path, stored(changed), "S5~4", **asked)) == []


def test_values_are_held_against_each_other_and_not_how_they_were_stored(tmp_path):
    path = models.save(models.two_input(2), tmp_path / "m.onnx")
    one = np.array([[1.0, 2.0]], dtype=np.float32)
    asked = {"measures": ["softmax-kl"], **OPTIONS}
    once = geed.measure(path, IMAGES, "C4", feed={"extra": one}, **asked)
    each = geed.measure(path, IMAGES, "C4", feed={"extra": np.repeat(one, 24, axis=0)}, **asked)
    assert differ_in(once, each) == []


def test_labels_are_compared_where_layers_have_other_names(tmp_path, net):
    source = models.random_cnn(1, (8, 8))
    for node in source.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    source.graph.output[0].name = "scores"
    path = models.save(source, tmp_path / "m.onnx")

    def labelled(model, seed):
        asked = {"measures": ["symmetry-share"], "labels": labels_of(seed), **OPTIONS}
        return geed.measure(model, IMAGES, "C4", **asked)

    assert differ_in(labelled(net, 1), labelled(path, 1)) == []
    assert differ_in(labelled(net, 1), labelled(path, 2)) == ["labels"]


def test_results_of_earlier_versions_are_compared_as_before(net):
    result = geed.measure(net, IMAGES, "C4", **OPTIONS)
    old = json.loads(json.dumps(result))
    for name in ("mask", "fed", "targets"):
        old["data"].pop(name, None)
    for record in old["measurements"]:
        record.pop("reads", None)
        record.pop("table", None)
    assert differ_in(result, old) == differ_in(old, result) == []


# inputs beside the acted-on one


def two_images(path):
    """A dense layer on an image of three channels and one of one channel, and its weights."""
    nodes = [
        models.node("Flatten", "x", "flat_x"),
        models.node("Flatten", "z", "flat_z"),
        models.node("Concat", "flat_x flat_z", "both", axis=1),
        models.node("Gemm", "both w", "out"),
    ]
    w = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    inputs = [("x", models.FLOAT, ["N", 3, 4, 4]), ("z", models.FLOAT, ["N", 1, 4, 4])]
    outputs = [("out", models.FLOAT, ["N", 3])]
    return models.save(models.build(nodes, [models.weights("w", w)], inputs, outputs), path), w


PIXELS = {
    "x": np.random.default_rng(2).integers(0, 256, (6, 3, 4, 4)).astype(np.uint8),
    "z": np.random.default_rng(3).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8),
}
IN_PLANES = {"input": "x", "input_layout": {"x": "NCHW", "z": "NCHW"}, "provider": "cpu"}


def spread(w, scale):
    """Half the mean squared distance of the model's outputs, with z scaled."""
    x, z = (PIXELS[name].reshape(6, -1).astype(np.float64) for name in "xz")
    rows = np.concatenate([x, z * scale], axis=1)
    out = rows / 255 @ w.astype(np.float64)
    return ((out - out.mean(axis=0)) ** 2).sum() / 5


@pytest.mark.parametrize("group", ["C4", "hue3", "C4*hue3", "brightness:10", "noise:10", "own"])
@pytest.mark.parametrize("spelt", ["arrays", "hdf5", "plane", "feed", "file"])
def test_bytes_of_a_picture_are_scaled_whether_or_not_it_moves(tmp_path, group, spelt):
    path, w = two_images(tmp_path / "m.onnx")
    data, fed = PIXELS, {}
    if spelt == "hdf5":
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["x"], file["z"] = PIXELS["x"], PIXELS["z"]
        data = tmp_path / "d.h5"
    elif spelt == "plane":
        data = PIXELS | {"z": PIXELS["z"][:, 0]}
    elif spelt in ("feed", "file"):
        np.save(tmp_path / "z.npy", PIXELS["z"])
        given = PIXELS["z"] if spelt == "feed" else tmp_path / "z.npy"
        data, fed = {"x": PIXELS["x"]}, {"feed": {"z": given}}
    asked = {"measures": ["unexplained@out"], **IN_PLANES, **fed}
    if group == "own":
        turned = geed.FunctionAction(
            geed.parse_group("C4"), lambda g, x: np.rot90(x, g, axes=(2, 3)), any_size=True
        )
        result = geed.measure(path, data, action=turned, **asked)
    else:
        result = geed.measure(path, data, group, **asked)
    assert result["measurements"][0]["normaliser"] == pytest.approx(spread(w, 1), rel=1e-5)
    said = [note for note in result["notes"] if note.startswith("input z (NCHW, 1 × 4 × 4)")]
    still = group not in ("C4", "C4*hue3")
    assert len(said) == still
    assert all("is fed unmoved" in note for note in said)


def test_what_is_fed_by_a_layout_is_told_as_it_is_fed(tmp_path):
    path, w = two_images(tmp_path / "m.onnx")
    asked = {"measures": ["unexplained@out"], **IN_PLANES}
    scaled = {name: (array / np.float32(255)) for name, array in PIXELS.items()}
    ours, theirs = (geed.measure(path, data, "hue3", **asked) for data in (PIXELS, scaled))
    assert ours["data"]["fed"] == theirs["data"]["fed"]
    assert ours["measurements"] == theirs["measurements"]
    graph = geed.measure(path, PIXELS, "hue3", engine="graph", **asked)
    assert graph["measurements"][0]["value"] == pytest.approx(ours["measurements"][0]["value"])
    # Without a layout nobody knows that these are pictures.
    raw = geed.measure(path, PIXELS, "C4", **asked | {"input_layout": {"x": "NCHW"}})
    assert raw["data"]["fed"] != ours["data"]["fed"]
    assert raw["measurements"][0]["normaliser"] == pytest.approx(spread(w, 255), rel=1e-5)
    assert any("bytes are fed as 0 to 255" in note for note in raw["notes"])
    assert not any("bytes are fed" in note for note in ours["notes"])


def test_one_picture_for_all_samples_is_scaled_too(tmp_path):
    path, _ = two_images(tmp_path / "m.onnx")
    asked = {"measures": ["output-l2@out"], **IN_PLANES}
    one = geed.measure(path, PIXELS, "hue3", feed={"z": PIXELS["z"][:1]}, **asked)
    each = np.repeat(PIXELS["z"][:1], 6, axis=0) / np.float32(255)
    assert (
        one["measurements"]
        == (geed.measure(path, PIXELS, "hue3", feed={"z": each}, **asked)["measurements"])
    )


@pytest.mark.parametrize("spelt", ["array", "folder"])
def test_points_beside_a_picture_are_not_masked_to_its_disk(tmp_path, spelt):
    nodes = [
        models.node("Flatten", "x", "flat_x"),
        models.node("Flatten", "p", "flat_p"),
        models.node("Concat", "flat_x flat_p", "both", axis=1),
        models.node("Gemm", "both w", "out"),
    ]
    w = models.weights("w", np.random.default_rng(1).normal(size=(60, 3)))
    inputs = [("x", models.FLOAT, ["N", 3, 4, 4]), ("p", models.FLOAT, ["N", 4, 3])]
    model = models.build(nodes, [w], inputs, [("out", models.FLOAT, ["N", 3])])
    path = models.save(model, tmp_path / "m.onnx")
    points = np.random.default_rng(5).normal(size=(6, 4, 3)).astype(np.float32)
    asked = {"measures": ["output-l2", "unexplained@out"], "support": "disk", **IN_PLANES}
    given = points
    if spelt == "folder":
        given = tmp_path / "points"
        given.mkdir()
        for k, one in enumerate(points):
            np.save(given / f"{k}.npy", one)
    stated = geed.measure(
        *(path, {"x": PIXELS["x"]}, "C8"),
        **asked | {"input_layout": {"x": "NCHW", "p": "NPC"}, "feed": {"p": given}},
    )
    plain = geed.measure(
        *(path, {"x": PIXELS["x"]}, "C8"),
        **asked | {"input_layout": {"x": "NCHW"}, "feed": {"p": points}},
    )
    assert stated["measurements"] == plain["measurements"]
    assert stated["data"]["fed"] == plain["data"]["fed"]


@pytest.mark.parametrize("kind", ["mapping", "npz", "hdf5", "in a group"])
@pytest.mark.parametrize("name", ["y", "labels", "targets"])
def test_what_feeds_an_input_is_no_label(tmp_path, kind, name):
    nodes = [
        models.node("Flatten", "x", "flat"),
        models.node("Concat", f"flat {name}", "both", axis=1),
        models.node("Gemm", "both w", "out"),
    ]
    w = np.random.default_rng(1).normal(size=(17, 4))
    inputs = [("x", models.FLOAT, ["N", 1, 4, 4]), (name, models.FLOAT, ["N", 1])]
    model = models.build(nodes, [models.weights("w", w)], inputs, [("out", models.FLOAT, ["N", 4])])
    path = models.save(model, tmp_path / "m.onnx")
    rng = np.random.default_rng(2)
    x = rng.random((6, 1, 4, 4)).astype(np.float32)
    fed = rng.integers(0, 4, (6, 1)).astype(np.float32)
    data = {"x": x, name: fed}
    if kind == "npz":
        np.savez(tmp_path / "d.npz", **data)
        data = tmp_path / "d.npz"
    elif kind in ("hdf5", "in a group"):
        inside = "" if kind == "hdf5" else "test/"
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file[f"{inside}x"], file[inside + name] = x, fed
        data = f"{tmp_path}/d.h5" + (":/test" if inside else "")
    asked = {"measures": ["softmax-kl"], "input": "x", "input_layout": "NCHW", "provider": "cpu"}
    result = geed.measure(path, data, "C4", **asked)
    assert result["data"]["labels"] is None
    assert result["measurements"][0]["per_class"] is None
    assert set(result["data"]["fed"]) == {name}
    # Where the input is fed from elsewhere, the array beside the samples is free to be labels.
    other = geed.measure(path, data, "C4", feed={name: np.ones((6, 1), np.float32)}, **asked)
    drawn = other["data"]["indices"]
    assert other["data"]["labels"] == fed[drawn, 0].astype(int).tolist()


LINES = np.random.default_rng(4).random((6, 8, 3)).astype(np.float32)
LONG = np.array([8, 8, 6, 7, 8, 5])


@pytest.mark.parametrize("kind", ["mapping", "npz", "hdf5"])
@pytest.mark.parametrize("fed", [False, True])
def test_lengths_that_an_input_takes_cut_no_samples(tmp_path, kind, fed):
    nodes = [
        models.node("ReduceSum", "input one", "sum", keepdims=0),
        models.node("Cast", "input_lengths", "numbers", to=models.FLOAT),
        models.node("Unsqueeze", "numbers one", "column"),
        models.node("Div", "sum column", "out"),
    ]
    inputs = [
        ("input", models.FLOAT, ["N", "T", 3]), ("input_lengths", TensorProto.INT64, ["N"])
    ]  # fmt: skip
    held = [models.integers("one", [1])]
    model = models.build(nodes, held, inputs, [("out", models.FLOAT, ["N", 3])])
    path = models.save(model, tmp_path / "m.onnx")
    data = {"input": LINES, "input_lengths": LONG}
    if kind == "npz":
        np.savez(tmp_path / "d.npz", **data)
        data = tmp_path / "d.npz"
    elif kind == "hdf5":
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["input"], file["input_lengths"] = LINES, LONG
        data = tmp_path / "d.h5"
    result = geed.measure(
        *(path, data, "reverse"), input="input", input_layout="NTC", output_kind="embedding",
        measures=["output-l2", "unexplained@out"], provider="cpu",
        feed={"input_lengths": LONG} if fed else {},
    )  # fmt: skip
    if kind != "mapping":
        (shown,) = open_pictures(data, result)
        np.testing.assert_array_equal(shown.samples[1], LINES[1].T)
    moved, spread_of = result["measurements"]
    out = LINES.sum(axis=1) / LONG[:, None]
    assert moved["value"] < 1e-6
    wanted = ((out - out.mean(axis=0)) ** 2).sum() / 5
    assert spread_of["normaliser"] == pytest.approx(wanted, rel=1e-5)


def test_images_beside_sub_folders_are_named_where_these_give_no_labels(net, tmp_path):
    from PIL import Image

    names = [f"{c}/{i}.png" for c in "ab" for i in range(6)]
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray((IMAGES[i].transpose(1, 2, 0) * 255).astype(np.uint8)).save(tmp_path / name)
    asked = {"measures": ["softmax-kl"], **OPTIONS}
    sorted_in = geed.measure(net, tmp_path, "C4", **asked)
    assert set(sorted_in["data"]["labels"]) == {"a", "b"}
    assert not any("is not used" in note for note in sorted_in["notes"])
    for stray, said in (("z.png", "z.png lies"), ("y.png", "y.png and 1 other lie")):
        Image.open(tmp_path / names[0]).save(tmp_path / stray)
        result = geed.measure(net, tmp_path, "C4", **asked)
        (note,) = [note for note in result["notes"] if "is not used" in note]
        assert note == (
            f"the name of sub-folders is not used for labels: {said} in none of them; give a "
            "folder without such"
        )
        assert result["data"]["labels"] is None
    given = geed.measure(net, tmp_path, "C4", labels=[0] * 14, **asked)
    assert not any("is not used" in note for note in given["notes"])
