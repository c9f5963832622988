"""Small rotations, shifts and zooms: one forwards and one backwards, by some pixels at the corner.

They are elements of no finite group. Of each only what takes the one to the other is known, and so
nothing else is measured under them than how fast a tensor moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from onnx_geed.errors import GeedError
from onnx_geed.groups.factors import Factor, MixFactor, as_rows
from onnx_geed.groups.rotations import plane_matrix
from onnx_geed.groups.warps import Warp, WarpFactor

__all__ = ["SmallKind", "SmallMotions"]

SmallKind = Literal["rotation", "shift", "zoom"]


@dataclass(frozen=True)
class SmallMotions:
    """The small motions of a kind, once it is known of which grid.

    Parameters
    ----------
    kind : {"rotation", "shift", "zoom"}
        What they do.
    step : Fraction
        By how many pixels a corner of the grid moves; each way.
    grid : tuple of int, optional
        Height and width of the input in pixels; ``None`` where that is not known yet.
    opposites : bool
        Whether each element is what takes its opposite to it, g₊g₋⁻¹: a motion of twice the step.

    Raises
    ------
    GeedError
        If the grid is too small for the step.

    Notes
    -----
    Choice: the corner is r = ½ √((H−1)² + (W−1)²) from the centre. So a step s turns by s/r
    radians, zooms by 1 ± s/r, and shifts by s in two directions one after the other. On a grid of
    another size the same angle and factor serve, and a shift by the same share of its lengths.
    """

    kind: SmallKind
    step: Fraction
    grid: tuple[int, int] | None = None
    opposites: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.grid is None:
            return
        room = min(self.grid) if self.kind == "shift" else self.corner
        smaller = "1" if room >= 2 else f"{float(room) / 10:.1g}"
        if min(self.grid) < 2 or not 2 * self.step <= room:
            raise GeedError(
                f"group {self.name}: moves the input by {2 * float(self.step):g} pixels from one "
                f"side to the other, which is not small on a grid of {self.grid[0]}×{self.grid[1]} "
                f"(height × width): take a smaller step, such as small-{self.kind}~"
                f"{smaller}"
                if min(self.grid) > 1
                else f"group {self.name}: moves a plane, and the input is one pixel high or wide "
                f"({self.grid[0]}×{self.grid[1]}): take another group"
            )

    @property
    def name(self) -> str:
        """Name of the group, which always says the step."""
        return f"small-{self.kind}~{float(self.step):g}"

    @property
    def elements(self) -> tuple[str, ...]:
        """The identity, then forwards and backwards of each pair."""
        directions = {"rotation": ["turn"], "shift": ["right", "down"], "zoom": ["zoom"]}
        step = f"{float(self.step):g}px"
        each = (f"{way}{sign}{step}" for way in directions[self.kind] for sign in "+-")
        return ("e", *each)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Numbers of the elements that go forwards and backwards."""
        return tuple((g, g + 1) for g in range(1, len(self.elements), 2))

    @property
    def corner(self) -> float:
        """Distance of the corner's pixel from the centre, in pixels."""
        assert self.grid is not None
        return math.hypot(self.grid[0] - 1, self.grid[1] - 1) / 2

    @property
    def warps(self) -> tuple[Warp, ...]:
        """What each element does to a plane."""
        assert self.grid is not None
        step, twice = self.step, 2 if self.opposites else 1
        height, width = self.grid
        if self.kind == "shift":
            right, down = twice * step / width, twice * step / height
            still = Fraction(0)
            shifts = ((still, right), (still, -right), (down, still), (-down, still))
            return (Warp(), *(Warp(shift=shift) for shift in shifts))
        share = float(step) / self.corner
        if self.kind == "rotation":
            degrees = twice * math.degrees(share)
            return (Warp(), Warp(degrees=degrees), Warp(degrees=-degrees))
        larger, smaller = 1 + share, 1 - share
        if self.opposites:
            larger, smaller = larger / smaller, smaller / larger
        return (Warp(), Warp(zoom=larger), Warp(zoom=smaller))

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What the elements do to axes of each kind; nothing is known without a grid."""
        if self.grid is None:
            return ()
        plane = WarpFactor(self.warps)
        if self.kind != "rotation":
            return (plane,)
        turned = [plane_matrix(Fraction(warp.degrees)) for warp in self.warps]
        return plane, MixFactor(as_rows(turned), 2)

    def on(self, height: int, width: int) -> SmallMotions:
        """Return those of an input of some height and width.

        Raises
        ------
        GeedError
            If the grid is too small for the step.
        """
        return replace(self, grid=(height, width))

    def across(self) -> SmallMotions:
        """Return, element by element, what takes its opposite to it."""
        return replace(self, opposites=True)

    def told(self) -> str:
        """Say in words what a step is on this grid."""
        assert self.grid is not None
        forwards = self.warps[1]
        step = f"{float(self.step):g} px"
        if self.kind == "shift":
            return (
                f"shifts by {step} right, left, down and up, on a grid of "
                f"{self.grid[0]}×{self.grid[1]}"
            )
        how = (
            f"turns by ±{forwards.degrees:.4g}°"
            if self.kind == "rotation"
            else f"zooms by {forwards.zoom:.5g} and {self.warps[2].zoom:.5g}"
        )
        return f"{how}, which moves a corner ({self.corner:.4g} px from the centre) by {step}"
