import json

import numpy as np
import pytest

from onnx_geed import GeedError, Table, grid_action, parse_group, read_table, with_channels
from onnx_geed.groups import parse_table, rows_for, subgroup_table, table_to_json, vector_action

C4 = parse_group("C4")
CYCLE = np.array([np.roll(np.arange(4), k) for k in range(4)])


def test_rows_are_matched_by_element_name(tmp_path):
    order = [2, 0, 3, 1]
    path = tmp_path / "t.npz"
    np.savez(path, elements=[C4.elements[i] for i in order], permutation=CYCLE[order])
    np.testing.assert_array_equal(rows_for(read_table(path), C4), CYCLE)


def test_a_table_survives_json():
    table = Table(C4.elements, "channels", CYCLE, "x")
    again = parse_table(table_to_json(table), "x")
    assert again.kind == "channels"
    np.testing.assert_array_equal(again.values, CYCLE)


def test_an_action_must_compose():
    d3 = parse_group("D3")
    good = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]])
    rows = [good, good[[0, 2, 1, 3, 4, 5]]]
    results = []
    for values in rows:
        try:
            rows_for(Table(d3.elements, "permutation", values, "t"), d3)
            results.append(True)
        except GeedError as error:
            results.append("not an action of D3" not in str(error))
    assert sorted(results) == [False, True]


def test_a_projection_is_no_representation():
    projection = np.tile(np.diag([1.0, 0.0]), (4, 1, 1))
    with pytest.raises(GeedError, match="'e' is not the identity"):
        rows_for(Table(C4.elements, "matrices", projection, "t"), C4)


def test_matrices_need_only_compose_within_1e_5():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    powers = np.array([np.linalg.matrix_power(turn, k) for k in range(4)])
    vector_action(Table(C4.elements, "matrices", powers + 1e-6, "t"), C4)
    powers[1] *= 1.001
    with pytest.raises(GeedError, match="not an action"):
        vector_action(Table(C4.elements, "matrices", powers, "t"), C4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"permutation": CYCLE.tolist()}, "needs 'elements'"),
        ({"elements": C4.elements, "chanels": CYCLE.tolist()}, "Did you mean 'channels'"),
        ({"elements": C4.elements[:3], "channels": CYCLE.tolist()}, "one entry for each"),
        ({"elements": C4.elements, "channels": [[0, 0, 1, 2]] * 4}, "not a permutation"),
        ({"elements": C4.elements, "channels": [["a"]] * 4}, "not an array of numbers"),
        ({"elements": C4.elements, "matrices": [[[1, 2]]] * 4}, "must be square"),
    ],
)
def test_bad_tables_are_named(content, message):
    with pytest.raises(GeedError, match=message):
        parse_table(json.dumps(content), "model")


def test_a_table_of_another_group_is_refused():
    table = Table(parse_group("C8").elements, "permutation", np.zeros((8, 1), int), "t")
    with pytest.raises(GeedError, match="also has r4"):
        rows_for(table, C4)


def test_a_subgroups_rows_are_found_by_angle():
    c8 = parse_group("C8")
    big = np.array([np.roll(np.arange(8), k) for k in range(8)])
    small = subgroup_table(Table(c8.elements, "channels", big, "t"), C4)
    assert small is not None
    np.testing.assert_array_equal(small.values, big[[0, 2, 4, 6]])
    assert subgroup_table(Table(C4.elements, "channels", CYCLE, "t"), c8) is None
    assert subgroup_table(Table(c8.elements, "channels", big, "t"), parse_group("flip-h")) is None


def test_pickled_tables_are_refused(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, elements=np.array(["e"], dtype=object), permutation=CYCLE)
    with pytest.raises(GeedError, match="pickled"):
        read_table(path)


def test_channels_move_with_the_grid():
    x = np.random.default_rng(1).standard_normal((4, 5, 5))
    action = with_channels(grid_action(C4, 5, 5), Table(C4.elements, "channels", CYCLE, "t"))
    np.testing.assert_array_equal(action.apply(1, x), np.rot90(x[CYCLE[1]], 1, axes=(1, 2)))
    assert action.kernel_of_action() == (0,)
