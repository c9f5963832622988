"""Stretches of jobs: what workers that share no memory give each other is values alone."""

import pickle
from dataclasses import replace

import models
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from running import images

import onnx_geed as geed
from onnx_geed.run import (
    OrbitStatistics,
    Worker,
    join,
    make_options,
    measurements_of,
    prepare_run,
)
from onnx_geed.run.executor import Workforce
from onnx_geed.run.job import orbit_jobs
from onnx_geed.run.ray_worker import _unpacked, packed
from onnx_geed.run.stretch import stretches

FEW = {"samples": 19, "norm_samples": 22, "seed": 3, "provider": "cpu", "batch_size": 8}
EVERY = [
    *("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "unexplained", "flip-rate"),
    *("unexplained@stem", "output-l2"),
]
REST = ("created", "command", "runtime")


class Apart:
    """Runs each job with one of some workers, which get and give bytes."""

    runs, apart = 1, True

    def __init__(self):
        self.workers = [Worker() for _ in range(3)]
        self.values, self.inferences = [], 0

    def in_order(self, task, worker, run, jobs, workers):
        sent = packed(run, task)
        for i, job in enumerate(jobs):
            there = self.workers[i % len(self.workers)]
            content = pickle.dumps(_unpacked(sent, task)(there, _unpacked(packed(job, task), task)))
            self.values.append(pickle.loads(content))
            self.inferences += getattr(job, "inferences", 0)
            yield self.values[-1]

    def workforce(self, workers):
        return Workforce("local", 1, 3)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def data(n=26):
    return images((3, 8, 8), n)


def figures(result):
    return {key: value for key, value in result.items() if key not in REST}


def same_bits(net, group, **options):
    options = {**FEW, "measures": EVERY, "output_kind": "logits", **options}
    apart = Apart()
    here = geed.measure(net, data(), group, **options)
    there = geed.measure(net, data(), group, executor=apart, **options)
    assert figures(there) == figures(here)
    orbits = [v for v in apart.values if isinstance(v, OrbitStatistics)]
    assert sum(len(value.orbits) for value in orbits) >= here["measurements"][0]["samples"]
    # Sides of pairs, which are as large as activations, stay with the worker.
    assert not [1 for value in orbits for m in value.measures.values() if m.pairs.open]
    assert any(m.pairs.complete for value in orbits for m in value.measures.values())
    return here, there, apart


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("samples", [2, 3, 5, 16, 17, 19])
def test_pairs_are_closed_by_workers_that_share_nothing(net, engine, samples):
    same_bits(net, "C8", engine=engine, samples=samples)


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("D4", {"batch_size": 24}),
        ("D4", {"references": True, "untrained": True}),
        ("C8", {"support": "disk"}),
        ("C8", {"batch_size": 3}),
        ("C8", {"batch_size": 3, "samples": 7}),
        ("C8", {"batch_size": 1000}),
        ("C4", {"memory": "40KiB", "batch_size": None}),
        ("C8", {"norm_samples": 5}),
        ("C8", {"samples": None, "precision": 0.3, "measures": ["latent-l2"]}),
        ("rotate:-15..15/7", {}),
        ("noise:4..32/6", {}),
        ("SO2~8", {}),
    ],
)
def test_groups_and_options(net, group, options):
    same_bits(net, group, **options)


FITS = {"stem": "fit:linear", "stem_pre": "fit:permutation", "latent": "fit:orthogonal"}


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("D4", {}),
        ("C8", {"samples": 11, "batch_size": 16}),
        ("C4", {"samples": 1}),
        ("C4", {"memory": "150KiB", "batch_size": None, "untrained": True}),
        ("flip-h", {"samples": 3, "output_action": {"stem": "fit:linear"}}),
        ("rotate:-15..15/7", {"output_action": {"stem": "fit:linear"}}),
    ],
)
def test_fits_are_run_by_workers_a_layer_each(net, group, options, monkeypatch):
    options = {"samples": 17, "fit_samples": 5, "fit_anyway": True, "output_action": FITS} | options
    options |= {
        "measures": ["unexplained@stem", "unexplained@stem_pre", "unexplained@latent"],
        **FEW,
    } | options
    here = geed.measure(net, data(), group, **options)
    ran = []
    plain = Worker.session
    monkeypatch.setattr(Worker, "session", lambda *a: (ran.append(a[0]), plain(*a))[1])
    apart, told = Apart(), []
    there = geed.measure(
        net, data(), group, executor=apart, progress=lambda *at: told.append(at), **options
    )
    assert figures(there) == figures(here)
    assert any("fit" in record for record in there["measurements"])
    # The driver opens no session for them, and has what it said that it would run.
    assert set(map(id, ran)) <= set(map(id, apart.workers))
    assert told[-1][0] == told[-1][1]


