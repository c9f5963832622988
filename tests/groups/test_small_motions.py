"""Small rotations, shifts and zooms: their tables, their grids, and what is refused."""

import naive_small as twin
import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Exactness,
    check_moves,
    from_side_to_side,
    layout_action,
    moved_axes,
    on_grid,
    parse_layout,
    turns_of,
    with_components,
)

KINDS = ["rotation", "shift", "zoom"]


def placed(name, *shape, letters="NCHW", **options):
    layout = parse_layout(letters)
    return layout_action(geed.parse_group(name), layout, shape, of_input=True, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 0.5, 2])
@pytest.mark.parametrize("grid", [(9, 9), (8, 11)])
def test_elements_move_a_grid_as_scipy_does(kind, step, grid):
    x = np.random.default_rng(0).normal(size=(2, *grid))
    action = placed(f"small-{kind}~{step}", 2, *grid)
    across = layout_action(from_side_to_side(action.group), parse_layout("NCHW"), x.shape)
    wanted = twin.pairs(kind, step, *grid)
    assert len(wanted) == len(action.group.small.pairs)
    np.testing.assert_array_equal(action.apply(0, x), x)
    for (plus, minus), (forwards, backwards, through) in zip(
        action.group.small.pairs, wanted, strict=True
    ):
        for g, motion in ((plus, forwards), (minus, backwards)):
            np.testing.assert_allclose(action.apply(g, x), twin.moved(motion, x), atol=1e-9)
        np.testing.assert_allclose(across.apply(plus, x), twin.moved(through, x), atol=1e-9)
    # Motions are small: none is another one, and none is nothing.
    tables = [action.apply(g, x) for g in range(action.group.order)]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(tables) for b in tables[:i])


def test_forwards_is_counter_clockwise_right_down_and_larger():
    x = np.zeros((1, 21, 21))
    x[0, 10, 16] = 1  # right of the centre

    def centre_of(name, element):
        action = placed(name, 1, 21, 21)
        image = action.apply(action.group.index(element), x)[0]
        places = np.indices((21, 21)).reshape(2, -1)
        return places @ image.ravel() / image.sum()

    down, right = centre_of("small-rotation~2", "turn+2px")
    assert down < 9.5
    assert right == pytest.approx(16, abs=0.2)
    assert centre_of("small-shift~2", "right+2px") == pytest.approx([10, 18])
    assert centre_of("small-shift~2", "down-2px") == pytest.approx([8, 16])
    # Some of it is lost between pixels.
    wanted = 16 + 6 * 2 / np.hypot(10, 10)
    assert centre_of("small-zoom~2", "zoom+2px")[1] == pytest.approx(wanted, abs=0.1)


def test_shifts_by_whole_pixels_are_exact_and_move_zeros_in():
    x = np.random.default_rng(1).normal(size=(1, 6, 6)).astype(np.float32)
    action = placed("small-shift", 1, 6, 6)
    assert action.exact() == (Exactness.INDEX,) * 5
    right = action.apply(action.group.index("right+1px"), x)
    np.testing.assert_array_equal(right[..., 1:], x[..., :-1])
    assert not right[..., 0].any()
    half = placed("small-shift~0.5", 1, 6, 6)
    assert half.exact() == (Exactness.INDEX, *(Exactness.RESAMPLED,) * 4)
    # A grid of half the size moves by half a pixel, one of twice the size by two.
    hidden = [layout_action(action.group, parse_layout("NCHW"), (1, n, n)) for n in (3, 12)]
    assert [bool(h.exact()[1]) for h in hidden] == [False, True]
    y = np.random.default_rng(2).normal(size=(1, 12, 12))
    np.testing.assert_array_equal(hidden[1].apply(1, y)[..., 2:], y[..., :-2])
    for name in ("small-rotation", "small-zoom"):
        assert [bool(e) for e in placed(name, 1, 6, 6).exact()] == [True, False, False]


