"""On the workers of a Ray cluster, whatever happens to them, the bits are those of one process."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import models
import numpy as np
import pytest
import slowly
from running import images

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.run import benchmark, ray_executor
from onnx_geed.run.ray_pool import AGAIN, Pool

FEW = {"samples": 12, "norm_samples": 15, "provider": "cpu", "batch_size": 8}
REST = ("created", "command", "runtime")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one processor each, on this machine; who asks for an executor is on it."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        tests = str(Path(__file__).parents[1])
        patch.setenv("PYTHONPATH", os.pathsep.join([tests, *filter(None, sys.path)]))
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
        running = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        running.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def there(cluster):
    """Where runs go: to the cluster that this process is connected to."""
    ray = pytest.importorskip("ray")
    ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
    yield {"executor": "ray", "address": cluster.address}
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture
def both_came(monkeypatch):
    """A run's progress that waits for both workers: one may be done before the other has begun."""
    pools = []

    def seen(*arguments):
        pools.append(Pool(*arguments))
        return pools[-1]

    monkeypatch.setattr(ray_executor, "Pool", seen)
    return lambda *_: wait_until(lambda: pools[-1].workers == 2)


@pytest.fixture
def cnn(tmp_path):
    return models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")


def figures(result):
    """All of a result but when, by what command and where it was run."""
    return {key: value for key, value in result.items() if key not in REST}


def parents(pid):
    """The processes above one."""
    try:
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            yield pid
    except OSError:
        return


def processes(word, below=None):
    """Processes that we, or another, have started, with a word in their command line."""
    below = below or os.getpid()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in line and below in parents(int(folder.name)):
            found.append(int(folder.name))
    return found


