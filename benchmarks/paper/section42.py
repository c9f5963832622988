"""Section 4.2: the data that the networks of section 4.1 have not seen.

Choices: 29x29 and grey like the digits, in [0, 1], ink white; other data sets upright as they are
published; of each corruption one strength, in the middle of ImageNet-C's five as far as images of
this size allow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from checkpoints import save_arrays
from digits import SIZE, read_idx
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

F32 = NDArray[np.float32]
COUNT = 1000


def noise(x: F32, rng: np.random.Generator) -> F32:
    return x + rng.normal(0, 0.2, x.shape)


def impulse(x: F32, rng: np.random.Generator) -> F32:
    hit = rng.random(x.shape)
    return np.where(hit < 0.05, 0.0, np.where(hit > 0.95, 1.0, x))


def blur(x: F32, rng: np.random.Generator) -> F32:
    return ndimage.gaussian_filter(x, (0, 0, 1.2, 1.2))


def motion(x: F32, rng: np.random.Generator) -> F32:
    """Blur along the horizontal, whatever the digit's own angle."""
    return ndimage.uniform_filter1d(x, 7, axis=3, mode="constant")


def contrast(x: F32, rng: np.random.Generator) -> F32:
    mean = x.mean((1, 2, 3), keepdims=True)
    return (x - mean) * 0.3 + mean


def pixelate(x: F32, rng: np.random.Generator) -> F32:
    """Means over 2x2 pixels, by way of 30x30."""
    even = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
    coarse = even.reshape(len(x), 1, 15, 2, 15, 2).mean((3, 5))
    return coarse.repeat(2, axis=2).repeat(2, axis=3)[:, :, :SIZE, :SIZE]


CORRUPTIONS = {
    "noise": noise,
    "impulse": impulse,
    "blur": blur,
    "motion": motion,
    "contrast": contrast,
    "pixelate": pixelate,
}


def resized(images: NDArray[np.uint8]) -> F32:
    """Grey images of any size as (N, 1, 29, 29) in [0, 1], shrunk with smoothing."""
    size = (SIZE, SIZE)
    small = [Image.fromarray(i).resize(size, Image.Resampling.BILINEAR) for i in images]
    return np.stack([np.asarray(i, np.float32) for i in small])[:, None] / 255


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luminance of colour images, by the weights of ITU-R 601."""
    return np.stack([np.asarray(Image.fromarray(i).convert("L")) for i in images])


def cifar(where: Path) -> NDArray[np.uint8]:
    """Test images: of an .npz with ``images``, or of the official binary version."""
    if where.suffix == ".npz":
        with np.load(where) as file:
            return file["images"]
    raw = np.fromfile(where / "test_batch.bin", np.uint8).reshape(-1, 3073)[:, 1:]
    return raw.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def omniglot(where: Path) -> NDArray[np.uint8]:
    """Characters, ink 255: of an .npz with ``images``, or of the official folder of PNG files."""
    if where.suffix == ".npz":
        with np.load(where) as file:
            return file["images"]
    paths = sorted(where.rglob("*.png"))
    if not paths:
        raise SystemExit(f"{where}: holds no PNG files")
    # The official files have black ink on white.
    return 255 - np.stack([np.asarray(Image.open(p).convert("L")) for p in paths])


def data(work: Path, fashion: str | None, omni: str | None, cifar10: str | None) -> list[str]:
    """Write what is not yet written, beside the digits of section 4.1; say what is missing."""
    folder, missing = work / "data", []
    with np.load(folder / "digits.npz") as file:
        upright = file["images"][:COUNT]
    for name, corrupt in CORRUPTIONS.items():
        if not (out := folder / f"digits-{name}.npz").is_file():
            changed = corrupt(upright.astype(np.float64), np.random.default_rng(0))
            save_arrays(out, {"images": np.clip(changed, 0, 1).astype(np.float32)})
    readers = {
        "fashion": (fashion, lambda p: read_idx(p, "t10k-images")),
        "omniglot": (omni, omniglot),
        "cifar10": (cifar10, lambda p: grey(cifar(p))),
    }
    for name, (where, read) in readers.items():
        out = folder / f"{name}.npz"
        if out.is_file():
            continue
        if where is None or not Path(where).exists():
            missing.append(f"{name}: nothing at {where}; give --{name}")
            continue
        images = read(Path(where))
        rows = np.random.default_rng(0).permutation(len(images))[:COUNT]
        save_arrays(out, {"images": resized(images[rows])})
    return missing
