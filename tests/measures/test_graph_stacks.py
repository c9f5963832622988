"""Maps that move alike are summed together, each as if it were alone."""

from dataclasses import replace

import models
import naive
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from running import images

import onnx_geed as geed
from onnx_geed.measures import stack_bytes, stacks_of
from onnx_geed.run import Options, prepare_run as prepare
from onnx_geed.run.fuse import fuse_measurement as fuse

FLOAT = onnx.TensorProto.FLOAT
SIZE = (6, 7)


def branches(count, *, broken=None, channels=2):
    """A wide map, and maps of some channels of it, each turned another way: none is equivariant."""
    rng = np.random.default_rng(4)
    parts = [models.node("Relu", "x", "wide")]
    stored = []
    for k in range(count):
        stored.append(models.weights(f"w{k}", rng.normal(size=(channels, 3, 3, 3))))
        parts += [models.conv("wide", f"w{k}", f"c{k}"), models.node("Relu", f"c{k}", f"y{k}")]
        if k == broken:
            parts[-1:] = [models.node("Log", f"c{k}", f"y{k}")]
    parts += [
        models.node("Concat", " ".join(f"y{k}" for k in range(count)), "all", axis=1),
        models.node("GlobalAveragePool", "all", "pooled"),
        models.node("Flatten", "pooled", "out"),
    ]
    return models.build(parts, stored, [("x", FLOAT, ["N", 3, *SIZE])], [("out", FLOAT, None)])


def prepared(tmp_path, model, group, measures, **options):
    path = models.save(model, tmp_path / "model.onnx")
    given = Options(engine="graph", provider="cpu", measures=measures, **options)
    return prepare(path, images((3, *SIZE), 4), group, given).task


def fused(task, stacked):
    layers = tuple(task.plan.layers)
    return fuse(task.network.graph, task.source, task.plan, layers, "x", stacked=stacked)


def together(measures, layers):
    """The stacks as on a card."""
    return stacks_of(measures, layers, stack_bytes(layers))


@pytest.fixture(autouse=True)
def as_on_a_card(monkeypatch):
    monkeypatch.setattr(
        "onnx_geed.run.graph_engine.stacked_together", lambda plan, _: stack_bytes(plan.layers)
    )


def named(stacks):
    return [[m.layer for m in stack.measures] for stack in stacks]


MAPS = [f"channel-cos@y{k}" for k in range(5)]


def test_maps_of_one_size_lie_together_and_no_measure_is_lost(tmp_path):
    measures = [*MAPS, "channel-cos@wide", "latent-l2@out", "output-l2@out"]
    task = prepared(tmp_path, branches(5), "C8", measures)
    stacks = together(task.plan.measures, task.plan.layers)
    assert named(stacks) == [["y0", "y1", "y2", "y3", "y4", "wide"]]
    (stack,) = stacks
    assert [(m.layer, (s.start, s.stop)) for m, s in stack.parts][-2:] == [
        ("y4", (8, 10)),
        ("wide", (10, 13)),
    ]
    assert (stack.channels, stack.bytes) == (13, 4 * 13 * 42)


def test_a_stack_is_no_larger_than_the_largest_layer(tmp_path):
    task = prepared(tmp_path, branches(5), "C8", [*MAPS, "channel-cos@wide"])
    # As large as maps are of whose memory it matters.
    large = {k: replace(one, shape=(one.shape[0], 600, 700)) for k, one in task.plan.layers.items()}
    measures = {m.layer: m for m in task.plan.measures}
    assert stack_bytes(large) == large["wide"].bytes == 4 * 3 * 600 * 700
    assert named(together(measures.values(), large)) == [[name] for name in measures]
    large["wide"] = replace(large["wide"], shape=(7, 600, 700))
    # Three of two channels beside each other, the other two, and the wide one alone.
    stacks = together(measures.values(), large)
    assert named(stacks) == [["y0", "y1", "y2"], ["y3", "y4"], ["wide"]]


