"""Channels that turn by matrices as a layer's output action: by every way of measuring."""

import letter_models
import models
import naive_letters as twin
import numpy as np
import pytest
from running import images, orbits

import onnx_geed as geed
from onnx_geed.groups import Fit, parse_group

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
    chosen = data[result["data"]["indices"]][:3]
    points, y = (orbits(models.c4_vector_fields(), "C4", x, [layer], 4)[0] for x in (data, chosen))
    if group == "C8":
        moved = twin.orbit("C8", "CHW", chosen).astype(np.float32)
        flat = moved.reshape(-1, *moved.shape[2:])
        y = orbits(models.c4_vector_fields(), "C4", flat, [layer], 4)[0][:, 0]
        y = y.reshape(*moved.shape[:2], *y.shape[1:])
    letters = LAYOUTS[layer][1:]
    squares = twin.squares(y, group, letters, matrices=matrices)
    by_name = {r["measure"]: r for r in result["measurements"]}
    assert list(by_name) == ["output-l2", "unexplained"]
    np.testing.assert_allclose(
        by_name["output-l2"]["deviations"], np.sqrt(squares), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(by_name["unexplained"]["unnormalised"], squares[:, 1:].mean())
    assert twin.kernel_of_action(group, letters, y.shape[2:], matrices=matrices) == ["e"]
    assert len(points) == 12
