"""Class scores at places, flips, unexplained shares: known answers, loops by hand, both engines."""

import math

import models
import naive
import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from running import images, orbits, run
from test_graph_engine import agree, both

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError

ALL = ["softmax-kl", "flip-rate", "unexplained"]
OPTIONS = {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu"}


def measured(tmp_path, model, data, group, measures=ALL, **options):
    path = models.save(model, tmp_path / "model.onnx")
    records = geed.measure(path, data, group, measures=measures, **{**OPTIONS, **options})
    return {record["measure"]: record for record in records["measurements"]}


def chosen(data):
    """The samples of D, and those of M, as a run with OPTIONS draws them."""
    of_d, of_m = naive.sample_indices(len(data), 3, 5, 9)
    return data[of_d], data[of_m]


# ------------------------------------------------------------------------------------------------
# Loops by hand
# ------------------------------------------------------------------------------------------------


def probabilities(scores):
    """(k,) logits as probabilities; a single one tells two classes apart."""
    logits = np.array([0.0, *scores]) if len(scores) == 1 else np.asarray(scores, float)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def turned(k, i, j, side):
    """Where a pixel of a square goes when it is turned by k quarters, counter-clockwise."""
    for _ in range(k):
        i, j = side - 1 - j, i
    return i, j


def dense_by_hand(values, m):
    """m of every sample and quarter turn, pixel by pixel, of orbits (N, 4, C, H, H)."""
    side, out = values.shape[-1], []
    for orbit in values:
        row = []
        for k in range(4):
            each = []
            for i in range(side):
                for j in range(side):
                    there = turned(k, i, j, side)
                    each.append(m(orbit[k][:, there[0], there[1]], orbit[0][:, i, j]))
            row.append(math.fsum(each) / len(each))
        out.append(row)
    return np.array(out)


def kl(u, v):
    return naive.kl(np.log(probabilities(u)), np.log(probabilities(v)))


def flips(u, v):
    return float(np.argmax(probabilities(u)) != np.argmax(probabilities(v)))


def by_hand_m2(points):
    flat = points.reshape(len(points), -1).astype(float)
    pairs = [((a - b) ** 2).sum() / 2 for i, a in enumerate(flat) for b in flat[:i]]
    return math.fsum(pairs) / len(pairs)


# ------------------------------------------------------------------------------------------------
# Dense scores
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3])
def test_dense_scores_are_compared_pixel_by_pixel(tmp_path, classes):
    model, data = models.dense_scores(classes=classes, symmetric=False), images((1, 8, 8), 12)
    records = measured(tmp_path, model, data, "C4", output_kind="logits")
    of_d, of_m = chosen(data)
    (values,) = orbits(model, "C4", of_d, ["z"], None)
    (points,) = run(model, of_m, ["z"])
    wanted = {
        "softmax-kl": dense_by_hand(values, kl),
        "flip-rate": dense_by_hand(values, flips),
        "unexplained": 64 * dense_by_hand(values, lambda u, v: ((u - v).astype(float) ** 2).sum()),
    }
    for name, deviations in wanted.items():
        record = records[name]
        np.testing.assert_allclose(record["deviations"], deviations, rtol=1e-4, atol=1e-7)
        assert deviations[:, 1:].min() > 1e-3, "a model that is not equivariant must score worse"
        assert record["output_action"] == "grid"
    assert records["softmax-kl"]["value"] == pytest.approx(wanted["softmax-kl"].mean(), rel=1e-4)
    assert records["flip-rate"]["value"] == pytest.approx(wanted["flip-rate"][:, 1:].mean())
    unexplained = records["unexplained"]
    assert unexplained["normaliser"] == pytest.approx(by_hand_m2(points), rel=1e-5)
    assert unexplained["norm_samples"] == 9
    mean = wanted["unexplained"][:, 1:].mean()
    assert unexplained["unnormalised"] == pytest.approx(mean, rel=1e-4)
    assert unexplained["value"] == pytest.approx(mean / by_hand_m2(points), rel=1e-4)


