"""Channels that turn by matrices as a layer's output action: by every way of measuring."""

import dataclasses
import json

import letter_models
import models
import naive_letters as twin
import numpy as np
import onnxruntime as ort
import pytest
from running import images, orbits, run

import onnx_geed as geed
from onnx_geed.cache import cache_info, measure_cache, verify_cache, write_cache
from onnx_geed.groups import Fit, parse_group, parse_table, table_to_json
from onnx_geed.measures import Measure
from onnx_geed.model import annotate_model

# Where the channels of the fields lie, as layouts of the layers say.
LAYOUTS = {
    "fields": "NCHW",
    "last": "NHWC",
    "tokens": "NTD:7x7",
    "pooled": "NCHW",
    "vector": "NK",
}
FEW = {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu"}
FIT = Fit("linear", "fields", 7, 0.1, (0.2, 0.5), (1, 2), ("a", "b"))
OF_VECTOR = dataclasses.replace(FIT, layer="vector")


def given(values, group="C4", kind="channel_matrices", **more):
    return geed.Table(parse_group(group).elements, kind, np.array(values), "given", **more)


def both_distances(layer):
    return [f"output-l2@{layer}", f"unexplained@{layer}"]


@pytest.fixture
def steered(tmp_path):
    """The network, its data and its matrices."""
    model = models.c4_vector_fields()
    path = models.save(model, tmp_path / "steered.onnx")
    return path, images((3, 7, 7), 12), np.array(models.known(model)["matrices"])


def rough(group, channels, seed=0):
    """Matrices that are no representation, of which the identity's is 1."""
    n = len(parse_group(group).elements)
    matrices = np.random.default_rng(seed).normal(size=(n, channels, channels)) / 2
    matrices[0] = np.eye(channels)
    return matrices


def measured(path, data, group, tables, measures, **options):
    layouts = {k: v for k, v in LAYOUTS.items() if k in ("last", "tokens") and k in tables}
    asked = {"output_action": tables, "measures": measures, "layout": layouts, **FEW, **options}
    return geed.measure(path, data, group, **asked)


def values(result):
    return {(r["measure"], r["layer"]): r["value"] for r in result["measurements"]}


# what is known


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("layer", list(LAYOUTS))
def test_a_steerable_layer_scores_zero_with_its_matrices_alone(steered, layer, engine):
    path, data, matrices = steered
    asked = {"measures": both_distances(layer), "engine": engine}
    result = measured(path, data, "C4", {layer: given(matrices)}, **asked)
    found = values(result)
    assert found["unexplained", layer] < 1e-9
    assert found["output-l2", layer] < 1e-4
    moved = "mixed channels" if layer == "vector" else "grid+mixed channels"
    assert {r["output_action"] for r in result["measurements"]} == {moved}
    still = given(np.tile(np.arange(6), (4, 1)), kind="channels")
    without = values(measured(path, data, "C4", {layer: still}, **asked))
    assert without["unexplained", layer] > 0.5
    backwards = given(matrices[[0, 3, 2, 1]])
    other_way = values(measured(path, data, "C4", {layer: backwards}, **asked))
    assert other_way["unexplained", layer] > 0.5


@pytest.mark.parametrize("group", ["C4", "C8"])
def test_features_of_points_turn_by_the_groups_own_matrices(tmp_path, group):
    path = models.save(letter_models.turned_features(), tmp_path / "points.onnx")
    data = np.random.default_rng(0).normal(size=(12, 6, 2)).astype(np.float32)
    turns = [twin.plane_matrix(group, g) for g in twin.elements(group)]
    options = {"input_layout": "NPX", "layout": {"y": "NPC"}, **FEW}
    scores = []
    for matrices in (models.turning_pairs(turns, 2), np.tile(np.eye(4), (len(turns), 1, 1))):
        table = {"y": given(matrices, group)}
        asked = {"measures": ["unexplained@y"], "output_action": table, **options}
        scores.append(geed.measure(path, data, group, **asked)["measurements"][0]["value"])
    assert scores[0] < 1e-9
    assert scores[1] > 0.05


# the figures of the twin, from plain loops


@pytest.mark.parametrize("group", ["C4", "C8"])
@pytest.mark.parametrize("layer", ["fields", "last", "vector"])
def test_deviations_are_those_of_the_twin(steered, group, layer):
    path, data, _ = steered
    turns = [twin.plane_matrix(group, g) for g in twin.elements(group)]
    matrices = models.turning_pairs(turns, 3)
    table = {layer: given(matrices, group)}
    result = measured(path, data, group, table, both_distances(layer), samples=3)
    chosen = data[result["data"]["indices"]]
    moved = twin.orbit(group, "CHW", chosen).astype(np.float32)
    y = run(models.c4_vector_fields(), moved.reshape(-1, 3, 7, 7), [layer])[0]
    y = y.reshape(*moved.shape[:2], *y.shape[1:])
    letters = LAYOUTS[layer][1:]
    squares = twin.squares(y[:3], group, letters, matrices=matrices)
    assert twin.kernel_of_action(group, letters, y.shape[2:], matrices=matrices) == ["e"]
    distance, unexplained = result["measurements"]
    np.testing.assert_allclose(distance["deviations"], np.sqrt(squares), rtol=1e-5, atol=1e-6)
    m2 = twin.mean_square(y[:, 0])
    assert unexplained["value"] == pytest.approx(squares[:, 1:].mean() / m2, rel=1e-5)
    if group == "C8":  # of which the quarter turns are exact
        exact = np.sqrt(squares)[:, ::2].mean()
        assert distance["exact"]["value"] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("matrices", ["representation", "fit"])
def test_round_trips_are_those_of_the_twin(steered, matrices):
    """A representation undoes what it did, but for the grid; a fit need not."""
    path, data, _ = steered
    group, layer = "C8", "fields"
    names = twin.elements(group)
    turns = [twin.plane_matrix(group, g) for g in names]
    if matrices == "fit":
        chosen, fit = rough(group, 6), FIT
    else:
        chosen, fit = models.turning_pairs(turns, 3), None
    table = {layer: given(chosen, group, fit=fit)}
    asked = {"samples": 3, "references": True}
    result = measured(path, data, group, table, [f"output-l2@{layer}"], **asked)
    own = data[result["data"]["indices"]][:3]
    y = orbits(models.c4_vector_fields(), "C4", own, [layer], 4)[0][:, 0].astype(float)
    trips = []
    for sample in y:
        for g in names:
            back = twin.inverse(group, g)
            there = twin.act_and_mix(group, g, "CHW", sample, chosen[names.index(g)])
            again = twin.act_and_mix(group, back, "CHW", there, chosen[names.index(back)])
            trips.append(np.linalg.norm(again - sample))
    (record,) = result["measurements"]
    found = record["references"]["output_round_trip"]["value"]
    assert found == pytest.approx(np.mean(trips), rel=1e-5)
    assert found > 0.1


def test_between_samples_moves_the_other_sample_by_the_matrices(steered):
    path, data, matrices = steered
    result = measured(path, data, "C4", {"fields": given(matrices)}, ["output-l2@fields"])
    own = data[result["data"]["indices"]][:5]
    y = orbits(models.c4_vector_fields(), "C4", own, ["fields"], 4)[0]
    squares = twin.squares(np.roll(y, 1, axis=0), "C4", "CHW", seen=y, matrices=matrices)
    between = result["measurements"][0]["between_samples"]
    assert between == pytest.approx(np.sqrt(squares).mean(), rel=1e-5)


# every way of measuring gives the same figures


@pytest.mark.parametrize("batch_size", [2, 4, 8, 12, 64])
def test_batches_and_pieces_give_the_same_bits(steered, batch_size):
    path, data, _ = steered
    table = {
        "fields": given(rough("C4", 6), fit=FIT),
        "vector": given(rough("C4", 6, 1), fit=OF_VECTOR),
    }
    asked = ["channel-cos@last", *both_distances("fields"), *both_distances("vector")]
    plain, other = (
        measured(path, data, "C4", table, asked, layout={"last": "NHWC"}, batch_size=size)
        for size in (16, batch_size)
    )
    assert plain["measurements"] == other["measurements"]


@pytest.mark.parametrize("group", ["C4", "C8"])
@pytest.mark.parametrize("layer", list(LAYOUTS))
def test_caches_and_graph_measure_what_the_live_run_does(steered, tmp_path, group, layer):
    path, data, _ = steered
    turns = [twin.plane_matrix(group, g) for g in twin.elements(group)]
    table = {layer: given(models.turning_pairs(turns, 3), group)}
    layouts = {layer: LAYOUTS[layer]} if layer in ("last", "tokens") else {}
    asked = {"measures": both_distances(layer), "output_action": table, "layout": layouts, **FEW}
    live = geed.measure(path, data, group, engine="kernels", **asked)["measurements"]
    for mode in ("raw", "stats"):
        folder = tmp_path / f"{mode}.geed"
        info = write_cache(path, data, group, folder, mode=mode, **asked)
        assert info["complete"]
        assert measure_cache(folder)["measurements"] == live
        assert verify_cache(folder) == []
    graph = geed.measure(path, data, group, engine="graph", **asked)["measurements"]
    for ours, theirs in zip(live, graph, strict=True):
        assert ours["output_action"] == theirs["output_action"]
        for field in ("value", "deviations", "unnormalised", "normaliser"):
            np.testing.assert_allclose(
                np.array(theirs[field], float), np.array(ours[field], float), rtol=1e-5, atol=1e-6
            )
        exact = [r["exact"] and r["exact"]["value"] for r in (ours, theirs)]
        assert exact[0] is None or exact[1] == pytest.approx(exact[0], rel=1e-5, abs=1e-6)
        assert (exact[0] is None) == (group == "C4")


@pytest.mark.parametrize("measure", ["output-l2", "unexplained"])
def test_the_graph_permutes_channels_of_whole_maps_too(steered, measure):
    """Its nodes had one name twice, which no runtime loads."""
    path, data, _ = steered
    rows = [np.roll(np.arange(6), k * 3) for k in range(4)]
    asked = (path, data, "C4", {"fields": given(rows, kind="channels")}, [f"{measure}@fields"])
    ours, theirs = (
        measured(*asked, engine=engine)["measurements"][0]["value"]
        for engine in ("kernels", "graph")
    )
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_a_compiled_file_mixes_channels(steered, tmp_path):
    path, data, matrices = steered
    np.savez(tmp_path / "a.npz", elements=parse_group("C4").elements, channel_matrices=matrices)
    out = tmp_path / "measured.onnx"
    action = {"fields": tmp_path / "a.npz"}
    asked = {"measures": both_distances("fields"), "output_action": action}
    described = geed.compile_measurement(path, "C4", out, data=data, **asked)
    entries = [o for o in described["outputs"] if o["part"] == "deviation"]
    assert [o["output_action"] for o in entries] == ["grid+mixed channels"] * 2
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    got = session.run([o["name"] for o in entries], {"samples": data})
    y = orbits(models.c4_vector_fields(), "C4", data, ["fields"], 4)[0]
    want = twin.squares(y, "C4", "CHW", matrices=matrices)
    np.testing.assert_allclose(got[1], want, atol=1e-8)
    assert twin.squares(y, "C4", "CHW").mean() > 1


# what is no action


def test_a_fit_need_not_compose_and_a_given_table_must(steered):
    path, data, _ = steered
    asked = (path, data, "C4")
    with pytest.raises(geed.GeedError, match="not an action of C4"):
        measured(*asked, {"fields": given(rough("C4", 6))}, ["unexplained@fields"])
    result = measured(*asked, {"fields": given(rough("C4", 6), fit=FIT)}, ["unexplained@fields"])
    assert result["measurements"][0]["value"] > 0
    uneven = [[0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 3, 5]]
    for kind, layer, measure in (
        ("channels", "fields", "channel-cos"),
        ("channels", "fields", "unexplained"),
        ("permutation", "vector", "unexplained"),
    ):
        tables = {layer: given(uneven, kind=kind, fit=dataclasses.replace(FIT, layer=layer))}
        (record,) = measured(*asked, tables, [f"{measure}@{layer}"])["measurements"]
        assert np.isfinite(record["value"])
        assert not any("swapped" in w for w in record["warnings"])
        with pytest.raises(geed.GeedError, match="not an action of C4"):
            measured(*asked, {layer: given(uneven, kind=kind)}, [f"{measure}@{layer}"])


@pytest.mark.parametrize("still", [[0, 1], [0, 2]])
def test_elements_that_a_fit_leaves_in_place_are_no_part_of_the_reference(steered, still):
    """Whether they form a subgroup or not: f_hat is f(x)."""
    path, data, _ = steered
    matrices = np.tile(-np.eye(6), (4, 1, 1))
    matrices[still] = np.eye(6)
    table = {"vector": given(matrices, fit=OF_VECTOR)}
    result = measured(path, data, "C4", table, ["output-l2@vector"])
    own = data[result["data"]["indices"]][:5]
    y = orbits(models.c4_vector_fields(), "C4", own, ["vector"], 4)[0].astype(float)
    want = np.linalg.norm(y - np.einsum("gij,nj->ngi", matrices, y[:, 0]), axis=2)
    np.testing.assert_allclose(result["measurements"][0]["deviations"], want, rtol=1e-5)
    if still == [0, 2]:  # a table that somebody gave has a kernel
        table = {"vector": given(matrices)}
        (record,) = measured(path, data, "C4", table, ["output-l2@vector"])["measurements"]
        centre = y[:, still].mean(axis=1)
        want = np.linalg.norm(y - np.einsum("gij,nj->ngi", matrices, centre), axis=2)
        np.testing.assert_allclose(record["deviations"], want, rtol=1e-5)


# who takes matrices, and who does not


def test_a_cosine_by_channel_does_not_take_matrices(steered):
    path, data, matrices = steered
    table = {"fields": given(matrices)}
    with pytest.raises(geed.GeedError, match="does not see: measure unexplained@fields"):
        measured(path, data, "C4", table, ["channel-cos@fields"])
    with pytest.raises(geed.GeedError, match="does not see: measure unexplained@fields"):
        measured(path, data, "C4", table, ["channel-cos"])  # which no other layer takes
    result = measured(path, data, "C4", table, [])
    of_layer = [r["measure"] for r in result["measurements"] if r["layer"] == "fields"]
    assert of_layer == ["unexplained"]
    assert any("does not see: measure unexplained@fields" in n for n in result["notes"])
    action = geed.with_channels(geed.grid_action(parse_group("C4"), 7, 7), given(matrices))
    with pytest.raises(geed.GeedError, match="does not see"):
        geed.channel_cos(np.zeros((1, 4, 6, 7, 7)), action)
    with pytest.raises(geed.GeedError, match="does not work with the output action"):
        Measure("channel-cos", "fields", action)


@pytest.mark.parametrize("measure", ["softmax-kl", "flip-rate"])
@pytest.mark.parametrize("layer", ["fields", "vector"])
def test_class_scores_do_not_take_matrices(steered, layer, measure):
    path, data, matrices = steered
    asked = {"output": layer, "output_kind": "logits"}
    with pytest.raises(geed.GeedError, match="matrices"):
        measured(path, data, "C4", {layer: given(matrices)}, [f"{measure}@{layer}"], **asked)


def test_a_table_of_other_channels_is_refused(steered):
    path, data, _ = steered
    table = {"fields": given(np.tile(np.eye(4), (4, 1, 1)))}
    with pytest.raises(geed.GeedError, match="a table for 4 channels, but fields has 6"):
        measured(path, data, "C4", table, ["unexplained@fields"])


def test_latents_stay_where_they_are(steered):
    path, data, matrices = steered
    asked = ["latent-l2@vector"]
    with pytest.raises(geed.GeedError, match="latent-l2 takes no such action"):
        measured(path, data, "C4", {"vector": given(matrices)}, asked)
    both = measured(path, data, "C4", {"vector": given(matrices)}, [*asked, "unexplained@vector"])
    latent = [r for r in both["measurements"] if r["measure"] == "latent-l2"]
    assert latent == measured(path, data, "C4", {}, asked)["measurements"]


# where matrices are kept


def test_matrices_lie_beside_a_cache_and_are_verified(steered, tmp_path):
    path, data, matrices = steered
    folder = tmp_path / "acts.geed"
    table = {"fields": given(matrices, fit=FIT), "vector": given(matrices, kind="matrices")}
    asked = {"measures": [*both_distances("fields"), "output-l2@vector"], **FEW}
    write_cache(path, data, "C4", folder, output_action=table, **asked)
    whole = measure_cache(folder)["measurements"]
    for shard in folder.glob("*.h5"):
        assert b"sha256" in shard.read_bytes()
    beside = folder / "matrices.npz"
    with np.load(beside) as stored:
        assert [a.tobytes() for a in stored.values()] == [matrices.tobytes()]  # once for both
    again = beside.read_bytes()
    beside.write_bytes(again.replace(matrices.tobytes(), matrices[::-1].tobytes()))
    with pytest.raises(geed.GeedError, match=r"matrices.npz is damaged"):
        measure_cache(folder)
    assert "matrices.npz" in verify_cache(folder)[0]
    beside.unlink()
    assert not cache_info(folder)["complete"]
    with pytest.raises(geed.GeedError, match=r"matrices.npz is missing; run the same"):
        measure_cache(folder)
    write_cache(path, data, "C4", folder, output_action=table, **asked)
    assert measure_cache(folder)["measurements"] == whole
    other = {**table, "fields": given(matrices * (1 + 1e-15), fit=FIT)}
    with pytest.raises(geed.GeedError, match="differs from this run in action options"):
        write_cache(path, data, "C4", folder, output_action=other, **asked)


def test_a_cache_that_kept_matrices_in_its_manifest_is_read(steered, tmp_path, monkeypatch):
    path, data, matrices = steered
    table = {"vector": given(matrices, kind="matrices")}
    asked = {"measures": ["output-l2@vector"], "output_action": table, **FEW}
    texts = {"vector": json.dumps({"elements": ["e", "r1", "r2", "r3"], "matrices": None})}
    texts["vector"] = texts["vector"].replace("null", json.dumps(matrices.tolist()))
    monkeypatch.setattr("onnx_geed.cache.contents.texts_of", lambda tables: texts)
    write_cache(path, data, "C4", tmp_path / "old.geed", **asked)
    assert not (tmp_path / "old.geed" / "matrices.npz").exists()
    live = geed.measure(path, data, "C4", **asked)["measurements"]
    assert measure_cache(tmp_path / "old.geed")["measurements"] == live


def test_a_model_carries_its_matrices(steered, tmp_path):
    path, data, matrices = steered
    known = tmp_path / "known.onnx"
    annotate_model(path, known, output_action={"fields": given(matrices)})
    (record,) = geed.measure(known, data, "C4", measures=["unexplained@fields"], **FEW)[
        "measurements"
    ]
    assert record["output_action"] == "grid+mixed channels"
    assert record["value"] < 1e-9
    # C2 is a subgroup, by angle.
    (half,) = geed.measure(known, data, "C2", measures=["unexplained@fields"], **FEW)[
        "measurements"
    ]
    assert half["value"] < 1e-9
    large = given(np.tile(np.eye(600), (4, 1, 1)))
    with pytest.raises(geed.GeedError, match="too many numbers for a model's metadata"):
        annotate_model(path, known, output_action={"fields": large})


def test_a_table_keeps_how_it_was_fitted_through_json():
    table = given(rough("C4", 3), fit=FIT)
    again = parse_table(table_to_json(table), "x")
    assert again.fit == FIT
    assert again.values.tobytes() == table.values.tobytes()
    bare = dataclasses.replace(FIT, lambda_=None, defect=None)
    assert parse_table(table_to_json(given(rough("C4", 3), fit=bare)), "x").fit == bare
    with pytest.raises(geed.GeedError, match="'fit' does not say how the table was fitted"):
        parse_table(table_to_json(table).replace('"samples"', '"simples"'), "x")
