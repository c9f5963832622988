"""The slow twins themselves, held against oracles that share nothing with them."""

import math

import naive
import numpy as np
import pytest
from scipy import ndimage, special, stats
from scipy.spatial import distance

GROUPS = ["C1", "C2", "C3", "C4", "C8", "C12", "D1", "D3", "D4", "D8", "flip-h", "flip-v"]
GROUPS += ["shift1x1", "shift2x3", "shift4x2"]
GRIDS = [(1, 1), (2, 2), (5, 5), (6, 6), (4, 6), (5, 6), (7, 5), (2, 9)]


def image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# groups


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_a_group(group):
    names = naive.elements(group)
    assert names[0] == "e"
    assert len(set(names)) == len(names)
    for a in names:
        assert naive.multiply(group, "e", a) == a == naive.multiply(group, a, "e")
        assert naive.multiply(group, a, naive.inverse(group, a)) == "e"
        assert sorted(naive.multiply(group, a, b) for b in names) == sorted(names)
        for b in names:
            for c in names:
                left = naive.multiply(group, naive.multiply(group, a, b), c)
                assert left == naive.multiply(group, a, naive.multiply(group, b, c))


def test_the_names_are_those_of_the_contract():
    assert naive.elements("C3") == ["e", "r1", "r2"]
    assert naive.elements("D3") == ["e", "r1", "r2", "s", "sr1", "sr2"]
    assert naive.elements("flip-h") == naive.elements("flip-v") == ["e", "flip"]
    assert naive.elements("shift2x2") == ["e", "t0,1", "t1,0", "t1,1"]


@pytest.mark.parametrize("n", [3, 4, 5])
def test_dihedral_products_are_those_of_matrices(n):
    group = f"D{n}"
    mirror = np.diag([1.0, -1.0])

    def matrix(element):
        mirrored, k = naive.code_of(group, element)
        t = 2 * math.pi * k / n
        turn = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
        return mirror @ turn if mirrored else turn

    for a in naive.elements(group):
        for b in naive.elements(group):
            product = matrix(naive.multiply(group, a, b))
            np.testing.assert_allclose(matrix(a) @ matrix(b), product, atol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_exact_elements_compose_as_the_group_does(group):
    for grid in [(6, 6), (5, 5), (4, 6)]:
        if group.startswith("shift") and any(
            size % step for size, step in zip(grid, naive.parse(group).sizes, strict=True)
        ):
            continue
        x = image((2, *grid))
        exact = [g for g in naive.elements(group) if naive.is_exact(group, g, *grid)]
        for a in exact:
            moved = naive.act(group, a, x)
            # An exact element permutes the pixels, whichever way others are resampled.
            np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(x, axis=None))
            np.testing.assert_array_equal(moved, naive.act(group, a, x, "nearest"))
            np.testing.assert_array_equal(moved, naive.act(group, a, x, "bicubic"))
            for b in exact:
                left = naive.act(group, b, moved)
                right = naive.act(group, naive.multiply(group, b, a), x)
                np.testing.assert_array_equal(left, right)


def test_composition_fails_for_resampled_rotations():
    x = image((9, 9))
    twice = naive.act("C8", "r1", naive.act("C8", "r1", x))
    assert np.abs(twice - naive.act("C8", "r2", x)).max() > 0.1


# actions


@pytest.mark.parametrize("size", [2, 5, 6])
def test_quarter_turns_are_rot90_in_every_group_that_has_them(size):
    x = image((3, size, size))
    for n in (4, 8, 12):
        for q in range(4):
            name = f"r{q * n // 4}" if q else "e"
            turned = np.rot90(x, q, axes=(1, 2))
            np.testing.assert_array_equal(naive.act(f"C{n}", name, x), turned)
            mirrored = f"s{name}" if q else "s"
            np.testing.assert_array_equal(naive.act(f"D{n}", mirrored, x), turned[..., ::-1])


