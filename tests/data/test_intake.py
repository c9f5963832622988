"""Data that are cut, replaced or deleted while they are measured never make a wrong answer."""

import os
import shutil
import threading
from importlib.resources import files
from pathlib import Path

import h5py
import models
import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data
from PIL import Image

from onnx_geed import GeedError, measure
from onnx_geed.cache import contents, measure as offline, store as cache, write as caching
from onnx_geed.data import Intake, open_samples
from onnx_geed.run import orbit_pieces, orbits, pipeline

DEMO = Path(str(files("onnx_geed.demo")))
FEW = {"samples": 8, "norm_samples": 12, "measures": ["latent-l2"], "batch_size": 4}
N = 14


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    models.save(models.random_cnn(0, (8, 8)), path)
    return path


def pixels(seed=0):
    return np.random.default_rng(seed).random((N, 3, 8, 8)).astype(np.float32)


def npy(folder, x):
    np.save(folder / "x.npy", x)
    return str(folder / "x.npy")


def fortran(folder, x):
    np.save(folder / "x.npy", np.asfortranarray(x))
    return str(folder / "x.npy")


def hdf5(folder, x):
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = x
    return str(folder / "x.h5")


def chunked(folder, x):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(1, 3, 8, 8))
    return str(folder / "x.h5")


def virtual(folder, x):
    with h5py.File(folder / "part.h5", "w") as file:
        file["x"] = x
    layout = h5py.VirtualLayout(x.shape, "f4")
    layout[:] = h5py.VirtualSource("part.h5", "x", x.shape)
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    return str(folder / "x.h5")


def idx(folder, x):
    import struct

    head = struct.pack(">BBBB4I", 0, 0, 13, 4, *x.shape)
    (folder / "x.idx").write_bytes(head + x.astype(">f4").tobytes())
    return str(folder / "x.idx")


def images(folder, x):
    (folder / "x").mkdir(exist_ok=True)
    for k, one in enumerate(x):
        values = np.moveaxis((one * 255).astype(np.uint8), 0, -1)
        Image.fromarray(values).save(folder / "x" / f"{k:02}.png")
    return str(folder / "x")


def npz(folder, x):
    np.savez(folder / "x.npz", x=x)
    return str(folder / "x.npz")


KINDS = {f.__name__: f for f in (npy, fortran, hdf5, chunked, virtual, idx, images, npz)}


def after(monkeypatch, jobs, change, modules=(orbits, orbit_pieces), name="run_rows"):
    """Let something happen once so many jobs of a run are done."""
    plain, done, lock = getattr(modules[0], name), [], threading.Lock()

    def counted(*a, **k):
        result = plain(*a, **k)
        with lock:
            done.append(1)
            if len(done) == jobs:
                change()
        return result

    for module in modules:
        monkeypatch.setattr(module, name, counted)


def removed(folder):
    """Delete a folder into which others still write."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def paths_of(source):
    path = Path(source)
    files_ = sorted(path.iterdir()) if path.is_dir() else [path]
    return [path.parent / "part.h5"] if (path.parent / "part.h5").exists() else files_


def cut(source):
    for path in paths_of(source):
        os.truncate(path, path.stat().st_size // 3)


def rewrite(source, kind):
    """Other values in the same place, so that the files' names and numbers stay."""
    folder = Path(source).parent
    away = folder / "away"
    away.mkdir()
    KINDS[kind](away, pixels(1))
    for path in paths_of(source):
        other = away / path.relative_to(folder)
        with path.open("rb+") as file:
            file.write(other.read_bytes())
            file.truncate()
    shutil.rmtree(away)


def replace(source, kind):
    """Other files under the same names."""
    folder = Path(source).parent
    away = folder / "away"
    away.mkdir()
    KINDS[kind](away, pixels(1))
    for path in paths_of(source):
        os.replace(away / path.relative_to(folder), path)
    shutil.rmtree(away)


def delete(source, kind):
    for path in paths_of(source):
        path.unlink()


CHANGES = {"cut": lambda s, k: cut(s), "rewrite": rewrite, "replace": replace, "delete": delete}
IN_MEMORY = ("npz",)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in IN_MEMORY])
@pytest.mark.parametrize("jobs", [1, 3])
def test_data_that_change_during_a_run_are_refused(
    model, tmp_path, monkeypatch, kind, change, jobs
):
    source = KINDS[kind](tmp_path, pixels())
    after(monkeypatch, jobs, lambda: CHANGES[change](source, kind))
    with pytest.raises(GeedError) as error:
        measure(model, source, "C4", **FEW)
    assert "\n" not in str(error.value)
    assert "--data" in str(error.value)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in IN_MEMORY])
