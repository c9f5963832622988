"""Models, data and results at addresses: in an object store, in memory, and on a web server."""

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import h5py
import models
import numpy as np
import onnx
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from onnx_geed.addresses import address_of, joined, leaf, sibling
from onnx_geed.copies import copies_folder
from onnx_geed.errors import GeedError, without_secrets
from onnx_geed.files import write_json
from onnx_geed.model import annotate_model, load_model
from onnx_geed.results import read_result
from onnx_geed.run import benchmark, measure
from onnx_geed.safe_names import file_name

FEW = {"samples": 4, "norm_samples": 6}
SIZE = 12


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a model of each kind and data in every spelling."""
    folder = tmp_path_factory.mktemp("here")
    onnx.save(models.random_cnn(), folder / "m.onnx")
    large = onnx.load(folder / "m.onnx")
    for tensor in large.graph.initializer:  # as exporters write large ones
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    (folder / "large").mkdir()
    onnx.save(
        large,
        folder / "large" / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    for i, name in enumerate(("b/z.png", "a/é 1.png", "a/B.png", "b/10.png", "b/9.png", "c/x.png")):
        photo(folder / "photos" / name, i)
        photo(folder / "flat" / name.replace("/", "-"), i)
    (folder / "photos" / "notes.txt").write_text("not a sample")
    (folder / "photos" / ".hidden.png").write_bytes(b"no image")
    x = np.random.default_rng(3).random((6, 3, SIZE, SIZE)).astype("f")
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x, y=np.arange(6) % 3)
    with h5py.File(folder / "x.h5", "w") as file:
        file["some/x"] = x
        file["some/y"] = np.arange(6) % 3
    raw = (x * 255).astype(np.uint8)
    head = b"\0\0\x08\x04" + b"".join(int(n).to_bytes(4, "big") for n in raw.shape)
    (folder / "x-idx").write_bytes(head + raw.tobytes())
    (folder / "x-idx.gz").write_bytes(gzip.compress(head + raw.tobytes()))
    np.save(folder / "labels.npy", np.arange(6) % 3)
    (folder / "labels.txt").write_text("0\n1\n2\n0\n1\n2\n")
    np.save(folder / "masks.npy", (x[:, 0] > 0.5).astype(np.uint8))
    for i in range(6):
        path = folder / "masks" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(((x[i, 0] > 0.5) * 255).astype(np.uint8)).save(path)
    (folder / "pre.json").write_text('{"mean": [0.5], "std": [0.5]}')
    np.savez(folder / "action.npz", elements=["e", "r1", "r2", "r3"], permutation=[range(5)] * 4)
    return folder


def put_all(system, folder, root):
    for path in folder.rglob("*"):
        if path.is_file():
            system.put_file(os.fspath(path), f"{root}/{path.relative_to(folder).as_posix()}")


@pytest.fixture
def there(bucket, here):
    """The address of a bucket that holds the same, and its file system."""
    address, system = bucket
    put_all(system, here, address)
    return address, system


def same(ours, theirs):
    assert ours["measurements"] == theirs["measurements"]
    assert ours["model"]["sha256"] == theirs["model"]["sha256"]
    for part in ("fingerprint", "names", "labels", "marks", "indices"):
        assert ours["data"][part] == theirs["data"][part]


def run(*words):
    """The command line in a process of its own; status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "onnx_geed", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "given",
    [
        "s3://bucket/key",
        "gs://b/k",
        "memory://x",
        "http://127.0.0.1:80/x.npy",
        "file:///tmp/x",
        "simplecache::s3://b/k",
        "https://user:pass@host/x.onnx",
    ],
)
def test_addresses_are_told_from_paths(given):
    assert address_of(given) == given
    if "::" not in given and not given.startswith("file"):
        assert address_of(Path(given)) == given


@pytest.mark.parametrize(
    "given",
    [
        "C:\\x.npy",
        "C:/x.npy",
        "C://x.npy",
        "file.h5:/dataset",
        "file.h5://dataset",
        "a.b:function",
        "background:folder/8",
        "imagenet-c:fog",
        "s3:bucket",
        "/a//b",
        "x",
        Path("x.h5:/d"),
        None,
    ],
)
def test_what_looks_like_an_address_is_none(given):
    assert address_of(given) is None


