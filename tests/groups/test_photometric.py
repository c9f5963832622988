import naive_photometric as naive
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageEnhance

from onnx_geed import GeedError
from onnx_geed.groups.photometric import (
    blur,
    brightness,
    check_value,
    clipped,
    contrast,
    from_bytes,
    jpeg,
    luma,
    member,
    noise,
    swap,
    to_bytes,
)

VALUES = {"brightness": -60.0, "contrast": 1.5, "blur": 0.8, "noise": 16.0, "jpeg": 50.0}


def picture(channels=3, height=9, width=13, seed=0):
    return np.random.default_rng(seed).random((channels, height, width), dtype=np.float32)


def photo(channels=3, side=64):
    """Smooth as photos are."""
    down, across = np.mgrid[:side, :side] / side
    waves = [np.sin(5 * down + k) * np.cos(7 * across - k) for k in range(channels)]
    return (0.5 + 0.4 * np.stack(waves)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", VALUES)
def test_members_are_those_of_the_slow_twin(kind, channels):
    x, seed = picture(channels), (3, 5, 2)
    found = member(kind, x, VALUES[kind], seed=seed)
    value = int(VALUES[kind]) if kind == "jpeg" else VALUES[kind]
    more = (seed,) if kind == "noise" else ()
    expected = getattr(naive, kind)(x, value, *more)
    assert found.dtype == np.float32
    assert found.shape == x.shape
    assert found.flags.c_contiguous
    assert_allclose(found, expected, atol=2e-7, rtol=0)
    assert np.abs(found - x).max() > 0.01


@pytest.mark.parametrize("kind", VALUES)
def test_images_stay_as_they_were(kind):
    x = picture()
    before = x.copy()
    member(kind, x, VALUES[kind], seed=(0, 0, 1))
    assert_array_equal(x, before)


@given(st.floats(-300, 300), st.integers(0, 99))
def test_brightness_is_undone_by_its_opposite_and_never_clips(value, seed):
    x = picture(seed=seed)
    changed = brightness(x, value)
    assert_allclose(changed - x, value / 255, atol=1e-6)
    assert_allclose(brightness(changed, -value), x, atol=1e-6)


@given(st.floats(0.1, 4), st.integers(0, 99))
def test_contrast_keeps_the_mean_luma_and_is_undone_by_its_inverse(factor, seed):
    x = picture(seed=seed)
    changed = contrast(x, factor)
    assert luma(changed).mean() == pytest.approx(luma(x).mean(), abs=1e-6)
    assert_allclose(contrast(changed, 1 / factor), x, atol=1e-5)
    assert changed.std() == pytest.approx(factor * x.std(), rel=0.1)


def test_contrast_has_its_known_answers():
    constant = np.full((1, 4, 5), 0.3, dtype=np.float32)
    assert_allclose(contrast(constant, 3.0), constant, atol=1e-7)
    x = picture()
    assert_allclose(contrast(x, 0.0), luma(x).mean(), atol=1e-7)
    assert_array_equal(contrast(x, 1.0), x)
    # A cast stays in proportion: the channels are not drawn each to its own mean.
    red = np.stack([np.full((2, 2), v) for v in (1.0, 0.0, 0.0)]).astype(np.float32)
    assert_allclose(contrast(red, 0.5)[:, 0, 0], [0.6495, 0.1495, 0.1495], atol=1e-6)


def test_contrast_is_that_of_pillow_but_for_rounding():
    x = from_bytes(to_bytes(photo()))
    seen = ImageEnhance.Contrast(Image.fromarray(np.moveaxis(to_bytes(x), 0, -1))).enhance(0.6)
    assert_allclose(contrast(x, 0.6), np.moveaxis(np.asarray(seen), -1, 0) / 255, atol=1.5 / 255)


@given(st.floats(0.3, 6), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None)
def test_blur_keeps_the_mean_and_flattens(sigma, channels, height, width):
    x = picture(channels, height, width)
    changed = blur(x, sigma)
    assert_allclose(changed.mean(axis=(1, 2)), x.mean(axis=(1, 2)), atol=1e-6)
    assert changed.std() <= x.std() + 1e-6


def test_blur_has_the_width_that_it_says():
    point = np.zeros((1, 61, 61), dtype=np.float32)
    point[0, 30, 30] = 1
    for sigma in (0.8, 2.0, 3.0):
        spread = blur(point, sigma)[0].astype(np.float64)
        places = np.arange(61) - 30.0
        assert (spread.sum(axis=0) * places**2).sum() == pytest.approx(sigma**2, rel=0.01)
        assert (spread.sum(axis=1) * places**2).sum() == pytest.approx(sigma**2, rel=0.01)
    assert_array_equal(blur(point, 0.0), point)


@pytest.mark.parametrize("sigma", [4.0, 32.0])
def test_noise_has_mean_zero_and_its_own_width_and_is_not_clipped(sigma):
    x = np.ones((3, 100, 100), dtype=np.float32)
    drawn = (noise(x, sigma, (0, 1, 2)) - x).astype(np.float64)
    assert drawn.mean() == pytest.approx(0, abs=4 * sigma / 255 / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(sigma / 255, rel=4 / np.sqrt(2 * drawn.size))
    for a, b in ((0, 1), (0, 2)):  # channels are on their own
        assert abs(np.corrcoef(drawn[a].ravel(), drawn[b].ravel())[0, 1]) < 0.04
    assert drawn.max() > 0


def test_noise_is_the_same_for_the_same_seed_alone():
    x = picture()
    first = member("noise", x, 8.0, seed=(7, 4, 2))
    assert_array_equal(first, member("noise", x, 8.0, seed=(7, 4, 2)))
    for other in ((8, 4, 2), (7, 5, 2), (7, 4, 3), (7, 2, 4)):
        assert np.abs(first - member("noise", x, 8.0, seed=other)).max() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_nearer_the_better_it_is(channels):
    x = photo(channels)
    far = [float(np.abs(jpeg(x, quality) - x).mean()) for quality in (95, 50, 10, 1)]
    assert far == sorted(far)
    assert far[0] < 0.01 < far[3]
    whole = jpeg(picture(channels), 30) * 255
    assert_allclose(whole, np.rint(whole), atol=1e-4)


def test_jpeg_halves_the_resolution_of_colours_and_not_of_what_is_grey():
    stripes = np.zeros((3, 16, 16), dtype=np.float32)
    stripes[0, :, ::2] = 1  # red and black
    colours = jpeg(stripes, 95)
    assert np.ptp(colours[2]) > 0.1  # blue comes in
    grey = np.repeat(stripes[:1], 3, axis=0)
    assert_allclose(jpeg(grey, 95), grey, atol=0.03)


@given(st.integers(1, 3), st.floats(-2, 2))
@example(1, -0.21608240839426385)  # half a level in single precision, a little more in double
def test_clipped_images_are_those_of_eight_bits(channels, add):
    x = picture(channels) + np.float32(add)
    found, wanted = clipped(x), naive.clipped(x)
    halves = np.abs(np.abs(255 * np.float64(x) % 1) - 0.5) < 1e-4
    assert_allclose(found[~halves], wanted[~halves], atol=1e-7)
    assert_allclose(found, wanted, atol=1.001 / 255)
    assert_array_equal(clipped(found), found)
    levels = np.arange(256, dtype=np.uint8)
    assert_array_equal(to_bytes(from_bytes(levels)), levels)


def test_what_is_behind_is_swapped_where_the_mask_is_false():
    x, behind = picture(3, 4, 5), picture(3, 4, 5, seed=1)
    mask = np.random.default_rng(2).random((4, 5)) < 0.5
    found = swap(x, behind, mask)
    assert found.dtype == np.float32
    assert_array_equal(found, naive.swap(x, behind, mask))
    assert_array_equal(swap(x, behind, np.ones((4, 5), bool)), x)
    assert_array_equal(swap(x, behind, np.zeros((4, 5), bool)), behind)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("jpeg", 76.7, "a whole number from 1 to 100; found 76.7"),
        ("jpeg", 0, "from 1 to 100; found 0"),
        ("jpeg", 101, "from 1 to 100; found 101"),
        ("blur", -1, "σ in pixels is 0 or more; found -1"),
        ("noise", float("nan"), "0 or more; found nan"),
        ("contrast", -0.5, "the factor is 0 or more; found -0.5"),
        ("brightness", float("inf"), "a number; found inf"),
        ("brigthness", 1, "Did you mean 'brightness'"),
    ],
)
def test_values_that_a_family_has_not_are_named(kind, value, says):
    for refused in (
        lambda: check_value(kind, value),
        lambda: member(kind, picture(), value, seed=(0, 0, 1)),
    ):
        with pytest.raises(GeedError, match=r"^group ") as caught:
            refused()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 4, 5), (4, 5), (3, 2, 4, 5)])
def test_images_of_other_channels_are_refused(shape):
    with pytest.raises(GeedError, match=f"1 or 3 channels .* input is {'×'.join(map(str, shape))}"):
        member("blur", np.zeros(shape, np.float32), 1.0, seed=(0, 0, 1))
