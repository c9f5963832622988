"""Sets of different sizes: one array and lengths, or a file a sample; padded, and their masks."""

import os

import h5py
import numpy as np
import pytest

from onnx_geed import GeedError
from onnx_geed.data import mask_of, open_samples, read_mask

RNG = np.random.default_rng(0)
SIZES = (3, 5, 1, 4)
SETS = [RNG.random((n, 2), dtype=np.float32) + 1 for n in SIZES]
PAIRS = [RNG.random((n, n, 2), dtype=np.float32) + 1 for n in SIZES]


def opened(source, shape, layout, **options):
    return open_samples(str(source), input_shape=shape, input_layout=layout, **options)


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


def padded(x, length, axes):
    wide = np.zeros([length if k in axes else n for k, n in enumerate(x.shape)], np.float32)
    for at in np.ndindex(x.shape):
        wide[at] = x[at]
    return wide


def concatenated(sets):
    return {"s": np.concatenate(sets), "s_lengths": np.array(SIZES)}


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("length", [None, 5, 7])
@pytest.mark.parametrize("layout", ["NPC", "NCP", "NPX"])
def test_one_array_and_lengths_are_cut_and_padded(tmp_path, kind, length, layout):
    path = write(tmp_path / f"a.{kind}", concatenated(SETS) | {"y": [1, 0, 1, 1]})
    swapped = layout == "NCP"
    samples = opened(path, (2, length) if swapped else (length, 2), layout, name="s")
    assert len(samples) == 4
    assert samples.lengths == SIZES
    assert samples.labels == (1, 0, 1, 1)
    for k, one in enumerate(SETS):
        expected = padded(one, length or 5, (0,))
        # C stands first in kept order.
        np.testing.assert_array_equal(samples[k], expected if layout == "NPX" else expected.T)


@pytest.mark.parametrize("layout", ["NPPC", "NCPP", "NPCP"])
def test_adjacencies_are_cut_and_padded_on_both_axes(tmp_path, layout):
    flat = [pair.reshape(-1, 2) for pair in PAIRS]
    path = write(tmp_path / "a.npz", concatenated(flat))
    shape = tuple(2 if letter == "C" else None for letter in layout[1:])
    samples = opened(path, shape, layout, name="s")
    assert samples.lengths == SIZES
    for k, pair in enumerate(PAIRS):
        np.testing.assert_array_equal(samples[k], padded(pair, 5, (0, 1)).transpose(2, 0, 1))


def test_sets_of_one_size_that_fit_need_no_mask(tmp_path):
    arrays = {"x": np.concatenate([SETS[1], SETS[1] + 1]), "x_lengths": [5, 5]}
    path = write(tmp_path / "a.npz", arrays)
    assert opened(path, (None, 2), "NPX").lengths is None
    assert opened(path, (5, 2), "NPX").lengths is None
    assert opened(path, (6, 2), "NPX").lengths == (5, 5)


def test_token_ids_are_padded_as_they_are(tmp_path):
    ids = np.concatenate([np.arange(1, n + 1) for n in SIZES])
    path = write(tmp_path / "a.npz", {"ids": ids, "ids_lengths": np.array(SIZES, np.int32)})
    for layout in ("NT", "NP"):
        samples = opened(path, (6,), layout, dtype="int64", name="ids")
        np.testing.assert_array_equal(samples[1], [1, 2, 3, 4, 5, 0])
        assert samples.lengths == SIZES


def test_only_what_is_real_is_checked_for_nan(tmp_path):
    arrays = concatenated(SETS)
    arrays["s"][4, 1] = np.nan  # in the second set
    samples = opened(write(tmp_path / "a.npz", arrays), (None, 2), "NPX")
    assert np.isfinite(samples[0]).all()
    with pytest.raises(GeedError, match="sample 1 holds NaN or infinity"):
        samples[1]