@pytest.mark.parametrize("grid", GRIDS)
def test_rotation_by_a_right_angle_agrees_with_its_formula(grid):
    """The definition by quarter turns and the sampling formula are one thing on a square."""
    x = image(grid)
    height, width = grid
    direct = naive.rotate_directly(x, 90, "bilinear")
    if height == width:
        np.testing.assert_allclose(direct, np.rot90(x), atol=1e-12)
    np.testing.assert_allclose(naive.rotate_directly(x, 180, "bilinear"), x[::-1, ::-1], atol=1e-12)
    np.testing.assert_array_equal(naive.act("C2", "r1", x), x[::-1, ::-1])


def source_grid(height, width, degrees):
    rows, columns = np.mgrid[:height, :width].astype(float)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    t = np.deg2rad(degrees)
    dy, dx = rows - cy, columns - cx
    return cy + dx * np.sin(t) + dy * np.cos(t), cx + dx * np.cos(t) - dy * np.sin(t)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_bilinear_is_scipys_map_coordinates(grid, n):
    x = image(grid, seed=n)
    for k in range(1, n):
        rows, columns = source_grid(*grid, 360 * k / n)
        oracle = ndimage.map_coordinates(x, [rows, columns], order=1, mode="grid-constant", cval=0)
        np.testing.assert_allclose(naive.act(f"C{n}", f"r{k}", x), oracle, atol=1e-12)
        np.testing.assert_allclose(naive.act(f"D{n}", f"sr{k}", x), oracle[:, ::-1], atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("grid", [(2, 2), (5, 5), (6, 6), (4, 6), (7, 5)])
def test_bilinear_and_bicubic_are_torchs_grid_sample(grid, mode):
    torch = pytest.importorskip("torch")
    x = image((2, *grid))
    height, width = grid
    for k in range(1, 8):
        rows, columns = source_grid(height, width, 45 * k)
        # align_corners=True: -1 and 1 are the centres of the first and last pixel.
        places = np.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], axis=-1)
        oracle = torch.nn.functional.grid_sample(
            torch.from_numpy(x)[None],
            torch.from_numpy(places)[None],
            mode=mode,
            padding_mode="zeros",
            align_corners=True,
        )[0].numpy()
        np.testing.assert_allclose(naive.act("C8", f"r{k}", x, mode), oracle, atol=1e-9)


def test_nearest_takes_the_nearest_pixel_and_ties_go_up():
    x = image((8, 8))
    rows, columns = source_grid(8, 8, 30)
    oracle = ndimage.map_coordinates(x, [rows, columns], order=0, mode="grid-constant", cval=0)
    np.testing.assert_array_equal(naive.act("C12", "r1", x, "nearest"), oracle)
    # 4 x 5 by 90 degrees: every source lies half way between two pixels of both axes.
    y = np.arange(20.0).reshape(4, 5)
    expected = np.zeros((4, 5))
    for i in range(4):
        for j in range(5):
            row, column = math.floor(1.5 + (j - 2) + 0.5), math.floor(2 - (i - 1.5) + 0.5)
            if 0 <= row < 4 and 0 <= column < 5:
                expected[i, j] = y[row, column]
    np.testing.assert_array_equal(naive.act("C4", "r1", y, "nearest"), expected)


def test_a_rotation_goes_counter_clockwise_as_displayed():
    x = np.zeros((7, 7))
    x[3, 6] = 1  # right of the centre
    up = naive.act("C8", "r1", x)
    row, column = np.unravel_index(up.argmax(), up.shape)
    assert row < 3
    assert column > 3
    assert naive.act("C4", "r1", x)[0, 3] == 1


def test_flips_and_shifts_move_pixels_as_told():
    x = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(naive.act("flip-h", "flip", x), np.fliplr(x))
    np.testing.assert_array_equal(naive.act("flip-v", "flip", x), np.flipud(x))
    np.testing.assert_array_equal(naive.act("shift2x3", "t1,2", x), np.roll(x, (1, 4), (0, 1)))
    with pytest.raises(ValueError, match="no action"):
        naive.act("shift4x3", "e", x)


