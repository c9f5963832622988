# /// script
# requires-python = ">=3.11"
# dependencies = ["onnx-geed[ray]"]
# ///
"""One worker against two on two Ray nodes of this machine, a node lost, and the driver's ceiling.

    python benchmarks/bench_cluster.py MODEL.onnx DATA GROUP [ORBITS] [PREPROCESS]
    python benchmarks/bench_cluster.py --empty JOBS

Seconds are those of the jobs: from when all workers are ready until the last result is joined, what
the driver prepares before and reads after being told beside. Efficiency is one worker's seconds /
(workers × seconds). ``--empty`` sends jobs that do nothing through the real driver.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

import onnx_geed
from onnx_geed.run import (
    OrbitStatistics,
    RayExecutor,
    Worker,
    alone,
    gather,
    make_options,
    orbit_jobs,
    packed,
    point_jobs,
    prepare_run,
    run_stretch,
    stretches,
)

REST = ("created", "command", "runtime")
NODE = {"num_cpus": 1, "object_store_memory": 256 << 20}


@contextmanager
def nodes(count: int) -> Iterator[Cluster]:
    """A cluster of so many nodes of one processor."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(count - 1):
        cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def nothing(worker: Worker, number: int) -> int:
    """Do nothing."""
    return number


def warmed(executor: RayExecutor, prepared: Any, workers: int) -> None:
    """Wait until all workers are there, and have opened the model."""
    task = prepared.task
    jobs = alone(orbit_jobs(task, prepared.passes[0], prepared.count))[-workers:]
    while executor.workforce(1).workers < workers:
        list(executor.in_order(task, prepared.worker, run_stretch, jobs, workers))
    for _ in range(2):
        list(executor.in_order(task, prepared.worker, run_stretch, jobs, workers))


def timed(model: str, data: Any, group: str, options: dict[str, Any], workers: int) -> dict:
    """The seconds of the jobs of a run, and what one weighs."""
    with nodes(workers):
        executor = RayExecutor()
        try:
            prepared = prepare_run(model, data, group, make_options(options), executor=executor)
            warmed(executor, prepared, workers)
            task, (layers, *_) = prepared.task, prepared.passes
            jobs = stretches(orbit_jobs(task, layers, prepared.count), apart=True)
            jobs += alone(point_jobs(task, layers, prepared.count))
            begun, joining, parts = time.perf_counter(), 0.0, []
            for part in prepared.in_order(run_stretch, jobs):
                parts.append(part)
            seconds = time.perf_counter() - begun
            begun = time.perf_counter()
            joined: OrbitStatistics = gather(task.plan, parts)
            joining = time.perf_counter() - begun
            assert len(joined.orbits) == prepared.count
        finally:
            executor.close()
    return {
        "workers": workers,
        "jobs": len(jobs),
        "seconds": round(seconds, 3),
        "bytes a job": len(packed(jobs[0], task)),
        "bytes a result": int(np.median([len(pickle.dumps(part)) for part in parts])),
        "seconds to join a job": joining / len(jobs),
    }


def lost(model: str, data: Any, group: str, options: dict[str, Any], here: Any) -> bool:
    """Whether the figures are the same where one of two nodes is killed half-way."""
    done: list[int] = []
    with nodes(1) as cluster:
        node = cluster.add_node(**NODE)

        def progress(count: int, total: int) -> None:
            if not done and count > total / 2:
                done.append(count)
                cluster.remove_node(node, allow_graceful=False)

        far = onnx_geed.measure(model, data, group, executor="ray", progress=progress, **options)
    assert done
    return figures(far) == figures(here)


def figures(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in REST}


def empty(count: int) -> dict[str, Any]:
    """Jobs a second that the driver can send and take back."""
    from importlib.resources import files

    from bench_cluster import nothing  # by the name by which workers find it

    demo = str(files("onnx_geed.demo"))
    options = make_options({"samples": 2, "norm_samples": 2, "provider": "cpu"})
    rates = {}
    for workers in (1, 2):
        with nodes(workers):
            executor = RayExecutor()
            try:
                model, data = f"{demo}/digits_cnn.onnx", f"{demo}/digits.npz"
                prepared = prepare_run(model, data, "C4", options, executor=executor)
                run = partial(prepared.in_order, nothing)
                warmed(executor, prepared, workers)
                begun = time.perf_counter()
                assert list(run(range(count))) == list(range(count))
                rates[workers] = round(count / (time.perf_counter() - begun), 1)
            finally:
                executor.close()
    return {"jobs": count, "jobs a second, by workers": rates}


def main() -> None:
    if sys.argv[1:2] == ["--empty"]:
        print(json.dumps(empty(int(sys.argv[2])), indent=2))
        return
    model, data, group = sys.argv[1:4]
    orbits = int(sys.argv[4]) if sys.argv[4:] else 64
    options = {"samples": orbits, "norm_samples": orbits, "provider": "cpu"}
    if sys.argv[5:]:
        options["preprocess"] = sys.argv[5]
    here = onnx_geed.measure(model, data, group, **options)
    one, two = (timed(model, data, group, options, workers) for workers in (1, 2))
    report = {
        "threads of one process": here["runtime"]["seconds"],
        "one": one,
        "two": two,
        "efficiency": round(one["seconds"] / (2 * two["seconds"]), 3),
        "a node lost, same figures": lost(model, data, group, options, here),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
