"""Layouts: one letter an axis, which says what the axis is and so how a group moves it."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest
from onnx_geed.text import counted

__all__ = [
    "LETTERS",
    "MAP_LAYOUTS",
    "Layout",
    "axes_called",
    "check_input_layout",
    "check_layout",
    "parse_layout",
    "usual_layouts",
]

#: Every order in which a map can be stored, the samples first: ``NCHW``, ``NCWH``, ``NHCW``, ..
MAP_LAYOUTS: tuple[str, ...] = tuple(
    sorted("N" + "".join(axes) for axes in itertools.permutations("CHW"))
)


#: What the axis of each letter is.
LETTERS: dict[str, str] = {
    "N": "samples",
    "C": "channels",
    "K": "entries of a vector",
    "H": "height",
    "W": "width",
    "D": "depth",
    "T": "a line, such as time",
    "P": "points, nodes or members of a set",
    "X": "components of a vector in the plane or in space",
    "B": "DNA bases A, C, G, T",
}


# The layouts that are asked for most, by rank.
_USUAL: dict[int, tuple[str, ...]] = {
    1: ("N",),
    2: ("NT", "NP", "NK"),
    3: ("NCT", "NTC", "NPX", "NPC", "NHW"),
    4: ("NCHW", "NHWC", "NXHW", "NPPC"),
    5: ("NCDHW", "NDHWC", "NCTHW", "NTHWC", "NTCHW"),
}


@dataclass(frozen=True)
class Layout:
    """One letter for each axis of a tensor; :func:`parse_layout` reads it from a text.

    Parameters
    ----------
    letters : str
        One an axis, such as ``NCHW``: N samples, C channels (K of a vector), HW a plane, DHW a
        volume, T a line, P points (``PP`` an adjacency), X components of a vector, B bases.
    grid : tuple of int, optional
        Height and width of the grid that tokens (N, T, D) lie on, row by row; D are then features.
    extra : int
        Tokens in front of them that lie on no grid, such as a class token.

    Notes
    -----
    A group acts on the axes of one sample in *kept order*: C or K, then the others as they stand in
    the layout, then H and W. So (N, H, W, C) is kept as (C, H, W), and (N, P, X) as (P, X).
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
    def kept(self) -> str:
        """Letters of one sample's axes in kept order, such as ``CHW``."""
        if self.grid is not None:
            return "CHW"
        return "".join(self.letters[1 + axis] for axis in self.planes_last)

    @property
    def channels(self) -> int:
        """Number of axes in kept order that are channels: they come first."""
        return sum(letter in "CK" for letter in self.kept)

    @property
    def planes_last(self) -> tuple[int, ...]:
        """Axes of one sample, as they are stored, in kept order."""
        return _planes_last(self.letters)

    def moved_last(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring arrays (..., axes without N) to kept order: a view.

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

    def stored(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Return the lengths of axes in kept order as they are stored."""
        order = self.planes_last
        return tuple(shape[order.index(axis)] for axis in range(len(order)))

    def to_kept(self, array: NDArray[Any], tensor: str) -> NDArray[Any]:
        """Bring activations to kept order, tokens to the grid that they lie on.

        Parameters
        ----------
        array : ndarray, shape (..., C, H, W), (..., P, X) and so on, or (..., T, D)
            Activations, any number of axes before.
        tensor : str
            Name of the tensor, for messages.

        Returns
        -------
        ndarray
            Axes in kept order, (..., C, H, W) of tokens; a view where that is possible.

        Raises
        ------
        GeedError
            If the number of tokens is not H·W plus the class tokens.
        """
        if self.grid is None:
            return self.moved_last(array)
        (height, width), extra = self.grid, self.extra
        tokens = array.shape[-2]
        if tokens != height * width + extra:
            raise GeedError(
                f"--layout {tensor}={self}: {height}x{width}+{extra} are "
                f"{height * width + extra} tokens, the tensor has {tokens}"
            )
        maps = np.moveaxis(array[..., extra:, :], -1, -2)
        return maps.reshape(*maps.shape[:-1], height, width)

    def kept_shape(self, shape: Sequence[int], tensor: str) -> tuple[int, ...]:
        """Return the shape in kept order of one activation, whose stored shape this is.

        Raises
        ------
        GeedError
            If the number of tokens is not H·W plus the class tokens.
        """
        # No entry is touched: the array is one number, seen many times.
        return self.to_kept(np.broadcast_to(np.float32(0), tuple(shape)), tensor).shape

    def to_points(self, array: NDArray[Any], axes: int) -> tuple[NDArray[Any], bool]:
        """Bring latents or outputs to (..., k).

        Parameters
        ----------
        array : ndarray, shape (..., k), (..., k, 1, 1), (..., C, H, W), (..., P, C) and so on
            Activations.
        axes : int
            Number of axes before those of one activation.

        Returns
        -------
        points : ndarray, shape (..., k)
            What has channels and other axes is averaged over these.
        derived : bool
            Whether such an average was taken.

        Raises
        ------
        GeedError
            If one activation has several axes, and none of them is its channels.
        """
        rank = array.ndim - axes
        if rank == 0:
            return array[..., None], False
        if rank == 1:
            return array, False
        # One place is one place, whichever axis is the channels.
        if rank == 3 and not self.is_map and array.shape[-2:] == (1, 1):
            return array[..., 0, 0], False
        if rank == self.rank - 1 and rank > 1 and "C" not in self.letters:
            raise GeedError(
                f"a latent or output must be a vector or have channels, and {self} has none; take "
                "output-l2 or unexplained, or name another tensor"
            )
        if rank != self.rank - 1 or "C" not in self.letters or self.grid:
            raise GeedError(
                "a latent or output must be (N, k) or (N, C, H, W), found "
                f"{counted(rank, 'axis', 'axes')} after the "
                "batch; say what they are with --layout, such as LAYER=NPC"
            )
        maps = self.moved_last(array)
        places = tuple(range(1 - rank, 0))
        if all(maps.shape[axis] == 1 for axis in places):
            return maps.reshape(maps.shape[: axes + 1]), False
        return maps.mean(axis=places, dtype=np.float64).astype(np.float32), True


@functools.cache
def _planes_last(layout: str) -> tuple[int, ...]:
    rank_of = {"C": 0, "K": 1, "H": 3, "W": 4}
    letters = layout[1:]
    return tuple(sorted(range(len(letters)), key=lambda axis: rank_of.get(letters[axis], 2)))


def axes_called(wanted: str, letters: str) -> tuple[int, ...]:
    """Return where each of some letters stands among others, the second of two for the second.

    Parameters
    ----------
    wanted : str
        The letters that are looked for.
    letters : str
        Those among which they stand, each at least as often.

    Returns
    -------
    tuple of int
        No position twice.
    """
    at = {letter: [i for i, own in enumerate(letters) if own == letter] for letter in {*wanted}}
    return tuple(at[letter].pop(0) for letter in wanted)


@functools.cache
def parse_layout(text: str) -> Layout:
    """Return the layout that a text stands for.

    Parameters
    ----------
    text : str
        One letter an axis, N first, each letter once but P, which may stand twice; such as
        ``NCHW``, ``NDHWC``, ``NPX``, ``NPP`` or ``NK``. Or tokens ``NTD:<H>x<W>`` with ``+<extra>``
        class tokens in front.

    Returns
    -------
    Layout

    Raises
    ------
    GeedError
        If it is neither.
    """
    if tokens := re.fullmatch(r"NTD:([1-9]\d{0,8})x([1-9]\d{0,8})(?:\+(\d{1,9}))?", text):
        height, width, extra = (int(number or 0) for number in tokens.groups())
        return Layout("NTD", (height, width), extra)
    if fault := _fault(text):
        raise GeedError(f"no layout is called {text!r}: {fault}")
    return Layout(text)


def _fault(text: str) -> str:
    """Say what is wrong with the letters of a layout, or nothing."""
    example = "write one letter per axis, N (samples) first, such as NCHW, NPX or NK"
    if ":" in text:
        return "tokens on a grid are NTD:<H>x<W>+<class tokens>, such as NTD:14x14+1"
    odd = next((letter for letter in text if letter not in LETTERS), None)
    if odd is not None:
        upper = text.upper()
        if upper != text and not _fault(upper):
            return f"letters are capitals, {upper!r}"
        known = ", ".join(f"{letter} {meaning}" for letter, meaning in LETTERS.items())
        return f"{odd!r} is not a layout letter; {example}; letters: {known}"
    if text[:1] != "N":
        return example
    most = {"P": 2}
    twice = next((letter for letter in text if text.count(letter) > most.get(letter, 1)), None)
    if twice is not None:
        return f"{twice} occurs {text.count(twice)} times; {example}"
    return ""


def check_layout(text: str) -> str:
    """Return the layout of a hidden tensor as a user writes it, if it is one.

    Parameters
    ----------
    text : str
        As :func:`parse_layout` takes it.

    Raises
    ------
    GeedError
        If it is none.
    """
    parse_layout(text)
    return text


def check_input_layout(text: str, rank: int, source: str, input: str) -> str:
    """Return the layout of an input if it is one, and fits.

    Parameters
    ----------
    text : str
        One letter an axis, as :func:`parse_layout` takes it.
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
        If it is no layout, or one of tokens on a grid.
        If it has not one letter for each axis.
    """
    usual = " or ".join(usual_layouts(rank)[:2])
    if fault := _fault(text):
        near = nearest(text.upper(), usual_layouts(rank)) or f" Write, for example, {usual}."
        raise GeedError(f"{source} {text!r}: is not a layout of input {input}: {fault}.{near}")
    if len(text) != rank:
        raise GeedError(
            f"{source} {text!r}: names {counted(len(text), 'axis', 'axes')}, but input {input} "
            f"has {rank}; write, for "
            f"example, {usual}"
        )
    return text


def usual_layouts(rank: int) -> tuple[str, ...]:
    """Return the layouts of inputs with so many axes that are asked for most."""
    return _USUAL.get(rank, ("NCHW", "NPX"))
