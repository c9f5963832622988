"""Scores that tie: an equivariant network flips none of its predictions."""

from __future__ import annotations

import models
import numpy as np
import pytest

import onnx_geed as geed

OPTIONS = {"samples": 12, "norm_samples": 12, "provider": "cpu"}
NAMES = ["e", "r1", "r2", "r3"]


def quarters(path):
    """The sum of each corner's pixels, cut to few values: the classes turn with the image."""
    corner = np.zeros((6, 6))
    corner[:3, :3] = 1
    templates = np.stack([np.rot90(corner, k).ravel() for k in range(4)], axis=1)
    nodes = [
        models.node("Flatten", "x", "flat", axis=1),
        models.node("MatMul", "flat templates", "sums"),
        models.node("Floor", "sums", "y"),
    ]
    held = [models.weights("templates", templates)]
    inputs, outputs = [("x", 1, ["N", 1, 6, 6])], [("y", 1, ["N", 4])]
    return models.save(models.build(nodes, held, inputs, outputs), path)


def table(path, kind="permutation"):
    """Of r^k: the score of corner j is that of corner j − k of x."""
    rows = np.array([[(j - k) % 4 for j in range(4)] for k in range(4)])
    np.savez(path, elements=NAMES, **{kind: rows})
    return path


def few_values(shape, seed=0):
    return (np.random.default_rng(seed).integers(0, 3, shape) / 4).astype(np.float32)


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_vectors_that_tie_flip_nothing(tmp_path, engine):
    x = few_values((20, 1, 6, 6))
    result = geed.measure(
        *(quarters(tmp_path / "m.onnx"), x, "C4"),
        measures=["flip-rate", "softmax-kl", "output-l2@y"],
        output_action={"y": table(tmp_path / "t.npz")},
        output_kind="logits",
        engine=engine,
        **OPTIONS,
    )
    by_name = {r["measure"]: r for r in result["measurements"]}
    assert by_name["output-l2"]["value"] == 0
    assert by_name["flip-rate"]["value"] == 0
    for name in ("flip-rate", "softmax-kl"):
        assert by_name[name]["predictions"]["stay"]["value"] == 1
    # There are ties, and the plain comparison of class numbers is not blind to flips.
    turned = geed.measure(
        *(quarters(tmp_path / "m.onnx"), x, "C4"),
        measures=["flip-rate"],
        output_kind="logits",
        engine=engine,
        **OPTIONS,
    )
    assert turned["measurements"][0]["value"] > 0.3
    sums = np.stack([np.rot90(x[:, 0], -k, (1, 2))[:, :3, :3].sum((1, 2)) for k in range(4)], 1)
    top = np.sort(np.floor(sums), axis=1)
    assert (top[:, -1] == top[:, -2]).mean() > 0.2


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_one_score_at_its_threshold_flips_nothing(tmp_path, engine):
    source = models.sign_logit(5)
    path = models.save(source, tmp_path / "m.onnx")
    swap = np.array(models.known(source)["permutation"])
    np.savez(tmp_path / "t.npz", elements=["e", "r1"], permutation=swap)
    x = np.zeros((12, 1, 5, 5), dtype=np.float32)
    x[::2] = np.random.default_rng(1).random((6, 1, 5, 5))
    result = geed.measure(
        *(path, x, "C2"),
        measures=["flip-rate"],
        output_action={"logit": tmp_path / "t.npz"},
        output_kind="logits",
        engine=engine,
        **OPTIONS,
    )
    assert result["measurements"][0]["value"] == 0
    assert result["measurements"][0]["predictions"]["stay"]["value"] == 1


@pytest.mark.parametrize("group", ["S4", "S4~9"])
def test_points_as_classes_that_tie_flip_nothing(tmp_path, group):
    nodes = [
        models.node("ReduceSum", "x last", "sums", keepdims=0),
        models.node("Floor", "sums", "y"),
    ]
    path = models.save(
        models.build(
            nodes, [models.integers("last", [2])], [("x", 1, ["N", 4, 3])], [("y", 1, ["N", 4])]
        ),
        tmp_path / "m.onnx",
    )
    result = geed.measure(
        *(path, few_values((20, 4, 3)), group),
        measures=["flip-rate", "softmax-kl"],
        input_layout="NPC",
        layout={"y": "NP"},
        output_kind="logits",
        **OPTIONS,
    )
    for record in result["measurements"]:
        assert record["value"] == pytest.approx(0, abs=1e-12)
        assert record["predictions"]["stay"]["value"] == 1


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_scores_at_places_that_tie_flip_nothing(tmp_path, engine):
    base = np.zeros((3, 3))
    base[0, 1] = 1
    lift = np.stack([np.rot90(base, j) for j in range(4)])[:, None]
    nodes = [models.conv("x", "w", "c"), models.node("Floor", "c", "y")]
    path = models.save(
        models.build(
            nodes,
            [models.weights("w", 3 * lift)],
            [("x", 1, ["N", 1, 6, 6])],
            [("y", 1, ["N", 4, 6, 6])],
        ),
        tmp_path / "m.onnx",
    )
    asked = {"measures": ["flip-rate@y"], "layout": {"y": "NCHW"}, "output_kind": "logits"}
    asked |= {"engine": engine, **OPTIONS}
    x = few_values((20, 1, 6, 6))
    given = {"y": table(tmp_path / "t.npz", "channels")}
    (record,) = geed.measure(path, x, "C4", output_action=given, **asked)["measurements"]
    assert record["value"] == 0
    assert record["miou"]["value"] == 1
    (plain,) = geed.measure(path, x, "C4", **asked)["measurements"]
    assert plain["value"] > 0.1