def test_names_beside_and_below():
    assert sibling("s3://b/suites/x.toml", "../runs/a.onnx") == "s3://b/runs/a.onnx"
    assert sibling("s3://b/x.toml", "../../a.onnx") == "s3://b/a.onnx"
    assert sibling("dir/x.toml", "y") == Path("dir/y")
    assert joined("s3://b/out/", "cells", "a.json") == "s3://b/out/cells/a.json"
    assert leaf("https://h/a%20b.onnx?sig=1/2") == "a b.onnx"
    assert leaf("s3://b/a b?.onnx") == "a b?.onnx"


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("https://user:p@ss@host/x: no", "https://***@host/x: no"),
        ("at 's3://k:s@b/x?sig=a%3D&t=2'", "at 's3://***@b/x?sig=***&t=***'"),
        ("http://h/x?token=abc: gone", "http://h/x?token=***: gone"),
        ("s3://b/a@b/x", "s3://b/a@b/x"),
        ("http://127.0.0.1:80/x.h5:/d", "http://127.0.0.1:80/x.h5:/d"),
    ],
)
def test_keys_and_tokens_are_cut(text, cut):
    assert without_secrets(text) == cut
    assert without_secrets(cut) == cut
    assert str(GeedError(text)) == cut


def test_a_key_is_in_no_name_of_a_file():
    assert file_name("background:https://user:sesame@host/photos/8") == (
        "background-https-host-photos-8"
    )


DATA = ("photos", "flat", "x.npy", "x.npz", "x.npz:x", "x.h5:/some/x", "x-idx", "x-idx.gz")


def test_a_bucket_measures_as_the_disk(here, there):
    root, _ = there
    for data in DATA:
        local = measure(here / "m.onnx", f"{here}/{data}", "C4", **FEW)
        remote = measure(f"{root}/m.onnx", f"{root}/{data}", "C4", **FEW)
        same(local, remote)
        assert remote["model"]["path"] == f"{root}/m.onnx"
        assert remote["data"]["source"] == f"{root}/{data}"
        assert str(copies_folder()) not in json.dumps(remote)


def test_labels_masks_targets_and_backgrounds(here, there):
    root, _ = there
    every = [
        {"labels": "labels.npy", "measures": ["symmetry-share"]},
        {"labels": "labels.txt", "measures": ["symmetry-share"]},
        {"preprocess": "pre.json"},
    ]
    for options in every:
        local, remote = (
            measure(
                f"{base}/m.onnx",
                f"{base}/x.npy",
                "C4",
                **FEW,
                **{k: v if k == "measures" else f"{base}/{v}" for k, v in options.items()},
            )
            for base in (here, root)
        )
        same(local, remote)
    for masks in ("masks.npy", "masks"):
        local, remote = (
            measure(
                f"{base}/m.onnx",
                f"{base}/x.npy",
                f"background:{base}/flat/3",
                masks=f"{base}/{masks}",
                **FEW,
            )
            for base in (here, root)
        )
        same(local, remote)
        assert remote["data"]["masks"]["source"] == f"{root}/{masks}"
        assert remote["group"]["backgrounds"] == local["group"]["backgrounds"]


def test_values_of_other_inputs_and_targets(here, there, tmp_path):
    root, system = there
    onnx.save(models.two_input(), tmp_path / "two.onnx")
    first, other = onnx.load(tmp_path / "two.onnx").graph.input
    shapes = [[d.dim_value or 6 for d in i.type.tensor_type.shape.dim] for i in (first, other)]
    for name, shape in zip(("first.npy", "other.npy"), shapes, strict=True):
        np.save(tmp_path / name, np.random.default_rng(1).random(shape).astype("f"))
    put_all(system, tmp_path, f"{root}/two")
    local, remote = (
        measure(
            f"{base}/two.onnx",
            f"{base}/first.npy",
            "C4",
            feed={other.name: f"{base}/other.npy"},
            input=first.name,
            **FEW,
        )
        for base in (tmp_path, f"{root}/two")
    )
    same(local, remote)
    output = onnx.load(here / "m.onnx").graph.output[0].name
    classes = load_model(here / "m.onnx").proto.graph.output[0].type.tensor_type.shape.dim[1]
    np.save(tmp_path / "t.npy", np.random.default_rng(2).random((6, classes.dim_value)))
    system.put_file(os.fspath(tmp_path / "t.npy"), f"{root}/t.npy")
    words = ["--group", "C4", "--samples", 4, "--norm-samples", 6, "--measure", "symmetry-share"]
    lines = []
    for base, target in ((here, tmp_path), (root, root)):
        status, shown, told = run(
            *("measure", f"{base}/m.onnx", "--data", f"{base}/x.npy", *words),
            *("--target", f"{output}={target}/t.npy", "--format", "csv"),
        )
        assert status == 0, told
        lines.append([line.partition(",C4,")[2] for line in shown.splitlines()])
    assert len(lines[0]) > 1
    assert lines[0] == lines[1]


