"""Faults of what surrounds a command: each ends in the same figures, or in one line."""

import io
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from onnx_geed.cli.terminal import show

DEMO = Path(str(files("onnx_geed.demo")))
ROOT = Path(__file__).parents[2]
MEASURE = ["measure", str(DEMO / "digits_cnn.onnx"), "--data", str(DEMO / "digits.npz")]
MEASURE += ["--group", "C4", "--samples", "3", "--norm-samples", "3", "--provider", "cpu", "-q"]

unix = pytest.mark.skipif(os.name != "posix", reason="needs a shell of Unix")


def geed(*words, shell="exec", cwd=None, **environment):
    """Run a command behind some shell code; an environment variable that is None is taken away."""
    around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    line = f'{shell} "$0" -m onnx_geed "$@"'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *words],
        capture_output=True,
        cwd=cwd,
        timeout=300,
        env={name: value for name, value in around.items() if value is not None},
    )


@pytest.fixture(scope="module")
def plain():
    run = geed(*MEASURE)
    assert (run.returncode, run.stderr) == (0, b"")
    return run.stdout


@unix
@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None},
        {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/none"},
        {"TMPDIR": "/dev/null/none"},
        {"MPLBACKEND": "module://none"},
    ],
)
def test_a_measurement_needs_no_home_and_no_backend(plain, environment):
    run = geed(*MEASURE, **environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, plain, b"")


@unix
@pytest.mark.parametrize(
    "shell", ["exec 2>&-; exec", "exec 2>/dev/full; exec", "ulimit -n 64; exec"]
)
def test_a_measurement_needs_no_stderr_and_few_files(plain, shell):
    run = geed(*MEASURE, shell=shell)
    assert (run.returncode, run.stdout, run.stderr) == (0, plain, b"")


@unix
@pytest.mark.parametrize("shell", ["exec >&-; exec", "exec >/dev/full; exec"])
def test_a_stdout_that_is_not_there_is_told_in_a_line_unless_a_file_keeps_the_result(
    shell, tmp_path
):
    run = geed(*MEASURE, shell=shell)
    assert run.returncode == 2
    assert run.stderr.startswith(b"onnx-geed: stdout")
    assert run.stderr.count(b"\n") == 1
    kept = geed(*MEASURE, "--out", str(tmp_path / "r.json"), shell="exec <&- >&- 2>&-; exec")
    assert (kept.returncode, (tmp_path / "r.json").exists()) == (0, True)


@unix
@pytest.mark.parametrize("encoding", ["latin-1", "cp437", "ascii"])
def test_narrow_terminals_of_other_encodings(encoding):
    around = {"LC_ALL": "C", "PYTHONIOENCODING": encoding, "COLUMNS": "1"}
    for words in (MEASURE, ["layers", MEASURE[1]], ["measure", "--help"]):
        run = geed(*words, **around)
        assert (run.returncode, run.stderr) == (0, b"")
        # click takes ascii for a setting that is missing, and writes UTF-8.
        run.stdout.decode("utf-8" if encoding == "ascii" else encoding)


@pytest.mark.skipif(sys.platform != "linux", reason="names elsewhere are text")
def test_paths_that_are_no_text(tmp_path):
    model, result, page = (os.fsdecode(b"%s\xff\xfe" % name) for name in (b"m", b"r", b"p"))
    (tmp_path / model).write_bytes((DEMO / "digits_cnn.onnx").read_bytes())
    run = geed("measure", model, *MEASURE[2:], "--out", result, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    run = geed("report", result, "-o", page, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"next: open p?? in a browser\n")
    assert {os.fsdecode(p) for p in os.listdir(tmp_path)} == {model, result, page}


@unix
@pytest.mark.parametrize(
    ("value", "reason"), [("0", "must be > 0"), ("x", "value 'x' could not be parsed")]
)
def test_settings_of_the_compiler_that_are_none_are_told_in_a_line(value, reason):
    run = geed(*MEASURE, NUMBA_NUM_THREADS=value)
    assert (run.returncode, run.stdout) == (2, b"")
    text = run.stderr.decode()
    assert reason in text
    assert re.search(rf"look at (NUMBA_\S+, )*NUMBA_NUM_THREADS={value}(, NUMBA_\S+)*\n$", text)
    assert text.count("\n") == 1


def test_a_number_keeps_its_sign_in_a_terminal_of_few_letters(monkeypatch):
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding="latin-1"))
    show("value −0.41 ± 0.02")
    sys.stdout.flush()
    assert kept.getvalue() == b"value -0.41 \xb1 0.02\n"
