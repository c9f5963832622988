"""What an action is asked to move is refused in one line where it cannot be moved."""

import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.groups import layout_action, parse_layout

C4 = geed.parse_group("C4")

TURNS = np.array([[(c + g) % 4 for c in range(4)] for g in range(4)])

# By name: the action, and the shape of an array that it moves.
ACTIONS = {
    "grid": (geed.grid_action(C4, 6, 6), (2, 3, 6, 6)),
    "layout": (layout_action(C4, parse_layout("NHWC"), (6, 6, 3)), (2, 6, 6, 3)),
    "trivial": (geed.Trivial(C4), (2, 4)),
    "permutation": (geed.Permutation(C4, TURNS), (2, 4)),
    "matrices": (geed.Matrices(C4, np.eye(4)[TURNS]), (2, 4)),
    "index": (geed.IndexAction(C4, "C", TURNS), (2, 4, 6, 6)),
    "function": (geed.FunctionAction(C4, lambda g, x: np.rot90(x, g, (-2, -1))), (2, 3, 6, 6)),
}


@pytest.fixture(params=ACTIONS)
def case(request):
    action, shape = ACTIONS[request.param]
    return request.param, action, np.random.default_rng(0).normal(size=shape)


def test_arrays_are_moved_lists_too(case):
    _, action, y = case
    for g in range(4):
        moved = action.apply(g, y)
        np.testing.assert_array_equal(action.apply(np.int64(g), y.tolist()), moved)


@pytest.mark.parametrize("g", [-1, 4, 10**30, 0.5, "r1", None, [0], np.array([0, 1])])
def test_what_is_no_element_is_refused(case, g):
    _, action, y = case
    with pytest.raises(GeedError, match=r"^g is ") as caught:
        action.apply(g, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("y", ["abc", None, np.array(["a"]), 1j, [[1], [1, 2]], {}], ids=repr)
def test_what_is_no_array_of_numbers_is_refused(case, y):
    _, action, _ = case
    with pytest.raises(GeedError, match="y is one array of numbers"):
        action.apply(1, y)


@pytest.mark.parametrize(
    "change",
    [
        lambda y: np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, 1)]),
        lambda y: y[..., :-1],
        lambda y: y[..., None],
        lambda y: y.ravel()[0],
        lambda y: y.ravel()[:3],
        lambda y: y[..., :0],
    ],
    ids=range(6),
)
def test_an_array_of_other_lengths_is_refused(case, change):
    name, action, y = case
    if name in ("trivial", "function", "index"):
        pytest.skip("moves arrays of any shape")
    with pytest.raises(GeedError, match=r"y ends with the axes that \w+ moves"):
        action.apply(1, change(y))


def test_a_table_fits_its_axes():
    action, _ = ACTIONS["index"]
    with pytest.raises(GeedError, match="its table has 4 entries, axes C are 3"):
        action.apply(1, np.zeros((2, 3, 6, 6)))
    with pytest.raises(GeedError, match="y has the axes of NCHW, found"):
        action.apply(1, np.zeros((4, 6)))


def test_supports_and_masks_are_looked_at():
    grid = ACTIONS["grid"][0]
    assert grid.inside("full") is None
    assert grid.kernel_of_action(grid.inside("disk")) == (0,)
    with pytest.raises(GeedError, match="choose full or disk"):
        grid.inside("ring")
    for mask in (np.ones(5, bool), np.ones((6, 6)), "x"):
        with pytest.raises(GeedError, match=r"^inside is "):
            grid.kernel_of_action(mask)
