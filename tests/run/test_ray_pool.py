"""The pool of workers, on a cluster that is played: who is started again, and when it is enough."""

import itertools
import pickle
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from onnx_geed.run import ray_pool
from onnx_geed.run.executor import NoWorkersError
from onnx_geed.run.provenance import software_versions
from onnx_geed.run.ray_cluster import Cluster
from onnx_geed.run.ray_pool import Pool
from onnx_geed.run.ray_stream import Stream
from onnx_geed.run.ray_worker import Outcome


class Died(Exception):
    """What Ray says of a worker that has died."""


def told(outcome):
    """A reference whose value is there."""
    future = Future()
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return SimpleNamespace(future=lambda: future)


class Played:
    """As much of Ray as the pool calls, on one node of one processor."""

    exceptions = SimpleNamespace(RayActorError=Died)

    def __init__(self, deaths):
        #: What workers that are started die of, one after the other; then they stay.
        self.deaths = iter(deaths)
        self.started, self.calls = 0, []

    def remote(self, cls):
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self.start))

    def nodes(self):
        return [{"NodeID": "n", "Alive": True, "Resources": {"CPU": 1.0}}]

    def kill(self, actor, no_restart):
        pass

    def start(self, *arguments):
        self.started += 1
        death = next(self.deaths, None)
        greeting = Died(death) if death else ("n", software_versions())
        methods = {
            "greet": lambda: told(greeting),
            "ready": lambda shared, job: told(None),
            "run": lambda shared, job: self.done("run", job),
            "run_known": lambda content: self.done("run_known", pickle.loads(content)[1]),
        }
        return SimpleNamespace(**{k: SimpleNamespace(remote=f) for k, f in methods.items()})

    def done(self, method, job):
        self.calls.append(method)
        return told(Outcome(int(job), seconds=0.001))


@pytest.fixture
def pool(monkeypatch):
    """A pool on a cluster that is played, which looks and tries again soon."""
    monkeypatch.setattr(ray_pool, "_REST", 0.01)
    monkeypatch.setattr(ray_pool, "_LOOK", 0.01)
    monkeypatch.setattr(Cluster, "is_here", lambda self: True)
    pools = []

    def on(ray):
        pools.append(Pool(Cluster(ray, False, "here")))
        return pools[-1]

    yield on
    for pool in pools:
        pool.close()


def stream(count):
    shared = (("task", object()), ("run", object()))
    return Stream(shared, iter(range(count)), lambda job: b"%d" % job)


KILLED = "The actor is dead because its worker process has died."
BROKEN = "The actor died because of an error raised in its creation task"


def test_workers_killed_while_they_start_are_started_again(pool):
    ray = Played([KILLED] * 8)
    values = [outcome.value for outcome in pool(ray).run(stream(5))]
    assert values == list(range(5))
    assert ray.started == 9


@pytest.mark.parametrize(("death", "most"), [(KILLED, 9), (BROKEN, 3)])
def test_where_none_starts_the_run_ends(pool, death, most):
    ray = Played(itertools.repeat(death))
    with pytest.raises(NoWorkersError, match="no worker starts: The actor"):
        list(pool(ray).run(stream(5)))
    assert ray.started == most


def test_what_jobs_share_is_sent_once(pool):
    ray = Played([])
    assert [outcome.value for outcome in pool(ray).run(stream(100))] == list(range(100))
    assert ray.calls[:1] == ["run"]
    assert set(ray.calls[1:]) == {"run_known"}
