"""Room that loops are given holds nothing that they read."""

import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed.measures import Measure, layer_sums, map_sums

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("group", ["C8", "D4", "zoom:0.8..1.2/3"])
@pytest.mark.parametrize(("channels", "side"), [(3, 9), (8, 5), (13, 7), (2, 200)])
def test_what_is_left_in_the_room_is_not_seen(monkeypatch, group, channels, side):
    action = geed.grid_action(geed.parse_group(group), side, side)
    sums = map_sums([Measure("channel-cos", "map", action)])
    shape = 2, action.group.order, channels, side * side
    maps = [RNG.normal(size=shape).astype(np.float32)]
    references, before = [maps[0][:, 0]], [maps[0][1:, 0]]
    own, between = sums.of_both(maps, references, before, 1)
    given = layer_sums._room_for
    filled = []

    def full_of_nan(count):
        room = given(count)
        room[:] = np.nan
        filled.append(count)
        return room

    monkeypatch.setattr(layer_sums, "_room_for", full_of_nan)
    again, beside = sums.of_both(maps, references, before, 1)
    assert len(filled) == 3
    assert sum(filled) > 0
    assert np.isfinite(again[0]).all()
    np.testing.assert_array_equal(again[0], own[0])
    np.testing.assert_array_equal(beside[0], between[0])
