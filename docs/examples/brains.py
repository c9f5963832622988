# /// script
# requires-python = ">=3.11"
# dependencies = ["nibabel>=5.0", "numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Grey matter or white, from a cube of a brain: a network and its twins, and NIfTI files.

    python docs/examples/brains.py brains

Cubes of 13 mm out of the average brain ICBM 152 (2009a), whose middle is cut out: is what was there
grey matter or white? From the package nilearn (BSD-3-Clause; the images are the McConnell Brain
Imaging Centre's, who permit use and copies).
"""

from __future__ import annotations

import gzip
import itertools
import sys
from pathlib import Path

import nibabel
import numpy as np
import torch
from making import export, fit, members, right
from torch import Tensor, nn

DATA = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
SIDE, HOLE = 13, 5  # mm


class Volume(nn.Module):
    """Three convolutions and a dense layer on all that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(1, 8, 3), nn.Conv3d(8, 8, 3)
        self.pool, self.conv3 = nn.AvgPool3d(3), nn.Conv3d(8, 16, 3, padding=1)
        self.head = nn.Linear(16 * 27, 2)

    def forward(self, scan: Tensor) -> Tensor:
        maps = self.pool(torch.relu(self.conv2(torch.relu(self.conv1(scan)))))
        return self.head(torch.relu(self.conv3(maps)).flatten(1))


def cube_rotations() -> Tensor:
    """Each of the 24 rotations of a 3x3x3 kernel, as the places (24, 27) it takes entries from."""
    tables, places = [], np.arange(27).reshape(3, 3, 3)
    for order in itertools.permutations(range(3)):
        for signs in itertools.product([1, -1], repeat=3):
            matrix = np.eye(3)[list(order)] * signs
            if np.linalg.det(matrix) > 0:
                axes = tuple(i for i in range(3) if signs[i] < 0)
                tables.append(np.flip(places.transpose(order), axes).ravel())
    return torch.from_numpy(np.array(tables))


class Ball(nn.Module):
    """The same kernels, each averaged over the rotations of the cube, and a mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv3d(1, 12, 3), nn.Conv3d(12, 12, 3), nn.Conv3d(12, 12, 3)]
        )
        self.head = nn.Linear(12, 2)
        self.rotations = cube_rotations()

    def forward(self, scan: Tensor) -> Tensor:
        for conv in self.convs:
            kernels = conv.weight.flatten(2)[..., self.rotations].mean(2)
            kernels = kernels.unflatten(2, (3, 3, 3))
            scan = torch.relu(nn.functional.conv3d(scan, kernels, conv.bias))
        return self.head(scan.mean((2, 3, 4)))


def read(raw: bytes) -> np.ndarray:
    """Voxels in [0, 1], as the axes (D, H, W): up, forward, right."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(raw))
    return np.asarray(image.dataobj, np.float32).T / 255


def cubes(scan: np.ndarray, grey: np.ndarray, white: np.ndarray, half: slice, n: int) -> tuple:
    """Draw cubes (n, 1, 13, 13, 13) from some slices, and what their middle is (1: white)."""
    rng = np.random.default_rng(half.start)
    r = SIDE // 2
    found = []
    for kind, sure in enumerate([grey, white]):
        corner = np.array([half.start, r, r])
        places = np.argwhere(sure[half, r:-r, r:-r] > 0.8) + corner
        for d, h, w in rng.permutation(places)[: n // 2]:
            cube = scan[d - r : d + r + 1, h - r : h + r + 1, w - r : w + r + 1].copy()
            middle = slice(r - HOLE // 2, r + HOLE // 2 + 1)
            cube[middle, middle, middle] = 0
            found.append((cube[None], kind))
    return np.stack([f[0] for f in found]), np.array([f[1] for f in found])


def rolled(scan: Tensor, kind: Tensor) -> list[Tensor]:
    """Turn a batch by one of the 24 rotations of the cube."""
    axes, quarters = [(2, 3), (2, 4), (3, 4)], torch.randint(4, (3,))
    for plane, k in zip(axes, quarters, strict=True):
        scan = torch.rot90(scan, int(k), plane)
    return [scan, kind]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = members("nilearn==0.14.1", *(DATA.format(kind) for kind in ("t1", "gm", "wm")))
    scan, grey, white = map(read, parts)
    x, y = cubes(scan, grey, white, slice(20, 90), 3000)
    test, test_y = cubes(scan, grey, white, slice(110, 150), 200)
    jobs = {"plain": (Volume, None), "rolled": (Volume, rolled), "ball": (Ball, None)}
    for name, (make, change) in jobs.items():
        net = fit(make, [x], y, change, steps=300)
        export(net, folder / f"{name}.onnx", {"scan": test})
        print(f"{name:7} {right(net, [test], test_y)} on cubes from another part of the brain")
    for i, (cube, kind) in enumerate(zip(test, test_y, strict=True)):
        file = folder / "scans" / ("grey", "white")[kind] / f"{i:03}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(cube[0].T, np.eye(4)), file)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