@pytest.mark.parametrize("softmax", [False, True])
def test_scores_that_move_along_are_perfect(tmp_path, softmax):
    model, data = models.dense_scores(softmax=softmax), images((1, 8, 8), 12)
    kind = "probabilities" if softmax else "logits"
    records = measured(tmp_path, model, data, "C4", output_kind=kind)
    for name, record in records.items():
        assert abs(record["value"]) < 1e-6, name
        assert record["relative"] < 1e-5
        assert record["between_samples"] > 1e-3
    worse = measured(
        tmp_path,
        models.dense_scores(softmax=softmax, symmetric=False),
        data,
        "C4",
        output_kind=kind,
    )
    assert min(record["value"] for record in worse.values()) > 0.01


def test_softmax_at_every_pixel_needs_no_stated_kind(tmp_path):
    """It is seen along the classes that rows sum to 1, and the same is measured as of logits."""
    data = images((1, 8, 8), 12)
    result = geed.measure(
        models.save(models.dense_scores(softmax=True, symmetric=False), tmp_path / "p.onnx"),
        data,
        "C4",
        **OPTIONS,
    )
    (record,) = (r for r in result["measurements"] if r["measure"] == "softmax-kl")
    logits = measured(
        tmp_path, models.dense_scores(symmetric=False), data, "C4", output_kind="logits"
    )
    assert record["value"] == pytest.approx(logits["softmax-kl"]["value"], rel=1e-4)
    assert "probabilities as given" in record["notes"]
    assert record["predictions"] is None


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("softmax", [False, True])
def test_places_that_come_from_outside_are_left_out(tmp_path, softmax, support):
    """Turned back by 45°, only what stays in the grid is compared: as slow loops have it."""
    model, data = models.dense_scores(softmax=softmax, symmetric=False), images((1, 8, 8), 12)
    kind = "probabilities" if softmax else "logits"
    records = measured(
        tmp_path, model, data, "C8", output_kind=kind, support=support, measures=ALL[:2]
    )
    of_d, _ = chosen(data)
    inside = naive.disk_mask(8, 8) if support == "disk" else np.ones((8, 8), bool)
    (values,) = orbits(model, "C8", of_d * inside, ["y" if softmax else "z"], None)
    d = np.zeros((2, 5, 8))
    for n, orbit in enumerate(values.astype(float)):
        for k in range(8):
            name = naive.elements("C8")[-k % 8]
            back = naive.act("C8", name, orbit[k])
            kept = naive.act("C8", name, np.ones((8, 8))) > 1 - 1e-6
            where = np.argwhere(kept & inside)
            assert 0 < len(where) <= 64 - 4 * (k % 2)
            log = np.log if softmax else lambda z: np.log(probabilities(z))
            pairs = [(back[:, i, j], orbit[0][:, i, j]) for i, j in where]
            d[0, n, k] = np.mean([naive.kl(log(u), log(v)) for u, v in pairs])
            d[1, n, k] = np.mean([u.argmax() != v.argmax() for u, v in pairs])
    np.testing.assert_allclose(records["softmax-kl"]["deviations"], d[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(records["flip-rate"]["deviations"], d[1], atol=1e-9)
    assert any("outside the grid" in note for note in records["softmax-kl"]["notes"])


def test_a_table_of_classes_moves_them_too(tmp_path):
    """Channels that change places with the turn: right with the table, wrong without."""
    model, data = models.dense_scores(classes=2, symmetric=False, seed=5), images((1, 8, 8), 12)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3))
    kernel = (kernel + np.rot90(kernel, 2, axes=(2, 3))) / 2
    both_ways = np.concatenate([kernel, np.rot90(kernel, 1, axes=(2, 3))])
    model = models.build(
        [models.conv("x", "w", "z")],
        [models.weights("w", both_ways)],
        [("x", models.FLOAT, ["N", 1, 8, 8])],
        [("z", models.FLOAT, ["N", 2, 8, 8])],
    )
    swap = [[0, 1], [1, 0], [0, 1], [1, 0]]
    for kind in ("permutation", "channels"):
        given = geed.Table(naive.elements("C4"), kind, swap, "given")
        records = measured(
            tmp_path,
            model,
            data,
            "C4",
            measures=ALL[:2],
            output_kind="logits",
            output_action={"z": given},
        )
        assert records["softmax-kl"]["value"] < 1e-10
        assert records["flip-rate"]["value"] == 0
        assert records["softmax-kl"]["output_action"] == "grid+channels"
    bare = measured(tmp_path, model, data, "C4", measures=ALL[:2], output_kind="logits")
    assert min(record["value"] for record in bare.values()) > 0.05


