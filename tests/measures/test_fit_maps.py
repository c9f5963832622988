"""Fitted permutations, rotations and linear maps, against dense least squares and brute force."""

import naive_fits as twin
import naive_letters
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from onnx_geed import GeedError
from onnx_geed.groups import LayoutAction, Trivial, layout_action, parse_group, parse_layout
from onnx_geed.measures import FOLDS, LAMBDAS, MOST_PERMUTED, FitSums, fit_bytes
from onnx_geed.measures.fit_solving import _of_order_two

CASES = [
    ("flip-h", "NCHW", (4, 3, 5)),
    ("C4", "NCHW", (3, 4, 4)),
    ("C8", "NCHW", (3, 5, 5)),
    ("C8", "NCHW", (2, 4, 6)),
    ("D4", "NCHW", (3, 4, 4)),
    ("S3", "NCP", (4, 3)),
    ("reverse", "NCT", (4, 6)),
    ("C4", "NCXHW", (3, 2, 4, 4)),
    ("C4", "NCDHW", (2, 2, 3, 3)),
    ("C4", "NK", (5,)),
    ("D4", "NK", (4,)),
    ("flip-h", "NK", (6,)),
]
KINDS = ["permutation", "orthogonal", "linear"]


def action_of(group, layout, shape):
    if layout == "NK":
        return Trivial(parse_group(group))
    return layout_action(parse_group(group), parse_layout(layout), shape)


def rotation(rng, channels):
    q, r = np.linalg.qr(rng.normal(size=(channels, channels)))
    return q * np.sign(np.diag(r))


def maps_of(rng, kind, order, channels):
    """Some ρ(g) of a kind, which need not be a representation."""
    if kind == "permutation":
        maps = [np.eye(channels)[rng.permutation(channels)] for _ in range(order)]
    elif kind == "orthogonal":
        maps = [rotation(rng, channels) for _ in range(order)]
    else:
        maps = [rng.normal(size=(channels, channels)) / channels**0.5 for _ in range(order)]
    maps[0] = np.eye(channels)
    return np.array(maps)


