"""Run a converter as a user does, and hold what is measured against hooks inside the framework."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np

from onnx_geed import measure

FOLDER = Path(__file__).parent.parent / "converters"


def convert(name, folder, *arguments, python=(sys.executable,)):
    """Run from_<name>.py in a folder."""
    return subprocess.run(
        [*python, str(FOLDER / f"from_{name}.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def imported(path):
    """Import a file as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def converted(name, folder, *arguments):
    """Convert what must convert; return the file."""
    run = convert(name, folder, *arguments, "-o", "net.onnx")
    assert run.returncode == 0, run.stderr
    assert "parity" in run.stdout
    return folder / "net.onnx"


def refused(name, folder, *arguments, python=(sys.executable,)):
    """Convert what must not; return the one line that says why."""
    before = sorted(p.name for p in folder.iterdir() if p.name != "__pycache__")
    run = convert(name, folder, *arguments, "-o", "net.onnx", python=python)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == before
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.stderr
    return errors[0]


def assert_equal_to_hooks(file, group, data, hooks, layers=(), *, layout="NCHW", kind="logits"):
    """Measure a file, and the same inside its framework by the slow twin, to 1e-4.

    Parameters
    ----------
    hooks : callable
        A float32 batch in the model's layout to arrays by layer (maps as N, C, H, W), with
        ``latent`` and ``output`` among them.
    """
    names = [f"channel-cos@{layer}" for layer in layers]
    result = measure(file, data, group, measures=[*names, "latent-l2", "softmax-kl"])
    values = np.asarray(data, np.float64)
    planar = values.transpose(0, 3, 1, 2) if layout == "NHWC" else values
    orbits = naive.orbit(group, planar[result["data"]["indices"]])
    batch = orbits.reshape(-1, *planar.shape[1:])
    batch = batch.transpose(0, 2, 3, 1) if layout == "NHWC" else batch
    seen = {
        name: np.asarray(a).reshape(*orbits.shape[:2], *np.shape(a)[1:])
        for name, a in hooks(np.ascontiguousarray(batch, np.float32)).items()
    }
    expected = [naive.channel_cos(seen[layer], group).mean() for layer in layers]
    latent = seen["latent"]
    normaliser = naive.normaliser(naive.flat_latent(latent)[:, 0], "latent-l2")
    expected.append(naive.latent_l2(latent, group).mean() / normaliser)
    expected.append(naive.softmax_kl(seen["output"], group, kind=kind).mean())
    np.testing.assert_allclose([m["value"] for m in result["measurements"]], expected, rtol=1e-4)
