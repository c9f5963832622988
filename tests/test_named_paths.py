"""Paths that no file can have are refused in one line, in Python and by commands."""

import os
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from click.testing import CliRunner

import onnx_geed
from onnx_geed import GeedError, ordinary
from onnx_geed.arguments import checked
from onnx_geed.cli import cli
from onnx_geed.named_paths import why_no_path

NEVER = ["a" * 5000, "a\0b", "\ud800.json", "/".join(["b" * 200] * 40)]
OTHER = [None, 1, b"x.json", 1.5, ["x"], {}, object(), int, np.zeros(3)]


class Unsaid:
    def __fspath__(self):
        raise RuntimeError("no")


TAKING = {
    "benchmark": lambda p: onnx_geed.benchmark(p, "out"),
    "benchmark into": lambda p: onnx_geed.benchmark("s.toml", p),
    "compile_measurement": lambda p: onnx_geed.compile_measurement("m.onnx", "C4", p),
    "fit_cached_actions": lambda p: onnx_geed.fit_cached_actions(p, ["y"]),
    "load": onnx_geed.load,
    "load_model": onnx_geed.load_model,
    "measure_cache": onnx_geed.measure_cache,
    "read_result": onnx_geed.read_result,
    "read_table": onnx_geed.read_table,
    "write_cache": lambda p: onnx_geed.write_cache("m.onnx", "x.npy", "C4", p),
    "write_fits": lambda p: onnx_geed.write_fits(p, []),
    "write_json": lambda p: onnx_geed.write_json({}, p),
    "write_report": lambda p: onnx_geed.write_report([], p),
}


@pytest.mark.skipif(sys.platform == "win32", reason="names of other lengths and letters")
@pytest.mark.parametrize("name", [*TAKING])
def test_what_is_no_path_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in [*NEVER, *OTHER, Unsaid()]:
        with pytest.raises(GeedError) as error:
            TAKING[name](given)
        assert len(str(error.value)) < 400
        assert str(error.value).isprintable()
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(sys.platform == "win32", reason="names of other lengths and letters")
def test_models_and_data_too(tmp_path):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    for given in NEVER:
        with pytest.raises(GeedError, match="is no path"):
            onnx_geed.measure(given, "x.npy", "C4")
        with pytest.raises(GeedError, match="is no path"):
            onnx_geed.measure(tmp_path / "m.onnx", given, "C4")


def test_paths_that_could_be_pass():
    for given in ("", "x.npz:key", "module:function", "s3://bucket/" + "a" * 5000, "C:\\x", "/"):
        assert not why_no_path(given)

    @checked
    def function(path: "str | Path", *more, other: "str | Path | None" = None):
        return path, more, other

    assert function("a", 1, other=None) == ("a", (1,), None)
    with pytest.raises(GeedError, match=r"other 'a.*b' is no path: it holds the character 0"):
        function("a", other="a\0b")


@pytest.mark.parametrize("given", ["x\ud800.json", "a" * 5000])
@pytest.mark.skipif(sys.platform == "win32", reason="names of other lengths and letters")
def test_commands_refuse_them_too(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in (["layers", given], ["aggregate", "a.json", "--out", given]):
        run = CliRunner().invoke(cli, line)
        assert run.exit_code == 2, line
        assert len(run.stderr.strip().splitlines()) == 1, run.stderr
        assert "is no path" in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no such rights")
def test_a_suite_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("onnx_geed.run.suite_file.read_held", refused)
    with pytest.raises(GeedError, match=r"cannot be read .Permission denied"):
        onnx_geed.benchmark(tmp_path / "s.toml", tmp_path / "out")


@pytest.mark.parametrize("given", [None, 1, {}, [], "x", np.zeros(3), {"schema": 1}])
def test_results_and_models_that_are_none(given):
    for function in (
        lambda: onnx_geed.diagnose(given),
        lambda: onnx_geed.compare(given, given),
        lambda: onnx_geed.aggregate([given]),
    ):
        with pytest.raises(GeedError, match="result"):
            function()


@pytest.mark.parametrize("name", ["layers", "notify", "progress", "representation", "limits"])
def test_what_stands_beside_paths_is_looked_at_too(name, tmp_path):
    odd = [1, object(), 1.5, 10**400] + (["x", [1]] if name not in ("layers", "limits") else [[1]])
    for given in odd:
        more = {name: given} if name in ("layers", "limits") else {"layers": ["y"], name: given}
        function = onnx_geed.measure if name == "limits" else onnx_geed.fit_actions
        with pytest.raises(GeedError, match=f"{name} is "):
            function(tmp_path / "m.onnx", "x.npy", "C4", **more)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are none there")
def test_a_file_that_has_nothing_yet_is_not_waited_for(tmp_path, monkeypatch):
    # As the log of the system, which it calls a file.
    os.mkfifo(tmp_path / "log")
    monkeypatch.setattr(ordinary, "_check", lambda *_: None)
    monkeypatch.setattr(ordinary, "check_ordinary", lambda *_: None)
    kept = os.open(tmp_path / "log", os.O_RDWR)
    for read in (lambda f: f.read(), lambda f: f.read(10)):
        with (
            ordinary.open_ordinary(tmp_path / "log") as file,
            pytest.raises(OSError, match="nothing to read yet"),
        ):
            read(file)
    os.close(kept)
