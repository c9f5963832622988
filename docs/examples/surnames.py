# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Surnames of seven letters as token ids: three networks, and the names.

    python docs/examples/surnames.py surnames

Is a name Finnish, German, Italian, Spanish or Swedish? The lists lie in the package Faker (MIT), in
the source of its providers.
"""

from __future__ import annotations

import ast
import sys
import unicodedata
from pathlib import Path

import numpy as np
import torch
from making import export, fit, members, right
from torch import Tensor, nn

LANGUAGES = ["fi_FI", "de_DE", "it_IT", "es_ES", "sv_SE"]
DATA = "faker/providers/person/{}/__init__.py"
LONG = 7  # letters


class Letters(nn.Module):
    """Which letters there are: the mean of their embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(26, 32)
        self.latent = nn.Sequential(nn.Linear(32, 64), nn.ReLU())
        self.head = nn.Linear(64, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.latent(self.embed(ids).mean(1)))


class Triples(Letters):
    """Which letters stand side by side: a convolution over three."""

    def __init__(self) -> None:
        super().__init__()
        self.triples = nn.Conv1d(32, 32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        maps = torch.relu(self.triples(self.embed(ids).transpose(1, 2)))
        return self.head(self.latent(maps.amax(2)))


class Places(Letters):
    """Which letter stands where."""

    def __init__(self) -> None:
        super().__init__()
        self.latent = nn.Sequential(nn.Linear(32 * LONG, 64), nn.ReLU())

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.latent(self.embed(ids).flatten(1)))


def read(source: bytes) -> list[str]:
    """Surnames of seven letters, accents taken off."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "last_names":
            names = (c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant))
            for name in filter(lambda n: isinstance(n, str), names):
                plain = unicodedata.normalize("NFKD", name.lower())
                plain = "".join(c for c in plain if not unicodedata.combining(c))
                if len(plain) == LONG and plain.isascii() and plain.isalpha():
                    found.add(plain)
    return sorted(found)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lists = members("Faker==40.63.0", *(DATA.format(name) for name in LANGUAGES))
    names = [(name, k) for k, source in enumerate(lists) for name in read(source)]
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    ids = np.array([[ord(c) - ord("a") for c in name] for name, _ in names])
    language = np.array([k for _, k in names])
    test = len(names) // 4
    for name, make in {"letters": Letters, "triples": Triples, "places": Places}.items():
        net = fit(make, [ids[test:]], language[test:], steps=500)
        export(net, folder / f"{name}.onnx", {"ids": ids[:5]})
        print(f"{name:8} {right(net, [ids[:test]], language[:test])} of {test} names")
    np.savez(folder / "surnames.npz", ids=ids[:test], y=language[:test])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
