"""The named groups beyond the plane: orders, tables, products, and what is sampled."""

import itertools
import pickle

import numpy as np
import pytest

from onnx_geed import GeedError, parse_group
from onnx_geed.groups import layout_action, orbit, parse_layout, with_components
from onnx_geed.safe_names import one_line

ORDERS = {
    "C6-x": 6, "C4-y": 4, "C3-z": 3, "O": 24, "Oh": 48, "reverse": 2, "shift24": 24, "revcomp": 2,
    "S1": 1, "S4": 24, "S6": 720, "S16~20": 20, "hue3": 3, "hue12": 12, "SO2~32": 32, "O2~16": 16,
    "SO3~24": 24, "SO3~60": 60, "O3~48": 48, "C4*hue3": 12, "S3*O": 144, "C2*reverse*hue3": 12,
}  # fmt: skip


def matrices(factor):
    return np.array(factor.matrices).reshape(factor.order, factor.size, -1)


@pytest.mark.parametrize("name", ORDERS)
def test_a_group_has_its_order_and_its_elements_distinct_names(name):
    group = parse_group(name)
    assert group.order == ORDERS[name]
    assert group.elements[0] == "e"
    assert len({*group.elements}) == group.order
    assert {factor.order for factor in group.factors} == {group.order}
    again = pickle.loads(pickle.dumps(group))
    assert again == group
    assert again.factors == group.factors


@pytest.mark.parametrize("name", ["C6-x", "C4-y", "C3-z", "O", "Oh", "SO3~60", "C8", "D6", "hue12"])
def test_matrices_multiply_as_the_table_says(name):
    group = parse_group(name)
    (every,) = (matrices(f) for f in group.factors if hasattr(f, "size"))
    unit = np.tile(np.eye(every.shape[1]), (group.order, 1, 1))
    np.testing.assert_allclose(every @ every.transpose(0, 2, 1), unit, atol=1e-12)
    for a, b in itertools.product(range(group.order), repeat=2):
        np.testing.assert_allclose(every[a] @ every[b], every[group.table[a, b]], atol=1e-12)


def test_what_turns_the_plane_turns_its_vectors():
    # Right goes to up, and up is minus down.
    quarter = matrices(parse_group("C4").factors[1])[1]
    np.testing.assert_array_equal(quarter @ [1, 0], [0, -1])
    mirrored = matrices(parse_group("flip-h").factors[1])[1]
    np.testing.assert_array_equal(mirrored @ [3, 5], [-3, 5])


def test_rotations_about_the_axes_follow_each_other_in_a_circle():
    shift = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x → y → z → x
    x, y, z = (matrices(parse_group(f"C8-{axis}").factors[1]) for axis in "xyz")
    np.testing.assert_allclose(y, shift @ x @ shift.T, atol=1e-15)
    np.testing.assert_allclose(z, shift @ y @ shift.T, atol=1e-15)
    np.testing.assert_array_equal(z[:, :2, :2], matrices(parse_group("C8").factors[1]))


@pytest.mark.parametrize("axis", "xyz")
def test_a_rotation_of_space_moves_volumes_and_vectors_alike(axis):
    # What is brightest marks a place; it moves to where the matrix carries that place.
    group, size = parse_group(f"C4-{axis}"), 5
    action = layout_action(group, parse_layout("NDHW"), (size,) * 3)
    turned = matrices(group.factors[1])
    for place in ((0, 1, 4), (2, 0, 3), (4, 4, 1)):
        volume = np.zeros((size,) * 3)
        volume[place] = 1
        forward, down, right = np.array(place) - 2
        for g in range(4):
            x, y, z = turned[g] @ [right, down, forward]
            moved = np.unravel_index(action.apply(g, volume).argmax(), volume.shape)
            np.testing.assert_allclose(np.array(moved) - 2, [z, y, x])


def test_symmetries_of_the_cube_move_volumes_and_vectors_alike():
    group, size = parse_group("Oh"), 3
    action = layout_action(group, parse_layout("NDHW"), (size,) * 3)
    (every,) = (matrices(f) for f in group.factors if hasattr(f, "size"))
    volume = np.zeros((size,) * 3)
    volume[0, 1, 2] = 1  # forward −1, down 0, right 1
    for g in range(48):
        x, y, z = every[g] @ [1, 0, -1]
        moved = np.unravel_index(action.apply(g, volume).argmax(), volume.shape)
        np.testing.assert_array_equal(np.array(moved) - 1, [z, y, x])


