"""A measure of one's own is one entry and one function: every door knows it then, by its entry."""

import json
from dataclasses import replace

import models
import naive
import numpy as np
import pytest
from click.testing import CliRunner
from running import images, orbits, run as run_plainly

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.groups import Permutation
from onnx_geed.measures import CATALOGUE, Descriptor, Measure, orbit_deviations
from onnx_geed.run import compile_measurement

GROUP, SAMPLES = "C4", 5
OPTIONS = {"samples": SAMPLES, "norm_samples": 6, "seed": 3, "provider": "cpu"}
LINE = ("--group", GROUP, "--samples", 5, "--norm-samples", 6, "--seed", 3, "--provider", "cpu")


def largest_difference(points, references, out):
    out[:] = np.abs(points - references).max(axis=1)


TOY = Descriptor(
    name="toy-max",
    role="output",
    view="points",
    actions="vectors",
    perfect=0.0,
    worst=float("inf"),
    unit="distance",
    title="Largest difference of an entry",
    label="toy EED",
    formula="m = largest difference of an entry: 0 where they agree",
    pairs=largest_difference,
)


def distances_of_sums(sums, out):
    out[:] = sums[:, 1] + sums[:, 2] - 2 * sums[:, 0]


def total_variation(logs, references, out):
    out[:] = np.abs(np.exp(logs) - np.exp(references)).sum(axis=1) / 2


def mean_over_pairs(points):
    pairs = [np.abs(a - b).max() for i, a in enumerate(points) for b in points[:i]]
    return sum(pairs) / len(pairs)


#: A measure of each kind: of maps that turn along, of the latent with an M, of class scores.
TOYS = {
    toy.name: toy
    for toy in (
        TOY,
        replace(
            TOY,
            name="toy-map",
            role="channel",
            view="maps",
            actions="grid",
            pairs=distances_of_sums,
        ),
        replace(
            TOY, name="toy-latent", role="latent", actions="trivial", normaliser=mean_over_pairs
        ),
        replace(
            TOY,
            name="toy-variation",
            view="scores",
            actions="permutations",
            unit="share",
            worst=1.0,
            pairs=total_variation,
        ),
    )
}


@pytest.fixture
def toy(monkeypatch):
    for name, entry in TOYS.items():
        monkeypatch.setitem(CATALOGUE, name, entry)
    return TOY.name


@pytest.fixture
def case(tmp_path, toy):
    """A network and its samples, on the disk."""
    model, data = models.random_cnn(4, (6, 6)), images((3, 6, 6), 8)
    np.save(tmp_path / "data.npy", data)
    return models.save(model, tmp_path / "model.onnx"), tmp_path / "data.npy"


def run(*words, code=0):
    outcome = CliRunner().invoke(cli, [str(word) for word in words])
    assert outcome.exit_code == code, outcome.output
    return outcome


def activations(tensor, seed=4):
    """f(gx) of a tensor, and f(x) of the samples of M, by the runtime alone."""
    model, data = models.random_cnn(seed, (6, 6)), images((3, 6, 6), 8)
    chosen, for_m = naive.sample_indices(8, OPTIONS["seed"], SAMPLES, 6)
    (values,) = orbits(model, GROUP, data[chosen], [tensor], None)
    (points,) = run_plainly(model, data[for_m], [tensor])
    return values.astype(float), points.astype(float)


def by_hand(seed=4, tensor="logits"):
    """m of every sample and element, as one would write it down."""
    deviations = []
    for orbit in activations(tensor, seed)[0]:
        mean = sum(orbit) / len(orbit)
        deviations.append([max(abs(a - b) for a, b in zip(y, mean, strict=True)) for y in orbit])
    return np.array(deviations)


def maps_by_hand(tensor):
    values, _ = activations(tensor)
    return np.array(
        [
            [((orbit[k] - np.rot90(orbit[0], k, axes=(1, 2))) ** 2).sum((1, 2)) for k in range(4)]
            for orbit in values
        ]
    )


def scores_by_hand():
    logits, _ = activations("logits")
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return np.abs(p - p.mean(axis=1, keepdims=True)).sum(axis=2) / 2


def test_it_measures_what_a_loop_by_hand_does(case, toy):
    (record,) = geed.measure(*case, GROUP, measures=[toy], **OPTIONS)["measurements"]
    want = by_hand()
    assert want.min() > 1e-4
    np.testing.assert_allclose(record["deviations"], want, rtol=1e-4)
    assert record["value"] == pytest.approx(want.mean(), rel=1e-4)
    assert record["normaliser"] is None
    assert record["zero_pairs"] == 0
    with pytest.raises(AssertionError):  # another network's are seen to differ
        np.testing.assert_allclose(record["deviations"], by_hand(seed=5), rtol=1e-4)


