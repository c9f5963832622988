"""DATA in its many spellings: samples before the action, their names and labels, a fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.images import decode, image_paths, resize_and_crop
from onnx_geed.data.preprocess import Preprocess, preprocess_to_json
from onnx_geed.data.sources import Rows, open_rows, rows_of, shape_text
from onnx_geed.errors import GeedError
from onnx_geed.files import Stamp, stamp
from onnx_geed.groups import parse_layout

__all__ = ["Samples", "fingerprint_of", "mark_of", "open_samples"]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as a group acts on them: decoded one by one when they are asked for.

    Parameters
    ----------
    source : str
        Where they come from.
    kind : {"array", "images"}
        Whether they come from an array or from image files.
    shape : tuple of int
        Of one sample as a group acts on it, channels first and the plane last: (C, H, W), (H, W),
        (C, D, H, W) or (C, T, H, W).
    names : tuple of str or None
        Their names.
    labels : tuple of int or str, or None
        Their labels.
    preprocess : Preprocess
        Preprocessing; the part after the action is applied by :meth:`finish`.
    """

    source: str
    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = field(repr=False)
    labels: tuple[int | str, ...] | None = field(repr=False)
    preprocess: Preprocess
    _count: int = field(repr=False)
    _read: Callable[[int], F32] = field(repr=False)
    _channels: bool = field(repr=False, default=True)
    _files: Callable[[], Sequence[Stamp]] = field(repr=False, default=tuple)
    _again: Callable[[], Samples] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return self._count

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples' values."""
        return np.dtype(np.float32)

    def __getitem__(self, index: int) -> F32:
        """Read a sample.

        Parameters
        ----------
        index : int
            Which; counted from the end if negative.

        Returns
        -------
        ndarray of float32
            Of the shape of all samples, channels first. Images have values in [0, 1].

        Raises
        ------
        IndexError
            If there is no such sample.
        GeedError
            If it cannot be decoded.
            If its shape is not that of the first sample.
            If it holds NaN or infinity.
        """
        index = index + self._count if index < 0 else index
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        sample = self._read(index)
        if sample.shape != self.shape:
            raise GeedError(
                f"--data {self.source}: samples of different sizes: {self._name(0)} has "
                f"{shape_text(self.shape)}, {self._name(index)} has {shape_text(sample.shape)}; "
                "bring them to one size, as with --preprocess 'resize=256 crop=224'"
            )
        finite = np.isfinite(sample)
        if not finite.all():
            raise GeedError(
                f"--data {self.source}: {self._name(index)} holds NaN or infinity "
                f"({int((~finite).sum())} of {finite.size} values); leave it out or mend it"
            )
        return sample

    def finish(self, x: F32) -> F32:
        """Apply the preprocessing after the action: channel order, scale, mean and std.

        Parameters
        ----------
        x : ndarray of float32, shape (..., C, H, W)
            Samples, or arrays of samples, channels first.

        Returns
        -------
        ndarray of float32
            Of the same layout.
        """
        ahead = x.ndim - len(self.shape)
        return self.preprocess.finish(x, ahead if self._channels else None)

    def fingerprint(self, indices: Sequence[int]) -> str:
        """Return a fingerprint of the samples that a model is fed.

        Parameters
        ----------
        indices : sequence of int
            Which samples, in order.

        Returns
        -------
        str
            SHA-256 in hexadecimal digits, of the decoded samples' values and shapes and of the
            preprocessing.
        """
        digest = fingerprint_of(self.preprocess)
        for index in indices:
            fingerprint_of(self[index], digest)
        return digest.hexdigest()

    def files(self) -> Sequence[Stamp]:
        """Return the files that were read so far and may be read again, as they were then.

        Arrays that were read into memory as a whole have none.
        """
        return self._files()

    def again(self) -> Samples:
        """Open the same data anew; this one is closed."""
        return self if self._again is None else self._again()

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else f"sample {index}"


