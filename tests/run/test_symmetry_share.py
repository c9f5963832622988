"""The share of the error that is the group's: known answers, loops, every route."""

import json
import math

import models
import naive
import naive_shares as twin
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto
from running import images, orbits
from scipy import stats

import onnx_geed as geed
from onnx_geed import results
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.groups import layout_action, parse_layout
from onnx_geed.report.axes import begin_at_perfect
from onnx_geed.results import read_record
from onnx_geed.results.intervals import linearised, mean_interval, ratio_interval
from onnx_geed.results.paired_differences import paired

NAME = "symmetry-share"
OPTIONS = {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu"}
FLOAT = TensorProto.FLOAT


def measured(tmp_path, model, data, group, layer="", **options):
    path = models.save(model, tmp_path / "model.onnx")
    asked = {"measures": [NAME + layer], **OPTIONS, **options}
    (record,) = geed.measure(path, data, group, **asked)["measurements"]
    assert record["measure"] == NAME
    return record


def drawn(count, samples=5):
    """The samples of D, as a run with OPTIONS draws them."""
    return naive.sample_indices(count, 3, samples, 9)[0]


def labels_of(count, classes=3, seed=1):
    return np.random.default_rng(seed).integers(0, classes, count)


def without_each(record):
    """The share over all samples but one, for each of them."""
    tops, bottoms = np.mean(record["deviations"], axis=1), np.array(record["errors"])
    return np.array(
        [np.delete(tops, i).sum() / np.delete(bottoms, i).sum() for i in range(len(tops))]
    )


def check(record, deviations, errors, *, rel=1e-5):
    """A record against the twin's deviations and errors."""
    np.testing.assert_allclose(record["deviations"], deviations, rtol=rel, atol=1e-6)
    means = np.mean(errors, axis=1)
    np.testing.assert_allclose(record["errors"], means, rtol=rel, atol=1e-6)
    value = twin.share(deviations, errors)
    assert record["value"] == pytest.approx(value, rel=rel, abs=1e-7)
    assert record["normaliser"] == pytest.approx(means.mean(), rel=rel)
    assert record["unnormalised"] == pytest.approx(np.mean(deviations), rel=rel, abs=1e-7)
    assert record["stderr"] == pytest.approx(twin.stderr(deviations, errors), rel=1e-3, abs=1e-7)
    assert np.mean(record["per_sample"]) == pytest.approx(record["value"], rel=1e-12)
    per_element = list(record["per_element"].values())
    assert np.mean(per_element) == pytest.approx(record["value"], rel=1e-9, abs=1e-12)
    if record["ci95"] is not None and record["interval"] == "t":
        assert np.mean(record["ci95"]) == pytest.approx(record["value"], rel=1e-9, abs=1e-12)
    assert -1e-9 <= record["value"] <= 1 + 1e-9
    assert record["between_samples"] is record["relative"] is record["norm_samples"] is None


# ------------------------------------------------------------------------------------------------
# Against loops
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["C4", "C8", "flip-h"])
def test_class_scores_are_what_loops_say(tmp_path, group):
    model, data = models.random_cnn(4, (6, 6)), images((3, 6, 6), 12)
    labels = labels_of(12, 2)
    record = measured(tmp_path, model, data, group, labels=labels)
    (logits,) = orbits(model, group, data[drawn(12)], [record["layer"]], None)
    deviations, errors = twin.of_classes(logits, labels[drawn(12)])
    check(record, deviations, errors)
    assert record["value"] > 1e-4, "a model that is not invariant scores worse"
    if group == "C8":
        members = [0, 2, 4, 6]
        part = twin.of_classes(logits, labels[drawn(12)], members=members)
        assert record["exact"]["value"] == pytest.approx(twin.share(*part), rel=1e-4)
        assert record["exact"]["normaliser"] == pytest.approx(np.mean(part[1]), rel=1e-5)
        np.testing.assert_allclose(record["exact"]["errors"], np.mean(part[1], axis=1), rtol=1e-5)
        assert record["exact"]["stderr"] == pytest.approx(twin.stderr(*part), rel=1e-3)


@pytest.mark.parametrize("ending", ["softmax_output", "log_softmax_output", "sigmoid_output"])
def test_probabilities_logarithms_and_single_scores_are_read(tmp_path, ending):
    model, data = getattr(models, ending)(), images((3, 8, 8), 12)
    record = measured(tmp_path, model, data, "C4", labels=labels_of(12, 2))
    kind = "logits" if ending.startswith("log") else "probabilities"
    (values,) = orbits(model, "C4", data[drawn(12)], [record["layer"]], None)
    wanted = twin.of_classes(values, labels_of(12, 2)[drawn(12)], kind=kind)
    check(record, *wanted, rel=1e-4)


