"""Storage layouts of tensors, brought to (N, C, H, W) or (N, k)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError

__all__ = ["check_layout", "to_maps", "to_points"]


def check_layout(text: str) -> str:
    """Return a layout name if it is one.

    Parameters
    ----------
    text : str
        ``NCHW``, ``NHWC``, or tokens ``NTD:<H>x<W>`` with ``+<extra>`` class tokens in front.

    Raises
    ------
    GeedError
        If it is none of these.
    """
    if text in ("NCHW", "NHWC") or re.fullmatch(r"NTD:[1-9]\d*x[1-9]\d*(\+\d+)?", text):
        return text
    raise GeedError(
        f"no layout is called {text!r}: write NCHW, NHWC, or for tokens NTD:<H>x<W>+<class tokens>,"
        " such as NTD:14x14+1"
    )


def to_maps(array: NDArray[Any], layout: str, tensor: str) -> NDArray[Any]:
    """Bring feature maps to (..., C, H, W).

    Parameters
    ----------
    array : ndarray, shape (..., C, H, W), (..., H, W, C) or (..., T, D)
        Activations of the stated layout, any number of axes before.
    layout : str
        As :func:`check_layout` takes it.
    tensor : str
        Name of the tensor, for messages.

    Returns
    -------
    ndarray, shape (..., C, H, W)
        A view where that is possible.

    Raises
    ------
    GeedError
        If the number of tokens is not H·W plus the class tokens.
    """
    if layout == "NHWC":
        return np.moveaxis(array, -1, -3)
    if layout.startswith("NTD:"):
        height, width, extra = map(int, re.findall(r"\d+", layout + "+0")[:3])
        tokens = array.shape[-2]
        if tokens != height * width + extra:
            raise GeedError(
                f"--layout {tensor}={layout}: {height}x{width}+{extra} are "
                f"{height * width + extra} tokens, the tensor has {tokens}"
            )
        maps = np.moveaxis(array[..., extra:, :], -1, -2)
        return maps.reshape(*maps.shape[:-1], height, width)
    return array


def to_points(array: NDArray[Any], layout: str, axes: int) -> tuple[NDArray[Any], bool]:
    """Bring latents or outputs to (..., k).

    Parameters
    ----------
    array : ndarray, shape (..., k), (..., k, 1, 1) or (..., C, H, W)
        Activations.
    layout : str
        Where a map's channels are.
    axes : int
        Number of axes before those of one activation.

    Returns
    -------
    points : ndarray, shape (..., k)
        Maps are averaged over their grid.
    derived : bool
        Whether such an average was taken.

    Raises
    ------
    GeedError
        If one activation is neither a vector nor a map.
    """
    rank = array.ndim - axes
    if rank == 0:
        return array[..., None], False
    if rank == 1:
        return array, False
    if rank == 3:
        maps = np.moveaxis(array, -1, -3) if layout == "NHWC" else array
        if maps.shape[-2:] == (1, 1):
            return maps[..., 0, 0], False
        return maps.mean(axis=(-2, -1), dtype=np.float64).astype(np.float32), True
    raise GeedError(
        f"a latent or output must be (N, k) or (N, C, H, W), found {rank} axes after the batch"
    )
