import importlib.metadata
import os
import subprocess
import sys
import types
from pathlib import Path

import models
import numpy as np
import pytest

from onnx_geed import GeedError, measure
from onnx_geed.model import expose_tensors, load_model
from onnx_geed.run import probe, runtime, session

ROOT = Path(__file__).parents[2]


@pytest.fixture
def opened(tmp_path):
    path = models.save(models.batch_coupled(), tmp_path / "m.onnx")
    model = load_model(path)
    name = model.proto.graph.output[0].name
    return session.open_session(
        expose_tensors(model, [name]).SerializeToString(),
        tmp_path,
        input="x",
        outputs=[name],
        provider="cpu",
    )


def test_rows_that_depend_on_their_batch_are_found(opened):
    shape = opened.runtime.get_inputs()[0].shape[1:]
    rows = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    tried = probe.TrialRows(rows, lambda _: {}, 2)
    assert "changes with its batch" in probe.probe_batch(opened, tried, 4)[0]
    assert "changes with its batch" in probe.probe_pair(opened, tried)[0]


def test_a_batch_that_the_runtime_refuses_is_an_error_in_one_line(opened):
    with pytest.raises(GeedError, match=r"failed on a batch of shape \(1, 2\)"):
        opened.run(np.zeros((1, 2), np.float32))


def test_both_builds_of_the_runtime_are_named_with_the_cure(monkeypatch, tmp_path):
    any_package = importlib.metadata.distribution("numpy")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: any_package)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in runtime.runtime_conflict()
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).random((3, 3, 8, 8)).astype(np.float32)
    notes = measure(path, data, "C4")["notes"]
    assert any("overwrite each other" in note for note in notes)


@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_a_runtime_that_is_there_in_part_is_one_line(monkeypatch, tmp_path, provider):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).random((3, 3, 8, 8)).astype(np.float32)
    # What Python makes of a folder that one of two builds has left.
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(
        GeedError, match=r"only partly installed.*pip uninstall -y onnxruntime onnxruntime"
    ):
        measure(path, data, "C4", provider=provider)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        GeedError, match=r"ONNX Runtime .*pip install onnxruntime .*onnxruntime-gpu"
    ):
        measure(path, data, "C4", provider=provider)


def test_a_runtime_that_is_there_in_part_ends_the_command_in_one_line(tmp_path):
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 8, 8), np.float32))
    run = subprocess.run(
        [sys.executable, "-m", "onnx_geed", "measure", "m.onnx", "--data=x.npy", "--group=C4"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "only partly installed" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_the_provider_that_auto_took_is_said(tmp_path):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).random((3, 3, 8, 8)).astype(np.float32)
    result = measure(path, data, "C4")
    running = {"cpu": "Running on CPU (no usable GPU)", "cuda": "Running on the GPU (CUDA)"}
    assert running[result["runtime"]["provider"]] in result["notes"]
    assert not any("Running" in n for n in measure(path, data, "C4", provider="cpu")["notes"])


def test_results_do_not_depend_on_the_number_of_workers_or_the_batch(tmp_path, monkeypatch):
    from onnx_geed.run import memory

    path = models.save(models.random_cnn(3, (9, 9)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).random((11, 3, 9, 9)).astype(np.float32)
    values = []
    for cores in (1, 3):
        monkeypatch.setattr(memory, "cores", lambda cores=cores: cores)
        values.append(measure(path, data, "C8", batch_size=8)["measurements"])
    assert values[0] == values[1]
    for batch in (1, 3, 24):
        other = measure(path, data, "C8", batch_size=batch)["measurements"]
        for a, b in zip(values[0], other, strict=True):
            np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-5, atol=1e-6)


def test_layers_beyond_the_memory_budget_are_measured_in_passes(tmp_path):
    path = models.save(models.random_cnn(3, (16, 16)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).random((4, 3, 16, 16)).astype(np.float32)
    whole = measure(path, data, "C4", batch_size=4)
    split = measure(path, data, "C4", batch_size=4, memory="60kB")
    assert split["runtime"]["inferences"] > whole["runtime"]["inferences"]
    for a, b in zip(whole["measurements"], split["measurements"], strict=True):
        assert (a["measure"], a["layer"]) == (b["measure"], b["layer"])
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-5, atol=1e-6)
