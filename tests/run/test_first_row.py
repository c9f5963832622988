"""The first row of a run, in its batch and alone."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import models
import numpy as np
import onnx
import pytest

import onnx_geed as geed
from onnx_geed.model import Apart
from onnx_geed.run import prepare, trial
from onnx_geed.run.first_row import FirstRow, unmoved
from onnx_geed.run.graph_engine import check_job
from onnx_geed.run.memory import fit_memory
from onnx_geed.run.options import make_options
from onnx_geed.run.orbits import compare_rows, run_rows
from onnx_geed.run.prepare import prepare_run
from onnx_geed.run.row_check import RowCheck
from onnx_geed.run.session import Session

RNG = np.random.default_rng(0)
ROWS = RNG.random((4, 3), dtype=np.float32)
FEW = {"samples": 3, "norm_samples": 3, "provider": "cpu"}


def session(runtime, dtype=np.float32):
    return Session(runtime, "x", np.dtype(dtype), ("y",), "cpu")


def compared(first, runner, arrays, rows=ROWS, others=None):
    """The rows that were run again; an error where they differ."""
    again = []

    def run(i):
        again.append(i)
        return {"y": rows[i : i + 1] * 2}

    first.compare(runner, rows, arrays, run, lambda i: f"row {i}", others or {})
    return again


@pytest.fixture
def runtime():
    return SimpleNamespace()


@pytest.fixture
def first(runtime):
    return FirstRow(ROWS[:1], {}, {"y": ROWS[:1] * 2}, runtime, "give --batch-size 1")


def test_the_row_of_the_trial_is_taken_once_and_let_go(first, runtime):
    assert first.wants(range(2), 8, ROWS)
    assert not first.wants(range(2, 4), 8, ROWS)
    assert compared(first, session(runtime), {"y": ROWS * 2}) == []
    assert first.tried is None
    assert compared(first, session(runtime), {"y": ROWS * 3}) == []


def test_what_a_later_pass_exposes_is_run_alone(first, runtime):
    compared(first, session(runtime), {"y": ROWS * 2})

    def run(i):
        return {"z": ROWS[i : i + 1] * 3}

    with pytest.raises(geed.GeedError, match="'z'"):
        first.compare(session(None), ROWS, {"z": ROWS * 3 + 1}, run, str, {})
    first.compare(session(None), ROWS, {"z": ROWS * 3}, run, str, {})


def test_rows_that_are_all_the_same_tell_nothing(first, runtime):
    same = np.repeat(ROWS[:1], 4, axis=0)
    assert compared(first, session(runtime), {"y": same * 2}, same) == []
    with pytest.raises(geed.GeedError, match="'y'"):
        compared(first, session(runtime), {"y": ROWS * 2 + ROWS.mean(axis=0)})


@pytest.mark.parametrize("rows", [2, 4])
def test_a_row_that_changes_with_its_batch_is_named(first, runtime, rows):
    mixed = ROWS * 2 + ROWS.mean(axis=0)
    with pytest.raises(geed.GeedError, match=r"row 0: tensor 'y' changes .*; give --batch-size 1"):
        compared(first, session(runtime), {"y": mixed[:rows]}, ROWS[:rows])


def test_rounding_in_another_order_is_no_change(first, runtime):
    rounded = ROWS * 2 * (1 + np.float32(3e-7))
    assert not np.array_equal(rounded, ROWS * 2)
    assert compared(first, session(runtime), {"y": rounded}) == []


@pytest.mark.parametrize(("half", "passes"), [("y", True), ("z", False)])
def test_half_precision_may_change_by_more(first, runtime, half, passes):
    first.half = frozenset([half])
    changed = {"y": ROWS * 2 + np.float32(5e-3)}
    if passes:
        assert compared(first, session(runtime), changed) == []
    else:
        with pytest.raises(geed.GeedError):
            compared(first, session(runtime), changed)


def test_a_row_of_another_network_or_another_row_is_run_alone(runtime):
    for runner, rows in ((SimpleNamespace(), ROWS), (runtime, ROWS[::-1])):
        first = FirstRow(ROWS[:1], {}, {"y": ROWS[:1] * 5}, runtime, "")
        assert compared(first, session(runner), {"y": rows * 2}, rows) == [0]


def test_a_row_with_other_values_beside_it_is_run_alone(runtime):
    beside, other = ({"z": ROWS[i : i + 1]} for i in (0, 1))
    for given, again in ((beside, []), (other, [0])):
        tried = ROWS[:1] * (2 if given is beside else 5)
        first = FirstRow(ROWS[:1], beside, {"y": tried}, runtime, "")
        assert compared(first, session(runtime), {"y": ROWS * 2}, others=given) == again


SETS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 2] x, float[N, 3, 2] z) => (float[N, 2] y) {
w = Constant <value_floats = [1.0, 2.0, 4.0]> ()
t = Unsqueeze (w, one)
p = Mul (z, t)
s = Add (x, p)
y = ReduceSum <keepdims = 0> (s, one)
}"""


