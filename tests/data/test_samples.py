import hashlib
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image

from onnx_geed import GeedError, Preprocess, open_samples, parse_preprocess
from onnx_geed.data.preprocess import PRESETS

RNG = np.random.default_rng(0)


def opened(source, shape=(1, 4, 6), layout="NCHW", **options):
    return open_samples(source, input_shape=shape, input_layout=layout, **options)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


# Arrays


@given(arrays(np.uint8, (3, 2, 4, 6)))
@settings(max_examples=20)
def test_uint8_is_scaled_by_1_over_255(x):
    samples = opened(x, (2, 4, 6))
    assert (len(samples), samples.shape, samples.kind) == (3, (2, 4, 6), "array")
    for i in range(3):
        assert samples[i].dtype == np.float32
        np.testing.assert_array_equal(samples[i], x[i] / np.float32(255))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", "longdouble"])
def test_floats_are_taken_as_they_are(dtype):
    x = (RNG.normal(size=(3, 1, 4, 6)) * 300).astype(dtype)
    np.testing.assert_array_equal(opened(x)[2], x[2].astype(np.float32))


def test_a_sample_is_a_copy():
    x = np.zeros((1, 1, 4, 6), dtype=np.float32)
    opened(x)[0][:] = 7
    assert (x == 0).all()


def test_samples_come_channels_first_whatever_the_models_layout():
    x = RNG.random((2, 4, 6, 3), dtype=np.float32)
    samples = opened(x, (4, 6, 3), "NHWC")
    assert samples.shape == (3, 4, 6)
    np.testing.assert_array_equal(samples[1], x[1].transpose(2, 0, 1))
    assert samples[1].flags.c_contiguous


@pytest.mark.parametrize(("shape", "layout"), [((1, 4, 6), "NCHW"), ((4, 6, 1), "NHWC")])
def test_planes_will_do_for_models_of_one_channel(shape, layout):
    x = pixels(3, 4, 6)
    samples = opened(x, shape, layout)
    assert samples.shape == (1, 4, 6)
    np.testing.assert_array_equal(samples[0][0], x[0] / np.float32(255))


def test_models_without_a_channel_axis_and_with_depth_are_fed():
    plane = RNG.random((2, 4, 6), dtype=np.float32)
    volume = RNG.random((2, 1, 5, 4, 6), dtype=np.float32)
    np.testing.assert_array_equal(opened(plane, (4, 6), "NHW")[1], plane[1])
    np.testing.assert_array_equal(opened(volume, (1, 5, 4, 6), "NCDHW")[1], volume[1])


def test_free_axes_take_what_comes():
    samples = opened(np.zeros((2, 5, 7, 9), np.float32), (None, None, None))
    assert samples.shape == (5, 7, 9)


def test_arrays_are_resized_and_cropped_if_preprocessing_says_so():
    x = RNG.random((2, 2, 8, 12), dtype=np.float32)
    cropped = opened(x, (2, 4, 6), preprocess=Preprocess(crop=(4, 6)))
    np.testing.assert_array_equal(cropped[1], x[1, :, 2:6, 3:9])
    shrunk = opened(x, (2, 4, 6), preprocess=Preprocess(resize=4))
    assert shrunk.shape == (2, 4, 6)
    assert not np.array_equal(shrunk[1], cropped[1])
    with pytest.raises(GeedError, match="samples of 2×8×12, but the model takes 2×4×6"):
        opened(x, (2, 4, 6))
    planes = opened(x[:, 0], (4, 6), "NHW", preprocess=Preprocess(resize=4))
    assert planes.shape == (4, 6)


def test_colour_and_grey_are_converted_where_preprocessing_asks():
    colour = RNG.random((2, 3, 4, 6), dtype=np.float32)
    grey = opened(colour, preprocess=Preprocess(channels="grey"))[0]
    expected = 0.299 * colour[0, 0] + 0.587 * colour[0, 1] + 0.114 * colour[0, 2]
    np.testing.assert_allclose(grey[0], expected, rtol=1e-5)
    three = opened(colour[:, :1], (3, 4, 6), preprocess=Preprocess(channels="BGR"))[0]
    np.testing.assert_array_equal(three, np.repeat(colour[0, :1], 3, axis=0))


def test_indices_count_from_the_end_and_stop_there():
    x = RNG.random((3, 1, 4, 6), dtype=np.float32)
    samples = opened(x)
    np.testing.assert_array_equal(samples[-1], x[2])
    np.testing.assert_array_equal(samples[np.int64(1)], x[1])
    assert len(list(samples)) == 3
    for index in (3, -4):
        with pytest.raises(IndexError):
            samples[index]


