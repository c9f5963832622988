"""What is looked at before a run, of the model and its outputs."""

from types import SimpleNamespace

import models
import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.run import trial


def test_of_large_maps_fewer_further_samples_are_looked_at(monkeypatch):
    def looked_at(size):
        session = SimpleNamespace(run=lambda row, feeds: {"y": np.zeros((1, size), np.float32)})
        source = SimpleNamespace(
            indices=range(50), rows=lambda at, orbits: at, other_inputs=lambda at, rows: {}
        )
        return len(trial.further_rows(SimpleNamespace(session=session), "y", source))

    monkeypatch.setattr(trial, "_FURTHER_BYTES", 4000)
    assert [looked_at(size) for size in (10, 100, 300, 5000)] == [16, 10, 4, 1]


# tensors whose first axis is another one than the batch

CLASSES = 5  # one of the numbers of rows that are tried where a batch may be fixed


def classes_first(batch="N", *, last=False):
    """A net whose output is (classes, N); with ``last``, it is turned around once more."""
    rng = np.random.default_rng(2)
    nodes = [
        models.conv("x", "w", "c"),
        models.node("Relu", "c", "r"),
        models.node("GlobalAveragePool", "r", "p"),
        models.node("Flatten", "p", "z"),
        models.node("Transpose", "z", "t"),
        models.node("MatMul", "k t", "s"),
    ]
    if last:
        nodes.append(models.node("Transpose", "s", "y"))
    weights = [
        models.weights("w", rng.normal(size=(6, 3, 3, 3))),
        models.weights("k", rng.normal(size=(CLASSES, 6))),
    ]
    shape = [batch, CLASSES] if last else [CLASSES, batch]
    output = ("y" if last else "s", models.FLOAT, shape)
    return models.build(nodes, weights, [("x", models.FLOAT, [batch, 3, 6, 6])], [output])


def photos(n=7):
    return np.random.default_rng(1).normal(size=(n, 3, 6, 6)).astype(np.float32)


AWAY = r"'s' has shape .* axis 0 is not the batch; name another tensor"


@pytest.mark.parametrize("batch", ["N", CLASSES])
@pytest.mark.parametrize(
    "options",
    [
        {"measures": ["latent-l2@s"]},
        {"measures": ["latent-l2"], "latent": "s"},
        {"measures": ["unexplained@s"]},
        {"measures": ["latent-l2@r", "output-l2@s"]},
    ],
)
def test_a_tensor_with_another_first_axis_is_refused_where_it_is_named(tmp_path, batch, options):
    path = models.save(classes_first(batch, last=True), tmp_path / "model.onnx")
    with pytest.raises(GeedError, match=AWAY):
        geed.measure(path, photos(), "C4", **options)


def test_all_that_take_layers_refuse_such_a_tensor(tmp_path):
    path = models.save(classes_first(last=True), tmp_path / "model.onnx")
    with pytest.raises(GeedError, match=AWAY):
        geed.write_cache(path, photos(), "C4", tmp_path / "c.geed", layers=["s"])
    with pytest.raises(GeedError, match=AWAY):
        geed.fit_actions(path, photos(40), "C4", ["s"], samples=4, fit_samples=20)
    with pytest.raises(GeedError, match=AWAY):
        geed.compile_measurement(path, "C4", tmp_path / "m.onnx", measures=["latent-l2@s"])


