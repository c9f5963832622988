"""A table for a subgroup serves the exact part; the other elements are marked, never left out."""

import json

import models
import numpy as np
import pytest
from click.testing import CliRunner
from running import images, orbits, run
from scipy import stats

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.groups import Table, parse_group, rows_for, subgroup_table
from onnx_geed.results import aggregate, compare, read_result

FEW = {"samples": 6, "norm_samples": 8, "provider": "cpu"}
C4, C8 = parse_group("C4"), parse_group("C8")
CYCLE = np.array([np.roll(np.arange(4), k) for k in range(4)])
TABLE = Table(C4.elements, "channels", CYCLE, "t")
QUARTERS = ["e", "r2", "r4", "r6"]
BETWEEN = ["r1", "r3", "r5", "r7"]


def with_tables(model, kind, *layers):
    """The model with the table that is known of it, for C4, in its metadata."""
    table = json.dumps({"elements": list(C4.elements), kind: models.known(model)[kind]})
    return models.with_metadata(model, {f"onnx_geed.action.{layer}": table for layer in layers})


@pytest.fixture
def lifting(tmp_path):
    model = with_tables(models.c4_lifting(), "channels", "map1", "map2")
    fed = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(d.dim_value for d in fed[1:])
    return models.save(model, tmp_path / "lifting.onnx"), images(shape, 8)


def by_table(result):
    return [r for r in result["measurements"] if "channels" in r["output_action"]]


def test_rows_are_found_for_the_elements_that_both_groups_have():
    part = subgroup_table(TABLE, C8)
    assert part is not None
    assert part.partial
    assert part.elements == ("e", "r2", "r4", "r6")
    rows = rows_for(part, C8)
    np.testing.assert_array_equal(rows[[0, 2, 4, 6]], CYCLE)
    np.testing.assert_array_equal(rows[[1, 3, 5, 7]], [np.arange(4)] * 4)
    assert not subgroup_table(Table(C8.elements, "channels", rows, "t"), C4).partial
    # D4 has the rotations of C4; C6 shares the half turn with it, and C3 the identity alone.
    assert subgroup_table(TABLE, parse_group("D4")).elements == C4.elements
    assert subgroup_table(TABLE, parse_group("C6")).elements == ("e", "r3")
    assert subgroup_table(TABLE, parse_group("C3")) is None


def test_a_partial_table_has_to_be_an_action_of_a_subgroup():
    broken = CYCLE.copy()
    broken[2] = np.arange(4)
    with pytest.raises(geed.GeedError, match=r"ρ\(r2\)ρ\(r2\) is not ρ\(r4\)"):
        rows_for(subgroup_table(Table(C4.elements, "channels", broken, "t"), C8), C8)
    some = Table(("e", "r1"), "channels", CYCLE[:2], "t", partial=True)
    with pytest.raises(geed.GeedError, match="not a subgroup of C8"):
        rows_for(some, C8)


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_the_exact_part_is_what_the_subgroup_measures(lifting, engine):
    path, data = lifting
    whole = geed.measure(path, data, "C8", engine=engine, **FEW)
    quarter = geed.measure(path, data, "C4", engine=engine, **FEW)
    records, wanted = by_table(whole), by_table(quarter)
    assert [r["layer"] for r in records] == [r["layer"] for r in wanted]
    assert records
    for record, own in zip(records, wanted, strict=True):
        assert record["exact"]["elements"] == QUARTERS
        assert record["exact"]["value"] == pytest.approx(own["value"], abs=1e-6)
        np.testing.assert_allclose(
            record["exact"]["deviations"], own["deviations"], atol=1e-6, rtol=1e-6
        )
        assert record["without_table"] == BETWEEN
        assert "without_table" not in own
        assert record["output_action"].endswith("(4 of 8 elements)")
        assert sum("no table for r1, r3, r5 and r7" in w for w in record["warnings"]) == 1
        # Nothing is left out: each element has its figure.
        assert list(record["per_element"]) == list(C8.elements)
    assert any("4 of the 8 elements of C8" in note for note in whole["notes"])


# ρ(r) of C12 moves four entries on by one, so that r4 and r8 leave them; C6 through the sign.
WITH_KERNELS = {
    "C12": ("C4", [np.roll(np.arange(4), k) for k in range(12)]),
    "C6": ("C2", [[[0, 1, 2, 3], [1, 0, 3, 2]][k % 2] for k in range(6)]),
}


