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
from onnx_geed.errors import GeedError
from onnx_geed.measures import stack_bytes, stacks_of
from onnx_geed.run import Options, prepare_run as prepare
from onnx_geed.run.fuse import fuse_measurement as fuse
from onnx_geed.run.graph_engine import open_graph_engine
from onnx_geed.run.memory import graph_bytes

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


def agree(path, data, group, measures, **options):
    """Measure with both engines, which must give the same; return that."""
    options = {"provider": "cpu", "samples": 3, "norm_samples": 3, "measures": measures, **options}
    kernels, graph = (
        geed.measure(path, data, group, engine=engine, **options) for engine in ("kernels", "graph")
    )
    assert graph["runtime"]["engine"] == "graph"
    for a, b in zip(kernels["measurements"], graph["measurements"], strict=True):
        for field in ("value", "deviations", "zero_pairs", "per_channel", "between_samples"):
            np.testing.assert_allclose(b[field], a[field], rtol=0, atol=1e-6, err_msg=field)
        assert ("exact" in a) == ("exact" in b)
        for field in ("deviations", "per_channel") if a.get("exact") else ():
            np.testing.assert_allclose(b["exact"][field], a["exact"][field], rtol=0, atol=1e-6)
    return kernels["measurements"]


def weighed(shape, orders, *, log=None):
    """Maps y0, y1, .. of x, each with weights and a number of channels of its own, transposed.

    The map numbered ``log`` is a logarithm.
    """
    rng = np.random.default_rng(3)
    nodes, stored = [], []
    for k, order in enumerate(orders):
        stored += [
            models.weights(f"w{k}", rng.uniform(0.2, 1, size=shape)),
            models.integers(f"some{k}", [0, 1][: 1 + k % 2]),
        ]
        nodes += [
            models.node("Mul", f"x w{k}", f"m{k}"),
            models.node("Gather", f"m{k} some{k}", f"g{k}", axis=1),
            models.node("Log" if k == log else "Relu", f"g{k}", f"a{k}"),
            models.node("Transpose", f"a{k}", f"y{k}", perm=order),
        ]
    nodes += [
        models.node("GlobalAveragePool", "m0", "pooled"),
        models.node("Flatten", "pooled", "out"),
    ]
    return models.build(nodes, stored, [("x", FLOAT, ["N", *shape])], [("out", FLOAT, None)])


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
    turned = dict(layers, y1=replace(layers["y1"], layout="NHWC", shape=(*SIZE, 2)))
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


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("order", ["NCHW", "NHWC", "NWCH"])
def test_any_order_of_axes_is_stacked_by_its_channels(tmp_path, order, support):
    perm = ["NCHW".index(letter) for letter in order]
    path = models.save(weighed((3, *SIZE), [perm] * 4), tmp_path / "model.onnx")
    measures = [f"channel-cos@y{k}" for k in range(4)]
    layout = {f"y{k}": order for k in range(4)}
    task = prepared(tmp_path, onnx.load(path), "C8", measures, layout=layout)
    assert named(together(task.plan.measures, task.plan.layers)) == [["y0", "y1", "y2", "y3"]]
    found = agree(path, images((3, *SIZE), 3), "C8", measures, layout=layout, support=support)
    assert len({record["value"] for record in found}) == 4


@pytest.mark.parametrize("support", ["full", "disk"])
def test_slices_of_a_channel_are_compared_together(tmp_path, support):
    shape = (3, 2, *SIZE)
    path = models.save(weighed(shape, [[0, 1, 2, 3, 4]] * 4), tmp_path / "model.onnx")
    measures = [f"channel-cos@y{k}" for k in range(4)]
    options = {"input_layout": "NCTHW", "layout": {f"y{k}": "NCTHW" for k in range(4)}}
    given = Options(engine="graph", provider="cpu", measures=measures, **options)
    task = prepare(path, images(shape, 4), "C8", given).task
    (stack,) = together(task.plan.measures, task.plan.layers)
    assert (stack.channels, stack.measures[0].action.fixed) == (6, 2)
    agree(path, images(shape, 3), "C8", measures, support=support, **options)


