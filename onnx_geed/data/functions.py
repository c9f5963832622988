"""Data from a function of the user's: ``module:function``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_geed.data.named_arrays import Asked, open_mapping
from onnx_geed.data.rows import Beside, Rows, rows_of
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.own_code import importable, imported

__all__ = ["result_of", "rows_of_function"]


def rows_of_function(module: str, function: str, asked: Asked) -> Rows:
    """Call a function that makes samples, or samples and labels.

    Samples are an array, or a mapping of arrays by the names of the model's inputs.

    Raises
    ------
    GeedError
        If it cannot be imported, or fails.
        If it returns no numbers, or not the array that is meant.
    """
    made, labels = result_of(module, function, asked.where)
    rows = open_mapping(made, asked, function) if isinstance(made, Mapping) else rows_of(made)
    return rows if labels is None else replace(rows, labels=Beside("labels", labels))


def result_of(module: str, function: str, where: str) -> tuple[Any, Any]:
    """Call a function that makes samples.

    Returns
    -------
    samples : ndarray or mapping of str to ndarray
    labels : object
        None where it makes no labels.

    Raises
    ------
    GeedError
        If it cannot be imported, or fails.
        If it returns no numbers.
    """
    try:
        with importable():
            result = _imported(module, function, where)()
        array, labels = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        several = array if isinstance(array, Mapping) else {"": array}
        arrays = {str(name): np.asarray(values) for name, values in several.items()}
    except GeedError:
        raise
    except ModuleNotFoundError as error:
        raise GeedError(
            f"{where}: no such file, and as module:function it cannot be imported "
            f"({reason_of(error)})"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's program raises
        reason = (str(error).strip().splitlines() or [""])[0]
        raise GeedError(
            f"{where}: it raised {type(error).__name__}: {reason}; it takes no arguments and "
            "returns an array, or an array and labels"
        ) from None
    for name, values in arrays.items():
        if values.dtype.kind == "O":
            kind = type(several.get(name)).__name__
            raise GeedError(
                f"{where}: returned {kind}{f' as {name}' if name else ''}, not an array of numbers"
            )
    return (arrays if isinstance(array, Mapping) else arrays[""]), labels


def _imported(module: str, function: str, where: str) -> Callable[[], Any]:
    """Return a user's function."""
    part = imported(module, function, where)
    if not callable(part):
        raise GeedError(f"{where}: {function} is not a function; write one that returns the array")
    call: Callable[[], Any] = part
    return call
