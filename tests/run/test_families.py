"""Families: loops of scipy and Pillow, known answers, every way to measure, and what is refused."""

import json
import os
import pickle
import sys

import models
import naive
import naive_families as twin
import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from models import build, conv, node, weights
from onnx import TensorProto
from running import images, run

import onnx_geed as geed
from onnx_geed.cache import cache_info, measure_cache, verify_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.groups import blur_matrix, own_family
from onnx_geed.groups.families import KINDS
from onnx_geed.run import how_far, make_options
from onnx_geed.run.open_source import source_of

GEOMETRIC = ["rotate:-15..15/3", "zoom:0.8..1.25/4", "shift-px:-2..2/5", "shift-px:-1.5..3/4"]
PHOTOMETRIC = [
    *("brightness:-60..60/3", "contrast:0.5..1.5/3", "blur:0.5..3/3", "noise:4..32/3"),
    "jpeg:90..10/3",
]
EVERY = [
    *("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "output-l2", "unexplained"),
    *("flip-rate", "unexplained@stem"),
]
OPTIONS = {"samples": 4, "norm_samples": 7, "seed": 3, "provider": "cpu", "output_kind": "logits"}


def measured(tmp_path, model, data, group, measures=EVERY, **options):
    path = models.save(model, tmp_path / "model.onnx")
    return geed.measure(path, data, group, measures=measures, **{**OPTIONS, **options})


def by_key(result):
    return {(record["measure"], record["layer"]): record for record in result["measurements"]}


def members_of(group):
    """Family and numbers of its members, from the name by hand."""
    name, _, text = group.partition(":")
    ends, _, count = text.partition("/")
    low, high = map(float, ends.split(".."))
    values = twin.members(name, twin.numbers(name, low, high, int(count)))
    return name, [round(v) for v in values] if name == "jpeg" else values


# ------------------------------------------------------------------------------------------------
# Loops
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [*GEOMETRIC, *PHOTOMETRIC])
def test_a_family_is_measured_as_loops_say(tmp_path, group):
    model, data = models.random_cnn(1, (10, 13)), images((3, 10, 13), 9)
    result = measured(tmp_path, model, data, group, engine="kernels")
    (name, values), records = members_of(group), by_key(result)
    part = result["group"]
    assert part["kind"] == "family"
    assert part["parameters"][1:] == pytest.approx(values)
    assert part["elements"][0] == "e"
    assert part["elements"][1].startswith(name)
    of_d, of_m = naive.sample_indices(len(data), 3, 4, 7)
    orbits = np.stack([twin.orbit(name, data[i], values, 3, int(i)) for i in of_d])
    flat = orbits.reshape(-1, *data.shape[1:])
    tensors = ["stem", "latent", "logits"]
    ys = [y.reshape(4, -1, *y.shape[1:]) for y in run(model, flat, tensors)]
    y = dict(zip(tensors, ys, strict=True))
    points = dict(zip(tensors, run(model, data[of_m], tensors), strict=True))
    shape = 4, len(values)

    def table(m, y, moved=False):
        out = np.empty(shape)
        for k, orbit in enumerate(y):
            for g, value in enumerate(values):
                told = twin.expected(name, orbit[0], value, 13) if moved else orbit[0]
                out[k, g] = m(orbit[g + 1], told)
        return out

    def distance(a, b):
        return np.linalg.norm(a.ravel().astype(np.float64) - b.ravel())

    def divergence(a, b):
        return naive.kl(naive.log_softmax(a), naive.log_softmax(b))

    def square(layer):
        rows = points[layer].reshape(7, -1).astype(np.float64)
        return np.square(rows - rows.mean(axis=0)).sum() / 6

    spread = {layer: square(layer) for layer in ("stem", "logits")}
    m, of_inputs = twin.mean_distance(points["latent"]), twin.mean_distance(data[of_m])
    wanted = {
        ("channel-cos", "stem"): (table(twin.minus_cosine, y["stem"], moved=True), 1),
        ("latent-l2", "latent"): (table(distance, y["latent"]), m),
        ("softmax-kl", "logits"): (table(divergence, y["logits"]), 1),
        ("output-l2", "logits"): (table(distance, y["logits"]), 1),
        ("flip-rate", "logits"): (table(lambda a, b: a.argmax() != b.argmax(), y["logits"]), 1),
        ("unexplained", "stem"): (table(distance, y["stem"], moved=True) ** 2, spread["stem"]),
        ("unexplained", "logits"): (table(distance, y["logits"]) ** 2, spread["logits"]),
    }
    for key, (values_of, scale) in wanted.items():
        record = records[key]
        got = np.array(record["deviations"])
        near = {"rtol": 2e-4, "atol": 2e-5 * max(np.abs(values_of).max(), 1e-3)}
        np.testing.assert_allclose(got[:, 1:], values_of, **near)
        # All but the identity count, whatever the measure.
        assert record["value"] == pytest.approx(values_of.mean() / scale, rel=1e-3, abs=1e-6)
        means = dict(zip(part["elements"][1:], values_of.mean(axis=0) / scale, strict=True))
        assert record["per_element"] == pytest.approx(means, rel=1e-3, abs=1e-6)
    cosines = records["channel-cos", "stem"]
    assert np.mean(cosines["per_channel"]) == pytest.approx(cosines["value"], rel=1e-6)
    away = np.linalg.norm((orbits[:, 1:] - orbits[:, :1]).reshape(*shape, -1), axis=2)
    gain, d = records["latent-l2", "latent"]["gain"], wanted["latent-l2", "latent"][0]
    assert gain["value"] == pytest.approx(d.mean() / m / (away.mean() / of_inputs), rel=1e-3)
    each = d.mean(axis=0) / m / (away.mean(axis=0) / of_inputs)
    assert list(gain["per_element"].values()) == pytest.approx(each.tolist(), rel=1e-3)
    assert all("gain" not in r for k, r in records.items() if k[0] != "latent-l2")


