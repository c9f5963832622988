# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Leaves by their outlines: a network and its twins, and the data to measure them with.

    python docs/examples/leaves.py leaves

OSULeaf, 442 leaves of six species: how far the outline is from the centre, at 427 places along it,
anticlockwise. It lies in the package aeon (BSD-3-Clause). A minute and a half on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from making import export, fit, members, right
from torch import Tensor, nn

DATA = "aeon/datasets/data/OSULeaf/OSULeaf_{}.ts"


class Leaves(nn.Module):
    """Four convolutions along the outline, and two dense layers.

    A ``ring`` joins the outline's end to its beginning, and averages over it.
    """

    def __init__(self, ring: bool = False) -> None:
        super().__init__()

        def conv(channels: int, out: int, width: int) -> nn.Module:
            mode = "circular" if ring else "zeros"
            layer = nn.Conv1d(channels, out, width, padding=width // 2, padding_mode=mode)
            return nn.Sequential(layer, nn.ReLU())

        self.conv1, self.pool = conv(1, 16, 15), nn.MaxPool1d(7)
        self.conv2, self.conv3, self.conv4 = conv(16, 32, 9), conv(32, 32, 9), conv(32, 32, 9)
        self.join = nn.AdaptiveAvgPool1d(1) if ring else nn.Identity()
        self.latent = nn.Sequential(nn.Linear(32 if ring else 32 * 61, 64), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv4(self.conv3(self.conv2(self.pool(self.conv1(x)))))
        return self.head(self.drop(self.latent(self.join(maps).flatten(1))))


def read(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Outlines, float32 (N, 1, 427), and species."""
    lines = text.decode().split("@data\n")[1].split()
    values = [line.rsplit(":", 1) for line in lines]
    outlines = np.array([np.fromstring(x, sep=",") for x, _ in values], np.float32)
    return outlines[:, None], np.array([int(label) - 1 for _, label in values])


def begin_anywhere(x: Tensor, species: Tensor) -> list[Tensor]:
    """Begin each outline at another place."""
    places = torch.randint(427, (len(x), 1)) + torch.arange(427)
    return [x.gather(2, (places % 427)[:, None]), species]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = members("aeon==1.6.0", DATA.format("TRAIN"), DATA.format("TEST"))
    (x, y), (test_x, test_y) = map(read, texts)
    np.savez(folder / "leaves.npz", x=test_x, y=test_y)
    jobs = {
        "untrained": (False, None, 0),
        "plain": (False, None, 400),
        "shifted": (False, begin_anywhere, 1000),
        "ring": (True, None, 1000),
    }
    for name, (ring, change, steps) in jobs.items():
        net = fit(lambda ring=ring: Leaves(ring), [x], y, change, steps=steps)
        export(net, folder / f"{name}.onnx", {"outline": test_x})
        print(f"{name:9} training {right(net, [x], y)}, test {right(net, [test_x], test_y)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
