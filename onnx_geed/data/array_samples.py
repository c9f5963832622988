"""Arrays as samples: do they fit the model's input, and one sample as a group acts on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.images import resize_and_crop
from onnx_geed.data.preprocess import Preprocess
from onnx_geed.data.ragged import ragged_axes
from onnx_geed.data.rows import Rows, shape_text
from onnx_geed.errors import GeedError
from onnx_geed.groups import LETTERS, parse_layout
from onnx_geed.held import ALLOWED

__all__ = ["check_array", "has_plane", "misfit", "reader_of_array", "stored_whole"]


def has_plane(layout: str) -> bool:
    """Whether samples of a layout are pictures: what is resized, cropped and scaled by 1/255."""
    return "H" in layout and "W" in layout


def check_array(
    rows: Rows,
    where: str,
    takes: tuple[int | None, ...],
    layout: str,
    dtype: np.dtype[Any],
    name: str | None = None,
) -> None:
    """Make sure that an array can be samples of an input.

    Parameters
    ----------
    rows : Rows
        The array.
    where : str
        The option and its value, for messages.
    takes : tuple of int or None
        The input without its batch axis, in its own layout.
    layout : str
        Its layout.
    dtype : numpy dtype
        What it takes.
    name : str, optional
        The input's name, where there are several arrays.

    Raises
    ------
    GeedError
        If its values are no numbers, or none that the input takes.
        If it has not the input's number of axes.
        If it is empty.
    """
    found, rank = rows.dtype, len(takes) + 1
    if found.kind in "OSUV":
        raise GeedError(f"{where}: holds {found} values, not numbers; save uint8 or float32")
    pixels = has_plane(layout) and dtype.kind == "f"
    if pixels and found.kind in "iu" and found != np.uint8:
        raise GeedError(
            f"{where}: {found} values: their scale is unknown, and a group does not act on token "
            "ids or labels; save pixels as uint8 (scaled by 1/255) or float32 (taken as they are)"
        )
    if found.kind not in ("uf" if pixels else "biuf"):
        raise GeedError(f"{where}: {found} values; save uint8 or float32")
    if len(rows.shape) != rank and not _is_plain(rows.shape, takes, layout):
        one = len(rows.shape) == rank - 1
        wanted = f"(N, {', '.join('?' if d is None else str(d) for d in takes)})"
        raise GeedError(
            f"{where}: an array of {shape_text(rows.shape)}, the model takes {wanted}: "
            + ("add an axis for the samples" if one else f"reshape it to {rank} axes")
            + _in_a_row(rows, layout, rank, name)
        )
    if 0 in rows.shape:
        raise GeedError(f"{where}: an array of {shape_text(rows.shape)} holds no samples")


def _in_a_row(rows: Rows, layout: str, rank: int, name: str | None) -> str:
    """Return how samples of different lengths are given, where an array may be such samples."""
    axes = ragged_axes(layout)
    if name is None or not axes or len(rows.shape) != rank - len(axes):
        return ""
    return f", or store the samples' lengths along {layout[1 + axes[0]]} as {name}_lengths"


def _is_plain(shape: tuple[int, ...], takes: tuple[int | None, ...], layout: str) -> bool:
    """Whether an array goes without the axis of its one channel: (N, H, W), or (N, T) of sound."""
    if "C" not in layout or len(shape) != len(layout) - 1:
        return False
    images = len(layout) == 4 and has_plane(layout)
    return images or (len(layout) == 3 and "T" in layout and takes[layout.index("C") - 1] == 1)


def reader_of_array(
    rows: Rows,
    where: str,
    layout: str,
    preprocess: Preprocess,
    dtype: np.dtype[Any],
    allowed: int = ALLOWED,
) -> Callable[[int], NDArray[Any]]:
    """Return a function that reads a sample as a group acts on it: its axes in kept order.

    Parameters
    ----------
    rows : Rows
        An array that :func:`check_array` let pass.
    where : str
        The option and its value, for messages.
    layout : str
        The input's layout.
    preprocess : Preprocess
        Resize, crop and channels are applied.
    dtype : numpy dtype
        What samples are: float32, or a type of whole numbers.
    allowed : int
        Bytes that one may take while it is resized.

    Returns
    -------
    callable
        Takes an index. It raises GeedError where values are of another type than those of the first
        sample, or no whole numbers, but should be.
    """
    # (N, H, W) for one channel; the two stand in the order that the model has them.
    plain = len(rows.shape) < len(layout)
    inner = parse_layout(layout.replace("C", "") if plain else layout)
    channels, plane = "C" in layout, has_plane(layout)
    grey = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # as images are turned grey

    def read(index: int) -> NDArray[Any]:
        raw = rows.read(index)
        if raw.dtype != rows.dtype:
            raise GeedError(
                f"{where}: {rows.called(index)} holds {raw.dtype} values, but {rows.called(0)} "
                f"holds {rows.dtype}; save all as one type"
            )
        if dtype.kind != "f":
            x: NDArray[Any] = _whole(raw, dtype, f"{where}: {rows.called(index)}")
        elif raw.dtype == np.uint8 and plane:
            x = _scaled(raw)
        else:
            with np.errstate(over="ignore"):  # infinity is told with the sample's name
                x = raw.astype(np.float32)
        if x.ndim == len(inner.letters) - 1:
            x = inner.moved_last(x)
        if plain:
            x = x[None]
        if channels and plane:
            if preprocess.channels == "grey" and x.shape[0] == 3:
                x = np.tensordot(grey, x, axes=1)[None]
            elif preprocess.channels in ("RGB", "BGR") and x.shape[0] == 1:
                x = np.repeat(x, 3, axis=0)
        if plane and dtype.kind == "f":
            return resize_and_crop(
                x, preprocess, name=f"{where}: {rows.called(index)}", allowed=allowed
            )
        return np.ascontiguousarray(x)

    return read


def stored_whole(
    array: NDArray[Any], where: str, layout: str, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Bring an array to what a model's input takes as it is, all samples at once.

    Parameters
    ----------
    array : ndarray
        An array that :func:`check_array` let pass.
    where : str
        The option and its value, for messages.
    layout : str
        The input's layout.
    dtype : numpy dtype
        float32, or the input's type of whole numbers.

    Returns
    -------
    ndarray
        In the input's layout. Floats are left in their precision.

    Raises
    ------
    GeedError
        If values are no whole numbers, but should be.
    """
    if array.ndim < len(layout):
        array = np.expand_dims(array, layout.index("C"))
    if dtype.kind != "f":
        return _whole(array, dtype, where)
    return _scaled(array) if array.dtype == np.uint8 and has_plane(layout) else array