@pytest.mark.parametrize(
    ("change", "shape", "layout", "message"),
    [
        ({"s_lengths": [3, 5, 1, 5]}, (None, 2), "NPX", "add up to 14, the array holds 13"),
        ({"s_lengths": [3, 5, 1, -4]}, (None, 2), "NPX", "lengths are whole numbers from 0"),
        ({"s_lengths": [3.5, 5, 1, 3.5]}, (None, 2), "NPX", "lengths are whole numbers"),
        ({"s_lengths": [[3, 5, 1, 4]]}, (None, 2), "NPX", "lengths are whole numbers"),
        ({"s_lengths": ["a", "b"]}, (None, 2), "NPX", "lengths are whole numbers"),
        ({"s_lengths": np.zeros(0, int)}, (None, 2), "NPX", "lengths are whole numbers"),
        ({"s_lengths": [3, 5, 0, 5]}, (None, 2), "NPX", "sample 2 has length 0 along P"),
        ({}, (4, 2), "NPX", "sample 1 has 5 along P, points.* the model takes 4"),
        ({}, (None, 3), "NPX", "samples of 5×2, but input 's' takes .×3"),
        ({}, (None, None), "NPP", "their squares add up to 51, the array holds 13"),
        ({}, (None, 2), "NHW", "NHW has no axis P or T"),
    ],
)
def test_lengths_that_do_not_fit_are_told(tmp_path, change, shape, layout, message):
    path = write(tmp_path / "a.npz", concatenated(SETS) | change)
    with pytest.raises(GeedError, match=message) as caught:
        opened(path, shape, layout, name="s")
    assert "\n" not in str(caught.value)


def test_an_hdf5_file_is_read_set_by_set(tmp_path):
    path = write(tmp_path / "a.h5", concatenated(SETS))
    samples = opened(path, (None, 2), "NPX")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(GeedError):
        [samples[k] for k in range(4)]


# A file a sample


