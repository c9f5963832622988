import json
import warnings
import zipfile

import models
import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed import GeedError, Table, grid_action, parse_group, read_table, with_channels
from onnx_geed.groups import (
    Exactness,
    Fit,
    layout_action,
    parse_layout,
    parse_table,
    read_tables,
    rows_for,
    subgroup_table,
    table_to_json,
    vector_action,
    write_fits,
)
from onnx_geed.model import action_key

ACTION = action_key("")
C4 = parse_group("C4")
CYCLE = np.array([np.roll(np.arange(4), k) for k in range(4)])


def test_rows_are_matched_by_element_name(tmp_path):
    order = [2, 0, 3, 1]
    path = tmp_path / "t.npz"
    np.savez(path, elements=[C4.elements[i] for i in order], permutation=CYCLE[order])
    np.testing.assert_array_equal(rows_for(read_table(path), C4), CYCLE)


@pytest.mark.parametrize("kind", [complex, str])
def test_a_table_consists_of_real_numbers(tmp_path, kind):
    matrices = np.stack([np.eye(3)] * 4)
    np.savez(tmp_path / "t.npz", elements=C4.elements, matrices=matrices.astype(kind))
    with pytest.raises(GeedError, match=r"'matrices' holds .*real numbers; save it as float64"):
        read_table(tmp_path / "t.npz")


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
    with pytest.raises(GeedError, match="'e' must be the identity"):
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
        ({"elements": C4.elements, "channels": [["a"]] * 4}, "channels is one array of numbers"),
        ({"elements": C4.elements, "channels": [[2**63]] * 4}, "not an array of numbers"),
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


# matrices on channels

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
TURNS = np.array([np.linalg.matrix_power(TURN, k) for k in range(4)])
SKEWED = np.array([[1.0, 0.5], [0.0, 1.0]]) @ TURNS @ np.array([[1.0, -0.5], [0.0, 1.0]])
FIT = Fit("linear", "y", 9)


def mixing(matrices, group=C4, **more):
    return Table(group.elements, "channel_matrices", np.array(matrices), "t", **more)


def test_matrices_mix_channels_while_the_grid_moves():
    x = np.random.default_rng(1).standard_normal((3, 2, 5, 5))
    action = with_channels(grid_action(C4, 5, 5), mixing(SKEWED))
    for k in range(4):
        want = np.zeros_like(x)
        for c in range(2):
            for d in range(2):
                want[:, c] += SKEWED[k, c, d] * np.rot90(x[:, d], k, axes=(1, 2))
        np.testing.assert_allclose(action.apply(k, x), want, rtol=1e-12)
    np.testing.assert_array_equal(action.kept_still().apply(1, x), x)


@pytest.mark.parametrize("layout", ["NCHW", "NPCX", "NTPC", "NC", "NK", "NXHWC"])
def test_matrices_mix_what_the_layout_calls_channels(layout):
    layout = parse_layout(layout)
    lengths = tuple({"C": 2, "K": 2, "X": 2}.get(letter, 3) for letter in layout.kept)
    bare = layout_action(C4, layout, lengths)
    action = with_channels(bare, mixing(SKEWED))
    x = np.random.default_rng(1).standard_normal((4, *lengths))
    for k in range(4):
        want = np.einsum("ij,nj...->ni...", SKEWED[k], bare.apply(k, x))
        np.testing.assert_allclose(action.apply(k, x), want, rtol=1e-12)
    # An array's moved channels do not depend on what is moved with it, to the last bit.
    alone = [action.apply(1, array) for array in x]
    np.testing.assert_array_equal(action.apply(1, x), alone)