def fingerprint_of(part: Preprocess | F32, digest: hashlib._Hash | None = None) -> hashlib._Hash:
    """Begin a fingerprint with preprocessing, or go on with a sample.

    Parameters
    ----------
    part : Preprocess or ndarray of float32
        The part to add.
    digest : hash, optional
        To which; to a new one by default.

    Returns
    -------
    hash
        SHA-256 so far.
    """
    digest = hashlib.sha256() if digest is None else digest
    if isinstance(part, Preprocess):
        digest.update(preprocess_to_json(part).encode())
        return digest
    sample = np.ascontiguousarray(part, dtype="<f4")
    digest.update(repr(sample.shape).encode())
    digest.update(sample.tobytes())
    return digest


def mark_of(sample: F32) -> str:
    """Return 16 hexadecimal digits that tell a sample from others: BLAKE2b of values and shape."""
    values = np.ascontiguousarray(sample, dtype="<f4")
    digest = hashlib.blake2b(repr(values.shape).encode(), digest_size=8)
    digest.update(values.tobytes())
    return digest.hexdigest()


def open_samples(
    source: str | Path | NDArray[Any],
    *,
    input_shape: Sequence[int | None],
    input_layout: str,
    preprocess: Preprocess | None = None,
    labels: str | Path | NDArray[Any] | Sequence[Any] | None = None,
) -> Samples:
    """Open data in any of its spellings.

    Parameters
    ----------
    source : str, Path or ndarray
        An image folder; ``.npy``; ``.npz`` or ``file.npz:key``; ``file.h5:/dataset``; an idx file,
        plain or ``.gz``; ``module:function``, called without arguments; or an array. Arrays are in
        the model's own layout, samples first; (N, H, W) will do where there is one channel. uint8
        is scaled by 1/255, floats are taken as they are.
    input_shape : sequence of int or None
        The model's input without its batch axis, in its own layout; None where it is free.
    input_layout : str
        Its layout, as ``onnx_geed.model.input_layout`` returns it.
    preprocess : Preprocess, optional
        Preprocessing. Arrays are resized and cropped too where it says so.
    labels : str, Path or sequence, optional
        One label for each sample, or a file of them: any array as above, or ``.txt``, one a line.
        By default the classes that an image folder's sub-folders name, or the array beside it
        that is called ``y`` or ``labels``.

    Returns
    -------
    Samples

    Raises
    ------
    GeedError
        If there is no such data, or none in it, or it cannot be read.
        If its numbers are neither uint8 nor floats.
        If they do not fit the model's input.
        If preprocessing does not fit the model's channels.
        If there is not one label for each sample.
    """
    wanted = tuple(input_shape[axis] for axis in parse_layout(input_layout).planes_last)
    chosen = preprocess or Preprocess()
    text = str(source) if isinstance(source, (str, Path)) else "array"
    if not text:
        raise GeedError("--data is empty: give an image folder, a file, or module:function")
    channels = "C" in input_layout
    _check_channels(chosen, wanted[0] if channels else None, input_layout)
    close: Callable[[], None] | None = None
    if isinstance(source, (str, Path)) and os.path.isdir(text):
        kind, names, read, classes, files = _images(text, wanted, input_layout, chosen)
        count = len(names)
    else:
        rows = open_rows(text) if isinstance(source, (str, Path)) else rows_of(source)
        _check_array(rows, text, wanted, input_layout)
        kind, names, classes, count = "array", None, rows.labels, rows.shape[0]
        read, files, close = (
            _reader_of_array(rows, wanted, input_layout, chosen),
            rows.files,
            rows.close,
        )
    known = _labels(labels, classes, count, text)
    first = read(0)
    cure = _misfit(first.shape, wanted, input_layout, chosen, rows.shape if names is None else ())
    if cure:
        own, takes = (_model_order(s, input_layout) for s in (first.shape, wanted))
        raise GeedError(
            f"--data {text}: samples of {shape_text(own)}, the model takes {shape_text(takes)} "
            f"({input_layout}): {cure}"
        )
    # As many means as channels: better said now than after the session has started.
    chosen.finish(first, 0 if channels else None)

    def again() -> Samples:
        if close is not None:
            close()
        return open_samples(
            source, input_shape=input_shape, input_layout=input_layout, preprocess=preprocess
        )

    return Samples(
        text, kind, first.shape, names, known, chosen, count, read, channels, files, again
    )


