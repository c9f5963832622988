"""A TOML list of models × data × groups × measures is run, resumed, added up and drawn."""

import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import h5py
import letter_models
import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

import onnx_geed
from onnx_geed.cli import cli
from onnx_geed.data import Samples
from onnx_geed.errors import GeedError
from onnx_geed.report.suite_figures import suite_picture
from onnx_geed.results import mean_interval
from onnx_geed.run import benchmark
from onnx_geed.run.suite_file import Cell, read_suite
from onnx_geed.run.suite_forecast import Forecast

SUITE = """
title = "two trainings"
groups = ["C4"]
measures = ["latent-l2", "softmax-kl"]
[options]
samples = 6
norm-samples = 9
[[models]]
name = "{kind}"
path = "runs/{kind}{seed}/step{step}.onnx"
[[data]]
name = "noise"
path = "noise.npy"
"""


@pytest.fixture
def box(tmp_path):
    """A folder of checkpoints: two kinds, two seeds, two steps."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", rng.random((9, 3, 8, 8)).astype(np.float32))
    for kind in "ab":
        for seed in range(2):
            folder = tmp_path / "runs" / f"{kind}{seed}"
            folder.mkdir(parents=True)
            for step in (0, 100):
                number = (kind == "b") * 100 + 10 * seed + step
                models.save(models.random_cnn(number, (8, 8)), folder / f"step{step}.onnx")
    (tmp_path / "suite.toml").write_text(SUITE)
    lines = []

    def run(suite=tmp_path / "suite.toml"):
        lines.clear()
        return benchmark(suite, tmp_path / "out", notify=lines.append)

    def write(text):
        (tmp_path / "suite.toml").write_text(text)

    return SimpleNamespace(folder=tmp_path, run=run, write=write, lines=lines)


def of(result, **wanted):
    (row,) = [r for r in result["rows"] if all(r[k] == v for k, v in wanted.items())]
    return row


def test_a_row_is_the_mean_over_seeds_of_what_measure_finds(box):
    row = of(box.run(), model="a", step=100, measure="latent-l2")
    alone = [
        onnx_geed.measure(
            box.folder / f"runs/a{seed}/step100.onnx",
            box.folder / "noise.npy",
            "C4",
            measures=["latent-l2"],
            samples=6,
            norm_samples=9,
        )["measurements"][0]
        for seed in range(2)
    ]
    assert row["values"] == [m["value"] for m in alone]
    assert row["values"][0] != row["values"][1]
    assert row["mean"] == pytest.approx(np.mean(row["values"]), rel=1e-12)
    assert row["ci95_over_models"] == list(mean_interval(row["values"]))
    assert row["ci95_over_samples"] is None
    assert row["normalisers"] == [m["normaliser"] for m in alone]
    assert row["seeds"] == [0, 1]


def test_every_model_step_and_measure_has_a_row(box):
    result = box.run()
    seen = {(r["model"], r["step"], r["measure"]) for r in result["rows"]}
    assert seen == {(m, s, w) for m in "ab" for s in (0, 100) for w in ("latent-l2", "softmax-kl")}
    assert len(list((box.folder / "out/cells").iterdir())) == 8
    assert json.loads((box.folder / "out/summary.json").read_text()) == result


def test_one_model_has_the_interval_over_samples(box):
    box.write(SUITE.replace("{kind}{seed}/step{step}", "{kind}0/step0"))
    row = of(box.run(), model="b", measure="softmax-kl")
    assert row["ci95_over_models"] is None
    assert row["ci95_over_samples"][0] < row["mean"] < row["ci95_over_samples"][1]
    assert (row["step"], row["seeds"]) == (None, [None])
    # The larger share of the two: of different samples, of the most of an orbit (here, ln 4).
    share = max(row["relative_mean"], row["mean"] / np.log(4))
    assert row["far_off_mean"] == pytest.approx(share)
    scale = share / row["mean"]
    assert row["far_off_ci95_over_samples"] == pytest.approx(
        [scale * end for end in row["ci95_over_samples"]]
    )
    other = of(box.run(), model="b", measure="latent-l2")
    assert other["far_off_mean"] == other["relative_mean"]
    assert other["far_off_ci95_over_samples"] == other["relative_ci95_over_samples"]


def test_a_family_has_its_gain_and_how_often_predictions_are_right(box):
    np.save(box.folder / "labels.npy", np.arange(9) % 4)
    more = f'output-kind = "logits"\nlabels = "{box.folder / "labels.npy"}"\n[[models]]'
    box.write(SUITE.replace('"C4"', '"jpeg:90,10", "d4"').replace("[[models]]", more))
    result = box.run()
    assert result["failed"] == []
    assert {r["group"] for r in result["rows"]} == {"jpeg:90,10", "D4"}
    row = of(result, model="a", step=100, measure="latent-l2", group="jpeg:90,10")
    own = [
        json.loads((box.folder / f"out/cells/a.seed{s}.step100.noise.jpeg-90-10.json").read_text())
        for s in range(2)
    ]
    gains = [m["gain"]["value"] for r in own for m in r["measurements"] if m.get("gain")]
    assert row["gain_mean"] == pytest.approx(np.mean(gains), rel=1e-12)
    assert row["gain_ci95_over_models"] == list(mean_interval(gains))
    assert of(result, model="a", step=0, measure="latent-l2", group="D4")["gain_mean"] is None
    row = of(result, model="a", step=100, measure="softmax-kl", group="jpeg:90,10")
    moved = [
        m["predictions"]["right"]["moved"]
        for r in own
        for m in r["measurements"]
        if m["predictions"]
    ]
    assert row["right_mean"] == pytest.approx(np.mean([m["value"] for m in moved]))
    assert row["right_ci95_over_models"] == list(mean_interval([m["value"] for m in moved]))
    assert row["right_ci95_over_samples"] is None
    kept = [
        v
        for r in own
        for m in r["measurements"]
        if m["predictions"]
        for e, v in m["predictions"]["stay"]["per_element"].items()
        if e != "e"
    ]
    assert row["stay_mean"] == pytest.approx(np.mean(kept), rel=1e-12)
    assert (
        of(result, model="a", step=100, measure="latent-l2", group="jpeg:90,10")["stay_mean"]
        is None
    )


def test_a_second_run_keeps_what_is_there(box):
    result = box.run()
    files = {p: p.stat().st_mtime_ns for p in (box.folder / "out/cells").iterdir()}
    assert box.run() == result
    assert all(line.endswith("kept") for line in box.lines)
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_data_that_cells_share_are_read_once_to_see_that_they_are_the_same(box, monkeypatch):
    box.run()
    read, plain = [], Samples.fingerprint
    monkeypatch.setattr(
        Samples, "fingerprint", lambda s, indices: read.append(s.source) or plain(s, indices)
    )
    box.run()
    assert len(read) == 1
    assert all(line.endswith("kept") for line in box.lines)


def test_only_what_is_missing_is_run(box):
    result = box.run()
    (box.folder / "out/cells/a.seed1.step100.noise.C4.json").unlink()
    assert box.run() == result
    assert [line for line in box.lines if "measuring" in line] == [
        "[4/8] a seed 1 step 100, noise, C4: measuring"
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of POSIX")
def test_a_suite_that_is_killed_in_a_write_goes_on_as_if_it_had_not_been(box):
    script = (
        "import os, signal, sys\n"
        "from onnx_geed.run import benchmark\n"
        "plain, left = os.fsync, [int(sys.argv[3])]\n"
        "def killed(handle):\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    plain(handle)\n"
        "os.fsync = killed\n"
        "benchmark(sys.argv[1], sys.argv[2])\n"
    )
    killed, made = box.folder / "killed", []
    # A file and its folder are flushed: the third is the second cell's, before it has its name.
    for moment in (3, 4):
        words = [str(box.folder / "suite.toml"), str(killed), str(moment)]
        run = subprocess.run([sys.executable, "-c", script, *words], stderr=subprocess.DEVNULL)
        assert run.returncode == -signal.SIGKILL
        made.append(len(list((killed / "cells").glob("*.json"))))
    assert made == [1, 3]
    assert benchmark(box.folder / "suite.toml", killed) == box.run()
    for path in (box.folder / "out/cells").iterdir():
        cells = [json.loads(p.read_text()) for p in (path, killed / "cells" / path.name)]
        for cell in cells:
            del cell["runtime"]["seconds"], cell["created"]
        assert cells[0] == cells[1]


@pytest.mark.parametrize(
    ("change", "reason", "count"),
    [
        ("model", "the model has changed", 1),
        ("data", "the data have changed", 8),
        ("options", "measures or options have changed", 8),
        ("measures", "measures or options have changed", 8),
        ("cut", "its file is not a result", 1),
    ],
)
def test_what_has_changed_is_measured_again(box, change, reason, count):
    before = box.run()
    if change == "model":
        models.save(models.random_cnn(7, (8, 8)), box.folder / "runs/a0/step0.onnx")
    elif change == "data":
        array = np.load(box.folder / "noise.npy")
        array[4, 0, 0, 0] = 0.5
        np.save(box.folder / "noise.npy", array)
    elif change == "options":
        box.write(SUITE.replace("samples = 6", "samples = 5", 1))
    elif change == "measures":
        box.write(SUITE.replace('"latent-l2", ', ""))
    else:
        (box.folder / "out/cells/a.seed0.step0.noise.C4.json").write_text("{")
    after = box.run()
    assert sum(reason in line for line in box.lines) == count
    assert sum(line.endswith("kept") for line in box.lines) == 8 - count
    assert (after == before) == (change == "cut")


def test_one_failure_leaves_the_others_done(box):
    (box.folder / "runs/b1/step0.onnx").write_bytes(b"no model")
    result = box.run()
    assert [f["cell"] for f in result["failed"]] == ["b seed 1 step 0, noise, C4"]
    assert of(result, model="b", step=0, measure="latent-l2")["seeds"] == [0]
    assert of(result, model="b", step=100, measure="latent-l2")["seeds"] == [0, 1]


def test_the_command_ends_with_2_after_a_failure_and_0_without(box):
    command = ["benchmark", str(box.folder / "suite.toml"), "-o", str(box.folder / "out")]
    fine = CliRunner().invoke(cli, command)
    assert fine.exit_code == 0, fine.output
    assert "two trainings" in fine.stdout
    assert "models" in fine.stdout
    assert len(fine.stdout.splitlines()) > 8
    assert max(map(len, fine.stdout.splitlines())) <= 100
    (box.folder / "runs/b1/step0.onnx").write_bytes(b"no model")
    broken = CliRunner().invoke(cli, command)
    assert broken.exit_code == 2
    assert "1 of the suite's runs failed" in broken.stderr
    assert (box.folder / "out/summary.csv").read_text().count("\n") == 9


def test_pictures_have_a_curve_a_model(box):
    command = ["benchmark", str(box.folder / "suite.toml"), "-o", str(box.folder / "out")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    pictures = sorted(p.name for p in (box.folder / "out").glob("*.svg"))
    assert pictures == [
        "noise.C4.latent-l2.svg",
        "noise.C4.latent-l2.unnormalised.svg",
        "noise.C4.softmax-kl.svg",
    ]
    for name in pictures:
        root = ElementTree.parse(box.folder / "out" / name).getroot()
        texts = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
        assert {"a", "b", "iteration", "100"} <= set(texts)


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"step": [None], "data": ["x", "y"]}, {"x", "y", "m"}),
        ({"step": [None], "data": ["x"], "layer": ["p", "q"]}, {"p", "q", "m"}),
        ({"step": [None], "data": ["x"], "model": ["m", "n"]}, {"m", "n"}),
        ({"step": [0, 5], "data": ["x"], "layer": ["p", "q"]}, {"p", "q", "iteration"}),
    ],
)
def test_pictures_are_over_steps_else_data_else_layers_else_models(fields, texts):
    base = {"model": ["m", "n"], "step": [None], "data": ["x"], "layer": ["p"]} | fields
    rows = [
        {"model": m, "step": s, "data": d, "layer": y, "group": "C4", "measure": "channel-cos"}
        | {"mean": -0.5, "ci95_over_models": [-0.6, -0.4], "ci95_over_samples": None}
        | {"unnormalised_mean": None, "unnormalised_ci95_over_models": None}
        for m in base["model"]
        for s in base["step"]
        for d in base["data"]
        for y in base["layer"]
    ]
    root = ElementTree.fromstring(suite_picture(rows))
    drawn = {"".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")}
    assert texts <= drawn


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("groups", "group", "unknown key group; choose from .* Did you mean 'groups'"),
        ("samples = 6", "sample = 6", r"unknown key options.sample; .* Did you mean 'samples'"),
        ("samples = 6", 'samples = "6"', "options.samples is a whole number, found a text"),
        ("samples = 6", "samples = 0", "options: --samples 0"),
        (
            "samples = 6",
            "references = 1",
            "options.references is true or false, found the number 1",
        ),
        ("samples = 6", "samples = true", "options.samples is a whole number, found True"),
        ("samples = 6", "seed = 1.5", "options.seed is a whole number, found the number 1.5"),
        ("samples = 6", 'precision = "0.1"', "options.precision is a number, found a text, '0.1'"),
        ("samples = 6", "precision = nan", "options: --precision nan"),
        ("samples = 6", "precision = 1979-05-27", "options.precision is a number, found the date"),
        ("samples = 6", 'untrained = "yes"', "options.untrained is true or false, found a text"),
        ("samples = 6", 'support = "disc"', "options.support disc: .* Did you mean 'disk'"),
        ("samples = 6", 'interpolation = "cubic"', "options.interpolation cubic: .*'bicubic'"),
        ("samples = 6", "engine = 1", "options.engine 1: choose auto, kernels or graph"),
        ("samples = 6", 'layout = ["a"]', "options.layout is a mapping of texts to texts, found"),
        ("samples = 6", "feed = {a = 1}", "options.feed is a mapping of texts to texts"),
        ("samples = 6", "input = 3", "options.input is a text, found the number 3"),
        ("samples = 6", 'layers = ["a"]', "unknown key options.layers"),
        ("norm-samples = 9", "norm_samples = 1\nnorm-samples = 9", "there twice"),
        ('["C4"]', '"C4"', "groups is a list of texts"),
        ('["C4"]', '["C4", "C4"]', "groups holds 'C4' twice"),
        ('["C4"]', "[]", "has no groups"),
        ("[[data]]", "[data]", r"data is a list of tables, each headed \[\[data\]\]"),
        ('path = "noise.npy"', "", r"data\[0\].path is missing"),
        ("noise.npy", "noize.npy", r"data\[0\].path: there is nothing at .*'noise.npy'"),
        ('name = "noise"', "name = 3", r"data\[0\].name is a text in quotes, found the number 3"),
        ("runs/", "run/", r"models\[0\].path: no file matches run/"),
        ('"{kind}"', '"{sort}"', r"models\[0\].name has {sort}, .*it has kind"),
        (
            '"{kind}"',
            '"net"',
            "are both called 'net'; give them different names, or distinguish them",
        ),
        ("step{step}", "*", "are both called 'a'"),
        ("title =", "title ==", "is not TOML"),
        ("title =", "title = 1979-05-27 #", "title is a text in quotes, found the time 1979-05-27"),
        ("samples = 6", "samples = 1979-05-27", "a whole number, found the date 1979-05-27"),
        ("samples = 6", "engine = 07:32:00", "options.engine 07:32:00: choose auto"),
        ("samples = 6", "samples = [{a = 1979-05-27}]", r"found the list \[{'a': 1979-05-27}\]"),
        ("title =", f"a = {'[' * 900}{']' * 900}\ntitle =", "lie in each other too deep"),
    ],
)
def test_a_mistake_is_named_by_its_key(box, old, new, lines):
    box.write(SUITE.replace(old, new, 1))
    with pytest.raises(GeedError, match=lines) as caught:
        box.run()
    assert "suite.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["[a", "[[[a-z", "[]", "[z-a]", "[^", "[!"])
def test_a_bracket_that_is_no_class_of_letters_ends_in_one_line(box, name):
    box.write(SUITE.replace("runs/{kind}{seed}", f"runs/{name}{{kind}}{{seed}}"))
    with pytest.raises(GeedError, match="no file matches"):
        read_suite(box.folder / "suite.toml")


def test_a_bracket_that_nothing_closes_stands_for_itself(box):
    (box.folder / "runs").rename(box.folder / "[runs")
    box.write(SUITE.replace("runs/", "[runs/"))
    assert len(read_suite(box.folder / "suite.toml").cells) == 8


def test_places_may_return_and_globs_are_allowed(box):
    box.write(SUITE.replace("runs/{kind}{seed}", "r?ns/**/[a]{seed}").replace('"{kind}"', '"x"'))
    cells = read_suite(box.folder / "suite.toml").cells
    assert [(c.model, c.seed, c.step) for c in cells] == [
        ("x", seed, step) for seed in (0, 1) for step in (0, 100)
    ]
    (box.folder / "runs/a1/1.onnx").write_bytes(b"")
    (box.folder / "runs/a1/2.onnx").write_bytes(b"")
    box.write(
        SUITE.replace("runs/{kind}{seed}/step{step}", "runs/a{seed}/{seed}").replace(
            '"{kind}"', '"x"'
        )
    )
    (cell,) = read_suite(box.folder / "suite.toml").cells
    assert cell.path.endswith("a1/1.onnx")


def test_how_to_fit_may_be_told_to_all_models_where_some_are_fitted(box):
    told = SUITE.replace("samples = 6\n", "samples = 6\nfit-samples = 3\nfit-anyway = true\n", 1)
    told = told.replace("{kind}", "a").replace("a{seed}/step{step}", "a0/step0")
    plain = '[[models]]\nname = "b"\npath = "runs/b0/step0.onnx"\n'
    box.write(told + plain)
    with pytest.raises(GeedError, match=r"suite\.toml: --fit-samples: nothing is fitted"):
        box.run()
    fits = 'measures = ["unexplained@latent"]\n'
    fits += '[models.options]\noutput-action = {latent = "fit:linear"}\n'
    box.write(told.replace("[[data]]", fits + "[[data]]") + plain)
    done = box.run()
    assert done["failed"] == []
    values = {(row["model"], row["measure"]) for row in done["rows"]}
    assert values == {("a", "unexplained"), ("b", "latent-l2"), ("b", "softmax-kl")}


def test_the_narrower_option_wins(box):
    text = SUITE + '[data.options]\nseed = 4\nsamples = 7\n[[models]]\nname = "one"\n'
    text += 'path = "runs/a0/step0.onnx"\nmeasures = ["output-l2"]\n[models.options]\nsamples = 8\n'
    box.write(text)
    cells = {c.model: c for c in read_suite(box.folder / "suite.toml").cells}
    assert cells["a"].options == {"samples": 7, "norm_samples": 9, "seed": 4}
    assert cells["one"].options == {"samples": 8, "norm_samples": 9, "seed": 4}
    assert cells["one"].measures == ("output-l2",)


def test_a_suite_takes_every_option_that_measure_takes(box):
    text = SUITE.replace("{kind}{seed}/step{step}", "{kind}0/step0")
    labels = "labels = [0, 1, 2, 0, 1, 2, 0, 1, 2]"
    box.write(
        text.replace("samples = 6", f"samples = 6\nuntrained = true\nmemory = 1000000\n{labels}")
    )
    box.run()
    cell = json.loads((box.folder / "out/cells/a.noise.C4.json").read_text())
    alone = onnx_geed.measure(
        box.folder / "runs/a0/step0.onnx",
        box.folder / "noise.npy",
        "C4",
        measures=["latent-l2", "softmax-kl"],
        samples=6,
        norm_samples=9,
        untrained=True,
        labels=[0, 1, 2] * 3,
    )
    assert cell["measurements"] == json.loads(json.dumps(alone["measurements"]))
    assert cell["measurements"][0]["references"]["untrained"]["value"] is not None
    box.run()
    assert all(line.endswith("kept") for line in box.lines)


def test_a_suite_with_a_precision_keeps_what_is_there(box):
    rng = np.random.default_rng(0)
    np.save(box.folder / "noise.npy", rng.random((40, 3, 8, 8)).astype(np.float32))
    text = SUITE.replace("{kind}{seed}/step{step}", "{kind}0/step0")
    box.write(text.replace("samples = 6", "precision = 1"))
    result = box.run()
    cell = json.loads((box.folder / "out/cells/a.noise.C4.json").read_text())
    assert cell["precision"]["samples"] == 20
    assert box.run() == result
    assert all(line.endswith("kept") for line in box.lines)
    changed = np.load(box.folder / "noise.npy")
    changed[cell["data"]["indices"][15]] = 0.5
    np.save(box.folder / "noise.npy", changed)
    box.run()
    assert all("the data have changed" in line for line in box.lines)


def cells_of(count):
    return [
        Cell("net", "x", f"C{i}", f"C{i}", None, None, "net.onnx", "x.npy", (), {})
        for i in range(count)
    ]


def test_a_long_suite_says_what_it_does_and_how_long_it_takes():
    told, now = [], [0.0]
    forecast = Forecast(cells_of(400), "out", told.append, lambda: now[0])
    for _ in range(400):
        now[0] += 10
        forecast.add()
    assert told[0] == (
        "note: 400 runs (1 model file, 1 data set, 400 groups); each result is written to out, so "
        "that the same command goes on where it was stopped"
    )
    assert told[1] == "note: 6 of 400 runs are done, about 66 min left"
    assert len(told) == 1 + 4000 // 60
    told.clear()
    short = Forecast(cells_of(20), "out", told.append, lambda: now[0])
    for _ in range(20):
        now[0] += 100
        short.add()
    assert not told


def test_more_runs_than_a_suite_has_are_refused_before_they_are_listed(tmp_path):
    path = tmp_path / "s.toml"
    groups = ", ".join(f'"shift{a}x{b}"' for a in range(2, 30) for b in range(2, 40))
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "d.npy").write_bytes(b"")
    data = "\n".join(f'[[data]]\nname = "d{i}"\npath = "d.npy"' for i in range(100))
    path.write_text(f'groups = [{groups}]\n[[models]]\nname = "a"\npath = "net.onnx"\n{data}\n')
    with pytest.raises(GeedError, match=r"are 106,400 runs .* at most 100,000; make several"):
        read_suite(path)


BESIDE = """
groups = ["C4"]
measures = ["{measure}"]
[options]
samples = 6
norm-samples = 9
{options}
[[models]]
name = "m"
path = "{model}"
[[data]]
name = "d"
path = "{data}"
"""


def write_arrays(path, **arrays):
    if str(path).endswith(".h5"):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        np.savez(path, **arrays)


CASES = {
    "labels beside the data": ("symmetry-share", "", "d.npz", "y"),
    "labels in a file": ("symmetry-share", 'labels = "l.h5:/y"', "d.npz", "l"),
    "another input": ("latent-l2", "", "d.npz", "extra"),
    "a target in a file": (
        "symmetry-share@logits", '[options.target]\nlogits = "t.h5:/y"', "d.npz", "t",
    ),
    "nothing": ("latent-l2", "", "d.npz", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_whatever_comes_with_the_samples_is_looked_at_again(box, case):
    measure, options, data, changed = CASES[case]
    rng = np.random.default_rng(1)
    x = rng.random((9, 3, 8, 8)).astype(np.float32)
    models.save(models.two_input(2), box.folder / "two.onnx")
    arrays = {"x": x, "extra": rng.random((9, 2)).astype(np.float32), "y": rng.integers(0, 5, 9)}
    labels, target = rng.integers(0, 5, 9), rng.random((9, 5))

    def write():
        write_arrays(box.folder / "d.npz", **arrays)
        write_arrays(box.folder / "l.h5", y=labels)
        write_arrays(box.folder / "t.h5", y=target)

    write()
    text = BESIDE.format(measure=measure, options=options, model="two.onnx", data=data)
    box.write(text)
    before = box.run()
    assert box.run() == before
    assert all(line.endswith("kept") for line in box.lines), box.lines
    if changed in arrays:
        arrays[changed] = (arrays[changed] + 1) % 5
    labels, target = (labels + (changed == "l")) % 5, target + (changed == "t")
    write()
    after = box.run()
    fresh = benchmark(box.folder / "suite.toml", box.folder / "fresh")
    assert [row["values"] for row in after["rows"]] == [row["values"] for row in fresh["rows"]]
    assert (after["rows"] == before["rows"]) == (case == "nothing")
    assert any("measuring again" in line for line in box.lines) == (case != "nothing")


def test_models_take_each_their_own_array_of_a_file(box):
    rng = np.random.default_rng(1)
    for name in "ab":
        source = models.random_cnn(0, (8, 8))
        source.graph.input[0].name = name
        for node in source.graph.node:
            for i, text in enumerate(node.input):
                node.input[i] = name if text == "x" else text
        models.save(source, box.folder / f"{name}.onnx")
    arrays = {name: rng.random((9, 3, 8, 8)).astype(np.float32) for name in "ab"}
    write_arrays(box.folder / "d.npz", **arrays)
    two = '[[models]]\nname = "b"\npath = "b.onnx"\n[[data]]'
    text = BESIDE.format(measure="latent-l2", options="", model="a.onnx", data="d.npz")
    box.write(text.replace("[[data]]", two))
    before = box.run()
    assert box.run() == before
    assert all(line.endswith("kept") for line in box.lines)
    write_arrays(box.folder / "d.npz", **{**arrays, "b": arrays["b"] ** 2})
    after = box.run()
    assert [line.split(": ")[-1].startswith("measuring") for line in box.lines] == [False, True]
    assert after != before


SHARED = """
groups = ["S5"]
measures = ["latent-l2@y"]
[options]
samples = 6
input-layout = "{layout}"
{models}{data}
"""


def test_masks_of_the_same_sets_are_looked_at_each_on_its_own(box):
    rng = np.random.default_rng(2)
    np.save(box.folder / "sets.npy", rng.normal(size=(8, 5, 3)).astype(np.float32))
    models.save(letter_models.masked_sets(5, 3), box.folder / "m.onnx")
    data = ""
    for name in ("one", "two"):
        np.save(box.folder / f"{name}.npy", rng.integers(1, 6, size=8))
        options = f'options = {{mask = {{mask = "{name}.npy"}}}}'
        data += f'[[data]]\nname = "{name}"\npath = "sets.npy"\n{options}\n'
    model = '[[models]]\nname = "m"\npath = "m.onnx"\n'
    box.write(SHARED.format(layout="NPC", models=model, data=data).replace("@y", ""))
    before = box.run()
    assert box.run() == before
    assert [line.rpartition(": ")[2] for line in box.lines] == ["kept", "kept"]
    lengths = np.load(box.folder / "two.npy")
    np.save(box.folder / "two.npy", lengths % 5 + 1)
    box.run()
    assert [": kept" in line for line in box.lines] == [True, False]


def test_models_of_several_types_of_number_read_the_same_file(box):
    rng = np.random.default_rng(2)
    np.save(box.folder / "rows.npy", rng.integers(0, 7, size=(8, 5)))
    listed = ""
    for dtype in ("FLOAT", "INT64", "INT32"):
        x = helper.make_tensor_value_info("x", getattr(onnx.TensorProto, dtype), ["N", 5])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])
        nodes = [
            models.node("Cast", "x", "real", to=onnx.TensorProto.FLOAT),
            models.node("MatMul", "real w", "y"),
        ]
        w = models.weights("w", rng.normal(size=(5, 3)))
        graph = helper.make_graph(nodes, "g", [x], [y], [w])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        models.save(model, box.folder / f"{dtype}.onnx")
        listed += f'[[models]]\nname = "{dtype}"\npath = "{dtype}.onnx"\n'
    data = '[[data]]\nname = "d"\npath = "rows.npy"\n'
    box.write(SHARED.format(layout="NP", models=listed, data=data))
    before = box.run()
    assert before["failed"] == []
    assert box.run() == before
    assert [line.rpartition(": ")[2] for line in box.lines] == ["kept"] * 3
