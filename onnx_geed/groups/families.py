"""Families: named changes of an image that form no group, such as zooms, or what a JPEG does to it.

Element 0 is the identity, which every other member is held against. There is no table: products of
members are none, and neither are inverses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups.factors import Factor, MixFactor, as_rows
from onnx_geed.groups.own_family import OwnMembers, members_of
from onnx_geed.groups.rotations import plane_matrix
from onnx_geed.groups.warps import Warp, WarpFactor

__all__ = ["KINDS", "Family", "Kind", "backgrounds", "corruption", "own_members", "values_of"]


@dataclass(frozen=True)
class Kind:
    """What the members of a family have in common.

    Parameters
    ----------
    parameter, unit : str
        What the number of a member is, and in which unit.
    example : str
        A range, for messages.
    identity : float or None
        The number that leaves images as they are, if one does.
    geometric : bool
        Whether members move places, and hidden grids move along.
    spacing : {"linear", "geometric", "whole"}
        How numbers lie between the ends of a range; whole ones are rounded.
    round_about : int
        After how much numbers come round to the same member; 0 where they do not.
    least : float
        Smaller numbers than this, but for the identity's, change nothing.
    """

    parameter: str
    unit: str
    example: str
    identity: float | None = 0.0
    geometric: bool = False
    spacing: str = "linear"
    round_about: int = 0
    least: float = -math.inf

    def seen(self, number: float) -> float:
        """Return what a number says of images: another one only where these differ."""
        if not self.round_about:
            return number
        return round(number % self.round_about, 9) % self.round_about


#: The families that have a name.
KINDS: dict[str, Kind] = {
    "rotate": Kind("angle", "°", "-15..15/7", geometric=True, round_about=360),
    "zoom": Kind("factor", "", "0.8..1.25/9", 1.0, geometric=True, spacing="geometric"),
    "shift-px": Kind("shift", "px", "-4..4/9", geometric=True),
    "brightness": Kind("added", "/255", "-60..60/9"),
    "contrast": Kind("factor", "", "0.5..1.5/9", 1.0),
    # A Gaussian that is cut off at 4 σ is one pixel wide below that.
    "blur": Kind("σ", "px", "0.5..3/6", least=0.125),
    "noise": Kind("σ", "/255", "4..32/6"),
    "jpeg": Kind("quality", "", "90..10/6", None, spacing="whole"),
}


@dataclass(frozen=True)
class Family:
    """What the elements of a group are that is none: the members of a family.

    Parameters
    ----------
    name : str
        One of :data:`KINDS`, or ``module:function`` for one's own.
    parameter, unit : str
        What the number of a member is, and in which unit.
    values : tuple of float or None
        Numbers of the elements, in order; ``None`` where one has none.
    geometric : bool
        Whether members move places, and hidden grids move along. Others change values alone, and
        leave hidden grids as they are.
    grid : tuple of int, optional
        Height and width of the input in pixels, once they are known.
    clip : bool
        Whether changed images are clipped and rounded to 8 bits.
    undone : bool
        Whether each element is what undoes it.
    own : OwnMembers, optional
        The functions of one's own.
    corruption : str
        Which of ImageNet-C's corruptions it is, of which the numbers are the severities.
    folder : str
        The folder of the images that samples are put before.
    files : tuple of str
        Names of these images in it, once they are drawn.
    """

    name: str
    parameter: str
    unit: str
    values: tuple[float | None, ...]
    geometric: bool
    grid: tuple[int, int] | None = None
    clip: bool = False
    undone: bool = field(default=False, repr=False)
    own: OwnMembers | None = field(default=None, repr=False)
    corruption: str = ""
    folder: str = ""
    files: tuple[str, ...] = ()

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the elements: family and number, the identity ``e`` first."""
        if self.own is not None:
            return ("e", *self.own.names)
        if self.folder:
            return ("e", *(self.files or (f"background{k}" for k in range(1, len(self.values)))))
        numbers = [v for v in self.values[1:] if v is not None]
        named = tuple(f"{self.corruption or self.name}{v:.4g}" for v in numbers)
        if len(set(named)) < len(named):  # a range so narrow that four digits do not tell them
            named = tuple(f"{self.name}{v!r}" for v in numbers)
        return ("e", *named)

    @property
    def by_pixels(self) -> bool:
        """Whether members move by pixels of the input, and so other grids by as much of these."""
        return self.name == "shift-px"

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What the elements do to axes of each kind: nothing, where they change values alone."""
        if not self.geometric or (self.by_pixels and self.grid is None):
            return ()
        warps = (Warp(), *(self._warp(v) for v in self.values[1:] if v is not None))
        if self.name != "rotate":
            return (WarpFactor(warps),)
        turned = [plane_matrix(Fraction(warp.degrees)) for warp in warps]
        return WarpFactor(warps), MixFactor(as_rows(turned), 2)

    def _warp(self, value: float) -> Warp:
        sign = -1 if self.undone else 1
        if self.name == "rotate":
            return Warp(degrees=sign * value)
        if self.name == "zoom":
            return Warp(zoom=value**sign)
        assert self.grid is not None
        return Warp(shift=(Fraction(0), sign * Fraction(value) / self.grid[1]))

    def on(self, height: int, width: int, group: str) -> Family:
        """Return the family on an input of some height and width.

        Parameters
        ----------
        height, width : int
            Pixels.
        group : str
            Name of the group, for messages.

        Raises
        ------
        GeedError
            If a shift leaves nothing of the input.
        """
        far = max((abs(v) for v in self.values if v is not None), default=0.0)
        if self.by_pixels and far >= width:
            raise GeedError(
                f"group {group}: a shift of {far:g} pixels leaves nothing of an input that is "
                f"{width} pixels wide: take smaller shifts, such as "
                f"shift-px:{-(width // 4)}..{width // 4}/5"
            )
        return replace(self, grid=(height, width))

    def undoing(self) -> Family:
        """Return, element by element, what undoes a geometric one: the inverse resampling."""
        return replace(self, undone=not self.undone)

    def orbit(self, x: NDArray[np.float32], seed: int, sample: int) -> NDArray[np.float32]:
        """Return a sample as each member of a family that changes values shows it.

        Parameters
        ----------
        x : ndarray of float32, shape (C, H, W) or (H, W)
            The sample; for a family of one's own of any shape.
        seed : int
            Seed of the run.
        sample : int
            Number of the sample.

        Returns
        -------
        ndarray of float32, shape (n, ...)
            The sample itself first.

        Raises
        ------
        GeedError
            If a function of one's own fails, changes the shape, or gives NaN or infinity.
        """
        from onnx_geed.groups.corruptions import corrupted
        from onnx_geed.groups.photometric import member

        out = np.empty((len(self.values), *x.shape), dtype=np.float32)
        out[0] = x
        if self.own is not None:
            for g, name in enumerate(self.own.names, 1):
                out[g] = self.own.change(name, x, sample)
        else:
            image = x[None] if x.ndim == 2 else x
            for g, value in enumerate(self.values[1:], 1):
                assert value is not None
                own = (seed, sample, g)
                changed = (
                    corrupted(image, self.corruption, int(value), seed=own)
                    if self.corruption
                    else member(self.name, image, value, seed=own)
                )
                out[g] = changed.reshape(x.shape)
        return self.finished(out)

    def finished(self, orbit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an orbit, clipped and rounded to 8 bits but for the sample itself, if it is to."""
        from onnx_geed.groups.photometric import clipped

        if self.clip:
            for changed in orbit[1:]:
                changed[...] = clipped(changed)
        return orbit


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"


