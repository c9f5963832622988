"""Recordings, volumes, points and DNA: files that other programs write."""

import gzip
import os
import subprocess
import sys

import nibabel
import numpy as np
import plyfile
import pytest
import soundfile

from onnx_geed import GeedError
from onnx_geed.data import Intake, open_samples
from onnx_geed.extras import package

RNG = np.random.default_rng(0)


def opened(source, shape, layout, **options):
    return open_samples(str(source), input_shape=shape, input_layout=layout, **options)


def refused(message, source, shape, layout, index=0, **options):
    with pytest.raises(GeedError, match=message) as caught:
        opened(source, shape, layout, **options)[index]
    assert "\n" not in str(caught.value)


# Recordings


def sounds(count, frames=40, channels=2):
    return (RNG.integers(-(2**15), 2**15, (count, frames, channels)) / 2**15).astype(np.float32)


def record(path, values, rate=8000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, values, rate, **options)


@pytest.mark.parametrize("kind", ["wav", "flac", "float"])
def test_recordings_are_read_as_they_were_written(tmp_path, kind):
    x = sounds(3)
    ending = "flac" if kind == "flac" else "wav"
    for k, one in enumerate(x):
        options = {"subtype": "FLOAT"} if kind == "float" else {}
        record(tmp_path / ("yes" if k else "no") / f"{k}.{ending}", one, **options)
    for layout, shape in (("NCT", (2, 40)), ("NTC", (40, 2)), ("NCT", (None, None))):
        samples = opened(tmp_path, shape, layout)
        assert (samples.kind, samples.shape) == ("audio", (2, 40))
        assert samples.names == (f"no/0.{ending}", f"yes/1.{ending}", f"yes/2.{ending}")
        assert samples.labels == ("no", "yes", "yes")
        np.testing.assert_array_equal(samples[2], x[2].T)
        assert samples.lengths is None
    assert len(samples.files()) == 2


def test_a_recording_of_one_channel_is_a_line(tmp_path):
    x = sounds(1, channels=1)[0]
    record(tmp_path / "a.wav", x)
    np.testing.assert_array_equal(opened(tmp_path, (40,), "NT")[0], x[:, 0])
    np.testing.assert_array_equal(opened(tmp_path, (1, 40), "NCT")[0], x.T)


def test_recordings_that_do_not_fit_are_told(tmp_path):
    x = sounds(1)[0]
    record(tmp_path / "a.wav", x)
    refused("samples of 2×40, .* give samples of 1 channel$", tmp_path, (1, 40), "NCT")
    refused("samples of 2×40, .* give samples of 50 along T", tmp_path, (2, 50), "NCT")
    refused("has 2 channels, but the model .* takes one line; mix it down", tmp_path, (40,), "NT")
    refused(".* are for inputs NCT and NT, but this one is NPX", tmp_path, (40, 2), "NPX")
    refused("is one recording; give the folder", tmp_path / "a.wav", (2, 40), "NCT")
    record(tmp_path / "b.wav", x[:30])
    refused("a.wav has 2×40, but b.wav has 2×30; cut them", tmp_path, (2, None), "NCT", 1)
    record(tmp_path / "b.wav", x, rate=16000)
    refused("b.wav: has 16000 samples per second, but a.wav has 8000", tmp_path, (2, 40), "NCT", 1)
    (tmp_path / "c.nii").write_bytes(b"")
    assert len(opened(tmp_path, (2, 40), "NCT")) == 2