@pytest.mark.parametrize("batch", ["N", CLASSES])
def test_an_output_with_another_first_axis_is_left_out_by_default(tmp_path, batch):
    path = models.save(classes_first(batch), tmp_path / "model.onnx")
    plain = models.save(classes_first(last=True), tmp_path / "plain.onnx")
    result = geed.measure(path, photos(), "C4", provider="cpu")
    known = geed.measure(plain, photos(), "C4", provider="cpu")
    kept = [r for r in known["measurements"] if r["measure"] != "softmax-kl"]
    for record, wanted in zip(result["measurements"], kept, strict=True):
        assert (record["measure"], record["layer"]) == (wanted["measure"], wanted["layer"])
        np.testing.assert_allclose(record["deviations"], wanted["deviations"], rtol=1e-5)
    (note,) = [n for n in result["notes"] if "axis 0" in n]
    assert note.startswith("left out: softmax-kl@s: its axis 0 is not the batch, its shape is (5, ")
    assert not any("exactly" in n for n in result["notes"])
    for measures in (["channel-cos"], ["latent-l2@z"]):  # the output is not asked for
        assert geed.measure(path, photos(), "C4", measures=measures)["measurements"]
    with pytest.raises(GeedError, match=AWAY):
        geed.measure(path, photos(), "C4", measures=["softmax-kl"])


# maps that are no default, since nobody can tell that they are maps


def on_a_line(between, channels=4):
    """A net on lines (N, 8, 4): a map "a", what is between, then a mean over an axis of "s"."""
    rng = np.random.default_rng(2)
    axis = {"s": 0, "u": 2}[between[-1].output[0]]
    nodes = [models.node("MatMul", "x w", "b"), models.node("Relu", "b", "a"), *between]
    nodes += [
        models.node("ReduceMean", between[-1].output[0], "z", axes=[axis], keepdims=0),
        models.node("MatMul", "z h", "y"),
    ]
    weights = [
        models.weights("w", rng.normal(size=(4, channels))),
        models.weights("h", rng.normal(size=(channels, 3))),
        models.weights("d", rng.normal(size=(8, 8))),
    ]
    inputs = [("x", models.FLOAT, ["N", 8, 4])]
    return models.build(nodes, weights, inputs, [("y", models.FLOAT, ["N", 3])])


TOKENS_FIRST = [
    models.node("Transpose", "a", "t", perm=[1, 0, 2]),
    models.node("MatMul", "t w", "p"),
    models.node("Relu", "p", "r"),
    models.node("MatMul", "r w", "s"),
]

PLACES_MIXED = [
    models.node("Transpose", "a", "t", perm=[0, 2, 1]),
    models.node("MatMul", "t d", "p"),
    models.node("Relu", "p", "u"),
]


@pytest.mark.parametrize(
    ("between", "wanted"),
    [
        (TOKENS_FIRST, "left out: channel-cos@r and 1 more: axis 0 is not the batch: export the"),
        (PLACES_MIXED, "left out: channel-cos@u: the layout is not known: state it with --layout"),
    ],
    ids=["tokens first", "places mixed"],
)
def test_maps_that_are_left_out_by_default_are_told(tmp_path, between, wanted):
    path = models.save(on_a_line(between), tmp_path / "model.onnx")
    data = np.random.default_rng(3).normal(size=(5, 8, 4)).astype(np.float32)
    run = {"input_layout": "NTC", "output_kind": "logits", "provider": "cpu"}

    def left_out(**options):
        result = geed.measure(path, data, "reverse", **run, **options)
        return [n for n in result["notes"] if n.startswith("left out: channel-cos")]

    for options in ({}, {"measures": ["channel-cos"]}):
        (note,) = left_out(**options)
        assert note.startswith(wanted)
    assert not left_out(measures=["channel-cos@a"])
    assert not left_out(measures=["latent-l2"])
    if between is PLACES_MIXED:
        assert not left_out(layout={"u": "NCT"})


def test_a_compiled_file_leaves_such_an_output_out(tmp_path):
    path = models.save(classes_first(), tmp_path / "model.onnx")
    described = geed.compile_measurement(path, "C4", tmp_path / "m.onnx")
    assert {output["layer"] for output in described["outputs"]} == {"r", "z"}
    assert any(n.startswith("left out: softmax-kl@s") for n in described["notes"])


