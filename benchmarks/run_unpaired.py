"""`onnx-geed measure` with or without ``between_samples``, to see what the comparison costs.

The first argument is ``paired`` or ``unpaired``, the others are those of the command.
"""

from __future__ import annotations

import sys
from importlib import import_module

from onnx_geed.__main__ import program


def none(count: int) -> list[tuple[int, int]]:
    """No pairs of samples are compared."""
    return []


if __name__ == "__main__":
    if sys.argv.pop(1) == "unpaired":
        for room in ("job", "measurements"):
            vars(import_module(f"onnx_geed.run.{room}"))["neighbours"] = none
    program()
