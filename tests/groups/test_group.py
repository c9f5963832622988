import copy
import dataclasses
import pickle
import re

import models
import numpy as np
import pytest
from hypothesis import given, strategies as st

from onnx_geed import GeedError, grid_action, latent_l2, measure, parse_group, product
from onnx_geed.groups import Group, cyclic, dihedral, layout_action, parse_layout
from onnx_geed.groups.named import factors_of, flip, shift

NAMES = ["C1", "C2", "C8", "C12", "D1", "D4", "D8", "flip-h", "flip-v", "shift2x3", "shift1x1"]


@pytest.mark.parametrize("name", NAMES)
def test_every_named_group_satisfies_the_axioms(name):
    group = parse_group(name)
    n, t = group.order, group.table
    assert group.elements[0] == "e"
    for a in range(n):
        assert t[0, a] == t[a, 0] == a
        assert t[a, group.inverse(a)] == t[group.inverse(a), a] == 0
        for b in range(n):
            for c in range(n):
                assert t[t[a, b], c] == t[a, t[b, c]]


def test_element_names_are_those_of_the_contract():
    assert parse_group("C4").elements == ("e", "r1", "r2", "r3")
    assert parse_group("D2").elements == ("e", "r1", "s", "sr1")
    assert parse_group("flip-v").elements == ("e", "flip")
    assert parse_group("shift2x3").elements == ("e", "t0,1", "t0,2", "t1,0", "t1,1", "t1,2")


