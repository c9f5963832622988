"""Options that name something are given once; those without effect are refused."""

from __future__ import annotations

import json

import models
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import onnx_geed as geed
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError

IMAGES = np.random.default_rng(0).random((24, 3, 8, 8)).astype(np.float32)
FEW = ["--samples", "5", "--norm-samples", "6", "--provider", "cpu"]
OPTIONS = {"samples": 5, "norm_samples": 6, "provider": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    models.save(models.random_cnn(0, (8, 8)), folder / "net.onnx")
    models.save(models.two_input(2), folder / "two.onnx")
    np.save(folder / "x.npy", IMAGES)
    np.save(folder / "y.npy", np.zeros(24, dtype=np.int64))
    np.save(folder / "extra.npy", np.zeros((24, 2), dtype=np.float32))
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def run(*arguments):
        outcome = CliRunner().invoke(cli, [*arguments])
        return outcome.exit_code, outcome.stderr

    return run


MEASURE = ["measure", "net.onnx", "--group", "C4", *FEW, "--data", "x.npy"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ([*MEASURE, "--data", "x.npy"], "--data"),
        ([*MEASURE, "--labels", "y.npy", "--labels", "y.npy"], "--labels"),
        ([*MEASURE, "--out", "r.json", "-o", "s.json"], "--out"),
        (["compile", "net.onnx", "--group", "C2", "--group", "C4", "-o", "c.onnx"], "--group"),
        (
            [
                *("fit", "net.onnx", "--data", "x.npy", "--group", "C2", "--group", "C4"),
                *("--layer", "stem", "-o", "t.npz"),
            ],
            "--group",
        ),
        (
            [
                *("cache", "net.onnx", "--data", "x.npy", "--group", "C2", "--group", "C4"),
                *("-o", "c.geed"),
            ],
            "--group",
        ),
    ],
)
def test_what_is_named_is_named_once(run, folder, arguments, option):
    status, said = run(*arguments)
    assert status == 2
    assert f"{option}: is given twice; give it once" in said
    assert not any((folder / name).exists() for name in ("c.onnx", "t.npz", "c.geed", "r.json"))


def test_of_numbers_and_choices_the_last_counts_and_groups_may_be_several(run, folder):
    asked = [*MEASURE, "--seed", "1", "--seed", "0", "--interval", "bootstrap", "--interval", "t"]
    assert run(*asked, "--measure", "latent-l2", "--out", "last.json", "-q", "-q")[0] == 0
    result = json.loads((folder / "last.json").read_text())
    assert result["seed"] == 0
    assert result["measurements"][0]["interval"] == "t"
    assert run(*MEASURE, "--group", "C2", "--measure", "latent-l2")[0] == 0


@pytest.mark.parametrize(
    "option",
    ["--cache", "--labels", "--input", "--output", "--latent", "--preprocess", "--out", "--junit"],
)
def test_an_empty_name_is_refused(run, folder, option):
    before = sorted(path.name for path in folder.iterdir())
    status, said = run(*MEASURE, option, "")
    assert status == 2
    assert "empty" in said
    assert sorted(path.name for path in folder.iterdir()) == before


def test_one_input_has_one_layout(run):
    status, said = run(*MEASURE, "--input-layout", "NCHW", "--input-layout", "x=NHWC")
    assert status == 2
    assert "--input-layout x=NHWC: that of the acted-on input is also stated without its" in said
    same = ["--input-layout", "NCHW", "--input-layout", "x=NCHW"]
    assert run(*MEASURE, *same, "--measure", "latent-l2")[0] == 0


def test_the_acted_on_input_is_not_fed(run):
    status, said = run(*MEASURE, "--feed", "x=nowhere.npy")
    assert status == 2
    assert "--feed x: is the input that the group acts on, whose samples are --data" in said