def test_weights_beside_a_model_come_with_it(here, there):
    root, system = there
    local = load_model(here / "large" / "m.onnx")
    remote = load_model(f"{root}/large/m.onnx")
    assert remote.sha256 == local.sha256
    same(
        measure(here / "large" / "m.onnx", here / "x.npy", "C4", **FEW),
        measure(f"{root}/large/m.onnx", f"{root}/x.npy", "C4", **FEW),
    )
    system.rm_file(f"{root}/large/weights.bin")
    with pytest.raises(GeedError, match=r"^s3://.*/large/m.onnx: its weights .* are missing"):
        load_model(f"{root}/large/m.onnx")


@pytest.mark.parametrize("location", ["../x.npy", "/etc/passwd", "s3://other/x", "memory://x"])
def test_weights_elsewhere_stay_refused(here, there, tmp_path, location):
    root, system = there
    proto = onnx.load(here / "large" / "m.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path = tmp_path / "evil.onnx"
    path.write_bytes(proto.SerializeToString())
    system.put_file(os.fspath(path), f"{root}/models/evil.onnx")
    asked = []
    plain = type(system)._info

    async def noted(self, path, *args, **more):
        asked.append(path)
        return await plain(self, path, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(system), "_info", noted)
        type(system).clear_instance_cache()  # whose methods are bound already
        for given in (path, f"{root}/models/evil.onnx"):
            with pytest.raises(GeedError, match="lie outside its folder"):
                load_model(given)
    assert {p.rpartition("/")[2] for p in asked} == {"evil.onnx"}


def test_a_changed_object_of_the_same_size_is_noticed(here, there, tmp_path):
    root, system = there
    before = measure(f"{root}/m.onnx", f"{root}/x.npy", "C4", **FEW)
    x = np.load(here / "x.npy")
    np.save(tmp_path / "x.npy", x[::-1])
    assert (tmp_path / "x.npy").stat().st_size == (here / "x.npy").stat().st_size
    system.put_file(os.fspath(tmp_path / "x.npy"), f"{root}/x.npy")
    after = measure(f"{root}/m.onnx", f"{root}/x.npy", "C4", **FEW)
    assert after["data"]["fingerprint"] != before["data"]["fingerprint"]
    photos = measure(f"{root}/m.onnx", f"{root}/photos", "C4", **FEW)
    photo(tmp_path / "new.png", 99)
    system.put_file(os.fspath(tmp_path / "new.png"), f"{root}/photos/a/B.png")
    again = measure(f"{root}/m.onnx", f"{root}/photos", "C4", **FEW)
    assert again["data"]["fingerprint"] != photos["data"]["fingerprint"]


def test_what_is_here_is_not_fetched_again(there, monkeypatch):
    root, system = there
    fetched = []
    plain = type(system)._get_file

    async def noted(self, path, to, **more):
        fetched.append(path)
        await plain(self, path, to, **more)

    monkeypatch.setattr(type(system), "_get_file", noted)
    type(system).clear_instance_cache()
    measure(f"{root}/m.onnx", f"{root}/photos", "C4", **FEW)
    assert len(fetched) == 1 + 6
    measure(f"{root}/m.onnx", f"{root}/photos", "C4", **FEW)
    assert len(fetched) == 1 + 6


def test_half_a_file_is_never_taken(there, monkeypatch):
    root, system = there

    async def break_off(self, path, to, **more):
        Path(to).write_bytes(b"half")
        raise ConnectionResetError("the line is dead")

    async def cut_off(self, path, to, **more):
        Path(to).write_bytes(b"half")

    for broken, said in ((break_off, "cannot be reached"), (cut_off, "4 of")):
        with monkeypatch.context() as patch:
            patch.setattr(type(system), "_get_file", broken)
            type(system).clear_instance_cache()
            with pytest.raises(GeedError, match=said):
                load_model(f"{root}/m.onnx")
        left = [p for p in copies_folder().rglob("*") if p.is_file()]
        assert left == []
    type(system).clear_instance_cache()
    assert load_model(f"{root}/m.onnx").sha256


def test_a_copy_that_lost_its_end_is_fetched_again(there):
    root, _ = there
    good = load_model(f"{root}/m.onnx").sha256
    for path in copies_folder().rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:100])
    assert load_model(f"{root}/m.onnx").sha256 == good


