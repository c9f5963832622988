"""What surrounds a process at its start: terminals of few letters, closed streams, odd settings."""

import json
import os
import subprocess
import sys

import models
import numpy as np
import pytest

from onnx_geed.cli.signals import open_streams


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    models.save(models.random_cnn(0, (8, 8)), folder / "net.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32))
    return folder


def start(folder, *arguments, without=(), shell="", **environment):
    """Run the command in a folder; ``shell`` is what a shell does to its streams."""
    env = {k: v for k, v in os.environ.items() if k not in without} | environment
    line = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "onnx_geed", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, env=env)


MEASURE = ("measure", "net.onnx", "--data", "x.npy", "--group", "C4", "--provider", "cpu")


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
def test_a_terminal_of_few_letters_gets_a_mark(encoding):
    code = (
        "import sys, click\n"
        "from onnx_geed.cli import open_streams\n"
        "open_streams()\n"
        "click.echo('a … b'); click.echo('ж …', err=True)\n"
    )
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
    assert run.returncode == 0, run.stderr
    assert run.stdout == b"a ? b\n"
    assert run.stderr == b"? ?\n"


def test_streams_that_are_none_stay_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", object())
    open_streams()


@pytest.mark.parametrize(
    "options",
    [
        {"without": ("HOME", "XDG_CACHE_HOME")},
        {"HOME": "/nonexistent"},
        {"MPLBACKEND": "no-such-backend"},
        {"shell": "2>&-"},
        {"shell": "2>/dev/full"},
        {"PYTHONIOENCODING": "cp437"},
    ],
    ids=str,
)
def test_a_run_and_its_page_end_right(box, options):
    run = start(box, *MEASURE, "--out", "r.json", **options)
    assert run.returncode == 0, run.stderr
    assert b"latent-l2" in run.stdout
    assert json.loads((box / "r.json").read_text())["measurements"]
    page = start(box, "report", "r.json", "-o", "r.html", **options)
    assert page.returncode == 0, page.stderr
    assert page.stderr in (b"", b"next: open r.html in a browser\n")
    assert "<h1>" in (box / "r.html").read_text()


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ""])
def test_an_error_ends_with_status_two_heard_or_not(box, shell):
    assert start(box, "measure", "none.onnx", shell=shell).returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="paths are any bytes on Linux alone")
def test_paths_that_are_no_utf8_are_paths(box):
    odd = [os.fsencode(str(box)) + b"/\xff" + name for name in (b"n.onnx", b"r.json", b"p.html")]
    os.link(box / "net.onnx", odd[0])
    given = (odd[0], "--data", "x.npy", "--group", "C4", "--provider", "cpu")
    run = start(box, "measure", *given, "--out", odd[1])
    assert run.returncode == 0, run.stderr
    assert run.stdout.decode()
    page = start(box, "report", odd[1], "-o", odd[2])
    assert page.returncode == 0, page.stderr
    with open(odd[2], encoding="utf-8") as file:
        assert "?n.onnx" in file.read()
    with open(odd[1], encoding="utf-8") as file:
        assert json.load(file)["model"]["path"] == os.fsdecode(odd[0])
    refused = start(box, "report", odd[0], "-o", odd[2])
    assert refused.returncode == 2
    assert b"?n.onnx: is not JSON" in refused.stderr