def test_an_element_that_moves_but_the_input_beside_is_another_row(tmp_path):
    model = onnx.parser.parse_model(SETS)
    model.graph.initializer.append(models.weights("one", [1], np.int64))
    onnx.save(model, tmp_path / "m.onnx")
    # Swapping the last two points leaves x as it is, and a piece of an orbit may begin with that.
    x, z = (RNG.random((2, 3, 2), dtype=np.float32) for _ in range(2))
    x[:, 2] = x[:, 1]
    asked = {"input_layout": {"x": "NPC", "z": "NPC"}, "measures": ["output-l2"], **FEW}
    run = prepare_run(tmp_path / "m.onnx", {"x": x, "z": z}, "S3", make_options(asked))
    source = run.task.source
    runner = run.worker.session(run.task.network, ["y"])
    assert isinstance(source.check, FirstRow)
    rows, feeds = source.rows([0]), source.other_inputs([0], 6)
    elements = [i for i in range(1, 6) if np.array_equal(rows[i], rows[0])] + [3, 4]
    given = rows[elements], {name: value[elements] for name, value in feeds.items()}
    arrays = run_rows(source, runner, *given, 8)
    compare_rows(source, runner, *given, arrays, [0], elements)


def test_orbits_of_another_input_are_made_for_the_jobs_that_are_looked_at_alone(
    tmp_path, monkeypatch
):
    model = onnx.parser.parse_model(SETS)
    model.graph.initializer.append(models.weights("one", [1], np.int64))
    onnx.save(model, tmp_path / "m.onnx")
    x, z = (RNG.random((4, 3, 2), dtype=np.float32) for _ in range(2))
    asked = {"input_layout": {"x": "NPC", "z": "NPC"}, "measures": ["output-l2"], **FEW}
    run = prepare_run(tmp_path / "m.onnx", {"x": x, "z": z}, "S3", make_options(asked))
    source, made = run.task.source, []
    runner = run.worker.session(run.task.network, ["y"])
    make = type(source).other_inputs

    def making(source, positions, n):
        made.append(list(positions))
        return make(source, positions, n)

    monkeypatch.setattr(type(source), "other_inputs", making)
    assert isinstance(source.check, FirstRow)
    # Of extreme rows every job has to be known.
    for check, known in ((source.check, [[0]]), (RowCheck({}, 3, 0), [[0], [1], [2]])):
        made.clear()
        for position in range(3):
            check_job(replace(source, check=check), runner, [position], 8)
        assert made == known


@pytest.fixture
def path(tmp_path):
    return models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")


def counted(monkeypatch):
    """The rows of each run of any session."""
    runs, run = [], Session.run_as_given

    def counting(self, batch, feeds=None):
        runs.append(len(batch))
        return run(self, batch, feeds)

    monkeypatch.setattr(Session, "run_as_given", counting)
    return runs


def test_elsewhere_a_row_is_run_alone(first):
    check = pickle.loads(pickle.dumps(first))
    assert isinstance(check, RowCheck)
    assert check.once
    assert check.cure == "give --batch-size 1"
    assert check.wants(range(2), 4, ROWS)
    assert not check.wants(range(1, 4), 4, ROWS)
    rounded = ROWS * 2 * (1 + np.float32(3e-6))
    assert len(compared(check, session(None), {"y": rounded})) == 1
    with pytest.raises(geed.GeedError, match="give --batch-size 1"):
        compared(check, session(None), {"y": ROWS * 2 + ROWS.mean(axis=0)})


