"""Sampled groups in whole runs: known answers, half of the elements, independent ones, refusals."""

import dataclasses
import json
import pickle

import letter_cases
import letter_models as lm
import models
import numpy as np
import pytest
from letter_cases import CASES, data_of

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.report.page import report
from onnx_geed.results import (
    BetweenSamples,
    Normaliser,
    OrbitDeviations,
    compare,
    make_record,
    to_csv,
)
from onnx_geed.run import Options, prepare_run

POINTS = {"input_layout": "NPX", "output_kind": "embedding", "provider": "cpu"}


def points(n=12, count=12, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, count, size)).astype(np.float32)


def measured(folder, net, group, x=None, **options):
    path = models.save(net, folder / "net.onnx")
    return geed.measure(path, points() if x is None else x, group, **{**POINTS, **options})


def turned_and_shifted(k=3):
    """Points NPX to ``y`` (N, P * 3): the very numbers, and a constant that nothing moves."""
    return models.build(
        [models.node("Flatten", "x", "flat"), models.node("Add", "flat far", "y")],
        [models.weights("far", np.full(k * 3, 2.0))],
        [("x", models.FLOAT, ["N", k, 3])],
        [("y", models.FLOAT, ["N", k * 3])],
    )


@pytest.mark.parametrize("group", ["SO3~60", "SO3~7", "SO3~24", "O3~48", "O3~11"])
def test_distances_are_invariant_under_all_rotations(tmp_path, group):
    result = measured(tmp_path, lm.distance_net(), group, measures=["output-l2"])
    (record,) = result["measurements"]
    assert np.abs(record["deviations"]).max() < 1e-6 * 3
    assert abs(record["relative"]) < 1e-6
    # And a network of coordinates is not.
    (other,) = measured(tmp_path, lm.point_net(), group, measures=["output-l2"])["measurements"]
    assert other["relative"] > 0.3


def orbit_variance(folder, group, measure, n=900):
    """A record of m over samples of one norm, whose square is the variance of their orbits."""
    x = points(n, 3, seed=1)
    x /= np.sqrt((x**2).sum(axis=(1, 2), keepdims=True))
    options = {"layout": {"y": "NK"}, "measures": [measure], "samples": n, "norm_samples": 9}
    (record,) = measured(folder, turned_and_shifted(), group, x, **options)["measurements"]
    return record