def orbits(rng, group, layout, shape, samples, maps, noise, dead=(), spread=1.0):
    """f(gx) = ρ(g) · π(g) f(x) + noise, moved by the twin."""
    names, letters = naive_letters.elements(group), layout[1:]
    y = np.empty((samples, len(names), *shape))
    scale = np.exp(spread * rng.normal(size=shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    for i in range(samples):
        x = rng.normal(size=shape) * scale
        x[list(dead)] = 0
        for g, name in enumerate(names):
            moved = naive_letters.act(group, name, letters, x)
            y[i, g] = np.tensordot(maps[g], moved, 1) + noise * (g > 0) * rng.normal(size=shape)
    return y.astype(np.float32)


def fitted(group, layout, y, kind, blocks=None, support="full"):
    action = action_of(group, layout, y.shape[2:])
    fit = FitSums(action, y.shape[2], kind, len(y), support)
    flat = action.stacked(y) if isinstance(action, LayoutAction) else y
    start = 0
    for size in blocks or [len(y)]:
        fit.add(start, flat[start : start + size])
        start += size
    return (*fit.solve(), fit.gram)


def as_matrices(values):
    return np.array([twin.permutation_matrix(v) for v in values]) if values.ndim == 2 else values


@pytest.mark.parametrize("noise", [0.1, 2.0])
@pytest.mark.parametrize("kind", ["orthogonal", "linear"])
@pytest.mark.parametrize(("group", "layout", "shape"), CASES)
def test_matrices_are_those_of_dense_least_squares(group, layout, shape, kind, noise):
    rng = np.random.default_rng(sum(shape) + len(group))
    samples = 7 if layout != "NK" else 23
    maps = maps_of(rng, kind, parse_group(group).order, shape[0])
    y = orbits(rng, group, layout, shape, samples, maps, noise)
    values, lambda_, defect, gram = fitted(group, layout, y, kind)
    z, x, inverse = twin.compared(group, layout[1:], y)
    expected, losses = twin.best_lambda(kind, z, x, inverse)
    assert lambda_ == expected, losses
    wanted = np.array(twin.fit(kind, z, x, inverse, expected, range(samples)))
    assert values == pytest.approx(wanted, abs=1e-5)
    assert (values[0] == np.eye(shape[0])).all()
    assert gram == pytest.approx(twin.cross(x[0], x[0], range(samples)), rel=1e-9)
    assert defect == pytest.approx(twin.defect(wanted, gram, twin.table(group)), abs=1e-5)


def test_cases_choose_more_than_one_lambda():
    """So that the test above can tell a λ that is always the same."""
    chosen = set()
    for noise in (0.0, 0.1, 0.2, 0.3, 30.0):
        rng = np.random.default_rng(0)
        maps = np.array([np.eye(5)] * 4) + 0.1 * maps_of(rng, "linear", 4, 5)
        y = orbits(rng, "C4", "NK", (5,), 20, maps, noise)
        z, x, inverse = twin.compared("C4", "K", y)
        expected, _ = twin.best_lambda("linear", z, x, inverse)
        assert fitted("C4", "NK", y, "linear")[1] == expected
        chosen.add(expected)
    assert len(chosen) > 2
    assert tuple(twin.LAMBDAS) == LAMBDAS


@pytest.mark.parametrize(("group", "order_two"), [("flip-h", [1]), ("D4", [2, 4, 5, 6, 7])])
def test_of_what_is_its_own_inverse_the_last_bit_chooses_no_permutation(group, order_two):
    """S(g) is symmetric, so that a permutation and its inverse gain the same."""
    cycles = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = np.maximum(rng.normal(size=(9, parse_group(group).order, 6)), 0)
        rows = [
            fitted(group, "NK", (y * k).astype(np.float32), "permutation")[0].tolist()
            for k in (1.0, 3.0, 10.0, 0.1)
        ]
        z, x, inverse = twin.compared(group, "K", y.astype(np.float32))
        for g in order_two:
            row = rows[0][g]
            back = np.argsort(row).tolist()
            gain = twin.gains(z, x, g, inverse[g], of_maps=False)
            best = gain[range(6), twin.assignment(gain)].sum()
            assert gain[range(6), row].sum() == pytest.approx(best, rel=1e-12)
            assert all(other[g] == row for other in rows)
            cycles += row != back
            assert row <= back
    assert cycles > 3


def test_cycles_of_even_length_are_split_into_pairs():
    """Which gain the same under symmetric gains, and are of order two."""
    assert _of_order_two(np.array([1, 2, 3, 0])).tolist() == [1, 0, 3, 2]
    assert _of_order_two(np.array([3, 0, 1, 2])).tolist() == [1, 0, 3, 2]
    for row in ([2, 0, 1, 3, 5, 4], [1, 2, 0, 3, 5, 4]):
        assert _of_order_two(np.array(row)).tolist() == [1, 2, 0, 3, 5, 4]
    assert _of_order_two(np.array([1, 0, 2])).tolist() == [1, 0, 2]


@pytest.mark.parametrize("dead", [(), (0, 1)])
@pytest.mark.parametrize(("group", "layout", "shape"), CASES)
def test_permutations_are_those_of_brute_force(group, layout, shape, dead):
    rng = np.random.default_rng(sum(shape))
    maps = maps_of(rng, "permutation", parse_group(group).order, shape[0])
    y = orbits(rng, group, layout, shape, 6, maps, 1.0, dead)
    values, lambda_, defect, gram = fitted(group, layout, y, "permutation")
    z, x, inverse = twin.compared(group, layout[1:], y)
    of_maps = layout != "NK"
    rows = values.tolist()
    assert rows[0] == list(range(shape[0]))
    for g in range(1, len(values)):
        gain = twin.gains(z, x, g, inverse[g], of_maps=of_maps)
        best = twin.assignment(gain)
        # Dead channels of x are all alike to one that is not: so sums, which differ by no bonus.
        assert gain[range(len(gain)), rows[g]].sum() == pytest.approx(
            gain[range(len(gain)), best].sum(), abs=1e-12 * gain.max()
        )
        assert dead or rows[g] == best
    assert values.dtype == np.int64
    assert lambda_ is None
    matrices = [twin.permutation_matrix(row) for row in rows]
    assert defect == pytest.approx(twin.defect(matrices, gram, twin.table(group)), abs=1e-5)


def test_dead_channels_stay_in_place():
    rng = np.random.default_rng(0)
    maps = np.array([np.eye(6)] * 4)
    y = orbits(rng, "C4", "NCHW", (6, 4, 4), 3, maps, 0.0, dead=(1, 2, 5))
    assert (fitted("C4", "NCHW", y, "permutation")[0] == np.arange(6)).all()
    y = orbits(rng, "C4", "NK", (6,), 9, maps, 0.0, dead=(1, 2, 5))
    assert (fitted("C4", "NK", 1e-6 * y, "permutation")[0] == np.arange(6)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("group", "shape"), [("C8", (3, 6, 6)), ("shift2x2", (3, 4, 4))])
def test_a_disk_leaves_out_the_corners(group, shape, kind):
    rng = np.random.default_rng(1)
    maps = maps_of(rng, kind, parse_group(group).order, shape[0])
    y = orbits(rng, group, "NCHW", shape, 5, maps, 0.3)
    values, lambda_, _, _ = fitted(group, "NCHW", y, kind, support="disk")
    z, x, inverse = twin.compared(group, "CHW", y)
    middle = (np.arange(shape[1]) - (shape[1] - 1) / 2) ** 2
    inside = (middle[:, None] + middle <= (shape[1] / 2) ** 2).ravel()
    assert 0 < inside.sum() < inside.size
    z, x = ([maps[..., inside] for maps in of] for of in (z, x))
    if kind == "permutation":
        gains = [twin.gains(z, x, g, inverse[g], of_maps=True) for g in range(1, len(z))]
        assert values[1:].tolist() == [twin.assignment(gain) for gain in gains]
        return
    expected, _ = twin.best_lambda(kind, z, x, inverse)
    assert lambda_ == expected
    wanted = twin.fit(kind, z, x, inverse, expected, range(len(y)))
    assert values == pytest.approx(np.array(wanted), abs=1e-5)


def test_elements_without_products_are_fitted_one_by_one():
    """Some permutations of a set: E alone, and no defect."""
    rng = np.random.default_rng(3)
    group, shape = "S5~4", (3, 5)
    for kind in KINDS:
        maps = maps_of(rng, kind, 4, 3)
        y = np.empty((8, 4, *shape))
        for i, x in enumerate(rng.normal(size=(8, *shape))):
            for g, name in enumerate(naive_letters.elements(group)):
                moved = naive_letters.act(group, name, "CP", x)
                y[i, g] = maps[g] @ moved
        values, _, defect, _ = fitted(group, "NCP", y.astype(np.float32), kind)
        assert as_matrices(values) == pytest.approx(maps, abs=1e-2 if kind == "linear" else 1e-3)
        assert defect is None


# ------------------------------------------------------------------------------------------------
# What is planted is found
# ------------------------------------------------------------------------------------------------


def test_the_table_of_a_lifting_network_is_found_from_two_samples():
    """Correlations with turned filters: a turn of the input moves along and shifts the channels."""
    rng = np.random.default_rng(0)
    images, filters = rng.normal(size=(2, 9, 9)), rng.normal(size=(3, 3, 3))
    kernels = [np.rot90(f, k) for f in filters for k in range(4)]

    def responses(image):
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
        return np.array([np.maximum((windows * k).sum(axis=(2, 3)), 0) for k in kernels])

    y = np.array([[responses(np.rot90(x, k)) for k in range(4)] for x in images])
    values, _, defect, _ = fitted("C4", "NCHW", y.astype(np.float32), "permutation")
    shifted = [[4 * f + (c - k) % 4 for f in range(3) for c in range(4)] for k in range(4)]
    assert values.tolist() == shifted
    assert defect == (0.0, 0.0)
    matrices, _, left, _ = fitted("C4", "NCHW", y.astype(np.float32), "orthogonal")
    assert matrices == pytest.approx(as_matrices(values), abs=0.05)
    assert left[1] < 0.05


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["flip-h", "C4", "D4"]),
    st.sampled_from(["NCHW", "NK"]),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
def test_planted_permutations_are_found(group, layout, channels, seed):
    rng = np.random.default_rng(seed)
    # A representation: the regular one on the first channels, the others stay.
    maps = np.array(
        [np.eye(channels)[planted_row(group, g, channels)] for g in range(parse_group(group).order)]
    )
    shape = (channels, 4, 4) if layout == "NCHW" else (channels,)
    y = orbits(rng, group, layout, shape, 8 if layout == "NCHW" else 150, maps, 0.05)
    values, _, defect, _ = fitted(group, layout, y, "permutation")
    assert values.tolist() == [planted_row(group, g, channels) for g in range(len(maps))]
    assert defect == (0.0, 0.0)


def planted_row(group, g, channels):
    """Two channels change places by a sign of the group, if there are as many."""
    odd = naive_letters.elements(group)[g] != "e" if group == "flip-h" else g % 2 == 1
    return [1, 0, *range(2, channels)] if odd else list(range(channels))


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["orthogonal", "linear"]),
    st.sampled_from(["NCHW", "NK"]),
    st.integers(4, 5),
    st.integers(0, 2**32 - 1),
)
def test_the_error_of_what_was_planted_falls_as_one_over_the_root_of_samples(
    kind, layout, channels, seed
):
    rng = np.random.default_rng(seed)
    few, times = (60, 16) if layout == "NK" else (6, 16)
    turn = rotation(rng, channels)
    if kind == "linear":
        turn = turn @ np.diag(rng.uniform(0.5, 1.5, channels))
    # S halves what differs between g and its inverse, so that a rotation needs ρ(g⁻¹) = ρ(g)ᵀ.
    maps = np.array([np.eye(channels), turn, np.eye(channels), turn.T])
    shape = (channels, 4, 4) if layout == "NCHW" else (channels,)
    errors = []
    for samples in (few, few * times):
        wrong = []
        for _ in range(5):
            y = orbits(rng, "C4", layout, shape, samples, maps, 0.5, spread=0.0)
            values, _, _, _ = fitted("C4", layout, y, kind)
            wrong.append(np.linalg.norm((values - maps)[1:]))
        errors.append(np.mean(wrong))
    ratio = errors[0] / errors[1]
    assert times**0.5 / 2.5 < ratio < times**0.5 * 2.5


