"""DATA in its many spellings: samples before the action, their names and labels, a fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.copies import Copy, read_by_copy
from onnx_geed.data.array_samples import check_array, has_plane, misfit, reader_of_array
from onnx_geed.data.fasta import FASTA, open_fasta
from onnx_geed.data.fetched import fetched
from onnx_geed.data.folders import kind_of_folder, open_folder
from onnx_geed.data.image_folders import check_channels, reader_of_images
from onnx_geed.data.labels import labels_of
from onnx_geed.data.named_arrays import Asked, open_mapping
from onnx_geed.data.paths import is_kind
from onnx_geed.data.preprocess import Preprocess, preprocess_to_json
from onnx_geed.data.ragged import padded, split
from onnx_geed.data.rows import Beside, Rows, reading, rows_of, shape_text
from onnx_geed.data.sources import open_rows
from onnx_geed.errors import GeedError, shown
from onnx_geed.files import Stamp
from onnx_geed.groups import parse_layout
from onnx_geed.held import ALLOWED, array_bytes, check_held

__all__ = [
    "MARK_BYTES",
    "Samples",
    "fingerprint_of",
    "mark_of",
    "mark_of_spelled",
    "open_samples",
    "spelled",
]

#: Bytes of what tells a sample from others.
MARK_BYTES = 8

# Of each sample, while it is drawn which ones are taken.
_DRAWN = 16


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples on which a group acts; each is decoded when it is needed.

    Parameters
    ----------
    source : str
        Where they come from.
    kind : {"array", "images", "audio", "volumes", "points", "sequences"}
        Their source: an array, or files of a kind.
    shape : tuple of int
        Shape of one sample when the group acts on it, channels first and the plane last: (C, H, W),
        (H, W), (C, D, H, W), (C, T), (P, X), ..
    names : tuple of str or None
        Their names.
    labels : tuple of int or str, or None
        Their labels.
    preprocess : Preprocess
        Preprocessing; the part after the action is applied by :meth:`finish`.
    dtype : numpy dtype
        dtype of the samples: float32, or the model's type of whole numbers.
    lengths : tuple of int or None
        If samples are padded with zeros: the number of real entries of each along P (or T, if there
        is no P). These come first.
    unused : Beside or None
        The array beside the data that has a name for labels and is none, and why.
    unscaled : bool
        Whether they are bytes that are taken as 0 to 255, since only pictures are scaled.
    """

    source: str
    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = field(repr=False)
    labels: tuple[int | str, ...] | None = field(repr=False)
    preprocess: Preprocess
    _count: int = field(repr=False)
    _read: Callable[[int], NDArray[Any]] = field(repr=False)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    lengths: tuple[int, ...] | None = field(repr=False, default=None)
    unused: Beside | None = field(repr=False, default=None)
    unscaled: bool = field(repr=False, default=False)
    _channels: bool = field(repr=False, default=True)
    _cure: str = field(repr=False, default="")
    _files: Callable[[], Sequence[Stamp]] = field(repr=False, default=tuple)
    _again: Callable[[], Samples] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Read a sample.

        Parameters
        ----------
        index : int
            Which; counted from the end if negative.

        Returns
        -------
        ndarray of ``dtype``
            Of the shape of all samples. Images have values in [0, 1].

        Raises
        ------
        IndexError
            If there is no such sample.
        GeedError
            If it cannot be decoded.
            If its shape is not that of the first sample.
            If it contains NaN or infinity.
        """
        index = index + self._count if index < 0 else index
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        sample = self._read(index)
        if sample.shape != self.shape:
            raise GeedError(
                f"--data {self.source}: samples of different sizes: {self._name(0)} has "
                f"{shape_text(self.shape)}, but {self._name(index)} has "
                f"{shape_text(sample.shape)}; " + self._cure
            )
        finite = np.isfinite(sample)
        if not finite.all():
            raise GeedError(
                f"--data {self.source}: {self._name(index)} holds NaN or infinity "
                f"({int((~finite).sum())} of {finite.size} values); leave it out or repair it"
            )
        return sample

    @checked
    def finish(self, x: NDArray[Any]) -> NDArray[Any]:
        """Apply the preprocessing after the action: channel order, scale, mean and std.

        Parameters
        ----------
        x : ndarray of ``dtype``, shape (..., C, H, W), (..., P, X), ..
            Samples, or arrays of samples, in kept order.

        Returns
        -------
        ndarray of ``dtype``
            Of the same axes.
        """
        if self.dtype.kind != "f":
            return np.ascontiguousarray(x)
        ahead = x.ndim - len(self.shape)
        return self.preprocess.finish(x, ahead if self._channels else None)

    @checked
    def fingerprint(self, indices: Sequence[int]) -> str:
        """Return a fingerprint of the samples that go into a model.

        Parameters
        ----------
        indices : sequence of int
            The samples, in order.

        Returns
        -------
        str
            SHA-256 in hexadecimal digits, from the decoded samples' values and shapes and from the
            preprocessing.

        Raises
        ------
        GeedError
            If one is not the number of a sample.
        """
        digest = fingerprint_of(self.preprocess)
        for index in indices:
            if not 0 <= index < len(self):
                raise GeedError(f"indices: there are {len(self)} samples, found {shown(index)}")
            fingerprint_of(self[index], digest)
        return digest.hexdigest()

    def files(self) -> Sequence[Stamp]:
        """Return the files that were read and may be read again, with their state at that time.

        Arrays that were read into memory as a whole have none.
        """
        return self._files()

    def again(self) -> Samples:
        """Close these samples, and open the same data again."""
        return self if self._again is None else self._again()

    @checked
    def after(self, count: int) -> Samples:
        """Return the same samples, numbered as if a number of unreadable ones came before.

        To read one of those is an ``IndexError``.

        Raises
        ------
        GeedError
            If the number is negative.
        """
        if count < 0:
            raise GeedError(f"count {shown(count)}: must not be negative")
        names = self.names
        named = None if names is None else (*([""] * count), *names)

        def read(index: int) -> NDArray[Any]:
            if index < count:
                raise IndexError(f"sample {index}: those before {count} are not here")
            return self._read(index - count)

        return replace(self, names=named, labels=None, _count=self._count + count, _read=read)

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else f"sample {index}"


def fingerprint_of(
    part: Preprocess | NDArray[Any], digest: hashlib._Hash | None = None
) -> hashlib._Hash:
    """Begin a fingerprint with preprocessing, or go on with a sample.

    Parameters
    ----------
    part : Preprocess or ndarray
        The part to add: values of floats as float32, of others as they are.
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
    for piece in spelled(part):
        digest.update(piece)
    return digest