def test_squared_distances_of_independent_elements_are_unbiased(tmp_path):
    record = orbit_variance(tmp_path, "SO3~4", "unexplained")
    # E ||f - E f||^2 over all rotations is the squared norm, 1; the mean of four is nearer.
    mean = np.mean(record["deviations"])
    error = np.mean(record["deviations"], axis=1).std(ddof=1) / 30
    assert mean == pytest.approx(1, abs=3.5 * error)
    assert error < 0.02
    assert any(
        "squared distances are multiplied by (n/(n−1)) = 1.333" in n for n in record["notes"]
    )
    # Half of the elements is two of them, of which the plain mean would be a half.
    assert record["half"]["elements"] == ["e", "g2"]
    assert record["half"]["unnormalised"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("group", ["SO3~24", "SO3~60"])
def test_evenly_spread_elements_need_no_correction(tmp_path, group):
    record = orbit_variance(tmp_path, group, "unexplained", 60)
    assert np.mean(record["deviations"]) == pytest.approx(1, abs=1e-6)
    assert not record["notes"]


def test_distances_are_corrected_by_the_root_and_cosines_are_not(tmp_path):
    options = {"measures": ["latent-l2", "latent-cos", "output-l2"], "latent": "latent"}
    result = measured(tmp_path, lm.point_net(), "SO3~5", **options)
    by_name = {r["measure"]: r for r in result["measurements"]}
    for name in ("latent-l2", "output-l2"):
        assert any("by √(n/(n−1)) = 1.118" in note for note in by_name[name]["notes"])
    assert any("not corrected" in note for note in by_name["latent-cos"]["notes"])
    assert any(
        "SO3~5 are drawn separately for each sample, independently of each other" in note
        for note in result["notes"]
    )
    # What moves along is held against what was moved, not against a mean.
    moving = measured(tmp_path, lm.centroid_net(), "SO3~5", measures=["output-l2"])
    assert not moving["measurements"][0]["notes"]


@pytest.mark.parametrize("group", ["SO3~2", "SO3~3", "O3~2"])
def test_a_share_of_the_error_is_a_share(tmp_path, group):
    """All of the error of an odd network comes from the group; no more can."""
    x, y = points(12, 3, seed=2), np.full((12, 9), 2.0)  # the mean over all rotations
    options = {"layout": {"y": "NK"}, "measures": ["symmetry-share@y"], "target": {"y": y}}
    (record,) = measured(tmp_path, turned_and_shifted(), group, x, samples=9, **options)[
        "measurements"
    ]
    n = int(group[-1])
    assert record["value"] <= 1
    assert record["value"] == pytest.approx((n - 1) / n, abs=0.2)
    assert any("not corrected" in note for note in record["notes"])


def test_products_with_independent_elements_are_said_to_be_uncorrected(tmp_path):
    options = {"measures": ["output-l2", "unexplained"], "layout": {"y": "NK"}}
    alone = measured(tmp_path, turned_and_shifted(), "SO3~3", points(9, 3), **options)
    product = measured(tmp_path, turned_and_shifted(), "SO3~3*S3", points(9, 3), **options)
    for one, other in zip(alone["measurements"], product["measurements"], strict=True):
        assert any("are multiplied by" in note for note in one["notes"])
        assert any("not corrected: the mean of 3 indep" in note for note in other["notes"])
    # Evenly spread elements need none, in a product either.
    even = measured(tmp_path, turned_and_shifted(), "SO3~24*S3", points(9, 3), **options)
    assert not any("independent" in note for r in even["measurements"] for note in r["notes"])


def test_what_a_group_is_stands_in_the_result(tmp_path):
    kinds = {}
    for group in ("SO3~5", "SO3~24", "S12~4", "O"):
        result = measured(tmp_path, lm.distance_net(), group, measures=["output-l2"])
        kinds[group] = result["group"]["kind"]
    assert kinds == {"SO3~5": "sampled", "SO3~24": "sampled", "S12~4": "sampled", "O": "group"}


def test_groups_of_two_kinds_do_not_compare(tmp_path):
    one = measured(tmp_path, lm.distance_net(), "SO3~24", measures=["output-l2"])
    other = json.loads(json.dumps(one))
    assert compare(one, other)["differ_in"] == []
    other["group"]["kind"] = "group"
    with pytest.raises(geed.GeedError, match=r"kind of group \(sampled, group\)"):
        compare(one, other)
    del other["group"]["kind"]  # a result of an earlier version
    assert compare(one, other)["differ_in"] == []


@pytest.mark.parametrize("group", ["S12~4", "SO3~5", "O3~4*S12~3"])
def test_each_sample_has_elements_of_its_own_and_a_seed_the_same_again(tmp_path, group):
    same = np.repeat(points(1), 6, axis=0)  # six times the same sample
    # Weights that tell points apart, and directions.
    net = models.build(
        [models.node("MatMul", "flat far", "y"), models.node("Flatten", "x", "flat")][::-1],
        [models.weights("far", np.random.default_rng(0).normal(size=(36, 4)))],
        [("x", models.FLOAT, ["N", 12, 3])],
        [("y", models.FLOAT, ["N", 4])],
    )
    options = {"measures": ["output-l2"], "layout": {"y": "NK"}}
    runs = [measured(tmp_path, net, group, same, seed=seed, **options) for seed in (3, 3, 4)]
    one, again, other = (np.array(r["measurements"][0]["deviations"]) for r in runs)
    np.testing.assert_array_equal(one, again)
    assert np.ptp(one.mean(axis=1)) > 0.01
    assert np.abs(np.sort(one.ravel()) - np.sort(other.ravel())).max() > 0.01


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("name", ["point net, SO3~7", "centroid, SO3~7", "volume, SO3~4"])
def test_a_cache_says_what_the_run_says_to_the_last_bit(tmp_path, name, mode):
    case = CASES[name]
    path = models.save(case.model(), tmp_path / "m.onnx")
    options = {
        "input_layout": case.inputs["x"],
        "layout": case.tensors,
        "measures": list(case.known),
        "provider": "cpu",
    }
    x = data_of(case, 20)["x"]
    live = geed.measure(path, x, case.group, **options)
    write_cache(path, x, case.group, tmp_path / "c.geed", mode=mode, **options)
    assert measure_cache(tmp_path / "c.geed")["measurements"] == live["measurements"]
    few = geed.measure(path, x, case.group, samples=7, norm_samples=20, **options)
    of_cache = measure_cache(tmp_path / "c.geed", samples=7)
    assert of_cache["measurements"] == few["measurements"]


def test_batches_and_pickled_jobs_say_the_same(tmp_path):
    path = models.save(lm.centroid_net(), tmp_path / "m.onnx")
    options = {**POINTS, "measures": ["output-l2", "channel-cos@y"]}
    runs = [
        geed.measure(path, points(20), "SO3~6", batch_size=size, **options)["measurements"]
        for size in (1, 4, 64)
    ]
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            np.testing.assert_allclose(one["deviations"], two["deviations"], atol=1e-6)
            assert two["between_samples"] == pytest.approx(one["between_samples"], rel=1e-6)
    prepared = prepare_run(path, points(20), "SO3~6", Options(**options))
    plan = pickle.loads(pickle.dumps(prepared.task.plan))
    for ours, theirs in zip(prepared.task.plan.measures, plan.measures, strict=True):
        for position in (0, 7):
            moves = [m.of(position).action.moves for m in (ours, theirs)]
            np.testing.assert_array_equal(moves[0].weight, moves[1].weight)


def test_a_cache_of_one_kind_of_permutations_is_not_read_as_the_other(tmp_path):
    path = models.save(lm.point_net(), tmp_path / "m.onnx")
    write_cache(path, points(), "S12~4", tmp_path / "c.geed", **POINTS, measures=["output-l2"])
    reader = "onnx_geed.cache.store.read_manifest"
    from onnx_geed.cache import store

    manifest = store.read_manifest(tmp_path / "c.geed")
    old = {k: v for k, v in manifest.description["group"].items() if k != "kind"}
    earlier = dataclasses.replace(manifest, description={**manifest.description, "group": old})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, lambda folder: earlier)
        with pytest.raises(geed.GeedError, match="S12~4 moved all samples by the same elements"):
            measure_cache(tmp_path / "c.geed")


