"""tmeasures 1.2.11 (AGPL) through its public interface; nothing of it is copied or shipped.

Its measures are standard deviations, unit by unit: over the transformations of a sample, averaged
over samples (`Transformation...`), or over samples, averaged over transformations (`Sample...`).
`...SameEquivariance` turns maps back first. So what both share is a sum of squares: over an orbit
of n, sum over g of |f(gx) - mean|^2 = (n - 1) x sum over units of s^2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tmeasures
import torch
from numpy.typing import NDArray
from other_measures import Blocks, Rows, Turn
from rows import DIGITS, F64, MODEL, SAMPLES, Row, record, samples
from torch import Tensor

import onnx_geed

#: So many digits, each in its four quarter turns, for same-equivariance.
TURNED = 20


class Latent(Blocks):
    def activation_names(self) -> list[str]:
        return ["latent"]

    def forward_activations(self, x: Tensor) -> list[Tensor]:
        maps = super().forward_activations(x)
        return [torch.relu(self.net.hidden(maps[-1].flatten(1)))]


def measured(measure: type, rows: NDArray[np.float32], order: int, layer: str) -> F64:
    """Return what a measure of theirs gives each unit of a layer."""
    from networks import digits

    turns = tmeasures.TransformationSet([Turn(k, order) for k in range(order)])
    options = tmeasures.pytorch.PyTorchMeasureOptions(batch_size=256, verbose=False)
    net = (Latent if layer == "latent" else Blocks)(digits().eval().requires_grad_(False))
    result = measure().eval(Rows(torch.from_numpy(rows)), turns, net, options).numpy()
    return result.layers[net.activation_names().index(layer)]


def one_by_one(measure: type, rows: NDArray[np.float32], order: int, layer: str) -> F64:
    """Return the same of each sample alone: (N, ...)."""
    return np.stack([measured(measure, row[None], order, layer) for row in rows])


def rows(work: Path) -> list[Row]:
    theirs = tmeasures.pytorch
    wanted = ["unexplained@latent"]
    result = onnx_geed.measure(str(MODEL), str(DIGITS), "C8", samples=SAMPLES, measures=wanted)
    found = record(result, "unexplained", "latent")
    x = samples(result)
    means = measured(theirs.TransformationVarianceInvariance, x, 8, "latent")
    orbits = latents(x)
    units = [onnx_geed.latent_l2(orbits[:, :, [k]], onnx_geed.cyclic(8)) for k in range(len(means))]
    ours = [np.sqrt((d**2).sum(1) / 7).mean() for d in units]
    squares = (one_by_one(theirs.TransformationVarianceInvariance, x, 8, "latent") ** 2).sum(1)
    points = np.load(DIGITS)["images"][result["data"]["indices"][:200], None] / np.float32(255)
    spread = measured(theirs.SampleVarianceInvariance, points.astype(np.float32), 1, "latent")
    return [
        Row(
            "`TransformationVarianceInvariance` of the latent, C8, mean over units",
            "`onnx_geed.latent_l2(latents[:, :, [k]], group)`, a unit k at a time",
            *(float(means.mean()), float(np.mean(units))),
            "mean over k and samples of √(Σ_g ours² / (n − 1)), n = 8",
            float(np.mean(ours)),
        ),
        Row(
            "the same of each sample alone, squared, summed over units, averaged over samples",
            "`--group C8` `--measure unexplained@latent`",
            *(float(squares.mean()), found["value"]),
            "M₂ × ours × n / (n − 1) (M₂ is `normaliser`)",
            found["normaliser"] * found["value"] * 8 / 7,
        ),
        Row(
            "`SampleVarianceInvariance` of the latent without turns, 200 digits, squared, summed "
            "over units",
            "`normaliser` of `unexplained@latent`",
            *(float((spread**2).sum()), found["normaliser"]),
            *("M₂", found["normaliser"]),
        ),
        *(turning(work, x[:TURNED], layer) for layer in ("block1", "block3")),
    ]


def turning(work: Path, x: NDArray[np.float32], layer: str) -> Row:
    """Same-equivariance of quarter turns, which are exact.

    Turned back, z_g = g^-1 f(gx), so |f(gkx) - g f(kx)| = |z_gk - z_k|. Over all k and g that adds
    up to the differences of all pairs of z, hence to 2 n sum over g of |z_g - mean|^2.
    """
    measure = tmeasures.pytorch.TransformationVarianceSameEquivariance
    squares = (one_by_one(measure, x, 4, layer) ** 2).sum((1, 2, 3))
    path = work / "turned.npy"
    np.save(path, np.concatenate([np.rot90(x, k, (2, 3)) for k in range(4)]))
    options = {"samples": 4 * len(x), "measures": [f"unexplained@{layer}"]}
    result = onnx_geed.measure(str(MODEL), str(path), "C4", **options)
    found = record(result, "unexplained", layer)
    return Row(
        f"`TransformationVarianceSameEquivariance` of {layer}, C4, {len(x)} digits, each alone, "
        "squared, summed over units, averaged",
        f"`--group C4` `--measure unexplained@{layer}` of the digits in all four turns",
        *(float(squares.mean()), found["value"]),
        "M₂ × ours / 2 (every turn of a digit is held against every other)",
        found["normaliser"] * found["value"] / 2,
        # PyTorch turns maps by resampling in float32, quarter turns too.
        close=1e-5,
    )


def latents(x: NDArray[np.float32]) -> F64:
    """Return the latents of orbits under C8, (N, 8, 32), as a user of PyTorch has them."""
    from of_tagtorch import activations, orbit, turned_bilinear

    return activations(orbit(torch.from_numpy(x), turned_bilinear))[0].numpy().swapaxes(0, 1)
