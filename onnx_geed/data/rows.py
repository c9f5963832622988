"""Rows: an array, or what files hold, whose samples are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, reason_of
from onnx_geed.files import Stamp
from onnx_geed.held import array_bytes, check_held
from onnx_geed.typed import refuse_masked

__all__ = ["Beside", "Rows", "held_whole", "reading", "rows_of", "shape_text"]


class Beside(NamedTuple):
    """What has a name for labels and lies beside an array: its values, or why there are none."""

    name: str
    values: Any = None
    fault: str = ""
    place: str = " beside the samples"


@dataclass(frozen=True, eq=False)
class Rows:
    """An array whose samples are read when they are asked for.

    Parameters
    ----------
    shape : tuple of int
        Of the whole array.
    dtype : numpy dtype
        Of its values.
    read : callable
        Takes an index, a slice where there are ``lengths``, or ``...`` for all.
    labels : Beside, optional
        The array beside it that has a name for labels.
    files : callable
        Returns the files that samples are read from, as they were when they were opened.
    close : callable
        Lets go of them; no sample can be read after that.
    lengths : array_like, optional
        How long each sample is, where they are of different lengths: see ``data/ragged.py``.
    names : tuple of str, optional
        Names of the samples.
    kind : str
        What the samples are: ``array``, ``audio``, ``volumes``, ``points`` or ``sequences``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Any], NDArray[Any]]
    labels: Beside | None = None
    files: Callable[[], Sequence[Stamp]] = tuple
    close: Callable[[], None] = lambda: None
    lengths: Any = None
    names: tuple[str, ...] | None = None
    kind: str = "array"

    @property
    def count(self) -> int:
        """Number of samples; 0 where the array is a single number."""
        along = self.shape if self.lengths is None else np.shape(self.lengths)
        return along[0] if along else 0

    def called(self, index: int) -> str:
        """Name a sample in messages."""
        return self.names[index] if self.names else f"sample {index}"


def rows_of(array: Any) -> Rows:
    """Return the rows of an array in memory.

    Parameters
    ----------
    array : array_like, shape (N, ...)
        Samples first.

    Returns
    -------
    Rows
    """
    refuse_masked("--data array", array)
    values = np.asarray(array)
    return Rows(values.shape, values.dtype, values.__getitem__)


def held_whole(rows: Rows, where: str, allowed: int) -> NDArray[Any]:
    """Read an array as a whole, and close it.

    Parameters
    ----------
    rows : Rows
        The array.
    where : str
        The option and its value, for messages.
    allowed : int
        Bytes that it may take.

    Returns
    -------
    ndarray

    Raises
    ------
    GeedError
        If it takes more.
    """
    try:
        check_held(where, array_bytes(rows.shape, rows.dtype), allowed)
        return np.asarray(rows.read(...))
    finally:
        rows.close()


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape as messages show it, such as ``3×224×224``."""
    return "×".join("?" if d is None else str(d) for d in shape) or "a single number"


@contextmanager
def reading(where: str, cure: str = "") -> Iterator[None]:
    """Turn every error of reading into one line.

    Of damaged files NumPy, HDF5 and the packers raise whatever they like, down to errors of syntax.
    """
    try:
        yield
    except GeedError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if "pickle" in reason.lower() or "objects in dtype" in reason:
            cure = "it holds pickled Python objects, which are refused; save plain numbers"
        elif "filter" in reason.lower():
            cure = "its compression needs a plugin: the package hdf5plugin has many"
        raise GeedError(f"{where}: cannot be read ({reason}); {cure or 'write it again'}") from None