@pytest.fixture
def scores(tmp_path):
    """A network of four scores, of which no one knows how they move, and its data."""
    model = models.random_cnn(3, (8, 8), classes=4)
    return model, models.save(model, tmp_path / "scores.onnx"), images((3, 8, 8), 12)


def of_table(group):
    rows = np.array(WITH_KERNELS[group][1])
    tables = {"logits": Table(parse_group(group).elements, "permutation", rows, "t")}
    measures = ["unexplained@logits", "flip-rate", "output-l2"]
    return {"output_action": tables, "measures": measures, **FEW, "output_kind": "logits"}


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("group", WITH_KERNELS)
def test_the_exact_part_leaves_out_the_identity_as_its_subgroup_does(scores, group, engine):
    """The subgroup's own kernel of the action is {e}, though the whole group's is larger."""
    model, path, data = scores
    smaller, rows = WITH_KERNELS[group]
    result = geed.measure(path, data, group, engine=engine, **of_table(group))
    of_norms, of_squares, of_classes = result["measurements"]
    chosen = data[result["data"]["indices"]]
    y = orbits(model, smaller, chosen[:6], ["logits"], 99)[0].astype(float)
    step = len(rows) // y.shape[1]
    moved = np.stack([y[:, 0][:, rows[k * step]] for k in range(y.shape[1])], axis=1)
    points = run(model, chosen, ["logits"])[0].astype(float)
    squares = ((y - moved) ** 2).sum(axis=2) / points.var(axis=0, ddof=1).sum()
    per_sample = squares[:, 1:].mean(axis=1)
    exact, names = of_squares["exact"], [f"r{k * step}" for k in range(1, y.shape[1])]
    assert of_squares["averaged"][0] == "e"
    assert list(of_squares["per_element"]) == result["group"]["elements"]
    assert exact["elements"] == ["e", *names] == list(of_norms["exact"]["per_element"])
    assert list(exact["per_element"]) == names == list(of_classes["exact"]["per_element"])
    assert exact["value"] == pytest.approx(per_sample.mean(), rel=1e-4)
    np.testing.assert_allclose(exact["per_sample"], per_sample, rtol=1e-4)
    np.testing.assert_allclose(
        [*exact["per_element"].values()], squares[:, 1:].mean(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(
        np.array(exact["deviations"]) / exact["normaliser"], squares, rtol=1e-4, atol=1e-9
    )
    error = per_sample.std(ddof=1) / np.sqrt(6)
    assert exact["stderr"] == pytest.approx(error, rel=1e-4)
    ends = per_sample.mean() + stats.t.ppf([0.025, 0.975], 5) * error
    np.testing.assert_allclose(exact["ci95"], ends, rtol=1e-4)
    flips = (y.argmax(axis=2) != moved.argmax(axis=2))[:, 1:]
    assert of_classes["exact"]["value"] == pytest.approx(flips.mean())
    assert of_classes["exact"]["interval"] == ("wilson" if y.shape[1] == 2 else "t")
    norms = np.sqrt(((y - moved) ** 2).sum(axis=2))
    assert of_norms["exact"]["value"] == pytest.approx(norms.mean(), rel=1e-4)


def test_the_half_leaves_out_the_identity_by_its_own_kernel(tmp_path):
    """Two tables that are the same on every second element, one of them with r3 in its kernel."""
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "net.onnx")
    data, names = images((3, 8, 8), 12), parse_group("SO2~6").elements
    cycles = [[*np.roll(np.arange(3), k), 3, 4] for k in range(6)]
    faithful = [[*row[:3], *[[3, 4], [4, 3]][k % 2]] for k, row in enumerate(cycles)]
    halves = []
    for rows, averaged in ((cycles, ["e", "r3"]), (faithful, None)):
        table = Table(names, "permutation", np.array(rows), "t")
        asked = {"output_action": {"logits": table}, "measures": ["unexplained@logits"], **FEW}
        (record,) = geed.measure(path, data, "SO2~6", **asked)["measurements"]
        assert record.get("averaged") == averaged
        halves.append(record["half"]["value"])
    assert halves[0] == pytest.approx(halves[1], rel=1e-6)


def test_an_exact_part_is_the_same_from_parts_a_cache_and_as_a_graph(scores, tmp_path):
    _, path, data = scores
    asked = of_table("C12")
    live = geed.measure(path, data, "C12", **asked)["measurements"]
    assert list(live[1]["exact"]["per_element"]) == ["r3", "r6", "r9"]
    parts = [geed.measure(path, data, "C12", shard=f"{i}/2", **asked) for i in (1, 2)]
    assert geed.merge(parts)["measurements"] == live
    write_cache(path, data, "C12", tmp_path / "s.geed", **asked)
    assert measure_cache(tmp_path / "s.geed")["measurements"] == live
    some = {k: v for k, v in asked.items() if k not in ("samples", "norm_samples", "provider")}
    out = tmp_path / "compiled.onnx"
    told = geed.compile_measurement(path, "C12", out, **some)["outputs"]
    means = {(o["measure"], o["part"]): "without the identity" in o["meaning"] for o in told}
    assert not means["unexplained", "deviation"]
    assert means["unexplained", "exact"]
    assert not means["output-l2", "exact"]


def test_elements_without_a_table_are_compared_in_place(lifting, tmp_path):
    path, data = lifting
    plain = geed.measure(
        models.save(models.c4_lifting(), tmp_path / "plain.onnx"), data, "C8", **FEW
    )
    without = {(r["measure"], r["layer"]): r for r in plain["measurements"]}
    for record in by_table(geed.measure(path, data, "C8", **FEW)):
        own = without[record["measure"], record["layer"]]
        assert "without_table" not in own
        for g, element in enumerate(C8.elements):
            same = np.allclose(
                np.array(record["deviations"])[:, g], np.array(own["deviations"])[:, g]
            )
            assert same == (element in (*BETWEEN, "e"))


def test_a_cache_a_part_and_a_file_tell_the_same(lifting, tmp_path):
    path, data = lifting
    live = geed.measure(path, data, "C8", **FEW)
    for mode in ("raw", "stats"):
        write_cache(path, data, "C8", tmp_path / f"{mode}.geed", mode=mode, **FEW)
        cached = measure_cache(tmp_path / f"{mode}.geed")
        assert cached["measurements"] == live["measurements"]
    parts = [geed.measure(path, data, "C8", shard=f"{i}/2", **FEW) for i in (1, 2)]
    assert geed.merge(parts)["measurements"] == live["measurements"]
    np.save(tmp_path / "x.npy", data)
    words = ["measure", path, "--data", tmp_path / "x.npy", "--group", "C8", "--samples", "6"]
    out = tmp_path / "r.json"
    got = CliRunner().invoke(cli, [str(w) for w in (*words, "--norm-samples", "8", "-o", out)])
    assert got.exit_code == 0, got.output
    assert "no table for r1, r3, r5 and r7" in " ".join(got.stdout.split())
    # Of the maps, whose value has no table for some elements, that is not said.
    assert "In 3 of 5 values only resampled elements deviate" in " ".join(got.stdout.split())
    assert by_table(read_result(out)) == by_table(json.loads(out.read_text()))


def test_a_partial_table_is_not_compared_with_a_whole_one(lifting, tmp_path):
    path, data = lifting
    plain = geed.measure(
        models.save(models.c4_lifting(), tmp_path / "other.onnx"), data, "C8", **FEW
    )
    own = geed.measure(path, data, "C8", **FEW)
    for both in (compare, lambda a, b: aggregate([a, b])):
        with pytest.raises(geed.GeedError, match="output action"):
            both(own, plain)


def test_a_share_of_the_error_asks_for_every_row(tmp_path):
    cyclic = with_tables(models.cyclic_logits(), "permutation", "logits")
    model = models.save(cyclic, tmp_path / "cyclic.onnx")
    data = images((1, 5, 5), 8)
    asked = {"measures": ["symmetry-share"], "labels": [0, 1] * 4, **FEW}
    with pytest.raises(geed.GeedError, match="a row for every element of C8"):
        geed.measure(model, data, "C8", **asked)


def test_vectors_have_a_mean_over_the_elements_that_the_table_leaves_in_place(tmp_path):
    """A half turn leaves these logits: f̂ is a mean over e and r4, and over no eighth turn."""
    rows = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
    action = geed.groups.vector_action(
        subgroup_table(Table(C4.elements, "permutation", rows, "t"), C8), C8
    )
    measure = geed.measures.Measure("output-l2", "y", action)
    assert measure.kernel_of_action == (0, 4)
    assert measure.action.name == "permutation (4 of 8 elements)"
    inverse = measure.with_inverse_table()
    assert inverse is None  # each row is its own inverse
    turning = geed.groups.vector_action(
        subgroup_table(Table(C4.elements, "permutation", CYCLE, "t"), C8), C8
    )
    other = geed.measures.Measure("output-l2", "y", turning).with_inverse_table()
    np.testing.assert_array_equal(other.action.table[[0, 2, 4, 6]], CYCLE[[0, 3, 2, 1]])
    assert other.action.without_row == (1, 3, 5, 7)
