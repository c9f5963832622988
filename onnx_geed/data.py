"""DATA in its many spellings: samples before the action, their names and labels, a fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import re
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest
from onnx_geed.preprocess import Preprocess, preprocess_to_json

__all__ = ["Samples", "open_samples"]

F32 = NDArray[np.float32]

_IMAGES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
_ARRAYS = ("x", "images", "data", "samples", "inputs")
_LABELS = ("y", "labels", "targets")
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as a group acts on them: decoded one by one when they are asked for.

    Parameters
    ----------
    source : str
        Where they come from.
    kind : {"array", "images"}
        What they come from.
    shape : tuple of int
        Of one sample, channels first.
    names : tuple of str or None
        Their names.
    labels : tuple or None
        Their labels.
    preprocess : Preprocess
        Preprocessing; what comes after the action is applied by :meth:`finish`.
    """

    source: str
    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    labels: tuple[int | str, ...] | None
    preprocess: Preprocess
    _count: int = field(repr=False)
    _read: Callable[[int], F32] = field(repr=False)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> F32:
        """Return a sample, channels first; images in [0, 1].

        Raises
        ------
        GeedError
            If it cannot be decoded, has another shape, or holds NaN or infinity.
        """
        sample = self._read(index)
        what = self.names[index] if self.names else f"sample {index}"
        if sample.shape != self.shape:
            raise GeedError(
                f"{self.source}: {what} is {_text(sample.shape)}, the first sample is "
                f"{_text(self.shape)}; bring them to one size with --preprocess 'resize=.. crop=..'"
            )
        if not np.isfinite(sample).all():
            raise GeedError(f"{self.source}: {what} holds NaN or infinity; leave it out or mend it")
        return sample

    def finish(self, x: F32) -> F32:
        """Apply scale, mean, std and channel order to samples (N, ...), channels first."""
        return self.preprocess.finish(x, 1 if len(self.shape) > 2 else None)

    def fingerprint(self, indices: Sequence[int]) -> str:
        """SHA-256 of the decoded samples that ``indices`` name, in order, and the preprocessing."""
        digest = hashlib.sha256(preprocess_to_json(self.preprocess).encode())
        for index in indices:
            sample = np.ascontiguousarray(self[index], dtype="<f4")
            digest.update(repr(sample.shape).encode())
            digest.update(sample.tobytes())
        return digest.hexdigest()


def open_samples(
    source: str | Path | NDArray[Any],
    *,
    input_shape: Sequence[int | None],
    input_layout: str,
    preprocess: Preprocess | None = None,
    labels: str | Path | Sequence[int | str] | None = None,
) -> Samples:
    """Open data in any of its spellings.

    Parameters
    ----------
    source : str, Path or ndarray
        An image folder; ``.npy``; ``.npz`` or ``file.npz:key``; ``file.h5:/dataset``; an idx file,
        plain or ``.gz``; ``module:function``; or an array. Arrays are in the model's own layout.
    input_shape : sequence of int or None
        The model's input without its batch axis.
    input_layout : {"NCHW", "NHWC", "NHW", "NCDHW"}
        Its layout.
    preprocess : Preprocess, optional
        Preprocessing.
    labels : str, Path or sequence, optional
        Labels, or a file of them.

    Returns
    -------
    Samples

    Raises
    ------
    GeedError
        If there is no such data, or they cannot be read.
        If they do not fit the model's input.
    """
    chosen = preprocess or Preprocess()
    if isinstance(source, np.ndarray):
        return _of_array(source, "array", None, input_shape, input_layout, chosen, labels)
    text = str(source)
    path = Path(text)
    if path.is_dir():
        return _of_images(path, input_shape, input_layout, chosen, labels)
    file, _, inner = text.rpartition(":")
    if not path.exists() and file and not re.fullmatch(r"[A-Za-z]", file):
        if Path(file).is_file():
            array, found = _inside(Path(file), inner)
            return _of_array(array, text, found, input_shape, input_layout, chosen, labels)
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
            array, found = _called(file, inner)
            return _of_array(array, text, found, input_shape, input_layout, chosen, labels)
    if not path.is_file():
        near = nearest(path.name, (p.name for p in path.parent.glob("*"))) if path.name else ""
        raise GeedError(f"--data {text}: no such file or folder.{near}")
    array, found = _inside(path, None)
    return _of_array(array, text, found, input_shape, input_layout, chosen, labels)


