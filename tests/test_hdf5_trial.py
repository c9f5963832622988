"""A file on which HDF5 ends the process is refused in a line, by a child that is ended instead."""

from __future__ import annotations

import os
import signal
import sys

import h5py
import numpy as np
import pytest

from onnx_geed import hdf5_trial, overrun
from onnx_geed.errors import GeedError
from onnx_geed.hdf5_trial import try_hdf5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_trial, "_TRIED", set())
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.zeros(3)
            file["x"].attrs["odd"] = "text"
    return [tmp_path / "a.h5", tmp_path / "b.h5"]


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr(overrun._WATCH, "end", print)


@pytest.fixture
def crash_at_b(monkeypatch):
    plain = h5py.File

    def opened(path, mode):
        if path.name == "b.h5":
            os.kill(os.getpid(), signal.SIGSEGV)
        return plain(path, mode)

    monkeypatch.setattr(h5py, "File", opened)


def test_the_file_that_ends_the_process_is_named(files, command, crash_at_b):
    with pytest.raises(GeedError, match=r"b\.h5: is damaged, so that HDF5 ends the process"):
        try_hdf5(files)


def test_a_sound_file_is_read_whatever_else_is_held(tmp_path, command, monkeypatch):
    """Short of memory, HDF5 ends the process on virtual datasets as it does on damages."""
    monkeypatch.setattr(hdf5_trial, "_TRIED", set())
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = np.zeros((4, 3))
    layout = h5py.VirtualLayout((4, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(tmp_path / "part.h5", "x", shape=(4, 3))
    with h5py.File(tmp_path / "whole.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("x", layout)
    held = np.ones(hdf5_trial._HELD, dtype=np.uint8)
    try_hdf5([tmp_path / "whole.h5"])
    assert held[-1] == 1


def test_nothing_is_forked_in_a_program_of_others(files, crash_at_b):
    try_hdf5(files)


def test_a_file_is_looked_through_once_until_it_changes(files, command, monkeypatch):
    forks, plain = [], os.fork

    def fork():
        forks.append(1)
        return plain()

    monkeypatch.setattr(os, "fork", fork)
    try_hdf5(files)
    try_hdf5(files)
    assert len(forks) == 1
    os.utime(files[0], (1, 1))
    try_hdf5(files)
    assert len(forks) == 2


def test_what_is_no_file_or_no_hdf5_is_left_to_its_reader(tmp_path, command):
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    try_hdf5([tmp_path / "pipe.h5", tmp_path / "text.h5", tmp_path / "none.h5"])


def test_a_child_without_end_is_ended_and_proves_nothing(files, command, monkeypatch):
    monkeypatch.setattr(hdf5_trial, "_PATIENCE", 0.2)
    monkeypatch.setattr(hdf5_trial, "_look_through", lambda paths, telling: signal.pause())
    try_hdf5(files)
