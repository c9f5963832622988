"""An orbit in pieces gives the bits of the orbit as a whole, and waits for nobody in vain."""

import itertools
import threading
import weakref

import models
import numpy as np
import pytest
from onnx import TensorProto
from running import images

import onnx_geed as geed
from onnx_geed.cache import write_cache
from onnx_geed.run import join, make_options, memory, prepare_run
from onnx_geed.run.between_samples import Centres
from onnx_geed.run.job import orbit_jobs
from onnx_geed.run.orbit_pieces import Pieces
from onnx_geed.run.session import Session
from onnx_geed.run.worker import Worker

KEY = ("channel-cos", "map")


@pytest.fixture
def path(tmp_path):
    return models.save(models.random_cnn(3, (9, 9)), tmp_path / "m.onnx")


def whole(path, data, group, folder, options):
    """The same through a cache, which holds whole orbits."""
    write_cache(path, data, group, folder, **options)
    return geed.measure_cache(folder)["measurements"]


@pytest.mark.parametrize(
    ("group", "batch", "support"),
    [
        ("C8", 3, "full"),
        ("C8", 2, "full"),
        ("C8", 4, "disk"),
        ("C12", 3, "full"),
        ("C8", 7, "disk"),
        ("D4", 2, "disk"),
        ("C12", 5, "full"),
        ("shift3x3", 4, "full"),
        ("flip-h", 1, "full"),
    ],
)
@pytest.mark.parametrize("samples", [1, 2, 5, 16, 19])
def test_pieces_give_the_bits_of_whole_orbits(tmp_path, path, group, batch, support, samples):
    data = images((3, 9, 9), 20)
    options = {"samples": samples, "norm_samples": 20, "batch_size": batch, "provider": "cpu"}
    options["support"] = support
    live = geed.measure(path, data, group, **options)
    assert live["measurements"] == whole(path, data, group, tmp_path / "a.geed", options)
    apart = [m["between_samples"] is None for m in live["measurements"]]
    assert apart == [samples == 1] * len(apart)


def test_a_piece_is_let_go_before_the_next_is_run(path, monkeypatch):
    options = make_options({"measures": ["channel-cos"], "batch_size": 2, "provider": "cpu"})
    prepared = prepare_run(path, images((3, 9, 9), 1), "C8", options)
    given, maps, runs = Session.run_as_given, [], []

    def watched(self, batch, feeds=None):
        runs.append(sum(map_() is not None for map_ in maps))
        arrays = given(self, batch, feeds)
        maps[:] = [weakref.ref(array) for array in arrays.values() if array.ndim == 4]
        return arrays

    monkeypatch.setattr(Session, "run_as_given", watched)
    (job,) = orbit_jobs(prepared.task, prepared.passes[0], 1)
    prepared.worker.run(job)
    assert len(runs) == 4
    # The last map that was looked at has a name yet.
    assert max(runs) <= 1 < len(maps)


def threads_of_pieces(monkeypatch, last=-1):
    """The threads that run pieces; two of a sample are run side by side, or it fails."""
    given, seen, barrier = Pieces._arrays, [], threading.Barrier(2)

    def watched(self, job, terms, rows, feeds, elements):
        seen.append((job.positions.start, elements.start, threading.get_ident()))
        if job.positions.start == last and elements.start in {1, 2}:
            barrier.wait(60)
        return given(self, job, terms, rows, feeds, elements)

    monkeypatch.setattr(Pieces, "_arrays", watched)
    return seen


@pytest.mark.parametrize("samples", [1, 3, 5, 7])
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_have_nothing_to_do_run_pieces_of_the_last_sample(
    tmp_path, path, monkeypatch, samples, threads
):
    data = images((3, 9, 9), samples)
    options = {"samples": samples, "norm_samples": samples, "batch_size": 3, "provider": "cpu"}
    expected = whole(path, data, "C12", tmp_path / "a.geed", options)
    monkeypatch.setattr(memory, "cores", lambda: threads)
    seen = threads_of_pieces(monkeypatch, samples - 1)
    live = geed.measure(path, data, "C12", **options)
    assert live["measurements"] == expected
    assert {piece[:2] for piece in seen} == set(itertools.product(range(samples), range(4)))


def test_one_thread_runs_a_piece_after_the_other(path, monkeypatch):
    monkeypatch.setattr(memory, "cores", lambda: 1)
    seen = threads_of_pieces(monkeypatch)
    geed.measure(path, images((3, 9, 9), 1), "C12", batch_size=3, provider="cpu")
    assert [piece[:2] for piece in seen] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert len({thread for *_, thread in seen}) == 1


@pytest.mark.parametrize("broken", range(4))
def test_a_piece_that_fails_on_another_thread_fails_the_sample(path, monkeypatch, broken):
    given, pieces, barrier = Session.run_as_given, [], threading.Barrier(4)

    def breaking(self, batch, feeds=None):
        if len(batch) == 3:
            pieces.append(batch)
            mine = len(pieces)
            barrier.wait(60)
            if mine == broken + 1:
                raise geed.GeedError("the model fails on a piece")
        return given(self, batch, feeds)

    monkeypatch.setattr(Session, "run_as_given", breaking)
    monkeypatch.setattr(memory, "cores", lambda: 4)
    with pytest.raises(geed.GeedError, match="the model fails on a piece"):
        geed.measure(path, images((3, 9, 9), 1), "C12", batch_size=3, provider="cpu")


