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

Beyond two workers a model tells: of each job the driver has a cost, with which it is busy while a
worker has its own. It is fitted to jobs that do nothing and give nothing, or a mebibyte, and to how
long results take to join. Workers up to a job's seconds / that cost keep the driver waiting.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
MEBIBYTE = 1 << 20
SIZES = ("bytes a job", "bytes a result", "bytes of the largest")
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


def numbers(worker: Worker, number: int) -> Any:
    """Do nothing, and give a mebibyte."""
    return np.zeros(MEBIBYTE // 8)


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
            orbits = orbit_jobs(task, layers, prepared.count)
            jobs = stretches(orbits, apart=True) + alone(point_jobs(task, layers, prepared.count))
            begun = time.perf_counter()
            parts = list(prepared.in_order(run_stretch, jobs))
            seconds = time.perf_counter() - begun
            begun = time.perf_counter()
            joined: OrbitStatistics = gather(task.plan, parts, prepared.count)
            joining = time.perf_counter() - begun
            assert len(joined.orbits) == prepared.count
        finally:
            executor.close()
    sizes = [len(pickle.dumps(part)) for part in parts]
    return {
        "workers": workers,
        "jobs": len(jobs),
        "orbits run": sum(len(j.positions) for s in jobs for j in (*s.jobs, *s.beside) if j.orbits),
        "seconds": round(seconds, 3),
        "bytes a job": len(packed(jobs[0], task)),
        "bytes a result": round(sum(sizes) / len(sizes)),
        "bytes of the largest": max(sizes),
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
    """What the driver takes to send a job and take back what it gives, by workers."""
    from importlib.resources import files

    import bench_cluster as own  # by the name by which workers find it

    demo = str(files("onnx_geed.demo"))
    options = make_options({"samples": 2, "norm_samples": 2, "provider": "cpu"})
    report: dict[str, Any] = {"jobs": count}
    for workers in (1, 2):
        with nodes(workers):
            executor = RayExecutor()
            try:
                model, data = f"{demo}/digits_cnn.onnx", f"{demo}/digits.npz"
                prepared = prepare_run(model, data, "C4", options, executor=executor)
                warmed(executor, prepared, workers)
                seconds, busy = _each(prepared, own.nothing, count)
                large, _ = _each(prepared, own.numbers, max(20, count // 50))
                report[f"{workers} workers" if workers > 1 else "1 worker"] = {
                    "jobs a second": round(1 / seconds, 1),
                    "seconds a job": seconds,
                    "processor seconds of the driver a job": busy,
                    "seconds a mebibyte of results": max(0.0, large - seconds),
                }
            finally:
                executor.close()
    return report


def _each(prepared: Any, run: Any, count: int) -> tuple[float, float]:
    """Seconds, and the driver's processor seconds, of one of so many jobs."""
    list(prepared.in_order(run, range(20)))
    begun, busy = time.perf_counter(), time.process_time()
    assert sum(1 for _ in prepared.in_order(run, range(count))) == count
    return (time.perf_counter() - begun) / count, (time.process_time() - busy) / count


def model_of(one: dict[str, Any], of_driver: dict[str, Any]) -> dict[str, Any]:
    """What a job costs the driver, and how many workers keep it busy."""
    job = one["seconds"] / one["jobs"]
    cost = (
        of_driver["seconds a job"]
        + of_driver["seconds a mebibyte of results"] * one["bytes a result"] / MEBIBYTE
        + one["seconds to join a job"]
    )
    told = {count: min(1.0, job / (count * cost)) for count in (2, 8, 32, 128, 512, 2048, 8192)}
    return {
        "seconds of a worker a job": job,
        "seconds of the driver a job": cost,
        "the driver binds at workers": int(job / cost),
        "efficiency by workers, of many jobs": {n: round(e, 3) for n, e in told.items()},
    }


def table(report: dict[str, Any]) -> str:
    """The figures as lines of benchmarks/README.md."""
    one, two, model = report["one"], report["two"], report["model"]
    driver = report["driver"]["2 workers"]
    by_workers = model["efficiency by workers, of many jobs"].items()
    rows = [
        ("one worker, seconds of the jobs", f"{one['seconds']:.1f}"),
        ("two workers on two nodes", f"{two['seconds']:.1f}"),
        ("efficiency (at least 0.9 was asked)", f"{report['efficiency']:.3f}"),
        ("two threads of one process, all of the run", f"{report['threads of one process']:.1f}"),
        ("a node lost half-way: same figures", report["a node lost, same figures"] and "yes"),
        ("jobs; orbits that they run", f"{one['jobs']}; {one['orbits run']}"),
        ("bytes a job; a result; the largest", "; ".join(f"{one[k]:,}" for k in SIZES)),
        ("joining, ms a job", f"{1e3 * one['seconds to join a job']:.2f}"),
        ("jobs a second that do nothing", f"{driver['jobs a second']:.0f}"),
        ("driver, ms a job in all", f"{1e3 * model['seconds of the driver a job']:.2f}"),
        ("the driver binds at, workers", f"{model['the driver binds at workers']:,}"),
        ("model: efficiency by workers", ", ".join(f"{n}: {e:.2f}" for n, e in by_workers)),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b or 'NO'} |" for a, b in rows)])


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
    driver = empty(2000)
    report = {
        "threads of one process": here["runtime"]["seconds"],
        "one": one,
        "two": two,
        "efficiency": round(one["seconds"] / (2 * two["seconds"]), 3),
        "a node lost, same figures": lost(model, data, group, options, here),
        "driver": driver,
        "model": model_of(one, driver["2 workers"]),
    }
    print(json.dumps(report, indent=2))
    print(f"\n{table(report)}")


if __name__ == "__main__":
    main()
