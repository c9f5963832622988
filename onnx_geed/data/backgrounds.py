"""Other backgrounds for samples: images from a folder, and masks that say what stands in front."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.copies import read_by_copy
from onnx_geed.data.fetched import fetched, rows_told
from onnx_geed.data.images import SUFFIXES, decode, resize_and_crop
from onnx_geed.data.paths import files_in, is_kind, kinds_held
from onnx_geed.data.preprocess import Preprocess
from onnx_geed.data.rows import Rows, rows_of, shape_text
from onnx_geed.data.samples import mark_of
from onnx_geed.data.sources import open_rows
from onnx_geed.errors import GeedError
from onnx_geed.files import Stamp, stamp
from onnx_geed.held import ALLOWED, array_bytes, check_held
from onnx_geed.text import counted

__all__ = ["Backgrounds", "read_backgrounds", "read_masks"]


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """Images that samples are put before, of the samples' size.

    Parameters
    ----------
    names : tuple of str
        Their relative POSIX paths, in bytewise order.
    images : ndarray of float32, shape (K, C, H, W)
        Values in [0, 1].
    """

    names: tuple[str, ...]
    images: NDArray[np.float32]


@read_by_copy(fetched)
def read_backgrounds(
    folder: str | Path,
    count: int,
    shape: tuple[int, int, int],
    *,
    seed: int,
    allowed: int = ALLOWED,
) -> Backgrounds:
    """Draw backgrounds from a folder of images, the same for all samples.

    Parameters
    ----------
    folder : str or Path
        The folder.
    count : int
        How many, K.
    shape : tuple of int
        Channels (1 or 3), height and width of a sample.
    seed : int
        Which ones are drawn follows from it.
    allowed : int
        Bytes that may be held while one is read.

    Returns
    -------
    Backgrounds

    Raises
    ------
    GeedError
        If it cannot be read, or has not as many images.
        If an image cannot be decoded, or is the same as another.

    Notes
    -----
    Choice: an image is made as small as it can be with every pixel of a sample covered (bilinear,
    with antialiasing; small ones are made larger), and its middle is taken.
    """
    where = f"background:{folder}"
    names = [n for n in files_in(Path(folder), "background folder") if is_kind(n, SUFFIXES)]
    if not names:
        held = kinds_held(files_in(Path(folder)))
        raise GeedError(f"{where}: no images in the folder ({', '.join(SUFFIXES)}); {held}")
    if count > len(names):
        raise GeedError(
            f"{where}/{count}: the folder has {counted(len(names), 'image')}; ask for "
            f"{len(names)} or fewer, "
            "or add more"
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(names))[:count])
    channels, height, width = shape
    images = np.empty((count, *shape), dtype=np.float32)
    seen: dict[str, str] = {}
    for row, index in zip(images, drawn, strict=True):
        name = f"{where}: {names[index]}"
        path = Path(folder, names[index])
        image = decode(path, Preprocess(), grey=channels == 1, name=name, allowed=allowed)
        down, across = image.shape[1:]
        scale = max(height / down, width / across)
        covering = (max(height, round(down * scale)), max(width, round(across * scale)))
        row[...] = resize_and_crop(
            image,
            Preprocess(resize=covering, crop=(height, width)),
            name=name,
            allowed=allowed,
        )
        if (twin := seen.setdefault(mark_of(row), names[index])) != names[index]:
            raise GeedError(
                f"{where}: {twin} and {names[index]} are the same image, at {height}×{width} "
                "(height × width), so they are one member; remove one of them from the folder"
            )
    return Backgrounds(tuple(names[index] for index in drawn), images)


@read_by_copy(fetched, rows_told)
def read_masks(
    source: str | Path | NDArray[Any],
    count: int,
    plane: tuple[int, int],
    preprocess: Preprocess | None = None,
    *,
    allowed: int = ALLOWED,
) -> Rows:
    """Open masks of the foreground, one a sample of the data, in the order of these.

    Parameters
    ----------
    source : str, Path or ndarray
        An array of shape (N, H, W), a file of one as ``--data`` takes it, or a folder of N images.
        1 (or 255, as white is in an image file) is foreground, 0 is background.
    count : int
        Number of samples in the data, N.
    plane : tuple of int
        Height and width of a sample as a group acts on it.
    preprocess : Preprocess, optional
        That of the data: masks are resized and cropped as samples are, each pixel from the nearest.
    allowed : int
        Bytes that may be held at once of what is packed, and of one mask.

    Returns
    -------
    Rows
        Reads a mask by the number of its sample: bool, of shape (H, W), true in the foreground.

    Raises
    ------
    GeedError
        If there is nothing of that name, or it cannot be read.
        If there is not one mask for each sample.

    Notes
    -----
    A mask is checked when it is read: a :class:`GeedError` says if it is of another size than the
    sample, or holds other values.
    """
    fitted = replace(preprocess or Preprocess(), interpolation="nearest")
    where = "--masks"
    folder = None
    if isinstance(source, str | Path):
        where, folder = f"--masks {source}", Path(source)
    if folder is not None and folder.is_dir():
        rows = _folder(folder, fitted, allowed)
    else:
        rows = (
            rows_of(source)
            if folder is None
            else open_rows(str(source), option="--masks", allowed=allowed)
        )
        if len(rows.shape) != 3:
            raise GeedError(
                f"{where}: {shape_text(rows.shape)}; give masks of shape N×H×W, here "
                f"{shape_text((count, *plane))}"
            )
    if folder is not None:
        one = array_bytes(rows.shape[1:], rows.dtype)
        check_held(f"{where}: one mask", one, allowed, f"masks have {shape_text(plane)}")
    if rows.count != count:
        raise GeedError(
            f"{where}: {counted(rows.count, 'mask')} for {counted(count, 'sample')}: give one "
            "mask per sample, in the "
            "same order"
        )

    def read(index: int) -> NDArray[np.bool_]:
        values = np.asarray(rows.read(index))
        called = f"{where}: {rows.called(index)}"
        if rows.kind != "images":
            if values.dtype.kind not in "biuf":
                raise GeedError(f"{called}: holds {values.dtype}; {_ASKED}")
            values = resize_and_crop(
                values.astype(np.float32), fitted, name=called, allowed=allowed
            )
        if values.shape != plane:
            raise GeedError(
                f"{called}: {shape_text(values.shape)}, but the sample is {shape_text(plane)} "
                "(height × width): give a mask of the size of the data"
            )
        white = np.float32(values.max())
        odd = values[(values != 0) & (values != white)]
        if odd.size or white not in (0, 1, 255):
            if white not in (0, 1, 255):
                raise GeedError(f"{called}: holds {white:g}; {_ASKED}")
            raise GeedError(
                f"{called}: holds {odd.flat[0]:g} besides {white:g}; {_ASKED}, and nothing else: "
                "threshold it"
            )
        front: NDArray[np.bool_] = values > 0
        return front

    return replace(rows, shape=(count, *plane), dtype=np.dtype(np.bool_), read=read)


_ASKED = "write 1 (in an image 255, white) for the foreground and 0 for the background"


def _folder(folder: Path, preprocess: Preprocess, allowed: int) -> Rows:
    """Open a folder of images as masks: values are those of 8 bits, 0 to 255."""
    names = tuple(n for n in files_in(folder, "--masks") if is_kind(n, SUFFIXES))
    stamps: dict[int, Stamp] = {}

    def read(index: int) -> NDArray[np.float32]:
        path = folder / names[index]
        stamps.setdefault(index, stamp(path))
        image = decode(path, preprocess, grey=True, name=f"--masks {path}", allowed=allowed)
        return np.asarray(image[0] * np.float32(255))

    return Rows(
        (len(names),),
        np.dtype(np.float32),
        read,
        files=lambda: list(stamps.values()),
        names=names,
        kind="images",
    )