def refused(folder, match, **options):
    with pytest.raises(geed.GeedError, match=match) as caught:
        measured(folder, lm.point_net(), "SO3~5", **options)
    assert "\n" not in str(caught.value)


def test_what_needs_the_same_elements_for_all_is_refused_in_one_line(tmp_path):
    layer = next(iter(CASES["point net, SO3~7"].tensors))
    table = geed.Table(("e", "g1", "g2", "g3", "g4"), "matrices", np.stack([np.eye(4)] * 5), "own")
    refused(tmp_path, "own: the elements of SO3~5 differ from sample", output_action={"y": table})
    refused(tmp_path, "nothing to fit", output_action={layer: "fit:orthogonal"}, samples=5)
    refused(tmp_path, "elements of its own", engine="graph", measures=["output-l2"])
    path = models.save(lm.point_net(), tmp_path / "net.onnx")
    options = {k: v for k, v in POINTS.items() if k != "provider"}
    with pytest.raises(geed.GeedError, match="elements of its own"):
        geed.compile_measurement(path, "SO3~5", tmp_path / "c.onnx", data=points(), **options)


def filtered(kernel):
    """One convolution, ReLU, and the mean of the map: ``y`` (N, 1)."""
    nodes = [
        models.node("Conv", "x kernel", "map", pads=[3, 3, 3, 3]),
        models.node("Relu", "map", "kept"),
        models.node("ReduceMean", "kept", "y", axes=[2, 3], keepdims=0),
    ]
    return models.build(
        nodes,
        [models.weights("kernel", kernel[None, None])],
        [("x", models.FLOAT, ["N", 1, 33, 33])],
        [("y", models.FLOAT, ["N", 1])],
    )


