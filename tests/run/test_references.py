import json

import naive
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from onnx_geed import grid_action, measure, normaliser, parse_group
from onnx_geed.cli import cli
from onnx_geed.groups import LayoutAction, Permutation, Trivial
from onnx_geed.measures import Measure, pair_deviations
from onnx_geed.run import references as module

RNG = np.random.default_rng(0)
SIZE = 8
WEIGHTS = RNG.standard_normal((SIZE * SIZE, 3)).astype(np.float32) / 4
HEAD = RNG.standard_normal((3, 4)).astype(np.float32)
CHANNELS = np.array([1.0, -2.0], np.float32)
X = RNG.random((6, 1, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def model(tmp_path):
    """Write x → two scaled copies; first copy → linear latent → linear logits."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["maps"], name="conv"),
        helper.make_node("Conv", ["maps", "pick"], ["one"], name="pick"),
        helper.make_node("Flatten", ["one"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["latent"]),
        helper.make_node("MatMul", ["latent", "h"], ["logits"]),
    ]
    weights = {
        "k": CHANNELS.reshape(2, 1, 1, 1),
        "pick": np.array([1, 0], np.float32).reshape(1, 2, 1, 1),
        "w": WEIGHTS,
        "h": HEAD,
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def measured(model, group, **options):
    options = {"latent": "latent", "references": True} | options
    result = measure(model, X, group, **options)
    return {m["measure"]: m for m in result["measurements"] if m["layer"] != "one"}


def trips(x, group, **options):
    """φ(g⁻¹)φ(g)x, one element after the other."""
    acting = parse_group(group)
    action = grid_action(acting, SIZE, SIZE, **options)
    return np.stack(
        [
            action.apply(acting.inverse(g), action.apply(g, x.astype(np.float64)))
            for g in range(acting.order)
        ]
    )


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_input_round_trips_against_a_naive_loop(model):
    records = measured(model, "C8")
    maps, latent, kl = [], [], []
    for x in X:
        y = trips(x[0], "C8")
        mean = y.mean(axis=0)
        maps.append(-np.mean([cosine(one, mean) for one in y]))
        z = y.reshape(8, -1) @ WEIGHTS
        latent.append(np.linalg.norm(z - z.mean(axis=0), axis=1).mean())
        p = softmax(z @ HEAD)
        kl.append((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean())
    m = normaliser("latent-l2", X.reshape(6, -1) @ WEIGHTS)
    expected = {
        "channel-cos": np.mean(maps),
        "latent-l2": np.mean(latent) / m,
        "softmax-kl": np.mean(kl),
    }
    for name, value in expected.items():
        trip = records[name]["references"]["input_round_trip"]["value"]
        assert trip == pytest.approx(value, rel=1e-4), name
        assert trip > {"channel-cos": -1}.get(name, 0) + 1e-4
    raw = records["latent-l2"]["references"]["input_round_trip"]["unnormalised"]
    assert raw == pytest.approx(np.mean(latent), rel=1e-4)


@pytest.mark.parametrize(("group", "mirrored"), [("SO2~6", False), ("O2~6", True)])
def test_input_round_trips_of_a_sampled_group_go_by_each_samples_own_angles(model, group, mirrored):
    entry = measured(model, group)["latent-l2"]["references"]
    found = entry["input_round_trip"]["unnormalised"]

    def rotate(image, degrees):
        quarters, rest = divmod(degrees % 360, 90)
        return np.rot90(naive.rotate_directly(image, rest, "bilinear"), quarters, axes=(-2, -1))

    count = 3 if mirrored else 6
    expected = []
    for i, x in enumerate(X.astype(np.float64)):
        own = np.random.default_rng((0, i)).random() * 360
        each = []
        for k in range(6):
            angle = own + 360 * (k % count) / count
            if k < count:
                each.append(rotate(rotate(x[0], angle), -angle))
            else:  # rotated, then mirrored, and so back once more
                there = rotate(x[0], angle)[..., ::-1]
                each.append(rotate(there, angle)[..., ::-1])
        z = np.stack(each).reshape(6, -1) @ WEIGHTS
        expected.append(np.linalg.norm(z - z.mean(axis=0), axis=1).mean())
    assert found == pytest.approx(np.mean(expected), rel=1e-4)
    assert entry["numeric"]["unnormalised"] < 1e-6
    turned = measured(model, "C6")["latent-l2"]["references"]["input_round_trip"]
    assert found != pytest.approx(turned["unnormalised"], rel=1e-2)


@pytest.mark.parametrize("support", ["full", "disk"])
def test_output_round_trips_against_a_naive_loop(model, support):
    references = measured(model, "C8", support=support)["channel-cos"]["references"]
    centre = np.arange(SIZE) - (SIZE - 1) / 2
    inside = centre[:, None] ** 2 + centre**2 <= (SIZE / 2) ** 2
    mask = inside if support == "disk" else np.ones((SIZE, SIZE))
    expected = [
        -np.mean([cosine(y * mask, x[0] * mask) for y in trips(x[0] * mask, "C8")]) for x in X
    ]
    assert references["output_round_trip"]["value"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_exact_elements_leave_nothing_but_rounding(model):
    for name, record in measured(model, "D4").items():
        perfect = {"channel-cos": -1.0, "latent-cos": -1.0 / (record["normaliser"] or 1)}
        for kind in ("input_round_trip", "output_round_trip", "numeric"):
            value = record["references"][kind]["value"]
            assert value == pytest.approx(perfect.get(name, 0.0), abs=1e-6), (name, kind)


def test_references_change_no_value(model):
    with_them, without = measured(model, "C8"), measured(model, "C8", references=False)
    for name, record in without.items():
        assert record.pop("references") is None
        assert with_them[name].pop("references") is not None
        assert with_them[name] == record


def test_numeric_compares_two_places_in_a_batch(model, monkeypatch):
    run = module.run_rows

    def uneven(source, session, rows, feeds, batch):
        arrays = run(source, session, rows, feeds, batch)
        return {
            name: a + 0.01 * np.arange(len(a), dtype=np.float32)[:, None] if a.ndim == 2 else a
            for name, a in arrays.items()
        }

    monkeypatch.setattr(module, "run_rows", uneven)
    record = measured(model, "C4")["latent-l2"]
    # The repeat stands four rows below, in each of three entries.
    assert record["references"]["numeric"]["unnormalised"] == pytest.approx(
        0.04 * np.sqrt(3), rel=1e-4
    )


def test_references_do_not_depend_on_the_batch(model):
    for kind in ("input_round_trip", "output_round_trip"):
        values = [
            measured(model, "C8", batch_size=size)["softmax-kl"]["references"][kind]["value"]
            for size in (1, 4, 64)
        ]
        np.testing.assert_allclose(values, values[0], rtol=1e-4, atol=1e-9)


def test_pairs_of_known_deviation():
    c4 = parse_group("C4")
    grid = Measure("channel-cos", "a", grid_action(c4, 2, 2))
    a = np.array([[[[1.0, 0], [0, 0]], [[0, 0], [0, 0]]]])
    b = np.array([[[[1.0, 1], [0, 0]], [[0, 0], [0, 0]]]])
    assert pair_deviations(grid, a, b)[0] == pytest.approx(-(1 / np.sqrt(2) + 1) / 2)
    l2 = Measure("latent-l2", "a", Trivial(c4))
    assert pair_deviations(l2, np.array([[3.0, 0]]), np.array([[0.0, 4]]))[0] == 5.0
    kl = Measure("softmax-kl", "a", Trivial(c4), kind="probabilities")
    deviation = pair_deviations(kl, np.array([[1.0, 0]]), np.array([[0.5, 0.5]]))[0]
    assert deviation == pytest.approx(np.log(2))


def test_a_permutation_comes_back_to_where_it_was():
    c4 = parse_group("C4")
    table = np.array([np.roll(np.arange(4), -k) for k in range(4)])
    moved = Measure("softmax-kl", "a", Permutation(c4, table))
    assert module._output_trip(moved, np.array([0.0, 1.0, 2.0, 3.0])) == pytest.approx(0, abs=1e-12)
    assert isinstance(module._under_trivial(moved).action, Trivial)


def test_the_still_action_moves_nothing():
    c8 = parse_group("C8")
    still = module._under_trivial(Measure("channel-cos", "a", grid_action(c8, 5, 5)))
    assert still.kernel_of_action == tuple(range(8))
    assert isinstance(still.action, LayoutAction)
    y = RNG.random((5, 5))
    np.testing.assert_array_equal(still.action.apply(3, y), y)


def test_the_command_line_shows_and_keeps_them(model, tmp_path):
    np.save(tmp_path / "x.npy", X)
    command = [
        "measure",
        str(model),
        "--data",
        str(tmp_path / "x.npy"),
        "--group",
        "C8",
        "--references",
    ]
    run = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "r.json")])
    assert run.exit_code == 0, run.stderr
    head = next(line for line in run.stdout.splitlines() if line.startswith("references"))
    assert head.split()[3:] == ["input", "trip", "output", "trip", "numeric"]
    assert max(map(len, run.stdout.splitlines())) <= 100
    kept = json.loads((tmp_path / "r.json").read_text())["measurements"]
    assert all(
        {"input_round_trip", "output_round_trip", "numeric"} <= set(m["references"]) for m in kept
    )
    refused = CliRunner().invoke(cli, [*command, "--cache", str(tmp_path / "a.geed")])
    assert refused.exit_code == 2
    assert "--references" in refused.stderr