def test_classes_that_a_table_permutes_are_moved_back(tmp_path):
    model, data = models.cyclic_logits(), images((1, 5, 5), 12)
    labels = labels_of(12, 4)
    table = np.array(models.known(model)["permutation"])
    action = geed.Table(naive.elements("C4"), "permutation", table, "given")
    good = measured(
        tmp_path,
        model,
        data,
        "C4",
        labels=labels,
        output_action={"logits": action},
        output_kind="logits",
    )
    assert abs(good["value"]) < 1e-6
    assert good["output_action"] == "permutation"
    bare = measured(tmp_path, model, data, "C4", labels=labels, output_kind="logits")
    assert bare["value"] > 0.05
    backwards = geed.Table(naive.elements("C4"), "permutation", table[[0, 3, 2, 1]], "given")
    record = measured(
        tmp_path,
        model,
        data,
        "C4",
        labels=labels,
        output_action={"logits": backwards},
        output_kind="logits",
    )
    (logits,) = orbits(model, "C4", data[drawn(12)], ["logits"], None)
    wanted = twin.of_classes(logits, labels[drawn(12)], table=table[[0, 3, 2, 1]])
    check(record, *wanted, rel=1e-4)
    assert any("inverse of the given table" in w for w in record["warnings"])


def vector_model(size=5, out=3, seed=0):
    """Linear, (N, 1, size, size) to y (N, out)."""
    rng = np.random.default_rng(seed)
    return models.build(
        [models.node("Flatten", "x", "flat", axis=1), models.node("MatMul", "flat w", "y")],
        [models.weights("w", rng.normal(size=(size * size, out)))],
        [("x", FLOAT, ["N", 1, size, size])],
        [("y", FLOAT, ["N", out])],
    )


def given(group, kind, values):
    return geed.Table(naive.elements(group), kind, np.array(values), "given")


TURNS = [[[0.0, -1.0], [1.0, 0.0]]]
for _ in range(3):
    TURNS.append((np.array(TURNS[-1]) @ np.array(TURNS[0])).tolist())
TURNS = [TURNS[3], *TURNS[:3]]


@pytest.mark.parametrize("moved", ["trivial", "permutation", "matrices"])
def test_vectors_and_their_targets_are_what_loops_say(tmp_path, moved):
    width = 2 if moved == "matrices" else 4
    model, data = vector_model(out=width), images((1, 5, 5), 12)
    targets = np.random.default_rng(8).normal(size=(12, width))
    rows = [[(c - g) % 4 for c in range(4)] for g in range(4)]
    actions = {
        "trivial": {},
        "permutation": {"y": given("C4", "permutation", rows)},
        "matrices": {"y": given("C4", "matrices", TURNS)},
    }
    back = {
        "trivial": None,
        "permutation": lambda g, v: twin.undone(rows[g], v),
        "matrices": lambda g, v: np.array(TURNS[g]).T @ v,
    }
    record = measured(
        tmp_path, model, data, "C4", target={"y": targets}, output_action=actions[moved]
    )
    (values,) = orbits(model, "C4", data[drawn(12)], ["y"], None)
    check(record, *twin.of_targets(values, targets[drawn(12)], back[moved]))
    assert record["value"] > 0.05
    assert record["output_action"] == moved


def test_maps_that_move_along_with_their_target(tmp_path):
    data = images((1, 8, 8), 12)
    targets = np.random.default_rng(8).normal(size=(12, 3, 8, 8))
    for symmetric in (True, False):
        model = models.dense_scores(symmetric=symmetric)
        record = measured(tmp_path, model, data, "C4", "@z", target={"z": targets})
        (values,) = orbits(model, "C4", data[drawn(12)], ["z"], None)
        flat = [[v.ravel() for v in orbit] for orbit in values]
        wanted = twin.of_targets(
            flat,
            targets[drawn(12)].reshape(5, -1),
            lambda g, v: np.rot90(v.reshape(3, 8, 8), -g, axes=(1, 2)).ravel(),
        )
        check(record, *wanted)
        assert (record["value"] < 1e-9) == symmetric
        assert record["output_action"] == "grid"


def test_resampled_maps_are_moved_back_by_the_inverse_and_that_is_said(tmp_path):
    data, model = images((1, 8, 8), 12), models.dense_scores()
    targets = np.random.default_rng(8).normal(size=(12, 3, 8, 8))
    record = measured(tmp_path, model, data, "C8", "@z", target={"z": targets})
    (values,) = orbits(model, "C8", data[drawn(12)], ["z"], None)
    names = naive.elements("C8")

    def back(g, v):
        inverse = naive.inverse("C8", names[g])
        return naive.act("C8", inverse, v.reshape(3, 8, 8), "bilinear").ravel()

    flat = [[v.ravel() for v in orbit] for orbit in values]
    check(record, *twin.of_targets(flat, targets[drawn(12)].reshape(5, -1), back))
    assert any("for 4 elements these resample" in n for n in record["notes"])
    assert record["exact"]["value"] < 1e-9 < record["value"]


def set_model():
    """Scores of the members of a set (N, 3, 2) that look at each member and at its place."""
    rng = np.random.default_rng(0)
    return models.build(
        [models.node("Mul", "x places", "weighed"), models.node("MatMul", "weighed w", "y")],
        [
            models.weights("places", [[1.0], [2.0], [3.0]]),
            models.weights("w", rng.normal(size=(2, 2))),
        ],
        [("x", FLOAT, ["N", 3, 2])],
        [("y", FLOAT, ["N", 3, 2])],
    )


