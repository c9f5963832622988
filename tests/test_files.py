"""Files appear whole or not at all, whoever writes them and however the writer ends."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from onnx_geed import GeedError
from onnx_geed.files import (
    check_writable,
    make_folder,
    write_bytes,
    write_json,
    write_text,
    writing_beside,
)
from onnx_geed.model import annotate_model as annotate
from onnx_geed.report import draw_suite, write_report
from onnx_geed.results import write_junit
from onnx_geed.run import compile_measurement, measure

ROOT = Path(__file__).parent.parent
DEMO = Path(str(files("onnx_geed.demo")))
LIMIT = "latent-l2=1"


@pytest.fixture(scope="module")
def result():
    few = {"samples": 4, "norm_samples": 5, "measures": ["latent-l2"]}
    return measure(DEMO / "digits_cnn.onnx", str(DEMO / "digits.npz"), "C4", **few)


@pytest.fixture
def suite():
    row = {"model": "a", "step": None, "data": "d", "group": "C4", "measure": "latent-l2"}
    row |= {"layer": "x", "mean": 0.5, "ci95_over_models": None, "ci95_over_samples": [0.4, 0.6]}
    return {"rows": [{**row, "unnormalised_mean": None, "unnormalised_ci95_over_models": None}]}


def writers(result, suite):
    """Each kind of file: its name, and what writes it into a folder."""
    model = DEMO / "digits_cnn.onnx"
    return {
        "r.json": lambda at: write_json(result, at / "r.json"),
        "r.html": lambda at: write_report([result], at / "r.html"),
        "latent-l2-1-layers.svg": lambda at: _pictures(result, at),
        "j.xml": lambda at: write_junit(result, [LIMIT], at / "j.xml"),
        "C4.latent-l2.svg": lambda at: draw_suite(suite, at),
        "a.onnx": lambda at: annotate(model, at / "a.onnx", preprocess="unit"),
        "c.onnx": lambda at: compile_measurement(model, "C4", at / "c.onnx"),
    }


def _pictures(result, at):
    write_report([result], os.devnull, pictures=at)


NAMES = [n for n in writers(None, None) if "-1-" not in n]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_the_old_file_and_names_it(result, suite, tmp_path, name):
    (tmp_path / name).write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = writers(result, suite)[name]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(GeedError) as error:
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert name in str(error.value)
    assert "None" not in str(error.value)
    assert (tmp_path / name).read_text() == "old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_write_leaves_the_old_file(result, suite, tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writers(result, suite)[name](tmp_path)
    assert (tmp_path / name).read_text() == "old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_links_are_followed_and_modes_kept(result, suite, tmp_path, name):
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / name).symlink_to(real)
    writers(result, suite)[name](tmp_path / "at")
    assert (tmp_path / "at" / name).is_symlink()
    assert real.stat().st_size > 100
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "at") == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_file_may_be_read_as_open_would_have_it(result, suite, tmp_path, name):
    old = os.umask(0o027)
    try:
        writers(result, suite)[name](tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("name", [n for n in NAMES if n != "C4.latent-l2.svg"])
def test_a_pipe_and_a_device_are_written_to_as_they_are(result, suite, tmp_path, name):
    os.mkfifo(tmp_path / name)
    got = []
    reader = threading.Thread(
        target=lambda: got.append((tmp_path / name).read_bytes()), daemon=True
    )
    reader.start()
    writers(result, suite)[name](tmp_path)
    reader.join(timeout=20)
    assert len(got[0]) > 100
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)


def test_the_null_device_stays_one(result):
    write_bytes("/dev/null", b"x")
    annotate(DEMO / "digits_cnn.onnx", "/dev/null", preprocess="unit")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_standard_output_is_written_where_it_stands(tmp_path):
    code = (
        "import os\nfrom onnx_geed.files import check_writable, write_text\n"
        "print('head', flush=True)\n"
        "for name in ('/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'):\n"
        "    check_writable(name)\n"
        "    write_text(name, 'x\\n')\n"
        "print('tail', flush=True)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=ROOT)
    assert (tmp_path / "out").read_text() == "head\nx\nx\nx\ntail\n"


def test_a_kill_in_the_midst_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("old")
    code = (
        "import os, signal, sys\nfrom onnx_geed.files import write_text\n"
        "os.fsync = lambda d: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_text(sys.argv[1], 'new' * 10**6)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert run.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_names_that_are_no_utf8_are_written_all_the_same(tmp_path):
    write_text(tmp_path / "x", "a\udcffb")
    assert (tmp_path / "x").read_bytes() == b"a?b"


def test_what_is_read_is_not_replaced(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(GeedError, match=r"x\.npy:.*, which is read"):
        check_writable(tmp_path / "x.npy", inputs=[f"{tmp_path / 'x.npy'}:key", None])
    check_writable(tmp_path / "y.npy", inputs=[tmp_path / "x.npy", "module:function"])


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(GeedError, match="f: is a file; name a folder"):
        make_folder(tmp_path / "f", option="-o")
    with pytest.raises(GeedError, match="cannot be made"):
        make_folder(tmp_path / "f" / "g", option="-o")


def external(folder):
    """A model with its weights in a file of its own, in a folder below."""
    folder.mkdir()
    (folder / "w").mkdir()
    model = models.random_cnn(0, (8, 8))
    convert_model_to_external_data(model, location="w/data.bin", size_threshold=0)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def test_a_model_and_its_weights_come_together_or_not_at_all(tmp_path, monkeypatch):
    source, at = external(tmp_path / "a"), tmp_path / "b"
    at.mkdir()
    annotate(source, at / "m.onnx", preprocess="unit")
    onnx.checker.check_model(at / "m.onnx")
    assert sorted(os.listdir(at)) == ["m.onnx", "w"]
    weights = (at / "w" / "data.bin").read_bytes()
    (at / "m.onnx").write_text("old model")
    plain = os.fsync
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GeedError, match=r"m\.onnx: cannot be written \(No space left"):
        annotate(source, at / "m.onnx", preprocess="unit")
    assert (at / "w" / "data.bin").read_bytes() == weights
    assert (at / "m.onnx").read_text() == "old model"
    assert sorted(os.listdir(at)) == ["m.onnx", "w"]


def test_a_model_beside_its_own_weights_is_checked_there(tmp_path):
    source = external(tmp_path / "a")
    before = (tmp_path / "a" / "w" / "data.bin").read_bytes()
    compile_measurement(source, "C4", tmp_path / "a" / "c.onnx")
    annotate(source, source, preprocess="unit")
    onnx.checker.check_model(tmp_path / "a" / "c.onnx")
    assert (tmp_path / "a" / "w" / "data.bin").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "a")) == ["c.onnx", "m.onnx", "w"]


def test_a_failure_inside_leaves_nothing(tmp_path):
    def half():
        with writing_beside(tmp_path / "x") as folder:
            (folder / "x").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert os.listdir(tmp_path) == []
