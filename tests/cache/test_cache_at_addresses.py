"""Caches at addresses: written shard by shard, gone on with after a kill, and measured."""

import os
import signal
import subprocess
import sys
import time

import filelock
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import onnx_geed.demo
from onnx_geed.cache import cache_info, measure_cache, verify_cache, write_cache
from onnx_geed.cache.remote import is_cache
from onnx_geed.copies import copies_folder
from onnx_geed.errors import GeedError
from onnx_geed.run import measure

DEMO = os.path.dirname(onnx_geed.demo.__file__)
MODEL, DIGITS = f"{DEMO}/digits_cnn.onnx", f"{DEMO}/digits.npz"
SOME = {"samples": 24, "norm_samples": 30, "batch_size": 8}


def shards(system, address):
    return {n.rpartition("/")[2]: system.info(n)["ETag"] for n in system.glob(f"{address}/s*.h5")}


def test_a_cache_in_a_bucket_is_that_of_the_disk(bucket, tmp_path):
    root, system = bucket
    told, there = [], []

    def look(done, total):
        there.append(len(shards(system, f"{root}/a.geed")))

    info = write_cache(
        MODEL, DIGITS, "C8", f"{root}/a.geed", notify=told.append, progress=look, **SOME
    )
    # Each shard is there when it is counted, and not only at the end.
    assert all(count >= i for i, count in enumerate(there, 1))
    write_cache(MODEL, DIGITS, "C8", tmp_path / "a.geed", **SOME)
    assert info["path"] == f"{root}/a.geed"
    assert info["complete"]
    assert all(line.startswith(f"note: cache {root}/a.geed: ") for line in told)
    names = {path.name for path in (tmp_path / "a.geed").glob("[!.]*")}
    assert {n.rpartition("/")[2] for n in system.ls(f"{root}/a.geed", detail=False)} == names
    local, there = measure_cache(tmp_path / "a.geed"), measure_cache(f"{root}/a.geed")
    assert there["measurements"] == local["measurements"]
    assert there["command"] == f"onnx_geed.measure_cache('{root}/a.geed')"
    assert str(copies_folder()) not in repr(there)
    assert verify_cache(f"{root}/a.geed") == []
    assert cache_info(f"{root}/a.geed") == info
    assert not list((copies_folder() / "caches").rglob("*.h5"))
    # A flipped byte there is found, and told by the address.
    name = min(shards(system, f"{root}/a.geed"))
    content = bytearray(system.cat_file(f"{root}/a.geed/{name}"))
    content[len(content) // 2] ^= 1
    system.pipe_file(f"{root}/a.geed/{name}", bytes(content))
    (fault, *_) = verify_cache(f"{root}/a.geed")
    assert fault.startswith(f"{root}/a.geed/{name}") or f"{root}/a.geed" in fault
    assert str(copies_folder()) not in fault


def test_a_killed_run_goes_on_from_the_shards_there(bucket, monkeypatch, tmp_path):
    root, system = bucket
    address = f"{root}/killed.geed"
    script = (
        "from onnx_geed.cache import write as caching\n"
        "from onnx_geed.run import KernelEngine\n"
        "import time\n"
        "plain = KernelEngine.activations\n"
        "def endless(self, job):\n"
        "    time.sleep(10_000 * (job.positions.start >= 16))\n"
        "    return plain(self, job)\n"
        "KernelEngine.activations = endless\n"
        f"caching.write_cache({MODEL!r}, {DIGITS!r}, 'C8', {address!r}, **{SOME!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as run:
        # It does not end by itself, however long this takes.
        while not shards(system, address) and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    before = shards(system, address)
    assert before
    assert not system.exists(f"{address}/cache.h5")
    with pytest.raises(GeedError, match=r"^cache s3://.*/killed.geed: is incomplete"):
        measure_cache(address)
    # On another machine, which has no copies.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    put = []
    plain = type(system)._put_file

    async def noted(self, path, to, **more):
        put.append(to)
        await plain(self, path, to, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "_put_file", noted)
        type(system).clear_instance_cache()
        told = []
        write_cache(MODEL, DIGITS, "C8", address, notify=told.append, **SOME)
    type(system).clear_instance_cache()
    assert "shards exist" in told[0]
    after = shards(system, address)
    assert {name: after[name] for name in before} == before
    assert not {name.rpartition("/")[2] for name in put} & set(before)
    assert put[-1].endswith("cache.h5")
    unbroken = measure(MODEL, DIGITS, "C8", **SOME)["measurements"]
    assert measure_cache(address)["measurements"] == unbroken
    with pytest.raises(GeedError, match=r"^cache s3://.*/killed.geed: differs from this run in"):
        write_cache(MODEL, DIGITS, "C4", address, **SOME)
    # Who removes it there begins anew, whatever is still here.
    system.rm(address, recursive=True)
    write_cache(MODEL, DIGITS, "C4", address, **SOME)
    assert cache_info(address)["group"]["name"] == "C4"


def test_two_writers_of_a_user_on_a_machine(bucket):
    root, _ = bucket
    write_cache(MODEL, DIGITS, "C4", f"{root}/a.geed", samples=4, norm_samples=6)
    (lock,) = (copies_folder() / "caches").rglob(".lock")
    with (
        filelock.FileLock(lock),
        pytest.raises(GeedError, match="another process is writing to it"),
    ):
        write_cache(MODEL, DIGITS, "C4", f"{root}/a.geed", samples=4, norm_samples=6)


def test_where_a_cache_cannot_be(bucket, tmp_path):
    root, _ = bucket
    few = {"samples": 4, "norm_samples": 6}
    with pytest.raises(GeedError, match=r"must end in NAME\.geed"):
        write_cache(MODEL, DIGITS, "C4", f"{root}/acts", **few)
    with pytest.raises(GeedError, match=r"cache http://.*/a.geed.*can only be read"):
        write_cache(MODEL, DIGITS, "C4", "http://127.0.0.1:9/a.geed", **few)
    with pytest.raises(GeedError, match=r"^s3://.*/b.geed: there is no such"):
        measure_cache(f"{root}/b.geed")
    assert is_cache(f"{root}/b.geed/")
    assert not is_cache(f"{root}/b.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "onnx_geed", "measure", f"{root}/b.geed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"onnx-geed: {root}/b.geed: there is no such")


def test_a_cache_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    few = {"samples": 4, "norm_samples": 6}
    write_cache(MODEL, DIGITS, "C4", "memory://caches/a.geed", **few)
    write_cache(MODEL, DIGITS, "C4", tmp_path / "a.geed", **few)
    there, here = measure_cache("memory://caches/a.geed"), measure_cache(tmp_path / "a.geed")
    assert there["measurements"] == here["measurements"]
