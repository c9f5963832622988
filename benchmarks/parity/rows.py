"""What every tool's page has: a row a number, and whether the formula between both holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
# networks.py and eager.py, from_torch.py and from_escnn.py.
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "converters")]
DEMO = ROOT / "onnx_geed" / "demo"
MODEL, DIGITS = DEMO / "digits_cnn.onnx", DEMO / "digits.npz"
SAMPLES = 50
#: Two float32 programs on one network; where a row allows more, it says why.
CLOSE = 1e-6

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One number of another tool, and how ours gives it.

    Parameters
    ----------
    number, ours : str
        What their user calls it, and the command or function that gives ours.
    theirs, value : float
        The two numbers as they come.
    formula : str
        Their number from ours, in words of the table.
    found : float
        Their number as the formula gives it from ours.
    close : float
        By how much the two may differ, as a share of their number.
    """

    number: str
    ours: str
    theirs: float
    value: float
    formula: str
    found: float
    close: float = CLOSE

    @property
    def off(self) -> float:
        return abs(self.found - self.theirs) / abs(self.theirs or 1)

    @property
    def holds(self) -> bool:
        return bool(self.off <= self.close)


def samples(result: Any, data: Path = DIGITS) -> NDArray[np.float32]:
    """Return the images that a result was measured on, as it saw them."""
    images = np.load(data)["images"][result["data"]["indices"][:SAMPLES], None]
    return images.astype(np.float32) / np.float32(255)


def record(result: Any, measure: str, layer: str) -> Any:
    rows = (r for r in result["measurements"] if (r["measure"], r["layer"]) == (measure, layer))
    return next(rows)


def deviations(found: Any) -> F64:
    return np.array(found["deviations"])


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table; where a formula fails, the row says so."""
    lines = [
        "| their number | theirs | ours | ours is from | theirs from ours | off by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        off = f"{r.off:.0e}" if r.holds else f"**{r.off:.0e}: it does not hold**"
        cells = (r.number, f"{r.theirs:.6g}", f"{r.value:.6g}", r.ours, r.formula, off)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


Rows = Callable[[Path], list[Row]]