def test_pixels_are_changed_before_mean_and_std(tmp_path):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    asked = {"measures": ["output-l2"], "preprocess": "mean=0.3,0.4,0.5 std=0.2,0.25,0.3"}
    record = measured(tmp_path, model, data, "contrast:0.5", **asked)["measurements"][0]
    mean, std = np.array([[0.3, 0.4, 0.5], [0.2, 0.25, 0.3]])[:, :, None, None]
    of_d, _ = naive.sample_indices(9, 3, 4, 7)
    wanted = []
    for x in data[of_d]:
        pair = np.stack([(image - mean) / std for image in (x, twin.change("contrast", x, 0.5))])
        a, b = run(model, pair.astype(np.float32), ["logits"])[0]
        wanted.append(np.linalg.norm(a - b))
    assert np.array(record["deviations"])[:, 1] == pytest.approx(wanted, rel=1e-4)


def test_clip_makes_images_of_eight_bits(tmp_path):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    result = measured(tmp_path, model, data, "brightness:200", ["output-l2"], clip=True)
    of_d, _ = naive.sample_indices(9, 3, 4, 7)
    changed = [twin.eight_bits(twin.change("brightness", x, 200)) / 255 for x in data[of_d]]
    a, b = (run(model, np.float32(x), ["logits"])[0] for x in (changed, data[of_d]))
    got = np.array(result["measurements"][0]["deviations"])[:, 1]
    assert got == pytest.approx(np.linalg.norm(a - b, axis=1), rel=1e-4)
    assert result["group"]["clip"] is True
    other = measured(tmp_path, model, data, "brightness:200", ["output-l2"])
    assert other["measurements"][0]["value"] != result["measurements"][0]["value"]
    with pytest.raises(GeedError, match="clip"):
        geed.compare(result, other)
    for group in ("zoom:0.8", "C4"):
        with pytest.raises(GeedError, match=f"--clip: is for families .* {group} is not one"):
            measured(tmp_path, model, data, group, clip=True)


# ------------------------------------------------------------------------------------------------
# Known answers
# ------------------------------------------------------------------------------------------------


def of_image(nodes, initializers, size, output, *, channels=1):
    inputs = [("x", TensorProto.FLOAT, ["N", channels, size, size])]
    return build(nodes, initializers, inputs, [(output, TensorProto.FLOAT, None)])


def pooled(size, *, place=None):
    """Global average pooling of a circular-padding convolution; or one place of it instead."""
    w = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    end = models.integers("end", [2**31])
    parts = [models.integers("axis2", [2]), models.integers("axis3", [3]), end]
    parts += [models.integers(f"at{n}", [n]) for n in (0, -1, 1)]
    nodes, x = [], "x"
    for axis in ("2", "3"):
        nodes += [
            node("Slice", f"{x} at-1 end axis{axis}", f"tail{axis}"),
            node("Slice", f"{x} at0 at1 axis{axis}", f"head{axis}"),
            node("Concat", f"tail{axis} {x} head{axis}", f"around{axis}", axis=int(axis)),
        ]
        x = f"around{axis}"
    nodes += [conv(x, "w", "map", pad=0), node("Relu", "map", "active")]
    if place is not None:
        nodes += [node("Flatten", "active", "all"), node("Gather", "all place", "y", axis=1)]
        parts.append(models.integers("place", [place]))
    else:
        nodes += [node("GlobalAveragePool", "active", "mean"), node("Flatten", "mean", "y")]
    return of_image(nodes, [weights("w", w), *parts], size, "y")


def test_pooling_around_does_not_see_shifts_inside_the_image(tmp_path):
    data = np.zeros((9, 1, 16, 16), np.float32)
    data[:, :, 4:-4, 4:-4] = images((1, 8, 8), 9)
    record = measured(tmp_path, pooled(16), data, "shift-px:-4..4/9", ["latent-l2@y"])
    (record,) = record["measurements"]
    assert record["value"] < 1e-6
    assert record["gain"]["value"] < 1e-6
    # One place instead sees them, and so does the pooled one what is lost over the border.
    pixel = measured(tmp_path, pooled(16, place=136), data, "shift-px:-4..4/9", ["latent-l2@y"])
    lost = measured(
        tmp_path, pooled(16), images((1, 16, 16), 9), "shift-px:-4..4/9", ["latent-l2@y"]
    )
    assert pixel["measurements"][0]["value"] > 0.2
    assert lost["measurements"][0]["value"] > 0.02


def standardised(size, *, channels=1, scaled=True):
    """The input without its mean, and by its standard deviation."""
    nodes = [
        node("ReduceMean", "x", "mean", axes=[1, 2, 3], keepdims=1),
        node("Sub", "x mean", "centred"),
        node("Mul", "centred centred", "squares"),
        node("ReduceMean", "squares", "variance", axes=[1, 2, 3], keepdims=1),
        node("Sqrt", "variance", "deviation"),
        node("Div", "centred deviation", "by_it")
        if scaled
        else node("Identity", "centred", "by_it"),
        node("Flatten", "by_it", "y"),
    ]
    return of_image(nodes, [], size, "y", channels=channels)