def explained(values, z, x):
    """Σ ‖z − ρx‖² over elements other than e, in units of what z varies by."""
    away = sum(((z[g] - values[g] @ x[g]) ** 2).sum() for g in range(1, len(z)))
    return away / sum(((m - m.mean(axis=0)) ** 2).sum() for m in z[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("layout", "shape", "samples"), [("NK", (4,), 300), ("NCHW", (4, 4, 4), 40)]
)
def test_a_fit_of_shuffled_pairs_tells_nothing_of_fresh_samples(kind, layout, shape, samples):
    rng = np.random.default_rng(0)
    maps = maps_of(rng, kind, 2, 4)
    if kind == "orthogonal":
        maps[1] = maps[1] @ np.diag([1, 1, -1, -1]) @ maps[1].T
    if kind == "permutation":
        maps[1] = np.eye(4)[[1, 0, 3, 2]]
    y = orbits(rng, "flip-h", layout, shape, samples, maps, 0.1, spread=0.0)
    z, x, _ = twin.compared(
        "flip-h", layout[1:], orbits(rng, "flip-h", layout, shape, samples, maps, 0.1, spread=0.0)
    )
    told = explained(as_matrices(fitted("flip-h", layout, y, kind)[0]), z, x)
    shuffled = np.stack([y[:, 0], np.roll(y[:, 1], 1, axis=0)], axis=1)
    null = explained(as_matrices(fitted("flip-h", layout, shuffled, kind)[0]), z, x)
    unrelated = explained(maps, [np.roll(m, 1, axis=0) for m in z], x)
    assert told < 0.05
    assert unrelated > 1.5
    # No better than to predict nothing, which a linear map can do.
    assert null > (0.95 if kind == "linear" else 1.0)


# ------------------------------------------------------------------------------------------------
# How sums are taken
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("group", "layout", "shape", "samples"),
    [("C8", "NCHW", (3, 5, 5), 23), ("C4", "NK", (7,), 150), ("D4", "NCHW", (3, 20, 20), 6)],
)
def test_bits_do_not_depend_on_how_many_samples_come_at_a_time(group, layout, shape, samples, kind):
    rng = np.random.default_rng(0)
    maps = maps_of(rng, kind, parse_group(group).order, shape[0])
    y = orbits(rng, group, layout, shape, samples, maps, 0.5)
    cut = [1, 2, samples // 2, samples - 3 - samples // 2]
    results = [fitted(group, layout, y, kind, blocks) for blocks in (None, [1] * samples, cut)]
    for values, lambda_, defect, gram in results[1:]:
        assert np.array_equal(values, results[0][0])
        assert (lambda_, defect) == results[0][1:3]
        assert np.array_equal(gram, results[0][3])


def test_samples_that_wait_are_not_those_the_caller_writes_over():
    rng = np.random.default_rng(0)
    y = orbits(rng, "C4", "NK", (3,), 10, maps_of(rng, "linear", 4, 3), 0.5)
    fit, buffer = FitSums(Trivial(parse_group("C4")), 3, "linear", 10), np.empty_like(y[:2])
    for start in range(0, 10, 2):
        buffer[:] = y[start : start + 2]
        fit.add(start, buffer)
        buffer[:] = np.nan
    assert np.array_equal(fit.solve()[0], fitted("C4", "NK", y, "linear")[0])


@pytest.mark.parametrize("kind", ["orthogonal", "linear"])
@pytest.mark.parametrize(
    ("group", "layout", "shape"), [("C4", "NK", (5,)), ("C8", "NCHW", (4, 5, 5)), *CASES[:1]]
)
def test_many_channels_take_two_folds_of_one_element(monkeypatch, group, layout, shape, kind):
    monkeypatch.setattr("onnx_geed.measures.fit_sums.WHOLE", 3)
    monkeypatch.setattr("onnx_geed.measures.fit_solving.WHOLE", 3)
    rng = np.random.default_rng(4)
    maps = maps_of(rng, kind, parse_group(group).order, shape[0])
    y = orbits(rng, group, layout, shape, 21, maps, 1.0)
    values, lambda_, defect, gram = fitted(group, layout, y, kind)
    z, x, inverse = twin.compared(group, layout[1:], y)
    # What g⁻¹ tells of the same rotation is held out with g.
    elements = [1] if kind == "linear" or inverse[1] is None else sorted({1, inverse[1]})
    expected, _ = twin.best_lambda(kind, z, x, inverse, 2, elements)
    assert lambda_ == expected
    wanted = np.array(twin.fit(kind, z, x, inverse, expected, range(len(y))))
    assert values == pytest.approx(wanted, abs=1e-5)
    assert defect == pytest.approx(twin.defect(wanted, gram, twin.table(group)), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["NCHW", "NK"])
def test_what_is_zero_throughout_stays_as_it_is(kind, layout):
    shape = (3, 4, 4) if layout == "NCHW" else (3,)
    values, lambda_, defect, _ = fitted(
        "C8", layout, np.zeros((6, 8, *shape), dtype=np.float32), kind
    )
    assert np.array_equal(as_matrices(values), np.array([np.eye(3)] * 8))
    assert lambda_ in (None, LAMBDAS[0])
    assert defect == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["orthogonal", "linear"])
