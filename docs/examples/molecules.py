# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Molecules, as points and as graphs: networks, their twins, and data.

    python docs/examples/molecules.py molecules

The G2/97 set, small molecules with coordinates in Å; what is learnt is the zero-point energy
(kcal/mol). It lies in the package ase (LGPL-2.1 or later), as a list of numbers in its source.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import numpy as np
import torch
from making import export, fit, members, outputs
from torch import Tensor, nn

ELEMENTS = ["H", "C", "N", "O", "F", "S", "Cl"]
RADII = {"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "S": 1.05, "Cl": 1.02}  # Å
MOST = 14  # atoms
SCALE = 50.0  # kcal/mol


class Distances(nn.Module):
    """Atoms see each other by elements and distance: built in."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(2 * 7 + 8, 32), nn.ReLU(), nn.Linear(32, 32))
        self.atom = nn.Sequential(nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)
        self.register_buffer("centres", torch.linspace(0.5, 4, 8))

    def forward(self, pos: Tensor, atoms: Tensor) -> Tensor:
        real = atoms.sum(2)
        gaps = pos[:, :, None] - pos[:, None]
        distances = ((gaps * gaps).sum(3, keepdim=True) + 1e-6).sqrt()
        shells = torch.exp(-4 * (distances - self.centres) ** 2)
        n = pos.shape[1]
        one = atoms[:, :, None].expand(-1, -1, n, -1)
        other = atoms[:, None].expand(-1, n, -1, -1)
        seen = self.pair(torch.cat([one, other, shells], 3)) * real[:, None, :, None]
        return self.head((self.atom(seen.sum(2)) * real[:, :, None]).sum(1))


class Coordinates(nn.Module):
    """A PointNet: each atom by its element and its raw x, y, z."""

    def __init__(self) -> None:
        super().__init__()
        self.atom = nn.Sequential(
            nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()
        )
        self.head = nn.Linear(32, 1)

    def forward(self, pos: Tensor, atoms: Tensor) -> Tensor:
        features = self.atom(torch.cat([pos, atoms], 2)) * atoms.sum(2, keepdim=True)
        return self.head(features.sum(1))


class Convolutions(nn.Module):
    """A graph network: what an atom knows, plus the sum of what its neighbours know."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, atoms: Tensor, bonds: Tensor) -> Tensor:
        real = atoms.sum(2, keepdim=True)
        nodes = torch.relu(self.first(atoms + bonds @ atoms)) * real
        nodes = torch.relu(self.second(nodes + bonds @ nodes)) * real
        return self.head(nodes.sum(1))


class Flat(nn.Module):
    """The same tables, read as one long vector."""

    def __init__(self) -> None:
        super().__init__()
        wide = MOST * 7 + MOST * MOST
        self.dense = nn.Sequential(nn.Linear(wide, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, atoms: Tensor, bonds: Tensor) -> Tensor:
        return self.head(self.dense(torch.cat([atoms.flatten(1), bonds.flatten(1)], 1)))


def read(source: bytes) -> list[tuple[list[str], np.ndarray, float]]:
    """Elements, positions and zero-point energy of the molecules of our seven elements."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "data":
            for entry in ast.literal_eval(node.value).values():
                symbols = re.findall("[A-Z][a-z]?", entry["symbols"])
                if len(symbols) > 1 and set(symbols) <= set(ELEMENTS):
                    found.append((symbols, np.array(entry["positions"]), entry["ZPE"]))
    return found


def tables(molecules: list) -> dict[str, np.ndarray]:
    """Padded arrays: ``pos`` (N, P, 3), ``atoms`` (N, P, 7) one-hot, ``bonds`` (N, P, P)."""
    n = len(molecules)
    pos, atoms = np.zeros((n, MOST, 3), np.float32), np.zeros((n, MOST, 7), np.float32)
    bonds = np.zeros((n, MOST, MOST), np.float32)
    for i, (symbols, positions, _) in enumerate(molecules):
        k = len(symbols)
        pos[i, :k] = positions - positions.mean(0)
        atoms[i, np.arange(k), [ELEMENTS.index(s) for s in symbols]] = 1
        reach = np.array([RADII[s] for s in symbols])
        near = np.linalg.norm(positions[:, None] - positions, axis=2) < 1.25 * np.add.outer(
            reach, reach
        )
        bonds[i, :k, :k] = near & ~np.eye(k, dtype=bool)
    return {"pos": pos, "atoms": atoms, "bonds": bonds}


def turned(pos: Tensor, atoms: Tensor, energy: Tensor) -> list[Tensor]:
    """Turn each molecule at random."""
    turns, _ = torch.linalg.qr(torch.randn(len(pos), 3, 3))
    return [pos @ turns, atoms, energy]


def renumbered(atoms: Tensor, bonds: Tensor, energy: Tensor) -> list[Tensor]:
    """Number the atoms in another order."""
    order = torch.randperm(MOST)
    return [atoms[:, order], bonds[:, order][:, :, order], energy]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = members("ase==3.29.0", "ase/data/g2_1.py", "ase/data/g2_2.py")
    molecules = [m for part in parts for m in read(part)]
    order = np.random.default_rng(0).permutation(len(molecules))
    molecules = [molecules[i] for i in order]
    arrays = tables(molecules)
    energy = np.array([[m[2] / SCALE] for m in molecules], np.float32)
    test = len(molecules) // 3
    points, graph = ("pos", "atoms"), ("atoms", "bonds")
    jobs = {
        "coordinates": (Coordinates, points, None),
        "turned": (Coordinates, points, turned),
        "distances": (Distances, points, None),
        "flat": (Flat, graph, None),
        "renumbered": (Flat, graph, renumbered),
        "convolutions": (Convolutions, graph, None),
    }
    for name, (make, names, change) in jobs.items():
        inputs = [arrays[k] for k in names]
        net = fit(make, [x[test:] for x in inputs], energy[test:], change, steps=1500)
        miss = np.abs(outputs(net, [x[:test] for x in inputs]) - energy[:test]).mean() * SCALE
        export(net, folder / f"{name}.onnx", {k: arrays[k] for k in names})
        print(
            f"{name:12} off by {miss:.1f} kcal/mol on average, on {test} molecules not trained on"
        )
    np.savez(folder / "molecules.npz", **{k: v[:test] for k, v in arrays.items()})
    np.save(folder / "sizes.npy", np.array([len(m[0]) for m in molecules[:test]]))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