def test_every_spelling_gives_the_same_samples(tmp_path, monkeypatch):
    x, y = pixels(4, 1, 4, 6), [5, 6, 7, 8]
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["in/x"], file["in/y"] = x, y
    (tmp_path / "a-idx").write_bytes(
        bytes([0, 0, 8, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 6]) + x.tobytes()
    )
    for i in range(4):
        write(tmp_path / "folder" / str(y[i]) / f"{i}.png", x[i, 0])
    (tmp_path / "spelled_here.py").write_text("import numpy as n\ndef f(): return n.load('a.npy')")
    monkeypatch.chdir(tmp_path)
    spellings = ["a.npy", "a.npz", "a.npz:x", "a.h5:/in/x", "a-idx", "folder", "spelled_here:f"]
    every = [opened(s) for s in [*spellings, tmp_path / "a.npy", x]]
    prints = {s.fingerprint(range(4)) for s in every}
    assert len(prints) == 1
    for samples in every:
        assert samples.labels in (None, (5, 6, 7, 8), ("5", "6", "7", "8"))
    assert opened("a.h5:/in/x").labels == opened("a.npz").labels == (5, 6, 7, 8)
    assert opened("folder").labels == ("5", "6", "7", "8")
    assert opened("folder").names == ("5/0.png", "6/1.png", "7/2.png", "8/3.png")


# Images


def test_a_flat_folder_has_names_and_no_classes(tmp_path):
    for name in ("b.png", "a.png"):
        write(tmp_path / name, pixels(4, 6))
    samples = opened(tmp_path)
    assert (samples.kind, samples.names, samples.labels) == ("images", ("a.png", "b.png"), None)


def test_the_topmost_folder_is_the_class(tmp_path):
    for name in ("cat/x/1.png", "cat/2.png", "dog/y/3.png"):
        write(tmp_path / name, pixels(4, 6))
    assert opened(tmp_path).labels == ("cat", "cat", "dog")
    write(tmp_path / "4.png", pixels(4, 6))
    assert opened(tmp_path).labels is None


@pytest.mark.parametrize("channels", [1, 3, None])
def test_images_are_fed_as_the_model_has_channels(tmp_path, channels):
    write(tmp_path / "grey.png", pixels(4, 6))
    write(tmp_path / "red.png", np.full((4, 6, 3), (255, 0, 0), np.uint8))
    samples = opened(tmp_path, (4, 6, channels), "NHWC")
    assert samples.shape == (channels or 3, 4, 6)
    np.testing.assert_allclose(samples[1][0], 0.299 if channels == 1 else 1, atol=0.003)


def test_images_feed_models_without_a_channel_axis(tmp_path):
    write(tmp_path / "a.png", pixels(4, 6, 3))
    assert opened(tmp_path, (4, 6), "NHW").shape == (4, 6)


def test_images_of_different_sizes_are_fine_once_they_are_made_equal(tmp_path):
    write(tmp_path / "first.png", pixels(20, 30, 3))
    write(tmp_path / "same.png", pixels(20, 30, 3))
    write(tmp_path / "wide.png", pixels(20, 50, 3))
    free = opened(tmp_path, (3, None, None))
    assert free[1].shape == (3, 20, 30)
    with pytest.raises(GeedError, match=r"png has 3×20×30, but wide\.png has 3×20×50.*resize="):
        free[2]
    resized = opened(tmp_path, (3, None, None), preprocess=Preprocess(resize=12, crop=10))
    assert {x.shape for x in resized} == {(3, 10, 10)}


def test_a_damaged_image_is_named_when_it_is_reached(tmp_path):
    write(tmp_path / "a.jpg", pixels(32, 32, 3))
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    samples = opened(tmp_path, (3, None, None))
    assert samples[0].shape == (3, 32, 32)
    with pytest.raises(GeedError, match=r"--data .*: b\.jpg: cannot be decoded"):
        samples[1]


# After the action, and the fingerprint


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_finish_finds_the_channels_behind_any_leading_axes(lead):
    samples = opened(
        np.zeros((1, 3, 4, 6), np.float32), (3, 4, 6), preprocess=Preprocess(mean=(1, 2, 3))
    )
    out = samples.finish(np.zeros((*lead, 3, 4, 6), np.float32))
    assert out.shape == (*lead, 3, 4, 6)
    np.testing.assert_array_equal(out[(*(0 for _ in lead), slice(None), 0, 0)], [-1, -2, -3])