def test_given_channel_tables_and_their_inverse_go_in_pieces(tmp_path):
    model = models.c4_lifting()
    path = models.save(model, tmp_path / "m.onnx")
    data = images((1, 9, 9), 12)
    rows = np.array(models.known(model)["channels"])
    table = geed.Table(geed.parse_group("C4").elements, "channels", rows, "given")
    options = {"measures": ["channel-cos@map1"], "output_action": {"map1": table}}
    options |= {"batch_size": 3, "provider": "cpu", "norm_samples": 12}
    live = geed.measure(path, data, "C4", **options)
    assert live["measurements"] == whole(path, data, "C4", tmp_path / "a.geed", options)
    assert live["measurements"][0]["value"] == pytest.approx(-1, abs=1e-5)


def test_an_action_of_ones_own_goes_in_pieces(path):
    group = geed.parse_group("C4")
    own = geed.FunctionAction(group, lambda g, x: np.rot90(x, g, axes=(-2, -1)), any_size=True)
    data = images((3, 9, 9), 6)
    named, mine = (
        geed.measure(path, data, batch_size=3, provider="cpu", **options)["measurements"]
        for options in ({"group": "C4"}, {"action": own})
    )
    for a, b in zip(named, mine, strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-6, atol=1e-7)


def test_large_maps_come_in_pieces_and_small_ones_do_not(path, monkeypatch):
    data = images((3, 9, 9), 6)
    small = geed.measure(path, data, "C8", provider="cpu")
    assert small["runtime"]["batch_size"] >= 8
    monkeypatch.setattr(memory, "_PIECE_BYTES", 10_000)
    pieces = geed.measure(path, data, "C8", provider="cpu")
    assert 1 <= pieces["runtime"]["batch_size"] < 8
    for a, b in zip(small["measurements"], pieces["measurements"], strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-6, atol=1e-7)
        assert a["between_samples"] == pytest.approx(b["between_samples"], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("batch", [64, 3, 2])
def test_nan_is_named_with_the_element_of_its_piece(tmp_path, support, batch):
    # The root is of a negative number only where a half turn brings the dark pixel.
    bias = np.ones((1, 1, 8, 8))
    bias[0, 0, 7, 4] = 0
    graph = models.build(
        [
            models.node("Add", "x bias", "lifted"),
            models.node("Sqrt", "lifted", "map"),
            models.node("GlobalAveragePool", "map", "pooled"),
        ],
        [models.weights("bias", bias)],
        [("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [("pooled", TensorProto.FLOAT, ["N", 1, 1, 1])],
    )
    path = models.save(graph, tmp_path / "m.onnx")
    data = images((1, 8, 8), 6)
    data[3, 0, 0, 3] = -0.5
    options = {"batch_size": batch, "provider": "cpu", "support": support}
    with pytest.raises(geed.GeedError, match="NaN or infinity: sample 3, element r4, tensor 'map'"):
        geed.measure(path, data, "C8", measures=["channel-cos@map"], **options)


def test_a_job_whose_neighbour_is_elsewhere_has_the_same_pair(path):
    data = images((3, 9, 9), 6)
    options = make_options({"batch_size": 3, "provider": "cpu", "samples": 6})
    prepared = prepare_run(path, data, "C8", options)
    jobs = orbit_jobs(prepared.task, prepared.passes[0], 6)
    plan, together, alone = prepared.task.plan, Worker(), [Worker() for _ in jobs]
    one = join(plan, [together.run(job) for job in jobs])
    other = join(plan, [worker.run(job) for worker, job in zip(alone, jobs, strict=True)])
    for key, statistics in one.measures.items():
        pairs, others = statistics.pairs.complete, other.measures[key].pairs.complete
        assert sorted(pairs) == sorted(others)
        assert len(pairs) == 6
        assert not statistics.pairs.open
        for where, pair in pairs.items():
            np.testing.assert_array_equal(pair.deviations, others[where].deviations)


def test_whoever_waits_for_a_failed_sample_fails_too():
    centres, seen = Centres(), []

    def wait():
        try:
            centres.take(3, [KEY])
        except ValueError as error:
            seen.append(str(error))

    def fail():
        with centres.promised(3, [KEY]):
            waiting.start()
            raise ValueError("broken")

    waiting = threading.Thread(target=wait)
    with pytest.raises(ValueError, match="broken"):
        fail()
    waiting.join(timeout=10)
    assert seen == ["broken"]


def test_a_centre_is_taken_once_and_nobody_waits_for_one_that_is_not_promised():
    centres = Centres()
    assert centres.take(0, [KEY]) is None
    centres.give(0, {KEY: np.ones(2)})
    assert centres.take(0, [KEY]) is None
    with centres.promised(1, [KEY]):
        waiting = threading.Thread(target=lambda: taken.extend(centres.take(1, [KEY])))
        taken = []
        waiting.start()
        centres.give(1, {KEY: np.ones(2)})
        waiting.join(timeout=10)
    np.testing.assert_array_equal(taken, [np.ones(2)])
    assert centres.take(1, [KEY]) is None


def test_nobody_waits_for_a_centre_that_did_not_come():
    centres = Centres()
    with centres.promised(1, [KEY]):
        waiting = threading.Thread(target=lambda: taken.append(centres.take(1, [KEY])))
        taken = []
        waiting.start()
    waiting.join(timeout=10)
    assert taken == [None]