def test_rows_that_are_too_few_are_blamed_on_their_file(folder):
    with pytest.raises(GeedError, match=r"^--feed extra: .* one row per sample, or one value"):
        geed.measure(
            folder / "two.onnx", IMAGES, "C4", feed={"extra": np.zeros((23, 2), "f")}, **OPTIONS
        )


def test_python_names_tensors_by_their_measures(folder):
    for call in (geed.measure, geed.measure_groups):
        group = "C4" if call is geed.measure else ["C4"]
        with pytest.raises(GeedError, match=r"^--layers: .*measures=\['channel-cos@NAME'\]"):
            call(folder / "net.onnx", IMAGES, group, layers=["stem"], **OPTIONS)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layers", ["stem"]),
        ("labels", np.zeros(24, dtype=int)),
        ("target", {"stem": np.zeros(1)}),
        ("references", True),
        ("untrained", True),
    ],
)
def test_a_compiled_file_and_a_fit_take_no_options_of_a_run(folder, tmp_path, option, value):
    given = {option: value}
    with pytest.raises(GeedError, match=f"^--{option}: has no effect on a compiled measurement"):
        geed.compile_measurement(folder / "net.onnx", "C4", tmp_path / "c.onnx", **given)
    if option != "layers":
        with pytest.raises(GeedError, match=f"^--{option}: has no effect on a fit"):
            geed.fit_actions(folder / "net.onnx", IMAGES, "C4", ["stem"], **given)


def test_a_suite_is_refused_at_once_for_a_measure_that_there_is_not(folder, tmp_path):
    suite = tmp_path / "s.toml"
    suite.write_text(
        'groups = ["C4"]\nmeasures = ["latent-l2", "latent-l3"]\n'
        f'[[models]]\nname = "a"\npath = "{folder}/net.onnx"\n'
        f'[[data]]\nname = "d"\npath = "{folder}/x.npy"\n'
    )
    with pytest.raises(
        GeedError, match=r"s\.toml: measures\[1\]: no measure is called 'latent-l3'"
    ):
        geed.benchmark(suite, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_classes_that_occur_twice_are_blamed_on_their_file(folder, tmp_path):
    (tmp_path / "c.txt").write_text("cat\ndog\ncat\nhen\nfox\n")
    with pytest.raises(GeedError, match=r"^--classes .*c\.txt: names 'cat' twice"):
        geed.model.annotate_model(
            folder / "net.onnx", tmp_path / "a.onnx", classes=str(tmp_path / "c.txt")
        )


@pytest.mark.parametrize("option", ["input", "output", "latent", "labels", "preprocess"])
def test_an_empty_name_is_refused_in_python_too(folder, option):
    with pytest.raises(GeedError, match=f"^--{option}: is empty"):
        geed.measure(folder / "net.onnx", IMAGES, "C4", **OPTIONS, **{option: ""})


def test_components_are_of_vectors(run):
    status, said = run(*MEASURE, "--components", "right-up", "--measure", "latent-l2")
    assert status == 0
    assert "note: --components has no effect: no input and no measured tensor has" in said
    plain = run(*MEASURE, "--components", "right-down", "--measure", "latent-l2")
    assert plain[0] == 0
    assert "--components" not in plain[1]


def test_of_sizes_the_last_counts_and_a_shell_may_ask(run, folder):
    asked = [*MEASURE, "--measure", "latent-l2", "--memory", "1kB", "--memory", "1GiB"]
    assert run(*asked)[0] == 0
    words = ShellComplete(cli, {}, "onnx-geed", "_ONNX_GEED_COMPLETE")
    line = ["measure", "net.onnx", "--data", "x.npy", "--data", "x.npy"]
    assert any(item.value == "--group" for item in words.get_completions(line, "--gr"))


@pytest.mark.parametrize("command", ["compile", "fit", "layers"])
def test_no_command_offers_what_it_refuses(command):
    said = CliRunner().invoke(cli, [command, "--help"]).stdout
    assert "--labels" not in said
    assert "--target" not in said