def test_measures_of_maps_latents_and_scores_are_taken_by_default_and_right(case, toy):
    records = geed.measure(*case, GROUP, **OPTIONS)["measurements"]
    by_name = {}
    for record in records:
        by_name.setdefault(record["measure"], []).append(record)
    assert [name for name in by_name if name in TOYS] == list(TOYS)
    assert len(by_name) == 4 + len(TOYS)
    for record in by_name["toy-map"]:
        of_channels = maps_by_hand(record["layer"])
        np.testing.assert_allclose(record["deviations"], of_channels.mean(axis=2), rtol=1e-3)
        np.testing.assert_allclose(record["per_channel"], of_channels.mean((0, 1)), rtol=1e-3)
    assert len(by_name["toy-map"]) > 1
    (record,) = by_name["toy-variation"]
    np.testing.assert_allclose(record["deviations"], scores_by_hand(), rtol=1e-3)
    (record,) = by_name["toy-latent"]
    m = mean_over_pairs(activations(record["layer"])[1])
    assert record["normaliser"] == pytest.approx(m, rel=1e-3)
    want = by_hand(tensor=record["layer"])
    assert record["value"] == pytest.approx(want.mean() / m, rel=1e-3)


def test_a_permutation_moves_it(toy):
    table = np.array([[(j - k) % 4 for j in range(4)] for k in range(4)])
    group = geed.parse_group(GROUP)
    y = np.random.default_rng(0).normal(size=(4, 4))
    got, _ = orbit_deviations(Measure(toy, "t", Permutation(group, table)), y)
    np.testing.assert_allclose(got, [np.abs(y[g] - y[0][table[g]]).max() for g in range(4)])


def test_the_terminal_has_its_row_and_the_gate_its_exit_code(case, toy):
    line = ("measure", case[0], "--data", case[1], *LINE, "--measure", toy)
    value = by_hand().mean()
    passed = run(*line, "--fail-above", f"{toy}={2 * value}")
    (row,) = [r for r in passed.stdout.splitlines() if r.startswith(toy)]
    assert f"{value:.4g}"[:5] in row
    failed = run(*line, "--fail-above", f"{toy}={value / 2}", code=1)
    assert toy in failed.stderr


def test_the_page_compare_and_aggregate_know_it(case, toy, tmp_path):
    for name, seed in (("a", 4), ("b", 5)):
        models.save(models.random_cnn(seed, (6, 6)), tmp_path / f"{name}.onnx")
        run(
            *("measure", tmp_path / f"{name}.onnx", "--data", case[1], *LINE),
            *("--measure", toy, "--out", tmp_path / name),
        )
    a, b = tmp_path / "a", tmp_path / "b"
    run("report", a, b, "-o", tmp_path / "page.html")
    assert TOY.title in (tmp_path / "page.html").read_text()
    assert toy in run("compare", a, b).stdout
    run("compare", a, b, "--out", tmp_path / "both.json")
    (entry,) = json.loads((tmp_path / "both.json").read_text())["measurements"]
    assert entry["measure"] == toy
    assert toy in run("aggregate", a, b).stdout


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_gives_the_same_bits(case, toy, tmp_path, mode):
    live = geed.measure(*case, GROUP, measures=list(TOYS), **OPTIONS)
    write_cache(*case, GROUP, tmp_path / "a.geed", mode=mode, measures=list(TOYS), **OPTIONS)
    kept = measure_cache(tmp_path / "a.geed", measures=list(TOYS))
    assert {r["measure"] for r in live["measurements"]} == set(TOYS)
    assert kept["measurements"] == live["measurements"]


def test_two_measures_of_maps_share_the_sums_of_a_cache_but_not_the_pairs_of_samples(
    case, toy, tmp_path
):
    both = ["channel-cos", "toy-map"]
    live = geed.measure(*case, GROUP, measures=both, **OPTIONS)["measurements"]
    write_cache(*case, GROUP, tmp_path / "a.geed", mode="stats", measures=both, **OPTIONS)
    kept = measure_cache(tmp_path / "a.geed", measures=both)["measurements"]
    assert len(kept) == len(live) > 2
    for a, b in zip(kept, live, strict=True):
        assert a["deviations"] == b["deviations"]
        if a["measure"] == both[0]:
            assert a == b
        else:
            assert a["between_samples"] is None
            assert b["between_samples"] > 0
            assert any("no between_samples" in note for note in a["notes"])


def test_a_measure_without_nodes_is_taken_by_the_kernels_alone(case, toy, tmp_path):
    line = ("measure", case[0], "--data", case[1], *LINE, "--measure", toy)
    refused = run(*line, "--engine", "graph", code=2)
    (message,) = [r for r in refused.stderr.splitlines() if "engine" in r]
    assert toy in message
    assert "--engine kernels" in message
    run(*line, "--engine", "auto", "--out", tmp_path / "result")
    assert json.loads((tmp_path / "result").read_text())["runtime"]["engine"] == "kernels"
    with pytest.raises(GeedError, match=f"compile .*{toy}.*--measure"):
        compile_measurement(case[0], GROUP, tmp_path / "m.onnx", measures=[toy])


def test_references_and_the_untrained_network_know_it(case, toy):
    result = geed.measure(*case, GROUP, measures=[toy], references=True, untrained=True, **OPTIONS)
    (record,) = result["measurements"]
    assert record["references"]["numeric"]["value"] < 1e-4
    assert record["references"]["output_round_trip"]["value"] == 0
    assert record["references"]["untrained"]["value"] > 0
    assert record["relative"] == pytest.approx(record["value"] / record["between_samples"])


def test_a_limit_of_a_measure_that_is_none_names_it_among_the_others(case, toy):
    with pytest.raises(GeedError, match=f"choose from .*{toy}"):
        geed.measure(*case, GROUP, measures=["toy-min"], **OPTIONS)
