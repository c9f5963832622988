"""Samples of inputs that are no images: any layout, integers, arrays by name."""

import hashlib
import itertools

import h5py
import numpy as np
import pytest

from onnx_geed import GeedError, Preprocess, parse_preprocess
from onnx_geed.data import Intake, array_named, check_counts, mark_of, named_inputs, open_samples
from onnx_geed.groups import LETTERS

RNG = np.random.default_rng(0)
LENGTHS = {"C": 3, "K": 5, "D": 4, "H": 6, "W": 7, "T": 8, "P": 9, "X": 2, "B": 4}


def opened(source, shape, layout, **options):
    return open_samples(source, input_shape=shape, input_layout=layout, **options)


def one_of_each(rank):
    """Layouts with so many axes, each letter once, or P twice."""
    letters = [k for k in LETTERS if k != "N"] + (["P"] if rank > 2 else [])
    seen = {"N" + "".join(p) for p in itertools.permutations(letters, rank - 1)}
    return sorted(seen)[:: max(1, len(seen) // 40)]


def kept(letters, x):
    """One sample in kept order, axis by axis."""
    first = [letters.index(c) for c in "CK" if c in letters]
    last = [letters.index(c) for c in "HW" if c in letters]
    middle = [k for k in range(len(letters)) if k not in first + last]
    return x.transpose(first + middle + last)


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_any_layout_is_read_in_kept_order(rank):
    for layout in one_of_each(rank):
        shape = tuple(LENGTHS[letter] for letter in layout[1:])
        x = RNG.random((3, *shape), dtype=np.float32)
        samples = opened(x, shape, layout)
        expected = kept(layout[1:], x[1])
        assert samples.shape == expected.shape
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples[1], expected)
        assert samples[1].flags.c_contiguous
        assert opened(x, (None,) * len(shape), layout).shape == expected.shape


@pytest.mark.parametrize(
    ("layout", "found", "takes", "message"),
    [
        (
            "NPX",
            (9, 3),
            (8, 3),
            r"samples of 9×3, but the model takes 8×3 \(NPX\): give .* 8 along P, p",
        ),
        ("NPX", (9, 2), (9, 3), "3 along X, components"),
        ("NTB", (20, 5), (20, 4), "4 along B, DNA bases"),
        ("NBT", (4, 20), (4, 30), "samples of 30 along T, a line"),
        ("NCT", (2, 20), (1, 20), "samples of 1 channel$"),
        ("NCT", (20, 2), (2, 20), "move the last axis to place 1"),
        ("NTC", (2, 20), (20, 2), "move axis 1 to the end"),
        ("NPP", (5, 5), (6, 6), "6 along P"),
        ("NK", (5,), (6,), "6 along K, entries of a vector"),
        ("NT", (5,), (6,), "samples of 6 along T, a line"),
        ("NXHW", (3, 4, 4), (2, 4, 4), "2 along X"),
        ("NXHW", (2, 4, 5), (2, 4, 4), "resize=4x4"),
        ("NPPC", (5, 5, 2), (5, 5, 3), "3 channels"),
    ],
)
def test_a_wrong_length_is_told_by_what_the_axis_is(layout, found, takes, message):
    with pytest.raises(GeedError, match=message) as caught:
        opened(np.zeros((3, *found), np.float32), takes, layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["NPX", "NT", "NCT", "NPPC", "NK"])
def test_a_wrong_number_of_axes_is_told(layout):
    shape = tuple(LENGTHS[letter] for letter in layout[1:])
    with pytest.raises(GeedError, match="add an axis for the samples"):
        opened(np.zeros(shape, np.float32), shape, layout)
    with pytest.raises(GeedError, match=f"reshape it to {len(layout)} axes"):
        opened(np.zeros((2, *shape, 1), np.float32), shape, layout)
    with pytest.raises(GeedError, match="holds no samples"):
        opened(np.zeros((0, *shape), np.float32), shape, layout)


@pytest.mark.parametrize(("layout", "shape"), [("NCT", (1, 8)), ("NTC", (8, 1))])
def test_lines_will_do_for_models_of_one_channel(layout, shape):
    x = RNG.random((3, 8), dtype=np.float32)
    np.testing.assert_array_equal(opened(x, shape, layout)[2], x[2][None])
    with pytest.raises(GeedError, match="add an axis"):
        opened(x, (2, 8) if layout == "NCT" else (8, 2), layout)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "bool"])
