"""Elements that leave the data as they are, under which any model scores as equivariant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from onnx_geed.groups import IDENTITY_TOLERANCE
from onnx_geed.run.source import Source

__all__ = ["first_moved", "unmoved_notes", "unmoved_of_fewer", "unmoving"]


# Where a note says of how many samples it is.
_TOLD = re.compile(r"(the only sample|each of the \d+ samples) of D unchanged: ")


def unmoving(
    source: Source, stop: int, *, start: int = 0, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the elements, but the identity, that leave each of some samples as it is.

    Parameters
    ----------
    source : Source
        The samples and the inputs' actions.
    stop : int
        Position after the last sample.
    start : int
        Position of the first.
    among : sequence of int, optional
        Elements that are asked for; all by default.

    Returns
    -------
    tuple of int
        Indices; a sample counts as left as it is where no value changes by more than 1e-6 of the
        sample's largest.

    Raises
    ------
    GeedError
        If a sample cannot be read.

    Notes
    -----
    Reads no more samples than it takes to see each element change one: the first, for most data.
    """
    firsts = first_moved(source, stop, start=start, among=among)
    return tuple(g for g, position in firsts.items() if position == stop)


def first_moved(
    source: Source, stop: int, *, start: int = 0, among: Sequence[int] | None = None
) -> dict[int, int]:
    """Return the first sample that each element changes, which tells of any fewer samples too.

    Parameters
    ----------
    source, stop, start, among
        As :func:`unmoving` takes them.

    Returns
    -------
    dict of int to int
        By element the position of the sample, ``stop`` for one that changes none.

    Raises
    ------
    GeedError
        If a sample cannot be read.
    """
    left = list(range(1, source.action.group.order) if among is None else among)
    firsts = dict.fromkeys(left, stop)
    for position in range(start, stop):
        if not left:
            break
        for moved in source.moved:
            orbit = moved.orbit(position)
            first = orbit[0].astype(np.float64)
            allowed = IDENTITY_TOLERANCE * float(np.abs(first).max())
            away = [g for g in left if not float(np.abs(orbit[g] - first).max()) <= allowed]
            firsts |= dict.fromkeys(away, position)
            left = [g for g in left if g not in away]
    return firsts


def unmoved_notes(
    group: str, elements: Sequence[str], idle: Sequence[int], count: int
) -> list[str]:
    """Say which elements leave every sample of D as it is, if any do.

    Parameters
    ----------
    group : str
        Name of the acting group.
    elements : sequence of str
        Names of its elements.
    idle : sequence of int
        Those elements, as :func:`unmoving` finds them.
    count : int
        Size of D.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    if not idle:
        return []
    every = _each_of(count)
    if len(idle) == len(elements) - 1:
        return [
            f"group {group} leaves {every} of D unchanged: the values say nothing about the "
            "model; give samples that it changes, or take another group"
        ]
    named = ", ".join(elements[g] for g in idle[:6])
    more = f" and {len(idle) - 6} more" if len(idle) > 6 else ""
    verb = "leave" if len(idle) > 1 else "leaves"
    return [
        f"{named}{more} of {group} {verb} {every} of D unchanged: any model is perfect under such "
        "an element, which brings the values closer to perfect"
    ]


def unmoved_of_fewer(notes: Iterable[str], count: int) -> list[str]:
    """Return those of some notes that are on unmoved samples, as they are of fewer samples.

    Parameters
    ----------
    notes : iterable of str
        Of a run on more samples, of which some may be :func:`unmoved_notes`.
    count : int
        How many of its samples there are now.

    Returns
    -------
    list of str
        Further elements may leave these as they are, of which the notes do not tell.
    """
    told = f"{_each_of(count)} of D unchanged: "
    return [_TOLD.sub(told, note, count=1) for note in notes if _TOLD.search(note)]


def _each_of(count: int) -> str:
    return "the only sample" if count == 1 else f"each of the {count} samples"