# ------------------------------------------------------------------------------------------------
# Flips
# ------------------------------------------------------------------------------------------------


def test_a_flip_is_another_class_than_that_of_x(tmp_path):
    model, data = models.random_cnn(4, (6, 6)), images((3, 6, 6), 30)
    record = measured(tmp_path, model, data, "C4", ["flip-rate"])["flip-rate"]
    (logits,) = orbits(model, "C4", chosen(data)[0], ["logits"], None)
    classes = logits.argmax(axis=2)
    wanted = classes != classes[:, :1]
    np.testing.assert_array_equal(record["deviations"], wanted)
    assert record["value"] == pytest.approx(wanted[:, 1:].mean())
    assert record["value"] == pytest.approx(np.mean(record["per_sample"]))
    assert record["value"] == pytest.approx(np.mean(list(record["per_element"].values())))
    assert list(record["per_element"]) == ["r1", "r2", "r3"]
    counts = np.bincount(classes[:, 0])
    assert record["most_common"] == counts.max() / 5
    stays = np.mean(list(record["predictions"]["stay"]["per_element"].values())[1:])
    assert record["value"] == pytest.approx(1 - stays)


def test_constant_scores_flip_nothing_and_say_so(tmp_path):
    model, data = models.constant(5), images((1, 5, 5), 12)
    record = measured(tmp_path, model, data, "C4", ["flip-rate"])["flip-rate"]
    assert (record["value"], record["most_common"]) == (0, 1)
    assert any("100 % of the unmoved samples" in note for note in record["notes"])


def test_of_two_elements_the_interval_is_wilsons(tmp_path):
    model, data = models.random_cnn(4, (6, 6)), images((3, 6, 6), 40)
    record = measured(tmp_path, model, data, "flip-h", ["flip-rate"], samples=30)["flip-rate"]
    p, n, z = record["value"], 30, 1.959963984540054
    root = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    ends = [(p + z * z / (2 * n) + s * root) / (1 + z * z / n) for s in (-1, 1)]
    assert record["interval"] == "wilson"
    assert record["ci95"] == pytest.approx(ends, abs=1e-12)
    turns = measured(tmp_path, model, data, "C4", ["flip-rate"])["flip-rate"]
    assert turns["interval"] == "t"
    asked = {"interval": "bootstrap", "samples": 30}
    record = measured(tmp_path, model, data, "flip-h", ["flip-rate"], **asked)["flip-rate"]
    assert record["interval"] == "bootstrap"
    with pytest.raises(GeedError, match="wilson"):
        measured(tmp_path, model, data, "flip-h", interval="wilson")


# ------------------------------------------------------------------------------------------------
# Unexplained
# ------------------------------------------------------------------------------------------------


