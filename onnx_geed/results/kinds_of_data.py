"""The kinds of data that a result is of, by the letters of layouts: what its sentences speak of."""

from __future__ import annotations

from onnx_geed.groups import moved_axes, parse_layout
from onnx_geed.results.schema import Result

__all__ = ["is_map", "moved_letters"]


def moved_letters(result: Result) -> str:
    """Return the letters of the input axes that the group moves.

    Parameters
    ----------
    result : dict
        A result; those of earlier versions, which keep no layout, are of images.

    Returns
    -------
    str
        Of a group of one's own, of which it is not known, those of all its axes.
    """
    data = result["data"]
    layouts = [data.get("layout", "NCHW"), *(one["layout"] for one in data.get("inputs", ()))]
    there = "".join(dict.fromkeys("".join(layouts)))
    moved = moved_axes(result["group"]["name"]).letters
    return "".join(letter for letter in moved if letter in there) if moved else there


def is_map(layout: str) -> bool:
    """Say whether a tensor is a map, whose last axes are those of a plane.

    Parameters
    ----------
    layout : str
        As a record has it.

    Returns
    -------
    bool
    """
    return parse_layout(layout).kept.endswith("HW")
