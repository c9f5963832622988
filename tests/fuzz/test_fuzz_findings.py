"""What the fuzzer has found, made by code: each ends in one line with status 2."""

import io
import random
import sys
import zipfile

import file_mutations
import h5py
import models
import numpy as np
import pytest
from PIL import Image

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

import hdf5_bytes
import hdf5_mutations
import picture_mutations
import targets
from bounded import Bounded, Ended
from fuzz import fuzz, write
from targets import TARGETS

_DATA = ("measure", "model.onnx", "--group", "C4", "--samples", "3", "--provider", "cpu", "--data")

_ARRAY = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 3, 8, 8)}"


@pytest.fixture(scope="module")
def server():
    with Bounded() as started:
        yield started


def refused(server, folder, line, files):
    """Run a command on files, and return the line that refuses them."""
    write(folder, targets.Case(line, files))
    ended = server.run(line, folder)
    assert ended.fault(line) == ""
    assert ended.status == 2
    return ended.err


def npy(head, values=b"\0" * 4608):
    text = head.encode() + b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + values


CNN = models.random_cnn(0, (8, 8)).SerializeToString()

HEADS = {
    "open": "((((",
    "no type": _ARRAY.replace("'<f4'", "()"),
    "keys of two kinds": _ARRAY.replace("{", "{1: None, "),
    "negative": _ARRAY.replace("(6,", "(-1,"),
    "endless": _ARRAY.replace("(6,", f"({2**62},"),
    "deep": "[" * 9000,
    "true": _ARRAY.replace("(6, 3", "(6, 3, True"),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("packed", [False, True])
def test_heads_of_arrays(server, tmp_path, head, packed):
    content, name = npy(HEADS[head]), "d.npy"
    if packed:
        buffer, name = io.BytesIO(), "d.npz"
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x.npy", content)
        content = buffer.getvalue()
    said = refused(server, tmp_path, (*_DATA, name), {"model.onnx": CNN, name: content})
    assert f"--data {name}" in said


def test_what_a_library_warns_of_is_a_note(server, tmp_path):
    images = {k: v for k, v in targets._images().items() if k.endswith("4.tiff")}
    (name, tiff), line = images.popitem(), (*_DATA, "data", "--preprocess", "resize=8x8")
    said = refused(server, tmp_path, line, {"model.onnx": CNN, name: tiff[:200]})
    assert "cannot be decoded as an image" in said
    assert "site-packages" not in said


def test_what_libtiff_writes_by_itself_is_not_shown(server, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (9, 90, 200)).save(buffer, "TIFF", compression="tiff_deflate")
    tiff = bytearray(buffer.getvalue())
    (strip,) = Image.open(buffer).tag_v2[273]
    tiff[strip : strip + 9] = b"\xff" * 9
    line = (*_DATA, "data", "--preprocess", "resize=8x8")
    said = refused(server, tmp_path, line, {"model.onnx": CNN, "data/a.tiff": bytes(tiff)})
    assert "cannot be decoded as an image" in said
    assert said.count("\n") == 1


def test_what_a_library_logs_is_not_told_twice(server, tmp_path):
    model, files, arguments = targets._folders()["volumes"]
    volume = bytearray(files["data/1.nii"])
    volume[70:72] = b"\1\0"  # the type of its values
    line = (*_DATA[:2], "--samples", "2", *arguments)
    files = {**files, "data/1.nii": bytes(volume), "model.onnx": model.SerializeToString()}
    assert "data code 1 not supported" in refused(server, tmp_path, line, files)


@pytest.fixture(scope="module")
def folder_of_caches(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    return folder, TARGETS["shards"](server, folder)


@pytest.fixture(scope="module")
def caches(folder_of_caches):
    folder, _ = folder_of_caches
    return {mode: targets._below(folder, f"{mode}.geed") for mode in ("raw", "stats")}


def other_dataset(file, name, dtype=None, **how):
    old = file[name]
    attributes, values = dict(old.attrs), old[()]
    del file[name]
    made = file.create_dataset(name, values.shape, dtype or values.dtype, **how)
    made.attrs.update(attributes)
    if dtype is None and "external" not in how:
        made[...] = values


def linked(file, name, link):
    del file[name]
    file[name] = link


def virtual(file, name):
    old = file[name]
    attributes, layout = dict(old.attrs), h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(hdf5_mutations.BESIDE, name, old.shape)
    del file[name]
    file.create_virtual_dataset(name, layout).attrs.update(attributes)


ODD = {
    "a type": lambda f, n: linked(f, n, np.dtype("f4")),
    "a group": lambda f, n: linked(f, n, f),
    "a cycle": lambda f, n: linked(f, n, h5py.SoftLink(f"/{n}")),
    "elsewhere": lambda f, n: linked(f, n, h5py.ExternalLink(hdf5_mutations.BESIDE, n)),
    "nowhere": lambda f, n: linked(f, n, h5py.ExternalLink("missing.h5", n)),
    "virtual": virtual,
    "external": lambda f, n: other_dataset(f, n, external=[(hdf5_mutations.BESIDE, 0, 1 << 20)]),
    "in one piece": lambda f, n: other_dataset(f, n),
    "texts": lambda f, n: other_dataset(f, n, h5py.string_dtype()),
    "references": lambda f, n: other_dataset(f, n, h5py.ref_dtype),
    "pairs": lambda f, n: other_dataset(f, n, np.dtype([("a", "<f4"), ("b", "<i8")])),
    "packed": lambda f, n: other_dataset(f, n, chunks=True, compression="gzip"),
    "nothing": lambda f, n: linked(f, n, None) if n not in f else f.__delitem__(n),
    "no numbers": lambda f, n: (f.__delitem__(n), f.create_dataset(n, data=h5py.Empty("f4"))),
}


# Whoever reads `samples` through HDF5 does not mind how it is laid out, and earlier versions kept
# no deviations between samples.
OBJECTS = [
    (what, odd)
    for what in ("orbits/0", "samples", "between")
    for odd in ODD
    if (what, odd) not in (("samples", "in one piece"), ("between", "nothing"))
]


@pytest.mark.parametrize(("what", "odd"), OBJECTS)
def test_objects_of_a_shard(server, tmp_path, caches, odd, what):
    files = dict(caches["stats" if what == "between" else "raw"])
    name = next(n for n in sorted(files) if "shard-" in n)
    made = io.BytesIO(hdf5_mutations.unsealed(files[name]))
    with h5py.File(made, "r+") as file:
        inner = what if what in file and "/" in what else None
        group = file.get(what)
        if inner is None:
            inner = f"{what}/{next(iter(group))}" if isinstance(group, h5py.Group) else what
        ODD[odd](file, inner)
    cache = name.partition("/")[0]
    files[f"{cache}/{hdf5_mutations.BESIDE}"] = hdf5_mutations.unsealed(files[name])
    files[name] = hdf5_mutations.sealed(made.getvalue())
    # Some are read once more, another way.
    lines = [("cache", "--verify", cache), ("measure", cache)]
    for line in lines if what == "orbits/0" else lines[:1]:
        assert "is damaged in" in refused(server, tmp_path, line, files)


def plain(cases):
    """Return what is the same each time: HDF5 leaves whatever is in memory in its gaps."""
    return [
        (case.line, {k: v for k, v in case.files.items() if not k.endswith(".h5")}, [*case.files])
        for case in cases
    ]


@pytest.mark.parametrize("target", ["models", "data", "shards"])
def test_a_number_repeats_its_case(server, tmp_path, folder_of_caches, target):
    shards = target == "shards"
    make = folder_of_caches[1] if shards else TARGETS[target](server, tmp_path)
    first, second = ([make(random.Random(f"0.{i}")) for i in range(12)] for _ in range(2))
    assert plain(first) == plain(second)
    assert len({repr(case) for case in first}) > 8


def test_the_sum_of_hdf5_is_made_as_it_makes_it():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        file["x"] = np.zeros(3)
    content = buffer.getvalue()
    assert hdf5_bytes.checksum(content[:44]) == int.from_bytes(content[44:48], "little")
    assert (0, 44) in hdf5_bytes.structures(content)
    changed = {hdf5_bytes.restructured(content, random.Random(i)) for i in range(60)}
    assert len(changed) > 50


def test_mutations_of_files_change_them():
    x = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    makers = {
        "npy": lambda dice: file_mutations.npy(x, dice),
        "npz": lambda dice: file_mutations.npz({"x": x, "y": x}, dice),
        "idx": lambda dice: file_mutations.idx(x, dice),
        "packed": lambda dice: file_mutations.idx(x, dice, packed=True),
    }
    pictures = targets._images()
    for name in ("b/1.jpg", "b/4.tiff", "b/5.webp", "b/2.gif", "b/3.bmp"):
        change = picture_mutations.BY_SUFFIX[name[name.index(".") :]]
        makers[name] = lambda dice, c=change, n=name: c(pictures[f"data/{n}"], dice)
    for name, make in makers.items():
        assert len({make(random.Random(i)) for i in range(60)}) > 25, name


def test_a_fault_is_found(monkeypatch):
    # A result of another schema is none; that it is refused is no fault, that it is not would be.
    cases = {"a.json": b"{}"}

    def make(server, folder):
        return lambda dice: targets.Case(("report", "a.json", "-o", "p.html"), cases)

    monkeypatch.setitem(TARGETS, "results", make)
    assert not fuzz("results", cases=range(2)).faults
    monkeypatch.setattr(Ended, "fault", lambda self, line: f"status {self.status}")
    told = []
    found = fuzz("results", cases=range(2), told=told.append)
    assert found.faults == {"report: status #": 2}
    assert found.kept["report: status #"].files == cases
    assert len(told) == 1