def test_a_standardised_input_does_not_see_brightness_and_contrast(tmp_path):
    data = images((1, 8, 8), 9)
    for group in ("brightness:-60..60/5", "contrast:0.5..1.5/5"):
        seen = measured(tmp_path, standardised(8), data, group, ["latent-l2@y"])
        assert seen["measurements"][0]["value"] < 1e-5
    # Without the deviation contrast is seen; and clipped members are no such change.
    other = measured(tmp_path, standardised(8, scaled=False), data, group, ["latent-l2@y"])
    assert other["measurements"][0]["value"] > 0.1
    clipped = measured(tmp_path, standardised(8), data, group, ["latent-l2@y"], clip=True)
    assert clipped["measurements"][0]["value"] > 1e-3


def test_the_grey_value_does_not_see_hue_and_one_colour_does(tmp_path):
    mean = [node("ReduceMean", "x", "grey", axes=[1], keepdims=1), node("Flatten", "grey", "y")]
    red = [node("Gather", "x at", "red", axis=1), node("Flatten", "red", "y")]
    data, values = images((3, 6, 6), 9), []
    for nodes, parts in ((mean, []), (red, [models.integers("at", [0])])):
        model = of_image(nodes, parts, 6, "y", channels=3)
        result = measured(tmp_path, model, data, "hue12", ["latent-l2@y"])
        assert result["group"].get("kind") != "family"
        values.append(result["measurements"][0]["value"])
    assert values[0] < 1e-5
    assert values[1] > 0.1


def test_a_network_that_knows_nothing_moves_as_its_input_does(tmp_path):
    model = of_image([node("Flatten", "x", "y")], [], 9, "y")
    for group in ("noise:4..32/3", "rotate:-15..15/3"):
        result = measured(tmp_path, model, images((1, 9, 9), 9), group, ["latent-l2@y"])
        gain = result["measurements"][0]["gain"]
        assert gain["value"] == pytest.approx(1, rel=1e-5)
        assert list(gain["per_element"].values()) == pytest.approx([1] * (len(gain["per_element"])))


# ------------------------------------------------------------------------------------------------
# Every way to measure
# ------------------------------------------------------------------------------------------------


# The mean and std of each channel are others, and channels are in another order than luma's.
PREPARED = "channels=BGR scale=2 mean=0.3,0.4,0.5 std=0.2,0.25,0.3"


def same_by_graph(tmp_path, model, data, group, *asked, **options):
    """The result inside the graph, whose figures are those of the kernels."""
    a, b = (
        measured(tmp_path, model, data, group, *asked, engine=engine, **options)
        for engine in ("kernels", "graph")
    )
    assert b["runtime"]["engine"] == "graph"
    for ours, theirs in zip(a["measurements"], b["measurements"], strict=True):
        np.testing.assert_allclose(ours["deviations"], theirs["deviations"], rtol=1e-3, atol=1e-5)
        assert ours["value"] == pytest.approx(theirs["value"], rel=1e-4, abs=1e-6)
        assert ours["between_samples"] == pytest.approx(theirs["between_samples"], rel=1e-4)
        if ours["per_channel"] is not None:
            assert ours["per_channel"] == pytest.approx(theirs["per_channel"], rel=1e-4)
    return b


@pytest.mark.parametrize("group", [*GEOMETRIC, *PHOTOMETRIC])
@pytest.mark.parametrize("support", ["full", "disk"])
def test_the_graph_measures_the_same(tmp_path, group, support):
    model, data = models.random_cnn(1, (10, 13)), images((3, 10, 13), 9)
    same_by_graph(tmp_path, model, data, group, support=support)


@pytest.mark.parametrize("group", ["brightness:-60..60/17", "hue3"])
def test_the_graph_takes_what_is_before_mean_and_std(tmp_path, group):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9).round(1)
    options = {"clip": True} if group != "hue3" else {}
    result = same_by_graph(tmp_path, model, data, group, preprocess=PREPARED, **options)
    plain = measured(tmp_path, model, data, group, engine="graph", **options)
    value = plain["measurements"][0]["value"]
    assert result["measurements"][0]["value"] != pytest.approx(value, rel=1e-3)


MODELS = {
    "rows": lambda: models.two_input(2),
    "one row": lambda: models.two_input(2),
    "freed batch": models.static_batch,
    "weights as inputs": models.initializer_as_input,
    "opset 9": lambda: models.random_cnn(2, (8, 8)),
}


@pytest.mark.parametrize("case", MODELS)
def test_the_graph_takes_orbits_of_any_model(tmp_path, case):
    extra = np.random.default_rng(0).normal(size=(1 if case == "one row" else 9, 2))
    options = {"feed": {"extra": extra.astype(np.float32)}} if "row" in case else {}
    model, data = MODELS[case](), images((3, 8, 8), 9)
    if case == "opset 9":
        model.opset_import[0].version = 9
    same_by_graph(tmp_path, model, data, "noise:4..32/3", ["softmax-kl", "flip-rate"], **options)