def test_what_matrices_only_permute_and_sign_is_exact():
    grid = grid_action(parse_group("C8"), 5, 5)
    eighth = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
    powers = [np.linalg.matrix_power(TURN, k // 2) @ [np.eye(2), eighth][k % 2] for k in range(8)]
    turned = with_channels(grid, mixing(powers, grid.group))
    index, resampled = Exactness.INDEX, Exactness.RESAMPLED
    assert turned.exact() == (index, resampled) * 4
    points = layout_action(grid.group, parse_layout("NPC"), (3, 2))
    assert with_channels(points, mixing(powers, grid.group)).exact() == (
        (index, Exactness.MATRIX) * 4
    )
    twice = np.array([TURNS[0], TURNS[0] + TURNS[1], TURNS[2], TURNS[3]])
    skewed = with_channels(points, mixing(powers, grid.group, fit=FIT))
    assert skewed.exact()[1] is Exactness.MATRIX
    rows = layout_action(C4, parse_layout("NPC"), (3, 2))
    assert with_channels(rows, mixing(twice, fit=FIT)).exact()[1] is Exactness.MATRIX


def test_matrices_are_part_of_the_kernel_of_the_action():
    points = layout_action(C4, parse_layout("NPC"), (3, 2))
    assert with_channels(points, mixing(TURNS)).kernel_of_action() == (0,)
    signs = np.array([np.eye(2), -np.eye(2)] * 2)
    assert with_channels(points, mixing(signs)).kernel_of_action() == (0, 2)
    near = with_channels(points, mixing(signs + 4e-7 * np.arange(4)[:, None, None]))
    assert near.kernel_of_action() == (0, 2)
    far = with_channels(points, mixing(signs + 1e-6 * np.arange(4)[:, None, None]))
    assert far.kernel_of_action() == (0,)
    grid = with_channels(grid_action(C4, 5, 5), mixing(signs))
    assert grid.kernel_of_action() == (0,)


def test_a_fit_need_not_compose_but_names_the_elements():
    loose = np.random.default_rng(0).normal(size=(4, 3, 3))
    loose[0] = np.eye(3)
    with pytest.raises(GeedError, match="not an action of C4"):
        rows_for(mixing(loose), C4)
    order = [2, 0, 3, 1]
    shuffled = Table(
        tuple(C4.elements[i] for i in order), "channel_matrices", loose[order], "t", FIT
    )
    np.testing.assert_array_equal(rows_for(shuffled, C4), loose)
    with pytest.raises(GeedError, match="also has r3"):
        rows_for(shuffled, parse_group("C3"))
    with pytest.raises(GeedError, match="'e' must be the identity"):
        rows_for(mixing(loose * 1.1, fit=FIT), C4)


def test_large_matrices_lie_in_memory_once():
    table = mixing(TURNS)
    action = with_channels(grid_action(C4, 5, 5), table)
    assert action.channel_matrices is table.values


def test_elements_without_products_need_not_compose():
    some = parse_group("S4~5")
    assert not some.is_closed
    loose = np.random.default_rng(0).normal(size=(5, 3, 3))
    loose[0] = np.eye(3)
    np.testing.assert_array_equal(rows_for(mixing(loose, some), some), loose)


def test_a_subgroups_matrices_keep_how_they_were_fitted():
    c2 = parse_group("C2")
    small = subgroup_table(mixing(TURNS, fit=FIT), c2)
    assert small is not None
    assert small.fit == FIT
    np.testing.assert_array_equal(small.values, TURNS[[0, 2]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((4, 2, 3)), "must be square"),
        (np.full((4, 2, 2), np.nan), "NaN or infinity"),
        (np.ones((4, 2)), "must have 3 axes"),
        (np.ones((3, 2, 2)), "one entry for each"),
    ],
)
def test_bad_matrices_are_named(values, message):
    with pytest.raises(GeedError, match=message):
        mixing(values)


def test_a_table_file_with_two_members_of_a_name_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, elements=np.array(["e", "r1"]), channels=np.array([[0, 1], [1, 0]]))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the name is there already
        archive.writestr("channels.npy", archive.read("channels.npy"))
    with pytest.raises(GeedError, match=r"a\.npz: .*two members called channels\.npy"):
        read_table(path)


@pytest.mark.parametrize("group", ["hue4", "C4-x", "C4-y"])
def test_a_table_of_turns_of_the_plane_is_none_of_other_turns_of_the_same_names(group):
    other = parse_group(group)
    assert other.elements == C4.elements
    plain = Table(C4.elements, "permutation", CYCLE, "t")
    # A model's table that does not say its group is taken by the names, and a note says so; but
    # colours have no given action on hidden tensors.
    assert subgroup_table(plain, other) is (None if group == "hue4" else plain)
    own = Table(C4.elements, "permutation", CYCLE, "t", group=group)
    assert subgroup_table(own, other) is own
    assert subgroup_table(own, C4) is None
    with pytest.raises(GeedError, match=rf"is for group {group}, not for C4, whose elements do"):
        rows_for(own, C4)
    # Given by the user for this run, a table without a group is for the group that acts.
    np.testing.assert_array_equal(rows_for(plain, other), CYCLE)


