"""Layouts: one letter an axis, which says what the axis is and so how a group moves it."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest

__all__ = [
    "MAP_LAYOUTS",
    "Layout",
    "check_input_layout",
    "check_layout",
    "input_layouts",
    "parse_layout",
]

#: Every order in which a map can be stored, the samples first: ``NCHW``, ``NCWH``, ``NHCW``, ..
MAP_LAYOUTS: tuple[str, ...] = tuple(
    sorted("N" + "".join(axes) for axes in itertools.permutations("CHW"))
)


# Axes that no group of the plane moves: channels, depth of a volume, frames of a video.
_FIXED = "CDT"


# The letters that an axis can have: samples, channels or features, the plane, depth, time.
_LETTERS = "NCKHWDT"


@dataclass(frozen=True)
class Layout:
    """One letter for each axis of a tensor; :func:`parse_layout` reads it from a text.

    Parameters
    ----------
    letters : str
        One an axis, such as ``NCHW``: N samples, C channels (K of a vector), H and W the plane, D
        depth or the features of tokens, T time or tokens.
    grid : tuple of int, optional
        Height and width of the grid that tokens (N, T, D) lie on, row by row.
    extra : int
        Tokens in front of them that lie on no grid, such as a class token.
    """

    letters: str
    grid: tuple[int, int] | None = None
    extra: int = 0

    def __str__(self) -> str:
        """As users write it and files hold it."""
        if self.grid is None:
            return self.letters
        text = f"{self.letters}:{self.grid[0]}x{self.grid[1]}"
        return f"{text}+{self.extra}" if self.extra else text

    @property
    def rank(self) -> int:
        """Number of axes, the samples' among them."""
        return len(self.letters)

    @property
    def is_map(self) -> bool:
        """Whether it is that of a map: N, C, H and W in some order."""
        return self.letters in MAP_LAYOUTS

    @property
    def plane(self) -> tuple[int, ...]:
        """Axes that the plane lies on: those of H and W, that of tokens on a grid, or none."""
        if self.grid is not None:
            return (self.letters.index("T"),)
        return tuple(self.letters.index(x) for x in "HW") if {"H", "W"} <= {*self.letters} else ()

    @property
    def planes_last(self) -> tuple[int, ...]:
        """Axes of one sample in the order in which a group acts on it.

        Of the axes without N: C, then other axes that stay in place, then H and W.
        """
        letters = self.letters[1:]
        fixed = [letter for letter in letters if letter not in "CHW"]
        order = [*fixed, *(letter for letter in "HW" if letter in letters)]
        order = ["C", *order] if "C" in letters else order
        return tuple(letters.index(letter) for letter in order)

    def moved_last(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring arrays (..., axes without N) to (..., C, H, W): a view.

        Parameters
        ----------
        array : ndarray
            Any number of axes before those of the layout.

        Returns
        -------
        ndarray
        """
        order = self.planes_last
        ahead = array.ndim - len(order)
        if order == tuple(range(len(order))):
            return array
        return array.transpose(*range(ahead), *(ahead + axis for axis in order))

    def to_maps(self, array: NDArray[Any], tensor: str) -> NDArray[Any]:
        """Bring feature maps to (..., C, H, W).

        Parameters
        ----------
        array : ndarray, shape (..., C, H, W), (..., H, W, C) and so on, or (..., T, D)
            Activations, any number of axes before.
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
        if self.is_map:
            return self.moved_last(array)
        if self.grid is None:
            return array
        (height, width), extra = self.grid, self.extra
        tokens = array.shape[-2]
        if tokens != height * width + extra:
            raise GeedError(
                f"--layout {tensor}={self}: {height}x{width}+{extra} are "
                f"{height * width + extra} tokens, the tensor has {tokens}"
            )
        maps = np.moveaxis(array[..., extra:, :], -1, -2)
        return maps.reshape(*maps.shape[:-1], height, width)

    def to_points(self, array: NDArray[Any], axes: int) -> tuple[NDArray[Any], bool]:
        """Bring latents or outputs to (..., k).

        Parameters
        ----------
        array : ndarray, shape (..., k), (..., k, 1, 1) or (..., C, H, W)
            Activations.
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
            maps = self.moved_last(array) if self.is_map else array
            if maps.shape[-2:] == (1, 1):
                return maps[..., 0, 0], False
            return maps.mean(axis=(-2, -1), dtype=np.float64).astype(np.float32), True
        raise GeedError(
            f"a latent or output must be (N, k) or (N, C, H, W), found {rank} axes after the batch"
        )


@functools.cache
def parse_layout(text: str) -> Layout:
    """Return the layout that a text stands for.

    Parameters
    ----------
    text : str
        One letter an axis, N first, each letter once, such as ``NCHW``, ``NDHWC`` or ``NK``; or
        tokens ``NTD:<H>x<W>`` with ``+<extra>`` class tokens in front.

    Returns
    -------
    Layout

    Raises
    ------
    GeedError
        If it is neither.
    """
    if tokens := re.fullmatch(r"NTD:([1-9]\d*)x([1-9]\d*)(?:\+(\d+))?", text):
        height, width, extra = (int(number or 0) for number in tokens.groups())
        return Layout("NTD", (height, width), extra)
    if text[:1] != "N" or not {*text} <= {*_LETTERS} or len({*text}) != len(text):
        raise GeedError(
            f"no layout is called {text!r}: write one letter an axis, N (samples) first, such as "
            "NCHW or NK"
        )
    return Layout(text)


def check_layout(text: str) -> str:
    """Return the layout of a hidden tensor as a user writes it, if it is that of a map.

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
    try:
        layout = parse_layout(text)
    except GeedError:
        layout = None
    if layout is not None and (layout.is_map or layout.grid):
        return text
    raise GeedError(
        f"no layout is called {text!r}: write NCHW, NHWC (or N, C, H, W in another order, N first),"
        " or for tokens NTD:<H>x<W>+<class tokens>, such as NTD:14x14+1"
    )


def check_input_layout(text: str, rank: int, source: str, input: str) -> str:
    """Return the layout of an acted-on input if it is one, and fits.

    Parameters
    ----------
    text : str
        One letter an axis: N first, H and W once, and of C, D (depth) and T (time) any once.
    rank : int
        Axes of the input.
    source : str
        Where the layout is stated, for messages: ``--input-layout`` or a key of the metadata.
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
            f"{source} {text!r}: names {len(text)} axes, input {input} has {rank}; say such as "
            f"{' or '.join(known[:2])}"
        )
    raise GeedError(
        f"{source} {text!r}: is no layout of input {input}: one letter an axis, N first, H and W, "
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
