"""Values of the inputs that the group does not act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest
from onnx_geed.graph import Input, Model, inputs
from onnx_geed.options import Options
from onnx_geed.orbits import Feed

__all__ = ["other_inputs"]


def other_inputs(model: Model, acted: Input, available: int, options: Options) -> dict[str, Feed]:
    """Values of the inputs that the group does not act on."""
    others = {i.name: i for i in inputs(model) if i.name != acted.name}
    for name in options.feed:
        if name not in others:
            raise GeedError(
                f"--feed {name}: the model has no other input of that name; it has "
                f"{', '.join(others) or 'none'}.{nearest(name, others)}"
            )
    missing = [name for name in others if name not in options.feed]
    if missing:
        raise GeedError(
            f"the model also takes {', '.join(missing)}: give each a value with --feed NAME=FILE "
            "(.npy: one row a sample, or one value for all)"
        )
    feeds = {}
    for name, given in options.feed.items():
        other, values = others[name], _array(name, given)
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
        elif values.ndim == rank:
            rows = "whole"
        else:
            raise GeedError(
                f"--feed {name}: the input is {other.shape}, the file holds {values.shape} for "
                f"{available} samples; give one row a sample, or one value for all"
            )
        feeds[name] = Feed(values, rows)
    return feeds


def _array(name: str, given: str | Path | NDArray[Any]) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    try:
        loaded = np.load(given, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GeedError(f"--feed {name}={given}: not a readable .npy file ({error})") from None
    if not isinstance(loaded, np.ndarray):
        raise GeedError(f"--feed {name}={given}: holds several arrays; give an .npy file")
    return loaded
