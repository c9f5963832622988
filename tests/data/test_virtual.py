"""HDF5 datasets made of others: what is missing is refused, and never read as zeros."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from onnx_geed import GeedError
from onnx_geed.data import open_rows

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3) + 1


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["d"] = ROWS
    return tmp_path


def source(file, name="d", rows=2):
    return h5py.VirtualSource(file, name, (rows, 3))


def virtual(path, sources, rows=4, own=()):
    layout = h5py.VirtualLayout((rows, 3), dtype=np.float32)
    for at, part in sources:
        layout[at : at + 2] = part
    with h5py.File(path, "w") as file:
        for name in own:
            file[name] = ROWS
        file.create_virtual_dataset("x", layout)
    return path


def numbered(path):
    """Rows of u0.h5, u1.h5 and so on, as many as there are."""
    end = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((4, 3), (end, 3))
    space.select_hyperslab((0, 0), (end, 1), (1, 3), (1, 3))
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_virtual(space, b"u%b.h5", b"d", h5py.h5s.create_simple((1, 3), (1, 3)))
    with h5py.File(path, "w") as file:
        shape = h5py.h5s.create_simple((1, 3), (end, 3))
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, shape, made)
    return path


def opened(path):
    rows = open_rows(f"{path}:/x")
    try:
        return np.asarray(rows.read(slice(None)))
    finally:
        rows.close()


def test_what_is_whole_is_read(folder):
    both = [(0, source("a.h5")), (2, source("b.h5"))]
    np.testing.assert_array_equal(opened(virtual(folder / "v.h5", both)), [*ROWS, *ROWS])
    nested = [(0, source("v.h5", "x", 4)[1:3]), (2, source("."))]
    got = opened(virtual(folder / "n.h5", nested, own=["d"]))
    np.testing.assert_array_equal(got, [ROWS[1], ROWS[0], *ROWS])
    for n in range(3):
        with h5py.File(folder / f"u{n}.h5", "w") as file:
            file["d"] = ROWS[:1] + n
    np.testing.assert_array_equal(
        opened(numbered(folder / "u.h5")), [ROWS[0] + n for n in range(3)]
    )


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ((2, source("c.h5")), "whose file c.h5 is missing"),
        ((2, source("b.h5", "e")), "whose file b.h5 has no dataset e"),
        ((2, source("b.h5", "d", 5)[3:5]), "a dataset d of 2×3 values, but 5×3 are needed"),
        ((2, source(".", "e")), "whose own file has no dataset e"),
        ((2, source("gone.h5", "x", 4)[2:4]), "whose file c.h5 is missing"),
        ((0, source("b.h5")), "6 of the 12 values of this virtual dataset have no source"),
        ((2, source("v.h5", "x", 4)[2:4]), "made of itself"),
    ],
)
def test_what_is_missing_is_refused(folder, second, words):
    virtual(folder / "gone.h5", [(0, source("a.h5")), (2, source("c.h5"))])
    first = [] if "no source" in words else [(0, source("a.h5"))]
    with pytest.raises(GeedError, match=words):
        opened(virtual(folder / "v.h5", [*first, second]))


def test_a_gap_among_numbered_files_is_refused(folder):
    with pytest.raises(GeedError, match=r"whose files u%b\.h5 are missing"):
        opened(numbered(folder / "u.h5"))
    for n in (0, 1, 3):
        with h5py.File(folder / f"u{n}.h5", "w") as file:
            file["d"] = ROWS[:1]
    with pytest.raises(GeedError, match=r"whose file u2\.h5 is missing"):
        opened(numbered(folder / "u.h5"))


def test_values_in_a_raw_file_that_is_gone_are_refused(folder):
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_dataset("x", (2, 3), np.float32, external=[("raw.bin", 0, 24)])
    with pytest.raises(GeedError, match=r"in a file raw\.bin that is missing"):
        opened(folder / "e.h5")


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_files_that_cannot_all_be_open_are_refused(folder):
    layout = h5py.VirtualLayout((60, 3), dtype=np.float32)
    for n in range(30):
        with h5py.File(folder / f"s{n}.h5", "w") as file:
            file["d"] = ROWS
        layout[2 * n : 2 * n + 2] = source(folder / f"s{n}.h5")
    with h5py.File(folder / "many.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    script = (
        "import resource, sys\n"
        "from onnx_geed.data import open_rows\n"
        "def limit(n): resource.setrlimit(resource.RLIMIT_NOFILE, (n, 4096))\n"
        "many = sys.argv[1] + ':/x'\n"
        "limit(64)\n"
        "assert open_rows(many).read(slice(None)).min() == 1\n"
        "rows = open_rows(many)\n"
        "for act in (lambda: open_rows(many), lambda: rows.read(slice(None))):\n"
        "    limit(25)\n"
        "    try:\n"
        "        act()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, 'too many open files' in str(error))\n"
    )
    got = subprocess.run(
        [sys.executable, "-c", script, folder / "many.h5"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert got.stdout == "GeedError True\n" * 2, got.stderr


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("raw.bin", 23, r"a file raw\.bin of 23 bytes, but 24 are needed"),
        ("../raw.bin", 24, r"a file \.\./raw\.bin outside its own folder"),
        ("link.bin", 24, r"a file link\.bin outside its own folder"),
        ("", 24, r"outside its own folder"),
    ],
)
def test_raw_values_lie_beside_the_dataset_all_of_them(tmp_path, name, size, said):
    folder = tmp_path / "own"
    folder.mkdir()
    name = name or str(tmp_path / "raw.bin")
    for place in (folder, tmp_path):
        (place / "raw.bin").write_bytes(bytes(size))
    (folder / "link.bin").symlink_to(tmp_path / "raw.bin")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", (2, 3), np.float32, external=[(name, 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(GeedError, match=said):
        opened(folder / "a.h5")
