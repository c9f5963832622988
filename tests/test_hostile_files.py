"""Files that mean harm end in a figure or in one line, in bounded time and memory."""

import gzip
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hostile_files
import models
import numpy as np
import pytest

import onnx_geed
from onnx_geed import ordinary
from onnx_geed.data import Preprocess, open_rows
from onnx_geed.data.images import decode
from onnx_geed.errors import GeedError
from onnx_geed.held import ALLOWED, allowed_by
from onnx_geed.run import read_suite

sys.path.append(str(Path(__file__).parent / "fuzz"))

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

from bounded import GIB, Bounded

# Each costs little, and there are many; what they show of a kind, pipes and devices show too.
_ALIKE = ("_socket", "_loop", "_a_folder", "flac_of_silence", "npy_of_many_samples")

# They take the whole time that a search may take.
_SLOW = ("suite_of_all_files[all]", "suite_of_all_files[any]", "suite_of_all_files[processes]")


@pytest.fixture(scope="module")
def bounded():
    with Bounded(memory=64 * GIB, held=2 * GIB + GIB // 4) as server:
        yield server


CASES = [
    pytest.param(name, marks=[pytest.mark.slow] if name.endswith((*_ALIKE, *_SLOW)) else [])
    for name in hostile_files.CASES
]


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_measured_or_refused_in_one_line(bounded, tmp_path, name):
    words = hostile_files.made(name, tmp_path)
    ended = bounded.run(words, tmp_path)
    assert not ended.fault(), ended
    if name in hostile_files.GOOD:
        assert ended.status == 0, ended.err


def test_there_are_many():
    assert len(hostile_files.CASES) > 300
    assert hostile_files.CASES.keys() >= hostile_files.GOOD


# ------------------------------------------------------------------------------------------------
# Of the mechanisms, what a process of its own does not show
# ------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)


def test_a_budget_allows_more_and_a_small_one_no_less():
    assert allowed_by("8GiB") == 4 * GIB
    assert allowed_by("2GiB") == allowed_by("1MB") == ALLOWED


def test_an_archive_that_is_not_packed_is_read_in_slices_where_it_is_large(tmp_path):
    np.savez(tmp_path / "x.npz", first=X[::-1], x=X, y=np.arange(5))
    np.savez_compressed(tmp_path / "packed.npz", x=X)
    rows = open_rows(f"{tmp_path}/x.npz:x", allowed=1000)
    assert len(rows.files()) == 1
    assert all(np.array_equal(rows.read(i), X[i]) for i in range(5))
    assert np.array_equal(rows.read(...), X)
    assert list(rows.labels.values) == [0, 1, 2, 3, 4]
    assert not open_rows(f"{tmp_path}/x.npz:x", allowed=X.nbytes).files()
    assert np.array_equal(open_rows(f"{tmp_path}/packed.npz", allowed=X.nbytes).read(...), X)
    with pytest.raises(GeedError, match=r"needs 3\.8 KiB .* at most 1000 bytes .* as an \.npy"):
        open_rows(f"{tmp_path}/packed.npz", allowed=1000)


def test_a_gzip_file_may_just_fit(tmp_path):
    head = bytes((0, 0, 8, 3)) + struct.pack(">3I", 4, 5, 6)
    (tmp_path / "x.gz").write_bytes(gzip.compress(head + bytes(range(120))))
    rows = open_rows(f"{tmp_path}/x.gz", allowed=120)
    assert rows.read(...).ravel().tolist() == list(range(120))
    with pytest.raises(GeedError, match="needs 120 bytes"):
        open_rows(f"{tmp_path}/x.gz", allowed=119)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
@pytest.mark.parametrize("grey", [False, True])
def test_an_image_is_held_against_what_is_allowed(tmp_path, mode, grey):
    from PIL import Image

    Image.new(mode, (100, 50)).save(tmp_path / "a.png")
    a_pixel = (20 if mode == "RGBA" else 12) + (8 if grey else 24)

    def shape(how, allowed):
        return decode(tmp_path / "a.png", how, grey=grey, name="it", allowed=allowed).shape

    assert shape(Preprocess(), 5000 * a_pixel)[1:] == (50, 100)
    with pytest.raises(GeedError, match="it: an image of 50×100 pixels"):
        shape(Preprocess(), 5000 * a_pixel - 1)
    assert shape(Preprocess(resize=4), 5000 * 20)[1:] == (4, 8)
    with pytest.raises(GeedError, match="resize=400 makes it 400×800"):
        shape(Preprocess(resize=400, crop=4), 400 * 800 * 12 - 1)


def test_a_packed_chunk_is_looked_at_and_read_as_it_is(tmp_path):
    noise = np.random.default_rng(1).random((64, 3, 16, 16), dtype=np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        how = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("x", data=noise, chunks=(16, 3, 16, 16), **how)
    rows = open_rows(f"{tmp_path}/x.h5", allowed=16 * 3072)
    assert all(np.array_equal(rows.read(i), noise[i]) for i in (0, 15, 16, 63))
    assert np.array_equal(rows.read(slice(10, 40)), noise[10:40])
    rows.close()
    with pytest.raises(GeedError, match="smaller chunks"):
        open_rows(f"{tmp_path}/x.h5", allowed=16 * 3072 - 1)


def test_what_becomes_a_pipe_while_it_is_opened_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.npy")
    monkeypatch.setattr(ordinary, "check_ordinary", lambda *_: None)
    with pytest.raises(GeedError, match="is a pipe; give a file"):
        ordinary.open_ordinary(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("'a.b" + ".c" * 100 + "'", ""),
        ('"a.b" # ' + "." * 100, ""),
        ('"' + "a" * 70_000 + '"', "line 1 has 70,010 bytes"),
        ("{" + ".".join("a" * 40) + "=1}", "over 30 parts"),
    ],
)
def test_lines_of_a_suite_that_its_reader_takes_long_for(tmp_path, line, refused):
    (tmp_path / "s.toml").write_text(f"title = {line}\n")
    with pytest.raises(GeedError) as error:
        read_suite(tmp_path / "s.toml")
    assert (refused or "models") in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "layers <(cat model.onnx)",
        "cat model.onnx | {} layers /dev/stdin",
        "annotate model.onnx --preprocess unit -o >(cat > got)",
        "annotate model.onnx --preprocess unit -o /dev/stdout | cat > got",
        "annotate model.onnx --preprocess unit -o /dev/null",
    ],
)
def test_pipes_of_a_shell_are_read_and_written(tmp_path, line):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    geed = f"{sys.executable} -m onnx_geed"
    line = line.format(geed) if "{}" in line else f"{geed} {line}"
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(onnx_geed.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if "got" in line:
        for _ in range(100):  # the other process may write it a moment later
            if (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 1000:
                break
            time.sleep(0.05)
        assert b"onnx_geed.preprocess" in (tmp_path / "got").read_bytes()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    model = models.save(models.random_cnn(0, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")
    data = np.random.default_rng(0).random((8, 3, 8, 8), dtype=np.float32)
    return onnx_geed.measure(model, data, "C4", samples=3, norm_samples=4)


def _strange_share(record):
    record["predictions"]["stay"]["per_element"]["r1"] = 2.0
    return "per_element"


def _between_that_is_perfect(record):
    record["between_samples"], record["relative"] = 0.0, 0.5
    return "between_samples, 0, is perfect"


def _between_that_is_almost_perfect(record):
    record["between_samples"], record["relative"] = 1e-300, 0.5
    return "is perfect to rounding"


def _relative_to_nothing(record):
    record["between_samples"], record["relative"] = None, 0.5
    return "between_samples is missing"


@pytest.mark.parametrize(
    "change",
    [
        _strange_share,
        _between_that_is_perfect,
        _between_that_is_almost_perfect,
        _relative_to_nothing,
    ],
)
def test_shares_and_what_values_are_relative_to_are_checked(measured, tmp_path, change):
    onnx_geed.write_json(measured, tmp_path / "good.json")
    content = json.loads((tmp_path / "good.json").read_text())
    told = change(next(r for r in content["measurements"] if r["measure"] == "softmax-kl"))
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert onnx_geed.load(tmp_path / "good.json")
    with pytest.raises(GeedError, match=told):
        onnx_geed.load(tmp_path / "r.json")
