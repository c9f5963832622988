"""The command line as a user meets it: one line for every misfit, nothing half-written."""

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from importlib.resources import files
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

from onnx_geed.cli import cli

DEMO = Path(str(files("onnx_geed.demo")))
ROOT = Path(__file__).parents[2]


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A folder with a good model, good data, and all that is wrong."""
    folder = tmp_path_factory.mktemp("box")
    rng = np.random.default_rng(0)
    models.save(models.random_cnn(0, (8, 8)), folder / "ok.onnx")
    for name in (
        "sequence_output",
        "unknown_operator",
        "no_batch_axis",
        "token_ids",
        "noisy",
        "two_input",
    ):
        models.save(getattr(models, name)(), folder / f"{name}.onnx")
    (folder / "cut.onnx").write_bytes((folder / "ok.onnx").read_bytes()[:300])
    (folder / "text.onnx").write_text("this is no model\n" * 20)
    (folder / "empty.onnx").write_bytes(b"")
    good = rng.random((9, 3, 8, 8)).astype(np.float32)
    np.save(folder / "x.npy", good)
    np.save(folder / "channels.npy", good[:, :1])
    np.save(folder / "rank.npy", good[:, :, :, :, None])
    np.save(folder / "size.npy", rng.random((9, 3, 9, 9)).astype(np.float32))
    np.save(folder / "small.npy", good[:, :, :6, :6])
    np.save(folder / "grey.npy", good[:, :1, :6, :6])
    np.save(folder / "none.npy", good[:0])
    np.save(folder / "integers.npy", np.zeros((9, 3, 8, 8), dtype=np.int64))
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    bad = good.copy()
    bad[5, 0, 2, 2] = np.nan
    np.save(folder / "nan.npy", bad)
    np.savez(folder / "several.npz", a=good, b=good)
    (folder / "nothing").mkdir()
    (folder / "corrupt").mkdir()
    (folder / "corrupt" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "photos").mkdir()
    for k in range(4):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{k}.png")
    return folder


BAD = {
    "no such model": ("ook.onnx --data x.npy --group C4", "no such file"),
    "a cut-off model": ("cut.onnx --data x.npy --group C4", "cut off"),
    "a text file": ("text.onnx --data x.npy --group C4", "not an ONNX model"),
    "an empty file": ("empty.onnx --data x.npy --group C4", "not an ONNX model"),
    "data as model": ("x.npy --data x.npy --group C4", "not an ONNX model"),
    "a folder as model": (". --data x.npy --group C4", "folder"),
    "wrong channels": ("ok.onnx --data channels.npy --group C4", "channels"),
    "wrong rank": ("ok.onnx --data rank.npy --group C4", "axes"),
    "wrong size": ("ok.onnx --data size.npy --group C4", "resize"),
    "NaN in the data": ("ok.onnx --data nan.npy --group C4", "sample 5"),
    "no samples": ("ok.onnx --data none.npy --group C4", "no samples"),
    "integers": ("ok.onnx --data integers.npy --group C4", "int64"),
    "pickles": ("ok.onnx --data pickled.npy --group C4", "pickled"),
    "several arrays": ("ok.onnx --data several.npz --group C4", "a, b"),
    "no such data": ("ok.onnx --data y.npy --group C4", "no such file"),
    "an empty folder": ("ok.onnx --data nothing --group C4", "no images"),
    "a corrupt photo": ("ok.onnx --data corrupt --group C4", "a.jpg"),
    "no such module": ("ok.onnx --data nomodule:f --group C4", "nomodule"),
    "zero samples": ("ok.onnx --data x.npy --group C4 --samples 0", "at least one"),
    "an unknown group": ("ok.onnx --data x.npy --group Q8", "C<n>"),
    "a group without end": ("ok.onnx --data x.npy --group SO3", "SO3~24"),
    "a group of the identity alone": ("ok.onnx --data x.npy --group C1", "moves nothing"),
    "a shift that does not divide": ("ok.onnx --data x.npy --group shift3x3", "does not divide"),
    "an unknown layer": ("ok.onnx --data x.npy --group C4 --measure latent-l2@latemt", "'latent'"),
    "an unknown measure": ("ok.onnx --data x.npy --group C4 --measure chanel-cos", "channel-cos"),
    "a measure that does not fit": (
        "ok.onnx --data x.npy --group C4 --measure channel-cos@latent",
        "one entry per channel",
    ),
    "token ids": ("token_ids.onnx --data x.npy --group C4", "no input"),
    "an unknown operator": ("unknown_operator.onnx --data small.npy --group C4", "ONNX Runtime"),
    "a sequence": ("sequence_output.onnx --data x.npy --group C4", "sequence"),
    "a random model": ("noisy.onnx --data grey.npy --group C4", "random"),
    "a missing input": ("two_input.onnx --data x.npy --group C4", "--feed"),
    "a result that cannot be written": (
        "ok.onnx --data x.npy --group C4 --out nowhere/r.json",
        "no folder",
    ),
    "no CUDA": ("ok.onnx --data x.npy --group C4 --provider cuda", "--provider cpu"),
    "no size": ("ok.onnx --data x.npy --group C4 --memory much", "2GiB"),
    "an unknown option": ("ok.onnx --data x.npy --group C4 --frob", "--frob"),
    "no data": ("ok.onnx --group C4", "--data"),
    "an unknown preset": ("ok.onnx --data x.npy --group C4 --preprocess imagnet", "imagenet"),
    "a limit that is none": ("ok.onnx --data x.npy --group C4 --fail-above latent-l2=x", "LIMIT"),
    "a limit on what is not measured": (
        "ok.onnx --data x.npy --group C4 --measure latent-l2 --fail-above softmax-kl=1",
        "not measured; measured: latent-l2",
    ),
    "no such table": ("ok.onnx --data x.npy --group C4 --output-action logits=t.npz", "t.npz"),
    "an engine that is none": ("ok.onnx --data x.npy --group C4 --engine gpu", "graph"),
    "no graph for half an orbit": (
        "ok.onnx --data x.npy --group C4 --engine graph --batch-size 2",
        "--batch-size 2 allows 2 rows, fewer than the 4 of an orbit",
    ),
    "no graph and a cache": (
        "ok.onnx --data x.npy --group C4 --engine graph --cache a.geed",
        "leave out --cache",
    ),
    "a strange layout": ("ok.onnx --data x.npy --group C4 --layout latent=NTD:2", "NTD:14x14"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_in_one_helpful_line(box, monkeypatch, case):
    if case == "no CUDA" and Path("/dev/nvidiactl").exists():
        pytest.skip("a CUDA device is here")
    monkeypatch.chdir(box)
    arguments, told = BAD[case]
    before = set(os.listdir(box))
    options = arguments.split()
    if "--out" not in options:
        options += ["--out", "result.json"]
    got = invoke("measure", *options)
    assert got.exit_code == 2, got.output
    assert got.stdout == ""
    # Where these are the first tests after an installation, compiling is told too.
    lines = [x for x in got.stderr.splitlines() if "compiling kernels" not in x]
    assert len(lines) == 1, got.stderr
    assert lines[0].startswith("onnx-geed: ")
    assert told in lines[0]
    assert set(os.listdir(box)) == before


def test_the_engine_is_chosen_and_recorded(box, monkeypatch):
    monkeypatch.chdir(box)
    common = ("measure", "ok.onnx", "--data", "x.npy", "--group", "C8", "--format", "json")
    results = {}
    for engine in ("kernels", "graph"):
        got = invoke(*common, "--provider", "cpu", "--engine", engine)
        assert got.exit_code == 0, got.stderr
        results[engine] = json.loads(got.stdout)
        assert results[engine]["runtime"]["engine"] == engine
    pairs = zip(*(m["measurements"] for m in results.values()), strict=True)
    assert all(a["value"] == pytest.approx(b["value"], abs=1e-5) for a, b in pairs)


def test_a_cache_has_no_engine_to_choose(box, monkeypatch, tmp_path):
    monkeypatch.chdir(box)
    cache = tmp_path / "acts.geed"
    done = invoke("cache", "ok.onnx", "--data", "x.npy", "--group", "C4", "-o", cache)
    assert done.exit_code == 0, done.stderr
    got = invoke("measure", cache, "--engine", "graph")
    assert got.exit_code == 2
    assert "no engine to choose" in got.stderr
    assert len(got.stderr.splitlines()) == 1


def test_a_measurement_is_compiled_and_listed(box, monkeypatch):
    monkeypatch.chdir(box)
    got = invoke("compile", "ok.onnx", "--group", "C4", "-o", "measured.onnx")
    assert got.exit_code == 0, got.stderr
    assert "samples  (N, 3, 8, 8)" in got.stdout
    assert "deviation/softmax-kl/logits  (N, 4)" in got.stdout
    onnx.checker.check_model("measured.onnx", full_check=True)
    Path("measured.onnx").unlink()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("ook.onnx --group C4", "no such file"),
        ("ok.onnx --group Q8", "C<n>"),
        ("ok.onnx", "--group"),
        ("ok.onnx --group shift3x3", "does not divide"),
        ("ok.onnx --group C4 --measure channel-cos@latent", "one entry per channel"),
        ("token_ids.onnx --group reverse --input-layout NT", "give --data"),
        ("ok.onnx --group C4 -o nowhere/m.onnx", "no folder"),
        ("ok.onnx --group C4 --output-action logits=t.npz", "t.npz"),
        ("ok.onnx --group C4 --data size.npy", "resize"),
        ("two_input.onnx --group C4", "--feed"),
        ("noisy.onnx --group C4", "random"),
    ],
)
def test_what_cannot_be_compiled_is_told_in_one_line(box, monkeypatch, arguments, told):
    monkeypatch.chdir(box)
    before = set(os.listdir(box))
    options = arguments.split()
    if "-o" not in options:
        options += ["-o", "measured.onnx"]
    got = invoke("compile", *options)
    assert got.exit_code == 2, got.output
    assert got.stdout == ""
    # Once after installation, kernels are compiled, and that is said.
    lines = [line for line in got.stderr.splitlines() if "compiling kernels" not in line]
    assert len(lines) == 1, got.stderr
    assert lines[0].startswith("onnx-geed: ")
    assert told in lines[0]
    assert set(os.listdir(box)) == before


def test_a_good_run_prints_the_table_and_writes_the_result(box, monkeypatch):
    monkeypatch.chdir(box)
    got = invoke("measure", "ok.onnx", "--data", "photos", "--group", "D4", "--out", "r.json")
    assert got.exit_code == 0, got.stderr
    result = json.loads((box / "r.json").read_text())
    assert result["data"]["names"][0].endswith(".png")
    assert max(map(len, got.stdout.splitlines())) <= 100
    for record in result["measurements"]:
        assert record["layer"][:8] in got.stdout
    (box / "r.json").unlink()


def test_stdout_carries_json_alone(box, monkeypatch):
    monkeypatch.chdir(box)
    got = invoke("measure", "ok.onnx", "--data", "x.npy", "--group", "C4", "--format", "json")
    assert json.loads(got.stdout)["schema"] == "onnx-geed/result/1"


def test_quietly_nothing_but_faults_is_told(box, monkeypatch):
    monkeypatch.chdir(box)
    run = ("measure", "ok.onnx", "--data", "x.npy", "--group", "C4")
    loud, quiet = invoke(*run), invoke(*run, "-q")
    assert loud.stderr.startswith("note: ")
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout
    both = invoke(*run, "--group", "flip-h", "--quiet")
    assert (both.exit_code, both.stderr) == (0, "")
    over = invoke(*run, "-q", "--fail-above", "latent-l2=0.0001")
    assert over.exit_code == 1
    assert over.stderr.startswith("over the limit: ")
    wrong = invoke("measure", "ok.onnx", "--data", "x.npy", "--group", "C0", "-q")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)


def test_every_command_that_tells_something_beside_its_result_does_not_with_q(
    box, monkeypatch, tmp_path
):
    monkeypatch.chdir(box)
    silent = {name for name, command in cli.commands.items() if "-q" not in _options(command)}
    assert silent == {"aggregate", "annotate", "compare", "layers"}
    model = str(box / "ok.onnx")
    (tmp_path / "suite.toml").write_text(
        f'groups = ["C4"]\n[options]\nsamples = 3\nnorm-samples = 3\n[[models]]\nname = "A"\n'
        f'path = "{model}"\n[[data]]\nname = "x"\npath = "{box / "x.npy"}"\n'
    )
    run = ("ok.onnx", "--data", "x.npy", "--group", "C4")
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    assert invoke("measure", *run, "-o", whole).exit_code == 0
    assert invoke("measure", *run, "--shard", "1/1", "-o", part).exit_code == 0
    page = ("--data", "x.npy", "-o", tmp_path / "page.html")
    for words in (
        ("compile", *run, "-o", tmp_path / "measured.onnx"),
        ("converters",),
        ("merge", part, "-o", tmp_path / "merged.json"),
        ("report", whole, *page, "--model", "ok.onnx", "--pictures", tmp_path / "pictures"),
        ("benchmark", tmp_path / "suite.toml", "-o", tmp_path / "out"),
        ("cache", *run, "-o", tmp_path / "a.geed"),
        ("demo", "--report", tmp_path / "page.html"),
        (
            *("fit", *run, "--layer", "*", "--samples", "3", "--fit-samples", "3"),
            *("-o", tmp_path / "a.npz", "--fit-anyway"),
        ),
    ):
        got = invoke(*words, "-q")
        assert (got.exit_code, got.stderr) == (0, ""), words
    for words in (
        ("aggregate", whole, whole),
        ("annotate", "ok.onnx", "--input-layout", "NCHW", "-o", tmp_path / "known.onnx"),
        ("compare", whole, whole),
        ("layers", "ok.onnx"),
    ):
        got = invoke(*words)
        assert (got.exit_code, got.stderr) == (0, ""), words


def _options(command):
    return {name for parameter in command.params for name in parameter.opts}


def test_a_run_may_be_a_page_at_once(box, monkeypatch, tmp_path):
    monkeypatch.chdir(box)
    run = ("measure", "ok.onnx", "--data", "x.npy", "--samples", "4", "--norm-samples", "4")
    page = tmp_path / "page.html"
    got = invoke(*run, "--group", "C4", "--report", page)
    assert got.exit_code == 0, got.stderr
    assert [line for line in got.stderr.splitlines() if line.startswith("next: ")] == [
        f"next: open {page} in a browser"
    ]
    assert "<h2>Explore single samples</h2>" in page.read_text("utf-8")
    both = invoke(*run, "--group", "C4", "--group", "flip-h", "-q", "--report", page)
    assert (both.exit_code, both.stderr) == (0, "")
    assert "flip-h" in page.read_text("utf-8")
    # What no page can be is said before anything is measured.
    for words in (("--report", "page.pdf"), ("--report", page, "--shard", "1/2", "-o", "p.json")):
        got = invoke(*run, "--group", "C4", *words)
        assert (got.exit_code, got.stdout, len(got.stderr.splitlines())) == (2, "", 1)
    # The option -o is for the result, which is there.
    got = invoke(*run, "--group", "C4", "-q", "-o", tmp_path / "r.json", "--report", "/dev/full")
    assert got.exit_code == 2
    assert got.stderr.startswith("onnx-geed: page /dev/full: cannot be written (")
    assert (tmp_path / "r.json").is_file()
    cached = invoke("cache", *run[1:], "--group", "C4", "-o", tmp_path / "a.geed")
    assert cached.exit_code == 0, cached.stderr
    page.unlink()
    got = invoke("measure", tmp_path / "a.geed", "--report", page)
    assert got.exit_code == 0, got.stderr
    assert page.is_file()


def test_a_page_without_what_draws_it_is_refused_at_once(box, monkeypatch, tmp_path):
    monkeypatch.chdir(box)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for run in (("demo",), ("measure", "ok.onnx", "--data", "x.npy", "--group", "C4")):
        got = invoke(*run, "--report", tmp_path / "page.html")
        assert (got.exit_code, got.stdout) == (2, "")
        assert "pip install 'onnx-geed[report]'" in got.stderr


def test_a_run_says_what_comes_next(box, monkeypatch, tmp_path):
    monkeypatch.chdir(box)
    run = ("measure", "ok.onnx", "--data", "x.npy", "--group", "C4")

    def hint(*more):
        lines = invoke(*run, *more).stderr.splitlines()
        return [line for line in lines if line.startswith("next: ")]

    assert hint() == [
        "next: keep the result with -o result.json, then onnx-geed report result.json "
        "-o report.html --data x.npy"
    ]
    out = tmp_path / "it's.json"
    (told,) = hint("-o", out)
    words = shlex.split(told.removeprefix("next: "))
    assert words == [*("onnx-geed", "report", f"{out}"), "-o", "report.html", "--data", "x.npy"]
    several = hint("--group", "flip-h", "-o", tmp_path / "r.json")
    assert f"{tmp_path / 'r.C4.json'} {tmp_path / 'r.flip-h.json'}" in several[0]
    assert "onnx-geed merge" in hint("--shard", "1/2", "-o", tmp_path / "p.json")[0]
    assert hint("--format", "json") == hint("--format", "csv") == []


def test_a_limit_that_is_exceeded_exits_with_one(box, monkeypatch):
    monkeypatch.chdir(box)
    common = ("measure", "ok.onnx", "--data", "x.npy", "--group", "C4", "--fail-above")
    over = invoke(*common, "latent-l2=0.0001")
    assert over.exit_code == 1
    assert "latent-l2@latent" in over.stderr
    assert invoke(*common, "latent-l2=1000").exit_code == 0


def test_annotations_are_read_back(box, monkeypatch):
    monkeypatch.chdir(box)
    done = invoke(
        *("annotate", "ok.onnx", "-o", "known.onnx", "--latent", "pooled"),
        *("--preprocess", "minus1to1", "--output-kind", "embedding"),
    )
    assert done.exit_code == 0, done.stderr
    onnx.checker.check_model("known.onnx")
    listed = json.loads(invoke("layers", "known.onnx", "--format", "json").stdout)
    latent = [t["name"] for t in listed["tensors"] if "latent" in t["roles"]]
    assert latent == ["pooled"]
    assert listed["output"]["kind"] == "embedding"
    plain = invoke(
        *("measure", "ok.onnx", "--data", "x.npy", "--group", "C4", "--format", "json"),
        *("--preprocess", "minus1to1", "--latent", "pooled", "--output-kind", "embedding"),
    )
    known = invoke("measure", "known.onnx", "--data", "x.npy", "--group", "C4", "--format", "json")
    ours, theirs = (json.loads(r.stdout)["measurements"] for r in (known, plain))
    assert ours == theirs
    Path("known.onnx").unlink()


def test_the_demo_says_what_it_means():
    got = invoke("demo")
    assert got.exit_code == 0
    assert "untrained" in got.stdout
    assert re.search(r"softmax-kl\s+logits", got.stdout)
    # The words below a table tell its own numbers, as cosines too.
    first, *_, last = re.findall(r"channel-cos  block\d +([\d.]+)", got.stdout)[:5]
    words = " ".join(got.stdout.split())
    assert "channel-cos is the cosine of feature maps: 1 if" in words
    assert f"It goes from {float(first):.2f} in the first block to {float(last):.2f}" in words
    assert "did not make the layers equivariant" in words


def test_the_demo_may_be_a_page(tmp_path):
    page = tmp_path / "page.html"
    got = invoke("demo", "--report", page)
    assert got.exit_code == 0, got.stderr
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "digits_cnn_untrained.onnx" in text
    assert "data:image/png" in text
    assert f"next: open {page} in a browser" in got.stderr.splitlines()
    assert "<h2>Explore single samples</h2>" in page.read_text("utf-8")


def test_the_folder_of_the_converters_is_printed():
    got = invoke("converters")
    assert (Path(got.stdout.strip()) / "__init__.py").is_file()


def test_the_command_of_a_converter_works_for_the_python_of_another_environment(tmp_path):
    (told,) = invoke("converters").stderr.splitlines()
    assert told.startswith("next: /path/to/python ")
    for name in ("escnn", "jax", "keras", "sklearn"):
        assert f"from_{name}.py" in told
    _, script, *_ = shlex.split(told.removeprefix("next: ").partition(",")[0])
    # Neither the package nor what it needs is there.
    venv.create(tmp_path / "other", with_pip=False)
    python = tmp_path / "other" / ("Scripts" if os.name == "nt" else "bin") / "python"
    bare = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    run = subprocess.run(
        [python, script, "--help"], cwd=tmp_path, env=bare, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "--input-shape" in run.stdout


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_explains_itself_with_an_example(name):
    got = invoke(name, "--help")
    assert got.exit_code == 0
    assert "Example" in got.stdout
    readme = (ROOT / "README.md").read_text()
    assert f"onnx-geed {name}" in readme, f"the README does not mention {name}"


def test_a_broken_run_as_a_process_leaves_no_traceback(box):
    run = subprocess.run(
        [sys.executable, "-m", "onnx_geed", "measure", "cut.onnx", "--data", "x.npy", "--group=C4"],
        cwd=box,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", ["measure", "fit"])
@pytest.mark.parametrize("words", [("--executor", "ray"), ("--address", "local")])
def test_workers_read_no_cache(tmp_path, command, words):
    more = ("--layer", "x", "-o", tmp_path / "a.npz") if command == "fit" else ()
    result = invoke(command, tmp_path / "a.geed", *words, *more)
    assert result.exit_code == 2
    assert f"{words[0]}: a.geed is a cache, which is read on this machine" in result.output


@pytest.mark.parametrize(
    ("first", "second"),
    [("--out same.json", "--junit same.json"), ("--out a.html", "--report ./a.html")],
)
def test_two_outputs_of_one_name_are_refused_before_anything_runs(
    tmp_path, monkeypatch, first, second
):
    monkeypatch.chdir(tmp_path)
    demo = Path(str(files("onnx_geed") / "demo"))
    words = ["measure", demo / "digits_cnn.onnx", "--data", demo / "digits.npz", "--group", "C4"]
    limits = ["--fail-above", "flip-rate=1", "--measure", "flip-rate"]
    run = invoke(*words, *limits, *first.split(), *second.split())
    assert run.exit_code == 2
    option, path = second.split()
    assert (
        f"{option} {path[path.startswith('./') * 2 :]}: is the file that --out names" in run.output
    )
    assert not list(tmp_path.iterdir())
