"""Section 4.3: networks from pretrained weights and from scratch, on chips of aerial scenes.

The paper's four architectures take their weights from files (torchvision's, timm's); EfficientNet-
Lite0's are in a package. Choices: Adam, 3e-4 falling to 0, batches of 16, no augmentation but a
shift by up to a sixteenth of the side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chips
import numpy as np
import torch
from checkpoints import CONVERTERS, save_arrays, train
from torch import Tensor, nn
from torch.nn import functional

EVERY, BATCH, RATE = 200, 16, 3e-4
ITERATIONS = {"paper": 10000, "small": 600}
SEEDS = {"paper": 5, "small": 3}
SIZES = {"paper": 224, "small": 96}

#: How from_torch.py is told of them, and the module that classifies.
NETWORKS = {
    "resnet50": ("torchvision:resnet50", "fc"),
    "alexnet": ("torchvision:alexnet", "classifier.6"),
    "densenet121": ("torchvision:densenet121", "classifier"),
    "levit192": ("timm:levit_192", None),
    "lite0": ("section43:lite0", "_fc"),
}


def lite0() -> nn.Module:
    """Return EfficientNet-Lite0, of the package efficientnet-lite-pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def make(network: str, classes: int, weights: Path | None, seed: int) -> nn.Module:
    """Return a network for so many classes; all but its classifier from a file, if one is given."""
    sys.path.insert(0, str(CONVERTERS))
    import _torch_modules
    import from_torch

    model, head = NETWORKS[network]
    arguments = [model, "-o", "unused.onnx"]
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


def scaled(network: str, images: Tensor) -> Tensor:
    """Return bytes as the network is fed them."""
    mean, std = normal(network)
    x = images.float() / 255
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def normal(network: str) -> tuple[list[float], list[float]]:
    if network == "lite0":  # (x - 127) / 128 of bytes
        return [127 / 255] * 3, [128 / 255] * 3
    return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


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
    weights: dict[str, Path],
    networks: tuple[str, ...],
    *,
    seeds: list[int] | None = None,
) -> None:
    """Train what is not yet trained."""
    torch.set_num_threads(1)
    images, labels = parts["train"]
    held, held_labels = parts["test"]
    size = images.shape[-1]
    for seed in range(SEEDS[scale]) if seeds is None else seeds:
        for network in networks:
            for start in ("pretrained", "scratch"):
                if start == "pretrained" and network not in weights:
                    print(f"{network}: no --weights {network}=FILE, from scratch only", flush=True)
                    continue
                weights_file = weights[network] if start == "pretrained" else None
                net = make(network, len(parts["classes"]), weights_file, seed)
                mean, std = normal(network)
                words = f"mean={','.join(map(str, mean))} std={','.join(map(str, std))}"
                head = NETWORKS[network][1]

                def step(
                    _: int,
                    generator: torch.Generator,
                    net: nn.Module = net,
                    feed: Callable[[Tensor], Tensor] = lambda x, n=network: scaled(n, x),
                ) -> Tensor:
                    rows = torch.randint(len(images), (BATCH,), generator=generator)
                    x = feed(shifted(images[rows], generator))
                    return functional.cross_entropy(net(x), labels[rows])

                def note(net: nn.Module, _: int, network: str = network) -> dict[str, float]:
                    net.eval()
                    with torch.no_grad():
                        right = sum(
                            int((net(scaled(network, x)).argmax(1) == y).sum())
                            for x, y in zip(held.split(50), held_labels.split(50), strict=True)
                        )
                    return {"accuracy": right / len(held_labels)}

                train(
                    work / "4.3" / network / start,
                    f"run{seed}",
                    net,
                    step,
                    iterations=ITERATIONS[scale],
                    every=EVERY,
                    rate=RATE,
                    seed=seed,
                    shape=(3, size, size),
                    options=(
                        *(("--latent", f"{head}:in") if head else ()),
                        *("--preprocess", words),
                    ),
                    note=note,
                )