def blobs(n=30):
    """Smooth pictures, black at the rim, so that little is lost in resampling and in corners."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[-16:17, -16:17].astype(np.float64)
    pictures = np.zeros((n, 1, 33, 33), np.float32)
    for picture in pictures[:, 0]:
        for _ in range(4):
            i, j = rng.uniform(-5, 5, 2)
            picture += rng.uniform(0.5, 1) * np.exp(-((down - i) ** 2 + (right - j) ** 2) / 9)
    return pictures


@pytest.mark.parametrize("group", ["SO2~32", "O2~32", "SO2~7"])
def test_what_knows_no_direction_is_invariant_to_interpolation(tmp_path, group):
    down, right = np.mgrid[-3:4, -3:4].astype(np.float64)
    square = down**2 + right**2
    radial = (1 - square / 4) * np.exp(-square / 4)
    sloped = right * np.exp(-square / 4)  # tells left from right
    options = {"layout": {"y": "NK"}, "input_layout": "NCHW", "measures": ["unexplained"]}
    shares = [
        measured(tmp_path, filtered(kernel), group, blobs(), **options)["measurements"][0]["value"]
        for kernel in (radial, sloped)
    ]
    assert shares[0] < 1e-3
    assert shares[1] > 30 * shares[0]


def test_a_table_in_the_metadata_is_passed_by_with_a_note(tmp_path):
    rows = json.dumps({"elements": ["e", "g1", "g2"], "matrices": [np.eye(4).tolist()] * 3})
    layer = "y"
    net = models.with_metadata(lm.point_net(), {f"onnx_geed.action.{layer}": rows})
    result = measured(tmp_path, net, "SO3~3", measures=["output-l2"])
    assert any("action.y: elements of SO3~3 differ from sample" in n for n in result["notes"])
    assert result["measurements"][0]["output_action"] == "trivial"


def test_references_are_told_of_what_only_turns(tmp_path):
    options = {"measures": ["output-l2"], "references": True}
    (record,) = measured(tmp_path, lm.centroid_net(), "SO3~5", **options)["measurements"]
    for trip in record["references"].values():
        assert trip["value"] < 1e-6
    case = CASES["volume, SO3~4"]
    more = {"input_layout": "NCDHW", "layout": {"y": case.tensors["y"]}, **options}
    with pytest.raises(geed.GeedError, match=r"^--references: .* SO3~4 draws elements .* SO3~24$"):
        # Before anything is measured, which would be lost.
        prepare_run(
            models.save(case.model(), tmp_path / "volume.onnx"),
            data_of(case)["x"],
            "SO3~4",
            Options(**more),
        )


# half of the elements


def test_half_of_the_elements_is_held_against_all_sample_by_sample(tmp_path):
    net = lm.centroid_net(12, 2)
    x = points(30, 12, 2)
    options = {"layout": {"y": "NK"}, "measures": ["output-l2", "unexplained"]}
    for record in measured(tmp_path, net, "SO2~8", x, **options)["measurements"]:
        half = record["half"]
        assert half["elements"] == ["e", "r2", "r4", "r6"]
        # Of a map that turns along, four angles say all that eight do.
        assert half["value"] == pytest.approx(record["value"], rel=1e-5)
        assert half["difference"] == record["value"] - half["value"]
        low, high = half["difference_ci95"]
        assert low <= half["difference"] <= high
        assert not record["warnings"]
    (without,) = measured(tmp_path, net, "C8", x, layout={"y": "NK"}, measures=["output-l2"])[
        "measurements"
    ]
    assert without["half"] is None


def test_too_few_elements_are_told(tmp_path):
    """The fourth power of a direction: what turns four times as fast is unseen by four angles."""
    rng = np.random.default_rng(0)
    turns = rng.uniform(0, 2 * np.pi, (40, 1))
    x = np.stack([np.cos(turns), np.sin(turns)], axis=-1).astype(np.float32)
    # Re (a + ib)^4 = a^4 - 6 a^2 b^2 + b^4
    nodes = [
        models.node("Mul", "x x", "squares"),
        models.node("Mul", "squares squares", "fourth"),
        models.node("ReduceSum", "fourth last", "sum", keepdims=0),
        models.node("ReduceProd", "squares", "both", axes=[2], keepdims=0),
        models.node("Mul", "both minus_six", "crossed"),
        models.node("Add", "sum crossed", "y"),
    ]
    net = models.build(
        nodes,
        [models.integers("last", [2]), models.weights("minus_six", np.array([-6.0]))],
        [("x", models.FLOAT, ["N", 1, 2])],
        [("y", models.FLOAT, ["N", 1])],
    )
    options = {"layout": {"y": "NK"}, "measures": ["output-l2"]}
    found = {}
    for group in ("SO2~4", "SO2~8", "SO2~16", "SO2~32"):
        (found[group],) = measured(tmp_path, net, group, x, **options)["measurements"]
    # Four angles all look alike: as invariant as half of them.
    assert found["SO2~4"]["value"] < 1e-6
    assert not found["SO2~4"]["warnings"]
    (warning,) = found["SO2~8"]["warnings"]
    assert "too few elements represent the group" in warning
    assert found["SO2~8"]["half"]["value"] < 1e-6
    assert not found["SO2~32"]["warnings"]
    assert found["SO2~32"]["value"] == pytest.approx(2 / np.pi, rel=0.01)


@pytest.mark.parametrize(
    ("measure", "apart", "told"),
    [
        ("latent-l2", 1e-7, False),
        ("latent-l2", 1e-3, True),
        ("latent-cos", 1e-9, False),
        ("latent-cos", 1e-3, True),
        # Squares: what was squared is 1e-7 and 1e-4.
        ("unexplained", 1e-14, False),
        ("unexplained", 1e-8, True),
        # M does not divide it: vectors of norm 100 are rounded at 1e-5.
        ("output-l2", 1e-5, False),
        ("output-l2", 1e-2, True),
    ],
)
def test_half_of_the_elements_is_another_value_only_beyond_rounding(measure, apart, told):
    steady = apart * np.array([[1.0], [1.1], [0.9], [1.0]])
    perfect = -1.0 if measure == "latent-cos" else 0.0
    part = OrbitDeviations(np.full((4, 2), perfect), ["e", "r2"])
    record = make_record(
        OrbitDeviations(perfect + np.repeat(steady, 4, axis=1), ["e", "r1", "r2", "r3"]),
        measure=measure,
        layer="y",
        layout="NK",
        output_action="trivial",
        half=part,
        normaliser=Normaliser(1.0, 4, 1.0),
        between=BetweenSamples(np.full((4, 4), 150.0), 100.0) if measure == "output-l2" else None,
    )
    assert any("too few elements" in warning for warning in record["warnings"]) == told


def test_the_page_and_csv_tell_the_half(tmp_path):
    result = measured(tmp_path, lm.point_net(), "SO3~6", measures=["output-l2"])
    half = result["measurements"][0]["half"]["value"]
    assert "half the elements" in report([result])
    head, row = (line.split(",") for line in to_csv(result).splitlines()[:2])
    assert row[head.index("half_value")] == repr(half)
    plain = measured(tmp_path, lm.point_net(), "O", measures=["output-l2"])
    assert "half the elements" not in report([plain])


def test_the_twin_draws_what_is_drawn_for_each_sample():
    assert letter_cases.naive_letters.drawn("S4~3*O", 1, 2) == "S4~3@1,2*O"


@pytest.mark.parametrize("group", ["S4*SO2~4", "SO2~4*S4~3"])
def test_labels_are_for_classes_that_the_drawn_rotation_leaves_in_place(group):
    """Each point is a class: its score is of its distance, whichever way the plane is turned."""
    x = points(14, 4, 2)
    labels = np.random.default_rng(3).integers(0, 4, 14)

    def net(x):
        return {"y": np.tanh((x.astype(float) ** 2).sum(-1)).astype(np.float32)}

    asked = {**POINTS, "output_kind": "logits", "layout": {"y": "NP"}, "labels": labels}
    del asked["provider"]
    result = geed.measure(net, x, group, measures=["flip-rate"], samples=14, **asked)
    (record,) = result["measurements"]
    assert record["value"] == 0
    right = np.mean((x**2).sum(-1).argmax(1) == labels)
    every = record["predictions"]["right"]["per_element"].values()
    assert list(every) == pytest.approx([right] * len(every))