def test_samples_are_not_yet_normalised():
    x = pixels(1, 3, 4, 6)
    preprocess = Preprocess(channels="BGR", scale=255, mean=(9, 8, 7))
    samples = opened(x, (3, 4, 6), preprocess=preprocess)
    np.testing.assert_array_equal(samples[0], x[0] / np.float32(255))
    expected = x[0, ::-1] - np.float32([9, 8, 7]).reshape(3, 1, 1)
    np.testing.assert_allclose(samples.finish(samples[0]), expected, atol=1e-4)


def test_samples_without_channels_are_finished_as_a_whole():
    samples = opened(
        np.ones((1, 4, 6), np.float32), (4, 6), "NHW", preprocess=Preprocess(mean=(3,), std=(2,))
    )
    assert (samples.finish(np.ones((5, 4, 6), np.float32)) == -1).all()


def test_samples_before_which_others_came_are_read_by_their_own_numbers_alone():
    x = pixels(3, 1, 4, 6)
    later = opened(x).after(5)
    assert len(later) == 8
    assert np.array_equal(later[6], opened(x)[1])
    assert np.array_equal(later[-1], opened(x)[2])
    for index in (0, 4, -4, 8):
        with pytest.raises(IndexError, match="sample"):
            later[index]
    with pytest.raises(GeedError, match="must not be negative"):
        opened(x).after(-1)


def test_the_fingerprint_is_of_values_shapes_order_and_preprocessing():
    x = pixels(3, 1, 4, 6)
    changed = x.copy()
    changed[1, 0, 2, 3] ^= 1
    prints = [
        opened(x).fingerprint([0, 1]),
        opened(x).fingerprint([1, 0]),
        opened(x).fingerprint([0, 1, 2]),
        opened(changed).fingerprint([0, 1]),
        opened(x, preprocess=Preprocess(mean=(0.5,))).fingerprint([0, 1]),
        opened(x.reshape(3, 1, 6, 4), (1, 6, 4)).fingerprint([0, 1]),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(p) == 64 for p in prints)
    assert opened(changed).fingerprint([0, 2]) == opened(x).fingerprint(iter([0, 2]))
    assert opened(x / np.float32(255)).fingerprint([0, 1]) == prints[0]


def test_the_fingerprint_is_the_sha_256_of_preprocessing_shape_and_values():
    x = np.arange(24, dtype=np.uint8).reshape(1, 1, 4, 6)
    spelled = b'{"mean": [0.5], "std": [0.5]}(1, 4, 6)' + (x / np.float32(255)).tobytes()
    samples = opened(x, preprocess=PRESETS["minus1to1"])
    assert samples.fingerprint([0]) == hashlib.sha256(spelled).hexdigest()


# Labels


@pytest.mark.parametrize(
    ("given_labels", "expected"),
    [
        ([1, 2, 3], (1, 2, 3)),
        (["a", "b", "c"], ("a", "b", "c")),
        (np.array([[1], [2], [3]]), (1, 2, 3)),
        (np.array([1.0, 2.0, 3.0]), (1, 2, 3)),
        (np.array([b"a", b"b", b"c"], dtype=object), ("a", "b", "c")),
        (np.array([True, False, True]), (1, 0, 1)),
    ],
)
def test_labels_are_whole_numbers_or_names(given_labels, expected):
    labels = opened(np.zeros((3, 1, 4, 6), np.float32), labels=given_labels).labels
    assert labels == expected
    assert all(type(v) in (int, str) for v in labels)


def test_labels_are_read_from_files(tmp_path):
    y = np.array([3, 1, 2])
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "y.npz", x=np.zeros((3, 2)), y=y)
    (tmp_path / "y-idx1").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 3, 1, 2]))
    (tmp_path / "y.txt").write_text("3\n1\n2\n")
    (tmp_path / "names.txt").write_text("cat\r\n a dog \n\nhen")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["x"], file["y"], file["names"] = np.zeros((3, 2)), y, ["cat", "a dog", "hen"]
    x = np.zeros((3, 1, 4, 6), np.float32)
    for name in ("y.npy", "y.npz", "y-idx1", "y.txt", "y.h5", "y.h5:/y"):
        assert opened(x, labels=tmp_path / name).labels == (3, 1, 2)
    for name in ("names.txt", "y.h5:/names"):
        assert opened(x, labels=f"{tmp_path}/{name}").labels == ("cat", "a dog", "hen")