@pytest.mark.parametrize("group", ["S3", "S3~4"])
def test_permutations_are_undone_whether_or_not_the_group_is_closed(tmp_path, group):
    data, targets = images((3, 2), 12), np.random.default_rng(8).normal(size=(12, 3, 2))
    path = models.save(set_model(), tmp_path / "set.onnx")
    result = geed.measure(
        *(path, data, group),
        measures=[f"{NAME}@y"],
        target={"y": targets},
        input_layout="NPC",
        layout={"y": "NPC"},
        **OPTIONS,
    )
    (record,) = result["measurements"]
    elements = geed.parse_group(group)
    action = layout_action(elements, parse_layout("NPC"), (2, 3))
    weights = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    deviations, errors = [], []
    for i in drawn(12):
        rows = []
        for g in range(elements.order):
            # Channels first in kept order.
            own = action.behind(result["seed"], i)  # others for each sample, of S3~4
            order = own.apply(g, np.tile(np.arange(3.0), (2, 1)))[0].astype(int)
            y = (data[i][order] * [[1], [2], [3]]) @ weights
            rows.append(y[np.argsort(order)].ravel())
        one = twin.of_targets([rows], [targets[i].ravel()])
        deviations += one[0]
        errors += one[1]
    check(record, deviations, errors)
    assert record["value"] > 0.01


# ------------------------------------------------------------------------------------------------
# Known answers
# ------------------------------------------------------------------------------------------------


def sides(scale, ending=None):
    """Two classes by which half of a 1×2 picture is brighter: logits are its pixels, scaled."""
    nodes = [models.node("Flatten", "x", "flat", axis=1), models.node("Mul", "flat scale", "z")]
    if ending:
        nodes.append(models.node(ending, "z", "p", axis=1))
    return models.build(
        nodes,
        [models.weights("scale", [float(scale)])],
        [("x", FLOAT, ["N", 1, 1, 2])],
        [("p" if ending else "z", FLOAT, ["N", 2])],
    )


LEFT = np.tile(np.array([1.0, 0.0], np.float32).reshape(1, 1, 1, 2), (12, 1, 1, 1))


@pytest.mark.parametrize("scale", [0.5, 4.0, 60.0])
def test_a_model_that_flips_has_the_share_that_one_works_out(tmp_path, scale):
    # p of the true class is s(a) upright and s(-a) mirrored, 1/2 in the mean.
    labels = np.zeros(12, int)
    stays = {"labels": labels, "output_kind": "logits", "layout": {"z": "NK"}}
    record = measured(tmp_path, sides(scale), LEFT, "flip-h", **stays)
    error = (math.log1p(math.exp(-scale)) + math.log1p(math.exp(scale))) / 2
    assert record["normaliser"] == pytest.approx(error, rel=1e-6)
    assert record["value"] == pytest.approx((error - math.log(2)) / error, rel=1e-5)
    assert record["ci95"] == [record["value"]] * 2
    # The surer it is, the more of its error comes from the mirror; half of its answers are right.
    assert record["predictions"]["right"]["value"] == 0.5
    # Where the mirror is to swap the classes, nothing does.
    swap = {"z": given("flip-h", "permutation", [[0, 1], [1, 0]])}
    swapped = measured(
        tmp_path,
        sides(scale),
        LEFT,
        "flip-h",
        labels=labels,
        output_kind="logits",
        output_action=swap,
        layout={"z": "NK"},
    )
    # The pixels of a row are classes that change places themselves.
    columns = measured(tmp_path, sides(scale), LEFT, "flip-h", **stays | {"layout": {"z": "NW"}})
    assert columns["deviations"] == swapped["deviations"]
    # Surer than floats can tell from certain, it errs nowhere.
    assert swapped["value"] == (0 if scale < 60 else None)
    assert swapped["normaliser"] == pytest.approx(math.log1p(math.exp(-scale)), rel=1e-4, abs=1e-15)
    assert swapped["predictions"]["right"]["value"] == 1


def test_what_is_invariant_has_no_share_however_wrong_it_is(tmp_path):
    data = images((1, 6, 6), 12)
    model = models.c4_invariant()
    right = orbits(model, "C4", data, ["logits"], None)[0][:, 0].argmax(axis=1)
    for labels in (right, (right + 1) % 3):
        record = measured(tmp_path, model, data, "C4", labels=labels)
        assert abs(record["value"]) < 1e-5
        accuracy = record["predictions"]["right"]["value"]
        assert accuracy == (1.0 if labels is right else 0.0)
    constant = measured(
        tmp_path,
        models.constant(),
        images((1, 5, 5), 12),
        "C4",
        labels=labels_of(12),
        output_kind="logits",
    )
    assert constant["value"] == 0
    assert constant["normaliser"] > 0.1


def test_a_probability_of_zero_for_the_true_class_is_refused_by_its_sample(tmp_path):
    options = {"labels": np.zeros(12, int), "layout": {"p": "NK"}}
    with pytest.raises(
        GeedError, match=r"^sample \d+: p: under element flip the true class, 0"
    ) as e:
        measured(tmp_path, sides(300, "Softmax"), LEFT, "flip-h", **options)
    assert "\n" not in str(e.value)
    assert "--output-kind logits" in str(e.value)


