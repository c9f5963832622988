"""Pictures that are kept: small ones as they are, large ones as means over boxes."""

import numpy as np
import pytest

from onnx_geed.data import shrunk

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(512, 512), (3, 2, 40, 60), (1, 1 << 18)])
def test_small_pictures_stay_as_they_are(shape):
    pictures = RNG.random(shape)
    assert shrunk(pictures) is pictures


@pytest.mark.parametrize("shape", [(1024, 1024), (2, 3, 2048, 1024), (1, 5000, 5001)])
def test_large_ones_keep_their_proportions_and_means(shape):
    pictures = RNG.random(shape)
    small = shrunk(pictures)
    assert small.dtype == np.float32
    assert small.shape[:-2] == pictures.shape[:-2]
    height, width = small.shape[-2:]
    assert (1 << 17) < height * width <= 1 << 18
    assert height / width == pytest.approx(shape[-2] / shape[-1], rel=0.01)
    np.testing.assert_allclose(small.mean(axis=(-1, -2)), pictures.mean(axis=(-1, -2)), atol=2e-3)


def test_of_a_strip_the_length_is_what_shrinks():
    assert shrunk(np.ones((1, 1 << 20))).shape == (1, 1 << 18)


def test_a_box_is_the_mean_of_its_places():
    wide = RNG.random((1, 1024, 1024), dtype=np.float32)
    by_hand = wide.reshape(1, 512, 2, 512, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(shrunk(wide), by_hand, rtol=1e-5)
