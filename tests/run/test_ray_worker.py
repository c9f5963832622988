"""A worker in another process, run in this one: what it says where its node lacks something."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from running import images

import onnx_geed as geed
import onnx_geed.demo
from onnx_geed.run import make_options, prepare_run, ray_worker
from onnx_geed.run.job import orbit_jobs
from onnx_geed.run.ray_worker import RemoteWorker, packed, sealed
from onnx_geed.run.stretch import alone, run_stretch
from onnx_geed.wording import bare

FEW = {"samples": 4, "norm_samples": 5, "provider": "cpu", "batch_size": 4}
NODE = r"--executor ray: node \S+ \([0-9.a-f:]+\), unlike the driver: "


@pytest.fixture
def elsewhere(monkeypatch):
    """What a worker of another node makes of the first job of a run, after something is done."""
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_worker, "_get", lambda at: at)

    def first(model, data, between, run=run_stretch):
        prepared = prepare_run(model, data, "C4", make_options(FEW))
        task = prepared.task
        job = alone(orbit_jobs(task, prepared.passes[0], prepared.count))[0]
        shared = (("task", sealed(task)), ("run", packed(run, task)))
        between()
        worker = RemoteWorker(os.getcwd(), [], {})
        return worker.run(shared, packed(job, task))

    return first


@pytest.fixture
def files(tmp_path):
    # Whose weights are large enough to be read where they lie.
    model, data = tmp_path / "m.onnx", tmp_path / "x.npy"
    shutil.copy(Path(onnx_geed.demo.__file__).with_name("digits_cnn.onnx"), model)
    np.save(data, images((1, 29, 29), 9))
    return model, data


def test_what_is_there_is_measured(elsewhere, files):
    outcome = elsewhere(*files, lambda: None)
    assert outcome.error is None
    assert outcome.value.orbits == range(1)


@pytest.mark.parametrize(("lost", "said"), [("x.npy", r"--data "), ("m.onnx", "")])
def test_a_node_that_lacks_a_file_is_named(elsewhere, files, tmp_path, lost, said):
    error = elsewhere(*files, (tmp_path / lost).unlink).error
    path = re.escape(str(tmp_path / lost))
    cure = "put it there under the same name, on a disk that all nodes see, or at an address"
    assert re.fullmatch(f"{NODE}{said}{path}: .*no such file.*; {cure}", bare(str(error)))


def test_a_node_that_lacks_credentials_is_named(elsewhere, files, bucket, monkeypatch, tmp_path):
    root, system = bucket
    model, data = files
    system.put_file(str(data), f"{root}/x.npy")

    def move():
        type(system).clear_instance_cache()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))

    error = elsewhere(model, f"{root}/x.npy", move).error
    said = rf"{re.escape(root)}/x\.npy: no credentials .*; give that node the driver's credentials"
    assert re.match(NODE + said, str(error))
    assert bare(str(error)).endswith("belong in the environment of its ray start")
    assert isinstance(error, geed.GeedError)


def failing(worker, job):
    raise geed.GeedError("the model gave NaN")


def test_what_fails_anywhere_names_no_node(elsewhere, files):
    error = elsewhere(*files, lambda: None, failing).error
    assert str(error) == "the model gave NaN"
