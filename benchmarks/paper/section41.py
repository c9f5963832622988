"""Section 4.1: conventional and C8 steerable networks on rotated digits, a checkpoint every 200.

Choices: Adam, 1e-3 falling to 0 along a cosine, weight decay 1e-5, batches of 64.
"""

from __future__ import annotations

from pathlib import Path

import digits
import nets
import numpy as np
import torch
from checkpoints import train, write_whole

ITERATIONS, EVERY, BATCH, RATE = 2000, 200, 64, 1e-3
SEEDS = {"paper": 10, "small": 5}


def data(work: Path, where: str | None) -> Path:
    """Write the rotated test digits that are measured on; float32, as the networks see them."""
    out = work / "data" / "digits.npz"
    if not out.is_file():
        _, test = digits.mnist(where)
        images, labels = digits.rotated_test(test)
        arrays = {"images": images.numpy(), "labels": labels.numpy().astype(np.uint8)}
        write_whole(out, lambda p: save(p, arrays))
    return out


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def run(
    work: Path,
    scale: str,
    where: str | None,
    *,
    kinds: tuple[str, ...] = ("conventional", "steerable"),
    seeds: list[int] | None = None,
) -> None:
    """Train what is not yet trained."""
    torch.set_num_threads(1)
    training, test = digits.mnist(where)
    images, labels = digits.without_nine(training)
    held, held_labels = digits.rotated_test(test)
    for seed in range(SEEDS[scale]) if seeds is None else seeds:
        for kind in kinds:
            net = nets.make(kind, scale, seed)
            train(
                work / "4.1" / kind,
                f"run{seed}",
                net,
                lambda _, g, net=net: digits.loss(net, images, labels, g, BATCH),
                iterations=ITERATIONS,
                every=EVERY,
                rate=RATE,
                seed=seed,
                shape=(1, nets.SIZE, nets.SIZE),
                note=lambda net: {
                    "accuracy": digits.evaluate(net, held[:2000], held_labels[:2000])
                },
            )