def test_recordings_of_different_lengths_are_padded_for_a_mask(tmp_path):
    x = sounds(1)[0]
    record(tmp_path / "a.wav", x)
    record(tmp_path / "b.wav", x[:30])
    for shape, length in (((2, None), 40), ((2, 50), 50)):
        samples = opened(tmp_path, shape, "NCT", masked=True)
        assert (samples.shape, samples.lengths) == ((2, length), (40, 30))
        np.testing.assert_array_equal(samples[1][:, :30], x[:30].T)
        assert not samples[1][:, 30:].any()
    refused(
        "a.wav has 40 along T, a line.* the model takes 35", tmp_path, (2, 35), "NCT", masked=True
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bad", ["empty", "junk", "cut", "nearly gone", "flac"])
def test_a_damaged_recording_is_told(tmp_path, bad, masked):
    x = sounds(1, frames=4000)[0]
    record(tmp_path / "a.wav", x)
    whole = (tmp_path / "a.wav").read_bytes()
    record(tmp_path / "a.flac", x)
    packed = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").unlink()
    name = "b.flac" if bad == "flac" else "b.wav"
    content = {"empty": b"", "junk": b"junk" * 20, "cut": whole[:-50], "nearly gone": whole[:48]}
    (tmp_path / name).write_bytes(content.get(bad, packed[: len(packed) // 2]))
    refused(f"{name}: (cut off|cannot be decoded as a recording)", tmp_path, (2, None), "NCT", 1)
    refused(f"{name}: ", tmp_path, (2, None), "NCT", 1, masked=masked)


def test_a_recording_whose_length_was_not_known_when_it_was_begun_is_read(tmp_path):
    x = sounds(1)[0]
    record(tmp_path / "a.wav", x)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_array_equal(opened(tmp_path, (2, 40), "NCT")[0], x.T)


def test_nan_in_a_recording_is_told(tmp_path):
    x = sounds(1)[0]
    x[3] = np.nan
    record(tmp_path / "a.wav", x, subtype="FLOAT")
    refused("a.wav holds NaN or infinity", tmp_path, (2, 40), "NCT")


# Volumes


def scan(path, values, slope=None):
    image = nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_volumes_have_width_height_and_depth_in_the_order_of_the_file(tmp_path, ending):
    x = RNG.random((2, 5, 6, 7), dtype=np.float32)  # i, j, k
    for k, one in enumerate(x):
        scan(tmp_path / f"{k}.{ending}", one)
    samples = opened(tmp_path, (7, 6, 5), "NDHW")
    assert (samples.kind, samples.shape) == ("volumes", (7, 6, 5))
    assert samples.names == (f"0.{ending}", f"1.{ending}")
    for i, j, k in np.ndindex(5, 6, 7):
        assert samples[1][k, j, i] == x[1, i, j, k]
    for layout, shape in (("NCDHW", (1, 7, 6, 5)), ("NDHWC", (7, 6, 5, None))):
        np.testing.assert_array_equal(opened(tmp_path, shape, layout)[1][0], samples[1])
    assert len(samples.files()) == 2


def test_a_fourth_axis_is_channels(tmp_path):
    x = RNG.random((5, 6, 7, 2), dtype=np.float32)
    scan(tmp_path / "a.nii", x)
    scan(tmp_path / "b.nii", x[..., None, :])  # as NIfTI has vectors
    for layout, shape in (("NCDHW", (2, 7, 6, 5)), ("NDHWC", (7, 6, 5, 2))):
        samples = opened(tmp_path, shape, layout)
        for one in samples:
            np.testing.assert_array_equal(one, x.transpose(3, 2, 1, 0))
    refused("of 5×6×7×2, but the model .* takes a volume of three", tmp_path, (7, 6, 5), "NDHW")


def test_voxels_are_scaled_as_the_file_says(tmp_path):
    x = RNG.integers(0, 100, (3, 4, 5)).astype(np.int16)
    scan(tmp_path / "a.nii", x, slope=(2, 1))
    np.testing.assert_array_equal(opened(tmp_path, (5, 4, 3), "NDHW")[0].T, 2 * x + 1)


def test_volumes_that_do_not_fit_are_told(tmp_path):
    scan(tmp_path / "a.nii", np.zeros((3, 4, 5), np.float32))
    refused("samples of 5×4×3, .* give samples of depth 6", tmp_path, (6, 4, 3), "NDHW")
    refused(".* are for inputs NCDHW and NDHW, but this one is NCHW", tmp_path, (1, 4, 3), "NCHW")
    refused("is one volume; give the folder", tmp_path / "a.nii", (5, 4, 3), "NDHW")
    scan(tmp_path / "b.nii", np.zeros((3, 4, 6), np.float32))
    refused("a.nii has 5×4×3, but b.nii has 6×4×3", tmp_path, (None, 4, 3), "NDHW", 1)
    scan(tmp_path / "b.nii", np.full((3, 4, 5), np.nan, np.float32))
    refused("b.nii holds NaN or infinity", tmp_path, (5, 4, 3), "NDHW", 1)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("bad", ["empty", "junk", "cut", "nearly gone"])
def test_a_damaged_volume_is_told(tmp_path, bad, ending):
    scan(tmp_path / f"a.{ending}", RNG.random((8, 8, 8), dtype=np.float32))
    whole = (tmp_path / f"a.{ending}").read_bytes()
    content = {"empty": b"", "junk": b"junk" * 200, "cut": whole[:-60], "nearly gone": whole[:99]}
    (tmp_path / f"b.{ending}").write_bytes(content[bad])
    refused(f"b.{ending}: cannot be decoded as a volume", tmp_path, (8, 8, 8), "NDHW", 1)


# Points


def cloud(path, columns, names=("x", "y", "z"), dtype="f4", text=False):
    table = np.zeros(len(columns), [(name, dtype) for name in names])
    for k, name in enumerate(names):
        table[name] = columns[:, k]
    element = plyfile.PlyElement.describe(table, "vertex")
    plyfile.PlyData([element], text=text).write(str(path))


@pytest.mark.parametrize("kind", ["spaces", "commas", "ply", "ply text", "counted", "chemistry"])
def test_points_are_read_from_text_and_ply(tmp_path, kind):
    x = RNG.random((2, 6, 3), dtype=np.float32)
    for k, one in enumerate(x):
        rows = [" ".join(f"{v:.9g}" for v in row) for row in one]
        if kind.startswith("ply"):
            cloud(tmp_path / f"{k}.ply", one, text="text" in kind)
        elif kind == "chemistry":
            text = "\n".join(["6", "water: 1 2 3", *(f"H  {row}" for row in rows)])
            (tmp_path / f"{k}.xyz").write_text(text)
        elif kind == "counted":
            (tmp_path / f"{k}.xyz").write_text("\n".join(["6", *rows]))
        elif kind == "commas":
            text = "# x, y, z\n\n" + "\r\n".join(r.replace(" ", ", ") for r in rows)
            (tmp_path / f"{k}.xyz").write_text(text)
        else:
            (tmp_path / f"{k}.xyz").write_text("\n".join(rows) + "\n")
    samples = opened(tmp_path, (6, 3), "NPX")
    assert (samples.kind, samples.shape, samples.lengths) == ("points", (6, 3), None)
    np.testing.assert_array_equal(samples[1], x[1])
    np.testing.assert_array_equal(opened(tmp_path, (3, 6), "NXP")[1], x[1].T)
    np.testing.assert_array_equal(opened(tmp_path, (3, 6), "NCP")[1], x[1].T)


def test_further_columns_are_features_where_there_are_channels(tmp_path):
    x = RNG.integers(0, 200, (6, 5)).astype(np.float32)
    cloud(tmp_path / "a.ply", x, ("x", "red", "y", "z", "quality"))
    order = [0, 2, 3, 1, 4]  # x, y, z first
    np.testing.assert_array_equal(opened(tmp_path, (6, 5), "NPC")[0], x[:, order].T)
    np.testing.assert_array_equal(opened(tmp_path, (6, 3), "NPX")[0], x[:, [0, 2, 3]])
    (tmp_path / "a.ply").unlink()
    np.savetxt(tmp_path / "a.xyz", x)
    np.testing.assert_array_equal(opened(tmp_path, (6, 5), "NPC")[0], x.T)
    np.testing.assert_array_equal(opened(tmp_path, (6, 3), "NPX")[0], x[:, :3])


@pytest.mark.parametrize("ending", ["xyz", "ply"])
def test_clouds_of_different_sizes_are_padded(tmp_path, ending):
    clouds = [RNG.random((n, 3), dtype=np.float32) + 1 for n in (4, 7, 2)]
    for k, one in enumerate(clouds):
        path = tmp_path / f"{k}.{ending}"
        cloud(path, one) if ending == "ply" else np.savetxt(path, one)
    for length in (None, 7, 9):
        samples = opened(tmp_path, (length, 3), "NPX")
        assert (samples.shape, samples.lengths) == ((length or 7, 3), (4, 7, 2))
        for k, one in enumerate(clouds):
            np.testing.assert_allclose(samples[k][: len(one)], one, rtol=1e-6)
            assert not samples[k][len(one) :].any()
    refused(f"1.{ending} has 7 along P, .* takes 5", tmp_path, (5, 3), "NPX")


BAD_POINTS = {
    "empty": ("a.xyz", b"", "no points"),
    "remarks": ("a.xyz", b"# nothing\n\n", "no points"),
    "words": ("a.xyz", b"1 2 3\n1 b 3\n", "could not convert string 'b'"),
    "uneven": ("a.xyz", b"1 2 3\n1 2\n", "number of columns changed"),
    "cut": ("a.xyz", b"4\nwater\nO 1 2 3\nH 1 2 3\n", "its first line says 4 points, and 2 follow"),
    "bytes": ("a.xyz", b"\xff\xfe\x00", "not UTF-8 text"),
    "ply empty": ("a.ply", b"", "cannot be read as points"),
    "ply junk": ("a.ply", b"junk", "cannot be read as points"),
    "ply no vertex": ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "cannot be read as points"),
    "ply cut": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
        b"property float z\nend_header\n1 2 3\n",
        "cannot be read as points",
    ),
    "ply binary cut": (
        "a.ply",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\n"
        b"property float y\nproperty float z\nend_header\n" + bytes(30),
        "cannot be read as points",
    ),
    "ply claims": (
        "a.ply",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999999\n"
        b"property float x\nproperty float y\nproperty float z\nend_header\n" + bytes(30),
        "cannot be read as points",
    ),
    "ply flat": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
        b"end_header\n1 2\n",
        "its vertices have x, y, not x, y and z",
    ),
    "ply none": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
        b"property float z\nend_header\n",
        "(it holds no points|has length 0 along P)",
    ),
    "nan": ("a.xyz", b"1 2 3\n1 nan 3\n", "holds NaN or infinity"),
    "huge": ("a.xyz", b"1 2 3\n1 1e300 3\n", "holds NaN or infinity"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_damaged_points_are_told(tmp_path, case):
    name, content, message = BAD_POINTS[case]
    (tmp_path / name).write_bytes(content)
    refused(f"{name}.*{message}", tmp_path, (None, 3), "NPX")
    (tmp_path / "0.xyz").write_text("1 2 3\n")
    refused(f"{name}.*{message}", tmp_path, (None, 3), "NPX", 1)


def test_points_that_do_not_fit_are_told(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2\n3 4\n")
    refused("samples of 2×2, but the model takes .×3 .* 3 along X", tmp_path, (None, 3), "NPX")
    assert opened(tmp_path, (2, 2), "NPX").shape == (2, 2)
    refused("are for inputs NPX and NPC, but this one is NPP", tmp_path, (2, 2), "NPP")
    refused("is one sample; give the folder", tmp_path / "a.xyz", (2, 2), "NPX")


# DNA


def hot(sequence):
    return np.array([[base == letter for letter in "ACGT"] for base in sequence], np.float32)


@pytest.mark.parametrize("name", ["a.fa", "a.fasta", "a.fna", "a.FA", "a.fa.gz"])
def test_dna_is_one_hot(tmp_path, name):
    text = b">one first\nACGT\nNacg\n>two\r\nTTUR\r\n-GCA\n\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    samples = opened(tmp_path / name, (8, 4), "NTB")
    assert (samples.kind, samples.names) == ("sequences", ("one", "two"))
    np.testing.assert_array_equal(samples[0], hot("ACGTNACG"))
    np.testing.assert_array_equal(samples[1], hot("TTT--GCA"))
    np.testing.assert_array_equal(opened(tmp_path / name, (4, None), "NBT")[1], hot("TTT--GCA").T)
    assert opened(tmp_path / name, (8, 4), "NTB", dtype="int8")[0].dtype == np.int8
    assert opened(tmp_path / name, (8, 4), "NTB", labels=["a", "b"]).labels == ("a", "b")


def test_records_of_different_lengths_are_refused_but_for_a_mask(tmp_path):
    (tmp_path / "a.fa").write_text(">one\nACGT\n>two\nACG\n")
    refused("one has 4×4, but two has 3×4; cut", tmp_path / "a.fa", (None, 4), "NTB", 1)
    samples = opened(tmp_path / "a.fa", (6, 4), "NTB", masked=True)
    assert samples.lengths == (4, 3)
    np.testing.assert_array_equal(samples[1], hot("ACG---"))
    samples = opened(tmp_path / "a.fa", (4, 6), "NBT", masked=True)
    np.testing.assert_array_equal(samples[1], hot("ACG---").T)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a FASTA file"),
        (b"ACGT\n", "not a FASTA file"),
        (b">one\nACGT\n>two\n", "two has no bases; was the file cut off"),
        (b">one\nACGTE\n", "one has the letter 'E', which is not a DNA base"),
        (b">\nACG*\n", "record 1 has the letter '\\*'"),
        (b"\x1f\x8bjunk", "cannot be read"),
        (gzip.compress(b">one\nACGT\n" * 200, mtime=0)[:-20], "cannot be read"),
    ],
)
def test_what_is_no_dna_is_told(tmp_path, content, message):
    (tmp_path / "a.fa").write_bytes(content)
    refused(message, tmp_path / "a.fa", (None, 4), "NTB")


def test_dna_is_for_inputs_of_bases(tmp_path):
    (tmp_path / "a.fa").write_text(">one\nACGT\n")
    refused("for inputs NTB or NBT; this one is NCT", tmp_path / "a.fa", (4, 4), "NCT")
    refused("samples of 4×4, .* give samples of 5 along T", tmp_path / "a.fa", (5, 4), "NTB")


# Folders and extras


def test_a_folder_of_two_kinds_asks_which(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n")
    np.save(tmp_path / "b.npy", np.zeros((1, 3)))
    refused("holds points \\(1\\) and arrays \\(1\\): which are samples", tmp_path, (1, 3), "NPX")


def test_a_folder_without_samples_says_what_is_read(tmp_path):
    refused(
        r"no recordings in the folder \(recordings: .wav, .flac; .*empty", tmp_path, (1, 9), "NCT"
    )
    refused(r"no arrays in the folder \(arrays: .npy\); it is empty", tmp_path, (9, 9), "NPP")


@pytest.mark.parametrize(
    ("module", "extra", "name", "shape", "layout"),
    [
        ("soundfile", "audio", "a.wav", (1, 4), "NCT"),
        ("nibabel", "volumes", "a.nii", (4, 4, 4), "NDHW"),
        ("plyfile", "points", "a.ply", (4, 3), "NPX"),
    ],
)
def test_an_extra_that_is_missing_is_named(
    tmp_path, monkeypatch, module, extra, name, shape, layout
):
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, module, None)
    refused(rf"{name}: {module} .*; pip install 'onnx-geed\[{extra}\]'$", tmp_path, shape, layout)


def test_a_package_that_is_not_there_is_told_from_one_that_does_not_load(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_here.py").write_text("raise OSError('libx.so is missing')")
    with pytest.raises(GeedError, match=r"it: gone_here is not installed; pip install"):
        package("gone_here", "audio", "it")
    with pytest.raises(GeedError, match=r"it: broken_here does not load: libx\.so is missing; pip"):
        package("broken_here", "audio", "it")


def test_no_package_of_an_extra_is_loaded_before_it_is_needed(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n")
    program = f"""
import sys
from onnx_geed.data import Intake, open_samples
open_samples({str(tmp_path)!r}, input_shape=(1, 3), input_layout="NPX")[0]
extras = {{"soundfile", "nibabel", "plyfile"}} & set(sys.modules)
sys.exit(str(extras) if extras else 0)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["wav", "xyz", "npy"])
def test_a_file_that_changes_after_it_was_read_is_told(tmp_path, kind):
    def write(name, seed):
        x = np.random.default_rng(seed).random((8, 3), dtype=np.float32)
        path = tmp_path / f"{name}.{kind}"
        if kind == "wav":
            soundfile.write(path, x, 8000, subtype="FLOAT")
        else:
            np.savetxt(path, x, "%.9f") if kind == "xyz" else np.save(path, x)
        return path

    paths = [write("b", 0), write("c", 1)]
    layout = "NTC" if kind == "wav" else "NPX"
    samples = opened(tmp_path, (8, 3), layout)
    intake = Intake(samples, [1, 0])
    for position, index in enumerate((1, 0)):
        intake.take(position, samples[index])
    assert [os.path.basename(f.path) for f in samples.files()] == [p.name for p in paths]
    intake.check()
    os.utime(paths[1])
    write("a", 2)  # comes before the others
    intake.check()
    write("c", 3)
    with pytest.raises(GeedError, match=rf"sample 1 \(c\.{kind}\) is different now"):
        intake.check()
