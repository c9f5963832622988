"""The controlled studies of section 4.4: one CNN, trained in several ways, on Fashion-MNIST.

All see the same crops and changes of contrast. `METHODS` compares ways of training: all but
`simclr-no-flips` see flips. `TURNS` compares augmentations of one way, SimCLR: none of a group,
flips, quarter turns, and both.
Choices: crops of 50 to 100 % of the area, any place, stretched back to 28x28; contrast and
brightness by up to 40 %; Adam, 1e-3 falling to 0; SimCLR's temperature 0.2; DINO's student 0.1 and
teacher 0.04, centre and teacher averaged with 0.9 and 0.99, 256 prototypes, two crops and no
smaller ones.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from checkpoints import save_arrays, train
from digits import read_idx
from torch import Tensor, nn
from torch.nn import functional

METHODS = ("supervised", "simclr", "simclr-no-flips", "dino")
TURNS = ("simclr-no-flips", "simclr", "simclr-turns", "simclr-flips-turns")
LATENT = 128
BATCH, EVERY, RATE = 128, 500, 1e-3
ITERATIONS = {"paper": 10000, "small": 1500}
SEEDS = {"paper": 10, "small": 3}
#: Turns by 0, 90, 180 and 270 degrees, without the rounding of a cosine.
QUARTER = torch.tensor(
    [[[1.0, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]]
)


class Encoder(nn.Module):
    """Four convolutions, batch norm, ReLU; the mean over the map is the latent space."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 1
        for outside, stride in ((16, 1), (32, 2), (64, 2), (LATENT, 2)):
            conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(outside), nn.ReLU()]
            inside = outside
        self.maps = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.maps(x)).flatten(1)


def projector(outside: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(LATENT, LATENT), nn.BatchNorm1d(LATENT), nn.ReLU(), nn.Linear(LATENT, outside)
    )