def test_a_name_that_leads_out_of_the_folder_is_refused(there):
    root, system = there
    system.pipe_file(f"{root}/bad/../../../x.png", b"no image")
    system.pipe_file(f"{root}/bad/a.png", b"no image")
    with pytest.raises(GeedError, match="leads out of the folder"):
        measure(f"{root}/m.onnx", f"{root}/bad", "C4", **FEW)


def test_results_and_pages_are_written_back(here, there, tmp_path):
    root, system = there
    words = ["--group", "C4", "--samples", 4, "--norm-samples", 6]
    status, _, told = run(
        "measure", f"{root}/m.onnx", "--data", f"{root}/photos", *words, "--out", f"{root}/o/r.json"
    )
    assert (status, told) == (0, told)
    assert "Traceback" not in told
    local = tmp_path / "r.json"
    run("measure", here / "m.onnx", "--data", here / "photos", *words, "--out", local)
    same(read_result(local), read_result(f"{root}/o/r.json"))
    assert read_result(f"{root}/o/r.json")["file"] == f"{root}/o/r.json"
    assert f"--data {root}/photos" in read_result(f"{root}/o/r.json")["command"]
    page = f"{root}/o/page.html"
    status, _, told = run(
        "report", f"{root}/o/r.json", local, "-o", page, "--data", f"{root}/photos"
    )
    assert status == 0, told
    assert b"<html" in system.cat_file(page)
    status, _out, told = run("compare", f"{root}/o/r.json", local)
    assert status == 0, told
    assert not [name for name in system.find(root) if "unfinished" in name]
    # Several groups are several files beside each other.
    status, _, told = run(
        *("measure", f"{root}/m.onnx", "--data", f"{root}/x.npy", *words[2:]),
        *("--group", "C4", "--group", "flip-h", "--out", f"{root}/o/s.json"),
    )
    assert status == 0, told
    assert {leaf(n) for n in system.find(f"{root}/o")} >= {"s.C4.json", "s.flip-h.json"}


def test_models_are_written_back_with_their_weights(here, there):
    root, system = there
    annotate_model(f"{root}/large/m.onnx", f"{root}/known/k.onnx", preprocess="mean=0.5 std=0.5")
    assert system.exists(f"{root}/known/weights.bin")
    again = load_model(f"{root}/known/k.onnx")
    assert "mean" in again.metadata["onnx_geed.preprocess"]
    status, _, told = run(
        "compile", f"{root}/m.onnx", "--group", "C4", "-o", f"{root}/measured.onnx"
    )
    assert status == 0, told
    onnx.checker.check_model(onnx.load_from_string(system.cat_file(f"{root}/measured.onnx")))


def test_fits_are_written_and_read_there(here, there):
    root, _ = there
    layer = next(n.output[0] for n in onnx.load(here / "m.onnx").graph.node if n.op_type == "Relu")
    words = ["--data", f"{root}/x.npy", "--group", "C4", "--samples", 2]
    status, _, told = run(
        *("fit", f"{root}/m.onnx", *words, "--layer", layer, "-o", f"{root}/a.npz"),
        *("--fit-samples", 4, "--kind", "permutation"),
    )
    assert status == 0, told
    status, _, told = run(
        *("measure", f"{root}/m.onnx", *words, "--measure", f"unexplained@{layer}"),
        *("--norm-samples", 6, "--output-action", f"{layer}={root}/a.npz"),
    )
    assert status == 0, told


