"""--precision: as many samples as the intervals need, and what choosing them so costs."""

import json
import math

import models
import naive
import numpy as np
import pytest
from click.testing import CliRunner

from onnx_geed import GeedError, Options, measure, measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.results import judge_precision, looks, mean_interval, precision_notes
from onnx_geed.results.stopping import reaches
from onnx_geed.run import prepare_run as prepare

IMAGES = np.random.default_rng(0).random((120, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def record(measure="softmax-kl", value=1.0, half=0.1, m=None, samples=30):
    ends = None if None in (half, value) else [value - half, value + half]
    return {
        "measure": measure,
        "layer": "a",
        "value": value,
        "ci95": ends,
        "normaliser": m,
        "samples": samples,
    }


def test_samples_grow_by_half_from_twenty():
    assert looks(200) == [20, 30, 45, 68, 102, 153, 200]
    assert looks(46) == [20, 30, 45, 46]
    assert looks(45) == [20, 30, 45]
    assert looks(20) == [20]
    assert looks(9) == [9]


@pytest.mark.parametrize(
    ("entry", "narrow"),
    [
        (record(value=1.0, half=0.1), True),
        (record(value=1.0, half=0.11), False),
        (record("channel-cos", -0.75, 0.025), True),
        (record("channel-cos", -0.75, 0.026), False),
        # v0 = -1/0.5 = -2, which the value is 0.5 away from.
        (record("latent-cos", -1.5, 0.05, m=0.5), True),
        (record("latent-cos", -1.5, 0.051, m=0.5), False),
        (record("latent-cos", 2.5, 0.05, m=-0.5), True),
        (record("channel-cos", -1.0, 0.0), True),
        (record("latent-l2", 0.0, 1e-6, m=3.0), True),
        (record("latent-l2", 0.0, 1.1e-6, m=3.0), False),
        (record(half=None, samples=1), False),
    ],
)
def test_a_half_width_is_held_against_the_distance_from_perfect(entry, narrow):
    assert reaches(entry, 0.1000001) is narrow


def flips(shares, kind="t"):
    """The record of a rate of flips, of which Student t knows no width where all are alike."""
    low, high = mean_interval(shares, kind)
    entry = record("flip-rate", float(np.mean(shares)), samples=len(shares))
    return entry | {"ci95": [low, high], "per_sample": list(shares), "interval": kind}


def test_no_flip_among_a_few_samples_is_no_reason_to_stop():
    for kind in ("t", "bootstrap"):
        assert reaches(flips([0.0] * 20, kind), 0.5) is False
        assert reaches(flips([0.0] * 1000, kind), 0.5) is False
        # Wilson's of 20 of 20: 0.839 to 1, of 40: 0.912 to 1.
        assert reaches(flips([1.0] * 20, kind), 0.081) is True
        assert reaches(flips([1.0] * 20, kind), 0.08) is False
        assert reaches(flips([1.0] * 40, kind), 0.045) is True
    assert reaches(flips([0.25] * 20), 0.5) is False
    # An interval with a width is taken as it is.
    assert reaches(flips([0.25, 0.5] * 10), 0.2) is True


def test_a_rare_flip_is_looked_for_in_all_samples(tmp_path):
    path = models.save(models.cyclic_logits(), tmp_path / "m.onnx")
    rng = np.random.default_rng(6)
    flat = np.full((90, 1, 5, 5), 0.5) + 1e-3 * rng.random((90, 1, 1, 1))
    order = np.random.default_rng(0).permutation(90)
    x = flat.astype(np.float32)
    x[order[70]] = rng.random((1, 5, 5))  # one that flips, far behind the twenty
    asked = {"measures": ["flip-rate"], "precision": 0.1, "norm_samples": 2}
    result = measure(path, x, "C4", **asked)
    assert result["precision"]["samples"] == 90
    assert not result["precision"]["reached"]
    assert result["measurements"][0]["value"] > 0


def test_a_value_that_is_missing_is_named_and_not_waited_for():
    none = record("latent-cos", None, m=0.0)
    assert reaches(none, 0.1) is None
    part = judge_precision([record(), none], 0.2)
    assert part == {
        "asked": 0.2,
        "samples": 30,
        "reached": True,
        "undecided": [],
        "without_value": ["latent-cos@a"],
    }
    assert "M is missing or 0" in precision_notes(part)[1]
    assert judge_precision([none], 0.2)["reached"] is False


def by_hand(net, precision, interval="t"):
    """Stop restated: all samples are measured, then looked at from the front."""
    whole = measure(net, IMAGES, "C4", samples=120, interval=interval)["measurements"]
    for n in naive.looks(120):
        enough = []
        for r in whole:
            x = np.array(r["per_sample"])[:n]
            low, high = mean_interval(x, interval)
            perfect = {"channel-cos": -1.0, "latent-cos": -1.0 / (r["normaliser"] or 1)}
            away = abs(x.mean() - perfect.get(r["measure"], 0.0))
            enough.append((high - low) / 2 <= max(precision * away, 1e-6))
        if all(enough):
            return n, whole
    raise AssertionError("not reached")


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
@pytest.mark.parametrize("precision", [0.5, 0.2, 0.15])
def test_a_run_ends_where_all_intervals_first_are_narrow_enough(net, precision, interval):
    n, whole = by_hand(net, precision, interval)
    result = measure(net, IMAGES, "C4", precision=precision, interval=interval)
    assert result["precision"]["samples"] == n
    assert result["precision"]["reached"]
    assert {r["samples"] for r in result["measurements"]} == {n}
    assert {r["norm_samples"] for r in result["measurements"]} == {None, 120}
    for ours, theirs in zip(result["measurements"], whole, strict=True):
        m = theirs["normaliser"]
        assert ours["normaliser"] == (m and pytest.approx(m, rel=1e-5))
        expected = np.array(theirs["per_sample"])[:n]
        np.testing.assert_allclose(ours["per_sample"], expected, rtol=1e-4, atol=1e-6)


def test_the_three_precisions_end_at_three_different_samples(net):
    counts = [by_hand(net, p)[0] for p in (0.5, 0.2, 0.15)]
    assert counts == sorted(set(counts))
    assert counts[0] == 20
    assert counts[-1] < len(IMAGES)


def test_it_measures_what_so_many_samples_measure(net):
    result = measure(net, IMAGES, "C4", precision=0.2, norm_samples=60)
    n = result["precision"]["samples"]
    plain = measure(net, IMAGES, "C4", samples=n, norm_samples=60)
    assert result["data"] == plain["data"]
    assert len(result["data"]["indices"]) == max(n, 60)
    for ours, theirs in zip(result["measurements"], plain["measurements"], strict=True):
        for key in ("value", "normaliser", "stderr", "ci95"):
            if theirs[key] is not None:
                np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-7)


def test_neither_batch_size_nor_workers_nor_passes_change_how_many(net, monkeypatch):
    options = {"precision": 0.2, "norm_samples": 25}
    plain = measure(net, IMAGES, "C4", **options)
    n = plain["precision"]["samples"]
    assert 20 < n < len(IMAGES)

    def same(other):
        assert other["precision"] == plain["precision"]
        assert other["data"] == plain["data"]
        for ours, theirs in zip(other["measurements"], plain["measurements"], strict=True):
            np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-5)
            np.testing.assert_allclose(ours["normaliser"] or 0, theirs["normaliser"] or 0, 1e-5)

    for size in (1, 7, 64):
        same(measure(net, IMAGES, "C4", batch_size=size, **options))
    split = prepare(net, IMAGES, "C4", Options(memory="12kB", **options))
    assert len(split.passes) > 1
    same(measure(net, IMAGES, "C4", memory="12kB", **options))
    monkeypatch.setattr("onnx_geed.run.executor.cores", lambda: 5)
    same(measure(net, IMAGES, "C4", **options))