def test_what_is_large_is_rather_run_again_than_kept(path, monkeypatch):
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)
    kept = geed.measure(path, images, "C4", **FEW)
    monkeypatch.setattr(trial, "_KEPT_BYTES", 1000)
    runs = counted(monkeypatch)
    again = geed.measure(path, images, "C4", **FEW)
    assert runs == [1, 1, 12, 1]
    assert again["measurements"] == kept["measurements"]


@pytest.mark.parametrize(("batch", "rows"), [(4, [4, 4, 4]), (None, [12])])
def test_a_proven_model_runs_two_rows_more_than_it_measures(path, monkeypatch, batch, rows):
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)
    runs = counted(monkeypatch)
    geed.measure(path, images, "C4", batch_size=batch, **FEW)
    assert runs == [1, 1, *rows]


def test_what_the_trial_has_run_is_compared_with_the_first_job(path, monkeypatch):
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)
    compared, compare = [], FirstRow.compare

    def comparing(self, runner, rows, arrays, *given):
        compared.append(np.array_equal(rows[:1], self.row) and set(arrays) <= set(self.tried))
        for name, array in arrays.items():
            np.testing.assert_allclose(array[:1], self.tried[name][:1], rtol=1e-5, atol=1e-6)
        compare(self, runner, rows, arrays, *given)

    monkeypatch.setattr(FirstRow, "compare", comparing)
    geed.measure(path, images, "C4", **FEW)
    assert compared == [True]


def test_a_run_row_by_row_compares_nothing(path):
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)
    one = prepare_run(path, images, "C4", make_options({"batch_size": 1, **FEW}))
    several = prepare_run(path, images, "C4", make_options(FEW))
    assert one.task.source.check is None
    assert isinstance(several.task.source.check, FirstRow)
    assert several.first(2).task.source.check is several.task.source.check


def test_of_several_groups_the_first_batch_is_looked_at(path):
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)

    def prepared(group, beside=(), **more):
        return prepare_run(path, images, group, make_options({**FEW, **more}), beside=beside)

    first = prepared("C4")
    second = prepared("flip-h", [first])
    assert isinstance(first.task.source.check, FirstRow)
    assert second.task.source.check is first.task.source.check
    alone = prepared("C4", batch_size=1)
    assert isinstance(prepared("flip-h", [alone]).task.source.check, FirstRow)


