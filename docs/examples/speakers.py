# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxscript", "pip", "torch>=2.5"]
# ///
"""Nine speakers by sets of sound frames: a network and its twin, and data.

    python docs/examples/speakers.py speakers

JapaneseVowels: /ae/ said 640 times, 7 to 29 frames of 12 numbers each, from the package aeon
(BSD-3-Clause). Read as a set, it does not matter in which order frames come.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from making import export, fit, members, right
from torch import Tensor, nn

DATA = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
MOST = 29  # frames


class DeepSets(nn.Module):
    """Each frame by itself, then the mean over those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 9)

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        there = real[:, :, None]
        return self.head((self.frame(frames) * there).sum(1) / there.sum(1))


class Flat(nn.Module):
    """All frames as one long vector."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(12 * MOST, 64), nn.ReLU())
        self.head = nn.Linear(64, 9)

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        return self.head(self.dense((frames * real[:, :, None]).flatten(1)))


def read(text: bytes) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames (length, 12) of each utterance, and speakers."""
    sets, speakers = [], []
    for line in text.decode().split("@data\n")[1].split():
        *series, speaker = line.split(":")
        sets.append(np.array([s.split(",") for s in series], np.float32).T)
        speakers.append(int(speaker) - 1)
    return sets, np.array(speakers)


def padded(sets: list[np.ndarray]) -> list[np.ndarray]:
    """``frames`` (N, 29, 12), and ``real`` (N, 29): 1 where there is a frame."""
    frames = np.zeros((len(sets), MOST, 12), np.float32)
    for row, one in zip(frames, sets, strict=True):
        row[: len(one)] = one
    lengths = np.array([len(one) for one in sets])
    return [frames, (np.arange(MOST) < lengths[:, None]).astype(np.float32)]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = members("aeon==1.6.0", DATA.format("TRAIN"), DATA.format("TEST"))
    (sets, y), (test_sets, test_y) = map(read, texts)
    inputs, test = padded(sets), padded(test_sets)
    for name, make in {"flat": Flat, "deepsets": DeepSets}.items():
        net = fit(make, inputs, y)
        export(net, folder / f"{name}.onnx", {"frames": test[0], "real": test[1]})
        print(f"{name:9} {right(net, test, test_y)} of {len(test_y)} test utterances")
    # As they come: one utterance behind the other, and how long each is.
    lengths = np.array([len(s) for s in test_sets])
    np.savez(
        folder / "speakers.npz", frames=np.concatenate(test_sets), frames_lengths=lengths, y=test_y
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
