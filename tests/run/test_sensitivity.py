"""sensitivity: loops with scipy, known answers, every way to measure, and what is refused."""

import json
import math

import models
import naive
import naive_small as twin
import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from models import build, conv, node, weights
from onnx import TensorProto
from running import images, run
from scipy import ndimage

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.text import span

KINDS = ["rotation", "shift", "zoom"]
OPTIONS = {"samples": 4, "norm_samples": 7, "seed": 3, "provider": "cpu"}


def measured(tmp_path, model, data, group, measures=(), **options):
    path = models.save(model, tmp_path / "model.onnx")
    return geed.measure(path, data, group, measures=measures, **{**OPTIONS, **options})


def by_layer(result):
    return {record["layer"]: record for record in result["measurements"]}


def value_of(tmp_path, model, data, group, layer, **options):
    result = measured(tmp_path, model, data, group, [f"sensitivity@{layer}"], **options)
    return result["measurements"][0]


def of_image(nodes, initializers, size, output, *, channels=1):
    """A model of one input, images of one size, and one output."""
    inputs = [("x", TensorProto.FLOAT, ["N", channels, size, size])]
    return build(nodes, initializers, inputs, [(output, TensorProto.FLOAT, None)])


def blobs(count, size, width, seed=0, centre=0.25):
    """Smooth images: blobs whose width is some pixels, near the centre."""
    draw, images = np.random.default_rng(seed), []
    for _ in range(count):
        image = np.zeros((size, size))
        for _ in range(3):
            spot = np.round((0.5 + centre * draw.uniform(-1, 1, size=2)) * (size - 1)).astype(int)
            image[tuple(spot)] += draw.uniform(0.5, 1)
        images.append(ndimage.gaussian_filter(image, width) * 2 * math.pi * width**2)
    return np.array(images, dtype=np.float32)[:, None]


# ------------------------------------------------------------------------------------------------
# Loops
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 0.5])
def test_a_network_is_as_sensitive_as_loops_say(tmp_path, kind, step, engine):
    model, data = models.random_cnn(1, (10, 13)), images((3, 10, 13), 9)
    result = measured(tmp_path, model, data, f"small-{kind}~{step}", engine=engine)
    layers = [*models.known(model)["hidden"], "latent", "logits"]
    assert {"stem", "latent", "logits"} <= {*layers}
    records = by_layer(result)
    assert {*records} >= {*layers}
    assert {r["measure"] for r in records.values()} == {"sensitivity"}
    of_d, of_m = naive.sample_indices(len(data), 3, 4, 7)
    for layer in layers:

        def network(x, layer=layer):
            return run(model, x[None], [layer])[0][0]

        wanted = np.array(list(twin.deviations(network, data[of_d], kind, step)))
        m = twin.root_mean_square_distance(run(model, data[of_m], [layer])[0])
        record, values = records[layer], wanted.repeat(2, axis=1)
        got = np.array(record["deviations"])
        np.testing.assert_allclose(got[:, 1:], values, rtol=2e-4, atol=2e-6 * values.max())
        assert not got[:, 0].any()
        assert record["normaliser"] == pytest.approx(m, rel=1e-5)
        assert record["unnormalised"] == pytest.approx(wanted.mean(), rel=1e-4)
        assert record["value"] == pytest.approx(wanted.mean() / m, rel=1e-4)
        assert record["per_sample"] == pytest.approx(wanted.mean(axis=1) / m, rel=1e-4)
        means = dict(zip(result["group"]["elements"][1:], values.mean(axis=0) / m, strict=True))
        assert record["per_element"] == pytest.approx(means, rel=1e-4)
        assert record["norm_samples"] == 7
        # M says what different samples are apart: another scale would depend on the step.
        assert record["between_samples"] is record["relative"] is None


