"""A job is complete in itself: pickled, it gives the same bits in another process."""

import pickle
import subprocess
import sys
from dataclasses import replace

import models
import numpy as np
import pytest
from running import images

import onnx_geed as geed
from onnx_geed.run import (
    KernelEngine,
    OrbitStatistics,
    Worker,
    join,
    measurements_of,
    prepare_run as prepare,
)
from onnx_geed.run.job import orbit_jobs, point_jobs
from onnx_geed.run.options import make_options

FEW = {"samples": 5, "norm_samples": 8, "provider": "cpu", "batch_size": 8}
ELSEWHERE = """
import pickle, sys
from onnx_geed.run import Worker
jobs, worker = pickle.load(open(sys.argv[1], "rb")), Worker()
pickle.dump([worker.run(pickle.loads(job)) for job in jobs], open(sys.argv[2], "wb"))
"""


def elsewhere(jobs, folder):
    """What another process, which inherits nothing, makes of jobs, each pickled alone."""
    (folder / "jobs").write_bytes(pickle.dumps([pickle.dumps(job) for job in jobs]))
    words = [sys.executable, "-c", ELSEWHERE, str(folder / "jobs"), str(folder / "values")]
    subprocess.run(words, check=True)
    return pickle.loads((folder / "values").read_bytes())


def all_jobs(prepared):
    (layers,) = prepared.passes
    orbits = orbit_jobs(prepared.task, layers, prepared.count)
    return orbits + point_jobs(prepared.task, layers, prepared.count)


def records(prepared, values):
    plan = prepared.task.plan
    joined = join(plan, [OrbitStatistics(), *values])
    return measurements_of(plan, joined, norm_samples=8, interval="t", seed=0)


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("kind", ["file", "array", "function"])
def test_a_pickled_job_gives_the_same_bits_in_another_process(tmp_path, monkeypatch, engine, kind):
    path, array = (
        models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx"),
        images((3, 8, 8), 9),
    )
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "own.py").write_text("import numpy\ndef data(): return numpy.load('x.npy')\n")
    monkeypatch.chdir(tmp_path)
    data = {"file": str(tmp_path / "x.npy"), "array": array, "function": "own:data"}[kind]
    prepared = prepare(path, data, "C4", make_options({**FEW, "engine": engine}))
    jobs = all_jobs(prepared)
    assert [len(job.positions) for job in jobs] == [2, 2, 1, 3]
    assert jobs[1].pairs == ((1, 2), (2, 3), (3, 4))
    there = records(prepared, elsewhere(jobs, tmp_path))
    here = records(prepared, map(prepared.worker.run, jobs))
    assert there == here
    live = geed.measure(path, data, "C4", **FEW, engine=engine)["measurements"]
    for ours, theirs in zip(here, live, strict=True):
        assert ours == {key: theirs[key] for key in ours}


def test_a_network_whose_weights_were_drawn_anew_goes_along(tmp_path):
    from onnx_geed.run.references import untrained

    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    prepared = prepare(path, images((3, 8, 8), 9), "C4", make_options(FEW))
    other, _ = untrained(prepared)
    trained = records(prepared, elsewhere(all_jobs(prepared), tmp_path))
    drawn = records(other, elsewhere(all_jobs(other), tmp_path))
    assert drawn == records(other, map(prepared.worker.run, all_jobs(other)))
    assert drawn != trained


def test_a_job_holds_no_session_and_pickles_small(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images((3, 8, 8), 400))
    prepared = prepare(path, str(tmp_path / "x.npy"), "C4", make_options(FEW))
    size = len(pickle.dumps(all_jobs(prepared)[0]))
    # The graph goes along, and the samples stay in their file.
    assert size < path.stat().st_size + (64 << 10)
    assert pickle.loads(pickle.dumps(all_jobs(prepared)[0])).task.network.token == (
        prepared.task.network.token
    )


def test_data_that_no_other_process_can_open_are_said_to_be_such(tmp_path):
    class Own:
        def __init__(self):
            self.rows = images((3, 8, 8), 9)

        def __array__(self, dtype=None, copy=None):
            return self.rows

    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    prepared = prepare(path, images((3, 8, 8), 9), "C4", make_options(FEW))
    source = prepared.task.source
    main = replace(source.main, opening=replace(source.main.opening, data=Own()))
    task = replace(prepared.task, source=replace(source, main=main))
    with pytest.raises(geed.GeedError, match="Own cannot be sent to another process; give a path"):
        pickle.dumps(task)