def test_every_orbit_is_run_once(net):
    result = measure(net, IMAGES, "C4", precision=0.2, norm_samples=70)
    n = result["precision"]["samples"]
    # Four elements of each, and the points beyond the first look once more.
    assert result["runtime"]["inferences"] == 4 * n + (70 - 20)


def test_what_is_perfectly_equivariant_takes_twenty(tmp_path):
    path = models.save(models.c4_equivariant(9), tmp_path / "m.onnx")
    x = np.random.default_rng(1).random((60, 1, 9, 9)).astype(np.float32)
    result = measure(path, x, "C4", precision=0.001)
    assert result["precision"]["samples"] == 20
    assert result["precision"]["reached"]
    path = models.save(models.c4_disturbed(9), tmp_path / "d.onnx")
    assert measure(path, x, "C4", precision=0.001)["precision"]["samples"] == 60


def test_where_the_samples_end_first_it_is_said(net):
    result = measure(net, IMAGES, "C4", precision=0.001)
    part = result["precision"]
    assert part["samples"] == len(IMAGES)
    assert not part["reached"]
    assert "softmax-kl@logits" in part["undecided"]
    assert any("after 120 samples" in note for note in result["notes"])
    few = measure(net, IMAGES[:9], "C4", precision=1.0)
    assert few["precision"]["samples"] == 9
    assert not few["precision"]["reached"]


def test_samples_are_an_upper_bound(net):
    bounded = measure(net, IMAGES, "C4", precision=0.001, samples=37)
    assert bounded["precision"]["samples"] == 37
    assert measure(net, IMAGES, "C4", precision=0.5, samples=37)["precision"]["samples"] == 20


