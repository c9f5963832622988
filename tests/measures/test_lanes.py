"""Vector instructions do what their plain functions say."""

import os

import numpy as np
import pytest

from onnx_geed.jit import compiled
from onnx_geed.measures.lanes import (
    add_tap,
    blend,
    doubles_at,
    fetch,
    floats_at,
    gather,
    round_lanes,
    transpose,
    whole_numbers_at,
)
from onnx_geed.measures.map_memory import LANES

RNG = np.random.default_rng(0)

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled"
)


def both(function, *arguments):
    """Arguments after the compiled function, and after the plain one."""
    compiled_arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    plain_arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    function(*compiled_arguments)
    function.__wrapped__(*plain_arguments)
    return compiled_arguments, plain_arguments


@compiled("contract")
def blended(out, pixels, index, weights):
    blend(out, 3, pixels, index, weights, 1)


@compiled("contract")
def tapped(out, pixels, weights, total):
    for i in range(4):
        add_tap(total, pixels, 5 * i, weights[i])
    round_lanes(out, 2, total)


@compiled("contract")
def transposed(out, pixels):
    transpose(out, 1, 9, pixels, 0, 8, 16, 30, 22, 5, 1, 40)


@compiled("contract")
def gathered(out, source, pixels):
    gather(out, 1, 9, source, pixels, 2)


@compiled("contract")
def summed(address, size):
    return floats_at(address, size).sum()


@compiled("contract")
def doubles_summed(address, size):
    return doubles_at(address, size).sum()


@compiled("contract")
def whole_numbers_summed(address, size):
    return whole_numbers_at(address, size).sum()


def test_an_interpolated_pixel_is_the_sum_of_its_taps():
    pixels, weights = RNG.random(64, dtype=np.float32), RNG.random(6)
    index = np.array([1, 0, 7, 5, 2, 6], np.int32)
    (out, *_), (want, *_) = both(blended, np.zeros(16, np.float32), pixels, index, weights)
    np.testing.assert_allclose(out, want, rtol=1e-7)
    lanes = pixels.reshape(8, LANES)
    by_hand = sum(w * lanes[i] for w, i in zip(weights[1:5], (0, 7, 5, 2), strict=True))
    np.testing.assert_allclose(out[3 : 3 + LANES], by_hand, rtol=1e-6)
    assert not out[:3].any()
    assert not out[11:].any()
    sums = np.zeros(8)
    taps = weights[:4]
    (out, *_, left), (want, *_) = both(tapped, np.zeros(16, np.float32), pixels, taps, sums)
    np.testing.assert_allclose(out, want, rtol=1e-7)
    assert out[2:10].all()
    assert not out[10:].any()
    assert not left.any()


def test_eight_stretches_are_transposed():
    pixels = np.arange(64, dtype=np.float32)
    (out, _), (want, _) = both(transposed, np.full(80, -1, np.float32), pixels)
    np.testing.assert_array_equal(out, want)
    rows = np.stack([pixels[a : a + 8] for a in (0, 8, 16, 30, 22, 5, 1, 40)])
    np.testing.assert_array_equal(out[1:73].reshape(8, 9)[:, :8], rows.T)
    assert (out == -1).sum() == 80 - 64


def test_eight_pixels_of_a_table_are_transposed():
    source, places = np.arange(80, dtype=np.float32), RNG.integers(0, 10, 12).astype(np.int32)
    (out, *_), (want, *_) = both(gathered, np.full(80, -1, np.float32), source, places)
    np.testing.assert_array_equal(out, want)
    rows = source.reshape(10, LANES)[places[2:10]]
    np.testing.assert_array_equal(out[1:73].reshape(8, 9)[:, :8], rows.T)
    assert (out == -1).sum() == 80 - 64


@compiled("contract")
def fetched(numbers, at):
    fetch(numbers, at)
    return numbers[0]


def test_what_is_fetched_may_lie_anywhere_and_changes_nothing():
    numbers = RNG.random(5, dtype=np.float32)
    for at in (0, 4, 5, 1 << 20, -(1 << 20)):
        assert fetched(numbers, at) == fetched.__wrapped__(numbers, at) == numbers[0]


@pytest.mark.parametrize(
    ("add_up", "dtype"),
    [(summed, np.float32), (doubles_summed, np.float64), (whole_numbers_summed, np.int32)],
)
def test_an_address_is_read_as_the_array_that_lies_there(add_up, dtype):
    values = (1000 * RNG.random(5)).astype(dtype)
    address = values.__array_interface__["data"][0]
    assert add_up(address, 5) == add_up.__wrapped__(address, 5) == values.sum()
