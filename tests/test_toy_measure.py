"""A measure of one's own is one entry and one function: every door knows it then, by its entry."""

import json

import models
import naive
import numpy as np
import pytest
from click.testing import CliRunner
from running import images, orbits

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
    unit="toy units",
    title="Largest difference of an entry",
    label="toy EED",
    formula="m = largest difference of an entry: 0 where they agree",
    pairs=largest_difference,
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(CATALOGUE, TOY.name, TOY)
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


def by_hand(seed=4):
    """m of every sample and element, as one would write it down."""
    model, data = models.random_cnn(seed, (6, 6)), images((3, 6, 6), 8)
    chosen, _ = naive.sample_indices(8, OPTIONS["seed"], SAMPLES, 6)
    (values,) = orbits(model, GROUP, data[chosen], ["logits"], None)
    deviations = []
    for orbit in values.astype(float):
        mean = sum(orbit) / len(orbit)
        deviations.append([max(abs(a - b) for a, b in zip(y, mean, strict=True)) for y in orbit])
    return np.array(deviations)


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


def test_it_stands_beside_the_others_and_is_taken_by_default(case, toy):
    records = geed.measure(*case, GROUP, **OPTIONS)["measurements"]
    assert [r["measure"] for r in records][-1] == toy
    assert len({r["measure"] for r in records}) == 5


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


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_gives_the_same_bits(case, toy, tmp_path, mode):
    live = geed.measure(*case, GROUP, measures=[toy], **OPTIONS)
    write_cache(*case, GROUP, tmp_path / "a.geed", mode=mode, measures=[toy], **OPTIONS)
    kept = measure_cache(tmp_path / "a.geed", measures=[toy])
    assert kept["measurements"] == live["measurements"]


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
    made = geed.measure(*case, GROUP, measures=[toy], references=True, untrained=True, **OPTIONS)
    (record,) = made["measurements"]
    assert record["references"]["numeric"]["value"] < 1e-4
    assert record["references"]["output_round_trip"]["value"] == 0
    assert record["references"]["untrained"]["value"] > 0
    assert record["relative"] == pytest.approx(record["value"] / record["between_samples"])


def test_a_limit_of_a_measure_that_is_none_names_it_among_the_others(case, toy):
    with pytest.raises(GeedError, match=f"there are .*{toy}"):
        geed.measure(*case, GROUP, measures=["toy-min"], **OPTIONS)
