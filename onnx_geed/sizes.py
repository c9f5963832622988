"""Sizes in bytes, as people write them."""

from __future__ import annotations

import math
import re

from onnx_geed.errors import GeedError, shown

__all__ = ["format_bytes", "parse_bytes"]


def format_bytes(count: float) -> str:
    """Return a size such as ``5.5 MiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``2GiB``, ``500MB`` or a number of bytes.

    Raises
    ------
    GeedError
        If it is not a positive size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", str(text).strip(), re.IGNORECASE)
    power = " KMGT".index(match[2].upper() or " ") if match else 0
    size = float(match[1]) * (1024 if match[3] else 1000) ** power if match else 0.0
    if not 1 <= size < math.inf:
        raise GeedError(f"{shown(text)!r} is not a size: write such as 2GiB, 500MB or 1073741824")
    return int(size)