def test_what_no_node_can_do_is_not_compiled(tmp_path, own):
    models.save(models.random_cnn(1, (9, 9)), tmp_path / "model.onnx")
    groups = ("noise:4", "jpeg:90", "imagenet-c:fog", "background:scenes/3", f"{own}:members")
    for group in groups:
        with pytest.raises(
            GeedError, match=r"compile .* in a way that a graph cannot: .* contrast and blur"
        ):
            geed.compile_measurement(tmp_path / "model.onnx", group, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("group", [*GEOMETRIC[:3], "noise:4..32/3", "jpeg:90..10/3"])
def test_a_cache_measures_the_same_bits(tmp_path, mode, group):
    model, data = models.random_cnn(1, (9, 12)), images((3, 9, 12), 20)
    live = measured(tmp_path, model, data, group, engine="kernels")
    path, folder = tmp_path / "model.onnx", tmp_path / "a.geed"
    write_cache(path, data, group, folder, mode=mode, measures=EVERY, **OPTIONS)
    cached = measure_cache(folder)
    assert cached["group"] == live["group"]
    for a, b in zip(live["measurements"], cached["measurements"], strict=True):
        a.pop("references", None), b.pop("references", None)
        assert a == b
    assert cache_info(folder)["complete"]
    assert verify_cache(folder) == []
    (few,) = measure_cache(folder, measures=["latent-l2"], samples=2, norm_samples=5)[
        "measurements"
    ]
    assert few["samples"] == 2
    again = measured(tmp_path, model, data, group, engine="kernels", samples=2, norm_samples=5)
    (alone,) = [r for r in again["measurements"] if r["measure"] == "latent-l2"]
    assert few["gain"] == alone["gain"]
    (folder / "inputs.h5").unlink()
    assert not cache_info(folder)["complete"]
    with pytest.raises(GeedError, match=r"inputs\.h5 is missing; run the same"):
        measure_cache(folder)


@pytest.mark.parametrize("size", [3, 243, 20_000])
def test_how_far_inputs_are_apart_does_not_depend_on_how_many_there_are(size):
    x = np.random.default_rng(0).random((70, size)).astype(np.float32)
    apart = how_far.SeenInputs(np.zeros((70, 1)), x).distances().between
    of = x.astype(np.float64)
    loops = np.array([[np.sqrt(np.square(a - b).sum()) for b in of] for a in of])
    np.testing.assert_allclose(apart, loops, rtol=1e-9, atol=1e-9)
    for points in (2, 3, 17, 31, 32, 33, 64, 65):
        fewer = how_far.SeenInputs(np.zeros((points, 1)), x[:points]).distances().between
        np.testing.assert_array_equal(fewer, apart[:points, :points])


def compiled(tmp_path, group, x, **options):
    """Deviations of samples, as a model takes them, by a compiled measurement in a bare runtime."""
    path = tmp_path / "measured.onnx"
    described = geed.compile_measurement(tmp_path / "model.onnx", group, path, **options)
    values = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {described["input"]["name"]: x}
    )
    return described, dict(zip([o["name"] for o in described["outputs"]], values, strict=True))


def agree(result, outputs):
    for record in result["measurements"]:
        got = outputs[f"deviation/{record['measure']}/{record['layer']}"]
        np.testing.assert_allclose(got, record["deviations"], rtol=1e-4, atol=1e-5)


COMPILED = [*GEOMETRIC[:3], "brightness:-60..60/3", "contrast:0,0.5,1.5", "blur:0.3,2,30"]


@pytest.mark.parametrize("group", COMPILED)
def test_a_compiled_measurement_says_the_same(tmp_path, group):
    model, data = models.random_cnn(1, (9, 12)), images((3, 9, 12), 9)
    result = measured(tmp_path, model, data, group, engine="kernels")
    x = data[result["data"]["indices"][:4]]
    described, outputs = compiled(tmp_path, group, x, measures=EVERY, output_kind="logits")
    assert described["group"]["parameters"] == result["group"]["parameters"]
    assert ("undone" in described["input"]["meaning"]) == (group not in GEOMETRIC)
    means = [o["meaning"] for o in described["outputs"] if o["part"] == "deviation"]
    assert all("without the identity" in text for text in means)
    agree(result, outputs)


@pytest.mark.parametrize("group", COMPILED[3:])
@pytest.mark.parametrize(
    "options", [{}, {"support": "disk"}, {"clip": True}, {"support": "disk", "clip": True}]
)
@pytest.mark.parametrize("opset", [9, 17])
def test_a_compiled_family_undoes_and_redoes_mean_and_std(tmp_path, group, options, opset):
    # Of 8 bits: what is halfway between two of these may round either way behind mean and std.
    model, data = models.random_cnn(1, (9, 12)), np.rint(images((3, 9, 12), 9) * 255)
    data = np.float32(data) / np.float32(255)
    model.opset_import[0].version = opset
    options = {**options, "preprocess": PREPARED}
    result = measured(tmp_path, model, data, group, engine="kernels", **options)
    mean, std = np.float32([[0.3, 0.4, 0.5], [0.2, 0.25, 0.3]])[:, :, None, None]
    x = (data[result["data"]["indices"][:4], ::-1] * np.float32(2) - mean) / std
    agree(result, compiled(tmp_path, group, x, measures=EVERY, output_kind="logits", **options)[1])


@pytest.mark.parametrize("group", [*COMPILED[3:], "noise:4..32/3", "jpeg:50"])
def test_other_layouts_are_changed_alike(tmp_path, group):
    data = np.ascontiguousarray(np.moveaxis(images((3, 8, 8), 9), 1, -1))
    prepared = "mean=0.3,0.4,0.5 std=0.2,0.25,0.3"
    measures = ["softmax-kl", "latent-l2"]
    result = same_by_graph(
        tmp_path, models.nhwc_input(2), data, group, measures, preprocess=prepared
    )
    if group in COMPILED:
        chosen, options = data[result["data"]["indices"][:4]], {"output_kind": "logits"}
        x = (chosen - np.float32([0.3, 0.4, 0.5])) / np.float32([0.2, 0.25, 0.3])
        options |= {"measures": measures, "preprocess": prepared}
        agree(result, compiled(tmp_path, group, x, **options)[1])