def test_a_hidden_grid_is_moved_by_the_same_angle_and_factor():
    for name in ("small-rotation", "small-zoom"):
        group = placed(name, 1, 20, 20).group
        y = np.random.default_rng(3).normal(size=(1, 7, 7))
        kind = name.removeprefix("small-")
        (pair,) = twin.pairs(kind, 1, 20, 20)
        hidden = layout_action(group, parse_layout("NCHW"), (1, 7, 7))
        np.testing.assert_allclose(hidden.apply(1, y), twin.moved(pair[0], y), atol=1e-9)


def test_vectors_in_the_plane_turn_along_in_any_components():
    field = np.zeros((2, 9, 9))
    field[0, 4, 4] = 1  # to the right, at the centre
    angle = 1 / np.hypot(4, 4)
    for components, wanted in (
        ("right-down", (np.cos(angle), -np.sin(angle))),
        ("right-up", (np.cos(angle), np.sin(angle))),
    ):
        group = with_components(geed.parse_group("small-rotation"), components)
        layout = parse_layout("NXHW")
        action = layout_action(group, layout, field.shape, of_input=True)
        np.testing.assert_allclose(action.apply(1, field)[:, 4, 4], wanted, atol=1e-12)
    shifted = placed("small-shift", 2, 9, 9, letters="NXHW").apply(1, field)
    np.testing.assert_array_equal(shifted[:, 4, 5], (1, 0))


def test_names_say_the_step_and_words_the_angle():
    group = geed.parse_group("small-rotation")
    assert (group.name, group.elements) == ("small-rotation~1", ("e", "turn+1px", "turn-1px"))
    assert geed.parse_group("small-rotation~1.0") == group
    assert geed.parse_group("small-shift~0.25").elements[3:] == ("down+0.25px", "down-0.25px")
    assert not group.is_closed
    assert not group.is_subgroup([0, 1, 2])
    assert turns_of(group.name) is None
    assert moved_axes("small-shift~1").letters == moved_axes("small-zoom~1").turned == "HW"
    assert moved_axes("small-shift~1").turned == ""
    told = placed("small-rotation", 1, 28, 28).group.small.told()
    assert told == "turns by ±3.001°, which moves a corner (19.09 px from the centre) by 1 px"
    told = placed("small-zoom", 1, 28, 28).group.small.told()
    assert told.startswith("zooms by 1.0524 and 0.94762, which")


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations_move_too(interpolation):
    x = np.random.default_rng(4).normal(size=(1, 15, 15))
    action = placed("small-rotation~2", 1, 15, 15, interpolation=interpolation)
    plain = placed("small-rotation~2", 1, 15, 15)
    assert np.abs(action.apply(1, x) - plain.apply(1, x)).max() > 1e-3
    if interpolation == "nearest":
        assert {*action.apply(1, x).ravel()} <= {0.0, *x.ravel()}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: geed.parse_group("small-zoom~0"), "above 0 pixels"),
        (lambda: geed.parse_group("small-rotatoin"), "Did you mean 'small-rotation'"),
        (lambda: geed.parse_group("small-zoom*hue3"), "small motions cannot be part of a product"),
        (lambda: geed.parse_group("C4*small-zoom"), "small motions cannot be part of a product"),
        (
            lambda: placed("small-rotation~9", 1, 9, 9),
            "take a smaller step, such as small-",
        ),
        (lambda: placed("small-shift~5", 1, 8, 99), "not small on a grid of 8×99"),
        (lambda: placed("small-shift", 1, 1, 99), "one pixel high or wide"),
        (
            lambda: layout_action(geed.parse_group("small-zoom"), parse_layout("NCHW"), (1, 9, 9)),
            "make the input's action first",
        ),
        (
            lambda: check_moves(placed("small-zoom", 20, 2, letters="NPX")),
            "it moves HW, but the input has P 20, X 2",
        ),
    ],
)
def test_what_is_no_small_motion_is_refused(make, words):
    with pytest.raises(GeedError, match=words) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_group_on_a_grid_stays_as_it_is():
    group = placed("small-zoom", 1, 9, 9).group
    assert on_grid(group, "HW", (30, 30)) is group
    assert on_grid(geed.parse_group("C4"), "HW", (30, 30)) == geed.parse_group("C4")
    assert group == geed.parse_group("small-zoom")
