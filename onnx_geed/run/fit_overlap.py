"""The samples that an output action was fitted to must not be measured with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnx_geed.data import Intake, mark_of
from onnx_geed.errors import GeedError
from onnx_geed.groups import Fit, Table
from onnx_geed.results import DataPart
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.source import Source
from onnx_geed.text import counted

__all__ = [
    "SampleMarks",
    "check_overlap",
    "copies_notes",
    "marks_in_data",
    "marks_in_source",
    "refuse_overlap",
]

# Bytes of a digest of a sample with all of its inputs, as many as of one input.
_MARK_BYTES = 8


@dataclass(frozen=True)
class SampleMarks:
    """Digests by which samples are known in other data.

    Parameters
    ----------
    acted : sequence of str
        Of each sample's values at the acted-on input.
    inputs : tuple of str
        Where a sample has values for several inputs, their names, in order.
    wholes : sequence of str
        Then of each sample with all of these.
    """

    acted: Sequence[str]
    inputs: tuple[str, ...] = ()
    wholes: Sequence[str] = ()

    def beside(self, fit: Fit) -> Sequence[str]:
        """Return those that are held against the ones that :meth:`seen_by` returns."""
        return self.wholes if self._as_in(fit) else self.acted

    def seen_by(self, fit: Fit) -> Sequence[str]:
        """Return those of the samples of a fit, of the same inputs as far as it tells.

        Earlier versions kept those of the acted-on input alone.
        """
        return fit.wholes if self._as_in(fit) else fit.marks

    def _as_in(self, fit: Fit) -> bool:
        return bool(fit.inputs) and fit.inputs == self.inputs

    def only(self, position: int) -> SampleMarks:
        """Return those of one sample."""
        here = slice(position, position + 1)
        return SampleMarks(self.acted[here], self.inputs, self.wholes[here])


def marks_in_source(source: Source, count: int | None = None) -> SampleMarks:
    """Return the digests of the first samples of a source, which have been read by now.

    Parameters
    ----------
    source : Source
        The samples.
    count : int, optional
        How many; all by default.
    """
    indices = source.indices[:count]
    moved = {}
    for name, own in _moved(source).items():
        intake = own.intake or Intake(own.samples, own.indices)
        if own.intake is None:
            intake.fingerprint()  # which reads the samples, and so marks them
        moved[name] = intake.marks(len(indices))
    return _together(source, moved, indices)


def marks_in_data(data: DataPart, positions: slice) -> SampleMarks:
    """Return the digests of some samples that the ``data`` part of a result tells of."""
    acted = data.get("marks", [])[positions]
    if "wholes" not in data:
        return SampleMarks(acted)
    wholes = data["wholes"]
    return SampleMarks(acted, tuple(wholes["inputs"]), wholes["marks"][positions])


def _moved(source: Source) -> dict[str, MovedInput]:
    return {source.name: source.main, **source.partners}


def _marks_at(source: Source, index: int) -> SampleMarks | None:
    """Return the digests of any one sample of the data; ``None`` where there is none."""
    if index >= len(source.samples):
        return None
    moved = {name: [mark_of(own.samples[index])] for name, own in _moved(source).items()}
    return _together(source, moved, [index])


def _together(
    source: Source, moved: Mapping[str, list[str]], indices: Sequence[int]
) -> SampleMarks:
    """Mark samples with all of their inputs, whichever of these is acted on."""
    each, acted = dict(moved), moved[source.name]
    with np.errstate(over="ignore"):  # of what float32 does not hold
        for name, feed in source.feeds.items():
            if feed.rows == "samples":
                each[name] = [mark_of(feed.values[index]) for index in indices]
    if len(each) == 1:
        return SampleMarks(acted)
    names = sorted(each)
    wholes = [_whole(names, marks) for marks in zip(*(each[n] for n in names), strict=True)]
    return SampleMarks(acted, tuple(names), wholes)


def _whole(names: Sequence[str], marks: Sequence[str]) -> str:
    spelled = json.dumps([*zip(names, marks, strict=True)]).encode()
    return hashlib.blake2b(spelled, digest_size=_MARK_BYTES).hexdigest()


def check_overlap(tables: Mapping[str, Table], source: Source, count: int) -> None:
    """Refuse actions from files that were fitted to samples of D.

    Parameters
    ----------
    tables : mapping of str to Table
        Given output actions by tensor.
    source : Source
        The samples.
    count : int
        Size of D.

    Raises
    ------
    GeedError
        If a sample of D is one of those that an action was fitted to.
    """
    if source.main.intake is None or not any(table.fit for table in tables.values()):
        return
    for moved in source.moved:
        if moved.intake is not None:
            moved.intake.fingerprint(count)  # which reads the samples, and so marks them
    of_d, marks = source.indices[:count], marks_in_source(source, count)
    refuse_overlap(tables, of_d, marks, partial(_marks_at, source), source.label)


def refuse_overlap(
    tables: Mapping[str, Table],
    indices: Sequence[int],
    marks: SampleMarks,
    marks_at: Callable[[int], SampleMarks | None],
    label: Callable[[int], str],
) -> None:
    """Refuse fitted actions that have seen a sample of D.

    Parameters
    ----------
    tables : mapping of str to Table
        Given output actions by tensor.
    indices : sequence of int
        D.
    marks : SampleMarks
        Those of its samples.
    marks_at : callable
        Gives those of any sample of the data, ``None`` where there is none.
    label : callable
        Names the sample at a position of D, for messages.

    Raises
    ------
    GeedError
        If there is one, with what to do.

    Notes
    -----
    Samples are told by what is in them, so that they are found in other data, or in another order,
    too. Data that hold a sample twice are no reason to refuse: see :func:`copies_notes`.
    """
    for layer, table in tables.items():
        fit = table.fit
        if fit is None:
            continue
        both = [
            position
            for position, index in enumerate(indices)
            if _was_seen(fit, index, marks.only(position), marks_at)
        ]
        if both:
            count = f"{len(both)} of the {counted(len(indices), 'sample')} of D are among those"
            first = f"{label(both[0])} is the first" if len(both) > 1 else label(both[0])
            raise GeedError(
                f"--output-action {layer}={table.source}: {count} it was fitted to ({first}), so "
                "they cannot test it. Measure with the --samples and --seed of the fit, or fit "
                "again to other data"
            )


def _was_seen(
    fit: Fit, index: int, marks: SampleMarks, marks_at: Callable[[int], SampleMarks | None]
) -> bool:
    """Say whether a sample was fitted to, and is not only alike to one that lies beside it."""
    (mark,) = marks.beside(fit)
    there = marks.seen_by(fit)
    if mark not in there:
        return False
    seen = [j for j, other in zip(fit.indices, there, strict=True) if other == mark]
    now = (marks_at(j) for j in seen)
    return index in seen or all(own is None or own.beside(fit)[0] != mark for own in now)


def copies_notes(fits: Mapping[str, Fit | None], marks: SampleMarks) -> list[str]:
    """Say of which samples of D an action has seen copies, since the data hold them twice.

    Parameters
    ----------
    fits : mapping of str to Fit
        How output actions were fitted, by tensor; ``None`` of those that were not.
    marks : SampleMarks
        Those of the samples of D.
    """
    notes = []
    for layer, fit in fits.items():
        if fit is None:
            continue
        seen = {*marks.seen_by(fit)}
        if count := sum(mark in seen for mark in marks.beside(fit)):
            notes.append(
                f"{layer}: the data contain duplicates: {counted(count, 'sample')} of D have a "
                "copy among "
                "those the action was fitted to, so its value is too good"
            )
    return notes