def values_of(name: str, text: str) -> Family:
    """Return the family of a name, with the members that a range or a list of numbers says.

    Parameters
    ----------
    name : str
        One of :data:`KINDS`.
    text : str
        ``LO..HI/N``, both ends included, or numbers separated by commas.

    Raises
    ------
    GeedError
        If it is neither, or a number is none of the family's.
        If a number is there twice, or none but that of the identity.
    """
    kind, group = KINDS[name], f"group {name}:{text}"
    if ranged := re.fullmatch(rf"({_NUMBER})\.\.({_NUMBER})/([1-9]\d{{0,3}})", text):
        low, high = Fraction(ranged[1]), Fraction(ranged[2])
        if (count := int(ranged[3])) < 2 or low == high:
            fault = (
                "both ends are the same" if low == high else "a range needs at least two members"
            )
            raise GeedError(
                f"{group}: {fault}: write {name}:{kind.example}, or {name}:{ranged[1]} for a "
                "single one"
            )
        numbers = _between(low, high, count, kind.spacing, group)
    elif re.fullmatch(rf"{_NUMBER}(,{_NUMBER})*", text):
        numbers = [float(part) for part in text.split(",")]
    else:
        raise GeedError(
            f"{group}: members are a range LO..HI/N, such as {name}:{kind.example}, or numbers, "
            f"such as {name}:{kind.example.partition('..')[0]}; numbers are plain decimals, N is "
            "whole, and a family takes no product"
        )
    if name == "zoom" and min(numbers) <= 0:
        raise GeedError(f"{group}: a factor must be above 0; found {min(numbers):g}")
    _check_differ(name, numbers, ranged is not None, group)
    members = [v for v in numbers if kind.seen(v) != kind.identity]
    if not members:
        raise GeedError(
            f"{group}: all its members leave images unchanged; write, for example, "
            f"{name}:{kind.example}"
        )
    if not kind.geometric:
        from onnx_geed.groups.photometric import check_value

        for value in members:
            check_value(name, value, f"{name}:{text}")
    if idle := [v for v in members if v < kind.least]:
        raise GeedError(
            f"{group}: {kind.parameter} of {idle[0]:g} leaves images unchanged, which would score "
            f"as invariance; give {kind.least:g} or more"
        )
    values = (kind.identity, *members)
    return Family(name, kind.parameter, kind.unit, values, kind.geometric)


