"""Actions by letters against the slow twin, over random groups and layouts."""

import math

import naive_letters as twin
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from scipy.spatial.transform import Rotation

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.groups import Exactness, layout_action, orbit, parse_group, parse_layout
from onnx_geed.groups.named import factors_of
from onnx_geed.groups.space_factor import SpaceFactor

SLOW = settings(max_examples=60, deadline=None)

# Groups, with the letters that they move and the number of entries where it is set.
LETTERS = {
    "C1-z": {"D": 0, "H": 0, "W": 0, "X": 3},
    "C3": {"H": 0, "W": 0, "X": 2},
    "C4": {"H": 0, "W": 0, "X": 2},
    "C8": {"H": 0, "W": 0, "X": 2},
    "D4": {"H": 0, "W": 0, "X": 2},
    "D3": {"H": 0, "W": 0, "X": 2},
    "flip-h": {"H": 0, "W": 0, "X": 2},
    "flip-v": {"H": 0, "W": 0, "X": 2},
    "shift2x3": {"H": 0, "W": 0},
    "C4-x": {"D": 0, "H": 0, "W": 0, "X": 3},
    "C5-y": {"D": 0, "H": 0, "W": 0, "X": 3},
    "C8-z": {"D": 0, "H": 0, "W": 0, "X": 3},
    "O": {"D": 0, "H": 0, "W": 0, "X": 3},
    "Oh": {"D": 0, "H": 0, "W": 0, "X": 3},
    "reverse": {"T": 0},
    "shift3": {"T": 0},
    "revcomp": {"T": 0, "B": 4},
    "S3": {"P": 3},
    "S4": {"P": 4},
    "S5~7": {"P": 5},
    "hue3": {"C": 3},
    "hue4": {"C": 3},
    "SO2~6": {"H": 0, "W": 0, "X": 2},
    "O2~6": {"H": 0, "W": 0, "X": 2},
    "SO3~24": {"D": 0, "H": 0, "W": 0, "X": 3},
    "O3~48": {"D": 0, "H": 0, "W": 0, "X": 3},
    "C4*hue3": {"H": 0, "W": 0, "X": 2, "C": 3},
    "D3*reverse": {"H": 0, "W": 0, "X": 2, "T": 0},
    "reverse*S3": {"T": 0, "P": 3},
    "O*S4": {"D": 0, "H": 0, "W": 0, "X": 3, "P": 4},
    "shift3*S3*hue2": {"T": 0, "P": 3, "C": 3},
    "SO2~4*S3": {"H": 0, "W": 0, "X": 2, "P": 3},
    "SO3~5": {"D": 0, "H": 0, "W": 0, "X": 3},
    "O3~4*S5~3": {"D": 0, "H": 0, "W": 0, "X": 3, "P": 5},
}
SAMPLED = [group for group in LETTERS if twin.is_sampled(group)]


@st.composite
def tensors(draw, groups=tuple(LETTERS), exact=False):
    """A group, the letters of a sample's axes and their lengths; most have an axis that moves."""
    group = draw(st.sampled_from(groups))
    of_group = LETTERS[group]
    pool = ["X", "T", "B", "C", "P", "P", "HW", "DHW", "H"]
    own = [letters for letters in pool if {*letters} <= {*of_group}] or pool
    chosen = [draw(st.sampled_from(own))]
    chosen += draw(st.lists(st.sampled_from(pool), max_size=2))
    letters = ""
    for part in chosen:
        for letter in part:
            if letters.count(letter) < (2 if letter == "P" else 1) and len(letters) < 4:
                letters += letter
    letters = "".join(draw(st.permutations(letters)))
    side = draw(st.integers(1, 4))
    lengths = {}
    for letter in letters:
        if letter in "DHW":
            lengths[letter] = side if exact or draw(st.booleans()) else draw(st.integers(1, 4))
        elif letter == "T":
            lengths[letter] = draw(st.integers(1, 2)) * 3
        elif letter == "X":
            lengths[letter] = of_group.get("X") or draw(st.integers(2, 3))
        elif letter == "B":
            lengths[letter] = 4
        else:
            size = of_group.get(letter) or 2
            lengths[letter] = size if draw(st.booleans()) else draw(st.integers(1, 3))
    if group == "shift2x3" and {"H", "W"} <= {*letters}:
        lengths["H"], lengths["W"] = 4, 3
    shape = tuple(lengths[letter] for letter in letters)
    return group, letters, shape


