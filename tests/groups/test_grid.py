import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings, strategies as st

from onnx_geed import GeedError, disk_mask, grid_action, orbit, parse_group
from onnx_geed.groups import Matrices, Permutation, Trivial

RNG = np.random.default_rng(0)


def image(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_quarter_turns_are_counter_clockwise_as_displayed():
    x = image(3, 6, 6)
    moved = orbit(grid_action(parse_group("C4"), 6, 6), x)
    for k in range(4):
        np.testing.assert_array_equal(moved[k], np.rot90(x, k, axes=(1, 2)))


def test_mirrors_and_shifts_are_numpys():
    x = image(2, 4, 6)
    np.testing.assert_array_equal(
        orbit(grid_action(parse_group("flip-h"), 4, 6), x)[1], x[:, :, ::-1]
    )
    np.testing.assert_array_equal(
        orbit(grid_action(parse_group("flip-v"), 4, 6), x)[1], x[:, ::-1, :]
    )
    shifts = parse_group("shift2x3")
    moved = orbit(grid_action(shifts, 4, 6), x)
    np.testing.assert_array_equal(moved[shifts.index("t1,2")], np.roll(x, (2, 4), axis=(1, 2)))


def test_dihedral_elements_rotate_then_mirror():
    x = image(1, 7, 7)
    d4 = parse_group("D4")
    moved = orbit(grid_action(d4, 7, 7), x)
    np.testing.assert_array_equal(moved[d4.index("sr1")], np.rot90(x, 1, axes=(1, 2))[:, :, ::-1])


@pytest.mark.parametrize("shape", [(9, 9), (8, 8), (7, 10)])
@pytest.mark.parametrize("degrees", [45, 30, 120])
def test_bilinear_rotation_is_scipys_with_zeros_outside(shape, degrees):
    x = image(*shape)
    group = parse_group(f"C{360 // degrees}")
    moved = orbit(grid_action(group, *shape), x[None])[1, 0]
    a = np.radians(degrees)
    cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    dy, dx = np.mgrid[: shape[0], : shape[1]] - np.array([cy, cx])[:, None, None]
    where = [cy + dx * np.sin(a) + dy * np.cos(a), cx + dx * np.cos(a) - dy * np.sin(a)]
    expected = scipy.ndimage.map_coordinates(
        x.astype(np.float64), where, order=1, mode="grid-constant", cval=0.0
    )
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_square_grid_rotates_by_quarter_turns_of_one_resampling():
    x = image(1, 11, 11)
    moved = orbit(grid_action(parse_group("C8"), 11, 11), x)
    for k in (3, 5, 7):
        np.testing.assert_array_equal(moved[k], np.rot90(moved[1], (k - 1) // 2, axes=(1, 2)))


@pytest.mark.parametrize("name", ["C4", "D4", "flip-h", "flip-v", "shift3x2"])
def test_exact_elements_compose_as_the_table_says(name):
    group = parse_group(name)
    action = grid_action(group, 6, 6)
    x = image(2, 6, 6).astype(np.float64)
    assert all(action.exact())
    for a in range(group.order):
        for b in range(group.order):
            np.testing.assert_array_equal(
                action.apply(a, action.apply(b, x)), action.apply(int(group.table[a, b]), x)
            )


def test_exactness_is_told_element_by_element():
    c8 = parse_group("C8")
    assert tuple(map(bool, grid_action(c8, 8, 8).exact())) == (True, False) * 4
    assert tuple(map(bool, grid_action(c8, 8, 6).exact())) == (True, False, False, False) * 2
    assert all(grid_action(parse_group("D2"), 8, 6).exact())


def test_ninety_degrees_on_an_oblong_grid_are_resampled_about_the_centre():
    x = np.zeros((1, 3, 5), np.float32)
    x[0, 1, 2], x[0, 1, 3] = 1, 2
    turned = orbit(grid_action(parse_group("C4"), 3, 5), x)[1, 0]
    expected = np.zeros((3, 5))
    expected[1, 2], expected[0, 2] = 1, 2
    np.testing.assert_array_equal(turned, expected)


def test_nearest_ties_go_up():
    # On 2×2, 45° about (0.5, 0.5): the corners read from the middles of the sides.
    x = np.array([[[1, 2], [3, 4]]], np.float32)
    moved = orbit(grid_action(parse_group("C8"), 2, 2, "nearest"), x)[1, 0]
    # Output (0, 0): src_x = 0.5, src_y = 0.5 - sqrt(1/2), so column 1 (tie up) of row 0.
    assert moved[0, 0] == 2


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["C3", "C8", "D3", "D8", "C12"]),
    st.integers(2, 9),
    st.integers(2, 9),
    st.sampled_from(["bilinear", "nearest", "bicubic"]),
)
def test_the_compiled_orbit_is_the_plain_action(name, height, width, interpolation):
    action = grid_action(parse_group(name), height, width, interpolation)
    x = image(2, height, width)
    moved = orbit(action, x)
    for g in range(action.group.order):
        np.testing.assert_allclose(moved[g], action.apply(g, x), atol=2e-6)


def test_kernels_are_computed():
    c4 = parse_group("C4")
    assert grid_action(c4, 5, 5).kernel_of_action() == (0,)
    assert Trivial(c4).kernel_of_action() == (0, 1, 2, 3)
    table = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
    assert Permutation(c4, table).kernel_of_action() == (0, 2)
    signs = np.array([np.eye(2), -np.eye(2), np.eye(2) + 1e-8, -np.eye(2)])
    assert Matrices(c4, signs).kernel_of_action() == (0, 2)
    # A mirror of a constant row is the identity on a grid one pixel wide.
    assert grid_action(parse_group("flip-h"), 4, 1).kernel_of_action() == (0, 1)


def test_a_shift_that_does_not_divide_is_refused():
    with pytest.raises(GeedError, match=r"shift4x4 does not divide a grid of 6×8"):
        grid_action(parse_group("shift4x4"), 6, 8)


def test_the_disk_is_that_of_the_contract():
    mask = disk_mask(5, 8)
    for i in range(5):
        for j in range(8):
            assert mask[i, j] == ((i - 2) ** 2 + (j - 3.5) ** 2 <= 2.5**2)


@pytest.mark.parametrize(
    ("group", "shape", "rows"),
    [
        ("C4", (6, 6), 1),
        ("C8", (7, 7), 2),
        ("D8", (6, 6), 6),
        ("flip-h", (5, 4), 1),
        ("C4", (4, 6), 0),
        ("shift2x2", (4, 4), 3),
    ],
)
def test_few_rows_stand_for_all_elements(group, shape, rows):
    action = grid_action(parse_group(group), *shape)
    moves = action.moves
    source, gathered, row_of, backwards = moves.rows
    assert len(source) == rows
    bases = len(moves.index) + 1
    here = np.arange(shape[0] * shape[1])
    for g in range(action.group.order):
        r = row_of[g]
        base, by = (r, here) if r < bases else (source[r - bases], gathered[r - bases])
        assert base == moves.base_of[g]
        np.testing.assert_array_equal(by[::-1] if backwards[g] else by, moves.permutation[g])
