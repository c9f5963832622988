"""Sums of many layers in one call: whole orbits, pieces of one, and other samples' references."""

import pickle

import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.groups import FunctionAction, parse_layout, place
from onnx_geed.measures import (
    Measure,
    channel_sums_of_orbits,
    f_hat,
    map_memory,
    map_sums,
    operands_of_orbits,
)

RNG = np.random.default_rng(0)
CASES = [
    *[("C8", 9, 9), ("C8", 8, 8), ("C8", 16, 16), ("C8", 6, 9), ("C8", 2, 2), ("D4", 7, 7)],
    *[("D8", 8, 8), ("D8", 5, 8), ("C12", 9, 9), ("shift2x2", 6, 8), ("flip-h", 3, 5)],
]


def orbits(group, channels, h, w, n=2, seed=0):
    shape = (n, group.order, channels, h, w)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def table(group, channels):
    """A table of channels: generators shift them, as far as the group allows."""
    rows = naive_table(group, channels)
    return geed.Table(group.elements, "channels", rows, "t")


def naive_table(group, channels):
    step = channels // group.order if channels % group.order == 0 else 0
    return np.array([np.roll(np.arange(channels), -step * k) for k in range(group.order)])


def own_action(group, channels, side):
    """Quarter turns as a function of one's own."""

    def move(g, x):
        return np.rot90(x, g, axes=(-2, -1))

    action = FunctionAction(group, move, name="own")
    return place(action, parse_layout("NCHW"), (channels, side, side))


def pieces_of(order):
    """Elements one by one, in halves, in an order of their own, and one of them twice."""
    half = order // 2
    yield from ((g,) for g in range(order))
    yield tuple(range(0, order, 2))
    yield tuple(range(order))[::-1]
    yield (0, half, half)


def naive_sums(u, v):
    u, v = u.astype(float), v.astype(float)
    axes = tuple(range(3, u.ndim))
    return np.stack([(u * v).sum(axes), (u * u).sum(axes), (v * v).sum(axes)], axis=-1)


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize(("name", "h", "w"), CASES)
@pytest.mark.parametrize("channels", [1, 8, 19])
def test_pieces_are_whole_orbits_bit_for_bit(name, h, w, channels, support):
    group = geed.parse_group(name)
    measure = Measure("channel-cos", "t", geed.grid_action(group, h, w), support)
    y = orbits(group, channels, h, w)
    references = f_hat(measure, operands_of_orbits(measure, y))
    (whole,) = map_sums([measure]).of([y], [references])
    np.testing.assert_array_equal(whole, channel_sums_of_orbits(measure, y))
    for elements in pieces_of(group.order):
        prepared = map_sums([measure], elements)
        (piece,) = prepared.of([y[:, list(elements)]], [references])
        np.testing.assert_array_equal(piece, whole[:, list(elements)])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("name", "h", "w"), [("C8", 9, 9), ("D8", 5, 8), ("C12", 17, 17)])
def test_sums_are_those_of_maps_moved_one_by_one(name, h, w, interpolation):
    group = geed.parse_group(name)
    action = geed.grid_action(group, h, w, interpolation)
    measure = Measure("channel-cos", "t", action)
    y = orbits(group, 11, h, w)
    (got,) = map_sums([measure]).of([y], [y[:, 0]])
    moved = np.stack([action.apply(g, y[:, 0]) for g in range(group.order)], axis=1)
    np.testing.assert_allclose(got, naive_sums(y, moved.astype(np.float32)), rtol=1e-5, atol=1e-5)


def test_layers_of_all_kinds_go_together_and_none_changes_another():
    group = geed.parse_group("C4")
    bare = geed.grid_action(group, 9, 9)
    sizes = [(3, 9), (8, 9), (3, 9), (40, 4), (2, 70)]
    measures = [
        Measure("channel-cos", "a", bare),
        Measure("channel-cos", "b", geed.with_channels(bare, table(group, 8)), "disk"),
        Measure("channel-cos", "c", own_action(group, 3, 9), "disk"),
        Measure("channel-cos", "d", geed.grid_action(group, 4, 4)),
        Measure("channel-cos", "e", geed.grid_action(group, 70, 70)),
    ]
    y = [orbits(group, c, side, side, seed=c) for c, side in sizes]
    together = map_sums(measures).of(y, [maps[:, 0] for maps in y])
    for measure, maps, sums in zip(measures, y, together, strict=True):
        (alone,) = map_sums([measure]).of([maps], [maps[:, 0]])
        np.testing.assert_array_equal(sums, alone)
        np.testing.assert_array_equal(sums, channel_sums_of_orbits(measure, maps))
    for elements in pieces_of(group.order):
        some = list(elements)
        pieces = map_sums(measures, elements).of([m[:, some] for m in y], [m[:, 0] for m in y])
        for whole, piece in zip(together, pieces, strict=True):
            np.testing.assert_array_equal(piece, whole[:, some])