def test_actions_for_a_file_are_fitted_by_workers(net):
    options = {"samples": 7, "fit_samples": 5, "batch_size": 8, "provider": "cpu"}
    here, there = (
        geed.fit_actions(net, data(), "C4", ["stem", "stem_pre"], kind="linear", **options, **where)
        for where in ({}, {"executor": Apart()})
    )
    assert len(here) == 2
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(theirs.values, ours.values)
        assert theirs.fit == ours.fit


def test_what_is_run_twice_is_counted(net):
    told = []
    options = {**FEW, "measures": ["latent-l2"], "samples": 19}
    far = geed.measure(
        *(net, data(), "C8"),
        executor=Apart(),
        progress=lambda done, total: told.append((done, total)),
        **options,
    )
    # Of seventeen jobs that have pairs, in four stretches, three are run once more.
    assert far["runtime"]["inferences"] == (19 + 3) * 8 + 3
    assert told[-1] == (far["runtime"]["inferences"],) * 2


def test_parts_of_workers_that_share_nothing_join_to_the_whole(net):
    options = {**FEW, "measures": EVERY, "output_kind": "logits"}
    whole = geed.measure(net, data(), "C8", **options)
    told = []
    parts = [
        geed.measure(
            *(net, data(), "C8"),
            shard=f"{i}/3",
            executor=Apart(),
            progress=lambda *at: told.append(at),
            **options,
        )
        for i in (1, 2, 3)
    ]
    assert figures(geed.merge(parts)) == figures(whole)
    assert told[-1][0] == told[-1][1]


@pytest.fixture(scope="module")
def prepared(net):
    return prepare_run(net, data(), "C4", make_options({**FEW, "measures": ["latent-l2"]}))


@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 40))
def test_each_job_is_in_one_stretch_and_few_are_run_again(prepared, count, batch):
    source = prepared.task.source.over(tuple(range(count)), None)
    task = replace(prepared.task, batch=batch, source=source)
    jobs = orbit_jobs(task, prepared.passes[0], count)
    for apart in (False, True):
        divided = stretches(jobs, apart=apart)
        assert [j.positions for s in divided for j in s.jobs] == [j.positions for j in jobs]
    pairs = [pair for s in divided for pair in sorted({p for j in s.jobs for p in j.pairs})]
    assert sorted(pairs) == sorted({p for j in jobs for p in j.pairs})
    for s in divided:
        for p, q in {pair for j in s.jobs for pair in j.pairs}:
            assert p in s.positions
            assert q in s.positions or any((p, q) in j.pairs for j in s.beside)
    assert len(divided) <= max(1, len(jobs))
    assert sum(len(s.beside) for s in divided) <= 4


@pytest.mark.parametrize("batch", [4, 8])
def test_many_small_jobs_go_together_and_give_the_same_bits(net, batch):
    many = {**FEW, "samples": 101, "norm_samples": 130, "batch_size": batch, "measures": EVERY}
    prepared = prepare_run(net, data(140), "C4", make_options(many))
    (layers,) = prepared.passes
    jobs = orbit_jobs(prepared.task, layers, prepared.count)
    divided = [s.jobs[0] for s in stretches(jobs, workers=2)]
    assert [p for job in divided for p in job.positions] == list(range(101))
    assert len([job for job in divided if not job.pairs]) >= 4 * 2
    assert len(divided) < len(jobs)
    # Those with pairs of samples are as they were.
    assert [j.positions for j in divided if j.pairs] == [j.positions for j in jobs if j.pairs]
    plan, worker = prepared.task.plan, Worker()
    one, other = (
        measurements_of(
            plan,
            join(plan, [OrbitStatistics(), *map(worker.run, some)]),
            norm_samples=130,
            interval="t",
            seed=0,
        )
        for some in (jobs, divided)
    )
    assert one == other
