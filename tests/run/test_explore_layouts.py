"""Samples run again to be looked at, whose maps lie on no plane or move by a table."""

import json

import models
import numpy as np
import pytest
from explored_layouts import CASES, lifting, of_colours
from test_explore import by_hand

from onnx_geed import FunctionAction, GeedError, measure, parse_group
from onnx_geed.model import action_key
from onnx_geed.run import explore
from onnx_geed.run.map_pictures import plane_of, reading_of

CHOSEN = {"measures": ["channel-cos@a"], "samples": 5, "provider": "cpu"}


def made(folder, net, data, group, **options):
    path, x = models.save(net, folder / "m.onnx"), folder / "x.npy"
    np.save(x, data)
    return measure(path, x, group, **{**CHOSEN, **options}), path, x


def own_cosine(a, b):
    return (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("name", CASES)
def test_maps_of_every_layout_are_shown(tmp_path, name):
    case = CASES[name]
    result, path, x = made(tmp_path, case.net, case.data, case.group, **case.options)
    one = explore(result, path, x, [2, 0])
    assert one.notes == ()
    (layer,) = one.layers
    assert layer.reading == case.reading
    assert layer.found.shape == layer.expected.shape
    assert layer.found.ndim == 5
    # For the image itself they are the network's own, and both the same unless f̂ is a mean.
    row = by_hand(path, case.data[[result["data"]["indices"][2]]], "a")[0]
    first = {
        "series": lambda c: row[c][None],
        "volume": lambda c: row[c, 2],
        "points": lambda c: row[:, c][None],
        "vectors": lambda c: np.linalg.norm(row, axis=0),
        "bases": lambda c: row,
        "tokens": lambda c: row[:, c].reshape(8, 8),
    }[name]
    for k, channel in enumerate(layer.channels):
        np.testing.assert_allclose(layer.found[0, 0, k], first(channel), atol=1e-5)
    np.testing.assert_allclose(layer.found[:, 0], layer.expected[:, 0], atol=1e-5)


def test_a_series_is_held_against_its_reverse(tmp_path):
    case = CASES["series"]
    result, path, x = made(tmp_path, case.net, case.data, case.group, **case.options)
    (layer,) = explore(result, path, x, [1]).layers
    image = case.data[result["data"]["indices"][1]]
    found = by_hand(path, np.stack([image, image[:, ::-1]]), "a")
    for k, channel in enumerate(layer.channels):
        wanted = found[0, channel, ::-1]
        np.testing.assert_allclose(layer.found[0, 1, k, 0], found[1, channel], atol=1e-5)
        np.testing.assert_allclose(layer.expected[0, 1, k, 0], wanted, atol=1e-5)
        cosine = own_cosine(found[1, channel], wanted)
        assert layer.cosines[0, 1, k] == pytest.approx(cosine, abs=1e-5)


def test_the_mean_over_what_leaves_maps_in_place_is_shown(tmp_path):
    """Eq. (2): ker of C4*hue3 on maps is the hues, and the record says so."""
    case = of_colours()
    result, path, x = made(tmp_path, case.net, case.data, case.group, **case.options)
    (entry,) = result["measurements"]
    assert entry["averaged"] == ["e", "e*r1", "e*r2"]
    (layer,) = explore(result, path, x, [1]).layers
    image = case.data[result["data"]["indices"][1]]
    # A third of a turn about the grey axis takes red to green to blue.
    maps = by_hand(path, np.stack([np.roll(image, k, 0) for k in range(3)]), "a").mean(axis=0)
    for g, element in enumerate(result["group"]["elements"]):
        turns = ["e", "r1", "r2", "r3"].index(element.split("*")[0])
        for k, channel in enumerate(layer.channels):
            wanted = np.rot90(maps[channel], turns)
            np.testing.assert_allclose(layer.expected[0, g, k], wanted, atol=1e-5)


def test_a_record_says_nothing_of_a_mean_where_there_is_none_or_that_of_all(tmp_path):
    case = of_colours()
    for group in ("C4", "hue3"):
        result, *_ = made(tmp_path, case.net, case.data, group, **case.options)
        assert "averaged" not in result["measurements"][0]


@pytest.fixture
def with_table(tmp_path):
    net, table = lifting()
    names = np.array(["e", "r1", "r2", "r3"])
    np.savez(tmp_path / "t.npz", elements=names, channels=table)
    data = np.random.default_rng(1).random((6, 1, 9, 9)).astype(np.float32)
    given = {"output_action": {"a": tmp_path / "t.npz"}}
    return (*made(tmp_path, net, data, "C4", **given), net, table, data)


def test_a_table_that_is_given_again_moves_the_channels(with_table, tmp_path):
    result, path, x, _, table, data = with_table
    (layer,) = explore(result, path, x, [0], output_action={"a": tmp_path / "t.npz"}).layers
    row = by_hand(path, data[[result["data"]["indices"][0]]], "a")[0]
    for g in range(4):
        for k, channel in enumerate(layer.channels):
            wanted = np.rot90(row[table[g, channel]], g)
            np.testing.assert_allclose(layer.expected[0, g, k], wanted, atol=1e-5)
    np.testing.assert_allclose(layer.found, layer.expected, atol=1e-5)
    np.testing.assert_allclose(layer.cosines, 1, atol=1e-5)


def test_a_table_of_the_metadata_is_known(with_table, tmp_path):
    _, _, _, net, table, data = with_table
    entry = {"elements": ["e", "r1", "r2", "r3"], "channels": table.tolist()}
    own = models.with_metadata(net, {action_key("a"): json.dumps(entry)})
    result, path, x = made(tmp_path, own, data, "C4")
    assert result["measurements"][0]["output_action"] == "grid+channels"
    one = explore(result, path, x, [0])
    assert one.notes == ()
    np.testing.assert_allclose(one.layers[0].cosines, 1, atol=1e-5)


def test_a_table_that_is_not_known_is_told(with_table, tmp_path):
    result, path, x, _, table, _ = with_table
    one = explore(result, path, x, [0])
    assert one.layers == ()
    assert "give it with --output-action a=FILE.npz" in one.notes[0]
    with pytest.raises(GeedError, match=r"--output-action b: the result is of a; name one"):
        explore(result, path, x, [0], output_action={"b": tmp_path / "t.npz"})
    # Another table than that which was measured.
    other = tmp_path / "other.npz"
    np.savez(other, elements=np.array(["e", "r1", "r2", "r3"]), channels=table[[0, 3, 2, 1]])
    with pytest.raises(GeedError, match="gives other values"):
        explore(result, path, x, [0], output_action={"a": other})


def test_an_action_of_ones_own_is_taken_from_who_has_it(tmp_path):
    turns = FunctionAction(
        parse_group("C4"), lambda g, x: np.rot90(x, g, axes=(-2, -1)), any_size=True
    )
    net, _ = lifting()
    data = np.random.default_rng(1).random((6, 1, 9, 9)).astype(np.float32)
    result, path, x = made(tmp_path, net, data, None, action=turns)
    assert "a page never runs code that a result names" in explore(result, path, x, [0]).notes[0]
    (layer,) = explore(result, path, x, [0], action=turns).layers
    named, *_ = made(tmp_path, net, data, "C4")
    (same,) = explore(named, path, x, [0]).layers
    np.testing.assert_allclose(layer.expected, same.expected, atol=1e-5)
    np.testing.assert_allclose(layer.found, same.found, atol=1e-5)


@pytest.mark.parametrize(
    ("letters", "shape", "picture", "said"),
    [
        ("HW", (3, 4), (3, 4), ""),
        ("DHW", (5, 3, 4), (3, 4), "Shown: the middle one of 5 slices across the depth."),
        ("T", (7,), (1, 7), "Shown: 7 places of the line from left to right."),
        ("P", (7,), (1, 7), "Shown: 7 points from left to right."),
        ("PP", (7, 7), (7, 7), ""),
        ("PX", (7, 3), (1, 7), "Shown: lengths of vectors, 7 points from left to right."),
        ("X", (3,), (1, 3), "Shown: 3 components from left to right."),
        ("BT", (4, 9), (4, 9), "Shown: the bases A, C, G, T from top to bottom."),
        ("XDHW", (3, 6, 5, 4), (5, 4), None),
    ],
)
def test_every_layout_has_a_picture(letters, shape, picture, said):
    maps = np.random.default_rng(0).standard_normal((2, *shape))
    assert plane_of(maps, letters).shape == (2, *picture)
    if said is not None:
        assert reading_of(shape, letters) == said