def test_unexplained_is_nothing_of_an_invariant_model_and_two_of_another_sample(tmp_path):
    data = images((1, 9, 9), 80)
    sizes = {"samples": 16, "norm_samples": 80}
    (record,) = measured(
        tmp_path, models.c4_equivariant(), data, "C4", ["unexplained"], **sizes
    ).values()
    assert record["value"] < 1e-8
    assert 1.2 < record["between_samples"] < 3
    assert list(record["per_element"]) == ["e", "r1", "r2", "r3"]  # ker(φ_Y) is all of C4
    (worse,) = measured(
        tmp_path, models.c4_disturbed(amount=3.0), data, "C4", ["unexplained"], **sizes
    ).values()
    assert worse["value"] > 100 * record["value"]


def test_unexplained_is_that_of_points_at_hand(tmp_path):
    points = np.random.default_rng(1).normal(size=(400, 3, 2))
    assert geed.normaliser("unexplained", points.reshape(400, 6)) == pytest.approx(
        by_hand_m2(points), rel=1e-12
    )
    group = geed.parse_group("flip-h")
    mean = np.broadcast_to(points.mean(axis=0), points.shape)
    orbit = np.stack([points, mean], axis=1).reshape(400, 2, 6)
    table = geed.Permutation(group, np.array([np.arange(6), [1, 0, 2, 3, 4, 5]]))
    swapped = orbit[:, :, [1, 0, 2, 3, 4, 5]]
    m2 = geed.normaliser("unexplained", points.reshape(400, 6))
    share = geed.unexplained(np.stack([orbit[:, 0], swapped[:, 1]], axis=1), table) / m2
    assert share[:, 1].mean() == pytest.approx(1, rel=1e-2)
    other = np.stack([orbit[:, 0], np.roll(swapped[:, 0], 1, axis=0)], axis=1)
    assert (geed.unexplained(other, table) / m2)[:, 1].mean() == pytest.approx(2, rel=0.1)


def test_m2_is_the_same_bits_for_any_jobs(tmp_path):
    data, bits = images((1, 8, 8), 40), set()
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "model.onnx")
    for batch in (1, 4, 8, 32):
        (record,) = geed.measure(
            path,
            data,
            "C4",
            measures=["unexplained"],
            **{**OPTIONS, "samples": 12, "norm_samples": 31, "batch_size": batch},
        )["measurements"]
        bits.add((record["normaliser"], record["value"], record["norm_samples"]))
    assert len(bits) == 1
    sizes = {"samples": 12, "norm_samples": 7}
    few = measured(tmp_path, models.dense_scores(), data, "C4", ["unexplained"], **sizes)
    assert few["unexplained"]["norm_samples"] == 7


def test_one_point_has_no_m2(tmp_path):
    data = images((1, 8, 8), 3)
    (record,) = measured(
        tmp_path, models.dense_scores(), data, "C4", ["unexplained"], samples=1, norm_samples=1
    ).values()
    assert (record["value"], record["normaliser"], record["norm_samples"]) == (None, None, 1)
    assert record["unnormalised"] < 1e-8
    assert any("M needs two points" in warning for warning in record["warnings"])


# ------------------------------------------------------------------------------------------------
# Both engines
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["C4", "C8", "flip-h", "shift2x2"])
@pytest.mark.parametrize(("classes", "softmax"), [(1, False), (3, False), (1, True), (3, True)])
def test_the_graph_says_the_same_of_dense_scores(tmp_path, group, classes, softmax):
    model = models.dense_scores(classes=classes, softmax=softmax, symmetric=False)
    kind = "probabilities" if softmax else "logits"
    both(tmp_path, model, images((1, 8, 8), 12), group, measures=ALL, output_kind=kind)


def test_the_graph_says_the_same_of_vectors(tmp_path):
    both(tmp_path, models.random_cnn(4, (6, 6)), images((3, 6, 6), 12), "D4", measures=ALL)