def test_exactness_is_said_per_element_and_grid():
    flags = [naive.is_exact("C8", g, 6, 6) for g in naive.elements("C8")]
    assert flags == [True, False] * 4
    assert [naive.is_exact("C4", g, 4, 6) for g in naive.elements("C4")] == [True, False] * 2
    assert naive.exact_subgroup("C8", (6, 6)) == ["e", "r2", "r4", "r6"]
    assert naive.exact_subgroup("D8", (5, 5)) == ["e", "r2", "r4", "r6", "s", "sr2", "sr4", "sr6"]
    assert naive.exact_subgroup("C8", (6, 6), (3, 4)) == ["e", "r4"]
    assert naive.exact_subgroup("C4", (6, 6)) is None
    assert naive.exact_subgroup("C3", (6, 6)) is None


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (5, 5), (4, 7)])
def test_the_disk_is_the_points_near_the_centre(grid):
    rows, columns = source_grid(*grid, 0)
    cy, cx = (grid[0] - 1) / 2, (grid[1] - 1) / 2
    near = np.hypot(rows - cy, columns - cx) <= min(grid) / 2
    np.testing.assert_array_equal(naive.disk_mask(*grid), near)


# kernels of actions, f_hat


def test_the_kernel_of_an_action_is_what_fixes_a_basis():
    assert naive.kernel_of_action("C8", (3,)) == naive.elements("C8")
    assert naive.kernel_of_action("C8", (2, 4, 4), grid=True) == ["e"]
    rows = np.array([[(j - k) % 4 for j in range(4)] for k in range(8)])
    assert naive.kernel_of_action("C8", (4,), permutation=rows) == ["e", "r4"]
    matrices = naive.table_to_matrices(rows)
    assert naive.kernel_of_action("C8", (4,), matrices=matrices) == ["e", "r4"]
    # The grid is faithful, so a table on top leaves nothing but the identity ..
    assert naive.kernel_of_action("C8", (4, 3, 3), grid=True, channels=rows) == ["e"]
    # .. and a table alone has the kernel of the table.
    assert naive.kernel_of_action("C8", (4, 2, 2), channels=rows) == ["e", "r4"]


def test_f_hat_goes_from_the_value_to_the_orbit_mean():
    values = image((8, 3))
    np.testing.assert_allclose(naive.f_hat("C8", values, ["e"]), values[0])
    np.testing.assert_allclose(naive.f_hat("C8", values, naive.elements("C8")), values.mean(axis=0))
    np.testing.assert_allclose(naive.f_hat("C8", values, ["e", "r4"]), values[[0, 4]].mean(axis=0))


def test_a_table_and_its_matrices_are_the_same_action():
    rows = np.array([[(j - k) % 4 for j in range(4)] for k in range(8)])
    matrices = naive.table_to_matrices(rows)
    assert naive.is_representation("C8", matrices)
    values = image((2, 8, 4))
    np.testing.assert_allclose(
        naive.output_l2(values, "C8", permutation=rows),
        naive.output_l2(values, "C8", matrices=matrices),
        rtol=1e-12,
    )
    swapped = matrices[[0, 1, 2, 3, 4, 6, 5, 7]]
    assert not naive.is_representation("C8", swapped)


# deviations


@pytest.mark.parametrize("group", ["C8", "D4", "flip-h", "shift2x3"])
def test_channel_cos_is_scipys_cosine_distance(group):
    values = image((2, len(naive.elements(group)), 3, 6, 6))
    got = naive.channel_cos(values, group)
    for s, sample in enumerate(values):
        for g, name in enumerate(naive.elements(group)):
            expected = naive.act(group, name, sample[0])
            cosines = [
                1 - distance.cosine(sample[g, c].ravel(), expected[c].ravel()) for c in range(3)
            ]
            assert got[s, g] == pytest.approx(-np.mean(cosines), abs=1e-12)