def test_a_cache_of_data_that_change_is_refused_and_keeps_what_was_right(
    model, tmp_path, monkeypatch, kind, change
):
    source = KINDS[kind](tmp_path, pixels())
    folder = tmp_path / "a.geed"
    with monkeypatch.context() as patch:
        patch.setattr(contents, "_SHARD_ORBITS", 1)
        after(patch, 3, lambda: CHANGES[change](source, kind))
        with pytest.raises(GeedError):
            caching.write_cache(model, source, "C4", folder, **FEW)
        for part in Path(tmp_path).iterdir():
            if part != folder:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        KINDS[kind](tmp_path, pixels())
    with monkeypatch.context() as patch:
        patch.setattr(contents, "_SHARD_ORBITS", 1)
        caching.write_cache(model, source, "C4", folder, **FEW)
    live = measure(model, source, "C4", **FEW)["measurements"]
    assert offline.measure_cache(folder)["measurements"] == live


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_what_was_read_as_a_whole_may_change(model, tmp_path, monkeypatch, kind):
    source = KINDS[kind](tmp_path, pixels())
    expected = measure(model, source, "C4", **FEW)
    after(monkeypatch, 1, lambda: replace(source, kind))
    got = measure(model, source, "C4", **FEW)
    assert got["measurements"] == expected["measurements"]
    assert got["data"]["fingerprint"] == expected["data"]["fingerprint"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_only_touched_are_fine(model, tmp_path, monkeypatch, kind):
    source = KINDS[kind](tmp_path, pixels())
    after(monkeypatch, 2, lambda: [os.utime(p) for p in paths_of(source)])
    assert measure(model, source, "C4", **FEW)["measurements"]


def test_files_that_come_to_a_folder_are_none_of_a_runs_business(model, tmp_path, monkeypatch):
    source = images(tmp_path, pixels())

    def add():
        for path in paths_of(source):
            os.utime(path)
        shutil.copy(paths_of(source)[3], Path(source, "0.png"))

    after(monkeypatch, 2, add)
    assert measure(model, source, "C4", **FEW)["measurements"]


@pytest.mark.parametrize(
    "more", [{}, {"precision": 0.3, "samples": None}, {"memory": "10KiB"}, {"norm_samples": 0}]
)
@pytest.mark.parametrize("kind", ["npy", "images"])
def test_the_fingerprint_is_that_of_the_samples_read_one_by_one(model, tmp_path, kind, more):
    source = KINDS[kind](tmp_path, pixels())
    data = measure(model, source, "C4", **(FEW | more))["data"]
    samples = open_samples(source, input_shape=(3, 8, 8), input_layout="NCHW")
    assert data["fingerprint"] == samples.fingerprint(data["indices"])
    assert len(data["marks"]) == len(data["indices"])
    assert len(set(data["marks"])) == len(data["marks"])


def test_samples_are_read_once_for_the_run_and_the_fingerprint(model, tmp_path, monkeypatch):
    source = npy(tmp_path, pixels())
    read = []
    plain = pipeline.prepare_run

    def prepare(*a, **named):
        prepared = plain(*a, **named)
        samples = prepared.task.source.samples
        inner = samples._read
        object.__setattr__(samples, "_read", lambda i: (read.append(i), inner(i))[1])
        return prepared

    monkeypatch.setattr(pipeline, "prepare_run", prepare)
    result = measure(model, source, "C4", **FEW)
    indices = result["data"]["indices"]
    # The first sample once more, to see that the group moves it.
    assert sorted(read) == sorted([*indices, indices[0]])


@pytest.mark.parametrize("order", [range(6), reversed(range(6)), (3, 0, 5, 1, 1, 0, 4, 2)])
def test_the_fingerprint_does_not_depend_on_the_order_of_reading(tmp_path, order):
    samples = open_samples(npy(tmp_path, pixels()), input_shape=(3, 8, 8), input_layout="NCHW")
    indices = [9, 3, 4, 0, 13, 7]
    intake = Intake(samples, indices)
    for position in order:
        intake.take(position, samples[indices[position]])
    assert intake.fingerprint() == samples.fingerprint(indices)
    assert intake.fingerprint(3) == samples.fingerprint(indices[:3])


def test_a_sample_that_differs_when_it_is_read_again_is_named(tmp_path):
    samples = open_samples(npy(tmp_path, pixels()), input_shape=(3, 8, 8), input_layout="NCHW")
    intake = Intake(samples, [5, 2])
    intake.take(1, samples[2])
    with pytest.raises(GeedError, match="sample 2 is different now"):
        intake.take(1, samples[3])


@pytest.mark.parametrize("gone", ["shard", "folder", "points"])
def test_a_cache_that_is_deleted_meanwhile_is_not_said_to_be_done(
    model, tmp_path, monkeypatch, gone
):
    source, folder = npy(tmp_path, pixels()), tmp_path / "a.geed"
    plain = cache.write_index

    def index(*a):
        plain(*a)
        if gone == "folder":
            shutil.rmtree(folder)
        else:
            next(folder.glob("shard-*" if gone == "shard" else "reference*")).unlink()

    monkeypatch.setattr(cache, "write_index", index)
    with pytest.raises(GeedError, match=r"disappeared while it was written; run the same"):
        caching.write_cache(model, source, "C4", folder, **FEW)


def test_a_cache_folder_that_is_deleted_in_the_midst_ends_in_an_error(model, tmp_path, monkeypatch):
    source, folder = npy(tmp_path, pixels()), tmp_path / "a.geed"
    monkeypatch.setattr(contents, "_SHARD_ORBITS", 1)
    after(monkeypatch, 3, lambda: removed(folder))
    with pytest.raises(GeedError, match="cache"):
        caching.write_cache(model, source, "C4", folder, **FEW)


def test_weights_that_change_during_a_run_are_refused(tmp_path, monkeypatch):
    proto = models.random_cnn(0, (8, 8))
    convert_model_to_external_data(proto, location="w.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "m.onnx")
    source = npy(tmp_path, pixels())
    path = tmp_path / "m.onnx"
    weights = (tmp_path / "w.bin").read_bytes()

    def other():
        (tmp_path / "w2.bin").write_bytes(weights[::-1])
        os.replace(tmp_path / "w2.bin", tmp_path / "w.bin")

    with monkeypatch.context() as patch:
        after(patch, 1, lambda: os.utime(tmp_path / "w.bin"))
        assert measure(path, source, "C4", **FEW)["measurements"]
    after(monkeypatch, 1, other)
    with pytest.raises(GeedError, match=r"its weights changed while it was measured"):
        measure(path, source, "C4", **FEW)