interpolations = st.sampled_from(["bilinear", "nearest", "bicubic"])
seeds = st.integers(0, 2**32 - 1)


def kept(letters, shape):
    """The order in which axes are kept: channels, others, H, W; and their lengths."""
    rank = {"C": 0, "H": 2, "W": 3}
    order = sorted(range(len(letters)), key=lambda axis: rank.get(letters[axis], 1))
    return order, tuple(shape[axis] for axis in order)


def all_there(group, letters, shape):
    """Whether a plane or a volume that moves has no side of one place, or is gone as a whole."""
    lengths = dict(zip(letters, shape, strict=True))
    sides = [factor.axes for factor in factors_of(parse_group(group)) if len(factor.axes) > 1]
    longer = [[lengths.get(letter, 1) > 1 for letter in axes] for axes in sides]
    return all(all(each) or not any(each) for each in longer)


def bound(group, letters, shape, interpolation="bilinear", *, of_input=True):
    lengths = kept(letters, shape)[1]
    layout = parse_layout("N" + letters)
    return layout_action(parse_group(group), layout, lengths, interpolation, of_input=of_input)


def check_same(apply, case, seed, interpolation="bilinear", *, of_input=True, first=None):
    """Hold ``apply(g, x)`` of arrays in kept order against the twin, element by element."""
    group, letters, shape = case
    rng = np.random.default_rng(seed)
    x, names = rng.normal(size=shape), twin.elements(group)
    order = kept(letters, shape)[0]
    some = rng.permutation(len(names))[:12]
    for g in sorted({0, len(names) - 1, *some.tolist()}):
        want = twin.act(group, names[g], letters, x, interpolation, of_input=of_input, first=first)
        got = apply(g, x.transpose(order))
        # A coordinate that rounding carries over a pixel's edge is another pixel for nearest.
        np.testing.assert_allclose(got, want.transpose(order), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*LETTERS, "C7-x", "S2", "S6", "shift8", "hue7", "O3~48*S3"])
def test_groups_are_the_same(name):
    group, names = parse_group(name), twin.elements(name)
    assert list(group.elements) == names
    if name in ("S5~7", "SO3~5", "O3~4*S5~3"):
        assert not group.is_closed
        return
    some = range(0, len(names), math.ceil(len(names) / 30))
    for a in some:
        for b in some:
            assert names[group.table[a, b]] == twin.multiply(name, names[a], names[b])


@SLOW
@given(tensors(tuple(g for g in LETTERS if g not in SAMPLED)), interpolations, seeds, st.booleans())
def test_actions_are_the_same(case, interpolation, seed, of_input):
    assume(of_input or all_there(*case))
    action = bound(*case, interpolation, of_input=of_input)
    check_same(action.apply, case, seed, interpolation, of_input=of_input)


@SLOW
@given(tensors(tuple(SAMPLED)), seeds, st.integers(0, 50))
def test_actions_behind_an_element_of_the_sample_are_the_same(case, seed, sample):
    group, action = case[0], bound(*case)
    # Tensors that the model makes are moved by the finite group.
    check_same(action.apply, case, seed)
    side = next(s for s in group.split("*") if twin.is_sampled(s))
    first = twin.behind(side, 7, sample)
    own = (twin.drawn(group, 7, sample), *case[1:])
    check_same(action.onward(7, sample).apply, own, seed)
    check_same(action.behind(7, sample).apply, own, seed, first=first)


