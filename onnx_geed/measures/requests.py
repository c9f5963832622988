"""How a measure is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_geed.errors import GeedError
from onnx_geed.measures.catalogue import descriptor_of

__all__ = ["Request", "parse_request"]


@dataclass(frozen=True)
class Request:
    """A measure that was asked for, ``NAME`` or ``NAME@LAYER``.

    Parameters
    ----------
    measure : str
        Name of the measure.
    layer : str or None
        Tensor, node, glob or module path; ``None`` for the measure's default layers.
    asked : bool
        Whether the user named the measure, which then is not left out without an error.
    """

    measure: str
    layer: str | None = None
    asked: bool = False


def parse_request(text: str) -> Request:
    """Read ``NAME`` or ``NAME@LAYER``.

    Raises
    ------
    GeedError
        If no measure has that name.
    """
    name, at, layer = text.partition("@")
    descriptor_of(name)
    if at and not layer:
        raise GeedError(f"measure {text!r}: write a layer after the @, or leave the @ out")
    return Request(name, layer or None, asked=True)
