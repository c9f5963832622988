"""What a cache is on a disk whose power was cut: whole, resumable or refused, at every moment.

Data of a file are safe once it was flushed, and names once the folder was. The worst is looked at:
of what is not safe nothing is there, or the new names are and their data are not.
"""

import builtins
import os
import threading
from importlib.resources import files
from pathlib import Path

import pytest

from onnx_geed import GeedError, measure
from onnx_geed.cache import measure_cache, write_cache

DEMO = Path(str(files("onnx_geed.demo")))
MODEL, DIGITS = DEMO / "digits_cnn.onnx", str(DEMO / "digits.npz")
FEW = {"samples": 20, "norm_samples": 22, "batch_size": 8, "measures": ["latent-l2"]}


class Disk:
    """What was written, what of it is safe, and under which names, event by event."""

    def __init__(self, folder):
        self.folder, self.lock = folder, threading.Lock()
        # Content, and whether it was flushed, by name as it is now, and by those that are safe.
        self.files, self.named, self.states = {}, {}, []

    def note(self):
        safe = {name: (data if flushed else b"") for name, (data, flushed) in self.named.items()}
        bold = {name: (data if flushed else b"") for name, (data, flushed) in self.files.items()}
        for state in (safe, bold):
            if state not in self.states:
                self.states.append(dict(state))

    def opened(self, path):
        self.files[path.name] = (b"", False)
        self.note()

    def flushed(self, handle):
        where = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if where == self.folder:
            self.named = dict(self.files)
        elif where.parent == self.folder and where.name in self.files:
            self.files[where.name] = (where.read_bytes(), True)
        self.note()

    def renamed(self, old, new):
        self.files[new.name] = self.files.pop(old.name)
        # What was written since the last flush is not safe.
        data, flushed = self.files[new.name]
        self.files[new.name] = (data, flushed and data == new.read_bytes())
        self.note()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    disk = Disk(tmp_path / "a.geed")
    plain_open, plain_sync, plain_replace = open, os.fsync, Path.replace

    def opened(path, mode="r", *rest, **more):
        stream = plain_open(path, mode, *rest, **more)
        if isinstance(path, Path) and path.parent == disk.folder and "w" in mode:
            with disk.lock:
                disk.opened(path)
        return stream

    def synced(handle):
        with disk.lock:
            plain_sync(handle)
            disk.flushed(handle)

    def replaced(path, target):
        with disk.lock:
            plain_replace(path, target)
            if Path(target).parent == disk.folder:
                disk.renamed(path, Path(target))

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        patched.setattr(os, "fsync", synced)
        patched.setattr(Path, "replace", replaced)
        write_cache(MODEL, DIGITS, "C4", disk.folder, **FEW)
    return disk


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names descriptors on Linux")
def test_a_power_cut_leaves_a_cache_that_is_whole_or_resumes_or_is_refused(disk, tmp_path):
    wanted = measure(MODEL, DIGITS, "C4", **FEW)["measurements"]
    seen = {"whole": 0, "refused": 0, "resumed": 0}
    for number, state in enumerate(disk.states):
        left = tmp_path / f"left{number}.geed"
        left.mkdir()
        for name, data in state.items():
            (left / name).write_bytes(data)
        got, told = None, ""
        try:
            got = measure_cache(left)["measurements"]
        except GeedError as error:
            told = str(error)
        if got is not None:
            assert got == wanted
            seen["whole"] += 1
            continue
        assert str(left) in told
        seen["refused"] += 1
        if number % 5 == 0:
            write_cache(MODEL, DIGITS, "C4", left, **FEW)
            assert measure_cache(left)["measurements"] == wanted
            seen["resumed"] += 1
    assert all(seen.values()), seen