@pytest.mark.parametrize(("layout", "shape"), [("NTB", (5, 4)), ("NPP", (4, 4)), ("NT", (6,))])
def test_whole_numbers_for_floats_are_taken_as_they_are(dtype, layout, shape):
    x = RNG.integers(0, 2, (3, *shape)).astype(dtype)
    samples = opened(x, shape, layout)
    assert samples[1].dtype == np.float32
    np.testing.assert_array_equal(samples[1], x[1].astype(np.float32))


def test_bytes_are_pixels_where_there_is_a_plane():
    x = RNG.integers(0, 256, (2, 2, 4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(opened(x, (2, 4, 6), "NXHW")[0], x[0] / np.float32(255))
    with pytest.raises(GeedError, match="int16 values: their scale is unknown"):
        opened(x.astype(np.int16), (2, 4, 6), "NXHW")


# Whole numbers


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "bool"])
@pytest.mark.parametrize("given", ["int64", "uint8", "float32", "float64", "bool"])
def test_whole_numbers_stay_whole(dtype, given):
    x = RNG.integers(0, 2 if "bool" in (dtype, given) else 100, (3, 6)).astype(given)
    samples = opened(x, (6,), "NT", dtype=dtype)
    assert samples.dtype == samples[1].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(samples[1], x[1].astype(dtype))
    assert samples.finish(samples[1][None]).dtype == np.dtype(dtype)
    assert Intake(samples, [2, 0]).fingerprint() == samples.fingerprint([2, 0])


def test_bytes_of_a_picture_for_a_model_of_bytes_are_not_scaled():
    x = RNG.integers(0, 256, (2, 1, 4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(opened(x, (1, 4, 6), "NCHW", dtype="uint8")[1], x[1])


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([[0.5, 1.0]], "int64", r"sample 0 holds 0.5, but the model takes whole numbers \(int64\)"),
        ([[np.nan, 1.0]], "int64", "sample 0 holds nan"),
        ([[np.inf, 1.0]], "int32", "sample 0 holds inf"),
        ([[300, 1]], "int8", "holds 300, .* from -128 to 127"),
        ([[-1, 1]], "uint8", "holds -1, .* from 0 to 255"),
        ([[2, 1]], "bool", "holds 2, but the model takes true or false"),
        ([[1e300, 1]], "int64", "the model takes whole numbers"),
        ([[1j, 1]], "int64", "complex128 values"),
        ([["a", "b"]], "int64", "not numbers"),
    ],
)
def test_what_is_no_whole_number_is_refused(values, dtype, message):
    with pytest.raises(GeedError, match=message) as caught:
        opened(np.array(values), (2,), "NT", dtype=dtype)
    assert "\n" not in str(caught.value)


def test_lists_that_are_no_arrays_are_told_in_one_line():
    for source in ([[1.0], [2.0, 3.0]], {"x": [[1.0], [2.0, 3.0]]}, {"x": [{}, {}]}, {}):
        with pytest.raises(GeedError, match=r"--data array") as caught:
            opened(source, (2,), "NT")
        assert "\n" not in str(caught.value)
    with pytest.raises(GeedError, match=r"--data array"):
        array_named({"x": [[1.0], [2.0, 3.0]]}, "x")


