from __future__ import annotations

import math
import warnings

import naive_shares
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from onnx_geed.results import intervals, mean_interval
from onnx_geed.results.intervals import (
    _quantile,
    _within,
    decisive_kind,
    gap_interval,
    share_interval,
    side_of_zero,
    standard_error,
)


def test_a_t_interval_worked_by_hand():
    # Mean 2, s = 1. With two degrees of freedom the point p of t is (2p - 1) √(2 / 4p(1 - p)).
    half = 0.95 * math.sqrt(2 / 0.0975) / math.sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-12)
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3), abs=1e-15)


def test_a_t_interval_of_two_values_worked_by_hand():
    # s/√2 is half the distance; t with one degree of freedom is tan(0.475 π) = 12.7062.
    assert mean_interval([0.0, 2.0]) == pytest.approx((1 - 12.706204736, 1 + 12.706204736))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_students_quantile_is_scipys(level):
    for freedom in (1, 2, 3, 4, 5, 6, 7, 10, 23, 24, 99, 100, 999, 5000, 100_001):
        expected = stats.t.ppf(0.5 + level / 2, freedom)
        assert _within(freedom, level) == pytest.approx(expected, rel=1e-10)


def test_degrees_of_freedom_need_not_be_whole():
    for count in (2.0, 2.3, 3.5, 4.7, 11.2, 30.0, 57.9):
        assert _quantile(count, 0.95) == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-9)
    assert _quantile(1.2, 0.95) == _within(1, 0.95)  # of fewer than one nothing is known


@settings(deadline=None)
@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6)))
def test_the_t_interval_is_scipys(x):
    low, high = mean_interval(x)
    if np.ptp(x) == 0:
        assert low == high == x.mean()
        return
    error = x.std(ddof=1) / math.sqrt(len(x))
    half = stats.t.ppf(0.975, len(x) - 1) * error
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-9, abs=1e-12)
    assert standard_error(x) == pytest.approx(stats.sem(x), rel=1e-12, abs=1e-200)


@pytest.mark.parametrize("kind", ["t", "bootstrap"])
def test_one_value_has_no_interval_and_equal_values_one_of_no_width(kind):
    assert mean_interval([0.3], kind) is None
    assert mean_interval([], kind) is None
    assert mean_interval([0.1] * 7, kind) == (np.mean([0.1] * 7),) * 2
    assert standard_error([0.3]) is None
    assert standard_error([0.1] * 7) == 0.0


def test_another_level_gives_another_width():
    x = np.arange(10.0)
    low, high = mean_interval(x, level=0.8)
    assert (low, high) == pytest.approx(stats.t.interval(0.8, 9, loc=4.5, scale=stats.sem(x)))


def test_the_bootstrap_repeats_under_a_seed_and_moves_with_it():
    x = np.random.default_rng(3).lognormal(0, 1, 40)
    assert mean_interval(x, "bootstrap", seed=1) == mean_interval(x, "bootstrap", seed=1)
    assert mean_interval(x, "bootstrap", seed=1) != mean_interval(x, "bootstrap", seed=2)


def test_the_bootstrap_does_not_depend_on_how_resamples_are_batched(monkeypatch):
    x = np.random.default_rng(4).lognormal(0, 1, 40)
    whole = mean_interval(x, "bootstrap")
    monkeypatch.setattr(intervals, "_BATCH", 1000)
    assert mean_interval(x, "bootstrap") == whole


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 10])
def test_the_bootstrap_scales_with_the_values(count):
    """Resamples of the same values in another order have the same mean, but for the last bit."""
    for seed in range(8):
        x = np.random.default_rng(seed).lognormal(size=count)
        ends = mean_interval(x, "bootstrap")
        for factor in (3.0, 0.1, 7.0, 1e-9):
            scaled = mean_interval(x * factor, "bootstrap")
            assert scaled == pytest.approx(np.multiply(ends, factor), rel=1e-12)
        assert mean_interval(-x, "t")[0] == pytest.approx(-mean_interval(x, "t")[1])