def test_the_rotations_of_the_icosahedron_share_four_resamplings():
    action = layout_action(parse_group("SO3~60"), parse_layout("NDHW"), (7, 7, 7))
    assert len(action.moves.index) == 4  # 60 rotations, 12 of them turns of the grid
    assert sum(bool(kind) for kind in action.exact()) == 12


def test_hue_of_a_third_carries_red_to_green_to_blue():
    action = layout_action(parse_group("hue3"), parse_layout("NCHW"), (3, 1, 1), of_input=True)
    red, green, blue = np.eye(3)
    np.testing.assert_array_equal(action.apply(1, red[:, None, None])[:, 0, 0], green)
    np.testing.assert_array_equal(action.apply(2, red[:, None, None])[:, 0, 0], blue)
    grey = np.full((3, 1, 1), 0.4)
    hue5 = layout_action(parse_group("hue5"), parse_layout("NCHW"), (3, 1, 1), of_input=True)
    np.testing.assert_allclose(hue5.apply(1, grey), grey)


def test_colours_move_on_inputs_alone():
    hidden = layout_action(parse_group("hue3"), parse_layout("NCHW"), (3, 2, 2))
    assert hidden.moved == ""
    assert hidden.kernel_of_action() == (0, 1, 2)


def test_some_permutations_are_distinct_and_others_for_each_sample():
    group = parse_group("S16~20")

    def rows(seed, sample):
        return parse_group("S16~20").onward(seed, sample)[0].table

    for table in (rows(3, 7), rows(3, 8), rows(4, 7)):
        assert table[0] == tuple(range(16))
        assert len({*table}) == 20
    assert rows(3, 7) == rows(3, 7)
    assert len({rows(3, 7)[1:], rows(3, 8)[1:], rows(4, 7)[1:]}) == 3
    assert group.behind is None  # the first of an orbit is the sample itself
    assert not group.is_closed
    assert not group.is_subgroup([0, 1])
    with pytest.raises(GeedError, match="S16~20 holds only some elements of a larger group"):
        group.inverse(1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("S7", "S7 has 7! elements.*S7~20"),
        ("S3~7", "S3~7: 3 points have only 6"),
        ("C4*D4", "both move axes H, W, X"),
        ("C4*C4-z", "both move axes"),
        ("O*SO3~24", "both move axes"),
        ("S6*shift24", "at most 1024"),
        ("O2~7", "take an even number"),
        ("S03~30", "no group is called 'S03~30'.*Did you mean 'SO3~"),
        ("SO3", "group SO3: has infinitely many elements: say how many .* such as SO3~24"),
        ("so(2)", "such as SO2~32"),
        ("O2", "such as O2~32"),
        ("C4*O3", "group O3: .* such as O3~48"),
        ("SO3~1", "one element cannot be compared with anything; take a group such as SO3~24"),
        ("O3~2000", "at most 1024"),
        ("revcom", "Did you mean 'revcomp'"),
        ("C4*nothing", "no group is called 'nothing'"),
        ("shift2000", "at most 1024"),
    ],
)
def test_what_is_no_group_is_refused_with_what_to_do(name, message):
    with pytest.raises(GeedError, match=message) as caught:
        parse_group(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["C", "SO4", "flip", "rotaet:3", "shift-4x4"])
def test_all_that_may_be_written_fits_into_the_line_of_a_command(name):
    with pytest.raises(GeedError, match=r"no group is called .* small-rotation; .*lists all") as no:
        parse_group(name)
    said = f"onnx-geed: {no.value}"
    assert one_line(said, 390) == said