def test_a_mean_error_of_zero_has_no_share_and_says_so(tmp_path):
    data, model = images((1, 5, 5), 12), vector_model()
    data[:] = data[:, :, :1, :1]  # all the same under turns
    right = orbits(model, "C4", data, ["y"], None)[0][:, 0].astype(np.float64)
    record = measured(tmp_path, model, data, "C4", target={"y": right})
    assert record["value"] is record["ci95"] is record["stderr"] is None
    assert record["normaliser"] == record["unnormalised"] == 0
    assert any("the mean error is 0" in w for w in record["warnings"])


# ------------------------------------------------------------------------------------------------
# Intervals
# ------------------------------------------------------------------------------------------------


def test_the_interval_is_of_a_ratio_whose_divisor_is_of_the_same_samples():
    rng = np.random.default_rng(0)
    bottoms = rng.gamma(0.5, size=40)
    tops = 0.3 * bottoms  # every sample has the same share, so there is nothing to doubt
    values = linearised(tops, bottoms)
    np.testing.assert_allclose(values, 0.3, rtol=1e-12)
    low, high = ratio_interval(tops, bottoms)
    assert high - low < 1e-12 < 0.1 < np.ptp(mean_interval(tops / bottoms.mean()))
    for kind in ("t", "bootstrap"):
        tops = bottoms * rng.random(40)
        low, high = ratio_interval(tops, bottoms, kind)
        assert low < tops.sum() / bottoms.sum() < high
    assert ratio_interval([1.0], [2.0]) is None


@pytest.mark.parametrize(("spread", "count"), [(2.0, 20), (3.0, 50)])
def test_intervals_hold_the_share_where_few_samples_have_most_of_the_error(spread, count):
    """Lognormal errors; each by shares that average to a third, whatever the error."""
    rng, held, few = np.random.default_rng(2), [], []
    for _ in range(600):
        bottoms = rng.lognormal(0, spread, size=count)
        low, high = ratio_interval(bottoms * rng.beta(0.5, 1, size=count), bottoms)
        held.append(low <= 1 / 3 <= high)
        few.append(bottoms.sum() ** 2 / np.square(bottoms).sum() < 4)
    # Three standard errors of a share of 0.95 over 600 are 0.027.
    assert np.mean(held) > 0.91
    assert np.mean(np.array(held)[few]) > 0.91
    assert np.sum(few) > 200


def test_one_sample_with_all_of_the_error_has_no_interval():
    tops, bottoms = np.zeros(12), np.zeros(12)
    tops[3], bottoms[3] = 0.5, 2.0
    for kind in ("t", "bootstrap"):
        assert ratio_interval(tops, bottoms, kind) is None
        # Nor where the others' are rounding.
        assert ratio_interval(tops + 1e-18, bottoms + 1e-17, kind) is None
    assert np.mean(linearised(tops, bottoms)) == pytest.approx(0.25)


def lit(count):
    """One lit pixel: its place tells the turn, its value the sample, in D's order."""
    x = np.zeros((count, 1, 2, 2), np.float32)
    x[np.random.default_rng(0).permutation(count), 0, 0, 0] = np.arange(1, count + 1)
    return x


def sure_but_for(wrong, others=None):
    """A network that is sure and right, but for the first sample, and those after the 20th."""

    def network(batch):
        flat = batch.reshape(len(batch), 4)
        number, turn = flat.max(1).astype(int), flat.argmax(1)
        scores = np.tile(np.array([[100.0, 0.0]], np.float32), (len(batch), 1))
        for which, score in ((number == 1, wrong), (number > 20, others)):
            if score is not None:
                scores[which] = 0.0
                scores[which & (turn == 0), 1] = score
        return scores

    return network


LIT = {"measures": [NAME], "input_layout": "NCHW", "output_kind": "logits"}


def test_two_shares_of_one_samples_error_are_not_told_apart():
    a, b = (
        geed.measure(sure_but_for(w), lit(12), "C4", labels=[0] * 12, **LIT) for w in (1.0, 3.0)
    )
    (record,) = a["measurements"]
    assert record["value"] > 0
    assert record["ci95"] is record["stderr"] is None
    assert "few samples have most of the error" in " ".join(record["warnings"])
    (entry,) = geed.compare(a, b)["measurements"]
    assert entry["verdict"].startswith("no conclusion: one sample has all of the error")
    assert entry["verdict_ci95"] is entry["ci95"] is entry["ci95_bootstrap"] is None
    assert entry["share_a_lower"] == pytest.approx(1 / 12)  # the other eleven are the same in both


def share_record(errors, share, **changes):
    """A record of a share that is the same on every sample and element."""
    values = (np.asarray(errors) * share)[:, None] * np.ones((1, 4))
    orbits_of = results.OrbitDeviations(values, tuple("abcd"), errors=np.asarray(errors))
    return results.make_record(
        orbits_of, measure=NAME, layer="y", layout="NK", output_action="trivial", **changes
    )


def test_the_samples_on_which_a_model_is_better_go_by_their_own_shares():
    rng = np.random.default_rng(0)
    e, f = np.exp(rng.standard_normal((2, 40)))
    some = np.where(np.arange(40) < 10, 0.0, f)
    for a, b, expected in (
        (share_record(e, 0.2), share_record(f, 0.3), 1.0),
        (share_record(f, 0.3), share_record(e, 0.2), 0.0),
        (share_record(e, 0.25), share_record(10 * e, 0.25), 0.0),
        (share_record(10 * e, 0.25), share_record(e, 0.25), 0.0),
        # A sample without any error has no share.
        (share_record(e, 0.2), share_record(some, 0.3), 0.75),
    ):
        entry = paired(a, b, 0)
        assert entry["share_a_lower"] == expected
        # Errors differ in size, and the bootstrap is too sure of such samples.
        assert entry["interval"] == "t"


