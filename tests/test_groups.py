import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_geed import GeedError, parse_group, product
from onnx_geed.groups import Group, cyclic

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


@pytest.mark.parametrize("name", ["C0", "c", "D", "flip", "shift4", "SO2", "", "C-3", "shift0x2"])
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
