"""Labels: one for each sample, stated or found beside the data; or one for each of its places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.copies import read_by_copy
from onnx_geed.data.fetched import fetched
from onnx_geed.data.rows import Beside, held_whole, shape_text
from onnx_geed.data.sources import open_rows
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.held import ALLOWED, read_text
from onnx_geed.ordinary import check_ordinary
from onnx_geed.text import counted

__all__ = ["labels_of", "place_labels_of"]

# Of a class's number; longer ones are names.
_DIGITS = 1000


def labels_of(
    stated: Any, beside: Beside | None, count: int, source: str, allowed: int = ALLOWED
) -> tuple[tuple[int | str, ...] | None, Beside | None]:
    """Return labels as the user states them, else those beside the data, if they are any.

    Returns
    -------
    labels : tuple of int or str, or None
        One a sample.
    unused : Beside or None
        What has a name for labels and is none, and why.

    Raises
    ------
    GeedError
        If there is not one class for each sample.
        If they take more memory than is allowed.
    """
    if stated is None:
        if beside is None:
            return None, None
        labels, fault = (None, beside.fault) if beside.fault else _classes(beside.values, count)
        return labels, None if labels is not None else beside._replace(values=None, fault=fault)
    where, values = f"labels of --data {source}", stated
    if isinstance(stated, (str, Path)):
        where, values = f"--labels {stated}", _label_file(str(stated), allowed)
    labels, fault = _classes(values, count)
    if labels is None:
        raise GeedError(f"{where}: {fault}")
    return labels, None


def _classes(values: Any, count: int) -> tuple[tuple[int | str, ...] | None, str]:
    """Return values as classes, one a sample, or why they are none."""
    try:
        array = np.asarray(values)
    except Exception:  # of another's class
        array = np.empty(())
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        return (
            None,
            f"{shape_text(array.shape)} labels for {counted(count, 'sample')}: give one per sample",
        )
    labels = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.tolist()]
    if all(isinstance(v, str) or _is_whole(v) for v in labels):
        return tuple(v if isinstance(v, str) else int(v) for v in labels), ""
    return None, f"{array.dtype} values are not classes: give whole numbers or names"


def place_labels_of(stated: Any, allowed: int = ALLOWED) -> NDArray[np.int32] | None:
    """Return labels of places, such as (N, H, W) or (N, P), where the user states such.

    Parameters
    ----------
    stated : object
        Labels, or the file that holds them.
    allowed : int
        Bytes that they may take.

    Returns
    -------
    ndarray of int32, shape (N, ...), or None
        ``None`` for what is no array of whole numbers with several axes.

    Raises
    ------
    GeedError
        If there is no such file, or it cannot be read.
        If they take more memory than is allowed.
    """
    values = stated
    if isinstance(stated, (str, Path)):
        values = [] if str(stated).lower().endswith(".txt") else _label_file(str(stated), allowed)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        return None
    # Of one value a sample there is no second reading.
    if array.ndim < 2 or array.size <= len(array) or array.dtype.kind not in "iuf":
        return None
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int32)
    return whole if np.array_equal(whole, array) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


@read_by_copy(fetched)
def _label_file(text: str, allowed: int) -> Any:
    if not text.lower().endswith(".txt") or not os.path.isfile(text):
        check_ordinary(text, f"--labels {text}")
        rows = open_rows(text, option="--labels", labels=True, allowed=allowed)
        return held_whole(rows, f"--labels {text}", allowed)
    try:
        lines = read_text(text, f"--labels {text}", allowed).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GeedError(f"--labels {text}: cannot be read as text ({reason_of(error)})") from None
    values = [line.strip() for line in lines if line.strip()]
    plain = all(v.isdecimal() and len(v) <= _DIGITS for v in values)
    return [int(v) for v in values] if plain else values
