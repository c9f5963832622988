"""What holds on a machine with a GPU; without one, all of this is skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnx_geed
from onnx_geed import measure, measure_cache, write_cache

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers()
    or not Path("/dev/nvidiactl").exists(),
    reason="needs a CUDA device and onnxruntime-gpu",
)

DEMO = Path(onnx_geed.__file__).parent / "demo"
MODEL = DEMO / "digits_cnn.onnx"
HOW: dict[str, Any] = {"samples": 20, "norm_samples": 30}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    with np.load(DEMO / "digits.npz") as archive:
        return archive["images"][:40, None]


def content(result: Any) -> Any:
    """Return what a result says of the model, and not of the run."""
    kept = {k: v for k, v in result.items() if k not in ("runtime", "command", "created")}
    return json.loads(json.dumps(kept))


@pytest.mark.parametrize("engine", ["graph", "kernels"])
@pytest.mark.parametrize("group", ["C8", "D4", "SO2~8", "shift-px:-2..2/4"])
def test_the_device_gives_the_values_of_the_processor(
    digits: np.ndarray, engine: str, group: str
) -> None:
    if group == "SO2~8" and engine == "graph":
        pytest.skip("the elements of a sampled group differ by sample")
    here = measure(MODEL, digits, group, provider="cuda", engine=engine, **HOW)
    there = measure(MODEL, digits, group, provider="cpu", engine="kernels", **HOW)
    assert here["runtime"]["provider"] == "cuda"
    for a, b in zip(here["measurements"], there["measurements"], strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-4, abs=1e-5), a["layer"]
        assert a["per_sample"] == pytest.approx(b["per_sample"], rel=1e-3, abs=1e-4), a["layer"]


@pytest.mark.parametrize("engine", ["graph", "kernels"])
def test_the_device_gives_the_same_bits_twice(digits: np.ndarray, engine: str) -> None:
    twice = [measure(MODEL, digits, "C8", provider="cuda", engine=engine, **HOW) for _ in range(2)]
    assert content(twice[0]) == content(twice[1])


def test_auto_takes_the_device_and_the_graph(digits: np.ndarray) -> None:
    result = measure(MODEL, digits, "C4", **HOW)
    assert (result["runtime"]["provider"], result["runtime"]["engine"]) == ("cuda", "graph")


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_filled_on_the_device_measures_as_a_live_run(
    digits: np.ndarray, mode: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "digits.geed"
    write_cache(MODEL, digits, "C8", folder, mode=mode, provider="cuda", **HOW)
    live = measure(MODEL, digits, "C8", provider="cuda", engine="kernels", **HOW)
    cached = measure_cache(folder)
    for a, b in zip(cached["measurements"], live["measurements"], strict=True):
        assert a["per_sample"] == b["per_sample"], a["layer"]


def test_the_command_takes_the_device(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "onnx_geed", "measure", MODEL, "--data", DEMO / "digits.npz"]
    command += ["--group", "C4", "--provider", "cuda", "--samples", "10", "--out", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["runtime"]["provider"] == "cuda"