def test_a_metric_refuses_classes_first():
    def classes(x):
        return x.reshape(len(x), -1)[:, :CLASSES].T

    metric = geed.EquivarianceMetric("C4", ["output-l2"])
    with pytest.raises(GeedError, match="axis 0 is not the batch"):
        metric.update(classes, photos())


def test_classes_first_behind_a_loop_are_refused_too(tmp_path):
    """Nothing is proven there: that the model runs with one row more tells."""
    made = classes_first()
    value = models.onnx.helper.make_tensor_value_info
    body = models.onnx.helper.make_graph(
        [models.node("Identity", "go", "going"), models.node("Relu", "a", "b")],
        "body",
        [value("i", 7, []), value("go", 9, []), value("a", 1, None)],
        [value("going", 9, []), value("b", 1, None)],
    )
    loop = models.onnx.helper.make_node("Loop", ["once", "yes", "r"], ["l"], body=body)
    made.graph.node.insert(2, loop)
    made.graph.node[3].input[0] = "l"
    for name, held in (("once", np.array(1)), ("yes", np.array(True))):
        made.graph.initializer.append(models.onnx.numpy_helper.from_array(held, name))
    path = models.save(made, tmp_path / "net.onnx")
    with pytest.raises(GeedError, match=AWAY):
        geed.measure(path, photos(), "C4", measures=["output-l2@s"], samples=3, provider="cpu")


@pytest.mark.parametrize("shape", [[4, -1], [2, -1]])
def test_a_batch_that_a_reshape_states_is_filled_up(tmp_path, shape):
    """A row more, or less, is taken in by the other axis."""
    rng = np.random.default_rng(2)
    nodes = [
        models.conv("x", "w", "c"),
        models.node("Relu", "c", "r"),
        models.node("GlobalAveragePool", "r", "p"),
        models.node("Reshape", "p shape", "y"),
    ]
    weights = [
        models.weights("w", rng.normal(size=(8, 3, 3, 3))),
        models.onnx.numpy_helper.from_array(np.array(shape), "shape"),
    ]
    net = models.build(
        *(nodes, weights, [("x", models.FLOAT, ["N", 3, 6, 6])], [("y", models.FLOAT, ["N", 8])])
    )
    path = models.save(net, tmp_path / "net.onnx")
    result = geed.measure(path, photos(), "C4", measures=["output-l2"], samples=3, provider="cpu")
    assert any(f"takes exactly {shape[0]} rows" in note for note in result["notes"])
    assert result["measurements"][0]["value"] > 0.01


# samples of several inputs


def shares(divided_by):
    """exp(a) divided by an input z of each sample, or by its own sum: then it is a softmax."""
    nodes = [models.node("Exp", "a", "e"), models.node("Div", f"e {divided_by}", "y")]
    given = [("a", models.FLOAT, ["N", 4])]
    if divided_by == "z":
        given.append(("z", models.FLOAT, ["N", 1]))
    else:
        axis = models.onnx.helper.make_node("ReduceSum", ["e", "axis"], ["s"], keepdims=1)
        nodes.insert(1, axis)
    return models.build(
        nodes, [models.integers("axis", [1])], given, [("y", models.FLOAT, ["N", 4])]
    )


def test_outputs_are_judged_by_samples_with_their_own_other_inputs(tmp_path):
    """Every real row of y sums to 1; of one sample's a and another's z none does."""
    a = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32)
    z = np.exp(a).sum(axis=1, keepdims=True)
    asked = {"input": "a", "input_layout": {"a": "NP"}, "layout": {"y": "NK"}, "provider": "cpu"}
    asked |= {"measures": ["softmax-kl@y"], "samples": 6, "norm_samples": 9}
    own = models.save(shares("s"), tmp_path / "softmax.onnx")
    fed = models.save(shares("z"), tmp_path / "fed.onnx")
    (known,) = geed.measure(own, {"a": a}, "S4", **asked)["measurements"]
    result = geed.measure(fed, {"a": a, "z": z}, "S4", **asked)
    assert "output 'y': assuming probabilities; change with --output-kind" in result["notes"]
    np.testing.assert_allclose(
        result["measurements"][0]["deviations"], known["deviations"], rtol=1e-4, atol=1e-6
    )