def test_activations_at_hand_are_measured_alike(tmp_path):
    model, data = models.random_cnn(1, (9, 9)), images((3, 9, 9), 4)
    result = measured(tmp_path, model, data, "small-shift", engine="kernels")
    records, indices = by_layer(result), result["data"]["indices"]
    action = geed.grid_action(geed.parse_group("small-shift"), 9, 9)
    moved = np.stack([[action.apply(g, data[i]) for g in range(5)] for i in indices])
    flat = moved.reshape(-1, 3, 9, 9).astype(np.float32)
    stem, latent = (y.reshape(4, 5, *y.shape[1:]) for y in run(model, flat, ["stem", "latent"]))
    on_maps = geed.sensitivity(stem, geed.grid_action(action.group, *stem.shape[-2:]))
    on_vectors = geed.sensitivity(latent, geed.parse_group("small-shift"))
    np.testing.assert_allclose(on_maps, records["stem"]["deviations"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(on_vectors, records["latent"]["deviations"], rtol=1e-4, atol=1e-5)
    m = geed.normaliser("sensitivity", latent[:, 0])
    assert m == pytest.approx(twin.root_mean_square_distance(latent[:, 0]))
    with pytest.raises(GeedError, match="works with small motions, but C4 is a group"):
        geed.sensitivity(latent, geed.parse_group("C4"))
    with pytest.raises(GeedError, match="for a grid of"):
        geed.sensitivity(stem, geed.grid_action(action.group, 5, 5))


# ------------------------------------------------------------------------------------------------
# Known answers
# ------------------------------------------------------------------------------------------------


def pooled_pointwise(size):
    w = np.random.default_rng(0).normal(size=(4, 1, 1, 1))
    nodes = [
        conv("x", "w", "map", pad=0),
        node("Relu", "map", "active"),
        node("GlobalAveragePool", "active", "pooled"),
        node("Flatten", "pooled", "y"),
    ]
    return of_image(nodes, [weights("w", w)], size, "y")


def one_pixel(size):
    nodes = [node("Flatten", "x", "all"), node("Gather", "all at", "y", axis=1)]
    return of_image(nodes, [models.integers("at", [size // 2 * (size + 1)])], size, "y")


def identity(size):
    return of_image([node("Identity", "x", "y")], [], size, "y")


def filtered(size, kernel):
    """One convolution by a kernel."""
    kernel = np.asarray(kernel)[None, None]
    return of_image(
        [conv("x", "w", "y", pad=kernel.shape[-1] // 2)], [weights("w", kernel)], size, "y"
    )


def test_pooled_points_do_not_see_a_shift_inside_the_image(tmp_path):
    data = np.zeros((9, 1, 12, 12), np.float32)
    data[:, :, 2:-2, 2:-2] = images((1, 8, 8), 9)
    for step in (1, 2):
        record = value_of(tmp_path, pooled_pointwise(12), data, f"small-shift~{step}", "y")
        assert record["value"] < 1e-6
    # Pixels that are lost over the border are seen.
    record = value_of(tmp_path, pooled_pointwise(12), images((1, 12, 12), 9), "small-shift", "y")
    assert record["value"] > 1e-2
    # So is one pixel, and much more.
    pixel = value_of(tmp_path, one_pixel(12), images((1, 12, 12), 9), "small-shift", "y")
    assert pixel["value"] > 0.2
    assert pixel["value"] > 2 * record["value"]


@pytest.mark.parametrize("kind", ["rotation", "zoom"])
def test_what_is_moved_twice_by_a_network_that_does_nothing_is_resampled_alone(tmp_path, kind):
    smooth = value_of(tmp_path, identity(25), blobs(9, 25, 3.0), f"small-{kind}", "y")
    rough = value_of(tmp_path, identity(25), images((1, 25, 25), 9), f"small-{kind}", "y")
    assert 4 * smooth["value"] < 0.08 < rough["value"]
    data = np.pad(images((1, 15, 15), 9), ((0, 0), (0, 0), (5, 5), (5, 5)))
    exact = value_of(tmp_path, identity(25), data, "small-shift~2", "y")
    assert exact["value"] == 0


def test_a_smooth_linear_network_moves_by_its_derivative(tmp_path):
    # y = Σ w x, w and x Gaussians of width s, whose product has the integral
    # exp(-|a - b|² / 4s²) π s²: by hand its derivative along a shift of a.
    size, s, b = 41, 4.0, np.array([20.0, 18.0])
    draw = np.random.default_rng(1)
    places = 20 + draw.uniform(-3, 3, size=(8, 2))
    grid = np.indices((size, size))

    def gaussian(at):
        return np.exp(-((grid[0] - at[0]) ** 2 + (grid[1] - at[1]) ** 2) / (2 * s * s))

    data = np.array([[gaussian(a)] for a in places], dtype=np.float32)
    w = gaussian(b).reshape(-1, 1)
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat w", "y")]
    model = of_image(nodes, [weights("w", w)], size, "y")
    integral = math.pi * s * s * np.exp(-((places - b) ** 2).sum(axis=1) / (4 * s * s))
    by_hand = np.abs(integral[:, None] * -(places - b) / (2 * s * s))[:, ::-1]  # right, then down
    rows = []
    sizes = {"samples": 8, "norm_samples": 8}
    for step in (4, 2, 1, 0.5):
        result = measured(tmp_path, model, data, f"small-shift~{step}", ["sensitivity@y"], **sizes)
        (record,) = result["measurements"]
        order = result["data"]["indices"]
        assert np.array(record["deviations"]).shape == (8, 5)
        got = np.array(record["deviations"])[:, [1, 3]]
        rows.append(np.abs(got - by_hand[order]).max() / by_hand.max())
    # Halving the step quarters what it is off by, until a pixel of the grid is the limit.
    assert rows[0] > 3 * rows[1] > 9 * rows[2]
    assert max(rows[2:]) < 0.02
    assert record["normaliser"] == pytest.approx(twin.root_mean_square_distance(integral), rel=1e-3)


def test_filters_alike_in_all_directions_are_less_sensitive_to_turns(tmp_path):
    data, side = blobs(9, 25, 2.0), np.arange(-3, 4)
    ring = np.exp(-((np.hypot(side[:, None], side) - 2) ** 2))
    edge = side * np.exp(-(side[:, None] ** 2 + side**2) / 4)
    values = [
        value_of(tmp_path, filtered(25, kernel), data, "small-rotation~2", "y")["value"]
        for kernel in (ring, edge, np.random.default_rng(0).normal(size=(7, 7)))
    ]
    assert 5 * values[0] < min(values[1:])


def test_vectors_that_turn_along_are_told_from_those_that_do_not(tmp_path):
    # The gradient of a smooth image is a field: right, then down.
    side = np.arange(-1, 2)
    kernels = np.stack([side * np.ones((3, 1)), side[:, None] * np.ones((1, 3))])[:, None]
    model = of_image([conv("x", "w", "y")], [weights("w", kernels)], 33, "y")
    asked = (tmp_path, model, blobs(9, 33, 3.0), "small-rotation~2", "y")
    field = value_of(*asked, layout={"y": "NXHW"})["value"]
    assert 4 * field < value_of(*asked, layout={"y": "NCHW"})["value"]
    up = value_of(*asked, layout={"y": "NXHW"}, components="right-up")["value"]
    assert 4 * field < up


def test_what_never_changes_has_no_value(tmp_path):
    record = value_of(tmp_path, models.constant(5), images((1, 5, 5), 9), "small-shift", "*")
    assert record["value"] is None
    assert any("only the unnormalised value is available" in w for w in record["warnings"])


# ------------------------------------------------------------------------------------------------
# Every way to measure
# ------------------------------------------------------------------------------------------------


def test_any_jobs_give_the_same_bits(tmp_path):
    model, data, found = models.random_cnn(2, (9, 9)), images((3, 9, 9), 20), set()
    sizes = {"samples": 12, "norm_samples": 17, "engine": "kernels"}
    for batch in (5, 10, 35):
        result = measured(tmp_path, model, data, "small-shift", batch_size=batch, **sizes)
        found.add(json.dumps([[r["value"], r["deviations"]] for r in result["measurements"]]))
    assert len(found) == 1
    # In pieces smaller than an orbit too.
    pieces = measured(tmp_path, model, data, "small-shift", batch_size=2, **sizes)
    values = [r["value"] for r in pieces["measurements"]]
    assert values == pytest.approx([r["value"] for r in result["measurements"]], rel=1e-5)


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_measures_the_same_bits(tmp_path, mode, kind):
    model, data, group = models.random_cnn(2, (9, 12)), images((3, 9, 12), 20), f"small-{kind}"
    live = measured(tmp_path, model, data, group, engine="kernels")
    path, folder = tmp_path / "model.onnx", tmp_path / "a.geed"
    write_cache(path, data, group, folder, mode=mode, **OPTIONS)
    cached = measure_cache(folder)
    assert cached["group"] == live["group"]
    for a, b in zip(live["measurements"], cached["measurements"], strict=True):
        a.pop("references", None), b.pop("references", None)
        assert a == b
    (few,) = measure_cache(folder, measures=["sensitivity@latent"], samples=2)["measurements"]
    assert few["samples"] == 2
    with pytest.raises(GeedError, match="only sensitivity can measure"):
        measure_cache(folder, measures=["latent-l2"])
    if mode == "raw":
        names = {
            r["layer"] for r in measure_cache(folder, measures=["sensitivity"])["measurements"]
        }
        assert names == {r["layer"] for r in live["measurements"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_measurement_says_the_same(tmp_path, kind):
    model, data, group = models.random_cnn(2, (9, 12)), images((3, 9, 12), 4), f"small-{kind}"
    result = measured(tmp_path, model, data, group, engine="kernels")
    path = tmp_path / "measured.onnx"
    described = geed.compile_measurement(tmp_path / "model.onnx", group, path)
    values = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {described["input"]["name"]: data[result["data"]["indices"]]}
    )
    outputs = dict(zip([o["name"] for o in described["outputs"]], values, strict=True))
    for record in result["measurements"]:
        got = outputs[f"deviation/sensitivity/{record['layer']}"]
        np.testing.assert_allclose(got, record["deviations"], rtol=1e-4, atol=1e-6)
        whole = outputs[f"identity/sensitivity/{record['layer']}"]
        m = geed.normaliser("sensitivity", whole.reshape(4, -1))
        assert m == pytest.approx(record["normaliser"], rel=1e-5)
    units = {o["unit"] for o in described["outputs"] if o["part"] == "deviation"}
    assert units == {"units of the tensor per pixel"}
    assert described["group"]["grid"] == [9, 12]


def test_the_step_and_the_grid_are_told(tmp_path):
    result = measured(tmp_path, models.random_cnn(), images((3, 12, 12), 9), "small-rotation~0.5")
    assert result["group"]["name"] == "small-rotation~0.5"
    assert (result["group"]["step"], result["group"]["grid"]) == (0.5, [12, 12])
    angle = math.degrees(0.5 / (5.5 * math.sqrt(2)))
    (note,) = (n for n in result["notes"] if n.startswith("small-rotation~0.5: "))
    assert f"±{angle:.4g}°" in note
    other = measured(tmp_path, models.random_cnn(), images((3, 12, 12), 9), "C4")
    assert not {"step", "grid"} & {*other["group"]}
    assert all(r["measure"] != "sensitivity" for r in other["measurements"])


def test_all_that_reads_results_reads_it(tmp_path):
    data = images((3, 12, 12), 9)
    np.save(tmp_path / "x.npy", data)
    runner = CliRunner()

    def call(*words):
        got = runner.invoke(cli, [str(word) for word in words])
        assert got.exit_code == 0, got.output
        return got.output

    for seed in (0, 1):
        models.save(models.random_cnn(seed), tmp_path / f"{seed}.onnx")
        text = call(
            *("measure", tmp_path / f"{seed}.onnx", "--data", tmp_path / "x.npy"),
            *("--group", "small-rotation", "--samples", 5, "--out", tmp_path / f"{seed}.json"),
        )
        assert "small-rotation~1" in text
        assert "sensitivity" in text
    one, two = tmp_path / "0.json", tmp_path / "1.json"
    assert "sensitivity" in call("compare", one, two)
    assert "sensitivity" in call("aggregate", one, two)
    rows = call(
        *("measure", tmp_path / "0.onnx", "--data", tmp_path / "x.npy", "--samples", 3),
        *("--group", "small-shift", "--format", "csv", "--measure", "sensitivity@logits"),
    )
    assert rows.splitlines()[-1].split(",")[1:4] == ["small-shift~1", "sensitivity", "logits"]
    call("report", one, two, "--data", tmp_path / "x.npy", "-o", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "Sensitivity to small motions" in html
    assert "turn+1px" in html
    # Samples are told by the mean that counts, without the identity.
    first = json.loads(one.read_text())["measurements"]
    (logits,) = (r["per_sample"] for r in first if r["layer"] == "logits")
    assert f"<b>{span(max(logits))}</b>" in html
    assert "of the distance between different samples" in html
    failed = runner.invoke(
        cli,
        [
            *("measure", str(tmp_path / "0.onnx"), "--data", str(tmp_path / "x.npy")),
            *("--group", "small-rotation", "--samples", "5", "--fail-above", "sensitivity=1e-9"),
        ],
    )
    assert failed.exit_code == 1


# ------------------------------------------------------------------------------------------------
# What is refused
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "options", "words"),
    [
        ("C4", {"measures": ["sensitivity"]}, "sensitivity: works with small motions, but C4"),
        ("small-zoom", {"measures": ["channel-cos"]}, "channel-cos: works with a group such as C4"),
        ("small-zoom", {"measures": ["latent-l2@latent"]}, "only sensitivity can measure"),
        ("small-zoom", {"references": True}, "--references: need inverses"),
        (
            "small-zoom",
            {"output_action": {"stem": "fit:linear"}},
            "an output action describes",
        ),
        ("small-zoom~7", {}, "not small on a grid of 12×12"),
        (
            None,
            {"action": geed.grid_action(geed.parse_group("small-zoom"), 12, 12)},
            "moves images by itself; leave the action out",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_a_line(tmp_path, group, options, words):
    path = models.save(models.random_cnn(), tmp_path / "model.onnx")
    with pytest.raises(GeedError, match=words) as refused:
        geed.measure(path, images((3, 12, 12), 9), group, **{**OPTIONS, **options})
    assert "\n" not in str(refused.value)


def test_a_measure_of_small_motions_takes_no_table():
    group = geed.grid_action(geed.parse_group("small-shift"), 6, 6).group
    table = geed.Permutation(group, np.tile(np.arange(3), (5, 1)))
    with pytest.raises(GeedError, match="takes no output action"):
        geed.Measure("sensitivity", "y", table)
