"""tmeasures (AGPL, from PyPI) through its public interface, on the job that both tools can do.

Nothing of it is copied or shipped: the script calls the installed package.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tmeasures
import torch
from networks import Network
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


class Turn(tmeasures.Transformation, tmeasures.InvertibleTransformation):
    """A rotation about the centre as tmeasures calls it; its grids are made once a size."""

    def __init__(self, k: int, order: int) -> None:
        self.k, self.order = k % order, order
        self.grids: dict[tuple[int, ...], Tensor] = {}
        self.back: Turn | None = None

    def __call__(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[-2:])
        if size not in self.grids:
            angle = 2 * math.pi * self.k / self.order
            c, s = math.cos(angle), math.sin(angle)
            theta = torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]])
            self.grids[size] = functional.affine_grid(theta, [1, 1, *size], align_corners=True)
        return functional.grid_sample(x[None], self.grids[size], align_corners=True)[0]

    def inverse(self) -> Turn:
        if self.back is None:
            self.back = Turn(-self.k, self.order)
        return self.back


class Blocks(tmeasures.pytorch.ActivationsModule):
    """The feature maps that are measured."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def activation_names(self) -> list[str]:
        return [f"block{i + 1}" for i in range(len(self.net.blocks))]

    def forward_activations(self, x: Tensor) -> list[Tensor]:
        seen = []
        for block in self.net.blocks:
            x = block(x)
            seen.append(x)
        return seen


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        return self.rows[i]


def same_equivariance(
    net: Network, data: NDArray[np.float32], order: int = 8
) -> Callable[[int], list[float]]:
    """Standard deviation over the group of maps turned back, averaged over samples, a layer."""
    rows = torch.from_numpy(data)

    def run(count: int) -> list[float]:
        turns = tmeasures.TransformationSet([Turn(k, order) for k in range(order)])
        options = tmeasures.pytorch.PyTorchMeasureOptions(batch_size=order, verbose=False)
        measure = tmeasures.pytorch.TransformationVarianceSameEquivariance()
        result = measure.eval(Rows(rows[:count]), turns, Blocks(net.module()), options)
        values = [float(np.mean(layer)) for layer in result.numpy().layers]
        if len(values) != 5 or not np.isfinite(values).all():
            raise SystemExit(f"tmeasures gave {values}")
        return values

    return run