def mixing_second(above=None):
    """Of two images, u by itself, and v less its mean over the batch, behind a loop.

    With a number, it is the mean of what is above that.
    """
    value = models.onnx.helper.make_tensor_value_info
    of = "a" if above is None else "r"
    mean = models.onnx.helper.make_node("ReduceMean", [of], ["m"], axes=[0], keepdims=1)
    body = models.onnx.helper.make_graph(
        [
            models.node("Identity", "go", "going"),
            models.node("Sub", "a most", "d"),
            models.node("Relu", "d", "r"),
            mean,
            models.node("Sub", "a m", "b"),
        ],
        "body",
        [value("i", 7, []), value("go", 9, []), value("a", 1, None)],
        [value("going", 9, []), value("b", 1, None)],
    )
    made = models.two_images()
    made.graph.initializer.append(models.weights("most", above or 0.0))
    nodes = list(made.graph.node)
    nodes.insert(2, models.onnx.helper.make_node("Loop", ["once", "yes", "cv"], ["l"], body=body))
    nodes[3].input[1] = "l"
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    for name, held in (("once", np.array(1)), ("yes", np.array(True))):
        made.graph.initializer.append(models.onnx.numpy_helper.from_array(held, name))
    return made


@pytest.mark.parametrize(
    ("layouts", "count"),
    [("u", 7), ("uv", 7), ("uv", 1)],  # of one sample, v must be moved to vary
)
def test_rows_that_are_mixed_through_another_input_are_run_one_by_one(tmp_path, layouts, count):
    """It is moved along with the acted-on one, or has a value for each sample."""
    rng = np.random.default_rng(4)
    u, v = (rng.normal(size=(count, c, 8, 8)).astype(np.float32) for c in (3, 2))
    asked = {"input": "u", "input_layout": dict.fromkeys(layouts, "NCHW"), "provider": "cpu"}
    asked |= {"measures": ["output-l2@logits"], "samples": count, "norm_samples": count}
    path = models.save(mixing_second(), tmp_path / "mixing.onnx")
    result = geed.measure(path, {"u": u, "v": v}, "C4", **asked)
    assert result["runtime"]["batch_size"] == 1
    assert any(n.startswith("run one by one, since in a batch ") for n in result["notes"])
    # Alone, v less its mean is 0.
    plain = models.save(models.two_images(), tmp_path / "plain.onnx")
    known = geed.measure(plain, {"u": u, "v": 0 * v}, "C4", **asked)
    np.testing.assert_allclose(
        result["measurements"][0]["deviations"], known["measurements"][0]["deviations"], rtol=1e-4
    )


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_a_row_that_is_mixed_where_another_moved_input_is_extreme_is_looked_at(tmp_path, engine):
    path = models.save(mixing_second(above=100.0), tmp_path / "mixing.onnx")
    rng = np.random.default_rng(4)
    u, v = (rng.normal(size=(24, c, 8, 8)).astype(np.float32) for c in (3, 2))
    asked = {"input": "u", "input_layout": {"u": "NCHW", "v": "NCHW"}, "provider": "cpu"}
    asked |= {"measures": ["output-l2@logits"], "samples": 24, "norm_samples": 24, "batch_size": 4}
    asked["engine"] = engine
    result = geed.measure(path, {"u": u, "v": v}, "C4", **asked)
    assert (result["runtime"]["batch_size"], result["runtime"]["engine"]) == (4, engine)
    for position in (9, 10, 11, 12, 13):
        bright = v.copy()
        bright[result["data"]["indices"][position]] *= 1000
        with pytest.raises(GeedError, match="rows of a batch are not independent"):
            geed.measure(path, {"u": u, "v": bright}, "C4", **asked)