def test_the_graph_moves_classes_too(tmp_path):
    swap = [[0, 1, 2], [1, 0, 2], [0, 1, 2], [1, 0, 2]]
    given = geed.Table(naive.elements("C4"), "permutation", swap, "given")
    for model in (models.dense_scores(symmetric=False), models.c4_equivariant(8 + 1, classes=3)):
        output = model.graph.output[0].name
        size = 8 if output == "z" else 9
        both(
            tmp_path,
            model,
            images((1, size, size), 12),
            "C4",
            measures=ALL[:2],
            output_kind="logits",
            output_action={output: given},
        )


def test_the_disk_and_the_references_go_along(tmp_path):
    model = models.dense_scores(symmetric=False)
    result = both(
        tmp_path,
        model,
        images((1, 8, 8), 12),
        "C8",
        measures=ALL,
        output_kind="logits",
        support="disk",
        references=True,
    )
    for record in result["measurements"]:
        assert record["references"]["output_round_trip"]["value"] >= 0
        assert record["references"]["numeric"]["value"] < 1e-9


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_that_leave_the_grid_come_back_as_probabilities(
    tmp_path, classes, interpolation
):
    model = models.dense_scores(symmetric=False, softmax=True, classes=classes)
    data = images((1, 8, 8), 6)
    record = measured(
        *(tmp_path, model, data, "C8", ["softmax-kl"]),
        output_kind="probabilities",
        references=True,
        interpolation=interpolation,
    )["softmax-kl"]
    (given,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": chosen(data)[0]})
    expected = []
    for y in given.astype(float):
        for g in naive.elements("C8"):
            away = naive.act("C8", g, y, interpolation)
            away += (1 - naive.act("C8", g, np.ones((8, 8)), interpolation)) / max(classes, 2)
            away = away.clip(0, 1)  # bicubic weights overshoot
            away /= away.sum(axis=0) if classes > 1 else 1
            back = naive.act("C8", naive.inverse("C8", g), away, interpolation)
            whole = naive.act("C8", naive.inverse("C8", g), np.ones((8, 8)), interpolation)
            inside = np.abs(whole - 1) < 1e-6
            u, v = (np.concatenate([a, 1 - a] if classes == 1 else [a]) for a in (back, y))
            u, v = u[:, inside].clip(1e-300), v[:, inside]
            expected.append((u * np.log(u / v)).sum(axis=0).mean())
    found = record["references"]["output_round_trip"]["value"]
    assert found == pytest.approx(np.mean(expected), rel=1e-4)
    assert found > 0


@pytest.mark.parametrize("even", [True, False])
def test_scores_of_bases_are_complemented(even):
    rng = np.random.default_rng(8)
    x = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (10, 9))]
    places = np.ones(9) if even else rng.random(9)

    def counts(x):
        return np.einsum("ntb,t->nb", x, places).astype(np.float32)

    asked = [f"{name}@output" for name in ("softmax-kl", "flip-rate", "output-l2")]
    result = geed.measure(
        *(counts, x, "revcomp"),
        measures=asked,
        input_layout="NTB",
        layout={"output": "NB"},
        output_kind="logits",
    )
    kl_, far, flip = (record["value"] for record in result["measurements"])
    orbit = np.stack([counts(x), counts(x[:, ::-1, ::-1])], axis=1)
    complement = [[0, 1, 2, 3], [3, 2, 1, 0]]
    expected = naive.softmax_kl(orbit, "flip-h", permutation=complement).mean()
    assert kl_ == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert far == pytest.approx(np.linalg.norm(orbit[:, 1, ::-1] - orbit[:, 0], axis=1).mean() / 2)
    assert (kl_ < 1e-9, far < 1e-6) == (even, even)
    assert flip == 0 or not even


def test_agreement_would_be_noticed():
    with pytest.raises(AssertionError):
        agree({"a": 1.0}, {"a": 1.1})