def test_an_action_of_ones_own_goes_along_unless_it_is_a_function_within(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    table = np.arange(64).reshape(8, 8)
    flip = geed.parse_group("flip-h")
    tables = geed.IndexAction(flip, "HW", np.stack([table.ravel(), table[:, ::-1].ravel()]))
    options = make_options({**FEW, "measures": ["latent-l2"]})
    prepared = prepare(path, images((3, 8, 8), 9), None, options, tables)
    jobs = all_jobs(prepared)
    assert records(prepared, elsewhere(jobs, tmp_path)) == records(
        prepared, map(prepared.worker.run, jobs)
    )
    within = geed.FunctionAction(flip, lambda g, x: x[..., ::-1] if g else x)
    prepared = prepare(path, images((3, 8, 8), 9), None, options, within)
    with pytest.raises(geed.GeedError, match="action: cannot be sent to another process"):
        pickle.dumps(all_jobs(prepared)[0])


def test_a_worker_tells_networks_apart(tmp_path):
    """Of two networks on the same layers, each job gets its own."""
    worker, values = Worker(), []
    for seed in (0, 1, 0):
        folder = tmp_path / f"{len(values)}"
        folder.mkdir()
        path = models.save(models.random_cnn(seed, (8, 8)), folder / "m.onnx")
        prepared = prepare(path, images((3, 8, 8), 9), "C4", make_options(FEW))
        values.append(records(prepared, map(worker.run, all_jobs(prepared))))
    assert values[0] == values[2] != values[1]


class Doubled:
    """A network that is a function: every value doubled, then cut off below."""

    outputs = ("h", "y")
    dtype = np.dtype(np.float32)

    def run(self, batch, feeds=None):
        h = np.maximum(2 * batch - 1, 0)
        return {"h": h, "y": h.max(axis=(2, 3))}

    def only(self, names):
        return Only(self, tuple(names))


class Only:
    def __init__(self, runner, names):
        self.runner, self.outputs, self.dtype = runner, names, runner.dtype

    def run(self, batch, feeds=None):
        arrays = self.runner.run(batch, feeds)
        return {name: arrays[name] for name in self.outputs}

    def only(self, names):
        return Only(self.runner, tuple(names))


def test_a_function_in_place_of_a_session_gives_the_numbers_of_the_file(tmp_path):
    from onnx import parser

    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        "g (float[N, 3, 8, 8] x) => (float[N, 3] y)\n"
        "<float two = {2}, float one = {1}>{\n"
        "  a = Mul (x, two)\n  b = Sub (a, one)\n  h = Relu (b)\n"
        "  m = GlobalMaxPool (h)\n  y = Flatten (m)\n}"
    )
    path = models.save(model, tmp_path / "m.onnx")
    # Eighths, so that no last bit is in doubt.
    data = np.round(images((3, 8, 8), 9) * 8) / 8
    options = {**FEW, "measures": ["channel-cos@h", "latent-l2@y", "output-l2@y"]}
    prepared = prepare(path, data, "C4", make_options(options))
    engine = KernelEngine(Doubled())
    own = records(prepared, map(engine.run, all_jobs(prepared)))
    assert own == records(prepared, map(prepared.worker.run, all_jobs(prepared)))
    assert own[1]["value"] == 0  # a maximum is invariant
    assert own[0]["value"] == pytest.approx(-1)


def test_a_function_that_gives_other_numbers_or_shapes_is_seen(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    prepared = prepare(path, images((3, 8, 8), 9), "C4", make_options(FEW))
    jobs = all_jobs(prepared)
    right = records(prepared, map(prepared.worker.run, jobs))
    (layers,) = prepared.passes
    session = prepared.worker.session(prepared.task.network, layers)

    class Changed(Only):
        def run(self, batch, feeds=None):
            arrays = super().run(batch, feeds)
            return arrays | {"block0": self.change(arrays["block0"])}

    changed = Changed(session, layers)
    changed.change = lambda array: array * np.linspace(1, 2, 8, dtype=np.float32)
    assert records(prepared, map(KernelEngine(changed).run, jobs)) != right
    changed.change = lambda array: array[:, :, ::2]
    with pytest.raises(geed.GeedError, match=r"'block0' has the shape .* depends on the sample"):
        KernelEngine(changed).run(jobs[0])
