"""Masks: padding of ragged sets, which moves along with them and is left out of every measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import mask_of, read_mask
from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import Group, LayoutAction, layout_action, parse_layout
from onnx_geed.measures import Layer
from onnx_geed.model import LOST, Input, Model, data_reads, kinds_apart
from onnx_geed.run.feeds import Still
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.options import Options
from onnx_geed.text import counted

__all__ = ["Mask", "check_taker", "make_mask"]

# More than a layout has letters.
_MOST_AXES = 16

# Whose an axis is, where there are several sets.
_OURS, _THEIRS, _ANYBODYS, _NOBODYS = "ours", "theirs", "anybody's", "nobody's"


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
    others : sequence of str
        Inputs with such an axis, as long, but of other lengths in each sample.
    not_its : mapping of str to frozenset of int
        Axes of one activation that are of those, or may be, by tensor.
    """

    letter: str
    real: NDArray[np.bool_] = field(repr=False)
    action: LayoutAction
    seed: int = 0
    others: Sequence[str] = ()
    not_its: Mapping[str, frozenset[int]] = field(default_factory=dict, repr=False)

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

    def clear_input(self, name: str, kept: str, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Set padding to zero in a sample of an input, or in its orbit under what moves no padding.

        Parameters
        ----------
        name : str
            The input's name.
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
        if name in self.others:
            return array
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
        apart = [k for k, layer in layers.items() if self._axes(layer) != self._long(layer)]
        notes = []
        others = {name: own for name, own in others.items() if name not in apart}
        unknown = "what is padding there is not known, and is measured too"
        if others:
            own = next(iter(others.values()))
            notes.append(
                f"--mask: is of {length} entries along {self.letter}, and {_named(others)} of "
                f"{own}: {unknown}"
            )
        if apart:
            notes.append(
                f"--mask: {_named(apart)} may be of the set of {' or '.join(self.others)}, whose "
                f"lengths are others: {unknown}"
            )
        return notes

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
        not_its = self.not_its.get(layer.name, ())
        return tuple(axis for axis in self._long(layer) if axis not in not_its)

    def _long(self, layer: Layer) -> tuple[int, ...]:
        """Return those that have the letter and the length, of whichever set they are."""
        letters = parse_layout(layer.layout).letters[1:] if layer.layout != "?" else ""
        if len(letters) != len(layer.shape):
            return ()
        pairs = enumerate(zip(letters, layer.shape, strict=True))
        length = self.real.shape[1]
        return tuple(i for i, (a, n) in pairs if a == self.letter and n == length)


def _named(names: Iterable[str]) -> str:
    first, *more = names
    return f"{first} and {counted(len(more), 'other')}" if more else first


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
    model: Model,
    stated: Mapping[str, str | Path | NDArray[Any]],
    opened: Mapping[str, MovedInput | Still],
    others: Sequence[str],
    group: Group,
    options: Options,
) -> tuple[Mask | None, NDArray[np.bool_] | None]:
    """Return the mask that is stated, and what an input of the model is to be fed of it.

    Parameters
    ----------
    model : Model
        The model, which may call an axis of two inputs the same.
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
        If no input has an axis that could be padded, or several have and the model does not tell.
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
    lettered = {k: axis for k, m in opened.items() if (axis := _padded_axis(m))}
    if name in opened:
        lettered = {name: lettered[name]} if name in lettered else {}
    if not lettered:
        raise GeedError(
            f"--mask {name}: no input whose axes are known has an axis P or T that can be padded; "
            "state them with --input-layout"
        )
    ragged = isinstance(source, str) and not source
    key = name if name in opened else _whose(model, name, lettered, opened, ragged=ragged)
    letter, length = lettered[key]
    samples = opened[key].samples
    if ragged:
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
    apart = [
        other
        for other, own in opened.items()
        if _padded_axis(own) == (letter, length)
        and own.samples.lengths is not None
        and not np.array_equal(mask_of(own.samples.lengths, length), real)
    ]
    its = [key, name, *(other for other in opened if other not in apart)]
    not_its = _axes_apart(model, its, apart, opened, (letter, length))
    mask = Mask(letter, real, action, options.seed, apart, not_its)
    return mask, real if name in others else None


def _whose(
    model: Model,
    name: str,
    lettered: Mapping[str, tuple[str, int]],
    opened: Mapping[str, MovedInput | Still],
    *,
    ragged: bool,
) -> str:
    """Return the input whose padding an input of the model takes, which is a mask.

    Raises
    ------
    GeedError
        If it may be that of several.
    """
    fit = list(lettered)
    if ragged:  # those of one length have no padding to tell
        fit = [other for other in fit if opened[other].samples.lengths is not None] or fit
    dims = {i.name: i.type.tensor_type.shape.dim for i in model.proto.graph.input}
    axes = dims.get(name, ())
    if len(axes) == 2:
        symbol, length = axes[1].dim_param, axes[1].dim_value
        by_symbol = [k for k in fit if symbol and _symbol(dims[k], opened[k].layout) == symbol]
        by_length = [k for k in fit if not length or lettered[k][1] == length]
        fit = by_symbol or by_length or fit
    if len({_padding(opened[k], lettered[k]) for k in fit}) > 1:
        raise GeedError(
            f"--mask {name}: may be of {' or '.join(fit)}, whose padding differs: call the second "
            f"axis of {name} as the model calls that of one of them, or take --mask {fit[0]} and "
            f"--feed {name}=FILE"
        )
    return fit[0]


def _padding(opened: MovedInput | Still, axis: tuple[str, int]) -> tuple[Any, ...]:
    """Return what tells the padding of one input from that of another."""
    lengths = opened.samples.lengths
    return (*axis, None if lengths is None else tuple(lengths))


def _symbol(dims: Any, layout: str) -> str:
    """Return what the model calls the axis of an input that may be padded."""
    letters = parse_layout(layout).letters
    axis = letters.index("P" if "P" in letters else "T")
    return dims[axis].dim_param if axis < len(dims) else ""


def _axes_apart(
    model: Model,
    its: Sequence[str],
    apart: Sequence[str],
    opened: Mapping[str, MovedInput | Still],
    axis: tuple[str, int],
) -> dict[str, frozenset[int]]:
    """Return the axes of one activation that are of other sets than a mask, or may be, by tensor.

    Parameters
    ----------
    model : Model
        The model.
    its, apart : sequence of str
        The inputs that the mask is of, and those of other sets.
    opened : mapping of str to MovedInput or Still
        The inputs that are read by their layout.
    axis : tuple of (str, int)
        Letter and length of the axis that is padded.

    Notes
    -----
    The model's names of axes tell, else their letters, followed from the inputs. Where neither
    does, an axis may be of any set that a tensor is worked out from; but what has no axis of a set
    left, such as the sum over it, lends none to what is worked out from a tensor that has one.
    """
    if not apart:
        return {}
    graph, (letter, length) = model.proto.graph, axis
    infos = {i.name: i.type.tensor_type.shape.dim for i in (*graph.input, *graph.output)}
    infos |= {i.name: i.type.tensor_type.shape.dim for i in graph.value_info}
    theirs = {_symbol(infos[name], opened[name].layout) for name in apart} - {""}
    ours = {dim.dim_param for name in its if name in infos for dim in infos[name]} - {""}
    layouts = dict.fromkeys(its, f"N{letter}") | {k: one.layout for k, one in opened.items()}
    shapes = dict.fromkeys(its, (length,)) | {k: one.row_shape for k, one in opened.items()}
    kinds = kinds_apart(model, layouts, shapes, apart, letter)
    by_kind = {letter: _OURS, LOST: _ANYBODYS}

    def owners(name: str) -> list[str]:
        """Return whose each axis of one activation is, as far as it is told."""
        dims, own = infos.get(name, ()), kinds.get(name, ())
        if not dims and not own:
            return [_ANYBODYS] * _MOST_AXES
        result = [by_kind.get(kind, _NOBODYS) for kind in own[1:]]
        if dims and len(dims) != len(own):
            result = [_NOBODYS if dim.dim_value % length else _ANYBODYS for dim in dims[1:]]
        for i, dim in enumerate(dims[1:]):
            if dim.dim_param in theirs ^ ours:
                result[i] = _OURS if dim.dim_param in ours else _THEIRS
        return result

    whose = {name: owners(name) for name in dict.fromkeys([*infos, *kinds])}
    behind, doubtful = set(apart), set(apart)
    for node in graph.node:
        read = [name for name in data_reads(node) if name in kinds]
        if behind.isdisjoint(read):
            continue
        made = [name for name in node.output if name]
        behind.update(made)
        # A set that is made of vectors may be any of those that they come from.
        having = [name for name in read if {*whose[name]} - {_NOBODYS}]
        if not having or not doubtful.isdisjoint(having):
            doubtful.update(k for k in made if {*whose[k]} - {_NOBODYS} != {_OURS})
    found = {
        name: frozenset(
            i
            for i, owner in enumerate(owned)
            if owner == _THEIRS or (name in doubtful and owner != _OURS)
        )
        for name, owned in whose.items()
    }
    return {name: axes for name, axes in found.items() if axes}


def _padded_axis(opened: MovedInput | Still) -> tuple[str, int] | None:
    """Return the letter and the length of the axis of an input that may be padded."""
    kept = parse_layout(opened.layout).kept
    letter = "P" if "P" in kept else "T"
    return (letter, opened.samples.shape[kept.index(letter)]) if letter in kept else None