def test_tokens_behind_a_class_token_are_stacked(tmp_path):
    model = models.tokens()
    model.graph.node.append(models.node("Mul", "mixed with_class", "other"))
    path = models.save(model, tmp_path / "model.onnx")
    layout = {name: models.known(model)["hidden_tokens"]["mixed"] for name in ("mixed", "other")}
    measures = [f"channel-cos@{name}" for name in layout]
    given = Options(engine="graph", provider="cpu", measures=measures, layout=layout)
    task = prepare(path, images((3, 8, 8), 4), "C8", given).task
    assert named(together(task.plan.measures, task.plan.layers)) == [["mixed", "other"]]
    one, other = agree(path, images((3, 8, 8), 3), "C8", measures, layout=layout)
    assert one["value"] != other["value"]


@pytest.mark.parametrize("group", ["zoom:0.8..1.25/3", "brightness:-20..20/3", "shift-px:-2..2/3"])
def test_members_of_a_family_are_stacked(tmp_path, group):
    path = models.save(branches(3), tmp_path / "model.onnx")
    agree(path, images((3, *SIZE), 3) * 0.1 + 0.5, group, MAPS[:3])


def test_vectors_in_a_plane_that_turn_are_in_no_stack(tmp_path):
    """Their table has another reading, which deviations alone can be doubted by."""
    task = prepared(tmp_path, branches(2), "C4", ["channel-cos@y0"], layout={"y0": "NXHW"})
    assert together(task.plan.measures, task.plan.layers) == []


def test_a_card_takes_layers_together_and_a_processor_one_by_one(tmp_path, monkeypatch):
    monkeypatch.undo()
    task = prepared(tmp_path, branches(5), "C8", MAPS)
    most = stack_bytes(task.plan.layers)
    assert most == sum(layer.bytes for layer in task.plan.layers.values()) == 4 * 10 * 42
    opened = {}

    def seen(task, layers, *, stacked, **options):
        opened[task.network.provider] = stacked
        raise GeedError("seen")

    monkeypatch.setattr("onnx_geed.run.graph_engine.open_fused", seen)
    for provider in ("cpu", "cuda"):
        there = replace(task, network=replace(task.network, provider=provider))
        with pytest.raises(GeedError, match="seen"):
            open_graph_engine(there, tuple(task.plan.layers))
    assert opened == {"cpu": 0, "cuda": most}
    bytes_of_nodes = {p: graph_bytes(task.plan, task.source, p) for p in ("cpu", "cuda")}
    assert bytes_of_nodes["cuda"] == 5 * bytes_of_nodes["cpu"]


@pytest.mark.parametrize("slices", [(), (2,)])
def test_infinity_outside_the_disk_is_named_though_nothing_is_compared_there(tmp_path, slices):
    # Outside the disk x is 0, whose logarithm is infinite.
    shape, axes = (3, *slices, *SIZE), list(range(3 + len(slices) + 1))
    data = images(shape, 3) * 0.4 + 0.5
    path = models.save(weighed(shape, [axes] * 4, log=3), tmp_path / "model.onnx")
    measures = [f"channel-cos@y{k}" for k in range(4)]
    letters = "NCTHW" if slices else "NCHW"
    options = {"input_layout": letters, "layout": {f"y{k}": letters for k in range(4)}}
    messages = []
    for engine in ("kernels", "graph"):
        given = {"provider": "cpu", "measures": measures, "support": "disk", **options}
        with pytest.raises(GeedError, match="NaN or infinity") as caught:
            geed.measure(path, data, "C4", engine=engine, **given)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "'y3'" in messages[0]
    agree(path, data, "C4", measures, **options)  # of the whole picture there is a logarithm


def test_one_map_that_is_not_a_number_is_named_and_spoils_no_other(tmp_path):
    data = images((3, *SIZE), 4)
    path = models.save(branches(5, broken=3), tmp_path / "model.onnx")
    messages = []
    for engine in ("kernels", "graph"):
        with pytest.raises(GeedError, match="NaN or infinity") as caught:
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
