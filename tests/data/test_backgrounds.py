import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from onnx_geed import GeedError
from onnx_geed.data.backgrounds import read_backgrounds, read_masks
from onnx_geed.data.images import decode
from onnx_geed.data.preprocess import Preprocess


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for i, (name, size) in enumerate(
        {"b.png": (10, 20), "a/z.png": (40, 12), "c.jpg": (8, 8), "é.png": (16, 16)}.items()
    ):
        save(tmp_path / "scenes" / name, np.full((*size, 3), (40 * i, 255 - 40 * i, 9)))
    (tmp_path / "scenes" / "notes.txt").write_text("none")
    return tmp_path / "scenes"


def test_backgrounds_are_drawn_by_the_seed_named_by_file_and_of_the_samples_size(folder):
    drawn = read_backgrounds(folder, 2, (3, 8, 12), seed=1)
    again = read_backgrounds(folder, 2, (3, 8, 12), seed=1)
    assert drawn.names == again.names
    assert_array_equal(drawn.images, again.images)
    assert drawn.images.shape == (2, 3, 8, 12)
    assert drawn.images.dtype == np.float32
    every = read_backgrounds(folder, 4, (3, 8, 12), seed=3)
    assert every.names == ("a/z.png", "b.png", "c.jpg", "é.png")
    for name, image in zip(every.names, every.images, strict=True):
        whole = decode(folder / name, Preprocess(), grey=False, name=name)
        assert_allclose(image, np.broadcast_to(whole[:, :1, :1], image.shape), atol=0.02)
    draws = {read_backgrounds(folder, 2, (3, 8, 12), seed=seed).names for seed in range(20)}
    assert len(draws) > 3


def test_the_middle_of_a_background_is_taken_and_nothing_is_squeezed(tmp_path):
    # Left third black, middle third white, right third black; twice as high as the sample.
    scene = np.zeros((20, 60), dtype=np.uint8)
    scene[:, 20:40] = 255
    save(tmp_path / "one.png", scene)
    (image,) = read_backgrounds(tmp_path, 1, (1, 10, 10), seed=0).images
    assert_allclose(image[0, :, 1:-1], 1, atol=1e-6)
    (image,) = read_backgrounds(tmp_path, 1, (1, 20, 60), seed=0).images
    assert_array_equal(image[0] * 255, scene)
    (image,) = read_backgrounds(tmp_path, 1, (1, 40, 120), seed=0).images
    assert_allclose(image[0, :, [60, 10, 110]].mean(axis=1), [1, 0, 0], atol=1e-6)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize(
    ("count", "of", "says"),
    [
        (5, "scenes", "the folder has 4 images; ask for 4 or fewer"),
        (1, "nowhere", "cannot be read (No such file or directory)"),
        (1, "empty", "no images in the folder"),
        (1, "broken", "broken: x.png: cannot be decoded"),
    ],
)
def test_folders_that_hold_too_little_are_named(folder, tmp_path, count, of, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n none")
    with pytest.raises(GeedError, match="background") as caught:
        read_backgrounds(tmp_path / of, count, (3, 4, 4), seed=0)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_of_an_array_a_file_and_a_folder_are_the_same(tmp_path):
    masks = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    np.save(tmp_path / "m.npy", masks.astype(np.uint8))
    np.savez(tmp_path / "m.npz", fore=masks.astype(np.float64) * 255)
    for i, mask in enumerate(masks):
        save(tmp_path / "white" / f"{i}.png", mask * 255)
        save(tmp_path / "ones" / f"{i}.png", mask * 1)
    sources = ["m.npy", "m.npz", "white", "ones"]
    for source in [masks, *(tmp_path / s for s in sources), str(tmp_path / "m.npy")]:
        rows = read_masks(source, 3, (4, 5))
        for i in (2, 0, 1):
            assert rows.read(i).dtype == np.bool_
            assert_array_equal(rows.read(i), masks[i])
        rows.close()
    rows = read_masks(tmp_path / "white", 3, (4, 5))
    rows.read(1)
    assert len(rows.files()) == 1


def test_masks_are_resized_and_cropped_as_samples_are(tmp_path):
    values = np.zeros((40, 60), dtype=np.uint8)
    values[10:30, 16:36] = 255
    save(tmp_path / "images" / "x.png", values)
    save(tmp_path / "masks" / "x.png", values)
    preprocess = Preprocess(resize=20, crop=16)
    sample = decode(tmp_path / "images" / "x.png", preprocess, grey=True, name="x")[0]
    for source in (tmp_path / "masks", values[None] // 255):
        (mask,) = [read_masks(source, 1, (16, 16), preprocess).read(0)]
        assert_array_equal(mask, sample > 0.5)
        assert 0 < mask.mean() < 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((2, 4, 5)), "2 masks for 3 samples"),
        (np.zeros((3, 20)), "3×20; give masks of shape N×H×W, here 3×4×5"),
        (np.zeros((3, 5, 4)), "sample 0: 5×4, but the sample is 4×5"),
        (np.full((3, 4, 5), 0.5), "sample 0: holds 0.5; write 1"),
        (
            np.arange(60).reshape(3, 4, 5) % 3,
            "sample 0: holds 2; write 1",
        ),
        (np.arange(60).reshape(3, 4, 5) % 3 / 2, "sample 0: holds 0.5 besides 1; write 1"),
        (np.arange(60).reshape(3, 4, 5) % 2 * 254 + 1, "holds 1 besides 255; write 1 (in an image"),
        (np.full((3, 4, 5), -1), "sample 0: holds -1; write 1"),
        (np.full((3, 4, 5), np.nan), "sample 0: holds nan; write 1"),
        (np.full((3, 4, 5), "x"), "holds <U1; write 1"),
        ("nowhere.npy", "no such file"),
    ],
)
def test_what_is_no_mask_is_named(source, says):
    with pytest.raises(GeedError, match=r"^--masks") as caught:
        read_masks(source, 3, (4, 5)).read(0)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grey_image_is_no_mask(tmp_path):
    save(tmp_path / "m" / "x.png", np.full((4, 5), 37))
    with pytest.raises(GeedError, match=r"x.png: holds 37; write 1 \(in an image 255, white\)"):
        read_masks(tmp_path / "m", 1, (4, 5)).read(0)
