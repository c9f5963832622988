"""Batches for the parity check: random ones, and real samples as `onnx-geed measure` feeds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __package__:
    from ._options import Problem, reason_of
else:
    from _options import Problem, reason_of

BATCHES = (2, 5)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def random_batches(
    shape: tuple[int, ...], layout: str, preprocess: dict[str, Any] | None, seed: int
) -> list[Any]:
    """Return noise in two batch sizes, of pixels where images are fed.

    Else one is normal and one in [0, 1]: where one of them saturates the model, the other may not.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    if preprocess is None:
        first, second = BATCHES
        return [
            rng.standard_normal((first, *shape)).astype(np.float32),
            rng.random((second, *shape), dtype=np.float32),
        ]
    pixels = [rng.random((n, *shape), dtype=np.float32) for n in BATCHES]
    return [finished(p, layout, preprocess) for p in pixels]


def finished(x: Any, layout: str, preprocess: dict[str, Any] | None) -> Any:
    """Apply what comes after the action: channel order, scale, mean and std."""
    import numpy as np

    preprocess = preprocess or {}
    axis = {"NCHW": 1, "NHWC": 3}.get(layout)
    if preprocess.get("channels") == "BGR" and axis is not None:
        x = np.flip(x, axis)
    x = x * np.float32(preprocess.get("scale", 1.0))
    for key, operation in (("mean", np.subtract), ("std", np.divide)):
        if values := preprocess.get(key):
            count = x.shape[axis] if axis is not None else 1
            if len(values) not in (1, count):
                raise Problem(
                    f"preprocess {key}: {len(values)} values for {count} channels: one, or one each"
                )
            form = [1] * x.ndim
            if axis is not None:
                form[axis] = len(values)
            x = operation(x, np.array(values, np.float32).reshape(form))
    return np.ascontiguousarray(x, np.float32)


def real_batches(
    source: str, shape: tuple[int, ...], layout: str, preprocess: dict[str, Any] | None
) -> list[Any]:
    """Return the first real samples in two batch sizes."""
    import numpy as np

    path, most = Path(source), max(BATCHES)
    if path.is_dir():
        rows = _images(path, shape, layout, preprocess or {}, most)
    else:
        rows = _array(path, most)
        if rows.dtype == np.uint8:
            rows = rows / np.float32(255)
        if not np.issubdtype(rows.dtype, np.floating):
            raise Problem(f"--data {source}: holds {rows.dtype}; give uint8 or float")
        if rows.shape[1:] != shape and rows[..., None].shape[1:] == shape:
            rows = rows[..., None]
        if rows.shape[1:] != shape and rows[:, None].shape[1:] == shape:
            rows = rows[:, None]
    if rows.shape[1:] != shape:
        raise Problem(f"--data {source}: samples are {rows.shape[1:]}, the model takes {shape}")
    rows = finished(rows.astype(np.float32), layout, preprocess)
    return [rows[:2], rows]


def _array(path: Path, most: int) -> Any:
    import numpy as np

    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Problem(f"--data {path}: no such file or folder") from None
    except (OSError, ValueError, EOFError) as error:
        raise Problem(f"--data {path}: not a .npy, .npz or folder ({reason_of(error)})") from None
    if not isinstance(content, np.ndarray):
        keys = content.files
        key = (
            keys[0]
            if len(keys) == 1
            else next((k for k in ("x", "images", "data") if k in keys), None)
        )
        if key is None:
            raise Problem(f"--data {path}: holds {', '.join(keys)}; call the samples 'x'")
        content = content[key]
    if content.ndim < 2 or len(content) < 2:
        raise Problem(f"--data {path}: shape {content.shape}; at least two samples are needed")
    return np.array(content[:most])


def _images(
    folder: Path, shape: tuple[int, ...], layout: str, preprocess: dict[str, Any], most: int
) -> Any:
    import numpy as np

    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise Problem(
            f"--data {folder}: images need pillow: {sys.executable} -m pip install pillow"
        ) from None
    if layout not in ("NCHW", "NHWC"):
        raise Problem(f"--data {folder}: the model takes {shape}, not images; give a .npy")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)[:most]
    if len(paths) < 2:
        raise Problem(f"--data {folder}: holds {len(paths)} images; at least two are needed")
    height, width = shape[1:] if layout == "NCHW" else shape[:2]
    channels = shape[0] if layout == "NCHW" else shape[2]
    rows = []
    for path in paths:
        try:
            image = ImageOps.exif_transpose(Image.open(path))
        except OSError as error:
            raise Problem(f"--data {path}: cannot be read ({reason_of(error)})") from None
        # How exactly images are resized does not matter here: both sides are fed the same.
        image = image.convert("L" if channels == 1 else "RGB")
        crop = ImageOps.fit(image, (width, height))
        pixels = np.asarray(crop, np.float32) / 255
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        rows.append(pixels.transpose(2, 0, 1) if layout == "NCHW" else pixels)
    return np.stack(rows)
