"""How people read values: the sign of cosines, what is perfect, the range that intervals keep to.

Files, CSV and limits of gates hold what is measured, of which a larger value is always worse: minus
the cosine. Tables, pages and pictures are read by people, who know a cosine by its own sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from onnx_geed.measures.catalogue import Descriptor, descriptor_of

__all__ = [
    "MINUS",
    "Ends",
    "Scale",
    "beyond_rounding",
    "gap_within",
    "perfect_words",
    "range_of",
    "sign_words",
    "told",
    "told_ends",
    "told_gap",
    "within",
]

#: A value as it is measured, relative to different samples, or before the division by M.
Scale = Literal["value", "relative", "unnormalised"]

Ends = tuple[float, float]

# Values that differ by less, as a share of the size of what is measured, are the same.
_ROUNDING = 1e-6

#: What stands under tables that show cosines.
MINUS = "cosines have a minus in files and limits"


def told(measure: Descriptor, value: float, scale: Scale = "value") -> float:
    """Return a value as people read it: a cosine where the measure is minus one.

    Parameters
    ----------
    measure : Descriptor
        The measure.
    value : float
        As files hold it.
    scale : {"value", "relative", "unnormalised"}
        What the value is. A cosine that M divided has the sign of a cosine too; relative to
        different samples there is none.
    """
    return 0.0 - value if measure.similarity and scale != "relative" else value


def range_of(measure: Descriptor, scale: Scale = "value") -> Ends:
    """Return the least and the largest value that there can be, in the sign of files."""
    if scale == "relative":
        return 0.0, math.inf
    if scale == "unnormalised":
        return measure.perfect, math.inf if measure.of_error else measure.worst
    if measure.perfect_over_m:
        return -math.inf, math.inf
    return measure.perfect, math.inf if measure.pooled else measure.worst


def within(measure: Descriptor, ends: Sequence[float], scale: Scale = "value") -> Ends:
    """Return an interval without what lies outside the range of the measure.

    Intervals of Student t are symmetric, in files too; nobody reads a value that cannot be.
    """
    least, most = range_of(measure, scale)
    return min(max(ends[0], least), most), max(min(ends[1], most), least)


def told_ends(
    measure: Descriptor, ends: Sequence[float] | None, scale: Scale = "value"
) -> Ends | None:
    """Return an interval within the range of the measure, as people read it."""
    if not ends:
        return None
    low, high = sorted(told(measure, x, scale) for x in within(measure, ends, scale))
    return low, high


def gap_within(measure: Descriptor, ends: Sequence[float], scale: Scale = "value") -> Ends:
    """Return an interval of the difference of two values, without what no two can differ by."""
    least, most = range_of(measure, scale)
    return max(ends[0], least - most), min(ends[1], most - least)


def told_gap(
    measure: Descriptor, ends: Sequence[float] | None, scale: Scale = "value"
) -> Ends | None:
    """Return an interval of the difference of two values, as people read it."""
    if not ends:
        return None
    low, high = sorted(told(measure, x, scale) for x in gap_within(measure, ends, scale))
    return low, high


class _Sized(Protocol):
    @property
    def norm(self) -> float: ...


def beyond_rounding(
    measure: Descriptor,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    between: _Sized | None,
) -> bool:
    """Tell whether two values differ by more than rounding.

    Parameters
    ----------
    measure : Descriptor
        The measure.
    one, other : mapping of str to object
        Entries with a ``value``; where there is none, there is nothing to tell.
    between : object with a ``norm``, or None
        Mean norm of the tensor, for what grows with it and M does not divide; where it is not known
        the values themselves are the size.
    """
    a, b = one["value"], other["value"]
    if a is None or b is None:
        return False
    if measure.power == 2:  # squares are rounded as what was squared is
        a, b = math.sqrt(abs(a)), math.sqrt(abs(b))
    size = 1.0
    if measure.in_tensor_units and not measure.normalised:
        size = max(abs(a), abs(b)) if between is None else between.norm
    return bool(abs(a - b) > _ROUNDING * size)


def perfect_words(measure: Descriptor, scale: Scale = "value") -> str:
    """Say which value is perfect and which way is better, for the head of a column."""
    perfect = told(measure, measure.perfect, scale) if scale != "relative" else 0.0
    better = "higher" if measure.similarity and scale != "relative" else "lower"
    over_m = "/M" if measure.perfect_over_m and scale == "value" else ""
    return f"{perfect:g}{over_m} is perfect, {better} is better"


def sign_words(measures: Iterable[tuple[str, Scale]]) -> str:
    """Say of the measures of one table which value of each is perfect, and which way is better.

    Parameters
    ----------
    measures : iterable of (str, {"value", "relative", "unnormalised"})
        Their names, and what of each is shown.

    Returns
    -------
    str
        Such as ``channel-cos: 1 is perfect, higher is better; latent-l2, softmax-kl: 0 is perfect,
        lower is better``, and that files have cosines with a minus.
    """
    shown = list(dict.fromkeys(measures))
    by_words: dict[str, list[str]] = {}
    for name, scale in shown:
        by_words.setdefault(perfect_words(descriptor_of(name), scale), []).append(name)
    words = [f"{', '.join(names)}: {words}" for words, names in by_words.items()]
    if any(descriptor_of(name).similarity and scale != "relative" for name, scale in shown):
        words.append(MINUS)
    return "; ".join(words)