def test_equivariant_maps_score_minus_one_dead_channels_or_not():
    x = image((2, 3, 5, 5))
    x[:, 1] = 0
    values = naive.orbit("C8", x)
    np.testing.assert_allclose(naive.channel_cos(values, "C8"), -1, atol=1e-15)
    np.testing.assert_allclose(naive.channel_cos(values, "C8", disk=True), -1, atol=1e-15)
    assert naive.channel_zero_pairs(values, "C8") == pytest.approx(1 / 3)


def test_one_zero_vector_counts_as_orthogonal():
    x = np.ones((1, 1, 3, 3))
    values = naive.orbit("flip-h", x)
    values[0, 1] = 0
    np.testing.assert_allclose(naive.channel_cos(values, "flip-h"), [[-1, 0]])
    assert naive.cos([0, 0], [0, 0]) == 1


def test_a_channel_table_undoes_a_permutation_of_channels():
    rows = np.array([[(j - k) % 4 for j in range(4)] for k in range(4)])
    x = image((1, 4, 5, 5))
    values = np.stack(
        [naive.act("C4", g, x[:, rows[k]]) for k, g in enumerate(["e", "r1", "r2", "r3"])], 1
    )
    np.testing.assert_allclose(naive.channel_cos(values, "C4", channels=rows), -1, atol=1e-12)
    assert naive.channel_cos(values, "C4")[0, 1] > -0.9


def test_latent_deviations_are_distances_to_the_orbit_mean():
    values = image((3, 8, 5)) + 1
    mean = values.mean(axis=1)
    l2, cosine = naive.latent_l2(values, "C8"), naive.latent_cos(values, "C8")
    for s in range(3):
        np.testing.assert_allclose(l2[s], distance.cdist(values[s], mean[s : s + 1])[:, 0])
        np.testing.assert_allclose(
            cosine[s], distance.cdist(values[s], mean[s : s + 1], "cosine")[:, 0] - 1
        )
    np.testing.assert_array_equal(naive.latent_l2(values[..., None, None], "C8"), l2)


def entropy(p):
    return -special.xlogy(p, p).sum(axis=-1)


@pytest.mark.parametrize("scale", [1, 30])
def test_softmax_kl_is_the_entropy_of_the_mean_less_the_mean_entropy(scale):
    logits = scale * image((4, 8, 6))
    p = special.softmax(logits, axis=-1)
    expected = entropy(p.mean(axis=1)) - entropy(p).mean(axis=1)
    got = naive.softmax_kl(logits, "C8")
    np.testing.assert_allclose(got.mean(axis=1), expected, atol=1e-12)
    np.testing.assert_allclose(naive.softmax_kl(p, "C8", kind="probabilities"), got, atol=1e-10)
    assert (got.mean(axis=1) <= math.log(8)).all()


def test_softmax_kl_stands_extremes():
    certain = np.full((1, 8, 8), -1e4)
    for g in range(8):
        certain[0, g, g] = 1e4
    np.testing.assert_allclose(naive.softmax_kl(certain, "C8"), math.log(8), rtol=1e-12)
    exact = np.eye(8)[None]
    got = naive.softmax_kl(exact, "C8", kind="probabilities")
    np.testing.assert_allclose(got, math.log(8), rtol=1e-12)
    np.testing.assert_allclose(naive.softmax_kl(np.full((1, 4, 3), 700.0), "C4"), 0, atol=1e-15)


def test_softmax_kl_is_scipys_kl_to_the_permuted_centre():
    rows = np.array([[(j - k) % 4 for j in range(4)] for k in range(8)])
    logits = image((2, 8, 4))
    p = special.softmax(logits, axis=-1)
    got = naive.softmax_kl(logits, "C8", permutation=rows)
    for s in range(2):
        centre = (p[s, 0] + p[s, 4]) / 2
        for g in range(8):
            assert got[s, g] == pytest.approx(stats.entropy(p[s, g], centre[rows[g]]), abs=1e-12)
    zeros = np.eye(4)[[[0, 1, 2, 3, 0, 1, 2, 3]]]
    naive.softmax_kl(zeros, "C8", kind="probabilities", permutation=rows)
    with pytest.raises(ZeroDivisionError):
        naive.softmax_kl(zeros[:, ::-1], "C8", kind="probabilities", permutation=rows)