@SLOW
@given(tensors(), seeds)
def test_orbits_are_the_same(case, seed):
    group, letters, shape = case
    action = bound(*case)
    x = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    order = kept(letters, shape)[0]
    want = [
        [twin.act(group, g, letters, sample, of_input=True).transpose(order) for sample in x]
        for g in twin.elements(group)
    ]
    got = np.stack([orbit(action, sample.transpose(order)) for sample in x], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    for g, exact in enumerate(action.exact()):
        if exact is Exactness.INDEX:
            np.testing.assert_array_equal(got[g], np.float32(want[g]))


@SLOW
@given(tensors(), st.booleans())
def test_exactness_and_kernels_are_the_same(case, of_input):
    assume(of_input or all_there(*case))
    group, letters, shape = case
    action, names = bound(*case, of_input=of_input), twin.elements(group)
    want = [twin.is_exact(group, g, letters, shape) for g in names]
    assert [bool(exact) for exact in action.exact()] == want
    if not of_input or "C" not in LETTERS[group]:
        kernel = twin.kernel_of_action(group, letters, shape)
        assert [names[g] for g in action.kernel_of_action()] == kernel


@SLOW
@given(tensors(exact=True), seeds, st.data())
def test_exact_elements_compose_as_the_table_says(case, seed, data):
    name, letters, shape = case
    action, group = bound(*case), parse_group(name)
    if not group.is_closed:
        return
    x = np.random.default_rng(seed).normal(size=kept(letters, shape)[1])
    for _ in range(8):
        a, b = (data.draw(st.integers(0, group.order - 1)) for _ in range(2))
        kinds = action.exact()[a], action.exact()[b]
        if not all(kinds):
            continue
        twice, once = action.apply(a, action.apply(b, x)), action.apply(int(group.table[a, b]), x)
        if kinds == (Exactness.INDEX,) * 2:
            np.testing.assert_array_equal(twice, once)
        else:
            np.testing.assert_allclose(twice, once, atol=1e-5)


@SLOW
@given(tensors(("S3", "S4", "S5~7", "reverse", "shift3", "revcomp", "reverse*S3")), seeds)
def test_whole_numbers_are_moved_as_whole_numbers(case, seed):
    group, letters, shape = case
    action, order = bound(*case), kept(letters, shape)[0]
    ids = np.random.default_rng(seed).integers(-(2**40), 2**40, size=shape)
    moved = ids.transpose(order)
    out = np.empty((action.group.order, *moved.shape), dtype=np.int64)
    orbit(action, moved, out)
    for g, element in enumerate(twin.elements(group)):
        # float64 holds these numbers.
        np.testing.assert_array_equal(
            out[g], twin.act(group, element, letters, ids).transpose(order)
        )


def test_the_sixty_rotations_are_those_of_an_icosahedron():
    group, action = parse_group("SO3~60"), bound("SO3~60", "X", (3,))
    matrices = [action.apply(g, np.eye(3)).T for g in range(60)]
    np.testing.assert_allclose(matrices[0], np.eye(3))
    # scipy's have x, y and z as axes of order 2 too; there are two such icosahedra.
    theirs = Rotation.create_group("I").as_matrix()
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    away = [
        max(min(np.abs(m - t).max() for t in every) for m in matrices)
        for every in (theirs, [turn @ m @ turn.T for m in theirs])
    ]
    assert min(away) < 1e-12
    for a in range(60):
        for b in range(0, 60, 7):
            product = matrices[a] @ matrices[b]
            np.testing.assert_allclose(product, matrices[group.table[a, b]], atol=1e-12)
    assert len({np.round(m, 6).tobytes() for m in matrices}) == 60


# the tests above, tested: what is wrong does not pass them

TURNING = [
    ("C4", "HW", (3, 3)),
    ("C8", "XHW", (2, 3, 3)),
    ("D3", "PX", (3, 2)),
    ("C4-x", "DHW", (3, 3, 3)),
    ("C5-y", "PX", (3, 3)),
    ("O", "DHW", (2, 2, 2)),
    ("O", "PX", (3, 3)),
    ("shift3", "CT", (2, 3)),
    ("S3", "PC", (3, 2)),
    ("S4", "PP", (4, 4)),
    ("hue3", "CHW", (3, 2, 2)),
    ("C4*hue3", "CHW", (3, 3, 3)),
]


@pytest.mark.parametrize("case", TURNING)
def test_a_wrong_direction_is_noticed(case):
    """g⁻¹ in the place of g: a transposed matrix, a shift or turn the other way."""
    action, group = bound(*case), parse_group(case[0])
    check_same(action.apply, case, 0)
    with pytest.raises(AssertionError):
        check_same(lambda g, x: action.apply(group.inverse(g), x), case, 0)


@pytest.mark.parametrize("case", [("C4", "XHW", (2, 3, 3)), ("O", "XDHW", (3, 2, 2, 2))])
def test_components_that_stay_or_stand_in_another_order_are_noticed(case):
    action = bound(*case)
    grid = bound(case[0], "C" + case[1][1:], case[2])
    with pytest.raises(AssertionError):
        check_same(lambda g, x: grid.apply(g, x), case, 0)
    with pytest.raises(AssertionError):
        check_same(lambda g, x: action.apply(g, x[::-1])[::-1], case, 0)


def test_one_point_axis_that_stays_is_noticed():
    rows = parse_group("S3").factors[0].table
    with pytest.raises(AssertionError):
        check_same(lambda g, x: x[list(rows[g])], ("S3", "PP", (3, 3)), 0)


def test_bases_that_are_not_complemented_are_noticed():
    with pytest.raises(AssertionError):
        check_same(lambda g, x: x[::-1] if g else x, ("revcomp", "TB", (3, 4)), 0)


# errors


@pytest.mark.parametrize(
    ("group", "letters", "shape", "says"),
    [
        ("shift5", "CT", (2, 12), "does not divide a line of 12"),
        ("C4", "PX", (5, 3), "X has 3 entries"),
        ("O", "PX", (5, 2), "X has 2 entries"),
        ("revcomp", "TB", (5, 3), "B has 3 entries"),
        ("shift2x2", "CHW", (1, 3, 4), "does not divide a grid"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(group, letters, shape, says):
    with pytest.raises(geed.GeedError, match=says) as error:
        bound(group, letters, shape)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layout", ["", "CHW", "NQ", "nchw", "NCC", "NPPP", "NHHW", "NTD:0x3", "NXX", "NCHW "]
)
def test_what_is_no_layout_is_refused_in_one_line(layout):
    with pytest.raises(geed.GeedError, match="layout") as error:
        parse_layout(layout)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("S7", "S7~20"),
        ("S3~7", "have only 6"),
        ("O*C4-x", "both move axes"),
        ("C4*D4", "both move axes"),
        ("SO3~0", "no group"),
        ("C4-w", "no group"),
        ("revers", "reverse"),
        ("C4*", "no group"),
        ("O*S3*S4", "both move axes P"),
        ("O2~5", "even"),
        ("hue2000", "1024"),
    ],
)
def test_what_is_no_group_is_refused_in_one_line(name, says):
    with pytest.raises(geed.GeedError, match=says) as error:
        parse_group(name)
    assert "\n" not in str(error.value)


def test_points_of_two_lengths_are_not_moved_on_one_side_alone():
    group, layout = parse_group("S10~3"), parse_layout("NPP")
    with pytest.raises(geed.GeedError, match="its two axes P have 10 and 3 entries"):
        layout_action(group, layout, (10, 3), of_input=True)
    # Hidden tensors may well hold points against something else.
    assert layout_action(group, layout, (10, 3)).moved == "P"
    assert layout_action(group, layout, (10, 10), of_input=True).moved == "PP"


# ------------------------------------------------------------------------------------------------
# Hidden tensors with some sides of a plane or of a volume
# ------------------------------------------------------------------------------------------------

# A group, the sides of its input, those that are left of it, whether each is mapped to itself.
LEFT = [
    ("flip-h", "HW", "W", True),
    ("flip-h", "HW", "H", True),
    ("flip-v", "HW", "H", True),
    ("C2", "HW", "W", True),
    ("D2", "HW", "H", True),
    ("shift2x3", "HW", "H", True),
    ("shift2x3", "HW", "W", True),
    ("C4", "HW", "W", False),
    ("D4", "HW", "H", False),
    ("C3", "HW", "H", False),
    ("SO2~6", "HW", "W", False),
    ("C2-x", "DHW", "HW", True),
    ("C2-y", "DHW", "DH", True),
    ("C2-y", "DHW", "W", True),
    ("C4-z", "DHW", "D", True),
    ("C4-x", "DHW", "HW", False),
    ("C4-y", "DHW", "HW", False),
    ("O", "DHW", "HW", False),
    ("O", "DHW", "D", False),
    ("SO3~5", "DHW", "HW", False),
]


@pytest.mark.parametrize(("name", "sides", "left", "itself"), LEFT)
def test_what_is_left_of_a_plane_or_volume_moves_as_its_sums_do(name, sides, left, itself):
    """The sums over the other sides, of a tensor that is moved whole, are the sums moved."""
    x = np.random.default_rng(5).normal(size=(2, *[6] * len(sides)))
    over = tuple(1 + sides.index(side) for side in sides if side not in left)
    group, layout = parse_group(name), parse_layout(f"NC{left}")
    whole = layout_action(group, parse_layout(f"NC{sides}"), x.shape)
    if not itself:
        with pytest.raises(GeedError, match="is left of"):
            layout_action(group, layout, (2, *[6] * len(left)))
        return
    action = layout_action(group, layout, (2, *[6] * len(left)))
    for g in range(group.order):
        moved = whole.apply(g, x).sum(axis=over)
        np.testing.assert_allclose(action.apply(g, x.sum(axis=over)), moved, atol=1e-12)


def test_a_mirrored_space_keeps_each_side_to_itself():
    """Where all matrices are diagonal, a projection moves by reversals alone."""
    signs = [(1, 1, 1), (-1, -1, -1)]
    factor = SpaceFactor(tuple(tuple(float(n) for n in np.diag(row).ravel()) for row in signs))
    x = np.arange(24.0).reshape(2, 3, 4)
    lines = [factor.along(letter) for letter in "HW"]
    row = [
        line.moves("", (n,), "nearest").permutation[1]
        for line, n in zip(lines, (3, 4), strict=True)
    ]
    moved = x[::-1, ::-1, ::-1].sum(axis=0)
    np.testing.assert_array_equal(x.sum(axis=0)[row[0]][:, row[1]], moved)


def test_a_side_that_was_summed_up_and_kept_is_as_good_as_gone():
    layout = parse_layout("NCDHW")
    with pytest.raises(GeedError, match="only H is left of DH"):
        layout_action(parse_group("C4-x"), layout, (2, 1, 5, 5))
    assert layout_action(parse_group("C2-x"), layout, (2, 1, 5, 5)).moved == "DH"
    row, families = parse_layout("NCHW"), ("rotate:-15..15/3", "zoom:0.8..1.25/3")
    rotated, shifted = map(parse_group, families)
    with pytest.raises(GeedError, match="only W is left of HW"):
        layout_action(rotated, row, (2, 1, 6))
    assert layout_action(shifted, row, (2, 1, 6)).moved == "HW"


@pytest.mark.parametrize("components", [2, 3, 5])
@pytest.mark.parametrize("group", ["shift2x2", "shift1x3", "hue3*shift2x1"])
def test_a_shift_leaves_vectors_as_they_are(group, components):
    """Every entry of a translated field is the same vector at another place."""
    parsed = parse_group(group)
    vector = layout_action(parsed, parse_layout("NX"), (components,))
    assert (vector.moved, vector.name) == ("", "trivial")
    assert vector.kernel_of_action() == tuple(range(parsed.order))
    field = layout_action(parsed, parse_layout("NXHW"), (components, 4, 6))
    assert (field.moved, field.name) == ("HW", "grid")
    # Beside what turns, vectors still do.
    turned = layout_action(parse_group("flip-h"), parse_layout("NXHW"), (2, 4, 6))
    assert turned.name == "components+grid"