@pytest.mark.parametrize("parts", [3, 7])
@pytest.mark.parametrize("count", [10, 12, 20])
def test_the_bootstrap_of_fractions_is_that_of_whole_numbers(count, parts):
    for seed in range(10):
        rng = np.random.default_rng(seed + 1000 * count)
        a = rng.binomial(parts, 0.3, size=count)
        b = rng.binomial(parts, 0.2, size=count) * (rng.random(count) < 0.9)
        whole = mean_interval((a - b).astype(float), "bootstrap")
        ends = mean_interval(a / parts - b / parts, "bootstrap")
        assert ends == pytest.approx(np.divide(whole, parts), rel=1e-12, abs=1e-13)
        assert side_of_zero(ends) == side_of_zero(whole)


def test_an_end_that_is_0_but_for_rounding_touches_it():
    assert [side_of_zero(e) for e in ((1.0, 2.0), (-2.0, -1.0), (-1.0, 1.0), None)] == [1, -1, 0, 0]
    assert side_of_zero((5.55e-18, 0.47)) == side_of_zero((-0.47, -5.55e-18)) == 0
    assert side_of_zero((0.0, 0.0)) == 0
    assert side_of_zero((1e-12, 1e-12)) == side_of_zero((1e-12, 2e-12)) == 1


def tango(b, c, n, delta):
    """Tango's statistic (1998): b and c of n pairs differ, in one direction and the other."""
    middle = -b - c + (2 * n - b + c) * delta
    root = math.sqrt(max(0.0, middle**2 + 8 * n * c * delta * (1 - delta)))
    other = (root - middle) / (4 * n)
    variance = n * (2 * other + delta * (1 - delta))
    return (b - c - n * delta) / math.sqrt(max(variance, 1e-300))


@pytest.mark.parametrize("n", [2, 3, 4, 10, 60, 400])
@pytest.mark.parametrize("gap", [0.0, 1 / 12, 1 / 3, 0.75, 1.0])
def test_shares_that_differ_alike_have_tangos_interval(n, gap):
    def end(far, near):
        for _ in range(200):
            middle = (far + near) / 2
            beyond = abs(tango(n * gap, 0, n, middle)) > 1.959963984540054
            far, near = (middle, near) if beyond else (far, middle)
        return near

    expected = end(-1 + 1e-12, gap), gap if gap == 1 else end(1 - 1e-12, gap)
    assert gap_interval([gap] * n, shares=True) == pytest.approx(expected, abs=1e-7)
    mirrored = gap_interval([-gap] * n, shares=True)
    assert mirrored == pytest.approx((-expected[1], -expected[0]), abs=1e-7)
    assert decisive_kind([gap] * n, shares=True) == "score"


def test_shares_that_vary_and_other_values_keep_their_intervals():
    gaps = np.array([1.0, 1.0, 0.0, 1.0])
    assert gap_interval(gaps, shares=True) == mean_interval(gaps)
    assert gap_interval([0.5] * 4) == (0.5, 0.5)
    assert gap_interval([1.0], shares=True) is None
    # Thirds that are the same but for rounding.
    assert gap_interval([1 / 3 - 0, 2 / 3 - 1 / 3, 1 - 2 / 3], shares=True)[0] < 0
    kinds = [decisive_kind(np.arange(n), shares=True) for n in (0, 1, 9, 10)]
    assert kinds == ["t", "t", "t", "bootstrap"]


def test_gaps_that_count_for_few_have_the_quantile_of_few():
    gaps = np.random.default_rng(3).normal(size=40)
    low, high = gap_interval(gaps, effective=4.5)
    half = stats.t.ppf(0.975, 3.5) * gaps.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert gap_interval(gaps, effective=1.0) is None


def bca_by_hand(x, seed):
    """BCa restated: bias from the share of resamples below, acceleration from the jackknife."""
    rng = np.random.default_rng(seed)
    resamples = np.array([x[rng.integers(0, len(x), len(x))].mean() for _ in range(20_000)])
    below = np.mean(resamples < x.mean()) + np.mean(resamples == x.mean()) / 2
    bias = stats.norm.ppf(below)
    left_out = np.array([np.delete(x, i).mean() for i in range(len(x))])
    d = left_out.mean() - left_out
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    ends = []
    for z in stats.norm.ppf([0.025, 0.975]):
        share = stats.norm.cdf(bias + (bias + z) / (1 - a * (bias + z)))
        ends.append(np.quantile(resamples, share))
    return ends