def alive(pid):
    """Whether a process runs; Ray's agents of a node take a minute to notice that it is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and b"Agent" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def workers():
    return processes("ray::RemoteWorker")


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------
# The same bits
# ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_measures_have_the_bits_of_one_process(cnn, there, tmp_path, both_came):
    np.save(tmp_path / "x.npy", images((3, 8, 8), 15))
    more = {"references": True, "untrained": True, "output_action": {"stem_pre": "fit:orthogonal"}}
    more["fit_samples"] = 3
    for data, engine in ((str(tmp_path / "x.npy"), "kernels"), (images((3, 8, 8), 15), "graph")):
        options = {**FEW, **(more if engine == "kernels" else {}), "engine": engine}
        here = geed.measure(cnn, data, "C4", **options)
        far = geed.measure(cnn, data, "C4", **options, **there, progress=both_came)
        assert figures(far) == figures(here)
        assert here["runtime"]["executor"] == "local"
        assert [far["runtime"][k] for k in ("executor", "nodes", "workers")] == ["ray", 2, 2]


@pytest.mark.slow
def test_several_groups_and_a_precision_have_the_bits_of_one_process(cnn, there):
    data, groups = images((3, 8, 8), 40), ["C4", "brightness:0.5..2/5"]
    here = geed.measure_groups(cnn, data, groups, **FEW)
    far = geed.measure_groups(cnn, data, groups, **FEW, **there)
    assert list(map(figures, far)) == list(map(figures, here))
    options = {**FEW, "samples": None, "precision": 0.3, "measures": ["latent-l2"]}
    here = geed.measure(cnn, data, "C8", **options)
    far = geed.measure(cnn, data, "C8", **options, **there)
    assert figures(far) == figures(here)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_has_the_bytes_of_one_that_one_process_wrote(cnn, there, tmp_path, mode):
    data, folders = images((3, 8, 8), 15), [tmp_path / "a.geed", tmp_path / "b.geed"]
    write_cache(cnn, data, "C4", folders[0], mode=mode, **FEW)
    write_cache(cnn, data, "C4", folders[1], mode=mode, **FEW, **there)
    shards = [sorted(path.name for path in folder.glob("shard-*")) for folder in folders]
    assert shards[0] == shards[1]
    assert len(shards[0]) > 1
    for name in shards[0]:
        here, far = (hashlib.sha256((folder / name).read_bytes()) for folder in folders)
        assert here.digest() == far.digest(), name
    here, far = (measure_cache(folder) for folder in folders)
    assert far["measurements"] == here["measurements"]


SUITE = """
groups = ["C4", "flip-h"]
measures = ["latent-l2", "softmax-kl", "channel-cos"]
[options]
samples = 6
norm-samples = 9
batch-size = 8
provider = "cpu"
[[models]]
name = "a"
path = "m{seed}.onnx"
[[data]]
name = "noise"
path = "x.npy"
"""


def suite_in(folder, seeds=3):
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        models.save(models.random_cnn(seed, (8, 8)), folder / f"m{seed}.onnx")
    np.save(folder / "x.npy", images((3, 8, 8), 9))
    (folder / "suite.toml").write_text(SUITE)
    return folder / "suite.toml"


@pytest.mark.slow
def test_a_suite_has_the_summary_of_one_process(there, tmp_path):
    suite, lines = suite_in(tmp_path), []
    (tmp_path / "m1.onnx").write_bytes(b"no model")
    here = benchmark(suite, tmp_path / "here")
    far = benchmark(suite, tmp_path / "far", notify=lines.append, **there)
    assert far == here
    assert len(far["failed"]) >= 2
    assert sum("measuring" in line for line in lines) >= 4
    again = benchmark(suite, tmp_path / "far", notify=lines.append, **there)
    assert again == here
    assert sum(line.endswith(": kept") for line in lines) == 4


# ------------------------------------------------------------------------------------------------
# Faults
# ------------------------------------------------------------------------------------------------


def flip(function=slowly.flipped):
    return geed.FunctionAction(geed.parse_group("flip-h"), function)


SLOW = {"samples": 30, "norm_samples": 35, "provider": "cpu", "batch_size": 2}
ONE = {"measures": ["latent-l2", "softmax-kl"]}


@pytest.mark.slow
def test_workers_killed_at_random_moments_change_no_bit(cnn, there):
    rng, killed, over = random.Random(5), [], threading.Event()

    def kill():
        while not over.wait(rng.uniform(0.2, 1.2)):
            # One job may die with each of these, and no more often than is borne.
            if (found := workers()) and len(killed) < AGAIN:
                os.kill(victim := rng.choice(found), signal.SIGKILL)
                killed.append(victim)

    def progress(done, total):
        if 2 * done > total:  # it is not over before two were killed
            wait_until(lambda: len(killed) >= 2)

    data = images((3, 8, 8), 35)
    here = geed.measure(cnn, data, action=flip(), **SLOW, **ONE)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        far = geed.measure(cnn, data, action=flip(), **SLOW, **ONE, **there, progress=progress)
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 2
    assert figures(far) == figures(here)


@pytest.mark.slow
def test_a_node_lost_half_way_changes_no_bit(cnn, cluster, there):
    node, done = cluster.add_node(num_cpus=1, object_store_memory=100 << 20), []

    def progress(count, total):
        done.append(count)
        if len(done) == 8:
            cluster.remove_node(node, allow_graceful=False)

    data = images((3, 8, 8), 35)
    here = geed.measure(cnn, data, action=flip(), **SLOW, **ONE)
    far = geed.measure(cnn, data, action=flip(), **SLOW, **ONE, **there, progress=progress)
    assert figures(far) == figures(here)
    assert len(done) > 8


LOST = """
import sys, time
from onnx_geed.run.ray_cluster import connect
ray = connect(sys.argv[1]).ray
task = ray.remote(lambda size: bytes(size)).options(max_retries=0, resources={"going": 1})
kept = task.remote(1 << 20)
ray.wait([kept], fetch_local=False)
print("kept", flush=True)
while any(node["Alive"] and "going" in node["Resources"] for node in ray.nodes()):
    time.sleep(0.2)