MIXING = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 16, 16] x) => (float[N, 4] y) {
a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
r = Relu (a)
m = ReduceMean <axes = [0], keepdims = 1> (r)
d = Sub (r, m)
b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (d, v)
r2 = Relu (b)
p = GlobalAveragePool (r2)
y = Flatten (p)
}"""


@pytest.fixture
def mixing(tmp_path, monkeypatch):
    """A model that takes away the mean of its batch, which is held to be proven."""
    model = onnx.parser.parse_model(MIXING)
    stored = [
        models.weights("w", RNG.normal(size=(4, 3, 3, 3))),
        models.weights("v", RNG.normal(size=(4, 4, 3, 3))),
    ]
    model.graph.initializer.extend(stored)
    onnx.save(model, tmp_path / "mixing.onnx")
    monkeypatch.setattr(trial, "rows_apart", lambda *a, **k: Apart(1))
    return tmp_path / "mixing.onnx"


IMAGES = np.random.default_rng(1).random((3, 3, 16, 16), dtype=np.float32)
MEASURES = {"measures": ["latent-l2@r", "latent-l2@r2", "output-l2@y"], **FEW}


@pytest.mark.parametrize("layers", [["r"], ["r", "r2"], ["r2"]])
def test_every_pass_is_looked_at(mixing, monkeypatch, layers):
    asked = {"measures": [f"latent-l2@{name}" for name in layers], **FEW}
    monkeypatch.setattr(prepare, "fit_memory", in_passes)
    if layers == ["r"]:
        geed.measure(mixing, IMAGES, "C4", **asked)
    else:
        with pytest.raises(geed.GeedError, match=r"'r2'.*rows of a batch are not independent"):
            geed.measure(mixing, IMAGES, "C4", **asked)


def in_passes(plan, *given, **named):
    """Each tensor in a pass of its own."""
    share = fit_memory(plan, *given, **named)
    return replace(share, passes=tuple((name,) for names in share.passes for name in names))


def test_a_group_after_one_that_runs_row_by_row_is_looked_at(mixing, monkeypatch):
    def one_row(plan, *given, **named):
        share = fit_memory(plan, *given, **named)
        return replace(share, batch=1) if plan.group.name == "C5" else share

    monkeypatch.setattr(prepare, "fit_memory", one_row)
    with pytest.raises(geed.GeedError, match="rows of a batch are not independent"):
        geed.measure_groups(mixing, IMAGES, ["C5", "C8"], **MEASURES)


@pytest.mark.parametrize(("batch", "symmetry"), [(4, "constant"), (2, "half turn")])
def test_a_first_sample_that_the_group_leaves_as_it_is_hides_nothing(mixing, batch, symmetry):
    images = IMAGES.copy()
    first = prepare_run(mixing, images, "C4", make_options(FEW)).task.source.indices[0]
    turned = images[first, :, ::-1, ::-1]
    images[first] = 0.5 if symmetry == "constant" else (images[first] + turned) / 2
    with pytest.raises(geed.GeedError, match="rows of a batch are not independent"):
        geed.measure(mixing, images, "C4", batch_size=batch, **MEASURES)
    alone = geed.measure(mixing, images, "C4", batch_size=1, **MEASURES)
    assert len(alone["measurements"]) == 3


def test_where_all_samples_stay_as_they_are_nothing_is_wrong(path):
    images = np.full((3, 3, 8, 8), 0.5, dtype=np.float32)
    prepared = prepare_run(path, images, "C4", make_options(FEW))
    assert isinstance(prepared.task.source.check, RowCheck)
    together = geed.measure(path, images, "C4", batch_size=4, **FEW)
    alone = geed.measure(path, images, "C4", batch_size=1, **FEW)
    for a, b in zip(together["measurements"], alone["measurements"], strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-5, atol=1e-6)


def test_rows_as_the_first_are_found():
    assert unmoved(ROWS) == {0}
    assert unmoved(ROWS[[1, 0, 1, 2, 1]]) == {0, 2, 4}


@pytest.mark.parametrize("op", ["Squeeze", "Split", "Gather"])
@pytest.mark.parametrize("rows", ["N", 1])
def test_what_the_runtime_refuses_in_batches_is_not_proven(tmp_path, op, rows):
    make = onnx.helper.make_node
    last = {
        "Squeeze": [make("Squeeze", ["m", "i"], ["s"]), make("Unsqueeze", ["s", "i"], ["y"])],
        "Split": [make("Split", ["m", "one"], ["y"], axis=0)],
        "Gather": [make("Gather", ["m", "i"], ["y"], axis=0)],
    }[op]
    nodes = [make("ReduceMean", ["x"], ["m"], axes=[3], keepdims=0), *last]
    shape = [rows, 3, 8, 8]
    stored = [models.weights(name, [i], np.int64) for name, i in (("i", 0), ("one", 1))]
    model = models.build(nodes, stored, [("x", models.FLOAT, shape)], [("y", models.FLOAT, None)])
    onnx.save(model, tmp_path / "m.onnx")
    images = RNG.random((3, 3, 8, 8), dtype=np.float32)
    asked = {"measures": ["output-l2@y"], "layout": {"y": "NCK"}, **FEW}
    result = geed.measure(tmp_path / "m.onnx", images, "C4", **asked)
    alone = geed.measure(tmp_path / "m.onnx", images, "C4", batch_size=1, **asked)
    assert result["measurements"] == alone["measurements"]
    assert any(n.startswith("run one by one, since in a batch ") for n in result["notes"])
