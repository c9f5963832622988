# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Orchids by pieces of their DNA: a network and its twins, and reads in FASTA.

    python docs/examples/orchids.py orchids

94 records of ribosomal DNA of lady slipper orchids, of which the three large genera are told
apart by pieces of 200 bases. From the source distribution of biopython (its own licence, BSD-like).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import torch
from making import export, fit, members, right
from torch import Tensor, nn

GENERA = ["Cypripedium", "Paphiopedilum", "Phragmipedium"]
LONG = 200  # bases


class Strand(nn.Module):
    """Two convolutions along one strand, and the strongest answer over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 32, 9, padding=4)
        self.second = nn.Conv1d(32, 32, 9, padding=4)
        self.head = nn.Linear(32, 3)

    def forward(self, reads: Tensor) -> Tensor:
        maps = torch.relu(self.first(reads.transpose(1, 2)))
        return self.head(torch.relu(self.second(maps)).amax(2))


class BothStrands(Strand):
    """The same, tied: each kernel is held against both strands, and the better match counts.

    Reading a kernel from the other strand turns it round and swaps A with T and C with G, which
    in the order A, C, G, T turns the bases round as well.
    """

    def forward(self, reads: Tensor) -> Tensor:
        maps = reads.transpose(1, 2)
        first, second = self.first, self.second
        maps = torch.relu(torch.maximum(
            nn.functional.conv1d(maps, first.weight, first.bias, padding=4),
            nn.functional.conv1d(maps, first.weight.flip(1, 2), first.bias, padding=4),
        ))  # fmt: skip
        maps = torch.relu(torch.maximum(
            nn.functional.conv1d(maps, second.weight, second.bias, padding=4),
            nn.functional.conv1d(maps, second.weight.flip(2), second.bias, padding=4),
        ))  # fmt: skip
        return self.head(maps.amax(2))


def read(genbank: str) -> list[tuple[str, str]]:
    """Genus and bases of each record."""
    records = genbank.split("\n//\n")[:-1]
    genera = [re.search(r"ORGANISM +(\w+)", r)[1] for r in records]
    bases = ["".join(re.findall("[a-z]+", r.split("ORIGIN")[1])) for r in records]
    return [(g, b) for g, b in zip(genera, bases, strict=True) if g in GENERA]


def pieces(records: list, each: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Pieces of records, all from the strand as it is stored, and their genera."""
    rng = np.random.default_rng(seed)
    cut = [
        (bases[start : start + LONG], GENERA.index(genus))
        for genus, bases in records
        for start in rng.integers(0, len(bases) - LONG, each)
    ]
    return [c[0] for c in cut], np.array([c[1] for c in cut])


def one_hot(reads: list[str]) -> np.ndarray:
    """(N, T, 4), bases in the order A, C, G, T; zeros for any other letter."""
    letters = np.array([list(r) for r in reads])
    return (letters[:, :, None] == np.array(list("acgt"))).astype(np.float32)


def either_strand(reads: Tensor, genus: Tensor) -> list[Tensor]:
    """Read half of the pieces from the other strand."""
    other = torch.rand(len(reads), 1, 1) < 0.5
    return [torch.where(other, reads.flip(1, 2), reads), genus]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (genbank,) = members("biopython==1.88", "Doc/examples/ls_orchid.gbk", source=True)
    records = read(genbank.decode())
    order = np.random.default_rng(0).permutation(len(records))
    records = [records[i] for i in order]
    reads, genus = pieces(records[30:], 40, seed=1)
    test_reads, test_genus = pieces(records[:30], 5, seed=2)
    x, test = one_hot(reads), one_hot(test_reads)
    jobs = {
        "strand": (Strand, None),
        "either": (Strand, either_strand),
        "tied": (BothStrands, None),
    }
    for name, (make, change) in jobs.items():
        net = fit(make, [x], genus, change, steps=500)
        export(net, folder / f"{name}.onnx", {"reads": test})
        turned = np.ascontiguousarray(test[:, ::-1, ::-1])
        print(
            f"{name:7} {right(net, [test], test_genus)}; "
            f"read from the other strand, {right(net, [turned], test_genus)}"
        )
    (folder / "reads.fasta").write_text(
        "".join(
            f">{GENERA[g]}-{i}\n{r}\n"
            for i, (g, r) in enumerate(zip(test_genus, test_reads, strict=True))
        )
    )
    np.save(folder / "genus.npy", test_genus)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