time.sleep(3)
"""


@pytest.mark.slow
def test_what_is_lost_with_a_node_is_not_told_on_stderr(cluster):
    node = cluster.add_node(num_cpus=1, resources={"going": 1}, object_store_memory=100 << 20)
    words = [sys.executable, "-c", LOST, cluster.address]
    driver = subprocess.Popen(words, env=surroundings(), text=True, **PIPES)
    assert driver.stdout.readline() == "kept\n"
    cluster.remove_node(node, allow_graceful=False)
    assert driver.communicate(timeout=100) == ("", "")
    assert driver.returncode == 0


@pytest.mark.slow
def test_the_end_of_ray_on_this_machine_is_told_in_one_line(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images((3, 8, 8), 4000))
    words = ("measure", path, "--data", tmp_path / "x.npy", "--group", "C8", "--samples", 4000)
    far = ("--provider", "cpu", "--executor", "ray", "--address", "local")
    driver = command(*words, *far, **PIPES)
    wait_until(lambda: driver.poll() is not None or processes("ray::Remote", below=driver.pid))
    (raylet,) = processes("raylet/raylet\0", below=driver.pid)
    mine = processes("ray", below=driver.pid)
    os.kill(raylet, signal.SIGKILL)
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (2, "")
    assert err.startswith("onnx-geed: --executor ray: Ray's process of this machine (raylet) has")
    assert err.count("\n") == 1
    wait_until(lambda: not any(map(alive, mine)))


@pytest.mark.slow
def test_a_job_that_kills_its_worker_each_time_ends_the_run_in_one_line(cnn, there, tmp_path):
    data = images((3, 8, 8), 15)
    data[7, 0, 0, 0] = 0.5
    action = flip(slowly.Deadly(tmp_path / "deaths", os.getpid()))
    with pytest.raises(geed.GeedError, match="given to 4 workers, and all of them died") as caught:
        geed.measure(cnn, data, action=action, **{**FEW, "samples": 15}, **ONE, **there)
    assert "\n" not in str(caught.value)
    assert len((tmp_path / "deaths").read_text()) == AGAIN + 1


@pytest.mark.slow
def test_an_error_of_a_job_is_told_as_in_one_process_and_not_tried_again(there, tmp_path, capfd):
    path = models.save(models.nan_for_dark(), tmp_path / "m.onnx")
    (shape,) = [[d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in model_input(path)]
    data = images(tuple(shape), 15)
    data[9] = 0
    messages = []
    for where in ({}, there):
        with pytest.raises(geed.GeedError, match="NaN or infinity") as caught:
            geed.measure(path, data, "C4", **FEW, **where)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert capfd.readouterr().err == ""


def model_input(path):
    import onnx

    return onnx.load(path).graph.input[:1]


def surroundings():
    tests = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *filter(None, sys.path)])}


def command(*words, **more):
    words = [sys.executable, "-m", "onnx_geed", *map(str, words)]
    return subprocess.Popen(words, env=surroundings(), text=True, **more)


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_its_cache_is_resumed(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images((3, 8, 8), 400))
    whole, folder = tmp_path / "whole.geed", tmp_path / "b.geed"
    words = ("cache", path, "--data", tmp_path / "x.npy", "--group", "C8", "--samples", 400)
    words += ("--norm-samples", 400, "--provider", "cpu", "--batch-size", 8)
    far = ("-o", folder, "--executor", "ray", "--address", "local")
    driver = command(*words, *far, **PIPES)
    wait_until(lambda: driver.poll() is not None or len(list(folder.glob("shard-*"))) > 2)
    begun = len(list(folder.glob("shard-*")))
    mine = processes("ray", below=driver.pid)
    driver.kill()
    driver.communicate()
    wait_until(lambda: not any(map(alive, mine)))
    assert mine
    driver = command(*words, *far, **PIPES)
    out, err = driver.communicate(timeout=100)
    assert driver.returncode == 0, err
    assert "Traceback" not in out + err
    assert "shards exist" in err
    assert begun > 2
    few = {"samples": 400, "norm_samples": 400, "provider": "cpu", "batch_size": 8}
    write_cache(path, tmp_path / "x.npy", "C8", whole, **few)
    assert measure_cache(folder)["measurements"] == measure_cache(whole)["measurements"]
    assert not list(folder.glob(".unfinished-*"))


@pytest.mark.slow
def test_ctrl_c_ends_all_in_one_line(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images((3, 8, 8), 4000))
    words = ("measure", path, "--data", tmp_path / "x.npy", "--group", "C8", "--samples", 4000)
    far = ("--provider", "cpu", "--executor", "ray", "--address", "local")
    driver = command(*words, *far, **PIPES, start_new_session=True)
    wait_until(lambda: driver.poll() is not None or processes("ray::Remote", below=driver.pid))
    mine = processes("ray", below=driver.pid)
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out, err) == (130, "", "onnx-geed: interrupted\n")
    wait_until(lambda: not any(map(alive, mine)))


@pytest.mark.slow
def test_a_suite_killed_with_all_of_it_goes_on(cluster, tmp_path):
    suite = suite_in(tmp_path, seeds=5)
    here = benchmark(suite, tmp_path / "here")
    words = ("benchmark", suite, "-o", tmp_path / "far", "--format", "json")
    far = ("--executor", "ray", "--address", cluster.address)
    driver = command(*words, *far, **PIPES, start_new_session=True)
    done = tmp_path / "far" / "cells"
    wait_until(lambda: driver.poll() is not None or len(list(done.glob("*.json"))) > 1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    driver = command(*words, *far, **PIPES)
    out, err = driver.communicate(timeout=100)
    assert driver.returncode == 0, err
    assert ": kept" in err
    assert json.loads(out) == json.loads(json.dumps(here))