def test_a_channel_table_says_where_channels_go():
    group = geed.parse_group("C4")
    action = geed.with_channels(geed.grid_action(group, 6, 6), table(group, 8))
    y = orbits(group, 8, 6, 6)
    (got,) = map_sums([Measure("channel-cos", "t", action)]).of([y], [y[:, 0]])
    rows = naive_table(group, 8)
    moved = [np.rot90(y[:, 0][:, rows[k]], k, axes=(2, 3)) for k in range(4)]
    np.testing.assert_allclose(got, naive_sums(y, np.stack(moved, axis=1)), rtol=1e-6, atol=1e-5)
    assert (rows[1] != rows[0]).all()


def test_an_action_of_ones_own_moves_the_references_itself():
    group = geed.parse_group("C4")
    measure = Measure("channel-cos", "t", own_action(group, 3, 5))
    y = orbits(group, 3, 5, 5)
    (got,) = map_sums([measure]).of([y], [y[:, 0]])
    moved = np.stack([np.rot90(y[:, 0], k, axes=(2, 3)) for k in range(4)], axis=1)
    np.testing.assert_allclose(got, naive_sums(y, moved), rtol=1e-6, atol=1e-5)


def test_references_may_be_those_of_other_samples():
    group = geed.parse_group("C8")
    measure = Measure("channel-cos", "t", geed.grid_action(group, 9, 9))
    y = orbits(group, 5, 9, 9, n=3)
    mixed = y.copy()
    mixed[:, 0] = y[::-1, 0]
    prepared = map_sums([measure])
    (others,) = prepared.of([y], [y[::-1, 0]])
    (want,) = prepared.of([mixed], [mixed[:, 0]])
    np.testing.assert_array_equal(others[:, 1:], want[:, 1:])
    (own,) = prepared.of([y], [y[:, 0]])
    assert (others[[0, 2], :, :, 0] != own[[0, 2], :, :, 0]).all()


@pytest.mark.parametrize("elements", [None, (0, 2), (1, 3), (3, 1, 0)])
def test_both_comparisons_at_once_have_the_bits_of_each(elements):
    group = geed.parse_group("C4")
    bare = geed.grid_action(group, 9, 9)
    sizes = [(3, 9), (8, 9), (3, 9), (40, 4), (2, 70), (9, 56)]
    measures = [
        Measure("channel-cos", "a", bare),
        Measure("channel-cos", "b", geed.with_channels(bare, table(group, 8)), "disk"),
        Measure("channel-cos", "c", own_action(group, 3, 9), "disk"),
        *[Measure("channel-cos", str(s), geed.grid_action(group, s, s)) for s in (4, 70, 56)],
    ]
    some = list(range(4) if elements is None else elements)
    y = [orbits(group, c, side, side, n=3, seed=c) for c, side in sizes]
    earlier = [orbits(group, c, side, side, n=1, seed=c + 99)[:, 0] for c, side in sizes]
    maps, references = [m[:, some] for m in y], [m[:, 0] for m in y]
    prepared = map_sums(measures, elements)
    own = prepared.of(maps, references)
    first = prepared.of([m[:1] for m in maps], earlier)
    later = prepared.of([m[1:] for m in maps], [r[:-1] for r in references])
    for before, following in (([], 0), (earlier, 0), ([], 1), ([], 2), (earlier, 2)):
        got, between = prepared.of_both(maps, references, before, following)
        for a, b in zip(got, own, strict=True):
            np.testing.assert_array_equal(a, b)
        assert len(between) == (len(sizes) if before or following else 0)
        for sums, of_first, of_later in zip(between, first, later, strict=bool(between)):
            if before:
                np.testing.assert_array_equal(sums[:1], of_first)
            np.testing.assert_array_equal(sums[1 : 1 + following], of_later[:following])
    assert all((a[0] != b[0]).any() for a, b in zip(own, first, strict=True))


def test_a_reference_before_of_another_shape_is_refused():
    group = geed.parse_group("C4")
    y = orbits(group, 4, 6, 6)
    prepared = map_sums([Measure("channel-cos", "t", geed.grid_action(group, 6, 6))])
    for before in (y[:, 0], y[:1, 0, :3], y[:1, 0, ..., :5]):
        with pytest.raises(GeedError, match="a reference before of another shape"):
            prepared.of_both([y], [y[:, 0]], [before])


