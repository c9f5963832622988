"""Tensors that a runtime gives in parts: which ones it is asked for, and how they become whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.model import Joined

__all__ = ["Rows", "in_parts", "shape_of", "whole_of"]


def in_parts(
    names: Sequence[str], joined: Mapping[str, Joined], apart: Collection[str] | None = None
) -> tuple[str, ...]:
    """Return some tensors, each once, with the parts of those that have any in their place.

    Parameters
    ----------
    names : sequence of str
        The tensors.
    joined : mapping of str to Joined
        Those that have parts.
    apart : collection of str, optional
        Those whose parts are wanted; by default all.
    """
    found: dict[str, None] = {}
    for name in names:
        taken = name in joined and (apart is None or name in apart)
        found |= dict.fromkeys(joined[name].parts if taken else (name,))
    return tuple(found)


def whole_of(
    name: str, joined: Mapping[str, Joined], given: Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """Return a tensor from what a runtime gave, (B, ...) each.

    Raises
    ------
    GeedError
        If its parts do not fit together.
    """
    if name not in joined:
        return given[name]
    parts = [given[part] for part in joined[name].parts]
    try:
        return np.concatenate(parts, axis=joined[name].axis)
    except ValueError:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise GeedError(
            f"the model cannot join {name!r}, whose parts have the shapes {shapes}: export it "
            "again, or name another tensor (onnx-geed layers lists them)"
        ) from None


def shape_of(name: str, rows: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    """Return the shape (B, ...) of some rows of a tensor, without putting it together."""
    return rows.shape(name) if isinstance(rows, Rows) else rows[name].shape


class Rows(Mapping[str, NDArray[Any]]):
    """Some rows of what a session returns, put together each time they are asked for.

    Parameters
    ----------
    names : sequence of str
        What it returns.
    joined : mapping of str to Joined
        Those that have parts.
    given : mapping of str to ndarray, shape (B, ...)
        Rows of all parts, and of what has none; of large tensors there may be fewer.
    """

    def __init__(
        self,
        names: Sequence[str],
        joined: Mapping[str, Joined],
        given: Mapping[str, NDArray[Any]],
    ) -> None:
        self._names, self._joined, self.given = tuple(dict.fromkeys(names)), joined, given

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return rows of a tensor: as many as there are of each of its parts."""
        parts = in_parts([name], self._joined)
        count = min(len(self.given[part]) for part in parts)
        return whole_of(name, self._joined, {part: self.given[part][:count] for part in parts})

    def __iter__(self) -> Iterator[str]:
        """Go through the tensors."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor's rows."""
        if name not in self._joined:
            return self.given[name].shape
        one = self._joined[name]
        parts = [self.given[part].shape for part in one.parts]
        count, length = min(part[0] for part in parts), sum(part[one.axis] for part in parts)
        return (count, *parts[0][1 : one.axis], length, *parts[0][one.axis + 1 :])