def test_the_bootstrap_is_bca_restated():
    x = np.random.default_rng(5).lognormal(0, 1, 30)
    low, high = mean_interval(x, "bootstrap")
    width = high - low
    assert (low, high) == pytest.approx(bca_by_hand(x, 11), abs=0.06 * width)
    # The resamples' plain quantiles are farther away: this is what BCa adds.
    plain = stats.bootstrap(
        (x,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert high - plain.high > 0.06 * width


def test_t_is_symmetric_and_the_bootstrap_leans_to_the_long_tail():
    x = np.random.default_rng(6).lognormal(0, 1.5, 50)
    low, high = mean_interval(x)
    assert high - x.mean() == pytest.approx(x.mean() - low)
    low, high = mean_interval(x, "bootstrap")
    assert high - x.mean() > 1.3 * (x.mean() - low)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, -1.0 + 1e-16, -0.999, 0.0, 1e-12, 5.0]), min_size=2, max_size=6)
)
def test_the_bootstrap_of_few_and_tied_values_is_finite_and_warns_of_nothing(x):
    low, high = mean_interval(x, "bootstrap")
    assert min(x) - 1e-12 <= low <= high <= max(x) + 1e-12


def test_where_bca_is_undefined_the_percentiles_stand_in():
    # Values that differ by a rounding: the jackknife does not see it, and scipy gives NaN.
    x = np.array([-1.0] * 5 + [-1.0 + 2e-16])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=99).confidence_interval
    assert math.isnan(oracle.low)
    low, high = mean_interval(x, "bootstrap")
    assert -1.0 - 1e-15 <= low <= high <= -1.0 + 1e-15


def test_student_covers_normal_values_as_often_as_it_says():
    draws = np.random.default_rng(7).normal(3.0, 2.0, (2000, 10))
    hits = [low <= 3.0 <= high for low, high in map(mean_interval, draws)]
    # Three standard errors of a share of 0.95 over 2,000 draws are 0.015.
    assert np.mean(hits) == pytest.approx(0.95, abs=0.016)


def test_student_covers_skewed_values_less_than_it_says_and_the_bootstrap_more_than_student():
    truth = math.exp(2.0)  # of a lognormal with σ = 2
    draws = np.random.default_rng(8).lognormal(0.0, 2.0, (200, 50))
    student = np.mean([low <= truth <= high for low, high in map(mean_interval, draws)])
    resampled = [mean_interval(x, "bootstrap") for x in draws]
    bootstrap = np.mean([low <= truth <= high for low, high in resampled])
    assert 0.6 < student < 0.8
    assert student + 0.03 < bootstrap < 0.92


class TestShares:
    """Shares of which each sample has several draws, that are not independent."""

    @pytest.mark.parametrize(("count", "draws"), [(2, 1), (10, 1), (3, 7), (50, 8), (200, 3)])
    @pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99, 1.0])
    def test_as_a_slow_twin_and_within_0_and_1(self, count, draws, share):
        rng = np.random.default_rng(count)
        own = rng.beta(max(share, 1e-9) * 3, max(1 - share, 1e-9) * 3, size=(count, 1))
        hits = rng.random((count, draws)) < own
        ends = share_interval(hits)
        assert ends == pytest.approx(naive_shares.share_interval(hits.tolist()), abs=1e-9)
        assert 0 <= ends[0] <= hits.mean() <= ends[1] <= 1

    def test_one_draw_each_is_wilsons(self):
        hits = np.arange(20)[:, None] < 18
        assert share_interval(hits) == pytest.approx(mean_interval(hits[:, 0], "wilson"))

    def test_draws_that_agree_count_as_one(self):
        hits = np.arange(20)[:, None] < 18
        assert share_interval(np.repeat(hits, 8, axis=1)) == pytest.approx(share_interval(hits))

    def test_never_more_draws_than_there_are(self):
        """Each sample is right under half of the elements: nothing varies, and yet p is unsure."""
        hits = np.tile([True, False], (10, 2))
        low, high = share_interval(hits)
        assert low < 0.5 < high
        alone = mean_interval(hits.ravel(), "wilson")
        assert (low, high) == pytest.approx(alone)

    def test_one_sample_is_too_few(self):
        assert share_interval(np.ones((1, 8), bool)) is None
