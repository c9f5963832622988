"""Section 4.3: networks from pretrained weights and from scratch, on chips of aerial scenes.

The paper's four architectures take their weights from files (torchvision's, timm's); those of
`packaged.py` from packages. Choices: Adam, 3e-4 falling to 0, batches of 16, no augmentation but a
shift by up to a sixteenth of the side; the ResNet-18, which begins without a stride, sees 32x32
pixels of 0.2 m (its weights are of 0.15 m), for at 96x96 an iteration takes ten times as long.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import chips
import numpy as np
import torch
from checkpoints import CONVERTERS, save_arrays, train
from torch import Tensor, nn
from torch.nn import functional

EVERY, BATCH, RATE = 200, 16, 3e-4
ITERATIONS = {"paper": 10000, "small": 800}
SEEDS = {"paper": 5, "small": 5}
SIZES = {"paper": 224, "small": 96}


@dataclasses.dataclass(frozen=True)
class Network:
    """How from_torch.py is told of a network, the module that classifies, and what it is fed."""

    model: str
    head: str | None
    #: Of pixels in [0, 1].
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    #: Red last, as Caffe has it.
    bgr: bool = False
    #: Height and width, where these are not a chip's.
    size: int | None = None

    def words(self) -> str:
        """Return the preprocessing as the converters are told of it."""
        numbers = (",".join(map(str, value)) for value in (self.mean, self.std))
        text = "mean={} std={}".format(*numbers)
        text += " channels=BGR" if self.bgr else ""
        return text + (f" resize={self.size}" if self.size else "")

    def fed(self, images: Tensor) -> Tensor:
        """Return bytes as the network is fed them."""
        x = images.float()
        if self.size:
            x = functional.interpolate(
                x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        x = x.flip(1) if self.bgr else x
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x / 255 - mean) / std


#: By scale and name.
NETWORKS = {
    "paper": {
        "resnet50": Network("torchvision:resnet50", "fc"),
        "alexnet": Network("torchvision:alexnet", "classifier.6"),
        "densenet121": Network("torchvision:densenet121", "classifier"),
        "levit192": Network("timm:levit_192", None),
    },
    "small": {
        # (x - 127) / 128 of bytes
        "lite0": Network("packaged:lite0", "_fc", (127 / 255,) * 3, (128 / 255,) * 3),
        # Bytes less ImageNet's mean, as Caffe's networks have it.
        "squeezenet": Network(
            *("packaged:SqueezeNet", "conv10"),
            *((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3),
            bgr=True,
        ),
        "resnet18": Network("packaged:ResNet18", "fc", (0.5,) * 3, (0.5,) * 3, size=32),
    },
}


def make(network: Network, classes: int, weights: Path | None, seed: int) -> nn.Module:
    """Return a network for so many classes; all but its classifier from a file, if one is given."""
    sys.path.insert(0, str(CONVERTERS))
    import _torch_modules
    import from_torch

    head = network.head
    arguments = [network.model, "-o", "unused.onnx"]
    arguments += ["--checkpoint", str(weights)] if weights else []
    torch.manual_seed(seed)
    net, _ = _torch_modules.build(from_torch.arguments().parse_args(arguments))
    if head is None:
        net.reset_classifier(classes)
    else:
        parent, _, name = head.rpartition(".")
        old = net.get_submodule(head)
        setattr(net.get_submodule(parent), name, nn.Linear(old.in_features, classes))
    return net.train().requires_grad_(True)


def data(
    work: Path, scale: str, trees: Path | None, xview: tuple[Path, Path] | None
) -> dict[str, Any]:
    """Cut chips, or read those that are cut; uint8, (N, size, size, 3)."""
    size = SIZES[scale]
    training, test = work / "data" / "chips-train.npz", work / "data" / "chips-test.npz"
    if not test.is_file():
        parts: dict[bool, list[tuple[Any, int]]] = {True: [], False: []}
        if xview:
            if not (xview[0].is_file() and xview[1].is_dir()):
                raise SystemExit(
                    f"4.3: --xview {xview[0]} {xview[1]}: give xView_train.geojson and the folder "
                    "of its scenes"
                )
            cut = list(chips.xview(*xview, size))
            held = chips.split(sorted({name for name, _, _ in cut}), 0.2)
            for name, chip, kind in cut:
                parts[name in held].append((chip, kind))
            classes = [chips.MARITIME[k] for k in sorted(chips.MARITIME)]
        elif trees:
            rng = np.random.default_rng(0)
            scenes = sorted(trees.glob("*_YELL_*.png"))
            if not scenes:
                raise SystemExit(
                    f"4.3: --trees {trees}: holds no *_YELL_*.png, as deepforest's does"
                )
            for scene in scenes:
                for place, chip, kind in chips.trees(scene, size, rng):
                    # The right third is for testing; no window reaches across the gap.
                    if abs(place - 2 / 3) > 0.03:
                        parts[place > 2 / 3].append((chip, kind))
            classes = list(chips.TREES)
        else:
            raise SystemExit("4.3: give --xview GEOJSON IMAGES, or --trees for deepforest's data")
        for out, part in ((training, parts[False]), (test, parts[True])):
            images, labels = zip(*part, strict=True)
            arrays = {"images": np.stack(images), "labels": np.array(labels, np.uint8)}
            save_arrays(out, {**arrays, "classes": np.array(classes)})
    read = {}
    for name, path in (("train", training), ("test", test)):
        with np.load(path) as file:
            images = torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
            read[name] = (images, torch.from_numpy(file["labels"]).long())
            read["classes"] = file["classes"].tolist()
    if not (out := work / "data" / "chips.npz").is_file():
        save_arrays(out, {"images": read["test"][0].numpy(), "labels": read["test"][1].numpy()})
    return read


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by whole pixels, its edge repeated."""
    most = x.shape[-1] // 16
    wide = functional.pad(x.float(), (most,) * 4, mode="replicate").to(x.dtype)
    moves = torch.randint(2 * most + 1, (len(x), 2), generator=generator).tolist()
    n = x.shape[-1]
    return torch.stack([w[:, i : i + n, j : j + n] for w, (i, j) in zip(wide, moves, strict=True)])