# ------------------------------------------------------------------------------------------------
# Caches
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("vectors", [False, True])
def test_a_cache_measures_the_same_bits(tmp_path, mode, vectors):
    model = models.random_cnn(4, (6, 6)) if vectors else models.dense_scores(symmetric=False)
    data = images((3, 6, 6) if vectors else (1, 8, 8), 20)
    path, options = models.save(model, tmp_path / "m.onnx"), {**OPTIONS, "output_kind": "logits"}
    wanted = [*ALL, *(["latent-l2", "output-l2"] if vectors else ["output-l2@z", "channel-cos@z"])]
    live = geed.measure(path, data, "C8", measures=wanted, engine="kernels", **options)
    write_cache(path, data, "C8", tmp_path / "a.geed", mode=mode, measures=wanted, **options)
    cached = measure_cache(tmp_path / "a.geed")
    for a, b in zip(live["measurements"], cached["measurements"], strict=True):
        a.pop("references", None), b.pop("references", None)
        assert a == b
    few = {"samples": 3, "norm_samples": 7}
    live = geed.measure(
        path, data, "C8", measures=["unexplained"], engine="kernels", **{**options, **few}
    )
    cached = measure_cache(tmp_path / "a.geed", measures=["unexplained"], **few)
    (a,), (b,) = live["measurements"], cached["measurements"]
    assert (a["value"], a["normaliser"], a["norm_samples"]) == (
        b["value"],
        b["normaliser"],
        b["norm_samples"],
    )


def test_a_cache_without_the_tensors_of_m2_says_what_to_do(tmp_path):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "m.onnx")
    data, options = images((1, 8, 8), 20), {**OPTIONS, "output_kind": "logits"}
    write_cache(path, data, "C4", tmp_path / "a.geed", layers=["z"], **options)
    with pytest.raises(GeedError, match="--norm-samples 5"):
        measure_cache(tmp_path / "a.geed", measures=["unexplained@z"])
    (record,) = measure_cache(tmp_path / "a.geed", measures=["unexplained@z"], norm_samples=5)[
        "measurements"
    ]
    live = geed.measure(
        path,
        data,
        "C4",
        measures=["unexplained"],
        engine="kernels",
        **{**options, "norm_samples": 5},
    )["measurements"][0]
    assert record["value"] == live["value"]
    write_cache(
        *(path, data, "C4", tmp_path / "b.geed"),
        mode="stats",
        measures=["latent-l2@map"],
        **options,
    )
    with pytest.raises(GeedError, match="statistics of other measures"):
        measure_cache(tmp_path / "b.geed", measures=["unexplained@map"])


# ------------------------------------------------------------------------------------------------
# All that reads results
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """Results of two dense networks, one of which is not equivariant, as files."""
    data = images((1, 8, 8), 12)
    np.save(tmp_path / "data.npy", data)
    for name, symmetric in (("good", True), ("bad", False)):
        path = models.save(models.dense_scores(symmetric=symmetric), tmp_path / f"{name}.onnx")
        result = geed.measure(
            path, tmp_path / "data.npy", "C4", measures=ALL, output_kind="logits", **OPTIONS
        )
        geed.write_json(result, tmp_path / f"{name}.json")
    return tmp_path


def command(*words, code=0):
    outcome = CliRunner().invoke(cli, [str(word) for word in words])
    assert outcome.exit_code == code, outcome.output
    return outcome


def test_models_are_compared_by_them(results):
    entries = geed.compare(*(geed.read_result(results / f"{k}.json") for k in ("bad", "good")))
    for entry in entries["measurements"]:
        assert entry["compared"] == "value"
        assert entry["verdict"].startswith("B is more equivariant")
        bad = geed.read_result(results / "bad.json")
        (own,) = (m for m in bad["measurements"] if m["measure"] == entry["measure"])
        assert entry["a"] == pytest.approx(own["value"])
    both_models = [geed.read_result(results / f"{k}.json") for k in ("bad", "good")]
    summary = geed.aggregate(both_models)
    for entry in summary["measurements"]:
        assert entry["mean"] == pytest.approx(np.mean(entry["values"]))