def _check_differ(name: str, numbers: Sequence[float], ranged: bool, group: str) -> None:
    """Refuse numbers of which two are one member.

    Raises
    ------
    GeedError
        If there are two, with what works.
    """
    kind, first = KINDS[name], dict[float, int]()
    pairs = ((first.setdefault(kind.seen(v), k), k) for k, v in enumerate(numbers))
    twins = [(numbers[i], numbers[k]) for i, k in pairs if i != k]
    if not twins:
        return
    one, other = twins[0]
    about = f", {kind.round_about}{kind.unit} apart" * (one != other)
    low, high, count = numbers[0], numbers[-1], len(numbers)
    cure = kind.example
    if not ranged and {*first} != {kind.identity}:
        cure = ",".join(f"{numbers[k]:.9g}" for k in first.values())
    elif ranged and kind.round_about:
        turn = math.copysign(kind.round_about, high - low)
        if high - low == turn and count > 2:
            count, end = count - 1, low + turn * (count - 2) / (count - 1)
        else:
            end = low + turn * (count - 1) / count
        cure = f"{low:g}..{end:.6g}/{count}"
    elif ranged and kind.spacing == "whole":
        cure = f"{low:g}..{high:g}/{len(first)}"
    raise GeedError(
        f"{group}: a member is given twice, as {one:g} and as {other:g}{about}; write {name}:{cure}"
    )


def _between(low: Fraction, high: Fraction, count: int, spacing: str, group: str) -> list[float]:
    """Return numbers from one end to the other, both included."""
    steps = [Fraction(k, count - 1) for k in range(count)]
    if spacing != "geometric":
        exact = [low + (high - low) * step for step in steps]
        return [float(round(v)) if spacing == "whole" else float(v) for v in exact]
    if min(low, high) <= 0:
        raise GeedError(f"{group}: a factor must be above 0; found {float(min(low, high)):g}")
    first, ratio = math.log(low), math.log(high / low)
    inner = [math.exp(first + ratio * float(step)) for step in steps[1:-1]]
    # Rounded, so that what is 1 by the rule is the identity.
    return [float(low), *(float(f"{v:.12g}") for v in inner), float(high)]


def corruption(name: str) -> Family:
    """Return one of ImageNet-C's corruptions, at its five severities.

    Raises
    ------
    GeedError
        If it has none of that name.
    """
    from onnx_geed.groups.corruptions import SEVERITIES, check_corruption

    check_corruption(name)
    values = (None, *map(float, SEVERITIES))
    return Family("imagenet-c", "severity", "", values, geometric=False, corruption=name)


def backgrounds(text: str) -> Family:
    """Return the family of other backgrounds, whose images are drawn once the samples are known.

    Parameters
    ----------
    text : str
        ``FOLDER/N``.

    Raises
    ------
    GeedError
        If it is none.
    """
    folder, _, count = text.rpartition("/")
    if not folder or not re.fullmatch(r"[1-9]\d{0,5}", count):
        raise GeedError(
            f"group background:{text}: needs a folder and how many of its images to draw: write "
            "background:FOLDER/8"
        )
    values = (None,) * (int(count) + 1)
    return Family("background", "background", "", values, geometric=False, folder=folder)


def own_members(name: str, names: Sequence[str] | None = None) -> Family:
    """Return a family of one's own, ``module:function``.

    Parameters
    ----------
    name : str
        Where its members stand.
    names : sequence of str, optional
        Their names, where they are known; nothing is then imported before a member is used.

    Raises
    ------
    GeedError
        If it cannot be imported, or is not what gives members by name.
    """
    own = OwnMembers(name, tuple(members_of(name) if names is None else names))
    values = (None,) * (len(own.names) + 1)
    return Family(name, "member", "", values, geometric=False, own=own)