@pytest.mark.parametrize("side", [2, 7, 33])
def test_nan_in_a_map_or_reference_shows_in_its_sums_and_no_others(side):
    group = geed.parse_group("C8")
    measure = Measure("channel-cos", "t", geed.grid_action(group, side, side))
    y = orbits(group, 9, side, side)
    y[1, 3, 8, -1, -1] = np.nan
    (sums,) = map_sums([measure]).of([y], [y[:, 0]])
    assert np.isnan(sums[1, 3, 8, :2]).all()
    sums[1, 3, 8, :2] = 0
    assert np.isfinite(sums).all()
    y[1, 0, 2, side // 2, side // 2] = np.nan
    (sums,) = map_sums([measure]).of([y], [y[:, 0]])
    assert np.isnan(sums[1, :, 2, 0]).all()
    assert np.isfinite(np.delete(sums[1], [2, 8], axis=1)).all()


def test_what_lies_otherwise_in_memory_is_copied_and_gives_the_same():
    group = geed.parse_group("C8")
    measure = Measure("channel-cos", "t", geed.grid_action(group, 7, 7))
    y = orbits(group, 6, 7, 7)
    prepared = map_sums([measure])
    (want,) = prepared.of([y], [y[:, 0]])
    last = np.ascontiguousarray(y.transpose(0, 1, 3, 4, 2)).transpose(0, 1, 4, 2, 3)
    swapped = y.astype(">f4")
    single = np.ascontiguousarray(y[:, 0])
    readonly = y.copy()
    readonly.flags.writeable = False
    for maps, references in (
        (last, last[:, 0]),
        (swapped, swapped[:, 0]),
        (y.astype(np.float64), y[:, 0].astype(np.float64)),
        (readonly.reshape(*y.shape[:3], -1), single.reshape(2, 6, -1)),
        (y[::-1][::-1], single[::-1][::-1]),
    ):
        assert maps.shape[:3] == y.shape[:3]
        np.testing.assert_array_equal(prepared.of([maps], [references])[0], want)
    np.testing.assert_array_equal(prepared.of([y[:0]], [y[:0, 0]])[0], want[:0])


def test_arrays_of_another_shape_are_refused_and_never_read():
    group = geed.parse_group("C4")
    action = geed.with_channels(geed.grid_action(group, 6, 6), table(group, 4))
    prepared = map_sums([Measure("channel-cos", "t", action)])
    y = orbits(group, 4, 6, 6)
    for maps, references in (
        (y[:, :3], y[:, 0]),
        (y[..., :5], y[:, 0]),
        (y, y[:1, 0]),
        (y, y[:, 0, :3]),
        (y, y[:, 0, ..., :5]),
        (y[:, :, :3], y[:, 0, :3]),
    ):
        with pytest.raises(GeedError, match="shape"):
            prepared.of([maps], [references])
    own = map_sums([Measure("channel-cos", "t", own_action(group, 3, 6))])
    with pytest.raises(GeedError, match="shape"):
        own.of([y], [y[:, 0]])
    with pytest.raises(ValueError, match="shorter"):
        prepared.of([], [])


def test_tables_can_be_sent_to_another_process():
    group = geed.parse_group("C8")
    measures = [Measure("channel-cos", "t", geed.grid_action(group, s, s)) for s in (7, 7, 4)]
    prepared = map_sums(measures, (1, 3))
    y = [orbits(group, 3, s, s)[:, [1, 3]] for s in (7, 7, 4)]
    sent = pickle.loads(pickle.dumps(prepared))
    for a, b in zip(*(p.of(y, [m[:, 0] for m in y]) for p in (prepared, sent)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_of_one_grid_share_their_tables():
    group = geed.parse_group("C8")
    one = Measure("channel-cos", "t", geed.grid_action(group, 9, 9))
    assert len(map_sums([one] * 5).tables) == len(map_sums([one]).tables)
    assert map_sums([one], (0, 4)).layers["bases"] == [0]  # half turns need no resampling


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 8, 11])
@pytest.mark.parametrize(("name", "h", "w"), CASES)
def test_channels_one_by_one_have_the_bits_of_eight(
    name, h, w, channels, interpolation, monkeypatch
):
    group = geed.parse_group(name)
    measure = Measure("channel-cos", "t", geed.grid_action(group, h, w, interpolation))
    y = orbits(group, channels, h, w)
    for elements in pieces_of(group.order):
        maps = [np.ascontiguousarray(y[:, list(elements)])]
        (eight,) = map_sums([measure], elements).of(maps, [y[:, 0]])
        with monkeypatch.context() as patched:
            patched.setattr(map_memory, "_EIGHT_BYTES", -1)
            alone = map_sums([measure], elements)
        assert alone.layers["lanes"] == [1]
        np.testing.assert_array_equal(alone.of(maps, [y[:, 0]])[0], eight)


def test_maps_that_would_take_too_much_are_moved_channel_by_channel():
    group = geed.parse_group("flip-h")
    small, large = (
        map_sums([Measure("channel-cos", "t", geed.grid_action(group, side, side))])
        for side in (64, 2048)
    )
    assert (small.layers["lanes"], large.layers["lanes"]) == ([8], [1])
