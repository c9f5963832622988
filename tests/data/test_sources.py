import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from onnx_geed import GeedError
from onnx_geed.data import array_files, open_rows

X = np.random.default_rng(0).random((5, 2, 3, 4)).astype(np.float32)
Y = np.array([3, 1, 4, 1, 5])


def idx(values, code):
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


def same(text, expected, labels=None):
    rows = open_rows(str(text))
    assert rows.shape == expected.shape
    np.testing.assert_array_equal(rows.read(...), expected)
    np.testing.assert_array_equal(rows.read(2), expected[2])
    if labels is None:
        assert rows.labels is None or rows.labels.values is None
    else:
        np.testing.assert_array_equal(rows.labels.values, labels)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "f2"])
def test_npy_is_read_in_any_order_and_byte_order(tmp_path, monkeypatch, order, dtype, held):
    if not held:
        monkeypatch.setattr(array_files, "_HELD", 0)
    values = np.asarray(X * 200, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", values)
    same(tmp_path / "x.npy", values)


def test_a_sample_may_be_changed_where_all_are_held(tmp_path):
    np.save(tmp_path / "x.npy", X)
    rows = open_rows(str(tmp_path / "x.npy"))
    rows.read(1)[...] = 7
    np.testing.assert_array_equal(rows.read(1), X[1])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


@pytest.mark.parametrize("shape", [(3, 16385), (1 << 10, 1, 100, 100)])
def test_large_samples_and_large_arrays_are_not_held(tmp_path, monkeypatch, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    asked = []
    read = array_files._SharedFile._read
    monkeypatch.setattr(
        array_files._SharedFile,
        "_read",
        lambda self, dtype, start, count: asked.append(count) or read(self, dtype, start, count),
    )
    open_rows(str(tmp_path / "x.npy")).read(2)
    assert {*asked} == {np.prod(shape[1:])}


def test_npz_offers_its_only_array(tmp_path):
    np.savez(tmp_path / "a.npz", anything=X)
    same(tmp_path / "a.npz", X)


@pytest.mark.parametrize("name", ["x", "images", "data"])
@pytest.mark.parametrize("label", ["y", "labels"])
def test_npz_offers_the_usual_names_with_their_labels(tmp_path, name, label):
    np.savez_compressed(tmp_path / "a.npz", **{name: X, label: Y, "other": X + 1})
    same(tmp_path / "a.npz", X, Y)


def test_npz_takes_a_key_and_finds_that_parts_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X[::-1], y_test=Y[::-1])
    same(f"{tmp_path}/a.npz:x_test", X[::-1], Y[::-1])
    with pytest.raises(GeedError, match=r"which array\? It holds x_train, y_train.*a.npz:x_train"):
        open_rows(str(tmp_path / "a.npz"))


def test_npz_with_two_usual_names_asks_which(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, images=X)
    with pytest.raises(GeedError, match="which array"):
        open_rows(str(tmp_path / "a.npz"))


def test_labels_that_are_pickled_do_not_hide_the_samples(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.array([{}] * 5, dtype=object))
    same(tmp_path / "a.npz", X)


def test_hdf5_takes_paths_into_groups(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("deep/er/x", data=X, chunks=(2, 2, 3, 4), compression="gzip")
        file["deep/er/y"] = Y
        file["deep/er/z"] = X + 1
        file["link"] = h5py.SoftLink("/deep/er/z")
        file["colon:name"] = X - 1
    same(f"{tmp_path}/a.h5:/deep/er/x", X, Y)
    same(f"{tmp_path}/a.h5:deep/er/x", X, Y)
    same(f"{tmp_path}/a.h5:/deep", X, Y)  # x is what a group's samples are called
    same(f"{tmp_path}/a.h5:/link", X + 1)
    same(f"{tmp_path}/a.h5:/colon:name", X - 1)


def test_hdf5_offers_its_only_dataset_under_any_file_name(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["g/any"] = X
    same(tmp_path / "a.mat", X)


def test_an_hdf5_dataset_whose_parts_are_missing_is_refused(tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource("part.h5", "x", X.shape)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    same(f"{tmp_path}/all.h5:/x", X)
    (tmp_path / "part.h5").unlink()
    with pytest.raises(GeedError, match=r"file part\.h5 is missing"):
        open_rows(f"{tmp_path}/all.h5:/x")


def test_a_flipped_byte_in_a_checked_hdf5_chunk_is_found_on_reading(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=X, chunks=X.shape, fletcher32=True)
        offset = data.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 9] ^= 1
    path.write_bytes(content)
    rows = open_rows(f"{path}:/x")
    with pytest.raises(GeedError, match=r"a\.h5:/x: cannot be read"):
        rows.read(0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_idx_is_read_plain_and_packed(tmp_path, packed, code, dtype):
    values = (X[:, 0] * 200).astype(dtype)
    path = tmp_path / ("a-idx3.gz" if packed else "a-idx3-ubyte")
    path.write_bytes(gzip.compress(idx(values, code)) if packed else idx(values, code))
    same(path, values)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the folder that the command is given in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", os.getcwd())])
    before = set(sys.modules)

    def write(name, text):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_is_called_for_samples_and_labels(module):
    module("made.by", "import numpy as n\ndef x(): return n.ones((3, 1, 2, 2)), ['a', 'b', 'c']")
    same("made.by:x", np.ones((3, 1, 2, 2)), ["a", "b", "c"])
    module("q", "class A:\n    @staticmethod\n    def x(): return [[1.0], [2.0], [3.0]]")
    same("q:A.x", np.array([[1.0], [2.0], [3.0]]))


def test_the_search_path_is_left_as_it_was(module):
    before = sys.path.copy()
    module("clean", "def x(): return [1.0, 2.0, 3.0]")
    same("clean:x", np.array([1.0, 2.0, 3.0]))
    assert sys.path == before


BAD_MODULES = {
    "def x(): return 1 / 0": "raised ZeroDivisionError: division by zero",
    "def x(a): return a": "raised TypeError.*takes no arguments",
    "raise ValueError('no\\nway')": "raised ValueError: no; it",
    "import sys; sys.exit(3)": "raised SystemExit: 3",
    "import nothing_of_that_name": "No module named 'nothing_of_that_name'",
    "def x(:": "raised SyntaxError",
    "def xs(): pass": "no 'x' in bad.* Did you mean 'xs'",
    "x = 3": "x is not a function",
    "def x(): return None": "returned NoneType, not an array",
    "def x(): return iter('ab')": "not an array",
    "def x(): return [[1], [2, 3]]": "raised ValueError",
}


@pytest.mark.parametrize("text", BAD_MODULES)
def test_a_function_that_fails_is_told_in_one_line(module, text):
    module("bad", text)
    with pytest.raises(GeedError, match=BAD_MODULES[text]) as caught:
        open_rows("bad:x")
    assert "\n" not in str(caught.value)


def test_a_file_comes_before_what_its_name_could_mean_as_well(module, tmp_path):
    module("twice", "def x(): return [1.0]")
    np.save(tmp_path / "plain.npy", X)
    (tmp_path / "plain.npy").rename(tmp_path / "twice:x")
    same("twice:x", X)


@pytest.mark.skipif(os.name == "nt", reason="there it is a drive indeed")
def test_a_windows_drive_is_no_module(module, tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "C:\\x.npy")
    same("C:\\x.npy", X)
    with h5py.File(tmp_path / "C:\\a.h5", "w") as file:
        file["in/x"] = X
    same("C:\\a.h5:/in/x", X)
    for text in ("C:\\gone.npy", "C:/gone.npy", "C:gone.npy"):
        with pytest.raises(GeedError, match="no such file or folder"):
            open_rows(text)


def test_a_module_of_one_letter_is_no_windows_drive(module):
    module("d", "def samples(): return [1.0, 2.0, 3.0]")
    same("d:samples", np.array([1.0, 2.0, 3.0]))


def test_only_numpy_arrays_are_read_from_untrusted_files(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    evil = pickle.dumps(Evil())
    (tmp_path / "a.npy").write_bytes(evil)
    (tmp_path / "a.pkl").write_bytes(evil)
    np.save(tmp_path / "b.npy", np.array([Evil()], dtype=object))
    np.savez(tmp_path / "c.npz", x=np.array([Evil()], dtype=object))
    for name in ("a.npy", "a.pkl", "b.npy", "c.npz"):
        with pytest.raises(GeedError, match="pickled Python objects"):
            open_rows(str(tmp_path / name))
    assert not (tmp_path / "pwned").exists()


def npy_bytes():
    import io

    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


def npz_bytes(**arrays):
    import io

    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def spoilt(content, start, count=60):
    return content[:start] + bytes(count) + content[start + count :]


PIXELS = (X[:, 0] * 255).astype(np.uint8)
BAD_FILES = {
    "empty.npy": (b"", "the file is empty"),
    "text.npy": (b"hello, here is some text", r"content is not a \.npy file"),
    "cut.npy": (npy_bytes()[:300], "cannot be read"),
    "head.npy": (npy_bytes()[:20], "cannot be read"),
    "liar.npy": (npy_bytes().replace(b"(5, 2,", b"(9, 2,"), "cannot be read"),
    "text.npz": (b"hello, here is some text", r"content is not a \.npz file"),
    "cut.npz": (npz_bytes(x=X)[:300], "cannot be read"),
    "spoilt.npz": (spoilt(npz_bytes(x=X), 150), "cannot be read"),
    "none.npz": (npz_bytes(), "a zip file without arrays"),
    "text.h5": (b"hello, here is some text", "cannot be read"),
    "text.bin": (b"hello, here is some text", "files of this kind cannot be read"),
    "a.csv": (b"1,2,3\n4,5,6\n", "files of this kind cannot be read"),
    "a.png": (b"\x89PNG\r\n\x1a\n", "is one image; give the folder"),
    "cut-idx3-ubyte": (idx(PIXELS, 8)[:-1], "76 bytes, this one 75: cut off"),
    "long-idx3-ubyte": (idx(PIXELS, 8) + b"!", "76 bytes, this one 77: damaged"),
    "head-idx3-ubyte": (idx(PIXELS, 8)[:9], "cannot be read"),
    "text.gz": (gzip.compress(b"hello, here is some text"), "no idx file in it"),
    "cut.gz": (gzip.compress(idx(PIXELS, 8))[:-9], "cannot be read"),
    "spoilt.gz": (spoilt(gzip.compress(os.urandom(900)), 300), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_damaged_or_unknown_file_is_told_in_one_line(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeedError, match=message) as caught:
        open_rows(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--data {tmp_path / name}")


BAD_NAMES = {
    "gone.npy": "no such file or folder.*Did you mean 'good.npy'",
    "gone/x.npy": "its parent folder does not exist either",
    "goood.h5:/x": "no such file or folder.*Did you mean 'good.h5'",
    "god.npz:x": "no such file or folder.*Did you mean 'good.npz'",
    "good.npy:x": "no named parts; leave out ':x'",
    "good.npz:imags": "no array 'imags'; good.npz holds images, more, y. Did you mean 'images'",
    "good.h5:/imags": "no array '/imags'; good.h5 holds .* Did you mean '/images'",
    "good.h5:/deep": "which array.*It holds /deep/a, /deep/b",
    "folder:x": "folder is a folder, not a file with named arrays",
    "nomodule:x": "no such file, and as module:function it cannot be imported",
    "no spaces here:x": "no such file or folder",
    "n" * 300: "no such file or folder",
    "nul\0": "no such file or folder",
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda n: n[:20].replace("\0", "0"))
def test_a_name_that_leads_nowhere_is_told_with_the_nearest(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", X)
    np.savez("good.npz", images=X, more=X, y=Y)
    os.mkdir("folder")
    with h5py.File("good.h5", "w") as file:
        for key in ("images", "deep/a", "deep/b", "y"):
            file[key] = X
    name = str(tmp_path / name) if name.startswith(("go", "folder")) else name
    with pytest.raises(GeedError, match=BAD_NAMES[name.removeprefix(f"{tmp_path}{os.sep}")]):
        open_rows(name)


def test_a_file_that_shrinks_while_it_is_used_is_told(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, X)
    rows = open_rows(str(path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(GeedError, match="the file has changed since it was opened"):
        rows.read(4)


MEMORY = """
import sys
from onnx_geed.data import open_samples

def peak():  # of this process, in KiB
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

shape = [int(n) for n in sys.argv[2].split(",")]
samples = open_samples(sys.argv[1], input_shape=shape, input_layout="NCHW")
peaks = []
for count in (50, 1000):
    for i in range(count):
        samples[i]
    peaks.append(peak())
print(*peaks)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's accounts")
@pytest.mark.parametrize("kind", ["npy", "idx", "h5"])
def test_a_thousand_samples_need_no_more_memory_than_fifty(tmp_path, kind):
    shape = (1000, 1, 256, 256)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.lib.format.open_memmap(path, "w+", np.float32, shape)[-1] = 1
    elif kind == "idx":
        head = struct.pack(">BBBB4I", 0, 0, 13, 4, *shape)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + 4 * 1000 * 256 * 256)  # sparse: zeros that fill no disk
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape, "f4", chunks=(10, *shape[1:]), compression="gzip")
            file["x"][::100] = 1
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), "1,256,256"],
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, run.stdout.split())
    assert many < 1.1 * few


@pytest.mark.skipif(os.name == "nt", reason="a colon is no part of a name there")
def test_the_longest_file_name_before_a_colon_is_the_file(module, tmp_path):
    np.savez(tmp_path / "a.npz", x=X + 1)
    np.savez(tmp_path / "b.npz", x=X)
    (tmp_path / "b.npz").rename(tmp_path / "a.npz:x")
    same("a.npz:x:x", X)


def zipped(path, *members):
    """Write arrays into a zip under names of members, which may be equal."""
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there already
        for member, values in members:
            stream = io.BytesIO()
            np.save(stream, values)
            archive.writestr(member, stream.getvalue())


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (("x.npy", "x.npy"), "two members called x.npy"),
        (("x", "x.npy"), "members with and without .npy called x"),
        (("x.npy", "x"), "members with and without .npy called x"),
        (("x.npy", "x.npy.npy"), "members with and without .npy called x.npy"),
        (("X.npy", "x.npy"), "which array? It holds X, x"),
    ],
)
@pytest.mark.parametrize("name", [None, "x"])
def test_two_members_of_a_name_are_refused(tmp_path, members, told, name):
    zipped(tmp_path / "d.npz", *((member, np.full((2, 3), i)) for i, member in enumerate(members)))
    with pytest.raises(GeedError) as error:
        open_rows(str(tmp_path / "d.npz"), name=name)
    assert told in str(error.value)
    assert str(tmp_path / "d.npz") in str(error.value)


def test_names_that_differ_in_case_are_two_arrays_where_one_is_named(tmp_path):
    zipped(tmp_path / "d.npz", ("X.npy", np.zeros((2, 3))), ("x.npy", np.ones((2, 3))))
    for key, value in (("X", 0), ("x", 1)):
        assert open_rows(f"{tmp_path / 'd.npz'}:{key}").read(0).tolist() == [value] * 3
