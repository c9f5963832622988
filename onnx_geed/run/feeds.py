"""The feeds: values of the inputs that the group does not act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.addresses import address_of
from onnx_geed.copies import copy_file
from onnx_geed.errors import GeedError, nearest, reason_of
from onnx_geed.held import ALLOWED, array_head, check_held
from onnx_geed.model import Input, Model, inputs
from onnx_geed.ordinary import open_ordinary
from onnx_geed.text import counted

__all__ = ["Feed", "feeds_of", "refuse_acted_on"]

Rows = Literal["samples", "one", "whole"]


@dataclass(frozen=True)
class Feed:
    """The value of an input that the group does not act on.

    Parameters
    ----------
    values : ndarray
        One row a sample, one row for all, or the whole value.
    rows : {"samples", "one", "whole"}
        Which of these.
    """

    values: NDArray[Any] = field(repr=False)
    rows: Rows

    def batch(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows for a batch that is made of these samples, int64 of shape (R,)."""
        if self.rows == "samples":
            return self.values[samples]
        if self.rows == "one":
            return np.repeat(self.values, len(samples), axis=0)
        return self.values

    def rows_of(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return what is fed with some samples: one row where it is the same for all of them."""
        if self.rows != "samples":
            return self.values
        rows = self.values[list(indices)]
        return rows[:1] if (rows == rows[:1]).all() else rows


def refuse_acted_on(given: Collection[str], acted: Input) -> None:
    """Refuse to feed the input that the group acts on, whose samples are the data.

    Raises
    ------
    GeedError
        If a value is given for it.
    """
    if acted.name in given:
        raise GeedError(
            f"--feed {acted.name}: is the input that the group acts on, whose samples are --data; "
            "leave it out, or name another one with --input"
        )


def feeds_of(
    model: Model,
    moved: Collection[str],
    acted: Input,
    available: int,
    given: Mapping[str, str | Path | NDArray[Any]],
    allowed: int = ALLOWED,
) -> dict[str, Feed]:
    """Return the values of the inputs that the group does not act on, by name.

    Parameters
    ----------
    model : Model
        The model.
    moved : collection of str
        Names of the inputs that it moves.
    acted : Input
        The main one of them.
    available : int
        Number of samples.
    given : mapping of str to str, Path or ndarray
        The values, or files of them.
    allowed : int
        Bytes that one may take.

    Returns
    -------
    dict of str to Feed

    Raises
    ------
    GeedError
        If there is no such input, one has no value, or a value does not fit.
        If one takes more memory than is allowed.
    """
    others = {i.name: i for i in inputs(model) if i.name not in moved}
    for name in given:
        if name not in others:
            raise GeedError(
                f"--feed {name}: no other input has that name; the model has "
                f"{', '.join(others) or 'none'}.{nearest(name, others)}"
            )
    missing = [name for name in others if name not in given]
    if missing:
        raise GeedError(
            f"the model also takes {', '.join(missing)}: give each a value with --feed NAME=FILE "
            "(.npy: one row per sample, or one value for all)"
        )
    feeds = {}
    rows: Rows
    for name, value in given.items():
        other, values = others[name], _loaded_array(name, value, allowed)
        values = values.astype(np.dtype(other.dtype), copy=False)
        rank = len(other.shape)
        free = rank > 0 and (
            not isinstance(other.shape[0], int)
            or acted.shape[0] == 1
            or acted.shape[0] == other.shape[0]
        )
        if free and values.ndim == rank and len(values) == available and available > 1:
            rows = "samples"
        elif free and values.ndim == rank - 1:
            values, rows = values[None], "one"
        elif free and values.ndim == rank and len(values) == 1:
            rows = "one"
        elif values.ndim == rank and not (free and _same_axis(model, name, acted.name)):
            rows = "whole"
        else:
            raise GeedError(
                f"--feed {name}: the input is {other.shape}, but the file holds {values.shape} "
                f"for {counted(available, 'sample')}; give one row per sample, or one value for all"
            )
        feeds[name] = Feed(values, rows)
    return feeds


def _same_axis(model: Model, *names: str) -> bool:
    """Tell whether the file calls the first axes of some inputs the same, as those of a batch."""
    axes = {i.name: i.type.tensor_type.shape.dim for i in model.proto.graph.input}
    called = {axes[name][0].dim_param if axes[name] else "" for name in names}
    return len(called) == 1 and called != {""}


def _loaded_array(name: str, value: str | Path | NDArray[Any], allowed: int) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if (address := address_of(value)) is not None:
        copy = copy_file(address)
        with copy.telling():
            return _loaded_array(name, copy.path, allowed)
    where = f"--feed {name}={value}"
    try:
        with open_ordinary(value, where) as file:
            if file.read(2) != b"PK":
                file.seek(0)
                check_held(where, array_head(file).size, allowed)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GeedError(f"{where}: not a readable .npy file ({reason_of(error)})") from None
    if not isinstance(loaded, np.ndarray):
        raise GeedError(f"{where}: holds several arrays; give an .npy file")
    if loaded.dtype.kind not in "biufc":
        raise GeedError(f"{where}: holds {loaded.dtype} values, not numbers")
    return loaded