def test_large_token_ids_differ_in_fingerprint_and_mark():
    a, b = (np.array([[2**24 + k, 0]]) for k in (0, 1))
    prints = [opened(x, (2,), "NT", dtype="int64") for x in (a, b)]
    assert prints[0].fingerprint([0]) != prints[1].fingerprint([0])
    assert mark_of(prints[0][0]) != mark_of(prints[1][0])
    assert mark_of(a[0]) != mark_of(a[0].astype(np.int32))


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (np.array([[1.5, -2.0]], np.float32), b"(1, 2)"),
        (np.array([1.5, -2.0], ">f8"), b"(2,)"),  # floats are hashed as float32
        (np.array([1, 2], np.int64), b"int64(2,)"),
        (np.array([True, False]), b"bool(2,)"),
    ],
)
def test_a_mark_is_that_of_shape_type_and_values(sample, kind):
    values = sample.astype("<f4") if sample.dtype.kind == "f" else sample
    assert mark_of(sample) == hashlib.blake2b(kind + values.tobytes(), digest_size=8).hexdigest()


def test_images_are_no_whole_numbers(tmp_path):
    from PIL import Image

    Image.new("L", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(GeedError, match="the model takes int64, but images are read as floats"):
        opened(tmp_path, (1, 4, 6), "NCHW", dtype="int64")


# Preprocessing


@pytest.mark.parametrize("text", ["resize=4", "crop=4x6", "channels=grey", "imagenet"])
@pytest.mark.parametrize("layout", ["NPX", "NCT", "NT"])
def test_preprocessing_of_pictures_is_for_pictures(text, layout):
    shape = tuple(LENGTHS[letter] for letter in layout[1:])
    with pytest.raises(GeedError, match=r"is for inputs with a plane.*leave it out"):
        opened(np.zeros((2, *shape)), shape, layout, preprocess=parse_preprocess(text))


def test_means_go_along_the_channels_where_there_are_any():
    x = RNG.random((2, 8, 3), dtype=np.float32)
    samples = opened(x, (8, 3), "NTC", preprocess=Preprocess(mean=(1, 2, 3), std=(2,)))
    expected = (x[1].T - np.array([[1], [2], [3]], np.float32)) / 2
    np.testing.assert_allclose(samples.finish(samples[1][None])[0], expected, rtol=1e-6)
    points = opened(x, (8, 3), "NPX", preprocess=Preprocess(scale=2))
    np.testing.assert_array_equal(points.finish(points[0]), x[0] * 2)
    with pytest.raises(GeedError, match="3 values"):
        opened(x, (8, 3), "NPX", preprocess=Preprocess(mean=(1, 2, 3)))
    with pytest.raises(GeedError, match=r"scale=2\.0: the model takes whole numbers"):
        opened(np.zeros((2, 8), int), (8,), "NT", preprocess=Preprocess(scale=2), dtype="int64")


# Several arrays by name


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values


POS, ADJ = RNG.random((4, 5, 3), dtype=np.float32), RNG.integers(0, 2, (4, 5, 5))


@pytest.mark.parametrize("kind", ["npz", "h5", "mapping", "function"])
def test_arrays_are_matched_by_the_names_of_inputs(tmp_path, monkeypatch, kind):
    arrays = {"pos": POS, "adj": ADJ, "y": [0, 1, 1, 0], "charge": np.arange(4.0)}
    monkeypatch.chdir(tmp_path)
    if kind == "function":
        write(tmp_path / "a.npz", arrays)
        (tmp_path / "graphs_here.py").write_text(
            "import numpy as n\ndef f(): return dict(n.load('a.npz'))"
        )
    elif kind != "mapping":
        write(tmp_path / f"a.{kind}", arrays)
    source = {"mapping": arrays, "function": "graphs_here:f"}.get(kind, f"a.{kind}")
    assert named_inputs(source, ["pos", "adj"], ["charge", "other"]) == ("pos", "adj", "charge")
    pos = opened(source, (5, 3), "NPX", name="pos")
    adj = opened(source, (5, 5), "NPP", name="adj", dtype="bool")
    np.testing.assert_array_equal(pos[2], POS[2])
    np.testing.assert_array_equal(adj[3], ADJ[3].astype(bool))
    assert pos.labels == adj.labels == (0, 1, 1, 0)
    np.testing.assert_array_equal(array_named(source, "charge"), np.arange(4.0))
    check_counts({"pos": pos, "adj": adj})


def test_a_group_of_hdf5_holds_the_arrays_too(tmp_path):
    write(tmp_path / "a.h5", {"test/pos": POS, "test/adj": ADJ, "train/pos": POS[:2]})
    source = f"{tmp_path}/a.h5:/test"
    assert named_inputs(source, ["pos", "adj"]) == ("pos", "adj")
    assert len(opened(source, (5, 3), "NPX", name="pos")) == 4
    np.testing.assert_array_equal(array_named(source, "adj"), ADJ)
    with pytest.raises(GeedError, match=r"no array 'pos': it holds test/adj.* Did you mean 't"):
        named_inputs(str(tmp_path / "a.h5"), ["pos", "adj"])


def test_the_array_called_as_the_input_wins(tmp_path):
    np.savez(tmp_path / "a.npz", x=POS + 1, pos=POS)
    source = str(tmp_path / "a.npz")
    np.testing.assert_array_equal(opened(source, (5, 3), "NPX", name="pos")[0], POS[0])
    np.testing.assert_array_equal(opened(source, (5, 3), "NPX", name="q")[0], POS[0] + 1)
    np.testing.assert_array_equal(opened(f"{source}:x", (5, 3), "NPX", name="pos")[0], POS[0] + 1)
    assert named_inputs(source, ["q"]) == ()
    assert named_inputs(source, ["pos"]) == ("pos",)


def test_arrays_that_match_no_input_are_told_with_both_lists(tmp_path):
    np.savez(tmp_path / "a.npz", position=POS, adj=ADJ, y=np.arange(4))
    source = str(tmp_path / "a.npz")
    message = "moves pos and adj together, .* 'pos': it holds position, adj, y; .*mean 'position'"
    with pytest.raises(GeedError, match=message):
        named_inputs(source, ["pos", "adj"])
    with pytest.raises(
        GeedError, match=r"which array\? It holds position, adj, y, the model's inp"
    ):
        opened(source, (5, 3), "NPX", name="pos")
    np.save(tmp_path / "x.npy", POS)
    for one in (str(tmp_path / "x.npy"), POS, str(tmp_path)):
        with pytest.raises(GeedError, match=r"this is one array: give an \.npz or HDF5"):
            named_inputs(one, ["pos", "adj"])
        assert named_inputs(one, ["pos"]) == ()


@pytest.mark.parametrize(("name", "label"), [("xyz", "y"), ("Xtrain", "ytrain"), ("data_1", "y_1")])
def test_labels_lie_beside_arrays_of_any_name(tmp_path, name, label):
    np.savez(tmp_path / "a.npz", **{name: POS, label: [0, 1, 1, 0], "adj": ADJ})
    samples = opened(str(tmp_path / "a.npz"), (5, 3), "NPX", name=name)
    assert samples.labels == (0, 1, 1, 0)


def test_inputs_of_different_counts_are_refused():
    both = {
        "pos": opened(POS, (5, 3), "NPX"),
        "adj": opened(ADJ[:3], (5, 5), "NPP"),
    }
    with pytest.raises(GeedError, match="3 samples for adj, but 4 for pos"):
        check_counts(both)


@pytest.mark.parametrize("bad", ["pickle", "text", "cut", "gone"])
def test_bad_arrays_by_name_are_told_in_one_line(tmp_path, bad):
    path = tmp_path / "a.npz"
    odd = {"pickle": np.array([{}] * 4, dtype=object), "text": np.array(["a"] * 4)}
    np.savez(path, pos=POS, adj=odd.get(bad, ADJ))
    if bad == "cut":
        path.write_bytes(path.read_bytes()[:300])
    if bad == "gone":
        path.unlink()
    with pytest.raises(GeedError) as caught:
        [array_named(str(path), name) for name in named_inputs(str(path), ["pos", "adj"])]
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