def test_a_suite_lies_and_writes_there(here, there, tmp_path):
    root, system = there
    for seed in (1, 2):
        onnx.save(models.random_cnn(seed=seed), tmp_path / f"cnn{seed}.onnx")
        system.put_file(os.fspath(tmp_path / f"cnn{seed}.onnx"), f"{root}/runs/cnn{seed}.onnx")
    text = """
groups = ["C4"]
measures = ["latent-l2"]
[options]
samples = 4
norm-samples = 6
[[models]]
name = "cnn"
path = "{}runs/cnn{{seed}}.onnx"
[[data]]
name = "x"
path = "{}"
"""
    np.save(tmp_path / "x.npy", np.load(here / "x.npy"))
    (tmp_path / "runs").mkdir()
    for seed in (1, 2):
        (tmp_path / f"cnn{seed}.onnx").rename(tmp_path / "runs" / f"cnn{seed}.onnx")
    (tmp_path / "local.toml").write_text(text.format("", "x.npy"))
    (tmp_path / "mixed.toml").write_text(text.format(f"{root}/", f"{root}/x.h5:/some/x"))
    system.pipe_file(f"{root}/suites/there.toml", text.format("../", "../x.npy").encode())
    suites = [tmp_path / "local.toml", tmp_path / "mixed.toml", f"{root}/suites/there.toml"]
    outs = [tmp_path / "out", f"{root}/mixed", f"{root}/out"]
    summaries = []
    for suite, out in zip(suites, outs, strict=True):
        told = []
        summaries.append(benchmark(suite, out, notify=told.append))
        assert all("measuring" in line for line in told)
        benchmark(suite, out, notify=told.append)
        assert [line.rpartition(": ")[2] for line in told[2:]] == ["kept", "kept"]
    assert summaries[0]["failed"] == []
    assert summaries[0]["rows"] == summaries[1]["rows"] == summaries[2]["rows"]
    assert json.loads(system.cat_file(f"{root}/out/summary.json"))["rows"] == summaries[2]["rows"]
    assert len(system.glob(f"{root}/out/cells/*.json")) == 2
    assert run("benchmark", suites[2], "-o", f"{root}/out")[0] == 0
    assert system.exists(f"{root}/out/summary.csv")


