"""No output option replaces what the command reads, whatever that is called."""

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnx_geed import GeedError
from onnx_geed.cli import cli
from onnx_geed.cli.places import Output
from onnx_geed.spared import spare_caches

DEMO = Path(str(files("onnx_geed.demo")))
FEW = ("--samples=3", "--norm-samples=4", "--measure=latent-l2", "--group=C4")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one of everything that is read."""
    monkeypatch.chdir(tmp_path)
    model = onnx.load(DEMO / "digits_cnn.onnx")
    onnx.save(model, "net.onnx")
    onnx.save(
        model, "big.onnx", save_as_external_data=True, location="big.weights", size_threshold=1
    )
    images = np.load(DEMO / "digits.npz")
    x = next(images[k] for k in images.files if images[k].ndim > 2)[:6]
    np.save("x.npy", x)
    np.save("labels.npy", np.zeros(6, np.int64))
    Path("images").mkdir()
    np.save("images/one.npy", x[0])
    os.link("net.onnx", "hard.onnx")
    Path("soft.onnx").symlink_to("net.onnx")
    Path("pre.json").write_text('{"scale": 1.0}')
    shutil.copy(DEMO / "digits.npz", "table.npz")
    return tmp_path


def states(folder):
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def refused(*words):
    before = states(Path.cwd())
    got = CliRunner().invoke(cli, [*words])
    assert got.exit_code == 2, got.output
    assert states(Path.cwd()) == before
    return got.output.splitlines()[-1]


@pytest.mark.parametrize("option", ["--out", "--junit"])
@pytest.mark.parametrize(
    ("out", "more"),
    [
        ("net.onnx", ()),
        ("hard.onnx", ()),
        ("soft.onnx", ()),
        ("images/../net.onnx", ()),
        ("x.npy", ()),
        ("labels.npy", ("--labels=labels.npy",)),
        ("labels.npy", ("--target=latent=labels.npy",)),
        ("labels.npy", ("--feed=other=labels.npy",)),
        ("labels.npy", ("--mask=x=labels.npy",)),
        ("labels.npy", ("--masks=labels.npy",)),
        ("pre.json", ("--preprocess=pre.json",)),
        ("table.npz", ("--output-action=block1=table.npz",)),
        ("images/one.npy", ("--group=background:images/8",)),
    ],
)
def test_measure_replaces_nothing_that_it_reads(place, option, out, more):
    words = ("measure", "net.onnx", "--data=x.npy", *FEW, "--fail-above=latent-l2=1", *more)
    if "--group=background:images/8" in more:
        words = tuple(w for w in words if w != "--group=C4")
    assert refused(*words, option, out).startswith(f"onnx-geed: {option} {out}: would overwrite ")


def test_nor_weights_nor_samples_of_a_folder_nor_another_output(place):
    data = ("--data=x.npy", *FEW)
    assert "big.weights" in refused("measure", "big.onnx", *data, "--out=big.weights")
    assert "images" in refused("measure", "net.onnx", "--data=images", *FEW, "--out=images/one.npy")
    Path("r.json").write_text("{}")
    words = ("measure", "net.onnx", *data, "--fail-above=latent-l2=1", "--out=r.json")
    assert "r.json" in refused(*words, "--junit=r.json")
    Path("r.C4.json").write_text("{}")
    more = ("--group=C8", "--preprocess=r.C4.json")
    assert "r.C4.json" in refused("measure", "net.onnx", *data, *more, "--out=r.json")


def test_nor_do_the_other_commands(place):
    for command in (
        ("compile", "net.onnx", "--group=C4", "-o", "net.onnx"),
        ("compile", "net.onnx", "--group=C4", "--data=x.npy", "-o", "x.npy"),
        ("annotate", "net.onnx", "--preprocess=pre.json", "-o", "pre.json"),
        ("fit", "net.onnx", "--data=table.npz", "--group=C4", "-o", "table.npz"),
        ("aggregate", "pre.json", "--out=pre.json"),
        ("compare", "pre.json", "r.json", "--out=pre.json"),
        ("report", "pre.json", "-o", "pre.json"),
        ("report", "pre.json", "--data=x.npy", "-o", "x.npy"),
    ):
        assert "which is read" in refused(*command), command


@pytest.mark.parametrize(
    "words", [("annotate", "--latent=latent"), ("compile", "--group=C4", "--data=x.npy")]
)
def test_weights_beside_a_model_replace_no_other_file(place, words):
    words = (words[0], "big.onnx", *words[1:], "-o", "o/m.onnx")
    Path("o").mkdir()
    for _ in range(2):  # the second time they lie there already
        got = CliRunner().invoke(cli, [*words])
        assert got.exit_code == 0, got.output
    Path("o/big.weights").write_text("precious")
    got = CliRunner().invoke(cli, [*words])
    assert got.exit_code == 2, got.output
    line = got.output.splitlines()[-1]
    assert line.startswith("onnx-geed: -o o/m.onnx: ")
    assert f"{Path('o/big.weights')} would be replaced" in line
    assert Path("o/big.weights").read_text() == "precious"
    assert sorted(os.listdir("o")) == ["big.weights", "m.onnx"]


def test_a_result_may_lie_beside_the_samples_and_be_written_again(place):
    for _ in range(2):
        words = ("measure", "net.onnx", "--data=images", *FEW[1:], "--samples=1")
        got = CliRunner().invoke(cli, [*words, "--out=images/r.json"])
        assert got.exit_code == 0, got.output
    assert json.loads(Path("images/r.json").read_text())["measurements"]


def test_nothing_is_added_to_a_cache(place):
    words = ("cache", "net.onnx", "--data=x.npy", "--group=C4", "--measure=latent-l2")
    words += ("--samples=3", "--norm-samples=4")
    got = CliRunner().invoke(cli, [*words, "-o", "acts.geed"])
    assert got.exit_code == 0, got.output
    Path("alias").symlink_to("acts.geed")
    of_model = ("measure", "net.onnx", "--data=x.npy", *FEW)
    Path("r.json").write_text("{}")
    for command in (
        ("measure", "acts.geed", "--out=acts.geed/r.json"),
        ("measure", "acts.geed", "--out=alias/r.json"),
        (*of_model, "--out=acts.geed/r.json"),
        (*of_model, "--fail-above=latent-l2=1", "--junit=acts.geed/j.xml"),
        (*of_model, "--cache=acts.geed/more"),
        ("annotate", "net.onnx", "--latent=latent", "-o", "acts.geed/net.onnx"),
        ("report", "r.json", "-o", "p.html", "--pictures=acts.geed"),
        ("benchmark", "suite.toml", "-o", "acts.geed"),
        ("benchmark", "suite.toml", "-o", "acts.geed/out"),
    ):
        assert "lies in the cache acts.geed, which holds activations only" in refused(*command)
    got = CliRunner().invoke(cli, [*words, "-o", "acts.geed"])  # again
    assert got.exit_code == 0, got.output


def test_a_file_that_is_only_named_like_that_of_a_cache_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cache.h5").write_bytes(b"of another program")
    Path("below").mkdir()
    spare_caches(Path("below/r.json"), "--out")
    Path("shard-00000000.h5").write_bytes(b"and with shards, it is one")
    with pytest.raises(GeedError, match="lies in the cache"):
        spare_caches(Path("below/r.json"), "--out")


@pytest.mark.parametrize("out", ["images/new.npy", "images/new.png", "images/c/new"])
def test_nothing_new_is_added_to_samples(place, out):
    Path("images/c").mkdir()
    for option in ("--out", "--junit"):
        words = ("measure", "net.onnx", "--data=images", *FEW, "--fail-above=latent-l2=1")
        line = refused(*words, option, out)
        assert line == (
            f"onnx-geed: {option} {out}: would add a file to images, which is read; name a file "
            "elsewhere"
        )


def test_every_option_that_names_an_output_is_known_as_one():
    """What it writes is no more than a guess from its words, but a new one is to be thought of."""
    outputs = {
        f"{name} {parameter.opts[0]}"
        for name, command in cli.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, Output)
    }
    named = {
        f"{name} {parameter.opts[0]}"
        for name, command in cli.commands.items()
        for parameter in command.params
        if {"-o", "--out", "--junit", "--cache", "--pictures", "--report"} & {*parameter.opts}
    }
    assert outputs == named
    assert all(type(command).__name__ == "Guarded" for command in cli.commands.values())