def spelled(sample: NDArray[Any]) -> tuple[bytes, ...]:
    """Return what is hashed of a sample: its shape and type, and its values.

    Parameters
    ----------
    sample : ndarray
        The sample.

    Returns
    -------
    tuple of bytes
        The same on every machine: floats are float32, and numbers little-endian.
    """
    whole = sample.dtype.kind != "f"
    values = np.ascontiguousarray(sample, sample.dtype.newbyteorder("<") if whole else "<f4")
    return f"{sample.dtype.name if whole else ''}{values.shape!r}".encode(), values.tobytes()


def mark_of(sample: NDArray[Any]) -> str:
    """Return 16 hexadecimal digits that tell a sample from others: BLAKE2b of values and shape."""
    return mark_of_spelled(spelled(sample))


def mark_of_spelled(pieces: Iterable[bytes]) -> str:
    """Return what :func:`mark_of` returns, from what :func:`spelled` returned."""
    digest = hashlib.blake2b(digest_size=MARK_BYTES)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _told(samples: Samples, copy: Copy) -> Samples:
    """Return samples that say the address that was given, in place of their copy."""
    called = f"{copy.address}{copy.key}"
    return replace(samples, source=called, _read=copy.reader(samples._read))


@checked
@read_by_copy(fetched, _told)
def open_samples(
    source: str | Path | NDArray[Any] | Mapping[str, Any],
    *,
    input_shape: Sequence[int | None],
    input_layout: str,
    preprocess: Preprocess | None = None,
    labels: str | Path | NDArray[Any] | Sequence[Any] | None = None,
    name: str | None = None,
    dtype: Any = "float32",
    masked: bool = False,
    allowed: int = ALLOWED,
    others: Mapping[str, bool] = MappingProxyType({}),
) -> Samples:
    """Open data in any of the supported forms.

    Parameters
    ----------
    source : str, Path, ndarray or mapping of str to ndarray
        A folder of images, of recordings (``.wav``), volumes (``.nii``), points (``.xyz``,
        ``.ply``) or arrays (``.npy``), one file a sample; ``.npy``; ``.npz`` or ``file.npz:key``;
        ``file.h5:/dataset``; an idx file, plain or ``.gz``; ``.fasta``; ``module:function``, called
        without arguments; an array, or several by name; files and folders by their address too,
        such as ``s3://bucket/photos``. Arrays are in the model's own layout,
        samples first; (N, H, W) or (N, T) will do where there is one channel. uint8 is scaled by
        1/255 for inputs with a plane, other numbers are taken as they are.
    input_shape : sequence of int or None
        Shape of the model's input without its batch axis, in its own layout; None for a free
        length.
    input_layout : str
        Its layout, as ``onnx_geed.model.input_layout`` returns it.
    preprocess : Preprocess, optional
        Preprocessing. It can also resize and crop arrays.
    labels : str, Path or sequence, optional
        One label for each sample, or a file of them: any array as above, or ``.txt``, one a line.
        By default the classes that a folder's sub-folders name, or the array beside it that is
        called ``y`` or ``labels``.
    name : str, optional
        The input's name: where there are several arrays and none is named, that of this name is
        taken.
    dtype : str or numpy dtype
        Type of the input: samples are float32 for floats, else they have this type.
    masked : bool
        Whether a mask tells the model what is padding. Then recordings, sequences and other lines
        of different lengths are padded; otherwise they are refused. Points are always padded.
    allowed : int
        Bytes that compressed data, one sample, or labels may use in memory.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name, which
        is then neither labels nor lengths.

    Returns
    -------
    Samples

    Raises
    ------
    GeedError
        If there are no such data, or they are empty or cannot be read.
        If the input does not take such numbers.
        If they do not fit the model's input.
        If preprocessing does not fit the model's layout or channels.
        If there is not one label for each sample.
        If something needs more memory than allowed.
    """
    layout, takes = parse_layout(input_layout), tuple(input_shape)
    if len(takes) != len(layout.letters) - 1:
        raise GeedError(
            f"input_shape {shown(takes)}: {input_layout} has {len(layout.letters) - 1} axes beside "
            "the samples; give the length of each, or None"
        )
    wanted = tuple(takes[axis] for axis in layout.planes_last)
    try:
        held = np.dtype(dtype)
    except Exception:  # also of another's class
        raise GeedError(f"dtype {shown(dtype)}: is no type of numbers; give float32") from None
    held = np.dtype(np.float32) if held.kind == "f" else held
    chosen = preprocess or Preprocess()
    text = str(source) if isinstance(source, (str, Path)) else "array"
    where = f"--data {text}"
    if not text:
        raise GeedError("--data is empty: give a folder, a file, or module:function")
    channels = "C" in layout.letters
    _check_preprocess(chosen, input_layout, held)
    check_channels(chosen, wanted[0] if channels else None, input_layout)
    asked = Asked(where, name=name, allowed=allowed, others=others)
    rows, read = _opened(source, text, takes, input_layout, chosen, held, masked, asked)
    known, unused = labels_of(labels, rows.labels, rows.count, text, allowed)
    first = read(0)
    array = () if rows.kind == "images" else rows.shape
    if cure := misfit(first.shape, wanted, input_layout, chosen, array):
        taker = "the model" if name is None else f"input {name!r}"
        raise GeedError(
            f"{where}: samples of {shape_text(layout.stored(first.shape))}, but {taker} takes "
            f"{shape_text(takes)} ({input_layout}): {cure}"
        )
    # As many means as channels: better said now than after the session has started.
    chosen.finish(first, 0 if channels else None)

    def again() -> Samples:
        rows.close()
        return open_samples(
            source,
            input_shape=input_shape,
            input_layout=input_layout,
            preprocess=preprocess,
            name=name,
            dtype=dtype,
            masked=masked,
            allowed=allowed,
            others=others,
        )

    return Samples(
        source=text,
        kind=rows.kind,
        shape=first.shape,
        names=rows.names,
        labels=known,
        unused=unused,
        unscaled=rows.dtype == np.uint8 and held.kind == "f" and not has_plane(input_layout),
        preprocess=chosen,
        dtype=held,
        lengths=None if rows.lengths is None else tuple(rows.lengths.tolist()),
        _count=rows.shape[0],
        _read=read,
        _channels=channels,
        _cure=_cure(input_layout),
        _files=rows.files,
        _again=again,
    )