def _inside(path: Path, key: str | None) -> tuple[Any, Any]:
    """The array in a file, with labels beside it if there are any."""
    suffixes = [s.lower() for s in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in (".h5", ".hdf5", ".hdf"):
        return _hdf5(path, key)
    if last == ".npy" and key is None:
        return _npy(path), None
    if last == ".npz":
        return _npz(path, key)
    if key is None and (array := _idx(path)) is not None:
        return array, None
    if last in _IMAGES:
        raise GeedError(f"--data {path}: is one image; give the folder that holds it")
    raise GeedError(
        f"--data {path}: not a kind of file that is read here: an image folder, .npy, .npz, "
        "file.h5:/dataset, an idx file, or module:function"
    )


def _npy(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GeedError(f"--data {path}: {_reason(error)}") from None
    if not isinstance(loaded, np.ndarray):
        raise GeedError(f"--data {path}: holds several arrays; name it .npz")
    return loaded


def _npz(path: Path, key: str | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise GeedError(f"--data {path}: is a single array; name it .npy")
            names = list(archive.files)
            if key is None:
                fit = [n for n in _ARRAYS if n in names]
                rest = [n for n in names if n not in _LABELS]
                chosen = fit[0] if fit else rest[0] if len(rest) == 1 else None
            else:
                chosen = key if key in names else None
            if chosen is None:
                asked = f"no array {key!r}" if key else "several arrays"
                raise GeedError(
                    f"--data {path}: {asked}; it holds {', '.join(names)}: write {path}:NAME."
                    f"{nearest(key or '', names)}"
                )
            labels = next((archive[n] for n in _LABELS if n in names and n != chosen), None)
            return archive[chosen], labels
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise GeedError(f"--data {path}: {_reason(error)}") from None


def _hdf5(path: Path, key: str | None) -> tuple[Any, Any]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError:
        raise GeedError(f"--data {path}: not a readable HDF5 file") from None
    names: list[str] = []
    file.visititems(
        lambda n, item: names.append(f"/{n}") if isinstance(item, h5py.Dataset) else None
    )
    wanted = f"/{(key or '').strip('/')}"
    if not key:
        if len(names) != 1:
            raise GeedError(
                f"--data {path}: name a dataset, as in {path}:/x; it holds {', '.join(names) or 'none'}"
            )
        wanted = names[0]
    if wanted not in names:
        raise GeedError(
            f"--data {path}:{key}: no such dataset; the file holds {', '.join(names) or 'none'}."
            f"{nearest(wanted, names)}"
        )
    folder = wanted.rpartition("/")[0]
    beside = next((f"{folder}/{n}" for n in _LABELS if f"{folder}/{n}" in names), None)
    labels = file[beside][()] if beside and beside != wanted else None
    return file[wanted], labels


def _idx(path: Path) -> NDArray[Any] | None:
    """An idx file's array, or none if it is not one."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        content = gzip.decompress(path.read_bytes()) if packed else b""
        head = content[:4] if packed else path.open("rb").read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not head[3]:
            return None
        content = content or path.read_bytes()
        rank = head[3]
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        values = np.frombuffer(content, _IDX_TYPES[head[2]], offset=4 + 4 * rank)
        if values.size != int(np.prod(shape, dtype=np.int64)):
            raise GeedError(
                f"--data {path}: an idx file cut off: {_text(shape)} needs "
                f"{int(np.prod(shape, dtype=np.int64))} values, found {values.size}"
            )
        return values.reshape(shape).astype(values.dtype.newbyteorder("="), copy=False)
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise GeedError(f"--data {path}: {_reason(error)}") from None


def _called(module: str, function: str) -> tuple[Any, Any]:
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")  # a module in the folder where the command is given
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise GeedError(
            f"--data {module}:{function}: no such file, and module {module!r} cannot be imported "
            f"({error})"
        ) from None
    except Exception as error:  # whatever the user's module raises
        raise GeedError(f"--data {module}:{function}: importing failed: {error!r}") from None
    make = getattr(found, function, None)
    if not callable(make):
        raise GeedError(
            f"--data {module}:{function}: the module has no such function."
            f"{nearest(function, dir(found))}"
        )
    try:
        made = make()
    except Exception as error:  # whatever the user's function raises
        raise GeedError(f"--data {module}:{function}: calling it failed: {error!r}") from None
    array, labels = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    return np.asarray(array), labels


def _of_array(
    array: Any,
    source: str,
    found: Any,
    input_shape: Sequence[int | None],
    layout: str,
    preprocess: Preprocess,
    labels: Any,
) -> Samples:
    if array.dtype.kind == "O":
        raise GeedError(f"--data {source}: holds Python objects, not numbers")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise GeedError(
            f"--data {source}: dtype {array.dtype}: uint8 is scaled by 1/255 and floats are taken as "
            "they are; convert it to one of them"
        )
    rank = len(input_shape) + 1
    channels = _channels(input_shape, layout)
    plain = rank == 4 and array.ndim == 3
    if array.ndim != rank and not plain:
        raise GeedError(
            f"--data {source}: an array of shape {_text(array.shape)}, the model takes "
            f"{_model_text(input_shape)}: {rank} axes, samples first (a model without a batch axis "
            "must be exported with one)"
        )
    if not len(array):
        raise GeedError(f"--data {source}: holds no samples")
    resizes = preprocess.resize is not None or preprocess.crop is not None

    def read(index: int) -> F32:
        raw = np.asarray(array[index])
        x = raw.astype(np.float32)
        if raw.dtype == np.uint8:
            x = x / np.float32(255)
        if plain:
            x = x[None]
        elif layout == "NHWC":
            x = np.moveaxis(x, -1, 0)
        x = _to_channels(x, channels, preprocess, layout)
        if resizes:
            x = _resize_array(x, preprocess)
        return np.ascontiguousarray(x)

    first = read(0)
    _check_fits(first.shape, source, input_shape, layout, array.shape, resizes)
    return Samples(
        source,
        "array",
        first.shape,
        None,
        _labels(labels, found, len(array), source),
        preprocess,
        len(array),
        read,
    )


def _channels(input_shape: Sequence[int | None], layout: str) -> int | None:
    if layout == "NHW":
        return None
    return input_shape[-1] if layout == "NHWC" else input_shape[0]


def _to_channels(x: F32, channels: int | None, preprocess: Preprocess, layout: str) -> F32:
    """Grey to colour and back, where the preprocessing asks for it."""
    if layout not in ("NCHW", "NHWC") or preprocess.channels is None:
        return x
    wanted = 1 if preprocess.channels == "grey" else 3
    if channels is not None and channels != wanted:
        return x  # the mismatch is told with the model's shape
    if x.shape[0] == 3 and wanted == 1:
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return np.tensordot(weights, x, axes=1)[None]
    if x.shape[0] == 1 and wanted == 3:
        return np.repeat(x, 3, axis=0)
    return x


def _resize_array(x: F32, preprocess: Preprocess) -> F32:
    from PIL import Image

    kind = _resampling(preprocess)
    planes = [Image.fromarray(plane) for plane in x.reshape(-1, *x.shape[-2:])]
    size = _resized(planes[0].size, preprocess.resize)
    planes = [p.resize(size, kind) if p.size != size else p for p in planes]
    box = _crop_box(planes[0].size, preprocess.crop, "the array")
    stacked = np.stack([np.asarray(p.crop(box) if box else p, dtype=np.float32) for p in planes])
    return stacked.reshape(*x.shape[:-2], *stacked.shape[1:])


def _check_fits(
    shape: tuple[int, ...],
    source: str,
    input_shape: Sequence[int | None],
    layout: str,
    raw: tuple[int, ...],
    resizes: bool,
) -> None:
    wanted = [input_shape[-1], *input_shape[:-1]] if layout == "NHWC" else list(input_shape)
    if all(w is None or w == s for w, s in zip(wanted, shape, strict=True)):
        return
    asked = f"--data {source}: samples are {_text(shape)}"
    takes = f"the model takes {_text(tuple(wanted))} ({layout} {_model_text(input_shape)})"
    if layout in ("NCHW", "NHWC") and wanted[0] is not None and wanted[0] != shape[0]:
        other = [shape[-1], *shape[:-1]] if layout == "NCHW" else [*shape[1:], shape[0]]
        if all(w is None or w == s for w, s in zip(wanted, other, strict=True)):
            cure = "the channels are on another axis: arrays are in the model's own layout"
        elif {wanted[0], shape[0]} == {1, 3}:
            cure = f"--preprocess channels={'grey' if wanted[0] == 1 else 'RGB'} converts them"
        else:
            cure = f"it wants {wanted[0]} channels"
    elif resizes:
        cure = "change resize or crop to fit"
    else:
        height, width = wanted[-2:]
        cure = f"resize them, as with --preprocess 'resize={height}x{width}'"
    raise GeedError(f"{asked}, {takes}: {cure}")


def _of_images(
    folder: Path,
    input_shape: Sequence[int | None],
    layout: str,
    preprocess: Preprocess,
    labels: Any,
) -> Samples:
    if layout not in ("NCHW", "NHWC"):
        raise GeedError(
            f"--data {folder}: images fit a model with input (N, C, H, W) or (N, H, W, C), not "
            f"{_model_text(input_shape)}"
        )
    paths = sorted(
        (p for p in folder.rglob("*") if p.suffix.lower() in _IMAGES and p.is_file()),
        key=lambda p: p.relative_to(folder).as_posix().encode(),
    )
    if not paths:
        raise GeedError(
            f"--data {folder}: the folder holds no images ({', '.join(sorted(_IMAGES))})"
        )
    channels = _channels(input_shape, layout)
    if preprocess.channels is None and channels not in (1, 3, None):
        raise GeedError(f"--data {folder}: the model takes {channels} channels, images have 1 or 3")
    grey = preprocess.channels == "grey" or (preprocess.channels is None and channels == 1)

    def read(index: int) -> F32:
        return _decode(paths[index], folder, preprocess, grey)

    names = tuple(p.relative_to(folder).as_posix() for p in paths)
    classes = tuple(n.split("/")[0] if "/" in n else "" for n in names)
    first = read(0)
    resizes = preprocess.resize is not None or preprocess.crop is not None
    _check_fits(first.shape, str(folder), input_shape, layout, first.shape, resizes)
    found = classes if all(classes) else None
    return Samples(
        str(folder),
        "images",
        first.shape,
        names,
        _labels(labels, found, len(paths), str(folder)),
        preprocess,
        len(paths),
        read,
    )


def _decode(path: Path, folder: Path, preprocess: Preprocess, grey: bool) -> F32:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            image.load()
    except Exception as error:  # decoders raise whatever they like on damaged files
        name = path.relative_to(folder).as_posix()
        raise GeedError(
            f"--data {folder}: {name} cannot be decoded as an image ({_reason(error)}); remove it"
        ) from None
    if image.mode.startswith(("I;16", "I", "F")):
        values = np.asarray(image, dtype=np.float32)
        if image.mode != "F":
            values = values / np.float32(65535)
        x = values[None]
        x = _resize_array(x, preprocess)
        return np.ascontiguousarray(x if grey else np.repeat(x, 3, axis=0))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L" if grey else "RGB")
    size = _resized(image.size, preprocess.resize)
    if size != image.size:
        image = image.resize(size, _resampling(preprocess))
    if box := _crop_box(image.size, preprocess.crop, path.relative_to(folder).as_posix()):
        image = image.crop(box)
    x = np.asarray(image, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(x[None] if grey else np.moveaxis(x, -1, 0))


def _resampling(preprocess: Preprocess) -> Any:
    from PIL import Image

    return {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "nearest": Image.Resampling.NEAREST,
    }[preprocess.interpolation]


def _resized(size: tuple[int, int], resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """Width and height after resizing."""
    width, height = size
    if resize is None:
        return size
    if isinstance(resize, tuple):
        return (resize[-1], resize[0])
    # As torchvision does: the longer side is cut to a whole number of pixels.
    if width <= height:
        return (resize, int(resize * height / width))
    return (int(resize * width / height), resize)


def _crop_box(
    size: tuple[int, int], crop: int | tuple[int, int] | None, what: str
) -> tuple[int, int, int, int] | None:
    if crop is None:
        return None
    height, width = crop if isinstance(crop, tuple) and len(crop) == 2 else (crop, crop)
    assert isinstance(height, int) and isinstance(width, int)
    if width > size[0] or height > size[1]:
        raise GeedError(
            f"preprocess crop={height}x{width} is larger than {what}, {size[1]}x{size[0]}: resize "
            "first"
        )
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return (left, top, left + width, top + height)


def _labels(given: Any, found: Any, count: int, source: str) -> tuple[int | str, ...] | None:
    if isinstance(given, (str, Path)):
        values: Any = _inside(Path(given), None)[0][()]
    else:
        values = found if given is None else given
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != 1 or len(array) != count:
        if given is None:
            return None  # something else happened to lie beside the data
        raise GeedError(
            f"labels of shape {_text(array.shape)} for {count} samples of {source}: give one each"
        )
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return tuple(str(v) if array.dtype.kind == "U" else int(v) for v in array)


def _text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if d is None else str(d) for d in shape)


def _model_text(shape: Sequence[int | None]) -> str:
    return f"(N, {', '.join('?' if d is None else str(d) for d in shape)})"


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    if any(word in line for word in ("pickle", "Object arrays", "Python objects")):
        return "holds pickled Python objects, which are refused: save plain arrays"
    return f"cannot be read ({line[:160]})"