def test_gates_hold_them(results):
    line = ("--data", results / "data.npy", "--group", "C4", "--output-kind", "logits")
    for name in ("flip-rate", "unexplained"):
        gate = ("--measure", name, "--samples", 5, "--fail-above", f"{name}=0.05")
        command("measure", results / "good.onnx", *line, *gate)
        outcome = command("measure", results / "bad.onnx", *line, *gate, code=1)
        assert f"over the limit: {name}@z" in outcome.output


def test_the_page_and_the_table_tell_of_the_most_common_class(results):
    line = ("--data", results / "data.npy", "--group", "C4", "--output-kind", "logits")
    text = command("measure", results / "bad.onnx", *line, "--measure", "flip-rate").output
    assert "flip-rate@z: the most common class has" in text
    page = results / "page.html"
    command("report", results / "bad.json", results / "good.json", "-o", page)
    command("report", results / "bad.json", "-o", results / "one.html", "--data", line[1])
    html = (results / "one.html").read_text()
    assert "of predictions are another class than that of the unmoved sample, moved along" in html
    assert "the most common class has" in html
    assert "is not explained by the moved f(x)" in html
    assert ">NaN" not in html


def test_a_compiled_measurement_has_what_m2_is_made_of(results):
    out = results / "compiled.onnx"
    described = geed.compile_measurement(
        results / "bad.onnx", "C4", out, measures=ALL, output_kind="logits"
    )
    (entry,) = (o for o in described["outputs"] if o["part"] == "identity")
    assert entry["shape"] == ["N", 192]
    live = geed.read_result(results / "bad.json")
    indices = live["data"]["indices"]
    x = np.load(results / "data.npy")[indices]
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    got = dict(zip(names, session.run(None, {"samples": x}), strict=True))
    whole = got[entry["name"]]
    for record in live["measurements"]:
        if record["measure"] == "unexplained":
            assert by_hand_m2(whole) == pytest.approx(record["normaliser"], rel=1e-5)
        np.testing.assert_allclose(
            got[f"deviation/{record['measure']}/z"][:5], record["deviations"], rtol=1e-5, atol=1e-8
        )


# ------------------------------------------------------------------------------------------------
# Actions of one's own, and what does not fit
# ------------------------------------------------------------------------------------------------


def test_an_action_of_ones_own_moves_scores_and_whole_tensors(tmp_path):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "model.onnx")
    data, options = images((1, 8, 8), 12), {**OPTIONS, "output_kind": "logits"}
    own = geed.FunctionAction(
        geed.parse_group("C4"), lambda g, x: np.rot90(x, g, axes=(-2, -1)).copy(), any_size=True
    )
    wanted = [*ALL, "output-l2"]
    named = geed.measure(path, data, "C4", measures=wanted, **options)["measurements"]
    mine = geed.measure(path, data, action=own, measures=wanted, **options)["measurements"]
    for a, b in zip(named, mine, strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-9, atol=1e-12)
        assert a["value"] == pytest.approx(b["value"], rel=1e-9)
    resampled = geed.FunctionAction(
        *(own.group, own.move), exactness=("index", *["resampled"] * 3), any_size=True
    )
    with pytest.raises(GeedError, match="so the places that it moves"):
        geed.measure(path, data, action=resampled, measures=["flip-rate"], **options)


@pytest.mark.parametrize(
    ("layout", "message"),
    [("NXHW", "class scores lie along C"), ("NCXH", "mixes the axis X"), ("NTPP", "lie along C")],
)
def test_axes_that_hold_no_classes_are_refused_in_one_line(tmp_path, layout, message):
    model = models.dense_scores(classes=2, size=2, symmetric=False)
    with pytest.raises(GeedError, match=message) as caught:
        measured(
            tmp_path,
            model,
            images((1, 2, 2), 12),
            "flip-h",
            ["softmax-kl@z"],
            output_kind="logits",
            layout={"z": layout},
        )
    assert "\n" not in str(caught.value)