def test_the_half_of_a_share_counts_samples_by_their_errors_too():
    """Beta shares of lognormal errors; the half's are the same, so that their difference is 0."""
    rng, apart, wrong = np.random.default_rng(3), 0, 0
    for _ in range(200):
        errors = rng.lognormal(0, 3, size=40)
        values = errors[:, None] * rng.beta(1, 3, (40, 8))
        names = tuple("abcdefgh")
        half = results.OrbitDeviations(values[:, ::2], names[::2], errors=errors)
        record = results.make_record(
            results.OrbitDeviations(values, names, errors=errors),
            **{"measure": NAME, "layer": "y", "layout": "NK", "output_action": "trivial"},
            half=half,
        )
        gaps = without_each(record) - without_each({"deviations": values[:, ::2], "errors": errors})
        number = errors.sum() ** 2 / np.square(errors).sum()
        # The jackknife's standard error, and as many degrees of freedom as the errors count for.
        error = np.sqrt(39 / 40 * np.square(gaps - gaps.mean()).sum())
        low, high = record["half"]["difference_ci95"]
        assert (high - low) / 2 == pytest.approx(
            stats.t.ppf(0.975, max(1, number - 1)) * error, rel=1e-6
        )
        apart += not low <= 0 <= high
        wrong += any("too few elements" in w for w in record["warnings"])
    assert apart <= 12  # of 200; with one degree of freedom less than samples it was one in nine
    assert wrong <= 2


@pytest.mark.parametrize(("interval", "found"), [("t", "wide"), ("bootstrap", "too narrow")])
def test_what_few_errors_do_to_an_interval_is_said_of_that_interval(interval, found):
    (warning,) = share_record([9.0] * 2 + [0.01] * 38, 0.3, interval=interval)["warnings"]
    assert "count for 2.1 equal ones, since few samples have most of the error: the" in warning
    assert f"the interval is {found}" in warning
    (warning,) = share_record([9.0, 0.0], 0.3, interval=interval)["warnings"]
    assert "the interval is missing" in warning
    assert share_record([9.0], 0.3, interval=interval)["warnings"] == []


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_precision_waits_for_the_errors_of_twenty_samples(interval):
    asked = {"labels": [0] * 200, "interval": interval, **LIT}
    run = geed.measure(sure_but_for(1.0, 9.0), lit(200), "C4", precision=0.05, **asked)
    (record,) = run["measurements"]
    errors = np.array(record["errors"])
    assert errors.sum() ** 2 / np.square(errors).sum() >= 20
    assert run["precision"]["samples"] == 45  # of which 26 err; of 30 but 11 do
    run = geed.measure(sure_but_for(1.0, 9.0), lit(200), "C4", samples=200, **asked)
    (whole,) = run["measurements"]
    assert record["value"] == pytest.approx(whole["value"], rel=0.05)
    asked["labels"] = [0] * 24
    few = geed.measure(sure_but_for(1.0, 9.0), lit(24), "C4", precision=0.05, **asked)
    assert not few["precision"]["reached"]
    assert "has to count for 20 equal ones" in few["notes"][-1]


def test_nominal_intervals_hold_the_share_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        bottoms = rng.gamma(2.0, size=50)
        tops = bottoms * rng.beta(2, 3, size=50)  # the share of sums is 0.4
        low, high = ratio_interval(tops, bottoms)
        held += low <= 0.4 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_a_bootstrap_draws_errors_with_their_samples(tmp_path):
    model, data = models.random_cnn(4, (6, 6)), images((3, 6, 6), 12)
    record = measured(tmp_path, model, data, "C4", labels=labels_of(12, 2), interval="bootstrap")
    tops = np.mean(record["deviations"], axis=1)
    assert record["ci95"] == list(ratio_interval(tops, record["errors"], "bootstrap", seed=3))
    assert record["ci95"][0] < record["value"] < record["ci95"][1]


# ------------------------------------------------------------------------------------------------
# Routes
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def case(tmp_path):
    """A network with class scores and maps, its samples, labels and targets, on the disk."""
    data, labels = images((3, 6, 6), 12), labels_of(12, 2)
    np.savez(tmp_path / "data.npz", x=data, labels=labels)
    np.save(tmp_path / "bare.npy", data)
    np.save(tmp_path / "target.npy", np.random.default_rng(2).normal(size=(12, 5)))
    models.save(models.random_cnn(4, (6, 6)), tmp_path / "model.onnx")
    return tmp_path


def of(case, data="data.npz", **options):
    asked = {"measures": [NAME], **OPTIONS, **options}
    return geed.measure(case / "model.onnx", case / data, "C8", **asked)["measurements"]


