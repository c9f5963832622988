"""The samples that an output action was fitted to must not be measured with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnx_geed.data import mark_of
from onnx_geed.errors import GeedError
from onnx_geed.groups import Fit, Table
from onnx_geed.run.source import Source
from onnx_geed.text import counted

__all__ = ["check_overlap", "copies_notes", "refuse_overlap"]


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
    intake, samples = source.main.intake, source.samples
    if intake is None or not any(table.fit for table in tables.values()):
        return
    intake.fingerprint(count)  # which reads the samples, and so marks them

    def mark_at(index: int) -> str | None:
        return mark_of(samples[index]) if index < len(samples) else None

    of_d = source.indices[:count]
    refuse_overlap(tables, of_d, intake.marks(count), mark_at, source.label)


def refuse_overlap(
    tables: Mapping[str, Table],
    indices: Sequence[int],
    marks: Sequence[str],
    mark_at: Callable[[int], str | None],
    label: Callable[[int], str],
) -> None:
    """Refuse fitted actions that have seen a sample of D.

    Parameters
    ----------
    tables : mapping of str to Table
        Given output actions by tensor.
    indices : sequence of int
        D.
    marks : sequence of str
        A digest of each of its samples.
    mark_at : callable
        Gives that of any sample of the data, ``None`` where there is none.
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
            for position, (index, mark) in enumerate(zip(indices, marks, strict=True))
            if _was_seen(fit, index, mark, mark_at)
        ]
        if both:
            count = f"{len(both)} of the {counted(len(marks), 'sample')} of D are among those"
            first = f"{label(both[0])} is the first" if len(both) > 1 else label(both[0])
            raise GeedError(
                f"--output-action {layer}={table.source}: {count} it was fitted to ({first}), so "
                "they cannot test it. Measure with the --samples and --seed of the fit, or fit "
                "again to other data"
            )


def _was_seen(fit: Fit, index: int, mark: str, mark_at: Callable[[int], str | None]) -> bool:
    """Say whether a sample was fitted to, and is not only alike to one that lies beside it."""
    if mark not in fit.marks:
        return False
    seen = [j for j, other in zip(fit.indices, fit.marks, strict=True) if other == mark]
    return index in seen or all(mark_at(j) != mark for j in seen)


def copies_notes(fits: Mapping[str, Fit | None], marks: Sequence[str]) -> list[str]:
    """Say of which samples of D an action has seen copies, since the data hold them twice.

    Parameters
    ----------
    fits : mapping of str to Fit
        How output actions were fitted, by tensor; ``None`` of those that were not.
    marks : sequence of str
        A digest of each sample of D.
    """
    notes = []
    for layer, fit in fits.items():
        seen = {*fit.marks} if fit is not None else set()
        if count := sum(mark in seen for mark in marks):
            notes.append(
                f"{layer}: the data contain duplicates: {counted(count, 'sample')} of D have a "
                "copy among "
                "those the action was fitted to, so its value is too good"
            )
    return notes