SAMPLED = ["SO2~8", "O2~16", "SO3~24", "SO3~60", "O3~48", "SO2~8*hue3", "SO3~7", "O3~10*S5~3"]


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sampled_group_moves_each_sample_behind_an_element_of_its_own(name):
    group = parse_group(name)
    if "2~" in name:
        layout, lengths = "NCXHW", (3, 2, 9, 9)
    else:
        layout, lengths = "NPX", (5, 3)
    action = layout_action(group, parse_layout(layout), lengths, of_input=True)
    x = np.random.default_rng(0).standard_normal(lengths).astype(np.float32)
    first, again, other = (orbit(action.behind(3, i), x) for i in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - other[0]).max() > 0.1
    assert np.abs(orbit(action.behind(4, 7), x)[0] - first[0]).max() > 0.1
    # Where nothing is resampled twice, what moves outputs moves the first of the orbit.
    onward = action.onward(3, 7)
    for g, exact in enumerate(action.exact()):
        if exact:
            np.testing.assert_allclose(onward.apply(g, first[0]), first[g], atol=1e-5)


def test_what_is_no_finite_group_is_sampled():
    kinds = {name: parse_group(name).kind for name in [*SAMPLED, "S16~20", "C8", "S4", "C4*hue3"]}
    assert [name for name, kind in kinds.items() if kind == "group"] == ["C8", "S4", "C4*hue3"]
    independent = [name for name in kinds if parse_group(name).independent]
    assert independent == ["SO3~7"]


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("SO2~8", [0, 2, 4, 6]),
        ("SO2~7", []),  # every second one of seven leaves two side by side
        ("SO2~2", []),
        ("O2~8", [0, 2, 4, 6]),
        ("O2~6", []),
        ("SO3~6", [0, 2, 4]),
        ("SO3~24", []),
        ("S16~20", []),
        ("SO2~4*hue3", [0, 1, 2, 6, 7, 8]),
        ("C8", []),
    ],
)
def test_every_second_element_stands_for_the_group_where_it_is_evenly_spread(name, half):
    assert list(parse_group(name).half) == half


def test_independent_rotations_and_reflections_are_haar():
    every = np.concatenate([matrices(parse_group("SO3~9").behind(0, i)[1]) for i in range(60)])
    np.testing.assert_allclose(np.linalg.det(every), 1)
    np.testing.assert_allclose(every.mean(0), 0, atol=0.12)
    np.testing.assert_allclose((every**2).mean(0), 1 / 3, atol=0.06)
    reflected = np.concatenate([matrices(parse_group("O3~9").behind(0, i)[1]) for i in range(60)])
    assert 0.4 < (np.linalg.det(reflected) > 0).mean() < 0.6


def test_offsets_cover_the_circle_and_rotations_are_haar():
    group = parse_group("SO2~4")
    angles = [float(group.behind(0, i)[0].motions[0].degrees) for i in range(400)]
    assert np.histogram(angles, bins=4, range=(0, 360))[0].min() > 70
    rotations = np.array([matrices(parse_group("SO3~24").behind(0, i)[1])[0] for i in range(400)])
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    # Of Haar rotations every entry has mean 0 and mean square 1/3.
    np.testing.assert_allclose(rotations.mean(0), 0, atol=0.12)
    np.testing.assert_allclose((rotations**2).mean(0), 1 / 3, atol=0.06)


@pytest.mark.parametrize("components", ["right-up", "down-right"])
@pytest.mark.parametrize("name", ["C8", "D4", "C6-y", "SO2~8", "SO3~5"])
def test_vectors_in_other_components_move_as_their_translation_does(name, components):
    group = parse_group(name)
    size = 3 if "-" in name or "SO3" in name else 2
    change = np.eye(size)
    change[:2, :2] = {"right-up": [[1, 0], [0, -1]], "down-right": [[0, 1], [1, 0]]}[components]
    plain = layout_action(group, parse_layout("NPX"), (4, size))
    turned = layout_action(with_components(group, components), parse_layout("NPX"), (4, size))
    vectors = np.random.default_rng(0).standard_normal((4, size))
    for g in range(group.order):
        expected = plain.apply(g, vectors) @ change.T
        np.testing.assert_allclose(turned.apply(g, vectors @ change.T), expected, atol=1e-12)
    if group.behind:
        ours, theirs = turned.behind(0, 5), plain.behind(0, 5)
        expected = theirs.apply(1, vectors) @ change.T
        np.testing.assert_allclose(ours.apply(1, vectors @ change.T), expected, atol=1e-12)
    if group.onward:
        ours, theirs = turned.onward(0, 5), plain.onward(0, 5)
        expected = theirs.apply(1, vectors) @ change.T
        np.testing.assert_allclose(ours.apply(1, vectors @ change.T), expected, atol=1e-12)