@pytest.mark.parametrize("form", ["labels", "target"])
@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_gives_the_same_bits(case, form, mode):
    more = {} if form == "labels" else {"target": {"logits": case / "target.npy"}}
    live, folder = of(case, **more), case / "a.geed"
    asked = {"measures": [NAME], **OPTIONS, **more}
    write_cache(case / "model.onnx", case / "data.npz", "C8", folder, mode=mode, **asked)
    assert measure_cache(folder, **more)["measurements"] == live
    if form == "target":
        with pytest.raises(GeedError, match=r"give it again with --target logits=FILE.npy"):
            measure_cache(folder)
        with pytest.raises(GeedError, match="no measure uses it"):
            measure_cache(folder, measures=["output-l2@logits"], **more)


@pytest.mark.parametrize("form", ["labels", "target"])
def test_figures_do_not_depend_on_the_batch(case, form):
    more = {} if form == "labels" else {"target": {"logits": case / "target.npy"}}
    live = of(case, batch_size=8, **more)
    for size in (3, 8, 40):
        (record,) = of(case, batch_size=size, **more)
        if size >= 8:
            assert record["exact"]["value"] == pytest.approx(live[0]["exact"]["value"], rel=1e-6)
        np.testing.assert_allclose(
            record["deviations"], live[0]["deviations"], rtol=1e-4, atol=1e-6
        )
        assert record["value"] == pytest.approx(live[0]["value"], rel=1e-5)


def test_statistics_join_to_the_same_bits_however_orbits_are_grouped():
    from onnx_geed.groups import Trivial, parse_group
    from onnx_geed.measures import Layer, Measure, Plan
    from onnx_geed.run import join, reduce_orbits

    rng, group = np.random.default_rng(0), parse_group("C8")
    values = rng.normal(size=(9, 8, 5)).astype(np.float32)
    forms = {
        "labels": (Measure(NAME, "y", Trivial(group), kind="logits"), rng.integers(0, 5, 9)),
        "target": (Measure(NAME, "y", Trivial(group), target=True), rng.normal(size=(9, 5))),
    }
    exact = tuple(g % 2 == 0 for g in range(8))
    for measure, truth in forms.values():
        layer = Layer("y", (5,), "NK")
        plan = Plan(group, (measure,), {"y": layer}, exact, truths={"y": truth})
        spread = []
        for size in (1, 2, 4, 9):
            parts = [
                reduce_orbits(plan, {"y": values[at : at + size]}, str, first=at)
                for at in range(0, 9, size)
            ]
            joined = join(plan, parts).measures[NAME, "y"]
            spread.append((joined.deviations, joined.errors))
        for deviations, errors in spread[1:]:
            np.testing.assert_array_equal(deviations, spread[0][0])
            np.testing.assert_array_equal(errors, spread[0][1])


def test_precision_ends_a_run_when_the_interval_of_the_ratio_is_narrow(tmp_path):
    data = images((3, 6, 6), 60)
    path = models.save(models.random_cnn(4, (6, 6)), tmp_path / "m.onnx")
    asked = {"measures": [NAME], "labels": labels_of(60, 2), "provider": "cpu", "norm_samples": 9}
    result = geed.measure(path, data, "C4", precision=1.0, **asked)
    assert result["precision"]["reached"]
    count = result["precision"]["samples"]
    (fixed,) = geed.measure(path, data, "C4", samples=count, **asked)["measurements"]
    assert result["measurements"] == [fixed]


def test_the_graph_and_compiled_measurements_refuse_it_in_one_line(case):
    with pytest.raises(GeedError, match=f"^--engine graph: {NAME} on logits: .*kernels") as caught:
        of(case, engine="graph")
    assert "\n" not in str(caught.value)
    with pytest.raises(GeedError, match=f"^compile .*{NAME} needs labels or a target"):
        geed.compile_measurement(case / "model.onnx", "C4", case / "c.onnx", measures=[NAME])


def test_references_and_the_untrained_network_stand_beside_it(case):
    for more in ({}, {"target": {"logits": case / "target.npy"}}):
        (record,) = of(case, references=True, untrained=True, **more)
        entries = record["references"]
        assert 0 < entries["input_round_trip"]["value"] < 1
        assert entries["output_round_trip"]["value"] == 0
        assert 0 <= entries["numeric"]["value"] < 1e-5
        assert 0 <= entries["untrained"]["value"] <= 1
        assert entries["untrained"]["value"] != record["value"]


# ------------------------------------------------------------------------------------------------
# Labels and targets that will not do
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^symmetry-share@logits: needs true values: labels \(--labels FILE"),
        ({"labels": np.full(12, 9)}, "the label '9' belongs to no known output: give"),
        ({"labels": ["cat"] * 12}, "label 'cat' belongs to no known output"),
        (
            {"target": {"logits": np.zeros((11, 5))}},
            r"holds \(11, 5\); give one row per sample.*\(12, 5\)",
        ),
        ({"target": {"logits": np.zeros((12, 3))}}, r"holds \(12, 3\); give one row"),
        (
            {"target": {"logits": np.full((12, 5), np.nan)}},
            r"--target logits: sample \d+ holds NaN",
        ),
        ({"target": {"logits": np.full((12, 5), "a")}}, "give numbers"),
        ({"target": {"logit": np.zeros((12, 5))}}, "logits"),
        ({"target": {"logits": "nothing.npy"}}, "--target logits nothing.npy"),
        (
            {"target": {"logits": np.zeros((12, 5))}, "measures": ["latent-l2"]},
            r"--target logits: no measure uses it; add --measure symmetry-share@logits",
        ),
        ({"output_kind": "embedding"}, "give its target with --target logits=FILE.npy"),
    ],
)
def test_what_cannot_be_held_against_is_refused_in_one_line(case, options, message):
    with pytest.raises(GeedError, match=message) as caught:
        of(case, "bare.npy", **options)
    assert "\n" not in str(caught.value)