def test_one_sample_that_is_not_zero_can_be_held_out(kind):
    y = np.zeros((6, 4, 3), dtype=np.float32)
    y[2] = 1
    values, _, _, _ = fitted("C4", "NK", y, kind)
    assert values @ np.ones(3) == pytest.approx(np.ones((4, 3)), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_told_up_to_the_last(kind):
    rng = np.random.default_rng(0)
    y = orbits(rng, "C4", "NCHW", (3, 4, 4), 7, maps_of(rng, kind, 4, 3), 0.5)
    action = action_of("C4", "NCHW", (3, 4, 4))
    fit, told = FitSums(action, 3, kind, 7), []
    fit.add(0, action.stacked(y))
    fit.solve(lambda done, total: told.append((done, total)))
    assert told == [(k + 1, len(told)) for k in range(len(told))]
    assert len(told) >= 2


def test_what_cannot_be_fitted_is_refused():
    trivial = Trivial(parse_group("C4"))
    with pytest.raises(GeedError, match="at most 2048 channels, found 2049"):
        FitSums(trivial, MOST_PERMUTED + 1, "permutation", 5)
    for kind in ("orthogonal", "linear"):
        with pytest.raises(GeedError, match=r"at least two samples.*found 1"):
            FitSums(trivial, 3, kind, 1)
    fit = FitSums(trivial, 3, "linear", 4)
    y = np.ones((2, 4, 3), dtype=np.float32)
    fit.add(0, y)
    with pytest.raises(ValueError, match="sample 2 of a fit is next, found 3"):
        fit.add(3, y)
    y[1, 2, 0] = np.nan
    fit.add(2, y)
    with pytest.raises(GeedError, match="NaN"):
        fit.solve()


def test_bytes_are_those_of_the_sums_and_of_work():
    assert fit_bytes(8, 2048, "orthogonal", 50) < 600e6
    assert fit_bytes(8, 2048, "linear", 50) < 600e6
    assert fit_bytes(8, 2048, "permutation", 50) < 600e6
    assert fit_bytes(4, 64, "linear", 50) > 8 * 64**2 * 4 * FOLDS
    assert fit_bytes(4, 64, "linear", 50) > fit_bytes(4, 64, "linear", 2)
