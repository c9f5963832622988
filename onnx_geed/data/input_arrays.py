"""Several inputs of a model: which arrays of DATA are theirs, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.named_arrays import Asked, open_mapping
from onnx_geed.data.rows import held_whole, reading
from onnx_geed.data.samples import Samples
from onnx_geed.data.sources import names_in, open_rows
from onnx_geed.errors import GeedError, known_names, nearest
from onnx_geed.held import ALLOWED
from onnx_geed.text import counted

__all__ = ["array_named", "check_counts", "named_inputs"]


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


def array_named(source: Any, name: str, allowed: int = ALLOWED) -> NDArray[Any]:
    """Return the array of DATA that is called as an input, as it is, for an input that is fed.

    Parameters
    ----------
    source : str, Path or mapping of str to ndarray
        DATA.
    name : str
        One of the names that :func:`named_inputs` returned.
    allowed : int
        Bytes that it may take.

    Raises
    ------
    GeedError
        If it cannot be read, or holds objects.
        If its samples differ in length.
        If it takes more memory than is allowed.
    """
    where = f"--data {source if isinstance(source, str | Path) else 'array'}"
    if isinstance(source, Mapping):
        with reading(where, "give arrays of numbers"):
            rows = open_mapping(source, Asked(where, name=name), "it")
    else:
        rows = open_rows(str(source), name=name, allowed=allowed)
    if rows.lengths is not None:
        raise GeedError(
            f"{where}: the samples of {name} differ in length ({name}_lengths): say what its axes "
            f"are with --input-layout {name}=LAYOUT, such as {name}=NPC"
        )
    if rows.dtype.kind not in "biufc":
        raise GeedError(f"{where}: {name} holds {rows.dtype} values, not numbers")
    return (
        np.asarray(rows.read(...))
        if isinstance(source, Mapping)
        else held_whole(rows, f"{where}: {name}", allowed)
    )


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