def _model_order(shape: Sequence[int | None], layout: str) -> tuple[int | None, ...]:
    order = parse_layout(layout).planes_last
    return tuple(shape[order.index(axis)] for axis in range(len(order)))


def _check_channels(preprocess: Preprocess, channels: int | None, layout: str) -> None:
    one = "C" not in layout
    if preprocess.channels is None or (one and preprocess.channels == "grey"):
        return
    feeds = 1 if preprocess.channels == "grey" else 3
    takes = 1 if one else channels
    if takes not in (None, feeds):
        raise GeedError(
            f"preprocess channels={preprocess.channels} feeds {feeds}, the model takes {takes}"
            + (f": write channels={'grey' if takes == 1 else 'RGB'}" if takes in (1, 3) else "")
        )


def _check_array(rows: Rows, source: str, wanted: tuple[int | None, ...], layout: str) -> None:
    where, dtype, rank = f"--data {source}", rows.dtype, len(wanted) + 1
    if dtype.kind in "OSUV":
        raise GeedError(f"{where}: holds {dtype} values, not numbers; save uint8 or float32")
    if dtype.kind in "iu" and dtype != np.uint8:
        raise GeedError(
            f"{where}: {dtype} values: their scale is unknown, and a group does not act on token "
            "ids or labels; save pixels as uint8 (scaled by 1/255) or float32 (taken as they are)"
        )
    if dtype != np.uint8 and dtype.kind != "f":
        raise GeedError(f"{where}: {dtype} values; save uint8 or float32")
    takes = f"(N, {', '.join('?' if d is None else str(d) for d in _model_order(wanted, layout))})"
    planes = rank == 4 and "C" in layout and len(rows.shape) == 3
    if len(rows.shape) != rank and not planes:
        one = len(rows.shape) == rank - 1
        raise GeedError(
            f"{where}: an array of {shape_text(rows.shape)}, the model takes {takes}: "
            + ("add an axis for the samples" if one else f"reshape it to {rank} axes")
        )
    if 0 in rows.shape:
        raise GeedError(f"{where}: an array of {shape_text(rows.shape)} holds no samples")


def _reader_of_array(
    rows: Rows, wanted: tuple[int | None, ...], layout: str, preprocess: Preprocess
) -> Callable[[int], F32]:
    """Return a function that reads a sample of an array."""
    # (N, H, W) for one channel; the two stand in the order that the model has them.
    plain = len(rows.shape) == len(wanted)
    inner = layout.replace("C", "") if plain else layout
    channels = "C" in layout
    grey = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # as images are turned grey

    def read(index: int) -> F32:
        raw = rows.read(index)
        with np.errstate(over="ignore"):  # infinity is told with the sample's name
            x = raw.astype(np.float32)
        if raw.dtype == np.uint8:
            x /= np.float32(255)
        x = parse_layout(inner).moved_last(x)
        if plain:
            x = x[None]
        if channels:
            if preprocess.channels == "grey" and x.shape[0] == 3:
                x = np.tensordot(grey, x, axes=1)[None]
            elif preprocess.channels in ("RGB", "BGR") and x.shape[0] == 1:
                x = np.repeat(x, 3, axis=0)
        return resize_and_crop(x, preprocess, name=f"sample {index}")

    return read