def _scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels as float32 from 0 to 1."""
    x = pixels.astype(np.float32)
    x /= np.float32(255)
    return x


def _whole(raw: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Return values as whole numbers of a type, which hold all of them."""
    kind = "true or false" if dtype.kind == "b" else f"whole numbers ({dtype})"
    takes = f"the model takes {kind}"
    if raw.dtype.kind == "f":
        odd = raw[~(np.isfinite(raw) & (raw == np.rint(raw)))]
        if odd.size:
            raise GeedError(f"{where} holds {odd.flat[0]}, but {takes}; change these values")
    if raw.size and raw.dtype != dtype:
        least, most = (0, 1) if dtype.kind == "b" else _range(dtype)
        for value in (raw.min(), raw.max()):
            if not least <= int(value) <= most:
                raise GeedError(
                    f"{where} holds {int(value)}, but {takes}, from {least} to {most}; change "
                    "these values"
                )
    return raw.astype(dtype)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def misfit(
    shape: Sequence[int],
    wanted: Sequence[int | None],
    layout: str,
    preprocess: Preprocess,
    array: tuple[int, ...],
) -> str:
    """Say what to do where a sample does not fit the model; nothing where it does.

    Parameters
    ----------
    shape : sequence of int
        Of a sample in kept order.
    wanted : sequence of int or None
        The input without its batch axis, in kept order.
    layout : str
        Its layout.
    preprocess : Preprocess
        What was done to it.
    array : tuple of int
        Shape of the array that it is of; empty for images.
    """
    parsed = parse_layout(layout)
    wrong = [k for k, (w, s) in enumerate(zip(wanted, shape, strict=True)) if w not in (None, s)]
    if not wrong:
        return ""
    own = parsed.stored(wanted)
    letter, takes = parsed.kept[wrong[0]], wanted[wrong[0]]
    if len(array) == len(own) and all(w in (None, s) for w, s in zip(own, array, strict=True)):
        return "one sample? Add an axis for the samples in front"
    sides = [s if w is None else w for s, w in zip(shape[-2:], wanted[-2:], strict=True)]
    size = "x".join(map(str, sides))
    resized = preprocess.resize is not None or preprocess.crop is not None
    if letter == "C":
        whole = len(array) == len(own) + 1
        if whole and layout[1] == "C" and array[-1] == takes:
            return "arrays are in the model's own layout: move the last axis to place 1"
        if whole and layout[-1] == "C" and array[1] == takes:
            return "arrays are in the model's own layout: move axis 1 to the end"
        if has_plane(layout) and (takes, shape[0]) in ((1, 3), (3, 1)):
            asked = f"channels={'grey' if takes == 1 else 'RGB'}"
            if len(wrong) > 1 and not resized:
                asked = f"'{asked} resize={size}'"
            if whole or not array or len(wrong) == 1:
                return f"--preprocess {asked} converts them"
            # Such as series, for which a channel and a line are height and width.
            return (
                f"an array of three axes is read as grey images, N×H×W: give one of "
                f"N×{shape_text(own)}; if they are grey images, --preprocess {asked} converts them"
            )
        return f"give samples of {takes} channel{'s' * (takes != 1)}"
    if letter not in "HW":
        if letter == "D":
            return f"give samples of depth {takes}"
        return f"give samples of {takes} along {letter}, {LETTERS[letter]}"
    if resized:
        return "change resize or crop to fit"
    return f"resize them, as with --preprocess 'resize={size}'"