@pytest.mark.parametrize("group", COMPILED[3:])
def test_images_without_channels_are_changed_alike(tmp_path, group):
    inputs, outputs = [("x", TensorProto.FLOAT, ["N", 8, 9])], [("y", TensorProto.FLOAT, None)]
    model, data = build([node("Flatten", "x", "y")], [], inputs, outputs), images((8, 9), 9)
    options = {"input_layout": "NHW", "preprocess": "mean=0.3 std=0.2", "support": "disk"}
    options["measures"] = ["latent-l2@y"]
    result = same_by_graph(tmp_path, model, data, group, **options)
    x = (data[result["data"]["indices"][:4]] - np.float32(0.3)) / np.float32(0.2)
    agree(result, compiled(tmp_path, group, x, **options)[1])


@pytest.mark.parametrize("group", ["brightness:-60..60/5", "contrast:0.5..1.5/5"])
def test_a_graph_of_a_standardised_input_does_not_see_light(tmp_path, group):
    data, values = images((1, 8, 8), 9), {}
    for scaled, clip in ((True, False), (False, False), (True, True)):
        model, asked = standardised(8, scaled=scaled), {"measures": ["latent-l2@y"], "clip": clip}
        result = measured(tmp_path, model, data, group, engine="graph", **asked)
        _, outputs = compiled(tmp_path, group, data, **asked)
        values[scaled, clip] = (
            outputs["deviation/latent-l2/y"].max(),
            result["measurements"][0]["unnormalised"],
        )
    assert max(values[True, False]) < 1e-4
    if group.startswith("contrast"):
        assert min(values[False, False]) > 0.1
    # What is clipped is no such change.
    assert min(values[True, True]) > 1e-2


@pytest.mark.parametrize("group", ["zoom:0.8..1.25/4", "noise:4..32/3"])
def test_any_jobs_give_the_same_bits(tmp_path, group):
    model, data, found = models.random_cnn(1, (9, 9)), images((3, 9, 9), 20), set()
    sizes = {"samples": 12, "norm_samples": 17, "engine": "kernels"}
    for batch in (5, 10, 35):
        result = measured(tmp_path, model, data, group, batch_size=batch, **sizes)
        rows = [[r["value"], r["deviations"], r.get("gain")] for r in result["measurements"]]
        found.add(json.dumps(rows))
    assert len(found) == 1
    pieces = measured(tmp_path, model, data, group, batch_size=2, **sizes)
    values = [r["value"] for r in pieces["measurements"]]
    assert values == pytest.approx([r["value"] for r in result["measurements"]], rel=1e-5)


def test_another_process_moves_samples_alike(tmp_path):
    loaded = geed.load_model(models.save(models.random_cnn(1, (9, 9)), tmp_path / "model.onnx"))
    data = images((3, 9, 9), 9)
    for group in ("noise:4..32/3", "shift-px:-2..2/5", "contrast:0.5"):
        source = source_of(loaded, data, group, make_options({"seed": 3, "samples": 4}))
        there = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(source.rows([2, 1]), there.rows([2, 1]))


def test_noise_depends_on_seed_sample_and_member(tmp_path):
    loaded = geed.load_model(models.save(models.random_cnn(1, (9, 9)), tmp_path / "model.onnx"))
    grey = np.full((9, 3, 9, 9), 0.5, np.float32)
    options = {"samples": 4, "norm_samples": 4}
    rows = {
        seed: source_of(loaded, grey, "noise:4,4.5", make_options({**options, "seed": seed}))
        for seed in (0, 1)
    }
    noise = {seed: source.rows([0, 1]) - 0.5 for seed, source in rows.items()}
    drawn = [n[k] / s for n in noise.values() for k, s in ((1, 4), (2, 4.5), (4, 4), (5, 4.5))]
    for i, a in enumerate(drawn):
        assert not noise[0][0].any()
        assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.3 for b in drawn[i + 1 :])
        assert a.std() * 255 == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("group", ["rotate:-12..20/3", "zoom:0.9,1.2", "shift-px:1,-2", "blur:1"])
@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_dense_scores_are_moved_back(tmp_path, group, engine):
    model, data = models.dense_scores(classes=3, symmetric=False), images((1, 8, 8), 9)
    result = measured(tmp_path, model, data, group, ["softmax-kl", "flip-rate"], engine=engine)
    records = by_key(result)
    of_d, _ = naive.sample_indices(9, 3, 4, 7)
    name, values = group.partition(":")[0], [float(v) for v in result["group"]["parameters"][1:]]
    for row, i in enumerate(of_d):
        orbit = twin.orbit(name, data[i], values, 3, int(i))
        scores = run(model, orbit, ["z"])[0].astype(np.float64)
        for g, value in enumerate(values, 1):
            undo = 1 / value if name == "zoom" else -value
            back, kept = scores[g], np.ones((8, 8), dtype=bool)
            if name != "blur":
                back = np.stack([twin.warp(plane, name, undo, 8) for plane in scores[g]])
                kept = twin.warp(np.ones((8, 8)), name, undo, 8) > 1 - 1e-6
            pixels = np.argwhere(kept)
            logs = [
                (naive.log_softmax(back[:, i, j]), naive.log_softmax(scores[0][:, i, j]))
                for i, j in pixels
            ]
            kl = np.mean([naive.kl(a, b) for a, b in logs])
            flips = np.mean([a.argmax() != b.argmax() for a, b in logs])
            got = records["softmax-kl", "z"]["deviations"][row][g]
            assert got == pytest.approx(kl, rel=1e-4, abs=1e-8)
            assert records["flip-rate", "z"]["deviations"][row][g] == pytest.approx(flips)