def _opened(
    source: Any,
    text: str,
    takes: tuple[int | None, ...],
    layout: str,
    preprocess: Preprocess,
    dtype: np.dtype[Any],
    masked: bool,
    asked: Asked,
) -> tuple[Rows, Callable[[int], NDArray[Any]]]:
    """Open the data, and make what reads one sample as a group acts on it."""
    where, path, allowed = asked.where, isinstance(source, (str, Path)), asked.allowed
    if path and os.path.isdir(text):
        kind, names = kind_of_folder(text, layout)
        if kind.kind == "images":
            return reader_of_images(text, names, takes, layout, preprocess, dtype, allowed)
        rows = open_folder(text, kind, names, layout, masked=masked, allowed=allowed)
    elif path and is_kind(text, FASTA) and os.path.isfile(text):
        rows = open_fasta(Path(text), layout, where, masked=masked, allowed=allowed)
    elif path:
        rows = open_rows(text, name=asked.name, allowed=allowed, others=asked.others)
        rows = rows if rows.lengths is None else split(rows, layout, where)
    else:
        with reading(where, "give an array of numbers"):
            several = isinstance(source, Mapping)
            rows = open_mapping(source, asked, "it") if several else rows_of(source)
        rows = rows if rows.lengths is None else split(rows, layout, where)
    if rows.lengths is not None:
        rows = padded(rows, layout, takes, where)
    check_array(rows, where, takes, layout, dtype, asked.name)
    if path:
        check_held(where, _DRAWN * rows.count, 2 * allowed, f"it has {rows.count:,} samples")
        # As it is read, and as float32.
        one = array_bytes(rows.shape[1:], rows.dtype) + array_bytes(rows.shape[1:], dtype)
        check_held(f"{where}: one sample", one, allowed, "give smaller ones, or raise --memory")
    return rows, reader_of_array(rows, where, layout, preprocess, dtype, allowed)


def _check_preprocess(preprocess: Preprocess, layout: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is for pictures, or for floats, where samples are none."""
    stated = json.loads(preprocess_to_json(preprocess))
    pictures = [key for key in ("resize", "crop", "channels") if key in stated]
    if pictures and not has_plane(layout):
        raise GeedError(
            f"preprocess {pictures[0]}={stated[pictures[0]]}: is for inputs with a plane (H and "
            f"W), but this one is {layout}; leave it out"
        )
    if stated and dtype.kind != "f":
        key, value = next(iter(stated.items()))
        raise GeedError(
            f"preprocess {key}={value}: the model takes whole numbers ({dtype}), which are fed as "
            "they are; leave it out"
        )


def _cure(layout: str) -> str:
    """Say what to do with samples of different sizes."""
    if has_plane(layout):
        return "resize them to one size, as with --preprocess 'resize=256 crop=224'"
    if "T" in layout:
        return "cut them to one length, or give the model's mask with --mask NAME=FILE"
    return "give all the same axes"
