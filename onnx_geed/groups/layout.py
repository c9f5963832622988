"""Storage layouts of tensors, brought to (N, C, H, W) or (N, k)."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest

__all__ = [
    "MAP_LAYOUTS",
    "check_input_layout",
    "check_layout",
    "input_layouts",
    "layout_rank",
    "moved_last",
    "planes_last",
    "to_maps",
    "to_points",
]

#: Every order in which a map can be stored, the samples first: ``NCHW``, ``NCWH``, ``NHCW``, ..
MAP_LAYOUTS: tuple[str, ...] = tuple(
    sorted("N" + "".join(axes) for axes in itertools.permutations("CHW"))
)


# What no group of the plane moves: channels, the depth of a volume, the frames of a video.
_FIXED = "CDT"


def check_layout(text: str) -> str:
    """Return a layout name if it is one.

    Parameters
    ----------
    text : str
        The letters N, C, H and W in the order of the axes, N first, such as ``NCHW``, ``NHWC`` or
        ``NCWH``; or tokens ``NTD:<H>x<W>`` with ``+<extra>`` class tokens in front.

    Raises
    ------
    GeedError
        If it is none of these.
    """
    if text in MAP_LAYOUTS or re.fullmatch(r"NTD:[1-9]\d*x[1-9]\d*(\+\d+)?", text):
        return text
    raise GeedError(
        f"no layout is called {text!r}: write NCHW, NHWC (or N, C, H, W in another order, N first),"
        " or for tokens NTD:<H>x<W>+<class tokens>, such as NTD:14x14+1"
    )


def layout_rank(layout: str) -> int:
    """Return how many axes a tensor of a layout has."""
    return len(layout.partition(":")[0])


def check_input_layout(text: str, rank: int, said: str, input: str) -> str:
    """Return the layout of an acted-on input if it is one, and fits.

    Parameters
    ----------
    text : str
        One letter an axis: N first, H and W once, and of C, D (depth) and T (time) any once.
    rank : int
        Axes of the input.
    said : str
        Who says so, for messages: ``--input-layout`` or a key of the metadata.
    input : str
        The input and its shape, for messages.

    Returns
    -------
    str

    Raises
    ------
    GeedError
        If it is no layout on which a group of the plane acts.
        If it has not one letter for each axis.
    """
    known = input_layouts(rank)
    if text in known:
        return text
    near = nearest(text.upper(), known) or f" Write such as {' or '.join(known[:2])}."
    if len(text) != rank and text in {one for axes in (3, 4, 5) for one in input_layouts(axes)}:
        raise GeedError(
            f"{said} {text!r}: names {len(text)} axes, input {input} has {rank}; say such as "
            f"{' or '.join(known[:2])}"
        )
    raise GeedError(
        f"{said} {text!r}: is no layout of input {input}: one letter an axis, N first, H and W, "
        f"and C, D (depth) or T (time) for the others.{near}"
    )


def input_layouts(rank: int) -> tuple[str, ...]:
    """Return the layouts of inputs with so many axes, the usual ones first."""
    usual = {3: ("NHW",), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC", "NCTHW", "NTHWC", "NTCHW")}
    chosen = [
        "N" + "".join(axes)
        for fixed in itertools.combinations(_FIXED, rank - 3)
        for axes in itertools.permutations((*fixed, "H", "W"))
    ]
    return tuple(dict.fromkeys((*usual[rank], *chosen)))


def planes_last(layout: str) -> tuple[int, ...]:
    """Return the axes of one sample in the order in which a group acts on it.

    Parameters
    ----------
    layout : str
        Of the letters N, C, D, T, H and W, N first.

    Returns
    -------
    tuple of int
        Of the axes without N: C, then other axes that stay in place, then H and W.
    """
    letters = layout[1:]
    fixed = [letter for letter in letters if letter not in "CHW"]
    order = [*(["C"] if "C" in letters else []), *fixed, "H", "W"]
    return tuple(letters.index(letter) for letter in order)


def moved_last(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """Bring arrays (..., axes of a layout without its N) to (..., C, H, W): a view.

    Parameters
    ----------
    array : ndarray
        Any number of axes before those of the layout.
    layout : str
        As :func:`planes_last` takes it.

    Returns
    -------
    ndarray
    """
    order = planes_last(layout)
    ahead = array.ndim - len(order)
    if order == tuple(range(len(order))):
        return array
    return array.transpose(*range(ahead), *(ahead + axis for axis in order))


def to_maps(array: NDArray[Any], layout: str, tensor: str) -> NDArray[Any]:
    """Bring feature maps to (..., C, H, W).

    Parameters
    ----------
    array : ndarray, shape (..., C, H, W), (..., H, W, C) and so on, or (..., T, D)
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
    if layout in MAP_LAYOUTS:
        return moved_last(array, layout)
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
        maps = moved_last(array, layout) if layout in MAP_LAYOUTS else array
        if maps.shape[-2:] == (1, 1):
            return maps[..., 0, 0], False
        return maps.mean(axis=(-2, -1), dtype=np.float64).astype(np.float32), True
    raise GeedError(
        f"a latent or output must be (N, k) or (N, C, H, W), found {rank} axes after the batch"
    )