@pytest.mark.parametrize(
    "group", ["rotate:-15..15/3", "shift-px:-2..2/3", "brightness:60", "blur:1"]
)
@pytest.mark.parametrize("kind", ["permutation", "orthogonal", "linear"])
def test_actions_are_fitted_under_a_family(tmp_path, group, kind):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 30)
    asked = {"measures": ["unexplained@stem"], "engine": "kernels"}
    plain = measured(tmp_path, model, data, group, **asked)["measurements"][0]
    fits = {"output_action": {"stem": f"fit:{kind}"}, "fit_samples": 20}
    fitted = measured(tmp_path, model, data, group, **fits, **asked)
    record = fitted["measurements"][0]
    assert record["fit"]["kind"] == kind
    assert record["fit"]["defect"] is None
    assert record["fit"]["identity"] == pytest.approx(plain["value"], rel=1e-5)
    if kind == "linear":
        assert record["value"] < plain["value"]


# ------------------------------------------------------------------------------------------------
# One's own
# ------------------------------------------------------------------------------------------------

OWN = """
import numpy as np

def dark(x):
    x *= 0.5
    return x

def flat(x):
    return x.mean(axis=(1, 2), keepdims=True) + np.zeros(x.shape)

members = {"dark": dark, "flat": flat}

def made():
    return members

faulty = {
    "raises": {"ok": dark, "bad": lambda x: 1 / 0},
    "shape": {"bad": lambda x: x[:, 1:]},
    "nan": {"bad": lambda x: x * np.nan},
    "text": {"bad": lambda x: "no"},
}

def raises(): return faulty["raises"]
def shape(): return faulty["shape"]
def nan(): return faulty["nan"]
def text(): return faulty["text"]
def nothing(): return {}
def fails(): raise ValueError("no members today")
def named(): return {"é": dark}
def identity(): return {"e": dark}
def function(): return {"bad": lambda x: dark}
def pairs(): return [("dark", dark)]
def both(x, y): return x
def number(): return {"dark": 3}
def spaced(): return {"two words": dark}
def unnamed(): return {"": dark}
def punctuated(some={}, *more, n=2): return {"-2%/x,y": dark}
def huge(): return {"bad": lambda x: x.astype("float64") * 1e300}
def silent(): return {"bad": lambda x: next(iter(()))}
def drawn():
    import random
    return {"bad": lambda x: x + random.random()}
counted = []
def counting(): return {"bad": lambda x: (counted.append(1), x * len(counted))[1]}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    return name


def test_a_family_of_ones_own_is_measured(tmp_path, own):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    of_d, _ = naive.sample_indices(9, 3, 4, 7)
    results = [
        measured(tmp_path, model, data, f"{own}:{n}", ["output-l2"]) for n in ("members", "made")
    ]
    for result in results:
        assert result["group"]["elements"] == ["e", "dark", "flat"]
        assert result["group"]["parameters"] == [None, None, None]
        x = data[of_d]
        flat = np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape).astype(np.float32)
        y, dark, flat = (run(model, v, ["logits"])[0] for v in (x, x / 2, flat))
        wanted = np.stack([np.linalg.norm(v - y, axis=1) for v in (dark, flat)], axis=1)
        got = np.array(result["measurements"][0]["deviations"])[:, 1:]
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
    folder = tmp_path / "own.geed"
    write_cache(tmp_path / "model.onnx", data, f"{own}:made", folder, **OPTIONS)
    (tmp_path / f"{own}.py").unlink()
    # A cache runs no program of anybody's.
    (record,) = measure_cache(folder, measures=["output-l2"])["measurements"]
    assert record["deviations"] == results[1]["measurements"][0]["deviations"]


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("raises", r"member bad on sample \d raised ZeroDivisionError: division by zero"),
        (
            "shape",
            r"member bad on sample \d has the shape \(3, 8, 9\), but the sample has \(3, 9, 9\)",
        ),
        ("nan", r"member bad on sample \d holds NaN or infinity"),
        ("text", r"member bad on sample \d returns no, not an array of numbers$"),
        ("function", r"member bad on sample \d returns the function dark, not an array"),
        ("huge", r"member bad on sample \d holds NaN or infinity"),
        ("silent", r"member bad on sample \d raised StopIteration$"),
        ("drawn", r"member bad on sample \d returns something else each time"),
        ("counting", r"member bad on sample \d returns something else each time"),
        ("nothing", "a family is a mapping of member names to functions of one image.*found {}$"),
        ("pairs", r"a family is a mapping .*found \[\('dark', <function dark>\)\]$"),
        (
            "dark",
            r"needs the argument x, so it may be a member, but it is not a family; a family is a",
        ),
        ("both", r"needs the arguments x and y, so it may be a member"),
        ("number", r"member dark is 3, not a function of one image$"),
        ("fails", "raised ValueError: no members today"),
        ("named", r"ASCII characters without spaces.*; found 'é'$"),
        ("spaced", r"a member's name is .* without spaces.*; found 'two words'$"),
        ("unnamed", r"a member's name is .*; found ''$"),
        ("identity", "'e', which is the image itself; found 'e'$"),
        ("membrs", "no 'membrs' in own_.* Did you mean 'members'"),
    ],
)
def test_members_that_fail_are_named_in_one_line(tmp_path, own, function, fault):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    with pytest.raises(GeedError, match=fault) as raised:
        measured(tmp_path, model, data, f"{own}:{function}")
    assert str(raised.value).startswith(f"group {own}:{function}: ")
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)


def test_members_may_be_called_by_signs_and_made_by_what_needs_no_argument(own):
    assert geed.parse_group(f"{own}:punctuated").elements == ("e", "-2%/x,y")


def test_members_that_were_edited_are_others(tmp_path, own, monkeypatch):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    group, folder = f"{own}:made", tmp_path / "own.geed"
    before = measured(tmp_path, model, data, group, ["output-l2"])
    kept = {**OPTIONS, "samples": 9, "batch_size": 3}  # in two shards
    write_cache(tmp_path / "model.onnx", data, group, folder, **kept)
    shard = sorted(folder.glob("shard-*.h5"))[-1]
    edited = OWN.replace("x *= 0.5", "x *= 0.3")
    assert edited != OWN
    module = tmp_path / f"{own}.py"
    module.write_text(edited)
    # Python takes compiled code for that of a source of the same length and the same second.
    os.utime(module, (0, 0))
    monkeypatch.delitem(sys.modules, own)
    own_family._mapping.cache_clear()
    after = measured(tmp_path, model, data, group, ["output-l2"])
    assert after["group"]["members"] != before["group"]["members"]
    with pytest.raises(GeedError, match=r"differ in what its members do \("):
        geed.compare(before, after)
    shard.unlink()
    with pytest.raises(GeedError, match=r"from this run in members"):
        write_cache(tmp_path / "model.onnx", data, group, folder, **kept)


# ------------------------------------------------------------------------------------------------
# Names, and what is refused
# ------------------------------------------------------------------------------------------------


def test_members_are_named_by_family_and_number():
    def parts(name):
        group = geed.parse_group(name)
        return group.elements, group.family.values

    assert parts("rotate:-15..15/3") == (("e", "rotate-15", "rotate15"), (0.0, -15.0, 15.0))
    assert parts("jpeg:90..10/6")[0][1:] == tuple(f"jpeg{q}" for q in (90, 74, 58, 42, 26, 10))
    assert parts("jpeg:90,10")[1] == (None, 90.0, 10.0)
    elements, values = parts("zoom:0.8..1.25/9")
    assert len(elements) == 9  # the middle is the identity
    assert 1.0 not in values[1:]
    assert np.diff(np.log(values[1:5])) == pytest.approx(np.log(1.25 / 0.8) / 8)
    assert elements[1] == "zoom0.8"
    assert parts("noise:4..32/6")[1] == (0.0, 4.0, 9.6, 15.2, 20.8, 26.4, 32.0)
    assert parts("rotate:-180..0/2") == (("e", "rotate-180"), (0.0, -180.0))
    assert parts("rotate:360,5")[1] == (0.0, 5.0)
    assert parts("brightness:0..60/2")[0] == ("e", "brightness60")
    group = geed.parse_group("zoom:0.8..1.25/9")
    assert not group.is_closed
    assert group == geed.parse_group("zoom:0.8..1.25/9")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("zoom", "is a family and needs a range: write zoom:0.8..1.25/9"),
        ("zom:0.8..1.25/9", r"no group is called .*or G\*H .*\. Did you mean 'zoom'"),
        ("zoom:0..1/3", "a factor must be above 0; found 0"),
        ("zoom:-1", "a factor must be above 0"),
        ("zoom:1", "all its members leave images unchanged"),
        ("rotate:5,5", "a member is given twice, as 5 and as 5; write rotate:5$"),
        ("rotate:0,360", "twice, as 0 and as 360, 360° apart; write rotate:-15..15/7"),
        ("rotate:-180,90,180.0", "twice, as -180 and as 180, 360° apart; write rotate:-180,90$"),
        ("rotate:-180..180/3", "twice, as -180 and as 180, 360° apart; write rotate:-180..0/2$"),
        ("rotate:180..-180/9", "twice, as 180 and as -180, .*; write rotate:180..-135/8$"),
        ("rotate:0.1..360.1/2", r"twice, as 0\.1 and .*; write rotate:0\.1..180\.1/2$"),
        ("rotate:0..720/5", "twice, as 0 and as 360, 360° apart; write rotate:0..288/5$"),
        ("rotate:360", "all its members leave images unchanged"),
        ("jpeg:90..88/9", "a member is given twice, as 90 and as 90; write jpeg:90..88/3$"),
        ("blur:0.1,1", "σ of 0.1 leaves images unchanged, .* as invariance; give 0.125 or more"),
        ("rotate:1..1/3", "both ends are the same"),
        ("rotate:-5..5", "members are a range LO..HI/N, such as rotate:-15..15/7"),
        ("rotate:wide", "members are a range"),
        ("jpeg:200", "^group jpeg:200: the quality is a whole number from 1 to 100; found 200$"),
        ("blur:-1..1/3", "^group blur:-1..1/3: σ in pixels is 0 or more; found -1$"),
        ("imagenet-c:fogg", "^group imagenet-c:fogg: choose from .*Did you mean 'fog'"),
        ("C4*zoom:0.8..1.2/3", "a family cannot be part of a product"),
        ("rotate:-90..90/2000", "at most 1024"),
        ("no_such_module:members", "cannot be imported"),
    ],
)
def test_what_is_no_family_is_said_in_one_line(name, fault):
    with pytest.raises(GeedError, match=fault) as raised:
        geed.parse_group(name)
    assert "\n" not in str(raised.value)
    if "twice" in fault:  # what is advised works
        geed.parse_group(str(raised.value).rpartition("write ")[2])


def test_less_than_the_least_blur_is_none():
    least = KINDS["blur"].least
    assert (blur_matrix(least - 1e-6, 9) == np.eye(9)).all()
    assert (blur_matrix(least, 9) != np.eye(9)).any()


@pytest.mark.parametrize(
    ("group", "options", "fault"),
    [
        ("zoom:0.8", {"references": True}, "--references: .* zoom:0.8 is a family"),
        ("zoom:0.8", {"measures": ["symmetry-share"]}, "symmetry-share: .* zoom:0.8 is a family"),
        ("zoom:0.8", {"measures": ["sensitivity"]}, "sensitivity: .* zoom:0.8 is a family"),
        (
            "zoom:0.8",
            {"output_action": {"logits": "a.npz"}},
            "--output-action logits: .* fit it instead",
        ),
        (
            "shift-px:9",
            {},
            "^group shift-px:9: a shift of 9 pixels leaves nothing of an input that is 9",
        ),
    ],
)
def test_what_does_not_go_with_a_family_is_said_in_one_line(tmp_path, group, options, fault):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    with pytest.raises(GeedError, match=fault) as raised:
        measured(tmp_path, model, data, group, **{"measures": [], **options})
    assert "\n" not in str(raised.value)


def test_an_idle_interpolation_is_noted(tmp_path):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 9)
    idle = "--interpolation has no effect: blur:1 resamples nothing"
    for group, told in (("blur:1", True), ("rotate:20", False)):
        result = measured(tmp_path, model, data, group, ["output-l2"], interpolation="nearest")
        assert (idle in result["notes"]) == told


def test_only_images_are_changed_in_value(tmp_path):
    model = build(
        [node("Flatten", "x", "y")],
        [],
        [("x", TensorProto.FLOAT, ["N", 2, 6, 6])],
        [("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(
        GeedError, match="changes images, which are grey or RGB, but the input has C 2"
    ):
        measured(
            tmp_path, model, images((2, 6, 6), 9), "blur:1", ["latent-l2@y"], input_layout="NCHW"
        )
    wide = images((1, 6, 6), 9) * 9
    model = of_image([node("Flatten", "x", "y")], [], 6, "y")
    result = measured(tmp_path, model, wide, "blur:1", ["latent-l2@y"])
    assert any("changes pixels as values in [0, 1]" in note for note in result["notes"])


def test_the_command_line_takes_families(tmp_path):
    path = models.save(models.random_cnn(1, (9, 9)), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", images((3, 9, 9), 9))
    out = tmp_path / "r.json"
    asked = ["measure", str(path), "--data", str(tmp_path / "x.npy"), "--group", "noise:4..32/3"]
    ran = CliRunner().invoke(cli, [*asked, "--clip", "--out", str(out), "--samples", "4"])
    assert ran.exit_code == 0, ran.output
    result = geed.read_result(out)
    assert result["group"]["parameters"] == [0.0, 4.0, 18.0, 32.0]
    assert result["group"]["clip"] is True
    page = CliRunner().invoke(cli, ["report", str(out), "-o", str(tmp_path / "r.html")])
    assert page.exit_code == 0, page.output


# ------------------------------------------------------------------------------------------------
# Bytes
# ------------------------------------------------------------------------------------------------


def on_pictures(folder, kind):
    """A network of pictures of 0 to 255, which takes them as bytes or as real numbers."""
    head = [models.node("Cast", "x", "v", to=TensorProto.FLOAT)]
    nodes = [
        models.conv("v", "w", "h"),
        models.node("Relu", "h", "r"),
        models.node("GlobalAveragePool", "r", "p"),
        models.node("Flatten", "p", "y"),
    ]
    kernels = models.weights("w", np.random.default_rng(1).normal(size=(4, 3, 3, 3)))
    ends = [("x", kind, ["N", 3, 8, 8])], [("y", models.FLOAT, ["N", 4])]
    return models.save(models.build([*head, *nodes], [kernels], *ends), folder / f"{kind}.onnx")


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("shift-px:-2..2/5", {}),
        ("shift-px:-2..2/5", {"interpolation": "bicubic", "support": "disk"}),
        ("rotate:-90..90/3", {}),
        ("rotate:-30..30/3", {"interpolation": "nearest"}),
        ("zoom:0.5..2/3", {"interpolation": "nearest"}),
        ("C8", {"interpolation": "nearest", "references": True}),
        ("SO2~4", {"interpolation": "nearest"}),
    ],
)
def test_bytes_that_only_change_places_are_moved_as_numbers_are(tmp_path, group, options):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
    asked = {"measures": ["channel-cos", "latent-l2"], "samples": 4, "norm_samples": 6}
    asked |= {"provider": "cpu", **options}
    bytes_, floats = (on_pictures(tmp_path, kind) for kind in (TensorProto.UINT8, models.FLOAT))
    of_bytes = geed.measure(bytes_, pictures, group, **asked)
    of_floats = geed.measure(floats, pictures.astype(np.float32), group, **asked)
    for one, other in zip(of_bytes["measurements"], of_floats["measurements"], strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-6)
        assert one["per_element"] == pytest.approx(other["per_element"], rel=1e-6)


def test_bytes_are_shifted_with_black_behind_and_token_ids_are_not():
    group = geed.parse_group("shift-px:0..2/3")
    x = np.random.default_rng(0).integers(1, 256, (3, 6, 7)).astype(np.uint8)
    moved = geed.orbit(geed.grid_action(group, 6, 7), x, np.empty((group.order, *x.shape), x.dtype))
    for element, picture in zip(group.elements, moved, strict=True):
        step = int(np.abs(picture[0] == 0).any(axis=0).sum())
        right = np.zeros_like(x)
        right[..., step:] = x[..., : 7 - step]
        np.testing.assert_array_equal(picture, right, err_msg=element)
    ids = x.astype(np.int64)
    with pytest.raises(GeedError, match=r"moves entries out of the grid and zeros into it"):
        geed.orbit(geed.grid_action(group, 6, 7), ids, np.empty((group.order, *x.shape), np.int64))
    half = geed.grid_action(geed.parse_group("shift-px:0.5..1/2"), 6, 7)
    for array, remedy in ((x, "bytes do not hold: take --interpolation nearest"), (ids, "token")):
        with pytest.raises(GeedError, match=f"computes weighted sums of entries.*{remedy}"):
            geed.orbit(half, array, np.empty((half.group.order, *x.shape), array.dtype))