def test_given_labels_come_before_those_found(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1, 4, 6), np.float32), y=[1, 2])
    assert opened(tmp_path / "a.npz").labels == (1, 2)
    assert opened(tmp_path / "a.npz", labels=[3, 4]).labels == (3, 4)


@pytest.mark.parametrize("beside", [[1], [0.5, 1.5], [[1, 2], [3, 4]], [1j, 2j]])
def test_what_only_looks_like_labels_is_left_alone(tmp_path, beside):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1, 4, 6), np.float32), y=beside)
    assert opened(tmp_path / "a.npz").labels is None


@pytest.mark.parametrize(
    ("given_labels", "message"),
    [
        ([1, 2], "2 labels for 3 samples: give one per sample"),
        ([[1, 0], [0, 1], [1, 0]], "3×2 labels for 3 samples"),
        ([[1], [2, 3], [4]], "for 3 samples: give one per sample"),
        ([0.5, 1, 2], "not classes: give whole numbers or names"),
        ([np.nan, 1, 2], "not classes: give whole numbers or names"),
        ([1j, 2, 3], "not classes: give whole numbers or names"),
        (np.array([0.5, 1, "a"], dtype=object), "not classes: give whole numbers or names"),
        ([None, 1, 2], "not classes: give whole numbers or names"),
        ("gone.npy", "--labels gone.npy: no such file"),
        ("gone.txt", "--labels gone.txt: no such file"),
    ],
)
def test_labels_that_are_none_are_refused(given_labels, message):
    with pytest.raises(GeedError, match=message):
        opened(np.zeros((3, 1, 4, 6), np.float32), labels=given_labels)


# Refusals


