"""Sums of products in lanes: compiled and plain the same bits, whatever is summed beside."""

import os

import numba
import numpy as np
import pytest

from onnx_geed.jit import compiled
from onnx_geed.measures.lane_sums import products, products_with_two

RNG = np.random.default_rng(0)
U, V, W = RNG.standard_normal((3, 400), dtype=np.float32)
COUNTS = [*range(36), 49, 196, 255, 256, 257]


@compiled("contract")
def of_one(u, at, v, first, count, step):
    return products(u, at, v, first, count, step)


@compiled("contract")
def of_two(u, at, v, first, w, second, count, step):
    return products_with_two(u, at, v, first, w, second, count, step)


def stretches(count, step):
    """Where u, v and w begin, so that none reads beyond its ends."""
    if step > 0:
        return 3, 5, 7
    return 3, 5 + count, 11 + count


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("count", COUNTS)
def test_compiled_sums_have_the_bits_of_plain_ones(count, step):
    at, first, second = stretches(count, step)
    one = of_one(U, at, V, first, count, step)
    two = of_two(U, at, V, first, W, second, count, step)
    assert one == products(U, at, V, first, count, step)
    assert two == products_with_two(U, at, V, first, W, second, count, step)
    # Neither depends on what is summed beside it.
    other = of_one(U, at, W, second, count, step)
    assert two == (*one, other[0], other[2])


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("count", COUNTS)
def test_sums_are_those_of_the_numbers_named(count, step):
    at, first, second = stretches(count, step)
    u = U[at : at + count].astype(float)
    v, w = (
        np.array([x[start + step * p] for p in range(count)], dtype=float)
        for x, start in ((V, first), (W, second))
    )
    want = [(u * v).sum(), (u * u).sum(), (v * v).sum(), (u * w).sum(), (w * w).sum()]
    got = of_two(U, at, V, first, W, second, count, step)
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    assert count == 0 or got[0] != got[3]


@pytest.mark.parametrize("count", COUNTS[1:])
def test_equal_numbers_have_three_equal_sums(count):
    copy = U.copy()
    ab, aa, bb = of_one(U, 2, copy, 2, count, 1)
    assert ab == aa == bb > 0
    turned = np.ascontiguousarray(U[::-1])
    ab, aa, bb = of_one(U, 2, turned, len(U) - 3, count, -1)
    assert ab == aa == bb > 0


@pytest.mark.parametrize("place", [0, 15, 16, 23, 24, 26])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows(place, value):
    u = U.copy()
    u[3 + place] = value
    sums = of_one(u, 3, V, 5, 27, 1)
    assert not np.isfinite(sums[:2]).any()
    assert np.isfinite(sums[2])
    u[3 + place], u[30] = 1, value
    assert np.isfinite(of_one(u, 3, V, 5, 27, 1)).all()


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled")
def test_the_compiled_loop_asks_for_what_comes_later():
    """Without that, sums wait for memory for half of their time."""
    fresh = numba.njit(of_one.__wrapped__)
    fresh(U, 3, V, 5, 27, 1)
    (code,) = fresh.inspect_llvm().values()
    assert "llvm.prefetch" in code
    assert "<8 x double>" in code
