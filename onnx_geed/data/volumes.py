"""Volumes: NIfTI files, by nibabel."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.rows import shape_text
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.extras import package
from onnx_geed.groups import parse_layout
from onnx_geed.held import array_bytes, check_held, read_held

__all__ = ["read_volume", "volumes"]

# What the second version of the format begins with, in either order of bytes.
_SECOND = (540, int.from_bytes((540).to_bytes(4, "big"), "little"))


def volumes(layout: str, allowed: int) -> Callable[[Path, str], NDArray[np.float32]]:
    """Return what reads volumes for inputs of a layout, as :func:`read_volume` does."""
    return lambda path, where: read_volume(path, layout, where, allowed)


def read_volume(path: Path, layout: str, where: str, allowed: int) -> NDArray[np.float32]:
    """Read a volume.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    layout : str
        N, D, H, W and perhaps C in some order.
    where : str
        Its name in messages.
    allowed : int
        Bytes that may be held of it.

    Returns
    -------
    ndarray of float32
        Voxels, scaled as the file says. Stored as the layout says.

    Raises
    ------
    GeedError
        If nibabel is not installed.
        If it cannot be decoded.
        If it takes more memory than is allowed.
        If it is no volume, or a series of volumes and the layout has no channels.

    Notes
    -----
    Choice: the axes (i, j, k) of the file's array are (W, H, D), so that with the usual axes W goes
    right and D up; that is how SimpleITK gives arrays too. A fourth axis (time, or components)
    are channels. The array is taken as it is stored: it is neither reoriented nor resampled by the
    file's affine map.
    """
    nibabel = package("nibabel", "volumes", where)
    try:
        # Not mapped: where a mapped file is cut short, the process is killed.
        content = io.BytesIO(read_held(path, where, allowed // 2, unpack=True))
        second = int.from_bytes(content.getvalue()[:4], sys.byteorder) in _SECOND
        with _unheard(nibabel.imageglobals.logger):  # which tells what is raised anyway
            image = (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(content)
            # Scaled in float64, and then as float32, in the file's order and in the layout's.
            size = array_bytes(image.shape, np.dtype("V24"))
            check_held(where, size, 2 * allowed, "take a smaller part of it")
            values = np.asarray(image.dataobj)
    except GeedError:
        raise
    except Exception as error:  # whatever the decoder raises on damaged files
        raise GeedError(
            f"{where}: cannot be decoded as a volume ({reason_of(error)}); repair or remove it"
        ) from None
    if values.dtype.kind not in "biuf":
        raise GeedError(f"{where}: holds {values.dtype} values; save one number per voxel")
    held = values.shape
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 5 and values.shape[3] == 1:  # vectors: the fourth axis is time
        values = values[:, :, :, 0]
    letters = parse_layout(layout).letters[1:]
    channels = "C" in letters
    if values.ndim != 3 and not (channels and values.ndim == 4):
        raise GeedError(
            f"{where}: an array of {shape_text(held)}, but the model ({layout}) takes a volume of "
            f"three axes{', or four with channels' if channels else ''}"
        )
    with np.errstate(over="ignore"):  # infinity is told with the sample's name
        x = values.astype(np.float32)
    if channels and x.ndim == 3:
        x = x[..., None]
    stored = "WHDC"[: x.ndim]
    return np.ascontiguousarray(x.transpose([stored.index(letter) for letter in letters]))


@contextmanager
def _unheard(logger: logging.Logger) -> Iterator[None]:
    """Let nothing of a library's reach stderr by itself."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
