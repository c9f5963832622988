"""TAGTorch (hkvinge/tagtorch): `latent_g_eed` and `softmax_g_eed`, written from their docstrings.

Their definitions, in their words' order: the orbit of the data is run through the network; under a
trivial action on the layer the centroid of an orbit stands for f', else f itself, acted on. The
distance is 1 - cos over the last axis, or Euclidean, averaged over data, group and what axes are
left; of softmax outputs it is the Kullback-Leibler divergence from the centroid. There is no M.
`DiscreteImageRotation` is torchvision's `rotate`, which takes the nearest pixel if not told else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rows import DIGITS, MODEL, SAMPLES, Row, record, samples
from torch import Tensor
from torch.nn import functional

import onnx_geed

ORDER = 8
Turn = Callable[[Tensor, int], Tensor]


def turned_nearest(x: Tensor, k: int) -> Tensor:
    from _torch_modules import import_torchvision

    return import_torchvision().transforms.functional.rotate(x, 360.0 * k / ORDER)


def turned_bilinear(x: Tensor, k: int) -> Tensor:
    from eager import Rotations

    grid = Rotations(ORDER).grid(*x.shape[-2:])[k : k + 1]
    return functional.grid_sample(x, grid.expand(len(x), -1, -1, -1), align_corners=True)


def orbit(x: Tensor, turn: Turn) -> Tensor:
    return torch.stack([turn(x, k) for k in range(ORDER)])


def g_eed(seen: Tensor, expected: Tensor, distance: str) -> float:
    """Average a distance over the last axis of two stacks, orbit first."""
    if distance == "cosine sim":
        return float((1 - functional.cosine_similarity(seen, expected, dim=-1)).mean())
    if distance == "euclidean":
        return float((seen - expected).norm(dim=-1).mean())
    return float((seen * (seen.log() - expected.log())).sum(-1).mean())


def invariance(seen: Tensor, distance: str) -> float:
    return g_eed(seen, seen.mean(0, keepdim=True).expand_as(seen), distance)


def rows(work: Path) -> list[Row]:
    del work
    found = []
    for name, turn in (("nearest", turned_nearest), ("bilinear", turned_bilinear)):
        wanted = ["latent-cos", "latent-l2", "softmax-kl", "channel-cos@block1"]
        options = {"samples": SAMPLES, "interpolation": name, "measures": wanted}
        result = onnx_geed.measure(str(MODEL), str(DIGITS), "C8", **options)
        cos, l2 = (record(result, measure, "latent") for measure in ("latent-cos", "latent-l2"))
        kl = record(result, "softmax-kl", "logits")
        maps = record(result, "channel-cos", "block1")
        x = torch.from_numpy(samples(result))
        latents, probabilities, blocks = activations(orbit(x, turn))
        how = f"`--group C8` `--interpolation {name}` `--measure"
        both = f"{name} pixels"
        found += [
            Row(
                f"`latent_g_eed`, 'cosine sim', {both}",
                f"{how} latent-cos`: `unnormalised`",
                *(invariance(latents, "cosine sim"), cos["unnormalised"]),
                *("1 + ours (ours is −cos)", 1 + cos["unnormalised"]),
            ),
            Row(
                "the same, from the value with M",
                f"{how} latent-cos`: `value`",
                *(invariance(latents, "cosine sim"), cos["value"]),
                "1 + M × ours (they have no M)",
                1 + cos["normaliser"] * cos["value"],
            ),
            Row(
                f"`latent_g_eed`, 'euclidean', {both}",
                f"{how} latent-l2`: `value`",
                *(invariance(latents, "euclidean"), l2["value"]),
                *("M × ours", l2["normaliser"] * l2["value"]),
            ),
            Row(
                f"`softmax_g_eed`, 'kl-divergence', {both}",
                f"{how} softmax-kl`",
                *(invariance(probabilities, "kl-divergence"), kl["value"]),
                *("ours", kl["value"]),
            ),
        ]
        expected = torch.stack([turn(blocks[0], k) for k in range(ORDER)])
        pair = (blocks.double(), expected.double())
        flat = [m.flatten(3) for m in pair]
        found.append(
            Row(
                f"`latent_g_eed` of block1 that turns along, 'cosine sim', {both}, maps flattened "
                f"to vectors (as they are, by rows of pixels: {g_eed(*pair, 'cosine sim'):.6g})",
                f"{how} channel-cos@block1`",
                *(g_eed(*flat, "cosine sim"), maps["value"]),
                "1 + ours + `zero_pairs`, the share of pairs of empty maps, whose cosine torch "
                f"calls 0 and we 1 (here {maps['zero_pairs']:g})",
                1 + maps["value"] + maps["zero_pairs"],
            )
        )
    return found


def activations(orbits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents, probabilities and maps of block1 of orbits (G, N, 1, H, W)."""
    from networks import digits

    net = digits().eval().requires_grad_(False)
    rows = orbits.flatten(0, 1)
    first = y = net.blocks[0](rows)
    for block in net.blocks[1:]:
        y = block(y)
    latents = torch.relu(net.hidden(y.flatten(1)))
    probabilities = functional.softmax(net.classifier(latents).double(), -1)
    seen = (latents.double(), probabilities, first)
    return tuple(tensor.unflatten(0, orbits.shape[:2]) for tensor in seen)