def array(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


TOKENS = "their scale is unknown, and a group does not act on token ids"
BAD_ARRAYS = {
    "token ids": (array(2, 1, 4, 6, dtype=np.int64), (1, 4, 6), "NCHW", TOKENS),
    "token ids, flat": (array(2, 512, dtype=np.int64), (1, 4, 6), "NCHW", TOKENS),
    "uint16": (array(2, 1, 4, 6, dtype=np.uint16), (1, 4, 6), "NCHW", "uint16 values: their scale"),
    "int8": (array(2, 1, 4, 6, dtype=np.int8), (1, 4, 6), "NCHW", "int8 values: their scale"),
    "bool": (array(2, 1, 4, 6, dtype=bool), (1, 4, 6), "NCHW", "bool values; save uint8 or"),
    "complex": (array(2, 1, 4, 6, dtype=complex), (1, 4, 6), "NCHW", "complex128 values"),
    "text": (np.array(["a", "b"]), (1, 4, 6), "NCHW", "not numbers"),
    "objects": (np.array([{}, {}]), (1, 4, 6), "NCHW", "not numbers"),
    "records": (array(2, dtype=[("a", "f4")]), (1, 4, 6), "NCHW", "not numbers"),
    "a number": (np.float32(3), (1, 4, 6), "NCHW", "an array of a single number"),
    "rank 2": (
        array(2, 24),
        (1, 4, 6),
        "NCHW",
        r"of 2×24, the model takes \(N, 1, 4, 6\): reshape",
    ),
    "rank 5": (array(2, 1, 1, 4, 6), (1, 4, 6), "NCHW", "reshape it to 4 axes"),
    "one volume": (array(1, 5, 4, 6), (1, 5, 4, 6), "NCDHW", "add an axis for the samples"),
    "one plane": (array(4, 6), (4, 6), "NHW", "add an axis for the samples"),
    "one sample": (array(3, 4, 6), (3, 4, 6), "NCHW", "one sample. Add an axis"),
    "one sample, NHWC": (array(4, 6, 3), (4, 6, 3), "NHWC", "one sample. Add an axis"),
    "no samples": (array(0, 1, 4, 6), (1, 4, 6), "NCHW", "holds no samples"),
    "no pixels": (array(2, 1, 0, 6), (1, None, 6), "NCHW", "holds no samples"),
    "channels last": (array(2, 4, 6, 3), (3, 4, 6), "NCHW", "move the last axis to place 1"),
    "channels first": (array(2, 3, 4, 6), (4, 6, 3), "NHWC", "move axis 1 to the end"),
    "grey": (array(2, 1, 4, 6), (3, 4, 6), "NCHW", "--preprocess channels=RGB converts"),
    "planes": (array(2, 4, 6), (3, 4, 6), "NCHW", "--preprocess channels=RGB converts"),
    "colour": (array(2, 3, 4, 6), (1, 4, 6), "NCHW", "--preprocess channels=grey converts"),
    "small planes": (array(2, 1, 4, 5), (3, 4, 6), "NCHW", "'channels=RGB resize=4x6' converts"),
    "series": (
        array(2, 3, 6),
        (3, 4, 6),
        "NCHW",
        r"read as grey images, N×H×W: give one of N×3×4×6; if .* 'channels=RGB resize=4x6' conv",
    ),
    "series, channels last": (array(2, 6, 3), (3, 4, 6), "NCHW", "read as grey images, N×H×W: gi"),
    "bands": (array(2, 5, 4, 6), (3, 4, 6), "NCHW", "samples of 5×4×6, .* give samples of 3 chan"),
    "size": (array(2, 4, 7, 3), (None, 6, 3), "NHWC", "4×7×3, .* .×6×3 .* 'resize=4x6'"),
    "depth": (array(2, 1, 3, 4, 6), (1, 5, 4, 6), "NCDHW", "give samples of depth 5"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_does_not_fit_is_told_with_its_cure(case):
    values, shape, layout, message = BAD_ARRAYS[case]
    with pytest.raises(GeedError, match=message) as caught:
        opened(values, shape, layout)
    assert "\n" not in str(caught.value)


def test_what_resizing_leaves_unfit_is_told(tmp_path):
    with pytest.raises(GeedError, match=r"samples of 1×8×8, .* change resize or crop to fit"):
        opened(array(2, 1, 9, 9), preprocess=Preprocess(crop=8))
    with pytest.raises(GeedError, match="sample 0: 9×9 is smaller than crop=10x10"):
        opened(array(2, 1, 9, 9), preprocess=Preprocess(crop=10))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_nan_and_infinity_are_told_with_the_sample(bad):
    x = np.zeros((3, 1, 4, 6))
    x[1, 0, 2, 3] = bad
    samples = opened(x)
    assert samples[2].shape == (1, 4, 6)
    with pytest.raises(GeedError, match=r"sample 1 holds NaN or infinity \(1 of 24 values\)"):
        samples[1]
    with pytest.raises(GeedError, match="sample 1"):
        samples.fingerprint([0, 1])


@pytest.mark.parametrize(
    ("text", "shape", "layout", "message"),
    [
        ("channels=RGB", (1, 4, 6), "NCHW", "channels=RGB feeds 3 channels, but the model takes 1"),
        ("channels=grey", (4, 6, 3), "NHWC", "feeds 1 channel, but the model takes 3"),
        ("channels=BGR", (4, 6), "NHW", "BGR feeds 3 channels, but the model takes 1"),
        ("channels=RGB", (5, 4, 6), "NCHW", "feeds 3 channels, but the model takes 5$"),
        ("mean=1,2,3", (1, 4, 6), "NCHW", "mean: 3 values, but the model takes 1 channel:"),
        ("std=1,2", (4, 6, 3), "NHWC", "std: 2 values, but the model takes 3 channels"),
    ],
)
def test_preprocessing_for_another_model_is_told_at_once(text, shape, layout, message):
    with pytest.raises(GeedError, match=message):
        opened(array(2, *shape), shape, layout, preprocess=parse_preprocess(text))


def test_folders_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(GeedError, match="no images in the folder"):
        opened(tmp_path)
    write(tmp_path / "a.png", pixels(8, 8, 3))
    for shape, layout, message in (
        ((4, 8, 8), "NCHW", "the model takes 4 channels, but images have 1 or 3"),
        ((1, 3, 8, 8), "NCDHW", "images have no depth"),
        ((3, 4, 6), "NCHW", "samples of 3×8×8, but the model takes 3×4×6 .*resize=4x6"),
    ):
        with pytest.raises(GeedError, match=message):
            opened(tmp_path, shape, layout)
    with pytest.raises(GeedError, match="is one image; give the folder"):
        opened(tmp_path / "a.png")
    with pytest.raises(GeedError, match="--data is empty"):
        opened("")


def test_opening_data_loads_no_heavy_library(tmp_path):
    np.save(tmp_path / "a.npy", pixels(2, 1, 4, 6))
    program = f"""
import sys
from onnx_geed.data import open_samples
open_samples({str(tmp_path / "a.npy")!r}, input_shape=(1, 4, 6), input_layout="NCHW")[1]
heavy = {{"onnx", "onnxruntime", "numba", "h5py", "scipy", "PIL"}} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