def test_maps_that_move_or_are_compared_in_another_way_lie_apart(tmp_path):
    task = prepared(tmp_path, branches(2), "C8", ["channel-cos@y0", "channel-cos@y1"])
    first, second = task.plan.measures
    layers = task.plan.layers
    assert named(together([first, second], layers)) == [["y0", "y1"]]
    assert named(together([first, replace(second, support="disk")], layers)) == [["y0"], ["y1"]]
    turned = dict(layers, y1=replace(layers["y1"], layout="NHWC"))
    assert named(together([first, second], turned)) == [["y0"], ["y1"]]


def test_what_sums_are_not_enough_for_is_in_no_stack(tmp_path):
    table = geed.Table(naive.elements("C4"), "channels", [[0, 1], [1, 0]] * 2, "given")
    measures = ["channel-cos@y0", "channel-cos@y1"]
    task = prepared(tmp_path, branches(2), "C4", measures, output_action={"y0": table})
    assert named(together(task.plan.measures, task.plan.layers)) == [["y1"]]
    task = prepared(tmp_path, branches(1), "C4", ["output-l2@out", "latent-cos@out"])
    assert together(task.plan.measures, task.plan.layers) == []


def test_nodes_are_of_stacks_and_not_of_layers(tmp_path):
    counts = {}
    for count in (2, 5):
        task = prepared(tmp_path, branches(count), "C8", MAPS[:count])
        for stacked in (stack_bytes(task.plan.layers), 0, None):
            nodes = fused(task, stacked).proto.graph.node
            own = [n for n in nodes if n.name.startswith("geed/") and "/input/" not in n.name]
            counts.setdefault(stacked and "together", []).append(len(own))
    few, many = counts["together"]
    assert many == few + 3  # a further map costs a Cast, which the runtime leaves out
    assert counts[0][1] > counts[0][0] + 40
    assert counts[None][1] > counts[None][0] + 80


@pytest.mark.parametrize("group", ["C4", "C8", "flip-h"])
@pytest.mark.parametrize("support", ["full", "disk"])
def test_sums_of_a_stack_are_those_of_the_definition(tmp_path, group, support):
    data = images((3, *SIZE), 3)
    path = models.save(branches(5), tmp_path / "model.onnx")
    options = {"samples": 3, "provider": "cpu", "support": support, "measures": MAPS}
    result = geed.measure(path, data, group, engine="graph", **options)
    assert result["runtime"]["engine"] == "graph"
    records = {m["layer"]: m for m in result["measurements"]}
    assert len({m["value"] for m in records.values()}) == 5  # no map is taken for another
    network = onnx.load(path)
    network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in records)
    session = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    shown = data[result["data"]["indices"]]
    if support == "disk":
        shown = shown * naive.disk_mask(*SIZE)
    orbits = naive.orbit(group, shown).astype(np.float32)
    for name, record in records.items():
        maps = np.stack([session.run([name], {"x": orbit})[0] for orbit in orbits])
        expected = naive.channel_cos(maps, group, disk=support == "disk")
        np.testing.assert_allclose(record["deviations"], expected, rtol=0, atol=1e-6)
        assert expected[:, 1:].max() > -0.99  # none of these networks is equivariant


def test_one_map_that_is_not_a_number_is_named_and_spoils_no_other(tmp_path):
    data = images((3, *SIZE), 4)
    path = models.save(branches(5, broken=3), tmp_path / "model.onnx")
    messages = []
    for engine in ("kernels", "graph"):
        with pytest.raises(geed.GeedError, match="NaN or infinity") as caught:
            geed.measure(path, data, "C8", engine=engine, provider="cpu", measures=MAPS)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "tensor 'y3'" in messages[0]
    rest = [name for name in MAPS if "y3" not in name]
    kernels, graph = (
        geed.measure(path, data, "C8", engine=engine, provider="cpu", measures=rest)
        for engine in ("kernels", "graph")
    )
    for a, b in zip(kernels["measurements"], graph["measurements"], strict=True):
        assert b["value"] == pytest.approx(a["value"], abs=1e-6)