def _images(
    folder: str, wanted: tuple[int | None, ...], layout: str, preprocess: Preprocess
) -> tuple[
    str,
    tuple[str, ...],
    Callable[[int], F32],
    tuple[str, ...] | None,
    Callable[[], Sequence[Stamp]],
]:
    """List a folder's images, the function that reads one, their classes, and files read so far."""
    if "D" in layout or "T" in layout:
        more = "depth" if "D" in layout else "frames"
        raise GeedError(
            f"--data {folder}: images have no {more}; give an array ({', '.join(layout)})"
        )
    channels = wanted[0] if "C" in layout else 1
    if channels not in (None, 1, 3):
        raise GeedError(
            f"--data {folder}: the model takes {channels} channels, images have 1 or 3: give an "
            "array"
        )
    names = image_paths(Path(folder))
    grey = preprocess.channels == "grey" or (preprocess.channels is None and channels == 1)

    stamps: dict[int, Stamp] = {}

    def read(index: int) -> F32:
        name = f"--data {folder}: {names[index]}"
        stamps.setdefault(index, stamp(Path(folder, names[index])))
        x = decode(Path(folder, names[index]), preprocess, grey=grey, name=name)
        return x if "C" in layout else x[0]

    classes = tuple(name.split("/")[0] for name in names)
    known = classes if all("/" in name for name in names) else None
    return "images", names, read, known, lambda: list(stamps.values())


def _misfit(
    shape: tuple[int, ...],
    wanted: tuple[int | None, ...],
    layout: str,
    preprocess: Preprocess,
    array: tuple[int, ...],
) -> str:
    """Say what to do where a sample does not fit the model; nothing where it does."""
    if all(w in (None, s) for w, s in zip(wanted, shape, strict=True)):
        return ""
    channels, size = wanted[0], wanted[-2:]
    if "C" in layout and channels is not None and channels != shape[0]:
        own = _model_order(wanted, layout)
        if len(array) == len(own) and all(w in (None, s) for w, s in zip(own, array, strict=True)):
            return "one sample? Add an axis for the samples in front"
        if layout[1] == "C" and array[-1:] == (channels,):
            return "arrays are in the model's own layout: move the last axis to place 1"
        if layout[-1] == "C" and array[1:2] == (channels,):
            return "arrays are in the model's own layout: move axis 1 to the end"
        if (channels, shape[0]) in ((1, 3), (3, 1)):
            return f"--preprocess channels={'grey' if channels == 1 else 'RGB'} converts them"
        return f"give samples of {channels} channels"
    ahead = [letter for letter in layout[1:] if letter in "DT"]
    for axis, letter in enumerate(ahead, start="C" in layout):
        if wanted[axis] not in (None, shape[axis]):
            return f"give samples of {'depth' if letter == 'D' else 'length'} {wanted[axis]}"
    if preprocess.resize is not None or preprocess.crop is not None:
        return "change resize or crop to fit"
    height, width = (s if w is None else w for s, w in zip(shape[-2:], size, strict=True))
    return f"resize them, as with --preprocess 'resize={height}x{width}'"


def _labels(stated: Any, beside: Any, count: int, source: str) -> tuple[int | str, ...] | None:
    """Return labels as the user states them, else those beside the data, if they are any."""
    if stated is None:
        return None if beside is None else _classes(beside, count)[0]
    where, values = f"labels of --data {source}", stated
    if isinstance(stated, (str, Path)):
        where, values = f"--labels {stated}", _label_file(str(stated))
    labels, fault = _classes(values, count)
    if labels is None:
        raise GeedError(f"{where}: {fault}")
    return labels


def _classes(values: Any, count: int) -> tuple[tuple[int | str, ...] | None, str]:
    """Return values as classes, one a sample, or why they are none."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        array = np.empty(())
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        return None, f"{shape_text(array.shape)} labels for {count} samples: give one each"
    labels = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.tolist()]
    if all(isinstance(v, str) or _is_whole(v) for v in labels):
        return tuple(v if isinstance(v, str) else int(v) for v in labels), ""
    return None, f"{array.dtype} values that are no classes: give whole numbers or names"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _label_file(text: str) -> Any:
    if not text.lower().endswith(".txt") or not os.path.isfile(text):
        return open_rows(text, option="--labels", labels=True).read(...)
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GeedError(f"--labels {text}: cannot be read as text ({error})") from None
    values = [line.strip() for line in lines if line.strip()]
    return [int(v) for v in values] if all(v.isdecimal() for v in values) else values