def test_one_logit_is_two_classes():
    z = image((3, 4, 1))
    p = special.expit(z)
    both = np.concatenate([1 - p, p], axis=-1)
    expected = naive.softmax_kl(both, "C4", kind="probabilities")
    np.testing.assert_allclose(naive.softmax_kl(z, "C4"), expected, atol=1e-12)
    np.testing.assert_allclose(naive.softmax_kl(p, "C4", kind="probabilities"), expected)


# M, summaries, subgroups, references


def test_m_is_the_mean_over_unordered_distinct_pairs():
    points = image((6, 3)) + 1
    assert naive.normaliser(points, "latent-l2") == pytest.approx(distance.pdist(points).mean())
    cosines = 1 - distance.pdist(points, "cosine")
    assert naive.normaliser(points, "latent-cos") == pytest.approx(cosines.mean())
    assert naive.normaliser(points[:1], "latent-l2") is None
    assert naive.normaliser(np.zeros((3, 2)), "latent-cos") == 1


def test_t_intervals_are_those_of_tables():
    # Quantiles t(0.975) from any statistics table: 1, 9 and 49 degrees of freedom.
    for n, quantile in [(2, 12.706), (10, 2.262), (50, 2.010)]:
        v = image(n) + 3
        low, high = naive.t_interval(v)
        half = quantile * v.std(ddof=1) / math.sqrt(n)
        assert (low, high) == pytest.approx((v.mean() - half, v.mean() + half), rel=1e-3)
    assert naive.t_interval([1.0]) is None


def test_summaries_agree_with_each_other():
    deviations = image((5, 8))
    plain, divided = naive.summarise(deviations), naive.summarise(deviations, 4.0)
    assert plain.value == pytest.approx(deviations.mean())
    assert plain.per_element.mean() == pytest.approx(plain.value) == plain.per_sample.mean()
    assert divided.value == pytest.approx(plain.value / 4)
    assert divided.ci95 == pytest.approx(tuple(v / 4 for v in plain.ci95))
    assert naive.summarise(deviations[:1]).ci95 is None
    # M < 0 reverses the order of values; the interval is still an interval around the value.
    low, high = naive.summarise(deviations, -2.0).ci95
    assert low < -plain.value / 2 < high


def test_the_subgroup_has_its_own_f_hat():
    values = image((3, 8, 5))
    members = naive.exact_subgroup("C8", (4, 4))
    got = naive.latent_l2(values, "C8", subgroup=members)
    np.testing.assert_allclose(got, naive.latent_l2(values[:, ::2], "C4"))
    maps = image((2, 8, 2, 4, 4))
    np.testing.assert_allclose(
        naive.channel_cos(maps, "C8", subgroup=members), naive.channel_cos(maps[:, ::2], "C4")
    )
    np.testing.assert_allclose(
        naive.softmax_kl(values, "C8", subgroup=members), naive.softmax_kl(values[:, ::2], "C4")
    )


def test_round_trips_lose_nothing_where_elements_are_exact():
    x = image((2, 3, 6, 6))
    trips = naive.input_round_trips("C8", x)
    for g, name in enumerate(naive.elements("C8")):
        same = np.array_equal(trips[:, g], x)
        assert same == naive.is_exact("C8", name, 6, 6)
    references = naive.output_round_trip_channel_cos(x, "C8")
    np.testing.assert_allclose(references[:, ::2], -1, atol=1e-15)
    assert (references[:, 1::2] > -0.99).all()


def test_sampling_is_the_head_of_one_permutation():
    chosen, for_m = naive.sample_indices(1000, seed=3)
    assert (len(chosen), len(for_m)) == (50, 200)
    assert for_m[:50] == chosen
    assert len(set(for_m)) == 200
    assert naive.sample_indices(7, seed=3)[0] == naive.sample_indices(7, seed=3)[1]