def test_labels_are_one_a_sample_and_not_one_a_pixel(tmp_path):
    with pytest.raises(GeedError, match=r"scores at every place: give .* --target z=FILE.npy"):
        measured(
            tmp_path,
            models.dense_scores(),
            images((1, 8, 8), 12),
            "C4",
            labels=labels_of(12),
            output_kind="logits",
        )


def test_labels_are_found_by_the_names_of_classes(case):
    named = models.with_metadata(
        models.random_cnn(4, (6, 6)),
        {"onnx_geed.classes": json.dumps(["cat", "dog", "eel", "fox", "gnu"])},
    )
    models.save(named, case / "model.onnx")
    labels = np.array(["cat", "dog"])[labels_of(12, 2)]
    (record,) = of(case, "bare.npy", labels=labels)
    (other,) = of(case)
    assert record["value"] == other["value"]


def test_it_is_taken_by_name_alone(case):
    result = geed.measure(case / "model.onnx", case / "data.npz", "C4", **OPTIONS)
    assert NAME not in {record["measure"] for record in result["measurements"]}


# ------------------------------------------------------------------------------------------------
# All that reads results
# ------------------------------------------------------------------------------------------------


def command(*words, code=0):
    outcome = CliRunner().invoke(cli, [str(word) for word in words])
    assert outcome.exit_code == code, outcome.output
    return outcome


def test_the_command_takes_labels_and_targets_and_the_gate_holds_it(case):
    line = ("measure", case / "model.onnx", "--data", case / "data.npz", "--group", "C4")
    line = (*line, "--samples", 5, "--measure", NAME, "--provider", "cpu")
    text = command(*line, "--out", case / "r.json").output
    assert f"range: {NAME} 0 (invariant) to 1" in text
    record = json.loads((case / "r.json").read_text())["measurements"][0]
    command(*line, "--fail-above", f"{NAME}={record['value'] * 2}")
    failed = command(*line, "--fail-above", f"{NAME}={record['value'] / 2}", code=1)
    assert f"over the limit: {NAME}@logits" in failed.output
    own = (*line, "--target", f"logits={case / 'target.npy'}")
    command(*own, "--cache", case / "a.geed", "--out", case / "t.json")
    cached = ("measure", case / "a.geed", "--target", f"logits={case / 'target.npy'}")
    command(*cached, "--out", case / "c.json")
    a, b = (json.loads((case / f"{k}.json").read_text())["measurements"] for k in "tc")
    assert a == b
    assert "symmetry-share" in command(*own, "--format", "csv").output


def test_pages_comparisons_and_means_over_models_know_it(case):
    for name, seed in (("a", 4), ("b", 5)):
        models.save(models.random_cnn(seed, (6, 6)), case / f"{name}.onnx")
        result = geed.measure(
            case / f"{name}.onnx", case / "data.npz", "C4", measures=[NAME], **OPTIONS
        )
        geed.write_json(result, case / f"{name}.json")
    a, b = (geed.read_result(case / f"{name}.json") for name in "ab")
    (entry,) = geed.compare(a, b)["measurements"]
    assert entry["compared"] == "value"
    (one,), (other,) = a["measurements"], b["measurements"]
    assert entry["difference"] == pytest.approx(one["value"] - other["value"], rel=1e-9)
    # Paired: both ratios vary with the samples, numerators and denominators.
    gaps = without_each(one) - without_each(other)
    errors = [np.array(r["errors"]) for r in (one, other)]
    count = min(e.sum() ** 2 / np.square(e).sum() for e in errors)
    half = np.sqrt(np.var(gaps) * (len(gaps) - 1)) * stats.t.ppf(0.975, count - 1)
    assert np.ptp(entry["ci95"]) / 2 == pytest.approx(half, rel=0.02)
    assert np.mean(entry["ci95"]) == pytest.approx(entry["difference"])
    (mean,) = geed.aggregate([a, b])["measurements"]
    assert mean["mean"] == pytest.approx((one["value"] + other["value"]) / 2)
    command("report", case / "a.json", "-o", case / "one.html", "--data", case / "data.npz")
    html = (case / "one.html").read_text()
    assert "would vanish if f(gx) were the same for every element" in html
    assert ">NaN" not in html
    command("report", case / "a.json", case / "b.json", "-o", case / "two.html")


def test_values_by_class_are_shares_of_the_error_of_that_class(case):
    (record,) = of(case)
    labels = labels_of(12, 2)[drawn(12)]
    tops, bottoms = np.mean(record["deviations"], axis=1), np.array(record["errors"])
    for label, entry in record["per_class"].items():
        own = labels == int(label)
        assert entry["value"] == pytest.approx(tops[own].sum() / bottoms[own].sum(), rel=1e-9)
        assert entry["samples"] == own.sum()


