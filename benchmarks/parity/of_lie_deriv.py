"""lie-deriv (Gruver et al. 2023, arXiv 2210.02984), from the equations; none of its code is here.

The Lie derivative of F at x along t -> g_t is d/dt F(g_t x) at t = 0, moved back where F gives
images. The local equivariance error is the mean over x of its squared norm by the dimension of F,
here of class probabilities. Its tables have the mean absolute entry, and beside it the mean square
of F(gx) - F(x) over drawn rotations, and how often predictions stay when an image is rolled.
Rotations are in radians, images are mirrored at their border and bilinear in between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rows import CLOSE, DIGITS, F64, MODEL, SAMPLES, Row, deviations, record, samples
from torch import Tensor
from torch.nn import functional

import onnx_geed

CORNER = 14 * 2**0.5  # pixels from the centre of 29x29, where a step is counted
ANGLES = (-11.25, -7.5, -3.75, 3.75, 7.5, 11.25)


def with_softmax(path: Path) -> Path:
    """Write the demo's network with its softmax, of which theirs is taken."""
    model = onnx.load(MODEL)
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 9])
    del model.graph.output[:], model.metadata_props[:]
    model.graph.output.append(output)
    onnx.save(model, path)
    return path


def black_frame(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blacken four pixels at the border, so that mirroring and zeros outside are the same."""
    framed = np.zeros_like(images)
    framed[:, 4:-4, 4:-4] = images[:, 4:-4, 4:-4]
    return framed


def rotated(x: Tensor, radians: float) -> Tensor:
    c, s = np.cos(radians), np.sin(radians)
    theta = torch.tensor([[[c, -s, 0], [s, c, 0]]], dtype=x.dtype)
    grid = functional.affine_grid(theta, [1, *x.shape[1:]], align_corners=True)
    options = {"padding_mode": "reflection", "align_corners": True}
    return functional.grid_sample(x, grid.expand(len(x), -1, -1, -1), **options)


def velocity(x: Tensor, sides: str) -> Tensor:
    """Return d/dt of the bilinear image under a rotation by t, at t = 0, where it has a kink.

    A bilinear image has two slopes at a pixel. `forward` is the one to the next pixel, which a
    derivative of the interpolation takes whatever way the pixel moves; `both` is the mean of the
    two, to which differences from both sides come.
    """
    at = torch.arange(29, dtype=x.dtype) - 14
    before = functional.pad(x, (1, 1, 1, 1))
    down, right = before[..., 2:, 1:-1], before[..., 1:-1, 2:]
    if sides == "forward":
        slope_y, slope_x = down - x, right - x
    else:
        slope_y = (down - before[..., :-2, 1:-1]) / 2
        slope_x = (right - before[..., 1:-1, :-2]) / 2
    return slope_x * -at[:, None] + slope_y * at[None, :]


def error(slopes: Tensor) -> float:
    """Return the local equivariance error of derivatives (N, K)."""
    return float((slopes**2).sum(1).mean() / slopes.shape[1])


def rows(work: Path) -> list[Row]:
    from networks import digits

    path = str(with_softmax(work / "softmax.onnx"))
    framed = work / "framed.npz"
    np.savez(framed, images=black_frame(np.load(DIGITS)["images"]))
    net = digits().double().eval().requires_grad_(False)

    def measured(group: str, measure: str, data: Path = framed) -> tuple[Any, F64]:
        options = {"measures": [f"{measure}@probabilities"], "samples": SAMPLES}
        result = onnx_geed.measure(path, str(data), group, **options)
        return result, deviations(record(result, measure, "probabilities"))

    def probabilities(batch: Tensor) -> Tensor:
        return net(batch).softmax(-1)

    found = []
    tilts = f"rotate:{','.join(f'{a:g}' for a in ANGLES)}"
    for data, title, close in (
        (framed, "", CLOSE),
        # A mirrored border is seen of digits that reach it.
        (DIGITS, ", digits as they are, whose border theirs mirrors", 1e-3),
    ):
        result, moved = measured(tilts, "output-l2", data)
        x = torch.from_numpy(samples(result, data)).double()
        still = probabilities(x)
        apart = torch.stack([probabilities(rotated(x, np.radians(a))) for a in ANGLES]) - still
        found.append(
            Row(
                "`rotation_sample_invariance`, of ±3.75°, ±7.5°, ±11.25° (they draw between "
                f"±11.25°){title}",
                f"`--group {tilts}` `--measure output-l2`",
                *(float((apart**2).mean()), float(moved[:, 1:].mean())),
                "mean of the squares of ours (`deviations`) / 9 classes",
                *(float((moved[:, 1:] ** 2).mean() / 9), close),
            )
        )
    rolls, flips = measured("shift29x1", "flip-rate")
    x = torch.from_numpy(samples(rolls, framed)).double()
    still = probabilities(x)
    for k in (1, 4):
        stay = (probabilities(x.roll(k, 2)).argmax(1) == still.argmax(1)).double().mean()
        flipped = float(flips[:, rolls["group"]["elements"].index(f"t{k},0")].mean())
        found.append(
            Row(
                f"`consistency_x{k}`, images rolled by {k} pixel{'s' * (k > 1)}",
                f"`--group shift29x1` `--measure flip-rate`: `per_element`, t{k},0",
                *(float(stay), flipped),
                *("1 − ours", 1 - flipped),
            )
        )
    radian = "a radian is 19.8 pixels at the corner"
    ours = "19.8² × mean of the squares of ours (`deviations`) / 9 classes"
    for step in (1.0, 0.1):
        _, slopes = measured(f"small-rotation~{step:g}", "sensitivity")
        angle = step / CORNER
        apart = probabilities(rotated(x, angle)) - probabilities(rotated(x, -angle))
        found.append(
            Row(
                f"local equivariance error, rotation, by a difference over ±{step:g} pixels at the "
                f"corner (±{np.degrees(angle):.3g}°)",
                f"`--group small-rotation~{step:g}` `--measure sensitivity`",
                *(error(apart / (2 * angle)), float(slopes[:, 1].mean())),
                f"{ours}: {radian}",
                float(CORNER**2 * (slopes[:, 1] ** 2).mean() / 9),
                # Differences of probabilities in float32, divided by a small angle.
                close=1e-5 / step,
            )
        )
    _, forward = torch.func.jvp(probabilities, (x,), (velocity(x, "forward"),))
    _, both = torch.func.jvp(probabilities, (x,), (velocity(x, "both"),))
    _, slopes = measured("small-rotation~0.001", "sensitivity")
    found.append(
        Row(
            "local equivariance error, rotation, by the derivative, a pixel's two slopes averaged; "
            f"with the slope to the next pixel alone: {error(forward):.6g}",
            "`--group small-rotation~0.001` `--measure sensitivity`",
            *(error(both), float(slopes[:, 1].mean())),
            f"{ours}, in the limit of small steps",
            float(CORNER**2 * (slopes[:, 1] ** 2).mean() / 9),
            # ReLUs that switch within the step, and float32.
            close=0.05,
        )
    )
    return found