def test_memory_has_no_checksums_and_is_read_anew(here, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = MemoryFileSystem()
    put_all(system, here, "/all")
    local = measure(here / "m.onnx", here / "photos", "C4", **FEW)
    same(local, measure("memory://all/m.onnx", "memory://all/photos", "C4", **FEW))
    same(local, measure(Path("memory://all/m.onnx"), Path("memory://all/photos"), "C4", **FEW))
    x = np.load(here / "x.npy")
    first = measure("memory://all/m.onnx", "memory://all/x.npy", "C4", **FEW)
    np.save(tmp_path / "x.npy", x[::-1])
    system.put_file(os.fspath(tmp_path / "x.npy"), "/all/x.npy")
    second = measure("memory://all/m.onnx", "memory://all/x.npy", "C4", **FEW)
    assert first["data"]["fingerprint"] != second["data"]["fingerprint"]
    write_json(first, "memory://out/r.json")
    same(first, read_result("memory://out/r.json"))


def test_file_addresses_are_read_where_they_lie(here, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = measure(here / "m.onnx", here / "x.h5:/some/x", "C4", **FEW)
    remote = measure(f"file://{here}/m.onnx", f"file://{here}/x.h5:/some/x", "C4", **FEW)
    same(local, remote)
    assert remote["data"]["source"] == f"file://{here}/x.h5:/some/x"
    write_json(remote, f"file://{tmp_path}/r.json")
    same(local, read_result(tmp_path / "r.json"))
    assert not list(tmp_path.rglob("*.npy"))


def test_a_web_server_is_read_and_not_written_to(here, web, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address, folder = web
    for name in ("m.onnx", "x.npy", "x.h5"):
        (folder / name).write_bytes((here / name).read_bytes())
    for path in (here / "photos").rglob("*.png"):
        target = folder / "photos" / path.relative_to(here / "photos")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "large").mkdir()
    for path in (here / "large").iterdir():
        (folder / "large" / path.name).write_bytes(path.read_bytes())
    for data in ("x.npy", "x.h5:/some/x", "photos", "photos/"):
        local = measure(here / "m.onnx", f"{here}/{data.rstrip('/')}", "C4", **FEW)
        same(local, measure(f"{address}/m.onnx", f"{address}/{data}", "C4", **FEW))
    assert load_model(f"{address}/large/m.onnx").sha256 == load_model(here / "large/m.onnx").sha256
    # Of the same size, within the second that its server's clock tells.
    first = measure(f"{address}/m.onnx", f"{address}/x.npy", "C4", **FEW)
    moment = time.time()
    os.utime(folder / "x.npy", (moment, moment))
    first = measure(f"{address}/m.onnx", f"{address}/x.npy", "C4", **FEW)
    np.save(folder / "x.npy", np.load(here / "x.npy")[::-1])
    os.utime(folder / "x.npy", (moment, moment))
    second = measure(f"{address}/m.onnx", f"{address}/x.npy", "C4", **FEW)
    assert first["data"]["fingerprint"] != second["data"]["fingerprint"]
    with pytest.raises(GeedError, match=r"http:// can only be read"):
        write_json(first, f"{address}/r.json")
    with pytest.raises(GeedError, match=r"^http://.*/y.npy: there is no such .* mean 'x.npy'"):
        measure(f"{address}/m.onnx", f"{address}/y.npy", "C4", **FEW)


class Guarded(BaseHTTPRequestHandler):
    """Lets nobody in."""

    def do_GET(self):
        self.send_error(403 if "secret" in self.path else 401)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def test_no_right_to_read_is_told(here, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name in ("secret.onnx", "m.onnx"):
            with pytest.raises(
                GeedError, match=rf"^{address}/{name}: permission denied .*use cred"
            ):
                load_model(f"{address}/{name}")
        server.shutdown()


def test_a_result_does_not_replace_what_is_read(there):
    root, _ = there
    for name in ("m.onnx", "x.npy"):
        status, _, told = run(
            *("measure", f"{root}/m.onnx", "--data", f"{root}/x.npy", "--group", "C4"),
            *("--out", f"{root}/{name}"),
        )
        assert status == 2
        assert "is the file that is read; name another file" in told


class Faulty(MemoryFileSystem):
    """A file system, and no object store, of which a put breaks in the middle."""

    protocol = "faulty"
    broken = True

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        """Write half, and fail."""
        if self.broken and value:
            super().pipe_file(path, value[: len(value) // 2])
            raise OSError("the line is dead")
        super().pipe_file(path, value)


def test_a_put_that_fails_half_way_leaves_nothing(here, monkeypatch):
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    system = fsspec.filesystem("faulty")
    monkeypatch.setattr(Faulty, "store", {})
    monkeypatch.setattr(Faulty, "broken", False)
    write_json({"a": 1}, "faulty://out/r.json")
    monkeypatch.setattr(Faulty, "broken", True)
    with pytest.raises(GeedError, match=r"--out faulty://out/r.json: cannot be written .*line is"):
        write_json({"a": 2}, "faulty://out/r.json")
    assert system.find("/") == ["/out/r.json"]
    assert json.loads(system.cat_file("/out/r.json")) == {"a": 1}


def breaking_proxy(endpoint, after):
    """A proxy that dies in the middle of a large request; its port."""
    _, _, port = endpoint.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(client,), daemon=True).start()

    def handle(client):
        upstream = socket.create_connection(("127.0.0.1", int(port)))
        passed = 0

        def back():
            while data := upstream.recv(1 << 16):
                client.sendall(data)

        threading.Thread(target=lambda: _quiet(back), daemon=True).start()
        with client, upstream:
            while data := client.recv(1 << 12):
                passed += len(data)
                if passed > after:
                    return
                upstream.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def _quiet(call):
    with contextlib.suppress(OSError):
        call()


def test_a_put_to_a_bucket_that_breaks_leaves_what_was_there(there, object_store, monkeypatch):
    root, system = there
    system.pipe_file(f"{root}/r.json", b'{"a": 1}')
    with breaking_proxy(object_store, 20_000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        begun = time.monotonic()
        with pytest.raises(GeedError, match=r"^--out s3://.*/r.json: cannot be"):
            write_json({"a": list(range(50_000))}, f"{root}/r.json")
        assert time.monotonic() - begun < 60
    assert system.cat_file(f"{root}/r.json") == b'{"a": 1}'
    s3fs.S3FileSystem.clear_instance_cache()


def test_errors_are_one_line_each(here, there, monkeypatch, tmp_path):
    root, _system = there
    data = ["--data", here / "x.npy", "--group", "C4"]

    def error(*words, model=here / "m.onnx"):
        begun = time.monotonic()
        status, _, told = run("measure", model, *words)
        assert status == 2
        assert time.monotonic() - begun < 60
        (line,) = [one for one in told.splitlines() if "compiling" not in one]
        return line

    line = error(*data, model=f"{root}/n.onnx")
    assert f"{root}/n.onnx: there is no such object" in line
    assert "Did you mean 'm.onnx'" in line
    assert "there is no such" in error(*data, model="s3://no-such-bucket-here/m.onnx")
    line = error("--data", f"{root}/photo", "--group", "C4")
    assert f"{root}/photo: there is no such object" in line
    assert "'photos'" in line
    assert "no samples in the folder" in error("--data", f"{root}/large", "--group", "C4")
    line = error("--data", f"{root}/x.h5:/some/z", "--group", "C4")
    assert f"{root}/x.h5" in line
    assert "cache" not in line
    line = error(*data, model=f"{root}/x.npy")
    assert line.startswith(f"onnx-geed: {root}/x.npy: not an ONNX model")
    assert "fsspec does not know s33://" in error(*data, model="s33://b/m.onnx")
    assert "http:// can only be read" in error(*data, "--out", "http://127.0.0.1:9/r.json")
    assert "there is no such" in error(*data, "--out", "s3://no-such-bucket-here/r.json")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    line = error(*data, model=f"http://user:sesame@127.0.0.1:{port}/m.onnx")
    assert "cannot be reached" in line
    assert "sesame" not in line
    assert "user" not in line
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    assert "cannot be reached" in error(*data, model=f"{root}/m.onnx")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "no credentials were found" in error(*data, model=f"{root}/m.onnx")


def test_secrets_are_in_no_result(here, web, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address, folder = web
    for name in ("m.onnx", "x.npy"):
        (folder / name).write_bytes((here / name).read_bytes())
    secret = address.replace("http://", "http://user:sesame@")
    out = tmp_path / "r.json"
    words = [
        "measure",
        f"{secret}/m.onnx?token=openly",
        "--data",
        f"{secret}/x.npy",
        "--group",
        "C4",
    ]
    status, shown, told = run(*words, "--samples", 4, "--norm-samples", 6, "--out", out)
    assert status == 0, told
    for text in (out.read_text(), shown, told):
        assert "sesame" not in text
        assert "openly" not in text
    assert "http://***@127.0.0.1" in out.read_text()
    photo(folder / "flat" / "a.png", 1)
    photo(folder / "flat" / "b.png", 2)
    np.save(folder / "masks.npy", np.ones((6, SIZE, SIZE), dtype=np.uint8))
    backgrounds = ["--group", f"background:{secret}/flat/2", "--masks", f"{secret}/masks.npy"]
    words = ["measure", here / "m.onnx", "--data", here / "x.npy", *backgrounds]
    cached = ["--cache", tmp_path / "a.geed", "--samples", 4, "--norm-samples", 6]
    for more in ([], cached):
        status, shown, told = run(*words, *more, "--out", out)
        assert status == 0, told
        assert "sesame" not in out.read_text() + shown + told
        assert "http://***@" in out.read_text()
    assert not any(b"sesame" in p.read_bytes() for p in (tmp_path / "a.geed").iterdir())
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kept
    assert not any(b"sesame" in p.read_bytes() for p in kept)


@pytest.mark.parametrize(
    ("missing", "address", "said"),
    [
        ("fsspec", "s3://b/m.onnx", "fsspec is not installed; pip install 'onnx-geed[remote]'"),
        ("s3fs", "s3://b/m.onnx", "s3:// needs the package s3fs, which is not installed; pip in"),
        ("paramiko", "sftp://u:pw@h/m.onnx", "needs the package paramiko, which is not installed"),
        ("aiohttp", "http://h/m.onnx", "not installed; pip install 'onnx-geed[remote]'"),
    ],
)
def test_what_is_not_installed_is_named(missing, address, said):
    script = (
        f"import sys\nsys.modules[{missing!r}] = None\n"
        "from onnx_geed.__main__ import main\n"
        f"sys.argv[1:] = ['layers', {address!r}]\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "pw" not in line


def test_plain_paths_load_nothing_of_it(here):
    words = ["measure", f"{here}/m.onnx", "--data", f"{here}/x.npy", "--group", "C4"]
    script = (
        "import sys\nfrom onnx_geed.__main__ import main\n"
        f"sys.argv[1:] = {[*words, '--samples', '2', '--norm-samples', '4']!r}\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "found = {'fsspec', 's3fs', 'aiohttp', 'urllib.request', 'botocore'} & set(sys.modules)\n"
        "sys.exit(f'loaded {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
