"""Masks: padding of ragged sets, which moves along with them and is left out of every measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import mask_of, read_mask
from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import Group, LayoutAction, layout_action, parse_layout
from onnx_geed.measures import Layer
from onnx_geed.model import Input
from onnx_geed.run.feeds import Still
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.options import Options
from onnx_geed.text import counted

__all__ = ["Mask", "check_taker", "make_mask"]


@dataclass(frozen=True, eq=False)
class Mask:
    """Which entries along an axis are real, for every sample.

    Parameters
    ----------
    letter : str
        The axis' letter, P or T.
    real : ndarray of bool, shape (samples, L)
        False for padding.
    action : LayoutAction
        The group's action on (N, L).
    seed : int
        Seed of what a sampled group draws for each sample.
    """

    letter: str
    real: NDArray[np.bool_] = field(repr=False)
    action: LayoutAction
    seed: int = 0

    def share(self, layer: Layer, indices: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the share of a tensor's places that is real, of some samples.

        Parameters
        ----------
        layer : Layer
            The tensor.
        indices : sequence of int
            The samples.

        Returns
        -------
        ndarray of float64, shape (samples,), or None
            ``None`` for a tensor without such an axis.
        """
        axes = self._axes(layer)
        if not axes:
            return None
        share: NDArray[np.float64] = self.real[list(indices)].mean(axis=1) ** len(axes)
        return share

    def clear(
        self,
        layers: Mapping[str, Layer],
        arrays: Mapping[str, NDArray[np.float32]],
        indices: Sequence[int],
        elements: Sequence[int],
    ) -> dict[str, NDArray[np.float32]]:
        """Set padding to zero in activations of some samples under some elements.

        Parameters
        ----------
        layers : mapping of str to Layer
            The tensors.
        arrays : mapping of str to ndarray of float32, shape (samples, elements, ...)
            Activations by tensor.
        indices : sequence of int
            The samples.
        elements : sequence of int
            The elements.

        Returns
        -------
        dict of str to ndarray of float32
            Of tensors without such an axis, the arrays themselves.
        """
        real = self._moved(indices, elements)
        cleared = dict(arrays)
        for name, array in arrays.items():
            for axis in self._axes(layers[name]):
                sides = [1] * len(layers[name].shape)
                sides[axis] = real.shape[-1]
                kept = real.reshape(*real.shape[:2], *sides)
                array = np.where(kept, array, np.float32(0))
            cleared[name] = array
        return cleared

    def clear_input(self, kept: str, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Set padding to zero in a sample of an input, or in its orbit under what moves no padding.

        Parameters
        ----------
        kept : str
            Letters of the sample's axes.
        array : ndarray, shape (..., *axes)
            The sample.
        index : int
            Which sample it is.

        Returns
        -------
        ndarray
            The array itself where none of its axes is masked.
        """
        real, ahead = self.real[index], array.ndim - len(kept)
        for axis, letter in enumerate(kept):
            if letter == self.letter and array.shape[ahead + axis] == len(real):
                sides = [1] * len(kept)
                sides[axis] = len(real)
                array = np.where(real.reshape(sides), array, array.dtype.type(0))
        return array

    def unmasked(self, layers: Mapping[str, Layer]) -> list[str]:
        """Say which tensors have padding that is not known, since their lines have another length.

        Returns
        -------
        list of str
            Notes on the run.
        """
        length, others = self.real.shape[1], {}
        for name, layer in layers.items():
            letters = "" if layer.layout == "?" else parse_layout(layer.layout).letters[1:]
            known = len(letters) == len(layer.shape) and self.letter in letters
            if known and not self._axes(layer):
                others[name] = layer.shape[letters.index(self.letter)]
        if not others:
            return []
        name, own = next(iter(others.items()))
        further = f" and {counted(len(others) - 1, 'other')}" if len(others) > 1 else ""
        return [
            f"--mask: is of {length} entries along {self.letter}, and {name}{further} of {own}: "
            "what is padding there is not known, and is measured too"
        ]

    def real_places(self, layer: Layer, indices: Sequence[int]) -> NDArray[np.float32] | None:
        """Return 1 for what is real of a tensor and 0 for padding, in kept order.

        Parameters
        ----------
        layer : Layer
            The tensor.
        indices : sequence of int
            The samples.

        Returns
        -------
        ndarray of float32, shape (samples, ...), or None
            ``None`` for a tensor without such an axis.
        """
        if not self._axes(layer):
            return None
        ones = np.ones((len(indices), 1, *layer.shape), dtype=np.float32)
        cleared = self.clear({layer.name: layer}, {layer.name: ones}, indices, [0])[layer.name]
        kept: NDArray[np.float32] = parse_layout(layer.layout).to_kept(cleared, layer.name)[:, 0]
        return kept

    def _moved(self, indices: Sequence[int], elements: Sequence[int]) -> NDArray[np.bool_]:
        """Return which entries are real, (samples, elements, L)."""
        if not self.action.moved:
            return np.repeat(self.real[list(indices), None], len(elements), axis=1)
        each = (self.action.behind(self.seed, index).moves.permutation for index in indices)
        rows = [self.real[i][taken[list(elements)]] for i, taken in zip(indices, each, strict=True)]
        return np.stack(rows)

    def _axes(self, layer: Layer) -> tuple[int, ...]:
        """Return the axes of one activation of a tensor, as it is stored, that are masked."""
        letters = parse_layout(layer.layout).letters[1:] if layer.layout != "?" else ""
        if len(letters) != len(layer.shape):
            return ()
        pairs = enumerate(zip(letters, layer.shape, strict=True))
        length = self.real.shape[1]
        return tuple(i for i, (a, n) in pairs if a == self.letter and n == length)


def check_taker(taker: Input, mask: Mask) -> None:
    """Refuse an input of other axes than the mask has, to which it cannot be fed as it is.

    Raises
    ------
    GeedError
        If it has others.
    """
    if len(taker.shape) != 2:
        shape = ", ".join("N" if i == 0 else str(n or "?") for i, n in enumerate(taker.shape))
        raise GeedError(
            f"--mask {taker.name}: is fed as (N, {mask.real.shape[1]}), but the input takes "
            f"({shape}): give its values with --feed {taker.name}=FILE and its axes with "
            f"--input-layout {taker.name}=LETTERS, and name the padded input, --mask INPUT=FILE"
        )


def make_mask(
    stated: Mapping[str, str | Path | NDArray[Any]],
    opened: Mapping[str, MovedInput | Still],
    others: Sequence[str],
    group: Group,
    options: Options,
) -> tuple[Mask | None, NDArray[np.bool_] | None]:
    """Return the mask that is stated, and what an input of the model is to be fed of it.

    Parameters
    ----------
    stated : mapping of str to str, Path or ndarray
        Masks by the input that they are of, or that takes them; an empty text for the lengths that
        ragged samples have.
    opened : mapping of str to MovedInput or Still
        The inputs that are read by their layout.
    others : sequence of str
        The other inputs.
    group : Group
        The acting group.
    options : Options
        The seed of what a sampled group draws for each sample, and the memory that there is.

    Returns
    -------
    mask : Mask or None
        ``None`` where none is stated.
    fed : ndarray of bool, shape (samples, L), or None
        For the input of that name, where the model takes the mask itself.

    Raises
    ------
    GeedError
        If several are stated, or one for an input that the model has not.
        If no input has an axis that could be padded.
        If its values do not fit.
    """
    if not stated:
        return None, None
    if len(stated) > 1:
        raise GeedError(f"--mask: give one, not {len(stated)} ({', '.join(stated)})")
    ((name, source),) = stated.items()
    if name not in opened and name not in others:
        known = [*opened, *others]
        raise GeedError(
            f"--mask {name}: no input has that name; the model has "
            f"{', '.join(known)}.{nearest(name, known)}"
        )
    lettered = {k: _padded_axis(m) for k, m in opened.items() if name in (k, *others)}
    padded = next(((k, axis) for k, axis in lettered.items() if axis), None)
    if padded is None:
        raise GeedError(
            f"--mask {name}: no input whose axes are known has an axis P or T that can be padded; "
            "state them with --input-layout"
        )
    key, (letter, length) = padded
    samples = opened[key].samples
    if isinstance(source, str) and not source:
        if samples.lengths is None:
            raise GeedError(
                f"--mask {name}: the samples of {key} are all of one length; give "
                f"--mask {name}=FILE, or leave it out"
            )
        real = mask_of(samples.lengths, length)
    else:
        real = read_mask(
            source, len(samples), length, option=f"--mask {name}", allowed=options.allowed
        )
    action = layout_action(group, parse_layout(f"N{letter}"), (length,), of_input=True)
    return Mask(letter, real, action, options.seed), real if name in others else None


def _padded_axis(opened: MovedInput | Still) -> tuple[str, int] | None:
    """Return the letter and the length of the axis of an input that may be padded."""
    kept = parse_layout(opened.layout).kept
    letter = "P" if "P" in kept else "T"
    return (letter, opened.samples.shape[kept.index(letter)]) if letter in kept else None
