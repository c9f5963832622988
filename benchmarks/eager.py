"""The same as a user would write it: PyTorch, forward hooks, grid_sample and cosine_similarity.

Written as well as such a user would: one batch of whole orbits, sampling grids made once, no
gradients, everything batched over elements and channels, divergences in float64. It computes the
same values as onnx-geed, which is checked before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Rotations:
    """Grids for ``grid_sample``: rotations by 360°k/n about the centre, one set a map size."""

    def __init__(self, order: int, device: str = "cpu") -> None:
        self.order, self.device = order, device
        self.grids: dict[tuple[int, int], Tensor] = {}

    def grid(self, height: int, width: int) -> Tensor:
        if (height, width) not in self.grids:
            angle = torch.arange(self.order, dtype=torch.float64) * (2 * math.pi / self.order)
            c, s, o = angle.cos(), angle.sin(), torch.zeros(self.order, dtype=torch.float64)
            theta = torch.stack([torch.stack([c, -s, o], 1), torch.stack([s, c, o], 1)], 1)
            size = [self.order, 1, height, width]
            self.grids[height, width] = functional.affine_grid(theta, size, align_corners=True)
            self.grids[height, width] = self.grids[height, width].float().to(self.device)
        return self.grids[height, width]

    def turn(self, maps: Tensor) -> Tensor:
        """Orbits (k, n, C, H, W) of maps (k, C, H, W)."""
        k, n = len(maps), self.order
        grid = self.grid(*maps.shape[-2:])
        rows = maps[:, None].expand(-1, n, -1, -1, -1).flatten(0, 1)
        turned = functional.grid_sample(
            rows, grid.repeat(k, 1, 1, 1), padding_mode="zeros", align_corners=True
        )
        return turned.view(k, n, *maps.shape[1:])


def channel_deviations(orbits: Tensor, rotations: Rotations) -> Tensor:
    """−(1/C) Σ cos of orbits (k, n, C, H, W) with the turned identity's map, (k, n)."""
    seen, expected = orbits.flatten(3), rotations.turn(orbits[:, 0]).flatten(3)
    cosine = functional.cosine_similarity(seen, expected, dim=-1)
    # Two dead channels agree: PyTorch says 0. Only where it says so is there anything to look at.
    where = (cosine == 0).nonzero(as_tuple=True)
    if len(where[0]):
        dead = ~(seen[where].any(-1) | expected[where].any(-1))
        cosine[where] = dead.to(cosine.dtype)
    return -cosine.mean(-1)


class Watched:
    """A network whose module outputs, and what its classifier reads, are kept by hooks."""

    def __init__(self, net: nn.Module, maps: Sequence[nn.Module], classifier: nn.Module) -> None:
        self.net = net
        self.seen: list[Tensor] = []
        self.latent: Tensor | None = None
        for module in maps:
            module.register_forward_hook(lambda _m, _i, y: self.seen.append(y))
        classifier.register_forward_pre_hook(lambda _m, x: setattr(self, "latent", x[0]))

    def __call__(self, rows: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        self.seen = []
        logits = self.net(rows)
        assert self.latent is not None
        return self.seen, self.latent, logits


@torch.inference_mode()
def geed(
    make: Callable[[], Watched],
    samples: Tensor,
    *,
    order: int,
    together: int,
    channels_last: bool = False,
    device: str = "cpu",
) -> dict[str, float]:
    """All measures over samples (N, C, H, W), ``together`` orbits a batch."""
    watched, rotations = make(), Rotations(order, device)
    watched.net.to(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    channel: list[list[Tensor]] = []
    l2, cosine, kl, points = [], [], [], []
    for some in samples.split(together):
        rows = rotations.turn(some.to(device))
        maps, z, logits = watched(rows.flatten(0, 1).contiguous(memory_format=layout))
        shape = rows.shape[:2]
        orbits = [y.contiguous().view(*shape, *y.shape[1:]) for y in maps]
        channel.append([channel_deviations(y, rotations).mean(1) for y in orbits])
        z = z.view(*shape, -1)
        centre = z.mean(1, keepdim=True)
        l2.append((z - centre).norm(dim=-1).mean(1))
        cosine.append(-functional.cosine_similarity(z, centre, dim=-1).mean(1))
        points.append(z[:, 0])
        logs = logits.double().view(*shape, -1).log_softmax(-1)
        mean = logs.logsumexp(1, keepdim=True) - math.log(order)
        kl.append((logs.exp() * (logs - mean)).sum(-1).mean(1))
    x = torch.cat(points)
    unit, n = functional.normalize(x, dim=-1).double(), len(x)
    pairs = (float((unit @ unit.T).sum()) - n) / (n * (n - 1))
    columns = zip(*channel, strict=True)
    return {
        **{f"channel-cos {i}": float(torch.cat(c).mean()) for i, c in enumerate(columns)},
        "latent-l2": float(torch.cat(l2).mean()),
        "latent-l2, 1 + M": 1 + float(functional.pdist(x).mean()),
        "latent-cos": float(torch.cat(cosine).mean()),
        "latent-cos, 1 + M": 1 + pairs,
        "softmax-kl": float(torch.cat(kl).mean()),
    }