def folder_of(tmp_path, sets):
    for k, one in enumerate(sets):
        folder = tmp_path / "sets" / ("even" if k % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{k}.npy", one)
    return tmp_path / "sets"


@pytest.mark.parametrize("length", [None, 5, 6])
def test_a_folder_of_arrays_is_padded(tmp_path, length):
    folder = folder_of(tmp_path, SETS)
    samples = opened(folder, (length, 2), "NPX")
    assert samples.names == ("even/0.npy", "even/2.npy", "odd/1.npy", "odd/3.npy")
    assert samples.labels == ("even", "even", "odd", "odd")
    assert samples.lengths == (3, 1, 5, 4)
    np.testing.assert_array_equal(samples[3], padded(SETS[3], length or 5, (0,)))
    assert len(samples.files()) == 2  # those that were read
    pairs = opened(folder_of(tmp_path / "b", PAIRS), (length, length, 2), "NPPC")
    expected = padded(PAIRS[3], length or 5, (0, 1)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pairs[3], expected)


@pytest.mark.parametrize(
    ("sets", "shape", "layout"), [(SETS, (None, 2), "NPX"), (PAIRS, (None, None, 2), "NPPC")]
)
def test_samples_one_behind_the_other_ask_for_their_lengths(tmp_path, sets, shape, layout):
    flat = np.concatenate([one.reshape(-1, 2) for one in sets])
    path = write(tmp_path / "a.npz", {"s": flat, "other_lengths": SIZES})
    with pytest.raises(GeedError, match="store the samples' lengths along P as s_lengths"):
        opened(path, shape, layout, name="s")


@pytest.mark.parametrize(
    ("found", "shape", "layout"),
    [
        ((13,), (None, 2), "NPX"),
        ((4, 5, 2, 2), (None, 2), "NPX"),
        ((13, 5, 2), (None,) * 3, "NPPC"),
    ],
)
def test_arrays_of_another_rank_are_asked_for_no_lengths(tmp_path, found, shape, layout):
    path = write(tmp_path / "a.npz", {"s": np.zeros(found, np.float32), "other_lengths": SIZES})
    with pytest.raises(GeedError, match="the model takes") as caught:
        opened(path, shape, layout, name="s")
    assert "s_lengths" not in str(caught.value)


def test_lines_of_different_lengths_are_padded_only_for_a_mask(tmp_path):
    folder = folder_of(tmp_path, [one.T for one in SETS])
    samples = opened(folder, (2, None), "NCT")
    with pytest.raises(GeedError, match=r"0\.npy has 2×3, but odd/1\.npy has 2×5; cut .*--mask"):
        samples[2]
    samples = opened(folder, (2, None), "NCT", masked=True)
    assert samples.lengths == (3, 1, 5, 4)
    np.testing.assert_array_equal(samples[0], padded(SETS[0].T, 5, (1,)))


def test_a_folder_of_arrays_of_one_size_is_as_one_array(tmp_path):
    x = RNG.integers(0, 256, (3, 1, 4, 6), dtype=np.uint8)
    folder = folder_of(tmp_path, list(x))
    samples = opened(folder, (1, 4, 6), "NCHW")
    np.testing.assert_array_equal(samples[1], x[2] / np.float32(255))
    assert samples.lengths is None


def test_an_odd_file_among_arrays_is_named(tmp_path):
    folder = folder_of(tmp_path, SETS)
    (folder / "odd" / "1.npy").write_bytes(b"\x93NUMPY\x01\x00junk")
    with pytest.raises(GeedError, match=r"odd/1\.npy: cannot be read"):
        opened(folder, (None, 2), "NPX")
    np.save(folder / "odd" / "1.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(GeedError, match=r"odd/1\.npy: .* pickled Python objects"):
        opened(folder, (None, 2), "NPX")
    np.save(folder / "odd" / "1.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(GeedError, match=r"even/0\.npy has 5×2, but odd/1\.npy has 5×3"):
        opened(folder, (None, 2), "NPX")[2]
    np.save(folder / "odd" / "1.npy", np.float32(1))
    with pytest.raises(GeedError, match=r"1\.npy: an array of 0 axes, but one sample of NPX has 2"):
        opened(folder, (None, 2), "NPX")
    np.save(folder / "odd" / "1.npy", np.zeros((5, 2, 1), np.float32))
    with pytest.raises(GeedError, match=r"odd/1\.npy has 5×2×1, but 5 along P were expected"):
        opened(folder, (None, 2), "NPX")[2]
    np.save(folder / "odd" / "1.npy", SETS[1].astype(np.uint8))
    with pytest.raises(GeedError, match=r"1\.npy holds uint8 values, but .*0\.npy holds float32"):
        opened(folder, (None, 2), "NPX")[2]


# Masks


def test_a_mask_is_made_of_lengths():
    expected = [[True, False, False], [True, True, True], [False, False, False]]
    np.testing.assert_array_equal(mask_of((1, 3, 0), 3), expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_a_mask_is_read_from_zeros_and_ones(tmp_path, dtype):
    mask = RNG.random((4, 5)) < 0.5
    mask[:, 2] = True  # in the midst: real entries need not come first
    np.save(tmp_path / "m.npy", mask.astype(dtype))
    for source in (tmp_path / "m.npy", str(tmp_path / "m.npy"), mask.astype(dtype)):
        found = read_mask(source, 4, 5)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_a_mask_is_read_from_lengths(tmp_path, dtype):
    np.save(tmp_path / "m.npy", np.array(SIZES, dtype))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy", 4, 5), mask_of(SIZES, 5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((3, 5)), "--mask pos=.*: 3×5 for 4 samples with 5 entries; give 4×5"),
        (np.ones((4, 6)), "give 4×5 of 0 and 1"),
        (np.ones(5), "or 4 lengths"),
        (np.ones((4, 5)) * 2, "holds 2.0; write 1 where an entry is real"),
        (np.full((4, 5), np.nan), "holds nan"),
        (np.full((4, 5), "a"), "holds <U1"),
        (np.array([3, 6, 1, 4]), "whole numbers from 1 to 5.*; found 6 for sample 1"),
        (np.array([3, 5, 0, 4]), "found 0 for sample 2"),
        (np.array([3, 5, -1, 4]), "found -1 for sample 2"),
        (np.array([3, 5, 1.5, 4]), "found float64 values"),
        (np.array([True] * 4), "found bool values"),
        (np.array([[1] * 5] * 3 + [[0] * 5]), "sample 3 has no real entry"),
    ],
)
def test_a_mask_that_does_not_fit_is_told(tmp_path, values, message):
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(GeedError, match=message) as caught:
        read_mask(tmp_path / "m.npy", 4, 5, option="--mask pos")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"junk", b"\x80\x04.", b"\x93NUMPY\x01\x00v"])
def test_a_mask_that_cannot_be_read_is_told(tmp_path, content):
    path = tmp_path / "m.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeedError, match=r"--mask pos.*m\.npy") as caught:
        read_mask(path, 4, 5, option="--mask pos")
    assert "\n" not in str(caught.value)