def test_a_missing_m_does_not_keep_a_run_going(tmp_path):
    path = models.save(models.constant(), tmp_path / "m.onnx")
    x = np.random.default_rng(2).random((40, 1, 5, 5)).astype(np.float32)
    result = measure(path, x, "C4", precision=0.1)
    assert result["precision"]["samples"] == 20
    assert result["precision"]["without_value"] == ["latent-l2@latent"]
    assert any("added no samples for latent-l2@latent" in note for note in result["notes"])


def test_a_cache_is_taken_from_in_the_same_order(net, tmp_path):
    live = measure(net, IMAGES, "C4", precision=0.2)
    folder = tmp_path / "acts.geed"
    write_cache(net, IMAGES, "C4", folder, samples=len(IMAGES))
    result = measure_cache(folder, precision=0.2)
    assert result["precision"] == live["precision"]
    assert result["data"]["indices"] == live["data"]["indices"]
    for ours, theirs in zip(result["measurements"], live["measurements"], strict=True):
        assert ours["samples"] == theirs["samples"]
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-5)
    end = measure_cache(folder, precision=0.001, samples=50)
    assert end["precision"]["samples"] == 50
    assert not end["precision"]["reached"]
    with pytest.raises(GeedError, match="measure the cache with --precision"):
        write_cache(net, IMAGES, "C4", tmp_path / "b.geed", precision=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--precision 0", "above 0"),
        ("--precision -1", "above 0"),
        ("--precision nan", "above 0"),
        ("--precision 10", "± 10 %"),
        ("--precision much", "float"),
        ("--precision 0.1 --samples 10", "20"),
        ("--precision 0.1 --cache a.geed", "measure the cache with --precision"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(net, tmp_path, options, told):
    np.save(tmp_path / "x.npy", IMAGES)
    words = ["measure", str(net), "--data", str(tmp_path / "x.npy"), "--group", "C4"]
    got = CliRunner().invoke(cli, [*words, *options.split()])
    assert got.exit_code == 2
    assert got.stdout == ""
    (line,) = got.stderr.splitlines()
    assert told in line


def test_the_command_line_tells_how_many_it_took(net, tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    words = ["measure", str(net), "--data", str(tmp_path / "x.npy"), "--group", "C4"]
    out = tmp_path / "r.json"
    got = CliRunner().invoke(cli, [*words, "--precision", "0.2", "--out", str(out)])
    assert got.exit_code == 0, got.stderr
    n = json.loads(out.read_text())["precision"]["samples"]
    assert f"precision: 0.2 reached after {n} samples" in got.stdout
    assert "less than their nominal 95 %" in got.stderr
    got = CliRunner().invoke(cli, [*words, "--precision", "0.01"])
    assert "not reached by" in got.stdout
    plain = CliRunner().invoke(cli, [*words, "--format", "json"])
    assert "precision" not in json.loads(plain.stdout)


NORMAL = (lambda rng, n: rng.normal(1.0, 1.0, n), 1.0)
EXPONENTIAL = (lambda rng, n: rng.exponential(1.0, n), 1.0)
LOGNORMAL = (lambda rng, n: rng.lognormal(0.0, 1.0, n), math.exp(0.5))
HEAVY = (lambda rng, n: rng.lognormal(0.0, 2.0, n), math.exp(2.0))


def coverage(draw, truth, precision, runs=3000, most=400):
    """Share of intervals that hold the truth: where a run stopped, and of fresh samples as many."""
    rng = np.random.default_rng(11)
    stopped = fresh = 0
    for _ in range(runs):
        x = draw(rng, most)
        for n in looks(most):
            entry = record(value=float(x[:n].mean()), half=0.0, samples=n)
            entry["ci95"] = mean_interval(x[:n])
            if reaches(entry, precision):
                break
        stopped += entry["ci95"][0] <= truth <= entry["ci95"][1]
        low, high = mean_interval(draw(rng, n))
        fresh += low <= truth <= high
    return stopped / runs, fresh / runs


@pytest.mark.parametrize(
    ("samples", "precision", "holds", "loss"),
    [
        (NORMAL, 0.3, (0.93, 0.96), (-0.02, 0.02)),
        (EXPONENTIAL, 0.3, (0.905, 0.945), (-0.01, 0.03)),
        # One that is skewed stops too early where the rare large values have not come yet.
        (LOGNORMAL, 0.3, (0.845, 0.9), (0.01, 0.06)),
        (HEAVY, 0.5, (0.6, 0.75), (0.05, 0.2)),
    ],
    ids=["normal", "exponential", "lognormal 1", "lognormal 2"],
)
def test_stopping_costs_coverage_as_the_documentation_says(samples, precision, holds, loss):
    stopped, fresh = coverage(*samples, precision)
    assert holds[0] < stopped < holds[1], (stopped, fresh)
    assert loss[0] < fresh - stopped < loss[1], (stopped, fresh)