class Supervised(nn.Module):
    """Cross-entropy."""

    def __init__(self, flips: bool = True) -> None:
        super().__init__()
        self.encoder, self.head, self.flips = Encoder(), nn.Linear(LATENT, 10), flips

    def loss(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        logits = self.head(self.encoder(augment(x, generator, self.flips)))
        return functional.cross_entropy(logits, y)


class SimCLR(nn.Module):
    """Of all other views in the batch, find the other one of the same image (NT-Xent)."""

    def __init__(self, flips: bool = True, turns: bool = False) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), projector(64)
        self.flips, self.turns = flips, turns

    def loss(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        views = [augment(x, generator, self.flips, self.turns) for _ in range(2)]
        z = functional.normalize(self.head(self.encoder(torch.cat(views))), dim=1)
        alike = z @ z.T / 0.2
        alike.fill_diagonal_(float("-inf"))
        n = len(x)
        return functional.cross_entropy(alike, torch.arange(2 * n).roll(n))


class Prototypes(nn.Module):
    """Cosines of a projected latent with 256 learned directions."""

    def __init__(self) -> None:
        super().__init__()
        self.projector = projector(64)
        self.directions = nn.Parameter(torch.randn(256, 64))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(
            functional.normalize(self.projector(x), dim=1),
            functional.normalize(self.directions, dim=1),
        )


class Dino(nn.Module):
    """A student predicts what its own running mean says of another view; nothing is contrasted."""

    def __init__(self, flips: bool = True) -> None:
        super().__init__()
        self.encoder, self.head, self.flips = Encoder(), Prototypes(), flips
        self.teacher = copy.deepcopy(nn.Sequential(self.encoder, self.head)).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(256))

    def loss(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():  # the mean follows the step that was taken last
            own = nn.Sequential(self.encoder, self.head).state_dict()
            for name, value in self.teacher.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(own[name], 0.01)
        views = torch.cat([augment(x, generator, self.flips) for _ in range(2)])
        scores = self.head(self.encoder(views))
        with torch.no_grad():
            told = self.teacher(views)
            wanted = functional.softmax((told - self.centre) / 0.04, dim=1).roll(len(x), 0)
            self.centre.lerp_(told.mean(0), 0.1)
        return -(wanted * functional.log_softmax(scores / 0.1, dim=1)).sum(1).mean()


def make(method: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if method == "supervised":
        return Supervised()
    if method == "dino":
        return Dino()
    return SimCLR(method in ("simclr", "simclr-flips-turns"), method.endswith("turns"))


def augment(x: Tensor, generator: torch.Generator, flips: bool, turns: bool = False) -> Tensor:
    """Crop, stretch, perhaps mirror and turn, change contrast and brightness; each for itself."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    side = uniform(0.5, 1.0).sqrt()
    ratio = torch.exp(uniform(-0.2, 0.2))
    wide, tall = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    across, down = uniform(-1, 1) * (1 - wide), uniform(-1, 1) * (1 - tall)
    # Drawn also where it is not used, so that with and without flips and turns the rest is the
    # same; one number tells of both, and the two stay independent.
    drawn = uniform(0, 1)
    mirrored = torch.where(drawn < 0.5, -1.0, 1.0)
    if flips:
        wide = wide * mirrored
    zero = torch.zeros(n)
    theta = torch.stack(
        [torch.stack([wide, zero, across], 1), torch.stack([zero, tall, down], 1)], 1
    )
    if turns:
        theta[:, :, :2] = theta[:, :, :2] @ QUARTER[(2 * drawn % 1 * 4).long()]
    grid = functional.affine_grid(theta, list(x.shape), align_corners=True)
    moved = functional.grid_sample(x, grid, padding_mode="zeros", align_corners=True)
    contrast, light = (
        uniform(0.6, 1.4)[:, None, None, None],
        uniform(-0.2, 0.2)[:, None, None, None],
    )
    return moved * contrast + light


def fashion(where: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images in [0, 1], from a folder of the four official files."""
    parts = []
    for part in ("train", "t10k"):
        images, labels = (
            read_idx(Path(where), f"{part}-{content}") for content in ("images", "labels")
        )
        parts.append((torch.from_numpy(images[:, None]).float() / 255, torch.from_numpy(labels)))
    (a, b), (c, d) = parts
    return (a, b.long()), (c, d.long())


def neighbours(
    encoder: nn.Module, known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor]
) -> float:
    """Share of test images whose 20 nearest training latents (by cosine) vote for their class."""
    encoder.eval()
    with torch.no_grad():
        a, b = (
            functional.normalize(torch.cat([encoder(x) for x in images.split(500)]), dim=1)
            for images, _ in (known, asked)
        )
        near = known[1][(b @ a.T).topk(20, dim=1).indices]
        votes = functional.one_hot(near, 10).sum(1).argmax(1)
    return float((votes == asked[1]).float().mean())


def run(
    work: Path,
    scale: str,
    where: str,
    *,
    methods: tuple[str, ...] = METHODS,
    seeds: list[int] | None = None,
) -> None:
    """Train what is not yet trained."""
    torch.set_num_threads(1)
    (images, labels), (held, held_labels) = fashion(where)
    out = work / "data" / "fashion28.npz"
    if not out.is_file():
        arrays = {
            "images": (held[:, 0].numpy() * 255).round().astype(np.uint8),
            "labels": held_labels.numpy().astype(np.uint8),
        }
        save_arrays(out, arrays)
    for seed in range(SEEDS[scale]) if seeds is None else seeds:
        for method in methods:
            net = make(method, seed)

            def step(_: int, generator: torch.Generator, net: nn.Module = net) -> Tensor:
                rows = torch.randint(len(images), (BATCH,), generator=generator)
                return net.loss(images[rows], labels[rows], generator)

            train(
                work / "4.4" / method,
                f"run{seed}",
                net,
                step,
                iterations=ITERATIONS[scale],
                every=EVERY,
                rate=RATE,
                seed=seed,
                shape=(1, 28, 28),
                exported=net.encoder,
                options=("--output-kind", "embedding", "--preprocess", "unit"),
                note=lambda net, _: {
                    "neighbours": neighbours(
                        net.encoder,
                        (images[:5000], labels[:5000]),
                        (held[:2000], held_labels[:2000]),
                    )
                },
            )