def test_a_table_of_one_mirror_is_none_of_the_other():
    swap = np.array([[0, 1], [1, 0]])
    across, down = parse_group("flip-h"), parse_group("flip-v")
    of_one = Table(("e", "flip"), "permutation", swap, "t", group="flip-h")
    assert subgroup_table(of_one, across) is of_one
    assert subgroup_table(of_one, down) is None
    with pytest.raises(GeedError, match="is for group flip-h, not for flip-v"):
        rows_for(of_one, down)
    # The mirror of D4 is that of flip-h, and after half a turn that of flip-v.
    d4 = parse_group("D4")
    rows = np.tile(np.arange(2), (8, 1))
    rows[4:] = [1, 0]
    part = subgroup_table(Table(d4.elements, "permutation", rows, "t"), across)
    assert part is not None
    np.testing.assert_array_equal(rows_for(part, across), swap)
    rows[6] = [0, 1]
    rows[[1, 3]] = [1, 0]
    rows[[5, 7]] = [0, 1]
    part = subgroup_table(Table(d4.elements, "permutation", rows, "t"), down)
    assert part is not None
    np.testing.assert_array_equal(part.values, rows[[0, 6]])


def test_a_sample_of_a_larger_group_takes_whole_tables_alone():
    table = Table(C4.elements, "permutation", CYCLE, "t")
    part = subgroup_table(table, parse_group("C8"))
    assert part is not None
    assert part.partial
    assert part.elements == ("e", "r2", "r4", "r6")
    # A value over some with a row and some without would depend on how many there are.
    assert subgroup_table(table, parse_group("SO2~8")) is None
    whole = subgroup_table(table, parse_group("SO2~4"))
    assert whole is not None
    assert not whole.partial


@pytest.mark.parametrize("group", [None, "", "c4", "C4"])
def test_a_group_is_called_as_users_call_it(group):
    content = {"elements": list(C4.elements), "permutation": CYCLE.tolist(), "group": group}
    np.testing.assert_array_equal(rows_for(parse_table(json.dumps(content), "t"), C4), CYCLE)


def test_what_was_fitted_says_its_group_in_its_file(tmp_path):
    net = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    x = np.random.default_rng(0).random((30, 3, 8, 8)).astype(np.float32)
    few = {"samples": 8, "norm_samples": 8, "provider": "cpu"}
    tables = geed.fit_actions(net, x, "flip-h", ["stem"], fit_samples=10, **few)
    write_fits(tmp_path / "t.npz", tables)
    (read,) = read_tables(tmp_path / "t.npz")
    assert read.group == "flip-h"
    asked = {"measures": ["unexplained@stem"], "output_action": {"stem": tmp_path / "t.npz"}, **few}
    geed.measure(net, x, "flip-h", **asked)
    with pytest.raises(GeedError, match=r"t\.npz: is for group flip-h, not for flip-v"):
        geed.measure(net, x, "flip-v", **asked)
    with np.load(tmp_path / "t.npz") as old:
        kept = {name: old[name] for name in old.files if name != "group"}
    np.savez(tmp_path / "old.npz", **kept)  # of earlier versions
    geed.measure(net, x, "flip-h", **{**asked, "output_action": {"stem": tmp_path / "old.npz"}})


def test_a_model_says_which_group_its_table_is_for_or_a_note_does(tmp_path):
    source = models.random_cnn(0, (8, 8))
    swap = [[0, 1, 2, 3], [1, 0, 2, 3]]
    notes = {}
    for said in ("", "flip-v"):
        held = {"elements": ["e", "flip"], "channels": swap}
        text = json.dumps(held | ({"group": said} if said else {}))
        path = models.save(
            models.with_metadata(source, {f"{ACTION}stem": text}), tmp_path / "m.onnx"
        )
        result = geed.measure(
            *(path, np.ones((4, 3, 8, 8), np.float32) * np.arange(8, dtype=np.float32), "flip-h"),
            measures=["channel-cos@stem"],
            provider="cpu",
        )
        notes[said] = [note for note in result["notes"] if ACTION in note]
        action = result["measurements"][0]["output_action"]
        assert action == ("grid" if said else "grid+channels")
    assert "does not say its group" in notes[""][0]
    assert "is for another group than flip-h: not used" in notes["flip-v"][0]
