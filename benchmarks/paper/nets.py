"""Networks of section 4.1: six blocks, ordinary or C8 steerable, after Weiler & Cesa (2019).

Both have the same kernels, strides and sizes (25, 25, 13, 13, 7, 5), all odd, so that quarter turns
of the image are quarter turns of every map; they differ in what a convolution may be.

Choice: the paper's text says neither what its conventional CNN is nor how wide. Ours is the
steerable network with ordinary convolutions, whose last maps are not pooled but read as they are,
as in LeNet: with pooled ones it does not come to 98 % in 2,000 iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

SIZE = 29
CLASSES = 9
LATENT = 64
# (kernel, padding, whether the maps are pooled to half their size behind it)
BLOCKS = ((7, 1, False), (5, 2, True), (5, 2, False), (5, 2, True), (5, 2, False), (5, 1, False))

#: Fields of Weiler & Cesa's network for rotated MNIST, and what one core trains in minutes.
FIELDS = {"paper": (24, 48, 48, 96, 96, 64), "small": (4, 8, 8, 12, 12, 16)}
CHANNELS = {"paper": (32, 64, 64, 128, 128, 128), "small": (12, 24, 32, 32, 32, 32)}


class Head(nn.Module):
    """The end of both: one hidden layer, the latent space, and an affine classifier."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(inputs, LATENT), nn.BatchNorm1d(LATENT), nn.ELU())
        self.classifier = nn.Linear(LATENT, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.hidden(x))


class Conventional(nn.Module):
    """Ordinary convolutions, batch norm, ReLU."""

    def __init__(self, channels: Sequence[int] = CHANNELS["small"]) -> None:
        super().__init__()
        inside = 1
        for i, ((kernel, padding, pooled), outside) in enumerate(
            zip(BLOCKS, channels, strict=True), 1
        ):
            conv = nn.Conv2d(inside, outside, kernel, padding=padding, bias=False)
            block = nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())
            self.add_module(f"block{i}", block)
            if pooled:
                self.add_module(f"pool{i}", nn.AvgPool2d(3, 2, 1))
            inside = outside
        self.head = Head(inside * 5 * 5)

    def forward(self, x: Tensor) -> Tensor:
        for i, (_, _, pooled) in enumerate(BLOCKS, 1):
            x = self.get_submodule(f"block{i}")(x)
            if pooled:
                x = self.get_submodule(f"pool{i}")(x)
        return self.head(x.flatten(1))


class Steerable(nn.Module):
    """Regular fields of C8, blurred pooling, and the maximum over each field before the head."""

    def __init__(self, fields: Sequence[int] = FIELDS["small"]) -> None:
        super().__init__()
        stand_in()
        from escnn import gspaces, nn as enn

        turns = gspaces.rot2dOnR2(8)
        self.inside = enn.FieldType(turns, [turns.trivial_repr])
        self.mask = enn.MaskModule(self.inside, SIZE, margin=1)
        inside = self.inside
        for i, ((kernel, padding, pooled), count) in enumerate(zip(BLOCKS, fields, strict=True), 1):
            outside = enn.FieldType(turns, count * [turns.regular_repr])
            block = enn.SequentialModule(
                enn.R2Conv(inside, outside, kernel, padding=padding, bias=False),
                enn.InnerBatchNorm(outside),
                enn.ReLU(outside, inplace=True),
            )
            self.add_module(f"block{i}", block)
            if pooled:
                self.add_module(f"pool{i}", enn.PointwiseAvgPoolAntialiased(outside, 0.66, 2))
            inside = outside
        self.pool = enn.PointwiseAvgPoolAntialiased(inside, 0.66, 1, padding=0)
        self.invariant = enn.GroupPooling(inside)
        self.head = Head(len(inside))

    def forward(self, x: Tensor) -> Tensor:
        from escnn import nn as enn

        y = self.mask(enn.GeometricTensor(x, self.inside))
        for i, (_, _, pooled) in enumerate(BLOCKS, 1):
            y = self.get_submodule(f"block{i}")(y)
            if pooled:
                y = self.get_submodule(f"pool{i}")(y)
        return self.head(self.invariant(self.pool(y)).tensor.flatten(1))


def stand_in() -> None:
    """Let escnn be imported without lie_learn, which needs Fortran and serves other groups."""
    import sys
    import types

    name = "lie_learn.representations.SO3.wigner_d"
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        path = ".".join(parts[:i])
        if path not in sys.modules:
            module: Any = types.ModuleType(path)
            module.__path__ = []
            module.wigner_D_matrix = None
            sys.modules[path] = module


def make(kind: str, scale: str, seed: int) -> nn.Module:
    """Return a network with its random weights."""
    torch.manual_seed(seed)
    if kind == "steerable":
        return Steerable(FIELDS[scale])
    return Conventional(CHANNELS[scale])
