"""Several inputs of a model: which arrays of DATA are theirs, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.array_samples import stored_whole
from onnx_geed.data.fetched import is_folder
from onnx_geed.data.named_arrays import Asked, open_mapping
from onnx_geed.data.preprocess import Preprocess
from onnx_geed.data.rows import Rows, held_whole, reading, rows_of
from onnx_geed.data.samples import Samples
from onnx_geed.data.sources import names_in, open_rows
from onnx_geed.errors import GeedError, known_names, nearest
from onnx_geed.groups import parse_layout
from onnx_geed.held import ALLOWED, array_bytes, check_held
from onnx_geed.text import counted

__all__ = ["array_by_layout", "array_named", "check_counts", "named_inputs"]

_NONE: Mapping[str, bool] = MappingProxyType({})


def named_inputs(source: Any, moved: Sequence[str], others: Sequence[str] = ()) -> tuple[str, ...]:
    """Say which inputs of a model DATA hold an array for, that is called as the input is.

    Parameters
    ----------
    source : str, Path, ndarray or mapping of str to ndarray
        DATA, as :func:`onnx_geed.data.open_samples` takes them.
    moved : sequence of str
        The inputs that the group moves. Where they are several, each needs an array; where it is
        one, it may be any that DATA offer.
    others : sequence of str
        The other inputs.

    Returns
    -------
    tuple of str
        Those inputs that have an array of their name.

    Raises
    ------
    GeedError
        If several inputs are moved, and one has no array of its name.
        If DATA cannot be read.
    """
    text = str(source) if isinstance(source, str | Path) else "array"
    if isinstance(source, Mapping):
        names: Sequence[str] = [str(name) for name in source]
    else:
        names = names_in(text) if isinstance(source, str | Path) else ()
    missing = [name for name in moved if name not in names]
    if len(moved) > 1 and missing:
        asked = f"--data {text}: the group moves {known_names(moved)} together"
        if not names:
            raise GeedError(
                f"{asked}, but this is one array: give an .npz or HDF5 file with one array per "
                "input, named as the inputs"
            )
        raise GeedError(
            f"{asked}, but there is no array {missing[0]!r}: it holds {', '.join(names[:8])}; "
            f"name the arrays as the inputs.{nearest(missing[0], names)}"
        )
    return tuple(name for name in (*moved, *others) if name in names)


def array_named(
    source: Any, name: str, allowed: int = ALLOWED, others: Mapping[str, bool] = _NONE
) -> NDArray[Any]:
    """Return the array of DATA that is called as an input, as it is, for an input that is fed.

    Parameters
    ----------
    source : str, Path or mapping of str to ndarray
        DATA.
    name : str
        One of the names that :func:`named_inputs` returned.
    allowed : int
        Bytes that it may take.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name.

    Raises
    ------
    GeedError
        If it cannot be read, or holds objects.
        If its samples differ in length.
        If it takes more memory than is allowed.
    """
    where = _where(source)
    rows = _rows(source, Asked(where, name=name, allowed=allowed, others=others))
    if rows.lengths is not None:
        raise GeedError(
            f"{where}: the samples of {name} differ in length ({name}_lengths): say what its axes "
            f"are with --input-layout {name}=LAYOUT, such as {name}=NPC"
        )
    if rows.dtype.kind not in "biufc":
        raise GeedError(f"{where}: {name} holds {rows.dtype} values, not numbers")
    return _every(source, rows, f"{where}: {name}", allowed)


def array_by_layout(
    source: Any,
    samples: Samples,
    layout: str,
    name: str | None = None,
    allowed: int = ALLOWED,
    others: Mapping[str, bool] = _NONE,
) -> NDArray[Any]:
    """Return all samples of an input that does not move, read by its layout.

    Parameters
    ----------
    source : str, Path, ndarray or mapping of str to ndarray
        DATA.
    samples : Samples
        The same, opened.
    layout : str
        The input's layout.
    name : str, optional
        The input's name, where there are several arrays.
    allowed : int
        Bytes that they may take.
    others : mapping of str to bool
        The model's other inputs, and of each whether it is read from the array of its name.

    Returns
    -------
    ndarray, shape (samples, ...)
        In the model's own layout.

    Raises
    ------
    GeedError
        If one cannot be read, or does not fit the input.
        If they take more memory than is allowed.
    """
    where = _where(source) if name is None else f"{_where(source)}: {name}"
    size = array_bytes((len(samples), *samples.shape), samples.dtype)
    plain = samples.preprocess == Preprocess()
    if samples.kind == "array" and not is_folder(source) and plain:
        rows = _rows(source, Asked(_where(source), name=name, allowed=allowed, others=others))
        if rows.lengths is None:
            array = _every(source, rows, where, allowed)
            if array.itemsize < samples.dtype.itemsize:
                check_held(where, size, allowed)
            return stored_whole(array, where, layout, samples.dtype)
        rows.close()
    # Files, and samples that are padded or prepared, are read one by one.
    check_held(where, size, allowed)
    order = parse_layout(layout).planes_last
    back = (order.index(axis) + 1 for axis in range(len(order)))
    kept = np.stack([samples[index] for index in range(len(samples))])
    return np.ascontiguousarray(samples.finish(kept).transpose(0, *back))


def _where(source: Any) -> str:
    return f"--data {source if isinstance(source, str | Path) else 'array'}"


def _rows(source: Any, asked: Asked) -> Rows:
    """Open an array, one of several arrays, or a file of either."""
    if isinstance(source, str | Path):
        return open_rows(str(source), name=asked.name, allowed=asked.allowed, others=asked.others)
    with reading(asked.where, "give arrays of numbers"):
        several = isinstance(source, Mapping)
        return open_mapping(source, asked, "it") if several else rows_of(source)


def _every(source: Any, rows: Rows, where: str, allowed: int) -> NDArray[Any]:
    """Read an array as a whole; one that is in memory is there already."""
    if isinstance(source, str | Path):
        return held_whole(rows, where, allowed)
    return np.asarray(rows.read(...))


def check_counts(samples: Mapping[str, Samples]) -> None:
    """Make sure that all inputs have the same number of samples.

    Parameters
    ----------
    samples : mapping of str to Samples
        By the inputs' names.

    Raises
    ------
    GeedError
        If they have not.
    """
    (first, least), *rest = ((name, len(one)) for name, one in samples.items())
    for name, count in rest:
        if count != least:
            raise GeedError(
                f"--data {samples[name].source}: {counted(count, 'sample')} for {name}, but "
                f"{least} for "
                f"{first}; give the same samples for both, in the same order"
            )