def run(
    work: Path,
    scale: str,
    parts: dict[str, Any],
    weights: Mapping[str, Path],
    *,
    seeds: list[int] | None = None,
) -> None:
    """Train what is not yet trained."""
    import packaged

    networks = NETWORKS[scale]
    if others := [name for name in weights if name not in networks]:
        raise SystemExit(
            f"4.3: --weights {others[0]}=...: at --scale {scale} there are {', '.join(networks)}"
        )
    torch.set_num_threads(1)
    images, labels = parts["train"]
    held, held_labels = parts["test"]
    side = images.shape[-1]
    readable = {name: packaged.readable(name, path, work) for name, path in weights.items()}
    for seed in range(SEEDS[scale]) if seeds is None else seeds:
        for name, network in networks.items():
            for start in ("pretrained", "scratch"):
                if start == "pretrained" and name not in weights:
                    print(f"{name}: no --weights {name}=FILE, from scratch only", flush=True)
                    continue
                weights_file = readable[name] if start == "pretrained" else None
                net = make(network, len(parts["classes"]), weights_file, seed)

                def step(
                    _: int,
                    generator: torch.Generator,
                    net: nn.Module = net,
                    feed: Callable[[Tensor], Tensor] = network.fed,
                ) -> Tensor:
                    rows = torch.randint(len(images), (BATCH,), generator=generator)
                    x = feed(shifted(images[rows], generator))
                    return functional.cross_entropy(net(x), labels[rows])

                def note(
                    net: nn.Module, _: int, feed: Callable[[Tensor], Tensor] = network.fed
                ) -> dict[str, float]:
                    net.eval()
                    with torch.no_grad():
                        right = sum(
                            int((net(feed(x)).argmax(1) == y).sum())
                            for x, y in zip(held.split(50), held_labels.split(50), strict=True)
                        )
                    return {"accuracy": right / len(held_labels)}

                seen = network.size or side
                train(
                    work / "4.3" / name / start,
                    f"run{seed}",
                    net,
                    step,
                    iterations=ITERATIONS[scale],
                    every=EVERY,
                    rate=RATE,
                    seed=seed,
                    shape=(3, seen, seen),
                    options=(
                        *(("--latent", f"{network.head}:in") if network.head else ()),
                        *("--preprocess", network.words()),
                    ),
                    note=note,
                )