def test_a_mirror_turns_rotations_round():
    d8 = parse_group("D8")
    r, s = d8.index("r1"), d8.index("s")
    assert d8.elements[d8.table[s, r]] == "sr1"
    assert d8.elements[d8.table[r, s]] == "sr7"


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_product_multiplies_factor_by_factor(a, b):
    left, right = cyclic(a), cyclic(b)
    both = product(left, right)
    x, y = (a - 1) * b + (b - 1), (a // 2) * b + b // 2
    i = left.table[a - 1, a // 2]
    j = right.table[b - 1, b // 2]
    assert both.table[x, y] == i * b + j


@pytest.mark.parametrize("members", [[0, 2, 4, 6], [0, 4], [0], list(range(8))])
def test_subgroups_of_c8_are_recognised(members):
    assert parse_group("C8").is_subgroup(members)


@pytest.mark.parametrize("members", [[0, 1], [2, 4, 6], [0, 2, 6], [0, 3]])
def test_other_subsets_are_not(members):
    assert not parse_group("C8").is_subgroup(members)


@pytest.mark.parametrize(
    "name",
    [
        *("C0", "c", "D", "flip", "shift", "S", "S4~", "C4-w", "hue", "SO3~", "C4*", "oh"),
        *("", "C-3", "shift0x2"),
    ],
)
def test_unknown_names_say_what_is_known(name):
    with pytest.raises(GeedError, match=r"C<n>.*shift<a>x<b>"):
        parse_group(name)


def test_a_group_too_large_to_run_is_refused():
    with pytest.raises(GeedError, match="1024"):
        parse_group("C5000")


def test_a_table_that_is_no_group_is_refused():
    with pytest.raises(GeedError, match="multiplication table"):
        Group("X", ("e", "a", "b"), np.array([[0, 1, 2], [1, 0, 2], [2, 2, 0]]))
    # A Latin square with identity that is not associative (a loop of order 5).
    loop = np.array(
        [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    )
    with pytest.raises(GeedError, match="multiplication table"):
        Group("L5", tuple("eabcd"), loop)


C4, KLEIN = parse_group("C4"), product(cyclic(2), cyclic(2)).table

OWN = {
    "other names": Group("C4", ("e", "a", "b", "c"), C4.table),
    "names in another order": Group("C4", ("e", "r3", "r2", "r1"), C4.table[:, :]),
    "another table": Group("C4", ("e", "r1", "r2", "r3"), KLEIN),
    "another group's elements": Group("C4", ("e", "r1", "s", "sr1"), KLEIN),
    "a rotation named as a mirror": Group("flip-h", ("e", "r1"), cyclic(2).table),
    "a name of one's own": Group("Klein", ("e", "a", "b", "c"), KLEIN),
    "a product": product(cyclic(2), cyclic(2)),
    "a product with a rotation's name": product(cyclic(2), cyclic(2), name="C4"),
    "a shift's elements mixed": Group("shift2x2", ("e", "t1,0", "t0,1", "t1,1"), KLEIN),
    "a name too large": Group("C5000", ("e", "r1"), cyclic(2).table),
    "a dihedral name": Group("D2", ("e", "x", "y", "z"), KLEIN),
}


@pytest.mark.parametrize("group", OWN.values(), ids=OWN)
def test_a_group_of_ones_own_is_refused_by_what_is_not_known_of_it(group, tmp_path):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "net.onnx")
    images = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    with pytest.raises(GeedError, match=f"group {group.name}: .*an image is not known") as caught:
        measure(tmp_path / "net.onnx", images, group, samples=3)
    assert "\n" not in str(caught.value)
    assert "action of your own" not in str(caught.value)
    with pytest.raises(GeedError, match="is not known"):
        grid_action(group, 8, 8)
    # Its own table and elements are enough for activations that are at hand.
    rows = np.random.default_rng(0).standard_normal((2, group.order, 3)).astype(np.float32)
    assert latent_l2(rows, group).shape == (2, group.order)


def test_one_group_of_a_name_does_not_stand_for_another():
    assert grid_action(C4, 6, 6).kernel_of_action() == (0,)
    for other in OWN.values():
        assert other != C4
        with pytest.raises(GeedError):
            grid_action(other, 6, 6)
    assert Group("C4", C4.elements, KLEIN) != C4  # equal but for the table


@pytest.mark.parametrize("name", NAMES)
def test_a_named_group_written_out_in_full_is_that_group(name):
    group = parse_group(name)
    written = Group(name, list(group.elements), group.table.tolist())
    assert written == group
    assert hash(written) == hash(group)
    size = 12
    if group.order > 1:
        ours, theirs = grid_action(written, size, size), grid_action(group, size, size)
        np.testing.assert_array_equal(ours.moves.permutation, theirs.moves.permutation)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_survives_pickling_with_what_it_does(name):
    group = parse_group(name)
    again = pickle.loads(pickle.dumps(group))
    assert again == group
    assert again.motions == group.motions
    assert len(again.motions) == group.order
    assert copy.deepcopy(group) == group


def test_a_group_under_another_name_has_no_action():
    renamed = dataclasses.replace(C4, name="mine")
    assert renamed != C4
    with pytest.raises(GeedError, match="group mine: "):
        grid_action(renamed, 6, 6)


def test_a_table_cannot_be_changed_afterwards():
    table = cyclic(3).table.copy()
    group = Group("X", ("e", "a", "b"), table)
    table[0, 0] = 2
    assert group.table[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        group.table[0, 0] = 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Group("X", ("e", "a"), [[1, 0], [0, 1]]), "that is a: put it first"),
        (lambda: Group("X", ("e", "a"), [[0, 1], [1, 1]]), "the row of a does not hold each"),
        (lambda: Group("X", ("e", "a", "b"), [[0, 1, 2], [0, 2, 1], [2, 0, 1]]), "the column of e"),
        (lambda: Group("X", ("e", "a"), [[0, 1], [1, -1]]), "the row of a"),
        (lambda: Group("X", ("e", "a"), [[0, 1], [1, 2**40]]), "the row of a"),
        (lambda: Group("X", ("e", "a"), [[0.0, 1.0], [1.0, 0.0]]), "whole numbers.*float64"),
        (lambda: Group("X", ("e", "a"), [[False, True], [True, False]]), "whole numbers.*bool"),
        (lambda: Group("X", ("e", "a"), [[0, 1], [1]]), "rows differ in length"),
        (lambda: Group("X", ("e", "a"), [0, 1]), r"need a \(2, 2\) table, found \(2,\)"),
        (lambda: Group("X", ("e", "a"), None), "table is one array of numbers, found None"),
        (lambda: Group("X", (), np.zeros((0, 0), int)), "the number of elements: .*found 0"),
        (
            lambda: Group("X", ("e", 1), [[0, 1], [1, 0]]),
            r"elements is a list of texts, found .*\('e', 1\)",
        ),
        (
            lambda: Group("X", "ea", [[0, 1], [1, 0]]),
            "elements is a list of texts, found a text, 'ea'",
        ),
        (lambda: Group("X", ("e", "e"), [[0, 1], [1, 0]]), "names repeat"),
        (lambda: Group("", ("e",), [[0]]), "a group's name is empty"),
        (lambda: Group(4, ("e",), [[0]]), "name is a text, found the number 4"),
        (lambda: cyclic(0), "n: give a whole number from 1 to 4096, found 0"),
        (lambda: cyclic(10**9), "n: give a whole number from 1 to 4096, found 1000000000"),
        (lambda: cyclic(10**400), "n is a whole number, found one of over 100 digits"),
        (lambda: dihedral(2049), "n: give a whole number from 1 to 2048, found 2049"),
        (lambda: product(cyclic(64), cyclic(65)), "left and right: .*from 1 to 4096, found 4160"),
        (lambda: cyclic("4"), "n is a whole number, found a text, '4'"),
        (lambda: dihedral(2.0), "n is a whole number, found the number 2.0"),
        (lambda: flip("x"), "choose h or v"),
        (lambda: shift(2, 0), "n: give a whole number from 1 to 4096, found 0"),
        (lambda: product(C4, "C2"), r"right is a Group, found a text, 'C2': give .*parse_group"),
        (lambda: product(C4, cyclic(2), elements=["e", "a"]), r"2 elements need a \(2, 2\) table"),
        (lambda: parse_group(4), "a group is a name such as C8"),
        (lambda: parse_group(None), "found None"),
        (lambda: C4.index("r9"), "it has e, r1, r2, r3"),
        (lambda: C4.is_subgroup([0, 4]), "numbered 0 to 3, found 4"),
        (lambda: C4.is_subgroup([0, -2]), "numbered 0 to 3, found -2"),
        (lambda: C4.is_subgroup([0, "r2"]), r"members is a list of whole numbers, found .*'r2'"),
    ],
)
def test_a_mistake_in_a_group_is_one_line(make, message):
    with pytest.raises(GeedError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_is_not_associative_is_shown_by_three_elements():
    loop = np.array(
        [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    )
    with pytest.raises(GeedError, match=r"multiplication table.*: ") as caught:
        Group("L5", tuple("eabcd"), loop)
    named = re.search(r"\((.)·(.)\)·(.) is not", str(caught.value)).groups()
    a, b, c = map("eabcd".index, named)
    assert loop[loop[a, b], c] != loop[a, loop[b, c]]


# A loop of order 5, and beside it groups: what is made of both is a group only in part.
LOOP = np.array(
    [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
)
TABLES = [parse_group(name).table for name in ("C1", "C2", "C3", "D3", "D4")]


def direct(left, right):
    return (left[:, None, :, None] * len(right) + right[None, :, None, :]).reshape(
        len(left) * len(right), -1
    )


@given(st.sampled_from(TABLES), st.sampled_from([*TABLES, LOOP]), st.booleans(), st.data())
def test_a_loop_is_taken_for_a_group_only_where_every_product_associates(a, b, first, data):
    table = direct(b, a) if first else direct(a, b)
    n = len(table)
    names = np.array([0, *data.draw(st.permutations(range(1, n)))])
    renamed = np.empty_like(table)
    renamed[np.ix_(names, names)] = names[table]
    every = np.arange(n)
    left, right = renamed[renamed], renamed[every[:, None, None], renamed[None]]
    assert np.array_equal(left, right) == (b is not LOOP)
    try:
        Group("X", [f"x{i}" for i in every], renamed)
        taken = True
    except GeedError as error:
        taken = "·" not in str(error)
    assert taken == (b is not LOOP)


@pytest.mark.parametrize(
    "name",
    ["C8", "D4", "shift2x2", "shift4", "reverse", "revcomp", "S4", "O", "Oh", "C4-x", "hue3"],
)
def test_the_inverse_of_a_factor_is_that_of_each_element(name):
    group = parse_group(name)
    inverses = [group.inverse(g) for g in range(group.order)]
    for factor in factors_of(group):
        undone, expected = factor.inverse(), factor.of(inverses)
        each = dataclasses.fields(factor)[0].name
        if each == "matrices":
            np.testing.assert_allclose(undone.matrices, expected.matrices, atol=1e-12)
        else:
            assert undone == expected


def test_what_a_sampled_group_does_to_points_is_undone():
    x = np.random.default_rng(0).normal(size=(5, 3))
    for name, axes, lengths in (("SO3~24", "NPX", (5, 3)), ("O3~48", "NPX", (5, 3))):
        action = layout_action(parse_group(name), parse_layout(axes), lengths, of_input=True)
        there, back = action.behind(3, 7), action.undoing(3, 7)
        for g in range(action.group.order):
            moved = there.apply(g, x)
            assert not np.allclose(moved, x, atol=1e-3)
            np.testing.assert_allclose(back.apply(g, moved), x, atol=1e-12)
