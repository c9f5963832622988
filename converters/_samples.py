"""Batches for the parity check: random ones, and real samples as `onnx-geed measure` feeds them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__:
    from ._inputs import Input
    from ._options import Problem, reason_of
else:
    from _inputs import Input
    from _options import Problem, reason_of

BATCHES = (2, 5)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
# A clip that noise does not reach leaves what it reads as it is, and a ReLU behind positive values
# too; so much louder noise of both signs tells the tensors apart.
_LOUD = 30


def random_batches(
    inputs: Sequence[Input], preprocess: dict[str, Any] | None, seed: int
) -> list[tuple[Any, ...]]:
    """Return noise for every input in two batch sizes, of pixels where images are fed.

    Else one is normal and one in [0, 1]: where one of them saturates the model, the other may not.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    first, second = BATCHES
    batches = [
        tuple(_noise(rng, one, first, normal=preprocess is None) for one in inputs),
        tuple(_noise(rng, one, second, normal=False) for one in inputs),
    ]
    return [preprocessed(batch, inputs, preprocess) for batch in batches]


def _noise(rng: Any, one: Input, samples: int, *, normal: bool) -> Any:
    import numpy as np

    shape = (samples, *one.shape)
    if one.dtype == "bool":
        return rng.random(shape) < 0.75
    if not one.is_float:
        return rng.integers(0, one.below, shape).astype(one.dtype)
    if one.pairs:
        # Symmetric and positive, for models take roots of degrees.
        weights = rng.random(shape, dtype=np.float32)
        return (weights + weights.swapaxes(*one.pairs)) / 2
    if normal:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.random(shape, dtype=np.float32)


def loud(batch: tuple[Any, ...], inputs: Sequence[Input]) -> tuple[Any, ...]:
    """Return a batch three times, louder and of the other sign where an input can be that."""
    import numpy as np

    factors = [(1, _LOUD, -_LOUD) if i.is_float and not i.pairs else (1, 1, 1) for i in inputs]
    return tuple(
        np.concatenate([x if f == 1 else f * x for f in three])
        for x, three in zip(batch, factors, strict=True)
    )


def preprocessed(
    batch: tuple[Any, ...], inputs: Sequence[Input], preprocess: dict[str, Any] | None
) -> tuple[Any, ...]:
    """Apply preprocessing to the first input, the acted-on one."""
    main = inputs[0]
    if preprocess is None or not main.is_float:
        return batch
    return (finished(batch[0], main.layout, preprocess), *batch[1:])


def finished(x: Any, layout: str, preprocess: dict[str, Any] | None) -> Any:
    """Apply what comes after the action: channel order, scale, mean and std."""
    import numpy as np

    preprocess = preprocess or {}
    axis = layout.index("C") if "C" in layout else None
    if preprocess.get("channels") == "BGR" and axis is not None:
        x = np.flip(x, axis)
    x = x * np.float32(preprocess.get("scale", 1.0))
    for key, operation in (("mean", np.subtract), ("std", np.divide)):
        if values := preprocess.get(key):
            if axis is None and len(values) > 1:
                raise Problem(
                    f"preprocess {key}: {len(values)} values, but which axis of {x.shape[1:]} has the "
                    "channels is not known; state it with --input-layout, such as NCHW"
                )
            count = x.shape[axis] if axis is not None else 1
            if len(values) not in (1, count):
                raise Problem(
                    f"preprocess {key}: {len(values)} values for {count} channels; give one value, or one per channel"
                )
            form = [1] * x.ndim
            if axis is not None:
                form[axis] = len(values)
            x = operation(x, np.array(values, np.float32).reshape(form))
    return np.ascontiguousarray(x, np.float32)


def real_batches(
    source: str, inputs: Sequence[Input], preprocess: dict[str, Any] | None
) -> list[tuple[Any, ...]]:
    """Return the first real samples in two batch sizes."""
    path, most, main = Path(source), max(BATCHES), inputs[0]
    if path.is_dir() and len(inputs) == 1:
        rows = [_images(path, main.shape, main.layout, preprocess or {}, most)]
    else:
        rows = [_rows(a, one, path) for a, one in zip(_arrays(path, inputs), inputs, strict=True)]
    counts = {one.name: len(a) for a, one in zip(rows, inputs, strict=True)}
    if len({*counts.values()}) > 1:
        raise Problem(f"--data {source}: the arrays have different numbers of samples ({counts})")
    batch = preprocessed(tuple(rows), inputs, preprocess)
    return [tuple(a[:2] for a in batch), batch]


def _rows(rows: Any, one: Input, path: Path) -> Any:
    """Return samples of an input as the model takes them."""
    import numpy as np

    kind = np.floating if one.is_float else np.integer if one.dtype != "bool" else np.bool_
    if one.is_float and rows.dtype == np.uint8:
        rows = rows / np.float32(255)
    if not np.issubdtype(rows.dtype, kind):
        wanted = "uint8 or float" if one.is_float else one.dtype
        raise Problem(f"--data {path}: {one.name} has type {rows.dtype}; give {wanted}")
    if one.is_float and len(one.shape) == 3:
        if rows.shape[1:] != one.shape and rows[..., None].shape[1:] == one.shape:
            rows = rows[..., None]
        if rows.shape[1:] != one.shape and rows[:, None].shape[1:] == one.shape:
            rows = rows[:, None]
    if rows.shape[1:] != one.shape:
        raise Problem(
            f"--data {path}: samples have shape {rows.shape[1:]}, but the model takes {one.shape} as {one.name}"
        )
    return rows.astype(one.dtype)


def _arrays(path: Path, inputs: Sequence[Input]) -> list[Any]:
    """Return the first samples of each input."""
    import numpy as np

    most, names = max(BATCHES), [i.name for i in inputs]
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Problem(f"--data {path}: no such file or folder") from None
    except (OSError, ValueError, EOFError) as error:
        raise Problem(f"--data {path}: not a .npy, .npz or folder ({reason_of(error)})") from None
    if not isinstance(content, np.ndarray):
        keys = content.files
        if len(names) == 1:
            known = (*names, "x", "images", "data")
            names = keys if len(keys) == 1 else [k for k in known if k in keys][:1] or known[1:2]
        if lacking := [n for n in names if n not in keys]:
            raise Problem(
                f"--data {path}: the arrays are {', '.join(keys)}; call the samples {' and '.join(lacking)}"
            )
        arrays = [content[n] for n in names]
    elif len(names) == 1:
        arrays = [content]
    else:
        raise Problem(f"--data {path}: give a .npz with arrays called {' and '.join(names)}")
    for array in arrays:
        if array.ndim < 1 or len(array) < 2:
            raise Problem(
                f"--data {path}: has shape {array.shape}; at least two samples are needed"
            )
    return [np.array(array[:most]) for array in arrays]


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
        raise Problem(
            f"--data {folder}: the model takes inputs of shape {shape}, not images; give a .npy"
        )
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)[:most]
    if len(paths) < 2:
        raise Problem(
            f"--data {folder}: the folder has {len(paths)} images; at least two are needed"
        )
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
