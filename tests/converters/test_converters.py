"""Converters stand alone, and say what is missing."""

import ast
import os
import re
import signal
import stat
import subprocess
import sys

import pytest
from converting import FOLDER, refused

SCRIPTS = sorted(FOLDER.glob("*.py"))
CONVERTERS = [p for p in SCRIPTS if p.name.startswith("from_")]
# Needed so that a Python without its packages gets as far as to look for the framework.
ARGUMENTS = {"from_escnn": ("--input-shape", "1,9,9"), "from_jax": ("--input-shape", "1,9,9")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_no_converter_imports_the_package(script):
    for node in ast.walk(ast.parse(script.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not any(n.split(".")[0] == "onnx_geed" for n in names)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_a_converter_states_what_it_needs(script):
    assert re.search(r"^# /// script\n(# .*\n)+# ///$", script.read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_without_its_framework_it_says_what_to_install(script, tmp_path):
    told = refused(
        *(script.stem.removeprefix("from_"), tmp_path, "nets.py:Net"),
        *ARGUMENTS.get(script.stem, ()),
        python=(sys.executable, "-S"),
    )
    assert re.search(r"is not installed in this Python; pip install", told)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_the_page_of_converters_shows_it(script):
    assert f"/{script.name}" in (FOLDER / "README.md").read_text()


FINISHED = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
import numpy as np, onnx
from onnx import TensorProto, helper
import _finish, _inputs, _options

def made():
    weight = helper.make_tensor("w", TensorProto.FLOAT, (4, 3), np.ones(12, np.float32))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])], [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

exec(sys.argv[2])
def convert(given):
    four = _inputs.Input("input", (4,))
    source = _finish.Source(lambda x: x @ np.ones((4, 3), np.float32), [four], [("e", made)])
    _finish.finish(source, given)
sys.argv = ["convert", "none", "-o", sys.argv[3]]
_options.command(_options.parser("", ""), convert)
"""


def finished(folder, name, before="", **more):
    return subprocess.run(
        [sys.executable, "-c", FINISHED, str(FOLDER), before, name],
        **{"cwd": folder, "capture_output": True, "text": True} | more,
    )


def test_a_converted_file_follows_links_and_keeps_the_mode(tmp_path):
    (tmp_path / "at").mkdir()
    (tmp_path / "real.onnx").write_text("old")
    (tmp_path / "real.onnx").chmod(0o604)
    (tmp_path / "at" / "net.onnx").symlink_to("../real.onnx")
    run = finished(tmp_path, "at/net.onnx")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "at" / "net.onnx").is_symlink()
    assert (tmp_path / "real.onnx").stat().st_size > 100
    assert (tmp_path / "real.onnx").stat().st_mode & 0o777 == 0o604
    assert os.listdir(tmp_path / "at") == ["net.onnx"]


@pytest.mark.parametrize(
    "before",
    [
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))",
        "def full(d): raise OSError(28, 'No space left on device')\nos.fsync = full",
    ],
)
def test_a_full_disk_leaves_the_converted_file_that_was_there(tmp_path, before):
    (tmp_path / "net.onnx").write_text("old")
    run = finished(tmp_path, "net.onnx", before)
    assert run.returncode == 2
    assert "net.onnx: cannot be written (" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert (tmp_path / "net.onnx").read_text() == "old"
    assert os.listdir(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_a_converter_leaves_nothing(tmp_path, name):
    run = finished(
        tmp_path,
        "net.onnx",
        f"import signal; os.fsync = lambda d: signal.raise_signal(signal.{name})",
    )
    assert run.returncode == 128 + getattr(signal, name)
    assert len(run.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_a_converter_writes_to_a_device_and_with_stdout_full(tmp_path):
    assert finished(tmp_path, "/dev/null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with open("/dev/full", "w") as full:
        run = finished(
            tmp_path, "net.onnx", stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert (run.returncode, run.stderr) == (2, "error: No space left on device\n")
    assert (tmp_path / "net.onnx").stat().st_size > 100
