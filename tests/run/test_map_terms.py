"""Maps that several layers share are compared once, and every layer has its own numbers."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from models import FLOAT, build, conv, node, save, weights
from running import images, orbits

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.cache import write_cache
from onnx_geed.groups import layout_action, parse_layout, still_action
from onnx_geed.measures import Layer, Measure
from onnx_geed.model import Joined, load_model
from onnx_geed.run import make_options, map_terms, prepare_run, session
from onnx_geed.run.job import orbit_jobs
from onnx_geed.run.joining import Rows, shape_of, whole_of
from onnx_geed.run.map_terms import Terms, terms_of
from onnx_geed.run.session import open_exposed
from onnx_geed.run.worker import Worker

SHARED = ("grown", "all")


def dense_block(size=9, *, last=False, batch="N", seed=0):
    """Three layers, each the one before and what a convolution adds.

    ``stem`` is in all of them. With ``last`` maps are N,H,W,C from the stem on, and pixelwise.
    """
    rng = np.random.default_rng(seed)
    nodes, kept = [], []
    axis = 3 if last else 1

    def grow(x, channels, made, name):
        if last:
            kept.append(weights(f"w_{name}", rng.normal(size=(channels, made))))
            nodes.append(node("MatMul", f"{x} w_{name}", f"{name}_pre"))
        else:
            kept.append(weights(f"w_{name}", rng.normal(size=(made, channels, 3, 3))))
            nodes.append(conv(x, f"w_{name}", f"{name}_pre"))
        nodes.append(node("Relu", f"{name}_pre", name))

    if last:
        nodes.append(node("Transpose", "x", "turned", perm=[0, 2, 3, 1]))
    grow("turned" if last else "x", 3, 5, "stem")
    grow("stem", 5, 3, "one")
    nodes.append(node("Concat", "stem one", "grown", axis=axis))
    grow("grown", 8, 4, "two")
    nodes.append(node("Concat", "grown two", "all", axis=axis))
    nodes.append(node("ReduceMean", "all", "latent", axes=[1, 2] if last else [2, 3], keepdims=0))
    kept.append(weights("head", rng.normal(size=(12, 4))))
    nodes.append(node("MatMul", "latent head", "logits"))
    inputs = [("x", FLOAT, [batch, 3, size, size])]
    return build(nodes, kept, inputs, [("logits", FLOAT, [batch, 4])])


LAYERS = {"measures": ["channel-cos@stem", "channel-cos@grown", "channel-cos@all"]}


def by_layer(result):
    return {m["layer"]: m for m in result["measurements"] if m["measure"] == "channel-cos"}


def brought_whole(monkeypatch):
    monkeypatch.setattr(session, "joined_tensors", lambda proto, names: {})


@pytest.fixture
def taken(monkeypatch):
    """The terms of each run."""
    found = []
    made = map_terms.terms_of

    def noted(*arguments):
        found.append(made(*arguments))
        return found[-1]

    monkeypatch.setattr("onnx_geed.run.orbit_pieces.terms_of", noted)
    return found


@pytest.mark.parametrize("batch", [2, 3, 8, 24])
@pytest.mark.parametrize("group", ["C8", "D4", "C6"])
def test_layers_in_parts_have_the_numbers_of_the_equations(tmp_path, taken, group, batch):
    model = dense_block()
    path, data = save(model, tmp_path / "m.onnx"), images((3, 9, 9), 3)
    options = {"batch_size": batch, "provider": "cpu", "norm_samples": 3}
    found = by_layer(geed.measure(path, data, group, **LAYERS, **options))
    assert {len(terms.all) for terms in taken} == {3}
    assert all(set(terms.apart) == {*SHARED} for terms in taken)
    drawn = data[naive.sample_indices(3, 0)[0]]
    want = orbits(model, group, drawn, ["stem", *SHARED], 8)
    for name, y in zip(("stem", *SHARED), want, strict=True):
        want_of_name = naive.channel_cos(y, group)
        np.testing.assert_allclose(found[name]["deviations"], want_of_name, atol=1e-6)
        by_channel = naive.channel_means(y, group)
        np.testing.assert_allclose(found[name]["per_channel"], by_channel, atol=1e-6)
    # A network that is not equivariant: no two layers have the same numbers.
    assert len({found[name]["value"] for name in found}) == 3


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 16, 24])
@pytest.mark.parametrize("samples", [1, 2, 5, 19])
@pytest.mark.parametrize(("last", "support"), [(False, "full"), (True, "full"), (False, "disk")])
def test_they_have_the_bits_of_whole_layers_live_and_from_a_cache(
    tmp_path, monkeypatch, samples, batch, last, support
):
    path = save(dense_block(last=last), tmp_path / "m.onnx")
    data = images((3, 9, 9), 20)
    options = {"samples": samples, "norm_samples": 20, "batch_size": batch, "provider": "cpu"}
    options["support"] = support
    live = geed.measure(path, data, "C8", **LAYERS, **options)
    write_cache(path, data, "C8", tmp_path / "a.geed", **LAYERS, **options)
    cached = geed.measure_cache(tmp_path / "a.geed")
    assert live["measurements"] == cached["measurements"]
    with monkeypatch.context() as patched:
        brought_whole(patched)
        whole = geed.measure(path, data, "C8", **LAYERS, **options)
    assert live["measurements"] == whole["measurements"]
    pairs = [m["between_samples"] for m in live["measurements"]]
    assert all((pair is None) == (samples == 1) for pair in pairs)


def test_what_is_needed_whole_is_put_together(tmp_path, monkeypatch, taken):
    path, data = save(dense_block(), tmp_path / "m.onnx"), images((3, 9, 9), 4)
    options = {"measures": [*LAYERS["measures"], "latent-l2@all"], "norm_samples": 4}
    found = geed.measure(path, data, "C8", **options)
    assert {frozenset(terms.apart) for terms in taken} == {frozenset({"grown"})}
    with monkeypatch.context() as patched:
        brought_whole(patched)
        assert found["measurements"] == geed.measure(path, data, "C8", **options)["measurements"]


def test_where_channels_move_too_a_layer_is_compared_whole(tmp_path, monkeypatch, taken):
    path, data = save(dense_block(), tmp_path / "m.onnx"), images((3, 9, 9), 4)
    group = geed.parse_group("C4")
    rows = np.stack([np.roll(np.arange(12), 3 * k) for k in range(4)])
    table = geed.Table(group.elements, "channels", rows, "given")
    options = {**LAYERS, "output_action": {"all": table}, "norm_samples": 4}
    found = geed.measure(path, data, "C4", **options)
    assert {frozenset(terms.apart) for terms in taken} == {frozenset({"grown"})}
    with monkeypatch.context() as patched:
        brought_whole(patched)
        assert found["measurements"] == geed.measure(path, data, "C4", **options)["measurements"]
    own = geed.FunctionAction(group, lambda g, x: np.rot90(x, g, axes=(-2, -1)), any_size=True)
    mine = geed.measure(path, data, action=own, norm_samples=4, **LAYERS)
    plain = geed.measure(path, data, "C4", norm_samples=4, **LAYERS)
    for a, b in zip(mine["measurements"], plain["measurements"], strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], atol=1e-6)


def test_only_channels_that_are_moved_and_compared_alike_are_shared():
    group = geed.parse_group("C4")
    action, still = geed.grid_action(group, 4, 4), still_action(group, parse_layout("NCHW"), (4, 4))
    joined = {"a": Joined(("p", "q"), 1), "b": Joined(("p", "r"), 1)}

    class Planned:
        layers = {name: Layer(name, (5, 4, 4), "NCHW") for name in "abp"}  # noqa: RUF012

    def tensors(*measures, alone=("a", "b", "p")):
        terms = terms_of(Planned, measures, joined, alone)
        assert len({term.key for term in terms.all}) == len(terms.all)
        return [[terms.all[t].tensor for t in own] for own in terms.of_measures], len(terms.all)

    first, second = Measure("channel-cos", "a", action), Measure("channel-cos", "b", action)
    both = [["p", "q"], ["p", "r"]]
    assert tensors(first, second) == (both, 3)
    assert tensors(first, replace(second, action=still)) == (both, 4)
    assert tensors(first, replace(second, support="disk")) == (both, 4)
    assert tensors(Measure("channel-cos", "p", action), first) == ([["p"], ["p", "q"]], 2)
    assert tensors(first, second, alone=("b",)) == ([["a"], ["p", "r"]], 3)


def test_a_network_of_a_fixed_batch_is_run_in_parts_too(tmp_path, taken):
    data = images((3, 9, 9), 3)
    free, fixed = (
        geed.measure(
            save(dense_block(batch=batch), tmp_path / f"{batch}.onnx"),
            data,
            "C8",
            norm_samples=3,
            **LAYERS,
        )
        for batch in ("N", 1)
    )
    assert all(terms.apart for terms in taken)
    for a, b in zip(free["measurements"], fixed["measurements"], strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], atol=1e-6)


def test_the_runtime_is_not_asked_for_what_its_parts_tell(tmp_path):
    path = save(dense_block(), tmp_path / "m.onnx")
    data, options = images((3, 9, 9), 2), make_options({**LAYERS, "provider": "cpu"})
    prepared = prepare_run(path, data, "C4", options)
    network = prepared.task.network
    assert network.exposed[:3] == ("stem", *SHARED)
    opened = prepared.worker.session(network, network.exposed)
    asked = {output.name for output in opened.runtime.get_outputs()}
    assert asked == {"stem", "one", "two", *network.exposed[3:]}
    apart = opened.apart(["all"])
    assert apart.outputs[:4] == ("stem", "grown", "one", "two")
    assert set(opened.run(data)) == set(network.exposed)
    whole = opened.run(data)["all"]
    np.testing.assert_array_equal(
        np.concatenate([apart.run(data)[part] for part in ("stem", "one", "two")], axis=1), whole
    )
    assert set(opened.only(["grown"]).run(data)) == {"grown"}


def test_of_large_parts_a_trial_has_fewer_rows_than_of_small_ones(tmp_path):
    path, data = save(dense_block(120), tmp_path / "m.onnx"), images((3, 120, 120), 3)
    found = geed.measure(path, data, "C4", **LAYERS)
    prepared = prepare_run(path, data, "C4", make_options(LAYERS))
    assert prepared.task.plan.layers["all"].shape == (12, 120, 120)
    assert [len(m["deviations"]) for m in found["measurements"]] == [3] * 3


def test_nan_in_a_part_is_told_of_the_layer(tmp_path):
    model = dense_block()
    (made,) = (n for n in model.graph.node if list(n.output) == ["two"])
    made.op_type = "Log"  # of what is negative
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(GeedError, match=r"NaN or infinity.*sample 0.*tensor 'all'"):
        geed.measure(
            path, images((3, 9, 9), 2), "C4", measures=["channel-cos@grown", "channel-cos@all"]
        )


def test_parts_of_another_shape_than_before_are_refused():
    joined = {"t": Joined(("a", "b"), 1)}
    layer = Layer("t", (5, 4, 4), "NCHW")

    class Planned:
        layers = {"t": layer}  # noqa: RUF012

    terms = Terms((), (), (), joined)
    arrays = {"a": np.zeros((2, 3, 4, 4)), "b": np.zeros((2, 2, 4, 4))}
    terms.check(Planned, arrays)
    for b in ((2, 3, 4, 4), (2, 2, 4, 3), (2, 2, 5, 4)):
        with pytest.raises(GeedError, match="had \\(5, 4, 4\\) before"):
            terms.check(Planned, {**arrays, "b": np.zeros(b)})


def test_rows_are_put_together_when_they_are_asked_for():
    joined = {"t": Joined(("a", "b", "a"), 1)}
    given = {"a": np.ones((2, 3, 4)), "b": np.zeros((3, 1, 4)), "c": np.ones((2, 7))}
    rows = Rows(["t", "c"], joined, given)
    assert list(rows) == ["t", "c"]
    assert len(rows) == 2
    assert rows["t"].shape == shape_of("t", rows) == (2, 7, 4)
    np.testing.assert_array_equal(rows["t"][:, :, 0], [[1, 1, 1, 0, 1, 1, 1]] * 2)
    np.testing.assert_array_equal(rows["c"], given["c"])
    assert shape_of("c", rows) == shape_of("c", given) == (2, 7)
    with pytest.raises(GeedError, match=r"cannot join 't'.*\(2, 3, 4\), \(2, 1, 5\)"):
        whole_of("t", joined, {**given, "b": np.zeros((2, 1, 5))})


def test_a_session_of_named_tensors_is_in_parts_only_where_they_share_one(tmp_path):
    model = load_model(save(dense_block(), tmp_path / "m.onnx"))
    assert not open_exposed(model, "x", ["all", "logits"], "cpu").joined
    assert set(open_exposed(model, "x", ["all", "two"], "cpu").joined) == {"all"}


def test_another_plan_of_the_same_names_is_measured_by_its_own_actions(tmp_path):
    path, data = save(dense_block(), tmp_path / "m.onnx"), images((3, 9, 9), 2)
    prepared = prepare_run(path, data, "C8", make_options({**LAYERS, "provider": "cpu"}))
    plan = prepared.task.plan
    nearest = [
        replace(m, action=layout_action(plan.group, m.action.layout, m.action.lengths, "nearest"))
        for m in plan.measures
    ]
    tasks = prepared.task, replace(prepared.task, plan=replace(plan, measures=tuple(nearest)))
    jobs = [orbit_jobs(task, prepared.passes[0], 2)[0] for task in tasks]
    key, worker = ("channel-cos", "all"), Worker()
    smooth, coarse = (worker.run(job).measures[key].deviations for job in jobs)
    assert (smooth != coarse).any()
    for job, got in zip(jobs, (smooth, coarse), strict=True):
        np.testing.assert_array_equal(Worker().run(job).measures[key].deviations, got)