# ------------------------------------------------------------------------------------------------
# Other actions, masks, fits and suites
# ------------------------------------------------------------------------------------------------


def test_an_action_of_ones_own_is_undone_by_its_inverses(tmp_path):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "model.onnx")
    data, targets = images((1, 8, 8), 12), np.random.default_rng(8).normal(size=(12, 3, 8, 8))
    asked = {"measures": [f"{NAME}@z"], "target": {"z": targets}, **OPTIONS}
    own = geed.FunctionAction(
        geed.parse_group("C4"), lambda g, x: np.rot90(x, g, axes=(-2, -1)).copy(), any_size=True
    )
    (named,) = geed.measure(path, data, "C4", **asked)["measurements"]
    (mine,) = geed.measure(path, data, action=own, **asked)["measurements"]
    np.testing.assert_allclose(mine["deviations"], named["deviations"], rtol=1e-9, atol=1e-12)
    assert mine["value"] == pytest.approx(named["value"], rel=1e-9)
    assert named["value"] > 0.01


def test_padding_is_left_out_of_sets_and_of_their_targets(tmp_path):
    data, targets = images((3, 2), 12), np.random.default_rng(8).normal(size=(12, 3, 2))
    real = np.arange(3) < np.array([2, 3] * 6)[:, None]
    path = models.save(set_model(), tmp_path / "set.onnx")
    asked = {
        **{"measures": [f"{NAME}@y"], "input_layout": {"x": "NPC"}, "layout": {"y": "NPC"}},
        **{"mask": {"x": real}, **OPTIONS},
    }
    spoilt = np.where(real[..., None], targets, 99.0)
    one, other = (
        geed.measure(path, {"x": data}, "S3", target={"y": t}, **asked)["measurements"][0]
        for t in (targets, spoilt)
    )
    assert one["value"] == other["value"]
    everything = {k: v for k, v in asked.items() if k != "mask"}
    unmasked = geed.measure(path, {"x": data}, "S3", target={"y": spoilt}, **everything)
    assert unmasked["measurements"][0]["value"] != one["value"]


def test_a_fitted_action_is_refused(tmp_path):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "model.onnx")
    with pytest.raises(GeedError, match="takes no fitted action") as caught:
        geed.measure(
            *(path, images((1, 8, 8), 60), "C4"),
            measures=[f"{NAME}@z"],
            target={"z": np.zeros((60, 3, 8, 8))},
            output_action={"z": "fit:orthogonal"},
            **OPTIONS,
        )
    assert "\n" not in str(caught.value)


def test_a_suite_takes_it_with_a_target(case):
    (case / "suite.toml").write_text(
        f"""
groups = ["C4"]
measures = ["{NAME}"]
[options]
samples = 5
provider = "cpu"
target = {{ logits = "target.npy" }}
[[models]]
name = "net"
path = "model.onnx"
[[data]]
name = "pictures"
path = "bare.npy"
"""
    )
    command("benchmark", case / "suite.toml", "-o", case / "out", "--format", "json")
    (row,) = json.loads((case / "out" / "summary.json").read_text())["rows"]
    (record,) = geed.measure(
        *(case / "model.onnx", case / "bare.npy", "C4"),
        measures=[NAME], target={"logits": case / "target.npy"}, samples=5, provider="cpu",
    )["measurements"]  # fmt: skip
    assert row["mean"] == record["value"]


def test_what_only_a_missing_inverse_could_undo_is_refused():
    from onnx_geed.measures import Measure

    group = geed.parse_group("C5*S4~3")
    action = layout_action(group, parse_layout("NPX"), (4, 2))
    with pytest.raises(GeedError, match=r"^y is moved back by the inverse of .* not an element of"):
        Measure(NAME, "y", action, target=True)
    assert Measure(NAME, "y", geed.Trivial(group), target=True).target


@pytest.mark.parametrize("seed", range(6))
def test_shares_of_confident_scores_are_read_again(tmp_path, seed):
    rng = np.random.default_rng(seed)
    weights, x = rng.normal(size=64) * 0.5, rng.random((8, 1, 8, 8), dtype=np.float32)

    def scores(x):
        s = x.reshape(len(x), -1) @ weights
        return np.stack([20 + s, np.zeros_like(s)], axis=1).astype(np.float32)

    options = {"measures": [NAME], "output_kind": "logits", "labels": np.zeros(8, int)}
    result = geed.measure(scores, x, "C4", **options)
    # By element it is of the order of 1, in sum it cancels to rounding.
    (record,) = result["measurements"]
    assert record["value"] < 1e-6 < max(record["per_element"].values())
    result.save(tmp_path / "r.json")
    assert geed.read_result(tmp_path / "r.json")["measurements"] == [record]


def test_pictures_have_the_elements_under_which_the_error_is_smaller(tmp_path):
    labels = labels_of(12)
    record = measured(
        tmp_path, models.random_cnn(4, (6, 6)), images((3, 6, 6), 12), "C4", labels=labels
    )
    reading = read_record(record)
    least, most = reading.per_element.min(), reading.per_element.max()
    assert least < 0 < most
    low, high = begin_at_perfect(None, [reading], most)
    assert low < least < most < high
