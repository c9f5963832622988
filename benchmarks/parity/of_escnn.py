"""escnn 1.0.11: `check_equivariance` of a module, beside `output-l2` of the same network as ONNX.

It takes three samples of noise on 10x10 pixels and 20 elements at random, and gives each element
the mean absolute entry of f(x) moved - f(x moved). Its tolerances only decide whether it raises.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import steerable
import torch
from rows import F64, ROOT, Row, deviations, record
from scipy.ndimage import affine_transform

import onnx_geed

OUTPUT = "output"


def checked(name: str) -> tuple[F64, dict[str, float]]:
    """Return the noise that escnn draws, and its error by our names of elements."""
    net = getattr(steerable, name)()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - escnn draws its elements there
    with contextlib.redirect_stdout(io.StringIO()):
        errors = net.check_equivariance(atol=1e9)
    torch.manual_seed(1)
    drawn = torch.randn(3, 1, 10, 10).numpy()
    return drawn, {f"r{int(str(g).partition('[')[0])}": float(error) for g, error in errors}


def bilinear(x: F64, k: int) -> F64:
    """Turn maps by 45k degrees, as our package does."""
    action = onnx_geed.grid_action(onnx_geed.cyclic(8), *x.shape[-2:])
    return np.stack([onnx_geed.orbit(action, row)[k] for row in x])


def spline(x: F64, k: int) -> F64:
    """The same by splines of order 2, and the matrix in half precision, as escnn has them."""
    if k % 2 == 0:
        return np.rot90(x, k // 2, (-2, -1))
    c, s = (f(k * np.pi / 4) for f in (np.cos, np.sin))
    turn = np.array([[c, s], [-s, c]]).astype(np.float16).astype(np.float64)
    centre = (np.array(x.shape[-2:]) - 1) / 2
    about = {"offset": centre - turn @ centre, "order": 2, "mode": "constant"}
    flat = [affine_transform(image, turn, **about) for image in x.reshape(-1, *x.shape[-2:])]
    return np.stack(flat).reshape(x.shape)


def residual(path: Path, x: F64, k: int, turn: Callable[[F64, int], F64]) -> F64:
    """Return f(gx) - g f(x) of an ONNX file whose table moves the channels of its output."""
    about = {p.key: p.value for p in onnx.load(path).metadata_props}
    channels = json.loads(about[f"onnx_geed.action.{OUTPUT}"])["channels"][k]
    session = onnxruntime.InferenceSession(str(path))
    f = {k: session.run([OUTPUT], {"input": turn(x, k).astype(np.float32)})[0] for k in (0, k)}
    return f[k].astype(np.float64) - turn(f[0], k)[:, channels]


def rows(work: Path) -> list[Row]:
    found = []
    for name, title in (("centred", "all strides 1"), ("even", "stride 2 on 10×10 pixels")):
        x, errors = checked(name)
        path, data = work / f"{name}.onnx", work / "noise.npy"
        command = [sys.executable, ROOT / "converters" / "from_escnn.py"]
        command += [f"{Path(steerable.__file__)}:{name}", "--input-shape", "1,10,10", "-o", path]
        subprocess.run(command, check=True, capture_output=True)
        np.save(data, x)
        options = {"measures": ["output-l2"], "output_kind": "embedding"}
        result = onnx_geed.measure(str(path), str(data), "C8", **options)
        ours = record(result, "output-l2", OUTPUT)
        for k in (2, 4, 1):
            apart = residual(path, x, k, bilinear)
            norms = np.sqrt((apart**2).sum((1, 2, 3)))[result["data"]["indices"]]
            if np.abs(norms - deviations(ours)[:, k]).max() > 1e-5:
                raise SystemExit("escnn: the parts of our package do not give what it measures")
            formula = "mean \\|entry\\| of f(gx) − g f(x), of which ours is the Euclidean norm"
            if k % 2:
                apart = residual(path, x, k, spline)
                formula += ", and turned by splines of order 2 instead of bilinearly"
            found.append(
                Row(
                    f"`check_equivariance`, {title}, {45 * k}°",
                    f"`--group C8` `--measure output-l2`: `per_element`, r{k}",
                    *(errors[f"r{k}"], ours["per_element"][f"r{k}"]),
                    formula,
                    float(np.abs(apart).mean()),
                )
            )
    return found
